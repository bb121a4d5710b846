//! What the rail asks of a Solana node, and what a node's failures mean. Every call but
//! [`Chain::send`] only reads, so that its failure proves that nothing happened.

use std::{sync::Arc, time::Duration};

use solana_account_decoder_client_types::UiAccountEncoding;
use solana_client::{
    client_error::{ClientError, ClientErrorKind},
    nonblocking::rpc_client::RpcClient,
    rpc_config::{
        RpcAccountInfoConfig, RpcBlockConfig, RpcSendTransactionConfig, RpcSimulateTransactionConfig,
        RpcTransactionConfig,
    },
    rpc_request::RpcError,
};
use solana_commitment_config::CommitmentConfig;
use solana_hash::Hash;
use solana_nonce::{state::State, versions::Versions};
use solana_program_pack::Pack;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;
use solana_transaction_status_client_types::{
    EncodedConfirmedTransactionWithStatusMeta, TransactionDetails, TransactionStatus, UiConfirmedBlock,
    UiTransactionEncoding,
};
use spl_token_interface::state::Account as TokenAccount;
use tradepost::rail::{RailError, RailErrorKind};

use crate::config::Finality;

/// How many accounts a node tells of at once.
pub(crate) const ACCOUNTS_AT_ONCE: usize = 100;
/// How long to leave a node alone that says it is busy.
const BUSY: Duration = Duration::from_secs(2);

/// A node, asked at one finality.
#[derive(Clone)]
pub(crate) struct Chain {
    rpc: Arc<RpcClient>,
    pub(crate) finality: Finality,
}

/// An account, as far as the rail cares.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) lamports: u64,
    pub(crate) owner: Pubkey,
    data: Vec<u8>,
}

impl Account {
    /// What it says as a token account of the classic program.
    pub(crate) fn token(&self) -> Option<TokenAccount> {
        (self.owner == spl_token_interface::ID).then(|| TokenAccount::unpack(&self.data).ok()).flatten()
    }

    /// What it says as a nonce account.
    pub(crate) fn nonce(&self) -> Option<Nonce> {
        if self.owner != solana_system_interface::program::ID {
            return None;
        }
        let versions: Versions = bincode::deserialize(&self.data).ok()?;
        let durable = matches!(versions, Versions::Current(_));
        let State::Initialized(data) = versions.state() else { return None };
        let (value, authority) = (data.blockhash(), data.authority);
        Some(Nonce { value, authority, durable })
    }

    /// Whether nothing was made of it yet: it may have lamports all the same.
    pub(crate) fn is_blank(&self) -> bool {
        self.owner == solana_system_interface::program::ID && self.data.is_empty()
    }

    /// What it says as a mint of the classic program.
    pub(crate) fn mint(&self) -> Option<spl_token_interface::state::Mint> {
        let mint = || spl_token_interface::state::Mint::unpack(&self.data).ok();
        (self.owner == spl_token_interface::ID).then(mint).flatten()
    }
}

/// What a nonce account says.
pub(crate) struct Nonce {
    pub(crate) value: Hash,
    /// Who may advance it.
    pub(crate) authority: Pubkey,
    /// Whether it is of the version that transactions can be signed on.
    pub(crate) durable: bool,
}

/// The minor units in a token account; nothing if there is none.
pub(crate) fn tokens(account: Option<&Account>) -> u64 {
    account.and_then(Account::token).map_or(0, |token| token.amount)
}

/// A place in the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tip {
    pub(crate) slot: u64,
    pub(crate) height: u64,
}

/// How a transaction would have run.
pub(crate) struct Simulated {
    pub(crate) error: Option<TransactionError>,
    pub(crate) units: u64,
}

impl Chain {
    pub(crate) fn new(rpc: Arc<RpcClient>, finality: Finality) -> Self {
        Self { rpc, finality }
    }

    /// Fails if the node is of another cluster than that of a genesis.
    pub(crate) async fn is_of(&self, genesis: &Hash) -> Result<(), RailError> {
        let found = self.rpc.get_genesis_hash().await.map_err(failed)?;
        let other = || format!("the node is of cluster {found}, configured is {genesis}");
        if found == *genesis { Ok(()) } else { Err(RailError::new(RailErrorKind::Refused, other())) }
    }

    /// The last slot that counts.
    pub(crate) async fn slot(&self) -> Result<u64, RailError> {
        self.rpc.get_slot_with_commitment(self.finality.commitment()).await.map_err(failed)
    }

    /// The last finalized slot, and its block's height: what can still land is judged by it, whatever counts otherwise.
    pub(crate) async fn tip(&self) -> Result<Tip, RailError> {
        self.tip_by(CommitmentConfig::finalized()).await
    }

