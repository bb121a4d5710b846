//! Durable nonces: transactions that stay good until they land, or are called off.
//!
//! # Protocol
//!
//! A lane is a nonce account of the treasury's. A transaction on a lane carries the account's nonce in the place of
//! a blockhash and advances it by its first instruction; the chain advances it also when the transaction fails. A
//! nonce never comes back, so:
//!
//! 1. A lane carries one transaction at a time.
//! 2. Its nonce may be signed on only as read in a slot in which the last transaction's nonce was gone
//!    ([`Outgoing::nonces_from`]): a node that lags would offer one that was used, and the same withdrawal signed
//!    on it again is the same bytes, with one signature and one effect.
//! 3. The nonce being gone, as read in no earlier slot than it was signed in, proves that the bytes can never land
//!    any more. Whether they have landed is what a status lookup of no earlier slot says.
//! 4. What does not land is called off by a transaction that advances the nonce and lives for a blockhash. Whichever
//!    of the two a block takes first, 3 is what decides.

use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_system_interface::instruction::{
    advance_nonce_account, allocate_with_seed, create_nonce_account_with_seed, transfer,
};
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

/// A lane that may carry the next transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) number: u8,
    pub(crate) account: Pubkey,
    pub(crate) nonce: Hash,
}

/// Lanes with their accounts, as the chain had them in a slot.
pub(crate) struct Lanes {
    pub(crate) at: u64,
    all: Vec<(u8, Pubkey, Option<Account>)>,
}

impl Lanes {
    pub(crate) fn new(at: u64, lanes: &[(u8, Pubkey)], found: Vec<Option<Account>>) -> Self {
        Self { at, all: lanes.iter().zip(found).map(|((number, account), found)| (*number, *account, found)).collect() }
    }

    /// Whether a lane's nonce is another one by now than the one that a transaction was signed on before, or its
    /// account was closed. An account that cannot be read proves nothing.
    pub(crate) fn is_gone(&self, lane: u8, nonce: &str, signed_in: u64) -> bool {
        let found = self.all.iter().find(|(number, ..)| *number == lane);
        let gone = found.is_some_and(|(.., account)| match account.as_ref().filter(|account| !account.is_blank()) {
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

    /// The configured lanes, and those that these transactions are on.
    pub(crate) fn lanes(&self, batches: &[Batch]) -> Vec<(u8, Pubkey)> {
        let configured = self.config.durable_nonces.map_or(0, |nonces| nonces.lanes.clamp(1, LANES));
        let beyond = batches.iter().filter_map(|batch| batch.life.lane()).filter(|lane| *lane >= configured);
        (0..configured).chain(beyond).map(|lane| (lane, self.nonce_account(lane))).collect()
    }

    fn nonce_account(&self, lane: u8) -> Pubkey {
        let program = solana_system_interface::program::ID;
        Pubkey::create_with_seed(&self.treasury, &seed(lane), &program).expect("a seed of at most 32 bytes")
    }

    /// The lane that the next withdrawals may go by.
    pub(crate) fn free_lane(&self, outgoing: &Outgoing, lanes: &Lanes) -> Option<Lane> {
        let configured = self.config.durable_nonces?.lanes.clamp(1, LANES);
        if lanes.at < outgoing.nonces_from {
            return None;
        }
        lanes.all.iter().filter(|(number, ..)| *number < configured && !outgoing.occupies(*number)).find_map(
            |(number, account, found)| {
                let nonce = self.usable(found.as_ref())?;
                Some(Lane { number: *number, account: *account, nonce })
            },
        )
    }

    /// The nonce of an account, if it is one that the treasury may advance.
    fn usable(&self, account: Option<&Account>) -> Option<Hash> {
        let Nonce { value, authority, durable } = account?.nonce()?;
        (durable && authority == self.treasury).then_some(value)
    }

    /// What the lanes need before anything else is sent: accounts that are missing, and what is to be called off.
    pub(crate) async fn plan_nonces(
        &self,
        outgoing: &Outgoing,
        lanes: &Lanes,
        lamports: u64,
    ) -> Result<Option<Plan>, RailError> {
        let plan = match self.overdue(outgoing, lanes) {
            Some(lane) => {
                let advance = vec![advance_nonce_account(&self.nonce_account(lane), &self.treasury)];
                Some((advance, What::CallOff(lane)))
            }
            None => self.missing(outgoing, lanes, lamports),
        };
        let Some((instructions, what)) = plan else { return Ok(None) };
        let run = self.chain.simulate(&self.unsigned(&self.whole(None, &instructions, UNITS))).await?;
        if let Some(error) = run.error {
            self.tell(&Incident::NonceFailed { reason: error.to_string() });
            return Ok(None);
        }
        Ok(Some(Plan { instructions, what, keys: Vec::new(), units: run.units, lane: None }))
    }

    /// The lane of a transaction that has been on its way for too long, and can still land.
    fn overdue(&self, outgoing: &Outgoing, lanes: &Lanes) -> Option<u8> {
        let patience = self.config.durable_nonces.map_or(CALL_OFF_AFTER, |nonces| nonces.call_off_after);
        outgoing.batches.iter().find_map(|batch| {
            let Life::Nonce { lane, nonce } = &batch.life else { return None };
            let late = lanes.at.saturating_sub(batch.signed_in) > patience;
            if !late || outgoing.calls_off(*lane) || lanes.is_gone(*lane, nonce, batch.signed_in) {
                return None;
            }
            if let Ok(signature) = batch.signature.parse() {
                self.tell(&Incident::CalledOff { signature, signed_in: batch.signed_in });
            }
            Some(*lane)
        })
    }

    /// The nonce accounts to be made: as many as a transaction holds and the treasury can pay.
    fn missing(&self, outgoing: &Outgoing, lanes: &Lanes, lamports: u64) -> Option<(Vec<Instruction>, What)> {
        let configured = self.config.durable_nonces?.lanes.clamp(1, LANES);
        let (mut instructions, mut made) = (Vec::new(), Vec::new());
        let mut left = lamports.saturating_sub(SIGNATURE_FEE);
        for (lane, account, found) in &lanes.all {
            let (lane, account, found) = (*lane, *account, found.as_ref());
            if lane >= configured || self.usable(found).is_some() || outgoing.opens(lane) {
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
            if !self.fits(None, &longer) {
                break;
            }
            (instructions, left) = (longer, left - rent);
            made.push(lane);
        }
        (!made.is_empty()).then_some((instructions, What::Open(made)))
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
    /// Whether a lane carries a transaction, or is about to be advanced.
    fn occupies(&self, lane: u8) -> bool {
        self.batches.iter().any(|batch| batch.life.lane() == Some(lane)) || self.calls_off(lane)
    }

    fn calls_off(&self, lane: u8) -> bool {
        self.batches.iter().any(|batch| batch.what == What::CallOff(lane))
    }

    fn opens(&self, lane: u8) -> bool {
        self.batches.iter().any(|batch| matches!(&batch.what, What::Open(lanes) if lanes.contains(&lane)))
    }
}
