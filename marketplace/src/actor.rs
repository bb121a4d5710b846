//! Who acts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, OwnerId, RailId};

/// Who gives a command. What each may do is part of the decision, so that no host can forget a check.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// An agent, acting for itself.
    Agent(AgentId),
    /// The person behind agents.
    Owner(OwnerId),
    /// A person who runs the platform, by name, for the audit trail.
    Operator(String),
    /// A timer of the engine came due.
    Timer,
    /// A rail reported something.
    Rail(RailId),
}

impl Actor {
    /// The agent, when an agent acts.
    pub const fn agent(&self) -> Option<AgentId> {
        match self {
            Self::Agent(agent) => Some(*agent),
            Self::Owner(_) | Self::Operator(_) | Self::Timer | Self::Rail(_) => None,
        }
    }
}

impl Actor {
    /// The operator's name, when a person who runs the platform acts.
    pub fn operator(&self) -> Option<&str> {
        match self {
            Self::Operator(name) => Some(name),
            Self::Agent(_) | Self::Owner(_) | Self::Timer | Self::Rail(_) => None,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => write!(f, "agent {agent}"),
            Self::Owner(owner) => write!(f, "owner {owner}"),
            Self::Operator(name) => write!(f, "operator {name:?}"),
            Self::Timer => f.write_str("a timer"),
            Self::Rail(rail) => write!(f, "rail {rail}"),
        }
    }
}