    /// The last confirmed slot, and its block's height: what was just signed comes after it.
    pub(crate) async fn newest(&self) -> Result<Tip, RailError> {
        self.tip_by(CommitmentConfig::confirmed()).await
    }

    async fn tip_by(&self, commitment: CommitmentConfig) -> Result<Tip, RailError> {
        let info = self.rpc.get_epoch_info_with_commitment(commitment).await.map_err(failed)?;
        Ok(Tip { slot: info.absolute_slot, height: info.block_height })
    }

    /// The first slot of which the node still has the transactions.
    pub(crate) async fn first_slot(&self) -> Result<u64, RailError> {
        self.rpc.get_first_available_block().await.map_err(failed)
    }

    /// Accounts as they are at the rail's finality, and in which slot that was: one request.
    pub(crate) async fn accounts(&self, keys: &[Pubkey]) -> Result<(u64, Vec<Option<Account>>), RailError> {
        self.accounts_by(keys, self.finality.commitment()).await
    }

    /// The same as they are finalized.
    pub(crate) async fn finalized(&self, keys: &[Pubkey]) -> Result<(u64, Vec<Option<Account>>), RailError> {
        self.accounts_by(keys, CommitmentConfig::finalized()).await
    }

    async fn accounts_by(
        &self,
        keys: &[Pubkey],
        commitment: CommitmentConfig,
    ) -> Result<(u64, Vec<Option<Account>>), RailError> {
        let config = RpcAccountInfoConfig {
            encoding: Some(UiAccountEncoding::Base64),
            commitment: Some(commitment),
            ..RpcAccountInfoConfig::default()
        };
        let answer = self.rpc.get_multiple_ui_accounts_with_config(keys, config).await.map_err(failed)?;
        if answer.value.len() != keys.len() {
            return Err(nonsense(format!("{} accounts asked for, {} answered", keys.len(), answer.value.len())));
        }
        let account = |account: solana_account_decoder_client_types::UiAccount| {
            let owner = account.owner.parse().map_err(|_| nonsense("an account's owner is no address"))?;
            let data = account.data.decode().ok_or_else(|| nonsense("an account's data cannot be decoded"))?;
            Ok(Account { lamports: account.lamports, owner, data })
        };
        let accounts = answer.value.into_iter().map(|found| found.map(account).transpose());
        Ok((answer.context.slot, accounts.collect::<Result<_, RailError>>()?))
    }

    /// Up to `limit` slots from `from` on that have a block that counts.
    pub(crate) async fn blocks(&self, from: u64, limit: usize) -> Result<Vec<u64>, RailError> {
        let commitment = self.finality.commitment();
        self.rpc.get_blocks_with_limit_and_commitment(from, limit, commitment).await.map_err(failed)
    }

    /// A block with its transactions.
    pub(crate) async fn block(&self, slot: u64) -> Result<UiConfirmedBlock, RailError> {
        self.block_with(slot, TransactionDetails::Full).await
    }

    /// The height of a block, and the slot of the one before it.
    pub(crate) async fn height_of(&self, slot: u64) -> Result<(u64, u64), RailError> {
        let block = self.block_with(slot, TransactionDetails::None).await?;
        let height = block.block_height.ok_or_else(|| nonsense(format!("block {slot} has no height")))?;
        Ok((height, block.parent_slot))
    }

    /// The signatures of a block's transactions, in their order.
    pub(crate) async fn signatures(&self, slot: u64) -> Result<Vec<String>, RailError> {
        let block = self.block_with(slot, TransactionDetails::Signatures).await?;
        block.signatures.ok_or_else(|| nonsense(format!("block {slot} comes without signatures")))
    }

    async fn block_with(&self, slot: u64, details: TransactionDetails) -> Result<UiConfirmedBlock, RailError> {
        let config = RpcBlockConfig {
            encoding: Some(UiTransactionEncoding::Base64),
            transaction_details: Some(details),
            rewards: Some(false),
            commitment: Some(self.finality.commitment()),
            // One transaction of a version that nobody here can read must not hide the others.
            max_supported_transaction_version: Some(u8::MAX),
        };
        self.rpc.get_block_with_config(slot, config).await.map_err(failed)
    }

    /// A transaction that counts.
    pub(crate) async fn transaction(
        &self,
        signature: &Signature,
    ) -> Result<EncodedConfirmedTransactionWithStatusMeta, RailError> {
        let config = RpcTransactionConfig {
            encoding: Some(UiTransactionEncoding::Base64),
            commitment: Some(self.finality.commitment()),
            max_supported_transaction_version: Some(0),
        };
        self.rpc.get_transaction_with_config(signature, config).await.map_err(failed)
    }

