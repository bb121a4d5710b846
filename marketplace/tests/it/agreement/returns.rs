//! Money of agreements that goes back: chargebacks by the payer's bank, decided as a job's are, and debts.

use proptest::prelude::*;
use tradepost::{
    agreement::ExpiryCause,
    hold::{ContestStage, HoldEvent},
    ledger::RevenueKind,
    policy::{LossBearer, ReversalPolicy},
    rail::{Capability, Chargeback, ChargebackStage, Landing, Order, Party},
    store::Kept as _,
};

use super::*;

const OPENED: ChargebackStage = ChargebackStage::Opened { evidence_due: None };
/// 40 of 100 units were used, of which 5 % are the platform's.
const EARNED: i64 = 40 * UNIT_PRICE;
const FEE: i64 = EARNED / 20;
const LOSSES: Account = Account::Revenue(RevenueKind::Losses);
const FEES: Account = Account::Revenue(RevenueKind::Fees);

/// A desk whose rail can undo, as a bank's can.
fn desk(borne_by: LossBearer) -> Desk {
    let reversals = Some(ReversalPolicy { borne_by });
    let mut desk = Desk::new(Policy { reversals, ..with_fee("0.05", Bearer::Worker) }, Custody::PerHold);
    desk.rail.capabilities.push(Capability::Reverse);
    desk.rail.hold_expiry = None;
    desk.rail.reversible_for = Some(Span::hours(120 * 24));
    desk
}

fn by_worker(backstop: i64) -> LossBearer {
    LossBearer::Worker { backstop }
}

/// An agreement whose rail is asked to divide what was earned.
fn settling(borne_by: LossBearer) -> Desk {
    let mut desk = desk(borne_by).active();
    desk.must(by(worker()), used(40)).must(by(buyer()), AgreementCommand::Complete);
    desk
}

/// One whose shares are where they should be.
fn paid(borne_by: LossBearer) -> Desk {
    let mut desk = settling(borne_by);
    answer(&mut desk, |instruction| divided(instruction, Landing::Outside));
    desk
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
    desk.must(Actor::Rail(RAIL), heard(&instruction, with(&instruction)));
}

fn charged_back(desk: &Desk, minor: i64, stage: ChargebackStage) -> AgreementCommand {
    let (hold, reference, amount) = (desk.id().into(), "dispute-1".into(), desk.money(minor));
    let chargeback = Chargeback { hold, reference, amount, cost: desk.money(0), stage };
    AgreementCommand::RecordChargeback { chargeback: Box::new(chargeback) }
}

fn bank(desk: &mut Desk, minor: i64, stages: &[ChargebackStage]) {
    for stage in stages {
        let told = charged_back(desk, minor, *stage);
        desk.must(Actor::Rail(RAIL), told);
    }
}

fn balances<const N: usize>(desk: &Desk, accounts: [Account; N]) -> [i128; N] {
    assert_eq!(desk.books.sum(), 0);
    accounts.map(|account| desk.books.of(account))
}

#[test]
fn pg_09_an_agreement_that_is_contested_stands_still_and_goes_on_when_it_is_won() {
    let mut desk = desk(by_worker(0)).active();
    desk.must(by(worker()), used(40));
    let (expires_at, final_at) = (desk.agreement().timers.expires_at.unwrap(), desk.agreement().final_at().unwrap());
    bank(&mut desk, DEPOSIT, &[OPENED]);
    assert_eq!(balances(&desk, [Account::Rail(RAIL), Account::Contested(RAIL)]), [0, -i128::from(DEPOSIT)]);
    assert_eq!(desk.agreement().due_at(), None);
    assert_eq!(desk.names().last(), Some(&"agreement.frozen"));
    let contested = |command| Rejection::WrongHold { command, state: "contested by the payer's bank" };
    assert_eq!(desk.refused(by(worker()), used(1)), contested("record_usage"));
    assert_eq!(desk.refused(by(buyer()), AgreementCommand::Complete), contested("complete"));
    assert_eq!(desk.refused(by(buyer()), AgreementCommand::Close), contested("close"));
    assert_eq!(desk.refused(by(buyer()), disputed()), contested("dispute"));
    desk.wait(Span::hours(10));
    bank(&mut desk, DEPOSIT, &[ChargebackStage::Won]);
    assert_eq!(desk.names().last(), Some(&"agreement.unfrozen"));
    let pause = Span::hours(10).delta();
    assert_eq!(desk.agreement().timers.expires_at, Some(expires_at + pause), "the time is not lost");
    assert_eq!(desk.agreement().final_at(), Some(final_at + pause));
    desk.must(by(worker()), used(1)).must(by(buyer()), AgreementCommand::Close);
    let closed = desk.agreement().final_at().unwrap();
    bank_again(&mut desk);
    assert_eq!(desk.agreement().final_at(), Some(closed + Span::hours(1).delta()), "a close stands still, too");
    desk.now = desk.agreement().final_at().unwrap();
    desk.tick_all().settle_rail();
    assert_eq!(desk.got(worker()), i128::from(41 * UNIT_PRICE * 95 / 100));
}

