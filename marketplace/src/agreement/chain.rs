//! Proofs of calls, each naming the one before (PG-19).
//!
//! Anyone who has the list of an agreement's calls can check it with [`verify`], without asking anybody:
//! a call that was changed, left out, added or moved breaks the chain at that place. Whoever knows the
//! last call's hash (a signed receipt names one) knows that the whole list before it is the one meant.
//!
//! A call's hash is SHA-256 over, in this order: the text `tradepost/call/1`, the agreement's id (16
//! bytes), the hash of the call before (32 bytes; all zero for the first), the call's number (8 bytes,
//! big-endian, counted from 1), its units (8 bytes, big-endian), and its digest (32 bytes).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

use crate::ids::AgreementId;

/// What is hashed before everything else, so that a call's hash is nothing else's.
const DOMAIN: &[u8] = b"tradepost/call/1";

/// A SHA-256 hash, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.as_bytes(), &mut bytes)
            .map_err(|_| D::Error::custom("a hash has 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

/// A call to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Units that it used; at least one.
    pub units: i64,
    /// A hash of what was asked and answered, in whatever form the parties keep that.
    pub digest: Hash,
}

/// A call in its chain: the proof that it was recorded, and after which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallProof {
    /// Its number in the agreement, counted from 1.
    pub number: u64,
    /// Units that it used.
    pub units: i64,
    /// A hash of what was asked and answered.
    pub digest: Hash,
    /// The hash of the call before; all zero for the first.
    pub previous: Hash,
    /// This call's hash.
    pub hash: Hash,
}

/// A place in a chain: a call's number and hash. The default is the place before the first call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The call's number; 0 before the first.
    pub number: u64,
    /// The call's hash; all zero before the first.
    pub hash: Hash,
}

/// What a chain proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The last call.
    pub head: Link,
    /// Units of all calls in the list.
    pub units: i64,
}

/// Where a list of calls is not the chain it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenChain {
    /// A call has another number than its place.
    #[error("call {number} stands where call {expected} should")]
    Number {
        /// The number it has.
        number: u64,
        /// The number it should have.
        expected: u64,
    },
    /// A call names another call before it.
    #[error("call {number} follows {named}, and the call before it is {before}")]
    Previous {
        /// The call.
        number: u64,
        /// The hash it names.
        named: Hash,
        /// The hash of the call before.
        before: Hash,
    },
    /// A call's hash is not the hash of what it says.
    #[error("call {number} says it is {hash}, and its content is {actual}")]
    Content {
        /// The call.
        number: u64,
        /// The hash it gives.
        hash: Hash,
        /// The hash of its content.
        actual: Hash,
    },
    /// A call used no unit, or all calls together more than can be counted.
    #[error("call {number} used {units} units")]
    Units {
        /// The call.
        number: u64,
        /// Its units.
        units: i64,
    },
}

/// Adds a call to a chain.
pub(super) fn extend(agreement: AgreementId, after: Link, call: &Call) -> CallProof {
    let (number, previous) = (after.number + 1, after.hash);
    let Call { units, digest } = *call;
    CallProof { number, units, digest, previous, hash: hash(agreement, previous, number, units, digest) }
}

/// Checks a list of calls of an agreement, from the call after `start` on ([`Link::default`] for all of
/// them); what they prove.
///
/// # Errors
/// [`BrokenChain`] for the first call that does not fit.
pub fn verify(agreement: AgreementId, start: Link, calls: &[CallProof]) -> Result<Proven, BrokenChain> {
    let mut proven = Proven { head: start, units: 0 };
    for call in calls {
        let CallProof { number, units, digest, previous, hash: named } = *call;
        let Link { number: before_number, hash: before } = proven.head;
        if number != before_number.saturating_add(1) {
            return Err(BrokenChain::Number { number, expected: before_number.saturating_add(1) });
        }
        if previous != before {
            return Err(BrokenChain::Previous { number, named: previous, before });
        }
        let actual = hash(agreement, previous, number, units, digest);
        if named != actual {
            return Err(BrokenChain::Content { number, hash: named, actual });
        }
        let sum = proven.units.checked_add(units).filter(|_| units > 0);
        proven.units = sum.ok_or(BrokenChain::Units { number, units })?;
        proven.head = Link { number, hash: named };
    }
    Ok(proven)
}

fn hash(agreement: AgreementId, previous: Hash, number: u64, units: i64, digest: Hash) -> Hash {
    let mut sha = Sha256::new();
    sha.update(DOMAIN);
    sha.update(agreement.0);
    sha.update(previous.0);
    sha.update(number.to_be_bytes());
    sha.update(units.to_be_bytes());
    sha.update(digest.0);
    Hash(sha.finalize().into())
}
