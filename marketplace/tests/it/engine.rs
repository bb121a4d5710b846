//! Whole commands through the engine, on the store in memory: keys, races, timers, the log, the books.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use tradepost::{
    actor::Actor,
    clock::{Clock, ManualClock, Timestamp},
    dispute::Filing,
    engine::{JobsOf, Marketplace, Role},
    error::{Error, Rejection},
    ids::{AgentId, JobId, MarketId, RailId},
    job::{Delivery, Job, JobStatus},
    ledger::{Account, LedgerError, RevenueKind, TransferKind, escrow},
    money::{Currency, Money, MoneyError},
    policy::{Policy, Span},
    rail::CreditsRail,
    store::{Commit, CommitError, Journal, Key, KeyRecord, Kind, MemoryStore, Query, StoreError, Stored},
};
use uuid::Uuid;

use crate::support::*;

const CREDITS: RailId = CreditsRail::ID;

struct Town {
    market: Marketplace,
    store: MemoryStore,
    clock: Arc<ManualClock>,
}

impl Town {
    /// A marketplace whose buyer has `credits`.
    async fn new(policy: Policy, credits: i64) -> Self {
        let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(start())));
        let rail = CreditsRail::new(policy.currency);
        let builder = Marketplace::builder("town", store.clone(), policy).rail(rail);
        let market = builder.clock(clock.clone()).ids(Arc::new(CountedIds::default())).build().await.unwrap();
        let town = Self { market, store, clock };
        if credits > 0 {
            town.deposit("first", buyer(), credits).await.unwrap();
        }
        town
    }

    async fn deposit(&self, reference: &str, agent: AgentId, minor: i64) -> Result<(), Error> {
        let amount = Money::new(minor, self.market.currency());
        self.market.operator("Ada").record_deposit(CREDITS, reference, agent, amount).await
    }

    fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.market.currency())
    }

    async fn posted(&self, minor: i64) -> Arc<Job> {
        self.market.agent(buyer()).post_job(order(self.money(minor))).await.unwrap()
    }

    async fn delivered(&self, minor: i64) -> Arc<Job> {
        let job = self.posted(minor).await;
        self.market.agent(worker()).accept(job.id).await.unwrap();
        self.market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap()
    }

    async fn available(&self, agent: AgentId) -> i64 {
        self.market.available(agent).await.unwrap().minor()
    }

    /// Everything that a command could have written.
    async fn everything(&self) -> String {
        let mut log = self.market.subscribe("everything").await.unwrap();
        let events = log.next(u32::MAX).await.unwrap();
        let books = self.market.trial_balance().await.unwrap();
        let of = JobsOf { role: Role::Buyer(buyer()), statuses: vec![], offset: 0, limit: 50 };
        let jobs = self.market.jobs(of).await.unwrap();
        format!("{events:?}\n{books:?}\n{jobs:?}")
    }

    async fn check_books(&self) {
        for trial in self.market.trial_balance().await.unwrap() {
            assert_eq!(trial.sum(), 0);
        }
        assert_eq!(self.market.verify().await.unwrap(), []);
        let reconciled = self.market.reconcile(CREDITS).await.unwrap();
        assert_eq!((reconciled.differences, reconciled.in_flight), (vec![], vec![]));
    }
}

fn rejection<T: std::fmt::Debug>(answer: Result<T, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}

fn names(events: &[tradepost::store::LoggedEvent]) -> Vec<&'static str> {
    events.iter().map(|logged| logged.event.body.name()).collect()
}

