//! The path of a command: load, decide, commit, and again when somebody else was faster.

use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Marketplace,
    transact::{Attempt, answered, is_repaid},
};
use crate::{
    actor::Actor,
    error::{Error, Rejection},
    hold::Recall,
    ids::JobId,
    job::{Job, JobCommand},
    ledger::{Account, LedgerError},
    policy::Range,
    store::{CommitError, Document, Journal, Key, KeyUse, Kind, Record, Stored, Write},
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

    /// Whether somebody waits for what the rails say. For timers nobody does: one rail that hangs would keep
    /// them all waiting.
    pub(super) const fn tries_at_once(&self) -> bool {
        self.within.is_none() && !matches!(self.actor, Actor::Timer)
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
        // Inside the embedder's transaction only that says how things stand.
        let mut remembered = id.filter(|_| call.within.is_none()).and_then(|id| self.inner.recent.get(id));
        for _ in 0..ATTEMPTS {
            let on = Attempt::new(self, call);
            let subject = match (&mut command, id) {
                (JobCommand::Post { id, .. } | JobCommand::Hire { id, .. }, _) => {
                    *id = JobId(on.fresh());
                    *id
                }
                (_, id) => id.unwrap_or(JobId(Uuid::nil())),
            };
            let from_memory = remembered.take();
            let may_be_stale = from_memory.is_some();
            let before = match (id, from_memory) {
                (Some(id), None) => Some(on.load::<Job>("job", id.0).await?),
                (_, from_memory) => from_memory,
            };
            let before = before.as_ref().map(|(job, version)| (&**job, *version));
            let version = before.map_or(0, |(_, version)| version);
            let mut commit = on.commit(Key { kind: Kind::Job, id: subject.0 }, version);
            let job = match on.command_job(&mut commit, before, &command).await {
                Ok(job) => job,
                Err(_) if may_be_stale => continue,
                Err(Error::Rejected(rejection)) => {
                    return self.answered_before(on.journal, key, rejection, call.actor).await.and_then(answered);
                }
                Err(error) => return Err(error),
            };
            commit.writes.extend(observed.clone());
            commit.key = key.clone().map(|(key, fingerprint)| KeyUse { key, fingerprint, answer: job.clone().into() });
            match self.write(call, commit).await {
                Ok(claimed) if claimed.is_empty() => return Ok(job),
                Ok(claimed) => {
                    self.try_at_once(claimed).await;
                    return Ok(self.job(job.id).await.unwrap_or(job));
                }
                // Whether the same was taken in under this name is for whoever reads the rail to see.
                Err(CommitError::Conflict(Key { kind: Kind::Observation, id })) => {
                    return Err(Rejection::ReferenceReused { reference: id.to_string() }.into());
                }
                Err(CommitError::Conflict(_)) => {}
                // The amount and the payer are the remembered job's, too.
                Err(CommitError::Ledger(_)) if may_be_stale => {}
                Err(CommitError::Ledger(error)) if is_repaid(&error) => {}
                // A wallet was spent from since the decision looked at it.
                Err(CommitError::Ledger(LedgerError::Overdraft { .. })) if command.recall() != Recall::Never => {}
                Err(error) => return refused(error, call.actor).and_then(answered),
            }
        }
        Err(Error::Contention { command: command.name(), attempts: ATTEMPTS })
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

/// The instruction that a commit wrote and claimed for its own caller.
pub(super) fn claimed_now(write: &Write) -> Option<Stored> {
    write.claimed_until?;
    Some(Stored { record: write.record.clone(), version: write.expected + 1, claims: 1 })
}

/// What is kept beside the job: the task as posted, each delivery as handed in.
pub(super) fn documents(job: &Job, command: &JobCommand) -> Result<Option<Document>, Error> {
    let (name, body) = match command {
        JobCommand::Post { order, .. } => ("task".into(), json(order)?),
        JobCommand::Hire { hire, .. } => ("task".into(), json(&hire.order())?),
        JobCommand::Deliver { delivery } => (format!("delivery/{}", job.revisions + 1), json(delivery)?),
        _ => return Ok(None),
    };
    Ok(Some(Document { subject: job.id.0, name, body }))
}

pub(super) fn json(value: &impl Serialize) -> Result<String, Error> {
    let unwritable = |e| Error::Configuration { reason: format!("a command has no JSON form: {e}") };
    serde_json::to_string(value).map_err(unwritable)
}

/// What a commit that was not written means to the caller.
pub(super) fn refused(error: CommitError, actor: &Actor) -> Result<Record, Error> {
    match error {
        CommitError::Replayed(answer) => Ok(answer),
        CommitError::KeyReused(key) => Err(Rejection::KeyReused { key }.into()),
        CommitError::Ledger(LedgerError::Overdraft { account: Account::Available(payer), needed, .. })
            if actor.agent() != Some(payer) && !matches!(actor, Actor::Operator(_)) =>
        {
            Err(Rejection::BuyerCannotPay { needed }.into())
        }
        CommitError::Ledger(error) => Err(Rejection::from(error).into()),
        CommitError::Store(error) => Err(error.into()),
        CommitError::Conflict(_) => unreachable!("a conflict is decided anew"),
    }
}
