//! Many at once.

use std::collections::BTreeSet;

use futures::future::{join_all, try_join_all};

use super::{
    Broken, CROWD, Stage, cases, hold,
    sample::{RAIL, Sample, euros, moment},
};
use crate::{
    ledger::{Account, LedgerError, TransferKind},
    store::{Claim, Commit, CommitError, Kind, LoggedEvent, Position, Query},
};

cases! {
    of_many_on_one_version_one_wins,
    many_writers_of_one_record_all_get_through,
    one_key_at_once_is_done_once,
    one_key_for_two_commands_at_once_is_one,
    many_spenders_of_one_account_never_overdraw,
    many_payers_into_one_new_account_all_count,
    one_bad_commit_among_many_fails_alone,
    many_claimants_share_what_is_due,
    a_reader_of_the_log_misses_nothing_of_many_writers,
    money_going_round_stays,
    many_readers_are_each_told_what_they_asked,
}

async fn of_many_on_one_version_one_wins(stage: &Stage<'_>) -> Result<(), Broken> {
    let sample = stage.written().await?;
    let ends = stage.at_once((0..CROWD).map(|_| sample.write())).await;
    let won = ends.iter().filter(|end| end.is_ok()).count();
    let lost = ends.iter().filter(|end| matches!(end, Err(CommitError::Conflict(_)))).count();
    hold!((won, lost) == (1, CROWD as usize - 1), "{won} won and {lost} conflicted: {ends:?}");
    hold!(stage.load(sample.key()).await?.version == 2, "the version differs");
    Ok(())
}

async fn many_writers_of_one_record_all_get_through(stage: &Stage<'_>) -> Result<(), Broken> {
    let sample = stage.written().await?;
    let write = async || -> Result<(), Broken> {
        // Somebody gets through each time, so nobody is turned back more often than there are others.
        for _ in 0..CROWD {
            let version = stage.load(sample.key()).await?.version;
            match stage.store.commit(Sample { version, ..sample.clone() }.write()).await {
                Err(CommitError::Conflict(_)) => {}
                end => return Ok(end?),
            }
        }
        Err(Broken("a writer was turned back more often than there are others".into()))
    };
    try_join_all((0..CROWD).map(|_| write())).await?;
    let events = stage.store.events_of(stage.market, sample.key()).await?;
    let versions: Vec<u64> = events.iter().map(|logged| logged.event.version).collect();
    let expected: Vec<u64> = (1..=CROWD + 1).collect();
    hold!(versions == expected, "the events are of versions {versions:?}");
    Ok(())
}

async fn one_key_at_once_is_done_once(stage: &Stage<'_>) -> Result<(), Broken> {
    let wallet = stage.sample();
    let commits = (0..CROWD).map(|_| {
        let mut commit = stage.sample().write();
        commit.key = Some(wallet.key_use("at once", 1));
        commit
    });
    let ends = stage.at_once(commits.collect::<Vec<_>>()).await;
    let done = ends.iter().filter(|end| end.is_ok()).count();
    let replayed = ends.iter().filter(|end| matches!(end, Err(CommitError::Replayed(_)))).count();
    hold!((done, replayed) == (1, CROWD as usize - 1), "done {done}, replayed {replayed}: {ends:?}");
    hold!(stage.log(1, 100).await?.len() == 1, "more than one was written");
    Ok(())
}

async fn one_key_for_two_commands_at_once_is_one(stage: &Stage<'_>) -> Result<(), Broken> {
    let commits = (0..CROWD).map(|i| {
        let sample = stage.sample();
        let mut commit = sample.write();
        commit.key = Some(sample.key_use("torn", (i % 2) as u8));
        commit
    });
    let ends = stage.at_once(commits.collect::<Vec<_>>()).await;
    let done = ends.iter().filter(|end| end.is_ok()).count();
    let refused = ends.iter().filter(|end| matches!(end, Err(CommitError::KeyReused(_)))).count();
    hold!((done, refused) == (1, CROWD as usize / 2), "done {done}, refused {refused}: {ends:?}");
    Ok(())
}

