//! One open job and its bids, decided without an engine.

use std::collections::BTreeMap;

use tradepost::{
    bid::{self, Bid, BidCommand, BidEvent, BidOrder},
    error::Rejection,
    ids::{AgentId, BidId},
    job::{Candidate, Context, Job, JobOrder, OpenOrder},
    money::Money,
    policy::{Policy, PolicyVersion},
    rail::Custody,
};

use crate::support::{Desk, buyer, by, order, post};

/// A job's desk with its bids beside it.
pub(super) struct BidDesk {
    pub(super) job: Desk,
    pub(super) bids: BTreeMap<BidId, Bid>,
    pub(super) told: Vec<BidEvent>,
    pub(super) active_jobs: u32,
    pub(super) capabilities: Option<Vec<String>>,
}

/// An open order of `minor` units.
pub(super) fn open_order(policy: &Policy, minor: i64, open: OpenOrder) -> JobOrder {
    JobOrder { worker: None, open: Some(open), ..order(Money::new(minor, policy.currency)) }
}

pub(super) fn price(money: Money) -> BidOrder {
    BidOrder { price: Some(money), ..BidOrder::default() }
}

impl BidDesk {
    /// An open job of `minor` units under this policy.
    pub(super) fn new(policy: Policy, custody: Custody, minor: i64, open: OpenOrder) -> Self {
        let order = open_order(&policy, minor, open);
        let mut job = Desk::new(policy, custody);
        job.must(by(buyer()), post(order));
        Self { job, bids: BTreeMap::new(), told: Vec::new(), active_jobs: 0, capabilities: None }
    }

    pub(super) fn money(&self, minor: i64) -> Money {
        self.job.money(minor)
    }

    pub(super) fn job(&self) -> &Job {
        self.job.job()
    }

    pub(super) fn bid(&self, worker: AgentId) -> &Bid {
        &self.bids[&BidId::derive(self.job().id, worker)]
    }

    /// Gives a command about `worker`'s bid, in the name of `by`.
    pub(super) fn give(&mut self, by: AgentId, worker: AgentId, command: &BidCommand) -> Result<(), Rejection> {
        let actor = tradepost::actor::Actor::Agent(by);
        let candidate = Candidate {
            tier: &self.job.tier,
            active_jobs: self.active_jobs,
            capabilities: self.capabilities.as_deref(),
        };
        let context = Context {
            now: self.job.now,
            actor: &actor,
            policy: &self.job.policy,
            version: PolicyVersion(1),
            rail: &self.job.rail,
            worker: candidate,
        };
        let bid = self.bids.get(&BidId::derive(self.job().id, worker));
        let decision = bid::decide(self.job(), bid, command, &context)?;
        self.take(decision)
    }

    pub(super) fn place(&mut self, worker: AgentId, minor: i64) -> Result<(), Rejection> {
        let bid = Box::new(price(self.money(minor)));
        self.give(worker, worker, &BidCommand::Place { bid })
    }

    pub(super) fn counter(&mut self, by: AgentId, worker: AgentId, minor: i64) -> Result<(), Rejection> {
        let command = BidCommand::Counter { price: self.money(minor), message: "how about this".into() };
        self.give(by, worker, &command)
    }

    pub(super) fn accept(&mut self, by: AgentId, worker: AgentId, minor: i64) -> Result<(), Rejection> {
        let command = BidCommand::Accept { price: self.money(minor) };
        self.give(by, worker, &command)
    }

    /// Tells the bids how the search ended, `at_once` in a commit; how many were told.
    pub(super) fn close(&mut self, at_once: usize) -> Result<usize, Rejection> {
        let active = self.bids.values().filter(|bid| bid.status == bid::BidStatus::Active);
        let active: Vec<Bid> = active.take(at_once).cloned().collect();
        let decision = bid::close(self.job(), &active)?;
        let told = decision.bids.len();
        self.take(decision)?;
        Ok(told)
    }

    fn take(&mut self, decision: bid::Decision) -> Result<(), Rejection> {
        self.job.books.apply(&decision.job.movement)?;
        self.job.events.extend(decision.job.events);
        self.job.instructions.extend(decision.job.instructions);
        self.job.job = Some(decision.job.job);
        for (bid, event) in decision.bids {
            self.bids.insert(bid.id, bid);
            self.told.push(event);
        }
        let counted = self.bids.values().filter(|bid| bid.status == bid::BidStatus::Active).count();
        assert_eq!(self.job().open.as_ref().unwrap().active as usize, counted, "the job counts its active bids");
        Ok(())
    }
}
