//! Each rule of the measured systems, with its exact amounts, on every custody.

use tradepost::{
    actor::Actor,
    error::Rejection,
    job::{CancelCause, HoldState, JobCommand, JobEvent, JobStatus, PayoutStatus, Verdict},
    ledger::{Account, LedgerError, RevenueKind, TransferKind, escrow},
    policy::{OnPass, Span},
    rail::{Action, Capability, Custody, Landing, Order, Outcome, Party},
};

use crate::support::*;

const FEES: Account = Account::Revenue(RevenueKind::Fees);
const CANCELLATIONS: Account = Account::Revenue(RevenueKind::Cancellations);

/// What an ended job has left behind, in minor units.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    status: JobStatus,
    worker: i128,
    fees: i128,
    cancellations: i128,
    /// What the job cost the buyer in all.
    cost: i128,
}

fn ended(desk: &mut Desk) -> Ended {
    desk.settle_rail();
    assert_eq!(desk.job().hold.state, HoldState::Settled);
    assert_eq!(desk.books.of(escrow(desk.job().id)), 0, "an ended job's escrow is empty");
    assert_eq!(desk.books.of(Account::Pending(worker())), 0);
    assert_eq!(desk.books.of(Account::Clearing(RAIL)), 0);
    assert_eq!(desk.books.sum(), 0);
    let total = i128::from(desk.job().terms.total().unwrap().minor());
    let cost = match desk.rail.custody.is_per_hold() {
        true => total - desk.got(buyer()),
        false => i128::from(WEALTH) - desk.got(buyer()),
    };
    let (fees, cancellations) = (desk.books.of(FEES), desk.books.of(CANCELLATIONS));
    Ended { status: desk.status(), worker: desk.got(worker()), fees, cancellations, cost }
}

fn on_every_custody(check: impl Fn(Custody)) {
    CUSTODIES.into_iter().for_each(check);
}

fn last(desk: &Desk) -> &JobEvent {
    desk.events.last().unwrap()
}

fn vox(custody: Custody, amount: i64) -> Desk {
    Desk::new(voxpact(), custody).funded(amount)
}

fn vox_accepted(custody: Custody, amount: i64) -> Desk {
    let mut desk = vox(custody, amount);
    desk.must(by(worker()), JobCommand::Accept);
    desk
}

fn vox_started(custody: Custody, amount: i64) -> Desk {
    let mut desk = vox_accepted(custody, amount);
    desk.must(by(worker()), JobCommand::Start);
    desk
}

fn vox_delivered(custody: Custody, amount: i64) -> Desk {
    let mut desk = vox_started(custody, amount);
    desk.must(by(worker()), deliver());
    desk
}

#[test]
fn vp_12_money_is_taken_and_held_at_once() {
    for custody in [Custody::Internal, Custody::Pooled] {
        let desk = Desk::new(voxpact(), custody).posted(10_000);
        assert_eq!(desk.status(), JobStatus::Funded);
        assert_eq!(desk.books.of(escrow(desk.job().id)), 10_000);
        assert_eq!(desk.books.of(Account::Available(buyer())), i128::from(WEALTH) - 10_000);
        assert!(desk.instructions.is_empty(), "a rail of {custody:?} custody is not asked");
    }
    for custody in [Custody::PerHold, Custody::NonCustodial] {
        let mut desk = Desk::new(voxpact(), custody).posted(10_000);
        assert_eq!(desk.status(), JobStatus::PendingPayment);
        let Order::Fund { hold, payer, amount, .. } = desk.last_instruction().order else { panic!("not a funding") };
        assert_eq!((hold.0, payer, amount), (desk.job().id.0, buyer(), desk.money(10_000)));
        assert_eq!(desk.instructions.len(), 1);
        desk.settle_rail();
        assert_eq!(desk.status(), JobStatus::Funded);
        assert_eq!(desk.books.of(escrow(desk.job().id)), 10_000);
        assert_eq!(desk.books.of(Account::Rail(RAIL)), -10_000);
    }
}

