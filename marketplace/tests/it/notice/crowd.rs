//! AM-10 among many agents: a posted task is told to each that can do some of it, a bounded part a round.

use tradepost::{
    actor::Actor,
    agent::{Profile, ProfileUpdate, Registration},
    engine::{AgentParts, NoticesOf, Which},
    job::{JobOrder, OpenOrder},
    testkit::receiver::Manner,
};

use super::*;

/// How many agents one round looks at, at most.
const ROUND: usize = 512;

struct Crowd {
    market: Marketplace,
    poster: AgentId,
    agents: Vec<AgentId>,
}

async fn crowd(town: &Town, size: usize) -> Crowd {
    let market = (town.store)().agents(AgentParts::new(Pepper::new([7; 32]))).build().await.unwrap();
    let owner = || Actor::Owner(market.owner_by_email("me@example.org").unwrap());
    let mut agents = Vec::new();
    for number in 0..=size {
        // Every other one can do both, and says so twice.
        let can = if number % 2 == 0 { vec!["research", "research"] } else { vec!["coding", "research"] };
        let profile = Profile { capabilities: can.into_iter().map(str::to_owned).collect(), ..Profile::default() };
        let registration = Registration { name: format!("a{number}"), email: None, profile };
        agents.push(market.by(owner()).register(registration).await.unwrap().agent.id);
    }
    let poster = agents.remove(0);
    Crowd { market, poster, agents }
}

impl Crowd {
    async fn post(&self) {
        let requires = vec!["coding".to_owned(), "research".to_owned()];
        let open = Some(OpenOrder { requires, ..OpenOrder::default() });
        let amount = Money::new(25, self.market.currency());
        let order = JobOrder { worker: None, open, ..order(amount) };
        self.market.agent(self.poster).post_job(order).await.unwrap();
    }

    async fn told(&self, agent: AgentId) -> usize {
        let of = NoticesOf { agent, which: Which::All, offset: 0, limit: 50 };
        self.market.notices(of).await.unwrap().len()
    }

    async fn all_told(&self) -> usize {
        let mut sum = 0;
        for agent in &self.agents {
            sum += self.told(*agent).await;
        }
        sum
    }
}

/// One round tells a bounded number; rounds go on where the last one stopped, also when agents change
/// meanwhile, and nobody is told twice.
#[tokio::test(flavor = "multi_thread")]
async fn am_10_a_crowd_is_told_a_part_a_round() {
    let town = Town::on(MemoryStore::new(), agent_market(), always(Manner::Status(200))).await;
    let crowd = crowd(&town, 1300).await;
    crowd.market.run_until_idle().await.unwrap();
    crowd.post().await;
    assert!(!crowd.market.work().await.unwrap().is_idle());
    let first = crowd.all_told().await;
    assert!(first > 0 && first <= ROUND, "{first} of {}", crowd.agents.len());
    // Some who were told leave the list; by number, all who come after them would move up.
    let untold = {
        let mut untold = Vec::new();
        for agent in &crowd.agents {
            match crowd.told(*agent).await {
                0 => untold.push(*agent),
                _ => drop(crowd.market.operator("Ada").suspend(*agent, "a test").await.unwrap()),
            }
        }
        untold
    };
    crowd.market.run_until_idle().await.unwrap();
    for agent in untold {
        assert_eq!(crowd.told(agent).await, 1);
    }
    assert_eq!(crowd.all_told().await, crowd.agents.len());
}

/// Who stops being able to, or is no longer active, is told nothing; a process that stops half way is followed
/// by another, which tells the rest.
#[tokio::test(flavor = "multi_thread")]
async fn am_10_capable_is_who_says_so_and_is_active() {
    on_each(
        agent_market(),
        || always(Manner::Status(200)),
        async |town: Town| {
            let crowd = crowd(&town, 6).await;
            let [music, away, rest @ ..] = &crowd.agents[..] else { panic!("six") };
            let update = ProfileUpdate { capabilities: Some(vec!["music".into()]), ..ProfileUpdate::default() };
            crowd.market.agent(*music).update_profile(*music, update).await.unwrap();
            crowd.market.operator("Ada").suspend(*away, "a test").await.unwrap();
            crowd.post().await;
            let parts = AgentParts::new(Pepper::new([7; 32]));
            let other = (town.store)().agents(parts).build().await.unwrap();
            let (mine, others) = tokio::join!(crowd.market.run_until_idle(), other.run_until_idle());
            mine.and(others).unwrap();
            crowd.market.run_until_idle().await.unwrap();
            assert_eq!((crowd.told(*music).await, crowd.told(*away).await), (0, 0));
            for agent in rest {
                assert_eq!(crowd.told(*agent).await, 1);
            }
        },
    )
    .await;
}
