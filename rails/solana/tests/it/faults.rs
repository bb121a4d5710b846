//! Seeded runs of the engine and the rail against a network, a node, a memory and processes that fail.
//!
//! Each run is one number. At its end everything is calm again, and then: every deposit is credited
//! once, every withdrawal is paid once or never, and what the books say the rail holds is what the
//! chain says. More runs than the ordinary ones: `SOLANA_FAULT_RUNS=10000 SOLANA_FAULT_FIRST=0 cargo
//! test -p tradepost-solana --release --test it faults -- --nocapture`.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer as _;
use tradepost::{
    adjustment::Booking,
    clock::{ManualClock, Timestamp},
    engine::Marketplace,
    error::{Error, Rejection},
    ids::{AgentId, RailId},
    ledger::Account,
    money::Money,
    policy::{Policy, Span},
    rail::{Order, RailMemory, SettlementRail, StoreMemory},
    store::{InstructionState, MemoryStore, Store, StoreError, StoreErrorKind},
    wallet::HistoryKind,
};
use tradepost_solana::{DurableNonces, Finality, SolanaRail};

use crate::{front::Chances, world::World};

/// How many runs the ordinary test makes.
const RUNS: u64 = 16;
/// How many run at once: some wait for each other's answers now and then.
const AT_ONCE: usize = 4;
/// What the treasury begins with, so that withdrawals do not wait for sweeps only.
const FLOAT: u64 = 30_000_000;
/// What the payer of all deposits has.
const WEALTH: u64 = 1_000_000_000;
/// How often something is tried before it has failed.
const PATIENCE: u32 = 400;
/// What is no address.
const NOBODY: &str = "nobody";

/// JP-24, JP-26, JP-27: every deposit counts once, every withdrawal and every panic is paid once or never.
#[tokio::test]
async fn seeded_runs_lose_nothing_and_pay_nothing_twice() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (first, runs) = (number("SOLANA_FAULT_FIRST", 0), number("SOLANA_FAULT_RUNS", RUNS));
    let run_caught = |seed| AssertUnwindSafe(Box::pin(run(seed))).catch_unwind().map(move |ended| (seed, ended));
    let mut ended = stream::iter(first..first + runs).map(run_caught).buffered(AT_ONCE);
    let (mut all, mut failed) = (Counts::default(), Vec::new());
    while let Some((seed, counts)) = ended.next().await {
        println!("seed {seed}: {counts:?}");
        match counts {
            Ok(counts) => all.add(counts),
            Err(_) => failed.push(seed),
        }
    }
    println!("{runs} runs from seed {first}: {all:?}");
    assert_eq!(failed, Vec::<u64>::new(), "these seeds failed");
    if (1..RUNS).contains(&runs) {
        return; // a seed that somebody looks into may try little
    }
    assert!(all.deposits > runs && all.paid > runs && all.signed > all.landed_of_paid, "the runs try nothing: {all:?}");
    assert!(all.errors > runs, "nothing went wrong: {all:?}");
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    deposits: u64,
    paid: u64,
    declined: u64,
    /// Transactions signed, and those that paid something.
    signed: u64,
    landed_of_paid: u64,
    restarts: u64,
    errors: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.deposits += other.deposits;
        self.paid += other.paid;
        self.declined += other.declined;
        self.signed += other.signed;
        self.landed_of_paid += other.landed_of_paid;
        self.restarts += other.restarts;
        self.errors += other.errors;
    }
}

/// A memory whose writes are lost by chance, before they are made or after.
struct Faulty {
    inner: StoreMemory,
    chance: Mutex<(StdRng, u32)>,
}

#[async_trait]
impl RailMemory for Faulty {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.inner.get(key).await
    }

    async fn swap(&self, key: &str, from: Option<&str>, to: &str) -> Result<bool, StoreError> {
        let dice = {
            let mut chance = self.chance.lock().unwrap();
            let most = chance.1;
            (most > 0).then(|| chance.0.random_range(0..1000u32)).filter(|dice| *dice < most)
        };
        let lost = || Err(StoreError::new(StoreErrorKind::Unknown, "the connection broke"));
        match dice {
            Some(dice) if dice % 2 == 0 => lost(),
            Some(_) => {
                self.inner.swap(key, from, to).await?;
                lost()
            }
            None => self.inner.swap(key, from, to).await,
        }
    }
}

