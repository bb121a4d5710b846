//! Every rule of an agent's life, as one pure function.

use super::{
    AcceptedTerms, Agent, AgentCommand, AgentEvent, AgentStatus, ApiKey, KeyId, Owner, Profile, ProfileUpdate,
    RateCard, Registration, Token,
};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, OwnerId, RailId},
    ledger::{Account, Movement, RevenueKind, TransferKind, available},
    money::Money,
    policy::{Activation, AgentPolicy, Alphabet, KeyIssue, Policy, Presence, Range, RegistrationWebhook},
    secret::Digest,
    store::Key,
    text,
};

/// An e-mail address's length, in characters.
const EMAIL: Range<u32> = Range { min: 3, max: 254 };
/// An address's length, in characters.
const URL: Range<u32> = Range { min: 9, max: 2048 };
/// The length of the name of a version of terms, in characters.
const TERMS: Range<u32> = Range { min: 1, max: 100 };
/// The length of a payment's name, in characters.
const REFERENCE: Range<u32> = Range { min: 1, max: 200 };
/// What an agent's first key is called.
const FIRST_KEY: &str = "default";

/// What a decision may look at besides the agent, its owner and the command.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Who gives the command.
    pub actor: &'a Actor,
    /// The newest policy.
    pub policy: &'a Policy,
    /// The secrets that the command may use.
    pub fresh: &'a Fresh,
    /// A job of the agent's that is not over, for deleting it.
    pub active_contract: Option<Key>,
    /// What its wallet holds that it could take out, for deleting it.
    pub holds: Option<Money>,
    /// What it owes, for deleting it.
    pub owes: Option<Money>,
}

/// Secrets drawn beforehand, as they will be kept. A decision that uses one gives it to the caller.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// An API key.
    pub key: FreshKey,
    /// A token.
    pub token: Digest,
}

/// An API key drawn beforehand.
#[derive(Clone, Debug)]
pub struct FreshKey {
    /// Its beginning: all that is ever shown again.
    pub shown: String,
    /// Its digest.
    pub digest: Digest,
}

/// What a command does: plain data, written in one transaction or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The agent as it will be.
    pub agent: Agent,
    /// Its owner as it will be.
    pub owner: Owner,
    /// What happened, in order.
    pub events: Vec<AgentEvent>,
    /// What moves in the ledger.
    pub movement: Movement,
}

/// Decides a command.
///
/// `agent` is `None` exactly for [`AgentCommand::Register`]; `owner` is `None` for one who has
/// registered nothing before.
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn decide(
    agent: Option<&Agent>,
    owner: Option<&Owner>,
    command: &AgentCommand,
    ctx: &Context<'_>,
) -> Result<Decision, Rejection> {
    let (agent, owner) = match (agent, owner, command) {
        (None, owner, AgentCommand::Register { id, registration }) => return register(*id, owner, registration, ctx),
        (Some(agent), Some(owner), _) => (agent, owner),
        _ => return Err(Rejection::NotFound { what: "agent", id: String::new() }),
    };
    authorize(agent, command, ctx.actor)?;
    if !command.legal_in().contains(&agent.status) {
        return Err(wrong_status(command, agent, command.legal_in()));
    }
    let mut draft = Draft::of(agent.clone(), owner.clone(), ctx);
    match command {
        AgentCommand::Register { .. } => unreachable!("registering is legal in no status"),
        AgentCommand::AskConfirmation => draft.ask_confirmation()?,
        AgentCommand::Confirm { token, terms } => draft.confirm(token, terms)?,
        AgentCommand::ConfirmFee { rail, reference } => draft.confirm_fee(*rail, reference)?,
        AgentCommand::TakeDeposit { amount } => draft.take_deposit(*amount)?,
        AgentCommand::UpdateProfile { update } => draft.update(update)?,
        AgentCommand::Suspend { reason } => draft.suspend(reason)?,
        AgentCommand::Reinstate => draft.reinstate(),
        AgentCommand::Delete => draft.delete()?,
        AgentCommand::Close => draft.close(),
        AgentCommand::CreateKey { name } => draft.create_key(command, name)?,
        AgentCommand::RotateKey { key } => draft.rotate_key(*key)?,
        AgentCommand::RevokeKey { key } => draft.revoke_key(*key)?,
        AgentCommand::AskRecovery => draft.ask_recovery(command)?,
        AgentCommand::Recover { token } => draft.recover(token)?,
    }
    Ok(draft.finish())
}

