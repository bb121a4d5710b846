//! What the people of a world do about open jobs: bid, bid again, offer another price, accept, take back,
//! and now and then what nobody should.

use rand::{Rng, seq::IndexedRandom};

use super::{
    World,
    player::{Answer, Task},
};
use crate::{
    actor::Actor,
    bid::{Bid, BidOrder, BidStatus, Side},
    engine::{Marketplace, OpenJobs},
    ids::{AgentId, BidId},
    job::{Job, Wanted},
    money::Money,
};

/// One thing that somebody does about a bid.
#[derive(Clone, Debug)]
enum Move {
    Place(BidOrder),
    Counter(BidId, Money),
    Accept(BidId, Money),
    Withdraw(BidId),
    Browse,
}

impl World {
    /// Something about an open job, if there is one.
    pub(super) fn offer(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let jobs: Vec<Job> = {
            let auditor = &self.stage.act().auditor;
            auditor.open.iter().filter_map(|id| auditor.job(*id)).filter(|job| job.open.is_some()).cloned().collect()
        };
        let Some(job) = jobs.choose(&mut self.rng).cloned() else { return self.command(market, task) };
        let bids: Vec<Bid> = {
            let act = self.stage.act();
            act.auditor.bids.get(&job.id).map(|bids| bids.values().cloned().collect()).unwrap_or_default()
        };
        let active: Vec<&Bid> = bids.iter().filter(|bid| bid.status == BidStatus::Active).collect();
        let (actor, deed) = match (active.choose(&mut self.rng), self.rng.random_range(0..10)) {
            (_, 9) => (Actor::Agent(self.agent()), Move::Browse),
            (Some(bid), 0..3) => {
                let other = match bid.offer.by {
                    Side::Buyer => bid.worker,
                    Side::Worker => job.buyer,
                };
                let price = if self.rng.random_range(0..8) == 0 { bid.asked } else { bid.offer.price };
                (self.mostly(other), Move::Accept(bid.id, price))
            }
            (Some(bid), 3..5) => {
                let party = if self.rng.random() { job.buyer } else { bid.worker };
                (self.mostly(party), Move::Counter(bid.id, self.price(&job)))
            }
            (Some(bid), 5) => (self.mostly(bid.worker), Move::Withdraw(bid.id)),
            _ => {
                let applies = self.rng.random_range(0..2) == 0;
                let price = (!applies).then(|| self.price(&job));
                let order = BidOrder { price, hours: None, message: "I can do that".into() };
                (Actor::Agent(self.agent()), Move::Place(order))
            }
        };
        self.report.commands += 1;
        let body = format!("{actor} {} {deed:?}", job.id);
        task.play = Box::pin(async move {
            let session = market.by(actor);
            Answer::Done(match deed {
                Move::Place(order) => session.place_bid(job.id, order).await.map(|_| 1),
                Move::Counter(bid, price) => session.counter_bid(bid, price, "meet me there").await.map(|_| 1),
                Move::Accept(bid, price) => session.accept_bid(bid, price).await.map(|_| 1),
                Move::Withdraw(bid) => session.withdraw_bid(bid).await.map(|_| 1),
                Move::Browse => market.open_jobs(OpenJobs::newest(Wanted::Any)).await.map(|found| found.len()),
            })
        });
        (body, None)
    }

    fn mostly(&mut self, agent: AgentId) -> Actor {
        match self.rng.random_range(0..12) {
            0 => self.anybody(),
            _ => Actor::Agent(agent),
        }
    }

    /// A price, most often one that the job could go for.
    fn price(&mut self, job: &Job) -> Money {
        let most = job.open.as_ref().map_or(job.terms.amount, |open| open.most);
        let minor = match self.rng.random_range(0..20) {
            0 => *[0, -1, i64::MAX, i64::MIN].choose(&mut self.rng).unwrap_or(&0),
            1 => most.minor().saturating_add(1),
            _ => self.rng.random_range(most.minor() / 2..=most.minor()),
        };
        Money::new(minor, most.currency())
    }
}
