//! Asking again when nothing happened.

use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use uuid::Uuid;

use crate::rail::{
    Cursor, Holdings, Instruction, Observation, Observations, Outcome, Push, RailError, RailErrorKind, RailProfile,
    SettlementRail,
};

/// Repeats a request that is proved to have had no effect ([`RailError::may_repeat`]), and no other:
/// an unknown outcome is handed on, for the engine to look up.
#[derive(Clone, Debug)]
pub struct Retry<R> {
    rail: R,
    retries: Retries,
}

/// How often and how patiently [`Retry`] repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often a request is repeated after its first attempt.
    pub times: usize,
    /// The wait before the first repetition; every further one is twice as long.
    pub first_wait: Duration,
    /// The longest wait, before jitter at most doubles it. A rail that is busy for longer is not
    /// waited for: the engine comes back later.
    pub longest_wait: Duration,
    /// Where the jitter comes from: mixed with the instruction's id, so that instructions which
    /// failed together do not come back together, and the same seed waits the same.
    pub jitter_seed: u64,
}

impl Default for Retries {
    /// Three repetitions, after a quarter of a second and more.
    fn default() -> Self {
        Self { times: 3, first_wait: Duration::from_millis(250), longest_wait: Duration::from_secs(5), jitter_seed: 0 }
    }
}

impl<R> Retry<R> {
    /// `rail`, asked again as `retries` says.
    pub fn new(rail: R, retries: Retries) -> Self {
        Self { rail, retries }
    }

    fn backoff(&self, about: Uuid) -> ExponentialBuilder {
        let (high, low) = about.as_u64_pair();
        ExponentialBuilder::default()
            .with_jitter()
            .with_jitter_seed(self.retries.jitter_seed ^ high ^ low)
            .with_max_times(self.retries.times)
            .with_min_delay(self.retries.first_wait)
            .with_max_delay(self.retries.longest_wait)
    }

    /// The wait before the next repetition: as long as a busy rail asks for; none when that is too long.
    fn wait(&self, error: &RailError, planned: Option<Duration>) -> Option<Duration> {
        match error.kind() {
            RailErrorKind::Busy(after) if after > self.retries.longest_wait => None,
            RailErrorKind::Busy(after) => planned.map(|wait| wait.max(after)),
            _ => planned,
        }
    }
}

fn notify(error: &RailError, wait: Duration) {
    tracing::debug!(kind = ?error.kind(), ?wait, "a rail's request had no effect and is repeated");
}

#[async_trait]
impl<R: SettlementRail> SettlementRail for Retry<R> {
    fn profile(&self) -> &RailProfile {
        self.rail.profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        (|| self.rail.execute(instruction))
            .retry(self.backoff(instruction.id.0))
            .when(RailError::may_repeat)
            .adjust(|error, planned| self.wait(error, planned))
            .notify(notify)
            .await
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        (|| self.rail.lookup(instruction))
            .retry(self.backoff(instruction.id.0))
            .when(RailError::may_repeat)
            .adjust(|error, planned| self.wait(error, planned))
            .notify(notify)
            .await
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        (|| self.rail.observe(after))
            .retry(self.backoff(Uuid::nil()))
            .when(RailError::may_repeat)
            .adjust(|error, planned| self.wait(error, planned))
            .notify(notify)
            .await
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        self.rail.receive(push)
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        (|| self.rail.holdings())
            .retry(self.backoff(Uuid::nil()))
            .when(RailError::may_repeat)
            .adjust(|error, planned| self.wait(error, planned))
            .notify(notify)
            .await
    }
}
