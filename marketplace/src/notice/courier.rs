//! Who carries a delivery to its receiver.

use std::fmt;

use async_trait::async_trait;

use super::sign::sign;
use crate::{
    clock::Timestamp,
    policy::{Span, WebhookPolicy},
    secret::Secret,
};

/// Carries deliveries to addresses that strangers named.
///
/// # The contract
///
/// 1. The parcel is posted to its address once. Redirects are not followed; of the answer no more is
///    read than the parcel says, and after `within` the courier gives up.
/// 2. The address comes from a stranger: connections go to public addresses only, and the address
///    connected to is the one that is judged.
/// 3. What goes wrong is said in words that the address's owner may read; no header, no body and nothing
///    of the address but its host is in them, nor in any log.
/// 4. Dropping the future leaves nothing running.
///
/// [`Outbound`](crate::outbound::Outbound) is one, with the feature `http`.
#[async_trait]
pub trait Courier: Send + Sync + 'static {
    /// Posts a parcel. Whatever the receiver's status, an answer is a success here.
    ///
    /// # Errors
    /// What happened when there is no answer.
    async fn carry(&self, parcel: Parcel) -> Result<Reply, String>;
}

/// What is posted.
#[derive(Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Where to.
    pub url: String,
    /// Its headers, among them the signature.
    pub headers: Vec<(String, String)>,
    /// Its body, in JSON.
    pub body: String,
    /// How long everything may take.
    pub within: Span,
    /// How many bytes of the answer are kept.
    pub keep: u32,
}

impl Parcel {
    /// An event on its way to an address, signed with each of the secrets.
    pub(crate) fn new(
        policy: &WebhookPolicy,
        url: &str,
        secrets: &[Secret],
        (id, event): (&str, &str),
        body: String,
        now: Timestamp,
    ) -> Self {
        let mut headers = sign(&policy.signature, secrets, id, now, &body);
        headers.extend(policy.event_header.iter().map(|header| (header.clone(), event.to_owned())));
        Self { url: url.to_owned(), headers, body, within: policy.timeout, keep: policy.answer_bytes }
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("within", &self.within).finish_non_exhaustive()
    }
}

/// What a receiver answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its status code.
    pub status: u16,
    /// Until when it wants to be left alone, if it said so.
    pub rests_until: Option<RestsUntil>,
    /// The beginning of its body.
    pub body: String,
}

/// How a receiver says until when it wants to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestsUntil {
    /// For so long from now on.
    After(Span),
    /// Until a moment.
    At(Timestamp),
}
