//! Every way in which a job ends, over HTTP: post, card charge, deliver, and then approval, a cancel at each
//! status, or a dispute that a person rules on.

use async_trait::async_trait;
use tradepost::{
    dispute::{Arbiter, Award, Case, DisputeStatus, Filing, Judgement, NoJudgement},
    engine::Marketplace,
    error::Rejection,
    ids::JobId,
    job::JobStatus,
    ledger::{Account, RevenueKind},
};
use tradepost_stripe::HoldMode;

use crate::{
    conformance::AUTHORISE,
    double::{Double, Trouble},
    life::{BUYER, Desk, WORKER, bring, eur, int, settle_everything},
    people::{People, rail},
};

/// What every job of these tests costs, in cents.
pub const AMOUNT: i64 = 10_000;

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// The buyer approves what was delivered.
    Approved,
    /// The buyer cancels at this status.
    Cancelled(JobStatus),
    /// The buyer disputes what was delivered, and a person rules.
    Ruled(Ruling),
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ruling {
    Buyer,
    Worker,
    /// 30 % of the work was there.
    Split,
}

/// Who has what in the end, in cents: the payer's card, the worker, the platform.
pub type Shares = [i64; 3];

/// Each ending with what a silver worker's job comes to (VP-19, VP-21, VP-23, VP-30).
pub const ENDINGS: [(End, Shares); 7] = [
    (End::Approved, [0, 9_000, 1_000]),
    (End::Cancelled(JobStatus::Funded), [10_000, 0, 0]),
    (End::Cancelled(JobStatus::Accepted), [9_500, 0, 500]),
    (End::Cancelled(JobStatus::InProgress), [7_500, 2_500, 0]),
    (End::Ruled(Ruling::Buyer), [10_000, 0, 0]),
    (End::Ruled(Ruling::Worker), [0, 9_000, 1_000]),
    (End::Ruled(Ruling::Split), [7_000, 2_700, 300]),
];

pub fn filing() -> Filing {
    Filing { category: None, reason: "It is not what was ordered.".into(), evidence: Vec::new() }
}

/// Takes a job that is paid for to its end.
pub async fn play(market: &Marketplace, job: JobId, end: End) {
    let buyer = || market.agent(BUYER);
    let ended = match end {
        End::Approved => {
            bring(market, job, JobStatus::Delivered).await;
            buyer().approve(job).await.unwrap();
            JobStatus::Completed
        }
        End::Cancelled(when) => {
            bring(market, job, when).await;
            buyer().cancel(job, "no longer needed").await.unwrap();
            JobStatus::Cancelled
        }
        End::Ruled(ruling) => {
            bring(market, job, JobStatus::Delivered).await;
            let dispute = buyer().open_dispute(job, filing()).await.unwrap().id;
            market.operator("Ada").escalate(dispute, "a person looks at it").await.unwrap();
            let (award, ended) = match ruling {
                Ruling::Buyer => (Award::Buyer, JobStatus::Refunded),
                Ruling::Worker => (Award::Worker, JobStatus::Completed),
                Ruling::Split => (Award::Split { to_worker: "0.30".parse().unwrap() }, JobStatus::Completed),
            };
            market.operator("Ada").rule(dispute, award, "as much was there").await.unwrap();
            assert_eq!(market.dispute(dispute).await.unwrap().status, DisputeStatus::Resolved);
            ended
        }
    };
    market.run_until_idle().await.unwrap();
    assert_eq!(market.job(job).await.unwrap().status, ended, "{end:?}");
}

/// What the platform has earned by a job, in cents.
pub async fn earned(market: &Marketplace) -> i64 {
    let mut sum = 0;
    for kind in [RevenueKind::Fees, RevenueKind::Cancellations] {
        sum += market.balance(Account::Revenue(kind), None).await.unwrap().minor();
    }
    sum
}

/// VP-12, VP-19, VP-23, VP-30: a job is charged, and however it ends the charge is divided as the policy says,
/// with no more requests that move money than there are shares.
#[tokio::test]
async fn vp_19_vp_23_vp_30_however_a_job_ends_the_charge_is_divided_so() {
    for hold in [HoldMode::Charge, AUTHORISE] {
        for (end, [back, to_worker, kept]) in ENDINGS {
            let context = format!("{hold:?}, {end:?}");
            let desk = Desk::new(hold).await;
            let job = desk.post(AMOUNT).await.id;
            play(&desk.market, job, end).await;
            {
                let world = &desk.double.lock().world;
                let sum = |list: &[serde_json::Value], field: &str| list.iter().map(|o| int(&o[field])).sum::<i64>();
                let taken = sum(&world.charges, "amount_captured") - sum(&world.refunds, "amount");
                assert_eq!(taken, AMOUNT - back, "{context}");
                assert_eq!(sum(&world.transfers, "amount"), to_worker, "{context}");
                let of_charge = |t: &serde_json::Value| t["source_transaction"] == world.charges[0]["id"];
                assert!(world.transfers.iter().all(of_charge), "{context}: a share is tied to its charge");
            }
            assert_eq!(earned(&desk.market).await, kept, "{context}");
            let moving = desk.effects().iter().filter(|path| !path.starts_with("charges/")).count();
            let shares = usize::from(back > 0) + usize::from(to_worker > 0);
            let most = match hold {
                HoldMode::Charge => 1 + shares,
                // The payer's share of what was only reserved comes back by itself.
                HoldMode::Authorise { .. } => 2 + usize::from(to_worker > 0),
            };
            assert_eq!(moving, most, "{context}: {:?}", desk.effects());
            desk.agrees(&context).await;
        }
    }
}

