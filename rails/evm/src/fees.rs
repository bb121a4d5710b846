//! The infrastructure fee: a permit of its own, apart from the hold (PG-06).
//!
//! # Protocol
//!
//! The payer signs an EIP-2612 permit for the relayer, beside what funds the hold. It is used once the hold is
//! funded: the permit, then the transfer, one payer's fees one after the other, for a later permit replaces an
//! earlier one's allowance. A permit that somebody used first is no obstacle where the allowance is there; one
//! that is good for nothing any more is asked for again ([`EvmRail::infra_fee`], [`EvmRail::pay_infra_fee`]).
//! At the permit's deadline, which is the agreement's expiry, the fee has failed for good unless the transfer
//! is on its way. Whatever becomes of it, the hold stands.

use std::collections::HashSet;

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;
use serde::{Deserialize, Serialize};
use tradepost::{
    ids::HoldId,
    money::Money,
    rail::{Decline, EscrowNews, Observation, ObservationBody},
};

use crate::{
    abi::{Permit, Token},
    ask::Call,
    chain::Block,
    error::EvmError,
    fund::signed_permit,
    hold::{Hold, Offer},
    notes,
    rail::EvmRail,
    relay::Sent,
    sign::Signable,
};

/// The note of the holds that are funded and whose fee has not ended, or was not told.
const OPEN: &str = "fees";

/// Stands for a permit's nonce where the payer allowed the transfer by itself.
const ALLOWED: U256 = U256::MAX;

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
    end: Option<FeeEnd>,
}

