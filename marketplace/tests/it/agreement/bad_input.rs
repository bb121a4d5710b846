//! What a proposal or a record of usage may not say; each refusal names the field, the limit, the value.

use serde_json::json;
use tradepost::{
    agreement::{AgreementCommand, Proposal},
    error::Rejection,
    money::{Currency, Money},
    policy::{Presence, Span},
    rail::{Capability, Custody},
};

use super::*;

fn refused_on(desk: &Desk, change: impl FnOnce(&mut Proposal)) -> Rejection {
    let mut proposal = proposal(|minor| desk.money(minor));
    change(&mut proposal);
    let id = AgreementId(Uuid::from_u128(9));
    desk.refused(by(buyer()), AgreementCommand::Propose { id, proposal: Box::new(proposal) })
}

fn refused(change: impl FnOnce(&mut Proposal)) -> Rejection {
    refused_on(&Desk::new(paegents(), Custody::Internal), change)
}

#[test]
fn pg_02_bad_proposals() {
    let usdc = |minor| Money::new(minor, Currency::USDC);
    assert_eq!(refused(|p| p.seller = buyer()), Rejection::SelfDealing { agent: buyer() });
    for actual in [0, -1, 1_000_000_001, i64::MIN, i64::MAX] {
        let number = Rejection::Number { field: "quantity", min: 1, max: 1_000_000_000, actual };
        assert_eq!(refused(|p| p.quantity = actual), number);
    }
    for actual in [0, -10_000, i64::MIN, i64::MAX] {
        let refused = refused(|p| p.unit_price = usdc(actual));
        assert!(matches!(refused, Rejection::Amount { field: "unit_price", min: 10_000, .. }), "{refused}");
    }
    let cents = Rejection::NotMultiple { field: "unit_price", of: 10_000, actual: 10_001 };
    assert_eq!(refused(|p| p.unit_price = usdc(10_001)), cents);
    assert!(matches!(refused(|p| p.unit_price = Money::new(10_000, Currency::EUR)), Rejection::Money(_)));
    let too_dear = refused(|p| (p.quantity, p.unit_price) = (1_000_000_000, usdc(1_000_000_000_000)));
    assert!(matches!(too_dear, Rejection::Money(_)), "{too_dear}");
    let dear = refused(|p| (p.quantity, p.unit_price) = (2, usdc(1_000_000_000_000)));
    assert!(matches!(dear, Rejection::Amount { field: "quantity times unit_price", .. }), "{dear}");
    for unit in [String::new(), "u".repeat(51)] {
        let refused = refused(|p| p.unit = unit);
        assert!(matches!(refused, Rejection::Length { field: "unit", min: 1, max: 50, .. }), "{refused}");
    }
    assert!(matches!(refused(|p| p.unit = "a\u{202E}b".into()), Rejection::Character { field: "unit", .. }));
    for service in [String::new(), "s".repeat(201)] {
        assert!(matches!(refused(|p| p.service = Some(service)), Rejection::Length { field: "service", .. }));
    }
    assert!(matches!(refused(|p| p.account = Some("0x\n".into())), Rejection::Character { field: "account", .. }));
    let long = refused(|p| drop(p.document.insert("x".into(), json!("y".repeat(65_536)))));
    assert!(matches!(long, Rejection::Length { field: "document", max: 65_536, .. }), "{long}");
    for (field, span) in [("term", Span::seconds(1)), ("term", Span::MAX), ("answer_within", Span::seconds(0))] {
        let refused = refused(|p| match field {
            "term" => p.term = Some(span),
            _ => p.answer_within = Some(span),
        });
        assert!(matches!(refused, Rejection::Time { actual, .. } if actual == span), "{refused}");
    }
    let window = refused(|p| p.challenge_window = Some(Span::hours(1)));
    assert!(matches!(window, Rejection::Time { field: "challenge_window", .. }), "{window}");
}

#[test]
fn pg_19_bad_receipt_signers() {
    let signer = |scheme: &str, key: &str| {
        let (scheme, key) = (scheme.to_owned(), key.to_owned());
        refused(move |p| p.receipt_signer = Some(ReceiptSigner { scheme, key }))
    };
    let weak = format!("01{}", "00".repeat(31)); // the neutral element: it verifies what nobody signed
    let off_curve = format!("02{}", "00".repeat(31));
    let good = signer_of(&meter(1)).key;
    for (scheme, key) in [
        ("secp256k1", good.as_str()),
        ("ed25519", ""),
        ("ed25519", &good[1..]),
        ("ed25519", &good.to_uppercase()),
        ("ed25519", weak.as_str()),
        ("ed25519", off_curve.as_str()),
        ("Ed25519", good.as_str()),
    ] {
        let refused = signer(scheme, key);
        assert!(matches!(refused, Rejection::BadReceiptSigner { .. }), "{scheme} {key}: {refused}");
    }
    let mut policy = paegents();
    section(&mut policy).receipts = Presence::Required;
    let desk = Desk::new(policy, Custody::Internal);
    assert_eq!(refused_on(&desk, |_| {}), Rejection::Missing { field: "receipt_signer" });
}

#[test]
fn pg_02_where_there_are_no_agreements_there_are_none() {
    let mut policy = paegents();
    policy.agreements = None;
    let desk = Desk::new(policy, Custody::Internal);
    assert_eq!(refused_on(&desk, |_| {}), Rejection::NotOffered { what: "usage agreements" });
    let mut desk = Desk::new(paegents(), Custody::PerHold);
    desk.rail.capabilities.clear();
    assert_eq!(refused_on(&desk, |_| {}), Rejection::Unsupported { rail: RAIL, capability: Capability::Split });
    desk.rail = rail(Custody::Internal, desk.policy.currency);
    desk.rail.amounts.max = DEPOSIT - 1;
    assert!(matches!(refused_on(&desk, |_| {}), Rejection::Amount { field: "deposit", .. }));
}

#[test]
fn pg_07_bad_records_of_usage() {
    let desk = Desk::new(paegents(), Custody::Internal).active();
    let record = |calls| desk.refused(by(worker()), AgreementCommand::RecordUsage { calls, after: None });
    assert_eq!(record(Vec::new()), Rejection::Missing { field: "calls" });
    assert_eq!(record(calls(1001)), Rejection::TooMany { field: "calls", max: 1000, actual: 1001 });
    for units in [0, -1, i64::MIN] {
        let refused = record(vec![Call { units, digest: Hash::default() }]);
        assert_eq!(refused, Rejection::Number { field: "units", min: 1, max: QUANTITY, actual: units });
    }
    let mut desk = desk;
    desk.must(by(worker()), used(1));
    let (expected, actual) = (Hash::default(), desk.agreement().usage.head);
    let blind = AgreementCommand::RecordUsage { calls: calls(1), after: Some(expected) };
    assert_eq!(desk.refused(by(worker()), blind), Rejection::ChainMoved { expected, actual });
    let seen = AgreementCommand::RecordUsage { calls: calls(1), after: Some(actual) };
    desk.must(by(worker()), seen);
}
