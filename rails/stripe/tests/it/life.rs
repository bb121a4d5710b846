//! Whole lives of jobs: the engine, the rail, and the double over HTTP.

use std::sync::Arc;

use tradepost::{
    bid::BidOrder,
    engine::{Marketplace, MarketplaceBuilder, Unsettled},
    ids::{AgentId, JobId, RailId},
    job::{Delivery, Job, JobEvent, JobOrder, JobStatus, PayoutStatus},
    ledger::Account,
    money::{Currency, Money},
    policy::Policy,
    store::{EventBody, InstructionState, MemoryStore},
};
use tradepost_stripe::{HoldMode, ReturnTo, StripeRail};
use uuid::Uuid;

use crate::{
    conformance::{AUTHORISE, push},
    double::{Double, Trouble},
    people::{CountedIds, DoubleClock, People, WEBHOOK_SECRETS, rail},
};

pub fn int(value: &serde_json::Value) -> i64 {
    value.as_i64().unwrap()
}

pub const RAIL: RailId = RailId::new("stripe");
pub const BUYER: AgentId = AgentId(Uuid::from_u128(0xB));
pub const WORKER: AgentId = AgentId(Uuid::from_u128(0xA));

pub fn eur(cents: i64) -> Money {
    Money::new(cents, Currency::EUR)
}

pub struct Desk {
    pub double: Double,
    pub market: Marketplace,
}

impl Desk {
    pub async fn new(hold: HoldMode) -> Self {
        let double = Double::start().await;
        let people = People::default();
        let rail = rail(&double, &people, hold);
        people.buyer(&double, BUYER.0);
        people.worker(&double, WORKER.0);
        Self::over(double, rail).await
    }

    pub async fn over(double: Double, rail: StripeRail) -> Self {
        Self::with(double, rail, |builder| builder).await
    }

    /// One whose marketplace has something besides.
    pub async fn with(
        double: Double,
        rail: StripeRail,
        besides: impl FnOnce(MarketplaceBuilder) -> MarketplaceBuilder,
    ) -> Self {
        let builder = Marketplace::builder("stripe", MemoryStore::new(), Policy::voxpact().unwrap())
            .rail(rail)
            .clock(Arc::new(DoubleClock(double.clone())))
            .ids(Arc::new(CountedIds::default()));
        Self { double, market: besides(builder).build().await.unwrap() }
    }

    pub async fn post(&self, cents: i64) -> Arc<Job> {
        let order = JobOrder { worker: Some(WORKER), ..JobOrder::new("Translate a page", eur(cents)) };
        self.market.agent(BUYER).post_job(order).await.unwrap()
    }

    /// Takes a funded job on to a status on the way to delivery.
    pub async fn bring(&self, job: JobId, to: JobStatus) -> Arc<Job> {
        bring(&self.market, job, to).await
    }

    /// A job that is approved and paid.
    pub async fn paid(&self, cents: i64) -> JobId {
        let job = self.post(cents).await.id;
        self.bring(job, JobStatus::Delivered).await;
        self.market.agent(BUYER).approve(job).await.unwrap();
        job
    }

    /// Requests that had an effect.
    pub fn effects(&self) -> Vec<String> {
        let state = self.double.lock();
        let posts = state.requests.iter().filter(|(method, ..)| *method == hyper::Method::POST);
        posts.map(|(_, path, _)| path.trim_start_matches("/v1/").to_owned()).collect()
    }

    /// The books and Stripe agree to the cent, and nothing waits.
    pub async fn agrees(&self, context: &str) {
        let found = self.market.reconcile(RAIL).await.unwrap();
        assert!(found.differences.is_empty() && found.in_flight.is_empty(), "{context}: {found:?}");
        let at_stripe = {
            let world = &self.double.lock().world;
            // What is reserved in another currency says what it is worth.
            let reserved = |i: &serde_json::Value| match i["metadata"]["tradepost_worth"].as_str() {
                Some(worth) if int(&i["amount_capturable"]) > 0 => worth.parse().unwrap(),
                _ => int(&i["amount_capturable"]),
            };
            world.total() + world.intents.iter().map(reserved).sum::<i64>()
        };
        assert_eq!(found.held.minor(), at_stripe, "{context}");
        assert!(self.market.verify().await.unwrap().is_empty(), "{context}");
    }

