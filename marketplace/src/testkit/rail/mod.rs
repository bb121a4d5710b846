//! The conformance kit of settlement rails.
//!
//! Implement [`Harness`] for a rail and its outside world, call [`run`], and assert both that nothing
//! [broke](Report::assert_kept) and how many cases [ran](Report::ran): a case that does not apply is
//! listed with the reason, so that a rail cannot pass by having nothing asked of it.

mod drive;
mod orders;
mod story;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    ids::{AgentId, HoldId},
    money::Money,
    rail::{Action, ChargebackStage, Custody, Instruction, Push, SettlementRail},
};

use drive::Kit;

/// What the kit needs to know and do about a rail's outside world.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A fresh value of the rail over the same outside world and the same durable state, as after a
    /// restart of the process.
    async fn rail(&self) -> Arc<dyn SettlementRail>;

    /// A new contract whose parties the rail knows: the buyer can pay any amount the kit asks for, the
    /// worker can be paid.
    async fn contract(&self) -> Parties;

    /// Has the rail hold this much that the worker may be paid out. Asked only of rails with
    /// [`Capability::Payout`](crate::rail::Capability::Payout).
    async fn earn(&self, worker: AgentId, amount: Money);

    /// Makes the next `execute` go wrong in this way, and only that one.
    async fn arrange(&self, fault: Fault) -> Result<(), Unplayable>;

    /// A party does what it is asked to; the answer goes back with the instruction.
    async fn act(&self, action: &Action) -> String;

    /// Lets a little time pass outside: a block, a retry, a second.
    async fn advance(&self);

    /// How often the instruction truly took effect, found out without the rail.
    async fn times(&self, instruction: &Instruction) -> u32;

    /// Brings money in for an agent from outside and says whose it is.
    async fn deposit(&self, amount: Money) -> Result<AgentId, Unplayable>;

    /// Every message that the outside world has sent so far.
    async fn pushes(&self) -> Result<Vec<Push>, Unplayable>;

    /// Lets the outside world give a hold up; others may go with it.
    async fn expire(&self, hold: HoldId) -> Result<(), Unplayable>;

    /// Lets the payer's bank take a hold's payment back, all of it, or decide about it. Asked only of rails
    /// whose payments can be [reversed](crate::rail::RailProfile::reversible_for).
    async fn charge_back(&self, _hold: HoldId, _stage: ChargebackStage) -> Result<(), Unplayable> {
        Err(Unplayable("this harness knows no chargebacks".into()))
    }
}

/// The parties to a contract.
#[derive(Clone, Debug)]
pub struct Parties {
    /// The contract, new with each call.
    pub contract: Uuid,
    /// Who pays.
    pub buyer: AgentId,
    /// Who works.
    pub worker: AgentId,
    /// Where the worker is paid out to, when the rail does not know it by itself.
    pub destination: Option<String>,
}

/// What is to go wrong with the next `execute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request never leaves, and the rail can know it.
    NotSent,
    /// The world has no time and does nothing.
    Busy,
    /// The request is lost on its way.
    LostBefore,
    /// The request takes effect, its answer is lost.
    LostAfter,
    /// The world declines.
    Declined,
    /// It takes a while, then takes effect.
    PendingThenDone,
    /// It takes a while, then is declined.
    PendingThenDeclined,
    /// A party has to act first.
    NeedsAction,
    /// The world moves, or says it moved, another amount.
    OtherAmount,
    /// The world moves, or says it moved, another currency.
    OtherCurrency,
    /// The world answers about another instruction.
    OtherInstruction,
    /// The world divides, or says it divided, into other legs.
    OtherLegs,
}

/// Something that this harness cannot arrange, and why. The case counts as not applicable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplayable(pub String);

/// What the kit found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every case, in the order run.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What was tried: `settle: the same instruction twice`.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The contract was kept, in so many comparisons.
    Ran {
        /// How many; never none.
        checks: u32,
    },
    /// The case does not apply to this rail or harness.
    NotApplicable {
        /// Why not.
        reason: String,
    },
    /// The contract was broken.
    Broke {
        /// What was found.
        what: String,
    },
}

impl Report {
    /// How many cases ran and kept the contract.
    pub fn ran(&self) -> usize {
        self.cases.iter().filter(|case| matches!(case.verdict, Verdict::Ran { .. })).count()
    }

    /// How many comparisons were made.
    pub fn checks(&self) -> u32 {
        self.cases.iter().map(|case| if let Verdict::Ran { checks } = case.verdict { checks } else { 0 }).sum()
    }

    /// The cases that did not apply.
    pub fn not_applicable(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(|case| matches!(case.verdict, Verdict::NotApplicable { .. }))
    }

    /// The cases in which the contract was broken.
    pub fn broken(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(|case| matches!(case.verdict, Verdict::Broke { .. }))
    }

    /// Fails the test unless the contract was kept.
    ///
    /// # Panics
    /// When a case broke it, with the whole report.
    #[track_caller]
    pub fn assert_kept(&self) {
        assert_eq!(self.broken().count(), 0, "the rail breaks its contract:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Case { name, verdict } in &self.cases {
            match verdict {
                Verdict::Ran { checks } => writeln!(f, "kept   {name} ({checks} checks)")?,
                Verdict::NotApplicable { reason } => writeln!(f, "n/a    {name}: {reason}")?,
                Verdict::Broke { what } => writeln!(f, "BROKE  {name}: {what}")?,
            }
        }
        write!(f, "{} of {} cases ran, {} checks", self.ran(), self.cases.len(), self.checks())
    }
}

/// Runs every case that the rail's profile allows.
pub async fn run(harness: &dyn Harness) -> Report {
    let mut kit = Kit::new(harness).await;
    let mut cases = Vec::new();
    orders::run(&mut kit, &mut cases).await;
    story::run(&mut kit, &mut cases).await;
    Report { cases }
}

/// Whether a custody knows an order at all, in the words of a report.
fn custody_word(custody: Custody) -> &'static str {
    match custody {
        Custody::Internal => "internal",
        Custody::Pooled => "pooled",
        Custody::PerHold => "per-hold",
        Custody::NonCustodial => "non-custodial",
    }
}
