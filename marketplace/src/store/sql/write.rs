//! Writing a group of commits inside one transaction.
//!
//! 1. The facts that any commit of the group depends on are read, and locked where the database locks
//!    rows: idempotency keys, versions of records, balances. Always in the same order.
//! 2. Each commit is admitted by the same function as everywhere, over the facts as the commits before
//!    it in the group leave them. So a bad one fails alone, and two on one record conflict.
//! 3. What was admitted is written with few statements. Balances are written once for the group.
//!
//! A row that somebody else wrote in between (only possible for rows that did not exist, which cannot
//! be locked) makes the whole attempt fail as a lost race, and the caller tries again with new facts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Failure, listings,
    session::{Cell, Session},
    tables::{Insert, Table, kind, lookup, record, remove, table},
};
use crate::{
    clock::Timestamp,
    ids::MarketId,
    ledger::{Account, Limit},
    money::Currency,
    store::{
        Commit, CommitError, Event, Facts, Key, KeyRecord, KeyUse, Kind, StoreError, StoreErrorKind, Tagging, Write,
        admit,
    },
};

/// A commit with its rows, made in the caller's task so that the writer only passes them on.
pub(super) struct Prepared {
    commit: Commit,
    records: Vec<(Key, u64, Vec<Cell>)>,
    events: Vec<Vec<Cell>>,
    transfers: Vec<Vec<Cell>>,
    documents: Vec<Vec<Cell>>,
    key: Option<Vec<Cell>>,
    tags: Vec<Tags>,
    listings: Vec<(Key, listings::Listed)>,
}

/// What a record is listed under from now on.
struct Tags {
    key: Key,
    /// Whether it may be listed already.
    known: bool,
    rows: Vec<Vec<Cell>>,
}

impl Prepared {
    pub(super) fn new(commit: Commit) -> Result<Self, CommitError> {
        let market = commit.market;
        let unwritable =
            |e: serde_json::Error| StoreError::new(StoreErrorKind::Corrupt, "a value has no JSON form").caused_by(e);
        let records = commit.writes.iter().map(|write| record_row(market, write));
        let records: Vec<(Key, u64, Vec<Cell>)> = records.collect::<Result<_, _>>().map_err(unwritable)?;
        let events = commit.events.iter().map(|event| event_row(market, event));
        let events = events.collect::<Result<_, _>>().map_err(unwritable)?;
        let row = |d: &crate::store::Document| {
            vec![market.0.into(), d.subject.into(), d.name.as_str().into(), d.body.as_str().into()]
        };
        let documents = commit.documents.iter().map(row).collect();
        let key = match &commit.key {
            Some(used) => {
                let kind = used.answer.key().kind.as_str();
                let fingerprint = Cell::Bytes(used.fingerprint.into());
                let answer = answer_cell(&commit, used, &records).map_err(unwritable)?;
                Some(vec![market.0.into(), used.key.as_str().into(), fingerprint, kind.into(), answer])
            }
            None => None,
        };
        let transfers = transfer_rows(&commit);
        let tags = commit.tags.iter().map(|tagging| tag_rows(&commit, tagging)).collect();
        let listings = listings::rows(&commit);
        Ok(Self { commit, records, events, transfers, documents, key, tags, listings })
    }
}

/// A key's answer in JSON: most often a record that is written too, whose row ends with it.
fn answer_cell(commit: &Commit, used: &KeyUse, records: &[(Key, u64, Vec<Cell>)]) -> Result<Cell, serde_json::Error> {
    let written = commit.writes.iter().position(|write| write.record == used.answer);
    match written.and_then(|place| records[place].2.last()) {
        Some(body) => Ok(body.clone()),
        None => Ok(used.answer.to_json()?.as_str().into()),
    }
}

/// A record's row without claims of its own.
fn record_row(market: MarketId, write: &Write) -> Result<(Key, u64, Vec<Cell>), serde_json::Error> {
    let (record, key) = (&write.record, write.record.key());
    let claims = i64::from(write.claimed_until.is_some());
    let mut row: Vec<Cell> = vec![
        market.0.into(),
        key.id.into(),
        int(write.expected).saturating_add(1).into(),
        record.status().into(),
        record.due_at().map(micros).into(),
        write.claimed_until.map(micros).into(),
        claims.into(),
    ];
    let parties = table(key.kind).parties.len();
    row.extend(record.parties().into_iter().take(parties).map(Cell::from));
    row.push(record.to_json()?.as_str().into());
    Ok((key, write.expected, row))
}

