//! The infrastructure fee: a permit of its own, apart from the hold (PG-06).
//!
//! # Protocol
//!
//! The payer signs an EIP-2612 permit for the relayer, beside what funds the hold. It is used once the hold is
//! funded: the permit, then the transfer, one payer's fees one after the other, for a later permit replaces an
//! earlier one's allowance; a fee for which nothing was sent holds up no other. A permit that somebody used first
//! is no obstacle where the allowance is there; one that is good for nothing any more is asked for again
//! ([`EvmRail::infra_fee`], [`EvmRail::pay_infra_fee`]). Whether a transfer took the fee is read from the token's
//! own log, and a transfer that is lost from sight is an incident and not sent anew. At the permit's deadline,
//! which is the agreement's expiry, nothing is sent any more; some time later the fee has failed for good unless a
//! transfer is on its way. Whatever becomes of it, the hold stands.
//!
//! Any number of processes carry fees on. What each sees may be old by the time it sends something, so that it
//! looks once more where nobody can give anything in between ([`Unchanged`]).

use std::collections::HashMap;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tradepost::{
    ids::HoldId,
    money::Money,
    rail::{Decline, EscrowNews, Observation, ObservationBody},
};

use crate::{
    abi::{Permit, Token},
    ask::Call,
    chain::{Block, Log},
    error::EvmError,
    fund::signed_permit,
    hold::{Hold, Offer},
    incident::Incident,
    notes,
    rail::EvmRail,
    relay::{Condition, Sent, Times},
    sign::{Message, Signable},
};

/// The note of the holds that are funded and whose fee has not ended, or was not told.
const OPEN: &str = "fees";

/// Stands for a permit's nonce where the payer allowed the transfer by itself; each later attempt counts down.
const ALLOWED: U256 = U256::MAX;

/// How many seconds after its deadline a fee has failed: another process may be sending its last transfer.
const MARGIN: u64 = 600;

/// What a payer owes besides a hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fee {
    pub(crate) amount: Money,
    pub(crate) payer: Address,
    /// Unix time until which its permit is good.
    until: u64,
    /// The permit's nonce and the payer's signature.
    signed: Option<(U256, Bytes)>,
    /// Permits before it that were good for nothing any more, by nonce.
    spent: Vec<U256>,
    /// How many transfers from an allowance of the payer's own failed.
    #[serde(default)]
    allowances: u64,
    /// The transfer that an operator was told is lost.
    #[serde(default)]
    lost: Option<B256>,
    end: Option<FeeEnd>,
}

/// How a fee ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FeeEnd {
    news: EscrowNews,
}

/// What was sent for a fee.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// By which transaction the platform has it.
    taken: Option<B256>,
    /// A transfer is on its way.
    under_way: bool,
    /// A transfer's nonce is gone, the transfer is not seen; it may have been.
    lost: Option<B256>,
    /// What it is tried with now was refused on chain.
    refused: bool,
    /// The payer's allowance is there for this fee: its permit or its transfer was sent.
    holds_allowance: bool,
}

/// How a fee goes on.
enum Course {
    Ended(FeeEnd),
    /// It uses the payer's allowance from now on.
    Takes,
    Waits,
}

/// An infrastructure fee.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InfraFee {
    /// How much.
    pub amount: Money,
    /// How far it is.
    pub state: InfraFeeState,
    /// Unix time until which it can be paid.
    pub until: u64,
}

/// How far an infrastructure fee is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InfraFeeState {
    /// The payer has not signed, or what it signed is good for nothing any more.
    Pending {
        /// What to sign, for the platform to relay.
        permit: Box<Signable>,
        /// What to send instead.
        direct: Call,
    },
    /// It is signed. It is taken once the hold is funded.
    Submitting {
        /// The relayer's newest transaction for it; `None` before there is one.
        sent: Option<Sent>,
    },
    /// The platform has it.
    Collected {
        /// The transfer.
        transaction: String,
    },
    /// It was not paid, and will not be.
    Failed {
        /// Why.
        decline: Decline,
    },
}

