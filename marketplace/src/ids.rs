//! Typed identifiers and where new ones come from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::Timestamp;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
        Self(derive(Place::Beside(agent.0), &[agent.0.as_bytes(), b"wallet"]))
    }
}

impl BudgetId {
    /// The id of an agent's budget.
    pub fn of(agent: AgentId) -> Self {
        Self(derive(Place::Beside(agent.0), &[agent.0.as_bytes(), b"budget"]))
    }
}

impl InstructionId {
    /// The id of the `number`-th instruction of a contract: the same inputs give the same id, so that
    /// a decision made again after a conflict names the same instruction. A contract's instructions are
    /// in the order of their numbers, up to the 4095th.
    pub fn derive(contract: Uuid, number: u32) -> Self {
        Self(derive(Place::Numbered(contract, number), &[contract.as_bytes(), &number.to_be_bytes()]))
    }
}

impl BidId {
    /// The id of an agent's bid on a job: it has one, however often it changes it.
    pub fn derive(job: JobId, worker: AgentId) -> Self {
        Self(derive(Place::Anywhere, &[job.0.as_bytes(), worker.0.as_bytes()]))
    }
}

/// Where an id that is derived stands among others of its kind, which stores list by their ids.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Anywhere: nobody lists them.
    Anywhere,
    /// With the record that it belongs to.
    Beside(Uuid),
    /// With the record that it belongs to, in the order of their numbers up to the 4095th.
    Numbered(Uuid, u32),
    /// At a moment.
    At(Timestamp),
}

/// An id that follows from what it is for: the same place and words give the same id. It is kept in databases,
/// so what it gives never changes.
pub(crate) fn derive(place: Place, words: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    for word in words {
        if let Place::At(_) = place {
            hash.update((word.len() as u64).to_be_bytes());
        }
        hash.update(word);
    }
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    match place {
        Place::Anywhere => {}
        Place::Beside(of) => bytes[..6].copy_from_slice(&of.as_bytes()[..6]), // its place in time order
        Place::Numbered(of, number) => {
            bytes[..6].copy_from_slice(&of.as_bytes()[..6]);
            // The upper half of the first of these two is the UUID's own version number.
            bytes[6..8].copy_from_slice(&(number.min(0xFFF) as u16).to_be_bytes());
        }
        Place::At(at) => {
            let mut random = [0; 10];
            random.copy_from_slice(&digest[..10]);
            let millis = at.timestamp_millis().unsigned_abs();
            return uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        }
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{
        adjustment::MovementId,
        report::{Report, Reported},
        review::Review,
        trust::Side,
        validation::Check,
    };

    /// They are kept in databases: what was derived once is found for ever.
    #[test]
    fn derived_ids_are_what_they_have_always_been() {
        let agent = AgentId("0190a000-1111-7222-8333-444455556666".parse().unwrap());
        let job = JobId("0190b000-aaaa-7bbb-8ccc-ddddeeeeffff".parse().unwrap());
        let moment = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        let known = [
            (WalletId::of(agent).0, "0190a000-1111-8d8b-af4f-329dc32eb477"),
            (BudgetId::of(agent).0, "0190a000-1111-8cc4-8d48-bd17cf9c021d"),
            (InstructionId::derive(job.0, 0).0, "0190b000-aaaa-8000-8ab6-21aaee431560"),
            (InstructionId::derive(job.0, 3).0, "0190b000-aaaa-8003-ae4d-beeaa86dbcb5"),
            (InstructionId::derive(job.0, 5_000).0, "0190b000-aaaa-8fff-aa7a-02e4b8c9a77e"),
            (BidId::derive(job, agent).0, "ebc75faa-c7ad-85e4-bbc9-76373a357634"),
            (Review::id_of(job, Side::Buyer), "0190b000-aaaa-8868-becc-42040b52fca7"),
            (Report::id_of(Reported::Job(job), agent), "0190b000-aaaa-81de-8a91-703fbceaa8f4"),
            (Check::id_of(job, 2), "b150475d-57cf-8f78-8300-db732ea3cc65"),
            (MovementId { contract: job.0, version: 7 }.reversal(), "3aa4525a-f654-8173-b002-e6191d68d10f"),
            (derive(Place::At(moment), &[b"notice", agent.0.as_bytes()]), "01a3185c-507b-76c9-a675-2ffa059b76ca"),
        ];
        for (id, expected) in known {
            assert_eq!(id.to_string(), expected);
        }
    }
}
