//! VoxPact: registration with ping and activation, a direct job, an open job with bids, a dispute with its
//! ruling (seed 001).

use async_trait::async_trait;
use serde_json::json;
use tradepost::{
    agent::{AcceptedTerms, AgentStatus},
    bid::{BidOrder, BidStatus},
    dispute::{Arbiter, Award, Case, DisputeStatus, EvidenceItem, Filing, Judgement, NoJudgement},
    engine::OpenJobs,
    job::{Delivery, JobOrder, JobStatus, OpenOrder, Wanted},
    ledger::{Account, RevenueKind},
    policy::{EvidenceKind, Policy, Span},
    rail::Custody,
    review::Rating,
};

use super::*;

/// Tier 1: an arbiter that is less sure than the policy asks for.
struct Unsure;

#[async_trait]
impl Arbiter for Unsure {
    async fn judge(&self, case: &Case) -> Result<Judgement, NoJudgement> {
        assert_eq!(case.deliveries.len(), 1);
        Ok(Judgement { award: Award::Worker, confidence: rate("0.6"), reasoning: "hard to say".into() })
    }
}

impl Stage {
    /// Registers an agent and activates it, as its owner does.
    async fn join(&self, name: &str, capabilities: &[&str]) -> AgentId {
        // POST /v1/agents/register: a signed ping, no key yet.
        let made = self.register(name, capabilities).await;
        let id = made.agent.id;
        assert_eq!((made.agent.status, made.key.is_none()), (AgentStatus::PendingVerification, true));
        let ping = &self.requests(name)[0];
        assert_eq!(ping.json()["event"], "webhook.ping");
        assert!(ping.header("x-voxpact-signature").is_some());
        // POST /v1/agents/activate: the first one of an owner is free, the key is revealed once.
        let (owner, token) = (self.owner(&format!("{name}@example.com")), made.token.unwrap());
        let terms = AcceptedTerms("2026-01".into());
        let active = self.market.by(owner).confirm(id, token.expose(), terms).await.unwrap();
        let key = active.key.unwrap();
        assert_eq!(active.agent.status, AgentStatus::Active);
        assert!(key.expose().starts_with("vxp_live_"));
        // POST /v1/agents/auth/token
        assert_eq!(self.market.verify_key(key.expose()).await.unwrap().agent, id);
        let standing = self.market.standing(id).await.unwrap();
        assert_eq!((standing.score.to_string(), standing.tier.as_str()), ("50".into(), "silver"));
        id
    }

    fn direct(&self, worker: AgentId, minor: i64) -> JobOrder {
        JobOrder {
            task: object(json!({ "description": "...", "input_url": "https://example.com/text" })),
            worker: Some(worker),
            deadline: Some(Span::hours(24)),
            ..JobOrder::new("Summarise this document", self.money(minor))
        }
    }
}

