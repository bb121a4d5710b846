//! The store that forgets when the process ends: for tests, simulation, and as the model of the
//! others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry as TagEntry, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use rustc_hash::FxHashMap;
use uuid::Uuid;

use super::{
    Admitted, Claim, Commit, CommitError, Document, Facts, Journal, Key, KeyRecord, Kind, LoggedEvent, Position, Query,
    Record, Seek, Store, StoreError, Stored, Tagged, Tagging, admit, listed::Listed as Found,
};
use crate::{
    clock::Timestamp,
    ids::MarketId,
    ledger::{self, Account, Finding, Limit, Movement, Transfer, TrialBalance},
    money::{Currency, Money},
    policy::{Policy, PolicyVersion},
    search::Candidate,
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
    rows: FxHashMap<Key, Row>,
    due: BTreeSet<(Kind, Timestamp, Uuid)>,
    lists: FxHashMap<Listed, Listing>,
    tags: BTreeMap<(Kind, String), BTreeSet<Uuid>>,
    found: Found,
    keys: FxHashMap<String, KeyRecord>,
    /// Names and texts, by the record they are kept beside.
    documents: FxHashMap<Uuid, Vec<(String, String)>>,
    events: Vec<LoggedEvent>,
    transfers: Vec<Moved>,
    accounts: FxHashMap<Account, Book>,
    cursors: HashMap<String, String>,
}

#[derive(Debug)]
struct Moved {
    at: Timestamp,
    contract: Uuid,
    version: u64,
    transfer: Transfer,
}

/// What records are listed by: all of a kind, or those with a party in a place.
type Listed = (Kind, Option<(usize, Uuid)>);

/// What is listed together.
#[derive(Debug, Default)]
struct Listing {
    /// Ascending, since new ids are the highest.
    ids: Vec<Uuid>,
    /// How many of a party's are in which status, so that they are counted however many there are.
    statuses: Vec<(&'static str, u32)>,
}

impl Listing {
    /// Keeps the list ascending; most often the new one is the last.
    fn insert(&mut self, id: Uuid) {
        let place = match self.ids.last() {
            Some(last) if *last > id => self.ids.partition_point(|other| *other < id),
            _ => self.ids.len(),
        };
        self.ids.insert(place, id);
    }

    fn count(&mut self, status: &'static str) -> &mut u32 {
        let place = self.statuses.iter().position(|(known, _)| *known == status).unwrap_or_else(|| {
            self.statuses.push((status, 0));
            self.statuses.len() - 1
        });
        &mut self.statuses[place].1
    }
}

#[derive(Debug)]
struct Row {
    record: Record,
    version: u64,
    claimed_until: Option<Timestamp>,
    claims: u32,
    /// Its events' places in the log.
    events: Vec<u32>,
    tags: Vec<String>,
}

/// An account: its entries' places in the transfers, and the balances that are kept.
#[derive(Debug, Default)]
struct Book {
    entries: Vec<u32>,
    balances: Vec<Money>,
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
        let book = self.market(market).accounts.get(&account);
        let kept = book.and_then(|book| book.balances.iter().find(|balance| balance.currency() == currency));
        kept.map_or(0, |balance| balance.minor())
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
        let Commit { at, contract, version, key, writes, events, movement, documents, tags, listings, .. } = commit;
        for write in writes {
            self.put(write.record, write.expected + 1, write.claimed_until);
        }
        for event in events {
            let number = self.events.len();
            let position = Position { epoch: 0, number: number as i64 + 1 };
            if let Some(row) = self.rows.get_mut(&event.subject) {
                row.events.push(number as u32);
            }
            self.events.push(LoggedEvent { position, event });
        }
        for transfer in movement.transfers() {
            let number = self.transfers.len() as u32;
            self.accounts.entry(transfer.debit()).or_default().entries.push(number);
            self.accounts.entry(transfer.credit()).or_default().entries.push(number);
            self.transfers.push(Moved { at, contract, version, transfer: *transfer });
        }
        for (account, balance) in admitted.balances {
            let kept = &mut self.accounts.entry(account).or_default().balances;
            match kept.iter_mut().find(|kept| kept.currency() == balance.currency()) {
                Some(kept) => *kept = balance,
                None => kept.push(balance),
            }
        }
        for Document { subject, name, body } in documents {
            self.documents.entry(subject).or_default().push((name, body));
        }
        for tagging in tags {
            self.tag(tagging);
        }
        for listing in listings {
            self.found.put(listing);
        }
        if let Some(used) = key {
            self.keys.insert(used.key, KeyRecord { fingerprint: used.fingerprint, answer: used.answer });
        }
    }

