//! What one life writes, row by row, taken down from the engine itself.
//!
//! A sample life is run on an empty SQLite file and its rows are read back after every command. The
//! ids in them become marks, so that the bare side and the loader write the same rows for any job.

use sqlx::{ConnectOptions as _, Row as _, SqliteConnection, TypeInfo as _, ValueRef as _};
use tradepost::{ids::AgentId, store::SqliteStore};
use uuid::Uuid;

use crate::{Outcome, ours};

/// How a column is typed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Int,
    Text,
    Id,
    Bytes,
}

/// A table that a life writes rows into.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Type)],
    /// What happens to a row that is there already.
    pub(crate) conflict: &'static str,
    /// A query for how many rows were written so far.
    pub(crate) written: &'static str,
}

/// The accounts stand apart: their rows change by what the transfers say.
pub(crate) const ACCOUNTS_WRITTEN: &str = "SELECT CAST(COALESCE(SUM(version), 0) AS BIGINT) FROM accounts";

pub(crate) const TABLES: [Table; 5] = [
    Table {
        name: "jobs",
        columns: &[
            ("market", Type::Int),
            ("id", Type::Id),
            ("version", Type::Int),
            ("status", Type::Text),
            ("due_at", Type::Int),
            ("claimed_until", Type::Int),
            ("claims", Type::Int),
            ("buyer", Type::Id),
            ("worker", Type::Id),
            ("body", Type::Text),
        ],
        conflict: " ON CONFLICT (market, id) DO UPDATE SET version = excluded.version, status = excluded.status, \
                   due_at = excluded.due_at, claimed_until = excluded.claimed_until, claims = excluded.claims, \
                   buyer = excluded.buyer, worker = excluded.worker, body = excluded.body",
        written: "SELECT CAST(COALESCE(SUM(version), 0) AS BIGINT) FROM jobs",
    },
    Table {
        name: "events",
        columns: &[
            ("market", Type::Int),
            ("subject", Type::Id),
            ("kind", Type::Text),
            ("version", Type::Int),
            ("at", Type::Int),
            ("actor", Type::Text),
            ("body", Type::Text),
        ],
        conflict: "",
        written: "SELECT COUNT(*) FROM events",
    },
    Table {
        name: "transfers",
        columns: &[
            ("market", Type::Int),
            ("contract", Type::Id),
            ("version", Type::Int),
            ("part", Type::Int),
            ("parts", Type::Int),
            ("debit", Type::Text),
            ("credit", Type::Text),
            ("amount", Type::Int),
            ("currency", Type::Text),
            ("kind", Type::Text),
            ("at", Type::Int),
        ],
        conflict: "",
        written: "SELECT COUNT(*) FROM transfers",
    },
    Table {
        name: "keys",
        columns: &[
            ("market", Type::Int),
            ("key", Type::Text),
            ("fingerprint", Type::Bytes),
            ("kind", Type::Text),
            ("answer", Type::Text),
        ],
        conflict: "",
        written: "SELECT COUNT(*) FROM keys",
    },
    Table {
        name: "documents",
        columns: &[("market", Type::Int), ("subject", Type::Id), ("name", Type::Text), ("body", Type::Text)],
        conflict: "",
        written: "SELECT COUNT(*) FROM documents",
    },
];
const JOBS: usize = 0;
const TRANSFERS: usize = 2;

/// An id that is another in every life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Job,
    Buyer,
    Worker,
    Nonce,
}

/// A part of a text.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Text(String),
    Mark(Mark),
}

/// One column of a row.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Int(Option<i64>),
    Text(Vec<Piece>),
    Id(Mark),
    Bytes(Vec<u8>),
}

/// What one command writes.
pub(crate) struct Step {
    /// By table, as in [`TABLES`].
    pub(crate) rows: [Vec<Vec<Field>>; TABLES.len()],
    /// The kept accounts that its transfers move, and by how much.
    pub(crate) changes: Vec<(Vec<Piece>, i64)>,
}

/// What a life writes, command by command.
pub(crate) struct Template {
    pub(crate) steps: Vec<Step>,
}

