//! The commands, in somebody's name.

use std::sync::Arc;

use uuid::Uuid;

use super::{Marketplace, command::Call};
use crate::{
    actor::Actor,
    error::Error,
    ids::{AgentId, InstructionId, JobId, RailId},
    job::{Delivery, Job, JobCommand, JobOrder},
    money::Money,
    rail::{Observation, ObservationBody, Outcome},
    store::Journal,
    validation::Verdict,
};

/// Somebody about to give one command, or to read one thing.
///
/// Every command answers with the job as it is afterwards, or with the typed reason of the rule that
/// refused it ([`Error::Rejected`]), in which case nothing was written. What is read in somebody's name is theirs to
/// see, or refused.
#[must_use = "a session does nothing until a command is given"]
pub struct Session<'a> {
    pub(super) market: &'a Marketplace,
    actor: Actor,
    key: Option<String>,
    within: Option<&'a dyn Journal>,
}

impl<'a> Session<'a> {
    pub(super) fn new(market: &'a Marketplace, actor: Actor) -> Self {
        Self { market, actor, key: None, within: None }
    }

    /// Gives the command an idempotency key (1 to 200 characters, apart for each actor): the same key
    /// with the same command answers what the first one committed, with another command it is refused
    /// (PG-15).
    pub fn keyed(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Commits in the embedder's own open transaction, together with its rows. Rails are asked by the
    /// workers once that has committed.
    pub fn within(mut self, transaction: &'a dyn Journal) -> Self {
        self.within = Some(transaction);
        self
    }

    /// Posts a job, as its buyer (VP-12, JP-10, AM-04).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn post_job(self, order: JobOrder) -> Result<Arc<Job>, Error> {
        let order = Box::new(order);
        self.give(None, JobCommand::Post { id: JobId(Uuid::nil()), order }).await
    }

    /// Tries to pay again after a decline, as the buyer.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn retry_payment(self, job: JobId) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::RetryPayment).await
    }

    /// Takes a job on, as its worker or, for a job without one, as whoever is first (VP-16, AM-06).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn accept(self, job: JobId) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::Accept).await
    }

    /// Begins the work, as the worker.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn start(self, job: JobId) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::Start).await
    }

    /// Hands the work in, as the worker (VP-17).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn deliver(self, job: JobId, delivery: Delivery) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::Deliver { delivery: Box::new(delivery) }).await
    }

    /// Records what validators found, as the platform (VP-18).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn record_validation(self, job: JobId, verdict: Verdict) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::RecordValidation { report: Box::new(verdict.into()) }).await
    }

    /// Accepts a delivery, as the buyer: the worker is paid (VP-19).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn approve(self, job: JobId) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::Approve).await
    }

    /// Asks for changes, as the buyer (VP-22).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn request_revision(self, job: JobId, feedback: impl Into<String>) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::RequestRevision { feedback: feedback.into() }).await
    }

    /// Calls a job off, as the buyer (VP-23, JP-12).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn cancel(self, job: JobId, reason: impl Into<String>) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::Cancel { reason: reason.into() }).await
    }

    /// Gives a job back, as the worker; the buyer gets everything back.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn withdraw(self, job: JobId, reason: impl Into<String>) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::Withdraw { reason: reason.into() }).await
    }

    /// Gives the buyer everything back without a dispute, as the worker or an operator.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn refund(self, job: JobId, reason: impl Into<String>) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::Refund { reason: reason.into() }).await
    }

    /// Gives the buyer of a completed job an amount back (everything if none is named), as an operator:
    /// worker and platform give it in the proportion in which they were paid, and the policy says who bears
    /// what the worker does not have any more.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn refund_paid(
        self,
        job: JobId,
        amount: Option<Money>,
        reason: impl Into<String>,
    ) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::RefundPaid { amount, reason: reason.into() }).await
    }

    /// Stops a job, as an operator: nothing but unfreezing is possible (VP-39).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn freeze(self, job: JobId, reason: impl Into<String>) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::Freeze { reason: reason.into() }).await
    }

    /// Lets a frozen job go on where it stood, as an operator.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn unfreeze(self, job: JobId) -> Result<Arc<Job>, Error> {
        self.give(Some(job), JobCommand::Unfreeze).await
    }

    /// Hands in what a rail asked this agent to do (see [`Session::instructions`]): a signature, a
    /// confirmed challenge. The instruction goes on at once.
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::WrongActor`](crate::error::Rejection::WrongActor) when the rail asked somebody else.
    pub async fn answer(self, instruction: InstructionId, answer: impl Into<String>) -> Result<(), Error> {
        self.market.answer_action(self.call(), instruction, answer.into()).await
    }

    /// Has the rail asked again about an instruction, as an operator: after a mismatch was cleared up
    /// outside, or instead of waiting.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn look_again(self, instruction: InstructionId, reason: impl Into<String>) -> Result<(), Error> {
        self.market.look_again(self.call(), instruction, reason.into()).await
    }

    /// Ends an instruction, as an operator who has established outside what became of it and put the
    /// rest right there: the way out of a mismatch, and of a rail that never answers. A receipt must say
    /// what was asked for, under the rail's own reference: a hold is divided by the reference that funded it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn resolve(
        self,
        instruction: InstructionId,
        outcome: Outcome,
        reason: impl Into<String>,
    ) -> Result<(), Error> {
        self.market.resolve(self.call(), instruction, outcome, reason.into()).await
    }

    /// Takes a refused observation off the list of what is unsettled, as an operator who has dealt
    /// with it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn dismiss(self, observation: Uuid, reason: impl Into<String>) -> Result<(), Error> {
        self.market.dismiss(self.call(), observation, reason.into()).await
    }

    /// Credits a wallet with money that came in where no rail can see it, as an operator: the rail must
    /// be of internal custody. The reference is the payment's own name: given a second time, it credits
    /// nothing.
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::ReferenceReused`](crate::error::Rejection::ReferenceReused) when the
    /// reference was another payment's.
    pub async fn record_deposit(
        self,
        rail: RailId,
        reference: impl Into<String>,
        agent: AgentId,
        amount: Money,
    ) -> Result<(), Error> {
        let reference = reference.into();
        let body = ObservationBody::Deposit { agent, amount, source: reference.clone() };
        self.market.record_deposit(self.call(), rail, Observation { id: reference, body }).await
    }

    async fn give(self, job: Option<JobId>, command: JobCommand) -> Result<Arc<Job>, Error> {
        self.market.command_job(job, command, self.call()).await
    }

    pub(super) fn call(&self) -> Call<'_> {
        Call { actor: &self.actor, key: self.key.as_deref(), within: self.within }
    }
}
