//! What happened to a wallet, in the words of the log.

use serde::{Deserialize, Serialize};

use super::PayoutPurpose;
use crate::{
    clock::Timestamp,
    ids::{AgentId, InstructionId},
    money::Money,
    rail::{Action, Decline},
};

/// Something that happened to a wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum WalletEvent {
    /// It got its first withdrawal address (JP-25).
    #[serde(rename = "wallet.address_set")]
    AddressSet {
        /// Whose wallet.
        agent: AgentId,
        /// The address.
        address: String,
    },
    /// Its withdrawal address was changed: a warning to whoever did not do it (JP-25).
    #[serde(rename = "wallet.address_changed")]
    AddressChanged {
        /// Whose wallet.
        agent: AgentId,
        /// The address.
        address: String,
        /// The one before.
        before: String,
        /// Nothing can be withdrawn before.
        cools_until: Timestamp,
    },
    /// Where its first deposit came from is its emergency address (JP-24).
    #[serde(rename = "wallet.emergency_address_set")]
    EmergencySet {
        /// Whose wallet.
        agent: AgentId,
        /// The address.
        address: String,
    },
    /// Money is to leave.
    #[serde(rename = "wallet.payout_requested")]
    PayoutRequested {
        /// Whose money.
        agent: AgentId,
        /// What the rail was asked.
        instruction: InstructionId,
        /// Why it leaves.
        purpose: PayoutPurpose,
        /// What the wallet gives.
        amount: Money,
        /// What of it the platform keeps.
        fee: Money,
        /// Where it goes; `None` for the account that the rail knows.
        to: Option<String>,
    },
    /// The rail asks a party to act before the money can leave.
    #[serde(rename = "wallet.action_required")]
    ActionRequired {
        /// Whose money.
        agent: AgentId,
        /// Which instruction.
        instruction: InstructionId,
        /// What has to be done; its payload is that party's alone, so it is empty here.
        action: Action,
    },
    /// Money has left.
    #[serde(rename = "wallet.paid_out")]
    PaidOut {
        /// Whose money.
        agent: AgentId,
        /// Which instruction.
        instruction: InstructionId,
        /// What arrived.
        amount: Money,
        /// What the platform kept.
        fee: Money,
        /// What the outside world calls it.
        reference: String,
    },
    /// Money could not leave, and is back in the wallet with its fee.
    #[serde(rename = "wallet.payout_failed")]
    PayoutFailed {
        /// Whose money.
        agent: AgentId,
        /// Which instruction.
        instruction: InstructionId,
        /// What is back.
        amount: Money,
        /// Why.
        decline: Decline,
    },
}

impl WalletEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AddressSet { .. } => "wallet.address_set",
            Self::AddressChanged { .. } => "wallet.address_changed",
            Self::EmergencySet { .. } => "wallet.emergency_address_set",
            Self::PayoutRequested { .. } => "wallet.payout_requested",
            Self::ActionRequired { .. } => "wallet.action_required",
            Self::PaidOut { .. } => "wallet.paid_out",
            Self::PayoutFailed { .. } => "wallet.payout_failed",
        }
    }
}
