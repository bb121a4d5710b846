//! The little that is asked of a database connection, so that everything else is written once.

use std::{fmt, sync::Arc, vec};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row as _, TypeInfo as _, ValueRef as _, error::BoxDynError};
use uuid::Uuid;

use super::{Dialect, Failure};

/// One value, going in or coming out.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Int(i64),
    Text(Arc<str>),
    Id(Uuid),
    Bytes(Vec<u8>),
    NoInt,
    NoId,
    /// A column of many rows, on databases that have arrays.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "SQLite has no arrays"))]
    List(Vec<Cell>),
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<Uuid> for Cell {
    fn from(value: Uuid) -> Self {
        Self::Id(value)
    }
}

impl From<Option<i64>> for Cell {
    fn from(value: Option<i64>) -> Self {
        value.map_or(Self::NoInt, Self::Int)
    }
}

impl From<Option<Uuid>> for Cell {
    fn from(value: Option<Uuid>) -> Self {
        value.map_or(Self::NoId, Self::Id)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::Id(value) => value.fmt(f),
            Self::Bytes(value) => match Uuid::from_slice(value) {
                Ok(id) => id.fmt(f),
                Err(_) => write!(f, "{value:02x?}"),
            },
            Self::NoInt | Self::NoId => f.write_str("null"),
            Self::List(values) => f.debug_list().entries(values).finish(),
        }
    }
}

/// A row that came out, read from left to right.
pub(super) struct Line(vec::IntoIter<Cell>);

impl Line {
    pub(super) fn int(&mut self) -> Result<i64, Failure> {
        self.maybe_int()?.ok_or_else(|| Failure::corrupt("a number is missing"))
    }

    pub(super) fn maybe_int(&mut self) -> Result<Option<i64>, Failure> {
        match self.0.next() {
            Some(Cell::Int(value)) => Ok(Some(value)),
            Some(Cell::NoInt | Cell::NoId) => Ok(None),
            other => Err(unexpected("a number", other)),
        }
    }

    pub(super) fn text(&mut self) -> Result<Arc<str>, Failure> {
        match self.0.next() {
            Some(Cell::Text(value)) => Ok(value),
            other => Err(unexpected("a text", other)),
        }
    }

    pub(super) fn id(&mut self) -> Result<Uuid, Failure> {
        self.maybe_id()?.ok_or_else(|| Failure::corrupt("an id is missing"))
    }

    pub(super) fn maybe_id(&mut self) -> Result<Option<Uuid>, Failure> {
        match self.0.next() {
            Some(Cell::Id(value)) => Ok(Some(value)),
            Some(Cell::Bytes(bytes)) => Uuid::from_slice(&bytes).map(Some).map_err(|_| unexpected("an id", None)),
            Some(Cell::NoInt | Cell::NoId) => Ok(None),
            other => Err(unexpected("an id", other)),
        }
    }

    /// Whatever is there.
    pub(super) fn any(&mut self) -> Result<Cell, Failure> {
        self.0.next().ok_or_else(|| unexpected("a value", None))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Failure> {
        match self.0.next() {
            Some(Cell::Bytes(value)) => Ok(value),
            other => Err(unexpected("bytes", other)),
        }
    }
}

fn unexpected(wanted: &str, found: Option<Cell>) -> Failure {
    let found = match found {
        Some(Cell::Int(_)) => "a number",
        Some(Cell::Text(_)) => "a text",
        Some(Cell::Id(_)) => "an id",
        Some(Cell::Bytes(_)) => "bytes",
        Some(Cell::List(_)) => "a list",
        Some(Cell::NoInt | Cell::NoId) | None => "nothing",
    };
    Failure::corrupt(format!("{wanted} was expected in a column that holds {found}"))
}

/// A connection. Statements are prepared once and kept by the driver, by their text.
#[async_trait]
pub(super) trait Session: Send {
    fn dialect(&self) -> &'static Dialect;

