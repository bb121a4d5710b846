//! The relayer: one sequence of transactions of one key.
//!
//! # Protocol
//!
//! The note [`Sequence`] says everything that may be on its way, and every change to it is one
//! compare-and-set, so that any number of processes can work on it:
//!
//! 1. A piece of work has a name. Under a name that is in the sequence, or has ended, nothing is sent again.
//! 2. New work takes the next nonce and is written down with its signed bytes; only then they are sent.
//! 3. What is in no block is sent again, the same bytes. After a few blocks it is signed anew for the same
//!    nonce with a higher fee, written down first; of all attempts of one nonce the chain takes one.
//! 4. A nonce that lies between the chain's and the first in the sequence would stall everything: it is filled
//!    with an empty transfer.
//! 5. Work ends when one of its attempts has enough blocks on top; until then a reorg only puts it back among
//!    what is sent again. Its end is noted under its name before it leaves the sequence.
//! 6. When the chain has used a nonce up, as deep as that, and by none of the attempts, somebody else used the
//!    key: none of the attempts can ever count, and the work takes the next nonce. A node that lags looks the same
//!    for a while, so it has to be seen at several blocks, each higher than the one before; and the attempts stay
//!    known, in case they turn up after all.
//! 7. Sending one piece of work twice must do no harm: it is authorised on chain by something that works once.
//!    Anything else is given as [`Times::Once`]: it never takes another nonce. It is [`Sent::Lost`] instead, and
//!    asked for at each look.
//! 8. Whether work may be given can depend on what else was given ([`Relayer::submit_if`]): that is asked between
//!    reading the sequence and writing it, where nothing else comes in.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_signer::Signer;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tradepost::rail::RailMemory;

use crate::{
    chain::{Block, Chain},
    config::GasPolicy,
    error::EvmError,
    notes,
};

/// Gas beyond the estimate: state may have changed by the time of execution.
const SPARE_GAS: u64 = 30_000;
/// What a settlement action uses at most.
const ORDINARY_GAS: u64 = 200_000;
/// How many transactions may be on their way.
const IN_FLIGHT: usize = 64;
/// How often work is put into the sequence while others change it.
const ATTEMPTS: u32 = 64;
const DAY: u64 = 86_400;
/// At how many newest blocks an attempt must be missing before it is believed that it never was.
const MISSED: u32 = 3;

/// A key that pays for gas, and what it has on its way.
pub(crate) struct Relayer {
    pub(crate) chain: Chain,
    pub(crate) memory: Arc<dyn RailMemory>,
    pub(crate) signer: Arc<dyn Signer + Send + Sync>,
    pub(crate) chain_id: u64,
    pub(crate) confirmations: u64,
    pub(crate) gas: GasPolicy,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sequence {
    /// Grows with every change, so that no two values are alike.
    revision: u64,
    slots: Vec<Slot>,
    /// What was spent on the newest day on which something was, in wei.
    day: u64,
    spent: u128,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Slot {
    nonce: u64,
    /// The work's name; `None` for a filled gap.
    work: Option<String>,
    to: Address,
    data: Bytes,
    gas: u64,
    /// Oldest first; at least one.
    attempts: Vec<Attempt>,
    /// At which newest block none of the attempts was found last, and at how many so far, one after the other.
    #[serde(default)]
    missed: (u64, u32),
    /// Attempts for nonces that somebody else seemed to have used.
    #[serde(default)]
    earlier: Vec<B256>,
    /// Whether it would do harm for a second nonce.
    #[serde(default)]
    once: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Attempt {
    hash: B256,
    bytes: Bytes,
    max_fee: u128,
    tip: u128,
    /// The newest block when it was signed, and its time.
    block: u64,
    time: u64,
}

/// How often a piece of work may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// A second time does nothing.
    Any,
    /// A second time would do harm.
    Once,
}

/// What must be so when a piece of work is given.
#[async_trait]
pub(crate) trait Condition: Send + Sync {
    /// Objects with an error. The relayer is given nothing else until this has answered and the work is written down.
    async fn holds(&self) -> Result<(), EvmError>;
}

struct Always;

#[async_trait]
impl Condition for Always {
    async fn holds(&self) -> Result<(), EvmError> {
        Ok(())
    }
}

/// What became of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sent {
    /// It is on its way.
    UnderWay {
        /// The newest attempt's transaction.
        transaction: B256,
        /// How often it was signed.
        attempts: usize,
        /// Why it is in no block yet, or that it is.
        wait: Wait,
    },
    /// It is in the chain for good.
    Mined {
        /// The transaction.
        transaction: B256,
        /// Its block.
        block: u64,
        /// Whether it did what it was to do.
        succeeded: bool,
        /// What its gas cost, in wei.
        cost: u128,
    },
    /// As far as the node shows, somebody else used its nonce; it is not sent again, for it would do harm twice.
    Lost {
        /// The newest attempt's transaction.
        transaction: B256,
    },
}

/// What a transaction on its way waits for (PG-05: stuck is told apart from slow).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A block.
    Block,
    /// The chain itself: it has brought no block since.
    SlowChain,
    /// Blocks come and leave it out: its fee is at the cap, or an earlier transaction of the relayer is stuck.
    Stuck,
    /// It is in a block; more have to follow.
    Confirmations,
}

