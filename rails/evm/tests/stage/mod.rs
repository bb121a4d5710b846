//! A chain of our own: anvil on a free port, the escrow contract and a dollar token deployed on it.
#![allow(dead_code, unused_imports, reason = "the example and the tests each use a part")]

mod market;
mod wire;

pub use market::{By, Market};
pub use wire::{Fault, Wire};

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes, U64, U256, address, hex, keccak256};
use alloy_rpc_client::RpcClient;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall, SolValue, sol};
use serde_json::{Value, json};
use tradepost::{policy::Span, rail::RailMemory, testkit::eventually};
use tradepost_evm::{
    EvmConfig, EvmRail,
    sign::{Message, Signable},
};

/// Where Circle's USDC is on Base Sepolia.
pub const BASE_SEPOLIA_USDC: Address = address!("036CbD53842c5426634e7929541eC2318f3dCF7e");
/// The account that anvil has unlocked and rich.
const DEPLOYER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

sol! {
    function mint(address to, uint256 amount);
    function balanceOf(address owner) returns (uint256);
    function approve(address spender, uint256 amount) returns (bool);
    function transfer(address to, uint256 amount) returns (bool);
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s);
    function revokeNonces(uint256 word, uint256 mask);
    function feesOwed(address token, address receiver) returns (uint256);
    function isNonceUsed(address signer, uint256 nonce) returns (bool);
}

/// A node of our own; it ends with this value.
pub struct Anvil {
    child: Child,
    pub url: String,
}

impl Anvil {
    pub fn start(chain_id: u64) -> Self {
        let mut child = Command::new(program())
            .args(["--port", "0", "--chain-id", &chain_id.to_string(), "--no-request-size-limit"])
            .args(["--code-size-limit", "60000", "--hardfork", "cancun"])
            // Keys of its own are derived slowly; states of long ago are written to the disk.
            .args(["--accounts", "1", "--prune-history", "300"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("anvil does not start ({error}): `tests/run evm` installs it, or set ANVIL")
            });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let listening = lines.find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned));
        // What it writes later is nobody's business, but it must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("http://{}", listening.expect("anvil says where it listens"));
        Self { child, url }
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let installed =
        concat!(env!("CARGO_MANIFEST_DIR"), "/contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    std::env::var_os("ANVIL").map_or_else(|| PathBuf::from(installed), PathBuf::from)
}

/// A chain with both contracts.
pub struct Stage {
    pub anvil: Anvil,
    pub rpc: RpcClient,
    pub wire: Wire,
    pub config: EvmConfig,
    pub relayer: PrivateKeySigner,
}

impl Stage {
    pub async fn new() -> Self {
        Self::on(31_337, None).await
    }

    /// With the token at an address of its own.
    pub async fn on(chain_id: u64, token_at: Option<Address>) -> Self {
        let anvil = Anvil::start(chain_id);
        let rpc = RpcClient::new_http(anvil.url.parse().unwrap());
        let mut token = deploy(&rpc, "TestDollar", &[]).await;
        if let Some(place) = token_at {
            let code: Bytes = ask(&rpc, "eth_getCode", json!([token, "latest"])).await;
            let _: Value = ask(&rpc, "anvil_setCode", json!([place, code])).await;
            token = place;
        }
        let names = ("MeteringEscrowV2".to_owned(), "MeteringEscrow".to_owned());
        let escrow = deploy(&rpc, "TradepostEscrow", &names.abi_encode_params()).await;
        let mut config = EvmConfig::new(chain_id, escrow, token, 0);
        config.confirmations = 2;
        config.signing_window = Span::seconds(600);
        let wire = Wire::to(anvil.url.parse().unwrap());
        let stage = Self { relayer: key("relayer"), anvil, rpc, wire, config };
        stage.enrich(stage.relayer.address()).await;
        stage.mine(4).await;
        stage
    }

    /// The rail over this chain, as after a restart.
    pub async fn rail(&self, memory: Arc<dyn RailMemory>) -> EvmRail {
        self.rail_as(self.config.clone(), memory).await
    }

    pub async fn rail_as(&self, config: EvmConfig, memory: Arc<dyn RailMemory>) -> EvmRail {
        EvmRail::connect(config, self.wire.client(), Arc::new(self.relayer.clone()), memory).await.unwrap()
    }

    pub async fn enrich(&self, account: Address) {
        let _: Value = self.ask("anvil_setBalance", json!([account, U256::from(10u64.pow(19))])).await;
    }

