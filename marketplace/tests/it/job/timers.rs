//! VP-39: what happens by itself; and freezing, which stops it.

use tradepost::store::Kept as _;
use tradepost::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    job::{CancelCause, HoldState, Job, JobCommand, JobEvent, JobStatus, Timers},
    ledger::{Account, escrow},
    policy::{OnExpiry, Span},
    rail::{Custody, Landing, Leg, Order, Outcome, Party},
};

use crate::support::*;

fn cause(desk: &Desk) -> CancelCause {
    match desk.events.iter().rev().find(|event| matches!(event, JobEvent::Cancelled { .. })) {
        Some(JobEvent::Cancelled { cause, .. }) => *cause,
        other => panic!("not called off: {other:?}"),
    }
}

/// Nothing happens before the moment; at it and after it the job is called off for this cause, and
/// the buyer has everything back.
fn fires(desk: &Desk, at: Timestamp, expected: CancelCause, event: &str) {
    assert_eq!(desk.job().due_at(), Some(at));
    let mut before = desk.clone();
    before.wait_until(Desk::just_before(at));
    assert_eq!(before.tick(), Err(Rejection::NothingDue { next: Some(at) }));
    for moment in [at, at + Span::hours(1).delta()] {
        let mut desk = desk.clone();
        desk.wait_until(moment);
        let events = desk.tick().unwrap();
        assert_eq!(events.last().unwrap().name(), event);
        assert_eq!((desk.status(), cause(&desk)), (JobStatus::Cancelled, expected));
        assert_eq!(desk.job().timers, Timers::default());
        assert_eq!(desk.tick(), Err(Rejection::NothingDue { next: None }), "a timer fires once");
        desk.settle_rail();
        assert_eq!(desk.books.of(escrow(desk.job().id)), 0);
        assert_eq!(desk.got(worker()), 0);
    }
}

fn vox(custody: Custody) -> Desk {
    Desk::new(voxpact(), custody).funded(10_000)
}

fn accepted(mut desk: Desk) -> Desk {
    desk.must(by(worker()), JobCommand::Accept);
    desk
}

fn started(desk: Desk) -> Desk {
    let mut desk = accepted(desk);
    desk.must(by(worker()), JobCommand::Start);
    desk
}

fn delivered(desk: Desk) -> Desk {
    let mut desk = started(desk);
    desk.must(by(worker()), deliver());
    desk
}

fn revising(desk: Desk) -> Desk {
    let mut desk = delivered(desk);
    desk.must(by(buyer()), revise());
    desk
}

/// A job whose worker has plenty of time, so that the other clocks strike first.
fn unhurried(custody: Custody) -> Desk {
    let mut desk = Desk::new(voxpact(), custody);
    let mut long = order(desk.money(10_000));
    long.deadline = Some(Span::hours(720));
    desk.must(by(buyer()), post(long)).settle_rail();
    desk
}

#[test]
fn vp_39_a_payer_who_does_not_pay_loses_the_job() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    desk.must(Actor::Rail(RAIL), outcome(&desk.last_instruction(), declined()));
    fires(&desk, start() + Span::hours(24).delta(), CancelCause::Unpaid, "job.cancelled");
}

#[test]
fn vp_39_the_deadline_is_missed() {
    let at = start() + Span::hours(72).delta();
    for custody in CUSTODIES {
        for stage in [accepted, started, std::convert::identity] {
            fires(&stage(vox(custody)), at, CancelCause::DeadlineExpired, "job.deadline_expired");
        }
    }
}

#[test]
fn vp_39_changes_are_due_too() {
    let mut desk = revising(vox(Custody::Internal));
    fires(&desk, start() + Span::hours(72).delta(), CancelCause::DeadlineExpired, "job.deadline_expired");
    desk.wait_until(start() + Span::hours(72).delta());
    let too_late = Rejection::TooLate { command: "deliver", deadline: desk.now, now: desk.now };
    assert_eq!(desk.ask(&by(worker()), &deliver()), Err(too_late));
}