#[tokio::test]
async fn a_life_with_keys_is_lived_once_however_often_it_is_told() {
    let town = Town::new(voxpact(), 20_000).await;
    let (market, amount) = (&town.market, town.money(10_000));
    let mut told = Vec::new();
    for _ in 0..2 {
        let job = market.agent(buyer()).keyed("post").post_job(order(amount)).await.unwrap();
        let accepted = market.agent(worker()).keyed("accept").accept(job.id).await.unwrap();
        market.agent(worker()).keyed("start").start(job.id).await.unwrap();
        let delivered = market.agent(worker()).keyed("deliver").deliver(job.id, Delivery::default()).await.unwrap();
        let approved = market.agent(buyer()).keyed("approve").approve(job.id).await.unwrap();
        assert_eq!(accepted.status, JobStatus::Accepted, "a repetition answers what was answered then");
        assert_eq!(delivered.status, JobStatus::Delivered);
        assert_eq!(approved.status, JobStatus::Completed);
        let history = market.job_history(job.id).await.unwrap();
        assert_eq!(
            names(&history),
            ["job.created", "job.funded", "job.accepted", "job.started", "job.delivered", "job.completed"]
        );
        assert_eq!(market.job(job.id).await.unwrap(), approved);
        told.push((job, accepted, delivered, approved, town.everything().await));
    }
    assert_eq!(told[0], told[1]);
    assert_eq!((town.available(buyer()).await, town.available(worker()).await), (10_000, 9000));
    let fees = market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap();
    assert_eq!(fees, town.money(1000));
    town.check_books().await;
}

#[tokio::test]
async fn the_log_says_who_did_it_and_when() {
    let town = Town::new(voxpact(), 10_000).await;
    let job = town.posted(10_000).await;
    town.clock.advance(Span::hours(1).delta());
    town.market.operator("Grace").freeze(job.id, "a complaint").await.unwrap();
    let history = town.market.job_history(job.id).await.unwrap();
    let actors: Vec<_> = history.iter().map(|logged| logged.event.actor.clone()).collect();
    assert_eq!(actors, [by(buyer()), by(buyer()), Actor::Operator("Grace".into())]);
    assert_eq!(history[2].event.at, start() + Span::hours(1).delta());
    assert_eq!(history.iter().map(|logged| logged.event.version).collect::<Vec<_>>(), [1, 1, 2]);
}

#[tokio::test]
async fn what_was_posted_and_delivered_is_kept_word_for_word() {
    let town = Town::new(voxpact(), 10_000).await;
    let mut posted = order(town.money(10_000));
    posted.task.insert("text".into(), "\u{202e}\0 kept as JSON \u{1f600}".into());
    let job = town.market.agent(buyer()).post_job(posted.clone()).await.unwrap();
    assert_eq!(town.market.task(job.id).await.unwrap(), serde_json::to_value(&posted).unwrap());
    town.market.agent(worker()).accept(job.id).await.unwrap();
    let mut first = Delivery::default();
    first.output.insert("url".into(), "https://example.org/1".into());
    town.market.agent(worker()).deliver(job.id, first.clone()).await.unwrap();
    town.market.agent(buyer()).request_revision(job.id, "shorter, please").await.unwrap();
    town.market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap();
    assert_eq!(town.market.delivery(job.id, 1).await.unwrap(), serde_json::to_value(&first).unwrap());
    assert_eq!(town.market.delivery(job.id, 2).await.unwrap(), serde_json::to_value(Delivery::default()).unwrap());
    assert!(matches!(rejection(town.market.delivery(job.id, 3).await), Rejection::NotFound { .. }));
}

