//! Jobs as this process wrote them last, so that the next command to one need not read it again.
//!
//! What is remembered may be stale: another process, a worker's claim or an embedder's own transaction
//! may have written since. That is harmless by two rules. A commit is guarded by the version, so what
//! was decided on a stale job is never written; and nobody is refused on the strength of a remembered
//! job: the store is asked first.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use crate::{ids::JobId, job::Job};

/// How many jobs a generation holds; at most twice as many are remembered.
const GENERATION: usize = 4096;

/// The jobs written last.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: FxHashMap<JobId, (Arc<Job>, u64)>,
    old: FxHashMap<JobId, (Arc<Job>, u64)>,
}

impl Recent {
    /// The job as it was written last here, if that is remembered.
    pub(super) fn get(&self, id: JobId) -> Option<(Arc<Job>, u64)> {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.get(&id).or_else(|| generations.old.get(&id)).cloned()
    }

    /// Remembers a job that was committed with this version, unless nothing can happen to it any more.
    pub(super) fn put(&self, job: Arc<Job>, version: u64) {
        let generations = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if job.status.is_final() {
            generations.young.remove(&job.id);
            generations.old.remove(&job.id);
            return;
        }
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(job.id, (job, version));
    }
}
