//! Reading: finding, the log, statements, and markets apart.

use super::{
    Broken, Stage, cases, hold,
    sample::{RAIL, Sample, euros, moment},
};
use crate::{
    ids::AgentId,
    job::JobStatus,
    ledger::Account,
    money::Money,
    policy::{Policy, PolicyVersion},
    store::{Kind, LoggedEvent, Position, Query, Tagged, Tagging},
};

cases! {
    what_was_never_written_is_not_there,
    records_are_found_newest_first_in_pages,
    records_are_found_by_party_and_status,
    records_are_counted_up_to_a_limit,
    records_are_listed_under_their_tags,
    a_party_that_changes_is_found_by_the_new_one_only,
    the_log_is_read_in_pages_without_gaps,
    one_records_events_come_in_order,
    a_balance_is_known_for_every_moment,
    a_history_is_read_in_pages,
    the_books_add_up_to_nothing,
    policies_are_numbered_and_kept,
    markets_do_not_see_each_other,
}

async fn what_was_never_written_is_not_there(stage: &Stage<'_>) -> Result<(), Broken> {
    let (store, market, sample) = (&stage.store, stage.market, stage.sample());
    hold!(store.load(market, sample.key()).await?.is_none(), "a record");
    hold!(store.key(market, "none").await?.is_none(), "a key");
    hold!(store.events(market, Position::default(), 10).await?.is_empty(), "an event");
    hold!(store.events_of(market, sample.key()).await?.is_empty(), "an event of a record");
    hold!(stage.balance(sample.payer()).await? == euros(0), "a balance");
    hold!(store.history(market, sample.payer(), 0, 10).await?.is_empty(), "a history");
    hold!(store.trial_balance(market).await?.is_empty(), "a book");
    hold!(store.verify(market).await?.is_empty(), "a finding");
    Ok(())
}

async fn records_are_found_newest_first_in_pages(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut written = Vec::new();
    for _ in 0..7 {
        written.push(stage.written().await?.key());
    }
    written.reverse();
    let mut found = Vec::new();
    for offset in [0, 3, 6, 9] {
        let query = Query { kind: Kind::Job, party: None, statuses: Vec::new(), before: None, offset, limit: 3 };
        found.extend(stage.store.find(stage.market, &query).await?.iter().map(|stored| stored.record.key()));
    }
    hold!(found == written, "found {found:?}, written {written:?}");
    // From page to page by the last one's id, whatever is written meanwhile.
    let query = Query { kind: Kind::Job, party: None, statuses: Vec::new(), before: None, offset: 0, limit: 3 };
    let (mut next, mut found) = (Some(query), Vec::new());
    while let Some(query) = next {
        let page = stage.store.find(stage.market, &query).await?;
        found.extend(page.iter().map(|stored| stored.record.key()));
        next = query.after(&page);
        stage.written().await?;
    }
    hold!(found == written, "page by page found {found:?}, written before {written:?}");
    let query = Query { kind: Kind::Instruction, party: None, statuses: Vec::new(), before: None, offset: 0, limit: 3 };
    hold!(stage.store.find(stage.market, &query).await?.is_empty(), "another kind was found");
    Ok(())
}

async fn records_are_found_by_party_and_status(stage: &Stage<'_>) -> Result<(), Broken> {
    let (buyer, worker) = (stage.id(), stage.id());
    let mut samples = Vec::new();
    for status in [JobStatus::Funded, JobStatus::Accepted, JobStatus::Delivered] {
        let mut sample = Sample::new(stage.market, stage.id(), buyer);
        sample.job.status = status;
        sample.job.worker = (status != JobStatus::Funded).then_some(AgentId(worker));
        stage.store.commit(sample.write()).await?;
        samples.push(sample.key());
    }
    stage.written().await?;
    let find = async |party, statuses: &[&'static str]| {
        let query = Query { kind: Kind::Job, party, statuses: statuses.into(), before: None, offset: 0, limit: 10 };
        let found = stage.store.find(stage.market, &query).await;
        found.map(|found| found.iter().map(|stored| stored.record.key()).collect::<Vec<_>>())
    };
    let [funded, accepted, delivered] = [samples[0], samples[1], samples[2]];
    let expected = [
        (Some((0, buyer)), &[][..], vec![delivered, accepted, funded]),
        (Some((1, worker)), &[], vec![delivered, accepted]),
        (Some((1, buyer)), &[], vec![]),
        (Some((1, worker)), &["accepted"], vec![accepted]),
        (Some((0, buyer)), &["accepted", "funded"], vec![accepted, funded]),
        (None, &["delivered"], vec![delivered]),
        (None, &["frozen"], vec![]),
        (None, &["frozen", "delivered", "accepted"], vec![delivered, accepted]),
    ];
    for (party, statuses, expected) in expected {
        let found = find(party, statuses).await?;
        hold!(found == expected, "{party:?} {statuses:?}: found {found:?}, expected {expected:?}");
    }
    Ok(())
}

