//! Reports: what agents tell the platform about each other (JP-29). They warn, and never disable.
//!
//! How many reports are pending against an agent, when they expire and when good work dismisses them is
//! counted with its trust ([`Tally`](crate::trust::Tally)); [`badge`] says what is shown for it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, JobId, Place, derive},
    policy::{Policy, PolicyVersion, ReportPolicy, ReportTarget},
    store::Kept,
    text,
};

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reported {
    /// An agent.
    Agent(AgentId),
    /// A job, which counts against its buyer.
    Job(JobId),
}

/// A report to be made. Serialized, it is what an idempotency key is compared by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complaint {
    /// What is reported.
    pub target: Reported,
    /// Why: one of the policy's words.
    pub reason: String,
    /// In one's own words.
    #[serde(default)]
    pub description: String,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its id, which follows from who reports what: one report each.
    pub id: Uuid,
    /// What is said.
    pub complaint: Complaint,
    /// The agent that it counts against.
    pub about: AgentId,
    /// Who made it.
    pub reporter: AgentId,
    /// When.
    pub at: Timestamp,
    /// The policy it was made under.
    pub policy: PolicyVersion,
    /// Why an operator has dismissed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dismissed: Option<String>,
}

/// What happened to a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum ReportEvent {
    /// It was made.
    #[serde(rename = "report.made")]
    Made {
        /// What is reported.
        target: Reported,
        /// The agent that it counts against.
        about: AgentId,
        /// Who made it.
        reporter: AgentId,
        /// Why.
        reason: String,
        /// The policy it was made under.
        policy: PolicyVersion,
    },
    /// An operator dismissed it.
    #[serde(rename = "report.dismissed")]
    Dismissed {
        /// The agent that it counted against.
        about: AgentId,
        /// Who had made it.
        reporter: AgentId,
        /// Why it was dismissed.
        reason: String,
        /// The policy it was made under.
        policy: PolicyVersion,
    },
}

impl ReportEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Made { .. } => "report.made",
            Self::Dismissed { .. } => "report.dismissed",
        }
    }
}

/// What a decision may look at besides the report.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Who acts.
    pub actor: &'a Actor,
    /// The newest policy.
    pub policy: &'a Policy,
    /// Its number.
    pub version: PolicyVersion,
}

/// Decides on a report about what is `about`'s; `before` is what this agent reported of it before.
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn make(
    complaint: &Complaint,
    about: AgentId,
    before: Option<&Report>,
    ctx: &Context<'_>,
) -> Result<(Report, ReportEvent), Rejection> {
    let policy = policy_of(ctx)?;
    let Some(reporter) = ctx.actor.agent().filter(|reporter| *reporter != about) else {
        let actor = ctx.actor.clone();
        return Err(Rejection::WrongActor { command: "report", allowed: "an agent, of another", actor });
    };
    let target = match complaint.target {
        Reported::Agent(_) => ReportTarget::Agent,
        Reported::Job(_) => ReportTarget::Job,
    };
    if !policy.targets.contains(&target) {
        return Err(Rejection::NotOffered { what: "reports on that" });
    }
    text::one_of("reason", &complaint.reason, &policy.reasons)?;
    text::prose("description", &complaint.description, policy.description)?;
    let pending = |report: &&Report| report.dismissed.is_none() && ctx.now < report.at + policy.expire_after.delta();
    if before.filter(pending).is_some() {
        return Err(Rejection::DoneBefore { what: "it was reported" });
    }
    let report = Report {
        id: Report::id_of(complaint.target, reporter),
        complaint: complaint.clone(),
        about,
        reporter,
        at: ctx.now,
        policy: ctx.version,
        dismissed: None,
    };
    let (target, reason) = (complaint.target, complaint.reason.clone());
    Ok((report, ReportEvent::Made { target, about, reporter, reason, policy: ctx.version }))
}

/// Decides on dismissing a report, by an operator.
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn dismiss(report: &Report, reason: &str, ctx: &Context<'_>) -> Result<(Report, ReportEvent), Rejection> {
    if ctx.actor.operator().is_none() {
        let (allowed, actor) = ("an operator", ctx.actor.clone());
        return Err(Rejection::WrongActor { command: "dismiss_report", allowed, actor });
    }
    text::prose("reason", reason, text::REASON)?;
    if report.dismissed.is_some() {
        return Err(Rejection::DoneBefore { what: "the report was dismissed" });
    }
    let Report { about, reporter, policy, .. } = *report;
    let next = Report { dismissed: Some(reason.into()), ..report.clone() };
    Ok((next, ReportEvent::Dismissed { about, reporter, reason: reason.into(), policy }))
}

/// The warning for so many pending reports, if there is one (JP-29).
pub fn badge(policy: &ReportPolicy, pending: usize) -> Option<&str> {
    let reached = policy.badges.iter().take_while(|badge| badge.from as usize <= pending).last();
    reached.map(|badge| badge.name.as_str())
}

fn policy_of<'a>(ctx: &Context<'a>) -> Result<&'a ReportPolicy, Rejection> {
    ctx.policy.reports.as_ref().ok_or(Rejection::NotOffered { what: "reports" })
}

impl Report {
    /// The id of what an agent reports of a target.
    pub fn id_of(target: Reported, reporter: AgentId) -> Uuid {
        let target = match target {
            Reported::Agent(agent) => agent.0,
            Reported::Job(job) => job.0,
        };
        derive(Place::Beside(target), &[target.as_bytes(), format!("report/{reporter}").as_bytes()])
    }
}

impl Kept for Report {
    fn id(&self) -> Uuid {
        self.id
    }

    fn status(&self) -> &'static str {
        if self.dismissed.is_some() { "dismissed" } else { "made" }
    }

    /// The agent it counts against and who made it.
    fn parties(&self) -> [Option<Uuid>; 2] {
        [Some(self.about.0), Some(self.reporter.0)]
    }
}
