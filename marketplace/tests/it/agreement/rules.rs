//! Each rule of an agreement's life, alone.

use chrono::TimeDelta;
use tradepost::{
    actor::Actor,
    agreement::{
        ActivationStatus, AgreementCommand, AgreementEvent, AgreementStatus, CloseCause, ExpiryCause, SettlementStatus,
        Suggestion,
    },
    error::Rejection,
    hold::HoldState,
    ledger::{Account, RevenueKind},
    policy::{Bearer, Span},
    rail::{Action, Custody, Landing, Leg, Outcome, Party},
    store::Kept as _,
};

use super::*;

#[test]
fn pg_02_a_proposal_says_what_is_reserved_and_reserves_nothing() {
    for custody in CUSTODIES {
        let desk = Desk::new(paegents(), custody).proposed();
        let terms = &desk.agreement().terms;
        assert_eq!((terms.deposit, terms.challenge_window), (desk.money(DEPOSIT), WINDOW));
        assert_eq!(terms.expiry, start() + TERM.delta());
        assert_eq!(terms.document, Hash::of(b"{}"));
        assert_eq!((desk.status(), desk.agreement().hold.state), (AgreementStatus::Proposed, HoldState::Empty));
        assert!(desk.instructions.is_empty() && desk.books.of(Account::Escrow(desk.id().into())) == 0);
        assert_eq!(desk.names(), ["agreement.proposed"]);
    }
}

#[test]
fn pg_02_the_buyer_who_bears_the_fee_reserves_it_on_top() {
    let worker_bears = Desk::new(with_fee("0.05", Bearer::Worker), Custody::Internal).proposed();
    assert_eq!(worker_bears.agreement().terms.deposit.minor(), DEPOSIT);
    let buyer_bears = Desk::new(with_fee("0.05", Bearer::Buyer), Custody::Internal).proposed();
    assert_eq!(buyer_bears.agreement().terms.deposit.minor(), DEPOSIT + 500_000);
}

/// PG-07: the payer has signed for the rate, so the fee is never more than it, whatever the policy rounds jobs by.
#[test]
fn pg_07_a_fee_is_rounded_down() {
    let mut policy = with_fee("0.025", Bearer::Worker);
    policy.fees.rounding = tradepost::money::Rounding::Up;
    for custody in CUSTODIES {
        let mut desk = Desk::new(policy.clone(), custody).active();
        let earned = desk.money(1_250_060);
        desk.must(by(buyer()), disputed());
        desk.must(operator(), AgreementCommand::Rule { earned, reason: "seen".into() }).settle_rail();
        let fee = desk.events.iter().find_map(|event| match event {
            AgreementEvent::CloseFinalized { fee, .. } => Some(fee.minor()),
            _ => None,
        });
        assert_eq!((fee, desk.got(worker())), (Some(31_251), 1_250_060 - 31_251), "{custody:?}");
    }
}

/// PG-17: a contract takes its fee out of what receipts earn, so the buyer cannot bear one on top there.
#[test]
fn pg_17_a_fee_on_top_and_receipts_do_not_go_together_in_a_contract() {
    for (custody, bearer, fee) in [
        (Custody::NonCustodial, Bearer::Buyer, "0.05"),
        (Custody::NonCustodial, Bearer::Buyer, "0"),
        (Custody::NonCustodial, Bearer::Worker, "0.05"),
        (Custody::PerHold, Bearer::Buyer, "0.05"),
    ] {
        let desk = Desk::new(with_fee(fee, bearer), custody);
        let mut proposal = proposal(|minor| desk.money(minor));
        proposal.receipt_signer = Some(signer_of(&meter(1)));
        let id = AgreementId(Uuid::from_u128(9));
        let answer = desk.ask(&by(buyer()), &AgreementCommand::Propose { id, proposal: Box::new(proposal) });
        let refused = matches!(&answer, Err(Rejection::BadReceiptSigner { reason }) if reason.contains("bear it"));
        let wanted = (custody, bearer, fee) == (Custody::NonCustodial, Bearer::Buyer, "0.05");
        assert_eq!(refused, wanted, "{custody:?} {bearer:?} {fee}");
        assert_eq!(answer.is_ok(), !wanted, "{custody:?} {bearer:?} {fee}");
    }
}

