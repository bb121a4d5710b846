//! What the auditor checks of every commit to a job.

use super::{
    Auditor,
    dispute::award_of,
    of_job,
    sums::{Due, Shares, may_become, may_cause},
};
use crate::{
    actor::Actor,
    agreement::AgreementEvent,
    hold::HoldEvent,
    ids::{AgentId, RailId},
    job::{CancelCause, HoldState, Job, JobEvent, JobStatus},
    ledger::{Account, RevenueKind},
    policy::{Policy, Review},
    rail::{Order, Party},
    store::{Commit, EventBody, Kind, Record},
};

impl Auditor {
    pub(super) fn job_written(&mut self, before: Option<&Job>, job: &Job, commit: &Commit) {
        let Some(policy) = self.policies.get(&job.policy).cloned() else {
            return self.problem(format!("job {} is pinned to a policy that nobody set", job.id));
        };
        let mut found = Vec::new();
        self.check_life(before, job, commit, &mut found);
        let due = self.check_terms(before, job, commit, &policy, &mut found);
        self.check_money(before, job, commit, &policy, due, &mut found);
        for problem in found {
            let events: Vec<_> = commit.events.iter().map(|event| event.body.name()).collect();
            self.problem(format!("job {}: {problem}; {events:?}, before {before:?}, after {job:?}", job.id));
        }
        match before {
            None => {
                self.jobs.push(job.id);
                self.open.insert(job.id);
            }
            Some(_) if job.status.is_final() && matches!(job.hold.state, HoldState::Empty | HoldState::Settled) => {
                self.open.remove(&job.id);
            }
            Some(_) => {}
        }
    }

    /// Statuses and actors.
    fn check_life(&self, before: Option<&Job>, job: &Job, commit: &Commit, found: &mut Vec<String>) {
        let was = before.map(|before| before.status);
        if !may_become(was, job.status, job.dispute.is_some()) {
            found.push(format!("{was:?} became {}", job.status));
        }
        let frozen_as = before.and_then(|before| before.frozen).map(|frozen| frozen.was);
        if let Some(was) = frozen_as
            && !matches!(job.status, JobStatus::Frozen | JobStatus::Cancelled | JobStatus::Completed)
            && !(job.status == JobStatus::Refunded && job.dispute.is_some())
            && job.status != was
        {
            found.push(format!("frozen as {was}, let go as {}", job.status));
        }
        if let Some(disputed) = before.filter(|job| job.status == JobStatus::Disputed).and_then(|job| job.dispute)
            && !matches!(job.status, JobStatus::Disputed | JobStatus::Frozen)
            && !job.status.is_final()
            && job.status != disputed.was
        {
            found.push(format!("disputed as {}, goes on as {}", disputed.was, job.status));
        }
        if job.frozen.is_some() != (job.status == JobStatus::Frozen) {
            found.push("frozen in one place only".into());
        }
        for event in &commit.events {
            let Some(body) = of_job(event) else { continue };
            let ends = commit.events.iter().any(|event| matches!(of_job(event), Some(JobEvent::DisputeEnded { .. })));
            if !may_cause(&event.actor, body, job, ends) {
                found.push(format!("{} by {}", body.name(), event.actor));
            }
        }
    }