/// VP-01, 02, 12, 16, 17, 19, 21, 29, 36, 38: two agents join; a direct job from posting to payout.
#[tokio::test(flavor = "multi_thread")]
async fn voxpacts_direct_job() {
    on_each(
        &Policy::voxpact().unwrap(),
        Custody::PerHold,
        |builder| builder,
        async |stage: Stage| {
            let market = &stage.market;
            let (buyer, worker) =
                (stage.join("buyer", &[]).await, stage.join("summarizer-v2", &["summarization"]).await);
            // A further agent of the same owner waits for its 5.00 €.
            let further = Registration {
                name: "second".into(),
                email: Some("buyer@example.com".into()),
                profile: Profile { webhook: Some("https://second.example/webhook".into()), ..Profile::default() },
            };
            let owner = || stage.owner("buyer@example.com");
            let further = market.by(owner()).register(further).await.unwrap();
            let (token, terms) = (further.token.unwrap(), AcceptedTerms("2026-01".into()));
            let further = market.by(owner()).confirm(further.agent.id, token.expose(), terms).await.unwrap().agent;
            assert_eq!((further.status, further.fee), (AgentStatus::AwaitingFee, Some(stage.money(500))));

            // POST /v1/jobs: the card is charged and the money held at once.
            let job = market.agent(buyer).post_job(stage.direct(worker, 500)).await.unwrap();
            assert_eq!((job.status, stage.world.hold(job.id.into())), (JobStatus::Funded, Some(stage.money(500))));
            stage.idle().await;
            stage.idle().await;
            assert_eq!(market.agent(worker).accept(job.id).await.unwrap().status, JobStatus::Accepted);
            market.agent(worker).start(job.id).await.unwrap();
            let output = object(json!({ "word_count": 450 }));
            let delivery = Delivery { content_type: Some("text/plain".into()), output };
            assert_eq!(market.agent(worker).deliver(job.id, delivery).await.unwrap().status, JobStatus::Delivered);
            // POST /v1/jobs/:id/revision, and once more.
            let feedback = "Please include more detail on section 3";
            let revised = market.agent(buyer).request_revision(job.id, feedback).await.unwrap();
            assert_eq!(revised.status, JobStatus::RevisionRequested);
            market.agent(worker).deliver(job.id, Delivery::default()).await.unwrap();
            assert_eq!(market.agent(buyer).approve(job.id).await.unwrap().status, JobStatus::Completed);
            let rating = Rating { rating: 5, comment: "Excellent work, fast delivery".into(), tags: vec![] };
            market.agent(buyer).review(job.id, rating).await.unwrap();
            stage.idle().await;

            assert_eq!(stage.world.outside(worker), 450); // silver: 10 % of 5.00 € stays
            assert_eq!(market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap(), stage.money(50));
            let told = [
                "job.created",
                "job.funded",
                "job.accepted",
                "job.started",
                "job.delivered",
                "job.revision_requested",
                "job.delivered",
                "job.completed",
                "payment.received",
            ];
            assert_eq!(stage.log(job.id).await, told);
            // GET /v1/payouts/history
            let earned = market.earnings(worker, 0, 10).await.unwrap();
            assert_eq!((earned.total_earned, earned.total_jobs), (stage.money(450), 1));
            let line = &earned.jobs[0];
            assert_eq!((line.gross, line.fee, line.net), (stage.money(500), stage.money(50), stage.money(450)));

            let id = json!(job.id);
            let created = json!({
                "job_id": id, "worker_agent_id": worker, "title": "Summarise this document",
                "task_spec": { "description": "...", "input_url": "https://example.com/text" },
                "amount": "5.00", "deadline": job.timers.deadline,
            });
            assert_eq!(stage.one("summarizer-v2", "job.created"), created);
            assert_eq!(stage.one("buyer", "job.accepted"), json!({ "job_id": id, "worker_agent_id": worker }));
            let mut revisions: Vec<_> = stage
                .posted("buyer", "job.delivered")
                .iter()
                .map(|told| told["revision_number"].as_u64().unwrap())
                .collect();
            revisions.sort_unstable();
            assert_eq!(revisions, [1, 2]);
            let asked = stage.one("summarizer-v2", "job.revision_requested");
            assert_eq!(asked, json!({ "job_id": id, "feedback": feedback }));
            let paid = json!({ "job_id": id, "amount": "4.50", "platform_fee": "0.50" });
            assert_eq!(stage.one("summarizer-v2", "payment.received"), paid);
            // Half a point for the job, half for the rating.
            let moved = stage.posted("summarizer-v2", "trust.updated");
            assert_eq!(moved.len(), 2, "{moved:?}");
            assert_eq!(market.standing(worker).await.unwrap().score.to_string(), "51");
            stage.check_books().await;
        },
    )
    .await;
}

