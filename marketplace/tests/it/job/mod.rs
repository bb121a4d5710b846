//! The direct job's rules, decided without an engine.

mod bad_input;
mod lives;
mod returns;
mod rules;
mod table;
mod timers;
