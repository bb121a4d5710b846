//! Money's way through a wallet, on every store: in, through a job, out; with answers lost on the way.

use std::sync::Arc;
use tradepost::{
    actor::Actor,
    adjustment::Booking,
    agent::{AgentStatus, Registration},
    clock::ManualClock,
    engine::{AgentParts, Marketplace},
    error::Rejection,
    job::{ContestStage, JobStatus},
    ledger::{Account, RevenueKind, TransferKind},
    policy::{Activation, LossBearer, Policy, ReversalPolicy, Span},
    rail::{ChargebackStage, Cursor, Custody, Landing},
    secret::Pepper,
    store::{InstructionState, LoggedEvent, MemoryStore},
    testkit::{Answer, Chances, Course, Disorder, Ending, OutsideWorld, Script, ScriptedRail},
    wallet::{HistoryKind, Warning},
};

use super::bank::*;
use crate::support::*;

const HOME: &str = "home";
const SOURCE: &str = "source";

fn names(events: &[LoggedEvent]) -> Vec<&'static str> {
    events.iter().map(|logged| logged.event.body.name()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_23_to_28_money_comes_in_is_spent_earned_and_taken_out() {
    for bank in Bank::everywhere(just_pay(), Custody::Pooled).await {
        bank.world.disorder(Disorder::RepeatedAndShuffled);
        bank.deposit(buyer(), 20_000_000, SOURCE).await;
        bank.deposit(buyer(), 1_000_000, "somewhere else").await;
        let job = bank.posted(10_000_000).await.unwrap().id;
        let shown = bank.market.wallet(buyer()).await.unwrap();
        assert_eq!(
            [shown.available, shown.escrowed, shown.pending, shown.total, shown.debt],
            [10_700_000, 10_300_000, 0, 21_000_000, 0].map(|minor| bank.money(minor))
        );
        assert_eq!(shown.emergency.unwrap().address, SOURCE, "JP-24: the first, for ever");
        assert_eq!((shown.address, shown.warnings), (None, vec![]));

        bank.market.agent(worker()).deliver(job, Default::default()).await.unwrap();
        bank.market.agent(buyer()).approve(job).await.unwrap();
        bank.save(worker(), HOME).await;
        bank.world.next(Script { course: Course::Pending(2, Ending::Done), ..Script::default() });
        bank.withdraw(worker(), 6_000_000).await.unwrap();
        let shown = bank.market.wallet(worker()).await.unwrap();
        assert_eq!([shown.available, shown.pending], [4_000_000, 6_000_000].map(|minor| bank.money(minor)));
        assert_eq!((shown.payouts.len(), shown.payouts[0].to.as_deref()), (1, Some(HOME)));
        bank.settle().await;
        assert_eq!(bank.world.outside(worker()), 5_900_000, "JP-26: the fee is out of the amount");
        assert_eq!(bank.of(Account::Revenue(RevenueKind::Withdrawals)).await, 100_000);
        assert_eq!(bank.market.wallet(worker()).await.unwrap().payouts, []);
        let told = bank.market.wallet_events(worker()).await.unwrap();
        assert_eq!(names(&told), ["wallet.address_set", "wallet.payout_requested", "wallet.paid_out"]);

        bank.market.agent(buyer()).panic(buyer()).await.unwrap();
        bank.settle().await;
        assert_eq!(bank.world.outside(buyer()), -21_000_000 + 10_700_000);
        assert_eq!(bank.available(buyer()).await, 0);

        let lines = |lines: Vec<tradepost::wallet::HistoryLine>| -> Vec<_> {
            lines.iter().map(|line| (line.kind, line.amount.minor())).collect()
        };
        let history = lines(bank.market.wallet_history(buyer(), 0, 50).await.unwrap());
        assert_eq!(
            history,
            [
                (HistoryKind::Deposit, 20_000_000),
                (HistoryKind::Deposit, 1_000_000),
                (HistoryKind::EscrowLock, -10_300_000),
                (HistoryKind::Spent, -10_300_000),
                (HistoryKind::Withdrawal, -10_700_000),
            ]
        );
        let history = lines(bank.market.wallet_history(worker(), 0, 50).await.unwrap());
        assert_eq!(history, [(HistoryKind::Earned, 10_000_000), (HistoryKind::Withdrawal, -6_000_000)]);
        bank.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_26_a_payout_whose_answer_is_lost_is_paid_once() {
    for answer in [Answer::LostAfter, Answer::LostBefore, Answer::NotSent] {
        for bank in Bank::everywhere(just_pay(), Custody::Pooled).await {
            bank.deposit(worker(), 10_000_000, SOURCE).await;
            bank.save(worker(), HOME).await;
            bank.world.next(Script { answer, ..Script::default() });
            bank.withdraw(worker(), 10_000_000).await.unwrap();
            assert_eq!(bank.of(Account::Pending(worker())).await, 10_000_000, "nobody knows yet");
            bank.settle().await;
            let payouts = bank.market.payouts(worker()).await.unwrap();
            assert_eq!(payouts.len(), 1);
            assert_eq!(bank.world.effects(payouts[0].instruction.id).times, 1, "{answer:?}");
            assert_eq!(bank.world.outside(worker()), -100_000);
            bank.check().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_26_a_declined_payout_gives_the_money_and_the_fee_back() {
    for course in [Course::Declined, Course::Pending(2, Ending::Declined)] {
        for bank in Bank::everywhere(just_pay(), Custody::Pooled).await {
            bank.deposit(worker(), 10_000_000, SOURCE).await;
            bank.save(worker(), HOME).await;
            bank.world.next(Script { course, ..Script::default() });
            bank.withdraw(worker(), 6_000_000).await.unwrap();
            bank.settle().await;
            assert_eq!(bank.available(worker()).await, 10_000_000);
            assert_eq!(bank.of(Account::Pending(worker())).await, 0);
            let lines = bank.market.wallet_history(worker(), 0, 50).await.unwrap();
            let kinds: Vec<_> = lines.iter().map(|line| line.kind).collect();
            assert_eq!(kinds, [HistoryKind::Deposit, HistoryKind::Withdrawal, HistoryKind::WithdrawalReturned]);
            let told = bank.market.wallet_events(worker()).await.unwrap();
            assert_eq!(names(&told).last(), Some(&"wallet.payout_failed"));
            bank.check().await;
        }
    }
}

#[tokio::test]
async fn a_payout_that_waits_for_an_operator_goes_on_when_told() {
    let bank = Bank::in_memory(just_pay(), Custody::Pooled).await;
    bank.deposit(worker(), 10_000_000, SOURCE).await;
    bank.save(worker(), HOME).await;
    bank.world.next(Script { course: Course::NeedsAction(Ending::Done), ..Script::default() });
    bank.withdraw(worker(), 6_000_000).await.unwrap();
    let asked = bank.market.payouts(worker()).await.unwrap()[0].clone();
    assert!(matches!(asked.state, InstructionState::NeedsAction(_)));
    let told = bank.market.wallet_events(worker()).await.unwrap();
    assert_eq!(names(&told).last(), Some(&"wallet.action_required"));
    bank.market.agent(worker()).answer(asked.instruction.id, "yes").await.unwrap();
    bank.settle().await;
    assert_eq!(bank.world.outside(worker()), -10_000_000 + 5_900_000);
    bank.check().await;
}

#[tokio::test]
async fn a_payout_that_an_operator_resolves_is_booked() {
    let bank = Bank::in_memory(just_pay(), Custody::Pooled).await;
    bank.deposit(worker(), 10_000_000, SOURCE).await;
    bank.save(worker(), HOME).await;
    bank.world.next(Script { lie: Some(tradepost::testkit::Lie::Amount), ..Script::default() });
    bank.withdraw(worker(), 6_000_000).await.unwrap();
    let lied = bank.market.payouts(worker()).await.unwrap()[0].clone();
    assert!(matches!(lied.state, InstructionState::Mismatch { .. }));
    assert_eq!(bank.of(Account::Pending(worker())).await, 6_000_000, "nothing is booked");
    let truth = done(&lied.instruction);
    bank.market.operator("Ada").resolve(lied.instruction.id, truth, "seen on the chain").await.unwrap();
    assert_eq!(bank.of(Account::Pending(worker())).await, 0);
    bank.check().await;
}

#[tokio::test]
async fn jp_25_a_change_of_address_warns_until_it_has_cooled_down() {
    let bank = Bank::in_memory(just_pay(), Custody::Pooled).await;
    bank.deposit(worker(), 20_000_000, SOURCE).await;
    bank.save(worker(), HOME).await;
    assert_eq!(bank.market.wallet(worker()).await.unwrap().warnings, []);
    bank.save(worker(), "a thief's".split(' ').next().unwrap()).await;
    let until = start() + Span::hours(24).delta();
    let warning = Warning::AddressChanged { at: start(), until };
    assert_eq!(bank.market.wallet(worker()).await.unwrap().warnings, [warning]);
    assert!(matches!(rejected(bank.withdraw(worker(), 5_000_000).await), Rejection::TooSoon { .. }));
    // JP-27: the owner is faster than the thief can be.
    bank.market.agent(worker()).panic(worker()).await.unwrap();
    bank.settle().await;
    assert_eq!(bank.world.outside(worker()), 0);
    bank.clock.advance(Span::hours(24).delta());
    assert_eq!(bank.market.wallet(worker()).await.unwrap().warnings, []);
    bank.check().await;
}

#[tokio::test]
async fn a_repeated_withdrawal_is_one() {
    let bank = Bank::in_memory(just_pay(), Custody::Pooled).await;
    bank.deposit(worker(), 20_000_000, SOURCE).await;
    bank.save(worker(), HOME).await;
    for _ in 0..3 {
        let session = bank.market.agent(worker()).keyed("w1");
        session.withdraw_money(worker(), bank.money(5_000_000)).await.unwrap();
    }
    let other = bank.market.agent(worker()).keyed("w1").withdraw_money(worker(), bank.money(6_000_000)).await;
    assert!(matches!(rejected(other), Rejection::KeyReused { .. }));
    assert_eq!(bank.available(worker()).await, 15_000_000);
    bank.check().await;
}

#[tokio::test]
async fn in_a_seeded_storm_every_payout_is_paid_once_or_given_back() {
    let storm = Chances {
        not_sent: 80,
        busy: 60,
        lost_before: 100,
        lost_after: 100,
        declined: 120,
        pending: 250,
        needs_action: 0,
        lie: 0,
        held: 0,
        cost_up_to: 0,
    };
    let mut lost = 0;
    for seed in 0..60 {
        let bank = Bank::in_memory(just_pay(), Custody::Pooled).await;
        for number in 0..4 {
            bank.deposit(agent(0xD0 + number), 40_000_000, SOURCE).await;
            bank.save(agent(0xD0 + number), HOME).await;
        }
        bank.world.seeded(seed, storm);
        for round in 0..3 {
            for number in 0..4 {
                let who = agent(0xD0 + number);
                match (seed + round) % 3 {
                    0 => drop(bank.market.agent(who).panic(who).await),
                    _ => drop(bank.withdraw(who, 5_000_000 + i64::try_from(seed).unwrap()).await),
                }
            }
            let reconciled = bank.market.reconcile(bank.rail).await;
            // What differs is on its way; the sum is nothing at every instant.
            if let Ok(reconciled) = reconciled {
                assert!(reconciled.differences.is_empty() || !reconciled.in_flight.is_empty(), "seed {seed}");
            }
        }
        bank.world.seeded(seed, Chances::default());
        bank.settle().await;
        for number in 0..4 {
            let who = agent(0xD0 + number);
            let mut paid = 0;
            for payout in bank.market.payouts(who).await.unwrap() {
                let times = bank.world.effects(payout.instruction.id).times;
                let done = matches!(payout.state, InstructionState::Done(_));
                assert_eq!(times, u32::from(done), "seed {seed}: {payout:?}");
                lost += u32::from(!done);
                paid += if done { payout.instruction.order.amount().minor() } else { 0 };
            }
            assert_eq!(bank.world.outside(who), i128::from(paid) - 40_000_000);
            assert_eq!(bank.of(Account::Pending(who)).await, 0);
        }
        bank.check().await;
    }
    assert!(lost > 10, "the storm declines too little: {lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debt_is_taken_from_deposits_and_earnings_before_they_are_available() {
    for custody in [Custody::Internal, Custody::Pooled] {
        for bank in Bank::everywhere(just_pay(), custody).await {
            let deposit = async |who, minor: i64| match custody {
                Custody::Internal => {
                    let (market, amount) = (&bank.market, bank.money(minor));
                    market.operator("Ada").record_deposit(bank.rail, format!("d{minor}"), who, amount).await.unwrap();
                }
                _ => bank.deposit(who, minor, SOURCE).await,
            };
            deposit(buyer(), 100_000_000).await;
            bank.owe(worker(), 15_000_000).await;
            assert_eq!(bank.market.wallet(worker()).await.unwrap().debt, bank.money(15_000_000));
            let owes = Warning::Owes { amount: bank.money(15_000_000) };
            assert_eq!(bank.market.wallet(worker()).await.unwrap().warnings, [owes]);
            deposit(worker(), 2_000_000).await;
            assert_eq!((bank.available(worker()).await, bank.of(Account::Debt(worker())).await), (0, -13_000_000));
            let job = bank.hire(10_000_000).await;
            assert_eq!((bank.available(worker()).await, bank.of(Account::Debt(worker())).await), (0, -3_000_000));
            let told = names(&bank.market.job_history(job).await.unwrap());
            assert!(told.contains(&"payment.debt_repaid"), "{told:?}");
            bank.hire(10_000_000).await;
            assert_eq!((bank.available(worker()).await, bank.of(Account::Debt(worker())).await), (7_000_000, 0));
            assert_eq!(bank.market.wallet(worker()).await.unwrap().warnings, []);
            if custody == Custody::Pooled {
                let books = bank.market.reconcile(bank.rail).await.unwrap();
                assert_eq!(books.in_flight, []);
            }
            for trial in bank.market.trial_balance().await.unwrap() {
                assert_eq!(trial.sum(), 0);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debt_is_kept_by_the_platform_where_the_rail_pays_the_worker_itself() {
    for bank in Bank::everywhere(voxpact(), Custody::PerHold).await {
        bank.owe(worker(), 3_000).await;
        bank.hire(10_000).await;
        bank.settle().await;
        assert_eq!(bank.world.outside(worker()), 6_000, "9000 earned, 3000 kept");
        assert_eq!(bank.of(Account::Debt(worker())).await, 0);
        assert_eq!(bank.of(Account::Revenue(RevenueKind::Fees)).await, 1_000, "what is kept is no fee");
        for trial in bank.market.trial_balance().await.unwrap() {
            assert_eq!(trial.sum(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_36_earnings_are_listed_by_job_with_totals_and_what_landed_here_can_leave() {
    for bank in Bank::everywhere(voxpact(), Custody::PerHold).await {
        let first = bank.hire(10_000).await;
        bank.clock.advance(Span::hours(1).delta());
        bank.world.next(Script::default()); // the funding
        bank.world.next(Script { landing: Landing::Held, ..Script::default() });
        let second = bank.hire(20_000).await;
        bank.settle().await;
        assert_eq!((bank.world.outside(worker()), bank.available(worker()).await), (9_000, 18_000));
        let earnings = bank.market.earnings(worker(), 0, 50).await.unwrap();
        assert_eq!((earnings.total_earned, earnings.total_jobs), (bank.money(27_000), 2));
        let lines: Vec<_> =
            earnings.jobs.iter().map(|e| (e.job, e.gross.minor(), e.fee.minor(), e.net.minor(), e.at)).collect();
        let later = start() + Span::hours(1).delta();
        assert_eq!(lines, [(second, 20_000, 2_000, 18_000, later), (first, 10_000, 1_000, 9_000, start())]);

        bank.market.operator("Ada").pay_out(worker()).await.unwrap(); // the rail may tell of accounts late
        bank.settle().await;
        assert_eq!((bank.world.outside(worker()), bank.available(worker()).await), (27_000, 0));
        bank.check().await;
    }
}

/// A share that the rail kept, of a payment that the payer's bank has taken back meanwhile: it comes into the wallet
/// and is taken back from there by one decision, on what the wallet holds after it, so that nobody owes anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_decision_puts_into_a_wallet_is_there_to_be_taken_back_by_it() {
    let reversals = Some(ReversalPolicy { borne_by: LossBearer::Worker { backstop: 0 } });
    for bank in Bank::everywhere(Policy { reversals, ..voxpact() }, Custody::PerHold).await {
        bank.world.next(Script::default()); // the funding
        bank.world.next(Script { answer: Answer::LostAfter, landing: Landing::Held, ..Script::default() });
        let job = bank.hire(10_000).await;
        let (_, so_far) = bank.pushes(&Cursor::default());
        for stage in [ChargebackStage::Opened { evidence_due: None }, ChargebackStage::Lost] {
            assert!(bank.world.charge_back(job.into(), stage));
        }
        for push in bank.pushes(&so_far).0 {
            bank.receive(&push).await;
        }
        let waits = bank.market.job(job).await.unwrap().returns.chargebacks[0].stage;
        assert_eq!(waits, ContestStage::Lost, "nobody knows yet where the shares are");
        bank.settle().await;
        let history = bank.market.wallet_history(worker(), 0, 50).await.unwrap();
        let lines: Vec<_> = history.iter().map(|line| (line.kind, line.amount.minor())).collect();
        assert_eq!(lines, [(HistoryKind::Earned, 9_000), (HistoryKind::Other, -9_000)]);
        assert_eq!((bank.available(worker()).await, bank.of(Account::Debt(worker())).await), (0, 0));
        let told = names(&bank.market.job_history(job).await.unwrap());
        assert!(told.contains(&"payment.chargeback_lost") && !told.contains(&"payment.owed"), "{told:?}");
        bank.check().await;
    }
}

/// VP-09: nobody gets rid of a debt, nor loses earnings that the rail could not pay, by deleting itself.
#[tokio::test]
async fn vp_09_an_agent_that_owes_or_has_earnings_here_is_not_deleted() {
    let mut policy = voxpact();
    policy.agents = Policy::justpayai().unwrap().agents;
    policy.agents.activation = Activation::Free;
    let (market, _, _) = kept_by(policy, Custody::PerHold).await;
    let me = Actor::Owner(market.owner_by_email("me@example.org").unwrap());
    let registration = Registration { name: "ada".into(), email: None, profile: Default::default() };
    let ada = market.by(me.clone()).register(registration).await.unwrap().agent.id;
    let book = async |debit, credit, minor| {
        let amount = tradepost::money::Money::new(minor, market.currency());
        market.operator("Ada").adjust(vec![Booking { debit, credit, amount }], "as it was").await.unwrap();
        amount
    };
    let treasury = Account::Treasury(ScriptedRail::profile_of(Custody::PerHold, market.currency()).id);
    let owes = book(Account::Debt(ada), treasury, 300).await;
    assert_eq!(rejected(market.by(me.clone()).delete(ada).await), Rejection::OwesMoney { agent: ada, owes });
    book(treasury, Account::Debt(ada), 300).await;
    let holds = book(treasury, Account::Available(ada), 200).await;
    assert_eq!(rejected(market.by(me.clone()).delete(ada).await), Rejection::WalletNotEmpty { agent: ada, holds });
    book(Account::Available(ada), treasury, 200).await;
    assert_eq!(market.by(me).delete(ada).await.unwrap().status, AgentStatus::Deleted);
}

/// JP-02: a deposit that leaves nothing to pay the activation with (here the agent owes more) leaves its
/// agent waiting, and the rail is read on.
#[tokio::test]
async fn jp_02_a_deposit_that_cannot_activate_its_agent_does_not_stop_the_rail() {
    let (market, world, _) = kept(Policy::justpayai().unwrap()).await;
    let me = Actor::Owner(market.owner_by_email("me@example.org").unwrap());
    let register = async |name: &str| {
        let registration = Registration { name: name.into(), email: None, profile: Default::default() };
        market.by(me.clone()).register(registration).await.unwrap().agent.id
    };
    let (ada, bob) = (register("ada").await, register("bob").await);
    let money = |minor| tradepost::money::Money::new(minor, market.currency());
    let treasury = Account::Treasury(ScriptedRail::profile_of(Custody::Pooled, market.currency()).id);
    let debt = Booking { debit: Account::Debt(ada), credit: treasury, amount: money(3_000_000) };
    market.operator("Ada").adjust(vec![debt], "as it was").await.unwrap();
    world.deposit(ada, money(2_000_000), SOURCE);
    world.deposit(bob, money(2_000_000), SOURCE);
    market.run_until_idle().await.unwrap();
    let status = async |agent| market.registered(agent).await.unwrap().status;
    assert_eq!((status(ada).await, status(bob).await), (AgentStatus::AwaitingDeposit, AgentStatus::Active));
    world.deposit(ada, money(3_000_000), SOURCE);
    market.run_until_idle().await.unwrap();
    assert_eq!((status(ada).await, market.available(ada).await.unwrap()), (AgentStatus::Active, money(1_000_000)));
}

#[tokio::test]
async fn what_a_rail_reports_where_no_deposits_are_taken_is_kept_for_an_operator() {
    let bank = Bank::in_memory(agent_market(), Custody::Pooled).await;
    bank.deposit(worker(), 10, SOURCE).await;
    assert_eq!(bank.available(worker()).await, 0);
    assert_eq!(bank.market.unsettled().await.unwrap().len(), 1);
}

/// Agents of its own, with wallets over a pooled rail.
async fn kept(policy: Policy) -> (Marketplace, OutsideWorld, Arc<ManualClock>) {
    kept_by(policy, Custody::Pooled).await
}

async fn kept_by(policy: Policy, custody: Custody) -> (Marketplace, OutsideWorld, Arc<ManualClock>) {
    let (clock, currency) = (Arc::new(ManualClock::at(start())), policy.currency);
    let world = OutsideWorld::new(currency, 7);
    let profile = ScriptedRail::profile_of(custody, currency);
    let rail = ScriptedRail::new(profile, world.clone(), clock.clone());
    let builder = Marketplace::builder("kept", MemoryStore::new(), policy).rail(rail);
    let builder = builder.agents(AgentParts::new(Pepper::new([7; 32])));
    (builder.clock(clock.clone()).build().await.unwrap(), world, clock)
}

#[tokio::test]
async fn vp_09_an_agent_is_deleted_when_its_wallet_is_empty_and_operators_reach_what_is_left() {
    let (market, world, _) = kept(Policy::justpayai().unwrap()).await;
    let me = Actor::Owner(market.owner_by_email("me@example.org").unwrap());
    let registration = Registration { name: "ada".into(), email: None, profile: Default::default() };
    let ada = market.by(me.clone()).register(registration).await.unwrap().agent.id;
    let money = |minor| tradepost::money::Money::new(minor, market.currency());
    world.deposit(ada, money(8_000_000), SOURCE);
    market.run_until_idle().await.unwrap();
    assert_eq!(market.registered(ada).await.unwrap().status, AgentStatus::Active, "JP-02");
    assert_eq!(market.available(ada).await.unwrap(), money(7_000_000));

    let refused = rejected(market.by(me.clone()).delete(ada).await);
    assert_eq!(refused, Rejection::WalletNotEmpty { agent: ada, holds: money(7_000_000) });
    let stranger = rejected(market.agent(stranger()).delete(ada).await);
    assert!(matches!(stranger, Rejection::WrongActor { .. }), "nobody else learns what it holds: {stranger:?}");

    market.operator("Ada").suspend(ada, "fraud?").await.unwrap();
    let stopped = rejected(market.agent(ada).panic(ada).await);
    assert!(matches!(stopped, Rejection::WrongAgentStatus { status: AgentStatus::Suspended, .. }));
    market.operator("Ada").reinstate(ada).await.unwrap();
    market.operator("Ada").delete(ada).await.unwrap();
    assert!(matches!(rejected(market.by(me).panic(ada).await), Rejection::WrongAgentStatus { .. }));
    market.operator("Ada").panic(ada).await.unwrap();
    market.run_until_idle().await.unwrap();
    assert_eq!(world.outside(ada), -1_000_000, "all but the activation fee is back");
    assert_eq!(market.available(ada).await.unwrap(), money(0));
}

#[tokio::test]
async fn jp_25_an_owner_acts_for_its_agent_and_nobody_elses() {
    let (market, world, _) = kept(Policy::justpayai().unwrap()).await;
    let owner = |mail: &str| Actor::Owner(market.owner_by_email(mail).unwrap());
    let registration = Registration { name: "ada".into(), email: None, profile: Default::default() };
    let ada = market.by(owner("me@example.org")).register(registration).await.unwrap().agent.id;
    let money = |minor| tradepost::money::Money::new(minor, market.currency());
    world.deposit(ada, money(8_000_000), SOURCE);
    market.run_until_idle().await.unwrap();
    let theirs = market.by(owner("you@example.org")).set_withdrawal_address(ada, HOME).await;
    assert!(matches!(rejected(theirs), Rejection::WrongActor { .. }));
    market.by(owner("me@example.org")).set_withdrawal_address(ada, HOME).await.unwrap();
    let more = market.by(owner("me@example.org")).withdraw_money(ada, money(7_000_001)).await;
    assert!(matches!(rejected(more), Rejection::Ledger(_)), "an owner may know what its agent holds");
    market.by(owner("me@example.org")).withdraw_money(ada, money(7_000_000)).await.unwrap();
    assert_eq!(world.outside(ada), -8_000_000 + 6_900_000);
}

#[tokio::test]
async fn am_01_am_08_free_credits_are_in_the_wallet_and_do_not_leave() {
    let clock = Arc::new(ManualClock::at(start()));
    let policy = Policy::agentmarket().unwrap();
    let rail = tradepost::rail::CreditsRail::new(policy.currency);
    let builder = Marketplace::builder("credits", MemoryStore::new(), policy).rail(rail);
    let market = builder.agents(AgentParts::new(Pepper::new([7; 32]))).clock(clock).build().await.unwrap();
    let me = Actor::Owner(market.owner_by_email("me@example.org").unwrap());
    let registration = Registration { name: "ada".into(), email: None, profile: Default::default() };
    let ada = market.by(me.clone()).register(registration).await.unwrap().agent.id;
    let shown = market.wallet(ada).await.unwrap();
    assert_eq!([shown.available.minor(), shown.escrowed.minor(), shown.total.minor()], [100, 0, 100]);
    let history = market.wallet_history(ada, 0, 50).await.unwrap();
    assert_eq!((history.len(), history[0].kind), (1, HistoryKind::Grant));
    let out = market.agent(ada).withdraw_money(ada, shown.available).await;
    assert_eq!(rejected(out), Rejection::NotOffered { what: "withdrawals" });
    assert!(matches!(rejected(market.agent(ada).panic(ada).await), Rejection::NotOffered { .. }));
    market.by(me).delete(ada).await.unwrap(); // what cannot leave keeps nobody
}

#[tokio::test]
async fn an_unmentioned_job_status_is_not_earned() {
    let bank = Bank::in_memory(voxpact(), Custody::PerHold).await;
    let job = bank.posted(10_000).await.unwrap();
    bank.market.agent(buyer()).cancel(job.id, "no").await.unwrap();
    bank.settle().await;
    assert_eq!(bank.market.job(job.id).await.unwrap().status, JobStatus::Cancelled);
    let earnings = bank.market.earnings(worker(), 0, 50).await.unwrap();
    assert_eq!((earnings.total_jobs, earnings.jobs.len()), (0, 0));
    let refunds = bank.market.history(Account::Clearing(bank.rail), 0, 10).await.unwrap();
    assert!(refunds.iter().all(|entry| entry.kind == TransferKind::Refund));
}
