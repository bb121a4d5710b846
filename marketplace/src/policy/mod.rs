//! What a marketplace can configure.
//!
//! A policy is data: loaded from TOML or JSON, validated once, numbered by the store, and pinned to
//! each contract when it is made, so that a later change never alters a job under way. The four
//! systems Tradepost was measured against are the four files in `policies/`, and
//! [`Policy::voxpact`] and its sisters.
//!
//! Amounts are whole minor units of the policy's one currency, rates and scores are decimals written
//! as strings, lengths of time are written `72h`. A section that a marketplace does not have is
//! absent, and what it governs is then refused.

mod agents;
mod agreements;
mod campaigns;
mod catalogue;
mod check;
mod community;
mod disputes;
mod files;
mod jobs;
mod keyed;
mod load;
mod open_jobs;
mod reversals;
mod score;
mod search;
mod services;
mod span;
mod systems;
mod trust;
mod validate;
mod wallet;
mod webhooks;

pub use agents::{
    Activation, AgentPolicy, Alphabet, ConfirmationPolicy, KeyIssue, KeyPolicy, KeyRecovery, RegistrationWebhook,
};
pub use agreements::{AgreementDisputes, AgreementPolicy, ApprovalPolicy, Screening};
pub use campaigns::CampaignPolicy;
pub use catalogue::{Envelope, Form, NoticeRule, Recipient, Root, Source};
pub use community::{Badge, MessagePolicy, ProposalPolicy, ReportPolicy, ReportTarget, ReviewPolicy};
pub use disputes::{
    AbuseRestriction, AutomatedTier, Disputant, DisputeFee, DisputePolicy, EvidenceKind, EvidencePolicy, FeePayer,
    FeeReturn, HumanTier, Restricted, SplitRuling,
};
pub use files::{FileLimits, FilePolicy, PreviewPolicy};
pub use jobs::{
    Acceptance, Bearer, CancellationTerms, Consensus, DeadlineFrom, DeadlinePolicy, EscrowAt, FeePolicy, FeeRate,
    HoldExpiry, JobPolicy, OnExpiry, OnPass, Review, RevisionPolicy, ValidationPolicy,
};
pub use load::PolicyError;
pub use open_jobs::{ApplicationPolicy, Award, BidPolicy, CounterOfferPolicy, OpenJobPolicy};
pub use reversals::{LossBearer, ReversalPolicy};
pub use score::Score;
pub use search::SearchPolicy;
pub use services::{ExecutionPolicy, ServicePolicy};
pub use span::{Choice, Presence, Range, Span, Switch};
pub use trust::{
    BetaScoring, ClientWeight, MeanScoring, RatingBounds, ReportWeight, Scoring, ShareWeight, StepScoring, Tier,
    TrustEvent, TrustPolicy, Verification, WeightedScoring,
};
pub use wallet::{SpendingPeriod, SpendingPolicy, WalletPolicy, WithdrawalPolicy};
pub use webhooks::{ShownUrl, SignatureStyle, WebhookPolicy};

use serde::{Deserialize, Serialize};

use crate::money::Currency;

/// Everything about a marketplace that is a choice and not a mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The marketplace's name, for people.
    pub name: String,
    /// The one currency of its contracts and wallets.
    pub currency: Currency,
    /// Agents: registration, activation, keys.
    pub agents: AgentPolicy,
    /// Jobs: limits, deadlines, review, cancelling.
    pub jobs: JobPolicy,
    /// What the platform takes, and from whom.
    pub fees: FeePolicy,
    /// How a job without a worker finds one; every job names its worker when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_jobs: Option<OpenJobPolicy>,
    /// Automatic validation of deliveries; none when absent (VP-17, VP-18).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationPolicy>,
    /// Disputes; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disputes: Option<DisputePolicy>,
    /// Who bears what goes back after payout; the platform, and nothing but chargebacks goes back, when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversals: Option<ReversalPolicy>,
    /// Reviews after completion; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviews: Option<ReviewPolicy>,
    /// Trust: scale, scoring, tiers.
    pub trust: TrustPolicy,
    /// Searching agents and open jobs; neither is searched when absent (VP-11, VP-15, AM-02).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchPolicy>,
    /// Internal balances that agents see and use; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet: Option<WalletPolicy>,
    /// Spending limits; none when absent (VP-08).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spending: Option<SpendingPolicy>,
    /// Owners' guardrails for their agents; none when absent (PG-12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<ApprovalPolicy>,
    /// Services and their capacity; none when absent (JP-06, JP-09).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicePolicy>,
    /// Direct execution; impossible when absent (AM-09).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionPolicy>,
    /// Campaigns; none when absent (JP-16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaigns: Option<CampaignPolicy>,
    /// Usage agreements; none when absent (PG-02).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreements: Option<AgreementPolicy>,
    /// Messages between a job's parties; none when absent (VP-28).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessagePolicy>,
    /// Files of a job; none when absent (VP-27).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilePolicy>,
    /// Reports; none when absent (JP-29).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports: Option<ReportPolicy>,
    /// The proposals board; none when absent (JP-30).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposals: Option<ProposalPolicy>,
    /// Webhooks; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<WebhookPolicy>,
}

impl Policy {
    /// The tier of an agent about whom nothing is known.
    pub fn initial_tier(&self) -> &str {
        self.trust.tier_of(self.trust.initial.value())
    }
}

/// The number of a stored policy, counted from 1 for each marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct PolicyVersion(pub u32);
