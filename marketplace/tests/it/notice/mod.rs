//! Notices: what agents are told, on all three stores, to a receiver on this machine.

use std::sync::{
    Arc, LazyLock, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use chrono::TimeDelta;
use tradepost::{
    clock::ManualClock,
    engine::{Marketplace, NoticeParts, Subscribed},
    ids::{AgentId, RailId},
    job::Job,
    money::Money,
    notice::{Courier, Delivery, Parcel, Reply, Target},
    outbound::{Outbound, Reach},
    policy::{Policy, Span, WebhookPolicy},
    rail::CreditsRail,
    secret::Pepper,
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{
        postgres::PostgresServer,
        receiver::{Manner, Received, Receiver},
    },
};

use crate::support::*;

mod crowd;
mod deliver;
mod documented;
mod sign;
mod subscribe;
mod told;

pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
pub(crate) static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start().unwrap());

const CREDITS: RailId = CreditsRail::ID;

/// The real courier, with every host of `.example` on this machine.
#[derive(Clone)]
pub(crate) struct Local {
    pub(crate) outbound: Outbound,
    pub(crate) base: String,
}

#[async_trait]
impl Courier for Local {
    async fn carry(&self, parcel: Parcel) -> Result<Reply, String> {
        // The rule is https; the receiver of the tests has no certificate. Its path says which host it was.
        let url = parcel.url.replace("https://", &format!("{}/", self.base));
        self.outbound.carry(Parcel { url, ..parcel }).await
    }
}

/// A marketplace with a receiver for all its webhooks.
struct Town {
    market: Marketplace,
    store: Arc<dyn Fn() -> Builder + Send + Sync>,
    clock: Arc<ManualClock>,
    receiver: Receiver,
    _folder: Option<tempfile::TempDir>,
}

type Builder = tradepost::engine::MarketplaceBuilder;

impl Town {
    async fn on(store: impl Store + Clone, policy: Policy, manner: Manners) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let receiver = Receiver::start(move |received| manner(received)).await.unwrap();
        let courier = Local { outbound: Outbound::new(Reach::Anywhere).unwrap(), base: receiver.url("") };
        let (ids, its) = (Arc::new(CountedIds::default()), clock.clone());
        let build = move || {
            let parts = NoticeParts::new(Pepper::new([7; 32])).courier(courier.clone());
            let builder = Marketplace::builder("town", store.clone(), policy.clone());
            builder.rail(CreditsRail::new(policy.currency)).notices(parts).clock(its.clone()).ids(ids.clone())
        };
        let market = build().build().await.unwrap();
        let town = Self { market, store: Arc::new(build), clock, receiver, _folder: None };
        let plenty = Money::new(1_000_000_000, town.market.currency());
        town.market.operator("Ada").record_deposit(CREDITS, "first", buyer(), plenty).await.unwrap();
        town
    }

    /// Another process on the same store.
    async fn twin(&self) -> Marketplace {
        (self.store)().build().await.unwrap()
    }

    async fn subscribed(&self, agent: AgentId, url: &str) -> Subscribed {
        let target = Target { agent, job: None };
        self.market.agent(agent).add_endpoint(target, url, Vec::new()).await.unwrap()
    }

    async fn posted(&self) -> Arc<Job> {
        let amount = Money::new(10_000, self.market.currency());
        self.market.agent(buyer()).post_job(order(amount)).await.unwrap()
    }

    async fn delivery(&self, of: &Subscribed) -> Delivery {
        let found = deliveries(&self.market, of.endpoint.id).await;
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    async fn pass(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
        self.market.run_until_idle().await.unwrap();
    }

    fn webhooks(&self) -> WebhookPolicy {
        self.market.policy().1.webhooks.clone().unwrap()
    }
}

type Manners = Arc<dyn Fn(&Received) -> Manner + Send + Sync>;

fn always(manner: Manner) -> Manners {
    Arc::new(move |_| manner.clone())
}

/// Answers each request with the next status; the last one stays.
fn one_after_another(statuses: &'static [u16]) -> Manners {
    let asked = AtomicUsize::new(0);
    Arc::new(move |_| Manner::Status(statuses[asked.fetch_add(1, Ordering::SeqCst).min(statuses.len() - 1)]))
}

/// Plays the same on memory, SQLite and PostgreSQL.
async fn on_each(policy: Policy, manner: impl Fn() -> Manners, play: impl AsyncFn(Town)) {
    play(Town::on(MemoryStore::new(), policy.clone(), manner()).await).await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let mut on_disk = Town::on(sqlite, policy.clone(), manner()).await;
    on_disk._folder = Some(folder);
    play(on_disk).await;
    // A transaction that is open anywhere on a server holds back what readers of the log see. Here each
    // step is expected to be told at once, so one test at a time has a server of its own.
    let _turn = TURN.lock().await;
    let postgres = PostgresStore::connect(&SERVER.database().unwrap()).await.unwrap();
    play(Town::on(postgres, policy, manner()).await).await;
}

/// The policy with receivers that have a second.
fn impatient(mut policy: Policy) -> Policy {
    if let Some(webhooks) = &mut policy.webhooks {
        webhooks.timeout = Span::SECOND;
    }
    policy
}

async fn deliveries(market: &Marketplace, endpoint: tradepost::ids::EndpointId) -> Vec<Delivery> {
    let of = tradepost::engine::Receiver::Endpoint(endpoint);
    let wanted = tradepost::engine::DeliveriesOf { of, states: Vec::new(), offset: 0, limit: 50 };
    market.deliveries(wanted).await.unwrap().iter().map(|delivery| (**delivery).clone()).collect()
}

/// What arrived, by event and in order of arrival.
fn events(received: &[Received]) -> Vec<String> {
    received.iter().map(|one| one.json()["event"].as_str().unwrap_or("none").to_owned()).collect()
}

/// A switch that a test turns while the receiver answers.
#[derive(Clone)]
struct Turn(Arc<Mutex<Manner>>);

impl Turn {
    fn new(manner: Manner) -> Self {
        Self(Arc::new(Mutex::new(manner)))
    }

    fn to(&self, manner: Manner) {
        *self.0.lock().unwrap() = manner;
    }

    fn manners(&self) -> Manners {
        let this = self.clone();
        Arc::new(move |_| this.0.lock().unwrap().clone())
    }
}
