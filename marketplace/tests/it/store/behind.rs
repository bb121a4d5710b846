//! What both databases do against a writer who goes round the engine, and among several stores.

use std::sync::Arc;

use futures::future::join_all;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, postgres::PgConnectOptions, sqlite::SqliteConnectOptions};
use tradepost::{
    ids::{AgentId, MarketId},
    ledger::{Account, Finding, TransferKind},
    money::{Currency, Money},
    policy::{Policy, PolicyVersion},
    store::{CommitError, Document, Kind, Query, Store, StoreError, StoreErrorKind, Tagged, Tagging},
    testkit::store::{Database, Sample},
};
use uuid::Uuid;

use super::{Postgres, SERVER, Sqlite};

/// A database that raw SQL can be run in.
pub(super) trait Behind: Database {
    /// An id as this database writes it in SQL.
    fn literal(&self, id: Uuid) -> String;

    async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error>;
}

impl Behind for Sqlite {
    fn literal(&self, id: Uuid) -> String {
        format!("x'{}'", id.simple())
    }

    async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let options = SqliteConnectOptions::new().filename(self.0.path().join("market.db"));
        let mut connection = options.connect().await?;
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        connection.close().await?;
        Ok(done?.rows_affected())
    }
}

impl Behind for Postgres {
    fn literal(&self, id: Uuid) -> String {
        format!("'{id}'")
    }

    async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let mut connection = self.0.parse::<PgConnectOptions>()?.connect().await?;
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        connection.close().await?;
        Ok(done?.rows_affected())
    }
}

/// One test for each database.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::Sqlite(tempfile::tempdir().unwrap())).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::Postgres(super::SERVER.database().unwrap())).await;
            })*
        }
    };
}

on_both! {
    an_overdraft_behind_the_engine_is_refused,
    a_transfer_out_of_balance_behind_the_engine_is_refused,
    what_was_added_is_never_changed,
    verify_finds_a_changed_balance,
    verify_finds_half_a_movement,
    verify_finds_what_cannot_be_read,
    what_cannot_be_read_ends_no_list,
    a_balance_that_cannot_be_read_fails_nobody_else,
    a_newer_database_is_refused,
    a_changed_migration_is_refused,
    a_row_that_cannot_be_written_fails_alone,
    two_stores_share_one_database,
}

pub(super) fn euros(euros: i64) -> Money {
    Money::new(euros * 100, Currency::EUR)
}

pub(super) async fn market(store: &dyn Store) -> MarketId {
    let market = store.open_market("test").await.unwrap();
    assert_eq!(store.add_policy(market, &Policy::voxpact().unwrap()).await.unwrap(), PolicyVersion(1));
    market
}

pub(super) fn sample(market: MarketId, number: u128) -> Sample {
    Sample::new(market, Uuid::from_u128(number), Uuid::from_u128(number + (1 << 64)))
}

/// A store with one job that holds ten euros and has a key and a document.
async fn one_job(database: &impl Behind) -> (Arc<dyn Store>, Sample) {
    let store = database.open().await.unwrap();
    let sample = sample(market(&*store).await, 1);
    let mut commit = sample.fund(euros(10)).unwrap();
    commit.key = Some(sample.key_use("key", 1));
    commit.documents.push(Document { subject: sample.job.id.0, name: "task".into(), body: "{}".into() });
    store.commit(commit).await.unwrap();
    assert_eq!(store.verify(sample.market).await.unwrap(), []);
    (store, sample)
}

/// The name of the constraint that refused, which PostgreSQL tells apart and SQLite in its message.
fn refused_by(error: &sqlx::Error, constraint: &str) -> bool {
    let error = error.as_database_error().unwrap();
    error.constraint() == Some(constraint) || error.message().contains(constraint)
}

async fn an_overdraft_behind_the_engine_is_refused(database: &impl Behind) {
    let (store, sample) = one_job(database).await;
    let escrow = sample.escrow();
    let sql = format!("UPDATE accounts SET balance = -1 WHERE account = '{escrow}'");
    assert!(refused_by(&database.execute(&sql).await.unwrap_err(), "accounts_limit"));
    let sql = "INSERT INTO accounts (market, account, currency, balance, version) VALUES (1, 'debt/x', 'EUR/2', 1, 1)";
    assert!(refused_by(&database.execute(sql).await.unwrap_err(), "accounts_limit"));
    let sql = "INSERT INTO accounts (market, account, currency, balance, version) VALUES (1, 'rail/x', 'EUR/2', 1, 1)";
    assert!(refused_by(&database.execute(sql).await.unwrap_err(), "accounts_kind"));
    assert_eq!(store.balance(sample.market, escrow, Currency::EUR, None).await.unwrap(), euros(10));
}