#[test]
fn vp_12_the_deadline_is_72_h_by_default_and_720_h_at_most() {
    let desk = Desk::new(voxpact(), Custody::Internal).posted(500);
    assert_eq!(desk.job().timers.deadline, Some(start() + Span::hours(72).delta()));
    let with = |deadline| {
        let desk = Desk::new(voxpact(), Custody::Internal);
        let mut order = order(desk.money(500));
        order.deadline = Some(deadline);
        desk.ask(&by(buyer()), &post(order))
    };
    let longest = with(Span::hours(720)).unwrap().job;
    assert_eq!(longest.timers.deadline, Some(start() + Span::hours(720).delta()));
    let allowed = |actual| Rejection::Time { field: "deadline", min: Span::hours(1), max: Span::hours(720), actual };
    for refused in [Span::seconds(720 * 3600 + 1), Span::seconds(3599), Span::seconds(0)] {
        assert_eq!(with(refused), Err(allowed(refused)));
    }
}

#[test]
fn vp_12_the_least_is_five_euros_and_a_title_has_5_to_500_characters() {
    let desk = Desk::new(voxpact(), Custody::Internal);
    let asked = |title: &str, minor| {
        let mut order = order(desk.money(minor));
        order.title = title.into();
        desk.ask(&by(buyer()), &post(order))
    };
    let amount =
        Rejection::Amount { field: "amount", currency: desk.policy.currency, min: 500, max: 10_000_000, actual: 499 };
    assert_eq!(asked("title", 499), Err(amount));
    assert!(asked("title", 500).is_ok());
    assert!(asked(&"t".repeat(500), 500).is_ok());
    for (title, actual) in [("t".repeat(4), 4), ("t".repeat(501), 501)] {
        let length = Rejection::Length { field: "title", unit: "characters", min: 5, max: 500, actual };
        assert_eq!(asked(&title, 500), Err(length));
    }
}

#[test]
fn vp_14_the_twelve_statuses() {
    let words: Vec<_> = JobStatus::ALL.iter().map(|status| status.as_str()).collect();
    let published = "pending_payment funded accepted in_progress validating delivered revision_requested completed \
                     disputed cancelled refunded frozen";
    assert_eq!(words.join(" "), published);
    for status in JobStatus::ALL {
        assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
    }
}

#[test]
fn vp_16_only_the_assigned_worker_accepts() {
    let mut desk = vox(Custody::Internal, 10_000);
    for other in [by(buyer()), by(stranger()), operator(), owner(), Actor::Timer, Actor::Rail(RAIL)] {
        let refused = desk.ask(&other, &JobCommand::Accept);
        let expected = Rejection::WrongActor { command: "accept", allowed: "the job's worker", actor: other };
        assert_eq!(refused, Err(expected));
    }
    desk.must(by(worker()), JobCommand::Accept);
    assert_eq!(desk.status(), JobStatus::Accepted);
    assert_eq!(desk.job().timers.stale_at, Some(start() + Span::hours(168).delta()));
    let deadline = Some(start() + Span::hours(72).delta());
    assert_eq!(*last(&desk), JobEvent::Accepted { worker: worker(), deadline, fee: desk.money(1000) });
}

#[test]
fn vp_17_a_delivery_is_validated_and_then_awaits_the_buyer() {
    for verdict in [Verdict::Passed, Verdict::Failed, Verdict::Unavailable] {
        let mut desk = Desk::new(voxpact(), Custody::Internal);
        let mut validated = order(desk.money(10_000));
        validated.validation = Some(serde_json::json!({ "language": "de" }));
        desk.must(by(buyer()), post(validated)).must(by(worker()), JobCommand::Accept);
        desk.must(by(worker()), deliver());
        assert_eq!(desk.status(), JobStatus::Validating);
        let release_at = Some(start() + Span::hours(48).delta());
        assert_eq!(*last(&desk), JobEvent::Delivered { revision_number: 1, release_at });
        desk.must(operator(), JobCommand::RecordValidation { verdict });
        assert_eq!(desk.status(), JobStatus::Delivered);
        assert_eq!(desk.job().timers.release_at, release_at);
    }
    // Without criteria there is nothing to validate.
    assert_eq!(vox_delivered(Custody::Internal, 500).status(), JobStatus::Delivered);
}

