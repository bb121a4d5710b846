//! Who plays in which life. The loader says the same in SQL.

use tradepost::ids::AgentId;
use uuid::Uuid;

/// How many agents there are.
pub(crate) const AGENTS: u64 = 10_000;
/// How far the next buyer is from the one before.
pub(crate) const STRIDE: u64 = 7919;
const AGENT: u128 = 0x0000_0000_0000_4000_8000_0000_0000_0000;
const NONCE: u128 = 0x0000_0001_0000_4000_8000_0000_0000_0000;

pub(crate) fn agents() -> impl Iterator<Item = AgentId> {
    (0..AGENTS).map(agent)
}

fn agent(number: u64) -> AgentId {
    AgentId(Uuid::from_u128(AGENT + u128::from(number)))
}

/// Buyer and worker of a life.
pub(crate) fn parties(number: u64) -> (AgentId, AgentId) {
    let buyer = number.wrapping_mul(STRIDE) % AGENTS;
    (agent(buyer), agent((buyer + 1 + number % (AGENTS - 1)) % AGENTS))
}

/// What makes a life's keys its own.
pub(crate) fn nonce(number: u64) -> Uuid {
    Uuid::from_u128(NONCE + u128::from(number))
}