#[tokio::test]
async fn a_key_with_another_command_is_refused_and_nothing_is_written() {
    let town = Town::new(voxpact(), 30_000).await;
    let amount = town.money(10_000);
    let first = town.market.agent(buyer()).keyed("k").post_job(order(amount)).await.unwrap();
    let before = town.everything().await;
    let reused = Rejection::KeyReused { key: format!("agent {}/k", buyer()) };
    // Another body, another command that is legal, one that a rule refuses too.
    let other = town.market.agent(buyer()).keyed("k").post_job(order(town.money(10_001))).await;
    assert_eq!(rejection(other), reused);
    assert_eq!(rejection(town.market.agent(buyer()).keyed("k").cancel(first.id, "why").await), reused);
    assert_eq!(rejection(town.market.agent(buyer()).keyed("k").approve(first.id).await), reused);
    assert_eq!(town.everything().await, before);
    // Another actor's key of the same name is another key.
    town.market.agent(worker()).keyed("k").accept(first.id).await.unwrap();
    let second = town.market.agent(buyer()).keyed("l").post_job(order(amount)).await.unwrap();
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn a_refused_command_leaves_its_key_free() {
    let town = Town::new(voxpact(), 9999).await;
    let amount = town.money(10_000);
    let (account, needed, available) = (Account::Available(buyer()), amount, town.money(9999));
    let overdraft = Rejection::Ledger(LedgerError::Overdraft { account, needed, available });
    assert_eq!(rejection(town.market.agent(buyer()).keyed("k").post_job(order(amount)).await), overdraft);
    town.deposit("second", buyer(), 1).await.unwrap();
    let job = town.market.agent(buyer()).keyed("k").post_job(order(amount)).await.unwrap();
    assert_eq!(job.status, JobStatus::Funded);
}

#[tokio::test]
async fn keys_have_limits() {
    let town = Town::new(voxpact(), 10_000).await;
    let post = async |key: String| {
        let before = town.everything().await;
        let refused = rejection(town.market.agent(buyer()).keyed(key).post_job(order(town.money(500))).await);
        assert_eq!(town.everything().await, before);
        refused
    };
    let length = |actual| Rejection::Length { field: "idempotency key", unit: "characters", min: 1, max: 200, actual };
    assert_eq!(post(String::new()).await, length(0));
    assert_eq!(post("k".repeat(201)).await, length(201));
    assert_eq!(post("k\0".into()).await, Rejection::Character { field: "idempotency key", character: 0 });
    let name = town.market.operator("\u{202e}adA").freeze(JobId(Uuid::nil()), "").await;
    assert_eq!(rejection(name), Rejection::Character { field: "operator", character: 0x202e });
}

#[tokio::test]
async fn bad_input_is_refused_by_name_and_writes_nothing() {
    let town = Town::new(voxpact(), 100_000).await;
    let market = &town.market;
    let job = town.posted(10_000).await;
    let before = town.everything().await;

    let nowhere = JobId(Uuid::from_u128(404));
    let not_found = Rejection::NotFound { what: "job", id: nowhere.to_string() };
    assert_eq!(rejection(market.job(nowhere).await), not_found);
    assert_eq!(rejection(market.agent(worker()).accept(nowhere).await), not_found);
    assert_eq!(rejection(market.agent(buyer()).approve(nowhere).await), not_found);
    assert_eq!(rejection(market.operator("Ada").freeze(nowhere, "why").await), not_found);

    for actual in [0, -500, i64::MAX] {
        let posted = market.agent(buyer()).post_job(order(town.money(actual))).await;
        let (currency, min, max) = (Currency::EUR, 500, 10_000_000);
        assert_eq!(rejection(posted), Rejection::Amount { field: "amount", currency, min, max, actual });
    }
    let dollars = market.agent(buyer()).post_job(order(Money::new(500, Currency::USDC))).await;
    let mismatch = MoneyError::Mismatch { expected: Currency::EUR, found: Currency::USDC };
    assert_eq!(rejection(dollars), Rejection::Money(mismatch));

    let mut elsewhere = order(town.money(500));
    elsewhere.rail = Some(RailId::new("nowhere"));
    let unknown = Rejection::UnknownRail { rail: RailId::new("nowhere"), known: vec![CREDITS] };
    assert_eq!(rejection(market.agent(buyer()).post_job(elsewhere).await), unknown);

    let wrong = market.agent(stranger()).accept(job.id).await;
    let allowed = "the job's worker";
    assert_eq!(rejection(wrong), Rejection::WrongActor { command: "accept", allowed, actor: by(stranger()) });
    let early = market.agent(buyer()).approve(job.id).await;
    let allowed = vec![JobStatus::Validating, JobStatus::Delivered];
    let status = JobStatus::Funded;
    assert_eq!(rejection(early), Rejection::WrongStatus { command: "approve", status, allowed });

    assert_eq!(town.everything().await, before);
    town.check_books().await;
}

#[tokio::test]
async fn a_deposit_counts_once_and_only_an_operator_records_it() {
    let town = Town::new(voxpact(), 0).await;
    for _ in 0..2 {
        town.deposit("wire 7", buyer(), 500).await.unwrap();
    }
    assert_eq!(town.available(buyer()).await, 500);
    let own = town.market.agent(buyer()).record_deposit(CREDITS, "wire 8", buyer(), town.money(500)).await;
    assert!(matches!(rejection(own), Rejection::WrongActor { command: "record_deposit", .. }));
    for actual in [0, -1, i64::MIN] {
        let refused = rejection(town.deposit("wire 9", buyer(), actual).await);
        assert!(matches!(refused, Rejection::Amount { field: "deposit", actual: a, .. } if a == actual));
    }
    assert_eq!(town.available(buyer()).await, 500);
    town.check_books().await;
}

#[tokio::test]
async fn a_wallet_that_would_not_fit_into_64_bits_is_refused() {
    let town = Town::new(voxpact(), i64::MAX).await;
    let account = Account::Available(buyer());
    let refused = rejection(town.deposit("more", buyer(), 1).await);
    assert_eq!(refused, Rejection::Ledger(LedgerError::Overflow { account }));
    assert_eq!(town.available(buyer()).await, i64::MAX);
    town.check_books().await;
}

// ---- races ----

fn open(amount: Money) -> tradepost::job::JobOrder {
    let mut open = order(amount);
    open.worker = None;
    open
}

/// AM-06: the first to accept is assigned; nobody else is, and the money is reserved once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn am_06_of_many_who_accept_at_once_one_is_first() {
    let town = Town::new(agent_market(), 1000).await;
    for round in 0..10 {
        let job = town.market.agent(buyer()).post_job(open(town.money(100))).await.unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let (market, id) = (town.market.clone(), job.id);
                tokio::spawn(async move { market.agent(agent(1000 + n)).accept(id).await })
            })
            .collect();
        let mut won = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(job) => won.push(job.worker),
                Err(error) => {
                    assert!(matches!(rejection::<()>(Err(error)), Rejection::WrongStatus { command: "accept", .. }));
                }
            }
        }
        assert_eq!(won, [town.market.job(job.id).await.unwrap().worker]);
        let reserved = 100 * (round + 1);
        assert_eq!(town.available(buyer()).await, 1000 - reserved);
    }
    town.check_books().await;
}

