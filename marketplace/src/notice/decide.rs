//! What may be done with a subscription, and what an answer to a delivery means.

use serde::{Deserialize, Serialize};

use super::{Delivery, DeliveryState, Endpoint, EndpointEvent, EndpointState, Reply, RestsUntil, Try};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, EndpointId, JobId, OwnerId},
    policy::{Range, Switch, WebhookPolicy},
    text,
};

/// An address's length in characters.
const URL: Range<u32> = Range { min: 9, max: 2048 };
/// How many event names a subscription may list, and how long each may be.
const EVENTS: u32 = 100;
const EVENT: Range<u32> = Range { min: 1, max: 64 };
/// How many tries a delivery's log keeps.
const LOG: usize = 32;

/// What can be asked of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum EndpointCommand {
    /// Make one (PG-13).
    Add {
        /// The new id.
        id: EndpointId,
        /// What it is for.
        target: Target,
        /// Where to.
        url: String,
        /// Which events; empty for all.
        events: Vec<String>,
    },
    /// Lead elsewhere, or want other events.
    Change {
        /// Where to; the same when absent.
        url: Option<String>,
        /// Which events; the same when absent.
        events: Option<Vec<String>>,
    },
    /// Give it a new secret. The old one signs too for as long as the policy says.
    Rotate,
    /// Show its secret, if it was not shown yet.
    Reveal,
    /// Send nothing to it for now.
    Pause,
    /// Send to it again, also what was held meanwhile.
    Resume,
    /// Remove it.
    Remove,
}

impl EndpointCommand {
    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add_endpoint",
            Self::Change { .. } => "change_endpoint",
            Self::Rotate => "rotate_endpoint_secret",
            Self::Reveal => "reveal_endpoint_secret",
            Self::Pause => "pause_endpoint",
            Self::Resume => "resume_endpoint",
            Self::Remove => "remove_endpoint",
        }
    }
}

/// What a new subscription is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Whose notices.
    pub agent: AgentId,
    /// Only those of this job, instead of the agent's other addresses (JP-34).
    pub job: Option<JobId>,
}

/// What a decision about a subscription may look at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present.
    pub now: Timestamp,
    /// Who asks.
    pub actor: &'a Actor,
    /// The newest policy's.
    pub policy: &'a WebhookPolicy,
    /// The agent's owner, where agents are kept here.
    pub owner: Option<OwnerId>,
    /// How many subscriptions the agent (or the job) has.
    pub count: usize,
    /// Whether the agent is a party to the job that the subscription is for.
    pub party: Party,
}

/// Whether an agent is a party to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// It is.
    Yes,
    /// It is not, or there is no such job.
    No,
}

/// A subscription as it will be, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointDecision {
    /// The subscription.
    pub endpoint: Endpoint,
    /// What happened.
    pub events: Vec<EndpointEvent>,
}

