//! Reading, and the few writes that are no commits.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{
    Failure,
    session::{Cell, Line, Session},
    tables::{Table, kind, list, places, record, table, text},
    write::{account, currency, currency_name, int, micros},
};
use crate::{
    clock::{Timestamp, from_micros},
    ids::MarketId,
    ledger::{Account, Entry, Limit, Movement, TransferKind, TrialBalance},
    money::{Currency, Money},
    policy::{Policy, PolicyVersion},
    store::{Claim, Event, EventBody, Key, KeyRecord, Kind, LoggedEvent, Position, Query, Stored, Tagged},
};

type Lines = Vec<Line>;

pub(super) async fn load(session: &mut dyn Session, market: MarketId, key: Key) -> Result<Option<Stored>, Failure> {
    let table = table(key.kind).name;
    let make = || format!("SELECT version, claims, body FROM {table} WHERE market = $1 AND id = $2");
    let sql = text(session.dialect(), "load", table, 1, make);
    let lines = session.rows(sql, vec![market.0.into(), key.id.into()]).await?;
    lines.into_iter().next().map(|line| stored(key.kind, line)).transpose()
}

pub(super) fn stored(kind: Kind, mut line: Line) -> Result<Stored, Failure> {
    let (version, claims) = (line.int()?.unsigned_abs(), u32::try_from(line.int()?).unwrap_or(u32::MAX));
    Ok(Stored { record: record(kind, &line.text()?)?, version, claims })
}

pub(super) async fn key(session: &mut dyn Session, market: MarketId, key: &str) -> Result<Option<KeyRecord>, Failure> {
    let sql = "SELECT fingerprint, kind, answer FROM keys WHERE market = $1 AND key = $2";
    let Some(mut line) = session.rows(sql, vec![market.0.into(), key.into()]).await?.pop() else { return Ok(None) };
    let fingerprint = line.bytes()?.try_into().map_err(|_| Failure::corrupt("a fingerprint has 32 bytes"))?;
    let answer = record(kind(&line.text()?)?, &line.text()?)?;
    Ok(Some(KeyRecord { fingerprint, answer }))
}

pub(super) async fn open_market(session: &mut dyn Session, name: &str) -> Result<MarketId, Failure> {
    let find = "SELECT market FROM markets WHERE name = $1";
    if let Some(mut line) = session.rows(find, vec![name.into()]).await?.pop() {
        return line.int().map(MarketId);
    }
    session.run("INSERT INTO markets (name) VALUES ($1) ON CONFLICT DO NOTHING", vec![name.into()]).await?;
    let found = session.rows(find, vec![name.into()]).await?.pop();
    found.ok_or_else(|| Failure::corrupt("a market vanished"))?.int().map(MarketId)
}

pub(super) async fn add_policy(
    session: &mut dyn Session,
    market: MarketId,
    added: &Policy,
) -> Result<PolicyVersion, Failure> {
    let body = serde_json::to_string(added).map_err(|e| Failure::corrupt(format!("a policy has no JSON form: {e}")))?;
    loop {
        let newest = policy(session, market, None).await?;
        let version = match newest {
            Some((version, known)) if known == *added => return Ok(version),
            Some((version, _)) => PolicyVersion(version.0 + 1),
            None => PolicyVersion(1),
        };
        let sql = "INSERT INTO policies (market, version, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let row = vec![market.0.into(), i64::from(version.0).into(), body.as_str().into()];
        // Whoever came first has made the newest one; look again.
        if session.run(sql, row).await? == 1 {
            return Ok(version);
        }
    }
}

pub(super) async fn policy(
    session: &mut dyn Session,
    market: MarketId,
    version: Option<PolicyVersion>,
) -> Result<Option<(PolicyVersion, Policy)>, Failure> {
    let sql = "SELECT version, body FROM policies WHERE market = $1 AND version <= $2 ORDER BY version DESC LIMIT 1";
    let most = version.map_or(i64::MAX, |version| i64::from(version.0));
    let Some(mut line) = session.rows(sql, vec![market.0.into(), most.into()]).await?.pop() else { return Ok(None) };
    let unreadable = |e: String| Failure::corrupt(format!("a row of policies cannot be read: {e}"));
    let found = PolicyVersion(u32::try_from(line.int()?).map_err(|e| unreadable(e.to_string()))?);
    let body = serde_json::from_str(&line.text()?).map_err(|e| unreadable(e.to_string()))?;
    Ok(version.is_none_or(|version| version == found).then_some((found, body)))
}

