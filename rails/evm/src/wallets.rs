//! Whose wallet is whose, and which lanes a wallet's agreements occupy.

use alloy_primitives::{Address, aliases::U96};
use tradepost::{
    ids::{AgentId, HoldId},
    rail::Decline,
};

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

    /// The wallet that an agent takes part with: the one that its contract names (PG-02), and that has to be the
    /// linked one where one is linked; or else the linked one.
    pub(crate) async fn wallet_named(
        &self,
        agent: AgentId,
        named: Option<&str>,
    ) -> Result<Result<Address, Decline>, EvmError> {
        let linked = self.wallet(agent).await?;
        let decline = |code: &str, message: String| Ok(Err(Decline { code: code.into(), message }));
        let Some(named) = named else {
            let none = || Decline { code: "no_wallet".into(), message: format!("agent {agent} has no wallet") };
            return Ok(linked.ok_or_else(none));
        };
        let Some(wallet) = address_of(named) else {
            return decline("bad_account", format!("{named:?} is no address with a right checksum"));
        };
        match (self.check_wallet(wallet), linked.filter(|linked| *linked != wallet)) {
            (Err(error), _) => decline("bad_account", error.to_string()),
            (Ok(()), Some(linked)) => {
                decline("another_wallet", format!("the contract names {wallet}, agent {agent} is linked to {linked}"))
            }
            (Ok(()), None) => Ok(Ok(wallet)),
        }
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

/// An address in either of its spellings: digits of one case, or of both by EIP-55, which shows slips.
fn address_of(text: &str) -> Option<Address> {
    let digits = text.strip_prefix("0x")?;
    let mixed = digits.contains(|c: char| c.is_ascii_uppercase()) && digits.contains(|c: char| c.is_ascii_lowercase());
    match mixed {
        true => Address::parse_checksummed(text, None).ok(),
        false => text.parse().ok(),
    }
}
