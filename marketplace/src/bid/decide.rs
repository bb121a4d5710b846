//! Every rule of a bid's life, as one pure function.

use super::{Bid, BidCommand, BidEvent, BidLoss, BidOrder, BidStatus, Offer, Side};
use crate::{
    error::Rejection,
    ids::BidId,
    job::{self, Job, Open, Search},
    money::Money,
    policy::{ApplicationPolicy, Award, BidPolicy, Range},
    text,
};

/// How long a worker may say that the work takes, in hours: ten years.
const HOURS: Range<u32> = Range { min: 1, max: 87_600 };

/// What a decision may look at besides the job, the bid and the command: the same as for the job, whose
/// policy decides. Its `worker` is the agent who bids, or whose bid it is.
pub type Context<'a> = job::Context<'a>;

/// What a command does: plain data, written in one transaction or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the job.
    pub job: job::Decision,
    /// What becomes of its bids.
    pub bids: Vec<(Bid, BidEvent)>,
}

/// Decides a command to an agent's bid on a job. `bid` is `None` while that agent has never made one.
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn decide(job: &Job, bid: Option<&Bid>, command: &BidCommand, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    let open = job::looking(job, command.name(), ctx.now)?;
    let desk = Desk { job, open, ctx };
    let bid = match (bid, command) {
        (bid, BidCommand::Place { bid: order }) => return desk.place(bid, order),
        (Some(bid), _) => bid,
        (None, _) => return Err(Rejection::NotFound { what: "bid", id: String::new() }),
    };
    let side = desk.side(bid, command)?;
    if bid.status != BidStatus::Active {
        return Err(Rejection::WrongBidStatus { command: command.name(), status: bid.status });
    }
    match command {
        BidCommand::Place { .. } => unreachable!("placing is decided above"),
        BidCommand::Counter { price, message } => desk.counter(bid, side, *price, message),
        BidCommand::Accept { price } => desk.accept(bid, side, *price),
        BidCommand::Withdraw => Ok(desk.withdraw(bid)),
    }
}

/// Tells active bids how their job's search ended. `bids` are some of the job's active ones, as many as
/// one commit takes; none at all says that there are none left.
///
/// # Errors
/// [`Rejection::NothingDue`] while the job still looks for its worker, or has no bids left to tell.
pub fn close(job: &Job, bids: &[Bid]) -> Result<Decision, Rejection> {
    if !job.has_bids_to_close() {
        return Err(Rejection::NothingDue { next: job.next_timer() });
    }
    let open = job.open.as_ref();
    let winner: Option<BidId> = match open.map(|open| open.search) {
        Some(Search::Awarded(bid)) => Some(bid),
        _ => None,
    };
    let told = bids.iter().filter(|bid| bid.job == job.id && bid.status == BidStatus::Active).map(|bid| {
        let mut bid = bid.clone();
        let job_id = job.id;
        let event = if winner == Some(bid.id) {
            bid.status = BidStatus::Accepted;
            let deadline = job.timers.deadline;
            BidEvent::Accepted { job: job_id, agreed_price: job.terms.amount, deadline }
        } else {
            bid.status = BidStatus::Rejected;
            let because = if winner.is_some() { BidLoss::OtherChosen } else { BidLoss::JobOver };
            BidEvent::Rejected { job: job_id, because }
        };
        (bid, event)
    });
    let told: Vec<(Bid, BidEvent)> = told.collect();
    let active = open.map_or(0, |open| open.active);
    let left = match told.len() {
        0 => 0,
        count => active.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX)),
    };
    Ok(Decision { job: job::counted(job, left), bids: told })
}

/// A job that takes offers, and whoever is at it.
struct Desk<'a> {
    job: &'a Job,
    open: &'a Open,
    ctx: &'a Context<'a>,
}

