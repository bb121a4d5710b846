//! Finding deposits.
//!
//! # Protocol
//!
//! Blocks are read one after the other, whole, and every movement of the token in them is compared
//! with the addresses handed out. So a poll costs what the chain produced since the last one, whether
//! there are ten addresses or ten million, and nothing is asked per address.
//!
//! Each block names the one before it by its hash. The cursor carries the last hash read, and a block
//! that does not follow it is refused: a node that lacks a part of the history, lags, or is of another
//! cluster can stop the reading, and cannot make it skip a deposit. Before the first block is read there is
//! no hash, so the node has to be of the configured cluster, and its history to reach back to where the
//! reading begins.
//!
//! The end of the reading is fixed before the list of addresses is brought up to date: an address
//! handed out later cannot have got anything in a block that counted before.

use futures::{StreamExt, TryStreamExt, stream};
use solana_pubkey::Pubkey;
use solana_transaction_status_client_types::{EncodedTransactionWithStatusMeta, UiConfirmedBlock};
use tradepost::rail::{Cursor, Observation, ObservationBody, Observations, RailError, RailErrorKind};

use crate::{
    address::token_account,
    chain::nonsense,
    incident::Incident,
    rail::SolanaRail,
    transfers::{Read, Side, changes, is_newer, touches},
};

/// How many blocks are asked for at once.
const AT_ONCE: usize = 4;

/// Where the reading stands: the last block read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    slot: u64,
    blockhash: String,
}

