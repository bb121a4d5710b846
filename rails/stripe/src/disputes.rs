//! Payments that cardholders' banks ask back: chargebacks, which Stripe calls disputes.

use std::time::Duration;

use serde::Deserialize;
use stripe_core::{
    charge::RetrieveCharge,
    dispute::{ListDispute, RetrieveDispute, UpdateDispute, UpdateDisputeEvidence},
};
use tradepost::{
    clock::Timestamp,
    money::Money,
    rail::{Chargeback, ChargebackStage, Observation, ObservationBody, RailError, RailErrorKind},
};

use crate::{
    error::{StripeError, StripeErrorKind},
    marks,
    object::{BalanceTransaction, Charge, Dispute, Event, List, money},
    rail::{PAGE, StripeRail},
};

/// Stripe has taken the money out of the balance.
pub(crate) const WITHDRAWN: &str = "charge.dispute.funds_withdrawn";
/// Stripe has put it back.
pub(crate) const REINSTATED: &str = "charge.dispute.funds_reinstated";
/// The bank has decided.
pub(crate) const CLOSED: &str = "charge.dispute.closed";

/// How long something waits for a bank that decides in weeks.
const WHILE_CONTESTED: Duration = Duration::from_secs(3600);

/// Chargebacks. Made by [`StripeRail::disputes`].
#[derive(Clone, Copy, Debug)]
pub struct Disputes<'a> {
    rail: &'a StripeRail,
}

/// What a platform says against a chargeback. What is left out stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What was ordered.
    pub product_description: Option<String>,
    /// When it was delivered, in words.
    pub service_date: Option<String>,
    /// What the payer did on the platform: the job's history.
    pub access_activity_log: Option<String>,
    /// Why a refund was refused.
    pub refund_refusal_explanation: Option<String>,
    /// Anything else.
    pub text: Option<String>,
}

/// How evidence is handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandIn {
    /// It is kept, to be added to.
    Draft,
    /// It goes to the bank, once and for all.
    Final,
}

/// How far a chargeback is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisputeStatus {
    /// `needs_response`, `under_review`, `won` or `lost`; with `warning_` in front while a bank only asks.
    pub status: String,
    /// What the payer is said to have told the bank: `product_not_received`.
    pub reason: String,
    /// How much is asked back, in what the payer paid in.
    pub amount: Money,
    /// Until when evidence can be handed in; none when the bank takes none.
    pub evidence_due: Option<Timestamp>,
    /// Whether that is over, and nothing was handed in.
    pub too_late: bool,
    /// How often evidence went to the bank; it takes it once.
    pub handed_in: u32,
}

impl StripeRail {
    /// Chargebacks.
    pub const fn disputes(&self) -> Disputes<'_> {
        Disputes { rail: self }
    }

    /// What an event says about a chargeback. Nothing about money that never left, nor about payments that are
    /// not the rail's.
    pub(crate) async fn chargeback(&self, event: Event) -> Result<Option<Observation>, StripeError> {
        let unreadable = |error| StripeError::new(StripeErrorKind::Lost, "a dispute cannot be read").caused_by(error);
        let dispute: Dispute = serde_json::from_value(event.data.object).map_err(unreadable)?;
        let moved = |is: fn(&&BalanceTransaction) -> bool| dispute.balance_transactions.iter().filter(is);
        let (stage, booked): (_, Vec<&BalanceTransaction>) = match event.type_.as_str() {
            WITHDRAWN => {
                let due_by = dispute.evidence_details.as_ref().and_then(|details| details.due_by);
                let evidence_due = due_by.and_then(|at| Timestamp::from_timestamp(at, 0));
                (ChargebackStage::Opened { evidence_due }, moved(|booked| booked.net < 0).collect())
            }
            REINSTATED => (ChargebackStage::Won, moved(|booked| booked.net > 0).collect()),
            _ if dispute.status == "lost" => (ChargebackStage::Lost, Vec::new()),
            _ => return Ok(None),
        };
        if dispute.balance_transactions.is_empty() {
            return Ok(None);
        }
        let charge: Charge = match self.inner.http.get(&RetrieveCharge::new(&*dispute.charge)).await {
            Ok(charge) => charge,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(hold) = marks::hold(&charge.metadata) else { return Ok(None) };
        let amount = self.share(&charge, dispute.amount);
        let ours = self.inner.config.currency;
        let foreign = booked.iter().find(|booked| money(booked.net, &booked.currency, ours).currency() != ours);
        let net = booked.iter().fold(0i64, |sum, booked| sum.saturating_add(booked.net));
        let cost = match (foreign, stage) {
            (Some(booked), _) => money(booked.net, &booked.currency, ours),
            (None, ChargebackStage::Opened { .. }) => Money::new(-net - amount.minor(), ours),
            (None, ChargebackStage::Won) => Money::new(amount.minor() - net, ours),
            (None, ChargebackStage::Lost) => Money::zero(ours),
        };
        let body = ObservationBody::Chargeback(Chargeback { hold, reference: dispute.id, amount, cost, stage });
        Ok(Some(Observation { id: event.id, body }))
    }

    /// What a charge's disputes are.
    pub(crate) async fn disputes_of(&self, charge: &str) -> Result<Vec<Dispute>, StripeError> {
        let page: List<Dispute> = self.inner.http.get(&ListDispute::new().charge(charge).limit(PAGE)).await?;
        Ok(page.data)
    }
}

