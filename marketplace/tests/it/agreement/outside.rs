//! Agreements that a contract outside closes and pays, and the fee that is paid apart.

use tradepost::{
    actor::Actor,
    agreement::{
        AgreementCommand, AgreementEvent, AgreementStatus, CloseCause, FeeKind, FeeStatus, SettlementStatus,
        chain::Hash, receipt::SignedReceipt,
    },
    error::Rejection,
    ledger::{Account, RevenueKind},
    policy::Span,
    rail::{Capability, Custody, Decline, EscrowNews, Leg, Order, Party},
    store::Kept as _,
};

use super::*;

const FEE: i64 = 500_000;

/// An active agreement with a meter, on a rail whose contract counts receipts and which takes a separate fee.
fn desk() -> Desk {
    let mut policy = with_fee("0.02", tradepost::policy::Bearer::Worker);
    section(&mut policy).infrastructure_fee = Some(FEE);
    let mut desk = Desk::new(policy, Custody::NonCustodial);
    desk.rail.capabilities.extend([Capability::Close, Capability::SeparateFee]);
    desk.metered(&meter(1))
}

fn told(desk: &mut Desk, news: EscrowNews) {
    desk.must(Actor::Rail(RAIL), AgreementCommand::RecordEscrow { news: Box::new(news) });
}

fn receipt(units: i64) -> EscrowNews {
    EscrowNews::Receipt(SignedReceipt { units, proof: Hash([1; 32]), signature: "0x".into() })
}

fn paid(desk: &mut Desk, to: Party, minor: i64) {
    let amount = desk.money(minor);
    told(desk, EscrowNews::Paid { to, amount, reference: "0xpaid".into() });
}

#[test]
fn pg_09_an_agreement_follows_the_contract_that_closes_and_pays_it() {
    let mut desk = desk();
    for (actor, command) in [(by(buyer()), AgreementCommand::Close), (by(worker()), AgreementCommand::Finalize)] {
        let name = command.name();
        assert_eq!(desk.refused(actor, command), Rejection::ByContract { command: name, rail: RAIL });
    }
    told(&mut desk, receipt(10));
    let final_at = desk.now + WINDOW.delta();
    told(&mut desk, EscrowNews::Closing { by: Party::Worker(worker()), final_at });
    let closed = AgreementEvent::CloseInitiated { cause: CloseCause::Seller, final_at };
    assert_eq!(desk.events.last(), Some(&closed));
    assert_eq!((desk.agreement().final_at(), desk.agreement().due_at()), (Some(final_at), None), "no timer of ours");
    // In the window a later receipt supersedes, an earlier one and a repetition change nothing.
    for (units, counted) in [(30, 30), (20, 30), (30, 30)] {
        told(&mut desk, receipt(units));
        assert_eq!(desk.agreement().receipt.as_ref().unwrap().units, counted);
    }
    desk.now = final_at;
    let late = desk.refused(by(buyer()), disputed());
    assert!(matches!(late, Rejection::TooLate { .. }), "{late}");
    let (net, fee) = (30 * UNIT_PRICE / 100 * 98, 30 * UNIT_PRICE / 100 * 2);
    let rest = DEPOSIT - 30 * UNIT_PRICE;
    let leg = |to, minor| Leg { to, amount: desk.money(minor) };
    let legs = vec![leg(Party::Worker(worker()), net), leg(Party::Platform, fee), leg(Party::Buyer(buyer()), rest)];
    desk.must(Actor::Rail(RAIL), AgreementCommand::RecordHoldSettled { reference: "0xfinal".into(), legs });
    assert_eq!(
        (desk.status(), desk.agreement().settlement),
        (AgreementStatus::Completed, Some(SettlementStatus::Finalized))
    );
    assert_eq!((desk.books.of(Account::Revenue(RevenueKind::Fees)), desk.books.sum()), (fee.into(), 0));
    for (to, minor) in [(Party::Worker(worker()), net), (Party::Platform, fee), (Party::Buyer(buyer()), rest)] {
        assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Finalized));
        paid(&mut desk, to, minor);
    }
    assert_eq!((desk.agreement().settlement, desk.got(worker())), (Some(SettlementStatus::Settled), net.into()));
    let names: Vec<&str> = desk.names().into_iter().filter(|name| name.starts_with("escrow.")).collect();
    let expected = [
        "escrow.receipt_submitted",
        "escrow.close_initiated",
        "escrow.receipt_submitted",
        "escrow.close_finalized",
        "escrow.claim_completed",
        "escrow.fee_collected",
        "escrow.withdraw_completed",
    ];
    assert_eq!(names, expected);
}

