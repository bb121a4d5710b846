//! Money that goes back: chargebacks and refunds after payout, on rails that hold each contract's money.

use proptest::prelude::*;
use serde_json::json;
use tradepost::{
    actor::Actor,
    error::Rejection,
    job::{CancelCause, ContestStage, HoldEvent, HoldState, JobCommand, JobEvent, JobStatus, Returns},
    ledger::{Account, RevenueKind},
    money::Money,
    policy::{LossBearer, Policy, ReversalPolicy, Span},
    rail::{Capability, Chargeback, ChargebackStage, Custody, Instruction, Landing, Order, Outcome, Party},
};

use crate::support::*;

const OPENED: ChargebackStage = ChargebackStage::Opened { evidence_due: None };
/// VP-21: 10 % of a silver worker's amount are the platform's.
const AMOUNT: i64 = 10_000;
const NET: i64 = 9_000;

fn borne_by(borne_by: LossBearer) -> Policy {
    Policy { reversals: Some(ReversalPolicy { borne_by }), ..voxpact() }
}

fn by_worker(backstop: i64) -> Policy {
    borne_by(LossBearer::Worker { backstop })
}

/// A desk whose rail can undo, as a bank's can.
fn desk(policy: Policy) -> Desk {
    let mut desk = Desk::new(policy, Custody::PerHold);
    desk.rail.capabilities.push(Capability::Reverse);
    desk.rail.hold_expiry = None;
    desk.rail.reversible_for = Some(Span::hours(120 * 24));
    desk
}

/// A job that is done and paid, the worker's share where `landing` says.
fn paid(policy: Policy, landing: Landing) -> Desk {
    let mut desk = desk(policy).funded(AMOUNT);
    deliver_and_approve(&mut desk);
    answer(&mut desk, |instruction| divided(instruction, landing));
    desk
}

fn deliver_and_approve(desk: &mut Desk) {
    desk.must(by(worker()), JobCommand::Accept).must(by(worker()), deliver()).must(by(buyer()), JobCommand::Approve);
}

/// What a rail that holds the money answers: the platform's share stays with it.
fn divided(instruction: &Instruction, landing: Landing) -> Outcome {
    let mut receipt = receipt(instruction, landing);
    let platform = receipt.legs.iter_mut().filter(|leg| leg.to == Party::Platform);
    platform.for_each(|leg| leg.landing = Landing::Held);
    Outcome::Done(receipt)
}

/// The rail's answer to the newest instruction.
fn answer(desk: &mut Desk, with: impl Fn(&Instruction) -> Outcome) {
    let instruction = desk.last_instruction();
    desk.must(Actor::Rail(RAIL), outcome(&instruction, with(&instruction)));
}

fn bank(desk: &mut Desk, stage: ChargebackStage) {
    let told = charged_back(desk, AMOUNT, stage);
    desk.must(Actor::Rail(RAIL), told);
}

fn balances(desk: &Desk, accounts: &[Account]) -> Vec<i128> {
    assert_eq!(desk.books.sum(), 0);
    accounts.iter().map(|account| desk.books.of(*account)).collect()
}

const RESTS: [Account; 3] = [Account::Rail(RAIL), Account::Contested(RAIL), Account::Clearing(RAIL)];
const LOSSES: Account = Account::Revenue(RevenueKind::Losses);
const FEES: Account = Account::Revenue(RevenueKind::Fees);

#[test]
fn a_hold_that_is_contested_stands_still_and_goes_on_when_it_is_won() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    desk.must(by(worker()), JobCommand::Accept);
    let deadline = desk.job().timers.deadline.unwrap();
    bank(&mut desk, OPENED);
    assert_eq!(desk.status(), JobStatus::Frozen);
    assert_eq!(balances(&desk, &RESTS), [0, -10_000, 0], "the bank has it, nobody has lost it yet");
    let contested = Rejection::WrongHold { command: "unfreeze", state: "contested by the payer's bank" };
    assert_eq!(desk.ask(&operator(), &JobCommand::Unfreeze), Err(contested), "the bank decides, no operator");
    assert!(desk.ask(&by(worker()), &deliver()).is_err());
    desk.wait(Span::hours(10));
    bank(&mut desk, ChargebackStage::Won);
    assert_eq!(desk.status(), JobStatus::Accepted);
    assert_eq!(desk.job().timers.deadline, Some(deadline + Span::hours(10).delta()), "the time is not lost");
    assert_eq!(balances(&desk, &RESTS), [-10_000, 0, 0]);
    desk.must(by(worker()), deliver()).must(by(buyer()), JobCommand::Approve).settle_rail();
    assert_eq!(desk.got(worker()), i128::from(NET));
}

