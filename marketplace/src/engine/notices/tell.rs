//! From the event log to notices and deliveries.
//!
//! One named reader goes through the log, any number of processes at once. What an event tells has ids
//! that follow from the event, the receiver and the address, so whoever comes second writes nothing; the
//! reader moves on only when everything is written. An event is told to the addresses that were there
//! when it happened and are there now.
//!
//! Whom a posted task concerns may be everybody. They are gone through by capability, newest first, a few
//! pages a round; how far that is, is written down beside the reader's own place, which waits meanwhile.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    actor::Actor,
    agent::{Agent, AgentStatus},
    clock::Timestamp,
    engine::{Marketplace, command::Call},
    error::Error,
    ids::{AgentId, DeliveryId, EndpointId, JobId, NoticeId, Place, derive},
    job::Job,
    notice::{
        Beside, ClientView, Delivery, DeliveryState, Endpoint, EndpointCommand, EndpointEvent, EndpointState, Facts,
        Notice, Target, Told, compose, envelop, job_of, rows,
    },
    policy::{Envelope, Recipient, Root, WebhookPolicy},
    store::{
        Commit, CommitError, EventBody, Kind, LoggedEvent, OfKind as _, Position, Query, Record, StoreError,
        StoreErrorKind, Tagged,
    },
};

/// The reader's name.
pub(super) const READER: &str = "notices";
/// How many events one round reads.
const EVENTS: u32 = 64;
/// How many agents are told in one commit.
const TOLD: usize = 32;
/// How far the agents of a posted task were gone through.
const CALLED: &str = "notices/called";
/// How many agents are looked at in one page.
const AGENTS: u32 = 128;
/// How many such pages one round looks at.
const PAGES: usize = 4;
/// How many held deliveries are taken up in one commit.
const HELD: u32 = 64;

/// The addresses of an agent, or of one job of its, as they were looked up for one round.
type Known = HashMap<(usize, Uuid), Vec<Arc<Endpoint>>>;

/// A place among the agents that one event concerns.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Called {
    /// The event.
    position: Position,
    /// Which of the capabilities it asks for; their number once all were gone through.
    capability: usize,
    /// The last agent of it that was looked at.
    before: Option<Uuid>,
}

impl Marketplace {
    /// Tells what happened since the last time; how many events were read, counting one that not everybody
    /// has been told of yet.
    pub(in crate::engine) async fn tell(&self) -> Result<usize, Error> {
        if self.inner.notices.is_none() {
            return Ok(0);
        }
        let policy = self.policy().1;
        let Some(webhooks) = &policy.webhooks else { return Ok(0) };
        let mut reader = self.subscribe(READER).await?;
        let events = reader.next(EVENTS).await?;
        let (mut known, mut count) = (Known::new(), 0_usize);
        for logged in &events {
            self.follow_subscriptions(logged, &mut known).await?;
            let told = self.told_of(logged, webhooks, &[]).await?;
            self.write_told(logged.position, &told, &webhooks.envelope, &mut known).await?;
            if calls(logged, webhooks) && !self.call(logged, webhooks, &mut known).await? {
                if let Some(last) = count.checked_sub(1) {
                    reader.acknowledge_up_to(events[last].position).await?;
                }
                return Ok(count + 1);
            }
            count += 1;
        }
        if !events.is_empty() {
            // Another process that was faster has told the same.
            reader.acknowledge().await?;
        }
        Ok(events.len())
    }

    /// What an event tells, by the policy's table, to those that it names and to `capable` agents where it
    /// asks for such.
    pub(super) async fn told_of(
        &self,
        logged: &LoggedEvent,
        webhooks: &WebhookPolicy,
        capable: &[AgentId],
    ) -> Result<Vec<Told>, Error> {
        let event = &logged.event;
        let rules: Vec<_> = rows(&webhooks.events, event.body.name()).collect();
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        let record = self.inner.store.load(self.inner.market, event.subject).await?.map(|stored| stored.record);
        let job = self.job_about(record.as_ref()).await?;
        let reads = |root| rules.iter().any(|(_, rule)| rule.reads(root));
        let mut beside = Beside::default();
        if let Some(job) = &job {
            if reads(Root::Task) {
                beside.task = Some(self.task(job.id).await?);
            }
            if reads(Root::Client) {
                let buyer = self.standing(job.buyer).await?;
                beside.client = Some(ClientView::of(buyer.client, buyer.score, buyer.restricted));
            }
        }
        let facts = Facts::new(event, record.as_ref(), job.as_deref(), beside);
        Ok(rules.into_iter().flat_map(|(row, rule)| compose(row, rule, &facts, capable)).collect())
    }

