//! Rails that break their contract, each in one way.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use tradepost::{
    ids::InstructionId,
    money::Money,
    rail::{
        Cursor, Decline, Holdings, Instruction, Landing, Observation, ObservationBody, Observations, Outcome, Push,
        RailError, RailErrorKind, RailProfile, Receipt, SettlementRail,
    },
    testkit::{OutsideWorld, ScriptedRail},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    TakesEffectWithEveryCall,
    RacesWithItself,
    WritesDownTooLate,
    ForgetsItsKeysInARestart,
    TakesAnyOrderUnderAKnownId,
    TakesEffectWhenLookedUp,
    ForgetsWhatItDid,
    KnowsWhatNeverWas,
    ClaimsThatNothingWasSent,
    ChangesItsMind,
    IsDoneTooEarly,
    RepeatsWhatWasAskedFor,
    InventsACent,
    ShufflesLegs,
    SendsTheFeeAway,
    TakesWhatItCannotDo,
    HoldsNothing,
    RenamesEvents,
    TellsDepositsTwice,
    SkipsEvents,
    ForgetsEvents,
    TrustsAnybody,
}

pub(super) struct Broken {
    rail: ScriptedRail,
    world: OutsideWorld,
    breach: Breach,
    seen: Mutex<HashSet<InstructionId>>,
    written: Written,
}

/// What a rail has written down; it survives a restart.
pub(super) type Written = Arc<Mutex<HashSet<InstructionId>>>;

impl Broken {
    pub(super) fn new(rail: ScriptedRail, world: OutsideWorld, breach: Breach, written: Written) -> Self {
        Self { rail, world, breach, seen: Mutex::default(), written }
    }

    fn is(&self, breach: Breach) -> bool {
        self.breach == breach
    }

    fn took_effect(&self, instruction: &Instruction) -> bool {
        self.world.effects(instruction.id).times > 0
    }

    fn is_written(&self, instruction: &Instruction) -> bool {
        self.written.lock().expect("no test panics with it").contains(&instruction.id)
    }

    fn spoil(&self, instruction: &Instruction, outcome: Outcome) -> Outcome {
        match (self.breach, outcome) {
            (Breach::IsDoneTooEarly, Outcome::Pending { reference }) => Outcome::Done(Receipt {
                instruction: instruction.id,
                reference,
                amount: instruction.order.amount(),
                legs: Vec::new(),
                cost: None,
                hold_expires_at: None,
            }),
            (Breach::RepeatsWhatWasAskedFor, Outcome::Done(mut receipt)) => {
                receipt.instruction = instruction.id;
                receipt.amount = instruction.order.amount();
                Outcome::Done(receipt)
            }
            (Breach::InventsACent, Outcome::Done(mut receipt)) => {
                receipt.amount = Money::new(receipt.amount.minor() + 1, receipt.amount.currency());
                Outcome::Done(receipt)
            }
            (Breach::ShufflesLegs, Outcome::Done(mut receipt)) => {
                receipt.legs.reverse();
                Outcome::Done(receipt)
            }
            (Breach::SendsTheFeeAway, Outcome::Done(mut receipt)) => {
                receipt.legs.iter_mut().for_each(|leg| leg.landing = Landing::Outside);
                Outcome::Done(receipt)
            }
            (_, outcome) => outcome,
        }
    }
}

#[async_trait]
impl SettlementRail for Broken {
    fn profile(&self) -> &RailProfile {
        self.rail.profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        let known = self.took_effect(instruction);
        if self.is(Breach::RacesWithItself) {
            tokio::task::yield_now().await;
            if !known && self.took_effect(instruction) {
                self.world.repeat(instruction.id);
            }
        }
        if self.is(Breach::WritesDownTooLate) && !self.is_written(instruction) {
            self.world.repeat(instruction.id);
            let answer = self.rail.execute(instruction).await;
            tokio::task::yield_now().await;
            self.written.lock().expect("no test panics with it").insert(instruction.id);
            return answer;
        }
        let first_here = self.seen.lock().expect("no test panics with it").insert(instruction.id);
        if known
            && (self.is(Breach::TakesEffectWithEveryCall) || first_here && self.is(Breach::ForgetsItsKeysInARestart))
        {
            self.world.repeat(instruction.id);
        }
        let pending = || Ok(Outcome::Pending { reference: "any".into() });
        match self.rail.execute(instruction).await {
            Ok(outcome) => Ok(self.spoil(instruction, outcome)),
            Err(e) if e.kind() == RailErrorKind::Unknown && self.is(Breach::ClaimsThatNothingWasSent) => {
                Err(RailError::new(RailErrorKind::NotSent, "surely not"))
            }
            Err(e) if e.kind() == RailErrorKind::Refused && self.is(Breach::TakesAnyOrderUnderAKnownId) => pending(),
            Err(e) if e.kind() == RailErrorKind::Unsupported && self.is(Breach::TakesWhatItCannotDo) => pending(),
            Err(e) => Err(e),
        }
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        if self.is(Breach::TakesEffectWhenLookedUp) {
            self.world.repeat(instruction.id);
        }
        let found = self.rail.lookup(instruction).await?;
        Ok(match (self.breach, found) {
            (Breach::ForgetsWhatItDid, _) => None,
            (Breach::WritesDownTooLate, _) if !self.is_written(instruction) => None,
            (Breach::KnowsWhatNeverWas, None) => Some(Outcome::Pending { reference: "any".into() }),
            (Breach::ChangesItsMind, Some(Outcome::Done(_))) => {
                Some(Outcome::Declined(Decline { code: "after_all".into(), message: "After all, no.".into() }))
            }
            (_, found) => found.map(|outcome| self.spoil(instruction, outcome)),
        })
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        let mut page = self.rail.observe(after).await?;
        match self.breach {
            Breach::RenamesEvents => {
                page.items.iter_mut().for_each(|item| item.id = format!("{}-{}", item.id, self.world.calls()));
            }
            Breach::TellsDepositsTwice => {
                let twins = page.items.iter().filter(|item| matches!(item.body, ObservationBody::Deposit { .. }));
                let twins: Vec<Observation> = twins
                    .map(|item| Observation { id: format!("{}-again", item.id), body: item.body.clone() })
                    .collect();
                page.items.extend(twins);
            }
            Breach::SkipsEvents => page.items.retain(|item| !matches!(item.body, ObservationBody::Deposit { .. })),
            Breach::ForgetsEvents if after.0.is_empty() && page.items.len() > 1 => drop(page.items.remove(0)),
            _ => {}
        }
        Ok(page)
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        match self.rail.receive(push) {
            Err(e) if e.kind() == RailErrorKind::Forged && self.is(Breach::TrustsAnybody) => Ok(Vec::new()),
            answer => answer,
        }
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        let mut holdings = self.rail.holdings().await?;
        if self.is(Breach::HoldsNothing) {
            holdings.total = Money::zero(holdings.total.currency());
        }
        Ok(holdings)
    }
}
