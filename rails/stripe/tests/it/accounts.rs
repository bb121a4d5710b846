//! Earnings that were kept because the worker had no account that takes them: they leave when it has one, told by a
//! webhook or looked at.

use std::collections::HashSet;

use serde_json::{Value, json};
use tradepost::{
    ids::AgentId,
    job::JobStatus,
    rail::{Cursor, ObservationBody, SettlementRail},
    wallet::EarningsLine,
};
use tradepost_stripe::{ACCOUNT_EVENTS, Fact, HoldMode, ReturnTo, StripeRail};
use uuid::Uuid;

use crate::{
    conformance::{AUTHORISE, push},
    double::Double,
    life::{BUYER, Desk, RAIL, WORKER, eur, settle_everything},
    people::{People, WEBHOOK_SECRETS, rail},
    steps::Bench,
};

/// How long an account is left alone after it was looked at, in seconds.
const PAUSE: i64 = 600;

struct Town {
    desk: Desk,
    rail: StripeRail,
    people: People,
}

impl Town {
    /// One with a payer, and a worker without an account.
    async fn new(hold: HoldMode) -> Self {
        let (double, people) = (Double::start().await, People::default());
        let rail = rail(&double, &people, hold);
        people.buyer(&double, BUYER.0);
        Self { desk: Desk::over(double, rail.clone()).await, rail, people }
    }

    /// The worker begins onboarding, and the money of its jobs becomes available meanwhile.
    async fn onboarding(&self) -> String {
        let return_to = ReturnTo { done: "https://example.com/done".into(), again: "https://example.com/again".into() };
        self.rail.connect().onboard(WORKER, return_to).await.unwrap();
        self.desk.double.lock().world.pass(3 * 86_400);
        self.people.known_account(WORKER)
    }

    /// Stripe sends what happened to accounts since the `from`-th event.
    async fn webhooks(&self, from: usize) -> usize {
        let (events, now) = {
            let world = &self.desk.double.lock().world;
            (world.account_events.clone(), world.now)
        };
        for event in &events[from..] {
            assert_eq!(event["type"], ACCOUNT_EVENTS[0]);
            self.desk.market.receive(RAIL, &push(event, now, WEBHOOK_SECRETS[0])).await.unwrap();
        }
        events.len()
    }

    /// Where the worker's money is, in cents: in its wallet, and at its own account.
    async fn stands(&self) -> (i64, i64) {
        let at_account = self.rail.connect().balance(WORKER).await.unwrap();
        let waits = self.desk.market.available(WORKER).await.unwrap();
        (waits.minor(), at_account.map_or(0, |balance| balance.available.minor()))
    }

    fn transfers(&self) -> usize {
        self.desk.double.lock().world.transfers.len()
    }
}

/// How it is known that an account is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Webhook,
    Looking,
    /// The worker said before that it wants to be paid: the payout waits for the account.
    OwnWord,
}

/// VP-35, VP-36: earnings that were kept because there was no account leave when onboarding is finished, by
/// themselves; and earnings are listed by job.
#[tokio::test]
async fn vp_35_vp_36_kept_earnings_leave_when_onboarding_finishes() {
    for hold in [HoldMode::Charge, AUTHORISE] {
        for by in [By::Webhook, By::Looking, By::OwnWord] {
            let town = Town::new(hold).await;
            let job = town.desk.paid(10_000).await;
            town.desk.market.run_until_idle().await.unwrap();
            assert_eq!(town.stands().await, (9_000, 0));
            if by == By::OwnWord {
                town.desk.market.agent(WORKER).pay_out(WORKER).await.unwrap();
                let waits = town.desk.market.payouts(WORKER).await.unwrap();
                let why = waits[0].problem.clone().unwrap();
                assert!(why.contains("has no account at Stripe yet"), "{why}");
            }
            let account = town.onboarding().await;
            town.desk.market.run_until_idle().await.unwrap();
            assert_eq!(town.transfers(), 0, "{by:?}: onboarding has begun and is not finished");
            town.desk.double.lock().world.onboard(&account);
            match by {
                By::Webhook => {
                    town.webhooks(0).await;
                    assert_eq!(town.stands().await, (0, 9_000), "at once");
                    town.webhooks(0).await;
                }
                By::Looking | By::OwnWord => town.desk.double.lock().world.pass(PAUSE),
            }
            settle_everything(0, &town.desk).await;
            assert_eq!((town.stands().await, town.transfers()), ((0, 9_000), 1), "{hold:?} {by:?}");
            town.desk.agrees("paid out").await;
            let earnings = town.desk.market.earnings(WORKER, 0, 10).await.unwrap();
            let EarningsLine { job: of, gross, fee, net, .. } = earnings.jobs[0];
            assert_eq!((of, gross, fee, net), (job, eur(10_000), eur(1_000), eur(9_000)));
            assert_eq!((earnings.total_earned, earnings.total_jobs), (eur(9_000), 1));
            assert_eq!(town.desk.market.job(job).await.unwrap().status, JobStatus::Completed);
        }
    }
}

