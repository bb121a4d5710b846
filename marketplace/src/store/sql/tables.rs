//! What the tables are called, and the text of the statements about them.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

use super::{
    Bulk, Dialect, Failure,
    session::{Cell, Line, Session},
};
use crate::{
    ids::MarketId,
    store::{Kind, Record},
};

/// The most rows or keys of one statement: as many as a group has commits, since each statement is a
/// round trip to a server.
pub(super) const BULK: usize = 256;

/// Where records of one kind are kept.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The columns of [`Record::parties`], as many as the kind has.
    pub(super) parties: &'static [&'static str],
}

pub(super) const fn table(kind: Kind) -> Table {
    match kind {
        Kind::Job => Table { name: "jobs", parties: &["buyer", "worker"] },
        Kind::Instruction => Table { name: "instructions", parties: &["contract"] },
        Kind::Observation => Table { name: "observations", parties: &[] },
        Kind::Agent => Table { name: "agents", parties: &["owner"] },
        Kind::Owner => Table { name: "owners", parties: &[] },
        Kind::Review => Table { name: "reviews", parties: &["about", "author"] },
        Kind::Report => Table { name: "reports", parties: &["target", "reporter"] },
        Kind::Reputation => Table { name: "reputations", parties: &[] },
        Kind::Adjustment => Table { name: "adjustments", parties: &[] },
        Kind::Bid => Table { name: "bids", parties: &["job", "worker"] },
        Kind::Wallet => Table { name: "wallets", parties: &[] },
        Kind::Budget => Table { name: "budgets", parties: &[] },
        Kind::Dispute => Table { name: "disputes", parties: &["buyer", "worker"] },
        Kind::Check => Table { name: "checks", parties: &["job"] },
        Kind::Agreement => Table { name: "agreements", parties: &["buyer", "seller"] },
        Kind::Endpoint => Table { name: "endpoints", parties: &["agent", "job"] },
        Kind::Delivery => Table { name: "deliveries", parties: &["endpoint", "agent"] },
        Kind::Notice => Table { name: "notices", parties: &["agent", "job"] },
    }
}

/// The kind of this name in a database.
pub(super) fn kind(name: &str) -> Result<Kind, Failure> {
    let found = Kind::ALL.iter().copied().find(|kind| kind.as_str() == name);
    found.ok_or_else(|| Failure::corrupt(format!("{name:?} is no kind of record")))
}

/// Reads a record's body.
pub(super) fn record(kind: Kind, body: &str) -> Result<Record, Failure> {
    let unreadable = |e| Failure::corrupt(format!("a row of {} cannot be read: {e}", table(kind).name));
    Record::from_json(kind, body).map_err(unreadable)
}

/// The text of a statement, made once for each database, purpose, table and size. There are as many as
/// the code has shapes, so they are kept for ever.
pub(super) fn text(
    dialect: &Dialect,
    purpose: &'static str,
    table: &'static str,
    size: usize,
    make: impl FnOnce() -> String,
) -> &'static str {
    type Shape = (&'static str, &'static str, &'static str, usize);
    static TEXTS: Mutex<Option<HashMap<Shape, &'static str>>> = Mutex::new(None);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let texts = texts.get_or_insert_default();
    texts.entry((dialect.name, purpose, table, size)).or_insert_with(|| make().leak())
}

/// `$first, $first+1, …`: `count` placeholders.
pub(super) fn places(first: usize, count: usize) -> String {
    let mut list = String::new();
    for number in first..first + count {
        let _ = write!(list, "{}${number}", if number == first { "" } else { ", " });
    }
    list
}

/// `?, ?, …`: `count` placeholders without names. SQLite looks a name up in a list of all of them, so that
/// a statement with thousands of named ones would spend its time there.
pub(super) fn nameless(count: usize) -> String {
    let mut list = "?, ".repeat(count);
    list.truncate(list.len().saturating_sub(2));
    list
}

