//! The embedded store: one file, any number of tasks, and other processes too if need be.

use std::path::Path;

use async_trait::async_trait;
use sqlx::{
    ConnectOptions as _, SqliteConnection, SqliteTransaction as DriverTransaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    Bulk, Dialect, Failure, SqlStore, queries,
    session::Session,
    shelf::{Lent, Shelf},
    write::Prepared,
    writer::Joined,
};
use crate::{
    clock::Timestamp,
    ids::MarketId,
    ledger::Account,
    money::{Currency, Money},
    store::{Commit, CommitError, Journal, Key, KeyRecord, Query, StoreError, StoreErrorKind, Stored},
};

/// Keeps everything in one SQLite file: write-ahead log, every commit synced to the disk.
///
/// One connection writes, and concurrent commits share a transaction; four read meanwhile. Another
/// process may open the same file: writing transactions wait for each other.
pub type SqliteStore = SqlStore<sqlx::Sqlite>;

/// A write-ahead log that is reset while a reader looks on may corrupt the file before this version.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];
const READERS: usize = 4;
/// How long a writing transaction of another process is waited for.
const BUSY: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) static DIALECT: Dialect = Dialect {
    name: "sqlite",
    // A transaction that begins as a reader cannot wait for its turn to write.
    begin: "BEGIN IMMEDIATE",
    lock: "",
    skip_locked: "",
    bulk: Bulk::Values,
    epoch: None,
    events: "SELECT 0, number, kind, subject, version, at, actor, body FROM events \
             WHERE market = $1 AND number > $3 AND $2 = 0 ORDER BY number LIMIT $4",
    events_of: "SELECT 0, number, kind, subject, version, at, actor, body FROM events \
                WHERE subject = $2 AND market = $1 AND kind = $3 ORDER BY number",
    seek: "SELECT id, rank, title, text FROM (SELECT rowid AS place FROM listed_terms WHERE listed_terms MATCH $3 \
           ORDER BY rowid LIMIT $4 OFFSET $5) \
           JOIN listings ON number = (place & 137438953471) WHERE market = $1 AND kind = $2 ORDER BY place",
    and: " AND ",
    or: " OR ",
    quote: |term| format!("\"{term}\""),
    migration_lock: "",
    on_start: None,
    migrations: &[
        include_str!("../../../migrations/sqlite/0001_start.sql"),
        include_str!("../../../migrations/sqlite/0002_agents.sql"),
        include_str!("../../../migrations/sqlite/0003_bids.sql"),
        include_str!("../../../migrations/sqlite/0004_disputes.sql"),
        include_str!("../../../migrations/sqlite/0005_wallets.sql"),
        include_str!("../../../migrations/sqlite/0006_notices.sql"),
        include_str!("../../../migrations/sqlite/0007_agreements.sql"),
        include_str!("../../../migrations/sqlite/0008_adjustments.sql"),
        include_str!("../../../migrations/sqlite/0009_search.sql"),
        include_str!("../../../migrations/sqlite/0010_capabilities.sql"),
    ],
};

impl SqliteStore {
    /// Opens the file at this path, or makes it, and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] when the file cannot be opened, [`StoreErrorKind::Newer`] when a
    /// newer version of this library has migrated it, [`StoreErrorKind::Corrupt`] when it is no
    /// database of this library's, [`StoreErrorKind::Unsupported`] when the SQLite library that was
    /// linked is too old.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(SqliteConnectOptions::new().filename(path).create_if_missing(true)).await
    }

    /// Opens a file with the driver's own options, such as more pragmas. What durability and
    /// correctness need is set over them: write-ahead log, full synchronisation, foreign keys.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open_with(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .statement_cache_capacity(512)
            .row_buffer_size(512) // the facts of a group come without the reader and the writer waiting for each other
            .pragma("cache_size", "-32768") // KiB
            .disable_statement_logging();
        let shelf = |places| {
            let options = options.clone();
            Shelf::new(places, &DIALECT, move || {
                let options = options.clone();
                Box::pin(async move { Ok(Box::new(options.connect().await?) as Box<dyn Session>) })
            })
        };
        let transactions = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
        let writers = shelf(1);
        check_version(&mut writers.lend().await?).await?;
        Self::start(shelf(READERS), writers, 1, Some(transactions)).await
    }

    /// Begins a transaction of the embedder's own, in which the engine can commit too. It is the only
    /// writer until it ends, so keep it short.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] when another process does not stop writing.
    pub async fn begin(&self) -> Result<SqliteTransaction, StoreError> {
        let turn = self.shared.writers.lend().await?;
        let gone = || StoreError::new(StoreErrorKind::Unavailable, "the store was closed");
        let pool = self.shared.transactions.as_ref().ok_or_else(gone)?;
        let transaction = pool.begin_with(DIALECT.begin).await.map_err(Failure::from)?;
        Ok(SqliteTransaction(Mutex::new(Open { joined: Joined::new(transaction), _turn: turn })))
    }
}

