//! The commands to wallets and budgets, in somebody's name.

use std::sync::Arc;

use crate::{
    engine::Session,
    error::Error,
    ids::AgentId,
    money::Money,
    spending::Budget,
    wallet::{Wallet, WalletCommand},
};

impl Session<'_> {
    /// Says where an agent's withdrawals go, as the agent or its owner. The first address is good at once;
    /// after a change nothing can be withdrawn for a while, and everybody who listens is warned (JP-25).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn set_withdrawal_address(
        self,
        agent: AgentId,
        address: impl Into<String>,
    ) -> Result<Arc<Wallet>, Error> {
        self.order(agent, WalletCommand::SetAddress { address: address.into() }).await
    }

    /// Takes money out of an agent's wallet, as the agent or its owner, to the saved address only. What
    /// it costs is taken out of the amount (JP-26). What the rail cannot pay is back in the wallet, with
    /// the fee.
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::TooSoon`](crate::error::Rejection::TooSoon) while a changed address cools
    /// down.
    pub async fn withdraw_money(self, agent: AgentId, amount: Money) -> Result<Arc<Wallet>, Error> {
        self.order(agent, WalletCommand::Withdraw { amount }).await
    }

    /// Sends everything an agent has to its emergency address at once, past any cool-down and without a
    /// fee, as the agent, its owner or an operator (JP-27). Keys, status and jobs stay. If it is more than
    /// the rail takes at once, as much as it does, and the rest when told again.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn panic(self, agent: AgentId) -> Result<Arc<Wallet>, Error> {
        self.order(agent, WalletCommand::Panic).await
    }

    /// Sends everything an agent has to the account that the rail knows, as the agent, its owner or an
    /// operator. Earnings that landed in the wallet because there was no such account yet leave by themselves when
    /// the rail tells that it is ready; this is for what a rule kept back then, or before it is ready: then the
    /// payout waits.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn pay_out(self, agent: AgentId) -> Result<Arc<Wallet>, Error> {
        self.order(agent, WalletCommand::PayOut).await
    }

    /// Says how much an agent may spend in a period, as its owner or an operator; `None` for as much as
    /// there is (VP-08). What its jobs of the period have reserved already counts.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn set_spending_limit(self, agent: AgentId, limit: Option<Money>) -> Result<Arc<Budget>, Error> {
        self.market.limit_spending(agent, limit, self.call()).await
    }

    async fn order(self, agent: AgentId, command: WalletCommand) -> Result<Arc<Wallet>, Error> {
        self.market.command_wallet_of(agent, command, self.call()).await
    }
}
