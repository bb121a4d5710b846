//! Who may do what, when, and how: opening, answering, evidence, the tiers.

use tradepost::{
    actor::Actor,
    dispute::{Answer, Award, DisputeCommand, DisputeEvent, DisputeStatus, Escalation, Filing, Judgement, RuledBy},
    error::Rejection,
    job::JobStatus,
    policy::{Disputant, DisputePolicy, EvidenceKind, Policy, Span},
    rail::Custody,
    store::Kept as _,
    trust::{ClientReputation, Side},
};

use super::desk::*;
use crate::support::*;
use DisputeStatus::{Answering, Arbitration, Resolved, Review, Ruled};

const AMOUNT: i64 = 10_000;

fn court() -> Court {
    Court::disputed(voxpact(), Custody::Internal, AMOUNT)
}

fn vp(change: impl FnOnce(&mut DisputePolicy)) -> Policy {
    let mut policy = voxpact();
    change(policy.disputes.as_mut().unwrap());
    policy
}

#[test]
fn vp_30_a_dispute_stops_the_job_and_its_timers() {
    let mut court = Court::delivered(voxpact(), Custody::Internal, AMOUNT);
    let released_at = court.desk.job().due_at().unwrap();
    court.must(by(buyer()), open());
    assert_eq!((court.desk.status(), court.status()), (JobStatus::Disputed, Answering));
    assert_eq!(court.desk.job().due_at(), None);
    court.desk.wait_until(released_at);
    assert_eq!(court.desk.tick(), Err(Rejection::NothingDue { next: None }), "silence releases nothing");
    assert_eq!(court.got(worker()), 0);
}

#[test]
fn vp_30_either_party_disputes_a_delivered_job_and_nobody_else_does() {
    for (actor, side) in [(by(buyer()), Side::Buyer), (by(worker()), Side::Worker)] {
        let mut court = Court::delivered(voxpact(), Custody::Internal, AMOUNT);
        court.must(actor, open());
        assert_eq!(court.dispute().claimant, side);
        assert_eq!(court.desk.job().dispute.unwrap().by, side);
    }
    for actor in [by(stranger()), owner(), operator(), Actor::Timer, Actor::Rail(RAIL)] {
        let mut court = Court::delivered(voxpact(), Custody::Internal, AMOUNT);
        let refused = court.give(actor.clone(), open()).unwrap_err();
        let allowed = "a party of the job";
        assert_eq!(refused, Rejection::WrongActor { command: "open_dispute", allowed, actor });
    }
    let only_buyers = vp(|policy| policy.by = Disputant::Buyer);
    let mut court = Court::delivered(only_buyers, Custody::Internal, AMOUNT);
    let refused = court.give(by(worker()), open()).unwrap_err();
    let (allowed, actor) = ("the job's buyer", by(worker()));
    assert_eq!(refused, Rejection::WrongActor { command: "dispute", allowed, actor });
}

#[test]
fn vp_30_a_dispute_that_comes_after_the_release_was_due_is_too_late() {
    let mut court = Court::delivered(voxpact(), Custody::Internal, AMOUNT);
    let deadline = court.desk.job().due_at().unwrap();
    court.desk.wait_until(Desk::just_before(deadline));
    assert!(court.clone().give(by(buyer()), open()).is_ok());
    court.desk.wait_until(deadline);
    let refused = Rejection::TooLate { command: "dispute", deadline, now: deadline };
    assert_eq!(court.give(by(buyer()), open()), Err(refused));
}

#[test]
fn vp_30_a_job_has_one_dispute_at_a_time_and_none_without_a_policy() {
    let mut court = court();
    let allowed = vec![
        JobStatus::Accepted,
        JobStatus::InProgress,
        JobStatus::Validating,
        JobStatus::Delivered,
        JobStatus::RevisionRequested,
    ];
    let again = Rejection::WrongStatus { command: "dispute", status: JobStatus::Disputed, allowed };
    court.dispute = None;
    assert_eq!(court.give(by(worker()), open()), Err(again));
    let mut without = Court::delivered(Policy { disputes: None, ..voxpact() }, Custody::Internal, AMOUNT);
    assert_eq!(without.give(by(buyer()), open()), Err(Rejection::NotOffered { what: "disputes" }));
}

