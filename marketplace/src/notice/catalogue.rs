//! What there is to tell: the events of the log with their fields, read off the event types themselves.
//!
//! A policy's table of notices is held against this when the policy is validated. A row about an event
//! that never happens, or that reads a field which its event does not have, would be silent for ever.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde_json::Value;

use super::views::{ActorView, AgreementView, ClientView, JobView, OwnView, SubjectView};
use crate::{
    agreement::chain::Hash,
    ids::RailId,
    job::JobOrder,
    ledger::Account,
    money::Money,
    policy::{Form, Recipient, Root, Source, Span},
    store::{EventBody, Kind},
};

/// An event that a row may be about.
pub(crate) struct Topic {
    name: String,
    kind: Kind,
    fields: Shape,
}

/// Every event of the log, by its name; events that several kinds of records share once for each.
static TOPICS: LazyLock<BTreeMap<String, Vec<Topic>>> = LazyLock::new(|| {
    let kinds = EventBody::schemas().into_iter();
    let mut all = BTreeMap::<String, Vec<Topic>>::new();
    for topic in kinds.flat_map(|(kind, schema)| topics(kind, schema.into())) {
        all.entry(topic.name.clone()).or_default().push(topic);
    }
    all
});
static JOB: LazyLock<Shape> = LazyLock::new(Shape::of::<JobView>);
static TASK: LazyLock<Shape> = LazyLock::new(Shape::of::<JobOrder>);
static AGREEMENT: LazyLock<Shape> = LazyLock::new(Shape::of::<AgreementView>);
static OWN: LazyLock<Shape> = LazyLock::new(Shape::of::<OwnView>);
static CLIENT: LazyLock<Shape> = LazyLock::new(Shape::of::<ClientView>);
static SUBJECT: LazyLock<Shape> = LazyLock::new(Shape::of::<SubjectView>);
static ACTOR: LazyLock<Shape> = LazyLock::new(Shape::of::<ActorView>);

/// The event that an agent's share of a payment is read from.
const SHARED: &str = "payment.received";

/// The events of a kind: one for each variant, or several where a variant says that it has several names.
/// Among them are those of a type that it shares with other kinds.
fn topics(kind: Kind, schema: Value) -> Vec<Topic> {
    let shape = Shape(schema);
    let topic = |Found { schema: variant, .. }: Found<'_>| {
        let own = variant["properties"]["type"]["const"].as_str().map(str::to_owned);
        let names = variant.get("x-names").and_then(Value::as_array).into_iter().flatten();
        let names: Vec<String> = names.filter_map(|name| name.as_str().map(str::to_owned)).chain(own).collect();
        let mut variant = variant.clone();
        variant["$defs"] = shape.0.get("$defs").cloned().unwrap_or_default();
        if let Some(fields) = variant["properties"].as_object_mut() {
            fields.remove("type");
        }
        names.into_iter().map(move |name| Topic { name, kind, fields: Shape(variant.clone()) })
    };
    shape.alternatives(None, &shape.0).into_iter().flat_map(topic).collect()
}

/// The events of this name, one for each kind of record that has it, or which names there are.
pub(crate) fn named(name: &str) -> Result<&'static [Topic], String> {
    TOPICS.get(name).map(Vec::as_slice).ok_or_else(|| {
        let group = name.split_once('.').map(|(group, _)| format!("{group}."));
        let near: Vec<&str> = TOPICS.keys().map(String::as_str).collect();
        let fits = |known: &&str| group.as_ref().is_some_and(|group| known.starts_with(group));
        let same: Vec<&str> = near.iter().copied().filter(fits).collect();
        format!("allowed are the events {}", if same.is_empty() { near } else { same }.join(", "))
    })
}

/// Whether records of this kind are about one job.
const fn is_about_job(kind: Kind) -> bool {
    matches!(kind, Kind::Job | Kind::Bid | Kind::Dispute | Kind::Review)
}

