#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bank;
mod cards;
mod config;
mod connect;
mod directory;
mod disputes;
mod division;
mod error;
mod events;
mod fund;
mod http;
mod marks;
mod object;
mod payout;
mod rail;
mod settle;
mod undo;
mod waiting;
mod webhook;

pub use bank::{AccountBalance, BankPayout};
pub use cards::{Card, CardSetup, Cards};
pub use config::{HoldMode, Presentment, STRIPE, Secret, StripeConfig};
pub use connect::{AccountStatus, Connect, OnboardingLink, ReturnTo};
pub use directory::{Directory, DirectoryError, Fact, Known};
pub use disputes::{DisputeStatus, Disputes, Evidence, HandIn};
pub use error::{StripeError, StripeErrorKind};
pub use events::{ACCOUNT_EVENTS, EVENTS};
pub use fund::{ADD_CARD, CONFIRM_CARD};
pub use rail::StripeRail;
