//! Usage agreements from proposal to money in the wallets: engine, rail, contract and token together. The
//! contract closes and pays, the engine's agreement follows.

use std::sync::Arc;

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall;
use tradepost::{
    agreement::{AgreementStatus, SettlementStatus, chain::Hash, receipt::SignedReceipt},
    error::{Error, Rejection},
    ledger::{Account, RevenueKind},
    policy::{FeeRate, Policy},
};
use tradepost_evm::{Act, EvmReceipts, Role};

use crate::stage::{self, By, Market, Stage, key};

fn policy(fee: &str) -> Policy {
    let mut policy = Policy::paegents().unwrap();
    policy.fees.rate = FeeRate::Flat(fee.parse().unwrap());
    policy
}

fn receipt(units: u64) -> Act {
    Act::SubmitReceipt { units, proof: B256::repeat_byte(u8::try_from(units).unwrap()) }
}

const SELLER: &str = "the worker";
const BUYER: &str = "the buyer";
const METER: &str = "the meter";

/// Funded in whichever way, 100 units at 0.05 dollars.
async fn active(m: &Market, by: By) -> tradepost::ids::AgreementId {
    let id = m.agree_on_units(100).await;
    match by {
        By::Signature => m.sign(id).await,
        By::OwnTransaction => {
            let (_, _, ask) = m.asked(id).await.unwrap();
            let call = ask.choices.iter().find_map(|choice| choice.direct.clone()).unwrap();
            let allow = stage::approveCall { spender: call.to, amount: U256::from(5_000_000) };
            m.stage.send(call.from, m.stage.config.token, allow.abi_encode()).await;
            m.stage.send(call.from, call.to, call.data.to_vec()).await;
        }
    }
    m.until_agreement(id, |agreement| agreement.status == AgreementStatus::Active).await;
    id
}

/// PG-02, PG-07, PG-08, PG-09, PG-10, PG-17, PG-19: proposal, acceptance, activation, receipts, a close, a receipt
/// that supersedes in the window, a claim, a withdrawal; each by relayed signatures and by own transactions.
#[tokio::test]
async fn pg_09_a_metered_agreement_lives_from_proposal_to_claimed_and_withdrawn_money() {
    for by in [By::Signature, By::OwnTransaction] {
        let m = Market::open(Stage::new().await, policy("0.02")).await;
        let id = active(&m, by).await;
        m.agrees().await;
        m.act(id, receipt(10), METER, by).await.unwrap();
        let counted = m.until_agreement(id, |agreement| agreement.receipt.is_some()).await;
        let ten = counted.receipt.clone().unwrap();
        assert_eq!((ten.units, ten.proof), (10, Hash([10; 32])));
        // The contract closes, and time there makes it final: the engine does not play at it.
        let refused = m.market.agent(m.buyer).close_agreement(id).await;
        assert!(matches!(refused, Err(Error::Rejected(Rejection::ByContract { command: "close", .. }))), "{refused:?}");
        m.act(id, Act::Close { by: Role::Seller }, SELLER, by).await.unwrap();
        let closing = m.until_agreement(id, |one| one.settlement == Some(SettlementStatus::Closing)).await;
        let on_chain = m.rail.escrow(id.into()).await.unwrap();
        assert_eq!((on_chain.state.as_str(), on_chain.final_at), ("closing", closing.final_at()));
        m.act(id, receipt(30), METER, by).await.unwrap();
        m.until_agreement(id, |one| one.receipt.as_ref().is_some_and(|receipt| receipt.units == 30)).await;
        m.stage.pass(24 * 3600).await;
        let done = m.until_agreement(id, |one| one.status == AgreementStatus::Completed).await;
        assert_eq!(done.settlement, Some(SettlementStatus::Finalized), "final, and nobody has taken anything");
        assert_eq!(done.earned.unwrap().minor(), 1_500_000);
        m.agrees().await;
        m.act(id, Act::Claim, SELLER, by).await.unwrap();
        m.act(id, Act::Withdraw, BUYER, by).await.unwrap();
        m.until_agreement(id, |one| one.settlement == Some(SettlementStatus::Settled)).await;
        let wallets = (m.stage.balance(m.wallet(m.worker)).await, m.stage.balance(m.wallet(m.buyer)).await);
        assert_eq!(wallets, (1_470_000, 98_500_000), "{by:?}");
        assert_eq!(m.market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap().minor(), 30_000);
        let told = m.told(id).await;
        let escrow: Vec<&str> = told.into_iter().filter(|name| name.starts_with("escrow.")).collect();
        let expected = [
            "escrow.receipt_submitted",
            "escrow.close_initiated",
            "escrow.receipt_submitted",
            "escrow.close_finalized",
            "escrow.claim_completed",
            "escrow.fee_collected",
            "escrow.withdraw_completed",
        ];
        assert_eq!(escrow, expected, "{by:?}");
        let relayed = m.stage.sent_by(m.rail.relayer()).await;
        assert_eq!(relayed, if by == By::Signature { 6 } else { 0 }, "{by:?}");
        m.agrees().await;
    }
}

