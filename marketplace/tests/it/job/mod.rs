//! The direct job's rules, decided without an engine.

mod bad_input;
mod lives;
mod rules;
mod table;
mod timers;