async fn many_spenders_of_one_account_never_overdraw(stage: &Stage<'_>) -> Result<(), Broken> {
    let rich = stage.funded(euros(10)).await?;
    let spend = (0..CROWD).map(|_| stage.moving(rich.escrow(), Account::Available(stage.id().into())));
    let ends = stage.at_once(spend.collect::<Result<Vec<_>, _>>()?).await;
    let done = ends.iter().filter(|end| end.is_ok()).count();
    let refused =
        ends.iter().filter(|end| matches!(end, Err(CommitError::Ledger(LedgerError::Overdraft { .. })))).count();
    hold!((done, refused) == (10, CROWD as usize - 10), "done {done}, refused {refused}: {ends:?}");
    hold!(stage.balance(rich.escrow()).await? == euros(0), "the account is not empty");
    stage.in_order().await
}

async fn many_payers_into_one_new_account_all_count(stage: &Stage<'_>) -> Result<(), Broken> {
    let wallet = Account::Available(stage.id().into());
    let pay = (0..CROWD).map(|_| stage.moving(Account::Rail(RAIL), wallet));
    for end in stage.at_once(pay.collect::<Result<Vec<_>, _>>()?).await {
        end?;
    }
    hold!(stage.balance(wallet).await? == euros(CROWD as i64), "a payment was lost");
    stage.in_order().await
}

async fn one_bad_commit_among_many_fails_alone(stage: &Stage<'_>) -> Result<(), Broken> {
    let empty = Account::Available(stage.id().into());
    let commits = (0..CROWD).map(|i| match i % 8 {
        3 => stage.moving(empty, Account::Rail(RAIL)),
        5 => Ok(Sample { version: 9, ..stage.sample() }.write()),
        _ => stage.moving(Account::Rail(RAIL), Account::Available(stage.id().into())),
    });
    let ends = stage.at_once(commits.collect::<Result<Vec<_>, _>>()?).await;
    for (i, end) in ends.iter().enumerate() {
        let right = match i % 8 {
            3 => matches!(end, Err(CommitError::Ledger(_))),
            5 => matches!(end, Err(CommitError::Conflict(_))),
            _ => end.is_ok(),
        };
        hold!(right, "the {i}th ended {end:?}");
    }
    stage.in_order().await
}

async fn many_claimants_share_what_is_due(stage: &Stage<'_>) -> Result<(), Broken> {
    for _ in 0..CROWD {
        let mut sample = stage.sample();
        sample.job.timers.deadline = Some(moment(1));
        stage.store.commit(sample.write()).await?;
    }
    let claim = Claim { kind: Kind::Job, now: moment(5), until: moment(50), limit: 4, except: Vec::new() };
    let (mut claimed, mut all) = (BTreeSet::new(), 0);
    // A claimant may find everything locked by others, so it may take some rounds.
    for _ in 0..CROWD {
        for taken in try_join_all((0..6).map(|_| stage.store.claim(stage.market, &claim))).await? {
            all += taken.len();
            claimed.extend(taken.iter().map(|stored| stored.record.key()));
        }
    }
    hold!(claimed.len() == CROWD as usize && all == claimed.len(), "{all} claims of {} jobs", claimed.len());
    Ok(())
}

