//! Jobs: one piece of work, its money and its life.
//!
//! [`decide`] is the only place that changes a job. It is pure: the engine loads the job, asks it,
//! and commits what it decided in one transaction.

mod command;
mod decide;
mod dispute;
mod event;
mod open;
mod permit;
mod post;
mod report;
mod settle;

pub use command::{Delivery, Hire, JobCommand, JobOrder};
pub use decide::{Context, Decision, Purse, decide};
pub use event::{CancelCause, JobEvent, PayoutStatus};
pub use open::{Candidate, Open, OpenOrder, Search, Wanted};
pub(crate) use open::{award, counted, looking};

pub use crate::schema::Schemas;

pub use crate::hold::{Contest, ContestStage, Hold, HoldEvent, HoldState, Paid, Returns, Spendable};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    actor::Actor,
    clock::Timestamp,
    ids::{AgentId, DisputeId, JobId, RailId},
    money::{Money, MoneyError, Rate},
    policy::{Bearer, PolicyVersion},
    store::Kept,
    trust::Side,
};

/// Where a job is in its life (VP-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Posted; its money is not reserved yet.
    PendingPayment,
    /// Its money is reserved; it waits for its worker.
    Funded,
    /// A worker has taken it on.
    Accepted,
    /// The worker has begun.
    InProgress,
    /// Delivered; being checked automatically.
    Validating,
    /// Delivered; waits for the buyer.
    Delivered,
    /// The buyer asked for changes.
    RevisionRequested,
    /// Approved; the money goes to the worker. Final.
    Completed,
    /// A dispute is open.
    Disputed,
    /// Called off. Final.
    Cancelled,
    /// Everything went back to the buyer after work had begun. Final.
    Refunded,
    /// Stopped by an operator or the payer's bank; nothing but unfreezing is possible.
    Frozen,
}

impl JobStatus {
    /// Every status.
    pub const ALL: [Self; 12] = [
        Self::PendingPayment,
        Self::Funded,
        Self::Accepted,
        Self::InProgress,
        Self::Validating,
        Self::Delivered,
        Self::RevisionRequested,
        Self::Completed,
        Self::Disputed,
        Self::Cancelled,
        Self::Refunded,
        Self::Frozen,
    ];

    /// The word used in stores, events and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingPayment => "pending_payment",
            Self::Funded => "funded",
            Self::Accepted => "accepted",
            Self::InProgress => "in_progress",
            Self::Validating => "validating",
            Self::Delivered => "delivered",
            Self::RevisionRequested => "revision_requested",
            Self::Completed => "completed",
            Self::Disputed => "disputed",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
            Self::Frozen => "frozen",
        }
    }

    /// Whether its worker may hand in.
    pub(crate) const fn may_be_delivered(self) -> bool {
        matches!(self, Self::Accepted | Self::InProgress | Self::RevisionRequested)
    }

    /// Whether no command changes it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Refunded)
    }
}

impl std::fmt::Display for JobStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job: everything that decides about it. What is to be done is kept beside it, since no rule reads
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Who pays.
    pub buyer: AgentId,
    /// Who works, once that is known.
    pub worker: Option<AgentId>,
    /// Where it is in its life.
    pub status: JobStatus,
    /// The rail its money moves on.
    pub rail: RailId,
    /// The policy it was made under, for ever.
    pub policy: PolicyVersion,
    /// Its money, as agreed.
    pub terms: Terms,
    /// Its money, as it is.
    pub hold: Hold,
    /// Its money, as it goes back.
    #[serde(default, skip_serializing_if = "Returns::is_empty")]
    pub returns: Returns,
    /// When it was posted.
    pub posted_at: Timestamp,
    /// How long the worker has, in seconds, from the moment the policy counts from.
    pub time_allowed: u32,
    /// The moment something happens by itself, by what happens.
    pub timers: Timers,
    /// How often changes were asked for.
    pub revisions: u32,
    /// Whether a delivery is checked automatically before the buyer sees it.
    pub validated: bool,
    /// Whether its deliveries are held against the order's output schema (JP-06).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub schematic: bool,
    /// Whether the platform runs its worker at once (AM-09).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hired: bool,
    /// How it finds its worker, if it was posted without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Open>,
    /// While frozen: what it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// The dispute that it is in, or that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispute: Option<Disputed>,
}

