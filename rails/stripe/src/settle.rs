//! Dividing a hold.
//!
//! Stripe moves the legs one by one: a worker's share is a transfer tied to the charge, the payer's
//! is a refund, the platform's stays where it is. What has landed is read from the objects that were
//! made, so a division that was interrupted goes on where it stood.
//!
//! A leg that stays in the balance makes no object of its own, so the charge is marked. The mark is
//! written under the leg's own idempotency key: of a transfer and a mark, whichever comes first takes
//! the key, and the other is refused and finds it. A transfer that was refused may have taken the key
//! too, but then it stays refused, and the mark takes the next.

use std::collections::HashMap;

use stripe_connect::transfer::{CreateTransfer, ListTransfer};
use stripe_core::{
    charge::{RetrieveCharge, UpdateCharge},
    payment_intent::{
        CancelPaymentIntent, CancelPaymentIntentCancellationReason, CapturePaymentIntent, RetrievePaymentIntent,
    },
    refund::CreateRefund,
};
use stripe_shared::PaymentIntentStatus as Status;
use tradepost::{
    ids::{AgentId, HoldId},
    money::Money,
    rail::{Decline, Instruction, Landing, Leg, LegReceipt, Outcome, Party, RailError, RailErrorKind, Receipt},
};

use crate::{
    config::HoldMode,
    disputes::contested,
    error::{StripeError, StripeErrorKind},
    fund::{GENERATIONS, another_order, no_generation_left, unknown},
    marks,
    object::{Charge, Dispute, Expandable, Intent, List, Named, Refund, Transfer, money},
    rail::{PAGE, StripeRail},
};

/// A division under way.
struct Division<'a> {
    instruction: &'a Instruction,
    hold: HoldId,
    /// The reference of the receipt that filled the hold.
    funding: &'a str,
    legs: &'a [Leg],
    /// What has landed, leg by leg.
    landed: Vec<Option<LegReceipt>>,
    /// The charge, once it was read.
    charge: Option<Charge>,
    /// What the capture cost, and what each leg did beyond its amount: an exchange's loss or gain.
    cost: i64,
    costs: Vec<i64>,
}

