//! Sending withdrawals and sweeps, and following them to their end. `notes` says by what protocol.

use std::time::Duration;

use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_transaction_error::TransactionError;
use tradepost::{
    ids::InstructionId,
    rail::{Decline, Order, RailError, RailErrorKind, Receipt},
};

use crate::{
    address::{AddressError, parse, token_account},
    chain::{ACCOUNTS_AT_ONCE, Account, Tip, nonsense},
    incident::Incident,
    keys::Key,
    nonces::{Lane, Lanes},
    notes::{Batch, Life, Outgoing, PayoutNote, PayoutState, Placed, Queued, Spent, Stand, What},
    plan::{Plan, culprit},
    rail::SolanaRail,
    sign::{from_text, to_text},
    transfers::{Read, Transfer},
};

/// How many transactions are followed at once.
const IN_FLIGHT: usize = 16;
/// How many blocks are listed at once where a node has to show that it has them all.
const LISTED: usize = 10_000;
/// How often a withdrawal may fail on chain before it is declined.
const FAILURES: u32 = 5;

/// What one round of work did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Transactions signed and sent for the first time.
    pub sent: usize,
    /// Withdrawals that came to their end.
    pub ended: usize,
    /// Withdrawals that wait or are on their way.
    pub waiting: usize,
    /// Transactions on their way.
    pub in_flight: usize,
}

impl SolanaRail {
    /// One round: follows what was sent, then sends the next withdrawals or sweeps the next deposits, at most one
    /// new transaction, and without durable nonces at most one a block. Any number of processes may do this at once.
    ///
    /// An idle round is one request.
    ///
    /// # Errors
    /// The node's, the signer's or the memory's failure. Nothing is lost, the next round goes on. One that concerns a
    /// single transaction is told after the round was made for all others.
    pub async fn work(&self) -> Result<Worked, RailError> {
        let mut worked = Worked { ended: self.close_declined().await?, ..Worked::default() };
        let (ended, failed) = self.follow().await?;
        worked.ended += ended;
        worked.sent = self.send_next().await?;
        worked.ended += self.close_declined().await?;
        if let Some(error) = failed {
            return Err(error);
        }
        let Outgoing { queue, batches, declined, .. } = Stand::read(&*self.memory).await?.outgoing;
        let carried = batches.iter().map(|batch| if let What::Pay(all) = &batch.what { all.len() } else { 0 });
        worked.waiting = queue.len() + declined.len() + carried.sum::<usize>();
        worked.in_flight = batches.len();
        Ok(worked)
    }

    /// Works for ever: spawn this once or more, in any number of processes.
    pub async fn run(&self, idle: Duration) {
        loop {
            match self.work().await {
                Ok(worked) if worked.sent > 0 => {}
                Ok(_) => tokio::time::sleep(idle).await,
                Err(error) => {
                    tracing::warn!(%error, "a round of the Solana rail's work failed");
                    tokio::time::sleep(idle).await;
                }
            }
        }
    }

