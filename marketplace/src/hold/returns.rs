//! Money that goes back after it came in: chargebacks, and refunds of what was paid out.
//!
//! A chargeback takes the money out of the rail at once and says only later who keeps it. Until then the
//! books have it as contested and the contract stands still. A won one lets it go on. What a lost one
//! costs depends on where the hold is:
//!
//! | hold | lost |
//! |---|---|
//! | held | the contract is over; the worker gets nothing, what is left goes back to the payer |
//! | being taken or divided | waits until the rail has said what became of that |
//! | would not be divided | nobody has got anything: the shares shrink |
//! | divided | whoever got it gives it back, each its part of the loss by the contract's own rates |
//!
//! A worker's part comes out of its wallet, then out of its account by the rail ([`Order::Reverse`]),
//! then out of the platform's backstop, and what is left is its debt; or the platform bears it, as the
//! policy says. A refund after payout is shared in the same way.

use serde::{Deserialize, Serialize};

use super::{Answered, Division, HoldEvent, HoldState, Holding};
use crate::{
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, HoldId, InstructionId},
    ledger::{Account, RevenueKind, TransferKind, available},
    money::Money,
    policy::{LossBearer, ReversalPolicy},
    rail::{
        Capability, Chargeback, ChargebackStage, Custody, Decline, Instruction, Landing, Leg, LegReceipt, Order,
        Outcome, Party, Receipt, ReceiptMismatch,
    },
    text,
};

/// What of a contract's money may still go back, or has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returns {
    /// What the divided hold gave, less what has gone back since. A contract that was carried out and whose
    /// shares are those of its terms needs no note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<Paid>,
    /// What the payer's bank took back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chargebacks: Vec<Contest>,
    /// The instructions that take money back or give it back, while they are under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under_way: Vec<InstructionId>,
    /// Those of them that give the payer money back. What its bank takes meanwhile is borne when it is known whether
    /// they did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refunds: Vec<InstructionId>,
}

impl Returns {
    pub(crate) fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Whether the payer's bank has not decided about something yet.
    pub(crate) fn is_contested(&self) -> bool {
        self.chargebacks.iter().any(|contest| matches!(contest.stage, ContestStage::Open { .. }))
    }

    /// Whether a chargeback is lost and nobody has borne it yet.
    pub(crate) fn is_losing(&self) -> bool {
        self.chargebacks.iter().any(|contest| contest.stage == ContestStage::Lost)
    }

    /// Whether a contract stands still for the payer's bank, which has not decided, or has decided what
    /// waits to be booked: about money that never arrived there is nothing to book.
    pub(crate) fn stands_still(&self, hold: HoldState) -> bool {
        self.is_contested() || self.is_losing() && hold != HoldState::Empty
    }

    /// Whether a command may take money back from wallets.
    pub(crate) fn may_take_back(&self, recall: Recall) -> bool {
        match recall {
            Recall::Never => false,
            Recall::IfContested => !self.chargebacks.is_empty(),
            Recall::Always => true,
        }
    }
}

/// Whether a command may take money out of the agents' wallets that went there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recall {
    /// It takes nothing back.
    Never,
    /// A rail's answer: where what a bank has decided waited for it.
    IfContested,
    /// What a bank says, and what an operator gives back.
    Always,
}

/// What a divided hold gave, less what has gone back since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// To the worker.
    pub worker: Money,
    /// The reference of the worker's leg, if it left the rail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg: Option<String>,
    /// How much of that leg was not asked back; absent where it was noted by an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg_left: Option<Money>,
    /// To the platform.
    pub platform: Money,
    /// To the payer, where the rail kept it in the payer's name.
    pub buyer: Money,
}

/// A chargeback as its contract has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// What the rail calls it.
    pub reference: String,
    /// How much was taken back.
    pub amount: Money,
    /// How far it is.
    pub stage: ContestStage,
}

/// How far a chargeback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContestStage {
    /// The bank decides.
    Open {
        /// Until when it takes evidence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence_due: Option<Timestamp>,
    },
    /// The money came back.
    Won,
    /// The payer keeps it, and where it comes from is not known while the hold is on its way.
    Lost,
    /// The payer keeps it, and it is booked who bears it.
    Borne,
}

