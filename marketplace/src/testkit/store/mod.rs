//! The conformance kit of stores.
//!
//! Implement [`Database`] for a store, call [`run`], and assert both that nothing
//! [broke](Report::assert_kept) and how many cases [ran](Report::ran). Every case works in a market of
//! its own, so the database need not be empty.

mod commits;
mod crowds;
mod reading;
mod sample;
mod search;

pub use sample::Sample;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::{
    ids::MarketId,
    ledger::Account,
    money::{Currency, Money},
    store::{CommitError, Journal, Key, LoggedEvent, Position, Store, StoreError, Stored},
};

/// What the kit needs to know and do about a store.
#[async_trait]
pub trait Database: Send + Sync {
    /// The store over the same database each time, as after a restart of the process.
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError>;

    /// Does something in one transaction of an embedder's own, and commits it; a store without such transactions
    /// is given itself.
    async fn within(&self, inside: Inside) -> Result<(), StoreError>;
}

/// What the kit does in a transaction.
pub type Inside = Box<dyn for<'a> FnOnce(&'a dyn Journal) -> BoxFuture<'a, ()> + Send>;

/// How often the log is asked for an event before it counts as lost.
const PATIENCE: u32 = 100_000;
/// How many tasks a case runs at once where it is about concurrency.
const CROWD: u64 = 24;

/// What one run found.
#[derive(Debug, Default)]
pub struct Report {
    cases: Vec<(&'static str, Result<(), String>)>,
}

impl Report {
    /// How many cases ran.
    pub fn ran(&self) -> usize {
        self.cases.len()
    }

    /// The cases that did not end as the contract says, and how.
    pub fn broken(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.cases.iter().filter_map(|(name, end)| Some((*name, end.as_ref().err()?.as_str())))
    }

    /// Fails the test that calls it if any case broke, with all of them in the message.
    ///
    /// # Panics
    /// When a case broke.
    pub fn assert_kept(&self) {
        assert!(self.broken().next().is_none(), "the store breaks its contract:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, end) in &self.cases {
            match end {
                Ok(()) => writeln!(f, "kept    {name}")?,
                Err(how) => writeln!(f, "BROKEN  {name}: {how}")?,
            }
        }
        Ok(())
    }
}

/// Why a case stopped: what was expected and what came instead.
#[derive(Debug)]
pub(super) struct Broken(String);

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self(format!("the store failed: {error}"))
    }
}

impl From<CommitError> for Broken {
    fn from(error: CommitError) -> Self {
        Self(format!("a commit that should have been written was refused: {error:?}"))
    }
}

type Case = (&'static str, for<'a> fn(&'a Stage<'a>) -> BoxFuture<'a, Result<(), Broken>>);

/// Ends a case unless a condition holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::testkit::store::Broken(format!($($words)+)));
        }
    };
}
/// A list of cases from functions of a [`Stage`].
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub(super) const CASES: &[$crate::testkit::store::Case] =
            &[$((stringify!($case), |stage| Box::pin($case(stage)))),*];
    };
}
use {cases, hold};

/// Runs every case, one after another.
///
/// # Errors
/// [`StoreError`] when the store cannot even be opened.
pub async fn run(database: &dyn Database) -> Result<Report, StoreError> {
    let mut report = Report::default();
    for (name, case) in [commits::CASES, reading::CASES, search::CASES, crowds::CASES].concat() {
        let store = database.open().await?;
        // Markets of earlier runs on the same database have other names.
        let mut number = 1;
        let market = loop {
            let market = store.open_market(&format!("{name} {number}")).await?;
            if store.policy(market, None).await?.is_none() {
                break market;
            }
            number += 1;
        };
        let policy = crate::policy::Policy::voxpact();
        let end = match policy {
            Ok(policy) => {
                store.add_policy(market, &policy).await?;
                case(&Stage { database, store, market, ids: AtomicU64::new(1) }).await
            }
            Err(error) => Err(Broken(format!("the sample policy cannot be read: {error}"))),
        };
        report.cases.push((name, end.map_err(|broken| broken.0)));
    }
    Ok(report)
}

/// What a case plays on.
pub(super) struct Stage<'a> {
    database: &'a dyn Database,
    store: Arc<dyn Store>,
    market: MarketId,
    ids: AtomicU64,
}

impl Stage<'_> {
    /// A new id, higher than those before, other than those of other markets.
    fn id(&self) -> Uuid {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        Uuid::from_u64_pair(self.market.0.unsigned_abs(), number)
    }

    fn sample(&self) -> Sample {
        Sample::new(self.market, self.id(), self.id())
    }

    /// A job, written.
    async fn written(&self) -> Result<Sample, Broken> {
        let sample = self.sample();
        self.store.commit(sample.write()).await?;
        Ok(Sample { version: 1, ..sample })
    }

    /// A job with money in escrow, written.
    async fn funded(&self, amount: Money) -> Result<Sample, Broken> {
        let sample = self.sample();
        let commit = sample.fund(amount).map_err(|e| Broken(e.to_string()))?;
        self.store.commit(commit).await?;
        Ok(Sample { version: 1, ..sample })
    }

    async fn load(&self, key: Key) -> Result<Stored, Broken> {
        let stored = self.store.load(self.market, key).await?;
        stored.ok_or_else(|| Broken(format!("{key:?} is not there")))
    }

    async fn balance(&self, account: Account) -> Result<Money, Broken> {
        Ok(self.store.balance(self.market, account, Currency::EUR, None).await?)
    }

    /// The log of so many events, read in pages of this size. An event may become visible some time
    /// after its commit, so it is waited for; one too many is seen too.
    async fn log(&self, events: usize, page: u32) -> Result<Vec<LoggedEvent>, Broken> {
        let (mut log, mut after) = (Vec::new(), Position::default());
        for _ in 0..PATIENCE {
            let read = self.store.events(self.market, after, page).await?;
            match read.last() {
                Some(last) => after = last.position,
                None if log.len() >= events => return Ok(log),
                None => tokio::task::yield_now().await,
            }
            log.extend(read);
        }
        Err(Broken(format!("the log has {} events, {events} were written", log.len())))
    }
}
