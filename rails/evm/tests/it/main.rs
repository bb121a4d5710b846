//! The crate's integration tests, in one binary, on real nodes.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![allow(unreachable_pub, reason = "the modules of a test binary are nobody's API")]

#[path = "../stage/mod.rs"]
mod stage;

mod conformance;
mod faults;
mod lives;
mod metered;
mod refusals;
mod relaying;
mod vectors;