impl EvmRail {
    pub(crate) fn fee_of(&self, amount: Money, payer: Address, offers: &[Offer]) -> Result<Fee, EvmError> {
        if amount.currency() != self.config.currency || !amount.is_positive() {
            let allowed = format!("more than nothing, in {}", self.config.currency);
            return Err(EvmError::Terms { field: "infrastructure_fee", value: amount.to_string(), allowed });
        }
        let until = offers.first().map_or(0, |offer| offer.terms.expiry.to());
        Ok(Fee { amount, payer, until, signed: None, spent: Vec::new(), allowances: 0, lost: None, end: None })
    }

    pub(crate) fn fee_permit(&self, fee: &Fee, nonce: U256) -> Signable {
        let (owner, spender, deadline) = (fee.payer, self.relayer.address(), U256::from(fee.until));
        Signable::new(self.config.token_domain(), Permit { owner, spender, value: fee.units(), nonce, deadline })
    }

    /// Keeps the permit that the payer signed, of those that it was shown, newest first; the hold's own signatures
    /// are worth nothing without it. One that is used up by now is asked for again when its turn comes.
    pub(crate) async fn take_fee_permit(
        &self,
        hold: HoldId,
        permits: &[Signable],
        signature: Option<&Bytes>,
    ) -> Result<(), EvmError> {
        let missing = || EvmError::Answer("the infrastructure fee's permit is not signed".into());
        let (signature, newest) = (signature.ok_or_else(missing)?, permits.first().ok_or_else(missing)?);
        let is_signed = |permit: &&Signable| match &permit.message {
            Message::Permit(message) => permit.check(signature, message.owner).is_ok(),
            _ => false,
        };
        let permit = permits.iter().find(is_signed).unwrap_or(newest);
        let Message::Permit(message) = &permit.message else { return Err(missing()) };
        permit
            .check(signature, message.owner)
            .map_err(|problem| EvmError::Signature { what: permit.name(), problem })?;
        let signed = (message.nonce, signature.clone());
        self.change_hold(hold, |note| {
            if let Some(fee) = note.fee.as_mut().filter(|fee| fee.end.is_none()) {
                // A transfer under the one before counts, too.
                let before = fee.signed.replace(signed.clone());
                fee.spent.extend(before.map(|(nonce, _)| nonce).filter(|nonce| *nonce != signed.0));
            }
        })
        .await
        .map(drop)
    }

    /// A hold's infrastructure fee; `None` where it is waived.
    ///
    /// # Errors
    /// The node's or the memory's failure.
    pub async fn infra_fee(&self, hold: HoldId) -> Result<Option<InfraFee>, EvmError> {
        let Some(fee) = self.hold(hold).await?.and_then(|note| note.fee) else { return Ok(None) };
        let state = match (&fee.end, &fee.signed) {
            (Some(FeeEnd { news: EscrowNews::FeeFailed { decline, .. }, .. }), _) => {
                InfraFeeState::Failed { decline: decline.clone() }
            }
            (Some(FeeEnd { news: EscrowNews::FeeCollected { reference, .. }, .. }), _) => {
                InfraFeeState::Collected { transaction: reference.clone() }
            }
            (_, Some((nonce, _))) => {
                let [permit, take] = work_of(hold, *nonce);
                let sent = match self.relayer.find(&take).await? {
                    None => self.relayer.find(&permit).await?,
                    sent => sent,
                };
                InfraFeeState::Submitting { sent }
            }
            (_, None) => {
                let permit = Box::new(self.fee_permit(&fee, self.token_nonce(fee.payer).await?));
                let data = Token::approveCall { spender: self.relayer.address(), amount: fee.units() }.abi_encode();
                let direct = Call { to: self.config.token, ..self.call(fee.payer, data) };
                InfraFeeState::Pending { permit, direct }
            }
        };
        Ok(Some(InfraFee { amount: fee.amount, state, until: fee.until }))
    }

    /// Takes the payer's signature over the permit that [`EvmRail::infra_fee`] shows: when the hold was funded by
    /// the payer's own transaction, or an earlier permit is good for nothing any more.
    ///
    /// # Errors
    /// [`EvmError::Unknown`] where no fee is pending; what does not match in the signature.
    pub async fn pay_infra_fee(&self, hold: HoldId, signature: Bytes) -> Result<(), EvmError> {
        let pending = self.infra_fee(hold).await?;
        let Some(InfraFee { state: InfraFeeState::Pending { permit, .. }, .. }) = pending else {
            return Err(EvmError::Unknown { what: "pending infrastructure fee of hold", id: hold.to_string() });
        };
        self.take_fee_permit(hold, std::slice::from_ref(&*permit), Some(&signature)).await
    }

