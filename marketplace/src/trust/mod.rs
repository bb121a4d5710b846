//! How far an agent can be trusted, from facts about its contracts.
//!
//! [`Trust`] keeps score by a policy. It takes [`Fact`]s from the log in the log's order, drops those
//! that may not count ([`counts`]: only contracts settled for money between different owners do), and
//! asks a [`TrustModel`] what the rest is worth. The policy's own models are in [`PolicyModel`].
//! Everything is pure and every number an exact decimal, so that the same facts give the same
//! score, bit for bit, wherever and however often they are folded.
//!
//! ```
//! use tradepost::{
//!     clock::Timestamp,
//!     ids::{AgentId, JobId, OwnerId},
//!     money::{Currency, Money},
//!     policy::Policy,
//!     trust::{Contract, Fact, Party, Settled, Trust},
//! };
//! use uuid::Uuid;
//!
//! let trust = Trust::of(&Policy::voxpact()?);
//! let party = |n| Party { agent: AgentId(Uuid::from_u128(n)), owner: OwnerId(Uuid::from_u128(n)) };
//! let (buyer, worker) = (party(1), party(2));
//! let euros = |cents| Money::new(cents, Currency::EUR);
//! let settled = Some(Settled { amount: euros(500), to_worker: euros(450) });
//! let contract = Contract { id: JobId(Uuid::from_u128(3)), buyer, worker, settled };
//! let at = Timestamp::UNIX_EPOCH;
//!
//! let course = trust.run(worker.agent, &[Fact::completed(at, contract)]);
//! assert_eq!(course.record.score.to_string(), "50.5");
//! assert_eq!(course.history[0].delta.to_string(), "0.5");
//! assert_eq!(trust.tier(&course.record, at), "silver");
//! # Ok::<(), tradepost::policy::PolicyError>(())
//! ```

mod fact;
mod kept;
mod model;
mod tally;

pub(crate) use fact::different_owners;
pub use fact::{Contract, Evidence, Fact, Happening, Ignored, Outcome, Party, Ruling, Settled, Side, Stance, counts};
pub use kept::{Reputation, ReputationEvent};
pub use model::PolicyModel;
pub use tally::{ClientReputation, Pending, Tally};

use std::{collections::BTreeMap, fmt, sync::Arc};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{AgentId, JobId},
    policy::{Policy, Range, ReportPolicy, TrustPolicy},
};

/// What facts are worth. An embedder's own model implements this.
///
/// Its methods are pure: the same arguments give the same answer, without a clock, randomness or
/// anything remembered outside the record. A model never sees a fact that may not count, nor one that
/// is not about the agent; it need not hold a score within the scale nor round it, since [`Trust`]
/// does.
pub trait TrustModel: Send + Sync + 'static {
    /// The record after one more piece of evidence. Its tally has counted the evidence already; what
    /// else the model wants to remember goes into [`Record::memory`].
    ///
    /// `at` is never before an `at` that this record has seen.
    fn weigh(&self, record: Record, evidence: &Evidence, at: Timestamp) -> Record;

    /// The record after a piece of evidence that had counted at `counted_at` counts no more, since its contract's
    /// money went back to its payer. The tally counts it no more already; what [`TrustModel::weigh`] remembered of
    /// it is to be forgotten.
    fn take_back(&self, record: Record, evidence: &Evidence, counted_at: Timestamp, at: Timestamp) -> Record;

    /// The score at a moment at or after the record's last fact. Time alone may move it.
    fn score(&self, record: &Record, at: Timestamp) -> Decimal;
}

impl<T: TrustModel + ?Sized> TrustModel for Arc<T> {
    fn weigh(&self, record: Record, evidence: &Evidence, at: Timestamp) -> Record {
        (**self).weigh(record, evidence, at)
    }

    fn take_back(&self, record: Record, evidence: &Evidence, counted_at: Timestamp, at: Timestamp) -> Record {
        (**self).take_back(record, evidence, counted_at, at)
    }

    fn score(&self, record: &Record, at: Timestamp) -> Decimal {
        (**self).score(record, at)
    }
}

/// What is known about one agent: enough to go on from, and nothing that the facts do not give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The score after the last fact that counted, on the policy's scale.
    pub score: Decimal,
    /// When that was; nothing has counted yet when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// How often what happened.
    pub tally: Tally,
    /// The model's own numbers, by names of its choice.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub memory: BTreeMap<String, Decimal>,
}

/// One line of an agent's trust history (VP-10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When the score moved.
    pub at: Timestamp,
    /// What moved it.
    pub reason: Evidence,
    /// The contract it was about, if it was about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<JobId>,
    /// By how much; never nothing.
    pub delta: Decimal,
    /// The score from then on.
    pub score: Decimal,
}

/// What one fact did to one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is known about the agent now.
    pub record: Record,
    /// What its history gains: what time has moved since the last fact, then what the fact moved; empty
    /// when the score is where it was.
    pub history: Vec<Entry>,
}

/// What a list of facts did to one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// What is known about the agent in the end.
    pub record: Record,
    /// Every move of the score, oldest first; the deltas add up from the score of [`Trust::begin`] to
    /// the record's.
    pub history: Vec<Entry>,
    /// The facts about the agent that did not count, by their place in the list.
    pub ignored: Vec<(usize, Ignored)>,
}

