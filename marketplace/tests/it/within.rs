//! Commands in an embedder's own transaction: its rows and the engine's commit together or not at all.

use std::sync::Arc;

use serde_json::json;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tradepost::{
    adjustment::Booking,
    clock::ManualClock,
    engine::Marketplace,
    error::Rejection,
    ids::JobId,
    job::{HoldState, JobOrder, JobStatus, Schemas},
    ledger::{Account, RevenueKind},
    rail::CreditsRail,
    store::{InstructionState, Journal, PostgresStore, SqliteStore, Store},
    testkit::{Lie, Script},
};

use crate::{
    counter::{Counter, credits, euros, rejection},
    support::*,
};

const ORDERS: &str = "CREATE TABLE orders (job TEXT NOT NULL)";
const ORDER: &str = "INSERT INTO orders VALUES ('ours')";
const COUNT: &str = "SELECT COUNT(*) FROM orders";

/// How the embedder's transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Committed,
    RolledBack,
}

async fn ledger(store: impl Store) -> Marketplace {
    let clock = Arc::new(ManualClock::at(start()));
    let market = Counter::builder(store, &clock).rail(credits()).build().await.unwrap();
    market.operator("Ada").record_deposit(CreditsRail::ID, "wire", buyer(), euros(500)).await.unwrap();
    market
}

/// A job from posting to approval, with a repetition and a refusal on the way, all in one transaction.
async fn live(market: &Marketplace, transaction: &dyn Journal) -> JobId {
    let post = || market.agent(buyer()).keyed("post").within(transaction).post_job(order(euros(100)));
    let job = post().await.unwrap();
    assert_eq!(post().await.unwrap(), job, "a key counts within the transaction too");
    let early = market.agent(buyer()).within(transaction).approve(job.id).await;
    assert!(matches!(rejection(early), Rejection::WrongStatus { command: "approve", .. }));
    market.agent(worker()).within(transaction).accept(job.id).await.unwrap();
    market.agent(worker()).within(transaction).deliver(job.id, Default::default()).await.unwrap();
    let job = market.agent(buyer()).within(transaction).approve(job.id).await.unwrap();
    assert_eq!(job.status, JobStatus::Completed);
    job.id
}

async fn check(market: &Marketplace, job: JobId, rows: i64, end: End) {
    let (paid, there) = match end {
        End::Committed => (90, true),
        End::RolledBack => (0, false),
    };
    assert_eq!(rows, i64::from(there), "{end:?}: the embedder's own row");
    assert_eq!(market.available(worker()).await.unwrap(), euros(paid), "{end:?}");
    assert_eq!(market.job(job).await.is_ok(), there, "{end:?}");
    assert_eq!(market.verify().await.unwrap(), []);
    // The key is as free as before, or answers what was committed.
    let again = market.agent(buyer()).keyed("post").post_job(order(euros(100))).await.unwrap();
    assert_eq!(again.id == job, there, "{end:?}");
}

#[tokio::test]
async fn a_life_in_an_embedders_transaction_on_sqlite() {
    for end in [End::Committed, End::RolledBack] {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
        let market = ledger(store.clone()).await;
        let mut setup = store.begin().await.unwrap();
        sqlx::query(ORDERS).execute(setup.connection()).await.unwrap();
        setup.end().await.unwrap();

        let mut transaction = store.begin().await.unwrap();
        sqlx::query(ORDER).execute(transaction.connection()).await.unwrap();
        let job = live(&market, &transaction).await;
        assert!(market.job(job).await.is_err(), "seen before it was committed");
        match end {
            End::Committed => transaction.end().await.unwrap(),
            End::RolledBack => transaction.rollback().await.unwrap(),
        }
        let mut look = store.begin().await.unwrap();
        let rows: i64 = sqlx::query_scalar(COUNT).fetch_one(look.connection()).await.unwrap();
        look.rollback().await.unwrap();
        check(&market, job, rows, end).await;
    }
}

async fn connection(url: &str) -> PgConnection {
    url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn a_life_in_an_embedders_transaction_on_postgres() {
    for end in [End::Committed, End::RolledBack] {
        let url = crate::store::SERVER.database().unwrap();
        let market = ledger(PostgresStore::connect(&url).await.unwrap()).await;
        let mut own = connection(&url).await;
        sqlx::query(ORDERS).execute(&mut own).await.unwrap();

        let mut transaction = own.begin().await.unwrap();
        sqlx::query(ORDER).execute(&mut *transaction).await.unwrap();
        let job = live(&market, &PostgresStore::within(&mut transaction)).await;
        assert!(market.job(job).await.is_err(), "seen before it was committed");
        match end {
            End::Committed => transaction.commit().await.unwrap(),
            End::RolledBack => transaction.rollback().await.unwrap(),
        }
        let rows: i64 = sqlx::query_scalar(COUNT).fetch_one(&mut own).await.unwrap();
        check(&market, job, rows, end).await;
    }
}

/// Two jobs of a worker who owes something, both approved in one transaction: the second finds the debt as the
/// first left it.
async fn repay(market: &Marketplace, transaction: &dyn Journal) {
    for amount in [100, 200] {
        let job = market.agent(buyer()).within(transaction).post_job(order(euros(amount))).await.unwrap();
        market.agent(worker()).within(transaction).accept(job.id).await.unwrap();
        market.agent(worker()).within(transaction).deliver(job.id, Default::default()).await.unwrap();
        market.agent(buyer()).within(transaction).approve(job.id).await.unwrap();
    }
}

async fn owes(market: &Marketplace, minor: i64) {
    let (debt, losses) = (Account::Debt(worker()), Account::Revenue(RevenueKind::Losses));
    let booking = Booking { debit: debt, credit: losses, amount: euros(minor) };
    market.operator("Ada").adjust(vec![booking], "it broke something").await.unwrap();
}

async fn check_repaid(market: &Marketplace) {
    assert_eq!(market.balance(Account::Debt(worker()), None).await.unwrap(), euros(0));
    assert_eq!(market.available(worker()).await.unwrap(), euros(90 + 180 - 120));
    assert_eq!(market.verify().await.unwrap(), []);
}

#[tokio::test]
async fn a_debt_is_repaid_by_two_payments_of_one_transaction_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let market = ledger(store.clone()).await;
    owes(&market, 120).await;
    let transaction = store.begin().await.unwrap();
    repay(&market, &transaction).await;
    transaction.end().await.unwrap();
    check_repaid(&market).await;
}

