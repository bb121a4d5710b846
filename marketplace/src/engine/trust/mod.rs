//! Trust in the engine: a reader of the log that keeps every agent's score.
//!
//! # Protocol
//!
//! 1. A named reader goes through the log in its order. An event that says something about agents becomes
//!    facts, from the log alone: the job's own events up to that one, never what the job is by now. That is
//!    why the log gives the same score whenever it is read.
//! 2. A contract counts once its money is divided: at once where the ledger does it, with the rail's
//!    receipt where a rail does. A rating that was given before counts then.
//! 3. Each agent's record remembers the place of the last event that counted. The facts of an event are
//!    committed with that place, guarded by the record's version, so that any number of processes may read
//!    at once and each event counts once. The reader's own place is only where reading goes on.
//! 4. A fact is weighed by the policy that its contract is pinned to.

mod said;

use std::sync::Arc;

use super::{
    Marketplace,
    command::{ATTEMPTS, Call},
    settlement::fenced,
    transact::Attempt,
};
use crate::{
    actor::Actor,
    error::Error,
    ids::AgentId,
    job::Job,
    policy::{Policy, Scoring},
    report::badge,
    store::{Commit, CommitError, Key, Kind, LoggedEvent, OfKind as _, Position},
    trust::{ClientReputation, Fact, Happening, Record, Reputation, Trust, different_owners},
};

/// The name of the reader.
const READER: &str = "trust";
/// How many events one look at the log loads.
const PAGE: u32 = 256;

/// How far an agent is trusted, for everybody to see (VP-10, JP-33).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    /// The agent.
    pub agent: AgentId,
    /// The score, on the newest policy's scale.
    pub score: rust_decimal::Decimal,
    /// The tier of that score (VP-42).
    pub tier: String,
    /// Jobs it worked on that were completed (AM-02).
    pub completed: u64,
    /// Ratings it got.
    pub ratings: u64,
    /// What it is like to work for (JP-33).
    pub client: ClientReputation,
    /// Whether it may not post or dispute for now (JP-14).
    pub restricted: bool,
    /// How many owners' reports are pending against it (JP-29).
    pub reports: usize,
    /// The warning for them, if there is one (JP-29).
    pub badge: Option<String>,
}

impl Marketplace {
    /// How far an agent is trusted now. What happened a moment ago counts once background work has read
    /// it.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn standing(&self, agent: AgentId) -> Result<Standing, Error> {
        let (now, policy) = (self.now(), self.policy().1);
        let trust = self.trust_by(&policy);
        let kept = self.reputation(agent).await?;
        let client = kept.as_ref().map_or_else(ClientReputation::default, |kept| kept.client());
        let record = kept.map_or_else(|| trust.begin(), |kept| kept.record.clone());
        let reports = record.tally.pending_reports(now, policy.reports.as_ref());
        let abuse = policy.disputes.as_ref().and_then(|disputes| disputes.abuse.as_ref());
        Ok(Standing {
            agent,
            score: trust.score(&record, now),
            tier: trust.tier(&record, now).into(),
            completed: record.tally.completed,
            ratings: record.tally.ratings,
            client,
            restricted: abuse.is_some_and(|abuse| client.is_restricted(abuse)),
            reports,
            badge: policy.reports.as_ref().and_then(|policy| badge(policy, reports)).map(Into::into),
        })
    }

    /// How an agent's score came to be, oldest first: its `trust.updated` events, each with its reason
    /// (VP-10).
    ///
    /// # Errors
    /// The store's failure.
    pub async fn trust_history(&self, agent: AgentId) -> Result<Vec<LoggedEvent>, Error> {
        Ok(self.inner.store.events_of(self.inner.market, Key { kind: Kind::Reputation, id: agent.0 }).await?)
    }

    /// What is kept of an agent's trust; `None` while nothing has counted.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn reputation(&self, agent: AgentId) -> Result<Option<Arc<Reputation>>, Error> {
        let stored = self.inner.store.load(self.inner.market, Key { kind: Kind::Reputation, id: agent.0 }).await?;
        Ok(stored.and_then(|stored| Reputation::of(stored.record)))
    }

    /// What the whole log says of an agent, worked out anew: what is kept must be the same. Reads
    /// everything.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn recompute_trust(&self, agent: AgentId) -> Result<Option<Reputation>, Error> {
        let (mut position, mut reputation) = (Position::default(), None);
        loop {
            let events = self.inner.store.events(self.inner.market, position, PAGE).await?;
            let Some(last) = events.last() else { return Ok(reputation) };
            position = last.position;
            for logged in &events {
                let Some(said) = self.said_by(logged).await? else { continue };
                let trust = self.trust_by(&*self.pinned(said.policy).await?);
                let learnt = Reputation::learn(reputation.as_ref(), agent, &said.facts, logged.position, &trust);
                reputation = learnt.map(|(reputation, _)| reputation).or(reputation);
            }
        }
    }

    /// Reads a page on in the log and keeps score; how many events it read.
    ///
    /// # Errors
    /// The store's failure.
    pub(super) async fn keep_trust(&self) -> Result<usize, Error> {
        if !self.scores() {
            return Ok(0);
        }
        let mut reader = self.subscribe(READER).await?;
        let events = reader.next(PAGE).await?;
        for logged in &events {
            let Some(said) = self.said_by(logged).await? else { continue };
            let trust = self.trust_by(&*self.pinned(said.policy).await?);
            for agent in concerned(&said.facts) {
                self.learn(agent, &said.facts, logged.position, &trust).await?;
            }
        }
        if !events.is_empty() {
            reader.acknowledge().await?; // another process that reads, too, may have been faster
        }
        Ok(events.len())
    }

    /// Whether anything in the newest policy asks for scores.
    fn scores(&self) -> bool {
        let policy = self.policy().1;
        let abuse = policy.disputes.as_ref().is_some_and(|disputes| disputes.abuse.is_some());
        policy.trust.scoring != Scoring::Fixed || abuse || policy.reports.is_some()
    }

    async fn learn(&self, agent: AgentId, facts: &[Fact], at: Position, trust: &Trust) -> Result<(), Error> {
        let call = Call::by(&Actor::Timer);
        for _ in 0..ATTEMPTS {
            let on = Attempt::new(self, call);
            let before = on.find::<Reputation>(agent.0).await?;
            let (known, version) = before.as_ref().map_or((None, 0), |(known, version)| (Some(&**known), *version));
            let Some((next, events)) = Reputation::learn(known, agent, facts, at, trust) else { return Ok(()) };
            let mut commit = on.commit(Key { kind: Kind::Reputation, id: agent.0 }, version);
            if !events.is_empty() {
                self.move_agent(&on, &mut commit, &next).await?;
            }
            commit.write(next, version, call.actor, events);
            match self.write(call, commit).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return fenced(error),
            }
        }
        Err(Error::Contention { command: "keep_trust", attempts: ATTEMPTS })
    }

    pub(super) fn trust_by(&self, policy: &Policy) -> Trust {
        match &self.inner.trust_model {
            Some(model) => Trust::with_model(policy, model.clone()),
            None => Trust::of(policy),
        }
    }

    async fn trust_record(&self, agent: AgentId) -> Result<Option<Record>, Error> {
        Ok(self.reputation(agent).await?.map(|kept| kept.record.clone()))
    }

    /// A worker's tier: the embedder's word, or what its score says (VP-42).
    pub(super) async fn tier_of(&self, agent: AgentId, policy: &Policy) -> Result<Option<String>, Error> {
        if let Some(tiers) = &self.inner.tiers {
            let tier = tiers.tier(agent).await;
            return tier.map_err(|reason| Error::Part { part: "the tier source", reason });
        }
        if policy.trust.tiers.len() < 2 {
            return Ok(None);
        }
        let Some(record) = self.trust_record(agent).await? else { return Ok(None) };
        Ok(Some(self.trust_by(policy).tier(&record, self.now()).into()))
    }
}

