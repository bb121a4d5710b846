//! How events reach agents' servers.

use serde::{Deserialize, Serialize};

use super::{
    Envelope, NoticeRule, Span, Switch, catalogue,
    check::{At, Checked},
};

/// How events reach agents' servers (VP-37, AM-10, JP-34, PG-13). Addresses are always HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookPolicy {
    /// How a delivery is signed.
    pub signature: SignatureStyle,
    /// The header that names the event; none when absent (AM-10: `X-AgentMarket-Event`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_header: Option<String>,
    /// How long after a failure the next attempt follows, one entry for each retry (VP-37: 5 min,
    /// 30 min, 2 h; JP-34: 1, 4, 16, 64, 256 s).
    pub retries: Vec<Span>,
    /// How long a receiver may take.
    pub timeout: Span,
    /// How many bytes of an answer are read and kept in the log.
    pub answer_bytes: u32,
    /// How many deliveries one receiver is sent at once, by one process.
    pub at_once: u32,
    /// After how many deliveries in a row that were given up a subscription is switched off.
    pub disable_after: u32,
    /// The longest that a receiver's `Retry-After` is obeyed.
    pub longest_rest: Span,
    /// How many subscriptions an agent may have (PG-13).
    pub subscriptions: u32,
    /// Whether a job may name its own address, which then replaces the agent's (JP-34).
    pub per_job: Switch,
    /// How long the old secret still signs after a rotation; 0 s for not at all (PG-13).
    pub secret_overlap: Span,
    /// What is shown of an address (AM-10: masked).
    pub shown: ShownUrl,
    /// The fields around every payload (VP-38).
    pub envelope: Envelope,
    /// What is told, to whom (VP-38, JP-34, AM-10).
    #[serde(default)]
    pub events: Vec<NoticeRule>,
}

/// How a delivery is signed, always by HMAC-SHA256 with the subscription's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SignatureStyle {
    /// `<hex>` over the body (VP-37, JP-34).
    Hex {
        /// The header.
        header: String,
    },
    /// `sha256=<hex>` over the body (AM-10).
    PrefixedHex {
        /// The header.
        header: String,
    },
    /// `t=<unix>, v1=<hex>` over `<unix>.<body>` (PG-13).
    Timestamped {
        /// The header.
        header: String,
        /// How old a signature may be for our own verifier to take it.
        tolerance: Span,
    },
    /// The headers `webhook-id`, `webhook-timestamp` and `webhook-signature` of the Standard Webhooks
    /// specification.
    StandardWebhooks {
        /// How old a signature may be for our own verifier to take it.
        tolerance: Span,
    },
}

/// What is shown of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownUrl {
    /// All of it, to its owner.
    Full,
    /// Its last characters only (AM-10).
    Masked,
}

/// The most retries of one delivery.
const RETRIES_LIMIT: usize = 20;
/// The longest wait between two attempts.
const RETRY_LIMIT: Span = Span::hours(30 * 24);
/// The longest a receiver may hold a connection.
const TIMEOUT_LIMIT: Span = Span::seconds(60);
/// The most that is sent to one receiver at once.
const AT_ONCE_LIMIT: u32 = 64;
/// The most subscriptions of one agent.
const SUBSCRIPTIONS_LIMIT: u32 = 100;
/// The longest header name.
const HEADER_LIMIT: usize = 64;
/// Headers that a delivery has anyway.
const TAKEN: [&str; 11] = [
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "host",
    "user-agent",
    "authorization",
    "connection",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

impl WebhookPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        let signature = at.field("signature");
        let signed = match &self.signature {
            SignatureStyle::Hex { header } => Some((signature.field("hex.header"), header)),
            SignatureStyle::PrefixedHex { header } => Some((signature.field("prefixed_hex.header"), header)),
            SignatureStyle::Timestamped { header, tolerance } => {
                signature.field("timestamped.tolerance").span(*tolerance)?;
                Some((signature.field("timestamped.header"), header))
            }
            SignatureStyle::StandardWebhooks { tolerance } => {
                signature.field("standard_webhooks.tolerance").span(*tolerance)?;
                None
            }
        };
        if let Some((at, header)) = &signed {
            check_header(at, header)?;
        }
        if let Some(header) = &self.event_header {
            let at = at.field("event_header");
            check_header(&at, header)?;
            if signed.is_some_and(|(_, other)| other.eq_ignore_ascii_case(header)) {
                return Err(at.refuse(format_args!("{header:?}"), "allowed is another header than the signature's"));
            }
        }
        let retries = at.field("retries");
        retries.within(self.retries.len(), 0, RETRIES_LIMIT)?;
        for (i, wait) in self.retries.iter().enumerate() {
            retries.entry(i).within(*wait, Span::SECOND, RETRY_LIMIT)?;
        }
        at.field("timeout").within(self.timeout, Span::SECOND, TIMEOUT_LIMIT)?;
        at.field("answer_bytes").within(self.answer_bytes, 0, 1 << 20)?;
        at.field("at_once").within(self.at_once, 1, AT_ONCE_LIMIT)?;
        at.field("disable_after").count(self.disable_after)?;
        at.field("longest_rest").within(self.longest_rest, Span::SECOND, RETRY_LIMIT)?;
        at.field("subscriptions").within(self.subscriptions, 1, SUBSCRIPTIONS_LIMIT)?;
        at.field("secret_overlap").within(self.secret_overlap, Span::seconds(0), RETRY_LIMIT)?;
        self.envelope.check(&at.field("envelope"))?;
        catalogue::check(&self.events, &at.field("events"))
    }
}

fn check_header(at: &At, name: &str) -> Checked {
    let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let fits = (1..=HEADER_LIMIT).contains(&name.len()) && name.bytes().all(token);
    match fits && !TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
        true => Ok(()),
        false => Err(at.refuse(
            format_args!("{name:?}"),
            format_args!("allowed are 1 to {HEADER_LIMIT} letters, digits and -, not a header every request has"),
        )),
    }
}
