//! VP-14: every status against every command, and every command against every actor, compared with a
//! table that is written here and nowhere else.

use tradepost::store::Kept as _;
use tradepost::{
    actor::Actor,
    error::Rejection,
    ids::{InstructionId, RailId},
    job::{HoldState, JobCommand, JobStatus, Verdict},
    rail::{Custody, Instruction, Order},
};

use crate::support::*;
use JobStatus::{
    Accepted, Cancelled, Completed, Delivered, Disputed, Frozen, Funded, InProgress, PendingPayment, Refunded,
    RevisionRequested, Validating,
};

const AMOUNT: i64 = 10_000;

/// Every way a job leaves a status by a command of its rightful actor, under VoxPact's policy, on a
/// rail that holds the money itself. Whatever is not here is refused.
const LEGAL: &[(JobStatus, &str, JobStatus)] = &[
    (PendingPayment, "cancel", Cancelled),
    (PendingPayment, "freeze", Frozen),
    (PendingPayment, "record_outcome", Funded),
    (PendingPayment, "record_hold_expired", PendingPayment),
    (Funded, "accept", Accepted),
    (Funded, "cancel", Cancelled),
    (Funded, "withdraw", Cancelled),
    (Funded, "freeze", Frozen),
    (Funded, "record_hold_expired", Cancelled),
    (Accepted, "start", InProgress),
    (Accepted, "deliver", Delivered),
    (Accepted, "cancel", Cancelled),
    (Accepted, "withdraw", Cancelled),
    (Accepted, "refund", Refunded),
    (Accepted, "freeze", Frozen),
    (Accepted, "record_hold_expired", Cancelled),
    (InProgress, "deliver", Delivered),
    (InProgress, "cancel", Cancelled),
    (InProgress, "withdraw", Cancelled),
    (InProgress, "refund", Refunded),
    (InProgress, "freeze", Frozen),
    (InProgress, "record_hold_expired", Cancelled),
    (Validating, "record_validation", Delivered),
    (Validating, "approve", Completed),
    (Validating, "refund", Refunded),
    (Validating, "freeze", Frozen),
    (Validating, "record_hold_expired", Cancelled),
    (Delivered, "approve", Completed),
    (Delivered, "request_revision", RevisionRequested),
    (Delivered, "refund", Refunded),
    (Delivered, "freeze", Frozen),
    (Delivered, "record_hold_expired", Cancelled),
    (RevisionRequested, "deliver", Delivered),
    (RevisionRequested, "withdraw", Cancelled),
    (RevisionRequested, "refund", Refunded),
    (RevisionRequested, "freeze", Frozen),
    (RevisionRequested, "record_hold_expired", Cancelled),
    (Completed, "record_outcome", Completed),
    (Completed, "record_hold_expired", Completed),
    (Cancelled, "record_outcome", Cancelled),
    (Cancelled, "record_hold_expired", Cancelled),
    (Refunded, "record_outcome", Refunded),
    (Refunded, "record_hold_expired", Refunded),
    (Disputed, "freeze", Frozen),
    (Disputed, "record_hold_expired", Cancelled),
    (Frozen, "unfreeze", InProgress),
    (Frozen, "record_hold_expired", Cancelled),
];

/// The commands that the status alone refuses, by the statuses in which it does not.
const BY_STATUS: &[(&str, &[JobStatus])] = &[
    ("post", &[]),
    ("retry_payment", &[PendingPayment]),
    ("accept", &[Funded]),
    ("start", &[Accepted]),
    ("deliver", &[Accepted, InProgress, RevisionRequested]),
    ("record_validation", &[Validating]),
    ("approve", &[Validating, Delivered]),
    ("request_revision", &[Delivered]),
    ("cancel", &[PendingPayment, Funded, Accepted, InProgress]),
    ("withdraw", &[Funded, Accepted, InProgress, RevisionRequested]),
    ("refund", &[Accepted, InProgress, Validating, Delivered, RevisionRequested]),
    ("freeze", &[PendingPayment, Funded, Accepted, InProgress, Validating, Delivered, RevisionRequested, Disputed]),
    ("unfreeze", &[Frozen]),
];

/// A job that came to this status the way jobs do.
fn in_status(status: JobStatus, custody: Custody) -> Desk {
    let funded = || Desk::new(voxpact(), custody).funded(AMOUNT);
    let started = || {
        let mut desk = funded();
        desk.must(by(worker()), JobCommand::Accept).must(by(worker()), JobCommand::Start);
        desk
    };
    let mut desk = match status {
        PendingPayment => Desk::new(voxpact(), custody).posted(AMOUNT),
        Validating => {
            let mut desk = Desk::new(voxpact(), custody);
            let mut validated = order(desk.money(AMOUNT));
            validated.validation = Some(serde_json::json!({}));
            desk.must(by(buyer()), post(validated)).settle_rail();
            desk.must(by(worker()), JobCommand::Accept);
            desk
        }
        Funded | Accepted => funded(),
        _ => started(),
    };
    match status {
        PendingPayment | Funded | InProgress => {}
        Accepted => drop(desk.must(by(worker()), JobCommand::Accept)),
        Validating | Delivered => drop(desk.must(by(worker()), deliver())),
        RevisionRequested => drop(desk.must(by(worker()), deliver()).must(by(buyer()), revise())),
        Completed => drop(desk.must(by(worker()), deliver()).must(by(buyer()), JobCommand::Approve)),
        Cancelled => drop(desk.must(by(buyer()), cancel())),
        Refunded => drop(desk.must(by(worker()), refund())),
        Frozen => drop(desk.must(operator(), freeze())),
        // Opening a dispute is not part of a direct job's own commands.
        Disputed => desk.job.as_mut().unwrap().status = Disputed,
    }
    assert_eq!(desk.status(), status);
    desk
}

