//! Writing: atomic, guarded by versions, limits and keys.

use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::{
    Broken, Inside, Stage, cases, hold,
    sample::{RAIL, Sample, euros, moment},
};
use crate::{
    ids::HoldId,
    job::JobStatus,
    ledger::{Account, LedgerError, TransferKind, escrow},
    money::{Currency, Money},
    store::{Claim, Commit, CommitError, Document, Key, Kind, Query, Record},
};

cases! {
    a_commit_is_read_back_whole,
    a_commit_survives_a_restart,
    a_stale_version_is_a_conflict_and_writes_nothing,
    a_new_record_must_not_exist_yet,
    a_later_version_of_nothing_is_a_conflict,
    a_commit_of_many_records_is_all_or_nothing,
    a_key_used_again_is_answered_the_same,
    a_key_used_for_another_command_is_refused,
    a_replay_is_answered_although_the_world_moved_on,
    an_overdraft_is_refused_with_its_values,
    a_debt_never_turns_positive,
    an_account_with_no_limit_has_none,
    a_balance_that_does_not_fit_is_refused,
    two_currencies_have_two_balances,
    a_transaction_sees_what_was_committed_in_it,
    a_claim_takes_what_is_due_once,
    a_claim_ends_and_is_fenced,
    a_write_can_keep_its_claim,
    claims_go_by_due_time_and_limit,
    a_document_is_written_once,
    a_cursor_moves_from_where_it_stands,
}

async fn a_commit_is_read_back_whole(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut sample = stage.sample();
    sample.job.timers.deadline = Some(moment(60));
    let mut commit = sample.fund(euros(10)).map_err(|e| Broken(e.to_string()))?;
    commit.key = Some(sample.key_use("k", 1));
    commit.documents.push(Document { subject: sample.job.id.0, name: "task".into(), body: "{\"a\":\"ü\"}".into() });
    stage.store.commit(commit).await?;

    let stored = stage.load(sample.key()).await?;
    hold!(stored.record == Record::Job(sample.job.clone().into()), "another record: {:?}", stored.record);
    hold!((stored.version, stored.claims) == (1, 0), "version and claims: {stored:?}");
    let used = stage.store.key(stage.market, "k").await?;
    hold!(used.is_some_and(|used| used.fingerprint == [1; 32] && used.answer == stored.record), "another key");
    let body = stage.store.document(stage.market, sample.job.id.0, "task").await?;
    hold!(body.as_deref() == Some("{\"a\":\"ü\"}"), "another document: {body:?}");
    let events = stage.store.events_of(stage.market, sample.key()).await?;
    hold!(events.len() == 1 && events[0].event == sample.event(), "other events: {events:?}");
    hold!(stage.balance(sample.escrow()).await? == euros(10), "the escrow does not hold the money");
    hold!(stage.balance(sample.payer()).await? == euros(0), "the wallet is not empty");
    hold!(stage.balance(Account::Rail(RAIL)).await? == euros(-10), "the rail's account differs");
    stage.in_order().await
}

async fn a_commit_survives_a_restart(stage: &Stage<'_>) -> Result<(), Broken> {
    let sample = stage.written().await?;
    let again = stage.database.open().await?;
    let stored = again.load(stage.market, sample.key()).await?;
    hold!(stored.is_some_and(|stored| stored.version == 1), "the record is gone");
    let there = Stage { database: stage.database, store: again.clone(), market: stage.market, ids: 1000.into() };
    hold!(there.log(1, 10).await?.len() == 1, "the log has another length");
    let name = format!("another market of {}", stage.market.0);
    let (one, same) = (again.open_market(&name).await?, stage.store.open_market(&name).await?);
    hold!(one == same && one != stage.market, "markets {one:?} and {same:?}");
    Ok(())
}

async fn a_stale_version_is_a_conflict_and_writes_nothing(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut sample = stage.written().await?;
    stage.store.commit(sample.write()).await?;
    sample.version = 1;
    let mut stale = sample.fund(euros(3)).map_err(|e| Broken(e.to_string()))?;
    stale.key = Some(sample.key_use("stale", 1));
    let end = stage.store.commit(stale).await;
    hold!(matches!(&end, Err(CommitError::Conflict(key)) if *key == sample.key()), "{end:?} is no conflict");
    hold!(stage.load(sample.key()).await?.version == 2, "the version moved");
    hold!(stage.store.key(stage.market, "stale").await?.is_none(), "the key was kept");
    hold!(stage.balance(sample.escrow()).await? == euros(0), "money moved");
    hold!(stage.store.events_of(stage.market, sample.key()).await?.len() == 2, "an event was kept");
    stage.in_order().await
}

