//! Complete job lives per second, ours against bare SQL that writes the same rows in the same number
//! of durable commits.
//!
//! A life is four commands, each with an idempotency key: post, accept, deliver, approve. Every line of
//! the output is one measurement, in which ours and bare took turns on the same database. Notes (how long
//! loading took, which rows a life writes, how much processor time it takes) go to standard error.
//!
//! ```text
//! cargo bench -p tradepost-benches --bench lifecycle -- --stores sqlite,postgres --callers 256 --stored 1000
//! ```
//!
//! `--stores memory,sqlite,postgres`, `--callers 1,16,256`, `--stored 1000,1000000` and `--seconds 12`
//! (of each measurement) are the defaults; `--quick` is `--stored 1000 --seconds 2`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::float_arithmetic, reason = "rates are no money")]

mod bare;
mod cast;
mod load;
mod memory;
mod ours;
mod stand;
mod template;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use self::{
    bare::BareSql,
    memory::BareMemory,
    stand::{Bare, Stand},
    template::Template,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How often each side has its turn in one measurement.
const TURNS: u32 = 4;

/// How Linux counts processor time for others to read.
const TICK_MILLIS: u64 = 10;

struct Options {
    stores: Vec<String>,
    callers: Vec<u64>,
    stored: Vec<u64>,
    seconds: u64,
}

const HELP: &str = "\
--stores memory,sqlite,postgres  which to measure
--callers 1,16,256               how many lives at once
--stored 1000,1000000            how many finished jobs are there already
--seconds 12                     how long each measurement takes, both sides together
--quick                          1000 stored, 2 seconds each: done within two minutes
All of it takes five minutes of measuring, and what it takes to write a million jobs into each database (six
gigabytes): with a disk that writes 100 MB/s, and nothing else to do, about 15 minutes.";

fn main() -> Outcome<()> {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{HELP}");
        return Ok(());
    }
    let options = Options::read(std::env::args().skip(1))?;
    for store in &options.stores {
        // In memory nothing ever waits, so one thread says what a core can do.
        let mut runtime = match store.as_str() {
            "memory" => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        runtime.enable_all().build()?.block_on(measure(store, &options))?;
    }
    Ok(())
}

async fn measure(store: &str, options: &Options) -> Outcome<()> {
    let mut rates: Vec<(u64, u64, Rates)> = Vec::new();
    for &stored in &options.stored {
        let began = Instant::now();
        let stand = Stand::build(store, stored).await?;
        let loaded_in_s = began.elapsed().as_secs();
        note(&json!({ "note": "loaded", "store": store, "stored": stored, "seconds": loaded_in_s }));
        for &callers in &options.callers {
            let measured = cell(&stand, callers, Duration::from_secs(options.seconds)).await?;
            let Rates { ours, bare, .. } = measured;
            let (ours_per_s, bare_per_s, ratio) = (ours.round(), bare.round(), (100.0 * ours / bare).round() / 100.0);
            let line = Line { bench: "lifecycle", store, callers, stored, ours_per_s, bare_per_s, ratio };
            println!("{}", serde_json::to_string(&line)?);
            let Rates { ours_busy, bare_busy, .. } = measured;
            note(&json!({ "note": "microseconds of processor time a life", "ours": ours_busy, "bare": bare_busy }));
            rates.push((stored, callers, measured));
        }
    }
    summarise(store, &rates);
    Ok(())
}

/// One measurement, as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    bench: &'static str,
    store: &'a str,
    callers: u64,
    stored: u64,
    ours_per_s: f64,
    bare_per_s: f64,
    ratio: f64,
}

/// What is worth knowing and is no measurement.
fn note(note: &serde_json::Value) {
    eprintln!("{note}");
}

/// Notes what the largest store costs against the smallest, and what a core does.
fn summarise(store: &str, rates: &[(u64, u64, Rates)]) {
    let (Some((few, ..)), Some((many, ..))) = (rates.first(), rates.last()) else { return };
    for (_, callers, small) in rates.iter().filter(|(stored, ..)| stored == few && few != many) {
        let large = rates.iter().find(|(stored, other, _)| stored == many && other == callers);
        if let Some((.., large)) = large {
            let cost = |small: f64, large: f64| (100.0 * small / large).round() / 100.0;
            let line = json!({
                "note": "cost", "store": store, "callers": callers, "stored": many, "relative_to": few,
                "ours": cost(small.ours, large.ours), "bare": cost(small.bare, large.bare),
            });
            note(&line);
        }
    }
    if store == "memory" {
        let best = rates.iter().map(|(.., rates)| 1e6 / rates.ours_busy).fold(0.0, f64::max);
        note(&json!({ "note": "one core", "store": store, "lives_per_s_of_processor_time": best.round() }));
    }
}

