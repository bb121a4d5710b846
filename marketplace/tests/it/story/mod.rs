//! The systems' own documented stories, from their public documents, on every store: requests, statuses,
//! amounts, fees, events in order, webhooks with their payloads. Each is played by the system's policy file
//! on a rail of its custody; nothing here or in the engine knows the system.

mod agentmarket;
mod justpayai;
mod voxpact;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tradepost::{
    actor::Actor,
    agent::{Profile, Registration},
    clock::ManualClock,
    engine::{AgentParts, Marketplace, MarketplaceBuilder, NoticeParts, Registered, WebhookPing},
    error::{Error, Rejection},
    ids::{AgentId, JobId},
    money::Money,
    notice::HttpPing,
    outbound::{Outbound, Reach},
    policy::{Policy, Span},
    rail::Custody,
    secret::Pepper,
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{
        OutsideWorld, ScriptedRail,
        receiver::{Manner, Received, Receiver},
    },
};

use crate::{
    notice::{Local, SERVER, TURN},
    support::*,
};

/// A marketplace with registered agents, whose webhooks lead to a receiver on this machine.
pub(super) struct Stage {
    pub(super) market: Marketplace,
    pub(super) clock: Arc<ManualClock>,
    /// The money outside.
    pub(super) world: OutsideWorld,
    pub(super) receiver: Receiver,
}

/// The platform's ping, with every host on this machine.
struct Ping {
    ping: HttpPing,
    base: String,
}

#[async_trait]
impl WebhookPing for Ping {
    async fn ping(&self, url: &str, within: Span) -> Result<(), String> {
        self.ping.ping(&url.replace("https://", &format!("{}/", self.base)), within).await
    }
}

/// Plays a story on memory, SQLite and PostgreSQL.
pub(super) async fn on_each(
    policy: &Policy,
    custody: Custody,
    parts: impl Fn(MarketplaceBuilder) -> MarketplaceBuilder,
    play: impl AsyncFn(Stage),
) {
    play(Stage::on(MemoryStore::new(), policy, custody, &parts).await).await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    play(Stage::on(sqlite, policy, custody, &parts).await).await;
    // Open transactions anywhere on a server hold back what is read of the log: one story at a time.
    let _turn = TURN.lock().await;
    let postgres = PostgresStore::connect(&SERVER.database().unwrap()).await.unwrap();
    play(Stage::on(postgres, policy, custody, &parts).await).await;
}

impl Stage {
    async fn on(
        store: impl Store,
        policy: &Policy,
        custody: Custody,
        parts: impl Fn(MarketplaceBuilder) -> MarketplaceBuilder,
    ) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let world = OutsideWorld::new(policy.currency, 7);
        let rail = ScriptedRail::new(ScriptedRail::profile_of(custody, policy.currency), world.clone(), clock.clone());
        let receiver = Receiver::start(|_| Manner::Status(200)).await.unwrap();
        let outbound = || Outbound::new(Reach::Anywhere).unwrap();
        let base = receiver.url("");
        let webhooks = policy.webhooks.clone().unwrap();
        let ping =
            Ping { ping: HttpPing::new(outbound(), webhooks, HttpPing::new_secret().unwrap()), base: base.clone() };
        let builder = Marketplace::builder("story", store, policy.clone())
            .rail(rail)
            .clock(clock.clone())
            .ids(Arc::new(CountedIds::default()))
            .agents(AgentParts::new(Pepper::new([7; 32])).webhook_ping(ping))
            .notices(NoticeParts::new(Pepper::new([8; 32])).courier(Local { outbound: outbound(), base }));
        let market = parts(builder).build().await.unwrap();
        Self { market, clock, world, receiver }
    }

    pub(super) fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.market.currency())
    }

    pub(super) fn owner(&self, email: &str) -> Actor {
        Actor::Owner(self.market.owner_by_email(email).unwrap())
    }

    /// Registers an agent of its own owner, with a webhook of its name.
    pub(super) async fn register(&self, name: &str, capabilities: &[&str]) -> Registered {
        let capabilities = capabilities.iter().map(|one| (*one).to_owned()).collect();
        let webhook = Some(format!("https://{name}.example/webhook"));
        let profile = Profile { capabilities, webhook, ..Profile::default() };
        let email = format!("{name}@example.com");
        let owner = self.owner(&email);
        let registration = Registration { name: name.into(), email: Some(email), profile };
        self.market.by(owner).register(registration).await.unwrap()
    }

    pub(super) async fn available(&self, agent: AgentId) -> i64 {
        self.market.available(agent).await.unwrap().minor()
    }

    pub(super) async fn idle(&self) {
        self.market.run_until_idle().await.unwrap();
    }

    pub(super) async fn pass(&self, span: Span) {
        self.clock.advance(span.delta());
        self.idle().await;
    }

    /// What a job's own log tells, in order.
    pub(super) async fn log(&self, job: JobId) -> Vec<&'static str> {
        self.market.job_history(job).await.unwrap().iter().map(|logged| logged.event.body.name()).collect()
    }

    /// The bodies that reached an agent's webhook under an event's name, in order of arrival.
    pub(super) fn posted(&self, name: &str, event: &str) -> Vec<Value> {
        self.requests(name).iter().map(Received::json).filter(|body| body["event"] == event).collect()
    }

    /// The one that did.
    pub(super) fn one(&self, name: &str, event: &str) -> Value {
        let mut posted = self.posted(name, event);
        assert_eq!(posted.len(), 1, "{event} to {name}: {posted:?}");
        let mut body = posted.remove(0);
        let fields = body.as_object_mut().unwrap();
        fields.remove("event");
        fields.remove("timestamp");
        body
    }

    /// The requests that reached an agent's webhook.
    pub(super) fn requests(&self, name: &str) -> Vec<Received> {
        let path = format!("/{name}.example/webhook");
        self.receiver.received().into_iter().filter(|one| one.path == path).collect()
    }

    pub(super) async fn check_books(&self) {
        for trial in self.market.trial_balance().await.unwrap() {
            assert_eq!(trial.sum(), 0);
        }
        assert_eq!(self.market.verify().await.unwrap(), []);
        assert!(self.market.unsettled().await.unwrap().is_empty());
    }
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub(super) fn rejection<T: std::fmt::Debug>(answer: Result<T, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}
