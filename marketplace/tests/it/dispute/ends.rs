//! How disputes end, and who gets what then, on every custody.

use tradepost::{
    actor::Actor,
    dispute::{Award, DisputeCommand, DisputeEnding, DisputeEvent, DisputeStatus},
    error::Rejection,
    job::{HoldState, JobCommand, JobEvent, JobStatus},
    ledger::{Account, RevenueKind, TransferKind},
    policy::{DisputeFee, FeePayer, FeeReturn, OnExpiry, Policy, Range, Span},
    rail::Custody,
    store::Kept as _,
};

use super::desk::*;
use crate::support::*;

const AMOUNT: i64 = 10_001;

fn revenue(court: &Court) -> i128 {
    court.desk.books.of(Account::Revenue(RevenueKind::Fees))
}

/// To the worker, to the platform, back to the buyer: worked out here, not by the engine.
fn shares(policy: &Policy, award: Award) -> (i128, i128, i128) {
    // VP-21: 10 % of 100.01 is 10.001, out of the payout. JP-10: 3 % on top is 300.03.
    let fee = if policy.name == "VoxPact" { 1000 } else { 300 };
    let on_top = if policy.name == "VoxPact" { 0 } else { fee };
    let total = i128::from(AMOUNT) + on_top;
    let (gross, fee) = match award {
        Award::Buyer => (0, 0),
        Award::Worker => (i128::from(AMOUNT), fee),
        Award::Split { to_worker } if to_worker == rate("0.5") => (5000, if fee == 1000 { 499 } else { 149 }), // 5000.5 to the even one
        Award::Split { to_worker } if to_worker == rate("0.333") => (3330, if fee == 1000 { 332 } else { 99 }),
        Award::Split { .. } => panic!("not worked out"),
    };
    let worker = if on_top == 0 { gross - fee } else { gross };
    (worker, fee, total - worker - fee)
}

#[test]
fn vp_30_jp_13_every_ruling_divides_the_whole_hold_on_every_custody() {
    for custody in CUSTODIES {
        for policy in [voxpact(), just_pay()] {
            for award in [Award::Buyer, Award::Worker, split("0.5"), split("0.333")] {
                let mut policy = policy.clone();
                let disputes = policy.disputes.as_mut().unwrap();
                (disputes.split, disputes.fee) = (tradepost::policy::SplitRuling::Any, None);
                let opened = if disputes.categories.is_empty() { open() } else { quality() };
                let (to_worker, fee, back) = shares(&policy, award);
                let mut court = Court::delivered(policy, custody, AMOUNT);
                let before = court.got(buyer());
                court.must(by(buyer()), opened);
                if court.status() != DisputeStatus::Review {
                    court.must(operator(), DisputeCommand::Escalate { reason: String::new() });
                }
                court.must(operator(), ruling(award));
                court.desk.settle_rail();
                let case = format!("{custody:?} {award:?}");
                assert_eq!(court.got(worker()), to_worker, "{case}");
                assert_eq!(court.got(buyer()) - before, back, "{case}");
                assert_eq!(revenue(&court), fee, "{case}");
                assert_eq!(court.desk.books.of(Account::Escrow(court.desk.job().id.into())), 0, "{case}");
                assert_eq!(court.desk.books.sum(), 0, "{case}");
                assert_eq!(court.desk.job().hold.state, HoldState::Settled, "{case}");
                let ended = if award == Award::Buyer { JobStatus::Refunded } else { JobStatus::Completed };
                assert_eq!((court.desk.status(), court.status()), (ended, DisputeStatus::Resolved), "{case}");
                let said = DisputeEvent::Resolved { job: court.desk.job().id, ending: DisputeEnding::Ruled { award } };
                assert_eq!(court.events.last(), Some(&said));
            }
        }
    }
}

#[test]
fn vp_30_a_split_that_the_rail_declines_is_asked_for_again_and_nobody_loses_a_share() {
    let mut court = Court::disputed(voxpact(), Custody::PerHold, AMOUNT);
    court.must(operator(), DisputeCommand::Escalate { reason: String::new() });
    court.must(operator(), ruling(split("0.5")));
    let first = court.desk.last_instruction();
    court.desk.must(Actor::Rail(RAIL), outcome(&first, declined()));
    let again = court.desk.last_instruction();
    assert_ne!(first.id, again.id);
    assert_eq!(first.order, again.order);
    court.desk.settle_rail();
    assert_eq!((court.got(worker()), court.got(buyer())), (4501, 5001));
    assert_eq!(court.desk.books.sum(), 0);
}

