//! The store that many processes share.

use std::{num::NonZeroUsize, str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

use super::{
    Bulk, Dialect, Failure, SqlStore, queries, session::Session, shelf::Shelf, write::Prepared, writer::Joined,
};
use crate::{
    clock::Timestamp,
    ids::MarketId,
    ledger::Account,
    money::{Currency, Money},
    store::{Commit, CommitError, Journal, Key, KeyRecord, Query, StoreError, StoreErrorKind, Stored},
};

/// Keeps everything in a PostgreSQL database, in the schema that comes first in the search path. Any
/// number of processes may use it at once. It reads and writes the primary only.
///
/// The event log ends before the oldest transaction that is under way anywhere on the server, so a
/// transaction left open holds its readers back (and loses them nothing).
pub type PostgresStore = SqlStore<sqlx::Postgres>;

const WRITERS: NonZeroUsize = NonZeroUsize::new(4).expect("four is not nothing");
const READERS: usize = 8;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

pub(super) static DIALECT: Dialect = Dialect {
    name: "postgres",
    begin: "BEGIN",
    lock: " FOR UPDATE",
    skip_locked: " FOR UPDATE SKIP LOCKED",
    bulk: Bulk::Arrays,
    epoch: Some(EPOCH),
    events: "SELECT epoch, number, kind, subject, version, at, actor, body FROM events \
             WHERE market = $1 AND (epoch, number) > ($2, $3) \
             AND epoch < pg_snapshot_xmin(pg_current_snapshot())::text::bigint + (SELECT base FROM feed) \
             ORDER BY epoch, number LIMIT $4",
    events_of: "SELECT epoch, number, kind, subject, version, at, actor, body FROM events \
                WHERE market = $1 AND subject = $2 AND kind = $3 ORDER BY epoch, number",
    seek: "SELECT id, rank, title, text FROM sought($1, $2, $3, $4, $5)",
    and: " & ",
    or: " | ",
    quote: |term| format!("'{term}'"),
    migration_lock: "SELECT pg_advisory_xact_lock(8390876174219)", // any number, the same for ever
    // Never true while one server counts on: every epoch is the id of a transaction before this one.
    on_start: Some(
        "UPDATE feed SET base = (SELECT MAX(epoch) FROM events) + 1 \
         WHERE (SELECT MAX(epoch) FROM events) >= pg_current_xact_id()::text::bigint + base",
    ),
    migrations: &[
        include_str!("../../../migrations/postgres/0001_start.sql"),
        include_str!("../../../migrations/postgres/0002_agents.sql"),
        include_str!("../../../migrations/postgres/0003_bids.sql"),
        include_str!("../../../migrations/postgres/0004_disputes.sql"),
        include_str!("../../../migrations/postgres/0005_wallets.sql"),
        include_str!("../../../migrations/postgres/0006_notices.sql"),
        include_str!("../../../migrations/postgres/0007_agreements.sql"),
        include_str!("../../../migrations/postgres/0008_adjustments.sql"),
        include_str!("../../../migrations/postgres/0009_search.sql"),
        include_str!("../../../migrations/postgres/0010_capabilities.sql"),
    ],
};

/// The writing transaction's id, or that of the record's event before if there is one and it is higher.
///
/// A transaction may have got its id before it had to wait for a record's lock, and another with a
/// higher id may have written the record meanwhile. Raising the epoch keeps the record's events in
/// order, and it is safe for readers: an epoch is never below its transaction's id, and they read
/// only below every transaction under way.
///
/// A server that a dump was restored into counts its transactions from a low number again: `feed.base`
/// lifts them above every epoch that came with the dump.
const EPOCH: &str = "GREATEST(pg_current_xact_id()::text::bigint + (SELECT base FROM feed), \
     CASE WHEN added.version > 1 THEN (SELECT MAX(epoch) FROM events AS before \
     WHERE before.market = added.market AND before.subject = added.subject) END)";

/// Refuses a standby, which may lag behind.
async fn primary(mut connection: PgConnection) -> Result<Box<dyn Session>, Failure> {
    let standby = "SELECT pg_is_in_recovery()::int::bigint";
    let line = Session::rows(&mut connection, standby, Vec::new()).await?.pop();
    match line.ok_or_else(|| Failure::corrupt("the server does not tell what it is"))?.int()? {
        0 => Ok(Box::new(connection)),
        _ => Err(Failure::new(StoreErrorKind::Unavailable, "the server is a standby; money is decided on the primary")),
    }
}

impl PostgresStore {
    /// Connects to a database by its URL (`postgres://user:password@host/database`) and brings its
    /// tables up to date.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::store::StoreErrorKind::Unavailable) when it cannot be
    /// reached, [`Newer`](crate::store::StoreErrorKind::Newer) when a newer version of this library has
    /// migrated it, [`Unsupported`](crate::store::StoreErrorKind::Unsupported) when the URL is none or
    /// the user may not do it.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url).map_err(Failure::from)?;
        Self::connect_with(options, WRITERS).await
    }

    /// Connects with the driver's own options and a number of connections that write (4 by default);
    /// twice as many read.
    ///
    /// # Errors
    /// As [`PostgresStore::connect`].
    pub async fn connect_with(options: PgConnectOptions, writers: NonZeroUsize) -> Result<Self, StoreError> {
        let options = options
            .options([
                ("default_transaction_isolation", "read committed"),
                ("synchronous_commit", "on"),
                // Statements are planned once, perhaps while a table is still empty; all but the
                // audits go by an index.
                ("enable_seqscan", "off"),
                ("plan_cache_mode", "force_generic_plan"),
                ("jit", "off"),         // an audit is not worth compiling, a command even less
                ("lock_timeout", "2s"), // somebody outside holds a row: whoever needs it fails alone
            ])
            .statement_cache_capacity(512)
            .disable_statement_logging();
        let shelf = |places| {
            let options = options.clone();
            Shelf::new(places, &DIALECT, move || {
                let options = options.clone();
                Box::pin(async move {
                    let late = |_| Failure::new(StoreErrorKind::Unavailable, "the server does not answer");
                    let connection = timeout(CONNECT_WITHIN, options.connect()).await.map_err(late)??;
                    primary(connection).await
                })
            })
        };
        let (readers, tasks) = (shelf(READERS.max(2 * writers.get())), writers.get());
        Self::start(
            readers,
            shelf(tasks),
            tasks,
            #[cfg(feature = "sqlite")]
            None,
        )
        .await
    }

    /// Lets the engine commit in a transaction of the embedder's own, so that their rows commit
    /// together. The embedder begins and ends it, on a database that a [`PostgresStore`] has migrated.
    /// The records that the engine writes stay locked until then, so keep it short. Roll back when a
    /// command's future was dropped before it answered: half of it may have been written.
    pub fn within(connection: &mut PgConnection) -> PostgresJournal<'_> {
        PostgresJournal(Mutex::new(Joined::new(connection)))
    }
}

/// An embedder's own open transaction, as the engine sees it.
#[derive(Debug)]
pub struct PostgresJournal<'a>(Mutex<Joined<&'a mut PgConnection>>);

#[async_trait]
impl Journal for PostgresJournal<'_> {
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError> {
        Ok(queries::load(&mut *self.0.lock().await.connection, market, key).await?)
    }

    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        Ok(queries::key(&mut *self.0.lock().await.connection, market, key).await?)
    }

    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError> {
        Ok(queries::balance(&mut *self.0.lock().await.connection, market, account, currency, at).await?)
    }

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        Ok(queries::find(&mut *self.0.lock().await.connection, market, query).await?)
    }

    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError> {
        Ok(queries::count(&mut *self.0.lock().await.connection, market, query).await?)
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        Ok(queries::document(&mut *self.0.lock().await.connection, market, subject, name).await?)
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let prepared = Prepared::new(commit)?;
        self.0.lock().await.join(|connection| &mut **connection, &prepared).await
    }
}
