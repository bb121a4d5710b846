//! The crate's integration tests, in one binary, over HTTP against the real token program.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![allow(unreachable_pub, reason = "the modules of a test binary are nobody's API")]

#[path = "../front/mod.rs"]
mod front;
mod validator;
mod world;

mod conformance;
mod costs;
mod deposits;
mod faults;
mod lifecycle;
mod nonces;
mod queue;
mod sweeps;
mod withdrawals;
