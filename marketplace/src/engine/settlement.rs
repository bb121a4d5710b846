//! Working on instructions.
//!
//! # Protocol
//!
//! An instruction is worked on only under a claim, which raises its version: that version is the
//! fence, and whoever was slower than its lease can no longer record anything. Under a claim the rail
//! is asked once, and the answer is recorded in one commit with everything that follows from it.
//!
//! What the rail is asked depends on what may have happened before:
//!
//! | state    | claimed before without a record | asked |
//! |----------|------|-------|
//! | queued   | no   | `execute` |
//! | queued   | yes: somebody may have died after sending | `lookup`, and `execute` if that proves nothing happened |
//! | unknown  |      | the same |
//! | pending, needs action |  | `lookup`; once the party has answered, `execute` |
//!
//! So nothing is sent twice blindly, and a lost answer is looked up, never guessed.

use std::{collections::VecDeque, sync::Arc};

use super::{Marketplace, as_job};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::{Error, Rejection},
    ids::{InstructionId, JobId},
    job::JobCommand,
    ledger::Movement,
    policy::{Range, Span},
    rail::{Outcome, Party, RailError, RailErrorKind, SettlementRail},
    store::{
        Commit, CommitError, Event, EventBody, InstructionEvent, InstructionRecord, InstructionState, Key, Kind,
        Record, Stored, Write,
    },
    text,
};

/// How long the first wait is after the rail was asked in vain.
const WAIT_FIRST: Span = Span::seconds(2);
/// How long at most.
const WAIT_MOST: Span = Span::hours(1);
/// How long an instruction waits that the rail refuses as the engine is configured.
const WAIT_REFUSED: Span = Span::seconds(300);
/// The longest answer of a party, in characters: room for a batch of signatures.
const ANSWER: Range<u32> = Range { min: 1, max: 65_536 };

/// What asking the rail came to.
pub(super) enum Answer {
    /// It answered.
    Outcome(Outcome),
    /// It was told to act and did not answer properly.
    NotExecuted(RailError),
    /// It was asked what happened and did not answer properly.
    NotFound(RailError),
}

impl Marketplace {
    /// Works on a claimed instruction, and on those that follow from it at once.
    pub(super) async fn work_on(&self, claimed: Stored) -> Result<(), Error> {
        let mut queue = VecDeque::from([claimed]);
        while let Some(claimed) = queue.pop_front() {
            let Record::Instruction(record) = claimed.record else { continue };
            let answer = self.ask(&record, claimed.claims).await?;
            queue.extend(self.record_answer(record, claimed.version, answer).await?);
        }
        Ok(())
    }

    async fn ask(&self, record: &InstructionRecord, claims: u32) -> Result<Answer, Error> {
        let rail = self.rail(Some(record.rail))?;
        let fresh = match &record.state {
            InstructionState::Queued => claims <= 1,
            InstructionState::NeedsAction(_) => record.instruction.answer.is_some(),
            _ => false,
        };
        if fresh {
            return Ok(execute(&**rail, record).await);
        }
        Ok(match rail.lookup(&record.instruction).await {
            Ok(Some(outcome)) => Answer::Outcome(outcome),
            Ok(None) => execute(&**rail, record).await,
            Err(error) => Answer::NotFound(error),
        })
    }

    /// Records an answer, and what follows from it for the contract. Gives back the instructions that
    /// follow, claimed for the caller.
    pub(super) async fn record_answer(
        &self,
        record: Arc<InstructionRecord>,
        version: u64,
        answer: Answer,
    ) -> Result<Vec<Stored>, Error> {
        let now = self.now();
        let outcome = match answer {
            Answer::Outcome(outcome) => outcome,
            Answer::NotExecuted(error) => return self.postpone(&record, version, executing(&error), &error, now).await,
            Answer::NotFound(error) => {
                // Queued and looked up means that somebody may have sent it: that must not be forgotten.
                let state = match &record.state {
                    InstructionState::Queued => InstructionState::Unknown,
                    state => state.clone(),
                };
                return self.postpone(&record, version, state, &error, now).await;
            }
        };
        let next = after(&record, &outcome, now);
        let heard = outcome.is_final() || next.state.as_str() != record.state.as_str();
        if !heard || matches!(outcome, Outcome::Pending { .. }) {
            return self.write_instruction(next, version, Vec::new(), now).await;
        }
        if let Outcome::Done(receipt) = &outcome
            && let Err(mismatch) = record.instruction.check(receipt)
        {
            return self.mismatch(&record, version, &outcome, mismatch.to_string(), now).await;
        }
        self.tell_contract(&record, version, next, outcome).await
    }

