//! Reads in somebody's name: nobody sees what is not theirs.

use std::sync::Arc;

use serde_json::Value;

use super::{DeliveriesOf, Marketplace, NoticesOf, Receiver, Session};
use crate::{
    actor::Actor,
    agent::Agent,
    dispute::Case,
    error::{Error, Rejection},
    ids::{AgentId, DisputeId, HoldId, JobId},
    notice::{Delivery, Endpoint, Notice},
    rail::Party,
    store::{InstructionRecord, InstructionState, Journal, Key, Kind, LoggedEvent, OfKind as _, Record},
    wallet::{Balances, HistoryLine},
};

const PARTIES: &str = "a party of the contract, its owner or an operator";
const AGENT: &str = "the agent, its owner or an operator";

impl Marketplace {
    /// Those of some agents for whom an actor sees and acts: itself, an owner's own, for an operator all.
    pub(super) async fn theirs(
        &self,
        journal: &dyn Journal,
        actor: &Actor,
        agents: &[AgentId],
    ) -> Result<Vec<AgentId>, Error> {
        let mut theirs = Vec::new();
        for agent in agents {
            let is = match actor {
                Actor::Operator(_) => true,
                Actor::Agent(actor) => actor == agent,
                Actor::Owner(owner) => {
                    let stored = journal.load(self.inner.market, Key { kind: Kind::Agent, id: agent.0 }).await?;
                    stored.and_then(|stored| Agent::of(stored.record)).is_some_and(|agent| agent.owner == *owner)
                }
                Actor::Timer | Actor::Rail(_) => false,
            };
            theirs.extend(is.then_some(*agent));
        }
        Ok(theirs)
    }
}

