//! The chain: blocks of transactions that the real programs ran, and what a node knows of them.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{LazyLock, Mutex},
};

use litesvm::LiteSVM;
use rand::{Rng, SeedableRng, rngs::StdRng};
use solana_account::Account;
use solana_address_lookup_table_interface::state::LOOKUP_TABLE_META_SIZE;
use solana_commitment_config::CommitmentLevel;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_message::VersionedMessage;
use solana_nonce::{
    state::{DurableNonce, State},
    versions::Versions,
};
use solana_program_pack::Pack;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_system_interface::{instruction::SystemInstruction, program::ID as SYSTEM};
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;
use solana_transaction_status_client_types::{
    UiCompiledInstruction, UiInnerInstructions, UiInstruction, UiLoadedAddresses, UiTransactionStatusMeta,
    UiTransactionTokenBalance, option_serializer::OptionSerializer,
};

/// How many blocks behind the last one the confirmed and the finalized one are.
const CONFIRMED: usize = 1;
const FINALIZED: usize = 3;
/// The token programs whose accounts a node tells the balances of.
const TOKEN_2022: Pubkey = solana_pubkey::pubkey!("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");

/// A chain without accounts. Its programs are compiled once, for all nodes of the process. Signatures and blockhashes
/// are checked by the node, see [`Node::take`] and [`Node::tick`].
static EMPTY: LazyLock<Mutex<LiteSVM>> =
    LazyLock::new(|| Mutex::new(LiteSVM::new().with_sigverify(false).with_blockhash_check(false)));

/// A chain, and a node that may be behind it or have forgotten its beginning.
pub struct Node {
    pub(super) svm: LiteSVM,
    pub(super) blocks: Vec<Block>,
    pool: VecDeque<Held>,
    pub(super) landed: HashMap<Signature, (u64, Option<TransactionError>)>,
    accounts: HashMap<Pubkey, Vec<(u64, Option<Account>)>>,
    faucet: Keypair,
    rng: StdRng,
    /// For how many blocks a blockhash is good.
    pub valid_for: u64,
    /// What the node says its genesis is, if it lies or is of another cluster.
    pub other_genesis: Option<Hash>,
    /// How many blocks the node is behind.
    pub lag: usize,
    /// How many blocks further behind the node is that tells statuses.
    pub status_lag: usize,
    /// The first slot that the node still has the transactions of.
    pub oldest: u64,
    /// Slots that the node lacks in the middle, as after a restart from a newer snapshot.
    pub hole: Range<u64>,
    /// Whether a block is made with every request for accounts.
    pub hurries: bool,
    /// A transaction that is of a version that nobody knows yet.
    pub newer: Option<Signature>,
    /// What the node says that every transaction would fail by, whether it would or not.
    pub simulates: Option<TransactionError>,
    /// The next transaction sent waits for so many blocks before one takes it.
    pub hold_next: u32,
    /// A transaction waits at random for up to so many blocks.
    pub dawdle: u32,
    /// How likely a slot has no block, in thousandths.
    pub skip: u32,
    /// How likely a transaction is lost between the node and the chain, in thousandths.
    pub lose: u32,
}

struct Held {
    transaction: VersionedTransaction,
    blocks: u32,
}

pub(super) struct Block {
    pub(super) slot: u64,
    pub(super) height: u64,
    pub(super) parent: u64,
    pub(super) hash: Hash,
    pub(super) previous: Hash,
    pub(super) transactions: Vec<(VersionedTransaction, UiTransactionStatusMeta)>,
}

impl Node {
    pub(super) fn new(seed: u64) -> Self {
        let mut svm = EMPTY.lock().unwrap().clone();
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let faucet = Keypair::new_from_array(rng.random());
        let rich = Account { lamports: 1_000_000_000_000_000, ..Account::default() };
        svm.set_account(faucet.pubkey(), rich.clone()).unwrap();
        let genesis = Hash::new_from_array(rng.random());
        let first =
            Block { slot: 0, height: 0, parent: 0, hash: genesis, previous: Hash::default(), transactions: Vec::new() };
        let accounts = HashMap::from([(faucet.pubkey(), vec![(0, Some(rich))])]);
        let mut node = Self {
            svm,
            blocks: vec![first],
            pool: VecDeque::new(),
            landed: HashMap::new(),
            accounts,
            faucet,
            rng,
            valid_for: 20,
            other_genesis: None,
            lag: 0,
            status_lag: 0,
            oldest: 0,
            hole: 0..0,
            hurries: false,
            newer: None,
            simulates: None,
            hold_next: 0,
            dawdle: 0,
            skip: 0,
            lose: 0,
        };
        (0..5).for_each(|_| node.tick());
        node
    }

