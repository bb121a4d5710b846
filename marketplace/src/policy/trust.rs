//! How agents come to be trusted: the scale, the tiers, and four ways of keeping score.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{
    Range, Score, Span,
    check::{AMOUNT_LIMIT, At, Checked},
    keyed,
};
use crate::money::Rate;

/// How agents come to be trusted (VP-42, JP-32, AM-02).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustPolicy {
    /// The lowest and the highest score.
    pub scale: Range<Score>,
    /// How many decimals a score is rounded to, a half to the even one.
    pub decimals: u32,
    /// The score of an agent about whom nothing is known (VP-02: 50).
    pub initial: Score,
    /// How the score moves.
    pub scoring: Scoring,
    /// What makes an agent count as verified, any of these; nothing does when absent (JP-32).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verified_by: Vec<Verification>,
    /// The tiers, lowest first; the first begins where the scale does. Fees and limits may depend on
    /// them.
    pub tiers: Vec<Tier>,
}

/// What makes an agent count as verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Its owner confirmed it by a token sent to an e-mail address (VP-02).
    Email,
    /// Its webhook answered a signed ping (VP-01).
    Webhook,
    /// The first deposit came that activates it (JP-02).
    FirstDeposit,
}

/// A part of the scale with a name (VP-42).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Its name, as fees and events say it.
    pub name: String,
    /// The score where it begins; it ends where the next one begins.
    pub from: Score,
    /// The largest job its agents may work on, in minor units; the policy's own limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_amount_max: Option<i64>,
    /// How many jobs its agents may work on at once; any number when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_jobs_max: Option<u32>,
}

/// How a score moves. In every model only contracts that were settled for money between different
/// owners count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// It never does.
    Fixed,
    /// Each event adds its step, within the scale (VP-42).
    Steps(StepScoring),
    /// It is a weighted sum of shares of success (JP-32).
    Weighted(WeightedScoring),
    /// It is the mean of all ratings (AM-02).
    Mean(MeanScoring),
    /// It is the expectation of a beta distribution over good and bad evidence that fades with time
    /// (Jøsang and Ismail, "The Beta Reputation System", 2002).
    Beta(BetaScoring),
}

/// What counts for or against an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustEvent {
    /// A job it worked on was completed.
    JobCompleted,
    /// It got a rating of at least [`RatingBounds::good`].
    GoodRating,
    /// It got a rating of at most [`RatingBounds::bad`].
    BadRating,
    /// A dispute was ruled against it.
    DisputeLost,
    /// It gave back a job, or let its time run out.
    WorkerFault,
}

impl TrustEvent {
    /// The word used in policies and histories.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobCompleted => "job_completed",
            Self::GoodRating => "good_rating",
            Self::BadRating => "bad_rating",
            Self::DisputeLost => "dispute_lost",
            Self::WorkerFault => "worker_fault",
        }
    }

    /// Whether it speaks for the agent.
    const fn is_good(self) -> bool {
        matches!(self, Self::JobCompleted | Self::GoodRating)
    }
}

/// Which ratings are good and which are bad; between them a rating changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatingBounds {
    /// The highest bad rating.
    pub bad: u8,
    /// The lowest good rating.
    pub good: u8,
}

/// Each event adds its step (VP-42).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepScoring {
    /// What each event adds; an event that is missing adds nothing.
    #[serde(deserialize_with = "keyed::map")]
    pub steps: BTreeMap<TrustEvent, Score>,
    /// Which ratings are good and which are bad.
    pub ratings: RatingBounds,
}

/// A weighted sum of shares between 0 and 1, spread over the scale (JP-32). The weights add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedScoring {
    /// Completed jobs among those the agent worked on (JP-32: 25 %).
    pub job_success: ShareWeight,
    /// The mean rating's place between the worst and the best (JP-32: 25 %).
    pub mean_rating: ShareWeight,
    /// Disputes against the agent that it did not lose (JP-32: 15 %).
    pub dispute_defence: ShareWeight,
    /// How few disputes the agent files as a buyer (JP-32: 15 %).
    pub client_behaviour: ClientWeight,
    /// Whether the platform has verified the agent (JP-32: 10 %).
    pub verification: Rate,
    /// How few reports are pending against it (JP-32: 10 %).
    pub reports: ReportWeight,
}

/// The weight of a share of successes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareWeight {
    /// Its weight in the sum.
    pub weight: Rate,
    /// The share that is assumed while there is nothing to count.
    pub unknown: Rate,
}

/// The weight of a buyer's restraint: full at a dispute rate of nothing, falling evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientWeight {
    /// Its weight in the sum.
    pub weight: Rate,
    /// The dispute rate from which nothing is left (JP-32: 50 %).
    pub none_from: Rate,
}

/// The weight of not being reported: full without reports, falling evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportWeight {
    /// Its weight in the sum.
    pub weight: Rate,
    /// How many pending reports leave nothing (JP-32: 5).
    pub none_from: u32,
}

/// The mean of all ratings, which begin with some that are assumed (AM-02).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanScoring {
    /// How many ratings at [`TrustPolicy::initial`] are counted in; 0 for the plain mean.
    pub assumed: u32,
}

