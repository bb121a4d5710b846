//! The part of a policy that jobs, their fees and their validation follow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Range, Span, TrustPolicy,
    check::{At, Checked},
    disputes::one_of,
    keyed,
};
use crate::{
    error::Rejection,
    job::{JobCommand, JobStatus},
    money::{Money, MoneyError, Rate, Rounding},
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
    #[serde(deserialize_with = "keyed::map")]
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
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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

impl CancellationTerms {
    /// What the worker and the platform get of an amount.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`]
    pub fn shares(&self, amount: Money, rounding: Rounding) -> Result<(Money, Money), MoneyError> {
        let to_worker = amount.at(self.to_worker, rounding)?;
        // Both shares may be rounded up: the worker's is whole, the platform's is what is left at most.
        let left = amount.minus(to_worker)?.minor();
        let to_platform = amount.at(self.to_platform, rounding)?;
        Ok((to_worker, Money::new(to_platform.minor().min(left), to_platform.currency())))
    }
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
    /// How a fee is rounded to a whole minor unit; of usage agreements always down.
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
    ByTier(#[serde(deserialize_with = "keyed::map")] BTreeMap<String, Rate>),
}

/// How deliveries are validated (VP-17, VP-18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationPolicy {
    /// How many independent validators are asked (VP-18: 2).
    pub validators: u32,
    /// The confidence from which one of them passes a delivery (VP-18: 80 %).
    pub threshold: Rate,
    /// How many of them must agree.
    pub consensus: Consensus,
    /// A validator that has not answered by then is unavailable.
    pub within: Span,
    /// What a pass does.
    pub on_pass: OnPass,
}

/// How many validators must pass a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consensus {
    /// Every one.
    All,
    /// More than half of them.
    Majority,
    /// One.
    Any,
}

/// What passing validation does to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnPass {
    /// The buyer still decides.
    AwaitBuyer,
    /// The job completes.
    Approve,
}

/// The longest a margin before a rail's own expiry may be; card authorisations live for days.
const MARGIN_LIMIT: Span = Span::hours(72);

impl JobPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("title").range(self.title, 1, 10_000)?;
        at.field("task_bytes").size(self.task_bytes)?;
        at.field("amount").amounts(self.amount)?;
        at.field("fund_within").span(self.fund_within)?;
        if self.acceptance == Acceptance::Automatic && self.escrow == EscrowAt::Acceptance {
            let allowed = "allowed is worker when escrow is at acceptance: nobody would ever accept";
            return Err(at.field("acceptance").refuse("automatic", allowed));
        }
        if self.acceptance == Acceptance::Worker
            && self.escrow == EscrowAt::Posting
            && self.deadline.from == DeadlineFrom::Acceptance
        {
            // A funded job that nobody accepts would have no clock at all.
            let allowed = "posting, where the money is reserved before a worker accepts";
            return Err(at.field("deadline").field("from").refuse("acceptance", allowed));
        }
        let DeadlinePolicy { default, allowed, .. } = self.deadline;
        at.field("deadline.allowed").range(allowed, Span::SECOND, Span::MAX)?;
        at.field("deadline.default").within(default, allowed.min, allowed.max)?;
        if let Some(stale_after) = self.stale_after {
            at.field("stale_after").span(stale_after)?;
        }
        if let Review::Buyer { release_after } = self.review {
            at.field("review.buyer.release_after").span(release_after)?;
        }
        self.revisions.check(&at.field("revisions"), self.review)?;
        self.check_endings(at)?;
        at.field("hold_expiry.margin").within(self.hold_expiry.margin, Span::SECOND, MARGIN_LIMIT)
    }

    /// How a job ends before it is done.
    fn check_endings(&self, at: &At) -> Checked {
        let legal = JobCommand::Cancel { reason: String::new() }.legal_in();
        for (status, terms) in &self.cancellation {
            let at = at.field("cancellation").field(status);
            if !legal.contains(status) {
                return Err(at.refuse(status, one_of(legal)));
            }
            terms.check(&at, *status)?;
        }
        let legal = JobCommand::Withdraw { reason: String::new() }.legal_in();
        let at = at.field("worker_may_withdraw");
        at.distinct(&self.worker_may_withdraw)?;
        match self.worker_may_withdraw.iter().position(|status| !legal.contains(status)) {
            Some(i) => Err(at.entry(i).refuse(self.worker_may_withdraw[i], one_of(legal))),
            None => Ok(()),
        }
    }
}