async fn a_new_record_must_not_exist_yet(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut sample = stage.written().await?;
    sample.version = 0;
    let end = stage.store.commit(sample.write()).await;
    hold!(matches!(end, Err(CommitError::Conflict(_))), "{end:?} is no conflict");
    Ok(())
}

async fn a_later_version_of_nothing_is_a_conflict(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut sample = stage.sample();
    sample.version = 3;
    let end = stage.store.commit(sample.write()).await;
    hold!(matches!(end, Err(CommitError::Conflict(_))), "{end:?} is no conflict");
    hold!(stage.store.load(stage.market, sample.key()).await?.is_none(), "it was written");
    Ok(())
}

async fn a_commit_of_many_records_is_all_or_nothing(stage: &Stage<'_>) -> Result<(), Broken> {
    let (first, stale) = (stage.written().await?, stage.written().await?);
    let new: Vec<Sample> = (0..70).map(|_| stage.sample()).collect();
    let mut commit = first.write();
    commit.writes.extend(new.iter().flat_map(|sample| sample.write().writes));
    commit.writes.extend(Sample { version: 7, ..stale }.write().writes);
    let end = stage.store.commit(commit.clone()).await;
    hold!(matches!(end, Err(CommitError::Conflict(_))), "{end:?} is no conflict");
    hold!(stage.load(first.key()).await?.version == 1, "the first record was written");
    hold!(stage.store.load(stage.market, new[0].key()).await?.is_none(), "a new record was written");
    commit.writes.pop();
    stage.store.commit(commit).await?;
    for sample in &new {
        hold!(stage.load(sample.key()).await?.version == 1, "a record is missing");
    }
    Ok(())
}

async fn a_key_used_again_is_answered_the_same(stage: &Stage<'_>) -> Result<(), Broken> {
    let sample = stage.sample();
    let mut commit = sample.fund(euros(1)).map_err(|e| Broken(e.to_string()))?;
    commit.key = Some(sample.key_use("same", 1));
    stage.store.commit(commit.clone()).await?;
    let end = stage.store.commit(commit).await;
    let answer = Record::Job(sample.job.clone().into());
    hold!(matches!(&end, Err(CommitError::Replayed(record)) if *record == answer), "{end:?} is no replay");
    hold!(stage.balance(sample.escrow()).await? == euros(1), "it was done twice");
    Ok(())
}

async fn a_key_used_for_another_command_is_refused(stage: &Stage<'_>) -> Result<(), Broken> {
    let (sample, other) = (stage.sample(), stage.sample());
    let mut commit = sample.write();
    commit.key = Some(sample.key_use("mine", 1));
    stage.store.commit(commit).await?;
    let mut commit = other.write();
    commit.key = Some(other.key_use("mine", 2));
    let end = stage.store.commit(commit).await;
    hold!(matches!(&end, Err(CommitError::KeyReused(key)) if key == "mine"), "{end:?} is not refused");
    hold!(stage.store.load(stage.market, other.key()).await?.is_none(), "it was written");
    Ok(())
}

async fn a_replay_is_answered_although_the_world_moved_on(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut sample = stage.sample();
    let mut commit = sample.write();
    commit.key = Some(sample.key_use("early", 1));
    stage.store.commit(commit.clone()).await?;
    sample.version = 1;
    stage.store.commit(sample.write()).await?;
    let end = stage.store.commit(commit).await;
    hold!(matches!(end, Err(CommitError::Replayed(_))), "{end:?} is no replay");
    Ok(())
}

async fn an_overdraft_is_refused_with_its_values(stage: &Stage<'_>) -> Result<(), Broken> {
    let rich = stage.funded(euros(5)).await?;
    let mut spend = stage.sample().write();
    let to = Account::Available(stage.id().into());
    spend.movement.transfer(rich.escrow(), to, euros(6), TransferKind::Refund).map_err(|e| Broken(e.to_string()))?;
    let lost = spend.writes[0].record.key();
    let end = stage.store.commit(spend).await;
    let expected = LedgerError::Overdraft { account: rich.escrow(), needed: euros(6), available: euros(5) };
    hold!(matches!(&end, Err(CommitError::Ledger(error)) if *error == expected), "{end:?}, not {expected:?}");
    hold!(stage.balance(rich.escrow()).await? == euros(5), "money moved");
    hold!(stage.store.load(stage.market, lost).await?.is_none(), "the record was written");
    stage.in_order().await
}