impl Topic {
    /// Whether a place can ever have a value, and for a condition whether it can be the one that is wanted;
    /// if not, what is allowed.
    pub(crate) fn check(&self, source: &Source, wanted: Option<&Value>) -> Result<(), String> {
        let found = self.root(source.root)?.at(&source.path)?;
        match source.form {
            Form::Text => {}
            Form::Minor | Form::Decimal if found.iter().any(|of| of.is("Money")) => {}
            Form::Minor | Form::Decimal => return Err("allowed is an amount of money".into()),
            Form::Word if found.iter().any(|of| !of.words().is_empty()) => {}
            Form::Word => return Err("allowed is a choice between words".into()),
        }
        let words: Vec<&str> = found.iter().flat_map(Found::words).collect();
        match wanted.filter(|wanted| **wanted != "*").and_then(Value::as_str) {
            Some(wanted) if !words.is_empty() && !words.contains(&wanted) => {
                Err(format!("allowed are * and {}", words.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// Whether a receiver can ever be found; if not, what is allowed.
    pub(crate) fn check_recipient(&self, recipient: &Recipient) -> Result<(), String> {
        match recipient {
            Recipient::Capable => self.root(Root::Job).map(drop),
            Recipient::Other => {
                self.root(Root::Job).or_else(|_| self.root(Root::Agreement)).map(drop).map_err(|_| no_contract())
            }
            Recipient::Found(source) => match source.root {
                Root::Task | Root::Own | Root::Client => {
                    Err("allowed are agents in event, job, agreement, subject and actor".into())
                }
                // An agent's own record has its id.
                Root::Subject if self.kind == Kind::Agent => self.root(Root::Subject)?.at(&source.path).map(drop),
                root => match self.root(root)?.at(&source.path)?.iter().any(|of| of.is("AgentId")) {
                    true => Ok(()),
                    false => Err("allowed is the place of an agent".into()),
                },
            },
        }
    }

    /// What is looked into, if this event has it; otherwise what is allowed.
    fn root(&self, root: Root) -> Result<&Shape, String> {
        match root {
            Root::Event => Ok(&self.fields),
            Root::Subject => Ok(&SUBJECT),
            Root::Actor => Ok(&ACTOR),
            Root::Own if self.name == SHARED => Ok(&OWN),
            Root::Own => Err(format!("allowed is own for {SHARED}")),
            Root::Job if is_about_job(self.kind) => Ok(&JOB),
            Root::Task if is_about_job(self.kind) => Ok(&TASK),
            Root::Client if is_about_job(self.kind) => Ok(&CLIENT),
            Root::Agreement if self.kind == Kind::Agreement => Ok(&AGREEMENT),
            Root::Job | Root::Task | Root::Client | Root::Agreement => Err(no_contract()),
        }
    }
}

fn no_contract() -> String {
    "allowed are job, task and client for events of jobs, bids, disputes and reviews, agreement for events of \
     agreements"
        .into()
}

/// A type, as a JSON Schema with the definitions it refers to.
struct Shape(Value);

/// What may stand at a place: a schema, and the name of its type if it has one.
struct Found<'s> {
    name: Option<&'s str>,
    schema: &'s Value,
}

impl Shape {
    fn of<T: JsonSchema>() -> Self {
        Self(schema_for!(T).into())
    }

    /// What may stand at a path; if nothing may, what is allowed there.
    fn at(&self, path: &[String]) -> Result<Vec<Found<'_>>, String> {
        let mut here = self.alternatives(None, &self.0);
        for name in path {
            if here.iter().any(Found::is_free) {
                return Ok(here);
            }
            let below = here.iter().filter_map(|found| found.below(name));
            let below: Vec<Found<'_>> = below.flat_map(|schema| self.alternatives(None, schema)).collect();
            if below.is_empty() {
                let mut names: Vec<&str> = here.iter().flat_map(Found::names).collect();
                names.sort_unstable();
                names.dedup();
                let names = if names.is_empty() { "no field".into() } else { names.join(", ") };
                return Err(format!("{name:?} is no field here: allowed is {names}"));
            }
            here = below;
        }
        Ok(here)
    }

    /// The schemas that one stands for: references followed, choices spread out.
    fn alternatives<'s>(&'s self, name: Option<&'s str>, schema: &'s Value) -> Vec<Found<'s>> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let named = reference.rsplit('/').next();
            let to = named.and_then(|named| self.0.get("$defs")?.get(named));
            return to.map_or_else(Vec::new, |to| self.alternatives(named, to));
        }
        let choices = ["anyOf", "oneOf"].into_iter().find_map(|key| schema.get(key)?.as_array());
        match choices {
            Some(choices) => choices.iter().flat_map(|choice| self.alternatives(name, choice)).collect(),
            None => vec![Found { name, schema }],
        }
    }
}

impl<'s> Found<'s> {
    fn is(&self, name: &str) -> bool {
        self.name == Some(name)
    }

    /// Whether it is JSON of any form, the parties' own.
    fn is_free(&self) -> bool {
        let open = |more: &Value| *more != Value::Bool(false);
        self.schema.as_bool() == Some(true)
            || self.schema.as_object().is_some_and(serde_json::Map::is_empty)
            || self.schema.get("additionalProperties").is_some_and(open)
    }

    fn below(&self, name: &str) -> Option<&'s Value> {
        match self.schema.get("items") {
            Some(items) if name.parse::<usize>().is_ok() => Some(items),
            _ => self.schema.get("properties")?.get(name),
        }
    }

    fn names(&self) -> impl Iterator<Item = &'s str> {
        self.schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|fields| fields.keys())
            .map(String::as_str)
    }

    /// The words of which it is one: a choice without fields is its name, one with fields an object of that
    /// one name.
    fn words(&self) -> Vec<&'s str> {
        let several = self.schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let words: Vec<&str> = several.chain(self.schema.get("const")).filter_map(Value::as_str).collect();
        let closed = self.schema.get("additionalProperties") == Some(&Value::Bool(false));
        match self.names().collect::<Vec<_>>() {
            names if closed && names.len() == 1 => names,
            _ => words,
        }
    }
}

/// Types that are one text in JSON.
macro_rules! texts {
    ($($name:ident),+) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string" })
            }
        }
    )+};
}

texts!(Money, RailId, Account, Span, Hash);
