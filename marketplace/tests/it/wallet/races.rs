//! Two hands on one wallet at once. On every store a crowd; in memory, one hand exactly in between.

use std::sync::Mutex;

use async_trait::async_trait;
use futures::future::join_all;
use tradepost::{
    clock::Timestamp,
    engine::{JobsOf, Role},
    error::{Error, Rejection},
    ids::MarketId,
    ledger::Account,
    money::{Currency, Money},
    policy::{Policy, Span},
    rail::{Cursor, Custody, Landing, Order, Push, SettlementRail as _},
    store::{Commit, CommitError, Journal, Key, KeyRecord, Query, StoreError, Stored},
    testkit::{Answer, Script},
};
use uuid::Uuid;

use super::bank::*;
use crate::support::*;

fn policy() -> Policy {
    Policy::justpayai().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_26_many_withdrawals_at_once_take_no_more_than_there_is() {
    for bank in Bank::everywhere(policy(), Custody::Pooled).await {
        bank.deposit(worker(), 23_000_000, "source").await;
        bank.save(worker(), "home").await;
        let answers = join_all((0..12).map(|_| bank.withdraw(worker(), 5_000_000))).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 4);
        for answer in answers.into_iter().filter(Result::is_err) {
            assert!(matches!(rejected(answer), Rejection::Ledger(_)), "the agent may know what it holds");
        }
        bank.settle().await;
        assert_eq!(bank.available(worker()).await, 3_000_000);
        assert_eq!(bank.world.outside(worker()), -23_000_000 + 4 * 4_900_000);
        bank.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_27_withdrawals_panics_and_jobs_at_once_take_no_more_than_there_is() {
    for bank in Bank::everywhere(policy(), Custody::Pooled).await {
        bank.deposit(buyer(), 60_000_000, "source").await;
        bank.save(buyer(), "home").await;
        let withdraw = join_all((0..4).map(|_| bank.withdraw(buyer(), 5_000_000)));
        let panic = join_all((0..2).map(|_| bank.market.agent(buyer()).panic(buyer())));
        let post = join_all((0..4).map(|_| bank.posted(5_000_000)));
        let (withdrawn, panicked, posted) = futures::join!(withdraw, panic, post);
        for refused in withdrawn.into_iter().filter_map(Result::err) {
            assert!(matches!(refused, Error::Rejected(Rejection::Ledger(_))), "{refused}");
        }
        assert!(panicked.iter().any(Result::is_ok));
        bank.settle().await;
        let escrowed: i64 = 5_150_000 * i64::try_from(posted.iter().filter(|job| job.is_ok()).count()).unwrap();
        let paid: i64 = bank
            .market
            .payouts(buyer())
            .await
            .unwrap()
            .iter()
            .map(|payout| payout.instruction.order.amount().minor())
            .sum();
        assert_eq!(bank.world.outside(buyer()), i128::from(paid) - 60_000_000);
        let fees = bank.of(Account::Revenue(tradepost::ledger::RevenueKind::Withdrawals)).await;
        assert_eq!(bank.available(buyer()).await + escrowed + paid + fees, 60_000_000);
        bank.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_24_of_first_deposits_at_once_one_names_the_emergency_address_and_all_count() {
    for bank in Bank::everywhere(policy(), Custody::Pooled).await {
        for number in 0..10 {
            bank.world.deposit(worker(), bank.money(1_000_000), format!("source{number}"));
        }
        let work = join_all((0..4).map(|_| bank.market.work())).await;
        assert!(work.into_iter().all(|worked| worked.is_ok()));
        bank.settle().await;
        assert_eq!(bank.available(worker()).await, 10_000_000);
        let told = bank.market.wallet_events(worker()).await.unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        bank.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_25_no_withdrawal_goes_to_an_address_that_was_changed_at_the_same_moment() {
    for bank in Bank::everywhere(policy(), Custody::Pooled).await {
        for number in 0..8 {
            let who = agent(0xE0 + number);
            bank.deposit(who, 10_000_000, "source").await;
            bank.save(who, "home").await;
            let change = bank.market.agent(who).set_withdrawal_address(who, "elsewhere");
            let (changed, _) = futures::join!(change, bank.withdraw(who, 5_000_000));
            changed.unwrap();
            for payout in bank.market.payouts(who).await.unwrap() {
                let Order::Payout { destination, .. } = &payout.instruction.order else { panic!("{payout:?}") };
                assert_eq!(destination.as_deref(), Some("home"));
            }
        }
        bank.settle().await;
        bank.check().await;
    }
}

/// What a rival does just before a commit is written.
#[derive(Clone)]
enum Rival {
    Panics,
    ChangesTheAddress,
    Withdraws,
    Posts,
    Cancels,
    LimitsSpending,
    /// The rail tells something.
    Tells(Push),
}

/// The bank's store, as an embedder's transaction that is overtaken before one of its commits.
struct Overtaken<'a> {
    bank: &'a Bank,
    /// After how many commits.
    rival: Mutex<Option<(usize, Rival)>>,
}

#[async_trait]
impl Journal for Overtaken<'_> {
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError> {
        self.bank.store.load(market, key).await
    }

    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        self.bank.store.key(market, key).await
    }

    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError> {
        self.bank.store.balance(market, account, currency, at).await
    }

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        self.bank.store.find(market, query).await
    }

    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError> {
        self.bank.store.count(market, query).await
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        self.bank.store.document(market, subject, name).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let rival = {
            let mut rival = self.rival.lock().unwrap();
            match rival.take() {
                Some((0, rival)) => Some(rival),
                later => {
                    *rival = later.map(|(commits, rival)| (commits - 1, rival));
                    None
                }
            }
        };
        let session = || self.bank.market.agent(buyer());
        match rival {
            Some(Rival::Panics) => drop(session().panic(buyer()).await.unwrap()),
            Some(Rival::ChangesTheAddress) => {
                session().set_withdrawal_address(buyer(), "elsewhere").await.unwrap();
            }
            Some(Rival::Withdraws) => self.bank.withdraw(buyer(), 6_000_000).await.unwrap(),
            Some(Rival::Posts) => drop(self.bank.posted(2_000_000).await.unwrap()),
            Some(Rival::Cancels) => {
                let newest = JobsOf { role: Role::Buyer(buyer()), statuses: vec![], offset: 0, limit: 1 };
                let job = self.bank.market.jobs(newest).await.unwrap()[0].id;
                session().cancel(job, "no longer needed").await.unwrap();
            }
            Some(Rival::LimitsSpending) => {
                let (operator, limit) = (self.bank.market.operator("Ada"), Some(self.bank.money(1_000_000)));
                operator.set_spending_limit(buyer(), limit).await.unwrap();
            }
            Some(Rival::Tells(push)) => self.bank.receive(&push).await,
            None => {}
        }
        self.bank.store.commit(commit).await
    }
}

async fn rich() -> Bank {
    let bank = Bank::in_memory(policy(), Custody::Pooled).await;
    bank.deposit(buyer(), 10_000_000, "source").await;
    bank.save(buyer(), "home").await;
    bank
}

impl Bank {
    fn overtaken(&self, rival: Rival) -> Overtaken<'_> {
        self.overtaken_after(0, rival)
    }

    fn overtaken_after(&self, commits: usize, rival: Rival) -> Overtaken<'_> {
        Overtaken { bank: self, rival: Mutex::new(Some((commits, rival))) }
    }
}

