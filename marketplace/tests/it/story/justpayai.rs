//! JustPayAI: registration, the deposit that activates, a direct job, an open job with applications, a dispute,
//! withdrawal, a changed address, panic (seed 003).

use serde_json::json;
use tradepost::{
    agent::AgentStatus,
    bid::{BidOrder, BidStatus},
    dispute::{Award, DisputeStatus, Filing},
    engine::OpenJobs,
    job::{Delivery, JobOrder, JobStatus, OpenOrder, Wanted},
    ledger::{Account, RevenueKind},
    policy::{Policy, Span},
    rail::Custody,
    wallet::HistoryKind,
};

use super::*;

const FIRST: &str = "7xKXtg2CW87d97TXJSDpbD5jBkheTqA83TZRuJosgAsU";
const SECOND: &str = "9yLYuh3DX98e08UYKTEqcE6kClifUrB94UASvKptrBtV";

impl Stage {
    /// Registers an agent and activates it by its first deposit, in micro-units.
    async fn fund(&self, name: &str, deposit: i64, from: &str) -> AgentId {
        // POST /api/v1/auth/register: the key at once, not activated.
        let made = self.register(name, &["image-generation"]).await;
        let id = made.agent.id;
        assert_eq!(made.agent.status, AgentStatus::AwaitingDeposit);
        assert!(made.key.unwrap().expose().starts_with("jp_"));
        // USDC arrives on chain; POST /api/v1/wallet/confirm-deposit
        self.world.deposit(id, self.money(deposit), from);
        self.idle().await;
        assert_eq!(self.market.registered(id).await.unwrap().status, AgentStatus::Active);
        assert_eq!(self.available(id).await, deposit - 1_000_000);
        id
    }
}

/// JP-01, 02, 10, 12, 24 to 28, 33, 34: deposit, activation, hire, payment, withdrawal, panic.
#[tokio::test(flavor = "multi_thread")]
async fn justpayais_wallets_and_a_direct_job() {
    on_each(&Policy::justpayai().unwrap(), Custody::Pooled, |builder| builder, async |stage: Stage| {
        let market = &stage.market;
        let client = stage.fund("client", 21_000_000, FIRST).await;
        let provider = stage.fund("provider", 1_000_000, SECOND).await;
        assert_eq!(market.balance(Account::Revenue(RevenueKind::Activations), None).await.unwrap().minor(), 2_000_000);

        // POST /api/v1/jobs, type direct: amount and 3 % are locked at creation.
        let order = JobOrder {
            task: object(json!({ "text": "..." })),
            worker: Some(provider),
            ..JobOrder::new("GPT-4 Text Summarizer", stage.money(10_000_000))
        };
        let job = market.agent(client).post_job(order).await.unwrap();
        assert_eq!(job.status, JobStatus::Accepted);
        let unknown = market.standing(client).await.unwrap().score;
        stage.idle().await;
        let wallet = market.wallet(client).await.unwrap();
        let balances = [wallet.available, wallet.escrowed, wallet.pending, wallet.total].map(Money::minor);
        assert_eq!(balances, [9_700_000, 10_300_000, 0, 20_000_000]);
        market.agent(provider).deliver(job.id, Delivery::default()).await.unwrap();
        assert_eq!(market.agent(client).approve(job.id).await.unwrap().status, JobStatus::Completed);
        stage.idle().await;
        assert_eq!((stage.available(provider).await, stage.available(client).await), (10_000_000, 9_700_000));
        assert_eq!(market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap().minor(), 300_000);
        let told = ["job.created", "job.funded", "job.accepted", "job.delivered", "job.completed"];
        assert_eq!(stage.log(job.id).await, told);
        let created = stage.one("provider", "job.created");
        assert_eq!((&created["input"], &created["amount"]), (&json!({ "text": "..." }), &json!(10_000_000)));
        let new_client = json!({
            "trustScore": unknown, "disputeRate": "0", "jobsCompleted": 0, "totalDisputesFiled": 0, "isRestricted": false,
        });
        assert_eq!(created["clientReputation"], new_client);
        assert_eq!(stage.one("client", "job.delivered")["job_id"], json!(job.id));
        let completed = json!({ "job_id": job.id, "amount": 10_000_000 });
        assert_eq!(stage.one("provider", "job.completed"), completed);
        let request = &stage.requests("provider")[0];
        assert!(request.header("x-justpayai-signature").is_some());

        // PUT /wallet/withdrawal-address: the first one at once. POST /wallet/withdraw: 5 USDC, of which 4.90 arrive.
        let me = || market.agent(provider);
        me().set_withdrawal_address(provider, FIRST).await.unwrap();
        me().withdraw_money(provider, stage.money(5_000_000)).await.unwrap();
        stage.idle().await;
        assert_eq!((stage.available(provider).await, stage.world.outside(provider)), (5_000_000, 3_900_000));
        // A change starts 24 hours in which nothing leaves, and is told.
        me().set_withdrawal_address(provider, SECOND).await.unwrap();
        let refused = me().withdraw_money(provider, stage.money(5_000_000)).await;
        assert!(matches!(rejection(refused), Rejection::TooSoon { .. }));
        stage.idle().await;
        assert_eq!(market.wallet(provider).await.unwrap().warnings.len(), 1);
        let until = start() + Span::hours(24).delta();
        let warning = json!({ "address": SECOND, "cool_down_until": until });
        assert_eq!(stage.one("provider", "wallet.address_changed"), warning);
        // POST /wallet/panic: everything to where the first deposit came from, past the cool-down.
        me().panic(provider).await.unwrap();
        stage.idle().await;
        assert_eq!(stage.available(provider).await, 0);
        let kinds: Vec<_> =
            market.wallet_history(provider, 0, 50).await.unwrap().into_iter().map(|line| line.kind).collect();
        let lived = [
            HistoryKind::Deposit, HistoryKind::Fee, HistoryKind::Earned, HistoryKind::Withdrawal, HistoryKind::Withdrawal,
        ];
        assert_eq!(kinds, lived);
        stage.check_books().await;
    })
    .await;
}

