//! Comparing what is kept with what it should be.

use super::{
    Failure,
    queries::{incomplete_movements, kept_and_summed, logged, page, small, transfer_kind},
    session::{Cell, Line, Session},
    tables::{kind, record, table},
    write::{account, currency, micros},
};
use crate::{
    ids::MarketId,
    ledger::{Finding, Limit},
    money::Money,
    store::{Kind, StoreErrorKind},
};

/// How many rows are read at a time.
const PAGE: u32 = 1000;

pub(super) async fn verify(session: &mut dyn Session, market: MarketId) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for line in kept_and_summed(session, market).await? {
        findings.extend(balance(line)?);
    }
    for mut line in incomplete_movements(session, market).await? {
        let (contract, version) = (line.id()?, line.int()?.unsigned_abs());
        let (expected, found) = (small(line.int()?), small(line.int()?));
        findings.push(Finding::MovementIncomplete { contract, version, expected, found });
    }
    for &kind in Kind::ALL {
        let (columns, name) = (columns_of(kind), table(kind).name);
        unreadable(session, market, name, &columns, "id", &mut findings, |line| check_record(kind, line)).await?;
    }
    let columns = "number, kind, debit, credit, currency";
    unreadable(session, market, "transfers", columns, "number", &mut findings, check_transfer).await?;
    let columns = "number, 0, number, kind, subject, version, at, actor, body";
    let check = |line| logged(line).map(drop);
    unreadable(session, market, "events", columns, "number", &mut findings, check).await?;
    unreadable(session, market, "keys", "key, kind, answer", "key", &mut findings, check_key).await?;
    Ok(findings)
}

/// Balances whose account cannot be read are left to the table they are in.
fn balance(mut line: Line) -> Result<Option<Finding>, Failure> {
    let (name, code) = (line.text()?, line.text()?);
    let (Ok(account), Ok(currency)) = (account(&name), currency(&code)) else {
        return Ok(Some(Finding::Unreadable { table: "accounts".into(), row: format!("{name} {code}") }));
    };
    let (kept, summed) = (Money::new(line.int()?, currency), Money::new(line.int()?, currency));
    let limit = account.limit();
    let broken = |balance: Money| match limit {
        Limit::NotNegative => balance.minor() < 0,
        Limit::NotPositive => balance.minor() > 0,
        Limit::None => false,
    };
    Ok(match limit {
        Limit::None => None,
        _ if broken(kept) => Some(Finding::LimitBroken { account, balance: kept }),
        _ if kept != summed => Some(Finding::BalanceDiffers { account, kept, summed }),
        _ => None,
    })
}

fn columns_of(kind: Kind) -> String {
    let parties = table(kind).parties.iter().map(|party| format!(", {party}")).collect::<String>();
    format!("id, id, status, due_at, body{parties}")
}

/// A record must be readable, and be found by what it says.
fn check_record(kind: Kind, mut line: Line) -> Result<(), Failure> {
    let (id, status, due_at, body) = (line.id()?, line.text()?, line.maybe_int()?, line.text()?);
    let record = record(kind, &body)?;
    let mut as_found = record.key().id == id && record.status() == &*status && record.due_at().map(micros) == due_at;
    for party in record.parties().into_iter().take(table(kind).parties.len()) {
        as_found &= line.maybe_id()? == party;
    }
    if !as_found {
        return Err(Failure::corrupt("the columns do not say what the body says"));
    }
    Ok(())
}

fn check_transfer(mut line: Line) -> Result<(), Failure> {
    transfer_kind(&line.text()?)?;
    account(&line.text()?)?;
    account(&line.text()?)?;
    currency(&line.text()?).map(drop)
}

fn check_key(mut line: Line) -> Result<(), Failure> {
    let kind = kind(&line.text()?)?;
    record(kind, &line.text()?).map(drop)
}

/// Goes through a whole table in pages and names the rows that `check` refuses. The first column is the
/// row's key.
async fn unreadable(
    session: &mut dyn Session,
    market: MarketId,
    table: &'static str,
    columns: &str,
    key: &str,
    findings: &mut Vec<Finding>,
    check: impl Fn(Line) -> Result<(), Failure> + Send,
) -> Result<(), Failure> {
    let mut after: Option<Cell> = None;
    loop {
        let lines = page(session, market, table, columns, key, after.take(), PAGE).await?;
        let full = lines.len() == PAGE as usize;
        for mut line in lines {
            let cell = line.any()?;
            let row = cell.to_string();
            after = Some(cell);
            match check(line) {
                Err(failure) if failure.is(StoreErrorKind::Corrupt) => {
                    findings.push(Finding::Unreadable { table: table.into(), row });
                }
                other => other?,
            }
        }
        if !full {
            return Ok(());
        }
    }
}
