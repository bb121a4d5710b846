//! Who takes part in a test, and the rail they use.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tradepost::{
    clock::{Clock, Timestamp},
    ids::{AgentId, IdSource},
    money::Currency,
};
use tradepost_stripe::{Directory, DirectoryError, Fact, HoldMode, Known, Secret, StripeConfig, StripeRail};
use uuid::Uuid;

use crate::double::{Double, KEY};

/// The secrets that sign the double's webhooks: the old one is still accepted.
pub const WEBHOOK_SECRETS: [&str; 2] = ["whsec_new", "whsec_old"];

/// A directory in memory. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct People(Arc<Mutex<HashMap<AgentId, Known>>>);

impl People {
    pub fn learn(&self, agent: AgentId, fact: Fact) {
        self.0.lock().unwrap().entry(agent).or_default().learn(fact);
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// A payer with a card.
    pub fn buyer(&self, double: &Double, id: Uuid) -> AgentId {
        let (customer, card) = {
            let world = &mut double.lock().world;
            let customer = world.customer();
            let card = world.card(&customer);
            (customer, card)
        };
        self.learn(AgentId(id), Fact::Customer(customer));
        self.learn(AgentId(id), Fact::Card(Some(card)));
        AgentId(id)
    }

    /// An agent's account.
    pub fn known_account(&self, agent: AgentId) -> String {
        self.0.lock().unwrap()[&agent].account.clone().unwrap()
    }

    /// A worker with an account that takes transfers.
    pub fn worker(&self, double: &Double, id: Uuid) -> AgentId {
        let account = double.lock().world.account(id);
        self.learn(AgentId(id), Fact::Account(account));
        AgentId(id)
    }
}

#[async_trait]
impl Directory for People {
    async fn known(&self, agent: AgentId) -> Result<Known, DirectoryError> {
        Ok(self.0.lock().unwrap().get(&agent).cloned().unwrap_or_default())
    }

    async fn remember(&self, agent: AgentId, fact: Fact) -> Result<(), DirectoryError> {
        self.learn(agent, fact);
        Ok(())
    }
}

/// Version 7 ids, by the clock and counted.
#[derive(Default)]
pub struct CountedIds(AtomicU64);

impl IdSource for CountedIds {
    fn next(&self, now: Timestamp) -> Uuid {
        let millis = u64::try_from(now.timestamp_millis()).unwrap();
        let mut tail = [0; 10];
        tail[2..].copy_from_slice(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }
}

/// The double's clock.
pub struct DoubleClock(pub Double);

impl Clock for DoubleClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_timestamp(self.0.lock().world.now, 0).unwrap()
    }
}

pub fn config(double: &Double, hold: HoldMode) -> StripeConfig {
    StripeConfig {
        api_base: double.url(),
        hold,
        webhook_secrets: WEBHOOK_SECRETS.map(Secret::new).to_vec(),
        timeout: Duration::from_secs(10),
        requests_per_second: 1_000_000,
        ..StripeConfig::new(KEY, Currency::EUR)
    }
}

pub fn rail(double: &Double, people: &People, hold: HoldMode) -> StripeRail {
    StripeRail::new(config(double, hold), people.clone(), Arc::new(DoubleClock(double.clone()))).unwrap()
}
