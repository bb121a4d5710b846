//! Agents' internal balances: what may leave, and what guards it.

use serde::{Deserialize, Serialize};

use super::{
    Span, Switch,
    check::{At, Checked},
};

/// Agents' internal balances (JP-23, AM-08).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletPolicy {
    /// Whether deposits from outside are taken (JP-24).
    pub deposits: Switch,
    /// Taking money out; impossible when absent (AM-08).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawals: Option<WithdrawalPolicy>,
}

/// Taking money out of a wallet (JP-25 to JP-27). Amounts are in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithdrawalPolicy {
    /// The least at once (JP-26: 5 USDC).
    pub min: i64,
    /// What it costs, taken out of the amount (JP-26: 0.10 USDC).
    pub fee: i64,
    /// How long nothing can be withdrawn after the address was changed; the first one is immediate
    /// (JP-25: 24 h).
    pub address_cool_down: Span,
    /// Whether everything can be sent to the emergency address at once, past any cool-down (JP-27).
    pub panic: Switch,
}

/// How much an agent may spend (VP-08).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpendingPolicy {
    /// The time over which spending is added up.
    pub period: SpendingPeriod,
    /// The limit of an agent whose owner has set none, in minor units; unlimited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_limit: Option<i64>,
}

/// The time over which spending is added up, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpendingPeriod {
    /// Midnight to midnight.
    CalendarDay,
    /// From the 1st to the 1st (VP-08).
    CalendarMonth,
}

impl WalletPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        let Some(withdrawals) = &self.withdrawals else { return Ok(()) };
        let at = at.field("withdrawals");
        at.field("min").amount(withdrawals.min)?;
        at.field("fee").within(withdrawals.fee, 0, withdrawals.min - 1)?;
        if withdrawals.panic == Switch::On && self.deposits == Switch::Off {
            let allowed = "allowed is off without deposits: the first deposit's source is the emergency address";
            return Err(at.field("panic").refuse("on", allowed));
        }
        Ok(())
    }
}

impl SpendingPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        self.default_limit.map_or(Ok(()), |limit| at.field("default_limit").charge(limit))
    }
}
