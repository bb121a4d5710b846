//! The auditor's own arithmetic and its own table of a job's life. Nothing here is the engine's: a
//! mistake there must not repeat itself here.

use crate::{
    actor::Actor,
    hold::HoldEvent,
    job::{CancelCause, Job, JobEvent, JobStatus},
    money::{Rate, Rounding},
    policy::{Bearer, FeeRate, Policy},
};

/// `rate` of `amount`, in whole units.
pub(super) fn share(amount: i128, rate: Rate, rounding: Rounding) -> i128 {
    let (parts, whole) = (rate.share().mantissa(), 10i128.pow(rate.share().scale()));
    let (units, left) = (amount * parts / whole, amount * parts % whole);
    let up = match rounding {
        Rounding::Down => false,
        Rounding::Up => left > 0,
        Rounding::HalfUp => 2 * left >= whole,
        Rounding::HalfEven => 2 * left > whole || (2 * left == whole && units % 2 == 1),
    };
    units + i128::from(up)
}

/// What a job's money has to be by its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) amount: i128,
    pub(super) fee: i128,
    pub(super) total: i128,
    pub(super) net: i128,
}

impl Due {
    /// `tier` is the worker's, if there is a worker.
    pub(super) fn of(job: &Job, policy: &Policy, tier: Option<&str>) -> Self {
        let amount = i128::from(job.terms.amount.minor());
        let rate = match (&policy.fees.rate, tier) {
            (FeeRate::Flat(rate), _) => *rate,
            (FeeRate::ByTier(rates), Some(tier)) => rates.get(tier).copied().unwrap_or(Rate::ZERO),
            (FeeRate::ByTier(_), None) => Rate::ZERO,
        };
        Self::at(amount, policy.fees.bearer, share(amount, rate, policy.fees.rounding))
    }

    pub(super) fn at(amount: i128, bearer: Bearer, fee: i128) -> Self {
        match bearer {
            Bearer::Buyer => Self { amount, fee, total: amount + fee, net: amount },
            Bearer::Worker => Self { amount, fee, total: amount, net: amount - fee },
        }
    }
}

/// Who gets what of a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) worker: i128,
    pub(super) platform: i128,
    pub(super) buyer: i128,
}

impl Shares {
    pub(super) fn refund(due: Due) -> Self {
        Self { buyer: due.total, ..Self::default() }
    }

    /// What the event that ended a job has to divide, for a job whose money was reserved.
    pub(super) fn due(event: &JobEvent, was: JobStatus, due: Due, policy: &Policy) -> Option<Self> {
        match event {
            JobEvent::Completed { .. } => Some(Self { worker: due.net, platform: due.fee, buyer: 0 }),
            JobEvent::Cancelled { cause: CancelCause::Buyer, .. } => {
                let terms = policy.jobs.cancellation.get(&was)?;
                let worker = share(due.amount, terms.to_worker, policy.fees.rounding);
                let platform = share(due.amount, terms.to_platform, policy.fees.rounding).min(due.amount - worker);
                Some(Self { worker, platform, buyer: due.total - worker - platform })
            }
            JobEvent::Cancelled { .. } | JobEvent::Refunded { .. } | JobEvent::PaymentReturned { .. } => {
                Some(Self::refund(due))
            }
            _ => None,
        }
    }

    pub(super) const fn sum(self) -> i128 {
        self.worker + self.platform + self.buyer
    }
}