fn wrong_status(command: &AgentCommand, agent: &Agent, allowed: &[AgentStatus]) -> Rejection {
    let (agent, status) = (agent.id, agent.status);
    Rejection::WrongAgentStatus { command: command.name(), agent, status, allowed: allowed.to_vec() }
}

/// Who may give which command to this agent.
fn authorize(agent: &Agent, command: &AgentCommand, actor: &Actor) -> Result<(), Rejection> {
    let itself = *actor == Actor::Agent(agent.id);
    let owner = *actor == Actor::Owner(agent.owner);
    let operator = matches!(actor, Actor::Operator(_));
    let (may, allowed) = match command {
        AgentCommand::Register { .. }
        | AgentCommand::AskConfirmation
        | AgentCommand::Confirm { .. }
        | AgentCommand::AskRecovery
        | AgentCommand::Recover { .. } => (owner, "the agent's owner"),
        AgentCommand::UpdateProfile { .. }
        | AgentCommand::CreateKey { .. }
        | AgentCommand::RotateKey { .. }
        | AgentCommand::RevokeKey { .. } => (itself || owner, "the agent or its owner"),
        AgentCommand::Delete => (itself || owner || operator, "the agent, its owner or an operator"),
        AgentCommand::Suspend { .. } | AgentCommand::Reinstate => (operator, "an operator"),
        AgentCommand::ConfirmFee { rail, .. } => {
            (operator || *actor == Actor::Rail(*rail), "an operator or the rail of the payment")
        }
        AgentCommand::TakeDeposit { .. } => (operator || matches!(actor, Actor::Rail(_)), "a rail or an operator"),
        AgentCommand::Close => (*actor == Actor::Timer, "a timer"),
    };
    match may {
        true => Ok(()),
        false => Err(Rejection::WrongActor { command: command.name(), allowed, actor: actor.clone() }),
    }
}

fn register(
    id: AgentId,
    known: Option<&Owner>,
    registration: &Registration,
    ctx: &Context<'_>,
) -> Result<Decision, Rejection> {
    let policy = &ctx.policy.agents;
    let Actor::Owner(owner_id) = ctx.actor else {
        let actor = ctx.actor.clone();
        return Err(Rejection::WrongActor { command: "register", allowed: "an owner", actor });
    };
    let Registration { name, email, profile } = registration;
    text::line("name", name, policy.name)?;
    if policy.name_alphabet == Alphabet::Slug
        && !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    {
        return Err(Rejection::Form { field: "name", form: "made of letters, digits, _ and -" });
    }
    check_profile(profile, policy, ctx.policy)?;
    let owner = owner(*owner_id, known, email.as_deref(), policy)?;
    let agent = Agent {
        id,
        owner: owner.id,
        status: AgentStatus::PendingVerification,
        name: name.clone(),
        profile: profile.clone(),
        registered_at: ctx.now,
        activated_at: None,
        accepted_terms: None,
        fee: None,
        confirmation: None,
        recovery: None,
        keys: Vec::new(),
        keys_made: 0,
        sessions_since: ctx.now,
        was: None,
    };
    let mut draft = Draft::of(agent, owner, ctx);
    draft.events.push(AgentEvent::Registered { owner: draft.owner.id, name: name.clone() });
    if policy.keys.issued == KeyIssue::Registration {
        draft.new_key(FIRST_KEY);
    }
    match policy.confirmation {
        Some(_) => draft.ask_confirmation()?,
        None => draft.admit()?,
    }
    Ok(draft.finish())
}

/// The owner as it is known after a registration.
fn owner(id: OwnerId, known: Option<&Owner>, email: Option<&str>, policy: &AgentPolicy) -> Result<Owner, Rejection> {
    if let Some(email) = email {
        check_email(email)?;
    }
    let mut owner = known.cloned().unwrap_or(Owner { id, email: None, priced: 0, recovery_asked_at: None });
    match (&owner.email, email) {
        (Some(before), Some(now)) if !before.eq_ignore_ascii_case(now) => return Err(Rejection::OtherEmail),
        (None, Some(now)) => owner.email = Some(now.into()),
        (None, None) if policy.owner_email == Presence::Required => {
            return Err(Rejection::Missing { field: "the owner's e-mail address" });
        }
        _ => {}
    }
    Ok(owner)
}

