//! Nodes that lag, lie or change sides, wallets that are contracts, and several chains at once.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use alloy_primitives::{Address, B256, Bytes, Signature, U256, keccak256};
use alloy_signer::Signer;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::SolCall;
use async_trait::async_trait;
use serde_json::{Value, json};
use tradepost::{
    engine::Marketplace,
    ids::{AgentId, HoldId, InstructionId, RailId},
    job::{Delivery, HoldState, JobOrder, JobStatus},
    money::{Currency, Money},
    policy::{FeeRate, Policy},
    rail::{
        Cursor, HoldTerms, Instruction, Leg, ObservationBody, Order, Outcome, Party, RailErrorKind, RailMemory,
        SettlementRail, StoreMemory, VolatileMemory,
    },
    store::{InstructionState, MemoryStore, Store, StoreError, StoreErrorKind},
};
use tradepost_evm::{Answer, Ask, EvmError, EvmRail};

use crate::stage::{Automine, Stage, key};

const PARTIES: [u128; 2] = [1, 2];

fn agent(number: u128) -> AgentId {
    AgentId(uuid::Uuid::from_u128(number))
}

fn usdc(minor: i64) -> Money {
    Money::new(minor, Currency::USDC)
}

/// The parties' wallets are linked, and the payer has a dollar.
async fn open(stage: &Stage) -> EvmRail {
    let rail = stage.rail(Arc::new(VolatileMemory::default())).await;
    open_on(stage, &rail, 1_000_000).await;
    rail
}

async fn open_on(stage: &Stage, rail: &EvmRail, minor: u128) {
    for (number, name) in PARTIES.into_iter().zip(["payer", "payee"]) {
        rail.link_wallet(agent(number), key(name).address()).await.unwrap();
    }
    stage.mint(key("payer").address(), minor).await;
}

/// A hold of a dollar whose payer has signed and nothing is sent.
async fn signed(stage: &Stage) -> (EvmRail, Instruction) {
    let rail = open(stage).await;
    let mut fund = order(3);
    let Outcome::NeedsAction(action) = rail.execute(&fund).await.unwrap() else { panic!("nobody is asked") };
    fund.answer = Some(Ask::parse(&action.payload).unwrap().sign("eip3009", &key("payer")).unwrap().to_text());
    (rail, fund)
}

fn order(contract: u128) -> Instruction {
    let contract = uuid::Uuid::from_u128(contract);
    let terms = Box::new(HoldTerms { payee: Some(agent(PARTIES[1])), ..HoldTerms::default() });
    let order = Order::Fund { hold: HoldId(contract), payer: agent(PARTIES[0]), amount: usdc(1_000_000), terms };
    Instruction { id: InstructionId::derive(contract, 0), contract, order, answer: None }
}

/// What `observe` tells from the beginning on.
async fn story(rail: &EvmRail) -> Vec<ObservationBody> {
    let (mut at, mut told) = (Cursor::default(), Vec::new());
    loop {
        let page = rail.observe(&at).await.unwrap();
        if page.next == at {
            return told;
        }
        told.extend(page.items.into_iter().map(|item| item.body));
        at = page.next;
    }
}