/// Somebody who judges at once, and is sure.
struct Judge;

#[async_trait]
impl Arbiter for Judge {
    async fn judge(&self, _case: &Case) -> Result<Judgement, NoJudgement> {
        let award = Award::Split { to_worker: "0.30".parse().unwrap() };
        Ok(Judgement { award, confidence: "0.95".parse().unwrap(), reasoning: "as much was there".into() })
    }
}

/// VP-31: what an automated ruling would move stays at Stripe until nobody can ask for a person any more; a
/// person who rules otherwise is followed instead.
#[tokio::test]
async fn vp_31_a_ruling_moves_nothing_at_stripe_while_it_can_be_appealed() {
    for appealed in [true, false] {
        let (double, people) = (Double::start().await, People::default());
        let rail = rail(&double, &people, HoldMode::Charge);
        people.buyer(&double, BUYER.0);
        people.worker(&double, WORKER.0);
        let desk = Desk::with(double, rail, |builder| builder.arbiter(Judge)).await;
        let job = desk.post(AMOUNT).await.id;
        desk.bring(job, JobStatus::Delivered).await;
        let dispute = desk.market.agent(BUYER).open_dispute(job, filing()).await.unwrap().id;
        desk.double.lock().world.pass(25 * 3_600); // the worker had a day to answer
        desk.market.run_until_idle().await.unwrap();
        assert_eq!(desk.market.dispute(dispute).await.unwrap().status, DisputeStatus::Ruled);
        desk.double.lock().world.pass(6 * 86_400);
        desk.market.run_until_idle().await.unwrap();
        assert_eq!(desk.effects(), ["payment_intents"], "nothing has moved");
        let expected = if appealed {
            desk.market.agent(WORKER).appeal(dispute, "all of it was there").await.unwrap();
            desk.market.operator("Ada").rule(dispute, Award::Worker, "all of it was there").await.unwrap();
            (vec![9_000], vec![])
        } else {
            desk.double.lock().world.pass(86_400);
            (vec![2_700], vec![7_000])
        };
        settle_everything(0, &desk).await;
        let (transfers, refunds) = {
            let world = &desk.double.lock().world;
            let amounts = |list: &[serde_json::Value]| list.iter().map(|o| int(&o["amount"])).collect::<Vec<_>>();
            (amounts(&world.transfers), amounts(&world.refunds))
        };
        assert_eq!((transfers, refunds), expected, "appealed: {appealed}");
        desk.agrees("ruled").await;
    }
}

/// VP-23, VP-43: a job that is not paid for is cancelled and takes nothing; what is delivered, disputed or over is
/// not cancelled.
#[tokio::test]
async fn vp_23_an_unpaid_job_is_cancelled_and_a_delivered_one_is_not() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.double.arrange(Trouble::Declined);
    let job = desk.post(AMOUNT).await;
    assert_eq!(job.status, JobStatus::PendingPayment);
    desk.market.agent(BUYER).cancel(job.id, "no longer needed").await.unwrap();
    desk.market.run_until_idle().await.unwrap();
    assert_eq!(desk.market.job(job.id).await.unwrap().status, JobStatus::Cancelled);
    assert!(desk.double.lock().world.charges.is_empty());

    let job = desk.post(AMOUNT).await.id;
    let refused = async |status: JobStatus| {
        let sent = desk.double.lock().requests.len();
        let error = desk.market.agent(BUYER).cancel(job, "no longer needed").await.unwrap_err();
        assert!(matches!(error.rejection(), Some(Rejection::WrongStatus { .. })), "{status:?}: {error}");
        assert_eq!(desk.double.lock().requests.len(), sent, "{status:?}: nothing was sent");
        assert_eq!(desk.market.job(job).await.unwrap().status, status);
    };
    desk.bring(job, JobStatus::Delivered).await;
    refused(JobStatus::Delivered).await;
    let dispute = desk.market.agent(BUYER).open_dispute(job, filing()).await.unwrap().id;
    refused(JobStatus::Disputed).await;
    desk.market.operator("Ada").escalate(dispute, "a person looks at it").await.unwrap();
    desk.market.operator("Ada").rule(dispute, Award::Worker, "it is all there").await.unwrap();
    refused(JobStatus::Completed).await;
    assert_eq!(desk.market.balance(Account::Debt(WORKER), None).await.unwrap(), eur(0));
    desk.agrees("cancelled once").await;
}