impl Dispute {
    /// Whether the bank has the money and has not decided.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.status.as_str(), "needs_response" | "under_review")
    }

    /// Whether the payer keeps it.
    pub(crate) fn is_lost(&self) -> bool {
        self.status == "lost"
    }
}

/// Nothing can be moved while the bank decides.
pub(crate) fn contested() -> RailError {
    RailError::new(RailErrorKind::Busy(WHILE_CONTESTED), "the payer's bank has asked for the payment back")
}

impl Disputes<'_> {
    /// How far a chargeback is, by the reference under which it was observed.
    ///
    /// # Errors
    /// [`StripeErrorKind::Unknown`] for a text that names no dispute, or any [`StripeError`].
    pub async fn status(&self, reference: &str) -> Result<DisputeStatus, StripeError> {
        named(reference)?;
        let found: Dispute = self.rail.inner.http.get(&RetrieveDispute::new(reference)).await?;
        let details = found.evidence_details.as_ref();
        Ok(DisputeStatus {
            amount: money(found.amount, &found.currency, self.rail.inner.config.charged_in()),
            evidence_due: details.and_then(|d| d.due_by).and_then(|at| Timestamp::from_timestamp(at, 0)),
            too_late: details.is_some_and(|d| d.past_due && d.submission_count == 0),
            handed_in: details.map_or(0, |d| d.submission_count),
            status: found.status,
            reason: found.reason,
        })
    }

    /// Hands evidence in against a chargeback, by the reference under which it was observed.
    ///
    /// # Errors
    /// [`StripeErrorKind::Unknown`] for a text that names no dispute, or any [`StripeError`]: Stripe refuses
    /// evidence that is too long, and all of it when the time is over.
    pub async fn hand_in(&self, reference: &str, evidence: Evidence, how: HandIn) -> Result<(), StripeError> {
        #[derive(Deserialize)]
        struct Kept {}
        named(reference)?;
        let mut said = UpdateDisputeEvidence::new();
        said.product_description = evidence.product_description;
        said.service_date = evidence.service_date;
        said.access_activity_log = evidence.access_activity_log;
        said.refund_refusal_explanation = evidence.refund_refusal_explanation;
        said.uncategorized_text = evidence.text;
        let request = UpdateDispute::new(reference).evidence(said).submit(how == HandIn::Final);
        let Kept {} = self.rail.inner.http.send(&request, crate::http::Sending::default()).await?.object;
        Ok(())
    }
}

/// Whether a text has the form of a dispute's name. It becomes a part of a path.
fn named(reference: &str) -> Result<(), StripeError> {
    let plain = reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match plain && reference.contains('_') && reference.len() <= 64 {
        true => Ok(()),
        false => Err(StripeError::new(StripeErrorKind::Unknown, "there is no such dispute")),
    }
}
