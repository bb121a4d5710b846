//! No rail is taken away while money is under way on it.

use std::collections::BTreeSet;

use super::reconcile::{UNSETTLED, every};
use crate::{
    agreement::AgreementStatus,
    error::Error,
    ids::{MarketId, RailId},
    job::JobStatus,
    store::{Kind, Record, Store, StoreError},
};

/// The reader under whose name the store remembers the rails that ever were here, apart by spaces.
const READER: &str = "engine/rails";

/// Refuses to leave out a rail on which a job is not over or an instruction not settled: nobody could
/// divide its holds or learn what became of its instructions. The store remembers which rails there ever
/// were, so that looking is needed only after one was taken away.
pub(super) async fn none_left_behind(
    store: &dyn Store,
    market: MarketId,
    rails: &BTreeSet<RailId>,
) -> Result<(), Error> {
    let before = store.cursor(market, READER).await?;
    let known: BTreeSet<&str> = before.iter().flat_map(|names| names.split(' ')).collect();
    let mut all: BTreeSet<&str> = rails.iter().map(RailId::as_str).collect();
    // A market that an earlier version made has no list: it is looked at once.
    if before.is_none() || !known.is_subset(&all) {
        let open = under_way(store, market).await?;
        if let Some((rail, _)) = open.iter().find(|(rail, _)| !rails.contains(rail)) {
            let open = open.iter().filter(|(other, _)| other == rail).count();
            return Err(Error::RailMissing { rail: *rail, open });
        }
    }
    all.extend(known);
    let all = all.into_iter().collect::<Vec<_>>().join(" ");
    if before.as_deref() != Some(&all) {
        // Another process may start meanwhile; what it knows and we do not is added by the next start.
        store.move_cursor(market, READER, before.as_deref(), &all).await?;
    }
    Ok(())
}

/// The contracts that are not over or whose money is on its way, each with its rail.
async fn under_way(store: &dyn Store, market: MarketId) -> Result<BTreeSet<(RailId, uuid::Uuid)>, StoreError> {
    let not_over = JobStatus::ALL.into_iter().filter(|status| !status.is_final()).map(JobStatus::as_str).collect();
    let mut records = every(store, market, Kind::Job, not_over).await?;
    records.append(&mut every(store, market, Kind::Instruction, UNSETTLED.to_vec()).await?);
    let open = AgreementStatus::ALL.into_iter().filter(|status| !status.is_final()).map(AgreementStatus::as_str);
    records.append(&mut every(store, market, Kind::Agreement, open.collect()).await?);
    let contract = |record| match record {
        Record::Agreement(agreement) => Some((agreement.rail, agreement.id.0)),
        Record::Job(job) => Some((job.rail, job.id.0)),
        Record::Instruction(record) => Some((record.rail, record.instruction.contract)),
        _ => None,
    };
    Ok(records.into_iter().filter_map(contract).collect())
}
