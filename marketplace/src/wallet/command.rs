//! What can be asked of a wallet.

use serde::{Deserialize, Serialize};

use crate::{
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
    /// Everything goes to the account that the rail knows.
    PayOut,
    /// The rail has an outcome for one of the wallet's instructions.
    RecordOutcome {
        /// Which instruction.
        instruction: Box<Instruction>,
        /// What became of it.
        outcome: Box<Outcome>,
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
        }
    }
}
