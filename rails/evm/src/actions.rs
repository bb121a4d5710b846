//! What parties may do with a funded agreement besides being asked: by their own transaction or by a signature
//! that the platform relays (PG-08 to PG-11). Neither gives the platform a say.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use serde::{Deserialize, Serialize};
use tradepost::{
    clock::Timestamp,
    ids::HoldId,
    money::Money,
    rail::{Decline, Receipt},
};

use crate::{
    abi::{
        BuyerWithdrawIntent, CloseIntent, Escrow, ReleaseIntent, RevokeNoncesIntent, RulingIntent, SellerClaimIntent,
        UsageReceipt, WaiveIntent, stage,
    },
    ask::{Call, Role},
    error::EvmError,
    hold::Funded,
    rail::EvmRail,
    relay::Sent,
    sign::{Message, Signable},
};

/// Something that a party may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "act")]
pub enum Act {
    /// Count units that the receipt signer has signed for (PG-19).
    SubmitReceipt {
        /// Since the agreement began.
        units: u64,
        /// Head of the hash chain of calls.
        proof: B256,
    },
    /// The buyer lets the seller have this much in all, in minor units.
    Release {
        /// How much, with what was released before.
        cumulative: u128,
    },
    /// Start the challenge window (PG-09).
    Close {
        /// Buyer or seller.
        by: Role,
    },
    /// The seller needs no more time.
    Waive,
    /// The arbiter decides what the seller has earned, in minor units.
    Rule {
        /// How much.
        earned: u128,
    },
    /// The seller takes what was earned.
    Claim,
    /// The buyer takes back the rest.
    Withdraw,
}

/// Whether something can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It can.
    Possible,
    /// It cannot.
    Not {
        /// Why not.
        why: String,
    },
}

/// How an act is authorised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The party sends the transaction and pays for its gas.
    Direct,
    /// The party signs, the platform sends and pays.
    Sponsored,
}

/// The ways of doing an act (PG-11).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Who must sign or send.
    pub signer: Address,
    /// The signature's nonce: any that the signer has not used.
    pub nonce: U256,
    /// Unix time until which the signature is good, if it is signed as suggested.
    pub deadline: u64,
    /// What to sign for the sponsored way.
    pub sign: Signable,
    /// What to send for the direct way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// Whether it can be sent directly.
    pub direct: Way,
    /// Whether it can be sponsored.
    pub sponsored: Way,
    /// What we would do; `None` where nothing is possible.
    pub recommended: Option<Mode>,
}

/// Where an agreement stands on chain (PG-08).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowState {
    /// Its id.
    pub agreement: B256,
    /// `none`, `open`, `closing`, `finalized` or `settled`.
    pub state: String,
    /// What the seller has earned, fees included.
    pub earned: Money,
    /// What of that was paid.
    pub claimed: Money,
    /// What went back to the buyer.
    pub withdrawn: Money,
    /// What a claim would pay now, fees included.
    pub claimable: Money,
    /// What a withdrawal would pay now.
    pub withdrawable: Money,
    /// When the challenge window, or else the agreement, ends.
    pub final_at: Option<Timestamp>,
    /// The fee in force, in hundredths of a percent.
    pub fee_bps: u16,
}

/// How far an activation has come (PG-05).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The payer has not signed.
    AwaitingSignature {
        /// Unix time until which it may.
        until: u64,
    },
    /// It is being sent, or is in a block that does not count yet.
    Submitting {
        /// The relayer's transaction; `None` when the payer sends it.
        sent: Option<Sent>,
    },
    /// The contract has the deposit.
    Confirmed {
        /// The proof.
        receipt: Box<Receipt>,
    },
    /// It came to nothing.
    Failed {
        /// Why.
        decline: Decline,
    },
}

