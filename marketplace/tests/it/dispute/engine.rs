//! Disputes through the engine, on every store, with money in the ledger and with a rail that holds it and
//! loses answers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use tradepost::{
    dispute::{
        Arbiter, Award, Case, DisputeEnding, DisputeEvent, DisputeStatus, Escalation, Filing, Judgement, NoJudgement,
    },
    engine::Marketplace,
    error::{Error, Rejection},
    ids::{DisputeId, JobId},
    job::{HoldState, JobStatus},
    ledger::{Account, RevenueKind},
    policy::{EvidenceKind, Policy, Scoring, Span},
    store::EventBody,
    testkit::{Course, Script},
    trust::Side,
};
use uuid::Uuid;

use super::desk::{filing, item, split};
use crate::{support::*, town::*};

const AMOUNT: i64 = 10_001;
const DAY: Span = Span::hours(24);

/// Judges as its name says; counts how often it was asked.
#[derive(Clone)]
struct Judge(Manner, Arc<AtomicU32>);

#[derive(Clone, Copy, Debug)]
enum Manner {
    Sure(Award),
    Declines,
    Panics,
    Babbles,
    Hangs,
    /// Says that it is unavailable so often, then judges for the worker.
    Away(u32),
}

impl Judge {
    fn new(manner: Manner) -> Self {
        Self(manner, Arc::default())
    }

