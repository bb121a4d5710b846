//! What happened to a dispute, in the words of the log (VP-38).

use serde::{Deserialize, Serialize};

use super::{Award, DisputeEnding};
use crate::{
    clock::Timestamp,
    ids::{AgentId, JobId},
    money::{Money, Rate},
    trust::Side,
};

/// Something that happened to a dispute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum DisputeEvent {
    /// It was opened.
    #[serde(rename = "dispute.opened")]
    Opened {
        /// About which job.
        job: JobId,
        /// Who pays for the job.
        buyer: AgentId,
        /// Who works on it.
        worker: AgentId,
        /// By whom.
        by: Side,
        /// The word that the claimant named.
        category: Option<String>,
        /// What the claimant paid for it.
        fee: Money,
        /// Until when the other party may answer before anybody judges.
        answer_by: Option<Timestamp>,
    },
    /// The other party answered.
    #[serde(rename = "dispute.answered")]
    Answered {},
    /// The other party did not answer in time.
    #[serde(rename = "dispute.unanswered")]
    Unanswered {},
    /// A party submitted evidence.
    #[serde(rename = "dispute.evidence_added")]
    EvidenceAdded {
        /// Who.
        by: Side,
        /// How many items.
        items: u32,
    },
    /// A party offers a settlement.
    #[serde(rename = "dispute.settlement_offered")]
    SettlementOffered {
        /// Who.
        by: Side,
        /// What.
        award: Award,
    },
    /// The automated tier ruled; the money stays where it is until nobody may appeal any more.
    #[serde(rename = "dispute.ruled")]
    Ruled {
        /// Who is to get what.
        award: Award,
        /// How sure the arbiter was.
        confidence: Rate,
        /// Until when either party may ask for people (VP-31).
        appeal_until: Timestamp,
    },
    /// It goes to people.
    #[serde(rename = "dispute.escalated")]
    Escalated {
        /// Why.
        cause: Escalation,
        /// By when they are to rule.
        due: Timestamp,
    },
    /// An operator took it up.
    #[serde(rename = "dispute.taken_up")]
    TakenUp {},
    /// The operator gave it back to the queue.
    #[serde(rename = "dispute.handed_back")]
    HandedBack {},
    /// People have not ruled in time (VP-31).
    #[serde(rename = "dispute.overdue")]
    Overdue {},
    /// It is over.
    #[serde(rename = "dispute.resolved")]
    Resolved {
        /// About which job.
        job: JobId,
        /// How.
        ending: DisputeEnding,
    },
    /// The money left before the dispute was over: the rail gave it back, or the parties divided it
    /// outside by themselves.
    #[serde(rename = "dispute.lapsed")]
    Lapsed {
        /// About which job.
        job: JobId,
    },
}

/// Why people are to judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Escalation {
    /// The marketplace has no arbiter at present.
    NoArbiter,
    /// The arbiter was not sure enough.
    LowConfidence {
        /// How sure it was.
        confidence: Rate,
    },
    /// The arbiter declined.
    Declined,
    /// The arbiter did not answer in time.
    Silent,
    /// The arbiter broke down, or said what no rule allows.
    Unusable {
        /// What was wrong.
        problem: String,
    },
    /// A party asked for it (VP-31).
    Appeal {
        /// Which.
        by: Side,
    },
    /// An operator asked for it.
    Operator {
        /// Why.
        reason: String,
    },
}

impl DisputeEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "dispute.opened",
            Self::Answered {} => "dispute.answered",
            Self::Unanswered {} => "dispute.unanswered",
            Self::EvidenceAdded { .. } => "dispute.evidence_added",
            Self::SettlementOffered { .. } => "dispute.settlement_offered",
            Self::Ruled { .. } => "dispute.ruled",
            Self::Escalated { .. } => "dispute.escalated",
            Self::TakenUp {} => "dispute.taken_up",
            Self::HandedBack {} => "dispute.handed_back",
            Self::Overdue {} => "dispute.overdue",
            Self::Resolved { .. } => "dispute.resolved",
            Self::Lapsed { .. } => "dispute.lapsed",
        }
    }
}
