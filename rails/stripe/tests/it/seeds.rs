//! Seeded fault runs: the engine, the rail and the double over HTTP, with trouble by chance.
//!
//! A lane is a thread with a double, a rail and a runtime of its own, so that what a seed does depends on
//! nothing but its number, and no two threads wake each other for every request.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rust_decimal::Decimal;
use tradepost::{
    adjustment::Booking,
    dispute::Award,
    error::Error,
    ids::{DisputeId, JobId},
    job::{Delivery, JobStatus},
    ledger::Account,
    money::Rate,
};
use tradepost_stripe::{Directory, HoldMode, StripeRail};
use uuid::Uuid;

use crate::{
    conformance::{AUTHORISE, push},
    double::{Chaos, Double},
    endings::filing,
    life::{BUYER, Desk, RAIL, WORKER, eur, int, settle_everything},
    people::{People, WEBHOOK_SECRETS, rail},
};

/// What Stripe sends at least, in cents.
const LEAST: i64 = 50;
/// How many failing seeds end a run: there is enough to look at.
const ENOUGH: usize = 20;

/// Many seeds, each with a few jobs, trouble with every request, webhooks twice and in any order, workers whose
/// accounts come, go and are emptied, chargebacks, rulings, reversals, refunds after payout and wallets paid out.
/// `STRIPE_SEEDS=20000` runs more, `STRIPE_FROM=5000` begins later; `STRIPE_SEED=7` runs one.
#[test]
fn no_seed_loses_or_repeats_a_cent() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let one = number("STRIPE_SEED");
    let (from, count) = (number("STRIPE_FROM").unwrap_or(0), number("STRIPE_SEEDS").unwrap_or(300));
    let (from, until) = one.map_or((from, from + count), |seed| (seed, seed + 1));
    let run = Run { next: AtomicU64::new(from), until, failed: Mutex::default() };
    let lanes = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| run.lane());
        }
    });
    let failed = run.failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} seeds failed: {failed:#?}", failed.len());
    let sound = until.min(run.next.into_inner()) - from;
    println!("{sound} seeds from {from} on are sound");
    assert_eq!(sound, until - from);
}

/// Seeds that are run, and which failed why.
struct Run {
    next: AtomicU64,
    until: u64,
    failed: Mutex<BTreeMap<u64, String>>,
}

impl Run {
    fn lane(&self) {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut at_work = runtime();
        let mut lane = at_work.block_on(Lane::new());
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.until || self.failed.lock().unwrap().len() >= ENOUGH {
                return;
            }
            let ran = panic::catch_unwind(AssertUnwindSafe(|| at_work.block_on(lane.run(seed))));
            if let Err(why) = ran {
                println!("seed {seed} failed");
                self.failed.lock().unwrap().insert(seed, said(&*why));
                // What it left behind is not touched again.
                at_work = runtime();
                lane = at_work.block_on(Lane::new());
            }
            if (seed + 1).is_multiple_of(500) {
                println!("seed {seed} has run");
            }
        }
    }
}

/// What a panic said.
fn said(why: &(dyn Any + Send)) -> String {
    let text = why.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| why.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned()
}

struct Lane {
    double: Double,
    people: People,
    rails: [StripeRail; 2],
}

impl Lane {
    async fn new() -> Self {
        let (double, people) = (Double::start().await, People::default());
        let rails = [HoldMode::Charge, AUTHORISE].map(|hold| rail(&double, &people, hold));
        Self { double, people, rails }
    }

    async fn run(&self, seed: u64) {
        self.double.reset();
        self.people.clear();
        run_seed(seed, &self.double, &self.people, self.rails[usize::from(seed % 4 == 3)].clone()).await;
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
        act(&mut dice, &desk, job).await;
        happen(&mut dice, &desk, account.is_some()).await;
    }
    double.chaos(seed, None);
    desk.market.run_until_idle().await.unwrap();
    end_everything(seed, &mut dice, &desk, people, &jobs).await;
    assert_eq!(desk.market.balance(Account::Contested(RAIL), None).await.unwrap(), eur(0), "seed {seed}");
    let waits = desk.market.available(WORKER).await.unwrap();
    assert!(waits.minor() < LEAST, "seed {seed}: the account is ready, and {waits} wait for it");
    audit(seed, &desk);
    desk.agrees(&format!("seed {seed}")).await;
}

/// Somebody does something. What a rule refuses at this moment is refused; only the money matters here.
async fn act(dice: &mut StdRng, desk: &Desk, job: JobId) {
    let (buyer, worker) = (|| desk.market.agent(BUYER), || desk.market.agent(WORKER));
    let operator = || desk.market.operator("Ada");
    let _ = match dice.random_range(0..13) {
        0 => buyer().cancel(job, "changed my mind").await.map(drop),
        1 => buyer().retry_payment(job).await.map(drop),
        2 | 3 => worker().accept(job).await.map(drop),
        4 => worker().start(job).await.map(drop),
        5 | 6 => worker().deliver(job, Delivery::default()).await.map(drop),
        7 => buyer().approve(job).await.map(drop),
        8 => worker().withdraw(job, "cannot do it").await.map(drop),
        9 => {
            let amount = dice.random_bool(0.5).then(|| eur(dice.random_range(1..10_000)));
            operator().refund_paid(job, amount, "it never worked").await.map(drop)
        }
        10 => {
            let opened = buyer().open_dispute(job, filing()).await;
            match &opened {
                Ok(opened) if dice.random_bool(0.5) => rule(dice, desk, opened.id).await,
                _ => opened.map(drop),
            }
        }
        11 => worker().pay_out(WORKER).await.map(drop),
        _ => Ok(()),
    };
}

