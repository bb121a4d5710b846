//! Reading a policy: every error says where.

use serde::de::IgnoredAny;

use super::Policy;

/// Why a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is not TOML or not JSON.
    #[error("the policy cannot be read: {message}")]
    Syntax {
        /// What the reader says, with line and column.
        message: String,
    },
    /// A field is unknown or missing, or its value is not one of its kind.
    #[error("{path}: {message}")]
    Field {
        /// The field's path, such as `jobs.deadline.default`; for a missing field, what lacks it, and
        /// `.` for the policy itself.
        path: String,
        /// The value found and what was expected.
        message: String,
    },
    /// A field's value is not allowed.
    #[error("{path}: {value} is not allowed; {allowed}")]
    Invalid {
        /// The field's path, such as `jobs.deadline.default`.
        path: String,
        /// The value found.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// The longest text that is read as a policy, in bytes.
const TEXT_LIMIT: usize = 1 << 20;

impl Policy {
    /// Reads and validates a policy written in TOML.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        check_length(text)?;
        let reader = toml::Deserializer::parse(text).map_err(|e| PolicyError::Syntax { message: e.to_string() })?;
        let policy: Self = serde_path_to_error::deserialize(reader)
            .map_err(|e| PolicyError::Field { path: e.path().to_string(), message: e.inner().message().into() })?;
        policy.validate()?;
        Ok(policy)
    }

    /// Reads and validates a policy written in JSON.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        check_length(text)?;
        // A pass for the syntax alone: after it, every error is some field's.
        let _: IgnoredAny = serde_json::from_str(text).map_err(|e| PolicyError::Syntax { message: e.to_string() })?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let policy: Self = serde_path_to_error::deserialize(&mut reader)
            .map_err(|e| PolicyError::Field { path: e.path().to_string(), message: e.inner().to_string() })?;
        policy.validate()?;
        Ok(policy)
    }
}

fn check_length(text: &str) -> Result<(), PolicyError> {
    match text.len() <= TEXT_LIMIT {
        true => Ok(()),
        false => Err(PolicyError::Syntax { message: format!("{} bytes; allowed are {TEXT_LIMIT}", text.len()) }),
    }
}
