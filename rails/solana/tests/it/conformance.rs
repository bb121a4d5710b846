//! The rail under the conformance kit of rails.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer as _;
use spl_token_interface::{ID as TOKEN, instruction as token};
use tradepost::{
    ids::{AgentId, HoldId},
    money::Money,
    rail::{Action, Instruction, Order, Outcome, Push, RailMemory, SettlementRail, VolatileMemory},
    store::{StoreError, StoreErrorKind},
    testkit::rail::{self as kit, Harness, Parties, Unplayable},
};
use tradepost_solana::SolanaRail;

use crate::{
    front::Fault,
    validator,
    world::{Cluster, World},
};

/// A memory whose next write can be lost, before it is made or after.
struct Flaky {
    notes: VolatileMemory,
    lose: Mutex<Option<Lose>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lose {
    Before,
    After,
}

#[async_trait]
impl RailMemory for Flaky {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.notes.get(key).await
    }

    async fn swap(&self, key: &str, from: Option<&str>, to: &str) -> Result<bool, StoreError> {
        let lose = self.lose.lock().unwrap().take();
        let lost = || Err(StoreError::new(StoreErrorKind::Unknown, "the connection broke"));
        match lose {
            Some(Lose::Before) => lost(),
            Some(Lose::After) => {
                self.notes.swap(key, from, to).await?;
                lost()
            }
            None => self.notes.swap(key, from, to).await,
        }
    }
}

struct Kit {
    world: World,
    memory: Arc<Flaky>,
    worker: SolanaRail,
    /// Goes wrong once a rail was made for it.
    next: Mutex<Option<kit::Fault>>,
    /// The wallet of the last contract's worker.
    last: Mutex<Pubkey>,
    frozen: Mutex<Option<Pubkey>>,
    /// To be frozen when the next transaction was sent.
    freeze_once_sent: Mutex<Option<Pubkey>>,
    needs_action: Mutex<bool>,
}

impl Kit {
    async fn new(mut world: World) -> Self {
        let memory = Arc::new(Flaky { notes: VolatileMemory::default(), lose: Mutex::new(None) });
        world.memory = memory.clone();
        let worker = world.rail().await;
        world.issue(&worker.treasury(), 10_000_000).await;
        Self {
            world,
            memory,
            worker,
            next: Mutex::default(),
            last: Mutex::default(),
            frozen: Mutex::default(),
            freeze_once_sent: Mutex::default(),
            needs_action: Mutex::default(),
        }
    }

    async fn freeze(&self, wallet: Pubkey) {
        let account = self.world.account_of(&wallet);
        let issuer = self.world.issuer.pubkey();
        let freeze = token::freeze_account(&TOKEN, &account, &self.world.mint, &issuer, &[]).unwrap();
        self.world.send(&[freeze], &[]).await;
        *self.frozen.lock().unwrap() = Some(wallet);
    }

    async fn thaw(&self, wallet: Pubkey) {
        let account = self.world.account_of(&wallet);
        let issuer = self.world.issuer.pubkey();
        let thaw = token::thaw_account(&TOKEN, &account, &self.world.mint, &issuer, &[]).unwrap();
        self.world.send(&[thaw], &[]).await;
    }
}

#[async_trait]
impl Harness for Kit {
    async fn rail(&self) -> Arc<dyn SettlementRail> {
        let mut config = self.world.config.clone();
        if *self.needs_action.lock().unwrap() {
            config.approval_above = Some(0);
        }
        let rail = self.world.rail_of(config).await;
        // What goes wrong is the instruction, not the start of the process.
        match self.next.lock().unwrap().take() {
            Some(kit::Fault::NotSent) => self.world.front().next(Some("getMultipleAccounts"), Fault::LoseRequest),
            Some(kit::Fault::Busy) => self.world.front().next(Some("getMultipleAccounts"), Fault::Busy),
            Some(kit::Fault::LostBefore) => {
                *self.memory.lose.lock().unwrap() = Some(Lose::Before);
                self.world.front().next(Some("sendTransaction"), Fault::LoseRequest);
            }
            Some(kit::Fault::LostAfter) => {
                *self.memory.lose.lock().unwrap() = Some(Lose::After);
                self.world.front().next(Some("sendTransaction"), Fault::LoseAnswer);
            }
            Some(kit::Fault::OtherAmount) => self.world.front().next(Some("getTransaction"), Fault::LieAmount),
            Some(kit::Fault::PendingThenDone) => self.world.front().node().hold_next = 3,
            Some(other) => panic!("{other:?} is arranged at once"),
            None => {}
        }
        Arc::new(rail)
    }

