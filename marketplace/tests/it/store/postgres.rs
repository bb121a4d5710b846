//! What only PostgreSQL does.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};
use tradepost::{
    clock::ManualClock,
    error::Error,
    ids::MarketId,
    money::Currency,
    rail::CreditsRail,
    store::{CommitError, Journal, LoggedEvent, Position, PostgresStore, Store, StoreErrorKind},
    testkit::postgres::PostgresServer,
};

use super::{
    Postgres, SERVER,
    behind::{Behind, euros, market, sample},
};
use crate::{
    counter::{Counter, credits},
    support::{buyer, order, start},
};

async fn connection(url: &str) -> PgConnection {
    url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

async fn database() -> (Postgres, PostgresStore) {
    let url = SERVER.database().unwrap();
    let store = PostgresStore::connect(&url).await.unwrap();
    (Postgres(url), store)
}

/// Waits until a query answers true, for thirty seconds at most.
async fn until(url: &str, question: &'static str) {
    let mut connection = connection(url).await;
    let asked = async {
        while !sqlx::query_scalar::<_, bool>(question).fetch_one(&mut connection).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap();
}

const A_WRITER_WAITS: &str = "SELECT COUNT(*) > 0 FROM pg_stat_activity \
                              WHERE datname = current_database() AND wait_event_type = 'Lock'";

#[tokio::test]
async fn an_embedders_transaction_commits_with_the_engines_rows() {
    let (Postgres(url), store) = database().await;
    let sample = sample(market(&store).await, 1);
    let mut connection = connection(&url).await;
    sqlx::query("CREATE TABLE orders (id INTEGER)").execute(&mut connection).await.unwrap();

    let mut both = connection.begin().await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (1)").execute(&mut *both).await.unwrap();
    let journal = PostgresStore::within(&mut both);
    journal.commit(sample.fund(euros(5)).unwrap()).await.unwrap();
    assert_eq!(journal.load(sample.market, sample.key()).await.unwrap().unwrap().version, 1);
    let end = journal.commit(sample.write()).await;
    assert!(matches!(end, Err(CommitError::Conflict(_))), "{end:?}");
    // A refusal by the database itself does not spoil the transaction either.
    let mut twice = super::behind::sample(sample.market, 2).fund(euros(1)).unwrap();
    (twice.contract, twice.version) = (sample.job.id.0, 1);
    let end = journal.commit(twice).await;
    assert!(matches!(end, Err(CommitError::Store(_))), "{end:?}");
    sqlx::query("INSERT INTO orders VALUES (2)").execute(&mut *both).await.unwrap();
    assert!(store.load(sample.market, sample.key()).await.unwrap().is_none(), "seen before it was committed");
    both.commit().await.unwrap();

    assert_eq!(store.load(sample.market, sample.key()).await.unwrap().unwrap().version, 1);
    let row = sqlx::query("SELECT COUNT(*) FROM orders").fetch_one(&mut connection).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 2);
    assert_eq!(store.verify(sample.market).await.unwrap(), []);
}

#[tokio::test]
async fn the_log_misses_no_event_of_a_late_commit() {
    let (Postgres(url), store) = database().await;
    let market = market(&store).await;
    store.commit(sample(market, 1).write()).await.unwrap();
    until(&url, "SELECT COUNT(*) = 1 FROM events WHERE epoch < pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        .await;
    let mut connection = connection(&url).await;
    let mut late = connection.begin().await.unwrap();
    PostgresStore::within(&mut late).commit(sample(market, 2).write()).await.unwrap();
    // Others begin later and are visible sooner.
    for number in 3..6 {
        store.commit(sample(market, number).write()).await.unwrap();
    }
    let mut seen = store.events(market, Position::default(), 10).await.unwrap();
    assert_eq!(versions_of(&seen), [(1, 1)], "it reads beyond a transaction under way");
    late.commit().await.unwrap();
    store.commit(sample(market, 6).write()).await.unwrap();
    until(&url, "SELECT COUNT(*) = 6 FROM events WHERE epoch < pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        .await;
    seen.extend(store.events(market, seen[0].position, 10).await.unwrap());
    assert_eq!(versions_of(&seen), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);
}

/// Who happened, by job number and version.
fn versions_of(log: &[LoggedEvent]) -> Vec<(u128, u64)> {
    log.iter().map(|logged| (logged.event.subject.id.as_u128(), logged.event.version)).collect()
}

#[tokio::test]
async fn a_transaction_that_began_earlier_does_not_swap_a_records_events() {
    let (Postgres(url), store) = database().await;
    let mut job = sample(market(&store).await, 1);
    let mut connection = connection(&url).await;
    // The embedder's transaction has its number before the job is even made.
    let mut early = connection.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *early).await.unwrap();
    for version in 0..2 {
        job.version = version;
        store.commit(job.write()).await.unwrap();
    }
    job.version = 2;
    PostgresStore::within(&mut early).commit(job.write()).await.unwrap();
    assert_eq!(store.events(job.market, Position::default(), 10).await.unwrap(), []);
    early.commit().await.unwrap();
    job.version = 3;
    store.commit(job.write()).await.unwrap();
    until(&url, "SELECT COUNT(*) = 4 FROM events WHERE epoch < pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        .await;
    let log = store.events(job.market, Position::default(), 10).await.unwrap();
    assert_eq!(versions_of(&log), [(1, 1), (1, 2), (1, 3), (1, 4)]);
    assert_eq!(store.events_of(job.market, job.key()).await.unwrap(), log);
}

#[tokio::test]
async fn a_connection_cut_before_the_commit_writes_nothing() {
    let (database, store) = database().await;
    let mut job = sample(market(&store).await, 1);
    store.commit(job.write()).await.unwrap();
    job.version = 1;
    let mut connection = connection(&database.0).await;
    let mut blocker = connection.begin().await.unwrap();
    sqlx::query("SELECT id FROM jobs FOR UPDATE").execute(&mut *blocker).await.unwrap();
    let commit = tokio::spawn({
        let (store, job) = (store.clone(), job.clone());
        async move { store.commit(job.fund(euros(1)).unwrap()).await }
    });
    until(&database.0, A_WRITER_WAITS).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    database.execute(cut).await.unwrap();
    match commit.await.unwrap() {
        Err(CommitError::Store(error)) => {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
            assert!(error.may_repeat());
        }
        end => panic!("{end:?}"),
    }
    blocker.rollback().await.unwrap();
    assert_eq!(store.load(job.market, job.key()).await.unwrap().unwrap().version, 1);
    store.commit(job.fund(euros(1)).unwrap()).await.unwrap();
    assert_eq!(store.balance(job.market, job.escrow(), Currency::EUR, None).await.unwrap(), euros(1));
}

#[tokio::test]
async fn a_connection_cut_while_committing_leaves_the_outcome_unknown() {
    let (database, store) = database().await;
    let job = sample(market(&store).await, 1);
    let cut = "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS \
               $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; \
               CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED \
               FOR EACH ROW EXECUTE FUNCTION cut()";
    database.execute(cut).await.unwrap();
    match store.commit(job.write()).await {
        Err(CommitError::Store(error)) => {
            assert_eq!(error.kind(), StoreErrorKind::Unknown, "{error}");
            assert!(!error.may_repeat());
        }
        end => panic!("{end:?}"),
    }
    database.execute("DROP TRIGGER cut ON jobs").await.unwrap();
    store.commit(job.write()).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_is_written() {
    let (database, store) = database().await;
    let job = sample(market(&store).await, 1);
    let full = "CREATE FUNCTION disk() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$; \
                CREATE TRIGGER disk BEFORE INSERT ON events EXECUTE FUNCTION disk()";
    database.execute(full).await.unwrap();
    match store.commit(job.fund(euros(1)).unwrap()).await {
        Err(CommitError::Store(error)) => assert_eq!(error.kind(), StoreErrorKind::Full, "{error}"),
        end => panic!("{end:?}"),
    }
    assert!(store.load(job.market, job.key()).await.unwrap().is_none());
    database.execute("DROP TRIGGER disk ON events").await.unwrap();
    store.commit(job.fund(euros(1)).unwrap()).await.unwrap();
    assert_eq!(store.verify(job.market).await.unwrap(), []);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let error = PostgresStore::connect("postgres://nobody@127.0.0.1:1/nothing").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    let error = PostgresStore::connect("no URL at all").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported, "{error}");
}

/// A server that takes the connection and says nothing.
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_unavailable_after_ten_seconds() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://nobody@{}/nothing", silent.local_addr().unwrap());
    let began = tokio::time::Instant::now();
    let error = PostgresStore::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

/// A standby may lag behind, and money is decided on what is true now.
#[tokio::test]
async fn a_standby_is_refused_also_by_a_store_that_knew_it_as_the_primary() {
    let server = PostgresServer::start().unwrap();
    let url = server.database().unwrap();
    let store = PostgresStore::connect(&url).await.unwrap();
    let job = sample(market(&store).await, 1);
    store.commit(job.fund(euros(1)).unwrap()).await.unwrap();
    server.demote().unwrap();
    let error = PostgresStore::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("standby"), "{error}");
    for _ in 0..3 {
        let error = store.load(job.market, job.key()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        let end = store.commit(sample(job.market, 2).write()).await;
        assert!(matches!(end, Err(CommitError::Store(_))), "{end:?}");
    }
}

/// Transactions count from a low number again on the server that a dump was restored into; the log goes
/// on behind what came with the dump, and a reader misses nothing and sees nothing twice.
#[tokio::test]
async fn a_log_goes_on_after_a_dump_was_restored_elsewhere() {
    let (old, new) = (PostgresServer::start().unwrap(), PostgresServer::start().unwrap());
    let url = old.database().unwrap();
    let store = PostgresStore::connect(&url).await.unwrap();
    let market = market(&store).await;
    let counts = "DO $$ BEGIN FOR i IN 1..5000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
    Postgres(url.clone()).execute(counts).await.unwrap();
    for number in 1..3 {
        store.commit(sample(market, number).write()).await.unwrap();
    }
    let before = read(&store, market, Position::default(), 2).await;
    drop(store);

    let url = old.copy(&url, &new).unwrap();
    for started in 0..2 {
        let store = PostgresStore::connect(&url).await.unwrap();
        assert_eq!(store.open_market("test").await.unwrap(), market);
        let number = 3 + started;
        store.commit(sample(market, number).write()).await.unwrap();
        let all: Vec<_> = (1..=number).map(|number| (number, 1)).collect();
        let unread = all.len() - 1;
        let after = read(&store, market, before[0].position, unread).await;
        assert_eq!(versions_of(&after), all[1..], "a reader of the first event goes on with the second");
        assert_eq!(store.verify(market).await.unwrap(), []);
    }
    let low = "SELECT pg_current_xact_id()::text::bigint < (SELECT MIN(epoch) FROM events)";
    assert!(sqlx::query_scalar::<_, bool>(low).fetch_one(&mut connection(&url).await).await.unwrap());
}

/// Reads so many events behind a position, once every transaction before them has ended.
async fn read(store: &PostgresStore, market: MarketId, after: Position, count: usize) -> Vec<LoggedEvent> {
    let read = async {
        loop {
            let log = store.events(market, after, 100).await.unwrap();
            if log.len() >= count {
                return log;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap()
}

/// What was answered as written is there after a crash under load, what failed as unavailable is not,
/// and the same store works again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_under_load_loses_nothing() {
    let server = PostgresServer::start().unwrap();
    let store = PostgresStore::connect(&server.database().unwrap()).await.unwrap();
    let market = market(&store).await;
    let (done, mut counted) = tokio::sync::watch::channel(0_u32);
    let tasks: Vec<_> = (0..16_u128)
        .map(|task| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                let mut ends = Vec::new();
                for number in 0.. {
                    let job = sample(market, (task << 32) + number);
                    let end = store.commit(job.fund(euros(1)).unwrap()).await;
                    done.send_modify(|done| *done += 1);
                    let cut = end.is_err();
                    ends.push((job, end));
                    if cut {
                        break;
                    }
                }
                ends
            })
        })
        .collect();
    counted.wait_for(|done| *done > 200).await.unwrap();
    server.crash().unwrap();
    let ends: Vec<_> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    server.resume().unwrap();

    // The connections from before the crash are found dead once, and then replaced.
    let look = async {
        while store.load(market, ends[0].0.key()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), look).await.unwrap();
    let mut failed = 0;
    for (job, end) in &ends {
        let there = store.load(market, job.key()).await.unwrap().is_some();
        match end {
            Ok(()) => assert!(there, "a commit was lost"),
            Err(CommitError::Store(error)) if error.kind() == StoreErrorKind::Unavailable => {
                assert!(!there, "a commit was written and said not to be: {error}");
                failed += 1;
            }
            Err(CommitError::Store(error)) => {
                assert_eq!(error.kind(), StoreErrorKind::Unknown, "{error}");
                failed += 1;
            }
            end => panic!("{end:?}"),
        }
    }
    assert_eq!(failed, 16, "every task ended with the crash");
    assert_eq!(store.verify(market).await.unwrap(), []);
    let again = async {
        while store.commit(sample(market, 1 << 60).fund(euros(1)).unwrap()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.unwrap();
}

/// A database that refuses the next writes to jobs with a code, `times` times, whatever becomes of the
/// transactions that they are part of.
async fn refuses(url: &str, code: &str, times: u32) {
    let script = format!(
        "CREATE SEQUENCE refusals; \
         CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('refusals') <= {times} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION refuse();"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&mut connection(url).await).await.unwrap();
}

/// A serialization failure and a deadlock are tried again: the command sees neither, and is carried out once.
#[tokio::test(flavor = "multi_thread")]
async fn lost_races_are_tried_again_whole() {
    for code in ["40001", "40P01"] {
        let (Postgres(url), store) = database().await;
        let clock = Arc::new(ManualClock::at(start()));
        let market = Counter::builder(store, &clock).rail(credits()).build().await.unwrap();
        market.operator("Ada").record_deposit(CreditsRail::ID, "wire", buyer(), euros(1000)).await.unwrap();
        refuses(&url, code, 3).await;
        let job = market.agent(buyer()).keyed("one").post_job(order(euros(600))).await.unwrap();
        let again = market.agent(buyer()).keyed("one").post_job(order(euros(600))).await.unwrap();
        assert_eq!((job.id, market.available(buyer()).await.unwrap()), (again.id, euros(400)), "{code}");
        assert_eq!(market.verify().await.unwrap(), [], "{code}");
    }
}

/// One that does not end is the store's failure, with nothing written.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_that_is_always_lost_is_said() {
    let (Postgres(url), store) = database().await;
    let clock = Arc::new(ManualClock::at(start()));
    let market = Counter::builder(store, &clock).rail(credits()).build().await.unwrap();
    market.operator("Ada").record_deposit(CreditsRail::ID, "wire", buyer(), euros(1000)).await.unwrap();
    refuses(&url, "40001", 1_000_000).await;
    let error = market.agent(buyer()).post_job(order(euros(600))).await.unwrap_err();
    assert!(matches!(&error, Error::Store(error) if error.kind() == StoreErrorKind::Unavailable), "{error}");
    assert_eq!(market.available(buyer()).await.unwrap(), euros(1000));
    assert_eq!(market.verify().await.unwrap(), []);
}
