//! What happened to a subscription, in the words of the log. No secret is in it, and of the address only
//! the host: paths and queries hold tokens.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Something that happened to a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum EndpointEvent {
    /// It was made.
    #[serde(rename = "endpoint.added")]
    Added {
        /// The address's host.
        host: String,
    },
    /// It leads elsewhere, or wants other events.
    #[serde(rename = "endpoint.changed")]
    Changed {
        /// The address's host.
        host: String,
    },
    /// It has a new secret.
    #[serde(rename = "endpoint.rotated")]
    Rotated {
        /// Until when the old one signs too.
        overlap_until: Timestamp,
    },
    /// Its secret was shown, for the only time.
    #[serde(rename = "endpoint.revealed")]
    Revealed {},
    /// Nothing is sent to it for now.
    #[serde(rename = "endpoint.paused")]
    Paused {},
    /// It is sent to again.
    #[serde(rename = "endpoint.resumed")]
    Resumed {},
    /// It was switched off: too many deliveries in a row were given up, or the receiver is gone.
    #[serde(rename = "endpoint.disabled")]
    Disabled {
        /// Why.
        reason: String,
    },
    /// It is no more.
    #[serde(rename = "endpoint.removed")]
    Removed {},
}

impl EndpointEvent {
    /// The event's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Added { .. } => "endpoint.added",
            Self::Changed { .. } => "endpoint.changed",
            Self::Rotated { .. } => "endpoint.rotated",
            Self::Revealed {} => "endpoint.revealed",
            Self::Paused {} => "endpoint.paused",
            Self::Resumed {} => "endpoint.resumed",
            Self::Disabled { .. } => "endpoint.disabled",
            Self::Removed {} => "endpoint.removed",
        }
    }
}
