//! Reviews, reports and the trust that follows from them and from jobs, on every store, with money in the
//! ledger and with a rail that holds it and loses answers.

use rust_decimal::Decimal;
use tradepost::{
    actor::Actor,
    agent::Registration,
    dispute::{Award, Filing},
    engine::{AgentParts, Standing},
    error::{Error, Rejection},
    ids::{AgentId, JobId},
    job::JobStatus,
    policy::{LossBearer, Policy, ReversalPolicy, Score, Scoring, Span, Verification},
    rail::ChargebackStage,
    report::{Complaint, Reported},
    review::{Rating, Review},
    secret::Pepper,
    store::EventBody,
    testkit::{Course, Ending, Script, eventually},
    trust::{ReputationEvent, Side},
};
use uuid::Uuid;

use crate::{support::*, town::*};

const AMOUNT: i64 = 10_000;

fn stars(rating: u8) -> Rating {
    Rating { rating, comment: "as agreed".into(), tags: Vec::new() }
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

async fn standing(town: &Town, agent: AgentId) -> Standing {
    town.market.standing(agent).await.unwrap()
}

async fn score(town: &Town, agent: AgentId) -> String {
    standing(town, agent).await.score.to_string()
}

/// Works until something is as expected. A log that many share may be readable a little later than it was
/// written, so this looks again for a while.
async fn becomes<T: PartialEq + std::fmt::Debug>(town: &Town, expected: T, look: impl AsyncFn() -> T) {
    let as_expected = async || {
        town.idle().await;
        (look().await == expected).then_some(())
    };
    if eventually(as_expected).await.is_none() {
        assert_eq!(look().await, expected);
    }
}

async fn score_becomes(town: &Town, agent: AgentId, expected: &str) {
    becomes(town, expected.to_owned(), async || score(town, agent).await).await;
}

/// How many reports are pending against an agent, and the warning for them.
async fn warning(town: &Town, agent: AgentId) -> (usize, Option<String>) {
    let known = standing(town, agent).await;
    (known.reports, known.badge)
}

/// What is kept is what the log says, and the history adds up to it.
async fn adds_up(town: &Town, agent: AgentId) {
    let same = async || {
        let kept = town.market.reputation(agent).await.unwrap();
        kept.as_deref() == town.market.recompute_trust(agent).await.unwrap().as_ref()
    };
    becomes(town, true, same).await;
    let kept = town.market.reputation(agent).await.unwrap();
    let mut last = None;
    for logged in town.market.trust_history(agent).await.unwrap() {
        let EventBody::Reputation(ReputationEvent::Updated { old_score, new_score, .. }) = logged.event.body else {
            panic!("{:?}", logged.event.body)
        };
        assert_ne!(old_score, new_score);
        assert!(last.is_none_or(|last| last == old_score), "a gap before {new_score}");
        last = Some(new_score);
    }
    if let (Some(last), Some(kept)) = (last, &kept) {
        assert_eq!(last, kept.record.score);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_29_42_work_and_ratings_move_trust_and_the_log_gives_the_same_number_on_every_store_and_rail() {
    for on in STORES {
        for purse in [Purse::Credits, Purse::PerHold(None)] {
            let town = Town::new(on, voxpact(), purse).await;
            let market = &town.market;
            assert_eq!(score(&town, worker()).await, "50");
            let job = town.completed(buyer(), worker(), AMOUNT).await;
            score_becomes(&town, worker(), "50.5").await;
            market.agent(buyer()).review(job, stars(5)).await.unwrap();
            market.agent(worker()).review(job, stars(1)).await.unwrap();
            score_becomes(&town, worker(), "51").await;
            score_becomes(&town, buyer(), "48").await;

            let lost = town.delivered(buyer(), worker(), AMOUNT).await;
            let filing = Filing { category: None, reason: "half of it is missing".into(), evidence: vec![] };
            let dispute = market.agent(buyer()).open_dispute(lost, filing).await.unwrap().id;
            market.operator("Ada").escalate(dispute, "").await.unwrap();
            town.lose_next_answer();
            market.operator("Ada").rule(dispute, Award::Buyer, "it is").await.unwrap();
            town.wait(Span::hours(1)); // what was lost is looked up
            score_becomes(&town, worker(), "46").await;
            assert_eq!(standing(&town, buyer()).await.client.filed, 1);
            assert_eq!(town.job(lost).await.status, JobStatus::Refunded);

            let stale = market.agent(buyer()).post_job(order(town.money(AMOUNT))).await.unwrap().id;
            market.agent(worker()).accept(stale).await.unwrap();
            market.agent(worker()).withdraw(stale, "no time").await.unwrap();
            score_becomes(&town, worker(), "43").await;

            let history = market.trust_history(worker()).await.unwrap();
            let reasons: Vec<String> = history
                .iter()
                .map(|logged| match &logged.event.body {
                    EventBody::Reputation(ReputationEvent::Updated { reason, .. }) => reason.as_str().into(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(reasons, ["job_completed", "rated", "dispute_lost", "worker_fault"], "VP-10");
            assert_eq!(history[0].event.body.name(), "trust.updated", "VP-38");
            for agent in [buyer(), worker(), stranger()] {
                adds_up(&town, agent).await;
            }
            town.check_books().await;
        }
    }
}

/// Only contracts settled for money count: what a job brought is gone with its money, whoever sent it back and
/// whenever, and what is said of it afterwards counts for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn vp_42_what_a_job_brought_is_gone_when_its_money_goes_back_on_every_store_and_rail() {
    for on in STORES {
        for purse in [Purse::Credits, Purse::PerHold(None)] {
            let charged_back = matches!(purse, Purse::PerHold(_));
            let town = Town::new(on, voxpact(), purse).await;
            let market = &town.market;
            let kept = town.completed(buyer(), worker(), AMOUNT).await;
            score_becomes(&town, worker(), "50.5").await;
            let lost = town.completed(buyer(), worker(), AMOUNT).await;
            market.agent(buyer()).review(lost, stars(5)).await.unwrap();
            score_becomes(&town, worker(), "51.5").await;
            // A part of it is not all of it.
            market.operator("Ada").refund_paid(kept, Some(town.money(AMOUNT - 1)), "it was half done").await.unwrap();
            match (&town.world, charged_back) {
                (Some(world), true) => {
                    for stage in [ChargebackStage::Opened { evidence_due: None }, ChargebackStage::Lost] {
                        assert!(world.charge_back(lost.into(), stage));
                        town.idle().await;
                    }
                }
                _ => drop(market.operator("Ada").refund_paid(lost, None, "it never worked").await.unwrap()),
            }
            score_becomes(&town, worker(), "50.5").await;
            market.agent(worker()).review(lost, stars(5)).await.unwrap();
            let known = async || {
                let known = standing(&town, worker()).await;
                (known.completed, known.ratings, standing(&town, buyer()).await.client.completed)
            };
            becomes(&town, (1, 0, 1), known).await;
            assert_eq!(score(&town, buyer()).await, "50", "praise for a job that nobody paid for");
            let history = market.trust_history(worker()).await.unwrap();
            let last = history.last().map(|logged| logged.event.body.clone());
            let Some(EventBody::Reputation(ReputationEvent::Updated { reason, contract, .. })) = last else {
                panic!("{last:?}")
            };
            assert_eq!((reason.as_str(), contract), ("money_went_back", Some(lost)));
            for agent in [buyer(), worker()] {
                adds_up(&town, agent).await;
            }
            town.check_books().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_42_a_rating_before_the_money_is_divided_counts_once_it_is() {
    let town = Town::new(On::Memory, voxpact(), Purse::PerHold(None)).await;
    let job = town.delivered(buyer(), worker(), AMOUNT).await;
    let pending = Script { course: Course::Pending(2, Ending::Done), ..Script::default() };
    town.world.as_ref().unwrap().next(pending);
    town.market.agent(buyer()).approve(job).await.unwrap();
    let review = town.market.agent(buyer()).review(job, stars(5)).await.unwrap();
    assert!(!review.settled);
    score_becomes(&town, worker(), "50").await;
    town.wait(Span::hours(1));
    town.idle().await;
    town.wait(Span::hours(1));
    score_becomes(&town, worker(), "51").await;
    adds_up(&town, worker()).await;
}

/// What a rail says of a refund of a part after payout is no work: the job and its rating have counted before.
#[tokio::test(flavor = "multi_thread")]
async fn vp_42_a_refunds_receipt_is_not_counted_as_finished_work_on_every_store() {
    let borne_by = LossBearer::Worker { backstop: 0 };
    let policy = Policy { reversals: Some(ReversalPolicy { borne_by }), ..voxpact() };
    for on in STORES {
        let town = Town::new(on, policy.clone(), Purse::PerHold(None)).await;
        let market = &town.market;
        let job = town.delivered(buyer(), worker(), AMOUNT).await;
        let pending = Script { course: Course::Pending(1, Ending::Done), ..Script::default() };
        town.world.as_ref().unwrap().next(pending);
        market.agent(buyer()).approve(job).await.unwrap();
        assert!(!market.agent(buyer()).review(job, stars(5)).await.unwrap().settled);
        town.wait(Span::hours(1));
        score_becomes(&town, worker(), "51").await;
        market.operator("Ada").refund_paid(job, Some(town.money(AMOUNT - 1)), "it was half done").await.unwrap();
        let receipts = async || {
            let history = market.job_history(job).await.unwrap();
            history.iter().filter(|logged| logged.event.body.name() == "payment.received").count()
        };
        becomes(&town, 2, receipts).await;
        // What comes later in the log is counted, so the refund was looked at.
        town.completed(buyer(), worker(), AMOUNT).await;
        becomes(&town, 2, async || standing(&town, worker()).await.completed).await;
        adds_up(&town, worker()).await;
        let known = standing(&town, worker()).await;
        assert_eq!((known.completed, known.ratings, known.score), (2, 1, decimal("51.5")), "{on:?}");
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_29_jp_15_each_party_reviews_a_completed_job_once_and_nobody_else_does_on_every_store() {
    for on in STORES {
        let town = Town::new(on, voxpact(), Purse::Credits).await;
        let market = &town.market;
        let open = town.delivered(buyer(), worker(), AMOUNT).await;
        let early = market.agent(buyer()).review(open, stars(5)).await.unwrap_err();
        assert!(matches!(early.rejection(), Some(Rejection::WrongStatus { command: "review", .. })));
        market.agent(buyer()).approve(open).await.unwrap();
        for session in [market.agent(stranger()), market.operator("Ada")] {
            let refused = session.review(open, stars(5)).await.unwrap_err();
            assert!(matches!(refused.rejection(), Some(Rejection::WrongActor { command: "review", .. })));
        }
        let (one, two, three) = tokio::join!(
            market.agent(buyer()).review(open, stars(5)),
            market.agent(buyer()).review(open, stars(4)),
            market.agent(worker()).review(open, stars(3)),
        );
        assert!(three.is_ok());
        assert_eq!([&one, &two].iter().filter(|given| given.is_ok()).count(), 1, "{on:?}");
        let again = market.agent(worker()).review(open, stars(3)).await.unwrap_err();
        assert_eq!(again.rejection(), Some(&Rejection::DoneBefore { what: "the job was reviewed" }));
        let about = market.reviews_of(worker(), 0, 10).await.unwrap();
        assert_eq!(about.iter().map(|review| (review.by, review.author)).collect::<Vec<_>>(), [(Side::Buyer, buyer())]);
        assert_eq!(market.reviews_of(worker(), 1, 10).await.unwrap(), []);
        let key = market.agent(buyer()).keyed("k").review(JobId(Uuid::nil()), stars(5)).await.unwrap_err();
        assert!(matches!(key.rejection(), Some(Rejection::NotFound { what: "job", .. })));
    }
}

#[tokio::test]
async fn vp_29_jp_15_what_a_review_says_is_limited_and_hostile_text_stays_out() {
    let town = Town::new(On::Memory, just_pay(), Purse::Credits).await;
    let job = town.completed(buyer(), worker(), AMOUNT).await;
    let give = |rating| town.market.agent(buyer()).review(job, rating);
    for bad in [0, 6, 255] {
        let refused = give(stars(bad)).await.unwrap_err();
        assert_eq!(refused.rejection(), Some(&Rejection::Rating { min: 1, max: 5, actual: bad }));
    }
    let long = give(Rating { comment: "ü".repeat(501), ..stars(5) }).await.unwrap_err();
    let length = Rejection::Length { field: "comment", unit: "characters", min: 0, max: 500, actual: 501 };
    assert_eq!(long.rejection(), Some(&length), "JP-15: characters, not bytes");
    for hidden in ["\u{202E}gnp.exe", "bell\u{7}", "\u{0}", "line\u{2028}break"] {
        let refused = give(Rating { comment: hidden.into(), ..stars(5) }).await.unwrap_err();
        assert!(matches!(refused.rejection(), Some(Rejection::Character { field: "comment", .. })), "{hidden:?}");
    }
    let tags = |tags: &[&str]| Rating { tags: tags.iter().map(|tag| (*tag).into()).collect(), ..stars(5) };
    let many = give(tags(&["1", "2", "3", "4", "5", "6"])).await.unwrap_err();
    assert_eq!(many.rejection(), Some(&Rejection::TooMany { field: "tags", max: 5, actual: 6 }));
    for bad in [tags(&[""]), tags(&["a\nb"]), tags(&["same", "same"]), tags(&[&"x".repeat(51)])] {
        assert!(give(bad).await.unwrap_err().rejection().is_some());
    }
    let kept =
        give(Rating { comment: "<script>alert('1')</script>; DROP TABLE reviews".into(), ..tags(&["fast", "ok"]) });
    let kept: std::sync::Arc<Review> = kept.await.unwrap();
    assert_eq!(kept.said.comment, "<script>alert('1')</script>; DROP TABLE reviews", "a text is a text");

    let without =
        Town::new(On::Memory, Policy { reviews: None, ..agent_market_without_ratings() }, Purse::Credits).await;
    without.deposit(buyer(), AMOUNT).await;
    let refused = without.market.agent(buyer()).review(JobId(Uuid::nil()), stars(5)).await.unwrap_err();
    assert!(refused.rejection().is_some());
}

fn agent_market_without_ratings() -> Policy {
    let mut policy = agent_market();
    policy.trust.scoring = Scoring::Fixed;
    policy
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_14_33_a_buyer_who_disputes_too_much_is_kept_from_posting_until_jobs_bring_the_rate_down() {
    for on in STORES {
        let town = Town::new(on, just_pay(), Purse::Credits).await;
        let market = &town.market;
        town.deposit(buyer(), 100_000_000).await;
        let mut under_way = Vec::new();
        for _ in 0..8 {
            under_way.push(town.delivered(buyer(), worker(), 1_000_000).await);
        }
        let filing = || Filing { category: Some("fraud".into()), reason: String::new(), evidence: vec![] };
        for job in under_way.drain(..3) {
            let dispute = market.agent(buyer()).open_dispute(job, filing()).await.unwrap().id;
            market.operator("Ada").rule(dispute, Award::Buyer, "").await.unwrap();
        }
        let client = async || {
            let known = standing(&town, buyer()).await;
            (known.client.filed, known.client.completed, known.restricted)
        };
        becomes(&town, (3, 0, true), client).await;
        assert_eq!(standing(&town, buyer()).await.client.dispute_rate(), Decimal::ONE);
        let refused = market.agent(buyer()).post_job(order(town.money(1_000_000))).await.unwrap_err();
        assert!(matches!(refused.rejection(), Some(Rejection::TooManyDisputes { command: "post", filed: 3, .. })));
        let last = *under_way.last().unwrap();
        let refused = market.agent(buyer()).open_dispute(last, filing()).await.unwrap_err();
        assert!(matches!(refused.rejection(), Some(Rejection::TooManyDisputes { command: "open_dispute", .. })));
        for job in under_way {
            market.agent(buyer()).approve(job).await.unwrap();
        }
        becomes(&town, (3, 5, false), client).await; // 3 of 8 is below 40 %
        market.agent(buyer()).post_job(order(town.money(1_000_000))).await.unwrap();
        for agent in [buyer(), worker()] {
            adds_up(&town, agent).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_14_of_a_burst_of_filings_no_more_pass_than_the_policy_allows_on_every_store() {
    for on in STORES {
        let town = Town::new(on, just_pay(), Purse::Credits).await;
        town.deposit(buyer(), 100_000_000).await;
        let mut under_way = Vec::new();
        for _ in 0..8 {
            under_way.push(town.delivered(buyer(), worker(), 1_000_000).await);
        }
        let filing = || Filing { category: Some("fraud".into()), reason: String::new(), evidence: vec![] };
        town.deposit(worker(), 1_000_000).await; // for the fee of its own
        let file = |job: JobId| town.market.agent(buyer()).open_dispute(job, filing());
        let filed = futures::future::join_all(under_way.iter().map(|job| file(*job))).await;
        let refused: Vec<_> = filed.iter().filter_map(|filed| filed.as_ref().err()).collect();
        assert_eq!(refused.len(), 5, "{on:?}: {refused:?}");
        for error in refused {
            let rejection = error.rejection();
            assert!(matches!(rejection, Some(Rejection::TooManyDisputes { filed: 3, completed: 0, .. })), "{error}");
        }
        // Nobody has read the log yet.
        assert!(standing(&town, buyer()).await.restricted);
        let post = town.market.agent(buyer()).post_job(order(town.money(1_000_000))).await.unwrap_err();
        assert!(matches!(post.rejection(), Some(Rejection::TooManyDisputes { command: "post", filed: 3, .. })));
        // The worker's filing is not the buyer's, and counts against nobody here.
        let theirs = under_way.iter().zip(&filed).find(|(_, filed)| filed.is_err()).unwrap().0;
        town.market.agent(worker()).open_dispute(*theirs, filing()).await.unwrap();
        becomes(&town, 3, async || standing(&town, buyer()).await.client.filed).await;
        for agent in [buyer(), worker()] {
            adds_up(&town, agent).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_32_what_verifies_an_agent_is_policy_and_counts_from_the_log_on_every_store() {
    let mut webhook = voxpact();
    webhook.trust = just_pay().trust;
    (webhook.reports, webhook.disputes, webhook.fees) = (just_pay().reports, None, just_pay().fees);
    for on in STORES {
        for by in [Verification::FirstDeposit, Verification::Email, Verification::Webhook] {
            let mut policy = if by == Verification::FirstDeposit { just_pay() } else { webhook.clone() };
            policy.trust.verified_by = vec![by];
            let parts = AgentParts::new(Pepper::new([7; 32])).webhook_ping(Answers);
            let town = Town::with(on, policy, Purse::Credits, |builder| builder.agents(parts)).await;
            let market = &town.market;
            let owner = || Actor::Owner(tradepost::ids::OwnerId(Uuid::from_u128(1)));
            let profile =
                tradepost::agent::Profile { webhook: Some("https://example.org/hook".into()), ..Default::default() };
            let registration = Registration { name: "Ada".into(), email: Some("ada@example.org".into()), profile };
            let made = market.by(owner()).register(registration).await.unwrap();
            let agent = made.agent.id;
            score_becomes(&town, agent, if by == Verification::Webhook { "0.75" } else { "0.65" }).await;
            match &made.token {
                Some(token) => {
                    let terms = tradepost::agent::AcceptedTerms("2026-01".into());
                    drop(market.by(owner()).confirm(agent, token.expose(), terms).await.unwrap());
                }
                None => {
                    for reference in ["first", "second"] {
                        let amount = town.money(2_000_000);
                        let credits = tradepost::rail::CreditsRail::ID;
                        market.operator("Ada").record_deposit(credits, reference, agent, amount).await.unwrap();
                    }
                }
            }
            score_becomes(&town, agent, "0.75").await;
            // Another address that answers verifies nobody twice.
            let update = tradepost::agent::ProfileUpdate {
                webhook: Some("https://example.org/other".into()),
                ..Default::default()
            };
            market.by(owner()).update_profile(agent, update).await.unwrap();
            town.idle().await;
            adds_up(&town, agent).await;
            assert_eq!(market.trust_history(agent).await.unwrap().len(), 1, "{on:?} {by:?}");
        }
    }
}

/// Every webhook answers.
struct Answers;

#[async_trait::async_trait]
impl tradepost::engine::WebhookPing for Answers {
    async fn ping(&self, _url: &str, _within: Span) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_29_reports_warn_expire_and_are_dismissed_by_work_and_by_operators_on_every_store() {
    for on in STORES {
        let town = Town::new(on, just_pay(), Purse::Credits).await;
        let market = &town.market;
        let complain = |target, reason: &str| Complaint { target, reason: reason.into(), description: "see".into() };
        let agent_of = Reported::Agent(worker());
        let before = standing(&town, worker()).await.score;
        for (i, badge) in ["low", "low", "medium", "medium", "high"].into_iter().enumerate() {
            market.agent(agent(900 + i as u128)).report(complain(agent_of, "spam")).await.unwrap();
            becomes(&town, (i + 1, Some(badge.into())), async || warning(&town, worker()).await).await;
            assert!(standing(&town, worker()).await.score < before, "it lowers trust");
        }
        let twice = market.agent(agent(900)).report(complain(agent_of, "spam")).await.unwrap_err();
        assert_eq!(twice.rejection(), Some(&Rejection::DoneBefore { what: "it was reported" }));
        let own = market.agent(worker()).report(complain(agent_of, "spam")).await.unwrap_err();
        assert!(matches!(own.rejection(), Some(Rejection::WrongActor { .. })));
        let word = market.agent(stranger()).report(complain(agent_of, "envy")).await.unwrap_err();
        assert!(matches!(word.rejection(), Some(Rejection::NotOneOf { field: "reason", .. })));

        let first = tradepost::report::Report::id_of(agent_of, agent(904));
        let nobody = market.agent(worker()).dismiss_report(first, "I say so").await.unwrap_err();
        assert!(matches!(nobody.rejection(), Some(Rejection::WrongActor { allowed: "an operator", .. })));
        market.operator("Ada").dismiss_report(first, "unfounded").await.unwrap();
        market.operator("Ada").dismiss_report(first, "unfounded").await.unwrap_err();
        becomes(&town, (4, Some("medium".into())), async || warning(&town, worker()).await).await;
        for _ in 0..5 {
            town.completed(buyer(), worker(), 1000).await;
        }
        // 5 jobs dismiss the oldest.
        becomes(&town, (3, Some("medium".into())), async || warning(&town, worker()).await).await;
        town.wait(Span::hours(30 * 24));
        assert_eq!(warning(&town, worker()).await, (0, None), "30 days after the last one");
        market.agent(agent(900)).report(complain(agent_of, "spam")).await.unwrap();

        let job = town.delivered(buyer(), worker(), 1000).await;
        market.agent(worker()).report(complain(Reported::Job(job), "illegal")).await.unwrap();
        // A job counts against who posted it.
        becomes(&town, (1, Some("low".into())), async || warning(&town, buyer()).await).await;
        for agent in [buyer(), worker()] {
            adds_up(&town, agent).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_42_only_contracts_settled_for_money_between_different_owners_count() {
    let policy = agent_market();
    let parts = AgentParts::new(Pepper::new([7; 32]));
    let town = Town::with(On::Sqlite, policy, Purse::Credits, |builder| builder.agents(parts)).await;
    let market = &town.market;
    let mut agents = Vec::new();
    for (owner, name) in [(1, "one"), (1, "two"), (2, "three")] {
        let owner = tradepost::actor::Actor::Owner(tradepost::ids::OwnerId(Uuid::from_u128(owner)));
        let registration =
            tradepost::agent::Registration { name: name.into(), email: None, profile: Default::default() };
        agents.push(market.by(owner).register(registration).await.unwrap().agent.id);
    }
    let (one, two, three) = (agents[0], agents[1], agents[2]);
    for (buyer, worker, rating) in [(one, two, 5), (three, two, 3)] {
        let mut order = order(town.money(10));
        order.worker = Some(worker);
        let job = market.agent(buyer).post_job(order).await.unwrap().id;
        market.agent(worker).accept(job).await.unwrap();
        market.agent(worker).deliver(job, Default::default()).await.unwrap();
        market.agent(buyer).review(job, stars(rating)).await.unwrap();
        town.idle().await;
    }
    let known = standing(&town, two).await;
    assert_eq!((known.ratings, known.completed, known.score), (1, 1, decimal("3")), "the ring's 5 counts for nothing");
    adds_up(&town, two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_21_42_the_kept_score_gives_the_tier_and_the_tier_the_fee_and_the_limit() {
    let mut policy = voxpact();
    // Three jobs are enough here to become gold.
    policy.trust.tiers[2].from = Score::new(decimal("51")).unwrap();
    policy.trust.tiers[1].job_amount_max = Some(10_000);
    policy.trust.tiers[0].job_amount_max = Some(10_000);
    let town = Town::new(On::Memory, policy, Purse::Credits).await;
    let market = &town.market;
    town.deposit(buyer(), 1_000_000).await;
    let large = market.agent(buyer()).post_job(order(town.money(10_001))).await.unwrap_err();
    let (tier, max, actual) = ("silver".into(), town.money(10_000), town.money(10_001));
    let refused = Rejection::TierAmount { tier, max, actual };
    assert_eq!(large.rejection(), Some(&refused));
    for (fee, then) in [(1000, "50.5"), (1000, "51"), (800, "51.5")] {
        let job = town.completed(buyer(), worker(), AMOUNT).await;
        assert_eq!(town.job(job).await.terms.fee.minor(), fee, "VP-21");
        score_becomes(&town, worker(), then).await;
    }
    assert_eq!(standing(&town, worker()).await.tier, "gold");
    market.agent(buyer()).post_job(order(town.money(10_001))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_counts_once_however_many_processes_keep_score_on_every_store() {
    for on in STORES {
        let town = Town::new(on, voxpact(), Purse::Credits).await;
        for _ in 0..10 {
            town.completed(buyer(), worker(), AMOUNT).await;
        }
        let market = &town.market;
        let (one, two, three) = tokio::join!(market.work(), market.work(), market.work());
        let failed: Vec<Error> = [one, two, three].into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{failed:?}");
        score_becomes(&town, worker(), "55").await;
        adds_up(&town, worker()).await;
    }
}
