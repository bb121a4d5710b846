//! What agents are told of an event: the policy's table applied to one event, for one receiver.
//!
//! The table says what to tell; this file says what may be seen. A receiver that is no party to what
//! happened sees nothing of the event and of the job only what is public, whatever the table asks for.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::views::{ActorView, AgreementView, ClientView, JobView, OwnView, SubjectView};
use crate::{
    actor::Actor,
    clock::Timestamp,
    ids::{AgentId, JobId},
    job::{Job, JobEvent},
    money::Money,
    policy::{Envelope, Form, NoticeRule, Recipient, Root, Source},
    rail::ObservationBody,
    store::{Event, EventBody, Record},
};

/// What is known about an event when it is told.
pub(crate) struct Facts<'a> {
    event: &'a Event,
    /// The record it happened to, as it is now.
    record: Option<&'a Record>,
    /// The job it is about.
    job: Option<&'a Job>,
    fields: Value,
    job_fields: Value,
    public_fields: Value,
    task: Value,
    client: Value,
    agreement: Value,
    subject: Value,
    actor: Value,
}

/// What is looked up beside an event and its job, where the table asks for it.
#[derive(Default)]
pub(crate) struct Beside {
    /// The job's order.
    pub(crate) task: Option<Value>,
    /// What its buyer is like to work for.
    pub(crate) client: Option<ClientView>,
}

/// What one agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) agent: AgentId,
    pub(crate) job: Option<JobId>,
    pub(crate) event: String,
    pub(crate) payload: Value,
    pub(crate) at: Timestamp,
    /// The row of the table, which tells apart two notices of one event.
    pub(crate) row: usize,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(event: &'a Event, record: Option<&'a Record>, job: Option<&'a Job>, beside: Beside) -> Self {
        let mut fields = serde_json::to_value(&event.body).unwrap_or_default();
        if let Some(fields) = fields.as_object_mut() {
            fields.remove("type");
        }
        let mut task = beside.task.unwrap_or_default();
        // The reserve is the buyer's alone, who set it and need not be told (VP-13).
        if let Some(open) = task.get_mut("open").and_then(Value::as_object_mut) {
            open.remove("reserve");
        }
        Self {
            event,
            record,
            job,
            fields,
            job_fields: job.map_or(Value::Null, |job| json!(JobView::of(job))),
            public_fields: job.map_or(Value::Null, |job| json!(JobView::public(job))),
            task,
            client: beside.client.map_or(Value::Null, |client| json!(client)),
            agreement: match record {
                Some(Record::Agreement(agreement)) => json!(AgreementView::of(agreement)),
                _ => Value::Null,
            },
            subject: json!(SubjectView { id: event.subject.id, kind: event.subject.kind }),
            actor: event.actor.agent().map_or(Value::Null, |agent| json!(ActorView { agent })),
        }
    }

    /// Whether everybody may see what happened: a job is posted that looks for its worker (VP-15).
    fn is_public(&self) -> bool {
        matches!(self.event.body, EventBody::Job(JobEvent::Created { worker: None, .. }))
    }

    /// Whether what happened is this agent's to see: a party's to the record, whoever the record is of, or
    /// a job's buyer. Of several who want one job none sees what happens to another.
    fn is_insider(&self, agent: AgentId) -> bool {
        let is = |id: Uuid| id == agent.0;
        let Some(record) = self.record else { return false };
        holder(record) == Some(agent)
            || record.parties().into_iter().flatten().any(is)
            || self.job.is_some_and(|job| job.buyer == agent)
    }

    /// Whether the agent is one of the job's two parties. Who only wants the job sees no price of it but
    /// its own offer's.
    fn is_party(&self, agent: AgentId) -> bool {
        self.job.is_some_and(|job| job.buyer == agent || job.worker == Some(agent))
    }

    /// What an agent may see at a place.
    fn visible(&self, source: &Source, agent: AgentId) -> Option<Value> {
        let insider = self.is_insider(agent);
        let open = insider || self.is_public();
        let root = match source.root {
            Root::Event if open => &self.fields,
            Root::Task if open => &self.task,
            Root::Actor if insider => &self.actor,
            Root::Job if self.is_party(agent) => &self.job_fields,
            Root::Job => &self.public_fields,
            Root::Client => &self.client,
            Root::Agreement if insider => &self.agreement,
            Root::Own => &self.own(agent),
            Root::Subject => &self.subject,
            Root::Event | Root::Task | Root::Actor | Root::Agreement => return None,
        };
        at_path(root, &source.path).filter(|value| !value.is_null()).map(|value| formed(value, source.form))
    }

    /// What of the event is the agent's own.
    fn own(&self, agent: AgentId) -> Value {
        match (&self.event.body, self.job) {
            (EventBody::Job(JobEvent::PaymentReceived { legs, .. }), Some(job)) => json!(OwnView::of(legs, job, agent)),
            _ => Value::Null,
        }
    }

    /// The agent at a place. Who is told is decided by the platform, so everything may be looked at.
    fn agent_at(&self, source: &Source) -> Option<AgentId> {
        let root = match source.root {
            Root::Event => &self.fields,
            Root::Job => &self.job_fields,
            Root::Agreement => &self.agreement,
            Root::Subject => &self.subject,
            Root::Actor => &self.actor,
            Root::Task | Root::Own | Root::Client => return None,
        };
        at_path(root, &source.path)?.as_str()?.parse().ok()
    }
}

