//! What the auditor checks of spending limits (VP-08): what counts, and that no limit is passed.

use chrono::{Datelike as _, TimeDelta, Timelike as _};

use super::{Auditor, of_job};
use crate::{
    actor::Actor,
    clock::Timestamp,
    ids::{AgentId, BudgetId},
    job::{HoldState, Job, JobEvent, JobStatus},
    policy::{Bearer, SpendingPeriod, SpendingPolicy},
    rail::Party,
    spending::{Budget, BudgetEvent, SpendingLimit},
    store::{Commit, EventBody, Key, Kind, Record},
};

/// When the period began that a moment is in.
fn began(period: SpendingPeriod, at: Timestamp) -> Timestamp {
    let seconds = i64::from(at.num_seconds_from_midnight());
    let today = at - TimeDelta::seconds(seconds) - TimeDelta::nanoseconds(at.nanosecond().into());
    match period {
        SpendingPeriod::CalendarDay => today,
        SpendingPeriod::CalendarMonth => today - TimeDelta::days(i64::from(at.day0())),
    }
}

/// How much may be spent; nothing for as much as there is.
fn most(limit: SpendingLimit, policy: &SpendingPolicy) -> Option<i128> {
    match limit {
        SpendingLimit::Unlimited => None,
        SpendingLimit::Most(most) => Some(most.minor().into()),
        SpendingLimit::Default => policy.default_limit.map(i128::from),
    }
}

impl Auditor {
    pub(super) fn budget_written(&mut self, before: Option<&Budget>, budget: &Budget, commit: &Commit) {
        let Some(policy) = self.terms.spending else {
            return self.problem(format!("a budget without spending limits: {budget:?}"));
        };
        let spent = i128::from(budget.spent.minor());
        let set = commit.events.iter().find_map(|event| match &event.body {
            EventBody::Budget(BudgetEvent::LimitSet { agent, limit, .. }) => Some((event, *agent, *limit)),
            _ => None,
        });
        if let Some((event, agent, limit)) = set {
            let may = matches!(event.actor, Actor::Operator(_)) && agent == budget.agent && limit == budget.limit;
            let since = began(policy.period, commit.at);
            let known = before.filter(|before| before.since == since);
            let charged = known.map_or(0, charged);
            let unlimited = match before {
                Some(before) => most(before.limit, &policy).is_none(),
                None => policy.default_limit.is_none(),
            };
            let counted = match limit {
                // Without a limit of its own nothing is counted but what was charged.
                SpendingLimit::Unlimited | SpendingLimit::Default => charged,
                SpendingLimit::Most(_) if !unlimited => known.map_or(0, |known| known.spent.minor().into()),
                // Nothing was counted until now: what its jobs of the period have reserved.
                SpendingLimit::Most(_) => charged + self.reserved_since(budget.agent, since),
            };
            if !may || budget.since != since || counted != spent || spent < 0 {
                self.problem(format!("a limit was set: {before:?} became {budget:?}, counted were {counted:?}"));
            }
        } else {
            // A job's commit says why, or a limit is about to be set.
            let of_job = commit.writes.iter().any(|write| matches!(&write.record, Record::Job(_)));
            let known = before.filter(|before| before.since == budget.since);
            let counts = known.map_or(0, charged) == spent && budget.counted.is_some_and(|c| c.amount.is_zero());
            let kept = before.map_or(SpendingLimit::Default, |before| before.limit);
            let same = before == Some(budget);
            if !(of_job || same || counts && most(budget.limit, &policy).is_none()) || kept != budget.limit {
                self.problem(format!("a budget was changed: {before:?} became {budget:?}"));
            }
        }
    }

    /// What an agent's jobs of a period have reserved that no budget was charged with.
    fn reserved_since(&self, agent: AgentId, since: Timestamp) -> i128 {
        let theirs = self.jobs.iter().filter_map(|id| self.job(*id)).filter(|job| job.buyer == agent);
        let counted = theirs.filter(|job| job.posted_at >= since && job.hold.charged.is_none());
        counted.map(reserved).sum()
    }