/// A job's money, as agreed when it was posted (or, for the fee, when its worker became known).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What the work costs.
    pub amount: Money,
    /// Who bears the platform's fee.
    pub bearer: Bearer,
    /// The fee's rate; unknown while it depends on a worker who is not known yet.
    pub rate: Option<Rate>,
    /// The fee; nothing while unknown.
    pub fee: Money,
}

impl Terms {
    /// What the buyer pays in all.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`]
    pub fn total(&self) -> Result<Money, MoneyError> {
        match self.bearer {
            Bearer::Buyer => self.amount.plus(self.fee),
            Bearer::Worker => Ok(self.amount),
        }
    }

    /// What the worker gets when the job completes.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`]
    pub fn net(&self) -> Result<Money, MoneyError> {
        match self.bearer {
            Bearer::Buyer => Ok(self.amount),
            Bearer::Worker => self.amount.minus(self.fee),
        }
    }
}

impl Job {
    /// What of the buyer's money it has reserved or spent. What a job cost that was called off is not
    /// counted.
    pub(crate) fn reserved(&self) -> Result<Money, MoneyError> {
        match (self.hold.state, self.status) {
            (HoldState::Funding(_) | HoldState::Held, _)
            | (HoldState::Settling(_) | HoldState::Settled, JobStatus::Completed) => self.terms.total(),
            _ => Ok(Money::zero(self.terms.amount.currency())),
        }
    }

    /// Whether it has reserved or spent some of the buyer's money that no budget was charged with: it is counted
    /// when the buyer's spending is limited.
    pub(crate) fn is_counted(&self) -> bool {
        self.hold.charged.is_none() && self.reserved().is_ok_and(|reserved| !reserved.is_zero())
    }
}

/// What happens to a job by itself, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// The payer has not funded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fund_by: Option<Timestamp>,
    /// The worker has delivered nothing since accepting (VP-39 `job.stale_cancelled`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_at: Option<Timestamp>,
    /// The work is due (VP-39 `job.deadline_expired`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The buyer's silence accepts (VP-20).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_at: Option<Timestamp>,
    /// The engine gives the money back before the rail does (VP-39 `job.expired`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<Timestamp>,
}

/// What a frozen job was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Its status before.
    pub was: JobStatus,
    /// Since when.
    pub since: Timestamp,
    /// Who stopped it.
    #[serde(default, skip_serializing_if = "Freezer::is_operator")]
    pub by: Freezer,
}

/// Who stops a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freezer {
    /// An operator, until an operator lets it go on.
    #[default]
    Operator,
    /// The payer's bank, until it has decided.
    Chargeback,
}

impl Freezer {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_operator(&self) -> bool {
        *self == Self::Operator
    }
}

/// What a disputed job was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disputed {
    /// The dispute.
    pub id: DisputeId,
    /// Who opened it.
    pub by: Side,
    /// The job's status before.
    pub was: JobStatus,
    /// Since when.
    pub since: Timestamp,
}

impl Job {
    /// The side of the job that somebody is on.
    pub fn side_of(&self, actor: &Actor) -> Option<Side> {
        match actor.agent() {
            Some(agent) if agent == self.buyer => Some(Side::Buyer),
            Some(agent) if Some(agent) == self.worker => Some(Side::Worker),
            _ => None,
        }
    }
}

impl Kept for Job {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        self.status.as_str()
    }

    /// Its buyer and its worker.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.buyer.0), self.worker.map(|worker| worker.0)]
    }

    /// At once while bids have to be told how it ended, otherwise when a timer is due.
    fn due_at(&self) -> Option<Timestamp> {
        self.has_bids_to_close().then_some(self.posted_at).or_else(|| self.next_timer())
    }
}

impl Job {
    /// The next moment at which something happens by itself.
    ///
    /// Deadlines stand still while a job is frozen; a hold's expiry does not, since the rail's own
    /// clock goes on. A disputed job has no timers: its dispute keeps the time, the rail's too.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let t = &self.timers;
        let closes_at = self.open.as_ref().filter(|_| self.is_looking()).and_then(|open| open.closes_at);
        match self.frozen {
            _ if self.dispute.is_some() => None,
            Some(_) => t.hold_until,
            None => {
                [t.fund_by, t.stale_at, t.deadline, t.release_at, t.hold_until, closes_at].into_iter().flatten().min()
            }
        }
    }
}
