//! Agents: by what they can do and by their words, the most trusted first.

use async_trait::async_trait;
use tradepost::{
    agent::ProfileUpdate,
    engine::{AgentParts, AgentSearch, Capable},
    error::{Error, Rejection},
    ids::AgentId,
    policy::{Policy, Score},
    review::Rating,
    search::{Candidate, Ranking, Reach},
    secret::Pepper,
    store::Kind,
    testkit::eventually,
};

use super::desk::*;
use crate::{support::*, town::*};

#[tokio::test(flavor = "multi_thread")]
async fn vp_11_am_02_agents_are_found_by_any_or_all_capabilities_and_by_words_on_every_store() {
    for on in STORES {
        let town = town(on).await;
        register(&town, "Ada", "Careful with contracts", &["translation", "legal text"]).await;
        register(&town, "Bob", "Scrapes the web", &["web scraping"]).await;
        register(&town, "Cy", "Contracts and poems", &["translation"]).await;
        for (search, expected) in [
            (AgentSearch::default(), &["Ada", "Bob", "Cy"][..]),
            (any(&["translation"]), &["Ada", "Cy"]),
            (any(&["translation", "web scraping"]), &["Ada", "Bob", "Cy"]),
            (all(&["translation", "legal text"]), &["Ada"]),
            (all(&["translation", "web scraping"]), &[]),
            (any(&["trans"]), &[]),
            (any(&[]), &[]),
            (all(&[]), &["Ada", "Bob", "Cy"]),
            (text("contracts"), &["Ada", "Cy"]),
            (text("CAREFUL contracts!"), &["Ada"]),
            (text("bob"), &["Bob"]),
            (text("legal"), &["Ada"]),
            (text("contracts web"), &[]),
            (AgentSearch { can: Capable::Any(owned(&["legal text"])), ..text("contracts") }, &["Ada"]),
            (AgentSearch { offset: 1, limit: Some(1), ..AgentSearch::default() }, &["Bob"]),
            (AgentSearch { offset: 1, limit: Some(1), ..text("contracts") }, &["Cy"]),
            (AgentSearch { offset: 3, ..AgentSearch::default() }, &[]),
        ] {
            assert_eq!(names(&town, search.clone()).await, expected, "{on:?} {search:?}");
        }
    }
}

/// Works until agents are found in this order: a log that many share may be readable a little late.
async fn order_becomes(town: &Town, search: &AgentSearch, expected: &[&str]) {
    let in_order = async || {
        town.idle().await;
        (names(town, search.clone()).await == expected).then_some(())
    };
    if eventually(in_order).await.is_none() {
        assert_eq!(names(town, search.clone()).await, expected);
    }
}

async fn rated(town: &Town, buyer: AgentId, worker: AgentId, rating: u8) {
    let job = town.completed(buyer, worker, 5_000).await;
    let rating = Rating { rating, comment: String::new(), tags: Vec::new() };
    town.market.agent(buyer).review(job, rating).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_11_the_rank_follows_trust_and_its_tiers_and_standing_is_shown_on_every_store() {
    for on in STORES {
        let town = town(on).await;
        let buyer = register(&town, "Buyer", "", &[]).await;
        let [ada, bob, _cy] = [
            register(&town, "Ada", "Translates", &["translation"]).await,
            register(&town, "Bob", "Translates", &["translation"]).await,
            register(&town, "Cy", "Translates", &["translation"]).await,
        ];
        let searches = [any(&["translation"]), text("translates"), AgentSearch { offset: 0, ..any(&["translation"]) }];
        for search in &searches {
            order_becomes(&town, search, &["Ada", "Bob", "Cy"]).await; // of the same trust, the first comes first
        }
        rated(&town, buyer, bob, 5).await;
        for search in &searches {
            order_becomes(&town, search, &["Bob", "Ada", "Cy"]).await;
        }
        rated(&town, buyer, ada, 1).await;
        for search in &searches {
            order_becomes(&town, search, &["Bob", "Cy", "Ada"]).await;
        }
        // Another tier, by the same score: where silver ends is policy, and all are ranked anew.
        let mut stricter = policy();
        stricter.trust.tiers[1].from = Score::new("50.5".parse().unwrap()).unwrap();
        town.market.set_policy(stricter).await.unwrap();
        town.idle().await;
        let found = town.market.find_agents(any(&["translation"])).await.unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|one| (one.profile.name.as_str(), one.standing.tier.as_str(), one.standing.completed))
            .collect();
        assert_eq!(shown, [("Bob", "silver", 1), ("Cy", "bronze", 0), ("Ada", "bronze", 1)], "{on:?}");
        assert_eq!(found[0].standing.score.to_string(), "51");
    }
}

