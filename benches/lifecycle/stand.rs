//! What one measurement stands on: a store with so many jobs in it, ours and bare.

use sqlx::{
    ConnectOptions as _, Connection, Executor, IntoArguments, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
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
        let open = async || -> Outcome<(Marketplace, BareSql)> {
            let market = ours::open(SqliteStore::open_with(options.clone().create_if_missing(true)).await?).await?;
            Ok((market, BareSql::sqlite(options.clone(), template.clone()).await?))
        };
        let (market, bare) = open().await?;
        let mut hand = options.clone().disable_statement_logging().connect().await?;
        ours::endow(&market, cast::agents()).await?;
        compare("sqlite", &mut hand, &market, &bare).await?;
        drop((market, bare));
        load::alone(&mut hand).await?;
        load::load(&mut hand, &load::SQLITE, &template, stored).await?;
        hand.close().await?;
        // What is still on its way to the disk would slow the first commits down.
        std::fs::File::open(folder.path().join("bench.db"))?.sync_all()?;
        let (market, bare) = open().await?;
        Ok(Self { market, bare: Bare::Sql(bare), _place: Place::Folder(folder) })
    }

    async fn postgres(stored: u64) -> Outcome<Self> {
        let (server, template) = (PostgresServer::start()?, template().await?);
        let url = server.database()?;
        let options: PgConnectOptions = url.parse()?;
        let mut hand = options.clone().disable_statement_logging().connect().await?;
        load::configure(&mut hand).await?;
        server.crash()?;
        server.resume()?;
        let market = ours::open(PostgresStore::connect(&url).await?).await?;
        let bare = BareSql::postgres(options.clone(), template.clone()).await?;
        let mut hand = options.disable_statement_logging().connect().await?;
        ours::endow(&market, cast::agents()).await?;
        compare("postgres", &mut hand, &market, &bare).await?;
        load::load(&mut hand, &load::POSTGRES, &template, stored).await?;
        Ok(Self { market, bare: Bare::Sql(bare), _place: Place::Server(server) })
    }
}

/// Both sides must write the same rows for one life.
async fn compare<C>(store: &str, hand: &mut C, market: &Marketplace, bare: &BareSql) -> Outcome<()>
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    (i64,): for<'r> sqlx::FromRow<'r, <C::Database as sqlx::Database>::Row>,
    <C::Database as sqlx::Database>::Arguments: IntoArguments<C::Database>,
{
    let before = load::written(hand).await?;
    ours::life(market.clone(), next_number()).await?;
    let between = load::written(hand).await?;
    bare.clone().life(next_number()).await?;
    let after = load::written(hand).await?;
    let grown = |before: &[(&'static str, i64)], after: &[(&'static str, i64)]| -> Vec<(&'static str, i64)> {
        before.iter().zip(after).map(|((name, before), (_, after))| (*name, after - before)).collect()
    };
    let (ours, bare) = (grown(&before, &between), grown(&between, &after));
    if ours != bare {
        return Err(format!("on {store} a life of ours writes {ours:?}, a bare one {bare:?}").into());
    }
    let rows: serde_json::Map<String, serde_json::Value> =
        ours.into_iter().map(|(name, count)| (name.into(), count.into())).collect();
    note(&serde_json::json!({ "note": "rows of one life, ours and bare alike", "store": store, "rows": rows }));
    Ok(())
}
