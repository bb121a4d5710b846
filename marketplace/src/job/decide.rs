//! Every rule of a job's life, as one pure function.

use chrono::TimeDelta;

use super::{
    CancelCause, Delivery, Frozen, Hold, HoldState, Job, JobCommand, JobEvent, JobOrder, JobStatus, PayoutStatus,
    Terms, Timers, Verdict, settle::Division,
};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, JobId},
    ledger::Movement,
    money::{Money, Rate},
    policy::{
        Acceptance, Award, DeadlineFrom, EscrowAt, FeeRate, OnExpiry, OnPass, Policy, PolicyVersion, Range, Review,
        Span,
    },
    rail::{Capability, Custody, Instruction, Leg, Outcome, RailProfile, Receipt},
    store::Kept as _,
    text,
};

/// How long a settlement that was declined waits before it is asked for again, at first.
const RETRY_FIRST: Span = Span::seconds(60);
/// How long at most.
const RETRY_MOST: Span = Span::hours(24);

/// What a decision may look at besides the job and the command.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Who gives the command.
    pub actor: &'a Actor,
    /// The policy: the job's own, or the newest for a job that is being posted.
    pub policy: &'a Policy,
    /// The policy's number.
    pub version: PolicyVersion,
    /// The job's rail.
    pub rail: &'a RailProfile,
    /// The tier of the worker that the command names or comes from.
    pub worker_tier: &'a str,
}

/// What a command does: plain data, written in one transaction or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The job as it will be.
    pub job: Job,
    /// What happened, in order.
    pub events: Vec<JobEvent>,
    /// What moves in the ledger.
    pub movement: Movement,
    /// What the rail is asked to do, and from when on.
    pub instructions: Vec<(Instruction, Timestamp)>,
}

/// Decides a command.
///
/// `job` is `None` exactly for [`JobCommand::Post`].
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn decide(job: Option<&Job>, command: &JobCommand, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    let job = match (job, command) {
        (None, JobCommand::Post { id, order }) => return post(*id, order, ctx),
        (Some(job), _) if command.legal_in().contains(&job.status) => job,
        (Some(job), _) => return Err(wrong_status(command, job.status, command.legal_in())),
        (None, _) => return Err(Rejection::NotFound { what: "job", id: String::new() }),
    };
    authorize(job, command, ctx.actor)?;
    in_time(job, command, ctx.now)?;
    let mut draft = Draft::of(job.clone(), command, ctx);
    match command {
        JobCommand::Post { .. } => unreachable!("posting is legal in no status"),
        JobCommand::RetryPayment => draft.retry_payment()?,
        JobCommand::Accept => draft.accept()?,
        JobCommand::Start => draft.start(),
        JobCommand::Deliver { delivery } => draft.deliver(delivery)?,
        JobCommand::RecordValidation { verdict } => draft.record_validation(*verdict)?,
        JobCommand::Approve => draft.complete(Division::completed(job)?)?,
        JobCommand::RequestRevision { feedback } => draft.request_revision(feedback)?,
        JobCommand::Cancel { reason } => draft.cancel(reason)?,
        JobCommand::Withdraw { reason } => draft.withdraw(reason)?,
        JobCommand::Refund { reason } => draft.refund(reason)?,
        JobCommand::Freeze { reason } => draft.freeze(reason)?,
        JobCommand::Unfreeze => draft.unfreeze(),
        JobCommand::Tick => draft.tick()?,
        JobCommand::RecordOutcome { instruction, outcome } => draft.record_outcome(instruction, outcome)?,
        JobCommand::RecordHoldExpired => draft.record_hold_expired()?,
    }
    Ok(draft.finish())
}

fn wrong_status(command: &JobCommand, status: JobStatus, allowed: &[JobStatus]) -> Rejection {
    Rejection::WrongStatus { command: command.name(), status, allowed: allowed.to_vec() }
}

