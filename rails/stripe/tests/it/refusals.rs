//! Bad input and bad answers: typed errors with Stripe's name for the request, nothing lost, no secret told.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tradepost::{
    clock::Timestamp,
    job::JobStatus,
    money::{Currency, Money},
    rail::{Cursor, Outcome, Party, Push, RailErrorKind, SettlementRail},
};
use tradepost_stripe::{
    ACCOUNT_EVENTS, EVENTS, HoldMode, Secret, StripeConfig, StripeError, StripeErrorKind, StripeRail,
};
use uuid::Uuid;

use crate::{
    conformance::push,
    double::KEY,
    life::{Desk, RAIL, settle_everything},
    people::{DoubleClock, WEBHOOK_SECRETS, config},
    steps::{BUYER, Bench, WORKER, eur},
};

impl Bench {
    fn rail_with(&self, change: impl FnOnce(&mut StripeConfig)) -> StripeRail {
        let mut config = config(&self.double, HoldMode::Charge);
        change(&mut config);
        StripeRail::new(config, self.people.clone(), Arc::new(DoubleClock(self.double.clone()))).unwrap()
    }
}

/// A server that says the same to everybody; nothing at all for an empty text.
async fn says(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 65_536];
            let _ = stream.read(&mut request).await;
            if answer.is_empty() {
                silent.push(stream); // kept open, never answered
                continue;
            }
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

