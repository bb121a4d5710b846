//! The models that a policy can choose.

use rust_decimal::Decimal;

use super::{Evidence, Record, Tally, TrustModel, tally::share};
use crate::{
    clock::Timestamp,
    policy::{
        BetaScoring, MeanScoring, Policy, Range, ReportPolicy, Scoring, StepScoring, TrustPolicy, WeightedScoring,
    },
};

/// The model that a policy has chosen (VP-42, JP-32, AM-02, or beta reputation).
///
/// Which order facts come in makes no difference to the mean, to the weighted sum while nothing
/// dismisses reports, and to the beta model among facts of one [`BetaScoring::period`]. It does to
/// steps: a score that has reached an end of the scale does not go further.
#[derive(Clone, Debug)]
pub struct PolicyModel {
    policy: TrustPolicy,
    ratings: Option<Range<u8>>,
    reports: Option<ReportPolicy>,
}

impl PolicyModel {
    /// The model of a policy.
    pub fn of(policy: &Policy) -> Self {
        Self {
            policy: policy.trust.clone(),
            ratings: policy.reviews.map(|reviews| reviews.rating),
            reports: policy.reports.clone(),
        }
    }
}

impl TrustModel for PolicyModel {
    fn weigh(&self, record: Record, evidence: &Evidence, at: Timestamp) -> Record {
        match &self.policy.scoring {
            Scoring::Steps(model) => self.step(model, record, evidence, Decimal::ONE),
            Scoring::Beta(model) => add_evidence(model, record, evidence, at, Decimal::ONE),
            // These read the tally alone.
            Scoring::Fixed | Scoring::Weighted(_) | Scoring::Mean(_) => record,
        }
    }

    fn take_back(&self, record: Record, evidence: &Evidence, counted_at: Timestamp, at: Timestamp) -> Record {
        match &self.policy.scoring {
            Scoring::Steps(model) => self.step(model, record, evidence, Decimal::NEGATIVE_ONE),
            Scoring::Beta(model) => {
                let left = model.left(model.period_of(at) - model.period_of(counted_at));
                add_evidence(model, record, evidence, at, -left)
            }
            Scoring::Fixed | Scoring::Weighted(_) | Scoring::Mean(_) => record,
        }
    }

    fn score(&self, record: &Record, at: Timestamp) -> Decimal {
        match &self.policy.scoring {
            Scoring::Fixed => self.policy.initial.value(),
            Scoring::Steps(_) => self.points(record),
            Scoring::Weighted(model) => self.policy.spread(self.weighted(model, &record.tally, at)),
            Scoring::Mean(model) => self.mean(*model, &record.tally),
            Scoring::Beta(model) => {
                let Faded { good, bad, .. } = Faded::of(model, record, at);
                let (good, bad) = (good + model.prior_good.value(), bad + model.prior_bad.value());
                good.checked_div(good + bad)
                    .map_or(self.policy.initial.value(), |expectation| self.policy.spread(expectation))
            }
        }
    }
}

// Steps (VP-42).

/// Where the exact score is kept: what is shown may be rounded.
const POINTS: &str = "points";

impl PolicyModel {
    fn points(&self, record: &Record) -> Decimal {
        record.memory.get(POINTS).copied().unwrap_or(self.policy.initial.value())
    }

    /// Goes the evidence's step, `times` over: once, or once back.
    fn step(&self, model: &StepScoring, mut record: Record, evidence: &Evidence, times: Decimal) -> Record {
        let Some(step) = evidence.event(model.ratings).and_then(|event| model.steps.get(&event)) else { return record };
        let Range { min, max } = self.policy.scale;
        let points = (self.points(&record) + step.value() * times).max(min.value()).min(max.value());
        record.memory.insert(POINTS.into(), points.normalize());
        record
    }
}

// The weighted sum (JP-32) and the mean (AM-02).

impl PolicyModel {
    fn weighted(&self, model: &WeightedScoring, tally: &Tally, at: Timestamp) -> Decimal {
        let known = [
            (model.job_success, share(tally.completed, tally.worked)),
            (model.mean_rating, self.rating_share(tally)),
            (
                model.dispute_defence,
                share(tally.disputes_faced.saturating_sub(tally.disputes_lost), tally.disputes_faced),
            ),
        ];
        let known: Decimal =
            known.iter().map(|(part, share)| part.weight.share() * share.unwrap_or(part.unknown.share())).sum();
        let pending = self.reports_pending(tally, at);
        let restraint = left_of(tally.client.dispute_rate(), model.client_behaviour.none_from.share());
        let unreported = left_of(pending, model.reports.none_from.into());
        let verified = if tally.verified { model.verification.share() } else { Decimal::ZERO };
        known + model.client_behaviour.weight.share() * restraint + model.reports.weight.share() * unreported + verified
    }