#[test]
fn vp_39_accepted_and_never_delivered_is_stale() {
    let mut desk = unhurried(Custody::Internal);
    desk.wait(Span::hours(10));
    let at = start() + Span::hours(178).delta();
    for stage in [accepted, started] {
        fires(&stage(desk.clone()), at, CancelCause::Stale, "job.stale_cancelled");
    }
}

#[test]
fn vp_39_a_hold_that_would_expire_is_given_back_before() {
    let at = start() + Span::hours(7 * 24 - 6).delta();
    for custody in [Custody::PerHold, Custody::NonCustodial] {
        for stage in [std::convert::identity, accepted, started] {
            fires(&stage(unhurried(custody)), at, CancelCause::HoldExpired, "job.expired");
        }
    }
}

#[test]
fn vp_39_a_delivered_jobs_hold_is_released_or_given_back_as_the_policy_says() {
    for (delivered_then, status) in
        [(OnExpiry::Release, JobStatus::Completed), (OnExpiry::Refund, JobStatus::Cancelled)]
    {
        let mut desk = unhurried(Custody::PerHold);
        desk.policy.jobs.hold_expiry.delivered = delivered_then;
        desk.wait(Span::hours(160));
        let mut desk = delivered(desk);
        let at = start() + Span::hours(7 * 24 - 6).delta();
        assert_eq!(desk.job().due_at(), Some(at), "earlier than the buyer's 48 h");
        desk.wait_until(Desk::just_before(at));
        assert_eq!(desk.tick(), Err(Rejection::NothingDue { next: Some(at) }));
        desk.wait_until(at).tick().unwrap();
        assert_eq!(desk.status(), status);
        desk.settle_rail();
        assert_eq!(desk.got(worker()), if status == JobStatus::Completed { 9000 } else { 0 });
    }
}

#[test]
fn vp_39_the_receipts_own_expiry_counts_before_the_profiles() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    let asked = desk.last_instruction();
    let answered = |expires: Timestamp| {
        let mut receipt = receipt(&asked, Landing::Outside);
        receipt.hold_expires_at = Some(expires);
        let decision = desk.ask(&Actor::Rail(RAIL), &outcome(&asked, Outcome::Done(receipt)));
        decision.unwrap().job.timers.hold_until
    };
    let (now, margin) = (desk.now, Span::hours(6).delta());
    assert_eq!(answered(now + Span::hours(96).delta()), Some(now + Span::hours(90).delta()));
    assert_eq!(answered(now + margin / 2), Some(now), "at once, and never in the past");
    assert_eq!(answered(Timestamp::MIN_UTC), Some(now));
    assert_eq!(answered(Timestamp::MAX_UTC), Some(Timestamp::MAX_UTC - margin));
    desk.settle_rail();
}

#[test]
fn vp_39_the_rail_gives_a_hold_up_by_itself_in_any_status() {
    for stage in [std::convert::identity, accepted, started, delivered, revising] {
        let mut desk = stage(vox(Custody::PerHold));
        desk.must(Actor::Rail(RAIL), JobCommand::RecordHoldExpired);
        assert_eq!((desk.status(), cause(&desk)), (JobStatus::Cancelled, CancelCause::HoldExpired));
        assert_eq!(desk.books.of(Account::Rail(RAIL)), 0, "the money is back with its payer");
        assert_eq!(desk.books.of(escrow(desk.job().id)), 0);
        assert_eq!(desk.job().hold.state, HoldState::Settled);
        assert_eq!(desk.instructions.len(), 1, "the rail is asked nothing more");
        let again = desk.ask(&Actor::Rail(RAIL), &JobCommand::RecordHoldExpired);
        assert_eq!(again, Err(Rejection::WrongHold { command: "record_hold_expired", state: "divided" }));
    }
}