/// A second chargeback that is won an hour later.
fn bank_again(desk: &mut Desk) {
    for (stage, wait) in [(OPENED, 1), (ChargebackStage::Won, 0)] {
        let AgreementCommand::RecordChargeback { mut chargeback } = charged_back(desk, 1, stage) else { panic!() };
        chargeback.reference = "dispute-2".into();
        desk.must(Actor::Rail(RAIL), AgreementCommand::RecordChargeback { chargeback });
        desk.wait(Span::hours(wait));
    }
}

#[test]
fn a_deposit_that_is_lost_ends_the_agreement_and_pays_nobody() {
    let mut desk = desk(by_worker(0)).active();
    desk.must(by(worker()), used(40));
    bank(&mut desk, DEPOSIT, &[OPENED, ChargebackStage::Lost]);
    assert!(matches!(
        desk.events.last(),
        Some(AgreementEvent::Expired { cause: ExpiryCause::Chargeback, refunded }) if refunded.minor() == DEPOSIT
    ));
    let agreement = desk.agreement();
    assert_eq!((agreement.status, agreement.is_over(), agreement.due_at()), (AgreementStatus::Expired, true, None));
    assert!(desk.books.is_empty(), "{:?}", desk.books);
}

#[test]
fn what_a_bank_leaves_of_a_deposit_goes_back_too() {
    let mut desk = desk(by_worker(0)).active();
    bank(&mut desk, DEPOSIT / 4, &[OPENED, ChargebackStage::Lost]);
    let Order::Settle { legs, .. } = desk.last_instruction().order else { panic!() };
    assert_eq!(legs.iter().map(|leg| leg.amount.minor()).collect::<Vec<_>>(), [DEPOSIT / 4 * 3]);
    desk.settle_rail();
    assert!(desk.books.is_empty() && desk.agreement().is_over());
}

#[test]
fn a_loss_after_payout_is_reversed_at_the_agreements_rates() {
    let mut desk = paid(by_worker(0));
    bank(&mut desk, EARNED, &[OPENED]);
    assert_eq!(desk.agreement().frozen, None, "what is over is not stopped");
    bank(&mut desk, EARNED, &[ChargebackStage::Lost]);
    let reverse = desk.last_instruction();
    let Order::Reverse { leg, agent, amount, .. } = &reverse.order else { panic!("{reverse:?}") };
    assert_eq!((leg.as_str(), *agent, amount.minor()), ("leg", worker(), EARNED - FEE));
    assert_eq!(balances(&desk, [FEES, Account::Debt(worker())]), [0, 0]);
    answer(&mut desk, done);
    assert!(desk.books.is_empty(), "seller and platform have given back what they got: {:?}", desk.books);
    assert!(desk.agreement().returns.under_way.is_empty());
}

#[test]
fn what_no_balance_covers_is_the_platforms_up_to_its_backstop_and_then_a_debt() {
    let mut desk = paid(by_worker(300_000));
    bank(&mut desk, EARNED, &[OPENED, ChargebackStage::Lost]);
    answer(&mut desk, |_| declined());
    let owed = i128::from(EARNED - FEE - 300_000);
    assert_eq!(balances(&desk, [Account::Debt(worker()), LOSSES, FEES]), [-owed, -300_000, 0]);
    assert!(matches!(desk.events.last(), Some(AgreementEvent::Hold(HoldEvent::Owed { .. }))));

    // Where the platform bears losses, the seller keeps what it has.
    let mut desk = paid(LossBearer::Platform);
    bank(&mut desk, EARNED, &[OPENED, ChargebackStage::Lost]);
    assert_eq!(balances(&desk, [LOSSES, FEES, Account::Debt(worker())]), [-i128::from(EARNED - FEE), 0, 0]);
    assert_eq!(desk.instructions.len(), 2);
}

