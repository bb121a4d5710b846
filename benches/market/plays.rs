//! The operations that are measured. Each tells how many records it made or found.

use tradepost::{
    bid::BidOrder,
    engine::{AgentSearch, Capable, JobSearch, Marketplace, OpenJobs},
    error::Error,
    ids::{AgentId, JobId},
    job::Wanted,
    money::{Currency, Money},
};

use crate::{
    Outcome,
    load::{PRICE, agent, job, order},
    words,
};

/// What a measurement stands on.
pub(crate) struct Stand {
    pub(crate) market: Marketplace,
    pub(crate) jobs: u64,
    pub(crate) agents: u64,
}

impl Stand {
    /// An agent with money.
    fn buyer(&self, number: u64) -> AgentId {
        agent(words::mixed(number, 1) % self.agents.min(1_000))
    }

    async fn find_agents(&self, search: AgentSearch) -> Outcome<usize> {
        Ok(self.market.find_agents(search).await?.len())
    }

    async fn find_jobs(&self, text: String) -> Outcome<usize> {
        Ok(self.market.find_jobs(JobSearch::new(text)).await?.len())
    }
}

fn offer() -> BidOrder {
    let price = Some(Money::new(PRICE - 100, Currency::EUR));
    BidOrder { price, message: "by tomorrow noon".into(), ..BidOrder::default() }
}

/// An open job that anybody can do.
async fn posted(stand: &Stand, number: u64) -> Outcome<(AgentId, JobId)> {
    let (buyer, key) = (stand.buyer(number), format!("post/{number}"));
    Ok((buyer, stand.market.agent(buyer).keyed(key).post_job(order(number & !1)).await?.id))
}

pub(crate) async fn post(stand: &Stand, number: u64) -> Outcome<usize> {
    posted(stand, number).await?;
    Ok(1)
}

/// On a stored job that anybody can do.
pub(crate) async fn bid(stand: &Stand, number: u64) -> Outcome<usize> {
    let (wanted, worker) = ((words::mixed(number, 2) % stand.jobs) & !1, agent(words::mixed(number, 3) % stand.agents));
    match stand.market.agent(worker).keyed(format!("bid/{number}")).place_bid(job(wanted), offer()).await {
        Ok(_) => Ok(1),
        // It is the buyer's own job, or this agent has bid on it a moment ago: seldom.
        Err(Error::Rejected(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn accept(stand: &Stand, number: u64) -> Outcome<usize> {
    let (buyer, job) = posted(stand, number).await?;
    let mut worker = agent(words::mixed(number, 4) % stand.agents);
    if worker == buyer {
        worker = agent((words::mixed(number, 4) + 1) % stand.agents);
    }
    let (market, key) = (&stand.market, |what: &str| format!("{what}/{number}"));
    let bid = market.agent(worker).keyed(key("offer")).place_bid(job, offer()).await?;
    let price = Money::new(PRICE - 100, Currency::EUR);
    market.agent(buyer).keyed(key("accept")).accept_bid(bid.id, price).await?;
    Ok(1)
}

pub(crate) async fn agents_by_capability(stand: &Stand, number: u64) -> Outcome<usize> {
    let can = Capable::Any(vec![words::capability(number, 9)]);
    stand.find_agents(AgentSearch { can, ..AgentSearch::default() }).await
}

pub(crate) async fn agents_by_two_capabilities(stand: &Stand, number: u64) -> Outcome<usize> {
    let can = Capable::All(vec![words::capability(number, 9), words::capability(number, 10)]);
    stand.find_agents(AgentSearch { can, ..AgentSearch::default() }).await
}

pub(crate) async fn agents_by_rare_word(stand: &Stand, number: u64) -> Outcome<usize> {
    stand.find_agents(AgentSearch { text: Some(words::rare(number)), ..AgentSearch::default() }).await
}

pub(crate) async fn agents_by_common_word(stand: &Stand, number: u64) -> Outcome<usize> {
    stand.find_agents(AgentSearch { text: Some(words::common(number, 6)), ..AgentSearch::default() }).await
}

pub(crate) async fn newest_jobs(stand: &Stand, number: u64) -> Outcome<usize> {
    let wanted = Wanted::Capability(words::capability(number, 9));
    Ok(stand.market.open_jobs(OpenJobs { limit: 20, ..OpenJobs::newest(wanted) }).await?.len())
}

pub(crate) async fn jobs_by_rare_words(stand: &Stand, number: u64) -> Outcome<usize> {
    stand.find_jobs(format!("{} {}", words::rare(number), words::rare(number ^ 1))).await
}

pub(crate) async fn jobs_by_common_words(stand: &Stand, number: u64) -> Outcome<usize> {
    stand.find_jobs(format!("{} {}", words::common(number, 6), words::common(number, 7))).await
}

/// Words of all kinds, as somebody types who knows what is there.
pub(crate) async fn jobs_by_title(stand: &Stand, number: u64) -> Outcome<usize> {
    stand.find_jobs(words::text(words::mixed(number, 8) % stand.jobs, 3)).await
}
