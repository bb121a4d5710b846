//! Direct execution (AM-09): what comes back, and every way in which nothing does.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tradepost::{
    clock::ManualClock,
    engine::{Endpoint, Execution, Executor, HttpExecutor, Marketplace},
    error::{Error, Rejection},
    job::{Hire, JobStatus},
    money::Money,
    outbound::{Outbound, Reach},
    policy::{Policy, Span},
    rail::Custody,
    secret::Secret,
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{
        Course, OutsideWorld, Script, ScriptedRail,
        receiver::{Manner, Receiver},
    },
};

use crate::support::{CountedIds, agent, buyer, start, worker};

/// How an executor behaves.
#[derive(Clone, Copy, Debug)]
enum Conduct {
    Works,
    Fails,
    Panics,
    Hangs,
    Rambles,
}

#[derive(Clone)]
struct Actress {
    conduct: Conduct,
    runs: Arc<AtomicU32>,
}

#[async_trait]
impl Executor for Actress {
    async fn execute(&self, execution: &Execution) -> Result<Map<String, Value>, String> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        match self.conduct {
            Conduct::Works => Ok(Map::from_iter([("result".into(), json!(format!("{}!", execution.title)))])),
            Conduct::Fails => Err("no ideas\u{202e}\n".into()),
            Conduct::Panics => panic!("the executor falls over"),
            Conduct::Hangs => std::future::pending().await,
            Conduct::Rambles => Ok(Map::from_iter([("result".into(), json!("x".repeat(300_000)))])),
        }
    }
}

struct Office {
    market: Marketplace,
    clock: Arc<ManualClock>,
    outside: OutsideWorld,
    runs: Arc<AtomicU32>,
}

fn quick() -> Policy {
    let mut policy = Policy::agentmarket().unwrap();
    policy.execution = policy.execution.map(|_| tradepost::policy::ExecutionPolicy { within: Span::seconds(1) });
    policy
}

impl Office {
    async fn on(store: impl Store, policy: Policy, custody: Custody, executor: impl Executor) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let outside = OutsideWorld::new(policy.currency, 7);
        let profile = ScriptedRail::profile_of(custody, policy.currency);
        let rail = ScriptedRail::new(profile, outside.clone(), clock.clone());
        let builder = Marketplace::builder("office", store, policy).rail(rail).clock(clock.clone());
        let market = builder.executor(executor).ids(Arc::new(CountedIds::default())).build().await.unwrap();
        super::town::endow(&market, &outside, custody, 100).await;
        Self { market, clock, outside, runs: Arc::default() }
    }

    async fn with(conduct: Conduct, custody: Custody) -> Self {
        Self::acted(MemoryStore::new(), conduct, custody).await
    }

    async fn acted(store: impl Store, conduct: Conduct, custody: Custody) -> Self {
        let runs: Arc<AtomicU32> = Arc::default();
        let office = Self::on(store, quick(), custody, Actress { conduct, runs: runs.clone() }).await;
        Self { runs, ..office }
    }

    fn hire(&self, minor: i64) -> Hire {
        Hire {
            worker: worker(),
            title: "Write a haiku about distributed systems".into(),
            task: Map::new(),
            amount: Money::new(minor, self.market.currency()),
            rail: None,
            schemas: None,
        }
    }

    async fn available(&self, of: tradepost::ids::AgentId) -> i64 {
        self.market.available(of).await.unwrap().minor()
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

/// AM-09, on every store: the result comes in the same call, and payment is made.
#[tokio::test(flavor = "multi_thread")]
async fn am_09_a_hired_agents_result_comes_in_the_same_call() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let postgres = PostgresStore::connect(&crate::store::SERVER.database().unwrap()).await.unwrap();
    let offices = [
        Office::with(Conduct::Works, Custody::Internal).await,
        Office::acted(sqlite, Conduct::Works, Custody::Internal).await,
        Office::acted(postgres, Conduct::Works, Custody::Internal).await,
    ];
    for office in offices {
        let done = office.market.agent(buyer()).execute(office.hire(15)).await.unwrap();
        assert_eq!(done.output["result"], "Write a haiku about distributed systems!");
        assert_eq!(done.job.status, JobStatus::Completed);
        assert_eq!((office.available(buyer()).await, office.available(worker()).await), (85, 13)); // 1.5 of 15 is the fee
        let history = office.market.job_history(done.job.id).await.unwrap();
        let names: Vec<_> = history.iter().map(|logged| logged.event.body.name()).collect();
        let expected = ["job.created", "job.funded", "job.accepted", "job.started", "job.delivered", "job.completed"];
        assert_eq!(names, expected);
    }
}

