//! Disputes: a disagreement about one job, and how it is settled (VP-30, VP-31, JP-13).
//!
//! A dispute takes its job's clocks over. While it is open nothing of the job's money moves; however it
//! ends, the job ends with it or goes on where it stood, in the same commit.
//!
//! ```text
//! answering ──► arbitration ──► ruled ──► resolved
//!     │              │            │ appeal
//!     └──────────────┴──► review ◄┘
//!                            └─────────► resolved
//! ```
//!
//! Before a ruling the parties may settle (`settled`) or the claimant may withdraw (`withdrawn`). When
//! the rail can hold the money no longer, the dispute lapses (`lapsed`): a ruling that waits for its
//! appeal window is carried out then, otherwise the policy says who gets the money.
//!
//! [`decide`] is the only place that changes a dispute, [`follow`] tells it what became of its job
//! without it. Both are pure.

mod arbiter;
mod command;
mod decide;
mod event;
mod follow;

pub use arbiter::{Answer, Arbiter, Case, Judgement, NoJudgement, Submitted};
pub use command::{DisputeCommand, EvidenceItem, Filing};
pub use decide::{Context, Decision, decide};
pub(crate) use decide::{evidence_name, ruling_name, unrestricted};
pub use event::{DisputeEvent, Escalation};
pub use follow::follow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{AgentId, DisputeId, JobId},
    money::{Money, Rate},
    policy::PolicyVersion,
    store::Kept,
    trust::Side,
};

/// Where a dispute is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeStatus {
    /// The other party has time to answer before anybody judges.
    Answering,
    /// The automated tier is at it (VP-30).
    Arbitration,
    /// It waits for a person (VP-31, JP-13).
    Review,
    /// The automated tier has ruled; either party may still ask for a person (VP-31).
    Ruled,
    /// A ruling was carried out. Final.
    Resolved,
    /// The parties have agreed. Final.
    Settled,
    /// The claimant has withdrawn it. Final.
    Withdrawn,
    /// The rail could hold the money no longer. Final.
    Lapsed,
}

impl DisputeStatus {
    /// The word used in stores, events and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answering => "answering",
            Self::Arbitration => "arbitration",
            Self::Review => "review",
            Self::Ruled => "ruled",
            Self::Resolved => "resolved",
            Self::Settled => "settled",
            Self::Withdrawn => "withdrawn",
            Self::Lapsed => "lapsed",
        }
    }

    /// Whether no command changes it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Resolved | Self::Settled | Self::Withdrawn | Self::Lapsed)
    }
}

impl std::fmt::Display for DisputeStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A dispute: everything that decides about it. What the parties say and submit is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// Its id.
    pub id: DisputeId,
    /// The job that it is about.
    pub job: JobId,
    /// Who pays for the job.
    pub buyer: AgentId,
    /// Who works on it.
    pub worker: AgentId,
    /// Who opened it.
    pub claimant: Side,
    /// Where it is in its life.
    pub status: DisputeStatus,
    /// The word that the claimant named (JP-13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The policy it follows: its job's.
    pub policy: PolicyVersion,
    /// What each side paid for it.
    pub fees: Sides<Money>,
    /// How many items each side has submitted.
    pub evidence: Sides<u32>,
    /// When the other party answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// What one party offers the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
    /// The last ruling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruling: Option<Ruling>,
    /// Until when the step that [`Dispute::status`] names may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// When the arbiter is to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_at: Option<Timestamp>,
    /// How often the arbiter was asked in vain.
    #[serde(default)]
    pub asked: u32,
    /// The operator who has taken it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Whether the tier of people is past its service level (VP-31).
    #[serde(default)]
    pub overdue: bool,
    /// When the rail can hold the money no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<Timestamp>,
    /// Since when its job is frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_since: Option<Timestamp>,
}

/// Something for each side of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides<T> {
    /// The buyer's.
    pub buyer: T,
    /// The worker's.
    pub worker: T,
}

