//! The rail: what it is made of, and its contract.

use std::sync::Arc;

use alloy_primitives::Address;
use alloy_rpc_client::RpcClient;
use alloy_signer::Signer;
use alloy_sol_types::SolCall;
use async_trait::async_trait;
use tradepost::{
    ids::HoldId,
    rail::{
        Capability, Cursor, Holdings, Instruction, Observation, Observations, Order, Outcome, Push, RailError,
        RailErrorKind, RailMemory, RailProfile, SettlementRail,
    },
};

use crate::{
    abi::{Escrow, Token, stage},
    chain::Chain,
    config::EvmConfig,
    error::EvmError,
    incident::Incident,
    relay::Relayer,
    screen::Screen,
    sign::Domain,
};

/// Into how many notes the list of open holds is divided.
pub(crate) const SHARDS: u8 = 16;

/// Holds in the escrow contract of one chain, non-custodial: the parties sign, the platform relays.
///
/// Nothing has to run beside the engine's own workers: asking, looking up and observing all follow the chain
/// and what the relayer has sent. [`EvmRail::work`] does only that, for those who want it sooner.
pub struct EvmRail {
    pub(crate) config: EvmConfig,
    pub(crate) chain: Chain,
    pub(crate) memory: Arc<dyn RailMemory>,
    pub(crate) relayer: Relayer,
    pub(crate) arbiter: Option<Arc<dyn Signer + Send + Sync>>,
    pub(crate) screen: Option<Box<dyn Screen>>,
    profile: RailProfile,
    tell: Box<dyn Fn(&Incident) + Send + Sync>,
}

impl EvmRail {
    /// Connects to a node and checks that it is of the configured chain, that the contract and the token are
    /// what they are configured to be (by their domain separators), and that the token has the currency's
    /// decimals. `relayer` pays for gas and receives the fees; it has no power over anybody's deposit.
    ///
    /// # Errors
    /// What does not fit, or the node's failure.
    pub async fn connect(
        config: EvmConfig,
        rpc: RpcClient,
        relayer: Arc<dyn Signer + Send + Sync>,
        memory: Arc<dyn RailMemory>,
    ) -> Result<Self, EvmError> {
        let chain = Chain::new(rpc);
        let found = chain.id().await?;
        if found != config.chain_id {
            return Err(EvmError::WrongChain { found, configured: config.chain_id });
        }
        let (escrow, token) = (config.escrow, config.token);
        for (what, address) in [("the escrow contract", escrow), ("the token", token)] {
            if !chain.has_code(address).await? {
                return Err(EvmError::WrongContract { what, address, found: "no code".into() });
            }
        }
        let activation = answer_of(&chain, escrow, &Escrow::activationDomainSeparatorCall {}).await?;
        let settlement = answer_of(&chain, escrow, &Escrow::settlementDomainSeparatorCall {}).await?;
        let of_token = answer_of(&chain, token, &Token::DOMAIN_SEPARATORCall {}).await?;
        let agrees = |domain: &Domain, found| match domain.separator() == found {
            true => Ok(()),
            false => {
                let (what, address) = ("a contract of the configured domain", domain.verifying_contract);
                Err(EvmError::WrongContract { what, address, found: format!("another domain than {}", domain.name) })
            }
        };
        agrees(&config.activation_domain(), activation)?;
        agrees(&config.settlement_domain(), settlement)?;
        agrees(&config.token_domain(), of_token)?;
        let decimals = answer_of(&chain, token, &Token::decimalsCall {}).await?;
        if decimals != config.currency.exponent() {
            let found = format!("{decimals} decimals, {} has {}", config.currency, config.currency.exponent());
            return Err(EvmError::WrongContract { what: "the token", address: token, found });
        }
        let relayer = Relayer {
            chain: chain.clone(),
            memory: memory.clone(),
            signer: relayer,
            chain_id: config.chain_id,
            confirmations: config.confirmations,
            gas: config.gas,
        };
        let tell = Box::new(|incident: &Incident| tracing::warn!(%incident, "the EVM rail needs an operator"));
        let profile = config.profile();
        Ok(Self { config, chain, memory, relayer, arbiter: None, screen: None, profile, tell })
    }

    /// Names the platform as the arbiter of new agreements: when the parties have not signed what they were
    /// asked for in time, its key rules as the engine has decided, within the deposit.
    #[must_use]
    pub fn with_arbiter(mut self, arbiter: Arc<dyn Signer + Send + Sync>) -> Self {
        self.arbiter = Some(arbiter);
        self
    }

