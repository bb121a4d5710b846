//! What is relevant to a text.

use std::{cmp::Reverse, collections::HashSet};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Rank, Term};
use crate::store::Kind;

/// Something that was found, to be put in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The record's id.
    pub id: Uuid,
    /// How high it stands: an agent by its trust, a job by how new it is.
    pub rank: Rank,
    /// An agent's name, a job's title.
    pub title: String,
    /// What it says besides: description, capabilities, category.
    pub text: String,
}

/// From what a [`Ranking`] chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From entries that have words of the text.
    Words,
    /// From all that the search allows apart from its text, for a ranking that knows more than words.
    All,
}

/// Puts what was found for a text in order. An embedder's own, such as one that compares meanings, takes
/// the place of [`ByWords`].
///
/// # The contract
///
/// 1. It is given the candidates with the highest rank, at most as many as the policy has considered
///    ([`SearchPolicy::considered`](crate::policy::SearchPolicy::considered)), in the order of their rank.
/// 2. It answers their places in `candidates`, the best first. One that it leaves out is not shown; a place
///    that does not exist or comes twice is passed over.
/// 3. The text is a stranger's. The same text and candidates are asked about again for each page, so the
///    same answer keeps pages apart.
/// 4. The engine waits for a lease at most. One that fails, panics or is too late fails the search as
///    [`Error::Part`](crate::error::Error::Part), and nothing else.
#[async_trait]
pub trait Ranking: Send + Sync + 'static {
    /// From what it chooses.
    fn reach(&self, _kind: Kind) -> Reach {
        Reach::Words
    }

    /// The candidates' places, the best first.
    ///
    /// # Errors
    /// A reason for operators.
    async fn rank(&self, kind: Kind, text: &str, candidates: &[Candidate]) -> Result<Vec<usize>, String>;
}

/// Agents by their trust (VP-11); jobs by how many different words of the text they have, those in the
/// title twice, and the newest first where that is the same (VP-15).
#[derive(Clone, Copy, Debug, Default)]
pub struct ByWords;

#[async_trait]
impl Ranking for ByWords {
    async fn rank(&self, kind: Kind, text: &str, candidates: &[Candidate]) -> Result<Vec<usize>, String> {
        let mut places: Vec<usize> = (0..candidates.len()).collect();
        if kind == Kind::Agent {
            return Ok(places);
        }
        let wanted = Term::words(text);
        let score = |candidate: &Candidate| {
            let title: HashSet<Term> = Term::words(&candidate.title).into_iter().collect();
            let text: HashSet<Term> = Term::words(&candidate.text).into_iter().collect();
            let worth = |word: &&Term| 2 * usize::from(title.contains(*word)) + usize::from(text.contains(*word));
            let found = wanted.iter().filter(|word| title.contains(*word) || text.contains(*word)).count();
            (found, wanted.iter().map(|word| worth(&word)).sum::<usize>())
        };
        let scores: Vec<_> = candidates.iter().map(score).collect();
        places.sort_by_key(|place| Reverse((scores[*place], candidates[*place].rank, candidates[*place].id)));
        Ok(places)
    }
}
