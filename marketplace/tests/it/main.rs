//! The crate's integration tests, in one binary. A rule's id (`VP-23`) is in the name of the test that
//! proves it, or in a comment beside it.

mod engine;
mod job;
mod ledger;
mod money;
mod support;