impl SolanaRail {
    pub(crate) async fn read_deposits(&self, after: &Cursor) -> Result<Observations, RailError> {
        let place = parse(after)?;
        let tip = self.chain.slot().await?;
        self.agents.refresh(&*self.memory).await?;
        let from = place.as_ref().map_or(self.config.first_slot, |place| place.slot + 1);
        let nothing = Observations { items: Vec::new(), next: after.clone() };
        if from > tip {
            return Ok(nothing);
        }
        let slots = self.chain.blocks(from, self.config.blocks_per_poll.max(1)).await?;
        if place.is_none() {
            self.begins_at(from).await?;
        }
        let blocks = stream::iter(slots.into_iter().filter(|slot| (from..=tip).contains(slot)))
            .map(|slot| async move { Ok::<_, RailError>((slot, self.chain.block(slot).await?)) })
            .buffered(AT_ONCE);
        futures::pin_mut!(blocks);
        let (mut items, mut last) = (Vec::new(), place);
        loop {
            let read = match blocks.try_next().await {
                Ok(Some((slot, block))) => self.read_block(last.as_ref(), slot, block).await.map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            match read {
                Ok(Some((found, place))) => {
                    items.extend(found);
                    last = Some(place);
                }
                Ok(None) => break,
                // What was read is told; the rest is asked for again.
                Err(_) if last.as_ref().is_some_and(|last| last.slot >= from) => break,
                Err(error) => return Err(error),
            }
        }
        match last {
            Some(last) if last.slot >= from => Ok(Observations { items, next: cursor(&last) }),
            _ => Ok(nothing),
        }
    }

    /// Fails if the node is none whose first block can be believed. Asked after the blocks were listed: what the node
    /// still has now, it had then.
    async fn begins_at(&self, from: u64) -> Result<(), RailError> {
        self.chain.is_of(&self.config.genesis).await?;
        let first = self.chain.first_slot().await?;
        if first <= from {
            return Ok(());
        }
        let what = format!("deposits are to be read from slot {from} on, and the node's history begins at {first}");
        Err(RailError::new(RailErrorKind::NotSent, what))
    }

    /// What the block after the last one brought in.
    async fn read_block(
        &self,
        last: Option<&Place>,
        slot: u64,
        block: UiConfirmedBlock,
    ) -> Result<(Vec<Observation>, Place), RailError> {
        follows(last, slot, &block)?;
        let transactions = block.transactions.as_ref().ok_or_else(|| nonsense(format!("block {slot} comes empty")))?;
        let (mint, mut found) = (self.config.mint.to_string(), Vec::new());
        for (i, transaction) in transactions.iter().enumerate() {
            if !touches(transaction, &mint)? {
                continue;
            }
            if is_newer(transaction) {
                self.tell_newer(slot, i, &changes(transaction, &mint)?).await?;
            } else {
                found.extend(self.deposits_in(transaction)?);
            }
        }
        Ok((found, Place { slot, blockhash: block.blockhash }))
    }

    /// A transaction that this version cannot read is told if it moved anything at a deposit address.
    async fn tell_newer(&self, slot: u64, i: usize, changes: &[(Pubkey, i128)]) -> Result<(), RailError> {
        for (wallet, moved) in changes.iter().copied().filter(|(_, moved)| *moved != 0) {
            let account = token_account(&wallet, &self.config.mint);
            if self.agents.owner_of(&account).is_none() {
                continue;
            }
            let signatures = self.chain.signatures(slot).await?;
            let signature = signatures.get(i).and_then(|text| text.parse().ok());
            let signature = signature.ok_or_else(|| nonsense(format!("block {slot} lacks a signature")))?;
            self.tell(&Incident::Unexplained { signature, account, moved, read: 0 });
        }
        Ok(())
    }

    /// What one transaction brought in: each transfer for itself.
    fn deposits_in(&self, transaction: &EncodedTransactionWithStatusMeta) -> Result<Vec<Observation>, RailError> {
        let read = Read::new(transaction)?;
        let signature = read.transaction.signatures.first().copied().unwrap_or_default();
        let transfers = read.transfers()?;
        let mut found = Vec::new();
        for key in read.keys() {
            let Some(agent) = self.agents.owner_of(key) else { continue };
            let (mut sum, mut of_it) = (0, Vec::new());
            for transfer in &transfers {
                let (gains, loses) = (transfer.to.is(key), transfer.from.is(key));
                sum += if gains { i128::from(transfer.amount) } else { 0 };
                sum -= if loses { i128::from(transfer.amount) } else { 0 };
                if gains && !loses && transfer.amount > 0 {
                    let amount = i64::try_from(transfer.amount);
                    let amount = amount.map_err(|_| nonsense("more than there is"))?;
                    let source = match transfer.from {
                        Side::Account(account) => {
                            read.owner(&account).unwrap_or_else(|| transfer.authority.to_string())
                        }
                        Side::Issuer(authority) => authority.to_string(),
                    };
                    let id = format!("{signature}:{}", transfer.place);
                    let body = ObservationBody::Deposit { agent, amount: self.config.money(amount), source };
                    of_it.push(Observation { id, body });
                }
            }
            let moved = read.change(key);
            if moved == sum {
                found.extend(of_it);
            } else {
                self.tell(&Incident::Unexplained { signature, account: *key, moved, read: sum });
            }
        }
        Ok(found)
    }
}

/// A block must name the last one read as its parent.
fn follows(last: Option<&Place>, slot: u64, block: &UiConfirmedBlock) -> Result<(), RailError> {
    let Some(last) = last else { return Ok(()) };
    if block.parent_slot == last.slot && block.previous_blockhash == last.blockhash {
        return Ok(());
    }
    let what = format!(
        "block {slot} follows block {} {}, the last one read is {} {}: the node lacks a part of the history",
        block.parent_slot, block.previous_blockhash, last.slot, last.blockhash
    );
    Err(RailError::new(RailErrorKind::NotSent, what))
}

fn parse(cursor: &Cursor) -> Result<Option<Place>, RailError> {
    if cursor.0.is_empty() {
        return Ok(None);
    }
    let place = cursor
        .0
        .split_once(' ')
        .and_then(|(slot, blockhash)| Some(Place { slot: slot.parse().ok()?, blockhash: blockhash.to_owned() }));
    let bad = || RailError::new(RailErrorKind::Refused, format!("{:?} is no cursor of this rail", cursor.0));
    place.map(Some).ok_or_else(bad)
}

fn cursor(place: &Place) -> Cursor {
    Cursor(format!("{} {}", place.slot, place.blockhash))
}
