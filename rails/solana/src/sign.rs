//! Building and signing transactions. The treasury pays for all of them.

use base64::{Engine, prelude::BASE64_STANDARD};
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_message::{Message, VersionedMessage};
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_system_interface::instruction::advance_nonce_account;
use solana_transaction::versioned::VersionedTransaction;
use spl_associated_token_account_interface::instruction::create_associated_token_account_idempotent;
use spl_token_interface::instruction::transfer_checked;
use tradepost::rail::{RailError, RailErrorKind};

use crate::{
    chain::nonsense,
    error::unsigned,
    keys::{Key, SignerError},
    nonces::Lane,
    rail::SolanaRail,
};

/// What a packet on the network holds, in bytes.
const PACKET: usize = 1232;
/// The most compute units that a transaction may ask for.
pub(crate) const UNITS: u64 = 1_400_000;

impl SolanaRail {
    /// Moves the token between two token accounts.
    pub(crate) fn transfer(
        &self,
        from: &Pubkey,
        to: &Pubkey,
        owner: &Pubkey,
        minor: u64,
    ) -> Result<Instruction, RailError> {
        let (mint, decimals) = (&self.config.mint, self.config.currency.exponent());
        let built = transfer_checked(&spl_token_interface::ID, from, mint, to, owner, &[], minor, decimals);
        built.map_err(|error| RailError::new(RailErrorKind::Refused, "a transfer cannot be built").caused_by(error))
    }

    /// Makes a wallet's token account, if there is none by then.
    pub(crate) fn create(&self, wallet: &Pubkey) -> Instruction {
        let token = &spl_token_interface::ID;
        create_associated_token_account_idempotent(&self.treasury, wallet, &self.config.mint, token)
    }

    /// The transaction without signatures.
    pub(crate) fn unsigned(&self, instructions: &[Instruction]) -> VersionedTransaction {
        let message = Message::new_with_blockhash(instructions, Some(&self.treasury), &Hash::default());
        let signatures = vec![Signature::default(); usize::from(message.header.num_required_signatures)];
        VersionedTransaction { signatures, message: VersionedMessage::Legacy(message) }
    }

    /// Whether instructions fit into one transaction, together with what comes before them.
    pub(crate) fn fits(&self, lane: Option<&Lane>, instructions: &[Instruction]) -> bool {
        let transaction = self.unsigned(&self.whole(lane, instructions, UNITS));
        bincode::serialized_size(&transaction).is_ok_and(|bytes| bytes <= PACKET as u64)
    }

    /// The instructions after those that a transaction needs first: the one that advances its lane's nonce, and the
    /// bid that the configuration makes for up to so many units. Without a bid there is nothing to say about
    /// units: the base fee does not depend on them.
    pub(crate) fn whole(&self, lane: Option<&Lane>, instructions: &[Instruction], units: u64) -> Vec<Instruction> {
        let mut all = Vec::with_capacity(instructions.len() + 3);
        all.extend(lane.map(|lane| advance_nonce_account(&lane.account, &self.treasury)));
        if self.config.priority_fee > 0 {
            let limit = u32::try_from(units.min(UNITS)).unwrap_or(u32::MAX);
            all.push(ComputeBudgetInstruction::set_compute_unit_limit(limit));
            all.push(ComputeBudgetInstruction::set_compute_unit_price(self.config.priority_fee));
        }
        all.extend_from_slice(instructions);
        all
    }

    /// How many instructions come first.
    pub(crate) fn first(&self, lane: Option<&Lane>) -> usize {
        self.whole(lane, &[], UNITS).len()
    }

    /// Signs with the treasury's key and those given, and checks what the signer gave.
    pub(crate) async fn signed(
        &self,
        instructions: &[Instruction],
        blockhash: Hash,
        keys: &[(Key, Pubkey)],
    ) -> Result<VersionedTransaction, RailError> {
        let message = Message::new_with_blockhash(instructions, Some(&self.treasury), &blockhash);
        let bytes = message.serialize();
        let mut signatures = Vec::new();
        for needed in &message.account_keys[..usize::from(message.header.num_required_signatures)] {
            let treasury = (Key::Treasury, self.treasury);
            let key = std::iter::once(&treasury).chain(keys).find(|(_, address)| address == needed);
            let (key, address) = key.ok_or_else(|| nonsense("a transaction needs a key that it should not"))?;
            let signed = match self.signer.sign(*key, &bytes).await {
                Ok(signature) if signature.verify(address.as_ref(), &bytes) => Ok(signature),
                Ok(_) => Err(SignerError::Failed { reason: format!("the signature for {address} does not hold") }),
                Err(error) => Err(error),
            };
            if let (Err(_), Key::Deposit(number)) = (&signed, key) {
                self.set_apart(*number);
            }
            signatures.push(signed.map_err(unsigned)?);
        }
        Ok(VersionedTransaction { signatures, message: VersionedMessage::Legacy(message) })
    }
}

/// A transaction's bytes, as they are written down.
pub(crate) fn to_text(transaction: &VersionedTransaction) -> Result<String, RailError> {
    let bytes = bincode::serialize(transaction);
    let bytes = bytes.map_err(|error| nonsense("a transaction cannot be written down").caused_by(error))?;
    Ok(BASE64_STANDARD.encode(bytes))
}

/// The transaction that was written down.
pub(crate) fn from_text(text: &str) -> Result<VersionedTransaction, RailError> {
    let corrupt = || RailError::new(RailErrorKind::Refused, "the rail's memory holds bytes that are no transaction");
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| corrupt().caused_by(error))?;
    bincode::deserialize(&bytes).map_err(|error| corrupt().caused_by(error))
}
