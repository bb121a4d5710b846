//! Dividing a hold.
//!
//! Stripe moves the legs one by one: a worker's share is a transfer tied to the charge, the payer's
//! is a refund, the platform's stays where it is.
//!
//! A leg that stays in the balance makes no object of its own, so the charge is marked. The mark is
//! written under the leg's own idempotency key: of a transfer and a mark, whichever comes first takes
//! the key, and the other is refused and finds it. A transfer that was refused may have taken the key
//! too, but then it stays refused, and the mark takes the next.

use std::collections::HashMap;

use stripe_connect::transfer::CreateTransfer;
use stripe_core::{
    charge::UpdateCharge,
    payment_intent::{CancelPaymentIntent, CancelPaymentIntentCancellationReason, CapturePaymentIntent},
    refund::CreateRefund,
};
use stripe_shared::PaymentIntentStatus as Status;
use tradepost::{
    ids::{AgentId, HoldId},
    money::Money,
    rail::{Instruction, Leg, LegReceipt, Outcome, Party, RailError, RailErrorKind},
};

use crate::{
    config::HoldMode,
    disputes::contested,
    division::{Division, Found, gone, kept},
    error::{StripeError, StripeErrorKind},
    fund::{GENERATIONS, no_generation_left, unknown},
    marks,
    object::{Charge, Dispute, Intent, Named, Refund, Transfer},
    rail::StripeRail,
};

impl StripeRail {
    pub(crate) async fn settle(
        &self,
        instruction: &Instruction,
        hold: HoldId,
        funding: &str,
        legs: &[Leg],
    ) -> Result<Outcome, RailError> {
        let authorised = matches!(self.inner.config.hold, HoldMode::Authorise { .. });
        let exchanged = self.inner.config.presentment.is_some();
        let mut division = Division::new(instruction, hold, funding, legs);
        if authorised || exchanged || !marks::keys_are_kept(instruction, self.now()) {
            let found = self.find(&division).await?;
            if let Some(outcome) = self.read(&mut division, &found)? {
                return Ok(outcome);
            }
            if authorised {
                return self.capture_and_divide(division, found).await;
            }
        }
        let charge = division.funding.to_owned();
        self.divide(division, &charge).await
    }

    /// What became of a division. One that has begun is carried on.
    pub(crate) async fn find_settle(
        &self,
        instruction: &Instruction,
        hold: HoldId,
        funding: &str,
        legs: &[Leg],
    ) -> Result<Option<Outcome>, RailError> {
        let mut division = Division::new(instruction, hold, funding, legs);
        let found = self.find(&division).await?;
        if let Some(outcome) = self.read(&mut division, &found)? {
            return Ok(Some(outcome));
        }
        if !division.has_begun(&found) {
            return match found.disputes.iter().any(Dispute::is_open) {
                true => Err(contested()),
                false => Ok(None),
            };
        }
        match self.inner.config.hold {
            HoldMode::Charge => self.divide(division, &found.charge.id).await.map(Some),
            HoldMode::Authorise { .. } => self.capture_and_divide(division, found).await.map(Some),
        }
    }

    /// Takes what is authorised, less the payer's share, and divides it.
    async fn capture_and_divide(&self, mut division: Division<'_>, found: Found) -> Result<Outcome, RailError> {
        let Some(intent) = found.intent else { return Err(no_such_hold(division.funding)) };
        let taken = division.total_to(|party| !matches!(party, Party::Buyer(_)));
        let charge = if taken == 0 {
            self.give_up(&mut division, &intent).await?;
            found.charge
        } else if found.charge.captured {
            found.charge
        } else {
            let taken = self.part(&found.charge, Money::new(taken, self.inner.config.currency));
            match self.capture(&division, &intent, taken).await? {
                Some(charge) => charge,
                None => return Ok(Outcome::Declined(gone())),
            }
        };
        if taken > 0 {
            // The effect has begun: whatever fails from here on is looked up.
            if !self.captured(&mut division, &charge, &intent.id) {
                return Ok(Outcome::Pending { reference: charge.id });
            }
        }
        let begun = Outcome::Pending { reference: charge.id.clone() };
        self.divide(division, &charge.id).await.or(Ok(begun))
    }

