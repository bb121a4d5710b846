//! Every rule of a job's life, as one pure function: what follows from a command that is permitted.

use chrono::TimeDelta;

use super::{
    CancelCause, Candidate, Delivery, Freezer, Frozen, HoldState, Job, JobCommand, JobEvent, JobStatus, PayoutStatus,
    Spendable, Timers,
    permit::permit,
    post::{hire, post, terms},
};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    hold::{self, Division, pays_a_worker},
    ledger::Movement,
    money::Money,
    policy::{Acceptance, DeadlineFrom, EscrowAt, OnExpiry, OnPass, Policy, PolicyVersion, Range, Review, Span},
    rail::{Instruction, RailProfile},
    spending::{Allowance, Budget},
    text,
    trust::ClientReputation,
    validation::{Report, Verdict},
};

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
    /// The agent that the command makes the job's worker, if it makes one.
    pub worker: Candidate<'a>,
    /// What whoever posts is like to work for (JP-14, JP-33).
    pub client: ClientReputation,
    /// What is known of the parties' money.
    pub purse: Purse<'a>,
}

/// What a decision may know of the parties' money beyond the job. Nothing is what most jobs need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Purse<'a> {
    /// What the worker owes, taken from what it earns before that becomes available.
    pub owed: Option<Money>,
    /// What the buyer may spend, where its spending is limited or this job's was counted (VP-08).
    pub allowance: Option<&'a Allowance>,
    /// What the job's agents may spend; looked at only by what takes money back.
    pub spendable: Spendable,
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
    /// The buyer's budget as it will be, if that changes (VP-08).
    pub budget: Option<Budget>,
}

impl Decision {
    /// Whether the worker gets something that a debt could be kept from.
    pub(crate) fn pays_the_worker(&self) -> bool {
        pays_a_worker(&self.movement)
    }
}

/// Decides a command.
///
/// `job` is `None` exactly for [`JobCommand::Post`].
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn decide(job: Option<&Job>, command: &JobCommand, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    let job = match (job, command) {
        (Some(job), _) => job,
        (None, JobCommand::Post { id, order }) => return post(*id, order, ctx),
        (None, JobCommand::Hire { id, hire: wanted }) => return hire(*id, wanted, ctx),
        (None, _) => return Err(Rejection::NotFound { what: "job", id: String::new() }),
    };
    permit(job, command, ctx.actor, ctx.now)?;
    let mut draft = Draft::begin(job.clone(), command.name(), ctx);
    match command {
        JobCommand::Post { .. } | JobCommand::Hire { .. } => unreachable!("posting is legal in no status"),
        JobCommand::RetryPayment => draft.retry_payment()?,
        JobCommand::Accept => draft.accept()?,
        JobCommand::Start => draft.start(),
        JobCommand::Deliver { delivery } => draft.deliver(delivery)?,
        JobCommand::RecordValidation { report } => draft.record_validation(report)?,
        JobCommand::Approve => draft.complete(Division::completed(job)?)?,
        JobCommand::RequestRevision { feedback } => draft.request_revision(feedback)?,
        JobCommand::Cancel { reason } => draft.cancel(reason)?,
        JobCommand::Withdraw { reason } => draft.withdraw(reason)?,
        JobCommand::Refund { reason } => draft.refund(reason)?,
        JobCommand::Dispute { dispute } => draft.dispute(*dispute)?,
        JobCommand::EndDispute { ending } => draft.end_dispute(ending)?,
        JobCommand::RefundPaid { amount, reason } => draft.holding()?.refund_paid(*amount, reason)?,
        JobCommand::Freeze { reason } => draft.freeze(reason)?,
        JobCommand::Unfreeze if job.returns.is_contested() => return Err(draft.wrong_hold()),
        JobCommand::Unfreeze => draft.unfreeze(),
        JobCommand::Tick => draft.tick()?,
        JobCommand::RecordOutcome { instruction, outcome } => draft.record_outcome(instruction, outcome)?,
        JobCommand::RecordHoldExpired => draft.record_hold_expired()?,
        JobCommand::RecordHoldSettled { reference, legs } => draft.record_hold_settled(reference, legs)?,
        JobCommand::RecordChargeback { chargeback } => draft.record_chargeback(chargeback)?,
    }
    Ok(draft.finish())
}

/// A decision in the making.
pub(super) struct Draft<'a> {
    pub(super) job: Job,
    pub(super) command: &'static str,
    pub(super) events: Vec<JobEvent>,
    pub(super) movement: Movement,
    pub(super) instructions: Vec<(Instruction, Timestamp)>,
    pub(super) budget: Option<Budget>,
    /// Whether the job, as it was, is one that setting a limit counts.
    pub(super) was_counted: bool,
    pub(super) ctx: &'a Context<'a>,
}

impl<'a> Draft<'a> {
    pub(super) fn begin(job: Job, command: &'static str, ctx: &'a Context<'a>) -> Self {
        let (movement, budget, was_counted) = (Movement::new(), None, job.is_counted());
        Self { job, command, events: Vec::new(), movement, instructions: Vec::new(), budget, was_counted, ctx }
    }

    pub(super) fn finish(self) -> Decision {
        let Self { job, events, movement, instructions, budget, .. } = self;
        Decision { job, events, movement, instructions, budget }
    }

