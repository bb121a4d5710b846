//! Some seeded worlds on every store; `tests/parts/world` plays thousands.

use std::sync::Arc;

use tradepost::{
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::world::{Hanging, Report, Setup, Telling, play},
};

async fn sound(seed: u64, steps: u64, store: Arc<dyn Store>, hanging: Hanging) -> Report {
    match play(Setup { seed, steps, telling: Telling::Silent, hanging }, store).await {
        Ok(report) => report,
        Err(failure) => panic!("{failure}"),
    }
}

/// Time is paused, so that what hangs is given up without anybody waiting.
#[tokio::test(start_paused = true)]
async fn worlds_in_memory_are_sound() {
    let mut all = Report::default();
    for seed in 0..40 {
        all = all.plus(sound(seed, 300, Arc::new(MemoryStore::new()), Hanging::ForEver).await);
    }
    // Worlds without crashes, faults or second comers would prove nothing.
    assert!(all.crashes > 0 && all.rail_faults > 0 && all.store_faults > 0 && all.conflicts > 0, "{all:?}");
    assert!(all.refused > 0 && all.refused < all.commands, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_world() {
    for seed in 0..12 {
        let first = sound(seed, 300, Arc::new(MemoryStore::new()), Hanging::ForEver).await;
        let second = sound(seed, 300, Arc::new(MemoryStore::new()), Hanging::ForEver).await;
        assert_eq!(first, second, "seed {seed}");
    }
}

#[tokio::test]
async fn worlds_on_sqlite_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("worlds.db")).await.unwrap();
    for seed in 0..3 {
        let report = sound(seed, 100, Arc::new(store.clone()), Hanging::Nobody).await;
        assert!(report.commands > report.refused, "{report:?}");
    }
}

#[tokio::test]
async fn worlds_on_postgres_are_sound() {
    let store = PostgresStore::connect(&crate::store::SERVER.database().unwrap()).await.unwrap();
    for seed in 0..3 {
        let report = sound(seed, 100, Arc::new(store.clone()), Hanging::Nobody).await;
        assert!(report.commands > report.refused, "{report:?}");
    }
}
