//! What guards an agent's money: where it may leave to, what is on its way out, and what a wallet shows.
//!
//! The balances themselves are accounts of the ledger. [`decide`] is the only place that changes a
//! [`Wallet`]; it is pure, as a job's is, and judges by the newest policy.

mod command;
mod decide;
mod event;
mod view;

pub use command::WalletCommand;
pub use decide::{Context, Decision, decide};
pub use event::WalletEvent;
pub use view::{Balances, Earnings, EarningsLine, HistoryKind, HistoryLine, Warning};
pub(crate) use view::{in_history, spent};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{AgentId, InstructionId, WalletId},
    money::Money,
    store::Kept,
};

/// An agent's wallet: everything about it that is not a balance. An agent that never set an address,
/// withdrew or was sent money from outside has none written down yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wallet {
    /// Its id, which follows from the agent's.
    pub id: WalletId,
    /// Whose it is.
    pub agent: AgentId,
    /// Where withdrawals go (JP-25).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SavedAddress>,
    /// Nothing can be withdrawn before, since the address was changed (JP-25).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cools_until: Option<Timestamp>,
    /// Where the first deposit came from, for ever (JP-24): a panic goes there (JP-27).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<SavedAddress>,
    /// When the rail told last that the agent's own account takes money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// How many instructions it has given; the next one's number.
    pub instructions: u32,
    /// What is on its way out, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payouts: Vec<Payout>,
}

/// An address outside, in the rail's own notation, and since when it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAddress {
    /// The address.
    pub address: String,
    /// Since when.
    pub since: Timestamp,
}

/// Money on its way out of a wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// What the rail was asked.
    pub instruction: InstructionId,
    /// Why it leaves.
    pub purpose: PayoutPurpose,
    /// What the wallet gives; it waits in the pending balance.
    pub amount: Money,
    /// What of it the platform keeps once it has arrived.
    pub fee: Money,
    /// Where it goes; `None` for the account that the rail knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// When it was asked for.
    pub asked_at: Timestamp,
}

/// Why money leaves a wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PayoutPurpose {
    /// The agent withdraws to its saved address (JP-26).
    Withdrawal,
    /// Everything goes to the emergency address (JP-27).
    Panic,
    /// Everything goes to the account that the rail knows: earnings that landed here because there was
    /// no such account yet.
    Earnings,
}

impl Wallet {
    /// The most payouts that may be on their way at once.
    pub const PAYOUTS: u32 = 100;

    /// The wallet of an agent about which nothing is written down yet.
    pub fn new(agent: AgentId) -> Self {
        Self {
            id: WalletId::of(agent),
            agent,
            address: None,
            cools_until: None,
            emergency: None,
            ready_at: None,
            instructions: 0,
            payouts: Vec::new(),
        }
    }

    /// The wallet after a deposit from outside, if that changes it: the first one's source becomes the
    /// emergency address for ever (JP-24).
    pub(crate) fn after_deposit(&self, source: &str, now: Timestamp) -> Option<Self> {
        let first = self.emergency.is_none() && decide::check_address("source", source).is_ok();
        first.then(|| Self { emergency: Some(SavedAddress { address: source.into(), since: now }), ..self.clone() })
    }
}

impl Kept for Wallet {
    fn id(&self) -> Uuid {
        self.id.0
    }

    /// Whether money is on its way out.
    fn status(&self) -> &'static str {
        if self.payouts.is_empty() { "resting" } else { "paying" }
    }
}

/// What of an agent's earnings its debt takes.
///
/// # Errors
/// [`crate::money::MoneyError::Mismatch`] for two currencies.
pub(crate) fn withheld(earned: Money, debt: Money) -> Result<Money, crate::money::MoneyError> {
    let left = earned.minus(debt)?;
    Ok(if left.minor() < 0 { earned } else { debt })
}
