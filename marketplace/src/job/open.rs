//! Jobs without a worker: what they ask of whoever wants them, and how one is found.

use serde::{Deserialize, Serialize};

use super::{
    Context, Decision, HoldState, Job, JobEvent, JobStatus,
    decide::Draft,
    post::{in_range, terms},
};
use crate::{
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, BidId},
    ledger::Movement,
    money::Money,
    policy::{Award, DeadlineFrom, OpenJobPolicy, Policy, Range, Span, Tier},
    text,
};

/// What an order for a job without a worker says besides (VP-13, JP-11, AM-04). All of it may be left
/// out where the policy does not ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpenOrder {
    /// What is to be done, in a few lines that everybody may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What kind of work it is, in a word or two: jobs are listed by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What the worker has to be able to do, each as agents write it in their profiles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The lowest tier of trust that the worker may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_min: Option<String>,
    /// How long offers are taken; `None` for the policy's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// The reserve: bids below it are refused. Nobody but the buyer is shown it, so no notice names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub reserve: Option<Money>,
}

/// How a job that was posted without a worker finds one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// How far it is.
    pub search: Search,
    /// What was posted: the most that an offer may ask (VP-13).
    pub most: Money,
    /// The least that a bid may ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Money>,
    /// What the worker has to be able to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// What kind of work it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The lowest tier that the worker may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_min: Option<String>,
    /// When it ends by itself, unless somebody was chosen before; never for one that goes to whoever is
    /// first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<Timestamp>,
    /// How many bids or applications are active.
    pub active: u32,
}

/// How far an open job is in finding its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// Nobody was chosen yet.
    Looking,
    /// This offer was accepted and its money is being taken.
    Chosen(BidId),
    /// This offer was accepted and its money is reserved.
    Awarded(BidId),
    /// It is over without an offer: somebody was first, or the job has ended.
    Over,
}

/// What is known of the agent that a command makes a job's worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its tier of trust.
    pub tier: &'a str,
    /// How many jobs it works on, where its tier limits that; otherwise 0.
    pub active_jobs: u32,
    /// What it can do; `None` where agents are the embedder's own and nobody here can tell.
    pub capabilities: Option<&'a [String]>,
}

/// A category's length in characters.
const CATEGORY: Range<u32> = Range { min: 1, max: 100 };
/// A required capability's length in characters: agents' own are no longer.
const CAPABILITY: Range<u32> = Range { min: 1, max: 1000 };

impl Job {
    /// Whether somebody may still become its worker by an offer, or by being first.
    pub fn is_looking(&self) -> bool {
        self.worker.is_none() && self.open.as_ref().is_some_and(|open| open.search == Search::Looking)
    }

    /// Whether its bids wait for being told how it ended.
    pub fn has_bids_to_close(&self) -> bool {
        let over = |open: &Open| open.active > 0 && matches!(open.search, Search::Awarded(_) | Search::Over);
        self.open.as_ref().is_some_and(over)
    }

    /// What it is listed under while everybody may see that it looks for a worker: all such jobs, and
    /// those of each capability and category.
    pub fn tags(&self) -> Vec<String> {
        let listed = self.is_looking() && self.status != JobStatus::Frozen;
        let Some(open) = self.open.as_ref().filter(|_| listed) else { return Vec::new() };
        let required = open.requires.iter().map(|capability| Wanted::Capability(capability.clone()));
        let kind = open.category.clone().map(Wanted::Category);
        [Wanted::Any].into_iter().chain(required).chain(kind).map(|wanted| wanted.tag()).collect()
    }
}

/// Which open jobs somebody looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    Any,
    /// Those that require this.
    Capability(String),
    /// Those of this category.
    Category(String),
}

impl Wanted {
    /// The tag that such jobs are listed under.
    pub(crate) fn tag(&self) -> String {
        match self {
            Self::Any => "open".into(),
            Self::Capability(capability) => format!("open/requires/{capability}"),
            Self::Category(category) => format!("open/category/{category}"),
        }
    }
}