#[tokio::test]
async fn a_debt_is_repaid_by_two_payments_of_one_transaction_on_postgres() {
    let url = crate::store::SERVER.database().unwrap();
    let market = ledger(PostgresStore::connect(&url).await.unwrap()).await;
    owes(&market, 120).await;
    let mut own = connection(&url).await;
    let mut transaction = own.begin().await.unwrap();
    repay(&market, &PostgresStore::within(&mut transaction)).await;
    transaction.commit().await.unwrap();
    check_repaid(&market).await;
}

/// Counts and documents are the transaction's, too: how many jobs an agent has at once (VP-42), what a first
/// spending limit counts (VP-08), the schema that an output is held against (JP-06).
async fn count(market: &Marketplace, transaction: &dyn Journal) {
    let by = |agent| market.agent(agent).within(transaction);
    let post = async |schemas| by(buyer()).post_job(JobOrder { schemas, ..order(euros(10)) }).await.unwrap().id;
    let output = Some(json!({ "type": "object", "required": ["text"] }));
    let schematic = post(Some(Schemas { input: None, output })).await;
    by(worker()).accept(schematic).await.unwrap();
    for _ in 1..10 {
        let job = post(None).await;
        by(worker()).accept(job).await.unwrap();
    }
    let one_too_many = by(worker()).accept(post(None).await).await;
    assert!(matches!(rejection(one_too_many), Rejection::TierJobs { max: 10, actual: 10, .. }));
    let empty = by(worker()).deliver(schematic, Default::default()).await;
    assert!(matches!(rejection(empty), Rejection::NotToSchema { .. }));

    let operator = || market.operator("Ada").within(transaction);
    let budget = operator().set_spending_limit(buyer(), Some(euros(115))).await.unwrap();
    assert_eq!(budget.spent, euros(110));
    let refused = by(buyer()).post_job(order(euros(10))).await;
    assert!(matches!(rejection(refused), Rejection::SpendingLimit { .. }));
}

#[tokio::test]
async fn counts_are_those_of_the_embedders_transaction_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let market = ledger(store.clone()).await;
    let transaction = store.begin().await.unwrap();
    count(&market, &transaction).await;
    transaction.end().await.unwrap();
    assert_eq!(market.verify().await.unwrap(), []);
}

#[tokio::test]
async fn counts_are_those_of_the_embedders_transaction_on_postgres() {
    let url = crate::store::SERVER.database().unwrap();
    let market = ledger(PostgresStore::connect(&url).await.unwrap()).await;
    let mut own = connection(&url).await;
    let mut transaction = own.begin().await.unwrap();
    count(&market, &PostgresStore::within(&mut transaction)).await;
    transaction.commit().await.unwrap();
    assert_eq!(market.verify().await.unwrap(), []);
}

/// The rail hears of nothing that might be rolled back: workers take it up after the commit. So does
/// what an operator establishes.
#[tokio::test]
async fn rails_and_operators_wait_for_the_embedders_commit() {
    for end in [End::RolledBack, End::Committed] {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
        let counter = Counter::on(store.clone()).await;
        let market = &counter.market;
        let transaction = store.begin().await.unwrap();
        let job = market.agent(buyer()).within(&transaction).post_job(order(euros(100))).await.unwrap();
        assert!(matches!(job.hold.state, HoldState::Funding(_)));
        assert_eq!(counter.world.calls(), 0, "the rail was told before the commit");
        counter.world.next(Script { lie: Some(Lie::Amount), ..Script::default() });
        if end == End::RolledBack {
            transaction.rollback().await.unwrap();
            market.run_until_idle().await.unwrap();
            assert_eq!(counter.world.calls(), 0);
            continue;
        }
        transaction.end().await.unwrap();
        market.run_until_idle().await.unwrap();
        let stuck = counter.instruction(job.id).await;
        assert!(matches!(stuck.state, InstructionState::Mismatch { .. }), "{stuck:?}");

        for end in [End::RolledBack, End::Committed] {
            let transaction = store.begin().await.unwrap();
            let operator = market.operator("Ada").keyed("k").within(&transaction);
            operator.resolve(stuck.instruction.id, done(&stuck.instruction), "as the bank says").await.unwrap();
            match end {
                End::Committed => transaction.end().await.unwrap(),
                End::RolledBack => transaction.rollback().await.unwrap(),
            }
            let state = market.job(job.id).await.unwrap().hold.state;
            assert_eq!(state == HoldState::Held, end == End::Committed, "{end:?}: {state:?}");
        }
        counter.check_settled().await;
    }
}
