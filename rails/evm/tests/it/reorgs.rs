//! Reorgs: of every depth that the confirmations cover, and deeper; gaps in the relayer's nonces.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tradepost::{
    ids::{AgentId, HoldId, InstructionId},
    money::{Currency, Money},
    rail::{Cursor, HoldTerms, Instruction, Order, Outcome, SettlementRail, VolatileMemory},
};
use tradepost_evm::{Ask, EvmRail, Incident};

use crate::stage::{Automine, Stage, key};

async fn open(stage: &Stage) -> EvmRail {
    let rail = stage.rail(Arc::new(VolatileMemory::default())).await;
    for number in [1, 2] {
        rail.link_wallet(agent(number), key(&format!("party {number}")).address()).await.unwrap();
    }
    stage.mint(key("party 1").address(), 3_000_000).await;
    rail
}

fn agent(number: u128) -> AgentId {
    AgentId(uuid::Uuid::from_u128(number))
}

/// A hold of a dollar, its payer's signature with it.
async fn signed(rail: &EvmRail, contract: u128) -> Instruction {
    let contract = uuid::Uuid::from_u128(contract);
    let terms = Box::new(HoldTerms { payee: Some(agent(2)), ..HoldTerms::default() });
    let amount = Money::new(1_000_000, Currency::USDC);
    let order = Order::Fund { hold: HoldId(contract), payer: agent(1), amount, terms };
    let mut fund = Instruction { id: InstructionId::derive(contract, 0), contract, order, answer: None };
    let Outcome::NeedsAction(action) = rail.execute(&fund).await.unwrap() else { panic!("nobody is asked") };
    fund.answer = Some(Ask::parse(&action.payload).unwrap().sign("eip3009", &key("party 1")).unwrap().to_text());
    fund
}

/// PG-05: whatever depth a reorg has, up to the confirmations, the deposit is made once and told once. (The seeded
/// lives meet every depth from 1 to 64.)
#[tokio::test]
async fn pg_05_a_reorg_of_any_depth_that_is_waited_for_loses_nothing() {
    for depth in [1, 2, 3, 8, 21, 55, 63, 64] {
        let mut stage = Stage::new().await;
        stage.config.confirmations = 64;
        stage.config.signing_window = tradepost::policy::Span::hours(5);
        let rail = open(&stage).await;
        stage.mine(70).await;
        let fund = signed(&rail, 3).await;
        rail.execute(&fund).await.unwrap();
        // Its block is the lowest of those that are undone.
        if depth > 1 {
            stage.mine(depth - 1).await;
        }
        rail.work().await.unwrap();
        stage.reorg(depth).await;
        let undone = stage.balance(stage.config.escrow).await;
        let mut done = None;
        for _ in 0..20 {
            stage.mine(10).await;
            if let Some(Outcome::Done(receipt)) = rail.lookup(&fund).await.unwrap() {
                done = Some(receipt);
                break;
            }
        }
        fund.check(&done.unwrap_or_else(|| panic!("never done after a reorg of {depth}"))).unwrap();
        assert_eq!((undone, stage.balance(stage.config.escrow).await), (0, 1_000_000), "{depth}");
        let told = rail.observe(&Cursor::default()).await.unwrap();
        assert_eq!(told.items.len(), 1, "{depth}: {told:?}");
    }
}

/// Deeper than what counts: an operator is told, the chain is read again, and the nonces that came free are filled,
/// so that what is behind them moves.
#[tokio::test]
async fn a_reorg_deeper_than_what_counts_is_an_incident_and_the_relayer_goes_on() {
    let stage = Stage::new().await;
    let incidents: Arc<Mutex<Vec<Incident>>> = Arc::default();
    let heard = incidents.clone();
    let rail = open(&stage).await.on_incident(move |incident| heard.lock().unwrap().push(incident.clone()));
    let first = signed(&rail, 3).await;
    rail.execute(&first).await.unwrap();
    stage.mine(3).await;
    assert!(matches!(rail.lookup(&first).await.unwrap(), Some(Outcome::Done(_))));
    let second = signed(&rail, 4).await;
    stage.automine(Automine::Off).await;
    rail.execute(&second).await.unwrap();
    let height = stage.height().await;
    stage.reorg(4).await;
    stage.mine(height - stage.height().await + 1).await;
    stage.automine(Automine::On).await;
    let mut done = false;
    for _ in 0..20 {
        rail.work().await.unwrap();
        stage.mine(2).await;
        if matches!(rail.lookup(&second).await.unwrap(), Some(Outcome::Done(_))) {
            done = true;
            break;
        }
    }
    assert!(done, "the second deposit does not wait for ever");
    let told = incidents.lock().unwrap().clone();
    assert!(told.iter().any(|incident| matches!(incident, Incident::DeepReorg { .. })), "{told:?}");
    assert_eq!(stage.balance(stage.config.escrow).await, 1_000_000, "the first one's is undone for good");
    assert_eq!(stage.sent_by(rail.relayer()).await, 2, "the first nonce is filled, the second is the deposit's");
}

/// A dropped transaction holds up those behind it until it is sent again: the same bytes, the same nonce.
#[tokio::test]
async fn a_dropped_transaction_leaves_a_gap_that_is_closed_by_itself() {
    let stage = Stage::new().await;
    let rail = open(&stage).await;
    let funds = [signed(&rail, 3).await, signed(&rail, 4).await, signed(&rail, 5).await];
    stage.automine(Automine::Off).await;
    for fund in &funds {
        rail.execute(fund).await.unwrap();
    }
    let Some(Outcome::Pending { reference }) = rail.lookup(&funds[0]).await.unwrap() else { panic!("not pending") };
    let _: Value = stage.ask("anvil_dropTransaction", json!([reference])).await;
    stage.mine(1).await;
    assert_eq!(stage.balance(stage.config.escrow).await, 0, "the gap stalls what is behind it");
    stage.automine(Automine::On).await;
    for _ in 0..10 {
        rail.work().await.unwrap();
        stage.mine(1).await;
    }
    for fund in &funds {
        assert!(matches!(rail.lookup(fund).await.unwrap(), Some(Outcome::Done(_))));
    }
    assert_eq!(stage.balance(stage.config.escrow).await, 3_000_000);
    assert_eq!(stage.sent_by(rail.relayer()).await, 3);
}
