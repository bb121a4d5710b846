//! Every status against every command, and every command against every actor, compared with a table that
//! is written here and nowhere else.

use tradepost::{
    actor::Actor,
    agreement::{AgreementCommand, AgreementStatus},
    error::Rejection,
    rail::{Chargeback, ChargebackStage, Custody},
};

use super::*;
use AgreementStatus::{Accepted, Active, Cancelled, Completed, Disputed, Expired, Proposed, Rejected};

/// Every way an agreement leaves a status (or stays in it) by a command of its rightful actor, on credits.
/// Whatever is not here is refused.
const LEGAL: &[(AgreementStatus, &str, AgreementStatus)] = &[
    (Proposed, "accept", Accepted),
    (Proposed, "reject", Rejected),
    (Proposed, "cancel", Cancelled),
    (Accepted, "activate", Active),
    (Active, "record_usage", Active),
    (Active, "submit_receipt", Active),
    (Active, "complete", Completed),
    (Active, "close", Active),
    (Active, "dispute", Disputed),
    (Disputed, "submit_receipt", Disputed),
    (Disputed, "complete", Completed),
    (Disputed, "rule", Completed),
];

/// Who may give which command.
const MAY: &[(&str, &[&str])] = &[
    ("accept", &["seller"]),
    ("reject", &["seller"]),
    ("cancel", &["buyer"]),
    ("activate", &["buyer"]),
    ("record_usage", &["seller", "operator"]),
    ("submit_receipt", &["buyer", "seller", "operator"]),
    ("complete", &["buyer"]),
    ("close", &["buyer", "seller"]),
    ("finalize", &["buyer", "seller"]),
    ("dispute", &["buyer", "seller"]),
    ("rule", &["operator"]),
    ("tick", &["timer"]),
    ("record_outcome", &["rail"]),
    ("record_hold_expired", &["rail"]),
    ("record_hold_settled", &["rail"]),
    ("record_chargeback", &["rail"]),
];

fn actors() -> Vec<(&'static str, Actor)> {
    vec![
        ("buyer", by(buyer())),
        ("seller", by(worker())),
        ("stranger", by(stranger())),
        ("owner", owner()),
        ("operator", operator()),
        ("timer", Actor::Timer),
        ("rail", Actor::Rail(RAIL)),
    ]
}

fn commands(desk: &Desk) -> Vec<AgreementCommand> {
    let instruction = Instruction {
        id: tradepost::ids::InstructionId::derive(desk.id().0, 0),
        contract: desk.id().0,
        order: tradepost::rail::Order::Payout { agent: buyer(), destination: None, amount: desk.money(1) },
        answer: None,
    };
    let chargeback = Chargeback {
        hold: desk.id().into(),
        reference: "x".into(),
        amount: desk.money(1),
        cost: desk.money(0),
        stage: ChargebackStage::Lost,
    };
    vec![
        AgreementCommand::Propose { id: desk.id(), proposal: Box::new(proposal(|minor| desk.money(minor))) },
        accept(),
        AgreementCommand::Reject { reason: String::new(), suggestion: None },
        AgreementCommand::Cancel { reason: String::new() },
        AgreementCommand::Activate,
        used(1),
        hand_in(receipt_of(&meter(1), desk.id(), 50, Hash::default())),
        AgreementCommand::Complete,
        AgreementCommand::Close,
        AgreementCommand::Finalize,
        disputed(),
        AgreementCommand::Rule { earned: desk.money(0), reason: String::new() },
        AgreementCommand::Tick,
        heard(&instruction, declined()),
        AgreementCommand::RecordHoldExpired,
        AgreementCommand::RecordHoldSettled { reference: "x".into(), legs: Vec::new() },
        AgreementCommand::RecordChargeback { chargeback: Box::new(chargeback) },
    ]
}

fn in_status(status: AgreementStatus) -> Desk {
    let desk = Desk::new(paegents(), Custody::Internal);
    let mut proposal = proposal(|minor| desk.money(minor));
    proposal.receipt_signer = Some(signer_of(&meter(1)));
    let mut desk = desk.propose(proposal);
    match status {
        Proposed => {}
        Rejected => drop(desk.must(by(worker()), AgreementCommand::Reject { reason: String::new(), suggestion: None })),
        Cancelled => drop(desk.must(by(buyer()), AgreementCommand::Cancel { reason: String::new() })),
        Expired => {
            desk.now = desk.agreement().timers.answer_by.unwrap();
            desk.tick_all();
        }
        Accepted => drop(desk.must(by(worker()), accept())),
        Active | Disputed | Completed => {
            desk.must(by(worker()), accept()).must(by(buyer()), AgreementCommand::Activate);
            match status {
                Disputed => drop(desk.must(by(buyer()), disputed())),
                Completed => drop(desk.must(by(buyer()), AgreementCommand::Complete)),
                _ => {}
            }
        }
    }
    assert_eq!(desk.status(), status);
    desk
}

#[test]
fn pg_03_every_status_against_every_command() {
    let mut legal = 0;
    for status in AgreementStatus::ALL {
        let desk = in_status(status);
        for command in commands(&desk) {
            let name = command.name();
            let expected = LEGAL.iter().find(|(from, by, _)| (*from, *by) == (status, name)).map(|(_, _, to)| *to);
            let mut results = actors().into_iter().filter_map(|(_, actor)| desk.ask(&actor, &command).ok());
            assert_eq!(results.next().map(|decision| decision.agreement.status), expected, "{name} while {status}");
            legal += usize::from(expected.is_some());
            if command.legal_in().contains(&status) || matches!(command, AgreementCommand::Propose { .. }) {
                continue;
            }
            let refused = desk.refused(by(buyer()), command);
            assert!(matches!(refused, Rejection::WrongAgreementStatus { .. }), "{name} while {status}: {refused}");
        }
    }
    assert_eq!(legal, LEGAL.len());
}

#[test]
fn every_command_against_every_actor() {
    for status in AgreementStatus::ALL {
        let desk = in_status(status);
        for command in commands(&desk) {
            let name = command.name();
            let Some((_, may)) = MAY.iter().find(|(command, _)| *command == name) else { continue };
            if !command.legal_in().contains(&status) {
                continue;
            }
            for (who, actor) in actors() {
                let refused = matches!(desk.ask(&actor, &command), Err(Rejection::WrongActor { .. }));
                assert_eq!(refused, !may.contains(&who), "{name} by {who} while {status}");
            }
        }
    }
}

#[test]
fn nothing_but_a_proposal_begins_an_agreement() {
    let (empty, some) = (Desk::new(paegents(), Custody::Internal), in_status(Proposed));
    for command in commands(&some) {
        if !matches!(command, AgreementCommand::Propose { .. }) {
            assert!(matches!(empty.refused(by(buyer()), command), Rejection::NotFound { what: "agreement", .. }));
        }
    }
    let again = AgreementCommand::Propose { id: some.id(), proposal: Box::new(proposal(|minor| some.money(minor))) };
    assert!(matches!(some.refused(by(buyer()), again), Rejection::WrongAgreementStatus { .. }));
}