#[test]
fn an_operators_freeze_is_not_the_banks_to_lift() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    desk.must(operator(), freeze());
    bank(&mut desk, OPENED);
    assert!(desk.ask(&operator(), &JobCommand::Unfreeze).is_err());
    bank(&mut desk, ChargebackStage::Won);
    assert_eq!(desk.status(), JobStatus::Frozen);
    desk.must(operator(), JobCommand::Unfreeze);
    assert_eq!(desk.status(), JobStatus::Funded);
}

#[test]
fn a_hold_that_is_lost_ends_the_job_and_pays_nobody() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    desk.must(by(worker()), JobCommand::Accept).must(by(worker()), deliver());
    bank(&mut desk, OPENED);
    bank(&mut desk, ChargebackStage::Lost);
    assert_eq!((desk.status(), desk.job().hold.state), (JobStatus::Cancelled, HoldState::Settled));
    assert!(matches!(desk.events.last(), Some(JobEvent::Cancelled { cause: CancelCause::Chargeback, .. })));
    assert!(desk.books.is_empty(), "{:?}", desk.books);
    assert_eq!(tradepost::store::Kept::due_at(desk.job()), None);
}

#[test]
fn what_a_bank_leaves_of_a_hold_goes_back_too() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    for stage in [OPENED, ChargebackStage::Lost] {
        let told = charged_back(&desk, 4_000, stage);
        desk.must(Actor::Rail(RAIL), told);
    }
    let Order::Settle { legs, .. } = desk.last_instruction().order else { panic!() };
    assert_eq!(legs.iter().map(|leg| leg.amount.minor()).collect::<Vec<_>>(), [6_000]);
    desk.settle_rail();
    assert!(desk.books.is_empty());
}

/// mercur #1523: what went out is taken back where it is, in the rates of the contract, before it is a debt.
#[test]
fn a_loss_after_payout_is_reversed_at_the_contracts_rates() {
    let mut desk = paid(by_worker(0), Landing::Outside);
    desk.policy.fees.rate = tradepost::policy::FeeRate::Flat(rate("0.5")); // today's rates are not the contract's
    bank(&mut desk, OPENED);
    assert_eq!(desk.status(), JobStatus::Completed, "what is over is not stopped");
    bank(&mut desk, ChargebackStage::Lost);
    let reverse = desk.last_instruction();
    let Order::Reverse { leg, agent, amount, .. } = &reverse.order else { panic!("{reverse:?}") };
    assert_eq!((leg.as_str(), *agent, amount.minor()), ("leg", worker(), NET));
    assert_eq!(balances(&desk, &[FEES, Account::Debt(worker())]), [0, 0]);
    desk.must(Actor::Rail(RAIL), outcome(&reverse, done(&reverse)));
    assert!(desk.books.is_empty(), "payer, worker and platform have given back what they got: {:?}", desk.books);
    let again = desk.ask(&Actor::Rail(RAIL), &outcome(&reverse, done(&reverse)));
    assert!(matches!(again, Err(Rejection::WrongHold { .. })), "once: {again:?}");
}

#[test]
fn what_no_balance_covers_is_the_platforms_up_to_its_backstop_and_then_a_debt() {
    let mut desk = paid(by_worker(2_500), Landing::Outside);
    bank(&mut desk, OPENED);
    bank(&mut desk, ChargebackStage::Lost);
    answer(&mut desk, |_| declined());
    assert_eq!(balances(&desk, &RESTS), [6_500 + 2_500, 0, 0]);
    assert_eq!(balances(&desk, &[Account::Debt(worker()), LOSSES, FEES]), [-6_500, -2_500, 0]);
    assert!(matches!(desk.events.last(), Some(JobEvent::Hold(HoldEvent::Owed { .. }))));
    assert!(desk.job().returns.under_way.is_empty());
}

