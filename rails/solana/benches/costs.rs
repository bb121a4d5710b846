//! Prints what withdrawals cost, in lamports and in compute units: `cargo bench -p tradepost-solana`.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "it shares its world with the tests")]

#[path = "../tests/it/costs.rs"]
mod costs;
#[path = "../tests/front/mod.rs"]
mod front;
#[path = "../tests/it/world.rs"]
mod world;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{}", costs::measure(&mut world::World::simulated(70).await).await);
}
