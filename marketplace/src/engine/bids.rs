//! Bids in the engine: the path of their commands, what everybody may see of open jobs, and telling bids
//! how their job's search ended.
//!
//! A command to a bid writes the bid and its job in one commit, so that the commands to one job's bids
//! come one after the other. Bids are told their end in pages, since a job may have a thousand: the job
//! counts how many are left and is due until there are none.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use serde::Serialize;

use super::{
    Marketplace, Session,
    command::Call,
    parties::Beginning,
    transact::{Attempt, Operation},
};
use crate::{
    actor::Actor,
    bid::{self, Bid, BidCommand, BidOrder, BidStatus},
    clock::Timestamp,
    error::{Error, Rejection},
    ids::{AgentId, BidId, JobId, RailId},
    job::{Context, Job, OpenOrder, Spendable, Wanted},
    money::Money,
    policy::Span,
    store::{Commit, Kept as _, Key, Kind, OfKind as _, Query, Tagged},
    trust::ClientReputation,
};

/// How many bids one commit tells their end.
const PAGE: u32 = 64;

/// An open job, as everybody may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenJob {
    /// Its id.
    pub id: JobId,
    /// Who pays.
    pub buyer: AgentId,
    /// What it is, in a line.
    pub title: String,
    /// What is to be done, in a few lines.
    pub description: Option<String>,
    /// What is to be done.
    pub task: serde_json::Map<String, serde_json::Value>,
    /// What kind of work it is.
    pub category: Option<String>,
    /// What the worker has to be able to do.
    pub requires: Vec<String>,
    /// The lowest tier of trust that the worker may have.
    pub tier_min: Option<String>,
    /// What the work costs; where bids are taken, the most it may.
    pub amount: Money,
    /// The rail its money will move on.
    pub rail: RailId,
    /// How long the worker will have.
    pub time_allowed: Span,
    /// When it was posted.
    pub posted_at: Timestamp,
    /// When offers are no longer taken; never for one that goes to whoever accepts first.
    pub closes_at: Option<Timestamp>,
    /// How many bids or applications stand.
    pub bids: u32,
}

/// Which open jobs to list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJobs {
    /// Of what kind.
    pub wanted: Wanted,
    /// Older than this one, which a page before ended with. However far one reads, a page costs the same.
    pub before: Option<JobId>,
    /// Leaving out the newest so many. What is left out is walked over.
    pub offset: u32,
    /// At most so many, and never more than [`OpenJobs::LIMIT`].
    pub limit: u32,
}

impl OpenJobs {
    /// The most jobs one call lists (VP-15).
    pub const LIMIT: u32 = 50;

    /// The newest page of these.
    pub const fn newest(wanted: Wanted) -> Self {
        Self { wanted, before: None, offset: 0, limit: Self::LIMIT }
    }
}

impl Marketplace {
    /// Open jobs that look for a worker, newest first, for everybody (VP-15, JP-11, AM-05).
    ///
    /// # Errors
    /// The store's failure.
    pub async fn open_jobs(&self, which: OpenJobs) -> Result<Vec<OpenJob>, Error> {
        let OpenJobs { wanted, before, offset, limit } = which;
        let before = before.map(|job| job.0);
        let limit = limit.min(OpenJobs::LIMIT);
        let tagged = Tagged { kind: Kind::Job, tag: wanted.tag(), before, offset, limit };
        let found = self.inner.store.tagged(self.inner.market, &tagged).await?;
        try_join_all(found.into_iter().filter_map(|stored| Job::of(stored.record)).map(|job| self.shown(job))).await
    }

    pub(super) async fn shown(&self, job: Arc<Job>) -> Result<OpenJob, Error> {
        let order = self.order(&*self.inner.store, job.id).await?;
        let OpenOrder { description, category, requires, tier_min, .. } = order.open.unwrap_or_default();
        Ok(OpenJob {
            id: job.id,
            buyer: job.buyer,
            title: order.title,
            description,
            task: order.task,
            category,
            requires,
            tier_min,
            amount: order.amount,
            rail: job.rail,
            time_allowed: Span::seconds(job.time_allowed),
            posted_at: job.posted_at,
            closes_at: job.open.as_ref().and_then(|open| open.closes_at),
            bids: job.open.as_ref().map_or(0, |open| open.active),
        })
    }

    /// A bid, for its worker, its job's buyer and operators; for everybody else there is none (VP-24).
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn bid(&self, viewer: &Actor, id: BidId) -> Result<Arc<Bid>, Error> {
        let missing = || Rejection::NotFound { what: "bid", id: id.to_string() };
        let stored = self.inner.store.load(self.inner.market, Key { kind: Kind::Bid, id: id.0 }).await?;
        let bid = stored.and_then(|stored| Bid::of(stored.record)).ok_or_else(missing)?;
        let theirs = match viewer {
            Actor::Operator(_) => true,
            Actor::Agent(agent) if *agent == bid.worker => true,
            Actor::Agent(agent) => self.job(bid.job).await?.buyer == *agent,
            Actor::Owner(_) | Actor::Timer | Actor::Rail(_) => false,
        };
        theirs.then_some(bid).ok_or_else(|| missing().into())
    }

