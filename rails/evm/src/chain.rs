//! Talking to a node.

use alloy_json_rpc::{RpcError, RpcRecv, RpcSend};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_client::RpcClient;
use alloy_sol_types::{SolCall, SolEvent};
use alloy_transport::TransportErrorKind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    abi::{Escrow, Token},
    error::{EvmError, Revert},
};

/// A node's view of its chain. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    rpc: RpcClient,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block {
    number: U64,
    pub(crate) hash: B256,
    timestamp: U64,
    #[serde(default)]
    base_fee_per_gas: Option<U256>,
}

impl Block {
    pub(crate) fn number(&self) -> u64 {
        self.number.to()
    }

    /// Unix seconds.
    pub(crate) fn time(&self) -> u64 {
        self.timestamp.to()
    }

    pub(crate) fn base_fee(&self) -> u128 {
        self.base_fee_per_gas.map_or(0, |fee| fee.saturating_to())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    pub(crate) topics: Vec<B256>,
    pub(crate) data: Bytes,
    pub(crate) transaction_hash: B256,
    pub(crate) address: Address,
    block_number: U64,
    log_index: U64,
}

impl Log {
    /// Where it stands in the chain.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.block_number.to(), self.log_index.to())
    }

    #[cfg(test)]
    pub(crate) fn of(data: alloy_primitives::LogData, transaction_hash: B256, block: u64) -> Self {
        let (topics, data) = data.split();
        let (address, block_number, log_index) = (Address::ZERO, U64::from(block), U64::ZERO);
        Self { topics, data, transaction_hash, address, block_number, log_index }
    }

    /// The agreement it is about.
    pub(crate) fn agreement(&self) -> Option<B256> {
        self.topics.get(1).copied()
    }