#[test]
fn pg_09_expiry_closes_and_only_the_contract_makes_it_final() {
    let mut desk = desk();
    desk.now = desk.agreement().terms.expiry;
    desk.tick().unwrap();
    assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Closing));
    let final_at = desk.agreement().terms.expiry + WINDOW.delta();
    assert_eq!((desk.agreement().final_at(), desk.agreement().due_at()), (Some(final_at), None));
    desk.now = final_at + Span::hours(1000).delta();
    assert_eq!(desk.tick().unwrap_err(), Rejection::NothingDue { next: None });
    assert_eq!(desk.status(), AgreementStatus::Active);
}

#[test]
fn pg_07_a_part_that_was_released_before_is_told_once() {
    let mut desk = desk();
    told(&mut desk, receipt(40));
    paid(&mut desk, Party::Worker(worker()), 1_000_000);
    desk.must(by(buyer()), AgreementCommand::Complete).settle_rail();
    assert_eq!(desk.agreement().settlement, Some(SettlementStatus::Settled));
    let claims: Vec<i64> = desk
        .events
        .iter()
        .filter_map(|event| match event {
            AgreementEvent::ClaimCompleted { amount, .. } => Some(amount.minor()),
            _ => None,
        })
        .collect();
    assert_eq!(claims, [1_000_000, 40 * UNIT_PRICE / 100 * 98 - 1_000_000]);
}

#[test]
fn pg_06_the_separate_fee_is_booked_apart_and_fails_alone() {
    let fresh = desk();
    let Some((instruction, _)) = fresh.instructions.first() else { panic!("nothing was asked") };
    let Order::Fund { amount, terms, .. } = &instruction.order else { panic!("{instruction:?}") };
    assert_eq!((amount.minor(), terms.infrastructure_fee), (DEPOSIT, Some(fresh.money(FEE))), "not of the deposit");
    assert_eq!(fresh.agreement().infrastructure_fee.unwrap().status, FeeStatus::Pending);
    let amount = fresh.money(FEE);
    let collected = || EscrowNews::FeeCollected { amount, reference: "0xfee".into() };
    let decline = Decline { code: "not_paid_in_time".into(), message: "never".into() };
    let failed = || EscrowNews::FeeFailed { amount, decline: decline.clone() };

    let mut paid = fresh.clone();
    told(&mut paid, collected());
    assert_eq!(paid.agreement().infrastructure_fee.unwrap().status, FeeStatus::Collected);
    assert_eq!(paid.books.of(Account::Revenue(RevenueKind::Infrastructure)), i128::from(FEE));
    assert_eq!((paid.books.of(Account::Treasury(RAIL)), paid.books.sum()), (-i128::from(FEE), 0));
    let event = AgreementEvent::FeeCollected { fee: FeeKind::Infrastructure, amount, reference: "0xfee".into() };
    assert_eq!(paid.events.last(), Some(&event));

    let mut unpaid = fresh.clone();
    told(&mut unpaid, failed());
    assert_eq!(unpaid.agreement().infrastructure_fee.unwrap().status, FeeStatus::Failed);
    assert_eq!((unpaid.status(), unpaid.names().last().copied()), (AgreementStatus::Active, Some("escrow.fee_failed")));
    assert_eq!(unpaid.books.of(Account::Revenue(RevenueKind::Infrastructure)), 0);

    for (ended, again) in [(&paid, collected()), (&paid, failed()), (&unpaid, collected())] {
        let refused = ended.refused(Actor::Rail(RAIL), AgreementCommand::RecordEscrow { news: Box::new(again) });
        assert!(matches!(refused, Rejection::Receipt(_)), "{refused}");
    }
    let other = EscrowNews::FeeCollected { amount: fresh.money(FEE + 1), reference: "0xfee".into() };
    let refused = fresh.refused(Actor::Rail(RAIL), AgreementCommand::RecordEscrow { news: Box::new(other) });
    assert!(matches!(refused, Rejection::Receipt(_)), "{refused}");
}

