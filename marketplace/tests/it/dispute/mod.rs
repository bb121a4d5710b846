//! Disputes: their rules decided on a desk without an engine, then whole ones through the engine.

mod desk;
mod ends;
mod engine;
mod rules;
