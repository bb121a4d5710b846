//! Open jobs: bids, counter-offers, applications, and who becomes the worker.

mod desk;
mod engine;
mod rules;
mod stories;
mod town;