/// Who may give which command to this job.
fn authorize(job: &Job, command: &JobCommand, actor: &Actor) -> Result<(), Rejection> {
    let buyer = actor.agent() == Some(job.buyer);
    let worker = actor.agent().is_some() && actor.agent() == job.worker;
    let operator = matches!(actor, Actor::Operator(_));
    let (may, allowed) = match command {
        JobCommand::Post { .. } => (actor.agent().is_some(), "an agent"),
        JobCommand::RetryPayment
        | JobCommand::Approve
        | JobCommand::RequestRevision { .. }
        | JobCommand::Cancel { .. } => (buyer, "the job's buyer"),
        JobCommand::Accept if job.worker.is_none() => {
            (actor.agent().is_some() && !buyer, "an agent other than the buyer")
        }
        JobCommand::Accept | JobCommand::Start | JobCommand::Deliver { .. } | JobCommand::Withdraw { .. } => {
            (worker, "the job's worker")
        }
        JobCommand::Refund { .. } => (worker || operator, "the job's worker or an operator"),
        JobCommand::Freeze { .. } | JobCommand::Unfreeze => (operator, "an operator"),
        JobCommand::RecordValidation { .. } => (operator, "the platform's validators"),
        JobCommand::Tick => (matches!(actor, Actor::Timer), "a timer"),
        JobCommand::RecordOutcome { .. } | JobCommand::RecordHoldExpired => {
            (*actor == Actor::Rail(job.rail), "the job's rail")
        }
    };
    match may {
        true => Ok(()),
        false => Err(Rejection::WrongActor { command: command.name(), allowed, actor: actor.clone() }),
    }
}

/// What time has decided stands, however late its timer fires: a party cannot undo it meanwhile by a
/// command that would come out differently.
fn in_time(job: &Job, command: &JobCommand, now: Timestamp) -> Result<(), Rejection> {
    let undoes = match command {
        JobCommand::RetryPayment
        | JobCommand::Accept
        | JobCommand::Start
        | JobCommand::Deliver { .. }
        | JobCommand::RequestRevision { .. }
        | JobCommand::Cancel { .. } => true,
        JobCommand::Post { .. }
        | JobCommand::RecordValidation { .. }
        | JobCommand::Approve
        | JobCommand::Withdraw { .. }
        | JobCommand::Refund { .. }
        | JobCommand::Freeze { .. }
        | JobCommand::Unfreeze
        | JobCommand::Tick
        | JobCommand::RecordOutcome { .. }
        | JobCommand::RecordHoldExpired => false,
    };
    match job.due_at().filter(|deadline| undoes && *deadline <= now) {
        Some(deadline) => Err(Rejection::TooLate { command: command.name(), deadline, now }),
        None => Ok(()),
    }
}

fn post(id: JobId, order: &JobOrder, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    let policy = &ctx.policy.jobs;
    let Some(buyer) = ctx.actor.agent() else {
        return Err(Rejection::WrongActor { command: "post", allowed: "an agent", actor: ctx.actor.clone() });
    };
    if order.worker == Some(buyer) {
        return Err(Rejection::SameParty { agent: buyer, job: id });
    }
    if order.worker.is_none() && ctx.policy.open_jobs.map(|open| open.award) != Some(Award::FirstCome) {
        return Err(Rejection::WorkerMissing);
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
        timers: Timers { fund_by: Some(ctx.now + policy.fund_within.delta()), ..Timers::default() },
        revisions: 0,
        validated: ctx.policy.validation.is_some() && order.validation.is_some(),
        frozen: None,
    };
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
    if policy.escrow == EscrowAt::Posting && draft.fund()? {
        draft.funded()?;
    }
    Ok(draft.finish())
}

fn in_range(field: &'static str, amount: Money, min: i64, max: i64) -> Result<(), Rejection> {
    match (min..=max).contains(&amount.minor()) && amount.is_positive() {
        true => Ok(()),
        false => Err(Rejection::Amount { field, currency: amount.currency(), min, max, actual: amount.minor() }),
    }
}

/// The terms of a job, with its fee where that can be known yet (VP-21, JP-10).
fn terms(amount: Money, worker: Option<AgentId>, ctx: &Context<'_>) -> Result<Terms, Rejection> {
    let fees = &ctx.policy.fees;
    let rate = match &fees.rate {
        FeeRate::Flat(rate) => Some(*rate),
        FeeRate::ByTier(_) if worker.is_none() => None,
        FeeRate::ByTier(rates) => Some(*rates.get(ctx.worker_tier).ok_or_else(|| Rejection::UnknownTier {
            tier: ctx.worker_tier.into(),
            known: rates.keys().cloned().collect(),
        })?),
    };
    let fee = amount.at(rate.unwrap_or(Rate::ZERO), fees.rounding)?;
    let terms = Terms { amount, bearer: fees.bearer, rate, fee };
    in_range("amount with the fee", terms.total()?, ctx.rail.amounts.min, ctx.rail.amounts.max)?;
    Ok(terms)
}

