//! Reads in somebody's name: to whom something is, it is shown; anybody else is refused, on every store.

use std::fmt::Debug;

use tradepost::{
    actor::Actor,
    agent::Registration,
    dispute::Filing,
    engine::{AgentParts, DeliveriesOf, NoticeParts, NoticesOf, Receiver, Which},
    error::{Error, Rejection},
    ids::{AgentId, OwnerId},
    job::{Delivery, JobOrder},
    notice::Target,
    policy::Switch,
    secret::Pepper,
    store::InstructionState,
    testkit::{Course, Ending, Script},
};
use uuid::Uuid;

use crate::{support::*, town::*};

/// Refused by the name of what was asked for and of who asked.
fn refused<T: Debug>(answer: Result<T, Error>, read: &'static str, who: &Actor) {
    match answer {
        Err(Error::Rejected(Rejection::WrongActor { command, actor, .. })) => {
            assert_eq!((command, &actor), (read, who));
        }
        other => panic!("{who} was not refused {read}: {other:?}"),
    }
}

fn notice_parts() -> NoticeParts {
    NoticeParts::new(Pepper::new([7; 32]))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_a_jobs_parties_is_shown_to_nobody_else() {
    for on in STORES {
        let mut policy = voxpact();
        policy.webhooks.as_mut().unwrap().per_job = Switch::On;
        let town = Town::with(on, policy, Purse::PerHold(None), |builder| builder.notices(notice_parts())).await;
        let market = &town.market;
        let output = serde_json::json!({ "text": "done" }).as_object().unwrap().clone();
        let job = market.agent(buyer()).post_job(order(town.money(10_000))).await.unwrap().id;
        market.agent(worker()).accept(job).await.unwrap();
        market.agent(worker()).deliver(job, Delivery { output, content_type: None }).await.unwrap();
        let filing = Filing { category: None, reason: "half of it is missing".into(), evidence: vec![] };
        let dispute = market.agent(buyer()).open_dispute(job, filing).await.unwrap().id;
        for party in [buyer(), worker()] {
            let target = Target { agent: party, job: Some(job) };
            let url = format!("https://{}.example/hook", if party == buyer() { "buyer" } else { "worker" });
            market.agent(party).add_endpoint(target, url, Vec::new()).await.unwrap();
        }

        for (who, hooks) in [(by(buyer()), 1), (by(worker()), 1), (operator(), 2)] {
            let session = || market.by(who.clone());
            let case = serde_json::to_value(session().dispute_case(dispute).await.unwrap()).unwrap();
            assert_eq!(case, serde_json::to_value(market.dispute_case(dispute).await.unwrap()).unwrap());
            assert_eq!(session().task(job).await.unwrap(), market.task(job).await.unwrap());
            assert_eq!(session().delivery(job, 1).await.unwrap(), market.delivery(job, 1).await.unwrap());
            assert_eq!(session().instructions(job).await.unwrap(), market.instructions(job).await.unwrap());
            assert_eq!(session().job_endpoints(job).await.unwrap().len(), hooks, "{who}");
        }
        for who in [by(stranger()), owner(), Actor::Timer] {
            let session = || market.by(who.clone());
            refused(session().dispute_case(dispute).await, "dispute_case", &who);
            refused(session().task(job).await, "task", &who);
            refused(session().delivery(job, 1).await, "delivery", &who);
            refused(session().instructions(job).await, "instructions", &who);
            refused(session().job_endpoints(job).await, "job_endpoints", &who);
        }
    }
}

/// A payer's challenge, and what it answered, is its own also against the other party.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_rail_asks_of_a_party_is_told_to_that_party_alone() {
    for on in STORES {
        let town = Town::new(on, voxpact(), Purse::PerHold(None)).await;
        let market = &town.market;
        let asks = Script { course: Course::NeedsAction(Ending::Done), ..Script::default() };
        town.world.as_ref().unwrap().next(asks);
        let job = market.agent(buyer()).post_job(order(town.money(10_000))).await.unwrap().id;
        let payload = async |who: Actor| {
            let found = market.by(who).instructions(job).await.unwrap();
            let InstructionState::NeedsAction(action) = &found[0].state else { panic!("{found:?}") };
            action.payload.clone()
        };
        let asked = payload(operator()).await;
        assert!(!asked.is_empty());
        assert_eq!((payload(by(buyer())).await, payload(by(worker())).await), (asked, String::new()));

        let id = market.instructions(job).await.unwrap()[0].instruction.id;
        market.agent(buyer()).answer(id, "confirmed").await.unwrap();
        let answer = async |who: Actor| market.by(who).instructions(job).await.unwrap()[0].instruction.answer.clone();
        assert_eq!(answer(operator()).await.as_deref(), Some("confirmed"));
        assert_eq!(answer(by(worker())).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_an_agent_is_shown_to_it_its_owner_and_operators() {
    for on in STORES {
        let parts = AgentParts::new(Pepper::new([7; 32]));
        let town =
            Town::with(on, agent_market(), Purse::Credits, |builder| builder.agents(parts).notices(notice_parts()));
        let town = town.await;
        let market = &town.market;
        let owner_of = |number| Actor::Owner(OwnerId(Uuid::from_u128(number)));
        let register = async |owner: &Actor, name: &str| -> AgentId {
            let registration = Registration { name: name.into(), email: None, profile: Default::default() };
            market.by(owner.clone()).register(registration).await.unwrap().agent.id
        };
        let (owner, other) = (owner_of(1), owner_of(2));
        let (mine, neighbour) = (register(&owner, "mine").await, register(&other, "neighbour").await);
        town.deposit(mine, 1_000).await;
        let order = JobOrder { worker: Some(neighbour), ..order(town.money(100)) };
        let job = market.agent(mine).post_job(order).await.unwrap().id;
        let target = Target { agent: mine, job: None };
        let hook = market.agent(mine).add_endpoint(target, "https://mine.example/hook", Vec::new()).await.unwrap();
        let sent = |of| DeliveriesOf { of, states: Vec::new(), offset: 0, limit: 50 };
        let (by_hook, by_agent) = (sent(Receiver::Endpoint(hook.endpoint.id)), sent(Receiver::Agent(mine)));
        let told = NoticesOf { agent: mine, which: Which::All, offset: 0, limit: 50 };

        for who in [by(mine), owner.clone(), operator()] {
            let session = || market.by(who.clone());
            assert_eq!(session().wallet(mine).await.unwrap(), market.wallet(mine).await.unwrap());
            assert_eq!(session().wallet_history(mine, 0, 50).await.unwrap().len(), 2, "deposit and escrow lock");
            assert_eq!(session().payouts(mine).await.unwrap(), []);
            assert_eq!(session().agent_history(mine).await.unwrap(), market.agent_history(mine).await.unwrap());
            assert_eq!(session().endpoints(mine).await.unwrap(), std::slice::from_ref(&hook.endpoint));
            assert_eq!(
                session().deliveries(by_hook.clone()).await.unwrap(),
                market.deliveries(by_hook.clone()).await.unwrap()
            );
            assert_eq!(
                session().deliveries(by_agent.clone()).await.unwrap(),
                market.deliveries(by_agent.clone()).await.unwrap()
            );
            assert_eq!(session().notices(told).await.unwrap(), market.notices(told).await.unwrap());
            assert_eq!(session().task(job).await.unwrap(), market.task(job).await.unwrap(), "its job's, too");
        }
        for who in [by(neighbour), other.clone(), Actor::Timer] {
            let session = || market.by(who.clone());
            refused(session().wallet(mine).await, "wallet", &who);
            refused(session().wallet_history(mine, 0, 50).await, "wallet_history", &who);
            refused(session().payouts(mine).await, "payouts", &who);
            refused(session().agent_history(mine).await, "agent_history", &who);
            refused(session().endpoints(mine).await, "endpoints", &who);
            refused(session().deliveries(by_hook.clone()).await, "deliveries", &who);
            refused(session().deliveries(by_agent.clone()).await, "deliveries", &who);
            refused(session().notices(told).await, "notices", &who);
        }
    }
}
