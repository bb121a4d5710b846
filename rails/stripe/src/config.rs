//! How the rail is set up.

use std::{fmt, time::Duration};

use rust_decimal::{Decimal, RoundingStrategy};
use tradepost::{
    ids::RailId,
    money::{Currency, Money},
    policy::Span,
};

use crate::error::{StripeError, StripeErrorKind};

/// Stripe's own address.
pub const STRIPE: &str = "https://api.stripe.com";

/// Everything the rail is told at its start. [`StripeConfig::new`] has a default for the rest.
#[derive(Clone, Debug)]
pub struct StripeConfig {
    /// The rail's name in the engine (`stripe`).
    pub rail: RailId,
    /// The currency it moves: the one that the platform's Stripe account settles in.
    pub currency: Currency,
    /// The currency that payers pay in, if it is another one (none).
    pub presentment: Option<Presentment>,
    /// The platform's secret or restricted key.
    pub secret_key: Secret,
    /// The signing secrets of the webhook endpoints. Several are valid at once while one is rotated;
    /// none means that the rail takes no pushes.
    pub webhook_secrets: Vec<Secret>,
    /// Where Stripe is ([`STRIPE`]), without a path.
    pub api_base: String,
    /// How a hold is kept (charged).
    pub hold: HoldMode,
    /// The smallest amount of one charge, in minor units (50: Stripe's minimum for EUR and USD).
    pub least: i64,
    /// The largest amount of one charge, in minor units (99 999 999: Stripe's eight digits).
    pub most: i64,
    /// How long a cardholder may take to act before the payment is called off (24 h).
    pub action_within: Span,
    /// How old a webhook may be when it arrives (5 min).
    pub webhook_tolerance: Span,
    /// How long one request may take (30 s). The engine's lease must be longer than all requests of
    /// one instruction: a division takes one or two for each leg.
    pub timeout: Duration,
    /// The most requests sent in a second (20: under the 25 of a sandbox and of a single endpoint).
    pub requests_per_second: u32,
}

/// Payers pay in another currency than the rail's, and Stripe exchanges what they pay. What the exchange
/// brings more or less than the contract's amount is booked as a part of Stripe's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presentment {
    /// The currency.
    pub currency: Currency,
    /// How many whole units of it are charged for one of the rail's currency, with whatever margin an
    /// exchange at Stripe's rate of the day needs. A payment keeps the rate it was made at.
    pub rate: Decimal,
}

/// How a hold is kept until it is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldMode {
    /// The card is charged at once and the money waits in the platform's balance, for any length of
    /// time. Stripe's fee is due at once and not given back with a refund.
    Charge,
    /// The card is authorised and charged when the hold is divided. A hold that goes back costs
    /// nothing, but it dies by itself when the authorisation does: `lives` is how long the engine may
    /// count on where Stripe names no time (7 days for most cards).
    Authorise {
        /// How long an authorisation lives if Stripe does not say.
        lives: Span,
    },
}

impl StripeConfig {
    /// A rail named `stripe` in this currency, that charges at once.
    pub fn new(secret_key: impl Into<String>, currency: Currency) -> Self {
        Self {
            rail: RailId::new("stripe"),
            currency,
            presentment: None,
            secret_key: Secret::new(secret_key),
            webhook_secrets: Vec::new(),
            api_base: STRIPE.into(),
            hold: HoldMode::Charge,
            least: 50,
            most: 99_999_999,
            action_within: Span::hours(24),
            webhook_tolerance: Span::seconds(300),
            timeout: Duration::from_secs(30),
            requests_per_second: 20,
        }
    }

    /// The currency that payers are charged in.
    pub(crate) fn charged_in(&self) -> Currency {
        self.presentment.map_or(self.currency, |presentment| presentment.currency)
    }

    /// What a payer is charged for an amount, in minor units of the currency that is charged in.
    ///
    /// # Errors
    /// When that does not fit.
    pub(crate) fn presented(&self, amount: Money) -> Result<i64, StripeError> {
        let Some(Presentment { currency, rate }) = self.presentment else { return Ok(amount.minor()) };
        let units = |currency: Currency| Decimal::from(10u64.saturating_pow(currency.exponent().into()));
        let exact = Decimal::from(amount.minor()).checked_mul(rate).and_then(|m| m.checked_mul(units(currency)));
        let exact = exact.and_then(|minor| minor.checked_div(units(self.currency)));
        let whole = exact.map(|minor| minor.round_dp_with_strategy(0, RoundingStrategy::AwayFromZero));
        let too_much =
            || StripeError::new(StripeErrorKind::Configuration, format!("{amount} does not fit into {currency}"));
        whole.and_then(|minor| i64::try_from(minor).ok()).ok_or_else(too_much)
    }

    /// A currency in Stripe's words.
    ///
    /// # Errors
    /// A currency that Stripe does not know, or counts in other units than the engine does.
    pub(crate) fn stripe_currency(currency: Currency) -> Result<stripe_types::Currency, StripeError> {
        let code = currency.code().to_ascii_lowercase();
        let refuse = |why: &str| StripeError::new(StripeErrorKind::Configuration, format!("currency {code}: {why}"));
        let stripe: stripe_types::Currency = code.parse().map_err(|_| refuse("Stripe does not know it"))?;
        if THREE_DECIMALS.contains(&code.as_str()) {
            return Err(refuse("Stripe takes it only in steps of ten units"));
        }
        match currency.exponent() == if NO_DECIMALS.contains(&code.as_str()) { 0 } else { 2 } {
            true => Ok(stripe),
            false => Err(refuse("Stripe counts it in other units")),
        }
    }
}

/// Currencies without a smaller unit (docs.stripe.com/currencies#zero-decimal; UGX is counted in
/// hundredths there and ISK too).
const NO_DECIMALS: [&str; 14] =
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xpf"];
/// Currencies with three decimals, of which Stripe takes two.
const THREE_DECIMALS: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];

/// A key or a signing secret. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