/// Decides a command to a subscription; `None` is one that is to be made.
///
/// # Errors
/// [`Rejection`]
pub fn decide(
    endpoint: Option<&Endpoint>,
    command: &EndpointCommand,
    ctx: &Context<'_>,
) -> Result<EndpointDecision, Rejection> {
    let (agent, name) = (target(endpoint, command)?.agent, command.name());
    let may = match ctx.actor {
        Actor::Agent(actor) => *actor == agent,
        Actor::Owner(owner) => ctx.owner == Some(*owner),
        Actor::Operator(_) | Actor::Timer => true,
        Actor::Rail(_) => false,
    };
    if !may {
        let allowed = "the agent, its owner or an operator";
        return Err(Rejection::WrongActor { command: name, allowed, actor: ctx.actor.clone() });
    }
    let Some(before) = endpoint else { return add(command, ctx) };
    let mut endpoint = before.clone();
    let allow = |states: &[&'static str]| match states.contains(&before.state.as_str()) {
        true => Ok(()),
        false => Err(Rejection::WrongEndpoint { command: name, state: before.state.as_str() }),
    };
    let event = match command {
        EndpointCommand::Add { .. } => return Err(Rejection::WrongEndpoint { command: name, state: "there already" }),
        EndpointCommand::Change { url, events } => {
            match ctx.actor {
                // The profile names an address again.
                Actor::Timer => endpoint.state = EndpointState::Active,
                _ => allow(&["active", "paused", "disabled"])?,
            }
            if let Some(url) = url {
                check_url(url)?;
                endpoint.url.clone_from(url);
            }
            if let Some(events) = events {
                check_events(events)?;
                endpoint.events.clone_from(events);
            }
            EndpointEvent::Changed { host: endpoint.host().to_owned() }
        }
        EndpointCommand::Rotate => {
            allow(&["active", "paused", "disabled"])?;
            let overlap_until = ctx.now + ctx.policy.secret_overlap.delta();
            endpoint.rotations += 1;
            endpoint.overlap_until = Some(overlap_until);
            endpoint.revealed = true;
            EndpointEvent::Rotated { overlap_until }
        }
        EndpointCommand::Reveal => {
            allow(&["active", "paused", "disabled"])?;
            if before.revealed {
                return Err(Rejection::WrongEndpoint { command: name, state: "known to its owner; rotate its secret" });
            }
            endpoint.revealed = true;
            EndpointEvent::Revealed {}
        }
        EndpointCommand::Pause => {
            allow(&["active"])?;
            endpoint.state = EndpointState::Paused;
            EndpointEvent::Paused {}
        }
        EndpointCommand::Resume => {
            allow(&["paused", "disabled"])?;
            endpoint.state = EndpointState::Active;
            (endpoint.given_up, endpoint.rests_until) = (0, None);
            EndpointEvent::Resumed {}
        }
        EndpointCommand::Remove => {
            allow(&["active", "paused", "disabled"])?;
            endpoint.state = EndpointState::Removed;
            EndpointEvent::Removed {}
        }
    };
    Ok(EndpointDecision { endpoint, events: vec![event] })
}

fn target(endpoint: Option<&Endpoint>, command: &EndpointCommand) -> Result<Target, Rejection> {
    match (endpoint, command) {
        (Some(endpoint), _) => Ok(Target { agent: endpoint.agent, job: endpoint.job }),
        (None, EndpointCommand::Add { target, .. }) => Ok(*target),
        (None, _) => Err(Rejection::NotFound { what: "endpoint", id: String::new() }),
    }
}

fn add(command: &EndpointCommand, ctx: &Context<'_>) -> Result<EndpointDecision, Rejection> {
    let EndpointCommand::Add { id, target, url, events } = command else {
        return Err(Rejection::NotFound { what: "endpoint", id: String::new() });
    };
    if let Some(job) = target.job {
        if ctx.policy.per_job == Switch::Off {
            return Err(Rejection::NotOffered { what: "addresses for single jobs" });
        }
        if ctx.party == Party::No {
            return Err(Rejection::NotFound { what: "job", id: job.to_string() });
        }
    }
    let max = ctx.policy.subscriptions;
    if ctx.count >= max as usize {
        return Err(Rejection::TooMany { field: "endpoints", max, actual: ctx.count + 1 });
    }
    check_url(url)?;
    check_events(events)?;
    let endpoint = Endpoint {
        id: *id,
        agent: target.agent,
        job: target.job,
        url: url.clone(),
        events: events.clone(),
        state: EndpointState::Active,
        rotations: 0,
        overlap_until: None,
        // Whoever asks for it is shown its secret; one that the engine makes has nobody to show it to.
        revealed: !matches!(ctx.actor, Actor::Timer),
        given_up: 0,
        rests_until: None,
        added_at: ctx.now,
    };
    let host = endpoint.host().to_owned();
    Ok(EndpointDecision { endpoint, events: vec![EndpointEvent::Added { host }] })
}

fn check_url(url: &str) -> Result<(), Rejection> {
    text::line("url", url, URL)?;
    text::https("url", url)
}

fn check_events(events: &[String]) -> Result<(), Rejection> {
    if events.len() > EVENTS as usize {
        return Err(Rejection::TooMany { field: "events", max: EVENTS, actual: events.len() });
    }
    events.iter().try_for_each(|name| text::line("event", name, EVENT))
}

/// What a try leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The delivery as it will be.
    pub delivery: Delivery,
    /// The subscription as it will be, if it changes.
    pub endpoint: Option<EndpointDecision>,
}

