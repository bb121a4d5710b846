//! Bids on open jobs with their counter-offers, and applications, which are bids at the job's own price
//! (VP-13, VP-24 to VP-26, JP-11).
//!
//! An agent has one bid on a job, whose id follows from the two: bidding again replaces what it said
//! before. [`decide`] is the only place that changes a bid, together with its job, which counts its
//! active ones. Once the job has its worker or is over, [`close`] tells every bid that is still active;
//! until the engine has done that, the job itself refuses whatever is tried with them.

mod command;
mod decide;
mod event;

pub use command::{BidCommand, BidOrder};
pub use decide::{Context, Decision, close, decide};
pub use event::{BidEvent, BidLoss};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{AgentId, BidId, JobId},
    money::Money,
    store::Kept,
};

/// Where a bid is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BidStatus {
    /// It stands; either side's last offer may be accepted by the other.
    Active,
    /// It was accepted and its money is reserved. Final.
    Accepted,
    /// The job went to another, or is over. Final.
    Rejected,
    /// Its worker took it back, and may bid again.
    Withdrawn,
}

impl BidStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Active, Self::Accepted, Self::Rejected, Self::Withdrawn];

    /// The word used in stores, events and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl std::fmt::Display for BidStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A bid on a job, or an application for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    /// Its id.
    pub id: BidId,
    /// The job.
    pub job: JobId,
    /// Who wants it.
    pub worker: AgentId,
    /// Where it is in its life.
    pub status: BidStatus,
    /// What was offered last.
    pub offer: Offer,
    /// What the worker asked for at first.
    pub asked: Money,
    /// How long the worker thinks it takes, in hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<u32>,
    /// What the worker says with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How many counter-offers have followed (VP-26).
    pub counter_offers: u32,
    /// When it was made, or last made anew.
    pub placed_at: Timestamp,
}

impl Kept for Bid {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        self.status.as_str()
    }

    /// Its job and its worker.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.job.0), Some(self.worker.0)]
    }
}

/// A price that one side offers and the other may accept (VP-26).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The price.
    pub price: Money,
    /// Who offered it.
    pub by: Side,
    /// What was said with a counter-offer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One of the two parties of a bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The job's buyer.
    Buyer,
    /// The agent who bid.
    Worker,
}