    pub(super) fn genesis(&self) -> Hash {
        self.other_genesis.unwrap_or(self.blocks[0].hash)
    }

    /// Takes a transaction in, as a node does: what it says is that it will pass it on.
    pub(super) fn take(&mut self, transaction: VersionedTransaction) -> Result<Signature, String> {
        if transaction.verify_with_results().iter().any(|good| !good) {
            return Err("Transaction signature verification failure".into());
        }
        let signature = transaction.signatures[0];
        let lost = self.rng.random_range(0..1000) < self.lose;
        let known = self.landed.contains_key(&signature)
            || self.pool.iter().any(|held| held.transaction.signatures[0] == signature);
        if !known && !lost {
            let blocks = match std::mem::take(&mut self.hold_next) {
                0 if self.dawdle > 0 => self.rng.random_range(0..=self.dawdle),
                blocks => blocks,
            };
            self.pool.push_back(Held { transaction, blocks });
        }
        Ok(signature)
    }

    /// Lamports from nowhere, as an ordinary transaction.
    pub(super) fn airdrop(&mut self, to: &Pubkey, lamports: u64) -> Signature {
        let pay = solana_system_interface::instruction::transfer(&self.faucet.pubkey(), to, lamports);
        let blockhash = self.blocks.last().unwrap().hash;
        let message = solana_message::Message::new_with_blockhash(&[pay], Some(&self.faucet.pubkey()), &blockhash);
        let message = VersionedMessage::Legacy(message);
        let transaction = VersionedTransaction::try_new(message, &[&self.faucet]).unwrap();
        let signature = transaction.signatures[0];
        self.pool.push_back(Held { transaction, blocks: 0 });
        signature
    }

    /// Instructions of somebody who has a node of their own: in the next block, whatever goes wrong here.
    pub fn run_now(&mut self, instructions: &[solana_instruction::Instruction], signers: &[&Keypair]) -> Signature {
        self.run_in(0, instructions, signers)
    }

    /// The same so many blocks later.
    pub fn run_in(
        &mut self,
        blocks: u32,
        instructions: &[solana_instruction::Instruction],
        signers: &[&Keypair],
    ) -> Signature {
        let blockhash = self.blocks.last().unwrap().hash;
        let payer = signers[0].pubkey();
        let message = solana_message::Message::new_with_blockhash(instructions, Some(&payer), &blockhash);
        let transaction = VersionedTransaction::try_new(VersionedMessage::Legacy(message), signers).unwrap();
        let signature = transaction.signatures[0];
        self.pool.push_back(Held { transaction, blocks });
        signature
    }

    /// Makes this of an account, as no transaction could.
    pub fn put(&mut self, key: Pubkey, account: Account) {
        let (slot, before) = (self.slot(), self.svm.get_account(&key));
        let past = self.accounts.entry(key).or_insert_with(|| vec![(0, before)]);
        past.push((slot, Some(account.clone())));
        self.svm.set_account(key, account).unwrap();
    }

    /// Whether a transaction is in a block, and failed.
    pub fn is_failed(&self, signature: &Signature) -> bool {
        self.landed.get(signature).is_some_and(|(_, error)| error.is_some())
    }

    /// One more block, with what is due.
    pub fn tick(&mut self) {
        let (parent, height, previous) = {
            let last = self.blocks.last().unwrap();
            (last.slot, last.height + 1, last.hash)
        };
        let mut slot = parent + 1;
        while self.rng.random_range(0..1000) < self.skip {
            slot += 1;
        }
        let hash = Hash::new_from_array(self.rng.random());
        self.svm.warp_to_slot(slot);
        let mut transactions = Vec::new();
        for mut held in std::mem::take(&mut self.pool) {
            if held.blocks > 0 {
                held.blocks -= 1;
                self.pool.push_back(held);
                continue;
            }
            let nonce = self.nonce_of(&held.transaction.message, &previous);
            if nonce.is_some() || self.is_valid(held.transaction.message.recent_blockhash(), height) {
                transactions.extend(self.run(held.transaction, slot, &previous, nonce));
            }
        }
        self.blocks.push(Block { slot, height, parent, hash, previous, transactions });
    }

    fn is_valid(&self, blockhash: &Hash, height: u64) -> bool {
        let known = self.blocks.iter().rev().take(self.valid_for as usize + 1);
        known.filter(|block| block.hash == *blockhash).any(|block| height <= block.height + self.valid_for)
    }

