//! Moving a hold: in the ledger at once, and at the rail by instruction.

use uuid::Uuid;

use super::{Division, Hold, HoldState, Parties, backoff};
use crate::{
    clock::Timestamp,
    error::Rejection,
    ids::{HoldId, InstructionId},
    ledger::{Account, Movement, TransferKind, available, escrow},
    money::Money,
    rail::{
        Action, Custody, Decline, Instruction, Landing, Leg, LegReceipt, Order, Outcome, Party, RailProfile, Receipt,
        ReceiptMismatch,
    },
};

/// A hold while a command is decided: what becomes of it goes into the decision's movement and
/// instructions.
pub(crate) struct Holding<'a> {
    /// The contract it is for; the hold has its id.
    pub(crate) contract: Uuid,
    /// The command that is decided.
    pub(crate) command: &'static str,
    pub(crate) hold: &'a mut Hold,
    pub(crate) parties: Parties,
    pub(crate) rail: &'a RailProfile,
    pub(crate) now: Timestamp,
    pub(crate) movement: &'a mut Movement,
    pub(crate) instructions: &'a mut Vec<(Instruction, Timestamp)>,
}

/// What a rail's answer came to for a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Nothing yet.
    Waits,
    /// A party has to act.
    NeedsAction(Action),
    /// The payer's money could not be taken; the hold is empty again.
    NotFunded(Decline),
    /// It is reserved, until the rail gives it up by itself.
    Funded { expires: Option<Timestamp> },
    /// The rail would not divide it, and is asked again then.
    NotSettled { decline: Decline, next_at: Timestamp },
    /// It is divided and gone.
    Settled { legs: Vec<Leg>, reference: String },
}

