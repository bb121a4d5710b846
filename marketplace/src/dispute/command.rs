//! What can be asked of a dispute.

use serde::{Deserialize, Serialize};

use super::{Answer, Award, DisputeStatus};
use crate::{ids::DisputeId, policy::EvidenceKind};

/// A dispute to be opened (VP-30, JP-13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filing {
    /// One of the policy's words, where it has some (JP-13).
    #[serde(default)]
    pub category: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// What shows it.
    #[serde(default)]
    pub evidence: Vec<EvidenceItem>,
}

/// A piece of evidence (VP-30).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceItem {
    /// What kind it is of.
    pub kind: EvidenceKind,
    /// What it shows, in a line of at most 200 characters.
    #[serde(default)]
    pub label: String,
    /// The text, the `https` address, or the file's name.
    pub content: String,
}

/// A command to a dispute. Serialized, it is what an idempotency key is compared by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum DisputeCommand {
    /// A party of the job opens it.
    Open {
        /// The id it will have. Chosen by the shell, not part of what a key is compared by.
        #[serde(skip, default = "nil_dispute")]
        id: DisputeId,
        /// What is wrong.
        filing: Box<Filing>,
    },
    /// The other party answers, once.
    Answer {
        /// What it says.
        answer: String,
        /// What shows it.
        evidence: Vec<EvidenceItem>,
    },
    /// A party submits more.
    AddEvidence {
        /// What.
        evidence: Vec<EvidenceItem>,
    },
    /// A party offers the other a settlement, in place of whatever was offered before.
    Offer {
        /// Who would get what.
        award: Award,
    },
    /// A party takes what the other offers.
    AcceptOffer {
        /// What it takes the offer to be: another one is not accepted by mistake.
        award: Award,
    },
    /// The claimant gives up; the job goes on where it stood.
    Withdraw,
    /// A party asks for people after the automated tier has ruled (VP-31).
    Appeal {
        /// Why.
        reason: String,
    },
    /// An operator has people look at it at once.
    Escalate {
        /// Why.
        reason: String,
    },
    /// An operator takes it up: nobody else rules then.
    TakeUp,
    /// The operator who has taken it up gives it back to the queue.
    HandBack,
    /// An operator rules.
    Rule {
        /// Who gets what.
        award: Award,
        /// Why, for the parties.
        reason: String,
    },
    /// The arbiter was asked.
    RecordAnswer {
        /// What came of it.
        answer: Box<Answer>,
    },
    /// A timer came due.
    Tick,
}

fn nil_dispute() -> DisputeId {
    DisputeId(uuid::Uuid::nil())
}

impl DisputeCommand {
    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open_dispute",
            Self::Answer { .. } => "answer_dispute",
            Self::AddEvidence { .. } => "add_evidence",
            Self::Offer { .. } => "offer_settlement",
            Self::AcceptOffer { .. } => "accept_settlement",
            Self::Withdraw => "withdraw_dispute",
            Self::Appeal { .. } => "appeal",
            Self::Escalate { .. } => "escalate",
            Self::TakeUp => "take_up",
            Self::HandBack => "hand_back",
            Self::Rule { .. } => "rule",
            Self::RecordAnswer { .. } => "record_answer",
            Self::Tick => "tick",
        }
    }

    /// The statuses in which the command can be legal at all.
    pub const fn legal_in(&self) -> &'static [DisputeStatus] {
        use DisputeStatus::{Answering, Arbitration, Review, Ruled};
        match self {
            Self::Open { .. } => &[],
            Self::Answer { .. }
            | Self::AddEvidence { .. }
            | Self::Offer { .. }
            | Self::AcceptOffer { .. }
            | Self::Withdraw => &[Answering, Arbitration, Review],
            Self::Appeal { .. } => &[Ruled],
            Self::Escalate { .. } => &[Answering, Arbitration],
            Self::TakeUp | Self::HandBack | Self::Rule { .. } => &[Review],
            Self::RecordAnswer { .. } => &[Arbitration],
            Self::Tick => &[Answering, Arbitration, Review, Ruled],
        }
    }
}
