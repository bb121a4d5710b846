//! Dividing a hold by what the parties sign, or the arbiter.
//!
//! Who gets something from somebody needs that party: what seller and platform get is released by the buyer's
//! signature, what goes back to the buyer is free once the seller has waived the rest. All of it is relayed in
//! one transaction. Parties who do not sign in time are ruled for, where the platform is the arbiter that the
//! payer named; otherwise the instruction is declined. What has become final on chain, in whatever way,
//! with exactly the legs asked for is done.

use alloy_primitives::{Bytes, U256, keccak256};
use alloy_signer::Signer;
use alloy_sol_types::SolCall;
use tradepost::{
    ids::{HoldId, InstructionId},
    rail::{Action, Decline, Instruction, Leg, Order, Outcome, Party},
};

use crate::{
    abi::{BuyerWithdrawIntent, Escrow, ReleaseIntent, RulingIntent, WaiveIntent},
    ask::{Answer, Ask, Choice, Role},
    error::EvmError,
    follow::by_party,
    hold::{Funded, Hold, Settling},
    notes,
    plan::{Stand, Step, fee_of, payments, rate_below},
    rail::EvmRail,
    sign::Signable,
};

/// How many signatures one division may need: two releases, the waiver, the withdrawal, the ruling.
const NONCES: u64 = 5;

impl EvmRail {
    pub(crate) async fn settle(&self, instruction: &Instruction) -> Result<Outcome, EvmError> {
        let Order::Settle { hold, legs, .. } = &instruction.order else {
            return Err(EvmError::Refused("not an order to settle".into()));
        };
        let id = instruction.id;
        self.keep_order(id, &instruction.order).await?;
        let note = self.hold(*hold).await?.unwrap_or_default();
        if note.settling(id).is_none() {
            self.begin(id, *hold, legs).await?;
        }
        if let (Some(answer), Some(Outcome::NeedsAction(_))) = (&instruction.answer, self.find_settle(id, *hold).await?)
        {
            self.take_settle_answer(id, *hold, &Answer::parse(answer)?).await?;
        }
        let found = self.find_settle(id, *hold).await?;
        found.ok_or_else(|| EvmError::Unknown { what: "division", id: id.to_string() })
    }

    /// Where a division stands. Reading may carry it on: send what is signed, rule when time is up, decline.
    pub(crate) async fn find_settle(&self, id: InstructionId, hold: HoldId) -> Result<Option<Outcome>, EvmError> {
        let Some(note) = self.hold(hold).await? else { return Ok(None) };
        let Some(settling) = note.settling(id) else { return Ok(None) };
        if let Some(decline) = &settling.declined {
            return Ok(Some(Outcome::Declined(decline.clone())));
        }
        if let Some(end) = &note.end {
            return match &end.receipt {
                Some(receipt) if end.by == Some(id) => Ok(Some(Outcome::Done(receipt.clone()))),
                _ => {
                    self.decline_settle(id, hold, "hold_gone", "the hold was divided otherwise".into()).await.map(Some)
                }
            };
        }
        let Some(funded) = &note.funded else {
            return self.decline_settle(id, hold, "not_funded", "there is no such hold".into()).await.map(Some);
        };
        let steps = match self.steps(hold, funded, &settling.legs).await {
            Ok(steps) => steps,
            Err(EvmError::Terms { field, value, allowed }) if settling.work.is_none() => {
                let message = format!("{field} {value}: {allowed}");
                return self.decline_settle(id, hold, "legs_not_possible", message).await.map(Some);
            }
            Err(EvmError::Terms { .. }) => Vec::new(), // on its way; the chain shows a part of it already
            Err(error) => return Err(error),
        };
        if let Some(work) = &settling.work {
            let over = self.settled_time().await? >= settling.until;
            return match over && !work.starts_with("rule/") {
                true => self.out_of_time(id, hold, &note, funded, settling).await.map(Some),
                false => Ok(Some(Outcome::Pending { reference: self.reference(id, work).await? })),
            };
        }
        if self.settled_time().await? >= settling.until {
            return self.out_of_time(id, hold, &note, funded, settling).await.map(Some);
        }
        match self.missing(hold, funded, settling, &steps) {
            Some((who, role, ask)) => {
                let kind = if role == Role::Buyer { "sign_release" } else { "sign_waiver" };
                Ok(Some(Outcome::NeedsAction(Action { who, kind: kind.into(), payload: ask.payload() })))
            }
            None => {
                let data = self.division(funded, settling, &steps);
                self.send(id, hold, format!("settle/{id}"), data).await.map(Some)
            }
        }
    }

