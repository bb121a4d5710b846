//! What a wallet shows: balances and warnings (JP-23), history (JP-28), earnings (VP-36).

use serde::Serialize;

use super::{Payout, SavedAddress, Wallet};
use crate::{
    clock::Timestamp,
    error::Rejection,
    ids::JobId,
    ledger::{Account, Entry, TransferKind},
    money::Money,
};

/// A wallet as its agent sees it (JP-23, AM-08).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Balances {
    /// Ready to be spent or withdrawn.
    pub available: Money,
    /// Reserved for contracts under way that the agent pays for.
    pub escrowed: Money,
    /// On its way out.
    pub pending: Money,
    /// The three together.
    pub total: Money,
    /// What the agent owes: taken from what it earns or deposits next.
    pub debt: Money,
    /// Where withdrawals go.
    pub address: Option<SavedAddress>,
    /// Where a panic goes, for ever.
    pub emergency: Option<SavedAddress>,
    /// What is on its way out, oldest first.
    pub payouts: Vec<Payout>,
    /// What the agent should know; empty when all is well.
    pub warnings: Vec<Warning>,
}

/// Something about a wallet that its agent should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "warning")]
#[non_exhaustive]
pub enum Warning {
    /// The withdrawal address was changed. Whoever did not do it should panic (JP-25).
    AddressChanged {
        /// When.
        at: Timestamp,
        /// Nothing can be withdrawn before.
        until: Timestamp,
    },
    /// The agent owes the platform.
    Owes {
        /// How much.
        amount: Money,
    },
}

impl Balances {
    /// Puts together what a wallet shows.
    ///
    /// # Errors
    /// [`crate::money::MoneyError`] when the sum does not fit.
    pub(crate) fn new(
        wallet: &Wallet,
        [available, escrowed, pending, debt]: [Money; 4],
        now: Timestamp,
    ) -> Result<Self, Rejection> {
        let cooling = wallet.cools_until.filter(|until| now < *until).zip(wallet.address.as_ref());
        let changed = cooling.map(|(until, address)| Warning::AddressChanged { at: address.since, until });
        let owes = debt.is_positive().then_some(Warning::Owes { amount: debt });
        Ok(Self {
            available,
            escrowed,
            pending,
            total: available.plus(escrowed)?.plus(pending)?,
            debt,
            address: wallet.address.clone(),
            emergency: wallet.emergency.clone(),
            payouts: wallet.payouts.clone(),
            warnings: changed.into_iter().chain(owes).collect(),
        })
    }
}

/// A line of a wallet's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryLine {
    /// The ledger's number. Lines come in this order; pass the last one's to read on.
    pub number: i64,
    /// When.
    pub at: Timestamp,
    /// What it was.
    pub kind: HistoryKind,
    /// What it added to the available balance, negative when it took. A [`HistoryKind::Spent`] takes
    /// from what is escrowed instead: it says what became of the lock that it follows.
    pub amount: Money,
    /// The contract, or the wallet itself.
    pub contract: uuid::Uuid,
}

/// What a line of a wallet's history is (JP-28).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HistoryKind {
    /// Money came in.
    Deposit,
    /// The platform gave money away.
    Grant,
    /// The platform took a fee.
    Fee,
    /// A claimant paid for a dispute (JP-13).
    DisputeFee,
    /// Money was reserved for a contract.
    EscrowLock,
    /// Work was paid.
    Earned,
    /// What was reserved has gone to a worker and the platform.
    Spent,
    /// What was reserved came back.
    Refund,
    /// Money is to leave, the fee for that included.
    Withdrawal,
    /// Money could not leave and came back, with its fee.
    WithdrawalReturned,
    /// A debt was repaid.
    Debt,
    /// Anything else, such as an operator's correction.
    Other,
}

/// What an entry of the available balance is in the history.
pub(crate) const fn in_history(entry: &Entry) -> HistoryKind {
    match entry.kind {
        TransferKind::Deposit => HistoryKind::Deposit,
        TransferKind::Grant => HistoryKind::Grant,
        TransferKind::EscrowLock => HistoryKind::EscrowLock,
        TransferKind::Earned | TransferKind::Compensation => HistoryKind::Earned,
        // A share that the rail kept: a worker's waited in its pending balance, a buyer's did not.
        TransferKind::Kept if matches!(entry.counterparty, Account::Pending(_)) => HistoryKind::Earned,
        TransferKind::Kept | TransferKind::Refund => HistoryKind::Refund,
        TransferKind::ActivationFee
        | TransferKind::Fee
        | TransferKind::CancellationFee
        | TransferKind::InfrastructureFee
        | TransferKind::WithdrawalFee => HistoryKind::Fee,
        TransferKind::Withdrawal | TransferKind::Payout => HistoryKind::Withdrawal,
        TransferKind::WithdrawalReturned => HistoryKind::WithdrawalReturned,
        TransferKind::DisputeFee => HistoryKind::DisputeFee,
        TransferKind::DebtRepaid => HistoryKind::Debt,
        TransferKind::RailCost | TransferKind::Chargeback | TransferKind::Adjustment | TransferKind::Reversal => {
            HistoryKind::Other
        }
    }
}

/// What of an escrow account went to others than its payer, and when last; `None` while nothing has.
///
/// # Errors
/// [`crate::money::MoneyError`] when the sum does not fit.
pub(crate) fn spent(entries: &[Entry]) -> Result<Option<(Timestamp, Money)>, Rejection> {
    let mut spent: Option<(Timestamp, Money)> = None;
    for entry in entries.iter().filter(|entry| entry.amount.minor() < 0 && entry.kind != TransferKind::Refund) {
        let sum = spent.map_or(Money::zero(entry.amount.currency()), |(_, sum)| sum);
        spent = Some((entry.at, sum.plus(entry.amount)?));
    }
    Ok(spent)
}

/// What an agent has earned as a worker (VP-36).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Earnings {
    /// All it has earned, fees deducted.
    pub total_earned: Money,
    /// By how many jobs.
    pub total_jobs: u32,
    /// Job by job, newest first.
    pub jobs: Vec<EarningsLine>,
}

/// What one job earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EarningsLine {
    /// Which job.
    pub job: JobId,
    /// What the worker earned before the fee: of a divided job, its share; what went back since is off.
    pub gross: Money,
    /// What of it the platform kept; nothing where the buyer bears the fee.
    pub fee: Money,
    /// What the worker got.
    pub net: Money,
    /// When it was completed.
    pub at: Timestamp,
}
