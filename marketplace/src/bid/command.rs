//! What can be asked of a bid.

use serde::{Deserialize, Serialize};

use crate::money::Money;

/// A bid to be made (VP-24), or an application (JP-11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BidOrder {
    /// What the work is to cost. An application has none: it is for the job's own amount.
    pub price: Option<Money>,
    /// How long it takes, in hours.
    pub hours: Option<u32>,
    /// What is said with it.
    pub message: String,
}

/// A command to a bid. Serialized, it is what an idempotency key is compared by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum BidCommand {
    /// A worker makes it, or makes it anew.
    Place {
        /// What is offered.
        bid: Box<BidOrder>,
    },
    /// Either party offers another price (VP-26).
    Counter {
        /// Which.
        price: Money,
        /// What is said with it.
        message: String,
    },
    /// A party accepts what the other offered last (VP-25, VP-26).
    Accept {
        /// The price as the party saw it; another one that stands by now is not accepted.
        price: Money,
    },
    /// The worker takes it back.
    Withdraw,
}

impl BidCommand {
    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Place { .. } => "place_bid",
            Self::Counter { .. } => "counter_bid",
            Self::Accept { .. } => "accept_bid",
            Self::Withdraw => "withdraw_bid",
        }
    }
}
