//! Money reserved for one contract: taken from its payer, divided once, gone.
//!
//! A job and a usage agreement each keep one [`Hold`] and move it only through `Holding`, so that
//! a rail's answers, a payer's bank and an operator's refund mean the same to both. In the ledger a hold is
//! `escrow/<contract>`.

mod event;
mod moves;
mod returns;

pub use event::HoldEvent;
pub(crate) use moves::{Answered, Expired, Holding, Means};
pub(crate) use returns::Recall;
pub use returns::{Contest, ContestStage, Paid, Returns, Spendable};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, InstructionId},
    ledger::{Account, Movement, RevenueKind, Transfer, TransferKind},
    money::Money,
    policy::Span,
    rail::{Leg, Party, ReceiptMismatch},
};

/// How long a settlement that was declined waits before it is asked for again, at first.
const RETRY_FIRST: Span = Span::seconds(60);
/// How long at most.
const RETRY_MOST: Span = Span::hours(24);

/// What a hold is while the payer's bank decides about it.
pub(crate) const CONTESTED: &str = "contested by the payer's bank";

/// A contract's money, as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What has happened to it.
    pub state: HoldState,
    /// How many instructions this contract has given; the next one's number.
    pub instructions: u32,
    /// How often the rail declined to divide it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub declined: u32,
    /// The reference of the receipt that funded it; empty for holds that exist in the ledger only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub funding: String,
    /// The rail gave it up before its funding was known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
    /// While the rail is asked to divide it: who is to get what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<Leg>,
    /// While the rail is asked to divide it: what of the platform's leg repays the worker's debt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaid: Option<Money>,
    /// When the period began whose budget was charged with it (VP-08).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What has happened to a contract's money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Nothing was asked of anybody.
    #[default]
    Empty,
    /// The rail was asked to take it from the payer.
    Funding(InstructionId),
    /// It is reserved.
    Held,
    /// It was divided in the ledger, and the rail was asked to do the same.
    Settling(InstructionId),
    /// It is divided and gone.
    Settled,
}

impl HoldState {
    /// What the money is, in a word or two.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "not reserved",
            Self::Funding(_) => "being taken",
            Self::Held => "reserved",
            Self::Settling(_) => "being divided",
            Self::Settled => "divided",
        }
    }
}

/// Who gets what of a hold: all of it, to the last unit. Each concept makes its own in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Division {
    pub(crate) worker: Money,
    pub(crate) platform: Money,
    pub(crate) buyer: Money,
    pub(crate) worker_kind: TransferKind,
    pub(crate) platform_kind: TransferKind,
}

impl Division {
    /// What the parties did by themselves outside, if it divides the whole hold among its parties.
    pub(crate) fn outside(parties: Parties, total: Money, legs: &[Leg]) -> Result<Self, Rejection> {
        let differs = || {
            let (asked, answered) = (format!("{total} among the contract's parties"), format!("{legs:?}"));
            Rejection::from(ReceiptMismatch { field: "legs", asked, answered })
        };
        let none = Money::zero(total.currency());
        let (worker_kind, platform_kind) = (TransferKind::Earned, TransferKind::Fee);
        let mut division = Self { worker: none, platform: none, buyer: none, worker_kind, platform_kind };
        for Leg { to, amount } in legs {
            let share = match to {
                Party::Worker(agent) if *agent == parties.worker => &mut division.worker,
                Party::Buyer(agent) if *agent == parties.buyer => &mut division.buyer,
                Party::Platform => &mut division.platform,
                Party::Worker(_) | Party::Buyer(_) => return Err(differs()),
            };
            if amount.minor() < 0 {
                return Err(differs());
            }
            *share = share.plus(*amount)?;
        }
        if division.worker.plus(division.platform)?.plus(division.buyer)? != total {
            return Err(differs());
        }
        if division.worker.is_zero() {
            (division.worker_kind, division.platform_kind) =
                (TransferKind::Compensation, TransferKind::CancellationFee);
        }
        Ok(division)
    }

    /// The payer gets back what is left of the hold.
    pub(crate) fn rest(buyer: Money) -> Self {
        let none = Money::zero(buyer.currency());
        let (worker_kind, platform_kind) = (TransferKind::Compensation, TransferKind::CancellationFee);
        Self { worker: none, platform: none, buyer, worker_kind, platform_kind }
    }

    /// The shares that are more than nothing.
    pub(crate) fn legs(&self, Parties { buyer, worker }: Parties) -> Vec<Leg> {
        let legs = [
            Leg { to: Party::Worker(worker), amount: self.worker },
            Leg { to: Party::Platform, amount: self.platform },
            Leg { to: Party::Buyer(buyer), amount: self.buyer },
        ];
        legs.into_iter().filter(|leg| !leg.amount.is_zero()).collect()
    }

    /// What the platform earns by it.
    pub(crate) fn revenue(&self) -> Account {
        match self.platform_kind {
            TransferKind::CancellationFee => Account::Revenue(RevenueKind::Cancellations),
            _ => Account::Revenue(RevenueKind::Fees),
        }
    }
}

/// Who pays into a hold and who works for it. Where nobody works yet, the payer stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parties {
    pub(crate) buyer: AgentId,
    pub(crate) worker: AgentId,
}

/// Whether a worker gets something by a movement that a debt could be kept from.
pub(crate) fn pays_a_worker(movement: &Movement) -> bool {
    let earned = |transfer: &Transfer| matches!(transfer.kind(), TransferKind::Earned | TransferKind::Compensation);
    movement.transfers().iter().any(earned)
}

/// The refusal of what the state of a contract's money does not allow.
pub(crate) fn wrong(command: &'static str, hold: &Hold, returns: &Returns) -> Rejection {
    let state = match hold.state {
        _ if returns.is_contested() => CONTESTED,
        state => state.as_str(),
    };
    Rejection::WrongHold { command, state }
}

/// The wait before a settlement is asked for again that was declined `before` times before: four times
/// as long each time, up to a day.
fn backoff(before: u32) -> Span {
    let seconds = RETRY_FIRST.as_seconds().saturating_mul(4u32.saturating_pow(before));
    Span::seconds(seconds.min(RETRY_MOST.as_seconds()))
}
