//! The store that forgets when the process ends: for tests, simulation, and as the model of the
//! others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Admitted, Claim, Commit, CommitError, Facts, Journal, Key, KeyRecord, Kind, LoggedEvent, Position, Query, Record,
    Store, StoreError, Stored, admit,
};
use crate::{
    clock::Timestamp,
    ids::MarketId,
    ledger::{Account, Entry, Finding, Limit, Transfer, TrialBalance},
    money::{Currency, Money},
    policy::{Policy, PolicyVersion},
};

/// Keeps everything in memory. Clones share it, so a clone outlives an engine that "crashes".
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Markets>>);

#[derive(Debug, Default)]
struct Markets {
    names: Vec<String>,
    markets: Vec<Market>,
}

#[derive(Debug, Default)]
struct Market {
    policies: Vec<Policy>,
    rows: HashMap<Key, Row>,
    due: BTreeSet<(Kind, Timestamp, Uuid)>,
    parties: BTreeSet<(Kind, usize, Uuid, Uuid)>,
    ids: BTreeSet<Key>,
    keys: HashMap<String, KeyRecord>,
    documents: HashMap<(Uuid, String), String>,
    events: Vec<LoggedEvent>,
    subjects: HashMap<Key, Vec<usize>>,
    transfers: Vec<(Timestamp, Uuid, Transfer)>,
    accounts: HashMap<Account, Vec<usize>>,
    balances: HashMap<(Account, Currency), i64>,
    cursors: HashMap<String, String>,
}

#[derive(Debug)]
struct Row {
    record: Record,
    version: u64,
    claimed_until: Option<Timestamp>,
    claims: u32,
}

impl Row {
    fn stored(&self) -> Stored {
        Stored { record: self.record.clone(), version: self.version, claims: self.claims }
    }
}

impl Facts for Markets {
    fn version(&self, market: MarketId, key: Key) -> u64 {
        self.market(market).rows.get(&key).map_or(0, |row| row.version)
    }

    fn balance(&self, market: MarketId, account: Account, currency: Currency) -> i64 {
        self.market(market).balances.get(&(account, currency)).copied().unwrap_or(0)
    }

    fn key(&self, market: MarketId, key: &str) -> Option<&KeyRecord> {
        self.market(market).keys.get(key)
    }
}

impl Markets {
    fn market(&self, market: MarketId) -> &Market {
        &self.markets[index(market)]
    }

    fn market_mut(&mut self, market: MarketId) -> &mut Market {
        &mut self.markets[index(market)]
    }
}

/// Market ids are handed out by this store, counted from 1.
fn index(market: MarketId) -> usize {
    usize::try_from(market.0 - 1).expect("a market id comes from open_market")
}

impl Market {
    fn write(&mut self, commit: Commit, admitted: Admitted) {
        let Commit { at, contract, key, writes, events, movement, documents, .. } = commit;
        for write in writes {
            self.put(write.record, write.expected + 1, write.claimed_until);
        }
        for event in events {
            let number = self.events.len();
            let position = Position { epoch: 0, number: number as i64 + 1 };
            self.subjects.entry(event.subject).or_default().push(number);
            self.events.push(LoggedEvent { position, event });
        }
        for transfer in movement.transfers() {
            let number = self.transfers.len();
            self.accounts.entry(transfer.debit()).or_default().push(number);
            self.accounts.entry(transfer.credit()).or_default().push(number);
            self.transfers.push((at, contract, *transfer));
        }
        for (account, balance) in admitted.balances {
            self.balances.insert((account, balance.currency()), balance.minor());
        }
        for document in documents {
            self.documents.insert((document.subject, document.name), document.body);
        }
        if let Some(used) = key {
            self.keys.insert(used.key, KeyRecord { fingerprint: used.fingerprint, answer: used.answer });
        }
    }

    fn put(&mut self, record: Record, version: u64, claimed_until: Option<Timestamp>) {
        let key = record.key();
        let (due, parties) = (record.due_at(), record.parties());
        let row = Row { record, version, claimed_until, claims: claimed_until.is_some().into() };
        let before = self.rows.insert(key, row).map(|row| (row.record.due_at(), row.record.parties()));
        let (due_before, parties_before) = before.unwrap_or_default();
        if due != due_before {
            due_before.map(|at| self.due.remove(&(key.kind, at, key.id)));
            due.map(|at| self.due.insert((key.kind, at, key.id)));
        }
        for (place, (now, before)) in parties.into_iter().zip(parties_before).enumerate() {
            if now != before {
                before.map(|id| self.parties.remove(&(key.kind, place, id, key.id)));
                now.map(|id| self.parties.insert((key.kind, place, id, key.id)));
            }
        }
        if version == 1 {
            self.ids.insert(key);
        }
    }

