//! Notices in the engine: subscriptions and their commands, and what was told.
//!
//! [`tell`] reads the event log and writes what follows, [`deliver`] sends what is due, [`follow`] is
//! the same as a stream inside this process.

mod deliver;
mod follow;
mod session;
mod tell;

pub(super) use follow::Tail;

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Marketplace,
    command::Call,
    transact::{Attempt, Operation},
};
use crate::{
    agent::Agent,
    clock::Timestamp,
    error::{Error, Rejection},
    ids::{AgentId, DeliveryId, EndpointId, JobId, NoticeId, OwnerId, Place, derive},
    job::Job,
    notice::{
        Context, Courier, Delivery, DeliveryState, Endpoint, EndpointCommand, EndpointState, Notice, PING, Party,
        decide, envelop, secret,
    },
    policy::WebhookPolicy,
    secret::{Pepper, Purpose, Secret},
    store::{Commit, Journal, Kept, Key, Kind, OfKind, Query},
};

/// The most records that one call lists (VP-32).
const PAGE: u32 = 50;
/// How far unread notices are counted.
const COUNTED: u32 = 1000;
/// How many notices one call marks as read in one commit.
const MARKED: usize = 64;

/// What a marketplace needs to tell agents what happens.
#[derive(Clone)]
#[must_use = "hand the parts to the builder"]
pub struct NoticeParts {
    pepper: Pepper,
    courier: Option<Arc<dyn Courier>>,
}

impl NoticeParts {
    /// Notices and streams, without webhooks. Signing secrets follow from this pepper: with another one
    /// every subscription has another secret.
    pub fn new(pepper: Pepper) -> Self {
        Self { pepper, courier: None }
    }

    /// Sends webhooks by this courier.
    pub fn courier(mut self, courier: impl Courier) -> Self {
        self.courier = Some(Arc::new(courier));
        self
    }

    /// The secret after so many rotations.
    fn secret(&self, endpoint: EndpointId, rotations: u32) -> Secret {
        secret(&self.pepper.digest(Purpose::Webhook, &format!("{endpoint}/{rotations}")).0)
    }
}

/// A subscription and, once, its secret.
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// The subscription as it is afterwards.
    pub endpoint: Arc<Endpoint>,
    /// Its secret. Shown here and never again: also a repetition of the command under its idempotency key
    /// answers without it.
    pub secret: Option<Secret>,
}

/// Which deliveries to list, newest first (VP-37, PG-13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveriesOf {
    /// Of one subscription or of all of an agent's.
    pub of: Receiver,
    /// In these states (`pending`, `delivered`, `failed`, `held`, `dropped`); empty for all.
    pub states: Vec<&'static str>,
    /// Leaving out the newest so many.
    pub offset: u32,
    /// At most so many, and never more than 50.
    pub limit: u32,
}

/// Whose deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// One subscription's.
    Endpoint(EndpointId),
    /// All of an agent's.
    Agent(AgentId),
}

/// Which notices to list, newest first (VP-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticesOf {
    /// Whose.
    pub agent: AgentId,
    /// Which of them.
    pub which: Which,
    /// Leaving out the newest so many.
    pub offset: u32,
    /// At most so many, and never more than 50.
    pub limit: u32,
}

/// Which notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those not marked as read.
    Unread,
}

impl Marketplace {
    fn notice_parts(&self) -> Result<&NoticeParts, Rejection> {
        self.inner.notices.as_ref().ok_or(Rejection::NotOffered { what: "notices" })
    }

