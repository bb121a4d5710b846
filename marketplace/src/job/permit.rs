//! Who may give which command to a job, and when.

use super::{Job, JobCommand};
use crate::{actor::Actor, clock::Timestamp, error::Rejection};

/// Refuses what the job's status, the actor or the clock does not allow.
pub(super) fn permit(job: &Job, command: &JobCommand, actor: &Actor, now: Timestamp) -> Result<(), Rejection> {
    let (status, allowed) = (job.status, command.legal_in());
    if !allowed.contains(&status) {
        return Err(Rejection::WrongStatus { command: command.name(), status, allowed: allowed.to_vec() });
    }
    by_whom(job, command, actor)?;
    in_time(job, command, now)
}

/// Who may give which command to this job.
fn by_whom(job: &Job, command: &JobCommand, actor: &Actor) -> Result<(), Rejection> {
    let buyer = actor.agent() == Some(job.buyer);
    let worker = actor.agent().is_some() && actor.agent() == job.worker;
    let operator = matches!(actor, Actor::Operator(_));
    let (may, allowed) = match command {
        JobCommand::Post { .. } => (actor.agent().is_some(), "an agent"),
        JobCommand::RetryPayment
        | JobCommand::Approve
        | JobCommand::RequestRevision { .. }
        | JobCommand::Cancel { .. } => (buyer, "the job's buyer"),
        JobCommand::Accept if job.worker.is_none() => {
            (actor.agent().is_some() && !buyer, "an agent other than the buyer")
        }
        JobCommand::Accept | JobCommand::Start | JobCommand::Deliver { .. } | JobCommand::Withdraw { .. } => {
            (worker, "the job's worker")
        }
        JobCommand::Refund { .. } => (worker || operator, "the job's worker or an operator"),
        JobCommand::Freeze { .. } | JobCommand::Unfreeze => (operator, "an operator"),
        JobCommand::RecordValidation { .. } => (operator, "the platform's validators"),
        JobCommand::Tick => (matches!(actor, Actor::Timer), "a timer"),
        JobCommand::RecordOutcome { .. } | JobCommand::RecordHoldExpired | JobCommand::RecordHoldSettled { .. } => {
            (*actor == Actor::Rail(job.rail), "the job's rail")
        }
    };
    match may {
        true => Ok(()),
        false => Err(Rejection::WrongActor { command: command.name(), allowed, actor: actor.clone() }),
    }
}

/// What time has decided stands, however late its timer fires: a party cannot undo it meanwhile by a
/// command that would come out differently.
fn in_time(job: &Job, command: &JobCommand, now: Timestamp) -> Result<(), Rejection> {
    let undoes = match command {
        JobCommand::RetryPayment
        | JobCommand::Accept
        | JobCommand::Start
        | JobCommand::Deliver { .. }
        | JobCommand::RequestRevision { .. }
        | JobCommand::Cancel { .. } => true,
        JobCommand::Post { .. }
        | JobCommand::RecordValidation { .. }
        | JobCommand::Approve
        | JobCommand::Withdraw { .. }
        | JobCommand::Refund { .. }
        | JobCommand::Freeze { .. }
        | JobCommand::Unfreeze
        | JobCommand::Tick
        | JobCommand::RecordOutcome { .. }
        | JobCommand::RecordHoldExpired
        | JobCommand::RecordHoldSettled { .. } => false,
    };
    match job.next_timer().filter(|deadline| undoes && *deadline <= now) {
        Some(deadline) => Err(Rejection::TooLate { command: command.name(), deadline, now }),
        None => Ok(()),
    }
}
