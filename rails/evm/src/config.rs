//! What an embedder chooses.

use alloy_primitives::Address;
use tradepost::{
    ids::RailId,
    money::{Currency, Money},
    policy::{Range, Span},
    rail::{Capability, Custody, RailProfile},
};

use crate::sign::Domain;

/// How the rail behaves. Begin with [`EvmConfig::new`].
#[derive(Clone, Debug)]
pub struct EvmConfig {
    /// The rail's name (`evm`). Several chains are several rails with names of their own.
    pub id: RailId,
    /// What the token is in the books; its exponent must be the token's decimals (USDC, 6).
    pub currency: Currency,
    /// The chain; a node of another is refused.
    pub chain_id: u64,
    /// The escrow contract.
    pub escrow: Address,
    /// The name of the domain that activations are signed under (`MeteringEscrowV2`).
    pub activation_name: String,
    /// The name of the domain that everything else is signed under (`MeteringEscrow`).
    pub settlement_name: String,
    /// The token.
    pub token: Address,
    /// The name of the token's own domain (`USDC` on Base Sepolia, `USD Coin` on Base).
    pub token_name: String,
    /// Its version (`2`).
    pub token_version: String,
    /// The chain is read from this block on: any block before the first agreement.
    pub first_block: u64,
    /// How many blocks stand on a block before it counts (12). A reorg deeper than this is an incident.
    pub confirmations: u64,
    /// How many blocks one reading of the chain takes in at most (2 000).
    pub blocks_at_once: u64,
    /// What one hold may be, in minor units.
    pub amounts: Range<i64>,
    /// How long a hold lives (30 days), its challenge window included.
    pub hold_lives: Span,
    /// How long a close can be challenged, unless the order says otherwise (24 h).
    pub challenge_window: Span,
    /// How long a party has to sign what it is asked for (1 h). What is not signed by then is declined.
    pub signing_window: Span,
    /// What the relayer pays.
    pub gas: GasPolicy,
}

/// What the relayer pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasPolicy {
    /// The most for one unit of gas, tip included, in wei (100 gwei).
    pub max_fee: u128,
    /// The most as a tip for one unit of gas, in wei (2 gwei).
    pub max_tip: u128,
    /// The most gas in one transaction (1 500 000).
    pub max_gas: u64,
    /// A transaction that is in no block after this many is sent again for more (3).
    pub bump_after: u64,
    /// What may be spent in a day of the chain's time, in wei (0.1 ether). What it could not pay for waits.
    pub daily_budget: u128,
}

impl Default for GasPolicy {
    fn default() -> Self {
        Self {
            max_fee: 100_000_000_000,
            max_tip: 2_000_000_000,
            max_gas: 1_500_000,
            bump_after: 3,
            daily_budget: 100_000_000_000_000_000,
        }
    }
}

impl EvmConfig {
    /// A token named and versioned as USDC is on Base Sepolia.
    pub fn new(chain_id: u64, escrow: Address, token: Address, first_block: u64) -> Self {
        Self {
            id: RailId::new("evm"),
            currency: Currency::USDC,
            chain_id,
            escrow,
            activation_name: "MeteringEscrowV2".into(),
            settlement_name: "MeteringEscrow".into(),
            token,
            token_name: "USDC".into(),
            token_version: "2".into(),
            first_block,
            confirmations: 12,
            blocks_at_once: 2_000,
            amounts: Range { min: 1, max: 1_000_000_000_000 },
            hold_lives: Span::hours(30 * 24),
            challenge_window: Span::hours(24),
            signing_window: Span::hours(1),
            gas: GasPolicy::default(),
        }
    }

    /// The domain that activations are signed under.
    pub fn activation_domain(&self) -> Domain {
        self.domain(&self.activation_name, "1", self.escrow)
    }

    /// The domain that everything else for the contract is signed under.
    pub fn settlement_domain(&self) -> Domain {
        self.domain(&self.settlement_name, "1", self.escrow)
    }

    /// The token's own domain.
    pub fn token_domain(&self) -> Domain {
        self.domain(&self.token_name, &self.token_version, self.token)
    }

    fn domain(&self, name: &str, version: &str, verifying_contract: Address) -> Domain {
        Domain { name: name.into(), version: version.into(), chain_id: self.chain_id, verifying_contract }
    }

    pub(crate) fn profile(&self) -> RailProfile {
        RailProfile {
            id: self.id,
            currency: self.currency,
            custody: Custody::NonCustodial,
            capabilities: vec![Capability::Split, Capability::Close, Capability::SeparateFee],
            amounts: self.amounts,
            hold_expiry: Some(self.hold_lives),
            reversible_for: None,
        }
    }

    pub(crate) const fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.currency)
    }
}