    /// An agent's subscriptions; those for single jobs are apart.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn endpoints(&self, agent: AgentId) -> Result<Vec<Arc<Endpoint>>, Error> {
        self.endpoints_of(&*self.inner.store, 0, agent.0).await
    }

    /// The subscriptions of a job's parties for this job only (JP-34).
    ///
    /// # Errors
    /// The store's failure.
    pub async fn job_endpoints(&self, job: JobId) -> Result<Vec<Arc<Endpoint>>, Error> {
        self.endpoints_of(&*self.inner.store, 1, job.0).await
    }

    /// What was sent, or is to be, and how it went.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn deliveries(&self, of: DeliveriesOf) -> Result<Vec<Arc<Delivery>>, Error> {
        let DeliveriesOf { of, states, offset, limit } = of;
        let party = match of {
            Receiver::Endpoint(endpoint) => (0, endpoint.0),
            Receiver::Agent(agent) => (1, agent.0),
        };
        self.listed(&*self.inner.store, party, states, offset, limit.min(PAGE)).await
    }

    /// What an agent was told.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn notices(&self, of: NoticesOf) -> Result<Vec<Arc<Notice>>, Error> {
        let NoticesOf { agent, which, offset, limit } = of;
        let statuses = match which {
            Which::All => Vec::new(),
            Which::Unread => vec!["unread"],
        };
        self.listed(&*self.inner.store, (0, agent.0), statuses, offset, limit.min(PAGE)).await
    }

    /// How many notices an agent has not marked as read, counted up to 1000.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn unread(&self, agent: AgentId) -> Result<u32, Error> {
        let query = Query {
            kind: Kind::Notice,
            party: Some((0, agent.0)),
            statuses: vec!["unread"],
            before: None,
            offset: 0,
            limit: COUNTED,
        };
        Ok(self.inner.store.count(self.inner.market, &query).await?)
    }

    async fn endpoints_of(&self, journal: &dyn Journal, place: usize, id: Uuid) -> Result<Vec<Arc<Endpoint>>, Error> {
        self.listed(journal, (place, id), vec!["active", "paused", "disabled"], 0, 2 * PAGE).await
    }

    async fn listed<T: OfKind>(
        &self,
        journal: &dyn Journal,
        party: (usize, Uuid),
        statuses: Vec<&'static str>,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<Arc<T>>, Error> {
        let query = Query { kind: T::KIND, party: Some(party), statuses, before: None, offset, limit };
        let found = journal.find(self.inner.market, &query).await?;
        Ok(found.into_iter().filter_map(|stored| T::of(stored.record)).collect())
    }

    /// Carries out a command to a subscription; `None` makes one.
    async fn command_endpoint(
        &self,
        id: Option<EndpointId>,
        command: EndpointCommand,
        call: Call<'_>,
    ) -> Result<Subscribed, Error> {
        self.command_endpoint_since(id, command, call, None).await
    }

    /// The same, as of a moment in the past: what happened since then reaches the subscription.
    async fn command_endpoint_since(
        &self,
        id: Option<EndpointId>,
        command: EndpointCommand,
        call: Call<'_>,
        since: Option<Timestamp>,
    ) -> Result<Subscribed, Error> {
        let parts = self.notice_parts()?;
        let mut operation = Endpoints { id, command: command.clone(), since, decided: None };
        let endpoint: Arc<Endpoint> = self.transact(call, &(id, &command), &mut operation).await?;
        // What was answered before, under the same key, is answered without the secret.
        let fresh = operation.decided.is_some_and(|decided| decided == *endpoint);
        let shows = matches!(command, EndpointCommand::Add { .. } | EndpointCommand::Rotate | EndpointCommand::Reveal);
        let secret = (fresh && shows).then(|| parts.secret(endpoint.id, endpoint.rotations));
        Ok(Subscribed { endpoint, secret })
    }

    fn webhooks(&self) -> Result<Arc<crate::policy::Policy>, Rejection> {
        let policy = self.policy().1;
        match policy.webhooks {
            Some(_) => Ok(policy),
            None => Err(Rejection::NotOffered { what: "webhooks" }),
        }
    }

    /// The endpoint that follows from an agent's profile.
    fn profile_endpoint(&self, agent: AgentId) -> EndpointId {
        EndpointId(derive(Place::At(Timestamp::UNIX_EPOCH), &[b"profile", agent.0.as_bytes()]))
    }
}

/// A command to a subscription on its way.
struct Endpoints {
    id: Option<EndpointId>,
    command: EndpointCommand,
    since: Option<Timestamp>,
    decided: Option<Endpoint>,
}

#[async_trait]
impl Operation for Endpoints {
    fn name(&self) -> &'static str {
        self.command.name()
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        self.decided = None;
        let policy = on.market.webhooks()?;
        let Some(webhooks) = &policy.webhooks else { return Err(Rejection::NotOffered { what: "webhooks" }.into()) };
        on.market.authorize(on.actor, self.command.name(), None)?;
        let before = match self.id {
            Some(id) => Some(on.load::<Endpoint>("endpoint", id.0).await?),
            None => None,
        };
        let (mut agent, mut count, mut party) = (before.as_ref().map(|(endpoint, _)| endpoint.agent), 0, Party::No);
        if let EndpointCommand::Add { id, target, .. } = &mut self.command {
            if id.0.is_nil() {
                *id = EndpointId(on.fresh());
            }
            agent = Some(target.agent);
            let known = match target.job {
                None => on.market.endpoints_of(on.journal, 0, target.agent.0).await?,
                Some(job) => on.market.endpoints_of(on.journal, 1, job.0).await?,
            };
            count = known.iter().filter(|endpoint| endpoint.agent == target.agent).count();
            if let Some(job) = target.job
                && let Some((job, _)) = on.find::<Job>(job.0).await?
                && (job.buyer == target.agent || job.worker == Some(target.agent))
            {
                party = Party::Yes;
            }
        }
        let owner = match agent {
            Some(agent) => owner_of(on, agent).await?,
            None => None,
        };
        let now = self.since.unwrap_or(on.now);
        let context = Context { now, actor: on.actor, policy: webhooks, owner, count, party };
        let endpoint = before.as_ref().map(|(endpoint, _)| &**endpoint);
        let decision = decide(endpoint, &self.command, &context)?;
        let version = before.as_ref().map_or(0, |(_, version)| *version);
        let mut commit = on.commit(decision.endpoint.key(), version);
        self.decided = Some(decision.endpoint.clone());
        commit.write(decision.endpoint, version, on.actor, decision.events);
        Ok(commit)
    }
}