/// The expectation of a beta distribution, spread over the scale:
/// `(good + prior_good) / (good + bad + prior_good + prior_bad)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BetaScoring {
    /// The good evidence assumed at first.
    pub prior_good: Score,
    /// The bad evidence assumed at first.
    pub prior_bad: Score,
    /// How much evidence each event is: good above zero, bad below.
    #[serde(deserialize_with = "keyed::map")]
    pub evidence: BTreeMap<TrustEvent, Score>,
    /// Which ratings are good and which are bad.
    pub ratings: RatingBounds,
    /// What is left of evidence after each [`BetaScoring::period`]; 1 for no forgetting.
    pub retained: Rate,
    /// How often evidence fades.
    pub period: Span,
}

impl TrustPolicy {
    /// The name of the tier of a score: the last one that begins at or below it. A score under the
    /// scale has the lowest.
    pub fn tier_of(&self, score: Decimal) -> &str {
        let reached = self.tiers.iter().take_while(|tier| tier.from.value() <= score).last();
        reached.or(self.tiers.first()).map_or("", |tier| &tier.name)
    }

    /// `share` of the scale, from its lowest score on, rounded as scores are.
    pub(crate) fn spread(&self, share: Decimal) -> Decimal {
        let Range { min, max } = self.scale;
        (min.value() + (max.value() - min.value()) * share).round_dp(self.decimals)
    }

    pub(super) fn check(&self, at: &At, amount: Range<i64>, ratings: Option<Range<u8>>) -> Checked {
        let limit = |sign| Score::new(Decimal::from(sign * Score::LIMIT)).unwrap_or(Score::ZERO);
        at.field("scale").range(self.scale, limit(-1), limit(1))?;
        if self.scale.min == self.scale.max {
            let allowed = format!("allowed is more than min, {}", self.scale.min);
            return Err(at.field("scale.max").refuse(self.scale.max, allowed));
        }
        at.field("decimals").within(self.decimals, 0, Score::DECIMALS)?;
        at.field("initial").within(self.initial, self.scale.min, self.scale.max)?;
        if self.initial.value().scale() > self.decimals {
            let allowed = format!("allowed are {} decimals", self.decimals);
            return Err(at.field("initial").refuse(self.initial, allowed));
        }
        self.check_tiers(&at.field("tiers"), amount)?;
        at.field("verified_by").distinct(&self.verified_by)?;
        self.check_scoring(&at.field("scoring"), ratings)?;
        match self.expected_initial() {
            Some(expected) if expected != self.initial.value() => {
                let allowed =
                    format!("allowed is {}, which is what the scoring gives an unknown agent", expected.normalize());
                Err(at.field("initial").refuse(self.initial, allowed))
            }
            _ => Ok(()),
        }
    }

    fn check_tiers(&self, at: &At, amount: Range<i64>) -> Checked {
        at.within(self.tiers.len(), 1, 100)?;
        let mut below: Option<&Tier> = None;
        for (i, tier) in self.tiers.iter().enumerate() {
            let at = at.entry(i);
            at.field("name").word(&tier.name)?;
            if self.tiers[..i].iter().any(|other| other.name == tier.name) {
                return Err(at.field("name").refuse(&tier.name, "allowed is each name once"));
            }
            match below {
                None if tier.from != self.scale.min => {
                    let allowed = format!("allowed is the scale's min, {}", self.scale.min);
                    return Err(at.field("from").refuse(tier.from, allowed));
                }
                Some(below) if tier.from <= below.from || tier.from > self.scale.max => {
                    let (least, most) = (below.from, self.scale.max);
                    let allowed = format!("allowed is more than the tier before, {least}, and at most {most}");
                    return Err(at.field("from").refuse(tier.from, allowed));
                }
                _ => {}
            }
            let max = tier.job_amount_max.unwrap_or(AMOUNT_LIMIT);
            let least = below.map_or(amount.min, |below| below.job_amount_max.unwrap_or(AMOUNT_LIMIT));
            if max < least || (max > amount.max && tier.job_amount_max.is_some()) {
                let allowed = match least > amount.max {
                    true => "allowed is no limit, as in the tier before".into(),
                    false => format!("allowed are {least} to {}", amount.max),
                };
                return Err(at.field("job_amount_max").refuse(max, allowed));
            }
            let (most, least) = (tier.active_jobs_max, below.map(|below| below.active_jobs_max));
            let fewer = least.is_some_and(|least| most.unwrap_or(u32::MAX) < least.unwrap_or(u32::MAX));
            if most == Some(0) || fewer {
                let allowed = "allowed is at least 1 and at least what the tier before has";
                return Err(at.field("active_jobs_max").refuse(most.unwrap_or(0), allowed));
            }
            below = Some(tier);
        }
        Ok(())
    }

