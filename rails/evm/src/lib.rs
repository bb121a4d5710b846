#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod abi;
mod actions;
mod ask;
mod chain;
mod config;
mod error;
mod fees;
mod follow;
mod fund;
mod hold;
mod incident;
mod notes;
mod plan;
mod rail;
mod receipts;
mod relay;
mod screen;
mod settle;
pub mod sign;
mod standing;
mod wallets;

pub use abi::Agreement;
pub use actions::{Act, Activation, EscrowState, Mode, Options, Way};
pub use ask::{Answer, Ask, Call, Choice, Role};
pub use config::{EvmConfig, GasPolicy};
pub use error::{EvmError, Revert};
pub use fees::{InfraFee, InfraFeeState};
pub use incident::Incident;
pub use rail::EvmRail;
pub use receipts::EvmReceipts;
pub use relay::{Sent, Wait};
pub use screen::{SanctionsOracle, Screen, ScreenError};
