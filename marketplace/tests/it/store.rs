//! Stores: the conformance kit on each, and what only a database can do.

use std::sync::Arc;

use async_trait::async_trait;
use tradepost::{
    store::{MemoryStore, SqliteStore, Store, StoreError},
    testkit::store::{Database, run},
};

/// How many cases the kit has.
const CASES: usize = 41;

struct Memory(MemoryStore);

#[async_trait]
impl Database for Memory {
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(self.0.clone()))
    }
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    let report = run(&Memory(MemoryStore::new())).await.unwrap();
    report.assert_kept();
    assert_eq!(report.ran(), CASES);
}

struct Sqlite(tempfile::TempDir);

#[async_trait]
impl Database for Sqlite {
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(SqliteStore::open(self.0.path().join("market.db")).await?))
    }
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let report = run(&Sqlite(tempfile::tempdir().unwrap())).await.unwrap();
    report.assert_kept();
    assert_eq!(report.ran(), CASES);
}
