//! Stripe's signature on a webhook (docs.stripe.com/webhooks#verify-manually).

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tradepost::{
    policy::Span,
    rail::{Push, RailError, RailErrorKind},
};

use crate::config::Secret;

/// Holds if one of the secrets signed the body, not longer ago than the tolerance.
///
/// # Errors
/// [`RailErrorKind::Forged`]
pub(crate) fn verify(push: &Push, secrets: &[Secret], tolerance: Span) -> Result<(), RailError> {
    let header = push.header("stripe-signature").ok_or_else(|| forged("it has no signature"))?;
    let fields = || header.split(',').filter_map(|field| field.trim().split_once('='));
    let sent_at = fields().find(|(name, _)| *name == "t").map_or("", |(_, value)| value);
    let seconds: i64 = sent_at.parse().map_err(|_| forged("its signature has no time"))?;
    let signed = fields().filter(|(name, _)| *name == "v1").filter_map(|(_, value)| hex::decode(value).ok());
    let by_us = signed.into_iter().any(|signature| secrets.iter().any(|key| signs(key, sent_at, push, &signature)));
    if !by_us {
        return Err(forged("no secret of ours made its signature"));
    }
    let age = push.received_at.timestamp().saturating_sub(seconds);
    match age.unsigned_abs() <= u64::from(tolerance.as_seconds()) {
        true => Ok(()),
        false => Err(forged(&format!("it was signed {age} s before it came, allowed are {tolerance}"))),
    }
}

fn signs(secret: &Secret, sent_at: &str, push: &Push, signature: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { return false };
    mac.update(sent_at.as_bytes());
    mac.update(b".");
    mac.update(&push.body);
    mac.verify_slice(signature).is_ok()
}

pub(crate) fn forged(why: &str) -> RailError {
    RailError::new(RailErrorKind::Forged, format!("a webhook is not Stripe's: {why}"))
}