async fn a_reader_of_the_log_misses_nothing_of_many_writers(stage: &Stage<'_>) -> Result<(), Broken> {
    let samples: Vec<Sample> = (0..CROWD).map(|_| stage.sample()).collect();
    let write = async |sample: &Sample| -> Result<(), Broken> {
        for version in 0..5 {
            stage.store.commit(Sample { version, ..sample.clone() }.write()).await?;
        }
        Ok(())
    };
    let total = samples.len() * 5;
    let read = async || -> Result<Vec<LoggedEvent>, Broken> {
        let (mut log, mut after) = (Vec::new(), Position::default());
        while log.len() < total {
            let page: Vec<LoggedEvent> = stage.store.events(stage.market, after, 7).await?;
            after = page.last().map_or(after, |last| last.position);
            log.extend(page);
            tokio::task::yield_now().await;
        }
        Ok(log)
    };
    let (log, _) = futures::try_join!(read(), try_join_all(samples.iter().map(write)))?;
    hold!(stage.log(total, 50).await? == log, "the reader saw another log");
    for sample in &samples {
        let of_it = log.iter().filter(|logged| logged.event.subject == sample.key());
        let versions: Vec<u64> = of_it.map(|logged| logged.event.version).collect();
        hold!(versions == [1, 2, 3, 4, 5], "events of versions {versions:?}");
    }
    Ok(())
}

async fn money_going_round_stays(stage: &Stage<'_>) -> Result<(), Broken> {
    let wallets: Vec<Account> = (0..6).map(|_| Account::Available(stage.id().into())).collect();
    for wallet in &wallets {
        stage.transfer(Account::Rail(RAIL), *wallet, euros(5)).await?;
    }
    // Both ways round at once, over the same accounts: what locks in the wrong order stands still.
    let round = |i: u64, j: u64| stage.moving(wallets[i as usize % 6], wallets[j as usize % 6]);
    let there = (0..CROWD).map(|i| round(i, i + 1));
    let back = (0..CROWD).map(|i| round(i + 2, i));
    for end in stage.at_once(there.chain(back).collect::<Result<Vec<_>, _>>()?).await {
        hold!(matches!(end, Ok(()) | Err(CommitError::Ledger(_))), "{end:?}");
    }
    hold!(stage.balance(Account::Rail(RAIL)).await? == euros(-30), "money came or went");
    stage.in_order().await
}

impl Stage<'_> {
    /// A commit that moves one euro.
    fn moving(&self, debit: Account, credit: Account) -> Result<Commit, Broken> {
        let mut commit = self.sample().write();
        let moved = commit.movement.transfer(debit, credit, euros(1), TransferKind::Payout);
        moved.map_err(|e| Broken(e.to_string()))?;
        Ok(commit)
    }

    /// Hands in all commits before it waits for any.
    async fn at_once(&self, commits: impl IntoIterator<Item = Commit>) -> Vec<Result<(), CommitError>> {
        join_all(commits.into_iter().map(|commit| self.store.commit(commit))).await
    }
}

async fn many_readers_are_each_told_what_they_asked(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut known = Vec::new();
    for amount in 1..=8 {
        known.push((stage.funded(euros(amount)).await?, euros(amount)));
    }
    let elsewhere = stage.store.open_market("elsewhere").await?;
    let ask = async |i: usize| -> Result<(), Broken> {
        let ((sample, amount), stranger) = (&known[i % known.len()], stage.sample());
        let stored = stage.load(sample.key()).await?;
        hold!(stored.record.key() == sample.key(), "another record was told");
        hold!(stage.balance(sample.escrow()).await? == *amount, "another balance was told");
        let party = Some((0, sample.job.buyer.0));
        let query = Query {
            kind: Kind::Job,
            party,
            statuses: vec![sample.job.status.as_str()],
            before: None,
            offset: 0,
            limit: 9,
        };
        hold!(stage.store.count(stage.market, &query).await? == 1, "other records were counted");
        hold!(stage.store.load(stage.market, stranger.key()).await?.is_none(), "an unknown record was told");
        hold!(stage.balance(stranger.escrow()).await? == euros(0), "an unknown account has a balance");
        hold!(stage.store.load(elsewhere, sample.key()).await?.is_none(), "another market's record was told");
        Ok(())
    };
    try_join_all((0..CROWD as usize).map(ask)).await?;
    Ok(())
}
