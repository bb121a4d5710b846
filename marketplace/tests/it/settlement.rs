//! What the engine does about rails that are slow, silent or gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tradepost::{
    actor::Actor,
    clock::Clock as _,
    engine::Unsettled,
    error::Error,
    ids::{HoldId, RailId},
    job::{HoldState, JobStatus},
    money::{Currency, Money},
    policy::Span,
    rail::{
        Chargeback, ChargebackStage, Cursor, Custody, Holdings, Instruction, Observation, ObservationBody,
        Observations, Outcome, Push, RailError, RailProfile, SettlementRail,
    },
    store::{InstructionState, MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{Answer, Script, ScriptedRail},
};

use crate::{
    counter::{Counter, credits, euros},
    support::*,
};

// ---- a rail that does not answer ----

/// Answers nothing while it is silent, though it may have heard.
struct Silent {
    rail: ScriptedRail,
    silent: Arc<AtomicBool>,
}

impl Silent {
    async fn answer<T>(&self, answer: T) -> T {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        answer
    }
}

#[async_trait]
impl SettlementRail for Silent {
    fn profile(&self) -> &RailProfile {
        self.rail.profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.answer(self.rail.execute(instruction).await).await
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.answer(self.rail.lookup(instruction).await).await
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        self.answer(self.rail.observe(after).await).await
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        self.rail.receive(push)
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        self.rail.holdings().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_rail_that_never_answers_is_given_up_and_looked_up_later() {
    let counter = Counter::on(MemoryStore::new()).await;
    let silent = Arc::new(AtomicBool::new(true));
    let rail = Counter::rail(Custody::PerHold, &counter.world, &counter.clock);
    let rail = Silent { rail, silent: silent.clone() };
    let builder = Counter::builder(MemoryStore::new(), &counter.clock).rail(rail);
    let market = builder.rail_limit(Duration::from_secs(5)).build().await.unwrap();

    let began = tokio::time::Instant::now();
    let job = market.agent(buyer()).post_job(order(euros(100))).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(5), "the limit, and no longer");
    let lost = market.instructions(job.id).await.unwrap().pop().unwrap();
    assert_eq!((&lost.state, lost.failures), (&InstructionState::Unknown, 1));
    assert!(lost.problem.as_ref().unwrap().contains("no answer within 5s"), "{lost:?}");
    let told = async |who: Actor| market.by(who).instructions(job.id).await.unwrap().pop().unwrap().problem.clone();
    assert_eq!((told(operator()).await, told(by(buyer())).await), (lost.problem.clone(), None), "it is for operators");
    // A round of work is bounded, too, also by what the rail has to report.
    counter.clock.advance(Span::hours(1).delta());
    market.work().await.unwrap();
    assert_eq!(market.job(job.id).await.unwrap().status, JobStatus::PendingPayment);

    silent.store(false, Ordering::SeqCst);
    counter.clock.advance(Span::hours(1).delta());
    market.run_until_idle().await.unwrap();
    assert_eq!(market.job(job.id).await.unwrap().status, JobStatus::Funded);
    assert_eq!(counter.world.effects(lost.instruction.id).times, 1, "it was looked up, not sent again");
}

#[tokio::test]
async fn a_limit_that_does_not_fit_into_the_lease_twice_is_refused() {
    let counter = Counter::on(MemoryStore::new()).await;
    for (limit, lease, fits) in [(4, 9, true), (5, 10, false), (0, 10, false), (u64::MAX, 10, false)] {
        let builder = Counter::builder(MemoryStore::new(), &counter.clock).rail(credits()).lease(Span::seconds(lease));
        let built = builder.rail_limit(Duration::from_secs(limit)).build().await;
        assert_eq!(built.is_ok(), fits, "{limit} s of {lease} s");
        assert!(fits || matches!(built, Err(Error::Configuration { .. })));
    }
    let shortest = Counter::builder(MemoryStore::new(), &counter.clock).rail(credits()).lease(Span::seconds(1));
    assert!(shortest.build().await.is_ok(), "the limit follows a short lease by itself");
}

// ---- a payment for a job that was called off ----

#[tokio::test]
async fn a_payment_that_nobody_heard_of_is_not_begun_for_a_job_that_was_called_off() {
    for counter in Counter::on_every_store().await {
        let (job, lost) = counter.posted(Script { answer: Answer::LostBefore, ..Script::default() }).await;
        counter.market.agent(buyer()).cancel(job.id, "no longer needed").await.unwrap();
        counter.clock.advance(Span::hours(1).delta());
        counter.market.run_until_idle().await.unwrap();
        let ended = counter.instruction(job.id).await;
        assert!(matches!(&ended.state, InstructionState::Declined(why) if why.code == "called_off"), "{ended:?}");
        assert_eq!(counter.world.effects(lost.instruction.id).times, 0);
        assert_eq!(counter.market.job(job.id).await.unwrap().hold.state, HoldState::Empty);
        counter.check_settled().await;
    }
}

/// A process that was stopped for longer than its lease sends its request after all. The money is at
/// the rail and not in the books: an operator sees both, and nothing is lost.
#[tokio::test]
async fn a_payment_that_arrives_after_it_was_given_up_is_kept_for_an_operator() {
    for counter in Counter::on_every_store().await {
        let (job, lost) = counter.posted(Script { answer: Answer::LostBefore, ..Script::default() }).await;
        let market = &counter.market;
        market.agent(buyer()).cancel(job.id, "no longer needed").await.unwrap();
        counter.clock.advance(Span::hours(1).delta());
        market.run_until_idle().await.unwrap();
        let late = Counter::rail(Custody::PerHold, &counter.world, &counter.clock);
        late.execute(&lost.instruction).await.unwrap();
        market.run_until_idle().await.unwrap();

        let open = counter.unsettled().await;
        let [Unsettled::Refused(refused)] = open.as_slice() else { panic!("{open:?}") };
        assert!(refused.refused.as_ref().unwrap().contains("declined already"), "{refused:?}");
        let books = market.reconcile(late.profile().id).await.unwrap();
        assert_eq!((books.books, books.held), (euros(0), job.terms.total().unwrap()));
        assert!(!books.differences.is_empty());
        market.operator("Ada").dismiss(refused.id, "refunded at the rail by hand").await.unwrap();
        assert_eq!(counter.unsettled().await, []);
    }
}

// ---- a rail that names two events alike ----

/// Reports whatever is pushed to it, as a list in JSON.
struct Gossip(ScriptedRail);

#[async_trait]
impl SettlementRail for Gossip {
    fn profile(&self) -> &RailProfile {
        self.0.profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.0.execute(instruction).await
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.0.lookup(instruction).await
    }

