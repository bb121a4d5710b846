//! What a marketplace can configure.
//!
//! A policy is data: loaded from TOML or JSON, validated once, numbered by the store, and pinned to
//! each contract when it is made, so that a later change never alters a job under way. The four
//! systems Tradepost was measured against are the four files in `policies/`.

mod jobs;
mod load;
mod span;

pub use jobs::{
    Acceptance, Bearer, CancellationTerms, DeadlineFrom, DeadlinePolicy, EscrowAt, FeePolicy, FeeRate, HoldExpiry,
    JobPolicy, OnExpiry, Review, RevisionPolicy,
};
pub use load::PolicyError;
pub use span::{Range, Span};

use serde::{Deserialize, Serialize};

use crate::money::{Currency, Rate};

/// Everything about a marketplace that is a choice and not a mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The marketplace's name, for people.
    pub name: String,
    /// The one currency of its contracts and wallets.
    pub currency: Currency,
    /// Jobs: limits, deadlines, review, cancelling.
    pub jobs: JobPolicy,
    /// What the platform takes, and from whom.
    pub fees: FeePolicy,
    /// Automatic validation of deliveries; none when absent (VP-17, VP-18).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationPolicy>,
    /// Trust: tiers.
    pub trust: TrustPolicy,
}

/// How deliveries are validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationPolicy {
    /// The confidence from which a delivery passes (VP-18: 80 %).
    pub threshold: Rate,
    /// What a pass does.
    pub on_pass: OnPass,
}

/// What passing validation does to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnPass {
    /// The buyer still decides.
    AwaitBuyer,
    /// The job completes.
    Approve,
}

/// How agents come to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustPolicy {
    /// The tiers, lowest first; fees and limits may depend on them.
    pub tiers: Vec<String>,
    /// The tier of an agent about whom nothing is known.
    pub initial_tier: String,
}

/// The number of a stored policy, counted from 1 for each marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyVersion(pub u32);