fn http(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nrequest-id: req_7\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn stripe_says(type_: &str, code: &str) -> String {
    json!({ "error": { "type": type_, "code": code, "message": format!("no {KEY} pi_1_secret_2") } }).to_string()
}

#[tokio::test]
async fn every_answer_has_one_meaning() {
    use RailErrorKind::{Refused, Unknown};
    let bench = Bench::new().await;
    let answers = [
        (http(401, &stripe_says("invalid_request_error", "")), StripeErrorKind::Denied, Refused),
        (http(401, &stripe_says("invalid_request_error", "api_key_expired")), StripeErrorKind::Denied, Refused),
        (http(403, &stripe_says("invalid_request_error", "")), StripeErrorKind::Denied, Refused),
        (http(403, "<html>"), StripeErrorKind::Denied, Refused),
        (http(400, &stripe_says("invalid_request_error", "parameter_missing")), StripeErrorKind::Invalid, Refused),
        (http(404, &stripe_says("invalid_request_error", "resource_missing")), StripeErrorKind::Invalid, Refused),
        (http(402, &stripe_says("card_error", "card_declined")), StripeErrorKind::Declined, Refused),
        (http(409, &stripe_says("invalid_request_error", "lock_timeout")), StripeErrorKind::KeyInUse, Unknown),
        (http(500, &stripe_says("api_error", "")), StripeErrorKind::Broken, Unknown),
        (http(502, "<html>bad gateway"), StripeErrorKind::Broken, Unknown),
        (http(424, &stripe_says("api_error", "")), StripeErrorKind::Broken, Unknown),
        (http(418, "{}"), StripeErrorKind::Lost, Unknown),
        (http(302, ""), StripeErrorKind::Lost, Unknown),
        (http(200, "<html>"), StripeErrorKind::Lost, Unknown),
        (http(200, r#"{"id": 5}"#), StripeErrorKind::Lost, Unknown),
        ("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"id\"".into(), StripeErrorKind::Lost, Unknown),
        ("not http".into(), StripeErrorKind::Lost, Unknown),
        (String::new(), StripeErrorKind::Lost, Unknown),
    ];
    for (answer, kind, of_instruction) in answers {
        let url = says(answer.clone()).await;
        let rail = bench.rail_with(|config| {
            config.api_base = url;
            config.timeout = Duration::from_millis(300);
        });
        let error = rail.execute(&bench.fund(eur(10_000))).await.unwrap_err();
        assert_eq!(error.kind(), of_instruction, "{answer}: {error}");
        let source = std::error::Error::source(&error).unwrap().downcast_ref::<StripeError>().unwrap();
        assert_eq!(source.kind(), kind, "{answer}");
        let told = format!("{error} {error:?}");
        assert!(!told.contains("sk_test") && !told.contains("_secret_"), "{told}");
        if answer.contains("\"error\"") {
            assert_eq!(source.request_id(), Some("req_7"));
            assert!(told.contains("req_7"), "{told}");
        }
    }
    let busy = says(http(429, &stripe_says("invalid_request_error", "rate_limit"))).await;
    let error = bench.rail_with(|config| config.api_base = busy).holdings().await.unwrap_err();
    assert!(matches!(error.kind(), RailErrorKind::Busy(_)) && error.may_repeat(), "{error}");
    let error = bench.rail_with(|config| config.api_base = "http://127.0.0.1:1".into()).holdings().await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::NotSent);
}

#[tokio::test]
async fn a_wrong_key_moves_nothing_and_the_right_one_goes_on() {
    let bench = Bench::new().await;
    let fund = bench.fund(eur(10_000));
    let wrong = bench.rail_with(|config| config.secret_key = Secret::new("sk_test_revoked"));
    let error = wrong.execute(&fund).await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::Refused);
    assert!(error.to_string().contains("req_double"), "{error}");
    assert!(matches!(bench.rail.execute(&fund).await, Ok(Outcome::Done(_))));
}

/// A key that is revoked in the middle of a job's life stops it where it is; with a new one it goes on.
#[tokio::test]
async fn a_key_that_is_revoked_loses_nothing() {
    let desk = Desk::new(HoldMode::Charge).await;
    let job = desk.post(10_000).await.id;
    desk.bring(job, JobStatus::Delivered).await;
    desk.double.lock().revoked = true;
    desk.market.agent(BUYER).approve(job).await.unwrap();
    desk.double.lock().world.pass(3_600);
    desk.market.run_until_idle().await.unwrap();
    let waits = desk.market.unsettled().await.unwrap();
    assert_eq!(waits.len(), 1);
    let why = waits[0].why();
    assert!(why.contains("Stripe does not allow it") && why.contains("req_double"), "{why}");
    assert!(desk.market.reconcile(RAIL).await.is_err(), "and nobody says that the books are right");
    desk.double.lock().revoked = false;
    settle_everything(0, &desk).await;
    assert_eq!(desk.double.lock().world.transfers.len(), 1);
    desk.agrees("with a new key").await;
}

/// Webhooks about what nobody here knows: kept for an operator where they name one of our instructions, left alone
/// where they do not, and nothing is booked.
#[tokio::test]
async fn webhooks_about_unknown_objects_move_nothing() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.post(10_000).await;
    let before = desk.market.trial_balance().await.unwrap();
    let now = desk.double.lock().world.now;
    let stranger = Uuid::from_u128(77).to_string();
    let ready_account = |marks: serde_json::Value| {
        json!({ "id": "acct_77", "object": "account", "metadata": marks,
                                                           "capabilities": { "transfers": "active" } })
    };
    let object = |marks: serde_json::Value| json!({ "id": "pi_77", "object": "payment_intent", "metadata": marks });
    let told = [
        ("payment_intent.succeeded", object(json!({})), 0),
        ("payment_intent.succeeded", object(json!({ "tradepost_instruction": "nonsense" })), 0),
        ("payment_intent.succeeded", object(json!({ "tradepost_instruction": &stranger })), 1),
        (
            "charge.expired",
            json!({ "id": "ch_77", "object": "charge", "metadata": { "tradepost_hold": &stranger } }),
            2,
        ),
        ("charge.dispute.funds_withdrawn", json!({ "id": "dp_77", "object": "dispute", "charge": "ch_77" }), 2),
        ("invoice.paid", json!({ "id": "in_77", "object": "invoice" }), 2),
        ("account.updated", ready_account(json!({})), 2),
        ("account.updated", ready_account(json!({ "tradepost_agent": "nonsense" })), 2),
        ("account.updated", ready_account(json!({ "tradepost_agent": &stranger })), 2),
        ("account.updated", json!({ "object": "account" }), 2),
    ];
    for (number, (type_, object, kept)) in told.into_iter().enumerate() {
        let event = json!({ "id": format!("evt_x{number}"), "object": "event", "type": type_, "created": now,
                            "data": { "object": object } });
        for _ in 0..2 {
            desk.market.receive(RAIL, &push(&event, now, WEBHOOK_SECRETS[0])).await.unwrap();
        }
        let waits = desk.market.unsettled().await.unwrap();
        assert_eq!(waits.len(), kept, "{type_}: {waits:?}");
    }
    assert_eq!(desk.market.trial_balance().await.unwrap(), before);
    let charge = json!({ "id": "dp_77", "object": "dispute", "charge": "ch_nobodys", "amount": 5, "status": "lost",
                         "balance_transactions": [{ "net": -5, "currency": "eur" }] });
    desk.double.lock().world.tell("charge.dispute.funds_withdrawn", charge);
    desk.market.run_until_idle().await.unwrap();
    assert_eq!(desk.market.trial_balance().await.unwrap(), before, "a dispute about a payment that is not ours");
}

