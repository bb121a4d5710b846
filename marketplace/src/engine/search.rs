//! Finding agents and open jobs, and keeping what they are found by.
//!
//! An entry is written by the commit that changes its record. An agent's rank follows from its trust: the
//! commit that lists an agent relies on its reputation's version, and the one that moves its trust relies on
//! the agent's, so neither overlooks the other.
//!
//! What was there before this version of the library, and agents' ranks after another policy was set, are
//! listed anew by the background work, once for each form of entries and each policy, a page a round.

use std::{panic::AssertUnwindSafe, sync::atomic::Ordering, time::Duration};

use futures::{FutureExt as _, future::try_join_all};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Marketplace, OpenJob, Standing,
    command::{ATTEMPTS, Call},
    settlement::fenced,
    transact::Attempt,
};
use crate::{
    actor::Actor,
    agent::{Agent, AgentStatus, PublicProfile},
    error::{Error, Rejection},
    ids::{AgentId, JobId},
    job::{Job, JobOrder, Wanted},
    policy::SearchPolicy,
    search::{Candidate, Rank, Reach, Term, capability},
    store::{Commit, CommitError, Key, Kind, Listing, Query, Seek, Tagged},
    text,
    trust::Reputation,
};

/// What entries are made of by this version of the library; raised when that changes.
const FORM: u32 = 1;
/// How many records are listed anew in one commit.
const PAGE: u32 = 64;

/// Which agents to find, the most trusted first (VP-11, AM-02).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentSearch {
    /// With all these words in name, description or capabilities; `None` for any.
    pub text: Option<String>,
    /// Who can do this.
    pub can: Capable,
    /// Leaving out the first so many, at most what the policy allows.
    pub offset: u32,
    /// At most so many, of what the policy allows; `None` for its default.
    pub limit: Option<u32>,
}

/// What agents that are looked for can do, each capability as agents write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Capable {
    /// Anything.
    #[default]
    Whatever,
    /// At least one of these.
    Any(Vec<String>),
    /// All of these.
    All(Vec<String>),
}

/// An agent that was found, as everybody may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundAgent {
    /// What it says about itself.
    #[serde(flatten)]
    pub profile: PublicProfile,
    /// How far it is trusted: its score on the policy's scale, the jobs it has completed.
    pub standing: Standing,
}

/// Which open jobs to find, the most relevant first (VP-15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSearch {
    /// With words of this in title, description, required capabilities or category.
    pub text: String,
    /// Of what kind.
    pub wanted: Wanted,
    /// Leaving out the first so many, at most what the policy allows.
    pub offset: u32,
    /// At most so many, of what the policy allows; `None` for its default.
    pub limit: Option<u32>,
}

impl JobSearch {
    /// The most relevant of all open jobs.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), wanted: Wanted::Any, offset: 0, limit: None }
    }
}

impl Marketplace {
    /// Active agents that are looked for, the most trusted first, of the same trust whoever was active first;
    /// for everybody (VP-11, AM-02). Where a text is given and the builder was given a
    /// [`Ranking`](crate::search::Ranking), in its order.
    ///
    /// # Errors
    /// [`Rejection::NotOffered`] where agents are the embedder's own or the policy has no search; what the
    /// policy does not allow; a ranking that fails; or the store's failure.
    pub async fn find_agents(&self, search: AgentSearch) -> Result<Vec<FoundAgent>, Error> {
        let policy = self.policy().1;
        if self.inner.agents.is_none() {
            return Err(Rejection::NotOffered { what: "agents of its own" }.into());
        }
        let rules = rules(policy.search.as_ref())?;
        let (offset, limit) = page(&rules, search.offset, search.limit)?;
        let (lists, names) = match search.can {
            Capable::Whatever => (Vec::new(), Vec::new()),
            Capable::Any(names) => (vec![labels(&names)], names),
            Capable::All(names) => (labels(&names).into_iter().map(|label| vec![label]).collect(), names),
        };
        at_most("capabilities", names.len(), rules.terms)?;
        for name in &names {
            text::line("capability", name, policy.agents.capability)?;
        }
        let found = match &search.text {
            None => self.seek(Kind::Agent, lists, offset, limit).await?,
            Some(text) => {
                let words = words(&rules, text)?.into_iter().map(|word| vec![word]).collect();
                self.chosen(Kind::Agent, &rules, text, lists, vec![words], offset, limit).await?
            }
        };
        let shown = found.into_iter().map(|candidate| async move {
            let agent = self.registered(AgentId(candidate.id)).await?;
            // It may have been stopped between the two looks.
            if agent.status != AgentStatus::Active {
                return Ok(None);
            }
            let standing = self.standing(agent.id).await?;
            Ok::<_, Error>(Some(FoundAgent { profile: agent.public(), standing }))
        });
        Ok(try_join_all(shown).await?.into_iter().flatten().collect())
    }