async fn a_debt_never_turns_positive(stage: &Stage<'_>) -> Result<(), Broken> {
    let debt = Account::Debt(stage.id().into());
    stage.transfer(debt, Account::Rail(RAIL), euros(4)).await?;
    hold!(stage.balance(debt).await? == euros(-4), "the debt differs");
    let end = stage.transfer(Account::Rail(RAIL), debt, euros(5)).await;
    hold!(matches!(end, Err(CommitError::Ledger(LedgerError::Overdraft { .. }))), "{end:?} is no refusal");
    stage.transfer(Account::Rail(RAIL), debt, euros(4)).await?;
    hold!(stage.balance(debt).await? == euros(0), "the debt is not paid");
    stage.in_order().await
}

async fn an_account_with_no_limit_has_none(stage: &Stage<'_>) -> Result<(), Broken> {
    let other = Account::Clearing(RAIL);
    stage.transfer(Account::Rail(RAIL), other, euros(9)).await?;
    stage.transfer(other, Account::Rail(RAIL), euros(20)).await?;
    hold!(stage.balance(other).await? == euros(-11), "the clearing account differs");
    stage.in_order().await
}

async fn a_balance_that_does_not_fit_is_refused(stage: &Stage<'_>) -> Result<(), Broken> {
    let (wallet, most) = (Account::Available(stage.id().into()), Money::new(i64::MAX, Currency::EUR));
    stage.transfer(Account::Rail(RAIL), wallet, most).await?;
    let end = stage.transfer(Account::Clearing(RAIL), wallet, euros(1)).await;
    hold!(matches!(end, Err(CommitError::Ledger(LedgerError::Overflow { .. }))), "{end:?} is no overflow");
    hold!(stage.balance(wallet).await? == most, "money moved");
    Ok(())
}

async fn two_currencies_have_two_balances(stage: &Stage<'_>) -> Result<(), Broken> {
    let wallet = Account::Available(stage.id().into());
    let cents = Currency::new("EUR", 3).map_err(|e| Broken(e.to_string()))?;
    stage.transfer(Account::Rail(RAIL), wallet, euros(2)).await?;
    stage.transfer(Account::Rail(RAIL), wallet, Money::new(7, cents)).await?;
    let end = stage.transfer(wallet, Account::Rail(RAIL), Money::new(8, cents)).await;
    hold!(matches!(end, Err(CommitError::Ledger(_))), "{end:?}: one currency paid for another");
    let balance = stage.store.balance(stage.market, wallet, cents, None).await?;
    hold!(balance == Money::new(7, cents) && stage.balance(wallet).await? == euros(2), "the balances mix");
    hold!(stage.store.trial_balance(stage.market).await?.len() == 2, "the books mix");
    stage.in_order().await
}