    /// What was agreed stays, and follows from the pinned policy.
    fn check_terms(
        &self,
        before: Option<&Job>,
        job: &Job,
        commit: &Commit,
        policy: &Policy,
        found: &mut Vec<String>,
    ) -> Due {
        let terms = &job.terms;
        let fee = i128::from(terms.fee.minor());
        let due_by_terms = Due::at(i128::from(terms.amount.minor()), policy.fees.bearer, fee);
        if let Some(before) = before {
            let searched = self.check_search(before, job, commit, found);
            let pinned = before.id == job.id
                && before.buyer == job.buyer
                && before.policy == job.policy
                && before.rail == job.rail
                && before.posted_at == job.posted_at
                && before.time_allowed == job.time_allowed
                && before.validated == job.validated
                && (searched || before.terms.amount == terms.amount)
                && before.terms.bearer == terms.bearer
                && (searched || before.worker.is_none() || (before.worker == job.worker && before.terms == *terms));
            if !pinned {
                found.push("what was agreed was changed".into());
            }
            if before.worker == job.worker {
                return due_by_terms;
            }
        }
        let tier = job.worker.map(|worker| self.tiers.of(worker));
        let tier = tier.map(|tier| tier.unwrap_or_else(|| policy.initial_tier().into()));
        let due = Due::of(job, policy, tier.as_deref());
        if terms.bearer != policy.fees.bearer || due != due_by_terms {
            found.push(format!("its fee is {fee}, due is {due:?}"));
        }
        let (min, max) = (policy.jobs.amount.min, policy.jobs.amount.max);
        if before.is_none() && !(min..=max).contains(&terms.amount.minor()) {
            found.push(format!("its amount is {}, allowed are {min} to {max}", terms.amount));
        }
        due
    }

    /// Every unit that this commit takes for the job and gives away for it.
    fn check_money(
        &mut self,
        before: Option<&Job>,
        job: &Job,
        commit: &Commit,
        policy: &Policy,
        due: Due,
        found: &mut Vec<String>,
    ) {
        let hold = Account::Escrow(job.id.into());
        let per_hold = self.holds_apart(job.rail);
        let rail = Account::Rail(job.rail);
        let worker = job.worker.unwrap_or(job.buyer);
        let (to_worker, to_buyer) = match per_hold {
            true => (Account::Pending(worker), Account::Clearing(job.rail)),
            false => (Account::Available(worker), Account::Available(job.buyer)),
        };
        let (mut taken, mut given, mut lost, mut repaid, mut contested) = (0, Shares::default(), 0, 0, 0);
        for transfer in commit.movement.transfers() {
            let minor = i128::from(transfer.amount().minor());
            if transfer.credit() == hold {
                taken += minor;
                let payer = if per_hold { rail } else { Account::Available(job.buyer) };
                if transfer.debit() != payer {
                    found.push(format!("{} paid for it", transfer.debit()));
                }
            }
            if transfer.debit() == hold {
                // Platform first: without a fee, worker and buyer may be one account.
                match transfer.credit() {
                    Account::Revenue(RevenueKind::Fees | RevenueKind::Cancellations) => given.platform += minor,
                    account if account == rail => lost += minor,
                    account if account == Account::Contested(job.rail) => contested += minor,
                    Account::Debt(agent) if Some(agent) == job.worker => {
                        repaid += minor;
                        given.worker += minor;
                    }
                    account if account == to_worker && job.worker.is_some() => given.worker += minor,
                    account if account == to_buyer => given.buyer += minor,
                    account => found.push(format!("{account} was given {minor}")),
                }
            }
        }
        let events: Vec<&JobEvent> = commit.events.iter().filter_map(of_job).collect();
        if let Some(worker) = job.worker {
            self.check_withheld((worker, job.rail), commit, given.worker, repaid, found);
        }
        let award = events.iter().find_map(|event| match event {
            JobEvent::DisputeEnded { ending, .. } => award_of(ending),
            _ => None,
        });
        // The rail had given the hold up before anybody knew that it was there.
        let gone_before = before.is_some_and(|before| before.hold.expired)
            && events.iter().any(|event| matches!(event, JobEvent::PaymentLost { .. }));
        let arrives = gone_before
            || events.iter().any(|event| matches!(event, JobEvent::Funded { .. } | JobEvent::PaymentReturned { .. }));
        let expected_in = if arrives { due.total } else { 0 };
        if taken != expected_in {
            found.push(format!("{taken} was taken, due is {expected_in}"));
        }
        let reserved_before = self.balance(hold) - taken + given.sum() + lost + contested;
        let was = before.map_or(JobStatus::PendingPayment, |before| before.status);
        let end =
            events.iter().find_map(|event| Shares::due(event, was, due, award, policy).map(|shares| (*event, shares)));
        let expired_outside = end.is_some_and(|(event, _)| {
            matches!(event, JobEvent::Cancelled { cause: CancelCause::HoldExpired, .. })
                && matches!(commit.events[0].actor, Actor::Rail(_))
        });
        let (expected, expected_lost) = match end {
            _ if gone_before => (Shares::default(), due.total),
            None => (Shares::default(), 0),
            Some(_) if expired_outside => (Shares::default(), reserved_before),
            Some(_) if reserved_before + taken == 0 => (Shares::default(), 0),
            // The payer's bank has a part of it, and the payer gets the rest.
            Some((event, shares)) if is_chargeback(event) => {
                let lost: i128 = events.iter().map(|event| lost_by(event)).sum();
                if contested != lost.min(due.total) {
                    found.push(format!("{contested} was contested, lost were {lost}"));
                }
                (Shares { buyer: shares.buyer - contested, ..shares }, 0)
            }
            Some((_, shares)) => (shares, 0),
        };
        if given != expected || lost != expected_lost {
            found.push(format!("{given:?} was given and {lost} lost, due are {expected:?} and {expected_lost}"));
        }
        let left = self.balance(hold);
        let right = match job.hold.state {
            HoldState::Held => due.total,
            HoldState::Empty | HoldState::Funding(_) | HoldState::Settling(_) | HoldState::Settled => 0,
        };
        if left != right {
            found.push(format!("{left} is reserved, due is {right}"));
        }
        if let Some((event, shares)) = end {
            self.check_words(event, shares, expected, found);
            self.check_release(event, before, job, commit, policy, found);
        }
        if award.is_some() && end.is_none() {
            found.push(format!("a dispute ended with {award:?}, and the job with nothing"));
        }
        let asked = Shares { worker: expected.worker - repaid, platform: expected.platform + repaid, ..expected };
        self.check_instructions(before, job, commit, due, asked, found);
        self.check_budget(before, job, due.total, given.buyer + lost, commit, found);
        self.note_got(before, job, given, commit);
        self.check_returns(before, job, commit, policy, found);
    }