async fn records_are_counted_up_to_a_limit(stage: &Stage<'_>) -> Result<(), Broken> {
    let worker = stage.id();
    for status in [JobStatus::Accepted, JobStatus::Accepted, JobStatus::Delivered, JobStatus::Completed] {
        let mut sample = Sample::new(stage.market, stage.id(), stage.id());
        (sample.job.status, sample.job.worker) = (status, Some(AgentId(worker)));
        stage.store.commit(sample.write()).await?;
    }
    stage.written().await?;
    let count = async |party, statuses: &[&'static str], limit| {
        let query = Query { kind: Kind::Job, party, statuses: statuses.into(), before: None, offset: 9, limit };
        stage.store.count(stage.market, &query).await
    };
    let working = ["accepted", "delivered"];
    let often = working.repeat(70); // a caller may name a status as often as it likes
    for (party, statuses, limit, expected) in [
        (Some((1, worker)), &working[..], 10, 3),
        (Some((1, worker)), &working[..], 2, 2),
        (Some((1, worker)), &often[..], 10, 3),
        (Some((1, worker)), &[][..], 10, 4),
        (Some((0, worker)), &working[..], 10, 0),
        (None, &[][..], 10, 5),
    ] {
        let counted = count(party, statuses, limit).await?;
        hold!(counted == expected, "{party:?} {statuses:?} {limit}: {counted}, expected {expected}");
    }
    Ok(())
}

async fn records_are_listed_under_their_tags(stage: &Stage<'_>) -> Result<(), Broken> {
    let listed = async |tag: &str, before, offset, limit| {
        let tagged = Tagged { kind: Kind::Job, tag: tag.into(), before, offset, limit };
        let found = stage.store.tagged(stage.market, &tagged).await;
        found.map(|found| found.iter().map(|stored| stored.record.key().id).collect::<Vec<_>>())
    };
    let mut ids = Vec::new();
    let mut samples = Vec::new();
    for place in 0..5 {
        let sample = Sample::new(stage.market, stage.id(), stage.id());
        let mut commit = sample.write();
        let odd = (place % 2 == 1).then(|| "odd".to_owned());
        let tags = odd.into_iter().chain(["all".to_owned()]).collect();
        commit.tags.push(Tagging { subject: sample.key(), tags });
        stage.store.commit(commit).await?;
        ids.insert(0, sample.key().id);
        samples.push(sample);
    }
    hold!(listed("all", None, 0, 9).await? == ids, "not all are listed, newest first");
    hold!(listed("odd", None, 0, 9).await? == [ids[1], ids[3]], "the odd ones");
    hold!(listed("all", Some(ids[1]), 1, 2).await? == ids[3..], "a page after the second");
    hold!(listed("al", None, 0, 9).await?.is_empty(), "a part of a tag");
    let other = Tagged { kind: Kind::Agent, tag: "all".into(), before: None, offset: 0, limit: 9 };
    hold!(stage.store.tagged(stage.market, &other).await?.is_empty(), "another kind");
    // A later commit says anew what a record is listed under.
    let mut moved = samples.remove(3);
    moved.version = 1;
    let mut commit = moved.write();
    commit.tags.push(Tagging { subject: moved.key(), tags: vec!["even".into()] });
    stage.store.commit(commit).await?;
    hold!(listed("odd", None, 0, 9).await? == [ids[3]], "listed where it was before");
    hold!(listed("even", None, 0, 9).await? == [moved.key().id], "not listed anew");
    moved.version = 2;
    stage.store.commit(moved.write()).await?;
    hold!(listed("even", None, 0, 9).await? == [moved.key().id], "a commit that says nothing changed its tags");
    // A commit that is refused changes none.
    moved.version = 1;
    let mut late = moved.write();
    late.tags.push(Tagging { subject: moved.key(), tags: Vec::new() });
    hold!(stage.store.commit(late).await.is_err(), "a stale write was admitted");
    hold!(listed("even", None, 0, 9).await? == [moved.key().id], "a refused commit changed tags");
    Ok(())
}