/// A node behind a balancer, half the answers of which come from one that stopped at an earlier block.
#[tokio::test]
async fn pg_05_a_node_that_lags_delays_and_repeats_nothing() {
    let stage = Stage::new().await;
    let (rail, fund) = signed(&stage).await;
    let old: Value = stage.ask("eth_getBlockByNumber", json!(["latest", false])).await;
    let height = stage.height().await;
    let turn = Arc::new(AtomicU64::new(0));
    // Which answers are old has no rhythm.
    let lags = |turn: &AtomicU64| keccak256(turn.fetch_add(1, Ordering::Relaxed).to_be_bytes())[0].is_multiple_of(2);
    let blocks = turn.clone();
    stage.wire.lie("eth_getBlockByNumber", move |params, answer| {
        let number = answer["number"].as_str().and_then(|hex| u64::from_str_radix(&hex[2..], 16).ok());
        if number.is_some_and(|number| number > height) && lags(&blocks) {
            *answer = if params[0] == "latest" { old.clone() } else { Value::Null };
        }
    });
    let counts = turn.clone();
    stage.wire.lie("eth_getTransactionCount", move |params, answer| {
        if params[1] == "latest" && lags(&counts) {
            *answer = json!("0x0");
        }
    });
    stage.wire.lie("eth_getTransactionReceipt", move |_, answer| {
        if lags(&turn) {
            *answer = Value::Null;
        }
    });
    let (mut done, mut last) = (None, None);
    for _ in 0..200 {
        // What contradicts itself, or is not there yet, is asked again.
        let answer = rail.execute(&fund).await;
        last = Some(format!("{answer:?}"));
        let outcome = answer.ok();
        stage.mine(1).await;
        if let Some(Outcome::Done(receipt)) = outcome {
            done = Some(receipt);
            break;
        }
    }
    fund.check(&done.unwrap_or_else(|| panic!("never done; last {last:?}"))).unwrap();
    stage.wire.calm();
    stage.mine(4).await;
    rail.work().await.unwrap();
    assert_eq!(stage.sent_by(rail.relayer()).await, 1, "one transaction, whatever the node said meanwhile");
    assert_eq!(stage.balance(stage.config.escrow).await, 1_000_000);
    assert_eq!(story(&rail).await.len(), 1);
}

/// PG-04: a deposit whose log a node has kept back is in the contract, so its funding is not declined.
#[tokio::test]
async fn pg_04_a_deposit_whose_log_was_kept_back_is_found() {
    let stage = Stage::new().await;
    let (rail, fund) = signed(&stage).await;
    stage.wire.lie("eth_getLogs", |_, logs| *logs = json!([]));
    rail.execute(&fund).await.unwrap();
    stage.mine(4).await;
    assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Pending { .. })));
    stage.wire.calm();
    stage.pass(700).await;
    let Some(Outcome::Done(receipt)) = rail.lookup(&fund).await.unwrap() else { panic!("not done") };
    fund.check(&receipt).unwrap();
    assert_eq!(rail.holdings().await.unwrap().total, usdc(1_000_000));
    // Not funded in time, and the contract does not have it: declined as ever.
    let other = order(4);
    rail.execute(&other).await.unwrap();
    stage.pass(700).await;
    assert!(matches!(rail.lookup(&other).await.unwrap(), Some(Outcome::Declined(_))));
}

/// PG-05: who dies between sending an intent and noting it, and stays away until the time to sign is over, does not
/// decline what is on its way.
#[tokio::test]
async fn pg_05_an_intent_that_was_sent_and_not_noted_is_not_declined() {
    let stage = Stage::new().await;
    let memory = Arc::new(Forgetful::default());
    let rail = stage.rail(memory.clone()).await;
    open_on(&stage, &rail, 1_000_000).await;
    let mut fund = order(3);
    let Outcome::NeedsAction(action) = rail.execute(&fund).await.unwrap() else { panic!("nobody is asked") };
    let ask = Ask::parse(&action.payload).unwrap();
    fund.answer = Some(ask.sign("prior_allowance", &key("payer")).unwrap().to_text());
    let allow = crate::stage::approveCall { spender: stage.config.escrow, amount: U256::from(1_000_000) };
    stage.send(key("payer").address(), stage.config.token, allow.abi_encode()).await;
    stage.automine(Automine::Off).await;
    memory.forget(Some("hold/"));
    rail.execute(&fund).await.unwrap_err();
    memory.forget(None);
    stage.drop_all().await;
    stage.pass(700).await;
    assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Pending { .. })));
    stage.automine(Automine::On).await;
    for _ in 0..4 {
        stage.mine(2).await;
        rail.work().await.unwrap();
    }
    let found = rail.lookup(&fund).await.unwrap();
    assert!(matches!(found, Some(Outcome::Done(_))), "{found:?}");
}