    async fn give_up(&self, division: &mut Division<'_>, intent: &Intent) -> Result<(), RailError> {
        let request = CancelPaymentIntent::new(&*intent.id)
            .cancellation_reason(CancelPaymentIntentCancellationReason::RequestedByCustomer);
        let key = marks::key(division.instruction, "cancel", 0);
        let given = self.inner.http.post::<Named>(&request, &key).await;
        if let Err(error) = given {
            let now = self.intent(&intent.id).await.map_err(unknown)?;
            if now.status() != Status::Canceled {
                return Err(error.into());
            }
        }
        division.land_with_payer(&intent.id);
        Ok(())
    }

    /// Captures; none when the authorisation is gone.
    async fn capture(
        &self,
        division: &Division<'_>,
        intent: &Intent,
        amount: i64,
    ) -> Result<Option<Charge>, RailError> {
        for generation in 0..GENERATIONS {
            let request = CapturePaymentIntent::new(&*intent.id)
                .amount_to_capture(amount)
                .metadata([(SETTLED_BY.into(), division.instruction.id.to_string())])
                .expand(["latest_charge.balance_transaction".into()]);
            let key = marks::key(division.instruction, "capture", generation);
            let error = match self.inner.http.post::<Intent>(&request, &key).await {
                Ok(reply) if !reply.replayed => match reply.object.paid() {
                    Some(charge) => return Ok(Some(charge.clone())),
                    None => return Err(unsure("the capture")),
                },
                Ok(_) => None,
                Err(error) => Some(error),
            };
            let spent = error.as_ref().is_some_and(|e| e.kind() == StripeErrorKind::Broken && e.is_replayed());
            let settled = error.as_ref().is_none_or(|e| e.kind() == StripeErrorKind::Invalid);
            if let Some(error) = error
                && !spent
                && !settled
            {
                return Err(error.into());
            }
            let now = self.intent(&intent.id).await.map_err(unknown)?;
            match now.paid() {
                Some(charge) if charge.captured => return Ok(Some(charge.clone())),
                _ if now.status() == Status::Canceled => return Ok(None),
                _ if spent => {}
                _ => return Err(unsure("the capture")),
            }
        }
        Err(no_generation_left())
    }

    /// Lands every leg that has not landed yet.
    async fn divide(&self, mut division: Division<'_>, charge: &str) -> Result<Outcome, RailError> {
        for index in 0..division.legs.len() {
            if division.landed[index].is_some() {
                continue;
            }
            let leg = division.legs[index];
            let landed = match leg.to {
                Party::Platform => continue,
                Party::Worker(agent) => self.pay(&division, index, agent, leg.amount, charge).await,
                Party::Buyer(_) => self.refund(&mut division, index, leg.amount, charge).await,
            };
            match landed {
                Ok(receipt) => division.landed[index] = Some(receipt),
                Err(error) => return self.interrupted(division, charge, error).await,
            }
        }
        // The platform's share needs nothing at Stripe, unless it is all there is.
        if division.landed.iter().all(Option::is_none)
            && let Err(error) = self.keep(&division, 0, charge, Keep::All).await
        {
            return self.interrupted(division, charge, error).await;
        }
        for index in 0..division.legs.len() {
            division.landed[index].get_or_insert_with(|| kept(division.legs[index], charge));
        }
        Ok(division.done(charge, self.inner.config.currency))
    }

