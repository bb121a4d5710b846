//! Finding agents and open jobs (VP-11, VP-15, AM-02), on every store.

mod agents;
mod desk;
mod hostile;
mod jobs;