#[test]
fn vp_17_a_policy_may_complete_what_passes() {
    for (verdict, status) in [(Verdict::Passed, JobStatus::Completed), (Verdict::Failed, JobStatus::Delivered)] {
        let mut policy = voxpact();
        policy.validation.as_mut().unwrap().on_pass = OnPass::Approve;
        let mut desk = Desk::new(policy, Custody::Internal);
        let mut validated = order(desk.money(10_000));
        validated.validation = Some(serde_json::json!({}));
        desk.must(by(buyer()), post(validated)).must(by(worker()), JobCommand::Accept);
        desk.must(by(worker()), deliver());
        desk.must(operator(), JobCommand::RecordValidation { verdict });
        assert_eq!(desk.status(), status);
    }
}

#[test]
fn vp_19_approving_pays_the_worker() {
    on_every_custody(|custody| {
        let mut desk = vox_delivered(custody, 10_000);
        desk.must(by(buyer()), JobCommand::Approve);
        let payout_status = match custody.is_per_hold() {
            true => PayoutStatus::Pending,
            false => PayoutStatus::Paid,
        };
        let completed =
            JobEvent::Completed { net: desk.money(9000), fee: desk.money(1000), payout_status, auto_released: false };
        assert_eq!(*last(&desk), completed);
        let expected = Ended { status: JobStatus::Completed, worker: 9000, fees: 1000, cancellations: 0, cost: 10_000 };
        assert_eq!(ended(&mut desk), expected);
    });
}

#[test]
fn vp_19_approving_does_not_wait_for_validators() {
    let mut desk = Desk::new(voxpact(), Custody::Internal);
    let mut validated = order(desk.money(10_000));
    validated.validation = Some(serde_json::json!({}));
    desk.must(by(buyer()), post(validated)).must(by(worker()), JobCommand::Accept).must(by(worker()), deliver());
    assert_eq!(desk.status(), JobStatus::Validating);
    desk.must(by(buyer()), JobCommand::Approve);
    assert_eq!(desk.status(), JobStatus::Completed);
}

#[test]
fn vp_20_silence_releases_48_h_after_delivery() {
    on_every_custody(|custody| {
        let mut desk = vox_delivered(custody, 10_000);
        let release_at = start() + Span::hours(48).delta();
        desk.wait_until(Desk::just_before(release_at));
        assert_eq!(desk.tick(), Err(Rejection::NothingDue { next: Some(release_at) }));
        desk.wait_until(release_at);
        desk.tick().unwrap();
        assert!(matches!(last(&desk), JobEvent::Completed { auto_released: true, .. }));
        let expected = Ended { status: JobStatus::Completed, worker: 9000, fees: 1000, cancellations: 0, cost: 10_000 };
        assert_eq!(ended(&mut desk), expected);
    });
}

#[test]
fn vp_20_silence_also_releases_what_validators_never_answered() {
    let mut desk = Desk::new(voxpact(), Custody::Internal);
    let mut validated = order(desk.money(10_000));
    validated.validation = Some(serde_json::json!({}));
    desk.must(by(buyer()), post(validated)).must(by(worker()), JobCommand::Accept).must(by(worker()), deliver());
    desk.wait(Span::hours(48)).tick().unwrap();
    assert_eq!(desk.status(), JobStatus::Completed);
}

#[test]
fn vp_21_the_fee_is_the_workers_tier_and_comes_out_of_the_payout() {
    let tiers = [("bronze", 1200), ("silver", 1000), ("gold", 800), ("platinum", 600)];
    for (tier, fee) in tiers {
        on_every_custody(|custody| {
            let mut desk = Desk::new(voxpact(), custody);
            desk.tier = tier.into();
            let mut desk = desk.funded(10_000);
            assert_eq!(desk.job().terms.fee, desk.money(fee));
            desk.tier = "bronze".into(); // the fee was fixed at posting
            desk.must(by(worker()), JobCommand::Accept).must(by(worker()), deliver());
            desk.must(by(buyer()), JobCommand::Approve);
            let (worker, fees) = (i128::from(10_000 - fee), i128::from(fee));
            let expected = Ended { status: JobStatus::Completed, worker, fees, cancellations: 0, cost: 10_000 };
            assert_eq!(ended(&mut desk), expected, "{tier}");
        });
    }
}