/// AM-09: failure, panic, silence and nonsense give the buyer everything back, each with its reason.
#[tokio::test]
async fn am_09_a_failed_execution_refunds_in_full() {
    let expected = [
        (Conduct::Fails, "no ideas"),
        (Conduct::Panics, "the executor panicked"),
        (Conduct::Hangs, "no answer within 1s"),
        (Conduct::Rambles, "output: 300013 bytes of JSON"),
    ];
    for custody in [Custody::Internal, Custody::PerHold] {
        for (conduct, words) in expected {
            let office = Office::with(conduct, custody).await;
            let failed = office.market.agent(buyer()).keyed("k").execute(office.hire(15)).await.unwrap_err();
            let Error::Execution { job, reason } = &failed else { panic!("{conduct:?}: {failed}") };
            assert!(reason.contains(words), "{conduct:?}: {reason}");
            assert_eq!(office.market.job(*job).await.unwrap().status, JobStatus::Refunded);
            office.market.run_until_idle().await.unwrap();
            if custody == Custody::Internal {
                assert_eq!((office.available(buyer()).await, office.available(worker()).await), (100, 0));
            }
            assert_eq!(office.outside.hold((*job).into()), None);
            // The same again: it is told, not run.
            let again = office.market.agent(buyer()).keyed("k").execute(office.hire(15)).await.unwrap_err();
            assert!(matches!(again, Error::Execution { job: same, .. } if same == *job), "{again}");
            assert_eq!(office.runs(), 1);
        }
    }
}