#[tokio::test]
async fn orders_that_stripe_would_not_take_are_never_sent() {
    let bench = Bench::new().await;
    bench.double.lock().requests.clear();
    for (amount, code) in [(eur(49), "amount_too_small"), (eur(100_000_000), "amount_too_large")] {
        let fund = bench.fund(amount);
        let outcome = bench.rail.execute(&fund).await.unwrap();
        assert!(matches!(&outcome, Outcome::Declined(decline) if decline.code == code), "{outcome:?}");
        assert_eq!(bench.rail.lookup(&fund).await.unwrap(), Some(outcome));
    }
    let funding = tradepost::rail::Receipt {
        instruction: bench.fund(eur(1)).id,
        reference: "ch_1".into(),
        amount: eur(1),
        legs: Vec::new(),
        cost: None,
        hold_expires_at: None,
    };
    let orders = [
        bench.fund(Money::new(10_000, Currency::USDC)),
        bench.fund(eur(0)),
        bench.fund(eur(-5)),
        bench.settle(&funding, &[]),
        bench.settle(&funding, &[(Party::Worker(WORKER), 100), (Party::Buyer(BUYER), -1)]),
    ];
    for instruction in orders {
        let error = bench.rail.execute(&instruction).await.unwrap_err();
        assert_eq!(error.kind(), RailErrorKind::Refused, "{error}");
        assert_eq!(bench.rail.lookup(&instruction).await.unwrap_err().kind(), RailErrorKind::Refused);
    }
    let posts = bench.double.lock().requests.iter().filter(|(method, ..)| *method == hyper::Method::POST).count();
    assert_eq!(posts, 0);
}

/// A payment that was asked for is not declined by limits that were set later.
#[tokio::test]
async fn limits_that_change_say_nothing_about_what_was_asked_for() {
    let bench = Bench::new().await;
    let fund = bench.fund(eur(10_000));
    let paid = bench.rail.execute(&fund).await.unwrap();
    assert!(matches!(paid, Outcome::Done(_)), "{paid:?}");
    let narrow = StripeConfig { most: 5_000, ..config(&bench.double, HoldMode::Charge) };
    let clock = Arc::new(DoubleClock(bench.double.clone()));
    let rail = StripeRail::new(narrow, bench.people.clone(), clock).unwrap();
    assert_eq!(rail.lookup(&fund).await.unwrap(), Some(paid));
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_at_the_start() {
    let bench = Bench::new().await;
    type Change = fn(&mut StripeConfig);
    let changes: [Change; 7] = [
        |config| config.secret_key = Secret::new(""),
        |config| config.secret_key = Secret::new("sk_test\n"),
        |config| config.webhook_secrets.push(Secret::new("")),
        |config| config.api_base = "api.stripe.com".into(),
        |config| config.currency = Currency::USDC,
        |config| config.currency = Currency::new("KWD", 3).unwrap(),
        |config| config.currency = Currency::new("JPY", 2).unwrap(),
    ];
    for change in changes {
        let mut config = config(&bench.double, HoldMode::Charge);
        change(&mut config);
        let clock = Arc::new(DoubleClock(bench.double.clone()));
        let error = StripeRail::new(config, bench.people.clone(), clock).unwrap_err();
        assert_eq!(error.kind(), StripeErrorKind::Configuration, "{error}");
    }
}

/// Signatures: two secrets, a tolerance in both directions, and a value that was worked out elsewhere.
#[tokio::test]
async fn webhooks_are_stripes_or_nothing() {
    let bench = Bench::new().await;
    bench.funded().await;
    let (event, now) = {
        let world = &bench.double.lock().world;
        (world.events.last().unwrap().clone(), world.now)
    };
    for secret in WEBHOOK_SECRETS {
        let told = bench.rail.receive(&push(&event, now, secret)).unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told, bench.rail.observe(&Cursor::default()).await.unwrap().items);
    }
    let forged = |push: &Push| {
        let error = bench.rail.receive(push).unwrap_err();
        assert_eq!(error.kind(), RailErrorKind::Forged, "{error}");
    };
    forged(&push(&event, now, "whsec_other"));
    for seconds in [-301, 301] {
        let received_at = Timestamp::from_timestamp(now + seconds, 0).unwrap();
        forged(&Push { received_at, ..push(&event, now, WEBHOOK_SECRETS[0]) });
    }
    for seconds in [-300, 300] {
        let received_at = Timestamp::from_timestamp(now + seconds, 0).unwrap();
        bench.rail.receive(&Push { received_at, ..push(&event, now, WEBHOOK_SECRETS[0]) }).unwrap();
    }
    for body in [json!({}), json!([]), json!("event")] {
        forged(&push(&body, now, WEBHOOK_SECRETS[0]));
    }
    for type_ in EVENTS.into_iter().chain(ACCOUNT_EVENTS) {
        forged(&push(&json!({ "object": "event", "type": type_ }), now, WEBHOOK_SECRETS[0]));
    }
    let harmless = [
        json!({ "object": "event", "id": "evt_1", "type": "invoice.paid", "data": { "object": { "id": "in_1" } } }),
        json!({ "object": "event", "id": "evt_1", "type": "payment_intent.succeeded", "data": { "object": { "id": "pi_1" } } }),
        json!({ "object": "event", "id": "evt_1", "type": "payment_intent.succeeded", "account": "acct_1",
                "data": { "object": event["data"]["object"] } }),
    ];
    for body in harmless {
        assert!(bench.rail.receive(&push(&body, now, WEBHOOK_SECRETS[0])).unwrap().is_empty());
    }
    // printf '1767225600.{"object":"event","type":"x"}' | openssl dgst -sha256 -hmac whsec_new
    let known = Push {
        headers: vec![("stripe-signature".into(), KNOWN_SIGNATURE.into())],
        body: br#"{"object":"event","type":"x"}"#.to_vec(),
        received_at: Timestamp::from_timestamp(1_767_225_600, 0).unwrap(),
    };
    assert!(bench.rail.receive(&known).unwrap().is_empty());
}

