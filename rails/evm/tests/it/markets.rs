//! Whole marketplaces under faults, each from a seed: engine, ledger, rail and chain together. Whatever reorgs, lost
//! answers, dropped transactions and restarts do meanwhile, in the end every contract is over, and the ledger is the
//! chain to the unit.
//!
//! `EVM_MARKETS=100 cargo test --release -p tradepost-evm --test it seeded_markets` plays as many (4).

use std::sync::Arc;

use alloy_primitives::{B256, U256};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tradepost::{
    agreement::{AgreementStatus, SettlementStatus},
    clock::ManualClock,
    ids::{AgreementId, HoldId, JobId},
    job::{Delivery, HoldState, JobStatus},
    ledger::{Account, RevenueKind},
    policy::{FeeRate, Policy, Span},
};
use tradepost_evm::{Act, EvmError, Role};

use crate::{
    faults::seeds,
    stage::{Automine, Fault, Market, Stage, key},
};

const DEPTH: u64 = 64;
/// A job whose fee is no whole rate.
const PRICE: i64 = 3_000_007;
const UNIT: i64 = 50_000;
const MINTED: u128 = 100_000_000;
/// Six hours: a challenge window is over after a few rounds.
const ROUND: u64 = 21_600;

struct Play {
    m: Market,
    clock: Arc<ManualClock>,
    job: JobId,
    agreement: AgreementId,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeded_markets_keep_a_ledger_that_is_the_chain() {
    let (mut ran, mut paid) = (0u64, 0u128);
    for seed in seeds(&std::env::var("EVM_MARKETS").unwrap_or_else(|_| "4".into())) {
        paid += play(seed).await;
        ran += 1;
    }
    println!("{ran} markets, {paid} minor units paid to workers");
    assert!(ran > 0 && paid > 0);
}

async fn play(seed: u64) -> u128 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut p = Play::new(rng.random_bool(0.3)).await;
    for _ in 0..60 {
        match rng.random_range(0..20) {
            0 => p.m.restart().await,
            1 => p.m.stage.wire.plan("eth_sendRawTransaction", Fault::Lost),
            2 => p.m.stage.wire.plan("eth_sendRawTransaction", Fault::Unanswered),
            3 => {
                let method =
                    ["eth_getLogs", "eth_getBlockByNumber", "eth_call", "eth_estimateGas"][rng.random_range(0..4)];
                p.m.stage.wire.plan(method, if rng.random_bool(0.5) { Fault::Lost } else { Fault::Unanswered });
                p.m.market.work().await.unwrap();
                p.m.stage.wire.calm();
            }
            4 => p.m.stage.reorg(rng.random_range(1..=DEPTH)).await,
            5 => p.m.stage.automine(Automine::Off).await,
            6 => p.m.stage.automine(Automine::On).await,
            7 => p.m.stage.drop_all().await,
            8 => drop(p.m.stage.submit(p.m.rail.relayer(), p.m.rail.relayer(), Vec::new()).await),
            9 | 10 => p.m.stage.mine(rng.random_range(1..=DEPTH)).await,
            11..15 => drop(p.m.market.work().await.unwrap()),
            15..18 => p.job_goes_on().await,
            _ => p.agreement_goes_on().await,
        }
        p.tell_the_time().await;
    }
    p.m.stage.wire.calm();
    p.m.stage.automine(Automine::On).await;
    for _ in 0..40 {
        p.m.market.work().await.unwrap();
        if p.is_over().await {
            break;
        }
        // Asked again, signed, and what follows from that, within the time to sign.
        for _ in 0..3 {
            p.job_goes_on().await;
            p.agreement_goes_on().await;
        }
        p.m.stage.pass(ROUND).await;
        p.tell_the_time().await;
    }
    p.check(seed).await
}

impl Play {
    async fn new(signs_soon: bool) -> Self {
        let mut stage = Stage::new().await;
        stage.config.confirmations = DEPTH;
        stage.config.signing_window = Span::seconds(if signs_soon { 200 } else { 3_000 });
        let mut policy = Policy::paegents().unwrap();
        policy.fees.rate = FeeRate::Flat("0.02".parse().unwrap());
        let now = chrono::DateTime::from_timestamp(stage.time().await, 0).unwrap();
        let clock = Arc::new(ManualClock::at(now));
        let m = Market::open_at(stage, policy, clock.clone(), |rail| rail).await;
        m.stage.mine(DEPTH + 6).await;
        let (job, agreement) = (m.agree(PRICE).await, m.agree_on_units(100).await);
        Self { m, clock, job, agreement }
    }

