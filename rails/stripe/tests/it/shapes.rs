//! The double's answers are held to Stripe's own description: async-stripe's generated types read them, and
//! these know every field that Stripe says is always there.

use std::{collections::HashMap, fmt::Debug};

use miniserde::json;
use stripe_types::List;
use tradepost::rail::{Order, Party, SettlementRail};
use tradepost_stripe::ReturnTo;

use crate::steps::{BUYER, Bench, WORKER, eur};

fn read<T: miniserde::Deserialize + Debug>(what: &str, answer: &serde_json::Value) {
    let text = answer.to_string();
    assert!(json::from_str::<T>(&text).is_ok(), "{what} is not what Stripe describes: {text}");
}

#[tokio::test]
async fn the_doubles_answers_have_stripes_shapes() {
    let bench = Bench::new().await;
    bench.people.worker(&bench.double, WORKER.0);
    let funding = bench.funded().await;
    let legs = [(Party::Worker(WORKER), 3_000), (Party::Buyer(BUYER), 7_000)];
    bench.rail.execute(&bench.settle(&funding, &legs)).await.unwrap();
    bench.rail.cards().set_up(BUYER).await.unwrap();
    let return_to = ReturnTo { done: "https://example.com".into(), again: "https://example.com".into() };
    bench.rail.connect().onboard(BUYER, return_to).await.unwrap();
    assert!(matches!(bench.fund(eur(1)).order, Order::Fund { .. }));

    let reverse = bench.reverse(eur(1_000));
    bench.rail.execute(&reverse).await.unwrap();
    {
        let world = &mut bench.double.lock().world;
        let charge = world.charges[0]["id"].as_str().unwrap().to_owned();
        let transfer = world.transfers[0].clone();
        world.dispute_some(&charge, 3_000);
        world.decide(&charge, true);
        assert_eq!(transfer["amount_reversed"], 1_000);
    }

    let none = HashMap::new();
    let mut state = bench.double.lock();
    let world = &mut state.world;
    let account = world.accounts[0]["id"].as_str().unwrap().to_owned();
    world.empty(&account);
    let mut get = |path: &str| world.get(path, &none, &account).1;
    read::<List<stripe_shared::PaymentIntent>>("payment intents", &get("/v1/payment_intents"));
    read::<List<stripe_shared::Transfer>>("transfers", &get("/v1/transfers"));
    read::<List<stripe_shared::Refund>>("refunds", &get("/v1/refunds"));
    read::<List<stripe_shared::Dispute>>("disputes", &get("/v1/disputes"));
    read::<List<stripe_shared::PaymentMethod>>("payment methods", &get("/v1/payment_methods"));
    let payouts = get("/v1/payouts");
    assert_eq!(payouts["data"].as_array().unwrap().len(), 1);
    read::<List<stripe_shared::Payout>>("payouts", &payouts);
    read::<List<stripe_shared::Event>>("events", &get("/v1/events"));
    read::<stripe_core::Balance>("an account's balance", &get("/v1/balance"));
    read::<stripe_core::Balance>("the balance", &world.get("/v1/balance", &none, "").1);
    for reversal in &world.reversals {
        read::<stripe_shared::TransferReversal>("a reversal", reversal);
    }
    for charge in &world.charges {
        read::<stripe_shared::Charge>("a charge", charge);
    }
    for refund in &world.refunds {
        read::<stripe_shared::Refund>("a refund", refund);
    }
    for account in &world.accounts {
        read::<stripe_shared::Account>("an account", account);
    }
    for booked in &world.booked {
        read::<stripe_shared::BalanceTransaction>("a balance transaction", booked);
    }
    let mut post = |path: &str, params: &[(&str, &str)]| {
        let params = params.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        world.post(path, &params, None).1
    };
    read::<stripe_shared::Customer>("a customer", &post("/v1/customers", &[]));
    read::<stripe_shared::SetupIntent>("a setup intent", &post("/v1/setup_intents", &[("usage", "off_session")]));
    let account = post("/v1/accounts", &[("type", "express")]);
    let link = post("/v1/account_links", &[("account", account["id"].as_str().unwrap())]);
    read::<stripe_connect::AccountLink>("an account link", &link);
    read::<stripe_shared::Error>("an error", &post("/v1/payment_intents", &[("amount", "1"), ("currency", "eur")]));
}
