//! Typed identifiers and where new ones come from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::Timestamp;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )*};
}

id! {
    /// An agent: a buyer or a worker.
    AgentId;
    /// The person or company behind one or more agents.
    OwnerId;
    /// A job.
    JobId;
    /// An agent's bid on a job, or its application for it.
    BidId;
    /// A disagreement about one job.
    DisputeId;
    /// A usage agreement.
    AgreementId;
    /// Money reserved for one contract. A contract's hold has the contract's own id.
    HoldId;
    /// A subscription: an address that an agent has its notices sent to.
    EndpointId;
    /// One notice on its way to one address; also its name in the header `webhook-id`.
    DeliveryId;
    /// Something an agent is told.
    NoticeId;
    /// An instruction to a rail; also its idempotency key there.
    InstructionId;
    /// An agent's wallet. It follows from the agent's id and is another, since the two are written
    /// apart and each moves money under its own name.
    WalletId;
    /// An agent's budget; it follows from the agent's id.
    BudgetId;
}

impl WalletId {
    /// The id of an agent's wallet.
    pub fn of(agent: AgentId) -> Self {
        Self(derived(agent.0, "wallet"))
    }
}

impl BudgetId {
    /// The id of an agent's budget.
    pub fn of(agent: AgentId) -> Self {
        Self(derived(agent.0, "budget"))
    }
}

impl InstructionId {
    /// The id of the `number`-th instruction of a contract: the same inputs give the same id, so that
    /// a decision made again after a conflict names the same instruction. A contract's instructions are
    /// in the order of their numbers, up to the 4095th.
    pub fn derive(contract: Uuid, number: u32) -> Self {
        let digest = Sha256::new().chain_update(contract).chain_update(number.to_be_bytes()).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[..6].copy_from_slice(&contract.as_bytes()[..6]); // keeps the contract's place in time order
        // The upper half of the first of these two is the UUID's own version number.
        bytes[6..8].copy_from_slice(&(number.min(0xFFF) as u16).to_be_bytes());
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// The id of the one record of its purpose that belongs to `of`: the same inputs give the same id, with the
/// owner's place in time order.
pub(crate) fn derived(of: Uuid, purpose: &str) -> Uuid {
    let digest = Sha256::new().chain_update(of).chain_update(purpose).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[..6].copy_from_slice(&of.as_bytes()[..6]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// An id that follows from what it is for: the same words give the same id. It takes its place in time
/// order from `at`.
pub(crate) fn derive(at: Timestamp, words: &[&[u8]]) -> Uuid {
    let digest = words
        .iter()
        .fold(Sha256::new(), |hash, word| hash.chain_update((word.len() as u64).to_be_bytes()).chain_update(word));
    let mut random = [0; 10];
    random.copy_from_slice(&digest.finalize()[..10]);
    uuid::Builder::from_unix_timestamp_millis(at.timestamp_millis().unsigned_abs(), &random).into_uuid()
}

impl BidId {
    /// The id of an agent's bid on a job: it has one, however often it changes it.
    pub fn derive(job: JobId, worker: AgentId) -> Self {
        let digest = Sha256::new().chain_update(job.0).chain_update(worker.0).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

impl From<JobId> for HoldId {
    fn from(job: JobId) -> Self {
        Self(job.0)
    }
}

impl From<AgreementId> for HoldId {
    fn from(agreement: AgreementId) -> Self {
        Self(agreement.0)
    }
}

/// One marketplace of a database. Every row carries it and no query reads across it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MarketId(pub i64);

/// A rail's name: 1 to 24 of `a-z`, `0-9`, `-` and `_`. Small and `Copy`, since accounts carry it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RailId([u8; 24]);

impl RailId {
    /// Makes a rail's name in a constant.
    ///
    /// # Panics
    /// When the name is not 1 to 24 of `a-z`, `0-9`, `-` and `_`; in a constant that is a compile error.
    pub const fn new(name: &str) -> Self {
        let (bytes, mut padded, mut i) = (name.as_bytes(), [0; 24], 0);
        assert!(!bytes.is_empty() && bytes.len() <= 24, "a rail's name has 1 to 24 characters");
        while i < bytes.len() {
            assert!(
                matches!(bytes[i], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'),
                "a rail's name is made of a-z, 0-9, - and _"
            );
            padded[i] = bytes[i];
            i += 1;
        }
        Self(padded)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..len]).expect("a rail's name is ASCII")
    }
}

impl fmt::Display for RailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that cannot be a rail's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rail's name: 1 to 24 of a-z, 0-9, - and _")]
pub struct BadRailId(String);

impl FromStr for RailId {
    type Err = BadRailId;

    fn from_str(name: &str) -> Result<Self, BadRailId> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        match (1..=24).contains(&name.len()) && name.bytes().all(allowed) {
            true => Ok(Self::new(name)),
            false => Err(BadRailId(name.chars().take(64).collect())),
        }
    }
}

impl Serialize for RailId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RailId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Where new identifiers come from. A seeded source makes a whole run repeatable.
pub trait IdSource: Send + Sync + 'static {
    /// A new identifier that no call has returned before; time-ordered where the source can.
    fn next(&self, now: Timestamp) -> Uuid;
}

/// Version 7 UUIDs: time-ordered, with 74 random bits from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    #[expect(clippy::disallowed_methods, reason = "the home of random ids")]
    fn next(&self, _now: Timestamp) -> Uuid {
        Uuid::now_v7()
    }
}
