//! The rail itself.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use stripe_core::{balance::RetrieveForMyAccountBalance, customer::CreateCustomer, payment_intent::ListPaymentIntent};
use tradepost::{
    clock::{Clock, Timestamp},
    ids::AgentId,
    money::Money,
    policy::{Range, Span},
    rail::{
        Capability, Cursor, Custody, Holdings, Instruction, Observation, Observations, Order, Outcome, Push, RailError,
        RailErrorKind, RailProfile, SettlementRail,
    },
};

use crate::{
    config::{HoldMode, StripeConfig},
    directory::{Directory, Fact, Known},
    error::{StripeError, StripeErrorKind},
    http::Http,
    marks,
    object::{Balance, Charge, Intent, List, Named, money},
    webhook,
};

/// How many objects one page of a list has.
pub(crate) const PAGE: i64 = 100;
/// How many pages are read of one list.
pub(crate) const PAGES: usize = 500;
/// How long a cardholder may take a payment back: Visa's and Mastercard's 120 days.
const CHARGEBACK: Span = Span::hours(120 * 24);
/// The longest an authorisation lives anywhere (extended authorisations: 30 days), in seconds.
const LONGEST_AUTHORISATION: i64 = 31 * 86_400;

/// Money by card into escrow and out to connected accounts, through Stripe. Clones share everything.
///
/// # How it keeps the rail's contract
///
/// The rail keeps nothing itself. What it did is read from Stripe: every object that it makes carries
/// the instruction's id, a digest of its order and the leg; every request that makes one carries a key
/// made of the same. While Stripe certainly keeps that key, a request is simply repeated; when the
/// contract is older, the rail looks before it acts. A saved failure is followed by the next key only
/// when looking proved that nothing was made.
///
/// A hold's legs move one by one. A leg for a worker without an account that can take it stays in the
/// platform's balance ([`Landing::Held`](tradepost::rail::Landing::Held)) and the charge is marked so,
/// under the very key that a transfer would need, so that never both happen. A division that has begun
/// and not ended is carried on by [`lookup`](SettlementRail::lookup).
#[derive(Clone)]
pub struct StripeRail {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) http: Http,
    pub(crate) config: StripeConfig,
    /// What it settles in.
    pub(crate) currency: stripe_types::Currency,
    /// What payers are charged in.
    pub(crate) charged_in: stripe_types::Currency,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) clock: Arc<dyn Clock>,
    profile: RailProfile,
}

