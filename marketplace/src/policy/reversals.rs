//! Who bears what goes back to a payer after the worker was paid.

use serde::{Deserialize, Serialize};

use super::check::{At, Checked};

/// What happens when money that was paid out has to go back: a chargeback that is lost, or a refund by an
/// operator.
///
/// Without it, operators can refund nothing after payout, and the platform bears lost chargebacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReversalPolicy {
    /// Who bears the worker's share of it. The platform's own share, its fee, the platform gives back.
    pub borne_by: LossBearer,
}

/// Who bears the worker's share of what goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LossBearer {
    /// The platform: what a worker has been paid stays paid.
    Platform,
    /// The worker: out of its wallet, then out of its own account where the rail can reach it, then as a
    /// debt.
    Worker {
        /// What the platform bears of each loss that the worker's balances do not cover, at most, in minor
        /// units; the rest is the debt.
        backstop: i64,
    },
}

impl ReversalPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        match self.borne_by {
            LossBearer::Platform => Ok(()),
            LossBearer::Worker { backstop } => at.field("borne_by.worker.backstop").charge(backstop),
        }
    }
}
