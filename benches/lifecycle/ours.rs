//! A life through the engine.

use std::sync::Arc;

use futures::StreamExt as _;
use tradepost::{
    engine::Marketplace,
    ids::{AgentId, JobId},
    job::{Delivery, JobOrder},
    money::{Currency, Money},
    policy::Policy,
    rail::CreditsRail,
    store::Store,
};
use uuid::Uuid;

use crate::{Outcome, cast};

/// How many commands a life has.
pub(crate) const COMMANDS: usize = 4;
/// Cents. A million lives do not use it up, and a life of its own for every agent stays in range.
const ENDOWMENT: i64 = 100_000_000_000;
const PRICE: i64 = 2_500;
const AT_ONCE: usize = 256;

/// Opens the market that the benchmark runs in.
pub(crate) async fn open(store: impl Store) -> Outcome<Marketplace> {
    let policy = Policy::from_toml(include_str!("../../marketplace/policies/voxpact.toml"))?;
    Ok(Marketplace::builder("bench", store, policy).rail(CreditsRail::new(Currency::EUR)).build().await?)
}

/// Gives agents money to spend.
pub(crate) async fn endow(market: &Marketplace, agents: impl IntoIterator<Item = AgentId>) -> Outcome<()> {
    let deposit = |agent: AgentId| async move {
        let amount = Money::new(ENDOWMENT, Currency::EUR);
        market.operator("bench").record_deposit(CreditsRail::ID, agent.to_string(), agent, amount).await
    };
    let mut deposits = futures::stream::iter(agents).map(deposit).buffer_unordered(AT_ONCE);
    while let Some(deposited) = deposits.next().await {
        deposited?;
    }
    Ok(())
}

/// One life: posted, accepted, delivered, approved.
pub(crate) async fn life(market: Marketplace, number: u64) -> Outcome<()> {
    let (buyer, worker) = cast::parties(number);
    let nonce = cast::nonce(number);
    let mut job = None;
    for step in 0..COMMANDS {
        job = Some(command(&market, step, job, buyer, worker, nonce).await?);
    }
    Ok(())
}

/// One command of a life, under a key of its own.
pub(crate) async fn command(
    market: &Marketplace,
    step: usize,
    job: Option<JobId>,
    buyer: AgentId,
    worker: AgentId,
    nonce: Uuid,
) -> Outcome<JobId> {
    let key = format!("{step}/{nonce}");
    let job: Arc<_> = match (job, step) {
        (None, _) => market.agent(buyer).keyed(key).post_job(order(worker)).await?,
        (Some(job), 1) => market.agent(worker).keyed(key).accept(job).await?,
        (Some(job), 2) => market.agent(worker).keyed(key).deliver(job, delivery()).await?,
        (Some(job), _) => market.agent(buyer).keyed(key).approve(job).await?,
    };
    Ok(job.id)
}

fn order(worker: AgentId) -> JobOrder {
    JobOrder {
        title: "Translate a product page".into(),
        task: object([("source", "https://example.org/page"), ("from", "en"), ("to", "fr")]),
        amount: Money::new(PRICE, Currency::EUR),
        worker: Some(worker),
        rail: None,
        deadline: None,
        validation: None,
        open: None,
    }
}

fn delivery() -> Delivery {
    Delivery { output: object([("result", "https://example.org/page.fr")]), ..Delivery::default() }
}

fn object<const N: usize>(fields: [(&str, &str); N]) -> serde_json::Map<String, serde_json::Value> {
    fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}
