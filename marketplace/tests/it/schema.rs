//! JSON Schemas that jobs carry (JP-06): what is held against them, and schemas that mean harm.

use serde_json::{Map, Value, json};
use tradepost::{
    clock::ManualClock,
    engine::Marketplace,
    error::{Error, Rejection},
    job::{Delivery, JobOrder, JobStatus, Schemas},
    money::{Currency, Money},
    rail::{CreditsRail, Custody},
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
};

use crate::support::*;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// The example that JustPayAI publishes.
fn summarizer() -> Schemas {
    let input = json!({
        "type": "object",
        "properties": { "text": { "type": "string" }, "maxBullets": { "type": "number" } },
        "required": ["text"],
    });
    let output = json!({
        "type": "object",
        "properties": { "bullets": { "type": "array", "items": { "type": "string" } } },
        "required": ["bullets"],
    });
    Schemas { input: Some(input), output: Some(output) }
}

fn asked(schemas: Schemas, task: Value) -> Result<(), Rejection> {
    let desk = Desk::new(just_pay(), Custody::Internal);
    let order = JobOrder { schemas: Some(schemas), task: object(task), ..order(desk.money(500_000)) };
    desk.ask(&by(buyer()), &post(order)).map(drop)
}

fn schema(input: Value) -> Result<(), Rejection> {
    asked(Schemas { input: Some(input), output: None }, json!({ "text": "x" }))
}

/// JP-06: the task is held against the input schema before anything is written.
#[test]
fn jp_06_a_task_is_what_its_schema_says() {
    assert_eq!(asked(summarizer(), json!({ "text": "a long one" })), Ok(()));
    for task in [json!({}), json!({ "text": 7 }), json!({ "text": "x", "maxBullets": "many" })] {
        let refused = asked(summarizer(), task.clone());
        assert!(matches!(refused, Err(Rejection::NotToSchema { field: "task", .. })), "{task}: {refused:?}");
    }
    let Err(Rejection::NotToSchema { place, reason, .. }) = asked(summarizer(), json!({ "text": ["s3cret"] })) else {
        panic!("a list is no string")
    };
    assert_eq!(place, "/text");
    assert!(!reason.contains("s3cret"), "{reason}");
}

/// JP-06: a delivery is held against the output schema, on every store; one that is not what it says
/// changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn jp_06_a_delivery_is_what_its_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    delivers(MemoryStore::new()).await;
    delivers(SqliteStore::open(folder.path().join("market.db")).await.unwrap()).await;
    delivers(PostgresStore::connect(&crate::store::SERVER.database().unwrap()).await.unwrap()).await;
}

async fn delivers(store: impl Store) {
    let clock = std::sync::Arc::new(ManualClock::at(start()));
    let builder = Marketplace::builder("schemas", store, just_pay()).rail(CreditsRail::new(Currency::USDC));
    let market = builder.clock(clock).ids(std::sync::Arc::new(CountedIds::default())).build().await.unwrap();
    let amount = Money::new(1_000_000, Currency::USDC);
    market.operator("Ada").record_deposit(CreditsRail::ID, "first", buyer(), amount).await.unwrap();
    let price = Money::new(500_000, Currency::USDC);
    let order = JobOrder { schemas: Some(summarizer()), task: object(json!({ "text": "x" })), ..order(price) };
    let job = market.agent(buyer()).post_job(order).await.unwrap();
    let deliver = async |output: Value| {
        let delivery = Delivery { content_type: None, output: object(output) };
        market.agent(worker()).deliver(job.id, delivery).await
    };
    for wrong in [json!({}), json!({ "bullets": "one" }), json!({ "bullets": [1] })] {
        let refused = deliver(wrong.clone()).await;
        assert!(matches!(refused, Err(Error::Rejected(Rejection::NotToSchema { field: "output", .. }))), "{wrong}");
    }
    assert_eq!(market.job(job.id).await.unwrap(), job);
    let delivered = deliver(json!({ "bullets": ["short"] })).await.unwrap();
    assert_eq!(delivered.status, JobStatus::Delivered);
}

/// JP-06: what is no schema, reaches outside, or never comes to an end.
#[test]
fn jp_06_hostile_schemas_are_refused() {
    let deep = (0..80).fold(json!({}), |inner, _| json!({ "properties": { "a": inner } }));
    // Each definition holds the next one twice: written out, there would be a million million.
    let doubling: Map<String, Value> = (0..40)
        .map(|n| {
            let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
            (format!("d{n}"), json!({ "allOf": [next.clone(), next] }))
        })
        .chain([("d40".to_owned(), json!({}))])
        .collect();
    let hostile = [
        ("no schema", json!({ "type": "nothing" })),
        ("a number", json!(7)),
        ("the network", json!({ "$ref": "https://example.org/schema.json" })),
        ("a file", json!({ "$ref": "file:///etc/passwd" })),
        ("a metaschema of its own", json!({ "$schema": "https://example.org/meta" })),
        ("itself", json!({ "$ref": "#" })),
        ("itself at once", json!({ "$defs": { "a": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" })),
        (
            "itself in a circle",
            json!({
                "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/b" }] }, "b": { "not": { "$ref": "#/$defs/a" } } },
                "$ref": "#/$defs/a",
            }),
        ),
        ("nowhere", json!({ "$ref": "#/$defs/a" })),
        ("a name of its own", json!({ "$id": "https://example.org/", "$ref": "x" })),
        ("a dynamic reference", json!({ "$dynamicRef": "#a" })),
        ("an old draft", json!({ "$schema": "http://json-schema.org/draft-04/schema#", "id": "x" })),
        ("too deep", deep),
        ("too many", json!({ "enum": (0..6000).collect::<Vec<_>>() })),
        ("doubling", json!({ "$defs": doubling, "$ref": "#/$defs/d0" })),
        ("a huge pattern", json!({ "pattern": "((a{1000}){1000}){1000}" })),
        ("a backtracking pattern", json!({ "pattern": "(?=a)(a+)+\\1$" })),
        (
            "many patterns",
            json!({ "patternProperties": (0..40).map(|n| (format!("^{n}$"), json!({}))).collect::<Map<_, _>>() }),
        ),
    ];
    for (what, schema_of_it) in hostile {
        let refused = schema(schema_of_it);
        assert!(matches!(refused, Err(Rejection::BadSchema { field: "schemas.input", .. })), "{what}: {refused:?}");
    }
    let long = schema(json!({ "description": "x".repeat(70_000) }));
    assert!(matches!(long, Err(Rejection::Length { field: "schemas.input", max: 65_536, .. })), "{long:?}");
    // Linear in the text, where a backtracking matcher would take for ever.
    let text = format!("{}!", "a".repeat(100_000));
    let slow = Schemas { input: Some(json!({ "properties": { "text": { "pattern": "^(a+)+$" } } })), output: None };
    assert!(matches!(asked(slow, json!({ "text": text })), Err(Rejection::NotToSchema { .. })));
    // References that come to an end are fine.
    let shared = json!({ "$defs": { "word": { "type": "string" } }, "properties": {
        "text": { "$ref": "#/$defs/word" }, "other": { "$ref": "#/$defs/word" },
    } });
    assert_eq!(schema(shared), Ok(()));
    assert_eq!(schema(json!(true)), Ok(()));
}
