//! Putting a marketplace together.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use tokio::sync::Notify;

use super::{AgentParts, AllowAll, Authorizer, Executor, Inner, Marketplace, NoticeParts, TierSource};
use crate::{
    agreement::receipt::{ReceiptVerifier, ReceiptVerifiers},
    clock::{Clock, SystemClock},
    dispute::Arbiter,
    error::Error,
    ids::{IdSource, RailId, RandomIds},
    policy::{Policy, Span},
    rail::{Custody, SettlementRail, layers::Timeout},
    search::{ByWords, Ranking},
    store::Store,
    trust::TrustModel,
    validation::Validator,
};

/// How long a rail may take for one answer, unless that is more than a third of the lease.
const RAIL_LIMIT: Duration = Duration::from_secs(20);
/// How often a rail is asked under one claim at most: what happened, and then to act.
const CALLS_PER_CLAIM: u32 = 2;

/// What a marketplace is made of: a store, a policy, at least one rail, and optional parts.
#[must_use = "a builder does nothing until `build`"]
pub struct MarketplaceBuilder {
    name: String,
    store: Arc<dyn Store>,
    policy: Policy,
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
    lease: Span,
    rail_limit: Option<Duration>,
}

impl MarketplaceBuilder {
    pub(super) fn new(name: String, store: Arc<dyn Store>, policy: Policy) -> Self {
        Self {
            name,
            store,
            policy,
            rails: Vec::new(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            tiers: None,
            trust_model: None,
            ranking: Arc::new(ByWords),
            authorizer: Arc::new(AllowAll),
            agents: None,
            arbiter: None,
            executor: None,
            validators: Vec::new(),
            verifiers: ReceiptVerifiers::new(),
            notices: None,
            lease: Span::seconds(60),
            rail_limit: None,
        }
    }

    /// Adds a rail; the first one is what a job moves on when its order names none. At most one may
    /// hold money in the platform's name (any custody but non-custodial): agents' wallets lie there.
    pub fn rail(mut self, rail: impl SettlementRail) -> Self {
        self.rails.push(Arc::new(rail));
        self
    }

    /// Takes the time from here instead of from the machine.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes new ids from here instead of from the machine.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = ids;
        self
    }

    /// Takes workers' tiers from here instead of from the scores that are kept.
    pub fn tiers(mut self, tiers: impl TierSource) -> Self {
        self.tiers = Some(Arc::new(tiers));
        self
    }

    /// Keeps score by this instead of by the policy's model. What was counted before stays as it was.
    pub fn trust_model(mut self, model: impl TrustModel) -> Self {
        self.trust_model = Some(Arc::new(model));
        self
    }

    /// Has what is found for a text put in order by this, such as by meaning, instead of agents by their trust
    /// and jobs by their words.
    pub fn ranking(mut self, ranking: impl Ranking) -> Self {
        self.ranking = Arc::new(ranking);
        self
    }

