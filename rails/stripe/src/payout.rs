//! Paying an agent's wallet out to its connected account.

use std::time::Duration;

use stripe_connect::{
    account::RetrieveAccount,
    transfer::{CreateTransfer, ListTransfer},
};
use stripe_core::balance::RetrieveForMyAccountBalance;
use tradepost::{
    ids::{AgentId, InstructionId},
    money::Money,
    rail::{Instruction, Outcome, RailError, RailErrorKind, Receipt},
};
use uuid::Uuid;

use crate::{
    error::StripeErrorKind,
    fund::{GENERATIONS, another_order, no_generation_left},
    marks,
    object::{Account, Balance, List, Transfer, money},
    rail::{PAGE, StripeRail},
};

/// How long a payout waits for money that Stripe has not made available yet.
const UNTIL_AVAILABLE: Duration = Duration::from_secs(3600);

impl StripeRail {
    /// Moves money from the platform's balance to the agent's account. An account that cannot take it
    /// is no decline: the payout waits, and goes through when onboarding is finished.
    pub(crate) async fn payout(
        &self,
        instruction: &Instruction,
        agent: AgentId,
        destination: Option<&str>,
        amount: Money,
    ) -> Result<Outcome, RailError> {
        if let Some(found) = self.find_payout(instruction).await? {
            return Ok(found);
        }
        let account = match destination {
            Some(account) if is_account(account) => account.to_owned(),
            Some(other) => return Err(no_such_account(other)),
            None => self.known(agent).await?.account.ok_or_else(|| no_account(agent))?,
        };
        self.ready(&account, amount).await?;
        for generation in 0..GENERATIONS {
            let request = CreateTransfer::new(self.inner.currency.clone(), &*account)
                .amount(amount.minor())
                .transfer_group(marks::payout_group(instruction.id))
                .metadata(marks::of(instruction));
            let key = marks::key(instruction, "payout", generation);
            let error = match self.inner.http.post::<Transfer>(&request, &key).await {
                Ok(reply) => return Ok(self.paid_out(&reply.object)),
                Err(error) => error,
            };
            // What Stripe refused before, it may take under another key.
            let refused = error.is_about_the_balance() || error.is_about_the_account();
            let spent = error.is_replayed() && (error.kind() == StripeErrorKind::Broken || refused);
            if spent || error.kind() == StripeErrorKind::KeyReused {
                if let Some(found) = self.find_payout(instruction).await? {
                    return Ok(found);
                }
                if spent {
                    continue;
                }
            }
            return Err(error.into());
        }
        Err(no_generation_left())
    }

    /// Whether the transfer would go through now. A refused attempt would spend its key for a day.
    async fn ready(&self, account: &str, amount: Money) -> Result<(), RailError> {
        let found: Account = self.inner.http.get(&RetrieveAccount::new(account)).await?;
        if !found.takes_transfers() {
            let message = format!("{account} cannot take transfers: its onboarding is not finished, or it is closed");
            return Err(RailError::new(RailErrorKind::Refused, message));
        }
        let balance: Balance = self.inner.http.get(&RetrieveForMyAccountBalance::new()).await?;
        let code = self.inner.currency.to_string();
        let available = balance.available.iter().filter(|part| part.currency == code);
        match available.fold(0i64, |sum, part| sum.saturating_add(part.amount)) >= amount.minor() {
            true => Ok(()),
            false => {
                let message = format!("{amount} is not available at Stripe yet");
                Err(RailError::new(RailErrorKind::Busy(UNTIL_AVAILABLE), message))
            }
        }
    }

    pub(crate) async fn find_payout(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        let request = ListTransfer::new().transfer_group(marks::payout_group(instruction.id)).limit(PAGE);
        let page: List<Transfer> = self.inner.http.get(&request).await?;
        let Some(transfer) = page.data.first() else { return Ok(None) };
        match marks::same_order(&transfer.metadata, instruction) {
            true => Ok(Some(self.paid_out(transfer))),
            false => Err(another_order()),
        }
    }

    fn paid_out(&self, transfer: &Transfer) -> Outcome {
        Outcome::Done(Receipt {
            instruction: marks::instruction(&transfer.metadata).unwrap_or(InstructionId(Uuid::nil())),
            reference: transfer.id.clone(),
            amount: money(transfer.amount, &transfer.currency, self.inner.config.currency),
            legs: Vec::new(),
            cost: None,
            hold_expires_at: None,
        })
    }
}

/// Whether a text has the form of an account's name. It becomes a part of a path.
fn is_account(text: &str) -> bool {
    text.strip_prefix("acct_").is_some_and(|rest| (1..=64).contains(&rest.len()) && rest.bytes().all(is_plain))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn no_such_account(destination: &str) -> RailError {
    let start: String = destination.chars().take(32).collect();
    RailError::new(RailErrorKind::Refused, format!("{start:?} is no account at Stripe: acct_…"))
}

fn no_account(agent: AgentId) -> RailError {
    RailError::new(RailErrorKind::Refused, format!("{agent} has no account at Stripe yet"))
}