async fn check_version(session: &mut Lent) -> Result<(), Failure> {
    let line = session.rows("SELECT sqlite_version()", Vec::new()).await?.pop();
    let version = line.ok_or_else(|| Failure::corrupt("SQLite does not tell its version"))?.text()?;
    new_enough(&version)
}

/// Refuses a library that may corrupt files.
fn new_enough(version: &str) -> Result<(), Failure> {
    let parts: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    if parts.as_slice() < OLDEST_SQLITE.as_slice() {
        let [major, minor, patch] = OLDEST_SQLITE;
        let message = format!("SQLite {version} is linked; needed is {major}.{minor}.{patch} or newer");
        return Err(Failure::new(StoreErrorKind::Unsupported, message));
    }
    Ok(())
}

/// A transaction of the embedder's own: its rows and the engine's commit together or not at all.
/// Dropped without [`SqliteTransaction::end`], it is rolled back.
pub struct SqliteTransaction(Mutex<Open>);

struct Open {
    joined: Joined<DriverTransaction<'static>>,
    /// The place among the writers; given back after the transaction has ended.
    _turn: Lent,
}

impl std::fmt::Debug for SqliteTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteTransaction").finish_non_exhaustive()
    }
}

impl SqliteTransaction {
    /// The connection, for the embedder's own statements.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0.get_mut().joined.connection
    }

    /// Makes everything written in it durable.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unknown`] when the disk fails while it is written,
    /// [`StoreErrorKind::Full`] when there is no room, with nothing written;
    /// [`StoreErrorKind::Unavailable`], with nothing written, when a command in it was dropped before it
    /// answered: half of it may be there.
    pub async fn end(self) -> Result<(), StoreError> {
        let Open { joined, _turn } = self.0.into_inner();
        let committed = joined.whole()?.commit().await;
        Ok(committed.map_err(|e| Failure::from(e).of_commit())?)
    }

    /// Forgets everything written in it.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`]; it is forgotten then, too.
    pub async fn rollback(self) -> Result<(), StoreError> {
        let Open { joined, _turn } = self.0.into_inner();
        Ok(joined.connection.rollback().await.map_err(Failure::from)?)
    }
}

#[async_trait]
impl Journal for SqliteTransaction {
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError> {
        Ok(queries::load(&mut *self.0.lock().await.joined.connection, market, key).await?)
    }

    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        Ok(queries::key(&mut *self.0.lock().await.joined.connection, market, key).await?)
    }

    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError> {
        Ok(queries::balance(&mut *self.0.lock().await.joined.connection, market, account, currency, at).await?)
    }

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        Ok(queries::find(&mut *self.0.lock().await.joined.connection, market, query).await?)
    }

    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError> {
        Ok(queries::count(&mut *self.0.lock().await.joined.connection, market, query).await?)
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        Ok(queries::document(&mut *self.0.lock().await.joined.connection, market, subject, name).await?)
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let prepared = Prepared::new(commit)?;
        self.0.lock().await.joined.join(|transaction| &mut **transaction, &prepared).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_may_corrupt_files_are_refused() {
        for old in ["3.51.2", "3.7.0", "3.40.1", "2.99.99", "3.51", "3", "", "none"] {
            let refused = new_enough(old).unwrap_err();
            assert!(refused.is(StoreErrorKind::Unsupported), "{old}");
            let said = StoreError::from(refused).to_string();
            assert!(said.contains(&format!("SQLite {old} is linked; needed is 3.51.3 or newer")), "{said}");
        }
        for new in ["3.51.3", "3.51.10", "3.52.0", "4.0.0"] {
            assert!(new_enough(new).is_ok(), "{new}");
        }
    }
}