    /// Commits the instruction's new state together with what its contract makes of it.
    async fn tell_contract(
        &self,
        record: &InstructionRecord,
        version: u64,
        next: InstructionRecord,
        outcome: Outcome,
    ) -> Result<Vec<Stored>, Error> {
        let actor = Actor::Rail(record.rail);
        let instruction = Box::new(record.instruction.clone());
        let command = JobCommand::RecordOutcome { instruction, outcome: Box::new(outcome.clone()) };
        loop {
            let now = self.now();
            let stored = self.load_job(&*self.inner.store, JobId(record.contract.id)).await?;
            let before = as_job(&stored);
            let decision = match self.decide_job(before.map(|(job, _)| &**job), &command, &actor, now).await {
                Ok(decision) => decision,
                Err(Error::Rejected(rejection)) => {
                    return self.mismatch(record, version, &outcome, rejection.to_string(), now).await;
                }
                Err(error) => return Err(error),
            };
            let job_version = before.map_or(0, |(_, version)| version);
            let claimed_until = Some(now + self.inner.lease.delta());
            let mut commit = self.commit_of(decision, job_version, &actor, now, claimed_until);
            let claimed = commit.writes[1..].iter().filter(|write| write.claimed_until.is_some());
            let follow = claimed.map(|write| Stored { record: write.record.clone(), version: 1, claims: 1 }).collect();
            let record = Record::Instruction(Arc::new(next.clone()));
            commit.writes.push(Write { record, expected: version, claimed_until: None });
            match self.inner.store.commit(commit).await {
                Ok(()) => {
                    self.inner.committed.notify_waiters();
                    return Ok(follow);
                }
                Err(CommitError::Conflict(Key { kind: Kind::Job, .. })) => {}
                Err(error) => return fenced(error).map(|()| Vec::new()),
            }
        }
    }

    /// Keeps the rail's answer for an operator; nothing is booked.
    async fn mismatch(
        &self,
        record: &InstructionRecord,
        version: u64,
        outcome: &Outcome,
        reason: String,
        now: Timestamp,
    ) -> Result<Vec<Stored>, Error> {
        tracing::error!(instruction = %record.instruction.id, %reason, "a rail's answer is not what was asked for");
        let state = InstructionState::Mismatch { outcome: Box::new(outcome.clone()) };
        let next = InstructionRecord { state, problem: Some(reason.clone()), ..record.clone() };
        self.write_instruction(next, version, vec![InstructionEvent::Mismatch { reason }], now).await
    }

    /// Puts an instruction off after the rail was asked in vain.
    async fn postpone(
        &self,
        record: &InstructionRecord,
        version: u64,
        state: InstructionState,
        error: &RailError,
        now: Timestamp,
    ) -> Result<Vec<Stored>, Error> {
        let wait = match error.kind() {
            RailErrorKind::Busy(wait) => Span::seconds(wait.as_secs().try_into().unwrap_or(u32::MAX).saturating_add(1)),
            RailErrorKind::Refused | RailErrorKind::Unsupported | RailErrorKind::Forged => WAIT_REFUSED,
            RailErrorKind::NotSent | RailErrorKind::Unknown => wait(record.failures),
        };
        let next = InstructionRecord {
            state,
            run_at: now + wait.delta(),
            failures: record.failures.saturating_add(1),
            problem: Some(error.to_string()),
            ..record.clone()
        };
        self.write_instruction(next, version, Vec::new(), now).await
    }

    async fn write_instruction(
        &self,
        next: InstructionRecord,
        version: u64,
        events: Vec<InstructionEvent>,
        now: Timestamp,
    ) -> Result<Vec<Stored>, Error> {
        let commit = self.instruction_commit(next, version, events, &Actor::Timer, now, None);
        self.inner.store.commit(commit).await.or_else(fenced)?;
        Ok(Vec::new())
    }

    fn instruction_commit(
        &self,
        next: InstructionRecord,
        version: u64,
        events: Vec<InstructionEvent>,
        actor: &Actor,
        now: Timestamp,
        claimed_until: Option<Timestamp>,
    ) -> Commit {
        let actor = match actor {
            Actor::Timer => Actor::Rail(next.rail),
            actor => actor.clone(),
        };
        let record = Record::Instruction(Arc::new(next));
        let subject = record.key();
        let event = |body| Event {
            subject,
            version: version + 1,
            at: now,
            actor: actor.clone(),
            body: EventBody::Instruction(body),
        };
        Commit {
            market: self.inner.market,
            at: now,
            contract: subject.id,
            version: version + 1,
            key: None,
            events: events.into_iter().map(event).collect(),
            writes: vec![Write { record, expected: version, claimed_until }],
            movement: Movement::new(),
            documents: Vec::new(),
        }
    }

    /// An instruction as it is now, and its version.
    pub(super) async fn instruction(&self, id: InstructionId) -> Result<(Arc<InstructionRecord>, u64), Error> {
        let stored = self.inner.store.load(self.inner.market, Key { kind: Kind::Instruction, id: id.0 }).await?;
        match stored {
            Some(Stored { record: Record::Instruction(record), version, .. }) => Ok((record, version)),
            _ => Err(Rejection::NotFound { what: "instruction", id: id.to_string() }.into()),
        }
    }