#[test]
fn vp_21_half_a_cent_goes_to_the_even_one() {
    // 12 % of 5.25 is 0.63; 10 % of 5.25 and of 5.35 is half a cent more than 0.52 and 0.53.
    for (tier, amount, fee) in [("bronze", 525, 63), ("silver", 525, 52), ("silver", 535, 54)] {
        let mut desk = Desk::new(voxpact(), Custody::Internal);
        desk.tier = tier.into();
        let desk = desk.posted(amount);
        assert_eq!(desk.job().terms.fee, desk.money(fee), "{tier} {amount}");
        assert_eq!(desk.job().terms.net().unwrap(), desk.money(amount - fee));
    }
}

#[test]
fn vp_21_a_tier_that_the_policy_does_not_know_is_refused() {
    let mut desk = Desk::new(voxpact(), Custody::Internal);
    desk.tier = "diamond".into();
    let known = ["bronze", "gold", "platinum", "silver"].map(String::from).to_vec();
    let refused = desk.ask(&by(buyer()), &post(order(desk.money(10_000))));
    assert_eq!(refused, Err(Rejection::UnknownTier { tier: "diamond".into(), known }));
}

#[test]
fn vp_22_a_buyer_asks_for_changes_twice_at_most() {
    let mut desk = vox_delivered(Custody::Internal, 10_000);
    for asked in 1..=2 {
        desk.must(by(buyer()), revise());
        assert_eq!(desk.status(), JobStatus::RevisionRequested);
        let deadline = Some(desk.now + Span::hours(72).delta());
        assert_eq!(desk.job().timers.deadline, deadline);
        assert_eq!(desk.job().timers.release_at, None, "while changes are made, silence accepts nothing");
        desk.wait(Span::hours(1)).must(by(worker()), deliver());
        let release_at = Some(desk.now + Span::hours(48).delta());
        assert_eq!(*last(&desk), JobEvent::Delivered { revision_number: asked + 1, release_at });
    }
    assert_eq!(desk.ask(&by(buyer()), &revise()), Err(Rejection::NoRevisionsLeft { asked: 2, max: 2 }));
    desk.must(by(buyer()), JobCommand::Approve);
    assert_eq!(ended(&mut desk).worker, 9000);
}

#[test]
fn vp_22_feedback_has_10_to_5000_characters() {
    let desk = vox_delivered(Custody::Internal, 10_000);
    let asked = |feedback: String| desk.ask(&by(buyer()), &JobCommand::RequestRevision { feedback });
    for (characters, fits) in [(0, false), (9, false), (10, true), (5000, true), (5001, false)] {
        let length =
            Rejection::Length { field: "feedback", unit: "characters", min: 10, max: 5000, actual: characters };
        match fits {
            true => assert!(asked("\u{1f600}".repeat(characters)).is_ok()), // characters, not bytes
            false => assert_eq!(asked("x".repeat(characters)), Err(length)),
        }
    }
}

fn cancelled(mut desk: Desk) -> (Ended, JobEvent) {
    desk.must(by(buyer()), cancel());
    let event = last(&desk).clone();
    (ended(&mut desk), event)
}

fn by_the_buyer(desk: &Desk, refunded: i64, cancellation_fee: i64, compensation: i64) -> JobEvent {
    JobEvent::Cancelled {
        cause: CancelCause::Buyer,
        reason: "no longer needed".into(),
        refunded: desk.money(refunded),
        cancellation_fee: desk.money(cancellation_fee),
        compensation: desk.money(compensation),
    }
}

#[test]
fn vp_23_cancelling_before_acceptance_gives_everything_back() {
    on_every_custody(|custody| {
        let desk = vox(custody, 10_000);
        let expected = by_the_buyer(&desk, 10_000, 0, 0);
        let (ended, event) = cancelled(desk);
        assert_eq!(event, expected);
        assert_eq!(ended, Ended { status: JobStatus::Cancelled, worker: 0, fees: 0, cancellations: 0, cost: 0 });
    });
}

#[test]
fn vp_23_cancelling_before_payment_moves_nothing() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    desk.must(Actor::Rail(RAIL), outcome(&desk.last_instruction(), declined()));
    desk.must(by(buyer()), cancel());
    assert_eq!(*last(&desk), by_the_buyer(&desk, 0, 0, 0));
    assert_eq!((desk.status(), desk.job().hold.state), (JobStatus::Cancelled, HoldState::Empty));
    assert_eq!(desk.instructions.len(), 1, "nothing is to be given back");
}