struct Run {
    world: World,
    rng: StdRng,
    store: MemoryStore,
    memory: Arc<Faulty>,
    clock: Arc<ManualClock>,
    rail: Arc<SolanaRail>,
    market: Marketplace,
    agents: Vec<(AgentId, Pubkey)>,
    someone: Keypair,
    sent: BTreeMap<AgentId, u64>,
    /// Where the last withdrawal went.
    last: Option<String>,
    counts: Counts,
}

async fn run(seed: u64) -> Counts {
    let mut run = Run::new(seed).await;
    run.rage();
    let steps = run.rng.random_range(30..80);
    for _ in 0..steps {
        run.step().await;
    }
    run.calm();
    run.finish().await;
    run.counts
}

impl Run {
    async fn new(seed: u64) -> Self {
        let mut world = World::simulated(seed).await;
        let mut rng = StdRng::seed_from_u64(seed);
        let (store, clock) = (MemoryStore::default(), Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
        let market = store.open_market("faults").await.unwrap();
        let inner = StoreMemory::new(Arc::new(store.clone()), market, RailId::new("solana"));
        let memory = Arc::new(Faulty { inner, chance: Mutex::new((StdRng::seed_from_u64(seed ^ 1), 0)) });
        world.memory = memory.clone();
        world.config.batch = rng.random_range(1..=6);
        world.config.blocks_per_poll = rng.random_range(1..40);
        world.config.sweep_from = rng.random_range(1..3_000_000);
        world.config.durable_nonces = nonces(&mut rng);
        world.config.finality = if rng.random_range(0..4) == 0 { Finality::Confirmed } else { Finality::Finalized };
        let rail = Arc::new(world.rail().await);
        let market = open(&store, &rail, &clock).await;
        let mut agents = Vec::new();
        for _ in 0..rng.random_range(1..5) {
            let agent = world.agent();
            agents.push((agent, rail.deposit_address(agent).await.unwrap().wallet));
        }
        let someone = world.keypair();
        world.issue(&someone.pubkey(), WEALTH).await;
        world.issue(&rail.treasury(), FLOAT).await;
        let (amount, rail_id) = (Money::new(FLOAT.cast_signed(), market.currency()), rail.profile().id);
        let float = Booking { debit: Account::Rail(rail_id), credit: Account::Treasury(rail_id), amount };
        market.operator("Ada").adjust(vec![float], "a float").await.unwrap();
        let create: Vec<_> = agents.iter().map(|(_, wallet)| world.create_account(wallet)).collect();
        world.send(&create, &[]).await;
        Self {
            world,
            rng,
            store,
            memory,
            clock,
            rail,
            market,
            agents,
            someone,
            sent: BTreeMap::new(),
            last: None,
            counts: Counts::default(),
        }
    }

    fn rage(&mut self) {
        let mut chance = |most| self.rng.random_range(0..most);
        self.world.front().chances(Chances {
            lose_request: chance(80),
            lose_answer: chance(80),
            busy: chance(60),
            twice: chance(60),
            reorder: chance(10),
        });
        let mut node = self.world.front().node();
        (node.skip, node.lose, node.dawdle) = (chance(300), chance(500), chance(12));
        self.memory.chance.lock().unwrap().1 = chance(60);
    }

    fn calm(&mut self) {
        self.world.front().calm();
        let mut node = self.world.front().node();
        (node.skip, node.lose, node.dawdle, node.hold_next, node.lag, node.oldest) = (0, 0, 0, 0, 0, 0);
        node.hole = 0..0;
        drop(node);
        self.memory.chance.lock().unwrap().1 = 0;
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..15) {
            0 | 1 => self.deposit(),
            2 | 3 => self.withdraw().await,
            4 => self.restart().await,
            5 => self.world.front().node().lag = self.rng.random_range(0..30),
            6 => self.world.front().node().lag = 0,
            7 => {
                // The node forgets everything but the last blocks, for a while.
                let mut node = self.world.front().node();
                node.oldest = if node.oldest > 0 { 0 } else { node.slot().saturating_sub(5) };
            }
            // The network keeps the next transaction for long.
            8 => self.world.front().node().hold_next = self.rng.random_range(0..60),
            9 => self.advance_by_hand(),
            10 => {
                // The node was restarted and lacks some of the last blocks, for a while.
                let slot = self.world.front().node().slot();
                let from = slot.saturating_sub(self.rng.random_range(0..30));
                self.world.front().node().hole = from..from + self.rng.random_range(0..30);
            }
            _ => {}
        }
        for _ in 0..self.rng.random_range(1..4) {
            self.world.front().node().tick();
        }
        self.tend().await;
    }