fn event_row(market: MarketId, event: &Event) -> Result<Vec<Cell>, serde_json::Error> {
    Ok(vec![
        market.0.into(),
        event.subject.id.into(),
        event.subject.kind.as_str().into(),
        int(event.version).into(),
        micros(event.at).into(),
        serde_json::to_string(&event.actor)?.as_str().into(),
        serde_json::to_string(&event.body)?.as_str().into(),
    ])
}

fn transfer_rows(commit: &Commit) -> Vec<Vec<Cell>> {
    let transfers = commit.movement.transfers();
    let row = |(part, transfer): (i64, &crate::ledger::Transfer)| {
        vec![
            commit.market.0.into(),
            commit.contract.into(),
            int(commit.version).into(),
            part.into(),
            int(transfers.len() as u64).into(),
            transfer.debit().to_string().as_str().into(),
            transfer.credit().to_string().as_str().into(),
            transfer.amount().minor().into(),
            currency_name(transfer.amount().currency()).as_str().into(),
            transfer.kind().as_str().into(),
            micros(commit.at).into(),
        ]
    };
    (1..).zip(transfers).map(row).collect()
}

fn tag_rows(commit: &Commit, Tagging { subject, tags }: &Tagging) -> Tags {
    let new = commit.writes.iter().any(|write| write.expected == 0 && write.record.key() == *subject);
    let row = |tag: &String| {
        vec![commit.market.0.into(), subject.kind.as_str().into(), tag.as_str().into(), subject.id.into()]
    };
    Tags { key: *subject, known: !new, rows: tags.iter().map(row).collect() }
}

/// A number as the database counts; what does not fit is refused there by version.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn micros(at: Timestamp) -> i64 {
    at.timestamp_micros()
}

pub(super) fn currency_name(currency: Currency) -> String {
    format!("{}/{}", currency.code(), currency.exponent())
}

/// Checks a group's commits and writes those that hold; what became of each. Nothing is final before
/// the caller commits the transaction.
pub(super) async fn write(
    session: &mut dyn Session,
    group: &[&Prepared],
) -> Result<Vec<Result<(), CommitError>>, Failure> {
    let mut known = Known::read(session, group).await?;
    let mut rows = Rows::default();
    let mut answers = Vec::with_capacity(group.len());
    for prepared in group {
        let admitted = admit(&known, &prepared.commit);
        answers.push(admitted.map(|admitted| {
            known.learn(&prepared.commit, &admitted.balances);
            rows.add(prepared);
        }));
    }
    rows.write(session, &known).await?;
    Ok(answers)
}

/// The facts, as the commits admitted so far leave them.
#[derive(Default)]
struct Known {
    versions: HashMap<(MarketId, Key), u64>,
    balances: BTreeMap<(MarketId, Account, Currency), Balance>,
    keys: HashMap<MarketId, HashMap<String, KeyRecord>>,
}

#[derive(Clone, Copy, Default)]
struct Balance {
    minor: i64,
    version: i64,
    changed: bool,
}

impl Facts for Known {
    fn version(&self, market: MarketId, key: Key) -> u64 {
        self.versions.get(&(market, key)).copied().unwrap_or(0)
    }

    fn balance(&self, market: MarketId, account: Account, currency: Currency) -> i64 {
        self.balances.get(&(market, account, currency)).map_or(0, |balance| balance.minor)
    }

    fn key(&self, market: MarketId, key: &str) -> Option<&KeyRecord> {
        self.keys.get(&market)?.get(key)
    }
}

impl Known {
    async fn read(session: &mut dyn Session, group: &[&Prepared]) -> Result<Self, Failure> {
        let mut known = Self::default();
        let markets: BTreeSet<MarketId> = group.iter().map(|p| p.commit.market).collect();
        for market in markets {
            let commits = || group.iter().map(|p| &p.commit).filter(|commit| commit.market == market);
            let keys: BTreeSet<&str> = commits().filter_map(|c| c.key.as_ref()).map(|k| k.key.as_str()).collect();
            known.read_keys(session, market, &keys).await?;
            let written = commits().flat_map(|c| &c.writes).map(|w| w.record.key());
            let guarded = commits().flat_map(|c| &c.guards).map(|(key, _)| *key);
            let records: BTreeSet<Key> = written.chain(guarded).collect();
            for &kind in Kind::ALL {
                let ids = records.iter().filter(|key| key.kind == kind).map(|key| key.id.into());
                known.read_versions(session, market, kind, ids.collect()).await?;
            }
            let transfers = commits().flat_map(|c| c.movement.transfers());
            let touched: BTreeSet<Account> =
                transfers.flat_map(|t| [t.debit(), t.credit()]).filter(|a| a.limit() != Limit::None).collect();
            let mut names: Vec<String> = touched.iter().map(Account::to_string).collect();
            names.sort_unstable();
            known.read_balances(session, market, &names).await?;
        }
        Ok(known)
    }