    /// The hold is funded: from now on its fee is followed.
    pub(crate) async fn open_fee(&self, hold: HoldId) -> Result<(), EvmError> {
        notes::change(&*self.memory, OPEN, |before: Option<Vec<HoldId>>| {
            let mut open = before.unwrap_or_default();
            let known = open.contains(&hold);
            open.push(hold);
            Ok(((!known).then_some(open), ()))
        })
        .await
    }

    /// Carries the open fees on; what became of those that ended. It is told until a page that says so is
    /// published ([`EvmRail::close_fees`]): when a fee ends is no matter of the blocks read alone, so that of two
    /// processes that read the same blocks one may see it and the other publish. Trouble with one fee keeps
    /// nobody's hold from being read; it is carried on at the next reading.
    pub(crate) async fn follow_fees(&self, block: &Block) -> Result<Vec<(HoldId, Observation)>, EvmError> {
        let (mut items, mut waiting, mut taking) = (Vec::new(), Vec::new(), HashMap::new());
        let open: Vec<HoldId> = notes::read(&*self.memory, OPEN).await?.unwrap_or_default();
        for hold in open {
            let Some(fee) = self.hold(hold).await?.and_then(|note| note.fee) else { continue };
            if let Some(end) = fee.end {
                items.push((hold, end.observation(hold)));
                continue;
            }
            match self.progress(hold, &fee, block).await {
                Ok(progress) => {
                    if progress.holds_allowance {
                        taking.entry(fee.payer).or_insert(hold);
                    }
                    waiting.push((hold, fee, progress));
                }
                Err(error) => {
                    taking.entry(fee.payer).or_insert(hold);
                    leave(hold, error)?;
                }
            }
        }
        // An allowance is first for those who signed for one.
        waiting.sort_by_key(|(_, fee, _)| fee.signed.is_none());
        for (hold, fee, progress) in waiting {
            let free = taking.get(&fee.payer).is_none_or(|one| *one == hold);
            match self.carry_fee_on(hold, &fee, progress, free, block).await {
                Ok(Course::Ended(end)) => items.push((hold, end.observation(hold))),
                Ok(Course::Takes) => drop(taking.entry(fee.payer).or_insert(hold)),
                Ok(Course::Waits) => {}
                Err(error) => leave(hold, error)?,
            }
        }
        Ok(items)
    }

    /// Their ends are told in a page that is published.
    pub(crate) async fn close_fees(&self, told: &[HoldId]) -> Result<(), EvmError> {
        notes::change(&*self.memory, OPEN, |before: Option<Vec<HoldId>>| {
            let mut open = before.unwrap_or_default();
            let all = open.len();
            open.retain(|one| !told.contains(one));
            Ok(((open.len() < all).then_some(open), ()))
        })
        .await
    }

    /// Whatever was ever sent for it counts, so that nobody pays twice.
    async fn progress(&self, hold: HoldId, fee: &Fee, block: &Block) -> Result<Progress, EvmError> {
        let mut progress = Progress::default();
        for nonce in fee.nonces() {
            match self.relayer.find(&work_of(hold, nonce)[1]).await? {
                Some(Sent::Mined { transaction, block: at, succeeded, .. }) if at <= block.number() => {
                    match self.is_taken(fee, transaction, at).await? {
                        true => progress.taken = Some(transaction),
                        false if succeeded => {
                            let what = format!("{transaction} took a fee of {}, but nothing arrived", fee.amount);
                            return Err(EvmError::Contradiction(what));
                        }
                        false => progress.refused |= nonce == fee.nonce(),
                    }
                }
                Some(Sent::Lost { transaction }) => progress.lost = Some(transaction),
                Some(_) => progress.under_way = true,
                None => {}
            }
        }
        let permitted = match &fee.signed {
            Some((nonce, _)) => self.relayer.find(&work_of(hold, *nonce)[0]).await?.is_some(),
            None => false,
        };
        let sends_more = progress.taken.is_none() && progress.lost.is_none();
        progress.holds_allowance = progress.under_way || (permitted && sends_more);
        Ok(progress)
    }

