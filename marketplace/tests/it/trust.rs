//! Trust: which facts count, what each model makes of them, and that the same facts give the same
//! number.

use chrono::TimeDelta;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tradepost::{
    clock::Timestamp,
    ids::{AgentId, JobId, OwnerId},
    money::{Currency, Money},
    policy::{Policy, Span},
    trust::{
        ClientReputation, Contract, Evidence, Fact, Happening, Ignored, Outcome, Party, Record, Ruling, Settled, Side,
        Stance, Tally, Trust, TrustModel, counts,
    },
};
use uuid::Uuid;

const WORKER: Party = party(1, 101);
const BUYER: Party = party(2, 102);

const fn party(agent: u128, owner: u128) -> Party {
    Party { agent: AgentId(Uuid::from_u128(agent)), owner: OwnerId(Uuid::from_u128(owner)) }
}

fn cents(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

fn days(days: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + TimeDelta::days(days)
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// A contract that paid its worker.
fn paid() -> Contract {
    between(BUYER, WORKER, Some((500, 450)))
}

/// A contract whose buyer has everything back.
fn refunded() -> Contract {
    between(BUYER, WORKER, Some((500, 0)))
}

fn between(buyer: Party, worker: Party, settled: Option<(i64, i64)>) -> Contract {
    let settled = settled.map(|(amount, worker)| Settled { amount: cents(amount), to_worker: cents(worker) });
    Contract { id: JobId(Uuid::from_u128(7)), buyer, worker, settled }
}

fn completed(day: i64) -> Fact {
    Fact::completed(days(day), paid())
}

fn rated(day: i64, rating: u8) -> Fact {
    Fact::rated(days(day), paid(), Side::Buyer, rating)
}

fn ruled(day: i64, filed_by: Side, ruling: Ruling) -> Fact {
    let contract = if ruling == Ruling::Buyer { refunded() } else { paid() };
    Fact::ruled(days(day), contract, filed_by, ruling)
}

fn fault(day: i64) -> Fact {
    Fact::worker_fault(days(day), refunded())
}

fn reported(day: i64, by: u128) -> Fact {
    Fact::of(days(day), Happening::Reported { target: WORKER, reporter: party(by, 100 + by) })
}

/// VoxPact's policy with beta reputation: evidence halves every 30 days.
fn beta() -> Policy {
    let mut policy = serde_json::to_value(Policy::voxpact().unwrap()).unwrap();
    policy["trust"]["scoring"] = json!({ "beta": {
        "prior_good": "1", "prior_bad": "1",
        "evidence": { "job_completed": "1", "good_rating": "0.5", "bad_rating": "-1", "dispute_lost": "-3", "worker_fault": "-2" },
        "ratings": { "bad": 2, "good": 4 },
        "retained": "0.5", "period": "30days",
    } });
    Policy::from_json(&policy.to_string()).unwrap()
}

/// The four models under which something moves.
fn models() -> [(&'static str, Policy); 4] {
    [
        ("steps", Policy::voxpact().unwrap()),
        ("weighted", Policy::justpayai().unwrap()),
        ("mean", Policy::agentmarket().unwrap()),
        ("beta", beta()),
    ]
}

fn worker_score(policy: &Policy, facts: &[Fact]) -> Decimal {
    Trust::of(policy).run(WORKER.agent, facts).record.score
}

// What counts.

#[test]
fn only_contracts_settled_for_money_between_different_owners_count() {
    let at = days(1);
    let same_owner = between(party(2, 101), WORKER, Some((500, 450)));
    let with_itself = between(party(1, 102), WORKER, Some((500, 450)));
    for contract in [same_owner, with_itself] {
        for happening in [
            Happening::Completed { contract },
            Happening::WorkerFault { contract },
            Happening::Ruled { contract, filed_by: Side::Buyer, ruling: Ruling::Worker },
            Happening::Rated { contract, by: Side::Buyer, rating: 5 },
        ] {
            assert_eq!(counts(&happening), Err(Ignored::SameOwner { owner: contract.buyer.owner }), "{happening:?}");
        }
    }
    let contract = between(BUYER, WORKER, None);
    assert_eq!(counts(&Happening::Completed { contract }), Err(Ignored::NotSettled { contract: contract.id }));
    // Nothing was at stake, nothing reached the worker, or a negative amount is claimed.
    for (amount, worker) in [(0, 0), (500, 0), (0, 500), (-5, 5), (5, -5)] {
        let contract = between(BUYER, WORKER, Some((amount, worker)));
        let done = counts(&Happening::Completed { contract });
        assert!(matches!(done, Err(Ignored::NoMoney { .. })), "{amount} {worker}: {done:?}");
        let rating = counts(&Happening::Rated { contract, by: Side::Worker, rating: 5 });
        assert!(matches!(rating, Err(Ignored::NoMoney { .. })), "{amount} {worker}: {rating:?}");
    }
    // Failed work pays nobody, but money must have been reserved for it.
    assert_eq!(counts(&Happening::WorkerFault { contract: refunded() }), Ok(()));
    let unfunded = between(BUYER, WORKER, Some((0, 0)));
    assert!(matches!(counts(&Happening::WorkerFault { contract: unfunded }), Err(Ignored::NoMoney { .. })));
    assert_eq!(counts(&Happening::Completed { contract: paid() }), Ok(()));
    let own_report = Happening::Reported { target: WORKER, reporter: party(9, 101) };
    assert!(matches!(counts(&own_report), Err(Ignored::SameOwner { .. })));

    for (name, policy) in models() {
        let trust = Trust::of(&policy);
        let facts = [Fact::completed(at, same_owner), Fact::rated(at, same_owner, Side::Buyer, 5)];
        let course = trust.run(WORKER.agent, &facts);
        assert_eq!(course.record, trust.begin(), "{name}");
        assert!(course.history.is_empty() && course.ignored.len() == 2, "{name}: {course:?}");
    }
}

#[test]
fn a_rating_outside_the_policys_scale_is_refused_with_its_limits() {
    let trust = Trust::of(&Policy::voxpact().unwrap());
    for rating in [0, 6, 255] {
        let refusal = trust.apply(WORKER.agent, &trust.begin(), &rated(1, rating)).unwrap_err();
        assert_eq!(refusal.to_string(), format!("trust: rating {rating}; allowed are 1 to 5"));
    }
    let without = Trust::of(&Policy::paegents().unwrap());
    assert_eq!(without.apply(WORKER.agent, &without.begin(), &rated(1, 5)), Err(Ignored::NoReviews));
    let stranger = AgentId(Uuid::from_u128(99));
    assert_eq!(trust.apply(stranger, &trust.begin(), &completed(1)), Err(Ignored::NotConcerned));
}

// The models.

#[test]
fn vp_42_events_step_the_score_through_the_tiers_and_never_off_the_scale() {
    let policy = Policy::voxpact().unwrap();
    let trust = Trust::of(&policy);
    let worker = |facts: &[Fact]| worker_score(&policy, facts).to_string();
    assert_eq!(worker(&[]), "50");
    assert_eq!(worker(&[completed(1)]), "50.5");
    assert_eq!(worker(&[rated(1, 5)]), "50.5");
    assert_eq!(worker(&[rated(1, 3)]), "50");
    assert_eq!(worker(&[rated(1, 1)]), "48");
    assert_eq!(worker(&[ruled(1, Side::Buyer, Ruling::Buyer)]), "45");
    assert_eq!(worker(&[ruled(1, Side::Buyer, Ruling::Worker)]), "50.5");
    assert_eq!(worker(&[ruled(1, Side::Buyer, Ruling::Split)]), "50");
    assert_eq!(worker(&[fault(1)]), "47");
    // At either end what goes further is not kept.
    assert_eq!(worker(&[[completed(1); 200].as_slice(), &[fault(2)]].concat()), "97");
    assert_eq!(worker(&[[fault(1); 50].as_slice(), &[completed(2)]].concat()), "0.5");
    let tier = |facts: &[Fact]| trust.tier(&trust.run(WORKER.agent, facts).record, days(9)).to_owned();
    assert_eq!(tier(&[]), "silver");
    assert_eq!(tier(&[fault(1); 4]), "bronze");
    assert_eq!(tier(&[completed(1); 39]), "silver");
    assert_eq!(tier(&[completed(1); 40]), "gold");
    assert_eq!(tier(&[completed(1); 80]), "platinum");
}

#[test]
fn vp_29_jp_05_a_review_moves_the_counterpartys_trust_and_nobody_elses() {
    let trust = Trust::of(&Policy::voxpact().unwrap());
    let of_worker = rated(1, 5);
    let of_buyer = Fact::rated(days(2), paid(), Side::Worker, 1);
    let facts = [of_worker, of_buyer];
    let (worker, buyer) = (trust.run(WORKER.agent, &facts).record, trust.run(BUYER.agent, &facts).record);
    assert_eq!((worker.score, buyer.score), (decimal("50.5"), decimal("48")));
    assert_eq!((worker.tally.ratings, worker.tally.rating_sum), (1, 5));
    assert_eq!((buyer.tally.ratings, buyer.tally.rating_sum), (1, 1));
}

#[test]
fn jp_32_six_weighted_components_make_the_score() {
    let policy = Policy::justpayai().unwrap();
    let worker = |facts: &[Fact]| worker_score(&policy, facts).to_string();
    let verified = Fact::of(days(1), Happening::Verified { agent: WORKER.agent });
    let unverified = Fact::of(days(2), Happening::Unverified { agent: WORKER.agent });
    // 0.25 * 0.5 + 0.25 * 0.5 + 0.15 + 0.15 + 0 + 0.10
    assert_eq!(worker(&[]), "0.65");
    assert_eq!(worker(&[completed(1)]), "0.775");
    assert_eq!(worker(&[completed(1), fault(2)]), "0.65");
    assert_eq!(worker(&[completed(1), completed(2), fault(3)]), "0.6917");
    assert_eq!(worker(&[rated(1, 5)]), "0.775");
    assert_eq!(worker(&[rated(1, 1)]), "0.525");
    assert_eq!(worker(&[rated(1, 5), rated(2, 2)]), "0.6812"); // 0.68125, a half to the even digit
    assert_eq!(worker(&[verified]), "0.75");
    assert_eq!(worker(&[verified, unverified]), "0.65");
    // A lost dispute costs the job's success and the whole defence.
    assert_eq!(worker(&[ruled(1, Side::Buyer, Ruling::Buyer)]), "0.375");
    assert_eq!(worker(&[ruled(1, Side::Buyer, Ruling::Worker)]), "0.775");
    let best = [completed(1), rated(1, 5), verified];
    assert_eq!(worker(&best), "1");
    // Reports: a fifth of their weight each, nothing left from five on; one owner counts once.
    let reports = |n: u128| (0..n).map(|i| reported(3, 10 + i)).collect::<Vec<_>>();
    for (n, score) in [(1, "0.63"), (4, "0.57"), (5, "0.55"), (9, "0.55")] {
        assert_eq!(worker(&reports(n)), score, "{n} reports");
    }
    assert_eq!(worker(&[reported(1, 10), reported(2, 10)]), "0.63");
    let dismissed = Happening::ReportDismissed { target: WORKER.agent, reporter: party(10, 110).owner };
    assert_eq!(worker(&[reported(1, 10), Fact::of(days(2), dismissed)]), "0.65");
}

#[test]
fn jp_29_reports_expire_after_the_last_one_and_five_jobs_dismiss_the_oldest() {
    let trust = Trust::of(&Policy::justpayai().unwrap());
    let record = trust.run(WORKER.agent, &[reported(0, 10), reported(20, 11)]).record;
    assert_eq!(trust.score(&record, days(49)), decimal("0.61"));
    assert_eq!(trust.score(&record, days(50)), decimal("0.65"));
    let after = |jobs: usize| {
        let facts = [vec![reported(0, 10), reported(1, 11)], vec![completed(2); jobs]].concat();
        trust.run(WORKER.agent, &facts).record.tally.reports.len()
    };
    assert_eq!([4, 5, 9, 10, 15].map(after), [2, 1, 1, 0, 0]);
    // What expired long ago does not come back with the next report.
    let again = trust.run(WORKER.agent, &[reported(0, 10), reported(1, 11), reported(60, 12)]).record;
    assert_eq!(again.tally.reports.len(), 1);
}

#[test]
fn jp_33_client_behaviour_is_the_dispute_rate_of_the_buyer() {
    let policy = Policy::justpayai().unwrap();
    let trust = Trust::of(&policy);
    let filed = Fact::filed(days(1), paid(), Side::Buyer);
    let buyer = |facts: &[Fact]| trust.run(BUYER.agent, facts).record;
    let rate_and_score = |facts: &[Fact]| {
        let record = buyer(facts);
        (record.tally.client.dispute_rate().normalize().to_string(), record.score.to_string())
    };
    let said = |rate: &str, score: &str| (rate.to_owned(), score.to_owned());
    assert_eq!(rate_and_score(&[]), said("0", "0.65"));
    assert_eq!(rate_and_score(&[completed(1)]), said("0", "0.65"));
    assert_eq!(rate_and_score(&[completed(1), completed(1), completed(1), filed]), said("0.25", "0.575"));
    assert_eq!(rate_and_score(&[completed(1), filed]), said("0.5", "0.5"));
    assert_eq!(rate_and_score(&[filed]), said("1", "0.5"));
    // A dispute counts when it is filed, whatever is ruled, and the worker's own filing is not the buyer's.
    assert_eq!(buyer(&[filed, ruled(1, Side::Buyer, Ruling::Buyer)]).tally.client.filed, 1);
    let theirs = Fact::filed(days(1), paid(), Side::Worker);
    assert_eq!(buyer(&[theirs, ruled(1, Side::Worker, Ruling::Buyer)]).tally.client.filed, 0);
    let lost = buyer(&[ruled(1, Side::Worker, Ruling::Worker)]).tally.client;
    assert_eq!(lost, ClientReputation { completed: 1, filed: 0 });

    let abuse = policy.disputes.unwrap().abuse.unwrap();
    let restricted = |completed, filed| ClientReputation { completed, filed }.is_restricted(&abuse);
    assert!(!restricted(0, 2), "JP-14: from 3 disputes on");
    assert!(restricted(0, 3) && restricted(3, 3));
    assert!(restricted(6, 4), "JP-14: at a rate of exactly 40 %");
    assert!(!restricted(7, 4), "JP-14: completing jobs lifts it");
    assert!(restricted(u64::MAX, u64::MAX));
}

#[test]
fn am_02_reputation_is_the_mean_of_all_ratings_with_the_number_of_tasks() {
    let policy = Policy::agentmarket().unwrap();
    let trust = Trust::of(&policy);
    let facts = [completed(1), rated(1, 5), completed(2), rated(2, 4), completed(3), rated(3, 4)];
    let record = trust.run(WORKER.agent, &facts).record;
    assert_eq!((record.score, record.tally.completed), (decimal("4.3"), 3));
    assert_eq!(worker_score(&policy, &[]), Decimal::ZERO);
    let mut assumed = serde_json::to_value(&policy).unwrap();
    assumed["trust"]["initial"] = json!("3");
    assumed["trust"]["scoring"] = json!({ "mean": { "assumed": 2 } });
    let assumed = Policy::from_json(&assumed.to_string()).unwrap();
    assert_eq!(worker_score(&assumed, &[rated(1, 5)]), decimal("3.7")); // (3 + 3 + 5) / 3
}

#[test]
fn beta_reputation_is_the_expectation_and_forgets() {
    let policy = beta();
    let trust = Trust::of(&policy);
    assert_eq!(worker_score(&policy, &[]), decimal("50"));
    assert_eq!(worker_score(&policy, &[completed(1)]), decimal("66.67")); // 2 / 3
    assert_eq!(worker_score(&policy, &[fault(1)]), decimal("25")); // 1 / 4
    let record = trust.run(WORKER.agent, &[completed(1), completed(1)]).record;
    let at = |day| trust.score(&record, days(day)).to_string();
    assert_eq!([1, 29, 30, 60].map(at), ["75", "75", "66.67", "60"]); // 3/4, 2/3, 1.5/2.5
    assert_eq!(at(365 * 100), "50");
    // What has faded is in the history, apart from what came after it.
    let course = trust.run(WORKER.agent, &[completed(1), completed(1), fault(31)]);
    let lines: Vec<_> = course.history.iter().map(|line| (line.reason.as_str(), line.delta.to_string())).collect();
    let expected =
        [("job_completed", "16.67"), ("job_completed", "8.33"), ("time_passed", "-8.33"), ("worker_fault", "-26.67")];
    assert_eq!(lines, expected.map(|(reason, delta)| (reason, delta.to_owned()))); // 2/3 to 2/5
}

#[test]
fn beta_forgets_in_a_bounded_number_of_steps_however_long_it_was() {
    let mut policy = serde_json::to_value(beta()).unwrap();
    policy["trust"]["scoring"]["beta"]["period"] = json!("1s");
    policy["trust"]["scoring"]["beta"]["retained"] = json!("0.999999999");
    let trust = Trust::of(&Policy::from_json(&policy.to_string()).unwrap());
    let record = trust.run(WORKER.agent, &[completed(0)]).record;
    assert_eq!(trust.score(&record, Timestamp::MAX_UTC), decimal("50"));
    assert!(trust.score(&record, days(365)) > decimal("50"));
}

#[test]
fn vp_10_the_history_says_event_delta_new_score_and_time() {
    let trust = Trust::of(&Policy::voxpact().unwrap());
    let course = trust.run(WORKER.agent, &[completed(1), rated(2, 3), ruled(3, Side::Buyer, Ruling::Buyer)]);
    let lines = serde_json::to_value(&course.history).unwrap();
    let id = paid().id;
    let lost = json!({ "event": "dispute", "side": "worker", "stance": "respondent", "outcome": "lost" });
    let expected = json!([
        { "at": "1970-01-02T00:00:00Z", "reason": { "event": "job_completed" }, "contract": id, "delta": "0.5", "score": "50.5" },
        { "at": "1970-01-04T00:00:00Z", "reason": lost, "contract": id, "delta": "-5", "score": "45.5" },
    ]);
    assert_eq!(lines, expected, "a rating in the middle moves nothing and has no line");
    assert_eq!(course.history[1].reason.as_str(), "dispute_lost");
    let (side, stance, outcome) = (Side::Worker, Stance::Respondent, Outcome::Lost);
    assert_eq!(course.history[1].reason, Evidence::Dispute { side, stance, outcome });
}

#[test]
fn a_model_of_ones_own_is_held_within_the_scale_and_rounded() {
    struct Wild;
    impl TrustModel for Wild {
        fn weigh(&self, record: Record, _evidence: &Evidence, _at: Timestamp) -> Record {
            record
        }

        fn take_back(&self, record: Record, _evidence: &Evidence, _since: Timestamp, _at: Timestamp) -> Record {
            record
        }

        fn score(&self, record: &Record, _at: Timestamp) -> Decimal {
            match record.tally.completed {
                0 => decimal("33.33333"),
                1 => Decimal::MAX,
                _ => Decimal::MIN,
            }
        }
    }
    let trust = Trust::with_model(&Policy::voxpact().unwrap(), Wild);
    let course = trust.run(WORKER.agent, &[completed(1), completed(2)]);
    assert_eq!(trust.begin().score, decimal("33.33"));
    assert_eq!(course.history.iter().map(|line| line.score).collect::<Vec<_>>(), [decimal("100"), decimal("0")]);
}

// Money that went back.

#[test]
fn vp_42_what_a_contract_brought_counts_no_more_once_its_money_went_back() {
    let (done, praised) = (completed(1), rated(2, 5));
    let thanked = Fact::rated(days(2), paid(), Side::Worker, 5);
    let won = ruled(3, Side::Worker, Ruling::Worker);
    let brought = [done, praised, thanked, won];
    let gone = brought.map(|fact| fact.taken_back(days(100)));
    for (name, policy) in models() {
        let trust = Trust::of(&policy);
        for agent in [WORKER.agent, BUYER.agent] {
            let before = trust.run(agent, &[fault(0)]);
            let course = trust.run(agent, [fault(0)].iter().chain(&brought).chain(&gone));
            let (score, then) = (course.record.score, trust.score(&before.record, days(100)));
            // What has counted against the payer stays: it has lost a dispute. The mean knows of ratings only.
            let lost = agent == BUYER.agent && name != "mean";
            assert_eq!(score < then, lost, "{name} {agent}: {score} and {then} without");
            assert!(score <= then, "{name} {agent}: {score} and {then} without");
            let Tally { worked, completed, ratings, rating_sum, client, .. } = course.record.tally;
            let fault = u64::from(agent == WORKER.agent);
            assert_eq!((worked, completed, ratings, rating_sum), (fault, 0, 0, 0), "{name} {agent}");
            assert_eq!(client.completed, u64::from(lost), "{name} {agent}");
            let sum: Decimal = course.history.iter().map(|line| line.delta).sum();
            assert_eq!(trust.begin().score + sum, score, "{name} {agent}: the history adds up");
        }
    }
}

#[test]
fn a_payer_that_has_its_money_back_gains_nothing_by_that() {
    let scolded = Fact::rated(days(1), paid(), Side::Worker, 1);
    let lost = ruled(1, Side::Buyer, Ruling::Worker);
    let bought = completed(1);
    for (name, policy) in models() {
        let trust = Trust::of(&policy);
        let facts = [bought, scolded, lost];
        let before = trust.run(BUYER.agent, &facts).record;
        let gone = facts.map(|fact| fact.taken_back(days(1)));
        let after = trust.run(BUYER.agent, facts.iter().chain(&gone)).record;
        assert!(after.score <= before.score, "{name}: {} became {}", before.score, after.score);
        assert_eq!(after.tally.client.completed, 0, "{name}");
    }
}

// Properties.

/// Any fact between any few parties, in the order of their moments or not.
fn any_fact() -> impl Strategy<Value = Fact> {
    let parties = (1u128..4, 101u128..104, 1u128..4, 101u128..104);
    let settled = prop_oneof![Just(None), (-1i64..1000, -1i64..1000).prop_map(Some), Just(Some((500, 450)))];
    let side = prop_oneof![Just(Side::Buyer), Just(Side::Worker)];
    let ruling = prop_oneof![Just(Ruling::Buyer), Just(Ruling::Worker), Just(Ruling::Split)];
    (0i64..200, 0u8..9, parties, settled, side, ruling, 0u8..7).prop_map(
        |(day, kind, (buyer, buyers, worker, workers), settled, side, ruling, rating)| {
            let (one, other) = (party(buyer, buyers), party(worker, workers));
            let contract = between(one, other, settled);
            let happening = match kind {
                0 | 1 => Happening::Completed { contract },
                2 => Happening::WorkerFault { contract },
                3 => Happening::Ruled { contract, filed_by: side, ruling },
                4 => Happening::Rated { contract, by: side, rating },
                5 => Happening::Verified { agent: other.agent },
                6 => Happening::Reported { target: other, reporter: one },
                7 => Happening::Filed { contract, by: side },
                _ => Happening::ReportDismissed { target: other.agent, reporter: one.owner },
            };
            Fact::of(days(day), happening)
        },
    )
}

/// Facts that count about the worker, all on one day; a report or its dismissal is not among them.
fn counted_facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = prop_oneof![
        3 => Just(completed(1)),
        1 => Just(fault(1)),
        3 => (1u8..=5).prop_map(|rating| rated(1, rating)),
        1 => Just(ruled(1, Side::Buyer, Ruling::Buyer)),
        1 => Just(ruled(1, Side::Worker, Ruling::Split)),
    ];
    prop::collection::vec(fact, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn scores_stay_on_the_scale_and_histories_add_up(facts in prop::collection::vec(any_fact(), 0..60), later in 0i64..4000) {
        for (name, policy) in models() {
            let trust = Trust::of(&policy);
            let course = trust.run(WORKER.agent, &facts);
            let scale = policy.trust.scale;
            let mut sum = trust.begin().score;
            for line in &course.history {
                sum += line.delta;
                prop_assert_eq!(sum, line.score, "{}", name);
                prop_assert!(scale.min.value() <= sum && sum <= scale.max.value(), "{}: {}", name, sum);
            }
            prop_assert_eq!(sum, course.record.score, "{}", name);
            let then = trust.score(&course.record, days(later));
            prop_assert!(scale.min.value() <= then && then <= scale.max.value(), "{}: {}", name, then);
            prop_assert!(then.scale() <= policy.trust.decimals, "{}: {}", name, then);
        }
    }

    #[test]
    fn folding_again_or_bit_by_bit_through_a_store_gives_the_same_record(facts in prop::collection::vec(any_fact(), 0..60)) {
        for (name, policy) in models() {
            let trust = Trust::of(&policy);
            let whole = trust.run(WORKER.agent, &facts);
            prop_assert_eq!(&trust.run(WORKER.agent, &facts), &whole, "{}", name);
            let mut record = trust.begin();
            for fact in &facts {
                let fact: Fact = serde_json::from_str(&serde_json::to_string(fact).unwrap()).unwrap();
                if let Ok(step) = trust.apply(WORKER.agent, &record, &fact) {
                    record = serde_json::from_str(&serde_json::to_string(&step.record).unwrap()).unwrap();
                }
            }
            // As text, since decimals of different lengths may be equal.
            let text = |record: &Record| serde_json::to_string(record).unwrap();
            prop_assert_eq!(text(&record), text(&whole.record), "{}", name);
        }
    }

    #[test]
    fn the_order_does_not_matter_where_the_model_promises_it(
        (facts, shuffled) in counted_facts().prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle())),
    ) {
        for (name, policy) in models().into_iter().filter(|(name, _)| *name != "steps") {
            prop_assert_eq!(worker_score(&policy, &facts), worker_score(&policy, &shuffled), "{}", name);
        }
    }

    #[test]
    fn forgetting_brings_the_score_back_and_never_away(facts in counted_facts(), waits in prop::collection::vec(0i64..90, 1..12)) {
        let trust = Trust::of(&beta());
        let record = trust.run(WORKER.agent, &facts).record;
        let start = trust.begin().score;
        let (mut day, mut distance) = (1, (record.score - start).abs());
        for wait in waits {
            day += wait;
            let now = trust.score(&record, days(day));
            prop_assert!((now - start).abs() <= distance, "day {}: {}", day, now);
            prop_assert!((now - start) * (record.score - start) >= Decimal::ZERO, "day {}: {}", day, now);
            distance = (now - start).abs();
        }
        prop_assert_eq!(trust.score(&record, days(1) + Span::MAX.delta()), start);
    }
}

#[test]
fn a_record_from_a_store_that_was_tampered_with_does_not_panic() {
    let (most, trust) = (u64::MAX, Trust::of(&Policy::justpayai().unwrap()));
    let mut text: Value = serde_json::to_value(trust.begin()).unwrap();
    for count in ["worked", "completed", "ratings", "rating_sum", "disputes_lost", "completed_since_report"] {
        text["tally"][count] = json!(most);
    }
    text["tally"]["client"] = json!({ "completed": most, "filed": most });
    let record: Record = serde_json::from_value(text).unwrap();
    for fact in [completed(1), rated(1, 5), fault(1), ruled(1, Side::Buyer, Ruling::Buyer), reported(1, 9)] {
        let step = trust.apply(WORKER.agent, &record, &fact).unwrap();
        assert!(step.record.score >= Decimal::ZERO && step.record.score <= Decimal::ONE, "{fact:?}");
    }
}
