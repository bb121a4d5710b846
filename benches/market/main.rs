//! What posting, bidding, accepting and searching cost with few and with many jobs and agents stored.
//!
//! Every job stored is open and every agent active, so that all of them are in the way of a search. Texts are
//! of words of which few are common and most are rare. Each line is one measurement; the last ones print what
//! an operation costs with the most stored, relative to the fewest.
//!
//! ```text
//! cargo bench -p tradepost-benches --bench market -- --stores sqlite,postgres --sizes 1000/1000,1000000/100000
//! ```
//!
//! `--stores memory,sqlite,postgres`, `--sizes 1000/1000,1000000/100000` (jobs/agents; in memory at most 100 000
//! jobs), `--callers 8` and `--seconds 3` (of each measurement) are the defaults; `--quick` is
//! `--sizes 1000/1000,20000/5000 --seconds 1`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::float_arithmetic, reason = "rates are no money")]

mod load;
mod plays;
mod words;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::{ConnectOptions as _, Executor as _, postgres::PgConnectOptions, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tradepost::{
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::postgres::PostgresServer,
};

use self::plays::Stand;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = "\
--stores memory,sqlite,postgres          which to measure
--sizes 1000/1000,1000000/100000         how many open jobs and active agents are there, jobs/agents
--callers 8                              how many operations at once
--seconds 3                              how long each measurement takes
--quick                                  1000/1000 and 20000/5000, 1 second each";
/// What a machine's memory is spared.
const MOST_IN_MEMORY: u64 = 100_000;
/// How often one measurement does its operation, however quick that is: what it adds must stay little beside what
/// is stored, and leave agents that have not bid yet.
const MOST_OPERATIONS: u64 = 4_000;

struct Options {
    stores: Vec<String>,
    sizes: Vec<(u64, u64)>,
    callers: u64,
    seconds: u64,
}

/// One operation, measured.
struct Measured {
    operation: &'static str,
    /// Seconds that one of them takes out of a second, all callers together.
    cost: f64,
}

fn main() -> Outcome<()> {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{HELP}");
        return Ok(());
    }
    let options = Options::read(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for store in &options.stores {
        runtime.block_on(measure(store, &options))?;
    }
    Ok(())
}

async fn measure(store: &str, options: &Options) -> Outcome<()> {
    let mut sizes = Vec::new();
    for &(jobs, agents) in &options.sizes {
        let jobs = if store == "memory" { jobs.min(MOST_IN_MEMORY) } else { jobs };
        let measured = match store {
            "memory" => at_size(store, MemoryStore::new(), (jobs, agents), options, async || Ok(())).await?,
            "sqlite" => {
                let folder = TempDir::new()?;
                let path = folder.path().join("bench.db");
                let opened = SqliteStore::open(&path).await?;
                let tidy = async || {
                    let mut hand = SqliteConnectOptions::new().filename(&path).connect().await?;
                    hand.execute("PRAGMA analysis_limit = 1000; ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)").await?;
                    Ok(())
                };
                at_size(store, opened, (jobs, agents), options, tidy).await?
            }
            "postgres" => {
                let server = PostgresServer::start()?;
                let url = server.database()?;
                let opened = PostgresStore::connect(&url).await?;
                let tidy = async || {
                    let mut hand = url.parse::<PgConnectOptions>()?.connect().await?;
                    for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
                        hand.execute(statement).await?;
                    }
                    Ok(())
                };
                at_size(store, opened, (jobs, agents), options, tidy).await?
            }
            other => return Err(format!("{other} is no store: memory, sqlite, postgres").into()),
        };
        sizes.push(((jobs, agents), measured));
    }
    let Some(((few, small), more)) = sizes.split_first() else { return Ok(()) };
    for ((jobs, agents), large) in more {
        for (small, large) in small.iter().zip(large) {
            let line = json!({
                "note": "cost", "store": store, "operation": small.operation, "jobs": jobs, "agents": agents,
                "relative_to_jobs": few.0, "ratio": (100.0 * large.cost / small.cost).round() / 100.0,
            });
            println!("{line}");
        }
    }
    Ok(())
}

