//! What follows from a rail's report: a payment that arrived, a share that did, a hold that is gone, money that
//! the payer's bank took back.

use super::{CancelCause, Freezer, Frozen, JobEvent, JobStatus, PayoutStatus, Timers, decide::Draft};
use crate::{
    clock::Timestamp,
    error::Rejection,
    hold::{Answered, Division, Expired},
    money::Money,
    rail::{Chargeback, Instruction, Leg, Outcome},
};

impl Draft<'_> {
    pub(super) fn record_outcome(&mut self, instruction: &Instruction, outcome: &Outcome) -> Result<(), Rejection> {
        let id = instruction.id;
        match self.holding()?.answer(instruction, outcome)? {
            Answered::Waits => {}
            Answered::NeedsAction(action) => self.events.push(JobEvent::ActionRequired { instruction: id, action }),
            Answered::NotFunded(decline) => {
                self.give_back_to_budget(self.job.terms.total()?)?;
                self.job.hold.charged = None;
                self.events.push(JobEvent::PaymentFailed { instruction: id, decline });
                self.reopen()?;
            }
            Answered::Funded { act_at } => self.payment_arrived(act_at)?,
            Answered::FundedAndLost => {
                let amount = self.job.terms.total()?;
                self.give_back_to_budget(amount)?;
                self.events.push(JobEvent::PaymentLost { amount });
                match self.job.status.is_final() {
                    true => self.job.timers = Timers::default(),
                    false => self.hold_is_lost(CancelCause::HoldExpired, amount),
                }
            }
            Answered::NotSettled { decline, next_at } => {
                let payout_status = PayoutStatus::PendingRetry;
                self.events.push(JobEvent::PaymentRetrying { instruction: id, decline, next_at, payout_status });
            }
            Answered::Arrived { legs, reference } => self.events.push(JobEvent::PaymentReceived { reference, legs }),
        }
        self.bear_losses()?;
        self.go_on();
        Ok(())
    }

    fn payment_arrived(&mut self, act_at: Option<Timestamp>) -> Result<(), Rejection> {
        self.job.timers.hold_until = act_at;
        if !self.job.status.is_final() {
            return self.funded();
        }
        // Called off while the payment was under way: it goes straight back.
        self.job.timers = Timers::default();
        let division = Division::refunded(&self.job)?;
        self.settle(division)?;
        self.events.push(JobEvent::PaymentReturned { amount: division.buyer });
        Ok(())
    }

    pub(super) fn record_hold_expired(&mut self) -> Result<(), Rejection> {
        let amount = self.job.terms.total()?;
        match self.holding()?.expire()? {
            Expired::Reserved => {
                self.give_back_to_budget(amount)?;
                self.hold_is_lost(CancelCause::HoldExpired, amount);
            }
            Expired::Dividing { to_buyer } => {
                self.give_back_to_budget(amount.minus(to_buyer)?)?;
                self.events.push(JobEvent::PaymentLost { amount });
                self.bear_losses()?; // one may have waited for the division
            }
            Expired::BeingTaken => self.events.push(JobEvent::PaymentExpired {}),
        }
        Ok(())
    }

    /// The parties agreed without us: what they did stands, whatever was asked of the rail meanwhile.
    pub(super) fn record_hold_settled(&mut self, reference: &str, legs: &[Leg]) -> Result<(), Rejection> {
        let promised = self.job.hold.to_buyer(self.job.terms.total()?);
        let division = self.holding()?.settled_outside(reference, legs)?;
        self.give_back_to_budget(division.buyer.minus(promised)?)?;
        self.note_division(division)?;
        let status = if division.worker.is_zero() { JobStatus::Refunded } else { JobStatus::Completed };
        match self.job.status.is_final() {
            true => self.job.timers = Timers::default(),
            false => self.end(status),
        }
        self.events.push(JobEvent::SettledOutside { reference: reference.into(), legs: legs.to_vec() });
        Ok(())
    }

    pub(super) fn record_chargeback(&mut self, told: &Chargeback) -> Result<(), Rejection> {
        self.holding()?.chargeback(told)?;
        if self.job.returns.is_contested() {
            self.stand_still();
        }
        self.bear_losses()?;
        self.go_on();
        Ok(())
    }

    /// Nothing but the bank's decision lets the job go on.
    fn stand_still(&mut self) {
        if self.job.status.is_final() || self.job.frozen.is_some() {
            return;
        }
        self.job.frozen = Some(Frozen { was: self.job.status, since: self.ctx.now, by: Freezer::Chargeback });
        self.job.status = JobStatus::Frozen;
        self.events.push(JobEvent::Frozen { reason: "chargeback".into() });
    }

    /// The bank has decided about everything that was contested: the job goes on where it stood.
    fn go_on(&mut self) {
        let frozen_by = self.job.frozen.map(|frozen| frozen.by);
        if frozen_by == Some(Freezer::Chargeback) && !self.job.returns.stands_still(self.job.hold.state) {
            self.unfreeze();
        }
    }

    /// Books who bears what is lost; a job whose money was reserved still is over.
    fn bear_losses(&mut self) -> Result<(), Rejection> {
        if let Some(rest) = self.holding()?.bear_losses()? {
            self.give_back_to_budget(rest)?;
            self.hold_is_lost(CancelCause::Chargeback, self.job.terms.total()?);
        }
        Ok(())
    }

    /// The payer has the money back: there is nothing to work for any more.
    fn hold_is_lost(&mut self, cause: CancelCause, refunded: Money) {
        self.end(JobStatus::Cancelled);
        let (none, reason) = (Money::zero(refunded.currency()), String::new());
        let (cancellation_fee, compensation) = (none, none);
        self.events.push(JobEvent::Cancelled { cause, reason, refunded, cancellation_fee, compensation });
    }
}