impl Desk<'_> {
    /// Which party of the bid gives the command, if it is theirs to give.
    fn side(&self, bid: &Bid, command: &BidCommand) -> Result<Side, Rejection> {
        let actor = self.ctx.actor.agent();
        let worker = actor == Some(bid.worker);
        let buyer = actor == Some(self.job.buyer);
        let allowed = match command {
            BidCommand::Withdraw => "the bid's worker",
            _ => "the job's buyer or the bid's worker",
        };
        match (worker, buyer, command) {
            (true, _, _) => Ok(Side::Worker),
            (_, true, BidCommand::Counter { .. } | BidCommand::Accept { .. }) => Ok(Side::Buyer),
            _ => Err(Rejection::WrongActor { command: command.name(), allowed, actor: self.ctx.actor.clone() }),
        }
    }

    fn place(&self, before: Option<&Bid>, order: &BidOrder) -> Result<Decision, Rejection> {
        let worker = self.ctx.actor.agent().filter(|agent| *agent != self.job.buyer).ok_or_else(|| {
            let (command, allowed) = ("place_bid", "an agent other than the buyer");
            Rejection::WrongActor { command, allowed, actor: self.ctx.actor.clone() }
        })?;
        self.ctx.worker.check_fit(self.open, self.ctx.policy)?;
        let (price, active_max) = match self.award()? {
            Award::Bids(policy) => (self.bid_price(&policy, before, order)?, policy.active_max),
            Award::Applications(policy) => (self.application_price(&policy, order)?, policy.active_max),
            Award::FirstCome => return Err(self.not_open("place_bid")),
        };
        self.ctx.worker.check_tier(price, self.ctx.policy)?;
        let stood = before.is_some_and(|bid| bid.status == BidStatus::Active);
        let active = self.open.active + u32::from(!stood);
        if active > active_max {
            return Err(Rejection::TooManyBids { max: active_max });
        }
        let bid = Bid {
            id: BidId::derive(self.job.id, worker),
            job: self.job.id,
            worker,
            status: BidStatus::Active,
            offer: Offer { price, by: Side::Worker, message: String::new() },
            asked: price,
            hours: order.hours,
            message: order.message.clone(),
            counter_offers: 0,
            placed_at: self.ctx.now,
        };
        let event = BidEvent::Received { job: self.job.id, worker, price };
        Ok(Decision { job: job::counted(self.job, active), bids: vec![(bid, event)] })
    }

    /// Checks a bid (VP-24); its price.
    fn bid_price(&self, policy: &BidPolicy, before: Option<&Bid>, order: &BidOrder) -> Result<Money, Rejection> {
        let price = order.price.ok_or(Rejection::Missing { field: "price" })?;
        self.check_price(price, policy.price_min)?;
        if self.open.reserve.is_some_and(|reserve| price.minor() < reserve.minor()) {
            return Err(Rejection::UnderReserve { actual: price });
        }
        text::prose("message", &order.message, policy.message)?;
        if let Some(hours) = order.hours.filter(|hours| !HOURS.contains(*hours)) {
            let Range { min, max } = HOURS;
            return Err(Rejection::Count { field: "hours", min, max, actual: hours });
        }
        let next = before.map(|bid| bid.placed_at + policy.interval.delta());
        match next.filter(|next| self.ctx.now < *next) {
            Some(next) => Err(Rejection::TooSoon { command: "place_bid", next }),
            None => Ok(price),
        }
    }

    /// Checks an application (JP-11); its price is the job's.
    fn application_price(&self, policy: &ApplicationPolicy, order: &BidOrder) -> Result<Money, Rejection> {
        if order.price.is_some() {
            return Err(Rejection::NotOffered { what: "a price of the applicant's own" });
        }
        if order.hours.is_some() {
            return Err(Rejection::NotOffered { what: "an application with hours" });
        }
        text::prose("message", &order.message, policy.message)?;
        Ok(self.open.most)
    }

    fn counter(&self, bid: &Bid, by: Side, price: Money, message: &str) -> Result<Decision, Rejection> {
        let policy = match self.award()? {
            Award::Bids(BidPolicy { counter_offers: Some(policy), .. }) => policy,
            _ => return Err(Rejection::NotOffered { what: "counter-offers" }),
        };
        self.check_price(price, 1)?;
        text::prose("message", message, policy.message)?;
        if bid.counter_offers >= policy.max {
            return Err(Rejection::NoOffersLeft { max: policy.max });
        }
        let mut bid = bid.clone();
        bid.counter_offers += 1;
        bid.offer = Offer { price, by, message: message.into() };
        let event = BidEvent::Countered { job: self.job.id, by, price };
        Ok(Decision { job: job::counted(self.job, self.open.active), bids: vec![(bid, event)] })
    }

    /// The bid stays active until its money is reserved: then [`close`] tells it and all others.
    fn accept(&self, bid: &Bid, side: Side, price: Money) -> Result<Decision, Rejection> {
        if bid.offer.by == side {
            return Err(Rejection::OwnOffer);
        }
        if bid.offer.price != price {
            return Err(Rejection::OfferChanged { accepted: price, stands: bid.offer.price });
        }
        self.ctx.worker.check_fit(self.open, self.ctx.policy)?;
        Ok(Decision { job: job::award(self.job, bid.id, bid.worker, price, self.ctx)?, bids: Vec::new() })
    }

    fn withdraw(&self, bid: &Bid) -> Decision {
        let bid = Bid { status: BidStatus::Withdrawn, ..bid.clone() };
        let active = self.open.active.saturating_sub(1);
        Decision { job: job::counted(self.job, active), bids: vec![(bid, BidEvent::Withdrawn { job: self.job.id })] }
    }

    /// A price is at most what was posted (VP-13).
    fn check_price(&self, price: Money, min: i64) -> Result<(), Rejection> {
        let most = self.open.most;
        most.plus(price)?; // of the same currency
        match (min..=most.minor()).contains(&price.minor()) {
            true => Ok(()),
            false => {
                let (currency, max, actual) = (most.currency(), most.minor(), price.minor());
                Err(Rejection::Amount { field: "price", currency, min, max, actual })
            }
        }
    }

    fn award(&self) -> Result<Award, Rejection> {
        self.ctx.policy.open_jobs.map(|open| open.award).ok_or_else(|| self.not_open("place_bid"))
    }

    fn not_open(&self, command: &'static str) -> Rejection {
        Rejection::NotOpen { command, job: self.job.id }
    }
}
