//! Subscriptions: secrets, rotation, pausing, filters, and whose they are.

use tradepost::{
    actor::Actor,
    clock::Clock as _,
    error::{Error, Rejection},
    ids::OwnerId,
    notice::{DeliveryState, EndpointState, Unverified, Verifier},
    secret::Secret,
    testkit::receiver::Manner,
};

use super::*;

fn believed(town: &Town, secret: &Secret, received: &Received) -> Result<(), Unverified> {
    let verifier = Verifier::new(town.webhooks().signature, [secret.clone()]);
    let body = std::str::from_utf8(&received.body).unwrap();
    verifier.verify(|name| received.header(&name.to_lowercase()), body, town.clock.now()).map(|_| ())
}

/// PG-13: the secret is shown once, also under an idempotency key; a new one overlaps with the old one
/// for as long as the policy says.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_secrets_are_shown_once_and_rotate_with_an_overlap() {
    for policy in [voxpact(), agent_market(), Policy::paegents().unwrap()] {
        on_each(
            policy,
            || always(Manner::Status(200)),
            async |town: Town| {
                let target = Target { agent: worker(), job: None };
                let add = || {
                    town.market.agent(worker()).keyed("k").add_endpoint(
                        target,
                        "https://worker.example/hook",
                        Vec::new(),
                    )
                };
                let first = add().await.unwrap();
                let old = first.secret.clone().unwrap();
                let again = add().await.unwrap();
                assert_eq!((again.endpoint.id, again.secret.is_none()), (first.endpoint.id, true));
                assert!(!format!("{first:?}").contains(old.expose()));
                let id = first.endpoint.id;
                assert!(town.market.agent(worker()).reveal_endpoint_secret(id).await.is_err());
                let rotated = town.market.agent(worker()).rotate_endpoint_secret(id).await.unwrap();
                let new = rotated.secret.unwrap();
                assert_ne!(new.expose(), old.expose());
                town.market.agent(worker()).test_endpoint(id).await.unwrap();
                town.pass(0).await;
                town.clock.advance(town.webhooks().secret_overlap.delta());
                town.market.agent(worker()).test_endpoint(id).await.unwrap();
                town.market.run_until_idle().await.unwrap();
                let received = town.receiver.wait_for(2).await;
                let late = |result: Result<(), Unverified>| !matches!(result, Err(Unverified::Forged));
                assert!(late(believed(&town, &old, &received[0])) && late(believed(&town, &new, &received[0])));
                assert_eq!(believed(&town, &old, &received[1]), Err(Unverified::Forged));
                assert_eq!(believed(&town, &new, &received[1]), Ok(()));
            },
        )
        .await;
    }
}

/// PG-13: paused, nothing is sent and nothing lost; resumed, what was held is sent; one can be sent again.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_pause_resume_replay_and_remove() {
    on_each(
        voxpact(),
        || always(Manner::Status(200)),
        async |town: Town| {
            let own = town.subscribed(worker(), "https://worker.example/hook").await;
            let (id, me) = (own.endpoint.id, || town.market.agent(worker()));
            me().pause_endpoint(id).await.unwrap();
            assert!(me().test_endpoint(id).await.is_err());
            for _ in 0..3 {
                town.posted().await;
            }
            town.pass(0).await;
            assert!(town.receiver.received().is_empty());
            assert!(deliveries(&town.market, id).await.iter().all(|one| one.state == DeliveryState::Held));
            me().resume_endpoint(id).await.unwrap();
            town.pass(0).await;
            assert_eq!(town.receiver.received().len(), 3);
            let sent = deliveries(&town.market, id).await;
            assert!(sent.iter().all(|one| one.state == DeliveryState::Delivered));
            let again = me().replay_delivery(sent[1].id).await.unwrap();
            assert!(me().replay_delivery(sent[1].id).await.is_err(), "it is on its way");
            town.pass(0).await;
            let received = town.receiver.received();
            assert_eq!(received.len(), 4);
            assert_eq!(received[3].header("webhook-id"), Some(again.id.to_string().as_str()));
            town.posted().await;
            me().remove_endpoint(id).await.unwrap();
            town.posted().await;
            town.pass(0).await;
            assert_eq!(town.receiver.received().len(), 4);
            assert!(me().resume_endpoint(id).await.is_err());
            assert!(town.market.endpoints(worker()).await.unwrap().is_empty());
        },
    )
    .await;
}

