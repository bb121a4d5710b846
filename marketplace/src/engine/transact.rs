//! Load, decide, commit, and again when somebody else was faster: the path of every command to a concept.
//!
//! A concept's shell writes one [`Operation`]: what it loads, whose `decide` it asks, and the [`Commit`]
//! that follows. Everything that is the same for all commands is here: idempotency keys, conflicts, the
//! embedder's own transaction, and trying at once what the commit asks of rails.
//!
//! An operation that also changes a job has the job decide on a command of its own
//! ([`Attempt::command_job`]): both are written in one commit, or neither is.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Marketplace,
    command::{ATTEMPTS, Call, claimed_now, documents, refused},
    parties::{Beginning, Parties},
    wallets::touches_budget,
};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::{Error, Rejection},
    ids::{AgentId, JobId},
    job::{Context, Decision, Delivery, Job, JobCommand, JobOrder, JobStatus, Purse, Spendable, decide},
    ledger::{Account, LedgerError},
    schema,
    spending::Allowance,
    store::{Commit, CommitError, Journal, Kept, Key, KeyUse, OfKind as _, Record, Stored, Tagging, Write},
    validation::Check,
};

/// One command to a concept.
#[async_trait]
pub(super) trait Operation: Send {
    /// The command's name.
    fn name(&self) -> &'static str;

    /// Loads, decides, and says what is to be written: first the record that answers the command. It is
    /// called anew after a conflict and keeps nothing from one attempt to the next.
    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error>;

    /// Whether the ledger refuses because a balance is another than the one that was decided on.
    fn is_stale(&self, error: &LedgerError) -> bool {
        is_repaid(error)
    }
}

/// Whether more of a debt was to be repaid than is owed by now.
pub(super) const fn is_repaid(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Overdraft { account: Account::Debt(_), .. })
}

/// What was decided about a job, and the budget it was decided with.
pub(super) struct Decided {
    pub(super) decision: Decision,
    allowance: Option<(Allowance, u64)>,
}

impl From<Decision> for Decided {
    fn from(decision: Decision) -> Self {
        Self { decision, allowance: None }
    }
}

