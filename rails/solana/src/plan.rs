//! What the next transaction is to do: withdrawals first, sweeps when none can be made.

use solana_instruction::{Instruction, error::InstructionError};
use solana_pubkey::Pubkey;
use solana_transaction_error::TransactionError;
use tradepost::{ids::InstructionId, rail::RailError};

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
/// And for an account that its issuer froze.
const FROZEN: u32 = 17;
/// How many slots pass before one is tried again that would have failed: what was not final then is by now.
const REST: u64 = 32;
/// How often a round looks for withdrawals that can be paid.
const LOOKS: usize = 16;

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

    /// The next withdrawals to pay. What cannot be paid at all is declined on the way; what the treasury cannot afford
    /// now waits, and what comes after it goes by.
    pub(crate) async fn plan_payouts(
        &self,
        treasury: &Treasury,
        lanes: &Lanes,
    ) -> Result<Option<(Plan, Stand)>, RailError> {
        let mut passed = Vec::new();
        for _ in 0..LOOKS {
            let stand = Stand::read(&*self.memory).await?;
            let lane = self.free_lane(&stand.outgoing, lanes);
            if self.waits_for(lane.as_ref()) {
                return Ok(None);
            }
            let free = treasury.held.saturating_sub(stand.outgoing.promised());
            let mut candidates = Vec::new();
            let (mut stale, mut declined) = (Vec::new(), Vec::new());
            for queued in self.next_in(&stand.outgoing.queue, &passed, free, lanes.at) {
                let note = PayoutNote::read(&*self.memory, queued.id).await?;
                match note {
                    Some(note) if note.payout.state == PayoutState::Accepted => match self.wallet_of(&note) {
                        Ok(wallet) => {
                            let account = token_account(&wallet, &self.config.mint);
                            let minor = note.payout.order.amount().minor();
                            candidates.push(Candidate { queued, wallet, account, minor, missing: true });
                        }
                        Err(error) => declined.push((queued.id, error.decline())),
                    },
                    Some(note) if note.payout.state == PayoutState::Held => passed.push(queued.id),
                    _ => stale.push(queued.id),
                }
            }
            if candidates.is_empty() && stale.is_empty() && declined.is_empty() {
                return Ok(None);
            }
            let keys: Vec<Pubkey> = candidates.iter().flat_map(|one| [one.wallet, one.account]).collect();
            let found = if keys.is_empty() { Vec::new() } else { self.chain.accounts(&keys).await?.1 };
            let mut good = Vec::new();
            for (mut one, found) in candidates.into_iter().zip(found.chunks(2)) {
                match check_found(one.wallet, one.account, found[0].as_ref(), found[1].as_ref()) {
                    Ok(()) => {
                        // One that failed may have been closed since: making it again does nothing if not.
                        let missing = found[1].as_ref().and_then(Account::token).is_none();
                        one.missing = missing || one.queued.failures > 0;
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
            let Some(plan) = self.plan_of(good, treasury, free, lane, &mut passed)? else { continue };
            let whole = self.whole(lane.as_ref(), &plan.instructions, UNITS);
            let run = self.chain.simulate(&self.unsigned(&whole)).await?;
            let Some(error) = run.error else {
                return Ok(Some((Plan { units: run.units, ..plan }, stand)));
            };
            let What::Pay(placed) = &plan.what else { return Ok(None) };
            let culprit = culprit(placed, lane.is_some(), &error);
            match culprit.filter(|_| !is_token(&error, INSUFFICIENT)) {
                // Whose account it is will show once that is final.
                Some(culprit) if is_token(&error, FROZEN) => passed.push(culprit.id),
                Some(culprit) => {
                    self.tell_failed(culprit, &error);
                    let mut next = stand.outgoing.clone();
                    next.queue.retain(|queued| queued.id != culprit.id);
                    requeue(&mut next, &[*culprit], Some(culprit.id), &error);
                    let again = next.queue.iter_mut().filter(|queued| queued.id == culprit.id);
                    again.for_each(|queued| queued.rests_until = lanes.at + REST);
                    stand.write(&*self.memory, next).await?;
                    return Ok(None);
                }
                // The treasury is short of something, which was told, or the node is behind.
                None => {
                    tracing::debug!(%error, "withdrawals cannot be paid now");
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Whose turn it is, oldest first, of those that the treasury can pay: those that never failed together; if there
    /// are none, one that did, alone.
    fn next_in(&self, queue: &[Queued], passed: &[InstructionId], mut free: i64, slot: u64) -> Vec<Queued> {
        let (mut next, mut failed, mut short) = (Vec::new(), None, None);
        for queued in queue.iter().filter(|queued| !passed.contains(&queued.id)) {
            if queued.minor > free {
                short = short.or(Some((free, queued.minor)));
            } else if queued.failures > 0 {
                failed = failed.or((slot >= queued.rests_until).then_some(*queued));
            } else if next.len() < self.config.batch.clamp(1, BATCH) {
                next.push(*queued);
                free -= queued.minor;
            }
        }
        if let Some((free, needed)) = short.filter(|_| passed.is_empty()) {
            let (held, needed) = (self.config.money(free), self.config.money(needed));
            self.tell(&Incident::LowToken { held, needed });
        }
        if next.is_empty() { failed.into_iter().collect() } else { next }
    }

    /// As many withdrawals as the treasury can pay and a transaction can hold.
    fn plan_of(
        &self,
        good: Vec<Candidate>,
        treasury: &Treasury,
        mut free: i64,
        lane: Option<Lane>,
        passed: &mut Vec<InstructionId>,
    ) -> Result<Option<Plan>, RailError> {
        let first = self.first(lane.as_ref());
        let mut lamports = treasury.lamports.saturating_sub(SIGNATURE_FEE);
        let (mut instructions, mut placed) = (Vec::new(), Vec::new());
        for one in good {
            let rent = if one.missing { self.rent } else { 0 };
            if one.minor > free {
                passed.push(one.queued.id);
                continue;
            }
            if rent > lamports {
                let (lamports, floor) = (treasury.lamports, self.config.low_sol.max(rent + SIGNATURE_FEE));
                self.tell(&Incident::LowSol { treasury: self.treasury, lamports, floor });
                passed.push(one.queued.id);
                continue;
            }
            let mut longer: Vec<Instruction> = instructions.clone();
            longer.extend(one.missing.then(|| self.create(&one.wallet)));
            let minor = u64::try_from(one.minor).map_err(|_| nonsense("a withdrawal of less than nothing"))?;
            longer.push(self.transfer(&self.treasury_account, &one.account, &self.treasury, minor)?);
            if !self.fits(lane.as_ref(), &longer) {
                break;
            }
            let Queued { id, failures, .. } = one.queued;
            placed.push(Placed { id, failures, place: first + longer.len() - 1, minor: one.minor });
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
        deposits: &[(DepositAddress, Option<Account>)],
    ) -> Result<Option<Plan>, RailError> {
        let lane = self.free_lane(&stand.outgoing, lanes);
        if self.waits_for(lane.as_ref()) {
            return Ok(None);
        }
        let (mut instructions, mut numbers, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        if !treasury_exists {
            instructions.push(self.create(&self.treasury));
        }
        let (apart, others): (Vec<_>, Vec<_>) = deposits.iter().partition(|(address, _)| self.is_apart(address.number));
        for (address, account) in others.into_iter().chain(apart) {
            let held = tokens(account.as_ref());
            let worth = i64::try_from(held).is_ok_and(|held| held >= self.config.sweep_from.max(1));
            if numbers.len() == SWEEP || !worth || stand.outgoing.sweeps(address.number) {
                continue;
            }
            if self.is_apart(address.number) && !numbers.is_empty() {
                break;
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
            if self.is_apart(address.number) {
                break;
            }
        }
        let fees = SIGNATURE_FEE * (1 + numbers.len() as u64) + if treasury_exists { 0 } else { self.rent };
        if numbers.is_empty() || lamports < fees {
            return Ok(None); // low SOL was told
        }
        let run = self.chain.simulate(&self.unsigned(&self.whole(lane.as_ref(), &instructions, UNITS))).await?;
        if let Some(error) = run.error {
            self.tell(&Incident::SweepFailed { addresses: numbers.len(), reason: error.to_string() });
            if let TransactionError::InstructionError(at, _) = error {
                let before = self.first(lane.as_ref()) + usize::from(!treasury_exists);
                let culprit = usize::from(at).checked_sub(before).and_then(|at| numbers.get(at));
                culprit.into_iter().for_each(|number| self.set_apart(*number));
            }
            return Ok(None);
        }
        Ok(Some(Plan { keys, units: run.units, ..Plan::new(instructions, What::Sweep(numbers), lane) }))
    }
}

/// The withdrawal that a transaction failed by.
pub(crate) fn culprit<'a>(placed: &'a [Placed], on_nonce: bool, error: &TransactionError) -> Option<&'a Placed> {
    let TransactionError::InstructionError(at, _) = error else { return None };
    if on_nonce && *at == 0 {
        return None; // the nonce could not be advanced
    }
    placed.iter().find(|one| one.place >= usize::from(*at))
}

/// Whether the token program, or the system program for lamports, says so.
fn is_token(error: &TransactionError, code: u32) -> bool {
    matches!(error, TransactionError::InstructionError(_, InstructionError::Custom(found)) if *found == code)
}
