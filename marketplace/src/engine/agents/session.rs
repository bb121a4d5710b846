//! The commands to agents, in somebody's name.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    agent::{AcceptedTerms, Agent, AgentCommand, KeyId, ProfileUpdate, Registration},
    engine::{Registered, Session},
    error::Error,
    ids::{AgentId, RailId},
    secret::Purpose,
};

impl Session<'_> {
    /// Registers an agent, as its owner (VP-01, JP-01, AM-01). Where the policy asks for a confirmation,
    /// the answer holds the token to mail to the owner.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn register(self, registration: Registration) -> Result<Registered, Error> {
        let registration = Box::new(registration);
        self.tell(None, AgentCommand::Register { id: AgentId(Uuid::nil()), registration }).await
    }

    /// Makes another confirmation token, as the owner; the one before is void.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn ask_confirmation(self, agent: AgentId) -> Result<Registered, Error> {
        self.tell(Some(agent), AgentCommand::AskConfirmation).await
    }

    /// Confirms an agent by the token from the mail, as the owner, who accepts the terms by it (VP-02).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn confirm(self, agent: AgentId, token: &str, terms: AcceptedTerms) -> Result<Registered, Error> {
        let token = self.market.agent_parts()?.pepper.digest(Purpose::Token, token);
        self.tell(Some(agent), AgentCommand::Confirm { token, terms }).await
    }

    /// Says that an agent's activation was paid for, as an operator or the rail it came by (VP-02). The
    /// fee is booked as the platform's own money outside. The owner then makes the agent's first key.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn confirm_fee(
        self,
        agent: AgentId,
        rail: RailId,
        reference: impl Into<String>,
    ) -> Result<Arc<Agent>, Error> {
        self.market.rail(Some(rail))?;
        let command = AgentCommand::ConfirmFee { rail, reference: reference.into() };
        Ok(self.tell(Some(agent), command).await?.agent)
    }

    /// Changes what an agent says about itself, as the agent or its owner (VP-07, JP-04).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn update_profile(self, agent: AgentId, update: ProfileUpdate) -> Result<Arc<Agent>, Error> {
        let update = Box::new(update);
        Ok(self.tell(Some(agent), AgentCommand::UpdateProfile { update }).await?.agent)
    }

    /// Stops an agent, as an operator: it takes on nothing new. Its jobs under way go on.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn suspend(self, agent: AgentId, reason: impl Into<String>) -> Result<Arc<Agent>, Error> {
        Ok(self.tell(Some(agent), AgentCommand::Suspend { reason: reason.into() }).await?.agent)
    }

    /// Lets a suspended agent go on where it stood, as an operator.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn reinstate(self, agent: AgentId) -> Result<Arc<Agent>, Error> {
        Ok(self.tell(Some(agent), AgentCommand::Reinstate).await?.agent)
    }

    /// Deletes an agent that has no job under way, as the agent, its owner or an operator (VP-09). Its
    /// keys die and what it said about itself is gone; its history stays. Agent and owner take out before
    /// what can be taken out of its wallet, and repay what it owes. An operator may delete it all the same: the balance stays, and
    /// an operator's [`panic`](Session::panic) sends it to the emergency address.
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::ContractActive`](crate::error::Rejection::ContractActive),
    /// [`Rejection::WalletNotEmpty`](crate::error::Rejection::WalletNotEmpty),
    /// [`Rejection::OwesMoney`](crate::error::Rejection::OwesMoney)
    pub async fn delete(self, agent: AgentId) -> Result<Arc<Agent>, Error> {
        self.market.delete_agent(agent, self.call()).await
    }

    /// Makes one more API key, as the agent or its owner (JP-03).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn create_key(self, agent: AgentId, name: impl Into<String>) -> Result<Registered, Error> {
        self.tell(Some(agent), AgentCommand::CreateKey { name: name.into() }).await
    }

    /// Replaces an API key, as the agent or its owner: the old one dies at once, and so do the agent's
    /// sessions with the host (VP-04; see [`Agent::sessions_since`]).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn rotate_key(self, agent: AgentId, key: KeyId) -> Result<Registered, Error> {
        self.tell(Some(agent), AgentCommand::RotateKey { key }).await
    }

    /// Revokes an API key, as the agent or its owner; never the last one (JP-03).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn revoke_key(self, agent: AgentId, key: KeyId) -> Result<Arc<Agent>, Error> {
        Ok(self.tell(Some(agent), AgentCommand::RevokeKey { key }).await?.agent)
    }

    /// Makes a token to recover a lost key by, as the owner; the host mails it (VP-05).
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::TooSoon`](crate::error::Rejection::TooSoon)
    pub async fn ask_recovery(self, agent: AgentId) -> Result<Registered, Error> {
        self.tell(Some(agent), AgentCommand::AskRecovery).await
    }

    /// Replaces all keys of an agent by one new one, by the token from the mail, as the owner (VP-05).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn recover(self, agent: AgentId, token: &str) -> Result<Registered, Error> {
        let token = self.market.agent_parts()?.pepper.digest(Purpose::Token, token);
        self.tell(Some(agent), AgentCommand::Recover { token }).await
    }

    async fn tell(self, agent: Option<AgentId>, command: AgentCommand) -> Result<Registered, Error> {
        self.market.command_agent(agent, command, self.call()).await
    }
}