impl EvmRail {
    /// Where a hold's agreement stands on chain at this moment; blocks that do not count yet are in it.
    ///
    /// # Errors
    /// [`EvmError::Unknown`] for a hold that is not funded; the node's failure.
    pub async fn escrow(&self, hold: HoldId) -> Result<EscrowState, EvmError> {
        let funded = self.funded_hold(hold).await?;
        let status = self.status_now(&funded.terms).await?;
        let money = |amount: U256| self.config.money(i64::try_from(amount.saturating_to::<u128>()).unwrap_or(i64::MAX));
        let state = match status.status {
            stage::OPEN => "open",
            stage::CLOSING => "closing",
            stage::FINALIZED => "finalized",
            stage::NONE => "none",
            _ => "settled",
        };
        let at = status.finalAt.saturating_to::<u64>();
        let final_at = i64::try_from(at).ok().filter(|at| *at > 0).and_then(|at| Timestamp::from_timestamp(at, 0));
        Ok(EscrowState {
            agreement: funded.agreement,
            state: state.into(),
            earned: money(status.earned),
            claimed: money(status.claimed),
            withdrawn: money(status.withdrawn),
            claimable: money(status.claimable),
            withdrawable: money(status.withdrawable),
            final_at,
            fee_bps: status.feeBps.saturating_to(),
        })
    }

    /// How far the newest attempt to fund a hold has come; `None` if there was none.
    ///
    /// # Errors
    /// The node's or the memory's failure.
    pub async fn activation(&self, hold: HoldId) -> Result<Option<Activation>, EvmError> {
        let Some(note) = self.hold(hold).await? else { return Ok(None) };
        if let Some(funded) = note.funded {
            return Ok(Some(Activation::Confirmed { receipt: Box::new(funded.receipt) }));
        }
        let Some(newest) = note.fundings.last() else { return Ok(None) };
        Ok(Some(match (&newest.declined, &newest.work) {
            (Some(decline), _) => Activation::Failed { decline: decline.clone() },
            (None, Some(work)) => Activation::Submitting { sent: self.relayer.find(work).await? },
            (None, None) => Activation::AwaitingSignature { until: newest.until },
        }))
    }

    /// The ways of doing an act, and which we would take.
    ///
    /// # Errors
    /// [`EvmError::Unknown`] for a hold that is not funded; the node's failure.
    pub async fn options(&self, hold: HoldId, act: Act) -> Result<Options, EvmError> {
        let funded = self.funded_hold(hold).await?;
        let signer = signer_of(&funded, act);
        let (nonce, deadline) = match act {
            Act::SubmitReceipt { .. } => (U256::ZERO, u64::MAX),
            _ => (self.next_nonces(1).await?, self.deadline().await?),
        };
        let sign = self.message(&funded, act, nonce, U256::from(deadline));
        let call = direct(&funded, act).map(|data| self.call(signer, data));
        self.ways(signer, nonce, deadline, sign, call).await
    }

    /// The ways of taking back what a wallet signed with a nonce, before somebody uses it.
    ///
    /// # Errors
    /// The node's failure.
    pub async fn revocation(&self, signer: Address, signed: U256) -> Result<Options, EvmError> {
        let (nonce, deadline) = (self.next_nonces(1).await?, self.deadline().await?);
        let sign = self.revocation_message(signed, nonce, deadline);
        let (word, mask) = place_of(signed);
        let call = self.call(signer, Escrow::revokeNoncesCall { word, mask }.abi_encode());
        self.ways(signer, nonce, deadline, sign, Some(call)).await
    }

    async fn ways(
        &self,
        signer: Address,
        nonce: U256,
        deadline: u64,
        sign: Signable,
        call: Option<Call>,
    ) -> Result<Options, EvmError> {
        let would = match &call {
            Some(call) => match self.chain.call(Some(signer), call.to, call.data.clone(), None).await {
                Ok(_) => Way::Possible,
                Err(EvmError::Reverted(revert)) => Way::Not { why: revert.to_string() },
                Err(error) => return Err(error),
            },
            None => Way::Possible, // what the receipt signer has not signed yet cannot be tried
        };
        let direct = match (&would, &call) {
            (Way::Possible, None) => {
                Way::Not { why: "it takes the receipt signer's signature; whoever has it may send it".into() }
            }
            (Way::Possible, Some(_)) if self.chain.balance(signer).await?.is_zero() => {
                Way::Not { why: format!("{signer} has nothing to pay for gas with") }
            }
            (would, _) => would.clone(),
        };
        let sponsored = match (&would, self.relayer.ready().await) {
            (Way::Possible, Ok(())) => Way::Possible,
            (Way::Possible, Err(error @ (EvmError::Node(_) | EvmError::Unreachable(_)))) => return Err(error),
            (Way::Possible, Err(error)) => Way::Not { why: error.to_string() },
            (not, _) => not.clone(),
        };
        let recommended = match (&sponsored, &direct) {
            (Way::Possible, _) => Some(Mode::Sponsored),
            (_, Way::Possible) => Some(Mode::Direct),
            _ => None,
        };
        Ok(Options { signer, nonce, deadline, sign, call, direct, sponsored, recommended })
    }