/// While the rail is at it, nobody knows who will have got it.
#[test]
fn a_loss_waits_for_the_division_that_is_under_way() {
    let mut desk = settling(by_worker(0));
    bank(&mut desk, DEPOSIT, &[OPENED, ChargebackStage::Lost]);
    assert_eq!(desk.agreement().returns.chargebacks[0].stage, ContestStage::Lost);
    let mut after = desk.clone();
    answer(&mut after, |instruction| divided(instruction, Landing::Outside));
    assert!(matches!(after.last_instruction().order, Order::Reverse { .. }), "it went out: it is taken back");
    answer(&mut desk, |_| declined());
    assert_eq!(desk.agreement().hold.state, HoldState::Settled, "nobody got anything, and it is not asked for again");
    assert!(desk.books.is_empty(), "{:?}", desk.books);
}

/// If the rail gives the deposit up instead, nobody has got anything: what was lost is the platform's.
#[test]
fn vp_39_a_loss_that_waited_for_a_division_is_borne_when_the_hold_expires() {
    let mut desk = settling(by_worker(0));
    bank(&mut desk, DEPOSIT, &[OPENED, ChargebackStage::Lost]);
    assert_eq!(desk.agreement().returns.chargebacks[0].stage, ContestStage::Lost, "it waits");
    desk.must(Actor::Rail(RAIL), AgreementCommand::RecordHoldExpired);
    assert_eq!(desk.agreement().returns.chargebacks[0].stage, ContestStage::Borne);
    let Some(AgreementEvent::Hold(HoldEvent::ChargebackLost { amount, worker: borne, platform, buyer, .. })) =
        desk.events.last()
    else {
        panic!("{:?}", desk.events)
    };
    assert_eq!([amount, platform, borne, buyer].map(|money| money.minor()), [DEPOSIT, DEPOSIT, 0, 0]);
    let accounts = [Account::Contested(RAIL), LOSSES, FEES, Account::Debt(worker()), Account::Pending(worker())];
    assert_eq!(balances(&desk, accounts), [0, -i128::from(DEPOSIT), 0, 0, 0]);
    assert!(desk.agreement().is_over());
}

/// What came before the deposit is known to have arrived is decided when it is.
#[test]
fn a_chargeback_of_a_deposit_that_is_under_way_stops_the_agreement_too() {
    for end in [ChargebackStage::Won, ChargebackStage::Lost] {
        let mut desk = desk(by_worker(0)).accepted();
        desk.must(by(buyer()), AgreementCommand::Activate);
        bank(&mut desk, DEPOSIT, &[OPENED, end]);
        let arrived = desk.clone();
        let status = if end == ChargebackStage::Won { AgreementStatus::Active } else { AgreementStatus::Expired };
        desk.settle_rail();
        assert_eq!((desk.status(), desk.agreement().frozen), (status, None), "{end:?}");
        let mut desk = arrived;
        answer(&mut desk, |_| declined());
        assert_eq!((desk.status(), desk.agreement().frozen), (AgreementStatus::Accepted, None), "{end:?}");
        assert!(desk.agreement().due_at().is_some());
    }
}

