//! Jobs and metered agreements paid through the escrow contract: by signatures that the platform relays, by the
//! parties' own transactions, by an arbiter's split, and a payer who leaves with the platform gone.
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

use std::sync::Arc;

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall;
use tradepost::{
    agreement::{AgreementStatus, SettlementStatus},
    ids::{AgreementId, JobId},
    job::{HoldState, JobStatus},
    money::Money,
    policy::{FeeRate, Policy},
};
use tradepost_evm::{Act, Role};

use stage::{BASE_SEPOLIA_USDC, By, Market, Stage, key};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // To the parties and their wallets this chain is Base Sepolia, with USDC where Circle put it.
    let mut policy = Policy::paegents().unwrap();
    policy.fees.rate = FeeRate::Flat("0.025".parse().unwrap());
    let stage = Stage::on(84_532, Some(BASE_SEPOLIA_USDC)).await;
    let m = Market::open_with(stage, policy, |rail| rail.with_arbiter(Arc::new(key("the arbiter")))).await;

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

    // An agreement on 100 calls at 0.05 dollars: a receipt, a close, a later receipt in the challenge window, a claim
    // and a withdrawal. First the platform relays what the parties sign, then they send it all by themselves.
    for by in [By::Signature, By::OwnTransaction] {
        let id = active(&m).await;
        m.act(id, receipt(10), "the meter", by).await.unwrap();
        m.act(id, Act::Close { by: Role::Seller }, "the worker", by).await.unwrap();
        m.act(id, receipt(30), "the meter", by).await.unwrap(); // supersedes
        m.stage.pass(24 * 3600).await;
        m.act(id, Act::Claim, "the worker", by).await.unwrap();
        m.act(id, Act::Withdraw, "the buyer", by).await.unwrap();
        m.until_agreement(id, |one| one.settlement == Some(SettlementStatus::Settled)).await;
        tell_agreement(&m, "metered: claimed and withdrawn", id).await;
    }

    // A dispute: the arbiter whom the buyer named divides the deposit.
    let id = active(&m).await;
    m.act(id, receipt(50), "the meter", By::Signature).await.unwrap();
    m.until_agreement(id, |one| one.receipt.is_some()).await;
    m.market.agent(m.buyer).dispute_agreement(id, "half of the calls failed").await.unwrap();
    let earned = Money::new(1_250_000, m.market.currency());
    m.market.operator("Olga").rule_agreement(id, earned, "the log says so").await.unwrap();
    m.stage.pass(700).await; // the parties do not sign what the ruling says
    let instruction = m.asked(id).await.unwrap().1;
    m.market.operator("Olga").look_again(instruction, "nobody signs").await.unwrap();
    m.until_agreement(id, |one| one.hold.state == HoldState::Settled).await;
    m.act(id, Act::Claim, "the worker", By::Signature).await.unwrap();
    m.act(id, Act::Withdraw, "the buyer", By::Signature).await.unwrap();
    tell_agreement(&m, "metered: an arbiter's split", id).await;

    let job = m.agree(10_000_000).await;
    let terms = m.asked(job).await.unwrap().2.choices[0].terms.clone();
    m.sign(job).await;
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    // The platform is gone. A month later the buyer takes its money with nothing but what it was shown.
    m.stage.pass(u64::from(m.stage.config.hold_lives.as_seconds()) + 700).await;
    m.stage.withdraw_alone(&terms).await;
    tell(&m, "alone: withdrawn", job).await;
    m.until(job, |job| job.status.is_final()).await;
    tell(&m, "alone: the platform is back and knows", job).await;

    m.rail.collect_fees().await.unwrap();
    m.stage.mine(1).await;
    m.agrees().await;
    println!("fees {}, books and chain agree", m.stage.balance(m.rail.relayer()).await);
}

async fn active(m: &Market) -> AgreementId {
    let id = m.agree_on_units(100).await;
    m.sign(id).await;
    m.until_agreement(id, |agreement| agreement.status == AgreementStatus::Active).await;
    id
}

fn receipt(units: u64) -> Act {
    Act::SubmitReceipt { units, proof: B256::with_last_byte(1) }
}

async fn tell_agreement(m: &Market, what: &str, id: AgreementId) {
    let status = m.market.agreement(id).await.unwrap().status;
    let (buyer, worker) = (m.stage.balance(m.wallet(m.buyer)).await, m.stage.balance(m.wallet(m.worker)).await);
    println!("{what}: agreement {status}, buyer {buyer}, worker {worker}");
}

async fn tell(m: &Market, what: &str, job: JobId) {
    let status = m.market.job(job).await.unwrap().status;
    let (buyer, worker) = (m.stage.balance(m.wallet(m.buyer)).await, m.stage.balance(m.wallet(m.worker)).await);
    println!("{what}: job {status}, buyer {buyer}, worker {worker}");
}
