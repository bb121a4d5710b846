//! A marketplace that keeps agents, on every store.

use tradepost::{
    actor::Actor,
    agent::{Profile, Registration},
    engine::{AgentParts, AgentSearch, Capable, JobSearch, MarketplaceBuilder},
    error::{Error, Rejection},
    ids::{AgentId, JobId, OwnerId},
    job::{JobOrder, OpenOrder},
    policy::{AgentPolicy, Policy, Range},
    secret::Pepper,
};
use uuid::Uuid;

use crate::{support::*, town::*};

/// Agents that are active at once and cost nothing, with tiers that limit nothing.
pub(super) fn policy() -> Policy {
    let mut policy = without_tier_limits(voxpact());
    policy.agents = AgentPolicy { grant: 0, ..agent_market().agents };
    if let Some(open) = &mut policy.open_jobs {
        open.description = Some(Range { min: 0, max: 1000 });
    }
    policy
}

pub(super) async fn town(on: On) -> Town {
    town_with(on, |builder| builder).await
}

pub(super) async fn town_with(on: On, parts: impl FnOnce(MarketplaceBuilder) -> MarketplaceBuilder) -> Town {
    let agents = AgentParts::new(Pepper::new([7; 32]));
    Town::with(on, policy(), Purse::Credits, |builder| parts(builder.agents(agents))).await
}

/// Whoever is behind the agent of this name: each has an owner of its own.
pub(super) fn owner_of(name: &str) -> Actor {
    let number = name.bytes().fold(0, |number: u128, byte| (number << 7) ^ u128::from(byte));
    Actor::Owner(OwnerId(Uuid::from_u128(number)))
}

pub(super) async fn register(town: &Town, name: &str, description: &str, can: &[&str]) -> AgentId {
    let capabilities = can.iter().map(|can| (*can).to_owned()).collect();
    let profile = Profile { description: description.into(), capabilities, ..Profile::default() };
    let registration = Registration { name: name.into(), email: None, profile };
    town.market.by(owner_of(name)).register(registration).await.unwrap().agent.id
}

/// The names of the agents that are found, in order.
pub(super) async fn names(town: &Town, search: AgentSearch) -> Vec<String> {
    let found = town.market.find_agents(search).await.unwrap();
    found.into_iter().map(|found| found.profile.name).collect()
}

pub(super) fn text(text: &str) -> AgentSearch {
    AgentSearch { text: Some(text.into()), ..AgentSearch::default() }
}

pub(super) fn any(can: &[&str]) -> AgentSearch {
    AgentSearch { can: Capable::Any(owned(can)), ..AgentSearch::default() }
}

pub(super) fn all(can: &[&str]) -> AgentSearch {
    AgentSearch { can: Capable::All(owned(can)), ..AgentSearch::default() }
}

pub(super) fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// An open job of this buyer's.
pub(super) async fn open_job(town: &Town, buyer: AgentId, title: &str, open: OpenOrder) -> JobId {
    let order = JobOrder { open: Some(open), ..JobOrder::new(title, town.money(5_000)) };
    town.market.agent(buyer).post_job(order).await.unwrap().id
}

/// The titles of the open jobs that are found, in order.
pub(super) async fn titles(town: &Town, search: JobSearch) -> Vec<String> {
    let found = town.market.find_jobs(search).await.unwrap();
    found.into_iter().map(|job| job.title).collect()
}

pub(super) fn rejection<T: std::fmt::Debug>(answer: Result<T, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}
