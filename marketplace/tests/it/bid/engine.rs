//! Open jobs through the engine: races, declines, visibility, lists, restarts, on every store.

use std::sync::Arc;

use tradepost::{
    actor::Actor,
    bid::{BidOrder, BidStatus},
    engine::OpenJobs,
    error::Rejection,
    ids::{BidId, JobId},
    job::{Job, JobOrder, JobStatus, OpenOrder, Wanted},
    policy::{Policy, Span},
    rail::Custody,
    store::MemoryStore,
    testkit::{Course, Script},
};

use super::{
    desk::{open_order, price},
    town::{Agents, Town, rejection},
};
use crate::support::{agent, buyer, operator, stranger, voxpact, worker};

impl Town {
    async fn open_job(&self, minor: i64) -> Arc<Job> {
        self.open_job_with(minor, OpenOrder::default()).await
    }

    async fn open_job_with(&self, minor: i64, open: OpenOrder) -> Arc<Job> {
        let order = open_order(&self.market.policy().1, minor, open);
        self.market.agent(buyer()).post_job(order).await.unwrap()
    }
}

/// VP-25: of two bids accepted at once one wins, and the other is told which, on every store.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn vp_25_of_two_bids_accepted_at_once_one_wins() {
    for town in Town::everywhere(voxpact(), Custody::PerHold).await {
        for round in 0..6 {
            let job = town.open_job(2000).await;
            let mut bids = Vec::new();
            for who in [worker(), stranger()] {
                bids.push(town.market.agent(who).place_bid(job.id, price(town.money(1000 + round))).await.unwrap());
            }
            let tasks: Vec<_> = bids
                .iter()
                .map(|bid| {
                    let (market, id, price) = (town.market.clone(), bid.id, town.money(1000 + round));
                    tokio::spawn(async move { market.agent(buyer()).accept_bid(id, price).await })
                })
                .collect();
            let mut won = Vec::new();
            for task in tasks {
                match task.await.unwrap() {
                    Ok(job) => won.push(job.worker.unwrap()),
                    Err(error) => assert!(
                        matches!(error.rejection(), Some(Rejection::AlreadyChosen { .. })),
                        "round {round}: {error}"
                    ),
                }
            }
            assert_eq!(won.len(), 1, "round {round}");
            town.market.run_until_idle().await.unwrap();
            let job = town.market.job(job.id).await.unwrap();
            assert_eq!((job.status, job.worker), (JobStatus::Accepted, Some(won[0])));
            assert_eq!(town.outside.hold(job.id.into()), Some(town.money(1000 + round)));
        }
        town.check_books().await;
    }
}

/// VP-24: a hundred bids at once are a hundred bids; the next is one too many.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn vp_24_many_bids_at_once_are_all_counted() {
    let town = Town::quick(voxpact(), Custody::PerHold).await;
    let job = town.open_job(2000).await;
    let mut tasks = Vec::new();
    for n in 0..110 {
        let (market, id, bid) = (town.market.clone(), job.id, price(town.money(1000)));
        tasks.push(tokio::spawn(async move {
            loop {
                match market.agent(agent(1000 + n)).place_bid(id, bid.clone()).await {
                    Err(error) if error.may_repeat() => {}
                    answer => return answer,
                }
            }
        }));
    }
    let mut refused = 0;
    for task in tasks {
        if let Err(error) = task.await.unwrap() {
            assert_eq!(error.rejection(), Some(&Rejection::TooManyBids { max: 100 }));
            refused += 1;
        }
    }
    assert_eq!(refused, 10);
    assert_eq!(town.market.job(job.id).await.unwrap().open.as_ref().unwrap().active, 100);
}

/// VP-25: a thousand applications are all told, a page a commit.
#[tokio::test]
async fn jp_11_every_one_of_many_applications_is_told() {
    let town = Town::quick(Policy::justpayai().unwrap(), Custody::Pooled).await;
    town.endow(10_000_000).await;
    let open = OpenOrder { description: Some("a logo, please".into()), ..OpenOrder::default() };
    let job = town.open_job_with(1_000_000, open).await;
    for n in 0..300 {
        town.market.agent(agent(1000 + n)).place_bid(job.id, BidOrder::default()).await.unwrap();
    }
    let chosen = BidId::derive(job.id, agent(1123));
    town.market.agent(buyer()).accept_bid(chosen, town.money(1_000_000)).await.unwrap();
    let mut counts = (0, 0);
    for n in 0..300 {
        match town.market.bids_of(agent(1000 + n), vec![], 0).await.unwrap()[0].status {
            BidStatus::Accepted => counts.0 += 1,
            BidStatus::Rejected => counts.1 += 1,
            status => panic!("{status}"),
        }
    }
    assert_eq!(counts, (1, 299));
    let log = town.log().await;
    assert_eq!(log.iter().filter(|name| **name == "bid.rejected").count(), 299);
}

