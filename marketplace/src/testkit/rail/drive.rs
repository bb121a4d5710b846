//! Taking an instruction to its end as the engine would, and comparing what came of it.

use std::sync::Arc;

use uuid::Uuid;

use super::{Case, Harness, Parties, Unplayable, Verdict, custody_word};
use crate::{
    ids::{HoldId, InstructionId},
    money::{Money, Rate},
    rail::{
        Capability, Cursor, Custody, HoldTerms, Instruction, Landing, Leg, Observation, Order, Outcome, Party,
        RailErrorKind, RailProfile, Receipt, SettlementRail,
    },
};

/// How many steps an instruction may take to its end, and how often the world is given time before
/// something must be seen.
pub(super) const PATIENCE: u32 = 100;

/// Why a case stopped early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It does not apply.
    NotApplicable(String),
    /// The contract is broken.
    Broke(String),
}

impl From<Unplayable> for Stop {
    fn from(Unplayable(reason): Unplayable) -> Self {
        Self::NotApplicable(reason)
    }
}

/// The three orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fund,
    Settle,
    Payout,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Fund, Self::Settle, Self::Payout];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Fund => "fund",
            Self::Settle => "settle",
            Self::Payout => "payout",
        }
    }
}

/// Whether the process lives through an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    Lives,
    /// It is restarted between every two steps.
    Restarts,
}

/// What is asked of the rail next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Execute,
    Lookup,
}

/// The kit at work.
pub(super) struct Kit<'a> {
    pub(super) harness: &'a dyn Harness,
    pub(super) profile: RailProfile,
    checks: u32,
}

impl<'a> Kit<'a> {
    pub(super) async fn new(harness: &'a dyn Harness) -> Self {
        let profile = harness.rail().await.profile().clone();
        Self { harness, profile, checks: 0 }
    }

    /// Closes a case.
    pub(super) fn verdict(&mut self, name: impl Into<String>, end: Result<(), Stop>) -> Case {
        let checks = std::mem::take(&mut self.checks);
        let verdict = match end {
            Ok(()) if checks == 0 => Verdict::Broke { what: "the kit compared nothing".into() },
            Ok(()) => Verdict::Ran { checks },
            Err(Stop::NotApplicable(reason)) => Verdict::NotApplicable { reason },
            Err(Stop::Broke(what)) => Verdict::Broke { what },
        };
        Case { name: name.into(), verdict }
    }