/// Which rows of the table are about an event of this name.
pub(crate) fn rows<'r>(table: &'r [NoticeRule], event: &'r str) -> impl Iterator<Item = (usize, &'r NoticeRule)> {
    table.iter().enumerate().filter(move |(_, rule)| rule.on == event)
}

/// What a row tells, to the agents it names and to `capable` ones if it asks for those. Nobody is told
/// twice by one row.
pub(crate) fn compose(row: usize, rule: &NoticeRule, facts: &Facts<'_>, capable: &[AgentId]) -> Vec<Told> {
    let mut agents: Vec<AgentId> = Vec::new();
    for recipient in &rule.to {
        match recipient {
            Recipient::Capable => agents.extend(capable),
            Recipient::Other => agents.extend(others(facts)),
            Recipient::Found(source) => agents.extend(facts.agent_at(source)),
        }
    }
    agents.sort_unstable();
    agents.dedup();
    agents.into_iter().filter_map(|agent| tell(row, rule, facts, agent)).collect()
}

/// The body of a delivery.
pub(crate) fn envelop(envelope: &Envelope, event: &str, at: Timestamp, payload: &Value) -> String {
    let mut fields = match (&envelope.data, payload) {
        (None, Value::Object(fields)) => fields.clone(),
        (name, payload) => Map::from_iter([(name.clone().unwrap_or_else(|| "data".into()), payload.clone())]),
    };
    fields.insert(envelope.event.clone(), event.into());
    if let Some(name) = &envelope.timestamp {
        fields.insert(name.clone(), json!(at));
    }
    Value::Object(fields).to_string()
}

fn tell(row: usize, rule: &NoticeRule, facts: &Facts<'_>, agent: AgentId) -> Option<Told> {
    let holds = |(source, wanted): (&Source, &Value)| match facts.visible(source, agent) {
        Some(found) => wanted == "*" || found == *wanted,
        None => false,
    };
    if !rule.when.iter().all(holds) {
        return None;
    }
    let field = |(name, template): (&String, &Value)| Some((name.clone(), fill(template, facts, agent)?));
    Some(Told {
        agent,
        job: facts.job.map(|job| job.id),
        event: rule.name().to_owned(),
        payload: Value::Object(rule.payload.iter().filter_map(field).collect()),
        at: facts.event.at,
        row,
    })
}

/// A template with what the agent may see filled in; `None` for what it may not, or what is not there.
fn fill(template: &Value, facts: &Facts<'_>, agent: AgentId) -> Option<Value> {
    match template {
        Value::String(text) => match text.strip_prefix('$') {
            Some(source) => facts.visible(&source.parse().ok()?, agent),
            None => Some(template.clone()),
        },
        Value::Array(list) => Some(list.iter().filter_map(|value| fill(value, facts, agent)).collect()),
        Value::Object(map) => {
            let field = |(name, value): (&String, &Value)| Some((name.clone(), fill(value, facts, agent)?));
            Some(Value::Object(map.iter().filter_map(field).collect()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(template.clone()),
    }
}

/// The parties to the job or agreement without whoever did it; both when nobody of them did.
fn others(facts: &Facts<'_>) -> Vec<AgentId> {
    let parties = match (facts.job, facts.record) {
        (Some(job), _) => [Some(job.buyer), job.worker],
        (None, Some(Record::Agreement(agreement))) => [Some(agreement.buyer), Some(agreement.seller)],
        (None, _) => [None, None],
    };
    let actor = match &facts.event.actor {
        Actor::Agent(agent) => Some(*agent),
        Actor::Owner(_) | Actor::Operator(_) | Actor::Timer | Actor::Rail(_) => None,
    };
    parties.into_iter().flatten().filter(|party| Some(*party) != actor).collect()
}

/// The job that a record is about.
pub(crate) fn job_of(record: &Record) -> Option<JobId> {
    match record {
        Record::Job(job) => Some(job.id),
        Record::Bid(bid) => Some(bid.job),
        Record::Dispute(dispute) => Some(dispute.job),
        Record::Review(review) => Some(review.job),
        _ => None,
    }
}

/// Whose a record is that belongs to one agent.
fn holder(record: &Record) -> Option<AgentId> {
    match record {
        Record::Agent(agent) => Some(agent.id),
        Record::Wallet(wallet) => Some(wallet.agent),
        Record::Budget(budget) => Some(budget.agent),
        Record::Reputation(reputation) => Some(reputation.agent),
        Record::Observation(observed) => match &observed.observation.body {
            ObservationBody::Deposit { agent, .. } | ObservationBody::AccountReady { agent } => Some(*agent),
            _ => None,
        },
        _ => None,
    }
}

fn at_path<'v>(root: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(root, |value, name| match value {
        Value::Array(list) => list.get(name.parse::<usize>().ok()?),
        _ => value.get(name),
    })
}

fn formed(value: &Value, form: Form) -> Value {
    let money = || value.as_str()?.parse::<Money>().ok();
    match form {
        Form::Text => value.clone(),
        Form::Minor => money().map_or(Value::Null, |money| money.minor().into()),
        Form::Decimal => money().map_or(Value::Null, |money| {
            let text = money.to_string();
            text.split_once(' ').map_or(text.as_str(), |(number, _)| number).into()
        }),
        Form::Word => match value {
            Value::Object(choice) if choice.len() == 1 => {
                choice.keys().next().map_or(Value::Null, |word| word.as_str().into())
            }
            word => word.clone(),
        },
    }
}
