//! Earnings that a rail kept because the worker had no account there: they leave when it has one, by themselves.

use std::sync::Arc;

use futures::future::join_all;
use tradepost::{
    actor::Actor,
    adjustment::Booking,
    agent::Registration,
    clock::ManualClock,
    engine::{AgentParts, Marketplace, Unsettled},
    ids::{AgentId, JobId},
    ledger::Account,
    money::Money,
    policy::{Activation, Policy, Range, Span},
    rail::{ChargebackStage, Cursor, Custody, Landing, RailProfile},
    secret::Pepper,
    store::MemoryStore,
    testkit::{Answer, Course, Disorder, OutsideWorld, Script, ScriptedRail},
};

use super::bank::*;
use crate::support::*;

const PLAIN: Script =
    Script { answer: Answer::Arrives, course: Course::Straight, lie: None, landing: Landing::Outside, cost: 0 };
const KEPT: Script = Script { landing: Landing::Held, ..PLAIN };

/// A job is paid, and the rail treats the division as `script` says.
async fn paid(bank: &Bank, minor: i64, script: Script) -> JobId {
    bank.world.next(PLAIN); // the funding
    bank.world.next(script);
    bank.hire(minor).await
}

/// What has left for the worker's account, and what waits in its wallet.
async fn stands(bank: &Bank) -> (i128, i64) {
    (bank.world.outside(worker()), bank.available(worker()).await)
}

async fn requested(market: &Marketplace, agent: AgentId) -> Vec<Actor> {
    let told = market.wallet_events(agent).await.unwrap();
    let asked = told.into_iter().filter(|logged| logged.event.body.name() == "wallet.payout_requested");
    asked.map(|logged| logged.event.actor).collect()
}

/// VP-35: however often and in whatever order the rail tells it, what waits is paid out once.
#[tokio::test(flavor = "multi_thread")]
async fn vp_35_what_the_rail_kept_is_paid_out_once_when_the_account_is_ready() {
    for bank in Bank::everywhere(voxpact(), Custody::PerHold).await {
        bank.world.disorder(Disorder::RepeatedAndShuffled);
        paid(&bank, 10_000, KEPT).await;
        paid(&bank, 20_000, KEPT).await;
        bank.settle().await;
        assert_eq!(stands(&bank).await, (0, 27_000));
        let (_, so_far) = bank.pushes(&Cursor::default());
        bank.world.account_ready(worker());
        bank.world.account_ready(worker());
        let pushes = bank.pushes(&so_far).0;
        let told = join_all(pushes.iter().chain(&pushes).map(|push| bank.market.receive(bank.rail, push))).await;
        assert!(told.iter().all(Result::is_ok), "{told:?}");
        bank.settle().await;
        assert_eq!(stands(&bank).await, (27_000, 0));
        assert_eq!(requested(&bank.market, worker()).await, [Actor::Rail(bank.rail)]);
        bank.check().await;
    }
}

/// VP-35: the account is ready while the rail's answer is lost. Nothing waits yet when it is told, and nothing is
/// told again.
#[tokio::test(flavor = "multi_thread")]
async fn vp_35_a_share_that_arrives_after_the_account_was_told_of_is_paid_out_too() {
    for bank in Bank::everywhere(voxpact(), Custody::PerHold).await {
        paid(&bank, 10_000, Script { answer: Answer::LostAfter, ..KEPT }).await;
        let (_, so_far) = bank.pushes(&Cursor::default());
        bank.world.account_ready(worker());
        for push in bank.pushes(&so_far).0 {
            bank.receive(&push).await;
        }
        assert_eq!(requested(&bank.market, worker()).await, []);
        bank.settle().await;
        assert_eq!(stands(&bank).await, (9_000, 0));
        assert_eq!(requested(&bank.market, worker()).await, [Actor::Rail(bank.rail)]);
        bank.check().await;
    }
}

/// A share of a payment that the payer's bank has taken back, and may keep, is not hurried out of the wallet.
#[tokio::test]
async fn a_contested_share_does_not_leave_by_itself() {
    let bank = Bank::in_memory(voxpact(), Custody::PerHold).await;
    let job = paid(&bank, 10_000, Script { answer: Answer::LostAfter, ..KEPT }).await;
    let (_, so_far) = bank.pushes(&Cursor::default());
    bank.world.account_ready(worker());
    assert!(bank.world.charge_back(job.into(), ChargebackStage::Opened { evidence_due: None }));
    for push in bank.pushes(&so_far).0 {
        bank.receive(&push).await;
    }
    bank.settle().await;
    assert_eq!(stands(&bank).await, (0, 9_000));
    bank.world.charge_back(job.into(), ChargebackStage::Won);
    bank.world.account_ready(worker());
    bank.settle().await;
    assert_eq!(stands(&bank).await, (9_000, 0));
    bank.check().await;
}

/// VP-35: both at the same moment, by several workers: whoever comes second decides on what the first has written.
#[tokio::test(flavor = "multi_thread")]
async fn vp_35_a_share_and_the_accounts_readiness_at_once_leave_nothing_behind() {
    for bank in Bank::everywhere(voxpact(), Custody::PerHold).await {
        for round in 1..=8 {
            paid(&bank, 10_000, Script { answer: Answer::LostAfter, ..KEPT }).await;
            bank.clock.advance(Span::seconds(3).delta());
            bank.world.account_ready(worker());
            let worked = join_all((0..4).map(|_| bank.market.work())).await;
            assert!(worked.iter().all(Result::is_ok), "{worked:?}");
            bank.settle().await;
            assert_eq!(stands(&bank).await, (9_000 * round, 0));
            bank.clock.advance(Span::seconds(61).delta());
        }
        bank.check().await;
    }
}