impl Candidate<'_> {
    /// Whether the agent may work on a job of this amount under the policy (VP-42).
    pub(crate) fn check_tier(&self, amount: Money, policy: &Policy) -> Result<(), Rejection> {
        let Some(Tier { name, job_amount_max, active_jobs_max, .. }) = self.standing(policy) else { return Ok(()) };
        if let Some(max) = job_amount_max.filter(|max| amount.minor() > *max) {
            let (tier, max) = (name.clone(), Money::new(max, amount.currency()));
            return Err(Rejection::TierAmount { tier, max, actual: amount });
        }
        match active_jobs_max.filter(|max| self.active_jobs >= *max) {
            Some(max) => Err(Rejection::TierJobs { tier: name.clone(), max, actual: self.active_jobs }),
            None => Ok(()),
        }
    }

    /// Whether the agent is what the open job asks for (VP-13).
    pub(crate) fn check_fit(&self, open: &Open, policy: &Policy) -> Result<(), Rejection> {
        if let Some(has) = self.capabilities
            && let Some(missing) = open.requires.iter().find(|required| !has.contains(required))
        {
            return Err(Rejection::CapabilityMissing { capability: missing.clone() });
        }
        let place = |name: &str| policy.trust.tiers.iter().position(|tier| tier.name == name);
        match &open.tier_min {
            Some(min) if place(self.tier) < place(min) => {
                Err(Rejection::TierTooLow { tier: self.tier.into(), min: min.clone() })
            }
            _ => Ok(()),
        }
    }

    fn standing<'p>(&self, policy: &'p Policy) -> Option<&'p Tier> {
        policy.trust.tiers.iter().find(|tier| tier.name == self.tier)
    }
}

/// What an order for a job without a worker makes of it.
pub(super) fn opened(order: &OpenOrder, most: Money, time_allowed: Span, ctx: &Context<'_>) -> Result<Open, Rejection> {
    let policy = ctx.policy.open_jobs.ok_or(Rejection::WorkerMissing)?;
    check_texts(order, &policy)?;
    let known = || ctx.policy.trust.tiers.iter().map(|tier| tier.name.clone());
    if let Some(tier) = order.tier_min.clone().filter(|tier| known().all(|name| name != *tier)) {
        return Err(Rejection::UnknownTier { tier, known: known().collect() });
    }
    let window = match policy.award {
        Award::Bids(bids) => Some(bids.window),
        Award::Applications(applications) => Some(applications.window),
        Award::FirstCome if order.window.is_some() => return Err(Rejection::NotOffered { what: "a window" }),
        Award::FirstCome => None,
    };
    let closes_at = match window {
        Some(choice) => {
            let Range { min, max } = choice.allowed;
            // Where the work is due from the posting on, somebody must be chosen before it is.
            let max = match ctx.policy.jobs.deadline.from {
                DeadlineFrom::Posting => max.min(time_allowed),
                DeadlineFrom::Acceptance => max,
            };
            let actual = order.window.unwrap_or(choice.default.min(max));
            if actual < min || actual > max {
                return Err(Rejection::Time { field: "window", min, max, actual });
            }
            Some(ctx.now + actual.delta())
        }
        None => None,
    };
    if let Some(reserve) = order.reserve {
        if !matches!(policy.award, Award::Bids(_)) {
            return Err(Rejection::NotOffered { what: "a reserve" });
        }
        most.plus(reserve)?; // of the same currency
        in_range("reserve", reserve, 1, most.minor())?;
    }
    Ok(Open {
        search: Search::Looking,
        most,
        reserve: order.reserve,
        requires: order.requires.clone(),
        category: order.category.clone(),
        tier_min: order.tier_min.clone(),
        closes_at,
        active: 0,
    })
}

fn check_texts(order: &OpenOrder, policy: &OpenJobPolicy) -> Result<(), Rejection> {
    match (&order.description, policy.description) {
        (Some(description), Some(length)) => text::prose("description", description, length)?,
        (Some(_), None) => return Err(Rejection::NotOffered { what: "a description apart from the task" }),
        (None, Some(length)) if length.min > 0 => return Err(Rejection::Missing { field: "description" }),
        (None, _) => {}
    }
    if let Some(category) = &order.category {
        text::line("category", category, CATEGORY)?;
    }
    let (max, actual) = (policy.required_capabilities, order.requires.len());
    if actual > max as usize {
        return Err(Rejection::TooMany { field: "requires", max, actual });
    }
    for (i, capability) in order.requires.iter().enumerate() {
        text::line("requires", capability, CAPABILITY)?;
        if order.requires[..i].contains(capability) {
            return Err(Rejection::Form { field: "requires", form: "each capability once" });
        }
    }
    Ok(())
}

