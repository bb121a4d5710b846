//! Ten thousand webhooks to a receiver on this machine, a tenth of them to addresses that hang, against the
//! same without those: how long a healthy one waits. `cargo bench -p tradepost-benches --bench notices` prints
//! JSON lines; `NOTICES_DELIVERIES` sets another number, `NOTICES_STORE` one of `memory` and `sqlite`.
//!
//! Ninety agents have an address that answers; ten more, in every other run, have one that never does. All
//! webhooks are due at once, so the wait is that of a burst: most of it is the machine's own work, sender and
//! receiver being the same. The ninety addresses get the same webhooks in both; the runs take turns, and the
//! medians of their p99 are compared.
#![allow(clippy::unwrap_used, reason = "a bench that cannot run says so")]
#![expect(clippy::float_arithmetic, reason = "ratios of times")]

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::time::Instant;
use tradepost::{
    engine::{Marketplace, NoticeParts},
    ids::AgentId,
    job::JobOrder,
    money::Money,
    notice::{Courier, Parcel, Reply, Target},
    outbound::{Outbound, Reach},
    policy::Policy,
    rail::CreditsRail,
    secret::Pepper,
    store::{MemoryStore, SqliteStore, Store},
    testkit::receiver::{Manner, Receiver},
};
use uuid::Uuid;

const AGENTS: u128 = 100;
const HANGING: u128 = 10;

/// The real courier, with every host on this machine.
struct Local {
    outbound: Outbound,
    base: String,
}

#[async_trait]
impl Courier for Local {
    async fn carry(&self, parcel: Parcel) -> Result<Reply, String> {
        let url = parcel.url.replace("https://", &format!("{}/", self.base));
        self.outbound.carry(Parcel { url, ..parcel }).await
    }
}

/// How often each run has its turn.
const TURNS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tenth {
    Absent,
    Hanging,
}

fn main() {
    let number = std::env::var("NOTICES_DELIVERIES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let on = std::env::var("NOTICES_STORE").unwrap_or_else(|_| "sqlite".into());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for turn in 0..=TURNS {
            for tenth in [Tenth::Absent, Tenth::Hanging] {
                let waits = match on.as_str() {
                    "memory" => burst(MemoryStore::new(), number, tenth).await,
                    _ => {
                        let folder = tempfile::tempdir().unwrap();
                        burst(SqliteStore::open(folder.path().join("bench.db")).await.unwrap(), number, tenth).await
                    }
                };
                let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)].as_secs_f64() * 1000.0;
                let hangs = tenth == Tenth::Hanging;
                let line = json!({ "bench": "notices", "store": on, "turn": turn, "tenth_hangs": hangs,
                    "healthy": waits.len(), "p50_ms": at(50).round(), "p99_ms": at(99).round() });
                println!("{line}");
                // The first turn warms up.
                if turn > 0 {
                    if hangs { with.push(at(99)) } else { without.push(at(99)) }
                }
            }
        }
        let ratio = (100.0 * median(with) / median(without)).round() / 100.0;
        let line = json!({ "bench": "notices", "store": on, "deliveries": number, "healthy_p99_ratio": ratio });
        println!("{line}");
    });
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long each healthy delivery took from the moment all were due, ascending.
async fn burst(store: impl Store, number: u128, tenth: Tenth) -> Vec<Duration> {
    let receiver = Receiver::start(move |received| match received.path.contains("tenth") {
        true => Manner::Hang,
        false => Manner::Status(200),
    });
    let receiver = receiver.await.unwrap();
    let policy = Policy::voxpact().unwrap();
    let courier = Local { outbound: Outbound::new(Reach::Anywhere).unwrap(), base: receiver.url("") };
    let parts = NoticeParts::new(Pepper::new([7; 32])).courier(courier);
    let rail = CreditsRail::new(policy.currency);
    let market = Marketplace::builder("bench", store, policy).rail(rail).notices(parts).build().await.unwrap();
    let agent = |number: u128| AgentId(Uuid::from_u128(number + 1));
    let buyer = AgentId(Uuid::from_u128(0xB));
    let absent = if tenth == Tenth::Absent { HANGING } else { 0 };
    for worker in absent..AGENTS {
        let host = if worker < HANGING { "tenth" } else { "healthy" };
        let target = Target { agent: agent(1000 + worker), job: None };
        let url = format!("https://{host}-{worker}.example/hook");
        market.agent(target.agent).add_endpoint(target, url, Vec::new()).await.unwrap();
    }
    let amount = Money::new(1_000, market.currency());
    let plenty = Money::new(1_000_000_000_000, market.currency());
    market.operator("bench").record_deposit(CreditsRail::ID, "all", buyer, plenty).await.unwrap();
    let post = |number: u128| {
        let market = market.clone();
        async move {
            let worker = Some(agent(1000 + number % AGENTS));
            let order = JobOrder { worker, ..JobOrder::new("Translate a page", amount) };
            market.agent(buyer).post_job(order).await.unwrap();
        }
    };
    for first in (0..number).step_by(100) {
        let due = (first..number.min(first + 100)).filter(|number| number % AGENTS >= absent);
        futures::future::join_all(due.map(post)).await;
    }
    while !market.work().await.unwrap().is_idle() {}
    let healthy = number as usize - (0..number).filter(|number| number % AGENTS < HANGING).count();
    let started = Instant::now();
    let sending = tokio::spawn({
        let market = market.clone();
        async move { market.run(Duration::from_millis(100)).await }
    });
    let mut received = receiver.wait_for(healthy).await;
    loop {
        let (arrived, reached) = (received.len(), received.iter().filter(|one| one.path.contains("healthy")).count());
        if reached == healthy {
            break;
        }
        received = receiver.wait_for(arrived + healthy - reached).await;
    }
    sending.abort();
    let reached = received.iter().filter(|one| one.path.contains("healthy"));
    let mut waits: Vec<Duration> = reached.map(|one| one.at - started).collect();
    waits.sort_unstable();
    waits
}
