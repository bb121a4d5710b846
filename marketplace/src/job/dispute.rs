//! What a dispute does to its job: it stands still, and ends with the dispute or goes on.

use super::{Disputed, HoldState, JobEvent, JobStatus, decide::Draft};
use crate::{
    dispute::{Award, DisputeEnding},
    error::Rejection,
    hold::Division,
    ids::DisputeId,
    policy::Disputant,
    trust::Side,
};

impl Draft<'_> {
    /// The job stands still until its dispute is over (VP-30, JP-13).
    pub(super) fn dispute(&mut self, id: DisputeId) -> Result<(), Rejection> {
        let policy = self.ctx.policy.disputes.as_ref().ok_or(Rejection::NotOffered { what: "disputes" })?;
        let was = self.job.status;
        if !policy.statuses.contains(&was) {
            let (command, allowed) = (self.command, policy.statuses.clone());
            return Err(Rejection::WrongStatus { command, status: was, allowed });
        }
        let by = self.job.side_of(self.ctx.actor).filter(|by| policy.by == Disputant::Either || *by == Side::Buyer);
        let Some(by) = by else {
            let (command, actor) = (self.command, self.ctx.actor.clone());
            return Err(Rejection::WrongActor { command, allowed: "the job's buyer", actor });
        };
        if self.job.hold.state != HoldState::Held {
            return Err(self.wrong_hold());
        }
        self.job.dispute = Some(Disputed { id, by, was, since: self.ctx.now });
        self.job.status = JobStatus::Disputed;
        self.events.push(JobEvent::Disputed { dispute: id, by });
        Ok(())
    }

    /// What the dispute came to is done: the money is divided, or the job goes on where it stood.
    pub(super) fn end_dispute(&mut self, ending: &DisputeEnding) -> Result<(), Rejection> {
        // The rail's clock goes on while the job is frozen, nothing else does.
        let possible = self.job.frozen.is_none() || matches!(ending, DisputeEnding::Lapsed { .. });
        let Some(Disputed { id, was, since, .. }) = self.job.dispute.filter(|_| possible) else {
            let (command, status) = (self.command, self.job.status);
            return Err(Rejection::WrongStatus { command, status, allowed: vec![JobStatus::Disputed] });
        };
        self.events.push(JobEvent::DisputeEnded { dispute: id, ending: ending.clone() });
        let award = match ending {
            DisputeEnding::Withdrawn => {
                self.job.dispute = None;
                self.job.status = was;
                self.resume(since);
                return Ok(());
            }
            DisputeEnding::Ruled { award } | DisputeEnding::Agreed { award } | DisputeEnding::Lapsed { award } => award,
        };
        match award {
            Award::Buyer => self.give_back(ending.as_str()),
            Award::Worker => self.complete(Division::completed(&self.job)?),
            Award::Split { to_worker } => {
                self.complete(Division::split(&self.job, *to_worker, self.ctx.policy.fees.rounding)?)
            }
        }
    }
}
