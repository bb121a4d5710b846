//! Disputes: their rules decided on a desk without an engine.

mod desk;
mod ends;
mod rules;
