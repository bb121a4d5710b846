//! A marketplace on every store, on a rail that the ledger is and on one that holds the money itself.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tradepost::{
    clock::{Clock, ManualClock, Timestamp},
    engine::{Marketplace, MarketplaceBuilder},
    ids::{AgentId, JobId, RailId},
    job::{Delivery, Job},
    money::Money,
    policy::{Policy, Span},
    rail::{CreditsRail, Custody, RailProfile},
    store::{MemoryStore, PostgresStore, SqliteStore},
    testkit::{Answer, OutsideWorld, Script, ScriptedRail},
};

use crate::{store::SERVER, support::*};

/// Where a town's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Memory,
    Sqlite,
    Postgres,
}

pub(crate) const STORES: [On; 3] = [On::Memory, On::Sqlite, On::Postgres];

pub(crate) struct Town {
    pub(crate) market: Marketplace,
    pub(crate) clock: Arc<ManualClock>,
    /// The world behind a rail that holds the money itself.
    pub(crate) world: Option<OutsideWorld>,
    deposits: AtomicU32,
    _folder: Option<tempfile::TempDir>,
}

/// A town's rail.
pub(crate) enum Purse {
    /// Wallets in the ledger.
    Credits,
    /// A rail that holds each contract's money, and for how long.
    PerHold(Option<Span>),
}

impl Town {
    pub(crate) async fn new(on: On, policy: Policy, money: Purse) -> Self {
        Self::with(on, policy, money, |builder| builder).await
    }

    pub(crate) async fn with(
        on: On,
        policy: Policy,
        money: Purse,
        parts: impl FnOnce(MarketplaceBuilder) -> MarketplaceBuilder,
    ) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let currency = policy.currency;
        let mut folder = None;
        let builder = match on {
            On::Memory => Marketplace::builder("town", MemoryStore::new(), policy),
            On::Sqlite => {
                let made = folder.insert(tempfile::tempdir().unwrap());
                let store = SqliteStore::open(made.path().join("market.db")).await.unwrap();
                Marketplace::builder("town", store, policy)
            }
            On::Postgres => {
                let store = PostgresStore::connect(&SERVER.database().unwrap()).await.unwrap();
                Marketplace::builder("town", store, policy)
            }
        };
        let (builder, world) = match money {
            Purse::Credits => (builder.rail(CreditsRail::new(currency)), None),
            Purse::PerHold(hold_expiry) => {
                let world = OutsideWorld::new(currency, 7);
                let profile = RailProfile { hold_expiry, ..ScriptedRail::profile_of(Custody::PerHold, currency) };
                (builder.rail(ScriptedRail::new(profile, world.clone(), clock.clone())), Some(world))
            }
        };
        let builder = parts(builder.clock(clock.clone()).ids(Arc::new(CountedIds::default())));
        Self { market: builder.build().await.unwrap(), clock, world, deposits: AtomicU32::new(0), _folder: folder }
    }

    pub(crate) fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.market.currency())
    }

    /// Gives an agent money where wallets pay.
    pub(crate) async fn deposit(&self, agent: AgentId, minor: i64) {
        if self.world.is_none() {
            let reference = format!("deposit {}", self.deposits.fetch_add(1, Ordering::SeqCst));
            let operator = self.market.operator("Ada");
            operator.record_deposit(CreditsRail::ID, reference, agent, self.money(minor)).await.unwrap();
        }
    }

    /// A job between these two, delivered.
    pub(crate) async fn delivered(&self, buyer: AgentId, worker: AgentId, minor: i64) -> JobId {
        self.deposit(buyer, 2 * minor).await;
        let order = tradepost::job::JobOrder { worker: Some(worker), ..order(self.money(minor)) };
        let job = self.market.agent(buyer).post_job(order).await.unwrap();
        if job.status == tradepost::job::JobStatus::Funded {
            self.market.agent(worker).accept(job.id).await.unwrap();
        }
        self.market.agent(worker).deliver(job.id, Delivery::default()).await.unwrap();
        job.id
    }

    /// A job between these two, completed.
    pub(crate) async fn completed(&self, buyer: AgentId, worker: AgentId, minor: i64) -> JobId {
        let job = self.delivered(buyer, worker, minor).await;
        self.market.agent(buyer).approve(job).await.unwrap();
        job
    }

    pub(crate) async fn job(&self, id: JobId) -> Arc<Job> {
        self.market.job(id).await.unwrap()
    }

    pub(crate) fn wait(&self, span: Span) {
        self.clock.advance(span.delta());
    }

    pub(crate) fn wait_until(&self, at: Timestamp) {
        self.clock.advance(at - self.clock.now());
    }

    pub(crate) async fn idle(&self) {
        self.market.run_until_idle().await.unwrap();
    }

    /// The rail does the next thing it is told to and its answer is lost.
    pub(crate) fn lose_next_answer(&self) {
        if let Some(world) = &self.world {
            world.next(Script { answer: Answer::LostAfter, ..Script::default() });
        }
    }

    /// What an agent has got in all, in its wallet and outside.
    pub(crate) async fn got(&self, agent: AgentId) -> i128 {
        let outside = self.world.as_ref().map_or(0, |world| world.outside(agent));
        i128::from(self.market.available(agent).await.unwrap().minor()) + outside
    }

    /// Nothing is lost or invented, and nobody wrote behind the engine's back.
    pub(crate) async fn check_books(&self) {
        for trial in self.market.trial_balance().await.unwrap() {
            assert_eq!(trial.sum(), 0);
        }
        assert!(self.market.verify().await.unwrap().is_empty());
        if let Some(rail) = self.world.as_ref().map(|_| RailId::new("scripted")) {
            let compared = self.market.reconcile(rail).await.unwrap();
            assert!(compared.differences.is_empty(), "{:?}", compared.differences);
        }
    }
}
