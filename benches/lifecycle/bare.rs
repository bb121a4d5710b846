//! The same row writes by hand: no rules, no reads, nothing but prepared statements.
//!
//! Callers hand their rows to as many writers as the engine has on that database (one on SQLite, four
//! on PostgreSQL); a writer takes everything that waits, up to as many as the engine would, and writes
//! it in one durable transaction. On SQLite a statement inserts many rows by `VALUES`, on PostgreSQL by
//! `UNNEST`: the fastest of what was tried on each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sqlx::{
    Arguments as _, ConnectOptions as _, Executor as _, PgConnection, SqliteConnection,
    postgres::{PgArguments, PgConnectOptions},
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use crate::{
    Outcome, cast,
    template::{Field, Mark, Piece, Step, TABLES, Table, Template, Type},
};

/// As in the engine.
const GROUP: usize = 256;
const SQLITE_WRITERS: usize = 1;
const POSTGRES_WRITERS: usize = 4;
/// The most rows of one statement on SQLite, which is what the engine's statements hold.
const BULK: usize = 256;
/// Transactions that lock accounts in another order fail as a deadlock and are tried again.
const ATTEMPTS: usize = 8;

const OPEN_ACCOUNT: &str =
    "INSERT INTO accounts (market, account, currency, balance, version) SELECT 1, account, 'EUR/2', balance, 1";
const MOVE_ACCOUNT: &str = "UPDATE accounts SET balance = accounts.balance + moved.balance, version = version + 1";
const MOVED: &str = "WHERE accounts.market = 1 AND accounts.account = moved.account AND accounts.currency = 'EUR/2'";

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Int(Option<i64>),
    Text(String),
    Id(Uuid),
    Bytes(Vec<u8>),
}

/// The rows of one command.
struct Filled {
    rows: [Vec<Vec<Cell>>; TABLES.len()],
    opened: Vec<(String, i64)>,
    moved: Vec<(String, i64)>,
}

type Request = (Filled, oneshot::Sender<()>);

/// Where lives are written by hand.
#[derive(Clone)]
pub(crate) struct BareSql {
    queue: mpsc::Sender<Request>,
    template: Arc<Template>,
}

impl BareSql {
    pub(crate) async fn sqlite(options: SqliteConnectOptions, template: Arc<Template>) -> Outcome<Self> {
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .statement_cache_capacity(512)
            .pragma("cache_size", "-32768")
            .busy_timeout(std::time::Duration::from_secs(10))
            .disable_statement_logging();
        let mut hands = Vec::new();
        for _ in 0..SQLITE_WRITERS {
            hands.push(Hand::Sqlite(options.connect().await?, HashMap::new()));
        }
        Ok(Self::start(hands, template))
    }

    pub(crate) async fn postgres(options: PgConnectOptions, template: Arc<Template>) -> Outcome<Self> {
        let options = options
            .options([
                ("synchronous_commit", "on"),
                ("enable_seqscan", "off"),
                ("plan_cache_mode", "force_generic_plan"),
            ])
            .statement_cache_capacity(512)
            .disable_statement_logging();
        let mut hands = Vec::new();
        for _ in 0..POSTGRES_WRITERS {
            hands.push(Hand::Postgres(options.connect().await?, HashMap::new()));
        }
        Ok(Self::start(hands, template))
    }

    fn start(hands: Vec<Hand>, template: Arc<Template>) -> Self {
        let (sender, receiver) = mpsc::channel(4 * GROUP);
        let receiver = Arc::new(Mutex::new(receiver));
        for hand in hands {
            tokio::spawn(empty(hand, Arc::clone(&receiver)));
        }
        Self { queue: sender, template }
    }

    /// One life, waiting for each command to be durable.
    pub(crate) async fn life(self, number: u64) -> Outcome<()> {
        #[expect(clippy::disallowed_methods, reason = "a benchmark makes its ids where the bare side does")]
        let ids = Ids::new(Uuid::now_v7(), number);
        for step in &self.template.steps {
            let (answer, written) = oneshot::channel();
            self.queue.send((fill(step, &ids), answer)).await.map_err(|_| "the bare writers have stopped")?;
            written.await?;
        }
        Ok(())
    }
}

/// The ids of a life, and their texts.
struct Ids([(Uuid, String); 4]);

impl Ids {
    fn new(job: Uuid, number: u64) -> Self {
        let (buyer, worker) = cast::parties(number);
        Self([job, buyer.0, worker.0, cast::nonce(number)].map(|id| (id, id.to_string())))
    }