/// VP-25, VP-43: the card is declined; the job stays open and goes to another bid.
#[tokio::test(flavor = "multi_thread")]
async fn vp_25_a_declined_card_leaves_the_other_bids_alive() {
    for town in Town::everywhere(voxpact(), Custody::PerHold).await {
        let job = town.open_job(2000).await;
        let first = town.market.agent(worker()).place_bid(job.id, price(town.money(1250))).await.unwrap();
        let second = town.market.agent(stranger()).place_bid(job.id, price(town.money(1000))).await.unwrap();
        town.outside.next(Script { course: Course::Declined, ..Script::default() });
        let job = town.market.agent(buyer()).accept_bid(first.id, town.money(1250)).await.unwrap();
        assert_eq!((job.status, job.worker), (JobStatus::PendingPayment, None));
        assert_eq!(town.market.open_jobs(OpenJobs::newest(Wanted::Any)).await.unwrap().len(), 1);
        let job = town.market.agent(buyer()).accept_bid(second.id, town.money(1000)).await.unwrap();
        assert_eq!((job.status, job.worker), (JobStatus::Accepted, Some(stranger())));
        let log = town.log().await;
        assert_eq!(log[4..6], ["payment.failed", "job.reopened"]);
        town.check_books().await;
    }
}

/// A process that dies after the award: the workers of another tell the bids.
#[tokio::test(flavor = "multi_thread")]
async fn vp_25_the_workers_tell_bids_that_nobody_told() {
    for town in Town::everywhere(voxpact(), Custody::PerHold).await {
        let job = town.open_job(2000).await;
        let bid = town.market.agent(worker()).place_bid(job.id, price(town.money(1250))).await.unwrap();
        town.market.agent(stranger()).place_bid(job.id, price(town.money(1000))).await.unwrap();
        // The rail answers later, to the workers.
        let course = Course::Pending(2, tradepost::testkit::Ending::Done);
        town.outside.next(Script { course, ..Script::default() });
        let job = town.market.agent(buyer()).accept_bid(bid.id, town.money(1250)).await.unwrap();
        assert_eq!(job.status, JobStatus::PendingPayment);
        let withdrawn = town.market.agent(worker()).withdraw_bid(bid.id).await;
        assert_eq!(rejection(withdrawn), Rejection::AlreadyChosen { job: job.id, bid: bid.id });
        for _ in 0..10 {
            town.clock.advance(Span::hours(1).delta());
            town.market.run_until_idle().await.unwrap();
        }
        let bids = town.market.bids(&operator(), job.id, 0).await.unwrap();
        let mut statuses: Vec<_> = bids.iter().map(|bid| bid.status).collect();
        statuses.sort();
        assert_eq!(statuses, [BidStatus::Accepted, BidStatus::Rejected]);
        assert_eq!(town.market.job(job.id).await.unwrap().status, JobStatus::Accepted);
    }
}

/// VP-13: the window ends by itself, and so do the bids.
#[tokio::test(flavor = "multi_thread")]
async fn vp_13_workers_end_what_nobody_awarded() {
    for town in Town::everywhere(voxpact(), Custody::PerHold).await {
        let job = town.open_job(2000).await;
        town.market.agent(worker()).place_bid(job.id, price(town.money(1250))).await.unwrap();
        town.clock.advance(Span::hours(48).delta());
        town.market.run_until_idle().await.unwrap();
        assert_eq!(town.market.job(job.id).await.unwrap().status, JobStatus::Cancelled);
        let own = town.market.bids_of(worker(), vec![BidStatus::Rejected], 0).await.unwrap();
        assert_eq!(own.len(), 1);
        assert!(town.market.open_jobs(OpenJobs::newest(Wanted::Any)).await.unwrap().is_empty());
        assert_eq!(town.log().await, ["job.created", "bid.received", "job.cancelled", "bid.rejected"]);
    }
}