async fn a_transaction_sees_what_was_committed_in_it(stage: &Stage<'_>) -> Result<(), Broken> {
    let market = stage.market;
    let mut commits: Vec<Commit> = [5, 3]
        .into_iter()
        .map(|minor| stage.sample().fund(euros(minor)).map_err(|e| Broken(e.to_string())))
        .collect::<Result<_, _>>()?;
    for commit in &mut commits {
        commit.documents.push(Document { subject: commit.contract, name: "task".into(), body: "to do".into() });
    }
    let ids: Vec<Uuid> = commits.iter().map(|commit| commit.contract).collect();
    let (accounts, seen) = (moved_by(&commits), Arc::new(Mutex::new(Vec::new())));
    let (looked_at, saw) = (accounts.clone(), Arc::clone(&seen));
    let inside: Inside = Box::new(move |journal| {
        Box::pin(async move {
            for commit in commits {
                let (id, buyer) = (commit.contract, commit.writes[0].record.parties()[0].unwrap_or_default());
                let written = journal.commit(commit).await.map_err(Broken::from);
                let of = |party| Query {
                    kind: Kind::Job,
                    party,
                    statuses: vec![JobStatus::Funded.as_str(); 2],
                    before: None,
                    offset: 0,
                    limit: 9,
                };
                let found = journal.find(market, &of(None)).await;
                let count = journal.count(market, &of(Some((0, buyer)))).await;
                let document = journal.document(market, id, "task").await;
                let mut balances = Vec::new();
                for account in &looked_at {
                    balances.push(journal.balance(market, *account, Currency::EUR, None).await);
                }
                saw.lock().expect("nobody panics with it").push((written, balances, found, count, document));
            }
        })
    });
    stage.database.within(inside).await?;
    let seen = std::mem::take(&mut *seen.lock().expect("nobody panics with it"));
    let expected = [[-5, 5, 0], [-8, 5, 3]];
    hold!(seen.len() == expected.len(), "{} commits were made", seen.len());
    for (number, ((written, balances, found, count, document), expected)) in seen.into_iter().zip(expected).enumerate()
    {
        written?;
        let found: Vec<Uuid> = found?.into_iter().map(|stored| stored.record.key().id).collect();
        let newest: Vec<Uuid> = ids[..=number].iter().rev().copied().collect();
        hold!(found == newest, "{found:?} were found in the transaction, not {newest:?}");
        let (count, document) = (count?, document?);
        hold!(count == 1, "{count} jobs of a buyer were counted in the transaction, and there is 1");
        hold!(document.as_deref() == Some("to do"), "the document is {document:?} in the transaction");
        let balances = balances.into_iter().collect::<Result<Vec<Money>, _>>()?;
        hold!(balances == expected.map(euros), "{accounts:?} are {balances:?} and should be {expected:?}");
    }
    for (account, expected) in accounts.into_iter().zip(expected[1]) {
        hold!(stage.balance(account).await? == euros(expected), "{account} is another after the transaction");
    }
    Ok(())
}

/// The rail's account, and the escrow of each commit.
fn moved_by(commits: &[Commit]) -> Vec<Account> {
    let escrows = commits.iter().map(|commit| escrow(HoldId(commit.contract)));
    std::iter::once(Account::Rail(RAIL)).chain(escrows).collect()
}

async fn a_claim_takes_what_is_due_once(stage: &Stage<'_>) -> Result<(), Broken> {
    let due = stage.due(10).await?;
    stage.due(100).await?;
    let claim = Claim { kind: Kind::Job, now: moment(10), until: moment(40), limit: 10, except: Vec::new() };
    let claimed = stage.store.claim(stage.market, &claim).await?;
    let keys: Vec<Key> = claimed.iter().map(|stored| stored.record.key()).collect();
    hold!(keys == [due.key()], "claimed were {keys:?}");
    hold!((claimed[0].version, claimed[0].claims) == (2, 1), "version and claims: {claimed:?}");
    hold!(stage.load(due.key()).await? == claimed[0], "it is stored differently");
    hold!(stage.store.claim(stage.market, &claim).await?.is_empty(), "it was claimed twice");
    let instructions = Claim { kind: Kind::Instruction, ..claim.clone() };
    hold!(stage.store.claim(stage.market, &instructions).await?.is_empty(), "another kind was claimed");
    Ok(())
}

async fn a_claim_ends_and_is_fenced(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut due = stage.due(10).await?;
    let claim = Claim { kind: Kind::Job, now: moment(10), until: moment(40), limit: 10, except: Vec::new() };
    stage.store.claim(stage.market, &claim).await?;
    let later = Claim { now: moment(40), until: moment(70), ..claim.clone() };
    let second = stage.store.claim(stage.market, &later).await?;
    hold!(second.len() == 1 && second[0].claims == 2, "the second claim: {second:?}");
    due.version = 2;
    let end = stage.store.commit(due.write()).await;
    hold!(matches!(end, Err(CommitError::Conflict(_))), "{end:?}: the first claimant was not fenced");
    due.version = 3;
    stage.store.commit(due.write()).await?;
    let written = stage.load(due.key()).await?;
    hold!((written.version, written.claims) == (4, 0), "version and claims: {written:?}");
    let third = stage.store.claim(stage.market, &later).await?;
    hold!(third.len() == 1, "a write did not give the record free");
    Ok(())
}