    /// What the worker owes is taken from what it earns, no more and no less.
    pub(super) fn check_withheld(
        &self,
        (worker, rail): (AgentId, RailId),
        commit: &Commit,
        earned: i128,
        repaid: i128,
        found: &mut Vec<String>,
    ) {
        let told = commit.events.iter().map(|event| match &event.body {
            EventBody::Job(JobEvent::Hold(HoldEvent::DebtRepaid { amount, .. }))
            | EventBody::Agreement(AgreementEvent::Hold(HoldEvent::DebtRepaid { amount, .. })) => {
                i128::from(amount.minor())
            }
            _ => 0,
        });
        let told: i128 = told.sum();
        let owed = repaid - self.balance(Account::Debt(worker));
        // A share that goes straight from the payer to the worker passes nobody who could keep some of it.
        let due = if self.passes_by(rail) { 0 } else { earned.min(owed) };
        let stood = self.owed_since.get(&worker).is_none_or(|since| *since <= self.began);
        if told != repaid || repaid > due || (stood && repaid != due) {
            found.push(format!("{repaid} was kept for a debt of {owed}, due is {due}, told was {told}"));
        }
    }

    /// The event says what happened.
    fn check_words(&self, event: &JobEvent, due: Shares, given: Shares, found: &mut Vec<String>) {
        let said = match event {
            JobEvent::Completed { net, fee, .. } => {
                Shares { worker: net.minor().into(), platform: fee.minor().into(), buyer: due.buyer }
            }
            JobEvent::Cancelled { refunded, cancellation_fee, compensation, .. } => Shares {
                worker: compensation.minor().into(),
                platform: cancellation_fee.minor().into(),
                buyer: refunded.minor().into(),
            },
            JobEvent::Refunded { amount, .. } | JobEvent::PaymentReturned { amount } => {
                Shares { buyer: amount.minor().into(), ..Shares::default() }
            }
            _ => return,
        };
        if said != due && said != given {
            found.push(format!("{} says {said:?}, due is {due:?}", event.name()));
        }
    }