/// The desk's last instruction, or one that nobody gave.
fn some_instruction(desk: &Desk) -> Instruction {
    let never = || Instruction {
        id: InstructionId(uuid::Uuid::from_u128(99)),
        contract: desk.job().id.0,
        order: Order::Fund {
            hold: desk.job().id.into(),
            payer: buyer(),
            amount: desk.money(AMOUNT),
            terms: Box::default(),
        },
        answer: None,
    };
    desk.instructions.last().map_or_else(never, |(instruction, _)| instruction.clone())
}

/// Every command, well formed, with the actors who may give it to a job with a named worker.
fn commands(desk: &Desk) -> Vec<(JobCommand, Vec<Actor>)> {
    let instruction = some_instruction(desk);
    let rail = || Actor::Rail(RAIL);
    vec![
        (post(order(desk.money(AMOUNT))), vec![by(buyer())]),
        (JobCommand::RetryPayment, vec![by(buyer())]),
        (JobCommand::Accept, vec![by(worker())]),
        (JobCommand::Start, vec![by(worker())]),
        (deliver(), vec![by(worker())]),
        (JobCommand::RecordValidation { verdict: Verdict::Passed }, vec![operator()]),
        (JobCommand::Approve, vec![by(buyer())]),
        (revise(), vec![by(buyer())]),
        (cancel(), vec![by(buyer())]),
        (withdraw(), vec![by(worker())]),
        (refund(), vec![by(worker()), operator()]),
        (freeze(), vec![operator()]),
        (JobCommand::Unfreeze, vec![operator()]),
        (JobCommand::Tick, vec![Actor::Timer]),
        (outcome(&instruction, done(&instruction)), vec![rail()]),
        (JobCommand::RecordHoldExpired, vec![rail()]),
        (JobCommand::RecordHoldSettled { reference: "outside".into(), legs: vec![] }, vec![rail()]),
    ]
}

fn actors() -> Vec<Actor> {
    let other_rail = Actor::Rail(RailId::new("another"));
    vec![by(buyer()), by(worker()), by(stranger()), owner(), operator(), Actor::Timer, Actor::Rail(RAIL), other_rail]
}

fn state_of(hold: HoldState) -> &'static str {
    match hold {
        HoldState::Empty => "not reserved",
        HoldState::Funding(_) => "being taken",
        HoldState::Held => "reserved",
        HoldState::Settling(_) => "being divided",
        HoldState::Settled => "divided",
    }
}

/// What the table says of a command by its rightful actor: the status after it, or why not.
fn expected(desk: &Desk, command: &JobCommand) -> Result<JobStatus, Rejection> {
    let (name, status, hold) = (command.name(), desk.status(), desk.job().hold.state);
    if let Some((_, _, after)) = LEGAL.iter().find(|(from, by, _)| (*from, *by) == (status, name)) {
        return Ok(*after);
    }
    let wrong_hold = |command| Rejection::WrongHold { command, state: state_of(hold) };
    Err(match name {
        "tick" => Rejection::NothingDue { next: desk.job().due_at() },
        "record_outcome" | "record_hold_expired" => wrong_hold(name),
        "record_hold_settled" => {
            Rejection::WrongRail { command: "record_hold_settled", rail: RAIL, needed: Custody::NonCustodial }
        }
        "retry_payment" if status == PendingPayment => wrong_hold(name),
        _ => {
            let allowed = BY_STATUS.iter().find(|(by, _)| *by == name).unwrap().1.to_vec();
            Rejection::WrongStatus { command: name, status, allowed }
        }
    })
}

#[test]
fn vp_14_every_command_in_every_status_is_legal_or_refused_with_its_reason() {
    let (mut legal, mut refused) = (0, 0);
    for status in JobStatus::ALL {
        let desk = in_status(status, Custody::PerHold);
        for (command, actors) in commands(&desk) {
            for actor in actors {
                let mut tried = desk.clone();
                let answer = tried.give(actor.clone(), command.clone());
                match expected(&desk, &command) {
                    Ok(after) => {
                        let events = answer.unwrap_or_else(|e| panic!("{command:?} in {status}: {e}"));
                        assert_eq!(tried.status(), after, "{} in {status}", command.name());
                        assert!(!events.is_empty(), "{} in {status} is not in the log", command.name());
                        assert_eq!(tried.job().frozen.is_some(), after == Frozen);
                        legal += 1;
                    }
                    Err(mut rejection) => {
                        // Which statuses would do is said by the command, or narrower by the policy.
                        if let (Rejection::WrongStatus { allowed, .. }, "accept") = (&mut rejection, command.name())
                            && status != PendingPayment
                        {
                            *allowed = vec![PendingPayment, Funded];
                        }
                        assert_eq!(answer, Err(rejection), "{} in {status}", command.name());
                        assert_eq!(tried.job(), desk.job(), "nothing is written");
                        assert_eq!(tried.books, desk.books);
                        refused += 1;
                    }
                }
            }
        }
    }
    assert_eq!(legal, LEGAL.len() + 5, "refunds have two rightful actors");
    assert_eq!(legal + refused, 12 * 18);
}

