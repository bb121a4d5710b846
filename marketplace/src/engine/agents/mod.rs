//! Agents in the engine: the parts they need, the path of their commands, and what jobs ask of them.
//!
//! Two races are closed by versions. Two first registrations of one owner both write the owner's
//! record, so one of them is decided anew as the second. A job that begins while one of its parties is
//! deleted carries that party's version as a guard; a deletion goes through
//! [`AgentStatus::Closing`], after which no job can begin, and only then looks for jobs a last time.

mod session;

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Marketplace,
    command::{ATTEMPTS, Call, refused},
    transact::Attempt,
};
use crate::{
    actor::Actor,
    agent::{
        Agent, AgentCommand, AgentStatus, Context, Decision, Fresh, FreshKey, KeyId, Owner, PublicProfile, decide,
    },
    agreement::AgreementStatus,
    clock::Timestamp,
    error::{Error, Rejection},
    ids::{AgentId, OwnerId},
    job::JobStatus,
    money::Money,
    policy::{Policy, RegistrationWebhook, Span},
    secret::{Pepper, Purpose, Secret, SecretSource, SystemSecrets},
    store::{
        Commit, CommitError, Journal, Kept as _, Key, KeyUse, Kind, LoggedEvent, OfKind as _, Query, Record, Tagging,
    },
};

/// How many hexadecimal digits of a key are random; its agent's id follows in 32 more.
const RANDOM: usize = 64;
/// An agent's id in hexadecimal digits.
const ID: usize = 32;
/// The most agents of an owner that one call lists.
const PAGE: u32 = 100;

/// What a marketplace needs to keep agents.
#[derive(Clone)]
#[must_use = "hand the parts to the builder"]
pub struct AgentParts {
    pepper: Pepper,
    secrets: Arc<dyn SecretSource>,
    ping: Option<Arc<dyn WebhookPing>>,
}

impl AgentParts {
    /// Agents whose keys and tokens are kept under this pepper.
    pub fn new(pepper: Pepper) -> Self {
        Self { pepper, secrets: Arc::new(SystemSecrets), ping: None }
    }

    /// Takes secrets from here instead of from the machine.
    pub fn secrets(mut self, source: impl SecretSource) -> Self {
        self.secrets = Arc::new(source);
        self
    }

    /// Tries webhooks by this; needed where the policy asks for it.
    pub fn webhook_ping(mut self, ping: impl WebhookPing) -> Self {
        self.ping = Some(Arc::new(ping));
        self
    }

    /// Whether the parts are what the policy needs.
    pub(super) fn check(&self, policy: &Policy) -> Result<(), Error> {
        match policy.agents.webhook {
            RegistrationWebhook::Pinged { .. } if self.ping.is_none() => {
                let reason = "its policy has webhooks tried at registration, and no part does that".into();
                Err(Error::Configuration { reason })
            }
            RegistrationWebhook::Pinged { .. } | RegistrationWebhook::Optional => Ok(()),
        }
    }
}

/// Tries a webhook address before an agent is registered with it or changes to it (VP-01).
///
/// # The contract
///
/// 1. One `webhook.ping`, signed as the marketplace's webhooks are, is posted to the address; only a
///    2xx answer is a success. Redirects are not followed, and of the answer's body nothing is kept.
/// 2. The address comes from a stranger. The engine has checked that it is `https` and names a host; the
///    part connects to public addresses only, and judges the address it connects to, not the name.
/// 3. It may be called more than once for one registration, and for one that then fails.
/// 4. The engine gives up after `within` and drops the future; nothing may be left running.
#[async_trait]
pub trait WebhookPing: Send + Sync + 'static {
    /// Tries the address.
    ///
    /// # Errors
    /// What happened, in words that its owner may read; it becomes [`Rejection::WebhookSilent`].
    async fn ping(&self, url: &str, within: Span) -> Result<(), String>;
}