    pub async fn mint(&self, to: Address, amount: u128) {
        let call = mintCall { to, amount: U256::from(amount) };
        let hash = self.submit(DEPLOYER, self.config.token, call.abi_encode()).await;
        self.mine(1).await;
        self.mined(hash).await;
    }

    pub async fn balance(&self, owner: Address) -> u128 {
        let data: Bytes = balanceOfCall { owner }.abi_encode().into();
        let answer: Bytes = self.ask("eth_call", json!([{ "to": self.config.token, "data": data }, "latest"])).await;
        U256::from_be_slice(&answer).to()
    }

    /// A transaction of any account's own, the key of which nobody needs; its hash, once it is in a block.
    pub async fn send(&self, from: Address, to: Address, data: Vec<u8>) -> B256 {
        let hash = self.submit(from, to, data).await;
        self.mined(hash).await;
        hash
    }

    /// Sends a transaction.
    pub async fn submit(&self, from: Address, to: Address, data: Vec<u8>) -> B256 {
        self.enrich(from).await;
        let _: Value = self.ask("anvil_impersonateAccount", json!([from])).await;
        let data = Bytes::from(data);
        let fee = U256::from(200_000_000_000u64);
        let bid = json!({ "from": from, "to": to, "data": data, "gas": U64::from(1_000_000),
                          "maxFeePerGas": fee, "maxPriorityFeePerGas": fee });
        // The node numbers it; where somebody else's came in between, once more.
        let sent = async || match self.rpc.request("eth_sendTransaction", json!([bid])).await {
            Err(error) if error.to_string().contains("nonce too low") => None,
            sent => Some(sent.unwrap_or_else(|error| panic!("eth_sendTransaction: {error}"))),
        };
        eventually(sent).await.expect("its nonce is always taken")
    }

    /// A payer takes its money back with nothing but what it was shown when it signed (PG-17).
    pub async fn withdraw_alone(&self, terms: &tradepost_evm::Agreement) {
        let verb = "withdrawRest((address,uint40,uint32,address,uint16,address,uint64,uint120,uint120,address,address,\
                    address,uint96,bytes32))";
        let call = [&keccak256(verb)[..4], &terms.abi_encode()].concat();
        self.send(terms.buyer, self.config.escrow, call).await;
    }

    /// Waits for a transaction's block: a busy node answers before it has made it.
    async fn mined(&self, hash: B256) {
        let receipt = async || -> Option<Value> { self.ask("eth_getTransactionReceipt", json!([hash])).await };
        assert!(eventually(receipt).await.is_some(), "{hash} is in no block");
    }

    /// The fees that the contract owes the relayer.
    pub async fn fees_owed(&self) -> u128 {
        let call = feesOwedCall { token: self.config.token, receiver: self.relayer.address() };
        let data: Bytes = call.abi_encode().into();
        let answer: Bytes = self.ask("eth_call", json!([{ "to": self.config.escrow, "data": data }, "latest"])).await;
        U256::from_be_slice(&answer).to()
    }

    /// The newest blocks are undone, and others without transactions come instead; what was in them is lost. Anvil
    /// must not make a block meanwhile: its chain would have a hole.
    pub async fn reorg(&self, depth: u64) {
        let making = self.makes_blocks().await;
        self.automine(Automine::Off).await;
        let _: Value = self.ask("anvil_reorg", json!([depth, []])).await;
        if making {
            self.automine(Automine::On).await;
        }
    }

    /// Why what the node says cannot all be true; `None` for a sound one. Each block has to follow from the one before
    /// it, and the contract to have in tokens what the logs of the token say.
    pub async fn contradiction(&self) -> Option<String> {
        let mut parent = Value::Null;
        for number in 0..=self.height().await {
            let block: Value = self.ask("eth_getBlockByNumber", json!([U64::from(number), false])).await;
            if block.is_null() || (number > 0 && block["parentHash"] != parent) {
                return Some(format!("block {number} does not follow from the one before it"));
            }
            parent = block["hash"].clone();
        }
        let event = keccak256("Transfer(address,address,uint256)");
        let filter = json!([{ "address": self.config.token, "fromBlock": "0x0", "topics": [event] }]);
        let logs: Vec<Value> = self.ask("eth_getLogs", filter).await;
        let escrow = json!(self.config.escrow.into_word());
        let amount = |log: &Value| serde_json::from_value::<U256>(log["data"].clone()).unwrap().to::<u128>();
        let sum = |place: usize| -> u128 { logs.iter().filter(|log| log["topics"][place] == escrow).map(amount).sum() };
        let (came, went, has) = (sum(2), sum(1), self.balance(self.config.escrow).await);
        (came.checked_sub(went) != Some(has))
            .then(|| format!("{came} came to the contract and {went} left, it has {has}"))
    }

