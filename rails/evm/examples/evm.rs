//! Jobs paid through the escrow contract: by signatures that the platform relays, by the parties' own
//! transactions, and a payer who leaves with the platform gone.
//!
//! ```sh
//! cargo run -p tradepost-evm --example evm
//! ```
//!
//! It runs on anvil, which it starts itself (`tests/run evm` installs it; or set `ANVIL`).
#![allow(clippy::unwrap_used, unreachable_pub, reason = "an example shows the way; the stage is a test's")]

#[allow(missing_docs, reason = "the tests use all of it")]
#[path = "../tests/stage/mod.rs"]
mod stage;

use alloy_primitives::{U256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use tradepost::{
    ids::JobId,
    job::{HoldState, JobStatus},
    policy::{FeeRate, Policy},
};

use stage::{BASE_SEPOLIA_USDC, Market, Stage};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // To the parties and their wallets this chain is Base Sepolia, with USDC where Circle put it.
    let mut policy = Policy::paegents().unwrap();
    policy.fees.rate = FeeRate::Flat("0.025".parse().unwrap());
    let m = Market::open(Stage::on(84_532, Some(BASE_SEPOLIA_USDC)).await, policy).await;

    let job = m.agree(10_000_000).await;
    m.sign(job).await; // the buyer signs the token's own message; the platform sends it and pays for the gas
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    tell(&m, "sponsored: funded", job).await;
    m.deliver(job).await;
    m.market.agent(m.buyer).approve(job).await.unwrap();
    m.sign(job).await; // the buyer signs the release
    m.until(job, |job| job.hold.state == HoldState::Settled).await;
    tell(&m, "sponsored: paid", job).await;

    let job = m.agree(10_000_000).await;
    let (_, _, ask) = m.asked(job).await.unwrap();
    let call = ask.choices.iter().find_map(|choice| choice.direct.clone()).unwrap();
    let allow = stage::approveCall { spender: call.to, amount: U256::from(10_000_000) };
    m.stage.send(call.from, m.stage.config.token, allow.abi_encode()).await;
    m.stage.send(call.from, call.to, call.data.to_vec()).await;
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    m.deliver(job).await;
    m.market.agent(m.buyer).approve(job).await.unwrap();
    let (_, _, ask) = m.asked(job).await.unwrap();
    let call = ask.choices[0].direct.clone().expect("this fee is a whole rate, so one transaction does it");
    m.stage.send(call.from, call.to, call.data.to_vec()).await;
    m.until(job, |job| job.hold.state == HoldState::Settled).await;
    tell(&m, "direct: paid", job).await;

    let job = m.agree(10_000_000).await;
    let terms = m.asked(job).await.unwrap().2.choices[0].terms.clone();
    m.sign(job).await;
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    // The platform is gone. A month later the buyer takes its money with nothing but what it was shown.
    m.stage.pass(u64::from(m.stage.config.hold_lives.as_seconds()) + 700).await;
    let verb = "withdrawRest((address,uint40,uint32,address,uint16,address,uint64,uint120,uint120,address,address,\
                address,uint96,bytes32))";
    let call = [&keccak256(verb)[..4], &terms.abi_encode()].concat();
    m.stage.send(m.wallet(m.buyer), m.stage.config.escrow, call).await;
    tell(&m, "alone: withdrawn", job).await;
    m.until(job, |job| job.status.is_final()).await;
    tell(&m, "alone: the platform is back and knows", job).await;

    m.rail.collect_fees().await.unwrap();
    m.agrees().await;
    println!("fees {}, books and chain agree", m.stage.balance(m.rail.relayer()).await);
}

async fn tell(m: &Market, what: &str, job: JobId) {
    let status = m.market.job(job).await.unwrap().status;
    let (buyer, worker) = (m.stage.balance(m.wallet(m.buyer)).await, m.stage.balance(m.wallet(m.worker)).await);
    println!("{what}: job {status}, buyer {buyer}, worker {worker}");
}
