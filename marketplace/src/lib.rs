#![doc = include_str!("../../README.md")]
#![forbid(unsafe_code)]

pub mod actor;
pub mod adjustment;
pub mod agent;
pub mod agreement;
pub mod bid;
pub mod clock;
pub mod dispute;
pub mod engine;
pub mod error;
pub mod hold;
pub mod ids;
pub mod job;
pub mod ledger;
pub mod money;
pub mod notice;
#[cfg(feature = "http")]
pub mod outbound;
pub mod policy;
pub mod rail;
pub mod report;
pub mod review;
mod schema;
pub mod search;
pub mod secret;
pub mod spending;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
mod text;
pub mod trust;
pub mod validation;
pub mod wallet;