    /// Open jobs that look for a worker, the most relevant to a text first, for everybody (VP-15). Those that
    /// have all words of the text are chosen from first, then those that have any. Without a text,
    /// [`Marketplace::open_jobs`] lists the newest.
    ///
    /// # Errors
    /// [`Rejection::NotOffered`] where the policy has no search; what the policy does not allow; a ranking
    /// that fails; or the store's failure.
    pub async fn find_jobs(&self, search: JobSearch) -> Result<Vec<OpenJob>, Error> {
        let policy = self.policy().1;
        let rules = rules(policy.search.as_ref())?;
        let (offset, limit) = page(&rules, search.offset, search.limit)?;
        let words = words(&rules, &search.text)?;
        let lists = search.wanted.label().into_iter().map(|label| vec![label]).collect();
        let all = words.iter().map(|word| vec![word.clone()]).collect();
        let found = self.chosen(Kind::Job, &rules, &search.text, lists, vec![all, vec![words]], offset, limit).await?;
        let shown = found.into_iter().map(|candidate| async move {
            let job = self.job(JobId(candidate.id)).await?;
            // It may have found its worker between the two looks.
            match job.tags().is_empty() {
                true => Ok(None),
                false => self.shown(job).await.map(Some),
            }
        });
        Ok(try_join_all(shown).await?.into_iter().flatten().collect())
    }

    async fn seek(&self, kind: Kind, terms: Vec<Vec<Term>>, offset: u32, limit: u32) -> Result<Vec<Candidate>, Error> {
        let seek = Seek { kind, terms, offset, limit };
        Ok(self.inner.store.seek(self.inner.market, &seek).await?)
    }