async fn owner_of(on: &Attempt<'_>, agent: AgentId) -> Result<Option<OwnerId>, Error> {
    Ok(on.find::<Agent>(agent.0).await?.map(|(agent, _)| agent.owner))
}

/// Whether the actor may do something with what is this agent's.
async fn may(on: &Attempt<'_>, command: &'static str, agent: AgentId) -> Result<(), Error> {
    let theirs = on.market.theirs(on.journal, on.actor, &[agent]).await?;
    Ok(on.market.may(command, !theirs.is_empty(), "the agent, its owner or an operator", on.actor)?)
}

/// Sends a `webhook.ping` to a subscription (PG-13).
struct Test(EndpointId);

#[async_trait]
impl Operation for Test {
    fn name(&self) -> &'static str {
        "test_endpoint"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let policy = on.market.webhooks()?;
        let (endpoint, version) = on.load::<Endpoint>("endpoint", self.0.0).await?;
        may(on, self.name(), endpoint.agent).await?;
        if endpoint.state != EndpointState::Active {
            return Err(Rejection::WrongEndpoint { command: self.name(), state: endpoint.state.as_str() }.into());
        }
        let Some(webhooks) = &policy.webhooks else { return Err(Rejection::NotOffered { what: "webhooks" }.into()) };
        let delivery = Delivery {
            id: DeliveryId(on.fresh()),
            endpoint: endpoint.id,
            agent: endpoint.agent,
            event: PING.into(),
            body: envelop(&webhooks.envelope, PING, on.now, &serde_json::json!({})),
            state: DeliveryState::Pending { next_at: on.now },
            tries: 0,
            log: Vec::new(),
            answer: String::new(),
            made_at: on.now,
        };
        let mut commit = on.commit(delivery.key(), 0);
        commit.write_silently(delivery, 0);
        commit.guards.push((endpoint.key(), version));
        Ok(commit)
    }
}

/// Sends a delivery once more (PG-13).
struct Replay(DeliveryId);

#[async_trait]
impl Operation for Replay {
    fn name(&self) -> &'static str {
        "replay_delivery"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let (delivery, version) = on.load::<Delivery>("delivery", self.0.0).await?;
        may(on, self.name(), delivery.agent).await?;
        let mut commit = on.commit(delivery.key(), version);
        commit.write_silently(delivery.replay(on.now)?, version);
        Ok(commit)
    }
}

/// Marks a notice as read (VP-32).
struct Mark(NoticeId);

#[async_trait]
impl Operation for Mark {
    fn name(&self) -> &'static str {
        "mark_notice"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let (notice, version) = on.load::<Notice>("notice", self.0.0).await?;
        may(on, self.name(), notice.agent).await?;
        let mut commit = on.commit(notice.key(), version);
        commit.write_silently(notice.read(on.now), version);
        Ok(commit)
    }
}

impl Notice {
    /// The notice, marked as read; when it was first.
    fn read(&self, now: Timestamp) -> Self {
        Self { read_at: self.read_at.or(Some(now)), ..self.clone() }
    }
}

impl Endpoint {
    /// What may be shown of its address: all of it, or its last characters only (AM-10).
    pub fn shown(&self, policy: &WebhookPolicy) -> String {
        const LAST: usize = 10;
        match policy.shown {
            crate::policy::ShownUrl::Full => self.url.clone(),
            crate::policy::ShownUrl::Masked => {
                let start = self.url.char_indices().rev().nth(LAST - 1).map_or(0, |(at, _)| at);
                format!("...{}", &self.url[start..])
            }
        }
    }
}

/// A key of a record of this kind.
fn key<T: OfKind>(id: Uuid) -> Key {
    Key { kind: T::KIND, id }
}