    async fn observe(&self, _after: &Cursor) -> Result<Observations, RailError> {
        Ok(Observations { items: Vec::new(), next: Cursor(String::new()) })
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        Ok(serde_json::from_slice(&push.body).unwrap())
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        self.0.holdings().await
    }
}

async fn another_event_under_a_known_name_is_kept_for_an_operator(store: impl Store + Clone) {
    let counter = Counter::on(store.clone()).await;
    let rail = Gossip(Counter::rail(Custody::PerHold, &counter.world, &counter.clock));
    let id = rail.profile().id;
    let market = Counter::builder(store, &counter.clock).rail(rail).build().await.unwrap();
    let (one, other) = (counter.posted(Script::default()).await.0, counter.posted(Script::default()).await.0);
    let charged = |hold: HoldId, minor, stage| {
        let (reference, amount, cost) = (format!("dispute of {hold}"), Money::new(minor, Currency::EUR), euros(0));
        let body = ObservationBody::Chargeback(Chargeback { hold, reference, amount, cost, stage });
        Observation { id: "event-1".into(), body }
    };
    let tell = async |told: Observation| {
        let (body, received_at) = (serde_json::to_vec(&[told]).unwrap(), counter.clock.now());
        market.receive(id, &Push { headers: Vec::new(), body, received_at }).await.unwrap();
    };
    let opened = ChargebackStage::Opened { evidence_due: None };
    let first = charged(one.id.into(), 10_000, opened);
    tell(first.clone()).await;
    assert_eq!(market.job(one.id).await.unwrap().status, JobStatus::Frozen);
    tell(first.clone()).await;
    assert_eq!(counter.unsettled().await, [], "the same event once more is nothing new");

    // Each would be booked, had it a name of its own.
    let reused = [charged(other.id.into(), 10_000, opened), charged(one.id.into(), 10_000, ChargebackStage::Won)];
    for told in reused.iter().chain(&reused) {
        tell(told.clone()).await;
    }
    assert_eq!(market.job(other.id).await.unwrap().status, JobStatus::Funded);
    assert_eq!(market.job(one.id).await.unwrap().status, JobStatus::Frozen);
    let open = counter.unsettled().await;
    assert_eq!(open.len(), 2, "{open:?}");
    for told in reused {
        let kept = |refused: &Unsettled| match refused {
            Unsettled::Refused(kept) => {
                kept.observation.body == told.body && kept.refused.as_ref().unwrap().contains("reported before")
            }
            Unsettled::Instruction(_) => false,
        };
        assert!(open.iter().any(kept), "{told:?} is lost: {open:?}");
    }
}

#[tokio::test]
async fn another_event_under_a_known_name_in_memory() {
    another_event_under_a_known_name_is_kept_for_an_operator(MemoryStore::new()).await;
}

#[tokio::test]
async fn another_event_under_a_known_name_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    another_event_under_a_known_name_is_kept_for_an_operator(store).await;
}

