//! Comparing the books with the world, and listing what is not settled.

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::Marketplace;
use crate::{
    clock::Timestamp,
    error::Error,
    hold::HoldState,
    ids::{HoldId, InstructionId, MarketId, RailId},
    ledger::{Account, escrow},
    money::Money,
    rail::Custody,
    store::{InstructionRecord, Key, Kind, Observed, OfKind as _, Query, Record, Store, StoreError},
};

/// How many records one page of a listing holds.
const PAGE: u32 = 500;
/// The states of an instruction that has no final outcome.
pub(super) const UNSETTLED: [&str; 5] = ["queued", "unknown", "pending", "needs_action", "mismatch"];

/// The books and a rail, side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// The rail.
    pub rail: RailId,
    /// What the books say it holds.
    pub books: Money,
    /// What it says it holds.
    pub held: Money,
    /// Where they differ; empty when they agree.
    pub differences: Vec<Difference>,
    /// Instructions on the way, each of which may explain a difference.
    pub in_flight: Vec<InstructionId>,
}

/// Where the books and a rail differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "difference")]
#[non_exhaustive]
pub enum Difference {
    /// In all.
    Total {
        /// What the books say.
        books: Money,
        /// What the rail says.
        held: Money,
    },
    /// In one hold.
    Hold {
        /// The hold.
        hold: HoldId,
        /// What the books say is reserved.
        books: Money,
        /// What the rail says.
        held: Money,
    },
}

/// Something that has not reached a final outcome, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// An instruction.
    Instruction(Arc<InstructionRecord>),
    /// Something a rail reported that no rule could take in.
    Refused(Arc<Observed>),
}

impl Unsettled {
    /// In a line, for an operator.
    pub fn why(&self) -> String {
        match self {
            Self::Instruction(record) => match &record.problem {
                Some(problem) => format!("{}: {problem}", record.state.as_str()),
                None => record.state.as_str().into(),
            },
            Self::Refused(observed) => format!("refused: {}", observed.refused.as_deref().unwrap_or_default()),
        }
    }

    /// Since when it waits.
    pub fn since(&self) -> Timestamp {
        match self {
            Self::Instruction(record) => record.given_at,
            Self::Refused(observed) => observed.at,
        }
    }
}

impl Marketplace {
    /// Compares the books with what a rail says it holds. While instructions are on the way the two
    /// may differ honestly; a difference that stays when nothing is in flight is money gone astray.
    ///
    /// For a rail of internal custody the ledger is the money, so the two agree by definition.
    ///
    /// # Errors
    /// The rail's or the store's failure.
    pub async fn reconcile(&self, rail: RailId) -> Result<Reconciliation, Error> {
        let settlement_rail = self.rail(Some(rail))?;
        let balance = self.balance(Account::Rail(rail), None).await?;
        let books = Money::zero(balance.currency()).minus(balance).map_err(crate::error::Rejection::from)?;
        if settlement_rail.profile().custody == Custody::Internal {
            return Ok(Reconciliation { rail, books, held: books, differences: Vec::new(), in_flight: Vec::new() });
        }
        let holdings = settlement_rail.holdings().await?;
        let mut differences = Vec::new();
        if holdings.total != books {
            differences.push(Difference::Total { books, held: holdings.total });
        }
        for (hold, held) in holdings.holds {
            if let Some(books) = self.reserved(hold).await?.filter(|books| *books != held) {
                differences.push(Difference::Hold { hold, books, held });
            }
        }
        let unsettled = self.unsettled().await?;
        let in_flight = unsettled.iter().filter_map(|unsettled| match unsettled {
            Unsettled::Instruction(record) if record.rail == rail => Some(record.instruction.id),
            _ => None,
        });
        Ok(Reconciliation { rail, books, held: holdings.total, differences, in_flight: in_flight.collect() })
    }

    /// What the books reserve for a hold; `None` while the rail is being asked to divide it, when the
    /// books are ahead of the rail.
    async fn reserved(&self, hold: HoldId) -> Result<Option<Money>, Error> {
        let settling = match self.contract_of(hold).await? {
            Some(Record::Job(job)) => matches!(job.hold.state, HoldState::Settling(_)),
            Some(Record::Agreement(agreement)) => matches!(agreement.hold.state, HoldState::Settling(_)),
            _ => false,
        };
        match settling {
            true => Ok(None),
            false => Ok(Some(self.balance(escrow(hold), None).await?)),
        }
    }

    /// The contract that a hold is for; it has the hold's id.
    pub(super) async fn contract_of(&self, hold: HoldId) -> Result<Option<Record>, Error> {
        for kind in [Kind::Job, Kind::Agreement] {
            if let Some(stored) = self.inner.store.load(self.inner.market, Key { kind, id: hold.0 }).await? {
                return Ok(Some(stored.record));
            }
        }
        Ok(None)
    }

    /// Everything that has not reached a final outcome, newest first: what an operator looks at.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn unsettled(&self) -> Result<Vec<Unsettled>, Error> {
        let (store, market) = (&*self.inner.store, self.inner.market);
        let mut open = every(store, market, Kind::Instruction, UNSETTLED.to_vec()).await?;
        open.append(&mut every(store, market, Kind::Observation, vec!["refused"]).await?);
        let unsettled = |record| match record {
            Record::Instruction(record) => Some(Unsettled::Instruction(record)),
            Record::Observation(observed) => Some(Unsettled::Refused(observed)),
            _ => None,
        };
        Ok(open.into_iter().filter_map(unsettled).collect())
    }

    /// The instructions a contract has given, newest first, with what became of them. What a rail asks a
    /// party to do is in [`InstructionState::NeedsAction`](crate::store::InstructionState); a party reads it by
    /// [`Session::instructions`](super::Session::instructions).
    ///
    /// # Errors
    /// The store's failure.
    pub async fn instructions(&self, contract: impl Into<HoldId>) -> Result<Vec<Arc<InstructionRecord>>, Error> {
        self.instructions_of(contract.into().0).await
    }

    /// The instructions that a contract or a wallet has given, newest first.
    pub(super) async fn instructions_of(&self, contract: Uuid) -> Result<Vec<Arc<InstructionRecord>>, Error> {
        let (kind, party) = (Kind::Instruction, Some((0, contract)));
        let query = Query { kind, party, statuses: Vec::new(), before: None, offset: 0, limit: PAGE };
        let found = self.inner.store.find(self.inner.market, &query).await?;
        Ok(found.into_iter().filter_map(|stored| InstructionRecord::of(stored.record)).collect())
    }
}

/// Every record of a kind in one of these statuses, newest first.
pub(super) async fn every(
    store: &dyn Store,
    market: MarketId,
    kind: Kind,
    statuses: Vec<&'static str>,
) -> Result<Vec<Record>, StoreError> {
    let (query, mut all) = (Query { kind, party: None, statuses, before: None, offset: 0, limit: PAGE }, Vec::new());
    let mut next = Some(query);
    while let Some(query) = next {
        let page = store.find(market, &query).await?;
        next = query.after(&page);
        all.extend(page.into_iter().map(|stored| stored.record));
    }
    Ok(all)
}