    pub async fn events(&self, job: JobId) -> Vec<String> {
        let logged = self.market.job_history(job).await.unwrap();
        let name = |body: &EventBody| match body {
            EventBody::Job(event) => Some(event.name().to_owned()),
            _ => None,
        };
        logged.iter().filter_map(|logged| name(&logged.event.body)).collect()
    }
}

/// Takes a funded job on to a status on the way to delivery.
pub async fn bring(market: &Marketplace, job: JobId, to: JobStatus) -> Arc<Job> {
    let worker = || market.agent(WORKER);
    loop {
        let now = market.job(job).await.unwrap();
        match now.status {
            status if status == to => return now,
            JobStatus::Funded => worker().accept(job).await.unwrap(),
            JobStatus::Accepted => worker().start(job).await.unwrap(),
            JobStatus::InProgress => worker().deliver(job, Delivery::default()).await.unwrap(),
            status => panic!("{status:?} does not lead to {to:?}"),
        };
    }
}

/// VP-12, VP-19, VP-21, VP-43: two requests move the money of a whole job, and they are all that is sent.
#[tokio::test]
async fn vp_19_a_job_is_charged_and_transferred_in_two_requests() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.double.lock().requests.clear();
    let job = desk.post(10_000).await;
    assert_eq!(job.status, JobStatus::Funded);
    desk.bring(job.id, JobStatus::Delivered).await;
    let job = desk.market.agent(BUYER).approve(job.id).await.unwrap();
    assert_eq!(job.status, JobStatus::Completed);
    assert_eq!(desk.double.lock().requests.len(), 2, "charge and transfer; the fee came with the charge");
    assert_eq!(desk.effects(), ["payment_intents", "transfers"]);
    let transfer = desk.double.lock().world.transfers[0].clone();
    assert_eq!(int(&transfer["amount"]), 9_000, "VP-21: 10 % of a silver worker's amount are the platform's");
    assert_eq!(desk.market.balance(Account::Cost(RAIL), None).await.unwrap(), eur(-175));
    desk.agrees("approved").await;
}

/// VP-13, VP-25: an open job takes nothing until a bid is accepted, and then the bid's price.
#[tokio::test]
async fn vp_13_an_open_job_is_charged_when_a_bid_is_accepted_at_its_price() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.double.lock().requests.clear();
    let job = desk.market.agent(BUYER).post_job(JobOrder::new("Translate a page", eur(10_000))).await.unwrap().id;
    let offer = BidOrder { price: Some(eur(8_000)), message: "by noon".into(), ..BidOrder::default() };
    let bid = desk.market.agent(WORKER).place_bid(job, offer).await.unwrap().id;
    assert!(desk.double.lock().requests.is_empty(), "nothing was taken or asked");
    let job = desk.market.agent(BUYER).accept_bid(bid, eur(8_000)).await.unwrap();
    assert_eq!(job.status, JobStatus::Accepted);
    assert_eq!(int(&desk.double.lock().world.charges[0]["amount_captured"]), 8_000);
    desk.bring(job.id, JobStatus::Delivered).await;
    desk.market.agent(BUYER).approve(job.id).await.unwrap();
    assert_eq!(int(&desk.double.lock().world.transfers[0]["amount"]), 7_200);
    assert_eq!(desk.effects(), ["payment_intents", "transfers"]);
    desk.agrees("paid at the bid's price").await;
}