    fn asked(&self) -> u32 {
        self.1.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Arbiter for Judge {
    async fn judge(&self, case: &Case) -> Result<Judgement, NoJudgement> {
        let before = self.1.fetch_add(1, Ordering::SeqCst);
        assert_eq!(case.reason, filing().reason, "the case is whole");
        assert_eq!(case.deliveries.len(), 1);
        let judged =
            |award, reasoning: &str| Ok(Judgement { award, confidence: rate("0.95"), reasoning: reasoning.into() });
        match self.0 {
            Manner::Sure(award) => judged(award, "as the task says"),
            Manner::Away(times) if before >= times => judged(Award::Worker, "at last"),
            Manner::Away(_) => Err(NoJudgement::Unavailable { reason: "it restarts".into() }),
            Manner::Declines => Err(NoJudgement::Declined { reason: "not mine".into() }),
            Manner::Babbles => judged(split("0"), "nothing is a share"),
            Manner::Panics => panic!("the arbiter breaks down"),
            Manner::Hangs => std::future::pending().await,
        }
    }
}

/// A town whose disputes an arbiter judges, and one disputed job in it.
async fn disputed(on: On, purse: Purse, judge: &Judge) -> (Town, JobId, DisputeId) {
    let judge = judge.clone();
    let town = Town::with(on, voxpact(), purse, |builder| builder.arbiter(judge).lease(Span::seconds(60))).await;
    let job = town.delivered(buyer(), worker(), AMOUNT).await;
    let dispute = town.market.agent(buyer()).open_dispute(job, filing()).await.unwrap();
    (town, job, dispute.id)
}

async fn status(town: &Town, dispute: DisputeId) -> DisputeStatus {
    town.market.dispute(dispute).await.unwrap().status
}

async fn escalations(market: &Marketplace, dispute: DisputeId) -> Vec<Escalation> {
    let history = market.dispute_history(dispute).await.unwrap();
    let cause = |body| match body {
        EventBody::Dispute(DisputeEvent::Escalated { cause, .. }) => Some(cause),
        _ => None,
    };
    history.into_iter().filter_map(|logged| cause(logged.event.body)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_30_31_an_arbiters_ruling_is_carried_out_after_the_appeal_window_on_every_store_and_rail() {
    for on in STORES {
        for purse in [Purse::Credits, Purse::PerHold(None)] {
            let judge = Judge::new(Manner::Sure(split("0.333")));
            let (town, job, dispute) = disputed(on, purse, &judge).await;
            let before = (town.got(buyer()).await, town.got(worker()).await);
            let evidence = vec![item(EvidenceKind::Text, "look here")];
            let market = &town.market;
            market.agent(worker()).answer_dispute(dispute, "all of it is there", evidence).await.unwrap();
            town.idle().await;
            assert_eq!((status(&town, dispute).await, judge.asked()), (DisputeStatus::Ruled, 1), "{on:?}");
            assert_eq!(town.job(job).await.status, JobStatus::Disputed);
            assert_eq!((town.got(buyer()).await, town.got(worker()).await), before, "VP-31: nothing has moved");
            let case = market.dispute_case(dispute).await.unwrap();
            assert_eq!(case.answer.as_deref(), Some("all of it is there"));
            assert_eq!((case.evidence[0].by, &*case.evidence[0].item.content), (Side::Worker, "look here"));
            assert_eq!(case.rulings, ["as the task says"]);

            town.lose_next_answer();
            town.wait(Span::hours(7 * 24));
            town.idle().await;
            town.wait(DAY); // what was lost is looked up
            town.idle().await;
            assert_eq!(status(&town, dispute).await, DisputeStatus::Resolved);
            let ended = town.job(job).await;
            assert_eq!((ended.status, ended.hold.state), (JobStatus::Completed, HoldState::Settled));
            // 33.3 % of 100.01 is 33.30; of the fee of 10.00 it is 3.32, out of the worker's share.
            assert_eq!(town.got(worker()).await - before.1, 2998, "{on:?}");
            assert_eq!(town.got(buyer()).await - before.0, i128::from(AMOUNT) - 3330, "{on:?}");
            let fees = market.balance(Account::Revenue(RevenueKind::Fees), None).await.unwrap();
            assert_eq!(fees.minor(), 332);
            // VP-36: a job earned what its worker got of it, not what its terms said.
            let earned = market.earnings(worker(), 0, 50).await.unwrap();
            let line = earned.jobs.iter().find(|line| line.job == job).unwrap();
            assert_eq!([line.gross, line.fee, line.net].map(|money| money.minor()), [3330, 332, 2998], "{on:?}");
            let sum: i64 = earned.jobs.iter().map(|line| line.net.minor()).sum();
            assert_eq!((earned.total_earned.minor(), earned.total_jobs as usize), (sum, earned.jobs.len()));
            town.check_books().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jp_13_a_dispute_with_a_fee_is_taken_up_and_ruled_by_an_operator_on_every_store() {
    for on in STORES {
        let town = Town::new(on, just_pay(), Purse::Credits).await;
        let (market, amount) = (&town.market, 4_000_000);
        let job = town.delivered(buyer(), worker(), amount).await;
        let wealth = town.got(buyer()).await;
        let filing = Filing { category: Some("incomplete".into()), ..filing() };
        let opened = market.agent(buyer()).keyed("once").open_dispute(job, filing.clone()).await.unwrap();
        let again = market.agent(buyer()).keyed("once").open_dispute(job, filing).await.unwrap();
        assert_eq!(opened.id, again.id, "under a key it is opened once");
        assert_eq!(wealth - town.got(buyer()).await, 200_000, "5 % of 4 USDC, once");

        let queue = market.dispute_queue(10).await.unwrap();
        assert_eq!(queue.iter().map(|dispute| dispute.id).collect::<Vec<_>>(), [opened.id]);
        market.operator("Ada").take_up(opened.id).await.unwrap();
        let other = market.operator("Bob").rule(opened.id, Award::Buyer, "").await.unwrap_err();
        assert!(matches!(other.rejection(), Some(Rejection::TakenUp { handler, .. }) if handler == "Ada"));
        market.operator("Ada").rule(opened.id, split("0.5"), "half of it is there").await.unwrap();
        assert_eq!(town.got(worker()).await, 2_000_000);
        assert_eq!(town.got(buyer()).await - wealth, -200_000 + 2_060_000, "with half of the 3 %");
        assert!(market.dispute_queue(10).await.unwrap().is_empty());
        let revenue = market.balance(Account::Revenue(RevenueKind::Disputes), None).await.unwrap();
        assert_eq!(revenue.minor(), 200_000, "never refunded");
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rulings_at_once_or_a_ruling_and_a_settlement_one_counts_on_every_store_and_rail() {
    for on in STORES {
        for purse in [Purse::Credits, Purse::PerHold(None)] {
            let mut policy = voxpact();
            policy.trust.scoring = Scoring::Fixed; // or the fee would rise with the disputes lost
            let town = Town::new(on, policy, purse).await;
            let market = &town.market;
            for round in 0..6 {
                let job = town.delivered(buyer(), worker(), AMOUNT).await;
                let id = market.agent(buyer()).open_dispute(job, filing()).await.unwrap().id;
                market.operator("Ada").escalate(id, "").await.unwrap();
                market.agent(worker()).offer_settlement(id, split("0.5")).await.unwrap();
                let before = (town.got(buyer()).await, town.got(worker()).await);
                let (one, two, three) = tokio::join!(
                    market.operator("Ada").rule(id, Award::Buyer, "for the buyer"),
                    market.operator("Bob").rule(id, Award::Worker, "for the worker"),
                    market.agent(buyer()).accept_settlement(id, split("0.5")),
                );
                let answers = [one, two, three];
                assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{on:?}: {answers:?}");
                for answer in &answers {
                    let Err(error) = answer else { continue };
                    assert!(matches!(error.rejection(), Some(Rejection::WrongDisputeStatus { .. })), "{error}");
                }
                town.idle().await;
                let ended = answers.into_iter().flatten().next().unwrap();
                let got = (town.got(buyer()).await - before.0, town.got(worker()).await - before.1);
                let expected = match (&ended.status, &ended.ruling) {
                    (DisputeStatus::Settled, _) => (5001, 4501),
                    (_, Some(ruling)) if ruling.award == Award::Buyer => (10_001, 0),
                    _ => (0, 9001),
                };
                assert_eq!(got, expected, "{on:?} round {round}");
            }
            town.check_books().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_20_30_a_dispute_and_the_automatic_release_never_both_happen() {
    for on in STORES {
        let town = Town::new(on, voxpact(), Purse::Credits).await;
        let market = &town.market;
        for round in 0..6 {
            let job = town.delivered(buyer(), worker(), AMOUNT).await;
            // The moment of release itself is the release's; a moment before, either party may be faster.
            let due = round % 2 == 0;
            let release = town.job(job).await.timers.release_at.unwrap();
            let now = if due { release } else { Desk::just_before(release) };
            town.wait_until(now);
            let (disputed, approved, _) = tokio::join!(
                market.agent(worker()).open_dispute(job, filing()),
                async { if due { Ok(()) } else { market.agent(buyer()).approve(job).await.map(|_| ()) } },
                market.work(),
            );
            let ended = town.job(job).await.status;
            match (due, &disputed) {
                (true, Err(Error::Rejected(Rejection::TooLate { .. } | Rejection::WrongStatus { .. }))) => {
                    assert_eq!(ended, JobStatus::Completed);
                }
                (false, Ok(_)) => assert_eq!((ended, approved.is_err()), (JobStatus::Disputed, true)),
                (false, Err(_)) => assert_eq!((ended, approved.is_ok()), (JobStatus::Completed, true)),
                other => panic!("{on:?}: {other:?}"),
            }
        }
        town.check_books().await;
    }
}

#[tokio::test(start_paused = true)]
async fn vp_30_an_arbiter_that_declines_panics_babbles_or_hangs_leaves_it_to_people() {
    for manner in [Manner::Declines, Manner::Panics, Manner::Babbles, Manner::Hangs] {
        let judge = Judge::new(manner);
        let (town, job, dispute) = disputed(On::Memory, Purse::Credits, &judge).await;
        town.market.agent(worker()).answer_dispute(dispute, "no", vec![]).await.unwrap_err(); // too short
        town.market.agent(worker()).answer_dispute(dispute, "all of it is there", vec![]).await.unwrap();
        town.idle().await;
        if matches!(manner, Manner::Hangs) {
            assert_eq!(status(&town, dispute).await, DisputeStatus::Arbitration, "it is asked again");
            town.wait(Span::hours(1));
            town.idle().await;
        }
        assert_eq!(status(&town, dispute).await, DisputeStatus::Review, "{manner:?}");
        let causes = escalations(&town.market, dispute).await;
        let expected = matches!(
            (manner, &causes[..]),
            (Manner::Declines, [Escalation::Declined])
                | (Manner::Hangs, [Escalation::Silent])
                | (Manner::Panics | Manner::Babbles, [Escalation::Unusable { .. }])
        );
        assert!(expected, "{manner:?}: {causes:?}");
        assert_eq!(judge.asked(), 1);
        town.market.operator("Ada").rule(dispute, Award::Worker, "it is all there").await.unwrap();
        assert_eq!((town.job(job).await.status, town.got(worker()).await), (JobStatus::Completed, 9001));
    }
}

#[tokio::test]
async fn vp_30_an_arbiter_that_was_away_judges_when_it_is_back() {
    let judge = Judge::new(Manner::Away(3));
    let (town, _, dispute) = disputed(On::Memory, Purse::Credits, &judge).await;
    town.wait(DAY); // nobody answers
    for asked in 1..=4 {
        town.idle().await;
        assert_eq!(judge.asked(), asked);
        town.wait(Span::seconds(15 * 60));
    }
    assert_eq!(status(&town, dispute).await, DisputeStatus::Ruled);
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_39_a_hold_that_expires_during_a_dispute_ends_both_in_one_commit_on_every_store() {
    for on in STORES {
        let judge = Judge::new(Manner::Hangs);
        let (town, job, dispute) = disputed(on, Purse::PerHold(None), &judge).await;
        let before = town.got(buyer()).await;
        town.world.as_ref().unwrap().expire(job.into());
        town.idle().await;
        assert_eq!(status(&town, dispute).await, DisputeStatus::Lapsed);
        assert_eq!(town.job(job).await.status, JobStatus::Cancelled);
        assert_eq!(town.got(buyer()).await - before, i128::from(AMOUNT));
        town.check_books().await;

        // And before the rail does it by itself, the engine does: it acts six hours earlier.
        let (town, job, dispute) = disputed(on, Purse::PerHold(Some(Span::hours(7 * 24))), &judge).await;
        town.market.operator("Ada").escalate(dispute, "").await.unwrap();
        town.wait(Span::hours(7 * 24 - 6));
        town.idle().await;
        assert_eq!(status(&town, dispute).await, DisputeStatus::Lapsed);
        assert_eq!(town.job(job).await.status, JobStatus::Refunded, "as the policy says");
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_30_a_split_that_the_rail_declines_arrives_later_on_every_store() {
    for on in STORES {
        let town = Town::new(on, voxpact(), Purse::PerHold(None)).await;
        let job = town.delivered(buyer(), worker(), AMOUNT).await;
        let id = town.market.agent(worker()).open_dispute(job, filing()).await.unwrap().id;
        town.market.operator("Ada").escalate(id, "").await.unwrap();
        town.world.as_ref().unwrap().next(Script { course: Course::Declined, ..Script::default() });
        town.market.operator("Ada").rule(id, split("0.5"), "half").await.unwrap();
        assert_eq!(town.got(worker()).await, 0);
        assert!(matches!(town.job(job).await.hold.state, HoldState::Settling(_)));
        town.wait(DAY);
        town.idle().await;
        assert_eq!(town.got(worker()).await, 4501, "{on:?}");
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vp_31_the_queue_has_the_one_due_first_at_the_front_on_every_store() {
    for on in STORES {
        let judge = Judge::new(Manner::Sure(Award::Worker));
        let town = Town::with(on, voxpact(), Purse::Credits, |builder| builder.arbiter(judge)).await;
        let market = &town.market;
        let mut opened = Vec::new();
        for _ in 0..3 {
            let job = town.delivered(buyer(), worker(), 500).await;
            opened.push(market.agent(buyer()).open_dispute(job, filing()).await.unwrap().id);
        }
        // The oldest is appealed last, the newest is escalated first.
        market.operator("Ada").escalate(opened[2], "").await.unwrap();
        town.wait(Span::hours(1));
        market.operator("Ada").escalate(opened[1], "").await.unwrap();
        town.wait(DAY);
        town.idle().await;
        market.agent(buyer()).appeal(opened[0], "let a person look at it").await.unwrap();
        let queue = market.dispute_queue(10).await.unwrap();
        assert_eq!(queue.iter().map(|dispute| dispute.id).collect::<Vec<_>>(), [opened[2], opened[1], opened[0]]);
        assert_eq!(market.dispute_queue(1).await.unwrap()[0].id, opened[2]);
        town.wait(Span::hours(23));
        town.idle().await;
        let overdue: Vec<bool> = market.dispute_queue(10).await.unwrap().iter().map(|d| d.overdue).collect();
        assert_eq!(overdue, [true, false, false], "48 h after it came to people");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_dispute_lets_its_job_go_on_and_frozen_ones_wait_on_every_store() {
    for on in STORES {
        let town = Town::new(on, voxpact(), Purse::Credits).await;
        let market = &town.market;
        let job = town.delivered(buyer(), worker(), AMOUNT).await;
        let id = market.agent(buyer()).open_dispute(job, filing()).await.unwrap().id;
        market.operator("Ada").freeze(job, "looks odd").await.unwrap();
        let refused = market.agent(buyer()).withdraw_dispute(id).await.unwrap_err();
        assert!(matches!(refused.rejection(), Some(Rejection::WrongStatus { status: JobStatus::Frozen, .. })));
        town.wait(Span::hours(30 * 24));
        town.idle().await;
        assert_eq!(status(&town, id).await, DisputeStatus::Answering, "its time stands still");
        market.operator("Ada").unfreeze(job).await.unwrap();
        market.agent(buyer()).withdraw_dispute(id).await.unwrap();
        assert_eq!(town.job(job).await.status, JobStatus::Delivered);
        town.wait(Span::hours(48));
        town.idle().await;
        assert_eq!((town.job(job).await.status, town.got(worker()).await), (JobStatus::Completed, 9001));
        town.check_books().await;
    }
}

#[tokio::test]
async fn a_dispute_that_is_not_there_or_nobodys_business_is_refused_and_writes_nothing() {
    let town = Town::new(On::Memory, voxpact(), Purse::Credits).await;
    let market = &town.market;
    let job = town.delivered(buyer(), worker(), AMOUNT).await;
    let nobody = DisputeId(Uuid::nil());
    let found = market.operator("Ada").rule(nobody, Award::Buyer, "").await.unwrap_err();
    assert!(matches!(found.rejection(), Some(Rejection::NotFound { what: "dispute", .. })));
    let found = market.agent(buyer()).open_dispute(JobId(Uuid::nil()), filing()).await.unwrap_err();
    assert!(matches!(found.rejection(), Some(Rejection::NotFound { what: "job", .. })));
    market.agent(stranger()).open_dispute(job, filing()).await.unwrap_err();
    assert_eq!(town.job(job).await.status, JobStatus::Delivered);
    assert!(market.disputes_of(buyer(), Side::Buyer, 0).await.unwrap().is_empty());
    let id = market.agent(worker()).open_dispute(job, filing()).await.unwrap().id;
    let stolen = market.agent(stranger()).accept_settlement(id, Award::Worker).await.unwrap_err();
    assert!(matches!(stolen.rejection(), Some(Rejection::WrongActor { .. })));
    assert_eq!(market.disputes_of(worker(), Side::Worker, 0).await.unwrap()[0].id, id);
    assert!(market.disputes_of(worker(), Side::Buyer, 0).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_commits_in_the_embedders_own_transaction_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = tradepost::store::SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let policy: Policy = voxpact();
    let rail = tradepost::rail::CreditsRail::new(policy.currency);
    let market = Marketplace::builder("town", store.clone(), policy).rail(rail).build().await.unwrap();
    let euros = tradepost::money::Money::new(AMOUNT, market.currency());
    let credits = tradepost::rail::CreditsRail::ID;
    market.operator("Ada").record_deposit(credits, "first", buyer(), euros).await.unwrap();
    let job = market.agent(buyer()).post_job(order(euros)).await.unwrap().id;
    market.agent(worker()).accept(job).await.unwrap();
    market.agent(worker()).deliver(job, tradepost::job::Delivery::default()).await.unwrap();
    for kept in [false, true] {
        let mine = store.begin().await.unwrap();
        let opened = market.agent(buyer()).within(&mine).open_dispute(job, filing()).await.unwrap();
        if kept {
            mine.end().await.unwrap();
        } else {
            mine.rollback().await.unwrap();
        }
        assert_eq!(market.dispute(opened.id).await.is_ok(), kept);
        let disputed = market.job(job).await.unwrap().status == JobStatus::Disputed;
        assert_eq!(disputed, kept);
    }
}

#[test]
fn an_ending_reads_back_as_it_is_written() {
    for award in [Award::Buyer, Award::Worker, split("0.125")] {
        for ending in [
            DisputeEnding::Ruled { award },
            DisputeEnding::Agreed { award },
            DisputeEnding::Lapsed { award },
            DisputeEnding::Withdrawn,
        ] {
            let text = serde_json::to_string(&ending).unwrap();
            assert_eq!(serde_json::from_str::<DisputeEnding>(&text).unwrap(), ending, "{text}");
        }
    }
    let text = serde_json::to_string(&DisputeEnding::Ruled { award: Award::Buyer }).unwrap();
    assert_eq!(text, r#"{"how":"ruled","award":"buyer_wins"}"#, "VP-38");
}