#[test]
fn vp_14_no_wrong_actor_gets_a_command_through_in_any_status() {
    for status in JobStatus::ALL {
        let desk = in_status(status, Custody::PerHold);
        for (command, rightful) in commands(&desk) {
            for actor in actors().into_iter().filter(|actor| !rightful.contains(actor)) {
                match desk.ask(&actor, &command) {
                    Err(Rejection::WrongActor { command: name, actor: named, .. }) => {
                        assert_eq!((name, &named), (command.name(), &actor));
                    }
                    // The status is looked at first, so an outsider may hear of that instead.
                    Err(Rejection::WrongStatus { command: name, .. }) => {
                        assert_eq!(name, command.name());
                        assert!(expected(&desk, &command).is_err(), "{name} in {status} by {actor}");
                    }
                    other => panic!("{} in {status} by {actor}: {other:?}", command.name()),
                }
            }
        }
    }
}

#[test]
fn vp_14_a_wrong_actor_is_named_wherever_the_command_itself_is_legal() {
    let mut tried = 0;
    for (status, name, _) in LEGAL {
        let desk = in_status(*status, Custody::PerHold);
        let (command, rightful) = commands(&desk).into_iter().find(|(command, _)| command.name() == *name).unwrap();
        for actor in actors().into_iter().filter(|actor| !rightful.contains(actor)) {
            let answer = desk.ask(&actor, &command);
            let named = matches!(&answer, Err(Rejection::WrongActor { command, actor: a, .. }) if (command, a) == (name, &actor));
            assert!(named, "{name} in {status} by {actor}: {answer:?}");
            tried += 1;
        }
    }
    assert_eq!(tried, LEGAL.len() * 7 - 5);
}

#[test]
fn vp_14_with_money_in_the_ledger_nothing_is_heard_of_rails() {
    for custody in [Custody::Internal, Custody::Pooled] {
        for status in JobStatus::ALL.into_iter().filter(|status| *status != PendingPayment) {
            let desk = in_status(status, custody);
            let fund = Instruction { ..some_instruction(&desk) };
            let wrong_hold = Rejection::WrongHold { command: "record_outcome", state: state_of(desk.job().hold.state) };
            assert_eq!(desk.ask(&Actor::Rail(RAIL), &outcome(&fund, done(&fund))), Err(wrong_hold));
            let needed = Custody::PerHold;
            let wrong_rail = Rejection::WrongRail { command: "record_hold_expired", rail: RAIL, needed };
            assert_eq!(desk.ask(&Actor::Rail(RAIL), &JobCommand::RecordHoldExpired), Err(wrong_rail));
        }
    }
}

#[test]
fn a_declined_payment_can_be_tried_again() {
    let mut desk = in_status(PendingPayment, Custody::PerHold);
    let first = desk.last_instruction();
    desk.must(Actor::Rail(RAIL), outcome(&first, declined()));
    assert_eq!((desk.status(), desk.job().hold.state), (PendingPayment, HoldState::Empty));
    desk.must(by(buyer()), JobCommand::RetryPayment);
    let second = desk.last_instruction();
    assert_ne!(first.id, second.id);
    // The one that was declined is over, whatever is said about it now.
    let late = desk.ask(&Actor::Rail(RAIL), &outcome(&first, done(&first)));
    assert_eq!(late, Err(Rejection::WrongHold { command: "record_outcome", state: "being taken" }));
    desk.settle_rail();
    assert_eq!(desk.status(), Funded);
}

#[test]
fn no_command_but_posting_is_for_a_job_that_is_not_there() {
    let desk = Desk::new(voxpact(), Custody::Internal);
    let known = in_status(Funded, Custody::Internal);
    for (command, rightful) in commands(&known) {
        let answer = desk.ask(&rightful[0], &command);
        match command {
            JobCommand::Post { .. } => assert!(answer.is_ok()),
            _ => assert_eq!(answer, Err(Rejection::NotFound { what: "job", id: String::new() })),
        }
    }
}

#[test]
fn only_agents_post() {
    let desk = Desk::new(voxpact(), Custody::Internal);
    for actor in [owner(), operator(), Actor::Timer, Actor::Rail(RAIL)] {
        let refused = Rejection::WrongActor { command: "post", allowed: "an agent", actor: actor.clone() };
        assert_eq!(desk.ask(&actor, &post(order(desk.money(500)))), Err(refused));
    }
}