    async fn begin(&self, id: InstructionId, hold: HoldId, legs: &[Leg]) -> Result<(), EvmError> {
        let until = self.chain.head().await?.time() + u64::from(self.config.signing_window.as_seconds());
        let nonce = self.next_nonces(NONCES).await?;
        let (signed, work) = (Vec::new(), None);
        let settling = Settling { id, legs: legs.to_vec(), until, nonce, signed, work, declined: None };
        self.change_hold(hold, |note| {
            if note.settling(id).is_none() {
                note.settlings.push(settling.clone());
            }
        })
        .await
        .map(drop)
    }

    /// What the contract does for these legs, from where it stands now.
    async fn steps(&self, hold: HoldId, funded: &Funded, legs: &[Leg]) -> Result<Vec<Step>, EvmError> {
        let [seller, fee, back] = by_party(legs).map(|minor| u128::try_from(minor).unwrap_or_default());
        let deposit = funded.terms.deposit.to::<u128>();
        if seller + fee + back != deposit {
            let (value, allowed) = ((seller + fee + back).to_string(), format!("all of the {deposit} held"));
            return Err(EvmError::Terms { field: "legs", value, allowed });
        }
        payments(self.payments_so_far(hold, funded).await?, seller, fee)
    }

    /// Blocks that do not count yet are in it.
    async fn payments_so_far(&self, hold: HoldId, funded: &Funded) -> Result<Stand, EvmError> {
        let head = self.chain.head().await?.number();
        let read = self.read_up_to().await?;
        // Read after `read`: whatever was logged up to there is in it.
        let mut standing = self.standing(self.hold(hold).await?.unwrap_or_default().standing, funded, read).await?;
        let logs = self.logs_of(funded.agreement, read + 1, head).await?;
        standing.read(&logs, head);
        Ok(standing.payments(&funded.terms))
    }

    /// The next party that has to sign, and what.
    fn missing(
        &self,
        hold: HoldId,
        funded: &Funded,
        settling: &Settling,
        steps: &[Step],
    ) -> Option<(Party, Role, Ask)> {
        for (role, choice, sign) in self.signatures(funded, settling, steps) {
            if sign.is_empty() || settling.signed.iter().any(|(by, _)| *by == role) {
                continue;
            }
            let terms = &funded.terms;
            let signer = if role == Role::Buyer { terms.buyer } else { terms.seller };
            let direct = match (role, steps, by_party(&settling.legs)) {
                (Role::Buyer, [Step::Release(whole)], [_, _, 0]) => {
                    let cumulative = U256::from(*whole);
                    let call = Escrow::releaseFundsCall { terms: terms.clone(), cumulativeAmount: cumulative };
                    Some(self.call(signer, call.abi_encode()))
                }
                (Role::Seller, [], _) => {
                    Some(self.call(signer, Escrow::waiveCall { terms: terms.clone() }.abi_encode()))
                }
                _ => None,
            };
            let (agreement, terms) = (funded.agreement, terms.clone());
            let choice = Choice { name: choice.into(), agreement, terms, sign, fee: None, direct };
            let ask = Ask { instruction: settling.id, hold, signer, until: settling.until, choices: vec![choice] };
            let who = settling.legs.iter().map(|leg| leg.to).find(|to| match to {
                Party::Buyer(_) => role == Role::Buyer,
                Party::Worker(_) => role == Role::Seller,
                Party::Platform => false,
            });
            let who = who.or_else(|| self.party(funded, role));
            return who.map(|who| (who, role, ask));
        }
        None
    }

    fn party(&self, funded: &Funded, role: Role) -> Option<Party> {
        let (buyer, seller) = funded.parties;
        match role {
            Role::Buyer => Some(Party::Buyer(buyer)),
            Role::Seller => Some(Party::Worker(seller)),
            Role::Arbiter => None,
        }
    }