/// Some notes cannot be written at times.
#[derive(Default)]
pub struct Forgetful {
    notes: VolatileMemory,
    forgets: Mutex<Option<&'static str>>,
}

impl Forgetful {
    /// From now on no note whose key begins so is written.
    pub fn forget(&self, keys: Option<&'static str>) {
        *self.forgets.lock().unwrap() = keys;
    }
}

#[async_trait]
impl RailMemory for Forgetful {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.notes.get(key).await
    }

    async fn swap(&self, key: &str, from: Option<&str>, to: &str) -> Result<bool, StoreError> {
        let forgets = *self.forgets.lock().unwrap();
        match forgets.is_some_and(|keys| key.starts_with(keys)) {
            true => Err(StoreError::new(StoreErrorKind::Full, "the disk is full")),
            false => self.notes.swap(key, from, to).await,
        }
    }
}

/// PG-05: a relayer that cannot sign keeps nobody from hearing what the chain says.
#[tokio::test]
async fn pg_05_a_relayer_that_cannot_sign_keeps_nobody_from_reading() {
    let mut stage = Stage::new().await;
    stage.config.gas.bump_after = 1;
    let signer = Arc::new(Absent { key: stage.relayer.clone(), away: AtomicBool::new(false) });
    let memory = Arc::new(VolatileMemory::default());
    let rail = EvmRail::connect(stage.config.clone(), stage.wire.client(), signer.clone(), memory).await.unwrap();
    open_on(&stage, &rail, 2_000_000).await;
    let mut funds = [order(3), order(4)];
    for fund in &mut funds {
        let Outcome::NeedsAction(action) = rail.execute(fund).await.unwrap() else { panic!("nobody is asked") };
        fund.answer = Some(Ask::parse(&action.payload).unwrap().sign("eip3009", &key("payer")).unwrap().to_text());
    }
    rail.execute(&funds[0]).await.unwrap();
    stage.mine(3).await;
    stage.automine(Automine::Off).await;
    rail.execute(&funds[1]).await.unwrap();
    for _ in 0..3 {
        stage.drop_all().await;
        stage.mine(1).await;
    }
    signer.away.store(true, Ordering::Relaxed);
    assert!(rail.work().await.unwrap_err().to_string().contains("away"));
    assert!(matches!(rail.lookup(&funds[0]).await.unwrap(), Some(Outcome::Done(_))));
    assert_eq!(story(&rail).await.len(), 1);
}

/// A key in a place that cannot be reached at times.
struct Absent {
    key: PrivateKeySigner,
    away: AtomicBool,
}

#[async_trait]
impl Signer for Absent {
    async fn sign_hash(&self, hash: &B256) -> Result<Signature, alloy_signer::Error> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(alloy_signer::Error::other("away")),
            false => self.key.sign_hash(hash).await,
        }
    }

    fn address(&self) -> Address {
        self.key.address()
    }

    fn chain_id(&self) -> Option<u64> {
        self.key.chain_id()
    }

    fn set_chain_id(&mut self, chain_id: Option<u64>) {
        self.key.set_chain_id(chain_id);
    }
}

/// A node that gives the logs of a few blocks only at a time.
#[tokio::test]
async fn a_node_that_limits_its_answers_is_asked_for_less() {
    let stage = Stage::new().await;
    let (rail, fund) = signed(&stage).await;
    stage.wire.limit_logs(7);
    rail.execute(&fund).await.unwrap();
    stage.mine(100).await;
    assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))));
}

/// Providers have the key in the address; no message has the address.
#[tokio::test]
async fn the_nodes_address_is_in_no_message() {
    let stage = Stage::new().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}/v2/the-api-key").parse().unwrap();
    let memory = Arc::new(VolatileMemory::default());
    let rpc = alloy_rpc_client::RpcClient::new_http(url);
    let error = EvmRail::connect(stage.config.clone(), rpc, Arc::new(stage.relayer.clone()), memory).await.map(drop);
    let error = error.unwrap_err();
    assert!(matches!(&error, EvmError::Unreachable(what) if what.contains("refused")), "{error}");
    assert!(!format!("{error} {error:?}").contains("the-api-key"));
}