#[test]
fn a_share_that_the_rail_kept_is_taken_from_the_wallet_and_the_rest_is_a_debt() {
    let mut desk = paid(by_worker(0), Landing::Held);
    assert_eq!(desk.books.of(Account::Available(worker())), i128::from(NET));
    desk.books.spend(worker(), 7_000);
    bank(&mut desk, OPENED);
    bank(&mut desk, ChargebackStage::Lost);
    assert_eq!(balances(&desk, &[Account::Available(worker()), Account::Debt(worker()), FEES]), [0, -7_000, 0]);
    assert_eq!(desk.instructions.len(), 2, "there is nothing to reverse");
}

#[test]
fn a_platform_that_bears_losses_leaves_the_worker_alone() {
    for policy in [borne_by(LossBearer::Platform), Policy { reversals: None, ..voxpact() }] {
        let mut desk = paid(policy, Landing::Outside);
        bank(&mut desk, OPENED);
        bank(&mut desk, ChargebackStage::Lost);
        assert_eq!(balances(&desk, &[LOSSES, FEES, Account::Debt(worker())]), [-i128::from(NET), 0, 0]);
        assert_eq!(desk.instructions.len(), 2);
    }
}

/// The end may be told before the beginning, and what each cost is booked once.
#[test]
fn stages_out_of_order_come_to_the_same() {
    let costs = [(OPENED, 2_000), (ChargebackStage::Won, -1_500)];
    for order in [[0, 1], [1, 0]] {
        let mut desk = desk(by_worker(0)).funded(AMOUNT);
        for (stage, cost) in order.map(|index| costs[index]) {
            let told = with_cost(charged_back(&desk, AMOUNT, stage), desk.money(cost));
            desk.must(Actor::Rail(RAIL), told);
        }
        assert_eq!(balances(&desk, &RESTS), [-9_500, 0, 0]);
        assert_eq!(desk.books.of(Account::Cost(RAIL)), -500);
        assert_eq!(desk.status(), JobStatus::Funded);
    }
}

fn with_cost(command: JobCommand, cost: Money) -> JobCommand {
    let JobCommand::RecordChargeback { chargeback } = command else { panic!() };
    JobCommand::RecordChargeback { chargeback: Box::new(Chargeback { cost, ..*chargeback }) }
}

#[test]
fn what_a_bank_says_twice_or_differently_is_for_an_operator() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    bank(&mut desk, OPENED);
    for (minor, stage) in [(AMOUNT, OPENED), (AMOUNT - 1, ChargebackStage::Lost), (0, ChargebackStage::Lost)] {
        assert!(desk.ask(&Actor::Rail(RAIL), &charged_back(&desk, minor, stage)).is_err(), "{minor} {stage:?}");
    }
    bank(&mut desk, ChargebackStage::Won);
    for stage in [ChargebackStage::Won, ChargebackStage::Lost] {
        assert!(desk.ask(&Actor::Rail(RAIL), &charged_back(&desk, AMOUNT, stage)).is_err(), "{stage:?}");
    }
    let nothing = desk_without_payment();
    assert!(nothing.ask(&Actor::Rail(RAIL), &charged_back(&nothing, AMOUNT, OPENED)).is_err());
}

fn desk_without_payment() -> Desk {
    let mut desk = desk(by_worker(0)).posted(AMOUNT);
    answer(&mut desk, |_| declined());
    desk
}

/// A bank that decides about a payment that then never arrives has decided about nothing.
#[test]
fn a_loss_of_money_that_never_arrived_holds_no_job_up() {
    let mut desk = desk(by_worker(0)).posted(AMOUNT);
    bank(&mut desk, OPENED);
    bank(&mut desk, ChargebackStage::Lost);
    assert_eq!(desk.status(), JobStatus::Frozen, "the payment may have arrived");
    answer(&mut desk, |_| declined());
    assert_eq!((desk.status(), desk.job().hold.state), (JobStatus::PendingPayment, HoldState::Empty));
}