    /// Adds the embedder's own checks, which can only narrow.
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Arc::new(authorizer);
        self
    }

    /// Tells agents what happens: notices, webhooks, streams, by the policy's table. Without this call
    /// nobody is told anything.
    pub fn notices(mut self, parts: NoticeParts) -> Self {
        self.notices = Some(parts);
        self
    }

    /// Keeps agents here: they register, become active and have keys, and only active ones post and take
    /// on jobs or receive deposits. Without this call agents are the embedder's own, any id is one, and
    /// the commands to agents are refused as not offered. A marketplace is one or the other from its
    /// first job on, in every process: jobs of agents that were never registered cannot be taken on here.
    pub fn agents(mut self, parts: AgentParts) -> Self {
        self.agents = Some(parts);
        self
    }

    /// Has disputes judged by this before people judge them, where the policy has an automated tier
    /// (VP-30). Without it such disputes go to people at once.
    pub fn arbiter(mut self, arbiter: impl Arbiter) -> Self {
        self.arbiter = Some(Arc::new(arbiter));
        self
    }

    /// Runs agents that are hired for an immediate result by this (AM-09). Without it nobody can be.
    pub fn executor(mut self, executor: impl Executor) -> Self {
        self.executor = Some(Arc::new(executor));
        self
    }

    /// Adds a validator of deliveries (VP-18); the policy says how many are asked, the first ones first.
    /// Without any, verdicts are recorded by
    /// [`Session::record_validation`](super::Session::record_validation).
    pub fn validator(mut self, validator: impl Validator) -> Self {
        self.validators.push(Arc::new(validator));
        self
    }

    /// Accepts receipts of one more signature scheme, besides Ed25519: a rail's own, most often (PG-19).
    pub fn receipts(mut self, verifier: impl ReceiptVerifier) -> Self {
        self.verifiers.add(Arc::new(verifier));
        self
    }

    /// How long a worker keeps what it claims (60 s). More than twice as long as any rail may take to
    /// answer: whoever is slower is fenced off, and its work is looked up by the next.
    pub fn lease(mut self, lease: Span) -> Self {
        self.lease = lease;
        self
    }

    /// How long any rail may take for one answer (20 s, or a third of a shorter lease). Whoever is slower
    /// is given up, by the machine's own clock, and what became of it is unknown: it is looked up, never
    /// sent again blindly. Needs a Tokio runtime with its timers on.
    pub fn rail_limit(mut self, limit: Duration) -> Self {
        self.rail_limit = Some(limit);
        self
    }

    /// Opens the market in the store and makes the policy its newest, unless it is already: the last
    /// process to start decides, and the others follow within a round of work.
    ///
    /// # Errors
    /// A contradiction in the policy, no rail, a rail of another currency, two rails of one name, a lease
    /// that is too short for the rails; [`Error::RailMissing`] when money is still under way on a rail
    /// that was there before; or the store's failure.
    pub async fn build(self) -> Result<Marketplace, Error> {
        self.policy.validate()?;
        let refuse = |reason: String| Err(Error::Configuration { reason });
        if self.rails.is_empty() {
            return refuse("it has no rail".into());
        }
        if self.lease < Span::seconds(1) {
            return refuse(format!("a lease of {}; at least one second is needed", self.lease));
        }
        let lease = Duration::from_secs(self.lease.as_seconds().into());
        let limit = self.rail_limit.unwrap_or_else(|| RAIL_LIMIT.min(lease / (CALLS_PER_CLAIM + 1)));
        if limit.is_zero() || limit.saturating_mul(CALLS_PER_CLAIM) >= lease {
            return refuse(format!(
                "a rail may take {limit:?} for an answer, and is asked up to {CALLS_PER_CLAIM} times within a lease of {}",
                self.lease
            ));
        }
        for (i, rail) in self.rails.iter().enumerate() {
            let profile = rail.profile();
            if profile.currency != self.policy.currency {
                return refuse(format!(
                    "rail {} moves {:?}, the policy is in {:?}",
                    profile.id, profile.currency, self.policy.currency
                ));
            }
            if profile.custody != Custody::NonCustodial
                && let Some(other) = self.rails[..i].iter().find(|r| r.profile().custody != Custody::NonCustodial)
            {
                // A wallet's balance must lie in one place, or one rail would pay out another's money.
                return refuse(format!(
                    "rails {} and {} both hold money in the platform's name; agents' wallets lie with one rail",
                    other.profile().id,
                    profile.id
                ));
            }
            if self.rails[..i].iter().any(|other| other.profile().id == profile.id) {
                return refuse(format!("two rails are named {}", profile.id));
            }
        }
        if let Some(agents) = &self.agents {
            agents.check(&self.policy)?;
        }
        let market = self.store.open_market(&self.name).await?;
        if let Some((_, before)) = self.store.policy(market, None).await?
            && before.currency != self.policy.currency
        {
            return refuse(format!("its currency is {:?}, the policy's {:?}", before.currency, self.policy.currency));
        }
        let rails: BTreeSet<RailId> = self.rails.iter().map(|rail| rail.profile().id).collect();
        super::rails::none_left_behind(&*self.store, market, &rails).await?;
        let version = self.store.add_policy(market, &self.policy).await?;
        let policy = Arc::new(self.policy);
        let inner = Inner {
            market,
            store: self.store,
            rails: self.rails.into_iter().map(|rail| Arc::new(Timeout::new(rail, limit)) as _).collect(),
            clock: self.clock,
            ids: self.ids,
            tiers: self.tiers,
            trust_model: self.trust_model,
            ranking: self.ranking,
            authorizer: self.authorizer,
            agents: self.agents,
            arbiter: self.arbiter,
            executor: self.executor,
            validators: self.validators,
            verifiers: self.verifiers,
            notices: self.notices,
            tail: super::notices::Tail::default(),
            newest: std::sync::RwLock::new((version, policy.clone())),
            pinned: std::sync::RwLock::new(HashMap::from([(version, policy)])),
            lease: self.lease,
            committed: Notify::new(),
            recent: super::recent::Recent::default(),
            listed_by: AtomicU32::new(0),
        };
        Ok(Marketplace { inner: Arc::new(inner) })
    }
}