    /// Follows every transaction that was sent; how many withdrawals came to their end, and the first failure that
    /// concerns one of them only: it keeps nobody else waiting.
    async fn follow(&self) -> Result<(usize, Option<RailError>), RailError> {
        let batches = Stand::read(&*self.memory).await?.outgoing.batches;
        if batches.is_empty() {
            return Ok((0, None));
        }
        let signatures = batches.iter().map(signature_of).collect::<Result<Vec<_>, _>>()?;
        // The height and the nonces before the statuses: what had not landed by then can be judged by them.
        let tip = self.chain.tip().await?;
        let lanes = self.lanes_now(&batches).await?;
        let (known_at, statuses) = self.chain.statuses(&signatures).await?;
        let (mut ended, mut failed) = (0, None);
        for ((batch, signature), status) in batches.iter().zip(signatures).zip(statuses) {
            let past = status.is_none() && is_past(batch, tip, &lanes, known_at);
            if past {
                // Another cluster's node knows nothing of it either.
                self.chain.is_of(&self.config.genesis).await?;
            }
            let followed = match status {
                Some(status) if status.satisfies_commitment(self.chain.finality.commitment()) => match status.err {
                    None => self.landed(batch, &signature, status.slot).await,
                    Some(error) => self.failed(batch, &error, status.slot).await.map(|()| 0),
                },
                Some(_) => Ok(0),
                None if past => self.expired(batch, signature, tip, lanes.at).await.map(|()| 0),
                None => self.send_again(batch).await.map(|()| 0),
            };
            match followed {
                Ok(more) => ended += more,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Ok((ended, failed))
    }

    async fn send_again(&self, batch: &Batch) -> Result<(), RailError> {
        self.chain.send(&from_text(&batch.bytes)?).await;
        Ok(())
    }

    /// A transaction took effect: its outcomes are written down, then it is taken out.
    async fn landed(&self, batch: &Batch, signature: &Signature, slot: u64) -> Result<usize, RailError> {
        let mut ended = 0;
        if let What::Pay(placed) = &batch.what {
            let found = self.chain.transaction(signature).await?;
            let read = Read::new(&found.transaction)?;
            if read.meta.err.is_some() {
                return Err(nonsense(format!("{signature} failed by one answer and succeeded by another")));
            }
            let transfers = read.transfers()?;
            for (i, one) in placed.iter().enumerate() {
                let Some(note) = PayoutNote::read(&*self.memory, one.id).await? else { continue };
                if note.payout.state != PayoutState::Accepted {
                    continue; // written before
                }
                let wallet = self.wallet_of(&note).map_err(|error| {
                    RailError::new(RailErrorKind::Refused, "an accepted withdrawal goes nowhere").caused_by(error)
                })?;
                let account = token_account(&wallet, &self.config.mint);
                let moved = paid_by(&transfers, one).filter(|moved| moved.to.is(&account));
                let moved = moved.ok_or_else(|| nonsense(format!("{signature} does not pay {account}")))?;
                let amount = i64::try_from(moved.amount).map_err(|_| nonsense("more than there is"))?;
                let receipt = Receipt {
                    instruction: one.id,
                    reference: format!("{signature}:{}", one.place),
                    amount: self.config.money(amount),
                    legs: Vec::new(),
                    cost: None,
                    hold_expires_at: None,
                };
                // Of two that go to one new account the first one makes it.
                let made = !placed[..i]
                    .iter()
                    .any(|other| paid_by(&transfers, other).is_some_and(|moved| moved.to.is(&account)));
                let rent = if made { read.rent(&account) } else { 0 };
                let spent = Spent { fee: share(read.meta.fee, placed.len(), i), rent };
                let state = PayoutState::Done { receipt: Box::new(receipt), spent };
                ended += usize::from(note.write(&*self.memory, one.id, state).await?);
            }
        }
        self.take_out(batch, slot, |_, _| {}).await?;
        Ok(ended)
    }

    /// A transaction failed on chain: nothing of it took effect, so all of it is tried again, the one
    /// that made it fail by itself.
    async fn failed(&self, batch: &Batch, error: &TransactionError, slot: u64) -> Result<(), RailError> {
        match &batch.what {
            What::Sweep(numbers) => {
                self.tell(&Incident::SweepFailed { addresses: numbers.len(), reason: error.to_string() });
                self.take_out(batch, slot, |_, _| {}).await
            }
            What::Open(_) | What::CallOff(_) => {
                self.tell(&Incident::NonceFailed { reason: error.to_string() });
                self.take_out(batch, slot, |_, _| {}).await
            }
            What::Pay(placed) => {
                let culprit = culprit(placed, batch.life.lane().is_some(), error);
                culprit.into_iter().for_each(|culprit| self.tell_failed(culprit, error));
                let culprit = culprit.map(|culprit| culprit.id);
                self.take_out(batch, slot, |next, placed| requeue(next, placed, culprit, error)).await
            }
        }
    }

    /// The chain can never take a transaction any more, if the node has the whole history of the time in which it
    /// could.
    async fn expired(&self, batch: &Batch, signature: Signature, tip: Tip, at: u64) -> Result<(), RailError> {
        // Asked after the status: what the node still has now, it had then.
        let first = self.chain.first_slot().await?;
        let end = if batch.life.lane().is_some() { at } else { tip.slot };
        if first > batch.signed_in || !self.has_all(batch, end).await? {
            self.tell(&Incident::HistoryGone { signature, signed_in: batch.signed_in, first });
            return Ok(());
        }
        self.take_out(batch, at, |next, placed| {
            next.queue.splice(0..0, placed.iter().map(|one| one.queued()));
        })
        .await
    }

    /// Whether the node lists every block that could have taken a transaction: heights have no gaps, so their number
    /// tells. One that was restarted from a snapshot may keep what it had before and lack what came between.
    async fn has_all(&self, batch: &Batch, end: u64) -> Result<bool, RailError> {
        let mut read = batch.signed_in;
        while read < end {
            let mut slots = self.chain.blocks(read + 1, LISTED).await?;
            slots.retain(|slot| *slot <= end);
            let Some(first) = slots.first() else { return Ok(false) };
            let (height, parent) = self.chain.height_of(*first).await?;
            if parent > read {
                return Ok(false);
            }
            let mut is_last = false;
            if let Life::Height { last_height } = batch.life {
                let needed = usize::try_from((last_height + 1).saturating_sub(height)).unwrap_or(usize::MAX);
                is_last = slots.len() >= needed;
                slots.truncate(needed);
            }
            let Some(last) = slots.last() else { return Ok(true) }; // it begins after the transaction's end
            if self.chain.height_of(*last).await?.0 + 1 != height + slots.len() as u64 {
                return Ok(false);
            }
            if is_last {
                return Ok(true);
            }
            read = *last;
        }
        Ok(batch.life.lane().is_some())
    }

    /// Takes a transaction out that ended in a slot, together with what else has to change in the same step.
    async fn take_out(
        &self,
        batch: &Batch,
        slot: u64,
        change: impl Fn(&mut Outgoing, &[Placed]),
    ) -> Result<(), RailError> {
        loop {
            let stand = Stand::read(&*self.memory).await?;
            let mut next = stand.outgoing.clone();
            let Some(at) = next.batches.iter().position(|one| one.signature == batch.signature) else {
                return Ok(()); // another process did it
            };
            let taken = next.batches.remove(at);
            if taken.life.lane().is_some() {
                next.nonces_from = next.nonces_from.max(slot).max(taken.signed_in + 1);
            }
            change(&mut next, if let What::Pay(placed) = &taken.what { placed } else { &[] });
            if stand.write(&*self.memory, next).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Writes down what was declined; how many there were.
    pub(crate) async fn close_declined(&self) -> Result<usize, RailError> {
        let mut ended = 0;
        loop {
            let stand = Stand::read(&*self.memory).await?;
            if stand.outgoing.declined.is_empty() {
                return Ok(ended);
            }
            for (id, decline) in &stand.outgoing.declined {
                let note = PayoutNote::read(&*self.memory, *id).await?;
                if let Some(note) = note.filter(|note| note.payout.state == PayoutState::Accepted) {
                    let state = PayoutState::Declined(decline.clone());
                    ended += usize::from(note.write(&*self.memory, *id, state).await?);
                }
            }
            let mut next = stand.outgoing.clone();
            next.declined.clear();
            stand.write(&*self.memory, next).await?;
        }
    }

    /// Sends the next withdrawals, or sweeps if there are none to send; how many transactions.
    async fn send_next(&self) -> Result<usize, RailError> {
        self.agents.refresh(&*self.memory).await?;
        let stand = Stand::read(&*self.memory).await?;
        let lanes = self.lanes(&stand.outgoing.batches);
        let deposits = self.next_round(ACCOUNTS_AT_ONCE - 2 - lanes.len());
        let keys = [self.treasury, self.treasury_account].into_iter().chain(lanes.iter().map(|(_, account)| *account));
        let keys: Vec<Pubkey> = keys.chain(deposits.iter().map(|address| address.token_account)).collect();
        let (slot, mut found) = self.chain.accounts(&keys).await?;
        let swept = found.split_off(2 + lanes.len());
        let lanes = Lanes::new(slot, &lanes, found.split_off(2));
        let lamports = found[0].as_ref().map_or(0, |account| account.lamports);
        let treasury = self.look_after(&stand, found[0].as_ref(), found[1].as_ref());
        if let Some(plan) = self.plan_nonces(&stand.outgoing, &lanes, lamports).await? {
            return self.sign_and_send(plan, slot, stand).await;
        }
        if stand.outgoing.batches.len() >= IN_FLIGHT {
            return Ok(0);
        }
        if let Some(treasury) = &treasury
            && let Some((plan, stand)) = self.plan_payouts(treasury, &lanes).await?
        {
            return self.sign_and_send(plan, slot, stand).await;
        }
        let exists = found[1].as_ref().and_then(Account::token).is_some();
        let deposits: Vec<_> = deposits.into_iter().zip(swept).collect();
        match self.plan_sweep(&stand, &lanes, lamports, exists, &deposits).await? {
            Some(plan) => self.sign_and_send(plan, slot, stand).await,
            None => Ok(0),
        }
    }

    /// Signs, writes down, and only then sends. Nothing is sent if another process was faster.
    async fn sign_and_send(&self, plan: Plan, slot: u64, stand: Stand) -> Result<usize, RailError> {
        let units = plan.units.saturating_mul(100 + u64::from(self.config.spare_units)) / 100;
        let instructions = self.whole(plan.lane.as_ref(), &plan.instructions, units);
        let (hash, life) = match &plan.lane {
            Some(Lane { number, nonce, .. }) => (*nonce, Life::Nonce { lane: *number, nonce: nonce.to_string() }),
            None => {
                let (blockhash, last_height) = self.chain.blockhash().await?;
                if last_height <= stand.outgoing.last_height {
                    return Ok(0); // this block's is used up; see `Outgoing::last_height`
                }
                (blockhash, Life::Height { last_height })
            }
        };
        let transaction = self.signed(&instructions, hash, &plan.keys).await?;
        if let (What::Sweep(numbers), [(Key::Deposit(_), _)]) = (&plan.what, &plan.keys[..]) {
            self.set_together(numbers[0]);
        }
        let Tip { slot: sent_in, height } = self.chain.newest().await?;
        if let Life::Height { last_height } = life
            && height >= last_height
        {
            self.tell(&Incident::SignedTooLate { last_height, height });
            return Ok(0);
        }
        let signature = transaction.signatures.first().map(ToString::to_string).unwrap_or_default();
        let batch = Batch { signature, bytes: to_text(&transaction)?, life, signed_in: slot, sent_in, what: plan.what };
        if self.place(stand, batch).await? {
            self.chain.send(&transaction).await;
            return Ok(1);
        }
        Ok(0)
    }

    /// Writes a transaction down, if all that it was planned by still holds: that others were accepted while it was
    /// signed does not matter.
    async fn place(&self, planned: Stand, batch: Batch) -> Result<bool, RailError> {
        let before = planned.outgoing.clone();
        let mut stand = planned;
        loop {
            let mut next = stand.outgoing.clone();
            if let What::Pay(placed) = &batch.what {
                next.queue.retain(|queued| placed.iter().all(|one| one.id != queued.id));
                if stand.outgoing.queue.len() != next.queue.len() + placed.len() {
                    return Ok(false);
                }
            }
            if let Life::Height { last_height } = batch.life {
                next.last_height = last_height;
            }
            next.batches.push(batch.clone());
            if stand.write(&*self.memory, next).await?.is_some() {
                return Ok(true);
            }
            stand = Stand::read(&*self.memory).await?;
            let now = &stand.outgoing;
            if (&now.batches, now.last_height, now.nonces_from)
                != (&before.batches, before.last_height, before.nonces_from)
            {
                return Ok(false);
            }
        }
    }

    pub(crate) fn tell_failed(&self, one: &Placed, error: &TransactionError) {
        let (failures, reason) = (one.failures + 1, error.to_string());
        self.tell(&Incident::WithdrawalFailed { instruction: one.id, failures, reason });
    }

    /// The lanes that transactions are on, as they are now; nothing is asked if there are none.
    async fn lanes_now(&self, batches: &[Batch]) -> Result<Lanes, RailError> {
        if batches.iter().all(|batch| batch.life.lane().is_none()) {
            return Ok(Lanes::new(0, &[], Vec::new()));
        }
        let lanes = self.lanes(batches);
        let mut asked: Vec<Pubkey> = lanes.iter().map(|(_, account)| *account).collect();
        asked.push(self.treasury);
        let (at, mut found) = self.chain.finalized(&asked).await?;
        match found.pop().flatten() {
            Some(_) => Ok(Lanes::new(at, &lanes, found)),
            // A node that knows nothing of the treasury's account is no witness that a lane's is closed.
            None => Ok(Lanes::new(0, &[], Vec::new())),
        }
    }

    pub(crate) fn wallet_of(&self, note: &PayoutNote) -> Result<Pubkey, AddressError> {
        let Order::Payout { destination: Some(text), .. } = &note.payout.order else {
            return Err(AddressError::Missing);
        };
        parse(text, &self.treasury, &self.config.mint)
    }
}

/// Puts withdrawals back to be tried again; one that failed too often is declined.
pub(crate) fn requeue(
    next: &mut Outgoing,
    placed: &[Placed],
    culprit: Option<InstructionId>,
    error: &TransactionError,
) {
    let mut again = Vec::new();
    for one in placed {
        let failures = one.failures + u32::from(Some(one.id) == culprit);
        if failures > FAILURES {
            next.declined.push((one.id, Decline { code: "failed_on_chain".into(), message: error.to_string() }));
        } else {
            again.push(Queued { failures, ..one.queued() });
        }
    }
    next.queue.splice(0..0, again);
}

/// Whether no block can take a transaction any more and the node's answer about it is from later.
fn is_past(batch: &Batch, tip: Tip, lanes: &Lanes, known_at: u64) -> bool {
    match &batch.life {
        Life::Height { last_height } => tip.height > *last_height && known_at >= tip.slot,
        Life::Nonce { lane, nonce } => lanes.is_gone(*lane, nonce, batch.signed_in) && known_at >= lanes.at,
    }
}

/// The transfer that pays a withdrawal.
fn paid_by<'a>(transfers: &'a [Transfer], one: &Placed) -> Option<&'a Transfer> {
    transfers.iter().find(|moved| moved.place == one.place.to_string())
}

/// One withdrawal's share of a transaction's fee; the first ones bear the remainder.
const fn share(fee: u64, of: usize, i: usize) -> u64 {
    let of = of as u64;
    fee / of + if (i as u64) < fee % of { 1 } else { 0 }
}

fn signature_of(batch: &Batch) -> Result<Signature, RailError> {
    let corrupt = |_| RailError::new(RailErrorKind::Refused, "the rail's memory holds what is no signature");
    batch.signature.parse().map_err(corrupt)
}
