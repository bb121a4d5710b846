//! A wallet's rules, decided without an engine.

use tradepost::{
    actor::Actor,
    agent::AgentStatus,
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, OwnerId, RailId},
    ledger::{Account, RevenueKind},
    money::{Currency, Money},
    policy::{Policy, Range, Span, Switch},
    rail::{Action, Capability, Custody, Instruction, Landing, Order, Outcome, Party, RailProfile},
    wallet::{Context, Decision, PayoutPurpose, SavedAddress, Wallet, WalletCommand, WalletEvent, decide},
};
use uuid::Uuid;

use crate::support::*;

const HOME: &str = "home-address";
const OTHER: &str = "another-address";
const SOURCE: &str = "where-it-came-from";

/// A wallet with its books and everything that a decision looks at.
struct Counter {
    wallet: Wallet,
    books: Books,
    policy: Policy,
    rail: RailProfile,
    standing: Option<AgentStatus>,
    now: Timestamp,
}

impl Counter {
    /// A wallet with `minor` units in it.
    fn with(minor: i64) -> Self {
        let rail = RailProfile { capabilities: vec![Capability::Payout], ..rail(Custody::Pooled, Currency::USDC) };
        let mut counter = Self {
            wallet: Wallet::new(worker()),
            books: Books::default(),
            policy: Policy::justpayai().unwrap(),
            rail,
            standing: Some(AgentStatus::Active),
            now: start(),
        };
        counter.book(Account::Rail(RAIL), Account::Available(worker()), minor);
        counter
    }

    fn book(&mut self, debit: Account, credit: Account, minor: i64) {
        let mut movement = tradepost::ledger::Movement::new();
        movement.transfer(debit, credit, usdc(minor), tradepost::ledger::TransferKind::Deposit).unwrap();
        self.books.apply(&movement).unwrap();
    }

    fn of(&self, account: Account) -> i64 {
        i64::try_from(self.books.of(account)).unwrap()
    }

    fn ask(&self, actor: &Actor, command: &WalletCommand) -> Result<Decision, Rejection> {
        let available = usdc(self.of(Account::Available(worker())));
        let debt = usdc(-self.of(Account::Debt(worker())));
        let (policy, rail, standing) = (&self.policy, &self.rail, self.standing);
        let owner = Some(OwnerId(Uuid::from_u128(1)));
        decide(&self.wallet, command, &Context { now: self.now, actor, owner, standing, policy, rail, available, debt })
    }

    /// Decides and writes, or writes nothing.
    fn give(&mut self, actor: &Actor, command: &WalletCommand) -> Result<Decision, Rejection> {
        let decision = self.ask(actor, command)?;
        self.books.apply(&decision.movement)?;
        self.wallet = decision.wallet.clone();
        assert_eq!(self.books.sum(), 0);
        Ok(decision)
    }

    fn own(&mut self, command: WalletCommand) -> Result<Decision, Rejection> {
        self.give(&by(worker()), &command)
    }

    fn save(&mut self, address: &str) -> Decision {
        self.own(set(address)).unwrap()
    }

    fn emergency(&mut self) {
        self.wallet.emergency = Some(SavedAddress { address: SOURCE.into(), since: start() });
    }

    fn answer(&mut self, instruction: &Instruction, outcome: Outcome) -> Result<Decision, Rejection> {
        let (instruction, outcome) = (Box::new(instruction.clone()), Box::new(outcome));
        self.give(&Actor::Rail(RAIL), &WalletCommand::RecordOutcome { instruction, outcome })
    }
}

fn usdc(minor: i64) -> Money {
    Money::new(minor, Currency::USDC)
}

fn set(address: &str) -> WalletCommand {
    WalletCommand::SetAddress { address: address.into() }
}

fn take(minor: i64) -> WalletCommand {
    WalletCommand::Withdraw { amount: usdc(minor) }
}

fn names(decision: &Decision) -> Vec<&'static str> {
    decision.events.iter().map(WalletEvent::name).collect()
}

