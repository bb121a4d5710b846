//! What strangers type, and what is not theirs to find.

use tradepost::{
    agent::{Profile, Registration},
    engine::{AgentParts, AgentSearch, JobSearch, Marketplace},
    error::{Error, Rejection},
    job::OpenOrder,
    rail::CreditsRail,
    secret::Pepper,
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
};

use super::desk::*;
use crate::{store::SERVER, town::*};

const HOSTILE: &[&str] = &[
    "\"",
    "\"\"",
    "'",
    "*",
    "a*",
    "^a",
    "a:b",
    "NEAR(a b)",
    "a AND OR NOT",
    "(",
    ")))",
    "{a b}",
    "-a",
    "a & | ! b",
    "<->",
    ":*",
    "\\",
    "\0",
    "a\0b",
    "\u{202E}",
    "\u{FEFF}\u{FEFF}",
    "\u{FFFF}",
    "\u{10FFFF}",
    "' OR 1=1 --",
    "$1 ?1 @a :a",
    "%",
    "_",
    "e\u{301}\u{301}\u{301}",
    "👩‍👩‍👧",
    "ﷺ",
    "İ",
    "ß",
    "日本",
    "\n\r\t",
    "a\u{0}",
    "\u{1F1E9}\u{1F1EA}",
    "½ ⅷ ²",
];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_are_refused_by_a_rule_or_find_words_and_never_fail_a_database() {
    for on in STORES {
        let town = town(on).await;
        let buyer = register(&town, "Buyer", "nothing in particular", &["anything"]).await;
        open_job(&town, buyer, "Draw a logo", OpenOrder::default()).await;
        for &hostile in HOSTILE {
            for search in
                [text(hostile), AgentSearch { text: Some(hostile.into()), ..any(&[hostile]) }, any(&[hostile])]
            {
                let found = town.market.find_agents(search).await;
                assert!(matches!(found, Ok(_) | Err(Error::Rejected(_))), "{on:?} {hostile:?}: {found:?}");
            }
            let found = town.market.find_jobs(JobSearch::new(hostile)).await;
            assert!(matches!(found, Ok(_) | Err(Error::Rejected(_))), "{on:?} {hostile:?}: {found:?}");
        }
        let nothing = rejection(town.market.find_jobs(JobSearch::new("?! …")).await);
        assert_eq!(nothing, Rejection::Form { field: "text", form: "of at least one word" });
        let long = rejection(town.market.find_jobs(JobSearch::new("a".repeat(201))).await);
        let length = Rejection::Length { field: "text", unit: "characters", min: 1, max: 200, actual: 201 };
        assert_eq!(long, length, "VP-11: the limit is the policy's");
        let words: String = (0..21).map(|number| format!("w{number} ")).collect();
        let many = rejection(town.market.find_agents(text(&words)).await);
        assert_eq!(many, Rejection::TooMany { field: "words", max: 20, actual: 21 });
        let huge = rejection(town.market.find_agents(text(&"x ".repeat(10_000_000))).await);
        assert!(matches!(huge, Rejection::Length { field: "text", actual: 20_000_000, .. }));
    }
}

#[tokio::test]
async fn pages_and_capabilities_are_limited_by_the_policy() {
    let town = town(On::Memory).await;
    for (offset, limit, expected) in [
        (0, Some(0), Rejection::Count { field: "limit", min: 1, max: 50, actual: 0 }),
        (0, Some(51), Rejection::Count { field: "limit", min: 1, max: 50, actual: 51 }),
        (10_001, None, Rejection::Count { field: "offset", min: 0, max: 10_000, actual: 10_001 }),
        (u32::MAX, None, Rejection::Count { field: "offset", min: 0, max: 10_000, actual: u32::MAX }),
    ] {
        let agents = AgentSearch { offset, limit, ..AgentSearch::default() };
        assert_eq!(rejection(town.market.find_agents(agents).await), expected);
        let jobs = JobSearch { offset, limit, ..JobSearch::new("logo") };
        assert_eq!(rejection(town.market.find_jobs(jobs).await), expected);
    }
    let many: Vec<String> = (0..21).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for search in [any(&many), all(&many)] {
        let refused = rejection(town.market.find_agents(search).await);
        assert_eq!(refused, Rejection::TooMany { field: "capabilities", max: 20, actual: 21 });
    }
    let long = "c".repeat(101);
    let refused = rejection(town.market.find_agents(any(&[&long])).await);
    assert!(matches!(refused, Rejection::Length { field: "capability", max: 100, actual: 101, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_marketplace_in_the_same_store_is_found() {
    let folder = tempfile::tempdir().unwrap();
    apart(MemoryStore::new()).await;
    apart(SqliteStore::open(folder.path().join("market.db")).await.unwrap()).await;
    apart(PostgresStore::connect(&SERVER.database().unwrap()).await.unwrap()).await;
}

async fn apart(store: impl Store + Clone) {
    let mut markets = Vec::new();
    for name in ["one", "two"] {
        let rail = CreditsRail::new(policy().currency);
        let parts = AgentParts::new(Pepper::new([7; 32]));
        let builder = Marketplace::builder(name, store.clone(), policy()).rail(rail).agents(parts);
        markets.push(builder.build().await.unwrap());
    }
    for (market, name) in markets.iter().zip(["Ada", "Bob"]) {
        let profile = Profile { capabilities: owned(&["poetry"]), ..Profile::default() };
        let registration = Registration { name: name.into(), email: None, profile };
        market.by(owner_of(name)).register(registration).await.unwrap();
    }
    for (market, name) in markets.iter().zip(["Ada", "Bob"]) {
        for search in [AgentSearch::default(), any(&["poetry"]), text("poetry")] {
            let found = market.find_agents(search).await.unwrap();
            assert_eq!(found.iter().map(|one| one.profile.name.as_str()).collect::<Vec<_>>(), [name]);
        }
    }
}