async fn at_size(
    name: &str,
    store: impl Store + Clone,
    (jobs, agents): (u64, u64),
    options: &Options,
    tidy: impl AsyncFn() -> Outcome<()>,
) -> Outcome<Vec<Measured>> {
    let began = Instant::now();
    let market = load::fill(store, jobs, agents).await?;
    tidy().await?; // what a server does by itself in time
    let seconds = began.elapsed().as_secs();
    println!("{}", json!({ "note": "loaded", "store": name, "jobs": jobs, "agents": agents, "seconds": seconds }));
    let stand = Arc::new(Stand { market, jobs, agents });
    let (callers, time) = (options.callers, Duration::from_secs(options.seconds));
    let mut measured = Vec::new();
    macro_rules! operation {
        ($name:literal, $play:path) => {{
            let play = |stand: Arc<Stand>, number: u64| async move { $play(&stand, number).await };
            run(&stand, callers, time / 4, play).await?; // for whatever is made or prepared once
            let (times, found, seconds) = run(&stand, callers, time, play).await?;
            let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_micros() as u64;
            let per_s = times.len() as f64 / seconds;
            let line = json!({
                "bench": "market", "store": name, "jobs": jobs, "agents": agents, "operation": $name,
                "callers": callers, "per_s": per_s.round(), "found": (10.0 * found as f64 / times.len() as f64).round() / 10.0,
                "p50_us": at(50), "p99_us": at(99),
            });
            println!("{line}");
            measured.push(Measured { operation: $name, cost: 1.0 / per_s });
        }};
    }
    operation!("post", plays::post);
    operation!("bid", plays::bid);
    operation!("post, bid and accept", plays::accept);
    operation!("agents by capability", plays::agents_by_capability);
    operation!("agents by two capabilities", plays::agents_by_two_capabilities);
    operation!("agents by a rare word", plays::agents_by_rare_word);
    operation!("agents by a common word", plays::agents_by_common_word);
    operation!("newest jobs", plays::newest_jobs);
    operation!("jobs by rare words", plays::jobs_by_rare_words);
    operation!("jobs by common words", plays::jobs_by_common_words);
    operation!("jobs by words of a title", plays::jobs_by_title);
    Ok(measured)
}

/// Lets so many callers do one operation after the other for a time, or [`MOST_OPERATIONS`] of them: how long each
/// took, ascending, how many records all of them made or found, and the seconds that it took.
async fn run<F, P>(stand: &Arc<Stand>, callers: u64, time: Duration, play: F) -> Outcome<(Vec<Duration>, usize, f64)>
where
    F: Fn(Arc<Stand>, u64) -> P + Copy + Send + 'static,
    P: Future<Output = Outcome<usize>> + Send,
{
    let began = Instant::now();
    let (mut tasks, each) = (JoinSet::new(), (MOST_OPERATIONS / callers.max(1)) as usize);
    for _ in 0..callers {
        let stand = stand.clone();
        tasks.spawn(async move {
            let (mut times, mut found) = (Vec::new(), 0);
            while times.is_empty() || (began.elapsed() < time && times.len() < each) {
                let started = Instant::now();
                found += play(stand.clone(), next_number()).await?;
                times.push(started.elapsed());
            }
            Outcome::Ok((times, found))
        });
    }
    let (mut times, mut found) = (Vec::new(), 0);
    while let Some(ended) = tasks.join_next().await {
        let (taken, made) = ended??;
        times.extend(taken);
        found += made;
    }
    times.sort_unstable();
    Ok((times, found, began.elapsed().as_secs_f64()))
}

/// No two operations have the same number.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let stores = ["memory", "sqlite", "postgres"].map(String::from).to_vec();
        let sizes = vec![(1_000, 1_000), (1_000_000, 100_000)];
        let mut options = Self { stores, sizes, callers: 8, seconds: 3 };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--stores" => options.stores = value()?.split(',').map(String::from).collect(),
                "--sizes" => options.sizes = value()?.split(',').map(size).collect::<Outcome<_>>()?,
                "--callers" => options.callers = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--quick" => (options.sizes, options.seconds) = (vec![(1_000, 1_000), (20_000, 5_000)], 1),
                "--bench" => {} // what cargo adds
                other => return Err(format!("{other} is no option of this benchmark").into()),
            }
        }
        Ok(options)
    }
}

fn size(text: &str) -> Outcome<(u64, u64)> {
    let (jobs, agents) = text.split_once('/').ok_or_else(|| format!("{text}: a size is jobs/agents"))?;
    Ok((jobs.parse()?, agents.parse()?))
}