#[derive(Clone, Copy, Default)]
struct Rates {
    ours: f64,
    bare: f64,
    /// Microseconds of this process's processor time a life; a database server's own is not in it.
    ours_busy: f64,
    bare_busy: f64,
}

/// One measurement: ours, bare, ours, bare, …
async fn cell(stand: &Stand, callers: u64, time: Duration) -> Outcome<Rates> {
    let turn = time / (2 * TURNS);
    let (mut ours, mut bare) = (Run::default(), Run::default());
    // A turn of each first, for whatever is made or prepared once.
    for measured in 0..=TURNS {
        let market = stand.market.clone();
        let mine = run(callers, turn, move |number| ours::life(market.clone(), number)).await?;
        let other = match stand.bare.clone() {
            Bare::Memory(bare) => run(callers, turn, move |number| BareMemory::life(bare.clone(), number)).await?,
            Bare::Sql(bare) => run(callers, turn, move |number| BareSql::life(bare.clone(), number)).await?,
        };
        if measured > 0 {
            ours.add(mine);
            bare.add(other);
        }
    }
    Ok(Rates { ours: ours.rate(), bare: bare.rate(), ours_busy: ours.busy(), bare_busy: bare.busy() })
}

#[derive(Clone, Copy, Default)]
struct Run {
    lives: u64,
    time: Duration,
    running: Duration,
}

impl Run {
    fn add(&mut self, other: Self) {
        self.lives += other.lives;
        self.time += other.time;
        self.running += other.running;
    }

    fn rate(self) -> f64 {
        self.lives as f64 / self.time.as_secs_f64()
    }

    fn busy(self) -> f64 {
        (1e8 * self.running.as_secs_f64() / self.lives as f64).round() / 100.0
    }
}

/// Lets so many callers live one life after the other for a time.
async fn run<F, L>(callers: u64, time: Duration, life: F) -> Outcome<Run>
where
    F: Fn(u64) -> L + Clone + Send + 'static,
    L: Future<Output = Outcome<()>> + Send,
{
    let (began, ran) = (Instant::now(), running());
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let life = life.clone();
        tasks.spawn(async move {
            let mut lives = 0;
            while began.elapsed() < time {
                life(next_number()).await?;
                lives += 1;
            }
            Outcome::Ok(lives)
        });
    }
    let mut lives = 0;
    while let Some(ended) = tasks.join_next().await {
        lives += ended??;
    }
    let time = began.elapsed();
    let running = ran.zip(running()).map_or(time, |(before, after)| after - before);
    Ok(Run { lives, time, running })
}

/// How long this process has been running, where the system says so: a machine that is busy with something else
/// does not count.
fn running() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name comes second and may hold anything; user and system time are the 14th and the 15th field.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    Some(Duration::from_millis(TICK_MILLIS * times.sum::<Option<u64>>()?))
}

/// No two lives have the same number; the loaded ones have those from 1 on.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let stores = ["memory", "sqlite", "postgres"].map(String::from).to_vec();
        let mut options = Self { stores, callers: vec![1, 16, 256], stored: vec![1_000, 1_000_000], seconds: 12 };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--stores" => options.stores = value()?.split(',').map(String::from).collect(),
                "--callers" => options.callers = numbers(&value()?)?,
                "--stored" => options.stored = numbers(&value()?)?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--quick" => (options.stored, options.seconds) = (vec![1_000], 2),
                "--bench" => {} // what cargo adds
                other => return Err(format!("{other} is no option of this benchmark").into()),
            }
        }
        Ok(options)
    }
}

fn numbers(list: &str) -> Outcome<Vec<u64>> {
    Ok(list.split(',').map(str::parse).collect::<Result<_, _>>()?)
}

/// The template is the same for every store.
async fn template() -> Outcome<Arc<Template>> {
    Ok(Arc::new(Template::take_down().await?))
}
