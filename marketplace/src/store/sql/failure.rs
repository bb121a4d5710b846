//! What can go wrong in a database, and what it means.

use std::sync::Arc;

use sqlx::error::ErrorKind;

use crate::store::{StoreError, StoreErrorKind};

/// Why statements failed. Clonable, since it may have to be told to many callers of one group.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// What it means if it stays.
    kind: StoreErrorKind,
    /// Whether somebody else's commit came between reading the facts and writing: read them again.
    pub(super) raced: bool,
    message: String,
    source: Option<Arc<sqlx::Error>>,
}

impl Failure {
    pub(super) fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, raced: false, message: message.into(), source: None }
    }

    pub(super) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Corrupt, message)
    }

    /// Rows that were to be written have another version than the facts said.
    pub(super) fn raced(table: &str) -> Self {
        let message = format!("others kept writing the same rows of {table}");
        Self { raced: true, ..Self::new(StoreErrorKind::Unavailable, message) }
    }

    pub(super) fn is(&self, kind: StoreErrorKind) -> bool {
        self.kind == kind
    }

    /// Whether other contents of the same transaction might have been written.
    pub(super) fn is_about_contents(&self) -> bool {
        self.raced || self.kind == StoreErrorKind::Corrupt || self.is_of_a_lock()
    }

    /// Whether somebody outside holds a row that one of the contents needs.
    fn is_of_a_lock(&self) -> bool {
        let refused = self.source.as_deref().and_then(sqlx::Error::as_database_error);
        refused.and_then(|refused| refused.code()).is_some_and(|code| code == "55P03")
    }

    /// The same failure, of a COMMIT: without an answer nobody knows whether it was made.
    pub(super) fn of_commit(mut self) -> Self {
        if self.kind == StoreErrorKind::Unavailable && !self.raced {
            self.kind = StoreErrorKind::Unknown;
        }
        self
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let error = Self::new(failure.kind, failure.message);
        match failure.source {
            Some(source) => error.caused_by(source),
            None => error,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let (kind, raced) = match &error {
            E::Database(refused) if refused.kind() == ErrorKind::UniqueViolation => (StoreErrorKind::Corrupt, true),
            E::Database(refused) => of_code(refused.code().as_deref().unwrap_or_default()),
            E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                (StoreErrorKind::Unavailable, false)
            }
            E::Configuration(_) | E::InvalidArgument(_) => (StoreErrorKind::Unsupported, false),
            E::RowNotFound
            | E::TypeNotFound { .. }
            | E::ColumnIndexOutOfBounds { .. }
            | E::ColumnNotFound(_)
            | E::ColumnDecode { .. }
            | E::Encode(_)
            | E::Decode(_) => (StoreErrorKind::Corrupt, false),
            // The type is open: what a later driver adds is not known to have been written.
            _ => (StoreErrorKind::Unavailable, false),
        };
        Self { kind, raced, message: error.to_string(), source: Some(Arc::new(error)) }
    }
}

/// What a database's own code means, and whether it is a lost race.
fn of_code(code: &str) -> (StoreErrorKind, bool) {
    match code.len() {
        5 => of_sqlstate(code),
        _ => (code.parse().map_or(StoreErrorKind::Corrupt, of_sqlite), false),
    }
}

/// PostgreSQL's codes: five characters, the first two of which are the class.
fn of_sqlstate(code: &str) -> (StoreErrorKind, bool) {
    match (code, &code[..2.min(code.len())]) {
        ("40001" | "40P01", _) => (StoreErrorKind::Unavailable, true),
        ("53100", _) => (StoreErrorKind::Full, false),
        // Connections, resources, operators' interventions, locks, a standby that only reads.
        ("55P03" | "25006", _) | (_, "08" | "53" | "57" | "58") => (StoreErrorKind::Unavailable, false),
        ("42501", _) | (_, "28" | "3D" | "0A") => (StoreErrorKind::Unsupported, false),
        _ => (StoreErrorKind::Corrupt, false),
    }
}

/// SQLite's result codes; the lowest byte is the primary one.
fn of_sqlite(code: i32) -> StoreErrorKind {
    match code & 0xff {
        13 => StoreErrorKind::Full,
        // PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CANTOPEN, PROTOCOL
        3 | 5 | 6 | 7 | 8 | 9 | 10 | 14 | 15 => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Corrupt,
    }
}
