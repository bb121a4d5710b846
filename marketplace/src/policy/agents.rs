//! How agents come to be: registration, activation, keys.

use serde::{Deserialize, Serialize};

use super::{
    Presence, Range, Span,
    check::{At, Checked},
};

/// How agents register, become active and keep their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentPolicy {
    /// A name's length in characters (VP-01: 2 to 255; JP-01: 2 to 50).
    pub name: Range<u32>,
    /// What a name is made of (JP-01).
    pub name_alphabet: Alphabet,
    /// A description's length in characters (JP-01: at most 500).
    pub description: Range<u32>,
    /// How many capabilities an agent may list (VP-01: 15; JP-01: 20).
    pub capabilities: u32,
    /// One capability's length in characters.
    pub capability: Range<u32>,
    /// Whether the owner's e-mail address must be given (VP-01: yes).
    pub owner_email: Presence,
    /// The length of an optional password for people, in characters; none is taken when absent
    /// (JP-01: at least 8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Range<u32>>,
    /// What is asked of a webhook URL at registration (VP-01).
    pub webhook: RegistrationWebhook,
    /// The owner's confirmation by a token sent by e-mail, with the terms accepted; none when absent
    /// (VP-02).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<ConfirmationPolicy>,
    /// What becoming active costs (VP-02, JP-02).
    pub activation: Activation,
    /// What a new agent is given, in minor units (AM-01: 100 credits).
    pub grant: i64,
    /// API keys (VP-04, VP-05, JP-03).
    pub keys: KeyPolicy,
}

/// What a name is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alphabet {
    /// Any text of one line.
    Line,
    /// ASCII letters, digits, `_` and `-` (JP-01).
    Slug,
}

/// What is asked of a webhook URL at registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RegistrationWebhook {
    /// It may be missing, and is not tried.
    Optional,
    /// It must be given and answer a signed `webhook.ping`, or registration fails (VP-01).
    Pinged {
        /// How long it may take to answer (VP-01: 5 s).
        within: Span,
    },
}

/// The owner's confirmation by e-mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmationPolicy {
    /// How long the token in the e-mail lives.
    pub token_lives: Span,
}

/// What becoming active costs. Amounts are in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Activation {
    /// Nothing (AM-01).
    Free,
    /// A fee, paid once for each agent (VP-02).
    Fee {
        /// For an owner's first agent; 0 for nothing.
        first: i64,
        /// For each further one.
        further: i64,
    },
    /// The first deposit activates (JP-02).
    Deposit {
        /// The least that counts.
        min: i64,
        /// What of it the platform keeps; the rest is available.
        fee: i64,
    },
}

/// API keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPolicy {
    /// When the first one is revealed (AM-01, JP-01: at registration; VP-02: on activation).
    pub issued: KeyIssue,
    /// How many an agent may have at once (JP-03).
    pub max: u32,
    /// The length of a key's name in characters (JP-03).
    pub name: Range<u32>,
    /// What every key begins with, such as `jp_`; shown again with [`KeyPolicy::shown`] more
    /// characters.
    pub prefix: String,
    /// How many characters after the prefix are ever shown again (JP-03).
    pub shown: u32,
    /// Recovering a lost key by e-mail; impossible when absent (VP-05).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<KeyRecovery>,
}

/// When an agent's first key is revealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyIssue {
    /// In the answer to the registration.
    Registration,
    /// When the agent becomes active.
    Activation,
}

/// Recovering a lost key by e-mail (VP-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecovery {
    /// How long the token in the e-mail lives (VP-05: 15 min).
    pub token_lives: Span,
    /// The least time between two requests for one address (VP-05: 24 h).
    pub every: Span,
}

/// The most characters of a key that may be shown again: what is left must stay unguessable.
const SHOWN_LIMIT: u32 = 8;
/// The longest prefix of a key.
const PREFIX_LIMIT: usize = 16;

impl AgentPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("name").range(self.name, 1, 1000)?;
        at.field("description").length(self.description)?;
        at.field("capabilities").count_or_none(self.capabilities)?;
        at.field("capability").range(self.capability, 1, 1000)?;
        if let Some(password) = self.password {
            at.field("password").range(password, 8, 1024)?;
        }
        if let RegistrationWebhook::Pinged { within } = self.webhook {
            at.field("webhook.pinged.within").within(within, Span::SECOND, Span::seconds(60))?;
        }
        if let Some(confirmation) = self.confirmation {
            at.field("confirmation.token_lives").span(confirmation.token_lives)?;
            if self.owner_email == Presence::Optional {
                let allowed = "allowed is required: the confirmation is sent to it";
                return Err(at.field("owner_email").refuse("optional", allowed));
            }
        }
        self.activation.check(&at.field("activation"))?;
        at.field("grant").charge(self.grant)?;
        self.keys.check(&at.field("keys"))?;
        if self.keys.recovery.is_some() && self.owner_email == Presence::Optional {
            let allowed = "allowed is required: keys are recovered by it";
            return Err(at.field("owner_email").refuse("optional", allowed));
        }
        Ok(())
    }
}

impl Activation {
    fn check(self, at: &At) -> Checked {
        match self {
            Self::Free => Ok(()),
            Self::Fee { first, further } => {
                at.field("fee.first").charge(first)?;
                at.field("fee.further").amount(further)
            }
            Self::Deposit { min, fee } => {
                at.field("deposit.min").amount(min)?;
                at.field("deposit.fee").within(fee, 0, min)
            }
        }
    }
}

impl KeyPolicy {
    fn check(&self, at: &At) -> Checked {
        at.field("max").count(self.max)?;
        at.field("name").range(self.name, 1, 1000)?;
        at.field("shown").within(self.shown, 0, SHOWN_LIMIT)?;
        let fits = self.prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !fits || self.prefix.len() > PREFIX_LIMIT {
            let allowed = format!("allowed are at most {PREFIX_LIMIT} of A-Z, a-z, 0-9 and _");
            return Err(at.field("prefix").refuse(format_args!("{:?}", self.prefix), allowed));
        }
        if let Some(recovery) = self.recovery {
            at.field("recovery.token_lives").span(recovery.token_lives)?;
            at.field("recovery.every").within(recovery.every, Span::seconds(0), Span::MAX)?;
        }
        Ok(())
    }
}
