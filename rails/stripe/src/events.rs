//! What happens at Stripe, from its list of events and from its webhooks.
//!
//! A chargeback's event does not say whose payment it is: it is told by the list of events only, and a webhook
//! about it is the occasion to read that. What happens to a connected account is told by webhooks only; without
//! them those that matter are looked at ([`Waiting`]).

use stripe_core::event::ListEvent;
use tradepost::rail::{Cursor, Observation, ObservationBody, Observations, Outcome, RailError};

use crate::{
    disputes::{CLOSED, REINSTATED, WITHDRAWN},
    error::StripeError,
    marks,
    object::{Account, Event, List, Marked},
    rail::{PAGE, PAGES, StripeRail, too_long},
    waiting::Waiting,
    webhook::forged,
};

/// The events of the platform's own account that the rail reads; a webhook endpoint for it needs to send no others.
pub const EVENTS: [&str; 10] = [
    CLOSED,
    REINSTATED,
    WITHDRAWN,
    UPDATED,
    "charge.expired",
    "payment_intent.amount_capturable_updated",
    "payment_intent.canceled",
    "payment_intent.payment_failed",
    "payment_intent.processing",
    "payment_intent.succeeded",
];

/// The events of connected accounts that the rail reads; a webhook endpoint for those needs to send no others.
pub const ACCOUNT_EVENTS: [&str; 1] = ["account.updated"];

/// A charge got another mark: a share of it may be kept for a worker.
const UPDATED: &str = "charge.updated";

fn is_read(event: &Event) -> bool {
    event.account.is_none() && EVENTS.contains(&event.type_.as_str())
}

fn is_of_a_dispute(event: &Event) -> bool {
    [CLOSED, REINSTATED, WITHDRAWN].contains(&event.type_.as_str())
}

/// What became of a payment since its event was written is looked up, never taken from it: that the
/// events are repeated, late or out of order changes nothing.
fn observation(event: Event) -> Option<Observation> {
    if !is_read(&event) || is_of_a_dispute(&event) || event.type_ == UPDATED {
        return None;
    }
    let object: Marked = serde_json::from_value(event.data.object).ok()?;
    let body = match event.type_.as_str() {
        "charge.expired" => ObservationBody::HoldExpired { hold: marks::hold(&object.metadata)? },
        _ => {
            let outcome = Outcome::Pending { reference: object.id };
            ObservationBody::Outcome { instruction: marks::instruction(&object.metadata)?, outcome }
        }
    };
    Some(Observation { id: event.id, body })
}

/// A connected account that takes transfers, of an agent whose account the rail has made. Whether it still does when
/// something is paid out is looked up then.
fn account_ready(event: Event) -> Option<Observation> {
    let account: Account = serde_json::from_value(event.data.object).ok()?;
    let agent = account.metadata.get(marks::AGENT)?.parse().ok().filter(|_| account.takes_transfers())?;
    Some(Observation { id: event.id, body: ObservationBody::AccountReady { agent } })
}

/// Reads a webhook whose signature holds. Events that the rail does not read are no error.
///
/// # Errors
/// [`RailErrorKind::Forged`](tradepost::rail::RailErrorKind::Forged) for what is no event.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Observation>, RailError> {
    #[derive(serde::Deserialize)]
    struct Head {
        object: String,
        #[serde(rename = "type")]
        type_: String,
    }
    let no_event = |_| forged("it is signed, but it is no event");
    let head: Head = serde_json::from_slice(body).map_err(no_event)?;
    if head.object != "event" {
        return Err(forged("it is signed, but it is no event"));
    }
    let read = match &*head.type_ {
        type_ if ACCOUNT_EVENTS.contains(&type_) => account_ready,
        type_ if EVENTS.contains(&type_) => observation,
        _ => return Ok(Vec::new()),
    };
    let event = serde_json::from_slice(body).map_err(no_event)?;
    Ok(read(event).into_iter().collect())
}

impl StripeRail {
    /// The events that came after a cursor, which is the name of the newest event that was read, and who waits
    /// for an account.
    pub(crate) async fn events_after(&self, after: &Cursor) -> Result<Observations, StripeError> {
        let (newest, waiting) = after.0.split_once(' ').unwrap_or((&after.0, ""));
        let waiting = Waiting::read(waiting);
        if !newest.is_empty() {
            let request = list().ending_before(newest);
            match self.inner.http.get::<List<Event>>(&request).await {
                Ok(page) => return self.told(page, newest, waiting).await,
                // Stripe has forgotten it after 30 days of silence: everything it still knows is new.
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        // Pages are counted from the newest event: the oldest hundred stay the same when more happens.
        let mut oldest: Vec<Event> = Vec::new();
        for _ in 0..PAGES {
            let mut request = list();
            if let Some(last) = oldest.last() {
                request = request.starting_after(&*last.id);
            }
            let page: List<Event> = self.inner.http.get(&request).await?;
            oldest.extend(page.data);
            oldest.drain(..oldest.len().saturating_sub(FIRST));
            if !page.has_more {
                return self.told(List { data: oldest, has_more: false }, "", waiting).await;
            }
        }
        Err(too_long("events"))
    }

    /// A page, which Stripe writes newest first, as a story.
    async fn told(&self, page: List<Event>, before: &str, mut waiting: Waiting) -> Result<Observations, StripeError> {
        let newest = page.data.first().map_or_else(|| before.to_owned(), |newest| newest.id.clone());
        let mut items = Vec::new();
        for event in page.data.into_iter().rev().filter(is_read) {
            match is_of_a_dispute(&event) {
                true => items.extend(self.chargeback(event).await?),
                false if event.type_ == UPDATED => waiting.learn(event),
                false => items.extend(observation(event)),
            }
        }
        items.extend(self.accounts_ready(&mut waiting).await);
        Ok(Observations { items, next: Cursor(format!("{newest}{waiting}")) })
    }
}

/// How many events are told at first.
const FIRST: usize = 100;

fn list() -> ListEvent {
    ListEvent::new().limit(PAGE).types(EVENTS.map(String::from))
}
