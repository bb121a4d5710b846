//! Undoing what a division gave: taking a worker's share back, and giving the payer some of a payment back.
//!
//! Both make one object that carries the instruction. What Stripe refuses for good makes none: then what was to
//! be undone is marked, under the key that follows the refused one, so that the refusal is found again. Nobody
//! tries again under that key, so that never both happen.

use std::collections::HashMap;

use stripe_client_core::StripeRequest;
use stripe_connect::{
    transfer::{RetrieveTransfer, UpdateTransfer},
    transfer_reversal::{CreateIdTransferReversal, ListIdTransferReversal},
};
use stripe_core::{
    charge::{RetrieveCharge, UpdateCharge},
    refund::{CreateRefund, ListRefund},
};
use tradepost::{
    money::Money,
    rail::{Decline, Instruction, Outcome, RailError, RailErrorKind, Receipt},
};

use crate::{
    config::HoldMode,
    disputes::contested,
    error::{StripeError, StripeErrorKind},
    fund::{GENERATIONS, another_order, no_generation_left, unknown},
    marks,
    object::{Charge, Dispute, List, Named, Refund, Reversal, Transfer, money},
    rail::{PAGE, StripeRail},
};

impl StripeRail {
    // ---- a worker's share

    pub(crate) async fn reverse(
        &self,
        instruction: &Instruction,
        leg: &str,
        amount: Money,
    ) -> Result<Outcome, RailError> {
        named(leg, "tr_")?;
        if let Some(found) = self.find_reverse(instruction, leg).await? {
            return Ok(found);
        }
        for generation in 0..GENERATIONS {
            let request = CreateIdTransferReversal::new(leg).amount(amount.minor()).metadata(marks::of(instruction));
            let key = marks::key(instruction, "reverse", generation);
            let error = match self.inner.http.post::<Reversal>(&request, &key).await {
                Ok(reply) => return Ok(self.reversed(instruction, &reply.object)),
                Err(error) => error,
            };
            let refused = error.is_about_the_balance() || error.is_about_the_account() || error.is_about_the_amount();
            if refused {
                let mark = UpdateTransfer::new(leg).metadata([said(instruction, &error)]);
                return self.mark(instruction, "reverse", generation, &mark, &error).await;
            }
            let spent = is_spent(&error);
            if !spent && error.kind() != StripeErrorKind::KeyReused {
                return Err(error.into());
            }
            match self.find_reverse(instruction, leg).await.map_err(after_effect)? {
                Some(found) => return Ok(found),
                None if spent => {}
                None => return Err(error.into()),
            }
        }
        Err(no_generation_left())
    }

    pub(crate) async fn find_reverse(
        &self,
        instruction: &Instruction,
        leg: &str,
    ) -> Result<Option<Outcome>, RailError> {
        named(leg, "tr_")?;
        let request = ListIdTransferReversal::new(leg).limit(PAGE);
        let page: List<Reversal> = self.inner.http.get(&request).await?;
        let ours =
            |reversal: &&Reversal| reversal.metadata.as_ref().and_then(marks::instruction) == Some(instruction.id);
        if let Some(reversal) = page.data.iter().find(ours) {
            let marks = reversal.metadata.clone().unwrap_or_default();
            return match marks::same_order(&marks, instruction) {
                true => Ok(Some(self.reversed(instruction, reversal))),
                false => Err(another_order()),
            };
        }
        let transfer: Transfer = self.inner.http.get(&RetrieveTransfer::new(leg)).await?;
        Ok(declined(instruction, &transfer.metadata))
    }

    fn reversed(&self, instruction: &Instruction, reversal: &Reversal) -> Outcome {
        let amount = money(reversal.amount, &reversal.currency, self.inner.config.currency);
        done(instruction, &reversal.id, amount, None)
    }

    // ---- the payer's money

    pub(crate) async fn give_back(
        &self,
        instruction: &Instruction,
        funding: &str,
        amount: Money,
    ) -> Result<Outcome, RailError> {
        let charge = self.charge_of(funding).await?;
        if let Some(found) = self.find_refund(instruction, &charge, amount).await? {
            return Ok(found);
        }
        for generation in 0..GENERATIONS {
            let request = CreateRefund::new()
                .charge(&*charge.id)
                .amount(self.part(&charge, amount))
                .metadata(marks::of(instruction))
                .expand(["balance_transaction".into()]);
            let key = marks::key(instruction, "refund", generation);
            let error = match self.inner.http.post::<Refund>(&request, &key).await {
                Ok(reply) => return self.gave_back(instruction, &charge, &reply.object, amount),
                Err(error) => error,
            };
            let mut spent = is_spent(&error);
            if error.is_about_a_dispute() {
                let disputes = self.disputes_of(&charge.id).await.map_err(unknown)?;
                if disputes.iter().any(Dispute::is_open) {
                    return Err(contested());
                }
                // What was refused while the bank had the money is asked again when it has given it back.
                spent = error.is_replayed() && !disputes.iter().any(Dispute::is_lost);
            }
            if !spent && (error.is_about_the_amount() || error.is_about_a_dispute()) {
                let mark = UpdateCharge::new(&*charge.id).metadata([said(instruction, &error)]);
                return self.mark(instruction, "refund", generation, &mark, &error).await;
            }
            if !spent && error.kind() != StripeErrorKind::KeyReused {
                return Err(error.into());
            }
            match self.find_refund(instruction, &charge, amount).await.map_err(after_effect)? {
                Some(found) => return Ok(found),
                None if spent => {}
                None => return Err(error.into()),
            }
        }
        Err(no_generation_left())
    }

