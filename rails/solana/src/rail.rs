//! The rail: what it is made of, and its contract.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_program_pack::Pack;
use solana_pubkey::Pubkey;
use tradepost::{
    ids::{AgentId, InstructionId},
    rail::{
        Cursor, Holdings, Instruction, Observation, Observations, Outcome, Push, RailError, RailErrorKind, RailMemory,
        RailProfile, SettlementRail,
    },
};

use crate::{
    address::token_account,
    agents::{Agents, DepositAddress},
    chain::{ACCOUNTS_AT_ONCE, Chain, tokens},
    config::SolanaConfig,
    error::unsigned,
    incident::Incident,
    keys::{Key, Signer},
    nonces::NONCE,
    notes::{PayoutNote, PayoutState, Spent},
};

/// How often holdings are read anew because the treasury moved between two requests.
const STILL: usize = 8;
/// How many deposit addresses are read in one request with the treasury's two accounts.
const BESIDE: usize = ACCOUNTS_AT_ONCE - 2;
/// How many such requests are made at once.
const AT_ONCE: usize = 8;

/// USDC (or another classic SPL token) on Solana, of pooled custody: agents' money comes in at deposit
/// addresses, is swept to one treasury, and leaves it as withdrawals.
///
/// `execute` only accepts a withdrawal, durably; [`SolanaRail::work`] is what sends, confirms and
/// sweeps. Spawn it beside the engine's own workers, in any number of processes.
pub struct SolanaRail {
    pub(crate) config: SolanaConfig,
    pub(crate) chain: Chain,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) memory: Arc<dyn RailMemory>,
    pub(crate) agents: Agents,
    pub(crate) treasury: Pubkey,
    pub(crate) treasury_account: Pubkey,
    pub(crate) rent: u64,
    pub(crate) nonce_rent: u64,
    /// Where the round of sweeping stands.
    pub(crate) sweep_at: AtomicUsize,
    /// Addresses by which a sweep has failed: each is swept alone from then on, when there is nothing else to sweep.
    apart: Mutex<BTreeSet<NonZeroU32>>,
    profile: RailProfile,
    tell: Box<dyn Fn(&Incident) + Send + Sync>,
}

impl SolanaRail {
    /// Connects to a node and checks that it is of the configured cluster, that the mint is one of the
    /// classic token program with the currency's decimals, and reads the addresses handed out so far.
    ///
    /// # Errors
    /// [`RailErrorKind::Refused`] when a check fails; otherwise the node's, the signer's or the
    /// memory's failure.
    pub async fn connect(
        config: SolanaConfig,
        rpc: Arc<RpcClient>,
        signer: Arc<dyn Signer>,
        memory: Arc<dyn RailMemory>,
    ) -> Result<Self, RailError> {
        let refuse = |what: String| Err(RailError::new(RailErrorKind::Refused, what));
        let chain = Chain::new(rpc, config.finality);
        chain.is_of(&config.genesis).await?;
        let (_, found) = chain.accounts(&[config.mint]).await?;
        let Some(mint) = found[0].as_ref().and_then(|account| account.mint()) else {
            return refuse(format!("{} is no mint of the classic token program", config.mint));
        };
        if mint.decimals != config.currency.exponent() {
            let exponent = config.currency.exponent();
            return refuse(format!("the mint has {} decimals, {} has {exponent}", mint.decimals, config.currency));
        }
        let treasury = signer.address(Key::Treasury).await.map_err(unsigned)?;
        let rail = Self {
            profile: config.profile(),
            rent: chain.rent(spl_token_interface::state::Account::LEN).await?,
            nonce_rent: if config.durable_nonces.is_some() { chain.rent(NONCE).await? } else { 0 },
            agents: Agents::new(config.mint),
            treasury_account: token_account(&treasury, &config.mint),
            sweep_at: AtomicUsize::new(0),
            apart: Mutex::default(),
            tell: Box::new(|incident| tracing::warn!(%incident, "the Solana rail needs an operator")),
            config,
            chain,
            signer,
            memory,
            treasury,
        };
        rail.agents.refresh(&*rail.memory).await?;
        Ok(rail)
    }

    /// Tells incidents here instead of logging them as warnings.
    #[must_use]
    pub fn on_incident(mut self, tell: impl Fn(&Incident) + Send + Sync + 'static) -> Self {
        self.tell = Box::new(tell);
        self
    }

    /// The treasury's wallet: send it the SOL that fees and rent are paid from.
    pub const fn treasury(&self) -> Pubkey {
        self.treasury
    }

    /// The agent's deposit address, handed out now if it has none. The same for ever.
    ///
    /// # Errors
    /// The memory's or the signer's failure; a process that only watches hands out none.
    pub async fn deposit_address(&self, agent: AgentId) -> Result<DepositAddress, RailError> {
        self.agents.assign(agent, &*self.memory, &*self.signer).await
    }

