//! Which deposit address is whose.
//!
//! The list only grows. It is kept in pages, oldest first, so that handing out an address writes one
//! page and a start reads a page for every 256 agents.

use std::{collections::HashMap, num::NonZeroU32, sync::RwLock};

use solana_pubkey::Pubkey;
use tradepost::{
    ids::AgentId,
    rail::{RailError, RailErrorKind, RailMemory},
};

use crate::{
    address::token_account,
    error::{forgotten, unsigned},
    keys::{Key, Signer},
};

const PAGE: usize = 256;

/// An agent's deposit address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepositAddress {
    /// Its number, which is all that its key depends on.
    pub number: NonZeroU32,
    /// The wallet to send to.
    pub wallet: Pubkey,
    /// Its token account, where the money is.
    pub token_account: Pubkey,
}

/// Every address handed out, as far as this process has read.
pub(crate) struct Agents {
    mint: Pubkey,
    known: RwLock<Known>,
    /// One hand-out at a time in this process; other processes are met in the memory.
    handing_out: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    agents: HashMap<AgentId, DepositAddress>,
    owners: HashMap<Pubkey, AgentId>,
    accounts: Vec<DepositAddress>,
    /// The page that is not full yet, as read.
    last: Option<String>,
}

impl Agents {
    pub(crate) fn new(mint: Pubkey) -> Self {
        Self { mint, known: RwLock::default(), handing_out: tokio::sync::Mutex::default() }
    }

    pub(crate) fn owner_of(&self, token_account: &Pubkey) -> Option<AgentId> {
        self.read().owners.get(token_account).copied()
    }

    pub(crate) fn of(&self, agent: AgentId) -> Option<DepositAddress> {
        self.read().agents.get(&agent).copied()
    }

    pub(crate) fn count(&self) -> usize {
        self.read().accounts.len()
    }

    /// Up to `limit` addresses from a position on, going round.
    pub(crate) fn round(&self, from: usize, limit: usize) -> Vec<DepositAddress> {
        let known = self.read();
        let count = known.accounts.len();
        (0..limit.min(count)).map(|i| known.accounts[(from + i) % count]).collect()
    }

    /// Reads what other processes have handed out meanwhile.
    pub(crate) async fn refresh(&self, memory: &dyn RailMemory) -> Result<(), RailError> {
        loop {
            let count = self.count();
            let page = memory.get(&page_key(count)).await.map_err(forgotten)?;
            let Some(page) = page else { return Ok(()) };
            self.take_in(count, page)?;
            if self.count() == count || !self.count().is_multiple_of(PAGE) {
                return Ok(());
            }
        }
    }

    /// An agent's address, handed out now if it has none.
    pub(crate) async fn assign(
        &self,
        agent: AgentId,
        memory: &dyn RailMemory,
        signer: &dyn Signer,
    ) -> Result<DepositAddress, RailError> {
        if let Some(address) = self.of(agent) {
            return Ok(address);
        }
        let _alone = self.handing_out.lock().await;
        loop {
            self.refresh(memory).await?;
            if let Some(address) = self.of(agent) {
                return Ok(address);
            }
            let count = self.count();
            let number = u32::try_from(count + 1).ok().and_then(NonZeroU32::new);
            let number = number.ok_or_else(|| RailError::new(RailErrorKind::Refused, "there are no more numbers"))?;
            let wallet = signer.address(Key::Deposit(number)).await.map_err(unsigned)?;
            let before = if count.is_multiple_of(PAGE) { None } else { self.read().last.clone() };
            let page = format!("{}{agent} {wallet}\n", before.as_deref().unwrap_or_default());
            if memory.swap(&page_key(count), before.as_deref(), &page).await.map_err(forgotten)? {
                self.take_in(count, page)?;
            }
        }
    }

    /// Adds what a page says beyond what is known.
    fn take_in(&self, count: usize, page: String) -> Result<(), RailError> {
        let corrupt = |line: &str| {
            RailError::new(RailErrorKind::Refused, format!("the list of deposit addresses holds {line:?}"))
        };
        let mut known = self.known.write().expect("a thread that panicked here has added nothing");
        let first = count - count % PAGE;
        for (i, line) in page.lines().enumerate().skip(known.accounts.len().saturating_sub(first)) {
            let (agent, wallet) = line.split_once(' ').ok_or_else(|| corrupt(line))?;
            let agent: AgentId = agent.parse().map_err(|_| corrupt(line))?;
            let wallet: Pubkey = wallet.parse().map_err(|_| corrupt(line))?;
            let number = u32::try_from(first + i + 1).ok().and_then(NonZeroU32::new).ok_or_else(|| corrupt(line))?;
            let address = DepositAddress { number, wallet, token_account: token_account(&wallet, &self.mint) };
            known.agents.insert(agent, address);
            known.owners.insert(address.token_account, agent);
            known.accounts.push(address);
        }
        known.last = Some(page);
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().expect("a thread that panicked has added nothing")
    }
}

fn page_key(count: usize) -> String {
    format!("addresses/{}", count / PAGE)
}