pub(super) async fn find(session: &mut dyn Session, market: MarketId, query: &Query) -> Result<Vec<Stored>, Failure> {
    let make = |name: &str, wanted: &str| {
        format!("SELECT id, version, claims, body FROM {name} WHERE {wanted} ORDER BY id DESC LIMIT $2 OFFSET $3")
    };
    let (mut rest, mut found) = (query.clone(), Vec::new());
    loop {
        let lines = matching(session, "find", market, &rest, make).await?;
        match read_on(rest.kind, lines, rest.limit, &mut found)? {
            None => return Ok(found),
            Some((last, left)) => (rest.before, rest.offset, rest.limit) = (Some(last), 0, left),
        }
    }
}

/// Reads the records of a page. Those that cannot be read take no place in it: when there are some, the last
/// record's id and how many are still to be looked for after it.
fn read_on(kind: Kind, lines: Lines, asked: u32, found: &mut Vec<Stored>) -> Result<Option<(Uuid, u32)>, Failure> {
    let (full, mut last, mut left) = (lines.len() == asked as usize, None, 0);
    for mut line in lines {
        last = Some(line.id()?);
        match readable(kind, line) {
            Some(stored) => found.push(stored),
            None => left += 1,
        }
    }
    Ok(last.filter(|_| full && left > 0).map(|last| (last, left)))
}

/// Counted without an order, so that the index by party and status serves.
pub(super) async fn count(session: &mut dyn Session, market: MarketId, query: &Query) -> Result<u32, Failure> {
    let make = |name: &str, wanted: &str| {
        format!("SELECT COUNT(*) FROM (SELECT 1 AS one FROM {name} WHERE {wanted} LIMIT $2 OFFSET $3) AS found")
    };
    let query = Query { before: None, offset: 0, ..query.clone() };
    let line = matching(session, "count", market, &query, make).await?.pop();
    Ok(line.map(|mut line| line.int()).transpose()?.map_or(0, small))
}

/// The same for each of many parties in the place of the query's own, each counted up to the limit.
pub(super) async fn counts(
    session: &mut dyn Session,
    market: MarketId,
    query: &Query,
    parties: Vec<Cell>,
) -> Result<Vec<(Uuid, u32)>, Failure> {
    let table = table(query.kind);
    let Some((place, _)) = query.party else { return Ok(Vec::new()) };
    let Some(column) = table.parties.get(place) else { return Ok(Vec::new()) };
    let (asked, mut cells, size) = list(parties, session.dialect());
    let (first, statuses) = (cells.len() + 1, once(query));
    // A status at a time goes by the whole of the index; of several at once a plan may read all that a party has.
    let make = || {
        let of = |status: String| {
            format!("SELECT 1 AS one FROM {} WHERE market = ${first} AND {column} = asked.id{status}", table.name)
        };
        let arms: Vec<String> = match statuses.len() {
            0 => vec![of(String::new())],
            count => (first + 2..first + 2 + count).map(|place| of(format!(" AND status = ${place}"))).collect(),
        };
        let (arms, limit) = (arms.join(" UNION ALL "), first + 1);
        format!("SELECT asked.id, (SELECT COUNT(*) FROM ({arms} LIMIT ${limit}) AS found) FROM {asked} AS asked")
    };
    let shape = (place * STATUSES + statuses.len()) * STATUSES + size;
    let sql = text(session.dialect(), "counts", table.name, shape, make);
    cells.extend([market.0.into(), i64::from(query.limit).into()]);
    cells.extend(statuses.into_iter().map(Cell::from));
    let lines = session.rows(sql, cells).await?;
    lines.into_iter().map(|mut line| Ok((line.id()?, small(line.int()?)))).collect()
}