    /// What a commit to a job makes of its buyer's budget.
    pub(super) fn check_budget(
        &self,
        before: Option<&Job>,
        job: &Job,
        total: i128,
        to_buyer: i128,
        commit: &Commit,
        found: &mut Vec<String>,
    ) {
        let Some(policy) = self.terms.spending else { return };
        let key = Key { kind: Kind::Budget, id: BudgetId::of(job.buyer).0 };
        let known = match self.records.get(&key).map(|kept| &kept.record) {
            Some(Record::Budget(budget)) => Some((**budget).clone()),
            _ => None,
        };
        let written = commit.writes.iter().find_map(|write| match &write.record {
            Record::Budget(budget) if budget.agent == job.buyer => Some((**budget).clone()),
            _ => None,
        });
        let asks = |job: &Job| !matches!(job.hold.state, HoldState::Empty);
        let funds = asks(job) && before.is_none_or(|before| !asks(before));
        let limit = known.as_ref().map_or(SpendingLimit::Default, |budget| budget.limit);
        let since = began(policy.period, commit.at);
        let spent = |budget: &Option<Budget>, since| {
            budget.as_ref().filter(|budget| budget.since == since).map_or(0, |budget| i128::from(budget.spent.minor()))
        };
        let unlimited = most(limit, &policy).is_none();
        // Whatever is reserved is charged, so that what was reserved before can be added up.
        let counting = known.as_ref().filter(|budget| unlimited && budget.counted.is_some());
        if funds {
            let most = match most(limit, &policy) {
                Some(most) => most,
                None if counting.is_some_and(|budget| budget.since == since) => i128::MAX,
                // The budget is there for whoever sets a limit meanwhile.
                None => {
                    let empty = |budget: &Budget| budget.limit == SpendingLimit::Default && budget.spent.is_zero();
                    let made = written.is_none() == known.is_some() && written.as_ref().is_none_or(empty);
                    if !made || job.hold.charged.is_some() {
                        found.push(format!("an agent without a limit was counted: {known:?} became {written:?}"));
                    }
                    return;
                }
            };
            let due = spent(&known, since) + total;
            let now = written.as_ref().map(|budget| (budget.since, i128::from(budget.spent.minor())));
            if now != Some((since, due)) || due > most || job.hold.charged != Some(since) {
                found.push(format!("{total} was spent, {known:?} became {written:?}"));
            }
            return;
        }
        // What comes back to the buyer is given back to the period that was charged, and to no other.
        let told = |is: fn(&JobEvent) -> bool| commit.events.iter().filter_map(of_job).any(is);
        // An open job whose payment failed asks for its most again; charged was what was agreed.
        let failed = told(|event| matches!(event, JobEvent::PaymentFailed { .. }));
        let mut back = if failed { before.map_or(0, whole) } else { to_buyer };
        if let Some(before) = before.filter(|before| matches!(before.hold.state, HoldState::Settling(_)))
            && told(|event| matches!(event, JobEvent::PaymentLost { .. }))
        {
            // The rail gave the hold up while it was asked to divide it: the buyer's own leg was counted then.
            let legs = before.hold.legs.iter().filter(|leg| matches!(leg.to, Party::Buyer(_)));
            back = total - legs.map(|leg| i128::from(leg.amount.minor())).sum::<i128>();
        }
        let was_counted = |budget: &Budget| {
            let counted = budget.counted.filter(|counted| (budget.since..=counted.at).contains(&job.posted_at));
            let reserved = before.is_some_and(|before| before.hold.charged.is_none() && reserved(before) != 0);
            counted.filter(|_| reserved).map_or(0, |counted| i128::from(counted.amount.minor()))
        };
        let due = known.as_ref().and_then(|budget| {
            // No more comes back than was charged, or counted when the limit was set.
            let most = match before.and_then(|before| before.hold.charged) {
                Some(period) if period == budget.since => charged(budget),
                Some(_) => 0,
                None => was_counted(budget),
            };
            let back = back.min(most);
            (back != 0).then(|| (budget.since, i128::from(budget.spent.minor()) - back))
        });
        let now = written.as_ref().map(|budget| (budget.since, i128::from(budget.spent.minor())));
        let empty = known.is_none() && now.is_some_and(|(_, spent)| spent == 0);
        let seen = counting.is_some() && written == known;
        if now != due && !empty && !seen {
            found.push(format!("{back} came back, {known:?} became {written:?}, due is {due:?}"));
        }
    }
}

/// What of a budget jobs were charged to; the rest was counted when its limit was set.
fn charged(budget: &Budget) -> i128 {
    i128::from(budget.spent.minor()) - budget.counted.map_or(0, |counted| counted.amount.minor().into())
}

/// What a job's buyer pays in all.
fn whole(job: &Job) -> i128 {
    let fee = match job.terms.bearer {
        Bearer::Buyer => i128::from(job.terms.fee.minor()),
        Bearer::Worker => 0,
    };
    i128::from(job.terms.amount.minor()) + fee
}

/// What a job has reserved: its total until it is over without having been done.
fn reserved(job: &Job) -> i128 {
    let total = whole(job);
    match job.hold.state {
        HoldState::Funding(_) | HoldState::Held => total,
        HoldState::Settling(_) | HoldState::Settled if job.status == JobStatus::Completed => total,
        _ => 0,
    }
}
