//! Jobs from proposal to money in the wallet: engine, rail, contract and token together.

use std::sync::Arc;

use alloy_primitives::U256;
use alloy_sol_types::SolCall;
use tradepost::{
    job::{HoldState, JobEvent, JobStatus},
    money::Rate,
    policy::{CancellationTerms, FeeRate, Policy, Review, Span},
    store::EventBody,
};
use tradepost_evm::{Activation, Answer, Sent};

use crate::stage::{self, BASE_SEPOLIA_USDC, Market, Stage, key};

fn policy(fee: &str) -> Policy {
    let mut policy = Policy::paegents().unwrap();
    policy.fees.rate = FeeRate::Flat(fee.parse().unwrap());
    policy
}

/// PG-04, PG-05, PG-10: the platform relays what the parties sign, on a chain that is Base Sepolia to them.
#[tokio::test]
async fn pg_10_a_job_is_paid_by_signatures_alone() {
    let m = Market::open(Stage::on(84_532, Some(BASE_SEPOLIA_USDC)).await, policy("0.0333")).await;
    let job = m.agree(10_000_007).await;
    let waiting = m.rail.activation(job.into()).await.unwrap();
    assert!(matches!(waiting, Some(Activation::AwaitingSignature { .. })), "{waiting:?}");
    m.sign(job).await;
    let sent = m.rail.activation(job.into()).await.unwrap();
    assert!(matches!(sent, Some(Activation::Submitting { sent: Some(Sent::UnderWay { .. }) })), "{sent:?}");
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    assert!(matches!(m.rail.activation(job.into()).await.unwrap(), Some(Activation::Confirmed { .. })));
    assert_eq!(m.stage.balance(m.stage.config.escrow).await, 10_000_007);
    m.agrees().await;
    m.deliver(job).await;
    m.market.agent(m.buyer).approve(job).await.unwrap();
    m.sign(job).await;
    let done = m.until(job, |job| job.hold.state == HoldState::Settled).await;
    assert_eq!(done.status, JobStatus::Completed);
    let fee = u128::try_from(done.terms.fee.minor()).unwrap();
    assert_eq!(m.stage.balance(m.wallet(m.worker)).await, 10_000_007 - fee, "to the unit");
    assert_eq!(m.stage.balance(m.wallet(m.buyer)).await, 89_999_993);
    m.rail.collect_fees().await.unwrap().unwrap();
    m.stage.mine(1).await;
    assert_eq!(m.stage.balance(m.rail.relayer()).await, fee);
    assert!(m.rail.collect_fees().await.unwrap().is_none());
    m.agrees().await;
}

/// PG-10: the same by the parties' own transactions; the relayer sends nothing.
#[tokio::test]
async fn pg_10_a_job_is_paid_by_the_parties_own_transactions() {
    let m = Market::open(Stage::new().await, policy("0")).await;
    let job = m.agree(10_000_000).await;
    let (_, _, ask) = m.asked(job).await.unwrap();
    let direct = ask.choices.iter().find_map(|choice| choice.direct.clone()).unwrap();
    let allow = stage::approveCall { spender: m.stage.config.escrow, amount: U256::from(10_000_000) };
    m.stage.send(direct.from, m.stage.config.token, allow.abi_encode()).await;
    m.stage.send(direct.from, direct.to, direct.data.to_vec()).await;
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    m.deliver(job).await;
    m.market.agent(m.buyer).approve(job).await.unwrap();
    let (who, _, ask) = m.asked(job).await.unwrap();
    assert_eq!(who, m.buyer);
    let direct = ask.choices[0].direct.clone().unwrap();
    m.stage.send(direct.from, direct.to, direct.data.to_vec()).await;
    m.until(job, |job| job.hold.state == HoldState::Settled).await;
    assert_eq!(m.stage.balance(m.wallet(m.worker)).await, 10_000_000);
    m.agrees().await;
    assert_eq!(m.stage.sent_by(m.rail.relayer()).await, 0);
}

