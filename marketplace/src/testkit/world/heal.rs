//! The end of a world: nothing fails any more, time moves on, and everything has to settle.

use chrono::TimeDelta;
use rand::Rng as _;

use super::{LEASE, World, audit::full, plan::Faults};
use crate::{
    actor::Actor,
    clock::{Clock, Timestamp},
    dispute::{Award, Dispute, DisputeStatus},
    engine::{Marketplace, Unsettled},
    error::{Error, Rejection},
    ids::InstructionId,
    job::{HoldState, JobStatus},
    policy::Scoring,
    rail::{Chargeback, Observation, ObservationBody, Party},
    store::InstructionState,
    testkit::{Chances, Disorder},
};

/// How often time may move on before everything is settled.
const PATIENCE: u32 = 2_000;

impl World {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) async fn heal(&mut self) -> Result<(), Error> {
        self.stage.act().faults = Faults::default();
        for outside in self.places.iter().filter_map(|place| place.outside.as_ref()) {
            outside.seeded(self.setup.seed, Chances::default());
            outside.disorder(Disorder::None);
        }
        self.stage.act().trace.line(format_args!("the world heals"));
        self.banks_decide();
        for process in 0..self.processes.len() {
            self.processes[process] = self.start_process().await?;
        }
        // Whatever a dead process has claimed is free again: webhooks and validators add their own time.
        let posting = self.policy.webhooks.as_ref().map_or(TimeDelta::zero(), |webhooks| webhooks.timeout.delta());
        let checking = self.policy.validation.map_or(TimeDelta::zero(), |validation| validation.within.delta());
        self.clock.advance(LEASE.delta() + posting.max(checking) + TimeDelta::seconds(1));
        for round in 0.. {
            self.let_go().await?;
            let process = round as usize % self.processes.len();
            self.stage.act().auditor.world_begins();
            let market = self.processes[process].clone();
            while !market.work().await?.is_idle() || market.deliver_due().await? + market.validate().await? > 0 {}
            if !self.sound() {
                return Ok(());
            }
            let due = self.stage.act().auditor.next_due();
            let Some((due, what)) = due else { break };
            if round == PATIENCE {
                self.stage
                    .act()
                    .auditor
                    .problem(format!("nothing settles: it is {}, {what:?} was due at {due}", self.now()));
                break;
            }
            self.clock.advance((due - self.now()).max(TimeDelta::milliseconds(1)));
        }
        let market = self.processes[0].clone();
        full::books(&self.stage, &market, true).await?;
        let id = self.store.open_market(&self.name()).await?;
        full::store(&self.stage, &self.store, id).await?;
        self.check_trust(&market).await?;
        let unsettled = market.unsettled().await?;
        let unsettled: Vec<Unsettled> = unsettled.into_iter().filter(|open| !self.explained(open)).collect();
        self.stage.act().auditor.check_settled(&unsettled);
        for place in &self.places {
            let books = market.reconcile(place.profile.id).await?;
            self.stage.act().auditor.check_place(place, &books);
        }
        self.check_jobs();
        Ok(())
    }

    /// Operators unfreeze, parties do what rails ask of them.
    async fn let_go(&mut self) -> Result<(), Error> {
        let (frozen, asked) = {
            let auditor = &self.stage.act().auditor;
            let frozen: Vec<_> = auditor
                .open
                .iter()
                .copied()
                .filter(|id| auditor.job(*id).is_some_and(|job| job.status == JobStatus::Frozen))
                .collect();
            let asked: Vec<(InstructionId, Actor)> = auditor
                .unfinished
                .iter()
                .filter_map(|id| {
                    let record = auditor.instruction(*id)?;
                    match &record.state {
                        InstructionState::NeedsAction(action) if record.instruction.answer.is_none() => {
                            Some((*id, party(action.who)))
                        }
                        _ => None,
                    }
                })
                .collect();
            (frozen, asked)
        };
        let market = &self.processes[0];
        for job in frozen {
            match market.operator("healer").unfreeze(job).await {
                Ok(_) | Err(Error::Rejected(Rejection::WrongHold { .. })) => {} // a bank decides about it
                Err(error) => return Err(error),
            }
        }
        self.rule().await?;
        let market = &self.processes[0];
        for (instruction, who) in asked {
            match market.by(who).answer(instruction, "confirmed").await {
                Ok(()) | Err(Error::Rejected(_) | Error::Contention { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// People rule on whatever waits for them.
    async fn rule(&mut self) -> Result<(), Error> {
        let waiting: Vec<_> = {
            let auditor = &self.stage.act().auditor;
            let waits = |dispute: &&Dispute| dispute.status == DisputeStatus::Review && dispute.frozen_since.is_none();
            auditor.disputes().filter(waits).map(|dispute| (dispute.id, dispute.handler.clone())).collect()
        };
        for (id, handler) in waiting {
            let award = if self.rng.random() { Award::Buyer } else { Award::Worker };
            let clerk = handler.unwrap_or_else(|| "healer".into());
            self.processes[0].operator(clerk).rule(id, award, "it has to end").await?;
        }
        Ok(())
    }

    /// Trust is what the log says, whenever it is read.
    async fn check_trust(&self, market: &Marketplace) -> Result<(), Error> {
        let (_, policy) = market.policy();
        let restricts = policy.disputes.as_ref().is_some_and(|disputes| disputes.abuse.is_some());
        if policy.trust.scoring == Scoring::Fixed && !restricts && policy.reports.is_none() {
            return Ok(()); // nobody keeps it here
        }
        for agent in self.plan.agents.iter().take(2) {
            let (kept, anew) = (market.reputation(*agent).await?, market.recompute_trust(*agent).await?);
            if kept.as_deref() != anew.as_ref() {
                self.stage.act().auditor.problem(format!("trust is kept as {kept:?}, the log says {anew:?}"));
            }
        }
        Ok(())
    }

    /// Whether the world itself caused what is left open.
    fn explained(&self, open: &Unsettled) -> bool {
        match open {
            Unsettled::Instruction(record) => matches!(record.state, InstructionState::Mismatch { .. }),
            Unsettled::Refused(observed) => self.expected(&observed.observation),
        }
    }

    /// Whether the world itself caused what no rule could take in.
    pub(super) fn expected(&self, observation: &Observation) -> bool {
        match &observation.body {
            // A hold ran out that a rail had lied about, so that the books never knew of it.
            ObservationBody::HoldExpired { hold }
            | ObservationBody::HoldSettled { hold, .. }
            | ObservationBody::Escrow { hold, .. }
            | ObservationBody::Chargeback(Chargeback { hold, .. }) => self.stage.act().auditor.ever_lied_to(hold.0),
            // The rail goes on lying after an operator has established the truth.
            ObservationBody::Outcome { instruction, .. } => self.memory.put_right.contains(instruction),
            ObservationBody::Deposit { .. } => self.memory.hostile_deposits.contains(&observation.id),
            ObservationBody::AccountReady { .. } => false,
        }
    }

    /// No job is left with money on the way, unless the rail lied about it.
    fn check_jobs(&mut self) {
        let mut act = self.stage.act();
        let metered: Vec<String> = act.auditor.left_metered();
        for agreement in metered {
            act.auditor.problem(format!("left on the way: {agreement}"));
        }
        let paying = act.auditor.paying();
        if !paying.is_empty() {
            act.auditor.problem(format!("left paying: {paying:?}"));
        }
        let open: Vec<_> = act.auditor.open.iter().copied().collect();
        for id in open {
            let Some(job) = act.auditor.job(id) else { continue };
            let under_way = matches!(job.hold.state, HoldState::Funding(_) | HoldState::Settling(_));
            let disputed = job.status == JobStatus::Disputed;
            let job = format!("{job:?}");
            if disputed {
                act.auditor.problem(format!("left disputed: {job}"));
            }
            if under_way && !act.auditor.lied_to(id) {
                act.auditor.problem(format!("left on the way: {job}"));
            }
        }
    }
}

/// The party as an actor.
pub(super) fn party(who: Party) -> Actor {
    match who {
        Party::Buyer(agent) | Party::Worker(agent) => Actor::Agent(agent),
        Party::Platform => Actor::Operator("the platform".into()),
    }
}
