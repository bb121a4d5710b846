//! Stripe's objects, as far as the rail relies on them.
//!
//! Requests are built with async-stripe's generated types. Answers are read into these narrow ones:
//! an answer about money that has moved must not become unreadable because a field that nobody needs
//! was added, renamed or left out.

use std::{collections::HashMap, fmt};

use serde::Deserialize;
use stripe_shared::PaymentIntentStatus;
use tradepost::money::{Currency, Money};

/// A payment: one attempt to take money from a payer.
#[derive(Clone, Deserialize)]
pub(crate) struct Intent {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) created: i64,
    #[serde(default)]
    pub(crate) amount_capturable: i64,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    pub(crate) client_secret: Option<String>,
    pub(crate) cancellation_reason: Option<String>,
    #[serde(default)]
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) latest_charge: Option<Expandable<Charge>>,
    pub(crate) last_payment_error: Option<PaymentError>,
}

impl Intent {
    pub(crate) fn status(&self) -> PaymentIntentStatus {
        self.status.parse().unwrap_or(PaymentIntentStatus::Unknown(String::new()))
    }

    /// The charge that took the money or reserved it.
    pub(crate) fn paid(&self) -> Option<&Charge> {
        self.latest_charge.as_ref()?.object().filter(|charge| charge.status == "succeeded")
    }
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intent").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}

/// Why a payment was not made.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PaymentError {
    pub(crate) code: Option<String>,
    pub(crate) decline_code: Option<String>,
    pub(crate) message: Option<String>,
}

/// Money taken from a card, or reserved on it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Charge {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) amount: i64,
    #[serde(default)]
    pub(crate) amount_captured: i64,
    pub(crate) currency: String,
    pub(crate) captured: bool,
    pub(crate) refunded: bool,
    /// Whether a cardholder's bank has ever asked for it back.
    #[serde(default)]
    pub(crate) disputed: bool,
    #[serde(default)]
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) balance_transaction: Option<Expandable<BalanceTransaction>>,
    pub(crate) refunds: Option<List<Refund>>,
    pub(crate) payment_method_details: Option<MethodDetails>,
}

impl Charge {
    /// When the authorisation dies.
    pub(crate) fn capture_before(&self) -> Option<i64> {
        self.payment_method_details.as_ref()?.card.as_ref()?.capture_before
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MethodDetails {
    pub(crate) card: Option<CardDetails>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CardDetails {
    pub(crate) capture_before: Option<i64>,
}

/// What an effect did to the platform's balance, in the balance's currency: fees are taken off, and an
/// exchange is done.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BalanceTransaction {
    pub(crate) net: i64,
    pub(crate) currency: String,
}

/// A payment that a cardholder's bank asks back, which Stripe calls a dispute.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Dispute {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    #[serde(default)]
    pub(crate) reason: String,
    pub(crate) charge: String,
    #[serde(default)]
    pub(crate) balance_transactions: Vec<BalanceTransaction>,
    pub(crate) evidence_details: Option<EvidenceDetails>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EvidenceDetails {
    pub(crate) due_by: Option<i64>,
    #[serde(default)]
    pub(crate) past_due: bool,
    #[serde(default)]
    pub(crate) submission_count: u32,
}

/// Money taken back from a connected account.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Reversal {
    pub(crate) id: String,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    #[serde(default)]
    pub(crate) metadata: Option<HashMap<String, String>>,
}

/// Money on its way back to a card.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Refund {
    pub(crate) id: String,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    pub(crate) status: Option<String>,
    #[serde(default)]
    pub(crate) metadata: Option<HashMap<String, String>>,
    pub(crate) balance_transaction: Option<Expandable<BalanceTransaction>>,
}

/// Money moved to a connected account.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) id: String,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    #[serde(default)]
    pub(crate) metadata: HashMap<String, String>,
}

/// A connected account.
#[derive(Debug, Deserialize)]
pub(crate) struct Account {
    #[serde(default)]
    pub(crate) charges_enabled: bool,
    #[serde(default)]
    pub(crate) payouts_enabled: bool,
    #[serde(default)]
    pub(crate) details_submitted: bool,
    #[serde(default)]
    pub(crate) capabilities: HashMap<String, String>,
    #[serde(default)]
    pub(crate) metadata: HashMap<String, String>,
}

impl Account {
    pub(crate) fn takes_transfers(&self) -> bool {
        self.capabilities.get("transfers").is_some_and(|capability| capability == "active")
    }
}

/// Something that was created, of which only the name matters.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) id: String,
}

/// The platform's balance.
#[derive(Debug, Deserialize)]
pub(crate) struct Balance {
    pub(crate) available: Vec<Part>,
    pub(crate) pending: Vec<Part>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Part {
    pub(crate) amount: i64,
    pub(crate) currency: String,
}

/// Something that happened at Stripe.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) type_: String,
    /// The connected account it happened at; none for the platform's own.
    pub(crate) account: Option<String>,
    pub(crate) data: EventData,
}

/// The object as it was when it happened: a payment, a charge or a dispute.
#[derive(Debug, Deserialize)]
pub(crate) struct EventData {
    pub(crate) object: serde_json::Value,
}

/// What payments and charges have in their events.
#[derive(Debug, Deserialize)]
pub(crate) struct Marked {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) metadata: HashMap<String, String>,
}

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct List<T> {
    pub(crate) data: Vec<T>,
    #[serde(default)]
    pub(crate) has_more: bool,
}

/// An object, or only its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Expandable<T> {
    Object(Box<T>),
    Name(serde::de::IgnoredAny),
}

impl<T> Expandable<T> {
    pub(crate) fn object(&self) -> Option<&T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Name(_) => None,
        }
    }
}

/// An amount as Stripe says it, in Stripe's own currency: it is compared, never assumed.
pub(crate) fn money(minor: i64, currency: &str, expected: Currency) -> Money {
    let code = currency.to_ascii_uppercase();
    let currency = if code == expected.code() { Ok(expected) } else { Currency::new(&code, expected.exponent()) };
    // A code that is no currency at all must differ from every expected one.
    Money::new(
        minor,
        currency.unwrap_or_else(|_| if expected == Currency::CREDIT { Currency::EUR } else { Currency::CREDIT }),
    )
}
