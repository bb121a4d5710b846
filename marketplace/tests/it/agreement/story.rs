//! The lifecycle that Paegents documents, played by its own policy file: proposal, acceptance, buyer
//! activation, usage or delivery, settlement. Nothing here or in the engine knows the system; the requests
//! below are its documentation's, translated field by field.

use std::sync::Arc;

use serde_json::json;
use tradepost::{
    agreement::{
        ActivationStatus, AgreementStatus, Proposal, SettlementStatus,
        chain::{Link, verify},
        receipt::covers,
    },
    clock::ManualClock,
    engine::{Marketplace, Role},
    rail::Custody,
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{Course, Ending, OutsideWorld, Script, ScriptedRail},
};

use super::*;
use crate::store::SERVER;

/// The same on memory, SQLite and PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn pg_02_to_pg_19_as_paegents_documents_it() {
    plays(MemoryStore::new()).await;
    let folder = tempfile::tempdir().unwrap();
    plays(SqliteStore::open(folder.path().join("market.db")).await.unwrap()).await;
    plays(PostgresStore::connect(&SERVER.database().unwrap()).await.unwrap()).await;
}

async fn plays(store: impl Store) {
    let policy = paegents();
    let (clock, world) = (Arc::new(ManualClock::at(start())), OutsideWorld::new(policy.currency, 1));
    let profile = ScriptedRail::profile_of(Custody::NonCustodial, policy.currency);
    let rail = ScriptedRail::new(profile, world.clone(), clock.clone());
    let market = Marketplace::builder("paegents", store, policy)
        .rail(rail)
        .clock(clock.clone())
        .ids(Arc::new(CountedIds::default()))
        .build()
        .await
        .unwrap();
    let meter = meter(7);

    // POST /usage-agreements: 100 api_calls at 10 cents, of 10 000 micro-units each.
    let proposal: Proposal = serde_json::from_value(json!({
        "seller": worker(),
        "service": "svc_abc123",
        "quantity": 100,
        "unit": "api_calls",
        "unit_price": Money::new(10 * 10_000, market.currency()),
        "account": "0x2e5a6b0f1e6a0d0a6f4b8c0f6d1a0f0e9c8b7a65",
        "receipt_signer": signer_of(&meter),
        "document": { "settlement_model": "bilateral_escrow", "activation_version": "v2",
                      "payment_method": { "rail": "stablecoin", "provider": "x402" } },
    }))
    .unwrap();
    let proposed = market.agent(buyer()).keyed("agreement_123_propose_1").propose_agreement(proposal).await.unwrap();
    let id = proposed.id;
    assert_eq!(proposed.terms.deposit, Money::new(10_000_000, market.currency()));
    // GET /usage-agreements/agents/{agent_id}/agreements
    assert_eq!(market.agreements(Role::Worker(worker()), &[AgreementStatus::Proposed], 0).await.unwrap(), [proposed]);
    // PUT /usage-agreements/{agreement_id}/accept
    let seller_wallet = Some("0x8d1f0c2b3a4958677685940312233445566778ab".into());
    market.agent(worker()).accept_agreement(id, seller_wallet).await.unwrap();

    // POST /usage-agreements/{agreement_id}/activate-escrow, which answers before the chain has: 202.
    world.next(Script { course: Course::Pending(2, Ending::Done), ..Script::default() });
    let key = "agreement_123_activate_1";
    let submitted = market.agent(buyer()).keyed(key).activate_agreement(id).await.unwrap();
    assert_eq!(submitted.activation, Some(ActivationStatus::Submitting));
    let again = market.agent(buyer()).keyed(key).activate_agreement(id).await.unwrap();
    assert_eq!(again.status, AgreementStatus::Accepted);
    // Poll until status=active and activation_status=confirmed.
    let mut polls = 0;
    while market.agreement(id).await.unwrap().activation != Some(ActivationStatus::Confirmed) {
        polls += 1;
        assert!(polls < 20, "never confirmed");
        clock.advance(Span::seconds(5).delta());
        market.run_until_idle().await.unwrap();
    }
    assert_eq!(market.agreement(id).await.unwrap().status, AgreementStatus::Active);

    // POST /usage-agreements/{agreement_id}/record-usage; the meter signs as it goes.
    for _ in 0..3 {
        market.agent(worker()).record_usage(id, calls(20), None).await.unwrap();
    }
    let chain = [market.usage(id, 1).await.unwrap(), market.usage(id, 2).await.unwrap()].concat();
    let forty = receipt_of(&meter, id, 40, chain[39].hash);
    assert_eq!(covers(id, &forty, &chain), Ok(()));
    market.agent(worker()).submit_receipt(id, forty).await.unwrap();

    // The buyer closes early; in the 24 h window the seller's later receipt supersedes.
    let closing = market.agent(buyer()).close_agreement(id).await.unwrap();
    assert_eq!(closing.settlement, Some(SettlementStatus::Closing));
    clock.advance(Span::seconds(23 * 3600).delta());
    let head = closing.usage.head;
    let closing = market.agent(worker()).submit_receipt(id, receipt_of(&meter, id, 60, head)).await.unwrap();
    assert_eq!(closing.receipt.as_ref().map(|receipt| receipt.units), Some(60));
    clock.advance(Span::seconds(3600).delta());
    market.run_until_idle().await.unwrap();

    // The seller claims what was earned, the buyer withdraws the rest.
    let settled = market.agreement(id).await.unwrap();
    assert_eq!((settled.status, settled.settlement), (AgreementStatus::Completed, Some(SettlementStatus::Settled)));
    assert_eq!((world.outside(worker()), world.outside(buyer())), (6_000_000, -6_000_000));
    let chain = [chain, market.usage(id, 3).await.unwrap()].concat();
    assert_eq!(verify(id, Link::default(), &chain).unwrap().units, 60);
    let events = market.agreement_history(id).await.unwrap();
    let names: Vec<&str> = events.iter().map(|logged| logged.event.body.name()).collect();
    assert_eq!(
        names,
        [
            "agreement.proposed",
            "agreement.accepted",
            "agreement.activation_submitted",
            "agreement.activated",
            "agreement.usage_recorded",
            "agreement.usage_recorded",
            "agreement.usage_recorded",
            "escrow.receipt_submitted",
            "escrow.close_initiated",
            "escrow.receipt_submitted",
            "escrow.close_finalized",
            "agreement.completed",
            "escrow.claim_completed",
            "escrow.withdraw_completed",
        ]
    );
    let rail = settled.rail;
    assert_eq!(market.reconcile(rail).await.unwrap().differences, []);
}