/// PG-02: the buyer names its wallet in the proposal, the seller when it accepts; nobody has linked them.
#[tokio::test]
async fn pg_02_wallets_named_in_the_agreement_are_paid_from_and_to() {
    let m = Market::open(Stage::new().await, policy("0")).await;
    let [buyer, seller] = [3, 4].map(|number| tradepost::ids::AgentId(uuid::Uuid::from_u128(number)));
    let account = |name: &str| key(name).address().to_string();
    let proposal = serde_json::json!({ "seller": seller, "quantity": 100, "unit": "api_calls",
        "unit_price": tradepost::money::Money::new(50_000, m.market.currency()), "account": account("b") });
    let proposal = serde_json::from_value(proposal).unwrap();
    let id = m.market.agent(buyer).propose_agreement(proposal).await.unwrap().id;
    m.market.agent(seller).accept_agreement(id, Some(account("s"))).await.unwrap();
    m.market.agent(buyer).activate_agreement(id).await.unwrap();
    m.stage.mint(key("b").address(), 5_000_000).await;
    let (who, instruction, ask) = m.asked(id).await.unwrap();
    assert_eq!((who, ask.signer), (buyer, key("b").address()));
    m.answer(who, instruction, &ask.sign("eip3009", &key("b")).unwrap()).await;
    m.until_agreement(id, |agreement| agreement.status == AgreementStatus::Active).await;
    m.act(id, Act::Release { cumulative: 5_000_000 }, "b", By::Signature).await.unwrap();
    m.until_agreement(id, |one| one.settlement == Some(SettlementStatus::Settled)).await;
    assert_eq!(m.stage.balance(key("s").address()).await, 5_000_000);
    m.agrees().await;
}

/// PG-14, PG-19: whoever holds a receipt that the contract took can check it, and the engine takes no other.
#[tokio::test]
async fn pg_19_receipts_are_checked_as_the_contract_checks_them() {
    let m = Market::open(Stage::new().await, policy("0")).await;
    let id = active(&m, By::Signature).await;
    let verifier = EvmReceipts::new(m.stage.config.settlement_domain());
    let agreement = m.market.agreement(id).await.unwrap();
    let sign = |units: i64, who: &str| {
        let proof = Hash([9; 32]);
        let message = verifier.message(&agreement, units, proof).unwrap();
        SignedReceipt { units, proof, signature: message.sign(&key(who)).unwrap().to_string() }
    };
    let forged = m.market.agent(m.worker).submit_receipt(id, sign(20, SELLER)).await;
    assert!(matches!(forged, Err(Error::Rejected(Rejection::BadReceipt { .. }))), "{forged:?}");
    m.market.agent(m.worker).submit_receipt(id, sign(20, METER)).await.unwrap();
    // The same one, and a later one, on chain.
    let twenty = sign(20, METER);
    let act = Act::SubmitReceipt { units: 20, proof: B256::repeat_byte(9) };
    m.rail.relay(id.into(), act, U256::ZERO, u64::MAX, twenty.signature.parse().unwrap()).await.unwrap();
    m.stage.mine(1).await;
    m.act(id, receipt(40), METER, By::Signature).await.unwrap();
    let counted = m.until_agreement(id, |one| one.receipt.as_ref().is_some_and(|receipt| receipt.units == 40)).await;
    let forty = counted.receipt.clone().unwrap();
    let again = verifier.message(&counted, forty.units, forty.proof).unwrap();
    again.check(&forty.signature.parse::<alloy_primitives::Bytes>().unwrap(), key(METER).address()).unwrap();
    assert_eq!(m.told(id).await.iter().filter(|name| **name == "escrow.receipt_submitted").count(), 2);
}

/// PG-09, PG-17: in a dispute the arbiter whom the buyer named divides the deposit, and the contract pays so.
#[tokio::test]
async fn pg_09_an_arbiter_splits_a_metered_agreement() {
    let with = |rail: tradepost_evm::EvmRail| rail.with_arbiter(Arc::new(key("the arbiter")));
    // A fee that the contract rounds down, and half-even would round up.
    let m = Market::open_with(Stage::new().await, policy("0.025"), with).await;
    let id = active(&m, By::Signature).await;
    m.act(id, receipt(50), METER, By::Signature).await.unwrap();
    m.until_agreement(id, |one| one.receipt.is_some()).await;
    m.market.agent(m.buyer).dispute_agreement(id, "half of the calls failed").await.unwrap();
    let earned = tradepost::money::Money::new(1_250_060, m.market.currency());
    m.market.operator("Olga").rule_agreement(id, earned, "the log says so").await.unwrap();
    // Nobody signs in time, so that the arbiter rules on chain.
    m.stage.pass(700).await;
    let instruction = m.asked(id).await.unwrap().1;
    m.market.operator("Olga").look_again(instruction, "nobody signs").await.unwrap();
    m.until_agreement(id, |one| one.hold.state == tradepost::hold::HoldState::Settled).await;
    let state = m.rail.escrow(id.into()).await.unwrap();
    assert_eq!((state.claimable.minor(), state.withdrawable.minor()), (1_250_060, 3_749_940));
    m.act(id, Act::Claim, SELLER, By::Signature).await.unwrap();
    m.act(id, Act::Withdraw, BUYER, By::OwnTransaction).await.unwrap();
    assert_eq!(m.stage.balance(m.wallet(m.worker)).await, 1_218_809);
    assert_eq!(m.stage.balance(m.wallet(m.buyer)).await, 98_749_940);
    m.agrees().await;
}