async fn a_transfer_out_of_balance_behind_the_engine_is_refused(database: &impl Behind) {
    let (store, sample) = one_job(database).await;
    let copy = |version: u32, changes: &str| {
        format!(
            "INSERT INTO transfers (market, contract, version, part, parts, debit, credit, amount, currency, kind, at) \
             SELECT market, contract, {version}, {changes}, currency, kind, at FROM transfers WHERE part = 1"
        )
    };
    for (changes, constraint) in [
        ("part, parts, debit, credit, 0", "transfers_amount"),
        ("part, parts, debit, credit, -amount", "transfers_amount"),
        ("part, parts, debit, debit, amount", "transfers_accounts"),
        ("3, parts, debit, credit, amount", "transfers_part"),
        ("0, parts, debit, credit, amount", "transfers_part"),
    ] {
        let error = database.execute(&copy(2, changes)).await.unwrap_err();
        assert!(refused_by(&error, constraint), "{changes}: {error}");
    }
    let error = database.execute(&copy(1, "part, parts, debit, credit, amount")).await.unwrap_err();
    assert!(error.as_database_error().unwrap().is_unique_violation(), "{error}");
    assert_eq!(store.verify(sample.market).await.unwrap(), []);
}

async fn what_was_added_is_never_changed(database: &impl Behind) {
    let (store, sample) = one_job(database).await;
    for table in ["transfers", "events", "keys", "documents"] {
        for sql in [format!("UPDATE {table} SET market = 7"), format!("DELETE FROM {table}")] {
            let error = database.execute(&sql).await.unwrap_err();
            assert!(error.as_database_error().unwrap().message().contains("only added"), "{sql}: {error}");
        }
    }
    assert_eq!(store.events_of(sample.market, sample.key()).await.unwrap().len(), 1);
}

async fn verify_finds_a_changed_balance(database: &impl Behind) {
    let (store, sample) = one_job(database).await;
    let account = sample.escrow();
    database.execute(&format!("UPDATE accounts SET balance = 2500 WHERE account = '{account}'")).await.unwrap();
    let expected = Finding::BalanceDiffers { account, kept: euros(25), summed: euros(10) };
    assert_eq!(store.verify(sample.market).await.unwrap(), [expected]);
}

async fn verify_finds_half_a_movement(database: &impl Behind) {
    let (store, sample) = one_job(database).await;
    let sql = "INSERT INTO transfers (market, contract, version, part, parts, debit, credit, amount, currency, kind, at) \
               SELECT market, contract, 2, 1, 3, 'rail/kit', 'revenue/fees', 5, currency, kind, at \
               FROM transfers WHERE part = 1";
    database.execute(sql).await.unwrap();
    let contract = sample.job.id.0;
    let expected = Finding::MovementIncomplete { contract, version: 2, expected: 3, found: 1 };
    assert_eq!(store.verify(sample.market).await.unwrap(), [expected]);
}

async fn verify_finds_what_cannot_be_read(database: &impl Behind) {
    let (store, sample) = one_job(database).await;
    database.execute("UPDATE jobs SET status = 'frozen'").await.unwrap();
    let expected = Finding::Unreadable { table: "jobs".into(), row: sample.job.id.to_string() };
    assert_eq!(store.verify(sample.market).await.unwrap(), std::slice::from_ref(&expected));
    database.execute("UPDATE jobs SET status = 'funded', body = '{}'").await.unwrap();
    assert_eq!(store.verify(sample.market).await.unwrap(), [expected]);
    let error = store.load(sample.market, sample.key()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
}

/// However many records of a page cannot be read, whoever goes through all of them sees all others.
async fn what_cannot_be_read_ends_no_list(database: &impl Behind) {
    let store = database.open().await.unwrap();
    let market = market(&*store).await;
    for number in 1..=10 {
        let sample = sample(market, number);
        let mut commit = sample.write();
        commit.tags.push(Tagging { subject: sample.key(), tags: vec!["all".into()] });
        store.commit(commit).await.unwrap();
    }
    let broken = [10, 6, 5, 4, 1].map(Uuid::from_u128);
    for id in broken {
        let sql = format!("UPDATE jobs SET body = '{{}}' WHERE id = {}", database.literal(id));
        assert_eq!(database.execute(&sql).await.unwrap(), 1, "{sql}");
    }
    let expected: Vec<Uuid> = [9, 8, 7, 3, 2].map(Uuid::from_u128).into();
    for limit in 1..=6 {
        let query = Query { kind: Kind::Job, party: None, statuses: vec![], before: None, offset: 0, limit };
        let (mut next, mut found) = (Some(query), Vec::new());
        while let Some(query) = next {
            let page = store.find(market, &query).await.unwrap();
            found.extend(page.iter().map(|stored| stored.record.key().id));
            next = query.after(&page);
        }
        assert_eq!(found, expected, "in pages of {limit}");
        let (mut before, mut listed) = (None, Vec::new());
        loop {
            let tagged = Tagged { kind: Kind::Job, tag: "all".into(), before, offset: 0, limit };
            let page = store.tagged(market, &tagged).await.unwrap();
            listed.extend(page.iter().map(|stored| stored.record.key().id));
            before = listed.last().copied();
            if page.len() < limit as usize {
                break;
            }
        }
        assert_eq!(listed, expected, "in pages of {limit}");
    }
    let told = store.verify(market).await.unwrap();
    let named = |id: &Uuid| told.contains(&Finding::Unreadable { table: "jobs".into(), row: id.to_string() });
    assert!(told.len() == broken.len() && broken.iter().all(named), "{told:?}");
}

/// Balances are read in groups: one row that makes no sense is one row.
async fn a_balance_that_cannot_be_read_fails_nobody_else(database: &impl Behind) {
    let (store, first) = one_job(database).await;
    let second = sample(first.market, 2);
    store.commit(second.fund(euros(3)).unwrap()).await.unwrap();
    let sql = format!(
        "INSERT INTO accounts (market, account, currency, balance, version) VALUES ({}, '{}', 'doubloons', 8, 1)",
        first.market.0,
        first.escrow()
    );
    database.execute(&sql).await.unwrap();
    let asked = [first.escrow(), second.escrow(), second.payer()];
    let answers = join_all(asked.map(|account| store.balance(first.market, account, Currency::EUR, None))).await;
    let answers: Vec<Money> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [euros(10), euros(3), euros(0)]);
    let row = format!("{} doubloons", first.escrow());
    assert_eq!(store.verify(first.market).await.unwrap(), [Finding::Unreadable { table: "accounts".into(), row }]);
}