/// PG-17: the payer needs nobody to leave, and a platform that comes back finds out.
#[tokio::test]
async fn pg_17_the_payer_leaves_with_the_platform_gone() {
    let m = Market::open(Stage::new().await, policy("0.025")).await;
    let job = m.agree(10_000_000).await;
    let (_, _, ask) = m.asked(job).await.unwrap();
    let terms = ask.choices[0].terms.clone();
    m.sign(job).await;
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    m.stage.pass(u64::from(m.stage.config.hold_lives.as_seconds()) + 700).await;
    m.stage.withdraw_alone(&terms).await;
    assert_eq!(m.stage.balance(m.wallet(m.buyer)).await, 100_000_000);
    let ended = m.until(job, |job| job.status.is_final()).await;
    assert_eq!((ended.status, ended.hold.state), (JobStatus::Cancelled, HoldState::Settled));
    m.agrees().await;
}

/// PG-17: an arbiter that the payer named divides what the parties do not.
#[tokio::test]
async fn pg_17_an_arbiters_split() {
    let mut policy = policy("0.025");
    let terms = CancellationTerms { to_worker: rate("0.2"), to_platform: rate("0.05") };
    policy.jobs.cancellation.insert(JobStatus::Accepted, terms);
    policy.jobs.review = Review::Buyer { release_after: Span::hours(24) };
    let with = |rail: tradepost_evm::EvmRail| rail.with_arbiter(Arc::new(key("the arbiter")));
    let m = Market::open_with(Stage::new().await, policy, with).await;
    let job = m.agree(10_000_000).await;
    m.sign(job).await;
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    m.market.agent(m.buyer).cancel(job, "changed my mind about it").await.unwrap();
    assert!(m.asked(job).await.is_some(), "the parties are asked first");
    m.stage.pass(700).await;
    let instruction = m.asked(job).await.unwrap().1;
    m.market.operator("Olga").look_again(instruction, "nobody signs").await.unwrap();
    m.until(job, |job| job.hold.state == HoldState::Settled).await;
    let state = m.rail.escrow(job.into()).await.unwrap();
    assert_eq!((state.state.as_str(), state.earned.minor()), ("finalized", 2_500_000));
    assert_eq!((state.claimable.minor(), state.withdrawable.minor()), (2_500_000, 7_500_000));
    m.agrees().await;
}

/// PG-17: the parties agree without us; what they did is what the books say.
#[tokio::test]
async fn pg_17_the_parties_divide_a_hold_by_themselves() {
    let m = Market::open(Stage::new().await, policy("0")).await;
    let job = m.agree(10_000_000).await;
    m.sign(job).await;
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    for (act, who) in [
        (tradepost_evm::Act::Release { cumulative: 4_000_000 }, m.buyer),
        (tradepost_evm::Act::Waive, m.worker),
        (tradepost_evm::Act::Withdraw, m.buyer),
    ] {
        m.stage.enrich(m.wallet(who)).await;
        let options = m.rail.options(job.into(), act).await.unwrap();
        let call = options.call.unwrap();
        assert_eq!((options.direct, call.from), (tradepost_evm::Way::Possible, m.wallet(who)));
        m.stage.send(call.from, call.to, call.data.to_vec()).await;
    }
    let ended = m.until(job, |job| job.status.is_final()).await;
    assert_eq!(ended.status, JobStatus::Completed);
    let told = m.market.job_history(job).await.unwrap();
    let outside =
        |event: &EventBody| matches!(event, EventBody::Job(JobEvent::SettledOutside { legs, .. }) if legs.len() == 2);
    assert!(told.iter().any(|logged| outside(&logged.event.body)), "{told:?}");
    m.agrees().await;
}

/// PG-04: who will not sign is not paid for; the next attempt stands on its own.
#[tokio::test]
async fn pg_04_a_payer_who_will_not_sign_declines() {
    let m = Market::open(Stage::new().await, policy("0")).await;
    let job = m.agree(10_000_000).await;
    let (who, instruction, _) = m.asked(job).await.unwrap();
    m.answer(who, instruction, &Answer::Refused { reason: "too dear".into() }).await;
    assert_eq!(m.market.job(job).await.unwrap().hold.state, HoldState::Empty);
    m.market.agent(m.buyer).retry_payment(job).await.unwrap();
    m.sign(job).await;
    m.until(job, |job| job.status == JobStatus::Accepted).await;
    m.agrees().await;
}

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}
