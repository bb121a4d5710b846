//! The systems' own lists of webhooks, held against the shipped tables: each event and each field of its
//! payload is told, or stands below with the reason why it is not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tradepost::policy::Policy;

/// An event that a system documents, and the fields of its payload; `task.id` is a field in a field.
type Documented = (&'static str, &'static [&'static str]);
/// An event or a field of one that a shipped table leaves out, and why.
type LeftOut = (&'static str, Option<&'static str>, &'static str);
/// An event that a shipped table tells although its system's list has none of that name, and why.
type Added = (&'static str, &'static str);

/// VP-38: seed 001, "Events & Payloads".
const VOXPACT: &[Documented] = &[
    ("webhook.ping", &[]),
    (
        "job.created",
        &["job_id", "worker_agent_id", "title", "task_spec", "amount", "deadline", "required_capabilities"],
    ),
    ("job.accepted", &["job_id", "worker_agent_id"]),
    ("job.delivered", &["job_id", "deliverable_id", "file_id", "filename", "file_size_bytes", "revision_number"]),
    ("job.file_uploaded", &["job_id", "file_id", "purpose", "filename", "content_type", "file_size_bytes"]),
    ("job.revision_requested", &["job_id", "feedback"]),
    ("job.completed", &["job_id", "payout_status", "message"]),
    ("job.cancelled", &["job_id", "reason", "refunded_to", "cancellation_fee"]),
    ("job.stale_cancelled", &[]),
    ("job.deadline_expired", &[]),
    ("job.expired", &[]),
    ("job.frozen", &["job_id", "reason"]),
    ("job.validation_passed", &["job_id", "confidence", "reasoning", "auto_approved"]),
    ("job.validation_failed", &["job_id", "confidence", "reasoning", "consensus"]),
    ("job.validation_unavailable", &["job_id", "reason"]),
    ("job.message", &["job_id", "message_id", "sender_agent_id", "content"]),
    ("bid.received", &[]),
    ("bid.accepted", &["job_id", "bid_id", "agreed_price", "deadline"]),
    ("job.disputed", &["job_id", "dispute_id"]),
    ("dispute.resolved", &["dispute_id", "job_id", "ruling"]),
    ("dispute.escalated", &["dispute_id", "job_id"]),
    ("payment.received", &["job_id", "amount", "platform_fee"]),
    ("payment.failed", &["job_id", "payment_intent_id", "error"]),
    ("payment.canceled", &["job_id", "payment_intent_id"]),
    ("trust.updated", &["agent_id", "new_score", "old_score", "reason"]),
];
const FILES: &str = "files are the host's: there is no command for them, so no event";
const VOXPACT_LEFT_OUT: &[LeftOut] = &[
    ("webhook.ping", None, "sent by the registration itself, to an address that has no subscription yet"),
    ("job.file_uploaded", None, FILES),
    ("job.message", None, "there is no command for messages, so no event"),
    ("job.delivered", Some("deliverable_id"), "a delivery has a number, `revision_number`, and no other id"),
    ("job.delivered", Some("file_id"), FILES),
    ("job.delivered", Some("filename"), FILES),
    ("job.delivered", Some("file_size_bytes"), FILES),
];

/// JP-34: seed 003, "Webhook Events"; of the payloads it publishes `clientReputation` only (JP-33).
const JUSTPAYAI: &[Documented] = &[
    ("job.created", &["clientReputation.trustScore", "clientReputation.disputeRate", "clientReputation.jobsCompleted"]),
    ("job.accepted", &[]),
    ("job.delivered", &[]),
    ("job.completed", &[]),
    ("job.cancelled", &[]),
    ("job.disputed", &[]),
    ("wallet.address_changed", &[]),
];

/// AM-10: seed 002, "Webhooks".
const AGENTMARKET: &[Documented] = &[(
    "task.posted",
    &[
        "task.id",
        "task.title",
        "task.description",
        "task.budget",
        "task.required_capabilities",
        "task.created_at",
        "marketplace_url",
    ],
)];

/// PG-13: the events that its clients know, at the end of its rules; their payloads are not published.
const PAEGENTS: &[Documented] = &[
    ("escrow.receipt_submitted", &[]),
    ("escrow.close_initiated", &[]),
    ("escrow.close_finalized", &[]),
    ("escrow.claim_completed", &[]),
    ("escrow.withdraw_completed", &[]),
    ("escrow.fee_collected", &[]),
    ("escrow.fee_failed", &[]),
    ("escrow.settlement_failed", &[]),
];
const PAEGENTS_LEFT_OUT: &[LeftOut] =
    &[("escrow.fee_failed", None, "the fee is one leg of the division, which fails as a whole: settlement_failed")];
const STATUSES: &str = "the system documents the status that it leads to";
const SURPLUS: &str = "what became of the money, which its parties would otherwise have to ask for";
const JOBS: &str = "jobs are hosted beside agreements";
const PAEGENTS_ADDED: &[Added] = &[
    ("agreement.proposed", STATUSES),
    ("agreement.accepted", STATUSES),
    ("agreement.rejected", STATUSES),
    ("agreement.cancelled", STATUSES),
    ("agreement.expired", STATUSES),
    ("agreement.activation_submitted", STATUSES),
    ("agreement.activation_failed", STATUSES),
    ("agreement.activated", STATUSES),
    ("agreement.usage_recorded", "a seller's use of the deposit"),
    ("agreement.completed", STATUSES),
    ("agreement.disputed", STATUSES),
    ("agreement.ruled", "what an operator made of a dispute"),
    ("escrow.lost", SURPLUS),
    ("escrow.returned", SURPLUS),
    ("job.created", JOBS),
    ("job.accepted", JOBS),
    ("job.delivered", JOBS),
    ("job.completed", JOBS),
    ("job.cancelled", JOBS),
    ("job.frozen", JOBS),
];

/// The places of a payload: `task.id`.
fn places(template: &Value, at: &str, into: &mut BTreeSet<String>) {
    into.insert(at.to_owned());
    if let Value::Object(fields) = template {
        fields.iter().for_each(|(name, value)| places(value, &format!("{at}.{name}"), into));
    }
}

/// Everything that is missing from a table, or is in it and should not be.
fn compare(policy: &Policy, documented: &[Documented], left_out: &[LeftOut], added: &[Added]) -> Vec<String> {
    let mut told: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let table = policy.webhooks.as_ref().unwrap();
    for rule in &table.events {
        let fields = told.entry(rule.name()).or_default();
        rule.payload.iter().for_each(|(name, value)| places(value, name, fields));
    }
    let is_left_out = |event: &str, field: Option<&str>| left_out.iter().any(|(e, f, _)| (*e, *f) == (event, field));
    let mut wrong = Vec::new();
    for (event, fields) in documented {
        match told.get(event) {
            None if is_left_out(event, None) => {}
            None => wrong.push(format!("{event} is told nobody")),
            Some(_) if is_left_out(event, None) => wrong.push(format!("{event} is told and said to be left out")),
            Some(told) => {
                for field in *fields {
                    match (told.contains(*field), is_left_out(event, Some(field))) {
                        (true, false) | (false, true) => {}
                        (false, false) => wrong.push(format!("{event} has no {field}")),
                        (true, true) => wrong.push(format!("{event} has {field}, which is said to be left out")),
                    }
                }
            }
        }
    }
    for event in told.keys() {
        let known = documented.iter().map(|(event, _)| event).chain(added.iter().map(|(event, _)| event));
        if !known.into_iter().any(|known| known == event) {
            wrong.push(format!("{event} is told and not documented"));
        }
    }
    wrong
}

#[test]
fn vp_38_voxpacts_catalogue_is_told() {
    assert_eq!(compare(&Policy::voxpact().unwrap(), VOXPACT, VOXPACT_LEFT_OUT, &[]), Vec::<String>::new());
}

#[test]
fn jp_34_justpayais_events_are_told() {
    assert_eq!(compare(&Policy::justpayai().unwrap(), JUSTPAYAI, &[], &[]), Vec::<String>::new());
}

#[test]
fn am_10_agentmarkets_event_is_told() {
    assert_eq!(compare(&Policy::agentmarket().unwrap(), AGENTMARKET, &[], &[]), Vec::<String>::new());
}

#[test]
fn pg_13_paegents_events_are_told() {
    let compared = compare(&Policy::paegents().unwrap(), PAEGENTS, PAEGENTS_LEFT_OUT, PAEGENTS_ADDED);
    assert_eq!(compared, Vec::<String>::new());
}

/// Leaving an event or a field out of a table is seen.
#[test]
fn what_is_missing_is_named() {
    let mut policy = Policy::voxpact().unwrap();
    let rules = &mut policy.webhooks.as_mut().unwrap().events;
    rules.retain(|rule| rule.name() != "trust.updated");
    rules.iter_mut().find(|rule| rule.name() == "job.frozen").unwrap().payload.remove("reason");
    let compared = compare(&policy, VOXPACT, VOXPACT_LEFT_OUT, &[]);
    assert_eq!(compared, ["job.frozen has no reason", "trust.updated is told nobody"]);
}
