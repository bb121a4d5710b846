//! Which events are told to whom, under which name, in which words.
//!
//! A marketplace's notices are a table: each row reads one event of the log and makes of it what the
//! receivers get. What a row may show is bounded by what its receiver may see; that is not policy.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use super::check::{At, Checked};
use crate::notice::{Topic, named};

/// One row of the table: what is told of an event, and to whom (VP-38, JP-34, AM-10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeRule {
    /// The event's name in the log: `job.delivered`.
    pub on: String,
    /// Its name outside; the same when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What must be true of the event, by where it is found: a value, or `"*"` for any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<Source, Value>,
    /// Who is told.
    pub to: Vec<Recipient>,
    /// What they are told: a template of JSON in which each text that begins with `$` is a [`Source`].
    /// What is not there, or not the receiver's to see, is left out.
    #[serde(default)]
    pub payload: BTreeMap<String, Value>,
}

impl NoticeRule {
    /// Its name outside.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.on)
    }

    /// Whether it looks into this.
    pub(crate) fn reads(&self, root: Root) -> bool {
        fn any(value: &Value, root: Root) -> bool {
            match value {
                Value::String(text) => {
                    let source = text.strip_prefix('$').and_then(|text| text.parse::<Source>().ok());
                    source.is_some_and(|source| source.root == root)
                }
                Value::Array(list) => list.iter().any(|value| any(value, root)),
                Value::Object(map) => map.values().any(|value| any(value, root)),
                Value::Null | Value::Bool(_) | Value::Number(_) => false,
            }
        }
        self.when.keys().any(|source| source.root == root) || self.payload.values().any(|value| any(value, root))
    }
}

/// Who is told of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// `capable`: every active agent that lists one of the job's required capabilities, but its buyer
    /// (AM-10).
    Capable,
    /// `other`: the parties to the job or agreement, without the agent who did it.
    Other,
    /// The agent whose id is found there: `job.buyer`, `event.agent`.
    Found(Source),
}

/// Where a value is found: `job.buyer`, `event.amount`; for an amount of money with the form that
/// receivers expect, `event.amount as minor` (a number of minor units) or `event.amount as decimal`
/// (`"12.50"`); and `event.ending.award as word` for which of several choices something is, without what the
/// choice says besides (`"split"`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// What is looked into.
    pub root: Root,
    /// The names of fields, outermost first.
    pub path: Vec<String>,
    /// How it is written.
    pub form: Form,
}

/// What a value is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// The event's own fields.
    Event,
    /// The job it is about, as it is now.
    Job,
    /// What is to be done for the job, as posted.
    Task,
    /// What the job's buyer is like to work for: `client.dispute_rate` (JP-33).
    Client,
    /// The usage agreement it is about, as it is now; for its parties (PG-13).
    Agreement,
    /// What of an event is the receiver's: `own.amount`, its share of a settled payment, and `own.fee`, what
    /// the platform took beside a worker's.
    Own,
    /// The record it happened to: `subject.id`.
    Subject,
    /// Who did it: `actor.agent`, where an agent did.
    Actor,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As everywhere in the library: money is `"12.50 EUR"`.
    Text,
    /// Money as a number of minor units.
    Minor,
    /// Money as a decimal text without the currency.
    Decimal,
    /// A choice as its word alone.
    Word,
}

/// The fields around a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The field that names the event.
    pub event: String,
    /// The field with the moment it happened; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// The field that holds the payload; its fields stand beside the others when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

const ROOTS: [(&str, Root); 8] = [
    ("event", Root::Event),
    ("job", Root::Job),
    ("task", Root::Task),
    ("client", Root::Client),
    ("agreement", Root::Agreement),
    ("own", Root::Own),
    ("subject", Root::Subject),
    ("actor", Root::Actor),
];
/// The most rows of the table.
const RULES_LIMIT: usize = 500;
/// The longest event name, in bytes.
const NAME_LIMIT: usize = 64;
/// The most fields of a payload, with those inside it.
const FIELDS_LIMIT: usize = 100;
/// The most names of one path.
const PATH_LIMIT: usize = 6;

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, form) = match text.split_once(" as ") {
            None => (text, Form::Text),
            Some((place, "minor")) => (place, Form::Minor),
            Some((place, "decimal")) => (place, Form::Decimal),
            Some((place, "word")) => (place, Form::Word),
            Some((_, form)) => return Err(format!("{form:?}: allowed are minor, decimal and word")),
        };
        let mut names = place.split('.');
        let root = names.next().unwrap_or_default();
        let root = ROOTS.iter().find(|(name, _)| *name == root).map(|(_, root)| *root);
        let root =
            root.ok_or_else(|| format!("{text:?}: allowed are places in {}", ROOTS.map(|(name, _)| name).join(", ")))?;
        let path: Vec<String> = names.map(str::to_owned).collect();
        let named = |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match path.len() <= PATH_LIMIT && path.iter().all(named) && (!path.is_empty() || root == Root::Task) {
            true => Ok(Self { root, path, form }),
            false => Err(format!("{text:?}: allowed are up to {PATH_LIMIT} names of fields after a point each")),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = ROOTS.iter().find(|(_, root)| *root == self.root).map_or("", |(name, _)| name);
        f.write_str(root)?;
        self.path.iter().try_for_each(|name| write!(f, ".{name}"))?;
        match self.form {
            Form::Text => Ok(()),
            Form::Minor => f.write_str(" as minor"),
            Form::Decimal => f.write_str(" as decimal"),
            Form::Word => f.write_str(" as word"),
        }
    }
}

