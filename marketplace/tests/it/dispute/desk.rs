//! One disputed job, decided without an engine.

use std::collections::BTreeMap;

use tradepost::{
    actor::Actor,
    dispute::{
        Answer, Award, Context, Dispute, DisputeCommand, DisputeEvent, DisputeStatus, EvidenceItem, Filing, Judgement,
        decide, follow,
    },
    error::Rejection,
    ids::{AgentId, DisputeId},
    job::JobCommand,
    policy::{EvidenceKind, Policy, Span},
    rail::Custody,
    trust::ClientReputation,
};
use uuid::Uuid;

use crate::support::*;

/// A job's desk with the dispute about the job.
#[derive(Clone)]
pub(super) struct Court {
    pub(super) desk: Desk,
    pub(super) dispute: Option<Dispute>,
    pub(super) events: Vec<DisputeEvent>,
    pub(super) documents: BTreeMap<String, String>,
    pub(super) arbiter: bool,
    pub(super) client: ClientReputation,
}

impl Court {
    /// A delivered job of `minor` units that anybody may dispute.
    pub(super) fn delivered(policy: Policy, custody: Custody, minor: i64) -> Self {
        let mut desk = Desk::new(policy, custody).funded(minor);
        if desk.status() != tradepost::job::JobStatus::Accepted {
            desk.must(by(worker()), JobCommand::Accept);
        }
        desk.must(by(worker()), deliver());
        let (events, documents) = (Vec::new(), BTreeMap::new());
        Self { desk, dispute: None, events, documents, arbiter: true, client: ClientReputation::default() }
    }

    /// The same, disputed by its buyer.
    pub(super) fn disputed(policy: Policy, custody: Custody, minor: i64) -> Self {
        let mut court = Self::delivered(policy, custody, minor);
        court.must(by(buyer()), open());
        court
    }

    pub(super) fn dispute(&self) -> &Dispute {
        self.dispute.as_ref().unwrap()
    }

    pub(super) fn status(&self) -> DisputeStatus {
        self.dispute().status
    }

    /// Decides and writes both, or writes nothing.
    pub(super) fn give(&mut self, actor: Actor, command: DisputeCommand) -> Result<Vec<DisputeEvent>, Rejection> {
        let (policy, arbiter, client) = (&self.desk.policy, self.arbiter, self.client);
        let context = Context { now: self.desk.now, actor: &actor, policy, arbiter, client };
        let decision = decide(self.desk.job(), self.dispute.as_ref(), &command, &context)?;
        let mut desk = self.desk.clone();
        if let Some(told) = decision.job {
            desk.give(actor, told)?;
        }
        desk.book(&decision.movement)?;
        self.desk = desk;
        for (name, body) in decision.documents {
            assert!(self.documents.insert(name.clone(), body).is_none(), "{name} is written once");
        }
        self.dispute = Some(decision.dispute);
        self.events.extend(decision.events.clone());
        Ok(decision.events)
    }

    pub(super) fn must(&mut self, actor: Actor, command: DisputeCommand) -> &mut Self {
        let name = command.name();
        if let Err(rejection) = self.give(actor, command) {
            panic!("{name}: {rejection}");
        }
        self
    }

    /// A command to the job itself, which the dispute follows.
    pub(super) fn must_job(&mut self, actor: Actor, command: JobCommand) -> &mut Self {
        self.desk.must(actor, command);
        if let Some((next, events)) = follow(self.dispute(), self.desk.job(), self.desk.now) {
            self.dispute = Some(next);
            self.events.extend(events);
        }
        self
    }

    pub(super) fn tick(&mut self) -> Result<Vec<DisputeEvent>, Rejection> {
        self.give(Actor::Timer, DisputeCommand::Tick)
    }

    /// Waits until the dispute's next moment and lets it come.
    pub(super) fn let_time_pass(&mut self) -> &mut Self {
        self.desk.now = self.dispute().deadline.unwrap();
        self.must(Actor::Timer, DisputeCommand::Tick)
    }

    /// The other party has answered, and the arbiter judges so.
    pub(super) fn judged(&mut self, award: Award, confidence: &str) -> &mut Self {
        self.must(by(worker()), answer());
        self.must(Actor::Timer, judgement(award, confidence))
    }

    pub(super) fn wait(&mut self, span: Span) -> &mut Self {
        self.desk.wait(span);
        self
    }

    pub(super) fn got(&self, agent: AgentId) -> i128 {
        self.desk.got(agent)
    }
}

pub(super) fn open() -> DisputeCommand {
    open_with(filing())
}

pub(super) fn open_with(filing: Filing) -> DisputeCommand {
    DisputeCommand::Open { id: DisputeId(Uuid::from_u128(8)), filing: Box::new(filing) }
}

pub(super) fn filing() -> Filing {
    Filing { category: None, reason: "half of it is missing".into(), evidence: Vec::new() }
}

/// What JustPayAI's form asks for (JP-13).
pub(super) fn quality() -> DisputeCommand {
    open_with(Filing { category: Some("quality".into()), ..filing() })
}

pub(super) fn item(kind: EvidenceKind, content: &str) -> EvidenceItem {
    EvidenceItem { kind, label: "the specification".into(), content: content.into() }
}

pub(super) fn answer() -> DisputeCommand {
    DisputeCommand::Answer { answer: "all of it is there".into(), evidence: Vec::new() }
}

pub(super) fn judgement(award: Award, confidence: &str) -> DisputeCommand {
    let reasoning = "as the specification says".into();
    let judged = Judgement { award, confidence: rate(confidence), reasoning };
    DisputeCommand::RecordAnswer { answer: Box::new(Answer::Judged(judged)) }
}

pub(super) fn answered(answer: Answer) -> DisputeCommand {
    DisputeCommand::RecordAnswer { answer: Box::new(answer) }
}

pub(super) fn split(to_worker: &str) -> Award {
    Award::Split { to_worker: rate(to_worker) }
}

pub(super) fn ruling(award: Award) -> DisputeCommand {
    DisputeCommand::Rule { award, reason: "as both have shown".into() }
}

pub(super) fn appeal() -> DisputeCommand {
    DisputeCommand::Appeal { reason: "a person should look at it".into() }
}

pub(super) fn bob() -> Actor {
    Actor::Operator("Bob".into())
}
