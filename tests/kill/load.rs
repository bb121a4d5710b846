//! The server that is killed, and its callers.

use std::{error::Error, path::Path, time::Duration};

use serde_json::Map;
use tradepost::{
    engine::Marketplace,
    ids::{AgentId, JobId},
    job::{Delivery, JobOrder},
    money::{Currency, Money},
    rail::CreditsRail,
};
use uuid::Uuid;

use crate::Markets;

/// Callers at once, of each marketplace.
const CALLERS: u32 = 24;

/// An answer that a caller got.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    pub(crate) market: String,
    pub(crate) caller: u32,
    pub(crate) number: u32,
    /// The event that the command must have left.
    pub(crate) event: String,
    pub(crate) job: JobId,
}

impl Ack {
    /// Reads a whole line; anything else was not an answer.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("ack ")?.strip_suffix(" .")?.split(' ');
        let mut next = || words.next();
        Some(Self {
            market: next()?.into(),
            caller: next()?.parse().ok()?,
            number: next()?.parse().ok()?,
            event: next()?.into(),
            job: next()?.parse().ok()?,
        })
    }
}

/// Serves callers until it is killed.
pub(crate) async fn serve(database: &str, outside: &Path, life: u32) -> Result<(), Box<dyn Error>> {
    let markets = Markets::open(database, outside).await?;
    for place in 0..CALLERS {
        let amount = Money::new(100_000_000, Currency::EUR);
        let deposit = markets.credits.operator("kill");
        deposit.record_deposit(CreditsRail::ID, format!("deposit {place}"), buyer(place), amount).await?;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (name, market) in markets.both() {
        let worker = market.clone();
        tasks.spawn(async move { worker.run(Duration::from_millis(20)).await });
        for caller in 0..CALLERS {
            let market = market.clone();
            tasks.spawn(async move {
                for number in 0.. {
                    if let Err(error) = live(&market, name, life, caller, number).await {
                        eprintln!("{name}: caller {caller}: {error}");
                    }
                }
            });
        }
    }
    tasks.join_all().await;
    Ok(())
}

/// One job from posting to its end.
async fn live(
    market: &Marketplace,
    name: &str,
    life: u32,
    caller: u32,
    number: u32,
) -> Result<(), tradepost::error::Error> {
    let (buyer, worker) = (buyer(caller), worker(caller));
    let told = |event: &str, job: JobId| println!("ack {name} {caller} {number} {event} {job} .");
    let key = |what: &str| key(life, caller, number, what);
    let job = market.agent(buyer).keyed(key("post")).post_job(order(caller, number)).await?.id;
    told("job.created", job);
    market.agent(worker).keyed(key("accept")).accept(job).await?;
    told("job.accepted", job);
    if number % 5 == 3 {
        market.agent(buyer).keyed(key("cancel")).cancel(job, "changed my mind").await?;
        told("job.cancelled", job);
        return Ok(());
    }
    market.agent(worker).keyed(key("deliver")).deliver(job, Delivery::default()).await?;
    told("job.delivered", job);
    market.agent(buyer).keyed(key("approve")).approve(job).await?;
    told("job.completed", job);
    Ok(())
}

pub(crate) fn key(life: u32, caller: u32, number: u32, what: &str) -> String {
    format!("{life}-{caller}-{number}-{what}")
}

pub(crate) fn order(caller: u32, number: u32) -> JobOrder {
    JobOrder {
        title: "A job that may be interrupted".into(),
        task: Map::new(),
        amount: Money::new(i64::from(500 + number % 97), Currency::EUR),
        worker: Some(worker(caller)),
        rail: None,
        deadline: None,
        validation: None,
        open: None,
    }
}

pub(crate) fn buyer(caller: u32) -> AgentId {
    AgentId(Uuid::from_u128(0xb000 + u128::from(caller)))
}

fn worker(caller: u32) -> AgentId {
    AgentId(Uuid::from_u128(0xc000 + u128::from(caller)))
}