/// VP-13, 15, 24, 25, 26: `job_type: open`, browsing, bids, a counter-offer, acceptance at its price.
#[tokio::test(flavor = "multi_thread")]
async fn voxpacts_open_job() {
    on_each(
        &Policy::voxpact().unwrap(),
        Custody::PerHold,
        |builder| builder,
        async |stage: Stage| {
            let market = &stage.market;
            let buyer = stage.join("buyer", &[]).await;
            let (worker, rival) =
                (stage.join("worker", &["translation"]).await, stage.join("rival", &["translation"]).await);
            let open = OpenOrder {
                requires: vec!["translation".into()],
                window: Some(Span::hours(48)),
                reserve: Some(stage.money(500)),
                ..OpenOrder::default()
            };
            let order = JobOrder {
                task: object(json!({ "description": "..." })),
                deadline: Some(Span::hours(72)),
                open: Some(open),
                ..JobOrder::new("Translate this article", stage.money(2000))
            };
            let job = market.agent(buyer).post_job(order).await.unwrap();
            assert_eq!(job.status, JobStatus::PendingPayment);

            // GET /v1/jobs/open: nobody logs in, and the reserve is the buyer's alone.
            let listed = market.open_jobs(OpenJobs::newest(Wanted::Any)).await.unwrap();
            assert_eq!((listed.len(), listed[0].id, &*listed[0].title), (1, job.id, "Translate this article"));
            assert_eq!(
                (listed[0].amount, &listed[0].requires[..]),
                (stage.money(2000), &["translation".to_owned()][..])
            );
            assert!(!serde_json::to_string(&listed).unwrap().contains("reserve"));

            // POST /v1/jobs/:id/bids
            let bid = BidOrder {
                price: Some(stage.money(1250)),
                hours: Some(2),
                message: "I can complete this quickly".into(),
            };
            let bid = market.agent(worker).place_bid(job.id, bid).await.unwrap();
            assert_eq!((bid.status, bid.hours), (BidStatus::Active, Some(2)));
            let other = BidOrder { price: Some(stage.money(1100)), ..BidOrder::default() };
            let other = market.agent(rival).place_bid(job.id, other).await.unwrap();

            // POST /v1/bids/:id/counter, and the worker accepts it.
            market.agent(buyer).counter_bid(bid.id, stage.money(900), "How about this price?").await.unwrap();
            let job = market.agent(worker).accept_bid(bid.id, stage.money(900)).await.unwrap();
            assert_eq!(
                (job.status, job.worker, job.terms.amount),
                (JobStatus::Accepted, Some(worker), stage.money(900))
            );
            assert_eq!(stage.world.hold(job.id.into()), Some(stage.money(900)));
            for (id, status) in [(bid.id, BidStatus::Accepted), (other.id, BidStatus::Rejected)] {
                assert_eq!(market.bid(&Actor::Agent(buyer), id).await.unwrap().status, status);
            }
            assert!(market.open_jobs(OpenJobs::newest(Wanted::Any)).await.unwrap().is_empty());

            market.agent(worker).start(job.id).await.unwrap();
            market.agent(worker).deliver(job.id, Delivery::default()).await.unwrap();
            assert_eq!(market.agent(buyer).approve(job.id).await.unwrap().status, JobStatus::Completed);
            stage.idle().await;
            assert_eq!(stage.world.outside(worker), 810); // silver: 10 % of 9.00 € stays
            assert_eq!(market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap(), stage.money(90));
            let told = [
                "job.created",
                "job.awarded",
                "job.funded",
                "job.accepted",
                "job.started",
                "job.delivered",
                "job.completed",
                "payment.received",
            ];
            assert_eq!(stage.log(job.id).await, told);
            let prices: Vec<_> =
                stage.posted("buyer", "bid.received").iter().map(|told| told["price"].clone()).collect();
            assert!(
                prices.len() == 2 && prices.contains(&json!("12.50")) && prices.contains(&json!("11.00")),
                "{prices:?}"
            );
            let accepted = json!({
                "job_id": job.id, "bid_id": bid.id, "agreed_price": "9.00", "deadline": job.timers.deadline,
            });
            assert_eq!(stage.one("worker", "bid.accepted"), accepted);
            assert!(stage.requests("rival").iter().all(|one| one.json()["event"] == "webhook.ping"));
            stage.check_books().await;
        },
    )
    .await;
}

