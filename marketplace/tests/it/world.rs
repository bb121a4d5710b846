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
    assert!(all.refused > 0 && all.refused < all.commands && all.webhooks > 0, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_world() {
    for seed in 0..12 {
        let first = sound(seed, 300, Arc::new(MemoryStore::new()), Hanging::ForEver).await;
        let second = sound(seed, 300, Arc::new(MemoryStore::new()), Hanging::ForEver).await;
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Some worlds, in the last of which webhooks are sent.
const SEEDS: [u64; 4] = [0, 1, 2, 5];

async fn worlds_are_sound_on(store: impl Store + Clone) {
    let mut all = Report::default();
    for seed in SEEDS {
        all = all.plus(sound(seed, 100, Arc::new(store.clone()), Hanging::Briefly).await);
    }
    assert!(all.commands > all.refused && all.webhooks > 0, "{all:?}");
}

#[tokio::test]
async fn worlds_on_sqlite_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    worlds_are_sound_on(SqliteStore::open(folder.path().join("worlds.db")).await.unwrap()).await;
}

#[tokio::test]
async fn worlds_on_postgres_are_sound() {
    // Whoever reads the log sees nothing of what came after a transaction that is open anywhere on the server.
    let _turn = crate::notice::TURN.lock().await;
    worlds_are_sound_on(PostgresStore::connect(&crate::notice::SERVER.database().unwrap()).await.unwrap()).await;
}