/// While the rail is at it, nobody knows who will have got it.
#[test]
fn a_loss_waits_for_the_division_that_is_under_way() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    deliver_and_approve(&mut desk);
    bank(&mut desk, OPENED);
    bank(&mut desk, ChargebackStage::Lost);
    assert_eq!(desk.job().returns.chargebacks[0].stage, ContestStage::Lost);
    let mut after = desk.clone();
    answer(&mut after, |instruction| divided(instruction, Landing::Outside));
    assert!(matches!(after.last_instruction().order, Order::Reverse { .. }), "it went out: it is taken back");
    answer(&mut after, done);
    assert!(after.books.is_empty());
    let mut kept = desk.clone();
    answer(&mut kept, |instruction| divided(instruction, Landing::Held));
    assert!(kept.books.is_empty(), "it is taken from the wallet that it has just come into: {:?}", kept.books);
    answer(&mut desk, |_| declined());
    assert_eq!(desk.job().hold.state, HoldState::Settled, "nobody got anything, and it is not asked for again");
    assert!(desk.books.is_empty(), "{:?}", desk.books);
}

/// If the rail gives the hold up instead, nobody has got anything: what was lost is the platform's.
#[test]
fn vp_39_a_loss_that_waited_for_a_division_is_borne_when_the_hold_expires() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    deliver_and_approve(&mut desk);
    bank(&mut desk, OPENED);
    bank(&mut desk, ChargebackStage::Lost);
    assert_eq!(desk.job().returns.chargebacks[0].stage, ContestStage::Lost, "it waits");
    desk.must(Actor::Rail(RAIL), JobCommand::RecordHoldExpired);
    assert_eq!(desk.job().returns.chargebacks[0].stage, ContestStage::Borne);
    let Some(JobEvent::Hold(HoldEvent::ChargebackLost { amount, worker: borne, platform, buyer, .. })) =
        desk.events.last()
    else {
        panic!("{:?}", desk.events)
    };
    assert_eq!([amount, platform, borne, buyer].map(|money| money.minor()), [AMOUNT, AMOUNT, 0, 0]);
    let accounts = [Account::Contested(RAIL), LOSSES, FEES, Account::Debt(worker()), Account::Pending(worker())];
    assert_eq!(balances(&desk, &accounts), [0, -i128::from(AMOUNT), 0, 0, 0]);
    assert!(desk.ask(&operator(), &refund_paid(None)).is_err(), "nobody was paid");
}

/// A payer who was given the share by the rail and has it from the bank too gives it back first.
#[test]
fn a_payer_is_not_given_the_money_twice() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    desk.must(by(worker()), JobCommand::Accept).must(by(worker()), JobCommand::Start).must(by(buyer()), cancel());
    answer(&mut desk, |instruction| divided(instruction, Landing::Held));
    assert_eq!(desk.books.of(Account::Available(buyer())), 7_500, "VP-23: 25 % are the worker's");
    bank(&mut desk, OPENED);
    bank(&mut desk, ChargebackStage::Lost);
    assert!(desk.books.is_empty(), "{:?}", desk.books);
}

#[test]
fn a_refund_after_payout_is_shared_at_the_contracts_rates() {
    let mut desk = paid(by_worker(0), Landing::Outside);
    for (minor, worker_gives) in [(3_333, 2_999), (10_000 - 3_333, 6_001)] {
        let amount = Some(desk.money(minor));
        let before = desk.instructions.len();
        let events = desk.give(operator(), refund_paid(amount)).unwrap();
        assert!(
            matches!(&events[0], JobEvent::Hold(HoldEvent::RefundedAfterPayout { worker, .. }) if worker.minor() == worker_gives)
        );
        let orders: Vec<Instruction> = desk.instructions[before..].iter().map(|(i, _)| i.clone()).collect();
        let shape: Vec<i64> = orders.iter().map(|i| i.order.amount().minor()).collect();
        assert_eq!(shape, [worker_gives, minor]);
        for instruction in orders {
            desk.must(Actor::Rail(RAIL), outcome(&instruction, done(&instruction)));
        }
    }
    assert!(desk.books.is_empty(), "{:?}", desk.books);
    assert!(desk.ask(&operator(), &refund_paid(None)).is_err(), "there is nothing left");
}

