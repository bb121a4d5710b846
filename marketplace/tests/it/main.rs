//! The crate's integration tests, in one binary.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod policy;
mod rail;
