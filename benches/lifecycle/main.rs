//! spike
use std::sync::Arc;
use std::time::Instant;
use tradepost::{engine::*, ids::*, job::*, money::*, policy::*, rail::*, store::*};
#[tokio::main(flavor = "current_thread")]
#[allow(clippy::disallowed_methods)]
async fn main() {
    let policy: Policy = Policy::from_toml(include_str!("policy.toml")).unwrap();
    let store = MemoryStore::new();
    let m =
        Marketplace::builder("bench", store, policy).rail(CreditsRail::new(Currency::CREDIT)).build().await.unwrap();
    let agents: Vec<AgentId> = (0..1000u128).map(|i| AgentId(uuid::Uuid::from_u128(i + 1))).collect();
    for a in &agents {
        m.operator("bench")
            .record_deposit(CreditsRail::ID, format!("d{a}"), *a, Money::new(1_000_000_000, Currency::CREDIT))
            .await
            .unwrap();
    }
    for round in 0..3 {
        let n = 200_000usize;
        let t = Instant::now();
        for i in 0..n {
            let (b, w) = (agents[i % 1000], agents[(i * 7 + 1) % 1000]);
            if b == w {
                continue;
            }
            let order = JobOrder {
                title: "A job of the bench".into(),
                task: Default::default(),
                amount: Money::new(100, Currency::CREDIT),
                worker: Some(w),
                rail: None,
                deadline: None,
                validation: None,
            };
            let j = m.agent(b).post_job(order).await.unwrap();
            m.agent(w).accept(j.id).await.unwrap();
            m.agent(w).deliver(j.id, Delivery::default()).await.unwrap();
            m.agent(b).approve(j.id).await.unwrap();
        }
        let e = t.elapsed();
        println!("round {round}: {:.0} lives/s", n as f64 / e.as_secs_f64());
    }
    let _ = Arc::new(1);
}
