//! Cumulative receipts: what a meter that both parties trust says was used (PG-19).
//!
//! A receipt says how many units were used since the agreement began, so the one of most units
//! supersedes all others, in whatever order they arrive. Anyone who has it can check it: the signature is
//! the agreement's receipt signer's, and the proof is the hash of the last call it covers ([`covers`]).
//!
//! How a signature looks depends on where it must hold: a rail whose contract checks receipts brings its
//! own [`ReceiptVerifier`]. Where no contract does, [`Ed25519`] is the scheme.

use std::{fmt, sync::Arc};

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{
    Agreement,
    chain::{self, BrokenChain, CallProof, Hash, Link},
};
use crate::ids::AgreementId;

/// What an Ed25519 signature covers before everything else, so that it is no signature of anything else.
const DOMAIN: &[u8] = b"tradepost/receipt/1";

/// Who signs receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptSigner {
    /// How it signs: `ed25519`, or what a rail's verifier calls its scheme.
    pub scheme: String,
    /// Its public key or address, in the scheme's notation.
    pub key: String,
}

/// A cumulative receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    /// Units used since the agreement began.
    pub units: i64,
    /// The hash of the last call that it covers.
    pub proof: Hash,
    /// The signer's, in the scheme's notation.
    pub signature: String,
}

/// A signature scheme for receipts.
///
/// # The contract
///
/// 1. Pure: the same input gives the same answer, for ever; no network, no clock.
/// 2. A signature is good for one agreement, one number of units and one proof. It has one form: of a
///    signature that would be good, no changed copy is.
/// 3. Anything at all may come in as a key or a signature.
pub trait ReceiptVerifier: Send + Sync + 'static {
    /// The scheme's name: small letters, digits, `-`.
    fn scheme(&self) -> &str;

    /// Whether a text is a key of this scheme that can sign.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_key(&self, key: &str) -> Result<(), String>;

    /// Whether the key signed the receipt of this agreement.
    ///
    /// # Errors
    /// What does not fit.
    fn verify(&self, agreement: &Agreement, key: &str, receipt: &SignedReceipt) -> Result<(), String>;
}

/// Ed25519 (RFC 8032, strict verification). The key is 64 hexadecimal digits, the signature 128. What is
/// signed is [`message`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Ed25519;

impl ReceiptVerifier for Ed25519 {
    fn scheme(&self) -> &str {
        "ed25519"
    }

    fn check_key(&self, key: &str) -> Result<(), String> {
        verifying_key(key).map(drop)
    }

    fn verify(&self, agreement: &Agreement, key: &str, receipt: &SignedReceipt) -> Result<(), String> {
        let signature = Signature::from_bytes(&bytes("an Ed25519 signature", &receipt.signature)?);
        let message = message(agreement.id, receipt.units, receipt.proof);
        verifying_key(key)?.verify_strict(&message, &signature).map_err(|_| "it is not the signer's".into())
    }
}

/// What an Ed25519 receipt signer signs: the text `tradepost/receipt/1`, the agreement's id (16 bytes),
/// the units (8 bytes, big-endian) and the proof (32 bytes).
pub fn message(agreement: AgreementId, units: i64, proof: Hash) -> Vec<u8> {
    [DOMAIN, agreement.0.as_bytes(), &units.to_be_bytes(), &proof.0].concat()
}

/// Checks that a receipt covers exactly these calls: the whole list of its agreement's, up to the one
/// that the receipt names. The signature is the verifier's to check.
///
/// # Errors
/// [`NotCovered`]
pub fn covers(agreement: AgreementId, receipt: &SignedReceipt, calls: &[CallProof]) -> Result<(), NotCovered> {
    let proven = chain::verify(agreement, Link::default(), calls)?;
    if proven.head.hash != receipt.proof {
        return Err(NotCovered::Head { named: receipt.proof, last: proven.head.hash });
    }
    match proven.units == receipt.units {
        true => Ok(()),
        false => Err(NotCovered::Units { receipt: receipt.units, calls: proven.units }),
    }
}

/// Why a receipt does not cover a list of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCovered {
    /// The list is no chain.
    #[error(transparent)]
    Broken(#[from] BrokenChain),
    /// The receipt names another call than the last.
    #[error("the receipt names call {named}, the last one is {last}")]
    Head {
        /// The call that the receipt names.
        named: Hash,
        /// The list's last.
        last: Hash,
    },
    /// The units differ.
    #[error("the receipt is of {receipt} units, the calls used {calls}")]
    Units {
        /// The receipt's.
        receipt: i64,
        /// The calls'.
        calls: i64,
    },
}

/// The schemes that a marketplace accepts.
#[derive(Clone)]
pub struct ReceiptVerifiers(Vec<Arc<dyn ReceiptVerifier>>);

impl ReceiptVerifiers {
    /// Ed25519 alone.
    pub fn new() -> Self {
        Self(vec![Arc::new(Ed25519)])
    }

    /// Another scheme too. The one added last answers for its name.
    pub(crate) fn add(&mut self, verifier: Arc<dyn ReceiptVerifier>) {
        self.0.insert(0, verifier);
    }

    /// The verifier of a scheme.
    ///
    /// # Errors
    /// The schemes there are.
    pub(super) fn of(&self, scheme: &str) -> Result<&dyn ReceiptVerifier, String> {
        let found = self.0.iter().find(|verifier| verifier.scheme() == scheme);
        let known = || self.0.iter().map(|verifier| verifier.scheme()).collect::<Vec<_>>().join(", ");
        found.map(|verifier| &**verifier).ok_or_else(|| format!("the schemes here are {}", known()))
    }
}

impl Default for ReceiptVerifiers {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ReceiptVerifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|verifier| verifier.scheme())).finish()
    }
}

fn verifying_key(key: &str) -> Result<VerifyingKey, String> {
    let key = VerifyingKey::from_bytes(&bytes("an Ed25519 key", key)?).map_err(|_| "it is no point of the curve")?;
    match key.is_weak() {
        true => Err("under a weak key anyone can sign".into()),
        false => Ok(key),
    }
}

fn bytes<const N: usize>(what: &str, text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match lower && hex::decode_to_slice(text, &mut bytes).is_ok() {
        true => Ok(bytes),
        false => Err(format!("{what} has {} hexadecimal digits, small letters", 2 * N)),
    }
}