#[test]
fn jp_25_the_first_address_is_good_at_once_and_a_changed_one_cools_down() {
    let mut counter = Counter::with(20_000_000);
    assert_eq!(counter.own(take(5_000_000)).unwrap_err(), Rejection::Missing { field: "withdrawal address" });
    assert_eq!(names(&counter.save(HOME)), ["wallet.address_set"]);
    counter.own(take(5_000_000)).unwrap();

    assert_eq!(names(&counter.save(HOME)), [""; 0], "the same again changes nothing");
    let changed = counter.save(OTHER);
    let next = start() + Span::hours(24).delta();
    let event =
        WalletEvent::AddressChanged { agent: worker(), address: OTHER.into(), before: HOME.into(), cools_until: next };
    assert_eq!(changed.events, [event]);
    let refused = Rejection::TooSoon { command: "withdraw_money", next };
    for wait in [Span::seconds(0), Span::hours(23)] {
        counter.now += wait.delta();
        assert_eq!(counter.own(take(5_000_000)).unwrap_err(), refused);
    }
    counter.now = Desk::just_before(next);
    assert_eq!(counter.own(take(5_000_000)).unwrap_err(), refused);
    counter.now = next;
    let sent = counter.own(take(5_000_000)).unwrap().instruction.unwrap();
    assert!(matches!(sent.order, Order::Payout { destination: Some(to), .. } if to == OTHER));
}

#[test]
fn jp_25_changing_back_is_a_change_and_begins_the_cool_down_anew() {
    let mut counter = Counter::with(20_000_000);
    counter.save(HOME);
    counter.save(OTHER);
    counter.now += Span::hours(23).delta();
    counter.save(HOME);
    counter.now += Span::hours(2).delta();
    assert!(matches!(counter.own(take(5_000_000)), Err(Rejection::TooSoon { .. })));
}

#[test]
fn jp_25_what_can_be_no_address_is_refused() {
    let mut counter = Counter::with(0);
    for address in ["", "two words", "line\nbreak", "right\u{202E}left", &"x".repeat(201)] {
        assert!(counter.own(set(address)).is_err(), "{address:?}");
    }
    assert_eq!(counter.wallet, Wallet::new(worker()));
}

#[test]
fn jp_26_the_fee_comes_out_of_the_amount_and_the_least_is_five() {
    let mut counter = Counter::with(7_000_000);
    counter.save(HOME);
    for minor in [4_999_999, 0, -1, i64::MIN] {
        let (currency, min, max) = (Currency::USDC, 5_000_000, RANGE.max + 100_000);
        let refused = Rejection::Amount { field: "amount", currency, min, max, actual: minor };
        assert_eq!(counter.own(take(minor)).unwrap_err(), refused);
    }
    assert!(matches!(counter.own(take(7_000_001)), Err(Rejection::Ledger(_))));
    let euros = WalletCommand::Withdraw { amount: Money::new(6_000_000, Currency::EUR) };
    assert!(matches!(counter.own(euros), Err(Rejection::Money(_))));

    let sent = counter.own(take(6_000_000)).unwrap().instruction.unwrap();
    assert_eq!(sent.order.amount(), usdc(5_900_000));
    assert_eq!(counter.of(Account::Available(worker())), 1_000_000);
    assert_eq!(counter.of(Account::Pending(worker())), 6_000_000);
    assert_eq!(counter.of(Account::Revenue(RevenueKind::Withdrawals)), 0, "nothing is earned before it arrives");
    let done = counter.answer(&sent, done(&sent)).unwrap();
    assert_eq!(names(&done), ["wallet.paid_out"]);
    assert_eq!(counter.of(Account::Pending(worker())), 0);
    assert_eq!(counter.of(Account::Revenue(RevenueKind::Withdrawals)), 100_000);
    assert_eq!(counter.of(Account::Rail(RAIL)), -1_100_000, "what is left and the fee");
    assert_eq!(counter.wallet.payouts, []);
}

/// What the rail of these tests takes at once.
const RANGE: Range<i64> = Range { min: 1, max: 1_000_000_000_000 };

#[test]
fn jp_26_what_the_rail_does_not_take_is_refused_before_it_is_asked() {
    let mut counter = Counter::with(50_000_000);
    counter.save(HOME);
    counter.rail.amounts = Range { min: 8_000_000, max: 10_000_000 };
    for minor in [8_099_999, 10_100_001] {
        assert!(matches!(counter.own(take(minor)), Err(Rejection::Amount { .. })), "{minor}");
    }
    for minor in [8_100_000, 10_100_000] {
        counter.own(take(minor)).unwrap();
    }
    counter.rail.capabilities.clear();
    let refused = Rejection::Unsupported { rail: RAIL, capability: Capability::Payout };
    assert_eq!(counter.own(take(9_000_000)).unwrap_err(), refused);
    counter.policy.wallet.as_mut().unwrap().withdrawals = None;
    assert_eq!(counter.own(take(9_000_000)).unwrap_err(), Rejection::NotOffered { what: "withdrawals" });
}