    /// A leg failed. If none has moved, the division failed, or there is nothing to divide any more.
    async fn interrupted(&self, division: Division<'_>, charge: &str, error: RailError) -> Result<Outcome, RailError> {
        tracing::warn!(instruction = %division.instruction.id, %error, "a leg has not landed");
        if division.landed.iter().any(Option::is_some) {
            return Ok(Outcome::Pending { reference: charge.into() });
        }
        if error.kind() != RailErrorKind::Refused {
            return Err(error);
        }
        // One leg's refusal says nothing of earlier attempts at another.
        let found = self.find(&division).await.map_err(unknown)?;
        let mut anew = Division::new(division.instruction, division.hold, division.funding, division.legs);
        match self.read(&mut anew, &found)? {
            Some(outcome) => Ok(outcome),
            None if anew.has_begun(&found) => Ok(Outcome::Pending { reference: charge.into() }),
            None => Err(error),
        }
    }

    /// A worker's share: to its account, or kept for it.
    async fn pay(
        &self,
        division: &Division<'_>,
        index: usize,
        worker: AgentId,
        amount: Money,
        charge: &str,
    ) -> Result<LegReceipt, RailError> {
        let Some(account) = self.known(worker).await?.account else {
            return self.keep(division, index, charge, Keep::NoAccount).await;
        };
        for generation in 0..GENERATIONS {
            let request = CreateTransfer::new(self.inner.currency.clone(), &*account)
                .amount(amount.minor())
                .source_transaction(charge)
                .transfer_group(marks::hold_group(division.hold))
                .metadata(marks::of_leg(division.instruction, index));
            let key = marks::key(division.instruction, &format!("leg{index}"), generation);
            let error = match self.inner.http.post::<Transfer>(&request, &key).await {
                Ok(reply) => return Ok(self.transferred(division.legs[index], &reply.object)),
                Err(error) => error,
            };
            if error.is_about_the_account() {
                return self.keep(division, index, charge, Keep::Refused(generation)).await;
            }
            let spent = self.is_spent(&error, charge).await?;
            if !spent && error.kind() == StripeErrorKind::Invalid && self.is_lost(charge).await? {
                return self.lost(division, index, charge, generation).await;
            }
            if !spent && error.kind() != StripeErrorKind::KeyReused {
                return Err(error.into());
            }
            match self.landed(division, index).await? {
                Some(receipt) => return Ok(receipt),
                None if spent => {}
                None => return Err(error.into()),
            }
        }
        Err(no_generation_left())
    }

    /// Whether a request failed in a way that a later one under the next key need not: what Stripe refused while
    /// the payer's bank had the money, it may do when the bank has given it back.
    async fn is_spent(&self, error: &StripeError, charge: &str) -> Result<bool, RailError> {
        if error.kind() == StripeErrorKind::Invalid && !error.is_missing() {
            let disputes = self.disputes_of(charge).await.map_err(unknown)?;
            if disputes.iter().any(Dispute::is_open) {
                return Err(contested());
            }
            return Ok(error.is_replayed() && !disputes.is_empty());
        }
        Ok(error.kind() == StripeErrorKind::Broken && error.is_replayed())
    }

    /// A share that stays in the platform's balance: the charge is marked.
    async fn keep(
        &self,
        division: &Division<'_>,
        index: usize,
        charge: &str,
        why: Keep,
    ) -> Result<LegReceipt, RailError> {
        let leg = division.legs[index];
        let first = if let Keep::Refused(generation) | Keep::Lost(generation) = why { generation } else { 0 };
        let mut written = vec![(marks::held(division.instruction, index), leg.amount.minor().to_string())];
        if let (Keep::NoAccount | Keep::Refused(_), Party::Worker(worker)) = (why, leg.to) {
            written.push((marks::KEPT_FOR.into(), worker.to_string()));
        }
        let request = UpdateCharge::new(charge).metadata(written.into_iter().collect::<HashMap<_, _>>());
        for generation in first..first + GENERATIONS {
            let key = marks::key(division.instruction, &format!("leg{index}"), generation);
            let error = match self.inner.http.post::<Named>(&request, &key).await {
                Ok(_) => return Ok(kept(leg, charge)),
                Err(error) => error,
            };
            let spent = error.kind() == StripeErrorKind::Broken && error.is_replayed();
            if !spent && error.kind() != StripeErrorKind::KeyReused {
                return Err(error.into());
            }
            if let Some(receipt) = self.landed(division, index).await? {
                return Ok(receipt);
            }
            // The key of a transfer that Stripe refused stays with the refusal. Otherwise it is another
            // order's.
            if !spent && !matches!(why, Keep::Refused(_) | Keep::Lost(_)) {
                return Err(error.into());
            }
        }
        Err(no_generation_left())
    }