/// However many there are, a round of work lists a page of them.
#[tokio::test(flavor = "multi_thread")]
async fn after_another_policy_agents_are_ranked_anew_a_page_a_round_on_every_store() {
    for on in STORES {
        let town = town(on).await;
        for number in 0..100 {
            register(&town, &format!("Agent {number}"), "", &["poetry"]).await;
        }
        town.idle().await;
        let mut stricter = policy();
        stricter.trust.tiers[1].from = Score::new("50.5".parse().unwrap()).unwrap();
        town.market.set_policy(stricter).await.unwrap();
        let mut rounds = Vec::new();
        for _ in 0..4 {
            rounds.push(town.market.work().await.unwrap().listed);
        }
        assert_eq!(rounds, [64, 36, 0, 0], "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_11_only_active_agents_are_found_from_the_commit_on_that_changes_them_on_every_store() {
    for on in STORES {
        let town = town(on).await;
        let ada = register(&town, "Ada", "One", &["poetry"]).await;
        let owner = owner_of("Ada");
        let seen = async |search: AgentSearch| names(&town, search).await.len();
        assert_eq!(seen(any(&["poetry"])).await, 1);

        let update = ProfileUpdate { description: Some("Two".into()), ..ProfileUpdate::default() };
        town.market.by(owner.clone()).update_profile(ada, update).await.unwrap();
        assert_eq!((seen(text("one")).await, seen(text("two")).await), (0, 1));
        let update = ProfileUpdate { capabilities: Some(owned(&["prose"])), ..ProfileUpdate::default() };
        town.market.by(owner.clone()).update_profile(ada, update).await.unwrap();
        assert_eq!((seen(any(&["poetry"])).await, seen(any(&["prose"])).await), (0, 1));

        town.market.operator("Ada").suspend(ada, "looks like spam").await.unwrap();
        assert_eq!(seen(AgentSearch::default()).await + seen(text("two")).await + seen(any(&["prose"])).await, 0);
        town.market.operator("Ada").reinstate(ada).await.unwrap();
        assert_eq!(seen(text("two")).await, 1);
        town.market.by(owner).delete(ada).await.unwrap();
        assert_eq!(seen(AgentSearch::default()).await + seen(text("two")).await, 0, "{on:?}");
    }
}

#[tokio::test]
async fn vp_02_an_agent_that_is_not_active_yet_is_not_found() {
    let parts = AgentParts::new(Pepper::new([7; 32]));
    let town = Town::with(On::Memory, just_pay(), Purse::Credits, |builder| builder.agents(parts)).await;
    let ada = register(&town, "Ada", "", &["poetry"]).await;
    assert_eq!(names(&town, any(&["poetry"])).await, [""; 0]);
    let amount = town.money(2_000_000);
    town.market.operator("Ada").record_deposit(tradepost::rail::CreditsRail::ID, "1", ada, amount).await.unwrap();
    assert_eq!(names(&town, any(&["poetry"])).await, ["Ada"]);
}

/// Prefers long names, whatever the words; or does what it should not.
struct ByName(Mood);

#[derive(Clone, Copy)]
enum Mood {
    Sane,
    Nonsense,
    Broken,
    Panics,
}

#[async_trait]
impl Ranking for ByName {
    fn reach(&self, _kind: Kind) -> Reach {
        Reach::All
    }

    async fn rank(&self, _kind: Kind, _text: &str, candidates: &[Candidate]) -> Result<Vec<usize>, String> {
        let mut places: Vec<usize> = (0..candidates.len()).collect();
        places.sort_by_key(|place| std::cmp::Reverse(candidates[*place].title.len()));
        match self.0 {
            Mood::Sane => Ok(places),
            Mood::Nonsense => Ok(vec![usize::MAX, 1, 1, 7, 0]),
            Mood::Broken => Err("no model".into()),
            Mood::Panics => panic!("on purpose"),
        }
    }
}

#[tokio::test]
async fn an_embedders_ranking_orders_what_a_text_finds_and_its_failures_stay_its_own() {
    for (mood, expected) in [
        (Mood::Sane, Ok(&["Christabel", "Bobby", "Ada"][..])),
        (Mood::Nonsense, Ok(&["Bobby", "Ada"][..])),
        (Mood::Broken, Err("no model")),
        (Mood::Panics, Err("it panicked")),
    ] {
        let town = town_with(On::Memory, |builder| builder.ranking(ByName(mood))).await;
        for name in ["Ada", "Bobby", "Christabel"] {
            register(&town, name, "", &["poetry"]).await;
        }
        let found = town.market.find_agents(text("somebody who writes")).await;
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                let names: Vec<_> = found.iter().map(|one| one.profile.name.as_str()).collect();
                assert_eq!(names, expected);
            }
            (Err(Error::Part { part: "the ranking", reason }), Err(expected)) => assert_eq!(reason, expected),
            (found, _) => panic!("{found:?}"),
        }
        // Without a text nothing is asked of it.
        assert_eq!(names(&town, any(&["poetry"])).await, ["Ada", "Bobby", "Christabel"]);
    }
}

#[tokio::test]
async fn agents_are_found_only_where_they_are_kept_and_the_policy_has_search() {
    let town = Town::new(On::Memory, policy(), Purse::Credits).await;
    let refused = rejection(town.market.find_agents(AgentSearch::default()).await);
    assert_eq!(refused, Rejection::NotOffered { what: "agents of its own" });
    let parts = AgentParts::new(Pepper::new([7; 32]));
    let without = Policy { search: None, ..policy() };
    let town = Town::with(On::Memory, without, Purse::Credits, |builder| builder.agents(parts)).await;
    register(&town, "Ada", "", &["poetry"]).await;
    let refused = rejection(town.market.find_agents(AgentSearch::default()).await);
    assert_eq!(refused, Rejection::NotOffered { what: "search" });
    // Who was there before the policy had it is found once it has.
    town.market.set_policy(policy()).await.unwrap();
    assert_eq!(names(&town, any(&["poetry"])).await, ["Ada"]);
}