impl Relayer {
    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    fn key(&self) -> String {
        format!("relay/{}", self.address())
    }

    /// What became of a piece of work; `None` if nobody has given it.
    pub(crate) async fn find(&self, work: &str) -> Result<Option<Sent>, EvmError> {
        // The sequence first: what leaves it was noted before.
        let sequence: Sequence = notes::read(&*self.memory, &self.key()).await?.unwrap_or_default();
        if let Some(sent) = notes::read(&*self.memory, &ended_key(work)).await? {
            return Ok(Some(sent));
        }
        let Some(slot) = sequence.slots.iter().find(|slot| slot.work.as_deref() == Some(work)) else {
            return self.find_lost(work).await;
        };
        let head = self.chain.head().await?;
        let mined = self.chain.nonce(self.address(), None).await? > slot.nonce;
        Ok(Some(slot.under_way(&head, mined, self.gas.bump_after)))
    }

    async fn find_lost(&self, work: &str) -> Result<Option<Sent>, EvmError> {
        let hashes: Vec<B256> = notes::read(&*self.memory, &lost_key(work)).await?.unwrap_or_default();
        let Some(transaction) = hashes.last().copied() else { return Ok(None) };
        let deep = self.chain.head().await?.number().saturating_sub(self.confirmations);
        let found = self.end_of(&hashes, deep).await?;
        if let Some(sent) = &found {
            notes::put(&*self.memory, &ended_key(work), sent).await?;
        }
        Ok(Some(found.unwrap_or(Sent::Lost { transaction })))
    }

    /// Gives a piece of work that does no harm if it is done twice, unless it was given before.
    pub(crate) async fn submit(&self, work: &str, to: Address, data: Bytes) -> Result<Sent, EvmError> {
        self.submit_if(work, to, data, Times::Any, &Always).await
    }