/// Reads in somebody's name: nobody sees what is not theirs.
///
/// # The contract
///
/// What [`Marketplace`] reads by itself asks nobody who is asking: it is the host's own, which shows it to whom
/// it likes. What a host passes on to an agent or an owner it reads here, in their name, as it gives commands in
/// their name. A read of the same name answers the same, to those whose it is:
///
/// | what | whose |
/// |---|---|
/// | a job's task, deliveries, instructions and subscriptions, a dispute's case | the job's parties' |
/// | a wallet with its history and payouts, an agent's own history, subscriptions, what they were sent, notices | the agent's |
///
/// An owner sees what its agents see, an operator everything. Anybody else is refused as for a command that is not
/// theirs to give ([`Rejection::WrongActor`]), and the embedder's [`Authorizer`](super::Authorizer) may refuse more.
/// What everybody may see (profiles, standings, reviews, open jobs) needs no name, and bids take their viewer
/// ([`Marketplace::bids`]). Also within an embedder's transaction, what is read is what is committed.
impl Session<'_> {
    /// What is to be done for a job: see [`Marketplace::task`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn task(self, job: JobId) -> Result<Value, Error> {
        self.party_of("task", job).await?;
        self.market.task(job).await
    }

    /// What was handed in as a job's `number`-th delivery: see [`Marketplace::delivery`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn delivery(self, job: JobId, number: u32) -> Result<Value, Error> {
        self.party_of("delivery", job).await?;
        self.market.delivery(job, number).await
    }

    /// A dispute with everything that was said and submitted: see [`Marketplace::dispute_case`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn dispute_case(self, dispute: DisputeId) -> Result<Case, Error> {
        let job = self.market.dispute(dispute).await?.job;
        self.party_of("dispute_case", job).await?;
        self.market.dispute_case(dispute).await
    }

    /// The instructions that a job or an agreement has given: see [`Marketplace::instructions`]. What a rail asks
    /// a party to do, and what that has answered, is told to that party alone, and to operators; what went wrong to
    /// operators only.
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn instructions(self, contract: impl Into<HoldId>) -> Result<Vec<Arc<InstructionRecord>>, Error> {
        let contract = contract.into();
        let theirs = self.party_of("instructions", contract).await?;
        let operator = self.call().actor.operator().is_some();
        let found = self.market.instructions(contract).await?.into_iter();
        Ok(found.map(|record| if operator { record } else { told(record, &theirs) }).collect())
    }

    /// An agent's wallet: see [`Marketplace::wallet`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn wallet(self, agent: AgentId) -> Result<Balances, Error> {
        self.agent_is_theirs("wallet", agent).await?;
        self.market.wallet(agent).await
    }

    /// An agent's transactions: see [`Marketplace::wallet_history`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn wallet_history(self, agent: AgentId, after: i64, limit: u32) -> Result<Vec<HistoryLine>, Error> {
        self.agent_is_theirs("wallet_history", agent).await?;
        self.market.wallet_history(agent, after, limit).await
    }

    /// What rails were asked to pay out of an agent's wallet: see [`Marketplace::payouts`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn payouts(self, agent: AgentId) -> Result<Vec<Arc<InstructionRecord>>, Error> {
        self.agent_is_theirs("payouts", agent).await?;
        self.market.payouts(agent).await
    }

    /// What happened to an agent: see [`Marketplace::agent_history`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn agent_history(self, agent: AgentId) -> Result<Vec<LoggedEvent>, Error> {
        self.agent_is_theirs("agent_history", agent).await?;
        self.market.agent_history(agent).await
    }

    /// An agent's subscriptions: see [`Marketplace::endpoints`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn endpoints(self, agent: AgentId) -> Result<Vec<Arc<Endpoint>>, Error> {
        self.agent_is_theirs("endpoints", agent).await?;
        self.market.endpoints(agent).await
    }

    /// The subscriptions for a job only, each party's to itself: see [`Marketplace::job_endpoints`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn job_endpoints(self, job: JobId) -> Result<Vec<Arc<Endpoint>>, Error> {
        let theirs = self.party_of("job_endpoints", job).await?;
        let found = self.market.job_endpoints(job).await?.into_iter();
        Ok(found.filter(|endpoint| theirs.contains(&endpoint.agent)).collect())
    }

    /// What was sent, or is to be, and how it went: see [`Marketplace::deliveries`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], [`Rejection::NotFound`] for a subscription that there is not, or as there.
    pub async fn deliveries(self, of: DeliveriesOf) -> Result<Vec<Arc<Delivery>>, Error> {
        let agent = match of.of {
            Receiver::Agent(agent) => agent,
            Receiver::Endpoint(id) => {
                let key = Key { kind: Kind::Endpoint, id: id.0 };
                let stored = self.market.inner.store.load(self.market.inner.market, key).await?;
                let endpoint = stored.and_then(|stored| Endpoint::of(stored.record));
                endpoint.ok_or_else(|| Rejection::NotFound { what: "endpoint", id: id.to_string() })?.agent
            }
        };
        self.agent_is_theirs("deliveries", agent).await?;
        self.market.deliveries(of).await
    }

    /// What an agent was told: see [`Marketplace::notices`].
    ///
    /// # Errors
    /// [`Rejection::WrongActor`], or as there.
    pub async fn notices(self, of: NoticesOf) -> Result<Vec<Arc<Notice>>, Error> {
        self.agent_is_theirs("notices", of.agent).await?;
        self.market.notices(of).await
    }

    /// Those of a contract's parties for whom the session asks; refused where there are none.
    async fn party_of(&self, read: &'static str, contract: impl Into<HoldId>) -> Result<Vec<AgentId>, Error> {
        let contract = contract.into();
        let parties = match self.market.contract_of(contract).await? {
            Some(Record::Job(job)) => std::iter::once(job.buyer).chain(job.worker).collect(),
            Some(Record::Agreement(agreement)) => vec![agreement.buyer, agreement.seller],
            _ => return Err(Rejection::NotFound { what: "contract", id: contract.to_string() }.into()),
        };
        self.asks_for(read, &parties, PARTIES).await
    }

    async fn agent_is_theirs(&self, read: &'static str, agent: AgentId) -> Result<(), Error> {
        self.asks_for(read, &[agent], AGENT).await.map(drop)
    }

    async fn asks_for(
        &self,
        read: &'static str,
        agents: &[AgentId],
        allowed: &'static str,
    ) -> Result<Vec<AgentId>, Error> {
        let (market, actor) = (self.market, self.call().actor);
        let theirs = market.theirs(&*market.inner.store, actor, agents).await?;
        market.may(read, !theirs.is_empty(), allowed, actor)?;
        Ok(theirs)
    }
}

/// An instruction as it is told to these parties: what another is asked to do, and answers, is the other's alone, and
/// what went wrong is for operators.
fn told(mut record: Arc<InstructionRecord>, theirs: &[AgentId]) -> Arc<InstructionRecord> {
    if record.problem.is_some() {
        Arc::make_mut(&mut record).problem = None;
    }
    let asked = match &record.state {
        InstructionState::NeedsAction(action) => action.who,
        _ if record.instruction.answer.is_none() => return record,
        // Whose answer it was is not told any more.
        _ => Party::Platform,
    };
    match asked {
        Party::Buyer(agent) | Party::Worker(agent) if theirs.contains(&agent) => {}
        Party::Buyer(_) | Party::Worker(_) | Party::Platform => {
            let told = Arc::make_mut(&mut record);
            told.instruction.answer = None;
            if let InstructionState::NeedsAction(action) = &mut told.state {
                action.payload.clear();
            }
        }
    }
    record
}
