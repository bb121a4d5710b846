//! Automatic validation of deliveries (VP-17, VP-18).

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use serde_json::json;
use tradepost::{
    clock::ManualClock,
    dispute::Filing,
    engine::Marketplace,
    error::Rejection,
    job::{Delivery, Job, JobEvent, JobOrder, JobStatus},
    money::{Currency, Money},
    policy::{Consensus as Rule, OnPass, Policy, Span, ValidationPolicy},
    rail::CreditsRail,
    store::{EventBody, MemoryStore, PostgresStore, SqliteStore, Store},
    validation::{Answer, Consensus, Opinion, Submission, Validator, Verdict, judge},
};

use crate::support::*;

/// What a validator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Say(&'static str),
    Fail,
    Panic,
    Hang,
}

struct Expert(Does, Arc<AtomicU32>);

#[async_trait]
impl Validator for Expert {
    fn name(&self) -> &str {
        "expert"
    }

    async fn validate(&self, work: &Submission) -> Result<Opinion, String> {
        self.1.fetch_add(1, Ordering::SeqCst);
        assert_eq!(work.order.validation, Some(json!({ "must_include": "summary" })));
        match self.0 {
            Does::Say(confidence) => Ok(Opinion { confidence: rate(confidence), reasoning: "it matches".into() }),
            Does::Fail => Err("the model is overloaded".into()),
            Does::Panic => panic!("a validator falls over"),
            Does::Hang => std::future::pending().await,
        }
    }
}

struct Bench {
    market: Marketplace,
    clock: Arc<ManualClock>,
    asked: Arc<AtomicU32>,
}

fn policy(on_pass: OnPass) -> Policy {
    let mut policy = voxpact();
    policy.disputes.as_mut().unwrap().statuses.push(JobStatus::Validating);
    policy.validation =
        policy.validation.map(|validation| ValidationPolicy { on_pass, within: Span::SECOND, ..validation });
    policy
}

impl Bench {
    async fn on(store: impl Store, on_pass: OnPass, experts: &[Does]) -> Self {
        let (clock, asked) = (Arc::new(ManualClock::at(start())), Arc::<AtomicU32>::default());
        let builder = Marketplace::builder("bench", store, policy(on_pass)).rail(CreditsRail::new(Currency::EUR));
        let mut builder = builder.clock(clock.clone()).ids(Arc::new(CountedIds::default()));
        for expert in experts {
            builder = builder.validator(Expert(*expert, asked.clone()));
        }
        let market = builder.build().await.unwrap();
        let amount = Money::new(100_000, Currency::EUR);
        market.operator("Ada").record_deposit(CreditsRail::ID, "first", buyer(), amount).await.unwrap();
        Self { market, clock, asked }
    }

    async fn with(on_pass: OnPass, experts: &[Does]) -> Self {
        Self::on(MemoryStore::new(), on_pass, experts).await
    }

    async fn delivered(&self) -> Arc<Job> {
        let criteria = Some(json!({ "must_include": "summary" }));
        let order = JobOrder { validation: criteria, ..order(Money::new(2000, Currency::EUR)) };
        let job = self.market.agent(buyer()).post_job(order).await.unwrap();
        self.market.agent(worker()).accept(job.id).await.unwrap();
        let job = self.market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap();
        assert_eq!(job.status, JobStatus::Validating); // VP-17
        job
    }

    async fn last_event(&self, job: &Job) -> JobEvent {
        let history = self.market.job_history(job.id).await.unwrap();
        let told = history.iter().rev().find_map(|logged| match &logged.event.body {
            EventBody::Job(event) if event.name().starts_with("job.validation") => Some(event.clone()),
            _ => None,
        });
        told.unwrap()
    }
}

fn said(passed: u32, failed: u32, unavailable: u32) -> Consensus {
    Consensus { passed, failed, unavailable }
}