#[test]
fn pg_03_the_seller_rejects_with_what_would_do_instead() {
    let mut desk = Desk::new(paegents(), Custody::Internal).proposed();
    let suggestion = Suggestion {
        quantity: Some(50),
        unit_price: Some(desk.money(2 * UNIT_PRICE)),
        term: None,
        note: "half of it at twice the price".into(),
    };
    let boxed = Some(Box::new(suggestion.clone()));
    desk.must(by(worker()), AgreementCommand::Reject { reason: "too cheap".into(), suggestion: boxed });
    assert_eq!(desk.status(), AgreementStatus::Rejected);
    let told = AgreementEvent::Rejected { reason: "too cheap".into(), suggestion: Some(Box::new(suggestion)) };
    assert_eq!(desk.events.last(), Some(&told));
    assert_eq!((desk.agreement().is_over(), desk.agreement().final_at()), (true, None));
}

#[test]
fn pg_03_a_suggestion_is_within_the_same_limits_as_a_proposal() {
    let desk = Desk::new(paegents(), Custody::Internal).proposed();
    let reject = |suggestion: Suggestion| {
        let suggestion = Some(Box::new(suggestion));
        desk.refused(by(worker()), AgreementCommand::Reject { reason: String::new(), suggestion })
    };
    let none = Rejection::Number { field: "quantity", min: 1, max: 1_000_000_000, actual: 0 };
    assert_eq!(reject(Suggestion { quantity: Some(0), ..Suggestion::default() }), none);
    let odd = Rejection::NotMultiple { field: "unit_price", of: 10_000, actual: 10_001 };
    assert_eq!(reject(Suggestion { unit_price: Some(desk.money(10_001)), ..Suggestion::default() }), odd);
    let short = reject(Suggestion { term: Some(Span::seconds(1)), ..Suggestion::default() });
    assert!(matches!(short, Rejection::Time { field: "term", .. }), "{short}");
    let long = reject(Suggestion { note: "x".repeat(1001), ..Suggestion::default() });
    assert!(matches!(long, Rejection::Length { field: "note", max: 1000, .. }), "{long}");
}

#[test]
fn pg_03_the_buyer_cancels_before_acceptance_and_never_after() {
    let cancel = || AgreementCommand::Cancel { reason: "not needed".into() };
    let mut desk = Desk::new(paegents(), Custody::Internal).proposed();
    desk.must(by(buyer()), cancel());
    assert_eq!(desk.status(), AgreementStatus::Cancelled);
    let desk = Desk::new(paegents(), Custody::Internal).accepted();
    assert!(matches!(desk.refused(by(buyer()), cancel()), Rejection::WrongAgreementStatus { .. }));
}

#[test]
fn pg_03_silence_ends_a_proposal_at_the_moment_it_said() {
    let mut desk = Desk::new(paegents(), Custody::Internal).proposed();
    let by_when = desk.agreement().timers.answer_by.unwrap();
    assert_eq!(by_when, start() + Span::hours(7 * 24).delta());
    desk.now = by_when - TimeDelta::microseconds(1);
    assert_eq!(desk.tick().unwrap_err(), Rejection::NothingDue { next: Some(by_when) });
    desk.clone().must(by(worker()), accept());
    desk.now = by_when;
    // However late the timer fires, nobody undoes what time has decided.
    for (actor, command) in [
        (by(worker()), accept()),
        (by(worker()), AgreementCommand::Reject { reason: String::new(), suggestion: None }),
        (by(buyer()), AgreementCommand::Cancel { reason: String::new() }),
    ] {
        assert!(matches!(desk.refused(actor, command), Rejection::TooLate { .. }));
    }
    desk.tick().unwrap();
    assert_eq!(desk.status(), AgreementStatus::Expired);
    let refunded = desk.money(0);
    assert_eq!(desk.events.last(), Some(&AgreementEvent::Expired { cause: ExpiryCause::Unanswered, refunded }));
}

