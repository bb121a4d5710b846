//! Adjustments: what an operator books by hand because no rule can, and the undoing of a movement.
//!
//! Nothing in the ledger is ever changed, so a mistake is answered by another movement. Each is a record
//! of its own with the operator's reason, and its event names the operator.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    ids::{Place, derive},
    ledger::{Account, Movement, TransferKind},
    money::{Currency, Money},
    store::Kept,
    text,
};

/// Money that an operator has moved by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjustment {
    /// Its id, under which the ledger keeps its transfers; those of a reversal follow from what is reversed.
    pub id: Uuid,
    /// When it was booked.
    pub at: Timestamp,
    /// What was done.
    pub what: Adjusted,
    /// Why, in the operator's words.
    pub reason: String,
}

/// What an adjustment does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjusted {
    /// These amounts were moved.
    Booked(Vec<Booking>),
    /// A movement was undone.
    Reversed(MovementId),
}

/// One amount to be moved by hand, in minor units of the marketplace's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Booking {
    /// The account that gives.
    pub debit: Account,
    /// The account that receives.
    pub credit: Account,
    /// How much; more than nothing.
    pub amount: Money,
}

/// Which movement: the transfers of one contract's version, as an account's history names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MovementId {
    /// The contract, deposit or adjustment that moved.
    pub contract: Uuid,
    /// The version of it that the movement made.
    pub version: u64,
}

impl MovementId {
    /// The id of the adjustment that undoes it: there can be only one.
    pub fn reversal(self) -> Uuid {
        derive(Place::Anywhere, &[b"reversal", self.contract.as_bytes(), &self.version.to_be_bytes()])
    }
}

impl std::fmt::Display for MovementId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} version {}", self.contract, self.version)
    }
}

/// What happened, in the words of the log. The operator is the event's actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum AdjustmentEvent {
    /// An operator moved money by hand.
    #[serde(rename = "ledger.adjusted")]
    Booked {
        /// What.
        bookings: Vec<Booking>,
        /// Why.
        reason: String,
    },
    /// An operator undid a movement.
    #[serde(rename = "ledger.reversed")]
    Reversed {
        /// Which.
        movement: MovementId,
        /// Why.
        reason: String,
    },
}

impl AdjustmentEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Booked { .. } => "ledger.adjusted",
            Self::Reversed { .. } => "ledger.reversed",
        }
    }
}

impl Kept for Adjustment {
    fn id(&self) -> Uuid {
        self.id
    }

    fn status(&self) -> &'static str {
        match self.what {
            Adjusted::Booked(_) => "booked",
            Adjusted::Reversed(_) => "reversed",
        }
    }
}

/// What an operator asks for.
#[derive(Clone, Debug)]
pub enum AdjustmentCommand {
    /// To move money by hand.
    Book {
        /// The adjustment's id, chosen by the shell.
        id: Uuid,
        /// What.
        bookings: Vec<Booking>,
    },
    /// To undo a movement.
    Reverse {
        /// Which.
        movement: MovementId,
        /// Its transfers, none if there is no such movement.
        transfers: Movement,
        /// Whether it was undone before.
        before: Before,
    },
}

/// Whether a movement was undone before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It stands.
    Never,
    /// It was.
    Reversed,
}

impl AdjustmentCommand {
    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Book { .. } => "adjust",
            Self::Reverse { .. } => "reverse",
        }
    }
}

/// What an adjustment does: plain data, written in one transaction or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjustmentDecision {
    /// The adjustment.
    pub adjustment: Adjustment,
    /// What happened.
    pub event: AdjustmentEvent,
    /// What moves.
    pub movement: Movement,
}

/// Decides an adjustment.
///
/// Holds are left alone: what is reserved for a contract moves by that contract's rules only, or its
/// terms and its money would say different things. What has left a hold for a wallet may be adjusted.
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn decide(
    command: AdjustmentCommand,
    reason: &str,
    actor: &Actor,
    now: Timestamp,
    currency: Currency,
) -> Result<AdjustmentDecision, Rejection> {
    let name = command.name();
    if !matches!(actor, Actor::Operator(_)) {
        return Err(Rejection::WrongActor { command: name, allowed: "an operator", actor: actor.clone() });
    }
    text::prose("reason", reason, text::WHY)?;
    let reason = reason.to_owned();
    let (id, what, movement, event) = match command {
        AdjustmentCommand::Book { id, bookings } => {
            let movement = booked(&bookings, currency)?;
            let event = AdjustmentEvent::Booked { bookings: bookings.clone(), reason: reason.clone() };
            (id, Adjusted::Booked(bookings), movement, event)
        }
        AdjustmentCommand::Reverse { movement, before: Before::Reversed, .. } => {
            return Err(Rejection::AlreadyReversed { movement });
        }
        AdjustmentCommand::Reverse { movement, transfers, before: Before::Never } => {
            if transfers.is_empty() {
                return Err(Rejection::NotFound { what: "movement", id: movement.to_string() });
            }
            let event = AdjustmentEvent::Reversed { movement, reason: reason.clone() };
            (movement.reversal(), Adjusted::Reversed(movement), transfers.reversal(), event)
        }
    };
    for transfer in movement.transfers() {
        for account in [transfer.debit(), transfer.credit()] {
            if matches!(account, Account::Escrow(_)) {
                return Err(Rejection::HoldMoved { command: name, account });
            }
        }
    }
    Ok(AdjustmentDecision { adjustment: Adjustment { id, at: now, what, reason }, event, movement })
}

fn booked(bookings: &[Booking], currency: Currency) -> Result<Movement, Rejection> {
    let mut movement = Movement::new();
    for Booking { debit, credit, amount } in bookings {
        Money::zero(currency).plus(*amount)?;
        if !amount.is_positive() {
            let (min, max, actual) = (1, i64::MAX, amount.minor());
            return Err(Rejection::Amount { field: "booking", currency, min, max, actual });
        }
        movement.transfer(*debit, *credit, *amount, TransferKind::Adjustment)?;
    }
    match movement.is_empty() {
        true => Err(Rejection::Missing { field: "bookings" }),
        false => Ok(movement),
    }
}
