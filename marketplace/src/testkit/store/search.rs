//! What entries are found by, in which order, and by whom not.

use uuid::Uuid;

use super::{Broken, Sample, Stage, cases, hold};
use crate::{
    search::{Entry, Rank, Term},
    store::{Key, Kind, Listing, Seek},
};

cases![
    entries_are_found_by_their_words_and_labels,
    the_highest_rank_comes_first_and_the_first_of_a_rank,
    what_is_found_is_turned_in_pages,
    an_entry_changes_with_its_commit_and_not_without,
    hostile_texts_are_words_like_others,
    an_entry_with_all_that_it_may_hold_is_found,
    no_entry_is_found_in_another_market_or_kind,
];

/// Ids, with at least one term of each list.
async fn found(stage: &Stage<'_>, terms: Vec<Vec<Term>>) -> Result<Vec<Uuid>, Broken> {
    page(stage, terms, 0, 100).await
}

async fn page(stage: &Stage<'_>, terms: Vec<Vec<Term>>, offset: u32, limit: u32) -> Result<Vec<Uuid>, Broken> {
    let seek = Seek { kind: Kind::Job, terms, offset, limit };
    let found = stage.store.seek(stage.market, &seek).await?;
    Ok(found.into_iter().map(|candidate| candidate.id).collect())
}

/// All of these words.
fn all(text: &str) -> Vec<Vec<Term>> {
    Term::words(text).into_iter().map(|word| vec![word]).collect()
}

fn label(name: &str) -> Term {
    Term::label("capability", name)
}

/// A job that is found by this.
async fn listed(stage: &Stage<'_>, title: &str, labels: &[&str], rank: u32) -> Result<Sample, Broken> {
    let sample = stage.sample();
    write(stage, &sample, Some(entry(title, labels, rank))).await?;
    Ok(Sample { version: 1, ..sample })
}

fn entry(title: &str, labels: &[&str], rank: u32) -> Entry {
    Entry::new(title, "said besides", labels.iter().map(|name| label(name)), Rank::new(rank))
}

async fn write(stage: &Stage<'_>, sample: &Sample, entry: Option<Entry>) -> Result<(), Broken> {
    let mut commit = sample.write();
    commit.listings.push(Listing { subject: sample.key(), entry });
    Ok(stage.store.commit(commit).await?)
}

fn ids(samples: &[&Sample]) -> Vec<Uuid> {
    samples.iter().map(|sample| sample.key().id).collect()
}

async fn entries_are_found_by_their_words_and_labels(stage: &Stage<'_>) -> Result<(), Broken> {
    let letter = listed(stage, "Translate a letter", &["french", "legal text"], 3).await?;
    let page = listed(stage, "Translate: a WEB-page!", &["french"], 2).await?;
    let scraper = listed(stage, "Scrape a page", &["web scraping"], 1).await?;
    let nothing: Vec<Uuid> = Vec::new();
    for (terms, expected, which) in [
        (vec![], ids(&[&letter, &page, &scraper]), "all"),
        (all("translate"), ids(&[&letter, &page]), "a word"),
        (all("TRANSLATE, (page)"), ids(&[&page]), "two words in another case"),
        (all("besides"), ids(&[&letter, &page, &scraper]), "a word of the text"),
        (vec![Term::words("letter scrape")], ids(&[&letter, &scraper]), "any of two words"),
        (all("transl"), nothing.clone(), "a part of a word"),
        (vec![vec![label("french")]], ids(&[&letter, &page]), "a label"),
        (vec![vec![label("legal text")], vec![label("french")]], ids(&[&letter]), "two labels"),
        (vec![vec![label("legal text"), label("web scraping")]], ids(&[&letter, &scraper]), "any of two labels"),
        (vec![vec![label("French")]], nothing.clone(), "a label in another case"),
        (vec![vec![label("legal")]], nothing.clone(), "a part of a label"),
        (vec![Term::words("french")], nothing.clone(), "a label as a word"),
        ([vec![vec![label("french")]], all("web")].concat(), ids(&[&page]), "a label and a word"),
        (vec![Vec::new()], nothing, "one of no terms"),
    ] {
        let found = found(stage, terms).await?;
        hold!(found == expected, "{which}: {found:?}, expected {expected:?}");
    }
    let seek = Seek { kind: Kind::Job, terms: all("letter"), offset: 0, limit: 1 };
    let candidates = stage.store.seek(stage.market, &seek).await?;
    let shown = candidates.first().map(|one| (one.title.as_str(), one.text.as_str(), one.rank));
    hold!(shown == Some(("Translate a letter", "said besides", Rank::new(3))), "it is shown as {shown:?}");
    Ok(())
}

