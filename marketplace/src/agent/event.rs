//! What happened to an agent, in the words of the log. No secret is in it, and no e-mail address.

use serde::{Deserialize, Serialize};

use super::{AcceptedTerms, KeyId};
use crate::{
    clock::Timestamp,
    ids::OwnerId,
    money::Money,
    policy::{PolicyVersion, Verification},
};

/// Something that happened to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum AgentEvent {
    /// It was registered.
    #[serde(rename = "agent.registered")]
    Registered {
        /// By whom.
        owner: OwnerId,
        /// Under which name.
        name: String,
    },
    /// Its owner was given a token to confirm it by.
    #[serde(rename = "agent.confirmation_asked")]
    ConfirmationAsked {
        /// When the token is void.
        expires_at: Timestamp,
    },
    /// Its owner confirmed it.
    #[serde(rename = "agent.confirmed")]
    Confirmed {
        /// The terms accepted.
        terms: AcceptedTerms,
    },
    /// Its activation has to be paid for.
    #[serde(rename = "agent.fee_due")]
    FeeDue {
        /// How much.
        amount: Money,
    },
    /// Its activation was paid for.
    #[serde(rename = "agent.fee_paid")]
    FeePaid {
        /// How much.
        amount: Money,
        /// The payment's own name.
        reference: String,
    },
    /// Its first deposit is awaited.
    #[serde(rename = "agent.deposit_due")]
    DepositDue {
        /// The least that counts.
        min: Money,
    },
    /// It is active.
    #[serde(rename = "agent.activated")]
    Activated {
        /// What it was given.
        grant: Money,
    },
    /// It counts as verified by this (JP-32).
    #[serde(rename = "agent.verified")]
    Verified {
        /// What verified it.
        by: Verification,
        /// The policy that says so.
        policy: PolicyVersion,
    },
    /// It changed what it says about itself.
    #[serde(rename = "agent.updated")]
    Updated {},
    /// An operator stopped it.
    #[serde(rename = "agent.suspended")]
    Suspended {
        /// Why.
        reason: String,
    },
    /// An operator let it go on.
    #[serde(rename = "agent.reinstated")]
    Reinstated {},
    /// It is to be deleted.
    #[serde(rename = "agent.closing")]
    Closing {},
    /// It was not deleted: a job of its had begun at the same moment.
    #[serde(rename = "agent.kept")]
    Kept {},
    /// It was deleted.
    #[serde(rename = "agent.deleted")]
    Deleted {},
    /// It has one more key.
    #[serde(rename = "agent.key_created")]
    KeyCreated {
        /// Which.
        key: KeyId,
        /// What it is called.
        name: String,
    },
    /// A key took another's place.
    #[serde(rename = "agent.key_rotated")]
    KeyRotated {
        /// The old one.
        old: KeyId,
        /// The new one.
        new: KeyId,
    },
    /// A key died.
    #[serde(rename = "agent.key_revoked")]
    KeyRevoked {
        /// Which.
        key: KeyId,
    },
    /// Its owner was given a token to recover a key by.
    #[serde(rename = "agent.recovery_asked")]
    RecoveryAsked {
        /// When the token is void.
        expires_at: Timestamp,
    },
    /// One new key replaced all others.
    #[serde(rename = "agent.recovered")]
    Recovered {
        /// The new one.
        key: KeyId,
    },
}

impl AgentEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "agent.registered",
            Self::ConfirmationAsked { .. } => "agent.confirmation_asked",
            Self::Confirmed { .. } => "agent.confirmed",
            Self::FeeDue { .. } => "agent.fee_due",
            Self::FeePaid { .. } => "agent.fee_paid",
            Self::DepositDue { .. } => "agent.deposit_due",
            Self::Activated { .. } => "agent.activated",
            Self::Verified { .. } => "agent.verified",
            Self::Updated {} => "agent.updated",
            Self::Suspended { .. } => "agent.suspended",
            Self::Reinstated {} => "agent.reinstated",
            Self::Closing {} => "agent.closing",
            Self::Kept {} => "agent.kept",
            Self::Deleted {} => "agent.deleted",
            Self::KeyCreated { .. } => "agent.key_created",
            Self::KeyRotated { .. } => "agent.key_rotated",
            Self::KeyRevoked { .. } => "agent.key_revoked",
            Self::RecoveryAsked { .. } => "agent.recovery_asked",
            Self::Recovered { .. } => "agent.recovered",
        }
    }
}
