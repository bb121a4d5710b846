//! JSON Schemas that strangers write, and values held against them (JP-06).
//!
//! A schema is a program. What a job carries must therefore come to an end soon, whatever it is given: its
//! size and depth are bounded, it refers to nothing outside itself and nowhere to itself again, what it
//! is worth with every reference written out is bounded, and its patterns are of the kind that takes time
//! in proportion to the text. Nothing is ever fetched.

use std::collections::HashMap;

use jsonschema::PatternOptions;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{error::Rejection, text};

/// The size of a schema as JSON text, in bytes, where the policy says nothing.
pub(crate) const BYTES: u32 = 65_536;
/// How deep a schema may be, with its references written out.
const DEPTH: u32 = 64;
/// How many values a schema may have, with its references written out.
const WEIGHT: u64 = 5_000;
/// The size of one compiled pattern, in bytes.
const PATTERN: usize = 1 << 17;
/// How many patterns a schema may have.
const PATTERNS: usize = 32;
/// The longest reason given, in characters.
const REASON: usize = 300;
/// Words that give a part of a schema a name of its own or refer to one: not needed, and a way round the
/// bounds. The oldest drafts have another one, `id`, and are refused as a whole.
const REFUSED: [&str; 5] = ["$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef"];
/// The drafts that are refused, as `$schema` names them.
const OLD: [&str; 2] = ["draft-03", "draft-04"];

/// What an order's task and its deliveries have to be (JP-06).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Schemas {
    /// What the task has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What an output has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// Checks that something is a schema that can be held against anything at a bounded cost.
///
/// # Errors
/// [`Rejection::Length`], [`Rejection::BadSchema`]
pub(crate) fn check(field: &'static str, schema: &Value, bytes: u32) -> Result<(), Rejection> {
    text::json(field, schema, bytes)?;
    compile(field, schema).map(drop)
}

/// Checks that a value is what a schema says.
///
/// # Errors
/// [`Rejection::BadSchema`], [`Rejection::NotToSchema`]
pub(crate) fn conforms(field: &'static str, schema: &Value, value: &Value) -> Result<(), Rejection> {
    let validator = compile(field, schema)?;
    validator.validate(value).map_err(|error| {
        let place = text::shown(error.instance_path().as_str(), REASON);
        Rejection::NotToSchema { field, place, reason: text::shown(&error.masked().to_string(), REASON) }
    })
}

fn compile(field: &'static str, schema: &Value) -> Result<jsonschema::Validator, Rejection> {
    let bad = |reason: String| Rejection::BadSchema { field, reason: text::shown(&reason, REASON) };
    let draft = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
    if OLD.iter().any(|old| draft.contains(old)) {
        return Err(bad("drafts before 6 are not supported".into()));
    }
    let mut walk = Walk { root: schema, known: HashMap::new(), patterns: 0 };
    let Extent { weight, .. } = walk.measure(schema, 0).map_err(|reason| bad(reason.into()))?;
    if weight > WEIGHT {
        return Err(bad(format!("it has {weight} values with its references written out; allowed are {WEIGHT}")));
    }
    let patterns = PatternOptions::regex().size_limit(PATTERN).dfa_size_limit(PATTERN);
    let built = jsonschema::options().with_pattern_options(patterns).build(schema);
    built.map_err(|error| bad(error.masked().to_string()))
}

/// How large a part of a schema is with its references written out.
#[derive(Clone, Copy)]
struct Extent {
    /// How many values there are.
    weight: u64,
    /// How many levels there are below it.
    height: u32,
}

/// A walk over a schema that writes its references out.
struct Walk<'a> {
    root: &'a Value,
    /// The parts that references lead to; nothing for one that is being measured.
    known: HashMap<&'a str, Option<Extent>>,
    patterns: usize,
}

impl<'a> Walk<'a> {
    fn measure(&mut self, value: &'a Value, depth: u32) -> Result<Extent, &'static str> {
        if depth > DEPTH {
            return Err("it is too deep with its references written out");
        }
        let mut all = Extent { weight: 1, height: 0 };
        let mut add = |part: Extent| {
            all.weight = all.weight.saturating_add(part.weight);
            all.height = all.height.max(part.height + 1);
        };
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if REFUSED.contains(&name.as_str()) || (name == "$schema" && depth > 0) {
                        return Err("$id, $anchor, $dynamicRef, an inner $schema and their like are not allowed");
                    }
                    self.patterns += match (name.as_str(), member) {
                        ("pattern", Value::String(_)) => 1,
                        ("patternProperties", Value::Object(patterns)) => patterns.len(),
                        _ => 0,
                    };
                    if self.patterns > PATTERNS {
                        return Err("it has more patterns than the 32 allowed");
                    }
                    add(match (name.as_str(), member) {
                        ("$ref", Value::String(target)) => self.follow(target, depth)?,
                        _ => self.measure(member, depth + 1)?,
                    });
                }
            }
            Value::Array(items) => {
                for item in items {
                    add(self.measure(item, depth + 1)?);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok(all)
    }

    fn follow(&mut self, target: &'a str, depth: u32) -> Result<Extent, &'static str> {
        match self.known.get(target) {
            Some(Some(part)) if depth + part.height < DEPTH => return Ok(*part),
            Some(Some(_)) => return Err("it is too deep with its references written out"),
            Some(None) => return Err("it refers to itself"),
            None => {}
        }
        let pointer = target.strip_prefix('#').filter(|pointer| pointer.starts_with('/') && !pointer.contains('%'));
        let pointer = pointer.ok_or("a reference may lead to a part of the schema (#/…) only")?;
        let part = self.root.pointer(pointer).ok_or("a reference leads nowhere")?;
        self.known.insert(target, None);
        let extent = self.measure(part, depth + 1)?;
        self.known.insert(target, Some(extent));
        Ok(extent)
    }
}