/// A store in whose way somebody else comes first: the rival's command is carried out between this
/// command's decision and its commit.
struct Overtaken<'a> {
    town: &'a Town,
    rival: Mutex<Option<(AgentId, Rival, JobId)>>,
    /// A record that is looked at twice, and how often it still is before the rival comes, who then does not wait
    /// for the commit.
    looks: Option<(Key, AtomicU32)>,
}

#[derive(Clone, Copy)]
enum Rival {
    Accepts,
    Approves,
    Cancels,
    StartsWorking,
    Disputes,
}

#[async_trait]
impl Journal for Overtaken<'_> {
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError> {
        if let Some((of, looks)) = &self.looks
            && *of == key
            && looks.fetch_add(1, Ordering::SeqCst) == 1
        {
            self.rival_acts().await;
        }
        self.town.store.load(market, key).await
    }

    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        self.town.store.key(market, key).await
    }

    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError> {
        self.town.store.balance(market, account, currency, at).await
    }

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        self.town.store.find(market, query).await
    }

    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError> {
        self.town.store.count(market, query).await
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        self.town.store.document(market, subject, name).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        if self.looks.is_none() {
            self.rival_acts().await;
        }
        self.town.store.commit(commit).await
    }
}

impl Overtaken<'_> {
    fn by(town: &Town, who: AgentId, what: Rival, job: JobId) -> Overtaken<'_> {
        Overtaken { town, rival: Mutex::new(Some((who, what, job))), looks: None }
    }

    /// The rival comes just before this record is looked at for the second time.
    fn between_looks(self, of: Key) -> Self {
        Self { looks: Some((of, AtomicU32::new(0))), ..self }
    }

    async fn rival_acts(&self) {
        let rival = self.rival.lock().unwrap().take();
        let Some((who, what, job)) = rival else { return };
        let session = self.town.market.agent(who);
        match what {
            Rival::Accepts => session.accept(job).await.map(drop),
            Rival::Approves => session.approve(job).await.map(drop),
            Rival::Cancels => session.cancel(job, "no longer needed").await.map(drop),
            Rival::StartsWorking => session.start(job).await.map(drop),
            Rival::Disputes => session.open_dispute(job, fraud()).await.map(drop),
        }
        .unwrap();
    }
}

fn fraud() -> Filing {
    Filing { category: Some("fraud".into()), reason: String::new(), evidence: vec![] }
}