#[test]
fn pg_04_only_the_buyer_moves_the_buyers_money_and_only_once() {
    for custody in CUSTODIES {
        let mut desk = Desk::new(paegents(), custody).accepted();
        for actor in [by(worker()), by(stranger()), operator(), owner(), Actor::Timer, Actor::Rail(RAIL)] {
            let refused = desk.refused(actor, AgreementCommand::Activate);
            assert!(matches!(refused, Rejection::WrongActor { command: "activate", .. }), "{refused}");
        }
        desk.must(by(buyer()), AgreementCommand::Activate);
        if custody.is_per_hold() {
            assert_eq!(desk.agreement().activation, Some(ActivationStatus::Submitting)); // PG-05
            let refused = desk.refused(by(buyer()), AgreementCommand::Activate);
            assert_eq!(refused, Rejection::WrongHold { command: "activate", state: "being taken" });
        }
        desk.settle_rail();
        assert_eq!(desk.status(), AgreementStatus::Active);
        assert_eq!(desk.agreement().activation, Some(ActivationStatus::Confirmed));
        assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Open));
        assert_eq!(desk.books.of(Account::Escrow(desk.id().into())), i128::from(DEPOSIT));
    }
}

#[test]
fn pg_05_a_declined_activation_is_visible_and_may_be_tried_again() {
    let mut desk = Desk::new(paegents(), Custody::NonCustodial).accepted();
    desk.must(by(buyer()), AgreementCommand::Activate);
    let first = desk.last_instruction();
    desk.must(Actor::Rail(RAIL), heard(&first, declined()));
    assert_eq!(
        (desk.status(), desk.agreement().activation),
        (AgreementStatus::Accepted, Some(ActivationStatus::Failed))
    );
    assert_eq!(desk.agreement().hold.state, HoldState::Empty);
    desk.must(by(buyer()), AgreementCommand::Activate);
    assert_ne!(desk.last_instruction().id, first.id, "a new attempt has a new key");
    desk.settle_rail();
    assert_eq!(desk.status(), AgreementStatus::Active);
}