#[test]
fn vp_23_cancelling_once_accepted_costs_the_buyer_5_percent() {
    on_every_custody(|custody| {
        let desk = vox_accepted(custody, 10_000);
        let expected = by_the_buyer(&desk, 9500, 500, 0);
        let (ended, event) = cancelled(desk);
        assert_eq!(event, expected);
        let cost = 500;
        assert_eq!(ended, Ended { status: JobStatus::Cancelled, worker: 0, fees: 0, cancellations: 500, cost });
    });
}

#[test]
fn vp_23_cancelling_in_progress_pays_a_quarter_to_the_worker() {
    on_every_custody(|custody| {
        let desk = vox_started(custody, 10_000);
        let expected = by_the_buyer(&desk, 7500, 0, 2500);
        let (ended, event) = cancelled(desk);
        assert_eq!(event, expected);
        let cost = 2500;
        assert_eq!(ended, Ended { status: JobStatus::Cancelled, worker: 2500, fees: 0, cancellations: 0, cost });
    });
}

#[test]
fn vp_23_the_legs_that_the_rail_gets_add_up_to_the_hold() {
    let mut desk = vox_started(Custody::PerHold, 999);
    desk.must(by(buyer()), cancel());
    let Order::Settle { legs, funding, .. } = desk.last_instruction().order else { panic!("not a settlement") };
    assert_eq!(funding, desk.job().hold.funding);
    let parts: Vec<_> = legs.iter().map(|leg| (leg.to, leg.amount.minor())).collect();
    // A quarter of 9.99 is 2.4975; the fraction of a cent is the buyer's.
    assert_eq!(parts, [(Party::Worker(worker()), 250), (Party::Buyer(buyer()), 749)]);
}

#[test]
fn vp_23_shares_that_make_up_the_whole_never_round_past_it() {
    let mut policy = voxpact();
    let half = rate("0.5");
    policy.fees.rounding = tradepost::money::Rounding::Up;
    let terms = tradepost::policy::CancellationTerms { to_worker: half, to_platform: half };
    policy.jobs.cancellation.insert(JobStatus::InProgress, terms);
    let mut desk = Desk::new(policy, Custody::Internal).posted(501);
    desk.must(by(worker()), JobCommand::Accept).must(by(worker()), JobCommand::Start).must(by(buyer()), cancel());
    let expected = Ended { status: JobStatus::Cancelled, worker: 251, fees: 0, cancellations: 250, cost: 501 };
    assert_eq!(ended(&mut desk), expected);
}

#[test]
fn a_worker_who_gives_a_job_back_costs_the_buyer_nothing() {
    for stage in [vox, vox_accepted, vox_started] {
        on_every_custody(|custody| {
            let mut desk = stage(custody, 10_000);
            desk.must(by(worker()), withdraw());
            assert!(matches!(last(&desk), JobEvent::Cancelled { cause: CancelCause::Worker, .. }));
            let expected = Ended { status: JobStatus::Cancelled, worker: 0, fees: 0, cancellations: 0, cost: 0 };
            assert_eq!(ended(&mut desk), expected);
        });
    }
}

#[test]
fn a_refund_after_delivery_gives_everything_back() {
    for actor in [by(worker()), operator()] {
        on_every_custody(|custody| {
            let mut desk = vox_delivered(custody, 10_000);
            desk.must(actor.clone(), refund());
            let amount = desk.money(10_000);
            assert_eq!(*last(&desk), JobEvent::Refunded { reason: "cannot be done".into(), amount });
            let expected = Ended { status: JobStatus::Refunded, worker: 0, fees: 0, cancellations: 0, cost: 0 };
            assert_eq!(ended(&mut desk), expected);
        });
    }
}

// ---- JustPayAI ----

