//! What happened to a job, in the words of the log (VP-38).

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    dispute::DisputeEnding,
    hold::HoldEvent,
    ids::{AgentId, BidId, DisputeId, InstructionId},
    money::{Money, Rate},
    rail::{Action, Decline, Leg},
    trust::Side,
    validation::Consensus,
};

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum JobEvent {
    /// It was posted.
    #[serde(rename = "job.created")]
    Created {
        /// Who pays.
        buyer: AgentId,
        /// Who is to do it, if that is known.
        worker: Option<AgentId>,
        /// What it is.
        title: String,
        /// What the work costs.
        amount: Money,
        /// What the buyer pays in all.
        total: Money,
    },
    /// An offer was accepted: its worker is the job's once its money is reserved (VP-25).
    #[serde(rename = "job.awarded")]
    Awarded {
        /// Which.
        bid: BidId,
        /// Whose.
        worker: AgentId,
        /// The price that both agreed on.
        price: Money,
    },
    /// The accepted offer could not be paid: the job looks for a worker again.
    #[serde(rename = "job.reopened")]
    Reopened {
        /// The offer that had been accepted. It still stands.
        bid: BidId,
    },
    /// Its money is reserved.
    #[serde(rename = "job.funded")]
    Funded {
        /// How much.
        amount: Money,
    },
    /// A worker took it on.
    #[serde(rename = "job.accepted")]
    Accepted {
        /// Who.
        worker: AgentId,
        /// When the work is due.
        deadline: Option<Timestamp>,
        /// The platform's fee, now known.
        fee: Money,
    },
    /// The worker began.
    #[serde(rename = "job.started")]
    Started {},
    /// The work was handed in.
    #[serde(rename = "job.delivered")]
    Delivered {
        /// 1 for the first delivery.
        revision_number: u32,
        /// When the buyer's silence accepts it.
        release_at: Option<Timestamp>,
    },
    /// Validators found that the delivery is what was asked for (VP-18).
    #[serde(rename = "job.validation_passed")]
    ValidationPassed {
        /// How sure the least sure of them is.
        confidence: Option<Rate>,
        /// Why, a line each.
        reasoning: String,
        /// How many said what.
        consensus: Consensus,
        /// Whether that approved the delivery, too.
        auto_approved: bool,
    },
    /// Validators found that it is not (VP-18).
    #[serde(rename = "job.validation_failed")]
    ValidationFailed {
        /// How sure the least sure of them is that it is.
        confidence: Option<Rate>,
        /// Why, a line each.
        reasoning: String,
        /// How many said what.
        consensus: Consensus,
    },
    /// Nobody could tell (VP-18).
    #[serde(rename = "job.validation_unavailable")]
    ValidationUnavailable {
        /// Why, a line each.
        reason: String,
        /// How many said what.
        consensus: Consensus,
    },
    /// The buyer asked for changes.
    #[serde(rename = "job.revision_requested")]
    RevisionRequested {
        /// Which.
        feedback: String,
        /// When they are due.
        deadline: Option<Timestamp>,
    },
    /// It is done; the money goes to the worker.
    #[serde(rename = "job.completed")]
    Completed {
        /// What the worker gets.
        net: Money,
        /// What the platform takes.
        fee: Money,
        /// Whether the worker has it.
        payout_status: PayoutStatus,
        /// Whether nobody approved it and time did.
        auto_released: bool,
    },
    /// It was called off.
    #[serde(rename = "job.cancelled")]
    Cancelled {
        /// By what.
        cause: CancelCause,
        /// In a person's words, if a person did it.
        reason: String,
        /// What goes back to the buyer.
        refunded: Money,
        /// What the platform takes.
        cancellation_fee: Money,
        /// What the worker gets.
        compensation: Money,
    },
    /// The buyer got everything back without a dispute.
    #[serde(rename = "job.refunded")]
    Refunded {
        /// Why.
        reason: String,
        /// How much.
        amount: Money,
    },
    /// A party disputes it; its timers stand still.
    #[serde(rename = "job.disputed")]
    Disputed {
        /// The dispute.
        dispute: DisputeId,
        /// Who opened it.
        by: Side,
    },
    /// Its dispute is over: the job ended by it, or goes on where it stood.
    #[serde(rename = "job.dispute_ended")]
    DisputeEnded {
        /// The dispute.
        dispute: DisputeId,
        /// How it ended.
        ending: DisputeEnding,
    },
    /// An operator stopped it.
    #[serde(rename = "job.frozen")]
    Frozen {
        /// Why.
        reason: String,
    },
    /// An operator let it go on.
    #[serde(rename = "job.unfrozen")]
    Unfrozen {},
    /// The payer's money could not be taken.
    #[serde(rename = "payment.failed")]
    PaymentFailed {
        /// The instruction that failed.
        instruction: InstructionId,
        /// Why.
        decline: Decline,
    },
    /// A party has to act before money can move.
    #[serde(rename = "payment.action_required")]
    ActionRequired {
        /// The instruction that waits.
        instruction: InstructionId,
        /// Who has to do what. The payload is left out: it is the party's alone.
        action: Action,
    },
    /// Money arrived where the settlement sent it.
    #[serde(rename = "payment.received")]
    PaymentReceived {
        /// The receipt's reference.
        reference: String,
        /// Who got what.
        legs: Vec<Leg>,
    },
    /// The rail would not divide the hold; it is asked again.
    #[serde(rename = "payment.retrying")]
    PaymentRetrying {
        /// The instruction that failed.
        instruction: InstructionId,
        /// Why.
        decline: Decline,
        /// When it is asked again.
        next_at: Timestamp,
        /// What that means for the worker (VP-43).
        payout_status: PayoutStatus,
    },
    /// The rail gave the hold up before it was known to be funded: when that becomes known, the money is
    /// gone again.
    #[serde(rename = "payment.expired")]
    PaymentExpired {},
    /// The rail gave the hold up before it had divided it, or before anybody knew that it was funded: the
    /// payer has everything back, and whoever was to get a share has nothing.
    #[serde(rename = "payment.lost")]
    PaymentLost {
        /// How much.
        amount: Money,
    },
    /// The parties divided the hold outside, by themselves; what they did stands.
    #[serde(rename = "payment.settled_outside")]
    SettledOutside {
        /// What the outside world calls it.
        reference: String,
        /// Who got what.
        legs: Vec<Leg>,
    },
    /// Money that came too late for its job goes back.
    #[serde(rename = "payment.returned")]
    PaymentReturned {
        /// How much.
        amount: Money,
    },
    /// Something that happens to the money of any contract.
    #[serde(untagged)]
    Hold(HoldEvent),
}

