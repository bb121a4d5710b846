//! What an embedder chooses.

use std::str::FromStr;

use solana_commitment_config::CommitmentConfig;
use solana_hash::Hash;
use solana_pubkey::{Pubkey, pubkey};
use tradepost::{
    ids::RailId,
    money::{Currency, Money},
    policy::Range,
    rail::{Capability, Custody, RailProfile},
};

/// When a transaction counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finality {
    /// Two thirds of the stake voted for its block: about a second. It has never been undone, but the
    /// protocol does not promise that it will not be.
    Confirmed,
    /// Its block is rooted: about 13 seconds.
    #[default]
    Finalized,
}

impl Finality {
    pub(crate) const fn commitment(self) -> CommitmentConfig {
        match self {
            Self::Confirmed => CommitmentConfig::confirmed(),
            Self::Finalized => CommitmentConfig::finalized(),
        }
    }
}

/// Transactions signed on durable nonces instead of blockhashes, so that they stay good until they land: for
/// signers that take longer than the minute or so that a blockhash lives.
///
/// Each lane is a nonce account of the treasury's, and carries one transaction at a time. The rail makes the
/// accounts by itself; the README says where they are and how to get them back. The transaction that makes the first
/// ones is the only one that has to be signed within a blockhash's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurableNonces {
    /// How many transactions may be on their way at once: 1 to 16. Each lane costs the rent of a nonce account
    /// once, about 0.0015 SOL.
    pub lanes: u8,
    /// A transaction that has not landed this many slots after it was first sent is called off: its nonce is advanced,
    /// and once that is final its withdrawals are signed anew. 1500 slots are about ten minutes.
    pub call_off_after: u64,
}

/// How the rail behaves. Begin with [`SolanaConfig::mainnet`] or [`SolanaConfig::devnet`].
#[derive(Clone, Debug)]
pub struct SolanaConfig {
    /// The rail's name (`solana`).
    pub id: RailId,
    /// What the mint's token is in the books; its exponent must be the mint's decimals (USDC, 6).
    pub currency: Currency,
    /// The token, of the classic SPL token program.
    pub mint: Pubkey,
    /// The cluster, by the hash of its genesis. A node of another cluster is refused.
    pub genesis: Hash,
    /// Deposits are read from this slot on: any slot before the first address was handed out that the node still has.
    pub first_slot: u64,
    /// When a transaction counts (finalized).
    pub finality: Finality,
    /// What one withdrawal may be, in minor units.
    pub amounts: Range<i64>,
    /// A withdrawal above this waits for an operator, in minor units; `None` for none.
    pub approval_above: Option<i64>,
    /// How many withdrawals share a transaction at most (10); what does not fit goes into the next.
    pub batch: usize,
    /// Durable nonces (`None`: a transaction lives as long as its blockhash).
    pub durable_nonces: Option<DurableNonces>,
    /// What the treasury bids for a compute unit, in millionths of a lamport (0: no bid, base fee only).
    pub priority_fee: u64,
    /// How many compute units a bid is for beyond those that the simulation took, in percent of them (10): the accounts
    /// may look otherwise by then.
    pub spare_units: u8,
    /// A deposit address is swept once it holds this much, in minor units (1 USDC): less is credited
    /// like any deposit, and waits until a sweep is worth its fee.
    pub sweep_from: i64,
    /// The treasury is low on SOL under this, in lamports (0.1 SOL).
    pub low_sol: u64,
    /// The treasury is low on the token under this, in minor units (0: only when a withdrawal waits).
    pub low_token: i64,
    /// How many blocks one poll for deposits reads at most (64).
    pub blocks_per_poll: usize,
    /// Addresses known to be shared by many people, such as exchanges' hot wallets:
    /// [`SolanaRail::check_address`](crate::SolanaRail::check_address) warns of them.
    pub shared_addresses: Vec<Pubkey>,
}

impl SolanaConfig {
    /// Circle's USDC on the main network.
    pub fn mainnet(first_slot: u64) -> Self {
        let genesis = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d";
        Self::usdc(pubkey!("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGkGwyTDt1v"), genesis, first_slot)
    }

    /// Circle's USDC on devnet.
    pub fn devnet(first_slot: u64) -> Self {
        let genesis = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxkPkZBG";
        Self::usdc(pubkey!("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"), genesis, first_slot)
    }

    /// A token of six decimals on another cluster, such as a local validator.
    pub fn local(mint: Pubkey, genesis: Hash, first_slot: u64) -> Self {
        Self {
            id: RailId::new("solana"),
            currency: Currency::USDC,
            mint,
            genesis,
            first_slot,
            finality: Finality::Finalized,
            amounts: Range { min: 1, max: 1_000_000_000_000 },
            approval_above: None,
            batch: 10,
            durable_nonces: None,
            priority_fee: 0,
            spare_units: 10,
            sweep_from: 1_000_000,
            low_sol: 100_000_000,
            low_token: 0,
            blocks_per_poll: 64,
            shared_addresses: Vec::new(),
        }
    }

    fn usdc(mint: Pubkey, genesis: &str, first_slot: u64) -> Self {
        Self::local(mint, Hash::from_str(genesis).expect("a constant that a test reads"), first_slot)
    }

    pub(crate) fn profile(&self) -> RailProfile {
        RailProfile {
            id: self.id,
            currency: self.currency,
            custody: Custody::Pooled,
            capabilities: vec![Capability::Payout, Capability::Deposit],
            amounts: self.amounts,
            hold_expiry: None,
            reversible_for: None,
        }
    }

    pub(crate) fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_clusters_are_well_formed() {
        assert_ne!(SolanaConfig::mainnet(1).genesis, SolanaConfig::devnet(1).genesis);
    }
}