    fn sum(&self, account: Account, currency: Currency, at: Option<Timestamp>) -> i64 {
        let numbers = self.accounts.get(&account).map_or(&[][..], Vec::as_slice);
        let transfers = numbers.iter().map(|n| &self.transfers[*n]);
        let counted =
            transfers.filter(|(when, _, t)| t.amount().currency() == currency && at.is_none_or(|at| *when <= at));
        counted.map(|(_, _, t)| signed(t, account)).sum()
    }
}

/// What a transfer adds to one of its accounts.
fn signed(transfer: &Transfer, account: Account) -> i64 {
    match transfer.credit() == account {
        true => transfer.amount().minor(),
        false => -transfer.amount().minor(),
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Markets> {
        self.0.lock().expect("the store's lock is never held across a panic")
    }
}

#[async_trait]
impl Journal for MemoryStore {
    async fn load(&self, market: MarketId, key: Key) -> Result<Option<Stored>, StoreError> {
        Ok(self.lock().market(market).rows.get(&key).map(Row::stored))
    }

    async fn key(&self, market: MarketId, key: &str) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.lock().market(market).keys.get(key).cloned())
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let mut markets = self.lock();
        let admitted = admit(&*markets, &commit)?;
        markets.market_mut(commit.market).write(commit, admitted);
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn open_market(&self, name: &str) -> Result<MarketId, StoreError> {
        let mut markets = self.lock();
        let known = markets.names.iter().position(|n| n == name);
        let index = known.unwrap_or_else(|| {
            markets.names.push(name.into());
            markets.markets.push(Market::default());
            markets.names.len() - 1
        });
        Ok(MarketId(index as i64 + 1))
    }

    async fn add_policy(&self, market: MarketId, policy: &Policy) -> Result<PolicyVersion, StoreError> {
        let mut markets = self.lock();
        let policies = &mut markets.market_mut(market).policies;
        if policies.last() != Some(policy) {
            policies.push(policy.clone());
        }
        Ok(PolicyVersion(policies.len() as u32))
    }

    async fn policy(
        &self,
        market: MarketId,
        version: Option<PolicyVersion>,
    ) -> Result<Option<(PolicyVersion, Policy)>, StoreError> {
        let markets = self.lock();
        let policies = &markets.market(market).policies;
        let version = version.unwrap_or(PolicyVersion(policies.len() as u32));
        let index = (version.0 as usize).checked_sub(1);
        Ok(index.and_then(|i| policies.get(i)).map(|policy| (version, policy.clone())))
    }

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        let markets = self.lock();
        let market = markets.market(market);
        let matches = |id: Uuid| {
            let row = market.rows.get(&Key { kind: query.kind, id })?;
            let wanted = query.statuses.is_empty() || query.statuses.contains(&row.record.status());
            wanted.then(|| row.stored())
        };
        let (skip, take) = (query.offset as usize, query.limit as usize);
        Ok(match query.party {
            Some((place, party)) => {
                let range = (query.kind, place, party, Uuid::nil())..=(query.kind, place, party, Uuid::max());
                let ids = market.parties.range(range).rev().map(|(_, _, _, id)| *id);
                ids.filter_map(matches).skip(skip).take(take).collect()
            }
            None => {
                let (first, last) = (Uuid::nil(), Uuid::max());
                let range = Key { kind: query.kind, id: first }..=Key { kind: query.kind, id: last };
                market.ids.range(range).rev().filter_map(|key| matches(key.id)).skip(skip).take(take).collect()
            }
        })
    }

    async fn claim(&self, market: MarketId, claim: &Claim) -> Result<Vec<Stored>, StoreError> {
        let mut markets = self.lock();
        let Market { due, rows, .. } = markets.market_mut(market);
        let mut claimed = Vec::new();
        for (_, _, id) in
            due.range((claim.kind, Timestamp::MIN_UTC, Uuid::nil())..=(claim.kind, claim.now, Uuid::max()))
        {
            let row = rows.get_mut(&Key { kind: claim.kind, id: *id }).expect("what is due has a row");
            if row.claimed_until.is_some_and(|until| until > claim.now) {
                continue;
            }
            row.version += 1;
            row.claims += 1;
            row.claimed_until = Some(claim.until);
            claimed.push(row.stored());
            if claimed.len() == claim.limit as usize {
                break;
            }
        }
        Ok(claimed)
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.lock().market(market).documents.get(&(subject, name.to_owned())).cloned())
    }

    async fn events(&self, market: MarketId, after: Position, limit: u32) -> Result<Vec<LoggedEvent>, StoreError> {
        let markets = self.lock();
        let seen = usize::try_from(after.number).unwrap_or(0);
        Ok(markets.market(market).events.iter().skip(seen).take(limit as usize).cloned().collect())
    }

    async fn events_of(&self, market: MarketId, subject: Key) -> Result<Vec<LoggedEvent>, StoreError> {
        let markets = self.lock();
        let market = markets.market(market);
        let numbers = market.subjects.get(&subject).map_or(&[][..], Vec::as_slice);
        Ok(numbers.iter().map(|n| market.events[*n].clone()).collect())
    }

    async fn cursor(&self, market: MarketId, reader: &str) -> Result<Option<String>, StoreError> {
        Ok(self.lock().market(market).cursors.get(reader).cloned())
    }

    async fn move_cursor(
        &self,
        market: MarketId,
        reader: &str,
        from: Option<&str>,
        to: &str,
    ) -> Result<bool, StoreError> {
        let mut markets = self.lock();
        let cursors = &mut markets.market_mut(market).cursors;
        let stands = cursors.get(reader).map(String::as_str) == from;
        if stands {
            cursors.insert(reader.into(), to.into());
        }
        Ok(stands)
    }

    async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
        at: Option<Timestamp>,
    ) -> Result<Money, StoreError> {
        let markets = self.lock();
        let minor = match (account.limit(), at) {
            (Limit::NotNegative | Limit::NotPositive, None) => markets.balance(market, account, currency),
            _ => markets.market(market).sum(account, currency, at),
        };
        Ok(Money::new(minor, currency))
    }

    async fn history(
        &self,
        market: MarketId,
        account: Account,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        let markets = self.lock();
        let market = markets.market(market);
        let numbers = market.accounts.get(&account).map_or(&[][..], Vec::as_slice);
        let entry = |n: &usize| {
            let (at, contract, transfer) = &market.transfers[*n];
            let counterparty = if transfer.credit() == account { transfer.debit() } else { transfer.credit() };
            let amount = Money::new(signed(transfer, account), transfer.amount().currency());
            Entry { number: *n as i64 + 1, at: *at, kind: transfer.kind(), counterparty, amount, contract: *contract }
        };
        let later = numbers.partition_point(|n| (*n as i64) < after);
        Ok(numbers[later..].iter().take(limit as usize).map(entry).collect())
    }

    async fn trial_balance(&self, market: MarketId) -> Result<Vec<TrialBalance>, StoreError> {
        let markets = self.lock();
        let mut sums: BTreeMap<Currency, BTreeMap<Account, i64>> = BTreeMap::new();
        for (_, _, transfer) in &markets.market(market).transfers {
            let accounts = sums.entry(transfer.amount().currency()).or_default();
            *accounts.entry(transfer.debit()).or_default() -= transfer.amount().minor();
            *accounts.entry(transfer.credit()).or_default() += transfer.amount().minor();
        }
        let balance = |(currency, accounts): (Currency, BTreeMap<Account, i64>)| TrialBalance {
            currency,
            accounts: accounts.into_iter().map(|(account, minor)| (account, Money::new(minor, currency))).collect(),
        };
        Ok(sums.into_iter().map(balance).collect())
    }

    async fn verify(&self, market: MarketId) -> Result<Vec<Finding>, StoreError> {
        let markets = self.lock();
        let market = markets.market(market);
        let differs = |(&(account, currency), &kept): (&(Account, Currency), &i64)| {
            let summed = market.sum(account, currency, None);
            let (kept, summed) = (Money::new(kept, currency), Money::new(summed, currency));
            (kept != summed).then_some(Finding::BalanceDiffers { account, kept, summed })
        };
        Ok(market.balances.iter().filter_map(differs).collect())
    }
}