#[test]
fn vp_30_what_is_said_and_submitted_is_limited_and_kept() {
    let mut court = Court::delivered(voxpact(), Custody::Internal, AMOUNT);
    let too = |reason: &str| open_with(Filing { reason: reason.into(), ..filing() });
    for reason in ["too short", &"x".repeat(5001)] {
        let (field, unit, actual) = ("reason", "characters", reason.chars().count());
        let refused = Rejection::Length { field, unit, min: 10, max: 5000, actual };
        assert_eq!(court.give(by(buyer()), too(reason)), Err(refused));
    }
    let hidden = Rejection::Character { field: "reason", character: 0x202E };
    assert_eq!(court.give(by(buyer()), too("written \u{202E}backwards")), Err(hidden));
    let evidence = vec![
        item(EvidenceKind::Text, "one\ntwo"),
        item(EvidenceKind::Url, "https://example.com/spec"),
        item(EvidenceKind::File, "spec.pdf"),
    ];
    court.must(by(buyer()), open_with(Filing { evidence, ..filing() }));
    assert_eq!(court.dispute().evidence.buyer, 3);
    assert_eq!(court.documents["reason"], "\"half of it is missing\"");
    assert!(court.documents["evidence/buyer/2"].contains("https://example.com/spec"));
    let add = |evidence| DisputeCommand::AddEvidence { evidence };
    for bad in ["http://example.com", "https://", "javascript:alert(1)", "https://user@host"] {
        let refused = court.give(by(buyer()), add(vec![item(EvidenceKind::Url, bad)])).unwrap_err();
        assert!(matches!(refused, Rejection::Form { .. } | Rejection::Length { .. }), "{bad}: {refused}");
    }
    let refused = Rejection::TooMany { field: "evidence", max: 20, actual: 21 };
    assert_eq!(court.give(by(buyer()), add(vec![item(EvidenceKind::Text, "more"); 18])), Err(refused));
    assert_eq!(court.give(by(buyer()), add(Vec::new())), Err(Rejection::Missing { field: "evidence" }));
    court.must(by(worker()), add(vec![item(EvidenceKind::Text, "mine"); 20]));
    assert_eq!((court.dispute().evidence.buyer, court.dispute().evidence.worker), (3, 20));
}

#[test]
fn jp_13_a_dispute_names_one_of_the_policys_words_and_takes_no_evidence() {
    let mut court = Court::delivered(just_pay(), Custody::Internal, AMOUNT);
    assert_eq!(court.give(by(buyer()), open()), Err(Rejection::Missing { field: "category" }));
    let named = |word: &str| open_with(Filing { category: Some(word.into()), ..filing() });
    let refused = court.give(by(buyer()), named("boredom")).unwrap_err();
    assert!(matches!(refused, Rejection::NotOneOf { field: "category", allowed, .. } if allowed.len() == 5));
    let evidence = vec![item(EvidenceKind::Text, "look")];
    let filed = open_with(Filing { category: Some("quality".into()), evidence, ..filing() });
    assert_eq!(court.give(by(buyer()), filed), Err(Rejection::NotOffered { what: "evidence" }));
    court.must(by(buyer()), named("wrong_output"));
    assert_eq!(court.status(), Review, "straight to people");
    let mut plain = Court::delivered(voxpact(), Custody::Internal, AMOUNT);
    assert_eq!(plain.give(by(buyer()), quality()), Err(Rejection::NotOffered { what: "categories of disputes" }));
}

#[test]
fn vp_30_the_other_party_answers_once_and_then_it_is_judged() {
    let mut court = court();
    let (allowed, actor) = ("the party that did not open it", by(buyer()));
    let refused = Rejection::WrongActor { command: "answer_dispute", allowed, actor };
    assert_eq!(court.give(by(buyer()), answer()), Err(refused));
    court.must(by(worker()), answer());
    assert_eq!(court.status(), Arbitration);
    assert_eq!(court.documents["answer"], "\"all of it is there\"");
    let twice = Rejection::DoneBefore { what: "the dispute was answered" };
    assert_eq!(court.give(by(worker()), answer()), Err(twice));
}

#[test]
fn vp_30_silence_of_the_other_party_delays_nothing_for_ever() {
    let mut court = court();
    assert_eq!(court.dispute().deadline, Some(start() + Span::hours(24).delta()));
    court.let_time_pass();
    assert_eq!(court.events.last(), Some(&DisputeEvent::Unanswered {}));
    assert_eq!(court.status(), Arbitration);
    court.must(by(worker()), answer());
    assert_eq!(court.status(), Arbitration, "it may still be heard");
}

