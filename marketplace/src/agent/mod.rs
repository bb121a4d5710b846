//! Agents and the people behind them: registration, activation, keys, suspension, deletion.
//!
//! [`decide`] is the only place that changes an agent. It is pure, as a job's is. An agent is no
//! contract: what it does is judged by the newest policy, not by the one it registered under.

mod command;
mod decide;
mod event;

pub use command::{AcceptedTerms, AgentCommand, ProfileUpdate, Registration};
pub use decide::{Context, Decision, Fresh, FreshKey, decide};
pub use event::AgentEvent;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{AgentId, OwnerId},
    money::Money,
    secret::Digest,
    store::Kept,
};

/// Where an agent is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Its owner has not confirmed it (VP-01).
    PendingVerification,
    /// Its activation has not been paid for (VP-02).
    AwaitingFee,
    /// Its first deposit has not come (JP-02).
    AwaitingDeposit,
    /// It may post and take on jobs.
    Active,
    /// An operator has stopped it.
    Suspended,
    /// It is to be deleted, and the engine looks whether a job of its began at the same moment: then it
    /// is what it was, otherwise deleted.
    Closing,
    /// It is gone; its id and its history stay. Final.
    Deleted,
}

impl AgentStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::PendingVerification,
        Self::AwaitingFee,
        Self::AwaitingDeposit,
        Self::Active,
        Self::Suspended,
        Self::Closing,
        Self::Deleted,
    ];

    /// The word used in stores, events and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingVerification => "pending_verification",
            Self::AwaitingFee => "awaiting_fee",
            Self::AwaitingDeposit => "awaiting_deposit",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Closing => "closing",
            Self::Deleted => "deleted",
        }
    }
}

impl std::fmt::Display for AgentStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An agent: everything that decides about it. Its keys and tokens are here as digests only; what
/// everybody may see of it is its [`PublicProfile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Who is behind it.
    pub owner: OwnerId,
    /// Where it is in its life.
    pub status: AgentStatus,
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub profile: Profile,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// When it first became active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<Timestamp>,
    /// The terms its owner accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_terms: Option<AcceptedTerms>,
    /// What its activation costs, while it has to be paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<Money>,
    /// While it waits for its owner's confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Token>,
    /// While its owner may recover its key (VP-05).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Token>,
    /// Its keys, oldest first (JP-03).
    pub keys: Vec<ApiKey>,
    /// How many keys it ever had; the next one's number.
    pub keys_made: u32,
    /// Sessions that a host opened for it before this moment are dead (VP-04, VP-05).
    pub sessions_since: Timestamp,
    /// While suspended or closing: what it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<AgentStatus>,
}

impl Agent {
    /// The tag that active agents with a capability are listed under.
    pub(crate) fn tag(capability: &str) -> String {
        format!("can/{capability}")
    }

    /// What it is listed under: each of its capabilities, while it is active.
    pub(crate) fn tags(&self) -> Vec<String> {
        let active = self.status == AgentStatus::Active;
        let tags = self.profile.capabilities.iter().filter(|_| active).map(|capability| Self::tag(capability));
        tags.collect::<BTreeSet<_>>().into_iter().collect() // a profile may say the same twice
    }
}

/// What an agent says about itself (VP-07, JP-04).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// What it does, in a few lines.
    pub description: String,
    /// What it can do, a word or two each (VP-11, AM-02).
    pub capabilities: Vec<String>,
    /// Where it is told of events: an `https` address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Its picture: an `https` address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// Its website: an `https` address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website: Option<String>,
    /// What it asks for, for display; no rule reads it (VP-01).
    pub rates: RateCard,
}

/// What an agent usually asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateCard {
    /// For a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_task: Option<Money>,
    /// For an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<Money>,
}

/// A one-time token, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its digest.
    pub digest: Digest,
    /// The last moment at which it counts is before this one.
    pub expires_at: Timestamp,
}

/// An API key, as it is kept (JP-03).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its number among the agent's keys, for ever.
    pub id: KeyId,
    /// What its agent calls it.
    pub name: String,
    /// Its beginning: all that is ever shown of it again.
    pub shown: String,
    /// Its digest.
    pub digest: Digest,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A key's number among its agent's keys, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct KeyId(pub u32);

/// The person or company behind agents, as far as rules read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its id.
    pub id: OwnerId,
    /// Its e-mail address, as first given. Anybody can give any address: it is theirs only once an
    /// agent of the owner was confirmed by a token that was sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// How many agents' activations were priced; the first may be cheaper (VP-02).
    pub priced: u32,
    /// When a recovery was last asked for (VP-05).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_asked_at: Option<Timestamp>,
}

/// What everybody may see of an agent (VP-10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicProfile {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub status: AgentStatus,
    /// What it does.
    pub description: String,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Its picture.
    pub avatar: Option<String>,
    /// Its website.
    pub website: Option<String>,
    /// What it usually asks for.
    pub rates: RateCard,
    /// When it was registered.
    pub registered_at: Timestamp,
}

impl Agent {
    /// What everybody may see of it.
    pub fn public(&self) -> PublicProfile {
        let Profile { description, capabilities, avatar, website, rates, .. } = self.profile.clone();
        PublicProfile {
            id: self.id,
            name: self.name.clone(),
            status: self.status,
            description,
            capabilities,
            avatar,
            website,
            rates,
            registered_at: self.registered_at,
        }
    }

    /// The key that has this digest. Every key is compared, so that the time taken tells nothing.
    pub(crate) fn api_key(&self, digest: &Digest) -> Option<&ApiKey> {
        let found = |found, key| if key_is(key, digest) { Some(key) } else { found };
        self.keys.iter().fold(None, found)
    }
}

fn key_is(key: &ApiKey, digest: &Digest) -> bool {
    key.digest == *digest
}

impl Kept for Agent {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        self.status.as_str()
    }

    /// Its owner.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.owner.0), None]
    }

    /// At once while it is closing.
    fn due_at(&self) -> Option<Timestamp> {
        (self.status == AgentStatus::Closing).then_some(self.registered_at)
    }
}

impl Kept for Owner {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        "known"
    }
}