/// VP-24: the buyer sees all bids, a worker only its own, nobody else any.
#[tokio::test]
async fn vp_24_nobody_sees_what_is_not_theirs() {
    let town = Town::quick(voxpact(), Custody::PerHold).await;
    let job = town.open_job(2000).await;
    let mine = town.market.agent(worker()).place_bid(job.id, price(town.money(1250))).await.unwrap();
    let theirs = town.market.agent(stranger()).place_bid(job.id, price(town.money(1000))).await.unwrap();
    let sees = async |viewer: Actor| {
        let found = town.market.bids(&viewer, job.id, 0).await.unwrap();
        let mut ids: Vec<_> = found.iter().map(|bid| bid.id).collect();
        ids.sort();
        ids
    };
    let mut both = vec![mine.id, theirs.id];
    both.sort();
    assert_eq!(sees(Actor::Agent(buyer())).await, both);
    assert_eq!(sees(operator()).await, both);
    assert_eq!(sees(Actor::Agent(worker())).await, [mine.id]);
    assert_eq!(sees(Actor::Agent(agent(77))).await, []);
    assert_eq!(sees(crate::support::owner()).await, []);
    let hidden = town.market.bid(&Actor::Agent(worker()), theirs.id).await;
    assert_eq!(rejection(hidden), Rejection::NotFound { what: "bid", id: theirs.id.to_string() });
    assert!(town.market.bid(&Actor::Agent(buyer()), theirs.id).await.is_ok());
    let none = town.market.bids(&operator(), JobId(uuid::Uuid::nil()), 0).await;
    assert!(matches!(rejection(none), Rejection::NotFound { what: "job", .. }));
}

/// PG-15: a key answers what the first command committed, for bids, too.
#[tokio::test]
async fn commands_to_bids_are_keyed() {
    let town = Town::quick(voxpact(), Custody::PerHold).await;
    let job = town.open_job(2000).await;
    let place = async |minor| town.market.agent(worker()).keyed("k").place_bid(job.id, price(town.money(minor))).await;
    let first = place(1250).await.unwrap();
    assert_eq!(place(1250).await.unwrap(), first);
    assert!(matches!(rejection(place(1300).await), Rejection::KeyReused { .. }));
    let accept = async || town.market.agent(buyer()).keyed("a").accept_bid(first.id, town.money(1250)).await;
    let accepted = accept().await.unwrap();
    assert_eq!(accept().await.unwrap().worker, accepted.worker);
    assert_eq!(town.log().await.iter().filter(|name| **name == "job.awarded").count(), 1);
}

/// VP-15: open jobs are listed newest first, in pages by offset or by the last one seen, at most 50.
#[tokio::test(flavor = "multi_thread")]
async fn vp_15_am_05_open_jobs_are_listed_in_pages() {
    for town in Town::everywhere(voxpact(), Custody::PerHold).await {
        let mut posted = Vec::new();
        for n in 0..60 {
            let rare = (n % 20 == 0).then(|| "latin".to_owned());
            let open = OpenOrder {
                requires: rare.into_iter().chain(["translation".into()]).collect(),
                category: Some("texts".into()),
                ..OpenOrder::default()
            };
            posted.push(town.open_job_with(2000, open).await.id);
        }
        posted.reverse();
        let ids = async |which: OpenJobs| {
            let found = town.market.open_jobs(which).await.unwrap();
            found.iter().map(|job| job.id).collect::<Vec<_>>()
        };
        let any = OpenJobs::newest(Wanted::Any);
        assert_eq!(ids(any.clone()).await, posted[..50]);
        assert_eq!(ids(OpenJobs { limit: u32::MAX, ..any.clone() }).await, posted[..50]);
        assert_eq!(ids(OpenJobs { offset: 55, limit: 3, ..any.clone() }).await, posted[55..58]);
        assert_eq!(ids(OpenJobs { before: Some(posted[49]), ..any.clone() }).await, posted[50..]);
        assert_eq!(ids(OpenJobs { before: Some(posted[9]), offset: 2, limit: 2, ..any.clone() }).await, posted[12..14]);
        assert_eq!(ids(OpenJobs { offset: u32::MAX, ..any.clone() }).await, []);
        let latin = OpenJobs::newest(Wanted::Capability("latin".into()));
        assert_eq!(ids(latin.clone()).await, [posted[19], posted[39], posted[59]]);
        assert_eq!(ids(OpenJobs::newest(Wanted::Category("texts".into()))).await.len(), 50);
        for hostile in ["", "' OR 1=1 --", "%", "lat"] {
            assert_eq!(ids(OpenJobs::newest(Wanted::Capability(hostile.into()))).await, []);
        }
        // What is called off or frozen is listed no more, and what is let go is again.
        town.market.agent(buyer()).cancel(posted[19], "no longer needed").await.unwrap();
        town.market.operator("Ada").freeze(posted[39], "looks like fraud").await.unwrap();
        assert_eq!(ids(latin.clone()).await, [posted[59]]);
        town.market.operator("Ada").unfreeze(posted[39]).await.unwrap();
        assert_eq!(ids(latin).await, [posted[39], posted[59]]);
    }
}

