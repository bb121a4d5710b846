//! Open jobs: bids, counter-offers, applications, and who becomes the worker.

mod desk;
mod engine;
#[cfg(feature = "http")]
mod hire;
mod rules;
mod town;
