//! Accounts: few kinds, named by purpose.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::ids::{AgentId, HoldId, RailId};

/// A place where money is. Its text form (`wallet/<agent>/available`) is its name in stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// `rail/<rail>`: what the rail holds for us; an asset, so its balance is negative.
    Rail(RailId),
    /// `treasury/<rail>`: the platform's own money outside, earned where it never holds the parties'.
    Treasury(RailId),
    /// `clearing/<rail>`: money that has been decided to leave by the rail and has not left yet, less what
    /// is on its way back.
    Clearing(RailId),
    /// `contested/<rail>`: what payers' banks took back and have not decided about; negative.
    Contested(RailId),
    /// `cost/<rail>`: what the rail has charged us; negative.
    Cost(RailId),
    /// `wallet/<agent>/available`: what the agent may spend or withdraw.
    Available(AgentId),
    /// `wallet/<agent>/pending`: the agent's money on its way out.
    Pending(AgentId),
    /// `debt/<agent>`: what a refund after payout left the agent owing; negative.
    Debt(AgentId),
    /// `escrow/<hold>`: money reserved for one contract.
    Escrow(HoldId),
    /// `revenue/<kind>`: what the platform has earned; `grants` and `losses` are what it gave away and bore.
    Revenue(RevenueKind),
}

/// What the platform earned by, or gave away for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevenueKind {
    /// Fees on completed contracts.
    Fees,
    /// Fees for cancelling.
    Cancellations,
    /// Fees for activating agents.
    Activations,
    /// Fees for disputes.
    Disputes,
    /// Fees for withdrawals.
    Withdrawals,
    /// Fees for the infrastructure, paid apart from a contract's money (PG-06).
    Infrastructure,
    /// Free credits given away; its balance is negative.
    Grants,
    /// What the platform bore of money that went back to payers; its balance is negative.
    Losses,
}

impl RevenueKind {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Fees, "fees"),
        (Self::Cancellations, "cancellations"),
        (Self::Activations, "activations"),
        (Self::Disputes, "disputes"),
        (Self::Withdrawals, "withdrawals"),
        (Self::Infrastructure, "infrastructure"),
        (Self::Grants, "grants"),
        (Self::Losses, "losses"),
    ];
}

/// What an account's balance may not become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Must not go below nothing: it would be spending what is not there.
    NotNegative,
    /// Must not go above nothing: it would be owing a negative sum.
    NotPositive,
    /// Any balance; summed from transfers when asked for, so that no row is hot.
    None,
}

impl Account {
    /// What this account's balance may not become. Balances of limited accounts are kept with every
    /// transfer; the others are summed on demand.
    pub const fn limit(self) -> Limit {
        match self {
            Self::Available(_) | Self::Pending(_) | Self::Escrow(_) => Limit::NotNegative,
            Self::Debt(_) => Limit::NotPositive,
            Self::Rail(_)
            | Self::Treasury(_)
            | Self::Clearing(_)
            | Self::Contested(_)
            | Self::Cost(_)
            | Self::Revenue(_) => Limit::None,
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rail(rail) => write!(f, "rail/{rail}"),
            Self::Treasury(rail) => write!(f, "treasury/{rail}"),
            Self::Clearing(rail) => write!(f, "clearing/{rail}"),
            Self::Contested(rail) => write!(f, "contested/{rail}"),
            Self::Cost(rail) => write!(f, "cost/{rail}"),
            Self::Available(agent) => write!(f, "wallet/{agent}/available"),
            Self::Pending(agent) => write!(f, "wallet/{agent}/pending"),
            Self::Debt(agent) => write!(f, "debt/{agent}"),
            Self::Escrow(hold) => write!(f, "escrow/{hold}"),
            Self::Revenue(kind) => {
                let name = RevenueKind::ALL.iter().find(|(k, _)| k == kind).map(|(_, name)| *name);
                write!(f, "revenue/{}", name.expect("every kind of revenue is listed"))
            }
        }
    }
}

/// A text that names no account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no account")]
pub struct BadAccount(String);

impl FromStr for Account {
    type Err = BadAccount;

    fn from_str(text: &str) -> Result<Self, BadAccount> {
        let bad = || BadAccount(text.chars().take(96).collect());
        let (purpose, rest) = text.split_once('/').ok_or_else(bad)?;
        let rail = || rest.parse().map_err(|_| bad());
        let agent = |text: &str| text.parse().map_err(|_| bad());
        match purpose {
            "rail" => rail().map(Self::Rail),
            "treasury" => rail().map(Self::Treasury),
            "clearing" => rail().map(Self::Clearing),
            "contested" => rail().map(Self::Contested),
            "cost" => rail().map(Self::Cost),
            "debt" => agent(rest).map(Self::Debt),
            "escrow" => rest.parse().map(Self::Escrow).map_err(|_| bad()),
            "revenue" => {
                let kind = RevenueKind::ALL.iter().find(|(_, name)| *name == rest);
                kind.map(|(kind, _)| Self::Revenue(*kind)).ok_or_else(bad)
            }
            "wallet" => match rest.split_once('/').ok_or_else(bad)? {
                (id, "available") => agent(id).map(Self::Available),
                (id, "pending") => agent(id).map(Self::Pending),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
