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
//! | pending  |      | `lookup`, and `execute` while it is still pending: a rail that was interrupted half-way goes on |
//! | needs action |  | `lookup`; once the party has answered, `execute`, at first without looking |
//!
//! A payment for a job that was called off meanwhile is not begun any more.
//!
//! So nothing is sent twice blindly, and a lost answer is looked up, never guessed.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Marketplace,
    command::Call,
    intervene::Word,
    transact::{Attempt, is_repaid},
};
use crate::{
    actor::Actor,
    agreement::{Agreement, AgreementCommand},
    clock::Timestamp,
    error::{Error, Rejection},
    ids::{AgreementId, InstructionId, JobId},
    job::{Job, JobCommand},
    ledger::{Account, LedgerError},
    policy::Span,
    rail::{Decline, Order, Outcome, RailError, RailErrorKind, SettlementRail},
    store::{
        Commit, CommitError, InstructionEvent, InstructionRecord, InstructionState, Journal, Kept as _, Key, Kind,
        Record, Stored,
    },
    wallet::WalletCommand,
};

/// How often an outcome is decided anew because others were faster, before the next claim tries again.
const ATTEMPTS: u32 = 32;
/// How long the first wait is after the rail was asked in vain.
const WAIT_FIRST: Span = Span::seconds(2);
/// How long at most.
const WAIT_MOST: Span = Span::hours(1);
/// How long an instruction waits that the rail refuses as the engine is configured.
const WAIT_REFUSED: Span = Span::seconds(300);

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
        let answered = record.instruction.answer.is_some();
        let unasked = claims <= 1 && record.failures == 0;
        match &record.state {
            InstructionState::Queued if claims <= 1 => return self.begin(&**rail, record).await,
            InstructionState::NeedsAction(_) if answered && unasked => return Ok(execute(&**rail, record).await),
            _ => {}
        }
        let begun = matches!(record.state, InstructionState::Pending { .. } | InstructionState::NeedsAction(_));
        Ok(match rail.lookup(&record.instruction).await {
            Ok(Some(Outcome::Pending { .. })) if begun => execute(&**rail, record).await,
            Ok(Some(Outcome::NeedsAction(_))) if begun && answered => execute(&**rail, record).await,
            Ok(Some(outcome)) => Answer::Outcome(outcome),
            // It has answered before: whether that was forgotten or never true, sending again proves nothing.
            Ok(None) if begun => Answer::NotFound(RailError::new(
                RailErrorKind::Unknown,
                "the rail does not know the instruction any more; an operator resolves it",
            )),
            Ok(None) => self.begin(&**rail, record).await?,
            Err(error) => Answer::NotFound(error),
        })
    }

    /// Has the rail act on an instruction that has had no effect yet.
    async fn begin(&self, rail: &dyn SettlementRail, record: &InstructionRecord) -> Result<Answer, Error> {
        let Key { kind, id } = record.contract;
        let called_off = match (&record.instruction.order, kind) {
            (Order::Fund { .. }, Kind::Job) => self.job(JobId(id)).await?.status.is_final(),
            (Order::Fund { .. }, Kind::Agreement) => self.agreement(AgreementId(id)).await?.status.is_final(),
            _ => false,
        };
        if called_off {
            let (code, message) = ("called_off".into(), "the contract was called off before it was paid".into());
            return Ok(Answer::Outcome(Outcome::Declined(Decline { code, message })));
        }
        Ok(execute(rail, record).await)
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
            Answer::NotExecuted(error) => {
                let state = executing(&record.state, &error);
                return self.postpone(&record, version, state, &error, now).await;
            }
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
        let told = next.state == record.state || matches!(outcome, Outcome::Pending { .. });
        if told && !outcome.is_final() {
            return self.write_instruction(next, version, Vec::new(), now).await;
        }
        if let Outcome::Done(receipt) = &outcome
            && let Err(mismatch) = record.instruction.check(receipt)
        {
            return self.mismatch(&record, version, &outcome, mismatch.to_string(), now).await;
        }
        self.tell_contract(&record, version, next, outcome, None).await
    }

    /// Commits the instruction's new state together with what its contract makes of it, and with an
    /// operator's word if it was one who established the outcome.
    pub(super) async fn tell_contract(
        &self,
        record: &InstructionRecord,
        version: u64,
        next: InstructionRecord,
        outcome: Outcome,
        word: Option<Word<'_>>,
    ) -> Result<Vec<Stored>, Error> {
        let rail = Actor::Rail(record.rail);
        let call = word.as_ref().map_or(Call::by(&rail), |word| word.call);
        let said = || word.as_ref().map(|word| word.event.clone());
        for _ in 0..ATTEMPTS {
            let on = Attempt::new(self, call);
            let mut commit = match self.hear(&on, record, &outcome).await {
                Ok(commit) => commit,
                // Nothing moved, and the contract has gone on without it: there is nothing to book.
                Err(Error::Rejected(Rejection::WrongHold { .. })) if matches!(outcome, Outcome::Declined(_)) => {
                    on.commit(record.key(), version)
                }
                Err(Error::Rejected(rejection)) if word.is_some() => return Err(rejection.into()),
                Err(Error::Rejected(rejection)) => {
                    return self.mismatch(record, version, &outcome, rejection.to_string(), on.now).await;
                }
                Err(error) => return Err(error),
            };
            on.tell_of_kept(&mut commit, record, &outcome).await?;
            commit.write(next.clone(), version, call.actor, said());
            commit.key = word.as_ref().and_then(|word| word.key_use(&commit));
            match self.write(call, commit).await {
                Ok(follow) => return Ok(follow),
                Err(CommitError::Conflict(key)) if key != record.key() => {}
                Err(CommitError::Conflict(_)) if word.is_some() => {
                    return Err(Error::Contention { command: "resolve", attempts: 1 });
                }
                // Somebody else worked on it meanwhile. What the rail told us must not be lost for that.
                Err(CommitError::Conflict(_)) => {
                    self.contradiction(record.instruction.id, record.rail, &outcome).await?;
                    return Ok(Vec::new());
                }
                Err(CommitError::Ledger(error)) if is_repaid(&error) => {}
                // A wallet that money is taken back from was spent from since the decision looked at it.
                Err(CommitError::Ledger(LedgerError::Overdraft { account: Account::Available(_), .. })) => {}
                Err(CommitError::Ledger(error)) if word.is_some() => return Err(Rejection::from(error).into()),
                Err(CommitError::Ledger(error)) => {
                    return self.mismatch(record, version, &outcome, error.to_string(), on.now).await;
                }
                Err(error) => return fenced(error).map(|()| Vec::new()),
            }
        }
        Err(Error::Contention { command: "record_outcome", attempts: ATTEMPTS })
    }

    /// What an instruction's contract makes of its outcome: a commit about the contract.
    async fn hear(&self, on: &Attempt<'_>, record: &InstructionRecord, outcome: &Outcome) -> Result<Commit, Error> {
        let (rail, Key { kind, id }) = (Actor::Rail(record.rail), record.contract);
        match (kind, &record.instruction.order) {
            (Kind::Job, _) => {
                let (job, version) = on.load::<Job>("job", id).await?;
                let mut commit = on.commit(record.contract, version);
                let instruction = Box::new(record.instruction.clone());
                let command = JobCommand::RecordOutcome { instruction, outcome: Box::new(outcome.clone()) };
                on.command_job_as(&rail, &mut commit, Some((&*job, version)), &command).await?;
                Ok(commit)
            }
            (Kind::Agreement, _) => {
                let (agreement, version) = on.load::<Agreement>("agreement", id).await?;
                let mut commit = on.commit(record.contract, version);
                let instruction = Box::new(record.instruction.clone());
                let command = AgreementCommand::RecordOutcome { instruction, outcome: Box::new(outcome.clone()) };
                on.command_agreement_as(&rail, &mut commit, Some((&*agreement, version)), &command).await?;
                Ok(commit)
            }
            (Kind::Wallet, Order::Payout { agent, .. }) => {
                let instruction = Box::new(record.instruction.clone());
                let command = WalletCommand::RecordOutcome { instruction, outcome: Box::new(outcome.clone()) };
                on.command_wallet(&rail, *agent, &command).await
            }
            _ => Err(Rejection::NotFound { what: "contract", id: format!("{} {id}", kind.as_str()) }.into()),
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
            RailErrorKind::Busy(wait) => {
                Span::seconds(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)).min(WAIT_MOST)
            }
            RailErrorKind::Refused | RailErrorKind::Unsupported | RailErrorKind::Forged => WAIT_REFUSED,
            RailErrorKind::NotSent | RailErrorKind::Unknown => wait(record.failures),
        };
        let mut next = InstructionRecord {
            state,
            run_at: now + wait.delta(),
            failures: record.failures.saturating_add(1),
            problem: Some(error.to_string()),
            ..record.clone()
        };
        if error.kind() == RailErrorKind::Refused {
            next.instruction.answer = None; // it was no good; the party may give another
        }
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

    pub(super) fn instruction_commit(
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
        let mut commit = Commit::new(self.inner.market, now, next.key(), version);
        commit.write(next, version, &actor, events);
        commit.writes[0].claimed_until = claimed_until;
        commit
    }

    /// An instruction as it is now, and its version.
    pub(super) async fn instruction(&self, id: InstructionId) -> Result<(Arc<InstructionRecord>, u64), Error> {
        self.instruction_in(Call::by(&Actor::Timer), id).await
    }

    pub(super) async fn instruction_in(
        &self,
        call: Call<'_>,
        id: InstructionId,
    ) -> Result<(Arc<InstructionRecord>, u64), Error> {
        let journal: &dyn Journal = call.within.unwrap_or(&*self.inner.store);
        let stored = journal.load(self.inner.market, Key { kind: Kind::Instruction, id: id.0 }).await?;
        match stored {
            Some(Stored { record: Record::Instruction(record), version, .. }) => Ok((record, version)),
            _ => Err(Rejection::NotFound { what: "instruction", id: id.to_string() }.into()),
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
fn executing(state: &InstructionState, error: &RailError) -> InstructionState {
    match error.kind() {
        // What the rail has answered before still holds.
        _ if matches!(state, InstructionState::Pending { .. } | InstructionState::NeedsAction(_)) => state.clone(),
        RailErrorKind::Unknown => InstructionState::Unknown,
        RailErrorKind::NotSent
        | RailErrorKind::Busy(_)
        | RailErrorKind::Refused
        | RailErrorKind::Unsupported
        | RailErrorKind::Forged => InstructionState::Queued,
    }
}

/// The instruction after an answer.
pub(super) fn after(record: &InstructionRecord, outcome: &Outcome, now: Timestamp) -> InstructionRecord {
    let state = match outcome.clone() {
        Outcome::Done(receipt) => InstructionState::Done(receipt),
        Outcome::Declined(decline) => InstructionState::Declined(decline),
        Outcome::Pending { reference } => InstructionState::Pending { reference },
        Outcome::NeedsAction(action) => InstructionState::NeedsAction(action),
    };
    let failures = if state == record.state { record.failures.saturating_add(1) } else { 0 };
    let mut next =
        InstructionRecord { state, failures, run_at: now + wait(failures).delta(), problem: None, ..record.clone() };
    if matches!(next.state, InstructionState::NeedsAction(_)) && next.state != record.state {
        next.instruction.answer = None; // it answered what was asked before
    }
    next
}

/// The wait after the rail was asked `failures` times in vain: twice as long each time.
fn wait(failures: u32) -> Span {
    let seconds = WAIT_FIRST.as_seconds().saturating_mul(2u32.saturating_pow(failures));
    Span::seconds(seconds.min(WAIT_MOST.as_seconds()))
}

/// A claim that ran out is no failure: whoever holds the instruction now does the work.
pub(super) fn fenced(error: CommitError) -> Result<(), Error> {
    match error {
        CommitError::Conflict(_) => Ok(()),
        CommitError::Ledger(error) => Err(Rejection::from(error).into()),
        CommitError::Store(error) => Err(error.into()),
        CommitError::Replayed(_) | CommitError::KeyReused(_) => Ok(()),
    }
}