#[tokio::test]
async fn am_06_who_is_overtaken_while_accepting_is_refused() {
    let town = Town::new(agent_market(), 100).await;
    let job = town.market.agent(buyer()).post_job(open(town.money(100))).await.unwrap();
    let overtaken = Overtaken::by(&town, worker(), Rival::Accepts, job.id);
    let answer = town.market.agent(stranger()).within(&overtaken).accept(job.id).await;
    assert!(matches!(rejection(answer), Rejection::WrongStatus { status: JobStatus::Accepted, .. }));
    assert_eq!(town.market.job(job.id).await.unwrap().worker, Some(worker()));
    town.check_books().await;
}

#[tokio::test]
async fn approving_and_refunding_at_once_pays_one_of_the_two() {
    let town = Town::new(voxpact(), 10_000).await;
    let job = town.delivered(10_000).await;
    let overtaken = Overtaken::by(&town, buyer(), Rival::Approves, job.id);
    let answer = town.market.agent(worker()).within(&overtaken).refund(job.id, "sorry").await;
    assert!(matches!(rejection(answer), Rejection::WrongStatus { status: JobStatus::Completed, .. }));
    assert_eq!((town.available(buyer()).await, town.available(worker()).await), (0, 9000));
    town.check_books().await;
}

#[tokio::test]
async fn cancelling_and_delivering_at_once_ends_one_way() {
    let town = Town::new(just_pay(), 1_030_000).await;
    let job = town.posted(1_000_000).await;
    let overtaken = Overtaken::by(&town, buyer(), Rival::Cancels, job.id);
    let answer = town.market.agent(worker()).within(&overtaken).deliver(job.id, Delivery::default()).await;
    assert!(matches!(rejection(answer), Rejection::WrongStatus { status: JobStatus::Cancelled, .. }));
    assert_eq!(town.available(buyer()).await, 1_030_000);
    assert!(town.market.delivery(job.id, 1).await.is_err(), "a delivery that was refused is not kept");
    town.check_books().await;
}

/// VP-23: what cancelling costs is decided by the status that the commit finds, not the one seen first.
#[tokio::test]
async fn vp_23_a_cancel_overtaken_by_the_start_of_work_is_decided_anew() {
    let town = Town::new(voxpact(), 10_000).await;
    let job = town.posted(10_000).await;
    town.market.agent(worker()).accept(job.id).await.unwrap();
    let overtaken = Overtaken::by(&town, worker(), Rival::StartsWorking, job.id);
    town.market.agent(buyer()).within(&overtaken).cancel(job.id, "too slow").await.unwrap();
    assert_eq!((town.available(buyer()).await, town.available(worker()).await), (7500, 2500));
    town.check_books().await;
}