async fn the_highest_rank_comes_first_and_the_first_of_a_rank(stage: &Stage<'_>) -> Result<(), Broken> {
    let low = listed(stage, "word", &[], 0).await?;
    let second = listed(stage, "word", &[], 50).await?;
    let third = listed(stage, "word", &[], 50).await?;
    let highest = listed(stage, "word", &[], Rank::MAX.get()).await?;
    for terms in [vec![], all("word"), vec![Term::words("word besides")]] {
        let found = found(stage, terms).await?;
        hold!(found == ids(&[&highest, &second, &third, &low]), "in the order {found:?}");
    }
    // An entry that changes keeps its place among its equals, and comes back to it.
    write(stage, &second, Some(entry("another word", &[], 50))).await?;
    hold!(found(stage, all("word")).await? == ids(&[&highest, &second, &third, &low]), "a change moved it");
    let second = Sample { version: 2, ..second };
    write(stage, &second, Some(entry("word", &[], 0))).await?;
    hold!(found(stage, all("word")).await? == ids(&[&highest, &third, &low, &second]), "a lower rank moved it not");
    let second = Sample { version: 3, ..second };
    write(stage, &second, Some(entry("word", &[], 51))).await?;
    hold!(found(stage, all("word")).await? == ids(&[&highest, &second, &third, &low]), "a higher rank moved it not");
    Ok(())
}

async fn what_is_found_is_turned_in_pages(stage: &Stage<'_>) -> Result<(), Broken> {
    let mut samples = Vec::new();
    for rank in (0..7).rev() {
        samples.push(listed(stage, "word", &[], rank).await?);
    }
    let expected = ids(&samples.iter().collect::<Vec<_>>());
    for terms in [vec![], all("word")] {
        for (offset, limit) in [(0, 3), (3, 3), (6, 3), (7, 3), (u32::MAX, 3), (0, u32::MAX), (2, 0)] {
            let found = page(stage, terms.clone(), offset, limit).await?;
            let page: Vec<Uuid> = expected.iter().copied().skip(offset as usize).take(limit as usize).collect();
            hold!(found == page, "{limit} after {offset}: {found:?}, expected {page:?}");
        }
    }
    Ok(())
}

async fn an_entry_changes_with_its_commit_and_not_without(stage: &Stage<'_>) -> Result<(), Broken> {
    let sample = listed(stage, "before", &["old"], 1).await?;
    stage.store.commit(sample.write()).await?;
    hold!(found(stage, all("before")).await? == ids(&[&sample]), "a commit that says nothing changed it");
    let late = write(stage, &sample, Some(entry("after", &[], 1))).await;
    hold!(late.is_err(), "a stale write was admitted");
    hold!(found(stage, all("after")).await?.is_empty(), "a refused commit changed it");
    let sample = Sample { version: 2, ..sample };
    write(stage, &sample, Some(entry("after", &["new"], 1))).await?;
    hold!(found(stage, all("before")).await?.is_empty(), "it is found by what it said before");
    hold!(found(stage, vec![vec![label("old")]]).await?.is_empty(), "it is found by a label from before");
    hold!(found(stage, all("after")).await? == ids(&[&sample]), "it is not found by what it says");
    let sample = Sample { version: 3, ..sample };
    write(stage, &sample, None).await?;
    for terms in [vec![], all("after"), vec![vec![label("new")]]] {
        hold!(found(stage, terms).await?.is_empty(), "it is found though it is listed no more");
    }
    // What nobody has listed may be taken off the list.
    let never = stage.sample();
    write(stage, &never, None).await?;
    let sample = Sample { version: 4, ..sample };
    write(stage, &sample, Some(entry("again", &[], 1))).await?;
    hold!(found(stage, all("again")).await? == ids(&[&sample]), "it is not listed again");
    Ok(())
}

