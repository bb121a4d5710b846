//! The systems' own documented stories of open jobs, from their public documents, on every store.

use serde_json::json;
use tradepost::{
    actor::Actor,
    bid::{BidOrder, BidStatus},
    engine::OpenJobs,
    error::Rejection,
    job::{Delivery, JobOrder, JobStatus, OpenOrder, Wanted},
    ledger::{Account, RevenueKind},
    policy::{Policy, Span},
    rail::Custody,
};

use super::town::{Town, rejection};
use crate::support::{buyer, stranger, voxpact, worker};

fn object(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    value.as_object().unwrap().clone()
}

/// VoxPact: `POST /v1/jobs` with `job_type: open`, browsing, bids, a counter-offer, acceptance at its
/// price, delivery, approval (VP-13, VP-15, VP-17, VP-19, VP-21, VP-24, VP-25, VP-26, VP-38).
#[tokio::test(flavor = "multi_thread")]
async fn voxpacts_open_job() {
    for town in Town::everywhere(voxpact(), Custody::PerHold).await {
        let market = &town.market;
        let order = JobOrder {
            title: "Translate this article".into(),
            task: object(json!({ "description": "..." })),
            amount: town.money(2000),
            worker: None,
            rail: None,
            deadline: Some(Span::hours(72)),
            validation: None,
            open: Some(OpenOrder {
                requires: vec!["translation".into()],
                window: Some(Span::hours(48)),
                reserve: Some(town.money(500)),
                ..OpenOrder::default()
            }),
        };
        let job = market.agent(buyer()).post_job(order).await.unwrap();
        assert_eq!(job.status, JobStatus::PendingPayment);

        // GET /v1/jobs/open: nobody logs in, and the reserve is the buyer's alone.
        let listed = market.open_jobs(OpenJobs::newest(Wanted::Any)).await.unwrap();
        assert_eq!((listed.len(), listed[0].id, &*listed[0].title), (1, job.id, "Translate this article"));
        assert_eq!((listed[0].amount, &listed[0].requires[..]), (town.money(2000), &["translation".to_owned()][..]));
        assert!(!serde_json::to_string(&listed).unwrap().contains("reserve"));

        // POST /v1/jobs/:id/bids
        let message = "I can complete this quickly".to_owned();
        let bid = BidOrder { price: Some(town.money(1250)), hours: Some(2), message };
        let bid = market.agent(worker()).place_bid(job.id, bid).await.unwrap();
        assert_eq!((bid.status, bid.hours), (BidStatus::Active, Some(2)));
        let rival = BidOrder { price: Some(town.money(1100)), ..BidOrder::default() };
        let rival = market.agent(stranger()).place_bid(job.id, rival).await.unwrap();

        // POST /v1/bids/:id/counter, and the worker accepts it.
        market.agent(buyer()).counter_bid(bid.id, town.money(900), "How about this price?").await.unwrap();
        let job = market.agent(worker()).accept_bid(bid.id, town.money(900)).await.unwrap();
        assert_eq!((job.status, job.worker, job.terms.amount), (JobStatus::Accepted, Some(worker()), town.money(900)));
        assert_eq!(town.outside.hold(job.id.into()), Some(town.money(900)));
        let told = [(bid.id, BidStatus::Accepted), (rival.id, BidStatus::Rejected)];
        for (id, status) in told {
            assert_eq!(market.bid(&Actor::Agent(buyer()), id).await.unwrap().status, status);
        }
        assert!(market.open_jobs(OpenJobs::newest(Wanted::Any)).await.unwrap().is_empty());

        market.agent(worker()).start(job.id).await.unwrap();
        market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap();
        let done = market.agent(buyer()).approve(job.id).await.unwrap();
        assert_eq!(done.status, JobStatus::Completed);
        assert_eq!(town.outside.outside(worker()), 810); // silver: 10 % of 9.00 € stays
        assert_eq!(market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap(), town.money(90));
        let expected = [
            "job.created",
            "bid.received",
            "bid.received",
            "bid.countered",
            "job.awarded",
            "job.funded",
            "job.accepted",
            "bid.accepted",
            "bid.rejected",
            "job.started",
            "job.delivered",
            "job.completed",
            "payment.received",
        ];
        let mut log = town.log().await;
        if let Some(place) =
            log.iter().position(|name| *name == "bid.rejected").filter(|place| log[place + 1] == "bid.accepted")
        {
            log.swap(place, place + 1); // bids are told in no particular order
        }
        assert_eq!(log, expected);
        town.check_books().await;
    }
}