/// VP-30, 31, 38: a dispute; tier 1 is not sure enough, people split; the worker's notice says what the
/// platform took of the split.
#[tokio::test(flavor = "multi_thread")]
async fn voxpacts_dispute() {
    on_each(
        &Policy::voxpact().unwrap(),
        Custody::PerHold,
        |builder| builder.arbiter(Unsure),
        async |stage: Stage| {
            let market = &stage.market;
            let (buyer, worker) = (stage.join("buyer", &[]).await, stage.join("worker", &[]).await);
            let job = market.agent(buyer).post_job(stage.direct(worker, 2000)).await.unwrap().id;
            market.agent(worker).accept(job).await.unwrap();
            market.agent(worker).start(job).await.unwrap();
            market.agent(worker).deliver(job, Delivery::default()).await.unwrap();
            // POST /v1/jobs/:id/dispute
            let (kind, content) = (EvidenceKind::Text, "Ten pages, please".to_owned());
            let filing = Filing {
                category: None,
                reason: "Deliverable does not match the task spec".into(),
                evidence: vec![EvidenceItem { kind, label: "Original spec".into(), content }],
            };
            let dispute = market.agent(buyer).open_dispute(job, filing).await.unwrap();
            assert_eq!(market.job(job).await.unwrap().status, JobStatus::Disputed);
            stage.pass(Span::hours(24)).await; // the worker does not answer; then tier 1 judges
            assert_eq!(market.dispute(dispute.id).await.unwrap().status, DisputeStatus::Review);
            market.operator("Ada").take_up(dispute.id).await.unwrap();
            let split = Award::Split { to_worker: rate("0.5") };
            let ruled = market.operator("Ada").rule(dispute.id, split, "half of it is there").await.unwrap();
            assert_eq!(ruled.status, DisputeStatus::Resolved);
            stage.idle().await;

            assert_eq!((stage.world.outside(worker), stage.world.outside(buyer)), (900, -1000));
            assert_eq!(market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap(), stage.money(100));
            let told = [
                "job.created",
                "job.funded",
                "job.accepted",
                "job.started",
                "job.delivered",
                "job.disputed",
                "job.dispute_ended",
                "job.completed",
                "payment.received",
            ];
            assert_eq!(stage.log(job).await, told);
            let history = market.dispute_history(dispute.id).await.unwrap();
            let names: Vec<_> = history.iter().map(|logged| logged.event.body.name()).collect();
            let steps = [
                "dispute.opened",
                "dispute.evidence_added",
                "dispute.unanswered",
                "dispute.escalated",
                "dispute.taken_up",
                "dispute.resolved",
            ];
            assert_eq!(names, steps);
            let both = json!({ "dispute_id": dispute.id, "job_id": job });
            assert_eq!(stage.one("worker", "job.disputed"), both);
            for name in ["buyer", "worker"] {
                assert_eq!(stage.one(name, "dispute.escalated"), both);
                let resolved = json!({ "dispute_id": dispute.id, "job_id": job, "ruling": "split" });
                assert_eq!(stage.one(name, "dispute.resolved"), resolved);
            }
            let paid = json!({ "job_id": job, "amount": "9.00", "platform_fee": "1.00" });
            assert_eq!(stage.one("worker", "payment.received"), paid);
            stage.check_books().await;
        },
    )
    .await;
}

/// VP-23: the worker's compensation is told with what the platform took of it: nothing.
#[tokio::test(flavor = "multi_thread")]
async fn voxpacts_cancelled_job() {
    on_each(
        &Policy::voxpact().unwrap(),
        Custody::PerHold,
        |builder| builder,
        async |stage: Stage| {
            let market = &stage.market;
            let (buyer, worker) = (stage.join("buyer", &[]).await, stage.join("worker", &[]).await);
            let job = market.agent(buyer).post_job(stage.direct(worker, 2000)).await.unwrap().id;
            market.agent(worker).accept(job).await.unwrap();
            market.agent(worker).start(job).await.unwrap();
            let cancelled = market.agent(buyer).cancel(job, "No longer needed").await.unwrap();
            assert_eq!(cancelled.status, JobStatus::Cancelled);
            stage.idle().await;
            assert_eq!((stage.world.outside(worker), stage.world.outside(buyer)), (500, -500)); // 25 %
            let told = json!({
                "job_id": job, "reason": "No longer needed", "refunded_to": "buyer", "cancellation_fee": "0.00",
            });
            assert_eq!(stage.one("worker", "job.cancelled"), told);
            let paid = json!({ "job_id": job, "amount": "5.00", "platform_fee": "0.00" });
            assert_eq!(stage.one("worker", "payment.received"), paid);
            stage.check_books().await;
        },
    )
    .await;
}

/// VP-38, VP-39: a card authorisation that the rail gave up is told as the payment's end, once.
#[tokio::test(flavor = "multi_thread")]
async fn voxpacts_expired_authorisation() {
    on_each(
        &Policy::voxpact().unwrap(),
        Custody::PerHold,
        |builder| builder,
        async |stage: Stage| {
            let market = &stage.market;
            let (buyer, worker) = (stage.join("buyer", &[]).await, stage.join("worker", &[]).await);
            let job = market.agent(buyer).post_job(stage.direct(worker, 2000)).await.unwrap();
            stage.world.expire(job.id.into());
            stage.idle().await;
            assert_eq!(market.job(job.id).await.unwrap().status, JobStatus::Cancelled);
            assert_eq!(stage.log(job.id).await, ["job.created", "job.funded", "job.expired"]);
            let told = json!({ "job_id": job.id, "payment_intent_id": job.hold.funding });
            assert_eq!(stage.one("buyer", "payment.canceled"), told);
            assert_eq!(stage.one("buyer", "job.expired"), json!({ "job_id": job.id }));
            stage.check_books().await;
        },
    )
    .await;
}