#[test]
fn pg_05_what_a_party_has_to_do_is_told_without_its_payload() {
    let mut desk = Desk::new(paegents(), Custody::NonCustodial).accepted();
    desk.must(by(buyer()), AgreementCommand::Activate);
    let instruction = desk.last_instruction();
    let who = Party::Buyer(buyer());
    let action = Action { who, kind: "sign_activation".into(), payload: "a typed message".into() };
    desk.must(Actor::Rail(RAIL), heard(&instruction, Outcome::NeedsAction(action)));
    match desk.events.last() {
        Some(AgreementEvent::ActionRequired { instruction: id, action }) => {
            assert_eq!((*id, action.payload.as_str()), (instruction.id, ""));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pg_04_an_agreement_that_nobody_activates_ends_and_late_money_goes_back() {
    for custody in [Custody::PerHold, Custody::NonCustodial] {
        let mut desk = Desk::new(paegents(), custody).accepted();
        desk.must(by(buyer()), AgreementCommand::Activate);
        let funding = desk.last_instruction();
        desk.now = desk.agreement().timers.activate_by.unwrap();
        desk.tick().unwrap();
        assert_eq!(desk.status(), AgreementStatus::Expired);
        desk.must(Actor::Rail(RAIL), heard(&funding, done(&funding)));
        assert_eq!(desk.names().last(), Some(&"escrow.returned"));
        desk.settle_rail();
        assert_eq!((desk.agreement().is_over(), desk.books.is_empty()), (true, true));
        assert_eq!(desk.got(buyer()), i128::from(DEPOSIT));
    }
}

#[test]
fn pg_04_activation_ends_with_the_agreement_itself() {
    let desk = Desk::new(paegents(), Custody::Internal);
    let mut proposal = proposal(|minor| desk.money(minor));
    proposal.term = Some(Span::hours(2));
    let mut desk = desk.propose(proposal);
    desk.must(by(worker()), accept());
    assert_eq!(desk.agreement().timers.activate_by, Some(desk.agreement().terms.expiry));
}

#[test]
fn pg_07_usage_is_recorded_up_to_the_quantity_and_never_past_it() {
    let mut desk = Desk::new(paegents(), Custody::Internal).active();
    desk.must(by(worker()), used(60)).must(operator(), used(40));
    assert_eq!((desk.agreement().usage.units, desk.agreement().usage.parts), (QUANTITY, 2));
    let over = Rejection::OverQuantity { units: QUANTITY + 1, quantity: QUANTITY };
    assert_eq!(desk.refused(by(worker()), used(1)), over);
    let most = Rejection::OverQuantity { units: i64::MAX, quantity: QUANTITY };
    assert_eq!(desk.refused(by(worker()), used(i64::MAX)), most);

    // A record stands or falls as a whole.
    let mut desk = Desk::new(paegents(), Custody::Internal).active();
    let calls = calls(QUANTITY + 1);
    let command = AgreementCommand::RecordUsage { calls, after: None };
    assert!(desk.give(by(worker()), command).is_err());
    assert_eq!((desk.agreement().usage.units, desk.chain.len()), (0, 0));
}

#[test]
fn pg_07_the_seller_gets_units_times_price_and_the_buyer_the_rest() {
    for custody in CUSTODIES {
        for units in [0, 1, 37, QUANTITY] {
            let mut desk = Desk::new(paegents(), custody).active();
            let before = desk.got(buyer());
            if units > 0 {
                desk.must(by(worker()), used(units));
            }
            desk.must(by(buyer()), AgreementCommand::Complete).settle_rail();
            assert_eq!(desk.status(), AgreementStatus::Completed);
            assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Settled));
            assert_eq!(desk.got(worker()), i128::from(units * UNIT_PRICE), "{custody:?}");
            assert_eq!(desk.got(buyer()) - before, i128::from(DEPOSIT - units * UNIT_PRICE), "{custody:?}");
            assert_eq!((desk.agreement().is_over(), desk.books.sum()), (true, 0));
        }
    }
}

#[test]
fn pg_07_the_fee_is_of_what_was_earned_and_borne_as_the_policy_says() {
    // 5 % of 37 units at 100 000 is 185 000.
    let (earned, fee) = (37 * UNIT_PRICE, 185_000);
    for (bearer, net, refund) in
        [(Bearer::Worker, earned - fee, DEPOSIT - earned), (Bearer::Buyer, earned, DEPOSIT + 500_000 - earned - fee)]
    {
        let mut desk = Desk::new(with_fee("0.05", bearer), Custody::Internal).active();
        let before = desk.got(buyer());
        desk.must(by(worker()), used(37)).must(by(buyer()), AgreementCommand::Complete);
        assert_eq!(desk.got(worker()), i128::from(net));
        assert_eq!(desk.books.of(Account::Revenue(RevenueKind::Fees)), i128::from(fee));
        assert_eq!(desk.got(buyer()) - before, i128::from(refund));
        let (net, fee, refunded) = (desk.money(net), desk.money(fee), desk.money(refund));
        let completed = AgreementEvent::Completed { units: Some(37), net, fee, refunded };
        assert!(desk.events.contains(&completed), "{:?}", desk.events);
    }
}

#[test]
fn pg_09_either_party_closes_and_after_the_window_it_is_final() {
    for (closer, cause) in [(buyer(), CloseCause::Buyer), (worker(), CloseCause::Seller)] {
        let mut desk = Desk::new(paegents(), Custody::Internal).active();
        desk.must(by(worker()), used(10)).must(by(closer), AgreementCommand::Close);
        let final_at = start() + WINDOW.delta();
        assert_eq!(desk.events.last(), Some(&AgreementEvent::CloseInitiated { cause, final_at }));
        assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Closing));
        // The window is no time to use more, nor to close again and gain time.
        let closing = |command| Rejection::AlreadyClosing { command, final_at };
        assert_eq!(desk.refused(by(worker()), used(1)), closing("record_usage"));
        assert_eq!(desk.refused(by(worker()), AgreementCommand::Close), closing("close"));
        desk.now = final_at - TimeDelta::microseconds(1);
        for party in [buyer(), worker()] {
            assert_eq!(desk.refused(by(party), AgreementCommand::Finalize), Rejection::NotFinal { final_at });
        }
        desk.now = final_at;
        assert!(matches!(desk.refused(by(buyer()), disputed()), Rejection::TooLate { .. }));
        desk.tick_all();
        assert_eq!((desk.status(), desk.got(worker())), (AgreementStatus::Completed, i128::from(10 * UNIT_PRICE)));
        assert_eq!(desk.agreement().earned, Some(desk.money(10 * UNIT_PRICE)));
    }
}

