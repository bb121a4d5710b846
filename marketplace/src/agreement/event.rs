//! What happened to an agreement, in the words of the log.

use serde::{Deserialize, Serialize};

use super::{Suggestion, chain::Hash};
use crate::{
    clock::Timestamp,
    hold::HoldEvent,
    ids::{AgentId, InstructionId},
    money::Money,
    rail::{Action, Decline},
};

/// Something that happened to an agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum AgreementEvent {
    /// It was proposed.
    #[serde(rename = "agreement.proposed")]
    Proposed {
        /// Who pays.
        buyer: AgentId,
        /// Who is to deliver.
        seller: AgentId,
        /// How many units at most.
        quantity: i64,
        /// What a unit is.
        unit: String,
        /// What a unit costs.
        unit_price: Money,
        /// What is to be reserved.
        deposit: Money,
        /// When the seller's silence ends it.
        answer_by: Timestamp,
    },
    /// The seller agreed.
    #[serde(rename = "agreement.accepted")]
    Accepted {
        /// When the buyer must have activated it.
        activate_by: Timestamp,
    },
    /// The seller did not agree.
    #[serde(rename = "agreement.rejected")]
    Rejected {
        /// Why.
        reason: String,
        /// What would do instead.
        suggestion: Option<Box<Suggestion>>,
    },
    /// The buyer took it back.
    #[serde(rename = "agreement.cancelled")]
    Cancelled {
        /// Why.
        reason: String,
    },
    /// It ended by itself, with nothing earned.
    #[serde(rename = "agreement.expired")]
    Expired {
        /// By what.
        cause: ExpiryCause,
        /// What goes back to the buyer.
        refunded: Money,
    },
    /// The rail was asked to reserve the money.
    #[serde(rename = "agreement.activation_submitted")]
    ActivationSubmitted {
        /// The instruction that asks.
        instruction: InstructionId,
    },
    /// A party has to act before money can move.
    #[serde(rename = "agreement.action_required")]
    ActionRequired {
        /// The instruction that waits.
        instruction: InstructionId,
        /// Who has to do what. The payload is left out: it is the party's alone.
        action: Action,
    },
    /// The money could not be reserved.
    #[serde(rename = "agreement.activation_failed")]
    ActivationFailed {
        /// The instruction that failed.
        instruction: InstructionId,
        /// Why.
        decline: Decline,
    },
    /// The money is reserved; units may be used.
    #[serde(rename = "agreement.activated")]
    Activated {
        /// How much.
        deposit: Money,
        /// Until when units may be used.
        expires_at: Timestamp,
    },
    /// Calls were recorded.
    #[serde(rename = "agreement.usage_recorded")]
    UsageRecorded {
        /// Which part of the chain they are, counted from 1.
        part: u32,
        /// How many.
        calls: u32,
        /// Units that they used.
        units: i64,
        /// Units recorded in all.
        total: i64,
        /// The last call's hash.
        head: Hash,
    },
    /// A receipt raised what counts.
    #[serde(rename = "escrow.receipt_submitted")]
    ReceiptSubmitted {
        /// Units in all, by the receipt.
        units: i64,
        /// What they are worth.
        earned: Money,
        /// The hash of the last call that the receipt covers.
        proof: Hash,
    },
    /// The challenge window runs.
    #[serde(rename = "escrow.close_initiated")]
    CloseInitiated {
        /// By what.
        cause: CloseCause,
        /// When what is earned becomes final.
        final_at: Timestamp,
    },
    /// What was earned stands.
    #[serde(rename = "escrow.close_finalized")]
    CloseFinalized {
        /// What the seller has earned, before the fee.
        earned: Money,
        /// What the platform takes of it.
        fee: Money,
        /// What goes back to the buyer.
        refunded: Money,
    },
    /// The seller has its share.
    #[serde(rename = "escrow.claim_completed")]
    ClaimCompleted {
        /// How much.
        amount: Money,
        /// What the rail calls it; empty where the ledger is the money.
        reference: String,
    },
    /// The buyer has the rest.
    #[serde(rename = "escrow.withdraw_completed")]
    WithdrawCompleted {
        /// How much.
        amount: Money,
        /// What the rail calls it; empty where the ledger is the money.
        reference: String,
    },
    /// The platform has a fee.
    #[serde(rename = "escrow.fee_collected")]
    FeeCollected {
        /// Which.
        #[serde(default)]
        fee: FeeKind,
        /// How much.
        amount: Money,
        /// What the rail calls it; empty where the ledger is the money.
        reference: String,
    },
    /// The fee for the infrastructure was not paid, and will not be (PG-06).
    #[serde(rename = "escrow.fee_failed")]
    FeeFailed {
        /// How much.
        amount: Money,
        /// Why.
        decline: Decline,
    },
    /// The rail would not divide the money; it is asked again.
    #[serde(rename = "escrow.settlement_failed")]
    SettlementFailed {
        /// The instruction that failed.
        instruction: InstructionId,
        /// Why.
        decline: Decline,
        /// When it is asked again.
        next_at: Timestamp,
    },
    /// The seller was paid for what was used.
    #[serde(rename = "agreement.completed")]
    Completed {
        /// Units that count; `None` when an operator ruled on an amount.
        units: Option<i64>,
        /// What the seller gets.
        net: Money,
        /// What the platform takes.
        fee: Money,
        /// What goes back to the buyer.
        refunded: Money,
    },
    /// A party disputes what is recorded or received.
    #[serde(rename = "agreement.disputed")]
    Disputed {
        /// Who.
        by: AgentId,
        /// Why.
        reason: String,
        /// Until when an operator may rule; then what counts without a ruling stands.
        rule_by: Timestamp,
    },
    /// An operator decided.
    #[serde(rename = "agreement.ruled")]
    Ruled {
        /// What the seller has earned, before the fee.
        earned: Money,
        /// Why.
        reason: String,
    },
    /// The rail gave the money up before it was known to be reserved, or before it was divided: the payer
    /// has it back, and whoever was to get a share has nothing.
    #[serde(rename = "escrow.lost")]
    EscrowLost {
        /// How much.
        amount: Money,
    },
    /// Money that came too late goes back.
    #[serde(rename = "escrow.returned")]
    EscrowReturned {
        /// How much.
        amount: Money,
    },
    /// The payer's bank took the deposit back: everything stands still until it has decided.
    #[serde(rename = "agreement.frozen")]
    Frozen {},
    /// The bank has decided: the agreement goes on where it stood.
    #[serde(rename = "agreement.unfrozen")]
    Unfrozen {},
    /// Something that happens to the money of any contract.
    #[serde(untagged)]
    Hold(HoldEvent),
}