/// A node that lies about receipts is contradicted by its own blocks and logs, and nothing is done on its word.
#[tokio::test]
async fn pg_05_a_node_that_lies_about_receipts_is_not_believed() {
    type Lie = fn(&mut Value);
    let lies: [(&str, Lie); 4] = [
        ("another transaction's", |receipt| receipt["transactionHash"] = json!(B256::repeat_byte(1))),
        ("in a block that is not there", |receipt| receipt["blockHash"] = json!(B256::repeat_byte(2))),
        ("in a block that does not count yet", |receipt| receipt["blockNumber"] = json!("0xffffff")),
        ("that it failed", |receipt| receipt["status"] = json!("0x0")),
    ];
    for (what, lie) in lies {
        let stage = Stage::new().await;
        let (rail, fund) = signed(&stage).await;
        stage.wire.lie("eth_getTransactionReceipt", move |_, answer| {
            if !answer.is_null() {
                lie(answer);
            }
        });
        rail.execute(&fund).await.unwrap();
        stage.mine(6).await;
        let followed = rail.work().await;
        assert_eq!(followed.is_err(), what != "that it failed", "{what}: {followed:?}");
        // Whether it did what it was to do is read from the contract's own log.
        assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))), "{what}");
        stage.wire.calm();
        assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))), "{what}");
        assert_eq!(stage.sent_by(rail.relayer()).await, 1, "{what}");
    }
}

/// Success that is only said: the transaction was refused on chain, and the money is where it was.
#[tokio::test]
async fn pg_05_a_node_that_says_a_failed_transaction_succeeded_is_not_believed() {
    let stage = Stage::new().await;
    let (rail, fund) = signed(&stage).await;
    stage.wire.lie("eth_getTransactionReceipt", |_, answer| {
        if !answer.is_null() {
            answer["status"] = json!("0x1");
        }
    });
    stage.automine(crate::stage::Automine::Off).await;
    rail.execute(&fund).await.unwrap();
    // In the same block, before it, the payer moves its money away.
    let away =
        crate::stage::transferCall { to: key("elsewhere").address(), amount: alloy_primitives::U256::from(1_000_000) };
    let data = alloy_sol_types::SolCall::abi_encode(&away);
    stage.submit(key("payer").address(), stage.config.token, data).await;
    stage.automine(crate::stage::Automine::On).await;
    stage.mine(6).await;
    let still = rail.lookup(&fund).await.unwrap();
    assert!(matches!(still, Some(Outcome::Pending { .. })), "{still:?}");
    stage.pass(700).await;
    let over = rail.lookup(&fund).await.unwrap();
    assert!(matches!(over, Some(Outcome::Declined(_))), "{over:?}");
    assert_eq!(story(&rail).await.len(), 0);
}

/// A log of another contract, or of blocks that were not asked for.
#[tokio::test]
async fn logs_that_were_not_asked_for_are_contradictions() {
    for (field, value) in [("address", json!(key("somebody").address())), ("blockNumber", json!("0xffffff"))] {
        let stage = Stage::new().await;
        let (rail, fund) = signed(&stage).await;
        rail.execute(&fund).await.unwrap();
        stage.wire.lie("eth_getLogs", move |_, answer| {
            for log in answer.as_array_mut().unwrap() {
                log[field] = value.clone();
            }
        });
        stage.mine(6).await;
        let error = rail.lookup(&fund).await.unwrap_err();
        assert!(error.to_string().contains("contradicts itself"), "{error}");
        stage.wire.calm();
        assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))));
    }
}