    /// Gives a piece of work unless it was given before, or the condition objects.
    pub(crate) async fn submit_if(
        &self,
        work: &str,
        to: Address,
        data: Bytes,
        times: Times,
        condition: &dyn Condition,
    ) -> Result<Sent, EvmError> {
        for _ in 0..ATTEMPTS {
            if let Some(sent) = self.find(work).await? {
                return Ok(sent);
            }
            let estimate = self.chain.estimate(self.address(), to, &data).await?;
            let gas = estimate.saturating_add(estimate / 5).saturating_add(SPARE_GAS);
            if gas > self.gas.max_gas {
                return Err(EvmError::GasLimit { gas, cap: self.gas.max_gas });
            }
            let head = self.chain.head().await?;
            let (max_fee, tip) = self.fees(&head).await?;
            let on_chain = self.chain.nonce(self.address(), None).await?;
            let (text, before) = self.sequence().await?;
            // Others may have given it meanwhile; from here on the sequence shows it.
            if let Some(sent) = self.find(work).await? {
                return Ok(sent);
            }
            condition.holds().await?;
            if before.slots.len() >= IN_FLIGHT {
                return Err(EvmError::Queue { most: IN_FLIGHT });
            }
            self.afford(&before, &head, u128::from(gas).saturating_mul(max_fee))?;
            let mut next = before.clone();
            let nonce = before.slots.last().map_or(on_chain, |slot| on_chain.max(slot.nonce + 1));
            let mut slot = Slot {
                nonce,
                work: Some(work.into()),
                to,
                data: data.clone(),
                gas,
                attempts: Vec::new(),
                missed: (0, 0),
                earlier: Vec::new(),
                once: times == Times::Once,
            };
            slot.attempts.push(self.attempt(&slot, max_fee, tip, &head).await?);
            next.slots.push(slot.clone());
            if self.write(text, next).await? {
                self.broadcast(&slot).await;
                return Ok(slot.under_way(&head, false, self.gas.bump_after));
            }
        }
        Err(EvmError::Contention { key: self.key(), attempts: ATTEMPTS })
    }

    /// Whether an ordinary transaction could be sent now.
    pub(crate) async fn ready(&self) -> Result<(), EvmError> {
        let head = self.chain.head().await?;
        let (max_fee, _) = self.fees(&head).await?;
        let (_, sequence) = self.sequence().await?;
        if sequence.slots.len() >= IN_FLIGHT {
            return Err(EvmError::Queue { most: IN_FLIGHT });
        }
        self.afford(&sequence, &head, u128::from(ORDINARY_GAS).saturating_mul(max_fee))
    }

    /// Follows everything on its way; how much of it ended.
    pub(crate) async fn follow(&self) -> Result<usize, EvmError> {
        let (text, before) = self.sequence().await?;
        if before.slots.is_empty() {
            return Ok(0);
        }
        let head = self.chain.head().await?;
        let deep = head.number().saturating_sub(self.confirmations);
        let on_chain = self.chain.nonce(self.address(), None).await?;
        let for_good = self.chain.nonce(self.address(), Some(deep)).await?;
        let mut next = before.clone();
        let (mut ended, mut orphans, mut to_send) = (0, Vec::new(), Vec::new());
        next.slots.clear();
        for slot in before.slots {
            if slot.nonce >= on_chain {
                let slot = self.hurry(slot, &head).await?;
                to_send.push(slot.nonce);
                next.slots.push(slot);
            } else if slot.nonce >= for_good {
                next.slots.push(slot);
            } else {
                match self.end_of(&slot.hashes(), deep).await? {
                    Some(sent) => {
                        self.note_end(&slot, &sent, &head, &mut next).await?;
                        ended += 1;
                    }
                    None => {
                        let mut slot = slot;
                        if head.number() > slot.missed.0 {
                            slot.missed = (head.number(), slot.missed.1 + 1);
                        }
                        match slot.missed.1 < MISSED {
                            true => next.slots.push(slot),
                            false => orphans.push(slot),
                        }
                    }
                }
            }
        }
        self.fill_gap(&mut next, on_chain, &head).await?;
        for mut slot in orphans {
            let Some(work) = &slot.work else { continue };
            if slot.once {
                notes::put(&*self.memory, &lost_key(work), &slot.hashes()).await?;
                continue;
            }
            slot.nonce = next.slots.last().map_or(on_chain, |last| on_chain.max(last.nonce + 1));
            let newest = &slot.attempts[slot.attempts.len() - 1];
            let (max_fee, tip) = (newest.max_fee, newest.tip);
            slot.missed = (0, 0);
            slot.earlier = slot.hashes();
            slot.attempts = vec![self.attempt(&slot, max_fee, tip, &head).await?];
            to_send.push(slot.nonce);
            next.slots.push(slot);
        }
        let sending: Vec<Slot> = next.slots.iter().filter(|slot| slot.nonce >= on_chain).cloned().collect();
        if self.write(text, next).await? {
            for slot in &sending {
                self.broadcast(slot).await;
            }
        }
        Ok(ended)
    }

