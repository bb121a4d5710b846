//! One command's writes, as plain data.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Key, Kind, Record, StoreError};
use crate::{
    actor::Actor,
    clock::Timestamp,
    ids::MarketId,
    job::JobEvent,
    ledger::{LedgerError, Movement},
};

/// Everything one command writes.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The market.
    pub market: MarketId,
    /// The moment of the decision.
    pub at: Timestamp,
    /// The contract or wallet that the movement belongs to, and the version that makes it.
    pub contract: Uuid,
    /// The version of the contract that this commit makes.
    pub version: u64,
    /// The idempotency key, if the caller gave one.
    pub key: Option<KeyUse>,
    /// The records, each guarded by the version it was decided on. No record twice.
    pub writes: Vec<Write>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// What moves in the ledger.
    pub movement: Movement,
    /// What is kept beside the records.
    pub documents: Vec<Document>,
}

/// A record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The record.
    pub record: Record,
    /// The version it must have now; 0 when it must not exist. It gets the next one.
    pub expected: u64,
    /// Until when the writer keeps it for itself, as if it had claimed it.
    pub claimed_until: Option<Timestamp>,
}

/// An idempotency key and what it is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The key, scoped to its actor by the engine.
    pub key: String,
    /// What was commanded, as a SHA-256 digest.
    pub fingerprint: [u8; 32],
    /// What is answered.
    pub answer: Record,
}

/// What an idempotency key was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// What was commanded, as a SHA-256 digest.
    pub fingerprint: [u8; 32],
    /// What was answered.
    pub answer: Record,
}

/// A text kept beside a record, written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The record's id.
    pub subject: Uuid,
    /// What it is to the record: `task`, `delivery/1`.
    pub name: String,
    /// The text, most often JSON.
    pub body: String,
}

/// Something that happened, with who and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The record it happened to.
    pub subject: Key,
    /// The version of the record that it made.
    pub version: u64,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened, by the kind of record it happened to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventBody {
    /// To a job.
    Job(JobEvent),
}

impl EventBody {
    /// The event's name: `job.created`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Job(event) => event.name(),
        }
    }

    /// Reads the form in a database.
    ///
    /// # Errors
    /// When the text is not an event of this kind of record.
    pub fn from_json(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
        match kind {
            Kind::Job | Kind::Instruction | Kind::Incident => serde_json::from_str(text).map(Self::Job),
        }
    }
}

/// Why a commit was not written.
#[derive(Debug)]
pub enum CommitError {
    /// A record has another version than the decision was made on: decide again.
    Conflict(Key),
    /// The key was used before for the same command: this was the answer.
    Replayed(Record),
    /// The key was used before for another command.
    KeyReused(String),
    /// An account's limit does not allow it.
    Ledger(LedgerError),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<LedgerError> for CommitError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}