    /// A page of what a ranking makes of the candidates for a text: those with the words of the first wording,
    /// then, as long as there are fewer than are considered, of the next.
    #[expect(clippy::too_many_arguments, reason = "what one search is made of")]
    async fn chosen(
        &self,
        kind: Kind,
        rules: &SearchPolicy,
        text: &str,
        lists: Vec<Vec<Term>>,
        wordings: Vec<Vec<Vec<Term>>>,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<Candidate>, Error> {
        let ranking = &self.inner.ranking;
        let wordings = match ranking.reach(kind) {
            Reach::Words => wordings,
            Reach::All => vec![Vec::new()],
        };
        let mut candidates: Vec<Candidate> = Vec::new();
        for words in wordings {
            if candidates.len() >= rules.considered as usize {
                break;
            }
            let terms = lists.iter().cloned().chain(words).collect();
            let found = self.seek(kind, terms, 0, rules.considered).await?;
            let known: std::collections::HashSet<_> = candidates.iter().map(|candidate| candidate.id).collect();
            candidates.extend(found.into_iter().filter(|candidate| !known.contains(&candidate.id)));
        }
        candidates.truncate(rules.considered as usize);
        if candidates.is_empty() {
            return Ok(candidates);
        }
        let patience = Duration::from_secs(self.inner.lease.as_seconds().into());
        let ranked = AssertUnwindSafe(async { ranking.rank(kind, text, &candidates).await }).catch_unwind();
        let failed = |reason: String| Error::Part { part: "the ranking", reason };
        let places = match tokio::time::timeout(patience, ranked).await {
            Ok(Ok(places)) => places.map_err(failed)?,
            Ok(Err(_panic)) => return Err(failed("it panicked".into())),
            Err(_late) => return Err(failed(format!("no answer within {}", self.inner.lease))),
        };
        let mut left: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
        let ordered = places.into_iter().filter_map(|place| left.get_mut(place)?.take());
        Ok(ordered.skip(offset as usize).take(limit as usize).collect())
    }

    /// Adds to a commit what an agent is found by from now on, where that changes.
    pub(super) async fn list_agent(
        &self,
        on: &Attempt<'_>,
        commit: &mut Commit,
        before: Option<&Agent>,
        after: &Agent,
    ) -> Result<(), Error> {
        let plain = |agent: &Agent| agent.entry(Rank::default());
        if before.and_then(plain) == plain(after) {
            return Ok(());
        }
        let (rank, guard) = self.rank_of(on, after.id).await?;
        commit.guards.push(guard);
        let subject = Key { kind: Kind::Agent, id: after.id.0 };
        commit.listings.push(Listing { subject, entry: after.entry(rank) });
        Ok(())
    }

    /// An agent's rank by its trust, and the version of that.
    async fn rank_of(&self, on: &Attempt<'_>, agent: AgentId) -> Result<(Rank, (Key, u64)), Error> {
        let policy = self.policy().1;
        let trust = self.trust_by(&policy);
        let kept = on.find::<Reputation>(agent.0).await?;
        let record = kept.as_ref().map_or_else(|| trust.begin(), |(kept, _)| kept.record.clone());
        let version = kept.map_or(0, |(_, version)| version);
        let rank = Rank::of_score(trust.score(&record, on.now), &policy.trust);
        Ok((rank, (Key { kind: Kind::Reputation, id: agent.0 }, version)))
    }

    /// Adds to a commit that moves an agent's trust where it is found from now on.
    pub(super) async fn move_agent(
        &self,
        on: &Attempt<'_>,
        commit: &mut Commit,
        moved: &Reputation,
    ) -> Result<(), Error> {
        if self.inner.agents.is_none() {
            return Ok(());
        }
        let Some((agent, version)) = on.find::<Agent>(moved.agent.0).await? else { return Ok(()) };
        let subject = Key { kind: Kind::Agent, id: moved.agent.0 };
        commit.guards.push((subject, version));
        let policy = self.policy().1;
        let rank = Rank::of_score(self.trust_by(&policy).score(&moved.record, on.now), &policy.trust);
        if let Some(entry) = agent.entry(rank) {
            commit.listings.push(Listing { subject, entry: Some(entry) });
        }
        Ok(())
    }

    /// Lists anew some of what was listed by an older version of the library or ranked by another policy, while
    /// there is any left: a page of jobs and a page of agents. How many records.
    pub(super) async fn relist(&self) -> Result<usize, Error> {
        let version = self.policy().0;
        if self.inner.listed_by.load(Ordering::Relaxed) == version.0 {
            return Ok(0);
        }
        let jobs = self.relist_page(Kind::Job, "listed jobs", &FORM.to_string()).await?;
        let agents = self.relist_page(Kind::Agent, "listed agents", &format!("{FORM}/{}", version.0)).await?;
        if (jobs, agents) == (None, None) {
            self.inner.listed_by.store(version.0, Ordering::Relaxed);
        }
        Ok(jobs.unwrap_or(0) + agents.unwrap_or(0))
    }

    /// Lists the next page anew, up to which a mark says it was done; `None` once the mark says that all was.
    async fn relist_page(&self, kind: Kind, mark: &str, all: &str) -> Result<Option<usize>, Error> {
        let (store, market) = (&self.inner.store, self.inner.market);
        let said = store.cursor(market, mark).await?;
        if said.as_deref() == Some(all) {
            return Ok(None);
        }
        let before = said.as_deref().and_then(|said| said.strip_prefix(all)?.strip_prefix('@')?.parse().ok());
        let (offset, limit) = (0, PAGE);
        let found = match kind {
            Kind::Job => store.tagged(market, &Tagged { kind, tag: Wanted::Any.tag(), before, offset, limit }).await?,
            // In every status: what was listed may have to be no more.
            _ => store.find(market, &Query { kind, party: None, statuses: Vec::new(), before, offset, limit }).await?,
        };
        let subjects: Vec<Key> = found.iter().map(|stored| stored.record.key()).collect();
        self.list_anew(&subjects).await?;
        let next = match subjects.last().filter(|_| subjects.len() == PAGE as usize) {
            Some(last) => format!("{all}@{}", last.id),
            None => all.to_owned(),
        };
        // Another process may be at it, too: listing twice is harmless.
        store.move_cursor(market, mark, said.as_deref(), &next).await?;
        Ok(Some(subjects.len()))
    }

    /// Lists some jobs or agents as they are now.
    async fn list_anew(&self, subjects: &[Key]) -> Result<(), Error> {
        let call = Call::by(&Actor::Timer);
        if subjects.is_empty() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let on = Attempt::new(self, call);
            let mut commit = on.commit(Key { kind: Kind::Agent, id: Uuid::nil() }, 0);
            for subject in subjects {
                let (entry, version) = match subject.kind {
                    Kind::Job => match on.find::<Job>(subject.id).await? {
                        Some((job, _)) if job.tags().is_empty() => continue,
                        Some((job, version)) => (Some(job.entry(&self.order(on.journal, job.id).await?)), version),
                        None => continue,
                    },
                    _ => match on.find::<Agent>(subject.id).await? {
                        Some((agent, version)) => {
                            let (rank, guard) = self.rank_of(&on, agent.id).await?;
                            commit.guards.push(guard);
                            (agent.entry(rank), version)
                        }
                        None => continue,
                    },
                };
                commit.guards.push((*subject, version));
                commit.listings.push(Listing { subject: *subject, entry });
            }
            match self.write(call, commit).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return fenced(error),
            }
        }
        Err(Error::Contention { command: "relist", attempts: ATTEMPTS })
    }
}

