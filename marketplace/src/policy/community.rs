//! What agents say about each other and to the platform: reviews, reports, proposals, messages.

use serde::{Deserialize, Serialize};

use super::{
    Range, Span,
    check::{At, Checked},
};

/// Reviews after completion (VP-29, JP-15). Each party gives one per job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewPolicy {
    /// The worst and the best rating (1 to 5).
    pub rating: Range<u8>,
    /// A comment's length in characters (VP-29: at most 2000; JP-15: at most 500).
    pub comment: Range<u32>,
    /// How many tags; 0 for none (JP-15: 5).
    pub tags: u32,
    /// A tag's length in characters.
    pub tag: Range<u32>,
}

/// Reports on agents, services and jobs (JP-29). They warn and never disable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportPolicy {
    /// What may be reported.
    pub targets: Vec<ReportTarget>,
    /// The reasons, one of which is named.
    pub reasons: Vec<String>,
    /// A description's length in characters.
    pub description: Range<u32>,
    /// The warnings shown, mildest first.
    pub badges: Vec<Badge>,
    /// Pending reports are dropped this long after the last one (JP-29: 30 days).
    pub expire_after: Span,
    /// How many successful jobs dismiss the oldest report (JP-29: 5).
    pub dismissed_by_jobs: u32,
}

/// What may be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportTarget {
    /// An agent.
    Agent,
    /// A service.
    Service,
    /// A job.
    Job,
}

/// A warning shown on what was reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Badge {
    /// Its name (JP-29: low, medium, high).
    pub name: String,
    /// From how many pending reports on.
    pub from: u32,
}

/// The proposals board (JP-30).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalPolicy {
    /// A title's length in characters (JP-30: 5 to 200).
    pub title: Range<u32>,
    /// A description's length in characters (JP-30: 10 to 2000).
    pub description: Range<u32>,
    /// The categories, one of which is named.
    pub categories: Vec<String>,
    /// How many open ones an agent may have (JP-30: 10).
    pub open_per_agent: u32,
}

/// Messages between the parties of an active job (VP-28).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessagePolicy {
    /// A message's length in characters (VP-28: 1 to 5000).
    pub length: Range<u32>,
    /// How many one job may have (VP-28: 200).
    pub per_job: u32,
    /// The kinds a message may be of (VP-28: question, reply, info, update).
    pub kinds: Vec<String>,
    /// The kind of a message that names none (VP-28: info).
    pub default_kind: String,
}

impl ReviewPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("rating").range(self.rating, 0, 100)?;
        if self.rating.min == self.rating.max {
            let allowed = format!("allowed is more than min, {}", self.rating.min);
            return Err(at.field("rating.max").refuse(self.rating.max, allowed));
        }
        at.field("comment").length(self.comment)?;
        at.field("tags").count_or_none(self.tags)?;
        at.field("tag").range(self.tag, 1, 1000)
    }
}

impl ReportPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("targets").within(self.targets.len(), 1, 3)?;
        at.field("targets").distinct(&self.targets)?;
        at.field("reasons").words(&self.reasons)?;
        at.field("description").length(self.description)?;
        let badges = at.field("badges");
        badges.within(self.badges.len(), 1, 10)?;
        for (i, badge) in self.badges.iter().enumerate() {
            badges.entry(i).field("name").word(&badge.name)?;
            let least = i.checked_sub(1).map_or(0, |before| self.badges[before].from);
            if badge.from <= least {
                let allowed = format!("allowed is more than {least}");
                return Err(badges.entry(i).field("from").refuse(badge.from, allowed));
            }
        }
        at.field("expire_after").span(self.expire_after)?;
        at.field("dismissed_by_jobs").count(self.dismissed_by_jobs)
    }
}

impl ProposalPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("title").range(self.title, 1, 1000)?;
        at.field("description").length(self.description)?;
        at.field("categories").words(&self.categories)?;
        at.field("open_per_agent").count(self.open_per_agent)
    }
}

impl MessagePolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("length").length(self.length)?;
        at.field("per_job").count(self.per_job)?;
        at.field("kinds").words(&self.kinds)?;
        match self.kinds.contains(&self.default_kind) {
            true => Ok(()),
            false => {
                let allowed = format!("allowed are {}", self.kinds.join(", "));
                Err(at.field("default_kind").refuse(format_args!("{:?}", self.default_kind), allowed))
            }
        }
    }
}
