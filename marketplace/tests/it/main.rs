//! The crate's integration tests, in one binary. A rule's id (`VP-23`) is in the name of the test that
//! proves it, or in a comment beside it.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod agent;
mod agreement;
mod bid;
mod counter;
mod dispute;
mod duties;
mod engine;
mod job;
mod ledger;
mod money;
mod notice;
mod operators;
mod opinions;
mod outbound;
mod policy;
mod rail;
mod reads;
mod schema;
mod search;
mod settlement;
mod store;
mod story;
mod support;
mod town;
mod trust;
mod validation;
mod wallet;
mod within;
mod world;