/// VP-43: a transfer that fails after approval is retried, and `job.completed` says so; nothing is paid twice.
#[tokio::test]
async fn vp_43_a_transfer_that_fails_is_retried_and_the_job_says_so() {
    for trouble in [Trouble::LostBefore, Trouble::LostAfter, Trouble::Busy, Trouble::Broken, Trouble::BrokenAfter] {
        let desk = Desk::new(HoldMode::Charge).await;
        let job = desk.post(10_000).await.id;
        desk.bring(job, JobStatus::Delivered).await;
        desk.double.arrange(trouble);
        let done = desk.market.agent(BUYER).approve(job).await.unwrap();
        assert_eq!(done.status, JobStatus::Completed, "{trouble:?}");
        let waiting = desk.market.unsettled().await.unwrap();
        assert_eq!(waiting.len(), 1, "{trouble:?}: an operator sees what waits");
        settle_everything(0, &desk).await;
        let transferred: Vec<i64> = desk.double.lock().world.transfers.iter().map(|t| int(&t["amount"])).collect();
        assert_eq!(transferred, [9_000], "{trouble:?}");
        assert!(desk.events(job).await.contains(&"payment.received".to_owned()), "{trouble:?}");
        desk.agrees(&format!("{trouble:?}")).await;
    }
    // What Stripe will not divide, because somebody gave the payer everything back in the dashboard, is said so.
    let desk = Desk::new(HoldMode::Charge).await;
    let job = desk.post(10_000).await.id;
    desk.bring(job, JobStatus::Delivered).await;
    desk.double.arrange(Trouble::RefundedOutside);
    desk.market.agent(BUYER).approve(job).await.unwrap();
    let history = desk.market.job_history(job).await.unwrap();
    let retrying = history.iter().find_map(|logged| match &logged.event.body {
        EventBody::Job(JobEvent::PaymentRetrying { decline, payout_status, .. }) => {
            Some((&*decline.code, *payout_status))
        }
        _ => None,
    });
    assert_eq!(retrying, Some(("hold_gone", PayoutStatus::PendingRetry)));
}

/// VP-43: a declined card leaves the job unpaid with `payment.failed` and Stripe's decline code; another
/// attempt pays it.
#[tokio::test]
async fn vp_43_a_declined_card_leaves_the_job_unpaid() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.double.arrange(Trouble::Declined);
    let job = desk.post(10_000).await;
    assert_eq!(job.status, JobStatus::PendingPayment);
    let history = desk.market.job_history(job.id).await.unwrap();
    let declined = history.iter().find_map(|logged| match &logged.event.body {
        EventBody::Job(JobEvent::PaymentFailed { decline, .. }) => Some(decline.code.clone()),
        _ => None,
    });
    assert_eq!(declined.as_deref(), Some("insufficient_funds"));
    assert_eq!(desk.double.lock().world.intents[0]["status"], "canceled", "nobody can complete it later");
    let job = desk.market.agent(BUYER).retry_payment(job.id).await.unwrap();
    assert_eq!(job.status, JobStatus::Funded);
    desk.agrees("paid at the second attempt").await;
}

/// VP-34: a charge that needs its cardholder waits with the client secret and goes on when Stripe says so.
#[tokio::test]
async fn vp_34_a_challenge_is_answered_at_stripe() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.double.arrange(Trouble::NeedsAction);
    let job = desk.post(10_000).await;
    assert_eq!(job.status, JobStatus::PendingPayment);
    let instruction = desk.market.instructions(job.id).await.unwrap()[0].clone();
    let InstructionState::NeedsAction(action) = &instruction.state else { panic!("{:?}", instruction.state) };
    assert_eq!(action.kind, tradepost_stripe::CONFIRM_CARD);
    assert!(!format!("{instruction:?}").contains("_secret_"), "a client secret is in no log");
    let (event, now) = {
        let world = &mut desk.double.lock().world;
        world.confirm(&action.payload);
        (world.events.last().unwrap().clone(), world.now)
    };
    for _ in 0..2 {
        desk.market.receive(RAIL, &push(&event, now, WEBHOOK_SECRETS[0])).await.unwrap();
    }
    settle_everything(0, &desk).await;
    assert_eq!(desk.market.job(job.id).await.unwrap().status, JobStatus::Funded);
    desk.agrees("confirmed").await;
}

/// A payer who never confirms is declined in the end, and can not confirm any more.
#[tokio::test]
async fn vp_43_a_challenge_that_nobody_answers_is_called_off() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.double.arrange(Trouble::NeedsAction);
    let job = desk.post(10_000).await;
    desk.double.lock().world.pass(25 * 3600);
    settle_everything(0, &desk).await;
    assert!(desk.events(job.id).await.contains(&"payment.failed".to_owned()));
    assert_eq!(desk.double.lock().world.intents[0]["status"], "canceled");
    desk.agrees("called off").await;
}

