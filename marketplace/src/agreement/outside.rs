//! What the contract between the parties decides, where there is one that counts receipts (PG-09, PG-17,
//! PG-19), and what the rail tells of it; the fee that is paid apart from its money (PG-06).

use super::{
    AgreementEvent, Arrived, CloseCause, FeeKind, FeeStatus, InfrastructureFee, SettlementStatus, decide::Draft,
};
use crate::{
    error::Rejection,
    ledger::{Account, RevenueKind, TransferKind},
    money::Money,
    rail::{Capability, EscrowNews, Party, ReceiptMismatch},
};

impl Draft<'_> {
    /// Whether a contract outside closes this agreement and pays what was earned: it counts the receipts.
    pub(super) fn decides_outside(&self) -> bool {
        self.ctx.rail.can(Capability::Close) && self.agreement.terms.receipt_signer.is_some()
    }

    pub(super) fn must_decide_here(&self) -> Result<(), Rejection> {
        match self.decides_outside() {
            true => Err(Rejection::ByContract { command: self.command, rail: self.ctx.rail.id }),
            false => Ok(()),
        }
    }

    /// The fee that the policy wants and the rail can take (PG-06).
    pub(super) fn separate_fee(&self) -> Option<InfrastructureFee> {
        let fee = self.policy.infrastructure_fee.filter(|_| self.ctx.rail.can(Capability::SeparateFee))?;
        let amount = Money::new(fee, self.ctx.policy.currency);
        Some(InfrastructureFee { amount, status: FeeStatus::Pending })
    }

    /// The contract has done something. What it told before, in whatever order, changes nothing.
    pub(super) fn record_escrow(&mut self, news: &EscrowNews) -> Result<(), Rejection> {
        let capability = match news {
            EscrowNews::Receipt(_) | EscrowNews::Closing { .. } | EscrowNews::Paid { .. } => Capability::Close,
            EscrowNews::FeeCollected { .. } | EscrowNews::FeeFailed { .. } => Capability::SeparateFee,
        };
        if !self.ctx.rail.can(capability) {
            return Err(Rejection::Unsupported { rail: self.ctx.rail.id, capability });
        }
        match news {
            EscrowNews::Receipt(receipt) => {
                let counted = self.agreement.receipt.as_ref().map_or(0, |receipt| receipt.units);
                if receipt.units > counted && !self.agreement.status.is_final() {
                    let (units, proof) = (receipt.units, receipt.proof);
                    let earned = self.agreement.terms.worth(units)?;
                    self.agreement.receipt = Some(receipt.clone());
                    self.events.push(AgreementEvent::ReceiptSubmitted { units, earned, proof });
                }
            }
            EscrowNews::Closing { by, final_at } => {
                if !self.agreement.status.is_final() && self.agreement.final_at().is_some() {
                    let cause = if matches!(by, Party::Worker(_)) { CloseCause::Seller } else { CloseCause::Buyer };
                    self.start_closing(cause, *final_at);
                }
            }
            EscrowNews::Paid { to, amount, reference } => {
                self.count_arrival(*to, *amount)?;
                self.share_arrived(*to, *amount, reference);
                if self.everything_arrived()? && self.agreement.settlement == Some(SettlementStatus::Finalized) {
                    self.agreement.settlement = Some(SettlementStatus::Settled);
                }
            }
            EscrowNews::FeeCollected { amount, reference } => {
                self.fee_ended(*amount, FeeStatus::Collected)?;
                let (treasury, revenue) =
                    (Account::Treasury(self.ctx.rail.id), Account::Revenue(RevenueKind::Infrastructure));
                self.movement.transfer(treasury, revenue, *amount, TransferKind::InfrastructureFee)?;
                let (fee, amount, reference) = (FeeKind::Infrastructure, *amount, reference.clone());
                self.events.push(AgreementEvent::FeeCollected { fee, amount, reference });
            }
            EscrowNews::FeeFailed { amount, decline } => {
                self.fee_ended(*amount, FeeStatus::Failed)?;
                self.events.push(AgreementEvent::FeeFailed { amount: *amount, decline: decline.clone() });
            }
        }
        Ok(())
    }

    fn fee_ended(&mut self, amount: Money, status: FeeStatus) -> Result<(), Rejection> {
        match &mut self.agreement.infrastructure_fee {
            Some(fee) if fee.status == FeeStatus::Pending && fee.amount == amount => {
                fee.status = status;
                Ok(())
            }
            other => {
                let asked = other.map_or("no fee".into(), |fee| format!("{}, {:?}", fee.amount, fee.status));
                Err(ReceiptMismatch { field: "infrastructure fee", asked, answered: amount.to_string() }.into())
            }
        }
    }

    /// What is owed is known; the parties take it from the contract when they like.
    pub(super) fn waits_for_arrivals(&mut self) {
        let all = self.everything_arrived().unwrap_or(false);
        self.agreement.settlement = Some(if all { SettlementStatus::Settled } else { SettlementStatus::Finalized });
    }

    /// A share, or the rest of one, is its party's.
    pub(super) fn share_arrived(&mut self, to: Party, amount: Money, reference: &str) {
        let reference = reference.to_owned();
        self.events.push(match to {
            Party::Worker(_) => AgreementEvent::ClaimCompleted { amount, reference },
            Party::Platform => AgreementEvent::FeeCollected { fee: FeeKind::Share, amount, reference },
            Party::Buyer(_) => AgreementEvent::WithdrawCompleted { amount, reference },
        });
    }

    /// What of a party's share the rail has told of before.
    pub(super) fn arrived_before(&self, to: Party) -> Money {
        let none = Money::zero(self.ctx.policy.currency);
        self.agreement.arrived.map_or(none, |arrived| match to {
            Party::Worker(_) => arrived.seller,
            Party::Platform => arrived.platform,
            Party::Buyer(_) => arrived.buyer,
        })
    }

    fn count_arrival(&mut self, to: Party, amount: Money) -> Result<(), Rejection> {
        let none = Money::zero(self.ctx.policy.currency);
        let arrived = self.agreement.arrived.get_or_insert(Arrived { seller: none, platform: none, buyer: none });
        let so_far = match to {
            Party::Worker(_) => &mut arrived.seller,
            Party::Platform => &mut arrived.platform,
            Party::Buyer(_) => &mut arrived.buyer,
        };
        *so_far = so_far.plus(amount)?;
        Ok(())
    }

    fn everything_arrived(&self) -> Result<bool, Rejection> {
        let Some(Arrived { seller, platform, buyer }) = self.agreement.arrived else { return Ok(false) };
        Ok(seller.plus(platform)?.plus(buyer)? == self.agreement.terms.deposit)
    }
}
