//! Signatures: how a delivery is signed, and how its receiver checks that.
//!
//! A secret is a text, `whsec_` and 32 bytes in base64. The Standard Webhooks style signs with those
//! bytes, the others with the text as it stands.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::{
    clock::Timestamp,
    policy::{SignatureStyle, Span},
    secret::Secret,
};

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// The headers of Standard Webhooks; the id goes with every style, since receivers tell repetitions by it.
const ID: &str = "webhook-id";
const AT: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";
/// Where a style has room for one signature only, the old secret's goes into a header of its own while
/// both are valid: the main one's name with this after it.
const PREVIOUS: &str = "-Previous";

/// The text of a secret made of these bytes.
pub(crate) fn secret(bytes: &[u8; 32]) -> Secret {
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(bytes)))
}

/// The headers of a delivery, signed with each of the secrets, the newest first.
pub fn sign(style: &SignatureStyle, secrets: &[Secret], id: &str, at: Timestamp, body: &str) -> Vec<(String, String)> {
    let mut headers = vec![(ID.to_owned(), id.to_owned())];
    let at = at.timestamp();
    let each = |form: &dyn Fn(&Secret) -> String| secrets.iter().map(form).collect::<Vec<_>>();
    match style {
        SignatureStyle::Hex { header } | SignatureStyle::PrefixedHex { header } => {
            let start = prefix(style);
            let names = [header.clone(), format!("{header}{PREVIOUS}")];
            let signatures = each(&|secret| format!("{start}{}", hex::encode(mac(&key(style, secret), &[body]))));
            headers.extend(names.into_iter().zip(signatures));
        }
        SignatureStyle::Timestamped { header, .. } => {
            let at = at.to_string();
            let signatures =
                each(&|secret| format!(", v1={}", hex::encode(mac(&key(style, secret), &[&at, ".", body]))));
            headers.push((header.clone(), format!("t={at}{}", signatures.concat())));
        }
        SignatureStyle::StandardWebhooks { .. } => {
            let at = at.to_string();
            let signatures =
                each(&|secret| format!("v1,{}", STANDARD.encode(mac(&key(style, secret), &[id, ".", &at, ".", body]))));
            headers.push((SIGNATURE.to_owned(), signatures.join(" ")));
            headers.push((AT.to_owned(), at));
        }
    }
    headers
}

/// Checks what arrives at a receiver. Offered to the authors of agents: the engine itself only sends.
#[derive(Clone, Debug)]
pub struct Verifier {
    style: SignatureStyle,
    secrets: Vec<Secret>,
}

/// A delivery whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What the sender vouches for: the same when a message comes a second time, whoever sends it.
    /// Remember it for as long as signatures are valid, and take in no second message that has it.
    pub key: String,
    /// When it was signed, where the style says so.
    pub at: Option<Timestamp>,
}

/// Why a delivery is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unverified {
    /// A header is missing or not of its form.
    #[error("the header {header} is missing or malformed")]
    Header {
        /// Its name.
        header: String,
    },
    /// No signature was made with a secret that is known here.
    #[error("no signature fits")]
    Forged,
    /// It was signed too long ago, or in the future: perhaps somebody sends it again.
    #[error("it was signed at {at}, more than {tolerance} away from {now}")]
    Late {
        /// When it was signed.
        at: Timestamp,
        /// The present.
        now: Timestamp,
        /// How far apart they may be.
        tolerance: Span,
    },
}

impl Verifier {
    /// A verifier of one style with the secrets that are valid; two while one replaces the other.
    pub fn new(style: SignatureStyle, secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self { style, secrets: secrets.into_iter().collect() }
    }

