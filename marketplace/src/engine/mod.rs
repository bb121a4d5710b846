//! The shell around the rules: load, decide, commit; then the rails.
//!
//! [`Marketplace`] is the one type an embedder holds. A command takes this path:
//!
//! 1. the record is loaded with its version, and the policy it is pinned to;
//! 2. a pure function decides;
//! 3. the decision is committed, guarded by the version; on a conflict it is made anew;
//! 4. instructions that the commit wrote are tried at once, under a claim taken by the same commit;
//! 5. what a rail answers is one more command, decided and committed the same way.
//!
//! What the host reads for itself it asks [`Marketplace`] for; what it passes on to an agent it reads in that agent's
//! name, from a [`Session`].
//!
//! Whatever does not finish (a crash, a lost answer, a slow rail) is found again by the workers: the
//! records themselves say when they are due.

mod adjust;
mod agents;
mod agreements;
mod bids;
mod builder;
mod command;
mod disputes;
mod execution;
mod feed;
mod intervene;
mod notices;
mod observe;
mod opinions;
mod parties;
mod rails;
mod reads;
mod receipts;
mod recent;
mod reconcile;
mod search;
mod session;
mod settlement;
mod transact;
mod trust;
mod validation;
mod wallets;
mod work;

pub use agents::{AgentParts, Registered, Verified, WebhookPing};
pub use bids::{OpenJob, OpenJobs};
pub use builder::MarketplaceBuilder;
#[cfg(feature = "http")]
pub use execution::{Endpoint, Endpoints, HttpExecutor};
pub use execution::{Executed, Execution, Executor};
pub use feed::Subscription;
pub use notices::{DeliveriesOf, NoticeParts, NoticesOf, Receiver, Subscribed, Which};
pub use receipts::SettlementReceipt;
pub use reconcile::{Difference, Reconciliation, Unsettled};
pub use search::{AgentSearch, Capable, FoundAgent, JobSearch};
pub use session::Session;
pub use trust::Standing;
pub use work::Worked;

use std::{
    collections::HashMap,
    sync::{Arc, RwLock, atomic::AtomicU32},
};

use async_trait::async_trait;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    actor::Actor,
    agreement::receipt::ReceiptVerifiers,
    clock::{Clock, Timestamp},
    dispute::Arbiter,
    error::{Error, Rejection},
    ids::{AgentId, IdSource, JobId, MarketId, RailId},
    job::Job,
    ledger::{Account, Entry, Finding, TrialBalance},
    money::{Currency, Money},
    policy::{Policy, PolicyVersion, Span},
    rail::SettlementRail,
    search::Ranking,
    store::{Journal, Key, Kind, OfKind as _, Query, Store, StoreError, StoreErrorKind},
    trust::TrustModel,
    validation::Validator,
};

/// A marketplace: the one type an embedder holds. Clones share everything and cost a counter.
#[derive(Clone)]
pub struct Marketplace {
    inner: Arc<Inner>,
}

struct Inner {
    market: MarketId,
    store: Arc<dyn Store>,
    rails: Vec<Arc<dyn SettlementRail>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    tiers: Option<Arc<dyn TierSource>>,
    trust_model: Option<Arc<dyn TrustModel>>,
    ranking: Arc<dyn Ranking>,
    authorizer: Arc<dyn Authorizer>,
    agents: Option<AgentParts>,
    arbiter: Option<Arc<dyn Arbiter>>,
    executor: Option<Arc<dyn Executor>>,
    validators: Vec<Arc<dyn Validator>>,
    verifiers: ReceiptVerifiers,
    notices: Option<NoticeParts>,
    tail: notices::Tail,
    newest: RwLock<(PolicyVersion, Arc<Policy>)>,
    pinned: RwLock<HashMap<PolicyVersion, Arc<Policy>>>,
    lease: Span,
    committed: Notify,
    recent: recent::Recent,
    /// The policy by which this process knows all that can be found to be listed.
    listed_by: AtomicU32,
}

/// Where a worker's tier comes from, if not from the scores that are kept here.
#[async_trait]
pub trait TierSource: Send + Sync + 'static {
    /// The agent's tier, or `None` for the initial one.
    ///
    /// # Errors
    /// A reason for operators; the command fails with [`Error::Part`] and may be repeated.
    async fn tier(&self, agent: AgentId) -> Result<Option<String>, String>;
}

/// The embedder's own checks of what agents, owners and operators may do. They can only narrow: what a
/// rule refuses stays refused. What time and rails report is never theirs to refuse.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the actor may try this command, on this job if it exists already.
    ///
    /// # Errors
    /// A reason, which becomes [`Rejection::NotAuthorized`].
    fn authorize(&self, actor: &Actor, command: &'static str, job: Option<&Job>) -> Result<(), String>;
}

struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _actor: &Actor, _command: &'static str, _job: Option<&Job>) -> Result<(), String> {
        Ok(())
    }
}

impl Marketplace {
    /// Starts building a marketplace. Its name separates it from others in the same store.
    pub fn builder(name: impl Into<String>, store: impl Store, policy: Policy) -> MarketplaceBuilder {
        MarketplaceBuilder::new(name.into(), Arc::new(store), policy)
    }

    /// Acts in somebody's name: the session's methods are the commands.
    pub fn by(&self, actor: Actor) -> Session<'_> {
        Session::new(self, actor)
    }

    /// Acts in an agent's name.
    pub fn agent(&self, agent: AgentId) -> Session<'_> {
        self.by(Actor::Agent(agent))
    }

    /// Acts in an operator's name, which the audit trail keeps.
    pub fn operator(&self, name: impl Into<String>) -> Session<'_> {
        self.by(Actor::Operator(name.into()))
    }

    /// A job as it is now.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn job(&self, id: JobId) -> Result<Arc<Job>, Error> {
        let stored = self.inner.store.load(self.inner.market, Key { kind: Kind::Job, id: id.0 }).await?;
        let job = stored.and_then(|stored| Job::of(stored.record));
        job.ok_or_else(|| Rejection::NotFound { what: "job", id: id.to_string() }.into())
    }

    /// An agent's jobs as buyer or as worker, newest first, in any of the given statuses (VP-15).
    ///
    /// # Errors
    /// The store's failure.
    pub async fn jobs(&self, of: JobsOf) -> Result<Vec<Arc<Job>>, Error> {
        let JobsOf { role, statuses, offset, limit } = of;
        let party = Some(role.party());
        let statuses = statuses.into_iter().map(crate::job::JobStatus::as_str).collect();
        let query = Query { kind: Kind::Job, party, statuses, before: None, offset, limit: limit.min(JobsOf::LIMIT) };
        let found = self.inner.store.find(self.inner.market, &query).await?;
        Ok(found.into_iter().filter_map(|stored| Job::of(stored.record)).collect())
    }

    /// What is to be done for a job, as its buyer posted it, in JSON.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn task(&self, job: JobId) -> Result<serde_json::Value, Error> {
        self.document_of(&*self.inner.store, "job", job.0, "task").await
    }

    /// What was handed in as a job's `number`-th delivery, counted from 1, in JSON.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn delivery(&self, job: JobId, number: u32) -> Result<serde_json::Value, Error> {
        self.document_of(&*self.inner.store, "job", job.0, &format!("delivery/{number}")).await
    }

    /// A job's order, as its buyer posted it.
    async fn order(&self, journal: &dyn Journal, job: JobId) -> Result<crate::job::JobOrder, Error> {
        let unreadable = |e| StoreError::new(StoreErrorKind::Corrupt, "a job's order cannot be read").caused_by(e);
        Ok(serde_json::from_value(self.document_of(journal, "job", job.0, "task").await?).map_err(unreadable)?)
    }

    /// What is kept beside a record under a name.
    async fn document_of(
        &self,
        journal: &dyn Journal,
        what: &'static str,
        subject: Uuid,
        name: &str,
    ) -> Result<serde_json::Value, Error> {
        let text = journal.document(self.inner.market, subject, name).await?;
        let missing = || Rejection::NotFound { what: "document", id: format!("{name} of {what} {subject}") };
        let text = text.ok_or_else(missing)?;
        let unreadable = |e| StoreError::new(StoreErrorKind::Corrupt, "a document is not JSON").caused_by(e);
        Ok(serde_json::from_str(&text).map_err(|e: serde_json::Error| unreadable(e))?)
    }

    /// What happened to a job, oldest first, with who did it and when.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn job_history(&self, job: JobId) -> Result<Vec<crate::store::LoggedEvent>, Error> {
        Ok(self.inner.store.events_of(self.inner.market, Key { kind: Kind::Job, id: job.0 }).await?)
    }

    /// What an agent may spend or withdraw.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn available(&self, agent: AgentId) -> Result<Money, Error> {
        self.balance(Account::Available(agent), None).await
    }

    /// An account's balance, now or as of a moment.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn balance(&self, account: Account, at: Option<Timestamp>) -> Result<Money, Error> {
        Ok(self.inner.store.balance(self.inner.market, account, self.currency(), at).await?)
    }

    /// An account's entries with a number above `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn history(&self, account: Account, after: i64, limit: u32) -> Result<Vec<Entry>, Error> {
        Ok(self.inner.store.history(self.inner.market, account, after, limit).await?)
    }

    /// Every account's balance; their sum is nothing.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn trial_balance(&self) -> Result<Vec<TrialBalance>, Error> {
        Ok(self.inner.store.trial_balance(self.inner.market).await?)
    }

    /// Checks that nobody wrote to the store behind the engine's back; empty when nobody did.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn verify(&self) -> Result<Vec<Finding>, Error> {
        Ok(self.inner.store.verify(self.inner.market).await?)
    }

    /// The newest policy and its number: what a job posted now is pinned to.
    pub fn policy(&self) -> (PolicyVersion, Arc<Policy>) {
        let newest = self.inner.newest.read().expect("no holder of this lock panics");
        (newest.0, newest.1.clone())
    }

    /// Makes a policy the newest. Jobs under way keep theirs.
    ///
    /// # Errors
    /// A contradiction in the policy, another currency than before, or the store's failure.
    pub async fn set_policy(&self, policy: Policy) -> Result<PolicyVersion, Error> {
        policy.validate()?;
        if let Some(agents) = &self.inner.agents {
            agents.check(&policy)?;
        }
        if policy.currency != self.currency() {
            let reason =
                format!("its currency is {:?}, a policy in {:?} needs another", self.currency(), policy.currency);
            return Err(Error::Configuration { reason });
        }
        let version = self.inner.store.add_policy(self.inner.market, &policy).await?;
        *self.inner.newest.write().expect("no holder of this lock panics") = (version, Arc::new(policy));
        Ok(version)
    }

    /// The currency of everything here.
    pub fn currency(&self) -> Currency {
        self.inner.newest.read().expect("no holder of this lock panics").1.currency
    }

    /// The present, by the injected clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Reads the newest policy again: another process may have set it.
    async fn refresh_policy(&self) -> Result<(), Error> {
        let Some((version, policy)) = self.inner.store.policy(self.inner.market, None).await? else { return Ok(()) };
        let mut newest = self.inner.newest.write().expect("no holder of this lock panics");
        if newest.0 < version {
            *newest = (version, Arc::new(policy));
        }
        Ok(())
    }

    /// Asks the embedder's authorizer.
    fn authorize(&self, actor: &Actor, command: &'static str, job: Option<&Job>) -> Result<(), Rejection> {
        if matches!(actor, Actor::Timer | Actor::Rail(_)) {
            return Ok(());
        }
        let authorized = self.inner.authorizer.authorize(actor, command, job);
        authorized.map_err(|reason| Rejection::NotAuthorized { command, reason })
    }

    /// The rail of this name, or the first.
    fn rail(&self, id: Option<RailId>) -> Result<&Arc<dyn SettlementRail>, Rejection> {
        let rails = &self.inner.rails;
        let Some(id) = id else { return Ok(&rails[0]) };
        let known = || rails.iter().map(|rail| rail.profile().id).collect();
        rails
            .iter()
            .find(|rail| rail.profile().id == id)
            .ok_or_else(|| Rejection::UnknownRail { rail: id, known: known() })
    }

    /// A policy by its number.
    async fn pinned(&self, version: PolicyVersion) -> Result<Arc<Policy>, Error> {
        if let Some(policy) = self.inner.pinned.read().expect("no holder of this lock panics").get(&version) {
            return Ok(policy.clone());
        }
        let found = self.inner.store.policy(self.inner.market, Some(version)).await?;
        let missing = || StoreError::new(StoreErrorKind::Corrupt, format!("policy {} is missing", version.0));
        let policy = Arc::new(found.ok_or_else(missing)?.1);
        self.inner.pinned.write().expect("no holder of this lock panics").insert(version, policy.clone());
        Ok(policy)
    }
}

/// Which jobs to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobsOf {
    /// Whose, in which role.
    pub role: Role,
    /// In one of these statuses; empty for all.
    pub statuses: Vec<crate::job::JobStatus>,
    /// Leaving out the newest so many.
    pub offset: u32,
    /// At most so many, and never more than [`JobsOf::LIMIT`].
    pub limit: u32,
}

impl JobsOf {
    /// The most jobs one call lists (VP-15).
    pub const LIMIT: u32 = 50;
}

/// An agent's part in a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who pays.
    Buyer(AgentId),
    /// Who works.
    Worker(AgentId),
}

impl Role {
    /// The place and the id that contracts in which it is played are found by.
    const fn party(self) -> (usize, uuid::Uuid) {
        match self {
            Self::Buyer(agent) => (0, agent.0),
            Self::Worker(agent) => (1, agent.0),
        }
    }
}
