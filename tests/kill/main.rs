//! Kills an engine under load with SIGKILL, again and again, and looks at what is left.
//!
//! `kill` starts itself as a server (`kill serve …`) on SQLite and on PostgreSQL, with the quickstart's
//! policy on credits and on a rail whose world outside is a file. The server prints a line for every
//! answer that a caller got. After each kill, everything that was answered has to be there, the books
//! have to balance, the open work has to finish, and the file has to agree with the books.

mod check;
mod load;
mod rail;

use std::{
    error::Error,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    time::Duration,
};

use clap::{Parser, Subcommand};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tradepost::{
    engine::Marketplace,
    money::Currency,
    policy::{Policy, Span},
    rail::CreditsRail,
    store::{PostgresStore, SqliteStore, Store},
    testkit::postgres::PostgresServer,
};

use self::{load::Ack, rail::FileRail};

/// How long a server may take to answer its first caller.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills an engine under load and looks at what is left.
#[derive(Parser)]
struct Options {
    /// How often on each database.
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Is the server that will be killed.
    Serve {
        /// A file, or the URL of a PostgreSQL database.
        #[arg(long)]
        database: String,
        /// The world outside.
        #[arg(long)]
        outside: PathBuf,
        /// Which life of the server this is.
        #[arg(long)]
        life: u32,
    },
}

/// The two marketplaces of a database.
pub(crate) struct Markets {
    pub(crate) credits: Marketplace,
    pub(crate) outside: Marketplace,
}

impl Markets {
    /// Opens both, as every life of the server does.
    pub(crate) async fn open(database: &str, outside: &Path) -> Result<Self, Box<dyn Error>> {
        match database.starts_with("postgres") {
            true => Self::on(PostgresStore::connect(database).await?, outside).await,
            false => Self::on(SqliteStore::open(database).await?, outside).await,
        }
    }

    async fn on(store: impl Store + Clone, outside: &Path) -> Result<Self, Box<dyn Error>> {
        let build = |name: &str| {
            let market = Marketplace::builder(name, store.clone(), Policy::voxpact()?);
            // Claims of the dead are free again soon.
            Ok::<_, Box<dyn Error>>(market.lease(Span::seconds(2)))
        };
        Ok(Self {
            credits: build("credits")?.rail(CreditsRail::new(Currency::EUR)).build().await?,
            outside: build("outside")?.rail(FileRail::open(outside)?).build().await?,
        })
    }

    pub(crate) fn both(&self) -> [(&'static str, &Marketplace); 2] {
        [("credits", &self.credits), ("outside", &self.outside)]
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Role::Serve { database, outside, life }) = options.role {
        return match load::serve(&database, &outside, life).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the server failed: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let (mut passed, mut failed) = (0, 0);
    for database in ["sqlite", "postgres"] {
        match kill(database, options.rounds).await {
            Ok(()) => passed += options.rounds,
            Err(error) => {
                println!("{database}: {error}");
                failed += 1;
            }
        }
    }
    println!("kill: {passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Kills a server on one kind of database, so many times.
async fn kill(kind: &str, rounds: u32) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let server = if kind == "postgres" { Some(PostgresServer::start()?) } else { None };
    let database = match &server {
        Some(server) => server.database()?,
        None => folder.path().join("market.db").display().to_string(),
    };
    let outside = folder.path().join("outside.jsonl");
    let mut rng = StdRng::seed_from_u64(2);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--database", &database, "--life", &round.to_string(), "--outside"])
            .arg(&outside)
            .stdout(Stdio::piped())
            .spawn()?;
        let acks = run_and_kill(&mut child, Duration::from_millis(rng.random_range(30..900)))?;
        // Now and then the database goes down with it.
        if let Some(server) = server.as_ref().filter(|_| round % 5 == 4) {
            server.crash()?;
            server.resume()?;
        }
        let markets = Markets::open(&database, &outside).await?;
        let found = check::look(&markets, round, &acks).await.map_err(|e| format!("round {round}: {e}"))?;
        println!("{kind}: round {round}: {} answers, {found}", acks.len());
    }
    Ok(())
}

/// Lets a server answer for a while from its first answer on, kills it, and says what it answered.
fn run_and_kill(child: &mut Child, life: Duration) -> Result<Vec<Ack>, Box<dyn Error>> {
    let lines = BufReader::new(child.stdout.take().ok_or("the server has no output")?).lines();
    let (first, began) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        // A line that was cut off by the kill was not an answer.
        let acks = lines.map_while(Result::ok).filter_map(|line| Ack::parse(&line));
        acks.inspect(|_| first.send(()).unwrap_or(())).collect::<Vec<Ack>>()
    });
    let answered = began.recv_timeout(PATIENCE);
    if answered.is_ok() {
        std::thread::sleep(life); // the test is about dying at no particular moment
    }
    child.kill()?;
    child.wait()?;
    let acks = reader.join().map_err(|_| "the reader of the server's answers failed")?;
    answered.map_err(|_| "the server answered nobody")?;
    Ok(acks)
}