    fn of(&self, mark: Mark) -> &(Uuid, String) {
        &self.0[match mark {
            Mark::Job => 0,
            Mark::Buyer => 1,
            Mark::Worker => 2,
            Mark::Nonce => 3,
        }]
    }

    fn text(&self, pieces: &[Piece]) -> String {
        let mut text = String::with_capacity(64 * pieces.len());
        for piece in pieces {
            text.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Mark(mark) => &self.of(*mark).1,
            });
        }
        text
    }
}

fn fill(step: &Step, ids: &Ids) -> Filled {
    let cell = |field: &Field| match field {
        Field::Int(value) => Cell::Int(*value),
        Field::Text(pieces) => Cell::Text(ids.text(pieces)),
        Field::Id(mark) => Cell::Id(ids.of(*mark).0),
        Field::Bytes(bytes) => Cell::Bytes(bytes.clone()),
    };
    let rows = step.rows.each_ref().map(|rows| rows.iter().map(|row| row.iter().map(cell).collect()).collect());
    let changes = step.changes.iter().map(|(name, delta)| (ids.text(name), *delta));
    // An account whose first change is a gain of the hold's is a new one.
    let (opened, moved) = changes.partition(|(name, delta)| name.starts_with("escrow/") && *delta > 0);
    Filled { rows, opened, moved }
}

async fn empty(mut hand: Hand, queue: Arc<Mutex<mpsc::Receiver<Request>>>) {
    let mut group = Vec::new();
    while queue.lock().await.recv_many(&mut group, GROUP).await > 0 {
        let (mut rows, mut opened, mut moved) = ([const { Vec::new() }; TABLES.len()], Vec::new(), BTreeMap::new());
        let mut answers = Vec::with_capacity(group.len());
        for (filled, answer) in group.drain(..) {
            for (all, mut some) in rows.iter_mut().zip(filled.rows) {
                all.append(&mut some);
            }
            opened.extend(filled.opened);
            for (name, delta) in filled.moved {
                *moved.entry(name).or_insert(0) += delta;
            }
            answers.push(answer);
        }
        let moved: Vec<(String, i64)> = moved.into_iter().collect();
        let mut tries = 1;
        while let Err(error) = hand.write(&rows, &opened, &moved).await {
            assert!(tries < ATTEMPTS, "the bare side cannot write: {error}");
            hand.script("ROLLBACK").await.expect("a failed transaction ends");
            tries += 1;
        }
        for answer in answers {
            let _ = answer.send(());
        }
    }
}

/// A connection and the texts of its statements, by purpose and number of rows.
enum Hand {
    Sqlite(SqliteConnection, HashMap<(&'static str, usize), &'static str>),
    Postgres(PgConnection, HashMap<&'static str, &'static str>),
}

impl Hand {
    async fn write(
        &mut self,
        rows: &[Vec<Vec<Cell>>; TABLES.len()],
        opened: &[(String, i64)],
        moved: &[(String, i64)],
    ) -> Outcome<()> {
        let begin = match self {
            Self::Sqlite(..) => "BEGIN IMMEDIATE",
            Self::Postgres(..) => "BEGIN",
        };
        self.script(begin).await?;
        for (table, rows) in TABLES.iter().zip(rows) {
            self.insert(table, rows).await?;
        }
        self.accounts("open", opened).await?;
        self.accounts("move", moved).await?;
        self.script("COMMIT").await
    }

    async fn script(&mut self, sql: &'static str) -> Outcome<()> {
        match self {
            Self::Sqlite(connection, _) => connection.execute(sqlx::raw_sql(sql)).await.map(drop)?,
            Self::Postgres(connection, _) => connection.execute(sqlx::raw_sql(sql)).await.map(drop)?,
        }
        Ok(())
    }