/// JustPayAI: an open job of 5 USDC, applications with a pitch, one accepted, delivered, accepted by
/// silence after five minutes (JP-10, JP-11, JP-12).
#[tokio::test(flavor = "multi_thread")]
async fn justpayais_applications() {
    for town in Town::everywhere(Policy::justpayai().unwrap(), Custody::Pooled).await {
        let market = &town.market;
        town.endow(10_000_000).await;
        let order = JobOrder {
            title: "Need a logo for my AI startup".into(),
            task: object(json!({ "style": "minimalist", "colors": ["blue", "white"] })),
            amount: town.money(5_000_000),
            worker: None,
            rail: None,
            deadline: None,
            validation: None,
            open: Some(OpenOrder {
                description: Some("Generate a minimalist logo with blue and white colors.".into()),
                category: Some("image-generation".into()),
                window: Some(Span::seconds(86_400)),
                ..OpenOrder::default()
            }),
        };
        let job = market.agent(buyer()).post_job(order).await.unwrap();
        assert_eq!(town.available(buyer()).await, 10_000_000); // nothing is locked yet

        // GET /api/v1/jobs/open?category=image-generation
        let images = Wanted::Category("image-generation".into());
        let listed = market.open_jobs(OpenJobs::newest(images.clone())).await.unwrap();
        assert_eq!((listed.len(), listed[0].id), (1, job.id));
        assert_eq!(listed[0].closes_at, Some(town.market_now() + Span::seconds(86_400).delta()));
        let other = Wanted::Category("text-processing".into());
        assert!(market.open_jobs(OpenJobs::newest(other)).await.unwrap().is_empty());

        let pitch = |text: &str| BidOrder { message: text.into(), ..BidOrder::default() };
        let chosen = market.agent(worker()).place_bid(job.id, pitch("I drew 40 logos")).await.unwrap();
        let passed_over = market.agent(stranger()).place_bid(job.id, pitch("me, too")).await.unwrap();
        let all = market.bids(&Actor::Agent(buyer()), job.id, 0).await.unwrap();
        assert_eq!(all.len(), 2);

        // POST /api/v1/jobs/:id/applications/:appId/accept: amount and 3 % are locked.
        let job = market.agent(buyer()).accept_bid(chosen.id, town.money(5_000_000)).await.unwrap();
        assert_eq!((job.status, job.worker), (JobStatus::Accepted, Some(worker())));
        assert_eq!(town.available(buyer()).await, 4_850_000);
        assert_eq!(job.timers.deadline, Some(town.market_now() + Span::seconds(300).delta()));
        let rejected = market.bid(&Actor::Agent(stranger()), passed_over.id).await.unwrap();
        assert_eq!(rejected.status, BidStatus::Rejected);
        let late = market.agent(stranger()).place_bid(job.id, pitch("take me")).await;
        assert_eq!(rejection(late), Rejection::AlreadyChosen { job: job.id, bid: chosen.id });

        market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap();
        town.clock.advance(Span::seconds(300).delta());
        market.run_until_idle().await.unwrap();
        assert_eq!(market.job(job.id).await.unwrap().status, JobStatus::Completed);
        assert_eq!(town.available(worker()).await, 5_000_000);
        assert_eq!(market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap(), town.money(150_000));
        let log = town.log().await;
        let of_the_job: Vec<_> = log.into_iter().filter(|name| !name.starts_with("wallet.")).collect();
        assert_eq!(
            of_the_job[..6],
            ["job.created", "bid.received", "bid.received", "job.awarded", "job.funded", "job.accepted"]
        );
        assert_eq!(of_the_job[8..], ["job.delivered", "job.completed"]);
        town.check_books().await;
    }
}

/// AgentMarket: a task of 25 credits is listed by capability, taken by whoever is first, escrowed from
/// the poster's wallet then, and paid at once, 90 to 10 (AM-04, AM-05, AM-06, AM-07, AM-08).
#[tokio::test(flavor = "multi_thread")]
async fn agentmarkets_task() {
    for town in Town::everywhere(Policy::agentmarket().unwrap(), Custody::Pooled).await {
        let market = &town.market;
        town.endow(100).await;
        let order = JobOrder {
            title: "Summarize this research paper".into(),
            task: object(json!({ "description": "Full text of the paper..." })),
            amount: town.money(25),
            worker: None,
            rail: None,
            deadline: None,
            validation: None,
            open: Some(OpenOrder { requires: vec!["research".into(), "summarization".into()], ..OpenOrder::default() }),
        };
        let task = market.agent(buyer()).post_job(order.clone()).await.unwrap();
        assert_eq!(town.available(buyer()).await, 100);

        // GET /api/tasks?status=open&capability=research
        for (capability, found) in [("research", 1), ("summarization", 1), ("coding", 0)] {
            let wanted = OpenJobs { limit: 20, ..OpenJobs::newest(Wanted::Capability(capability.into())) };
            assert_eq!(market.open_jobs(wanted).await.unwrap().len(), found, "{capability}");
        }

        // POST /api/tasks/{id}/accept
        let assigned = market.agent(worker()).accept(task.id).await.unwrap();
        assert_eq!((assigned.status, assigned.worker), (JobStatus::Accepted, Some(worker())));
        assert_eq!(town.available(buyer()).await, 75);
        assert!(market.open_jobs(OpenJobs::newest(Wanted::Any)).await.unwrap().is_empty());
        assert!(matches!(rejection(market.agent(stranger()).accept(task.id).await), Rejection::WrongStatus { .. }));

        // POST /api/tasks/{id}/complete
        let output = object(json!({ "result": "Here is the completed summary..." }));
        let done = market.agent(worker()).deliver(task.id, Delivery { content_type: None, output }).await.unwrap();
        assert_eq!(done.status, JobStatus::Completed);
        assert_eq!(town.available(worker()).await, 22); // 90 % of 25 is 22.5, and half a credit there is not
        assert_eq!(market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap(), town.money(3));

        // AM-06: not enough credits fails the accept and changes nothing.
        let dear = market.agent(buyer()).post_job(JobOrder { amount: town.money(76), ..order }).await.unwrap();
        let refused = rejection(market.agent(worker()).accept(dear.id).await);
        assert_eq!(refused, Rejection::BuyerCannotPay { needed: town.money(76) });
        assert_eq!(market.job(dear.id).await.unwrap(), dear);
        town.check_books().await;
    }
}