#[test]
fn vp_30_low_confidence_escalates() {
    for (confidence, status) in [("0.79", Review), ("0.80", Ruled)] {
        let mut court = court();
        court.judged(Award::Buyer, confidence);
        assert_eq!(court.status(), status, "{confidence}");
    }
    let mut court = court();
    court.judged(Award::Buyer, "0.5");
    let due = court.desk.now + Span::hours(48).delta();
    let cause = Escalation::LowConfidence { confidence: rate("0.5") };
    assert_eq!(court.events.last(), Some(&DisputeEvent::Escalated { cause, due }));
    assert!(court.documents["opinion"].contains("as the specification says"));
    assert_eq!(court.dispute().ruling, None);
}

#[test]
fn vp_30_whatever_the_arbiter_does_instead_of_judging_people_judge() {
    let reasoning = |text: &str| Judgement { award: Award::Buyer, confidence: rate("1"), reasoning: text.into() };
    let nonsense = [
        Answer::Judged(Judgement { award: split("0"), ..reasoning("nothing is a share") }),
        Answer::Judged(Judgement { award: split("1"), ..reasoning("all is a share") }),
        Answer::Judged(reasoning(&"x".repeat(10_001))),
        Answer::Judged(reasoning("hidden \u{0007}")),
        Answer::Declined,
        Answer::Broken,
    ];
    for nonsense in nonsense {
        let mut court = court();
        court.must(by(worker()), answer()).must(Actor::Timer, answered(nonsense.clone()));
        assert_eq!((court.status(), court.desk.status()), (Review, JobStatus::Disputed), "{nonsense:?}");
        assert!(matches!(court.events.last(), Some(DisputeEvent::Escalated { .. })));
    }
    let never_split = vp(|policy| policy.split = tradepost::policy::SplitRuling::Never);
    let mut court = Court::disputed(never_split, Custody::Internal, AMOUNT);
    court.judged(split("0.5"), "1");
    assert_eq!(court.status(), Review, "the policy has no splits");
}

#[test]
fn vp_30_a_marketplace_without_an_arbiter_goes_to_people() {
    let mut court = court();
    court.arbiter = false;
    court.must(by(worker()), answer());
    assert_eq!(court.status(), Review);
    assert!(matches!(court.events.last(), Some(DisputeEvent::Escalated { cause: Escalation::NoArbiter, .. })));
}

#[test]
fn vp_30_an_arbiter_that_is_unavailable_is_asked_again_until_its_time_is_over() {
    let mut court = court();
    court.must(by(worker()), answer());
    let until = court.dispute().deadline.unwrap();
    let mut waits = Vec::new();
    for _ in 0..8 {
        court.must(Actor::Timer, answered(Answer::Unavailable));
        let ask_at = court.dispute().ask_at.unwrap();
        waits.push((ask_at - court.desk.now).num_seconds());
        assert_eq!(court.dispute().due_at(), Some(ask_at.min(until)));
        if ask_at >= until {
            break;
        }
        court.desk.now = ask_at;
        assert_eq!(court.tick(), Err(Rejection::NothingDue { next: Some(until) }), "asking is no timer's business");
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900, 900]);
    court.let_time_pass();
    assert_eq!(court.status(), Review);
    assert!(matches!(court.events.last(), Some(DisputeEvent::Escalated { cause: Escalation::Silent, .. })));
    let late = court.give(Actor::Timer, judgement(Award::Worker, "1")).unwrap_err();
    assert!(matches!(late, Rejection::WrongDisputeStatus { command: "record_answer", status: Review, .. }));
}

#[test]
fn vp_30_an_answer_of_the_arbiter_after_its_time_is_no_answer() {
    let mut court = court();
    court.must(by(worker()), answer());
    let deadline = court.dispute().deadline.unwrap();
    court.desk.now = deadline;
    let refused = Rejection::TooLate { command: "record_answer", deadline, now: deadline };
    assert_eq!(court.give(Actor::Timer, judgement(Award::Worker, "1")), Err(refused));
}

