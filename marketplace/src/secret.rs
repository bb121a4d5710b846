//! Secrets: where they come from, how they are handed over, and the only form in which they are kept.
//!
//! An API key or a token is made once, handed to its owner as a [`Secret`], and kept only as a
//! [`Digest`]: HMAC-SHA256 under the [`Pepper`], which is no part of the database. Whoever steals the
//! database alone can neither use nor test a key.

use std::fmt;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// A text that must not be written down: neither its `Debug` form nor any other shows it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes in a secret that somebody presents.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to be handed to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The embedder's own key under which secrets are digested: 32 random bytes, kept outside the database
/// and the same for ever. With another pepper no key or token made before is known any more.
#[derive(Clone)]
pub struct Pepper([u8; 32]);

impl Pepper {
    /// A pepper of these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A secret's digest for one purpose; digests for different purposes have nothing in common.
    pub(crate) fn digest(&self, purpose: Purpose, text: &str) -> Digest {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(purpose.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        Digest(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(hidden)")
    }
}

/// What a digest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Key,
    Token,
    Owner,
    Webhook,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
            Self::Owner => "owner",
            Self::Webhook => "webhook",
        }
    }
}

/// A secret as it is kept. Compared in constant time, written as 64 hexadecimal digits, hidden in
/// `Debug`.
#[derive(Clone, Copy)]
pub struct Digest(pub(crate) [u8; 32]);

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(hidden)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.as_bytes(), &mut bytes)
            .map_err(|_| D::Error::custom("a digest has 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

/// Where the randomness of secrets comes from. Apart from [`IdSource`](crate::ids::IdSource), whose ids
/// are for everybody to see and may be guessed.
pub trait SecretSource: Send + Sync + 'static {
    /// 32 bytes that nobody can guess and that no call has returned before.
    ///
    /// # Errors
    /// A reason for operators; the command fails with [`Error::Part`](crate::error::Error::Part).
    fn draw(&self) -> Result<[u8; 32], String>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemSecrets;

impl SecretSource for SystemSecrets {
    #[expect(clippy::disallowed_methods, reason = "the home of secret randomness")]
    fn draw(&self) -> Result<[u8; 32], String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }
}