impl Template {
    pub(crate) async fn take_down() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("sample.db");
        let market = ours::open(SqliteStore::open(&path).await?).await?;
        let [buyer, worker] = [AgentId(Uuid::from_u128(1 << 100)), AgentId(Uuid::from_u128(2 << 100))];
        ours::endow(&market, [buyer, worker]).await?;
        let mut reader = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await?;
        let (nonce, mut job) = (Uuid::from_u128(3 << 100), None);
        let mut seen = [0; TABLES.len()];
        for (table, seen) in TABLES.iter().zip(&mut seen) {
            *seen = last_row(&mut reader, table).await?;
        }
        let mut steps = Vec::new();
        for command in 0..ours::COMMANDS {
            let id = ours::command(&market, command, job, buyer, worker, nonce).await?;
            job = Some(id);
            let marks = [(id.0, Mark::Job), (buyer.0, Mark::Buyer), (worker.0, Mark::Worker), (nonce, Mark::Nonce)];
            let mut rows = [const { Vec::new() }; TABLES.len()];
            for (place, table) in TABLES.iter().enumerate() {
                let after = if place == JOBS { 0 } else { seen[place] };
                rows[place] = read(&mut reader, table, after, &marks).await?;
                seen[place] = last_row(&mut reader, table).await?;
            }
            let changes = rows[TRANSFERS].iter().flat_map(|row| changes(row)).collect();
            steps.push(Step { rows, changes });
        }
        Ok(Self { steps })
    }
}

async fn last_row(reader: &mut SqliteConnection, table: &Table) -> Outcome<i64> {
    let sql = format!("SELECT COALESCE(MAX(rowid), 0) FROM {}", table.name);
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(reader).await?)
}

async fn read(
    reader: &mut SqliteConnection,
    table: &Table,
    after: i64,
    marks: &[(Uuid, Mark)],
) -> Outcome<Vec<Vec<Field>>> {
    let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let sql = format!("SELECT {} FROM {} WHERE rowid > {after} ORDER BY rowid", columns.join(", "), table.name);
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(reader).await?;
    let field = |row: &sqlx::sqlite::SqliteRow, i: usize| -> Outcome<Field> {
        let value = row.try_get_raw(i)?;
        Ok(match value.type_info().name() {
            _ if value.is_null() => Field::Int(None),
            "INTEGER" => Field::Int(Some(row.try_get_unchecked(i)?)),
            "TEXT" => Field::Text(cut(row.try_get_unchecked(i)?, marks)),
            _ => {
                let bytes: Vec<u8> = row.try_get_unchecked(i)?;
                let known = marks.iter().find(|(id, _)| id.as_bytes() == bytes.as_slice());
                known.map_or(Field::Bytes(bytes), |(_, mark)| Field::Id(*mark))
            }
        })
    };
    rows.iter().map(|row| (0..table.columns.len()).map(|i| field(row, i)).collect()).collect()
}

/// Cuts a text where ids stand in it.
fn cut(text: &str, marks: &[(Uuid, Mark)]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let first = |text: &str| {
        let places = marks.iter().filter_map(|(id, mark)| Some((text.find(&id.to_string())?, *mark)));
        places.min_by_key(|(place, _)| *place)
    };
    while let Some((place, mark)) = first(rest) {
        pieces.push(Piece::Text(rest[..place].into()));
        pieces.push(Piece::Mark(mark));
        rest = &rest[place + Uuid::nil().hyphenated().to_string().len()..];
    }
    pieces.push(Piece::Text(rest.into()));
    pieces
}

/// What a transfer does to accounts whose balance is kept.
fn changes(transfer: &[Field]) -> Vec<(Vec<Piece>, i64)> {
    let place = |name| TABLES[TRANSFERS].columns.iter().position(|(column, _)| *column == name).unwrap_or_default();
    let (debit, credit, amount) = (&transfer[place("debit")], &transfer[place("credit")], &transfer[place("amount")]);
    let Field::Int(Some(amount)) = amount else { return Vec::new() };
    let kept = |field: &Field, delta| match field {
        Field::Text(pieces) => match pieces.first() {
            Some(Piece::Text(purpose)) if purpose.starts_with("wallet/") || purpose.starts_with("escrow/") => {
                Some((pieces.clone(), delta))
            }
            _ => None,
        },
        _ => None,
    };
    [kept(debit, -amount), kept(credit, *amount)].into_iter().flatten().collect()
}
