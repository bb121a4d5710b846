//! What can be asked of an agent.

use serde::{Deserialize, Serialize};

use super::{AgentStatus, KeyId, Profile, RateCard};
use crate::{
    ids::{AgentId, RailId},
    money::Money,
    secret::Digest,
};

/// An agent to be registered (VP-01, JP-01, AM-01).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// Its owner's e-mail address; where the owner is known with one, the same or none.
    #[serde(default)]
    pub email: Option<String>,
    /// What it says about itself.
    #[serde(default)]
    pub profile: Profile,
}

/// The terms that somebody accepted, by the name the host gives that version of them (1 to 100
/// characters). Nothing is confirmed without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct AcceptedTerms(pub String);

/// What is to change in a profile; what is absent stays (VP-07, JP-04).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileUpdate {
    /// What it does.
    pub description: Option<String>,
    /// What it can do.
    pub capabilities: Option<Vec<String>>,
    /// Where it is told of events; empty for nowhere.
    pub webhook: Option<String>,
    /// Its picture; empty for none.
    pub avatar: Option<String>,
    /// Its website; empty for none.
    pub website: Option<String>,
    /// What it usually asks for.
    pub rates: Option<RateCard>,
}

/// A command to an agent. Serialized, it is what an idempotency key is compared by; secrets are in it
/// as digests only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum AgentCommand {
    /// Its owner registers it.
    Register {
        /// The id it will have. Chosen by the shell, not part of what a key is compared by.
        #[serde(skip, default = "nil_agent")]
        id: AgentId,
        /// What is to be registered.
        registration: Box<Registration>,
    },
    /// Its owner asks for another confirmation token; the one before is void.
    AskConfirmation,
    /// Its owner confirms it (VP-02).
    Confirm {
        /// The token presented.
        token: Digest,
        /// The terms accepted with it.
        terms: AcceptedTerms,
    },
    /// An operator or a rail says that its activation is paid for (VP-02).
    ConfirmFee {
        /// The rail that the fee came by.
        rail: RailId,
        /// The payment's own name.
        reference: String,
    },
    /// A deposit has come into its wallet (JP-02).
    TakeDeposit {
        /// How much.
        amount: Money,
    },
    /// It changes what it says about itself (VP-07, JP-04).
    UpdateProfile {
        /// What of it.
        update: Box<ProfileUpdate>,
    },
    /// An operator stops it.
    Suspend {
        /// Why.
        reason: String,
    },
    /// An operator lets it go on.
    Reinstate,
    /// It is to be gone (VP-09).
    Delete,
    /// The engine ends a deletion that has begun.
    Close,
    /// It gets one more key (JP-03).
    CreateKey {
        /// What it is called.
        name: String,
    },
    /// A key is replaced by a new one of the same name; the old one dies at once (VP-04).
    RotateKey {
        /// Which.
        key: KeyId,
    },
    /// A key dies, unless it is the last one (JP-03).
    RevokeKey {
        /// Which.
        key: KeyId,
    },
    /// Its owner has lost its keys and asks for a token (VP-05).
    AskRecovery,
    /// Its owner has the token: one new key replaces all others (VP-05).
    Recover {
        /// The token presented.
        token: Digest,
    },
}

fn nil_agent() -> AgentId {
    AgentId(uuid::Uuid::nil())
}

impl AgentCommand {
    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::AskConfirmation => "ask_confirmation",
            Self::Confirm { .. } => "confirm",
            Self::ConfirmFee { .. } => "confirm_fee",
            Self::TakeDeposit { .. } => "take_deposit",
            Self::UpdateProfile { .. } => "update_profile",
            Self::Suspend { .. } => "suspend",
            Self::Reinstate => "reinstate",
            Self::Delete => "delete",
            Self::Close => "close",
            Self::CreateKey { .. } => "create_key",
            Self::RotateKey { .. } => "rotate_key",
            Self::RevokeKey { .. } => "revoke_key",
            Self::AskRecovery => "ask_recovery",
            Self::Recover { .. } => "recover",
        }
    }

    /// The statuses in which the command can be legal at all. A policy may allow fewer, never more.
    pub const fn legal_in(&self) -> &'static [AgentStatus] {
        use AgentStatus::{Active, AwaitingDeposit, AwaitingFee, Closing, PendingVerification, Suspended};
        match self {
            Self::Register { .. } => &[],
            Self::AskConfirmation | Self::Confirm { .. } => &[PendingVerification],
            Self::ConfirmFee { .. } => &[AwaitingFee],
            Self::TakeDeposit { .. } => &[AwaitingDeposit],
            Self::UpdateProfile { .. }
            | Self::Suspend { .. }
            | Self::Delete
            | Self::CreateKey { .. }
            | Self::RotateKey { .. }
            | Self::RevokeKey { .. }
            | Self::AskRecovery
            | Self::Recover { .. } => &[PendingVerification, AwaitingFee, AwaitingDeposit, Active],
            Self::Reinstate => &[Suspended],
            Self::Close => &[Closing],
        }
    }
}