#[test]
fn jp_10_the_client_pays_3_percent_on_top_all_locked_at_creation() {
    on_every_custody(|custody| {
        let mut desk = Desk::new(just_pay(), custody).funded(2_000_000);
        assert_eq!(desk.books.of(escrow(desk.job().id)), 2_060_000);
        assert_eq!(desk.status(), JobStatus::Accepted, "the provider has agreed beforehand");
        assert_eq!(desk.job().timers.deadline, Some(start() + Span::seconds(300).delta()));
        desk.must(by(worker()), deliver()).must(by(buyer()), JobCommand::Approve);
        let expected =
            Ended { status: JobStatus::Completed, worker: 2_000_000, fees: 60_000, cancellations: 0, cost: 2_060_000 };
        assert_eq!(ended(&mut desk), expected);
    });
}

#[test]
fn jp_12_a_delivery_not_acted_on_is_accepted_after_5_minutes() {
    on_every_custody(|custody| {
        let mut desk = Desk::new(just_pay(), custody).funded(2_000_000);
        desk.wait(Span::seconds(100)).must(by(worker()), deliver());
        let release_at = start() + Span::seconds(400).delta();
        desk.wait_until(Desk::just_before(release_at));
        assert_eq!(desk.tick(), Err(Rejection::NothingDue { next: Some(release_at) }));
        desk.wait_until(release_at).tick().unwrap();
        assert_eq!(ended(&mut desk).worker, 2_000_000);
    });
}

#[test]
fn jp_12_cancelling_before_delivery_gives_back_the_fee_too() {
    let begun = |custody| Desk::new(just_pay(), custody).funded(2_000_000);
    let started = |custody| {
        let mut desk = begun(custody);
        desk.must(by(worker()), JobCommand::Start);
        desk
    };
    on_every_custody(|custody| {
        for desk in [begun(custody), started(custody)] {
            let expected = by_the_buyer(&desk, 2_060_000, 0, 0);
            let (ended, event) = cancelled(desk);
            assert_eq!(event, expected);
            assert_eq!(ended, Ended { status: JobStatus::Cancelled, worker: 0, fees: 0, cancellations: 0, cost: 0 });
        }
    });
}

#[test]
fn jp_12_after_delivery_nothing_can_be_cancelled() {
    let mut desk = Desk::new(just_pay(), Custody::Pooled).funded(2_000_000);
    desk.must(by(worker()), deliver());
    let allowed = vec![JobStatus::PendingPayment, JobStatus::Funded, JobStatus::Accepted, JobStatus::InProgress];
    let status = JobStatus::Delivered;
    let refused = Rejection::WrongStatus { command: "cancel", status, allowed };
    assert_eq!(desk.ask(&by(buyer()), &cancel()), Err(refused));
}

// ---- AgentMarket ----

fn open_task(custody: Custody, amount: i64) -> Desk {
    let mut desk = Desk::new(agent_market(), custody);
    let mut open = order(desk.money(amount));
    open.worker = None;
    desk.must(by(buyer()), post(open));
    desk
}

#[test]
fn am_06_the_first_to_accept_is_assigned_and_the_budget_escrowed_then() {
    on_every_custody(|custody| {
        let mut desk = open_task(custody, 100);
        assert_eq!((desk.status(), desk.job().hold.state), (JobStatus::PendingPayment, HoldState::Empty));
        assert_eq!(desk.books.of(escrow(desk.job().id)), 0, "posting reserves nothing");
        desk.must(by(worker()), JobCommand::Accept);
        assert_eq!(desk.job().worker, Some(worker()));
        let second = desk.ask(&by(stranger()), &JobCommand::Accept);
        assert!(
            matches!(second, Err(Rejection::WrongStatus { .. } | Rejection::WrongActor { .. })),
            "the second is too late: {second:?}"
        );
        desk.settle_rail();
        assert_eq!(desk.status(), JobStatus::Accepted);
        assert_eq!(desk.books.of(escrow(desk.job().id)), 100);
    });
}

#[test]
fn am_06_too_few_credits_fail_the_accept_and_change_nothing() {
    let desk = open_task(Custody::Internal, 100);
    let mut poor = Desk { books: Default::default(), ..desk };
    poor.deposit(99);
    let (job, books) = (poor.job().clone(), poor.books.clone());
    let (needed, available) = (poor.money(100), poor.money(99));
    let overdraft = LedgerError::Overdraft { account: Account::Available(buyer()), needed, available };
    assert_eq!(poor.give(by(worker()), JobCommand::Accept), Err(Rejection::Ledger(overdraft)));
    assert_eq!((poor.job(), &poor.books), (&job, &books));
    poor.deposit(1);
    poor.must(by(stranger()), JobCommand::Accept);
    assert_eq!(poor.job().worker, Some(stranger()), "it was still open for whoever is first");
}

