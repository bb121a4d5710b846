//! What is told: names and payloads of the catalogue, lists, streams, and what nobody else may see.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tradepost::{
    engine::{NoticesOf, Which},
    job::Delivery as Work,
    testkit::receiver::Manner,
};

use super::*;

fn body(received: &[Received], host: &str, event: &str) -> Value {
    let found = received.iter().find(|one| one.path.contains(host) && one.json()["event"] == event);
    found.unwrap_or_else(|| panic!("{event} did not reach {host}: {:?}", events(received))).json()
}

/// VP-38: names and payloads of seed 001's catalogue, to whom it says.
#[tokio::test(flavor = "multi_thread")]
async fn vp_38_a_job_is_told_in_the_catalogues_words() {
    on_each(
        voxpact(),
        || always(Manner::Status(200)),
        async |town: Town| {
            town.subscribed(buyer(), "https://buyer.example/hook").await;
            town.subscribed(worker(), "https://worker.example/hook").await;
            let job = town.posted().await;
            let (id, me) = (json!(job.id), || town.market.agent(worker()));
            me().accept(job.id).await.unwrap();
            me().start(job.id).await.unwrap();
            me().deliver(job.id, Work::default()).await.unwrap();
            let feedback = "Please do it once more, in French.";
            town.market.agent(buyer()).request_revision(job.id, feedback).await.unwrap();
            me().deliver(job.id, Work::default()).await.unwrap();
            town.market.agent(buyer()).approve(job.id).await.unwrap();
            town.pass(0).await;
            let all = town.receiver.received();
            let created = body(&all, "worker", "job.created");
            assert_eq!((&created["job_id"], &created["worker_agent_id"]), (&id, &json!(worker())));
            assert_eq!(created["amount"], "10000.00");
            assert!(
                created["title"].is_string() && created["task_spec"].is_object() && created["timestamp"].is_string()
            );
            assert_eq!(body(&all, "buyer", "job.accepted")["worker_agent_id"], json!(worker()));
            assert_eq!(body(&all, "buyer", "job.delivered")["revision_number"], 1);
            assert_eq!(body(&all, "worker", "job.revision_requested")["feedback"], feedback);
            let received = body(&all, "worker", "payment.received");
            assert_eq!((&received["amount"], &received["platform_fee"]), (&json!("9000.00"), &json!("1000.00")));
            let told = |host: &str| -> Vec<String> {
                let mut told = events(&all.iter().filter(|one| one.path.contains(host)).cloned().collect::<Vec<_>>());
                told.sort();
                told
            };
            assert_eq!(told("worker"), ["job.created", "job.revision_requested", "payment.received"]);
            assert_eq!(told("buyer"), ["job.accepted", "job.delivered", "job.delivered"]);
        },
    )
    .await;
}

/// VP-32: list, unread only, count, mark one, mark all.
#[tokio::test(flavor = "multi_thread")]
async fn vp_32_notices_are_listed_and_marked() {
    on_each(
        voxpact(),
        || always(Manner::Status(200)),
        async |town: Town| {
            for _ in 0..60 {
                town.posted().await;
            }
            town.pass(0).await;
            let list = async |which, offset| {
                town.market.notices(NoticesOf { agent: worker(), which, offset, limit: 500 }).await.unwrap()
            };
            let (first, rest) = (list(Which::All, 0).await, list(Which::All, 50).await);
            assert_eq!((first.len(), rest.len(), town.market.unread(worker()).await.unwrap()), (50, 10, 60));
            assert_eq!((first[0].event.as_str(), first[0].agent), ("job.created", worker()));
            let marked = town.market.agent(worker()).mark_read(first[3].id).await.unwrap();
            town.clock.advance(TimeDelta::seconds(5));
            let again = town.market.agent(worker()).mark_read(first[3].id).await.unwrap();
            assert_eq!(marked.read_at, again.read_at);
            assert_eq!(town.market.unread(worker()).await.unwrap(), 59);
            assert_eq!(town.market.agent(worker()).mark_all_read(worker()).await.unwrap(), 59);
            assert_eq!((town.market.unread(worker()).await.unwrap(), list(Which::Unread, 0).await.len()), (0, 0));
        },
    )
    .await;
}

/// The stream inside a process tells what the list has, under the same ids, each thing once; one job's
/// tells of this job only.
#[tokio::test(flavor = "multi_thread")]
async fn vp_33_streams_tell_what_happens_as_it_happens() {
    on_each(
        voxpact(),
        || always(Manner::Status(200)),
        async |town: Town| {
            let job = town.posted().await;
            town.pass(0).await;
            let poll = Duration::from_millis(20);
            let mut all = Box::pin(town.market.follow(buyer(), None, poll).await.unwrap());
            let mut one = Box::pin(town.market.follow(buyer(), Some(job.id), poll).await.unwrap());
            let mut nobody =
                Box::pin(town.market.follow(AgentId(uuid::Uuid::from_u128(5)), Some(job.id), poll).await.unwrap());
            let other = town.posted().await;
            let twin = town.twin().await;
            twin.agent(worker()).accept(other.id).await.unwrap();
            twin.agent(worker()).accept(job.id).await.unwrap();
            let next = [all.next().await.unwrap().unwrap(), all.next().await.unwrap().unwrap()];
            assert_eq!(next.each_ref().map(|notice| notice.job), [Some(other.id), Some(job.id)]);
            assert_eq!(one.next().await.unwrap().unwrap(), next[1]);
            let nothing = tokio::time::timeout(Duration::from_millis(100), nobody.next()).await;
            assert!(nothing.is_err(), "{nothing:?}");
            town.pass(0).await;
            let which = NoticesOf { agent: buyer(), which: Which::All, offset: 0, limit: 50 };
            let mut listed: Vec<_> = town.market.notices(which).await.unwrap().iter().map(|notice| notice.id).collect();
            let mut streamed = next.map(|notice| notice.id).to_vec();
            listed.sort();
            streamed.sort();
            assert_eq!(listed, streamed);
        },
    )
    .await;
}

/// What is shown of an address is the policy's to say (AM-10: its end only).
#[tokio::test]
async fn am_10_addresses_are_shown_masked() {
    let town = Town::on(MemoryStore::new(), agent_market(), always(Manner::Status(200))).await;
    let own = town.subscribed(worker(), "https://my-agent.com/webhooks/agentmarket").await;
    assert_eq!(own.endpoint.shown(&town.webhooks()), "...gentmarket");
    let full = just_pay().webhooks.unwrap();
    assert_eq!(own.endpoint.shown(&full), "https://my-agent.com/webhooks/agentmarket");
}