    /// The nonce account whose nonce a transaction carries in the place of a blockhash, if the runtime would let it:
    /// the first instruction advances it, its authority signs, and it was not advanced in this block already.
    fn nonce_of(&self, message: &VersionedMessage, previous: &Hash) -> Option<Pubkey> {
        let (first, keys) = (message.instructions().first()?, message.static_account_keys());
        let advance = bincode::serialize(&SystemInstruction::AdvanceNonceAccount).unwrap();
        if keys[usize::from(first.program_id_index)] != SYSTEM || first.data != advance {
            return None;
        }
        let account = usize::from(*first.accounts.first()?);
        let versions = bincode::deserialize(&self.svm.get_account(&keys[account])?.data).ok()?;
        let Versions::Current(state) = versions else { return None };
        let State::Initialized(data) = *state else { return None };
        let signs = |index: &u8| message.is_signer(usize::from(*index)) && keys[usize::from(*index)] == data.authority;
        let good = data.blockhash() == *message.recent_blockhash()
            && data.durable_nonce != DurableNonce::from_blockhash(previous)
            && message.is_maybe_writable(account, None)
            && first.accounts.iter().any(signs);
        good.then_some(keys[account])
    }

    /// What a transaction names by lookup tables: what it may write, and what it only reads.
    fn loaded(&self, message: &VersionedMessage) -> [Vec<Pubkey>; 2] {
        let mut loaded = [Vec::new(), Vec::new()];
        for lookup in message.address_table_lookups().unwrap_or_default() {
            let Some(table) = self.svm.get_account(&lookup.account_key) else { continue };
            let addresses = table.data.get(LOOKUP_TABLE_META_SIZE..).unwrap_or_default().chunks_exact(32);
            let addresses: Vec<Pubkey> = addresses.map(|bytes| Pubkey::try_from(bytes).unwrap()).collect();
            for (of, indexes) in [(0, &lookup.writable_indexes), (1, &lookup.readonly_indexes)] {
                loaded[of].extend(indexes.iter().filter_map(|index| addresses.get(usize::from(*index))));
            }
        }
        loaded
    }

    /// A transaction that failed has advanced its nonce all the same.
    fn advance(&mut self, account: Pubkey, previous: &Hash) {
        let mut found = self.svm.get_account(&account).unwrap();
        let Ok(Versions::Current(state)) = bincode::deserialize(&found.data) else { return };
        let State::Initialized(mut data) = *state else { return };
        data.durable_nonce = DurableNonce::from_blockhash(previous);
        found.data = bincode::serialize(&Versions::new(State::Initialized(data))).unwrap();
        self.svm.set_account(account, found).unwrap();
    }

    fn run(
        &mut self,
        transaction: VersionedTransaction,
        slot: u64,
        previous: &Hash,
        nonce: Option<Pubkey>,
    ) -> Option<(VersionedTransaction, UiTransactionStatusMeta)> {
        let signature = transaction.signatures[0];
        if self.landed.contains_key(&signature) {
            return None;
        }
        let loaded = self.loaded(&transaction.message);
        let mut keys = transaction.message.static_account_keys().to_vec();
        keys.extend(loaded.iter().flatten());
        let before: Vec<_> = keys.iter().map(|key| self.svm.get_account(key)).collect();
        // The runtime's blockhash is the previous block's, whatever the transaction carries; this one takes it from there.
        let mut run = transaction.clone();
        run.message.set_recent_blockhash(*previous);
        let (error, meta) = match self.svm.send_transaction(run) {
            Ok(meta) => (None, meta),
            Err(failed) if failed.meta.compute_units_consumed > 0 => {
                nonce.into_iter().for_each(|account| self.advance(account, previous));
                (Some(failed.err), failed.meta)
            }
            Err(_) => return None, // no block takes it
        };
        let after: Vec<_> = keys.iter().map(|key| self.svm.get_account(key)).collect();
        for ((key, before), after) in keys.iter().zip(&before).zip(&after) {
            if before != after {
                let past = self.accounts.entry(*key).or_insert_with(|| vec![(0, before.clone())]);
                past.push((slot, after.clone()));
            }
        }
        self.landed.insert(signature, (slot, error.clone()));
        let inner = meta.inner_instructions.iter().enumerate().filter(|(_, made)| !made.is_empty());
        let inner = inner.map(|(index, made)| UiInnerInstructions {
            index: index as u8,
            instructions: made
                .iter()
                .map(|one| {
                    let depth = Some(u32::from(one.stack_height));
                    UiInstruction::Compiled(UiCompiledInstruction::from(&one.instruction, depth))
                })
                .collect(),
        });
        let lamports = |all: &[Option<Account>]| all.iter().map(|one| one.as_ref().map_or(0, |a| a.lamports)).collect();
        let meta = UiTransactionStatusMeta {
            err: error.clone().map(Into::into),
            status: error.map_or(Ok(()), |error| Err(error.into())),
            fee: meta.fee,
            pre_balances: lamports(&before),
            post_balances: lamports(&after),
            inner_instructions: OptionSerializer::Some(inner.collect()),
            log_messages: OptionSerializer::Some(meta.logs),
            pre_token_balances: OptionSerializer::Some(token_balances(&before)),
            post_token_balances: OptionSerializer::Some(token_balances(&after)),
            rewards: OptionSerializer::None,
            loaded_addresses: OptionSerializer::Some(UiLoadedAddresses {
                writable: loaded[0].iter().map(ToString::to_string).collect(),
                readonly: loaded[1].iter().map(ToString::to_string).collect(),
            }),
            return_data: OptionSerializer::Skip,
            compute_units_consumed: OptionSerializer::Some(meta.compute_units_consumed),
            cost_units: OptionSerializer::Skip,
        };
        Some((transaction, meta))
    }