/// VP-35: webhooks about accounts come late, twice and in any order, also after the account was closed again: what is
/// paid out waits for it, and nothing is paid twice.
#[tokio::test]
async fn vp_35_what_webhooks_say_of_accounts_late_and_twice_pays_once() {
    let town = Town::new(HoldMode::Charge).await;
    town.desk.paid(10_000).await;
    let account = town.onboarding().await;
    {
        let world = &mut town.desk.double.lock().world;
        world.onboard(&account);
        world.close(&account);
        world.account_events.reverse();
    }
    for _ in 0..2 {
        town.webhooks(0).await;
    }
    assert_eq!((town.stands().await, town.transfers()), ((0, 0), 0), "it is on its way, and the account is closed");
    let waits = town.desk.market.payouts(WORKER).await.unwrap();
    let why = waits[0].problem.clone().unwrap();
    assert!(waits.len() == 1 && why.contains("cannot take transfers"), "{waits:?}");
    // What is earned meanwhile is kept, and paid when the account is back.
    town.desk.double.lock().world.pass(1);
    town.desk.paid(20_000).await;
    assert_eq!(town.stands().await, (18_000, 0));
    let so_far = town.webhooks(2).await;
    {
        let world = &mut town.desk.double.lock().world;
        world.pass(3 * 86_400);
        world.onboard(&account);
    }
    for _ in 0..2 {
        town.webhooks(so_far).await;
        settle_everything(0, &town.desk).await;
    }
    assert_eq!((town.stands().await, town.transfers()), ((0, 27_000), 2));
    town.desk.agrees("paid out").await;
}

/// VP-35: an account that the embedder has made itself says of no agent that it is its own. It is looked at.
#[tokio::test]
async fn vp_35_accounts_are_looked_at_now_and_then_and_not_at_all_when_nobody_waits() {
    let town = Town::new(HoldMode::Charge).await;
    town.desk.paid(10_000).await;
    let account = {
        let world = &mut town.desk.double.lock().world;
        let account = world.account(Uuid::nil());
        world.accounts[0]["metadata"] = json!({});
        world.account_events.clear();
        world.close(&account);
        account
    };
    town.people.learn(WORKER, Fact::Account(account.clone()));
    let looks = || {
        let state = town.desk.double.lock();
        state.requests.iter().filter(|(_, path, _)| path.starts_with("/v1/accounts/")).count()
    };
    for round in 1..=3 {
        for _ in 0..5 {
            town.desk.market.run_until_idle().await.unwrap();
        }
        assert_eq!(looks(), round, "once in ten minutes");
        town.desk.double.lock().world.pass(PAUSE);
    }
    {
        let world = &mut town.desk.double.lock().world;
        world.pass(3 * 86_400);
        world.onboard(&account);
    }
    town.webhooks(0).await; // they name nobody
    town.desk.market.run_until_idle().await.unwrap();
    assert_eq!(town.stands().await, (0, 9_000));
    let looked = looks();
    town.desk.double.lock().world.pass(PAUSE);
    town.desk.paid(10_000).await;
    town.desk.market.run_until_idle().await.unwrap();
    assert_eq!((looks(), town.transfers()), (looked, 2), "the second share went straight to the account");
    town.desk.agrees("paid out").await;
}

/// Reads the list of events on, from the beginning; how many accounts were told of as ready, and by which names.
async fn read_on(rail: &StripeRail, cursor: &mut Cursor) -> Vec<(String, AgentId)> {
    let page = rail.observe(cursor).await.unwrap();
    let again = rail.observe(cursor).await.unwrap();
    assert_eq!((&page.items, &page.next), (&again.items, &again.next), "the same cursor tells the same");
    *cursor = page.next;
    let ready = |body| if let ObservationBody::AccountReady { agent } = body { Some(agent) } else { None };
    page.items.into_iter().filter_map(|item| Some((item.id, ready(item.body)?))).collect()
}

/// However many wait, a few are looked at in one go, the cursor stays short, and an account that cannot be looked at
/// keeps nobody else from being paid.
#[tokio::test]
async fn so_many_wait_for_accounts_and_a_few_are_looked_at_in_one_go() {
    let bench = Bench::new().await;
    let worker = |number: usize| AgentId(Uuid::from_u128(0x1000 + number as u128));
    let kept = |number: usize| -> Value {
        json!({ "id": format!("ch_{number}"), "metadata": { "tradepost_kept_for": worker(number).to_string() } })
    };
    bench.people.learn(worker(0), Fact::Account("acct_gone".into()));
    {
        let world = &mut bench.double.lock().world;
        (0..50).chain(0..50).for_each(|number| world.tell("charge.updated", kept(number)));
    }
    for number in 1..50 {
        bench.people.worker(&bench.double, worker(number).0);
    }
    let (mut cursor, mut told) = (Cursor::default(), Vec::new());
    for expected in [19, 20, 10, 0] {
        let ready = read_on(&bench.rail, &mut cursor).await;
        assert_eq!(ready.len(), expected);
        told.extend(ready);
    }
    let agents: HashSet<AgentId> = told.iter().map(|(_, agent)| *agent).collect();
    let names: HashSet<&String> = told.iter().map(|(name, _)| name).collect();
    assert_eq!((agents.len(), names.len()), (49, 49), "each once");
    assert!(cursor.0.contains(&worker(0).to_string()), "{cursor:?}");
    {
        let world = &mut bench.double.lock().world;
        (100..1_300).for_each(|number| world.tell("charge.updated", kept(number)));
    }
    for _ in 0..12 {
        read_on(&bench.rail, &mut cursor).await;
    }
    assert_eq!(cursor.0.split(' ').count(), 1 + 1_000, "who came last has room");
    assert!(cursor.0.contains(&worker(1_299).to_string()) && !cursor.0.contains(&worker(0).to_string()));
}