impl RevisionPolicy {
    fn check(&self, at: &At, review: Review) -> Checked {
        at.field("max").count_or_none(self.max)?;
        if self.max > 0 && review == Review::Nobody {
            return Err(at.field("max").refuse(self.max, "allowed is 0 when nobody reviews"));
        }
        at.field("feedback").length(self.feedback)?;
        match self.max {
            0 => Ok(()),
            _ => at.field("time").span(self.time),
        }
    }
}

impl CancellationTerms {
    fn check(&self, at: &At, status: JobStatus) -> Checked {
        let (to_worker, to_platform) = (self.to_worker.share(), self.to_platform.share());
        if to_worker + to_platform > Rate::ONE.share() {
            let value = format!("{to_worker} to the worker and {to_platform} to the platform");
            return Err(at.refuse(value, "allowed is a sum of at most 1"));
        }
        let nobody_agreed = matches!(status, JobStatus::PendingPayment | JobStatus::Funded);
        if nobody_agreed && self.to_worker != Rate::ZERO {
            return Err(at.field("to_worker").refuse(to_worker, "allowed is 0: no worker has accepted yet"));
        }
        if status == JobStatus::PendingPayment && self.to_platform != Rate::ZERO {
            return Err(at.field("to_platform").refuse(to_platform, "allowed is 0: nothing has been paid yet"));
        }
        Ok(())
    }
}

impl FeePolicy {
    /// The fee's rate for a worker of this tier.
    pub(crate) fn rate_of(&self, tier: &str) -> Result<Rate, Rejection> {
        match &self.rate {
            FeeRate::Flat(rate) => Ok(*rate),
            FeeRate::ByTier(rates) => rates
                .get(tier)
                .copied()
                .ok_or_else(|| Rejection::UnknownTier { tier: tier.into(), known: rates.keys().cloned().collect() }),
        }
    }

    pub(super) fn check(&self, at: &At, trust: &TrustPolicy) -> Checked {
        let at = at.field("rate");
        let rates = match &self.rate {
            FeeRate::Flat(rate) => return self.check_rate(&at.field("flat"), *rate),
            FeeRate::ByTier(rates) => rates,
        };
        if self.bearer == Bearer::Buyer {
            let allowed = "allowed is flat when the buyer bears the fee: the total must be known at posting";
            return Err(at.refuse("by_tier", allowed));
        }
        let at = at.field("by_tier");
        let names = || trust.tiers.iter().map(|tier| tier.name.as_str());
        let all = names().collect::<Vec<_>>().join(", ");
        for (name, rate) in rates {
            match names().any(|tier| tier == name) {
                true => self.check_rate(&at.field(name), *rate)?,
                false => return Err(at.field(name).refuse(rate.share(), format_args!("allowed are the tiers {all}"))),
            }
        }
        match names().find(|tier| !rates.contains_key(*tier)) {
            Some(tier) => Err(at.field(tier).refuse("nothing", format_args!("allowed is a rate for each tier: {all}"))),
            None => Ok(()),
        }
    }

    fn check_rate(&self, at: &At, rate: Rate) -> Checked {
        match self.bearer == Bearer::Worker && rate == Rate::ONE {
            true => Err(at.refuse(rate.share(), "allowed is less than 1: the worker would get nothing")),
            false => Ok(()),
        }
    }
}

impl ValidationPolicy {
    pub(super) fn check(&self, at: &At, review: Review) -> Checked {
        at.field("validators").within(self.validators, 1, 100)?;
        if self.threshold == Rate::ZERO {
            return Err(at.field("threshold").refuse("0", "allowed is a rate above 0: everything would pass"));
        }
        match review {
            Review::Nobody => {
                Err(at.refuse("present", "allowed is none when nobody reviews: a failed delivery would be paid too"))
            }
            Review::Buyer { release_after } => at.field("within").within(self.within, Span::SECOND, release_after),
        }
    }
}