/// What one attempt works with.
pub(super) struct Attempt<'a> {
    pub(super) market: &'a Marketplace,
    /// The store, or the embedder's open transaction.
    pub(super) journal: &'a dyn Journal,
    pub(super) actor: &'a Actor,
    pub(super) now: Timestamp,
    /// Until when new instructions are kept for this caller; `None` where the workers take them.
    pub(super) claimed_until: Option<Timestamp>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(market: &'a Marketplace, call: Call<'a>) -> Self {
        let now = market.now();
        Self {
            market,
            journal: call.within.unwrap_or(&*market.inner.store),
            actor: call.actor,
            now,
            claimed_until: call.tries_at_once().then(|| now + market.inner.lease.delta()),
        }
    }

    /// A record and its version.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], naming what it is.
    pub(super) async fn load<T: Kept>(&self, what: &'static str, id: Uuid) -> Result<(Arc<T>, u64), Error> {
        let found = self.find(id).await?;
        found.ok_or_else(|| Rejection::NotFound { what, id: id.to_string() }.into())
    }

    /// A record and its version, if there is one.
    pub(super) async fn find<T: Kept>(&self, id: Uuid) -> Result<Option<(Arc<T>, u64)>, Error> {
        let stored = self.journal.load(self.market.inner.market, Key { kind: T::KIND, id }).await?;
        Ok(stored.and_then(|stored| T::of(stored.record).map(|state| (state, stored.version))))
    }

    /// A fresh id, for a record that this attempt makes.
    pub(super) fn fresh(&self) -> Uuid {
        self.market.inner.ids.next(self.now)
    }

    /// A commit about a record that now has version `expected`; 0 when it is new.
    pub(super) fn commit(&self, subject: Key, expected: u64) -> Commit {
        Commit::new(self.market.inner.market, self.now, subject, expected)
    }

    /// Has a job decide on a command, and adds what follows from it to the commit: the job as it will be,
    /// its events, what moves, its instructions.
    ///
    /// # Errors
    /// Whatever the job's rules refuse.
    pub(super) async fn command_job(
        &self,
        commit: &mut Commit,
        before: Option<(&Job, u64)>,
        command: &JobCommand,
    ) -> Result<Arc<Job>, Error> {
        self.command_job_as(self.actor, commit, before, command).await
    }

    /// The same in another's name: a rail's, whose report an operator establishes.
    pub(super) async fn command_job_as(
        &self,
        actor: &Actor,
        commit: &mut Commit,
        before: Option<(&Job, u64)>,
        command: &JobCommand,
    ) -> Result<Arc<Job>, Error> {
        let job = before.map(|(job, _)| job);
        let (version, policy) = match job {
            Some(job) => (job.policy, self.market.pinned(job.policy).await?),
            None => self.market.policy(),
        };
        self.market.authorize(actor, command.name(), job)?;
        let beginning = Beginning::of(job, command, actor, &policy);
        let parties = self.market.parties(self.journal, command.name(), beginning, &policy).await?;
        let rail = match (job, command) {
            (Some(job), _) => Some(job.rail),
            (None, JobCommand::Post { order, .. }) => order.rail,
            (None, JobCommand::Hire { hire, .. }) => hire.rail,
            (None, _) => None,
        };
        let rail = self.market.rail(rail)?.profile();
        let worker = parties.candidate();
        let poster = actor.agent().filter(|_| matches!(command, JobCommand::Post { .. } | JobCommand::Hire { .. }));
        let client = self.client(commit, poster, &policy).await?;
        let buyer = job.map_or(actor.agent(), |job| Some(job.buyer)).filter(|_| touches_budget(job, command));
        let spendable = match job.filter(|job| job.returns.may_take_back(command.recall())) {
            Some(job) => self.spendable(job.buyer, job.worker).await?,
            None => Spendable::default(),
        };
        let decided = self
            .with_purse(buyer, spendable, |purse| {
                let (now, policy) = (self.now, &*policy);
                decide(job, command, &Context { now, actor, policy, version, rail, worker, client, purse })
            })
            .await?;
        if let JobCommand::Deliver { delivery } = command
            && decided.decision.job.schematic
        {
            self.check_output(decided.decision.job.id, delivery).await?;
        }
        commit.documents.extend(documents(&decided.decision.job, command)?);
        let job = self.write_job(actor, commit, before, decided, &parties).await?;
        self.follow_dispute(commit, &job, command, actor).await?;
        Ok(job)
    }

    /// Has a job decide with what is known of its parties' money: what its buyer may spend, if the command
    /// may touch that, and what its worker owes, if it is paid.
    pub(super) async fn with_purse(
        &self,
        buyer: Option<AgentId>,
        spendable: Spendable,
        mut decide: impl FnMut(Purse<'_>) -> Result<Decision, Rejection> + Send,
    ) -> Result<Decided, Error> {
        let allowance = match buyer {
            Some(buyer) => self.allowance(buyer).await?,
            None => None,
        };
        let mut purse = Purse { owed: None, allowance: allowance.as_ref().map(|(allowance, _)| allowance), spendable };
        let mut decision = decide(purse)?;
        if let Some(worker) = decision.job.worker.filter(|_| decision.pays_the_worker()) {
            let owed = self.owed(worker).await?;
            if owed.is_positive() {
                purse.owed = Some(owed);
                decision = decide(purse)?;
            }
        }
        Ok(Decided { decision, allowance })
    }

    /// Holds a delivery against its order's output schema (JP-06).
    async fn check_output(&self, job: JobId, delivery: &Delivery) -> Result<(), Error> {
        let order: JobOrder = self.market.order(self.journal, job).await?;
        match order.schemas.and_then(|schemas| schemas.output) {
            Some(output) => Ok(schema::conforms("output", &output, &delivery.output.clone().into())?),
            None => Ok(()),
        }
    }

    /// Adds what was decided about a job to the commit, if nothing changes meanwhile about the `parties`
    /// between whom it begins.
    pub(super) async fn write_job(
        &self,
        actor: &Actor,
        commit: &mut Commit,
        before: Option<(&Job, u64)>,
        decided: impl Into<Decided>,
        parties: &Parties<'_>,
    ) -> Result<Arc<Job>, Error> {
        let Decided { decision, allowance } = decided.into();
        let (job, version) = (Arc::new(decision.job), before.map_or(0, |(_, version)| version));
        let tags = job.tags();
        if tags != before.map(|(job, _)| job.tags()).unwrap_or_default() {
            commit.tags.push(Tagging { subject: job.key(), tags });
            self.list_job(commit, job.key(), &job).await?;
        }
        commit.write(job.clone(), version, actor, decision.events);
        match (decision.budget, &allowance) {
            (Some(budget), Some((_, version))) => commit.write_silently(budget, *version),
            // It was without a limit: that must still be so, or what is spent here escapes the count of whoever sets
            // one meanwhile (VP-08). A database cannot lock what is not there.
            (None, Some((allowance, 0))) => commit.write_silently(allowance.budget.clone(), 0),
            (None, Some((allowance, version))) => commit.guards.push((allowance.budget.key(), *version)),
            _ => {}
        }
        for (instruction, run_at) in decision.instructions {
            let claimed_until = self.claimed_until.filter(|_| run_at <= self.now);
            commit.instruct(job.key(), job.rail, instruction, run_at, claimed_until);
        }
        let delivered = before.is_some_and(|(before, _)| before.status.may_be_delivered());
        if delivered && job.status == JobStatus::Validating {
            commit.write_silently(Check::due(job.id, job.revisions + 1, self.now), 0);
        }
        commit.movement.append(decision.movement).map_err(Rejection::from)?;
        parties.guard(commit);
        Ok(job)
    }
}

