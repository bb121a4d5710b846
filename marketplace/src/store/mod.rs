//! Where everything durable is kept.
//!
//! A command becomes one [`Commit`]: plain data, written whole or not at all. Every store admits a
//! commit by the same function (`admit`) over the facts it has locked, so what is refused is refused
//! alike everywhere; the databases' own constraints stand behind it.

mod admit;
mod commit;
mod error;
mod listed;
mod memory;
mod record;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;

pub use commit::{
    Commit, CommitError, Document, Event, EventBody, InstructionEvent, KeyRecord, KeyUse, Listing, ObservationEvent,
    Tagging, Write,
};
pub use error::{StoreError, StoreErrorKind};
pub use memory::MemoryStore;
pub use record::{InstructionRecord, InstructionState, Kept, Key, Kind, Observed, OfKind, Record, Stored};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sql::SqlStore;
#[cfg(feature = "postgres")]
pub use sql::{PostgresJournal, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sql::{SqliteStore, SqliteTransaction};

pub(crate) use admit::{Admitted, Facts, admit};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::MarketId,
    ledger::{Account, Entry, Finding, Movement, TrialBalance},
    money::{Currency, Money},
    policy::{Policy, PolicyVersion},
    search::{Candidate, Term},
};

/// What a command needs of a store. A whole [`Store`] offers it, and so does an embedder's own open
/// transaction, in which whatever was committed in it counts.
#[async_trait]
pub trait Journal: Send + Sync {
    /// A record as it is now.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError>;

    /// What an idempotency key was used for.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError>;

    /// An account's balance, now or with everything committed up to a moment.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError>;

    /// Records that match, newest first; fewer than the query's limit only where there are no more. One that
    /// cannot be read, perhaps because a newer version of this library wrote it, is left out:
    /// [`Store::verify`] names it.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError>;

    /// How many records match, counted up to the query's `limit`; what a page begins with counts for nothing.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError>;

    /// A document kept beside a record.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError>;

    /// Writes a commit, whole or not at all.
    ///
    /// # Errors
    /// [`CommitError`]; unless it is a [`StoreErrorKind::Unknown`], nothing was written.
    async fn commit(&self, commit: Commit) -> Result<(), CommitError>;
}