    /// A transaction that blocks leave out is signed for more, up to the cap.
    async fn hurry(&self, mut slot: Slot, head: &Block) -> Result<Slot, EvmError> {
        let newest = &slot.attempts[slot.attempts.len() - 1];
        if head.number() < newest.block.saturating_add(self.gas.bump_after) {
            return Ok(slot);
        }
        // Nodes want a tenth more; an eighth is above any rounding.
        let raised = |fee: u128| fee.saturating_add(fee / 8).saturating_add(1);
        let (least, least_tip) = (raised(newest.max_fee), raised(newest.tip));
        let (wanted, tip) = match self.fees(head).await {
            Ok(fees) => fees,
            Err(EvmError::GasPrice { .. }) => return Ok(slot), // at the cap: it waits
            Err(error) => return Err(error),
        };
        let (max_fee, tip) = (wanted.max(least), tip.max(least_tip));
        if max_fee > self.gas.max_fee || tip > self.gas.max_tip {
            return Ok(slot);
        }
        let attempt = self.attempt(&slot, max_fee, tip, head).await?;
        slot.attempts.push(attempt);
        Ok(slot)
    }

    /// The attempt that the chain took for good, as its own block says, too; of several, one that succeeded.
    async fn end_of(&self, hashes: &[B256], deep: u64) -> Result<Option<Sent>, EvmError> {
        let mut failed = None;
        for transaction in hashes.iter().rev().copied() {
            let Some(mined) = self.chain.mined(transaction).await? else { continue };
            let block = self.chain.block(mined.block()).await?;
            if mined.block() > deep || block.is_none_or(|block| block.hash != mined.block_hash) {
                let what = format!("{transaction} is in block {}, which is not where it was", mined.block());
                return Err(EvmError::Contradiction(what));
            }
            let (block, succeeded) = (mined.block(), mined.succeeded());
            let sent = Sent::Mined { transaction, block, succeeded, cost: mined.cost() };
            if succeeded {
                return Ok(Some(sent));
            }
            failed = Some(sent);
        }
        Ok(failed)
    }

    async fn note_end(&self, slot: &Slot, sent: &Sent, head: &Block, next: &mut Sequence) -> Result<(), EvmError> {
        if let Sent::Mined { cost, .. } = sent {
            let day = head.time() / DAY;
            next.spent = if next.day == day { next.spent.saturating_add(*cost) } else { *cost };
            next.day = day;
        }
        match &slot.work {
            Some(work) => notes::put(&*self.memory, &ended_key(work), sent).await,
            None => Ok(()),
        }
    }

    /// A reorg deeper than what counts, or a lost sequence, leaves nonces that nobody has: without them nothing
    /// behind them moves.
    async fn fill_gap(&self, next: &mut Sequence, on_chain: u64, head: &Block) -> Result<(), EvmError> {
        let Some(first) = next.slots.first().map(|slot| slot.nonce) else { return Ok(()) };
        let mut fillers = Vec::new();
        for nonce in (on_chain..first).take(IN_FLIGHT) {
            let (max_fee, tip) = match self.fees(head).await {
                Err(EvmError::GasPrice { .. }) => return Ok(()), // it waits, as what is behind it does
                fees => fees?,
            };
            let (to, data) = (self.address(), Bytes::new());
            let mut slot = Slot {
                nonce,
                work: None,
                to,
                data,
                gas: 21_000,
                attempts: Vec::new(),
                missed: (0, 0),
                earlier: Vec::new(),
                once: false,
            };
            slot.attempts.push(self.attempt(&slot, max_fee, tip, head).await?);
            fillers.push(slot);
        }
        next.slots.splice(0..0, fillers);
        Ok(())
    }

