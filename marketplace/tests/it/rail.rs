//! Rails: the contract, the scripted rail, the layers.

mod broken;
mod harness;
mod layers;
mod memory;
mod world;

use std::{sync::Arc, time::Duration};

use tradepost::{
    clock::{ManualClock, Timestamp},
    money::{Currency, Money},
    rail::{
        Capability, CreditsRail, Custody, Landing, LegReceipt, Party, Receipt, SettlementRail,
        layers::{Retries, Retry, Timeout, Trace},
    },
    testkit::{
        Disorder, OutsideWorld, ScriptedRail,
        rail::{Report, run},
    },
};

use broken::{Breach, Broken, Written};
use harness::Scripted;

const CUSTODIES: [(Custody, usize); 3] = [(Custody::Pooled, 28), (Custody::PerHold, 100), (Custody::NonCustodial, 46)];

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

/// Payments that their banks take back: each chargeback is opened and won or lost, before and after payout.
#[tokio::test]
async fn chargebacks_are_within_the_contract() {
    for disorder in [Disorder::None, Disorder::RepeatedAndShuffled] {
        let scripted = Scripted::reversible();
        scripted.world.disorder(disorder);
        let report = run(&scripted).await;
        report.assert_kept();
        assert_eq!(report.ran(), 103, "{report}");
    }
}

#[tokio::test]
async fn a_rail_that_cannot_split_refuses_two_legs_and_settles_one() {
    let mut scripted = Scripted::new(Custody::PerHold, Currency::EUR);
    scripted.profile.capabilities.retain(|capability| *capability != Capability::Split);
    let report = run(&scripted).await;
    report.assert_kept();
    assert_eq!(report.ran(), 101, "{report}"); // one more: two legs are refused
}

#[tokio::test]
async fn the_credits_rail_is_asked_for_nothing() {
    let report = run(&Scripted::wrapped(Custody::Internal, |_, _| CreditsRail::new(Currency::CREDIT))).await;
    report.assert_kept();
    // Each order refused, pushes refused, holdings of nothing.
    assert_eq!(report.ran(), 7, "{report}");
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
const BREACHES: [(Breach, Custody, &str); 22] = [
    (Breach::TakesEffectWithEveryCall, Custody::Pooled, "payout: the same instruction twice"),
    (Breach::RacesWithItself, Custody::PerHold, "settle: twice at once, in two processes"),
    (Breach::WritesDownTooLate, Custody::NonCustodial, "fund: dropped in the middle"),
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
        let written = Written::default();
        let broken = move |rail, world: &OutsideWorld| Broken::new(rail, world.clone(), breach, written.clone());
        let report = run(&Scripted::wrapped(custody, broken)).await;
        assert!(report.broken().any(|broken| broken.name == case), "{breach:?} was not caught by {case:?}:\n{report}");
    }
}

/// A receipt that differs from what was asked for in any field is an incident, not a success.
#[test]
fn a_receipt_is_compared_with_what_was_asked_for() {
    let scripted = Scripted::new(Custody::PerHold, Currency::EUR);
    let instruction = scripted.fund(500);
    let euros = |minor| Money::new(minor, Currency::EUR);
    let good = Receipt {
        instruction: instruction.id,
        reference: "effect-1".into(),
        amount: euros(500),
        legs: Vec::new(),
        cost: Some(euros(0)),
        hold_expires_at: None,
    };
    assert_eq!(instruction.check(&good), Ok(()));
    let gained = Receipt { cost: Some(euros(-1)), ..good.clone() };
    assert_eq!(instruction.check(&gained), Ok(()), "an exchange may bring more than the fee");
    let leg = LegReceipt { to: Party::Platform, amount: euros(500), landing: Landing::Held, reference: "x".into() };
    let bad = [
        ("instruction", Receipt { instruction: scripted.fund(500).id, ..good.clone() }),
        ("reference", Receipt { reference: String::new(), ..good.clone() }),
        ("amount", Receipt { amount: euros(499), ..good.clone() }),
        ("amount", Receipt { amount: Money::new(500, Currency::USDC), ..good.clone() }),
        ("legs", Receipt { legs: vec![leg], ..good.clone() }),
        ("cost", Receipt { cost: Some(Money::new(1, Currency::USDC)), ..good.clone() }),
    ];
    for (field, receipt) in bad {
        assert_eq!(instruction.check(&receipt).unwrap_err().field, field, "{receipt:?}");
    }
}