/// A decision in the making.
pub(super) struct Draft<'a> {
    pub(super) job: Job,
    pub(super) command: &'static str,
    pub(super) events: Vec<JobEvent>,
    pub(super) movement: Movement,
    pub(super) instructions: Vec<(Instruction, Timestamp)>,
    pub(super) ctx: &'a Context<'a>,
}

impl<'a> Draft<'a> {
    fn of(job: Job, command: &JobCommand, ctx: &'a Context<'a>) -> Self {
        let command = command.name();
        Self { job, command, events: Vec::new(), movement: Movement::new(), instructions: Vec::new(), ctx }
    }

    fn finish(self) -> Decision {
        let Self { job, events, movement, instructions, .. } = self;
        Decision { job, events, movement, instructions }
    }

    fn retry_payment(&mut self) -> Result<(), Rejection> {
        if self.job.hold.state != HoldState::Empty || self.escrow_waits_for_worker() {
            return Err(self.wrong_hold());
        }
        if self.fund()? {
            self.funded()?;
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Rejection> {
        if self.job.worker.is_none() {
            self.job.worker = self.ctx.actor.agent();
            let terms = terms(self.job.terms.amount, self.job.worker, self.ctx)?;
            if self.job.hold.state == HoldState::Held && terms.total()? != self.job.terms.total()? {
                return Err(self.wrong_hold()); // what is reserved is what is divided
            }
            self.job.terms = terms;
        }
        if self.job.status == JobStatus::Funded {
            return self.accepted();
        }
        if self.ctx.policy.jobs.escrow == EscrowAt::Posting || self.job.hold.state != HoldState::Empty {
            return Err(Rejection::WrongStatus {
                command: self.command,
                status: self.job.status,
                allowed: vec![JobStatus::Funded],
            });
        }
        match self.fund()? {
            true => self.funded(),
            false => {
                // The payer's time counts from here: until now there was nothing to pay.
                self.job.timers.fund_by = Some(self.ctx.now + self.ctx.policy.jobs.fund_within.delta());
                Ok(())
            }
        }
    }

    fn start(&mut self) {
        self.job.status = JobStatus::InProgress;
        self.events.push(JobEvent::Started {});
    }

    fn deliver(&mut self, delivery: &Delivery) -> Result<(), Rejection> {
        let (now, policy) = (self.ctx.now, &self.ctx.policy.jobs);
        if let Some(content_type) = &delivery.content_type {
            text::line("content_type", content_type, Range { min: 1, max: 255 })?;
        }
        text::json("output", &delivery.output, policy.task_bytes)?;
        self.job.timers = Timers { hold_until: self.job.timers.hold_until, ..Timers::default() };
        if let Review::Buyer { release_after } = policy.review {
            self.job.timers.release_at = Some(now + release_after.delta());
        }
        let release_at = self.job.timers.release_at;
        self.events.push(JobEvent::Delivered { revision_number: self.job.revisions + 1, release_at });
        match self.job.validated {
            true => {
                self.job.status = JobStatus::Validating;
                Ok(())
            }
            false => self.delivered(),
        }
    }

    /// A delivery is there, and whatever checks it automatically is done.
    fn delivered(&mut self) -> Result<(), Rejection> {
        self.job.status = JobStatus::Delivered;
        match self.ctx.policy.jobs.review {
            Review::Nobody => self.complete(Division::completed(&self.job)?),
            Review::Buyer { .. } => Ok(()),
        }
    }

    fn record_validation(&mut self, verdict: Verdict) -> Result<(), Rejection> {
        self.events.push(JobEvent::Validated { verdict });
        let on_pass = self.ctx.policy.validation.map(|validation| validation.on_pass);
        match (verdict, on_pass) {
            (Verdict::Passed, Some(OnPass::Approve)) => self.complete(Division::completed(&self.job)?),
            _ => self.delivered(),
        }
    }

    /// The work is accepted and paid (VP-19, VP-20, AM-07).
    fn complete(&mut self, division: Division) -> Result<(), Rejection> {
        self.settle(division)?;
        self.end(JobStatus::Completed);
        let payout_status = match self.job.hold.state {
            HoldState::Settled => PayoutStatus::Paid,
            _ => PayoutStatus::Pending,
        };
        self.events.push(JobEvent::Completed {
            net: division.worker,
            fee: division.platform,
            payout_status,
            auto_released: matches!(self.ctx.actor, Actor::Timer),
        });
        Ok(())
    }

    fn request_revision(&mut self, feedback: &str) -> Result<(), Rejection> {
        let policy = &self.ctx.policy.jobs.revisions;
        text::prose("feedback", feedback, policy.feedback)?;
        if self.job.revisions >= policy.max {
            return Err(Rejection::NoRevisionsLeft { asked: self.job.revisions, max: policy.max });
        }
        self.job.revisions += 1;
        self.job.status = JobStatus::RevisionRequested;
        // What was left of the time allowed is not lost by delivering early.
        let allowed = self.job.posted_at + Span::seconds(self.job.time_allowed).delta();
        let deadline = Some(allowed.max(self.ctx.now + policy.time.delta()));
        self.job.timers = Timers { deadline, hold_until: self.job.timers.hold_until, ..Timers::default() };
        self.events.push(JobEvent::RevisionRequested { feedback: feedback.into(), deadline });
        Ok(())
    }

    fn cancel(&mut self, reason: &str) -> Result<(), Rejection> {
        let policy = &self.ctx.policy.jobs;
        text::prose("reason", reason, text::REASON)?;
        let Some(terms) = policy.cancellation.get(&self.job.status) else {
            let allowed = policy.cancellation.keys().copied().collect();
            return Err(Rejection::WrongStatus { command: self.command, status: self.job.status, allowed });
        };
        let rounding = self.ctx.policy.fees.rounding;
        let to_worker = self.job.terms.amount.at(terms.to_worker, rounding)?;
        // Both shares may be rounded up: the worker's is whole, the platform's is what is left at most.
        let left = self.job.terms.amount.minus(to_worker)?.minor();
        let to_platform = self.job.terms.amount.at(terms.to_platform, rounding)?;
        let to_platform = Money::new(to_platform.minor().min(left), to_platform.currency());
        self.call_off(CancelCause::Buyer, reason, Division::cancelled(&self.job, to_worker, to_platform)?)
    }

    fn withdraw(&mut self, reason: &str) -> Result<(), Rejection> {
        text::prose("reason", reason, text::REASON)?;
        let allowed = &self.ctx.policy.jobs.worker_may_withdraw;
        if !allowed.contains(&self.job.status) {
            let (command, status) = (self.command, self.job.status);
            return Err(Rejection::WrongStatus { command, status, allowed: allowed.clone() });
        }
        self.call_off(CancelCause::Worker, reason, Division::refunded(&self.job)?)
    }

    /// Ends a job before it is done, dividing its money if there is any yet.
    fn call_off(&mut self, cause: CancelCause, reason: &str, division: Division) -> Result<(), Rejection> {
        let none = Money::zero(self.job.terms.amount.currency());
        let (mut refunded, mut cancellation_fee, mut compensation) = (none, none, none);
        if self.job.hold.state == HoldState::Held {
            (refunded, cancellation_fee, compensation) = (division.buyer, division.platform, division.worker);
            self.settle(division)?;
        }
        self.end(JobStatus::Cancelled);
        let reason = reason.into();
        self.events.push(JobEvent::Cancelled { cause, reason, refunded, cancellation_fee, compensation });
        Ok(())
    }

    fn refund(&mut self, reason: &str) -> Result<(), Rejection> {
        text::prose("reason", reason, text::REASON)?;
        let division = Division::refunded(&self.job)?;
        self.settle(division)?;
        self.end(JobStatus::Refunded);
        self.events.push(JobEvent::Refunded { reason: reason.into(), amount: division.buyer });
        Ok(())
    }

    fn freeze(&mut self, reason: &str) -> Result<(), Rejection> {
        text::prose("reason", reason, text::REASON)?;
        self.job.frozen = Some(Frozen { was: self.job.status, since: self.ctx.now });
        self.job.status = JobStatus::Frozen;
        self.events.push(JobEvent::Frozen { reason: reason.into() });
        Ok(())
    }

    /// The job goes on where it stood: every deadline moves by as long as it was frozen.
    fn unfreeze(&mut self) {
        let Some(Frozen { was, since }) = self.job.frozen.take() else { return };
        let pause = (self.ctx.now - since).max(TimeDelta::zero()); // a machine's clock may step back
        let timers = &mut self.job.timers;
        for timer in [&mut timers.fund_by, &mut timers.stale_at, &mut timers.deadline, &mut timers.release_at] {
            *timer = timer.map(|at| at + pause);
        }
        self.job.status = was;
        self.events.push(JobEvent::Unfrozen {});
    }

    fn tick(&mut self) -> Result<(), Rejection> {
        let (now, next) = (self.ctx.now, self.job.due_at());
        let Some(at) = next.filter(|at| *at <= now) else { return Err(Rejection::NothingDue { next }) };
        let Timers { fund_by, stale_at, deadline, release_at, .. } = self.job.timers;
        let cause = match Some(at) {
            _ if self.job.frozen.is_some() => CancelCause::HoldExpired, // the only timer that runs then
            due if due == release_at => return self.complete(Division::completed(&self.job)?),
            due if due == fund_by => CancelCause::Unpaid,
            due if due == stale_at => CancelCause::Stale,
            due if due == deadline => CancelCause::DeadlineExpired,
            _ => CancelCause::HoldExpired,
        };
        let delivered = matches!(self.job.status, JobStatus::Delivered | JobStatus::Validating);
        let release = self.ctx.policy.jobs.hold_expiry.delivered == OnExpiry::Release;
        if cause == CancelCause::HoldExpired && delivered && release {
            return self.complete(Division::completed(&self.job)?);
        }
        self.call_off(cause, "", Division::refunded(&self.job)?)
    }

    fn record_outcome(&mut self, instruction: &Instruction, outcome: &Outcome) -> Result<(), Rejection> {
        let funding = self.job.hold.state == HoldState::Funding(instruction.id);
        let settling = self.job.hold.state == HoldState::Settling(instruction.id);
        if !funding && !settling {
            return Err(self.wrong_hold());
        }
        match outcome {
            Outcome::Pending { .. } => {}
            Outcome::NeedsAction(action) => {
                let mut action = action.clone();
                action.payload.clear(); // the party's alone; the log is read by both
                self.events.push(JobEvent::ActionRequired { instruction: instruction.id, action });
            }
            Outcome::Declined(decline) if funding => {
                self.job.hold.state = HoldState::Empty;
                let (instruction, decline) = (instruction.id, decline.clone());
                self.events.push(JobEvent::PaymentFailed { instruction, decline });
            }
            Outcome::Declined(decline) => {
                let retry = self.instruct(instruction.order.clone());
                self.job.hold.state = HoldState::Settling(retry);
                let wait = backoff(self.job.hold.declined);
                self.job.hold.declined = self.job.hold.declined.saturating_add(1);
                let next_at = self.ctx.now + wait.delta();
                self.instructions[0].1 = next_at;
                let (instruction, decline) = (instruction.id, decline.clone());
                let payout_status = PayoutStatus::PendingRetry;
                self.events.push(JobEvent::PaymentRetrying { instruction, decline, next_at, payout_status });
            }
            Outcome::Done(receipt) => {
                instruction.check(receipt)?;
                match funding {
                    true => self.payment_arrived(receipt)?,
                    false => self.settlement_arrived(receipt)?,
                }
            }
        }
        Ok(())
    }

    fn payment_arrived(&mut self, receipt: &Receipt) -> Result<(), Rejection> {
        self.funded_by(receipt)?;
        let ended = self.job.status.is_final();
        if self.job.hold.expired {
            self.hold_lost()?;
            match ended {
                true => self.job.timers = Timers::default(),
                false => self.hold_is_lost(receipt.amount),
            }
            return Ok(());
        }
        if !ended {
            return self.funded();
        }
        // Called off while the payment was under way: it goes straight back.
        self.job.timers = Timers::default();
        let division = Division::refunded(&self.job)?;
        self.settle(division)?;
        self.events.push(JobEvent::PaymentReturned { amount: division.buyer });
        Ok(())
    }

    fn settlement_arrived(&mut self, receipt: &Receipt) -> Result<(), Rejection> {
        self.settled_by(receipt)?;
        let legs = receipt.legs.iter().map(|leg| Leg { to: leg.to, amount: leg.amount }).collect();
        self.events.push(JobEvent::PaymentReceived { reference: receipt.reference.clone(), legs });
        Ok(())
    }

    fn record_hold_expired(&mut self) -> Result<(), Rejection> {
        let rail = self.ctx.rail;
        if !rail.custody.is_per_hold() {
            return Err(Rejection::WrongRail { command: self.command, rail: rail.id, needed: Custody::PerHold });
        }
        let refunded = self.job.terms.total()?;
        match self.job.hold.state {
            HoldState::Held => self.hold_lost()?,
            // The rail gave up while it was being asked to divide: nobody got a share, the payer has it all.
            HoldState::Settling(_) => {
                self.shares_lost()?;
                self.events.push(JobEvent::PaymentLost { amount: refunded });
                return Ok(());
            }
            // That it was funded is not known yet; when it is, the money is gone again.
            HoldState::Funding(_) => {
                self.job.hold.expired = true;
                self.events.push(JobEvent::PaymentExpired {});
                return Ok(());
            }
            HoldState::Empty | HoldState::Settled => return Err(self.wrong_hold()),
        }
        self.hold_is_lost(refunded);
        Ok(())
    }

    /// The payer has the money back: there is nothing to work for any more.
    fn hold_is_lost(&mut self, refunded: Money) {
        self.end(JobStatus::Cancelled);
        let none = Money::zero(refunded.currency());
        self.events.push(JobEvent::Cancelled {
            cause: CancelCause::HoldExpired,
            reason: String::new(),
            refunded,
            cancellation_fee: none,
            compensation: none,
        });
    }

    /// The job's money is reserved: it waits for its worker, or goes on at once.
    fn funded(&mut self) -> Result<(), Rejection> {
        self.job.timers.fund_by = None;
        self.events.push(JobEvent::Funded { amount: self.job.terms.total()? });
        self.enter(JobStatus::Funded);
        let automatic = self.ctx.policy.jobs.acceptance == Acceptance::Automatic && self.job.worker.is_some();
        let accepted_before = self.ctx.policy.jobs.escrow == EscrowAt::Acceptance;
        match automatic || accepted_before {
            true => self.accepted(),
            false => Ok(()),
        }
    }

    /// The worker has the job: the clocks that depend on it start.
    fn accepted(&mut self) -> Result<(), Rejection> {
        let policy = &self.ctx.policy.jobs;
        // A frozen job's clocks stand where it was frozen; unfreezing moves them on from there.
        let now = self.job.frozen.map_or(self.ctx.now, |frozen| frozen.since);
        let worker = self.job.worker.ok_or_else(|| self.wrong_hold())?;
        self.enter(JobStatus::Accepted);
        if policy.deadline.from == DeadlineFrom::Acceptance {
            self.job.timers.deadline = Some(now + Span::seconds(self.job.time_allowed).delta());
        }
        self.job.timers.stale_at = policy.stale_after.map(|after| now + after.delta());
        let (deadline, fee) = (self.job.timers.deadline, self.job.terms.fee);
        self.events.push(JobEvent::Accepted { worker, deadline, fee });
        Ok(())
    }

    /// Changes the status, also of a job that is frozen while its payment arrives.
    fn enter(&mut self, status: JobStatus) {
        match &mut self.job.frozen {
            Some(frozen) => frozen.was = status,
            None => self.job.status = status,
        }
    }

    fn end(&mut self, status: JobStatus) {
        self.job.status = status;
        self.job.frozen = None;
        self.job.timers = Timers::default();
    }

    /// Whether the money is reserved only once a worker has accepted, and none has. A worker who is
    /// named has not accepted yet: accepting gives the first instruction.
    fn escrow_waits_for_worker(&self) -> bool {
        self.ctx.policy.jobs.escrow == EscrowAt::Acceptance && self.job.hold.instructions == 0
    }

    pub(super) fn wrong_hold(&self) -> Rejection {
        let state = match self.job.hold.state {
            HoldState::Empty => "not reserved",
            HoldState::Funding(_) => "being taken",
            HoldState::Held => "reserved",
            HoldState::Settling(_) => "being divided",
            HoldState::Settled => "divided",
        };
        Rejection::WrongHold { command: self.command, state }
    }
}

/// The wait before a settlement is asked for again that was declined `before` times before: four times
/// as long each time, up to a day.
fn backoff(before: u32) -> Span {
    let seconds = RETRY_FIRST.as_seconds().saturating_mul(4u32.saturating_pow(before));
    Span::seconds(seconds.min(RETRY_MOST.as_seconds()))
}
