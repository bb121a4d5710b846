//! Dividing a job's money: who gets what, and what the buyer's budget makes of it.

use rust_decimal::{Decimal, RoundingStrategy};

use super::{Job, JobEvent, JobStatus, decide::Draft};
use crate::{
    error::Rejection,
    hold::{Division, Holding, Means, Paid, Parties},
    ledger::{Account, RevenueKind, TransferKind},
    money::{Money, MoneyError, Rate, Rounding},
    policy::Bearer,
    rail::{Custody, HoldTerms},
    spending::Allowance,
};

/// How a job's money is divided. Each of them divides all of it.
impl Division {
    /// The work was done: the worker gets the net amount, the platform its fee.
    pub(super) fn completed(job: &Job) -> Result<Self, Rejection> {
        let none = Money::zero(job.terms.amount.currency());
        Ok(Self {
            worker: job.terms.net()?,
            platform: job.terms.fee,
            buyer: none,
            worker_kind: TransferKind::Earned,
            platform_kind: TransferKind::Fee,
        })
    }

    /// The buyer gets back all but what cancelling costs.
    pub(super) fn cancelled(job: &Job, to_worker: Money, to_platform: Money) -> Result<Self, Rejection> {
        let buyer = job.terms.total()?.minus(to_worker)?.minus(to_platform)?;
        Ok(Self { worker: to_worker, platform: to_platform, ..Self::rest(buyer) })
    }

    /// The buyer gets everything back.
    pub(super) fn refunded(job: &Job) -> Result<Self, Rejection> {
        Ok(Self::rest(job.terms.total()?))
    }

    /// The worker gets a share of what the whole work would have brought, the platform the same share
    /// of its fee, the buyer all the rest (VP-30, JP-13). The fee is rounded down, so that it is never a
    /// larger part of what is earned than the payer has signed for.
    pub(super) fn split(job: &Job, to_worker: Rate, rounding: Rounding) -> Result<Self, Rejection> {
        let (amount, fee) = (job.terms.amount, job.terms.fee);
        let gross = amount.at(to_worker, rounding)?;
        let fee = i128::from(gross.minor()) * i128::from(fee.minor()) / i128::from(amount.minor()).max(1);
        let platform = Money::new(i64::try_from(fee).map_err(|_| MoneyError::Overflow)?, amount.currency());
        let worker = match job.terms.bearer {
            Bearer::Buyer => gross,
            Bearer::Worker => gross.minus(platform)?,
        };
        let buyer = job.terms.total()?.minus(worker)?.minus(platform)?;
        Ok(Self { worker, platform, buyer, ..Self::completed(job)? })
    }
}