#[test]
fn vp_31_nothing_moves_until_nobody_may_appeal_any_more() {
    let mut court = court();
    court.judged(Award::Worker, "0.9");
    let until = court.desk.now + Span::hours(7 * 24).delta();
    let (award, confidence) = (Award::Worker, rate("0.9"));
    assert_eq!(court.events.last(), Some(&DisputeEvent::Ruled { award, confidence, appeal_until: until }));
    assert_eq!((court.got(worker()), court.desk.status()), (0, JobStatus::Disputed));
    court.desk.wait_until(Desk::just_before(until));
    assert_eq!(court.tick(), Err(Rejection::NothingDue { next: Some(until) }));
    court.let_time_pass();
    assert_eq!((court.status(), court.desk.status()), (Resolved, JobStatus::Completed));
    assert_eq!(court.got(worker()), 9000, "10 % are the platform's (VP-21)");
}

#[test]
fn vp_31_either_party_appeals_within_the_window_and_nobody_after_it() {
    for actor in [by(buyer()), by(worker())] {
        let mut court = court();
        court.judged(split("0.3"), "1");
        let deadline = court.dispute().deadline.unwrap();
        let mut late = court.clone();
        late.desk.now = deadline;
        let refused = Rejection::TooLate { command: "appeal", deadline, now: deadline };
        assert_eq!(late.give(actor.clone(), appeal()), Err(refused), "however late the timer fires");
        court.desk.wait_until(Desk::just_before(deadline));
        court.must(actor, appeal());
        assert_eq!(court.status(), Review);
        assert_eq!(court.dispute().deadline, Some(court.desk.now + Span::hours(48).delta()), "VP-31: 48 h");
        assert_eq!(court.desk.status(), JobStatus::Disputed);
        court.must(operator(), ruling(Award::Buyer));
        assert_eq!((court.status(), court.desk.status()), (Resolved, JobStatus::Refunded));
        assert_eq!(court.dispute().ruling.as_ref().unwrap().number, 2);
        assert_eq!(court.dispute().ruling.as_ref().unwrap().by, RuledBy::Operator("Ada".into()));
    }
    let mut court = court();
    court.judged(Award::Buyer, "1");
    let refused = court.give(by(stranger()), appeal()).unwrap_err();
    assert!(matches!(refused, Rejection::WrongActor { command: "appeal", .. }));
}

#[test]
fn vp_31_people_have_a_deadline_and_missing_it_is_said_once() {
    let mut court = court();
    court.must(operator(), DisputeCommand::Escalate { reason: "the arbiter is being replaced".into() });
    assert_eq!(court.dispute().deadline, Some(start() + Span::hours(48).delta()));
    court.let_time_pass();
    assert_eq!(court.events.last(), Some(&DisputeEvent::Overdue {}));
    assert!(court.dispute().overdue);
    assert_eq!(court.dispute().due_at(), None);
    court.must(bob(), ruling(Award::Worker));
    assert_eq!(court.status(), Resolved, "late is better than never");
}

#[test]
fn vp_31_who_takes_a_dispute_up_rules_alone_until_it_is_overdue() {
    let mut court = court();
    court.must(operator(), DisputeCommand::Escalate { reason: String::new() });
    court.must(operator(), DisputeCommand::TakeUp);
    let taken = |command| Err(Rejection::TakenUp { command, handler: "Ada".into() });
    assert_eq!(court.give(bob(), DisputeCommand::TakeUp), taken("take_up"));
    assert_eq!(court.give(bob(), DisputeCommand::HandBack), taken("hand_back"));
    assert_eq!(court.give(bob(), ruling(Award::Buyer)), taken("rule"));
    let mut handed = court.clone();
    handed.must(operator(), DisputeCommand::HandBack).must(bob(), ruling(Award::Buyer));
    assert_eq!(handed.status(), Resolved);
    court.let_time_pass();
    court.must(bob(), DisputeCommand::TakeUp).must(bob(), ruling(Award::Buyer));
    assert_eq!(court.status(), Resolved);
}

