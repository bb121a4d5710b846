//! A hold: everything the rail knows about it, in one note.
//!
//! Whether an instruction is done or declined is decided by a change of this note, so that the chain's news
//! and a deadline that passes cannot both win: what is declined is never done later, and the other way round.

use alloy_primitives::{B256, U256, keccak256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};
use tradepost::{
    ids::{AgentId, HoldId, InstructionId},
    rail::{Decline, Leg, Observation, Order, Receipt},
};

use crate::{
    abi::{Agreement, BuyerActivationIntent, SettlementTerms},
    error::EvmError,
    notes,
    rail::EvmRail,
    standing::Standing,
};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// Every attempt to fund it, newest last.
    pub(crate) fundings: Vec<Funding>,
    pub(crate) funded: Option<Funded>,
    /// Where it stands on the blocks that were read; read anew while there is none.
    #[serde(default)]
    pub(crate) standing: Option<Standing>,
    /// Every attempt to divide it, newest last.
    pub(crate) settlings: Vec<Settling>,
    pub(crate) end: Option<End>,
    /// What the payer owes the platform besides (PG-06).
    #[serde(default)]
    pub(crate) fee: Option<crate::fees::Fee>,
}

/// An attempt to fund.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Funding {
    pub(crate) id: InstructionId,
    pub(crate) payer: AgentId,
    pub(crate) payee: AgentId,
    /// The agreements that the payer may fund; one of them is.
    pub(crate) offers: Vec<Offer>,
    /// Unix time until which the payer's signature is good.
    pub(crate) until: u64,
    /// Under which name the relayer sends it; `direct` when the payer does.
    pub(crate) work: Option<String>,
    pub(crate) declined: Option<Decline>,
    /// The payer's nonces at the token that it was shown, newest last; the infrastructure fee's permit counts on
    /// from one of them.
    #[serde(default)]
    pub(crate) shown: Vec<U256>,
}

/// An agreement as it would be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) agreement: B256,
    pub(crate) terms: Agreement,
    /// What is signed where it is funded from an allowance.
    pub(crate) intent: Option<Box<(BuyerActivationIntent, SettlementTerms)>>,
}

/// A hold that the contract has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Funded {
    pub(crate) agreement: B256,
    pub(crate) terms: Agreement,
    /// Who pays, and who is paid.
    pub(crate) parties: (AgentId, AgentId),
    /// The block of it.
    pub(crate) block: u64,
    pub(crate) receipt: Receipt,
}

/// An attempt to divide.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settling {
    pub(crate) id: InstructionId,
    pub(crate) legs: Vec<Leg>,
    /// Unix time until which the parties' signatures are good.
    pub(crate) until: u64,
    /// The signatures' first nonce.
    pub(crate) nonce: U256,
    /// What was signed so far.
    pub(crate) signed: Vec<(crate::ask::Role, Vec<alloy_primitives::Bytes>)>,
    pub(crate) work: Option<String>,
    pub(crate) declined: Option<Decline>,
}

/// How a hold ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct End {
    /// The instruction whose legs these are; `None` when the parties did otherwise.
    pub(crate) by: Option<InstructionId>,
    /// The block up to which the chain was read then.
    pub(crate) at: u64,
    pub(crate) observation: Observation,
    pub(crate) receipt: Option<Receipt>,
}

impl Offer {
    pub(crate) fn new(terms: Agreement, intent: Option<Box<(BuyerActivationIntent, SettlementTerms)>>) -> Self {
        Self { agreement: agreement_id(&terms), terms, intent }
    }
}

/// The id of an agreement: the hash of its terms.
pub(crate) fn agreement_id(terms: &Agreement) -> B256 {
    keccak256(terms.abi_encode())
}

impl Hold {
    pub(crate) fn funding(&self, id: InstructionId) -> Option<&Funding> {
        self.fundings.iter().find(|funding| funding.id == id)
    }

    pub(crate) fn settling(&self, id: InstructionId) -> Option<&Settling> {
        self.settlings.iter().find(|settling| settling.id == id)
    }

    /// Whether it holds nothing and never will, as far as we go.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some() || (self.funded.is_none() && self.fundings.iter().all(|funding| funding.declined.is_some()))
    }
}

/// An agreement's hold, by the agreement's id.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Belongs {
    pub(crate) hold: HoldId,
}

impl EvmRail {
    pub(crate) async fn hold(&self, hold: HoldId) -> Result<Option<Hold>, EvmError> {
        notes::read(&*self.memory, &hold_key(hold)).await
    }

    /// Changes a hold's note; what it is afterwards, and whatever `change` answers.
    pub(crate) async fn change_hold<R>(
        &self,
        hold: HoldId,
        mut change: impl FnMut(&mut Hold) -> R,
    ) -> Result<(Hold, R), EvmError> {
        notes::change(&*self.memory, &hold_key(hold), |before: Option<Hold>| {
            let mut next = before.unwrap_or_default();
            let answer = change(&mut next);
            Ok((Some(next.clone()), (next, answer)))
        })
        .await
    }

    /// The order of an instruction that was given before.
    pub(crate) async fn order(&self, id: InstructionId) -> Result<Option<Order>, EvmError> {
        notes::read(&*self.memory, &format!("order/{id}")).await
    }

    /// Keeps an instruction's order, which never changes.
    pub(crate) async fn keep_order(&self, id: InstructionId, order: &Order) -> Result<(), EvmError> {
        let before: Order = notes::change(&*self.memory, &format!("order/{id}"), |before: Option<Order>| {
            let stands = before.clone().unwrap_or_else(|| order.clone());
            Ok((before.is_none().then(|| order.clone()), stands))
        })
        .await?;
        match before == *order {
            true => Ok(()),
            false => Err(EvmError::Refused(format!("instruction {id} was given before with another order"))),
        }
    }

    pub(crate) async fn hold_of(&self, agreement: B256) -> Result<Option<HoldId>, EvmError> {
        let belongs: Option<Belongs> = notes::read(&*self.memory, &format!("agreement/{agreement}")).await?;
        Ok(belongs.map(|belongs| belongs.hold))
    }

    pub(crate) async fn keep_agreement(&self, agreement: B256, hold: HoldId) -> Result<(), EvmError> {
        notes::put(&*self.memory, &format!("agreement/{agreement}"), &Belongs { hold }).await
    }
}

fn hold_key(hold: HoldId) -> String {
    format!("hold/{hold}")
}