/// What is on its way to a subscription that was paused or removed meanwhile waits, or is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_what_is_on_its_way_follows_its_subscription() {
    on_each(
        voxpact(),
        || always(Manner::Status(500)),
        async |town: Town| {
            let own = town.subscribed(worker(), "https://worker.example/hook").await;
            town.posted().await;
            town.pass(0).await;
            town.market.agent(worker()).pause_endpoint(own.endpoint.id).await.unwrap();
            town.pass(300).await;
            assert_eq!(town.delivery(&own).await.state, DeliveryState::Held);
            town.market.agent(worker()).resume_endpoint(own.endpoint.id).await.unwrap();
            town.pass(0).await;
            assert_eq!(town.receiver.received().len(), 2);
            town.market.agent(worker()).remove_endpoint(own.endpoint.id).await.unwrap();
            town.pass(300).await;
            assert_eq!(town.delivery(&own).await.state, DeliveryState::Dropped);
            assert_eq!(town.receiver.received().len(), 2);
        },
    )
    .await;
}

/// JP-34: a job's own address replaces its party's own for this job, and only a party may name one.
#[tokio::test(flavor = "multi_thread")]
async fn jp_34_a_jobs_own_address_overrides_the_agents() {
    on_each(
        just_pay(),
        || always(Manner::Status(200)),
        async |town: Town| {
            town.subscribed(buyer(), "https://own.example/hook").await;
            let (job, other) = (town.posted().await, town.posted().await);
            let target = Target { agent: buyer(), job: Some(job.id) };
            let url = "https://one-job.example/hook";
            town.market.agent(buyer()).add_endpoint(target, url, Vec::new()).await.unwrap();
            let stranger = AgentId(uuid::Uuid::from_u128(77));
            let theirs = Target { agent: stranger, job: Some(job.id) };
            let refused = town.market.agent(stranger).add_endpoint(theirs, url, Vec::new()).await;
            assert!(matches!(refused, Err(Error::Rejected(Rejection::NotFound { what: "job", .. }))), "{refused:?}");
            for job in [&job, &other] {
                town.market.agent(worker()).deliver(job.id, tradepost::job::Delivery::default()).await.unwrap();
            }
            town.pass(0).await;
            let mut paths: Vec<_> = town.receiver.received().into_iter().map(|one| one.path).collect();
            paths.sort();
            assert_eq!(paths, ["/one-job.example/hook", "/own.example/hook"]);
        },
    )
    .await;
    let town = Town::on(MemoryStore::new(), voxpact(), always(Manner::Status(200))).await;
    let target = Target { agent: buyer(), job: Some(town.posted().await.id) };
    let refused = town.market.agent(buyer()).add_endpoint(target, "https://x.example/", Vec::new()).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejection::NotOffered { .. }))), "{refused:?}");
}