/// JP-10, 11, 12: an open job of 5 USDC, applications with a pitch, one accepted, delivered, accepted by
/// silence after five minutes.
#[tokio::test(flavor = "multi_thread")]
async fn justpayais_applications() {
    on_each(
        &Policy::justpayai().unwrap(),
        Custody::Pooled,
        |builder| builder,
        async |stage: Stage| {
            let market = &stage.market;
            let client = stage.fund("client", 11_000_000, FIRST).await;
            let (worker, other) =
                (stage.fund("worker", 1_000_000, SECOND).await, stage.fund("other", 1_000_000, SECOND).await);
            let order = JobOrder {
                task: object(json!({ "style": "minimalist", "colors": ["blue", "white"] })),
                open: Some(OpenOrder {
                    description: Some("Generate a minimalist logo with blue and white colors.".into()),
                    category: Some("image-generation".into()),
                    window: Some(Span::seconds(86_400)),
                    ..OpenOrder::default()
                }),
                ..JobOrder::new("Need a logo for my AI startup", stage.money(5_000_000))
            };
            let job = market.agent(client).post_job(order).await.unwrap();
            assert_eq!(stage.available(client).await, 10_000_000); // nothing is locked yet

            // GET /api/v1/jobs/open?category=image-generation
            let images = Wanted::Category("image-generation".into());
            let listed = market.open_jobs(OpenJobs::newest(images)).await.unwrap();
            assert_eq!((listed.len(), listed[0].id), (1, job.id));
            assert_eq!(listed[0].closes_at, Some(start() + Span::seconds(86_400).delta()));
            let texts = Wanted::Category("text-processing".into());
            assert!(market.open_jobs(OpenJobs::newest(texts)).await.unwrap().is_empty());

            let pitch = |text: &str| BidOrder { message: text.into(), ..BidOrder::default() };
            let chosen = market.agent(worker).place_bid(job.id, pitch("I drew 40 logos")).await.unwrap();
            let passed_over = market.agent(other).place_bid(job.id, pitch("me, too")).await.unwrap();
            assert_eq!(market.bids(&Actor::Agent(client), job.id, 0).await.unwrap().len(), 2);

            // POST /api/v1/jobs/:id/applications/:appId/accept: amount and 3 % are locked.
            let job = market.agent(client).accept_bid(chosen.id, stage.money(5_000_000)).await.unwrap();
            assert_eq!((job.status, job.worker), (JobStatus::Accepted, Some(worker)));
            assert_eq!(stage.available(client).await, 4_850_000);
            assert_eq!(job.timers.deadline, Some(start() + Span::seconds(300).delta()));
            let rejected = market.bid(&Actor::Agent(other), passed_over.id).await.unwrap();
            assert_eq!(rejected.status, BidStatus::Rejected);
            let late = market.agent(other).place_bid(job.id, pitch("take me")).await;
            assert_eq!(rejection(late), Rejection::AlreadyChosen { job: job.id, bid: chosen.id });

            market.agent(worker).deliver(job.id, Delivery::default()).await.unwrap();
            stage.pass(Span::seconds(300)).await;
            assert_eq!(market.job(job.id).await.unwrap().status, JobStatus::Completed);
            assert_eq!(stage.available(worker).await, 5_000_000);
            assert_eq!(market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap(), stage.money(150_000));
            let told = ["job.created", "job.awarded", "job.funded", "job.accepted", "job.delivered", "job.completed"];
            assert_eq!(stage.log(job.id).await, told);
            let accepted = json!({ "job_id": job.id, "application_id": chosen.id });
            assert_eq!(stage.one("worker", "job.accepted"), accepted);
            assert!(stage.requests("other").is_empty());
            stage.check_books().await;
        },
    )
    .await;
}

