//! Usage agreements: a quantity of units at a price, escrowed by the buyer, paid as used.
//!
//! A buyer proposes, the seller accepts, the buyer activates: then quantity times price is reserved
//! ([`hold`](crate::hold)). Usage is recorded up to the quantity ([`chain`]: every call proves the ones
//! before it), and a meter that both parties trust may sign cumulative [`receipts`](receipt). Either
//! party closes; a window runs in which a later receipt still counts; then what was earned goes to the
//! seller, less the fee, and the rest to the buyer. Neither party and no platform can hold that up: time
//! alone ends an agreement (PG-02, 03, 07, 09, 19). Only the payer's bank can stop it: while it decides about a
//! deposit that it took back, everything stands still ([`Agreement::frozen`]).
//!
//! [`decide`] is the only place that changes an agreement. It is pure, as a job's is.
//!
//! # What has been earned
//!
//! | how it ends | the seller has earned |
//! |---|---|
//! | the buyer completes it | what was recorded or received, whichever is more, times the price |
//! | it becomes final by time | with a receipt signer: what its last receipt says; without one: what was recorded |
//! | an operator rules, in a dispute | what the ruling says, at most quantity times price |
//!
//! Where a contract between the parties counts receipts ([`Capability::Close`](crate::rail::Capability::Close)),
//! it closes and it makes final; the agreement follows what the rail tells of it. The parties close, claim and
//! withdraw there.

pub mod chain;
mod command;
mod decide;
mod event;
mod outside;
pub mod receipt;
mod settle;

pub use command::{AgreementCommand, Proposal, Suggestion};
pub use decide::{Context, Decision, decide};
pub use event::{AgreementEvent, CloseCause, ExpiryCause, FeeKind};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::{
    chain::Link,
    receipt::{ReceiptSigner, SignedReceipt},
};
use crate::{
    clock::Timestamp,
    hold::{Hold, HoldState, Returns},
    ids::{AgentId, AgreementId, RailId},
    money::{Money, MoneyError, Rate, Rounding},
    policy::{Bearer, PolicyVersion, Span},
    store::Kept,
};

/// Where an agreement is in its life (PG-03).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgreementStatus {
    /// The seller has not answered.
    Proposed,
    /// The seller agrees; the buyer has not reserved the money.
    Accepted,
    /// The seller does not agree. Final.
    Rejected,
    /// The buyer took it back before it was accepted. Final.
    Cancelled,
    /// The money is reserved; units are used.
    Active,
    /// What was earned is the seller's, the rest the buyer's. Final.
    Completed,
    /// A party disputes what was earned; an operator may rule until it is final.
    Disputed,
    /// Nobody answered, nobody paid, or nothing was earned in time. Final.
    Expired,
}

impl AgreementStatus {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Proposed,
        Self::Accepted,
        Self::Rejected,
        Self::Cancelled,
        Self::Active,
        Self::Completed,
        Self::Disputed,
        Self::Expired,
    ];

    /// The word used in stores, events and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Disputed => "disputed",
            Self::Expired => "expired",
        }
    }

    /// Whether no party's command changes it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Rejected | Self::Cancelled | Self::Completed | Self::Expired)
    }
}

impl std::fmt::Display for AgreementStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far the buyer's activation is (PG-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivationStatus {
    /// The rail was asked to reserve the money.
    Submitting,
    /// It is reserved.
    Confirmed,
    /// The rail would not; the buyer may try again.
    Failed,
}

/// How far the division of the money is (PG-09).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettlementStatus {
    /// Units are used.
    Open,
    /// The challenge window runs: only receipts and disputes count.
    Closing,
    /// What was earned stands; the money is on its way.
    Finalized,
    /// Everybody has what is theirs.
    Settled,
}

/// A usage agreement: everything that decides about it. The document that the parties agreed to is kept
/// beside it, since no rule reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Its id.
    pub id: AgreementId,
    /// Who pays.
    pub buyer: AgentId,
    /// Who delivers units.
    pub seller: AgentId,
    /// Where it is in its life.
    pub status: AgreementStatus,
    /// The rail its money moves on.
    pub rail: RailId,
    /// The policy it was made under, for ever.
    pub policy: PolicyVersion,
    /// What was agreed.
    pub terms: AgreementTerms,
    /// Its money, as it is.
    pub hold: Hold,
    /// Its money, as it goes back.
    #[serde(default, skip_serializing_if = "Returns::is_empty")]
    pub returns: Returns,
    /// While the payer's bank decides who keeps the money: since when everything stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Timestamp>,
    /// How far its activation is; `None` before the buyer tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationStatus>,
    /// How far the division of its money is; `None` before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<SettlementStatus>,
    /// When the contract that holds the money makes it final. No timer: the contract does that, the rail tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<Timestamp>,
    /// What has reached the parties' own accounts so far, by the rail's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Arrived>,
    /// The fee that is paid apart from the money held; `None` where it is waived (PG-06).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_fee: Option<InfrastructureFee>,
    /// What has been used.
    pub usage: Usage,
    /// The receipt that counts: the one of most units so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<SignedReceipt>,
    /// What the seller has earned, once that is final: before the fee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earned: Option<Money>,
    /// When it was proposed.
    pub proposed_at: Timestamp,
    /// The moment something happens by itself, by what happens.
    pub timers: Timers,
}