/// VP-35: an account that is not ready any more keeps the next share here, until it is ready again.
#[tokio::test(flavor = "multi_thread")]
async fn vp_35_an_account_that_comes_and_goes_is_paid_each_time_it_is_back() {
    for bank in Bank::everywhere(voxpact(), Custody::PerHold).await {
        bank.world.account_ready(worker());
        bank.work().await;
        for round in 1..=3 {
            bank.clock.advance(Span::hours(1).delta());
            paid(&bank, 10_000, KEPT).await;
            bank.settle().await;
            assert_eq!(stands(&bank).await, (9_000 * (round - 1), 9_000), "it waits");
            bank.clock.advance(Span::hours(1).delta());
            bank.world.account_ready(worker());
            bank.settle().await;
            assert_eq!(stands(&bank).await, (9_000 * round, 0));
        }
        bank.check().await;
    }
}

/// What a rule keeps back keeps the rail's news back from nobody: a debt is taken first, and what is less than the
/// rail sends waits for more.
#[tokio::test]
async fn what_a_rule_refuses_stays_in_the_wallet_and_the_rail_is_read_on() {
    let profile = ScriptedRail::profile_of(Custody::PerHold, voxpact().currency);
    let profile = RailProfile { amounts: Range { min: 10_000, ..profile.amounts }, ..profile };
    let bank = Bank::with(MemoryStore::new(), voxpact(), profile).await;
    paid(&bank, 10_000, KEPT).await;
    bank.world.account_ready(worker());
    bank.settle().await;
    assert_eq!(stands(&bank).await, (0, 9_000));
    bank.clock.advance(Span::hours(1).delta());
    paid(&bank, 10_000, KEPT).await;
    bank.settle().await;
    bank.owe(worker(), 3_000).await;
    bank.world.account_ready(worker());
    bank.settle().await;
    assert_eq!(stands(&bank).await, (15_000, 0));
    assert_eq!(bank.of(Account::Debt(worker())).await, 0);
    assert_eq!(bank.market.verify().await.unwrap(), []);
}

/// A rail where no earnings wait for accounts tells of them in vain.
#[tokio::test]
async fn an_account_where_wallets_are_the_treasurys_is_for_an_operator() {
    let bank = Bank::in_memory(just_pay(), Custody::Pooled).await;
    bank.deposit(worker(), 9_000_000, "source").await;
    bank.world.account_ready(worker());
    bank.work().await;
    assert_eq!(requested(&bank.market, worker()).await, []);
    let open = bank.market.unsettled().await.unwrap();
    assert!(matches!(&open[..], [Unsettled::Refused(_)]), "an operator sees it: {open:?}");
    bank.deposit(worker(), 1_000_000, "source").await;
    assert_eq!(bank.available(worker()).await, 10_000_000, "the rail is read on");
}

/// Where agents are kept here: a suspended one is paid nothing until it is back, and a stranger is an operator's
/// business.
#[tokio::test]
async fn a_suspended_agent_keeps_what_waits_until_it_is_back() {
    let mut policy = Policy { agents: Policy::justpayai().unwrap().agents, ..voxpact() };
    policy.agents.activation = Activation::Free;
    let (clock, currency) = (Arc::new(ManualClock::at(start())), policy.currency);
    let world = OutsideWorld::new(currency, 7);
    let profile = ScriptedRail::profile_of(Custody::PerHold, currency);
    let treasury = Account::Treasury(profile.id);
    let rail = ScriptedRail::new(profile, world.clone(), clock.clone());
    let builder = Marketplace::builder("kept", MemoryStore::new(), policy).rail(rail).clock(clock.clone());
    let market = builder.agents(AgentParts::new(Pepper::new([7; 32]))).build().await.unwrap();
    let me = Actor::Owner(market.owner_by_email("me@example.org").unwrap());
    let registration = Registration { name: "ada".into(), email: None, profile: Default::default() };
    let ada = market.by(me).register(registration).await.unwrap().agent.id;
    let kept = Booking { debit: treasury, credit: Account::Available(ada), amount: Money::new(200, currency) };
    market.operator("Ada").adjust(vec![kept], "as it was").await.unwrap();
    market.operator("Ada").suspend(ada, "fraud?").await.unwrap();
    world.account_ready(ada);
    market.run_until_idle().await.unwrap();
    assert_eq!((market.available(ada).await.unwrap().minor(), market.unsettled().await.unwrap().len()), (200, 0));
    market.operator("Ada").reinstate(ada).await.unwrap();
    world.account_ready(ada);
    market.run_until_idle().await.unwrap();
    assert_eq!(requested(&market, ada).await.len(), 1);
    world.account_ready(stranger());
    market.run_until_idle().await.unwrap();
    let open = market.unsettled().await.unwrap();
    assert!(open.iter().any(|open| matches!(open, Unsettled::Refused(_))), "{open:?}");
}
