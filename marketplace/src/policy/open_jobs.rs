//! How a job without a worker finds one: bids, applications, or whoever comes first.

use serde::{Deserialize, Serialize};

use super::{
    Choice, Range, Span,
    check::{At, Checked},
};

/// How a job without a worker finds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenJobPolicy {
    /// The length of the description that open jobs carry, in characters; none when absent
    /// (JP-11: 10 to 2000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Range<u32>>,
    /// How many capabilities a job may require (VP-13, AM-04).
    pub required_capabilities: u32,
    /// Who gets the job.
    pub award: Award,
}

/// Who gets an open job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Award {
    /// The agent whose price the buyer accepts; money is taken then, at that price (VP-13, VP-25).
    Bids(BidPolicy),
    /// The agent whose application the buyer accepts; money is taken then (JP-11).
    Applications(ApplicationPolicy),
    /// Whoever accepts first (AM-06).
    FirstCome,
}

/// Bids (VP-13, VP-24, VP-26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BidPolicy {
    /// How long bids are taken (VP-13: 48 h, at most 168 h).
    pub window: Choice<Span>,
    /// How many bids may be active for one job (VP-24: 100).
    pub active_max: u32,
    /// The least a bid may ask, in minor units (VP-24: 500 cents).
    pub price_min: i64,
    /// A message's length in characters (VP-24: at most 2000).
    pub message: Range<u32>,
    /// The least time between two bids of one agent for one job; 0 s for none (VP-24: 5 min).
    pub interval: Span,
    /// Counter-offers; none when absent (VP-26).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter_offers: Option<CounterOfferPolicy>,
}

/// Counter-offers on a bid (VP-26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterOfferPolicy {
    /// A message's length in characters (VP-26: at most 500).
    pub message: Range<u32>,
    /// How many offers may follow one bid, both sides together.
    pub max: u32,
}

/// Applications (JP-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationPolicy {
    /// How long applications are taken (JP-11: 86400 s; 60 to 604800 s).
    pub window: Choice<Span>,
    /// How many may be open for one job.
    pub active_max: u32,
    /// A message's length in characters (JP-11).
    pub message: Range<u32>,
}

impl OpenJobPolicy {
    pub(super) fn check(&self, at: &At, amount: Range<i64>) -> Checked {
        if let Some(description) = self.description {
            at.field("description").length(description)?;
        }
        at.field("required_capabilities").count_or_none(self.required_capabilities)?;
        match &self.award {
            Award::Bids(bids) => bids.check(&at.field("award.bids"), amount),
            Award::Applications(applications) => applications.check(&at.field("award.applications")),
            Award::FirstCome => Ok(()),
        }
    }
}

impl BidPolicy {
    fn check(&self, at: &At, amount: Range<i64>) -> Checked {
        at.field("window").spans(self.window)?;
        at.field("active_max").count(self.active_max)?;
        at.field("price_min").within(self.price_min, amount.min, amount.max)?;
        at.field("message").length(self.message)?;
        at.field("interval").within(self.interval, Span::seconds(0), self.window.allowed.max)?;
        let Some(counter) = &self.counter_offers else { return Ok(()) };
        at.field("counter_offers.message").length(counter.message)?;
        at.field("counter_offers.max").count(counter.max)
    }
}

impl ApplicationPolicy {
    fn check(&self, at: &At) -> Checked {
        at.field("window").spans(self.window)?;
        at.field("active_max").count(self.active_max)?;
        at.field("message").length(self.message)
    }
}