/// PG-17: where a contract holds the money, what the parties did there is what happened.
#[test]
fn pg_17_parties_who_divide_a_hold_by_themselves_end_the_job_in_any_status() {
    for stage in [std::convert::identity, accepted, started, delivered, revising] {
        for (to_worker, status) in [(9_000, JobStatus::Completed), (0, JobStatus::Refunded)] {
            let mut desk = stage(vox(Custody::NonCustodial));
            desk.must(Actor::Rail(RAIL), outside(&desk, [to_worker, to_worker / 90, 10_000 - to_worker / 90 * 91]));
            assert_eq!((desk.status(), desk.job().hold.state), (status, HoldState::Settled));
            assert_eq!(desk.books.of(Account::Rail(RAIL)), 0, "all of it has left");
            assert_eq!(desk.books.of(escrow(desk.job().id)), 0);
            assert_eq!(desk.books.of(Account::Pending(worker())), 0);
            assert_eq!(
                desk.books.of(Account::Treasury(RAIL)),
                i128::from(-to_worker / 90),
                "the platform's share is its own"
            );
            assert_eq!(desk.instructions.len(), 1, "the rail is asked nothing");
            let again = desk.ask(&Actor::Rail(RAIL), &outside(&desk, [10_000, 0, 0]));
            assert_eq!(again, Err(Rejection::WrongHold { command: "record_hold_settled", state: "divided" }));
        }
    }
}

/// PG-17: the shares that were decided are taken back, and those that the parties chose are booked.
#[test]
fn pg_17_what_the_parties_divided_stands_against_what_the_rail_was_asked() {
    let mut desk = delivered(vox(Custody::NonCustodial));
    desk.must(by(buyer()), JobCommand::Approve);
    let settle = desk.last_instruction();
    desk.must(Actor::Rail(RAIL), outside(&desk, [4_000, 100, 5_900]));
    assert_eq!((desk.status(), desk.job().hold.state), (JobStatus::Completed, HoldState::Settled));
    for account in [Account::Rail(RAIL), Account::Pending(worker()), Account::Clearing(RAIL), escrow(desk.job().id)] {
        assert_eq!(desk.books.of(account), 0, "{account}");
    }
    assert_eq!(desk.books.of(Account::Treasury(RAIL)), -100);
    let late = desk.ask(&Actor::Rail(RAIL), &outcome(&settle, declined()));
    assert_eq!(late, Err(Rejection::WrongHold { command: "record_outcome", state: "divided" }));
}

#[test]
fn pg_17_a_division_that_is_not_the_holds_is_refused() {
    let desk = delivered(vox(Custody::NonCustodial));
    for shares in [[10_000, 1, 0], [9_999, 0, 0], [10_001, -1, 0]] {
        let answer = desk.ask(&Actor::Rail(RAIL), &outside(&desk, shares));
        assert!(matches!(answer, Err(Rejection::Receipt(_))), "{answer:?}");
    }
    let custodial = delivered(vox(Custody::PerHold));
    let needed = Custody::NonCustodial;
    let refused = Rejection::WrongRail { command: "record_hold_settled", rail: RAIL, needed };
    assert_eq!(custodial.ask(&Actor::Rail(RAIL), &outside(&custodial, [10_000, 0, 0])), Err(refused));
}

/// PG-04: the payer signs who may earn the hold and the most that the platform may take of it.
#[test]
fn pg_04_the_payer_is_told_payee_and_fee_ceiling() {
    let desk = vox(Custody::NonCustodial);
    let Order::Fund { terms, .. } = desk.last_instruction().order else { panic!("not a funding") };
    assert_eq!(terms.payee, Some(worker()));
    let fee = desk.job().terms.fee.minor();
    let of_cancelling = desk.policy.jobs.cancellation.values().map(|terms| {
        let (to_worker, to_platform) = terms.shares(desk.money(10_000), desk.policy.fees.rounding).unwrap();
        (to_platform.minor(), to_worker.minor() + to_platform.minor())
    });
    for (platform, of) in of_cancelling.chain([(fee, 10_000)]).filter(|(_, of)| *of > 0) {
        let allowed = terms.fee_ceiling.share() * rust_decimal::Decimal::from(of);
        assert!(rust_decimal::Decimal::from(platform) <= allowed, "{platform} of {of}, ceiling {}", terms.fee_ceiling);
    }
}

