//! Commits of the shape that the engine makes.

use uuid::Uuid;

use crate::{
    actor::Actor,
    clock::{Timestamp, from_micros},
    ids::{AgentId, JobId, MarketId, RailId},
    job::{Hold, HoldState, Job, JobEvent, JobStatus, Returns, Terms, Timers},
    ledger::{Account, LedgerError, Movement, TransferKind},
    money::{Currency, Money},
    policy::{Bearer, PolicyVersion},
    store::{Commit, Event, EventBody, Key, KeyUse, Kind, Record, Write},
};

/// The rail of every sample.
pub(super) const RAIL: RailId = RailId::new("kit");

/// A job and the commits of its life, for tests and benchmarks of stores.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The market.
    pub market: MarketId,
    /// The job as it is to be written next.
    pub job: Job,
    /// The version the job has now; 0 before it is written first.
    pub version: u64,
}

/// The moment `seconds` after the kit's time began.
pub(super) fn moment(seconds: i64) -> Timestamp {
    from_micros((1_700_000_000 + seconds) * 1_000_000).unwrap_or_default()
}

pub(super) fn euros(euros: i64) -> Money {
    Money::new(euros * 100, Currency::EUR)
}

impl Sample {
    /// A job that was never written.
    pub fn new(market: MarketId, id: Uuid, buyer: Uuid) -> Self {
        let job = Job {
            id: JobId(id),
            buyer: AgentId(buyer),
            worker: None,
            rail: RAIL,
            status: JobStatus::Funded,
            policy: PolicyVersion(1),
            terms: Terms { amount: euros(10), bearer: Bearer::Worker, rate: None, fee: Money::zero(Currency::EUR) },
            hold: Hold { state: HoldState::Held, ..Hold::default() },
            returns: Returns::default(),
            posted_at: moment(0),
            time_allowed: 3600,
            timers: Timers::default(),
            revisions: 0,
            validated: false,
            schematic: false,
            hired: false,
            open: None,
            frozen: None,
            dispute: None,
        };
        Self { market, job, version: 0 }
    }

    /// The job's key.
    pub fn key(&self) -> Key {
        Key { kind: Kind::Job, id: self.job.id.0 }
    }

    /// Who pays for the job: an account that must not go below nothing.
    pub fn payer(&self) -> Account {
        Account::Available(self.job.buyer)
    }

    /// The job's money: an account that must not go below nothing.
    pub fn escrow(&self) -> Account {
        Account::Escrow(self.job.id.into())
    }

    /// A commit that writes the job and one event, and moves nothing.
    pub fn write(&self) -> Commit {
        let record = Record::Job(self.job.clone().into());
        Commit {
            market: self.market,
            at: self.job.posted_at,
            contract: self.job.id.0,
            version: self.version + 1,
            key: None,
            writes: vec![Write { record, expected: self.version, claimed_until: None }],
            events: vec![self.event()],
            movement: Movement::new(),
            documents: Vec::new(),
            tags: Vec::new(),
            listings: Vec::new(),
            guards: Vec::new(),
        }
    }

    /// A commit that also moves money in: from the rail into the payer's wallet, and from there into
    /// escrow. Two transfers, two limited accounts.
    ///
    /// # Errors
    /// [`LedgerError`] for an amount that no ledger moves.
    pub fn fund(&self, amount: Money) -> Result<Commit, LedgerError> {
        let mut commit = self.write();
        commit.movement.transfer(Account::Rail(RAIL), self.payer(), amount, TransferKind::Deposit)?;
        commit.movement.transfer(self.payer(), self.escrow(), amount, TransferKind::EscrowLock)?;
        Ok(commit)
    }

    /// A use of an idempotency key that is answered with the job.
    pub fn key_use(&self, key: &str, fingerprint: u8) -> KeyUse {
        KeyUse { key: key.into(), fingerprint: [fingerprint; 32], answer: Record::Job(self.job.clone().into()) }
    }

    /// One more event of the job's next version.
    pub fn event(&self) -> Event {
        Event {
            subject: self.key(),
            version: self.version + 1,
            at: self.job.posted_at,
            actor: Actor::Agent(self.job.buyer),
            body: EventBody::Job(JobEvent::Funded { amount: self.job.terms.amount }),
        }
    }
}