/// JP-13, 33: a dispute costs its fee and never gives it back, an admin rules, both scores move.
#[tokio::test(flavor = "multi_thread")]
async fn justpayais_dispute() {
    on_each(
        &Policy::justpayai().unwrap(),
        Custody::Pooled,
        |builder| builder,
        async |stage: Stage| {
            let market = &stage.market;
            let client = stage.fund("client", 21_000_000, FIRST).await;
            let provider = stage.fund("provider", 1_000_000, SECOND).await;
            let before = [market.standing(client).await.unwrap(), market.standing(provider).await.unwrap()];
            let order = JobOrder { worker: Some(provider), ..JobOrder::new("Summarize", stage.money(5_000_000)) };
            let job = market.agent(client).post_job(order).await.unwrap().id;
            market.agent(provider).deliver(job, Delivery::default()).await.unwrap();
            // POST /api/v1/jobs/:id/dispute
            let reason = "Output was completely off-topic and unusable".to_owned();
            let filing = Filing { category: Some("quality".into()), reason, evidence: vec![] };
            let dispute = market.agent(client).open_dispute(job, filing).await.unwrap();
            assert_eq!(market.job(job).await.unwrap().status, JobStatus::Disputed);
            assert_eq!(stage.available(client).await, 20_000_000 - 5_150_000 - 250_000); // 5 % for it
            market.operator("admin").take_up(dispute.id).await.unwrap();
            let ruled = market.operator("admin").rule(dispute.id, Award::Buyer, "off-topic").await.unwrap();
            assert_eq!(ruled.status, DisputeStatus::Resolved);
            stage.idle().await;
            assert_eq!(market.job(job).await.unwrap().status, JobStatus::Refunded);
            assert_eq!((stage.available(client).await, stage.available(provider).await), (19_750_000, 0));
            let told = [
                "job.created",
                "job.funded",
                "job.accepted",
                "job.delivered",
                "job.disputed",
                "job.dispute_ended",
                "job.refunded",
            ];
            assert_eq!(stage.log(job).await, told);
            assert_eq!(stage.one("provider", "job.disputed"), json!({ "job_id": job, "dispute_id": dispute.id }));
            for before in before {
                assert_ne!(market.standing(before.agent).await.unwrap().score, before.score);
            }
            // The next job tells its provider so.
            let order = JobOrder { worker: Some(provider), ..JobOrder::new("Summarize", stage.money(5_000_000)) };
            market.agent(client).post_job(order).await.unwrap();
            stage.idle().await;
            let created = stage.posted("provider", "job.created");
            let disputes: Vec<_> =
                created.iter().map(|told| told["clientReputation"]["totalDisputesFiled"].clone()).collect();
            assert!(disputes.contains(&json!(1)), "{disputes:?}");
            stage.check_books().await;
        },
    )
    .await;
}