/// What a command to an agent answers.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The agent as it is afterwards.
    pub agent: Arc<Agent>,
    /// The API key that the command made. Shown here and never again: also a repetition of the command
    /// under its idempotency key answers without it.
    pub key: Option<Secret>,
    /// The one-time token that the command made, for the host to mail to the owner. Never shown again.
    pub token: Option<Secret>,
}

/// Whose an API key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The agent.
    pub agent: AgentId,
    /// Which of its keys.
    pub key: KeyId,
    /// Where the agent is in its life: a key tells who somebody is, not what they may do.
    pub status: AgentStatus,
}

/// The texts of freshly drawn secrets.
struct Drawn {
    key: String,
    token: String,
}

impl Marketplace {
    fn agent_parts(&self) -> Result<&AgentParts, Rejection> {
        self.inner.agents.as_ref().ok_or(Rejection::NotOffered { what: "agents of its own" })
    }

    /// An agent as it is now, with what is not for everybody (see [`Marketplace::profile`]).
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn registered(&self, id: AgentId) -> Result<Arc<Agent>, Error> {
        Ok(self.load_agent(&*self.inner.store, id).await?.0)
    }

    /// What everybody may see of an agent (VP-10).
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn profile(&self, id: AgentId) -> Result<PublicProfile, Error> {
        Ok(self.registered(id).await?.public())
    }