/// VP-18: passed, failed with its consensus, and every way of being unavailable, on every store.
#[tokio::test(flavor = "multi_thread")]
async fn vp_18_what_two_validators_come_to() {
    use Does::{Fail, Hang, Panic, Say};
    let cases: [(&[Does], &str, Consensus); 8] = [
        (&[Say("0.92"), Say("0.80")], "job.validation_passed", said(2, 0, 0)),
        (&[Say("0.92"), Say("0.79")], "job.validation_failed", said(1, 1, 0)),
        (&[Say("0.1"), Hang], "job.validation_failed", said(0, 1, 1)),
        (&[Say("0.92"), Fail], "job.validation_unavailable", said(1, 0, 1)),
        (&[Say("0.92"), Panic], "job.validation_unavailable", said(1, 0, 1)),
        (&[Hang, Say("0.92")], "job.validation_unavailable", said(1, 0, 1)),
        (&[Say("0.92")], "job.validation_unavailable", said(1, 0, 0)), // the platform lacks the second one
        (&[Say("0.9"), Say("0.9"), Say("0")], "job.validation_passed", said(2, 0, 0)), // two are asked
    ];
    let folder = tempfile::tempdir().unwrap();
    for (n, (experts, name, consensus)) in cases.into_iter().enumerate() {
        let bench = match n % 3 {
            0 => Bench::with(OnPass::AwaitBuyer, experts).await,
            1 => {
                let store = SqliteStore::open(folder.path().join(format!("{n}.db"))).await.unwrap();
                Bench::on(store, OnPass::AwaitBuyer, experts).await
            }
            _ => {
                let store = PostgresStore::connect(&crate::store::SERVER.database().unwrap()).await.unwrap();
                Bench::on(store, OnPass::AwaitBuyer, experts).await
            }
        };
        let job = bench.delivered().await;
        bench.market.run_until_idle().await.unwrap();
        assert_eq!(bench.market.job(job.id).await.unwrap().status, JobStatus::Delivered, "case {n}");
        let event = bench.last_event(&job).await;
        assert_eq!(event.name(), name, "case {n}: {event:?}");
        let found = match event {
            JobEvent::ValidationPassed { consensus, auto_approved, confidence, .. } => {
                assert!(!auto_approved && confidence >= Some(rate("0.80")), "case {n}");
                consensus
            }
            JobEvent::ValidationFailed { consensus, .. } => consensus,
            JobEvent::ValidationUnavailable { consensus, reason } => {
                assert!(!reason.contains('\u{7}'), "case {n}");
                consensus
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(found, consensus, "case {n}");
        let report = bench.market.validation(job.id, 1).await.unwrap().unwrap();
        assert_eq!(report.answers.len(), experts.len().min(2));
    }
}

/// VP-18: where the policy says so, a pass approves, and the event says that it did.
#[tokio::test]
async fn vp_18_a_pass_may_approve() {
    let bench = Bench::with(OnPass::Approve, &[Does::Say("0.9"), Does::Say("0.9")]).await;
    let job = bench.delivered().await;
    bench.market.run_until_idle().await.unwrap();
    assert_eq!(bench.market.job(job.id).await.unwrap().status, JobStatus::Completed);
    assert!(matches!(bench.last_event(&job).await, JobEvent::ValidationPassed { auto_approved: true, .. }));
    let failed = Bench::with(OnPass::Approve, &[Does::Say("0.1"), Does::Say("0.9")]).await;
    let job = failed.delivered().await;
    failed.market.run_until_idle().await.unwrap();
    assert_eq!(failed.market.job(job.id).await.unwrap().status, JobStatus::Delivered);
}

/// VP-19: a buyer may approve while validators are at it; what they say then changes nothing.
#[tokio::test]
async fn vp_19_approving_goes_before_validating() {
    let bench = Bench::with(OnPass::AwaitBuyer, &[Does::Hang, Does::Hang]).await;
    let job = bench.delivered().await;
    let market = bench.market.clone();
    let asking = tokio::spawn(async move { market.validate().await });
    while bench.asked.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    // Nobody else asks them meanwhile, and nothing else waits for them.
    assert_eq!(bench.market.validate().await.unwrap(), 0);
    bench.market.work().await.unwrap();
    bench.market.agent(buyer()).approve(job.id).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), 1);
    assert_eq!(bench.market.job(job.id).await.unwrap().status, JobStatus::Completed);
    bench.market.run_until_idle().await.unwrap();
    assert_eq!(bench.asked.load(Ordering::SeqCst), 2);
}

/// VP-18, VP-39: a frozen job's verdict waits until it is let go.
#[tokio::test]
async fn vp_18_vp_39_a_frozen_jobs_verdict_waits() {
    let bench = Bench::with(OnPass::AwaitBuyer, &[Does::Say("0.9"), Does::Say("0.9")]).await;
    let job = bench.delivered().await;
    bench.market.operator("Ada").freeze(job.id, "looks like fraud").await.unwrap();
    bench.market.run_until_idle().await.unwrap();
    assert_eq!(bench.market.validation(job.id, 1).await.unwrap(), None);
    bench.market.operator("Ada").unfreeze(job.id).await.unwrap();
    bench.clock.advance(Span::seconds(60).delta());
    bench.market.run_until_idle().await.unwrap();
    assert_eq!(bench.market.job(job.id).await.unwrap().status, JobStatus::Delivered);
}

/// VP-18: a dispute that is withdrawn lets the validation go on.
#[tokio::test]
async fn vp_18_a_dispute_that_is_withdrawn_leaves_no_validation_undone() {
    let bench = Bench::with(OnPass::AwaitBuyer, &[Does::Say("0.9"), Does::Say("0.9")]).await;
    let job = bench.delivered().await;
    let filing = Filing { category: None, reason: "half of it is missing".into(), evidence: Vec::new() };
    let dispute = bench.market.agent(buyer()).open_dispute(job.id, filing).await.unwrap();
    bench.market.run_until_idle().await.unwrap();
    assert_eq!(bench.market.validation(job.id, 1).await.unwrap(), None);
    assert_eq!(bench.asked.load(Ordering::SeqCst), 0, "nobody is asked about what is disputed");
    bench.market.agent(buyer()).withdraw_dispute(dispute.id).await.unwrap();
    assert_eq!(bench.market.job(job.id).await.unwrap().status, JobStatus::Validating);
    bench.clock.advance(Span::seconds(60).delta());
    bench.market.run_until_idle().await.unwrap();
    assert_eq!(bench.market.job(job.id).await.unwrap().status, JobStatus::Delivered);
    assert!(matches!(bench.last_event(&job).await, JobEvent::ValidationPassed { .. }));
}

