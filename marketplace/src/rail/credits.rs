//! The credits rail: money that exists in the ledger only.

use async_trait::async_trait;

use super::{
    Cursor, Custody, Holdings, Instruction, Observation, Observations, Outcome, Push, RailError, RailErrorKind,
    RailProfile, SettlementRail,
};
use crate::{
    ids::RailId,
    money::{Currency, Money},
    policy::Range,
};

/// Internal custody: wallets and holds are entries in the ledger and nothing is outside, so there is
/// nothing that this rail could be asked to do. Every order is [`RailErrorKind::Unsupported`].
#[derive(Clone, Debug)]
pub struct CreditsRail {
    profile: RailProfile,
}

impl CreditsRail {
    /// The name of the rail, `credits`.
    pub const ID: RailId = RailId::new("credits");

    /// A rail of credits counted in `currency`.
    pub fn new(currency: Currency) -> Self {
        let profile = RailProfile {
            id: Self::ID,
            currency,
            custody: Custody::Internal,
            capabilities: Vec::new(),
            amounts: Range { min: 1, max: i64::MAX },
            hold_expiry: None,
            reversible_for: None,
        };
        Self { profile }
    }
}

fn unsupported(what: &str) -> RailError {
    RailError::new(RailErrorKind::Unsupported, format!("credits exist in the ledger only: {what}"))
}

#[async_trait]
impl SettlementRail for CreditsRail {
    fn profile(&self) -> &RailProfile {
        &self.profile
    }

    async fn execute(&self, _instruction: &Instruction) -> Result<Outcome, RailError> {
        Err(unsupported("there is nothing to execute outside"))
    }

    async fn lookup(&self, _instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        Err(unsupported("there is nothing to look up outside"))
    }

    async fn observe(&self, _after: &Cursor) -> Result<Observations, RailError> {
        Err(unsupported("nothing happens outside"))
    }

    fn receive(&self, _push: &Push) -> Result<Vec<Observation>, RailError> {
        Err(unsupported("nobody pushes"))
    }

    /// Nothing, in its currency: there is nothing outside to compare the ledger with.
    async fn holdings(&self) -> Result<Holdings, RailError> {
        Ok(Holdings { total: Money::zero(self.profile.currency), holds: Vec::new() })
    }
}
