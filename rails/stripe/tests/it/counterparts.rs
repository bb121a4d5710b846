//! Stripe's own request checker, and localstripe. Their servers are started by `tests/parts/stripe`.

use std::{collections::BTreeMap, sync::Arc};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use tradepost::{
    clock::{Clock, SystemClock},
    ids::{AgentId, HoldId, IdSource, InstructionId, RandomIds},
    money::Currency,
    rail::{Cursor, Instruction, Leg, Order, Outcome, Party, SettlementRail},
    testkit::rail::Harness,
};
use tradepost_stripe::{Fact, HoldMode, ReturnTo, StripeConfig, StripeRail};
use uuid::Uuid;

use crate::{
    conformance::{AUTHORISE, Contracts, DoubleHarness},
    double::Double,
    people::{People, rail},
    steps::{BUYER, eur},
};

/// Every way to ask Stripe for something that the rail has.
const REQUESTS: [&str; 21] = [
    "GET /v1/accounts/{id}",
    "GET /v1/balance",
    "GET /v1/charges/{id}",
    "GET /v1/events",
    "GET /v1/payment_intents",
    "GET /v1/payment_intents/{id}",
    "GET /v1/payment_methods",
    "GET /v1/payouts",
    "GET /v1/transfers",
    "POST /v1/account_links",
    "POST /v1/accounts",
    "POST /v1/charges/{id}",
    "POST /v1/customers",
    "POST /v1/customers/{id}",
    "POST /v1/payment_intents",
    "POST /v1/payment_intents/{id}/cancel",
    "POST /v1/payment_intents/{id}/capture",
    "POST /v1/payment_methods/{id}/detach",
    "POST /v1/refunds",
    "POST /v1/setup_intents",
    "POST /v1/transfers",
];

fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run this test with `tests/run stripe`"))
}

/// Requests that differ only in names and values have one shape.
fn shape(method: &Method, path: &str, params: &str) -> (String, String) {
    let is_name = |part: &&str| part.contains('_') && part.ends_with(|c: char| c.is_ascii_digit());
    let parts: Vec<&str> = path.split('/').map(|part| if is_name(&part) { "{id}" } else { part }).collect();
    let mut names: Vec<String> = form_urlencoded::parse(params.as_bytes()).map(|(name, _)| name.into_owned()).collect();
    names.sort();
    names.iter_mut().filter(|name| name.starts_with("metadata[held_")).for_each(|name| *name = "metadata[held]".into());
    (format!("{method} {}", parts.join("/")), names.join("&"))
}

async fn every_request() -> Vec<(Method, String, String)> {
    let mut all = Vec::new();
    for (hold, contracts) in [(HoldMode::Charge, Contracts::New), (AUTHORISE, Contracts::Ageless)] {
        let harness = DoubleHarness::new(hold, contracts).await;
        tradepost::testkit::rail::run(&harness).await.assert_kept();
        let all_events = harness.rail().await.observe(&Cursor::default()).await.unwrap();
        harness.rail().await.observe(&all_events.next).await.unwrap();
        all.append(&mut harness.double.lock().requests);
    }
    let (double, people) = (Double::start().await, People::default());
    let rail = rail(&double, &people, HoldMode::Charge);
    let agent = AgentId(Uuid::from_u128(1));
    rail.cards().set_up(agent).await.unwrap();
    let card = {
        let known = tradepost_stripe::Directory::known(&people, agent).await.unwrap();
        double.lock().world.card(&known.customer.unwrap())
    };
    rail.cards().choose(agent, &card).await.unwrap();
    rail.cards().detach(agent, &card).await.unwrap();
    let return_to = ReturnTo { done: "https://example.com/done".into(), again: "https://example.com/again".into() };
    rail.connect().onboard(agent, return_to).await.unwrap();
    rail.connect().status(agent).await.unwrap();
    rail.connect().bank_payouts(agent).await.unwrap();
    all.append(&mut double.lock().requests);
    all
}

#[tokio::test]
async fn every_request_passes_stripes_own_checker() {
    let mock = server("STRIPE_MOCK");
    let mut shapes = BTreeMap::new();
    for (method, path, params) in every_request().await {
        shapes.entry(shape(&method, &path, &params)).or_insert((method, path, params));
    }
    let mut kinds: Vec<&str> = shapes.keys().map(|(kind, _)| kind.as_str()).collect();
    kinds.dedup();
    let expected: Vec<&str> = REQUESTS.to_vec();
    assert_eq!(kinds, expected, "every kind of request is tried");
    let client = reqwest::Client::new();
    for (method, path, params) in shapes.values() {
        let is_get = *method == Method::GET;
        let url = if is_get { format!("{mock}{path}?{params}") } else { format!("{mock}{path}") };
        let mut request = client
            .request(method.clone(), url)
            .bearer_auth("sk_test_123")
            .header("stripe-version", stripe_shared::version::VERSION.as_str());
        if !is_get {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(params.clone());
        }
        let answer = request.send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{method} {path} {params}: {status} {body}");
    }
    println!("{} shapes of {} kinds of requests passed", shapes.len(), kinds.len());
}

