//! The rail against Stripe's counterparts over HTTP: the project's own double, Stripe's stripe-mock,
//! and localstripe.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test says what it expects by failing")]

mod accounts;
mod bank;
mod checker;
mod conformance;
mod double;
mod endings;
mod goes_back;
mod life;
mod localstripe;
mod people;
mod refusals;
mod seeds;
mod shapes;
mod steps;
mod timers;
mod wire;