/// Keeps score by one policy.
#[derive(Clone)]
pub struct Trust {
    policy: TrustPolicy,
    ratings: Option<Range<u8>>,
    reports: Option<ReportPolicy>,
    model: Arc<dyn TrustModel>,
}

impl Trust {
    /// Keeps score as the policy says.
    pub fn of(policy: &Policy) -> Self {
        Self::with_model(policy, PolicyModel::of(policy))
    }

    /// Keeps score on the policy's scale with another model.
    pub fn with_model(policy: &Policy, model: impl TrustModel) -> Self {
        Self {
            policy: policy.trust.clone(),
            ratings: policy.reviews.map(|reviews| reviews.rating),
            reports: policy.reports.clone(),
            model: Arc::new(model),
        }
    }

    /// The record of an agent about whom nothing is known.
    pub fn begin(&self) -> Record {
        let score = self.policy.initial.value();
        let unknown = Record { score, at: None, tally: Tally::default(), memory: BTreeMap::new() };
        Record { score: self.score(&unknown, Timestamp::UNIX_EPOCH), ..unknown }
    }

    /// What one more fact does to an agent's record. A fact older than the last one counts as if it
    /// had just happened: the log's order is the order.
    ///
    /// Every fact is to be given once, and once more if it is taken back ([`Fact::taken_back`]). A record does not
    /// remember which facts it has seen; the log does.
    ///
    /// What a contract brought is taken back when its money went back: only contracts settled for money count. A
    /// payer that has its money back gains nothing by that: what counted against it stays.
    ///
    /// # Errors
    /// [`Ignored`] with the reason why the fact does not count; the record stays as it is.
    pub fn apply(&self, agent: AgentId, record: &Record, fact: &Fact) -> Result<Step, Ignored> {
        let evidence = fact.evidence(agent)?;
        self.check_rating(&evidence)?;
        if evidence == Evidence::Verified && record.tally.verified {
            return Err(Ignored::VerifiedBefore { agent });
        }
        let at = record.at.map_or(fact.at, |last| last.max(fact.at));
        let contract = fact.happening.contract().map(|contract| contract.id);
        let before = self.score(record, at);

        let mut counted = record.clone();
        let (reason, mut next) = match fact.counted_at {
            None => {
                counted.tally.count(&evidence, at, self.reports.as_ref());
                (evidence, self.model.weigh(counted, &evidence, at))
            }
            Some(counted_at) => {
                counted.tally.take_back(&evidence);
                (Evidence::MoneyWentBack, self.model.take_back(counted, &evidence, counted_at, at))
            }
        };
        next.at = Some(at);
        next.score = self.score(&next, at);
        if let Some(contract) = fact.counted_at.and(fact.paid_by(agent))
            && next.score > before
        {
            return Err(Ignored::PayerGains { contract });
        }
        let faded = entry(at, Evidence::TimePassed, None, record.score, before);
        let moved = entry(at, reason, contract, before, next.score);
        Ok(Step { record: next, history: faded.into_iter().chain(moved).collect() })
    }

    /// The score of an agent at a moment, within the scale and rounded as the policy says.
    ///
    /// A moment before the record's last fact is taken as that fact's.
    pub fn score(&self, record: &Record, at: Timestamp) -> Decimal {
        let Range { min, max } = self.policy.scale;
        let at = record.at.map_or(at, |last| last.max(at));
        let score = self.model.score(record, at).max(min.value()).min(max.value());
        score.round_dp(self.policy.decimals).normalize()
    }

    /// The tier of an agent at a moment (VP-42).
    pub fn tier(&self, record: &Record, at: Timestamp) -> &str {
        self.policy.tier_of(self.score(record, at))
    }

    /// Folds a list of facts, which may be about others too, into what they say about one agent.
    pub fn run<'a>(&self, agent: AgentId, facts: impl IntoIterator<Item = &'a Fact>) -> Course {
        let mut course = Course { record: self.begin(), history: Vec::new(), ignored: Vec::new() };
        for (i, fact) in facts.into_iter().enumerate() {
            match self.apply(agent, &course.record, fact) {
                Ok(step) => {
                    course.record = step.record;
                    course.history.extend(step.history);
                }
                Err(Ignored::NotConcerned) => {}
                Err(reason) => course.ignored.push((i, reason)),
            }
        }
        course
    }

    fn check_rating(&self, evidence: &Evidence) -> Result<(), Ignored> {
        match (evidence, self.ratings) {
            (Evidence::Rated { .. }, None) => Err(Ignored::NoReviews),
            (Evidence::Rated { rating }, Some(allowed)) if !allowed.contains(*rating) => {
                Err(Ignored::RatingOutOfRange { rating: *rating, allowed })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The line of the history for a move of the score, if it moved.
fn entry(at: Timestamp, reason: Evidence, contract: Option<JobId>, from: Decimal, to: Decimal) -> Option<Entry> {
    let delta = (to - from).normalize();
    (!delta.is_zero()).then_some(Entry { at, reason, contract, delta, score: to })
}
