//! What happened to a contract's money, in words that are the same for every kind of contract.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, ids::AgentId, money::Money, rail::Decline};

/// Something that happened to the money of a job or a usage agreement. In the log it is one of that
/// contract's own events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum HoldEvent {
    /// What the worker owed was taken from what it earned.
    #[serde(rename = "payment.debt_repaid")]
    DebtRepaid {
        /// Who owed it.
        worker: AgentId,
        /// How much of what it earned.
        amount: Money,
    },
    /// The payer's bank took money back and decides who keeps it; the contract stands still.
    #[serde(rename = "payment.chargeback_opened")]
    ChargebackOpened {
        /// What the rail calls it.
        reference: String,
        /// How much.
        amount: Money,
        /// What the rail charged the platform for it.
        cost: Money,
        /// Until when evidence is taken.
        evidence_due: Option<Timestamp>,
    },
    /// The bank gave the money back.
    #[serde(rename = "payment.chargeback_won")]
    ChargebackWon {
        /// What the rail calls it.
        reference: String,
        /// How much.
        amount: Money,
    },
    /// The payer keeps the money. What nobody gives here was reserved still.
    #[serde(rename = "payment.chargeback_lost")]
    ChargebackLost {
        /// What the rail calls it.
        reference: String,
        /// How much.
        amount: Money,
        /// What the worker gives of it.
        worker: Money,
        /// What the platform gives.
        platform: Money,
        /// What the payer gives, who was given it already.
        buyer: Money,
    },
    /// An operator gives the payer back what worker and platform have got.
    #[serde(rename = "payment.refunded_after_payout")]
    RefundedAfterPayout {
        /// Why.
        reason: String,
        /// How much.
        amount: Money,
        /// What the worker gives of it.
        worker: Money,
        /// What the platform gives.
        platform: Money,
    },
    /// The rail took back from an agent's own account what the agent gives.
    #[serde(rename = "payment.reversed")]
    Reversed {
        /// Whose.
        agent: AgentId,
        /// The receipt's reference.
        reference: String,
        /// How much.
        amount: Money,
    },
    /// What an agent gives is covered by no balance of its own.
    #[serde(rename = "payment.owed")]
    Owed {
        /// Who.
        agent: AgentId,
        /// What the agent owes from now on.
        amount: Money,
        /// What the platform bears.
        borne: Money,
    },
    /// Money that could not go back the way it came is in the payer's wallet.
    #[serde(rename = "payment.kept")]
    Kept {
        /// Who.
        agent: AgentId,
        /// How much.
        amount: Money,
        /// Why the rail would not.
        decline: Decline,
    },
}

impl HoldEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::DebtRepaid { .. } => "payment.debt_repaid",
            Self::ChargebackOpened { .. } => "payment.chargeback_opened",
            Self::ChargebackWon { .. } => "payment.chargeback_won",
            Self::ChargebackLost { .. } => "payment.chargeback_lost",
            Self::RefundedAfterPayout { .. } => "payment.refunded_after_payout",
            Self::Reversed { .. } => "payment.reversed",
            Self::Owed { .. } => "payment.owed",
            Self::Kept { .. } => "payment.kept",
        }
    }
}
