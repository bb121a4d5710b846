//! A rail that plays any part, over an outside world that outlives it.
//!
//! [`OutsideWorld`] is what a bank or a chain would be: it keeps the money and the truth, and tests ask
//! it. [`ScriptedRail`] is the way there; throw it away and make another to restart the process. What
//! goes wrong is said by a [`Script`] for the next new instruction or by seeded [`Chances`].

mod script;
mod truth;
mod vault;
mod world;

pub use script::{Answer, Chances, Course, Disorder, Ending, Lie, Script};
pub use truth::{Books, Effects};
pub use world::OutsideWorld;

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::{
    clock::{Clock, Timestamp},
    ids::RailId,
    money::Currency,
    policy::{Range, Span},
    rail::{
        Capability, Cursor, Custody, Holdings, Instruction, Observation, Observations, Outcome, Push, RailError,
        RailErrorKind, RailProfile, SettlementRail,
    },
};

/// How old a push may be when it arrives.
const PUSH_AGE: Span = Span::seconds(5 * 60);
const SIGNATURE: &str = "x-scripted-signature";
const SENT_AT: &str = "x-scripted-sent-at";

/// A rail that plays any custody and any fault; see [`OutsideWorld`].
#[derive(Clone)]
pub struct ScriptedRail {
    profile: RailProfile,
    world: OutsideWorld,
    clock: Arc<dyn Clock>,
}

impl ScriptedRail {
    /// A rail as `profile` says, to `world`.
    pub fn new(profile: RailProfile, world: OutsideWorld, clock: Arc<dyn Clock>) -> Self {
        Self { profile, world, clock }
    }

    /// The profile of a rail that can do everything its custody allows, with amounts up to a million
    /// million minor units, holds that live for ever and payments that nobody reverses.
    pub fn profile_of(custody: Custody, currency: Currency) -> RailProfile {
        let capabilities = match custody {
            Custody::Internal => Vec::new(),
            Custody::Pooled => vec![Capability::Payout, Capability::Deposit, Capability::Push],
            Custody::PerHold => {
                vec![Capability::Split, Capability::Payout, Capability::Push, Capability::Reverse]
            }
            Custody::NonCustodial => vec![Capability::Split, Capability::Push, Capability::Screen],
        };
        RailProfile {
            id: RailId::new("scripted"),
            currency,
            custody,
            capabilities,
            amounts: Range { min: 1, max: 1_000_000_000_000 },
            hold_expiry: None,
            reversible_for: None,
        }
    }

    /// The messages that the world sends about what happened since `after`, signed, and shuffled or
    /// repeated as its disorder says.
    ///
    /// # Errors
    /// [`RailErrorKind::Refused`] when `after` is not a cursor of this world.
    pub fn pushes(&self, after: &Cursor) -> Result<(Vec<Push>, Cursor), RailError> {
        let now = self.clock.now();
        let page = self.world.lock().page(&self.profile, after, now)?;
        Ok((page.items.iter().map(|item| self.signed(item, now)).collect(), page.next))
    }

    fn signed(&self, observation: &Observation, now: Timestamp) -> Push {
        let body = serde_json::to_vec(observation).expect("an observation is plain data");
        let sent_at = now.timestamp().to_string();
        let headers =
            vec![(SIGNATURE.to_owned(), self.world.lock().signature(&sent_at, &body)), (SENT_AT.to_owned(), sent_at)];
        Push { headers, body, received_at: now }
    }
}

impl std::fmt::Debug for ScriptedRail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedRail").field("profile", &self.profile).finish_non_exhaustive()
    }
}

#[async_trait]
impl SettlementRail for ScriptedRail {
    fn profile(&self) -> &RailProfile {
        &self.profile
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.world.lock().execute(&self.profile, instruction, self.clock.now())
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.world.lock().lookup(&self.profile, instruction, self.clock.now())
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        let mut world = self.world.lock();
        world.read_fails()?;
        world.page(&self.profile, after, self.clock.now())
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        let forged = |what: &str| RailError::new(RailErrorKind::Forged, what);
        if !self.profile.can(Capability::Push) {
            return Err(RailError::new(RailErrorKind::Unsupported, "this rail takes no pushes"));
        }
        let (Some(signature), Some(sent_at)) = (push.header(SIGNATURE), push.header(SENT_AT)) else {
            return Err(forged("the push is not signed"));
        };
        if signature != self.world.lock().signature(sent_at, &push.body) {
            return Err(forged("the signature is another"));
        }
        let sent_at: i64 = sent_at.parse().map_err(|_| forged("the time is none"))?;
        let age = push.received_at.timestamp().saturating_sub(sent_at);
        if age.unsigned_abs() > u64::from(PUSH_AGE.as_seconds()) {
            return Err(forged("the push is stale"));
        }
        let observation = serde_json::from_slice(&push.body).map_err(|_| forged("the body is not an observation"))?;
        Ok(vec![observation])
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        let mut world = self.world.lock();
        world.read_fails()?;
        world.holdings(&self.profile, self.clock.now())
    }
}

/// A keyed digest. Good enough to tell a forger from this process; no model for a real rail.
fn signature(secret: u64, sent_at: &str, body: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(secret.to_be_bytes())
        .chain_update(sent_at)
        .chain_update([0])
        .chain_update(body)
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
