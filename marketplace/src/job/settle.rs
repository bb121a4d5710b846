//! Dividing a job's money, and moving it.

use rust_decimal::{Decimal, RoundingStrategy};

use super::{HoldState, Job, JobEvent, JobStatus, decide::Draft};
use crate::{
    clock::Timestamp,
    error::Rejection,
    ids::InstructionId,
    ledger::{Account, RevenueKind, TransferKind, available, escrow},
    money::{Money, MoneyError, Rate, Rounding},
    policy::Bearer,
    rail::{Custody, HoldTerms, Instruction, Landing, Leg, LegReceipt, Order, Party, Receipt, ReceiptMismatch},
    spending::Allowance,
    wallet::withheld,
};

/// Who gets what of a hold. Made only by the functions below, each of which divides all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    pub(super) worker: Money,
    pub(super) platform: Money,
    pub(super) buyer: Money,
    worker_kind: TransferKind,
    platform_kind: TransferKind,
}

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
        Ok(Self {
            worker: to_worker,
            platform: to_platform,
            buyer: job.terms.total()?.minus(to_worker)?.minus(to_platform)?,
            worker_kind: TransferKind::Compensation,
            platform_kind: TransferKind::CancellationFee,
        })
    }

    /// The buyer gets everything back.
    pub(super) fn refunded(job: &Job) -> Result<Self, Rejection> {
        let none = Money::zero(job.terms.amount.currency());
        Self::cancelled(job, none, none)
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

    /// The buyer gets back what is left of the hold.
    pub(super) fn rest(buyer: Money) -> Self {
        let none = Money::zero(buyer.currency());
        let (worker_kind, platform_kind) = (TransferKind::Compensation, TransferKind::CancellationFee);
        Self { worker: none, platform: none, buyer, worker_kind, platform_kind }
    }

    /// What the parties did by themselves, if it divides the job's hold among the job's parties.
    pub(super) fn outside(job: &Job, legs: &[Leg]) -> Result<Self, Rejection> {
        let total = job.terms.total()?;
        let none = Money::zero(total.currency());
        let differs = || {
            let (asked, answered) = (format!("{total} among the job's parties"), format!("{legs:?}"));
            Rejection::from(ReceiptMismatch { field: "legs", asked, answered })
        };
        let mut division = Self { worker: none, platform: none, buyer: none, ..Self::refunded(job)? };
        for Leg { to, amount } in legs {
            let share = match to {
                Party::Worker(agent) if Some(*agent) == job.worker => &mut division.worker,
                Party::Buyer(agent) if *agent == job.buyer => &mut division.buyer,
                Party::Platform => &mut division.platform,
                Party::Worker(_) | Party::Buyer(_) => return Err(differs()),
            };
            if amount.minor() < 0 {
                return Err(differs());
            }
            *share = share.plus(*amount)?;
        }
        if division.worker.plus(division.platform)?.plus(division.buyer)? != total {
            return Err(differs());
        }
        if !division.worker.is_zero() {
            (division.worker_kind, division.platform_kind) = (TransferKind::Earned, TransferKind::Fee);
        }
        Ok(division)
    }

    fn revenue(&self) -> Account {
        match self.platform_kind {
            TransferKind::CancellationFee => Account::Revenue(RevenueKind::Cancellations),
            _ => Account::Revenue(RevenueKind::Fees),
        }
    }
}