/// PG-13: several subscriptions, each with the events it asks for, up to the policy's number.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_several_subscriptions_with_filters() {
    on_each(
        Policy::paegents().unwrap(),
        || always(Manner::Status(200)),
        async |town: Town| {
            let target = Target { agent: worker(), job: None };
            for (url, events) in [
                ("https://all.example/", vec![]),
                ("https://some.example/", vec!["job.acc*", "webhook.ping"]),
                ("https://none.example/", vec!["job"]),
            ] {
                let events = events.into_iter().map(str::to_owned).collect();
                town.market.agent(worker()).add_endpoint(target, url, events).await.unwrap();
            }
            let job = town.posted().await;
            town.market.agent(worker()).accept(job.id).await.unwrap();
            town.pass(0).await;
            let seen = |host: &str| -> Vec<_> {
                let received = town.receiver.received();
                let mut types: Vec<_> = received
                    .iter()
                    .filter(|one| one.path.contains(host))
                    .map(|one| one.json()["type"].to_string())
                    .collect();
                types.sort();
                types
            };
            assert_eq!(seen("some"), [r#""job.accepted""#]);
            assert_eq!(seen("all"), [r#""job.accepted""#, r#""job.created""#]);
            assert!(seen("none").is_empty());
            for n in 3..=town.webhooks().subscriptions {
                let added =
                    town.market.agent(worker()).add_endpoint(target, format!("https://{n}.example/"), Vec::new()).await;
                assert_eq!(added.is_ok(), n < town.webhooks().subscriptions, "{n}");
            }
        },
    )
    .await;
}

/// PG-01, PG-13: nobody touches another's subscription, delivery or notice.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_what_is_anothers_is_out_of_reach() {
    on_each(
        voxpact(),
        || always(Manner::Status(200)),
        async |town: Town| {
            let own = town.subscribed(worker(), "https://worker.example/hook").await;
            town.posted().await;
            town.pass(0).await;
            let (id, delivery) = (own.endpoint.id, town.delivery(&own).await.id);
            let all = tradepost::engine::NoticesOf {
                agent: worker(),
                which: tradepost::engine::Which::All,
                offset: 0,
                limit: 1,
            };
            let notice = town.market.notices(all).await.unwrap()[0].id;
            for actor in [Actor::Agent(buyer()), Actor::Owner(OwnerId(uuid::Uuid::from_u128(9)))] {
                let they = || town.market.by(actor.clone());
                let target = Target { agent: worker(), job: None };
                let refusals = [
                    they().add_endpoint(target, "https://x.example/", Vec::new()).await.map(|_| ()),
                    they().pause_endpoint(id).await.map(|_| ()),
                    they().rotate_endpoint_secret(id).await.map(|_| ()),
                    they().change_endpoint(id, Some("https://x.example/".into()), None).await.map(|_| ()),
                    they().remove_endpoint(id).await.map(|_| ()),
                    they().test_endpoint(id).await.map(|_| ()),
                    they().replay_delivery(delivery).await.map(|_| ()),
                    they().mark_read(notice).await.map(|_| ()),
                    they().mark_all_read(worker()).await.map(|_| ()),
                ];
                for refused in refusals {
                    assert!(matches!(refused, Err(Error::Rejected(Rejection::WrongActor { .. }))), "{refused:?}");
                }
            }
            let endpoint = &town.market.endpoints(worker()).await.unwrap()[0];
            assert_eq!((endpoint.state.clone(), endpoint.rotations), (EndpointState::Active, 0));
        },
    )
    .await;
}

/// VP-01: the ping that the engine asks for is a signed request, and only 2xx is an answer.
#[tokio::test(flavor = "multi_thread")]
async fn vp_01_the_ping_is_signed_and_needs_a_2xx() {
    use tradepost::{engine::WebhookPing as _, notice::HttpPing};
    for (status, taken) in [(200, true), (204, true), (302, false), (404, false), (500, false)] {
        let town = Town::on(MemoryStore::new(), voxpact(), always(Manner::Status(status))).await;
        let secret = HttpPing::new_secret().unwrap();
        let ping = HttpPing::new(Outbound::new(Reach::Anywhere).unwrap(), town.webhooks(), secret.clone());
        let answer = ping.ping(&town.receiver.url("/hook"), Span::seconds(5)).await;
        assert_eq!(answer.is_ok(), taken, "{answer:?}");
        let received = &town.receiver.received()[0];
        assert_eq!(received.json()["event"], "webhook.ping");
        assert_eq!(believed(&town, &secret, received), Ok(()));
    }
    let guarded =
        HttpPing::new(Outbound::new(Reach::Public).unwrap(), voxpact().webhooks.unwrap(), Secret::new("whsec_"));
    for url in ["https://127.0.0.1/", "https://[::1]/", "http://example.com/"] {
        assert!(guarded.ping(url, Span::SECOND).await.is_err(), "{url}");
    }
}