/// What a buyer has filed is looked at for the rule and again for the count: a filing in between is not missed.
#[tokio::test]
async fn jp_14_a_filing_overtaken_by_another_between_two_looks_is_held_to_the_limit() {
    let town = Town::new(just_pay(), 100_000_000).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        let job = town.posted(1_000_000).await;
        town.market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap();
        jobs.push(job.id);
    }
    for job in &jobs[..2] {
        town.market.agent(buyer()).open_dispute(*job, fraud()).await.unwrap();
    }
    let known = Key { kind: Kind::Reputation, id: buyer().0 };
    let overtaken = Overtaken::by(&town, buyer(), Rival::Disputes, jobs[2]).between_looks(known);
    let answer = town.market.agent(buyer()).within(&overtaken).open_dispute(jobs[3], fraud()).await;
    let refused = rejection(answer);
    assert!(matches!(refused, Rejection::TooManyDisputes { filed: 3, completed: 0, .. }), "{refused:?}");
    assert_eq!(town.market.job(jobs[2]).await.unwrap().status, JobStatus::Disputed, "the other one is filed");
    assert_eq!(town.market.job(jobs[3]).await.unwrap().status, JobStatus::Delivered);
    assert_eq!(town.market.standing(buyer()).await.unwrap().client.filed, 3);
    town.check_books().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_used_by_many_at_once_is_one_command() {
    let town = Town::new(voxpact(), 10_000).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (market, order) = (town.market.clone(), order(town.money(1000)));
            tokio::spawn(async move { market.agent(buyer()).keyed("same").post_job(order).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(town.available(buyer()).await, 9000);
    town.check_books().await;
}

// ---- time ----

/// VP-20: silence accepts, by the worker that runs in the background.
#[tokio::test]
async fn vp_20_the_background_work_releases_in_time_and_once() {
    let town = Town::new(voxpact(), 30_000).await;
    let jobs = [town.delivered(10_000).await, town.delivered(10_000).await];
    town.clock.advance(Span::hours(47).delta());
    town.market.run_until_idle().await.unwrap();
    assert_eq!(town.market.job(jobs[0].id).await.unwrap().status, JobStatus::Delivered);
    town.clock.advance(Span::hours(1).delta());
    for _ in 0..3 {
        town.market.run_until_idle().await.unwrap();
    }
    for job in jobs {
        assert_eq!(town.market.job(job.id).await.unwrap().status, JobStatus::Completed);
        let history = town.market.job_history(job.id).await.unwrap();
        assert_eq!(history.last().unwrap().event.actor, Actor::Timer);
        assert_eq!(names(&history).iter().filter(|name| **name == "job.completed").count(), 1);
    }
    assert_eq!(town.available(worker()).await, 18_000);
    town.check_books().await;
}

/// VP-39, on the way from the store's list of what is due.
#[tokio::test]
async fn vp_39_the_background_work_calls_off_what_is_overdue_and_leaves_the_frozen_alone() {
    let town = Town::new(voxpact(), 30_000).await;
    let (late, frozen) = (town.posted(10_000).await, town.posted(10_000).await);
    town.market.operator("Ada").freeze(frozen.id, "a complaint").await.unwrap();
    town.clock.advance(Span::hours(72).delta());
    town.market.run_until_idle().await.unwrap();
    assert_eq!(town.market.job(late.id).await.unwrap().status, JobStatus::Cancelled);
    assert_eq!(town.market.job(frozen.id).await.unwrap().status, JobStatus::Frozen);
    assert_eq!(town.available(buyer()).await, 20_000);
    town.market.operator("Ada").unfreeze(frozen.id).await.unwrap();
    town.market.run_until_idle().await.unwrap();
    assert_eq!(town.market.job(frozen.id).await.unwrap().status, JobStatus::Funded, "it has its 72 h again");
    town.clock.advance(Span::hours(72).delta());
    town.market.run_until_idle().await.unwrap();
    assert_eq!(town.available(buyer()).await, 30_000);
    town.check_books().await;
}

/// Promise 5: a policy is pinned to what was made under it.
#[tokio::test]
async fn a_later_policy_never_alters_a_job_under_way() {
    let town = Town::new(voxpact(), 20_000).await;
    let before = town.posted(10_000).await;
    town.market.agent(worker()).accept(before.id).await.unwrap();
    let mut dearer = voxpact();
    let terms = tradepost::policy::CancellationTerms { to_worker: rate("0"), to_platform: rate("1") };
    dearer.jobs.cancellation.insert(JobStatus::Accepted, terms);
    let version = town.market.set_policy(dearer).await.unwrap();
    let after = town.posted(10_000).await;
    assert_eq!((after.policy, before.policy < after.policy), (version, true));
    town.market.agent(worker()).accept(after.id).await.unwrap();
    town.market.agent(buyer()).cancel(before.id, "").await.unwrap();
    assert_eq!(town.available(buyer()).await, 9500);
    town.market.agent(buyer()).cancel(after.id, "").await.unwrap();
    assert_eq!(town.available(buyer()).await, 9500, "under the new terms everything is lost");
    town.check_books().await;
}

// ---- the log ----

#[tokio::test]
async fn a_subscription_sees_each_event_once_and_reads_on_where_it_acknowledged() {
    let town = Town::new(voxpact(), 100_000).await;
    let mut seen = Vec::new();
    let mut reader = town.market.subscribe("mailer").await.unwrap();
    for _ in 0..3 {
        town.delivered(10_000).await;
        loop {
            let page = reader.next(2).await.unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= 2);
            seen.extend(page);
        }
    }
    assert!(reader.acknowledge().await.unwrap());
    let all = town.market.subscribe("another").await.unwrap().next(1000).await.unwrap();
    assert_eq!(seen, all);
    assert!(all.windows(2).all(|pair| pair[0].position < pair[1].position));
    assert_eq!(all.len(), 1 + 3 * 4, "a deposit, and four events of each job");

    town.posted(10_000).await;
    let mut again = town.market.subscribe("mailer").await.unwrap();
    assert_eq!(names(&again.next(10).await.unwrap()), ["job.created", "job.funded"]);
    // Not acknowledged, so seen again after a restart; acknowledged by one of two, the other is told.
    let mut restarted = town.market.subscribe("mailer").await.unwrap();
    assert_eq!(restarted.next(10).await.unwrap().len(), 2);
    assert!(restarted.acknowledge().await.unwrap());
    assert!(!again.acknowledge().await.unwrap());
}

// ---- the embedder's own transaction ----

/// A second process on the same database, which knows nothing of what the first remembers.
async fn second_process(town: &Town) -> Marketplace {
    let policy = (*town.market.policy().1).clone();
    let rail = CreditsRail::new(policy.currency);
    Marketplace::builder("town", town.store.clone(), policy).rail(rail).clock(town.clock.clone()).build().await.unwrap()
}

#[tokio::test]
async fn vp_14_what_another_process_made_legal_is_not_refused_from_memory() {
    let town = Town::new(voxpact(), 10_000).await;
    let second = second_process(&town).await;
    let job = town.posted(10_000).await;
    second.agent(worker()).accept(job.id).await.unwrap();
    // The first process remembers a job that nobody has accepted, of which no delivery is legal.
    let delivered = town.market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap();
    assert_eq!(delivered.status, JobStatus::Delivered);
    assert_eq!(town.market.agent(buyer()).approve(job.id).await.unwrap().status, JobStatus::Completed);
    town.check_books().await;
}

#[tokio::test]
async fn vp_14_what_another_process_made_illegal_is_refused_in_spite_of_memory() {
    let town = Town::new(voxpact(), 10_000).await;
    let second = second_process(&town).await;
    let job = town.posted(10_000).await;
    second.agent(buyer()).cancel(job.id, "no longer needed").await.unwrap();
    let answer = town.market.agent(worker()).accept(job.id).await;
    assert!(matches!(rejection(answer), Rejection::WrongStatus { status: JobStatus::Cancelled, .. }));
    assert_eq!(town.available(buyer()).await, 10_000);
    town.check_books().await;
}

/// A transaction that is written only when its owner says so.
#[derive(Default)]
struct Held<'a> {
    store: Option<&'a MemoryStore>,
    commits: Mutex<Vec<Commit>>,
}

