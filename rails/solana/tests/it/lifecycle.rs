//! Agents register, deposit, are activated, hire, pay, are paid, withdraw and panic: engine and rail
//! together, over HTTP, on every cluster there is.

use std::sync::Arc;

use serde_json::json;
use solana_keypair::Keypair;
use solana_signer::Signer as _;
use tradepost::{
    actor::Actor,
    adjustment::Booking,
    agent::{AgentStatus, Registration},
    clock::{ManualClock, Timestamp},
    engine::{AgentParts, Marketplace},
    error::{Error, Rejection},
    ids::AgentId,
    job::{Delivery, JobOrder},
    ledger::{Account, RevenueKind},
    money::Money,
    policy::{Policy, Span},
    rail::StoreMemory,
    secret::Pepper,
    store::{InstructionState, MemoryStore, Store},
    wallet::{HistoryKind, Warning},
};
use tradepost_solana::{DurableNonces, SolanaRail};

use crate::{validator, world::World};

/// How many blocks something is waited for.
const PATIENCE: u32 = 400;
const NONCES: DurableNonces = DurableNonces { lanes: 2, call_off_after: 1_500 };

#[tokio::test]
async fn jp_02_24_25_26_27_agents_live_on_usdc_on_the_simulated_cluster() {
    live(World::simulated(60).await).await;
}

#[tokio::test]
async fn jp_02_24_25_26_27_agents_live_on_usdc_and_durable_nonces() {
    let mut world = World::simulated(63).await;
    world.config.durable_nonces = Some(NONCES);
    live(world).await;
}

/// On a validator, on durable nonces: the conformance kit goes by blockhashes there.
#[tokio::test]
async fn jp_02_24_25_26_27_agents_live_on_usdc_on_a_validator() {
    let validator = validator::start().await;
    let mut world = World::validator(validator.url()).await;
    world.config.durable_nonces = Some(NONCES);
    live(world).await;
}

/// A marketplace on a cluster.
struct Town {
    world: World,
    rail: Arc<SolanaRail>,
    market: Marketplace,
    clock: Arc<ManualClock>,
}