impl Holding<'_> {
    /// Reserves the payer's money: from the wallet at once, or by asking the rail with `order`.
    /// Whether it is reserved already.
    pub(crate) fn fund(&mut self, amount: Money, order: Order) -> Result<bool, Rejection> {
        if self.rail.custody.is_per_hold() {
            self.hold.state = HoldState::Funding(self.instruct(order));
            return Ok(false);
        }
        self.movement.transfer(available(self.parties.buyer), self.escrow(), amount, TransferKind::EscrowLock)?;
        self.hold.state = HoldState::Held;
        Ok(true)
    }

    /// The rail took the money: it is in escrow now, less what the rail charged us. When the rail will
    /// give it up by itself.
    pub(crate) fn funded_by(&mut self, receipt: &Receipt) -> Result<Option<Timestamp>, Rejection> {
        let rail = Account::Rail(self.rail.id);
        self.movement.transfer(rail, self.escrow(), receipt.amount, TransferKind::EscrowLock)?;
        self.book_cost(receipt)?;
        self.hold.state = HoldState::Held;
        self.hold.funding.clone_from(&receipt.reference);
        let by_profile = self.rail.hold_expiry.map(|expiry| self.now + expiry.delta());
        Ok(receipt.hold_expires_at.or(by_profile))
    }

    /// Empties the hold. In the ledger that happens now; where the rail holds the money, it is asked
    /// to do the same, and what is to leave waits in `pending` and `clearing` until it has.
    pub(crate) fn settle(&mut self, division: Division) -> Result<(), Rejection> {
        if self.hold.state != HoldState::Held {
            return Err(self.wrong());
        }
        self.divide(division)?;
        if !self.rail.custody.is_per_hold() {
            self.hold.state = HoldState::Settled;
            return Ok(());
        }
        let (legs, funding) = (self.hold.legs.clone(), self.hold.funding.clone());
        let order = Order::Settle { hold: HoldId(self.contract), funding, legs };
        self.hold.state = HoldState::Settling(self.instruct(order));
        Ok(())
    }

    /// The parties divided the hold outside, by themselves: all of it has left, whatever the rail was
    /// being asked meanwhile. `revenue` is where the platform's share of that waits.
    pub(crate) fn settled_outside(
        &mut self,
        division: Division,
        reference: &str,
        revenue: Account,
    ) -> Result<(), Rejection> {
        match self.hold.state {
            HoldState::Held => {}
            HoldState::Settling(_) => self.take_shares_back(self.escrow(), revenue)?,
            HoldState::Empty | HoldState::Funding(_) | HoldState::Settled => return Err(self.wrong()),
        }
        self.divide(division)?;
        let landed = |leg: &Leg| {
            let (Leg { to, amount }, landing) = (*leg, Landing::Outside);
            LegReceipt { to, amount, landing, reference: reference.into() }
        };
        let legs: Vec<LegReceipt> = self.hold.legs.iter().map(landed).collect();
        self.landed(&legs)
    }

    /// Moves the shares out of escrow, to where they are or wait.
    fn divide(&mut self, division: Division) -> Result<(), Rejection> {
        let Parties { buyer, worker } = self.parties;
        let per_hold = self.rail.custody.is_per_hold();
        let (to_worker, to_buyer) = match per_hold {
            true => (Account::Pending(worker), Account::Clearing(self.rail.id)),
            false => (available(worker), available(buyer)),
        };
        let escrow = self.escrow();
        self.movement.transfer(escrow, to_worker, division.worker, division.worker_kind)?;
        self.movement.transfer(escrow, division.revenue(), division.platform, division.platform_kind)?;
        self.movement.transfer(escrow, to_buyer, division.buyer, TransferKind::Refund)?;
        if per_hold {
            self.hold.legs = division.legs(self.parties);
        }
        Ok(())
    }

    /// Takes in what the rail says of an instruction of this hold's, and books it.
    pub(crate) fn answer(&mut self, instruction: &Instruction, outcome: &Outcome) -> Result<Answered, Rejection> {
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
            Outcome::Declined(decline) => {
                let next_at = self.now + backoff(self.hold.declined).delta();
                let retry = self.instruct_at(instruction.order.clone(), next_at);
                self.hold.state = HoldState::Settling(retry);
                self.hold.declined = self.hold.declined.saturating_add(1);
                Answered::NotSettled { decline: decline.clone(), next_at }
            }
            Outcome::Done(receipt) => {
                instruction.check(receipt)?;
                match funding {
                    true => Answered::Funded { expires: self.funded_by(receipt)? },
                    false => {
                        self.settled_by(receipt)?;
                        let legs = receipt.legs.iter().map(|leg| Leg { to: leg.to, amount: leg.amount }).collect();
                        Answered::Settled { legs, reference: receipt.reference.clone() }
                    }
                }
            }
        })
    }

    /// The rail divided the hold: what left it leaves the books, what it kept becomes spendable.
    pub(crate) fn settled_by(&mut self, receipt: &Receipt) -> Result<(), Rejection> {
        self.landed(&receipt.legs)?;
        self.book_cost(receipt)
    }

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

    /// The rail gave the hold up while it was being asked to divide it: its payer has it all.
    pub(crate) fn shares_lost(&mut self, revenue: Account) -> Result<(), Rejection> {
        self.take_shares_back(Account::Rail(self.rail.id), revenue)?;
        self.hold.state = HoldState::Settled;
        Ok(())
    }

    /// What the rail was being asked to divide came out otherwise: every share leaves the account where it
    /// waited; `revenue` is where the platform's does.
    fn take_shares_back(&mut self, to_account: Account, revenue: Account) -> Result<(), Rejection> {
        for Leg { to, amount } in std::mem::take(&mut self.hold.legs) {
            let waited = match to {
                Party::Worker(agent) => Account::Pending(agent),
                Party::Buyer(_) => Account::Clearing(self.rail.id),
                Party::Platform => revenue,
            };
            self.movement.transfer(waited, to_account, amount, TransferKind::Reversal)?;
        }
        Ok(())
    }

    /// The rail gave the hold up by itself: the money is back with its payer.
    pub(crate) fn lost(&mut self, amount: Money) -> Result<(), Rejection> {
        self.movement.transfer(self.escrow(), Account::Rail(self.rail.id), amount, TransferKind::Refund)?;
        self.hold.state = HoldState::Settled;
        Ok(())
    }

    /// Writes down the contract's next instruction.
    fn instruct(&mut self, order: Order) -> InstructionId {
        self.instruct_at(order, self.now)
    }

    /// The refusal of what the money's state does not allow.
    pub(crate) fn wrong(&self) -> Rejection {
        Rejection::WrongHold { command: self.command, state: self.hold.state.as_str() }
    }

    fn instruct_at(&mut self, order: Order, run_at: Timestamp) -> InstructionId {
        let id = InstructionId::derive(self.contract, self.hold.instructions);
        self.hold.instructions += 1;
        self.instructions.push((Instruction { id, contract: self.contract, order, answer: None }, run_at));
        id
    }

    fn book_cost(&mut self, receipt: &Receipt) -> Result<(), Rejection> {
        Ok(self.movement.rail_cost(self.rail.id, receipt.cost)?)
    }

    fn escrow(&self) -> Account {
        escrow(HoldId(self.contract))
    }
}
