//! Deliveries and pings over HTTP, past the guard of [`outbound`](crate::outbound).

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::{Courier, PING, Parcel, Reply, RestsUntil, envelop, secret};
use crate::{
    clock::{Clock, SystemClock},
    engine::WebhookPing,
    outbound::{Outbound, OutboundError, Post, RetryAfter},
    policy::{Span, WebhookPolicy},
    secret::{Secret, SecretSource, SystemSecrets},
};

#[async_trait]
impl Courier for Outbound {
    async fn carry(&self, parcel: Parcel) -> Result<Reply, String> {
        let Parcel { url, headers, body, within, keep } = parcel;
        let mut all: Vec<(&str, String)> = vec![("content-type", "application/json".into())];
        all.extend(headers.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let within = Duration::from_secs(within.as_seconds().into());
        let post = Post { url: &url, headers: &all, body: body.into_bytes(), within, keep: keep as usize };
        let answer = self.post(post).await.map_err(|error: OutboundError| error.to_string())?;
        let rests_until = answer.retry_after.map(|after| match after {
            RetryAfter::Seconds(seconds) => RestsUntil::After(Span::seconds(seconds)),
            RetryAfter::At(at) => RestsUntil::At(at),
        });
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(Reply { status: answer.status, rests_until, body })
    }
}

/// Tries addresses at registration with a signed `webhook.ping` (VP-01).
///
/// Nobody has a secret yet who is just registering, so the ping is signed with one of the platform's,
/// which it may publish: it proves where the ping comes from to whoever looks it up.
pub struct HttpPing {
    outbound: Outbound,
    policy: WebhookPolicy,
    secret: Secret,
}

impl HttpPing {
    /// A ping of the policy's form, signed with this secret of the platform's; see
    /// [`HttpPing::new_secret`].
    pub const fn new(outbound: Outbound, policy: WebhookPolicy, secret: Secret) -> Self {
        Self { outbound, policy, secret }
    }

    /// A secret to sign pings with, to be kept by the platform.
    ///
    /// # Errors
    /// What the machine's generator says.
    pub fn new_secret() -> Result<Secret, String> {
        Ok(secret(&SystemSecrets.draw()?))
    }
}

#[async_trait]
impl WebhookPing for HttpPing {
    async fn ping(&self, url: &str, within: Span) -> Result<(), String> {
        let now = SystemClock.now();
        let body = envelop(&self.policy.envelope, PING, now, &json!({}));
        let id = format!("ping-{}", now.timestamp_micros());
        let secrets = std::slice::from_ref(&self.secret);
        let parcel = Parcel::new(&self.policy, url, secrets, (&id, PING), body, now);
        match self.outbound.carry(Parcel { within, ..parcel }).await?.status {
            200..=299 => Ok(()),
            status => Err(format!("it answered with status {status}")),
        }
    }
}
