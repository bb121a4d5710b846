//! Finished jobs by the thousand and by the million, with set-based SQL: the rows that the last
//! command of each life leaves behind, in every table and index.
//!
//! A million lives are some sixteen million rows and gigabytes, so nothing is written twice: one
//! transaction without a journal, every table filled in the order of its key, and the other indexes
//! laid aside and made again in the end. PostgreSQL leaves out its journal (at `wal_level = minimal`) for
//! tables that were emptied in the same transaction, so what is in them already is put aside for that.

use sqlx::{AssertSqlSafe, Connection, Executor, IntoArguments, PgConnection, SqliteConnection};

use crate::{
    Outcome, cast,
    template::{ACCOUNTS_WRITTEN, Field, Mark, Piece, TABLES, Template, Type},
};

/// What differs between the databases.
pub(crate) struct Dialect {
    /// Makes the table `life`: the ids of each life, as ids and as texts.
    lives: fn(u64) -> String,
    /// A text's id.
    id: fn(&str) -> String,
    bytes: fn(&str) -> String,
    epoch: &'static str,
    /// The indexes that are no constraints: how each is dropped, and how it is made.
    indexes: &'static str,
    before: &'static str,
    /// What is done to each table before and after, `@` standing for its name.
    before_table: &'static str,
    after_table: &'static str,
    after: &'static str,
}

/// The lives by what a table's key begins with.
const ORDERS: [(&str, &str); 3] = [("life", ""), ("life_by_buyer", "buyer"), ("life_by_worker", "worker")];

pub(crate) const SQLITE: Dialect = Dialect {
    lives: |count| {
        let agent = |number: &str| format!("printf('00000000-0000-4000-8000-%012x', {number})");
        lives(
            &format!("WITH RECURSIVE lives (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM lives WHERE i < {count})"),
            "lives",
            "printf('01800000-%04x-7%03x-8000-%012x', i >> 12, i & 4095, i)",
            agent,
            "printf('00000001-0000-4000-8000-%012x', i)",
        )
    },
    id: |text| format!("unhex(replace({text}, '-', ''))"),
    bytes: |hex| format!("x'{hex}'"),
    epoch: "",
    indexes: "SELECT 'DROP INDEX ' || name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
    before: "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -524288; \
             PRAGMA temp_store = MEMORY; BEGIN",
    before_table: "",
    after_table: "",
    after: "COMMIT; PRAGMA temp_store = DEFAULT; PRAGMA analysis_limit = 1000; ANALYZE; PRAGMA journal_mode = WAL",
};

pub(crate) const POSTGRES: Dialect = Dialect {
    lives: |count| {
        let agent = |number: &str| format!("'00000000-0000-4000-8000-' || lpad(to_hex({number}), 12, '0')");
        lives(
            "",
            &format!("generate_series(1::bigint, {count}::bigint) AS lives (i)"),
            "'01800000-' || lpad(to_hex(i >> 12), 4, '0') || '-7' || lpad(to_hex(i & 4095), 3, '0') || '-8000-' \
             || lpad(to_hex(i), 12, '0')",
            agent,
            "'00000001-0000-4000-8000-' || lpad(to_hex(i), 12, '0')",
        )
    },
    id: |text| format!("({text})::uuid"),
    bytes: |hex| format!("'\\x{hex}'::bytea"),
    epoch: "pg_current_xact_id()::text::bigint",
    indexes: "SELECT 'DROP INDEX ' || indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() \
              AND indexname NOT IN (SELECT conname FROM pg_constraint)",
    before: "BEGIN; SET LOCAL work_mem = '256MB'; SET LOCAL maintenance_work_mem = '512MB'",
    before_table: "ALTER TABLE @ DISABLE TRIGGER USER; CREATE TEMP TABLE aside AS SELECT * FROM @; TRUNCATE @; \
                   INSERT INTO @ OVERRIDING SYSTEM VALUE SELECT * FROM aside; DROP TABLE aside",
    after_table: "ALTER TABLE @ ENABLE TRIGGER USER",
    after: "COMMIT; ANALYZE; CHECKPOINT",
};

fn lives(with: &str, from: &str, job: &str, agent: impl Fn(&str) -> String, nonce: &str) -> String {
    let (agents, others) = (cast::AGENTS, cast::AGENTS - 1);
    let buyer = format!("(i * {} % {agents})", cast::STRIDE);
    let worker = format!("(({buyer} + 1 + i % {others}) % {agents})");
    let (buyer, worker) = (agent(&buyer), agent(&worker));
    format!(
        "CREATE TEMP TABLE life AS {with} SELECT i, {job} AS job, {buyer} AS buyer, {worker} AS worker, \
         {nonce} AS nonce FROM {from}"
    )
}

/// Prepares a PostgreSQL server for [`load`], once it was started again: nothing but commits is to be written
/// while it measures.
pub(crate) async fn configure(connection: &mut PgConnection) -> Outcome<()> {
    for setting in ["wal_level = minimal", "max_wal_senders = 0", "autovacuum = off", "max_wal_size = '8GB'"] {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("ALTER SYSTEM SET {setting}")))).await?;
    }
    Ok(())
}

