//! Policies: the four files, what is refused and how it is said, and that nothing makes reading panic.

use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tradepost::{
    actor::Actor,
    clock::Timestamp,
    ids::{AgentId, JobId},
    job::{Candidate, Context, Job, JobCommand, JobEvent, Purse, decide},
    money::Money,
    policy::{
        Activation, Award, Bearer, DeadlineFrom, EscrowAt, FeeRate, Policy, PolicyError, PolicyVersion,
        RegistrationWebhook, Review, Scoring, SignatureStyle, Span, SplitRuling, Switch,
    },
    rail::{CreditsRail, SettlementRail},
};
use uuid::Uuid;

/// The four files by name.
fn systems() -> [(&'static str, &'static str, Policy); 4] {
    [
        ("voxpact", Policy::VOXPACT, Policy::voxpact().unwrap()),
        ("agentmarket", Policy::AGENTMARKET, Policy::agentmarket().unwrap()),
        ("justpayai", Policy::JUSTPAYAI, Policy::justpayai().unwrap()),
        ("paegents", Policy::PAEGENTS, Policy::paegents().unwrap()),
    ]
}

fn system(name: &str) -> Policy {
    systems().into_iter().find(|(other, ..)| *other == name).unwrap().2
}

fn json_of(policy: &Policy) -> Value {
    serde_json::to_value(policy).unwrap()
}

/// The place that a path such as `trust.tiers[1].from` names, made where it is missing.
fn place<'a>(policy: &'a mut Value, path: &str) -> &'a mut Value {
    path.replace('[', ".").replace(']', "").split('.').fold(policy, |value, part| match part.parse::<usize>() {
        Ok(index) => &mut value[index],
        Err(_) => &mut value[part],
    })
}

