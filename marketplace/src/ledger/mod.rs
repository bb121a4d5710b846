//! Double-entry bookkeeping in whole minor units.
//!
//! A [`Transfer`] debits one account and credits another by one amount, so it cannot be out of
//! balance; a [`Movement`] is a list of transfers that stand or fall together. Nothing is ever
//! updated or deleted: a mistake is answered by [`Movement::reversal`].
//!
//! An account's balance is its credits minus its debits. What the platform owes others (wallets,
//! escrow) and its revenue are positive, what it holds or has spent (rails, costs) negative, and the
//! sum over all accounts of a currency is nothing at any instant.

mod account;
mod statement;

pub use account::{Account, BadAccount, Limit, RevenueKind};
pub use statement::{Entry, Finding, TrialBalance};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{AgentId, HoldId, RailId},
    money::{Money, MoneyError},
};

/// Why money moved: what a wallet's history shows (JP-28).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferKind {
    /// Money came in from outside.
    Deposit,
    /// The platform gave money away (AM-01).
    Grant,
    /// An agent's activation was paid for (VP-02, JP-02).
    ActivationFee,
    /// A payer's money was reserved for a contract.
    EscrowLock,
    /// A worker was paid for work.
    Earned,
    /// A worker was compensated for a cancelled contract (VP-23).
    Compensation,
    /// The platform's fee.
    Fee,
    /// The platform's fee for cancelling (VP-23).
    CancellationFee,
    /// What a dispute costs (JP-13).
    DisputeFee,
    /// The platform's fee for infrastructure, paid apart (PG-06).
    InfrastructureFee,
    /// Money went back to the payer.
    Refund,
    /// Money left to its owner's own account outside.
    Payout,
    /// Money was to leave and stays with the rail in its owner's name, who may spend it.
    Kept,
    /// An agent's money is to leave its wallet.
    Withdrawal,
    /// What leaving costs an agent (JP-26).
    WithdrawalFee,
    /// Money that was to leave is back in its wallet.
    WithdrawalReturned,
    /// What an agent owed was taken from its money.
    DebtRepaid,
    /// What a rail charged for its work.
    RailCost,
    /// An operator moved it by hand.
    Adjustment,
    /// An earlier movement was undone.
    Reversal,
    /// A payer's bank took a payment back.
    Chargeback,
}

impl TransferKind {
    /// The word used in stores and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Grant => "grant",
            Self::ActivationFee => "activation_fee",
            Self::EscrowLock => "escrow_lock",
            Self::Earned => "earned",
            Self::Compensation => "compensation",
            Self::Fee => "fee",
            Self::CancellationFee => "cancellation_fee",
            Self::DisputeFee => "dispute_fee",
            Self::InfrastructureFee => "infrastructure_fee",
            Self::Refund => "refund",
            Self::Payout => "payout",
            Self::Kept => "kept",
            Self::Withdrawal => "withdrawal",
            Self::WithdrawalFee => "withdrawal_fee",
            Self::WithdrawalReturned => "withdrawal_returned",
            Self::DebtRepaid => "debt_repaid",
            Self::RailCost => "rail_cost",
            Self::Adjustment => "adjustment",
            Self::Reversal => "reversal",
            Self::Chargeback => "chargeback",
        }
    }

    /// Every kind.
    pub const ALL: [Self; 21] = [
        Self::Deposit,
        Self::Grant,
        Self::ActivationFee,
        Self::EscrowLock,
        Self::Earned,
        Self::Compensation,
        Self::Fee,
        Self::CancellationFee,
        Self::DisputeFee,
        Self::InfrastructureFee,
        Self::Refund,
        Self::Payout,
        Self::Kept,
        Self::Withdrawal,
        Self::WithdrawalFee,
        Self::WithdrawalReturned,
        Self::DebtRepaid,
        Self::RailCost,
        Self::Adjustment,
        Self::Reversal,
        Self::Chargeback,
    ];

    /// The kind that [`TransferKind::as_str`] names so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One amount from one account to another. Made only by [`Movement`], which checks it: it is written to
/// JSON and never read from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Transfer {
    pub(crate) debit: Account,
    pub(crate) credit: Account,
    pub(crate) amount: Money,
    pub(crate) kind: TransferKind,
}

impl Transfer {
    /// The account that gives.
    pub const fn debit(&self) -> Account {
        self.debit
    }

    /// The account that receives.
    pub const fn credit(&self) -> Account {
        self.credit
    }

    /// How much; always more than nothing.
    pub const fn amount(&self) -> Money {
        self.amount
    }

    /// Why.
    pub const fn kind(&self) -> TransferKind {
        self.kind
    }
}

/// Transfers that stand or fall together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Movement {
    transfers: Vec<Transfer>,
}

impl Movement {
    /// The most transfers one movement may have.
    pub const LIMIT: usize = 64;

    /// A movement of nothing yet.
    pub const fn new() -> Self {
        Self { transfers: Vec::new() }
    }

    /// Adds a transfer. An amount of exactly nothing adds none, so that a fee of zero leaves no trace.
    ///
    /// # Errors
    /// [`LedgerError`] for a negative amount, an account paying itself, or too many transfers.
    pub fn transfer(
        &mut self,
        debit: Account,
        credit: Account,
        amount: Money,
        kind: TransferKind,
    ) -> Result<(), LedgerError> {
        if amount.is_zero() {
            return Ok(());
        }
        if !amount.is_positive() {
            return Err(LedgerError::NotPositive { debit, credit, amount });
        }
        if debit == credit {
            return Err(LedgerError::SameAccount { account: debit, amount });
        }
        if self.transfers.len() == Self::LIMIT {
            return Err(LedgerError::TooManyTransfers { limit: Self::LIMIT });
        }
        self.transfers.push(Transfer { debit, credit, amount, kind });
        Ok(())
    }

