//! Stripe's own request checker, `stripe-mock`. Its server is started by `tests/parts/stripe`.

use std::collections::BTreeMap;

use hyper::Method;
use tradepost::{
    ids::AgentId,
    rail::{Cursor, SettlementRail},
    testkit::rail::Harness,
};
use tradepost_stripe::{Evidence, HandIn, HoldMode, ReturnTo};
use uuid::Uuid;

use crate::{
    conformance::{AUTHORISE, Contracts, DoubleHarness},
    double::Double,
    endings::{AMOUNT, ENDINGS, play},
    life::{BUYER, Desk, eur},
    people::{People, rail},
};

/// Every way to ask Stripe for something that the rail has.
const REQUESTS: [&str; 30] = [
    "GET /v1/accounts/{id}",
    "GET /v1/balance",
    "GET /v1/charges/{id}",
    "GET /v1/disputes",
    "GET /v1/disputes/{id}",
    "GET /v1/events",
    "GET /v1/payment_intents",
    "GET /v1/payment_intents/{id}",
    "GET /v1/payment_methods",
    "GET /v1/payouts",
    "GET /v1/refunds",
    "GET /v1/transfers",
    "GET /v1/transfers/{id}",
    "GET /v1/transfers/{id}/reversals",
    "POST /v1/account_links",
    "POST /v1/accounts",
    "POST /v1/charges/{id}",
    "POST /v1/customers",
    "POST /v1/customers/{id}",
    "POST /v1/disputes/{id}",
    "POST /v1/payment_intents",
    "POST /v1/payment_intents/{id}/cancel",
    "POST /v1/payment_intents/{id}/capture",
    "POST /v1/payment_methods/{id}/detach",
    "POST /v1/payouts",
    "POST /v1/refunds",
    "POST /v1/setup_intents",
    "POST /v1/transfers",
    "POST /v1/transfers/{id}",
    "POST /v1/transfers/{id}/reversals",
];

pub fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run this test with `tests/run stripe`"))
}

/// Requests that differ only in names and values have one shape.
fn shape(method: &Method, path: &str, params: &str) -> (String, String) {
    let is_name = |part: &&str| part.contains('_') && part.ends_with(|c: char| c.is_ascii_digit());
    let parts: Vec<&str> = path.split('/').map(|part| if is_name(&part) { "{id}" } else { part }).collect();
    let mut names: Vec<String> = form_urlencoded::parse(params.as_bytes()).map(|(name, _)| name.into_owned()).collect();
    names.sort();
    for mark in ["held", "refused"] {
        let marks = names.iter_mut().filter(|name| name.starts_with(&format!("metadata[{mark}_")));
        marks.for_each(|name| *name = format!("metadata[{mark}]"));
    }
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
    // Whole lives of jobs, however they end.
    for hold in [HoldMode::Charge, AUTHORISE] {
        for (end, _) in ENDINGS {
            let desk = Desk::new(hold).await;
            let job = desk.post(AMOUNT).await.id;
            play(&desk.market, job, end).await;
            all.append(&mut desk.double.lock().requests);
        }
    }
    let (double, people) = (Double::start().await, People::default());
    let rail = rail(&double, &people, HoldMode::Charge);
    // A share that is kept, for whose worker the list of events is read.
    people.buyer(&double, BUYER.0);
    let desk = Desk::over(double.clone(), rail.clone()).await;
    desk.paid(AMOUNT).await;
    desk.market.run_until_idle().await.unwrap();
    assert!(double.lock().world.charges[0]["metadata"]["tradepost_kept_for"].is_string());
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
    rail.connect().bank_payouts(agent, Some("po_1")).await.unwrap_err();
    rail.connect().balance(agent).await.unwrap();
    // Whether there is as much is not the checker's business, nor is whether there is such a dispute.
    rail.connect().pay_out(agent, eur(500), "payout-1").await.unwrap_err();
    let evidence = Evidence {
        product_description: Some("A translation".into()),
        service_date: Some("2026-01-02".into()),
        access_activity_log: Some("delivered".into()),
        refund_refusal_explanation: Some("it works".into()),
        text: Some("see the log".into()),
    };
    rail.disputes().status("dp_1").await.unwrap_err();
    rail.disputes().hand_in("dp_1", evidence, HandIn::Final).await.unwrap_err();
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
