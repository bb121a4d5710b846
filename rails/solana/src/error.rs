//! What the failures of the rail's parts mean for an instruction.

use tradepost::{
    rail::{RailError, RailErrorKind},
    store::{StoreError, StoreErrorKind},
};

use crate::keys::SignerError;

/// The memory failed: it may have been written all the same.
pub(crate) fn forgotten(error: StoreError) -> RailError {
    let kind = match error.kind() {
        StoreErrorKind::Newer | StoreErrorKind::Corrupt | StoreErrorKind::Unsupported => RailErrorKind::Refused,
        _ => RailErrorKind::Unknown,
    };
    RailError::new(kind, "the rail's memory failed").caused_by(error)
}

/// What stands in the memory is none of ours.
pub(crate) fn unreadable(key: &str, error: serde_json::Error) -> RailError {
    RailError::new(RailErrorKind::Refused, format!("the rail's memory holds what it never writes under {key}"))
        .caused_by(error)
}

/// There is no signature, so nothing was sent.
pub(crate) fn unsigned(error: SignerError) -> RailError {
    let kind = match error {
        SignerError::Failed { .. } => RailErrorKind::NotSent,
        SignerError::SeedLength { .. } | SignerError::NoSuchKey { .. } | SignerError::WatchOnly => {
            RailErrorKind::Refused
        }
    };
    RailError::new(kind, "nothing was signed").caused_by(error)
}
