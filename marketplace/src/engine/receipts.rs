//! Receipts of what was settled (PG-14), as the books have it: nothing is kept for them, so they cannot
//! disagree with the ledger.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Marketplace, Role};
use crate::{
    agreement::{Agreement, AgreementStatus},
    clock::Timestamp,
    error::{Error, Rejection},
    hold::HoldState,
    ids::{AgentId, HoldId, RailId},
    job::{Job, JobStatus},
    ledger::{Account, TransferKind, escrow},
    money::Money,
    rail::{Leg, Order, Party},
    store::{InstructionState, Kept, Key, Kind, Query, Record},
};

/// The most receipts that one call lists.
const PAGE: u32 = 50;
/// The most entries that a hold's account has: it is filled and emptied once, or once more the other way.
const ENTRIES: u32 = 100;

/// Proof that a contract's money was divided, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementReceipt {
    /// Its id: the hold's, which is the contract's.
    pub id: HoldId,
    /// What the contract is.
    pub contract: Kind,
    /// The rail the money moved on.
    pub rail: RailId,
    /// Who paid.
    pub buyer: AgentId,
    /// Who worked, if anybody did.
    pub worker: Option<AgentId>,
    /// Who got what; they add up to what was reserved.
    pub legs: Vec<Leg>,
    /// What the rail calls it; empty where the ledger is the money.
    pub reference: String,
    /// When the division was decided.
    pub at: Timestamp,
}

/// What a receipt needs to know of a contract.
struct Contract {
    key: Key,
    rail: RailId,
    buyer: AgentId,
    worker: Option<AgentId>,
    hold: HoldState,
}

impl Contract {
    fn of(record: &Record) -> Option<Self> {
        let contract = match record {
            Record::Job(job) => {
                let Job { rail, buyer, worker, hold, .. } = &**job;
                Self { key: job.key(), rail: *rail, buyer: *buyer, worker: *worker, hold: hold.state }
            }
            Record::Agreement(agreement) => {
                let Agreement { rail, buyer, seller, hold, .. } = &**agreement;
                Self { key: agreement.key(), rail: *rail, buyer: *buyer, worker: Some(*seller), hold: hold.state }
            }
            _ => return None,
        };
        Some(contract)
    }

    /// Whose share it is that an escrow account's counterparty got.
    fn party(&self, counterparty: Account) -> Option<Party> {
        let worker = self.worker.unwrap_or(self.buyer);
        match counterparty {
            Account::Available(agent) | Account::Pending(agent) | Account::Debt(agent) if agent == worker => {
                Some(Party::Worker(worker))
            }
            Account::Revenue(_) => Some(Party::Platform),
            Account::Available(_) | Account::Clearing(_) | Account::Rail(_) => Some(Party::Buyer(self.buyer)),
            _ => None,
        }
    }
}

impl Marketplace {
    /// The receipt of a settled contract, by its id.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] while nothing is settled, or the store's failure.
    pub async fn receipt(&self, id: impl Into<HoldId>) -> Result<SettlementReceipt, Error> {
        let id = id.into();
        let contract = self.contract_of(id).await?.as_ref().and_then(Contract::of);
        let receipt = match contract {
            Some(contract) => self.receipt_of(&contract).await?,
            None => None,
        };
        receipt.ok_or_else(|| Rejection::NotFound { what: "receipt", id: id.to_string() }.into())
    }

    /// Whether a receipt that somebody holds is, word for word, what the books say.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn verify_receipt(&self, receipt: &SettlementReceipt) -> Result<bool, Error> {
        match self.receipt(receipt.id).await {
            Ok(known) => Ok(known == *receipt),
            Err(Error::Rejected(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// An agent's receipts, as buyer or as worker, of its newest 50 ended contracts of each kind in that
    /// role, leaving out the newest `offset` of each; by the moment they were decided, newest first.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn receipts(&self, role: Role, offset: u32) -> Result<Vec<SettlementReceipt>, Error> {
        let jobs = JobStatus::ALL.into_iter().filter(|status| status.is_final()).map(JobStatus::as_str);
        let agreements =
            AgreementStatus::ALL.into_iter().filter(|status| status.is_final()).map(AgreementStatus::as_str);
        let mut receipts = Vec::new();
        for (kind, statuses) in [(Kind::Job, jobs.collect()), (Kind::Agreement, agreements.collect::<Vec<_>>())] {
            let query = Query { kind, party: Some(role.party()), statuses, before: None, offset, limit: PAGE };
            for stored in self.inner.store.find(self.inner.market, &query).await? {
                let Some(contract) = Contract::of(&stored.record) else { continue };
                receipts.extend(self.receipt_of(&contract).await?);
            }
        }
        receipts.sort_by_key(|receipt| std::cmp::Reverse((receipt.at, receipt.id)));
        Ok(receipts)
    }

    async fn receipt_of(&self, contract: &Contract) -> Result<Option<SettlementReceipt>, Error> {
        if contract.hold != HoldState::Settled {
            return Ok(None);
        }
        let id = HoldId(contract.key.id);
        let entries = self.history(escrow(id), 0, ENTRIES).await?;
        let (mut shares, mut divided_anew) = (BTreeMap::<Party, Money>::new(), false);
        for entry in entries.iter().filter(|entry| entry.kind != TransferKind::EscrowLock) {
            let Some(party) = contract.party(entry.counterparty) else { continue };
            divided_anew |= entry.kind == TransferKind::Reversal;
            let before = shares.get(&party).copied().unwrap_or(Money::zero(entry.amount.currency()));
            shares.insert(party, before.minus(entry.amount).map_err(Rejection::from)?);
        }
        let settling = self.instructions(id).await?;
        let settling = settling.iter().find(|record| matches!(record.instruction.order, Order::Settle { .. }));
        let reference = match settling.map(|record| &record.state) {
            Some(InstructionState::Done(receipt)) => receipt.reference.clone(),
            // The rail gave the money up before it had divided it: its payer has all of it.
            Some(_) if !divided_anew => {
                let all = shares.values().try_fold(Money::zero(self.currency()), |sum, share| sum.plus(*share));
                shares = BTreeMap::from([(Party::Buyer(contract.buyer), all.map_err(Rejection::from)?)]);
                String::new()
            }
            _ => String::new(),
        };
        let Contract { key, rail, buyer, worker, .. } = *contract;
        let legs = shares.into_iter().filter(|(_, amount)| amount.is_positive());
        let legs: Vec<Leg> = legs.map(|(to, amount)| Leg { to, amount }).collect();
        let at = entries.last().map(|entry| entry.at);
        Ok(at.map(|at| SettlementReceipt { id, contract: key.kind, rail, buyer, worker, legs, reference, at }))
    }
}
