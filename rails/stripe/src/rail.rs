//! The rail itself.

use std::{fmt, sync::Arc};

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
    object::{Balance, Intent, List, Named},
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
    pub(crate) currency: stripe_types::Currency,
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
        let mut capabilities = vec![Capability::Split, Capability::Payout];
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
            currency: config.stripe_currency()?,
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
            let ours = page.data.iter().filter(|intent| marks::hold(&intent.metadata).is_some());
            sum = ours.fold(sum, |sum, intent| sum.saturating_add(intent.amount_capturable));
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
        }
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.check_currency(instruction)?;
        match &instruction.order {
            Order::Fund { payer, amount, .. } => self.find_fund(instruction, *payer, *amount).await,
            Order::Settle { hold, funding, legs } => self.find_settle(instruction, *hold, funding, legs).await,
            Order::Payout { .. } => self.find_payout(instruction).await,
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
