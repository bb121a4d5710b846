//! Disputes in the engine: their commands, what a job's own commands do to them, the arbiter's work, the
//! operators' queue.
//!
//! A dispute's command and what it does to the job are one commit, guarded by both versions: of two
//! rulings at once, or a ruling against a settlement, one is decided anew and finds the dispute over.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Marketplace, Session,
    command::Call,
    transact::{Attempt, Operation},
    work::AT_ONCE,
};
use crate::{
    actor::Actor,
    dispute::{
        Answer, Award, Case, Context, Dispute, DisputeCommand, DisputeStatus, EvidenceItem, Filing, Judgement,
        NoJudgement, Submitted, decide, evidence_name, follow, ruling_name,
    },
    error::{Error, Rejection},
    ids::{AgentId, DisputeId, JobId},
    job::{Job, JobCommand, JobStatus},
    store::{Commit, Document, Kept as _, Key, Kind, LoggedEvent, OfKind as _, Query, Record, Stored},
    trust::Side,
};

/// How many disputes one look at the queue loads at a time.
const PAGE: u32 = 200;
/// The most open disputes that the queue puts in order.
const QUEUE: usize = 20_000;
/// The most disputes of an agent that one call lists.
const LISTED: u32 = 50;

/// One command to a dispute.
struct Move {
    /// The dispute; `None` to open one.
    dispute: Option<DisputeId>,
    /// The job to dispute.
    job: JobId,
    command: DisputeCommand,
}

#[async_trait]
impl Operation for Move {
    fn name(&self) -> &'static str {
        self.command.name()
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let mut before = match self.dispute {
            Some(id) => Some(on.load::<Dispute>("dispute", id.0).await?),
            None => None,
        };
        if let DisputeCommand::Open { id, .. } = &mut self.command {
            *id = DisputeId(on.fresh());
        }
        let job = before.as_ref().map_or(self.job, |(dispute, _)| dispute.job);
        let (job, job_version) = on.load::<Job>("job", job.0).await?;
        if let (Some(id), true) = (self.dispute, job.status != JobStatus::Disputed) {
            // Somebody may have ended both between the two looks: the dispute says it better.
            before = Some(on.load::<Dispute>("dispute", id.0).await?);
        }
        on.market.authorize(on.actor, self.command.name(), Some(&job))?;
        let policy = on.market.pinned(job.policy).await?;
        let mut commit = on.commit(job.key(), job_version);
        let opens = matches!(self.command, DisputeCommand::Open { .. });
        let client = on.client(&mut commit, on.actor.agent().filter(|_| opens), &policy).await?;
        let arbiter = on.market.inner.arbiter.is_some();
        let context = Context { now: on.now, actor: on.actor, policy: &policy, arbiter, client };
        let decision = decide(&job, before.as_ref().map(|(dispute, _)| &**dispute), &self.command, &context)?;

        let subject = decision.dispute.id.0;
        commit.write(decision.dispute, before.map_or(0, |(_, version)| version), on.actor, decision.events);
        match &decision.job {
            Some(told) => _ = on.command_job(&mut commit, Some((&job, job_version)), told).await?,
            None => commit.guards.push((job.key(), job_version)),
        }
        commit.movement.append(decision.movement).map_err(Rejection::from)?;
        let document = |(name, body)| Document { subject, name, body };
        commit.documents.extend(decision.documents.into_iter().map(document));
        if opens && on.actor.agent() == Some(job.buyer) {
            on.count_filing(&mut commit, &job, &policy).await?;
        }
        Ok(commit)
    }
}

impl Attempt<'_> {
    /// Adds what a dispute makes of a command to its job that is not the dispute's own.
    pub(super) async fn follow_dispute(
        &self,
        commit: &mut Commit,
        job: &Job,
        command: &JobCommand,
        actor: &Actor,
    ) -> Result<(), Error> {
        let Some(disputed) = job.dispute else { return Ok(()) };
        if matches!(command, JobCommand::Dispute { .. } | JobCommand::EndDispute { .. }) {
            return Ok(());
        }
        let (dispute, version) = self.load::<Dispute>("dispute", disputed.id.0).await?;
        if let Some((next, events)) = follow(&dispute, job, self.now) {
            commit.write(next, version, actor, events);
        }
        Ok(())
    }
}