    async fn read_keys(
        &mut self,
        session: &mut dyn Session,
        market: MarketId,
        keys: &BTreeSet<&str>,
    ) -> Result<(), Failure> {
        let select = "SELECT key, fingerprint, kind, answer FROM keys WHERE market = $1 AND key";
        let keys = keys.iter().map(|key| Cell::from(*key)).collect();
        for mut line in lookup(session, "facts", "keys", select, "", market, keys).await? {
            let (key, fingerprint) = (line.text()?, line.bytes()?);
            let fingerprint = fingerprint.try_into().map_err(|_| Failure::corrupt("a fingerprint has 32 bytes"))?;
            let answer = record(kind(&line.text()?)?, &line.text()?)?;
            self.keys.entry(market).or_default().insert(key.as_ref().into(), KeyRecord { fingerprint, answer });
        }
        Ok(())
    }

    async fn read_versions(
        &mut self,
        session: &mut dyn Session,
        market: MarketId,
        kind: Kind,
        ids: Vec<Cell>,
    ) -> Result<(), Failure> {
        let Table { name, .. } = table(kind);
        let select = format!("SELECT id, version FROM {name} WHERE market = $1 AND id");
        let tail = format!(" ORDER BY id{}", session.dialect().lock);
        for mut line in lookup(session, "facts", name, &select, &tail, market, ids).await? {
            let (id, version) = (line.id()?, line.int()?);
            self.versions.insert((market, Key { kind, id }), version.unsigned_abs());
        }
        Ok(())
    }

    async fn read_balances(
        &mut self,
        session: &mut dyn Session,
        market: MarketId,
        names: &[String],
    ) -> Result<(), Failure> {
        let select = "SELECT account, currency, balance, version FROM accounts WHERE market = $1 AND account";
        let tail = format!(" ORDER BY account, currency{}", session.dialect().lock);
        let names = names.iter().map(|name| Cell::from(name.as_str())).collect();
        for mut line in lookup(session, "facts", "accounts", select, &tail, market, names).await? {
            let (account, currency) = (account(&line.text()?)?, currency(&line.text()?)?);
            let balance = Balance { minor: line.int()?, version: line.int()?, changed: false };
            self.balances.insert((market, account, currency), balance);
        }
        Ok(())
    }

    /// Takes in what an admitted commit changes.
    fn learn(&mut self, commit: &Commit, balances: &[(Account, crate::money::Money)]) {
        let market = commit.market;
        for write in &commit.writes {
            self.versions.insert((market, write.record.key()), write.expected + 1);
        }
        for (account, after) in balances {
            let balance = self.balances.entry((market, *account, after.currency())).or_default();
            (balance.minor, balance.changed) = (after.minor(), true);
        }
        if let Some(used) = &commit.key {
            let record = KeyRecord { fingerprint: used.fingerprint, answer: used.answer.clone() };
            self.keys.entry(market).or_default().insert(used.key.clone(), record);
        }
    }
}

pub(super) fn account(name: &str) -> Result<Account, Failure> {
    name.parse().map_err(|e: crate::ledger::BadAccount| Failure::corrupt(e.to_string()))
}

pub(super) fn currency(name: &str) -> Result<Currency, Failure> {
    let parts = name.split_once('/').and_then(|(code, exponent)| Some((code, exponent.parse().ok()?)));
    let made = parts.and_then(|(code, exponent)| Currency::new(code, exponent).ok());
    made.ok_or_else(|| Failure::corrupt(format!("{name:?} is no currency")))
}

/// A group's rows of one kind, each record once.
type Wave<'a> = BTreeMap<(MarketId, Key), &'a [Cell]>;
/// What records are listed under after a group, and whether they may be listed already.
type Tagged<'a> = BTreeMap<(MarketId, Key), (bool, &'a [Vec<Cell>])>;

/// The rows of all admitted commits of a group.
#[derive(Default)]
struct Rows<'a> {
    /// For each kind: the first versions written in this group, the second ones, and so on, since one
    /// statement cannot write a row twice.
    records: BTreeMap<Kind, Vec<Wave<'a>>>,
    events: Vec<&'a [Cell]>,
    transfers: Vec<&'a [Cell]>,
    documents: Vec<&'a [Cell]>,
    keys: BTreeMap<(MarketId, &'a str), &'a [Cell]>,
    /// As the last commit of the group leaves each record's, and whether it may be listed already.
    tags: Tagged<'a>,
    listings: listings::Listings,
}