/// What came out of the wallet first, or was kept for a debt, leaves of the leg what is still there.
#[test]
fn a_return_after_one_that_the_wallet_paid_reverses_all_of_the_leg() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    desk.books.owe(worker(), 6_000);
    deliver_and_approve(&mut desk);
    answer(&mut desk, |instruction| divided(instruction, Landing::Outside));
    desk.deposit_to(worker(), 3_000);
    desk.must(operator(), refund_paid(Some(desk.money(3_333))));
    assert_eq!(balances(&desk, &[Account::Available(worker()), Account::Debt(worker())]), [1, 0]);
    let before = desk.instructions.len();
    desk.must(operator(), refund_paid(None));
    let reversed = desk.instructions[before..].iter().find_map(|(instruction, _)| match &instruction.order {
        Order::Reverse { amount, .. } => Some(amount.minor()),
        _ => None,
    });
    assert_eq!(reversed, Some(NET - 6_000), "all that left the rail");
    assert_eq!(balances(&desk, &[Account::Available(worker()), Account::Debt(worker())]), [0, -3_000]);
}

#[test]
fn a_refund_after_payout_that_the_rail_will_not_carry_is_the_payers_to_spend() {
    let mut desk = paid(by_worker(0), Landing::Outside);
    desk.must(operator(), refund_paid(Some(desk.money(1_000))));
    let orders: Vec<Instruction> = desk.instructions[2..].iter().map(|(i, _)| i.clone()).collect();
    for instruction in orders {
        desk.must(Actor::Rail(RAIL), outcome(&instruction, declined()));
    }
    let accounts = [Account::Available(buyer()), Account::Debt(worker()), FEES, Account::Clearing(RAIL)];
    assert_eq!(balances(&desk, &accounts), [1_000, -900, 900, 0]);
}

/// VP-43: a refund and the payer's bank at once: the payer gets its money back once, whether the rail refunds or not.
#[test]
fn vp_43_a_chargeback_that_is_lost_while_a_refund_is_under_way_waits_for_it() {
    for refunded in [false, true] {
        let mut desk = paid(by_worker(0), Landing::Outside);
        desk.must(operator(), refund_paid(None));
        let orders: Vec<Instruction> = desk.instructions[2..].iter().map(|(i, _)| i.clone()).collect();
        bank(&mut desk, OPENED);
        bank(&mut desk, ChargebackStage::Lost);
        for instruction in orders {
            let refund = matches!(instruction.order, Order::Refund { .. });
            let ended = if refund && !refunded { declined() } else { done(&instruction) };
            desk.must(Actor::Rail(RAIL), outcome(&instruction, ended));
        }
        let rests = balances(&desk, &[Account::Available(buyer()), Account::Clearing(RAIL), Account::Contested(RAIL)]);
        assert_eq!(rests, [0, 0, 0], "{refunded}");
        // What went out twice, outside both times, is the platform's loss.
        let lost = if refunded { i128::from(AMOUNT) } else { 0 };
        assert_eq!(desk.books.of(LOSSES), -lost, "{refunded}: {:?}", desk.books);
        assert_eq!(desk.books.is_empty(), !refunded, "{refunded}: {:?}", desk.books);
    }
}

/// A job on wallets is refunded between wallets.
#[test]
fn a_refund_after_payout_moves_between_wallets_where_wallets_paid() {
    let mut desk = Desk::new(by_worker(0), Custody::Internal).funded(AMOUNT);
    deliver_and_approve(&mut desk);
    desk.books.spend(worker(), 5_000);
    desk.must(operator(), refund_paid(None));
    assert_eq!(desk.books.of(Account::Available(buyer())), i128::from(WEALTH));
    assert_eq!(balances(&desk, &[Account::Available(worker()), Account::Debt(worker()), FEES]), [0, -5_000, 0]);
}

#[test]
fn refunds_after_payout_are_refused_with_their_reason() {
    let refused = |desk: &Desk, amount: Option<i64>| {
        desk.ask(&operator(), &refund_paid(amount.map(|minor| desk.money(minor)))).unwrap_err()
    };
    let desk = paid(by_worker(0), Landing::Outside);
    for minor in [0, -1, AMOUNT + 1] {
        assert!(matches!(refused(&desk, Some(minor)), Rejection::Amount { max: AMOUNT, .. }), "{minor}");
    }
    let not_offered = paid(Policy { reversals: None, ..voxpact() }, Landing::Outside);
    assert_eq!(refused(&not_offered, None), Rejection::NotOffered { what: "refunds after payout" });
    let mut contested = paid(by_worker(0), Landing::Outside);
    bank(&mut contested, OPENED);
    assert!(matches!(refused(&contested, None), Rejection::WrongHold { .. }), "the payer may have it already");
    let mut unable = desk.clone();
    unable.rail.capabilities.retain(|capability| *capability != Capability::Reverse);
    assert!(matches!(refused(&unable, None), Rejection::Unsupported { .. }));
}

