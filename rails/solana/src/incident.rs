//! What an operator has to know.

use solana_pubkey::Pubkey;
use solana_signature::Signature;
use tradepost::{ids::InstructionId, money::Money};

/// Something that an operator has to look at. Each is told again as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incident {
    /// The treasury can soon not pay fees and rent any more.
    #[error("the treasury {treasury} has {lamports} lamports, under {floor}")]
    LowSol {
        /// Where to send SOL.
        treasury: Pubkey,
        /// What it has.
        lamports: u64,
        /// What it should have at least.
        floor: u64,
    },
    /// The treasury holds less than it should, or than a withdrawal needs. Deposits that are not swept
    /// yet do not count.
    #[error("the treasury holds {held}, needed are {needed}")]
    LowToken {
        /// What it holds and has not promised yet.
        held: Money,
        /// What it should hold.
        needed: Money,
    },
    /// The token's issuer froze the treasury: every withdrawal waits until it is thawed.
    #[error("the issuer froze the treasury's token account {account}")]
    TreasuryFrozen {
        /// The token account.
        account: Pubkey,
    },
    /// A withdrawal failed on chain and is tried again by itself.
    #[error("withdrawal {instruction} failed on chain {failures} times: {reason}")]
    WithdrawalFailed {
        /// Its instruction.
        instruction: InstructionId,
        /// How often.
        failures: u32,
        /// What the chain said.
        reason: String,
    },
    /// A withdrawal goes to an address that many people share, by the configuration. It is told once, and paid.
    #[error("withdrawal {instruction} goes to {address}, which many people share")]
    SharedAddress {
        /// Its instruction.
        instruction: InstructionId,
        /// The address.
        address: Pubkey,
    },
    /// The token's issuer froze a deposit address: what it holds cannot be swept.
    #[error("the issuer froze the deposit address's token account {account}, which holds {held}")]
    DepositFrozen {
        /// The token account.
        account: Pubkey,
        /// What it holds.
        held: Money,
    },
    /// A sweep cannot be made, or failed on chain. It is tried again by itself.
    #[error("a sweep of {addresses} addresses failed: {reason}")]
    SweepFailed {
        /// How many addresses it would have emptied.
        addresses: usize,
        /// What the chain said.
        reason: String,
    },
    /// A lane of durable nonces cannot be used: its account is not a nonce account of the treasury's any more.
    /// Withdrawals go by the other lanes, and wait if there are none.
    #[error("lane {lane}: {account} is no nonce account that the treasury may advance")]
    NonceUnusable {
        /// Which lane, from 0.
        lane: u8,
        /// Its account.
        account: Pubkey,
    },
    /// Nonce accounts cannot be made, or a nonce cannot be advanced. It is tried again by itself.
    #[error("durable nonces: {reason}")]
    NonceFailed {
        /// What the chain said.
        reason: String,
    },
    /// The signer took longer than the transaction's blockhash lives, about a minute. Nothing was sent; it is signed
    /// again. With [`DurableNonces`](crate::DurableNonces) only the first lanes are signed by a blockhash.
    #[error("the signer took until block height {height} for what could land up to {last_height}")]
    SignedTooLate {
        /// The last block height that could have taken it.
        last_height: u64,
        /// The height when it was signed.
        height: u64,
    },
    /// A transaction on a durable nonce has not landed for long, so it is called off and signed anew.
    #[error("{signature}, signed in slot {signed_in}, has not landed and is called off")]
    CalledOff {
        /// The transaction.
        signature: Signature,
        /// When it was signed.
        signed_in: u64,
    },
    /// The node has not the whole history of the time in which this could land, so nothing proves that it never did.
    /// It waits until a node with the history is asked.
    #[error("the node lacks blocks that could hold {signature}, signed in slot {signed_in}; it starts at slot {first}")]
    HistoryGone {
        /// The transaction.
        signature: Signature,
        /// When it was signed.
        signed_in: u64,
        /// Where the node's history begins. Before `signed_in`, there is a hole in it later on.
        first: u64,
    },
    /// The chain says that a deposit address got another amount than the transfers that this version
    /// reads add up to. Nothing of it was credited.
    #[error("transaction {signature} moved {moved} at {account}, but its transfers add up to {read}")]
    Unexplained {
        /// The transaction.
        signature: Signature,
        /// The token account.
        account: Pubkey,
        /// What its balance changed by, in minor units.
        moved: i128,
        /// What the transfers that were read add up to, in minor units.
        read: i128,
    },
}