#[test]
fn jp_13_the_fee_is_5_percent_within_limits_from_the_claimant_and_never_comes_back() {
    for (amount, fee) in [(1_000_000, 100_000), (20_000_000, 1_000_000), (1_000_000_000, 5_000_000)] {
        for award in [Award::Buyer, Award::Worker, split("0.5")] {
            let mut court = Court::delivered(just_pay(), Custody::Internal, amount);
            let before = court.got(buyer());
            court.must(by(buyer()), quality());
            assert_eq!(before - court.got(buyer()), fee);
            assert_eq!(court.desk.moved[&TransferKind::DisputeFee], fee);
            court.must(operator(), ruling(award));
            assert_eq!(court.desk.books.of(Account::Revenue(RevenueKind::Disputes)), fee, "whoever wins");
        }
    }
    let mut poor = Court::delivered(just_pay(), Custody::Internal, 1_000_000);
    let refused = poor.give(by(worker()), quality()).unwrap_err();
    assert!(matches!(refused, Rejection::Ledger(_)), "the worker's wallet is empty: {refused}");
    assert_eq!((poor.desk.status(), poor.dispute), (JobStatus::Delivered, None), "nothing is written");
}

#[test]
fn jp_13_the_policys_split_is_the_only_one_and_agreements_are_free() {
    let mut court = Court::delivered(just_pay(), Custody::Internal, AMOUNT);
    court.desk.deposit_to(worker(), 1_000_000);
    court.must(by(buyer()), quality());
    let (to_worker, allowed) = (rate("0.4"), "50 %".to_owned());
    let refused = Rejection::Share { command: "rule", to_worker, allowed };
    assert_eq!(court.give(operator(), ruling(split("0.4"))), Err(refused));
    court.must(by(worker()), DisputeCommand::Offer { award: split("0.4") });
    court.must(by(buyer()), DisputeCommand::AcceptOffer { award: split("0.4") });
    assert_eq!((court.status(), court.desk.status()), (DisputeStatus::Settled, JobStatus::Completed));
    assert_eq!(court.got(worker()) - 1_000_000, 4000);
}

#[test]
fn a_fee_of_both_sides_is_halved_owed_and_returned_to_the_winner() {
    let fee = DisputeFee {
        rate: rate("0"),
        limits: Range { min: 101, max: 101 },
        rounding: Default::default(),
        payer: FeePayer::Both,
        returned: FeeReturn::ToWinner,
    };
    let mut policy = voxpact();
    policy.disputes.as_mut().unwrap().fee = Some(fee);
    for (award, kept) in [(Award::Buyer, 50), (Award::Worker, 51), (split("0.5"), 101)] {
        let mut court = Court::delivered(policy.clone(), Custody::Internal, AMOUNT);
        court.must(by(buyer()), open());
        assert_eq!((court.dispute().fees.buyer.minor(), court.dispute().fees.worker.minor()), (51, 50));
        assert_eq!(court.desk.books.of(Account::Debt(worker())), -50, "an empty wallet keeps nobody from disputing");
        court.must(operator(), DisputeCommand::Escalate { reason: String::new() });
        court.must(operator(), ruling(award));
        assert_eq!(court.desk.books.of(Account::Revenue(RevenueKind::Disputes)), kept, "{award:?}");
        assert_eq!(court.desk.books.sum(), 0);
    }
}

#[test]
fn the_parties_settle_by_an_offer_and_its_acceptance_before_a_ruling() {
    let mut court = Court::disputed(voxpact(), Custody::Internal, AMOUNT);
    let accept = |award| DisputeCommand::AcceptOffer { award };
    assert_eq!(court.give(by(worker()), accept(Award::Buyer)), Err(Rejection::NoSuchOffer));
    court.must(by(buyer()), DisputeCommand::Offer { award: split("0.9") });
    assert_eq!(court.give(by(buyer()), accept(split("0.9"))), Err(Rejection::NoSuchOffer), "one's own");
    court.must(by(buyer()), DisputeCommand::Offer { award: split("0.5") });
    let other = court.give(by(worker()), accept(split("0.9")));
    assert_eq!(other, Err(Rejection::NoSuchOffer), "what was replaced meanwhile");
    for share in ["0", "1"] {
        let refused = court.give(by(buyer()), DisputeCommand::Offer { award: split(share) }).unwrap_err();
        assert!(matches!(refused, Rejection::Share { command: "offer_settlement", .. }));
    }
    let mut ruled = court.clone();
    ruled.judged(Award::Worker, "1");
    let late = ruled.give(by(worker()), accept(split("0.5"))).unwrap_err();
    assert!(matches!(late, Rejection::WrongDisputeStatus { status: DisputeStatus::Ruled, .. }));
    court.must(by(worker()), accept(split("0.5")));
    assert_eq!((court.status(), court.got(worker())), (DisputeStatus::Settled, 4501));
    let ended = court.give(operator(), ruling(Award::Buyer)).unwrap_err();
    assert!(matches!(ended, Rejection::WrongDisputeStatus { .. }), "there is nothing left to rule");
}

#[test]
fn a_withdrawn_dispute_gives_the_job_its_time_back() {
    let mut court = Court::delivered(voxpact(), Custody::Internal, AMOUNT);
    let release = court.desk.job().due_at().unwrap();
    court.wait(Span::hours(5)).must(by(buyer()), open()).wait(Span::hours(20));
    let refused = court.give(by(worker()), DisputeCommand::Withdraw).unwrap_err();
    assert!(matches!(refused, Rejection::WrongActor { allowed: "the party that opened it", .. }));
    court.must(by(buyer()), DisputeCommand::Withdraw);
    assert_eq!((court.status(), court.desk.status()), (DisputeStatus::Withdrawn, JobStatus::Delivered));
    assert_eq!(court.desk.job().due_at(), Some(release + Span::hours(20).delta()));
    assert_eq!(court.desk.job().dispute, None);
    court.desk.must(by(buyer()), JobCommand::Approve);
    assert_eq!(court.got(worker()), 9001);
}

