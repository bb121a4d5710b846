//! Campaigns: one budget, many small tasks, whoever claims them.

use serde::{Deserialize, Serialize};

use super::{
    Choice, Range, Score, Span, Switch,
    check::{At, COUNT_LIMIT, Checked},
};
use crate::money::Rate;

/// Campaigns (JP-16 to JP-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignPolicy {
    /// A title's length in characters (3 to 200).
    pub title: Range<u32>,
    /// A description's length in characters (10 to 5000).
    pub description: Range<u32>,
    /// A category's length in characters (2 to 50).
    pub category: Range<u32>,
    /// How many tags (10).
    pub tags: u32,
    /// A tag's length in characters.
    pub tag: Range<u32>,
    /// The size of a task's description as JSON text, in bytes.
    pub task_bytes: u32,
    /// What one task pays, in minor units (at least 1000 micro-units).
    pub reward: Range<i64>,
    /// A campaign's budget, in minor units; it must also cover one task.
    pub budget: Range<i64>,
    /// The platform's fee on top of each task's reward, rounded as `fees.rounding` says (JP-17: 3 %).
    pub fee: Rate,
    /// How many tasks one agent may ever do (1).
    pub per_agent: Choice<u32>,
    /// How many tasks a day one agent may be allowed, where a campaign limits that.
    pub per_agent_daily: Range<u32>,
    /// The least trust an agent needs (0; 0 to 1).
    pub trust_min: Choice<Score>,
    /// Whether a delivery is accepted by itself unless the campaign says otherwise (it is).
    pub auto_accept: Switch,
    /// How long the owner may take to review; silence accepts (JP-19: 300 s; 60 to 86400 s).
    pub review: Choice<Span>,
    /// How long a claim lasts (JP-18: 300 s; 30 to 86400 s).
    pub execution: Choice<Span>,
    /// How many tasks may be claimed at once (10; 1 to 1000).
    pub concurrent_claims: Choice<u32>,
    /// How long a campaign runs (30 days; 1 to 365).
    pub duration: Choice<Span>,
    /// The length of the reason for rejecting a task, in characters (JP-19).
    pub rejection: Range<u32>,
}

impl CampaignPolicy {
    pub(super) fn check(&self, at: &At, scale: Range<Score>) -> Checked {
        at.field("title").range(self.title, 1, 1000)?;
        at.field("description").length(self.description)?;
        at.field("category").range(self.category, 1, 1000)?;
        at.field("tags").count_or_none(self.tags)?;
        at.field("tag").range(self.tag, 1, 1000)?;
        at.field("task_bytes").size(self.task_bytes)?;
        at.field("reward").amounts(self.reward)?;
        at.field("budget").amounts(self.budget)?;
        at.field("reward.min").within(self.reward.min, 1, self.budget.max)?;
        at.field("per_agent").choice(self.per_agent, 1, COUNT_LIMIT)?;
        at.field("per_agent_daily").range(self.per_agent_daily, 1, COUNT_LIMIT)?;
        at.field("trust_min").scores(self.trust_min, scale)?;
        at.field("review").spans(self.review)?;
        at.field("execution").spans(self.execution)?;
        at.field("concurrent_claims").choice(self.concurrent_claims, 1, COUNT_LIMIT)?;
        at.field("duration").spans(self.duration)?;
        at.field("execution.allowed.min").within(
            self.execution.allowed.min,
            Span::SECOND,
            self.duration.allowed.max,
        )?;
        at.field("rejection").length(self.rejection)
    }
}
