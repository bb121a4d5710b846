//! The same rows pushed into plain maps and lists, without a rule or a check.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tradepost::{
    ids::JobId,
    job::Job,
    ledger::{Account, escrow},
    store::{Event, LoggedEvent, MemoryStore},
};
use uuid::Uuid;

use crate::{Outcome, cast, ours};

/// What one command of the sample life wrote.
struct Step {
    job: Job,
    events: Vec<Event>,
    /// What the other accounts give to the hold, or get from it if it is negative.
    transfers: Vec<(Account, i64)>,
    document: Option<(&'static str, String)>,
}

#[derive(Default)]
struct Rows {
    jobs: HashMap<Uuid, (Arc<Job>, u64)>,
    events: Vec<Event>,
    transfers: Vec<(Uuid, Account, Account, i64)>,
    balances: HashMap<Account, i64>,
    keys: HashMap<String, ([u8; 32], Arc<Job>)>,
    documents: HashMap<(Uuid, &'static str), String>,
}

/// Where lives are pushed into maps.
#[derive(Clone)]
pub(crate) struct BareMemory {
    rows: Arc<Mutex<Rows>>,
    steps: Arc<[Step]>,
}

impl BareMemory {
    pub(crate) async fn new() -> Outcome<Self> {
        let market = ours::open(MemoryStore::new()).await?;
        let (buyer, worker) = cast::parties(0);
        ours::endow(&market, [buyer, worker]).await?;
        let (mut job, mut steps, mut seen) = (None, Vec::new(), 0);
        for command in 0..ours::COMMANDS {
            let id = ours::command(&market, command, job, buyer, worker, cast::nonce(0)).await?;
            job = Some(id);
            let history = market.job_history(id).await?.into_iter().map(|LoggedEvent { event, .. }| event);
            let entries = market.history(escrow(id), seen, 64).await?;
            seen = entries.last().map_or(seen, |entry| entry.number);
            let document = match command {
                0 => Some(("task", market.task(id).await?.to_string())),
                2 => Some(("delivery/1", market.delivery(id, 1).await?.to_string())),
                _ => None,
            };
            steps.push(Step {
                job: (*market.job(id).await?).clone(),
                events: history.filter(|event| event.version == command as u64 + 1).collect(),
                transfers: entries.iter().map(|entry| (entry.counterparty, entry.amount.minor())).collect(),
                document,
            });
        }
        Ok(Self { rows: Arc::default(), steps: steps.into() })
    }

    /// One life.
    pub(crate) async fn life(self, number: u64) -> Outcome<()> {
        #[expect(clippy::disallowed_methods, reason = "a benchmark makes its ids where the bare side does")]
        let id = Uuid::now_v7();
        let ((buyer, worker), nonce) = (cast::parties(number), cast::nonce(number));
        for (version, step) in (1..).zip(self.steps.iter()) {
            let job = Arc::new(Job { id: JobId(id), buyer, worker: Some(worker), ..step.job.clone() });
            let rows = &mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.jobs.insert(id, (job.clone(), version));
            for event in &step.events {
                let mut event = event.clone();
                event.subject.id = id;
                rows.events.push(event);
            }
            for (other, amount) in &step.transfers {
                let other = match other {
                    Account::Available(agent) if *agent == step.job.buyer => Account::Available(buyer),
                    Account::Available(_) => Account::Available(worker),
                    other => *other,
                };
                rows.transfers.push((id, other, escrow(JobId(id)), *amount));
                *rows.balances.entry(escrow(JobId(id))).or_default() += amount;
                if !matches!(other, Account::Revenue(_)) {
                    *rows.balances.entry(other).or_default() -= amount;
                }
            }
            if let Some((name, body)) = &step.document {
                rows.documents.insert((id, name), body.clone());
            }
            rows.keys.insert(format!("agent {buyer}/{version}/{nonce}"), ([0; 32], job));
        }
        Ok(())
    }
}
