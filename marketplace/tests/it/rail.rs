//! Rails: the contract, the scripted rail, the layers.

mod broken;
mod harness;
mod layers;
mod world;

use std::{sync::Arc, time::Duration};

use tradepost::{
    clock::{ManualClock, Timestamp},
    money::Currency,
    rail::{
        Capability, CreditsRail, Custody, SettlementRail,
        layers::{Retries, Retry, Timeout, Trace},
    },
    testkit::{
        Disorder, OutsideWorld, ScriptedRail,
        rail::{Report, run},
    },
};

use broken::{Breach, Broken};
use harness::Scripted;

const CUSTODIES: [(Custody, usize); 3] = [(Custody::Pooled, 26), (Custody::PerHold, 62), (Custody::NonCustodial, 44)];

#[tokio::test]
async fn the_scripted_rail_keeps_its_contract_in_every_custody() {
    for (custody, cases) in CUSTODIES {
        for currency in [Currency::EUR, Currency::USDC] {
            let report = run(&Scripted::new(custody, currency)).await;
            report.assert_kept();
            assert_eq!(report.ran(), cases, "{custody:?}:\n{report}");
        }
    }
}

#[tokio::test]
async fn repeated_and_shuffled_observations_and_pushes_are_within_the_contract() {
    for (custody, cases) in CUSTODIES {
        let scripted = Scripted::new(custody, Currency::EUR);
        scripted.world.disorder(Disorder::RepeatedAndShuffled);
        let report = run(&scripted).await;
        report.assert_kept();
        assert_eq!(report.ran(), cases, "{custody:?}:\n{report}");
    }
}

#[tokio::test]
async fn a_rail_that_cannot_split_refuses_two_legs_and_settles_one() {
    let mut scripted = Scripted::new(Custody::PerHold, Currency::EUR);
    scripted.profile.capabilities.retain(|capability| *capability != Capability::Split);
    let report = run(&scripted).await;
    report.assert_kept();
    assert_eq!(report.ran(), 63, "{report}"); // one more: two legs are refused
}

#[tokio::test]
async fn the_credits_rail_is_asked_for_nothing() {
    let report = run(&Scripted::wrapped(Custody::Internal, |_, _| CreditsRail::new(Currency::CREDIT))).await;
    report.assert_kept();
    // Each order refused, pushes refused, holdings of nothing.
    assert_eq!(report.ran(), 5, "{report}");
    assert_eq!(CreditsRail::new(Currency::EUR).profile().currency, Currency::EUR);
}

/// A wrapper keeps the contract: every layer alone and all of them in their order.
#[tokio::test(start_paused = true)]
async fn every_layer_keeps_the_contract() {
    for (custody, cases) in CUSTODIES {
        let reports: [Report; 4] = [
            run(&Scripted::wrapped(custody, |rail, _| Retry::new(rail, Retries::default()))).await,
            run(&Scripted::wrapped(custody, |rail, _| Timeout::new(rail, Duration::from_secs(1)))).await,
            run(&Scripted::wrapped(custody, |rail, _| Trace::new(rail, clock()))).await,
            run(&Scripted::wrapped(custody, |rail, _| all_layers(rail))).await,
        ];
        for report in reports {
            report.assert_kept();
            assert_eq!(report.ran(), cases, "{custody:?}:\n{report}");
        }
    }
}

fn all_layers(rail: ScriptedRail) -> impl SettlementRail {
    let shared: Arc<dyn SettlementRail> = Arc::new(rail);
    Trace::new(Retry::new(Timeout::new(shared, Duration::from_secs(1)), Retries::default()), clock())
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH))
}

/// One deliberately broken rail for each clause, the custody it breaks it in, and a case that must see it.
const BREACHES: [(Breach, Custody, &str); 20] = [
    (Breach::TakesEffectWithEveryCall, Custody::Pooled, "payout: the same instruction twice"),
    (Breach::ForgetsItsKeysInARestart, Custody::PerHold, "fund: the same instruction twice"),
    (Breach::TakesAnyOrderUnderAKnownId, Custody::PerHold, "settle: the same id with another order"),
    (Breach::TakesEffectWhenLookedUp, Custody::PerHold, "settle: the happy path, every amount and division"),
    (Breach::ForgetsWhatItDid, Custody::Pooled, "payout: the answer lost after the effect"),
    (Breach::KnowsWhatNeverWas, Custody::NonCustodial, "fund: never executed"),
    (Breach::ClaimsThatNothingWasSent, Custody::Pooled, "payout: the answer lost after the effect"),
    (Breach::ChangesItsMind, Custody::NonCustodial, "settle: the same instruction twice"),
    (Breach::IsDoneTooEarly, Custody::PerHold, "fund: pending, then declined"),
    (Breach::RepeatsWhatWasAskedFor, Custody::Pooled, "payout: another amount is noticed"),
    (Breach::InventsACent, Custody::PerHold, "fund: the happy path, every amount and division"),
    (Breach::ShufflesLegs, Custody::PerHold, "settle: the happy path, every amount and division"),
    (Breach::SendsTheFeeAway, Custody::PerHold, "settle: the happy path, every amount and division"),
    (Breach::TakesWhatItCannotDo, Custody::Pooled, "fund: refused where unsupported"),
    (Breach::HoldsNothing, Custody::NonCustodial, "fund: the happy path, every amount and division"),
    (Breach::RenamesEvents, Custody::PerHold, "observe: cursors repeat what they told"),
    (Breach::TellsDepositsTwice, Custody::Pooled, "observe: deposits, once each"),
    (Breach::SkipsEvents, Custody::Pooled, "observe: deposits, once each"),
    (Breach::ForgetsEvents, Custody::PerHold, "receive: pushes, repeated and out of order"),
    (Breach::TrustsAnybody, Custody::NonCustodial, "receive: forged pushes"),
];

#[tokio::test]
async fn the_kit_catches_every_breach_of_the_contract() {
    for (breach, custody, case) in BREACHES {
        let broken = move |rail, world: &OutsideWorld| Broken::new(rail, world.clone(), breach);
        let report = run(&Scripted::wrapped(custody, broken)).await;
        assert!(report.broken().any(|broken| broken.name == case), "{breach:?} was not caught by {case:?}:\n{report}");
    }
}
