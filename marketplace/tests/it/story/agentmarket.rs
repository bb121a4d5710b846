//! AgentMarket: registration with its credits, a task that whoever is first takes, direct execution (seed 002).

use async_trait::async_trait;
use serde_json::json;
use tradepost::{
    agent::AgentStatus,
    engine::{Execution, Executor, OpenJobs},
    job::{Delivery, Hire, JobOrder, JobStatus, OpenOrder, Wanted},
    ledger::{Account, RevenueKind},
    policy::Policy,
    rail::Custody,
};

use super::*;

/// The platform's model.
struct Model;

#[async_trait]
impl Executor for Model {
    async fn execute(&self, execution: &Execution) -> Result<Map<String, Value>, String> {
        assert_eq!(execution.title, "Write a haiku about distributed systems");
        Ok(object(json!({ "result": "Packets flow like streams..." })))
    }
}

impl Stage {
    /// POST /api/agents/register: a key and 100 credits at once.
    async fn sign_up(&self, name: &str, capabilities: &[&str]) -> AgentId {
        let made = self.register(name, capabilities).await;
        assert_eq!((made.agent.status, made.key.is_some()), (AgentStatus::Active, true));
        assert_eq!(self.available(made.agent.id).await, 100);
        made.agent.id
    }
}

/// AM-01, 04 to 08, 10: a task of 25 credits is told to who can do it, taken by whoever is first, escrowed from
/// the poster's wallet then, and paid at once, 90 to 10.
#[tokio::test(flavor = "multi_thread")]
async fn agentmarkets_task() {
    on_each(
        &Policy::agentmarket().unwrap(),
        Custody::Internal,
        |builder| builder,
        async |stage: Stage| {
            let market = &stage.market;
            let poster = stage.sign_up("poster", &["research"]).await;
            let worker = stage.sign_up("researchbot", &["research", "summarization"]).await;
            let other = stage.sign_up("musician", &["music"]).await;
            let order = JobOrder {
                open: Some(OpenOrder {
                    description: Some("Full text of the paper...".into()),
                    requires: vec!["research".into(), "summarization".into()],
                    ..OpenOrder::default()
                }),
                ..JobOrder::new("Summarize this research paper", stage.money(25))
            };
            // POST /api/tasks
            let task = market.agent(poster).post_job(order.clone()).await.unwrap();
            stage.idle().await;
            let told = json!({
                "task": {
                    "id": task.id, "title": "Summarize this research paper", "description": "Full text of the paper...",
                    "budget": 25, "required_capabilities": ["research", "summarization"], "created_at": task.posted_at,
                },
                "marketplace_url": "https://agentmarket.space",
            });
            assert_eq!(stage.one("researchbot", "task.posted"), told);
            let request = &stage.requests("researchbot")[0];
            assert_eq!(request.header("x-agentmarket-event"), Some("task.posted"));
            assert!(request.header("x-agentmarket-signature").unwrap().starts_with("sha256="));
            assert!(stage.requests("musician").is_empty() && stage.requests("poster").is_empty());

            // GET /api/tasks?status=open&capability=research
            for (capability, found) in [("research", 1), ("summarization", 1), ("coding", 0)] {
                let wanted = OpenJobs { limit: 20, ..OpenJobs::newest(Wanted::Capability(capability.into())) };
                assert_eq!(market.open_jobs(wanted).await.unwrap().len(), found, "{capability}");
            }
            // POST /api/tasks/{id}/accept
            let assigned = market.agent(worker).accept(task.id).await.unwrap();
            assert_eq!((assigned.status, assigned.worker), (JobStatus::Accepted, Some(worker)));
            assert_eq!(stage.available(poster).await, 75);
            assert!(market.open_jobs(OpenJobs::newest(Wanted::Any)).await.unwrap().is_empty());
            assert!(market.agent(other).accept(task.id).await.is_err());
            // POST /api/tasks/{id}/complete
            let output = object(json!({ "result": "Here is the completed summary..." }));
            let done = market.agent(worker).deliver(task.id, Delivery { content_type: None, output }).await.unwrap();
            assert_eq!(done.status, JobStatus::Completed);
            assert_eq!(stage.available(worker).await, 122); // 90 % of 25 is 22.5, and half a credit there is not
            assert_eq!(market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap(), stage.money(3));
            let told = ["job.created", "job.funded", "job.accepted", "job.delivered", "job.completed"];
            assert_eq!(stage.log(task.id).await, told);

            // AM-06: not enough credits fails the accept and changes nothing.
            let dear = market.agent(poster).post_job(JobOrder { amount: stage.money(76), ..order }).await.unwrap();
            let refused = rejection(market.agent(worker).accept(dear.id).await);
            assert_eq!(refused, Rejection::BuyerCannotPay { needed: stage.money(76) });
            assert_eq!((market.job(dear.id).await.unwrap(), stage.log(dear.id).await), (dear, vec!["job.created"]));
            stage.check_books().await;
        },
    )
    .await;
}

/// AM-09: an agent is hired and its result comes in the same call.
#[tokio::test(flavor = "multi_thread")]
async fn agentmarkets_direct_execution() {
    on_each(
        &Policy::agentmarket().unwrap(),
        Custody::Internal,
        |builder| builder.executor(Model),
        async |stage: Stage| {
            let market = &stage.market;
            let (client, poet) = (stage.sign_up("client", &[]).await, stage.sign_up("poet", &["poetry"]).await);
            // POST /api/execute
            let title = "Write a haiku about distributed systems";
            let hire = Hire {
                worker: poet,
                title: title.into(),
                task: Map::new(),
                amount: stage.money(15),
                rail: None,
                schemas: None,
            };
            let done = market.agent(client).execute(hire).await.unwrap();
            assert_eq!(done.output["result"], "Packets flow like streams...");
            assert_eq!((stage.available(client).await, stage.available(poet).await), (85, 113)); // 10 % of 15, half up
            let told = ["job.created", "job.funded", "job.accepted", "job.started", "job.delivered", "job.completed"];
            assert_eq!(stage.log(done.job.id).await, told);
            stage.check_books().await;
        },
    )
    .await;
}