/// Where a job may go from where it is, in one commit.
pub(super) fn may_become(from: Option<JobStatus>, to: JobStatus) -> bool {
    use JobStatus::{
        Accepted, Cancelled, Completed, Delivered, Disputed, Frozen, Funded, InProgress, PendingPayment, Refunded,
        RevisionRequested, Validating,
    };
    let Some(from) = from else { return matches!(to, PendingPayment | Funded | Accepted) };
    if from == to {
        return true;
    }
    match from {
        PendingPayment => matches!(to, Funded | Accepted | Cancelled | Frozen),
        Funded => matches!(to, Accepted | Cancelled | Frozen),
        Accepted => matches!(to, InProgress | Validating | Delivered | Completed | Cancelled | Refunded | Frozen),
        InProgress => matches!(to, Validating | Delivered | Completed | Cancelled | Refunded | Frozen),
        RevisionRequested => matches!(to, Validating | Delivered | Cancelled | Refunded | Frozen),
        Validating => matches!(to, Delivered | Completed | Cancelled | Refunded | Frozen),
        Delivered => matches!(to, RevisionRequested | Completed | Cancelled | Refunded | Frozen | Disputed),
        Frozen => !matches!(to, Refunded),
        Disputed => matches!(to, Completed | Cancelled | Refunded | Frozen),
        Completed | Cancelled | Refunded => false,
    }
}

/// Whether this actor may cause this event of this job, which is as it was afterwards.
pub(super) fn may_cause(actor: &Actor, event: &JobEvent, job: &Job) -> bool {
    let buyer = actor.agent() == Some(job.buyer);
    let worker = actor.agent().is_some() && actor.agent() == job.worker;
    let operator = matches!(actor, Actor::Operator(_));
    let timer = *actor == Actor::Timer;
    let rail = *actor == Actor::Rail(job.rail);
    match event {
        JobEvent::Created { .. } | JobEvent::RevisionRequested { .. } => buyer,
        JobEvent::Awarded { .. } => buyer || worker,
        JobEvent::Funded { .. } => buyer || worker || rail,
        JobEvent::Accepted { .. } => buyer || worker || rail,
        JobEvent::Started {} | JobEvent::Delivered { .. } => worker,
        JobEvent::ValidationPassed { .. }
        | JobEvent::ValidationFailed { .. }
        | JobEvent::ValidationUnavailable { .. } => operator || timer,
        JobEvent::Hold(HoldEvent::RefundedAfterPayout { .. }) => operator,
        JobEvent::Frozen { .. } | JobEvent::Unfrozen {} => operator || rail,
        JobEvent::Disputed { .. } => buyer || worker,
        JobEvent::DisputeEnded { .. } => buyer || worker || operator || timer,
        JobEvent::Completed { auto_released: true, .. } => timer,
        JobEvent::Hold(HoldEvent::DebtRepaid { .. }) => buyer || worker || operator || timer || rail,
        JobEvent::Completed { .. } => buyer || worker || operator || (timer && job.dispute.is_some()),
        JobEvent::Cancelled { cause, .. } => match cause {
            CancelCause::Buyer => buyer,
            CancelCause::Worker => worker,
            CancelCause::Unpaid | CancelCause::NoAward | CancelCause::Stale | CancelCause::DeadlineExpired => timer,
            CancelCause::HoldExpired => timer || rail,
            CancelCause::Chargeback => rail,
        },
        JobEvent::Refunded { .. } if job.dispute.is_some() => buyer || worker || operator || timer,
        JobEvent::Refunded { .. } => worker || operator,
        JobEvent::Reopened { .. }
        | JobEvent::PaymentFailed { .. }
        | JobEvent::ActionRequired { .. }
        | JobEvent::PaymentReceived { .. }
        | JobEvent::PaymentRetrying { .. }
        | JobEvent::PaymentExpired {}
        | JobEvent::PaymentLost { .. }
        | JobEvent::SettledOutside { .. }
        | JobEvent::PaymentReturned { .. }
        | JobEvent::Hold(
            HoldEvent::ChargebackOpened { .. }
            | HoldEvent::ChargebackWon { .. }
            | HoldEvent::ChargebackLost { .. }
            | HoldEvent::Reversed { .. }
            | HoldEvent::Kept { .. },
        ) => rail,
        JobEvent::Hold(HoldEvent::Owed { .. }) => rail || operator,
    }
}
