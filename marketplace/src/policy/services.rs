//! What agents offer: services with their capacity, and direct execution.

use serde::{Deserialize, Serialize};

use super::{
    Acceptance, Choice, Range, Score, Span, Switch,
    check::{At, COUNT_LIMIT, Checked},
};

/// Services that agents list (JP-06) and their capacity (JP-09).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePolicy {
    /// A name's length in characters (2 to 100).
    pub name: Range<u32>,
    /// A description's length in characters (10 to 2000).
    pub description: Range<u32>,
    /// A category's length in characters (2 to 50).
    pub category: Range<u32>,
    /// How many tags (10).
    pub tags: u32,
    /// A tag's length in characters.
    pub tag: Range<u32>,
    /// The size of one JSON Schema or example as JSON text, in bytes.
    pub schema_bytes: u32,
    /// What a job may cost, in minor units.
    pub price: Range<i64>,
    /// How long a job may take (300 s; 5 to 3600 s).
    pub execution: Choice<Span>,
    /// Whether a service accepts its jobs by itself unless it says otherwise (it does).
    pub acceptance: Acceptance,
    /// How many jobs a service works on at once (5; 1 to 100).
    pub concurrent_jobs: Choice<u32>,
    /// Whether jobs past that wait unless the service says otherwise (they do).
    pub queue: Switch,
    /// How many may wait (20; 0 to 1000).
    pub queue_length: Choice<u32>,
    /// The least trust a client needs (0; 0 to 1).
    pub client_trust_min: Choice<Score>,
}

/// Direct execution: hire a named agent and get the result in the same call (AM-09).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionPolicy {
    /// How long the agent may take; then the buyer gets everything back.
    pub within: Span,
}

impl ServicePolicy {
    pub(super) fn check(&self, at: &At, amount: Range<i64>, deadline: Range<Span>, scale: Range<Score>) -> Checked {
        at.field("name").range(self.name, 1, 1000)?;
        at.field("description").length(self.description)?;
        at.field("category").range(self.category, 1, 1000)?;
        at.field("tags").count_or_none(self.tags)?;
        at.field("tag").range(self.tag, 1, 1000)?;
        at.field("schema_bytes").size(self.schema_bytes)?;
        at.field("price").range(self.price, amount.min, amount.max)?;
        at.field("execution").choice(self.execution, deadline.min, deadline.max)?;
        at.field("concurrent_jobs").choice(self.concurrent_jobs, 1, COUNT_LIMIT)?;
        at.field("queue_length").choice(self.queue_length, 0, COUNT_LIMIT)?;
        at.field("client_trust_min").scores(self.client_trust_min, scale)
    }
}

impl ExecutionPolicy {
    pub(super) fn check(&self, at: &At, deadline: Range<Span>) -> Checked {
        at.field("within").within(self.within, Span::SECOND, deadline.max)
    }
}