impl<'a> Rows<'a> {
    fn add(&mut self, prepared: &'a Prepared) {
        let market = prepared.commit.market;
        for (key, _, row) in &prepared.records {
            let waves = self.records.entry(key.kind).or_default();
            let wave = waves.iter().position(|wave| !wave.contains_key(&(market, *key))).unwrap_or(waves.len());
            if wave == waves.len() {
                waves.push(BTreeMap::new());
            }
            waves[wave].insert((market, *key), row);
        }
        self.events.extend(prepared.events.iter().map(Vec::as_slice));
        self.transfers.extend(prepared.transfers.iter().map(Vec::as_slice));
        self.documents.extend(prepared.documents.iter().map(Vec::as_slice));
        for Tags { key, known, rows } in &prepared.tags {
            let before = self.tags.get(&(market, *key)).is_some_and(|(known, _)| *known);
            self.tags.insert((market, *key), (*known || before, rows));
        }
        self.listings.extend(prepared.listings.iter().map(|(key, row)| ((market, *key), row.clone())));
        if let (Some(used), Some(row)) = (&prepared.commit.key, &prepared.key) {
            self.keys.insert((market, &used.key), row);
        }
    }

    async fn write(self, session: &mut dyn Session, known: &Known) -> Result<(), Failure> {
        let keys: Vec<&[Cell]> = self.keys.into_values().collect();
        Insert::new("keys", &["market", "key", "fingerprint", "kind", "answer"]).write(session, &keys).await?;
        for (kind, waves) in self.records {
            let insert = into_records(&table(kind));
            for wave in waves {
                let rows: Vec<&[Cell]> = wave.into_values().collect();
                insert.write(session, &rows).await?;
            }
        }
        let columns = ["market", "account", "currency", "balance", "version"];
        let accounts = Insert::new("accounts", &columns).or_next_version(&["market", "account", "currency"]);
        let balances = balance_rows(known);
        accounts.write(session, &slices(&balances)).await?;
        into_transfers().write(session, &self.transfers).await?;
        into_events(session.dialect().epoch).write(session, &self.events).await?;
        let columns = ["market", "subject", "name", "body"];
        Insert::new("documents", &columns).write(session, &self.documents).await?;
        write_tags(session, self.tags).await?;
        listings::write(session, self.listings).await
    }
}

/// Lists records anew: what they were listed under goes first.
async fn write_tags(session: &mut dyn Session, tags: Tagged<'_>) -> Result<(), Failure> {
    let mut listed: BTreeMap<(MarketId, Kind), Vec<Cell>> = BTreeMap::new();
    for ((market, key), _) in tags.iter().filter(|(_, (known, _))| *known) {
        listed.entry((*market, key.kind)).or_default().push(key.id.into());
    }
    for ((market, kind), ids) in listed {
        remove(session, "tags", market, kind, ids).await?;
    }
    let rows: Vec<&[Cell]> = tags.into_values().flat_map(|(_, rows)| slices(rows)).collect();
    Insert::new("tags", &["market", "kind", "tag", "id"]).write(session, &rows).await
}

fn slices(rows: &[Vec<Cell>]) -> Vec<&[Cell]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn into_records(table: &Table) -> Insert {
    let before = ["market", "id", "version", "status", "due_at", "claimed_until", "claims"];
    let columns: Vec<&'static str> = before.iter().chain(table.parties).chain(&["body"]).copied().collect();
    Insert::new(table.name, &columns).or_next_version(&["market", "id"])
}

fn into_transfers() -> Insert {
    let columns =
        ["market", "contract", "version", "part", "parts", "debit", "credit", "amount", "currency", "kind", "at"];
    Insert::new("transfers", &columns)
}

fn into_events(epoch: Option<&'static str>) -> Insert {
    let insert = Insert::new("events", &["market", "subject", "kind", "version", "at", "actor", "body"]);
    Insert { computed: epoch.map(|expression| ("epoch", expression)), ..insert }
}

fn balance_rows(known: &Known) -> Vec<Vec<Cell>> {
    let row = |((market, account, currency), balance): (&(MarketId, Account, Currency), &Balance)| {
        vec![
            market.0.into(),
            account.to_string().as_str().into(),
            currency_name(*currency).as_str().into(),
            balance.minor.into(),
            balance.version.saturating_add(1).into(),
        ]
    };
    known.balances.iter().filter(|(_, balance)| balance.changed).map(row).collect()
}