impl Draft<'_> {
    /// The job's money, to be moved.
    pub(super) fn holding(&mut self) -> Result<Holding<'_, JobEvent>, Rejection> {
        let job = &mut self.job;
        let revenue = match job.status {
            JobStatus::Completed => RevenueKind::Fees,
            _ => RevenueKind::Cancellations,
        };
        let by_terms = match job.status {
            JobStatus::Completed => Some(Paid::shares(job.terms.net()?, job.terms.fee)),
            _ => None,
        };
        Ok(Holding {
            contract: job.id.0,
            command: self.command,
            // Who cancels before there is a worker gets it all.
            parties: Parties { buyer: job.buyer, worker: job.worker.unwrap_or(job.buyer) },
            total: job.terms.total()?,
            revenue: Account::Revenue(revenue),
            by_terms,
            hold: &mut job.hold,
            returns: &mut job.returns,
            means: Means { owed: self.ctx.purse.owed, spendable: self.ctx.purse.spendable },
            policy: self.ctx.policy,
            rail: self.ctx.rail,
            now: self.ctx.now,
            movement: &mut self.movement,
            instructions: &mut self.instructions,
            events: &mut self.events,
        })
    }

    /// Reserves the job's money: from the buyer's wallet at once, or by asking the rail.
    /// Returns whether it is reserved already.
    pub(super) fn fund(&mut self) -> Result<bool, Rejection> {
        let total = self.job.terms.total()?;
        self.charge_budget(total)?;
        if !self.ctx.rail.custody.is_per_hold() {
            self.holding()?.reserve()?;
            return Ok(true);
        }
        let terms = self.hold_terms(total)?;
        self.holding()?.ask_to_fund(terms);
        Ok(false)
    }

    /// What the payer signs for besides the amount.
    fn hold_terms(&self, total: Money) -> Result<HoldTerms, Rejection> {
        if self.ctx.rail.custody == Custody::NonCustodial && self.job.worker.is_none() {
            return Err(Rejection::WorkerMissing);
        }
        let (jobs, amount) = (&self.ctx.policy.jobs, self.job.terms.amount);
        let mut fee_ceiling = share_of(self.job.terms.fee, total)?;
        for terms in jobs.cancellation.values() {
            let (to_worker, to_platform) = terms.shares(amount, self.ctx.policy.fees.rounding)?;
            fee_ceiling = fee_ceiling.max(share_of(to_platform, to_worker.plus(to_platform)?)?);
        }
        Ok(HoldTerms { payee: self.job.worker, fee_ceiling, ..HoldTerms::default() })
    }

    /// Empties the hold.
    pub(super) fn settle(&mut self, division: Division) -> Result<(), Rejection> {
        self.holding()?.settle(division)?;
        self.give_back_to_budget(division.buyer)?;
        self.note_division(division)
    }

    /// Notes who got what of a hold that the ledger has divided, if that is not what the terms say.
    fn note_division(&mut self, Division { worker, platform, .. }: Division) -> Result<(), Rejection> {
        let in_ledger = !self.ctx.rail.custody.is_per_hold();
        let by_terms = worker == self.job.terms.net()? && platform == self.job.terms.fee;
        if in_ledger && self.ctx.policy.reversals.is_some() && !by_terms {
            self.job.returns.paid = Some(Paid::shares(worker, platform));
        }
        Ok(())
    }

    /// What is reserved counts as spent from now on (VP-08). How much the buyer has left is its own alone.
    fn charge_budget(&mut self, total: Money) -> Result<(), Rejection> {
        let Some(allowance) = self.ctx.purse.allowance else { return Ok(()) };
        let charged = allowance.spend(total, self.ctx.now).map_err(|rejection| match rejection {
            Rejection::SpendingLimit { needed, .. } if self.ctx.actor.agent() != Some(self.job.buyer) => {
                Rejection::BuyerCannotPay { needed }
            }
            rejection => rejection,
        })?;
        if let Some((budget, period)) = charged {
            self.budget = Some(budget);
            self.job.hold.charged = Some(period);
        }
        Ok(())
    }

    /// What comes back to the buyer was not spent.
    pub(super) fn give_back_to_budget(&mut self, amount: Money) -> Result<(), Rejection> {
        let Some(allowance) = self.ctx.purse.allowance else { return Ok(()) };
        let before = self.budget.take();
        let budget = before.clone().unwrap_or_else(|| allowance.budget.clone());
        let allowance = Allowance { budget, policy: allowance.policy };
        let after = match self.job.hold.charged {
            Some(charged) => allowance.give_back(amount, charged)?,
            None if self.was_counted => allowance.give_back_counted(amount, self.job.posted_at)?,
            None => None,
        };
        self.budget = after.or(before);
        Ok(())
    }
}

/// `part` of `whole` as a rate, rounded up to a hundredth of a percent: what contracts count fees in.
fn share_of(part: Money, whole: Money) -> Result<Rate, Rejection> {
    let (part, whole) = (Decimal::from(part.minor()), Decimal::from(whole.minor()));
    let share = part.checked_div(whole).unwrap_or(Decimal::ZERO);
    Ok(Rate::new(share.round_dp_with_strategy(4, RoundingStrategy::ToPositiveInfinity).min(Decimal::ONE))?)
}
