//! What a dispute makes of commands to its job.

use chrono::TimeDelta;

use super::{Dispute, DisputeEvent, DisputeStatus};
use crate::{clock::Timestamp, job::Job};

/// What becomes of an open dispute when its job is changed by something else than the dispute: frozen
/// or let go on by an operator, or ended by what the rail or the parties did outside. `None` when nothing does.
pub fn follow(dispute: &Dispute, job: &Job, now: Timestamp) -> Option<(Dispute, Vec<DisputeEvent>)> {
    if dispute.status.is_final() {
        return None;
    }
    let mut next = dispute.clone();
    let mut events = Vec::new();
    match (job.frozen, dispute.frozen_since) {
        _ if job.status.is_final() => {
            next.close(DisputeStatus::Lapsed);
            events.push(DisputeEvent::Lapsed { job: job.id });
        }
        (Some(frozen), None) => next.frozen_since = Some(frozen.since),
        (None, Some(since)) => {
            // Nobody loses time by a freeze; only the rail's own clock has gone on.
            let pause = (now - since).max(TimeDelta::zero());
            next.frozen_since = None;
            next.deadline = next.deadline.map(|at| at + pause);
        }
        (Some(_), Some(_)) | (None, None) => return None,
    }
    Some((next, events))
}

impl Dispute {
    /// Ends it: nothing happens by itself any more.
    pub(super) fn close(&mut self, status: DisputeStatus) {
        self.status = status;
        (self.deadline, self.ask_at, self.hold_until) = (None, None, None);
        (self.offer, self.handler, self.frozen_since) = (None, None, None);
    }
}