/// A query's statuses, each once, so that there are no more than the kind has and none counts twice.
fn once(query: &Query) -> BTreeSet<&'static str> {
    query.statuses.iter().copied().collect()
}

/// The lines of a statement about the records that match; `make` writes it, of the table's name and the
/// condition. Its `$2` is the limit, its `$3` the offset.
async fn matching(
    session: &mut dyn Session,
    purpose: &'static str,
    market: MarketId,
    query: &Query,
    make: impl Fn(&str, &str) -> String,
) -> Result<Lines, Failure> {
    let table = table(query.kind);
    let party = match query.party {
        Some((place, id)) => match table.parties.get(place) {
            Some(column) => Some((*column, id)),
            None => return Ok(Vec::new()),
        },
        None => None,
    };
    let statuses = once(query);
    let mut cells: Vec<Cell> = vec![market.0.into(), i64::from(query.limit).into(), i64::from(query.offset).into()];
    cells.extend(party.map(|(_, id)| Cell::Id(id)));
    cells.extend(query.before.map(Cell::Id));
    let make = || {
        let (mut wanted, mut place) = (String::from("market = $1"), 4);
        if let Some((column, _)) = party {
            wanted += &format!(" AND {column} = ${place}");
            place += 1;
        }
        if query.before.is_some() {
            wanted += &format!(" AND id < ${place}");
            place += 1;
        }
        if !statuses.is_empty() {
            wanted += &format!(" AND status IN ({})", places(place, statuses.len()));
        }
        make(table.name, &wanted)
    };
    // A statement's text is kept by its purpose and size: what tells these apart has to be in there.
    let party = party.map_or(0, |_| 1 + query.party.map_or(0, |(place, _)| place));
    let shape = (2 * party + usize::from(query.before.is_some())) * STATUSES + statuses.len();
    let sql = text(session.dialect(), purpose, table.name, shape, make);
    cells.extend(statuses.into_iter().map(Cell::from));
    session.rows(sql, cells).await
}

/// More than the statuses of any kind.
const STATUSES: usize = 64;

pub(super) async fn tagged(
    session: &mut dyn Session,
    market: MarketId,
    tagged: &Tagged,
) -> Result<Vec<Stored>, Failure> {
    let name = table(tagged.kind).name;
    // The records are fetched for the page only, not for what is skipped.
    let make = |older: &str| {
        format!(
            "SELECT id, version, claims, body FROM (SELECT id AS tagged FROM tags WHERE market = $1 AND kind = $2 \
             AND tag = $3{older} ORDER BY id DESC LIMIT $4 OFFSET $5) AS page \
             JOIN {name} ON market = $1 AND id = tagged ORDER BY tagged DESC"
        )
    };
    let (kind, tag) = (tagged.kind.as_str(), tagged.tag.as_str());
    let (mut before, mut offset, mut limit, mut found) = (tagged.before, tagged.offset, tagged.limit, Vec::new());
    loop {
        let mut cells: Vec<Cell> =
            vec![market.0.into(), kind.into(), tag.into(), i64::from(limit).into(), i64::from(offset).into()];
        let sql = match before {
            Some(id) => {
                cells.push(id.into());
                text(session.dialect(), "older tagged", name, 1, || make(" AND id < $6"))
            }
            None => text(session.dialect(), "tagged", name, 1, || make("")),
        };
        let lines = session.rows(sql, cells).await?;
        match read_on(tagged.kind, lines, limit, &mut found)? {
            None => return Ok(found),
            Some((last, left)) => (before, offset, limit) = (Some(last), 0, left),
        }
    }
}

/// A record among others. One that cannot be read, perhaps because a newer version of this library
/// wrote it, does not keep the caller from the others; `verify` names it.
fn readable(kind: Kind, line: Line) -> Option<Stored> {
    stored(kind, line)
        .inspect_err(|failure| tracing::error!(kind = kind.as_str(), ?failure, "a record cannot be read"))
        .ok()
}