impl Draft<'_> {
    /// Reserves the job's money: from the buyer's wallet at once, or by asking the rail.
    /// Returns whether it is reserved already.
    pub(super) fn fund(&mut self) -> Result<bool, Rejection> {
        let total = self.job.terms.total()?;
        self.charge_budget(total)?;
        if self.ctx.rail.custody.is_per_hold() {
            let (hold, payer, terms) = (self.job.id.into(), self.job.buyer, Box::new(self.hold_terms(total)?));
            let order = Order::Fund { hold, payer, amount: total, terms };
            self.job.hold.state = HoldState::Funding(self.instruct(order));
            return Ok(false);
        }
        self.movement.transfer(available(self.job.buyer), escrow(self.job.id), total, TransferKind::EscrowLock)?;
        self.job.hold.state = HoldState::Held;
        Ok(true)
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

    /// The rail took the money: it is in escrow now, less what the rail charged us.
    pub(super) fn funded_by(&mut self, receipt: &Receipt) -> Result<(), Rejection> {
        let rail = self.ctx.rail;
        self.movement.transfer(
            Account::Rail(rail.id),
            escrow(self.job.id),
            receipt.amount,
            TransferKind::EscrowLock,
        )?;
        self.book_cost(receipt.cost)?;
        self.job.hold.state = HoldState::Held;
        self.job.hold.funding.clone_from(&receipt.reference);
        let by_profile = rail.hold_expiry.map(|expiry| self.ctx.now + expiry.delta());
        let expires = receipt.hold_expires_at.or(by_profile);
        let margin = self.ctx.policy.jobs.hold_expiry.margin.delta();
        let act_at = |at: Timestamp| at.checked_sub_signed(margin).unwrap_or(at).max(self.ctx.now);
        self.job.timers.hold_until = expires.map(act_at);
        Ok(())
    }

    /// Empties the hold. In the ledger that happens now; where the rail holds the money, it is asked
    /// to do the same, and what is to leave waits in `pending` and `clearing` until it has.
    pub(super) fn settle(&mut self, division: Division) -> Result<(), Rejection> {
        if self.job.hold.state != HoldState::Held {
            return Err(self.wrong_hold());
        }
        self.divide(division)?;
        if !self.ctx.rail.custody.is_per_hold() {
            self.job.hold.state = HoldState::Settled;
            return self.note_division(division.worker, division.platform);
        }
        let legs = self.job.hold.legs.clone();
        let order = Order::Settle { hold: self.job.id.into(), funding: self.job.hold.funding.clone(), legs };
        self.job.hold.state = HoldState::Settling(self.instruct(order));
        Ok(())
    }

    /// The parties divided the hold outside: all of it has left.
    pub(super) fn settled_outside(&mut self, division: Division, reference: &str) -> Result<(), Rejection> {
        self.divide(division)?;
        let landed = |leg: &Leg| {
            let (Leg { to, amount }, landing) = (*leg, Landing::Outside);
            LegReceipt { to, amount, landing, reference: reference.into() }
        };
        let legs: Vec<LegReceipt> = self.job.hold.legs.iter().map(landed).collect();
        self.legs_landed(&legs)
    }

    /// Moves the shares out of escrow, to where they are or wait.
    fn divide(&mut self, division: Division) -> Result<(), Rejection> {
        let (rail, buyer) = (self.ctx.rail, self.job.buyer);
        let worker = self.job.worker.unwrap_or(buyer); // who cancels before there is a worker gets it all
        let hold = escrow(self.job.id);
        let per_hold = rail.custody.is_per_hold();
        let (to_worker, to_buyer) = match per_hold {
            true => (Account::Pending(worker), Account::Clearing(rail.id)),
            false => (available(worker), available(buyer)),
        };
        // A share that goes straight from the payer to the worker passes nobody who could keep some of it.
        let owed = self.ctx.purse.owed.filter(|_| rail.custody != Custody::NonCustodial);
        let repaid = match owed {
            Some(owed) => withheld(division.worker, owed)?,
            None => Money::zero(division.worker.currency()),
        };
        let to_worker_now = division.worker.minus(repaid)?;
        self.movement.transfer(hold, to_worker, to_worker_now, division.worker_kind)?;
        self.movement.transfer(hold, Account::Debt(worker), repaid, TransferKind::DebtRepaid)?;
        if repaid.is_positive() {
            self.events.push(JobEvent::DebtRepaid { worker, amount: repaid });
        }
        self.give_back_to_budget(division.buyer)?;
        self.movement.transfer(hold, division.revenue(), division.platform, division.platform_kind)?;
        self.movement.transfer(hold, to_buyer, division.buyer, TransferKind::Refund)?;
        if !per_hold {
            return Ok(());
        }
        let legs = [
            Leg { to: Party::Worker(worker), amount: to_worker_now },
            Leg { to: Party::Platform, amount: division.platform.plus(repaid)? },
            Leg { to: Party::Buyer(buyer), amount: division.buyer },
        ];
        self.job.hold.repaid = Some(repaid).filter(|repaid| repaid.is_positive());
        self.job.hold.legs = legs.into_iter().filter(|leg| !leg.amount.is_zero()).collect();
        Ok(())
    }

    /// The rail divided the hold: what left it leaves the books, what it kept becomes spendable.
    pub(super) fn settled_by(&mut self, receipt: &Receipt) -> Result<(), Rejection> {
        self.legs_landed(&receipt.legs)?;
        self.note_legs(receipt)?;
        self.book_cost(receipt.cost)
    }

    fn legs_landed(&mut self, legs: &[LegReceipt]) -> Result<(), Rejection> {
        let rail = self.ctx.rail;
        for LegReceipt { to, amount, landing, .. } in legs {
            // Only a rail that holds money in the platform's name can keep a share.
            let keeps = rail.custody == Custody::PerHold;
            let (debit, credit, kind) = match (landing, to) {
                (Landing::Outside, Party::Worker(agent)) => {
                    (Account::Pending(*agent), Account::Rail(rail.id), TransferKind::Payout)
                }
                (Landing::Outside, Party::Buyer(_)) => {
                    (Account::Clearing(rail.id), Account::Rail(rail.id), TransferKind::Refund)
                }
                (Landing::Outside, Party::Platform) => {
                    (Account::Treasury(rail.id), Account::Rail(rail.id), TransferKind::Payout)
                }
                (Landing::Held, Party::Worker(agent)) if keeps => {
                    (Account::Pending(*agent), available(*agent), TransferKind::Kept)
                }
                (Landing::Held, Party::Buyer(agent)) if keeps => {
                    (Account::Clearing(rail.id), available(*agent), TransferKind::Kept)
                }
                (Landing::Held, Party::Platform) if keeps => continue,
                (Landing::Held, _) => {
                    let asked = format!("what {:?} custody allows", rail.custody);
                    let answered = format!("held for {to:?}");
                    return Err(ReceiptMismatch { field: "landing", asked, answered }.into());
                }
            };
            self.movement.transfer(debit, credit, *amount, kind)?;
        }
        self.job.hold.legs.clear();
        self.job.hold.state = HoldState::Settled;
        Ok(())
    }

    /// What the rail was being asked to divide came out otherwise: every share leaves the account where it
    /// waited.
    pub(super) fn take_shares_back(&mut self, to_account: Account) -> Result<(), Rejection> {
        for Leg { to, mut amount } in std::mem::take(&mut self.job.hold.legs) {
            // What was kept for the worker's debt is owed again.
            if to == Party::Platform
                && let Some(worker) = self.job.worker
                && let Some(repaid) = self.job.hold.repaid.take()
            {
                amount = amount.minus(repaid)?;
                self.movement.transfer(Account::Debt(worker), to_account, repaid, TransferKind::Reversal)?;
            }
            self.movement.transfer(self.waits(to), to_account, amount, TransferKind::Reversal)?;
        }
        Ok(())
    }

    /// Where a share waits while the rail is asked to divide the hold.
    pub(super) fn waits(&self, to: Party) -> Account {
        match to {
            Party::Worker(agent) => Account::Pending(agent),
            Party::Buyer(_) => Account::Clearing(self.ctx.rail.id),
            Party::Platform => self.revenue(),
        }
    }

    /// Where the platform's share of this job's money is.
    pub(super) fn revenue(&self) -> Account {
        match self.job.status {
            JobStatus::Completed => Account::Revenue(RevenueKind::Fees),
            _ => Account::Revenue(RevenueKind::Cancellations),
        }
    }

    /// The rail gave the hold up by itself: the money is back with its payer.
    pub(super) fn hold_lost(&mut self) -> Result<(), Rejection> {
        let total = self.job.terms.total()?;
        self.give_back_to_budget(total)?;
        let rail = Account::Rail(self.ctx.rail.id);
        self.movement.transfer(escrow(self.job.id), rail, total, TransferKind::Refund)?;
        self.job.hold.state = HoldState::Settled;
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
        let (Some(allowance), Some(charged)) = (self.ctx.purse.allowance, self.job.hold.charged) else {
            return Ok(());
        };
        let before = self.budget.take();
        let budget = before.clone().unwrap_or_else(|| allowance.budget.clone());
        self.budget = Allowance { budget, policy: allowance.policy }.give_back(amount, charged)?.or(before);
        Ok(())
    }

    /// What the rail charged for its work left it; what an exchange brought came to it.
    pub(super) fn book_cost(&mut self, cost: Option<Money>) -> Result<(), Rejection> {
        Ok(self.movement.rail_cost(self.ctx.rail.id, cost)?)
    }

    /// Writes down the job's next instruction.
    pub(super) fn instruct(&mut self, order: Order) -> InstructionId {
        let id = InstructionId::derive(self.job.id.0, self.job.hold.instructions);
        self.job.hold.instructions += 1;
        let instruction = Instruction { id, contract: self.job.id.0, order, answer: None };
        self.instructions.push((instruction, self.ctx.now));
        id
    }
}

/// `part` of `whole` as a rate, rounded up to a hundredth of a percent: what contracts count fees in.
fn share_of(part: Money, whole: Money) -> Result<Rate, Rejection> {
    let (part, whole) = (Decimal::from(part.minor()), Decimal::from(whole.minor()));
    let share = part.checked_div(whole).unwrap_or(Decimal::ZERO);
    Ok(Rate::new(share.round_dp_with_strategy(4, RoundingStrategy::ToPositiveInfinity).min(Decimal::ONE))?)
}