#[test]
fn pg_09_a_close_near_the_expiry_never_moves_the_end_further_away() {
    let mut desk = Desk::new(paegents(), Custody::Internal).active();
    let latest = desk.agreement().terms.expiry + WINDOW.delta();
    desk.now = desk.agreement().terms.expiry + Span::hours(23).delta(); // its timer has not fired yet
    desk.must(by(worker()), AgreementCommand::Close);
    assert_eq!(desk.agreement().final_at(), Some(latest));
}

#[test]
fn pg_09_expiry_closes_by_itself_and_the_buyers_exit_needs_nobody() {
    for custody in CUSTODIES {
        let mut desk = Desk::new(paegents(), custody).active();
        desk.rail.hold_expiry = None;
        desk.agreement.as_mut().unwrap().timers.hold_until = None;
        let before = desk.got(buyer());
        let expiry = desk.agreement().terms.expiry;
        desk.now = expiry;
        assert!(matches!(desk.refused(by(worker()), used(1)), Rejection::TooLate { .. }));
        let final_at = expiry + WINDOW.delta();
        assert_eq!(desk.refused(by(buyer()), AgreementCommand::Finalize), Rejection::NotFinal { final_at });
        desk.now = final_at;
        // No timer has fired, no operator and no seller has done anything.
        desk.must(by(buyer()), AgreementCommand::Finalize).settle_rail();
        assert_eq!((desk.status(), desk.got(buyer()) - before), (AgreementStatus::Expired, i128::from(DEPOSIT)));
        let refunded = desk.money(DEPOSIT);
        let expired = AgreementEvent::Expired { cause: ExpiryCause::NothingUsed, refunded };
        assert!(desk.events.contains(&expired));
    }
}

#[test]
fn pg_09_funded_and_expired_is_not_delivered_and_expired() {
    let mut desk = Desk::new(paegents(), Custody::Internal).active();
    desk.must(by(worker()), used(5));
    desk.now = desk.agreement().terms.expiry;
    desk.tick_all();
    assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Closing));
    let final_at = desk.now + WINDOW.delta();
    assert!(desk.events.contains(&AgreementEvent::CloseInitiated { cause: CloseCause::Expiry, final_at }));
    desk.wait(WINDOW).tick_all();
    assert_eq!((desk.status(), desk.got(worker())), (AgreementStatus::Completed, i128::from(5 * UNIT_PRICE)));
}

#[test]
fn pg_19_a_later_receipt_supersedes_an_earlier_one_also_in_the_window() {
    let meter = meter(1);
    let mut desk = Desk::new(paegents(), Custody::Internal).metered(&meter);
    let id = desk.id();
    let receipt = |units| receipt_of(&meter, id, units, Hash::of(b"head"));
    desk.must(by(worker()), used(90)).must(by(worker()), hand_in(receipt(20)));
    desk.must(by(buyer()), AgreementCommand::Close).wait(Span::hours(23)).must(by(worker()), hand_in(receipt(40)));
    let older = Rejection::ReceiptNotNewer { units: 40, counted: 40 };
    assert_eq!(desk.refused(by(buyer()), hand_in(receipt(40))), older);
    assert!(matches!(desk.refused(by(buyer()), hand_in(receipt(39))), Rejection::ReceiptNotNewer { .. }));
    desk.wait(Span::hours(1));
    assert!(matches!(desk.refused(by(worker()), hand_in(receipt(41))), Rejection::TooLate { .. }));
    desk.tick_all();
    // What is recorded without a receipt does not count where a signer was agreed.
    assert_eq!(desk.got(worker()), i128::from(40 * UNIT_PRICE));
}

