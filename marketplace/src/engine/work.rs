//! The background work, as plain async functions that the embedder spawns.

use std::time::Duration;

use super::{Marketplace, command::Call};
use crate::{
    actor::Actor,
    error::{Error, Rejection},
    ids::JobId,
    job::JobCommand,
    store::{Claim, Kind, Record, Stored},
};

/// How many records one round claims of a kind.
const BATCH: u32 = 64;

/// What one round of work did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Observations taken in.
    pub observed: usize,
    /// Instructions worked on.
    pub instructions: usize,
    /// Jobs whose timers were due.
    pub timers: usize,
}

impl Worked {
    /// Whether there was nothing to do.
    pub const fn is_idle(&self) -> bool {
        self.observed == 0 && self.instructions == 0 && self.timers == 0
    }
}

impl Marketplace {
    /// One round: what rails report, instructions that are due, timers that are due. Any number of
    /// processes may do this at once.
    ///
    /// # Errors
    /// The store's failure. A rail that does not answer is no failure: it is asked again later.
    pub async fn work(&self) -> Result<Worked, Error> {
        let observed = match self.observe_rails().await {
            Ok(observed) => observed,
            Err(Error::Rail(error)) => {
                tracing::warn!(%error, "a rail cannot be observed");
                0
            }
            Err(error) => return Err(error),
        };
        Ok(Worked { observed, instructions: self.settle_due().await?, timers: self.fire_due().await? })
    }

    /// Works until nothing is due any more, for tests and scripts.
    ///
    /// # Errors
    /// See [`Marketplace::work`].
    pub async fn run_until_idle(&self) -> Result<(), Error> {
        while !self.work().await?.is_idle() {}
        Ok(())
    }

    /// Works for ever: spawn this once or more, in any number of processes. Failures of the store are
    /// logged and tried again.
    pub async fn run(&self, idle: Duration) {
        loop {
            match self.work().await {
                Ok(worked) if !worked.is_idle() => {}
                Ok(_) => tokio::time::sleep(idle).await,
                Err(error) => {
                    tracing::error!(%error, "a round of work failed");
                    tokio::time::sleep(idle).await;
                }
            }
        }
    }

    /// Works on the instructions that are due; how many there were.
    pub(crate) async fn settle_due(&self) -> Result<usize, Error> {
        let claimed = self.claim(Kind::Instruction).await?;
        let count = claimed.len();
        for stored in claimed {
            self.work_on(stored).await?;
        }
        Ok(count)
    }

    /// Fires the timers that are due; how many there were.
    pub(crate) async fn fire_due(&self) -> Result<usize, Error> {
        let claimed = self.claim(Kind::Job).await?;
        let count = claimed.len();
        for stored in claimed {
            let Record::Job(job) = stored.record else { continue };
            self.fire(job.id).await?;
        }
        Ok(count)
    }

    async fn fire(&self, job: JobId) -> Result<(), Error> {
        let call = Call { actor: &Actor::Timer, key: None, within: None };
        match self.command_job(Some(job), JobCommand::Tick, call).await {
            // Somebody acted between the claim and the tick: the timer is not due any more.
            Ok(_) | Err(Error::Rejected(Rejection::NothingDue { .. })) => Ok(()),
            Err(Error::Rejected(rejection)) => {
                tracing::error!(%job, %rejection, "a timer cannot fire");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn claim(&self, kind: Kind) -> Result<Vec<Stored>, Error> {
        let now = self.now();
        let claim = Claim { kind, now, until: now + self.inner.lease.delta(), limit: BATCH };
        Ok(self.inner.store.claim(self.inner.market, &claim).await?)
    }
}
