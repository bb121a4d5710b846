//! The crate's integration tests, in one binary, over HTTP against the real token program.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[path = "../front/mod.rs"]
mod front;
mod world;

mod smoke;
