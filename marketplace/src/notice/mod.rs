//! Notices: what agents are told of what happened, and how it reaches their servers.
//!
//! A named reader of the event log (`compose` is its pure part) makes of each event what its receivers
//! are told: a [`Notice`] for each agent and a [`Delivery`] for each of its [`Endpoint`]s. Their ids
//! follow from the event, so reading an event twice writes nothing twice. Workers send what is due
//! through a [`Courier`]; [`after`] decides what an answer means.
//!
//! No signing secret is kept. A secret follows from the embedder's pepper, the subscription and the
//! number of its rotations.

mod catalogue;
mod compose;
mod courier;
mod decide;
mod event;
#[cfg(feature = "http")]
mod http;
mod sign;
mod views;

pub(crate) use catalogue::{Topic, named};
pub(crate) use compose::{Beside, Facts, Told, compose, envelop, job_of, rows};
pub use courier::{Courier, Parcel, Reply, RestsUntil};
pub use decide::{Context, EndpointCommand, EndpointDecision, Outcome, Party, Target, after, decide};
pub use event::EndpointEvent;
#[cfg(feature = "http")]
pub use http::HttpPing;
pub(crate) use sign::secret;
pub use sign::{Message, Unverified, Verifier, sign};
pub(crate) use views::ClientView;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{AgentId, DeliveryId, EndpointId, JobId, NoticeId},
    store::Kept,
};

/// The event that tries an address (VP-01, PG-13).
pub(crate) const PING: &str = "webhook.ping";

/// A subscription: an address that an agent has its notices sent to (VP-37, PG-13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose notices.
    pub agent: AgentId,
    /// Only those of this job, instead of the agent's other addresses (JP-34).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Where to.
    pub url: String,
    /// Which events, by their names outside; empty for all. `job.*` stands for all that begin so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Whether anything is sent.
    pub state: EndpointState,
    /// How often its secret was rotated.
    pub rotations: u32,
    /// Until when the secret before the last rotation signs too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_until: Option<Timestamp>,
    /// Whether its present secret was shown. It is shown once.
    pub revealed: bool,
    /// How many deliveries in a row were given up.
    #[serde(default)]
    pub given_up: u32,
    /// The receiver asked to be left alone until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests_until: Option<Timestamp>,
    /// When it was made.
    pub added_at: Timestamp,
}

/// Whether anything is sent to a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// Yes.
    Active,
    /// Not for now: its agent wants it so. What happens meanwhile is kept and sent afterwards.
    Paused,
    /// It was switched off; what happens meanwhile is not kept for it.
    Disabled {
        /// Why, for its owner.
        reason: String,
    },
    /// It is no more.
    Removed,
}

impl EndpointState {
    /// The word used in stores and documents.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled { .. } => "disabled",
            Self::Removed => "removed",
        }
    }
}

/// A notice on its way to one address, and its log (VP-37).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Where to.
    pub endpoint: EndpointId,
    /// Whose.
    pub agent: AgentId,
    /// The event's name outside.
    pub event: String,
    /// What is sent, byte for byte the same each time.
    pub body: String,
    /// What has become of it.
    pub state: DeliveryState,
    /// How often it was tried since it was made or replayed.
    pub tries: u32,
    /// The tries, oldest first; the newest 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<Try>,
    /// The beginning of the last answer's body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// When it was made.
    pub made_at: Timestamp,
}

/// What has become of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is to be tried.
    Pending {
        /// When next.
        next_at: Timestamp,
    },
    /// The receiver took it.
    Delivered,
    /// It was tried as often as the policy says.
    Failed,
    /// Its subscription is paused or switched off. Resuming it sends it.
    Held,
    /// Its subscription is no more.
    Dropped,
}

impl DeliveryState {
    /// The word used in stores and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Dropped => "dropped",
        }
    }
}

/// One try of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// When it ended.
    pub at: Timestamp,
    /// The receiver's status code, if it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Something an agent is told (VP-32).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its id.
    pub id: NoticeId,
    /// Who is told.
    pub agent: AgentId,
    /// The job it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The event's name outside.
    pub event: String,
    /// What is told.
    pub payload: Value,
    /// When it happened.
    pub at: Timestamp,
    /// When the agent marked it as read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
}

impl Endpoint {
    /// Whether it wants an event of this name.
    pub fn wants(&self, event: &str) -> bool {
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => event.starts_with(start),
            None => wanted == event,
        };
        self.events.is_empty() || self.events.iter().any(fits)
    }

    /// The address's host, for people and logs.
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }
}

impl Kept for Endpoint {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        self.state.as_str()
    }

    /// Its agent, or its job if it is for one job only.
    fn parties(&self) -> [Option<Uuid>; 2] {
        match self.job {
            None => [Some(self.agent.0), None],
            Some(job) => [None, Some(job.0)],
        }
    }
}

impl Kept for Delivery {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        self.state.as_str()
    }

    /// Its subscription and its agent.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.endpoint.0), Some(self.agent.0)]
    }

    fn due_at(&self) -> Option<Timestamp> {
        match self.state {
            DeliveryState::Pending { next_at } => Some(next_at),
            DeliveryState::Delivered | DeliveryState::Failed | DeliveryState::Held | DeliveryState::Dropped => None,
        }
    }
}

impl Kept for Notice {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        if self.read_at.is_some() { "read" } else { "unread" }
    }

    /// Its agent and its job.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.agent.0), self.job.map(|job| job.0)]
    }
}
