//! How requests go over the wire: their pace, their keys, their version.

use std::time::Duration;

use tokio::time::Instant;
use tradepost::{
    job::JobStatus,
    rail::{RailErrorKind, SettlementRail},
};
use tradepost_stripe::{HoldMode, StripeConfig, StripeRail};

use crate::{
    double::Trouble,
    life::{Desk, settle_everything},
    people::{DoubleClock, config},
    steps::{Bench, eur},
};

/// Stripe allows so many requests a second: however many are to be sent at once, no more leave.
#[tokio::test]
async fn requests_leave_no_faster_than_configured() {
    let bench = Bench::new().await;
    let slow = StripeConfig { requests_per_second: 100, ..config(&bench.double, HoldMode::Charge) };
    let clock = std::sync::Arc::new(DoubleClock(bench.double.clone()));
    let rail = StripeRail::new(slow, bench.people.clone(), clock).unwrap();
    let begun = Instant::now();
    let asked = (0..60).map(|_| {
        let rail = rail.clone();
        tokio::spawn(async move { rail.holdings().await.unwrap() })
    });
    for answer in asked.collect::<Vec<_>>() {
        answer.await.unwrap();
    }
    // A tenth of a second's worth may go at once, and the first one.
    let least = Duration::from_millis((60 - 10 - 1) * 10);
    assert!(begun.elapsed() >= least, "60 requests in {:?}", begun.elapsed());
}

/// A request that Stripe had no time for, or was at work on, is repeated under the same key.
#[tokio::test]
async fn what_is_repeated_has_the_same_key_until_it_is_proved_that_nothing_moved() {
    for (trouble, keys) in [
        (Trouble::Busy, 1),
        (Trouble::InUse, 1),
        (Trouble::LostBefore, 1),
        (Trouble::LostAfter, 1),
        (Trouble::Broken, 2),
        (Trouble::BrokenAfter, 1),
    ] {
        let desk = Desk::new(HoldMode::Charge).await;
        desk.double.arrange(trouble);
        let job = desk.post(10_000).await.id;
        settle_everything(0, &desk).await;
        assert_eq!(desk.market.job(job).await.unwrap().status, JobStatus::Funded, "{trouble:?}");
        let state = desk.double.lock();
        let mut used: Vec<&str> = (state.keys_sent.iter().filter(|(path, _)| path == "/v1/payment_intents"))
            .map(|(_, key)| key.as_str())
            .collect();
        used.dedup();
        assert_eq!(used.len(), keys, "{trouble:?}: {used:?}");
        assert_eq!(state.world.charges.len(), 1, "{trouble:?}");
    }
}

/// A 429 says how long to wait, and the engine waits as long.
#[tokio::test]
async fn a_busy_stripe_is_left_alone_as_long_as_it_says() {
    let bench = Bench::new().await;
    bench.double.arrange(Trouble::Busy);
    let error = bench.rail.execute(&bench.fund(eur(10_000))).await.unwrap_err();
    assert!(matches!(error.kind(), RailErrorKind::Busy(_)), "{error}");
    assert!(error.to_string().contains("req_double"), "{error}");
}
