//! What operators do about money that is stuck, and to the ledger by hand; on every store.

use tradepost::{
    adjustment::{Adjusted, Booking, MovementId},
    error::Rejection,
    ids::RailId,
    job::{HoldState, JobStatus},
    ledger::{Account, LedgerError, Movement, RevenueKind, available, escrow},
    money::{Currency, Money},
    rail::{CreditsRail, Outcome},
    store::{InstructionState, MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{Answer, Course, Ending, Lie, Script},
};
use uuid::Uuid;

use crate::{
    counter::{Counter, credits, euros, rejection},
    support::*,
};

const LYING: Script = Script { lie: Some(Lie::Amount), ..PLAIN };
const PLAIN: Script = Script {
    answer: Answer::Arrives,
    course: Course::Straight,
    lie: None,
    landing: tradepost::rail::Landing::Outside,
    cost: 0,
};
const WHY: &str = "as the bank's statement says";

// ---- an instruction's outcome ----

#[tokio::test]
async fn an_operator_establishes_what_became_of_an_instruction() {
    for counter in Counter::on_every_store().await {
        let market = &counter.market;
        let (job, stuck) = counter.posted(LYING).await;
        assert!(matches!(stuck.state, InstructionState::Mismatch { .. }), "{stuck:?}");
        assert_eq!(job.status, JobStatus::PendingPayment);
        let (id, outcome) = (stuck.instruction.id, done(&stuck.instruction));

        let by_agent = market.agent(buyer()).resolve(id, outcome.clone(), WHY).await;
        assert!(matches!(rejection(by_agent), Rejection::WrongActor { command: "resolve", .. }));
        let mut other = receipt(&stuck.instruction, tradepost::rail::Landing::Outside);
        other.amount = euros(99);
        let other = market.operator("Ada").resolve(id, Outcome::Done(other), WHY).await;
        assert!(matches!(rejection(other), Rejection::Receipt(_)), "it must say what was asked for");
        let open = Outcome::Pending { reference: "soon".into() };
        let open = market.operator("Ada").resolve(id, open, WHY).await;
        assert!(matches!(rejection(open), Rejection::WrongInstruction { command: "resolve", .. }));
        let nothing = market.operator("Ada").resolve(id, outcome.clone(), "").await;
        assert!(matches!(rejection(nothing), Rejection::Length { field: "reason", .. }));
        assert_eq!(counter.unsettled().await.len(), 1, "what was refused has changed nothing");

        for _ in 0..2 {
            market.operator("Ada").keyed("k").resolve(id, outcome.clone(), WHY).await.unwrap();
        }
        let reused = market.operator("Ada").keyed("k").resolve(id, outcome.clone(), "otherwise").await;
        assert_eq!(rejection(reused), Rejection::KeyReused { key: "operator \"Ada\"/k".into() });
        let again = market.operator("Ada").resolve(id, outcome, WHY).await;
        assert_eq!(rejection(again), Rejection::WrongInstruction { command: "resolve", state: "done" });

        assert_eq!(market.job(job.id).await.unwrap().status, JobStatus::Funded);
        let told = counter.told(id).await;
        let words = [("instruction.mismatch", "rail scripted"), ("instruction.resolved", "operator \"Ada\"")];
        assert_eq!(told, words.map(|(name, who)| (name, who.to_owned())));
        counter.check_settled().await;
    }
}

#[tokio::test]
async fn a_payment_that_an_operator_calls_declined_may_be_tried_again() {
    for counter in Counter::on_every_store().await {
        // Nobody knows: the request was lost, and so was the rail.
        let (job, stuck) = counter.posted(Script { answer: Answer::LostBefore, ..PLAIN }).await;
        assert_eq!(stuck.state, InstructionState::Unknown);
        let market = &counter.market;
        market.operator("Ada").resolve(stuck.instruction.id, declined(), WHY).await.unwrap();
        assert_eq!(market.job(job.id).await.unwrap().hold.state, HoldState::Empty);
        assert_eq!(market.agent(buyer()).retry_payment(job.id).await.unwrap().status, JobStatus::Funded);
        assert_eq!(counter.world.effects(stuck.instruction.id).times, 0);
        counter.check_settled().await;
    }
}

#[tokio::test]
async fn an_operator_has_the_rail_asked_again_and_nothing_is_sent_twice() {
    for counter in Counter::on_every_store().await {
        let market = &counter.market;
        let (job, lost) = counter.posted(Script { answer: Answer::LostAfter, ..PLAIN }).await;
        let id = lost.instruction.id;
        assert_eq!(lost.state, InstructionState::Unknown);
        let by_agent = market.agent(buyer()).look_again(id, WHY).await;
        assert!(matches!(rejection(by_agent), Rejection::WrongActor { command: "look_again", .. }));
        for _ in 0..2 {
            market.operator("Ada").keyed("k").look_again(id, WHY).await.unwrap();
        }
        assert_eq!(market.job(job.id).await.unwrap().status, JobStatus::Funded);
        assert_eq!(counter.world.effects(id).times, 1);
        let again = market.operator("Ada").look_again(id, WHY).await;
        assert_eq!(rejection(again), Rejection::WrongInstruction { command: "look_again", state: "done" });
        assert_eq!(counter.told(id).await, [("instruction.asked_again", "operator \"Ada\"".to_owned())]);
        counter.check_settled().await;

        // A rail that lies goes on lying: it is asked, not told once more.
        let (_, lied) = counter.posted(LYING).await;
        market.operator("Ada").look_again(lied.instruction.id, WHY).await.unwrap();
        let still = counter.instruction(tradepost::ids::JobId(lied.instruction.contract)).await;
        assert!(matches!(still.state, InstructionState::Mismatch { .. }));
        assert_eq!(counter.world.effects(lied.instruction.id).times, 1);
    }
}

#[tokio::test]
async fn an_answer_comes_from_whom_the_rail_asked() {
    for counter in Counter::on_every_store().await {
        let market = &counter.market;
        let (job, asking) = counter.posted(Script { course: Course::NeedsAction(Ending::Done), ..PLAIN }).await;
        let id = asking.instruction.id;
        assert!(matches!(asking.state, InstructionState::NeedsAction(_)));
        let stranger = market.agent(stranger()).answer(id, "yes").await;
        assert!(matches!(rejection(stranger), Rejection::WrongActor { command: "answer", .. }));
        for _ in 0..2 {
            market.agent(buyer()).keyed("k").answer(id, "yes").await.unwrap();
        }
        assert_eq!(market.job(job.id).await.unwrap().status, JobStatus::Funded);
        counter.check_settled().await;
    }
}

#[tokio::test]
async fn a_refused_observation_is_dismissed_with_a_reason() {
    for counter in Counter::on_every_store().await {
        let market = &counter.market;
        // A rail that has no deposits reports one.
        counter.world.deposit(worker(), euros(3), "from nowhere");
        market.run_until_idle().await.unwrap();
        let open = counter.unsettled().await;
        let [tradepost::engine::Unsettled::Refused(refused)] = open.as_slice() else { panic!("{open:?}") };
        assert_eq!(market.available(worker()).await.unwrap(), euros(0));
        let by_agent = market.agent(worker()).dismiss(refused.id, WHY).await;
        assert!(matches!(rejection(by_agent), Rejection::WrongActor { command: "dismiss", .. }));
        for _ in 0..2 {
            market.operator("Ada").keyed("k").dismiss(refused.id, "sent back by hand").await.unwrap();
        }
        assert_eq!(counter.unsettled().await, []);
        let again = market.operator("Ada").dismiss(refused.id, WHY).await;
        assert!(matches!(rejection(again), Rejection::NotFound { what: "refused observation", .. }));
        // The rail repeats itself, and it stays dealt with.
        market.run_until_idle().await.unwrap();
        assert_eq!(counter.unsettled().await, []);
    }
}

// ---- the ledger, by hand ----

/// A market on every store whose only rail is the ledger itself.
async fn ledgers() -> Vec<(tradepost::engine::Marketplace, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let postgres = PostgresStore::connect(&crate::store::SERVER.database().unwrap()).await.unwrap();
    let clock = std::sync::Arc::new(tradepost::clock::ManualClock::at(start()));
    async fn on(
        store: impl Store,
        clock: &std::sync::Arc<tradepost::clock::ManualClock>,
    ) -> tradepost::engine::Marketplace {
        Counter::builder(store, clock).rail(credits()).build().await.unwrap()
    }
    vec![
        (on(MemoryStore::new(), &clock).await, None),
        (on(sqlite, &clock).await, Some(folder)),
        (on(postgres, &clock).await, None),
    ]
}

#[tokio::test]
async fn an_operator_undoes_a_movement_once() {
    for (market, _folder) in ledgers().await {
        let wrong = stranger();
        market.operator("Ada").record_deposit(CreditsRail::ID, "wire 7", wrong, euros(40)).await.unwrap();
        let entry = market.history(available(wrong), 0, 10).await.unwrap().pop().unwrap();
        let movement = MovementId { contract: entry.contract, version: entry.version };
        let by_agent = market.agent(wrong).reverse(movement, WHY).await;
        assert!(matches!(rejection(by_agent), Rejection::WrongActor { command: "reverse", .. }));

        let undo = || market.operator("Ada").keyed("k").reverse(movement, "it was meant for another");
        let first = undo().await.unwrap();
        assert_eq!(undo().await.unwrap(), first, "a repetition answers what was answered then");
        assert_eq!(first.what, Adjusted::Reversed(movement));
        let again = market.operator("Bea").reverse(movement, WHY).await;
        assert_eq!(rejection(again), Rejection::AlreadyReversed { movement });
        assert_eq!(market.available(wrong).await.unwrap(), euros(0));
        assert_eq!(market.balance(Account::Rail(CreditsRail::ID), None).await.unwrap(), euros(0));

        // Undoing what was undone is a movement like any other.
        let undone = MovementId { contract: first.id, version: 1 };
        market.operator("Bea").reverse(undone, "it was right after all").await.unwrap();
        assert_eq!(market.available(wrong).await.unwrap(), euros(40));
        let nothing = MovementId { contract: Uuid::from_u128(5), version: 1 };
        let nothing = market.operator("Ada").reverse(nothing, WHY).await;
        assert!(matches!(rejection(nothing), Rejection::NotFound { what: "movement", .. }));
        check_books(&market).await;
    }
}

#[tokio::test]
async fn money_that_is_spent_cannot_be_taken_back() {
    for (market, _folder) in ledgers().await {
        market.operator("Ada").record_deposit(CreditsRail::ID, "wire 7", buyer(), euros(100)).await.unwrap();
        let entry = market.history(available(buyer()), 0, 10).await.unwrap().pop().unwrap();
        let job = market.agent(buyer()).post_job(order(euros(60))).await.unwrap();
        let deposit = MovementId { contract: entry.contract, version: entry.version };
        let refused = rejection(market.operator("Ada").reverse(deposit, WHY).await);
        assert!(matches!(refused, Rejection::Ledger(LedgerError::Overdraft { .. })), "{refused}");
        // What is reserved for a job moves by the job's rules.
        let reserved = MovementId { contract: job.id.0, version: 1 };
        let refused = rejection(market.operator("Ada").reverse(reserved, WHY).await);
        assert_eq!(refused, Rejection::HoldMoved { command: "reverse", account: escrow(job.id) });
        check_books(&market).await;
    }
}

#[tokio::test]
async fn an_operator_moves_money_by_hand_and_says_why() {
    let revenue = Account::Revenue(RevenueKind::Fees);
    let gift =
        |minor| Booking { debit: revenue, credit: available(worker()), amount: Money::new(minor, Currency::EUR) };
    for (market, _folder) in ledgers().await {
        let adjust = |bookings: Vec<Booking>| market.operator("Ada").adjust(bookings, WHY);
        let by_agent = market.agent(worker()).adjust(vec![gift(5)], WHY).await;
        assert!(matches!(rejection(by_agent), Rejection::WrongActor { command: "adjust", .. }));
        assert_eq!(rejection(adjust(vec![]).await), Rejection::Missing { field: "bookings" });
        for minor in [0, -1, i64::MIN] {
            let refused = rejection(adjust(vec![gift(5), gift(minor)]).await);
            assert!(matches!(refused, Rejection::Amount { field: "booking", .. }), "{minor}: {refused}");
        }
        let dollars = Booking { amount: Money::new(5, Currency::USDC), ..gift(5) };
        assert!(matches!(rejection(adjust(vec![dollars]).await), Rejection::Money(_)));
        let itself = Booking { credit: revenue, ..gift(5) };
        let refused = rejection(adjust(vec![itself]).await);
        assert!(matches!(refused, Rejection::Ledger(LedgerError::SameAccount { .. })), "{refused}");
        let many = rejection(adjust(vec![gift(5); Movement::LIMIT + 1]).await);
        assert_eq!(many, Rejection::Ledger(LedgerError::TooManyTransfers { limit: Movement::LIMIT }));
        let unknown = RailId::new("creditz");
        let mistyped = Booking { debit: Account::Rail(unknown), ..gift(5) };
        assert!(
            matches!(rejection(adjust(vec![mistyped]).await), Rejection::UnknownRail { rail, .. } if rail == unknown)
        );
        let hold = escrow(tradepost::ids::JobId(Uuid::from_u128(1)));
        let reserved = rejection(adjust(vec![Booking { credit: hold, ..gift(5) }]).await);
        assert_eq!(reserved, Rejection::HoldMoved { command: "adjust", account: hold });
        let silent = market.operator("Ada").adjust(vec![gift(5)], "").await;
        assert!(matches!(rejection(silent), Rejection::Length { field: "reason", .. }));
        let poor = Booking { debit: available(stranger()), ..gift(5) };
        assert!(matches!(rejection(adjust(vec![poor]).await), Rejection::Ledger(LedgerError::Overdraft { .. })));
        assert_eq!(market.adjustments().await.unwrap(), [], "what was refused has written nothing");

        let give = || market.operator("Ada").keyed("k").adjust(vec![gift(500)], "for the outage");
        let given = give().await.unwrap();
        assert_eq!(give().await.unwrap(), given);
        assert_eq!(market.available(worker()).await.unwrap(), euros(5));
        assert_eq!(market.adjustments().await.unwrap(), std::slice::from_ref(&given));
        assert_eq!((given.what.clone(), &*given.reason), (Adjusted::Booked(vec![gift(500)]), "for the outage"));
        let entry = market.history(available(worker()), 0, 10).await.unwrap().pop().unwrap();
        assert_eq!((entry.contract, entry.version, entry.kind.as_str()), (given.id, 1, "adjustment"));
        check_books(&market).await;
    }
}

async fn check_books(market: &tradepost::engine::Marketplace) {
    for trial in market.trial_balance().await.unwrap() {
        assert_eq!(trial.sum(), 0);
    }
    assert_eq!(market.verify().await.unwrap(), []);
}
