//! What the rail asks of a party, and what it answers. Both travel as JSON, in the action's payload and in the
//! instruction's answer.

use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};
use tradepost::ids::{HoldId, InstructionId};

use crate::{abi::Agreement, error::EvmError, sign::Signable};

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Who pays.
    Buyer,
    /// Who is paid.
    Seller,
    /// Who decides when they disagree.
    Arbiter,
}

/// What a party is asked for: one of the choices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// The instruction that asks.
    pub instruction: InstructionId,
    /// The hold it is about.
    pub hold: HoldId,
    /// Whose wallet has to sign or send.
    pub signer: Address,
    /// Unix time until which signatures are good; afterwards the instruction is declined.
    pub until: u64,
    /// Each is enough.
    pub choices: Vec<Choice>,
}

/// A way of doing what is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Choice {
    /// Its name: `eip3009`, `erc2612_permit`, `prior_allowance`, `release`, `waive`.
    pub name: String,
    /// The agreement's id.
    pub agreement: B256,
    /// The agreement's terms.
    pub terms: Agreement,
    /// What to sign, in this order, for the platform to relay at its own expense.
    pub sign: Vec<Signable>,
    /// The infrastructure fee's permit, to be signed too: it moves nothing before the hold is funded, and
    /// the hold stands whatever becomes of it (PG-06). `None` where the fee is waived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<Signable>,
    /// What the party may send by itself instead; nobody has to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<Call>,
}

/// A transaction that is not signed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// On which chain.
    pub chain_id: u64,
    /// Who has to send it.
    pub from: Address,
    /// To which contract.
    pub to: Address,
    /// What.
    pub data: Bytes,
}

/// What a party answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It signed one of the choices.
    Signed {
        /// Which.
        choice: String,
        /// The signatures, in the choice's order.
        signatures: Vec<Bytes>,
        /// The fee permit's, where the choice has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fee: Option<Bytes>,
    },
    /// It sent the transaction by itself.
    Sent,
    /// It will not.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Ask {
    /// Reads the payload of an action.
    ///
    /// # Errors
    /// When it is none of this rail's.
    pub fn parse(payload: &str) -> Result<Self, EvmError> {
        serde_json::from_str(payload).map_err(|error| EvmError::Answer(error.to_string()))
    }

    /// Signs one of the choices with a key at hand.
    ///
    /// # Errors
    /// When there is no such choice, or the key cannot sign.
    pub fn sign(&self, choice: &str, key: &alloy_signer_local::PrivateKeySigner) -> Result<Answer, EvmError> {
        let found = self.choices.iter().find(|one| one.name == choice);
        let found = found.ok_or_else(|| EvmError::Unknown { what: "choice", id: choice.into() })?;
        let signatures = found.sign.iter().map(|message| message.sign(key)).collect::<Result<_, _>>()?;
        let fee = found.fee.as_ref().map(|permit| permit.sign(key)).transpose()?;
        Ok(Answer::Signed { choice: choice.into(), signatures, fee })
    }

    pub(crate) fn payload(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Answer {
    /// The answer as an instruction carries it.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn parse(text: &str) -> Result<Self, EvmError> {
        serde_json::from_str(text).map_err(|error| EvmError::Answer(error.to_string()))
    }
}