    /// The token's own log is the truth, whatever a receipt says.
    async fn is_taken(&self, fee: &Fee, transaction: B256, block: u64) -> Result<bool, EvmError> {
        let logs = self.chain.transfers(self.config.token, [fee.payer, self.relayer.address()], block).await?;
        let moved = |log: &Log| log.read::<Token::Transfer>().is_some_and(|moved| moved.value == fee.units());
        Ok(logs.iter().any(|log| log.transaction_hash == transaction && moved(log)))
    }

    /// With `free`, no other fee of this payer is using an allowance.
    async fn carry_fee_on(
        &self,
        hold: HoldId,
        fee: &Fee,
        progress: Progress,
        free: bool,
        block: &Block,
    ) -> Result<Course, EvmError> {
        if let Some(transaction) = progress.taken {
            let (amount, reference) = (fee.amount, transaction.to_string());
            return self.end_fee(hold, EscrowNews::FeeCollected { amount, reference }).await.map(Course::Ended);
        }
        if progress.under_way {
            return Ok(Course::Takes);
        }
        if let Some(transaction) = progress.lost.filter(|transaction| fee.lost != Some(*transaction)) {
            self.tell(&Incident::LostFee { hold, transaction });
            let told = |note: &mut Hold| note.fee.iter_mut().for_each(|fee| fee.lost = Some(transaction));
            self.change_hold(hold, told).await?;
        }
        if block.time() >= fee.until.saturating_add(MARGIN) {
            let message = format!("no permit of the payer's brought it by {}", fee.until);
            let decline = Decline { code: "not_paid_in_time".into(), message };
            let amount = fee.amount;
            return self.end_fee(hold, EscrowNews::FeeFailed { amount, decline }).await.map(Course::Ended);
        }
        if progress.lost.is_some() || block.time() >= fee.until {
            return Ok(Course::Waits);
        }
        let nonce = fee.nonce();
        if progress.refused {
            return self.ask_again(hold, nonce).await.map(|()| Course::Waits);
        }
        if !free {
            return Ok(Course::Waits);
        }
        let [permit, take] = work_of(hold, nonce);
        let unchanged = Unchanged { rail: self, hold, fee, block };
        let allowance = Token::allowanceCall { owner: fee.payer, spender: self.relayer.address() };
        if self.chain.read(self.config.token, &allowance, None).await? >= fee.units() {
            let (from, to, amount) = (fee.payer, self.relayer.address(), fee.units());
            let data = Token::transferFromCall { from, to, amount }.abi_encode();
            // A balance that does not reach yet may still.
            let sent = self.relayer.submit_if(&take, self.config.token, data.into(), Times::Once, &unchanged).await;
            return given(sent).map(|given| if given { Course::Takes } else { Course::Waits });
        }
        let Some((_, signature)) = &fee.signed else { return Ok(Course::Waits) };
        match self.relayer.find(&permit).await? {
            Some(Sent::Mined { block: at, .. }) if at <= block.number() => {
                self.ask_again(hold, nonce).await.map(|()| Course::Waits)
            }
            Some(_) => Ok(Course::Takes),
            None => {
                let message = self.fee_permit(fee, nonce);
                let p = signed_permit(&message, signature)?;
                let (owner, spender) = (fee.payer, self.relayer.address());
                let (value, deadline, v, r, s) = (p.value, p.deadline, p.v, p.r, p.s);
                let data = Token::permitCall { owner, spender, value, deadline, v, r, s }.abi_encode();
                let spent = self.token_nonce(owner).await? > nonce;
                let sent =
                    self.relayer.submit_if(&permit, self.config.token, data.into(), Times::Any, &unchanged).await;
                if given(sent)? {
                    return Ok(Course::Takes);
                }
                if spent {
                    self.ask_again(hold, nonce).await?;
                }
                Ok(Course::Waits)
            }
        }
    }

    /// What was tried under this nonce is good for nothing any more.
    async fn ask_again(&self, hold: HoldId, nonce: U256) -> Result<(), EvmError> {
        let forget = |note: &mut Hold| {
            let Some(fee) = &mut note.fee else { return };
            if nonce == fee.allowed() {
                fee.allowances += 1;
            } else if fee.signed.take_if(|(signed, _)| *signed == nonce).is_some() {
                fee.spent.push(nonce);
            }
        };
        self.change_hold(hold, forget).await.map(drop)
    }

