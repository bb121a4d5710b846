//! Moving a hold: in the ledger at once, and at the rail by instruction.

use uuid::Uuid;

use super::{Division, Hold, HoldEvent, HoldState, Paid, Parties, Returns, Spendable, backoff, wrong};
use crate::{
    clock::Timestamp,
    error::Rejection,
    ids::{HoldId, InstructionId},
    ledger::{Account, Movement, TransferKind, available, escrow},
    money::Money,
    policy::Policy,
    rail::{
        Action, Custody, Decline, HoldTerms, Instruction, Landing, Leg, LegReceipt, Order, Outcome, Party, RailProfile,
        Receipt, ReceiptMismatch,
    },
    wallet::withheld,
};

/// A hold while a command is decided: what becomes of it goes into the decision's movement, instructions
/// and events.
pub(crate) struct Holding<'a, E> {
    /// The contract it is for; the hold has its id.
    pub(crate) contract: Uuid,
    /// The command that is decided.
    pub(crate) command: &'static str,
    pub(crate) hold: &'a mut Hold,
    pub(crate) returns: &'a mut Returns,
    pub(crate) parties: Parties,
    /// What is reserved, or would be.
    pub(crate) total: Money,
    /// Where the platform's share is once it is divided.
    pub(crate) revenue: Account,
    /// What the divided hold gave by the contract's terms, where `returns` has no note of it.
    pub(crate) by_terms: Option<Paid>,
    pub(crate) means: Means,
    pub(crate) policy: &'a Policy,
    pub(crate) rail: &'a RailProfile,
    pub(crate) now: Timestamp,
    pub(crate) movement: &'a mut Movement,
    pub(crate) instructions: &'a mut Vec<(Instruction, Timestamp)>,
    pub(crate) events: &'a mut Vec<E>,
}

/// What is known of the parties' money beyond the hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Means {
    /// What the worker owes, taken from what it earns before that becomes available.
    pub(crate) owed: Option<Money>,
    /// What the parties may spend; looked at only by what takes money back.
    pub(crate) spendable: Spendable,
}

/// What a rail's answer came to for a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Nothing yet, or nothing that the contract's state depends on.
    Waits,
    /// A party has to act.
    NeedsAction(Action),
    /// The payer's money could not be taken; the hold is empty again.
    NotFunded(Decline),
    /// It is reserved, and has to be divided at this moment at the latest.
    Funded { act_at: Option<Timestamp> },
    /// It was reserved, and the rail has given it up since.
    FundedAndLost,
    /// The rail would not divide it, and is asked again then.
    NotSettled { decline: Decline, next_at: Timestamp },
    /// What was to leave has left.
    Arrived { legs: Vec<Leg>, reference: String },
}

/// What a hold was that the rail gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Reserved: the payer has it back.
    Reserved,
    /// Being divided: nobody got a share, the payer has it all, and not only what was to be its share.
    Dividing { to_buyer: Money },
    /// Being taken: when that is known to have happened, the money is gone again.
    BeingTaken,
}