async fn a_write_can_keep_its_claim(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut sample = stage.sample();
    sample.job.timers.deadline = Some(moment(10));
    let mut commit = sample.write();
    commit.writes[0].claimed_until = Some(moment(30));
    stage.store.commit(commit).await?;
    hold!(stage.load(sample.key()).await?.claims == 1, "the write is no claim");
    let claim = Claim { kind: Kind::Job, now: moment(29), until: moment(60), limit: 10, except: Vec::new() };
    hold!(stage.store.claim(stage.market, &claim).await?.is_empty(), "it was claimed too early");
    let claim = Claim { now: moment(30), ..claim.clone() };
    hold!(stage.store.claim(stage.market, &claim).await?.len() == 1, "it was not claimed");
    Ok(())
}

async fn claims_go_by_due_time_and_limit(stage: &Stage<'_>) -> Result<(), Broken> {
    let (third, first, second) = (stage.due(9).await?, stage.due(3).await?, stage.due(5).await?);
    let claim = Claim { kind: Kind::Job, now: moment(10), until: moment(40), limit: 2, except: Vec::new() };
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(stage.store.claim(stage.market, &claim).await?.iter().map(|s| s.record.key()).collect::<Vec<_>>());
    }
    let expected = [vec![first.key(), second.key()], vec![third.key()], vec![]];
    hold!(order == expected, "claimed were {order:?}, expected {expected:?}");
    Ok(())
}

async fn a_document_is_written_once(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut sample = stage.sample();
    let subject = sample.job.id.0;
    let document = |body: &str| Document { subject, name: "task".into(), body: body.into() };
    let mut commit = sample.write();
    commit.documents.push(document("first"));
    stage.store.commit(commit).await?;
    sample.version = 1;
    let mut commit = sample.write();
    commit.documents.push(document("second"));
    // A store may refuse it or keep the first one.
    let _ = stage.store.commit(commit).await;
    let body = stage.store.document(stage.market, subject, "task").await?;
    hold!(body.as_deref() == Some("first"), "the document is {body:?}");
    let none = stage.store.document(stage.market, subject, "other").await?;
    hold!(none.is_none(), "a document that nobody wrote: {none:?}");
    Ok(())
}

async fn a_cursor_moves_from_where_it_stands(stage: &Stage<'_>) -> Result<(), Broken> {
    let (store, market) = (&stage.store, stage.market);
    hold!(store.cursor(market, "r").await?.is_none(), "a new cursor stands somewhere");
    hold!(!store.move_cursor(market, "r", Some("x"), "a").await?, "it moved from where it was not");
    hold!(store.move_cursor(market, "r", None, "a").await?, "it did not start");
    hold!(!store.move_cursor(market, "r", None, "b").await?, "it started twice");
    hold!(store.move_cursor(market, "r", Some("a"), "b").await?, "it did not move");
    let (one, other) = (store.cursor(market, "r").await?, store.cursor(market, "s").await?);
    hold!(one.as_deref() == Some("b") && other.is_none(), "the cursors stand at {one:?} and {other:?}");
    Ok(())
}

impl Stage<'_> {
    /// A job that is due at a moment, written.
    async fn due(&self, seconds: i64) -> Result<Sample, Broken> {
        let mut sample = self.sample();
        sample.job.timers.deadline = Some(moment(seconds));
        self.store.commit(sample.write()).await?;
        Ok(Sample { version: 1, ..sample })
    }

    /// Moves money in a commit of its own.
    pub(super) async fn transfer(&self, debit: Account, credit: Account, amount: Money) -> Result<(), CommitError> {
        let mut commit = self.sample().write();
        commit.movement.transfer(debit, credit, amount, TransferKind::Payout)?;
        self.store.commit(commit).await
    }

    /// Every job of the market is found, and nothing is wrong with the books.
    pub(super) async fn in_order(&self) -> Result<(), Broken> {
        let findings = self.store.verify(self.market).await?;
        hold!(findings.is_empty(), "verify finds {findings:?}");
        for book in self.store.trial_balance(self.market).await? {
            hold!(book.sum() == 0, "the books of {} are off by {}", book.currency, book.sum());
        }
        let query = Query { kind: Kind::Job, party: None, statuses: Vec::new(), before: None, offset: 0, limit: 1000 };
        for stored in self.store.find(self.market, &query).await? {
            let same = self.load(stored.record.key()).await?;
            hold!(same == stored, "{stored:?} was found, {same:?} loaded");
        }
        Ok(())
    }
}
