//! One job, from posting to payout, on an embedded SQLite file.
//!
//!     cargo run --release --example quickstart
//!     cargo run --release --example quickstart -- --end cancel --database other.db
//!
//! Kill it at any moment and run it again: every step carries an idempotency key, so it goes on where
//! it stood. Delete the database file to begin anew.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use serde_json::{Map, Value};
use tradepost::{
    clock::{Clock, ManualClock, SystemClock},
    engine::Marketplace,
    ids::AgentId,
    job::{Delivery, Job, JobEvent, JobOrder, JobStatus},
    ledger::{Account, RevenueKind, TransferKind},
    money::Money,
    policy::{Bearer, FeeRate, Policy, Review},
    rail::CreditsRail,
    store::{EventBody, SqliteStore},
};

/// Carries a job through its life and prints where every cent went.
#[derive(Parser)]
struct Arguments {
    /// The marketplace's rules: TOML, or JSON when the name ends in .json.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../marketplace/policies/voxpact.toml"))]
    policy: PathBuf,
    /// Who buys what from whom, in JSON.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/quickstart.json"))]
    job: PathBuf,
    /// The SQLite file.
    #[arg(long, default_value = "quickstart.db")]
    database: PathBuf,
    /// How the job ends.
    #[arg(long, value_enum, default_value_t = End::Approve)]
    end: End,
}

/// How the job ends.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum End {
    /// The buyer approves the delivery.
    Approve,
    /// Nobody does, and time passes: the clock is moved to the moment of the automatic release.
    AutoRelease,
    /// The buyer cancels once the work has begun.
    Cancel,
    /// The worker gives the money back after delivering, without a dispute.
    Refund,
}

/// The job file. Amounts are decimals in the policy's currency.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFile {
    buyer: AgentId,
    worker: AgentId,
    wallet: String,
    order: Order,
    delivery: Delivery,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    title: String,
    task: Map<String, Value>,
    amount: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let policy = read_policy(&arguments.policy)?;
    let currency = policy.currency;
    let text = std::fs::read_to_string(&arguments.job).context("the job file cannot be read")?;
    let file: JobFile = serde_json::from_str(&text).context("the job file is not one")?;

    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let store = SqliteStore::open(&arguments.database).await?;
    let market = Marketplace::builder("quickstart", store, policy)
        .rail(CreditsRail::new(currency))
        .clock(clock.clone())
        .build()
        .await?;

    // The buyer's wallet is filled once, however often this runs: the reference is the payment's name.
    let wallet = Money::parse(&file.wallet, currency)?;
    market.operator("quickstart").record_deposit(CreditsRail::ID, "first deposit", file.buyer, wallet).await?;

    let order = JobOrder {
        title: file.order.title,
        task: file.order.task,
        amount: Money::parse(&file.order.amount, currency)?,
        worker: Some(file.worker),
        rail: None,
        deadline: None,
        validation: None,
        schemas: None,
        open: None,
    };
    let posted = market.agent(file.buyer).keyed("post").post_job(order).await?;
    let mut job = market.job(posted.id).await?;
    while !job.status.is_final() {
        println!("{:<18} job {}", job.status, job.id);
        job = step(&market, &job, &file.delivery, arguments.end, &clock).await?;
    }
    println!("{:<18} job {}\n", job.status, job.id);
    print_statement(&market, &job).await
}

/// Does the next thing in the job's life.
async fn step(market: &Marketplace, job: &Job, delivery: &Delivery, end: End, clock: &ManualClock) -> Result<Arc<Job>> {
    let (buyer, worker) = (job.buyer, job.worker.context("the job has a worker")?);
    Ok(match job.status {
        JobStatus::PendingPayment | JobStatus::Funded => market.agent(worker).keyed("accept").accept(job.id).await?,
        JobStatus::Accepted => market.agent(worker).keyed("start").start(job.id).await?,
        JobStatus::InProgress if end == End::Cancel => {
            market.agent(buyer).keyed("cancel").cancel(job.id, "No longer needed").await?
        }
        JobStatus::InProgress => market.agent(worker).keyed("deliver").deliver(job.id, delivery.clone()).await?,
        JobStatus::Delivered if end == End::Refund => {
            market.agent(worker).keyed("refund").refund(job.id, "It was not my best work").await?
        }
        JobStatus::Delivered if end == End::AutoRelease => {
            let release_at = job.next_timer().context("a delivered job is released by itself")?;
            clock.advance(release_at - clock.now());
            market.run_until_idle().await?;
            market.job(job.id).await?
        }
        JobStatus::Delivered => market.agent(buyer).keyed("approve").approve(job.id).await?,
        status => anyhow::bail!("this example does not know how to go on from {status}"),
    })
}