    /// Adds what a rail charged for its work, which left it, or what an exchange brought, which came to it.
    ///
    /// # Errors
    /// See [`Movement::transfer`].
    pub fn rail_cost(&mut self, rail: RailId, cost: Option<Money>) -> Result<(), LedgerError> {
        let Some(cost) = cost else { return Ok(()) };
        let (spent, rail) = (Account::Cost(rail), Account::Rail(rail));
        match cost.minor().checked_neg().filter(|gain| *gain > 0) {
            Some(gain) => self.transfer(rail, spent, Money::new(gain, cost.currency()), TransferKind::RailCost),
            None => self.transfer(spent, rail, cost, TransferKind::RailCost),
        }
    }

    /// Adds another movement's transfers after this one's: both stand or fall together.
    ///
    /// # Errors
    /// [`LedgerError::TooManyTransfers`]
    pub fn append(&mut self, other: Self) -> Result<(), LedgerError> {
        if self.transfers.len() + other.transfers.len() > Self::LIMIT {
            return Err(LedgerError::TooManyTransfers { limit: Self::LIMIT });
        }
        self.transfers.extend(other.transfers);
        Ok(())
    }

    /// The movement of transfers that one was made of before.
    pub(crate) fn of(transfers: impl Iterator<Item = Transfer>) -> Self {
        Self { transfers: transfers.collect() }
    }

    /// The transfers, in order.
    pub fn transfers(&self) -> &[Transfer] {
        &self.transfers
    }

    /// Whether nothing moves.
    pub const fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// The movement that undoes this one: every transfer the other way round, in reverse order, with
    /// the amounts of the original.
    pub fn reversal(&self) -> Self {
        let back = |t: &Transfer| Transfer {
            debit: t.credit,
            credit: t.debit,
            amount: t.amount,
            kind: TransferKind::Reversal,
        };
        Self { transfers: self.transfers.iter().rev().map(back).collect() }
    }

    /// What an account that holds `balance` holds after this.
    ///
    /// # Errors
    /// [`MoneyError`] for two currencies, or a balance that does not fit into 64 bits.
    pub(crate) fn balance_after(&self, account: Account, balance: Money) -> Result<Money, MoneyError> {
        self.transfers.iter().try_fold(balance, |balance, transfer| match account {
            account if account == transfer.credit => balance.plus(transfer.amount),
            account if account == transfer.debit => balance.minus(transfer.amount),
            _ => Ok(balance),
        })
    }

    /// The net change of every account this touches, in the order first touched.
    ///
    /// # Errors
    /// [`LedgerError::Overflow`] when an account's changes do not fit into 64 bits.
    pub fn changes(&self) -> Result<Vec<Change>, LedgerError> {
        let mut changes: Vec<Change> = Vec::with_capacity(self.transfers.len() + 1);
        let mut add = |account: Account, delta: i64, amount: Money| {
            let currency = amount.currency();
            match changes.iter_mut().find(|c| c.account == account && c.delta.currency() == currency) {
                Some(change) => {
                    let sum = change.delta.plus(Money::new(delta, currency));
                    change.delta = sum.map_err(|_| LedgerError::Overflow { account })?;
                }
                None => changes.push(Change { account, delta: Money::new(delta, currency) }),
            }
            Ok(())
        };
        for transfer in &self.transfers {
            add(transfer.debit, -transfer.amount.minor(), transfer.amount)?;
            add(transfer.credit, transfer.amount.minor(), transfer.amount)?;
        }
        Ok(changes)
    }
}

/// How one movement changes one account's balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The account.
    pub account: Account,
    /// Credits minus debits.
    pub delta: Money,
}

/// Why the ledger refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A transfer must move more than nothing.
    #[error("a transfer of {amount} from {debit} to {credit}: a transfer moves more than nothing")]
    NotPositive {
        /// The account that was to give.
        debit: Account,
        /// The account that was to receive.
        credit: Account,
        /// How much.
        amount: Money,
    },
    /// An account cannot pay itself.
    #[error("a transfer of {amount} from {account} to itself")]
    SameAccount {
        /// The account.
        account: Account,
        /// How much.
        amount: Money,
    },
    /// A movement has a bounded number of transfers.
    #[error("a movement has at most {limit} transfers")]
    TooManyTransfers {
        /// The bound.
        limit: usize,
    },
    /// A balance does not fit into 64 bits.
    #[error("the balance of {account} does not fit into 64 bits of minor units")]
    Overflow {
        /// The account.
        account: Account,
    },
    /// The account's limit does not allow the change.
    #[error("{account} holds {available}, {needed} is needed")]
    Overdraft {
        /// The account.
        account: Account,
        /// What was to be taken.
        needed: Money,
        /// What is there.
        available: Money,
    },
}

/// Shorthand used by the concepts that move money: an agent's spendable balance.
pub const fn available(agent: AgentId) -> Account {
    Account::Available(agent)
}

/// Shorthand used by the concepts that move money: what is reserved for one contract.
pub fn escrow(hold: impl Into<HoldId>) -> Account {
    Account::Escrow(hold.into())
}
