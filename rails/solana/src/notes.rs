//! What the rail writes down before it acts: one note per withdrawal, and one for all that is on the
//! way.
//!
//! # Protocol
//!
//! The note [`Outgoing`] is the only place that says what may be in flight, and every change to it is
//! one compare-and-set, so that any number of processes can work on it:
//!
//! 1. `execute` writes the withdrawal's note, then puts its id into the queue.
//! 2. A worker takes ids out of the queue and puts a [`Batch`] with the signed bytes in their place, in
//!    one step, and sends only after that. Bytes that lost the race are thrown away unsent.
//! 3. A batch stays until its transaction is final. Then the outcomes are written into the
//!    withdrawals' notes, and after that the batch is taken out. Only when the chain can never take the
//!    bytes any more do its ids go back into the queue, in the step that takes the batch out. That is so
//!    when the block height is past its blockhash's end, or its nonce is gone (`nonces`).
//! 4. What can never be paid, or is cancelled before it is signed, goes from the queue into
//!    [`Outgoing::declined`] first, then into its note.
//!
//! So an id is in one place at a time, and a reader that looks into `Outgoing` before it reads a
//! withdrawal's note never sees neither.
#![allow(clippy::disallowed_types, reason = "serde's flatten names floats in what it expands to; no note has one")]

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tradepost::{
    ids::InstructionId,
    rail::{Decline, Order, RailError, RailMemory, Receipt},
};

use crate::error::{forgotten, unreadable};

const OUTGOING: &str = "outgoing";
/// How many withdrawals may wait.
pub(crate) const QUEUE: usize = 2_000;

/// Everything on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    /// Grows with every change, so that no two values are alike.
    revision: u64,
    /// The highest block height that a transaction was signed for. The next one is signed for a higher
    /// one, so no two have the same blockhash: two withdrawals of one amount to one wallet would
    /// otherwise be the same bytes, with one signature and one effect.
    pub(crate) last_height: u64,
    /// The slot from which on nonces may be read to sign on; see `nonces`.
    #[serde(default)]
    pub(crate) nonces_from: u64,
    pub(crate) queue: Vec<Queued>,
    pub(crate) batches: Vec<Batch>,
    pub(crate) declined: Vec<(InstructionId, Decline)>,
}

/// A withdrawal that waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queued {
    pub(crate) id: InstructionId,
    /// How often a transaction failed because of it.
    #[serde(default)]
    pub(crate) failures: u32,
    /// What it takes from the treasury, in minor units.
    #[serde(default)]
    pub(crate) minor: i64,
    /// The slot before which it is not tried again.
    #[serde(default)]
    pub(crate) rests_until: u64,
}

/// A signed transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) signature: String,
    /// The bytes, in base64: what is sent again and again is this.
    pub(crate) bytes: String,
    #[serde(flatten)]
    pub(crate) life: Life,
    /// The node's slot just before it was signed.
    pub(crate) signed_in: u64,
    /// And just before it was first sent: the signer may take its time.
    #[serde(default)]
    pub(crate) sent_in: u64,
    pub(crate) what: What,
}

/// For how long a block can take a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Life {
    /// Up to a block height, that of its blockhash's end.
    Height { last_height: u64 },
    /// Until the nonce of a lane is another one.
    Nonce { lane: u8, nonce: String },
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Pay(Vec<Placed>),
    Sweep(Vec<NonZeroU32>),
    /// Makes the nonce accounts of lanes.
    Open(Vec<u8>),
    /// Advances the nonce of a lane, so that what was signed on it cannot land any more.
    CallOff(u8),
}

/// A withdrawal in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) id: InstructionId,
    #[serde(default)]
    pub(crate) failures: u32,
    /// Which of the transaction's instructions moves the money.
    pub(crate) place: usize,
    /// What the transaction moves for it, in minor units.
    pub(crate) minor: i64,
}

impl Placed {
    /// The withdrawal, to be tried again.
    pub(crate) const fn queued(self) -> Queued {
        Queued { id: self.id, failures: self.failures, minor: self.minor, rests_until: 0 }
    }
}