    /// Somebody sends money, past our node and its faults: one transfer, or several in a transaction.
    fn deposit(&mut self) {
        let (mut transfers, mut sums) = (Vec::new(), Vec::new());
        for _ in 0..self.rng.random_range(1..4) {
            let (agent, wallet) = self.agents[self.rng.random_range(0..self.agents.len())];
            let minor = self.rng.random_range(1..5_000_000);
            transfers.push(self.world.transfer(&self.someone.pubkey(), &wallet, minor));
            sums.push((agent, minor));
        }
        let mut node = self.world.front().node();
        node.run_now(&transfers, &[&self.world.issuer, &self.someone]);
        drop(node);
        for (agent, minor) in sums {
            *self.sent.entry(agent).or_default() += minor;
            self.counts.deposits += 1;
        }
    }

    /// Somebody with the treasury's key advances a nonce.
    fn advance_by_hand(&mut self) {
        let Some(account) = self.rail.nonce_accounts().first().copied() else { return };
        let advance = solana_system_interface::instruction::advance_nonce_account(&account, &self.rail.treasury());
        let treasury = self.world.key(0);
        self.world.front().node().run_now(&[advance], &[&self.world.issuer, &treasury]);
    }

    /// Some go to one wallet, in one amount; some to nobody; some agents panic.
    async fn withdraw(&mut self) {
        let (agent, _) = self.agents[self.rng.random_range(0..self.agents.len())];
        let session = || self.market.agent(agent);
        if self.rng.random_range(0..8) == 0 {
            drop(session().panic(agent).await); // nothing to send, or nobody has sent anything yet
            return;
        }
        let address = match &self.last {
            Some(last) if self.rng.random_range(0..4) == 0 => last.clone(),
            _ if self.rng.random_range(0..10) == 0 => NOBODY.into(),
            _ => Keypair::new_from_array(self.rng.random()).pubkey().to_string(),
        };
        self.last = Some(address.clone());
        session().set_withdrawal_address(agent, address).await.unwrap();
        let minor = if self.rng.random() { 1_000_000 } else { self.rng.random_range(2..3_000_000) };
        match session().withdraw_money(agent, Money::new(minor, self.market.currency())).await {
            Ok(_) | Err(Error::Rejected(Rejection::Ledger(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// The process dies, and another takes its place; a call may die with it in the middle.
    async fn restart(&mut self) {
        let polls = self.rng.random_range(0..60);
        if self.rng.random_range(0..4) == 0 {
            self.world.config.durable_nonces = nonces(&mut self.rng);
        }
        {
            let work = self.rail.work();
            futures::pin_mut!(work);
            for _ in 0..polls {
                if futures::poll!(&mut work).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        for attempt in 0.. {
            assert!(attempt < PATIENCE, "the process does not come up again");
            match self.world.try_rail().await {
                Ok(rail) => {
                    self.rail = Arc::new(rail);
                    break;
                }
                Err(_) => self.counts.errors += 1,
            }
            // A node may lag so far behind that it does not know the mint yet.
            self.world.front().node().tick();
        }
        self.market = open(&self.store, &self.rail, &self.clock).await;
        self.counts.restarts += 1;
    }

    /// A round of everybody's work. What fails is tried again, by the rules that errors have.
    async fn tend(&mut self) {
        self.clock.advance(chrono::TimeDelta::seconds(1));
        self.counts.errors += u64::from(self.market.work().await.is_err());
        match self.rail.work().await {
            Ok(worked) => self.counts.signed += worked.sent as u64,
            Err(_) => self.counts.errors += 1,
        }
    }

    async fn read_to_the_end(&self) {
        let market = self.store.open_market("faults").await.unwrap();
        let mut before = None;
        loop {
            self.market.work().await.unwrap();
            let stands = self.store.cursor(market, "rail/solana").await.unwrap();
            if stands == before {
                return;
            }
            before = stands;
        }
    }

    async fn finish(&mut self) {
        for round in 0.. {
            assert!(round < PATIENCE, "it does not come to its end");
            self.world.front().node().tick();
            self.clock.advance(chrono::TimeDelta::hours(1)); // whatever waits for its next try
            self.tend().await;
            let worked = self.rail.work().await.unwrap();
            self.counts.signed += worked.sent as u64;
            let rests = worked.waiting == 0 && worked.in_flight == 0 && worked.sent == 0;
            if rests && round > 5 && self.market.unsettled().await.unwrap().is_empty() {
                break;
            }
        }
        self.read_to_the_end().await;
        // Every deposit once.
        for (agent, _) in &self.agents {
            let history = self.market.wallet_history(*agent, 0, u32::MAX).await.unwrap();
            let deposits = history.iter().filter(|line| line.kind == HistoryKind::Deposit);
            let credited: u64 = deposits.map(|line| line.amount.minor().unsigned_abs()).sum();
            assert_eq!(credited, self.sent.get(agent).copied().unwrap_or_default(), "deposits of {agent}");
        }
        self.check_payouts().await;
        // The books are the chain.
        let compared = self.market.reconcile(self.rail.profile().id).await.unwrap();
        assert_eq!((compared.differences, compared.in_flight), (vec![], vec![]));
        assert_eq!(self.market.verify().await.unwrap(), []);
    }

    /// Every withdrawal once, or never.
    async fn check_payouts(&mut self) {
        let (mut due, mut references) = (BTreeMap::<Pubkey, u64>::new(), BTreeMap::<String, u64>::new());
        let sent: u64 = self.sent.values().sum();
        due.insert(self.someone.pubkey(), WEALTH - sent);
        for (agent, _) in &self.agents {
            for payout in self.market.payouts(*agent).await.unwrap() {
                let Order::Payout { destination: Some(to), amount, .. } = &payout.instruction.order else {
                    panic!("{payout:?} goes nowhere");
                };
                match &payout.state {
                    InstructionState::Done(receipt) => {
                        payout.instruction.check(receipt).unwrap();
                        *references.entry(receipt.reference.clone()).or_default() += 1;
                        *due.entry(to.parse().unwrap()).or_default() += amount.minor().unsigned_abs();
                        self.counts.paid += 1;
                    }
                    InstructionState::Declined(decline) => {
                        assert_eq!((to.as_str(), decline.code.as_str()), (NOBODY, "not_base58"));
                        self.counts.declined += 1;
                    }
                    other => panic!("{other:?} is no end"),
                }
            }
            let pending = self.market.balance(Account::Pending(*agent), None).await.unwrap();
            assert!(pending.is_zero(), "{agent} has {pending} on its way");
        }
        assert!(references.values().all(|times| *times == 1), "one transfer is the receipt of two: {references:?}");
        let transactions: std::collections::BTreeSet<&str> =
            references.keys().filter_map(|reference| reference.split(':').next()).collect();
        self.counts.landed_of_paid += transactions.len() as u64;
        for (wallet, minor) in due {
            assert_eq!(self.world.tokens(&wallet).await, minor, "what {wallet} was paid");
        }
    }
}

/// Durable nonces in every other run, and in those that switch them on under way.
fn nonces(rng: &mut StdRng) -> Option<DurableNonces> {
    let nonces = DurableNonces { lanes: rng.random_range(1..=4), call_off_after: rng.random_range(5..100) };
    rng.random::<bool>().then_some(nonces)
}

async fn open(store: &MemoryStore, rail: &Arc<SolanaRail>, clock: &Arc<ManualClock>) -> Marketplace {
    let mut policy = Policy::justpayai().unwrap();
    let withdrawals = policy.wallet.as_mut().unwrap().withdrawals.as_mut().unwrap();
    (withdrawals.min, withdrawals.fee, withdrawals.address_cool_down) = (2, 1, Span::seconds(0));
    Marketplace::builder("faults", store.clone(), policy).rail(rail.clone()).clock(clock.clone()).build().await.unwrap()
}
