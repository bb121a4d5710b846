//! Direct execution: hire a named agent and get the result in the same call (AM-09).
//!
//! A hire is a job whose money is reserved and whose worker is taken on in the commit that posts it. The
//! work is begun by one more command, which succeeds once: whoever gave it runs the executor, so that a
//! hire is run at most once however often the call is repeated. What comes back is delivered in the
//! worker's name; anything else gives the buyer everything back. A process that dies meanwhile leaves a
//! job whose deadline does the same.

#[cfg(feature = "http")]
mod http;

#[cfg(feature = "http")]
pub use http::{Endpoint, Endpoints, HttpExecutor};

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Marketplace, Session, command::Call};
use crate::{
    actor::Actor,
    error::{Error, Rejection},
    ids::{AgentId, JobId},
    job::{Delivery, Hire, Job, JobCommand, JobStatus},
    money::Money,
    policy::Span,
    text,
};

/// Runs a hired agent: by its endpoint, by a model with its system prompt, however the platform does it.
///
/// # The contract
///
/// 1. It is called at most once for a job, and never again when its answer is lost.
/// 2. What it answers is the work, handed in in the agent's name as it is. What is larger than the
///    policy's `jobs.task_bytes` as JSON, or not what the order's output schema says, is a failure.
/// 3. After [`Execution::within`] the engine drops the future; nothing may be left running, and nothing
///    it brings about afterwards is paid. A panic is caught.
/// 4. Every failure, whatever its kind, gives the buyer everything back.
/// 5. Task and answer come from strangers: whatever it runs, it runs as hostile.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Runs the agent.
    ///
    /// # Errors
    /// What happened, in words that both parties may read: they are in the log.
    async fn execute(&self, execution: &Execution) -> Result<Map<String, Value>, String>;
}

/// What an executor is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Execution {
    /// The job, which names this run for ever.
    pub job: JobId,
    /// Who hired.
    pub buyer: AgentId,
    /// Who is run.
    pub worker: AgentId,
    /// What it is, in a line.
    pub title: String,
    /// What is to be done.
    pub task: Map<String, Value>,
    /// What is paid for it.
    pub amount: Money,
    /// How long it may take.
    pub within: Span,
}

/// What a hire came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The job as it is afterwards.
    pub job: Arc<Job>,
    /// What was delivered.
    pub output: Map<String, Value>,
}

impl Session<'_> {
    /// Hires an agent and waits for its work, as its buyer (AM-09). A repetition under the same key runs
    /// nothing a second time: it answers what the first one came to.
    ///
    /// # Errors
    /// [`Error::Execution`] when the agent did not do it: the buyer has everything back. Otherwise
    /// [`Error`].
    pub async fn execute(self, hire: Hire) -> Result<Executed, Error> {
        let executor = self.market.executor()?;
        if self.call().within.is_some() {
            return Err(Rejection::NotOffered { what: "direct execution within a transaction" }.into());
        }
        let command = JobCommand::Hire { id: JobId(Uuid::nil()), hire: Box::new(hire.clone()) };
        let posted = self.market.command_job(None, command, self.call()).await?;
        let job = self.market.job(posted.id).await?;
        match job.status {
            JobStatus::Accepted => self.market.run_hired(&*executor, &job, hire).await,
            JobStatus::PendingPayment => Err(self.market.unpaid(&job).await),
            _ => self.market.ran_before(job).await,
        }
    }
}

impl Marketplace {
    fn executor(&self) -> Result<Arc<dyn Executor>, Rejection> {
        self.inner.executor.clone().ok_or(Rejection::NotOffered { what: "direct execution" })
    }

    async fn run_hired(&self, executor: &dyn Executor, job: &Job, hire: Hire) -> Result<Executed, Error> {
        let worker = Actor::Agent(hire.worker);
        let by_worker = Call::by(&worker);
        match self.command_job(Some(job.id), JobCommand::Start, by_worker).await {
            Err(Error::Rejected(Rejection::WrongStatus { .. })) => {
                return self.ran_before(self.job(job.id).await?).await;
            }
            started => drop(started?),
        }
        let policy = self.pinned(job.policy).await?;
        let within = policy.execution.map_or(Span::SECOND, |execution| execution.within);
        let execution = Execution {
            job: job.id,
            buyer: job.buyer,
            worker: hire.worker,
            title: hire.title,
            task: hire.task,
            amount: job.terms.amount,
            within,
        };
        let failed = match attempt(executor, &execution).await {
            Ok(output) => {
                let delivery = Box::new(Delivery { content_type: None, output: output.clone() });
                match self.command_job(Some(job.id), JobCommand::Deliver { delivery }, by_worker).await {
                    Ok(job) => return Ok(Executed { job, output }),
                    // The answer is nonsense, too large, or late.
                    Err(Error::Rejected(rejection)) => rejection.to_string(),
                    Err(error) => return Err(error),
                }
            }
            Err(reason) => reason,
        };
        let reason = text::shown(&failed, REASON);
        let refund = JobCommand::Refund { reason: reason.clone() };
        match self.command_job(Some(job.id), refund, by_worker).await {
            Ok(_) => Err(Error::Execution { job: job.id, reason }),
            // Its deadline, the worker itself or an operator was faster.
            Err(Error::Rejected(_)) => self.ran_before(self.job(job.id).await?).await,
            Err(error) => Err(error),
        }
    }

    /// What a hire came to that was run, or is being run, by another call.
    async fn ran_before(&self, job: Arc<Job>) -> Result<Executed, Error> {
        let execution = |reason: &str| Error::Execution { job: job.id, reason: reason.into() };
        match job.status {
            JobStatus::Completed | JobStatus::Delivered | JobStatus::Validating => {
                let delivered = self.delivery(job.id, job.revisions + 1).await?;
                let delivery: Delivery =
                    serde_json::from_value(delivered).map_err(|_| execution("what was delivered cannot be read"))?;
                Ok(Executed { job, output: delivery.output })
            }
            JobStatus::Cancelled | JobStatus::Refunded => {
                Err(execution("it was not done; the buyer has everything back"))
            }
            status => Err(Rejection::StillRunning { job: job.id, status }.into()),
        }
    }

    /// Calls off a hire whose money is not there at once.
    async fn unpaid(&self, job: &Job) -> Error {
        let buyer = Actor::Agent(job.buyer);
        let cancel = JobCommand::Cancel { reason: "its payment was not made at once".into() };
        match self.command_job(Some(job.id), cancel, Call::by(&buyer)).await {
            Ok(_) => {
                Error::Execution { job: job.id, reason: "the payment was not made at once; nothing was run".into() }
            }
            Err(error) => error,
        }
    }
}

/// The longest reason of a failure that is kept, in characters.
const REASON: usize = 500;

/// Runs the executor within its time. Whatever happens in there comes back as words.
async fn attempt(executor: &dyn Executor, execution: &Execution) -> Result<Map<String, Value>, String> {
    let within = Duration::from_secs(execution.within.as_seconds().into());
    let run = AssertUnwindSafe(executor.execute(execution)).catch_unwind();
    match tokio::time::timeout(within, run).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err("the executor panicked".into()),
        Err(_) => Err(format!("no answer within {}", execution.within)),
    }
}