/// Whether a text can be an e-mail address. Whether it is one, the mail sent there shows.
fn check_email(email: &str) -> Result<(), Rejection> {
    text::line("e-mail address", email, EMAIL)?;
    let whole = email.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && !host.is_empty() && !host.contains('@') && !email.contains(char::is_whitespace)
    });
    match whole {
        true => Ok(()),
        false => Err(Rejection::Form { field: "e-mail address", form: "of the form name@host" }),
    }
}

fn check_profile(profile: &Profile, policy: &AgentPolicy, whole: &Policy) -> Result<(), Rejection> {
    let Profile { description, capabilities, webhook, avatar, website, rates } = profile;
    text::prose("description", description, policy.description)?;
    if capabilities.len() > policy.capabilities as usize {
        let (max, actual) = (policy.capabilities, capabilities.len());
        return Err(Rejection::TooMany { field: "capabilities", max, actual });
    }
    for capability in capabilities {
        text::line("capability", capability, policy.capability)?;
    }
    if webhook.is_none() && matches!(policy.webhook, RegistrationWebhook::Pinged { .. }) {
        return Err(Rejection::Missing { field: "webhook" });
    }
    for (field, url) in [("webhook", webhook), ("avatar", avatar), ("website", website)] {
        url.as_deref().map_or(Ok(()), |url| text::url(field, url, URL))?;
    }
    let RateCard { per_task, hourly } = rates;
    for rate in [per_task, hourly].into_iter().flatten() {
        Money::zero(whole.currency).plus(*rate)?;
        if rate.minor() < 0 {
            let (currency, actual) = (rate.currency(), rate.minor());
            return Err(Rejection::Amount { field: "rate", currency, min: 0, max: i64::MAX, actual });
        }
    }
    Ok(())
}

/// A decision in the making.
struct Draft<'a> {
    agent: Agent,
    owner: Owner,
    events: Vec<AgentEvent>,
    movement: Movement,
    ctx: &'a Context<'a>,
}

impl<'a> Draft<'a> {
    fn of(agent: Agent, owner: Owner, ctx: &'a Context<'a>) -> Self {
        Self { agent, owner, events: Vec::new(), movement: Movement::new(), ctx }
    }

    fn finish(self) -> Decision {
        let Self { agent, owner, events, movement, .. } = self;
        Decision { agent, owner, events, movement }
    }