    async fn insert(&mut self, table: &Table, rows: &[Vec<Cell>]) -> Outcome<()> {
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let (name, columns) = (table.name, columns.join(", "));
        match self {
            Self::Sqlite(connection, texts) => {
                for rows in powers(rows) {
                    let make = || {
                        let values = values(rows.len(), table.columns.len());
                        format!("INSERT INTO {name} ({columns}) VALUES {values}{}", table.conflict).leak()
                            as &'static str
                    };
                    let sql = *texts.entry((table.name, rows.len())).or_insert_with(make);
                    let mut arguments = SqliteArguments::default();
                    for cell in rows.iter().flatten() {
                        match cell {
                            Cell::Int(value) => arguments.add(*value)?,
                            Cell::Text(value) => arguments.add(value.clone())?,
                            Cell::Id(value) => arguments.add(*value)?,
                            Cell::Bytes(value) => arguments.add(value.clone())?,
                        }
                    }
                    sqlx::query_with(sql, arguments).execute(&mut *connection).await?;
                }
            }
            Self::Postgres(_, _) if rows.is_empty() => {}
            Self::Postgres(connection, texts) => {
                let make = || {
                    let arrays = arrays(table.columns.iter().map(|(_, kind)| *kind));
                    let (epoch, computed) = match table.name {
                        "events" => (", epoch", ", pg_current_xact_id()::text::bigint"),
                        _ => ("", ""),
                    };
                    let conflict = table.conflict;
                    format!("INSERT INTO {name} ({columns}{epoch}) SELECT *{computed} FROM UNNEST({arrays}){conflict}")
                        .leak() as &'static str
                };
                let sql = *texts.entry(table.name).or_insert_with(make);
                let mut arguments = PgArguments::default();
                for (place, (_, kind)) in table.columns.iter().enumerate() {
                    add_column(&mut arguments, *kind, rows.iter().map(|row| &row[place]))?;
                }
                sqlx::query_with(sql, arguments).execute(connection).await?;
            }
        }
        Ok(())
    }

    async fn accounts(&mut self, purpose: &'static str, changes: &[(String, i64)]) -> Outcome<()> {
        let from = |list: String| match purpose {
            "open" => format!("{OPEN_ACCOUNT} FROM {list} WHERE true"),
            _ => format!("{MOVE_ACCOUNT} FROM {list} {MOVED}"),
        };
        match self {
            Self::Sqlite(connection, texts) => {
                for changes in powers(changes) {
                    let make = || {
                        let values = values(changes.len(), 2);
                        let list =
                            format!("(SELECT column1 AS account, column2 AS balance FROM (VALUES {values})) AS moved");
                        from(list).leak() as &'static str
                    };
                    let sql = *texts.entry((purpose, changes.len())).or_insert_with(make);
                    let mut arguments = SqliteArguments::default();
                    for (name, delta) in changes {
                        arguments.add(name.clone())?;
                        arguments.add(*delta)?;
                    }
                    sqlx::query_with(sql, arguments).execute(&mut *connection).await?;
                }
            }
            Self::Postgres(_, _) if changes.is_empty() => {}
            Self::Postgres(connection, texts) => {
                let make = || {
                    let list = format!("UNNEST({}) AS moved (account, balance)", arrays([Type::Text, Type::Int]));
                    from(list).leak() as &'static str
                };
                let sql = *texts.entry(purpose).or_insert_with(make);
                let mut arguments = PgArguments::default();
                arguments.add(changes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())?;
                arguments.add(changes.iter().map(|(_, delta)| *delta).collect::<Vec<_>>())?;
                sqlx::query_with(sql, arguments).execute(connection).await?;
            }
        }
        Ok(())
    }
}

/// Slices whose lengths are powers of two, so that few statements are prepared.
fn powers<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let size = 1 << rest.len().min(BULK).checked_ilog2()?;
        let (now, later) = rest.split_at(size);
        rest = later;
        Some(now)
    })
}

/// `(?, ?), (?, ?)`: without names, which SQLite would look up one by one.
fn values(rows: usize, width: usize) -> String {
    let row = format!("({})", vec!["?"; width].join(", "));
    vec![row; rows].join(", ")
}

/// `$1::bigint[], $2::text[]`
fn arrays(kinds: impl IntoIterator<Item = Type>) -> String {
    let array = |(place, kind): (usize, Type)| {
        let name = match kind {
            Type::Int => "bigint",
            Type::Text => "text",
            Type::Id => "uuid",
            Type::Bytes => "bytea",
        };
        format!("${}::{name}[]", place + 1)
    };
    kinds.into_iter().enumerate().map(array).collect::<Vec<_>>().join(", ")
}

fn add_column<'a>(arguments: &mut PgArguments, kind: Type, cells: impl Iterator<Item = &'a Cell>) -> Outcome<()> {
    match kind {
        Type::Int => {
            arguments.add(cells.map(|cell| if let Cell::Int(value) = cell { *value } else { None }).collect::<Vec<_>>())
        }
        Type::Text => arguments.add(
            cells
                .map(|cell| if let Cell::Text(value) = cell { Some(value.as_str()) } else { None })
                .collect::<Vec<_>>(),
        ),
        Type::Id => arguments
            .add(cells.map(|cell| if let Cell::Id(value) = cell { Some(*value) } else { None }).collect::<Vec<_>>()),
        Type::Bytes => arguments.add(
            cells
                .map(|cell| if let Cell::Bytes(value) = cell { Some(value.as_slice()) } else { None })
                .collect::<Vec<_>>(),
        ),
    }
}