    /// Silence accepts no sooner than the pinned policy says (VP-20).
    fn check_release(
        &self,
        event: &JobEvent,
        before: Option<&Job>,
        job: &Job,
        commit: &Commit,
        policy: &Policy,
        found: &mut Vec<String>,
    ) {
        let (JobEvent::Completed { auto_released: true, .. }, Some(before)) = (event, before) else { return };
        let validated = |event| matches!(event, &JobEvent::ValidationPassed { auto_approved: true, .. });
        if commit.events.iter().filter_map(of_job).any(validated) {
            return; // the policy takes the validators' word for the buyer's
        }
        let Review::Buyer { release_after } = policy.jobs.review else {
            return found.push("released by a timer, but nobody reviews".into());
        };
        if before.timers.hold_until.is_some_and(|until| until <= commit.at) {
            return; // the rail's clock is the sooner one
        }
        let delivered =
            self.events.iter().rev().find(|event| {
                event.subject.id == job.id.0 && matches!(of_job(event), Some(JobEvent::Delivered { .. }))
            });
        if delivered.is_none_or(|event| event.at + release_after.delta() > commit.at) {
            found.push(format!("released at {}, before its time", commit.at));
        }
    }

    /// New instructions ask for exactly what the books say.
    fn check_instructions(
        &self,
        before: Option<&Job>,
        job: &Job,
        commit: &Commit,
        due: Due,
        given: Shares,
        found: &mut Vec<String>,
    ) {
        for write in &commit.writes {
            let Record::Instruction(record) = &write.record else { continue };
            if write.expected > 0 {
                continue;
            }
            match &record.instruction.order {
                Order::Fund { hold, payer, amount, .. } => {
                    if hold.0 != job.id.0 || *payer != job.buyer || i128::from(amount.minor()) != due.total {
                        found.push(format!("asked for {amount} of {payer}, due is {}", due.total));
                    }
                }
                Order::Settle { hold, legs, .. } => {
                    let mut asked = Shares::default();
                    for leg in legs {
                        let minor = i128::from(leg.amount.minor());
                        match leg.to {
                            Party::Worker(agent) if Some(agent) == job.worker => asked.worker += minor,
                            Party::Buyer(agent) if agent == job.buyer => asked.buyer += minor,
                            Party::Platform => asked.platform += minor,
                            other => found.push(format!("a share for {other:?}")),
                        }
                    }
                    let declined = commit.writes.iter().filter(|other| other.expected > 0);
                    let mut orders = declined.filter_map(|other| match &other.record {
                        Record::Instruction(other) => Some(&other.instruction.order),
                        _ => None,
                    });
                    let again = asked.sum() == due.total && orders.any(|other| *other == record.instruction.order);
                    let lost = commit.events.iter().filter_map(of_job).any(|event| lost_by(event) > 0);
                    let again = again || (lost && self.shrunk(before, job, commit) == Some(asked));
                    if hold.0 != job.id.0 || (asked != given && !again) {
                        found.push(format!("asked to divide {asked:?}, due is {given:?}"));
                    }
                }
                Order::Payout { .. } if record.contract.kind == Kind::Wallet => {} // audited with the wallet
                Order::Payout { .. } => found.push("a job pays nothing out".into()),
                Order::Reverse { .. } | Order::Refund { .. } => {
                    if !goes_back(commit) {
                        found.push(format!("asked to undo without a reason: {:?}", record.instruction.order));
                    }
                }
            }
        }
    }
}

const fn is_chargeback(event: &JobEvent) -> bool {
    matches!(event, JobEvent::Cancelled { cause: CancelCause::Chargeback, .. })
}

fn lost_by(event: &JobEvent) -> i128 {
    match event {
        JobEvent::Hold(HoldEvent::ChargebackLost { amount, .. }) => amount.minor().into(),
        _ => 0,
    }
}

/// Whether a commit says why money goes back after it was paid.
fn goes_back(commit: &Commit) -> bool {
    let reason = |event: &_| {
        matches!(event, JobEvent::Hold(HoldEvent::ChargebackLost { .. } | HoldEvent::RefundedAfterPayout { .. }))
    };
    commit.events.iter().filter_map(of_job).any(reason)
}
