//! What the parties of a completed job say of each other (VP-29, JP-15). Reviews are public.
//!
//! [`decide`] makes one. Nothing changes it afterwards.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, JobId, Place, derive},
    job::{HoldState, Job, JobStatus},
    policy::{Policy, Range},
    store::Kept,
    text,
    trust::Side,
};

const COMMAND: &str = "review";

/// A review to be given. Serialized, it is what an idempotency key is compared by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rating {
    /// How good the other party was, on the policy's scale.
    pub rating: u8,
    /// In words.
    #[serde(default)]
    pub comment: String,
    /// In single words (JP-15).
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What one party of a completed job says of the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Its id, which follows from the job and the side: that is what makes it the only one.
    pub id: Uuid,
    /// The job.
    pub job: JobId,
    /// Which side gave it.
    pub by: Side,
    /// Who gave it.
    pub author: AgentId,
    /// Whom it is about.
    pub about: AgentId,
    /// When.
    pub at: Timestamp,
    /// What it says.
    pub said: Rating,
    /// Whether the job's money had been divided by then; until it is, the rating counts for nothing.
    pub settled: bool,
}

/// What happened to a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum ReviewEvent {
    /// It was given.
    #[serde(rename = "review.given")]
    Given {
        /// For which job.
        job: JobId,
        /// By which side.
        by: Side,
        /// Whom it is about.
        about: AgentId,
        /// How good that party was.
        rating: u8,
        /// Whether the job's money had been divided by then.
        settled: bool,
    },
}

impl ReviewEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Given { .. } => "review.given",
        }
    }
}

/// What a decision may look at besides the job and the review.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Who gives it.
    pub actor: &'a Actor,
    /// The job's own policy.
    pub policy: &'a Policy,
    /// What this side has said before.
    pub before: Option<&'a Review>,
}

/// Decides on a review: the record and what happened.
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn decide(job: &Job, rating: &Rating, ctx: &Context<'_>) -> Result<(Review, ReviewEvent), Rejection> {
    let Some(policy) = &ctx.policy.reviews else { return Err(Rejection::NotOffered { what: "reviews" }) };
    let (Some(by), Some(author), Some(worker)) = (job.side_of(ctx.actor), ctx.actor.agent(), job.worker) else {
        let actor = ctx.actor.clone();
        return Err(Rejection::WrongActor { command: COMMAND, allowed: "a party of the job", actor });
    };
    if job.status != JobStatus::Completed {
        let allowed = vec![JobStatus::Completed];
        return Err(Rejection::WrongStatus { command: COMMAND, status: job.status, allowed });
    }
    if ctx.before.is_some() {
        return Err(Rejection::DoneBefore { what: "the job was reviewed" });
    }
    if !policy.rating.contains(rating.rating) {
        let Range { min, max } = policy.rating;
        return Err(Rejection::Rating { min, max, actual: rating.rating });
    }
    text::prose("comment", &rating.comment, policy.comment)?;
    check_tags(&rating.tags, policy.tags, policy.tag)?;
    let about = match by {
        Side::Buyer => worker,
        Side::Worker => job.buyer,
    };
    let settled = job.hold.state == HoldState::Settled;
    let (id, said) = (Review::id_of(job.id, by), rating.clone());
    let review = Review { id, job: job.id, by, author, about, at: ctx.now, said, settled };
    let event = ReviewEvent::Given { job: job.id, by, about, rating: rating.rating, settled };
    Ok((review, event))
}

fn check_tags(tags: &[String], max: u32, length: Range<u32>) -> Result<(), Rejection> {
    if tags.len() > max as usize {
        return Err(Rejection::TooMany { field: "tags", max, actual: tags.len() });
    }
    for (i, tag) in tags.iter().enumerate() {
        text::line("tag", tag, length)?;
        if tags[..i].contains(tag) {
            return Err(Rejection::Form { field: "tags", form: "different from each other" });
        }
    }
    Ok(())
}

impl Review {
    /// The id of the review that a side gives for a job.
    pub fn id_of(job: JobId, by: Side) -> Uuid {
        let side = match by {
            Side::Buyer => "review/buyer",
            Side::Worker => "review/worker",
        };
        derive(Place::Beside(job.0), &[job.0.as_bytes(), side.as_bytes()])
    }
}

impl Kept for Review {
    fn id(&self) -> Uuid {
        self.id
    }

    fn status(&self) -> &'static str {
        "given"
    }

    /// Whom it is about and who gave it.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.about.0), Some(self.author.0)]
    }
}