#[async_trait]
impl Journal for Held<'_> {
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError> {
        self.store.unwrap().load(market, key).await
    }

    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        self.store.unwrap().key(market, key).await
    }

    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError> {
        self.store.unwrap().balance(market, account, currency, at).await
    }

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        self.store.unwrap().find(market, query).await
    }

    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError> {
        self.store.unwrap().count(market, query).await
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        self.store.unwrap().document(market, subject, name).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.commits.lock().unwrap().push(commit);
        Ok(())
    }
}

#[tokio::test]
async fn within_an_embedders_transaction_nothing_is_written_before_it_commits() {
    let town = Town::new(voxpact(), 10_000).await;
    let transaction = Held { store: Some(&town.store), ..Held::default() };
    let before = town.everything().await;
    let session = town.market.agent(buyer()).within(&transaction).keyed("k");
    let job = session.post_job(order(town.money(10_000))).await.unwrap();
    assert_eq!(job.status, JobStatus::Funded);
    assert_eq!(town.everything().await, before, "rolled back, it never was");
    let commits = std::mem::take(&mut *transaction.commits.lock().unwrap());
    assert_eq!(commits.len(), 1, "one command, one commit");
    for commit in commits {
        town.store.commit(commit).await.unwrap();
    }
    assert_eq!(town.market.job(job.id).await.unwrap(), job);
    let again = town.market.agent(buyer()).keyed("k").post_job(order(town.money(10_000))).await.unwrap();
    assert_eq!(again, job);
    town.check_books().await;
}

// ---- statements ----

