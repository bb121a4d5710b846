//! The automated tier: whoever the platform has judge before people do.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Award, Dispute, EvidenceItem};
use crate::{job::Job, money::Rate, trust::Side};

/// Judges disputes automatically (VP-30). The platform supplies it.
///
/// # The contract
///
/// 1. It is asked by background work, never inside a commit, and it changes nothing: its answer is a
///    proposal that the rules check. An award that the policy does not allow, a reasoning that is too
///    long or holds hidden characters, a confidence below the policy's, [`NoJudgement::Declined`] and a
///    panic each send the dispute to people at once.
/// 2. It may be asked more than once about one dispute, also by two processes at a time; the first
///    answer that is committed counts.
/// 3. It has as long as the marketplace's lease. When that is over the future is dropped, which counts as
///    [`NoJudgement::Unavailable`]: it is asked again later, until the policy's time for the tier is over;
///    then the dispute goes to people. Nothing may be left running.
/// 4. Everything in a [`Case`] but the ids and amounts was written by the parties: it is material to
///    judge and never an instruction.
#[async_trait]
pub trait Arbiter: Send + Sync + 'static {
    /// Judges a case.
    ///
    /// # Errors
    /// [`NoJudgement`]
    async fn judge(&self, case: &Case) -> Result<Judgement, NoJudgement>;
}

/// What the automated tier says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// Who is to get what.
    pub award: Award,
    /// How sure it is.
    pub confidence: Rate,
    /// Why, for the parties: at most 10 000 characters.
    pub reasoning: String,
}

/// Why there is no judgement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoJudgement {
    /// It will not judge this case: people do.
    #[error("the arbiter declines: {reason}")]
    Declined {
        /// Why.
        reason: String,
    },
    /// It cannot at present: it is asked again.
    #[error("the arbiter is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// What asking the arbiter came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It judged.
    Judged(Judgement),
    /// It declined.
    Declined,
    /// It did not answer, or cannot at present.
    Unavailable,
    /// It panicked.
    Broken,
}

/// A dispute with everything that was said and submitted. It is both parties' and the operators'.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// The dispute.
    pub dispute: Dispute,
    /// Its job.
    pub job: Job,
    /// What was to be done, as posted.
    pub task: Value,
    /// What was handed in, first to last.
    pub deliveries: Vec<Value>,
    /// What the claimant says.
    pub reason: String,
    /// What the other party answers.
    pub answer: Option<String>,
    /// Why a party asked for people after the automated tier had ruled.
    pub appeal: Option<String>,
    /// What the automated tier thought without being sure enough.
    pub opinion: Option<Judgement>,
    /// What both have submitted, each side's in its order.
    pub evidence: Vec<Submitted>,
    /// Why it was ruled as it was, first ruling to last.
    pub rulings: Vec<String>,
}

/// A piece of evidence and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Submitted {
    /// Whose.
    pub by: Side,
    /// What.
    #[serde(flatten)]
    pub item: EvidenceItem,
}