/// What a division's world looks like.
struct Found {
    charge: Charge,
    intent: Option<Intent>,
    transfers: Vec<Transfer>,
    disputes: Vec<Dispute>,
}

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
            let kept = LegReceipt::kept(division.legs[index], charge);
            division.landed[index].get_or_insert(kept);
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
        let first = if let Keep::Refused(generation) = why { generation } else { 0 };
        let mark = (marks::held(division.instruction, index), leg.amount.minor().to_string());
        let request = UpdateCharge::new(charge).metadata([mark]);
        for generation in first..first + GENERATIONS {
            let key = marks::key(division.instruction, &format!("leg{index}"), generation);
            let error = match self.inner.http.post::<Named>(&request, &key).await {
                Ok(_) => return Ok(LegReceipt::kept(leg, charge)),
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
            if !spent && !matches!(why, Keep::Refused(_)) {
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
            // The payer has it from the bank: what others got already stays so, and this is kept.
            if error.as_ref().is_some_and(StripeError::is_about_a_dispute) && !spent && self.is_lost(charge).await? {
                return match division.landed.iter().any(Option::is_some) {
                    true => self.keep(division, index, charge, Keep::Refused(generation)).await,
                    false => Err(RailError::new(RailErrorKind::Refused, "the payer's bank has kept the payment")),
                };
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

    fn transferred(&self, leg: Leg, transfer: &Transfer) -> LegReceipt {
        let amount = money(transfer.amount, &transfer.currency, self.inner.config.currency);
        LegReceipt { to: leg.to, amount, landing: Landing::Outside, reference: transfer.id.clone() }
    }

    async fn is_lost(&self, charge: &str) -> Result<bool, RailError> {
        Ok(self.disputes_of(charge).await.map_err(unknown)?.iter().any(Dispute::is_lost))
    }

    /// Books what a capture did to the balance, and lands what lands with it; false while it is not known.
    fn captured(&self, division: &mut Division<'_>, charge: &Charge, reference: &str) -> bool {
        let taken = division.total_to(|party| !matches!(party, Party::Buyer(_)));
        let taken = Money::new(taken, self.inner.config.currency);
        let taken = self.moved(charge, charge.amount_captured, &charge.currency, taken);
        let Some(cost) = self.cost(charge, taken) else { return false };
        division.cost = cost.minor();
        division.charge = Some(charge.clone());
        let left = charge.amount.saturating_sub(charge.amount_captured);
        for (landed, leg) in division.landed.iter_mut().zip(division.legs) {
            match leg.to {
                Party::Buyer(_) => {
                    // What is left over is the payer's, to the last unit that an exchange has rounded.
                    let amount = match taken.currency() == self.inner.config.currency {
                        true if charge.currency != self.inner.config.currency.code().to_ascii_lowercase() => leg.amount,
                        _ => money(left, &charge.currency, self.inner.config.currency),
                    };
                    let reference = reference.to_owned();
                    *landed = Some(LegReceipt { to: leg.to, amount, landing: Landing::Outside, reference });
                }
                Party::Platform => *landed = Some(LegReceipt::kept(*leg, &charge.id)),
                Party::Worker(_) => {}
            }
        }
        true
    }

    /// What a refund gave back, and what it cost beyond that.
    fn refunded(&self, division: &Division<'_>, leg: Leg, refund: &Refund) -> Result<(LegReceipt, i64), RailError> {
        match refund.status.as_deref() {
            Some("succeeded" | "pending" | "requires_action") | None => {}
            Some(status) => {
                let message = format!("refund {} is {status}: the payer has not got it", refund.id);
                return Err(RailError::new(RailErrorKind::Refused, message));
            }
        }
        let amount = match &division.charge {
            Some(charge) => self.moved(charge, refund.amount, &refund.currency, leg.amount),
            None => money(refund.amount, &refund.currency, self.inner.config.currency),
        };
        let cost = self.beyond(refund, amount);
        Ok((LegReceipt { to: leg.to, amount, landing: Landing::Outside, reference: refund.id.clone() }, cost))
    }

    /// What a refund took from the balance beyond its amount, in minor units.
    pub(crate) fn beyond(&self, refund: &Refund, amount: Money) -> i64 {
        let Some(booked) = refund.balance_transaction.as_ref().and_then(Expandable::object) else { return 0 };
        let net = money(booked.net, &booked.currency, self.inner.config.currency);
        if net.currency() == amount.currency() { -net.minor() - amount.minor() } else { 0 }
    }

    /// How one leg has landed, if it has.
    async fn landed(&self, division: &Division<'_>, index: usize) -> Result<Option<LegReceipt>, RailError> {
        let found = self.find(division).await.map_err(unknown)?;
        let mut anew = Division::new(division.instruction, division.hold, division.funding, division.legs);
        self.read(&mut anew, &found)?;
        Ok(anew.landed.swap_remove(index))
    }

    /// Everything at Stripe that a division may have made.
    async fn find(&self, division: &Division<'_>) -> Result<Found, StripeError> {
        let list = ListTransfer::new().transfer_group(marks::hold_group(division.hold)).limit(PAGE);
        let transfers: List<Transfer> = self.inner.http.get(&list).await?;
        let (charge, intent) = match self.inner.config.hold {
            HoldMode::Charge => {
                let request = RetrieveCharge::new(division.funding).expand([REFUNDS.into()]);
                (self.inner.http.get::<Charge>(&request).await?, None)
            }
            HoldMode::Authorise { .. } => {
                let expand = ["latest_charge.balance_transaction".into(), format!("latest_charge.{REFUNDS}")];
                let request = RetrievePaymentIntent::new(division.funding).expand(expand);
                let intent: Intent = self.inner.http.get(&request).await?;
                let charge = intent.latest_charge.as_ref().and_then(Expandable::object).cloned();
                let no_charge = || StripeError::new(StripeErrorKind::Lost, "a payment has no charge");
                (charge.ok_or_else(no_charge)?, Some(intent))
            }
        };
        let disputes = if charge.disputed { self.disputes_of(&charge.id).await? } else { Vec::new() };
        Ok(Found { charge, intent, transfers: transfers.data, disputes })
    }

    /// Reads what has landed, and the outcome if it is final.
    fn read(&self, division: &mut Division<'_>, found: &Found) -> Result<Option<Outcome>, RailError> {
        let (id, ours) = (division.instruction.id, self.inner.config.currency);
        let refunds = found.charge.refunds.as_ref().map_or(&[][..], |list| &list.data);
        let of_refund = |refund: &Refund| refund.metadata.clone().unwrap_or_default();
        let marked = found.transfers.iter().map(|t| t.metadata.clone()).chain(refunds.iter().map(of_refund));
        let strangers = marked.filter(|marks| marks::instruction(marks) == Some(id));
        if strangers.into_iter().any(|marks| !marks::same_order(&marks, division.instruction)) {
            return Err(another_order());
        }
        let is = |marks: &HashMap<String, String>, index| {
            marks::instruction(marks) == Some(id) && marks::leg(marks) == Some(index)
        };
        division.charge = Some(found.charge.clone());
        for (index, leg) in division.legs.iter().enumerate() {
            let transfer = found.transfers.iter().find(|transfer| is(&transfer.metadata, index));
            let refund = refunds.iter().find(|refund| is(&of_refund(refund), index));
            let kept = found.charge.metadata.get(&marks::held(division.instruction, index));
            division.landed[index] = match (transfer, refund, kept) {
                (Some(transfer), ..) => Some(self.transferred(*leg, transfer)),
                (None, Some(refund), _) => {
                    let (receipt, cost) = self.refunded(division, *leg, refund)?;
                    division.costs[index] = cost;
                    Some(receipt)
                }
                (None, None, Some(_)) => Some(LegReceipt::kept(*leg, &found.charge.id)),
                (None, None, None) => None,
            };
        }
        if let Some(intent) = &found.intent {
            return Ok(self.read_authorised(division, found, intent));
        }
        if division.landed.iter().all(Option::is_none) {
            return Ok((found.charge.refunded || found.is_short()).then(|| Outcome::Declined(gone())));
        }
        Ok(division.finished(&found.charge.id, ours))
    }

    fn read_authorised(&self, division: &mut Division<'_>, found: &Found, intent: &Intent) -> Option<Outcome> {
        let ours = self.inner.config.currency;
        if intent.status() == Status::Canceled {
            let by_us = intent.cancellation_reason.as_deref() == Some("requested_by_customer");
            if !by_us || division.total_to(|party| !matches!(party, Party::Buyer(_))) > 0 {
                return Some(Outcome::Declined(gone()));
            }
            division.land_with_payer(&intent.id);
            return Some(division.done(&found.charge.id, ours));
        }
        if !found.charge.captured {
            return None;
        }
        if !self.captured(division, &found.charge, &intent.id) {
            return Some(Outcome::Pending { reference: found.charge.id.clone() });
        }
        division.finished(&found.charge.id, ours)
    }
}

/// Where it is said what a charge's refunds did to the balance.
const REFUNDS: &str = "refunds.data.balance_transaction";

/// The mark on a payment of who captured it.
const SETTLED_BY: &str = "tradepost_settled_by";

/// Why a leg stays in the balance.
#[derive(Clone, Copy)]
enum Keep {
    /// The worker has no account.
    NoAccount,
    /// Stripe refused the transfer that used the key of this generation.
    Refused(u32),
    /// The platform gets all of it.
    All,
}

impl<'a> Division<'a> {
    fn new(instruction: &'a Instruction, hold: HoldId, funding: &'a str, legs: &'a [Leg]) -> Self {
        let (landed, costs) = (vec![None; legs.len()], vec![0; legs.len()]);
        Self { instruction, hold, funding, legs, landed, charge: None, cost: 0, costs }
    }

    fn total_to(&self, whom: impl Fn(Party) -> bool) -> i64 {
        let legs = self.legs.iter().filter(|leg| whom(leg.to));
        legs.fold(0, |sum, leg| sum.saturating_add(leg.amount.minor()))
    }

    fn has_begun(&self, found: &Found) -> bool {
        let captured = found.intent.is_some() && found.charge.captured;
        captured || self.landed.iter().any(Option::is_some)
    }

    /// Nothing was ever taken from the payer.
    fn land_with_payer(&mut self, reference: &str) {
        for (landed, leg) in self.landed.iter_mut().zip(self.legs) {
            let reference = reference.to_owned();
            *landed = Some(LegReceipt { to: leg.to, amount: leg.amount, landing: Landing::Outside, reference });
        }
    }

    /// The receipt, when every leg that makes an object has made it.
    fn finished(&mut self, charge: &str, ours: tradepost::money::Currency) -> Option<Outcome> {
        for (landed, leg) in self.landed.iter_mut().zip(self.legs) {
            if leg.to == Party::Platform {
                landed.get_or_insert(LegReceipt::kept(*leg, charge));
            }
        }
        self.landed.iter().all(Option::is_some).then(|| self.done(charge, ours))
    }

    fn done(&self, charge: &str, ours: tradepost::money::Currency) -> Outcome {
        let legs: Vec<LegReceipt> = self.landed.iter().flatten().cloned().collect();
        let cost = self.costs.iter().fold(self.cost, |sum, cost| sum.saturating_add(*cost));
        let moved = legs.iter().fold(0i64, |sum, leg| sum.saturating_add(leg.amount.minor()));
        let currency = legs.iter().map(|leg| leg.amount.currency()).find(|currency| *currency != ours).unwrap_or(ours);
        Outcome::Done(Receipt {
            instruction: self.instruction.id,
            reference: charge.into(),
            amount: Money::new(moved, currency),
            legs,
            cost: (cost != 0).then(|| Money::new(cost, ours)),
            hold_expires_at: None,
        })
    }
}

impl Found {
    /// Whether the payer has some of it from the bank.
    fn is_short(&self) -> bool {
        self.disputes.iter().any(Dispute::is_lost)
    }
}

/// A leg that stays in the platform's balance.
trait Kept {
    fn kept(leg: Leg, charge: &str) -> Self;
}

impl Kept for LegReceipt {
    fn kept(leg: Leg, charge: &str) -> Self {
        Self { to: leg.to, amount: leg.amount, landing: Landing::Held, reference: charge.into() }
    }
}

/// The payer has everything back already: by Stripe's own hand, or by somebody in its dashboard.
fn gone() -> Decline {
    Decline { code: "hold_gone".into(), message: "The payer has the money back already.".into() }
}

fn no_such_hold(funding: &str) -> RailError {
    RailError::new(RailErrorKind::Refused, format!("{funding} is no payment"))
}

fn unsure(what: &str) -> RailError {
    RailError::new(RailErrorKind::Unknown, format!("{what} may have happened"))
}