/// Makes the bid's worker the job's at its price, and has the money taken (VP-25). The rules of bids are
/// checked before.
pub(crate) fn award(
    job: &Job,
    bid: BidId,
    worker: AgentId,
    price: Money,
    ctx: &Context<'_>,
) -> Result<Decision, Rejection> {
    let mut draft = Draft::begin(job.clone(), "accept_bid", ctx);
    draft.choose(bid, worker, price)?;
    Ok(draft.finish())
}

/// The job with another number of active bids, for a command to one of them.
pub(crate) fn counted(job: &Job, active: u32) -> Decision {
    let mut job = job.clone();
    if let Some(open) = &mut job.open {
        open.active = active;
    }
    Decision { job, events: Vec::new(), movement: Movement::new(), instructions: Vec::new(), budget: None }
}

/// The open part of a job that offers may still be made to.
pub(crate) fn looking<'a>(job: &'a Job, command: &'static str, now: Timestamp) -> Result<&'a Open, Rejection> {
    let not_open = || Rejection::NotOpen { command, job: job.id };
    let open = job.open.as_ref().ok_or_else(not_open)?;
    match open.search {
        Search::Chosen(bid) | Search::Awarded(bid) => return Err(Rejection::AlreadyChosen { job: job.id, bid }),
        Search::Over => return Err(not_open()),
        Search::Looking => {}
    }
    if job.status != JobStatus::PendingPayment {
        return Err(Rejection::WrongStatus { command, status: job.status, allowed: vec![JobStatus::PendingPayment] });
    }
    match open.closes_at {
        Some(deadline) if deadline <= now => Err(Rejection::TooLate { command, deadline, now }),
        Some(_) => Ok(open),
        None => Err(not_open()), // it goes to whoever is first
    }
}

impl Draft<'_> {
    fn choose(&mut self, bid: BidId, worker: AgentId, price: Money) -> Result<(), Rejection> {
        let terms = terms(price, Some(worker), self.ctx)?;
        self.ctx.worker.check_tier(price, self.ctx.policy)?;
        self.job.terms = terms;
        self.job.worker = Some(worker);
        self.search(Search::Chosen(bid));
        self.events.push(JobEvent::Awarded { bid, worker, price });
        match self.fund()? {
            true => self.funded(),
            false => {
                self.job.timers.fund_by = Some(self.ctx.now + self.ctx.policy.jobs.fund_within.delta());
                Ok(())
            }
        }
    }

    /// The chosen offer could not be paid: the job looks again, and every other offer still stands.
    pub(super) fn reopen(&mut self) -> Result<(), Rejection> {
        let Some((open, bid)) = self.job.open.as_mut().and_then(|open| match open.search {
            Search::Chosen(bid) => Some((open, bid)),
            _ => None,
        }) else {
            return Ok(());
        };
        open.search = Search::Looking;
        let most = open.most;
        self.job.worker = None;
        self.job.hold.expired = false; // that was the payment before
        self.job.timers.fund_by = None;
        self.job.terms = terms(most, None, self.ctx)?;
        self.events.push(JobEvent::Reopened { bid });
        Ok(())
    }

    /// Whether the job goes to an offer that is accepted: what pays it is that offer's price.
    pub(super) fn goes_by_offer(&self) -> bool {
        self.job.open.as_ref().is_some_and(|open| open.closes_at.is_some())
    }

    /// A worker was found, or is looked for no more.
    pub(super) fn search_ends(&mut self) {
        match self.job.open.as_ref().map(|open| open.search) {
            Some(Search::Chosen(bid)) if self.job.hold.state == HoldState::Held => self.search(Search::Awarded(bid)),
            Some(Search::Looking | Search::Chosen(_)) => self.search(Search::Over),
            Some(Search::Awarded(_) | Search::Over) | None => {}
        }
    }

    fn search(&mut self, search: Search) {
        if let Some(open) = &mut self.job.open {
            open.search = search;
        }
    }
}