    /// An owner's agents, newest first, leaving out the newest `offset`; at most 100.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn agents_of(&self, owner: OwnerId, offset: u32) -> Result<Vec<Arc<Agent>>, Error> {
        let query = Query {
            kind: Kind::Agent,
            party: Some((0, owner.0)),
            statuses: Vec::new(),
            before: None,
            offset,
            limit: PAGE,
        };
        let found = self.inner.store.find(self.inner.market, &query).await?;
        Ok(found.into_iter().filter_map(|stored| Agent::of(stored.record)).collect())
    }

    /// What happened to an agent, oldest first, with who did it and when.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn agent_history(&self, id: AgentId) -> Result<Vec<LoggedEvent>, Error> {
        Ok(self.inner.store.events_of(self.inner.market, Key { kind: Kind::Agent, id: id.0 }).await?)
    }

    /// The owner id of an e-mail address, for hosts that know people by nothing else: always the same
    /// for one address, whatever its case, and no way back from the id.
    ///
    /// # Errors
    /// [`Rejection::NotOffered`] where agents are the embedder's own.
    pub fn owner_by_email(&self, email: &str) -> Result<OwnerId, Rejection> {
        let digest = self.agent_parts()?.pepper.digest(Purpose::Owner, &email.trim().to_lowercase());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.0[..16]);
        Ok(OwnerId(uuid::Builder::from_custom_bytes(bytes).into_uuid()))
    }

    /// Whose an API key is (JP-03). A guess costs one look at one record, and what it answers does not
    /// tell how close it was; how often somebody may guess is the host's to limit.
    ///
    /// # Errors
    /// [`Rejection::WrongKey`], or the store's failure.
    pub async fn verify_key(&self, key: &str) -> Result<Verified, Error> {
        let parts = self.agent_parts()?;
        let id = agent_of(key).ok_or(Rejection::WrongKey)?;
        let digest = parts.pepper.digest(Purpose::Key, key);
        let agent = match self.registered(id).await {
            Err(Error::Rejected(_)) => return Err(Rejection::WrongKey.into()),
            agent => agent?,
        };
        let known = agent.api_key(&digest).ok_or(Rejection::WrongKey)?;
        Ok(Verified { agent: agent.id, key: known.id, status: agent.status })
    }

    /// Carries out a command to an agent: `None` registers one.
    pub(super) async fn command_agent(
        &self,
        id: Option<AgentId>,
        mut command: AgentCommand,
        call: Call<'_>,
    ) -> Result<Registered, Error> {
        let parts = self.agent_parts()?;
        let key = self.key_use(&(id, &command), call)?;
        let journal: &dyn Journal = call.within.unwrap_or(&*self.inner.store);
        let mut pinged = None;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            if let AgentCommand::Register { id, .. } = &mut command {
                *id = AgentId(self.inner.ids.next(now));
            }
            let before = match id {
                Some(id) => Some(self.load_agent(journal, id).await?),
                None => None,
            };
            let ((version, policy), agent) = (self.policy(), before.as_ref().map(|(agent, _)| &**agent));
            let drawn = parts.draw(&policy, agent.map_or_else(|| command.registers(), |agent| Some(agent.id)))?;
            let owner = self.load_owner(journal, agent, call.actor).await?;
            let active_contract = self.active_contract(journal, agent, &command).await?;
            let (holds, owes) = self.left_behind(journal, agent, &command).await?;
            let fresh = parts.fresh(&policy, &drawn);
            let context = Context {
                now,
                actor: call.actor,
                policy: &policy,
                version,
                fresh: &fresh,
                active_contract,
                holds,
                owes,
            };
            let decided = self
                .authorize(call.actor, command.name(), None)
                .and_then(|()| decide(agent, owner.as_ref().map(|(owner, _)| &**owner), &command, &context));
            let decision = match decided {
                Ok(decision) => decision,
                Err(rejection) => {
                    return self.answered_before(journal, key, rejection, call.actor).await.and_then(answered);
                }
            };
            if let Some(url) = parts.to_ping(&policy, agent, &decision).filter(|url| pinged.as_ref() != Some(url)) {
                // A repetition of what was carried out before is answered without another ping.
                if let Some((key, fingerprint)) = &key
                    && let Some(known) = journal.key(self.inner.market, key).await?
                {
                    return match known.fingerprint == *fingerprint {
                        true => answered(known.answer),
                        false => Err(Rejection::KeyReused { key: key.clone() }.into()),
                    };
                }
                parts.try_webhook(&policy, &url).await?;
                pinged = Some(url);
                if call.within.is_none() {
                    continue; // the answer took time: decide on what is there now
                }
            }
            let registered = revealed(&decision, &fresh, drawn);
            let on = Attempt { market: self, journal, actor: call.actor, now, claimed_until: None };
            let mut commit = self.agent_commit(decision, before.as_ref(), owner, call.actor, now);
            self.list_agent(&on, &mut commit, agent, &registered.agent).await?;
            commit.key = key.clone().map(|(key, fingerprint)| KeyUse {
                key,
                fingerprint,
                answer: commit.writes[0].record.clone(),
            });
            match journal.commit(commit).await {
                Ok(()) => {
                    self.inner.committed.notify_waiters();
                    return Ok(registered);
                }
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return refused(error, call.actor).and_then(answered),
            }
        }
        Err(Error::Contention { command: command.name(), attempts: ATTEMPTS })
    }

    fn agent_commit(
        &self,
        decision: Decision,
        before: Option<&(Arc<Agent>, u64)>,
        owner_before: Option<(Arc<Owner>, u64)>,
        actor: &Actor,
        at: Timestamp,
    ) -> Commit {
        let Decision { agent, owner, events, movement } = decision;
        let version = before.map_or(0, |(_, version)| *version);
        let mut commit = Commit::new(self.inner.market, at, agent.key(), version);
        let tags = agent.tags();
        if tags != before.map(|(agent, _)| agent.tags()).unwrap_or_default() {
            commit.tags.push(Tagging { subject: agent.key(), tags });
        }
        commit.write(agent, version, actor, events);
        if owner_before.as_ref().is_none_or(|(before, _)| **before != owner) {
            commit.write_silently(owner, owner_before.map_or(0, |(_, version)| version));
        }
        commit.movement = movement;
        commit
    }

    pub(super) async fn load_agent(&self, journal: &dyn Journal, id: AgentId) -> Result<(Arc<Agent>, u64), Error> {
        let found = journal.load(self.inner.market, Key { kind: Kind::Agent, id: id.0 }).await?;
        let agent = found.and_then(|stored| Some((Agent::of(stored.record)?, stored.version)));
        agent.ok_or_else(|| Rejection::NotFound { what: "agent", id: id.to_string() }.into())
    }

    /// The agent's owner, or whoever registers one.
    async fn load_owner(
        &self,
        journal: &dyn Journal,
        agent: Option<&Agent>,
        actor: &Actor,
    ) -> Result<Option<(Arc<Owner>, u64)>, Error> {
        let id = match (agent, actor) {
            (Some(agent), _) => agent.owner,
            (None, Actor::Owner(owner)) => *owner,
            (None, _) => return Ok(None),
        };
        let stored = journal.load(self.inner.market, Key { kind: Kind::Owner, id: id.0 }).await?;
        Ok(stored.and_then(|stored| Some((Owner::of(stored.record)?, stored.version))))
    }

    /// A contract of the agent's that is not over, where the command asks for it (VP-09).
    async fn active_contract(
        &self,
        journal: &dyn Journal,
        agent: Option<&Agent>,
        command: &AgentCommand,
    ) -> Result<Option<Key>, Error> {
        let Some(agent) = agent.filter(|_| matches!(command, AgentCommand::Delete | AgentCommand::Close)) else {
            return Ok(None);
        };
        let jobs = JobStatus::ALL.into_iter().filter(|status| !status.is_final()).map(JobStatus::as_str);
        let agreements =
            AgreementStatus::ALL.into_iter().filter(|status| !status.is_final()).map(AgreementStatus::as_str);
        let active = [(Kind::Job, jobs.collect::<Vec<_>>()), (Kind::Agreement, agreements.collect())];
        for (kind, statuses) in active {
            for place in 0..2 {
                let party = Some((place, agent.id.0));
                let query = Query { kind, party, statuses: statuses.clone(), before: None, offset: 0, limit: 1 };
                if let Some(found) = journal.find(self.inner.market, &query).await?.first() {
                    return Ok(Some(found.record.key()));
                }
            }
        }
        Ok(None)
    }

    /// Begins a deletion and, unless the embedder's transaction has to commit first, ends it.
    async fn delete_agent(&self, id: AgentId, call: Call<'_>) -> Result<Arc<Agent>, Error> {
        let begun = self.command_agent(Some(id), AgentCommand::Delete, call).await?;
        if call.within.is_some() {
            return Ok(begun.agent);
        }
        match self.command_agent(Some(id), AgentCommand::Close, Call::by(&Actor::Timer)).await {
            Ok(ended) if ended.agent.status == AgentStatus::Deleted => Ok(ended.agent),
            Ok(kept) => match self.active_contract(&*self.inner.store, Some(&kept.agent), &AgentCommand::Delete).await?
            {
                Some(contract) => Err(Rejection::ContractActive { agent: id, contract }.into()),
                None => Ok(kept.agent), // the contract is over by now; it may be tried again
            },
            Err(Error::Rejected(Rejection::WrongAgentStatus { .. })) => self.registered(id).await, // a worker's doing
            Err(error) => Err(error),
        }
    }

    /// Refuses what is for an agent that was never registered here.
    pub(super) async fn check_known(&self, agent: AgentId) -> Result<(), Error> {
        match &self.inner.agents {
            Some(_) => self.registered(agent).await.map(drop),
            None => Ok(()),
        }
    }

    /// A deposit that came in may be the one that activates (JP-02). Should the process end before this,
    /// the rail reports the deposit again, which credits nothing and comes here. By then its money may be
    /// gone (a panic): the agent waits for the next one, and the rail is read on.
    pub(super) async fn activate_by_deposit(&self, call: Call<'_>, agent: AgentId, amount: Money) -> Result<(), Error> {
        if self.inner.agents.is_none() {
            return Ok(());
        }
        let call = Call { key: None, ..call };
        match self.command_agent(Some(agent), AgentCommand::TakeDeposit { amount }, call).await {
            // It waits for no deposit, or for a larger one.
            Ok(_) | Err(Error::Rejected(Rejection::WrongAgentStatus { .. } | Rejection::Amount { .. })) => Ok(()),
            Err(Error::Rejected(reason)) => {
                tracing::warn!(%agent, %reason, "a deposit did not activate its agent");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl AgentParts {
    /// Draws a key and a token for an agent. A key ends in its agent's id, so that it is found by it.
    fn draw(&self, policy: &Policy, agent: Option<AgentId>) -> Result<Drawn, Error> {
        let draw = || {
            let drawn = self.secrets.draw().map_err(|reason| Error::Part { part: "the secret source", reason });
            drawn.map(hex::encode)
        };
        let id = agent.unwrap_or(AgentId(uuid::Uuid::nil())).0.simple();
        Ok(Drawn { key: format!("{}{}{id}", policy.agents.keys.prefix, draw()?), token: draw()? })
    }

    fn fresh(&self, policy: &Policy, drawn: &Drawn) -> Fresh {
        let keys = &policy.agents.keys;
        let shown = drawn.key.chars().take(keys.prefix.len() + keys.shown as usize).collect();
        let digest = self.pepper.digest(Purpose::Key, &drawn.key);
        Fresh { key: FreshKey { shown, digest }, token: self.pepper.digest(Purpose::Token, &drawn.token) }
    }

    /// The address to try before the decision may be written: a new one, where the policy asks for it.
    fn to_ping(&self, policy: &Policy, before: Option<&Agent>, decision: &Decision) -> Option<String> {
        let RegistrationWebhook::Pinged { .. } = policy.agents.webhook else { return None };
        let old = before.and_then(|agent| agent.profile.webhook.as_ref());
        let new = decision.agent.profile.webhook.as_ref();
        new.filter(|new| old != Some(new)).cloned()
    }

    async fn try_webhook(&self, policy: &Policy, url: &str) -> Result<(), Error> {
        let RegistrationWebhook::Pinged { within } = policy.agents.webhook else { return Ok(()) };
        let missing = || Error::Part { part: "the webhook ping", reason: "there is none".into() };
        let ping = self.ping.as_ref().ok_or_else(missing)?;
        let limit = std::time::Duration::from_secs(within.as_seconds().into());
        let answer = tokio::time::timeout(limit, ping.ping(url, within)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {within}")));
        answer.map_err(|reason| Rejection::WebhookSilent { reason }.into())
    }
}

impl AgentCommand {
    /// The id that a registration will make.
    const fn registers(&self) -> Option<AgentId> {
        match self {
            Self::Register { id, .. } => Some(*id),
            _ => None,
        }
    }
}

/// What a decision used of the secrets drawn for it.
fn revealed(decision: &Decision, fresh: &Fresh, drawn: Drawn) -> Registered {
    let agent = &decision.agent;
    let tokens = [&agent.confirmation, &agent.recovery].into_iter().flatten();
    let token = tokens.into_iter().any(|token| token.digest == fresh.token);
    let key = agent.api_key(&fresh.key.digest).is_some();
    Registered {
        key: key.then(|| Secret::new(drawn.key)),
        token: token.then(|| Secret::new(drawn.token)),
        agent: Arc::new(agent.clone()),
    }
}

/// The agent that a key says it is of.
fn agent_of(key: &str) -> Option<AgentId> {
    let digits = key.len().checked_sub(RANDOM + ID).and_then(|start| key.get(start..))?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    digits[RANDOM..].parse().ok()
}

fn answered(answer: Record) -> Result<Registered, Error> {
    let agent = Agent::of(answer).expect("an agent's command and another have different digests");
    Ok(Registered { agent, key: None, token: None })
}