    pub(crate) fn read<E: SolEvent>(&self) -> Option<E> {
        E::decode_raw_log(self.topics.iter().copied(), &self.data).ok()
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mined {
    pub(crate) transaction_hash: B256,
    pub(crate) block_hash: B256,
    block_number: U64,
    status: U64,
    gas_used: U64,
    effective_gas_price: U256,
}

impl Mined {
    pub(crate) fn block(&self) -> u64 {
        self.block_number.to()
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.status.to::<u64>() == 1
    }

    pub(crate) fn cost(&self) -> u128 {
        self.effective_gas_price.saturating_mul(U256::from(self.gas_used)).saturating_to()
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Transaction {
    input: Bytes,
}

impl Chain {
    pub(crate) const fn new(rpc: RpcClient) -> Self {
        Self { rpc }
    }

    pub(crate) async fn id(&self) -> Result<u64, EvmError> {
        Ok(self.ask::<_, U64>("eth_chainId", ()).await?.to())
    }

    pub(crate) async fn head(&self) -> Result<Block, EvmError> {
        let head: Option<Block> = self.ask("eth_getBlockByNumber", ("latest", false)).await?;
        head.ok_or_else(|| EvmError::Node("it has no latest block".into()))
    }

    /// `None` for a block that the node does not have (yet, or any more).
    pub(crate) async fn block(&self, number: u64) -> Result<Option<Block>, EvmError> {
        self.ask("eth_getBlockByNumber", (U64::from(number), false)).await
    }

    pub(crate) async fn has_code(&self, address: Address) -> Result<bool, EvmError> {
        Ok(!self.ask::<_, Bytes>("eth_getCode", (address, "latest")).await?.is_empty())
    }

    pub(crate) async fn balance(&self, account: Address) -> Result<U256, EvmError> {
        self.ask("eth_getBalance", (account, "latest")).await
    }

    /// How many transactions an account has in the chain up to a block; `None` for the newest.
    pub(crate) async fn nonce(&self, account: Address, at: Option<u64>) -> Result<u64, EvmError> {
        Ok(self.ask::<_, U64>("eth_getTransactionCount", (account, tag(at))).await?.to())
    }

    /// What the escrow contract logged of agreements, or of one.
    pub(crate) async fn logs(
        &self,
        address: Address,
        from: u64,
        to: u64,
        agreement: Option<B256>,
    ) -> Result<Vec<Log>, EvmError> {
        let events: Vec<B256> = Escrow::EscrowEvents::SELECTORS.iter().copied().map(B256::from).collect();
        self.logs_of(address, from, to, json!([events, agreement])).await
    }

    /// The transfers from one account to another in a block.
    pub(crate) async fn transfers(
        &self,
        token: Address,
        [from, to]: [Address; 2],
        block: u64,
    ) -> Result<Vec<Log>, EvmError> {
        let topics = json!([Token::Transfer::SIGNATURE_HASH, from.into_word(), to.into_word()]);
        self.logs_of(token, block, block, topics).await
    }

    async fn logs_of(&self, address: Address, from: u64, to: u64, topics: Value) -> Result<Vec<Log>, EvmError> {
        const METHOD: &str = "eth_getLogs";
        let (mut logs, mut ranges) = (Vec::new(), vec![(from, to)]);
        while let Some((first, last)) = ranges.pop() {
            let filter = json!({
                "address": address, "fromBlock": U64::from(first), "toBlock": U64::from(last), "topics": topics,
            });
            match self.rpc.request::<_, Vec<Log>>(METHOD, (filter,)).await {
                Ok(found) => logs.extend(found),
                // Nodes limit the blocks or the logs of one answer, each in its own way.
                Err(RpcError::ErrorResp(_)) if first < last => {
                    let middle = first.midpoint(last);
                    ranges.extend([(middle + 1, last), (first, middle)]);
                }
                Err(error) => return Err(told(METHOD, error)),
            }
        }
        logs.sort_by_key(Log::place);
        let outside = |log: &&Log| log.address != address || !(from..=to).contains(&log.place().0);
        match logs.iter().find(outside) {
            Some(log) => {
                Err(EvmError::Contradiction(format!("a log of {} where {address} was asked for", log.address)))
            }
            None => Ok(logs),
        }
    }

    pub(crate) async fn mined(&self, hash: B256) -> Result<Option<Mined>, EvmError> {
        let mined: Option<Mined> = self.ask("eth_getTransactionReceipt", (hash,)).await?;
        match mined {
            Some(mined) if mined.transaction_hash != hash => {
                Err(EvmError::Contradiction(format!("asked about {hash}, answered about {}", mined.transaction_hash)))
            }
            mined => Ok(mined),
        }
    }

    /// What a transaction was sent with.
    pub(crate) async fn input(&self, hash: B256) -> Result<Option<Bytes>, EvmError> {
        let sent: Option<Transaction> = self.ask("eth_getTransactionByHash", (hash,)).await?;
        Ok(sent.map(|sent| sent.input))
    }

    /// Calls a view.
    pub(crate) async fn read<C: SolCall>(&self, to: Address, call: &C, at: Option<u64>) -> Result<C::Return, EvmError> {
        let answer = self.call(None, to, call.abi_encode().into(), at).await?;
        C::abi_decode_returns(&answer).map_err(|_| EvmError::WrongContract {
            what: C::SIGNATURE,
            address: to,
            found: format!("it answers 0x{}", hex::encode(&answer)),
        })
    }

    /// What a call would do now.
    pub(crate) async fn call(
        &self,
        from: Option<Address>,
        to: Address,
        data: Bytes,
        at: Option<u64>,
    ) -> Result<Bytes, EvmError> {
        self.ask("eth_call", (request(from, to, &data), tag(at))).await
    }

    pub(crate) async fn estimate(&self, from: Address, to: Address, data: &Bytes) -> Result<u64, EvmError> {
        Ok(self.ask::<_, U64>("eth_estimateGas", (request(Some(from), to, data),)).await?.to())
    }

    /// What validators are tipped at the moment, in wei per gas.
    pub(crate) async fn tip(&self) -> Result<u128, EvmError> {
        Ok(self.ask::<_, U256>("eth_maxPriorityFeePerGas", ()).await?.saturating_to())
    }

    /// Hands signed bytes to the network. The answer proves nothing, so only its failure is told.
    pub(crate) async fn send(&self, bytes: &Bytes) -> Result<(), EvmError> {
        self.ask::<_, B256>("eth_sendRawTransaction", (bytes,)).await.map(drop)
    }

    async fn ask<P: RpcSend, R: RpcRecv>(&self, method: &'static str, params: P) -> Result<R, EvmError> {
        self.rpc.request(method, params).await.map_err(|error| told(method, error))
    }
}

fn told(method: &str, error: RpcError<TransportErrorKind>) -> EvmError {
    match error {
        RpcError::ErrorResp(said) => match said.as_revert_data() {
            Some(data) => EvmError::Reverted(Revert::of(&data)),
            None if said.code == 3 || said.message.contains("revert") => {
                EvmError::Reverted(Revert { name: "token".into(), text: said.message.into_owned() })
            }
            None => EvmError::Node(format!("{method}: {} ({})", said.message, said.code)),
        },
        RpcError::Transport(TransportErrorKind::HttpError(answer)) => {
            EvmError::Unreachable(format!("{method}: HTTP status {}", answer.status))
        }
        RpcError::Transport(TransportErrorKind::Custom(error)) => {
            EvmError::Unreachable(format!("{method}: {}", cause(&*error)))
        }
        RpcError::Transport(other) => EvmError::Unreachable(format!("{method}: {other}")),
        other => EvmError::Node(format!("{method}: {other}")),
    }
}

/// The innermost cause. What is around it names the node's address, in which providers have the key.
fn cause<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

fn tag(at: Option<u64>) -> Value {
    at.map_or_else(|| json!("latest"), |number| json!(U64::from(number)))
}

fn request(from: Option<Address>, to: Address, data: &Bytes) -> Value {
    match from {
        Some(from) => json!({ "from": from, "to": to, "data": data }),
        None => json!({ "to": to, "data": data }),
    }
}
