//! localstripe, which others wrote: cards, charges, captures, refunds and webhooks, without Connect. Its server
//! is started by `tests/parts/stripe`.
//!
//! It has no transfers, so a worker's share is kept in the wallet; its list of events cannot be read from a
//! cursor, so a webhook or a look-up tells. A way to it leaves out what it does not know of a request, and
//! fills in what its answers lack.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::TimeDelta;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tradepost::{
    clock::{Clock, SystemClock, Timestamp},
    engine::Marketplace,
    ids::{HoldId, IdSource, InstructionId, JobId, RandomIds},
    job::{JobOrder, JobStatus},
    ledger::Account,
    money::Currency,
    policy::Policy,
    rail::{Instruction, Leg, Order, Outcome, Party, Push, SettlementRail},
    store::{InstructionState, MemoryStore},
};
use tradepost_stripe::{CONFIRM_CARD, Directory, Fact, HoldMode, Secret, StripeConfig, StripeErrorKind, StripeRail};

use crate::{
    checker::server,
    conformance::AUTHORISE,
    endings::{AMOUNT, ENDINGS, earned, play},
    life::{BUYER, RAIL, WORKER, eur, int},
    people::People,
};

/// A card that pays, and one whose holder is asked each time: localstripe's own numbers.
const PAYS: &str = "4242424242424242";
const ASKS: &str = "4000002500003155";
const SIGNING: &str = "whsec_localstripe";
/// How long a webhook of localstripe's is waited for; it sends them after a second.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// localstripe, and a payer with a card there.
struct Local {
    url: String,
    client: reqwest::Client,
    people: People,
    clock: Ahead,
}

/// The real clock and some seconds: what comes due need not be waited for.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicI64>);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + TimeDelta::seconds(self.0.load(Ordering::Relaxed))
    }
}

impl Local {
    async fn new(card: &str) -> Self {
        let (client, people, clock) = (reqwest::Client::new(), People::default(), Ahead::default());
        let local = Self { url: server("LOCALSTRIPE"), client, people, clock };
        let customer = local.post("/v1/customers", "description=payer").await;
        let face = format!("type=card&card[number]={card}&card[exp_month]=12&card[exp_year]=2035&card[cvc]=123");
        let card = local.post("/v1/payment_methods", &face).await;
        local.attach(&card["id"], &customer["id"]).await;
        local.people.learn(BUYER, Fact::Customer(text(&customer["id"])));
        local.people.learn(BUYER, Fact::Card(Some(text(&card["id"]))));
        local
    }

    async fn attach(&self, card: &Value, customer: &Value) {
        self.post(&format!("/v1/payment_methods/{}/attach", text(card)), &format!("customer={}", text(customer))).await;
    }

    async fn post(&self, path: &str, form: &str) -> Value {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth("sk_test_localstripe");
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth("sk_test_localstripe");
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    }

    async fn rail(&self, hold: HoldMode) -> StripeRail {
        let config = StripeConfig {
            api_base: without_what_it_lacks(self.url.clone()).await,
            hold,
            webhook_secrets: vec![Secret::new(SIGNING)],
            requests_per_second: 1_000,
            ..StripeConfig::new("sk_test_localstripe", Currency::EUR)
        };
        StripeRail::new(config, self.people.clone(), Arc::new(SystemClock)).unwrap()
    }

    async fn market(&self, hold: HoldMode) -> Marketplace {
        let builder = Marketplace::builder("local", MemoryStore::new(), Policy::voxpact().unwrap());
        builder.rail(self.rail(hold).await).clock(Arc::new(self.clock.clone())).build().await.unwrap()
    }

    /// The newest payment of this payer.
    async fn newest_payment(&self) -> Value {
        let customer = self.people.known(BUYER).await.unwrap().customer.unwrap();
        let page = self.get("/v1/payment_intents?limit=100").await;
        assert_eq!(page["has_more"], false);
        let ours = page["data"].as_array().unwrap().iter().rfind(|intent| intent["customer"] == *customer);
        ours.unwrap().clone()
    }