impl Town {
    async fn new(mut world: World) -> Self {
        let (store, clock) = (MemoryStore::default(), Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
        let market = store.open_market("lifecycle").await.unwrap();
        world.memory = Arc::new(StoreMemory::new(Arc::new(store.clone()), market, world.config.id));
        let rail = Arc::new(world.rail().await);
        let builder = Marketplace::builder("lifecycle", store, Policy::justpayai().unwrap()).rail(rail.clone());
        let builder = builder.agents(AgentParts::new(Pepper::new([7; 32]))).clock(clock.clone());
        Self { market: builder.build().await.unwrap(), world, rail, clock }
    }

    fn usdc(&self, minor: i64) -> Money {
        Money::new(minor, self.market.currency())
    }

    /// JP-01: registered, not active yet.
    async fn register(&self, name: &str) -> AgentId {
        let owner = Actor::Owner(self.market.owner_by_email(&format!("{name}@example.org")).unwrap());
        let registration = Registration { name: name.into(), email: None, profile: Default::default() };
        let made = self.market.by(owner).register(registration).await.unwrap();
        assert_eq!((made.agent.status, made.key.is_some()), (AgentStatus::AwaitingDeposit, true));
        made.agent.id
    }

    /// JP-24: somebody sends money to an agent's deposit address.
    async fn pay_in(&self, agent: AgentId, from: &Keypair, minor: u64) {
        let address = self.rail.deposit_address(agent).await.unwrap();
        self.world.issue(&from.pubkey(), minor).await;
        let pay = self.world.transfer(&from.pubkey(), &address.wallet, minor);
        self.world.send(&[self.world.create_account(&address.wallet), pay], &[from]).await;
    }

    /// Everybody works, block by block, until something is so.
    async fn until(&self, what: &str, mut so: impl AsyncFnMut() -> bool) {
        for _ in 0..PATIENCE {
            self.market.work().await.unwrap();
            self.rail.work().await.unwrap();
            if so().await {
                return;
            }
            self.clock.advance(Span::seconds(2).delta());
            self.world.block().await;
        }
        panic!("{what} does not come");
    }

    async fn until_active(&self, agent: AgentId) {
        let active = async || self.market.registered(agent).await.unwrap().status == AgentStatus::Active;
        self.until("the activation", active).await;
    }

    async fn until_paid_out(&self, agent: AgentId) {
        let paid = async || self.market.wallet(agent).await.unwrap().payouts.is_empty();
        self.until("the payout", paid).await;
    }

    async fn available(&self, agent: AgentId) -> i64 {
        self.market.available(agent).await.unwrap().minor()
    }
}

fn rejected<T: std::fmt::Debug>(answer: Result<T, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}

async fn live(world: World) {
    let town = Town::new(world).await;
    let (market, world) = (&town.market, &town.world);
    let (buyer, worker) = (town.register("buyer").await, town.register("worker").await);
    let (someone, else_) = (Keypair::new(), Keypair::new());

    // JP-02: what is too small for the activation is credited, and activates nobody.
    town.pay_in(buyer, &someone, 900_000).await;
    town.until("the deposit", async || town.available(buyer).await == 900_000).await;
    assert_eq!(market.registered(buyer).await.unwrap().status, AgentStatus::AwaitingDeposit);
    town.pay_in(buyer, &else_, 20_000_000).await;
    town.until_active(buyer).await;
    assert_eq!(town.available(buyer).await, 19_900_000, "1 USDC of it is the fee");
    town.pay_in(worker, &else_, 1_000_000).await;
    town.until_active(worker).await;
    assert_eq!(town.available(worker).await, 0);

    let order = JobOrder {
        title: "Translate a page".into(),
        task: json!({ "text": "Guten Tag" }).as_object().unwrap().clone(),
        amount: town.usdc(10_000_000),
        worker: Some(worker),
        rail: None,
        deadline: None,
        validation: None,
        schemas: None,
        open: None,
    };
    let job = market.agent(buyer).post_job(order).await.unwrap();
    assert_eq!(market.wallet(buyer).await.unwrap().escrowed, town.usdc(10_300_000), "JP-10: 3 % on top");
    let output = json!({ "text": "Good day" }).as_object().unwrap().clone();
    market.agent(worker).deliver(job.id, Delivery { content_type: None, output }).await.unwrap();
    market.agent(buyer).approve(job.id).await.unwrap();
    assert_eq!((town.available(buyer).await, town.available(worker).await), (9_600_000, 10_000_000));

    // JP-26: to the saved address, the fee out of the amount.
    let home = Keypair::new().pubkey();
    assert!(matches!(
        rejected(market.agent(worker).withdraw_money(worker, town.usdc(10_000_000)).await),
        Rejection::Missing { .. }
    ));
    market.agent(worker).set_withdrawal_address(worker, home.to_string()).await.unwrap();
    market.agent(worker).withdraw_money(worker, town.usdc(10_000_000)).await.unwrap();
    assert_eq!(market.wallet(worker).await.unwrap().pending, town.usdc(10_000_000));
    town.until_paid_out(worker).await;
    assert_eq!(world.tokens(&home).await, 9_900_000);
    let payout = market.payouts(worker).await.unwrap()[0].clone();
    assert!(matches!(payout.state, InstructionState::Done(_)), "{payout:?}");
    assert_eq!(town.rail.spent(payout.instruction.id).await.unwrap().unwrap().fee, 5_000);

    // JP-25: a changed address cools down; JP-27: a panic does not wait, and goes to the first source.
    market.agent(buyer).set_withdrawal_address(buyer, home.to_string()).await.unwrap();
    // JP-26: not under the least, and not more than there is.
    let refused = rejected(market.agent(buyer).withdraw_money(buyer, town.usdc(4_999_999)).await);
    assert!(matches!(refused, Rejection::Amount { .. }), "{refused:?}");
    let refused = rejected(market.agent(buyer).withdraw_money(buyer, town.usdc(9_600_001)).await);
    assert!(matches!(refused, Rejection::Ledger(_)), "{refused:?}");
    market.agent(buyer).set_withdrawal_address(buyer, Keypair::new().pubkey().to_string()).await.unwrap();
    let refused = rejected(market.agent(buyer).withdraw_money(buyer, town.usdc(5_000_000)).await);
    assert!(matches!(refused, Rejection::TooSoon { .. }), "{refused:?}");
    let warnings = market.wallet(buyer).await.unwrap().warnings;
    assert!(matches!(warnings[..], [Warning::AddressChanged { .. }]), "{warnings:?}");
    market.agent(buyer).panic(buyer).await.unwrap();
    town.until_paid_out(buyer).await;
    assert_eq!(world.tokens(&someone.pubkey()).await, 9_600_000, "JP-24: the first deposit's source");
    assert_eq!(market.registered(buyer).await.unwrap().status, AgentStatus::Active, "it stays what it was");

    let kinds: Vec<_> = market.wallet_history(buyer, 0, 50).await.unwrap().iter().map(|line| line.kind).collect();
    use HistoryKind::{Deposit, EscrowLock, Fee, Spent, Withdrawal};
    assert_eq!(kinds, [Deposit, Deposit, Fee, EscrowLock, Spent, Withdrawal], "JP-28");

    // The books are the chain.
    let compared = market.reconcile(world.config.id).await.unwrap();
    assert_eq!((compared.differences, compared.in_flight), (vec![], vec![]));
    assert_eq!(compared.held, town.usdc(2_000_000 + 300_000 + 100_000), "what the platform has earned");
    let fees = market.balance(Account::Revenue(RevenueKind::Withdrawals), None).await.unwrap();
    assert_eq!(fees, town.usdc(100_000));
}

#[tokio::test]
async fn jp_26_what_cannot_be_paid_comes_back_and_what_is_too_large_waits_for_an_operator() {
    let mut world = World::simulated(61).await;
    world.config.approval_above = Some(7_000_000);
    let town = Town::new(world).await;
    let (market, world) = (&town.market, &town.world);
    let agent = town.register("agent").await;
    town.pay_in(agent, &Keypair::new(), 31_000_000).await;
    town.until_active(agent).await;

    market.agent(agent).set_withdrawal_address(agent, "nobody").await.unwrap();
    market.agent(agent).withdraw_money(agent, town.usdc(5_000_000)).await.unwrap();
    town.until_paid_out(agent).await;
    assert_eq!(town.available(agent).await, 30_000_000, "with the fee");
    let declined = market.payouts(agent).await.unwrap()[0].clone();
    assert!(matches!(&declined.state, InstructionState::Declined(decline) if decline.code == "not_base58"));

    let home = Keypair::new().pubkey();
    market.agent(agent).set_withdrawal_address(agent, home.to_string()).await.unwrap();
    town.clock.advance(Span::hours(24).delta());
    for answer in ["approve", "not before you have called us"] {
        market.agent(agent).withdraw_money(agent, town.usdc(10_000_000)).await.unwrap();
        let asked = market.payouts(agent).await.unwrap()[0].clone();
        assert!(matches!(asked.state, InstructionState::NeedsAction(_)), "{asked:?}");
        let own = market.agent(agent).answer(asked.instruction.id, answer).await;
        assert!(matches!(rejected(own), Rejection::WrongActor { .. }));
        market.operator("Ada").answer(asked.instruction.id, answer).await.unwrap();
        town.until_paid_out(agent).await;
    }
    assert_eq!((world.tokens(&home).await, town.available(agent).await), (9_900_000, 20_000_000));

    // What waits for its turn is cancelled at the rail, and returns by itself.
    market.agent(agent).withdraw_money(agent, town.usdc(6_000_000)).await.unwrap();
    let waits = market.payouts(agent).await.unwrap()[0].clone();
    assert!(matches!(waits.state, InstructionState::Pending { .. }), "{waits:?}");
    town.rail.cancel(&waits.instruction, "it takes too long").await.unwrap();
    town.until_paid_out(agent).await;
    assert_eq!((world.tokens(&home).await, town.available(agent).await), (9_900_000, 20_000_000));
    let compared = market.reconcile(world.config.id).await.unwrap();
    assert_eq!((compared.differences, compared.in_flight), (vec![], vec![]));
}

/// JP-26: what the platform puts in, so that withdrawals need not wait for sweeps, is in nobody's wallet.
#[tokio::test]
async fn a_float_in_the_treasury_is_in_the_books_as_the_platforms_own() {
    let town = Town::new(World::simulated(62).await).await;
    let (market, rail) = (&town.market, town.world.config.id);
    town.world.issue(&town.rail.treasury(), 50_000_000).await;
    let before = market.reconcile(rail).await.unwrap();
    assert_eq!(before.differences.len(), 1, "nobody has said whose it is");
    let (ada, float) = (market.operator("Ada"), town.usdc(50_000_000));
    let booking = Booking { debit: Account::Rail(rail), credit: Account::Treasury(rail), amount: float };
    ada.keyed("transfer 4711").adjust(vec![booking], "a float").await.unwrap();
    assert_eq!(market.reconcile(rail).await.unwrap().differences, []);
    assert_eq!(market.balance(Account::Treasury(rail), None).await.unwrap(), float);
}