/// A node that is of another chain from one day to the next: nothing is read, nothing is decided.
#[tokio::test]
async fn a_node_that_changes_to_another_chain_is_refused() {
    let stage = Stage::new().await;
    let (rail, fund) = signed(&stage).await;
    rail.execute(&fund).await.unwrap();
    stage.mine(6).await;
    stage.wire.lie("eth_chainId", |_, answer| *answer = json!("0x1"));
    assert!(matches!(rail.work().await, Err(EvmError::WrongChain { found: 1, configured: 31_337 })));
    let error = rail.lookup(&fund).await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::Refused, "{error}");
    stage.wire.calm();
    assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))));
}

/// A wallet contract that accepts the hashes that its owner approved: `isValidSignature(hash, …)` reads the
/// approval from the hash's slot.
const WALLET: [u8; 21] = alloy_primitives::hex!("60043554631626ba7e60e01b0260005260206000f3");

pub async fn wallet_contract(stage: &Stage, name: &str) {
    let code = Bytes::from(WALLET.to_vec());
    let _: Value = stage.ask("anvil_setCode", json!([key(name).address(), code])).await;
}

pub async fn approve(stage: &Stage, name: &str, hash: B256) {
    let yes = B256::with_last_byte(1);
    let _: Value = stage.ask("anvil_setStorageAt", json!([key(name).address(), hash, yes])).await;
}

/// PG-04, PG-10: parties whose wallets are contracts (EIP-1271) pay, release and waive; what their wallets do not
/// accept is refused before anybody pays gas for it.
#[tokio::test]
async fn pg_10_wallets_that_are_contracts_sign_as_their_code_says() {
    let stage = Stage::new().await;
    for name in ["payer", "payee"] {
        wallet_contract(&stage, name).await;
    }
    let rail = open(&stage).await;
    let mut fund = order(3);
    let Outcome::NeedsAction(action) = rail.execute(&fund).await.unwrap() else { panic!("nobody is asked") };
    let ask = Ask::parse(&action.payload).unwrap();
    let choice = &ask.choices[0];
    assert_eq!(choice.name, "eip3009");
    let signed = |ask: &Ask| {
        let signatures = ask.choices[0].sign.iter().map(|_| Bytes::from_static(b"approved")).collect();
        Answer::Signed { choice: ask.choices[0].name.clone(), signatures, fee: None }.to_text()
    };
    fund.answer = Some(signed(&ask));
    let refused = rail.execute(&fund).await.unwrap_err();
    assert_eq!(refused.kind(), RailErrorKind::Refused, "the wallet has not approved it: {refused}");
    assert_eq!(stage.sent_by(rail.relayer()).await, 0);
    approve(&stage, "payer", choice.sign[0].digest()).await;
    assert!(matches!(rail.execute(&fund).await.unwrap(), Outcome::Pending { .. }));
    stage.mine(4).await;
    assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))));
    let hold = HoldId(fund.contract);
    let legs = vec![
        Leg { to: Party::Worker(agent(PARTIES[1])), amount: usdc(600_000) },
        Leg { to: Party::Buyer(agent(PARTIES[0])), amount: usdc(400_000) },
    ];
    let order = Order::Settle { hold, funding: String::new(), legs };
    let mut settle =
        Instruction { id: InstructionId::derive(fund.contract, 1), contract: fund.contract, order, answer: None };
    for name in ["payer", "payee"] {
        let Outcome::NeedsAction(action) = rail.execute(&settle).await.unwrap() else { panic!("{name} is not asked") };
        let ask = Ask::parse(&action.payload).unwrap();
        assert_eq!(ask.signer, key(name).address());
        for message in &ask.choices[0].sign {
            approve(&stage, name, message.digest()).await;
        }
        settle.answer = Some(signed(&ask));
        if name == "payer" {
            assert!(matches!(rail.execute(&settle).await.unwrap(), Outcome::NeedsAction(_)));
            settle.answer = None;
        }
    }
    assert!(matches!(rail.execute(&settle).await.unwrap(), Outcome::Pending { .. }));
    stage.mine(4).await;
    assert!(matches!(rail.lookup(&settle).await.unwrap(), Some(Outcome::Done(_))));
    assert_eq!(stage.balance(key("payee").address()).await, 600_000);
    assert_eq!(stage.balance(key("payer").address()).await, 400_000);
}