    /// The job that a record is about.
    async fn job_about(&self, record: Option<&Record>) -> Result<Option<Arc<Job>>, Error> {
        Ok(match (record, record.and_then(job_of)) {
            (Some(Record::Job(job)), _) => Some(job.clone()),
            (_, Some(job)) => {
                let found = self.inner.store.load(self.inner.market, super::key::<Job>(job.0)).await?;
                found.and_then(|stored| Job::of(stored.record))
            }
            (_, None) => None,
        })
    }

    /// What an event that calls for capable agents tells one agent; nothing if it is not one of them (AM-10).
    pub(super) async fn called(&self, logged: &LoggedEvent, agent: AgentId) -> Result<Vec<Told>, Error> {
        let policy = self.policy().1;
        let (store, market) = (&self.inner.store, self.inner.market);
        let Some(webhooks) = &policy.webhooks else { return Ok(Vec::new()) };
        let known = store.load(market, super::key::<Agent>(agent.0)).await?.and_then(|s| Agent::of(s.record));
        let record = store.load(market, logged.event.subject).await?.map(|stored| stored.record);
        let (Some(agent), Some(job)) = (known, self.job_about(record.as_ref()).await?) else { return Ok(Vec::new()) };
        let wanted = required(&job);
        if job.buyer == agent.id || !agent.tags().iter().any(|tag| wanted.iter().any(|one| *tag == Agent::tag(one))) {
            return Ok(Vec::new());
        }
        let mut told = self.told_of(logged, webhooks, &[agent.id]).await?;
        told.retain(|told| told.agent == agent.id);
        Ok(told)
    }

    /// Tells the next of the active agents that can do some of what a job asks for (AM-10); whether those
    /// were the last.
    async fn call(&self, logged: &LoggedEvent, webhooks: &WebhookPolicy, known: &mut Known) -> Result<bool, Error> {
        let (store, market) = (&self.inner.store, self.inner.market);
        let record = store.load(market, logged.event.subject).await?.map(|stored| stored.record);
        let Some(job) = self.job_about(record.as_ref()).await? else { return Ok(true) };
        let wanted = required(&job);
        let stands = store.cursor(market, CALLED).await?;
        let place: Option<Called> = stands.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut at = match place {
            // Another process was faster.
            Some(place) if place.position > logged.position => return Ok(true),
            Some(place) if place.position == logged.position => place,
            _ => Called { position: logged.position, capability: 0, before: None },
        };
        for _ in 0..PAGES {
            let Some(capability) = wanted.get(at.capability) else { break };
            let tag = Agent::tag(capability);
            let query = Tagged { kind: Kind::Agent, tag, before: at.before, offset: 0, limit: AGENTS };
            let page = store.tagged(market, &query).await?;
            let earlier = &wanted[..at.capability];
            at = match page.last() {
                Some(last) if page.len() == AGENTS as usize => Called { before: Some(last.record.key().id), ..at },
                _ => Called { capability: at.capability + 1, before: None, ..at },
            };
            let told_before = |agent: &Agent| agent.profile.capabilities.iter().any(|can| earlier.contains(can));
            let agents = page.into_iter().filter_map(|stored| Agent::of(stored.record));
            let fits = |agent: &Arc<Agent>| agent.id != job.buyer && !told_before(agent);
            let agents: Vec<AgentId> = agents.filter(fits).map(|agent| agent.id).collect();
            let mut told = self.told_of(logged, webhooks, &agents).await?;
            told.retain(|told| agents.contains(&told.agent));
            self.write_told(logged.position, &told, &webhooks.envelope, known).await?;
        }
        let text = serde_json::to_string(&at).map_err(|e| {
            StoreError::new(StoreErrorKind::Corrupt, "a place among agents cannot be written").caused_by(e)
        })?;
        let moved = store.move_cursor(market, CALLED, stands.as_deref(), &text).await?;
        Ok(moved && at.capability >= wanted.len())
    }