#[test]
fn who_has_appealed_cannot_withdraw_what_was_ruled() {
    let mut court = Court::disputed(voxpact(), Custody::Internal, AMOUNT);
    court.judged(Award::Worker, "1").must(by(buyer()), appeal());
    let refused = Rejection::DoneBefore { what: "the dispute was ruled" };
    assert_eq!(court.give(by(buyer()), DisputeCommand::Withdraw), Err(refused));
}

#[test]
fn when_the_rail_can_hold_the_money_no_longer_a_ruling_is_carried_out_or_the_policy_decides() {
    let expiry = |on| {
        let mut policy = voxpact();
        policy.disputes.as_mut().unwrap().hold_expiry = on;
        policy
    };
    for (on, status) in [(OnExpiry::Refund, JobStatus::Refunded), (OnExpiry::Release, JobStatus::Completed)] {
        let mut court = Court::disputed(expiry(on), Custody::PerHold, AMOUNT);
        court.must(operator(), DisputeCommand::Escalate { reason: String::new() });
        court.desk.now = court.dispute().hold_until.unwrap();
        court.must(Actor::Timer, DisputeCommand::Tick);
        assert_eq!((court.status(), court.desk.status()), (DisputeStatus::Lapsed, status));
    }
    let mut ruled = Court::disputed(expiry(OnExpiry::Refund), Custody::PerHold, AMOUNT);
    ruled.judged(split("0.5"), "1");
    let until = ruled.dispute().hold_until.unwrap();
    assert!(until < ruled.dispute().deadline.unwrap(), "the rail does not wait for the appeal");
    ruled.desk.now = until;
    let late = ruled.clone().give(by(buyer()), appeal()).unwrap_err();
    assert!(matches!(late, Rejection::TooLate { command: "appeal", .. }));
    ruled.must(Actor::Timer, DisputeCommand::Tick);
    ruled.desk.settle_rail();
    assert_eq!((ruled.status(), ruled.got(worker())), (DisputeStatus::Lapsed, 4501));
    assert_eq!(ruled.desk.books.sum(), 0);
}

#[test]
fn when_the_rail_gives_the_money_back_by_itself_job_and_dispute_are_over() {
    let mut court = Court::disputed(voxpact(), Custody::PerHold, AMOUNT);
    court.must_job(Actor::Rail(RAIL), JobCommand::RecordHoldExpired);
    assert_eq!((court.status(), court.desk.status()), (DisputeStatus::Lapsed, JobStatus::Cancelled));
    assert_eq!(court.events.last(), Some(&DisputeEvent::Lapsed { job: court.desk.job().id }));
    assert_eq!(court.dispute().due_at(), None);
    let refused = court.give(operator(), ruling(Award::Worker)).unwrap_err();
    assert!(matches!(refused, Rejection::WrongDisputeStatus { status: DisputeStatus::Lapsed, .. }));
}

#[test]
fn vp_39_a_frozen_job_freezes_its_dispute_and_nobody_loses_time_by_it() {
    let mut court = Court::disputed(voxpact(), Custody::PerHold, AMOUNT);
    court.judged(Award::Buyer, "1");
    let (appeal_until, hold_until) = (court.dispute().deadline.unwrap(), court.dispute().hold_until.unwrap());
    court.must_job(operator(), freeze());
    assert_eq!(court.dispute().due_at(), Some(hold_until), "the rail's clock goes on");
    let refused = court.give(by(worker()), appeal()).unwrap_err();
    assert!(matches!(refused, Rejection::WrongStatus { status: JobStatus::Frozen, .. }));
    court.wait(Span::hours(30)).must_job(operator(), JobCommand::Unfreeze);
    assert_eq!(court.desk.status(), JobStatus::Disputed);
    assert_eq!(court.dispute().deadline, Some(appeal_until + Span::hours(30).delta()));
    court.must_job(operator(), freeze());
    court.desk.now = hold_until;
    court.must(Actor::Timer, DisputeCommand::Tick);
    assert_eq!((court.status(), court.desk.status()), (DisputeStatus::Lapsed, JobStatus::Refunded));
    assert_eq!(court.desk.job().frozen, None);
}

#[test]
fn a_ruling_says_on_the_job_what_happened_and_that_no_timer_released_it() {
    let mut court = Court::disputed(voxpact(), Custody::Internal, AMOUNT);
    court.judged(Award::Worker, "1").let_time_pass();
    let events: Vec<_> = court.desk.events.iter().map(JobEvent::name).collect();
    assert_eq!(&events[events.len() - 3..], ["job.disputed", "job.dispute_ended", "job.completed"]);
    assert!(matches!(court.desk.events.last(), Some(JobEvent::Completed { auto_released: false, .. })));
}