/// What jobs and the log had before holds were shared is read, and written the same.
#[test]
fn what_was_stored_before_is_read() {
    let stored = json!({
        "paid": { "worker": "90.00 EUR", "leg": "tr_1", "platform": "10.00 EUR", "buyer": "0.00 EUR" },
        "chargebacks": [
            { "reference": "dp_1", "amount": "60.00 EUR", "stage": { "open": { "evidence_due": "2027-01-15T08:00:00Z" } } },
            { "reference": "dp_2", "amount": "40.00 EUR", "stage": "lost" },
        ],
        "under_way": ["00000000-0000-8000-8000-000000000007"],
    });
    let returns: Returns = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(returns.chargebacks[1].stage, ContestStage::Lost);
    assert_eq!(serde_json::to_value(&returns).unwrap(), stored);
    let agent = worker();
    for event in [
        json!({ "type": "job.started" }),
        json!({ "type": "payment.debt_repaid", "worker": agent, "amount": "9.00 EUR" }),
        json!({ "type": "payment.chargeback_opened", "reference": "dp_1", "amount": "60.00 EUR", "cost": "20.00 EUR",
                "evidence_due": null }),
        json!({ "type": "payment.chargeback_won", "reference": "dp_1", "amount": "60.00 EUR" }),
        json!({ "type": "payment.chargeback_lost", "reference": "dp_1", "amount": "60.00 EUR", "worker": "54.00 EUR",
                "platform": "6.00 EUR", "buyer": "0.00 EUR" }),
        json!({ "type": "payment.refunded_after_payout", "reason": "late", "amount": "10.00 EUR",
                "worker": "9.00 EUR", "platform": "1.00 EUR" }),
        json!({ "type": "payment.reversed", "agent": agent, "reference": "trr_1", "amount": "54.00 EUR" }),
        json!({ "type": "payment.owed", "agent": agent, "amount": "54.00 EUR", "borne": "0.00 EUR" }),
        json!({ "type": "payment.kept", "agent": agent, "amount": "10.00 EUR",
                "decline": { "code": "expired", "message": "the card is gone" } }),
    ] {
        let read: JobEvent = serde_json::from_value(event.clone()).unwrap();
        assert_eq!(read.name(), event["type"]);
        assert_eq!(serde_json::to_value(&read).unwrap(), event);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Work,
    Bank(usize, ChargebackStage, i64),
    Refund(i64),
    Rail(bool, Landing),
    Spend(i64),
    Cancel,
}

fn step() -> impl Strategy<Value = Step> {
    let stage = prop::sample::select(vec![OPENED, ChargebackStage::Won, ChargebackStage::Lost]);
    prop_oneof![
        3 => Just(Step::Work),
        4 => (0usize..2, stage, 1i64..12_000).prop_map(|(which, stage, minor)| Step::Bank(which, stage, minor)),
        2 => (1i64..12_000).prop_map(Step::Refund),
        4 => (any::<bool>(), prop::sample::select(vec![Landing::Outside, Landing::Held]))
            .prop_map(|(done, landing)| Step::Rail(done, landing)),
        1 => (1i64..10_000).prop_map(Step::Spend),
        1 => Just(Step::Cancel),
    ]
}

/// What was withheld for a debt was never the platform's: if the rail gives the hold up before it is divided,
/// it is owed again, and there is nothing to refund.
#[test]
fn vp_39_a_debt_that_was_withheld_from_a_hold_that_expires_is_owed_again() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    desk.books.owe(worker(), 6_000);
    deliver_and_approve(&mut desk);
    assert_eq!(balances(&desk, &[Account::Debt(worker()), Account::Pending(worker())]), [0, 3_000]);
    desk.must(Actor::Rail(RAIL), JobCommand::RecordHoldExpired);
    let fees = Account::Revenue(RevenueKind::Fees);
    assert_eq!(balances(&desk, &[Account::Debt(worker()), Account::Pending(worker()), fees]), [-6_000, 0, 0]);
    assert!(desk.ask(&operator(), &refund_paid(None)).is_err(), "the payer has it all");
}