/// `select = key tail` for each key, in their order, with the market first.
pub(super) async fn lookup(
    session: &mut dyn Session,
    purpose: &'static str,
    table: &'static str,
    select: &str,
    tail: &str,
    market: MarketId,
    keys: Vec<Cell>,
) -> Result<Vec<Line>, Failure> {
    #[cfg(feature = "postgres")]
    if session.dialect().bulk == Bulk::Arrays {
        let of = match keys.first() {
            Some(Cell::Text(_)) => "text",
            Some(_) => "uuid",
            None => return Ok(Vec::new()),
        };
        let make = || each(of, select, tail);
        let sql = text(session.dialect(), purpose, table, 0, make);
        return session.rows(sql, vec![market.0.into(), Cell::List(keys)]).await;
    }
    let make = |keys: &str| format!("{} IN ({keys}){tail}", select.replacen("$1", "?", 1));
    in_chunks(session, purpose, table, &make, market, keys).await
}

/// Deletes what a table of many kinds has of these records.
pub(super) async fn remove(
    session: &mut dyn Session,
    table: &'static str,
    market: MarketId,
    kind: Kind,
    ids: Vec<Cell>,
) -> Result<(), Failure> {
    let (of, purpose) = (kind.as_str(), table);
    #[cfg(feature = "postgres")]
    if session.dialect().bulk == Bulk::Arrays {
        if !ids.is_empty() {
            let make = || {
                let select = format!("SELECT ctid FROM {table} WHERE market = $1 AND kind = '{of}' AND id");
                format!("DELETE FROM {table} WHERE ctid = ANY(ARRAY({}))", each("uuid", &select, ""))
            };
            let sql = text(session.dialect(), purpose, of, 0, make);
            session.run(sql, vec![market.0.into(), Cell::List(ids)]).await?;
        }
        return Ok(());
    }
    let make = |ids: &str| format!("DELETE FROM {table} WHERE market = ? AND kind = '{of}' AND id IN ({ids})");
    in_chunks(session, purpose, of, &make, market, ids).await.map(drop)
}

/// `select = key tail` for each key of the array `$2`. Plans are made while a table is small and stay. Of
/// `= ANY(keys)` such a plan may read all rows of a market; a key at a time it goes by the whole of the index,
/// and `OFFSET` keeps it from being joined in another way.
#[cfg(feature = "postgres")]
fn each(of: &str, select: &str, tail: &str) -> String {
    format!(
        "SELECT found.* FROM UNNEST($2::{of}[]) AS wanted (key) \
         CROSS JOIN LATERAL ({select} = wanted.key{tail} OFFSET 0) AS found"
    )
}

/// A statement for each [`BULK`] keys. Sizes are powers of two, filled up with the last key, so that each is
/// prepared once.
async fn in_chunks(
    session: &mut dyn Session,
    purpose: &'static str,
    table: &'static str,
    make: &(dyn Fn(&str) -> String + Sync),
    market: MarketId,
    keys: Vec<Cell>,
) -> Result<Vec<Line>, Failure> {
    let mut found = Vec::new();
    for chunk in keys.chunks(BULK) {
        let size = chunk.len().next_power_of_two();
        let sql = text(session.dialect(), purpose, table, size, || make(&nameless(size)));
        let padding = chunk.last().into_iter().cycle().take(size - chunk.len());
        let cells = [Cell::Int(market.0)].into_iter().chain(chunk.iter().chain(padding).cloned());
        found.append(&mut session.rows(sql, cells.collect()).await?);
    }
    Ok(found)
}

/// Ids as a table of one column, `id`, that comes first in a statement: its text, its arguments, and a number
/// that tells its size from others'.
pub(super) fn list(ids: Vec<Cell>, dialect: &Dialect) -> (String, Vec<Cell>, usize) {
    match dialect.bulk {
        #[cfg(feature = "postgres")]
        Bulk::Arrays => ("(SELECT UNNEST($1::uuid[]) AS id)".into(), vec![Cell::List(ids)], 0),
        #[cfg(feature = "sqlite")]
        Bulk::Values => {
            let (size, mut cells) = (ids.len().next_power_of_two(), ids);
            cells.resize(size, cells.last().cloned().unwrap_or(Cell::NoId));
            let rows = vec!["(?)"; size].join(", ");
            (format!("(SELECT column1 AS id FROM (VALUES {rows}))"), cells, 1 + size.ilog2() as usize)
        }
    }
}

