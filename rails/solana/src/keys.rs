//! Keys: one for the treasury and one per agent, all from one seed.

use std::{fmt, num::NonZeroU32};

use async_trait::async_trait;
use solana_derivation_path::DerivationPath;
use solana_keypair::{Keypair, seed_derivable::keypair_from_seed_and_derivation_path};
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::Signer as _;
use zeroize::Zeroizing;

/// The longest and the shortest seed that SLIP-0010 allows, in bytes.
const SEED: std::ops::RangeInclusive<usize> = 16..=64;
/// Hardened indexes end here (SLIP-0010).
const LAST: u32 = (1 << 31) - 1;

/// Which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The treasury's, which also pays every fee: account 0.
    Treasury,
    /// The deposit address of the agent of this number: account 1 and up.
    Deposit(NonZeroU32),
}

impl Key {
    /// Its account number, which is all that tells two keys of a seed apart.
    pub const fn account(self) -> u32 {
        match self {
            Self::Treasury => 0,
            Self::Deposit(number) => number.get(),
        }
    }
}

/// Signs for the treasury and for the deposit addresses: keys in this process, or in a KMS or an HSM
/// (any that signs with Ed25519).
///
/// The same key always has the same address, in every process.
#[async_trait]
pub trait Signer: Send + Sync + 'static {
    /// The public key.
    ///
    /// # Errors
    /// [`SignerError`]
    async fn address(&self, key: Key) -> Result<Pubkey, SignerError>;

    /// Signs a transaction's message. The rail checks the signature before it uses it.
    ///
    /// # Errors
    /// [`SignerError`]
    async fn sign(&self, key: Key, message: &[u8]) -> Result<Signature, SignerError>;
}

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// The seed is none of SLIP-0010.
    #[error("the seed has {actual} bytes; allowed are 16 to 64")]
    SeedLength {
        /// What came.
        actual: usize,
    },
    /// There are no more keys.
    #[error("account {account} is past the last hardened index, {LAST}")]
    NoSuchKey {
        /// The account asked for.
        account: u32,
    },
    /// This process only watches.
    #[error("this process has no keys: it only watches")]
    WatchOnly,
    /// The keys' keeper does not answer, or gives a signature that does not hold.
    #[error("the signer failed: {reason}")]
    Failed {
        /// For operators; no secret.
        reason: String,
    },
}

/// Keys derived from a seed by SLIP-0010 for Ed25519, at `m/44'/501'/<account>'/0'`: the path that
/// Solana's own tools and wallets use, so that the seed alone restores every key anywhere.
pub struct SeedSigner(Zeroizing<Vec<u8>>);

impl SeedSigner {
    /// Keys of a seed of 16 to 64 bytes: 64 if it comes from a BIP-39 phrase.
    ///
    /// # Errors
    /// [`SignerError::SeedLength`]
    pub fn new(seed: &[u8]) -> Result<Self, SignerError> {
        match SEED.contains(&seed.len()) {
            true => Ok(Self(Zeroizing::new(seed.to_vec()))),
            false => Err(SignerError::SeedLength { actual: seed.len() }),
        }
    }

    fn keypair(&self, key: Key) -> Result<Keypair, SignerError> {
        let account = key.account();
        if account > LAST {
            return Err(SignerError::NoSuchKey { account });
        }
        let path = DerivationPath::new_bip44(Some(account), Some(0));
        keypair_from_seed_and_derivation_path(&self.0, Some(path))
            .map_err(|error| SignerError::Failed { reason: error.to_string() })
    }
}

impl fmt::Debug for SeedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeedSigner(hidden)")
    }
}

#[async_trait]
impl Signer for SeedSigner {
    async fn address(&self, key: Key) -> Result<Pubkey, SignerError> {
        Ok(self.keypair(key)?.pubkey())
    }

    async fn sign(&self, key: Key, message: &[u8]) -> Result<Signature, SignerError> {
        Ok(self.keypair(key)?.sign_message(message))
    }
}

/// No keys, only the treasury's address: a process that sees deposits and holdings, and can neither
/// hand out new addresses nor move anything. What another process handed out it reads from the memory.
#[derive(Clone, Copy, Debug)]
pub struct WatchOnly {
    /// The treasury's address.
    pub treasury: Pubkey,
}

#[async_trait]
impl Signer for WatchOnly {
    async fn address(&self, key: Key) -> Result<Pubkey, SignerError> {
        match key {
            Key::Treasury => Ok(self.treasury),
            Key::Deposit(_) => Err(SignerError::WatchOnly),
        }
    }

    async fn sign(&self, _key: Key, _message: &[u8]) -> Result<Signature, SignerError> {
        Err(SignerError::WatchOnly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_a_wrong_length_are_refused() {
        for length in [0, 1, 15, 65, 128] {
            assert_eq!(SeedSigner::new(&vec![7; length]).unwrap_err(), SignerError::SeedLength { actual: length });
        }
        for length in [16, 32, 64] {
            assert!(SeedSigner::new(&vec![7; length]).is_ok());
        }
    }

    #[test]
    fn a_seed_is_never_shown() {
        assert_eq!(format!("{:?}", SeedSigner::new(&[42; 64]).unwrap()), "SeedSigner(hidden)");
    }
}