/// Everything durable.
///
/// # The contract
///
/// 1. **A commit is atomic and durable.** When [`Journal::commit`] returns, it survives the machine.
/// 2. **Versions guard.** A write whose expected version is not the record's is a conflict, and
///    nothing of its commit is written. Concurrent commits behave as if one came after the other.
/// 3. **Limits hold.** An account's balance never passes its [`Limit`](crate::ledger::Limit), also
///    against concurrent commits and against a writer that goes round the engine.
/// 4. **Nothing is changed afterwards.** Transfers, events, documents and keys are only added.
/// 5. **The log misses nothing.** Whoever reads [`Store::events`] from a position on, again and
///    again, sees every event exactly once and in an order in which no record's events are swapped,
///    however late a commit becomes visible.
/// 6. **Markets are apart.** No call sees another market's rows.
///
/// The conformance kit (`testkit::store`) checks it.
#[async_trait]
pub trait Store: Journal + 'static {
    /// The market of this name, made if it is new.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn open_market(&self, name: &str) -> Result<MarketId, StoreError>;

    /// Adds a policy as the market's newest, unless it equals the newest already; its number.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn add_policy(&self, market: MarketId, policy: &Policy) -> Result<PolicyVersion, StoreError>;

    /// A policy by its number, or the newest.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn policy(
        &self,
        market: MarketId,
        version: Option<PolicyVersion>,
    ) -> Result<Option<(PolicyVersion, Policy)>, StoreError>;

    /// Records that are listed under a tag, newest first; fewer than the limit only where there are no more, as
    /// with [`Journal::find`]. However many records there are, it costs what it skips and what it finds.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn tagged(&self, market: MarketId, tagged: &Tagged) -> Result<Vec<Stored>, StoreError>;

    /// Entries that have the terms asked for, the highest rank first; of the same rank, the one whose record
    /// was listed first comes first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn seek(&self, market: MarketId, seek: &Seek) -> Result<Vec<Candidate>, StoreError>;

    /// Takes up to `limit` records that are due and that nobody has claimed, earliest first, for the
    /// caller alone until `until`. Claiming raises each record's version, which is the fence: whoever
    /// held an earlier claim can no longer commit.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn claim(&self, market: MarketId, claim: &Claim) -> Result<Vec<Stored>, StoreError>;

    /// Events after a position, oldest first; see clause 5 of the contract.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn events(&self, market: MarketId, after: Position, limit: u32) -> Result<Vec<LoggedEvent>, StoreError>;

    /// The events of one record, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn events_of(&self, market: MarketId, subject: Key) -> Result<Vec<LoggedEvent>, StoreError>;

    /// Where a named reader stands; `None` before its first move.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn cursor(&self, market: MarketId, reader: &str) -> Result<Option<String>, StoreError>;

    /// Moves a named reader from where it stands; whether it stood there.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn move_cursor(
        &self,
        market: MarketId,
        reader: &str,
        from: Option<&str>,
        to: &str,
    ) -> Result<bool, StoreError>;

    /// An account's entries with a number above `after`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn history(
        &self,
        market: MarketId,
        account: Account,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, StoreError>;

    /// What a contract's version moved; nothing if it moved nothing.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn movement(&self, market: MarketId, contract: Uuid, version: u64) -> Result<Movement, StoreError>;

    /// Every account's balance as its transfers add up, per currency.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn trial_balance(&self, market: MarketId) -> Result<Vec<TrialBalance>, StoreError>;

    /// Compares what is kept with what it should be; empty when nobody wrote behind the engine's back.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn verify(&self, market: MarketId) -> Result<Vec<Finding>, StoreError>;
}

/// Which records to find.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// Of this kind.
    pub kind: Kind,
    /// With this party in this place (see [`Record::parties`]); `None` for all.
    pub party: Option<(usize, Uuid)>,
    /// In one of these statuses; empty for all.
    pub statuses: Vec<&'static str>,
    /// Older than the record of this id; `None` from the newest on.
    pub before: Option<Uuid>,
    /// Leaving out the newest so many of those.
    pub offset: u32,
    /// At most so many.
    pub limit: u32,
}

impl Query {
    /// The query for what comes after a page of this one; `None` after the last page. However far one goes, a
    /// page costs the same, and what is written meanwhile moves nothing to another page.
    pub fn after(self, page: &[Stored]) -> Option<Self> {
        let last = page.last().filter(|_| page.len() == self.limit as usize)?;
        Some(Self { before: Some(last.record.key().id), offset: 0, ..self })
    }
}

/// Which listed records to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// Of this kind.
    pub kind: Kind,
    /// Under this tag (see [`Tagging`]).
    pub tag: String,
    /// Older than the record of this id; `None` from the newest on.
    pub before: Option<Uuid>,
    /// Leaving out the newest so many of those.
    pub offset: u32,
    /// At most so many.
    pub limit: u32,
}

/// Which entries to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seek {
    /// Of records of this kind.
    pub kind: Kind,
    /// With at least one term of each of these lists; all entries where there is no list.
    pub terms: Vec<Vec<Term>>,
    /// Leaving out the first so many.
    pub offset: u32,
    /// At most so many.
    pub limit: u32,
}

/// Which due records to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Of this kind.
    pub kind: Kind,
    /// Due at this moment, and not claimed beyond it.
    pub now: Timestamp,
    /// For the claimant alone until then.
    pub until: Timestamp,
    /// At most so many.
    pub limit: u32,
    /// None of these first parties' (see [`Record::parties`]).
    pub except: Vec<Uuid>,
}

/// A place in the event log. Its parts mean something to the store only; they order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The writing transaction, where commits may become visible out of order; otherwise 0.
    pub epoch: i64,
    /// The event's number.
    pub number: i64,
}

/// An event and its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoggedEvent {
    /// Its place.
    pub position: Position,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}