impl FromStr for Recipient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "capable" => Ok(Self::Capable),
            "other" => Ok(Self::Other),
            place => place.parse().map(Self::Found),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capable => f.write_str("capable"),
            Self::Other => f.write_str("other"),
            Self::Found(place) => place.fmt(f),
        }
    }
}

/// Values that are written as one word.
macro_rules! as_text {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

as_text!(Source, Recipient);

pub(super) fn check(rules: &[NoticeRule], at: &At) -> Checked {
    at.within(rules.len(), 0, RULES_LIMIT)?;
    for (i, rule) in rules.iter().enumerate() {
        let at = at.entry(i);
        check_name(&at.field("name"), rule.name())?;
        at.field("to").within(rule.to.len(), 1, 10)?;
        let mut fields = 0;
        for (name, value) in &rule.payload {
            check_template(&at.field("payload").field(name), value, &mut fields)?;
        }
        check_against_the_log(rule, &at)?;
    }
    Ok(())
}

/// What a row reads must be there to be read: all of it in the events of one kind of record.
fn check_against_the_log(rule: &NoticeRule, at: &At) -> Checked {
    let topics = named(&rule.on).map_err(|allowed| at.field("on").refuse(format_args!("{:?}", rule.on), allowed))?;
    let mut refused = Ok(());
    for topic in topics {
        match (check_against(rule, at, topic), &refused) {
            (Ok(()), _) => return Ok(()),
            (first, Ok(())) => refused = first,
            (Err(_), Err(_)) => {}
        }
    }
    refused
}

fn check_against(rule: &NoticeRule, at: &At, topic: &Topic) -> Checked {
    for (i, recipient) in rule.to.iter().enumerate() {
        topic.check_recipient(recipient).map_err(|allowed| at.field("to").entry(i).refuse(recipient, allowed))?;
    }
    for (source, wanted) in &rule.when {
        let refuse = |allowed| at.field("when").field(source).refuse(wanted, allowed);
        topic.check(source, Some(wanted)).map_err(refuse)?;
    }
    let at = at.field("payload");
    rule.payload.iter().try_for_each(|(name, value)| check_sources(&at.field(name), value, topic))
}

fn check_sources(at: &At, value: &Value, topic: &Topic) -> Checked {
    match value {
        Value::String(text) => match text.strip_prefix('$').and_then(|text| text.parse::<Source>().ok()) {
            Some(source) => topic.check(&source, None).map_err(|allowed| at.refuse(text, allowed)),
            None => Ok(()),
        },
        Value::Array(list) => {
            list.iter().enumerate().try_for_each(|(i, value)| check_sources(&at.entry(i), value, topic))
        }
        Value::Object(map) => map.iter().try_for_each(|(name, value)| check_sources(&at.field(name), value, topic)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

impl Envelope {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("event").word(&self.event)?;
        self.timestamp.as_deref().map_or(Ok(()), |name| at.field("timestamp").word(name))?;
        self.data.as_deref().map_or(Ok(()), |name| at.field("data").word(name))?;
        let names: Vec<&String> =
            [Some(&self.event), self.timestamp.as_ref(), self.data.as_ref()].into_iter().flatten().collect();
        at.distinct(&names)
    }
}

/// Names are compared, sent as a header, and written into logs.
fn check_name(at: &At, name: &str) -> Checked {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.');
    match (1..=NAME_LIMIT).contains(&name.len()) && name.bytes().all(fits) {
        true => Ok(()),
        false => {
            Err(at.refuse(format_args!("{name:?}"), format_args!("allowed are 1 to {NAME_LIMIT} of a-z, 0-9, _ and .")))
        }
    }
}

fn check_template(at: &At, value: &Value, fields: &mut usize) -> Checked {
    *fields += 1;
    at.within(*fields, 1, FIELDS_LIMIT)?;
    match value {
        Value::String(text) => match text.strip_prefix('$').map(str::parse::<Source>) {
            Some(Err(allowed)) => Err(at.refuse(format_args!("{text:?}"), allowed)),
            Some(Ok(_)) | None => Ok(()),
        },
        Value::Array(list) => list.iter().try_for_each(|value| check_template(at, value, fields)),
        Value::Object(map) => map.values().try_for_each(|value| check_template(at, value, fields)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