#[test]
fn jp_14_a_buyer_who_disputes_too_much_may_not_until_the_rate_falls() {
    let reputation = |filed, completed| ClientReputation { completed, filed };
    let refused = |completed| Rejection::TooManyDisputes {
        command: "open_dispute",
        filed: 3,
        completed,
        limit: 3,
        rate: rate("0.40"),
    };
    let cases = [
        (reputation(2, 0), None),
        (reputation(3, 0), Some(refused(0))),
        (reputation(3, 4), Some(refused(4))), // 3 / 7 is 42.9 %
        (reputation(3, 5), None),             // 3 / 8 is 37.5 %
    ];
    for (client, expected) in cases {
        let mut court = Court::delivered(just_pay(), Custody::Internal, AMOUNT);
        court.client = client;
        assert_eq!(court.give(by(buyer()), quality()).err(), expected, "{client:?}");
        let mut court = Court::delivered(just_pay(), Custody::Internal, AMOUNT);
        court.desk.deposit_to(worker(), 1_000_000);
        court.client = client;
        assert!(court.give(by(worker()), quality()).is_ok(), "who works is no client");
    }
}

/// Every command, well formed, with an actor who may give it.
fn commands() -> Vec<(DisputeCommand, Actor)> {
    vec![
        (answer(), by(worker())),
        (DisputeCommand::AddEvidence { evidence: vec![item(EvidenceKind::Text, "more")] }, by(buyer())),
        (DisputeCommand::Offer { award: split("0.5") }, by(buyer())),
        (DisputeCommand::AcceptOffer { award: Award::Buyer }, by(worker())),
        (DisputeCommand::Withdraw, by(buyer())),
        (appeal(), by(worker())),
        (DisputeCommand::Escalate { reason: String::new() }, operator()),
        (DisputeCommand::TakeUp, operator()),
        (DisputeCommand::HandBack, operator()),
        (ruling(Award::Worker), operator()),
        (judgement(Award::Worker, "1"), Actor::Timer),
    ]
}

fn in_status(status: DisputeStatus) -> Court {
    let mut court = court();
    court.must(by(buyer()), DisputeCommand::Offer { award: Award::Buyer });
    match status {
        Answering => {}
        Arbitration => drop(court.must(by(worker()), answer())),
        Review => drop(court.must(operator(), DisputeCommand::Escalate { reason: String::new() })),
        Ruled => drop(court.judged(Award::Worker, "1")),
        Resolved => drop(court.judged(Award::Worker, "1").let_time_pass()),
        DisputeStatus::Settled => {
            court.must(by(worker()), DisputeCommand::AcceptOffer { award: Award::Buyer });
        }
        DisputeStatus::Withdrawn => drop(court.must(by(buyer()), DisputeCommand::Withdraw)),
        DisputeStatus::Lapsed => {
            court = Court::disputed(voxpact(), Custody::PerHold, AMOUNT);
            court.must_job(Actor::Rail(RAIL), tradepost::job::JobCommand::RecordHoldExpired);
        }
    }
    assert_eq!(court.status(), status);
    court
}

#[test]
fn vp_30_every_command_in_every_status_is_legal_or_refused_and_no_wrong_actor_gets_through() {
    use DisputeStatus::{Lapsed, Settled, Withdrawn};
    let all = [Answering, Arbitration, Review, Ruled, Resolved, Settled, Withdrawn, Lapsed];
    let actors = [by(buyer()), by(worker()), by(stranger()), owner(), operator(), Actor::Timer, Actor::Rail(RAIL)];
    let mut refused = 0;
    for status in all {
        let court = in_status(status);
        for (command, rightful) in commands() {
            let answer = court.clone().give(rightful.clone(), command.clone());
            let legal = command.legal_in().contains(&status);
            // An answer is given once, and the status of what is over is the job's to say.
            match answer {
                Ok(_) => assert!(legal, "{} in {status}", command.name()),
                Err(Rejection::WrongDisputeStatus { allowed, .. }) => {
                    assert!(!legal);
                    assert_eq!(allowed, command.legal_in());
                }
                Err(Rejection::DoneBefore { .. }) => {
                    assert_eq!((command.name(), status), ("answer_dispute", Arbitration))
                }
                Err(other) => panic!("{} in {status}: {other}", command.name()),
            }
            for actor in actors.iter().filter(|actor| **actor != rightful) {
                let both_may =
                    matches!(command.name(), "add_evidence" | "offer_settlement" | "accept_settlement" | "appeal");
                if both_may && (*actor == by(buyer()) || *actor == by(worker())) {
                    continue;
                }
                let answer = court.clone().give(actor.clone(), command.clone());
                let named = matches!(answer, Err(Rejection::WrongActor { .. } | Rejection::WrongDisputeStatus { .. }));
                assert!(named, "{} in {status} by {actor}: {answer:?}", command.name());
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 8 * (7 * 6 + 4 * 5));
}
