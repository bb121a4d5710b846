//! What needs an operator.

use std::fmt;

use alloy_primitives::{Address, B256};
use tradepost::ids::{HoldId, InstructionId};

/// Something that no rule settles by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incident {
    /// The chain was undone deeper than what counts; it is read again from `back_to` on. What was told of the
    /// blocks between stands in the books: reconcile.
    DeepReorg {
        /// The block up to which the chain had been read.
        read: u64,
        /// The newest block that both chains have.
        back_to: u64,
    },
    /// A payer funded a hold after its funding had been declined, or a second time. The payer gets it back
    /// from the contract when the agreement expires; the books do not have it.
    LateFunding {
        /// The hold.
        hold: HoldId,
        /// The agreement that was funded.
        agreement: B256,
    },
    /// An agreement is final, and what the node told of it does not come to the deposit, or not to what the contract
    /// says was earned. It is asked again ten minutes later; until then the hold stays as it is in the books, and
    /// everything else goes on.
    DoesNotAddUp {
        /// The hold.
        hold: HoldId,
        /// Its agreement.
        agreement: B256,
    },
    /// A transaction for an instruction failed on chain.
    Failed {
        /// The instruction.
        instruction: InstructionId,
        /// The transaction.
        transaction: B256,
    },
    /// The transfer of an infrastructure fee is lost from sight: as far as the node shows, somebody else used its
    /// nonce. It is not sent again, for the payer would pay twice; unless it turns up, the fee fails (PG-06).
    LostFee {
        /// The hold whose fee it is.
        hold: HoldId,
        /// The transfer.
        transaction: B256,
    },
    /// A wallet is on the sanctions list (PG-16).
    Listed {
        /// The wallet.
        wallet: Address,
    },
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeepReorg { read, back_to } => {
                write!(f, "blocks {back_to} to {read} were undone, deeper than what counts")
            }
            Self::LateFunding { hold, agreement } => {
                write!(f, "hold {hold} was funded by {agreement}, which nobody waits for")
            }
            Self::DoesNotAddUp { hold, agreement } => {
                write!(f, "hold {hold}: {agreement} is final, and its logs do not come to its deposit")
            }
            Self::Failed { instruction, transaction } => {
                write!(f, "{transaction} for instruction {instruction} failed")
            }
            Self::LostFee { hold, transaction } => {
                write!(f, "the transfer {transaction} of hold {hold}'s infrastructure fee is lost from sight")
            }
            Self::Listed { wallet } => write!(f, "{wallet} is on the sanctions list"),
        }
    }
}