#[test]
fn jp_26_a_declined_withdrawal_gives_the_money_and_the_fee_back() {
    let mut counter = Counter::with(6_000_000);
    counter.save(HOME);
    let sent = counter.own(take(6_000_000)).unwrap().instruction.unwrap();
    let failed = counter.answer(&sent, declined()).unwrap();
    assert_eq!(names(&failed), ["wallet.payout_failed"]);
    assert_eq!(counter.of(Account::Available(worker())), 6_000_000);
    assert_eq!(counter.of(Account::Pending(worker())), 0);
    // Told again, it moves nothing.
    let again = counter.answer(&sent, declined());
    assert!(matches!(again, Err(Rejection::NotFound { what: "payout on its way", .. })));
    let next = counter.own(take(6_000_000)).unwrap().instruction.unwrap();
    assert_ne!(next.id, sent.id);
}

#[test]
fn what_the_rail_asks_of_a_party_is_told_without_its_secret() {
    let mut counter = Counter::with(6_000_000);
    counter.save(HOME);
    let sent = counter.own(take(6_000_000)).unwrap().instruction.unwrap();
    let action = Action { who: Party::Platform, kind: "approve".into(), payload: "secret".into() };
    let asked = counter.answer(&sent, Outcome::NeedsAction(action)).unwrap();
    assert_eq!(names(&asked), ["wallet.action_required"]);
    assert!(!serde_json::to_string(&asked.events).unwrap().contains("secret"));
    assert_eq!(counter.wallet.payouts.len(), 1, "it is still on its way");
}

#[test]
fn a_receipt_of_another_amount_is_refused() {
    let mut counter = Counter::with(6_000_000);
    counter.save(HOME);
    let sent = counter.own(take(6_000_000)).unwrap().instruction.unwrap();
    let mut lie = receipt(&sent, Landing::Outside);
    lie.amount = usdc(6_000_000);
    assert!(matches!(counter.answer(&sent, Outcome::Done(lie)), Err(Rejection::Receipt(_))));
    assert_eq!(counter.of(Account::Pending(worker())), 6_000_000);
}

#[test]
fn jp_27_a_panic_sends_everything_past_the_cool_down_and_without_a_fee() {
    let mut counter = Counter::with(6_000_001);
    assert!(matches!(counter.own(WalletCommand::Panic), Err(Rejection::Missing { .. })), "no deposit came yet");
    counter.emergency();
    counter.save(HOME);
    counter.save(OTHER);
    let decision = counter.own(WalletCommand::Panic).unwrap();
    assert_eq!(names(&decision), ["wallet.payout_requested"]);
    let order = decision.instruction.unwrap().order;
    assert_eq!(order, Order::Payout { agent: worker(), destination: Some(SOURCE.into()), amount: usdc(6_000_001) });
    assert_eq!(counter.of(Account::Available(worker())), 0);
    assert_eq!(counter.wallet.payouts[0].purpose, PayoutPurpose::Panic);
    // There is nothing left for a second one.
    assert!(matches!(counter.own(WalletCommand::Panic), Err(Rejection::Amount { actual: 0, .. })));
}

#[test]
fn jp_27_a_panic_of_more_than_the_rail_takes_sends_as_much_as_it_does() {
    let mut counter = Counter::with(25);
    counter.emergency();
    counter.rail.amounts = Range { min: 5, max: 12 };
    let mut sent = Vec::new();
    while let Ok(decision) = counter.own(WalletCommand::Panic) {
        sent.push(decision.instruction.unwrap().order.amount().minor());
    }
    assert_eq!(sent, [12, 12]);
    assert_eq!(counter.of(Account::Available(worker())), 1, "less than the rail takes");
}

