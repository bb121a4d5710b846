use std::{sync::{Arc, atomic::{AtomicU64, Ordering}}, time::{Duration, Instant}};
use tradepost::{store::*, testkit::{postgres::PostgresServer, store::Sample}, money::*};
use uuid::Uuid;
#[allow(clippy::all, clippy::disallowed_methods)]
#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir_in(std::env::args().nth(1).unwrap_or("/tmp".into())).unwrap();
    let server = PostgresServer::start().unwrap();
    let sqlite: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path().join("m.db")).await.unwrap());
    let pg: Arc<dyn Store> = Arc::new(PostgresStore::connect(&server.database().unwrap()).await.unwrap());
    let mem: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for (name, store) in [("memory", mem), ("sqlite", sqlite), ("postgres", pg)] {
        let market = store.open_market("m").await.unwrap();
        let next = Arc::new(AtomicU64::new(1));
        for callers in [1usize, 16, 256] {
            let end = Instant::now() + Duration::from_secs(4);
            let start = Instant::now();
            let tasks: Vec<_> = (0..callers).map(|_| { let (store, next) = (store.clone(), next.clone()); tokio::spawn(async move {
                let mut n = 0u64;
                while Instant::now() < end {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let s = Sample::new(market, Uuid::from_u64_pair(i, 0), Uuid::from_u64_pair(0, i % 5000));
                    let mut c = s.fund(Money::new(100, Currency::EUR)).unwrap();
                    c.key = Some(s.key_use(&i.to_string(), 1));
                    store.commit(c).await.unwrap();
                    if std::env::var("LOAD").is_ok() { store.load(market, s.key()).await.unwrap().unwrap(); }
                    n += 1;
                }
                n
            })}).collect();
            let mut total = 0; for t in tasks { total += t.await.unwrap(); }
            println!("{name} {callers} callers: {:.0}/s", total as f64 / start.elapsed().as_secs_f64());
        }
    }
}
