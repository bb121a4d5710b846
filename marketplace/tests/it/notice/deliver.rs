//! Deliveries: the schedule, receivers that misbehave, and that nobody waits for another.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use tradepost::{
    notice::{DeliveryState, EndpointState},
    outbound::{Names, Outbound, Reach},
    testkit::receiver::Manner,
};

use super::*;

fn next_in(seconds: i64, since: tradepost::clock::Timestamp) -> DeliveryState {
    DeliveryState::Pending { next_at: since + TimeDelta::seconds(seconds) }
}

/// VP-37: tried again after 5 min, 30 min and 2 h, with a log of codes, counts and the next try; then
/// given up. The bytes and the id are the same each time.
#[tokio::test(flavor = "multi_thread")]
async fn vp_37_a_delivery_is_tried_by_the_schedule_and_then_given_up() {
    on_each(
        voxpact(),
        || always(Manner::Status(500)),
        async |town: Town| {
            use tradepost::clock::Clock as _;
            let own = town.subscribed(worker(), "https://worker.example/hook").await;
            town.posted().await;
            let mut tries = 0;
            for wait in [0, 300, 1800, 7200] {
                if wait > 0 {
                    town.pass(wait - 1).await;
                    assert_eq!(town.receiver.received().len(), tries, "not before its time");
                }
                town.pass(i64::from(wait > 0)).await;
                tries += 1;
                let delivery = town.delivery(&own).await;
                assert_eq!((delivery.tries as usize, delivery.log.len()), (tries, tries));
                assert_eq!(delivery.log[tries - 1].status, Some(500));
                assert_eq!(delivery.answer, "received");
                let next = [300, 1800, 7200].get(tries - 1).map(|wait| next_in(*wait, town.clock.now()));
                assert_eq!(delivery.state, next.unwrap_or(DeliveryState::Failed));
            }
            town.pass(1_000_000).await;
            let mut received = town.receiver.received();
            received.retain(|one| one.json()["event"] == "job.created");
            let same = |one: &Received| (one.body.clone(), one.header("webhook-id").map(str::to_owned));
            assert_eq!(received.len(), 4);
            assert!(received.iter().all(|one| same(one) == same(&received[0])));
        },
    )
    .await;
}

/// JP-34: five retries after 1, 4, 16, 64 and 256 seconds.
#[tokio::test(flavor = "multi_thread")]
async fn jp_34_a_receiver_that_recovers_gets_it() {
    on_each(
        just_pay(),
        || one_after_another(&[500, 502, 404, 301, 401, 204]),
        async |town: Town| {
            let own = town.subscribed(worker(), "https://worker.example/hook").await;
            town.posted().await;
            for (tries, wait) in (1..).zip([0, 1, 4, 16, 64, 256]) {
                town.pass(wait).await;
                assert_eq!(town.delivery(&own).await.tries, tries);
            }
            let delivery = town.delivery(&own).await;
            let codes: Vec<_> = delivery.log.iter().filter_map(|one| one.status).collect();
            assert_eq!((delivery.state, codes), (DeliveryState::Delivered, vec![500, 502, 404, 301, 401, 204]));
        },
    )
    .await;
}

/// A receiver that says it is gone is not asked again; its owner sees why.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_gone_switches_the_subscription_off() {
    on_each(
        voxpact(),
        || always(Manner::Status(410)),
        async |town: Town| {
            let own = town.subscribed(worker(), "https://worker.example/hook").await;
            town.posted().await;
            town.pass(0).await;
            assert_eq!(town.delivery(&own).await.state, DeliveryState::Failed);
            let endpoint = &town.market.endpoints(worker()).await.unwrap()[0];
            let EndpointState::Disabled { reason } = &endpoint.state else { panic!("{:?}", endpoint.state) };
            assert!(reason.contains("410"));
            town.posted().await;
            town.pass(1_000_000).await;
            assert_eq!(town.receiver.received().len(), 1);
        },
    )
    .await;
}

