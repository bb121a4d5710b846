//! Posting a job: what an order has to be, and the terms that follow from it.

use super::{
    Context, Decision, Hold, HoldState, Job, JobEvent, JobOrder, JobStatus, Terms, Timers, decide::Draft, open::opened,
};
use crate::{
    error::Rejection,
    ids::{AgentId, JobId},
    ledger::Movement,
    money::{Money, Rate},
    policy::{DeadlineFrom, EscrowAt, FeeRate, Range},
    rail::Capability,
    text,
};

pub(super) fn post(id: JobId, order: &JobOrder, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    let policy = &ctx.policy.jobs;
    let Some(buyer) = ctx.actor.agent() else {
        return Err(Rejection::WrongActor { command: "post", allowed: "an agent", actor: ctx.actor.clone() });
    };
    if order.worker == Some(buyer) {
        return Err(Rejection::SameParty { agent: buyer, job: id });
    }
    if order.worker.is_some() && order.open.is_some() {
        return Err(Rejection::Form { field: "open", form: "left out where a worker is named" });
    }
    text::line("title", &order.title, policy.title)?;
    text::json("task", &order.task, policy.task_bytes)?;
    if let Some(criteria) = &order.validation {
        if ctx.policy.validation.is_none() {
            return Err(Rejection::NotOffered { what: "validation" });
        }
        text::json("validation", criteria, policy.task_bytes)?;
    }
    Money::zero(ctx.policy.currency).plus(order.amount)?;
    in_range("amount", order.amount, policy.amount.min, policy.amount.max)?;
    let time_allowed = order.deadline.unwrap_or(policy.deadline.default);
    let allowed = policy.deadline.allowed;
    if !allowed.contains(time_allowed) {
        let Range { min, max } = allowed;
        return Err(Rejection::Time { field: "deadline", min, max, actual: time_allowed });
    }
    let open = match order.worker {
        Some(_) => None,
        None => {
            let wanted = order.open.clone().unwrap_or_default();
            Some(opened(&wanted, order.amount, time_allowed, ctx)?)
        }
    };
    let by_offer = open.as_ref().is_some_and(|open| open.closes_at.is_some());
    let fund_by = (!by_offer).then(|| ctx.now + policy.fund_within.delta());
    let job = Job {
        id,
        buyer,
        worker: order.worker,
        status: JobStatus::PendingPayment,
        rail: ctx.rail.id,
        policy: ctx.version,
        terms: terms(order.amount, order.worker, ctx)?,
        hold: Hold {
            state: HoldState::Empty,
            instructions: 0,
            declined: 0,
            funding: String::new(),
            expired: false,
            legs: Vec::new(),
        },
        posted_at: ctx.now,
        time_allowed: time_allowed.as_seconds(),
        timers: Timers { fund_by, ..Timers::default() },
        revisions: 0,
        validated: ctx.policy.validation.is_some() && order.validation.is_some(),
        open,
        frozen: None,
    };
    if job.worker.is_some() {
        ctx.worker.check_tier(order.amount, ctx.policy)?;
    }
    let total = job.terms.total()?;
    if ctx.rail.custody.is_per_hold() && !ctx.rail.can(Capability::Split) {
        return Err(Rejection::Unsupported { rail: ctx.rail.id, capability: Capability::Split });
    }
    let mut draft =
        Draft { job, command: "post", events: vec![], movement: Movement::new(), instructions: vec![], ctx };
    draft.events.push(JobEvent::Created {
        buyer,
        worker: order.worker,
        title: order.title.clone(),
        amount: order.amount,
        total,
    });
    if policy.deadline.from == DeadlineFrom::Posting {
        draft.job.timers.deadline = Some(ctx.now + time_allowed.delta());
    }
    if policy.escrow == EscrowAt::Posting && !by_offer && draft.fund()? {
        draft.funded()?;
    }
    Ok(draft.finish())
}

pub(super) fn in_range(field: &'static str, amount: Money, min: i64, max: i64) -> Result<(), Rejection> {
    match (min..=max).contains(&amount.minor()) && amount.is_positive() {
        true => Ok(()),
        false => Err(Rejection::Amount { field, currency: amount.currency(), min, max, actual: amount.minor() }),
    }
}

/// The terms of a job, with its fee where that can be known yet (VP-21, JP-10).
pub(super) fn terms(amount: Money, worker: Option<AgentId>, ctx: &Context<'_>) -> Result<Terms, Rejection> {
    let fees = &ctx.policy.fees;
    let rate = match &fees.rate {
        FeeRate::Flat(rate) => Some(*rate),
        FeeRate::ByTier(_) if worker.is_none() => None,
        FeeRate::ByTier(rates) => Some(*rates.get(ctx.worker.tier).ok_or_else(|| Rejection::UnknownTier {
            tier: ctx.worker.tier.into(),
            known: rates.keys().cloned().collect(),
        })?),
    };
    let fee = amount.at(rate.unwrap_or(Rate::ZERO), fees.rounding)?;
    let terms = Terms { amount, bearer: fees.bearer, rate, fee };
    in_range("amount with the fee", terms.total()?, ctx.rail.amounts.min, ctx.rail.amounts.max)?;
    Ok(terms)
}
