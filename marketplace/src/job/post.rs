//! Posting a job: what an order has to be, and the terms that follow from it.

use super::{
    Context, Decision, Hire, Hold, Job, JobEvent, JobOrder, JobStatus, Returns, Schemas, Terms, Timers, decide::Draft,
    open::opened,
};
use crate::{
    dispute::unrestricted,
    error::Rejection,
    ids::{AgentId, JobId},
    money::{Money, Rate},
    policy::{DeadlineFrom, EscrowAt, FeeRate, Range, Restricted, Span},
    rail::Capability,
    schema, text,
};

/// How long a hire may still be delivered after its executor's time is over.
const HANDING_IN: Span = Span::seconds(60);

pub(super) fn post(id: JobId, order: &JobOrder, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    let policy = &ctx.policy.jobs;
    let time_allowed = order.deadline.unwrap_or(policy.deadline.default);
    let Range { min, max } = policy.deadline.allowed;
    if time_allowed < min || time_allowed > max {
        return Err(Rejection::Time { field: "deadline", min, max, actual: time_allowed });
    }
    let mut draft = posted("post", id, order, time_allowed, ctx)?;
    let by_offer = draft.goes_by_offer();
    if policy.escrow == EscrowAt::Posting && !by_offer && draft.fund()? {
        draft.funded()?;
    }
    Ok(draft.finish())
}

/// A job whose worker is run at once: its money is reserved whenever others' is, and nobody has to accept
/// it (AM-09).
pub(super) fn hire(id: JobId, hire: &Hire, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    let Some(policy) = ctx.policy.execution else {
        return Err(Rejection::NotOffered { what: "direct execution" });
    };
    let time_allowed = Span::seconds(policy.within.as_seconds().saturating_add(HANDING_IN.as_seconds()));
    let mut draft = posted("hire", id, &hire.order(), time_allowed, ctx)?;
    draft.job.hired = true;
    if draft.fund()? {
        draft.funded()?;
    }
    Ok(draft.finish())
}

/// A job as it is before anything moves for it.
fn posted<'a>(
    command: &'static str,
    id: JobId,
    order: &JobOrder,
    time_allowed: Span,
    ctx: &'a Context<'a>,
) -> Result<Draft<'a>, Rejection> {
    let policy = &ctx.policy.jobs;
    let Some(buyer) = ctx.actor.agent() else {
        return Err(Rejection::WrongActor { command, allowed: "an agent", actor: ctx.actor.clone() });
    };
    if order.worker == Some(buyer) {
        return Err(Rejection::SameParty { agent: buyer, job: id });
    }
    if order.worker.is_some() && order.open.is_some() {
        return Err(Rejection::Form { field: "open", form: "left out where a worker is named" });
    }
    if let Some(disputes) = &ctx.policy.disputes {
        unrestricted("post", Restricted::Post, disputes, ctx.client)?;
    }
    text::line("title", &order.title, policy.title)?;
    text::json("task", &order.task, policy.task_bytes)?;
    check_schemas(order, ctx)?;
    if let Some(criteria) = &order.validation {
        if ctx.policy.validation.is_none() {
            return Err(Rejection::NotOffered { what: "validation" });
        }
        text::json("validation", criteria, policy.task_bytes)?;
    }
    Money::zero(ctx.policy.currency).plus(order.amount)?;
    in_range("amount", order.amount, policy.amount.min, policy.amount.max)?;
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
        hold: Hold::default(),
        returns: Returns::default(),
        posted_at: ctx.now,
        time_allowed: time_allowed.as_seconds(),
        timers: Timers { fund_by, ..Timers::default() },
        revisions: 0,
        validated: ctx.policy.validation.is_some() && order.validation.is_some(),
        schematic: order.schemas.as_ref().is_some_and(|schemas| schemas.output.is_some()),
        hired: false,
        open,
        frozen: None,
        dispute: None,
    };
    if job.worker.is_some() {
        ctx.worker.check_tier(order.amount, ctx.policy)?;
    }
    let total = job.terms.total()?;
    if ctx.rail.custody.is_per_hold() && !ctx.rail.can(Capability::Split) {
        return Err(Rejection::Unsupported { rail: ctx.rail.id, capability: Capability::Split });
    }
    let mut draft = Draft::begin(job, command, ctx);
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
    Ok(draft)
}

/// A job's schemas are such, and its task is what the first one says (JP-06).
fn check_schemas(order: &JobOrder, ctx: &Context<'_>) -> Result<(), Rejection> {
    let Some(Schemas { input, output }) = &order.schemas else { return Ok(()) };
    let bytes = ctx.policy.services.map_or(schema::BYTES, |services| services.schema_bytes);
    if let Some(output) = output {
        schema::check("schemas.output", output, bytes)?;
    }
    if let Some(input) = input {
        schema::check("schemas.input", input, bytes)?;
        schema::conforms("task", input, &order.task.clone().into())?;
    }
    Ok(())
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
