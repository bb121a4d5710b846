//! What is kept of an agent's trust, and what the log says of it (VP-10, VP-42).

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ClientReputation, Entry, Evidence, Ignored, Record, Trust, fact::Fact};
use crate::{
    ids::{AgentId, JobId},
    store::{Kept, Position},
};

/// An agent's trust, as it is kept: what the log up to a place says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reputation {
    /// The agent.
    pub agent: AgentId,
    /// What is known about it.
    pub record: Record,
    /// Disputes it has filed as a buyer. The commit that files one counts it here, so that the restriction of
    /// who disputes too much is exact (JP-14); the log may not be read as far.
    #[serde(default)]
    pub filed: u64,
    /// The place of the last event that counted: what came before is not counted again.
    pub through: Position,
}

/// What happened to an agent's trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum ReputationEvent {
    /// The score moved.
    #[serde(rename = "trust.updated")]
    Updated {
        /// Whose.
        agent: AgentId,
        /// What it was.
        old_score: Decimal,
        /// What it is.
        new_score: Decimal,
        /// What moved it.
        reason: Evidence,
        /// The contract it was about, if it was about one.
        contract: Option<JobId>,
    },
}

impl ReputationEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Updated { .. } => "trust.updated",
        }
    }
}

impl Reputation {
    /// What facts that the log has at a place make of an agent's trust, and what happened; `None` when
    /// none of them counts, or they were counted before.
    pub fn learn(
        before: Option<&Self>,
        agent: AgentId,
        facts: &[Fact],
        at: Position,
        trust: &Trust,
    ) -> Option<(Self, Vec<ReputationEvent>)> {
        if before.is_some_and(|before| at <= before.through) {
            return None;
        }
        let mut record = before.map_or_else(|| trust.begin(), |before| before.record.clone());
        let (mut events, mut counted) = (Vec::new(), false);
        for fact in facts {
            let step = match trust.apply(agent, &record, fact) {
                Ok(step) => step,
                Err(Ignored::NotConcerned) => continue,
                Err(ignored) => {
                    tracing::debug!(%agent, %ignored, "a fact does not count");
                    continue;
                }
            };
            let moved = |Entry { reason, contract, delta, score, .. }| ReputationEvent::Updated {
                agent,
                old_score: score - delta,
                new_score: score,
                reason,
                contract,
            };
            events.extend(step.history.into_iter().map(moved));
            (record, counted) = (step.record, true);
        }
        let filed = before.map_or(0, |before| before.filed).max(record.tally.client.filed);
        counted.then_some((Self { agent, record, filed, through: at }, events))
    }

    /// One more dispute is filed, by a commit that writes this.
    pub(crate) fn filing(before: Option<&Self>, agent: AgentId, trust: &Trust) -> Self {
        let unknown = || Self { agent, record: trust.begin(), filed: 0, through: Position::default() };
        let known = before.cloned().unwrap_or_else(unknown);
        Self { filed: known.client().filed.saturating_add(1), ..known }
    }

    /// What the agent is like to work for, with every dispute that it has filed.
    pub fn client(&self) -> ClientReputation {
        let client = self.record.tally.client;
        ClientReputation { filed: client.filed.max(self.filed), ..client }
    }
}

impl Kept for Reputation {
    fn id(&self) -> Uuid {
        self.agent.0
    }

    fn status(&self) -> &'static str {
        "kept"
    }
}