    async fn contract(&self) -> Parties {
        let wallet = Keypair::new().pubkey();
        *self.last.lock().unwrap() = wallet;
        let (buyer, worker) = (self.world.agent(), self.world.agent());
        Parties { contract: self.world.id(), buyer, worker, destination: Some(wallet.to_string()) }
    }

    async fn earn(&self, _worker: AgentId, amount: Money) {
        self.world.issue(&self.worker.treasury(), amount.minor().unsigned_abs()).await;
    }

    async fn arrange(&self, fault: kit::Fault) -> Result<(), Unplayable> {
        if let Cluster::Validator = self.world.cluster
            && !matches!(fault, kit::Fault::Declined | kit::Fault::NeedsAction)
        {
            return Err(Unplayable("a real validator does as it is told".into()));
        }
        let wallet = *self.last.lock().unwrap();
        match fault {
            kit::Fault::OtherCurrency => {
                return Err(Unplayable("a transfer of another mint is no payment at all, whatever a node says".into()));
            }
            kit::Fault::OtherInstruction | kit::Fault::OtherLegs => {
                return Err(Unplayable("the chain knows neither instructions nor legs".into()));
            }
            kit::Fault::NeedsAction => *self.needs_action.lock().unwrap() = true,
            kit::Fault::Declined => {
                self.world.send(&[self.world.create_account(&wallet)], &[]).await;
                self.freeze(wallet).await;
            }
            kit::Fault::PendingThenDeclined => {
                self.world.send(&[self.world.create_account(&wallet)], &[]).await;
                *self.freeze_once_sent.lock().unwrap() = Some(wallet);
            }
            other => *self.next.lock().unwrap() = Some(other),
        }
        Ok(())
    }

    async fn act(&self, _action: &Action) -> String {
        *self.needs_action.lock().unwrap() = false;
        "approve".into()
    }

    async fn advance(&self) {
        self.world.block().await;
        let freeze = *self.freeze_once_sent.lock().unwrap();
        if freeze.is_some() {
            self.world.front().node().hold_next = 12;
        }
        let sent = self.worker.work().await.is_ok_and(|worked| worked.sent > 0);
        if let Some(wallet) = freeze.filter(|_| sent) {
            self.freeze_once_sent.lock().unwrap().take();
            self.freeze(wallet).await;
        }
    }

    async fn times(&self, instruction: &Instruction) -> u32 {
        let Order::Payout { destination: Some(wallet), amount, .. } = &instruction.order else { return 0 };
        // What is frozen stays so until its withdrawal was declined, so that the next one can go.
        let frozen = *self.frozen.lock().unwrap();
        if let Some(frozen) = frozen
            && let Ok(Some(Outcome::Declined(_))) = self.worker.lookup(instruction).await
        {
            self.frozen.lock().unwrap().take();
            self.thaw(frozen).await;
        }
        let paid = self.world.tokens(&wallet.parse().unwrap()).await;
        assert_eq!(paid % amount.minor().unsigned_abs(), 0, "a part of a withdrawal was paid");
        u32::try_from(paid / amount.minor().unsigned_abs()).unwrap()
    }

    async fn deposit(&self, amount: Money) -> Result<AgentId, Unplayable> {
        let (agent, someone) = (self.world.agent(), Keypair::new());
        let address = self.worker.deposit_address(agent).await.unwrap();
        let minor = amount.minor().unsigned_abs();
        self.world.issue(&someone.pubkey(), minor).await;
        let pay = self.world.transfer(&someone.pubkey(), &address.wallet, minor);
        self.world.send(&[self.world.create_account(&address.wallet), pay], &[&someone]).await;
        Ok(agent)
    }

    async fn pushes(&self) -> Result<Vec<Push>, Unplayable> {
        Err(Unplayable("nobody pushes".into()))
    }

    async fn expire(&self, _hold: HoldId) -> Result<(), Unplayable> {
        Err(Unplayable("there are no holds outside".into()))
    }
}

/// JP-24, JP-26: the contract of rails, with every fault that the simulated cluster plays.
#[tokio::test]
async fn the_rail_keeps_its_contract_on_the_simulated_cluster() {
    let kit = Kit::new(World::simulated(5).await).await;
    let report = kit::run(&kit).await;
    println!("{report}");
    report.assert_kept();
    assert_eq!(report.ran(), 24, "{report}");
}

/// JP-24, JP-26: the same on a validator, which does as it is told.
#[tokio::test]
async fn the_rail_keeps_its_contract_on_a_validator() {
    let validator = validator::start().await;
    let kit = Kit::new(World::validator(validator.url()).await).await;
    let report = kit::run(&kit).await;
    println!("{report}");
    report.assert_kept();
    assert_eq!(report.ran(), 17, "{report}");
}