#[test]
fn jp_27_where_panic_is_off_there_is_none() {
    let mut counter = Counter::with(25);
    counter.emergency();
    counter.policy.wallet.as_mut().unwrap().withdrawals.as_mut().unwrap().panic = Switch::Off;
    assert_eq!(counter.own(WalletCommand::Panic).unwrap_err(), Rejection::NotOffered { what: "a panic" });
}

#[test]
fn only_the_agent_and_its_owner_move_its_money_and_operators_only_where_the_way_is_fixed() {
    let mut counter = Counter::with(50_000_000);
    counter.emergency();
    counter.save(HOME);
    let (own, theirs) = (Actor::Owner(OwnerId(Uuid::from_u128(1))), Actor::Owner(OwnerId(Uuid::from_u128(2))));
    let strangers = [by(stranger()), theirs, Actor::Timer, Actor::Rail(RAIL), Actor::Rail(RailId::new("other"))];
    for command in [set(OTHER), take(5_000_000), WalletCommand::Panic] {
        for actor in &strangers {
            assert!(matches!(counter.ask(actor, &command), Err(Rejection::WrongActor { .. })), "{actor} {command:?}");
        }
        counter.ask(&own, &command).unwrap();
        let by_operator = counter.ask(&operator(), &command);
        assert_eq!(by_operator.is_ok(), command == WalletCommand::Panic, "{by_operator:?}");
    }
    let sent = counter.own(take(5_000_000)).unwrap().instruction.unwrap();
    let told = WalletCommand::RecordOutcome { instruction: Box::new(sent), outcome: Box::new(declined()) };
    for actor in [by(worker()), operator(), own, Actor::Rail(RailId::new("other"))] {
        assert!(matches!(counter.ask(&actor, &told), Err(Rejection::WrongActor { .. })), "{actor}");
    }
}

#[test]
fn a_stopped_agent_moves_nothing_and_one_not_active_yet_gets_back_what_it_sent() {
    use AgentStatus::{AwaitingDeposit, Closing, Deleted, Suspended};
    let mut counter = Counter::with(50_000_000);
    counter.emergency();
    counter.save(HOME);
    for status in [Suspended, Closing, Deleted] {
        counter.standing = Some(status);
        for command in [set(OTHER), take(5_000_000), WalletCommand::Panic] {
            let answer = counter.ask(&by(worker()), &command);
            assert!(matches!(answer, Err(Rejection::WrongAgentStatus { .. })), "{status} {command:?}");
        }
        counter.ask(&operator(), &WalletCommand::Panic).unwrap();
    }
    counter.standing = Some(AwaitingDeposit);
    assert!(matches!(counter.own(take(5_000_000)), Err(Rejection::WrongAgentStatus { .. })));
    counter.own(WalletCommand::Panic).unwrap();
}

#[test]
fn a_debt_is_paid_before_anything_leaves() {
    let mut counter = Counter::with(10_000_000);
    counter.emergency();
    counter.save(HOME);
    counter.book(Account::Debt(worker()), Account::Rail(RAIL), 3_000_000);
    assert!(matches!(counter.own(take(7_000_001)), Err(Rejection::Ledger(_))));
    assert_eq!(counter.of(Account::Debt(worker())), -3_000_000, "a refusal repays nothing");
    counter.own(take(6_000_000)).unwrap();
    assert_eq!(counter.of(Account::Debt(worker())), 0);
    assert_eq!(counter.of(Account::Available(worker())), 1_000_000);
    counter.book(Account::Debt(worker()), Account::Rail(RAIL), 3_000_000);
    assert!(matches!(counter.own(WalletCommand::Panic), Err(Rejection::Amount { actual: 0, .. })));
}

#[test]
fn earnings_that_landed_in_a_wallet_leave_to_the_account_that_the_rail_knows() {
    let mut counter = Counter::with(4_200);
    counter.policy = voxpact();
    assert!(matches!(counter.own(WalletCommand::PayOut), Err(Rejection::WrongRail { .. })));
    counter.rail.custody = Custody::PerHold;
    let decision = counter.give(&operator(), &WalletCommand::PayOut).unwrap();
    let order = decision.instruction.unwrap().order;
    assert_eq!(order, Order::Payout { agent: worker(), destination: None, amount: usdc(4_200) });
}

