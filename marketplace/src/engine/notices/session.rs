//! The commands to subscriptions and notices, in somebody's name.

use std::sync::Arc;

use uuid::Uuid;

use super::{MARKED, Mark, Replay, Subscribed, Test};
use crate::{
    engine::{Session, transact::Attempt},
    error::Error,
    ids::{AgentId, DeliveryId, EndpointId, NoticeId},
    notice::{Delivery, EndpointCommand, Notice, Target},
    store::{CommitError, Kind, OfKind as _, Query},
};

impl Session<'_> {
    /// Has notices sent to an address (PG-13, JP-34): those named, or all. The answer holds the secret
    /// that they are signed with, this once.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn add_endpoint(
        self,
        target: Target,
        url: impl Into<String>,
        events: Vec<String>,
    ) -> Result<Subscribed, Error> {
        let id = EndpointId(Uuid::nil());
        let command = EndpointCommand::Add { id, target, url: url.into(), events };
        self.market.command_endpoint(None, command, self.call()).await
    }

    /// Has a subscription lead elsewhere, or want other events.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn change_endpoint(
        self,
        endpoint: EndpointId,
        url: Option<String>,
        events: Option<Vec<String>>,
    ) -> Result<Subscribed, Error> {
        self.endpoint(endpoint, EndpointCommand::Change { url, events }).await
    }

    /// Gives a subscription a new secret; the answer holds it. For as long as the policy says, the old
    /// one signs too.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn rotate_endpoint_secret(self, endpoint: EndpointId) -> Result<Subscribed, Error> {
        self.endpoint(endpoint, EndpointCommand::Rotate).await
    }

    /// Shows the secret of a subscription that follows from a profile's webhook, this once.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn reveal_endpoint_secret(self, endpoint: EndpointId) -> Result<Subscribed, Error> {
        self.endpoint(endpoint, EndpointCommand::Reveal).await
    }

    /// Sends nothing to a subscription for now. What happens meanwhile is kept for it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn pause_endpoint(self, endpoint: EndpointId) -> Result<Subscribed, Error> {
        self.endpoint(endpoint, EndpointCommand::Pause).await
    }

    /// Sends to a subscription again that was paused or switched off, also what was held meanwhile.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn resume_endpoint(self, endpoint: EndpointId) -> Result<Subscribed, Error> {
        self.endpoint(endpoint, EndpointCommand::Resume).await
    }

    /// Removes a subscription.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn remove_endpoint(self, endpoint: EndpointId) -> Result<Subscribed, Error> {
        self.endpoint(endpoint, EndpointCommand::Remove).await
    }

    /// Sends a `webhook.ping` to a subscription; the delivery tells how it went.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn test_endpoint(self, endpoint: EndpointId) -> Result<Arc<Delivery>, Error> {
        self.market.notice_parts()?;
        self.market.transact(self.call(), &("test_endpoint", endpoint), &mut Test(endpoint)).await
    }

    /// Sends a delivery once more, from the beginning of the schedule, under the same id.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn replay_delivery(self, delivery: DeliveryId) -> Result<Arc<Delivery>, Error> {
        self.market.notice_parts()?;
        self.market.transact(self.call(), &("replay_delivery", delivery), &mut Replay(delivery)).await
    }

    /// Marks a notice as read (VP-32).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn mark_read(self, notice: NoticeId) -> Result<Arc<Notice>, Error> {
        self.market.notice_parts()?;
        self.market.transact(self.call(), &("mark_notice", notice), &mut Mark(notice)).await
    }

    /// Marks all of an agent's notices as read that there are by now; how many were not (VP-32).
    ///
    /// # Errors
    /// [`Error`]. What was marked before a failure stays marked.
    pub async fn mark_all_read(self, agent: AgentId) -> Result<usize, Error> {
        self.market.notice_parts()?;
        let market = self.market;
        let on = Attempt::new(market, self.call());
        super::may(&on, "mark_notices", agent).await?;
        let mut marked = 0;
        loop {
            let (party, statuses) = (Some((0, agent.0)), vec!["unread"]);
            let query = Query { kind: Kind::Notice, party, statuses, before: None, offset: 0, limit: MARKED as u32 };
            let unread = on.journal.find(market.inner.market, &query).await?;
            let Some(first) = unread.first() else { return Ok(marked) };
            let mut commit = on.commit(first.record.key(), first.version);
            for stored in unread {
                if let Some(notice) = Notice::of(stored.record) {
                    commit.write_silently(notice.read(on.now), stored.version);
                }
            }
            let count = commit.writes.len();
            match on.journal.commit(commit).await {
                Ok(()) => marked += count,
                Err(CommitError::Conflict(_)) => {} // one of them was marked meanwhile
                Err(error) => return super::super::command::refused(error, on.actor).map(|_| marked),
            }
        }
    }

    async fn endpoint(self, endpoint: EndpointId, command: EndpointCommand) -> Result<Subscribed, Error> {
        self.market.command_endpoint(Some(endpoint), command, self.call()).await
    }
}