    fn policy(&self) -> &'a AgentPolicy {
        &self.ctx.policy.agents
    }

    fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.ctx.policy.currency)
    }

    /// The owner gets a token, in place of the one before.
    fn ask_confirmation(&mut self) -> Result<(), Rejection> {
        let Some(confirmation) = self.policy().confirmation else {
            return Err(Rejection::NotOffered { what: "confirmation" });
        };
        let expires_at = self.ctx.now + confirmation.token_lives.delta();
        self.agent.confirmation = Some(Token { digest: self.ctx.fresh.token, expires_at });
        self.events.push(AgentEvent::ConfirmationAsked { expires_at });
        Ok(())
    }

    fn confirm(&mut self, token: &Digest, terms: &AcceptedTerms) -> Result<(), Rejection> {
        text::line("terms", &terms.0, TERMS)?;
        self.check_token("confirm", self.agent.confirmation.as_ref(), token)?;
        self.agent.confirmation = None;
        self.agent.accepted_terms = Some(terms.clone());
        self.events.push(AgentEvent::Confirmed { terms: terms.clone() });
        self.admit()
    }

    fn check_token(&self, command: &'static str, kept: Option<&Token>, shown: &Digest) -> Result<(), Rejection> {
        let kept = kept.filter(|kept| kept.digest == *shown).ok_or(Rejection::WrongToken { command })?;
        match self.ctx.now < kept.expires_at {
            true => Ok(()),
            false => Err(Rejection::TooLate { command, deadline: kept.expires_at, now: self.ctx.now }),
        }
    }

    /// The agent may become active, for what the policy asks. Its price follows from how many agents of
    /// its owner were priced before, so that two at once cannot both be the first.
    fn admit(&mut self) -> Result<(), Rejection> {
        let first = self.owner.priced == 0;
        self.owner.priced = self.owner.priced.saturating_add(1);
        let fee = match self.policy().activation {
            Activation::Free => 0,
            Activation::Fee { first: price, .. } if first => price,
            Activation::Fee { further, .. } => further,
            Activation::Deposit { min, .. } => {
                self.agent.status = AgentStatus::AwaitingDeposit;
                self.events.push(AgentEvent::DepositDue { min: self.money(min) });
                return Ok(());
            }
        };
        if fee == 0 {
            return self.activate();
        }
        let amount = self.money(fee);
        self.agent.status = AgentStatus::AwaitingFee;
        self.agent.fee = Some(amount);
        self.events.push(AgentEvent::FeeDue { amount });
        Ok(())
    }

    fn confirm_fee(&mut self, rail: RailId, reference: &str) -> Result<(), Rejection> {
        text::line("reference", reference, REFERENCE)?;
        let amount = self.agent.fee.take().unwrap_or(self.money(0));
        let revenue = Account::Revenue(RevenueKind::Activations);
        self.movement.transfer(Account::Treasury(rail), revenue, amount, TransferKind::ActivationFee)?;
        self.events.push(AgentEvent::FeePaid { amount, reference: reference.into() });
        self.activate()
    }

    /// The first deposit that is large enough activates; the platform keeps its fee of it (JP-02).
    fn take_deposit(&mut self, amount: Money) -> Result<(), Rejection> {
        let Activation::Deposit { min, fee } = self.policy().activation else {
            return self.activate(); // the policy asks for none any more
        };
        if amount.minor() < min {
            let (currency, actual) = (amount.currency(), amount.minor());
            return Err(Rejection::Amount { field: "first deposit", currency, min, max: i64::MAX, actual });
        }
        let fee = self.money(fee);
        let revenue = Account::Revenue(RevenueKind::Activations);
        self.movement.transfer(available(self.agent.id), revenue, fee, TransferKind::ActivationFee)?;
        self.activate()
    }

    /// Active, with what a new agent is given (AM-01), and its first key where that is due now. A rail or
    /// an operator is nobody to reveal a key to: the owner then makes the first one.
    fn activate(&mut self) -> Result<(), Rejection> {
        self.agent.status = AgentStatus::Active;
        self.agent.activated_at = Some(self.ctx.now);
        let grant = self.money(self.policy().grant);
        let grants = Account::Revenue(RevenueKind::Grants);
        self.movement.transfer(grants, available(self.agent.id), grant, TransferKind::Grant)?;
        self.events.push(AgentEvent::Activated { grant });
        if self.policy().keys.issued == KeyIssue::Activation && matches!(self.ctx.actor, Actor::Owner(_)) {
            self.new_key(FIRST_KEY);
        }
        Ok(())
    }

    fn update(&mut self, update: &ProfileUpdate) -> Result<(), Rejection> {
        let ProfileUpdate { description, capabilities, webhook, avatar, website, rates } = update;
        let profile = &mut self.agent.profile;
        profile.description = description.clone().unwrap_or(std::mem::take(&mut profile.description));
        profile.capabilities = capabilities.clone().unwrap_or(std::mem::take(&mut profile.capabilities));
        profile.rates = rates.unwrap_or(profile.rates);
        let urls = [(&mut profile.webhook, webhook), (&mut profile.avatar, avatar), (&mut profile.website, website)];
        for (url, update) in urls {
            if let Some(update) = update {
                *url = Some(update.clone()).filter(|url| !url.is_empty());
            }
        }
        check_profile(&self.agent.profile, self.policy(), self.ctx.policy)?;
        self.events.push(AgentEvent::Updated {});
        Ok(())
    }

    fn suspend(&mut self, reason: &str) -> Result<(), Rejection> {
        text::prose("reason", reason, text::REASON)?;
        self.agent.was = Some(self.agent.status);
        self.agent.status = AgentStatus::Suspended;
        self.events.push(AgentEvent::Suspended { reason: reason.into() });
        Ok(())
    }

    fn reinstate(&mut self) {
        self.back();
        self.events.push(AgentEvent::Reinstated {});
    }

    fn back(&mut self) {
        self.agent.status = self.agent.was.take().unwrap_or(AgentStatus::PendingVerification);
    }

    fn delete(&mut self) -> Result<(), Rejection> {
        if let Some(contract) = self.ctx.active_contract {
            return Err(Rejection::ContractActive { agent: self.agent.id, contract });
        }
        let agent = self.agent.id;
        match (self.ctx.actor, self.ctx.holds, self.ctx.owes) {
            (Actor::Operator(_), ..) | (_, None, None) => {}
            (_, Some(holds), _) => return Err(Rejection::WalletNotEmpty { agent, holds }),
            (_, None, Some(owes)) => return Err(Rejection::OwesMoney { agent, owes }),
        }
        self.agent.was = Some(self.agent.status);
        self.agent.status = AgentStatus::Closing;
        self.events.push(AgentEvent::Closing {});
        Ok(())
    }

    /// From `closing` on no job can begin, so what is found now is all there is.
    fn close(&mut self) {
        if self.ctx.active_contract.is_some() {
            self.back();
            self.events.push(AgentEvent::Kept {});
            return;
        }
        self.agent.status = AgentStatus::Deleted;
        self.agent.was = None;
        self.agent.keys.clear();
        (self.agent.confirmation, self.agent.recovery, self.agent.fee) = (None, None, None);
        self.agent.profile = Profile::default();
        self.agent.sessions_since = self.ctx.now;
        self.events.push(AgentEvent::Deleted {});
    }

    fn create_key(&mut self, command: &AgentCommand, name: &str) -> Result<(), Rejection> {
        self.may_have_keys(command)?;
        let keys = &self.policy().keys;
        text::line("key name", name, keys.name)?;
        if self.agent.keys.len() >= keys.max as usize {
            return Err(Rejection::TooManyKeys { max: keys.max });
        }
        self.new_key(name);
        Ok(())
    }

    /// Where keys are issued on activation, there are none before.
    fn may_have_keys(&self, command: &AgentCommand) -> Result<(), Rejection> {
        match self.policy().keys.issued {
            KeyIssue::Activation if self.agent.status != AgentStatus::Active => {
                Err(wrong_status(command, &self.agent, &[AgentStatus::Active]))
            }
            KeyIssue::Activation | KeyIssue::Registration => Ok(()),
        }
    }

    fn new_key(&mut self, name: &str) {
        let key = self.fresh_key(name);
        self.events.push(AgentEvent::KeyCreated { key: key.id, name: name.into() });
        self.agent.keys.push(key);
    }

    fn fresh_key(&mut self, name: &str) -> ApiKey {
        self.agent.keys_made += 1;
        let fresh = &self.ctx.fresh.key;
        ApiKey {
            id: KeyId(self.agent.keys_made),
            name: name.into(),
            shown: fresh.shown.clone(),
            digest: fresh.digest,
            created_at: self.ctx.now,
        }
    }

    fn place_of(&self, key: KeyId) -> Result<usize, Rejection> {
        let place = self.agent.keys.iter().position(|known| known.id == key);
        place.ok_or_else(|| Rejection::NotFound { what: "key", id: key.0.to_string() })
    }

    fn rotate_key(&mut self, old: KeyId) -> Result<(), Rejection> {
        let place = self.place_of(old)?;
        let name = self.agent.keys[place].name.clone();
        let key = self.fresh_key(&name);
        self.events.push(AgentEvent::KeyRotated { old, new: key.id });
        self.agent.keys[place] = key;
        self.agent.sessions_since = self.ctx.now;
        Ok(())
    }

    fn revoke_key(&mut self, key: KeyId) -> Result<(), Rejection> {
        let place = self.place_of(key)?;
        if self.agent.keys.len() == 1 {
            return Err(Rejection::LastKey);
        }
        self.agent.keys.remove(place);
        self.agent.sessions_since = self.ctx.now;
        self.events.push(AgentEvent::KeyRevoked { key });
        Ok(())
    }

    fn ask_recovery(&mut self, command: &AgentCommand) -> Result<(), Rejection> {
        let Some(recovery) = self.policy().keys.recovery else {
            return Err(Rejection::NotOffered { what: "recovery of keys" });
        };
        self.may_have_keys(command)?;
        if self.owner.email.is_none() {
            return Err(Rejection::Missing { field: "the owner's e-mail address" });
        }
        let now = self.ctx.now;
        let next = self.owner.recovery_asked_at.map(|before| before + recovery.every.delta());
        if let Some(next) = next.filter(|next| now < *next) {
            return Err(Rejection::TooSoon { command: command.name(), next });
        }
        let expires_at = now + recovery.token_lives.delta();
        self.owner.recovery_asked_at = Some(now);
        self.agent.recovery = Some(Token { digest: self.ctx.fresh.token, expires_at });
        self.events.push(AgentEvent::RecoveryAsked { expires_at });
        Ok(())
    }

    fn recover(&mut self, token: &Digest) -> Result<(), Rejection> {
        self.check_token("recover", self.agent.recovery.as_ref(), token)?;
        self.agent.recovery = None;
        self.agent.keys.clear();
        let key = self.fresh_key(FIRST_KEY);
        self.events.push(AgentEvent::Recovered { key: key.id });
        self.agent.keys.push(key);
        self.agent.sessions_since = self.ctx.now;
        Ok(())
    }
}