    /// Whether the node has what happened in a slot.
    pub(super) fn has(&self, slot: u64) -> bool {
        slot >= self.oldest && !self.hole.contains(&slot)
    }

    /// The last block that a commitment lets the node see.
    pub(super) fn seen(&self, commitment: CommitmentLevel) -> &Block {
        self.seen_behind(commitment, self.lag)
    }

    /// The same by a node that is so many blocks behind.
    pub(super) fn seen_behind(&self, commitment: CommitmentLevel, lag: usize) -> &Block {
        let behind = match commitment {
            CommitmentLevel::Processed => 0,
            CommitmentLevel::Confirmed => CONFIRMED,
            CommitmentLevel::Finalized => FINALIZED,
        };
        &self.blocks[self.blocks.len().saturating_sub(1 + lag + behind)]
    }

    /// An account as it was after a slot.
    pub(super) fn account(&self, key: &Pubkey, slot: u64) -> Option<Account> {
        match self.accounts.get(key) {
            Some(past) => past.iter().rev().find(|(at, _)| *at <= slot).and_then(|(_, account)| account.clone()),
            None => self.svm.get_account(key),
        }
    }

    pub(super) fn block(&self, slot: u64) -> Option<&Block> {
        self.blocks.binary_search_by_key(&slot, |block| block.slot).ok().map(|at| &self.blocks[at])
    }

    /// Every transfer's effect on a token account that any block holds, without regard to what a node
    /// says: the minor units it has now.
    pub fn tokens(&self, account: &Pubkey) -> u64 {
        let state = self.svm.get_account(account).filter(|account| account.owner == spl_token_interface::ID);
        state
            .and_then(|account| spl_token_interface::state::Account::unpack(&account.data).ok())
            .map_or(0, |t| t.amount)
    }

    /// Whether a transaction waits for a block.
    pub fn is_settled(&self) -> bool {
        self.pool.is_empty()
    }

    /// The slot that a transaction landed in.
    pub fn slot_of(&self, signature: &Signature) -> u64 {
        self.landed[signature].0
    }

    /// The last block's height.
    pub fn height(&self) -> u64 {
        self.blocks.last().unwrap().height
    }

    /// The last slot.
    pub fn slot(&self) -> u64 {
        self.blocks.last().unwrap().slot
    }
}

fn token_balances(accounts: &[Option<Account>]) -> Vec<UiTransactionTokenBalance> {
    let mut found = Vec::new();
    for (index, account) in accounts.iter().enumerate() {
        let Some(account) = account else { continue };
        let known = account.owner == spl_token_interface::ID || account.owner == TOKEN_2022;
        let Some(data) = account.data.get(..165).filter(|_| known) else { continue };
        let Ok(token) = spl_token_interface::state::Account::unpack(data) else { continue };
        found.push(UiTransactionTokenBalance {
            account_index: index as u8,
            mint: token.mint.to_string(),
            ui_token_amount: serde_json::from_value(serde_json::json!({
                "uiAmount": null, "decimals": 6, "amount": token.amount.to_string(),
                "uiAmountString": token.amount.to_string(),
            }))
            .unwrap(),
            owner: OptionSerializer::Some(token.owner.to_string()),
            program_id: OptionSerializer::Some(account.owner.to_string()),
        });
    }
    found
}
