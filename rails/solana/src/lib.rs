#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod address;
mod agents;
mod chain;
mod config;
mod deposits;
mod error;
mod incident;
mod keys;
mod nonces;
mod notes;
mod payouts;
mod plan;
mod rail;
mod sign;
mod transfers;
mod work;

pub use address::{AddressError, AddressWarning, CheckedAddress};
pub use agents::DepositAddress;
pub use config::{DurableNonces, Finality, SolanaConfig};
pub use incident::Incident;
pub use keys::{Key, SeedSigner, Signer, SignerError, WatchOnly};
pub use notes::Spent;
pub use rail::SolanaRail;
pub use work::Worked;