/// A fee of the platform's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeeKind {
    /// Its share of what was earned.
    #[default]
    Share,
    /// What the buyer pays for the infrastructure, apart from the money held (PG-06).
    Infrastructure,
}

/// By what an agreement ended with nothing earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryCause {
    /// The seller did not answer.
    Unanswered,
    /// The buyer did not activate.
    NotActivated,
    /// No unit was proven in time.
    NothingUsed,
    /// The rail could hold the money no longer.
    HoldExpired,
    /// The payer's bank took the money back.
    Chargeback,
}

/// By what a close began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloseCause {
    /// The buyer.
    Buyer,
    /// The seller.
    Seller,
    /// The agreement's expiry.
    Expiry,
}

impl From<HoldEvent> for AgreementEvent {
    fn from(event: HoldEvent) -> Self {
        Self::Hold(event)
    }
}

impl AgreementEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Proposed { .. } => "agreement.proposed",
            Self::Accepted { .. } => "agreement.accepted",
            Self::Rejected { .. } => "agreement.rejected",
            Self::Cancelled { .. } => "agreement.cancelled",
            Self::Expired { .. } => "agreement.expired",
            Self::ActivationSubmitted { .. } => "agreement.activation_submitted",
            Self::ActionRequired { .. } => "agreement.action_required",
            Self::ActivationFailed { .. } => "agreement.activation_failed",
            Self::Activated { .. } => "agreement.activated",
            Self::UsageRecorded { .. } => "agreement.usage_recorded",
            Self::ReceiptSubmitted { .. } => "escrow.receipt_submitted",
            Self::CloseInitiated { .. } => "escrow.close_initiated",
            Self::CloseFinalized { .. } => "escrow.close_finalized",
            Self::ClaimCompleted { .. } => "escrow.claim_completed",
            Self::WithdrawCompleted { .. } => "escrow.withdraw_completed",
            Self::FeeCollected { .. } => "escrow.fee_collected",
            Self::FeeFailed { .. } => "escrow.fee_failed",
            Self::SettlementFailed { .. } => "escrow.settlement_failed",
            Self::Completed { .. } => "agreement.completed",
            Self::Disputed { .. } => "agreement.disputed",
            Self::Ruled { .. } => "agreement.ruled",
            Self::EscrowLost { .. } => "escrow.lost",
            Self::EscrowReturned { .. } => "escrow.returned",
            Self::Frozen {} => "agreement.frozen",
            Self::Unfrozen {} => "agreement.unfrozen",
            Self::Hold(event) => event.name(),
        }
    }
}