    fn put(&mut self, record: Record, version: u64, claimed_until: Option<Timestamp>) {
        let key = record.key();
        let (due, parties, status) = (record.due_at(), record.parties(), record.status());
        let claims = claimed_until.is_some().into();
        let (due_before, parties_before, status_before) = match self.rows.entry(key) {
            Entry::Occupied(mut row) => {
                let row = row.get_mut();
                let before = (row.record.due_at(), row.record.parties(), row.record.status());
                (row.record, row.version, row.claimed_until, row.claims) = (record, version, claimed_until, claims);
                before
            }
            Entry::Vacant(row) => {
                row.insert(Row { record, version, claimed_until, claims, events: vec![], tags: vec![] });
                self.lists.entry((key.kind, None)).or_default().insert(key.id);
                (None, [None, None], status)
            }
        };
        if due != due_before {
            due_before.map(|at| self.due.remove(&(key.kind, at, key.id)));
            due.map(|at| self.due.insert((key.kind, at, key.id)));
        }
        for (place, (now, before)) in parties.into_iter().zip(parties_before).enumerate() {
            if (now, status) == (before, status_before) {
                continue;
            }
            if let Some(list) = before.and_then(|party| self.lists.get_mut(&(key.kind, Some((place, party))))) {
                *list.count(status_before) -= 1;
                if now != before {
                    list.ids.retain(|id| *id != key.id);
                }
            }
            if let Some(party) = now {
                let list = self.lists.entry((key.kind, Some((place, party)))).or_default();
                *list.count(status) += 1;
                if now != before {
                    list.insert(key.id);
                }
            }
        }
    }

    fn tag(&mut self, Tagging { subject, tags }: Tagging) {
        let Some(row) = self.rows.get_mut(&subject) else { return };
        for tag in std::mem::replace(&mut row.tags, tags.clone()) {
            if let TagEntry::Occupied(mut ids) = self.tags.entry((subject.kind, tag)) {
                ids.get_mut().remove(&subject.id);
                if ids.get().is_empty() {
                    ids.remove();
                }
            }
        }
        for tag in tags {
            self.tags.entry((subject.kind, tag)).or_default().insert(subject.id);
        }
    }

    fn entries(&self, account: Account) -> &[u32] {
        self.accounts.get(&account).map_or(&[], |book| &book.entries)
    }

