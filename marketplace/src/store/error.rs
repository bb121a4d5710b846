//! The one error of stores.

use std::{error::Error, fmt};

/// Why a store failed.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What a store's failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The database cannot be reached or is busy; nothing was written. May be repeated.
    Unavailable,
    /// The connection was lost while committing: it may or may not have been written. Repeat with
    /// the same idempotency key, or look.
    Unknown,
    /// There is no room left; nothing was written.
    Full,
    /// The database was written by a newer version of this library.
    Newer,
    /// The database holds what this library never writes, or refuses what it should take.
    Corrupt,
    /// The store cannot do this.
    Unsupported,
}

impl StoreError {
    /// An error with a message for operators. The message must carry no secret.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What it means.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether nothing was written and the same call may simply be repeated.
    pub const fn may_repeat(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            StoreErrorKind::Unavailable => "store unavailable",
            StoreErrorKind::Unknown => "outcome of the commit unknown",
            StoreErrorKind::Full => "store full",
            StoreErrorKind::Newer => "store written by a newer version",
            StoreErrorKind::Corrupt => "store corrupt",
            StoreErrorKind::Unsupported => "unsupported by this store",
        };
        write!(f, "{kind}: {}", self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}
