//! Asking validators about deliveries.
//!
//! A check is claimed for as long as its validators may take, so that nobody else asks them meanwhile; a
//! process that dies leaves a claim that runs out. Checks have a loop of their own: a slow validator
//! delays no timer and no payment.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future::join_all};

use super::{
    Marketplace,
    command::Call,
    transact::{Attempt, Operation},
};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::{Error, Rejection},
    ids::JobId,
    job::{Delivery, Job, JobCommand, JobStatus},
    policy::{Span, ValidationPolicy},
    store::{Claim, Commit, Kept as _, Key, Kind, OfKind as _, StoreError, StoreErrorKind},
    text,
    validation::{Answer, Check, Opinion, Report, Submission, Validator, Verdict, judge},
};

/// How many checks one round claims, and works on at once.
const BATCH: u32 = 16;
/// How often a check is begun before nobody can tell.
const BEGUN_AT_MOST: u32 = 3;
/// How long a check waits whose job is frozen or disputed.
const STANDING_STILL: Span = Span::seconds(60);
/// The longest name of a validator, and the longest reason of one that is unavailable, in characters.
const WORDS: usize = 500;

impl Marketplace {
    /// What validators found about a job's `number`-th delivery, counted from 1; `None` while nobody has
    /// asked them (VP-18).
    ///
    /// # Errors
    /// [`Rejection::NotFound`] where that delivery was not to be validated, or the store's failure.
    pub async fn validation(&self, job: JobId, number: u32) -> Result<Option<Report>, Error> {
        let key = Key { kind: Kind::Check, id: Check::id_of(job, number) };
        let stored = self.inner.store.load(self.inner.market, key).await?;
        let missing = || Rejection::NotFound { what: "check of delivery", id: format!("{job}: {number}") };
        let check = stored.and_then(|stored| Check::of(stored.record)).ok_or_else(missing)?;
        Ok(check.report.clone())
    }

    /// One round: asks the validators about what was delivered, and waits for them. How many deliveries
    /// there were. A marketplace without validators leaves them to
    /// [`Session::record_validation`](super::Session::record_validation).
    ///
    /// # Errors
    /// The store's failure.
    pub async fn validate(&self) -> Result<usize, Error> {
        if self.inner.validators.is_empty() {
            return Ok(0);
        }
        let now = self.now();
        let within = self.policy().1.validation.map_or(Span::SECOND, |validation| validation.within);
        let until = now + within.delta() + self.inner.lease.delta();
        let claim = Claim { kind: Kind::Check, now, until, limit: BATCH, except: Vec::new() };
        let claimed = self.inner.store.claim(self.inner.market, &claim).await?;
        let count = claimed.len();
        let work = claimed.into_iter().map(|stored| async move {
            let (id, claims) = (stored.record.key().id, stored.claims);
            let Some(check) = Check::of(stored.record) else { return };
            if let Err(error) = self.look_at(&check, stored.version, claims, within).await {
                tracing::error!(%id, job = %check.job, %error, "a delivery cannot be validated");
            }
        });
        futures::stream::iter(work).for_each_concurrent(BATCH as usize, |work| work).await;
        Ok(count)
    }

    async fn look_at(&self, check: &Check, version: u64, claims: u32, claimed: Span) -> Result<(), Error> {
        let job = self.job(check.job).await?;
        let policy = self.pinned(job.policy).await?;
        let awaited = job.status == JobStatus::Validating && job.revisions + 1 == check.number;
        let report = match policy.validation {
            Some(policy) if awaited && claims <= BEGUN_AT_MOST => {
                let work = self.submission(check).await?;
                self.ask_validators(&work, &policy, claimed.min(policy.within)).await
            }
            _ => Verdict::Unavailable.into(),
        };
        let timer = Call::by(&Actor::Timer);
        let mut recording = Recording { check, version, report };
        match self.transact::<Check>(timer, &"record_validation", &mut recording).await {
            Ok(_) => Ok(()),
            // Somebody else has it by now.
            Err(Error::Rejected(Rejection::TooLate { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn submission(&self, check: &Check) -> Result<Submission, Error> {
        let unreadable = |e| StoreError::new(StoreErrorKind::Corrupt, "a delivery cannot be read").caused_by(e);
        let order = self.order(&*self.inner.store, check.job).await?;
        let delivery = self.delivery(check.job, check.number).await?;
        let delivery: Delivery = serde_json::from_value(delivery).map_err(unreadable)?;
        Ok(Submission { job: check.job, number: check.number, order, delivery })
    }

    /// Asks as many validators as the policy says, all at once. Those that the platform lacks are
    /// unavailable.
    async fn ask_validators(&self, work: &Submission, policy: &ValidationPolicy, within: Span) -> Report {
        let asked = self.inner.validators.iter().take(policy.validators as usize);
        let answers = join_all(asked.map(|validator| ask(&**validator, work, within))).await;
        judge(answers, policy)
    }
}

/// Asks one validator within its time. Whatever happens in there comes back as words.
async fn ask(validator: &dyn Validator, work: &Submission, within: Span) -> Answer {
    let name = std::panic::catch_unwind(AssertUnwindSafe(|| validator.name().to_owned()));
    let validator_name = text::shown(&name.unwrap_or_default(), WORDS);
    let limit = Duration::from_secs(within.as_seconds().into());
    let answer = AssertUnwindSafe(async { validator.validate(work).await }).catch_unwind();
    let said = match tokio::time::timeout(limit, answer).await {
        Ok(Ok(Ok(opinion))) => Ok(Opinion { reasoning: text::shown(&opinion.reasoning, WORDS), ..opinion }),
        Ok(Ok(Err(reason))) => Err(text::shown(&reason, WORDS)),
        Ok(Err(_)) => Err("it panicked".into()),
        Err(_) => Err(format!("no answer within {within}")),
    };
    Answer { validator: validator_name, said }
}

/// Recording what a check found, with what its job makes of it.
struct Recording<'a> {
    check: &'a Check,
    /// The version that the claim made: whoever was slower than its claim records nothing.
    version: u64,
    report: Report,
}

#[async_trait]
impl Operation for Recording<'_> {
    fn name(&self) -> &'static str {
        "record_validation"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let (check, version) = on.load::<Check>("check", self.check.id).await?;
        if version != self.version {
            let (deadline, now): (Timestamp, Timestamp) = (self.check.run_at, on.now);
            return Err(Rejection::TooLate { command: self.name(), deadline, now }.into());
        }
        let (job, job_version) = on.load::<Job>("job", check.job.0).await?;
        let mut next = (*check).clone();
        let awaited = job.revisions + 1 == check.number;
        let mut commit = on.commit(check.key(), version);
        match job.status {
            // It may go on where it stood.
            JobStatus::Frozen | JobStatus::Disputed if awaited => next.run_at = on.now + STANDING_STILL.delta(),
            JobStatus::Validating if awaited => {
                next.report = Some(self.report.clone());
                commit = on.commit(job.key(), job_version);
                commit.write_silently(Arc::new(next), version);
                let command = JobCommand::RecordValidation { report: Box::new(self.report.clone()) };
                on.command_job(&mut commit, Some((&*job, job_version)), &command).await?;
                return Ok(commit);
            }
            // The buyer, time or an operator has decided meanwhile.
            _ => next.report = Some(self.report.clone()),
        }
        commit.write_silently(Arc::new(next), version);
        Ok(commit)
    }
}
