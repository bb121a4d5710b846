//! From the event log to notices and deliveries.
//!
//! One named reader goes through the log, any number of processes at once. What an event tells has ids
//! that follow from the event, the receiver and the address, so whoever comes second writes nothing; the
//! reader moves on only when everything is written. An event is told to the addresses that were there
//! when it happened and are there now.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    actor::Actor,
    agent::{Agent, AgentStatus},
    clock::Timestamp,
    engine::{Marketplace, Standing, command::Call},
    error::Error,
    ids::{AgentId, DeliveryId, EndpointId, JobId, NoticeId, Place, derive},
    job::Job,
    notice::{
        Delivery, DeliveryState, Endpoint, EndpointCommand, EndpointEvent, EndpointState, Facts, Notice, Target, Told,
        compose, envelop, rows,
    },
    policy::{Envelope, Recipient, Root, WebhookPolicy},
    store::{Commit, CommitError, EventBody, Kind, LoggedEvent, OfKind as _, Position, Query, Record, StoreError},
};

/// The reader's name.
pub(super) const READER: &str = "notices";
/// How many events one round reads.
const EVENTS: u32 = 64;
/// How many agents are told in one commit.
const TOLD: usize = 32;
/// How many agents are looked at in one page.
const AGENTS: u32 = 500;
/// How many held deliveries are taken up in one commit.
const HELD: u32 = 64;

/// The addresses of an agent, or of one job of its, as they were looked up for one round.
type Known = HashMap<(usize, Uuid), Vec<Arc<Endpoint>>>;

impl Marketplace {
    /// Tells what happened since the last time; how many events were read.
    pub(in crate::engine) async fn tell(&self) -> Result<usize, Error> {
        if self.inner.notices.is_none() {
            return Ok(0);
        }
        let policy = self.policy().1;
        let Some(webhooks) = &policy.webhooks else { return Ok(0) };
        let mut reader = self.subscribe(READER).await?;
        let events = reader.next(EVENTS).await?;
        let mut known = Known::new();
        for logged in &events {
            self.follow_subscriptions(logged, &mut known).await?;
            let told = self.told_of(logged, webhooks).await?;
            for told in told.chunks(TOLD) {
                self.write_told(logged.position, told, &webhooks.envelope, &mut known).await?;
            }
        }
        if !events.is_empty() {
            // Another process that was faster has told the same.
            reader.acknowledge().await?;
        }
        Ok(events.len())
    }

    /// What an event tells, by the policy's table.
    pub(super) async fn told_of(&self, logged: &LoggedEvent, webhooks: &WebhookPolicy) -> Result<Vec<Told>, Error> {
        let event = &logged.event;
        let rules: Vec<_> = rows(&webhooks.events, event.body.name()).collect();
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        let (store, market) = (&self.inner.store, self.inner.market);
        let record = store.load(market, event.subject).await?.map(|stored| stored.record);
        let job = match &record {
            Some(Record::Job(job)) => Some(job.clone()),
            _ => match job_of(&event.body) {
                Some(job) => store.load(market, super::key::<Job>(job.0)).await?.and_then(|s| Job::of(s.record)),
                None => None,
            },
        };
        let capable_wanted = rules.iter().any(|(_, rule)| rule.to.contains(&Recipient::Capable));
        let task = match &job {
            Some(job) if capable_wanted || rules.iter().any(|(_, rule)| rule.reads(Root::Task)) => {
                Some(self.task(job.id).await?)
            }
            _ => None,
        };
        let client = match &job {
            Some(job) if rules.iter().any(|(_, rule)| rule.reads(Root::Client)) => {
                Some(client(&self.standing(job.buyer).await?))
            }
            _ => None,
        };
        let facts = Facts::new(event, record.as_ref(), job.as_deref(), task, client);
        let capable = match capable_wanted {
            true => self.capable(&facts).await?,
            false => Vec::new(),
        };
        Ok(rules.into_iter().flat_map(|(row, rule)| compose(row, rule, &facts, &capable)).collect())
    }

    /// The active agents that can do some of what the job asks for, all of them looked through.
    async fn capable(&self, facts: &Facts<'_>) -> Result<Vec<AgentId>, Error> {
        let wanted = facts.required_capabilities();
        let mut found = Vec::new();
        let mut query = Query { kind: Kind::Agent, party: None, statuses: vec!["active"], offset: 0, limit: AGENTS };
        loop {
            let page = self.inner.store.find(self.inner.market, &query).await?;
            if wanted.is_empty() || page.is_empty() {
                return Ok(found);
            }
            query.offset += AGENTS;
            let fits = |agent: &Arc<Agent>| agent.profile.capabilities.iter().any(|can| wanted.contains(can));
            let agents = page.into_iter().filter_map(|stored| Agent::of(stored.record)).filter(fits);
            found.extend(agents.map(|agent| agent.id).filter(|agent| Some(*agent) != facts.buyer()));
        }
    }

    /// Writes what agents are told of one event. What was written before is left as it is.
    async fn write_told(
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
        let found = self.endpoints_of(party.0, party.1).await?;
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
            let query = Query { kind: Kind::Delivery, party, statuses, offset: 0, limit: HELD };
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

/// The job that an event of another record names.
fn job_of(body: &EventBody) -> Option<JobId> {
    serde_json::to_value(body).ok()?.get("job")?.as_str()?.parse().ok()
}

/// A commit without money and without a key fails in the store or not at all.
pub(super) fn unwritten(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        other => StoreError::new(crate::store::StoreErrorKind::Corrupt, format!("a notice was refused: {other:?}")),
    }
}

/// What a buyer is like to work for, as a notice says it (JP-33).
fn client(standing: &Standing) -> Value {
    json!({
        "score": standing.score,
        "disputes_filed": standing.client.filed,
        "dispute_rate": standing.client.dispute_rate().round_dp(4).normalize(),
        "jobs_completed": standing.client.completed,
        "restricted": standing.restricted,
    })
}