#[test]
fn pg_19_receipts_only_of_the_agreements_signer_for_this_agreement() {
    let (meter, other) = (meter(1), meter(2));
    let desk = Desk::new(paegents(), Custody::Internal).metered(&meter);
    let proof = Hash::of(b"head");
    let good = receipt_of(&meter, desk.id(), 10, proof);
    desk.clone().must(by(worker()), hand_in(good.clone()));
    let elsewhere = AgreementId(Uuid::from_u128(10));
    let bad = [
        receipt_of(&other, desk.id(), 10, proof),
        receipt_of(&meter, elsewhere, 10, proof),
        SignedReceipt { units: 11, ..good.clone() },
        SignedReceipt { proof: Hash::of(b"other"), ..good.clone() },
        SignedReceipt { signature: good.signature.to_uppercase(), ..good.clone() },
        SignedReceipt { signature: malleated(&good.signature), ..good.clone() },
        SignedReceipt { signature: String::new(), ..good.clone() },
        SignedReceipt { signature: "é".repeat(64), ..good.clone() },
    ];
    for receipt in bad {
        let refused = desk.refused(by(worker()), hand_in(receipt.clone()));
        assert!(matches!(refused, Rejection::BadReceipt { .. }), "{receipt:?}: {refused}");
    }
    let over = receipt_of(&meter, desk.id(), QUANTITY + 1, proof);
    let refused = desk.refused(by(worker()), hand_in(over));
    assert_eq!(refused, Rejection::OverQuantity { units: QUANTITY + 1, quantity: QUANTITY });
    for units in [0, -5, i64::MIN] {
        let refused = desk.refused(by(worker()), hand_in(receipt_of(&meter, desk.id(), units, proof)));
        assert_eq!(refused, Rejection::ReceiptNotNewer { units, counted: 0 });
    }
    let without = Desk::new(paegents(), Custody::Internal).active();
    assert!(matches!(without.refused(by(worker()), hand_in(good)), Rejection::NotOffered { .. }));
}

/// The same signature with the group's order added to its scalar: what a careless verifier accepts too.
fn malleated(signature: &str) -> String {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = hex::decode(signature).unwrap();
    let mut carry = 0u16;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    hex::encode(bytes)
}

#[test]
fn pg_19_the_buyer_who_completes_pays_what_is_recorded_or_received() {
    let meter = meter(1);
    let mut desk = Desk::new(paegents(), Custody::Internal).metered(&meter);
    let receipt = receipt_of(&meter, desk.id(), 30, Hash::default());
    desk.must(by(worker()), used(50)).must(by(worker()), hand_in(receipt));
    desk.must(by(buyer()), AgreementCommand::Complete);
    assert_eq!(desk.got(worker()), i128::from(50 * UNIT_PRICE));
}

#[test]
fn a_dispute_is_ruled_within_what_was_reserved_or_what_counts_stands() {
    let rule = |minor: i64, desk: &Desk| AgreementCommand::Rule { earned: desk.money(minor), reason: "seen".into() };
    for custody in CUSTODIES {
        let mut desk = Desk::new(paegents(), custody).active();
        desk.agreement.as_mut().unwrap().timers.hold_until = None;
        desk.must(by(worker()), used(80)).must(by(buyer()), disputed());
        assert_eq!(
            (desk.status(), desk.agreement().due_at()),
            (AgreementStatus::Disputed, desk.agreement().final_at())
        );
        for minor in [-1, DEPOSIT + 1] {
            let refused = desk.refused(operator(), rule(minor, &desk));
            assert!(matches!(refused, Rejection::Amount { field: "earned", min: 0, max: DEPOSIT, .. }), "{refused}");
        }
        let mut ruled = desk.clone();
        ruled.must(operator(), rule(3 * UNIT_PRICE, &desk)).settle_rail();
        assert_eq!((ruled.status(), ruled.got(worker())), (AgreementStatus::Completed, i128::from(3 * UNIT_PRICE)));

        // Nobody rules: what was recorded stands.
        desk.now = desk.agreement().final_at().unwrap();
        assert!(matches!(desk.refused(operator(), rule(0, &desk)), Rejection::TooLate { .. }));
        desk.tick_all().settle_rail();
        assert_eq!((desk.status(), desk.got(worker())), (AgreementStatus::Completed, i128::from(80 * UNIT_PRICE)));
    }
}