/// What was agreed. A rail whose contract enforces it finds here all that the contract's terms need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementTerms {
    /// The service it is about, in the host's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What a unit is: `api_calls`.
    pub unit: String,
    /// How many units at most.
    pub quantity: i64,
    /// What a unit costs.
    pub unit_price: Money,
    /// Who bears the platform's fee.
    pub bearer: Bearer,
    /// The fee's rate; of what is earned, rounded as the policy says.
    pub rate: Rate,
    /// What is reserved: quantity times price, and the most the fee can be where the buyer bears it.
    pub deposit: Money,
    /// When units must have been delivered. A receipt may come `challenge_window` later.
    pub expiry: Timestamp,
    /// How long a close can be challenged.
    pub challenge_window: Span,
    /// Who signs receipts; none when what is recorded counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_signer: Option<ReceiptSigner>,
    /// The buyer's own account on the rail, in the rail's notation: a wallet's address. A rail that reserves the
    /// money there does it from no other one (PG-02).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buyer_account: Option<String>,
    /// The seller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seller_account: Option<String>,
    /// SHA-256 of the document of settlement terms, as it is kept.
    pub document: chain::Hash,
}

impl AgreementTerms {
    /// What so many units are worth.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`]
    pub fn worth(&self, units: i64) -> Result<Money, MoneyError> {
        let minor = self.unit_price.minor().checked_mul(units).ok_or(MoneyError::Overflow)?;
        Ok(Money::new(minor, self.unit_price.currency()))
    }

    /// The platform's fee on what was earned, rounded down: it is never a larger part of it than the payer has signed
    /// for.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`]
    pub fn fee(&self, earned: Money) -> Result<Money, MoneyError> {
        earned.at(self.rate, Rounding::Down)
    }
}

/// What has been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Units recorded; never more than the quantity.
    pub units: i64,
    /// Calls recorded.
    pub calls: u64,
    /// How often calls were recorded: each time made one part of the chain.
    pub parts: u32,
    /// The last call's hash; all zero before the first.
    pub head: chain::Hash,
}

/// What has reached each party's own account of a hold that a contract outside pays out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// The seller's.
    pub seller: Money,
    /// The platform's.
    pub platform: Money,
    /// The buyer's.
    pub buyer: Money,
}

/// A fee that the buyer pays by a permit of its own (PG-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfrastructureFee {
    /// How much.
    pub amount: Money,
    /// How far it is.
    pub status: FeeStatus,
}

/// How far a separate fee is. Whatever becomes of it, the agreement goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeeStatus {
    /// The rail was asked to take it.
    Pending,
    /// The platform has it.
    Collected,
    /// It was not paid, and will not be.
    Failed,
}

/// What happens to an agreement by itself, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// The seller has not answered (PG-03).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_by: Option<Timestamp>,
    /// The buyer has not activated (PG-04).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate_by: Option<Timestamp>,
    /// The units must have been delivered: the agreement closes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What was earned becomes final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_at: Option<Timestamp>,
    /// The engine divides the money before the rail gives it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<Timestamp>,
}

impl Timers {
    /// Moves every deadline by as long as the agreement stood still; the rail's clock has gone on.
    fn resume(&mut self, since: Timestamp, now: Timestamp) {
        let pause = (now - since).max(TimeDelta::zero()); // a machine's clock may step back
        for timer in [&mut self.answer_by, &mut self.activate_by, &mut self.expires_at, &mut self.final_at] {
            *timer = timer.map(|at| at + pause);
        }
    }
}

impl Kept for Agreement {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        self.status.as_str()
    }

    /// Its buyer and its seller.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.buyer.0), Some(self.seller.0)]
    }

    /// The next moment at which something happens by itself. While it is frozen only the rail's clock runs.
    fn due_at(&self) -> Option<Timestamp> {
        let t = &self.timers;
        if self.frozen.is_some() {
            return t.hold_until;
        }
        [t.answer_by, t.activate_by, t.expires_at, t.final_at, t.hold_until].into_iter().flatten().min()
    }
}

impl Agreement {
    /// When what is earned becomes final, if nobody does anything; `None` while it is not active. Whoever
    /// closes moves it nearer, never further away.
    pub fn final_at(&self) -> Option<Timestamp> {
        match self.settlement {
            Some(SettlementStatus::Open) => {
                let expires_at = self.timers.expires_at.unwrap_or(self.terms.expiry);
                Some(expires_at + self.terms.challenge_window.delta())
            }
            Some(SettlementStatus::Closing) => self.timers.final_at.or(self.closes_at),
            Some(SettlementStatus::Finalized | SettlementStatus::Settled) | None => None,
        }
    }

    /// Units that count when time makes the agreement final.
    pub fn proven_units(&self) -> i64 {
        match self.terms.receipt_signer {
            Some(_) => self.receipt.as_ref().map_or(0, |receipt| receipt.units),
            None => self.usage.units,
        }
    }

    /// Units that count when the buyer completes the agreement.
    pub fn admitted_units(&self) -> i64 {
        self.usage.units.max(self.proven_units())
    }

    /// Whether its money has neither been asked for nor is anywhere any more.
    pub fn is_over(&self) -> bool {
        self.status.is_final() && matches!(self.hold.state, HoldState::Empty | HoldState::Settled)
    }

    /// The call that the next one follows.
    pub fn head(&self) -> Link {
        Link { number: self.usage.calls, hash: self.usage.head }
    }
}
