//! Durable nonces: transactions that stay good until they land, or are called off.
//!
//! # Protocol
//!
//! A lane is a nonce account of the treasury's. A transaction on a lane carries the account's nonce in the place of
//! a blockhash and advances it by its first instruction; the chain advances it also when the transaction fails. A
//! nonce never comes back, so:
//!
//! 1. A lane carries one transaction at a time, and the one that calls it off.
//! 2. Its nonce may be signed on only as read in a slot in which the last transaction's nonce was gone
//!    ([`Outgoing::nonces_from`]): a node that lags would offer one that was used, and the same withdrawal signed
//!    on it again is the same bytes, with one signature and one effect.
//! 3. The nonce being gone, as read in no earlier slot than it was signed in, proves that the bytes can never land
//!    any more. Whether they have landed is what a status lookup of no earlier slot says.
//! 4. What does not land is called off by a transaction on the same nonce that does nothing else: a block can take one
//!    of the two, and 3 is what decides.
//!
//! Everything is signed on a lane, sweeps and further lanes too, so that the signer may take its time. The first lanes
//! cannot be: they live for a blockhash.

use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_system_interface::instruction::{allocate_with_seed, create_nonce_account_with_seed, transfer};
use tradepost::rail::RailError;

use crate::{
    chain::{Account, Nonce},
    incident::Incident,
    notes::{Batch, Life, Outgoing, What},
    plan::{Plan, SIGNATURE_FEE},
    rail::SolanaRail,
    sign::UNITS,
};

/// How many lanes there may be.
const LANES: u8 = 16;
/// How long a nonce account is, in bytes.
pub(crate) const NONCE: usize = solana_nonce::state::State::size();
/// When a transaction is called off that was signed while nonces were configured, and they are no more.
const CALL_OFF_AFTER: u64 = 1_500;

/// A lane that can carry a transaction, with its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) number: u8,
    pub(crate) account: Pubkey,
    pub(crate) nonce: Hash,
}

/// Lanes with their accounts, as the chain had them in a slot.
pub(crate) struct Lanes {
    pub(crate) at: u64,
    all: Vec<Seen>,
}

struct Seen {
    number: u8,
    account: Pubkey,
    found: Option<Account>,
}

impl Lanes {
    pub(crate) fn new(at: u64, lanes: &[(u8, Pubkey)], found: Vec<Option<Account>>) -> Self {
        let seen = |(&(number, account), found)| Seen { number, account, found };
        Self { at, all: lanes.iter().zip(found).map(seen).collect() }
    }

    fn get(&self, lane: u8) -> Option<&Seen> {
        self.all.iter().find(|seen| seen.number == lane)
    }

    /// Whether a lane's nonce is another one by now than the one that a transaction was signed on before, or its
    /// account was closed. An account that cannot be read proves nothing.
    pub(crate) fn is_gone(&self, lane: u8, nonce: &str, signed_in: u64) -> bool {
        let gone = self.get(lane).is_some_and(|seen| match seen.found.as_ref().filter(|account| !account.is_blank()) {
            Some(account) => account.nonce().is_some_and(|now| now.value.to_string() != nonce),
            None => true,
        });
        self.at >= signed_in && gone
    }
}

impl SolanaRail {
    /// The nonce accounts of the configured lanes. Their addresses follow from the treasury's: made with seed
    /// `tradepost-nonce-<lane>`, owned by the system program.
    pub fn nonce_accounts(&self) -> Vec<Pubkey> {
        self.lanes(&[]).into_iter().map(|(_, account)| account).collect()
    }

    /// How many lanes are configured.
    fn configured(&self) -> u8 {
        self.config.durable_nonces.map_or(0, |nonces| nonces.lanes.clamp(1, LANES))
    }

    /// The configured lanes, and those that these transactions are on.
    pub(crate) fn lanes(&self, batches: &[Batch]) -> Vec<(u8, Pubkey)> {
        let configured = self.configured();
        let beyond = batches.iter().filter_map(|batch| batch.life.lane()).filter(|lane| *lane >= configured);
        (0..configured).chain(beyond).map(|lane| (lane, self.nonce_account(lane))).collect()
    }

    fn nonce_account(&self, lane: u8) -> Pubkey {
        let program = solana_system_interface::program::ID;
        Pubkey::create_with_seed(&self.treasury, &seed(lane), &program).expect("a seed of at most 32 bytes")
    }

    /// The lane that the next transaction may go by.
    pub(crate) fn free_lane(&self, outgoing: &Outgoing, lanes: &Lanes) -> Option<Lane> {
        if lanes.at < outgoing.nonces_from {
            return None;
        }
        let free = |seen: &&Seen| seen.number < self.configured() && !outgoing.occupies(seen.number);
        lanes.all.iter().filter(free).find_map(|seen| self.usable(seen))
    }

    /// Whether the next transaction has to wait for a lane; otherwise it goes by this one, or by a blockhash.
    pub(crate) const fn waits_for(&self, free: Option<&Lane>) -> bool {
        free.is_none() && self.config.durable_nonces.is_some()
    }

    /// A lane, if the treasury may advance its account's nonce.
    fn usable(&self, seen: &Seen) -> Option<Lane> {
        let Nonce { value, authority, durable } = seen.found.as_ref()?.nonce()?;
        let lane = Lane { number: seen.number, account: seen.account, nonce: value };
        (durable && authority == self.treasury).then_some(lane)
    }