    fn sum(&self, account: Account, currency: Currency, at: Option<Timestamp>) -> i64 {
        let transfers = self.entries(account).iter().map(|n| &self.transfers[*n as usize]);
        let counted =
            transfers.filter(|t| t.transfer.amount().currency() == currency && at.is_none_or(|at| t.at <= at));
        counted.map(|t| signed(&t.transfer, account)).sum()
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

    async fn find(&self, market: MarketId, query: &Query) -> Result<Vec<Stored>, StoreError> {
        let markets = self.lock();
        let market = markets.market(market);
        let matches = |id: Uuid| {
            let row = market.rows.get(&Key { kind: query.kind, id })?;
            let wanted = query.statuses.is_empty() || query.statuses.contains(&row.record.status());
            wanted.then(|| row.stored())
        };
        let ids = market.lists.get(&(query.kind, query.party)).map_or(&[][..], |list| &list.ids);
        let older = query.before.map_or(ids.len(), |before| ids.partition_point(|id| *id < before));
        let found = ids[..older].iter().rev().filter_map(|id| matches(*id));
        Ok(found.skip(query.offset as usize).take(query.limit as usize).collect())
    }

    async fn count(&self, market: MarketId, query: &Query) -> Result<u32, StoreError> {
        if query.party.is_none() {
            let found = self.find(market, &Query { before: None, offset: 0, ..query.clone() }).await?;
            return Ok(u32::try_from(found.len()).unwrap_or(u32::MAX));
        }
        let markets = self.lock();
        let Some(list) = markets.market(market).lists.get(&(query.kind, query.party)) else { return Ok(0) };
        let wanted = |status: &&'static str| query.statuses.is_empty() || query.statuses.contains(status);
        let counts = list.statuses.iter().filter(|(status, _)| wanted(status)).map(|(_, count)| *count);
        Ok(counts.sum::<u32>().min(query.limit))
    }

    async fn document(&self, market: MarketId, subject: Uuid, name: &str) -> Result<Option<String>, StoreError> {
        let markets = self.lock();
        let documents = markets.market(market).documents.get(&subject);
        let found = documents.and_then(|documents| documents.iter().find(|(known, _)| known == name));
        Ok(found.map(|(_, body)| body.clone()))
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

    async fn tagged(&self, market: MarketId, tagged: &Tagged) -> Result<Vec<Stored>, StoreError> {
        let markets = self.lock();
        let market = markets.market(market);
        let Some(ids) = market.tags.get(&(tagged.kind, tagged.tag.clone())) else { return Ok(Vec::new()) };
        let older = ids.range(..tagged.before.unwrap_or(Uuid::max())).rev();
        let page = older.skip(tagged.offset as usize).take(tagged.limit as usize);
        Ok(page.filter_map(|id| market.rows.get(&Key { kind: tagged.kind, id: *id })).map(Row::stored).collect())
    }

    async fn seek(&self, market: MarketId, seek: &Seek) -> Result<Vec<Candidate>, StoreError> {
        Ok(self.lock().market(market).found.seek(seek))
    }

    async fn claim(&self, market: MarketId, claim: &Claim) -> Result<Vec<Stored>, StoreError> {
        let mut markets = self.lock();
        let Market { due, rows, .. } = markets.market_mut(market);
        let mut claimed = Vec::new();
        for (_, _, id) in
            due.range((claim.kind, Timestamp::MIN_UTC, Uuid::nil())..=(claim.kind, claim.now, Uuid::max()))
        {
            let row = rows.get_mut(&Key { kind: claim.kind, id: *id }).expect("what is due has a row");
            let busy = row.record.parties()[0].is_some_and(|party| claim.except.contains(&party));
            if busy || row.claimed_until.is_some_and(|until| until > claim.now) {
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

    async fn events(&self, market: MarketId, after: Position, limit: u32) -> Result<Vec<LoggedEvent>, StoreError> {
        let markets = self.lock();
        let seen = usize::try_from(after.number).unwrap_or(0);
        Ok(markets.market(market).events.iter().skip(seen).take(limit as usize).cloned().collect())
    }

    async fn events_of(&self, market: MarketId, subject: Key) -> Result<Vec<LoggedEvent>, StoreError> {
        let markets = self.lock();
        let market = markets.market(market);
        let numbers = market.rows.get(&subject).map_or(&[][..], |row| &row.events);
        Ok(numbers.iter().map(|n| market.events[*n as usize].clone()).collect())
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

    async fn history(
        &self,
        market: MarketId,
        account: Account,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ledger::Entry>, StoreError> {
        let markets = self.lock();
        let market = markets.market(market);
        let numbers = market.entries(account);
        let entry = |n: &u32| {
            let Moved { at, contract, version, transfer } = &market.transfers[*n as usize];
            let counterparty = if transfer.credit() == account { transfer.debit() } else { transfer.credit() };
            let amount = Money::new(signed(transfer, account), transfer.amount().currency());
            ledger::Entry {
                number: i64::from(*n) + 1,
                at: *at,
                kind: transfer.kind(),
                counterparty,
                amount,
                contract: *contract,
                version: *version,
            }
        };
        let later = numbers.partition_point(|n| i64::from(*n) < after);
        Ok(numbers[later..].iter().take(limit as usize).map(entry).collect())
    }

    async fn movement(&self, market: MarketId, contract: Uuid, version: u64) -> Result<Movement, StoreError> {
        let markets = self.lock();
        // No index: an operator asks rarely, and this store is small.
        let moved = markets.market(market).transfers.iter().filter(|t| (t.contract, t.version) == (contract, version));
        Ok(Movement::of(moved.map(|moved| moved.transfer)))
    }

    async fn trial_balance(&self, market: MarketId) -> Result<Vec<TrialBalance>, StoreError> {
        let markets = self.lock();
        let mut sums: BTreeMap<Currency, BTreeMap<Account, i64>> = BTreeMap::new();
        for Moved { transfer, .. } in &markets.market(market).transfers {
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
        let kept =
            market.accounts.iter().flat_map(|(account, book)| book.balances.iter().map(move |kept| (*account, *kept)));
        let differs = |(account, kept): (Account, Money)| {
            let summed = Money::new(market.sum(account, kept.currency(), None), kept.currency());
            (kept != summed).then_some(Finding::BalanceDiffers { account, kept, summed })
        };
        Ok(kept.filter_map(differs).collect())
    }
}