/// Decides what follows from a try (VP-37, JP-34, PG-13): 2xx is a success, 410 switches the
/// subscription off, `Retry-After` is obeyed, everything else is tried again by the policy's schedule
/// and then given up; too many given up in a row switch the subscription off.
pub fn after(
    delivery: &Delivery,
    endpoint: &Endpoint,
    answer: Result<&Reply, &str>,
    policy: &WebhookPolicy,
    now: Timestamp,
) -> Outcome {
    let mut delivery = delivery.clone();
    delivery.tries += 1;
    let (status, problem) = match answer {
        Ok(reply) => (Some(reply.status), None),
        Err(problem) => (None, Some(problem.to_owned())),
    };
    delivery.log.push(Try { at: now, status, problem });
    let excess = delivery.log.len().saturating_sub(LOG);
    delivery.log.drain(..excess);
    delivery.answer = answer.map_or_else(|_| String::new(), |reply| cut(&reply.body, policy.answer_bytes as usize));
    let mut changed = endpoint.clone();
    let mut events = Vec::new();
    let rest = answer.ok().filter(|reply| matches!(reply.status, 429 | 503)).and_then(|reply| rest(reply, policy, now));
    let next = policy.retries.get(delivery.tries as usize - 1).map(|wait| now + wait.delta());
    delivery.state = match status {
        Some(200..=299) => {
            changed.given_up = 0;
            DeliveryState::Delivered
        }
        Some(410) => {
            disable(&mut changed, &mut events, "the receiver answered that it is gone (410)".into());
            DeliveryState::Failed
        }
        _ => match next {
            Some(next) => {
                changed.rests_until = rest.max(endpoint.rests_until);
                DeliveryState::Pending { next_at: rest.map_or(next, |rest| rest.max(next)) }
            }
            None => {
                changed.given_up += 1;
                if changed.given_up >= policy.disable_after {
                    let reason = format!("{} deliveries in a row were given up", changed.given_up);
                    disable(&mut changed, &mut events, reason);
                }
                DeliveryState::Failed
            }
        },
    };
    let endpoint = (changed != *endpoint).then_some(EndpointDecision { endpoint: changed, events });
    Outcome { delivery, endpoint }
}

fn disable(endpoint: &mut Endpoint, events: &mut Vec<EndpointEvent>, reason: String) {
    if endpoint.state == EndpointState::Active {
        endpoint.state = EndpointState::Disabled { reason: reason.clone() };
        events.push(EndpointEvent::Disabled { reason });
    }
}

/// Until when a receiver wants to be left alone, no longer than the policy allows.
fn rest(reply: &Reply, policy: &WebhookPolicy, now: Timestamp) -> Option<Timestamp> {
    let longest = now + policy.longest_rest.delta();
    let asked = match reply.rests_until? {
        RestsUntil::After(span) => now + span.delta(),
        RestsUntil::At(at) => at,
    };
    Some(asked.clamp(now, longest))
}

/// The beginning of a text, without half a character at its end.
fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

impl Delivery {
    /// What is to be done with it before it is tried, if its subscription does not take it now.
    pub(crate) fn put_off(&self, endpoint: &Endpoint, now: Timestamp) -> Option<Self> {
        let state = match (&endpoint.state, endpoint.rests_until) {
            (EndpointState::Paused | EndpointState::Disabled { .. }, _) => DeliveryState::Held,
            (EndpointState::Removed, _) => DeliveryState::Dropped,
            (EndpointState::Active, Some(next_at)) if next_at > now => DeliveryState::Pending { next_at },
            (EndpointState::Active, _) => return None,
        };
        Some(Self { state, ..self.clone() })
    }

    /// It is to be tried anew, from the beginning of the schedule.
    ///
    /// # Errors
    /// [`Rejection::WrongDelivery`] while it is on its way.
    pub(crate) fn replay(&self, now: Timestamp) -> Result<Self, Rejection> {
        match self.state {
            DeliveryState::Pending { .. } => {
                Err(Rejection::WrongDelivery { command: "replay_delivery", state: self.state.as_str() })
            }
            DeliveryState::Delivered | DeliveryState::Failed | DeliveryState::Held | DeliveryState::Dropped => {
                Ok(Self { state: DeliveryState::Pending { next_at: now }, tries: 0, ..self.clone() })
            }
        }
    }
}