/// VP-22: each delivery is validated anew.
#[tokio::test]
async fn vp_22_each_delivery_is_validated() {
    let bench = Bench::with(OnPass::AwaitBuyer, &[Does::Say("0.9"), Does::Say("0.9")]).await;
    let job = bench.delivered().await;
    bench.market.run_until_idle().await.unwrap();
    bench.market.agent(buyer()).request_revision(job.id, "the second half is missing").await.unwrap();
    bench.market.agent(worker()).deliver(job.id, Delivery::default()).await.unwrap();
    bench.market.run_until_idle().await.unwrap();
    assert_eq!(bench.asked.load(Ordering::SeqCst), 4);
    assert!(bench.market.validation(job.id, 2).await.unwrap().is_some());
    let none = bench.market.validation(job.id, 3).await.unwrap_err();
    assert!(matches!(none.rejection(), Some(Rejection::NotFound { .. })));
}

/// VP-18: processes that die while validators are at it; the fourth one says that nobody can tell.
#[tokio::test]
async fn vp_18_validators_that_kill_their_process_are_unavailable() {
    let bench = Bench::with(OnPass::AwaitBuyer, &[Does::Hang, Does::Hang]).await;
    let job = bench.delivered().await;
    for _ in 0..3 {
        let died = tokio::time::timeout(std::time::Duration::from_millis(20), bench.market.validate()).await;
        assert!(died.is_err());
        bench.clock.advance(Span::seconds(61).delta());
    }
    bench.market.run_until_idle().await.unwrap();
    assert_eq!(bench.asked.load(Ordering::SeqCst), 6);
    assert_eq!(bench.market.job(job.id).await.unwrap().status, JobStatus::Delivered);
    assert!(matches!(bench.last_event(&job).await, JobEvent::ValidationUnavailable { .. }));
}

/// VP-18: without validators, whoever runs the platform records the verdict.
#[tokio::test]
async fn vp_18_operators_record_what_others_found() {
    let bench = Bench::with(OnPass::AwaitBuyer, &[]).await;
    let job = bench.delivered().await;
    bench.market.run_until_idle().await.unwrap();
    assert_eq!(bench.market.job(job.id).await.unwrap().status, JobStatus::Validating);
    let refused = bench.market.agent(buyer()).record_validation(job.id, Verdict::Passed).await.unwrap_err();
    assert!(matches!(refused.rejection(), Some(Rejection::WrongActor { .. })));
    bench.market.operator("Ada").record_validation(job.id, Verdict::Passed).await.unwrap();
    assert!(matches!(bench.last_event(&job).await, JobEvent::ValidationPassed { confidence: None, .. }));
}

/// VP-18: every rule of consensus over every outcome of three validators: no later answer of those that
/// were unavailable could turn a verdict that was given.
#[test]
fn vp_18_no_verdict_could_still_be_turned() {
    let answer = |said: u32| Answer {
        validator: "one".into(),
        said: match said {
            0 => Err("silent".into()),
            1 => Ok(Opinion { confidence: rate("0.5"), reasoning: String::new() }),
            _ => Ok(Opinion { confidence: rate("0.8"), reasoning: String::new() }),
        },
    };
    let verdict = |outcomes: &[u32], consensus| {
        let policy = ValidationPolicy { validators: 3, consensus, ..voxpact().validation.unwrap() };
        judge(outcomes.iter().map(|said| answer(*said)).collect(), &policy).verdict
    };
    for consensus in [Rule::All, Rule::Majority, Rule::Any] {
        for outcomes in (0..27).map(|n| [n % 3, n / 3 % 3, n / 9]) {
            let given = verdict(&outcomes, consensus);
            // Whatever the silent ones might have said.
            let fill = |with: u32| outcomes.map(|said| if said == 0 { with } else { said });
            let (worst, best) = (verdict(&fill(1), consensus), verdict(&fill(2), consensus));
            let expected = if worst == best { worst } else { Verdict::Unavailable };
            assert_eq!(given, expected, "{consensus:?} {outcomes:?}");
        }
    }
    assert_eq!(verdict(&[2, 2, 1], Rule::All), Verdict::Failed);
    assert_eq!(verdict(&[2, 2, 1], Rule::Majority), Verdict::Passed);
    assert_eq!(verdict(&[2, 1, 1], Rule::Majority), Verdict::Failed);
    assert_eq!(verdict(&[2, 1, 1], Rule::Any), Verdict::Passed);
    assert_eq!(verdict(&[], Rule::Any), Verdict::Unavailable);
}