    async fn makes_blocks(&self) -> bool {
        self.ask("anvil_getAutomine", json!([])).await
    }

    /// How many transactions are in no block yet.
    pub async fn waiting(&self) -> u64 {
        self.pool("pending").await + self.pool("queued").await
    }

    async fn pool(&self, part: &str) -> u64 {
        let pool: Value = self.ask("txpool_status", json!([])).await;
        serde_json::from_value::<U64>(pool[part].clone()).unwrap().to()
    }

    /// What is in no block yet is forgotten.
    pub async fn drop_all(&self) {
        let _: Value = self.ask("anvil_dropAllTransactions", json!([])).await;
    }

    pub async fn mine(&self, blocks: u64) {
        let _: Value = self.ask("anvil_mine", json!([U64::from(blocks), U64::from(1)])).await;
    }

    /// Lets time pass on chain, and enough blocks for it to count.
    pub async fn pass(&self, seconds: u64) {
        let _: Value = self.ask("evm_increaseTime", json!([U64::from(seconds)])).await;
        self.mine(self.config.confirmations + 1).await;
    }

    /// Whether a block is made for each transaction. Once it is off, none is under way any more.
    pub async fn automine(&self, on: Automine) {
        if on == Automine::Off && self.makes_blocks().await {
            let idle = eventually(async || (self.pool("pending").await == 0).then_some(())).await;
            idle.expect("what waits for a block gets into one");
        }
        let _: Value = self.ask("evm_setAutomine", json!([on == Automine::On])).await;
    }

    /// The newest block's time.
    pub async fn time(&self) -> i64 {
        let block: Value = self.ask("eth_getBlockByNumber", json!(["latest", false])).await;
        let time: U64 = serde_json::from_value(block["timestamp"].clone()).unwrap();
        time.to::<u64>().try_into().unwrap()
    }

    /// Somebody uses a permit that was seen on its way.
    pub async fn use_permit(&self, permit: &Signable, signature: &Bytes) {
        let Message::Permit(message) = &permit.message else { panic!("{permit:?}") };
        let (r, s) = (B256::from_slice(&signature[..32]), B256::from_slice(&signature[32..64]));
        let call = permitCall {
            owner: message.owner,
            spender: message.spender,
            value: message.value,
            deadline: message.deadline,
            v: signature[64],
            r,
            s,
        };
        self.send(DEPLOYER, self.config.token, call.abi_encode()).await;
    }

    /// How many transactions an account has in the chain.
    pub async fn sent_by(&self, account: Address) -> u64 {
        self.ask::<U64>("eth_getTransactionCount", json!([account, "latest"])).await.to()
    }

    pub async fn height(&self) -> u64 {
        self.ask::<U64>("eth_blockNumber", json!([])).await.to()
    }

    pub async fn ask<T: alloy_json_rpc::RpcRecv>(&self, method: &'static str, params: Value) -> T {
        ask(&self.rpc, method, params).await
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Automine {
    On,
    Off,
}

/// A key that depends on nothing but its name.
pub fn key(name: &str) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256(name)).unwrap()
}

async fn deploy(rpc: &RpcClient, name: &str, arguments: &[u8]) -> Address {
    let path = format!("{}/contracts/artifacts/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let artifact: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut code = hex::decode(artifact["bytecode"].as_str().unwrap()).unwrap();
    code.extend_from_slice(arguments);
    let deployment = json!({ "from": DEPLOYER, "data": Bytes::from(code), "gas": U64::from(25_000_000) });
    let hash: B256 = ask(rpc, "eth_sendTransaction", json!([deployment])).await;
    for _ in 0..100 {
        let receipt: Value = ask(rpc, "eth_getTransactionReceipt", json!([hash])).await;
        if let Some(address) = receipt["contractAddress"].as_str() {
            return address.parse().unwrap();
        }
        let _: Value = ask(rpc, "anvil_mine", json!([U64::from(1)])).await;
    }
    panic!("{name} is not deployed");
}

async fn ask<T: alloy_json_rpc::RpcRecv>(rpc: &RpcClient, method: &'static str, params: Value) -> T {
    rpc.request(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
}
