//! A market on each store with a rail that can be told what to do wrong.

use std::sync::Arc;

use tradepost::{
    clock::ManualClock,
    engine::{Marketplace, MarketplaceBuilder, Unsettled},
    error::{Error, Rejection},
    ids::{InstructionId, JobId},
    job::Job,
    money::{Currency, Money},
    policy::Policy,
    rail::{CreditsRail, Custody},
    store::{InstructionRecord, Key, Kind, MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{OutsideWorld, Script, ScriptedRail},
};

use crate::{store::SERVER, support::*};

/// A market, and what it stands on.
pub(crate) struct Counter {
    pub(crate) market: Marketplace,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) world: OutsideWorld,
    pub(crate) clock: Arc<ManualClock>,
    _folder: Option<tempfile::TempDir>,
}

impl Counter {
    /// One on every store. Its rail holds each job's money outside, and is named `scripted`.
    pub(crate) async fn on_every_store() -> Vec<Self> {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
        let postgres = PostgresStore::connect(&SERVER.database().unwrap()).await.unwrap();
        vec![
            Self::on(MemoryStore::new()).await,
            Self { _folder: Some(folder), ..Self::on(sqlite).await },
            Self::on(postgres).await,
        ]
    }

    pub(crate) async fn on(store: impl Store + Clone) -> Self {
        let (clock, world) = (Arc::new(ManualClock::at(start())), OutsideWorld::new(Currency::EUR, 7));
        let builder = Self::builder(store.clone(), &clock);
        let market = builder.rail(Self::rail(Custody::PerHold, &world, &clock)).build().await.unwrap();
        Self { market, store: Arc::new(store), world, clock, _folder: None }
    }

    /// The market without a rail yet.
    pub(crate) fn builder(store: impl Store, clock: &Arc<ManualClock>) -> MarketplaceBuilder {
        let builder = Marketplace::builder("counter", store, Policy::voxpact().unwrap());
        builder.clock(clock.clone()).ids(Arc::new(CountedIds::default()))
    }

    pub(crate) fn rail(custody: Custody, world: &OutsideWorld, clock: &Arc<ManualClock>) -> ScriptedRail {
        ScriptedRail::new(ScriptedRail::profile_of(custody, Currency::EUR), world.clone(), clock.clone())
    }

    /// Posts a job whose payment goes as the script says; its first instruction afterwards.
    pub(crate) async fn posted(&self, script: Script) -> (Arc<Job>, Arc<InstructionRecord>) {
        self.world.next(script);
        let job = self.market.agent(buyer()).post_job(order(euros(100))).await.unwrap();
        (job.clone(), self.instruction(job.id).await)
    }

    pub(crate) async fn instruction(&self, job: JobId) -> Arc<InstructionRecord> {
        self.market.instructions(job).await.unwrap().pop().unwrap()
    }

    /// What happened to an instruction, and who did it.
    pub(crate) async fn told(&self, id: InstructionId) -> Vec<(&'static str, String)> {
        let market = self.store.open_market("counter").await.unwrap();
        let log = self.store.events_of(market, Key { kind: Kind::Instruction, id: id.0 }).await.unwrap();
        log.iter().map(|logged| (logged.event.body.name(), logged.event.actor.to_string())).collect()
    }

    pub(crate) async fn unsettled(&self) -> Vec<Unsettled> {
        self.market.unsettled().await.unwrap()
    }

    /// Nothing is open, the books are whole, and the rail agrees with them.
    pub(crate) async fn check_settled(&self) {
        assert_eq!(self.unsettled().await, []);
        for trial in self.market.trial_balance().await.unwrap() {
            assert_eq!(trial.sum(), 0);
        }
        assert_eq!(self.market.verify().await.unwrap(), []);
        let id = ScriptedRail::profile_of(Custody::PerHold, Currency::EUR).id;
        assert_eq!(self.market.reconcile(id).await.unwrap().differences, []);
    }
}

pub(crate) fn euros(euros: i64) -> Money {
    Money::new(euros * 100, Currency::EUR)
}

pub(crate) fn credits() -> CreditsRail {
    CreditsRail::new(Currency::EUR)
}

/// Why it was refused; anything else fails the test.
pub(crate) fn rejection<T: std::fmt::Debug>(answer: Result<T, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}