/// How a fee ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FeeEnd {
    /// The block up to which the chain was read then.
    at: u64,
    news: EscrowNews,
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
        Ok(Fee { amount, payer, until, signed: None, spent: Vec::new(), end: None })
    }

    pub(crate) fn fee_permit(&self, fee: &Fee, nonce: U256) -> Signable {
        let (owner, spender, deadline) = (fee.payer, self.relayer.address(), U256::from(fee.until));
        Signable::new(self.config.token_domain(), Permit { owner, spender, value: fee.units(), nonce, deadline })
    }

    /// Keeps the payer's permit; the hold's own signatures are worth nothing without it.
    pub(crate) async fn take_fee_permit(
        &self,
        hold: HoldId,
        permit: Option<&Signable>,
        signature: Option<&Bytes>,
    ) -> Result<(), EvmError> {
        let Some(permit) = permit else { return Ok(()) };
        let missing = || EvmError::Answer("the infrastructure fee's permit is not signed".into());
        let signature = signature.ok_or_else(missing)?;
        let crate::sign::Message::Permit(message) = &permit.message else { return Err(missing()) };
        permit
            .check(signature, message.owner)
            .map_err(|problem| EvmError::Signature { what: permit.name(), problem })?;
        let signed = (message.nonce, signature.clone());
        self.change_hold(hold, |note| {
            if let Some(fee) = note.fee.as_mut().filter(|fee| fee.end.is_none()) {
                fee.signed = Some(signed.clone());
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
        self.take_fee_permit(hold, Some(&permit), Some(&signature)).await
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

    /// Carries the open fees on; what became of those that ended after the block read before.
    pub(crate) async fn follow_fees(&self, read_before: u64, block: &Block) -> Result<Vec<Observation>, EvmError> {
        let (mut items, mut told, mut busy) = (Vec::new(), Vec::new(), HashSet::new());
        let open: Vec<HoldId> = notes::read(&*self.memory, OPEN).await?.unwrap_or_default();
        for hold in open {
            let Some(fee) = self.hold(hold).await?.and_then(|note| note.fee) else { continue };
            let end = match fee.end.clone() {
                Some(end) => Some(end),
                None if busy.insert(fee.payer) => self.carry_fee_on(hold, &fee, block).await?,
                None => None,
            };
            match end {
                Some(end) if end.at > read_before => {
                    let body = ObservationBody::Escrow { hold, news: end.news };
                    items.push(Observation { id: format!("fee/{hold}"), body });
                }
                Some(_) => told.push(hold),
                None => {}
            }
        }
        if !told.is_empty() {
            notes::change(&*self.memory, OPEN, |before: Option<Vec<HoldId>>| {
                let open = before.unwrap_or_default().into_iter().filter(|one| !told.contains(one)).collect();
                Ok((Some(open), ()))
            })
            .await?;
        }
        Ok(items)
    }

    async fn carry_fee_on(&self, hold: HoldId, fee: &Fee, block: &Block) -> Result<Option<FeeEnd>, EvmError> {
        // Whatever was ever sent for it counts, so that nobody pays twice.
        let nonce = fee.signed.as_ref().map_or(ALLOWED, |(nonce, _)| *nonce);
        let (mut refused, others) = (false, fee.spent.iter().copied().chain([ALLOWED]));
        for one in others.chain([nonce]) {
            match self.relayer.find(&work_of(hold, one)[1]).await? {
                Some(Sent::Mined { transaction, block: at, succeeded: true, .. }) if at <= block.number() => {
                    let (amount, reference) = (fee.amount, transaction.to_string());
                    return self.end_fee(hold, block, EscrowNews::FeeCollected { amount, reference }).await.map(Some);
                }
                Some(Sent::Mined { succeeded: false, .. }) => refused |= one == nonce,
                Some(_) => return Ok(None),
                None => {}
            }
        }
        let [permit, take] = work_of(hold, nonce);
        if refused && block.time() < fee.until {
            return self.ask_again(hold, nonce).await.map(|()| None);
        }
        if block.time() >= fee.until {
            let message = format!("no permit of the payer's brought it by {}", fee.until);
            let decline = Decline { code: "not_paid_in_time".into(), message };
            let amount = fee.amount;
            return self.end_fee(hold, block, EscrowNews::FeeFailed { amount, decline }).await.map(Some);
        }
        let allowance = Token::allowanceCall { owner: fee.payer, spender: self.relayer.address() };
        if self.chain.read(self.config.token, &allowance, None).await? >= fee.units() {
            let (from, to, amount) = (fee.payer, self.relayer.address(), fee.units());
            let data = Token::transferFromCall { from, to, amount }.abi_encode();
            // A balance that does not reach yet may still.
            return self.send_for_fee(&take, data).await.map(|_| None);
        }
        let Some((_, signature)) = &fee.signed else { return Ok(None) };
        match self.relayer.find(&permit).await? {
            Some(Sent::Mined { block: at, .. }) if at <= block.number() => self.ask_again(hold, nonce).await?,
            Some(_) => {}
            None => {
                let message = self.fee_permit(fee, nonce);
                let p = signed_permit(&message, signature)?;
                let (owner, spender) = (fee.payer, self.relayer.address());
                let (value, deadline, v, r, s) = (p.value, p.deadline, p.v, p.r, p.s);
                let data = Token::permitCall { owner, spender, value, deadline, v, r, s }.abi_encode();
                let spent = self.token_nonce(owner).await? > nonce;
                if !self.send_for_fee(&permit, data).await? && spent {
                    self.ask_again(hold, nonce).await?;
                }
            }
        }
        Ok(None)
    }

    /// Whether it was given to the relayer. What the token refuses, or the relayer cannot pay for, is tried again.
    async fn send_for_fee(&self, work: &str, data: Vec<u8>) -> Result<bool, EvmError> {
        match self.relayer.submit(work, self.config.token, data.into()).await {
            Ok(_) => Ok(true),
            Err(
                EvmError::Reverted(_)
                | EvmError::GasPrice { .. }
                | EvmError::GasLimit { .. }
                | EvmError::Budget { .. }
                | EvmError::Queue { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The permit with this nonce is good for nothing any more.
    async fn ask_again(&self, hold: HoldId, nonce: U256) -> Result<(), EvmError> {
        let forget = |note: &mut Hold| {
            if let Some(fee) = &mut note.fee
                && fee.signed.take_if(|(signed, _)| *signed == nonce).is_some()
            {
                fee.spent.push(nonce);
            }
        };
        self.change_hold(hold, forget).await.map(drop)
    }

    async fn end_fee(&self, hold: HoldId, block: &Block, news: EscrowNews) -> Result<FeeEnd, EvmError> {
        let end = FeeEnd { at: block.number(), news };
        let keep = |note: &mut Hold| match &mut note.fee {
            Some(fee) => fee.end.get_or_insert_with(|| end.clone()).clone(),
            None => end.clone(),
        };
        Ok(self.change_hold(hold, keep).await?.1)
    }
}

impl Fee {
    fn units(&self) -> U256 {
        U256::from(self.amount.minor().unsigned_abs())
    }
}

/// What the relayer's two transactions for a permit are called.
fn work_of(hold: HoldId, nonce: U256) -> [String; 2] {
    [format!("fee/permit/{hold}/{nonce}"), format!("fee/take/{hold}/{nonce}")]
}