pub(super) async fn claim(session: &mut dyn Session, market: MarketId, claim: &Claim) -> Result<Vec<Stored>, Failure> {
    let (Table { name: table, parties }, dialect) = (table(claim.kind), session.dialect());
    // A text for each power of two, so that there are few.
    let except = match (parties.first(), claim.except.len()) {
        (None, _) | (_, 0) => 0,
        (Some(_), count) => count.next_power_of_two(),
    };
    // What is due is chosen once, apart from the update, so that a plan cannot choose again.
    let make = || {
        let lock = dialect.skip_locked;
        let others = match (parties.first(), except) {
            (None, _) | (_, 0) => String::new(),
            (Some(party), count) => format!(" AND {party} NOT IN ({})", places(5, count)),
        };
        format!(
            "WITH due AS MATERIALIZED (SELECT id FROM {table} WHERE market = $1 AND due_at <= $2 \
             AND (claimed_until IS NULL OR claimed_until <= $2){others} ORDER BY due_at, id LIMIT $4{lock}) \
             UPDATE {table} SET version = version + 1, claims = claims + 1, claimed_until = $3 \
             WHERE market = $1 AND id IN (SELECT id FROM due) RETURNING due_at, id, version, claims, body"
        )
    };
    let sql = text(dialect, "claim", table, except, make);
    let mut cells =
        vec![market.0.into(), micros(claim.now).into(), micros(claim.until).into(), i64::from(claim.limit).into()];
    let last = claim.except.last().copied().unwrap_or_default();
    cells.extend(claim.except.iter().copied().chain(std::iter::repeat(last)).take(except).map(Cell::Id));
    let mut claimed = Vec::new();
    for mut line in session.rows(sql, cells).await? {
        let (due_at, id) = (line.int()?, line.id()?);
        claimed.extend(readable(claim.kind, line).map(|stored| (due_at, id, stored)));
    }
    claimed.sort_by_key(|(due_at, id, _)| (*due_at, *id));
    Ok(claimed.into_iter().map(|(_, _, stored)| stored).collect())
}

pub(super) async fn document(
    session: &mut dyn Session,
    market: MarketId,
    subject: Uuid,
    name: &str,
) -> Result<Option<String>, Failure> {
    let sql = "SELECT body FROM documents WHERE market = $1 AND subject = $2 AND name = $3";
    let line = session.rows(sql, vec![market.0.into(), subject.into(), name.into()]).await?.pop();
    line.map(|mut line| Ok(line.text()?.as_ref().into())).transpose()
}

pub(super) async fn events(
    session: &mut dyn Session,
    market: MarketId,
    after: Position,
    limit: u32,
) -> Result<Vec<LoggedEvent>, Failure> {
    let sql = session.dialect().events;
    let cells = vec![market.0.into(), after.epoch.into(), after.number.into(), i64::from(limit).into()];
    session.rows(sql, cells).await?.into_iter().map(logged).collect()
}

pub(super) async fn events_of(
    session: &mut dyn Session,
    market: MarketId,
    subject: Key,
) -> Result<Vec<LoggedEvent>, Failure> {
    let sql = session.dialect().events_of;
    let cells = vec![market.0.into(), subject.id.into(), subject.kind.as_str().into()];
    session.rows(sql, cells).await?.into_iter().map(logged).collect()
}

/// Reads epoch, number, kind, subject, version, at, actor, body.
pub(super) fn logged(mut line: Line) -> Result<LoggedEvent, Failure> {
    let position = Position { epoch: line.int()?, number: line.int()? };
    let unreadable = |e| Failure::corrupt(format!("event {} cannot be read: {e}", position.number));
    let (kind, id, version) = (kind(&line.text()?)?, line.id()?, line.int()?.unsigned_abs());
    let (at, actor, body) = (moment(line.int()?)?, line.text()?, line.text()?);
    let actor = serde_json::from_str(&actor).map_err(unreadable)?;
    let body = EventBody::from_json(kind, &body).map_err(unreadable)?;
    Ok(LoggedEvent { position, event: Event { subject: Key { kind, id }, version, at, actor, body } })
}

fn moment(micros: i64) -> Result<Timestamp, Failure> {
    from_micros(micros).ok_or_else(|| Failure::corrupt(format!("{micros} is no moment of the calendar")))
}

