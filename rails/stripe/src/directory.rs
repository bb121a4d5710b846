//! Who is who at Stripe.

use std::error::Error;

use async_trait::async_trait;
use tradepost::ids::AgentId;

/// What goes wrong in a directory.
pub type DirectoryError = Box<dyn Error + Send + Sync>;

/// Remembers which agent is which customer and which connected account: two or three columns beside
/// the embedder's own users. Several agents of one owner may share a customer or an account.
///
/// The rail keeps no state of its own; everything else it needs is at Stripe.
///
/// # The contract
///
/// What [`remember`](Self::remember) was told, [`known`](Self::known) says from then on, in every
/// process and after a restart.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// What is known about an agent; [`Known::default`] for one that was never heard of.
    ///
    /// # Errors
    /// Its own.
    async fn known(&self, agent: AgentId) -> Result<Known, DirectoryError>;

    /// Keeps something about an agent in place of what was known before.
    ///
    /// # Errors
    /// Its own.
    async fn remember(&self, agent: AgentId, fact: Fact) -> Result<(), DirectoryError>;
}

/// What is known about an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Who it is as a payer: `cus_…`.
    pub customer: Option<String>,
    /// The card it pays with: `pm_…`.
    pub card: Option<String>,
    /// Where its earnings go: `acct_…`.
    pub account: Option<String>,
}

/// Something to remember about an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Its customer.
    Customer(String),
    /// The card it pays with from now on; none when its last one is gone.
    Card(Option<String>),
    /// Its connected account.
    Account(String),
}

impl Known {
    /// Takes in a fact.
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Customer(id) => self.customer = Some(id),
            Fact::Card(id) => self.card = id,
            Fact::Account(id) => self.account = Some(id),
        }
    }
}