/// What a seller owes is kept from what it earns, as a worker's debt is; where the payer pays the seller
/// directly, nobody can keep it.
#[test]
fn a_sellers_debt_is_repaid_from_what_it_earns() {
    for custody in CUSTODIES {
        let mut desk = Desk::new(with_fee("0.05", Bearer::Worker), custody).active();
        desk.books.owe(worker(), 1_000_000);
        desk.must(by(worker()), used(40)).must(by(buyer()), AgreementCommand::Complete);
        let repaid = if custody == Custody::NonCustodial { 0 } else { 1_000_000 };
        assert_eq!(desk.books.of(Account::Debt(worker())), repaid - 1_000_000, "{custody:?}");
        desk.settle_rail();
        assert_eq!(desk.got(worker()), i128::from(EARNED - FEE) - repaid, "{custody:?}");
        let told = desk.names().contains(&"payment.debt_repaid");
        assert_eq!(told, repaid > 0);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Use(i64),
    Complete,
    Close,
    Wait,
    Bank(usize, ChargebackStage, i64),
    Rail(bool, Landing),
    Spend(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let stage = prop::sample::select(vec![OPENED, ChargebackStage::Won, ChargebackStage::Lost]);
    prop_oneof![
        3 => (1i64..40).prop_map(Step::Use),
        2 => Just(Step::Complete),
        1 => Just(Step::Close),
        1 => Just(Step::Wait),
        4 => (0usize..2, stage, 1i64..DEPOSIT * 6 / 5).prop_map(|(which, stage, minor)| Step::Bank(which, stage, minor)),
        4 => (any::<bool>(), prop::sample::select(vec![Landing::Outside, Landing::Held]))
            .prop_map(|(done, landing)| Step::Rail(done, landing)),
        1 => (1i64..DEPOSIT).prop_map(Step::Spend),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever banks and rails do, in any order: the books add up, and when all is said nothing waits
    /// anywhere and nothing stands still.
    #[test]
    fn no_chargeback_of_an_agreement_loses_or_invents_money(
        backstop in prop::option::of(0i64..500_000),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut desk = desk(backstop.map_or(LossBearer::Platform, by_worker)).accepted();
        desk.must(by(buyer()), AgreementCommand::Activate);
        let (mut amounts, mut answered) = ([None; 2], 0);
        for step in steps {
            match step {
                Step::Use(units) => drop(desk.give(by(worker()), used(units))),
                Step::Complete => drop(desk.give(by(buyer()), AgreementCommand::Complete)),
                Step::Close => drop(desk.give(by(worker()), AgreementCommand::Close)),
                Step::Wait => drop(desk.wait(Span::hours(30)).tick()),
                Step::Bank(which, stage, minor) => {
                    let minor = *amounts[which].get_or_insert(minor);
                    tell(&mut desk, which, minor, minor % 3, stage);
                }
                Step::Rail(takes, landing) => answered = rail_answers(&mut desk, answered, takes, landing),
                Step::Spend(minor) => {
                    let has = desk.books.of(Account::Available(worker()));
                    desk.books.spend(worker(), minor.min(has.try_into().unwrap()));
                }
            }
            prop_assert_eq!(desk.books.sum(), 0);
        }
        for (which, minor) in amounts.into_iter().enumerate() {
            tell(&mut desk, which, minor.unwrap_or(1), 0, ChargebackStage::Lost);
        }
        for _ in 0..10 {
            answered = rail_answers(&mut desk, answered, true, Landing::Outside);
            desk.wait(Span::hours(40 * 24)).tick_all();
        }
        prop_assert_eq!(answered, desk.instructions.len());
        prop_assert!(desk.agreement().is_over(), "{:?}", desk.agreement());
        prop_assert!(desk.agreement().returns.under_way.is_empty());
        for account in [Account::Clearing(RAIL), Account::Pending(worker()), Account::Escrow(desk.id().into())] {
            prop_assert_eq!(desk.books.of(account), 0);
        }
        let waits = desk.agreement().returns.chargebacks.iter().filter(|contest| contest.stage == ContestStage::Lost);
        let waiting: i64 = waits.map(|contest| contest.amount.minor()).sum();
        prop_assert_eq!(desk.books.of(Account::Contested(RAIL)), -i128::from(waiting));
        prop_assert!(waiting == 0 || desk.agreement().hold.state == HoldState::Empty, "{:?}", desk.agreement());
    }
}

fn tell(desk: &mut Desk, which: usize, minor: i64, cost: i64, stage: ChargebackStage) {
    let (hold, reference) = (desk.id().into(), format!("dispute-{which}"));
    let (amount, cost) = (desk.money(minor), desk.money(cost));
    let chargeback = Box::new(Chargeback { hold, reference, amount, cost, stage });
    let _ = desk.give(Actor::Rail(RAIL), AgreementCommand::RecordChargeback { chargeback });
}

/// The rail answers the oldest instruction that it has not answered; how many it has.
fn rail_answers(desk: &mut Desk, answered: usize, takes: bool, landing: Landing) -> usize {
    let Some((instruction, _)) = desk.instructions.get(answered).cloned() else { return answered };
    let said = if takes { divided(&instruction, landing) } else { declined() };
    desk.must(Actor::Rail(RAIL), heard(&instruction, said));
    answered + 1
}
