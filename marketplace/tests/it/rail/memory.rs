//! What a rail remembers: compare and set, apart from other rails.

use std::sync::Arc;

use futures::future::join_all;
use tradepost::{
    ids::RailId,
    rail::{RailMemory, StoreMemory, VolatileMemory},
    store::{MemoryStore, Store},
};

#[tokio::test]
async fn a_memory_compares_before_it_sets() {
    let store = MemoryStore::default();
    let market = store.open_market("memory").await.unwrap();
    let of = |rail| StoreMemory::new(Arc::new(store.clone()), market, RailId::new(rail));
    let memories: [Arc<dyn RailMemory>; 2] = [Arc::new(VolatileMemory::default()), Arc::new(of("a"))];
    for memory in memories {
        assert_eq!(memory.get("key").await.unwrap(), None);
        assert!(!memory.swap("key", Some("old"), "new").await.unwrap());
        assert!(memory.swap("key", None, "one").await.unwrap());
        assert!(!memory.swap("key", None, "other").await.unwrap());
        assert_eq!(memory.get("key").await.unwrap().as_deref(), Some("one"));
        let values: Vec<String> = (0..8).map(|i| format!("two {i}")).collect();
        let raced = join_all(values.iter().map(|value| memory.swap("key", Some("one"), value))).await;
        assert_eq!(raced.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
        assert!(memory.get("key").await.unwrap().unwrap().starts_with("two "));
        assert_eq!(memory.get("other key").await.unwrap(), None);
    }
    assert_eq!(of("b").get("key").await.unwrap(), None, "another rail's notes are its own");
}