/// A person divides what is disputed about.
async fn rule(dice: &mut StdRng, desk: &Desk, dispute: DisputeId) -> Result<(), Error> {
    let award = match dice.random_range(0..4) {
        0 => Award::Buyer,
        1 => Award::Worker,
        _ => Award::Split { to_worker: Rate::new(Decimal::new(dice.random_range(1..100), 2)).unwrap() },
    };
    // When the time to answer is over, people have it already.
    let _ = desk.market.operator("Ada").escalate(dispute, "a person looks at it").await;
    desk.market.operator("Ada").rule(dispute, award, "as it seems right").await.map(drop)
}

/// Every bank and every person decides in the end, the worker is onboarded, and the platform puts money of its
/// own into its balance for what banks have charged it.
async fn end_everything(seed: u64, dice: &mut StdRng, desk: &Desk, people: &People, jobs: &[JobId]) {
    let float = {
        let world = &mut desk.double.lock().world;
        let open = world.disputes.iter().filter(|d| d["status"] == "needs_response");
        let open: Vec<String> = open.map(|d| d["charge"].as_str().unwrap().to_owned()).collect();
        for charge in open {
            world.decide(&charge, dice.random_bool(0.5));
        }
        if let Some(account) = world.accounts.first().map(|account| account["id"].as_str().unwrap().to_owned()) {
            world.onboard(&account);
        }
        let before = world.total();
        world.top_up(200_000);
        eur(world.total() - before)
    };
    if people.known(WORKER).await.unwrap().account.is_none() {
        people.worker(&desk.double, WORKER.0);
    }
    let put_in = Booking { debit: Account::Rail(RAIL), credit: Account::Treasury(RAIL), amount: float };
    desk.market.operator("Ada").adjust(vec![put_in], "a float").await.unwrap();
    settle_everything(seed, desk).await;
    for job in jobs {
        let job = desk.market.job(*job).await.unwrap();
        if job.status == JobStatus::Disputed {
            rule(dice, desk, job.dispute.as_ref().unwrap().id).await.unwrap();
        }
    }
    settle_everything(seed, desk).await;
    // Now and then the accounts are looked at for which something waits.
    desk.double.lock().world.pass(600);
    settle_everything(seed, desk).await;
}

/// Something happens outside.
async fn happen(dice: &mut StdRng, desk: &Desk, has_account: bool) {
    match dice.random_range(0..10) {
        8 => {
            let world = &mut desk.double.lock().world;
            let taken: Vec<String> = (world.charges.iter().filter(|c| c["captured"] == true))
                .map(|c| c["id"].as_str().unwrap().to_owned())
                .collect();
            if !taken.is_empty() {
                let charge = &taken[dice.random_range(0..taken.len())];
                if !world.decide(charge, dice.random_bool(0.5)) {
                    world.dispute(charge);
                }
            }
        }
        9 if has_account => {
            let world = &mut desk.double.lock().world;
            let id = world.accounts[0]["id"].as_str().unwrap().to_owned();
            world.empty(&id);
        }
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
                ([&*world.events, &*world.account_events].concat(), world.now)
            };
            for _ in 0..events.len().min(4) {
                let event = &events[dice.random_range(0..events.len())];
                // Stripe sends again what was answered with an error.
                let _ = desk.market.receive(RAIL, &push(event, now, WEBHOOK_SECRETS[1])).await;
            }
        }
        _ => {
            desk.market.work().await.unwrap();
        }
    }
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
        // What was taken back from a worker may go back to the payer.
        let back: i64 = (world.transfers.iter().filter(|t| t["source_transaction"] == charge["id"]))
            .map(|t| int(&t["amount_reversed"]))
            .sum();
        let returned = (world.refunds.iter()).filter(|r| r["charge"] == charge["id"]);
        let from_platform: i64 =
            returned.filter(|r| r["metadata"]["tradepost_leg"].is_null()).map(|r| int(&r["amount"])).sum();
        let most = int(&charge["amount_captured"]) + back + from_platform;
        assert!(out <= most, "seed {seed}: {out} left {charge}");
        assert!(of(&world.refunds, "charge") <= int(&charge["amount_captured"]), "seed {seed}: {charge}");
    }
    for moved in world.reversals.iter() {
        *effects.entry(text(&moved["metadata"]["tradepost_instruction"])).or_default() += 1;
    }
    for moved in world.transfers.iter().chain(&world.refunds) {
        let marks = &moved["metadata"];
        if marks["tradepost_leg"].is_null() {
            *effects.entry(text(&marks["tradepost_instruction"])).or_default() += 1;
            continue;
        }
        let id: Uuid = text(&marks["tradepost_instruction"]).parse().unwrap();
        // The same name as the mark of a share that is kept: only one of the two may be.
        *effects.entry(format!("held_{}_{}", text(&marks["tradepost_leg"]), id.simple())).or_default() += 1;
    }
    for (effect, times) in effects {
        assert_eq!(times, 1, "seed {seed}: {effect} happened {times} times");
    }
}
