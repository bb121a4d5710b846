//! Not waiting for ever.

use std::time::Duration;

use async_trait::async_trait;

use crate::rail::{
    Cursor, Holdings, Instruction, Observation, Observations, Outcome, Push, RailError, RailErrorKind, RailProfile,
    SettlementRail,
};

/// Gives up a request after a while. What became of it is then [`RailErrorKind::Unknown`], never
/// "not sent": the request may be on its way or have arrived.
#[derive(Clone, Debug)]
pub struct Timeout<R> {
    rail: R,
    limit: Duration,
}

impl<R> Timeout<R> {
    /// `rail`, each of its requests given up after `limit`.
    pub fn new(rail: R, limit: Duration) -> Self {
        Self { rail, limit }
    }

    async fn within<T>(&self, answer: impl Future<Output = Result<T, RailError>>) -> Result<T, RailError> {
        tokio::time::timeout(self.limit, answer).await.unwrap_or_else(|elapsed| {
            let message = format!("no answer within {:?}", self.limit);
            Err(RailError::new(RailErrorKind::Unknown, message).caused_by(elapsed))
        })
    }
}

#[async_trait]
impl<R: SettlementRail> SettlementRail for Timeout<R> {
    fn profile(&self) -> &RailProfile {
        self.rail.profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.within(self.rail.execute(instruction)).await
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.within(self.rail.lookup(instruction)).await
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        self.within(self.rail.observe(after)).await
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        self.rail.receive(push)
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        self.within(self.rail.holdings()).await
    }
}