#[tokio::test]
async fn a_statement_says_what_an_account_held_at_any_moment() {
    let town = Town::new(voxpact(), 20_000).await;
    let moments = async |account: Account| {
        let mut balances = Vec::new();
        for hours in 0..=3 {
            let at = start() + Span::hours(hours).delta();
            balances.push(town.market.balance(account, Some(at)).await.unwrap().minor());
        }
        balances
    };
    town.clock.advance(Span::hours(1).delta());
    let job = town.posted(10_000).await;
    town.clock.advance(Span::hours(1).delta());
    town.market.agent(worker()).accept(job.id).await.unwrap();
    town.market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap();
    town.clock.advance(Span::hours(1).delta());
    town.market.agent(buyer()).approve(job.id).await.unwrap();
    assert_eq!(town.clock.now(), start() + Span::hours(3).delta());

    assert_eq!(moments(Account::Available(buyer())).await, [20_000, 10_000, 10_000, 10_000]);
    assert_eq!(moments(escrow(job.id)).await, [0, 10_000, 10_000, 0]);
    assert_eq!(moments(Account::Available(worker())).await, [0, 0, 0, 9000]);
    assert_eq!(moments(Account::Revenue(RevenueKind::Fees)).await, [0, 0, 0, 1000]);
    let early = start() - Span::seconds(1).delta();
    assert_eq!(town.market.balance(Account::Available(buyer()), Some(early)).await.unwrap().minor(), 0);

    let history = town.market.history(escrow(job.id), 0, 100).await.unwrap();
    let lines: Vec<_> = history.iter().map(|e| (e.kind, e.counterparty, e.amount.minor(), e.contract)).collect();
    let expected = [
        (TransferKind::EscrowLock, Account::Available(buyer()), 10_000, job.id.0),
        (TransferKind::Earned, Account::Available(worker()), -9000, job.id.0),
        (TransferKind::Fee, Account::Revenue(RevenueKind::Fees), -1000, job.id.0),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_history_is_read_in_pages_without_a_gap() {
    let town = Town::new(voxpact(), 100_000).await;
    for _ in 0..7 {
        let job = town.posted(10_000).await;
        town.market.agent(buyer()).cancel(job.id, "").await.unwrap();
    }
    let account = Account::Available(buyer());
    let whole = town.market.history(account, 0, 1000).await.unwrap();
    assert_eq!(whole.len(), 15);
    let total: i64 = whole.iter().map(|entry| entry.amount.minor()).sum();
    assert_eq!(total, town.available(buyer()).await);
    for size in [1, 2, 4, 15, 16] {
        let mut pages = Vec::new();
        loop {
            let after = pages.last().map_or(0, |entry: &tradepost::ledger::Entry| entry.number);
            let page = town.market.history(account, after, size).await.unwrap();
            assert!(page.len() <= size as usize);
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, whole, "in pages of {size}");
    }
    assert_eq!(town.market.history(account, whole.last().unwrap().number, 10).await.unwrap(), []);
    assert_eq!(town.market.history(Account::Available(stranger()), 0, 10).await.unwrap(), []);
}

#[tokio::test]
async fn vp_15_own_jobs_are_listed_by_status_in_pages() {
    let town = Town::new(without_tier_limits(voxpact()), 1_000_000).await;
    for n in 0..60 {
        let job = town.posted(1000).await;
        if n % 2 == 0 {
            town.market.agent(worker()).accept(job.id).await.unwrap();
        }
    }
    let list = async |role, statuses: &[JobStatus], offset, limit| {
        let of = JobsOf { role, statuses: statuses.to_vec(), offset, limit };
        town.market.jobs(of).await.unwrap()
    };
    let all = list(Role::Buyer(buyer()), &[], 0, 1000).await;
    assert_eq!(all.len(), 50, "never more than 50 at once");
    assert!(all.windows(2).all(|pair| pair[0].id > pair[1].id), "newest first");
    assert_eq!(list(Role::Buyer(buyer()), &[], 50, 50).await.len(), 10);
    let accepted = list(Role::Worker(worker()), &[JobStatus::Accepted], 0, 50).await;
    assert_eq!(accepted.len(), 30);
    assert!(accepted.iter().all(|job| job.status == JobStatus::Accepted));
    assert_eq!(list(Role::Worker(stranger()), &[], 0, 50).await, []);
}
