//! A job paid by card: posted, charged, and then approved, cancelled, or disputed and divided.
//!
//! ```sh
//! cargo run -p tradepost-stripe --example stripe                 # delivered and approved
//! cargo run -p tradepost-stripe --example stripe -- cancel       # called off while the worker is at it
//! cargo run -p tradepost-stripe --example stripe -- split        # delivered, disputed, a person divides it
//! STRIPE_TEST_KEY=sk_test_… cargo run -p tradepost-stripe --example stripe
//! ```
//!
//! Without a key it runs on the project's own double of Stripe, inside this process. With a test-mode
//! key it runs at Stripe, with Stripe's test card; set `STRIPE_TEST_ACCOUNT=acct_…` to a connected
//! account whose onboarding is finished, or the worker's share stays in its wallet.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "an example shows the way; the double is a test's")]

#[allow(dead_code, missing_docs, reason = "the tests use all of it")]
#[path = "../tests/it/double/mod.rs"]
mod double;

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use tradepost::{
    clock::{Clock, SystemClock},
    dispute::{Award, Filing},
    engine::Marketplace,
    ids::{AgentId, IdSource, RailId, RandomIds},
    job::{Delivery, JobOrder},
    ledger::Account,
    money::{Currency, Money},
    policy::Policy,
    store::MemoryStore,
};
use tradepost_stripe::{Directory, DirectoryError, Fact, Known, STRIPE, StripeConfig, StripeRail};

use double::{Double, KEY};

/// The embedder's own table of users would be the directory.
#[derive(Clone, Default)]
struct Users(Arc<Mutex<HashMap<AgentId, Known>>>);

#[async_trait]
impl Directory for Users {
    async fn known(&self, agent: AgentId) -> Result<Known, DirectoryError> {
        Ok(self.0.lock().unwrap().get(&agent).cloned().unwrap_or_default())
    }

    async fn remember(&self, agent: AgentId, fact: Fact) -> Result<(), DirectoryError> {
        self.0.lock().unwrap().entry(agent).or_default().learn(fact);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let new_agent = || AgentId(RandomIds.next(SystemClock.now()));
    let (buyer, worker, users) = (new_agent(), new_agent(), Users::default());

    // Where Stripe is, and with which key.
    let (key, api_base, double) = match std::env::var("STRIPE_TEST_KEY") {
        Ok(key) if key.starts_with("sk_test_") || key.starts_with("rk_test_") => (key, STRIPE.to_owned(), None),
        Ok(_) => return Err("STRIPE_TEST_KEY is no key of Stripe's test mode".into()),
        Err(_) => {
            let double = Double::start().await;
            double.lock().world.now = SystemClock.now().timestamp();
            (KEY.to_owned(), double.url(), Some(double))
        }
    };
    println!("Stripe is at {api_base}");
    let config = StripeConfig { api_base: api_base.clone(), ..StripeConfig::new(key.clone(), Currency::EUR) };
    let rail = StripeRail::new(config, users.clone(), Arc::new(SystemClock))?;

    // The payer saves a card. In a browser, stripe.js would confirm the setup; here a test card is attached.
    let setup = rail.cards().set_up(buyer).await?;
    let customer = users.known(buyer).await.unwrap().customer.unwrap();
    match &double {
        Some(double) => drop(double.lock().world.card(&customer)),
        None => attach_test_card(&api_base, &key, &customer).await?,
    }
    let card = rail.cards().list(buyer).await?.remove(0);
    rail.cards().choose(buyer, &card.id).await?;
    println!("{} is done, the payer pays with {} …{}", setup.id, card.brand, card.last4);

    // The worker has an account, or will have one later.
    let account = match &double {
        Some(double) => Some(double.lock().world.account(worker.0)),
        None => std::env::var("STRIPE_TEST_ACCOUNT").ok(),
    };
    if let Some(account) = account {
        users.remember(worker, Fact::Account(account)).await.unwrap();
    }

    let market = Marketplace::builder("example", MemoryStore::new(), Policy::voxpact()?).rail(rail).build().await?;
    let amount = Money::new(10_000, Currency::EUR);
    let order = JobOrder { worker: Some(worker), ..JobOrder::new("Translate a page", amount) };
    let job = market.agent(buyer).post_job(order).await?.id;
    println!("posted: {}", market.job(job).await?.status.as_str());
    market.agent(worker).accept(job).await?;
    market.agent(worker).start(job).await?;
    match std::env::args().nth(1).as_deref() {
        Some("cancel") => drop(market.agent(buyer).cancel(job, "no longer needed").await?),
        Some("split") => {
            market.agent(worker).deliver(job, Delivery::default()).await?;
            let filing = Filing { category: None, reason: "half of it is missing".into(), evidence: Vec::new() };
            let dispute = market.agent(buyer).open_dispute(job, filing).await?.id;
            market.operator("Ada").escalate(dispute, "a person looks at it").await?;
            let half = Award::Split { to_worker: "0.5".parse()? };
            market.operator("Ada").rule(dispute, half, "half of it is there").await?;
        }
        None | Some("approve") => {
            market.agent(worker).deliver(job, Delivery::default()).await?;
            market.agent(buyer).approve(job).await?;
        }
        Some(other) => return Err(format!("{other} is none of approve, cancel, split").into()),
    }
    market.run_until_idle().await?;
    println!("ended: {}\n", market.job(job).await?.status.as_str());

    for record in market.instructions(job).await?.iter().rev() {
        println!("{:?}\n  {:?}", record.instruction.order, record.state);
    }
    let rail = RailId::new("stripe");
    let told = market.reconcile(rail).await?;
    println!("\nthe worker's wallet  {}", market.available(worker).await?);
    println!("Stripe's fee         {}", market.balance(Account::Cost(rail), None).await?);
    println!("the books say Stripe has {}, Stripe says {}", told.books, told.held);
    match double.is_some() && !told.differences.is_empty() {
        true => Err("the books and the double disagree".into()),
        false => Ok(()),
    }
}

/// What stripe.js does in a browser, with a card that exists in test mode only.
async fn attach_test_card(api_base: &str, key: &str, customer: &str) -> Result<(), Box<dyn Error>> {
    let request = reqwest::Client::new()
        .post(format!("{api_base}/v1/payment_methods/pm_card_visa/attach"))
        .bearer_auth(key)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("customer={customer}"));
    request.send().await?.error_for_status()?;
    Ok(())
}