    /// What a charge and its refunds did to localstripe's balance, in cents.
    async fn balance_of(&self, charge: &str) -> i64 {
        let mut sum = 0;
        let booked = async |id: &Value| int(&self.get(&format!("/v1/balance/history/{}", text(id))).await["net"]);
        let charge = self.get(&format!("/v1/charges/{charge}")).await;
        if !charge["balance_transaction"].is_null() {
            sum += booked(&charge["balance_transaction"]).await;
        }
        for refund in charge["refunds"]["data"].as_array().unwrap() {
            sum += booked(&refund["balance_transaction"]).await;
        }
        sum
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

async fn post(market: &Marketplace) -> JobId {
    let order = JobOrder { worker: Some(WORKER), ..JobOrder::new("Translate a page", eur(AMOUNT)) };
    market.agent(BUYER).post_job(order).await.unwrap().id
}

/// VP-19, VP-23, VP-30: jobs live and end at localstripe in every way, charged and authorised, and the books have
/// what its balance has.
#[tokio::test]
async fn vp_19_vp_23_vp_30_however_a_job_ends_localstripe_and_the_books_agree() {
    for hold in [HoldMode::Charge, AUTHORISE] {
        for (end, [back, to_worker, kept]) in ENDINGS {
            let context = format!("{hold:?}, {end:?}");
            let local = Local::new(PAYS).await;
            let market = local.market(hold).await;
            let job = post(&market).await;
            assert_eq!(market.job(job).await.unwrap().status, JobStatus::Funded, "{context}");
            play(&market, job, end).await;
            assert!(market.unsettled().await.unwrap().is_empty(), "{context}");
            let intent = local.newest_payment().await;
            let charge = text(&intent["latest_charge"]["id"]);
            let canceled = intent["status"] == "canceled";
            let left = if canceled { 0 } else { local.balance_of(&charge).await };
            assert_eq!(left, AMOUNT - back, "{context}");
            assert_eq!(-market.balance(Account::Rail(RAIL), None).await.unwrap().minor(), left, "{context}");
            assert_eq!(market.available(WORKER).await.unwrap(), eur(to_worker), "{context}");
            assert_eq!(earned(&market).await, kept, "{context}");
            assert!(market.verify().await.unwrap().is_empty(), "{context}");
        }
    }
}

/// Each division is found again as it was made, also by another rail that knows nothing.
#[tokio::test]
async fn a_charge_is_divided_on_localstripe_and_found_again() {
    let local = Local::new(PAYS).await;
    let rail = local.rail(HoldMode::Charge).await;
    let divisions: [&[(Party, i64)]; 4] = [
        &[(Party::Buyer(BUYER), 10_000)],
        &[(Party::Platform, 500), (Party::Buyer(BUYER), 9_500)],
        &[(Party::Worker(WORKER), 2_500), (Party::Buyer(BUYER), 7_500)],
        &[(Party::Platform, 10_000)],
    ];
    for legs in divisions {
        let contract = IdSource::next(&RandomIds, SystemClock.now());
        let give = |number, order| {
            let id = InstructionId::derive(contract, number);
            Instruction { id, contract, order, answer: None }
        };
        let (hold, amount) = (HoldId(contract), eur(AMOUNT));
        let fund = give(0, Order::Fund { hold, payer: BUYER, amount, terms: Box::default() });
        assert_eq!(rail.lookup(&fund).await.unwrap(), None);
        let funded = rail.execute(&fund).await.unwrap();
        let Outcome::Done(receipt) = &funded else { panic!("{funded:?}") };
        assert!(fund.check(receipt).is_ok());
        assert_eq!(rail.lookup(&fund).await.unwrap(), Some(funded.clone()));
        let legs = legs.iter().map(|(to, cents)| Leg { to: *to, amount: eur(*cents) }).collect();
        let settle = give(1, Order::Settle { hold, funding: receipt.reference.clone(), legs });
        assert_eq!(rail.lookup(&settle).await.unwrap(), None);
        let settled = rail.execute(&settle).await.unwrap();
        let Outcome::Done(receipt) = &settled else { panic!("{settled:?}") };
        assert!(settle.check(receipt).is_ok());
        let another = local.rail(HoldMode::Charge).await;
        assert_eq!(another.lookup(&settle).await.unwrap(), Some(settled));
        assert_eq!(another.lookup(&fund).await.unwrap(), Some(funded));
    }
}

/// VP-34: a card whose holder is asked waits with the client secret, and goes on by localstripe's own webhook,
/// whose signature localstripe made.
#[tokio::test]
async fn vp_34_a_challenge_is_answered_and_told_by_localstripes_webhook() {
    let local = Local::new(ASKS).await;
    let market = local.market(HoldMode::Charge).await;
    let (told, mut pushes) = mpsc::unbounded_channel();
    let hook = json!({ "url": listener(told).await, "secret": SIGNING, "events": ["payment_intent.succeeded"] });
    let request = local.client.post(format!("{}/_config/webhooks/rail", local.url)).body(hook.to_string());
    let registered = request.header("content-type", "application/json").send().await.unwrap();
    assert!(registered.status().is_success());

    let job = post(&market).await;
    assert_eq!(market.job(job).await.unwrap().status, JobStatus::PendingPayment);
    let instruction = market.instructions(job).await.unwrap()[0].clone();
    let InstructionState::NeedsAction(action) = &instruction.state else { panic!("{:?}", instruction.state) };
    assert_eq!(action.kind, CONFIRM_CARD);
    let intent = text(&local.newest_payment().await["id"]);
    assert!(action.payload.starts_with(&intent));
    let answer = format!("client_secret={}&success=true", action.payload);
    local.post(&format!("/v1/payment_intents/{intent}/_authenticate"), &answer).await;

    loop {
        let push: Push = timeout(PATIENCE, pushes.recv()).await.expect("localstripe sends a webhook").unwrap();
        let of_ours = String::from_utf8_lossy(&push.body).contains(&intent);
        market.receive(RAIL, &push).await.unwrap();
        if of_ours {
            break;
        }
    }
    local.clock.0.store(10, Ordering::Relaxed);
    market.run_until_idle().await.unwrap();
    assert_eq!(market.job(job).await.unwrap().status, JobStatus::Funded);
    assert_eq!(-market.balance(Account::Rail(RAIL), None).await.unwrap().minor(), AMOUNT);
}

/// VP-34: a card is set up, listed, chosen, detached, and then no longer charged.
#[tokio::test]
async fn vp_34_cards_come_and_go_at_localstripe() {
    let local = Local::new(PAYS).await;
    let rail = local.rail(HoldMode::Charge).await;
    let cards = rail.cards();
    let setup = cards.set_up(BUYER).await.unwrap();
    let face = "payment_method_data[type]=card&payment_method_data[card][number]=5555555555554444\
                &payment_method_data[card][exp_month]=1&payment_method_data[card][exp_year]=2036\
                &payment_method_data[card][cvc]=123";
    let confirmed = local.post(&format!("/v1/setup_intents/{}/confirm", setup.id), face).await;
    let customer = local.people.known(BUYER).await.unwrap().customer.unwrap();
    local.attach(&confirmed["payment_method"], &customer.into()).await;
    let listed = cards.list(BUYER).await.unwrap();
    let mut seen: Vec<_> = listed.iter().map(|card| (&*card.last4, card.exp_year, card.is_default)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("4242", 2035, true), ("4444", 2036, false)]);
    let new = text(&confirmed["payment_method"]);
    cards.choose(BUYER, &new).await.unwrap();
    cards.detach(BUYER, &new).await.unwrap();
    assert_eq!(cards.list(BUYER).await.unwrap().len(), 1);
    assert_eq!(cards.choose(BUYER, &new).await.unwrap_err().kind(), StripeErrorKind::Unknown);
    assert_eq!(local.people.known(BUYER).await.unwrap().card, None);
}

/// A receiver of webhooks that passes them on as they came.
async fn listener(told: mpsc::UnboundedSender<Push>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let told = told.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let told = told.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes().to_vec();
                    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
                        Some((name.to_string(), value.to_str().ok()?.to_owned()))
                    };
                    let headers = head.headers.iter().filter_map(header).collect();
                    // Nobody listens any more when the test has seen what it waited for.
                    let _ = told.send(Push { headers, body, received_at: SystemClock.now() });
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

/// What localstripe 1.15 refuses as unexpected, by what the path ends with.
const LACKS: [(&str, &[&str]); 4] = [
    ("/v1/payment_intents", &["transfer_group", "allowed_payment_method_types", "customer=", "created"]),
    ("/v1/setup_intents", &["allowed_payment_method_types"]),
    ("/capture", &["metadata"]),
    ("/cancel", &["cancellation_reason"]),
];

/// A way to localstripe that leaves out what it does not know, and says that there are no transfers and no events.
async fn without_what_it_lacks(localstripe: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = reqwest::Client::new();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (client, localstripe) = (client.clone(), localstripe.clone());
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (client, localstripe) = (client.clone(), localstripe.clone());
                async move { Ok::<_, std::convert::Infallible>(pass_on(client, localstripe, request).await) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

async fn pass_on(
    client: reqwest::Client,
    localstripe: String,
    request: Request<hyper::body::Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if ["/v1/transfers", "/v1/events"].contains(&path) {
        return Response::new(Full::new(r#"{"object":"list","data":[],"has_more":false}"#.into()));
    }
    let is_get = head.method == Method::GET;
    let lacks = LACKS.iter().find(|(of, _)| path.ends_with(of)).map_or(&[][..], |(_, names)| names);
    let known = |form: &str| {
        let pairs = form.split('&').filter(|pair| {
            // A payment has a customer; only its list cannot be asked for one's.
            !lacks.iter().any(|name| pair.starts_with(name) && (is_get || *name != "customer="))
        });
        pairs.collect::<Vec<_>>().join("&")
    };
    let body = body.collect().await.unwrap().to_bytes();
    let query = known(head.uri.query().unwrap_or_default());
    let passed = client
        .request(head.method.clone(), format!("{localstripe}{path}?{query}"))
        .header("authorization", head.headers["authorization"].clone())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(known(std::str::from_utf8(&body).unwrap()));
    let answer = passed.send().await.unwrap();
    let status = answer.status();
    let mut body = answer.bytes().await.unwrap();
    if let Ok(mut object) = serde_json::from_slice(&body) {
        say_what_was_captured(&mut object);
        body = serde_json::to_vec(&object).unwrap().into();
    }
    Response::builder().status(status).body(Full::new(body)).unwrap()
}

/// localstripe does not say how much of a charge was captured. Where it was less than all, it books all of it and
/// a refund of the rest, without a mark; Stripe books what was captured.
fn say_what_was_captured(object: &mut Value) {
    if object["object"] == "charge" && object["captured"] == true {
        let refunds = object["refunds"]["data"].as_array().into_iter().flatten();
        let left: i64 = refunds.filter(|r| r["metadata"] == json!({})).map(|r| int(&r["amount"])).sum();
        object["amount_captured"] = (int(&object["amount"]) - left).into();
        if let Some(booked) = object.get_mut("balance_transaction").filter(|booked| booked.is_object()) {
            for field in ["amount", "net"] {
                booked[field] = (int(&booked[field]) - left).into();
            }
        }
    }
    match object {
        Value::Object(fields) => fields.values_mut().for_each(say_what_was_captured),
        Value::Array(values) => values.iter_mut().for_each(say_what_was_captured),
        _ => {}
    }
}
