//! What one measurement stands on: a store with so many jobs in it, ours and bare.

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tradepost::{
    engine::Marketplace,
    store::{MemoryStore, PostgresStore, SqliteStore},
    testkit::postgres::PostgresServer,
};

use crate::{Outcome, bare::BareSql, cast, load, memory::BareMemory, next_number, note, ours, template};

/// Both sides, ready.
pub(crate) struct Stand {
    pub(crate) market: Marketplace,
    pub(crate) bare: Bare,
    _place: Place,
}

/// The bare side.
#[derive(Clone)]
pub(crate) enum Bare {
    Memory(BareMemory),
    Sql(BareSql),
}

/// What has to outlive the connections.
enum Place {
    Nowhere,
    Folder(#[expect(dead_code, reason = "removed when dropped")] TempDir),
    Server(#[expect(dead_code, reason = "stopped when dropped")] PostgresServer),
}

impl Stand {
    pub(crate) async fn build(store: &str, stored: u64) -> Outcome<Self> {
        match store {
            "memory" => Self::memory(stored).await,
            "sqlite" => Self::sqlite(stored).await,
            "postgres" => Self::postgres(stored).await,
            other => Err(format!("{other} is no store: memory, sqlite, postgres").into()),
        }
    }

    async fn memory(stored: u64) -> Outcome<Self> {
        let (market, bare) = (ours::open(MemoryStore::new()).await?, BareMemory::new().await?);
        ours::endow(&market, cast::agents()).await?;
        for number in 1..=stored {
            ours::life(market.clone(), number).await?;
            bare.clone().life(number).await?;
        }
        Ok(Self { market, bare: Bare::Memory(bare), _place: Place::Nowhere })
    }

    async fn sqlite(stored: u64) -> Outcome<Self> {
        let (folder, template) = (tempfile::tempdir()?, template().await?);
        let options = SqliteConnectOptions::new().filename(folder.path().join("bench.db"));
        let store = || SqliteStore::open_with(options.clone().create_if_missing(true));
        ours::endow(&ours::open(store().await?).await?, cast::agents()).await?;
        let mut hand = options.clone().disable_statement_logging().connect().await?;
        load::load(&mut hand, &load::SQLITE, &template, stored).await?;
        let market = ours::open(store().await?).await?;
        let bare = BareSql::sqlite(options.clone(), template).await?;
        let mut counts = vec![load::written(&mut hand).await?];
        ours::life(market.clone(), next_number()).await?;
        counts.push(load::written(&mut hand).await?);
        bare.clone().life(next_number()).await?;
        counts.push(load::written(&mut hand).await?);
        compare("sqlite", &counts)?;
        Ok(Self { market, bare: Bare::Sql(bare), _place: Place::Folder(folder) })
    }

    async fn postgres(stored: u64) -> Outcome<Self> {
        let (server, template) = (PostgresServer::start()?, template().await?);
        let url = server.database()?;
        ours::endow(&ours::open(PostgresStore::connect(&url).await?).await?, cast::agents()).await?;
        let options: PgConnectOptions = url.parse()?;
        let mut hand = options.clone().disable_statement_logging().connect().await?;
        load::load(&mut hand, &load::POSTGRES, &template, stored).await?;
        let market = ours::open(PostgresStore::connect(&url).await?).await?;
        let bare = BareSql::postgres(options, template).await?;
        let mut counts = vec![load::written(&mut hand).await?];
        ours::life(market.clone(), next_number()).await?;
        counts.push(load::written(&mut hand).await?);
        bare.clone().life(next_number()).await?;
        counts.push(load::written(&mut hand).await?);
        compare("postgres", &counts)?;
        Ok(Self { market, bare: Bare::Sql(bare), _place: Place::Server(server) })
    }
}

/// Both sides must have written the same rows for one life.
fn compare(store: &str, counts: &[Vec<(&'static str, i64)>]) -> Outcome<()> {
    let grown = |place: usize| -> Vec<(&str, i64)> {
        let pairs = counts[place].iter().zip(&counts[place + 1]);
        pairs.map(|((name, before), (_, after))| (*name, after - before)).collect()
    };
    let (ours, bare) = (grown(0), grown(1));
    if ours != bare {
        return Err(format!("on {store} a life of ours writes {ours:?}, a bare one {bare:?}").into());
    }
    let rows: serde_json::Map<String, serde_json::Value> =
        ours.into_iter().map(|(name, count)| (name.into(), count.into())).collect();
    note(&serde_json::json!({ "note": "rows of one life, ours and bare alike", "store": store, "rows": rows }));
    Ok(())
}
