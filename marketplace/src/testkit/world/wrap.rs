//! The store and the rail as a process has them: every call pauses, and some go wrong.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::lock::OwnedMutexGuard;
use uuid::Uuid;

use super::stage::Stage;
use crate::{
    clock::Timestamp,
    error::Error,
    ids::MarketId,
    ledger::{Account, Entry, Finding, Movement, TrialBalance},
    money::{Currency, Money},
    policy::{Policy, PolicyVersion},
    rail::{
        Cursor, Holdings, Instruction, Observation, Observations, Outcome, Push, RailError, RailProfile, SettlementRail,
    },
    search::Candidate,
    store::{
        Claim, Commit, CommitError, Journal, Key, KeyRecord, LoggedEvent, Position, Query, Seek, Store, StoreError,
        StoreErrorKind, Stored, Tagged,
    },
};

/// A store whose calls pause, fail, and end in the death of the process.
#[derive(Clone)]
pub(super) struct WorldStore {
    pub(super) inner: Arc<dyn Store>,
    pub(super) stage: Stage,
}

impl WorldStore {
    /// What may go wrong with a call that changes nothing.
    async fn read(&self) -> Result<OwnedMutexGuard<()>, StoreError> {
        let alone = self.stage.pause().await;
        let (dies, fails) = {
            let mut act = self.stage.act();
            let faults = act.faults;
            let (dies, fails) = (act.happens(faults.crash_at_read), act.happens(faults.unavailable));
            act.counts.store_faults += u64::from(fails && !dies);
            (dies, fails)
        };
        if dies {
            drop(alone);
            return self.stage.die().await;
        }
        if fails { Err(self.fault(StoreErrorKind::Unavailable)) } else { Ok(alone) }
    }

    fn fault(&self, kind: StoreErrorKind) -> StoreError {
        self.stage.act().auditor.fault_injected();
        StoreError::new(kind, "the world says so")
    }
}

/// An embedder's own transaction: what is committed in it is written when it ends, all at once.
pub(super) struct WorldTransaction {
    store: WorldStore,
    commits: Mutex<Vec<Commit>>,
}

impl WorldTransaction {
    pub(super) fn new(store: WorldStore) -> Self {
        Self { store, commits: Mutex::default() }
    }

    /// Writes it. Where others were faster, the embedder's database would fail it as a whole.
    pub(super) async fn end(self) -> Result<(), Error> {
        let commits = self.commits.into_inner().expect("no holder of this lock panics");
        for commit in commits {
            match self.store.commit(commit).await {
                Ok(()) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(_) => return Err(Error::Contention { command: "an embedder's transaction", attempts: 1 }),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for WorldTransaction {
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError> {
        self.store.load(market, key).await
    }

    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        self.store.key(market, key).await
    }

    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError> {
        self.store.balance(market, account, currency, at).await
    }

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        self.store.find(market, query).await
    }

    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError> {
        self.store.count(market, query).await
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        self.store.document(market, subject, name).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.commits.lock().expect("no holder of this lock panics").push(commit);
        Ok(())
    }
}

/// What becomes of a commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    DiesBefore,
    DiesAfter,
    Unavailable,
    LostBefore,
    LostAfter,
}

#[async_trait]
impl Journal for WorldStore {
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError> {
        let _alone = self.read().await?;
        let found = self.inner.load(market, key).await?;
        self.stage.act().auditor.loaded(key, found.as_ref());
        Ok(found)
    }

    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        let _alone = self.read().await?;
        self.inner.key(market, key).await
    }

    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError> {
        let _alone = self.read().await?;
        self.inner.balance(market, account, currency, at).await
    }

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        let _alone = self.read().await?;
        self.inner.find(market, query).await
    }

    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError> {
        let _alone = self.read().await?;
        self.inner.count(market, query).await
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        self.inner.document(market, subject, name).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let alone = self.stage.pause().await;
        let fate = {
            let mut act = self.stage.act();
            let faults = act.faults;
            let fates = [
                (faults.crash_before_commit, Fate::DiesBefore),
                (faults.crash_after_commit, Fate::DiesAfter),
                (faults.unavailable, Fate::Unavailable),
                (faults.commit_lost_before, Fate::LostBefore),
                (faults.commit_lost_after, Fate::LostAfter),
            ];
            let fate = fates.into_iter().find(|(chance, _)| act.happens(*chance)).map_or(Fate::Written, |(_, f)| f);
            act.counts.store_faults +=
                u64::from(matches!(fate, Fate::Unavailable | Fate::LostBefore | Fate::LostAfter));
            fate
        };
        match fate {
            Fate::DiesBefore => {
                drop(alone);
                return self.stage.die().await;
            }
            Fate::Unavailable => return Err(self.fault(StoreErrorKind::Unavailable).into()),
            Fate::LostBefore => return Err(self.fault(StoreErrorKind::Unknown).into()),
            Fate::Written | Fate::DiesAfter | Fate::LostAfter => {}
        }
        let result = self.inner.commit(commit.clone()).await;
        {
            let mut act = self.stage.act();
            let act = &mut *act;
            act.counts.conflicts += u64::from(matches!(result, Err(CommitError::Conflict(_))));
            act.auditor.committed(act.playing, &commit, &result, &mut act.trace);
        }
        drop(alone);
        match fate {
            Fate::DiesAfter => self.stage.die().await,
            Fate::LostAfter => Err(self.fault(StoreErrorKind::Unknown).into()),
            _ => result,
        }
    }
}

