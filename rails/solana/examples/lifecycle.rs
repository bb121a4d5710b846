//! Two agents register, deposit, are activated, hire, pay, withdraw and panic, in USDC-like tokens on a
//! cluster of their own.
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

use anyhow::Result;
use serde_json::{Map, json};
use solana_keypair::Keypair;
use solana_signer::Signer as _;
use tradepost::{
    actor::Actor,
    agent::{AgentStatus, Registration},
    clock::{ManualClock, Timestamp},
    engine::{AgentParts, Marketplace},
    ids::AgentId,
    job::{Delivery, JobOrder},
    money::Money,
    policy::{Policy, Span},
    rail::StoreMemory,
    secret::Pepper,
    store::{MemoryStore, Store},
};
use tradepost_solana::SolanaRail;
use world::World;

struct Town {
    world: World,
    rail: Arc<SolanaRail>,
    market: Marketplace,
    clock: Arc<ManualClock>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let town = open().await?;
    let Town { world, market, .. } = &town;
    let (buyer, worker) = (town.register("buyer").await?, town.register("worker").await?);
    let someone = Keypair::new();
    for (agent, minor) in [(buyer, 20_000_000), (worker, 1_000_000)] {
        let address = town.rail.deposit_address(agent).await?;
        world.issue(&someone.pubkey(), minor).await;
        let pay = world.transfer(&someone.pubkey(), &address.wallet, minor);
        world.send(&[world.create_account(&address.wallet), pay], &[&someone]).await;
        println!("{} sends {} to {}", someone.pubkey(), Money::new(minor as i64, market.currency()), address.wallet);
        while market.registered(agent).await?.status != AgentStatus::Active {
            town.work().await?;
        }
        println!("  that activates the agent, which has {} left", market.available(agent).await?);
    }

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
    let output = Map::from_iter([("text".into(), json!("Good day"))]);
    market.agent(worker).deliver(job.id, Delivery { content_type: None, output }).await?;
    market.agent(buyer).approve(job.id).await?;
    println!("the buyer hires the worker for 10 USDC and approves what is delivered");

    let home = Keypair::new().pubkey();
    market.agent(worker).set_withdrawal_address(worker, home.to_string()).await?;
    market.agent(worker).withdraw_money(worker, market.available(worker).await?).await?;
    town.paid_out(worker).await?;
    println!("the worker withdraws to {home}, where {} micro-USDC arrive", world.tokens(&home).await);
    println!("the buyer panics: everything goes back to where its first deposit came from");
    market.agent(buyer).panic(buyer).await?;
    town.paid_out(buyer).await?;
    println!("  {} has {} micro-USDC", someone.pubkey(), world.tokens(&someone.pubkey()).await);
    for line in market.wallet_history(buyer, 0, 50).await? {
        println!("  {:<12} {:>16}", format!("{:?}", line.kind), line.amount.to_string());
    }
    let compared = market.reconcile(world.config.id).await?;
    println!("the rail holds {}, the books say {}", compared.held, compared.books);
    Ok(())
}

async fn open() -> Result<Town> {
    let mut world = match std::env::args().nth(1) {
        Some(url) => World::validator(&url).await,
        None => World::simulated(1).await,
    };
    let (store, clock) = (MemoryStore::default(), Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
    let market = store.open_market("example").await?;
    world.memory = Arc::new(StoreMemory::new(Arc::new(store.clone()), market, world.config.id));
    let rail = Arc::new(world.rail().await);
    let builder = Marketplace::builder("example", store, Policy::justpayai()?).rail(rail.clone());
    let market = builder.agents(AgentParts::new(Pepper::new([7; 32]))).clock(clock.clone()).build().await?;
    Ok(Town { world, rail, market, clock })
}

impl Town {
    async fn register(&self, name: &str) -> Result<AgentId> {
        let owner = Actor::Owner(self.market.owner_by_email(&format!("{name}@example.org"))?);
        let registration = Registration { name: name.into(), email: None, profile: Default::default() };
        Ok(self.market.by(owner).register(registration).await?.agent.id)
    }

    /// A round of the engine's work and of the rail's, and a block.
    async fn work(&self) -> Result<()> {
        self.market.work().await?;
        self.rail.work().await?;
        self.clock.advance(Span::seconds(2).delta());
        self.world.block().await;
        Ok(())
    }

    async fn paid_out(&self, agent: AgentId) -> Result<()> {
        while !self.market.wallet(agent).await?.payouts.is_empty() {
            self.work().await?;
        }
        Ok(())
    }
}