#[tokio::test]
async fn another_event_under_a_known_name_on_postgres() {
    let store = PostgresStore::connect(&crate::store::SERVER.database().unwrap()).await.unwrap();
    another_event_under_a_known_name_is_kept_for_an_operator(store).await;
}

// ---- a rail that is taken away ----

async fn no_rail_is_left_out_while_money_is_under_way(store: impl Store + Clone) {
    let counter = Counter::on(store.clone()).await;
    let held = RailId::new("scripted");
    let without = || Counter::builder(store.clone(), &counter.clock).rail(credits()).build();
    let open = |built: Result<_, Error>| match built {
        Ok(_) => 0,
        Err(Error::RailMissing { rail, open }) if rail == held => open,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(open(without().await), 0, "nothing is under way");
    let (first, _) = counter.posted(Script::default()).await;
    let (second, _) = counter.posted(Script::default()).await;
    assert_eq!(open(without().await), 2);
    counter.market.agent(buyer()).cancel(first.id, "no longer needed").await.unwrap();
    assert_eq!(open(without().await), 1);
    // It is over, and its money is not: the rail's answer is lost.
    counter.world.next(Script { answer: Answer::LostBefore, ..Script::default() });
    let cancelled = counter.market.agent(buyer()).cancel(second.id, "no longer needed").await.unwrap();
    assert_eq!(cancelled.status, JobStatus::Cancelled);
    assert_eq!(open(without().await), 1);
    counter.clock.advance(Span::hours(1).delta());
    counter.market.run_until_idle().await.unwrap();
    assert_eq!(open(without().await), 0);
}

#[tokio::test]
async fn no_rail_is_left_out_in_memory() {
    no_rail_is_left_out_while_money_is_under_way(MemoryStore::new()).await;
}

#[tokio::test]
async fn no_rail_is_left_out_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    no_rail_is_left_out_while_money_is_under_way(store).await;
}

#[tokio::test]
async fn no_rail_is_left_out_on_postgres() {
    let store = PostgresStore::connect(&crate::store::SERVER.database().unwrap()).await.unwrap();
    no_rail_is_left_out_while_money_is_under_way(store).await;
}
