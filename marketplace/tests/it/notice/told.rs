//! What is told: names and payloads of the catalogue, lists, streams, and what nobody else may see.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tradepost::{
    engine::{NoticesOf, Which},
    job::Delivery as Work,
    policy::NoticeRule,
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
            assert_eq!(created["amount"], "100.00");
            assert!(
                created["title"].is_string() && created["task_spec"].is_object() && created["timestamp"].is_string()
            );
            assert_eq!(body(&all, "buyer", "job.accepted")["worker_agent_id"], json!(worker()));
            let deliveries = all.iter().map(Received::json).filter(|told| told["event"] == "job.delivered");
            let mut revisions: Vec<_> = deliveries.filter_map(|told| told["revision_number"].as_u64()).collect();
            revisions.sort_unstable();
            assert_eq!(revisions, [1, 2]);
            assert_eq!(body(&all, "worker", "job.revision_requested")["feedback"], feedback);
            let received = body(&all, "worker", "payment.received");
            assert_eq!((&received["amount"], &received["platform_fee"]), (&json!("90.00"), &json!("10.00")));
            let told = |host: &str| -> Vec<String> {
                let mut told = events(&all.iter().filter(|one| one.path.contains(host)).cloned().collect::<Vec<_>>());
                told.sort();
                told
            };
            assert_eq!(told("worker"), ["job.created", "job.revision_requested", "payment.received", "trust.updated"]);
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