fn outside(desk: &Desk, [worker_share, platform, buyer_share]: [i64; 3]) -> JobCommand {
    let to =
        [(Party::Worker(worker()), worker_share), (Party::Platform, platform), (Party::Buyer(buyer()), buyer_share)];
    let legs = to.into_iter().filter(|(_, minor)| *minor != 0);
    let legs = legs.map(|(to, minor)| Leg { to, amount: desk.money(minor) }).collect();
    JobCommand::RecordHoldSettled { reference: "outside".into(), legs }
}

#[test]
fn vp_39_a_hold_that_was_never_taken_cannot_expire() {
    let refused = |desk: &Desk, state| {
        let answer = desk.ask(&Actor::Rail(RAIL), &JobCommand::RecordHoldExpired);
        assert_eq!(answer, Err(Rejection::WrongHold { command: "record_hold_expired", state }));
    };
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    desk.must(Actor::Rail(RAIL), outcome(&desk.last_instruction(), declined()));
    refused(&desk, "not reserved");
}

/// What the rail tells in the wrong order comes out the same: the money came and went.
#[test]
fn vp_39_a_hold_that_expires_before_its_funding_is_known_ends_the_job() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    desk.must(Actor::Rail(RAIL), JobCommand::RecordHoldExpired);
    assert_eq!(desk.status(), JobStatus::PendingPayment);
    desk.must(Actor::Rail(RAIL), outcome(&desk.last_instruction(), done(&desk.last_instruction())));
    assert_eq!(desk.status(), JobStatus::Cancelled);
    came_and_went(&desk);
}

/// The job was called off before either was known: nothing is left to end, and the log says still where
/// the money went.
#[test]
fn vp_39_a_hold_that_expires_before_its_funding_is_known_returns_a_called_off_jobs_money() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    desk.must(by(buyer()), cancel()).must(Actor::Rail(RAIL), JobCommand::RecordHoldExpired);
    let told = desk.give(Actor::Rail(RAIL), outcome(&desk.last_instruction(), done(&desk.last_instruction())));
    let amount = desk.job().terms.total().unwrap();
    assert_eq!(told, Ok(vec![JobEvent::PaymentLost { amount }]));
    came_and_went(&desk);
}

fn came_and_went(desk: &Desk) {
    assert!(desk.books.is_empty(), "{:?}", desk.books);
    assert_eq!(desk.job().hold.state, HoldState::Settled);
    assert_eq!(desk.job().due_at(), None);
    assert_eq!(desk.instructions.len(), 1, "the rail is asked nothing more");
}

/// The payer has everything back, so every share leaves the account where it waited; the settlement that
/// the rail then declines has nothing to be asked for again.
#[test]
fn vp_39_a_hold_that_expires_while_it_is_divided_pays_nobody() {
    let mut desk = delivered(vox(Custody::PerHold));
    desk.must(by(buyer()), JobCommand::Approve);
    let settle = desk.last_instruction();
    desk.must(Actor::Rail(RAIL), JobCommand::RecordHoldExpired);
    assert_eq!(desk.events.last(), Some(&JobEvent::PaymentLost { amount: desk.money(10_000) }));
    assert_eq!(desk.status(), JobStatus::Completed);
    assert!(desk.books.is_empty(), "{:?}", desk.books);
    let late = desk.ask(&Actor::Rail(RAIL), &outcome(&settle, declined()));
    assert_eq!(late, Err(Rejection::WrongHold { command: "record_outcome", state: "divided" }));
}