/// PG-17: the contract takes its fee out of what receipts earn, so a buyer cannot bear it on top.
#[tokio::test]
async fn pg_17_a_fee_on_top_and_receipts_do_not_go_together() {
    let mut policy = policy("0.025");
    policy.fees.bearer = tradepost::policy::Bearer::Buyer;
    let m = Market::open(Stage::new().await, policy).await;
    let proposal = serde_json::json!({ "seller": m.worker, "quantity": 100, "unit": "api_calls",
        "unit_price": tradepost::money::Money::new(50_000, m.market.currency()),
        "receipt_signer": { "scheme": "eip712", "key": key(METER).address().to_string() } });
    let proposal = serde_json::from_value(proposal).unwrap();
    let refused = m.market.agent(m.buyer).propose_agreement(proposal).await.map(drop);
    let told =
        matches!(&refused, Err(Error::Rejected(Rejection::BadReceiptSigner { reason })) if reason.contains("fee"));
    assert!(told, "{refused:?}");
}

/// PG-07: the buyer lets the seller have what was used at once; all of it is divided in one transaction.
#[tokio::test]
async fn pg_07_a_buyer_completes_and_both_are_paid_at_once() {
    let m = Market::open(Stage::new().await, policy("0.01")).await;
    let id = active(&m, By::Signature).await;
    m.act(id, receipt(25), METER, By::Signature).await.unwrap();
    m.until_agreement(id, |one| one.receipt.is_some()).await;
    m.market.agent(m.buyer).complete_agreement(id).await.unwrap();
    m.sign(id).await;
    m.until_agreement(id, |one| one.settlement == Some(SettlementStatus::Settled)).await;
    assert_eq!(m.stage.balance(m.wallet(m.worker)).await, 1_237_500);
    assert_eq!(m.stage.balance(m.wallet(m.buyer)).await, 98_750_000);
    m.agrees().await;
}

/// PG-09, PG-17: a payer whose agreement nobody used gets everything back with the platform gone; a platform that
/// comes back finds out.
#[tokio::test]
async fn pg_17_a_payer_leaves_an_agreement_with_the_platform_gone() {
    let m = Market::open(Stage::new().await, policy("0")).await;
    let id = m.agree_on_units(100).await;
    let terms = m.asked(id).await.unwrap().2.choices[0].terms.clone();
    m.sign(id).await;
    m.until_agreement(id, |one| one.status == AgreementStatus::Active).await;
    m.stage.pass(31 * 24 * 3600 + 24 * 3600).await;
    m.stage.withdraw_alone(&terms).await;
    assert_eq!(m.stage.balance(m.wallet(m.buyer)).await, 100_000_000);
    let ended = m.until_agreement(id, |one| one.status.is_final()).await;
    assert_eq!(ended.status, AgreementStatus::Expired);
    m.until_agreement(id, |one| one.settlement == Some(SettlementStatus::Settled)).await;
    m.agrees().await;
}

/// PG-19: a node that shows a receipt's log and not yet the transaction that handed it in: the receipt is not told
/// without its signature, but read again.
#[tokio::test]
async fn pg_19_a_receipt_whose_transaction_is_not_there_yet_is_read_again() {
    let m = Market::open(Stage::new().await, policy("0")).await;
    let id = active(&m, By::Signature).await;
    m.act(id, receipt(20), METER, By::Signature).await.unwrap();
    m.stage.mine(4).await;
    m.stage.wire.lie("eth_getTransactionByHash", |_, answer| *answer = serde_json::Value::Null);
    let error = m.rail.work().await.unwrap_err();
    assert!(error.to_string().contains("contradicts itself"), "{error}");
    m.stage.wire.calm();
    m.until_agreement(id, |one| one.receipt.as_ref().is_some_and(|receipt| receipt.units == 20)).await;
}

/// PG-19: a node that has forgotten the transaction of an old receipt: what it earned is told without its signature.
#[tokio::test]
async fn pg_19_a_receipt_whose_transaction_is_forgotten_keeps_nothing_waiting() {
    let m = Market::open(Stage::new().await, policy("0")).await;
    let id = active(&m, By::Signature).await;
    m.act(id, receipt(20), METER, By::Signature).await.unwrap();
    m.stage.mine(1_004).await;
    m.stage.wire.lie("eth_getTransactionByHash", |_, answer| *answer = serde_json::Value::Null);
    let told = m.until_agreement(id, |one| one.receipt.is_some()).await;
    let receipt = told.receipt.clone().unwrap();
    assert_eq!((receipt.units, receipt.signature.as_str()), (20, ""));
}
