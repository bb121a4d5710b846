//! What background work does side by side, and how much of it a round does.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tradepost::{
    clock::ManualClock,
    engine::{NoticeParts, NoticesOf, Which},
    ids::RailId,
    job::{Delivery, JobOrder, JobStatus},
    money::Currency,
    policy::Span,
    rail::{
        ChargebackStage, Cursor, Custody, Holdings, Instruction, Observation, Observations, Outcome, Push, RailError,
        RailProfile, SettlementRail,
    },
    secret::Pepper,
    store::MemoryStore,
    testkit::{Answer, OutsideWorld, Script, ScriptedRail, eventually},
};

use crate::{
    counter::{Counter, euros},
    support::*,
};

/// A rail that never answers anything.
struct Stuck(RailProfile);

#[async_trait]
impl SettlementRail for Stuck {
    fn profile(&self) -> &RailProfile {
        &self.0
    }

    async fn execute(&self, _: &Instruction) -> Result<Outcome, RailError> {
        std::future::pending().await
    }

    async fn lookup(&self, _: &Instruction) -> Result<Option<Outcome>, RailError> {
        std::future::pending().await
    }

    async fn observe(&self, _: &Cursor) -> Result<Observations, RailError> {
        std::future::pending().await
    }

    fn receive(&self, _: &Push) -> Result<Vec<Observation>, RailError> {
        Ok(Vec::new())
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        std::future::pending().await
    }
}

/// While one rail hangs, twenty seconds a call, another is observed and asked, timers fire, trust is kept and
/// agents are told: all within five. The runtime's clock stands still but for what is waited for.
#[tokio::test(start_paused = true)]
async fn a_rail_that_hangs_keeps_nothing_but_its_own_money_waiting() {
    let (clock, world) = (Arc::new(ManualClock::at(start())), OutsideWorld::new(Currency::EUR, 7));
    let (stuck, scripted) = (RailId::new("stuck"), RailId::new("scripted"));
    let profile = ScriptedRail::profile_of(Custody::NonCustodial, Currency::EUR);
    let market = Counter::builder(MemoryStore::new(), &clock)
        .rail(Stuck(RailProfile { id: stuck, ..profile }))
        .rail(Counter::rail(Custody::PerHold, &world, &clock))
        .notices(NoticeParts::new(Pepper::new([7; 32])))
        .build()
        .await
        .unwrap();
    let post = async |rail| {
        let order = JobOrder { rail: Some(rail), ..order(euros(10)) };
        market.agent(buyer()).post_job(order).await.unwrap().id
    };
    let released = post(scripted).await;
    market.agent(worker()).accept(released).await.unwrap();
    market.agent(worker()).deliver(released, Delivery::default()).await.unwrap();
    let contested = post(scripted).await;
    assert!(world.charge_back(contested.into(), ChargebackStage::Opened { evidence_due: None }));
    world.next(Script { answer: Answer::LostAfter, ..Script::default() });
    let lost = post(scripted).await;
    for _ in 0..20 {
        post(stuck).await;
    }
    clock.advance(Span::hours(48).delta());

    let status = async |job| market.job(job).await.unwrap().status;
    let told = NoticesOf { agent: worker(), which: Which::All, offset: 0, limit: 50 };
    let everything = async || {
        let done = (status(released).await, status(contested).await, status(lost).await)
            == (JobStatus::Completed, JobStatus::Frozen, JobStatus::Funded)
            && !market.trust_history(worker()).await.unwrap().is_empty()
            && market.notices(told).await.unwrap().iter().any(|notice| notice.event == "payment.received");
        done.then_some(())
    };
    tokio::select! {
        () = market.run(Duration::from_millis(10)) => unreachable!("it works for ever"),
        done = eventually(everything) => done.expect("every duty is done"),
    }
}

/// A round reads a page of the log for trust, and the next one goes on.
#[tokio::test]
async fn a_round_keeps_trust_for_a_page_of_the_log() {
    let clock = Arc::new(ManualClock::at(start()));
    let world = OutsideWorld::new(Currency::EUR, 7);
    let rail = Counter::rail(Custody::PerHold, &world, &clock);
    let market = Counter::builder(MemoryStore::new(), &clock).rail(rail).build().await.unwrap();
    for _ in 0..150 {
        let job = market.agent(buyer()).post_job(order(euros(10))).await.unwrap();
        market.agent(buyer()).cancel(job.id, "a test").await.unwrap();
    }
    let job = market.agent(buyer()).post_job(order(euros(10))).await.unwrap();
    market.agent(worker()).accept(job.id).await.unwrap();
    market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap();
    market.agent(buyer()).approve(job.id).await.unwrap();
    assert_eq!(market.work().await.unwrap().trust, 256);
    assert!(market.trust_history(worker()).await.unwrap().is_empty());
    market.run_until_idle().await.unwrap();
    assert_eq!(market.trust_history(worker()).await.unwrap().len(), 1);
}
