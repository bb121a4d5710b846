//! The rail against Stripe's counterparts over HTTP: the project's own double, Stripe's stripe-mock,
//! and localstripe.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test says what it expects by failing")]

mod conformance;
mod counterparts;
mod double;
mod goes_back;
mod life;
mod people;
mod refusals;
mod shapes;
mod steps;