    async fn end_fee(&self, hold: HoldId, news: EscrowNews) -> Result<FeeEnd, EvmError> {
        let end = FeeEnd { news };
        let keep = |note: &mut Hold| match &mut note.fee {
            Some(fee) => fee.end.get_or_insert_with(|| end.clone()).clone(),
            None => end.clone(),
        };
        Ok(self.change_hold(hold, keep).await?.1)
    }
}

/// A fee stands as it was seen, and no other one of its payer's uses the allowance.
struct Unchanged<'a> {
    rail: &'a EvmRail,
    hold: HoldId,
    fee: &'a Fee,
    block: &'a Block,
}

#[async_trait]
impl Condition for Unchanged<'_> {
    async fn holds(&self) -> Result<(), EvmError> {
        let (payer, nonce) = (self.fee.payer, self.fee.nonce());
        let changed = || EvmError::Contention { key: format!("the allowance of {payer}"), attempts: 1 };
        let open: Vec<HoldId> = notes::read(&*self.rail.memory, OPEN).await?.unwrap_or_default();
        let mut stands = false;
        for hold in open {
            let fee = self.rail.hold(hold).await?.and_then(|note| note.fee);
            let Some(fee) = fee.filter(|fee| fee.payer == payer && fee.end.is_none()) else { continue };
            let progress = self.rail.progress(hold, &fee, self.block).await?;
            if hold == self.hold {
                stands = fee.nonce() == nonce && progress.is_untouched();
            } else if progress.holds_allowance {
                return Err(changed());
            }
        }
        stands.then_some(()).ok_or_else(changed)
    }
}

/// Whether it was given to the relayer. What the token refuses, or the relayer cannot pay for, or another process
/// was faster with, is tried again.
fn given(sent: Result<Sent, EvmError>) -> Result<bool, EvmError> {
    match sent {
        Ok(_) => Ok(true),
        Err(
            EvmError::Reverted(_)
            | EvmError::GasPrice { .. }
            | EvmError::GasLimit { .. }
            | EvmError::Budget { .. }
            | EvmError::Queue { .. }
            | EvmError::Contention { .. },
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Trouble with a fee waits for the next reading, unless it is the memory's.
fn leave(hold: HoldId, error: EvmError) -> Result<(), EvmError> {
    match error {
        EvmError::Memory(_) | EvmError::Unreadable { .. } => Err(error),
        error => {
            tracing::warn!(%hold, %error, "an infrastructure fee waits");
            Ok(())
        }
    }
}

impl Progress {
    /// No transfer of it was ever on its way, or may have been.
    const fn is_untouched(&self) -> bool {
        self.taken.is_none() && !self.under_way && self.lost.is_none()
    }
}

impl FeeEnd {
    fn observation(self, hold: HoldId) -> Observation {
        Observation { id: format!("fee/{hold}"), body: ObservationBody::Escrow { hold, news: self.news } }
    }
}

impl Fee {
    /// What it is tried with now.
    fn nonce(&self) -> U256 {
        self.signed.as_ref().map_or_else(|| self.allowed(), |(nonce, _)| *nonce)
    }

    /// Stands for the nonce of the next transfer from the payer's own allowance.
    fn allowed(&self) -> U256 {
        ALLOWED - U256::from(self.allowances)
    }

    /// Whatever it was tried with, and is now.
    fn nonces(&self) -> impl Iterator<Item = U256> {
        let allowed = (0..=self.allowances).map(|number| ALLOWED - U256::from(number));
        let signed = self.signed.iter().map(|(nonce, _)| *nonce);
        self.spent.iter().copied().chain(allowed).chain(signed)
    }

    fn units(&self) -> U256 {
        U256::from(self.amount.minor().unsigned_abs())
    }
}

/// What the relayer's two transactions for a permit are called.
fn work_of(hold: HoldId, nonce: U256) -> [String; 2] {
    [format!("fee/permit/{hold}/{nonce}"), format!("fee/take/{hold}/{nonce}")]
}