#[test]
fn a_dispute_gives_an_operator_the_policys_time_but_no_more_than_a_contract_outside_does() {
    let (ruling, closed) = (start() + Span::hours(72).delta(), start() + WINDOW.delta());
    for custody in CUSTODIES {
        let mut desk = Desk::new(paegents(), custody).active();
        desk.agreement.as_mut().unwrap().timers.hold_until = None;
        desk.must(by(buyer()), AgreementCommand::Close).must(by(worker()), disputed());
        let expected = if custody == Custody::NonCustodial { closed } else { ruling };
        assert_eq!(desk.agreement().final_at(), Some(expected), "{custody:?}");
    }
    let mut policy = paegents();
    section(&mut policy).disputes = None;
    let desk = Desk::new(policy, Custody::Internal).active();
    assert!(matches!(desk.refused(by(buyer()), disputed()), Rejection::NotOffered { .. }));
}

#[test]
fn a_settlement_that_is_declined_is_asked_for_again_later_and_later() {
    let mut desk = Desk::new(paegents(), Custody::PerHold).active();
    desk.must(by(worker()), used(10)).must(by(buyer()), AgreementCommand::Complete);
    for wait in [60, 240, 960] {
        let instruction = desk.last_instruction();
        desk.must(Actor::Rail(RAIL), heard(&instruction, declined()));
        let next_at = desk.now + Span::seconds(wait).delta();
        assert_eq!(desk.instructions.last().unwrap().1, next_at);
        assert_eq!(desk.names().last(), Some(&"escrow.settlement_failed"));
        assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Finalized));
    }
    desk.settle_rail();
    assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Settled));
    assert_eq!((desk.got(worker()), desk.books.is_empty()), (i128::from(10 * UNIT_PRICE), true));
}

#[test]
fn shares_that_a_rail_keeps_become_spendable() {
    let mut desk = Desk::new(paegents(), Custody::PerHold).active();
    desk.must(by(worker()), used(10)).must(by(buyer()), AgreementCommand::Complete);
    let instruction = desk.last_instruction();
    let kept = Outcome::Done(receipt(&instruction, Landing::Held));
    desk.must(Actor::Rail(RAIL), heard(&instruction, kept));
    assert_eq!(desk.books.of(Account::Available(worker())), i128::from(10 * UNIT_PRICE));
    assert_eq!(desk.books.of(Account::Available(buyer())), i128::from(DEPOSIT - 10 * UNIT_PRICE));
    assert_eq!(desk.books.sum(), 0);
}

#[test]
fn a_receipt_of_the_rail_that_says_something_else_is_refused() {
    let mut desk = Desk::new(paegents(), Custody::NonCustodial).active();
    desk.must(by(worker()), used(10)).must(by(buyer()), AgreementCommand::Complete);
    let instruction = desk.last_instruction();
    let mut lie = receipt(&instruction, Landing::Outside);
    lie.legs.swap(0, 1);
    assert!(matches!(desk.refused(Actor::Rail(RAIL), heard(&instruction, Outcome::Done(lie))), Rejection::Receipt(_)));
    let held = Outcome::Done(receipt(&instruction, Landing::Held));
    assert!(matches!(desk.refused(Actor::Rail(RAIL), heard(&instruction, held)), Rejection::Receipt(_)));
}

