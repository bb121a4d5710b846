//! The relayer: gas that spikes, a budget, a transaction that is left out, a nonce that somebody else took.

use std::sync::Arc;

use alloy_primitives::{U64, U256};
use serde_json::{Value, json};
use tradepost::{
    ids::{AgentId, HoldId, InstructionId},
    money::{Currency, Money},
    rail::{HoldTerms, Instruction, Order, Outcome, RailErrorKind, SettlementRail, VolatileMemory},
};
use tradepost_evm::{Activation, Ask, EvmRail, GasPolicy, Sent, Wait};

use crate::stage::{Automine, Stage, key};

async fn signed(stage: &Stage, gas: GasPolicy) -> (EvmRail, Instruction) {
    let mut config = stage.config.clone();
    config.gas = gas;
    let rail = stage.rail_as(config, Arc::new(VolatileMemory::default())).await;
    let [payer, payee] = [1, 2].map(|number| AgentId(uuid::Uuid::from_u128(number)));
    rail.link_wallet(payer, key("payer").address()).await.unwrap();
    rail.link_wallet(payee, key("payee").address()).await.unwrap();
    stage.mint(key("payer").address(), 1_000_000).await;
    let contract = uuid::Uuid::from_u128(3);
    let terms = Box::new(HoldTerms { payee: Some(payee), ..HoldTerms::default() });
    let order = Order::Fund { hold: HoldId(contract), payer, amount: Money::new(1_000_000, Currency::USDC), terms };
    let mut fund = Instruction { id: InstructionId::derive(contract, 0), contract, order, answer: None };
    let Outcome::NeedsAction(action) = rail.execute(&fund).await.unwrap() else { panic!("nobody is asked") };
    fund.answer = Some(Ask::parse(&action.payload).unwrap().sign("eip3009", &key("payer")).unwrap().to_text());
    (rail, fund)
}

async fn base_fee(stage: &Stage, gwei: u64) {
    let _: Value = stage.ask("anvil_setNextBlockBaseFeePerGas", json!([U256::from(gwei * 1_000_000_000)])).await;
    stage.mine(1).await;
}

async fn sent(rail: &EvmRail) -> Sent {
    match rail.activation(HoldId(uuid::Uuid::from_u128(3))).await.unwrap() {
        Some(Activation::Submitting { sent: Some(sent) }) => sent,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn gas_that_spikes_waits_and_goes_on() {
    let stage = Stage::new().await;
    let (rail, fund) = signed(&stage, GasPolicy { max_fee: 20_000_000_000, ..GasPolicy::default() }).await;
    base_fee(&stage, 300).await;
    let error = rail.execute(&fund).await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::NotSent, "{error}");
    assert!(error.to_string().contains("20000000000"), "it names the cap: {error}");
    base_fee(&stage, 1).await;
    assert!(matches!(rail.execute(&fund).await.unwrap(), Outcome::Pending { .. }));
    stage.mine(3).await;
    assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))));
}

#[tokio::test]
async fn a_budget_that_is_used_up_stops_the_relayer() {
    let stage = Stage::new().await;
    let (rail, fund) = signed(&stage, GasPolicy { daily_budget: 1_000_000, ..GasPolicy::default() }).await;
    let error = rail.execute(&fund).await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::NotSent, "{error}");
    assert!(error.to_string().contains("budget of 1000000 wei"), "{error}");
    let nonce: U64 = stage.ask("eth_getTransactionCount", json!([rail.relayer(), "pending"])).await;
    assert_eq!(nonce.to::<u64>(), 0, "nothing was sent");
}

/// PG-05: stuck is told apart from slow, and what is stuck is replaced for more, at the same nonce.
#[tokio::test]
async fn pg_05_a_transaction_that_blocks_leave_out_is_replaced() {
    let stage = Stage::new().await;
    let (rail, fund) = signed(&stage, GasPolicy { bump_after: 2, ..GasPolicy::default() }).await;
    stage.automine(Automine::Off).await;
    rail.execute(&fund).await.unwrap();
    assert!(matches!(sent(&rail).await, Sent::UnderWay { wait: Wait::SlowChain, attempts: 1, .. }));
    for _ in 0..3 {
        stage.drop_all().await;
        stage.mine(1).await;
    }
    let stuck = sent(&rail).await;
    assert!(matches!(stuck, Sent::UnderWay { wait: Wait::Stuck, attempts: 1, .. }), "{stuck:?}");
    rail.work().await.unwrap();
    assert!(matches!(sent(&rail).await, Sent::UnderWay { attempts: 2, .. }));
    stage.automine(Automine::On).await;
    stage.mine(4).await;
    assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))));
    assert_eq!(stage.sent_by(rail.relayer()).await, 1, "one nonce for both attempts");
}

/// Somebody else used the key: the nonce is gone, the work is not.
#[tokio::test]
async fn a_nonce_that_somebody_else_took_is_replaced_by_the_next() {
    let stage = Stage::new().await;
    let (rail, fund) = signed(&stage, GasPolicy::default()).await;
    stage.automine(Automine::Off).await;
    rail.execute(&fund).await.unwrap();
    stage.drop_all().await;
    stage.submit(rail.relayer(), rail.relayer(), Vec::new()).await;
    stage.automine(Automine::On).await;
    for _ in 0..8 {
        stage.mine(2).await;
        rail.work().await.unwrap();
    }
    assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))));
    assert_eq!(stage.sent_by(rail.relayer()).await, 2);
}