    /// What a withdrawal cost the treasury in SOL, once it is done.
    ///
    /// # Errors
    /// The memory's failure.
    pub async fn spent(&self, instruction: InstructionId) -> Result<Option<Spent>, RailError> {
        let note = PayoutNote::read(&*self.memory, instruction).await?;
        Ok(note.and_then(|note| match note.payout.state {
            PayoutState::Done { spent, .. } => Some(spent),
            PayoutState::Accepted | PayoutState::Held | PayoutState::Declined(_) => None,
        }))
    }

    pub(crate) fn tell(&self, incident: &Incident) {
        (self.tell)(incident);
    }

    /// The treasury and every deposit address, swept or not. Money on its way from the one to the other must be counted
    /// once: what was at an address that is found empty is in the treasury by then, so that only those that hold
    /// something have to be read together with it.
    async fn total(&self) -> Result<u64, RailError> {
        self.agents.refresh(&*self.memory).await?;
        let mut accounts: Vec<Pubkey> = self.agents.round(0, usize::MAX).iter().map(|one| one.token_account).collect();
        let mut read = 0;
        if accounts.len() > BESIDE {
            let mut full = Vec::new();
            for chunk in accounts.chunks(ACCOUNTS_AT_ONCE) {
                let (slot, found) = self.chain.accounts(chunk).await?;
                let holding = chunk.iter().zip(&found).filter(|(_, account)| tokens(account.as_ref()) > 0);
                full.extend(holding.map(|(key, _)| *key));
                read = read.max(slot);
            }
            accounts = full;
        }
        for _ in 0..STILL {
            if let Some(total) = self.together(&accounts, read).await? {
                return Ok(total);
            }
        }
        Err(RailError::new(RailErrorKind::NotSent, "the treasury does not stand still"))
    }

    /// The treasury and some deposit addresses as they were at one moment, not before a slot. The treasury pays for
    /// every sweep, so if its lamports are the same in all that was read, there was none in between.
    async fn together(&self, accounts: &[Pubkey], from: u64) -> Result<Option<u64>, RailError> {
        let treasury = [self.treasury, self.treasury_account];
        let mut asked: Vec<Vec<Pubkey>> = accounts.chunks(BESIDE).map(|chunk| [&treasury, chunk].concat()).collect();
        if asked.is_empty() {
            asked.push(treasury.to_vec());
        }
        let answers = stream::iter(asked).map(|keys| async move { self.chain.accounts(&keys).await });
        let answers: Vec<_> = answers.buffered(AT_ONCE).try_collect().await?;
        let (mut sum, mut treasury) = (0u64, None);
        for (slot, found) in answers {
            let now = (found[0].as_ref().map_or(0, |account| account.lamports), tokens(found[1].as_ref()));
            if slot < from || *treasury.get_or_insert(now) != now {
                return Ok(None);
            }
            sum = found[2..].iter().fold(sum, |sum, account| sum.saturating_add(tokens(account.as_ref())));
        }
        Ok(treasury.map(|(_, held)| sum.saturating_add(held)))
    }

    /// Leaves an address out of sweeps together with others.
    pub(crate) fn set_apart(&self, number: NonZeroU32) {
        self.apart.lock().expect("nobody panics with it").insert(number);
    }

    /// Takes it in again.
    pub(crate) fn set_together(&self, number: NonZeroU32) {
        self.apart.lock().expect("nobody panics with it").remove(&number);
    }

    pub(crate) fn is_apart(&self, number: NonZeroU32) -> bool {
        self.apart.lock().expect("nobody panics with it").contains(&number)
    }

    /// The addresses that the next round of sweeping looks at. Each round begins at another one.
    pub(crate) fn next_round(&self, limit: usize) -> Vec<DepositAddress> {
        let count = self.agents.count().max(1);
        let from = self.sweep_at.fetch_add(if limit < count { limit } else { 1 }, Ordering::Relaxed) % count;
        self.agents.round(from, limit)
    }
}

#[async_trait]
impl SettlementRail for SolanaRail {
    fn profile(&self) -> &RailProfile {
        &self.profile
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.accept(instruction).await
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.find(instruction).await
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        self.read_deposits(after).await
    }

    fn receive(&self, _push: &Push) -> Result<Vec<Observation>, RailError> {
        Err(RailError::new(RailErrorKind::Unsupported, "nobody pushes: deposits are read from the chain"))
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        let total = i64::try_from(self.total().await?);
        let total = total.map_err(|_| RailError::new(RailErrorKind::NotSent, "more than the books can count"))?;
        Ok(Holdings { total: self.config.money(total), holds: Vec::new() })
    }
}