    /// Writes what agents are told of one event. What was written before is left as it is.
    async fn write_told(
        &self,
        position: Position,
        told: &[Told],
        envelope: &Envelope,
        known: &mut Known,
    ) -> Result<(), Error> {
        for told in told.chunks(TOLD) {
            self.write_some(position, told, envelope, known).await?;
        }
        Ok(())
    }

    async fn write_some(
        &self,
        position: Position,
        told: &[Told],
        envelope: &Envelope,
        known: &mut Known,
    ) -> Result<(), Error> {
        let now = self.now();
        let mut records: Vec<Record> = Vec::new();
        for told in told {
            let notice = notice(position, told);
            for endpoint in self.addresses(told.agent, told.job, known).await? {
                if let Some(delivery) = delivery(&notice, &endpoint, envelope, now) {
                    records.push(delivery.into());
                }
            }
            records.push(notice.into());
        }
        let Some(first) = records.first() else { return Ok(()) };
        let mut commit = Commit::new(self.inner.market, now, first.key(), 0);
        records.iter().for_each(|record| commit.write_silently(record.clone(), 0));
        if self.written(commit).await? {
            return Ok(());
        }
        // Some of it was written before, perhaps when there were other addresses: each for itself.
        for record in records {
            let mut commit = Commit::new(self.inner.market, now, record.key(), 0);
            commit.write_silently(record, 0);
            self.written(commit).await?;
        }
        Ok(())
    }

    /// Writes a commit unless some of it was written before; whether it did.
    async fn written(&self, commit: Commit) -> Result<bool, Error> {
        match self.inner.store.commit(commit).await {
            Ok(()) => {
                self.inner.committed.notify_waiters();
                Ok(true)
            }
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(unwritten(error).into()),
        }
    }

    /// Where an agent is told something: at the addresses for this job, or else at its own (JP-34).
    async fn addresses(
        &self,
        agent: AgentId,
        job: Option<JobId>,
        known: &mut Known,
    ) -> Result<Vec<Arc<Endpoint>>, Error> {
        if let Some(job) = job {
            let of_job = self.known((1, job.0), known).await?;
            let own: Vec<_> = of_job.into_iter().filter(|endpoint| endpoint.agent == agent).collect();
            if !own.is_empty() {
                return Ok(own);
            }
        }
        self.known((0, agent.0), known).await
    }

    async fn known(&self, party: (usize, Uuid), known: &mut Known) -> Result<Vec<Arc<Endpoint>>, Error> {
        if let Some(found) = known.get(&party) {
            return Ok(found.clone());
        }
        let found = self.endpoints_of(&*self.inner.store, party.0, party.1).await?;
        known.insert(party, found.clone());
        Ok(found)
    }