    /// Screens the parties' wallets before anybody signs, and again before anything is sent (PG-16).
    #[must_use]
    pub fn with_screen(mut self, screen: impl Screen) -> Self {
        self.screen = Some(Box::new(screen));
        self.profile.capabilities.push(Capability::Screen);
        self
    }

    /// Tells incidents here instead of logging them as warnings.
    #[must_use]
    pub fn on_incident(mut self, tell: impl Fn(&Incident) + Send + Sync + 'static) -> Self {
        self.tell = Box::new(tell);
        self
    }

    /// The relayer's address: send it the coin that gas is paid in. Fees are credited to it.
    pub fn relayer(&self) -> Address {
        self.relayer.address()
    }

    /// What the rail was configured with.
    pub const fn config(&self) -> &EvmConfig {
        &self.config
    }

    /// One round: follows what was sent, and reads the chain on. Any number of processes may do this at once.
    ///
    /// # Errors
    /// The node's or the memory's failure. Nothing is lost, the next round goes on.
    pub async fn work(&self) -> Result<(), EvmError> {
        let followed = self.relayer.follow().await;
        self.read_chain().await?;
        followed.map(drop)
    }

    /// The same, where the question is what the chain says: a relayer in trouble keeps nobody from reading it.
    async fn read_on(&self) -> Result<(), EvmError> {
        if let Err(error) = self.relayer.follow().await {
            tracing::warn!(relayer = %self.relayer.address(), %error, "what was sent is not followed");
        }
        self.read_chain().await
    }

    pub(crate) fn tell(&self, incident: &Incident) {
        (self.tell)(incident);
    }

    /// Every deposit that the contract has and that is not final, as the chain says at the block read last.
    async fn count(&self) -> Result<Holdings, EvmError> {
        let (mut total, mut holds) = (0i64, Vec::new());
        let at = self.read_up_to().await?;
        for (hold, _) in self.all_open_holds().await? {
            let Some(note) = self.hold(hold).await? else { continue };
            let Some(funded) = note.funded.as_ref().filter(|_| note.end.is_none()) else { continue };
            let status = self.status_at(&funded.terms, at).await?;
            if matches!(status.status, stage::OPEN | stage::CLOSING | stage::FINALIZED) {
                // A part that was released waits in the books until all of it is divided.
                let minor = i64::try_from(funded.terms.deposit.to::<u128>()).unwrap_or(i64::MAX);
                total = total.saturating_add(minor);
                holds.push((hold, self.config.money(minor)));
            }
        }
        Ok(Holdings { total: self.config.money(total), holds })
    }
}

#[async_trait]
impl SettlementRail for EvmRail {
    fn profile(&self) -> &RailProfile {
        &self.profile
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.read_on().await?;
        Ok(match &instruction.order {
            Order::Fund { .. } => self.fund(instruction).await?,
            Order::Settle { .. } => self.settle(instruction).await?,
            Order::Payout { .. } | Order::Reverse { .. } | Order::Refund { .. } => return Err(unsupported()),
        })
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.read_on().await?;
        let id = instruction.id;
        match self.order(id).await? {
            None => return Ok(None),
            Some(order) if order != instruction.order => {
                let what = format!("instruction {id} was given before with another order");
                return Err(EvmError::Refused(what).into());
            }
            Some(_) => {}
        }
        Ok(match &instruction.order {
            Order::Fund { hold, .. } => self.find_fund(id, *hold).await?,
            Order::Settle { hold, .. } => self.find_settle(id, *hold).await?,
            Order::Payout { .. } | Order::Reverse { .. } | Order::Refund { .. } => return Err(unsupported()),
        })
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        self.read_on().await?;
        Ok(self.story(after).await?)
    }

    fn receive(&self, _push: &Push) -> Result<Vec<Observation>, RailError> {
        Err(RailError::new(RailErrorKind::Unsupported, "nobody pushes: everything is read from the chain"))
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        self.read_on().await?;
        Ok(self.count().await?)
    }
}

/// What a contract answers that has to be able to.
async fn answer_of<C: SolCall>(chain: &Chain, address: Address, call: &C) -> Result<C::Return, EvmError> {
    match chain.read(address, call, None).await {
        Err(EvmError::Reverted(revert)) => {
            Err(EvmError::WrongContract { what: C::SIGNATURE, address, found: format!("it refuses ({revert})") })
        }
        answer => answer,
    }
}

fn unsupported() -> RailError {
    RailError::new(RailErrorKind::Unsupported, "nothing is held for anybody: a settled share is its owner's already")
}

pub(crate) fn shard_of(hold: HoldId) -> u8 {
    hold.0.as_bytes()[15] % SHARDS
}
