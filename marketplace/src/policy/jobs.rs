//! The part of a policy that jobs and their fees follow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Range, Span};
use crate::{
    job::JobStatus,
    money::{Rate, Rounding},
};

/// How jobs are posted, worked on, reviewed and cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobPolicy {
    /// A title's length in characters (VP-12, JP-11).
    pub title: Range<u32>,
    /// The size of the task's description as JSON text, in bytes.
    pub task_bytes: u32,
    /// A job's amount, in minor units (VP-12: at least 500 cents).
    pub amount: Range<i64>,
    /// When the money is reserved (AM-06: at acceptance).
    pub escrow: EscrowAt,
    /// How long the payer may take to fund.
    pub fund_within: Span,
    /// Who brings a funded job to `accepted` (VP-16: its worker; JP-10: nobody has to).
    pub acceptance: Acceptance,
    /// When the work is due.
    pub deadline: DeadlinePolicy,
    /// An accepted job on which nothing is delivered for this long is cancelled (VP-39).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Span>,
    /// Who looks at a delivery before the money moves (VP-20, JP-12, AM-07).
    pub review: Review,
    /// How often and how a buyer may ask for changes (VP-22).
    pub revisions: RevisionPolicy,
    /// Who owes what when a job is cancelled, by its status; where a status is missing, a buyer
    /// cannot cancel (VP-23, JP-12).
    pub cancellation: BTreeMap<JobStatus, CancellationTerms>,
    /// The statuses in which the worker may give the job back; the buyer then gets everything back.
    pub worker_may_withdraw: Vec<JobStatus>,
    /// What happens when the rail can hold the money no longer.
    pub hold_expiry: HoldExpiry,
}

/// When a contract's money is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EscrowAt {
    /// When the job is posted (VP-12, JP-10).
    Posting,
    /// When a worker accepts it (AM-06).
    Acceptance,
}

/// Who brings a funded job to `accepted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acceptance {
    /// Its worker does (VP-16).
    Worker,
    /// Funding does: the worker has agreed beforehand (JP-10).
    Automatic,
}

/// When the work is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadlinePolicy {
    /// When the order names none.
    pub default: Span,
    /// What an order may name.
    pub allowed: Range<Span>,
    /// The moment it is counted from.
    pub from: DeadlineFrom,
}

/// The moment a deadline is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineFrom {
    /// The posting (VP-12).
    Posting,
    /// The acceptance (JP-10, JP-11).
    Acceptance,
}

/// Who looks at a delivery before the money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Review {
    /// Nobody: delivering completes the job and pays at once (AM-07).
    Nobody,
    /// The buyer, whose silence accepts (VP-20: 48 h, JP-12: 5 min).
    Buyer {
        /// How long the buyer may stay silent.
        release_after: Span,
    },
}

/// How often and how a buyer may ask for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevisionPolicy {
    /// How often; 0 for never (VP-22: 2).
    pub max: u32,
    /// The feedback's length in characters (VP-22: 10 to 5000).
    pub feedback: Range<u32>,
    /// How long the worker has at least to deliver again.
    pub time: Span,
}

/// What a cancelled job costs its buyer, as shares of the amount; the rest goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancellationTerms {
    /// To the worker, as compensation (VP-23: 25 % once in progress).
    pub to_worker: Rate,
    /// To the platform (VP-23: 5 % once accepted).
    pub to_platform: Rate,
}

/// What happens when the rail can hold the money no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldExpiry {
    /// How long before the rail's own expiry the engine acts.
    pub margin: Span,
    /// Whether a delivered job is then paid (`release`) or refunded with everything else (`refund`).
    pub delivered: OnExpiry,
}

/// What a hold's expiry does to a delivered job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExpiry {
    /// The worker is paid before the money is lost.
    Release,
    /// The buyer gets it back.
    Refund,
}

/// What the platform takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeePolicy {
    /// Who bears it.
    pub bearer: Bearer,
    /// How much.
    pub rate: FeeRate,
    /// How a fee is rounded to a whole minor unit.
    #[serde(default)]
    pub rounding: Rounding,
}

/// Who bears the platform's fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bearer {
    /// The buyer pays it on top of the amount (JP-10).
    Buyer,
    /// It is taken out of the worker's payout (VP-21, AM-07).
    Worker,
}

/// How much the platform takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeeRate {
    /// The same for everybody (AM-07: 10 %, JP-10: 3 %).
    Flat(Rate),
    /// By the worker's tier; every tier of the policy has an entry (VP-21).
    ByTier(BTreeMap<String, Rate>),
}
