//! What can go wrong, and what that says to the engine.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolInterface;
use tradepost::{
    rail::{RailError, RailErrorKind},
    store::StoreError,
};

use crate::{abi::Escrow, screen::ScreenError, sign::SignatureProblem};

/// Why the rail could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvmError {
    /// The node did not answer.
    #[error("the node does not answer: {0}")]
    Unreachable(String),
    /// The node answered that it cannot say, or not properly.
    #[error("the node: {0}")]
    Node(String),
    /// The node is of another chain.
    #[error("the node is of chain {found}, configured is {configured}")]
    WrongChain {
        /// What it says.
        found: u64,
        /// What is configured.
        configured: u64,
    },
    /// Something at an address is not what is configured.
    #[error("{what} at {address}: {found}")]
    WrongContract {
        /// What was expected there.
        what: &'static str,
        /// Where.
        address: Address,
        /// What was found.
        found: String,
    },
    /// The node's answers contradict each other.
    #[error("the node contradicts itself: {0}")]
    Contradiction(String),
    /// The contract or the token refuses.
    #[error("it would be refused on chain: {0}")]
    Reverted(Revert),
    /// A signature is no good.
    #[error("{what}: {problem}")]
    Signature {
        /// Which.
        what: &'static str,
        /// Why.
        problem: SignatureProblem,
    },
    /// An answer that is no answer to what was asked.
    #[error("the answer does not fit: {0}")]
    Answer(String),
    /// An address that cannot be a party.
    #[error("{address} cannot be a party's wallet: {why}")]
    Wallet {
        /// Which.
        address: Address,
        /// Why not.
        why: &'static str,
    },
    /// Terms that the contract cannot keep.
    #[error("{field} {value}: {allowed}")]
    Terms {
        /// Which.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// There is nothing there to act on.
    #[error("no {what} {id}")]
    Unknown {
        /// What.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// Gas costs more than is allowed.
    #[error("gas costs {base_fee} wei and a tip of {tip}, allowed are {cap} in all")]
    GasPrice {
        /// The block's base fee, in wei per gas.
        base_fee: u128,
        /// The tip, in wei per gas.
        tip: u128,
        /// The most, in wei per gas.
        cap: u128,
    },
    /// A transaction would use more gas than is allowed.
    #[error("the transaction uses {gas} gas, allowed are {cap}")]
    GasLimit {
        /// What it uses.
        gas: u64,
        /// The most.
        cap: u64,
    },
    /// The relayer has spent what it may.
    #[error("the relayer's budget of {budget} wei a day is used up: {spent} spent or promised, {needed} needed")]
    Budget {
        /// What it may spend in a day, in wei.
        budget: u128,
        /// What it has spent today or promised, in wei.
        spent: u128,
        /// What this would cost at most, in wei.
        needed: u128,
    },
    /// The relayer has too much on its way.
    #[error("the relayer has {most} transactions on their way, which is the most")]
    Queue {
        /// How many may be.
        most: usize,
    },
    /// Wallets cannot be screened, so nobody passes (PG-16).
    #[error("wallets cannot be screened: {0}")]
    Screen(#[from] ScreenError),
    /// The rail's memory failed.
    #[error("the rail's memory: {0}")]
    Memory(#[from] StoreError),
    /// The rail's memory holds what it cannot read.
    #[error("the rail's memory holds something else under {key}: {why}")]
    Unreadable {
        /// Under which key.
        key: String,
        /// Why it cannot be read.
        why: String,
    },
    /// Others were faster too often.
    #[error("others changed {key} {attempts} times meanwhile")]
    Contention {
        /// What.
        key: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The platform's own key could not sign.
    #[error("the platform's key: {0}")]
    Signer(#[from] alloy_signer::Error),
    /// The order cannot be carried out as it stands.
    #[error("{0}")]
    Refused(String),
}

impl EvmError {
    /// What it says about an instruction that was being carried out.
    ///
    /// Everything that is sent is written down first and found again by `lookup`, so that an error never
    /// leaves the outcome unknown to the rail itself.
    pub const fn kind(&self) -> RailErrorKind {
        match self {
            Self::Unreachable(_)
            | Self::Node(_)
            | Self::Contradiction(_)
            | Self::Memory(_)
            | Self::Contention { .. }
            | Self::Signer(_) => RailErrorKind::Unknown,
            Self::GasPrice { .. } | Self::Budget { .. } | Self::Queue { .. } | Self::Screen(_) => {
                RailErrorKind::NotSent
            }
            Self::WrongChain { .. }
            | Self::WrongContract { .. }
            | Self::Reverted(_)
            | Self::Signature { .. }
            | Self::Answer(_)
            | Self::Wallet { .. }
            | Self::Terms { .. }
            | Self::Unknown { .. }
            | Self::GasLimit { .. }
            | Self::Unreadable { .. }
            | Self::Refused(_) => RailErrorKind::Refused,
        }
    }
}

impl From<EvmError> for RailError {
    fn from(error: EvmError) -> Self {
        Self::new(error.kind(), error.to_string()).caused_by(error)
    }
}

/// What the contract or the token said when it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert {
    /// The error's name: `WrongSignature`; `token` for a refusal of the token's own.
    pub name: String,
    /// In words, with its values.
    pub text: String,
}

impl Revert {
    pub(crate) fn of(data: &[u8]) -> Self {
        match Escrow::EscrowErrors::abi_decode(data) {
            Ok(Escrow::EscrowErrors::BatchFailed(failed)) => Self::of(&failed.reason),
            Ok(error) => {
                let name = Escrow::EscrowErrors::name_by_selector(error.selector()).unwrap_or("?");
                Self { name: name.into(), text: words(&error) }
            }
            Err(_) => {
                let text =
                    alloy_sol_types::decode_revert_reason(data).unwrap_or_else(|| format!("0x{}", hex::encode(data)));
                Self { name: "token".into(), text }
            }
        }
    }

    /// Whether the payer's tokens or allowance fall short.
    pub(crate) fn is_short(&self) -> bool {
        matches!(self.name.as_str(), "AllowanceTooLow" | "DepositNotExact")
    }
}

impl std::fmt::Display for Revert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.text)
    }
}

fn words(error: &Escrow::EscrowErrors) -> String {
    use Escrow::EscrowErrors as E;
    let key = |digest: &B256| format!("over {digest}");
    let short = |field: &B256| String::from_utf8_lossy(field.as_slice()).trim_end_matches('\0').to_owned();
    let times = |a: &U256, b: &U256| format!("{a}, it is {b}");
    match error {
        E::SignatureExpired(e) => format!("it was good until {}", times(&e.deadline, &e.timestamp)),
        E::NonceAlreadyUsed(e) => format!("{} has used or revoked nonce {}", e.signer, e.nonce),
        E::WrongSignature(e) => format!("it is not {}'s {}", e.signer, key(&e.digest)),
        E::InvalidAddress(e) => format!("{} may not be {}", short(&e.field), e.value),
        E::TooSmall(e) => format!("{} is {}, at least {} is allowed", short(&e.field), e.value, e.min),
        E::TooLarge(e) => format!("{} is {}, at most {} is allowed", short(&e.field), e.value, e.max),
        E::TokenHasNoCode(e) => format!("{} is no contract", e.token),
        E::AlreadyExpired(e) => format!("it expired at {}", times(&e.expiry, &e.timestamp)),
        E::LaneBusy(e) => format!("lane {} of {} is taken", e.lane, e.buyer),
        E::TermsMismatch(e) => format!("signed is {}, the terms are {}", e.signed, e.actual),
        E::UnknownAgreement(e) => format!("{:#x} is not in its lane", e.id),
        E::NotAuthorized(e) => format!("{} called, needed is {}", e.caller, e.required),
        E::NotAParty(e) => format!("{} is neither {} nor {}", e.account, e.buyer, e.seller),
        E::AlreadyFinal(e) => format!("{:#x} is final since {}", e.id, e.finalAt),
        E::NotFinal(e) => format!("{:#x} is final from {} on", e.id, e.finalAt),
        E::AlreadyClosing(e) => format!("{:#x} is final from {} on", e.id, e.finalAt),
        E::ReceiptsDisabled(e) => format!("{:#x} names no receipt signer", e.id),
        E::OverQuantity(e) => format!("{} units of {}", e.units, e.quantity),
        E::ReceiptNotNewer(e) => format!("worth {}, earned is {} already", e.amount, e.earned),
        E::AboveDeposit(e) => format!("{} of a deposit of {}", e.amount, e.deposit),
        E::BelowPaid(e) => format!("{}, paid is {} already", e.amount, e.paid),
        E::FeeNotLower(e) => format!("{} is not below {}", e.feeBps, e.current),
        E::NothingDue(e) => format!("{} is owed nothing", e.account),
        E::BatchFailed(e) => format!("call {}", e.index),
        E::DepositNotExact(e) => format!("{} arrived of {}", e.received, e.expected),
        E::AllowanceTooLow(e) => format!("{} is allowed of {}", e.allowance, e.required),
    }
}
