//! What a rail remembers across restarts.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::{
    ids::{MarketId, RailId},
    store::{Store, StoreError},
};

/// A rail's own durable notes: what it has signed, which addresses it gave out.
///
/// # The contract
///
/// 1. **Durable.** When [`swap`](Self::swap) answers true, the value survives the machine.
/// 2. **Compare and set.** Of two swaps from the same value one wins, also between processes.
/// 3. **An error of a swap says nothing** about whether it was written: read it back.
///
/// Rails that share a memory keep apart by their keys; [`StoreMemory`] sees to it.
#[async_trait]
pub trait RailMemory: Send + Sync + 'static {
    /// The value of a key; `None` before the first swap.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError>;

    /// Sets a key if its value is `from`; whether it was.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn swap(&self, key: &str, from: Option<&str>, to: &str) -> Result<bool, StoreError>;
}

#[async_trait]
impl<M: RailMemory + ?Sized> RailMemory for Arc<M> {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        (**self).get(key).await
    }

    async fn swap(&self, key: &str, from: Option<&str>, to: &str) -> Result<bool, StoreError> {
        (**self).swap(key, from, to).await
    }
}

/// Notes kept in a marketplace's own store, among the cursors of its readers.
pub struct StoreMemory {
    store: Arc<dyn Store>,
    market: MarketId,
    rail: RailId,
}

impl StoreMemory {
    /// The memory of one rail in one market of a store (see [`Store::open_market`]).
    pub fn new(store: Arc<dyn Store>, market: MarketId, rail: RailId) -> Self {
        Self { store, market, rail }
    }

    fn reader(&self, key: &str) -> String {
        format!("rail-memory/{}/{key}", self.rail)
    }
}

#[async_trait]
impl RailMemory for StoreMemory {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.store.cursor(self.market, &self.reader(key)).await
    }

    async fn swap(&self, key: &str, from: Option<&str>, to: &str) -> Result<bool, StoreError> {
        self.store.move_cursor(self.market, &self.reader(key), from, to).await
    }
}

/// Notes that die with the process: for tests and simulation, never for money.
#[derive(Debug, Default)]
pub struct VolatileMemory(Mutex<BTreeMap<String, String>>);

#[async_trait]
impl RailMemory for VolatileMemory {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.0.lock().await.get(key).cloned())
    }

    async fn swap(&self, key: &str, from: Option<&str>, to: &str) -> Result<bool, StoreError> {
        let mut notes = self.0.lock().await;
        let stands = notes.get(key).map(String::as_str) == from;
        if stands {
            notes.insert(key.into(), to.into());
        }
        Ok(stands)
    }
}