    /// What an event means for subscriptions themselves: an agent's profile names an address, or one is
    /// sent to again.
    async fn follow_subscriptions(&self, logged: &LoggedEvent, known: &mut Known) -> Result<(), Error> {
        match &logged.event.body {
            EventBody::Agent(_) => {
                known.remove(&(0, logged.event.subject.id));
                self.follow_profile(AgentId(logged.event.subject.id), logged.event.at).await
            }
            EventBody::Endpoint(event) => {
                known.clear();
                match event {
                    EndpointEvent::Resumed {} => self.take_up(EndpointId(logged.event.subject.id)).await,
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Has the subscription that follows from an agent's profile lead where the profile says.
    async fn follow_profile(&self, agent: AgentId, since: Timestamp) -> Result<(), Error> {
        let (store, market) = (&self.inner.store, self.inner.market);
        let Some(agent) = store.load(market, super::key::<Agent>(agent.0)).await?.and_then(|s| Agent::of(s.record))
        else {
            return Ok(());
        };
        let id = self.profile_endpoint(agent.id);
        let endpoint = store.load(market, super::key::<Endpoint>(id.0)).await?.and_then(|s| Endpoint::of(s.record));
        let url = agent.profile.webhook.clone().filter(|_| agent.status != AgentStatus::Deleted);
        let (on, command) = match (endpoint, url) {
            (None, None) => return Ok(()),
            (None, Some(url)) => {
                let target = Target { agent: agent.id, job: None };
                (None, EndpointCommand::Add { id, target, url, events: Vec::new() })
            }
            (Some(endpoint), Some(url)) if endpoint.url == url => {
                return Ok(());
            }
            (Some(_), Some(url)) => (Some(id), EndpointCommand::Change { url: Some(url), events: None }),
            (Some(endpoint), None) if endpoint.state == EndpointState::Removed => return Ok(()),
            (Some(_), None) => (Some(id), EndpointCommand::Remove),
        };
        match self.command_endpoint_since(on, command, Call::by(&Actor::Timer), Some(since)).await {
            Ok(_) | Err(Error::Rejected(_)) => Ok(()), // the agent has as many as it may, or another process was faster
            Err(error) => Err(error),
        }
    }

    /// Sends what was held for a subscription.
    async fn take_up(&self, endpoint: EndpointId) -> Result<(), Error> {
        loop {
            let (party, statuses) = (Some((0, endpoint.0)), vec!["held"]);
            let query = Query { kind: Kind::Delivery, party, statuses, before: None, offset: 0, limit: HELD };
            let held = self.inner.store.find(self.inner.market, &query).await?;
            let Some(first) = held.first() else { return Ok(()) };
            let now = self.now();
            let mut commit = Commit::new(self.inner.market, now, first.record.key(), first.version);
            for stored in held {
                if let Some(Ok(delivery)) = Delivery::of(stored.record).map(|delivery| delivery.replay(now)) {
                    commit.write_silently(delivery, stored.version);
                }
            }
            self.written(commit).await?;
        }
    }
}

/// Whether an event is told to every agent that can do some of what its job asks for.
pub(super) fn calls(logged: &LoggedEvent, webhooks: &WebhookPolicy) -> bool {
    rows(&webhooks.events, logged.event.body.name()).any(|(_, rule)| rule.to.contains(&Recipient::Capable))
}

/// What a job asks its worker to be able to do.
fn required(job: &Job) -> &[String] {
    job.open.as_ref().map_or(&[], |open| &open.requires)
}

/// What an agent is told, as it is kept.
pub(super) fn notice(position: Position, told: &Told) -> Notice {
    let (epoch, number, row) = (position.epoch.to_be_bytes(), position.number.to_be_bytes(), told.row.to_be_bytes());
    Notice {
        id: NoticeId(derive(Place::At(told.at), &[b"notice", &epoch, &number, &row, told.agent.0.as_bytes()])),
        agent: told.agent,
        job: told.job,
        event: told.event.clone(),
        payload: told.payload.clone(),
        at: told.at,
        read_at: None,
    }
}

/// A notice on its way to one address, if that wants it.
fn delivery(notice: &Notice, endpoint: &Endpoint, envelope: &Envelope, now: Timestamp) -> Option<Delivery> {
    let state = match endpoint.state {
        EndpointState::Active => DeliveryState::Pending { next_at: now },
        EndpointState::Paused => DeliveryState::Held,
        EndpointState::Disabled { .. } | EndpointState::Removed => return None,
    };
    (endpoint.wants(&notice.event) && notice.at >= endpoint.added_at).then(|| Delivery {
        id: DeliveryId(derive(Place::At(notice.at), &[b"delivery", notice.id.0.as_bytes(), endpoint.id.0.as_bytes()])),
        endpoint: endpoint.id,
        agent: endpoint.agent,
        event: notice.event.clone(),
        body: envelop(envelope, &notice.event, notice.at, &notice.payload),
        state,
        tries: 0,
        log: Vec::new(),
        answer: String::new(),
        made_at: now,
    })
}

/// A commit without money and without a key fails in the store or not at all.
pub(super) fn unwritten(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        other => StoreError::new(StoreErrorKind::Corrupt, format!("a notice was refused: {other:?}")),
    }
}
