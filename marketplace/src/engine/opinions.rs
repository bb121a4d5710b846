//! What agents say of each other, in the engine: reviews of jobs, reports to the platform.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Marketplace, Session,
    transact::{Attempt, Operation},
};
use crate::{
    error::Error,
    ids::{AgentId, JobId},
    job::Job,
    report::{self, Complaint, Report, Reported},
    review::{self, Rating, Review},
    store::{Commit, Kept as _, Key, Kind, OfKind as _, Query, Stored},
};

/// A review to be given.
struct Give<'a> {
    job: JobId,
    rating: &'a Rating,
}

#[async_trait]
impl Operation for Give<'_> {
    fn name(&self) -> &'static str {
        "review"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let (job, version) = on.load::<Job>("job", self.job.0).await?;
        on.market.authorize(on.actor, self.name(), Some(&job))?;
        let policy = on.market.pinned(job.policy).await?;
        let before = match job.side_of(on.actor) {
            Some(by) => on.find::<Review>(Review::id_of(job.id, by)).await?,
            None => None,
        };
        let before = before.as_ref().map(|(review, _)| &**review);
        let context = review::Context { now: on.now, actor: on.actor, policy: &policy, before };
        let (review, event) = review::decide(&job, self.rating, &context)?;
        let mut commit = on.commit(review.key(), 0);
        commit.write(review, 0, on.actor, [event]);
        commit.guards.push((job.key(), version)); // whether it is settled must still be so
        Ok(commit)
    }
}

/// A report to be made.
struct Complain<'a>(&'a Complaint);

#[async_trait]
impl Operation for Complain<'_> {
    fn name(&self) -> &'static str {
        "report"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        on.market.authorize(on.actor, self.name(), None)?;
        let about = match self.0.target {
            Reported::Agent(agent) => {
                on.market.check_known(agent).await?;
                agent
            }
            Reported::Job(job) => on.load::<Job>("job", job.0).await?.0.buyer,
        };
        let before = match on.actor.agent() {
            Some(reporter) => on.find::<Report>(Report::id_of(self.0.target, reporter)).await?,
            None => None,
        };
        let (version, policy) = on.market.policy();
        let context = report::Context { now: on.now, actor: on.actor, policy: &policy, version };
        let (known, expected) = before.as_ref().map_or((None, 0), |(report, version)| (Some(&**report), *version));
        let (report, event) = report::make(self.0, about, known, &context)?;
        let mut commit = on.commit(report.key(), expected);
        commit.write(report, expected, on.actor, [event]);
        Ok(commit)
    }
}

/// A report to be dismissed.
struct Dismiss<'a> {
    report: Uuid,
    reason: &'a str,
}

#[async_trait]
impl Operation for Dismiss<'_> {
    fn name(&self) -> &'static str {
        "dismiss_report"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        on.market.authorize(on.actor, self.name(), None)?;
        let (report, version) = on.load::<Report>("report", self.report).await?;
        let (number, policy) = on.market.policy();
        let context = report::Context { now: on.now, actor: on.actor, policy: &policy, version: number };
        let (next, event) = report::dismiss(&report, self.reason, &context)?;
        let mut commit = on.commit(Key { kind: Kind::Report, id: self.report }, version);
        commit.write(next, version, on.actor, [event]);
        Ok(commit)
    }
}

impl Session<'_> {
    /// Says how the other party of a completed job was, once, as a party (VP-29, JP-15).
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::DoneBefore`](crate::error::Rejection::DoneBefore) the second time.
    pub async fn review(self, job: JobId, rating: Rating) -> Result<Arc<Review>, Error> {
        let body = ("review", job, &rating);
        self.market.transact(self.call(), &body, &mut Give { job, rating: &rating }).await
    }

    /// Reports an agent or a job to the platform, as another agent (JP-29).
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::DoneBefore`](crate::error::Rejection::DoneBefore) while one of this agent's
    /// is pending.
    pub async fn report(self, complaint: Complaint) -> Result<Arc<Report>, Error> {
        let body = ("report", &complaint);
        self.market.transact(self.call(), &body, &mut Complain(&complaint)).await
    }

    /// Dismisses a report, as an operator (JP-29).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn dismiss_report(self, report: Uuid, reason: impl Into<String>) -> Result<Arc<Report>, Error> {
        let reason = reason.into();
        let body = ("dismiss_report", report, &reason);
        self.market.transact(self.call(), &body, &mut Dismiss { report, reason: &reason }).await
    }
}

impl Marketplace {
    /// The reviews of an agent, newest job first, leaving out the newest `offset`; at most 100 (VP-10,
    /// JP-05).
    ///
    /// # Errors
    /// The store's failure.
    pub async fn reviews_of(&self, agent: AgentId, offset: u32, limit: u32) -> Result<Vec<Arc<Review>>, Error> {
        let party = Some((0, agent.0));
        let query =
            Query { kind: Kind::Review, party, statuses: Vec::new(), before: None, offset, limit: limit.min(100) };
        let found: Vec<Stored> = self.inner.store.find(self.inner.market, &query).await?;
        Ok(found.into_iter().filter_map(|stored| Review::of(stored.record)).collect())
    }
}