    /// Relays a party's signature. The same one again gives what became of it.
    ///
    /// # Errors
    /// What does not match in the signature, what the contract refuses, what the relayer cannot pay for.
    pub async fn relay(
        &self,
        hold: HoldId,
        act: Act,
        nonce: U256,
        deadline: u64,
        signature: Bytes,
    ) -> Result<Sent, EvmError> {
        let funded = self.funded_hold(hold).await?;
        let until = U256::from(deadline);
        let message = self.message(&funded, act, nonce, until);
        let data = sponsored(&funded, act, nonce, until, signature.clone());
        self.sponsor(&message, signature, signer_of(&funded, act), data).await
    }

    /// Relays a wallet's signature that takes back what it signed with a nonce. The same one again gives what
    /// became of it. Whose wallets it pays for is the caller's to decide.
    ///
    /// # Errors
    /// Those of [`EvmRail::relay`].
    pub async fn relay_revocation(
        &self,
        signer: Address,
        signed: U256,
        nonce: U256,
        deadline: u64,
        signature: Bytes,
    ) -> Result<Sent, EvmError> {
        let message = self.revocation_message(signed, nonce, deadline);
        let ((word, mask), deadline) = (place_of(signed), U256::from(deadline));
        let revoke =
            Escrow::revokeNoncesWithSigCall { signer, word, mask, nonce, deadline, signature: signature.clone() };
        self.sponsor(&message, signature, signer, revoke.abi_encode()).await
    }

    async fn sponsor(
        &self,
        message: &Signable,
        signature: Bytes,
        signer: Address,
        data: Vec<u8>,
    ) -> Result<Sent, EvmError> {
        let work = format!("act/{}", message.digest());
        if let Some(sent) = self.relayer.find(&work).await? {
            return Ok(sent);
        }
        self.check_signed(std::slice::from_ref(message), &[signature], signer).await?;
        self.relayer.submit(&work, self.config.escrow, data.into()).await
    }

    /// What [`EvmRail::relay`] would send, for `from` to send instead: nobody who has a signature needs the platform,
    /// and a receipt is handed in by whoever has it.
    ///
    /// # Errors
    /// What does not match in the signature, [`EvmError::Unknown`] for a hold that is not funded.
    pub async fn signed_call(
        &self,
        hold: HoldId,
        act: Act,
        nonce: U256,
        deadline: u64,
        signature: Bytes,
        from: Address,
    ) -> Result<Call, EvmError> {
        let (funded, deadline) = (self.funded_hold(hold).await?, U256::from(deadline));
        let message = self.message(&funded, act, nonce, deadline);
        self.check_signed(&[message], std::slice::from_ref(&signature), signer_of(&funded, act)).await?;
        Ok(self.call(from, sponsored(&funded, act, nonce, deadline, signature)))
    }

    /// Sends the relayer its fees; `None` while there are none.
    ///
    /// # Errors
    /// The node's failure, or what the relayer cannot pay for.
    pub async fn collect_fees(&self) -> Result<Option<Sent>, EvmError> {
        let (token, receiver) = (self.config.token, self.relayer.address());
        let owed = self.chain.read(self.config.escrow, &Escrow::feesOwedCall { token, receiver }, None).await?;
        if owed.is_zero() {
            return Ok(None);
        }
        let data = Escrow::collectFeesCall { token, receiver }.abi_encode();
        let work = format!("fees/{}", self.next_nonces(1).await?);
        self.relayer.submit(&work, self.config.escrow, data.into()).await.map(Some)
    }

    async fn funded_hold(&self, hold: HoldId) -> Result<Funded, EvmError> {
        let unknown = || EvmError::Unknown { what: "funded hold", id: hold.to_string() };
        self.hold(hold).await?.and_then(|note| note.funded).ok_or_else(unknown)
    }

    fn revocation_message(&self, signed: U256, nonce: U256, deadline: u64) -> Signable {
        let ((word, mask), deadline) = (place_of(signed), U256::from(deadline));
        Signable::new(self.config.settlement_domain(), RevokeNoncesIntent { word, mask, nonce, deadline })
    }