/// What is inserted in bulk, and what happens to rows that are there already.
pub(super) struct Insert {
    pub(super) table: &'static str,
    pub(super) columns: Vec<&'static str>,
    /// A column that the database works out by itself, and its expression over the row `added`. Only
    /// where rows are handed over as arrays.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "SQLite has no arrays"))]
    pub(super) computed: Option<(&'static str, &'static str)>,
    pub(super) conflict: String,
}

impl Insert {
    pub(super) fn new(table: &'static str, columns: &[&'static str]) -> Self {
        Self { table, columns: columns.into(), computed: None, conflict: String::new() }
    }

    /// Overwrites a row whose version is the one before.
    pub(super) fn or_next_version(mut self, key: &[&'static str]) -> Self {
        let set: Vec<String> =
            self.columns.iter().filter(|c| !key.contains(c)).map(|c| format!("{c} = excluded.{c}")).collect();
        let (table, key, set) = (self.table, key.join(", "), set.join(", "));
        self.conflict =
            format!(" ON CONFLICT ({key}) DO UPDATE SET {set} WHERE {table}.version = excluded.version - 1");
        self
    }

    /// Writes all rows. Every row must be written: one that is not was changed by somebody else.
    pub(super) async fn write(&self, session: &mut dyn Session, rows: &[&[Cell]]) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        match session.dialect().bulk {
            #[cfg(feature = "sqlite")]
            Bulk::Values => self.write_values(session, rows).await,
            #[cfg(feature = "postgres")]
            Bulk::Arrays => {
                let sql = text(session.dialect(), "insert", self.table, 0, || self.arrays_text());
                let column = |place: usize| Cell::List(rows.iter().map(|row| row[place].clone()).collect());
                let cells = (0..self.columns.len()).map(column).collect();
                self.all_written(session.run(sql, cells).await?, rows.len())
            }
        }
    }

    /// As few statements as a handful of sizes allows, so that each is prepared once.
    #[cfg(feature = "sqlite")]
    async fn write_values(&self, session: &mut dyn Session, rows: &[&[Cell]]) -> Result<(), Failure> {
        let mut rest = rows;
        while !rest.is_empty() {
            let size = 1 << rest.len().min(BULK).ilog2();
            let (now, later) = rest.split_at(size);
            let sql = text(session.dialect(), "insert", self.table, size, || self.values_text(size));
            self.all_written(session.run(sql, now.iter().copied().flatten().cloned().collect()).await?, size)?;
            rest = later;
        }
        Ok(())
    }

    fn all_written(&self, written: u64, rows: usize) -> Result<(), Failure> {
        match written == rows as u64 {
            true => Ok(()),
            false => Err(Failure::raced(self.table)),
        }
    }

    #[cfg(feature = "sqlite")]
    fn values_text(&self, rows: usize) -> String {
        let (row, mut values) = (nameless(self.columns.len()), String::new());
        for number in 0..rows {
            let comma = if number == 0 { "" } else { ", " };
            let _ = write!(values, "{comma}({row})");
        }
        let (table, columns, conflict) = (self.table, self.columns.join(", "), &self.conflict);
        format!("INSERT INTO {table} ({columns}) VALUES {values}{conflict}")
    }

    #[cfg(feature = "postgres")]
    fn arrays_text(&self) -> String {
        let (column, expression) = match self.computed {
            Some((column, expression)) => (format!(", {column}"), format!(", {expression}")),
            None => Default::default(),
        };
        let (table, columns, conflict) = (self.table, self.columns.join(", "), &self.conflict);
        let arrays = places(1, self.columns.len());
        format!(
            "INSERT INTO {table} ({columns}{column}) SELECT added.*{expression} \
             FROM UNNEST({arrays}) AS added ({columns}){conflict}"
        )
    }
}