async fn a_party_that_changes_is_found_by_the_new_one_only(stage: &Stage<'_>) -> Result<(), Broken> {
    let (first, second) = (AgentId(stage.id()), AgentId(stage.id()));
    let mut sample = stage.sample();
    sample.job.worker = Some(first);
    stage.store.commit(sample.write()).await?;
    sample.job.worker = Some(second);
    sample.version = 1;
    stage.store.commit(sample.write()).await?;
    for (worker, expected) in [(first, 0), (second, 1)] {
        let party = Some((1, worker.0));
        let query = Query { kind: Kind::Job, party, statuses: Vec::new(), before: None, offset: 0, limit: 10 };
        let found = stage.store.find(stage.market, &query).await?.len();
        hold!(found == expected, "found {found}, expected {expected}");
    }
    Ok(())
}

async fn the_log_is_read_in_pages_without_gaps(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut written = Vec::new();
    for _ in 0..10 {
        let sample = stage.written().await?;
        written.push(sample.key());
    }
    let log = stage.log(written.len(), 3).await?;
    let subjects: Vec<_> = log.iter().map(|logged| logged.event.subject).collect();
    hold!(subjects == written, "the log has {subjects:?}, written were {written:?}");
    let positions: Vec<_> = log.iter().map(|logged| logged.position).collect();
    hold!(positions.is_sorted_by(|a, b| a < b), "positions do not rise: {positions:?}");
    Ok(())
}

async fn one_records_events_come_in_order(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut sample = stage.sample();
    for version in 0..5 {
        sample.version = version;
        let mut commit = sample.write();
        commit.events.push(sample.event());
        stage.store.commit(commit).await?;
        stage.written().await?;
    }
    let of_it = stage.store.events_of(stage.market, sample.key()).await?;
    let versions: Vec<u64> = of_it.iter().map(|logged| logged.event.version).collect();
    hold!(versions == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5], "its events are of versions {versions:?}");
    let log = stage.log(15, 4).await?;
    let same: Vec<LoggedEvent> = log.into_iter().filter(|logged| logged.event.subject == sample.key()).collect();
    hold!(same == of_it, "the log has {same:?}, the record {of_it:?}");
    Ok(())
}

async fn a_balance_is_known_for_every_moment(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut sample = stage.sample();
    for (second, amount) in [(10, 5), (20, 7)] {
        sample.job.posted_at = moment(second);
        stage.store.commit(sample.fund(euros(amount)).map_err(|e| Broken(e.to_string()))?).await?;
        sample.version += 1;
    }
    let expected = [(9, 0), (10, 5), (19, 5), (20, 12), (99, 12)];
    for (second, amount) in expected {
        let currency = euros(0).currency();
        let at = Some(moment(second));
        let escrow = stage.store.balance(stage.market, sample.escrow(), currency, at).await?;
        let rail = stage.store.balance(stage.market, Account::Rail(RAIL), currency, at).await?;
        hold!(escrow == euros(amount) && rail == euros(-amount), "at {second}: {escrow} in escrow, {rail} outside");
    }
    Ok(())
}

