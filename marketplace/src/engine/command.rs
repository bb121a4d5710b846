//! The path of a command: load, decide, commit, and again when somebody else was faster.

use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Marketplace, as_job, into_job};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::{Error, Rejection},
    ids::JobId,
    job::{Context, Decision, Job, JobCommand, Spendable, decide},
    ledger::{Account, LedgerError},
    policy::{Policy, PolicyVersion, Range},
    store::{
        Commit, CommitError, Document, Event, EventBody, InstructionRecord, InstructionState, Journal, Key, KeyUse,
        Kind, Record, Stored, Write,
    },
    text,
};

/// How often a command is decided anew because others were faster, before it gives up.
pub(super) const ATTEMPTS: u32 = 32;
/// An idempotency key's length, in characters.
const KEY: Range<u32> = Range { min: 1, max: 200 };
/// An operator's name's length, in characters.
const OPERATOR: Range<u32> = Range { min: 1, max: 100 };

/// Who commands, under which key, in whose transaction.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) actor: &'a Actor,
    pub(super) key: Option<&'a str>,
    /// The embedder's own transaction. Rails are left alone until it has committed.
    pub(super) within: Option<&'a dyn Journal>,
}

impl<'a> Call<'a> {
    /// A call of the engine's own.
    pub(super) const fn by(actor: &'a Actor) -> Self {
        Self { actor, key: None, within: None }
    }
}

impl Marketplace {
    /// Carries out a command to a job: `None` posts one.
    pub(super) async fn command_job(
        &self,
        id: Option<JobId>,
        command: JobCommand,
        call: Call<'_>,
    ) -> Result<Arc<Job>, Error> {
        self.command_job_with(id, command, call, None).await
    }

    /// Carries out a command to a job, writing down in the same commit what the rail reported.
    pub(super) async fn command_job_with(
        &self,
        id: Option<JobId>,
        mut command: JobCommand,
        call: Call<'_>,
        observed: Option<Write>,
    ) -> Result<Arc<Job>, Error> {
        let key = self.key_use(&(id, &command), call)?;
        let journal: &dyn Journal = call.within.unwrap_or(&*self.inner.store);
        // Inside the embedder's transaction only that says how things stand.
        let mut remembered = id.filter(|_| call.within.is_none()).and_then(|id| self.inner.recent.get(id));
        for _ in 0..ATTEMPTS {
            let now = self.now();
            if let JobCommand::Post { id, .. } = &mut command {
                *id = JobId(self.inner.ids.next(now));
            }
            let from_memory = remembered.take();
            let may_be_stale = from_memory.is_some();
            let stored = match (id, from_memory) {
                (Some(_), Some(stored)) => Some(stored),
                (Some(id), None) => Some(self.load_job(journal, id).await?),
                (None, _) => None,
            };
            let before = stored.as_ref().and_then(as_job);
            let decided = match self.party_guards(journal, &command, call.actor).await {
                Ok(guards) => {
                    let decided = self.decide_job(before.map(|(job, _)| &**job), &command, call.actor, now).await;
                    decided.map(|decision| (decision, guards))
                }
                Err(error) => Err(error),
            };
            let (decision, guards) = match decided {
                Ok(decided) => decided,
                Err(_) if may_be_stale => continue,
                Err(Error::Rejected(rejection)) => {
                    return self.answered_before(journal, key, rejection, call.actor).await.and_then(answered_job);
                }
                Err(error) => return Err(error),
            };
            let version = before.map_or(0, |(_, version)| version);
            let claimed_until = call.within.is_none().then(|| now + self.inner.lease.delta());
            let mut commit = self.commit_of(decision, version, call.actor, now, claimed_until);
            commit.documents = documents(&commit, &command)?;
            commit.guards = guards;
            let job = match &commit.writes[0].record {
                Record::Job(job) => job.clone(),
                _ => unreachable!("a job's commit writes the job first"),
            };
            let claimed: Vec<Stored> = commit.writes[1..].iter().filter_map(claimed_now).collect();
            commit.writes.extend(observed.clone());
            commit.key =
                key.clone().map(|(key, fingerprint)| KeyUse { key, fingerprint, answer: Record::Job(job.clone()) });
            match journal.commit(commit).await {
                Ok(()) => {
                    if call.within.is_none() {
                        self.inner.recent.put(&Record::Job(job.clone()), version + 1);
                    }
                    self.inner.committed.notify_waiters();
                    return self.after_commit(job, claimed).await;
                }
                Err(CommitError::Conflict(Key { kind: Kind::Observation, .. })) => return Ok(job), // taken in before
                Err(CommitError::Conflict(_)) => {}
                // The amount and the payer are the remembered job's, too.
                Err(CommitError::Ledger(_)) if may_be_stale => {}
                // A wallet was spent from since the decision looked at it.
                Err(CommitError::Ledger(LedgerError::Overdraft { .. }))
                    if before.is_some_and(|(job, _)| takes_back(job, &command)) => {}
                Err(error) => return refused(error, call.actor).and_then(answered_job),
            }
        }
        Err(Error::Contention { command: command.name(), attempts: ATTEMPTS })
    }