/// After as many given up in a row as the policy says, the subscription is switched off; resuming it
/// counts anew.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_too_many_given_up_switch_the_subscription_off() {
    let mut policy = voxpact();
    let webhooks = policy.webhooks.as_mut().unwrap();
    (webhooks.retries, webhooks.disable_after) = (Vec::new(), 2);
    on_each(
        policy,
        || always(Manner::Close),
        async |town: Town| {
            let own = town.subscribed(worker(), "https://worker.example/hook").await;
            for disabled in [false, true] {
                town.posted().await;
                town.pass(0).await;
                let endpoint = &town.market.endpoints(worker()).await.unwrap()[0];
                assert_eq!(matches!(endpoint.state, EndpointState::Disabled { .. }), disabled, "{endpoint:?}");
            }
            let log = deliveries(&town.market, own.endpoint.id).await[0].log.clone();
            assert!(log[0].status.is_none() && log[0].problem.as_ref().unwrap().contains("broke the connection"));
            let resumed = town.market.agent(worker()).resume_endpoint(own.endpoint.id).await.unwrap();
            assert_eq!((resumed.endpoint.state.clone(), resumed.endpoint.given_up), (EndpointState::Active, 0));
        },
    )
    .await;
}

/// `Retry-After` is obeyed by everything on its way to that receiver, no longer than the policy allows.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_a_receiver_that_is_overrun_is_left_alone() {
    for (after, seconds) in [("3600", 3600), ("99999999", 24 * 3600)] {
        let turn = Turn::new(Manner::Later(429, after));
        on_each(
            voxpact(),
            || turn.manners(),
            async |town: Town| {
                turn.to(Manner::Later(429, after));
                let own = town.subscribed(worker(), "https://worker.example/hook").await;
                town.posted().await;
                town.pass(0).await;
                town.posted().await;
                town.pass(seconds - 1).await;
                assert_eq!(town.receiver.received().len(), 1, "the second one rests too");
                turn.to(Manner::Status(200));
                town.pass(1).await;
                assert_eq!(town.receiver.received().len(), 3);
                let found = deliveries(&town.market, own.endpoint.id).await;
                assert!(found.iter().all(|one| one.state == DeliveryState::Delivered));
                assert_eq!(found.iter().map(|one| one.tries).sum::<u32>(), 3, "resting is no try");
            },
        )
        .await;
    }
}

/// Redirects are not followed, of huge answers little is kept, and a hanging body does not undo a 200.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_hostile_answers_do_no_harm() {
    let redirect = Manner::Redirect("https://elsewhere.example/".into());
    for (manner, status) in
        [(redirect, Some(307)), (Manner::Huge, Some(200)), (Manner::Stall, Some(200)), (Manner::Hang, None)]
    {
        let town = Town::on(MemoryStore::new(), impatient(voxpact()), always(manner.clone())).await;
        let own = town.subscribed(worker(), "https://worker.example/hook").await;
        town.posted().await;
        town.pass(0).await;
        let delivery = town.delivery(&own).await;
        assert_eq!(delivery.log[0].status, status, "{manner:?}");
        assert_eq!(delivery.state == DeliveryState::Delivered, status == Some(200));
        assert!(delivery.answer.len() <= town.webhooks().answer_bytes as usize);
        assert_eq!(town.receiver.received().len(), 1);
    }
}

/// AM-10, VP-01: an address must be https, and a name that comes to lead into a private network is not
/// connected to; its owner reads why, and not where it led.
#[tokio::test(flavor = "multi_thread")]
async fn am_10_private_and_plain_receivers_are_refused() {
    struct Inside;

    #[async_trait]
    impl Names for Inside {
        async fn addresses(&self, _: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
            Ok(vec!["10.0.0.7".parse().unwrap(), "127.0.0.1".parse().unwrap()])
        }
    }

    let clock = Arc::new(ManualClock::at(start()));
    let guarded = Outbound::with_names(Reach::Public, Inside).unwrap();
    let parts = NoticeParts::new(Pepper::new([7; 32])).courier(guarded);
    let policy = voxpact();
    let builder =
        Marketplace::builder("town", MemoryStore::new(), policy.clone()).rail(CreditsRail::new(policy.currency));
    let market = builder.notices(parts).clock(clock).build().await.unwrap();
    let target = Target { agent: worker(), job: None };
    for url in [
        "http://worker.example/hook",
        "https://",
        "ftp://worker.example",
        "https://me@worker.example",
        "https://a\n.example",
    ] {
        let refused = market.agent(worker()).add_endpoint(target, url, Vec::new()).await;
        assert!(matches!(refused, Err(tradepost::error::Error::Rejected(_))), "{url}: {refused:?}");
    }
    let own = market
        .agent(worker())
        .add_endpoint(target, "https://later-private.example/hook?token=hush", Vec::new())
        .await
        .unwrap();
    market.agent(worker()).test_endpoint(own.endpoint.id).await.unwrap();
    market.run_until_idle().await.unwrap();
    let problem = deliveries(&market, own.endpoint.id).await[0].log[0].problem.clone().unwrap();
    assert_eq!(problem, "later-private.example has no public address");
}