/// VP-35, VP-43: a worker without an account that is ready keeps the money in the wallet, whether there is
/// no account, it was closed, or onboarding is not finished.
#[tokio::test]
async fn vp_35_a_worker_without_a_ready_account_keeps_the_money_in_the_wallet() {
    for account in ["none", "closed", "begun"] {
        let double = Double::start().await;
        let people = People::default();
        let rail = rail(&double, &people, HoldMode::Charge);
        people.buyer(&double, BUYER.0);
        match account {
            "closed" => {
                people.worker(&double, WORKER.0);
                let world = &mut double.lock().world;
                let id = world.accounts[0]["id"].as_str().unwrap().to_owned();
                world.close(&id);
            }
            "begun" => {
                let to = || "https://example.com".to_owned();
                rail.connect().onboard(WORKER, ReturnTo { done: to(), again: to() }).await.unwrap();
            }
            _ => {}
        }
        let desk = Desk::over(double, rail).await;
        let job = desk.post(10_000).await;
        desk.bring(job.id, JobStatus::Delivered).await;
        desk.market.agent(BUYER).approve(job.id).await.unwrap();
        assert_eq!(desk.market.available(WORKER).await.unwrap(), eur(9_000));
        assert!(desk.double.lock().world.transfers.is_empty());
        desk.agrees(&format!("kept for the worker: {account}")).await;
    }
}

/// VP-39: an authorisation that dies ends the job with `job.expired`, and nothing was taken.
#[tokio::test]
async fn vp_39_an_authorisation_that_dies_ends_the_job() {
    let desk = Desk::new(AUTHORISE).await;
    let job = desk.post(10_000).await;
    {
        let world = &mut desk.double.lock().world;
        let id = world.intents[0]["id"].as_str().unwrap().to_owned();
        world.expire(&id);
    }
    desk.market.run_until_idle().await.unwrap();
    assert!(desk.events(job.id).await.contains(&"job.expired".to_owned()), "{:?}", desk.events(job.id).await);
    assert_eq!(desk.double.lock().world.total(), 0);
    desk.agrees("expired").await;
}

/// Stripe's fee comes later than its answer: the payment is pending until it is known.
#[tokio::test]
async fn a_fee_that_comes_late_is_booked() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.double.arrange(Trouble::FeeLater);
    let job = desk.post(10_000).await;
    assert_eq!(job.status, JobStatus::PendingPayment);
    settle_everything(0, &desk).await;
    assert_eq!(desk.market.job(job.id).await.unwrap().status, JobStatus::Funded);
    desk.agrees("the fee came").await;
}

/// Keys that Stripe forgot after a day cost nothing: the rail looks before it repeats.
#[tokio::test]
async fn keys_that_were_pruned_charge_nobody_twice() {
    for trouble in [Trouble::LostAfter, Trouble::BrokenAfter, Trouble::Garbled] {
        let desk = Desk::new(HoldMode::Charge).await;
        desk.double.arrange(trouble);
        desk.post(10_000).await;
        desk.double.lock().world.pass(3 * 86_400);
        settle_everything(0, &desk).await;
        assert_eq!(desk.double.lock().world.charges.len(), 1, "{trouble:?}");
        desk.agrees("pruned").await;
    }
}

/// A saved 500 is not replayed for ever: when nothing was moved, the next key is used.
#[tokio::test]
async fn a_saved_failure_is_left_behind_when_it_moved_nothing() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.double.arrange(Trouble::Broken);
    let job = desk.post(10_000).await;
    assert_eq!(job.status, JobStatus::PendingPayment);
    settle_everything(0, &desk).await;
    assert_eq!(desk.market.job(job.id).await.unwrap().status, JobStatus::Funded);
    assert_eq!(desk.double.lock().world.charges.len(), 1);
    desk.agrees("the second key").await;
}

/// Lets everything come to its end.
pub async fn settle_everything(seed: u64, desk: &Desk) {
    for round in 0..300 {
        desk.market.run_until_idle().await.unwrap();
        if desk.market.unsettled().await.unwrap().is_empty() {
            return;
        }
        desk.double.lock().world.pass(if round < 10 { 10 } else { 1800 });
    }
    let open = desk.market.unsettled().await.unwrap();
    let why: Vec<String> = open.iter().map(Unsettled::why).collect();
    panic!("seed {seed}: still unsettled: {why:?}: {open:#?}");
}
