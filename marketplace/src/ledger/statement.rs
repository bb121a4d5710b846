//! What the ledger says when asked.

use serde::Serialize;

use super::{Account, TransferKind};
use crate::{
    clock::Timestamp,
    money::{Currency, Money},
};

/// One line of an account's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The transfer's number; later transfers have higher ones. Pass the last one seen to page on.
    pub number: i64,
    /// When it was committed.
    pub at: Timestamp,
    /// Why.
    pub kind: TransferKind,
    /// The other account.
    pub counterparty: Account,
    /// What it added to this account; negative when it took.
    pub amount: Money,
    /// The contract it belongs to.
    pub contract: uuid::Uuid,
    /// The version of the contract that the movement made: together they name the movement.
    pub version: u64,
}

/// The balances of every account of one currency. Their sum is nothing, or money was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrialBalance {
    /// The currency.
    pub currency: Currency,
    /// Every account that ever moved, by name.
    pub accounts: Vec<(Account, Money)>,
}

impl TrialBalance {
    /// The sum over all accounts, in minor units; anything but nothing means the books are broken.
    pub fn sum(&self) -> i128 {
        self.accounts.iter().map(|(_, balance)| i128::from(balance.minor())).sum()
    }

    /// The balance of one account; nothing if it never moved.
    pub fn of(&self, account: Account) -> Money {
        let found = self.accounts.iter().find(|(a, _)| *a == account);
        found.map_or(Money::zero(self.currency), |(_, balance)| *balance)
    }
}

/// What [`verify`](crate::store::Store::verify) found wrong in a store: somebody wrote behind the engine's back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// An account's kept balance is not what its transfers add up to.
    BalanceDiffers {
        /// The account.
        account: Account,
        /// What is kept.
        kept: Money,
        /// What the transfers say.
        summed: Money,
    },
    /// An account is past its limit.
    LimitBroken {
        /// The account.
        account: Account,
        /// Its balance.
        balance: Money,
    },
    /// A movement's first transfer is there and a later one is not, or the count is wrong.
    MovementIncomplete {
        /// The contract the movement belongs to.
        contract: uuid::Uuid,
        /// The contract's version that made it.
        version: u64,
        /// How many transfers it should have.
        expected: u32,
        /// How many are there.
        found: u32,
    },
    /// A row cannot be read: an account's name, a kind or a body that the engine never writes.
    Unreadable {
        /// The table.
        table: String,
        /// The row's key.
        row: String,
    },
}
