//! The one error of rails.

use std::{error::Error, fmt, time::Duration};

/// Why a rail could not answer.
#[derive(Debug)]
pub struct RailError {
    kind: RailErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What an error says about the instruction it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RailErrorKind {
    /// The request never left: nothing happened. May be repeated.
    NotSent,
    /// The rail is busy and did nothing; ask again after this long.
    Busy(Duration),
    /// The answer is lost: it may or may not have happened. Look it up.
    Unknown,
    /// The rail refuses the request as it stands (credentials, configuration): nothing happened, and
    /// repeating it changes nothing until an operator has acted.
    Refused,
    /// The rail cannot do this at all; its profile says so.
    Unsupported,
    /// A push whose signature, age or form does not hold.
    Forged,
}

impl RailError {
    /// An error with a message for operators. The message must carry no secret.
    pub fn new(kind: RailErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What it says about the instruction.
    pub const fn kind(&self) -> RailErrorKind {
        self.kind
    }

    /// Whether nothing happened and the same request may simply be sent again.
    pub const fn may_repeat(&self) -> bool {
        matches!(self.kind, RailErrorKind::NotSent | RailErrorKind::Busy(_))
    }
}

impl fmt::Display for RailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RailErrorKind::NotSent => "not sent",
            RailErrorKind::Busy(_) => "busy",
            RailErrorKind::Unknown => "outcome unknown",
            RailErrorKind::Refused => "refused",
            RailErrorKind::Unsupported => "unsupported",
            RailErrorKind::Forged => "forged",
        };
        write!(f, "{kind}: {}", self.message)
    }
}

impl Error for RailError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}
