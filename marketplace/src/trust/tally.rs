//! How often what happened to an agent.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Evidence, Outcome, Side, Stance};
use crate::{
    clock::Timestamp,
    ids::OwnerId,
    policy::{AbuseRestriction, ReportPolicy},
};

/// How often what happened to an agent, counting only what counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tally {
    /// Jobs it worked on that were settled, one way or the other.
    pub worked: u64,
    /// Those of them that were completed, be it by a ruling (AM-02 shows it).
    pub completed: u64,
    /// Ratings it got.
    pub ratings: u64,
    /// Their sum.
    pub rating_sum: u64,
    /// Disputes that others opened against it.
    pub disputes_faced: u64,
    /// Those of them that were ruled against it.
    pub disputes_lost: u64,
    /// What it is like to work for.
    pub client: ClientReputation,
    /// Whether the platform has verified it.
    pub verified: bool,
    /// Reports on it that are pending, oldest first; one for each owner that made some.
    pub reports: Vec<Pending>,
    /// When the last report was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_report: Option<Timestamp>,
    /// Jobs completed since the last report was made or dismissed by them.
    pub completed_since_report: u64,
}

/// A pending report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Whose agent made it.
    pub by: OwnerId,
}

/// What an agent is like to work for (JP-33).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientReputation {
    /// Jobs it paid for that were completed without a dispute of its own.
    pub completed: u64,
    /// Disputes it filed as a buyer.
    pub filed: u64,
}

impl ClientReputation {
    /// The share of disputes: `filed / (completed + filed)`, nothing while there is nothing (JP-33).
    pub fn dispute_rate(&self) -> Decimal {
        share(self.filed, self.filed.saturating_add(self.completed)).unwrap_or_default()
    }

    /// Whether a policy restricts such a buyer for now (JP-14, JP-33).
    pub fn is_restricted(&self, abuse: &AbuseRestriction) -> bool {
        // Without a division, so that a rate of exactly the limit restricts.
        let all = Decimal::from(self.filed) + Decimal::from(self.completed);
        self.filed >= u64::from(abuse.filed) && Decimal::from(self.filed) >= abuse.rate.share() * all
    }
}

/// The most pending reports that are kept apart; further ones only renew the date.
const REPORTS_LIMIT: usize = 10_000;

impl Tally {
    /// How many owners' reports are pending at a moment. They expire together, some time after the
    /// last one (JP-29).
    pub fn pending_reports(&self, at: Timestamp, policy: Option<&ReportPolicy>) -> usize {
        match (policy, self.last_report) {
            (Some(policy), Some(last)) if at.signed_duration_since(last) >= policy.expire_after.delta() => 0,
            _ => self.reports.len(),
        }
    }

    pub(super) fn count(&mut self, evidence: &Evidence, at: Timestamp, reports: Option<&ReportPolicy>) {
        if self.pending_reports(at, reports) == 0 {
            self.reports.clear();
        }
        match *evidence {
            Evidence::JobCompleted | Evidence::WorkerFault => add(&mut self.worked),
            Evidence::JobBought => add(&mut self.client.completed),
            Evidence::DisputeFiled { side: Side::Buyer } => add(&mut self.client.filed),
            Evidence::Dispute { side, stance, outcome } => self.count_dispute(side, stance, outcome),
            Evidence::Rated { rating } => {
                add(&mut self.ratings);
                self.rating_sum = self.rating_sum.saturating_add(rating.into());
            }
            Evidence::Verified => self.verified = true,
            Evidence::Unverified => self.verified = false,
            Evidence::Reported { by } => self.count_report(by, at),
            Evidence::ReportDismissed { by } => self.reports.retain(|report| report.by != by),
            Evidence::DisputeFiled { side: Side::Worker }
            | Evidence::WorkerFailed
            | Evidence::TimePassed
            | Evidence::MoneyWentBack => {}
        }
        if evidence.completes_work() {
            add(&mut self.completed);
            self.dismiss_by_work(reports);
        }
    }

    fn count_dispute(&mut self, side: Side, stance: Stance, outcome: Outcome) {
        if side == Side::Worker {
            add(&mut self.worked);
        }
        match (stance, outcome) {
            (Stance::Respondent, Outcome::Lost) => {
                add(&mut self.disputes_faced);
                add(&mut self.disputes_lost);
            }
            (Stance::Respondent, Outcome::Won | Outcome::Split) => add(&mut self.disputes_faced),
            (Stance::Claimant, _) => {} // it was counted when it was filed
        }
        if side == Side::Buyer && stance == Stance::Respondent && outcome == Outcome::Lost {
            add(&mut self.client.completed); // the worker got what was agreed
        }
    }

    /// Evidence of a contract whose money went back counts no more. A report that its work has helped to dismiss
    /// stays dismissed.
    pub(super) fn take_back(&mut self, evidence: &Evidence) {
        match *evidence {
            Evidence::JobCompleted => less(&mut self.worked),
            Evidence::JobBought => less(&mut self.client.completed),
            Evidence::Dispute { side, stance, outcome } => {
                if side == Side::Worker {
                    less(&mut self.worked);
                }
                if stance == Stance::Respondent {
                    less(&mut self.disputes_faced);
                }
                if (stance, outcome) == (Stance::Respondent, Outcome::Lost) {
                    less(&mut self.disputes_lost);
                    if side == Side::Buyer {
                        less(&mut self.client.completed);
                    }
                }
            }
            Evidence::Rated { rating } => {
                less(&mut self.ratings);
                self.rating_sum = self.rating_sum.saturating_sub(rating.into());
            }
            // Nobody had to be paid for it.
            Evidence::WorkerFault
            | Evidence::WorkerFailed
            | Evidence::DisputeFiled { .. }
            | Evidence::Verified
            | Evidence::Unverified
            | Evidence::Reported { .. }
            | Evidence::ReportDismissed { .. }
            | Evidence::TimePassed
            | Evidence::MoneyWentBack => {}
        }
        if evidence.completes_work() {
            less(&mut self.completed);
        }
    }

    fn count_report(&mut self, by: OwnerId, at: Timestamp) {
        if self.reports.len() < REPORTS_LIMIT && self.reports.iter().all(|report| report.by != by) {
            self.reports.push(Pending { by });
        }
        self.last_report = Some(at);
        self.completed_since_report = 0;
    }

    /// Successful jobs dismiss the oldest report (JP-29: 5 of them).
    fn dismiss_by_work(&mut self, policy: Option<&ReportPolicy>) {
        let Some(policy) = policy.filter(|_| !self.reports.is_empty()) else { return };
        add(&mut self.completed_since_report);
        if self.completed_since_report >= policy.dismissed_by_jobs.into() {
            self.reports.remove(0);
            self.completed_since_report = 0;
        }
    }
}

/// A part of a whole, if there is a whole.
pub(super) fn share(part: u64, whole: u64) -> Option<Decimal> {
    Decimal::from(part).checked_div(whole.into())
}

const fn add(count: &mut u64) {
    *count = count.saturating_add(1);
}

const fn less(count: &mut u64) {
    *count = count.saturating_sub(1);
}