impl Outgoing {
    /// The transaction that an instruction is in.
    pub(crate) fn carries(&self, id: InstructionId) -> Option<&Batch> {
        let carried = |batch: &&Batch| matches!(&batch.what, What::Pay(all) if all.iter().any(|one| one.id == id));
        self.batches.iter().find(carried)
    }

    /// The transaction or the queue that an instruction is in.
    pub(crate) fn reference(&self, id: InstructionId) -> Option<String> {
        if let Some(batch) = self.carries(id) {
            return Some(batch.signature.clone());
        }
        let waits = self.queue.iter().any(|queued| queued.id == id) || self.declined.iter().any(|(one, _)| *one == id);
        waits.then(|| "queued".into())
    }

    /// What is promised to withdrawals and may not have left yet, in minor units.
    pub(crate) fn promised(&self) -> i64 {
        let paid = self.batches.iter().flat_map(|batch| if let What::Pay(all) = &batch.what { &all[..] } else { &[] });
        paid.fold(0, |sum, one| sum.saturating_add(one.minor))
    }

    pub(crate) fn sweeps(&self, number: NonZeroU32) -> bool {
        self.batches.iter().any(|batch| matches!(&batch.what, What::Sweep(all) if all.contains(&number)))
    }
}

/// `Outgoing` as it was read, to be changed or not at all.
pub(crate) struct Stand {
    text: Option<String>,
    pub(crate) outgoing: Outgoing,
}

impl Stand {
    pub(crate) async fn read(memory: &dyn RailMemory) -> Result<Self, RailError> {
        let text = memory.get(OUTGOING).await.map_err(forgotten)?;
        let outgoing = text.as_deref().map(|text| parse(OUTGOING, text)).transpose()?.unwrap_or_default();
        Ok(Self { text, outgoing })
    }

    /// Writes a changed value in the place of this one; whether nobody was faster. Gives back the new
    /// stand if so.
    pub(crate) async fn write(self, memory: &dyn RailMemory, mut next: Outgoing) -> Result<Option<Self>, RailError> {
        next.revision = self.outgoing.revision + 1;
        let text = to_text(&next);
        let written = memory.swap(OUTGOING, self.text.as_deref(), &text).await.map_err(forgotten)?;
        Ok(written.then_some(Self { text: Some(text), outgoing: next }))
    }
}

/// A withdrawal's own note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payout {
    pub(crate) order: Order,
    pub(crate) state: PayoutState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PayoutState {
    /// It is to be paid.
    Accepted,
    /// It waits for an operator.
    Held,
    Done {
        receipt: Box<Receipt>,
        spent: Spent,
    },
    Declined(Decline),
}

/// What a withdrawal cost the treasury in SOL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Its share of the transaction's fee, in lamports.
    pub fee: u64,
    /// The rent of the receiver's token account, if it had to be made, in lamports. The receiver gets
    /// it back when it closes the account.
    pub rent: u64,
}

/// A withdrawal's note as it was read.
pub(crate) struct PayoutNote {
    text: String,
    pub(crate) payout: Payout,
}

impl PayoutNote {
    pub(crate) async fn read(memory: &dyn RailMemory, id: InstructionId) -> Result<Option<Self>, RailError> {
        let key = payout_key(id);
        let Some(text) = memory.get(&key).await.map_err(forgotten)? else { return Ok(None) };
        Ok(Some(Self { payout: parse(&key, &text)?, text }))
    }

    /// Writes the first note; whether there was none.
    pub(crate) async fn begin(memory: &dyn RailMemory, id: InstructionId, payout: &Payout) -> Result<bool, RailError> {
        memory.swap(&payout_key(id), None, &to_text(payout)).await.map_err(forgotten)
    }

    /// Writes its next state; whether nobody was faster.
    pub(crate) async fn write(
        &self,
        memory: &dyn RailMemory,
        id: InstructionId,
        state: PayoutState,
    ) -> Result<bool, RailError> {
        let next = Payout { state, ..self.payout.clone() };
        memory.swap(&payout_key(id), Some(&self.text), &to_text(&next)).await.map_err(forgotten)
    }
}

fn payout_key(id: InstructionId) -> String {
    format!("payout/{id}")
}

fn parse<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, RailError> {
    serde_json::from_str(text).map_err(|error| unreadable(key, error))
}

fn to_text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("a note is made of texts and numbers")
}