    fn reports_pending(&self, tally: &Tally, at: Timestamp) -> Decimal {
        tally.pending_reports(at, self.reports.as_ref()).into()
    }

    /// The mean rating's place between the worst and the best.
    fn rating_share(&self, tally: &Tally) -> Option<Decimal> {
        let Range { min, max } = self.ratings?;
        let (min, max) = (Decimal::from(min), Decimal::from(max));
        let mean = share(tally.rating_sum, tally.ratings)?;
        (mean - min).checked_div(max - min)
    }

    fn mean(&self, model: MeanScoring, tally: &Tally) -> Decimal {
        let initial = self.policy.initial.value();
        let assumed = Decimal::from(model.assumed);
        let sum = Decimal::from(tally.rating_sum) + initial * assumed;
        sum.checked_div(Decimal::from(tally.ratings) + assumed).unwrap_or(initial)
    }
}

/// What is left of a whole that falls evenly and is gone from `none_from` on.
fn left_of(value: Decimal, none_from: Decimal) -> Decimal {
    let gone = value.checked_div(none_from).unwrap_or(Decimal::ONE);
    (Decimal::ONE - gone).max(Decimal::ZERO)
}

// Beta reputation with forgetting (Jøsang and Ismail, 2002).

const GOOD: &str = "good";
const BAD: &str = "bad";
/// The period, counted from 1970, up to which the evidence has faded.
const PERIOD: &str = "period";
/// Faded evidence is kept to this many decimals, so that adding to it is exact in any order.
const EVIDENCE_DECIMALS: u32 = 12;
/// More evidence than this is not kept: with its decimals it still is an exact number.
const EVIDENCE_LIMIT: i64 = 1_000_000_000_000_000;

/// What is left of the evidence at a moment.
struct Faded {
    good: Decimal,
    bad: Decimal,
    period: Decimal,
}

impl Faded {
    /// Evidence fades at fixed moments, whole periods after 1970 began, so that it makes no difference
    /// when somebody looks.
    fn of(model: &BetaScoring, record: &Record, at: Timestamp) -> Self {
        let number = |name| record.memory.get(name).copied().unwrap_or_default();
        let period = model.period_of(at);
        let left = model.left(record.memory.get(PERIOD).map_or(Decimal::ZERO, |last| period - last));
        let fade = |evidence: Decimal| (evidence * left).round_dp(EVIDENCE_DECIMALS);
        Self { good: fade(number(GOOD)), bad: fade(number(BAD)), period }
    }
}

impl BetaScoring {
    /// The number of the period that a moment is in.
    fn period_of(&self, at: Timestamp) -> Decimal {
        at.timestamp().div_euclid(self.period.as_seconds().max(1).into()).into()
    }

    /// What is left of evidence after so many periods.
    fn left(&self, passed: Decimal) -> Decimal {
        power(self.retained.share(), passed.try_into().unwrap_or(0))
    }
}

/// Adds `share` of the evidence's weight: all of it, or less what is left of it.
fn add_evidence(model: &BetaScoring, mut record: Record, evidence: &Evidence, at: Timestamp, share: Decimal) -> Record {
    let event = evidence.event(model.ratings);
    let Some(weight) = event.and_then(|event| model.evidence.get(&event)) else { return record };
    let Faded { good, bad, period } = Faded::of(model, &record, at);
    let weighs = |weight: Decimal| (weight * share).round_dp(EVIDENCE_DECIMALS);
    let keep = |evidence: Decimal| evidence.max(Decimal::ZERO).min(EVIDENCE_LIMIT.into()).normalize();
    record.memory.insert(GOOD.into(), keep(good + weighs(weight.value().max(Decimal::ZERO))));
    record.memory.insert(BAD.into(), keep(bad - weighs(weight.value().min(Decimal::ZERO))));
    record.memory.insert(PERIOD.into(), period);
    record
}

/// `share` to the power of a whole number, by squaring: however long ago it was, it takes 64 steps.
fn power(share: Decimal, exponent: u64) -> Decimal {
    let (mut result, mut square, mut rest) = (Decimal::ONE, share, exponent);
    while rest > 0 {
        if rest % 2 == 1 {
            result *= square;
        }
        square *= square;
        rest /= 2;
    }
    result
}