    /// The payer's share: back to the card.
    async fn refund(
        &self,
        division: &mut Division<'_>,
        index: usize,
        amount: Money,
        charge: &str,
    ) -> Result<LegReceipt, RailError> {
        for generation in 0..GENERATIONS {
            let part = division.charge.as_ref().map_or(amount.minor(), |charge| self.part(charge, amount));
            let request = CreateRefund::new()
                .charge(charge)
                .amount(part)
                .metadata(marks::of_leg(division.instruction, index))
                .expand(["balance_transaction".into()]);
            let key = marks::key(division.instruction, &format!("leg{index}"), generation);
            let error = match self.inner.http.post::<Refund>(&request, &key).await {
                Ok(reply) if reply.replayed => None,
                Ok(reply) => {
                    let (receipt, cost) = self.refunded(division, division.legs[index], &reply.object)?;
                    division.costs[index] = cost;
                    return Ok(receipt);
                }
                Err(error) => Some(error),
            };
            let spent = match &error {
                Some(error) => self.is_spent(error, charge).await?,
                None => false,
            };
            if error.as_ref().is_some_and(StripeError::is_about_a_dispute) && !spent && self.is_lost(charge).await? {
                return self.lost(division, index, charge, generation).await;
            }
            let asks = error.as_ref().is_none_or(|e| spent || e.kind() == StripeErrorKind::KeyReused);
            if asks && let Some(receipt) = self.landed(division, index).await? {
                return Ok(receipt);
            }
            match error {
                _ if spent => {}
                Some(error) => return Err(error.into()),
                None => return Err(unsure("the refund")),
            }
        }
        Err(no_generation_left())
    }

    /// A leg that Stripe refuses because the payer has the money from the bank. What others got already stays so,
    /// and what was captured is not given up any more: then this is kept, and the engine takes back from each what
    /// the bank took. Otherwise nothing is divided.
    async fn lost(
        &self,
        division: &Division<'_>,
        index: usize,
        charge: &str,
        refused: u32,
    ) -> Result<LegReceipt, RailError> {
        let captured = matches!(self.inner.config.hold, HoldMode::Authorise { .. });
        match captured || division.landed.iter().any(Option::is_some) {
            true => self.keep(division, index, charge, Keep::Lost(refused)).await,
            false => Err(RailError::new(RailErrorKind::Refused, "the payer's bank has kept the payment")),
        }
    }

    async fn is_lost(&self, charge: &str) -> Result<bool, RailError> {
        Ok(self.disputes_of(charge).await.map_err(unknown)?.iter().any(Dispute::is_lost))
    }
}

/// The mark on a payment of who captured it.
const SETTLED_BY: &str = "tradepost_settled_by";

/// Why a leg stays in the balance.
#[derive(Clone, Copy)]
enum Keep {
    /// The worker has no account.
    NoAccount,
    /// The worker's account does not take the transfer, which used the key of this generation.
    Refused(u32),
    /// The payer's bank has the money; the key of this generation is used.
    Lost(u32),
    /// The platform gets all of it.
    All,
}

fn no_such_hold(funding: &str) -> RailError {
    RailError::new(RailErrorKind::Refused, format!("{funding} is no payment"))
}

fn unsure(what: &str) -> RailError {
    RailError::new(RailErrorKind::Unknown, format!("{what} may have happened"))
}
