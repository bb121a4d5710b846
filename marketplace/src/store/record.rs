//! What is kept as a whole, by id and version.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    adjustment::Adjustment,
    agent::{Agent, Owner},
    agreement::Agreement,
    bid::Bid,
    clock::Timestamp,
    dispute::Dispute,
    ids::RailId,
    job::Job,
    notice::{Delivery, Endpoint, Notice},
    rail::{Action, Decline, Instruction, Observation, Outcome, Receipt},
    report::Report,
    review::Review,
    spending::Budget,
    trust::Reputation,
    validation::Check,
    wallet::Wallet,
};

/// A state that is of one kind of record; every kind in the list below is.
pub trait OfKind: Sized + Into<Record> {
    /// Its kind.
    const KIND: Kind;

    /// Takes it out of a record, if that is of its kind.
    fn of(record: Record) -> Option<Arc<Self>>;
}

/// What is kept as a whole, by id and version. Each kind of state implements it in its own folder.
pub trait Kept: OfKind {
    /// Its id.
    fn id(&self) -> Uuid;

    /// The word for where it is in its life.
    fn status(&self) -> &'static str;

    /// The ids it can be found by: a job's buyer and worker, an instruction's contract, an agent's owner.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [None, None]
    }

    /// When something has to be done about it without being asked.
    fn due_at(&self) -> Option<Timestamp> {
        None
    }

    /// Where it is kept.
    fn key(&self) -> Key {
        Key { kind: Self::KIND, id: self.id() }
    }
}

/// A kind a line: its name here, what is kept, and the word used in stores and documents.
macro_rules! records {
    ($($(#[$doc:meta])* $kind:ident($state:ty) = $word:literal),+ $(,)?) => {
        /// The kinds of records; each has a table of its own.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The word used in stores and documents.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                }
            }
        }

        /// What is kept as a whole. Cheap to clone.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Record {
            $($(#[$doc])* $kind(Arc<$state>),)+
        }

        impl Record {
            /// Its kind and id.
            pub fn key(&self) -> Key {
                match self {
                    $(Self::$kind(state) => Kept::key(&**state),)+
                }
            }

            /// The word for where it is in its life.
            pub fn status(&self) -> &'static str {
                match self {
                    $(Self::$kind(state) => Kept::status(&**state),)+
                }
            }

            /// The ids it can be found by.
            pub fn parties(&self) -> [Option<Uuid>; 2] {
                match self {
                    $(Self::$kind(state) => Kept::parties(&**state),)+
                }
            }

            /// When something has to be done about it without being asked.
            pub fn due_at(&self) -> Option<Timestamp> {
                match self {
                    $(Self::$kind(state) => Kept::due_at(&**state),)+
                }
            }

            /// Its form in a database.
            ///
            /// # Errors
            /// When a value in it has no JSON form, which no record has.
            pub fn to_json(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$kind(state) => serde_json::to_string(state),)+
                }
            }

            /// Reads the form in a database.
            ///
            /// # Errors
            /// When the text is not a record of this kind.
            pub fn from_json(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(serde_json::from_str(text)?),)+
                })
            }
        }

        $(
            impl OfKind for $state {
                const KIND: Kind = Kind::$kind;

                fn of(record: Record) -> Option<Arc<Self>> {
                    match record {
                        Record::$kind(state) => Some(state),
                        _ => None,
                    }
                }
            }

            impl From<Arc<$state>> for Record {
                fn from(state: Arc<$state>) -> Self {
                    Self::$kind(state)
                }
            }

            impl From<$state> for Record {
                fn from(state: $state) -> Self {
                    Self::$kind(Arc::new(state))
                }
            }
        )+
    };
}

records! {
    /// Jobs.
    Job(Job) = "job",
    /// Instructions to rails.
    Instruction(InstructionRecord) = "instruction",
    /// What rails reported: deposits and expired holds, and whatever no rule could take in.
    Observation(Observed) = "observation",
    /// Agents.
    Agent(Agent) = "agent",
    /// The people behind agents.
    Owner(Owner) = "owner",
    /// What operators moved by hand.
    Adjustment(Adjustment) = "adjustment",
    /// Bids on open jobs, and applications for them.
    Bid(Bid) = "bid",
    /// What guards agents' money.
    Wallet(Wallet) = "wallet",
    /// How much agents may spend.
    Budget(Budget) = "budget",
    /// Disagreements about jobs.
    Dispute(Dispute) = "dispute",
    /// Deliveries that are to be validated, or were.
    Check(Check) = "check",
    /// What parties of jobs say of each other.
    Review(Review) = "review",
    /// What agents tell the platform about each other.
    Report(Report) = "report",
    /// How far agents are trusted.
    Reputation(Reputation) = "reputation",
    /// Usage agreements.
    Agreement(Agreement) = "agreement",
    /// Addresses that notices are sent to.
    Endpoint(Endpoint) = "endpoint",
    /// Notices on their way to one address.
    Delivery(Delivery) = "delivery",
    /// What agents are told.
    Notice(Notice) = "notice",
}

/// A record's kind and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The id.
    pub id: Uuid,
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

impl Kept for InstructionRecord {
    fn id(&self) -> Uuid {
        self.instruction.id.0
    }

    fn status(&self) -> &'static str {
        self.state.as_str()
    }

    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.instruction.contract), None]
    }

    fn due_at(&self) -> Option<Timestamp> {
        (!self.state.is_final()).then_some(self.run_at)
    }
}

impl Kept for Observed {
    fn id(&self) -> Uuid {
        self.id
    }

    fn status(&self) -> &'static str {
        match (&self.dismissed, &self.refused) {
            (Some(_), _) => "dismissed",
            (None, Some(_)) => "refused",
            (None, None) => "taken",
        }
    }
}