    /// The engine's clock is the chain's.
    async fn tell_the_time(&self) {
        let chain = chrono::DateTime::from_timestamp(self.m.stage.time().await, 0).unwrap();
        self.clock.advance(chain - tradepost::clock::Clock::now(&*self.clock));
    }

    /// Whoever is asked signs. What it is refused for now, it is asked for again.
    async fn sign(&self, hold: impl Into<HoldId>) {
        let Some((who, instruction, ask)) = self.m.asked(hold).await else { return };
        let answer = ask.sign(&ask.choices[0].name, &self.m.keys[&who]).unwrap();
        drop(self.m.market.agent(who).answer(instruction, answer.to_text()).await);
    }

    async fn job_goes_on(&self) {
        let (market, id) = (&self.m.market, self.job);
        let job = market.job(id).await.unwrap();
        match (job.status, job.hold.state) {
            (JobStatus::PendingPayment, HoldState::Empty) => {
                drop(market.agent(self.m.buyer).retry_payment(id).await);
            }
            (JobStatus::Accepted | JobStatus::InProgress, HoldState::Held) => {
                let output = json!({ "text": "Good day" }).as_object().unwrap().clone();
                let delivery = Delivery { content_type: None, output };
                drop(market.agent(self.m.worker).deliver(id, delivery).await);
            }
            (JobStatus::Delivered, HoldState::Held) => drop(market.agent(self.m.buyer).approve(id).await),
            _ => self.sign(id).await,
        }
    }

    async fn agreement_goes_on(&self) {
        let id = self.agreement;
        let agreement = self.m.market.agreement(id).await.unwrap();
        if agreement.status == AgreementStatus::Accepted {
            match agreement.hold.state {
                HoldState::Empty => drop(self.m.market.agent(self.m.buyer).activate_agreement(id).await),
                _ => self.sign(id).await,
            }
            return;
        }
        let Ok(stands) = self.m.rail.escrow(id.into()).await else { return };
        let earned = stands.earned.minor() / UNIT;
        let (claims, withdraws) = (stands.claimable.is_positive(), stands.withdrawable.is_positive());
        let (act, who) = match stands.state.as_str() {
            "open" if earned < 10 => (receipt(10), "the meter"),
            "open" => (Act::Close { by: Role::Seller }, "the worker"),
            "closing" if earned < 30 => (receipt(30), "the meter"),
            "finalized" if claims => (Act::Claim, "the worker"),
            "finalized" if withdraws => (Act::Withdraw, "the buyer"),
            _ => return,
        };
        // What the contract does not take now is tried again.
        drop(self.relay(act, who).await);
    }

    async fn relay(&self, act: Act, who: &str) -> Result<(), EvmError> {
        let hold = self.agreement.into();
        let options = self.m.rail.options(hold, act).await?;
        let signature = options.sign.sign(&key(who)).unwrap();
        self.m.rail.relay(hold, act, options.nonce, options.deadline, signature).await.map(drop)
    }

    async fn is_over(&self) -> bool {
        let (job, agreement) =
            (self.m.market.job(self.job).await.unwrap(), self.m.market.agreement(self.agreement).await.unwrap());
        job.hold.state == HoldState::Settled && agreement.settlement == Some(SettlementStatus::Settled)
    }

    /// What was paid to the worker.
    async fn check(&self, seed: u64) -> u128 {
        let m = &self.m;
        let (job, agreement) =
            (m.market.job(self.job).await.unwrap(), m.market.agreement(self.agreement).await.unwrap());
        let what = format!("seed {seed}: job {}, agreement {}", job.status, agreement.status);
        assert!(self.is_over().await, "{what}: no end: {job:#?} {agreement:#?}");
        m.agrees().await;
        let (buyer, worker) = (m.stage.balance(m.wallet(m.buyer)).await, m.stage.balance(m.wallet(m.worker)).await);
        let (contract, fees) = (m.stage.balance(m.stage.config.escrow).await, m.stage.fees_owed().await);
        assert_eq!((contract, buyer + worker + fees), (fees, MINTED), "{what}: nothing is left and nothing is lost");
        assert_eq!(job.status, JobStatus::Completed, "{what}");
        let arrived = agreement.arrived.unwrap();
        let of_job = u128::try_from(PRICE - job.terms.fee.minor()).unwrap();
        assert_eq!(worker, of_job + u128::try_from(arrived.seller.minor()).unwrap(), "{what}");
        let booked = m.market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap().minor();
        assert_eq!(u128::try_from(booked).unwrap(), fees, "{what}: fees");
        worker
    }
}

fn receipt(units: u64) -> Act {
    Act::SubmitReceipt { units, proof: B256::from(U256::from(units)) }
}