/// Whoever leaves a stream in the middle of a look at the log keeps nobody else waiting.
#[tokio::test(flavor = "multi_thread")]
async fn vp_33_a_stream_that_nobody_polls_delays_no_other() {
    on_each(
        voxpact(),
        || always(Manner::Status(200)),
        async |town: Town| {
            let poll = Duration::from_millis(20);
            let mut left = Box::pin(town.market.follow(buyer(), None, poll).await.unwrap());
            let mut other = Box::pin(town.market.follow(buyer(), None, poll).await.unwrap());
            let job = town.posted().await;
            town.market.agent(worker()).accept(job.id).await.unwrap();
            drop(futures::poll!(left.next()));
            let heard = tokio::time::timeout(Duration::from_secs(30), other.next()).await;
            assert_eq!(heard.unwrap().unwrap().unwrap().job, Some(job.id));
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

/// AM-10: `task.posted` to every agent whose capabilities overlap, at the webhook of its profile, in the
/// published form.
#[tokio::test(flavor = "multi_thread")]
async fn am_10_posted_tasks_reach_agents_with_overlapping_capabilities() {
    use tradepost::{
        actor::Actor,
        agent::{Profile, Registration},
        engine::AgentParts,
        job::{JobOrder, OpenOrder},
    };
    on_each(
        agent_market(),
        || always(Manner::Status(200)),
        async |town: Town| {
            let parts = AgentParts::new(Pepper::new([7; 32]));
            let market = (town.store)().agents(parts).build().await.unwrap();
            let owner = || Actor::Owner(market.owner_by_email("me@example.org").unwrap());
            let mut agents = Vec::new();
            for (name, can) in [("poster", "research"), ("able", "research"), ("both", "coding"), ("other", "music")] {
                let capabilities = vec![can.into()];
                let webhook = Some(format!("https://{name}.example/hook"));
                let profile = Profile { webhook, capabilities, ..Profile::default() };
                let registration = Registration { name: name.into(), email: Some("me@example.org".into()), profile };
                agents.push(market.by(owner()).register(registration).await.unwrap().agent.id);
            }
            let description = Some("Full text".into());
            let requires = vec!["research".into(), "coding".into()];
            let open = Some(OpenOrder { description, requires, ..OpenOrder::default() });
            let amount = Money::new(25, market.currency());
            let order = JobOrder { worker: None, open, ..order(amount) };
            let job = market.agent(agents[0]).post_job(order).await.unwrap();
            market.run_until_idle().await.unwrap();
            let received = town.receiver.received();
            let mut paths: Vec<_> = received.iter().map(|one| one.path.as_str()).collect();
            paths.sort_unstable();
            assert_eq!(paths, ["/able.example/hook", "/both.example/hook"]);
            let task = json!({
                "id": job.id, "title": "Translate a page", "description": "Full text", "budget": 25,
                "required_capabilities": ["research", "coding"], "created_at": job.posted_at,
            });
            let marketplace_url = "https://agentmarket.space";
            let told = json!({ "event": "task.posted", "task": task, "marketplace_url": marketplace_url });
            assert_eq!(received[0].json(), told);
            assert_eq!(received[0].header("x-agentmarket-event"), Some("task.posted"));
            assert!(received[0].header("x-agentmarket-signature").unwrap().starts_with("sha256="));
            // The secret of a subscription that follows from a profile is shown once, to whoever asks first.
            let own = market.endpoints(agents[1]).await.unwrap()[0].id;
            assert!(market.agent(agents[1]).reveal_endpoint_secret(own).await.unwrap().secret.is_some());
            assert!(market.agent(agents[1]).reveal_endpoint_secret(own).await.is_err());
        },
    )
    .await;
}

/// VP-24: a bid's price reaches the buyer and nobody who bids against it, whatever the table asks for;
/// the reserve reaches nobody.
#[tokio::test(flavor = "multi_thread")]
async fn vp_24_bids_are_told_to_no_other_bidder() {
    use tradepost::{
        bid::BidOrder,
        ids::BidId,
        job::{JobOrder, OpenOrder},
    };
    let mut policy = voxpact();
    // A careless table: everything that there is to tell, to everybody it can name.
    let count = policy.webhooks.as_ref().unwrap().events.len();
    let mut told = 0;
    for row in 0..count {
        let mut try_out = |change: &dyn Fn(&mut NoticeRule)| {
            let before = policy.clone();
            change(&mut policy.webhooks.as_mut().unwrap().events[row]);
            match policy.validate() {
                Ok(()) => told += 1,
                Err(_) => policy = before,
            }
        };
        for source in ["event", "job", "actor", "own", "client", "agreement"] {
            for field in ["price", "agreed_price", "amount", "total", "reserve", "fee", "agent"] {
                let value = json!(format!("${source}.{field}"));
                try_out(&|rule| drop(rule.payload.insert(format!("{source}_{field}"), value.clone())));
            }
        }
        try_out(&|rule| drop(rule.payload.insert("task".into(), json!("$task"))));
        for recipient in ["event.worker", "job.worker", "job.buyer"] {
            try_out(&|rule| rule.to.push(recipient.parse().unwrap()));
        }
    }
    assert!(told > 100, "{told}");
    on_each(
        policy,
        || always(Manner::Status(200)),
        async |town: Town| {
            let money = |minor| Money::new(minor, town.market.currency());
            let open = Some(OpenOrder { reserve: Some(money(70_003)), ..OpenOrder::default() });
            let order = JobOrder { worker: None, open, ..order(money(90_000)) };
            let job = town.market.agent(buyer()).post_job(order).await.unwrap();
            for (bidder, minor) in [(worker(), 77_701), (stranger(), 77_702)] {
                let bid = BidOrder { price: Some(money(minor)), ..BidOrder::default() };
                town.market.agent(bidder).place_bid(job.id, bid).await.unwrap();
            }
            let chosen = BidId::derive(job.id, worker());
            town.market.agent(buyer()).accept_bid(chosen, money(77_701)).await.unwrap();
            town.pass(0).await;
            let told = async |agent| {
                let notices = NoticesOf { agent, which: Which::All, offset: 0, limit: 50 };
                let told = town.market.notices(notices).await.unwrap();
                told.iter().map(|notice| notice.payload.to_string()).collect::<String>()
            };
            let texts = [told(buyer()).await, told(worker()).await, told(stranger()).await];
            let sees = texts.each_ref().map(|text| (text.contains("777.01"), text.contains("777.02")));
            assert_eq!(sees, [(true, true), (true, false), (false, true)], "{texts:?}");
            assert!(texts.iter().all(|text| !text.contains("700.03")), "{texts:?}");
        },
    )
    .await;
}

/// What an agent was told, newest first, of one event.
async fn told_of(town: &Town, agent: AgentId, event: &str) -> Vec<Value> {
    let of = NoticesOf { agent, which: Which::All, offset: 0, limit: 50 };
    let told = town.market.notices(of).await.unwrap();
    told.iter().filter(|notice| notice.event == event).map(|notice| notice.payload.clone()).collect()
}

/// A validator that is as sure as the order says, or unavailable.
struct AsOrdered;

#[async_trait]
impl tradepost::validation::Validator for AsOrdered {
    fn name(&self) -> &str {
        "as ordered"
    }

    async fn validate(
        &self,
        work: &tradepost::validation::Submission,
    ) -> Result<tradepost::validation::Opinion, String> {
        match work.order.validation.as_ref().and_then(Value::as_str) {
            Some("away") => Err("overloaded".into()),
            sure => Ok(tradepost::validation::Opinion { confidence: rate(sure.unwrap()), reasoning: "so".into() }),
        }
    }
}

/// VP-18, VP-38: what validators found is told to both, and how they came to it to the buyer alone.
#[tokio::test(flavor = "multi_thread")]
async fn vp_18_validation_is_told_in_the_catalogues_words() {
    use tradepost::job::JobOrder;
    on_each(
        voxpact(),
        || always(Manner::Status(200)),
        async |town: Town| {
            let market = (town.store)().validator(AsOrdered).validator(AsOrdered).build().await.unwrap();
            for (sure, event) in [
                ("0.92", "job.validation_passed"),
                ("0.10", "job.validation_failed"),
                ("away", "job.validation_unavailable"),
            ] {
                let amount = Money::new(10_000, market.currency());
                let order = JobOrder { validation: Some(json!(sure)), ..order(amount) };
                let job = market.agent(buyer()).post_job(order).await.unwrap();
                market.agent(worker()).accept(job.id).await.unwrap();
                market.agent(worker()).deliver(job.id, Work::default()).await.unwrap();
                market.run_until_idle().await.unwrap();
                town.clock.advance(TimeDelta::hours(1)); // who is unavailable is asked again until then
                market.run_until_idle().await.unwrap();
                let (to_buyer, to_worker) =
                    (told_of(&town, buyer(), event).await, told_of(&town, worker(), event).await);
                let keys = |told: &[Value]| -> Vec<String> {
                    told.iter().flat_map(|told| told.as_object().unwrap().keys().cloned()).collect()
                };
                let (buyers, workers): (&[&str], &[&str]) = match event {
                    "job.validation_passed" => (
                        &["auto_approved", "confidence", "job_id", "reasoning"],
                        &["confidence", "job_id", "reasoning"],
                    ),
                    "job.validation_failed" => {
                        (&["confidence", "consensus", "job_id", "reasoning"], &["confidence", "job_id", "reasoning"])
                    }
                    _ => (&["job_id", "reason"], &[]),
                };
                assert_eq!((keys(&to_buyer), keys(&to_worker)), (owned(buyers), owned(workers)), "{event}");
                assert_eq!(to_buyer[0]["job_id"], json!(job.id));
            }
        },
    )
    .await;
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// VP-30, VP-31, VP-38: both are told that a dispute goes to people, and which ruling ended it, as one word.
#[tokio::test(flavor = "multi_thread")]
async fn vp_38_a_disputes_end_is_told_with_its_ruling() {
    use tradepost::dispute::{Award, Filing};
    on_each(
        voxpact(),
        || always(Manner::Status(200)),
        async |town: Town| {
            for (award, word) in [
                (Award::Buyer, "buyer_wins"),
                (Award::Worker, "worker_wins"),
                (Award::Split { to_worker: rate("0.5") }, "split"),
            ] {
                let job = town.posted().await;
                town.market.agent(worker()).accept(job.id).await.unwrap();
                town.market.agent(worker()).deliver(job.id, Work::default()).await.unwrap();
                let filing = Filing { category: None, reason: "half of it is missing".into(), evidence: Vec::new() };
                let dispute = town.market.agent(buyer()).open_dispute(job.id, filing).await.unwrap();
                // Nobody answers, and without an arbiter people judge.
                town.pass(2 * 24 * 3600).await;
                town.market.operator("Ada").take_up(dispute.id).await.unwrap();
                town.market.operator("Ada").rule(dispute.id, award, "as the task says").await.unwrap();
                town.pass(0).await;
                for agent in [buyer(), worker()] {
                    let escalated = told_of(&town, agent, "dispute.escalated").await;
                    assert_eq!(escalated[0], json!({ "dispute_id": dispute.id, "job_id": job.id }));
                    let resolved = told_of(&town, agent, "dispute.resolved").await;
                    let told = json!({ "dispute_id": dispute.id, "job_id": job.id, "ruling": word });
                    assert_eq!(resolved[0], told);
                }
            }
        },
    )
    .await;
}

/// JP-25: the warning about a changed address reaches its agent with the address and the cool-down, and
/// nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn jp_25_the_warning_says_what_was_changed() {
    on_each(
        just_pay(),
        || always(Manner::Status(200)),
        async |town: Town| {
            town.subscribed(worker(), "https://worker.example/hook").await;
            let (first, second) =
                ("7xKXtg2CW87d97TXJSDpbD5jBkheTqA83TZRuJosgAsU", "9yLYuh3DX98e08UYKTEqcE6kClifUrB94UASvKptrBtV");
            for address in [first, second] {
                town.market.agent(worker()).set_withdrawal_address(worker(), address).await.unwrap();
            }
            town.pass(0).await;
            let told = body(&town.receiver.received(), "worker", "wallet.address_changed");
            let until = start() + TimeDelta::hours(24);
            assert_eq!((&told["address"], &told["cool_down_until"]), (&json!(second), &json!(until)));
            assert_eq!(told_of(&town, worker(), "wallet.address_changed").await.len(), 1);
            assert!(told_of(&town, buyer(), "wallet.address_changed").await.is_empty());
        },
    )
    .await;
}

/// JP-33: whoever gets a direct job is told what its client is like to work for.
#[tokio::test(flavor = "multi_thread")]
async fn jp_33_job_created_carries_the_clients_reputation() {
    on_each(
        just_pay(),
        || always(Manner::Status(200)),
        async |town: Town| {
            for _ in 0..2 {
                let job = town.posted().await;
                town.market.agent(worker()).deliver(job.id, Work::default()).await.unwrap();
                town.market.agent(buyer()).approve(job.id).await.unwrap();
            }
            town.pass(0).await;
            let job = town.posted().await;
            town.pass(0).await;
            let standing = town.market.standing(buyer()).await.unwrap();
            let created = told_of(&town, worker(), "job.created").await;
            let created = created.iter().find(|told| told["job_id"] == json!(job.id)).unwrap();
            let reputation = json!({
                "trustScore": standing.score, "disputeRate": "0", "jobsCompleted": 2,
                "totalDisputesFiled": 0, "isRestricted": false,
            });
            assert_eq!(created["clientReputation"], reputation);
        },
    )
    .await;
}

/// PG-13: both parties to an agreement are told of it and of its escrow, nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_agreements_are_told_to_their_parties() {
    use crate::agreement::{calls, proposal};
    on_each(
        tradepost::policy::Policy::paegents().unwrap(),
        || always(Manner::Status(200)),
        async |town: Town| {
            let target = Target { agent: worker(), job: None };
            let only = vec!["escrow.*".to_owned()];
            town.market.agent(worker()).add_endpoint(target, "https://seller.example/hook", only).await.unwrap();
            town.subscribed(buyer(), "https://buyer.example/hook").await;
            town.subscribed(stranger(), "https://stranger.example/hook").await;
            let proposal = proposal(|minor| Money::new(minor, town.market.currency()));
            let agreement = town.market.agent(buyer()).propose_agreement(proposal).await.unwrap();
            town.market.agent(worker()).accept_agreement(agreement.id, None).await.unwrap();
            town.market.agent(buyer()).activate_agreement(agreement.id).await.unwrap();
            town.market.agent(worker()).record_usage(agreement.id, calls(20), None).await.unwrap();
            town.market.agent(buyer()).complete_agreement(agreement.id).await.unwrap();
            town.pass(0).await;
            let all = town.receiver.received();
            let told = |host: &str| -> Vec<String> {
                let to = all.iter().filter(|one| one.path.contains(host));
                let mut names: Vec<_> = to.map(|one| one.json()["type"].as_str().unwrap().to_owned()).collect();
                names.sort();
                names
            };
            assert!(told("stranger").is_empty(), "{:?}", told("stranger"));
            let (buyers, sellers) = (told("buyer"), told("seller"));
            assert_eq!(sellers, buyers.iter().filter(|name| name.starts_with("escrow.")).cloned().collect::<Vec<_>>());
            assert!(sellers.contains(&"escrow.claim_completed".to_owned()), "{sellers:?}");
            for name in ["agreement.proposed", "agreement.accepted", "agreement.activated", "agreement.completed"] {
                assert!(buyers.contains(&name.to_owned()), "{name}: {buyers:?}");
            }
            let claim = all.iter().map(Received::json).find(|told| told["type"] == "escrow.claim_completed").unwrap();
            let data = &claim["data"];
            assert_eq!((&data["agreement_id"], &data["amount"]), (&json!(agreement.id), &json!(2_000_000)));
        },
    )
    .await;
}