    fn check_scoring(&self, at: &At, ratings: Option<Range<u8>>) -> Checked {
        match &self.scoring {
            Scoring::Fixed => Ok(()),
            Scoring::Steps(model) => {
                check_events(&at.field("steps.steps"), &model.steps, ratings)?;
                check_bounds(&at.field("steps.ratings"), model.ratings, ratings)
            }
            Scoring::Weighted(model) if model.verification != Rate::ZERO && self.verified_by.is_empty() => {
                let allowed = "allowed is 0 where trust.verified_by names nothing";
                Err(at.field("weighted.verification").refuse(model.verification.share(), allowed))
            }
            Scoring::Weighted(model) => model.check(&at.field("weighted"), ratings),
            Scoring::Mean(model) => {
                at.field("mean.assumed").count_or_none(model.assumed)?;
                let Some(Range { min, max }) = ratings else {
                    return Err(at.refuse("mean", "allowed only with a section reviews: there is nothing to average"));
                };
                let fits = |rating: u8| (self.scale.min.value()..=self.scale.max.value()).contains(&rating.into());
                match fits(min) && fits(max) {
                    true => Ok(()),
                    false => {
                        Err(at.refuse("mean", format_args!("allowed only when the scale holds ratings {min} to {max}")))
                    }
                }
            }
            Scoring::Beta(model) => model.check(&at.field("beta"), ratings),
        }
    }

    /// The score that the scoring gives an unknown agent, where it gives one.
    fn expected_initial(&self) -> Option<Decimal> {
        match &self.scoring {
            Scoring::Fixed | Scoring::Steps(_) | Scoring::Mean(_) => None,
            Scoring::Weighted(model) => Some(self.spread(model.unknown_agent())),
            Scoring::Beta(model) => {
                let (good, bad) = (model.prior_good.value(), model.prior_bad.value());
                good.checked_div(good + bad).map(|share| self.spread(share))
            }
        }
    }
}

impl WeightedScoring {
    fn shares(&self) -> [ShareWeight; 3] {
        [self.job_success, self.mean_rating, self.dispute_defence]
    }

    /// The share of an agent that has done nothing, was never reported, and is not verified.
    fn unknown_agent(&self) -> Decimal {
        let assumed: Decimal = self.shares().iter().map(|part| part.weight.share() * part.unknown.share()).sum();
        assumed + self.client_behaviour.weight.share() + self.reports.weight.share()
    }

    fn check(&self, at: &At, ratings: Option<Range<u8>>) -> Checked {
        let others = [self.client_behaviour.weight, self.verification, self.reports.weight];
        let weights = self.shares().map(|part| part.weight);
        let sum: Decimal = weights.iter().chain(&others).map(|weight| weight.share()).sum();
        if sum != Decimal::ONE {
            return Err(at.refuse(format_args!("a sum of weights of {}", sum.normalize()), "allowed is a sum of 1"));
        }
        if self.mean_rating.weight != Rate::ZERO && ratings.is_none() {
            let allowed = "allowed is 0 without a section reviews";
            return Err(at.field("mean_rating.weight").refuse(self.mean_rating.weight.share(), allowed));
        }
        if self.client_behaviour.none_from == Rate::ZERO {
            return Err(at.field("client_behaviour.none_from").refuse("0", "allowed is a rate above 0"));
        }
        at.field("reports.none_from").count(self.reports.none_from)
    }
}

impl BetaScoring {
    fn check(&self, at: &At, ratings: Option<Range<u8>>) -> Checked {
        for (name, prior) in [("prior_good", self.prior_good), ("prior_bad", self.prior_bad)] {
            if prior <= Score::ZERO {
                return Err(at.field(name).refuse(prior, "allowed is more than 0"));
            }
        }
        check_events(&at.field("evidence"), &self.evidence, ratings)?;
        check_bounds(&at.field("ratings"), self.ratings, ratings)?;
        if self.retained == Rate::ZERO {
            return Err(at.field("retained").refuse("0", "allowed is a rate above 0: everything would be forgotten"));
        }
        at.field("period").span(self.period)
    }
}

/// Steps point where their event points, and there is one at least.
fn check_events(at: &At, steps: &BTreeMap<TrustEvent, Score>, ratings: Option<Range<u8>>) -> Checked {
    if steps.is_empty() {
        return Err(at.refuse("{}", "allowed is at least one event"));
    }
    for (event, step) in steps {
        let at = at.field(event.as_str());
        if event.is_good() && *step < Score::ZERO {
            return Err(at.refuse(step, "allowed is 0 or more for an event that speaks for an agent"));
        }
        if !event.is_good() && *step > Score::ZERO {
            return Err(at.refuse(step, "allowed is 0 or less for an event that speaks against an agent"));
        }
        if ratings.is_none() && matches!(event, TrustEvent::GoodRating | TrustEvent::BadRating) {
            return Err(at.refuse(step, "allowed only with a section reviews"));
        }
    }
    Ok(())
}

fn check_bounds(at: &At, bounds: RatingBounds, ratings: Option<Range<u8>>) -> Checked {
    let Some(Range { min, max }) = ratings else { return Ok(()) };
    at.field("bad").within(bounds.bad, min, max)?;
    at.field("good").within(bounds.good, min, max)?;
    match bounds.bad < bounds.good {
        true => Ok(()),
        false => Err(at.field("bad").refuse(bounds.bad, format_args!("allowed is less than good, {}", bounds.good))),
    }
}
