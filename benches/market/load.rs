//! Open jobs and active agents by the million, written by the store's own commits: each holds some hundred of
//! them, as the engine would have left them.

use std::sync::Arc;

use chrono::TimeDelta;
use tradepost::{
    actor::Actor,
    agent::{Agent, Profile, Registration},
    clock::{Clock as _, SystemClock},
    engine::{AgentParts, Marketplace},
    ids::{AgentId, JobId, MarketId, OwnerId},
    job::{Job, JobEvent, JobOrder, OpenOrder},
    money::{Currency, Money},
    policy::{Policy, Range},
    rail::CreditsRail,
    search::Rank,
    secret::Pepper,
    store::{Commit, Document, Key, Kind, Listing, Store, Tagging},
};
use uuid::Uuid;

use crate::{Outcome, words};

/// How many records one commit has.
const BATCH: u64 = 500;
/// Cents. More than all measurements together spend of one wallet.
const ENDOWMENT: i64 = 100_000_000_000;
pub(crate) const PRICE: i64 = 2_500;

/// VoxPact's policy, with agents that are active at once and whose tiers limit nothing.
fn policy() -> Outcome<Policy> {
    let mut policy = Policy::voxpact()?;
    policy.agents = Policy::agentmarket()?.agents;
    policy.agents.grant = 0;
    if let Some(open) = &mut policy.open_jobs {
        open.description = Some(Range { min: 0, max: 1_000 });
    }
    for tier in &mut policy.trust.tiers {
        (tier.job_amount_max, tier.active_jobs_max) = (None, None);
    }
    Ok(policy)
}

/// The agent of a number. Ids begin with a moment, so that new ones come after them.
pub(crate) fn agent(number: u64) -> AgentId {
    AgentId(Uuid::from_u64_pair(0x0180_0000_0000_7000, number))
}

/// The stored job of a number.
pub(crate) fn job(number: u64) -> JobId {
    JobId(Uuid::from_u64_pair(0x0190_0000_0000_7000, number))
}

/// What is posted: of odd numbers, for who can do something; of even ones, for anybody.
pub(crate) fn order(number: u64) -> JobOrder {
    let requires = if number % 2 == 1 { vec![words::capability(number, 1)] } else { Vec::new() };
    let open = OpenOrder { description: Some(words::text(number, 24)), requires, ..OpenOrder::default() };
    JobOrder { open: Some(open), ..JobOrder::new(words::text(number, 4), Money::new(PRICE, Currency::EUR)) }
}

fn profile(number: u64) -> Profile {
    let mut capabilities: Vec<String> = (0..4).map(|salt| words::capability(number, salt)).collect();
    capabilities.sort();
    capabilities.dedup();
    Profile { description: words::text(number, 24), capabilities, ..Profile::default() }
}

/// A marketplace with so many open jobs and active agents in it.
pub(crate) async fn fill(store: impl Store + Clone, jobs: u64, agents: u64) -> Outcome<Marketplace> {
    let parts = AgentParts::new(Pepper::new([7; 32]));
    let builder = Marketplace::builder("bench", store.clone(), policy()?).rail(CreditsRail::new(Currency::EUR));
    let market = builder.agents(parts).build().await?;
    // Nothing to list anew, so that nothing is later.
    market.run_until_idle().await?;
    let id = store.open_market("bench").await?;
    let sample = market.by(Actor::Owner(OwnerId(Uuid::nil())));
    let sample =
        sample.register(Registration { name: "sample".into(), email: None, profile: Profile::default() }).await?;
    for first in (0..agents).step_by(BATCH as usize) {
        let all = first..agents.min(first + BATCH);
        store.commit(agents_commit(id, &sample.agent, all)).await.map_err(|error| format!("{error:?}"))?;
    }
    let buyers: Vec<u64> = (0..agents.min(1_000)).collect();
    for buyer in buyers {
        let amount = Money::new(ENDOWMENT, Currency::EUR);
        market.operator("bench").record_deposit(CreditsRail::ID, buyer.to_string(), agent(buyer), amount).await?;
    }
    let sample = market.agent(agent(0)).post_job(order(0)).await?;
    for first in (0..jobs).step_by(BATCH as usize) {
        let all = first..jobs.min(first + BATCH);
        store.commit(jobs_commit(id, &sample, all)?).await.map_err(|error| format!("{error:?}"))?;
    }
    Ok(market)
}

fn agents_commit(market: MarketId, sample: &Arc<Agent>, numbers: std::ops::Range<u64>) -> Commit {
    let mut commit = Commit::new(market, sample.registered_at, Key { kind: Kind::Agent, id: Uuid::nil() }, 0);
    for number in numbers {
        let mut one = (**sample).clone();
        (one.id, one.name, one.profile) = (agent(number), format!("agent {number}"), profile(number));
        one.owner = OwnerId(one.id.0);
        let rank = Rank::new(u32::try_from(words::mixed(number, 5) % u64::from(Rank::MAX.get())).unwrap_or(0));
        let entry = one.entry(rank);
        commit.listings.push(Listing { subject: Key { kind: Kind::Agent, id: one.id.0 }, entry });
        commit.write_silently(one, 0);
    }
    commit
}

fn jobs_commit(market: MarketId, sample: &Arc<Job>, numbers: std::ops::Range<u64>) -> Outcome<Commit> {
    let mut commit = Commit::new(market, sample.posted_at, Key { kind: Kind::Job, id: Uuid::nil() }, 0);
    for number in numbers {
        let (mut one, order) = ((**sample).clone(), order(number));
        one.id = job(number);
        one.buyer = agent(number % 1_000);
        one.posted_at = SystemClock.now() - TimeDelta::days(30) + TimeDelta::milliseconds(number as i64);
        if let (Some(open), Some(wanted)) = (&mut one.open, &order.open) {
            open.requires.clone_from(&wanted.requires);
        }
        let subject = Key { kind: Kind::Job, id: one.id.0 };
        let body = serde_json::to_string(&order)?;
        commit.documents.push(Document { subject: subject.id, name: "task".into(), body });
        commit.tags.push(Tagging { subject, tags: one.tags() });
        commit.listings.push(Listing { subject, entry: Some(one.entry(&order)) });
        let created = JobEvent::Created {
            buyer: one.buyer,
            worker: None,
            title: order.title,
            amount: order.amount,
            total: order.amount,
        };
        let by = Actor::Agent(one.buyer);
        commit.write(one, 0, &by, [created]);
    }
    Ok(commit)
}