const KNOWN_SIGNATURE: &str = "t=1767225600,v1=ef34b391cd0706f0d4b773e105f47aef8b6e12bb98ed7d33e425478662c5f686";

/// An outage longer than Stripe's memory of events: all that it still lists is told.
#[tokio::test]
async fn a_cursor_that_stripe_forgot_begins_with_what_it_still_lists() {
    let bench = Bench::new().await;
    bench.funded().await;
    let before = bench.rail.observe(&Cursor::default()).await.unwrap();
    assert_eq!(before.items.len(), 1);
    bench.double.lock().world.pass(31 * 86_400);
    let after = bench.rail.observe(&before.next).await.unwrap();
    assert!(after.items.is_empty());
    assert!(bench.rail.observe(&Cursor("evt_nonsense".into())).await.unwrap().items.is_empty());
}

/// Keys, signing secrets and client secrets are in no log, no `Debug` and no error.
#[tokio::test]
async fn no_secret_is_ever_told() {
    let told = Told::default();
    let writer = told.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let bench = Bench::new().await;
    bench.people.learn(BUYER, tradepost_stripe::Fact::Card(None));
    let mut text = String::new();
    let fund = bench.fund(eur(10_000));
    let asked = bench.rail.execute(&fund).await.unwrap();
    let Outcome::NeedsAction(action) = &asked else { panic!("{asked:?}") };
    assert!(action.payload.contains("_secret_"));
    text.push_str(&format!("{asked:?} {:?} {:?}", bench.rail, config(&bench.double, HoldMode::Charge)));
    for answer in [http(402, &stripe_says("card_error", "x")), http(500, &stripe_says("api_error", "")), http(200, KEY)]
    {
        let url = says(answer).await;
        let error = bench.rail_with(|config| config.api_base = url).execute(&bench.fund(eur(500))).await.unwrap_err();
        text.push_str(&format!("{error} {error:?}"));
    }
    let wrong = bench.rail_with(|config| config.secret_key = Secret::new("sk_test_wrong")).execute(&fund).await;
    text.push_str(&format!("{wrong:?}"));
    let push = Push { body: b"{}".to_vec(), headers: Vec::new(), received_at: Timestamp::UNIX_EPOCH };
    text.push_str(&format!("{:?}", bench.rail.receive(&push)));
    drop(guard);
    let logged = String::from_utf8(told.0.lock().unwrap().clone()).unwrap();
    assert!(!logged.is_empty(), "something was logged");
    text.push_str(&logged);
    for secret in ["sk_test", "whsec", "_secret_", "Bearer", "doubledouble"] {
        let at = text.find(secret);
        assert_eq!(at, None, "{secret} is told: {}", &text[at.unwrap_or(0).saturating_sub(200)..][..300]);
    }
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