async fn hostile_texts_are_words_like_others(stage: &Stage<'_>) -> Result<(), Broken> {
    let texts = [
        "\"quoted\" OR NEAR(a b, 2) NOT c* ^first col:value {x} -minus + plus",
        "'); DROP TABLE listings; -- & | ! <-> :* \\",
        "nul\0byte \u{202E}hidden\u{FEFF} \u{FFFD}",
        "Straße İstanbul ŒUVRE ﬁne naïve e\u{301}t\u{e9}",
        "翻译 信件 日本語 العربية हिन्दी ไทย 👩‍👩‍👧 𝒻𝒶𝓃𝒸𝓎 ⅷ ²",
    ];
    let mut samples = Vec::new();
    for text in texts {
        samples.push(listed(stage, text, &[text], 1).await?);
    }
    for (text, sample) in texts.iter().zip(&samples) {
        let by_words = found(stage, all(text)).await?;
        hold!(by_words == ids(&[sample]), "{text:?} is found as {by_words:?}");
        let by_label = found(stage, vec![vec![label(text)]]).await?;
        hold!(by_label == ids(&[sample]), "the label {text:?} is found as {by_label:?}");
    }
    for (word, place) in [("étÉ", 3), ("fine", 3), ("翻", 4), ("fancy", 4), ("or", 0), ("drop", 1)] {
        let expected = samples.get(place).map(|sample| vec![sample.key().id]).unwrap_or_default();
        let found = found(stage, all(word)).await?;
        hold!(found == expected, "{word:?} finds {found:?}, expected {expected:?}");
    }
    Ok(())
}

async fn an_entry_with_all_that_it_may_hold_is_found(stage: &Stage<'_>) -> Result<(), Broken> {
    let long = "\u{10437}".repeat(500);
    let many: String = (0..5_000).map(|number| format!("many{number} ")).collect();
    let names: Vec<String> = (0..100).map(|number| format!("{number} {long}")).collect();
    let sample = stage.sample();
    let labels = names.iter().map(|name| label(name));
    write(stage, &sample, Some(Entry::new(&long, &many, labels, Rank::MAX))).await?;
    for terms in [all(&long), all("many0 many999"), vec![vec![label(&names[99])]]] {
        hold!(found(stage, terms).await? == ids(&[&sample]), "it is not found");
    }
    Ok(())
}

async fn no_entry_is_found_in_another_market_or_kind(stage: &Stage<'_>) -> Result<(), Broken> {
    let sample = listed(stage, "here", &["label"], 1).await?;
    let other = stage.store.open_market(&format!("beside {}", stage.market.0)).await?;
    let seek = |kind, terms| Seek { kind, terms, offset: 0, limit: 10 };
    for terms in [vec![], all("here"), vec![vec![label("label")]]] {
        let there = stage.store.seek(other, &seek(Kind::Job, terms.clone())).await?;
        hold!(there.is_empty(), "another market finds {there:?}");
        let agents = stage.store.seek(stage.market, &seek(Kind::Agent, terms)).await?;
        hold!(agents.is_empty(), "another kind finds {agents:?}");
    }
    // The same id in another market, and as another kind in this one, is another entry.
    let twin = Sample { market: other, version: 0, ..sample.clone() };
    let mut commit = twin.write();
    let entries = [("there", sample.key()), ("both", Key { kind: Kind::Agent, id: sample.key().id })];
    commit.listings.extend(entries.map(|(title, subject)| Listing { subject, entry: Some(entry(title, &[], 1)) }));
    stage.store.commit(commit).await?;
    hold!(found(stage, all("here")).await? == ids(&[&sample]), "it is found here no more");
    hold!(found(stage, all("there")).await?.is_empty(), "what was written there is found here");
    let both = stage.store.seek(other, &seek(Kind::Agent, all("both"))).await?;
    hold!(both.len() == 1, "as another kind it is found as {both:?}");
    Ok(())
}