#[test]
fn am_06_the_poster_cannot_take_its_own_task() {
    let desk = open_task(Custody::Internal, 100);
    let allowed = "an agent other than the buyer";
    let refused = Rejection::WrongActor { command: "accept", allowed, actor: by(buyer()) };
    assert_eq!(desk.ask(&by(buyer()), &JobCommand::Accept), Err(refused));
}

#[test]
fn am_06_a_payer_cannot_accept_for_the_worker_by_paying() {
    on_every_custody(|custody| {
        let desk = Desk::new(agent_market(), custody).posted(100); // a named worker, who has not accepted
        let refused = Rejection::WrongHold { command: "retry_payment", state: "not reserved" };
        assert_eq!(desk.ask(&by(buyer()), &JobCommand::RetryPayment), Err(refused));
    });
}

#[test]
fn am_06_after_a_decline_the_payer_may_try_again_in_full_time() {
    let mut desk = open_task(Custody::PerHold, 100);
    desk.wait(Span::hours(719)).must(by(worker()), JobCommand::Accept);
    let fund_by = desk.now + Span::hours(720).delta();
    assert_eq!(desk.job().timers.fund_by, Some(fund_by), "until a worker was found there was nothing to pay");
    desk.must(Actor::Rail(RAIL), outcome(&desk.last_instruction(), declined()));
    desk.must(by(buyer()), JobCommand::RetryPayment).settle_rail();
    assert_eq!((desk.status(), desk.job().timers.fund_by), (JobStatus::Accepted, None));
}

#[test]
fn am_07_completing_pays_90_percent_at_once() {
    on_every_custody(|custody| {
        let mut desk = open_task(custody, 100);
        desk.must(by(worker()), JobCommand::Accept).settle_rail();
        desk.must(by(worker()), deliver());
        assert_eq!(desk.status(), JobStatus::Completed);
        let expected = Ended { status: JobStatus::Completed, worker: 90, fees: 10, cancellations: 0, cost: 100 };
        assert_eq!(ended(&mut desk), expected);
    });
}

#[test]
fn am_07_a_reward_of_one_credit_pays_its_worker() {
    let mut desk = open_task(Custody::Internal, 1);
    desk.must(by(worker()), JobCommand::Accept).must(by(worker()), deliver());
    let expected = Ended { status: JobStatus::Completed, worker: 1, fees: 0, cancellations: 0, cost: 1 };
    assert_eq!(ended(&mut desk), expected);
}

// ---- what a rail may answer ----