    /// What the node knows of transactions, its whole history searched, and in which slot it knew it.
    pub(crate) async fn statuses(
        &self,
        signatures: &[Signature],
    ) -> Result<(u64, Vec<Option<TransactionStatus>>), RailError> {
        let answer = self.rpc.get_signature_statuses_with_history(signatures).await.map_err(failed)?;
        if answer.value.len() != signatures.len() {
            return Err(nonsense(format!("{} statuses for {} signatures", answer.value.len(), signatures.len())));
        }
        Ok((answer.context.slot, answer.value))
    }

    /// A recent blockhash, and the last block height at which it is good.
    pub(crate) async fn blockhash(&self) -> Result<(Hash, u64), RailError> {
        let commitment = CommitmentConfig::confirmed();
        self.rpc.get_latest_blockhash_with_commitment(commitment).await.map_err(failed)
    }

    pub(crate) async fn rent(&self, bytes: usize) -> Result<u64, RailError> {
        self.rpc.get_minimum_balance_for_rent_exemption(bytes).await.map_err(failed)
    }

    /// Runs a transaction without its signatures and without effect.
    pub(crate) async fn simulate(&self, transaction: &VersionedTransaction) -> Result<Simulated, RailError> {
        let config = RpcSimulateTransactionConfig {
            sig_verify: false,
            replace_recent_blockhash: true,
            commitment: Some(CommitmentConfig::confirmed()),
            encoding: Some(UiTransactionEncoding::Base64),
            ..RpcSimulateTransactionConfig::default()
        };
        let answer = self.rpc.simulate_transaction_with_config(transaction, config).await.map_err(failed)?.value;
        Ok(Simulated { error: answer.err.map(Into::into), units: answer.units_consumed.unwrap_or_default() })
    }

    /// Hands a signed transaction to the node. What became of it is never read from the answer, only
    /// from its status: a node may refuse what another has already taken.
    pub(crate) async fn send(&self, transaction: &VersionedTransaction) {
        let config = RpcSendTransactionConfig {
            skip_preflight: true,
            encoding: Some(UiTransactionEncoding::Base64),
            ..RpcSendTransactionConfig::default()
        };
        if let Err(error) = self.rpc.send_transaction_with_config(transaction, config).await.map_err(failed) {
            tracing::debug!(%error, "a node did not take a transaction");
        }
    }
}

/// What the failure of a call that only reads means.
fn failed(error: ClientError) -> RailError {
    let kind = match error.kind() {
        ClientErrorKind::RpcError(RpcError::RpcResponseError { code, .. }) => match code {
            // unhealthy, not reached the slot, block status not available yet, no snapshot
            -32005 | -32016 | -32014 | -32004 | -32008 => RailErrorKind::Busy(BUSY),
            // the method or its parameters are not known, not authorized
            -32601 | -32602 | -32010 => RailErrorKind::Refused,
            _ => RailErrorKind::NotSent,
        },
        ClientErrorKind::Reqwest(source) => match source.status().map(|status| status.as_u16()) {
            Some(429 | 503) => RailErrorKind::Busy(BUSY),
            Some(401 | 403 | 404) => RailErrorKind::Refused,
            _ => RailErrorKind::NotSent,
        },
        ClientErrorKind::Io(_)
        | ClientErrorKind::Middleware(_)
        | ClientErrorKind::RpcError(_)
        | ClientErrorKind::SerdeJson(_)
        | ClientErrorKind::SigningError(_)
        | ClientErrorKind::TransactionError(_)
        | ClientErrorKind::Custom(_) => RailErrorKind::NotSent,
    };
    // A node's address may carry an API key, and the error's text the address.
    let method = error.request().map_or_else(|| "a request".into(), ToString::to_string);
    let what = match error.kind() {
        ClientErrorKind::RpcError(error) => error.to_string(),
        ClientErrorKind::Reqwest(source) if source.is_connect() => "the node cannot be reached".into(),
        ClientErrorKind::Reqwest(source) if source.is_timeout() => "the node does not answer in time".into(),
        ClientErrorKind::Reqwest(source) => match source.status() {
            Some(status) => format!("the node answers {status}"),
            None => "the connection to the node broke".into(),
        },
        ClientErrorKind::SerdeJson(error) => format!("the node's answer is not understood: {error}"),
        _ => "the node's client failed".into(),
    };
    RailError::new(kind, format!("{method}: {what}"))
}

/// An answer that no honest node gives.
pub(crate) fn nonsense(what: impl Into<String>) -> RailError {
    RailError::new(RailErrorKind::NotSent, what)
}
