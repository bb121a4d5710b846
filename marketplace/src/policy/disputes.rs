//! How a disagreement about a delivery is settled.

use serde::{Deserialize, Serialize};

use super::{
    OnExpiry, Range, Span,
    check::{At, Checked},
};
use crate::{
    job::JobStatus,
    money::{Rate, Rounding},
};

/// How a disagreement about a delivery is settled (VP-30, VP-31, JP-13, JP-14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisputePolicy {
    /// The statuses of a job that may be disputed (VP-30, JP-13: delivered).
    pub statuses: Vec<JobStatus>,
    /// Who may open one (JP-13: either side).
    pub by: Disputant,
    /// The words one of which a dispute must name; none is asked when empty (JP-13).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// The length of what the claimant says, in characters (VP-30: 10 to 5000; JP-13: at most 1000).
    pub reason: Range<u32>,
    /// How long the other party has to answer before anybody judges; it is judged at once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_within: Option<Span>,
    /// What may be submitted; nothing when absent (VP-30).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidencePolicy>,
    /// What opening one costs; nothing when absent (JP-13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<DisputeFee>,
    /// The automated tier; straight to people when absent (VP-30).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automated: Option<AutomatedTier>,
    /// The tier of people.
    pub human: HumanTier,
    /// How a ruling may divide the amount besides giving it to one side.
    pub split: SplitRuling,
    /// What happens to the money when the rail can hold it no longer and nobody has ruled. A ruling that
    /// waits for its appeal window is carried out then.
    pub hold_expiry: OnExpiry,
    /// What happens to agents who dispute too much; nothing when absent (JP-14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abuse: Option<AbuseRestriction>,
}

/// Who may open a dispute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disputant {
    /// The buyer.
    Buyer,
    /// The buyer or the worker.
    Either,
}

/// What may be submitted with a dispute (VP-30).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidencePolicy {
    /// How many items each side may submit.
    pub items: u32,
    /// The kinds (VP-30: text, url, file).
    pub kinds: Vec<EvidenceKind>,
    /// An item's length in characters.
    pub length: Range<u32>,
}

/// A kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// A text.
    Text,
    /// An address.
    Url,
    /// A file of the job.
    File,
}

/// What opening a dispute costs (JP-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisputeFee {
    /// As a share of the job's amount (JP-13: 5 %).
    pub rate: Rate,
    /// At least this and at most that, in minor units (JP-13: 0.10 to 5.00 USDC).
    pub limits: Range<i64>,
    /// How it is rounded.
    #[serde(default)]
    pub rounding: Rounding,
    /// From whose available balance (JP-13: the claimant's).
    pub payer: FeePayer,
    /// Whether it ever comes back (JP-13: never).
    pub returned: FeeReturn,
}

/// Who pays for a dispute, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeePayer {
    /// Whoever opens it, when opening it.
    Claimant,
    /// Both sides, half each, when it is opened. An odd unit is the claimant's; the other side's half is
    /// owed, so that nobody can keep a dispute from being opened by an empty wallet.
    Both,
}

/// Whether a dispute's fee comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeeReturn {
    /// Never.
    Never,
    /// To the side that wins a ruling, what that side paid.
    ToWinner,
}

/// The automated tier (VP-30, VP-31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutomatedTier {
    /// A ruling with less confidence goes to people.
    pub confidence: Rate,
    /// An arbiter that has not answered by then is passed over: the dispute goes to people.
    pub within: Span,
    /// How long either side may ask for people; the money stays held meanwhile (VP-31: 7 days).
    pub appeal_within: Span,
}

/// The tier of people (VP-31, JP-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HumanTier {
    /// The service level: a dispute older than this is overdue in the operators' queue (VP-31: 48 h).
    pub within: Span,
}

/// How a ruling may divide the amount besides giving it to one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SplitRuling {
    /// Not at all.
    Never,
    /// Always by the same share (JP-13: 50:50).
    Fixed {
        /// The worker's share.
        to_worker: Rate,
    },
    /// By any share (VP-30).
    Any,
}

/// What happens to agents who dispute too much; it lifts by itself (JP-14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbuseRestriction {
    /// From how many disputes filed on (JP-14: 3).
    pub filed: u32,
    /// And from which rate on: filed / (completed + filed) (JP-14: 40 %).
    pub rate: Rate,
    /// What the agent may then not do (JP-14: post nor dispute).
    pub forbids: Vec<Restricted>,
}

/// What a restricted agent may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restricted {
    /// Post jobs.
    Post,
    /// Open disputes.
    Dispute,
}

impl EvidenceKind {
    /// The word used in policies and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Url => "url",
            Self::File => "file",
        }
    }
}

impl DisputePolicy {
    /// The statuses in which a job's work has begun and its money is still held.
    const LEGAL: [JobStatus; 5] = [
        JobStatus::Accepted,
        JobStatus::InProgress,
        JobStatus::Validating,
        JobStatus::Delivered,
        JobStatus::RevisionRequested,
    ];

    pub(super) fn check(&self, at: &At) -> Checked {
        let statuses = at.field("statuses");
        statuses.distinct(&self.statuses)?;
        if self.statuses.is_empty() {
            return Err(statuses.refuse("[]", "allowed is at least one status"));
        }
        if let Some(i) = self.statuses.iter().position(|status| !Self::LEGAL.contains(status)) {
            return Err(statuses.entry(i).refuse(self.statuses[i], one_of(&Self::LEGAL)));
        }
        if !self.categories.is_empty() {
            at.field("categories").words(&self.categories)?;
        }
        at.field("reason").length(self.reason)?;
        if let Some(within) = self.answer_within {
            at.field("answer_within").span(within)?;
        }
        if let Some(evidence) = &self.evidence {
            let at = at.field("evidence");
            at.field("items").count(evidence.items)?;
            at.field("kinds").within(evidence.kinds.len(), 1, 3)?;
            at.field("kinds").distinct(&evidence.kinds)?;
            at.field("length").length(evidence.length)?;
        }
        if let Some(fee) = &self.fee {
            at.field("fee.limits").range(fee.limits, 0, super::check::AMOUNT_LIMIT)?;
            at.field("fee.limits.max").amount(fee.limits.max)?;
        }
        if let Some(automated) = &self.automated {
            let at = at.field("automated");
            at.field("within").span(automated.within)?;
            at.field("appeal_within").span(automated.appeal_within)?;
        }
        at.field("human.within").span(self.human.within)?;
        if let SplitRuling::Fixed { to_worker } = self.split
            && (to_worker == Rate::ZERO || to_worker == Rate::ONE)
        {
            let allowed = "allowed is a share between 0 and 1: the whole is a ruling for one side";
            return Err(at.field("split.fixed.to_worker").refuse(to_worker.share(), allowed));
        }
        if let Some(abuse) = &self.abuse {
            let at = at.field("abuse");
            at.field("filed").count(abuse.filed)?;
            if abuse.rate == Rate::ZERO {
                return Err(at
                    .field("rate")
                    .refuse("0", "allowed is a rate above 0: the restriction would never lift"));
            }
            at.field("forbids").within(abuse.forbids.len(), 1, 2)?;
            at.field("forbids").distinct(&abuse.forbids)?;
        }
        Ok(())
    }
}

/// `allowed are a, b, c`.
pub(super) fn one_of(statuses: &[JobStatus]) -> String {
    let words: Vec<_> = statuses.iter().map(|status| status.as_str()).collect();
    format!("allowed are {}", words.join(", "))
}