    /// One comparison.
    pub(super) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) -> Result<(), Stop> {
        self.checks += 1;
        if holds { Ok(()) } else { Err(Stop::Broke(what())) }
    }

    /// An odd amount that the rail takes and that divides into three legs.
    pub(super) fn amount(&self) -> Money {
        self.money(10_007)
    }

    pub(super) fn money(&self, minor: i64) -> Money {
        let least = self.profile.amounts.min.max(3);
        Money::new(minor.min(self.profile.amounts.max).max(least), self.profile.currency)
    }

    /// Why the rail knows no such order, if it does not.
    pub(super) fn lacks(&self, kind: Kind) -> Option<String> {
        let custody = custody_word(self.profile.custody);
        match kind {
            Kind::Fund | Kind::Settle if !self.profile.custody.is_per_hold() => {
                Some(format!("{custody} custody has no {}", kind.word()))
            }
            Kind::Payout if !self.profile.can(Capability::Payout) => {
                Some(format!("this {custody} rail pays nobody out"))
            }
            _ => None,
        }
    }

    /// An instruction of a kind that the world can carry out.
    pub(super) async fn prepare(&mut self, kind: Kind) -> Result<Instruction, Stop> {
        let amount = self.amount();
        match kind {
            Kind::Fund => Ok(fund(&self.harness.contract().await, amount)),
            Kind::Payout => Ok(self.payout(amount).await),
            Kind::Settle => {
                let (parties, receipt) = self.funded(amount).await?;
                let fee = Money::new(amount.minor() / 3, amount.currency());
                let shares = match self.profile.can(Capability::Split) {
                    true => vec![amount.minor() - fee.minor(), fee.minor()],
                    false => vec![amount.minor()],
                };
                let to = [Party::Worker(parties.worker), Party::Platform];
                let legs = to.into_iter().zip(shares).map(|(to, minor)| Leg { to, amount: self.exactly(minor) });
                Ok(settle(&parties, &receipt, legs.collect()))
            }
        }
    }

    pub(super) async fn payout(&self, amount: Money) -> Instruction {
        let parties = self.harness.contract().await;
        self.harness.earn(parties.worker, amount).await;
        let Parties { contract, worker: agent, destination, .. } = parties;
        let order = Order::Payout { agent, destination, amount };
        Instruction { id: InstructionId::derive(contract, 0), contract, order, answer: None }
    }

    /// A contract whose hold is filled.
    pub(super) async fn funded(&mut self, amount: Money) -> Result<(Parties, Receipt), Stop> {
        let parties = self.harness.contract().await;
        let mut instruction = fund(&parties, amount);
        match self.drive(&mut instruction, Process::Lives, Step::Execute).await? {
            Outcome::Done(receipt) => Ok((parties, receipt)),
            other => Err(Stop::Broke(format!("a payer who can pay did not: {other:?}"))),
        }
    }

    pub(super) fn exactly(&self, minor: i64) -> Money {
        Money::new(minor, self.profile.currency)
    }

    /// Takes an instruction to its end as the engine does: what is unknown is looked up, what never
    /// happened is sent again, who is asked acts.
    pub(super) async fn drive(
        &mut self,
        instruction: &mut Instruction,
        process: Process,
        first: Step,
    ) -> Result<Outcome, Stop> {
        let mut rail = self.harness.rail().await;
        let (mut step, mut known) = (first, false);
        for _ in 0..PATIENCE {
            if process == Process::Restarts {
                rail = self.harness.rail().await;
            }
            let outcome = match step {
                Step::Execute => self.execute(&rail, instruction).await?,
                Step::Lookup => match rail.lookup(instruction).await {
                    Ok(None) if known => return Err(Stop::Broke("lookup forgot an outcome it had given".into())),
                    Ok(None) => {
                        step = Step::Execute;
                        continue;
                    }
                    Ok(found) => found,
                    Err(_) => None,
                },
            };
            known |= outcome.is_some();
            match outcome {
                Some(outcome) if outcome.is_final() => return Ok(outcome),
                Some(Outcome::NeedsAction(action)) => {
                    instruction.answer = Some(self.harness.act(&action).await);
                    step = Step::Execute;
                }
                _ => {
                    self.harness.advance().await;
                    step = Step::Lookup;
                }
            }
        }
        Err(Stop::Broke(format!("no outcome after {PATIENCE} steps")))
    }

    /// One `execute`. An error that claims that nothing happened must be right about it.
    pub(super) async fn execute(
        &mut self,
        rail: &Arc<dyn SettlementRail>,
        instruction: &Instruction,
    ) -> Result<Option<Outcome>, Stop> {
        let before = self.harness.times(instruction).await;
        let error = match rail.execute(instruction).await {
            Ok(outcome) => return Ok(Some(outcome)),
            Err(error) => error,
        };
        if error.kind() != RailErrorKind::Unknown {
            let after = self.harness.times(instruction).await;
            self.check(after == before, || format!("{:?}, but it took effect: {error}", error.kind()))?;
        }
        match error.kind() {
            RailErrorKind::Unsupported | RailErrorKind::Forged => Err(Stop::Broke(format!("refused: {error}"))),
            _ => Ok(None),
        }
    }

    /// Everything that holds of an instruction at its end.
    pub(super) async fn ended(&mut self, instruction: &Instruction, outcome: &Outcome) -> Result<(), Stop> {
        let times = self.harness.times(instruction).await;
        match outcome {
            Outcome::Done(receipt) => {
                self.check(times == 1, || format!("done, but it took effect {times} times"))?;
                let agrees = instruction.check(receipt);
                self.check(agrees.is_ok(), || format!("the receipt is another's: {agrees:?}"))?;
                self.landed(receipt)?;
            }
            Outcome::Declined(decline) => {
                self.check(times == 0, || format!("declined, but it took effect {times} times"))?;
                self.check(!decline.code.is_empty(), || "declined without a code".into())?;
            }
            other => return Err(Stop::Broke(format!("{other:?} is no end"))),
        }
        let rail = self.harness.rail().await;
        let found = rail.lookup(instruction).await.map_err(|e| Stop::Broke(format!("lookup: {e}")))?;
        self.check(found.as_ref() == Some(outcome), || format!("{outcome:?} was final, lookup says {found:?}"))?;
        let again = self.execute(&rail, instruction).await?;
        self.check(again.as_ref() == Some(outcome), || format!("{outcome:?} was final, execute says {again:?}"))?;
        let after = self.harness.times(instruction).await;
        self.check(after == times, || format!("asking again took effect: {after} times instead of {times}"))
    }

    fn landed(&mut self, receipt: &Receipt) -> Result<(), Stop> {
        for leg in &receipt.legs {
            let allowed = match (self.profile.custody, leg.to) {
                (Custody::NonCustodial, _) => leg.landing == Landing::Outside,
                (_, Party::Platform) => leg.landing == Landing::Held,
                _ => true,
            };
            self.check(allowed, || format!("{:?} of {:?} in this custody", leg.landing, leg.to))?;
        }
        Ok(())
    }

    /// What the rail says it holds, in minor units: in all, and for one hold if it tells holds apart.
    pub(super) async fn holds(&self, hold: Option<HoldId>) -> Result<(i64, Option<i64>), Stop> {
        let rail = self.harness.rail().await;
        let holdings = rail.holdings().await.map_err(|e| Stop::Broke(format!("holdings: {e}")))?;
        if holdings.total.currency() != self.profile.currency {
            return Err(Stop::Broke(format!("holdings in {}", holdings.total.currency())));
        }
        let one = holdings.holds.iter().find(|(id, _)| Some(*id) == hold).map(|(_, amount)| amount.minor());
        Ok((holdings.total.minor(), one))
    }

    /// Reads the world's story from a cursor to its end.
    pub(super) async fn walk(&mut self, from: &Cursor) -> Result<Vec<(Cursor, Vec<Observation>)>, Stop> {
        let (mut at, mut pages) = (from.clone(), Vec::new());
        for _ in 0..PATIENCE * 100 {
            let rail = self.harness.rail().await;
            let page = rail.observe(&at).await.map_err(|e| Stop::Broke(format!("observe after {:?}: {e}", at.0)))?;
            let ended = page.next == at;
            pages.push((at, page.items));
            if ended {
                return Ok(pages);
            }
            at = page.next;
        }
        Err(Stop::Broke("the story has no end".into()))
    }
}

pub(super) fn fund(parties: &Parties, amount: Money) -> Instruction {
    let terms = HoldTerms { payee: Some(parties.worker), fee_ceiling: Rate::ONE, ..HoldTerms::default() };
    let (hold, payer, terms) = (HoldId(parties.contract), parties.buyer, Box::new(terms));
    let order = Order::Fund { hold, payer, amount, terms };
    instruction(parties.contract, 0, order)
}

pub(super) fn settle(parties: &Parties, funding: &Receipt, legs: Vec<Leg>) -> Instruction {
    let order = Order::Settle { hold: HoldId(parties.contract), funding: funding.reference.clone(), legs };
    instruction(parties.contract, 1, order)
}

pub(super) fn instruction(contract: Uuid, number: u32, order: Order) -> Instruction {
    Instruction { id: InstructionId::derive(contract, number), contract, order, answer: None }
}
