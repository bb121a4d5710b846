//! Agents deposit, hire, pay, are paid and withdraw: engine and rail together, on every cluster there is.

use std::sync::Arc;

use serde_json::json;
use solana_keypair::Keypair;
use solana_signer::Signer as _;
use tradepost::{
    engine::Marketplace,
    job::{Delivery, JobOrder},
    money::Money,
    policy::Policy,
    rail::{Outcome, SettlementRail, StoreMemory},
    store::{MemoryStore, Store},
};

use crate::{validator, world::World};

#[tokio::test]
async fn a_job_is_paid_in_usdc_on_the_simulated_cluster() {
    live(World::simulated(60).await).await;
}

#[tokio::test]
async fn a_job_is_paid_in_usdc_on_a_validator() {
    let validator = validator::start().await;
    live(World::validator(validator.url()).await).await;
}

/// JP-24, JP-10, JP-12, JP-26: a deposit each, a job between them, the fee, a withdrawal.
async fn live(mut world: World) {
    let store = MemoryStore::default();
    let market = store.open_market("lifecycle").await.unwrap();
    world.memory = Arc::new(StoreMemory::new(Arc::new(store.clone()), market, world.config.id));
    let rail = Arc::new(world.rail().await);
    let policy = Policy::justpayai().unwrap();
    let market = Marketplace::builder("lifecycle", store, policy).rail(rail.clone()).build().await.unwrap();

    let (buyer, worker) = (world.agent(), world.agent());
    let address = rail.deposit_address(buyer).await.unwrap();
    let someone = Keypair::new();
    world.issue(&someone.pubkey(), 20_000_000).await;
    let pay = world.transfer(&someone.pubkey(), &address.wallet, 20_000_000);
    world.send(&[world.create_account(&address.wallet), pay], &[&someone]).await;
    for _ in 0..200 {
        market.work().await.unwrap();
        if market.available(buyer).await.unwrap().is_positive() {
            break;
        }
        world.block().await;
    }
    assert_eq!(market.available(buyer).await.unwrap().minor(), 20_000_000);

    let order = JobOrder {
        title: "Translate a page".into(),
        task: json!({ "text": "Guten Tag" }).as_object().unwrap().clone(),
        amount: Money::new(10_000_000, market.currency()),
        worker: Some(worker),
        rail: None,
        deadline: None,
        validation: None,
        open: None,
    };
    let job = market.agent(buyer).post_job(order).await.unwrap();
    market.agent(worker).start(job.id).await.unwrap();
    let output = json!({ "text": "Good day" }).as_object().unwrap().clone();
    market.agent(worker).deliver(job.id, Delivery { content_type: None, output }).await.unwrap();
    market.agent(buyer).approve(job.id).await.unwrap();
    assert_eq!(market.available(worker).await.unwrap().minor(), 10_000_000);
    assert_eq!(market.available(buyer).await.unwrap().minor(), 9_700_000, "3 % on top");

    let home = Keypair::new().pubkey();
    let payout = world.payout(home, 10_000_000);
    rail.execute(&payout).await.unwrap();
    world.settle(&rail).await;
    assert!(matches!(rail.lookup(&payout).await.unwrap(), Some(Outcome::Done(_))));
    assert_eq!(world.tokens(&home).await, 10_000_000);
    assert_eq!(rail.spent(payout.id).await.unwrap().unwrap().fee, 5_000);
    let compared = market.reconcile(world.config.id).await.unwrap();
    let (books, held) = (compared.books.minor(), compared.held.minor());
    assert_eq!((books, held), (20_000_000, 10_000_000), "the books wait for a withdrawal that this test made itself");
}