impl<E: From<HoldEvent>> Holding<'_, E> {
    /// Reserves the payer's money, which is in its wallet.
    pub(crate) fn reserve(&mut self) -> Result<(), Rejection> {
        self.movement.transfer(available(self.parties.buyer), self.escrow(), self.total, TransferKind::EscrowLock)?;
        self.hold.state = HoldState::Held;
        Ok(())
    }

    /// Asks the rail to take it from the payer.
    pub(crate) fn ask_to_fund(&mut self, terms: HoldTerms) {
        let (hold, payer, amount, terms) = (HoldId(self.contract), self.parties.buyer, self.total, Box::new(terms));
        self.hold.state = HoldState::Funding(self.instruct(Order::Fund { hold, payer, amount, terms }));
    }

    /// The rail took the money: it is in escrow now, less what the rail charged us. When it has to be
    /// divided, so that the rail does not give it up by itself.
    fn funded_by(&mut self, receipt: &Receipt) -> Result<Option<Timestamp>, Rejection> {
        let rail = Account::Rail(self.rail.id);
        self.movement.transfer(rail, self.escrow(), receipt.amount, TransferKind::EscrowLock)?;
        self.book_cost(receipt.cost)?;
        self.hold.state = HoldState::Held;
        self.hold.funding.clone_from(&receipt.reference);
        let by_profile = self.rail.hold_expiry.map(|expiry| self.now + expiry.delta());
        let margin = self.policy.jobs.hold_expiry.margin.delta();
        let act_at = |at: Timestamp| at.checked_sub_signed(margin).unwrap_or(at).max(self.now);
        Ok(receipt.hold_expires_at.or(by_profile).map(act_at))
    }

    /// Empties the hold. In the ledger that happens now; where the rail holds the money, it is asked
    /// to do the same, and what is to leave waits in `pending` and `clearing` until it has.
    pub(crate) fn settle(&mut self, division: Division) -> Result<(), Rejection> {
        if self.hold.state != HoldState::Held {
            return Err(self.wrong());
        }
        self.divide(division)?;
        match self.rail.custody.is_per_hold() {
            true => self.ask_to_settle(),
            false => self.hold.state = HoldState::Settled,
        }
        Ok(())
    }

    /// Has the rail divide the hold into the legs that are written down.
    pub(super) fn ask_to_settle(&mut self) {
        let (legs, funding) = (self.hold.legs.clone(), self.hold.funding.clone());
        let order = Order::Settle { hold: HoldId(self.contract), funding, legs };
        self.hold.state = HoldState::Settling(self.instruct(order));
    }

    /// The parties divided the hold outside, by themselves: all of it has left, whatever the rail was
    /// being asked meanwhile.
    pub(crate) fn settled_outside(&mut self, reference: &str, legs: &[Leg]) -> Result<Division, Rejection> {
        self.must_be(Custody::NonCustodial, self.rail.custody == Custody::NonCustodial)?;
        let division = Division::outside(self.parties, self.total, legs)?;
        match self.hold.state {
            HoldState::Held => {}
            HoldState::Settling(_) => self.take_shares_back(self.escrow())?,
            HoldState::Empty | HoldState::Funding(_) | HoldState::Settled => return Err(self.wrong()),
        }
        self.divide(division)?;
        let landed = |leg: &Leg| {
            let (Leg { to, amount }, landing) = (*leg, Landing::Outside);
            LegReceipt { to, amount, landing, reference: reference.into() }
        };
        let legs: Vec<LegReceipt> = self.hold.legs.iter().map(landed).collect();
        self.landed(&legs)?;
        Ok(division)
    }

    /// Moves the shares out of escrow, to where they are or wait.
    fn divide(&mut self, division: Division) -> Result<(), Rejection> {
        let Parties { buyer, worker } = self.parties;
        let per_hold = self.rail.custody.is_per_hold();
        let (to_worker, to_buyer) = match per_hold {
            true => (Account::Pending(worker), Account::Clearing(self.rail.id)),
            false => (available(worker), available(buyer)),
        };
        // A share that goes straight from the payer to the worker passes nobody who could keep some of it.
        let owed = self.means.owed.filter(|_| self.rail.custody != Custody::NonCustodial);
        let repaid = match owed {
            Some(owed) => withheld(division.worker, owed)?,
            None => Money::zero(division.worker.currency()),
        };
        let to_worker_now = division.worker.minus(repaid)?;
        let escrow = self.escrow();
        self.movement.transfer(escrow, to_worker, to_worker_now, division.worker_kind)?;
        self.movement.transfer(escrow, Account::Debt(worker), repaid, TransferKind::DebtRepaid)?;
        if repaid.is_positive() {
            self.tell(HoldEvent::DebtRepaid { worker, amount: repaid });
        }
        self.movement.transfer(escrow, division.revenue(), division.platform, division.platform_kind)?;
        self.movement.transfer(escrow, to_buyer, division.buyer, TransferKind::Refund)?;
        if per_hold {
            let platform = division.platform.plus(repaid)?;
            self.hold.repaid = Some(repaid).filter(|repaid| repaid.is_positive());
            self.hold.legs = Division { worker: to_worker_now, platform, ..division }.legs(self.parties);
        }
        Ok(())
    }

    /// Takes in what the rail says of an instruction of this hold's, and books it.
    pub(crate) fn answer(&mut self, instruction: &Instruction, outcome: &Outcome) -> Result<Answered, Rejection> {
        if self.returns.under_way.contains(&instruction.id) {
            return self.answer_to_return(instruction, outcome);
        }
        let funding = self.hold.state == HoldState::Funding(instruction.id);
        let settling = self.hold.state == HoldState::Settling(instruction.id);
        if !funding && !settling {
            return Err(self.wrong());
        }
        Ok(match outcome {
            Outcome::Pending { .. } => Answered::Waits,
            Outcome::NeedsAction(action) => {
                let mut action = action.clone();
                action.payload.clear(); // the party's alone; the log is read by both
                Answered::NeedsAction(action)
            }
            Outcome::Declined(decline) if funding => {
                self.hold.state = HoldState::Empty;
                self.hold.expired = false; // that was this payment
                Answered::NotFunded(decline.clone())
            }
            Outcome::Declined(_) if self.returns.is_losing() => {
                self.divide_what_is_left()?;
                Answered::Waits
            }
            Outcome::Declined(decline) => {
                let next_at = self.now + backoff(self.hold.declined).delta();
                let retry = self.instruct_at(instruction.order.clone(), next_at);
                self.hold.state = HoldState::Settling(retry);
                self.hold.declined = self.hold.declined.saturating_add(1);
                Answered::NotSettled { decline: decline.clone(), next_at }
            }
            Outcome::Done(receipt) if funding => {
                instruction.check(receipt)?;
                let act_at = self.funded_by(receipt)?;
                match self.hold.expired {
                    false => Answered::Funded { act_at },
                    true => {
                        self.lost()?;
                        Answered::FundedAndLost
                    }
                }
            }
            Outcome::Done(receipt) => {
                instruction.check(receipt)?;
                self.landed(&receipt.legs)?;
                self.note_paid(receipt)?;
                self.book_cost(receipt.cost)?;
                let legs = receipt.legs.iter().map(|leg| Leg { to: leg.to, amount: leg.amount }).collect();
                Answered::Arrived { legs, reference: receipt.reference.clone() }
            }
        })
    }

    /// The rail divided the hold: what left it leaves the books, what it kept becomes spendable.
    fn landed(&mut self, legs: &[LegReceipt]) -> Result<(), Rejection> {
        let rail = self.rail;
        for LegReceipt { to, amount, landing, .. } in legs {
            // Only a rail that holds money in the platform's name can keep a share.
            let keeps = rail.custody == Custody::PerHold;
            let (debit, credit, kind) = match (landing, to) {
                (Landing::Outside, Party::Worker(agent)) => {
                    (Account::Pending(*agent), Account::Rail(rail.id), TransferKind::Payout)
                }
                (Landing::Outside, Party::Buyer(_)) => {
                    (Account::Clearing(rail.id), Account::Rail(rail.id), TransferKind::Refund)
                }
                (Landing::Outside, Party::Platform) => {
                    (Account::Treasury(rail.id), Account::Rail(rail.id), TransferKind::Payout)
                }
                (Landing::Held, Party::Worker(agent)) if keeps => {
                    (Account::Pending(*agent), available(*agent), TransferKind::Kept)
                }
                (Landing::Held, Party::Buyer(agent)) if keeps => {
                    (Account::Clearing(rail.id), available(*agent), TransferKind::Kept)
                }
                (Landing::Held, Party::Platform) if keeps => continue,
                (Landing::Held, _) => {
                    let asked = format!("what {:?} custody allows", rail.custody);
                    let answered = format!("held for {to:?}");
                    return Err(ReceiptMismatch { field: "landing", asked, answered }.into());
                }
            };
            self.movement.transfer(debit, credit, *amount, kind)?;
        }
        self.hold.legs.clear();
        self.hold.state = HoldState::Settled;
        Ok(())
    }

    /// The rail gave the hold up by itself.
    pub(crate) fn expire(&mut self) -> Result<Expired, Rejection> {
        self.must_be(Custody::PerHold, self.rail.custody.is_per_hold())?;
        match self.hold.state {
            HoldState::Held => {
                self.lost()?;
                Ok(Expired::Reserved)
            }
            HoldState::Settling(_) => {
                let to_buyer = self.hold.to_buyer(self.total);
                self.take_shares_back(Account::Rail(self.rail.id))?;
                self.hold.state = HoldState::Settled;
                self.note_nobody_paid();
                Ok(Expired::Dividing { to_buyer })
            }
            HoldState::Funding(_) => {
                self.hold.expired = true;
                Ok(Expired::BeingTaken)
            }
            HoldState::Empty | HoldState::Settled => Err(self.wrong()),
        }
    }

    /// What was reserved is back with its payer.
    fn lost(&mut self) -> Result<(), Rejection> {
        self.movement.transfer(self.escrow(), Account::Rail(self.rail.id), self.total, TransferKind::Refund)?;
        self.hold.state = HoldState::Settled;
        Ok(())
    }

    /// What the rail was being asked to divide came out otherwise: every share leaves the account where it
    /// waited.
    fn take_shares_back(&mut self, to_account: Account) -> Result<(), Rejection> {
        for Leg { to, mut amount } in std::mem::take(&mut self.hold.legs) {
            // What was kept for the worker's debt is owed again.
            if to == Party::Platform
                && let Some(repaid) = self.hold.repaid.take()
            {
                amount = amount.minus(repaid)?;
                let debt = Account::Debt(self.parties.worker);
                self.movement.transfer(debt, to_account, repaid, TransferKind::Reversal)?;
            }
            self.movement.transfer(self.waits(to), to_account, amount, TransferKind::Reversal)?;
        }
        Ok(())
    }

    /// Where a share waits while the rail is asked to divide the hold.
    pub(super) fn waits(&self, to: Party) -> Account {
        match to {
            Party::Worker(agent) => Account::Pending(agent),
            Party::Buyer(_) => Account::Clearing(self.rail.id),
            Party::Platform => self.revenue,
        }
    }

    /// Writes down the contract's next instruction.
    pub(super) fn instruct(&mut self, order: Order) -> InstructionId {
        self.instruct_at(order, self.now)
    }

    fn instruct_at(&mut self, order: Order, run_at: Timestamp) -> InstructionId {
        let id = InstructionId::derive(self.contract, self.hold.instructions);
        self.hold.instructions += 1;
        self.instructions.push((Instruction { id, contract: self.contract, order, answer: None }, run_at));
        id
    }

    /// The refusal of what the money's state does not allow.
    pub(crate) fn wrong(&self) -> Rejection {
        wrong(self.command, self.hold, self.returns)
    }

    pub(super) fn must_be(&self, needed: Custody, holds: bool) -> Result<(), Rejection> {
        match holds {
            true => Ok(()),
            false => Err(Rejection::WrongRail { command: self.command, rail: self.rail.id, needed }),
        }
    }

    pub(super) fn tell(&mut self, event: HoldEvent) {
        self.events.push(event.into());
    }

    /// What the rail charged for its work left it; what an exchange brought came to it.
    pub(super) fn book_cost(&mut self, cost: Option<Money>) -> Result<(), Rejection> {
        Ok(self.movement.rail_cost(self.rail.id, cost)?)
    }

    pub(super) fn escrow(&self) -> Account {
        escrow(HoldId(self.contract))
    }
}

impl Hold {
    /// While the rail is asked to divide it: what of `total` it is asked to give back to the payer.
    pub(crate) fn to_buyer(&self, total: Money) -> Money {
        let leg = self.legs.iter().find(|leg| matches!(leg.to, Party::Buyer(_)));
        leg.map_or(Money::zero(total.currency()), |leg| leg.amount)
    }
}
