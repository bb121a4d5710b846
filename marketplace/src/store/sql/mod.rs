//! The stores in a database, written once for SQLite and PostgreSQL.
//!
//! The path of a commit: its rows are made in the caller's task ([`write::Prepared`]) and handed to a
//! queue; a writer takes all that wait ([`writer`]), reads and locks the facts, admits each commit over
//! them and writes what holds ([`mod@write`]), waits for the disk once, and answers everybody. What a command
//! needs to know before (records, balances, counts) is read in groups as well ([`reader`]).
//!
//! What differs between the databases is the [`Dialect`], a handful of texts, and how a connection is
//! made. A new kind of record is a table in a migration and a line in [`tables::table`].

mod failure;
mod listings;
mod migrate;
#[cfg(feature = "postgres")]
mod postgres;
mod queries;
mod reader;
mod session;
mod shelf;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tables;
mod verify;
mod write;
mod writer;

#[cfg(feature = "postgres")]
pub use postgres::{PostgresJournal, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteStore, SqliteTransaction};

use std::{fmt, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use uuid::Uuid;

use self::{failure::Failure, reader::Reader, shelf::Shelf, write::Prepared, writer::Queue};
use super::{
    Claim, Commit, CommitError, Journal, Key, KeyRecord, LoggedEvent, Position, Query, Seek, Store, StoreError, Stored,
    Tagged,
};
use crate::{
    clock::Timestamp,
    ids::MarketId,
    ledger::{Account, Entry, Finding, Limit, Movement, TrialBalance},
    money::{Currency, Money},
    policy::{Policy, PolicyVersion},
    search::Candidate,
};

/// What differs between databases.
struct Dialect {
    name: &'static str,
    /// Begins a transaction that is going to write.
    begin: &'static str,
    /// Locks the rows of a SELECT.
    lock: &'static str,
    /// Locks the rows of a SELECT that nobody else has locked, and leaves out the others.
    skip_locked: &'static str,
    /// How a statement is given many rows or many keys.
    bulk: Bulk,
    /// How an event's epoch is worked out from its row, called `added`.
    epoch: Option<&'static str>,
    /// Market, epoch, number, limit; see clause 5 of the contract.
    events: &'static str,
    /// Market, subject, kind.
    events_of: &'static str,
    /// Market, kind, terms, limit, offset.
    seek: &'static str,
    /// How terms are asked for together, and instead of each other.
    and: &'static str,
    or: &'static str,
    /// A term among those asked for. It is of letters and digits.
    quote: fn(&str) -> String,
    /// Keeps other processes from migrating at the same time.
    migration_lock: &'static str,
    /// What is put right each time a store starts.
    on_start: Option<&'static str>,
    migrations: &'static [&'static str],
}

/// How one statement is given many rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bulk {
    /// A placeholder for every value, in a handful of sizes.
    #[cfg(feature = "sqlite")]
    Values,
    /// An array for every column, so that one text serves any number of rows.
    #[cfg(feature = "postgres")]
    Arrays,
}

/// A store in a database `D` of the driver's. Clones share it.
pub struct SqlStore<D> {
    shared: Arc<Shared>,
    database: PhantomData<fn() -> D>,
}

struct Shared {
    readers: Arc<Shelf>,
    writers: Arc<Shelf>,
    reader: Reader,
    queue: Queue,
    #[cfg(feature = "sqlite")]
    transactions: Option<sqlx::SqlitePool>,
}

impl<D> Clone for SqlStore<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), database: PhantomData }
    }
}

impl<D> fmt::Debug for SqlStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").finish_non_exhaustive()
    }
}

impl<D> SqlStore<D> {
    /// Migrates the database and starts the writers.
    async fn start(
        readers: Shelf,
        writers: Shelf,
        tasks: usize,
        #[cfg(feature = "sqlite")] transactions: Option<sqlx::SqlitePool>,
    ) -> Result<Self, StoreError> {
        migrate::migrate(&mut writers.lend().await?).await?;
        let (readers, writers) = (Arc::new(readers), Arc::new(writers));
        let (reader, queue) = (Reader::start(&readers), Queue::start(&writers, tasks));
        let shared = Shared {
            readers,
            writers,
            reader,
            queue,
            #[cfg(feature = "sqlite")]
            transactions,
        };
        Ok(Self { shared: Arc::new(shared), database: PhantomData })
    }
}

