//! What only SQLite does.

use std::sync::Arc;

use sqlx::{Row, sqlite::SqliteConnectOptions};
use tradepost::{
    clock::ManualClock,
    error::Error,
    money::Currency,
    rail::CreditsRail,
    store::{CommitError, Document, Journal, SqliteStore, Store, StoreErrorKind},
};

use super::behind::{euros, market, sample};
use crate::{
    counter::{Counter, credits},
    support::{buyer, order, start},
};

#[tokio::test]
async fn an_embedders_transaction_commits_with_the_engines_rows() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let sample = sample(market(&store).await, 1);

    let mut both = store.begin().await.unwrap();
    sqlx::query("CREATE TABLE orders (id INTEGER)").execute(both.connection()).await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (1)").execute(both.connection()).await.unwrap();
    both.commit(sample.fund(euros(5)).unwrap()).await.unwrap();
    assert_eq!(both.load(sample.market, sample.key()).await.unwrap().unwrap().version, 1);
    assert!(store.load(sample.market, sample.key()).await.unwrap().is_none(), "seen before it was committed");
    // What is refused leaves the transaction as it was.
    let end = Journal::commit(&both, sample.write()).await;
    assert!(matches!(end, Err(CommitError::Conflict(_))), "{end:?}");
    sqlx::query("INSERT INTO orders VALUES (2)").execute(both.connection()).await.unwrap();
    both.end().await.unwrap();

    assert_eq!(store.load(sample.market, sample.key()).await.unwrap().unwrap().version, 1);
    let mut look = store.begin().await.unwrap();
    let row = sqlx::query("SELECT COUNT(*) FROM orders").fetch_one(look.connection()).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 2);
}

#[tokio::test]
async fn an_embedders_transaction_that_is_dropped_or_undone_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let sample = sample(market(&store).await, 1);
    let dropped = store.begin().await.unwrap();
    Journal::commit(&dropped, sample.write()).await.unwrap();
    drop(dropped);
    let undone = store.begin().await.unwrap();
    Journal::commit(&undone, sample.write()).await.unwrap();
    undone.rollback().await.unwrap();
    assert!(store.load(sample.market, sample.key()).await.unwrap().is_none());
    store.commit(sample.write()).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteConnectOptions::new().filename(folder.path().join("market.db")).create_if_missing(true);
    let store = SqliteStore::open_with(file.clone().pragma("max_page_count", "120")).await.unwrap();
    let sample = sample(market(&store).await, 1);
    let mut commit = sample.fund(euros(5)).unwrap();
    let body = "x".repeat(1 << 20);
    commit.documents.push(Document { subject: sample.job.id.0, name: "task".into(), body });
    match store.commit(commit.clone()).await {
        Err(CommitError::Store(error)) => assert_eq!(error.kind(), StoreErrorKind::Full, "{error}"),
        end => panic!("{end:?}"),
    }
    assert!(store.load(sample.market, sample.key()).await.unwrap().is_none());
    assert_eq!(store.balance(sample.market, sample.escrow(), Currency::EUR, None).await.unwrap(), euros(0));
    // A smaller one still fits, and with more room so does the same.
    store.commit(super::behind::sample(sample.market, 2).write()).await.unwrap();
    drop(store);
    let store = SqliteStore::open_with(file).await.unwrap();
    store.commit(commit).await.unwrap();
    assert_eq!(store.verify(sample.market).await.unwrap(), []);
}

/// A command meets the full disk: it says so, and nothing of it is there.
#[tokio::test]
async fn a_command_on_a_full_disk_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteConnectOptions::new().filename(folder.path().join("market.db")).create_if_missing(true);
    let small = SqliteStore::open_with(file.clone().pragma("max_page_count", "400")).await.unwrap();
    let clock = Arc::new(ManualClock::at(start()));
    let market = Counter::builder(small, &clock).rail(credits()).build().await.unwrap();
    market.operator("Ada").record_deposit(CreditsRail::ID, "wire", buyer(), euros(10_000)).await.unwrap();
    let mut large = order(euros(10));
    large.task.insert("text".into(), "x".repeat(200_000).into());
    let mut posted = 0;
    let error = loop {
        match market.agent(buyer()).keyed(format!("{posted}")).post_job(large.clone()).await {
            Ok(_) => posted += 1,
            Err(error) => break error,
        }
        assert!(posted < 20, "the disk is never full");
    };
    assert!(matches!(&error, Error::Store(error) if error.kind() == StoreErrorKind::Full), "{error}");
    assert_eq!(market.available(buyer()).await.unwrap(), euros(10_000 - 10 * posted));
    assert_eq!(market.verify().await.unwrap(), []);
    drop(market);
    let roomy = SqliteStore::open_with(file).await.unwrap();
    let market = Counter::builder(roomy, &clock).rail(credits()).build().await.unwrap();
    market.agent(buyer()).keyed(format!("{posted}")).post_job(large).await.unwrap();
    assert_eq!(market.available(buyer()).await.unwrap(), euros(10_000 - 10 * (posted + 1)));
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("market.db");
    std::fs::write(&file, "this is a letter and not a database, whatever its name says".repeat(100)).unwrap();
    assert_eq!(SqliteStore::open(&file).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    let nowhere = folder.path().join("no such folder").join("market.db");
    assert_eq!(SqliteStore::open(nowhere).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
}

/// Every commit is synced to the disk before it is answered: a write-ahead log, with `synchronous` FULL.
#[tokio::test]
async fn what_is_committed_survives_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let mut look = store.begin().await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(look.connection()).await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(look.connection()).await.unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2)); // 2 is FULL
}