    /// A job's bids: all of them for its buyer and for operators, only its own for any other agent
    /// (VP-24). Their order is always the same and means nothing. At most 50.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn bids(&self, viewer: &Actor, job: JobId, offset: u32) -> Result<Vec<Arc<Bid>>, Error> {
        let of = self.job(job).await?;
        match viewer {
            Actor::Agent(agent) if *agent != of.buyer => {
                let own = self.bid(viewer, BidId::derive(job, *agent)).await;
                match own {
                    Ok(bid) if offset == 0 => Ok(vec![bid]),
                    Ok(_) | Err(Error::Rejected(_)) => Ok(Vec::new()),
                    Err(error) => Err(error),
                }
            }
            Actor::Agent(_) | Actor::Operator(_) => {
                self.find_bids((0, job.0), Vec::new(), offset, OpenJobs::LIMIT).await
            }
            Actor::Owner(_) | Actor::Timer | Actor::Rail(_) => Ok(Vec::new()),
        }
    }

    /// An agent's own bids in any of the given statuses, empty for all. Their order is always the same and
    /// means nothing. At most 50.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn bids_of(
        &self,
        worker: AgentId,
        statuses: Vec<BidStatus>,
        offset: u32,
    ) -> Result<Vec<Arc<Bid>>, Error> {
        self.find_bids((1, worker.0), statuses, offset, OpenJobs::LIMIT).await
    }

    /// What happened to a bid, oldest first, with who did it and when.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn bid_history(&self, bid: BidId) -> Result<Vec<crate::store::LoggedEvent>, Error> {
        Ok(self.inner.store.events_of(self.inner.market, Key { kind: Kind::Bid, id: bid.0 }).await?)
    }

    async fn find_bids(
        &self,
        party: (usize, uuid::Uuid),
        statuses: Vec<BidStatus>,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<Arc<Bid>>, Error> {
        let statuses = statuses.into_iter().map(BidStatus::as_str).collect();
        let query = Query { kind: Kind::Bid, party: Some(party), statuses, before: None, offset, limit };
        let found = self.inner.store.find(self.inner.market, &query).await?;
        Ok(found.into_iter().filter_map(|stored| Bid::of(stored.record)).collect())
    }

    /// Tells a job's bids how its search ended, until there are none left.
    pub(super) async fn close_bids(&self, mut job: Arc<Job>) -> Result<Arc<Job>, Error> {
        while job.has_bids_to_close() {
            let timer = Call::by(&Actor::Timer);
            match self.transact::<Job>(timer, &"close_bids", &mut Closing { job: job.id }).await {
                Ok(closed) => job = closed,
                Err(Error::Rejected(Rejection::NothingDue { .. })) => return self.job(job.id).await,
                Err(error) => return Err(error),
            }
        }
        Ok(job)
    }
}

impl Session<'_> {
    /// Makes a bid on an open job, or an application for it, as an agent (VP-24, JP-11). A second one
    /// takes the place of the first.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn place_bid(self, job: JobId, bid: BidOrder) -> Result<Arc<Bid>, Error> {
        let command = BidCommand::Place { bid: Box::new(bid) };
        self.market.transact(self.call(), &(job, &command), &mut Bidding { on: On::Job(job), command: &command }).await
    }

    /// Offers another price, as the job's buyer or the bid's worker (VP-26).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn counter_bid(self, bid: BidId, price: Money, message: impl Into<String>) -> Result<Arc<Bid>, Error> {
        let command = BidCommand::Counter { price, message: message.into() };
        self.market.transact(self.call(), &(bid, &command), &mut Bidding { on: On::Bid(bid), command: &command }).await
    }

    /// Takes a bid back, as its worker.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn withdraw_bid(self, bid: BidId) -> Result<Arc<Bid>, Error> {
        let command = BidCommand::Withdraw;
        self.market.transact(self.call(), &(bid, &command), &mut Bidding { on: On::Bid(bid), command: &command }).await
    }

    /// Accepts what the other party of a bid offered last, as the job's buyer or the bid's worker: its
    /// price is taken on the job's rail, and once it is reserved the worker has the job and all other
    /// bids are rejected. Where it cannot be taken, the job stays open (VP-25, VP-26, JP-11). `price` is
    /// what the caller agrees to: another offer that stands by now is not accepted.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn accept_bid(self, bid: BidId, price: Money) -> Result<Arc<Job>, Error> {
        let (command, call) = (BidCommand::Accept { price }, self.call());
        let mut bidding = Bidding { on: On::Bid(bid), command: &command };
        let job: Arc<Job> = self.market.transact(call, &(bid, &command), &mut bidding).await?;
        if call.within.is_some() {
            return Ok(job);
        }
        match self.market.close_bids(job.clone()).await {
            Ok(job) => Ok(job),
            Err(error) => {
                tracing::warn!(job = %job.id, %error, "telling the bids is left to the workers");
                Ok(job)
            }
        }
    }
}