    /// What is bid for a unit of gas, and the tip in it.
    async fn fees(&self, head: &Block) -> Result<(u128, u128), EvmError> {
        let tip = self.chain.tip().await?.min(self.gas.max_tip);
        let (base_fee, cap) = (head.base_fee(), self.gas.max_fee);
        // Twice the base fee outlasts six full blocks.
        let wanted = base_fee.saturating_mul(2).saturating_add(tip);
        match base_fee.saturating_add(tip) > cap {
            true => Err(EvmError::GasPrice { base_fee, tip, cap }),
            false => Ok((wanted.min(cap), tip)),
        }
    }

    fn afford(&self, sequence: &Sequence, head: &Block, needed: u128) -> Result<(), EvmError> {
        let today = if sequence.day == head.time() / DAY { sequence.spent } else { 0 };
        let promised = sequence.slots.iter().map(Slot::worst).fold(today, u128::saturating_add);
        let budget = self.gas.daily_budget;
        match promised.saturating_add(needed) > budget {
            true => Err(EvmError::Budget { budget, spent: promised, needed }),
            false => Ok(()),
        }
    }

    async fn attempt(&self, slot: &Slot, max_fee: u128, tip: u128, head: &Block) -> Result<Attempt, EvmError> {
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce: slot.nonce,
            gas_limit: slot.gas,
            max_fee_per_gas: max_fee,
            max_priority_fee_per_gas: tip,
            to: TxKind::Call(slot.to),
            value: U256::ZERO,
            access_list: Default::default(),
            input: slot.data.clone(),
        };
        let signature = self.signer.sign_hash(&transaction.signature_hash()).await?;
        let bytes: Bytes = transaction.into_signed(signature).encoded_2718().into();
        Ok(Attempt { hash: keccak256(&bytes), bytes, max_fee, tip, block: head.number(), time: head.time() })
    }

    /// What the node says to it is no proof of anything, so that it is only logged.
    async fn broadcast(&self, slot: &Slot) {
        let newest = &slot.attempts[slot.attempts.len() - 1];
        if let Err(error) = self.chain.send(&newest.bytes).await {
            tracing::debug!(transaction = %newest.hash, %error, "a transaction was sent");
        }
    }

    async fn sequence(&self) -> Result<(Option<String>, Sequence), EvmError> {
        let text = self.memory.get(&self.key()).await?;
        let read = |text: &String| serde_json::from_str(text);
        let sequence = text.as_ref().map(read).transpose();
        let unreadable = |error: serde_json::Error| EvmError::Unreadable { key: self.key(), why: error.to_string() };
        Ok((text.clone(), sequence.map_err(unreadable)?.unwrap_or_default()))
    }

    /// Writes the next value in the place of the one that was read; whether nobody was faster.
    async fn write(&self, before: Option<String>, mut next: Sequence) -> Result<bool, EvmError> {
        next.revision += 1;
        let text = serde_json::to_string(&next)
            .map_err(|error| EvmError::Unreadable { key: self.key(), why: error.to_string() })?;
        Ok(self.memory.swap(&self.key(), before.as_deref(), &text).await?)
    }
}

impl Slot {
    /// Every attempt that may turn up, oldest first.
    fn hashes(&self) -> Vec<B256> {
        self.earlier.iter().copied().chain(self.attempts.iter().map(|attempt| attempt.hash)).collect()
    }

    /// What it costs at most, in wei.
    fn worst(&self) -> u128 {
        let dearest = self.attempts.iter().map(|attempt| attempt.max_fee).max().unwrap_or_default();
        u128::from(self.gas).saturating_mul(dearest)
    }

    fn under_way(&self, head: &Block, mined: bool, patience: u64) -> Sent {
        let newest = &self.attempts[self.attempts.len() - 1];
        let wait = match head.number().saturating_sub(newest.block) {
            _ if mined => Wait::Confirmations,
            0 if head.time() <= newest.time => Wait::SlowChain,
            blocks if blocks > patience => Wait::Stuck,
            _ => Wait::Block,
        };
        Sent::UnderWay { transaction: newest.hash, attempts: self.attempts.len(), wait }
    }
}

fn lost_key(work: &str) -> String {
    format!("lost/{work}")
}

fn ended_key(work: &str) -> String {
    format!("sent/{work}")
}
