//! What a division of a hold is, and what of it is found at Stripe.
//!
//! What has landed is read from the objects that were made, so a division that was interrupted goes on where it
//! stood.

use std::collections::HashMap;

use stripe_connect::transfer::ListTransfer;
use stripe_core::{charge::RetrieveCharge, payment_intent::RetrievePaymentIntent};
use stripe_shared::PaymentIntentStatus as Status;
use tradepost::{
    ids::HoldId,
    money::{Currency, Money},
    rail::{Decline, Instruction, Landing, Leg, LegReceipt, Outcome, Party, RailError, RailErrorKind, Receipt},
};

use crate::{
    config::HoldMode,
    error::{StripeError, StripeErrorKind},
    fund::{another_order, unknown},
    marks,
    object::{Charge, Dispute, Expandable, Intent, List, Refund, Transfer, money},
    rail::{PAGE, StripeRail},
};

/// A division under way.
pub(crate) struct Division<'a> {
    pub(crate) instruction: &'a Instruction,
    pub(crate) hold: HoldId,
    /// The reference of the receipt that filled the hold.
    pub(crate) funding: &'a str,
    pub(crate) legs: &'a [Leg],
    /// What has landed, leg by leg.
    pub(crate) landed: Vec<Option<LegReceipt>>,
    /// The charge, once it was read.
    pub(crate) charge: Option<Charge>,
    /// What the capture cost, and what each leg did beyond its amount: an exchange's loss or gain.
    pub(crate) cost: i64,
    pub(crate) costs: Vec<i64>,
}

/// What a division's world looks like.
pub(crate) struct Found {
    pub(crate) charge: Charge,
    pub(crate) intent: Option<Intent>,
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) disputes: Vec<Dispute>,
}

impl<'a> Division<'a> {
    pub(crate) fn new(instruction: &'a Instruction, hold: HoldId, funding: &'a str, legs: &'a [Leg]) -> Self {
        let (landed, costs) = (vec![None; legs.len()], vec![0; legs.len()]);
        Self { instruction, hold, funding, legs, landed, charge: None, cost: 0, costs }
    }

    pub(crate) fn total_to(&self, whom: impl Fn(Party) -> bool) -> i64 {
        let legs = self.legs.iter().filter(|leg| whom(leg.to));
        legs.fold(0, |sum, leg| sum.saturating_add(leg.amount.minor()))
    }

    pub(crate) fn has_begun(&self, found: &Found) -> bool {
        let captured = found.intent.is_some() && found.charge.captured;
        captured || self.landed.iter().any(Option::is_some)
    }

    /// Nothing was ever taken from the payer.
    pub(crate) fn land_with_payer(&mut self, reference: &str) {
        for (landed, leg) in self.landed.iter_mut().zip(self.legs) {
            let reference = reference.to_owned();
            *landed = Some(LegReceipt { to: leg.to, amount: leg.amount, landing: Landing::Outside, reference });
        }
    }

    /// The receipt, when every leg that makes an object has made it.
    fn finished(&mut self, charge: &str, ours: Currency) -> Option<Outcome> {
        for (landed, leg) in self.landed.iter_mut().zip(self.legs) {
            if leg.to == Party::Platform {
                landed.get_or_insert(kept(*leg, charge));
            }
        }
        self.landed.iter().all(Option::is_some).then(|| self.done(charge, ours))
    }

    pub(crate) fn done(&self, charge: &str, ours: Currency) -> Outcome {
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
pub(crate) fn kept(leg: Leg, charge: &str) -> LegReceipt {
    LegReceipt { to: leg.to, amount: leg.amount, landing: Landing::Held, reference: charge.into() }
}

/// Where it is said what a charge's refunds did to the balance.
const REFUNDS: &str = "refunds.data.balance_transaction";

impl StripeRail {
    /// How one leg has landed, if it has.
    pub(crate) async fn landed(&self, division: &Division<'_>, index: usize) -> Result<Option<LegReceipt>, RailError> {
        let found = self.find(division).await.map_err(unknown)?;
        let mut anew = Division::new(division.instruction, division.hold, division.funding, division.legs);
        self.read(&mut anew, &found)?;
        Ok(anew.landed.swap_remove(index))
    }

    /// Everything at Stripe that a division may have made.
    pub(crate) async fn find(&self, division: &Division<'_>) -> Result<Found, StripeError> {
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
    pub(crate) fn read(&self, division: &mut Division<'_>, found: &Found) -> Result<Option<Outcome>, RailError> {
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
            let mark = found.charge.metadata.get(&marks::held(division.instruction, index));
            division.landed[index] = match (transfer, refund, mark) {
                (Some(transfer), ..) => Some(self.transferred(*leg, transfer)),
                (None, Some(refund), _) => {
                    let (receipt, cost) = self.refunded(division, *leg, refund)?;
                    division.costs[index] = cost;
                    Some(receipt)
                }
                (None, None, Some(_)) => Some(kept(*leg, &found.charge.id)),
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

    pub(crate) fn transferred(&self, leg: Leg, transfer: &Transfer) -> LegReceipt {
        let amount = money(transfer.amount, &transfer.currency, self.inner.config.currency);
        LegReceipt { to: leg.to, amount, landing: Landing::Outside, reference: transfer.id.clone() }
    }

    /// Books what a capture did to the balance, and lands what lands with it; false while it is not known.
    pub(crate) fn captured(&self, division: &mut Division<'_>, charge: &Charge, reference: &str) -> bool {
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
                Party::Platform => *landed = Some(kept(*leg, &charge.id)),
                Party::Worker(_) => {}
            }
        }
        true
    }

    /// What a refund gave back, and what it cost beyond that.
    pub(crate) fn refunded(
        &self,
        division: &Division<'_>,
        leg: Leg,
        refund: &Refund,
    ) -> Result<(LegReceipt, i64), RailError> {
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
}

/// The payer has everything back already: by Stripe's own hand, or by somebody in its dashboard.
pub(crate) fn gone() -> Decline {
    Decline { code: "hold_gone".into(), message: "The payer has the money back already.".into() }
}
