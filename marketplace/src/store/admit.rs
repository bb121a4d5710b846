//! Whether a commit may be written: the one check that every store makes.

use super::{Commit, CommitError, Key, KeyRecord};
use crate::{
    ids::MarketId,
    ledger::{Account, Change, LedgerError, Limit},
    money::{Currency, Money},
};

/// What a store knows, locked against others while a commit is checked and written.
pub(crate) trait Facts {
    /// A record's version; 0 when there is none.
    fn version(&self, market: MarketId, key: Key) -> u64;
    /// A limited account's balance in minor units; 0 when it never moved.
    fn balance(&self, market: MarketId, account: Account, currency: Currency) -> i64;
    /// What an idempotency key was used for.
    fn key(&self, market: MarketId, key: &str) -> Option<&KeyRecord>;
}

/// What an admitted commit makes of the balances that are kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// The new balance of every limited account that changes.
    pub(crate) balances: Vec<(Account, Money)>,
}

/// Checks key, versions and limits, in this order: a repeated command is answered even though the
/// world has moved on since.
pub(crate) fn admit(facts: &impl Facts, commit: &Commit) -> Result<Admitted, CommitError> {
    let market = commit.market;
    if let Some(used) = &commit.key
        && let Some(before) = facts.key(market, &used.key)
    {
        return Err(match before.fingerprint == used.fingerprint {
            true => CommitError::Replayed(before.answer.clone()),
            false => CommitError::KeyReused(used.key.clone()),
        });
    }
    for write in &commit.writes {
        let key = write.record.key();
        if facts.version(market, key) != write.expected {
            return Err(CommitError::Conflict(key));
        }
    }
    for (key, version) in &commit.guards {
        if facts.version(market, *key) != *version {
            return Err(CommitError::Conflict(*key));
        }
    }
    let mut balances = Vec::new();
    for Change { account, delta } in commit.movement.changes()? {
        let limit = account.limit();
        if limit == Limit::None {
            continue;
        }
        let before = Money::new(facts.balance(market, account, delta.currency()), delta.currency());
        let after = before.plus(delta).map_err(|_| LedgerError::Overflow { account })?;
        let broken = match limit {
            Limit::NotNegative => after.minor() < 0,
            Limit::NotPositive => after.minor() > 0,
            Limit::None => false,
        };
        if broken {
            let needed = Money::new(delta.minor().saturating_abs(), delta.currency());
            let available = Money::new(before.minor().saturating_abs(), delta.currency());
            return Err(LedgerError::Overdraft { account, needed, available }.into());
        }
        balances.push((account, after));
    }
    Ok(Admitted { balances })
}