    /// Takes in what the rail asked a party for, and goes on at once.
    pub(super) async fn answer_action(&self, actor: &Actor, id: InstructionId, answer: String) -> Result<(), Error> {
        const COMMAND: &str = "answer";
        text::prose(COMMAND, &answer, ANSWER)?;
        let (record, version) = self.instruction(id).await?;
        let InstructionState::NeedsAction(action) = &record.state else {
            return Err(Rejection::WrongInstruction { command: COMMAND, state: record.state.as_str() }.into());
        };
        let asked = match action.who {
            Party::Buyer(agent) | Party::Worker(agent) => actor.agent() == Some(agent),
            Party::Platform => matches!(actor, Actor::Operator(_)),
        };
        if !asked {
            let allowed = "the party that the rail asked";
            return Err(Rejection::WrongActor { command: COMMAND, allowed, actor: actor.clone() }.into());
        }
        let mut next = InstructionRecord { problem: None, failures: 0, ..(*record).clone() };
        next.instruction.answer = Some(answer);
        self.go_on(next, version, InstructionEvent::Answered {}, actor).await
    }

    /// Has the rail asked again about an instruction.
    pub(super) async fn look_again(&self, actor: &Actor, id: InstructionId, reason: String) -> Result<(), Error> {
        const COMMAND: &str = "look_again";
        text::prose("reason", &reason, text::REASON)?;
        if !matches!(actor, Actor::Operator(_)) {
            return Err(Rejection::WrongActor { command: COMMAND, allowed: "an operator", actor: actor.clone() }.into());
        }
        let (record, version) = self.instruction(id).await?;
        let state = match &record.state {
            InstructionState::Done(_) | InstructionState::Declined(_) => {
                return Err(Rejection::WrongInstruction { command: COMMAND, state: record.state.as_str() }.into());
            }
            InstructionState::Queued | InstructionState::Mismatch { .. } => InstructionState::Unknown,
            state => state.clone(),
        };
        let next = InstructionRecord { state, failures: 0, ..(*record).clone() };
        self.go_on(next, version, InstructionEvent::AskedAgain { reason }, actor).await
    }

    /// Writes an instruction, claimed, and works on it.
    async fn go_on(
        &self,
        next: InstructionRecord,
        version: u64,
        event: InstructionEvent,
        actor: &Actor,
    ) -> Result<(), Error> {
        let now = self.now();
        let next = InstructionRecord { run_at: now, ..next };
        let claimed_until = Some(now + self.inner.lease.delta());
        let commit = self.instruction_commit(next, version, vec![event], actor, now, claimed_until);
        let stored = Stored { record: commit.writes[0].record.clone(), version: version + 1, claims: 1 };
        match self.inner.store.commit(commit).await {
            Ok(()) => self.work_on(stored).await,
            Err(CommitError::Conflict(_)) => Err(Error::Contention { command: "instruction", attempts: 1 }),
            Err(error) => fenced(error),
        }
    }
}

async fn execute(rail: &dyn SettlementRail, record: &InstructionRecord) -> Answer {
    match rail.execute(&record.instruction).await {
        Ok(outcome) => Answer::Outcome(outcome),
        Err(error) => Answer::NotExecuted(error),
    }
}

/// What an instruction is after the rail was told to act and failed.
fn executing(error: &RailError) -> InstructionState {
    match error.kind() {
        RailErrorKind::Unknown => InstructionState::Unknown,
        RailErrorKind::NotSent
        | RailErrorKind::Busy(_)
        | RailErrorKind::Refused
        | RailErrorKind::Unsupported
        | RailErrorKind::Forged => InstructionState::Queued,
    }
}

/// The instruction after an answer.
fn after(record: &InstructionRecord, outcome: &Outcome, now: Timestamp) -> InstructionRecord {
    let state = match outcome.clone() {
        Outcome::Done(receipt) => InstructionState::Done(receipt),
        Outcome::Declined(decline) => InstructionState::Declined(decline),
        Outcome::Pending { reference } => InstructionState::Pending { reference },
        Outcome::NeedsAction(action) => InstructionState::NeedsAction(action),
    };
    let failures = if state == record.state { record.failures.saturating_add(1) } else { 0 };
    InstructionRecord { state, failures, run_at: now + wait(failures).delta(), problem: None, ..record.clone() }
}

/// The wait after the rail was asked `failures` times in vain: twice as long each time.
fn wait(failures: u32) -> Span {
    let seconds = WAIT_FIRST.as_seconds().saturating_mul(2u32.saturating_pow(failures));
    Span::seconds(seconds.min(WAIT_MOST.as_seconds()))
}

/// A claim that ran out is no failure: whoever holds the instruction now does the work.
fn fenced(error: CommitError) -> Result<(), Error> {
    match error {
        CommitError::Conflict(_) => Ok(()),
        CommitError::Ledger(error) => Err(Rejection::from(error).into()),
        CommitError::Store(error) => Err(error.into()),
        CommitError::Replayed(_) | CommitError::KeyReused(_) => Ok(()),
    }
}
