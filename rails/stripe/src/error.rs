//! The crate's one error, and what each of Stripe's answers means.
//!
//! | what came back | kind | of an instruction it says |
//! |---|---|---|
//! | no connection | [`NotSent`](StripeErrorKind::NotSent) | nothing happened |
//! | no answer, half an answer, one that is not Stripe's | [`Lost`](StripeErrorKind::Lost) | unknown |
//! | 400, 404, 422 | [`Invalid`](StripeErrorKind::Invalid) | refused |
//! | 400 `idempotency_error` | [`KeyReused`](StripeErrorKind::KeyReused) | refused: the id belongs to another order |
//! | 401, 403 | [`Denied`](StripeErrorKind::Denied) | refused until an operator acts |
//! | 402 | [`Declined`](StripeErrorKind::Declined) | declined, or the cardholder has to act |
//! | 409 | [`KeyInUse`](StripeErrorKind::KeyInUse) | unknown: its twin is at work |
//! | 429 | [`Busy`](StripeErrorKind::Busy) | nothing happened |
//! | 424, 5xx | [`Broken`](StripeErrorKind::Broken) | unknown |

use std::{error::Error, fmt, str::FromStr, time::Duration};

use serde::Deserialize;
use stripe_shared::{ApiErrorsCode, ApiErrorsType};
use tradepost::rail::{RailError, RailErrorKind};

use crate::object::Intent;

/// Why Stripe, or the way to it, did not do what it was asked.
///
/// No secret is in it: keys and client secrets are cut out of Stripe's own messages too.
#[derive(Debug)]
pub struct StripeError {
    kind: StripeErrorKind,
    message: String,
    details: Option<Box<Details>>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What Stripe said beyond the kind.
#[derive(Debug, Default)]
struct Details {
    status: u16,
    code: Option<ApiErrorsCode>,
    param: Option<String>,
    request_id: Option<String>,
    intent: Option<Intent>,
    replayed: bool,
}

/// What an error says about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StripeErrorKind {
    /// The configuration cannot work.
    Configuration,
    /// The request never left. May be repeated.
    NotSent,
    /// It may have happened: no answer came, or none that is Stripe's.
    Lost,
    /// Stripe had no time and did nothing; ask again after this long.
    Busy(Duration),
    /// The same request is being worked on at this moment.
    KeyInUse,
    /// The idempotency key was used for something else.
    KeyReused,
    /// The card, or the cardholder, said no.
    Declined,
    /// Stripe does not take the request as it stands.
    Invalid,
    /// The key is wrong, revoked, or may not do this.
    Denied,
    /// Stripe itself failed: it may have happened.
    Broken,
    /// The embedder's directory failed.
    Directory,
    /// The agent has no account or customer that this needs.
    Unknown,
}

impl StripeError {
    pub(crate) fn new(kind: StripeErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: scrub(&message.into()), details: None, source: None }
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Reads an answer that is no success.
    pub(crate) fn of_answer(answer: &Answer<'_>) -> Self {
        let envelope: Option<Envelope> = serde_json::from_slice(answer.body).ok();
        let body = envelope.map(|envelope| envelope.error).unwrap_or_default();
        let type_ = body.type_.as_deref().and_then(|text| ApiErrorsType::from_str(text).ok());
        let message = body.message.unwrap_or_else(|| "it did not say why".into());
        let details = Details {
            status: answer.status,
            code: body.code.and_then(|code| ApiErrorsCode::from_str(&code).ok()),
            param: body.param,
            request_id: answer.request_id.map(Into::into),
            intent: body.payment_intent,
            replayed: answer.replayed,
        };
        let kind = kind_of(answer, type_);
        Self { details: Some(Box::new(details)), ..Self::new(kind, message) }
    }

    /// What it says about the request.
    pub const fn kind(&self) -> StripeErrorKind {
        self.kind
    }

    /// Stripe's code for it: `card_declined`.
    pub fn code(&self) -> Option<&str> {
        self.code_().map(ApiErrorsCode::as_str)
    }

    /// Stripe's name for the request, for its support.
    pub fn request_id(&self) -> Option<&str> {
        self.details.as_ref()?.request_id.as_deref()
    }

    /// Whether nothing happened and the same request may simply be sent again.
    pub const fn may_repeat(&self) -> bool {
        matches!(self.kind, StripeErrorKind::NotSent | StripeErrorKind::Busy(_))
    }

    fn code_(&self) -> Option<&ApiErrorsCode> {
        self.details.as_ref()?.code.as_ref()
    }

    fn param(&self) -> Option<&str> {
        self.details.as_ref()?.param.as_deref()
    }

    /// The payment that was declined.
    pub(crate) fn intent(&self) -> Option<&Intent> {
        self.details.as_ref()?.intent.as_ref()
    }

