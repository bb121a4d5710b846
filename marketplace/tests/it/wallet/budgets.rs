//! Spending limits (VP-08).

use chrono::DateTime;
use futures::future::join_all;
use tradepost::{
    clock::Timestamp,
    error::Rejection,
    ids::JobId,
    job::JobStatus,
    policy::{Policy, Span},
    rail::Custody,
    spending::SpendingLimit,
    testkit::{Course, Script},
};

use super::bank::*;
use crate::support::*;

impl Bank {
    async fn limit(&self, minor: Option<i64>) {
        let limit = minor.map(|minor| self.money(minor));
        self.market.operator("Ada").set_spending_limit(buyer(), limit).await.unwrap();
    }

    async fn spent(&self) -> i64 {
        self.market.spending(buyer()).await.unwrap().unwrap().budget.spent.minor()
    }

    /// Goes on to the first moment of the next month.
    async fn next_month(&self) -> Timestamp {
        let spending = self.market.spending(buyer()).await.unwrap().unwrap();
        let now = spending.budget.since;
        let next = spending.policy.period.end(now);
        self.clock.advance(next - tradepost::clock::Clock::now(&*self.clock));
        next
    }
}

/// VoxPact's limits where the money is in wallets, too.
fn with_wallets() -> Policy {
    Policy { spending: voxpact().spending, ..just_pay() }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_08_posting_past_the_monthly_limit_is_refused_and_takes_nothing() {
    for custody in [Custody::PerHold, Custody::Pooled] {
        for bank in
            Bank::everywhere(if custody == Custody::PerHold { voxpact() } else { with_wallets() }, custody).await
        {
            if custody == Custody::Pooled {
                bank.deposit(buyer(), 1_000_000, "source").await;
            }
            let price = |minor: i64| if custody == Custody::PerHold { minor } else { minor * 103 / 100 };
            bank.limit(Some(price(50_000))).await;
            bank.posted(20_000).await.unwrap();
            bank.posted(30_000).await.unwrap();
            assert_eq!(bank.spent().await, price(50_000));
            let calls = bank.world.calls();
            let refused = rejected(bank.posted(1_000).await);
            let (limit, needed) = (bank.money(price(50_000)), bank.money(price(1_000)));
            let resets_at: Timestamp = DateTime::parse_from_rfc3339("2027-02-01T00:00:00Z").unwrap().to_utc();
            assert_eq!(refused, Rejection::SpendingLimit { limit, spent: limit, needed, resets_at });
            assert_eq!(bank.world.calls(), calls, "no rail was asked");

            bank.next_month().await;
            bank.posted(50_000).await.unwrap();
            assert_eq!(bank.spent().await, price(50_000));
            bank.limit(None).await;
            bank.posted(50_000).await.unwrap();
        }
    }
}

#[tokio::test]
async fn vp_08_what_comes_back_is_given_back_to_its_own_month() {
    let bank = Bank::in_memory(voxpact(), Custody::PerHold).await;
    bank.limit(Some(50_000)).await;
    let job = bank.posted(30_000).await.unwrap();
    bank.market.agent(buyer()).cancel(job.id, "no").await.unwrap();
    assert_eq!(bank.spent().await, 0);
    let job = bank.posted(30_000).await.unwrap();
    bank.market.agent(worker()).accept(job.id).await.unwrap();
    bank.market.agent(buyer()).cancel(job.id, "no").await.unwrap();
    assert_eq!(bank.spent().await, 1_500, "5 % of it was spent");
    bank.world.next(Script { course: Course::Declined, ..Script::default() });
    let job = bank.posted(40_000).await.unwrap();
    assert_eq!(bank.spent().await, 1_500, "what was not paid was not spent");
    bank.market.agent(buyer()).retry_payment(job.id).await.unwrap();
    assert_eq!(bank.spent().await, 41_500);

    bank.next_month().await;
    bank.posted(50_000).await.unwrap();
    bank.work().await;
    assert_eq!(bank.market.job(job.id).await.unwrap().status, JobStatus::Cancelled, "nobody took it on in time");
    assert_eq!(bank.spent().await, 50_000, "last month's refund does not raise this month's limit");
    bank.settle().await;
    bank.check().await;
}

#[tokio::test]
async fn vp_08_a_limit_counts_what_the_month_has_reserved_before_it_was_set() {
    let bank = Bank::in_memory(voxpact(), Custody::PerHold).await;
    bank.posted(20_000).await.unwrap();
    bank.next_month().await;
    bank.posted(30_000).await.unwrap();
    let cancelled = bank.posted(10_000).await.unwrap();
    bank.market.agent(buyer()).cancel(cancelled.id, "no").await.unwrap();
    assert_eq!(bank.spent().await, 0, "nobody counts where there is no limit");
    bank.limit(Some(40_000)).await;
    assert_eq!(bank.spent().await, 30_000);
    bank.limit(Some(45_000)).await;
    assert_eq!(bank.spent().await, 30_000, "another limit does not count it again");
    assert!(matches!(rejected(bank.posted(15_001).await), Rejection::SpendingLimit { .. }));
    bank.posted(15_000).await.unwrap();
}

/// What was counted comes back like what was charged, once, and to its own month; a limit that is lifted and set
/// again counts nothing twice.
#[tokio::test]
async fn vp_08_what_was_counted_when_a_limit_was_set_comes_back_too() {
    let bank = Bank::in_memory(voxpact(), Custody::PerHold).await;
    let cancel = async |job: JobId| drop(bank.market.agent(buyer()).cancel(job, "no").await.unwrap());
    let last_month = bank.posted(5_000).await.unwrap();
    bank.next_month().await;
    let (first, second) = (bank.posted(20_000).await.unwrap(), bank.posted(10_000).await.unwrap());
    bank.market.agent(worker()).accept(second.id).await.unwrap();
    bank.limit(Some(40_000)).await;
    let charged = bank.posted(10_000).await.unwrap();
    assert_eq!(bank.spent().await, 40_000);
    cancel(first.id).await;
    assert_eq!(bank.spent().await, 20_000);
    cancel(second.id).await;
    assert_eq!(bank.spent().await, 10_500, "5 % of it was spent");
    bank.work().await;
    assert_eq!(bank.market.job(last_month.id).await.unwrap().status, JobStatus::Cancelled);
    assert_eq!(bank.spent().await, 10_500, "it was not counted");

    bank.limit(None).await;
    assert_eq!(bank.spent().await, 10_000, "nobody counts where there is no limit");
    let unlimited = bank.posted(30_000).await.unwrap();
    bank.limit(Some(50_000)).await;
    assert_eq!(bank.spent().await, 40_000, "what was charged, and what is reserved of the rest");
    cancel(unlimited.id).await;
    cancel(charged.id).await;
    assert_eq!(bank.spent().await, 0);
}

#[tokio::test]
async fn vp_08_the_policys_own_limit_holds_where_the_owner_said_nothing() {
    let mut policy = voxpact();
    policy.spending.as_mut().unwrap().default_limit = Some(10_000);
    let bank = Bank::in_memory(policy, Custody::PerHold).await;
    bank.posted(10_000).await.unwrap();
    assert!(matches!(rejected(bank.posted(500).await), Rejection::SpendingLimit { .. }));
    let budget = bank.market.operator("Ada").set_spending_limit(buyer(), None).await.unwrap();
    assert_eq!(budget.limit, SpendingLimit::Unlimited);
    bank.posted(500).await.unwrap();
}

#[tokio::test]
async fn vp_08_only_the_owner_and_operators_set_it_and_a_worker_does_not_learn_it() {
    let bank = Bank::in_memory(agent_market_with_limits(), Custody::Pooled).await;
    let mine = bank.market.agent(buyer()).set_spending_limit(buyer(), None).await;
    assert!(matches!(rejected(mine), Rejection::WrongActor { .. }));
    let negative = bank.market.operator("Ada").set_spending_limit(buyer(), Some(bank.money(-1))).await;
    assert!(matches!(rejected(negative), Rejection::Amount { .. }));
    bank.limit(Some(5)).await;
    // AM-06: the money is reserved when somebody accepts.
    let open = tradepost::job::JobOrder { worker: None, ..order(bank.money(10)) };
    let job = bank.market.agent(buyer()).post_job(open).await.unwrap();
    let refused = rejected(bank.market.agent(worker()).accept(job.id).await);
    assert_eq!(refused, Rejection::BuyerCannotPay { needed: bank.money(10) });
}

fn agent_market_with_limits() -> Policy {
    Policy { spending: voxpact().spending, ..agent_market() }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_08_many_posts_at_once_spend_no_more_than_allowed() {
    for bank in Bank::everywhere(voxpact(), Custody::PerHold).await {
        bank.limit(Some(25_000)).await;
        let answers = join_all((0..8).map(|_| bank.posted(5_000))).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 5);
        assert_eq!(bank.spent().await, 25_000);
        bank.settle().await;
        bank.clock.advance(Span::seconds(1).delta());
        bank.check().await;
    }
}
