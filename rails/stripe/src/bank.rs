//! What a worker's own account at Stripe has, and sends on to its bank (VP-36).
//!
//! That money is the worker's already: it has left the platform's balance, so nothing here is in the ledger.

use serde::Deserialize;
use stripe_core::{
    balance::RetrieveForMyAccountBalance,
    payout::{CreatePayout, ListPayout},
};
use tradepost::{clock::Timestamp, ids::AgentId, money::Money};

use crate::{
    connect::{Connect, time},
    error::{StripeError, StripeErrorKind},
    fund::GENERATIONS,
    http::Sending,
    marks,
    object::{Balance, List, Part, money},
    rail::PAGE,
};

/// What a worker's account has, in the rail's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountBalance {
    /// What can be sent to the bank.
    pub available: Money,
    /// What can be later: a share becomes available when the charge that it comes from does.
    pub pending: Money,
}

/// Money on its way from a worker's account to its bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankPayout {
    /// What Stripe calls it: `po_…`.
    pub id: String,
    /// How much.
    pub amount: Money,
    /// When it was sent.
    pub created: Timestamp,
    /// When the bank has it, or should.
    pub arrives: Timestamp,
    /// `paid`, `pending`, `in_transit`, `canceled` or `failed`.
    pub status: String,
    /// Whether Stripe sent it by the account's schedule, and not because [`Connect::pay_out`] said so.
    pub automatic: bool,
    /// Why the bank did not take it, in Stripe's word (`account_closed`); then the account has the money again.
    pub failure: Option<String>,
}

/// The longest name of a payout, in characters.
const LONGEST: usize = 100;

#[derive(Deserialize)]
struct Payout {
    id: String,
    amount: i64,
    currency: String,
    created: i64,
    arrival_date: i64,
    status: String,
    #[serde(default)]
    automatic: bool,
    failure_code: Option<String>,
    #[serde(default)]
    metadata: Option<std::collections::HashMap<String, String>>,
}

impl Connect<'_> {
    /// What a worker's account has; none before onboarding began.
    ///
    /// # Errors
    /// [`StripeError`]
    pub async fn balance(&self, worker: AgentId) -> Result<Option<AccountBalance>, StripeError> {
        let Some(account) = self.rail.known(worker).await?.account else { return Ok(None) };
        let request = RetrieveForMyAccountBalance::new();
        let balance = self.rail.inner.http.send::<Balance>(&request, of(&account)).await?.object;
        let code = self.rail.inner.currency.to_string();
        let sum = |parts: &[Part]| {
            let ours = parts.iter().filter(|part| part.currency == code);
            Money::new(ours.fold(0i64, |sum, part| sum.saturating_add(part.amount)), self.rail.inner.config.currency)
        };
        Ok(Some(AccountBalance { available: sum(&balance.available), pending: sum(&balance.pending) }))
    }

    /// Sends money from a worker's account on to its bank, for accounts whose payouts are manual, or sooner than
    /// Stripe would by itself. `name` is the caller's own for this payout, 1 to 100 visible ASCII characters:
    /// repeated under the same name, it is sent once, for a day at least and as long as it is among the account's
    /// newest hundred. One that the bank sent back keeps its name; another try has another.
    ///
    /// # Errors
    /// [`StripeErrorKind::Unknown`] without an account, [`StripeErrorKind::Configuration`] for a name or an amount
    /// that cannot be, [`StripeErrorKind::KeyReused`] when the name was another amount's, or any [`StripeError`]:
    /// Stripe refuses what the account does not have or may not send.
    pub async fn pay_out(&self, worker: AgentId, amount: Money, name: &str) -> Result<BankPayout, StripeError> {
        let refuse = |kind, why: String| Err(StripeError::new(kind, why));
        if name.len() > LONGEST || name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = format!("a payout's name has 1 to {LONGEST} visible ASCII characters");
            return refuse(StripeErrorKind::Configuration, why);
        }
        let ours = self.rail.inner.config.currency;
        if amount.currency() != ours || !amount.is_positive() {
            return refuse(StripeErrorKind::Configuration, format!("{amount} is not more than nothing in {ours}"));
        }
        let Some(account) = self.rail.known(worker).await?.account else {
            return refuse(StripeErrorKind::Unknown, format!("{worker} has no account at Stripe yet"));
        };
        for generation in 0..GENERATIONS {
            // A key is kept for a day; the name is on the payout for ever.
            if let Some(found) = self.named(&account, name).await? {
                return match found.amount == amount {
                    true => Ok(found),
                    false => refuse(StripeErrorKind::KeyReused, format!("{name} was a payout of {}", found.amount)),
                };
            }
            let request = CreatePayout::new(amount.minor(), self.rail.inner.currency.clone())
                .metadata([(marks::PAYOUT.into(), name.to_owned())]);
            let key = format!("bank-{account}-{generation}-{name}");
            let sending = Sending { key: Some(&key), account: Some(&account) };
            match self.rail.inner.http.send::<Payout>(&request, sending).await {
                Ok(reply) => return self.bank_payout(reply.object),
                // The key keeps the refusal, but the account may have the money by now.
                Err(error) if error.is_replayed() => {}
                Err(error) => return Err(error),
            }
        }
        refuse(StripeErrorKind::Broken, format!("Stripe refused {GENERATIONS} times; wait until it forgets the keys"))
    }

    /// What a worker's account sent to its bank, by its schedule or by command, newest first: a page of at most
    /// a hundred, of those older than the one that is named.
    ///
    /// # Errors
    /// [`StripeError`]
    pub async fn bank_payouts(
        &self,
        worker: AgentId,
        older_than: Option<&str>,
    ) -> Result<Vec<BankPayout>, StripeError> {
        let Some(account) = self.rail.known(worker).await?.account else { return Ok(Vec::new()) };
        let mut request = ListPayout::new().limit(PAGE);
        if let Some(older_than) = older_than {
            request = request.starting_after(older_than);
        }
        let page = self.rail.inner.http.send::<List<Payout>>(&request, of(&account)).await?.object;
        page.data.into_iter().map(|payout| self.bank_payout(payout)).collect()
    }

    /// The payout of a name, among the newest hundred.
    async fn named(&self, account: &str, name: &str) -> Result<Option<BankPayout>, StripeError> {
        let page = self.rail.inner.http.send::<List<Payout>>(&ListPayout::new().limit(PAGE), of(account)).await?;
        let has_it =
            |payout: &Payout| payout.metadata.as_ref().and_then(|m| m.get(marks::PAYOUT)).is_some_and(|n| n == name);
        page.object.data.into_iter().find(has_it).map(|payout| self.bank_payout(payout)).transpose()
    }

    fn bank_payout(&self, payout: Payout) -> Result<BankPayout, StripeError> {
        Ok(BankPayout {
            amount: money(payout.amount, &payout.currency, self.rail.inner.config.currency),
            created: time(payout.created)?,
            arrives: time(payout.arrival_date)?,
            id: payout.id,
            status: payout.status,
            automatic: payout.automatic,
            failure: payout.failure_code,
        })
    }
}

/// In the name of a connected account.
fn of(account: &str) -> Sending<'_> {
    Sending { key: None, account: Some(account) }
}