/// A system's policy with some values replaced; null removes a field.
fn changed(name: &str, changes: &[(&str, Value)]) -> Result<Policy, PolicyError> {
    let mut policy = json_of(&system(name));
    for (path, value) in changes {
        match path.rsplit_once('.') {
            _ if !value.is_null() => *place(&mut policy, path) = value.clone(),
            Some((parent, field)) => drop(place(&mut policy, parent).as_object_mut().unwrap().remove(field)),
            None => drop(policy.as_object_mut().unwrap().remove(*path)),
        }
    }
    Policy::from_json(&policy.to_string())
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

// The four files.

#[test]
fn every_file_reads_the_same_from_toml_and_from_json() {
    for (name, text, policy) in systems() {
        let stored = serde_json::to_string(&policy).unwrap();
        let again = Policy::from_json(&stored).unwrap();
        assert_eq!(again, policy, "{name} through JSON");
        assert_eq!(serde_json::to_string(&again).unwrap(), stored, "{name} as stored");
        let toml = toml::to_string(&policy).unwrap();
        assert_eq!(Policy::from_toml(&toml).unwrap(), policy, "{name} through TOML");
        assert_eq!(Policy::from_toml(text).unwrap(), policy, "{name}'s file");
    }
}

#[test]
fn voxpact_says_vp_01_02_08_12_13_18_20_to_24_26_30_31_37_42() {
    let policy = system("voxpact");
    assert!(matches!(policy.agents.webhook, RegistrationWebhook::Pinged { within } if within == Span::seconds(5)));
    assert_eq!(policy.agents.activation, Activation::Fee { first: 0, further: 500 });
    assert_eq!(policy.spending.unwrap().default_limit, None);
    assert_eq!((policy.jobs.amount.min, policy.jobs.escrow), (500, EscrowAt::Posting));
    assert_eq!(policy.jobs.deadline.allowed.max, Span::hours(720));
    assert_eq!(policy.jobs.review, Review::Buyer { release_after: Span::hours(48) });
    assert_eq!((policy.jobs.revisions.max, policy.jobs.revisions.feedback.max), (2, 5000));
    let shares = |status: &str| {
        let terms = policy.jobs.cancellation.iter().find(|(key, _)| key.as_str() == status).unwrap().1;
        (terms.to_worker.share(), terms.to_platform.share())
    };
    assert_eq!(shares("funded"), (Decimal::ZERO, Decimal::ZERO));
    assert_eq!(shares("accepted"), (Decimal::ZERO, decimal("0.05")));
    assert_eq!(shares("in_progress"), (decimal("0.25"), Decimal::ZERO));
    let FeeRate::ByTier(rates) = &policy.fees.rate else { panic!("{:?}", policy.fees) };
    let rates: Vec<_> = rates.iter().map(|(tier, rate)| (tier.as_str(), rate.share())).collect();
    let expected = [("bronze", "0.12"), ("gold", "0.08"), ("platinum", "0.06"), ("silver", "0.10")];
    assert_eq!(rates, expected.map(|(tier, rate)| (tier, decimal(rate))));
    let Award::Bids(bids) = policy.open_jobs.unwrap().award else { panic!("bids") };
    assert_eq!((bids.window.default, bids.window.allowed.max), (Span::hours(48), Span::hours(168)));
    assert_eq!((bids.active_max, bids.price_min, bids.message.max), (100, 500, 2000));
    assert_eq!((bids.interval, bids.counter_offers.unwrap().message.max), (Span::seconds(300), 500));
    let validation = policy.validation.unwrap();
    assert_eq!((validation.validators, validation.threshold.share()), (2, decimal("0.8")));
    let disputes = policy.disputes.unwrap();
    assert_eq!(disputes.automated.unwrap().appeal_within, Span::hours(7 * 24));
    assert_eq!((disputes.human.within, disputes.split), (Span::hours(48), SplitRuling::Any));
    let webhooks = policy.webhooks.unwrap();
    assert_eq!(webhooks.retries, [Span::seconds(300), Span::seconds(1800), Span::hours(2)]);
}

#[test]
fn agentmarket_says_am_01_06_07_10() {
    let policy = system("agentmarket");
    assert_eq!((policy.agents.grant, policy.agents.activation), (100, Activation::Free));
    assert_eq!((policy.jobs.escrow, policy.jobs.review), (EscrowAt::Acceptance, Review::Nobody));
    assert_eq!(policy.open_jobs.unwrap().award, Award::FirstCome);
    let FeeRate::Flat(rate) = policy.fees.rate else { panic!("{:?}", policy.fees) };
    assert_eq!((policy.fees.bearer, rate.share()), (Bearer::Worker, decimal("0.1")));
    assert!(matches!(policy.trust.scoring, Scoring::Mean(_)));
    let header = "X-AgentMarket-Signature".to_owned();
    assert_eq!(policy.webhooks.unwrap().signature, SignatureStyle::PrefixedHex { header });
}

#[test]
fn justpayai_says_jp_02_10_to_14_25_26_29_32_34() {
    let policy = system("justpayai");
    assert_eq!(policy.agents.activation, Activation::Deposit { min: 1_000_000, fee: 1_000_000 });
    let FeeRate::Flat(rate) = policy.fees.rate else { panic!("{:?}", policy.fees) };
    assert_eq!((policy.fees.bearer, rate.share()), (Bearer::Buyer, decimal("0.03")));
    assert_eq!(policy.jobs.review, Review::Buyer { release_after: Span::seconds(300) });
    let Award::Applications(applications) = policy.open_jobs.unwrap().award else { panic!("applications") };
    assert_eq!(applications.window.allowed.min, Span::seconds(60));
    assert_eq!(applications.window.allowed.max, Span::seconds(604_800));
    let disputes = policy.disputes.unwrap();
    let fee = disputes.fee.unwrap();
    assert_eq!((fee.rate.share(), fee.limits.min, fee.limits.max), (decimal("0.05"), 100_000, 5_000_000));
    let abuse = disputes.abuse.unwrap();
    assert_eq!((abuse.filed, abuse.rate.share(), abuse.forbids.len()), (3, decimal("0.4"), 2));
    let withdrawals = policy.wallet.unwrap().withdrawals.unwrap();
    assert_eq!((withdrawals.min, withdrawals.fee, withdrawals.panic), (5_000_000, 100_000, Switch::On));
    assert_eq!(withdrawals.address_cool_down, Span::hours(24));
    let reports = policy.reports.unwrap();
    let badges: Vec<_> = reports.badges.iter().map(|badge| (badge.name.as_str(), badge.from)).collect();
    assert_eq!(badges, [("low", 1), ("medium", 3), ("high", 5)]);
    let Scoring::Weighted(model) = policy.trust.scoring else { panic!("weighted") };
    assert_eq!((model.verification.share(), model.reports.none_from), (decimal("0.1"), 5));
    assert_eq!(policy.webhooks.unwrap().retries, [1, 4, 16, 64, 256].map(Span::seconds));
}

#[test]
fn paegents_says_pg_02_09_13_16() {
    let policy = system("paegents");
    let agreements = policy.agreements.unwrap();
    assert_eq!((agreements.challenge_window.default, agreements.unit_price_step), (Span::hours(24), 10_000));
    assert!(matches!(policy.webhooks.unwrap().signature, SignatureStyle::Timestamped { .. }));
    assert!(policy.approvals.is_some() && policy.wallet.is_none() && policy.disputes.is_none());
}

#[test]
fn vp_02_the_older_voxpact_is_reachable_by_values_alone() {
    let fee = json!({ "fee": { "first": 50, "further": 50 } });
    let older = changed("voxpact", &[("agents.activation", fee)]).unwrap();
    assert_eq!(older.agents.activation, Activation::Fee { first: 50, further: 50 });
    assert_eq!(Policy { agents: system("voxpact").agents, ..older }, system("voxpact"));
}

#[test]
fn vp_42_a_score_has_the_tier_that_begins_at_or_below_it() {
    let policy = system("voxpact");
    let tiers = [
        ("-1", "bronze"),
        ("0", "bronze"),
        ("39.99", "bronze"),
        ("40", "silver"),
        ("69.99", "silver"),
        ("70", "gold"),
        ("89.99", "gold"),
        ("90", "platinum"),
        ("100", "platinum"),
        ("101", "platinum"),
    ];
    for (score, tier) in tiers {
        assert_eq!(policy.trust.tier_of(decimal(score)), tier, "{score}");
    }
    assert_eq!(policy.initial_tier(), "silver", "VP-02: a new agent has 50");
}

#[test]
fn beta_reputation_with_forgetting_and_standard_webhooks_are_values_too() {
    let beta = json!({ "beta": {
        "prior_good": "1", "prior_bad": "1", "retained": "0.9", "period": "30days",
        "evidence": { "job_completed": "1", "dispute_lost": "-3" }, "ratings": { "bad": 2, "good": 4 },
    } });
    let policy = changed("voxpact", &[("trust.scoring", beta)]).unwrap();
    assert!(matches!(policy.trust.scoring, Scoring::Beta(_)));
    let signature = json!({ "standard_webhooks": { "tolerance": "5m" } });
    assert!(changed("voxpact", &[("webhooks.signature", signature)]).is_ok());
}

#[test]
fn a_marketplace_may_have_nothing_but_what_every_marketplace_has() {
    let optional = ["approvals", "agreements", "webhooks"];
    let bare = changed("paegents", &optional.map(|section| (section, Value::Null))).unwrap();
    assert_eq!(json_of(&bare).as_object().unwrap().len(), 6);
    assert_eq!(bare.jobs.deadline.from, DeadlineFrom::Acceptance);
}

// What cannot be read.

/// Every object in a policy, by path.
fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => {
            found.push(path.to_owned());
            fields.iter().for_each(|(key, value)| objects(value, &below(key), found));
        }
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(i, value)| objects(value, &format!("{path}[{i}]"), found));
        }
        _ => {}
    }
}

#[test]
fn a_backstop_is_an_amount() {
    for (backstop, holds) in [(json!(0), true), (json!(5_000), true), (json!(-1), false), (json!("5000"), false)] {
        let borne_by = json!({ "worker": { "backstop": backstop } });
        assert_eq!(changed("voxpact", &[("reversals.borne_by", borne_by)]).is_ok(), holds, "{backstop}");
    }
    assert!(changed("voxpact", &[("reversals.borne_by", json!("platform"))]).is_ok());
    assert!(changed("voxpact", &[("reversals.borne_by", json!("nobody"))]).is_err());
}