/// Who paid, who got what, and which rule set each number.
async fn print_statement(market: &Marketplace, job: &Job) -> Result<()> {
    println!("What happened");
    for logged in market.job_history(job.id).await? {
        let event = &logged.event;
        println!("  {}  {:<22} by {}", event.at.format("%Y-%m-%d %H:%M:%S"), event.body.name(), event.actor);
        if let EventBody::Job(JobEvent::Delivered { release_at: Some(at), .. }) = &event.body {
            println!("  {:19}  released by itself at {}", "", at.format("%Y-%m-%d %H:%M:%S"));
        }
    }

    let worker = job.worker.context("the job has a worker")?;
    println!("\nWhere the money of this job went");
    for (who, account) in [
        ("buyer's wallet", Account::Available(job.buyer)),
        ("worker's wallet", Account::Available(worker)),
        ("platform's fees", Account::Revenue(RevenueKind::Fees)),
        ("platform's cancellation fees", Account::Revenue(RevenueKind::Cancellations)),
        ("escrow", Account::Escrow(job.id.into())),
    ] {
        let entries = market.history(account, 0, 1000).await?;
        for entry in entries.iter().filter(|entry| entry.contract == job.id.0) {
            println!("  {who:<30} {:>16}  {}", entry.amount.to_string(), entry.kind.as_str());
        }
    }

    println!("\nWhich rule set each number");
    let policy = market.policy().1;
    let amount = job.terms.amount;
    println!(
        "  {:>14}  the order's amount; jobs.amount allows {} to {} minor units",
        amount.to_string(),
        policy.jobs.amount.min,
        policy.jobs.amount.max
    );
    let rate = job.terms.rate.map_or_else(|| "unknown".into(), |rate| rate.to_string());
    let path = match &policy.fees.rate {
        FeeRate::Flat(_) => "fees.rate.flat".into(),
        FeeRate::ByTier(_) => format!("fees.rate.by_tier.{}", policy.initial_tier()),
    };
    let bearer = match job.terms.bearer {
        Bearer::Buyer => "on top, from the buyer",
        Bearer::Worker => "out of the worker's payout",
    };
    println!("  {:>14}  the fee if it completes: {path} = {rate}, fees.bearer: {bearer}", job.terms.fee.to_string());
    for entry in market.history(Account::Escrow(job.id.into()), 0, 1000).await? {
        let rule = match entry.kind {
            TransferKind::Compensation => "jobs.cancellation.in_progress.to_worker",
            TransferKind::CancellationFee => "jobs.cancellation.in_progress.to_platform",
            TransferKind::Refund => "what is left of the hold",
            _ => continue,
        };
        println!("  {:>14}  {rule}", (-entry.amount.minor()).to_string());
    }
    if let Review::Buyer { release_after } = policy.jobs.review {
        println!(
            "  {:>14}  until a delivery is released by itself: jobs.review.release_after",
            release_after.to_string()
        );
    }

    let books = market.trial_balance().await?;
    let sum: i128 = books.iter().map(|balance| balance.sum()).sum();
    let findings = market.verify().await?;
    println!("\nSum over all accounts: {sum}. Findings of verify(): {}.", findings.len());
    Ok(())
}

fn read_policy(path: &PathBuf) -> Result<Policy> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let json = path.extension().is_some_and(|extension| extension == "json");
    Ok(if json { Policy::from_json(&text)? } else { Policy::from_toml(&text)? })
}