    /// Runs a prepared statement; how many rows it changed.
    async fn run(&mut self, sql: &'static str, cells: Vec<Cell>) -> Result<u64, Failure>;

    /// Runs a prepared statement; the rows it returns.
    async fn rows(&mut self, sql: &'static str, cells: Vec<Cell>) -> Result<Vec<Line>, Failure>;

    /// Runs statements that are not worth preparing.
    async fn script(&mut self, sql: &str) -> Result<(), Failure>;
}

macro_rules! session {
    ($connection:ty, $arguments:ty, $dialect:expr, $read:ident) => {
        #[async_trait]
        impl Session for $connection {
            fn dialect(&self) -> &'static Dialect {
                $dialect
            }

            async fn run(&mut self, sql: &'static str, cells: Vec<Cell>) -> Result<u64, Failure> {
                let done = sqlx::query_with(sql, arguments::<$arguments>(cells)?).execute(self).await?;
                Ok(done.rows_affected())
            }

            async fn rows(&mut self, sql: &'static str, cells: Vec<Cell>) -> Result<Vec<Line>, Failure> {
                let rows = sqlx::query_with(sql, arguments::<$arguments>(cells)?).fetch_all(self).await?;
                rows.iter().map($read).collect()
            }

            async fn script(&mut self, sql: &str) -> Result<(), Failure> {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(self).await?;
                Ok(())
            }
        }
    };
}

#[cfg(feature = "sqlite")]
session!(sqlx::SqliteConnection, sqlx::sqlite::SqliteArguments, &super::sqlite::DIALECT, read_sqlite);
#[cfg(feature = "postgres")]
session!(sqlx::PgConnection, sqlx::postgres::PgArguments, &super::postgres::DIALECT, read_postgres);

fn arguments<A>(cells: Vec<Cell>) -> Result<A, Failure>
where
    A: sqlx::Arguments + Lists + Default,
    i64: sqlx::Type<A::Database> + for<'q> sqlx::Encode<'q, A::Database>,
    Arc<str>: sqlx::Type<A::Database> + for<'q> sqlx::Encode<'q, A::Database>,
    Uuid: sqlx::Type<A::Database> + for<'q> sqlx::Encode<'q, A::Database>,
    Vec<u8>: sqlx::Type<A::Database> + for<'q> sqlx::Encode<'q, A::Database>,
    Option<i64>: sqlx::Type<A::Database> + for<'q> sqlx::Encode<'q, A::Database>,
    Option<Uuid>: sqlx::Type<A::Database> + for<'q> sqlx::Encode<'q, A::Database>,
{
    let mut arguments = A::default();
    arguments.reserve(cells.len(), cells.len() * 16);
    for cell in cells {
        match cell {
            Cell::Int(value) => arguments.add(value),
            Cell::Text(value) => arguments.add(value),
            Cell::Id(value) => arguments.add(value),
            Cell::Bytes(value) => arguments.add(value),
            Cell::NoInt => arguments.add(None::<i64>),
            Cell::NoId => arguments.add(None::<Uuid>),
            Cell::List(values) => arguments.add_list(values),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Arguments that may be lists.
trait Lists {
    fn add_list(&mut self, values: Vec<Cell>) -> Result<(), BoxDynError>;
}

#[cfg(feature = "sqlite")]
impl Lists for sqlx::sqlite::SqliteArguments {
    fn add_list(&mut self, _values: Vec<Cell>) -> Result<(), BoxDynError> {
        Err("SQLite has no arrays".into())
    }
}

#[cfg(feature = "postgres")]
impl Lists for sqlx::postgres::PgArguments {
    /// The first value says what all of them are.
    fn add_list(&mut self, values: Vec<Cell>) -> Result<(), BoxDynError> {
        use sqlx::Arguments as _;
        match values.first() {
            Some(Cell::Int(_) | Cell::NoInt) => self.add(list(&values, |cell| match cell {
                Cell::Int(value) => Some(Some(*value)),
                Cell::NoInt => Some(None),
                _ => None,
            })?),
            Some(Cell::Id(_) | Cell::NoId) => self.add(list(&values, |cell| match cell {
                Cell::Id(value) => Some(Some(*value)),
                Cell::NoId => Some(None),
                _ => None,
            })?),
            Some(Cell::Text(_)) => self.add(list(&values, |cell| match cell {
                Cell::Text(value) => Some(&**value),
                _ => None,
            })?),
            Some(Cell::Bytes(_)) => self.add(list(&values, |cell| match cell {
                Cell::Bytes(value) => Some(&**value),
                _ => None,
            })?),
            Some(Cell::List(_)) | None => Err("a list holds values".into()),
        }
    }
}

#[cfg(feature = "postgres")]
fn list<'a, T>(values: &'a [Cell], value: impl Fn(&'a Cell) -> Option<T>) -> Result<Vec<T>, BoxDynError> {
    values.iter().map(value).collect::<Option<_>>().ok_or_else(|| "a column holds values of one type".into())
}

#[cfg(feature = "sqlite")]
fn read_sqlite(row: &sqlx::sqlite::SqliteRow) -> Result<Line, Failure> {
    let cell = |i: usize| -> Result<Cell, sqlx::Error> {
        let value = row.try_get_raw(i)?;
        Ok(match value.type_info().name() {
            _ if value.is_null() => Cell::NoInt,
            "INTEGER" => Cell::Int(row.try_get_unchecked(i)?),
            "TEXT" => Cell::Text(row.try_get_unchecked::<&str, _>(i)?.into()),
            _ => Cell::Bytes(row.try_get_unchecked(i)?),
        })
    };
    let cells: Vec<Cell> = (0..row.len()).map(cell).collect::<Result<_, _>>()?;
    Ok(Line(cells.into_iter()))
}

#[cfg(feature = "postgres")]
fn read_postgres(row: &sqlx::postgres::PgRow) -> Result<Line, Failure> {
    use sqlx::Column as _;
    let cell = |column: &sqlx::postgres::PgColumn| -> Result<Cell, sqlx::Error> {
        let i = column.ordinal();
        Ok(match column.type_info().name() {
            _ if row.try_get_raw(i)?.is_null() => Cell::NoInt,
            "INT8" => Cell::Int(row.try_get(i)?),
            "INT4" => Cell::Int(row.try_get::<i32, _>(i)?.into()), // a number in a statement
            "UUID" => Cell::Id(row.try_get(i)?),
            "BYTEA" => Cell::Bytes(row.try_get(i)?),
            _ => Cell::Text(row.try_get::<&str, _>(i)?.into()),
        })
    };
    let cells: Vec<Cell> = row.columns().iter().map(cell).collect::<Result<_, _>>()?;
    Ok(Line(cells.into_iter()))
}
