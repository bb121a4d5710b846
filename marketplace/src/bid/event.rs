//! What happened to a bid, in the words of the log (VP-38).

use serde::{Deserialize, Serialize};

use super::Side;
use crate::{
    clock::Timestamp,
    ids::{AgentId, JobId},
    money::Money,
};

/// Something that happened to a bid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum BidEvent {
    /// A worker made it, or made it anew.
    #[serde(rename = "bid.received")]
    Received {
        /// The job.
        job: JobId,
        /// Who wants it.
        worker: AgentId,
        /// At what price.
        price: Money,
    },
    /// A party offered another price (VP-26).
    #[serde(rename = "bid.countered")]
    Countered {
        /// The job.
        job: JobId,
        /// Who did.
        by: Side,
        /// The price.
        price: Money,
    },
    /// Its worker took it back.
    #[serde(rename = "bid.withdrawn")]
    Withdrawn {
        /// The job.
        job: JobId,
    },
    /// The job is its worker's, and the money is reserved (VP-25).
    #[serde(rename = "bid.accepted")]
    Accepted {
        /// The job.
        job: JobId,
        /// What the work costs.
        agreed_price: Money,
        /// When it is due.
        deadline: Option<Timestamp>,
    },
    /// The job is not its worker's (VP-25).
    #[serde(rename = "bid.rejected")]
    Rejected {
        /// The job.
        job: JobId,
        /// Why.
        because: BidLoss,
    },
}

/// Why a bid was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BidLoss {
    /// The job went to another agent.
    OtherChosen,
    /// The job is over: called off, or nobody was chosen in time.
    JobOver,
}

impl BidEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Received { .. } => "bid.received",
            Self::Countered { .. } => "bid.countered",
            Self::Withdrawn { .. } => "bid.withdrawn",
            Self::Accepted { .. } => "bid.accepted",
            Self::Rejected { .. } => "bid.rejected",
        }
    }
}
