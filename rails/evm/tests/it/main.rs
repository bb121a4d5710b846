//! The crate's integration tests, in one binary, on real nodes.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![allow(unreachable_pub, reason = "the modules of a test binary are nobody's API")]

#[path = "../stage/mod.rs"]
mod stage;

mod agreements;
mod conformance;
mod faults;
mod fees;
mod lives;
mod markets;
mod metered;
mod nodes;
mod refusals;
mod relaying;
mod reorgs;
mod vectors;