/// The same when the payer's bank keeps the money and the rail will not divide what it has not.
#[test]
fn vp_43_a_debt_that_was_withheld_from_a_hold_that_the_bank_keeps_is_owed_again() {
    let mut desk = desk(by_worker(0)).funded(AMOUNT);
    desk.books.owe(worker(), 6_000);
    deliver_and_approve(&mut desk);
    bank(&mut desk, OPENED);
    bank(&mut desk, ChargebackStage::Lost);
    answer(&mut desk, |_| declined());
    let fees = Account::Revenue(RevenueKind::Fees);
    assert_eq!(balances(&desk, &[Account::Debt(worker()), Account::Pending(worker()), fees]), [-6_000, 0, 0]);
    assert!(desk.ask(&operator(), &refund_paid(None)).is_err(), "nobody was paid");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whatever banks, operators and rails do, in any order: the books add up, and when all is said nothing
    /// waits anywhere.
    #[test]
    fn no_chargeback_or_refund_loses_or_invents_money(
        backstop in prop::option::of(0i64..5_000),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let policy = backstop.map_or(borne_by(LossBearer::Platform), by_worker);
        let mut desk = desk(policy).posted(AMOUNT);
        let (mut amounts, mut answered) = ([None; 2], 0);
        for step in steps {
            match step {
                Step::Work => {
                    for command in [JobCommand::Accept, deliver()] {
                        let _ = desk.give(by(worker()), command);
                    }
                    let _ = desk.give(by(buyer()), JobCommand::Approve);
                }
                Step::Bank(which, stage, minor) => {
                    let amount = desk.money(*amounts[which].get_or_insert(minor));
                    let (hold, reference) = (desk.job().id.into(), format!("dispute-{which}"));
                    let chargeback = Chargeback { hold, reference, amount, cost: desk.money(minor % 3), stage };
                    let _ = desk.give(Actor::Rail(RAIL), JobCommand::RecordChargeback { chargeback: Box::new(chargeback) });
                }
                Step::Refund(minor) => {
                    let amount = Some(desk.money(minor));
                    let _ = desk.give(operator(), refund_paid(amount));
                }
                Step::Rail(takes, landing) => {
                    answered = rail_answers(&mut desk, answered, takes, landing);
                }
                Step::Spend(minor) => {
                    let has = desk.books.of(Account::Available(worker()));
                    desk.books.spend(worker(), minor.min(has.try_into().unwrap()));
                }
                Step::Cancel => drop(desk.give(by(buyer()), cancel())),
            }
            prop_assert_eq!(desk.books.sum(), 0);
        }
        for (which, minor) in amounts.into_iter().enumerate() {
            let Some(minor) = minor else { continue };
            let (hold, reference, amount) = (desk.job().id.into(), format!("dispute-{which}"), desk.money(minor));
            let stage = ChargebackStage::Lost;
            let chargeback = Chargeback { hold, reference, amount, cost: desk.money(0), stage };
            let _ = desk.give(Actor::Rail(RAIL), JobCommand::RecordChargeback { chargeback: Box::new(chargeback) });
        }
        for _ in 0..10 {
            answered = rail_answers(&mut desk, answered, true, Landing::Outside);
        }
        prop_assert_eq!(answered, desk.instructions.len());
        prop_assert!(desk.job().returns.under_way.is_empty());
        prop_assert_eq!(desk.books.of(Account::Clearing(RAIL)), 0);
        prop_assert_eq!(desk.books.of(Account::Pending(worker())), 0);
        let waits = desk.job().returns.chargebacks.iter().filter(|contest| contest.stage == ContestStage::Lost);
        let waiting: i64 = waits.map(|contest| contest.amount.minor()).sum();
        prop_assert_eq!(desk.books.of(Account::Contested(RAIL)), -i128::from(waiting));
        prop_assert!(waiting == 0 || desk.job().hold.state == HoldState::Empty, "{:?}", desk.job());
    }
}

/// The rail answers the oldest instruction that it has not answered; how many it has.
fn rail_answers(desk: &mut Desk, answered: usize, takes: bool, landing: Landing) -> usize {
    let Some((instruction, _)) = desk.instructions.get(answered).cloned() else { return answered };
    let said = if takes { divided(&instruction, landing) } else { declined() };
    // A payer's money can be kept only by a rail that divides.
    desk.must(Actor::Rail(RAIL), outcome(&instruction, said));
    answered + 1
}
