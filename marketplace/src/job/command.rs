//! What can be asked of a job.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{JobStatus, OpenOrder};
use crate::{
    ids::{AgentId, JobId, RailId},
    money::Money,
    policy::Span,
    rail::{Instruction, Leg, Outcome},
};

/// A job to be posted (VP-12, JP-10, AM-04).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobOrder {
    /// What it is, in a line.
    pub title: String,
    /// What is to be done: an object whose form is the parties' business.
    pub task: Map<String, Value>,
    /// What the work costs, without a fee on top.
    pub amount: Money,
    /// Who is to do it; `None` for an open job (VP-13, JP-11, AM-06).
    #[serde(default)]
    pub worker: Option<AgentId>,
    /// The rail its money moves on; `None` for the marketplace's first.
    #[serde(default)]
    pub rail: Option<RailId>,
    /// How long the worker has; `None` for the policy's default.
    #[serde(default)]
    pub deadline: Option<Span>,
    /// What a delivery is checked against automatically.
    #[serde(default)]
    pub validation: Option<Value>,
    /// What an open job says besides; `None` for the policy's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenOrder>,
}

/// Work handed in (VP-17).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The media type of what was made.
    #[serde(default)]
    pub content_type: Option<String>,
    /// What was made, or where it is: an object whose form is the parties' business.
    #[serde(default)]
    pub output: Map<String, Value>,
}

/// What automatic validation found (VP-18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is what was asked for.
    Passed,
    /// It is not.
    Failed,
    /// Nobody could tell.
    Unavailable,
}

/// A command to a job. Serialized, it is what an idempotency key is compared by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum JobCommand {
    /// The buyer posts it.
    Post {
        /// The id it will have. Chosen by the shell, not part of what a key is compared by.
        #[serde(skip, default = "nil_job")]
        id: JobId,
        /// What is wanted.
        order: Box<JobOrder>,
    },
    /// The buyer tries to pay again after a decline.
    RetryPayment,
    /// The worker takes it on (VP-16, AM-06).
    Accept,
    /// The worker begins.
    Start,
    /// The worker hands it in (VP-17).
    Deliver {
        /// What.
        delivery: Box<Delivery>,
    },
    /// The platform's validators have an answer (VP-18).
    RecordValidation {
        /// Which.
        verdict: Verdict,
    },
    /// The buyer accepts the delivery (VP-19).
    Approve,
    /// The buyer asks for changes (VP-22).
    RequestRevision {
        /// Which.
        feedback: String,
    },
    /// The buyer calls it off (VP-23, JP-12).
    Cancel {
        /// Why.
        reason: String,
    },
    /// The worker gives it back.
    Withdraw {
        /// Why.
        reason: String,
    },
    /// The worker or an operator gives the buyer everything back, without a dispute.
    Refund {
        /// Why.
        reason: String,
    },
    /// An operator stops it (VP-39).
    Freeze {
        /// Why.
        reason: String,
    },
    /// An operator lets it go on.
    Unfreeze,
    /// A timer came due.
    Tick,
    /// The rail has an outcome for one of the job's instructions.
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
}

fn nil_job() -> JobId {
    JobId(uuid::Uuid::nil())
}

impl JobCommand {
    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Post { .. } => "post",
            Self::RetryPayment => "retry_payment",
            Self::Accept => "accept",
            Self::Start => "start",
            Self::Deliver { .. } => "deliver",
            Self::RecordValidation { .. } => "record_validation",
            Self::Approve => "approve",
            Self::RequestRevision { .. } => "request_revision",
            Self::Cancel { .. } => "cancel",
            Self::Withdraw { .. } => "withdraw",
            Self::Refund { .. } => "refund",
            Self::Freeze { .. } => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::Tick => "tick",
            Self::RecordOutcome { .. } => "record_outcome",
            Self::RecordHoldExpired => "record_hold_expired",
            Self::RecordHoldSettled { .. } => "record_hold_settled",
        }
    }

    /// The statuses in which the command can be legal at all. A policy may allow fewer, never more.
    pub const fn legal_in(&self) -> &'static [JobStatus] {
        use JobStatus::{
            Accepted, Delivered, Disputed, Frozen, Funded, InProgress, PendingPayment, RevisionRequested, Validating,
        };
        match self {
            Self::Post { .. } => &[],
            Self::RetryPayment => &[PendingPayment],
            Self::Accept => &[PendingPayment, Funded],
            Self::Start => &[Accepted],
            Self::Deliver { .. } => &[Accepted, InProgress, RevisionRequested],
            Self::RecordValidation { .. } => &[Validating],
            Self::Approve => &[Validating, Delivered],
            Self::RequestRevision { .. } => &[Delivered],
            Self::Cancel { .. } => &[PendingPayment, Funded, Accepted, InProgress],
            Self::Withdraw { .. } => &[Funded, Accepted, InProgress, RevisionRequested],
            Self::Refund { .. } => &[Accepted, InProgress, Validating, Delivered, RevisionRequested],
            Self::Freeze { .. } => {
                &[PendingPayment, Funded, Accepted, InProgress, Validating, Delivered, RevisionRequested, Disputed]
            }
            Self::Unfreeze => &[Frozen],
            Self::Tick | Self::RecordOutcome { .. } | Self::RecordHoldExpired | Self::RecordHoldSettled { .. } => {
                &JobStatus::ALL
            }
        }
    }
}