/// Runs a query of [`queries`] on a connection of the `readers` or the `writers`.
macro_rules! ask {
    ($store:ident . $shelf:ident, $query:path $(, $argument:expr)*) => {{
        let mut session = $store.shared.$shelf.lend().await?;
        Ok($query(&mut session $(, $argument)*).await?)
    }};
}

#[async_trait]
impl<D: 'static> Journal for SqlStore<D> {
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError> {
        Ok(self.shared.reader.record(market, key).await?)
    }

    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        ask!(self.readers, queries::key, market, key)
    }

    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError> {
        match at {
            None if account.limit() != Limit::None => Ok(self.shared.reader.balance(market, account, currency).await?),
            _ => ask!(self.readers, queries::balance, market, account, currency, at),
        }
    }

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        ask!(self.readers, queries::find, market, query)
    }

    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError> {
        match query.party {
            Some(_) => Ok(self.shared.reader.count(market, query).await?),
            None => ask!(self.readers, queries::count, market, query),
        }
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        ask!(self.readers, queries::document, market, subject, name)
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.shared.queue.commit(Prepared::new(commit)?).await
    }
}

#[async_trait]
impl<D: 'static> Store for SqlStore<D> {
    async fn open_market(&self, name: &str) -> Result<MarketId, StoreError> {
        ask!(self.writers, queries::open_market, name)
    }

    async fn add_policy(&self, market: MarketId, policy: &Policy) -> Result<PolicyVersion, StoreError> {
        ask!(self.writers, queries::add_policy, market, policy)
    }

    async fn policy(
        &self,
        market: MarketId,
        version: Option<PolicyVersion>,
    ) -> Result<Option<(PolicyVersion, Policy)>, StoreError> {
        ask!(self.readers, queries::policy, market, version)
    }

    async fn tagged(&self, market: MarketId, tagged: &Tagged) -> Result<Vec<Stored>, StoreError> {
        ask!(self.readers, queries::tagged, market, tagged)
    }

    async fn seek(&self, market: MarketId, seek: &Seek) -> Result<Vec<Candidate>, StoreError> {
        ask!(self.readers, listings::seek, market, seek)
    }

    async fn claim(&self, market: MarketId, claim: &Claim) -> Result<Vec<Stored>, StoreError> {
        ask!(self.writers, queries::claim, market, claim)
    }

    async fn events(&self, market: MarketId, after: Position, limit: u32) -> Result<Vec<LoggedEvent>, StoreError> {
        ask!(self.readers, queries::events, market, after, limit)
    }

    async fn events_of(&self, market: MarketId, subject: Key) -> Result<Vec<LoggedEvent>, StoreError> {
        ask!(self.readers, queries::events_of, market, subject)
    }

    async fn cursor(&self, market: MarketId, reader: &str) -> Result<Option<String>, StoreError> {
        ask!(self.readers, queries::cursor, market, reader)
    }

    async fn move_cursor(
        &self,
        market: MarketId,
        reader: &str,
        from: Option<&str>,
        to: &str,
    ) -> Result<bool, StoreError> {
        ask!(self.writers, queries::move_cursor, market, reader, from, to)
    }

    async fn history(
        &self,
        market: MarketId,
        account: Account,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        ask!(self.readers, queries::history, market, account, after, limit)
    }

    async fn movement(&self, market: MarketId, contract: Uuid, version: u64) -> Result<Movement, StoreError> {
        ask!(self.readers, queries::movement, market, contract, version)
    }

    async fn trial_balance(&self, market: MarketId) -> Result<Vec<TrialBalance>, StoreError> {
        ask!(self.readers, queries::trial_balance, market)
    }

    async fn verify(&self, market: MarketId) -> Result<Vec<Finding>, StoreError> {
        ask!(self.readers, verify::verify, market)
    }
}
