//! What records are found by: written with a group of commits, asked for by terms.
//!
//! A term is stored behind its market and kind, so that no search meets another's entries.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _};

use super::{
    Failure,
    session::{Cell, Line, Session},
    tables::{Insert, remove, text},
};
use crate::{
    ids::MarketId,
    search::{Candidate, Entry, Rank, Term},
    store::{Commit, Key, Kind, Seek},
};

/// The entries that a group's commits leave, each record's as the last one says.
pub(super) type Listings = BTreeMap<(MarketId, Key), Listed>;
/// A record's entry as a row with its rank; nothing where it is not found any more.
pub(super) type Listed = Option<(Rank, Vec<Cell>)>;

/// The rows of a commit's entries.
pub(super) fn rows(commit: &Commit) -> Vec<(Key, Listed)> {
    let row = |key: Key, entry: &Entry| {
        let mut terms = String::new();
        for term in entry.terms() {
            let space = if terms.is_empty() { "" } else { " " };
            let _ = write!(terms, "{space}{}", stored(commit.market, key.kind, term));
        }
        let row: Vec<Cell> = vec![
            commit.market.0.into(),
            key.kind.as_str().into(),
            key.id.into(),
            i64::from(entry.rank.get()).into(),
            entry.title().into(),
            entry.text().into(),
            terms.as_str().into(),
        ];
        (entry.rank, row)
    };
    let listings = commit.listings.iter();
    listings.map(|listing| (listing.subject, listing.entry.as_ref().map(|entry| row(listing.subject, entry)))).collect()
}

/// A term as it is stored: its market's number ends where the kind's name begins, and that where the term does.
fn stored(market: MarketId, kind: Kind, term: &Term) -> String {
    format!("{}{}{}", market.0, kind.as_str(), term.as_str())
}

/// Writes what a group's commits leave.
pub(super) async fn write(session: &mut dyn Session, listings: Listings) -> Result<(), Failure> {
    let (mut added, mut gone) = (Vec::new(), BTreeMap::<(MarketId, Kind), Vec<Cell>>::new());
    for ((market, key), row) in listings {
        match row {
            Some((rank, row)) => added.push((Reverse(rank), row)),
            None => gone.entry((market, key.kind)).or_default().push(key.id.into()),
        }
    }
    for ((market, kind), ids) in gone {
        remove(session, "listings", market, kind, ids).await?;
    }
    // SQLite's text index takes what comes in its order at once.
    added.sort_by_key(|(rank, _)| *rank);
    let added: Vec<&[Cell]> = added.iter().map(|(_, row)| &row[..]).collect();
    let insert = Insert::new("listings", &["market", "kind", "id", "rank", "title", "text", "terms"]);
    // An entry keeps its number, so that changing it gains no place among its equals.
    let conflict = " ON CONFLICT (market, kind, id) DO UPDATE SET rank = excluded.rank, title = excluded.title, \
                    text = excluded.text, terms = excluded.terms";
    Insert { conflict: conflict.into(), ..insert }.write(session, &added).await
}

pub(super) async fn seek(session: &mut dyn Session, market: MarketId, seek: &Seek) -> Result<Vec<Candidate>, Failure> {
    if seek.terms.iter().any(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let dialect = session.dialect();
    let page: [Cell; 2] = [i64::from(seek.limit).into(), i64::from(seek.offset).into()];
    let mut cells: Vec<Cell> = vec![market.0.into(), seek.kind.as_str().into()];
    let sql = if seek.terms.is_empty() {
        let all = "SELECT id, rank, title, text FROM listings WHERE market = $1 AND kind = $2 \
                   ORDER BY rank DESC, number LIMIT $3 OFFSET $4";
        text(dialect, "seek all", "listings", 1, || all.into())
    } else {
        let list = |terms: &Vec<Term>| {
            let quoted: Vec<_> = terms.iter().map(|term| (dialect.quote)(&stored(market, seek.kind, term))).collect();
            format!("({})", quoted.join(dialect.or))
        };
        let wanted = seek.terms.iter().map(list).collect::<Vec<_>>().join(dialect.and);
        cells.push(wanted.as_str().into());
        dialect.seek
    };
    cells.extend(page);
    session.rows(sql, cells).await?.into_iter().map(candidate).collect()
}

fn candidate(mut line: Line) -> Result<Candidate, Failure> {
    let (id, rank) = (line.id()?, Rank::new(u32::try_from(line.int()?).unwrap_or(u32::MAX)));
    Ok(Candidate { id, rank, title: line.text()?.as_ref().into(), text: line.text()?.as_ref().into() })
}
