//! An agreement's money: reserving it, dividing it, and what follows from a rail's report.

use super::{
    ActivationStatus, AgreementEvent, AgreementStatus, AgreementTerms, ExpiryCause, SettlementStatus, decide::Draft,
};
use crate::{
    clock::Timestamp,
    error::Rejection,
    hold::{Answered, Division, HoldState, Holding, Parties},
    ledger::{Account, RevenueKind, TransferKind},
    money::{Money, Rounding},
    policy::Bearer,
    rail::{Custody, HoldTerms, Instruction, Leg, Order, Outcome},
};

/// The seller gets what was earned, less the fee where the seller bears it; the buyer gets the rest.
fn division(terms: &AgreementTerms, earned: Money, rounding: Rounding) -> Result<Division, Rejection> {
    let fee = terms.fee(earned, rounding)?;
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
            return Err(self.holding().wrong());
        }
        let (payer, amount) = (self.agreement.buyer, self.agreement.terms.deposit);
        let terms = Box::new(self.hold_terms());
        let order = Order::Fund { hold: self.agreement.id.into(), payer, amount, terms };
        if self.holding().fund(amount, order)? {
            self.activated(None);
            return Ok(());
        }
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
        let division = division(&self.agreement.terms, earned, self.ctx.policy.fees.rounding)?;
        let (net, fee, refunded) = (division.worker, division.platform, division.buyer);
        self.holding().settle(division)?;
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
        match self.holding().answer(instruction, outcome)? {
            Answered::Waits => {}
            Answered::NeedsAction(action) => {
                self.events.push(AgreementEvent::ActionRequired { instruction: id, action });
            }
            Answered::NotFunded(decline) => {
                self.agreement.activation = Some(ActivationStatus::Failed);
                self.events.push(AgreementEvent::ActivationFailed { instruction: id, decline });
            }
            Answered::Funded { expires } => self.deposit_arrived(expires)?,
            Answered::NotSettled { decline, next_at } => {
                self.events.push(AgreementEvent::SettlementFailed { instruction: id, decline, next_at });
            }
            Answered::Settled { legs, reference } => self.all_arrived(&legs, &reference),
        }
        Ok(())
    }

    fn deposit_arrived(&mut self, expires: Option<Timestamp>) -> Result<(), Rejection> {
        let (deposit, ended) = (self.agreement.terms.deposit, self.agreement.status.is_final());
        self.agreement.activation = Some(ActivationStatus::Confirmed);
        if self.agreement.hold.expired {
            self.holding().lost(deposit)?;
            self.events.push(AgreementEvent::EscrowLost { amount: deposit });
            if !ended {
                self.expire(ExpiryCause::HoldExpired);
            }
            return Ok(());
        }
        if !ended {
            let margin = self.ctx.policy.jobs.hold_expiry.margin.delta();
            let act_at = |at: Timestamp| at.checked_sub_signed(margin).unwrap_or(at).max(self.ctx.now);
            self.activated(expires.map(act_at));
            return Ok(());
        }
        // It ended while the payment was under way: the money goes straight back.
        let nothing = Money::zero(deposit.currency());
        let division = division(&self.agreement.terms, nothing, self.ctx.policy.fees.rounding)?;
        self.holding().settle(division)?;
        self.agreement.settlement = Some(SettlementStatus::Finalized);
        self.events.push(AgreementEvent::EscrowReturned { amount: deposit });
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
        let (rail, deposit) = (self.ctx.rail, self.agreement.terms.deposit);
        if !rail.custody.is_per_hold() {
            return Err(Rejection::WrongRail { command: self.command, rail: rail.id, needed: Custody::PerHold });
        }
        match self.agreement.hold.state {
            HoldState::Held => {
                self.holding().lost(deposit)?;
                self.agreement.settlement = Some(SettlementStatus::Settled);
                self.expire(ExpiryCause::HoldExpired);
            }
            // The rail gave up while it was being asked to divide: nobody got a share, the payer has it all.
            HoldState::Settling(_) => {
                self.holding().shares_lost(Account::Revenue(RevenueKind::Fees))?;
                self.agreement.settlement = Some(SettlementStatus::Settled);
                self.events.push(AgreementEvent::EscrowLost { amount: deposit });
            }
            // That it was reserved is not known yet; when it is, the money is gone again.
            HoldState::Funding(_) => self.agreement.hold.expired = true,
            HoldState::Empty | HoldState::Settled => return Err(self.holding().wrong()),
        }
        Ok(())
    }

    /// The parties agreed without us: what they did stands, whatever was asked of the rail meanwhile.
    pub(super) fn record_hold_settled(&mut self, reference: &str, legs: &[Leg]) -> Result<(), Rejection> {
        let rail = self.ctx.rail;
        if rail.custody != Custody::NonCustodial {
            return Err(Rejection::WrongRail { command: self.command, rail: rail.id, needed: Custody::NonCustodial });
        }
        let division = Division::outside(self.parties(), self.agreement.terms.deposit, legs)?;
        self.holding().settled_outside(division, reference, Account::Revenue(RevenueKind::Fees))?;
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

    pub(super) fn holding(&mut self) -> Holding<'_> {
        Holding {
            contract: self.agreement.id.0,
            command: self.command,
            parties: self.parties(),
            hold: &mut self.agreement.hold,
            rail: self.ctx.rail,
            now: self.ctx.now,
            movement: &mut self.movement,
            instructions: &mut self.instructions,
        }
    }

    fn parties(&self) -> Parties {
        Parties { buyer: self.agreement.buyer, worker: self.agreement.seller }
    }
}