/// The agents that facts are about.
fn concerned(facts: &[Fact]) -> Vec<AgentId> {
    let mut agents = Vec::new();
    for fact in facts {
        match (fact.happening.contract(), &fact.happening) {
            (Some(contract), _) => agents.extend([contract.buyer.agent, contract.worker.agent]),
            (None, Happening::Reported { target, .. }) => agents.push(target.agent),
            (None, Happening::ReportDismissed { target, .. }) => agents.push(*target),
            (None, Happening::Verified { agent } | Happening::Unverified { agent }) => agents.push(*agent),
            (None, _) => {}
        }
    }
    agents.sort_unstable();
    agents.dedup();
    agents
}

impl Attempt<'_> {
    /// What an agent is like to work for, where the policy restricts who disputes too much: the commit relies on
    /// it, so that of two commands at once one sees what the other did (JP-14).
    pub(super) async fn client(
        &self,
        commit: &mut Commit,
        agent: Option<AgentId>,
        policy: &Policy,
    ) -> Result<ClientReputation, Error> {
        let Some(agent) = agent.filter(|_| restricts(policy)) else { return Ok(ClientReputation::default()) };
        let kept = self.find::<Reputation>(agent.0).await?;
        let version = kept.as_ref().map_or(0, |(_, version)| *version);
        commit.guards.push((Key { kind: Kind::Reputation, id: agent.0 }, version));
        Ok(kept.map_or_else(ClientReputation::default, |(kept, _)| kept.client()))
    }

    /// Counts a dispute that a job's buyer files, in the commit that files it, if it is one that counts: against
    /// another owner's agent.
    pub(super) async fn count_filing(&self, commit: &mut Commit, job: &Job, policy: &Policy) -> Result<(), Error> {
        let Some(worker) = job.worker.filter(|_| restricts(policy)) else { return Ok(()) };
        let (buyer, worker) = (self.market.party(job.buyer).await?, self.market.party(worker).await?);
        if different_owners(&buyer, &worker).is_err() {
            return Ok(());
        }
        let kept = self.find::<Reputation>(job.buyer.0).await?;
        let (known, version) = kept.as_ref().map_or((None, 0), |(known, version)| (Some(&**known), *version));
        let next = Reputation::filing(known, job.buyer, &self.market.trust_by(policy));
        commit.write_silently(next, version);
        Ok(())
    }
}

fn restricts(policy: &Policy) -> bool {
    policy.disputes.as_ref().is_some_and(|disputes| disputes.abuse.is_some())
}
