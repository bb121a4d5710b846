//! Whose wallet is whose, and which lanes a wallet's agreements occupy.

use alloy_primitives::{Address, aliases::U96};
use tradepost::ids::{AgentId, HoldId};

use crate::{abi::Escrow, error::EvmError, notes, rail::EvmRail};

/// How many of a wallet's lanes are looked at before a new one is opened.
const LANES_LOOKED_AT: usize = 8;

impl EvmRail {
    /// Links an agent to its wallet, from now on. Holds under way keep theirs. The embedder has made sure that
    /// the wallet is the agent's; a wrong one can sign nothing in its name.
    ///
    /// # Errors
    /// [`EvmError::Wallet`] for an address that cannot be a party; the memory's failure.
    pub async fn link_wallet(&self, agent: AgentId, wallet: Address) -> Result<(), EvmError> {
        self.check_wallet(wallet)?;
        notes::put(&*self.memory, &format!("wallet/{agent}"), &wallet).await
    }

    /// An agent's wallet.
    ///
    /// # Errors
    /// The memory's failure.
    pub async fn wallet(&self, agent: AgentId) -> Result<Option<Address>, EvmError> {
        notes::read(&*self.memory, &format!("wallet/{agent}")).await
    }

    pub(crate) fn check_wallet(&self, address: Address) -> Result<(), EvmError> {
        let why = match address {
            Address::ZERO => "it is the zero address",
            address if address == self.config.escrow => "it is the escrow contract",
            address if address == self.config.token => "it is the token",
            address if address == self.relayer.address() => "it is the relayer",
            _ => return Ok(()),
        };
        Err(EvmError::Wallet { address, why })
    }

    /// A lane for a new agreement: one whose last agreement is over and whose slot the contract calls free, for
    /// opening another costs gas.
    pub(crate) async fn take_lane(&self, buyer: Address, hold: HoldId) -> Result<u64, EvmError> {
        let key = format!("lanes/{buyer}");
        let lanes: Vec<HoldId> = notes::read(&*self.memory, &key).await?.unwrap_or_default();
        let mut free = Vec::new();
        for (number, before) in lanes.iter().enumerate().take(LANES_LOOKED_AT) {
            let over = *before == hold || self.hold(*before).await?.is_none_or(|before| before.is_over());
            let lane = U96::from(number);
            if over && self.chain.read(self.config.escrow, &Escrow::isLaneFreeCall { buyer, lane }, None).await? {
                free.push((number, *before));
            }
        }
        notes::change(&*self.memory, &key, |stands: Option<Vec<HoldId>>| {
            let mut lanes = stands.unwrap_or_default();
            let reused = free.iter().find(|(number, before)| lanes.get(*number) == Some(before));
            let number = reused.map_or(lanes.len(), |(number, _)| *number);
            match lanes.get_mut(number) {
                Some(lane) => *lane = hold,
                None => lanes.push(hold),
            }
            Ok((Some(lanes), number as u64))
        })
        .await
    }
}