/// What time has decided stands, however late its timer fires.
#[test]
fn a_party_is_too_late_once_a_timer_is_due() {
    let too_late = |desk: &Desk, actor: Actor, command: JobCommand| {
        let deadline = desk.job().due_at().unwrap();
        let refused = Rejection::TooLate { command: command.name(), deadline, now: desk.now };
        assert_eq!(desk.ask(&actor, &command), Err(refused));
        let mut in_time = desk.clone();
        in_time.wait_until(Desk::just_before(deadline));
        in_time.must(actor, command);
    };
    let late = |mut desk: Desk, hours| {
        desk.wait(Span::hours(hours));
        desk
    };
    let mut unpaid = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    unpaid.must(Actor::Rail(RAIL), outcome(&unpaid.last_instruction(), declined()));
    too_late(&late(unpaid, 24), by(buyer()), JobCommand::RetryPayment);
    too_late(&late(vox(Custody::Internal), 72), by(worker()), JobCommand::Accept);
    too_late(&late(accepted(vox(Custody::Internal)), 72), by(worker()), JobCommand::Start);
    too_late(&late(started(vox(Custody::Internal)), 72), by(worker()), deliver());
    too_late(&late(started(vox(Custody::Internal)), 100), by(buyer()), cancel());
    too_late(&late(delivered(vox(Custody::Internal)), 48), by(buyer()), revise());
    // What comes out the same is never too late.
    let mut desk = late(delivered(vox(Custody::Internal)), 49);
    desk.must(by(buyer()), JobCommand::Approve);
}

#[test]
fn a_late_payment_of_a_cancelled_job_goes_back() {
    for custody in [Custody::PerHold, Custody::NonCustodial] {
        let by_time = |desk: &mut Desk| assert_eq!(desk.wait(Span::hours(24)).tick().unwrap().len(), 1);
        let by_the_buyer =
            |desk: &mut Desk| assert_eq!(desk.must(by(buyer()), cancel()).status(), JobStatus::Cancelled);
        for call_off in [&by_time as &dyn Fn(&mut Desk), &by_the_buyer] {
            let mut desk = Desk::new(voxpact(), custody).posted(10_000);
            let funding = desk.last_instruction();
            call_off(&mut desk);
            assert_eq!(desk.status(), JobStatus::Cancelled);
            assert_eq!(desk.instructions.len(), 1);
            desk.must(Actor::Rail(RAIL), outcome(&funding, done(&funding)));
            assert_eq!(desk.status(), JobStatus::Cancelled);
            assert_eq!(*desk.events.last().unwrap(), JobEvent::PaymentReturned { amount: desk.money(10_000) });
            assert_eq!(desk.job().due_at(), None, "nothing is left to expire");
            desk.settle_rail();
            assert_eq!(desk.got(buyer()), 10_000);
            assert_eq!((desk.books.of(Account::Rail(RAIL)), desk.job().hold.state), (0, HoldState::Settled));
        }
    }
}

#[test]
fn a_payment_of_a_cancelled_job_that_is_declined_is_over() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    desk.must(by(buyer()), cancel());
    desk.must(Actor::Rail(RAIL), outcome(&desk.last_instruction(), declined()));
    assert_eq!((desk.status(), desk.job().hold.state), (JobStatus::Cancelled, HoldState::Empty));
    assert_eq!(desk.instructions.len(), 1);
}

// ---- freezing ----

fn moved(timers: Timers, by: Span) -> Timers {
    let later = |at: Option<Timestamp>| at.map(|at| at + by.delta());
    Timers {
        fund_by: later(timers.fund_by),
        stale_at: later(timers.stale_at),
        deadline: later(timers.deadline),
        release_at: later(timers.release_at),
        hold_until: timers.hold_until, // the rail's own clock goes on
    }
}

