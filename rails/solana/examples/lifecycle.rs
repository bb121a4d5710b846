//! A deposit, a job and a withdrawal, in USDC-like tokens on a cluster of their own.
//!
//!     cargo run -p tradepost-solana --example lifecycle
//!     cargo run -p tradepost-solana --example lifecycle http://127.0.0.1:8899
//!
//! Without an argument the cluster is simulated in this process; with one it is any that gives SOL for
//! the asking, such as `solana-test-validator`.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "it shares its world with the tests")]

#[path = "../tests/front/mod.rs"]
mod front;
#[path = "../tests/it/world.rs"]
mod world;

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Map, json};
use solana_keypair::Keypair;
use solana_signer::Signer as _;
use tradepost::{
    engine::Marketplace,
    ids::AgentId,
    job::{Delivery, JobOrder},
    money::Money,
    policy::Policy,
    rail::{Outcome, SettlementRail, StoreMemory},
    store::{MemoryStore, Store},
};
use world::World;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut world = match std::env::args().nth(1) {
        Some(url) => World::validator(&url).await,
        None => World::simulated(1).await,
    };
    let store = MemoryStore::default();
    let market = store.open_market("example").await?;
    world.memory = Arc::new(StoreMemory::new(Arc::new(store.clone()), market, world.config.id));
    let rail = Arc::new(world.rail().await);
    let market = Marketplace::builder("example", store, Policy::justpayai()?).rail(rail.clone()).build().await?;

    let (buyer, worker) = (world.agent(), world.agent());
    let address = rail.deposit_address(buyer).await?;
    println!("the buyer's deposit address   {}", address.wallet);
    let someone = Keypair::new();
    world.issue(&someone.pubkey(), 20_000_000).await;
    let pay = world.transfer(&someone.pubkey(), &address.wallet, 20_000_000);
    world.send(&[world.create_account(&address.wallet), pay], &[&someone]).await;
    println!("somebody sends 20 USDC from   {}", someone.pubkey());
    while market.available(buyer).await?.is_zero() {
        market.work().await?;
        world.block().await;
    }
    print_wallets(&market, buyer, worker).await?;

    let order = JobOrder {
        title: "Translate a page".into(),
        task: Map::from_iter([("text".into(), json!("Guten Tag"))]),
        amount: Money::new(10_000_000, market.currency()),
        worker: Some(worker),
        rail: None,
        deadline: None,
        validation: None,
        open: None,
    };
    let job = market.agent(buyer).post_job(order).await?;
    market.agent(worker).start(job.id).await?;
    let output = Map::from_iter([("text".into(), json!("Good day"))]);
    market.agent(worker).deliver(job.id, Delivery { content_type: None, output }).await?;
    market.agent(buyer).approve(job.id).await?;
    println!("the buyer hires the worker for 10 USDC and approves what is delivered");
    print_wallets(&market, buyer, worker).await?;

    let home = Keypair::new().pubkey();
    let payout = world.payout(home, 10_000_000);
    rail.execute(&payout).await?;
    world.settle(&rail).await;
    let Some(Outcome::Done(receipt)) = rail.lookup(&payout).await? else { anyhow::bail!("the withdrawal is not done") };
    println!("the worker withdraws {} to {home}", receipt.amount);
    println!("  transaction {}", receipt.reference);
    let spent = rail.spent(payout.id).await?.context("what is done was paid for")?;
    println!("  it cost {} lamports, and {} for the receiver's new token account", spent.fee, spent.rent);
    println!("the rail holds {}", rail.holdings().await?.total);
    Ok(())
}

async fn print_wallets(market: &Marketplace, buyer: AgentId, worker: AgentId) -> Result<()> {
    println!("  buyer has {}, worker {}", market.available(buyer).await?, market.available(worker).await?);
    Ok(())
}
