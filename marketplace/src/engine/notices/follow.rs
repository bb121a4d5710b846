//! What agents are told, as a stream inside this process.
//!
//! Every process reads the log once for all its streams: whoever is first behind the others' common
//! place reads on for everybody.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tokio::sync::Mutex;

use super::tell::{READER, calls, notice};
use crate::{
    engine::Marketplace,
    error::Error,
    ids::{AgentId, JobId},
    notice::Notice,
    store::{LoggedEvent, Position, StoreError, StoreErrorKind},
};

/// How many events are read at once.
const EVENTS: u32 = 64;
/// How many notices are kept for streams that are a little behind.
const KEPT: usize = 4096;

/// The end of the log as it was told, shared by a process's streams.
#[derive(Default)]
pub(in crate::engine) struct Tail(Mutex<Read>);

#[derive(Default)]
struct Read {
    /// Events after this were not read yet.
    end: Position,
    /// Notices of events after this are all kept.
    start: Position,
    kept: VecDeque<(Position, Heard)>,
}

/// Something that happened, as far as all streams share it.
#[derive(Clone)]
enum Heard {
    /// One agent is told this.
    Told(Arc<Notice>),
    /// Every agent that can do some of what a job asks for is told; each stream sees whether its agent can.
    Call(Arc<LoggedEvent>),
}

/// What a stream follows, and how far it is.
struct Following<'a> {
    market: &'a Marketplace,
    agent: AgentId,
    job: Option<JobId>,
    poll: Duration,
    position: Position,
    ready: VecDeque<Arc<Notice>>,
}

impl Marketplace {
    /// What an agent is told from now on, of everything or of one job, as it happens: the same notices as
    /// [`Marketplace::notices`] lists, under the same ids. To miss nothing, follow first and list then.
    /// Commits of this process wake the stream; those of others are seen after `poll` at the latest.
    ///
    /// # Errors
    /// The store's failure, or [`Rejection::NotOffered`](crate::error::Rejection::NotOffered).
    pub async fn follow(
        &self,
        agent: AgentId,
        job: Option<JobId>,
        poll: Duration,
    ) -> Result<impl Stream<Item = Result<Arc<Notice>, Error>> + Send + '_, Error> {
        self.notice_parts()?;
        // What was written down as told by now is listed; the stream has the rest.
        let position = self.subscribe(READER).await?.position();
        let following = Following { market: self, agent, job, poll, position, ready: VecDeque::new() };
        Ok(stream::unfold(following, |mut following| async move {
            let next = following.next().await;
            Some((next, following))
        }))
    }

    /// What was told after a position, and how far that is; empty when nothing happened.
    async fn told_after(&self, after: Position) -> Result<(Position, Vec<Heard>), Error> {
        let policy = self.policy().1;
        let Some(webhooks) = &policy.webhooks else { return Ok((after, Vec::new())) };
        let mut read = self.inner.tail.0.lock().await;
        if after < read.start || after > read.end || read.end == Position::default() {
            // Too far behind, or the first of all: this stream's place is where reading goes on.
            *read = Read { end: after, start: after, kept: VecDeque::new() };
        }
        if after == read.end {
            let events = self.inner.store.events(self.inner.market, after, EVENTS).await?;
            for logged in events {
                for told in self.told_of(&logged, webhooks, &[]).await? {
                    read.kept.push_back((logged.position, Heard::Told(Arc::new(notice(logged.position, &told)))));
                }
                read.end = logged.position;
                if calls(&logged, webhooks) {
                    read.kept.push_back((logged.position, Heard::Call(Arc::new(logged))));
                }
            }
            while read.kept.len() > KEPT
                && let Some((position, _)) = read.kept.pop_front()
            {
                read.start = position;
            }
        }
        let start = read.kept.partition_point(|(position, _)| *position <= after);
        Ok((read.end, read.kept.range(start..).map(|(_, heard)| heard.clone()).collect()))
    }
}

impl Following<'_> {
    async fn next(&mut self) -> Result<Arc<Notice>, Error> {
        loop {
            if let Some(notice) = self.ready.pop_front() {
                return Ok(notice);
            }
            let committed = self.market.inner.committed.notified();
            let (position, told) = self.told().await?;
            if position == self.position {
                let _ = tokio::time::timeout(self.poll, committed).await; // woken or not, look again
                continue;
            }
            self.position = position;
            let (agent, job) = (self.agent, self.job);
            let own = |notice: &Arc<Notice>| notice.agent == agent && (job.is_none() || notice.job == job);
            for heard in told {
                match heard {
                    Heard::Told(notice) => self.ready.extend(Some(notice).filter(own)),
                    Heard::Call(logged) => {
                        let told = self.market.called(&logged, agent).await?;
                        let notices = told.iter().map(|told| Arc::new(notice(logged.position, told)));
                        self.ready.extend(notices.filter(own));
                    }
                }
            }
        }
    }

    /// What was told since the last look. It is read in a task of its own: a stream that its owner leaves in the
    /// middle of it would keep all others of the process waiting.
    async fn told(&self) -> Result<(Position, Vec<Heard>), Error> {
        let (market, after) = (self.market.clone(), self.position);
        let read = tokio::spawn(async move { market.told_after(after).await }).await;
        read.map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "reading the log was stopped"))?
    }
}