impl Marketplace {
    /// A dispute as it is now.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn dispute(&self, id: DisputeId) -> Result<Arc<Dispute>, Error> {
        let stored = self.inner.store.load(self.inner.market, Key { kind: Kind::Dispute, id: id.0 }).await?;
        let dispute = stored.and_then(|stored| Dispute::of(stored.record));
        dispute.ok_or_else(|| Rejection::NotFound { what: "dispute", id: id.to_string() }.into())
    }

    /// The disputes of an agent on one side of its jobs, newest first, leaving out the newest `offset`; at
    /// most 50.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn disputes_of(&self, agent: AgentId, side: Side, offset: u32) -> Result<Vec<Arc<Dispute>>, Error> {
        let place = usize::from(side == Side::Worker);
        let party = Some((place, agent.0));
        let query = Query { kind: Kind::Dispute, party, statuses: Vec::new(), before: None, offset, limit: LISTED };
        let found = self.inner.store.find(self.inner.market, &query).await?;
        Ok(found.into_iter().filter_map(|stored| Dispute::of(stored.record)).collect())
    }

    /// The disputes that wait for people, whoever has taken them up, the one due first at the front; at
    /// most `limit`, and of 20 000 at most.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn dispute_queue(&self, limit: usize) -> Result<Vec<Arc<Dispute>>, Error> {
        let mut waiting: Vec<Arc<Dispute>> = Vec::new();
        let statuses = vec![DisputeStatus::Review.as_str()];
        let query = Query { kind: Kind::Dispute, party: None, statuses, before: None, offset: 0, limit: PAGE };
        let mut next = Some(query);
        while let Some(query) = next.filter(|_| waiting.len() < QUEUE) {
            let found = self.inner.store.find(self.inner.market, &query).await?;
            next = query.after(&found);
            waiting.extend(found.into_iter().filter_map(|stored| Dispute::of(stored.record)));
        }
        waiting.sort_by_key(|dispute| (dispute.deadline, dispute.id));
        waiting.truncate(limit);
        Ok(waiting)
    }

    /// What happened to a dispute, oldest first, with who did it and when.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn dispute_history(&self, id: DisputeId) -> Result<Vec<LoggedEvent>, Error> {
        Ok(self.inner.store.events_of(self.inner.market, Key { kind: Kind::Dispute, id: id.0 }).await?)
    }

    /// A dispute with everything that was said and submitted. Both parties read it by
    /// [`Session::dispute_case`].
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn dispute_case(&self, id: DisputeId) -> Result<Case, Error> {
        let dispute = self.dispute(id).await?;
        let job = self.job(dispute.job).await?;
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(String::from));
        let mut evidence = Vec::new();
        for by in [Side::Buyer, Side::Worker] {
            for number in 1..=*dispute.evidence.of(by) {
                let item = self.said(id, &evidence_name(by, number)).await?;
                let item = item.and_then(|item| serde_json::from_value::<EvidenceItem>(item).ok());
                evidence.extend(item.map(|item| Submitted { by, item }));
            }
        }
        let mut rulings = Vec::new();
        for number in 1..=dispute.ruling.as_ref().map_or(0, |ruling| ruling.number) {
            rulings.extend(text(self.said(id, &ruling_name(number)).await?));
        }
        let mut deliveries = Vec::new();
        for number in 1..=job.revisions + 1 {
            match self.delivery(job.id, number).await {
                Ok(delivery) => deliveries.push(delivery),
                Err(Error::Rejected(Rejection::NotFound { .. })) => {} // disputed before it was handed in
                Err(error) => return Err(error),
            }
        }
        Ok(Case {
            task: self.task(job.id).await?,
            deliveries,
            reason: text(self.said(id, "reason").await?).unwrap_or_default(),
            answer: text(self.said(id, "answer").await?),
            appeal: text(self.said(id, "appeal").await?),
            opinion: self
                .said(id, "opinion")
                .await?
                .and_then(|opinion| serde_json::from_value::<Judgement>(opinion).ok()),
            evidence,
            rulings,
            dispute: (*dispute).clone(),
            job: (*job).clone(),
        })
    }

    /// What is kept beside a dispute under a name.
    async fn said(&self, id: DisputeId, name: &str) -> Result<Option<Value>, Error> {
        match self.document_of(&*self.inner.store, "dispute", id.0, name).await {
            Ok(value) => Ok(Some(value)),
            Err(Error::Rejected(Rejection::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn command_dispute(
        &self,
        id: DisputeId,
        command: DisputeCommand,
        call: Call<'_>,
    ) -> Result<Arc<Dispute>, Error> {
        let mut operation = Move { dispute: Some(id), job: JobId(Uuid::nil()), command };
        let body = (id, operation.command.clone());
        self.transact(call, &body, &mut operation).await
    }

    /// Works on disputes: fires the timers that are due, then has the arbiter judge those that wait for
    /// it, at most 16 at once; how many there were. It waits for the arbiter for a lease at most.
    ///
    /// # Errors
    /// The store's failure. An arbiter that fails is no failure: its dispute is asked about again or goes
    /// to people.
    pub async fn arbitrate(&self) -> Result<usize, Error> {
        let (claimed, _) = self.claim(Kind::Dispute).await?;
        let count = claimed.len();
        let now = self.now();
        let disputes = claimed.into_iter().filter_map(|Stored { record, .. }| match record {
            Record::Dispute(dispute) => Some(dispute),
            _ => None,
        });
        let (waiting, timed): (Vec<_>, Vec<_>) = disputes.partition(|dispute| dispute.waits_for_arbiter(now));
        let log = |dispute: &Dispute, done: Result<(), Error>| {
            if let Err(error) = done {
                tracing::error!(dispute = %dispute.id, %error, "a dispute cannot be worked on");
            }
        };
        for dispute in timed {
            log(&dispute, self.tick_dispute(&dispute).await);
        }
        let judge = |dispute: Arc<Dispute>| async move { log(&dispute, self.judge(&dispute).await) };
        futures::stream::iter(waiting).for_each_concurrent(AT_ONCE, judge).await;
        Ok(count)
    }

    async fn tick_dispute(&self, dispute: &Dispute) -> Result<(), Error> {
        match self.command_dispute(dispute.id, DisputeCommand::Tick, Call::by(&Actor::Timer)).await {
            // Somebody acted between the claim and this.
            Ok(_) | Err(Error::Rejected(Rejection::NothingDue { .. } | Rejection::WrongDisputeStatus { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has the arbiter judge, and writes down what came of it.
    async fn judge(&self, dispute: &Dispute) -> Result<(), Error> {
        let answer = match &self.inner.arbiter {
            Some(arbiter) => {
                let case = self.dispute_case(dispute.id).await?;
                let patience = Duration::from_secs(self.inner.lease.as_seconds().into());
                // The arbiter is the platform's: what it breaks is its own, and it is asked nothing twice
                // in one call.
                let judged = AssertUnwindSafe(async { arbiter.judge(&case).await }).catch_unwind();
                match tokio::time::timeout(patience, judged).await {
                    Ok(Ok(Ok(judgement))) => Answer::Judged(judgement),
                    Ok(Ok(Err(NoJudgement::Declined { .. }))) => Answer::Declined,
                    Ok(Ok(Err(NoJudgement::Unavailable { .. }))) | Err(_) => Answer::Unavailable,
                    Ok(Err(_panic)) => Answer::Broken,
                }
            }
            // This process has none; another one that does is faster next time, or time decides.
            None => Answer::Unavailable,
        };
        let command = DisputeCommand::RecordAnswer { answer: Box::new(answer) };
        match self.command_dispute(dispute.id, command, Call::by(&Actor::Timer)).await {
            Ok(_) => Ok(()),
            // It was settled, escalated or frozen meanwhile, or the answer came too late.
            Err(Error::Rejected(
                Rejection::WrongDisputeStatus { .. } | Rejection::WrongStatus { .. } | Rejection::TooLate { .. },
            )) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Session<'_> {
    /// Disputes a job, as one of its parties (VP-30, JP-13): its timers stop, its money stays.
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::TooManyDisputes`] for a buyer who disputes too much (JP-14).
    pub async fn open_dispute(self, job: JobId, filing: Filing) -> Result<Arc<Dispute>, Error> {
        let command = DisputeCommand::Open { id: DisputeId(Uuid::nil()), filing: Box::new(filing) };
        let body = (job, command.clone());
        self.market.transact(self.call(), &body, &mut Move { dispute: None, job, command }).await
    }

    /// Answers a dispute, once, as the party that did not open it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn answer_dispute(
        self,
        dispute: DisputeId,
        answer: impl Into<String>,
        evidence: Vec<EvidenceItem>,
    ) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::Answer { answer: answer.into(), evidence }).await
    }

    /// Submits more evidence, as a party (VP-30).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn add_evidence(self, dispute: DisputeId, evidence: Vec<EvidenceItem>) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::AddEvidence { evidence }).await
    }

    /// Offers the other party a settlement, as a party, in place of whatever was offered before.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn offer_settlement(self, dispute: DisputeId, award: Award) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::Offer { award }).await
    }

    /// Takes what the other party offers, as a party: the money is divided so and the job is over.
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::NoSuchOffer`] when something else is offered by now.
    pub async fn accept_settlement(self, dispute: DisputeId, award: Award) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::AcceptOffer { award }).await
    }

    /// Withdraws a dispute, as the party that opened it and before a ruling; the job goes on where it
    /// stood.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn withdraw_dispute(self, dispute: DisputeId) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::Withdraw).await
    }

    /// Asks for people after the automated tier has ruled, as a party (VP-31).
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::TooLate`] after the window.
    pub async fn appeal(self, dispute: DisputeId, reason: impl Into<String>) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::Appeal { reason: reason.into() }).await
    }

    /// Has people look at a dispute at once, as an operator.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn escalate(self, dispute: DisputeId, reason: impl Into<String>) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::Escalate { reason: reason.into() }).await
    }

    /// Takes a dispute up, as an operator: until it is overdue nobody else rules on it.
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::TakenUp`] when somebody else has.
    pub async fn take_up(self, dispute: DisputeId) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::TakeUp).await
    }

    /// Gives a dispute back to the queue, as the operator who has taken it up.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn hand_back(self, dispute: DisputeId) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::HandBack).await
    }

    /// Rules, as an operator: the money is divided so and the job is over (VP-30, JP-13).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn rule(
        self,
        dispute: DisputeId,
        award: Award,
        reason: impl Into<String>,
    ) -> Result<Arc<Dispute>, Error> {
        self.argue(dispute, DisputeCommand::Rule { award, reason: reason.into() }).await
    }

    async fn argue(self, dispute: DisputeId, command: DisputeCommand) -> Result<Arc<Dispute>, Error> {
        self.market.command_dispute(dispute, command, self.call()).await
    }
}