#[test]
fn an_unknown_field_is_refused_at_every_level_and_named() {
    // Where a choice is written as one key, a second key is refused at the choice itself.
    let one_key = ["review", "activation", "rate", "award", "scoring", "signature", "split", "webhook", "borne_by"];
    let mut tried = 0;
    for (name, _, policy) in systems() {
        let original = json_of(&policy);
        let mut paths = Vec::new();
        objects(&original, "", &mut paths);
        // A payload is a template: its fields are the platform's own.
        for path in paths.into_iter().filter(|path| !path.contains(".payload")) {
            let mut spoilt = original.clone();
            let object = if path.is_empty() { &mut spoilt } else { place(&mut spoilt, &path) };
            object["surprise"] = json!("1");
            let choice = one_key.contains(&path.rsplit('.').next().unwrap()) && path != "campaigns.review";
            let expected = match (path.as_str(), choice) {
                ("", _) => "surprise".to_owned(),
                (_, true) => path.clone(),
                (_, false) => format!("{path}.surprise"),
            };
            let toml = toml::to_string(&spoilt).unwrap();
            for result in [Policy::from_json(&spoilt.to_string()), Policy::from_toml(&toml)] {
                let (Err(PolicyError::Field { path: found, .. }) | Err(PolicyError::Invalid { path: found, .. })) =
                    &result
                else {
                    panic!("{name}: {path}: {result:?}")
                };
                // A choice's path may go on with the key that was read first, and TOML's reader names an
                // unknown field of a choice in its message instead.
                let told = result.as_ref().unwrap_err().to_string().contains("surprise");
                let fits =
                    if choice { found.starts_with(&expected) } else { *found == expected || (*found == path && told) };
                assert!(fits, "{name}: expected {expected}, found {result:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn a_missing_field_is_named_together_with_what_lacks_it() {
    for (path, missing) in [("jobs.deadline.default", "default"), ("fees.bearer", "bearer"), ("trust", "trust")] {
        let error = changed("voxpact", &[(path, Value::Null)]).unwrap_err();
        let lacking = path.rsplit_once('.').map_or(".", |(parent, _)| parent);
        let PolicyError::Field { path: found, message } = &error else { panic!("{error:?}") };
        assert_eq!(found, lacking, "{error}");
        assert!(message.contains(&format!("missing field `{missing}`")), "{error}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_what_is_expected() {
    let cases = [
        ("jobs.deadline.default", json!("soon"), "\"soon\" is not a length of time"),
        ("jobs.deadline.default", json!("200years"), "up to 100 years"),
        ("jobs.deadline.default", json!("1500ms"), "whole seconds"),
        ("fees.rate.by_tier.gold", json!(0.08), "invalid type: floating point `0.08`"),
        ("fees.rate.by_tier.gold", json!("1.01"), "rate 1.01: allowed are 0 to 1"),
        ("fees.rate.by_tier.gold", json!("8 %"), "\"8 %\" is not"),
        ("jobs.cancellation.in_progress.to_worker", json!(0.25), "invalid type: floating point `0.25`"),
        ("trust.scoring.steps.steps.bad_rating", json!(-2), "invalid type: integer `-2`"),
        ("fees.bearer", json!("seller"), "unknown variant `seller`, expected `buyer` or `worker`"),
        ("trust.initial", json!(50.5), "invalid type: floating point `50.5`"),
        ("trust.initial", json!("many"), "\"many\" is not a score"),
        ("trust.tiers[1].from", json!("0.0000000001"), "at most 9 decimals"),
        ("currency", json!({ "code": "eur", "exponent": 2 }), "currency \"eur\""),
        ("jobs.amount.min", json!(-1.5), "invalid type: floating point `-1.5`, expected i64"),
        ("open_jobs.award.bids.active_max", json!(-1), "invalid value: integer `-1`, expected u32"),
        ("reviews.rating.max", json!(300), "invalid value: integer `300`, expected u8"),
        ("webhooks.signature", json!("md5"), "unknown variant `md5`"),
        ("webhooks.retries[1]", json!(5), "invalid type: integer `5`"),
    ];
    for (path, value, message) in cases {
        let error = changed("voxpact", &[(path, value)]).unwrap_err();
        let PolicyError::Field { path: found, message: said } = &error else { panic!("{path}: {error:?}") };
        assert_eq!(found, path, "{error}");
        assert!(said.contains(message), "{path}: {said:?} lacks {message:?}");
    }
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let text = json_of(&system("voxpact")).to_string();
    for (once, path) in [("\"bronze\":\"0.12\"", "fees.rate.by_tier"), ("\"decimals\":2", "trust")] {
        let twice = text.replace(once, &format!("{once},{once}"));
        let error = Policy::from_json(&twice).unwrap_err();
        let PolicyError::Field { path: found, .. } = &error else { panic!("{error:?}") };
        assert!(found.starts_with(path), "{error}");
    }
}

#[test]
fn a_text_that_is_no_document_is_refused_with_its_place() {
    for result in [
        Policy::from_toml("name = "),
        Policy::from_toml("name = \"a\"\nname = \"b\""),
        Policy::from_json("{\"name\":"),
        Policy::from_json(&format!("{}x", json_of(&system("voxpact")))),
        Policy::from_json(&"[".repeat(100_000)),
        Policy::from_toml(&format!("name = {}", "[".repeat(100_000))),
        Policy::from_json(&" ".repeat((1 << 20) + 1)),
    ] {
        assert!(
            matches!(&result, Err(PolicyError::Syntax { message }) if !message.is_empty())
                || matches!(&result, Err(PolicyError::Field { path, .. }) if path == "."),
            "{result:?}"
        );
    }
}

// What can be read and is not allowed.

/// A contradiction: the system, the change, and what the error must say.
struct Bad {
    system: &'static str,
    changes: Vec<(&'static str, Value)>,
    path: &'static str,
    value: &'static str,
    allowed: &'static str,
}

/// One value that is bad where it stands.
fn at(system: &'static str, path: &'static str, value: Value, shown: &'static str, allowed: &'static str) -> Bad {
    Bad { system, changes: vec![(path, value)], path, value: shown, allowed }
}

/// One change that makes something else wrong.
fn by(
    system: &'static str,
    changes: &[(&'static str, Value)],
    path: &'static str,
    value: &'static str,
    allowed: &'static str,
) -> Bad {
    Bad { system, changes: changes.to_vec(), path, value, allowed }
}

const VP: &str = "voxpact";
const AM: &str = "agentmarket";
const JP: &str = "justpayai";
const PG: &str = "paegents";

fn bad_agents() -> Vec<Bad> {
    vec![
        at(VP, "name", json!(""), "\"\"", "1 to 100 characters"),
        at(VP, "agents.name.min", json!(0), "0", "1 to 1000"),
        at(VP, "agents.name.min", json!(300), "300", "at most max, 255"),
        at(VP, "agents.description.max", json!(20_000_000), "20000000", "0 to 10000000"),
        at(VP, "agents.capabilities", json!(1_000_001), "1000001", "0 to 1000000"),
        at(VP, "agents.webhook.pinged.within", json!("0s"), "0s", "1s to 1m"),
        at(VP, "agents.confirmation.token_lives", json!("0s"), "0s", "1s to"),
        at(VP, "agents.owner_email", json!("optional"), "optional", "required: the confirmation"),
        by(
            VP,
            &[("agents.owner_email", json!("optional")), ("agents.confirmation", Value::Null)],
            "agents.owner_email",
            "optional",
            "required: keys are recovered",
        ),
        at(VP, "agents.activation.fee.further", json!(0), "0", "1 to"),
        at(VP, "agents.activation.fee.first", json!(-1), "-1", "0 to"),
        at(JP, "agents.activation.deposit.fee", json!(1_000_001), "1000001", "0 to 1000000"),
        at(JP, "agents.activation.deposit.min", json!(0), "0", "1 to"),
        at(JP, "agents.password.min", json!(7), "7", "8 to 1024"),
        at(VP, "agents.grant", json!(100), "100", "0 without a section wallet"),
        at(AM, "agents.grant", json!(-100), "-100", "0 to"),
        at(VP, "agents.keys.max", json!(0), "0", "1 to 1000000"),
        at(VP, "agents.keys.prefix", json!("vxp live"), "\"vxp live\"", "16 of A-Z"),
        at(VP, "agents.keys.shown", json!(40), "40", "0 to 8"),
        at(VP, "agents.keys.recovery.token_lives", json!("0s"), "0s", "1s to"),
        by(VP, &[("webhooks", Value::Null)], "agents.webhook", "pinged", "section webhooks"),
        by(
            JP,
            &[("wallet.deposits", json!("off")), ("wallet.withdrawals.panic", json!("off"))],
            "agents.activation",
            "deposit",
            "section wallet whose deposits are on",
        ),
    ]
}

fn bad_jobs() -> Vec<Bad> {
    let half = json!({ "to_worker": "0.6", "to_platform": "0.5" });
    vec![
        at(VP, "jobs.title.min", json!(501), "501", "at most max, 500"),
        at(VP, "jobs.task_bytes", json!(0), "0", "1 to 10000000"),
        at(VP, "jobs.amount.min", json!(0), "0", "1 to 4611686018427387903"),
        at(VP, "jobs.amount.max", json!(i64::MAX), "9223372036854775807", "1 to 4611686018427387903"),
        at(VP, "jobs.fund_within", json!("0s"), "0s", "1s to"),
        at(AM, "jobs.acceptance", json!("automatic"), "automatic", "worker when escrow is at acceptance"),
        at(VP, "jobs.deadline.from", json!("acceptance"), "acceptance", "posting, where the money is reserved"),
        at(VP, "jobs.deadline.default", json!("1000h"), "41days 16h", "1h to 30days"),
        at(VP, "jobs.deadline.allowed.min", json!("0s"), "0s", "1s to"),
        at(VP, "jobs.deadline.allowed.min", json!("31days"), "31days", "at most max, 30days"),
        at(VP, "jobs.stale_after", json!("0s"), "0s", "1s to"),
        at(VP, "jobs.review.buyer.release_after", json!("0s"), "0s", "1s to"),
        at(VP, "jobs.revisions.feedback.min", json!(6000), "6000", "at most max, 5000"),
        at(VP, "jobs.revisions.time", json!("0s"), "0s", "1s to"),
        at(AM, "jobs.revisions.max", json!(1), "1", "0 when nobody reviews"),
        at(VP, "jobs.cancellation.in_progress", half, "0.6 to the worker and 0.5 to the platform", "sum of at most 1"),
        by(
            VP,
            &[("jobs.cancellation.delivered", json!({ "to_worker": "0", "to_platform": "0" }))],
            "jobs.cancellation.delivered",
            "delivered",
            "pending_payment, funded, accepted, in_progress",
        ),
        at(VP, "jobs.cancellation.funded.to_worker", json!("0.1"), "0.1", "no worker has accepted"),
        at(VP, "jobs.cancellation.pending_payment.to_platform", json!("0.1"), "0.1", "nothing has been paid"),
        at(VP, "jobs.worker_may_withdraw[1]", json!("delivered"), "delivered", "funded, accepted, in_progress"),
        at(VP, "jobs.worker_may_withdraw[1]", json!("funded"), "Funded", "each value once"),
        at(VP, "jobs.hold_expiry.margin", json!("0s"), "0s", "1s to 3days"),
        at(VP, "jobs.hold_expiry.margin", json!("4days"), "4days", "1s to 3days"),
        by(VP, &[("fees.bearer", json!("buyer"))], "fees.rate", "by_tier", "flat when the buyer bears"),
        by(VP, &[("fees.rate.by_tier.gold", Value::Null)], "fees.rate.by_tier.gold", "nothing", "bronze, silver, gold"),
        at(VP, "fees.rate.by_tier.diamond", json!("0.01"), "0.01", "the tiers bronze, silver, gold, platinum"),
        at(VP, "fees.rate.by_tier.gold", json!("1"), "1", "less than 1"),
        at(AM, "fees.rate.flat", json!("1"), "1", "less than 1"),
        at(VP, "validation.validators", json!(0), "0", "1 to 100"),
        at(VP, "validation.threshold", json!("0"), "0", "above 0"),
        at(VP, "validation.within", json!("49h"), "2days 1h", "1s to 2days"),
        by(
            AM,
            &[("validation", json_of(&system(VP))["validation"].clone())],
            "validation",
            "present",
            "nobody reviews",
        ),
    ]
}

fn bad_open_jobs() -> Vec<Bad> {
    vec![
        at(VP, "open_jobs.award.bids.price_min", json!(499), "499", "500 to 10000000"),
        at(VP, "open_jobs.award.bids.active_max", json!(0), "0", "1 to"),
        at(VP, "open_jobs.award.bids.window.default", json!("169h"), "7days 1h", "1h to 7days"),
        at(VP, "open_jobs.award.bids.window.default", json!("72h"), "3days", "less than jobs.deadline.default, 3days"),
        at(VP, "open_jobs.award.bids.window.allowed.min", json!("0s"), "0s", "1s to"),
        at(VP, "open_jobs.award.bids.interval", json!("8days"), "8days", "0s to 7days"),
        at(VP, "open_jobs.award.bids.message.min", json!(2001), "2001", "at most max, 2000"),
        at(VP, "open_jobs.award.bids.counter_offers.max", json!(0), "0", "1 to"),
        at(JP, "open_jobs.award.applications.active_max", json!(0), "0", "1 to"),
        at(JP, "open_jobs.award.applications.window.default", json!("59s"), "59s", "1m to 7days"),
        at(JP, "open_jobs.description.min", json!(2001), "2001", "at most max, 2000"),
        at(AM, "jobs.deadline.from", json!("posting"), "posting", "acceptance when whoever accepts first"),
    ]
}

fn bad_disputes() -> Vec<Bad> {
    vec![
        at(VP, "disputes.statuses", json!([]), "[]", "at least one status"),
        at(VP, "disputes.statuses[0]", json!("completed"), "completed", "accepted, in_progress, validating, delivered"),
        at(JP, "disputes.statuses[0]", json!("validating"), "validating", "review and validation"),
        at(JP, "disputes.categories[1]", json!("quality"), "\"quality\"", "each value once"),
        at(JP, "disputes.categories[1]", json!("Not good"), "\"Not good\"", "a-z, 0-9, _ and -"),
        at(VP, "disputes.reason.min", json!(5001), "5001", "at most max, 5000"),
        at(VP, "disputes.evidence.items", json!(0), "0", "1 to"),
        at(VP, "disputes.evidence.kinds", json!([]), "0", "1 to 3"),
        at(JP, "disputes.fee.limits.min", json!(5_000_001), "5000001", "at most max, 5000000"),
        by(
            VP,
            &[("disputes.fee", json_of(&system(JP))["disputes"]["fee"].clone())],
            "disputes.fee",
            "present",
            "section wallet",
        ),
        at(VP, "disputes.automated.within", json!("0s"), "0s", "1s to"),
        at(VP, "disputes.automated.appeal_within", json!("0s"), "0s", "1s to"),
        at(VP, "disputes.human.within", json!("0s"), "0s", "1s to"),
        at(JP, "disputes.split.fixed.to_worker", json!("1"), "1", "between 0 and 1"),
        at(JP, "disputes.abuse.filed", json!(0), "0", "1 to"),
        at(JP, "disputes.abuse.rate", json!("0"), "0", "above 0"),
        at(JP, "disputes.abuse.forbids", json!([]), "0", "1 to 2"),
    ]
}

fn bad_trust() -> Vec<Bad> {
    vec![
        at(VP, "trust.scale.min", json!("101"), "101", "at most max, 100"),
        by(JP, &[("trust.scale.max", json!("0"))], "trust.scale.max", "0", "more than min, 0"),
        at(VP, "trust.decimals", json!(10), "10", "0 to 9"),
        at(VP, "trust.initial", json!("101"), "101", "0 to 100"),
        at(VP, "trust.initial", json!("50.123"), "50.123", "2 decimals"),
        at(JP, "trust.initial", json!("0.5"), "0.5", "0.65"),
        at(VP, "trust.tiers", json!([]), "0", "1 to 100"),
        at(VP, "trust.tiers[0].from", json!("1"), "1", "the scale's min, 0"),
        at(VP, "trust.tiers[2].from", json!("40"), "40", "more than the tier before, 40"),
        at(VP, "trust.tiers[3].from", json!("101"), "101", "at most 100"),
        at(VP, "trust.tiers[1].name", json!("bronze"), "bronze", "each name once"),
        at(VP, "trust.tiers[1].name", json!("Silver!"), "\"Silver!\"", "a-z"),
        at(VP, "trust.tiers[0].job_amount_max", json!(499), "499", "500 to 10000000"),
        at(VP, "trust.tiers[2].job_amount_max", json!(99_999), "99999", "100000 to 10000000"),
        at(VP, "trust.tiers[0].active_jobs_max", json!(0), "0", "at least 1"),
        at(VP, "trust.tiers[2].active_jobs_max", json!(9), "9", "the tier before"),
        at(VP, "trust.scoring.steps.steps", json!({}), "{}", "at least one event"),
        at(VP, "trust.scoring.steps.steps.dispute_lost", json!("5"), "5", "0 or less"),
        at(VP, "trust.scoring.steps.steps.job_completed", json!("-1"), "-1", "0 or more"),
        at(VP, "trust.scoring.steps.ratings.bad", json!(4), "4", "less than good, 4"),
        at(VP, "trust.scoring.steps.ratings.good", json!(6), "6", "1 to 5"),
        by(VP, &[("reviews", Value::Null)], "trust.scoring.steps.steps.good_rating", "0.5", "section reviews"),
        by(
            JP,
            &[("trust.scoring.weighted.verification", json!("0.2"))],
            "trust.scoring.weighted",
            "a sum of weights of 1.1",
            "a sum of 1",
        ),
        by(JP, &[("reviews", Value::Null)], "trust.scoring.weighted.mean_rating.weight", "0.25", "section reviews"),
        by(JP, &[("reports", Value::Null)], "trust.scoring.weighted.reports.weight", "0.1", "section reports"),
        at(JP, "trust.scoring.weighted.client_behaviour.none_from", json!("0"), "0", "above 0"),
        at(JP, "trust.scoring.weighted.reports.none_from", json!(0), "0", "1 to"),
        by(AM, &[("reviews", Value::Null)], "trust.scoring", "mean", "section reviews"),
        by(AM, &[("trust.scale.max", json!("4"))], "trust.scoring", "mean", "ratings 1 to 5"),
        at(VP, "reviews.rating.max", json!(0), "0", "at most max").with("reviews.rating.min", "1"),
        at(VP, "reviews.rating.min", json!(5), "5", "more than min, 5").with("reviews.rating.max", "5"),
        at(JP, "reviews.tag.min", json!(0), "0", "1 to 1000"),
    ]
}

fn bad_beta() -> Vec<Bad> {
    let beta = |field: &str, value: Value| {
        let mut model = json!({
            "prior_good": "1", "prior_bad": "1", "retained": "0.9", "period": "30days",
            "evidence": { "job_completed": "1" }, "ratings": { "bad": 2, "good": 4 },
        });
        model[field] = value;
        [("trust.scoring", json!({ "beta": model }))]
    };
    vec![
        by(VP, &beta("prior_good", json!("0")), "trust.scoring.beta.prior_good", "0", "more than 0"),
        by(VP, &beta("prior_bad", json!("3")), "trust.initial", "50", "25,"),
        by(VP, &beta("retained", json!("0")), "trust.scoring.beta.retained", "0", "above 0"),
        by(VP, &beta("period", json!("0s")), "trust.scoring.beta.period", "0s", "1s to"),
    ]
}

fn bad_money() -> Vec<Bad> {
    vec![
        at(JP, "wallet.withdrawals.min", json!(0), "0", "1 to"),
        at(JP, "wallet.withdrawals.fee", json!(5_000_000), "5000000", "0 to 4999999"),
        by(JP, &[("wallet.deposits", json!("off"))], "wallet.withdrawals.panic", "on", "off without deposits"),
        at(VP, "spending.default_limit", json!(-1), "-1", "0 to"),
        by(
            JP,
            &[("wallet", Value::Null), ("agents.activation", json!("free"))],
            "campaigns",
            "present",
            "section wallet",
        ),
        at(JP, "campaigns.reward.min", json!(0), "0", "1 to"),
        by(
            JP,
            &[("campaigns.reward.min", json!(10_000)), ("campaigns.budget.max", json!(5000))],
            "campaigns.reward.min",
            "10000",
            "1 to 5000",
        ),
        at(JP, "campaigns.trust_min.default", json!("1.5"), "1.5", "0 to 1"),
        at(JP, "campaigns.per_agent.default", json!(0), "0", "1 to"),
        at(JP, "campaigns.duration.default", json!("366days"), "366days", "1day to"),
        at(PG, "agreements.quantity.min", json!(0), "0", "1 to"),
        at(PG, "agreements.unit_price.min", json!(10_001), "10001", "multiples of unit_price_step, 10000"),
        by(
            PG,
            &[("agreements.total.min", json!(1)), ("agreements.total.max", json!(9999))],
            "agreements.total.max",
            "9999",
            "smallest agreement, 10000",
        ),
        at(PG, "agreements.proposal.default", json!("59m"), "59m", "1h to 30days"),
        at(PG, "agreements.challenge_window.default", json!("1h"), "1h", "1day to 1day"),
        at(PG, "agreements.term.allowed.min", json!("0s"), "0s", "1s to"),
        at(PG, "agreements.calls", json!(0), "0", "1 to 10000"),
        at(PG, "agreements.document_bytes", json!(0), "0", "1 to"),
        at(PG, "agreements.disputes.ruling_within", json!("0s"), "0s", "1s to"),
        at(PG, "agreements.activation_within", json!("0s"), "0s", "1s to"),
        at(PG, "agreements.infrastructure_fee", json!(0), "0", "1 to"),
        at(PG, "approvals.default_threshold", json!(-1), "-1", "0 to"),
        at(PG, "approvals.expires_after", json!("0s"), "0s", "1s to"),
    ]
}

fn bad_others() -> Vec<Bad> {
    vec![
        at(JP, "services.price.max", json!(100_000_000_001_i64), "100000000001", "1000 to 100000000000"),
        at(JP, "services.execution.allowed.max", json!("2h"), "2h", "5s to 1h"),
        at(JP, "services.concurrent_jobs.default", json!(101), "101", "1 to 100"),
        at(JP, "services.client_trust_min.allowed.max", json!("2"), "2", "0 to 1"),
        at(AM, "execution.within", json!("31days"), "31days", "1s to 30days"),
        at(VP, "messages.default_kind", json!("gossip"), "\"gossip\"", "question, reply, info, update"),
        at(VP, "messages.per_job", json!(0), "0", "1 to"),
        at(VP, "files.input.bytes", json!(6_000_000_000_i64), "6000000000", "1 to 5368709120"),
        at(VP, "files.preview.first", json!(10_485_761), "10485761", "0 to 10485760"),
        at(VP, "files.blocked_extensions[0]", json!(".exe"), "\".exe\"", "a-z, 0-9"),
        at(VP, "files.upload_lives", json!("0s"), "0s", "1s to"),
        at(JP, "reports.badges[1].from", json!(1), "1", "more than 1"),
        at(JP, "reports.targets[1]", json!("agent"), "Agent", "each value once"),
        at(JP, "reports.expire_after", json!("0s"), "0s", "1s to"),
        at(JP, "proposals.categories", json!([]), "0", "1 to 1000"),
        at(JP, "proposals.open_per_agent", json!(0), "0", "1 to"),
        at(VP, "webhooks.signature.hex.header", json!("X Sig"), "\"X Sig\"", "letters, digits and -"),
        at(VP, "webhooks.signature.hex.header", json!("Content-Type"), "\"Content-Type\"", "not a header every"),
        at(
            AM,
            "webhooks.event_header",
            json!("x-agentmarket-signature"),
            "\"x-agentmarket-signature\"",
            "another header",
        ),
        at(PG, "webhooks.signature.timestamped.tolerance", json!("0s"), "0s", "1s to"),
        at(VP, "webhooks.retries[0]", json!("0s"), "0s", "1s to"),
        at(VP, "webhooks.timeout", json!("61s"), "1m 1s", "1s to 1m"),
        at(VP, "webhooks.answer_bytes", json!(2_000_000), "2000000", "0 to 1048576"),
        at(VP, "webhooks.subscriptions", json!(0), "0", "1 to"),
    ]
}

/// A row of the table of notices that reads what is not there would be silent for ever (VP-38, PG-13).
fn bad_notices() -> Vec<Bad> {
    let row = |on: &str, to: &str, payload: Value| json!({ "on": on, "to": [to], "payload": payload });
    let first = |on: &str, to: &str, payload: Value| vec![("webhooks.events[0]", row(on, to, payload))];
    let bad = |system, changes, path, value, allowed| Bad { system, changes, path, value, allowed };
    let none = || json!({});
    vec![
        at(VP, "webhooks.events[0].on", json!("job.validated"), "\"job.validated\"", "job.validation_passed, "),
        at(VP, "webhooks.events[0].on", json!("task.posted"), "\"task.posted\"", "agreement.accepted, "),
        bad(
            VP,
            first("dispute.resolved", "job.buyer", json!({ "ruling": "$event.ruling" })),
            "webhooks.events[0].payload.ruling",
            "$event.ruling",
            "ending, job",
        ),
        bad(
            JP,
            first("wallet.address_changed", "event.agent", json!({ "cool": { "until": "$event.until" } })),
            "webhooks.events[0].payload.cool.until",
            "$event.until",
            "address, agent, before, cools_until",
        ),
        bad(
            VP,
            first("payment.failed", "job.buyer", json!({ "why": ["$event.decline.reason"] })),
            "webhooks.events[0].payload.why[0]",
            "$event.decline.reason",
            "code, message",
        ),
        bad(
            VP,
            first("job.created", "job.buyer", json!({ "reserve": "$task.open.reserve" })),
            "webhooks.events[0].payload.reserve",
            "$task.open.reserve",
            "description, requires",
        ),
        bad(
            VP,
            first("job.created", "job.buyer", json!({ "title": "$event.title as minor" })),
            "webhooks.events[0].payload.title",
            "$event.title as minor",
            "an amount of money",
        ),
        bad(
            VP,
            first("job.created", "job.buyer", json!({ "title": "$event.title as word" })),
            "webhooks.events[0].payload.title",
            "$event.title as word",
            "a choice between words",
        ),
        bad(
            VP,
            first("job.created", "job.buyer", json!({ "fee": "$own.fee" })),
            "webhooks.events[0].payload.fee",
            "$own.fee",
            "payment.received",
        ),
        bad(
            PG,
            first("agreement.accepted", "job.buyer", none()),
            "webhooks.events[0].to[0]",
            "job.buyer",
            "agreement for events of agreements",
        ),
        bad(
            PG,
            first("job.accepted", "agreement.buyer", none()),
            "webhooks.events[0].to[0]",
            "agreement.buyer",
            "agreement for events of agreements",
        ),
        bad(
            VP,
            first("job.accepted", "event.deadline", none()),
            "webhooks.events[0].to[0]",
            "event.deadline",
            "the place of an agent",
        ),
        bad(
            VP,
            first("job.accepted", "task.worker", none()),
            "webhooks.events[0].to[0]",
            "task.worker",
            "agents in event",
        ),
        bad(VP, first("trust.updated", "other", none()), "webhooks.events[0].to[0]", "other", "job, task and client"),
        bad(
            VP,
            first("trust.updated", "capable", none()),
            "webhooks.events[0].to[0]",
            "capable",
            "job, task and client",
        ),
        bad(
            VP,
            vec![(
                "webhooks.events[0]",
                json!({ "on": "job.completed", "to": ["other"], "when": { "event.payout_status": "settled" } }),
            )],
            "webhooks.events[0].when.event.payout_status",
            "\"settled\"",
            "* and paid, pending, pending_retry",
        ),
    ]
}

/// What happens to the money of jobs and of agreements alike may be told of either, by one row of each only.
#[test]
fn vp_38_pg_13_an_event_that_contracts_share_may_be_told_of_each() {
    for on in ["payment.chargeback_opened", "payment.chargeback_lost", "payment.owed", "payment.debt_repaid"] {
        let row = |to: &[&str], payload: Value| json!({ "on": on, "to": to, "payload": payload });
        let told = |row: Value| changed("paegents", &[("webhooks.events[0]", row)]).map_err(|e| e.to_string());
        let amount = || json!({ "amount": "$event.amount as minor" });
        told(row(&["job.buyer", "job.worker"], amount())).unwrap();
        told(row(&["agreement.buyer", "agreement.seller"], amount())).unwrap();
        told(row(&["other"], json!({ "job": "$job.id" }))).unwrap();
        told(row(&["other"], json!({ "agreement": "$agreement.id" }))).unwrap();
        // No event is of both.
        for (mixed, path) in [
            (row(&["job.buyer", "agreement.seller"], json!({})), "webhooks.events[0].to[1]"),
            (row(&["job.buyer"], json!({ "of": "$agreement.id" })), "webhooks.events[0].payload.of"),
        ] {
            let refused = told(mixed).unwrap_err();
            assert!(refused.contains(path) && refused.contains("agreement for events of agreements"), "{refused}");
        }
        let refused = told(row(&["other"], json!({ "what": "$event.nonsense" }))).unwrap_err();
        assert!(refused.contains("\"nonsense\" is no field here"), "{refused}");
    }
}

/// What one event may be called by its cause is known under each name.
#[test]
fn vp_39_every_name_of_a_cancellation_may_be_told() {
    for on in ["job.cancelled", "job.stale_cancelled", "job.deadline_expired", "job.expired"] {
        let row = json!({ "on": on, "to": ["other"], "payload": { "refunded": "$event.refunded as minor" } });
        assert!(changed("voxpact", &[("webhooks.events[0]", row)]).is_ok(), "{on}");
    }
}

impl Bad {
    /// Where the error stands, when that is not where the change was made.
    fn with(self, path: &'static str, value: &'static str) -> Self {
        Self { path, value, ..self }
    }
}

#[test]
fn every_contradiction_is_refused_with_its_path_its_value_and_what_is_allowed() {
    let tables =
        [bad_agents(), bad_jobs(), bad_open_jobs(), bad_disputes(), bad_trust(), bad_beta(), bad_money(), bad_others()];
    let tables = tables.into_iter().chain([bad_notices()]).collect::<Vec<_>>();
    let mut wrong = Vec::new();
    for bad in tables.iter().flatten() {
        let result = changed(bad.system, &bad.changes);
        match &result {
            Err(PolicyError::Invalid { path, value, allowed })
                if path == bad.path && value == bad.value && allowed.contains(bad.allowed) => {}
            _ => wrong.push(format!("{} {}={}: {:?}", bad.system, bad.path, bad.value, result.map(|_| "accepted"))),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

// Anything at all.

/// What a byte of a policy file may be replaced by: mostly what the syntax is made of.
fn splice() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        prop::sample::select(vec![
            "-",
            "9999999999999999999999",
            "0",
            "\"",
            "[",
            "{",
            "}",
            "\n",
            "=",
            "1e400",
            "nan",
            "inf",
            "\"-0\""
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(Policy::from_toml(&text).is_err());
        prop_assert!(Policy::from_json(&text).is_err());
    }

    /// A spoilt file is refused, or is a policy that is stored and read back as it is.
    #[test]
    fn a_spoilt_file_is_refused_or_still_a_policy(
        which in 0..4_usize,
        json in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        length in 0..12_usize,
        splice in splice(),
    ) {
        let (_, toml, policy) = systems()[which].clone();
        let mut bytes = if json { serde_json::to_vec(&policy).unwrap() } else { toml.as_bytes().to_vec() };
        let from = cut.index(bytes.len());
        let to = (from + length).min(bytes.len());
        bytes.splice(from..to, splice);
        let text = String::from_utf8_lossy(&bytes);
        let read = if json { Policy::from_json(&text) } else { Policy::from_toml(&text) };
        if let Ok(read) = read {
            prop_assert_eq!(Policy::from_json(&serde_json::to_string(&read).unwrap()).unwrap(), read);
        }
    }

    /// Any one value replaced by any number or text is refused with a path, or still a policy.
    #[test]
    fn any_value_in_any_place_is_refused_or_still_a_policy(
        which in 0..4_usize,
        leaf in any::<prop::sample::Index>(),
        value in prop_oneof![
            any::<i64>().prop_map(|n| json!(n)),
            (0..200_i64).prop_map(|n| json!(n)),
            "[0-9]{1,30}(\\.[0-9]{1,30})?".prop_map(|s| json!(s)),
            "[0-9]{1,20} ?(s|m|h|days|years|ns)".prop_map(|s| json!(s)),
            ".{0,20}".prop_map(|s| json!(s)),
        ],
    ) {
        let mut policy = json_of(&systems()[which].2);
        let mut leaves = Vec::new();
        pointers(&policy, String::new(), &mut leaves);
        let pointer = &leaves[leaf.index(leaves.len())];
        *policy.pointer_mut(pointer).unwrap() = value;
        match Policy::from_json(&policy.to_string()) {
            Ok(read) => prop_assert_eq!(Policy::from_json(&serde_json::to_string(&read).unwrap()).unwrap(), read),
            Err(error) => prop_assert!(!matches!(error, PolicyError::Syntax { .. }), "{}", error),
        }
    }
}

/// Every value that is no object and no list, as a JSON pointer.
fn pointers(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| pointers(value, format!("{path}/{key}"), found));
        }
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(i, value)| pointers(value, format!("{path}/{i}"), found));
        }
        _ => found.push(path),
    }
}

proptest! {
    #[test]
    fn a_length_of_time_reads_back_as_it_is_written(seconds in 0..=Span::LIMIT) {
        let span = Span::seconds(seconds);
        prop_assert_eq!(serde_json::from_value::<Span>(json!(span.to_string())).unwrap(), span);
    }
}

// What a policy's numbers do to a job.

proptest! {
    /// VP-23: whatever the shares and the rounding, cancelling divides what was held, all of it.
    #[test]
    fn vp_23_any_cancellation_terms_divide_the_whole_hold(
        amount in 1..1000_i64,
        share in 0..=100_u32,
        rounding in prop::sample::select(vec!["half_even", "half_up", "down", "up"]),
    ) {
        let terms = json!({
            "to_worker": Decimal::new(share.into(), 2).to_string(),
            "to_platform": Decimal::new((100 - share).into(), 2).to_string(),
        });
        let policy = changed("agentmarket", &[
            ("jobs.escrow", json!("posting")),
            ("jobs.deadline.from", json!("posting")),
            ("fees.rounding", json!(rounding)),
            ("jobs.cancellation.accepted", terms),
        ]).unwrap();
        let rail = CreditsRail::new(policy.currency);
        let [buyer, worker] = [1, 2].map(|n| AgentId(Uuid::from_u128(n)));
        let job = |job: Option<&Job>, agent, command: &JobCommand| {
            let context = Context {
                now: Timestamp::UNIX_EPOCH,
                actor: &Actor::Agent(agent),
                policy: &policy,
                version: PolicyVersion(1),
                rail: rail.profile(),
                worker: Candidate { tier: policy.initial_tier(), active_jobs: 0, capabilities: None },
                purse: Purse::default(),
                client: tradepost::trust::ClientReputation::default(),
            };
            decide(job, command, &context)
        };
        let order = serde_json::from_value(json!({
            "title": "Cut", "task": {}, "worker": worker, "amount": Money::new(amount, policy.currency),
        }));
        let post = JobCommand::Post { id: JobId(Uuid::from_u128(3)), order: Box::new(order.unwrap()) };
        let posted = job(None, buyer, &post).unwrap().job;
        let accepted = job(Some(&posted), worker, &JobCommand::Accept).unwrap().job;
        let cancelled = job(Some(&accepted), buyer, &JobCommand::Cancel { reason: String::new() }).unwrap();
        let Some(JobEvent::Cancelled { refunded, cancellation_fee, compensation, .. }) = cancelled.events.last() else {
            panic!("{:?}", cancelled.events)
        };
        let legs = [refunded, cancellation_fee, compensation].map(|leg| leg.minor());
        prop_assert!(legs.iter().all(|leg| *leg >= 0), "{:?}", legs);
        prop_assert_eq!(legs.iter().sum::<i64>(), amount);
    }
}