/// VP-35: the rail's word pays out by the rules of the agent's own word, and is taken in whatever they say.
#[test]
fn vp_35_what_waits_leaves_when_the_rail_says_that_the_account_is_ready() {
    let ready = WalletCommand::RecordAccountReady;
    let per_hold = |minor| {
        let mut counter = Counter::with(minor);
        counter.policy = voxpact();
        counter.rail.custody = Custody::PerHold;
        counter
    };
    let mut counter = per_hold(4_200);
    for stranger in [by(worker()), operator(), Actor::Timer, Actor::Rail(RailId::new("another"))] {
        assert!(matches!(counter.ask(&stranger, &ready), Err(Rejection::WrongActor { .. })), "{stranger}");
    }
    counter.book(Account::Debt(worker()), Account::Rail(RAIL), 1_200);
    let decision = counter.give(&Actor::Rail(RAIL), &ready).unwrap();
    let order = decision.instruction.unwrap().order;
    assert_eq!(order, Order::Payout { agent: worker(), destination: None, amount: usdc(3_000) });
    assert_eq!((counter.of(Account::Debt(worker())), counter.of(Account::Available(worker()))), (0, 0));
    assert_eq!(counter.wallet.payouts[0].purpose, PayoutPurpose::Earnings);
    let again = counter.give(&Actor::Rail(RAIL), &ready).unwrap();
    assert_eq!((again.instruction, again.events, again.wallet.ready_at), (None, vec![], Some(start())));

    type Alter = fn(&mut Counter);
    let refusals: [(&str, Alter); 6] = [
        ("there is nothing", |counter| counter.book(Account::Available(worker()), Account::Rail(RAIL), 4_200)),
        ("less than the rail takes", |counter| counter.rail.amounts.min = 4_201),
        ("all of it is owed", |counter| counter.book(Account::Debt(worker()), Account::Rail(RAIL), 4_200)),
        ("the agent is suspended", |counter| counter.standing = Some(AgentStatus::Suspended)),
        ("the agent is deleted", |counter| counter.standing = Some(AgentStatus::Deleted)),
        ("the rail pays nothing out", |counter| counter.rail.capabilities.clear()),
    ];
    for (why, alter) in refusals {
        let mut counter = per_hold(4_200);
        alter(&mut counter);
        let decision = counter.give(&Actor::Rail(RAIL), &ready).unwrap();
        assert!(decision.movement.is_empty() && decision.instruction.is_none(), "{why}: {decision:?}");
        assert_eq!((decision.events, decision.wallet.ready_at), (vec![], Some(start())), "{why}");
    }
    let pooled = Counter::with(4_200).give(&Actor::Rail(RAIL), &ready);
    assert!(matches!(pooled, Err(Rejection::WrongRail { needed: Custody::PerHold, .. })));
}

/// VP-35: a share that was on its way when the account became ready is not left behind; one that the rail keeps
/// later is kept because the account is not ready any more.
#[test]
fn vp_35_a_share_that_is_kept_leaves_if_the_account_became_ready_since_it_was_asked_for() {
    let second = Span::seconds(1).delta();
    for (ready_at, leaves) in [(None, false), (Some(start() - second), false), (Some(start()), true)] {
        let mut counter = Counter::with(4_200);
        counter.rail.custody = Custody::PerHold;
        counter.wallet.ready_at = ready_at;
        counter.now = start() + second;
        let kept = WalletCommand::RecordKept { asked_at: start() };
        let decision = counter.give(&Actor::Rail(RAIL), &kept).unwrap();
        assert_eq!(decision.instruction.is_some(), leaves, "{ready_at:?}");
        assert_eq!(counter.wallet.ready_at, ready_at);
    }
}

#[test]
fn so_many_payouts_are_on_their_way_at_once_and_no_more() {
    let mut counter = Counter::with(i64::from(Wallet::PAYOUTS + 1) * 5_000_000);
    counter.save(HOME);
    for _ in 0..Wallet::PAYOUTS {
        counter.own(take(5_000_000)).unwrap();
    }
    assert!(matches!(counter.own(take(5_000_000)), Err(Rejection::TooMany { max: Wallet::PAYOUTS, .. })));
}

#[test]
fn a_wallet_is_no_agents_and_no_other_agents() {
    let of = |agent: AgentId| Wallet::new(agent).id;
    assert_ne!(of(worker()).0, worker().0);
    assert_ne!(of(worker()), of(buyer()));
    assert_eq!(of(worker()), of(worker()));
}