    /// What the lanes need before anything else is sent: accounts that are missing, and what is to be called off.
    pub(crate) async fn plan_nonces(
        &self,
        outgoing: &Outgoing,
        lanes: &Lanes,
        lamports: u64,
    ) -> Result<Option<Plan>, RailError> {
        let plan = self.overdue(outgoing, lanes).or_else(|| self.missing(outgoing, lanes, lamports));
        let Some(plan) = plan else { return Ok(None) };
        let whole = self.whole(plan.lane.as_ref(), &plan.instructions, UNITS);
        let run = self.chain.simulate(&self.unsigned(&whole)).await?;
        if let Some(error) = run.error {
            self.tell(&Incident::NonceFailed { reason: error.to_string() });
            return Ok(None);
        }
        Ok(Some(Plan { units: run.units, ..plan }))
    }

    /// The end of a transaction that has been on its way for too long, and can still land.
    fn overdue(&self, outgoing: &Outgoing, lanes: &Lanes) -> Option<Plan> {
        let patience = self.config.durable_nonces.map_or(CALL_OFF_AFTER, |nonces| nonces.call_off_after);
        outgoing.batches.iter().find_map(|batch| {
            let Life::Nonce { lane, nonce } = &batch.life else { return None };
            let late = lanes.at.saturating_sub(batch.signed_in.max(batch.sent_in)) > patience;
            if !late || outgoing.calls_off(*lane) || lanes.is_gone(*lane, nonce, batch.signed_in) {
                return None;
            }
            let seen = lanes.get(*lane)?;
            let Some(lane) = self.usable(seen) else {
                self.tell(&Incident::NonceUnusable { lane: seen.number, account: seen.account });
                return None;
            };
            if let Ok(signature) = batch.signature.parse() {
                self.tell(&Incident::CalledOff { signature, signed_in: batch.signed_in });
            }
            // Whatever is on a lane advances its nonce first: there is nothing to add.
            Some(Plan::new(Vec::new(), What::CallOff(lane.number), Some(lane)))
        })
    }

    /// The nonce accounts to be made: as many as a transaction holds and the treasury can pay.
    fn missing(&self, outgoing: &Outgoing, lanes: &Lanes, lamports: u64) -> Option<Plan> {
        let by = self.free_lane(outgoing, lanes);
        if by.is_none() && lanes.all.iter().any(|seen| self.usable(seen).is_some()) {
            return None; // one will be free
        }
        let (mut instructions, mut made) = (Vec::new(), Vec::new());
        let mut left = lamports.saturating_sub(SIGNATURE_FEE);
        for seen in lanes.all.iter().filter(|seen| seen.number < self.configured()) {
            let (lane, account, found) = (seen.number, seen.account, seen.found.as_ref());
            if self.usable(seen).is_some() || outgoing.opens(lane) {
                continue;
            }
            if !found.is_none_or(Account::is_blank) {
                self.tell(&Incident::NonceUnusable { lane, account });
                continue;
            }
            // Anybody may have sent lamports there before, so it is not simply created.
            let rent = self.nonce_rent.saturating_sub(found.map_or(0, |account| account.lamports));
            if rent > left {
                let floor = self.config.low_sol.max(rent + SIGNATURE_FEE);
                self.tell(&Incident::LowSol { treasury: self.treasury, lamports, floor });
                break;
            }
            let mut longer: Vec<Instruction> = instructions.clone();
            longer.extend(self.open(lane, &account, rent));
            if !self.fits(by.as_ref(), &longer) {
                break;
            }
            (instructions, left) = (longer, left - rent);
            made.push(lane);
        }
        (!made.is_empty()).then(|| Plan::new(instructions, What::Open(made), by))
    }

    fn open(&self, lane: u8, account: &Pubkey, rent: u64) -> Vec<Instruction> {
        let (treasury, program) = (&self.treasury, &solana_system_interface::program::ID);
        let mut all = vec![allocate_with_seed(account, treasury, &seed(lane), NONCE as u64, program)];
        all.extend((rent > 0).then(|| transfer(treasury, account, rent)));
        // The second of the two that make an account from nothing.
        all.extend(create_nonce_account_with_seed(treasury, account, treasury, &seed(lane), treasury, rent).pop());
        all
    }
}

fn seed(lane: u8) -> String {
    format!("tradepost-nonce-{lane}")
}

impl Life {
    pub(crate) fn lane(&self) -> Option<u8> {
        match self {
            Self::Nonce { lane, .. } => Some(*lane),
            Self::Height { .. } => None,
        }
    }
}

impl Outgoing {
    /// Whether a lane carries a transaction.
    fn occupies(&self, lane: u8) -> bool {
        self.batches.iter().any(|batch| batch.life.lane() == Some(lane))
    }

    fn calls_off(&self, lane: u8) -> bool {
        self.batches.iter().any(|batch| batch.what == What::CallOff(lane))
    }

    fn opens(&self, lane: u8) -> bool {
        self.batches.iter().any(|batch| matches!(&batch.what, What::Open(lanes) if lanes.contains(&lane)))
    }
}