#[test]
fn the_engine_divides_before_the_rail_gives_the_money_up() {
    let mut desk = Desk::new(paegents(), Custody::PerHold).active();
    desk.must(by(worker()), used(10));
    let until = desk.agreement().timers.hold_until.unwrap();
    assert_eq!(until, start() + HOLD_LIVES.delta() - Span::hours(1).delta());
    desk.now = until;
    assert!(matches!(desk.refused(by(worker()), used(1)), Rejection::TooLate { .. }));
    desk.tick_all().settle_rail();
    assert_eq!((desk.status(), desk.got(worker())), (AgreementStatus::Completed, i128::from(10 * UNIT_PRICE)));
}

#[test]
fn what_the_rail_gives_up_is_its_payers_again_in_every_state() {
    let gone = || AgreementCommand::RecordHoldExpired;
    let rail = || Actor::Rail(RAIL);
    let desk = Desk::new(paegents(), Custody::PerHold);

    let mut held = desk.clone().active();
    held.must(rail(), gone());
    assert_eq!(
        (held.status(), held.books.is_empty(), held.agreement().is_over()),
        (AgreementStatus::Expired, true, true)
    );

    let mut settling = desk.clone().active();
    settling.must(by(worker()), used(10)).must(by(buyer()), AgreementCommand::Complete).must(rail(), gone());
    assert_eq!(settling.events.last(), Some(&AgreementEvent::EscrowLost { amount: settling.money(DEPOSIT) }));
    assert!(settling.books.is_empty());

    let mut funding = desk.clone().accepted();
    funding.must(by(buyer()), AgreementCommand::Activate).must(rail(), gone()).settle_rail();
    assert_eq!((funding.status(), funding.books.is_empty()), (AgreementStatus::Expired, true));

    let accepted = desk.accepted();
    assert!(matches!(accepted.refused(rail(), gone()), Rejection::WrongHold { .. }));
    let wallet = Desk::new(paegents(), Custody::Internal).active();
    assert!(matches!(wallet.refused(rail(), gone()), Rejection::WrongRail { .. }));
}

#[test]
fn pg_17_what_the_parties_did_by_themselves_stands() {
    let shares = |desk: &Desk, seller: i64| {
        vec![
            Leg { to: Party::Worker(worker()), amount: desk.money(seller) },
            Leg { to: Party::Buyer(buyer()), amount: desk.money(DEPOSIT - seller) },
        ]
    };
    let tell = |legs| AgreementCommand::RecordHoldSettled { reference: "0xabc".into(), legs };
    // Before anybody completed it, and while the rail was asked for another division.
    for asked in [false, true] {
        let mut desk = Desk::new(paegents(), Custody::NonCustodial).active();
        desk.must(by(worker()), used(10));
        if asked {
            desk.must(by(buyer()), AgreementCommand::Complete);
        }
        let legs = shares(&desk, 70 * UNIT_PRICE);
        desk.must(Actor::Rail(RAIL), tell(legs));
        assert_eq!((desk.status(), desk.got(worker())), (AgreementStatus::Completed, i128::from(70 * UNIT_PRICE)));
        assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Settled));
        assert!(desk.books.is_empty(), "{asked}: {:?}", desk.books);
    }
    let mut withdrawn = Desk::new(paegents(), Custody::NonCustodial).active();
    let legs = vec![Leg { to: Party::Buyer(buyer()), amount: withdrawn.money(DEPOSIT) }];
    withdrawn.must(Actor::Rail(RAIL), tell(legs));
    assert_eq!(withdrawn.status(), AgreementStatus::Expired);

    let desk = Desk::new(paegents(), Custody::NonCustodial).active();
    for legs in
        [vec![], shares(&desk, DEPOSIT + 1), vec![Leg { to: Party::Worker(stranger()), amount: desk.money(DEPOSIT) }]]
    {
        assert!(matches!(desk.refused(Actor::Rail(RAIL), tell(legs)), Rejection::Receipt(_)));
    }
    let custodial = Desk::new(paegents(), Custody::PerHold).active();
    let legs = shares(&custodial, 0);
    assert!(matches!(custodial.refused(Actor::Rail(RAIL), tell(legs)), Rejection::WrongRail { .. }));
}