/// By what a job was called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelCause {
    /// The buyer cancelled.
    Buyer,
    /// The worker gave it back.
    Worker,
    /// Nobody paid in time.
    Unpaid,
    /// No offer was accepted in time.
    NoAward,
    /// Nothing was delivered since accepting (`job.stale_cancelled`).
    Stale,
    /// The deadline passed (`job.deadline_expired`).
    DeadlineExpired,
    /// The rail could hold the money no longer (`job.expired`).
    HoldExpired,
    /// The payer's bank took the money back.
    Chargeback,
}

/// Whether a worker has the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutStatus {
    /// In the wallet.
    Paid,
    /// On its way.
    Pending,
    /// The transfer failed and is tried again (VP-43).
    PendingRetry,
}

impl From<HoldEvent> for JobEvent {
    fn from(event: HoldEvent) -> Self {
        Self::Hold(event)
    }
}

impl JobEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "job.created",
            Self::Awarded { .. } => "job.awarded",
            Self::Reopened { .. } => "job.reopened",
            Self::Funded { .. } => "job.funded",
            Self::Accepted { .. } => "job.accepted",
            Self::Started {} => "job.started",
            Self::Delivered { .. } => "job.delivered",
            Self::ValidationPassed { .. } => "job.validation_passed",
            Self::ValidationFailed { .. } => "job.validation_failed",
            Self::ValidationUnavailable { .. } => "job.validation_unavailable",
            Self::RevisionRequested { .. } => "job.revision_requested",
            Self::Completed { .. } => "job.completed",
            Self::Cancelled { cause, .. } => cause.event_name(),
            Self::Refunded { .. } => "job.refunded",
            Self::Disputed { .. } => "job.disputed",
            Self::DisputeEnded { .. } => "job.dispute_ended",
            Self::Frozen { .. } => "job.frozen",
            Self::Unfrozen {} => "job.unfrozen",
            Self::PaymentFailed { .. } => "payment.failed",
            Self::ActionRequired { .. } => "payment.action_required",
            Self::PaymentReceived { .. } => "payment.received",
            Self::PaymentRetrying { .. } => "payment.retrying",
            Self::PaymentExpired {} => "payment.expired",
            Self::PaymentLost { .. } => "payment.lost",
            Self::SettledOutside { .. } => "payment.settled_outside",
            Self::PaymentReturned { .. } => "payment.returned",
            Self::Hold(event) => event.name(),
        }
    }
}

impl CancelCause {
    /// The event that tells of it (VP-38, VP-39).
    pub const fn event_name(self) -> &'static str {
        match self {
            Self::Buyer | Self::Worker | Self::Unpaid | Self::NoAward | Self::Chargeback => "job.cancelled",
            Self::Stale => "job.stale_cancelled",
            Self::DeadlineExpired => "job.deadline_expired",
            Self::HoldExpired => "job.expired",
        }
    }
}