pub(super) async fn cursor(
    session: &mut dyn Session,
    market: MarketId,
    reader: &str,
) -> Result<Option<String>, Failure> {
    let sql = "SELECT place FROM cursors WHERE market = $1 AND reader = $2";
    let line = session.rows(sql, vec![market.0.into(), reader.into()]).await?.pop();
    line.map(|mut line| Ok(line.text()?.as_ref().into())).transpose()
}

pub(super) async fn move_cursor(
    session: &mut dyn Session,
    market: MarketId,
    reader: &str,
    from: Option<&str>,
    to: &str,
) -> Result<bool, Failure> {
    let mut cells: Vec<Cell> = vec![market.0.into(), reader.into(), to.into()];
    cells.extend(from.map(Cell::from));
    let sql = match from {
        None => "INSERT INTO cursors (market, reader, place) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        Some(_) => "UPDATE cursors SET place = $3 WHERE market = $1 AND reader = $2 AND place = $4",
    };
    Ok(session.run(sql, cells).await? == 1)
}

pub(super) async fn balance(
    session: &mut dyn Session,
    market: MarketId,
    account: Account,
    currency: Currency,
    at: Option<Timestamp>,
) -> Result<Money, Failure> {
    let mut cells: Vec<Cell> =
        vec![market.0.into(), account.to_string().as_str().into(), currency_name(currency).as_str().into()];
    let sql = match (account.limit(), at) {
        (Limit::NotNegative | Limit::NotPositive, None) => {
            "SELECT balance FROM accounts WHERE market = $1 AND account = $2 AND currency = $3"
        }
        _ => {
            cells.push(at.map_or(i64::MAX, micros).into());
            "SELECT CAST(COALESCE((SELECT SUM(amount) FROM transfers \
             WHERE market = $1 AND credit = $2 AND currency = $3 AND at <= $4), 0) \
             - COALESCE((SELECT SUM(amount) FROM transfers \
             WHERE market = $1 AND debit = $2 AND currency = $3 AND at <= $4), 0) AS BIGINT)"
        }
    };
    let line = session.rows(sql, cells).await?.pop();
    let minor = line.map(|mut line| line.int()).transpose()?;
    Ok(Money::new(minor.unwrap_or(0), currency))
}

pub(super) async fn history(
    session: &mut dyn Session,
    market: MarketId,
    of: Account,
    after: i64,
    limit: u32,
) -> Result<Vec<Entry>, Failure> {
    let make = || {
        let side = |side| {
            format!(
                "SELECT * FROM (SELECT number, at, kind, debit, credit, amount, currency, contract, version FROM transfers \
                 WHERE market = $1 AND {side} = $2 AND number > $3 ORDER BY number LIMIT $4) AS {side}s"
            )
        };
        format!("{} UNION ALL {} ORDER BY number LIMIT $4", side("debit"), side("credit"))
    };
    let sql = text(session.dialect(), "history", "transfers", 1, make);
    let cells = vec![market.0.into(), of.to_string().as_str().into(), after.into(), i64::from(limit).into()];
    session.rows(sql, cells).await?.into_iter().map(|line| entry(of, line)).collect()
}

fn entry(of: Account, mut line: Line) -> Result<Entry, Failure> {
    let (number, at, name) = (line.int()?, moment(line.int()?)?, line.text()?);
    let kind = transfer_kind(&name)?;
    let (debit, credit) = (account(&line.text()?)?, account(&line.text()?)?);
    let (amount, currency, contract) = (line.int()?, currency(&line.text()?)?, line.id()?);
    let version = line.int()?.unsigned_abs();
    let (counterparty, minor) = if credit == of { (debit, amount) } else { (credit, -amount) };
    Ok(Entry { number, at, kind, counterparty, amount: Money::new(minor, currency), contract, version })
}

