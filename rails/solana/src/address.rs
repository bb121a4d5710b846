//! Where money may be sent.

use std::str::FromStr;

use solana_pubkey::Pubkey;
use spl_associated_token_account_interface::address::get_associated_token_address;
use tradepost::rail::Decline;

/// The program whose accounts look like the classic program's and are not.
pub(crate) const TOKEN_2022: Pubkey = solana_pubkey::pubkey!("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");

/// Why money cannot be sent to an address. The code of the decline is the name in snake case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// No address was given, and this rail knows none by itself.
    #[error("no address was given")]
    Missing,
    /// Not 32 bytes in base58.
    #[error("{text:?} is not a Solana address: 32 bytes in base58")]
    NotBase58 {
        /// What came, shortened.
        text: String,
    },
    /// No key can sign for it: a program's account, whose owner may not be able to move the token on.
    #[error("{address} is not on the curve: nobody has a key for it")]
    OffCurve {
        /// The address.
        address: Pubkey,
    },
    /// A token account. The rail finds it from the wallet's address by itself; given in its place, the
    /// money would go to a token account of the token account.
    #[error("{address} is a token account; give the wallet that owns it")]
    TokenAccount {
        /// The address.
        address: Pubkey,
    },
    /// A program, or an account that a program owns.
    #[error("{address} is an account of program {program}, not a wallet")]
    NotAWallet {
        /// The address.
        address: Pubkey,
        /// What owns it.
        program: Pubkey,
    },
    /// The treasury: paying it would change the books and not the chain.
    #[error("{address} is the treasury itself")]
    Treasury {
        /// The address.
        address: Pubkey,
    },
    /// A deposit address of an agent's: what comes in there would have the treasury as its source, which would be
    /// the agent's emergency address for ever.
    #[error("{address} is a deposit address of this platform")]
    Deposit {
        /// The address.
        address: Pubkey,
    },
    /// The token's issuer froze the receiver's token account.
    #[error("the token account {account} of {address} is frozen by the token's issuer")]
    Frozen {
        /// The address.
        address: Pubkey,
        /// Its token account.
        account: Pubkey,
    },
    /// The token account at the place where the wallet's should be belongs to somebody else by now.
    #[error("the token account {account} of {address} belongs to {owner}")]
    GivenAway {
        /// The address.
        address: Pubkey,
        /// Its token account.
        account: Pubkey,
        /// Who owns it now.
        owner: Pubkey,
    },
}

impl AddressError {
    pub(crate) fn decline(&self) -> Decline {
        let code = match self {
            Self::Missing => "missing_address",
            Self::NotBase58 { .. } => "not_base58",
            Self::OffCurve { .. } => "off_curve",
            Self::TokenAccount { .. } => "token_account",
            Self::NotAWallet { .. } => "not_a_wallet",
            Self::Treasury { .. } => "treasury",
            Self::Deposit { .. } => "deposit_address",
            Self::Frozen { .. } => "account_frozen",
            Self::GivenAway { .. } => "given_away",
        };
        Decline { code: code.into(), message: self.to_string() }
    }
}

/// An address that money can be sent to, and what is odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedAddress {
    /// The wallet.
    pub wallet: Pubkey,
    /// Its token account, which is made with the first withdrawal if it does not exist.
    pub token_account: Pubkey,
    /// What the embedder may want to tell its user.
    pub warnings: Vec<AddressWarning>,
}

/// What is odd about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressWarning {
    /// Shared by many people: money sent back here (by a panic) may reach nobody.
    Shared,
    /// Has never been used; it may be a typing mistake.
    Unused,
}

/// The wallet that a text names, as far as the text alone tells.
pub(crate) fn parse(text: &str, treasury: &Pubkey, mint: &Pubkey) -> Result<Pubkey, AddressError> {
    let wallet =
        Pubkey::from_str(text).map_err(|_| AddressError::NotBase58 { text: text.chars().take(64).collect() })?;
    if wallet == *treasury || wallet == token_account(treasury, mint) {
        return Err(AddressError::Treasury { address: wallet });
    }
    Ok(wallet)
}

/// Where a wallet's money is.
pub(crate) fn token_account(wallet: &Pubkey, mint: &Pubkey) -> Pubkey {
    get_associated_token_address(wallet, mint)
}