/// What agents may spend at the moment of a decision, in minor units: what can be taken back from their
/// wallets. If it is less when the decision is committed, the ledger refuses and it is decided anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spendable {
    /// The buyer.
    pub buyer: i64,
    /// The worker.
    pub worker: i64,
}

/// Who gives how much of what goes back.
#[derive(Clone, Copy)]
struct Parts {
    buyer: Money,
    worker: Money,
    platform: Money,
    /// What nobody got.
    beyond: Money,
}

impl Paid {
    /// Shares that are where the contract's terms say, and nothing for the payer to give back.
    pub(crate) fn shares(worker: Money, platform: Money) -> Self {
        Self { worker, leg: None, leg_left: None, platform, buyer: Money::zero(worker.currency()) }
    }

    fn nobody(none: Money) -> Self {
        Self::shares(none, none)
    }

    /// Divides what goes back among those who got it: first the payer who was given it already, then worker
    /// and platform in proportion, so that a fee goes back at the rate it was taken at.
    fn parts(&self, amount: Money) -> Result<Parts, Rejection> {
        let least = |a: Money, b: Money| if a.minor() < b.minor() { a } else { b };
        let buyer = least(amount, self.buyer);
        let both = self.worker.plus(self.platform)?;
        let left = amount.minus(buyer)?;
        let shared = least(left, both);
        let worker = match both.is_zero() {
            true => both,
            false => proportion(shared, self.worker, both),
        };
        Ok(Parts { buyer, worker, platform: shared.minus(worker)?, beyond: left.minus(shared)? })
    }

    fn less(&mut self, parts: &Parts) -> Result<(), Rejection> {
        self.buyer = self.buyer.minus(parts.buyer)?;
        self.worker = self.worker.minus(parts.worker)?;
        self.platform = self.platform.minus(parts.platform)?;
        Ok(())
    }
}

/// `of * part / whole`, rounded down; `part` is at most `whole`, so that the result fits.
fn proportion(of: Money, part: Money, whole: Money) -> Money {
    let exact = i128::from(of.minor()) * i128::from(part.minor()) / i128::from(whole.minor());
    Money::new(i64::try_from(exact).unwrap_or(of.minor()), of.currency())
}

