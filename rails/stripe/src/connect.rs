//! Workers' own accounts at Stripe: Connect Express (VP-35).

use std::fmt;

use serde::Deserialize;
use stripe_connect::{
    account::{
        CreateAccount, CreateAccountCapabilities, CreateAccountCapabilitiesTransfers, CreateAccountType,
        RetrieveAccount,
    },
    account_link::{CreateAccountLink, CreateAccountLinkType},
};
use tradepost::{clock::Timestamp, ids::AgentId};

use crate::{
    directory::Fact,
    error::{StripeError, StripeErrorKind},
    http::Sending,
    marks,
    object::{Account, Named},
    rail::StripeRail,
};

/// Workers' accounts. Made by [`StripeRail::connect`].
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    pub(crate) rail: &'a StripeRail,
}

/// Where Stripe sends the worker's browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo {
    /// When onboarding was left, finished or not: ask for the [status](Connect::status) there.
    pub done: String,
    /// When the link was too old: make a new one there.
    pub again: String,
}

/// A page of Stripe's where a worker is onboarded. It is good for a few minutes and one visit; what was
/// entered is kept, so that a new one goes on where the last ended. Its `Debug` does not show the address.
#[derive(Clone, PartialEq, Eq)]
pub struct OnboardingLink {
    /// Its address. For the worker only.
    pub url: String,
    /// Until when it works.
    pub expires_at: Timestamp,
}

impl fmt::Debug for OnboardingLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnboardingLink").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// How far an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountStatus {
    /// Whether the worker has entered everything.
    pub details_submitted: bool,
    /// Whether it can take charges of its own.
    pub charges_enabled: bool,
    /// Whether Stripe sends its money on to a bank.
    pub payouts_enabled: bool,
    /// Whether the platform can transfer to it: shares of divided holds leave for it from then on, and
    /// what was kept for the worker is paid out.
    pub transfers_enabled: bool,
}

impl StripeRail {
    /// Workers' accounts.
    pub const fn connect(&self) -> Connect<'_> {
        Connect { rail: self }
    }
}

impl Connect<'_> {
    /// A link to begin onboarding or to go on with it. The account is made with the first one.
    ///
    /// # Errors
    /// [`StripeError`]
    pub async fn onboard(&self, worker: AgentId, return_to: ReturnTo) -> Result<OnboardingLink, StripeError> {
        #[derive(Deserialize)]
        struct Link {
            url: String,
            expires_at: i64,
        }
        let account = self.account(worker).await?;
        let request = CreateAccountLink::new(account, CreateAccountLinkType::AccountOnboarding)
            .return_url(return_to.done)
            .refresh_url(return_to.again);
        let link = self.rail.inner.http.send::<Link>(&request, Sending::default()).await?.object;
        Ok(OnboardingLink { url: link.url, expires_at: time(link.expires_at)? })
    }

    /// How far a worker's account is; none before onboarding began.
    ///
    /// # Errors
    /// [`StripeError`]
    pub async fn status(&self, worker: AgentId) -> Result<Option<AccountStatus>, StripeError> {
        let Some(account) = self.rail.known(worker).await?.account else { return Ok(None) };
        let account: Account = self.rail.inner.http.get(&RetrieveAccount::new(account)).await?;
        Ok(Some(AccountStatus {
            details_submitted: account.details_submitted,
            charges_enabled: account.charges_enabled,
            payouts_enabled: account.payouts_enabled,
            transfers_enabled: account.takes_transfers(),
        }))
    }

    /// A worker's account: known already, or made.
    async fn account(&self, worker: AgentId) -> Result<String, StripeError> {
        if let Some(account) = self.rail.known(worker).await?.account {
            return Ok(account);
        }
        let mut transfers = CreateAccountCapabilitiesTransfers::new();
        transfers.requested = Some(true);
        let mut capabilities = CreateAccountCapabilities::new();
        capabilities.transfers = Some(transfers);
        let request = CreateAccount::new()
            .type_(CreateAccountType::Express)
            .capabilities(capabilities)
            .metadata([(marks::AGENT.into(), worker.to_string())]);
        let made = self.rail.inner.http.post::<Named>(&request, &format!("account-{worker}")).await?;
        self.rail.remember(worker, Fact::Account(made.object.id.clone())).await?;
        Ok(made.object.id)
    }
}

pub(crate) fn time(seconds: i64) -> Result<Timestamp, StripeError> {
    let nonsense = || StripeError::new(StripeErrorKind::Lost, format!("{seconds} is no moment"));
    Timestamp::from_timestamp(seconds, 0).ok_or_else(nonsense)
}