#[test]
fn pg_06_the_fee_is_waived_without_a_policy_or_a_rail_that_takes_it() {
    let mut policy = paegents();
    section(&mut policy).infrastructure_fee = Some(FEE);
    for desk in
        [Desk::new(policy, Custody::NonCustodial).active(), Desk::new(paegents(), Custody::NonCustodial).active()]
    {
        assert_eq!(desk.agreement().infrastructure_fee, None);
        let Order::Fund { terms, .. } = &desk.instructions[0].0.order else { panic!("nothing was asked") };
        assert_eq!(terms.infrastructure_fee, None);
    }
}

/// PG-16: where the policy demands it, a rail that screens nobody gets no wallet's agreement; one that stops to screen
/// activates none.
#[test]
fn pg_16_a_rail_that_does_not_screen_wallets_is_refused() {
    let unsupported = Rejection::Unsupported { rail: RAIL, capability: Capability::Screen };
    let propose = |desk: &Desk| AgreementCommand::Propose {
        id: AgreementId(Uuid::from_u128(9)),
        proposal: Box::new(proposal(|minor| desk.money(minor))),
    };
    let blind = |mut desk: Desk| {
        desk.rail.capabilities.retain(|capability| *capability != Capability::Screen);
        desk
    };
    let desk = blind(Desk::new(paegents(), Custody::NonCustodial));
    assert_eq!(desk.refused(by(buyer()), propose(&desk)), unsupported);
    let desk = blind(Desk::new(paegents(), Custody::NonCustodial).accepted());
    assert_eq!(desk.refused(by(buyer()), AgreementCommand::Activate), unsupported);
    let mut policy = paegents();
    section(&mut policy).screening = tradepost::policy::Screening::Off;
    let desk = blind(Desk::new(policy, Custody::NonCustodial));
    desk.ask(&by(buyer()), &propose(&desk)).unwrap();
    // Nobody has a wallet of its own there.
    for custody in [Custody::Internal, Custody::PerHold] {
        assert_eq!(Desk::new(paegents(), custody).active().status(), AgreementStatus::Active);
    }
}

#[test]
fn pg_02_the_rail_is_told_which_accounts_the_parties_named() {
    let names = ["0x00000000000000000000000000000000000000b1", "0x00000000000000000000000000000000000000a2"];
    let mut named = proposal(|minor| Money::new(minor, paegents().currency));
    named.account = Some(names[0].into());
    let mut desk = Desk::new(paegents(), Custody::NonCustodial).propose(named);
    desk.must(by(worker()), AgreementCommand::Accept { account: Some(names[1].into()) });
    desk.must(by(buyer()), AgreementCommand::Activate);
    for (desk, expected) in [
        (&desk, names.map(|name| Some(name.to_owned()))),
        (&Desk::new(paegents(), Custody::NonCustodial).active(), [None, None]),
    ] {
        let Order::Fund { terms, .. } = &desk.instructions[0].0.order else { panic!("nothing was asked") };
        assert_eq!([terms.payer_account.clone(), terms.payee_account.clone()], expected);
    }
}

#[test]
fn a_rail_without_such_a_contract_tells_nothing_of_one() {
    let desk = Desk::new(paegents(), Custody::NonCustodial).metered(&meter(1));
    let news = Box::new(receipt(1));
    let refused = desk.refused(Actor::Rail(RAIL), AgreementCommand::RecordEscrow { news });
    assert_eq!(refused, Rejection::Unsupported { rail: RAIL, capability: Capability::Close });
}