impl<E: From<HoldEvent>> Holding<'_, E> {
    fn none(&self) -> Money {
        Money::zero(self.total.currency())
    }

    /// Notes who got what of a hold that the rail has divided.
    pub(super) fn note_paid(&mut self, receipt: &Receipt) -> Result<(), Rejection> {
        let mut paid = Paid::nobody(self.none());
        for LegReceipt { to, amount, landing, reference } in &receipt.legs {
            match to {
                Party::Worker(_) => {
                    paid.worker = paid.worker.plus(*amount)?;
                    if *landing == Landing::Outside {
                        (paid.leg, paid.leg_left) = (Some(reference.clone()), Some(*amount));
                    }
                }
                Party::Platform => paid.platform = paid.platform.plus(*amount)?,
                Party::Buyer(_) if *landing == Landing::Held => paid.buyer = paid.buyer.plus(*amount)?,
                Party::Buyer(_) => {}
            }
        }
        // What was kept for the worker's debt came to the platform as its share and was the worker's all the same.
        if let Some(repaid) = self.hold.repaid {
            paid.worker = paid.worker.plus(repaid)?;
            paid.platform = paid.platform.minus(repaid)?;
        }
        let reversible = self.rail.can(Capability::Reverse) || self.rail.reversible_for.is_some();
        let terms = self.by_terms.clone().unwrap_or_else(|| Paid::nobody(self.none()));
        if reversible || (terms.worker, terms.platform) != (paid.worker, paid.platform) {
            self.returns.paid = Some(paid);
        }
        Ok(())
    }

    /// Notes that nobody got anything of the hold, whatever the terms say.
    pub(super) fn note_nobody_paid(&mut self) {
        self.returns.paid = Some(Paid::nobody(self.none()));
    }

    /// What the divided hold gave, less what has gone back since.
    fn paid(&self) -> Option<Paid> {
        self.returns.paid.clone().or_else(|| self.by_terms.clone())
    }

    // ---- chargebacks

    /// Books what the payer's bank says. Whoever calls it has the contract stand still while it is contested,
    /// and the losses borne.
    pub(crate) fn chargeback(&mut self, told: &Chargeback) -> Result<(), Rejection> {
        self.must_be(Custody::PerHold, self.rail.custody.is_per_hold())?;
        self.total.plus(told.amount)?; // of the same currency
        let known = self.returns.chargebacks.iter().position(|contest| contest.reference == told.reference);
        if known.is_none() && self.hold.state == HoldState::Empty {
            return Err(self.wrong());
        }
        if let Some(contest) = known.map(|index| &self.returns.chargebacks[index]) {
            if contest.amount != told.amount {
                let (asked, answered) = (contest.amount.to_string(), told.amount.to_string());
                return Err(ReceiptMismatch { field: "chargeback", asked, answered }.into());
            }
            let open = matches!(contest.stage, ContestStage::Open { .. });
            if open == matches!(told.stage, ChargebackStage::Opened { .. }) {
                return Err(Rejection::ReferenceReused { reference: told.reference.clone() });
            }
        }
        self.book_cost(Some(told.cost))?;
        let (contested, rail) = (Account::Contested(self.rail.id), Account::Rail(self.rail.id));
        let index = match (known, told.stage) {
            // Its end was told first; only what its beginning cost was missing.
            (Some(_), ChargebackStage::Opened { .. }) => return Ok(()),
            (Some(index), _) => index,
            (None, _) => {
                self.movement.transfer(contested, rail, told.amount, TransferKind::Chargeback)?;
                let stage = ContestStage::Open { evidence_due: None };
                let (reference, amount) = (told.reference.clone(), told.amount);
                self.returns.chargebacks.push(Contest { reference, amount, stage });
                self.returns.chargebacks.len() - 1
            }
        };
        let (reference, amount) = (told.reference.clone(), told.amount);
        self.returns.chargebacks[index].stage = match told.stage {
            ChargebackStage::Opened { evidence_due } => {
                let cost = told.cost;
                self.tell(HoldEvent::ChargebackOpened { reference, amount, cost, evidence_due });
                ContestStage::Open { evidence_due }
            }
            ChargebackStage::Won => {
                self.movement.transfer(rail, contested, amount, TransferKind::Chargeback)?;
                self.tell(HoldEvent::ChargebackWon { reference, amount });
                ContestStage::Won
            }
            ChargebackStage::Lost => ContestStage::Lost,
        };
        Ok(())
    }

    /// Books who bears what is lost, where the hold has come to rest. What is left of a hold that was
    /// reserved still, on its way back to the payer: then its contract is over.
    pub(crate) fn bear_losses(&mut self) -> Result<Option<Money>, Rejection> {
        let mut rest = None;
        for index in 0..self.returns.chargebacks.len() {
            let Contest { reference, amount, stage } = self.returns.chargebacks[index].clone();
            if stage != ContestStage::Lost {
                continue;
            }
            match self.hold.state {
                HoldState::Held => rest = Some(self.lost_while_held(reference, amount)?),
                HoldState::Settled if self.returns.refunds.is_empty() => self.lost_after_payout(reference, amount)?,
                HoldState::Empty | HoldState::Funding(_) | HoldState::Settling(_) | HoldState::Settled => continue,
            }
            self.returns.chargebacks[index].stage = ContestStage::Borne;
        }
        Ok(rest)
    }

    /// The payer has the money, or a part of it: the payer gets the rest.
    fn lost_while_held(&mut self, reference: String, amount: Money) -> Result<Money, Rejection> {
        let (total, none, contested) = (self.total, self.none(), Account::Contested(self.rail.id));
        let lost = if amount.minor() < total.minor() { amount } else { total };
        self.movement.transfer(self.escrow(), contested, lost, TransferKind::Chargeback)?;
        let beyond = amount.minus(lost)?;
        self.lose(beyond, contested)?;
        let rest = total.minus(lost)?;
        match rest.is_zero() {
            true => self.hold.state = HoldState::Settled,
            false => self.settle(Division::rest(rest))?,
        }
        self.tell(HoldEvent::ChargebackLost { reference, amount, worker: none, platform: beyond, buyer: none });
        Ok(rest)
    }

    fn lost_after_payout(&mut self, reference: String, amount: Money) -> Result<(), Rejection> {
        let contested = Account::Contested(self.rail.id);
        let paid = self.paid().unwrap_or_else(|| Paid::nobody(self.none()));
        let parts = paid.parts(amount)?;
        self.owes(parts.buyer, contested)?;
        let worker = self.take_back(paid, &parts, contested)?;
        self.lose(parts.beyond, contested)?;
        let platform = amount.minus(parts.buyer)?.minus(worker)?;
        self.tell(HoldEvent::ChargebackLost { reference, amount, worker, platform, buyer: parts.buyer });
        Ok(())
    }

    /// The rail would not divide a hold that the payer's bank took back: nobody has got anything, and what
    /// is lost comes off the shares.
    pub(super) fn divide_what_is_left(&mut self) -> Result<(), Rejection> {
        let (none, contested) = (self.none(), Account::Contested(self.rail.id));
        let mut legs = std::mem::take(&mut self.hold.legs);
        self.undo_withholding(&mut legs)?;
        for index in 0..self.returns.chargebacks.len() {
            let Contest { reference, amount, stage } = self.returns.chargebacks[index].clone();
            if stage != ContestStage::Lost {
                continue;
            }
            let share = |is: fn(&Party) -> bool| {
                legs.iter().filter(|leg| is(&leg.to)).try_fold(none, |sum, leg| sum.plus(leg.amount))
            };
            let worker = share(|to| matches!(to, Party::Worker(_)))?;
            let platform = share(|to| matches!(to, Party::Platform))?;
            let buyer = share(|to| matches!(to, Party::Buyer(_)))?;
            let parts = Paid { buyer, ..Paid::shares(worker, platform) }.parts(amount)?;
            for leg in &mut legs {
                let part = match leg.to {
                    Party::Worker(_) => parts.worker,
                    Party::Platform => parts.platform,
                    Party::Buyer(_) => parts.buyer,
                };
                self.movement.transfer(self.waits(leg.to), contested, part, TransferKind::Chargeback)?;
                leg.amount = leg.amount.minus(part)?;
            }
            self.lose(parts.beyond, contested)?;
            let Parts { worker, platform, buyer, .. } = parts;
            self.tell(HoldEvent::ChargebackLost { reference, amount, worker, platform, buyer });
            self.returns.chargebacks[index].stage = ContestStage::Borne;
        }
        legs.retain(|leg| !leg.amount.is_zero());
        if legs.is_empty() {
            self.hold.state = HoldState::Settled;
            self.note_nobody_paid();
        } else {
            self.hold.legs = legs;
            self.ask_to_settle();
        }
        Ok(())
    }

    /// What was kept for the worker's debt is the worker's share again, and owed again.
    fn undo_withholding(&mut self, legs: &mut Vec<Leg>) -> Result<(), Rejection> {
        let Some(repaid) = self.hold.repaid.take() else { return Ok(()) };
        let worker = self.parties.worker;
        self.movement.transfer(Account::Debt(worker), Account::Pending(worker), repaid, TransferKind::Reversal)?;
        let to = Party::Worker(worker);
        match legs.iter_mut().find(|leg| leg.to == to) {
            Some(leg) => leg.amount = leg.amount.plus(repaid)?,
            None => legs.insert(0, Leg { to, amount: repaid }),
        }
        if let Some(leg) = legs.iter_mut().find(|leg| leg.to == Party::Platform) {
            leg.amount = leg.amount.minus(repaid)?;
        }
        legs.retain(|leg| !leg.amount.is_zero());
        Ok(())
    }

    // ---- refunds after payout

    /// An operator gives the payer back what others have got already; `None` for all of it.
    pub(crate) fn refund_paid(&mut self, amount: Option<Money>, reason: &str) -> Result<(), Rejection> {
        text::prose("reason", reason, text::REASON)?;
        if self.policy.reversals.is_none() {
            return Err(Rejection::NotOffered { what: "refunds after payout" });
        }
        let (rail, payer) = (self.rail, self.parties.buyer);
        let per_hold = rail.custody.is_per_hold();
        if per_hold && !rail.can(Capability::Reverse) {
            return Err(Rejection::Unsupported { rail: rail.id, capability: Capability::Reverse });
        }
        let contested = self.returns.is_contested() || self.returns.is_losing();
        let Some(paid) = self.paid().filter(|_| self.hold.state == HoldState::Settled && !contested) else {
            return Err(self.wrong());
        };
        let most = paid.worker.plus(paid.platform)?;
        let amount = amount.unwrap_or(most);
        most.minus(amount)?; // the same currency
        if !(1..=most.minor()).contains(&amount.minor()) {
            let (currency, max, actual) = (most.currency(), most.minor(), amount.minor());
            return Err(Rejection::Amount { field: "refund", currency, min: 1, max, actual });
        }
        let to = if per_hold { Account::Clearing(rail.id) } else { available(payer) };
        let parts = Paid { buyer: self.none(), ..paid.clone() }.parts(amount)?;
        let worker = self.take_back(paid, &parts, to)?;
        let (reason, platform) = (reason.into(), amount.minus(worker)?);
        self.tell(HoldEvent::RefundedAfterPayout { reason, amount, worker, platform });
        if per_hold {
            let (hold, funding) = (HoldId(self.contract), self.hold.funding.clone());
            let id = self.instruct(Order::Refund { hold, funding, payer, amount });
            self.returns.under_way.push(id);
            self.returns.refunds.push(id);
        }
        Ok(())
    }

    // ---- who gives it

    /// Takes worker's and platform's parts back into `to`; what the worker bears of it.
    fn take_back(&mut self, mut paid: Paid, parts: &Parts, to: Account) -> Result<Money, Rejection> {
        // What was kept for the worker's debt never left: only its leg can be reversed.
        let kept = self.hold.repaid.map_or(0, Money::minor);
        let at_most = Money::new((paid.worker.minor() - kept).max(0), paid.worker.currency());
        let leg = paid.leg.clone().map(|leg| (leg, paid.leg_left.unwrap_or(at_most)));
        paid.less(parts)?;
        self.returns.paid = Some(paid);
        self.movement.transfer(self.revenue, to, parts.platform, TransferKind::Reversal)?;
        let worker = self.parties.worker;
        if self.policy.reversals.is_none_or(|policy| policy.borne_by == LossBearer::Platform) {
            self.lose(parts.worker, to)?;
            return Ok(Money::zero(parts.worker.currency()));
        }
        let spendable = self.spendable(worker, self.means.spendable.worker, parts.worker)?;
        self.movement.transfer(available(worker), to, spendable, TransferKind::Reversal)?;
        let mut left = parts.worker.minus(spendable)?;
        if let Some((leg, most)) = leg.filter(|_| self.rail.can(Capability::Reverse)) {
            let amount = Money::new(left.minor().min(most.minor()), left.currency());
            if amount.is_positive() {
                if let Some(paid) = &mut self.returns.paid {
                    paid.leg_left = Some(most.minus(amount)?);
                }
                let clearing = Account::Clearing(self.rail.id);
                if to != clearing {
                    self.movement.transfer(clearing, to, amount, TransferKind::Reversal)?;
                }
                let hold = HoldId(self.contract);
                let id = self.instruct(Order::Reverse { hold, leg, agent: worker, amount });
                self.returns.under_way.push(id);
            }
            left = left.minus(amount)?;
        }
        if left.is_positive() {
            self.covered(worker, left, to)?;
        }
        Ok(parts.worker)
    }

    /// What the worker's balances do not cover: the platform's backstop, and a debt.
    fn covered(&mut self, worker: AgentId, amount: Money, to: Account) -> Result<(), Rejection> {
        let most = match self.policy.reversals {
            Some(ReversalPolicy { borne_by: LossBearer::Worker { backstop } }) => backstop.min(amount.minor()),
            _ => amount.minor(),
        };
        let borne = Money::new(most, amount.currency());
        let owed = amount.minus(borne)?;
        self.lose(borne, to)?;
        self.movement.transfer(Account::Debt(worker), to, owed, TransferKind::Reversal)?;
        self.tell(HoldEvent::Owed { agent: worker, amount: owed, borne });
        Ok(())
    }

    /// A payer who was given money twice gives it back: out of the wallet, and the rest is a debt.
    fn owes(&mut self, amount: Money, to: Account) -> Result<(), Rejection> {
        if amount.is_zero() {
            return Ok(());
        }
        let agent = self.parties.buyer;
        let spendable = self.spendable(agent, self.means.spendable.buyer, amount)?;
        self.movement.transfer(available(agent), to, spendable, TransferKind::Reversal)?;
        let owed = amount.minus(spendable)?;
        self.movement.transfer(Account::Debt(agent), to, owed, TransferKind::Reversal)?;
        if owed.is_positive() {
            let borne = Money::zero(amount.currency());
            self.tell(HoldEvent::Owed { agent, amount: owed, borne });
        }
        Ok(())
    }

    /// The platform bears it.
    fn lose(&mut self, amount: Money, to: Account) -> Result<(), Rejection> {
        self.movement.transfer(Account::Revenue(RevenueKind::Losses), to, amount, TransferKind::Reversal)?;
        Ok(())
    }

    /// What an agent's wallet gives towards an amount, after what this decision takes from it and gives it already.
    fn spendable(&self, agent: AgentId, balance: i64, amount: Money) -> Result<Money, Rejection> {
        let left = self.movement.balance_after(available(agent), Money::new(balance, amount.currency()))?;
        Ok(Money::new(left.minor().clamp(0, amount.minor()), amount.currency()))
    }

    // ---- what rails make of it

    /// A reversal or a refund has an outcome.
    pub(super) fn answer_to_return(
        &mut self,
        instruction: &Instruction,
        outcome: &Outcome,
    ) -> Result<Answered, Rejection> {
        let (rail, clearing) = (Account::Rail(self.rail.id), Account::Clearing(self.rail.id));
        let mut answered = Answered::Waits;
        match (&instruction.order, outcome) {
            (_, Outcome::Pending { .. } | Outcome::NeedsAction(_)) => return Ok(answered),
            (Order::Reverse { agent, amount, .. }, Outcome::Done(receipt)) => {
                instruction.check(receipt)?;
                self.movement.transfer(rail, clearing, *amount, TransferKind::Reversal)?;
                self.book_cost(receipt.cost)?;
                let reference = receipt.reference.clone();
                self.tell(HoldEvent::Reversed { agent: *agent, reference, amount: *amount });
            }
            (Order::Reverse { agent, amount, .. }, Outcome::Declined(_)) => self.covered(*agent, *amount, clearing)?,
            (Order::Refund { payer, amount, .. }, Outcome::Done(receipt)) => {
                instruction.check(receipt)?;
                self.movement.transfer(clearing, rail, *amount, TransferKind::Refund)?;
                self.book_cost(receipt.cost)?;
                let legs = vec![Leg { to: Party::Buyer(*payer), amount: *amount }];
                answered = Answered::Arrived { legs, reference: receipt.reference.clone() };
            }
            // What cannot go back the way it came is the payer's to spend.
            (Order::Refund { payer, amount, .. }, Outcome::Declined(decline)) => {
                self.kept_for_payer(*payer, *amount, decline)?;
            }
            (Order::Fund { .. } | Order::Settle { .. } | Order::Payout { .. }, _) => return Err(self.wrong()),
        }
        self.returns.under_way.retain(|id| *id != instruction.id);
        self.returns.refunds.retain(|id| *id != instruction.id);
        Ok(answered)
    }

    fn kept_for_payer(&mut self, payer: AgentId, amount: Money, decline: &Decline) -> Result<(), Rejection> {
        let clearing = Account::Clearing(self.rail.id);
        self.movement.transfer(clearing, available(payer), amount, TransferKind::Kept)?;
        if let Some(paid) = &mut self.returns.paid {
            paid.buyer = paid.buyer.plus(amount)?;
        }
        self.tell(HoldEvent::Kept { agent: payer, amount, decline: decline.clone() });
        Ok(())
    }
}
