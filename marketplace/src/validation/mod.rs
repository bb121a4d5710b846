//! Automatic validation of deliveries (VP-17, VP-18): who is asked, what an answer is, and what several
//! of them come to.
//!
//! A delivery that is to be validated leaves a [`Check`] behind, in the commit that hands it in. The
//! workers ask the validators, never a commit, and record what they came to together with what the job
//! makes of it.

mod judge;

pub use judge::judge;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{JobId, Place, derive},
    job::{Delivery, JobOrder},
    money::Rate,
    store::Kept,
};

/// Says whether a delivery is what was asked for.
///
/// # The contract
///
/// 1. It is asked once for a delivery, and again only if the process that asked it ended before all had
///    answered.
/// 2. It answers by itself: it does not see what others say.
/// 3. After the policy's `validation.within` the engine drops the future, and it counts as unavailable;
///    so does one that fails or panics.
/// 4. Order and delivery come from strangers and may try to talk it round.
#[async_trait]
pub trait Validator: Send + Sync + 'static {
    /// What it is called in reports.
    fn name(&self) -> &str;

    /// Looks at a delivery.
    ///
    /// # Errors
    /// Why it cannot tell, in words that both parties may read.
    async fn validate(&self, work: &Submission) -> Result<Opinion, String>;
}

/// What is to be validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The job.
    pub job: JobId,
    /// Which of its deliveries, counted from 1.
    pub number: u32,
    /// What was asked for, with the criteria in `validation`.
    pub order: JobOrder,
    /// What was handed in.
    pub delivery: Delivery,
}

/// What one validator thinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// How sure it is that the delivery is what was asked for.
    pub confidence: Rate,
    /// Why.
    pub reasoning: String,
}

/// What automatic validation found (VP-18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is what was asked for.
    Passed,
    /// It is not.
    Failed,
    /// Nobody could tell.
    Unavailable,
}

/// What the validators came to, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What they came to.
    pub verdict: Verdict,
    /// What each of them said; nothing where somebody outside recorded the verdict alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
}

impl From<Verdict> for Report {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, answers: Vec::new() }
    }
}

/// What one validator said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who.
    pub validator: String,
    /// What it thinks, or why it is unavailable.
    pub said: Result<Opinion, String>,
}

/// How many validators said what (VP-18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consensus {
    /// It is what was asked for.
    pub passed: u32,
    /// It is not.
    pub failed: u32,
    /// Nothing.
    pub unavailable: u32,
}

/// A delivery that is to be validated, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its id.
    pub id: Uuid,
    /// The job.
    pub job: JobId,
    /// Which of its deliveries, counted from 1.
    pub number: u32,
    /// When it is to be worked on; not while somebody is at it.
    pub run_at: Timestamp,
    /// What was found; nothing before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

impl Check {
    /// The check of a job's `number`-th delivery, which nobody has looked at yet.
    pub(crate) fn due(job: JobId, number: u32, run_at: Timestamp) -> Self {
        Self { id: Self::id_of(job, number), job, number, run_at, report: None }
    }

    /// The id of the check of a job's `number`-th delivery.
    pub(crate) fn id_of(job: JobId, number: u32) -> Uuid {
        derive(Place::Anywhere, &[job.0.as_bytes(), b"check", &number.to_be_bytes()])
    }
}

impl Kept for Check {
    fn id(&self) -> Uuid {
        self.id
    }

    fn status(&self) -> &'static str {
        match self.report {
            None => "waiting",
            Some(_) => "done",
        }
    }

    /// Its job.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.job.0), None]
    }

    fn due_at(&self) -> Option<Timestamp> {
        self.report.is_none().then_some(self.run_at)
    }
}