impl<T> Sides<T> {
    /// One side's.
    pub const fn of(&self, side: Side) -> &T {
        match side {
            Side::Buyer => &self.buyer,
            Side::Worker => &self.worker,
        }
    }

    /// One side's, to be changed.
    pub const fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Buyer => &mut self.buyer,
            Side::Worker => &mut self.worker,
        }
    }
}

/// Who gets what of a disputed job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Award {
    /// The buyer gets everything back, the fee too.
    #[serde(rename = "buyer_wins")]
    Buyer,
    /// The worker gets what was agreed, the platform its fee.
    #[serde(rename = "worker_wins")]
    Worker,
    /// The worker gets a share of what was agreed and the platform the same share of its fee; the
    /// buyer gets back the rest.
    Split {
        /// The worker's share, more than nothing and less than the whole.
        to_worker: Rate,
    },
}

impl Award {
    /// The word used in events and documents.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Buyer => "buyer_wins",
            Self::Worker => "worker_wins",
            Self::Split { .. } => "split",
        }
    }

    /// The side that has won, if one has.
    pub const fn winner(&self) -> Option<Side> {
        match self {
            Self::Buyer => Some(Side::Buyer),
            Self::Worker => Some(Side::Worker),
            Self::Split { .. } => None,
        }
    }
}

/// How a dispute ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum DisputeEnding {
    /// By a ruling.
    Ruled {
        /// Which.
        award: Award,
    },
    /// By the parties' own agreement.
    Agreed {
        /// On what.
        award: Award,
    },
    /// The rail could hold the money no longer, and this is what became of it.
    Lapsed {
        /// Who got what.
        award: Award,
    },
    /// The claimant withdrew it: the job goes on.
    Withdrawn,
}

impl DisputeEnding {
    /// How, in a few words.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ruled { .. } => "a dispute was ruled",
            Self::Agreed { .. } => "the parties settled a dispute",
            Self::Lapsed { .. } => "the money could be held no longer",
            Self::Withdrawn => "a dispute was withdrawn",
        }
    }
}

/// What one party offers the other before a ruling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Who offers it.
    pub by: Side,
    /// What.
    pub award: Award,
}

/// What somebody has ruled. Why is kept beside the dispute, as the document `ruling/<number>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// Which of the dispute's rulings, counted from 1.
    pub number: u32,
    /// Who gets what.
    pub award: Award,
    /// Who ruled.
    pub by: RuledBy,
    /// When.
    pub at: Timestamp,
}

/// Who ruled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuledBy {
    /// The automated tier.
    Arbiter {
        /// How sure it was.
        confidence: Rate,
    },
    /// An operator, by name.
    Operator(String),
}

impl Dispute {
    /// Who did not open it.
    pub const fn respondent(&self) -> Side {
        self.claimant.other()
    }

    /// Whether it is the arbiter's turn, and nothing else is due.
    pub(crate) fn waits_for_arbiter(&self, now: Timestamp) -> bool {
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        let first = self.deadline.into_iter().chain(self.hold_until).min();
        self.status == DisputeStatus::Arbitration && due(self.ask_at) && !due(first)
    }

    /// The agent on a side.
    pub const fn agent(&self, side: Side) -> AgentId {
        match side {
            Side::Buyer => self.buyer,
            Side::Worker => self.worker,
        }
    }
}

impl Kept for Dispute {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        self.status.as_str()
    }

    /// Its buyer and its worker.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.buyer.0), Some(self.worker.0)]
    }

    /// The next moment at which something happens by itself. While the job is frozen only the rail's
    /// own clock goes on.
    fn due_at(&self) -> Option<Timestamp> {
        let step = match self.status {
            _ if self.frozen_since.is_some() => None,
            DisputeStatus::Arbitration => self.ask_at.into_iter().chain(self.deadline).min(),
            DisputeStatus::Review if self.overdue => None,
            _ => self.deadline,
        };
        step.into_iter().chain(self.hold_until).min()
    }
}
