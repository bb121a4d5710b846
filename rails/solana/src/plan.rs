//! What the next transaction is to do: withdrawals first, sweeps when none can be made.

use solana_instruction::{Instruction, error::InstructionError};
use solana_pubkey::Pubkey;
use solana_transaction_error::TransactionError;
use tradepost::rail::RailError;

use crate::{
    address::token_account,
    agents::DepositAddress,
    chain::{Account, nonsense, tokens},
    incident::Incident,
    keys::Key,
    nonces::{Lane, Lanes},
    notes::{PayoutNote, PayoutState, Placed, Queued, Stand, What},
    payouts::check_found,
    rail::SolanaRail,
    sign::UNITS,
    work::requeue,
};

/// How many withdrawals a transaction may carry, whatever the configuration says.
const BATCH: usize = 20;
/// How many addresses a sweep empties; each adds a signature.
const SWEEP: usize = 6;
/// What a signature costs, in lamports.
pub(crate) const SIGNATURE_FEE: u64 = 5_000;
/// The token program's error for a balance that is too small.
const INSUFFICIENT: u32 = 1;

/// What the treasury has.
pub(crate) struct Treasury {
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
pub(crate) struct Plan {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) what: What,
    /// Whose signatures it needs beside the treasury's.
    pub(crate) keys: Vec<(Key, Pubkey)>,
    /// What its simulation took.
    pub(crate) units: u64,
    /// The nonce that it is signed on; a recent blockhash if none.
    pub(crate) lane: Option<Lane>,
}

impl Plan {
    /// What the treasury alone signs, not simulated yet.
    pub(crate) const fn new(instructions: Vec<Instruction>, what: What, lane: Option<Lane>) -> Self {
        Self { instructions, what, keys: Vec::new(), units: 0, lane }
    }
}

impl SolanaRail {
    /// Tells what an operator should know of the treasury; what it can spend, unless it is frozen.
    pub(crate) fn look_after(
        &self,
        stand: &Stand,
        wallet: Option<&Account>,
        tokens_of: Option<&Account>,
    ) -> Option<Treasury> {
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
    pub(crate) async fn plan_payouts(
        &self,
        treasury: &Treasury,
        lanes: &Lanes,
    ) -> Result<Option<(Plan, Stand)>, RailError> {
        loop {
            let stand = Stand::read(&*self.memory).await?;
            let lane = self.free_lane(&stand.outgoing, lanes);
            if self.waits_for(lane.as_ref()) {
                return Ok(None);
            }
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
            let Some(plan) = self.plan_of(good, treasury, stand.outgoing.promised(), lane)? else { return Ok(None) };
            let whole = self.whole(lane.as_ref(), &plan.instructions, UNITS);
            let run = self.chain.simulate(&self.unsigned(&whole)).await?;
            let Some(error) = run.error else {
                return Ok(Some((Plan { units: run.units, ..plan }, stand)));
            };
            let What::Pay(placed) = &plan.what else { return Ok(None) };
            match self.blame(placed, lane.is_some(), &error) {
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
    fn plan_of(
        &self,
        good: Vec<Candidate>,
        treasury: &Treasury,
        promised: i64,
        lane: Option<Lane>,
    ) -> Result<Option<Plan>, RailError> {
        let first = self.first(lane.as_ref());
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
            if !self.fits(lane.as_ref(), &longer) {
                break;
            }
            let Queued { id, failures } = one.queued;
            placed.push(Placed { id, failures, place: first + longer.len() - 1, minor: one.minor, rent });
            (instructions, free, lamports) = (longer, free - one.minor, lamports - rent);
        }
        Ok((!instructions.is_empty()).then(|| Plan::new(instructions, What::Pay(placed), lane)))
    }

    /// Some deposits that are worth a sweep.
    pub(crate) async fn plan_sweep(
        &self,
        stand: &Stand,
        lanes: &Lanes,
        lamports: u64,
        treasury_exists: bool,
        deposits: impl Iterator<Item = (&DepositAddress, &Option<Account>)>,
    ) -> Result<Option<Plan>, RailError> {
        let lane = self.free_lane(&stand.outgoing, lanes);
        if self.waits_for(lane.as_ref()) {
            return Ok(None);
        }
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
            if !self.fits(lane.as_ref(), &longer) {
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
        let run = self.chain.simulate(&self.unsigned(&self.whole(lane.as_ref(), &instructions, UNITS))).await?;
        if let Some(error) = run.error {
            self.tell(&Incident::SweepFailed { addresses: numbers.len(), reason: error.to_string() });
            return Ok(None);
        }
        Ok(Some(Plan { keys, units: run.units, ..Plan::new(instructions, What::Sweep(numbers), lane) }))
    }
}

/// Whose turn it is: those that never failed together; if there are none, one that did, alone.
fn next_in(queue: &[Queued], most: usize) -> Vec<Queued> {
    let fresh: Vec<Queued> = queue.iter().filter(|queued| queued.failures == 0).take(most).copied().collect();
    if fresh.is_empty() { queue.iter().take(1).copied().collect() } else { fresh }
}

/// Whether the treasury is what is at fault.
fn is_short(error: &TransactionError) -> bool {
    matches!(error, TransactionError::InstructionError(_, InstructionError::Custom(INSUFFICIENT)))
}