    async fn deadline(&self) -> Result<u64, EvmError> {
        Ok(self.chain.head().await?.time() + u64::from(self.config.signing_window.as_seconds()))
    }

    fn message(&self, funded: &Funded, act: Act, nonce: U256, deadline: U256) -> Signable {
        let id: U256 = funded.agreement.into();
        let message: Message = match act {
            Act::SubmitReceipt { units, proof } => {
                UsageReceipt { agreementId: id, units: U256::from(units), proof }.into()
            }
            Act::Release { cumulative } => {
                let cumulative = U256::from(cumulative);
                ReleaseIntent { agreementId: id, cumulativeAmount: cumulative, nonce, deadline }.into()
            }
            Act::Close { .. } => CloseIntent { agreementId: id, nonce, deadline }.into(),
            Act::Waive => WaiveIntent { agreementId: id, nonce, deadline }.into(),
            Act::Rule { earned } => {
                RulingIntent { agreementId: id, earned: U256::from(earned), nonce, deadline }.into()
            }
            Act::Claim => SellerClaimIntent { agreementId: id, nonce, deadline }.into(),
            Act::Withdraw => BuyerWithdrawIntent { agreementId: id, nonce, deadline }.into(),
        };
        Signable::new(self.config.settlement_domain(), message)
    }
}

/// Where the contract keeps a nonce: which word, and the bit in it.
fn place_of(nonce: U256) -> (U256, U256) {
    (nonce >> 8, U256::ONE << (nonce & U256::from(0xff)))
}

fn signer_of(funded: &Funded, act: Act) -> Address {
    let terms = &funded.terms;
    match act {
        Act::SubmitReceipt { .. } => terms.receiptSigner,
        Act::Release { .. } | Act::Withdraw | Act::Close { by: Role::Buyer } => terms.buyer,
        Act::Waive | Act::Claim | Act::Close { by: Role::Seller } => terms.seller,
        Act::Rule { .. } | Act::Close { by: Role::Arbiter } => terms.arbiter,
    }
}

/// The party's own call; a receipt needs its signer's signature whoever sends it.
fn direct(funded: &Funded, act: Act) -> Option<Vec<u8>> {
    let terms = funded.terms.clone();
    Some(match act {
        Act::SubmitReceipt { .. } => return None,
        Act::Release { cumulative } => {
            Escrow::releaseFundsCall { terms, cumulativeAmount: U256::from(cumulative) }.abi_encode()
        }
        Act::Close { .. } => Escrow::closeCall { terms }.abi_encode(),
        Act::Waive => Escrow::waiveCall { terms }.abi_encode(),
        Act::Rule { earned } => Escrow::ruleCall { terms, earned: U256::from(earned) }.abi_encode(),
        Act::Claim => Escrow::claimEarnedCall { terms }.abi_encode(),
        Act::Withdraw => Escrow::withdrawRestCall { terms }.abi_encode(),
    })
}

/// The same by signature.
fn sponsored(funded: &Funded, act: Act, nonce: U256, deadline: U256, signature: Bytes) -> Vec<u8> {
    let terms = funded.terms.clone();
    let signer = signer_of(funded, act);
    match act {
        Act::SubmitReceipt { units, proof } => {
            Escrow::submitReceiptCall { terms, units: U256::from(units), proof, signature }.abi_encode()
        }
        Act::Release { cumulative } => {
            let cumulative = U256::from(cumulative);
            let call =
                Escrow::releaseFundsWithSigCall { terms, cumulativeAmount: cumulative, nonce, deadline, signature };
            call.abi_encode()
        }
        Act::Close { .. } => Escrow::closeWithSigCall { terms, signer, nonce, deadline, signature }.abi_encode(),
        Act::Waive => Escrow::waiveWithSigCall { terms, nonce, deadline, signature }.abi_encode(),
        Act::Rule { earned } => {
            Escrow::ruleWithSigCall { terms, earned: U256::from(earned), nonce, deadline, signature }.abi_encode()
        }
        Act::Claim => Escrow::claimEarnedWithSigCall { terms, nonce, deadline, signature }.abi_encode(),
        Act::Withdraw => Escrow::withdrawRestWithSigCall { terms, nonce, deadline, signature }.abi_encode(),
    }
}