/// What a command to a bid names it by.
#[derive(Clone, Copy)]
enum On {
    /// The caller's own on this job.
    Job(JobId),
    Bid(BidId),
}

/// A command to a bid.
struct Bidding<'a> {
    on: On,
    command: &'a BidCommand,
}

#[async_trait]
impl Operation for Bidding<'_> {
    fn name(&self) -> &'static str {
        self.command.name()
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let name = self.command.name();
        let (job, bid) = match self.on {
            On::Job(job) => {
                let own = on.actor.agent().map(|agent| BidId::derive(job, agent));
                let bid = match own {
                    Some(bid) => on.find::<Bid>(bid.0).await?,
                    None => None,
                };
                (job, bid)
            }
            On::Bid(id) => {
                let bid = on.load::<Bid>("bid", id.0).await?;
                (bid.0.job, Some(bid))
            }
        };
        let (job, job_version) = on.load::<Job>("job", job.0).await?;
        let bid_before = bid.as_ref().map(|(bid, _)| &**bid);
        let worker = bid_before.map(|bid| bid.worker).or(on.actor.agent());
        let agents = match self.command {
            BidCommand::Place { .. } | BidCommand::Counter { .. } => [on.actor.agent(), None],
            BidCommand::Accept { .. } => [Some(job.buyer), worker],
            BidCommand::Withdraw => [None, None],
        };
        let takes_on = matches!(self.command, BidCommand::Accept { .. });
        on.market.authorize(on.actor, name, Some(&job))?;
        let policy = on.market.pinned(job.policy).await?;
        let beginning = Beginning { agents, worker, takes_on };
        let parties = on.market.parties(on.journal, name, beginning, &policy).await?;
        let rail = on.market.rail(Some(job.rail))?.profile();
        let (version, candidate) = (job.policy, parties.candidate());
        let mut bids = Vec::new();
        let decided = on
            .with_purse(takes_on.then_some(job.buyer), Spendable::default(), |purse| {
                let (now, actor, policy, worker) = (on.now, on.actor, &*policy, candidate);
                let context =
                    Context { now, actor, policy, version, rail, worker, client: ClientReputation::default(), purse };
                let decision = bid::decide(&job, bid_before, self.command, &context)?;
                bids = decision.bids;
                Ok(decision.job)
            })
            .await?;
        let mut commit = on.commit(job.key(), job_version);
        let bid_version = bid.as_ref().map_or(0, |(_, version)| *version);
        if bids.is_empty()
            && let Some((bid, version)) = &bid
        {
            // It was read before the job: another offer may stand by now.
            commit.guards.push((bid.key(), *version));
        }
        for (bid, event) in bids {
            commit.write(bid, bid_version, on.actor, [event]);
        }
        on.write_job(on.actor, &mut commit, Some((&job, job_version)), decided, &parties).await?;
        Ok(commit)
    }
}

/// Telling some of a job's bids how its search ended.
struct Closing {
    job: JobId,
}

#[async_trait]
impl Operation for Closing {
    fn name(&self) -> &'static str {
        "close_bids"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let (job, job_version) = on.load::<Job>("job", self.job.0).await?;
        let active = vec![BidStatus::Active.as_str()];
        let query = Query {
            kind: Kind::Bid,
            party: Some((0, job.id.0)),
            statuses: active,
            before: None,
            offset: 0,
            limit: PAGE,
        };
        let found = on.journal.find(on.market.inner.market, &query).await?;
        let (mut bids, mut versions) = (Vec::new(), Vec::new());
        for stored in found {
            let version = stored.version;
            if let Some(bid) = Bid::of(stored.record) {
                bids.push(Arc::unwrap_or_clone(bid));
                versions.push(version);
            }
        }
        let decision = bid::close(&job, &bids)?;
        let mut commit = on.commit(job.key(), job_version);
        let policy = on.market.pinned(job.policy).await?;
        let parties = on.market.parties(on.journal, "close_bids", Beginning::default(), &policy).await?;
        on.write_job(on.actor, &mut commit, Some((&job, job_version)), decision.job, &parties).await?;
        for ((bid, event), version) in decision.bids.into_iter().zip(versions) {
            commit.write(bid, version, on.actor, [event]);
        }
        Ok(commit)
    }
}
