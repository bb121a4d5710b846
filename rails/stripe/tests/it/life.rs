//! Whole lives of jobs: the engine, the rail, and the double over HTTP.

use std::{collections::HashMap, sync::Arc};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Map;
use tradepost::{
    engine::{Marketplace, Unsettled},
    ids::{AgentId, JobId, RailId},
    job::{Delivery, Job, JobEvent, JobOrder, JobStatus},
    ledger::Account,
    money::{Currency, Money},
    policy::Policy,
    store::{EventBody, InstructionState, MemoryStore},
};
use tradepost_stripe::{HoldMode, StripeRail};
use uuid::Uuid;

use crate::{
    conformance::{AUTHORISE, push},
    double::{Chaos, Double, Trouble},
    people::{CountedIds, DoubleClock, People, WEBHOOK_SECRETS, rail},
};

fn int(value: &serde_json::Value) -> i64 {
    value.as_i64().unwrap()
}

const RAIL: RailId = RailId::new("stripe");
const BUYER: AgentId = AgentId(Uuid::from_u128(0xB));
const WORKER: AgentId = AgentId(Uuid::from_u128(0xA));

fn eur(cents: i64) -> Money {
    Money::new(cents, Currency::EUR)
}

struct Desk {
    double: Double,
    market: Marketplace,
}

impl Desk {
    async fn new(hold: HoldMode) -> Self {
        let double = Double::start().await;
        let people = People::default();
        let rail = rail(&double, &people, hold);
        people.buyer(&double, BUYER.0);
        people.worker(&double, WORKER.0);
        Self::over(double, rail).await
    }

    async fn over(double: Double, rail: StripeRail) -> Self {
        let market = Marketplace::builder("stripe", MemoryStore::new(), Policy::voxpact().unwrap())
            .rail(rail)
            .clock(Arc::new(DoubleClock(double.clone())))
            .ids(Arc::new(CountedIds::default()))
            .build()
            .await
            .unwrap();
        Self { double, market }
    }

    async fn post(&self, cents: i64) -> Arc<Job> {
        let order = JobOrder {
            title: "Translate a page".into(),
            task: Map::new(),
            amount: eur(cents),
            worker: Some(WORKER),
            rail: None,
            deadline: None,
            validation: None,
            open: None,
        };
        self.market.agent(BUYER).post_job(order).await.unwrap()
    }

    /// Takes a funded job on to a status on the way to delivery.
    async fn bring(&self, job: JobId, to: JobStatus) -> Arc<Job> {
        let worker = || self.market.agent(WORKER);
        loop {
            let now = self.market.job(job).await.unwrap();
            match now.status {
                status if status == to => return now,
                JobStatus::Funded => worker().accept(job).await.unwrap(),
                JobStatus::Accepted => worker().start(job).await.unwrap(),
                JobStatus::InProgress => worker().deliver(job, Delivery::default()).await.unwrap(),
                status => panic!("{status:?} does not lead to {to:?}"),
            };
        }
    }

    /// Requests that had an effect.
    fn effects(&self) -> Vec<String> {
        let state = self.double.lock();
        let posts = state.requests.iter().filter(|(method, ..)| *method == hyper::Method::POST);
        posts.map(|(_, path, _)| path.trim_start_matches("/v1/").to_owned()).collect()
    }

    /// The books and Stripe agree to the cent, and nothing waits.
    async fn agrees(&self, context: &str) {
        let found = self.market.reconcile(RAIL).await.unwrap();
        assert!(found.differences.is_empty() && found.in_flight.is_empty(), "{context}: {found:?}");
        let at_stripe = {
            let world = &self.double.lock().world;
            world.total() + world.intents.iter().map(|i| int(&i["amount_capturable"])).sum::<i64>()
        };
        assert_eq!(found.held.minor(), at_stripe, "{context}");
        assert!(self.market.verify().await.unwrap().is_empty(), "{context}");
    }