#[tokio::test]
async fn jp_27_a_withdrawal_overtaken_by_a_panic_finds_nothing() {
    let bank = rich().await;
    let journal = bank.overtaken(Rival::Panics);
    let answer = bank.market.agent(buyer()).within(&journal).withdraw_money(buyer(), bank.money(6_000_000)).await;
    assert!(matches!(rejected(answer), Rejection::Ledger(_)));
    bank.settle().await;
    assert_eq!(bank.world.outside(buyer()), 0);
    bank.check().await;
}

#[tokio::test]
async fn jp_27_a_panic_overtaken_by_spending_sends_what_is_left() {
    for (rival, left) in [(Rival::Withdraws, 4_000_000), (Rival::Posts, 10_000_000 - 2_060_000)] {
        let bank = rich().await;
        let journal = bank.overtaken(rival);
        bank.market.agent(buyer()).within(&journal).panic(buyer()).await.unwrap();
        bank.settle().await;
        let payouts = bank.market.payouts(buyer()).await.unwrap();
        assert_eq!(payouts[0].instruction.order.amount().minor(), left);
        assert_eq!(bank.available(buyer()).await, 0);
        bank.check().await;
    }
}

#[tokio::test]
async fn jp_25_a_withdrawal_overtaken_by_a_change_of_address_is_refused() {
    let bank = rich().await;
    let journal = bank.overtaken(Rival::ChangesTheAddress);
    let answer = bank.market.agent(buyer()).within(&journal).withdraw_money(buyer(), bank.money(6_000_000)).await;
    let next = start() + Span::hours(24).delta();
    assert_eq!(rejected(answer), Rejection::TooSoon { command: "withdraw_money", next });
    assert_eq!(bank.market.payouts(buyer()).await.unwrap(), []);
}