    pub(crate) async fn find_give_back(
        &self,
        instruction: &Instruction,
        funding: &str,
        amount: Money,
    ) -> Result<Option<Outcome>, RailError> {
        let charge = self.charge_of(funding).await?;
        self.find_refund(instruction, &charge, amount).await
    }

    async fn find_refund(
        &self,
        instruction: &Instruction,
        charge: &Charge,
        amount: Money,
    ) -> Result<Option<Outcome>, RailError> {
        let expand = ["data.balance_transaction".into()];
        let request = ListRefund::new().charge(&*charge.id).limit(PAGE).expand(expand);
        let page: List<Refund> = self.inner.http.get(&request).await?;
        let ours = |refund: &&Refund| refund.metadata.as_ref().and_then(marks::instruction) == Some(instruction.id);
        let Some(refund) = page.data.iter().find(ours) else { return Ok(declined(instruction, &charge.metadata)) };
        match marks::same_order(&refund.metadata.clone().unwrap_or_default(), instruction) {
            true => self.gave_back(instruction, charge, refund, amount).map(Some),
            false => Err(another_order()),
        }
    }

    fn gave_back(
        &self,
        instruction: &Instruction,
        charge: &Charge,
        refund: &Refund,
        asked: Money,
    ) -> Result<Outcome, RailError> {
        if let Some(status @ ("failed" | "canceled")) = refund.status.as_deref() {
            let message = format!("refund {} is {status}: the payer has not got it", refund.id);
            return Err(RailError::new(RailErrorKind::Refused, message));
        }
        let amount = self.moved(charge, refund.amount, &refund.currency, asked);
        let cost = self.beyond(refund, amount);
        let cost = (cost != 0).then(|| Money::new(cost, amount.currency()));
        Ok(done(instruction, &refund.id, amount, cost))
    }

    /// The charge behind the reference of a receipt.
    async fn charge_of(&self, funding: &str) -> Result<Charge, RailError> {
        match self.inner.config.hold {
            HoldMode::Charge => {
                named(funding, "ch_")?;
                Ok(self.inner.http.get(&RetrieveCharge::new(funding)).await?)
            }
            HoldMode::Authorise { .. } => {
                named(funding, "pi_")?;
                let charge = self.intent(funding).await?.latest_charge;
                let charge = charge.as_ref().and_then(|charge| charge.object().cloned());
                charge.ok_or_else(|| RailError::new(RailErrorKind::Refused, format!("{funding} has no charge")))
            }
        }
    }

    // ---- refusals

    /// Writes down that what an instruction asks for was refused for good.
    async fn mark(
        &self,
        instruction: &Instruction,
        step: &str,
        refused: u32,
        mark: &(impl StripeRequest + Sync),
        why: &StripeError,
    ) -> Result<Outcome, RailError> {
        for generation in refused + 1..=refused + GENERATIONS {
            let key = marks::key(instruction, step, generation);
            match self.inner.http.post::<Named>(mark, &key).await {
                Ok(_) => return Ok(Outcome::Declined(decline(why.code().unwrap_or("refused")))),
                Err(error) if is_spent(&error) => {}
                Err(error) => return Err(unknown(error)),
            }
        }
        Err(no_generation_left())
    }
}

/// Whether a request failed in a way that the next key need not.
fn is_spent(error: &StripeError) -> bool {
    error.kind() == StripeErrorKind::Broken && error.is_replayed()
}

/// What has been done is looked for in vain: that says nothing about it.
fn after_effect(error: RailError) -> RailError {
    RailError::new(RailErrorKind::Unknown, "what was done cannot be read").caused_by(error)
}

fn said(instruction: &Instruction, error: &StripeError) -> (String, String) {
    (marks::refused(instruction), error.code().unwrap_or("refused").to_owned())
}

fn declined(instruction: &Instruction, marks: &HashMap<String, String>) -> Option<Outcome> {
    marks.get(&marks::refused(instruction)).map(|code| Outcome::Declined(decline(code)))
}

fn decline(code: &str) -> Decline {
    Decline { code: code.into(), message: "Stripe does not undo it.".into() }
}

fn done(instruction: &Instruction, reference: &str, amount: Money, cost: Option<Money>) -> Outcome {
    Outcome::Done(Receipt {
        instruction: instruction.id,
        reference: reference.into(),
        amount,
        legs: Vec::new(),
        cost,
        hold_expires_at: None,
    })
}

/// Whether a reference has the form of a name of Stripe's. It becomes a part of a path.
fn named(reference: &str, prefix: &str) -> Result<(), RailError> {
    let plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match reference.strip_prefix(prefix).is_some_and(plain) && reference.len() <= 64 {
        true => Ok(()),
        false => Err(RailError::new(RailErrorKind::Refused, "the reference is none of Stripe's")),
    }
}