#[test]
fn vp_39_unfreezing_from_any_status_moves_every_deadline_by_the_pause() {
    let pending = || Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    let validating = || {
        let mut desk = Desk::new(voxpact(), Custody::PerHold);
        let mut validated = order(desk.money(10_000));
        validated.validation = Some(serde_json::json!({}));
        desk.must(by(buyer()), post(validated)).settle_rail();
        accepted(desk).must(by(worker()), deliver()).clone()
    };
    let held = || vox(Custody::PerHold);
    let stages =
        [pending(), held(), accepted(held()), started(held()), validating(), delivered(held()), revising(held())];
    let mut statuses = Vec::new();
    for mut desk in stages {
        let before: Job = desk.job().clone();
        statuses.push(before.status);
        desk.wait(Span::hours(5)).must(operator(), freeze());
        assert_eq!(desk.status(), JobStatus::Frozen);
        assert_eq!(desk.job().due_at(), before.timers.hold_until, "only the rail's clock goes on");
        desk.wait(Span::hours(100));
        assert!(matches!(desk.tick(), Err(Rejection::NothingDue { .. })), "deadlines stand still");
        desk.must(operator(), JobCommand::Unfreeze);
        let expected = Job { timers: moved(before.timers, Span::hours(100)), ..before };
        assert_eq!(*desk.job(), expected);
    }
    assert_eq!(statuses.len(), 7);
    statuses.dedup();
    assert_eq!(statuses.len(), 7);
}

#[test]
fn vp_39_a_payment_may_arrive_while_frozen() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    desk.must(operator(), freeze()).wait(Span::hours(2)).settle_rail();
    assert_eq!(desk.status(), JobStatus::Frozen);
    assert_eq!(desk.books.of(escrow(desk.job().id)), 10_000);
    desk.wait(Span::hours(3)).must(operator(), JobCommand::Unfreeze);
    assert_eq!(desk.status(), JobStatus::Funded);
    assert_eq!(desk.job().timers.fund_by, None);
    assert_eq!(desk.job().timers.deadline, Some(start() + Span::hours(77).delta()));
}

#[test]
fn vp_39_a_payment_may_fail_while_frozen() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    desk.must(operator(), freeze());
    desk.must(Actor::Rail(RAIL), outcome(&desk.last_instruction(), declined()));
    desk.must(operator(), JobCommand::Unfreeze).must(by(buyer()), JobCommand::RetryPayment).settle_rail();
    assert_eq!(desk.status(), JobStatus::Funded);
}

/// A clock that starts during the pause has its full length after it, and no more.
#[test]
fn vp_39_a_job_accepted_by_its_payment_while_frozen_has_its_full_time_afterwards() {
    let mut desk = Desk::new(just_pay(), Custody::PerHold).posted(2_000_000);
    desk.must(operator(), freeze()).wait(Span::seconds(60)).settle_rail();
    desk.wait(Span::seconds(600)).must(operator(), JobCommand::Unfreeze);
    assert_eq!(desk.status(), JobStatus::Accepted);
    assert_eq!(desk.job().timers.deadline, Some(desk.now + Span::seconds(300).delta()));
}

#[test]
fn vp_39_an_expiring_hold_of_a_frozen_job_goes_back_delivered_or_not() {
    let at = start() + Span::hours(7 * 24 - 6).delta();
    for stage in [std::convert::identity, accepted, started, delivered, revising] {
        let mut desk = stage(vox(Custody::PerHold));
        desk.must(operator(), freeze());
        fires(&desk, at, CancelCause::HoldExpired, "job.expired");
        desk.must(Actor::Rail(RAIL), JobCommand::RecordHoldExpired);
        assert_eq!((desk.status(), desk.job().frozen), (JobStatus::Cancelled, None));
    }
}

#[test]
fn vp_39_a_clock_that_steps_back_takes_no_time_from_anybody() {
    let mut desk = started(vox(Custody::Internal));
    let before = desk.job().timers;
    desk.wait(Span::hours(5)).must(operator(), freeze());
    desk.wait_until(start()).must(operator(), JobCommand::Unfreeze);
    assert_eq!(desk.job().timers, before);
}