    /// Whether this is not news but what the key's first request was answered.
    pub(crate) fn is_replayed(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.replayed)
    }

    /// Whether Stripe does not know the object that was named.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.code_(), Some(ApiErrorsCode::ResourceMissing)) && self.kind == StripeErrorKind::Invalid
    }

    /// Whether the saved card cannot be used any more: it was detached or never was the payer's.
    pub(crate) fn is_about_the_card(&self) -> bool {
        self.kind == StripeErrorKind::Invalid
            && (self.param() == Some("payment_method")
                || matches!(
                    self.code_(),
                    Some(ApiErrorsCode::PaymentMethodUnactivated | ApiErrorsCode::PaymentMethodUnexpectedState)
                ))
    }

    /// Whether the receiving account cannot take money, now or ever.
    pub(crate) fn is_about_the_account(&self) -> bool {
        // Stripe answers an account whose capability is missing with a code that its own description
        // of the interface does not list.
        const NO_CAPABILITY: &str = "insufficient_capabilities_for_transfer";
        self.kind == StripeErrorKind::Invalid
            && (self.param() == Some("destination")
                || self.code() == Some(NO_CAPABILITY)
                || matches!(
                    self.code_(),
                    Some(
                        ApiErrorsCode::AccountClosed
                            | ApiErrorsCode::AccountInvalid
                            | ApiErrorsCode::CapabilityNotActive
                            | ApiErrorsCode::NoAccount
                            | ApiErrorsCode::TransfersNotAllowed
                    )
                ))
    }

    /// Whether the payer's bank has asked for the payment back.
    pub(crate) fn is_about_a_dispute(&self) -> bool {
        self.kind == StripeErrorKind::Invalid && matches!(self.code_(), Some(ApiErrorsCode::ChargeDisputed))
    }

    /// Whether there is not so much left to give back.
    pub(crate) fn is_about_the_amount(&self) -> bool {
        self.kind == StripeErrorKind::Invalid
            && (self.param() == Some("amount") || matches!(self.code_(), Some(ApiErrorsCode::ChargeAlreadyRefunded)))
    }

    /// Whether the platform's balance does not cover it yet.
    pub(crate) fn is_about_the_balance(&self) -> bool {
        self.kind == StripeErrorKind::Invalid
            && matches!(self.code_(), Some(ApiErrorsCode::BalanceInsufficient | ApiErrorsCode::InsufficientFunds))
    }
}

/// An HTTP answer that is no success.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    pub(crate) request_id: Option<&'a str>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) replayed: bool,
}

/// How long a busy Stripe is left alone when it does not say.
const BREATHER: Duration = Duration::from_secs(1);

/// What an answer means. The status decides; where one status means several things, Stripe's type does.
fn kind_of(answer: &Answer<'_>, type_: Option<ApiErrorsType>) -> StripeErrorKind {
    let busy = StripeErrorKind::Busy(answer.retry_after.unwrap_or(BREATHER));
    match (answer.status, type_) {
        (429, _) => busy,
        (401 | 403, _) => StripeErrorKind::Denied,
        (409, _) => StripeErrorKind::KeyInUse,
        (402, _) | (400, Some(ApiErrorsType::CardError)) => StripeErrorKind::Declined,
        (400, Some(ApiErrorsType::IdempotencyError)) => StripeErrorKind::KeyReused,
        (400 | 404 | 422, Some(ApiErrorsType::InvalidRequestError)) => StripeErrorKind::Invalid,
        (_, Some(ApiErrorsType::ApiError)) | (424 | 500..=599, _) => StripeErrorKind::Broken,
        // No error of Stripe's: a proxy's page, a redirect, a status from the future.
        _ => StripeErrorKind::Lost,
    }
}

#[derive(Deserialize)]
struct Envelope {
    error: Body,
}

#[derive(Default, Deserialize)]
struct Body {
    #[serde(rename = "type")]
    type_: Option<String>,
    code: Option<String>,
    param: Option<String>,
    message: Option<String>,
    payment_intent: Option<Intent>,
}

/// Cuts secrets out of a text, and the text to a length for logs.
fn scrub(text: &str) -> String {
    const LONGEST: usize = 300;
    let is_secret = |word: &str| ["sk_", "rk_", "whsec_", "_secret_"].iter().any(|mark| word.contains(mark));
    let words = text.split(' ').map(|word| if is_secret(word) { "(secret)" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect()
}

impl fmt::Display for StripeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            StripeErrorKind::Configuration => "configuration",
            StripeErrorKind::NotSent => "Stripe cannot be reached",
            StripeErrorKind::Lost => "no answer of Stripe's",
            StripeErrorKind::Busy(_) => "Stripe is busy",
            StripeErrorKind::KeyInUse => "the same request is under way",
            StripeErrorKind::KeyReused => "the key belongs to another request",
            StripeErrorKind::Declined => "declined",
            StripeErrorKind::Invalid => "Stripe does not take it",
            StripeErrorKind::Denied => "Stripe does not allow it",
            StripeErrorKind::Broken => "Stripe failed",
            StripeErrorKind::Directory => "the directory failed",
            StripeErrorKind::Unknown => "not known",
        };
        write!(f, "{kind}: {}", self.message)?;
        let Some(details) = &self.details else { return Ok(()) };
        write!(f, " (status {}", details.status)?;
        if let Some(code) = &details.code {
            write!(f, ", code {}", code.as_str())?;
        }
        if let Some(param) = &details.param {
            write!(f, ", parameter {param}")?;
        }
        if let Some(request) = &details.request_id {
            write!(f, ", request {request}")?;
        }
        f.write_str(")")
    }
}

impl Error for StripeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<StripeError> for RailError {
    /// What it says about the instruction whose request it answers.
    fn from(error: StripeError) -> Self {
        let kind = match error.kind {
            StripeErrorKind::NotSent => RailErrorKind::NotSent,
            StripeErrorKind::Busy(wait) => RailErrorKind::Busy(wait),
            StripeErrorKind::Lost | StripeErrorKind::KeyInUse | StripeErrorKind::Broken => RailErrorKind::Unknown,
            StripeErrorKind::Configuration
            | StripeErrorKind::KeyReused
            | StripeErrorKind::Declined
            | StripeErrorKind::Invalid
            | StripeErrorKind::Denied
            | StripeErrorKind::Unknown => RailErrorKind::Refused,
            StripeErrorKind::Directory => RailErrorKind::NotSent,
        };
        Self::new(kind, error.to_string()).caused_by(error)
    }
}