    /// What each party signs for these legs.
    fn signatures(
        &self,
        funded: &Funded,
        settling: &Settling,
        steps: &[Step],
    ) -> [(Role, &'static str, Vec<Signable>); 2] {
        let id: U256 = funded.agreement.into();
        let deadline = U256::from(settling.until);
        let under = |message: crate::sign::Message| Signable::new(self.config.settlement_domain(), message);
        let mut buyer = Vec::new();
        let releases = steps.iter().filter_map(|step| if let Step::Release(to) = step { Some(*to) } else { None });
        for (i, to) in releases.enumerate() {
            let nonce = settling.nonce + U256::from(i);
            let cumulative = U256::from(to);
            buyer.push(under(ReleaseIntent { agreementId: id, cumulativeAmount: cumulative, nonce, deadline }.into()));
        }
        let back = by_party(&settling.legs)[2] > 0;
        if back && !buyer.is_empty() {
            let nonce = settling.nonce + U256::from(3);
            buyer.push(under(BuyerWithdrawIntent { agreementId: id, nonce, deadline }.into()));
        }
        let nonce = settling.nonce + U256::from(2);
        let waive = under(WaiveIntent { agreementId: id, nonce, deadline }.into());
        [(Role::Buyer, "release", buyer), (Role::Seller, "waive", if back { vec![waive] } else { Vec::new() })]
    }

    /// All of it in one transaction, once everybody has signed.
    fn division(&self, funded: &Funded, settling: &Settling, steps: &[Step]) -> Bytes {
        let terms = &funded.terms;
        let given = |role| settling.signed.iter().find(|(by, _)| *by == role).map(|(_, signed)| signed.as_slice());
        let mut buyers = given(Role::Buyer).unwrap_or_default().iter().cloned();
        let deadline = U256::from(settling.until);
        let mut calls: Vec<Bytes> = Vec::new();
        let mut nonce = settling.nonce;
        for step in steps {
            calls.push(match step {
                Step::LowerFee(bps) => {
                    let fee_bps = U256::from(*bps);
                    Escrow::lowerFeeCall { terms: terms.clone(), feeBps: fee_bps }.abi_encode().into()
                }
                Step::Release(to) => {
                    let call = Escrow::releaseFundsWithSigCall {
                        terms: terms.clone(),
                        cumulativeAmount: U256::from(*to),
                        nonce,
                        deadline,
                        signature: buyers.next().unwrap_or_default(),
                    };
                    nonce += U256::from(1);
                    call.abi_encode().into()
                }
            });
        }
        if let Some([signature, ..]) = given(Role::Seller) {
            let (terms, signature, nonce) = (terms.clone(), signature.clone(), settling.nonce + U256::from(2));
            calls.push(Escrow::waiveWithSigCall { terms, nonce, deadline, signature }.abi_encode().into());
        }
        if let Some(signature) = buyers.next() {
            let (terms, nonce) = (terms.clone(), settling.nonce + U256::from(3));
            calls.push(Escrow::withdrawRestWithSigCall { terms, nonce, deadline, signature }.abi_encode().into());
        }
        one_call(calls)
    }

    async fn take_settle_answer(&self, id: InstructionId, hold: HoldId, answer: &Answer) -> Result<(), EvmError> {
        let note = self.hold(hold).await?.unwrap_or_default();
        let (Some(settling), Some(funded)) = (note.settling(id), &note.funded) else { return Ok(()) };
        let steps = self.steps(hold, funded, &settling.legs).await?;
        let Some((_, role, ask)) = self.missing(hold, funded, settling, &steps) else { return Ok(()) };
        let signatures = match answer {
            Answer::Refused { reason } => {
                let reason: String = reason.chars().take(500).collect();
                return self.decline_settle(id, hold, "refused_by_party", reason).await.map(drop);
            }
            Answer::Sent => return Ok(()), // the chain will show it
            Answer::Signed { signatures, .. } => signatures,
        };
        let Some(choice) = ask.choices.first() else { return Ok(()) };
        self.check_signed(&choice.sign, signatures, ask.signer).await?;
        let keep = |note: &mut Hold| {
            if let Some(settling) = note.settlings.iter_mut().find(|settling| settling.id == id)
                && settling.signed.iter().all(|(by, _)| *by != role)
            {
                settling.signed.push((role, signatures.clone()));
            }
        };
        self.change_hold(hold, keep).await.map(drop)
    }

    /// The parties' time is over, and whatever they signed with it: the arbiter rules, or nobody does.
    async fn out_of_time(
        &self,
        id: InstructionId,
        hold: HoldId,
        note: &Hold,
        funded: &Funded,
        settling: &Settling,
    ) -> Result<Outcome, EvmError> {
        let arbiter = self.arbiter.as_ref().filter(|arbiter| arbiter.address() == funded.terms.arbiter);
        let newest = note.settlings.last().is_some_and(|newest| newest.id == id);
        let Some(arbiter) = arbiter.filter(|_| newest) else {
            let message =
                format!("the parties' {} seconds to sign have passed", self.config.signing_window.as_seconds());
            return self.decline_settle(id, hold, "not_signed_in_time", message).await;
        };
        let data = self.ruling(hold, funded, settling, arbiter.as_ref()).await?;
        self.send(id, hold, format!("rule/{id}"), data).await
    }

    /// The ruling in the engine's words, the fee as close below as one rate comes.
    async fn ruling(
        &self,
        hold: HoldId,
        funded: &Funded,
        settling: &Settling,
        arbiter: &(dyn Signer + Send + Sync),
    ) -> Result<Bytes, EvmError> {
        let [seller, fee, _] = by_party(&settling.legs).map(|minor| u128::try_from(minor).unwrap_or_default());
        let stand = self.payments_so_far(hold, funded).await?;
        let due = (seller + fee).saturating_sub(stand.paid);
        let fee_due = fee.saturating_sub(stand.fees);
        let mut calls: Vec<Bytes> = Vec::new();
        let rate = rate_below(due, fee_due, stand.fee_bps);
        if rate < stand.fee_bps && fee_of(due, stand.fee_bps) > fee_due {
            let terms = funded.terms.clone();
            calls.push(Escrow::lowerFeeCall { terms, feeBps: U256::from(rate) }.abi_encode().into());
        }
        let nonce = settling.nonce + U256::from(4);
        let deadline = U256::MAX;
        let earned = U256::from(seller + fee);
        let message = RulingIntent { agreementId: funded.agreement.into(), earned, nonce, deadline };
        let digest = Signable::new(self.config.settlement_domain(), message).digest();
        let signature: Bytes = arbiter.sign_hash(&digest).await?.as_bytes().into();
        let terms = funded.terms.clone();
        calls.push(Escrow::ruleWithSigCall { terms, earned, nonce, deadline, signature }.abi_encode().into());
        Ok(one_call(calls))
    }

    async fn send(&self, id: InstructionId, hold: HoldId, work: String, data: Bytes) -> Result<Outcome, EvmError> {
        match self.relayer.submit(&work, self.config.escrow, data).await {
            Ok(_) => {}
            // It was not sent, and what was signed for it may have been used otherwise or revoked.
            Err(EvmError::Reverted(revert)) => {
                return self.decline_settle(id, hold, "refused_on_chain", revert.to_string()).await;
            }
            Err(EvmError::GasPrice { .. } | EvmError::Budget { .. } | EvmError::Queue { .. }) => {
                return Ok(Outcome::Pending { reference: "waiting for the relayer".into() });
            }
            Err(error) => return Err(error),
        }
        self.change_hold(hold, |note| {
            if let Some(settling) = note.settlings.iter_mut().find(|settling| settling.id == id) {
                settling.work = Some(work.clone());
            }
        })
        .await?;
        Ok(Outcome::Pending { reference: self.reference(id, &work).await? })
    }

    async fn decline_settle(
        &self,
        id: InstructionId,
        hold: HoldId,
        code: &str,
        message: String,
    ) -> Result<Outcome, EvmError> {
        let decline = Decline { code: code.into(), message };
        let (_, outcome) = self
            .change_hold(hold, |note| {
                if let Some(end) = note.end.as_ref().filter(|end| end.by == Some(id))
                    && let Some(receipt) = &end.receipt
                {
                    return Outcome::Done(receipt.clone());
                }
                let settling = note.settlings.iter_mut().find(|settling| settling.id == id);
                let stands = settling.map(|one| one.declined.get_or_insert_with(|| decline.clone()).clone());
                Outcome::Declined(stands.unwrap_or_else(|| decline.clone()))
            })
            .await?;
        Ok(outcome)
    }

    /// So many of the signers' nonces that nobody has used; a number of the rail's own in the upper half keeps
    /// two marketplaces apart that share a contract.
    pub(crate) async fn next_nonces(&self, count: u64) -> Result<U256, EvmError> {
        let first: u64 = notes::change(&*self.memory, "nonces", |before: Option<u64>| {
            let first = before.unwrap_or_default();
            Ok((Some(first + count), first))
        })
        .await?;
        let own = keccak256(format!("{}/{}", self.config.id, self.relayer.address()));
        Ok((U256::from_be_slice(&own[..16]) << 128) | U256::from(first))
    }
}

fn one_call(mut calls: Vec<Bytes>) -> Bytes {
    match calls.len() {
        1 => calls.remove(0),
        _ => Escrow::batchCall { calls }.abi_encode().into(),
    }
}
