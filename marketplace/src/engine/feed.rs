//! Reading the event log: every event, once, for each named reader.

use std::time::Duration;

use super::Marketplace;
use crate::{
    error::Error,
    store::{LoggedEvent, Position, StoreError, StoreErrorKind},
};

/// A named reader of the event log.
///
/// It reads on from where it last [acknowledged](Subscription::acknowledge), also after a restart,
/// and sees every event exactly once in between, however late a commit became visible. An event is
/// seen again only when the process died between handling and acknowledging it.
#[derive(Debug)]
pub struct Subscription<'a> {
    market: &'a Marketplace,
    reader: String,
    acknowledged: Option<String>,
    position: Position,
}

impl std::fmt::Debug for Marketplace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marketplace").field("market", &self.inner.market).finish_non_exhaustive()
    }
}

impl Marketplace {
    /// Opens a named reader where it last acknowledged, or at the beginning.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn subscribe(&self, reader: &str) -> Result<Subscription<'_>, Error> {
        let reader = format!("reader/{reader}");
        let acknowledged = self.inner.store.cursor(self.inner.market, &reader).await?;
        let position = match &acknowledged {
            Some(text) => parse(text)?,
            None => Position::default(),
        };
        Ok(Subscription { market: self, reader, acknowledged, position })
    }
}

impl Subscription<'_> {
    /// How far it has read.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// The next events, at most `limit`; empty when there are none yet. Does not wait.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn next(&mut self, limit: u32) -> Result<Vec<LoggedEvent>, Error> {
        let events = self.market.inner.store.events(self.market.inner.market, self.position, limit).await?;
        if let Some(last) = events.last() {
            self.position = last.position;
        }
        Ok(events)
    }

    /// The next events, at most `limit`, waiting for the first. This process's commits wake it;
    /// those of other processes are seen after `poll` at the latest.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn wait(&mut self, limit: u32, poll: Duration) -> Result<Vec<LoggedEvent>, Error> {
        loop {
            let committed = self.market.inner.committed.notified();
            let events = self.next(limit).await?;
            if !events.is_empty() {
                return Ok(events);
            }
            let _ = tokio::time::timeout(poll, committed).await; // woken or not, look again
        }
    }

    /// Remembers that everything up to a place was handled, and reads on from there.
    pub(super) async fn acknowledge_up_to(&mut self, position: Position) -> Result<bool, Error> {
        self.position = position;
        self.acknowledge().await
    }

    /// Remembers that everything read so far was handled. Whether it was this reader's to say: not
    /// when another process acknowledged under the same name meanwhile.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn acknowledge(&mut self) -> Result<bool, Error> {
        let to = format!("{}.{}", self.position.epoch, self.position.number);
        let (store, market) = (&self.market.inner.store, self.market.inner.market);
        if self.acknowledged.as_deref() == Some(&to) {
            return Ok(true);
        }
        let moved = store.move_cursor(market, &self.reader, self.acknowledged.as_deref(), &to).await?;
        if moved {
            self.acknowledged = Some(to);
        }
        Ok(moved)
    }
}

fn parse(text: &str) -> Result<Position, StoreError> {
    let parts = text.split_once('.').and_then(|(epoch, number)| Some((epoch.parse().ok()?, number.parse().ok()?)));
    let (epoch, number) =
        parts.ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, format!("a reader's position is {text:?}")))?;
    Ok(Position { epoch, number })
}