/// A first limit and a job at once: whichever comes second is decided on the other.
#[tokio::test]
async fn vp_08_a_job_overtaken_by_the_first_limit_is_held_to_it() {
    let limited = Policy { spending: voxpact().spending, ..policy() };
    let bank = Bank::in_memory(limited, Custody::Pooled).await;
    bank.deposit(buyer(), 10_000_000, "source").await;
    let journal = bank.overtaken(Rival::LimitsSpending);
    let answer = bank.market.agent(buyer()).within(&journal).post_job(order(bank.money(2_000_000))).await;
    let refused = rejected(answer);
    assert!(matches!(refused, Rejection::SpendingLimit { limit, .. } if limit == bank.money(1_000_000)), "{refused:?}");
    assert_eq!(bank.available(buyer()).await, 10_000_000);
    bank.check().await;
}

/// The other way round: whenever a job is posted while its buyer's first limit is being set, it is counted, and
/// once; what is called off meanwhile is not.
#[tokio::test]
async fn vp_08_a_first_limit_overtaken_by_a_job_counts_it_on_every_store() {
    const JOB: i64 = 2_060_000;
    let limited = Policy { spending: voxpact().spending, ..policy() };
    for known in [0, 1] {
        for (rival, commits) in
            [0, 1, 2].map(|commits| (Rival::Posts, commits)).into_iter().chain([(Rival::Cancels, 1)])
        {
            for bank in Bank::everywhere(limited.clone(), Custody::Pooled).await {
                bank.deposit(buyer(), 10_000_000, "source").await;
                let calls_off = matches!(rival, Rival::Cancels);
                for _ in 0..known + i32::from(calls_off) {
                    bank.posted(2_000_000).await.unwrap();
                }
                let journal = bank.overtaken_after(commits, rival.clone());
                let limit = Some(bank.money(4 * JOB));
                let set =
                    bank.market.operator("Ada").within(&journal).set_spending_limit(buyer(), limit).await.unwrap();
                if commits == 2 {
                    bank.posted(2_000_000).await.unwrap(); // it was set in two: this comes after it
                }
                let jobs = i64::from(known) + i64::from(!calls_off);
                let spent = bank.market.spending(buyer()).await.unwrap().unwrap().budget.spent.minor();
                assert_eq!(spent, jobs * JOB, "{commits} commits before, {known} jobs before: {set:?}");
                for _ in jobs..4 {
                    bank.posted(2_000_000).await.unwrap();
                }
                assert!(matches!(rejected(bank.posted(2_000_000).await), Rejection::SpendingLimit { .. }));
                bank.check().await;
            }
        }
    }
}

/// VP-35: the rail tells that the account is ready just before a share is booked that was decided on without that
/// word, and finds nothing in the wallet. The share is decided anew, and leaves.
#[tokio::test]
async fn vp_35_a_share_overtaken_by_the_accounts_readiness_leaves_too() {
    let bank = Bank::in_memory(voxpact(), Custody::PerHold).await;
    bank.world.next(Script::default()); // the funding
    bank.world.next(Script { answer: Answer::LostAfter, landing: Landing::Held, ..Script::default() });
    let job = bank.hire(10_000).await;
    let given = bank.market.instructions(job).await.unwrap();
    let division = given.iter().find(|given| matches!(given.instruction.order, Order::Settle { .. }));
    let division = division.unwrap().instruction.clone();
    let truth = bank.way_outside().lookup(&division).await.unwrap().unwrap();
    let (_, so_far) = bank.pushes(&Cursor::default());
    bank.world.account_ready(worker());
    let journal = bank.overtaken(Rival::Tells(bank.pushes(&so_far).0.remove(0)));
    let operator = bank.market.operator("Ada").within(&journal);
    operator.resolve(division.id, truth, "the bank says so").await.unwrap();
    bank.settle().await;
    assert_eq!((bank.world.outside(worker()), bank.available(worker()).await), (9_000, 0));
    bank.check().await;
}