async fn opening_fails(database: &impl Behind) -> StoreError {
    match database.open().await {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

async fn a_newer_database_is_refused(database: &impl Behind) {
    one_job(database).await;
    database.execute("INSERT INTO schema_versions (version, checksum) VALUES (99, 'x')").await.unwrap();
    let error = opening_fails(database).await;
    assert_eq!(error.kind(), StoreErrorKind::Newer);
    assert!(error.to_string().contains("version 99, this library knows up to "), "{error}");
}

async fn a_changed_migration_is_refused(database: &impl Behind) {
    one_job(database).await;
    database.execute("UPDATE schema_versions SET checksum = 'x'").await.unwrap();
    let error = opening_fails(database).await;
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("migration 1"), "{error}");
}

/// A movement that somebody else has written already is known only when the group is written: the
/// others of the group must not suffer.
async fn a_row_that_cannot_be_written_fails_alone(database: &impl Behind) {
    let (store, first) = one_job(database).await;
    let commits = (2..12).map(|number| {
        let mut commit = sample(first.market, number).fund(euros(1)).unwrap();
        if number == 5 {
            (commit.contract, commit.version) = (first.job.id.0, 1);
        }
        commit
    });
    let ends = join_all(commits.map(|commit| store.commit(commit))).await;
    for (number, end) in (2..).zip(ends) {
        match (number, end) {
            (5, Err(CommitError::Store(error))) => assert_eq!(error.kind(), StoreErrorKind::Corrupt),
            (_, end) => end.unwrap(),
        }
    }
    assert!(store.load(first.market, sample(first.market, 5).key()).await.unwrap().is_none());
    assert_eq!(store.verify(first.market).await.unwrap(), []);
}

/// Two stores are what two processes are: nothing but the database is shared.
async fn two_stores_share_one_database(database: &impl Behind) {
    let stores = [database.open().await.unwrap(), database.open().await.unwrap()];
    let market = market(&*stores[0]).await;
    assert_eq!(stores[1].open_market("test").await.unwrap(), market);
    let wallet = Account::Available(AgentId(Uuid::from_u128(77)));

    let pay = (0..40).map(|number| {
        let mut commit = sample(market, number).write();
        let rail = Account::Rail("kit".parse().unwrap());
        commit.movement.transfer(rail, wallet, euros(1), TransferKind::Deposit).unwrap();
        // Every fourth has the same key.
        let key = if number % 4 == 0 { "same".into() } else { number.to_string() };
        commit.key = Some(sample(market, 0).key_use(&key, 1));
        (number as usize, commit)
    });
    let ends = join_all(pay.map(|(number, commit)| stores[number % 2].commit(commit))).await;
    let done = ends.iter().filter(|end| end.is_ok()).count();
    let replayed = ends.iter().filter(|end| matches!(end, Err(CommitError::Replayed(_)))).count();
    assert_eq!((done, replayed), (31, 9), "{ends:?}");

    let spend = (100..140).map(|number| {
        let mut commit = sample(market, number).write();
        let to = Account::Available(AgentId(Uuid::from_u128(number)));
        commit.movement.transfer(wallet, to, euros(2), TransferKind::Payout).unwrap();
        (number as usize, commit)
    });
    let ends = join_all(spend.map(|(number, commit)| stores[number % 2].commit(commit))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 15, "{ends:?}");
    for store in &stores {
        assert_eq!(store.balance(market, wallet, Currency::EUR, None).await.unwrap(), euros(1));
        assert_eq!(store.verify(market).await.unwrap(), []);
        let query = Query { kind: Kind::Job, party: None, statuses: vec![], before: None, offset: 0, limit: 100 };
        assert_eq!(store.find(market, &query).await.unwrap().len(), 31 + 15);
    }
}
