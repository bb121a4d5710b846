//! The command line.

use std::{ops::Range, time::Duration};

use clap::{Parser, ValueEnum};
use tradepost::testkit::world::Telling;

/// Plays seeded worlds: whole marketplaces with faults, each from one number.
#[derive(Parser)]
pub(crate) struct Options {
    /// The worlds to play: A..B, or one.
    #[arg(long, default_value = "0..1000", value_parser = seeds)]
    pub(crate) seeds: Range<u64>,
    /// How many commands and rounds of work each.
    #[arg(long, default_value_t = 2000)]
    pub(crate) steps: u64,
    /// Where they are kept.
    #[arg(long, value_enum, default_value_t = Kind::Memory)]
    pub(crate) store: Kind,
    /// Begin no further world after so long.
    #[arg(long)]
    minutes: Option<u64>,
    /// How many at once.
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: usize,
    /// Print each world's digest.
    #[arg(long)]
    pub(crate) digests: bool,
    /// Print everything that happens to standard error.
    #[arg(long)]
    tell: bool,
}

/// The kinds of stores.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

impl Options {
    pub(crate) fn within(&self) -> Option<Duration> {
        self.minutes.map(|minutes| Duration::from_secs(60 * minutes))
    }

    pub(crate) const fn telling(&self) -> Telling {
        if self.tell { Telling::Aloud } else { Telling::Silent }
    }
}

fn seeds(text: &str) -> Result<Range<u64>, std::num::ParseIntError> {
    Ok(match text.split_once("..") {
        Some((from, to)) => from.parse()?..to.parse()?,
        None => {
            let seed: u64 = text.parse()?;
            seed..seed + 1
        }
    })
}
