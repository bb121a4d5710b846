//! What has to be true after every kill.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    time::Duration,
};

use tradepost::{
    engine::Marketplace,
    ids::JobId,
    job::{HoldState, JobEvent, JobStatus},
    ledger::Account,
    rail::CreditsRail,
    store::EventBody,
};

use crate::{
    Markets,
    load::{Ack, buyer, key, order},
    rail::FileRail,
};

/// How often the workers may look for work before everything is finished.
const PATIENCE: u32 = 1_000;
/// How many acknowledged posts are repeated under their key.
const REPEATED: usize = 20;

/// Looks at both marketplaces of a database after a life of its server; what was found, in words.
pub(crate) async fn look(markets: &Markets, life: u32, acks: &[Ack]) -> Result<String, Box<dyn Error>> {
    let mut open = 0;
    for (name, market) in markets.both() {
        let acks: Vec<&Ack> = acks.iter().filter(|ack| ack.market == name).collect();
        balanced(market).await?;
        answered(market, &acks).await?;
        open += market.unsettled().await?.len();
        finish(market).await?;
        balanced(market).await?;
        answered(market, &acks).await?;
        consistent(market).await?;
        repeated(market, life, &acks).await?;
        let rail = if name == "credits" { CreditsRail::ID } else { FileRail::ID };
        let books = market.reconcile(rail).await?;
        if !books.differences.is_empty() || !books.in_flight.is_empty() {
            return Err(format!("{name}: the books are not the world: {books:?}").into());
        }
    }
    Ok(format!("{open} instructions were under way and are finished"))
}

/// The store holds what was written, and it adds up to nothing.
async fn balanced(market: &Marketplace) -> Result<(), Box<dyn Error>> {
    let findings = market.verify().await?;
    if !findings.is_empty() {
        return Err(format!("verify found {findings:?}").into());
    }
    match market.trial_balance().await?.iter().find(|balance| balance.sum() != 0) {
        Some(balance) => Err(format!("the accounts sum up to {}", balance.sum()).into()),
        None => Ok(()),
    }
}

/// Whatever a caller was told is still so.
async fn answered(market: &Marketplace, acks: &[&Ack]) -> Result<(), Box<dyn Error>> {
    let mut jobs: BTreeMap<JobId, BTreeSet<&str>> = BTreeMap::new();
    for ack in acks {
        jobs.entry(ack.job).or_default().insert(&ack.event);
    }
    for (job, promised) in jobs {
        let history = market.job_history(job).await?;
        let there: BTreeSet<&str> = history.iter().map(|logged| logged.event.body.name()).collect();
        if let Some(missing) = promised.difference(&there).next() {
            return Err(format!("job {job}: {missing} was answered and is not there; there are {there:?}").into());
        }
    }
    Ok(())
}

/// The workers finish what was under way.
async fn finish(market: &Marketplace) -> Result<(), Box<dyn Error>> {
    for _ in 0..PATIENCE {
        market.run_until_idle().await?;
        if market.unsettled().await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // until the claims of the dead run out
    }
    Err(format!("left open: {:?}", market.unsettled().await?).into())
}

/// Every job's state is what its events say, and its escrow what its state says.
async fn consistent(market: &Marketplace) -> Result<(), Box<dyn Error>> {
    let mut told: BTreeMap<JobId, Option<JobStatus>> = BTreeMap::new();
    let mut reader = market.subscribe("nobody's").await?;
    loop {
        let page = reader.next(500).await?;
        if page.is_empty() {
            break;
        }
        for logged in page {
            let EventBody::Job(event) = &logged.event.body else { continue };
            let status = told.entry(JobId(logged.event.subject.id)).or_default();
            *status = match event {
                JobEvent::Created { .. } if status.is_none() => Some(JobStatus::PendingPayment),
                JobEvent::Funded { .. } => Some(JobStatus::Funded),
                JobEvent::Accepted { .. } => Some(JobStatus::Accepted),
                JobEvent::Delivered { .. } => Some(JobStatus::Delivered),
                JobEvent::Completed { .. } => Some(JobStatus::Completed),
                JobEvent::Cancelled { .. } => Some(JobStatus::Cancelled),
                _ => *status,
            };
        }
    }
    let balances = market.trial_balance().await?;
    for (id, told) in told {
        let job = market.job(id).await?;
        if Some(job.status) != told {
            return Err(format!("job {id} is {}, its events say {told:?}", job.status).into());
        }
        let reserved = balances.first().map_or(0, |balance| balance.of(Account::Escrow(id.into())).minor());
        let due = if job.hold.state == HoldState::Held { job.terms.total()?.minor() } else { 0 };
        if reserved != due {
            return Err(format!("job {id} is {:?} with {reserved} reserved", job.hold.state).into());
        }
    }
    Ok(())
}

/// A caller that was answered and asks again under its key gets the same job.
async fn repeated(market: &Marketplace, life: u32, acks: &[&Ack]) -> Result<(), Box<dyn Error>> {
    for ack in acks.iter().rev().filter(|ack| ack.event == "job.created").take(REPEATED) {
        let session = market.agent(buyer(ack.caller)).keyed(key(life, ack.caller, ack.number, "post"));
        let again = session.post_job(order(ack.caller, ack.number)).await?.id;
        if again != ack.job {
            return Err(format!("posting again under the key of job {} made job {again}", ack.job).into());
        }
    }
    Ok(())
}
