//! What is kept as a whole, by id and version.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::RailId,
    job::Job,
    rail::{Action, Decline, Instruction, Observation, Receipt},
};

/// The kinds of records; each has a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Jobs.
    Job,
    /// Instructions to rails.
    Instruction,
    /// Observations that no rule could take in: for operators.
    Incident,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Job, Self::Instruction, Self::Incident];

    /// The word used in stores and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Instruction => "instruction",
            Self::Incident => "incident",
        }
    }
}

/// A record's kind and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The id.
    pub id: Uuid,
}

/// What is kept as a whole. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A job.
    Job(Arc<Job>),
    /// An instruction to a rail.
    Instruction(Arc<InstructionRecord>),
    /// Something that an operator must look at.
    Incident(Arc<Incident>),
}

/// A record as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// Its version; the first is 1, and every write and claim adds 1.
    pub version: u64,
    /// How often it was claimed since it was last written.
    pub claims: u32,
}

/// An instruction and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionRecord {
    /// The instruction.
    pub instruction: Instruction,
    /// The rail it is for.
    pub rail: RailId,
    /// When it was decided.
    pub given_at: Timestamp,
    /// When it is to be worked on next.
    pub run_at: Timestamp,
    /// What has become of it.
    pub state: InstructionState,
    /// How often the rail was asked about it in vain since something last changed.
    #[serde(default)]
    pub failures: u32,
    /// What went wrong last, for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What has become of an instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstructionState {
    /// Nobody has told the rail, or nobody lived to say so: its claims tell which.
    Queued,
    /// The rail was told and its answer lost: it is looked up, never sent again before.
    Unknown,
    /// The rail is at it.
    Pending {
        /// What the outside world calls it.
        reference: String,
    },
    /// A party has to act.
    NeedsAction(Action),
    /// It took effect. Final.
    Done(Receipt),
    /// It had no effect. Final.
    Declined(Decline),
    /// The rail's answer is not what was asked for: an operator decides. Final for the engine.
    Mismatch {
        /// The answer that no rule could take in.
        receipt: Receipt,
    },
}

impl InstructionState {
    /// The word used in stores and documents.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Unknown => "unknown",
            Self::Pending { .. } => "pending",
            Self::NeedsAction(_) => "needs_action",
            Self::Done(_) => "done",
            Self::Declined(_) => "declined",
            Self::Mismatch { .. } => "mismatch",
        }
    }

    /// Whether the engine has nothing more to do about it.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Declined(_) | Self::Mismatch { .. })
    }
}

/// Something from outside that no rule could take in. Nothing was written for it but this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its id.
    pub id: Uuid,
    /// The rail that reported it.
    pub rail: RailId,
    /// What was reported.
    pub observation: Observation,
    /// Which rule refused it, in words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Record {
    /// Its kind and id.
    pub fn key(&self) -> Key {
        match self {
            Self::Job(job) => Key { kind: Kind::Job, id: job.id.0 },
            Self::Instruction(record) => Key { kind: Kind::Instruction, id: record.instruction.id.0 },
            Self::Incident(incident) => Key { kind: Kind::Incident, id: incident.id },
        }
    }

    /// The word for where it is in its life.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Job(job) => job.status.as_str(),
            Self::Instruction(record) => record.state.as_str(),
            Self::Incident(_) => "open",
        }
    }

    /// The ids it can be found by: a job's buyer and worker, an instruction's contract.
    pub fn parties(&self) -> [Option<Uuid>; 2] {
        match self {
            Self::Job(job) => [Some(job.buyer.0), job.worker.map(|worker| worker.0)],
            Self::Instruction(record) => [Some(record.instruction.contract), None],
            Self::Incident(_) => [None, None],
        }
    }

    /// When something has to be done about it without being asked.
    pub fn due_at(&self) -> Option<Timestamp> {
        match self {
            Self::Job(job) => job.due_at(),
            Self::Instruction(record) => (!record.state.is_final()).then_some(record.run_at),
            Self::Incident(_) => None,
        }
    }

    /// Its form in a database.
    ///
    /// # Errors
    /// When a value in it has no JSON form, which no record has.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Job(job) => serde_json::to_string(job),
            Self::Instruction(record) => serde_json::to_string(record),
            Self::Incident(incident) => serde_json::to_string(incident),
        }
    }

    /// Reads the form in a database.
    ///
    /// # Errors
    /// When the text is not a record of this kind.
    pub fn from_json(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Job => Self::Job(serde_json::from_str(text)?),
            Kind::Instruction => Self::Instruction(serde_json::from_str(text)?),
            Kind::Incident => Self::Incident(serde_json::from_str(text)?),
        })
    }
}