impl fmt::Debug for StripeRail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeRail").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl StripeRail {
    /// A rail that is ready to use; nothing is sent yet.
    ///
    /// # Errors
    /// [`StripeErrorKind::Configuration`]
    pub fn new(config: StripeConfig, directory: impl Directory, clock: Arc<dyn Clock>) -> Result<Self, StripeError> {
        let mut capabilities = vec![Capability::Split, Capability::Payout, Capability::Reverse];
        if !config.webhook_secrets.is_empty() {
            capabilities.push(Capability::Push);
        }
        let profile = RailProfile {
            id: config.rail,
            currency: config.currency,
            custody: Custody::PerHold,
            capabilities,
            amounts: Range { min: config.least, max: config.most },
            hold_expiry: match config.hold {
                HoldMode::Charge => None,
                HoldMode::Authorise { lives } => Some(lives),
            },
            reversible_for: Some(CHARGEBACK),
        };
        let inner = Inner {
            http: Http::new(&config)?,
            currency: StripeConfig::stripe_currency(config.currency)?,
            charged_in: StripeConfig::stripe_currency(config.charged_in())?,
            config,
            directory: Arc::new(directory),
            clock,
            profile,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    pub(crate) async fn known(&self, agent: AgentId) -> Result<Known, StripeError> {
        self.inner.directory.known(agent).await.map_err(directory)
    }

    pub(crate) async fn remember(&self, agent: AgentId, fact: Fact) -> Result<(), StripeError> {
        self.inner.directory.remember(agent, fact).await.map_err(directory)
    }

    /// An agent as a payer: known already, or made.
    pub(crate) async fn customer(&self, agent: AgentId) -> Result<(String, Known), StripeError> {
        let known = self.known(agent).await?;
        if let Some(customer) = known.customer.clone() {
            return Ok((customer, known));
        }
        let request = CreateCustomer::new().metadata([(marks::AGENT.into(), agent.to_string())]);
        let made = self.inner.http.post::<Named>(&request, &format!("customer-{agent}")).await?;
        self.remember(agent, Fact::Customer(made.object.id.clone())).await?;
        Ok((made.object.id, known))
    }

    /// Refuses an order in another currency before anything is sent.
    fn check_currency(&self, instruction: &Instruction) -> Result<(), RailError> {
        let ours = self.inner.config.currency;
        let legs: &[_] = if let Order::Settle { legs, .. } = &instruction.order { legs } else { &[] };
        let amounts = legs.iter().map(|leg| leg.amount).chain([instruction.order.amount()]);
        for amount in amounts {
            if amount.currency() != ours || !amount.is_positive() {
                let message = format!("{amount} is not more than nothing in {ours}");
                return Err(RailError::new(RailErrorKind::Refused, message));
            }
        }
        Ok(())
    }

    /// What a payment is worth in the rail's currency. A payment in another currency says so itself, if it is
    /// of the amount that was asked for.
    pub(crate) fn worth(&self, amount: i64, currency: &str, marks: &HashMap<String, String>) -> Money {
        let config = &self.inner.config;
        let as_it_is = money(amount, currency, config.currency);
        let number = |mark: &str| marks.get(mark)?.parse::<i64>().ok();
        let charged_in = config.charged_in().code().to_ascii_lowercase();
        match (number(marks::WORTH), number(marks::PRESENTED)) {
            _ if as_it_is.currency() == config.currency => as_it_is,
            (Some(worth), Some(asked)) if asked == amount && currency == charged_in => {
                Money::new(worth, config.currency)
            }
            _ => as_it_is,
        }
    }

    /// What a part of a charge, in the currency it was made in, is worth in the rail's.
    pub(crate) fn share(&self, charge: &Charge, minor: i64) -> Money {
        let whole = self.worth(charge.amount, &charge.currency, &charge.metadata);
        let exact = i128::from(whole.minor()) * i128::from(minor) / i128::from(charge.amount.max(1));
        Money::new(i64::try_from(exact).unwrap_or(i64::MAX), whole.currency())
    }

    /// What an amount is of a charge, in the currency it was made in; rounded down, so that parts fit.
    pub(crate) fn part(&self, charge: &Charge, amount: Money) -> i64 {
        let whole = self.worth(charge.amount, &charge.currency, &charge.metadata).minor();
        let exact = i128::from(charge.amount) * i128::from(amount.minor()) / i128::from(whole.max(1));
        i64::try_from(exact).unwrap_or(i64::MAX)
    }

    /// What moved of a charge: what was asked for, if that is what it is.
    pub(crate) fn moved(&self, charge: &Charge, minor: i64, currency: &str, asked: Money) -> Money {
        match currency == charge.currency && minor == self.part(charge, asked) {
            true => Money::new(asked.minor(), self.worth(charge.amount, &charge.currency, &charge.metadata).currency()),
            false => money(minor, currency, self.inner.config.currency),
        }
    }

    /// What is reserved on cards and not taken yet.
    async fn authorised(&self) -> Result<i64, StripeError> {
        let since = marks::from(self.now().timestamp() - LONGEST_AUTHORISATION);
        let (mut sum, mut after) = (0i64, None::<String>);
        for _ in 0..PAGES {
            let mut request = ListPaymentIntent::new().limit(PAGE).created(since);
            if let Some(after) = after {
                request = request.starting_after(after);
            }
            let page: List<Intent> = self.inner.http.get(&request).await?;
            let ours = page.data.iter().filter(|intent| intent.amount_capturable > 0);
            let ours = ours.filter(|intent| marks::hold(&intent.metadata).is_some());
            let worth = |intent: &Intent| self.worth(intent.amount, &intent.currency, &intent.metadata).minor();
            sum = ours.fold(sum, |sum, intent| sum.saturating_add(worth(intent)));
            after = page.data.last().map(|intent| intent.id.clone()).filter(|_| page.has_more);
            if after.is_none() {
                return Ok(sum);
            }
        }
        Err(too_long("payments"))
    }
}

fn directory(error: crate::directory::DirectoryError) -> StripeError {
    StripeError::new(StripeErrorKind::Directory, "it did not answer").caused_by(error)
}

/// A list that has no end within reason.
pub(crate) fn too_long(what: &str) -> StripeError {
    StripeError::new(StripeErrorKind::Lost, format!("more than {} {what}", PAGE.unsigned_abs() as usize * PAGES))
}

#[async_trait]
impl SettlementRail for StripeRail {
    fn profile(&self) -> &RailProfile {
        &self.inner.profile
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.check_currency(instruction)?;
        match &instruction.order {
            Order::Fund { hold, payer, amount, .. } => self.fund(instruction, *hold, *payer, *amount).await,
            Order::Settle { hold, funding, legs } => self.settle(instruction, *hold, funding, legs).await,
            Order::Payout { agent, destination, amount } => {
                self.payout(instruction, *agent, destination.as_deref(), *amount).await
            }
            Order::Reverse { leg, amount, .. } => self.reverse(instruction, leg, *amount).await,
            Order::Refund { funding, amount, .. } => self.give_back(instruction, funding, *amount).await,
        }
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.check_currency(instruction)?;
        match &instruction.order {
            Order::Fund { payer, amount, .. } => self.find_fund(instruction, *payer, *amount).await,
            Order::Settle { hold, funding, legs } => self.find_settle(instruction, *hold, funding, legs).await,
            Order::Payout { .. } => self.find_payout(instruction).await,
            Order::Reverse { leg, .. } => self.find_reverse(instruction, leg).await,
            Order::Refund { funding, amount, .. } => self.find_give_back(instruction, funding, *amount).await,
        }
    }

    /// Observations from Stripe's list of events, which reaches back 30 days. A payment that went on
    /// is told as pending, so that the engine looks it up: an event is a snapshot from before the fee
    /// was known.
    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        Ok(self.events_after(after).await?)
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        let config = &self.inner.config;
        if config.webhook_secrets.is_empty() {
            return Err(RailError::new(RailErrorKind::Unsupported, "no webhook secret is configured"));
        }
        webhook::verify(push, &config.webhook_secrets, config.webhook_tolerance)?;
        crate::events::read(&push.body)
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        let balance: Balance = self.inner.http.get(&RetrieveForMyAccountBalance::new()).await?;
        let code = self.inner.currency.to_string();
        let parts = balance.available.iter().chain(&balance.pending).filter(|part| part.currency == code);
        let mut total = parts.fold(0i64, |sum, part| sum.saturating_add(part.amount));
        if matches!(self.inner.config.hold, HoldMode::Authorise { .. }) {
            total = total.saturating_add(self.authorised().await?);
        }
        Ok(Holdings { total: Money::new(total, self.inner.config.currency), holds: Vec::new() })
    }
}
