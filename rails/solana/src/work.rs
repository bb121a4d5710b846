//! Sending withdrawals and sweeps, and following them to their end. `notes` says by what protocol.

use std::time::Duration;

use solana_instruction::{Instruction, error::InstructionError};
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_transaction_error::TransactionError;
use tradepost::{
    ids::InstructionId,
    rail::{Decline, Order, RailError, RailErrorKind, Receipt},
};

use crate::{
    address::{parse, token_account},
    agents::DepositAddress,
    chain::{ACCOUNTS_AT_ONCE, Account, Tip, nonsense, tokens},
    incident::Incident,
    keys::Key,
    notes::{Batch, Outgoing, PayoutNote, PayoutState, Placed, Queued, Spent, Stand, What},
    payouts::check_found,
    rail::SolanaRail,
    sign::{UNITS, from_text, to_text},
    transfers::Read,
};

/// How many transactions are followed at once.
const IN_FLIGHT: usize = 16;
/// How many withdrawals a transaction may carry, whatever the configuration says.
const BATCH: usize = 20;
/// How many addresses a sweep empties; each adds a signature.
const SWEEP: usize = 6;
/// What a signature costs, in lamports.
const SIGNATURE_FEE: u64 = 5_000;
/// How often a withdrawal may fail on chain before it is declined.
const FAILURES: u32 = 5;
/// The token program's error for a balance that is too small.
const INSUFFICIENT: u32 = 1;

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
    /// One round: follows what was sent, then sends the next withdrawals or sweeps the next deposits,
    /// at most one new transaction a block. Any number of processes may do this at once.
    ///
    /// An idle round is two requests.
    ///
    /// # Errors
    /// The node's, the signer's or the memory's failure. Nothing is lost, the next round goes on.
    pub async fn work(&self) -> Result<Worked, RailError> {
        let mut worked = Worked { ended: self.close_declined().await?, ..Worked::default() };
        worked.ended += self.follow().await?;
        worked.sent = self.send_next().await?;
        worked.ended += self.close_declined().await?;
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

    /// Follows every transaction that was sent; how many withdrawals came to their end.
    async fn follow(&self) -> Result<usize, RailError> {
        let batches = Stand::read(&*self.memory).await?.outgoing.batches;
        if batches.is_empty() {
            return Ok(0);
        }
        let signatures = batches.iter().map(signature_of).collect::<Result<Vec<_>, _>>()?;
        // The height before the statuses: what had not landed by then can be judged by them.
        let tip = self.chain.tip().await?;
        let (known_at, statuses) = self.chain.statuses(&signatures).await?;
        let mut ended = 0;
        for ((batch, signature), status) in batches.iter().zip(signatures).zip(statuses) {
            match status {
                Some(status) if status.satisfies_commitment(self.chain.finality.commitment()) => match status.err {
                    None => ended += self.landed(batch, &signature).await?,
                    Some(error) => self.failed(batch, &error).await?,
                },
                Some(_) => {}
                None if is_past(batch, tip, known_at) => self.expired(batch, signature).await?,
                None => self.chain.send(&from_text(&batch.bytes)?).await,
            }
        }
        Ok(ended)
    }

    /// A transaction took effect: its outcomes are written down, then it is taken out.
    async fn landed(&self, batch: &Batch, signature: &Signature) -> Result<usize, RailError> {
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
                let account = token_account(&self.wallet_of(&note)?, &self.config.mint);
                let moved =
                    transfers.iter().find(|moved| moved.place == one.place.to_string() && moved.to.is(&account));
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
                let spent = Spent { fee: share(read.meta.fee, placed.len(), i), rent: one.rent };
                let state = PayoutState::Done { receipt: Box::new(receipt), spent };
                ended += usize::from(note.write(&*self.memory, one.id, state).await?);
            }
        }
        self.take_out(batch, |_, _| {}).await?;
        Ok(ended)
    }

    /// A transaction failed on chain: nothing of it took effect, so all of it is tried again, the one
    /// that made it fail by itself.
    async fn failed(&self, batch: &Batch, error: &TransactionError) -> Result<(), RailError> {
        match &batch.what {
            What::Sweep(numbers) => {
                self.tell(&Incident::SweepFailed { addresses: numbers.len(), reason: error.to_string() });
                self.take_out(batch, |_, _| {}).await
            }
            What::Pay(placed) => {
                let culprit = self.blame(placed, error);
                self.take_out(batch, |next, placed| requeue(next, placed, culprit, error)).await
            }
        }
    }

    /// The chain can never take a transaction any more, if the node's history goes back far enough to
    /// prove it.
    async fn expired(&self, batch: &Batch, signature: Signature) -> Result<(), RailError> {
        // Asked after the status: what the node still has now, it had then.
        let first = self.chain.first_slot().await?;
        if first > batch.signed_in {
            self.tell(&Incident::HistoryGone { signature, signed_in: batch.signed_in, first });
            return Ok(());
        }
        self.take_out(batch, |next, placed| {
            let again = placed.iter().map(|one| Queued { id: one.id, failures: one.failures });
            next.queue.splice(0..0, again);
        })
        .await
    }

    /// Takes a transaction out, together with what else has to change in the same step.
    async fn take_out(&self, batch: &Batch, change: impl Fn(&mut Outgoing, &[Placed])) -> Result<(), RailError> {
        loop {
            let stand = Stand::read(&*self.memory).await?;
            let mut next = stand.outgoing.clone();
            let Some(at) = next.batches.iter().position(|one| one.signature == batch.signature) else {
                return Ok(()); // another process did it
            };
            let taken = next.batches.remove(at);
            change(&mut next, if let What::Pay(placed) = &taken.what { placed } else { &[] });
            if stand.write(&*self.memory, next).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Writes down what was declined; how many there were.
    async fn close_declined(&self) -> Result<usize, RailError> {
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
        let deposits = self.next_round(ACCOUNTS_AT_ONCE - 2);
        let keys = [self.treasury, self.treasury_account].into_iter();
        let keys: Vec<Pubkey> = keys.chain(deposits.iter().map(|address| address.token_account)).collect();
        let (slot, found) = self.chain.accounts(&keys).await?;
        let stand = Stand::read(&*self.memory).await?;
        let treasury = self.look_after(&stand, found[0].as_ref(), found[1].as_ref());
        if stand.outgoing.batches.len() >= IN_FLIGHT {
            return Ok(0);
        }
        if let Some(treasury) = &treasury
            && let Some((plan, stand)) = self.plan_payouts(treasury).await?
        {
            return self.sign_and_send(plan, slot, stand).await;
        }
        let lamports = found[0].as_ref().map_or(0, |account| account.lamports);
        match self.plan_sweep(&stand, lamports, found[1].is_some(), deposits.iter().zip(&found[2..])).await? {
            Some(plan) => self.sign_and_send(plan, slot, stand).await,
            None => Ok(0),
        }
    }

    /// Tells what an operator should know of the treasury; what it can spend, unless it is frozen.
    fn look_after(&self, stand: &Stand, wallet: Option<&Account>, tokens_of: Option<&Account>) -> Option<Treasury> {
        let lamports = wallet.map_or(0, |account| account.lamports);
        if lamports < self.config.low_sol {
            let (treasury, floor) = (self.treasury, self.config.low_sol);
            self.tell(&Incident::LowSol { treasury, lamports, floor });
        }
        let held = i64::try_from(tokens(tokens_of)).unwrap_or(i64::MAX);
        let free = held.saturating_sub(stand.outgoing.promised());
        if free < self.config.low_token {
            let (held, needed) = (self.config.money(free), self.config.money(self.config.low_token));
            self.tell(&Incident::LowToken { held, needed });
        }
        if tokens_of.and_then(Account::token).is_some_and(|token| token.is_frozen()) {
            self.tell(&Incident::TreasuryFrozen { account: self.treasury_account });
            return None;
        }
        Some(Treasury { lamports, held })
    }

    /// The next withdrawals to pay. What cannot be paid at all is declined on the way.
    async fn plan_payouts(&self, treasury: &Treasury) -> Result<Option<(Plan, Stand)>, RailError> {
        loop {
            let stand = Stand::read(&*self.memory).await?;
            let mut candidates = Vec::new();
            let (mut stale, mut declined) = (Vec::new(), Vec::new());
            for queued in next_in(&stand.outgoing.queue, self.config.batch.clamp(1, BATCH)) {
                let note = PayoutNote::read(&*self.memory, queued.id).await?;
                match note {
                    Some(note) if note.payout.state == PayoutState::Accepted => {
                        let wallet = self.wallet_of(&note)?;
                        let account = token_account(&wallet, &self.config.mint);
                        let minor = note.payout.order.amount().minor();
                        candidates.push(Candidate { queued, wallet, account, minor, missing: true });
                    }
                    Some(note) if note.payout.state == PayoutState::Held => {}
                    _ => stale.push(queued.id),
                }
            }
            let keys: Vec<Pubkey> = candidates.iter().flat_map(|one| [one.wallet, one.account]).collect();
            let found = if keys.is_empty() { Vec::new() } else { self.chain.accounts(&keys).await?.1 };
            let mut good = Vec::new();
            for (mut one, found) in candidates.into_iter().zip(found.chunks(2)) {
                match check_found(one.wallet, one.account, found[0].as_ref(), found[1].as_ref()) {
                    Ok(()) => {
                        one.missing = found[1].as_ref().and_then(Account::token).is_none();
                        good.push(one);
                    }
                    Err(error) => declined.push((one.queued.id, error.decline())),
                }
            }
            if !stale.is_empty() || !declined.is_empty() {
                let mut next = stand.outgoing.clone();
                next.queue
                    .retain(|queued| !stale.contains(&queued.id) && declined.iter().all(|(id, _)| *id != queued.id));
                next.declined.extend(declined);
                stand.write(&*self.memory, next).await?;
                continue;
            }
            let Some(plan) = self.plan_of(good, treasury, stand.outgoing.promised())? else { return Ok(None) };
            let run = self.chain.simulate(&self.unsigned(&self.with_bid(&plan.instructions, UNITS))).await?;
            let Some(error) = run.error else {
                return Ok(Some((Plan { units: run.units, ..plan }, stand)));
            };
            let What::Pay(placed) = &plan.what else { return Ok(None) };
            match self.blame(placed, &error) {
                Some(culprit) if !is_short(&error) => {
                    let mut next = stand.outgoing.clone();
                    next.queue.retain(|queued| queued.id != culprit);
                    let alone: Vec<Placed> = placed.iter().filter(|one| one.id == culprit).copied().collect();
                    requeue(&mut next, &alone, Some(culprit), &error);
                    stand.write(&*self.memory, next).await?;
                }
                // The treasury is short of something, which was told, or the node is behind.
                _ => {
                    tracing::debug!(%error, "withdrawals cannot be paid now");
                    return Ok(None);
                }
            }
        }
    }

    /// As many withdrawals as the treasury can pay and a transaction can hold.
    fn plan_of(&self, good: Vec<Candidate>, treasury: &Treasury, promised: i64) -> Result<Option<Plan>, RailError> {
        let mut free = treasury.held.saturating_sub(promised);
        let mut lamports = treasury.lamports.saturating_sub(SIGNATURE_FEE);
        let (mut instructions, mut placed) = (Vec::new(), Vec::new());
        for one in good {
            let rent = if one.missing { self.rent } else { 0 };
            if one.minor > free {
                let (held, needed) = (self.config.money(free), self.config.money(one.minor));
                self.tell(&Incident::LowToken { held, needed });
                continue;
            }
            if rent > lamports {
                let (lamports, floor) = (treasury.lamports, self.config.low_sol.max(rent + SIGNATURE_FEE));
                self.tell(&Incident::LowSol { treasury: self.treasury, lamports, floor });
                continue;
            }
            let mut longer: Vec<Instruction> = instructions.clone();
            longer.extend(one.missing.then(|| self.create(&one.wallet)));
            let minor = u64::try_from(one.minor).map_err(|_| nonsense("a withdrawal of less than nothing"))?;
            longer.push(self.transfer(&self.treasury_account, &one.account, &self.treasury, minor)?);
            if !self.fits(&longer) {
                break;
            }
            let Queued { id, failures } = one.queued;
            placed.push(Placed { id, failures, place: self.bids() + longer.len() - 1, minor: one.minor, rent });
            (instructions, free, lamports) = (longer, free - one.minor, lamports - rent);
        }
        let plan = Plan { instructions, what: What::Pay(placed), keys: Vec::new(), units: 0 };
        Ok((!plan.instructions.is_empty()).then_some(plan))
    }

    /// Some deposits that are worth a sweep.
    async fn plan_sweep(
        &self,
        stand: &Stand,
        lamports: u64,
        treasury_exists: bool,
        deposits: impl Iterator<Item = (&DepositAddress, &Option<Account>)>,
    ) -> Result<Option<Plan>, RailError> {
        let (mut instructions, mut numbers, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        if !treasury_exists {
            instructions.push(self.create(&self.treasury));
        }
        for (address, account) in deposits {
            let held = tokens(account.as_ref());
            let worth = i64::try_from(held).is_ok_and(|held| held >= self.config.sweep_from.max(1));
            if numbers.len() == SWEEP || !worth || stand.outgoing.sweeps(address.number) {
                continue;
            }
            if account.as_ref().and_then(Account::token).is_some_and(|token| token.is_frozen()) {
                let held = self.config.money(i64::try_from(held).unwrap_or(i64::MAX));
                self.tell(&Incident::DepositFrozen { account: address.token_account, held });
                continue;
            }
            let mut longer = instructions.clone();
            longer.push(self.transfer(&address.token_account, &self.treasury_account, &address.wallet, held)?);
            if !self.fits(&longer) {
                break;
            }
            instructions = longer;
            numbers.push(address.number);
            keys.push((Key::Deposit(address.number), address.wallet));
        }
        let fees = SIGNATURE_FEE * (1 + numbers.len() as u64) + if treasury_exists { 0 } else { self.rent };
        if numbers.is_empty() || lamports < fees {
            return Ok(None); // low SOL was told
        }
        let run = self.chain.simulate(&self.unsigned(&self.with_bid(&instructions, UNITS))).await?;
        if let Some(error) = run.error {
            self.tell(&Incident::SweepFailed { addresses: numbers.len(), reason: error.to_string() });
            return Ok(None);
        }
        Ok(Some(Plan { instructions, what: What::Sweep(numbers), keys, units: run.units }))
    }

    /// Signs, writes down, and only then sends. Nothing is sent if another process was faster.
    async fn sign_and_send(&self, plan: Plan, slot: u64, stand: Stand) -> Result<usize, RailError> {
        let (blockhash, last_height) = self.chain.blockhash().await?;
        if last_height <= stand.outgoing.last_height {
            return Ok(0); // this block's is used up; see `Outgoing::last_height`
        }
        // A tenth more than the simulation took: the accounts may look otherwise by then.
        let instructions = self.with_bid(&plan.instructions, plan.units.saturating_mul(11) / 10);
        let transaction = self.signed(&instructions, blockhash, &plan.keys).await?;
        let signature = transaction.signatures.first().map(ToString::to_string).unwrap_or_default();
        let batch = Batch { signature, bytes: to_text(&transaction)?, last_height, signed_in: slot, what: plan.what };
        let mut next = stand.outgoing.clone();
        if let What::Pay(placed) = &batch.what {
            next.queue.retain(|queued| placed.iter().all(|one| one.id != queued.id));
        }
        next.last_height = last_height;
        next.batches.push(batch);
        if stand.write(&*self.memory, next).await?.is_none() {
            return Ok(0);
        }
        self.chain.send(&transaction).await;
        Ok(1)
    }

    /// Which withdrawal a transaction failed by.
    fn blame(&self, placed: &[Placed], error: &TransactionError) -> Option<InstructionId> {
        let TransactionError::InstructionError(at, _) = error else { return None };
        let culprit = placed.iter().find(|one| one.place >= usize::from(*at))?;
        let reason = error.to_string();
        let failures = culprit.failures + 1;
        self.tell(&Incident::WithdrawalFailed { instruction: culprit.id, failures, reason });
        Some(culprit.id)
    }

    fn wallet_of(&self, note: &PayoutNote) -> Result<Pubkey, RailError> {
        let Order::Payout { destination: Some(text), .. } = &note.payout.order else {
            return Err(RailError::new(RailErrorKind::Refused, "an accepted withdrawal goes nowhere"));
        };
        parse(text, &self.treasury, &self.config.mint).map_err(|error| {
            RailError::new(RailErrorKind::Refused, "an accepted withdrawal goes nowhere").caused_by(error)
        })
    }
}

/// What the treasury has.
struct Treasury {
    lamports: u64,
    held: i64,
}

/// A withdrawal that could be in the next transaction.
struct Candidate {
    queued: Queued,
    wallet: Pubkey,
    account: Pubkey,
    minor: i64,
    /// Whether its token account has to be made.
    missing: bool,
}

/// The next transaction, not signed yet.
struct Plan {
    instructions: Vec<Instruction>,
    what: What,
    keys: Vec<(Key, Pubkey)>,
    units: u64,
}

/// Whose turn it is: those that never failed together; if there are none, one that did, alone.
fn next_in(queue: &[Queued], most: usize) -> Vec<Queued> {
    let fresh: Vec<Queued> = queue.iter().filter(|queued| queued.failures == 0).take(most).copied().collect();
    if fresh.is_empty() { queue.iter().take(1).copied().collect() } else { fresh }
}

/// Puts withdrawals back to be tried again; one that failed too often is declined.
fn requeue(next: &mut Outgoing, placed: &[Placed], culprit: Option<InstructionId>, error: &TransactionError) {
    let mut again = Vec::new();
    for one in placed {
        let failures = one.failures + u32::from(Some(one.id) == culprit);
        if failures > FAILURES {
            next.declined.push((one.id, Decline { code: "failed_on_chain".into(), message: error.to_string() }));
        } else {
            again.push(Queued { id: one.id, failures });
        }
    }
    next.queue.splice(0..0, again);
}

/// Whether no block can take a transaction any more and the node's answer about it is from later.
const fn is_past(batch: &Batch, tip: Tip, known_at: u64) -> bool {
    tip.height > batch.last_height && known_at >= tip.slot
}

/// Whether the treasury is what is at fault.
fn is_short(error: &TransactionError) -> bool {
    matches!(error, TransactionError::InstructionError(_, InstructionError::Custom(INSUFFICIENT)))
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
