//! What can be asked of a wallet.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    money::Money,
    rail::{Instruction, Outcome},
};

/// A command to a wallet. Serialized, it is what an idempotency key is compared by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum WalletCommand {
    /// Money is to go to this address from now on (JP-25).
    SetAddress {
        /// In the rail's own notation.
        address: String,
    },
    /// The agent takes money out, to its saved address only (JP-26).
    Withdraw {
        /// How much leaves the wallet, the fee included.
        amount: Money,
    },
    /// Everything goes to the emergency address at once (JP-27).
    Panic,
    /// Everything goes to the account that the rail knows. It does so by itself when that becomes ready.
    PayOut,
    /// The rail has an outcome for one of the wallet's instructions.
    RecordOutcome {
        /// Which instruction.
        instruction: Box<Instruction>,
        /// What became of it.
        outcome: Box<Outcome>,
    },
    /// The account that the rail knows takes money.
    RecordAccountReady,
    /// The rail has kept a share of the agent's, because the account took no money.
    RecordKept {
        /// When the rail was asked to pay it.
        asked_at: Timestamp,
    },
}

impl WalletCommand {
    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SetAddress { .. } => "set_withdrawal_address",
            Self::Withdraw { .. } => "withdraw_money",
            Self::Panic => "panic",
            Self::PayOut => "pay_out",
            Self::RecordOutcome { .. } => "record_outcome",
            Self::RecordAccountReady => "record_account_ready",
            Self::RecordKept { .. } => "record_kept",
        }
    }
}