pub(super) async fn movement(
    session: &mut dyn Session,
    market: MarketId,
    contract: Uuid,
    version: u64,
) -> Result<Movement, Failure> {
    let sql = "SELECT debit, credit, amount, currency, kind FROM transfers \
               WHERE market = $1 AND contract = $2 AND version = $3 ORDER BY part";
    let mut movement = Movement::new();
    for mut line in session.rows(sql, vec![market.0.into(), contract.into(), int(version).into()]).await? {
        let (debit, credit) = (account(&line.text()?)?, account(&line.text()?)?);
        let (amount, currency) = (line.int()?, currency(&line.text()?)?);
        let kind = transfer_kind(&line.text()?)?;
        let added = movement.transfer(debit, credit, Money::new(amount, currency), kind);
        added.map_err(|e| Failure::corrupt(format!("version {version} of {contract} moved what none may: {e}")))?;
    }
    Ok(movement)
}

pub(super) fn transfer_kind(name: &str) -> Result<TransferKind, Failure> {
    TransferKind::from_name(name).ok_or_else(|| Failure::corrupt(format!("{name:?} is no kind of transfer")))
}

pub(super) async fn trial_balance(session: &mut dyn Session, market: MarketId) -> Result<Vec<TrialBalance>, Failure> {
    let sql = "SELECT account, currency, CAST(SUM(moved) AS BIGINT) FROM (\
               SELECT credit AS account, currency, amount AS moved FROM transfers WHERE market = $1 UNION ALL \
               SELECT debit AS account, currency, -amount AS moved FROM transfers WHERE market = $1) AS legs \
               GROUP BY account, currency";
    let mut books: std::collections::BTreeMap<Currency, Vec<(Account, Money)>> = std::collections::BTreeMap::new();
    for mut line in session.rows(sql, vec![market.0.into()]).await? {
        let (account, currency) = (account(&line.text()?)?, currency(&line.text()?)?);
        books.entry(currency).or_default().push((account, Money::new(line.int()?, currency)));
    }
    let balance = |(currency, mut accounts): (Currency, Vec<(Account, Money)>)| {
        accounts.sort_unstable_by_key(|(account, _)| *account);
        TrialBalance { currency, accounts }
    };
    Ok(books.into_iter().map(balance).collect())
}

/// Rows of a table in pages, by its key: `columns` starts with the key, which is above `after`.
pub(super) async fn page(
    session: &mut dyn Session,
    market: MarketId,
    table: &'static str,
    columns: &str,
    key: &str,
    after: Option<Cell>,
    size: u32,
) -> Result<Lines, Failure> {
    let make = |above: &str| format!("SELECT {columns} FROM {table} WHERE market = $1{above} ORDER BY {key} LIMIT $2");
    let mut cells: Vec<Cell> = vec![market.0.into(), i64::from(size).into()];
    let sql = match after {
        Some(after) => {
            cells.push(after);
            text(session.dialect(), "page", table, 1, || make(&format!(" AND {key} > $3")))
        }
        None => text(session.dialect(), "first page", table, 1, || make("")),
    };
    session.rows(sql, cells).await
}

/// Movements whose transfers are not as many as each of them says: contract, version, expected, found.
pub(super) async fn incomplete_movements(session: &mut dyn Session, market: MarketId) -> Result<Lines, Failure> {
    let sql = "SELECT contract, version, MAX(parts), COUNT(*) FROM transfers WHERE market = $1 \
               GROUP BY contract, version HAVING COUNT(*) <> MAX(parts) OR MIN(parts) <> MAX(parts)";
    session.rows(sql, vec![market.0.into()]).await
}

/// Every account that is kept or moved: account, currency, kept, summed.
pub(super) async fn kept_and_summed(session: &mut dyn Session, market: MarketId) -> Result<Lines, Failure> {
    let sql = "SELECT account, currency, CAST(SUM(kept) AS BIGINT), CAST(SUM(moved) AS BIGINT) FROM (\
               SELECT account, currency, balance AS kept, 0 AS moved FROM accounts WHERE market = $1 UNION ALL \
               SELECT credit, currency, 0, amount FROM transfers WHERE market = $1 UNION ALL \
               SELECT debit, currency, 0, -amount FROM transfers WHERE market = $1) AS legs \
               GROUP BY account, currency";
    session.rows(sql, vec![market.0.into()]).await
}

pub(super) fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