#[test]
fn a_receipt_that_says_something_else_changes_nothing() {
    let desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    let asked = desk.last_instruction();
    let lie = |change: &dyn Fn(&mut tradepost::rail::Receipt)| {
        let mut receipt = receipt(&asked, Landing::Outside);
        change(&mut receipt);
        match desk.ask(&Actor::Rail(RAIL), &outcome(&asked, Outcome::Done(receipt))) {
            Err(Rejection::Receipt(mismatch)) => mismatch.field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(lie(&|r| r.amount = desk.money(9999)), "amount");
    assert_eq!(lie(&|r| r.amount = tradepost::money::Money::new(10_000, tradepost::money::Currency::USDC)), "amount");
    assert_eq!(lie(&|r| r.instruction = tradepost::ids::InstructionId(uuid::Uuid::nil())), "instruction");
    assert_eq!(lie(&|r| r.cost = Some(desk.money(-1))), "cost");

    let mut desk = vox_delivered(Custody::PerHold, 10_000);
    desk.must(by(buyer()), JobCommand::Approve);
    let asked = desk.last_instruction();
    let mut swapped = receipt(&asked, Landing::Outside);
    swapped.legs.swap(0, 1);
    let answer = desk.ask(&Actor::Rail(RAIL), &outcome(&asked, Outcome::Done(swapped)));
    assert!(matches!(answer, Err(Rejection::Receipt(mismatch)) if mismatch.field == "legs"));
}

#[test]
fn a_rails_cost_is_the_platforms() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    let asked = desk.last_instruction();
    let mut costly = receipt(&asked, Landing::Outside);
    costly.cost = Some(desk.money(320));
    desk.must(Actor::Rail(RAIL), outcome(&asked, Outcome::Done(costly)));
    assert_eq!(desk.books.of(escrow(desk.job().id)), 10_000, "the parties do not pay it");
    assert_eq!(desk.books.of(Account::Cost(RAIL)), -320);
    assert_eq!(desk.books.of(Account::Rail(RAIL)), -9680);
}

#[test]
fn a_share_that_the_rail_still_holds_is_in_the_wallet() {
    let mut desk = vox_delivered(Custody::PerHold, 10_000);
    desk.must(by(buyer()), JobCommand::Approve);
    let asked = desk.last_instruction();
    desk.must(Actor::Rail(RAIL), outcome(&asked, Outcome::Done(receipt(&asked, Landing::Held))));
    assert_eq!(desk.books.of(Account::Available(worker())), 9000);
    assert_eq!(desk.books.of(Account::Pending(worker())), 0);
    assert_eq!(desk.books.of(Account::Rail(RAIL)), -10_000, "worker's and platform's share are still there");
}

#[test]
fn a_declined_settlement_is_asked_for_again_later_each_time() {
    let mut desk = vox_delivered(Custody::PerHold, 10_000);
    desk.must(by(buyer()), JobCommand::Approve);
    let first = desk.last_instruction();
    let mut seen = vec![first.id];
    let mut before = Span::seconds(0).delta();
    for _ in 0..10 {
        let asked = desk.last_instruction();
        desk.must(Actor::Rail(RAIL), outcome(&asked, declined()));
        let (again, at) = desk.instructions.last().unwrap().clone();
        assert_eq!(again.order, first.order, "the amounts are frozen");
        assert!(!seen.contains(&again.id), "an instruction that was declined is over");
        seen.push(again.id);
        let wait = at - desk.now;
        assert!(wait >= before && wait <= Span::hours(24).delta());
        before = wait;
        assert_eq!(desk.status(), JobStatus::Completed);
        // The one that was declined has no say any more.
        let late = desk.ask(&Actor::Rail(RAIL), &outcome(&asked, done(&asked)));
        assert_eq!(late, Err(Rejection::WrongHold { command: "record_outcome", state: "being divided" }));
    }
    assert_eq!(before, Span::hours(24).delta());
    assert_eq!(ended(&mut desk).worker, 9000);
}

#[test]
fn what_only_the_payer_may_see_is_not_in_the_log() {
    let mut desk = Desk::new(voxpact(), Custody::PerHold).posted(10_000);
    let action = Action { who: Party::Buyer(buyer()), kind: "confirm_card".into(), payload: "secret".into() };
    let asked = desk.last_instruction();
    desk.must(Actor::Rail(RAIL), outcome(&asked, Outcome::NeedsAction(action.clone())));
    let shown = Action { payload: String::new(), ..action };
    assert_eq!(*last(&desk), JobEvent::ActionRequired { instruction: asked.id, action: shown });
    assert_eq!(desk.status(), JobStatus::PendingPayment);
}

#[test]
fn a_rail_that_cannot_divide_a_hold_is_refused_before_anything_is_written() {
    for custody in [Custody::PerHold, Custody::NonCustodial] {
        let mut desk = Desk::new(voxpact(), custody);
        desk.rail.capabilities.clear();
        let refused = Rejection::Unsupported { rail: RAIL, capability: Capability::Split };
        assert_eq!(desk.ask(&by(buyer()), &post(order(desk.money(500)))), Err(refused));
    }
}

#[test]
fn transfers_say_why_money_moved() {
    let mut desk = vox_started(Custody::Internal, 10_000);
    desk.must(by(buyer()), cancel());
    let kinds = [(TransferKind::EscrowLock, 10_000), (TransferKind::Compensation, 2500), (TransferKind::Refund, 7500)];
    assert_eq!(desk.moved, kinds.into_iter().collect());
}
