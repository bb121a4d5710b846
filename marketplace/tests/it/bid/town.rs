//! A marketplace on a scripted rail, on each of the three stores.

use std::sync::{Arc, Mutex};

use tradepost::{
    agent::{Profile, Registration},
    clock::ManualClock,
    engine::{AgentParts, JobsOf, Marketplace, Role},
    error::{Error, Rejection},
    ids::{AgentId, OwnerId, RailId},
    money::Money,
    policy::Policy,
    rail::Custody,
    secret::Pepper,
    store::{Kind, MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{OutsideWorld, ScriptedRail, eventually},
};
use uuid::Uuid;

use crate::support::{CountedIds, buyer, start};

pub(super) struct Town {
    pub(super) market: Marketplace,
    pub(super) clock: Arc<ManualClock>,
    pub(super) outside: OutsideWorld,
    custody: Custody,
    _folder: Option<tempfile::TempDir>,
}

/// Whether the marketplace keeps agents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Agents {
    Kept,
    Embedders,
}

impl Town {
    pub(super) async fn on(store: impl Store, policy: Policy, custody: Custody, agents: Agents) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let outside = OutsideWorld::new(policy.currency, 7);
        let profile = ScriptedRail::profile_of(custody, policy.currency);
        let rail = ScriptedRail::new(profile, outside.clone(), clock.clone());
        let mut builder = Marketplace::builder("town", store, policy).rail(rail).clock(clock.clone());
        if agents == Agents::Kept {
            builder = builder.agents(AgentParts::new(Pepper::new([7; 32])));
        }
        let market = builder.ids(Arc::new(CountedIds::default())).build().await.unwrap();
        Self { market, clock, outside, custody, _folder: None }
    }

    /// In memory, for what no database changes.
    pub(super) async fn quick(policy: Policy, custody: Custody) -> Self {
        Self::on(MemoryStore::new(), policy, custody, Agents::Embedders).await
    }

    /// The same town on all three stores.
    pub(super) async fn everywhere(policy: Policy, custody: Custody) -> [Self; 3] {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
        let postgres = PostgresStore::connect(&crate::store::SERVER.database().unwrap()).await.unwrap();
        let mut on_disk = Self::on(sqlite, policy.clone(), custody, Agents::Embedders).await;
        on_disk._folder = Some(folder);
        let on_server = Self::on(postgres, policy.clone(), custody, Agents::Embedders).await;
        [Self::quick(policy, custody).await, on_disk, on_server]
    }

    pub(super) fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.market.currency())
    }

    /// Gives the buyer's wallet money, where wallets pay.
    pub(super) async fn endow(&self, minor: i64) {
        endow(&self.market, &self.outside, self.custody, minor).await;
    }

    /// An active agent that can do `capabilities`, where agents are kept.
    pub(super) async fn register(&self, name: &str, capabilities: &[&str]) -> AgentId {
        let capabilities = capabilities.iter().map(|capability| (*capability).to_owned()).collect();
        let profile = Profile { capabilities, ..Profile::default() };
        let registration = Registration { name: name.into(), email: None, profile };
        let owner = tradepost::actor::Actor::Owner(OwnerId(Uuid::from_u128(9)));
        self.market.by(owner).register(registration).await.unwrap().agent.id
    }

    /// The names of everything that happened, in order.
    /// The whole log. One that many databases' writers share is readable a little later than it was written:
    /// this looks until everything is there that the jobs themselves tell of, and nothing more comes.
    pub(super) async fn log(&self) -> Vec<&'static str> {
        let of = JobsOf { role: Role::Buyer(buyer()), statuses: vec![], offset: 0, limit: 50 };
        let mut known = 0;
        for job in self.market.jobs(of).await.unwrap() {
            known += self.market.job_history(job.id).await.unwrap().len();
        }
        let before = Mutex::new(Vec::new());
        let everything = async || {
            let events = self.market.subscribe("test").await.unwrap().next(u32::MAX).await.unwrap();
            let names: Vec<_> = events.iter().map(|logged| logged.event.body.name()).collect();
            let of_jobs = events.iter().filter(|logged| logged.event.subject.kind == Kind::Job).count();
            let last = std::mem::replace(&mut *before.lock().unwrap(), names.clone());
            (of_jobs >= known && last == names).then_some(names)
        };
        eventually(everything).await.expect("the log has what the jobs tell of")
    }

    pub(super) async fn check_books(&self) {
        for trial in self.market.trial_balance().await.unwrap() {
            assert_eq!(trial.sum(), 0);
        }
        assert_eq!(self.market.verify().await.unwrap(), []);
    }
}

/// Gives the buyer's wallet money: from outside, or by an operator's word where the ledger is all the
/// money there is.
pub(super) async fn endow(market: &Marketplace, outside: &OutsideWorld, custody: Custody, minor: i64) {
    let amount = Money::new(minor, market.currency());
    match custody {
        Custody::Internal => {
            let (operator, rail) = (market.operator("o. perator"), RailId::new("scripted"));
            operator.record_deposit(rail, "purchase/1", buyer(), amount).await.unwrap();
        }
        _ => {
            outside.deposit(buyer(), amount, "somewhere");
            market.run_until_idle().await.unwrap();
        }
    }
}

pub(super) fn rejection<T: std::fmt::Debug>(answer: Result<T, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}