/// AM-09, PG-15: a key runs an agent once, also when both calls come at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn am_09_a_key_runs_an_agent_once() {
    for _ in 0..5 {
        let office = Office::with(Conduct::Works, Custody::Internal).await;
        let calls: Vec<_> = (0..6)
            .map(|_| {
                let (market, hire) = (office.market.clone(), office.hire(15));
                tokio::spawn(async move { market.agent(buyer()).keyed("k").execute(hire).await })
            })
            .collect();
        for call in calls {
            match call.await.unwrap() {
                Ok(done) => assert_eq!(done.job.status, JobStatus::Completed),
                Err(Error::Rejected(Rejection::StillRunning { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((office.runs(), office.available(buyer()).await), (1, 85));
        let told = office.market.agent(buyer()).keyed("k").execute(office.hire(15)).await.unwrap();
        assert_eq!(told.output["result"], "Write a haiku about distributed systems!");
        assert_eq!(office.runs(), 1);
    }
}

/// AM-09: the caller dies while the agent runs; the deadline gives everything back.
#[tokio::test]
async fn am_09_a_call_that_dies_is_refunded_by_the_workers() {
    let office = Office::with(Conduct::Hangs, Custody::Internal).await;
    let call = tokio::time::timeout(
        std::time::Duration::from_millis(50),
        office.market.agent(buyer()).keyed("k").execute(office.hire(15)),
    );
    assert!(call.await.is_err());
    assert_eq!(office.available(buyer()).await, 85);
    let again = office.market.agent(buyer()).keyed("k").execute(office.hire(15)).await.unwrap_err();
    assert!(matches!(again.rejection(), Some(Rejection::StillRunning { .. })), "{again}");
    office.clock.advance(Span::seconds(61).delta());
    office.market.run_until_idle().await.unwrap();
    assert_eq!((office.available(buyer()).await, office.runs()), (100, 1));
}

/// AM-09: no money, no run.
#[tokio::test]
async fn am_09_nothing_is_run_that_is_not_paid() {
    let office = Office::with(Conduct::Works, Custody::Internal).await;
    let poor = office.market.agent(buyer()).execute(office.hire(101)).await.unwrap_err();
    assert!(matches!(poor.rejection(), Some(Rejection::Ledger(_))), "{poor}");
    let declined = Office::with(Conduct::Works, Custody::PerHold).await;
    declined.outside.next(Script { course: Course::Declined, ..Script::default() });
    let failed = declined.market.agent(buyer()).execute(declined.hire(15)).await.unwrap_err();
    let Error::Execution { job, .. } = failed else { panic!("{failed}") };
    assert_eq!(declined.market.job(job).await.unwrap().status, JobStatus::Cancelled);
    assert_eq!((office.runs(), declined.runs()), (0, 0));
    for wrong in [0, -1, i64::MAX] {
        let refused = office.market.agent(buyer()).execute(office.hire(wrong)).await.unwrap_err();
        assert!(matches!(refused, Error::Rejected(_)), "{refused}");
    }
    let oneself = office.market.agent(worker()).execute(office.hire(15)).await.unwrap_err();
    assert!(matches!(oneself.rejection(), Some(Rejection::SameParty { .. })), "{oneself}");
}

/// AM-09: a marketplace offers it only with a policy and an executor for it.
#[tokio::test]
async fn am_09_direct_execution_is_offered_by_policy_and_part() {
    let runs = Arc::default();
    let none = Policy { execution: None, ..quick() };
    let office =
        Office::on(MemoryStore::new(), none, Custody::Internal, Actress { conduct: Conduct::Works, runs }).await;
    let refused = office.market.agent(buyer()).execute(office.hire(15)).await.unwrap_err();
    assert_eq!(refused.rejection(), Some(&Rejection::NotOffered { what: "direct execution" }));
    let town = super::town::Town::quick(quick(), Custody::Internal).await;
    let refused = town.market.agent(buyer()).execute(office.hire(15)).await.unwrap_err();
    assert_eq!(refused.rejection(), Some(&Rejection::NotOffered { what: "direct execution" }));
}

/// AM-09: an agent's own endpoint, past the guard: each of its bad manners is a refund.
#[tokio::test(flavor = "multi_thread")]
async fn am_09_an_agents_endpoint_is_run_past_the_guard() {
    let manners = [
        ("/good", Manner::Body(r#"{"result":"Packets flow like streams..."}"#.into())),
        ("/list", Manner::Body("[1, 2]".into())),
        ("/text", Manner::Status(200)),
        ("/error", Manner::Status(500)),
        ("/elsewhere", Manner::Redirect("http://127.0.0.1:1/".into())),
        ("/hang", Manner::Hang),
        ("/huge", Manner::Huge),
        ("/stall", Manner::Stall),
        ("/close", Manner::Close),
    ];
    let by_path: HashMap<&str, Manner> = manners.iter().cloned().collect();
    let receiver = Receiver::start(move |received| by_path[received.path.as_str()].clone()).await.unwrap();
    let endpoints: HashMap<_, _> = (0..)
        .zip(&manners)
        .map(|(n, (path, _))| {
            let headers = vec![("x-token".to_owned(), Secret::new("t0k3n"))];
            (agent(100 + n), Endpoint { url: receiver.url(path), headers })
        })
        .collect();
    let nowhere = [(agent(200), "https://127.0.0.1/"), (agent(201), "file:///etc/passwd"), (agent(202), "")];
    let endpoints: HashMap<_, _> = endpoints
        .into_iter()
        .chain(nowhere.map(|(agent, url)| (agent, Endpoint { url: url.into(), headers: Vec::new() })))
        .collect();
    assert!(!format!("{endpoints:?}").contains("t0k3n"));
    let anywhere = Outbound::new(Reach::Anywhere).unwrap();
    let executor = HttpExecutor::new(anywhere, endpoints.clone(), 4096);
    let office = Office::on(MemoryStore::new(), quick(), Custody::Internal, executor).await;
    for (n, (path, _)) in (0..).zip(&manners) {
        let hire = Hire { worker: agent(100 + n), ..office.hire(1) };
        match office.market.agent(buyer()).execute(hire).await {
            Ok(done) => assert_eq!((*path, &done.output["result"]), ("/good", &json!("Packets flow like streams..."))),
            Err(Error::Execution { reason, .. }) => {
                assert!(*path != "/good" && !reason.contains("t0k3n"), "{path}: {reason}");
            }
            Err(error) => panic!("{path}: {error}"),
        }
    }
    assert_eq!(office.available(buyer()).await, 99); // only the good one was paid
    let first = &receiver.received()[0];
    assert_eq!(first.header("x-token"), Some("t0k3n"));
    assert_eq!(first.json()["title"], "Write a haiku about distributed systems");
    assert_eq!(first.header("idempotency-key"), first.json()["job"].as_str());
    // The guard as it is outside of tests: this machine is out of reach, and so is what is no URL.
    let guarded = HttpExecutor::new(Outbound::new(Reach::Public).unwrap(), endpoints, 4096);
    let office = Office::on(MemoryStore::new(), quick(), Custody::Internal, guarded).await;
    let before = receiver.received().len();
    for worker in [agent(100), agent(200), agent(201), agent(202), agent(203)] {
        let failed = office.market.agent(buyer()).execute(Hire { worker, ..office.hire(1) }).await.unwrap_err();
        assert!(matches!(failed, Error::Execution { .. }), "{failed}");
    }
    assert_eq!((office.available(buyer()).await, receiver.received().len()), (100, before));
}