    async fn events(&self, job: JobId) -> Vec<String> {
        let logged = self.market.job_history(job).await.unwrap();
        let name = |body: &EventBody| match body {
            EventBody::Job(event) => Some(event.name().to_owned()),
            _ => None,
        };
        logged.iter().filter_map(|logged| name(&logged.event.body)).collect()
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

/// VP-23: a cancel at each status divides the charge as the policy says.
#[tokio::test]
async fn vp_23_a_cancel_at_each_status_goes_back_to_the_card() {
    for hold in [HoldMode::Charge, AUTHORISE] {
        let statuses =
            [(JobStatus::Funded, 10_000, 0), (JobStatus::Accepted, 9_500, 0), (JobStatus::InProgress, 7_500, 2_500)];
        for (status, back, to_worker) in statuses {
            let desk = Desk::new(hold).await;
            let job = desk.post(10_000).await;
            desk.bring(job.id, status).await;
            desk.market.agent(BUYER).cancel(job.id, "no longer needed").await.unwrap();
            desk.market.run_until_idle().await.unwrap();
            let context = format!("{hold:?}, cancelled when {status:?}");
            {
                let world = &desk.double.lock().world;
                let taken: i64 = world.charges.iter().map(|c| int(&c["amount_captured"])).sum();
                let refunded: i64 = world.refunds.iter().map(|r| int(&r["amount"])).sum();
                assert_eq!(taken - refunded, 10_000 - back, "{context}");
                let transferred: i64 = world.transfers.iter().map(|t| int(&t["amount"])).sum();
                assert_eq!(transferred, to_worker, "{context}");
            }
            desk.agrees(&context).await;
        }
    }
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
    for account in [None, Some("closed")] {
        let double = Double::start().await;
        let people = People::default();
        let rail = rail(&double, &people, HoldMode::Charge);
        people.buyer(&double, BUYER.0);
        if account.is_some() {
            people.worker(&double, WORKER.0);
            let world = &mut double.lock().world;
            let id = world.accounts[0]["id"].as_str().unwrap().to_owned();
            world.close(&id);
        }
        let desk = Desk::over(double, rail).await;
        let job = desk.post(10_000).await;
        desk.bring(job.id, JobStatus::Delivered).await;
        desk.market.agent(BUYER).approve(job.id).await.unwrap();
        assert_eq!(desk.market.available(WORKER).await.unwrap(), eur(9_000));
        assert!(desk.double.lock().world.transfers.is_empty());
        desk.agrees("kept for the worker").await;
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

/// Many seeds, each with a few jobs, trouble with every request, webhooks twice and in any order, and
/// workers whose accounts come and go. `STRIPE_SEEDS=20000` runs more; `STRIPE_SEED=7` runs one.
#[tokio::test]
async fn no_seed_loses_or_repeats_a_cent() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let one = number("STRIPE_SEED");
    let seeds = one.map_or(0..number("STRIPE_SEEDS").unwrap_or(300), |seed| seed..seed + 1);
    let double = Double::start().await;
    let people = People::default();
    let rails = [HoldMode::Charge, AUTHORISE].map(|hold| rail(&double, &people, hold));
    for seed in seeds {
        double.reset();
        let rail = rails[usize::from(seed % 4 == 3)].clone();
        people.clear();
        run_seed(seed, &double, &people, rail).await;
        if (seed + 1) % 1000 == 0 {
            println!("{} seeds", seed + 1);
        }
    }
}

async fn run_seed(seed: u64, double: &Double, people: &People, rail: StripeRail) {
    let mut dice = StdRng::seed_from_u64(seed);
    people.buyer(double, BUYER.0);
    let account = dice.random_bool(0.8).then(|| people.worker(double, WORKER.0));
    let desk = Desk::over(double.clone(), rail).await;
    double.chaos(seed, Some(Chaos { effects: dice.random_range(0..50), reads: dice.random_range(0..20) }));
    let mut jobs = Vec::new();
    for _ in 0..dice.random_range(1..4) {
        jobs.push(desk.post(dice.random_range(500..50_000)).await.id);
    }
    for _ in 0..dice.random_range(5..25) {
        let job = jobs[dice.random_range(0..jobs.len())];
        let (buyer, worker) = (|| desk.market.agent(BUYER), || desk.market.agent(WORKER));
        // What a rule refuses at this moment is refused; only the money matters here.
        let _ = match dice.random_range(0..9) {
            0 => buyer().cancel(job, "changed my mind").await,
            1 => buyer().retry_payment(job).await,
            2 | 3 => worker().accept(job).await,
            4 => worker().start(job).await,
            5 => worker().deliver(job, Delivery::default()).await,
            6 => buyer().approve(job).await,
            7 => worker().withdraw(job, "cannot do it").await,
            _ => desk.market.job(job).await,
        };
        happen(&mut dice, &desk, account.is_some()).await;
    }
    double.chaos(seed, None);
    settle_everything(seed, &desk).await;
    audit(seed, &desk);
    desk.agrees(&format!("seed {seed}")).await;
}

/// Something happens outside.
async fn happen(dice: &mut StdRng, desk: &Desk, has_account: bool) {
    match dice.random_range(0..8) {
        0 => desk.double.lock().world.pass(dice.random_range(1..30)),
        1 => desk.double.lock().world.pass(dice.random_range(600..90_000)),
        2 => {
            let world = &mut desk.double.lock().world;
            let waits = world.intents.iter().find(|i| i["status"] == "requires_payment_method");
            if let Some(secret) = waits.map(|i| i["client_secret"].as_str().unwrap().to_owned()) {
                world.confirm(&secret);
            }
        }
        3 if has_account => {
            let world = &mut desk.double.lock().world;
            let id = world.accounts[0]["id"].as_str().unwrap().to_owned();
            if dice.random_bool(0.5) { world.close(&id) } else { world.onboard(&id) }
        }
        4 | 5 => {
            let (events, now) = {
                let world = &desk.double.lock().world;
                (world.events.clone(), world.now)
            };
            for _ in 0..events.len().min(4) {
                let event = &events[dice.random_range(0..events.len())];
                desk.market.receive(RAIL, &push(event, now, WEBHOOK_SECRETS[1])).await.unwrap();
            }
        }
        _ => {
            desk.market.work().await.unwrap();
        }
    }
}

/// Lets everything come to its end.
async fn settle_everything(seed: u64, desk: &Desk) {
    for round in 0..300 {
        desk.market.run_until_idle().await.unwrap();
        if desk.market.unsettled().await.unwrap().is_empty() {
            return;
        }
        desk.double.lock().world.pass(if round < 10 { 10 } else { 1800 });
    }
    let why: Vec<String> = desk.market.unsettled().await.unwrap().iter().map(Unsettled::why).collect();
    panic!("seed {seed}: still unsettled: {why:?}");
}

/// Counts at Stripe, without the engine: no instruction took effect twice, and no hold gave more than it got.
fn audit(seed: u64, desk: &Desk) {
    let world = &desk.double.lock().world;
    let mut effects: HashMap<String, u32> = HashMap::new();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    for charge in &world.charges {
        let marks = &charge["metadata"];
        *effects.entry(text(&marks["tradepost_instruction"])).or_default() += 1;
        for (mark, _) in marks.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("held_")) {
            *effects.entry(mark.clone()).or_default() += 1;
        }
        let of = |list: &[serde_json::Value], field: &str| -> i64 {
            list.iter().filter(|o| o[field] == charge["id"]).map(|o| int(&o["amount"])).sum()
        };
        let out = of(&world.transfers, "source_transaction") + of(&world.refunds, "charge");
        assert!(out <= int(&charge["amount_captured"]), "seed {seed}: {out} left {charge}");
    }
    for moved in world.transfers.iter().chain(&world.refunds) {
        let marks = &moved["metadata"];
        let id: Uuid = text(&marks["tradepost_instruction"]).parse().unwrap();
        // The same name as the mark of a share that is kept: only one of the two may be.
        *effects.entry(format!("held_{}_{}", text(&marks["tradepost_leg"]), id.simple())).or_default() += 1;
    }
    for (effect, times) in effects {
        assert_eq!(times, 1, "seed {seed}: {effect} happened {times} times");
    }
}
