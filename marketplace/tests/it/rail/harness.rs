//! The scripted rail under the conformance kit, as it is or with something around it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use chrono::TimeDelta;
use tradepost::{
    clock::{ManualClock, Timestamp},
    ids::{AgentId, HoldId, InstructionId},
    money::{Currency, Money},
    policy::Span,
    rail::{Action, Capability, Cursor, Custody, Instruction, Order, Push, RailProfile, SettlementRail},
    testkit::{
        Answer, Course, Ending, Lie, OutsideWorld, Script, ScriptedRail,
        rail::{Fault, Harness, Parties, Unplayable},
    },
};
use uuid::Uuid;

pub(super) type Wrap = Box<dyn Fn(ScriptedRail, &OutsideWorld) -> Arc<dyn SettlementRail> + Send + Sync>;

/// A scripted world, and how a rail to it is made.
pub(super) struct Scripted {
    pub profile: RailProfile,
    pub world: OutsideWorld,
    pub clock: Arc<ManualClock>,
    wrap: Wrap,
    ids: AtomicU64,
}

impl Scripted {
    pub(super) fn new(custody: Custody, currency: Currency) -> Self {
        let mut profile = ScriptedRail::profile_of(custody, currency);
        profile.hold_expiry = custody.is_per_hold().then(|| Span::hours(7 * 24));
        Self {
            profile,
            world: OutsideWorld::new(currency, 11),
            clock: Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)),
            wrap: Box::new(|rail, _| Arc::new(rail)),
            ids: AtomicU64::new(1),
        }
    }

    pub(super) fn wrapped<R: SettlementRail>(
        custody: Custody,
        wrap: impl Fn(ScriptedRail, &OutsideWorld) -> R + Send + Sync + 'static,
    ) -> Self {
        let wrap: Wrap = Box::new(move |rail, world| Arc::new(wrap(rail, world)));
        Self { wrap, ..Self::new(custody, Currency::EUR) }
    }

    pub(super) fn scripted_rail(&self) -> ScriptedRail {
        ScriptedRail::new(self.profile.clone(), self.world.clone(), self.clock.clone())
    }

    pub(super) fn id(&self) -> Uuid {
        Uuid::from_u64_pair(0x7000, self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn agent(&self) -> AgentId {
        AgentId(self.id())
    }

    /// An instruction to take `minor` units for a new hold.
    pub(super) fn fund(&self, minor: i64) -> Instruction {
        let contract = self.id();
        let amount = Money::new(minor, self.profile.currency);
        let order = Order::Fund { hold: HoldId(contract), payer: self.agent(), amount, terms: Box::default() };
        Instruction { id: InstructionId::derive(contract, 0), contract, order, answer: None }
    }
}

#[async_trait]
impl Harness for Scripted {
    async fn rail(&self) -> Arc<dyn SettlementRail> {
        (self.wrap)(self.scripted_rail(), &self.world)
    }

    async fn contract(&self) -> Parties {
        Parties { contract: self.id(), buyer: self.agent(), worker: self.agent(), destination: None }
    }

    async fn earn(&self, worker: AgentId, amount: Money) {
        self.world.deposit(worker, amount, "earned");
    }

    async fn arrange(&self, fault: Fault) -> Result<(), Unplayable> {
        let plain = Script { cost: 1, ..Script::default() };
        let answered = |answer| Script { answer, ..plain };
        let going = |course| Script { course, ..plain };
        let lying = |lie| Script { lie: Some(lie), ..plain };
        self.world.next(match fault {
            Fault::NotSent => answered(Answer::NotSent),
            Fault::Busy => answered(Answer::Busy(std::time::Duration::from_millis(1))),
            Fault::LostBefore => answered(Answer::LostBefore),
            Fault::LostAfter => answered(Answer::LostAfter),
            Fault::Declined => going(Course::Declined),
            Fault::PendingThenDone => going(Course::Pending(3, Ending::Done)),
            Fault::PendingThenDeclined => going(Course::Pending(3, Ending::Declined)),
            Fault::NeedsAction => going(Course::NeedsAction(Ending::Done)),
            Fault::OtherAmount => lying(Lie::Amount),
            Fault::OtherCurrency => lying(Lie::Currency),
            Fault::OtherInstruction => lying(Lie::Instruction),
            Fault::OtherLegs => lying(Lie::Legs),
        });
        Ok(())
    }

    async fn act(&self, action: &Action) -> String {
        format!("done {}", action.payload)
    }

    async fn advance(&self) {
        self.clock.advance(TimeDelta::seconds(1));
    }

    async fn times(&self, instruction: &Instruction) -> u32 {
        self.world.effects(instruction.id).times
    }

    async fn deposit(&self, amount: Money) -> Result<AgentId, Unplayable> {
        let agent = self.agent();
        self.world.deposit(agent, amount, "a wallet");
        Ok(agent)
    }

    async fn pushes(&self) -> Result<Vec<Push>, Unplayable> {
        if !self.profile.can(Capability::Push) {
            return Err(Unplayable("this world sends nothing".into()));
        }
        let (mut all, mut at) = (Vec::new(), Cursor::default());
        loop {
            let (pushes, next) = self.scripted_rail().pushes(&at).map_err(|e| Unplayable(e.to_string()))?;
            all.extend(pushes);
            if next == at {
                return Ok(all);
            }
            at = next;
        }
    }

    /// Waits for it: the hold's time is in the profile.
    async fn expire(&self, _hold: HoldId) -> Result<(), Unplayable> {
        let expiry = self.profile.hold_expiry.ok_or_else(|| Unplayable("holds live for ever".into()))?;
        self.clock.advance(expiry.delta());
        Ok(())
    }
}
