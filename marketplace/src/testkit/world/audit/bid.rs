//! What the auditor checks of open jobs and their bids.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Auditor, of_job};
use crate::{
    bid::{Bid, BidStatus, Side},
    ids::{AgentId, JobId},
    job::{Job, JobEvent, Search},
    store::{Commit, Key, Kind, Record},
};

impl Auditor {
    /// Whether the commit chose a worker by an offer, or gave that up, and both were right: then amount
    /// and worker may change.
    pub(super) fn check_search(&self, before: &Job, job: &Job, commit: &Commit, found: &mut Vec<String>) -> bool {
        let mine = commit.events.iter().filter(|event| event.subject.id == job.id.0);
        let told = mine.filter_map(|event| Some((of_job(event)?, event.actor.agent())));
        let mut searched = false;
        for (event, actor) in told {
            match event {
                JobEvent::Awarded { bid, worker, price } => {
                    searched = true;
                    let Some(bid) = self.bids.get(&job.id).and_then(|bids| bids.get(bid)) else {
                        found.push(format!("bid {bid} was never made"));
                        continue;
                    };
                    let other = match bid.offer.by {
                        Side::Buyer => bid.worker,
                        Side::Worker => job.buyer,
                    };
                    let stands = bid.status == BidStatus::Active && bid.job == job.id;
                    let agreed = bid.offer.price == *price && job.terms.amount == *price && actor == Some(other);
                    let placed = bid.worker == *worker && job.worker == Some(*worker) && before.worker.is_none();
                    let open = before.open.as_ref().is_some_and(|open| {
                        price.minor() <= open.most.minor()
                            && open.closes_at.is_some_and(|closes_at| commit.at < closes_at)
                    });
                    if !stands || !agreed || !placed || !open {
                        found.push(format!("{bid:?} was accepted by {actor:?}"));
                    }
                }
                JobEvent::Reopened { bid } => {
                    searched = true;
                    let open = job.open.as_ref().is_some_and(|open| open.most == job.terms.amount);
                    let chosen = before.open.as_ref().is_some_and(|open| open.search == Search::Chosen(*bid));
                    if !open || !chosen || job.worker.is_some() {
                        found.push("it was opened again".into());
                    }
                }
                _ => {}
            }
        }
        searched
    }

    /// Bids and their jobs, once all of a commit is there.
    pub(super) fn bids_written(&mut self, commit: &Commit) {
        let mut jobs: BTreeSet<JobId> = BTreeSet::new();
        for write in &commit.writes {
            match &write.record {
                Record::Job(job) if job.open.is_some() => drop(jobs.insert(job.id)),
                Record::Bid(bid) => {
                    jobs.insert(bid.job);
                    self.bid_written(bid, write.expected);
                }
                _ => {}
            }
        }
        for job in jobs {
            let Some(job) = self.job_kept(job) else {
                self.problem(format!("a bid on job {job}, which does not exist"));
                continue;
            };
            let active = self.bids_on(&job).filter(|bid| bid.status == BidStatus::Active).count();
            let counted = job.open.as_ref().map_or(0, |open| open.active);
            if active != counted as usize {
                self.problem(format!("job {} counts {counted} active bids, there are {active}", job.id));
            }
            let accepted: Vec<AgentId> =
                self.bids_on(&job).filter(|bid| bid.status == BidStatus::Accepted).map(|bid| bid.worker).collect();
            let theirs = accepted.iter().all(|worker| job.worker == Some(*worker));
            if accepted.len() > 1 || !theirs {
                self.problem(format!("job {} of {:?} has accepted the bids of {accepted:?}", job.id, job.worker));
            }
        }
    }

    fn bid_written(&mut self, bid: &Bid, expected: u64) {
        let known = self.bids.entry(bid.job).or_default();
        let before = known.insert(bid.id, bid.clone());
        let over =
            matches!(&before, Some(before) if matches!(before.status, BidStatus::Accepted | BidStatus::Rejected));
        let moved = matches!(&before, Some(before) if before.worker != bid.worker);
        if over || moved || before.is_some() != (expected > 0) {
            self.problem(format!("a bid was changed: {before:?} became {bid:?}"));
        }
    }

    fn bids_on(&self, job: &Job) -> impl Iterator<Item = &Bid> {
        self.bids.get(&job.id).into_iter().flat_map(BTreeMap::values)
    }

    fn job_kept(&self, job: JobId) -> Option<Arc<Job>> {
        match &self.records.get(&Key { kind: Kind::Job, id: job.0 })?.record {
            Record::Job(job) => Some(job.clone()),
            _ => None,
        }
    }
}
