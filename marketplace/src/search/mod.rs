//! Finding agents and open jobs by their words and their labels (VP-11, VP-15, AM-02, JP-11).
//!
//! A record that can be found has an [`Entry`]: what it is called, what it says, its labels (capabilities,
//! a category) and its [`Rank`]. The same commit that changes the record changes the entry, so what is
//! over is found no more. A store answers which entries have certain [`Term`]s, the highest rank first; it
//! compares terms and nothing else, so every store finds the same. What is relevant to a text is
//! [`Ranking`]'s to say, of those that the store found.

mod ranking;
mod term;

pub use ranking::{ByWords, Candidate, Ranking, Reach};
pub use term::Term;

use rust_decimal::{Decimal, prelude::ToPrimitive};

use crate::{
    agent::{Agent, AgentStatus},
    clock::Timestamp,
    job::{Job, JobOrder, Wanted},
    policy::TrustPolicy,
    text,
};

/// The most characters of a title and of a text that an entry has; what is longer is cut off.
const TITLE: usize = 1_000;
const TEXT: usize = 20_000;

/// How high an entry stands: the higher, the earlier it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(u32);

impl Rank {
    /// The highest.
    pub const MAX: Self = Self((1 << 26) - 1);

    /// A rank, at most [`Rank::MAX`].
    pub const fn new(rank: u32) -> Self {
        if rank > Self::MAX.0 { Self::MAX } else { Self(rank) }
    }

    /// The rank as a number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The place of a score on its scale. Whoever has the higher tier has the higher score (VP-11).
    pub(crate) fn of_score(score: Decimal, policy: &TrustPolicy) -> Self {
        let (min, max) = (policy.scale.min.value(), policy.scale.max.value());
        let share = (score - min).checked_div(max - min).unwrap_or_default();
        let place = share.clamp(Decimal::ZERO, Decimal::ONE) * Decimal::from(Self::MAX.0);
        Self::new(place.floor().to_u32().unwrap_or(0))
    }

    /// The minute of a moment, counted from 2020: the newest is the highest.
    pub(crate) fn of_moment(at: Timestamp) -> Self {
        const YEAR_2020: i64 = 1_577_836_800;
        let minutes = (at.timestamp() - YEAR_2020).div_euclid(60).max(0);
        Self::new(u32::try_from(minutes).unwrap_or(u32::MAX))
    }
}

/// What a record is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    title: String,
    text: String,
    terms: Vec<Term>,
    /// How high it stands.
    pub rank: Rank,
}

impl Entry {
    /// An entry that is found by the words of its title and its text and by its labels.
    pub fn new(title: &str, text: &str, labels: impl IntoIterator<Item = Term>, rank: Rank) -> Self {
        let (title, text) = (text::shown(title, TITLE), text::shown(text, TEXT));
        let mut terms: Vec<Term> = labels.into_iter().collect();
        terms.extend(Term::words(&title));
        terms.extend(Term::words(&text));
        terms.sort_unstable();
        terms.dedup();
        Self { title, text, terms, rank }
    }

    /// What it is called, in a line.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What it says besides.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it is found by, each once, in order.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }
}

impl Agent {
    /// What the agent is found by, while it may be found: only active ones are.
    pub fn entry(&self, rank: Rank) -> Option<Entry> {
        (self.status == AgentStatus::Active).then(|| {
            let capabilities = &self.profile.capabilities;
            let text = format!("{}\n{}", self.profile.description, capabilities.join("\n"));
            Entry::new(&self.name, &text, capabilities.iter().map(|can| capability(can)), rank)
        })
    }
}

impl Job {
    /// What the job is found by while it is listed for everybody; `order` is what was posted.
    pub fn entry(&self, order: &JobOrder) -> Entry {
        let open = order.open.clone().unwrap_or_default();
        let said = open.description.into_iter().chain(open.requires.iter().cloned()).chain(open.category.clone());
        let text = said.collect::<Vec<_>>().join("\n");
        let labels = open.requires.iter().map(|can| capability(can)).chain(open.category.as_deref().map(category));
        Entry::new(&order.title, &text, labels, Rank::of_moment(self.posted_at))
    }
}

impl Wanted {
    /// The label of such jobs; all of them are meant where there is none.
    pub(crate) fn label(&self) -> Option<Term> {
        match self {
            Self::Any => None,
            Self::Capability(can) => Some(capability(can)),
            Self::Category(name) => Some(category(name)),
        }
    }
}

/// The label of what can do this, or asks for it.
pub(crate) fn capability(name: &str) -> Term {
    Term::label("capability", name)
}

fn category(name: &str) -> Term {
    Term::label("category", name)
}
