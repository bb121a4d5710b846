//! Stores: the conformance kit on each, and what only a database can do.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};
use tradepost::{
    store::{MemoryStore, PostgresStore, SqliteStore, Store, StoreError},
    testkit::{
        postgres::PostgresServer,
        store::{Database, Inside, run},
    },
};

mod behind;
mod postgres;
mod sqlite;

/// How many cases the kit has.
const CASES: usize = 51;

/// One server for this test binary; every test has a database of its own.
pub(crate) static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| match PostgresServer::start() {
    Ok(server) => server,
    Err(error) => panic!("{error}"),
});

struct Memory(MemoryStore);

#[async_trait]
impl Database for Memory {
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn within(&self, inside: Inside) -> Result<(), StoreError> {
        inside(&self.0).await;
        Ok(())
    }
}

struct Sqlite(tempfile::TempDir);

#[async_trait]
impl Database for Sqlite {
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(SqliteStore::open(self.0.path().join("market.db")).await?))
    }

    async fn within(&self, inside: Inside) -> Result<(), StoreError> {
        let transaction = SqliteStore::open(self.0.path().join("market.db")).await?.begin().await?;
        inside(&transaction).await;
        transaction.end().await
    }
}

struct Postgres(String);

#[async_trait]
impl Database for Postgres {
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(PostgresStore::connect(&self.0).await?))
    }

    async fn within(&self, inside: Inside) -> Result<(), StoreError> {
        let mut own = self.0.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
        let mut transaction = own.begin().await.unwrap();
        inside(&PostgresStore::within(&mut transaction)).await;
        transaction.commit().await.unwrap();
        Ok(())
    }
}

async fn keeps_the_contract(database: impl Database) {
    let report = run(&database).await.unwrap();
    report.assert_kept();
    assert_eq!(report.ran(), CASES);
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    keeps_the_contract(Memory(MemoryStore::new())).await;
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    keeps_the_contract(Sqlite(tempfile::tempdir().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_contract() {
    keeps_the_contract(Postgres(SERVER.database().unwrap())).await;
}