/// The checker has teeth: what Stripe's description does not have is refused.
#[tokio::test]
async fn stripes_own_checker_refuses_what_stripe_would() {
    let mock = server("STRIPE_MOCK");
    for body in ["amount=100", "amount=much&currency=eur", "amount=100&currency=eur&nonsense=1"] {
        let request = reqwest::Client::new()
            .post(format!("{mock}/v1/payment_intents"))
            .bearer_auth("sk_test_123")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        assert_eq!(request.send().await.unwrap().status().as_u16(), 400, "{body}");
    }
}

/// As far as localstripe goes: a card is charged in the name of a customer, the charge is divided between
/// payer and platform in each way, and everything is found again. It has no transfers, and its payments
/// know neither groups nor some filters; those are taken out on the way.
#[tokio::test]
async fn a_charge_lives_and_is_divided_on_localstripe() {
    let localstripe = server("LOCALSTRIPE");
    let client = reqwest::Client::new();
    let post = async |path: &str, form: &str| {
        let request = client.post(format!("{localstripe}{path}")).bearer_auth("sk_test_localstripe");
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        let text = request.send().await.unwrap().text().await.unwrap();
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        object["id"].as_str().unwrap_or_else(|| panic!("{path}: {text}")).to_owned()
    };
    let people = People::default();
    let customer = post("/v1/customers", "description=payer").await;
    let face = "type=card&card[number]=4242424242424242&card[exp_month]=12&card[exp_year]=2035&card[cvc]=123";
    let card = post("/v1/payment_methods", face).await;
    post(&format!("/v1/payment_methods/{card}/attach"), &format!("customer={customer}")).await;
    people.learn(BUYER, Fact::Customer(customer));
    people.learn(BUYER, Fact::Card(Some(card)));

    let config = StripeConfig {
        api_base: without_what_it_lacks(localstripe).await,
        ..StripeConfig::new("sk_test_localstripe", Currency::EUR)
    };
    let rail = StripeRail::new(config, people, Arc::new(SystemClock)).unwrap();
    assert_eq!(rail.cards().list(BUYER).await.unwrap().len(), 1);
    let divisions: [&[(Party, i64)]; 3] = [
        &[(Party::Buyer(BUYER), 10_000)],
        &[(Party::Platform, 500), (Party::Buyer(BUYER), 9_500)],
        &[(Party::Platform, 10_000)],
    ];
    for legs in divisions {
        let contract = IdSource::next(&RandomIds, SystemClock.now());
        let give = |number, order| {
            let id = InstructionId::derive(contract, number);
            Instruction { id, contract, order, answer: None }
        };
        let fund =
            give(0, Order::Fund { hold: HoldId(contract), payer: BUYER, amount: eur(10_000), terms: Box::default() });
        assert_eq!(rail.lookup(&fund).await.unwrap(), None);
        let funded = rail.execute(&fund).await.unwrap();
        let Outcome::Done(receipt) = &funded else { panic!("{funded:?}") };
        assert!(fund.check(receipt).is_ok());
        assert_eq!(rail.lookup(&fund).await.unwrap(), Some(funded.clone()));
        let legs = legs.iter().map(|(to, cents)| Leg { to: *to, amount: eur(*cents) }).collect();
        let settle = give(1, Order::Settle { hold: HoldId(contract), funding: receipt.reference.clone(), legs });
        assert_eq!(rail.lookup(&settle).await.unwrap(), None);
        let settled = rail.execute(&settle).await.unwrap();
        let Outcome::Done(receipt) = &settled else { panic!("{settled:?}") };
        assert!(settle.check(receipt).is_ok());
        assert_eq!(rail.lookup(&settle).await.unwrap(), Some(settled));
        assert_eq!(rail.lookup(&fund).await.unwrap(), Some(funded));
    }
}

/// What localstripe 1.15 refuses as unexpected, by the path it is sent to.
const LACKS: [(&str, &[&str]); 1] =
    [("/v1/payment_intents", &["transfer_group", "allowed_payment_method_types", "customer=", "created"])];

/// A way to localstripe that leaves out what it does not know, and says that there are no transfers.
async fn without_what_it_lacks(localstripe: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
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
    if path == "/v1/transfers" {
        return Response::new(Full::new(r#"{"object":"list","data":[],"has_more":false}"#.into()));
    }
    let is_get = head.method == Method::GET;
    let lacks = LACKS.iter().find(|(of, _)| *of == path).map_or(&[][..], |(_, names)| names);
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
    Response::builder().status(status).body(Full::new(answer.bytes().await.unwrap())).unwrap()
}