impl Marketplace {
    /// Carries out an operation; the record that answers it. `command` is what an idempotency key is
    /// compared by.
    pub(super) async fn transact<T: Kept>(
        &self,
        call: Call<'_>,
        command: &(impl Serialize + Sync),
        operation: &mut dyn Operation,
    ) -> Result<Arc<T>, Error> {
        let key = self.key_use(command, call)?;
        for _ in 0..ATTEMPTS {
            let on = Attempt::new(self, call);
            let mut commit = match operation.attempt(&on).await {
                Ok(commit) => commit,
                Err(Error::Rejected(rejection)) => {
                    return answered(self.answered_before(on.journal, key, rejection, call.actor).await?);
                }
                Err(error) => return Err(error),
            };
            let answer = commit.writes[0].record.clone();
            commit.key = key.clone().map(|(key, fingerprint)| KeyUse { key, fingerprint, answer: answer.clone() });
            match self.write(call, commit).await {
                Ok(claimed) if claimed.is_empty() => return answered(answer),
                Ok(claimed) => {
                    self.try_at_once(claimed).await;
                    let now = on.find::<T>(answer.key().id).await.ok().flatten();
                    return now.map_or_else(|| answered(answer), |(state, _)| Ok(state));
                }
                Err(CommitError::Conflict(_)) => {}
                Err(CommitError::Ledger(error)) if operation.is_stale(&error) => {}
                Err(error) => return answered(refused(error, call.actor)?),
            }
        }
        Err(Error::Contention { command: operation.name(), attempts: ATTEMPTS })
    }

    /// Writes a commit; the instructions in it that are claimed for the caller.
    pub(super) async fn write(&self, call: Call<'_>, commit: Commit) -> Result<Vec<Stored>, CommitError> {
        if let Some(journal) = call.within {
            journal.commit(commit).await?;
            self.inner.committed.notify_waiters();
            return Ok(Vec::new());
        }
        let claimed = commit.writes.iter().filter_map(claimed_now).collect();
        let job = |write: &Write| Some((Job::of(write.record.clone())?, write.expected + 1));
        let jobs: Vec<(Arc<Job>, u64)> = commit.writes.iter().filter_map(job).collect();
        self.inner.store.commit(commit).await?;
        for (job, version) in jobs {
            self.inner.recent.put(job, version);
        }
        self.inner.committed.notify_waiters();
        Ok(claimed)
    }

    /// Tries at once what a commit asked of rails, so that the caller usually sees the final state.
    /// Whatever fails here is found again by the workers; it is not the command's failure.
    pub(super) async fn try_at_once(&self, claimed: Vec<Stored>) {
        for stored in claimed {
            let instruction = stored.record.key().id;
            if let Err(error) = self.work_on(stored).await {
                tracing::warn!(%instruction, %error, "an instruction is left to the workers");
            }
        }
    }
}

pub(super) fn answered<T: Kept>(answer: Record) -> Result<Arc<T>, Error> {
    Ok(T::of(answer).expect("commands that answer with another kind of record have different digests"))
}
