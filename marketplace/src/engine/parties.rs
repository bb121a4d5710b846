//! The agents between whom a contract begins: what is known of them, and that it stays so until the
//! commit.
//!
//! Where a tier limits how many jobs its agents work on at once (VP-42), they are counted, and the commit
//! writes the worker's own record anew: of two jobs that are begun at once, one is decided after the
//! other. Where agents are the embedder's own there is no such record, and jobs begun in the same moment
//! may pass the limit.

use std::{borrow::Cow, sync::Arc};

use super::Marketplace;
use crate::{
    actor::Actor,
    agent::{Agent, AgentStatus},
    error::{Error, Rejection},
    ids::AgentId,
    job::{Candidate, Job, JobCommand, JobStatus},
    policy::{Acceptance, Policy},
    store::{Commit, Journal, Kept as _, Kind, Query},
};

/// The statuses of a job that somebody works on.
const WORKING: [JobStatus; 7] = [
    JobStatus::Accepted,
    JobStatus::InProgress,
    JobStatus::Validating,
    JobStatus::Delivered,
    JobStatus::RevisionRequested,
    JobStatus::Disputed,
    JobStatus::Frozen,
];

/// Whom a command brings together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beginning {
    /// Who must be active for it.
    pub(super) agents: [Option<AgentId>; 2],
    /// Who becomes the worker, or wants to.
    pub(super) worker: Option<AgentId>,
    /// Whether the worker has the job by it.
    pub(super) takes_on: bool,
}

impl Beginning {
    /// Whom a command to a job brings together.
    pub(super) fn of(job: Option<&Job>, command: &JobCommand, actor: &Actor, policy: &Policy) -> Self {
        match command {
            JobCommand::Post { order, .. } => Self {
                agents: [actor.agent(), order.worker],
                worker: order.worker,
                takes_on: policy.jobs.acceptance == Acceptance::Automatic,
            },
            JobCommand::Hire { hire, .. } => {
                Self { agents: [actor.agent(), Some(hire.worker)], worker: Some(hire.worker), takes_on: true }
            }
            JobCommand::Accept => Self {
                agents: [actor.agent(), None],
                worker: job.and_then(|job| job.worker).or(actor.agent()),
                takes_on: true,
            },
            _ => Self::default(),
        }
    }
}

/// The agents of a [`Beginning`], as they are now.
#[derive(Debug)]
pub(super) struct Parties<'a> {
    /// None where agents are the embedder's own.
    agents: Vec<(Arc<Agent>, u64)>,
    worker: Option<AgentId>,
    tier: Cow<'a, str>,
    active_jobs: u32,
    /// Whether the worker's jobs were counted.
    counted: bool,
}

impl Parties<'_> {
    pub(super) fn candidate(&self) -> Candidate<'_> {
        let worker = self.agents.iter().find(|(agent, _)| Some(agent.id) == self.worker);
        let capabilities = worker.map(|(agent, _)| agent.profile.capabilities.as_slice());
        Candidate { tier: &self.tier, active_jobs: self.active_jobs, capabilities }
    }

    /// Makes the commit a conflict if anything about them changes before.
    pub(super) fn guard(&self, commit: &mut Commit) {
        for (agent, version) in &self.agents {
            match self.counted && Some(agent.id) == self.worker {
                true => commit.write_silently(agent.clone(), *version),
                false => commit.guards.push((agent.key(), *version)),
            }
        }
    }
}

impl Marketplace {
    /// Looks up whom a command brings together: active agents, where they are kept here.
    pub(super) async fn parties<'a>(
        &self,
        journal: &dyn Journal,
        command: &'static str,
        beginning: Beginning,
        policy: &'a Policy,
    ) -> Result<Parties<'a>, Error> {
        let Beginning { agents: ids, worker, takes_on } = beginning;
        let mut agents = Vec::new();
        for id in ids.into_iter().flatten().filter(|_| self.inner.agents.is_some()) {
            let (agent, version) = self.load_agent(journal, id).await?;
            if agent.status != AgentStatus::Active {
                let (status, allowed) = (agent.status, vec![AgentStatus::Active]);
                return Err(Rejection::WrongAgentStatus { command, agent: id, status, allowed }.into());
            }
            agents.push((agent, version));
        }
        let known = match worker {
            Some(worker) => self.tier_of(worker, policy).await?,
            None => None,
        };
        let tier = known.map_or_else(|| Cow::Borrowed(policy.initial_tier()), Cow::Owned);
        let limit = policy.trust.tiers.iter().find(|known| known.name == tier).and_then(|tier| tier.active_jobs_max);
        let active_jobs = match (worker, limit) {
            (Some(worker), Some(limit)) if takes_on => self.active_jobs(journal, worker, limit).await?,
            _ => 0,
        };
        Ok(Parties { agents, worker, tier, active_jobs, counted: takes_on && limit.is_some() })
    }

    /// How many jobs an agent works on, counted up to a limit.
    async fn active_jobs(&self, journal: &dyn Journal, worker: AgentId, limit: u32) -> Result<u32, Error> {
        let statuses = WORKING.map(JobStatus::as_str).into();
        let query = Query { kind: Kind::Job, party: Some((1, worker.0)), statuses, before: None, offset: 0, limit };
        Ok(journal.count(self.inner.market, &query).await?)
    }
}