async fn a_history_is_read_in_pages(stage: &Stage<'_>) -> Result<(), Broken> {
    let (wallet, other) = (Account::Available(stage.id().into()), Account::Available(stage.id().into()));
    for amount in 1..=5 {
        stage.transfer(Account::Rail(RAIL), wallet, euros(amount)).await?;
        stage.transfer(wallet, other, euros(1)).await?;
    }
    let (mut entries, mut after) = (Vec::new(), 0);
    loop {
        let page = stage.store.history(stage.market, wallet, after, 3).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        entries.extend(page);
    }
    let amounts: Vec<Money> = entries.iter().map(|entry| entry.amount).collect();
    let expected: Vec<Money> = (1..=5).flat_map(|amount| [euros(amount), euros(-1)]).collect();
    hold!(amounts == expected, "the history has {amounts:?}");
    let parties =
        entries.iter().all(|e| e.counterparty == if e.amount.is_positive() { Account::Rail(RAIL) } else { other });
    hold!(parties && entries[0].at == moment(0), "another counterparty or moment: {entries:?}");
    Ok(())
}

async fn the_books_add_up_to_nothing(stage: &Stage<'_>) -> Result<(), Broken> {
    let sample = stage.funded(euros(5)).await?;
    let books = stage.store.trial_balance(stage.market).await?;
    hold!(books.len() == 1, "there are {} books", books.len());
    hold!(books[0].sum() == 0 && books[0].accounts.len() == 3, "the book is {:?}", books[0]);
    hold!(books[0].accounts.is_sorted_by_key(|(account, _)| *account), "accounts are not in order: {:?}", books[0]);
    hold!(books[0].of(sample.escrow()) == euros(5), "the escrow differs: {:?}", books[0]);
    stage.in_order().await
}

async fn policies_are_numbered_and_kept(stage: &Stage<'_>) -> Result<(), Broken> {
    let (store, market) = (&stage.store, stage.market);
    let read = |policy: Result<Policy, _>| policy.map_err(|e| Broken(format!("a sample policy: {e}")));
    let (first, second) = (read(Policy::voxpact())?, read(Policy::agentmarket())?);
    let again = store.add_policy(market, &first).await?;
    hold!(again == PolicyVersion(1), "the same policy again became {again:?}");
    for (policy, expected) in [(&second, 2), (&first, 3), (&first, 3)] {
        let version = store.add_policy(market, policy).await?;
        hold!(version == PolicyVersion(expected), "it became {version:?}, not {expected}");
    }
    let (newest, old) = (store.policy(market, None).await?, store.policy(market, Some(PolicyVersion(2))).await?);
    hold!(newest == Some((PolicyVersion(3), first)), "the newest differs");
    hold!(old == Some((PolicyVersion(2), second)), "an old one differs");
    for version in [0, 4] {
        let none = store.policy(market, Some(PolicyVersion(version))).await?;
        hold!(none.is_none(), "there is a policy {version}");
    }
    Ok(())
}

async fn markets_do_not_see_each_other(stage: &Stage<'_>) -> Result<(), Broken> {
    let sample = stage.sample();
    let mut commit = sample.fund(euros(5)).map_err(|e| Broken(e.to_string()))?;
    commit.key = Some(sample.key_use("k", 1));
    stage.store.commit(commit.clone()).await?;
    stage.store.move_cursor(stage.market, "r", None, "a").await?;

    let other = stage.store.open_market(&format!("beside {}", stage.market.0)).await?;
    let there = Stage { market: other, store: stage.store.clone(), database: stage.database, ids: 1000.into() };
    hold!(there.store.load(other, sample.key()).await?.is_none(), "a record is seen");
    hold!(there.store.key(other, "k").await?.is_none(), "a key is seen");
    hold!(there.log(0, 10).await?.is_empty(), "an event is seen");
    hold!(there.store.events_of(other, sample.key()).await?.is_empty(), "a record's event is seen");
    hold!(there.balance(sample.escrow()).await? == euros(0), "a balance is seen");
    hold!(there.store.history(other, sample.escrow(), 0, 10).await?.is_empty(), "a history is seen");
    hold!(there.store.trial_balance(other).await?.is_empty(), "a book is seen");
    hold!(there.store.cursor(other, "r").await?.is_none(), "a cursor is seen");
    hold!(there.store.policy(other, None).await?.is_none(), "a policy is seen");
    // The same ids and keys are free in another market.
    commit.market = other;
    there.store.commit(commit).await?;
    hold!(there.balance(sample.escrow()).await? == euros(5), "it was not written there");
    hold!(stage.balance(sample.escrow()).await? == euros(5), "it was written here");
    hold!(stage.log(1, 10).await?.len() == 1, "its event was written here");
    there.in_order().await
}
