//! What can be asked of a job.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{JobStatus, OpenOrder, Schemas};
use crate::{
    dispute::DisputeEnding,
    hold::Recall,
    ids::{AgentId, DisputeId, JobId, RailId},
    money::Money,
    policy::Span,
    rail::{Chargeback, Instruction, Leg, Outcome},
    validation::Report,
};

/// A job to be posted (VP-12, JP-10, AM-04).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// What the task and its deliveries have to be, as JSON Schemas of drafts 6 to 2020-12 without
    /// recursion (JP-06).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Schemas>,
}

impl JobOrder {
    /// An order of which nothing else is said, to be filled in: `JobOrder { worker, ..JobOrder::new(title, amount) }`.
    pub fn new(title: impl Into<String>, amount: Money) -> Self {
        let (task, title) = (Map::new(), title.into());
        let (worker, rail, deadline, validation, open, schemas) = (None, None, None, None, None, None);
        Self { title, task, amount, worker, rail, deadline, validation, open, schemas }
    }
}

/// A named agent to be hired for an immediate result (AM-09).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hire {
    /// Who.
    pub worker: AgentId,
    /// What it is, in a line.
    pub title: String,
    /// What is to be done: an object whose form is the parties' business.
    pub task: Map<String, Value>,
    /// What the work costs, without a fee on top.
    pub amount: Money,
    /// The rail its money moves on; `None` for the marketplace's first.
    #[serde(default)]
    pub rail: Option<RailId>,
    /// What the task and the result have to be (JP-06).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Schemas>,
}

impl Hire {
    /// The order that is kept of it.
    pub(crate) fn order(&self) -> JobOrder {
        JobOrder {
            title: self.title.clone(),
            task: self.task.clone(),
            amount: self.amount,
            worker: Some(self.worker),
            rail: self.rail,
            deadline: None,
            validation: None,
            open: None,
            schemas: self.schemas.clone(),
        }
    }
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
    /// The buyer hires an agent that is run at once (AM-09).
    Hire {
        /// The id the job will have. Chosen by the shell, not part of what a key is compared by.
        #[serde(skip, default = "nil_job")]
        id: JobId,
        /// Who, for what.
        hire: Box<Hire>,
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
        /// What they came to.
        report: Box<Report>,
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
    /// A party disputes it: a part of opening a dispute (VP-30, JP-13).
    Dispute {
        /// The dispute.
        dispute: DisputeId,
    },
    /// Its dispute is over: a part of ending one.
    EndDispute {
        /// How.
        ending: DisputeEnding,
    },
    /// An operator gives the payer back what worker and platform have got already.
    RefundPaid {
        /// How much; everything when absent.
        amount: Option<Money>,
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
    /// The payer's bank took the money back, or has decided who keeps it.
    RecordChargeback {
        /// What the rail says.
        chargeback: Box<Chargeback>,
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
            Self::Hire { .. } => "hire",
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
            Self::Dispute { .. } => "dispute",
            Self::EndDispute { .. } => "end_dispute",
            Self::RefundPaid { .. } => "refund_paid",
            Self::Freeze { .. } => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::Tick => "tick",
            Self::RecordOutcome { .. } => "record_outcome",
            Self::RecordHoldExpired => "record_hold_expired",
            Self::RecordHoldSettled { .. } => "record_hold_settled",
            Self::RecordChargeback { .. } => "record_chargeback",
        }
    }

    /// The statuses in which the command can be legal at all. A policy may allow fewer, never more.
    pub const fn legal_in(&self) -> &'static [JobStatus] {
        use JobStatus::{
            Accepted, Completed, Delivered, Disputed, Frozen, Funded, InProgress, PendingPayment, RevisionRequested,
            Validating,
        };
        match self {
            Self::Post { .. } | Self::Hire { .. } => &[],
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
            Self::Dispute { .. } => &[Accepted, InProgress, Validating, Delivered, RevisionRequested],
            Self::EndDispute { .. } => &[Disputed, Frozen],
            Self::RefundPaid { .. } => &[Completed],
            Self::Freeze { .. } => {
                &[PendingPayment, Funded, Accepted, InProgress, Validating, Delivered, RevisionRequested, Disputed]
            }
            Self::Unfreeze => &[Frozen],
            Self::Tick
            | Self::RecordOutcome { .. }
            | Self::RecordHoldExpired
            | Self::RecordHoldSettled { .. }
            | Self::RecordChargeback { .. } => &JobStatus::ALL,
        }
    }

    /// Whether it may take money back that was paid out.
    pub(crate) const fn recall(&self) -> Recall {
        match self {
            Self::RecordChargeback { .. } | Self::RefundPaid { .. } => Recall::Always,
            Self::RecordOutcome { .. } => Recall::IfContested,
            _ => Recall::Never,
        }
    }

    /// Whether some of what is reserved may come back to the buyer by it.
    pub(crate) const fn may_give_back(&self) -> bool {
        matches!(
            self,
            Self::Cancel { .. }
                | Self::Withdraw { .. }
                | Self::Refund { .. }
                | Self::EndDispute { .. }
                | Self::Tick
                | Self::RecordOutcome { .. }
                | Self::RecordHoldExpired
                | Self::RecordHoldSettled { .. }
                | Self::RecordChargeback { .. }
        )
    }
}
