//! Open jobs, by relevance to a text (VP-15).

use tradepost::{
    bid::BidOrder,
    engine::JobSearch,
    job::{OpenOrder, Wanted},
};

use super::desk::*;
use crate::{support::*, town::*};

fn open(description: &str, requires: &[&str], category: Option<&str>) -> OpenOrder {
    OpenOrder {
        description: (!description.is_empty()).then(|| description.into()),
        requires: owned(requires),
        category: category.map(Into::into),
        ..OpenOrder::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_15_open_jobs_are_ranked_by_relevance_without_login_on_every_store() {
    for on in STORES {
        let town = town(on).await;
        let buyer = register(&town, "Buyer", "", &[]).await;
        for (title, order) in [
            ("Scrape a web page", open("every price on it", &["web scraping"], Some("data"))),
            ("Translate a letter", open("from French, two pages", &["translation"], Some("language"))),
            ("Draw a logo", open("for a page about French letters", &["drawing"], None)),
            ("Translate a web page", open("", &["translation", "web scraping"], Some("language"))),
        ] {
            open_job(&town, buyer, title, order).await;
            town.wait(tradepost::policy::Span::seconds(61));
        }
        let wanted = |text: &str, wanted| JobSearch { wanted, ..JobSearch::new(text) };
        let can = Wanted::Capability("translation".into());
        for (search, expected) in [
            // All words first, and of those who have some, who has more of them, in the title rather than below.
            (
                JobSearch::new("translate one web page"),
                &["Translate a web page", "Scrape a web page", "Translate a letter", "Draw a logo"][..],
            ),
            (JobSearch::new("french letter"), &["Translate a letter", "Draw a logo"]),
            (JobSearch::new("page"), &["Translate a web page", "Scrape a web page", "Draw a logo"]),
            (JobSearch::new("LOGO, please"), &["Draw a logo"]),
            (JobSearch::new("scraping"), &["Translate a web page", "Scrape a web page"]),
            (wanted("letter page", can), &["Translate a web page", "Translate a letter"]),
            (wanted("page", Wanted::Category("data".into())), &["Scrape a web page"]),
            (JobSearch { offset: 1, limit: Some(1), ..JobSearch::new("page") }, &["Scrape a web page"]),
            (JobSearch::new("zebra"), &[]),
        ] {
            let found = titles(&town, search.clone()).await;
            assert_eq!(found, expected, "{on:?} {search:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_15_a_job_is_found_for_as_long_as_it_looks_for_a_worker_on_every_store() {
    for on in STORES {
        let town = town(on).await;
        let buyer = register(&town, "Buyer", "", &[]).await;
        let ada = register(&town, "Ada", "", &[]).await;
        town.deposit(buyer, 100_000).await;
        let search = || titles(&town, JobSearch::new("logo"));
        let [taken, cancelled, frozen] = [
            open_job(&town, buyer, "A logo to be taken", OpenOrder::default()).await,
            open_job(&town, buyer, "A logo to be cancelled", OpenOrder::default()).await,
            open_job(&town, buyer, "A logo to be frozen", OpenOrder::default()).await,
        ];
        assert_eq!(search().await.len(), 3);
        let offer = BidOrder { price: Some(town.money(4_000)), ..BidOrder::default() };
        let bid = town.market.agent(ada).place_bid(taken, offer).await.unwrap();
        assert_eq!(search().await.len(), 3, "a bid changes nothing");
        town.market.agent(buyer).accept_bid(bid.id, town.money(4_000)).await.unwrap();
        assert_eq!(search().await.len(), 2, "{on:?}");
        town.market.agent(buyer).cancel(cancelled, "").await.unwrap();
        assert_eq!(search().await, ["A logo to be frozen"]);
        town.market.operator("Ada").freeze(frozen, "looks like fraud").await.unwrap();
        assert_eq!(search().await, [""; 0]);
        town.market.operator("Ada").unfreeze(frozen).await.unwrap();
        assert_eq!(search().await, ["A logo to be frozen"]);
        // A named worker's job is nobody else's to see.
        let order = tradepost::job::JobOrder { worker: Some(ada), ..order(town.money(5_000)) };
        town.market.agent(buyer).post_job(order).await.unwrap();
        assert_eq!(titles(&town, JobSearch::new("translate")).await, [""; 0]);
    }
}