    /// Checks the headers of a request and its body as it came. `header` finds a header by its name,
    /// whatever its case.
    ///
    /// # Errors
    /// [`Unverified`]
    pub fn verify<'h>(
        &self,
        header: impl Fn(&str) -> Option<&'h str>,
        body: &str,
        now: Timestamp,
    ) -> Result<Message, Unverified> {
        let need = |name: &str| header(name).ok_or_else(|| Unverified::Header { header: name.to_owned() });
        match &self.style {
            SignatureStyle::Hex { header: name } | SignatureStyle::PrefixedHex { header: name } => {
                let previous = format!("{name}{PREVIOUS}");
                let given = [Some(need(name)?), header(&previous)];
                let unhex = |text: &str| hex::decode(text.strip_prefix(prefix(&self.style))?).ok();
                let given: Vec<Vec<u8>> = given.into_iter().flatten().filter_map(unhex).collect();
                self.fits(&given, &[body])?;
                // Nothing but the body is signed, so nothing else tells a repetition.
                Ok(Message { key: hex::encode(Sha256::digest(body)), at: None })
            }
            SignatureStyle::Timestamped { header: name, tolerance } => {
                let bad = || Unverified::Header { header: name.clone() };
                let parts: Vec<(&str, &str)> =
                    need(name)?.split(',').filter_map(|part| part.trim().split_once('=')).collect();
                let at = parts.iter().find(|(key, _)| *key == "t").ok_or_else(bad)?.1;
                let signatures = parts.iter().filter(|(key, _)| *key == "v1");
                let given: Vec<Vec<u8>> = signatures.filter_map(|(_, text)| hex::decode(text).ok()).collect();
                self.fits(&given, &[at, ".", body])?;
                let at = timely(at, *tolerance, now, bad)?;
                Ok(Message { key: hex::encode(Sha256::digest(body)), at: Some(at) })
            }
            SignatureStyle::StandardWebhooks { tolerance } => {
                let (id, at) = (need(ID)?, need(AT)?);
                let signatures = need(SIGNATURE)?.split(' ').filter_map(|part| part.strip_prefix("v1,"));
                let given: Vec<Vec<u8>> = signatures.filter_map(|text| STANDARD.decode(text).ok()).collect();
                self.fits(&given, &[id, ".", at, ".", body])?;
                let at = timely(at, *tolerance, now, || Unverified::Header { header: AT.to_owned() })?;
                Ok(Message { key: id.to_owned(), at: Some(at) })
            }
        }
    }

    /// Whether any of the signatures given was made with any of the secrets; compared in constant time.
    fn fits(&self, given: &[Vec<u8>], signed: &[&str]) -> Result<(), Unverified> {
        let made = |secret: &Secret, signature: &[u8]| {
            let key = key(&self.style, secret);
            hmac_of(&key, signed).verify_slice(signature).is_ok()
        };
        match given.iter().any(|signature| self.secrets.iter().any(|secret| made(secret, signature))) {
            true => Ok(()),
            false => Err(Unverified::Forged),
        }
    }
}

/// The moment in a header, if it is near enough to the present.
fn timely(text: &str, tolerance: Span, now: Timestamp, bad: impl Fn() -> Unverified) -> Result<Timestamp, Unverified> {
    let seconds = text.parse().map_err(|_| bad())?;
    let at = Timestamp::from_timestamp(seconds, 0).ok_or_else(bad)?;
    // A second more, since the header has whole ones.
    match (now - at).abs() <= tolerance.delta() + TimeDelta::seconds(1) {
        true => Ok(at),
        false => Err(Unverified::Late { at, now, tolerance }),
    }
}

const fn prefix(style: &SignatureStyle) -> &'static str {
    match style {
        SignatureStyle::PrefixedHex { .. } => "sha256=",
        SignatureStyle::Hex { .. } | SignatureStyle::Timestamped { .. } | SignatureStyle::StandardWebhooks { .. } => "",
    }
}

/// The bytes that a style signs with.
fn key(style: &SignatureStyle, secret: &Secret) -> Vec<u8> {
    let text = secret.expose();
    match style {
        SignatureStyle::StandardWebhooks { .. } => {
            let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
            STANDARD.decode(encoded).unwrap_or_else(|_| text.as_bytes().to_vec())
        }
        SignatureStyle::Hex { .. } | SignatureStyle::PrefixedHex { .. } | SignatureStyle::Timestamped { .. } => {
            text.as_bytes().to_vec()
        }
    }
}

fn mac(key: &[u8], signed: &[&str]) -> [u8; 32] {
    hmac_of(key, signed).finalize().into_bytes().into()
}

fn hmac_of(key: &[u8], signed: &[&str]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    signed.iter().for_each(|part| mac.update(part.as_bytes()));
    mac
}
