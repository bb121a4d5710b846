//! What is kept as a whole, by id and version.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    agent::{Agent, Owner},
    clock::Timestamp,
    ids::RailId,
    job::Job,
    rail::{Action, Decline, Instruction, Observation, Outcome, Receipt},
};

/// The kinds of records; each has a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Jobs.
    Job,
    /// Instructions to rails.
    Instruction,
    /// What rails reported: deposits and expired holds, and whatever no rule could take in.
    Observation,
    /// Agents.
    Agent,
    /// The people behind agents.
    Owner,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Job, Self::Instruction, Self::Observation, Self::Agent, Self::Owner];

    /// The word used in stores and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Instruction => "instruction",
            Self::Observation => "observation",
            Self::Agent => "agent",
            Self::Owner => "owner",
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
    /// Something a rail reported.
    Observed(Arc<Observed>),
    /// An agent.
    Agent(Arc<Agent>),
    /// The person behind agents.
    Owner(Arc<Owner>),
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
    /// The contract that gave it.
    pub contract: Key,
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
        outcome: Box<Outcome>,
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

/// Something a rail reported. Its id follows from the rail's and the observation's, so that writing it
/// a second time is a conflict: that is what makes a deposit count once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Its id.
    pub id: Uuid,
    /// The rail that reported it.
    pub rail: RailId,
    /// What was reported.
    pub observation: Observation,
    /// When the engine took it in or refused it.
    pub at: Timestamp,
    /// Why no rule could take it in; an operator decides. Nothing else was written for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How an operator has dealt with it, if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dismissed: Option<String>,
}

impl Record {
    /// Its kind and id.
    pub fn key(&self) -> Key {
        match self {
            Self::Job(job) => Key { kind: Kind::Job, id: job.id.0 },
            Self::Instruction(record) => Key { kind: Kind::Instruction, id: record.instruction.id.0 },
            Self::Observed(observed) => Key { kind: Kind::Observation, id: observed.id },
            Self::Agent(agent) => Key { kind: Kind::Agent, id: agent.id.0 },
            Self::Owner(owner) => Key { kind: Kind::Owner, id: owner.id.0 },
        }
    }

    /// The word for where it is in its life.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Job(job) => job.status.as_str(),
            Self::Instruction(record) => record.state.as_str(),
            Self::Observed(observed) if observed.dismissed.is_some() => "dismissed",
            Self::Observed(observed) if observed.refused.is_some() => "refused",
            Self::Observed(_) => "taken",
            Self::Agent(agent) => agent.status.as_str(),
            Self::Owner(_) => "known",
        }
    }

    /// The ids it can be found by: a job's buyer and worker, an instruction's contract, an
    /// agent's owner.
    pub fn parties(&self) -> [Option<Uuid>; 2] {
        match self {
            Self::Job(job) => [Some(job.buyer.0), job.worker.map(|worker| worker.0)],
            Self::Instruction(record) => [Some(record.instruction.contract), None],
            Self::Observed(_) | Self::Owner(_) => [None, None],
            Self::Agent(agent) => [Some(agent.owner.0), None],
        }
    }

    /// When something has to be done about it without being asked.
    pub fn due_at(&self) -> Option<Timestamp> {
        match self {
            Self::Job(job) => job.due_at(),
            Self::Instruction(record) => (!record.state.is_final()).then_some(record.run_at),
            Self::Agent(agent) => agent.due_at(),
            Self::Observed(_) | Self::Owner(_) => None,
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
            Self::Observed(observed) => serde_json::to_string(observed),
            Self::Agent(agent) => serde_json::to_string(agent),
            Self::Owner(owner) => serde_json::to_string(owner),
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
            Kind::Observation => Self::Observed(serde_json::from_str(text)?),
            Kind::Agent => Self::Agent(serde_json::from_str(text)?),
            Kind::Owner => Self::Owner(serde_json::from_str(text)?),
        })
    }
}