    /// Tries at once what the commit asked of rails, so that the caller usually sees the final state.
    /// Whatever fails here is found again by the workers; it is not the command's failure.
    async fn after_commit(&self, job: Arc<Job>, claimed: Vec<Stored>) -> Result<Arc<Job>, Error> {
        if claimed.is_empty() {
            return Ok(job);
        }
        for stored in claimed {
            if let Err(error) = self.work_on(stored).await {
                tracing::warn!(job = %job.id, %error, "an instruction is left to the workers");
            }
        }
        Ok(self.job(job.id).await.unwrap_or(job))
    }

    /// A command that a rule refuses may still be the repetition of one that was carried out.
    pub(super) async fn answered_before(
        &self,
        journal: &dyn Journal,
        key: Option<(String, [u8; 32])>,
        rejection: Rejection,
        actor: &Actor,
    ) -> Result<Record, Error> {
        let Some((key, fingerprint)) = key else { return Err(rejection.into()) };
        match journal.key(self.inner.market, &key).await? {
            None => Err(rejection.into()),
            Some(before) if before.fingerprint == fingerprint => refused(CommitError::Replayed(before.answer), actor),
            Some(_) => refused(CommitError::KeyReused(key), actor),
        }
    }

    pub(super) async fn load_job(&self, journal: &dyn Journal, id: JobId) -> Result<Stored, Error> {
        let stored = journal.load(self.inner.market, Key { kind: Kind::Job, id: id.0 }).await?;
        stored.ok_or_else(|| Rejection::NotFound { what: "job", id: id.to_string() }.into())
    }