/// Two chains are two rails of one marketplace; what is signed for one is worth nothing on the other.
#[tokio::test]
async fn several_chains_at_once() {
    let mut stages = [Stage::new().await, Stage::on(84_532, Some(crate::stage::BASE_SEPOLIA_USDC)).await];
    stages[1].config.id = RailId::new("base");
    let store = MemoryStore::default();
    let id = store.open_market("two chains").await.unwrap();
    let mut policy = Policy::paegents().unwrap();
    policy.fees.rate = FeeRate::Flat("0".parse().unwrap());
    let mut builder = Marketplace::builder("two chains", store.clone(), policy);
    for stage in &stages {
        let memory = StoreMemory::new(Arc::new(store.clone()), id, stage.config.id);
        let rail = stage.rail(Arc::new(memory)).await;
        for (number, name) in PARTIES.into_iter().zip(["payer", "payee"]) {
            rail.link_wallet(agent(number), key(name).address()).await.unwrap();
        }
        stage.mint(key("payer").address(), 5_000_000).await;
        builder = builder.rail(Arc::new(rail));
    }
    let market = builder.build().await.unwrap();
    let [buyer, worker] = PARTIES.map(agent);
    let mut jobs = Vec::new();
    for stage in &stages {
        let order = JobOrder {
            task: json!({ "text": "Guten Tag" }).as_object().unwrap().clone(),
            worker: Some(worker),
            rail: Some(stage.config.id),
            ..JobOrder::new("Translate a page", usdc(2_000_000))
        };
        let job = market.agent(buyer).post_job(order).await.unwrap().id;
        market.agent(worker).accept(job).await.unwrap();
        jobs.push(job);
    }
    let mut asks = Vec::new();
    for job in &jobs {
        let given = market.instructions(*job).await.unwrap();
        let InstructionState::NeedsAction(action) = &given[0].state else { panic!("{:?}", given[0].state) };
        asks.push((given[0].instruction.id, Ask::parse(&action.payload).unwrap()));
    }
    // The other chain's signature is over another message.
    let other = asks[0].1.sign("eip3009", &key("payer")).unwrap();
    drop(market.agent(buyer).answer(asks[1].0, other.to_text()).await);
    assert_eq!(stages[1].balance(stages[1].config.escrow).await, 0);
    for (instruction, ask) in &asks {
        let answer = ask.sign("eip3009", &key("payer")).unwrap();
        market.agent(buyer).answer(*instruction, answer.to_text()).await.unwrap();
    }
    let until = async |job, so: fn(&tradepost::job::Job) -> bool| {
        for _ in 0..60 {
            market.work().await.unwrap();
            if so(&market.job(job).await.unwrap()) {
                return;
            }
            for stage in &stages {
                stage.mine(1).await;
            }
        }
        panic!("it never was so: {:#?}", market.job(job).await.unwrap());
    };
    for job in &jobs {
        until(*job, |job| job.status == JobStatus::Accepted).await;
        let output = json!({ "text": "Good day" }).as_object().unwrap().clone();
        market.agent(worker).deliver(*job, Delivery { content_type: None, output }).await.unwrap();
        market.agent(buyer).approve(*job).await.unwrap();
        let given = market.instructions(*job).await.unwrap();
        let InstructionState::NeedsAction(action) = &given[0].state else { panic!("{:?}", given[0].state) };
        let answer = Ask::parse(&action.payload).unwrap().sign("release", &key("payer")).unwrap();
        market.agent(buyer).answer(given[0].instruction.id, answer.to_text()).await.unwrap();
        until(*job, |job| job.hold.state == HoldState::Settled).await;
    }
    for stage in &stages {
        assert_eq!(stage.balance(key("payee").address()).await, 2_000_000);
        assert_eq!(market.reconcile(stage.config.id).await.unwrap().differences, Vec::new());
    }
}
