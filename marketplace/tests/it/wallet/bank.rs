//! A marketplace with wallets, on any store, over an outside world that may misbehave.

use std::sync::Arc;

use tradepost::{
    adjustment::Booking,
    clock::ManualClock,
    engine::Marketplace,
    error::{Error, Rejection},
    ids::{AgentId, JobId, RailId},
    job::{Delivery, Job},
    ledger::Account,
    money::Money,
    policy::{Policy, Span},
    rail::{Cursor, Custody, Push, RailProfile},
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{OutsideWorld, ScriptedRail},
};

use crate::{store::SERVER, support::*};

pub(super) struct Bank {
    pub(super) market: Marketplace,
    pub(super) store: Arc<dyn Store>,
    pub(super) world: OutsideWorld,
    pub(super) clock: Arc<ManualClock>,
    pub(super) rail: RailId,
    profile: RailProfile,
    folder: Option<tempfile::TempDir>,
}

impl Bank {
    pub(super) async fn on(store: impl Store + Clone, policy: Policy, custody: Custody) -> Self {
        let profile = ScriptedRail::profile_of(custody, policy.currency);
        Self::with(store, policy, profile).await
    }

    pub(super) async fn with(store: impl Store + Clone, policy: Policy, profile: RailProfile) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let world = OutsideWorld::new(policy.currency, 7);
        let rail = ScriptedRail::new(profile.clone(), world.clone(), clock.clone());
        let builder = Marketplace::builder("bank", store.clone(), policy).rail(rail);
        let market = builder.clock(clock.clone()).ids(Arc::new(CountedIds::default())).build().await.unwrap();
        Self { market, store: Arc::new(store), world, clock, rail: profile.id, profile, folder: None }
    }

    pub(super) async fn in_memory(policy: Policy, custody: Custody) -> Self {
        Self::on(MemoryStore::new(), policy, custody).await
    }

    /// The same bank on memory, SQLite and PostgreSQL.
    pub(super) async fn everywhere(policy: Policy, custody: Custody) -> [Self; 3] {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = SqliteStore::open(folder.path().join("bank.db")).await.unwrap();
        let postgres = PostgresStore::connect(&SERVER.database().unwrap()).await.unwrap();
        let mut on_disk = Self::on(sqlite, policy.clone(), custody).await;
        on_disk.folder = Some(folder);
        let on_server = Self::on(postgres, policy.clone(), custody).await;
        [Self::in_memory(policy, custody).await, on_disk, on_server]
    }

    pub(super) fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.market.currency())
    }

    /// Money comes in from outside, and is seen.
    pub(super) async fn deposit(&self, agent: AgentId, minor: i64, source: &str) {
        self.world.deposit(agent, self.money(minor), source);
        self.work().await;
    }

    /// What has happened outside since, as messages that were pushed here.
    pub(super) fn pushes(&self, after: &Cursor) -> (Vec<Push>, Cursor) {
        self.way_outside().pushes(after).unwrap()
    }

    /// Another way to the world than the market's.
    pub(super) fn way_outside(&self) -> ScriptedRail {
        ScriptedRail::new(self.profile.clone(), self.world.clone(), self.clock.clone())
    }

    pub(super) async fn receive(&self, push: &Push) {
        assert_eq!(self.market.receive(self.rail, push).await.unwrap(), 1);
    }

    pub(super) async fn work(&self) {
        self.market.run_until_idle().await.unwrap();
    }

    /// Time passes until nothing is on its way any more.
    pub(super) async fn settle(&self) {
        for _ in 0..60 {
            self.work().await;
            if self.market.unsettled().await.unwrap().is_empty() {
                return;
            }
            self.clock.advance(Span::seconds(61).delta());
        }
        panic!("left open: {:?}", self.market.unsettled().await.unwrap());
    }

    pub(super) async fn available(&self, agent: AgentId) -> i64 {
        self.of(Account::Available(agent)).await
    }

    pub(super) async fn of(&self, account: Account) -> i64 {
        self.market.balance(account, None).await.unwrap().minor()
    }

    pub(super) async fn save(&self, agent: AgentId, address: &str) {
        self.market.agent(agent).set_withdrawal_address(agent, address).await.unwrap();
    }

    pub(super) async fn withdraw(&self, agent: AgentId, minor: i64) -> Result<(), Error> {
        self.market.agent(agent).withdraw_money(agent, self.money(minor)).await.map(drop)
    }

    pub(super) async fn posted(&self, minor: i64) -> Result<Arc<Job>, Error> {
        self.market.agent(buyer()).post_job(order(self.money(minor))).await
    }

    /// The buyer hires the worker, who is paid.
    pub(super) async fn hire(&self, minor: i64) -> JobId {
        let job = self.posted(minor).await.unwrap().id;
        self.work().await;
        if self.market.job(job).await.unwrap().status == tradepost::job::JobStatus::Funded {
            self.market.agent(worker()).accept(job).await.unwrap();
        }
        self.market.agent(worker()).deliver(job, Delivery::default()).await.unwrap();
        self.market.agent(buyer()).approve(job).await.unwrap();
        job
    }

    /// A refund after payout has left the agent owing.
    pub(super) async fn owe(&self, agent: AgentId, minor: i64) {
        let (debit, credit, amount) = (Account::Debt(agent), Account::Treasury(self.rail), self.money(minor));
        let booking = Booking { debit, credit, amount };
        self.market.operator("Ada").adjust(vec![booking], "refunded after payout").await.unwrap();
    }

    /// The books add up, and the rail holds what they say.
    pub(super) async fn check(&self) {
        for trial in self.market.trial_balance().await.unwrap() {
            assert_eq!(trial.sum(), 0);
        }
        assert_eq!(self.market.verify().await.unwrap(), []);
        let reconciled = self.market.reconcile(self.rail).await.unwrap();
        assert_eq!((reconciled.differences, reconciled.in_flight), (vec![], vec![]));
    }
}

pub(super) fn rejected<T: std::fmt::Debug>(answer: Result<T, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}