/// Waits until an SQLite file is nobody else's: only then can it do without a journal.
pub(crate) async fn alone(connection: &mut SqliteConnection) -> Outcome<()> {
    for _ in 0..200 {
        let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode = OFF").fetch_one(&mut *connection).await;
        if mode.is_ok_and(|mode| mode == "off") {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err("another connection stays open".into())
}

/// Adds `count` finished jobs.
pub(crate) async fn load<C>(connection: &mut C, dialect: &Dialect, template: &Template, count: u64) -> Outcome<()>
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    (String, String): for<'r> sqlx::FromRow<'r, <C::Database as sqlx::Database>::Row>,
    for<'q> <C::Database as sqlx::Database>::Arguments: IntoArguments<C::Database>,
{
    let indexes: Vec<(String, String)> = sqlx::query_as(dialect.indexes).fetch_all(&mut *connection).await?;
    let (drops, makes): (Vec<String>, Vec<String>) = indexes.into_iter().unzip();
    let script =
        |script: &str| -> Vec<String> { script.split("; ").filter(|sql| !sql.is_empty()).map(String::from).collect() };
    let each = |sql: &str| -> Vec<String> {
        let names = TABLES.iter().map(|table| table.name).chain(["accounts"]);
        names.flat_map(|name| script(&sql.replace('@', name))).collect()
    };
    let steps: [Vec<String>; 7] = [
        script(dialect.before),
        each(dialect.before_table),
        drops,
        statements(dialect, template, count),
        makes,
        each(dialect.after_table),
        script(dialect.after),
    ];
    for sql in steps.into_iter().flatten() {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    }
    Ok(())
}

fn statements(dialect: &Dialect, template: &Template, count: u64) -> Vec<String> {
    let mut statements = vec![(dialect.lives)(count)];
    for (name, first) in ORDERS.iter().filter(|(_, first)| !first.is_empty()) {
        statements.push(format!("CREATE TEMP TABLE {name} AS SELECT * FROM life ORDER BY {first}, i"));
    }
    for (place, table) in TABLES.iter().enumerate() {
        let last = template.steps.len() - 1;
        // A job is there once, as its last command leaves it; of the rest nothing is ever changed.
        let steps = if table.name == "jobs" { last..=last } else { 0..=last };
        for row in template.steps[steps].iter().flat_map(|step| &step.rows[place]) {
            let mut columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
            let typed = row.iter().zip(table.columns);
            let mut values: Vec<String> = typed.map(|(field, (_, kind))| expression(dialect, field, *kind)).collect();
            if table.name == "events" && !dialect.epoch.is_empty() {
                columns.push("epoch");
                values.push(dialect.epoch.into());
            }
            let (name, columns, values) = (table.name, columns.join(", "), values.join(", "));
            // The column after the market begins every key.
            let first = row.get(1).and_then(first_mark).map_or("", column);
            let from = ORDERS.iter().find(|(_, order)| *order == first).map_or("life", |(name, _)| name);
            statements.push(format!("INSERT INTO {name} ({columns}) SELECT {values} FROM {from}"));
        }
    }
    for (pieces, delta) in template.steps.iter().flat_map(|step| &step.changes) {
        if !matches!(pieces.first(), Some(Piece::Text(purpose)) if purpose.starts_with("escrow/")) {
            let name = text(pieces);
            statements.push(format!(
                "UPDATE accounts SET balance = accounts.balance + moved.balance, version = version + moved.times \
                 FROM (SELECT {name} AS account, CAST({delta} * COUNT(*) AS BIGINT) AS balance, COUNT(*) AS times \
                 FROM life GROUP BY 1) AS moved WHERE accounts.market = 1 AND accounts.account = moved.account \
                 AND accounts.currency = 'EUR/2'"
            ));
        }
    }
    // After the wallets have moved: among a million holds a wallet is hard to find without statistics.
    statements.push(
        "INSERT INTO accounts (market, account, currency, balance, version) \
         SELECT 1, 'escrow/' || job, 'EUR/2', 0, 2 FROM life"
            .into(),
    );
    statements.extend(ORDERS.map(|(name, _)| format!("DROP TABLE {name}")));
    statements
}

fn first_mark(field: &Field) -> Option<Mark> {
    match field {
        Field::Id(mark) => Some(*mark),
        Field::Text(pieces) => {
            pieces.iter().find_map(|piece| if let Piece::Mark(mark) = piece { Some(*mark) } else { None })
        }
        Field::Int(_) | Field::Bytes(_) => None,
    }
}

fn expression(dialect: &Dialect, field: &Field, kind: Type) -> String {
    match field {
        Field::Int(Some(value)) => value.to_string(),
        // An untyped nothing is a text to PostgreSQL.
        Field::Int(None) if kind == Type::Int => "CAST(NULL AS BIGINT)".into(),
        Field::Int(None) => "NULL".into(),
        Field::Text(pieces) => text(pieces),
        Field::Id(mark) => (dialect.id)(column(*mark)),
        Field::Bytes(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (dialect.bytes)(&hex)
        }
    }
}

fn text(pieces: &[Piece]) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Piece::Mark(mark) => column(*mark).into(),
    };
    pieces.iter().map(piece).collect::<Vec<_>>().join(" || ")
}

fn column(mark: Mark) -> &'static str {
    match mark {
        Mark::Job => "job",
        Mark::Buyer => "buyer",
        Mark::Worker => "worker",
        Mark::Nonce => "nonce",
    }
}

/// How many rows were written so far, by table.
pub(crate) async fn written<C>(connection: &mut C) -> Outcome<Vec<(&'static str, i64)>>
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    (i64,): for<'r> sqlx::FromRow<'r, <C::Database as sqlx::Database>::Row>,
    <C::Database as sqlx::Database>::Arguments: IntoArguments<C::Database>,
{
    let mut counts = Vec::new();
    for (name, sql) in TABLES.iter().map(|table| (table.name, table.written)).chain([("accounts", ACCOUNTS_WRITTEN)]) {
        let (count,) = sqlx::query_as::<_, (i64,)>(sql).fetch_one(&mut *connection).await?;
        counts.push((name, count));
    }
    Ok(counts)
}