impl Attempt<'_> {
    /// Adds to a commit what a job is found by, now that everybody may see it or no longer may.
    pub(super) async fn list_job(&self, commit: &mut Commit, subject: Key, job: &Job) -> Result<(), Error> {
        if job.tags().is_empty() {
            commit.listings.push(Listing { subject, entry: None });
            return Ok(());
        }
        let posted = commit.documents.iter().find(|document| document.subject == subject.id && document.name == "task");
        let order = match posted.map(|document| serde_json::from_str::<JobOrder>(&document.body)) {
            Some(Ok(order)) => order,
            Some(Err(_)) | None => self.market.order(self.journal, job.id).await?,
        };
        commit.listings.push(Listing { subject, entry: Some(job.entry(&order)) });
        Ok(())
    }
}

fn rules(policy: Option<&SearchPolicy>) -> Result<SearchPolicy, Rejection> {
    policy.copied().ok_or(Rejection::NotOffered { what: "search" })
}

/// Offset and limit, if the policy allows them.
fn page(rules: &SearchPolicy, offset: u32, limit: Option<u32>) -> Result<(u32, u32), Rejection> {
    let (allowed, actual) = (rules.page.allowed, limit.unwrap_or(rules.page.default));
    if !allowed.contains(actual) {
        return Err(Rejection::Count { field: "limit", min: allowed.min, max: allowed.max, actual });
    }
    match offset <= rules.offset {
        true => Ok((offset, actual)),
        false => Err(Rejection::Count { field: "offset", min: 0, max: rules.offset, actual: offset }),
    }
}

/// The different words of a text that is searched by. Whatever else is in it separates them.
fn words(rules: &SearchPolicy, text: &str) -> Result<Vec<Term>, Rejection> {
    let (actual, length) = (text.chars().count(), rules.text);
    if actual < length.min as usize || actual > length.max as usize {
        return Err(Rejection::Length { field: "text", unit: "characters", min: length.min, max: length.max, actual });
    }
    let words = Term::words(text);
    at_most("words", words.len(), rules.terms)?;
    match words.is_empty() {
        true => Err(Rejection::Form { field: "text", form: "of at least one word" }),
        false => Ok(words),
    }
}

fn at_most(field: &'static str, actual: usize, max: u32) -> Result<(), Rejection> {
    match actual <= max as usize {
        true => Ok(()),
        false => Err(Rejection::TooMany { field, max, actual }),
    }
}

fn labels(names: &[String]) -> Vec<Term> {
    names.iter().map(|name| capability(name)).collect()
}