/// One receiver that hangs delays nobody else, and is itself sent no more than the policy allows at once.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_a_hanging_receiver_delays_nobody() {
    let hanging = || -> Manners {
        Arc::new(|received: &Received| match received.path.starts_with("/hung.example") {
            true => Manner::Hang,
            false => Manner::Status(200),
        })
    };
    on_each(voxpact(), hanging, async |town: Town| {
        town.subscribed(buyer(), "https://hung.example/hook").await;
        town.subscribed(worker(), "https://healthy.example/hook").await;
        for _ in 0..10 {
            let job = town.posted().await;
            town.market.agent(worker()).accept(job.id).await.unwrap();
        }
        let market = town.market.clone();
        let working = tokio::spawn(async move { market.run(Duration::from_millis(20)).await });
        let at_once = town.webhooks().at_once as usize;
        let received = town.receiver.wait_for(10 + at_once).await;
        let hung = received.iter().filter(|one| one.path.starts_with("/hung")).count();
        working.abort();
        assert_eq!((hung, received.len()), (at_once, 10 + at_once));
    })
    .await;
}

/// What is on its way goes on while more is claimed, even where the claim waits for what it has in its hands.
#[tokio::test(flavor = "multi_thread")]
async fn pg_13_a_claim_that_waits_keeps_no_delivery_waiting() {
    /// Has the database for itself while it carries, and takes so long that more is claimed meanwhile.
    struct Hoarder(SqliteStore);

    #[async_trait]
    impl Courier for Hoarder {
        async fn carry(&self, _: Parcel) -> Result<Reply, String> {
            let turn = self.0.begin().await.map_err(|error| error.to_string())?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            turn.rollback().await.map_err(|error| error.to_string())?;
            Ok(Reply { status: 200, rests_until: None, body: "received".into() })
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let parts = NoticeParts::new(Pepper::new([7; 32])).courier(Hoarder(store.clone()));
    let policy = voxpact();
    let builder = Marketplace::builder("town", store, policy.clone()).rail(CreditsRail::new(policy.currency));
    let market = builder.notices(parts).build().await.unwrap();
    let target = Target { agent: worker(), job: None };
    let own = market.agent(worker()).add_endpoint(target, "https://worker.example/hook", Vec::new()).await.unwrap();
    market.agent(worker()).test_endpoint(own.endpoint.id).await.unwrap();
    let delivered = tokio::time::timeout(Duration::from_secs(30), market.deliver_due()).await;
    assert_eq!(delivered.expect("nothing waits for ever").unwrap(), 1);
    assert_eq!(deliveries(&market, own.endpoint.id).await[0].state, DeliveryState::Delivered);
}

/// Several processes, and one that dies between writing and acknowledging, tell and send each thing once.
#[tokio::test(flavor = "multi_thread")]
async fn vp_37_each_event_is_delivered_once_by_any_number_of_processes() {
    on_each(
        voxpact(),
        || always(Manner::Status(200)),
        async |town: Town| {
            town.subscribed(worker(), "https://worker.example/hook").await;
            town.subscribed(buyer(), "https://buyer.example/hook").await;
            for _ in 0..8 {
                let job = town.posted().await;
                town.market.agent(worker()).accept(job.id).await.unwrap();
            }
            let twins = [town.twin().await, town.twin().await, town.twin().await];
            futures::future::join_all(twins.iter().map(|twin| async { twin.run_until_idle().await.unwrap() })).await;
            let received = town.receiver.wait_for(16).await;
            town.pass(0).await;
            let mut ids: Vec<_> = received.iter().filter_map(|one| one.header("webhook-id")).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!((ids.len(), town.receiver.received().len()), (16, 16));
        },
    )
    .await;
}