    fn retry_payment(&mut self) -> Result<(), Rejection> {
        if self.job.hold.state != HoldState::Empty || self.escrow_waits_for_worker() || self.goes_by_offer() {
            return Err(self.wrong_hold());
        }
        if self.fund()? {
            self.funded()?;
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Rejection> {
        if self.goes_by_offer() {
            return Err(Rejection::ByOffer { job: self.job.id });
        }
        self.ctx.worker.check_tier(self.job.terms.amount, self.ctx.policy)?;
        if self.job.worker.is_none() {
            if let Some(open) = &self.job.open {
                self.ctx.worker.check_fit(open, self.ctx.policy)?;
            }
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

    fn record_validation(&mut self, report: &Report) -> Result<(), Rejection> {
        let policy = self.ctx.policy.validation;
        let auto_approved =
            report.verdict == Verdict::Passed && policy.is_some_and(|policy| policy.on_pass == OnPass::Approve);
        let (confidence, reasoning) = (report.confidence(), report.reasoning());
        let consensus = policy.map(|policy| report.consensus(&policy)).unwrap_or_default();
        self.events.push(match report.verdict {
            Verdict::Passed => JobEvent::ValidationPassed { confidence, reasoning, consensus, auto_approved },
            Verdict::Failed => JobEvent::ValidationFailed { confidence, reasoning, consensus },
            Verdict::Unavailable => JobEvent::ValidationUnavailable { reason: reasoning, consensus },
        });
        match auto_approved {
            true => self.complete(Division::completed(&self.job)?),
            false => self.delivered(),
        }
    }

    /// The work is accepted and paid (VP-19, VP-20, AM-07).
    pub(super) fn complete(&mut self, division: Division) -> Result<(), Rejection> {
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
            auto_released: matches!(self.ctx.actor, Actor::Timer) && self.job.dispute.is_none(),
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
        let (to_worker, to_platform) = terms.shares(self.job.terms.amount, self.ctx.policy.fees.rounding)?;
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
        self.give_back(reason)
    }

    pub(super) fn give_back(&mut self, reason: &str) -> Result<(), Rejection> {
        let division = Division::refunded(&self.job)?;
        self.settle(division)?;
        self.end(JobStatus::Refunded);
        self.events.push(JobEvent::Refunded { reason: reason.into(), amount: division.buyer });
        Ok(())
    }

    fn freeze(&mut self, reason: &str) -> Result<(), Rejection> {
        text::prose("reason", reason, text::REASON)?;
        self.job.frozen = Some(Frozen { was: self.job.status, since: self.ctx.now, by: Freezer::Operator });
        self.job.status = JobStatus::Frozen;
        self.events.push(JobEvent::Frozen { reason: reason.into() });
        Ok(())
    }

    /// The job goes on where it stood: every deadline moves by as long as it was frozen.
    pub(super) fn unfreeze(&mut self) {
        let Some(Frozen { was, since, .. }) = self.job.frozen.take() else { return };
        // A dispute has stopped the timers before, and counts this pause in with its own.
        if self.job.dispute.is_none() {
            self.resume(since);
        }
        self.job.status = was;
        self.events.push(JobEvent::Unfrozen {});
    }

    /// Moves every deadline by as long as the job stood still.
    pub(super) fn resume(&mut self, since: Timestamp) {
        let pause = (self.ctx.now - since).max(TimeDelta::zero()); // a machine's clock may step back
        let timers = &mut self.job.timers;
        for timer in [&mut timers.fund_by, &mut timers.stale_at, &mut timers.deadline, &mut timers.release_at] {
            *timer = timer.map(|at| at + pause);
        }
        if let Some(open) = &mut self.job.open {
            open.closes_at = open.closes_at.map(|at| at + pause);
        }
    }

    fn tick(&mut self) -> Result<(), Rejection> {
        let (now, next) = (self.ctx.now, self.job.next_timer());
        let Some(at) = next.filter(|at| *at <= now) else { return Err(Rejection::NothingDue { next }) };
        let Timers { fund_by, stale_at, deadline, release_at, .. } = self.job.timers;
        let cause = match Some(at) {
            _ if self.job.frozen.is_some() => CancelCause::HoldExpired, // the only timer that runs then
            due if due == release_at => return self.complete(Division::completed(&self.job)?),
            due if due == fund_by => CancelCause::Unpaid,
            due if due == stale_at => CancelCause::Stale,
            due if due == deadline => CancelCause::DeadlineExpired,
            due if due == self.job.open.as_ref().and_then(|open| open.closes_at) => CancelCause::NoAward,
            _ => CancelCause::HoldExpired,
        };
        let delivered = matches!(self.job.status, JobStatus::Delivered | JobStatus::Validating);
        let release = self.ctx.policy.jobs.hold_expiry.delivered == OnExpiry::Release;
        if cause == CancelCause::HoldExpired && delivered && release {
            return self.complete(Division::completed(&self.job)?);
        }
        self.call_off(cause, "", Division::refunded(&self.job)?)
    }

    /// The job's money is reserved: it waits for its worker, or goes on at once.
    pub(super) fn funded(&mut self) -> Result<(), Rejection> {
        self.job.timers.fund_by = None;
        self.events.push(JobEvent::Funded { amount: self.job.terms.total()? });
        self.enter(JobStatus::Funded);
        let automatic = self.ctx.policy.jobs.acceptance == Acceptance::Automatic && self.job.worker.is_some();
        let escrow = self.ctx.policy.jobs.escrow;
        let accepted_before = escrow == EscrowAt::Acceptance || self.goes_by_offer() || self.job.hired;
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
        self.search_ends();
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

    pub(super) fn end(&mut self, status: JobStatus) {
        self.search_ends();
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
        hold::wrong(self.command, &self.job.hold, &self.job.returns)
    }
}
