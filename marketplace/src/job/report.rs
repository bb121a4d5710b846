//! What follows from a rail's report: a payment that arrived, a share that did, a hold that is gone.

use super::{CancelCause, HoldState, JobEvent, JobStatus, PayoutStatus, Timers, decide::Draft, settle::Division};
use crate::{
    error::Rejection,
    ledger::{Account, escrow},
    money::Money,
    policy::Span,
    rail::{Custody, Instruction, Leg, Outcome, Party, Receipt},
};

/// How long a settlement that was declined waits before it is asked for again, at first.
const RETRY_FIRST: Span = Span::seconds(60);
/// How long at most.
const RETRY_MOST: Span = Span::hours(24);

impl Draft<'_> {
    pub(super) fn record_outcome(&mut self, instruction: &Instruction, outcome: &Outcome) -> Result<(), Rejection> {
        if self.job.returns.under_way.contains(&instruction.id) {
            return self.record_return(instruction, outcome);
        }
        let funding = self.job.hold.state == HoldState::Funding(instruction.id);
        let settling = self.job.hold.state == HoldState::Settling(instruction.id);
        if !funding && !settling {
            return Err(self.wrong_hold());
        }
        match outcome {
            Outcome::Pending { .. } => {}
            Outcome::NeedsAction(action) => {
                let mut action = action.clone();
                action.payload.clear(); // the party's alone; the log is read by both
                self.events.push(JobEvent::ActionRequired { instruction: instruction.id, action });
            }
            Outcome::Declined(decline) if funding => {
                self.job.hold.state = HoldState::Empty;
                self.job.hold.expired = false; // that was this payment
                self.give_back_to_budget(self.job.terms.total()?)?;
                self.job.hold.charged = None;
                let (instruction, decline) = (instruction.id, decline.clone());
                self.events.push(JobEvent::PaymentFailed { instruction, decline });
                self.reopen()?;
            }
            Outcome::Declined(_) if self.is_losing() => self.divide_what_is_left()?,
            Outcome::Declined(decline) => {
                let retry = self.instruct(instruction.order.clone());
                self.job.hold.state = HoldState::Settling(retry);
                let wait = backoff(self.job.hold.declined);
                self.job.hold.declined = self.job.hold.declined.saturating_add(1);
                let next_at = self.ctx.now + wait.delta();
                self.instructions[0].1 = next_at;
                let (instruction, decline) = (instruction.id, decline.clone());
                let payout_status = PayoutStatus::PendingRetry;
                self.events.push(JobEvent::PaymentRetrying { instruction, decline, next_at, payout_status });
            }
            Outcome::Done(receipt) => {
                instruction.check(receipt)?;
                match funding {
                    true => self.payment_arrived(receipt)?,
                    false => self.settlement_arrived(receipt)?,
                }
                self.bear_losses()?;
            }
        }
        Ok(())
    }

    fn payment_arrived(&mut self, receipt: &Receipt) -> Result<(), Rejection> {
        self.funded_by(receipt)?;
        let ended = self.job.status.is_final();
        if self.job.hold.expired {
            self.hold_lost()?;
            self.events.push(JobEvent::PaymentLost { amount: receipt.amount });
            match ended {
                true => self.job.timers = Timers::default(),
                false => self.hold_is_lost(receipt.amount),
            }
            return Ok(());
        }
        if !ended {
            return self.funded();
        }
        // Called off while the payment was under way: it goes straight back.
        self.job.timers = Timers::default();
        let division = Division::refunded(&self.job)?;
        self.settle(division)?;
        self.events.push(JobEvent::PaymentReturned { amount: division.buyer });
        Ok(())
    }

    fn settlement_arrived(&mut self, receipt: &Receipt) -> Result<(), Rejection> {
        self.settled_by(receipt)?;
        let legs = receipt.legs.iter().map(|leg| Leg { to: leg.to, amount: leg.amount }).collect();
        self.events.push(JobEvent::PaymentReceived { reference: receipt.reference.clone(), legs });
        Ok(())
    }

    pub(super) fn record_hold_expired(&mut self) -> Result<(), Rejection> {
        let rail = self.ctx.rail;
        if !rail.custody.is_per_hold() {
            return Err(Rejection::WrongRail { command: self.command, rail: rail.id, needed: Custody::PerHold });
        }
        let refunded = self.job.terms.total()?;
        match self.job.hold.state {
            HoldState::Held => self.hold_lost()?,
            // The rail gave up while it was being asked to divide: nobody got a share, the payer has it all.
            HoldState::Settling(_) => {
                self.give_back_to_budget(refunded.minus(self.buyers_leg())?)?;
                self.take_shares_back(Account::Rail(rail.id))?;
                self.job.hold.state = HoldState::Settled;
                self.note_nobody_paid();
                self.events.push(JobEvent::PaymentLost { amount: refunded });
                return Ok(());
            }
            // That it was funded is not known yet; when it is, the money is gone again.
            HoldState::Funding(_) => {
                self.job.hold.expired = true;
                self.events.push(JobEvent::PaymentExpired {});
                return Ok(());
            }
            HoldState::Empty | HoldState::Settled => return Err(self.wrong_hold()),
        }
        self.hold_is_lost(refunded);
        Ok(())
    }

    /// The parties agreed without us: what they did stands, whatever was asked of the rail meanwhile.
    pub(super) fn record_hold_settled(&mut self, reference: &str, legs: &[Leg]) -> Result<(), Rejection> {
        let rail = self.ctx.rail;
        if rail.custody != Custody::NonCustodial {
            return Err(Rejection::WrongRail { command: self.command, rail: rail.id, needed: Custody::NonCustodial });
        }
        let division = Division::outside(&self.job, legs)?;
        match self.job.hold.state {
            HoldState::Held => {}
            HoldState::Settling(_) => {
                let buyers = self.buyers_leg();
                self.give_back_to_budget(Money::zero(buyers.currency()).minus(buyers)?)?;
                self.take_shares_back(escrow(self.job.id))?;
            }
            HoldState::Empty | HoldState::Funding(_) | HoldState::Settled => return Err(self.wrong_hold()),
        }
        self.settled_outside(division, reference)?;
        let status = if division.worker.is_zero() { JobStatus::Refunded } else { JobStatus::Completed };
        match self.job.status.is_final() {
            true => self.job.timers = Timers::default(),
            false => self.end(status),
        }
        self.events.push(JobEvent::SettledOutside { reference: reference.into(), legs: legs.to_vec() });
        Ok(())
    }

    /// What of the hold the rail is asked to give back to the buyer.
    fn buyers_leg(&self) -> Money {
        let leg = self.job.hold.legs.iter().find(|leg| matches!(leg.to, Party::Buyer(_)));
        leg.map_or(Money::zero(self.job.terms.amount.currency()), |leg| leg.amount)
    }

    /// The payer has the money back: there is nothing to work for any more.
    fn hold_is_lost(&mut self, refunded: Money) {
        self.end(JobStatus::Cancelled);
        let none = Money::zero(refunded.currency());
        self.events.push(JobEvent::Cancelled {
            cause: CancelCause::HoldExpired,
            reason: String::new(),
            refunded,
            cancellation_fee: none,
            compensation: none,
        });
    }
}

/// The wait before a settlement is asked for again that was declined `before` times before: four times
/// as long each time, up to a day.
fn backoff(before: u32) -> Span {
    let seconds = RETRY_FIRST.as_seconds().saturating_mul(4u32.saturating_pow(before));
    Span::seconds(seconds.min(RETRY_MOST.as_seconds()))
}
