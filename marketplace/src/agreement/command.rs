//! What can be asked of an agreement.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    AgreementStatus,
    chain::{Call, Hash},
    receipt::{ReceiptSigner, SignedReceipt},
};
use crate::{
    hold::Recall,
    ids::{AgentId, AgreementId, RailId},
    money::Money,
    policy::Span,
    rail::{Chargeback, EscrowNews, Instruction, Leg, Outcome},
};

/// An agreement to be proposed (PG-02).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Who is to deliver.
    pub seller: AgentId,
    /// The service it is about, in the host's words.
    #[serde(default)]
    pub service: Option<String>,
    /// How many units at most.
    pub quantity: i64,
    /// What a unit is: `api_calls`.
    pub unit: String,
    /// What a unit costs.
    pub unit_price: Money,
    /// The rail its money moves on; `None` for the marketplace's first.
    #[serde(default)]
    pub rail: Option<RailId>,
    /// How long the seller may take to answer; `None` for the policy's default.
    #[serde(default)]
    pub answer_within: Option<Span>,
    /// How long units may be used, counted from now; `None` for the policy's default.
    #[serde(default)]
    pub term: Option<Span>,
    /// How long a close can be challenged; `None` for the policy's default.
    #[serde(default)]
    pub challenge_window: Option<Span>,
    /// Who signs receipts; `None` when what is recorded is to count.
    #[serde(default)]
    pub receipt_signer: Option<ReceiptSigner>,
    /// The buyer's own account on the rail, in the rail's notation; `None` for the one that the rail knows.
    #[serde(default)]
    pub account: Option<String>,
    /// The settlement terms and all else that the parties want to have agreed: an object whose form is
    /// their business.
    #[serde(default)]
    pub document: Map<String, Value>,
}

/// What a seller would agree to instead (PG-03).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suggestion {
    /// How many units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
    /// What a unit should cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Money>,
    /// How long units may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Span>,
    /// What else, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A command to an agreement. Serialized, it is what an idempotency key is compared by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum AgreementCommand {
    /// The buyer proposes it (PG-02).
    Propose {
        /// The id it will have. Chosen by the shell, not part of what a key is compared by.
        #[serde(skip, default = "nil")]
        id: AgreementId,
        /// What is proposed.
        proposal: Box<Proposal>,
    },
    /// The seller agrees (PG-03).
    Accept {
        /// The seller's own account on the rail, in the rail's notation; `None` for the one that the rail knows.
        account: Option<String>,
    },
    /// The seller does not agree (PG-03).
    Reject {
        /// Why.
        reason: String,
        /// What would do instead.
        suggestion: Option<Box<Suggestion>>,
    },
    /// The buyer takes it back before it is accepted (PG-03).
    Cancel {
        /// Why.
        reason: String,
    },
    /// The buyer has the money reserved, or tries again after a decline (PG-04, PG-05).
    Activate,
    /// The seller or the platform's meter records calls, in order (PG-07, PG-19).
    RecordUsage {
        /// Which.
        calls: Vec<Call>,
        /// The last call recorded before: whoever did not see it is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Hash>,
    },
    /// Anybody among the parties and the operators hands in a receipt (PG-19).
    SubmitReceipt {
        /// Which.
        receipt: Box<SignedReceipt>,
    },
    /// The buyer lets the seller have what was used, at once (PG-07).
    Complete,
    /// Either party starts the challenge window (PG-09).
    Close,
    /// Either party has what time has made final carried out, without waiting for the platform (PG-09).
    Finalize,
    /// Either party says that what is recorded or received is not what was used.
    Dispute {
        /// Why.
        reason: String,
    },
    /// An operator decides a dispute.
    Rule {
        /// What the seller has earned, before the fee.
        earned: Money,
        /// Why.
        reason: String,
    },
    /// A timer came due.
    Tick,
    /// The rail has an outcome for one of the agreement's instructions.
    RecordOutcome {
        /// Which instruction.
        instruction: Box<Instruction>,
        /// What became of it.
        outcome: Box<Outcome>,
    },
    /// The rail gave the hold up by itself.
    RecordHoldExpired,
    /// The parties divided the hold outside, by themselves.
    RecordHoldSettled {
        /// What the outside world calls it.
        reference: String,
        /// Who got what.
        legs: Vec<Leg>,
    },
    /// Something was done about the hold in the contract between the parties.
    RecordEscrow {
        /// What.
        news: Box<EscrowNews>,
    },
    /// The payer's bank took the deposit back, or has decided about that.
    RecordChargeback {
        /// What it says.
        chargeback: Box<Chargeback>,
    },
}

fn nil() -> AgreementId {
    AgreementId(uuid::Uuid::nil())
}

impl AgreementCommand {
    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Propose { .. } => "propose",
            Self::Accept { .. } => "accept",
            Self::Reject { .. } => "reject",
            Self::Cancel { .. } => "cancel",
            Self::Activate => "activate",
            Self::RecordUsage { .. } => "record_usage",
            Self::SubmitReceipt { .. } => "submit_receipt",
            Self::Complete => "complete",
            Self::Close => "close",
            Self::Finalize => "finalize",
            Self::Dispute { .. } => "dispute",
            Self::Rule { .. } => "rule",
            Self::Tick => "tick",
            Self::RecordOutcome { .. } => "record_outcome",
            Self::RecordHoldExpired => "record_hold_expired",
            Self::RecordHoldSettled { .. } => "record_hold_settled",
            Self::RecordEscrow { .. } => "record_escrow",
            Self::RecordChargeback { .. } => "record_chargeback",
        }
    }

    /// The statuses in which the command can be legal at all.
    pub const fn legal_in(&self) -> &'static [AgreementStatus] {
        use AgreementStatus::{Accepted, Active, Disputed, Proposed};
        match self {
            Self::Propose { .. } => &[],
            Self::Accept { .. } | Self::Reject { .. } | Self::Cancel { .. } => &[Proposed],
            Self::Activate => &[Accepted],
            Self::RecordUsage { .. } | Self::Close | Self::Dispute { .. } => &[Active],
            Self::SubmitReceipt { .. } | Self::Complete | Self::Finalize => &[Active, Disputed],
            Self::Rule { .. } => &[Disputed],
            Self::Tick
            | Self::RecordOutcome { .. }
            | Self::RecordHoldExpired
            | Self::RecordHoldSettled { .. }
            | Self::RecordEscrow { .. }
            | Self::RecordChargeback { .. } => &AgreementStatus::ALL,
        }
    }

    /// Whether it may take money back that was paid out.
    pub(crate) const fn recall(&self) -> Recall {
        match self {
            Self::RecordChargeback { .. } => Recall::Always,
            Self::RecordOutcome { .. } => Recall::IfContested,
            _ => Recall::Never,
        }
    }

    /// Whether a timer or the rail gives it, whom no freeze stops.
    pub(super) const fn is_a_report(&self) -> bool {
        matches!(
            self,
            Self::Tick
                | Self::RecordOutcome { .. }
                | Self::RecordHoldExpired
                | Self::RecordHoldSettled { .. }
                | Self::RecordEscrow { .. }
                | Self::RecordChargeback { .. }
        )
    }
}
