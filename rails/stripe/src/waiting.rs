//! Workers for whom shares are kept until their account takes money.
//!
//! Stripe tells of connected accounts by webhook only. Its list of events tells of every share that is kept, because
//! its charge is marked; from then on the cursor remembers whom it is kept for, and the account is looked at from
//! time to time until it is ready. A webhook makes it sooner.

use std::fmt;

use tradepost::{
    ids::AgentId,
    rail::{Observation, ObservationBody},
};

use crate::{
    marks,
    object::{Event, Marked},
    rail::StripeRail,
};

/// How long an account is left alone after it was looked at, in seconds.
const PAUSE: i64 = 600;
/// How many accounts are looked at in one go.
const AT_ONCE: usize = 20;
/// For how many workers the cursor has room. When there are more, who has waited longest is paid when a webhook
/// tells of the account, or a later share is kept.
const ROOM: usize = 1_000;

/// Who waits, longest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting(Vec<Waits>);

#[derive(Debug, PartialEq, Eq)]
struct Waits {
    agent: AgentId,
    /// The event that told of the share.
    event: String,
    /// When the account was looked at last, in seconds since 1970.
    looked_at: i64,
}

impl Waiting {
    /// Reads the form in a cursor.
    pub(crate) fn read(text: &str) -> Self {
        let waits = |entry: &str| {
            let mut parts = entry.split(',');
            let (agent, event, looked_at) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Waits { agent: agent.parse().ok()?, event: event.into(), looked_at: looked_at.parse().ok()? })
        };
        Self(text.split(' ').filter_map(waits).collect())
    }

    /// Takes in that a charge got another mark.
    pub(crate) fn learn(&mut self, event: Event) {
        let Ok(charge) = serde_json::from_value::<Marked>(event.data.object) else { return };
        let Some(agent) = charge.metadata.get(marks::KEPT_FOR).and_then(|agent| agent.parse().ok()) else { return };
        if self.0.iter().all(|waits| waits.agent != agent) {
            self.0.push(Waits { agent, event: event.id, looked_at: 0 });
        }
        if self.0.len() > ROOM {
            let Waits { agent, .. } = self.0.remove(0);
            tracing::warn!(%agent, "too many wait for accounts: this one waits for a webhook");
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Waits { agent, event, looked_at }| write!(f, " {agent},{event},{looked_at}"))
    }
}

impl StripeRail {
    /// Looks at the accounts of those who wait, and tells of those that are ready.
    pub(crate) async fn accounts_ready(&self, waiting: &mut Waiting) -> Vec<Observation> {
        let (now, mut looked, mut told) = (self.now().timestamp(), 0, Vec::new());
        let mut left = Vec::new();
        for mut waits in std::mem::take(&mut waiting.0) {
            if looked < AT_ONCE && now.saturating_sub(waits.looked_at) >= PAUSE {
                looked += 1;
                waits.looked_at = now;
                if self.is_ready(waits.agent).await {
                    let (id, agent) = (format!("ready-{}", waits.event), waits.agent);
                    told.push(Observation { id, body: ObservationBody::AccountReady { agent } });
                    continue;
                }
            }
            left.push(waits);
        }
        waiting.0 = left;
        told
    }

    /// Whether an agent's account takes transfers. One that cannot be looked at is no reason to read on later.
    async fn is_ready(&self, agent: AgentId) -> bool {
        match self.connect().status(agent).await {
            Ok(status) => status.is_some_and(|status| status.transfers_enabled),
            Err(error) => {
                tracing::warn!(%agent, %error, "an account cannot be looked at");
                false
            }
        }
    }
}