    /// Gathers what the decision may look at, and decides.
    pub(super) async fn decide_job(
        &self,
        job: Option<&Job>,
        command: &JobCommand,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Decision, Error> {
        self.authorize(actor, command.name(), job)?;
        let (version, policy): (PolicyVersion, Arc<Policy>) = match job {
            Some(job) => (job.policy, self.pinned(job.policy).await?),
            None => self.policy(),
        };
        let (rail, worker) = match (job, command) {
            (None, JobCommand::Post { order, .. }) => (order.rail, order.worker),
            (Some(job), JobCommand::Accept) => (Some(job.rail), job.worker.or(actor.agent())),
            (job, _) => (job.map(|job| job.rail), None),
        };
        let tier = match worker {
            Some(worker) => self.inner.tiers.tier(worker).await,
            None => Ok(None),
        };
        let tier = tier.map_err(|reason| Error::Part { part: "the tier source", reason })?;
        let worker_tier = tier.as_deref().unwrap_or(policy.initial_tier());
        let rail = self.rail(rail)?.profile();
        let spendable = match job.filter(|job| takes_back(job, command)) {
            Some(job) => self.spendable(job).await?,
            None => Spendable::default(),
        };
        let context = Context { now, actor, policy: &policy, version, rail, worker_tier, spendable };
        Ok(decide(job, command, &context)?)
    }

    /// What a job's agents may spend at this moment.
    async fn spendable(&self, job: &Job) -> Result<Spendable, Error> {
        let buyer = self.available(job.buyer).await?.minor();
        let worker = match job.worker {
            Some(worker) => self.available(worker).await?.minor(),
            None => buyer,
        };
        Ok(Spendable { buyer, worker })
    }

    /// A decision as a commit: the job first, then its new instructions.
    pub(super) fn commit_of(
        &self,
        decision: Decision,
        version: u64,
        actor: &Actor,
        now: Timestamp,
        claimed_until: Option<Timestamp>,
    ) -> Commit {
        let Decision { job, events, movement, instructions } = decision;
        let subject = Key { kind: Kind::Job, id: job.id.0 };
        let rail = job.rail;
        let mut writes = Vec::with_capacity(1 + instructions.len());
        writes.push(Write { record: Record::Job(Arc::new(job)), expected: version, claimed_until: None });
        for (instruction, run_at) in instructions {
            let record = InstructionRecord {
                instruction,
                contract: subject,
                rail,
                given_at: now,
                run_at,
                state: InstructionState::Queued,
                failures: 0,
                problem: None,
            };
            let claimed_until = claimed_until.filter(|_| run_at <= now);
            writes.push(Write { record: Record::Instruction(Arc::new(record)), expected: 0, claimed_until });
        }
        let event =
            |body| Event { subject, version: version + 1, at: now, actor: actor.clone(), body: EventBody::Job(body) };
        Commit {
            market: self.inner.market,
            at: now,
            contract: subject.id,
            version: version + 1,
            key: None,
            writes,
            events: events.into_iter().map(event).collect(),
            movement,
            documents: Vec::new(),
            guards: Vec::new(),
        }
    }

    /// The key to look for and the digest of what is commanded, checked.
    pub(super) fn key_use(&self, body: &impl Serialize, call: Call<'_>) -> Result<Option<(String, [u8; 32])>, Error> {
        if let Actor::Operator(name) = call.actor {
            text::line("operator", name, OPERATOR)?;
        }
        let Some(key) = call.key else { return Ok(None) };
        text::line("idempotency key", key, KEY)?;
        Ok(Some((format!("{}/{key}", call.actor), Sha256::digest(json(body)?).into())))
    }
}

/// Whether a decision may take money out of the agents' wallets that went there before.
pub(super) fn takes_back(job: &Job, command: &JobCommand) -> bool {
    match command {
        JobCommand::RecordChargeback { .. } | JobCommand::RefundPaid { .. } => true,
        JobCommand::RecordOutcome { .. } => !job.returns.chargebacks.is_empty(),
        _ => false,
    }
}

/// The instruction that a commit wrote and claimed for its own caller.
pub(super) fn claimed_now(write: &Write) -> Option<Stored> {
    write.claimed_until?;
    Some(Stored { record: write.record.clone(), version: write.expected + 1, claims: 1 })
}

/// What is kept beside the job: the task as posted, each delivery as handed in.
fn documents(commit: &Commit, command: &JobCommand) -> Result<Vec<Document>, Error> {
    let subject = commit.contract;
    let document = match command {
        JobCommand::Post { order, .. } => Document { subject, name: "task".into(), body: json(order)? },
        JobCommand::Deliver { delivery } => {
            let Some(job) = into_job(commit.writes[0].record.clone()) else { return Ok(Vec::new()) };
            Document { subject, name: format!("delivery/{}", job.revisions + 1), body: json(delivery)? }
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![document])
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    let unwritable = |e| Error::Configuration { reason: format!("a command has no JSON form: {e}") };
    serde_json::to_string(value).map_err(unwritable)
}

fn answered_job(answer: Record) -> Result<Arc<Job>, Error> {
    Ok(into_job(answer).expect("a job's command and another have different digests"))
}

/// What a commit that was not written means to the caller.
pub(super) fn refused(error: CommitError, actor: &Actor) -> Result<Record, Error> {
    match error {
        CommitError::Replayed(answer) => Ok(answer),
        CommitError::KeyReused(key) => Err(Rejection::KeyReused { key }.into()),
        CommitError::Ledger(LedgerError::Overdraft { account: Account::Available(payer), needed, .. })
            if actor.agent() != Some(payer) =>
        {
            Err(Rejection::BuyerCannotPay { needed }.into())
        }
        CommitError::Ledger(error) => Err(Rejection::from(error).into()),
        CommitError::Store(error) => Err(error.into()),
        CommitError::Conflict(_) => unreachable!("a conflict is decided anew"),
    }
}
