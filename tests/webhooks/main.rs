//! One side of the comparison of signatures with other languages: `webhooks sign` prints deliveries as
//! the library signs them, one JSON object a line; `webhooks verify` reads deliveries that somebody else
//! signed and fails at the first that the library does not take.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::io::{BufRead, stdin};

use serde_json::{Map, Value, json};
use tradepost::{
    clock::{Clock, SystemClock},
    notice::{Verifier, sign},
    policy::{SignatureStyle, Span},
    secret::Secret,
};

const STYLE: SignatureStyle = SignatureStyle::StandardWebhooks { tolerance: Span::seconds(300) };
const SECRETS: [&str; 2] =
    ["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "whsec_HxwdGhsYGRYXFBUSExARDg8MDQoLCAkGBwQFAgMAAQ8="];
const BODIES: [&str; 5] =
    ["", "{}", r#"{"event":"job.created","title":"Übersetzen 翻译 🚀"}"#, "{\"a\": \"b\\u0000\\n\"}", "[1,2,3]\n"];

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("sign") => signed().for_each(|line| println!("{line}")),
        Some("verify") => println!("{} verified", stdin().lock().lines().map(|line| verify(&line.unwrap())).count()),
        _ => panic!("usage: webhooks sign | webhooks verify"),
    }
}

/// Every body under each secret, and under both as during a rotation.
fn signed() -> impl Iterator<Item = Value> {
    let with = [vec![SECRETS[0]], vec![SECRETS[1]], SECRETS.to_vec()];
    with.into_iter().flat_map(|secrets| {
        BODIES.into_iter().enumerate().map(move |(number, body)| {
            let keys: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
            let headers = sign(&STYLE, &keys, &format!("msg_{number}"), SystemClock.now(), body);
            let headers: Map<String, Value> = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
            json!({ "secrets": secrets, "headers": headers, "body": body })
        })
    })
}

fn verify(line: &str) {
    let line: Value = serde_json::from_str(line).unwrap();
    let (secret, body) = (line["secret"].as_str().unwrap(), line["body"].as_str().unwrap());
    let header = |name: &str| line["headers"][name].as_str();
    let verifier = |secret: &str| Verifier::new(STYLE, [Secret::new(secret)]);
    verifier(secret).verify(header, body, SystemClock.now()).unwrap();
    let other = SECRETS.into_iter().find(|other| *other != secret).unwrap();
    assert!(verifier(other).verify(header, body, SystemClock.now()).is_err());
}