#[async_trait]
impl Store for WorldStore {
    async fn open_market(&self, name: &str) -> Result<MarketId, StoreError> {
        self.inner.open_market(name).await
    }

    async fn add_policy(&self, market: MarketId, policy: &Policy) -> Result<PolicyVersion, StoreError> {
        let _alone = self.read().await?;
        let version = self.inner.add_policy(market, policy).await?;
        self.stage.act().auditor.policy_added(version, policy);
        Ok(version)
    }

    async fn policy(
        &self,
        market: MarketId,
        version: Option<PolicyVersion>,
    ) -> Result<Option<(PolicyVersion, Policy)>, StoreError> {
        let _alone = self.read().await?;
        self.inner.policy(market, version).await
    }

    async fn tagged(&self, market: MarketId, tagged: &Tagged) -> Result<Vec<Stored>, StoreError> {
        let _alone = self.read().await?;
        self.inner.tagged(market, tagged).await
    }

    async fn seek(&self, market: MarketId, seek: &Seek) -> Result<Vec<Candidate>, StoreError> {
        let _alone = self.read().await?;
        self.inner.seek(market, seek).await
    }

    async fn claim(&self, market: MarketId, claim: &Claim) -> Result<Vec<Stored>, StoreError> {
        let alone = self.read().await?;
        let claimed = self.inner.claim(market, claim).await?;
        self.stage.act().auditor.claimed(claim, &claimed);
        let dies = {
            let mut act = self.stage.act();
            let chance = act.faults.crash_after_commit;
            !claimed.is_empty() && act.happens(chance)
        };
        drop(alone);
        if dies { self.stage.die().await } else { Ok(claimed) }
    }

    async fn events(&self, market: MarketId, after: Position, limit: u32) -> Result<Vec<LoggedEvent>, StoreError> {
        let _alone = self.read().await?;
        self.inner.events(market, after, limit).await
    }

    async fn events_of(&self, market: MarketId, subject: Key) -> Result<Vec<LoggedEvent>, StoreError> {
        self.inner.events_of(market, subject).await
    }

    async fn cursor(&self, market: MarketId, reader: &str) -> Result<Option<String>, StoreError> {
        let _alone = self.read().await?;
        self.inner.cursor(market, reader).await
    }

    async fn move_cursor(
        &self,
        market: MarketId,
        reader: &str,
        from: Option<&str>,
        to: &str,
    ) -> Result<bool, StoreError> {
        let _alone = self.read().await?;
        self.inner.move_cursor(market, reader, from, to).await
    }

    async fn history(
        &self,
        market: MarketId,
        account: Account,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        self.inner.history(market, account, after, limit).await
    }

    async fn movement(&self, market: MarketId, contract: Uuid, version: u64) -> Result<Movement, StoreError> {
        self.inner.movement(market, contract, version).await
    }

    async fn trial_balance(&self, market: MarketId) -> Result<Vec<TrialBalance>, StoreError> {
        self.inner.trial_balance(market).await
    }

    async fn verify(&self, market: MarketId) -> Result<Vec<Finding>, StoreError> {
        self.inner.verify(market).await
    }
}

/// A rail whose calls pause, and end in the death of the process before or after the effect.
pub(super) struct WorldRail<R> {
    pub(super) inner: R,
    pub(super) stage: Stage,
}

impl<R> WorldRail<R> {
    async fn may_die(&self) {
        drop(self.stage.pause().await);
        let dies = {
            let mut act = self.stage.act();
            let chance = act.faults.crash_at_rail;
            act.happens(chance)
        };
        if dies {
            self.stage.die().await
        }
    }

    fn heard<T>(&self, answer: Result<T, RailError>) -> Result<T, RailError> {
        self.stage.act().counts.rail_faults += u64::from(answer.is_err());
        answer
    }
}

#[async_trait]
impl<R: SettlementRail> SettlementRail for WorldRail<R> {
    fn profile(&self) -> &RailProfile {
        self.inner.profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.may_die().await;
        let answer = self.heard(self.inner.execute(instruction).await);
        self.may_die().await;
        answer
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.may_die().await;
        let answer = self.heard(self.inner.lookup(instruction).await);
        self.may_die().await;
        answer
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        self.may_die().await;
        let answer = self.heard(self.inner.observe(after).await);
        self.may_die().await;
        answer
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        self.inner.receive(push)
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        self.inner.holdings().await
    }
}
