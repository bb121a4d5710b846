//! Plays seeded worlds on a store: `world --seeds 0..10000 --steps 2000 --store memory`.

mod options;

use std::{
    error::Error,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use clap::Parser;
use tradepost::{
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{
        postgres::PostgresServer,
        world::{Failure, Hanging, Report, Setup, play},
    },
};

use self::options::{Kind, Options};

/// What all threads found.
#[derive(Default)]
struct Found {
    passed: u64,
    report: Report,
    failures: Vec<Failure>,
}

#[expect(clippy::disallowed_methods, reason = "how long the run takes is told, nothing depends on it")]
fn main() -> ExitCode {
    let options = Options::parse();
    let (start, next, found) = (Instant::now(), AtomicU64::new(options.seeds.start), Mutex::new(Found::default()));
    let ended = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..options.threads).map(|_| scope.spawn(|| worker(&options, start, &next, &found))).collect();
        threads.into_iter().map(|thread| thread.join()).all(|ended| matches!(ended, Ok(Ok(()))))
    });
    let found = found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let played = found.passed + found.failures.len() as u64;
    let Report { steps, commands, refused, crashes, store_faults, rail_faults, conflicts, webhooks, .. } = found.report;
    let (from, to) = (options.seeds.start, options.seeds.start + played);
    println!(
        "world: {}: seeds {from}..{to}, steps {steps}, commands {commands} ({refused} refused), crashes {crashes}, \
         store faults {store_faults}, rail faults {rail_faults}, conflicts {conflicts}, webhooks {webhooks}, {} steps/s, \
         {} passed, {} failed",
        options.store.name(),
        u128::from(steps) * 1000 / start.elapsed().as_millis().max(1),
        found.passed,
        found.failures.len(),
    );
    match found.failures.is_empty() && found.passed > 0 && ended {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Plays the next seed until there is none, or no time.
fn worker(options: &Options, start: Instant, next: &AtomicU64, found: &Mutex<Found>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    let shelf = runtime.block_on(Shelf::open(options.store)).map_err(|e| e.to_string());
    let shelf = shelf.inspect_err(|problem| eprintln!("{problem}"))?;
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if !options.seeds.contains(&seed) || options.within().is_some_and(|within| start.elapsed() > within) {
            return Ok(());
        }
        let setup = Setup { seed, steps: options.steps, telling: options.telling(), hanging: Hanging::Briefly };
        let played = runtime.block_on(play(setup, shelf.store()));
        let mut found = found.lock().map_err(|_| "another thread failed".to_owned())?;
        match played {
            Ok(report) => {
                found.passed += 1;
                found.report = found.report.plus(report);
                if options.digests {
                    println!("seed {seed}: {:016x}", report.digest);
                }
            }
            Err(failure) => {
                println!("{failure}");
                found.failures.push(failure);
            }
        }
    }
}

/// Where a thread's worlds are kept. On a database all of them share one store, each with a market of
/// its own.
enum Shelf {
    Memory,
    Sqlite(SqliteStore, #[expect(dead_code, reason = "the folder lives as long as the store")] tempfile::TempDir),
    Postgres(PostgresStore, #[expect(dead_code, reason = "so does the server")] PostgresServer),
}

impl Shelf {
    async fn open(kind: Kind) -> Result<Self, Box<dyn Error>> {
        Ok(match kind {
            Kind::Memory => Self::Memory,
            Kind::Sqlite => {
                let folder = tempfile::tempdir()?;
                Self::Sqlite(SqliteStore::open(folder.path().join("worlds.db")).await?, folder)
            }
            Kind::Postgres => {
                let server = PostgresServer::start()?;
                Self::Postgres(PostgresStore::connect(&server.database()?).await?, server)
            }
        })
    }

    fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory => Arc::new(MemoryStore::new()),
            Self::Sqlite(store, _) => Arc::new(store.clone()),
            Self::Postgres(store, _) => Arc::new(store.clone()),
        }
    }
}