/// The policy, with agents that are active once they are registered.
fn plainly_registered(policy: Policy) -> Policy {
    let mut agents = Policy::agentmarket().unwrap().agents;
    agents.grant = 0;
    Policy { agents, ..policy }
}

/// VP-13, AM-04: where agents are kept, only those who list what a job requires may take it, and only
/// active ones are chosen.
#[tokio::test]
async fn vp_13_am_04_kept_agents_must_fit() {
    let policy = plainly_registered(voxpact());
    let town = Town::on(MemoryStore::new(), policy, Custody::PerHold, Agents::Kept).await;
    let buyer = town.register("Buyer", &[]).await;
    let cook = town.register("Cook", &["cooking"]).await;
    let translator = town.register("Translator", &["cooking", "translation"]).await;
    let open = OpenOrder { requires: vec!["translation".into()], ..OpenOrder::default() };
    let order = open_order(&town.market.policy().1, 2000, open);
    let job = town.market.agent(buyer).post_job(order).await.unwrap();
    let refused = town.market.agent(cook).place_bid(job.id, price(town.money(1000))).await;
    assert_eq!(rejection(refused), Rejection::CapabilityMissing { capability: "translation".into() });
    let unknown = town.market.agent(agent(5)).place_bid(job.id, price(town.money(1000))).await;
    assert!(matches!(rejection(unknown), Rejection::NotFound { what: "agent", .. }));
    let bid = town.market.agent(translator).place_bid(job.id, price(town.money(1000))).await.unwrap();
    town.market.operator("Ada").suspend(translator, "spam").await.unwrap();
    let suspended = town.market.agent(buyer).accept_bid(bid.id, town.money(1000)).await;
    assert!(matches!(rejection(suspended), Rejection::WrongAgentStatus { .. }));
    town.market.operator("Ada").reinstate(translator).await.unwrap();
    town.market.agent(buyer).accept_bid(bid.id, town.money(1000)).await.unwrap();
}

/// VP-42: how many jobs a worker's tier allows at once, also when all are taken on in the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn vp_42_a_worker_takes_on_as_many_jobs_as_its_tier_allows() {
    let mut policy = plainly_registered(voxpact());
    for tier in &mut policy.trust.tiers {
        tier.active_jobs_max = tier.active_jobs_max.map(|_| 3);
    }
    policy.validate().unwrap();
    let town = Town::on(MemoryStore::new(), policy, Custody::PerHold, Agents::Kept).await;
    let buyer = town.register("Buyer", &[]).await;
    let worker = town.register("Worker", &[]).await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let order =
            JobOrder { worker: Some(worker), ..open_order(&town.market.policy().1, 2000, OpenOrder::default()) };
        let job = town.market.agent(buyer).post_job(JobOrder { open: None, ..order }).await.unwrap();
        let market = town.market.clone();
        tasks.push(tokio::spawn(async move { market.agent(worker).accept(job.id).await }));
    }
    let (mut taken, mut refused) = (Vec::new(), 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(job) => taken.push(job.id),
            Err(error) => {
                assert!(matches!(error.rejection(), Some(Rejection::TierJobs { max: 3, actual: 3, .. })), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((taken.len(), refused), (3, 5));
    // One that is over makes room.
    town.market.agent(worker).withdraw(taken[0], "no time").await.unwrap();
    let order = JobOrder { worker: Some(worker), ..open_order(&town.market.policy().1, 2000, OpenOrder::default()) };
    let job = town.market.agent(buyer).post_job(JobOrder { open: None, ..order }).await.unwrap();
    town.market.agent(worker).accept(job.id).await.unwrap();
}
