//! An agreement's money: reserving it, dividing it, and what follows from a rail's report.

use super::{
    ActivationStatus, AgreementEvent, AgreementStatus, AgreementTerms, ExpiryCause, SettlementStatus,
    decide::{Draft, check_rail},
};
use crate::{
    clock::Timestamp,
    error::Rejection,
    hold::{Answered, Division, Expired, HoldState, Holding, Means, Paid, Parties},
    ledger::{Account, RevenueKind, TransferKind},
    money::Money,
    policy::Bearer,
    rail::{Chargeback, HoldTerms, Instruction, Leg, Outcome},
};

/// The seller gets what was earned, less the fee where the seller bears it; the buyer gets the rest.
fn division(terms: &AgreementTerms, earned: Money) -> Result<Division, Rejection> {
    let fee = terms.fee(earned)?;
    let net = match terms.bearer {
        Bearer::Worker => earned.minus(fee)?,
        Bearer::Buyer => earned,
    };
    Ok(Division {
        worker: net,
        platform: fee,
        buyer: terms.deposit.minus(net)?.minus(fee)?,
        worker_kind: TransferKind::Earned,
        platform_kind: TransferKind::Fee,
    })
}

impl Draft<'_> {
    /// PG-04: nothing but this command of the buyer's moves the buyer's money.
    pub(super) fn activate(&mut self) -> Result<(), Rejection> {
        if self.agreement.hold.state != HoldState::Empty {
            return Err(self.holding()?.wrong());
        }
        check_rail(self.policy, self.ctx.rail)?;
        if !self.ctx.rail.custody.is_per_hold() {
            self.holding()?.reserve()?;
            self.activated(None);
            return Ok(());
        }
        let terms = self.hold_terms();
        self.holding()?.ask_to_fund(terms);
        self.agreement.activation = Some(ActivationStatus::Submitting);
        self.agreement.infrastructure_fee = self.separate_fee();
        if let HoldState::Funding(instruction) = self.agreement.hold.state {
            self.events.push(AgreementEvent::ActivationSubmitted { instruction });
        }
        Ok(())
    }

    /// What the payer signs for besides the amount, where a contract between the parties holds it.
    fn hold_terms(&self) -> HoldTerms {
        let terms = &self.agreement.terms;
        HoldTerms {
            payee: Some(self.agreement.seller),
            payer_account: terms.buyer_account.clone(),
            payee_account: terms.seller_account.clone(),
            fee_ceiling: terms.rate,
            quantity: terms.quantity.unsigned_abs(),
            unit_price: Some(terms.unit_price),
            expires_at: Some(terms.expiry),
            challenge_window: Some(terms.challenge_window),
            receipt_signer: terms.receipt_signer.as_ref().map(|signer| signer.key.clone()),
            document: Some(terms.document.to_string()),
            infrastructure_fee: self.separate_fee().map(|fee| fee.amount),
        }
    }

    /// Ends an active agreement and divides its money.
    pub(super) fn conclude(
        &mut self,
        units: Option<i64>,
        earned: Money,
        status: AgreementStatus,
    ) -> Result<(), Rejection> {
        let division = division(&self.agreement.terms, earned)?;
        let (net, fee, refunded) = (division.worker, division.platform, division.buyer);
        self.holding()?.settle(division)?;
        self.end(status);
        self.agreement.earned = Some(earned);
        self.agreement.settlement = Some(SettlementStatus::Finalized);
        self.events.push(AgreementEvent::CloseFinalized { earned, fee, refunded });
        self.events.push(match status {
            AgreementStatus::Expired => AgreementEvent::Expired { cause: ExpiryCause::NothingUsed, refunded },
            _ => AgreementEvent::Completed { units, net, fee, refunded },
        });
        if self.agreement.hold.state == HoldState::Settled {
            self.all_arrived(&division.legs(self.parties()), "");
        }
        Ok(())
    }

    pub(super) fn record_outcome(&mut self, instruction: &Instruction, outcome: &Outcome) -> Result<(), Rejection> {
        let id = instruction.id;
        match self.holding()?.answer(instruction, outcome)? {
            Answered::Waits => {}
            Answered::NeedsAction(action) => {
                self.events.push(AgreementEvent::ActionRequired { instruction: id, action });
            }
            Answered::NotFunded(decline) => {
                self.agreement.activation = Some(ActivationStatus::Failed);
                self.events.push(AgreementEvent::ActivationFailed { instruction: id, decline });
            }
            Answered::Funded { act_at } => self.deposit_arrived(act_at)?,
            Answered::FundedAndLost => {
                self.agreement.activation = Some(ActivationStatus::Confirmed);
                self.events.push(AgreementEvent::EscrowLost { amount: self.agreement.terms.deposit });
                if !self.agreement.status.is_final() {
                    self.expire(ExpiryCause::HoldExpired);
                }
            }
            Answered::NotSettled { decline, next_at } => {
                self.events.push(AgreementEvent::SettlementFailed { instruction: id, decline, next_at });
            }
            Answered::Arrived { legs, reference } => self.all_arrived(&legs, &reference),
        }
        // A bank may have left nothing to divide.
        if self.agreement.hold.state == HoldState::Settled && self.agreement.settlement.is_some() {
            self.agreement.settlement = Some(SettlementStatus::Settled);
        }
        self.bear_losses()?;
        self.go_on();
        Ok(())
    }

    fn deposit_arrived(&mut self, act_at: Option<Timestamp>) -> Result<(), Rejection> {
        self.agreement.activation = Some(ActivationStatus::Confirmed);
        if !self.agreement.status.is_final() {
            self.activated(act_at);
            return Ok(());
        }
        // It ended while the payment was under way: the money goes straight back.
        let amount = self.agreement.terms.deposit;
        self.holding()?.settle(Division::rest(amount))?;
        self.agreement.settlement = Some(SettlementStatus::Finalized);
        self.events.push(AgreementEvent::EscrowReturned { amount });
        Ok(())
    }

    /// Everybody has what is theirs, a part of it perhaps since before.
    fn all_arrived(&mut self, legs: &[Leg], reference: &str) {
        self.agreement.settlement = Some(SettlementStatus::Settled);
        for Leg { to, amount } in legs.iter().copied() {
            match amount.minus(self.arrived_before(to)) {
                Ok(rest) if rest.is_positive() => self.share_arrived(to, rest, reference),
                _ => {}
            }
        }
    }

    pub(super) fn record_hold_expired(&mut self) -> Result<(), Rejection> {
        match self.holding()?.expire()? {
            Expired::Reserved => {
                self.agreement.settlement = Some(SettlementStatus::Settled);
                self.expire(ExpiryCause::HoldExpired);
            }
            Expired::Dividing { .. } => {
                self.agreement.settlement = Some(SettlementStatus::Settled);
                self.events.push(AgreementEvent::EscrowLost { amount: self.agreement.terms.deposit });
                self.bear_losses()?; // one may have waited for the division
            }
            Expired::BeingTaken => {}
        }
        Ok(())
    }

    /// The parties agreed without us: what they did stands, whatever was asked of the rail meanwhile.
    pub(super) fn record_hold_settled(&mut self, reference: &str, legs: &[Leg]) -> Result<(), Rejection> {
        let division = self.holding()?.settled_outside(reference, legs)?;
        let (net, fee, refunded) = (division.worker, division.platform, division.buyer);
        let earned = net.plus(fee)?;
        self.agreement.earned = Some(earned);
        if self.decides_outside() && self.agreement.settlement != Some(SettlementStatus::Finalized) {
            self.events.push(AgreementEvent::CloseFinalized { earned, fee, refunded });
        }
        if !self.agreement.status.is_final() {
            let event = match net.is_zero() {
                true => AgreementEvent::Expired { cause: ExpiryCause::NothingUsed, refunded },
                false => AgreementEvent::Completed { units: None, net, fee, refunded },
            };
            self.end(if net.is_zero() { AgreementStatus::Expired } else { AgreementStatus::Completed });
            self.events.push(event);
        }
        match self.decides_outside() {
            true => self.waits_for_arrivals(),
            false => self.all_arrived(&division.legs(self.parties()), reference),
        }
        Ok(())
    }

    pub(super) fn record_chargeback(&mut self, told: &Chargeback) -> Result<(), Rejection> {
        self.holding()?.chargeback(told)?;
        let agreement = &mut self.agreement;
        if agreement.returns.is_contested() && agreement.frozen.is_none() && !agreement.status.is_final() {
            agreement.frozen = Some(self.ctx.now);
            self.events.push(AgreementEvent::Frozen {});
        }
        self.bear_losses()?;
        self.go_on();
        Ok(())
    }

    /// Books who bears what is lost; an agreement whose money was reserved still is over.
    fn bear_losses(&mut self) -> Result<(), Rejection> {
        if self.holding()?.bear_losses()?.is_none() {
            return Ok(());
        }
        self.agreement.settlement = Some(match self.agreement.hold.state {
            HoldState::Settled => SettlementStatus::Settled,
            _ => SettlementStatus::Finalized,
        });
        self.expire(ExpiryCause::Chargeback);
        Ok(())
    }

    /// The bank has decided about everything that was contested: the agreement goes on where it stood.
    fn go_on(&mut self) {
        let still = self.agreement.returns.stands_still(self.agreement.hold.state);
        if let Some(since) = self.agreement.frozen.filter(|_| !still) {
            self.agreement.frozen = None;
            self.agreement.timers.resume(since, self.ctx.now);
            self.events.push(AgreementEvent::Unfrozen {});
        }
    }

    /// The agreement's money, to be moved.
    pub(super) fn holding(&mut self) -> Result<Holding<'_, AgreementEvent>, Rejection> {
        let (parties, agreement) = (self.parties(), &mut self.agreement);
        let by_terms = match agreement.earned {
            Some(earned) => {
                let Division { worker, platform, .. } = division(&agreement.terms, earned)?;
                Some(Paid::shares(worker, platform))
            }
            None => None,
        };
        Ok(Holding {
            contract: agreement.id.0,
            command: self.command,
            parties,
            total: agreement.terms.deposit,
            revenue: Account::Revenue(RevenueKind::Fees),
            by_terms,
            hold: &mut agreement.hold,
            returns: &mut agreement.returns,
            means: Means { owed: self.ctx.owed, spendable: self.ctx.spendable },
            policy: self.ctx.policy,
            rail: self.ctx.rail,
            now: self.ctx.now,
            movement: &mut self.movement,
            instructions: &mut self.instructions,
            events: &mut self.events,
        })
    }

    fn parties(&self) -> Parties {
        Parties { buyer: self.agreement.buyer, worker: self.agreement.seller }
    }
}
