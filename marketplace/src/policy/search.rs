//! How agents and open jobs are searched.

use serde::{Deserialize, Serialize};

use super::{
    Choice, Range,
    check::{At, COUNT_LIMIT, Checked},
};

/// How agents and open jobs are searched (VP-11, VP-15, AM-02).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchPolicy {
    /// A text's length in characters.
    pub text: Range<u32>,
    /// How many different words of a text, and how many capabilities, one search may name.
    pub terms: u32,
    /// How many are shown at once.
    pub page: Choice<u32>,
    /// How many of the first may be left out.
    pub offset: u32,
    /// How many of those with the highest rank a [`Ranking`](crate::search::Ranking) chooses from.
    pub considered: u32,
}

/// The most words of one search: each is looked up in the text index.
const TERMS_LIMIT: u32 = 64;
/// The most entries of one page or of one choice, which are loaded at once.
const PAGE_LIMIT: u32 = 1_000;

impl SearchPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("text").range(self.text, 1, 10_000)?;
        at.field("terms").within(self.terms, 1, TERMS_LIMIT)?;
        at.field("page").choice(self.page, 1, PAGE_LIMIT)?;
        at.field("offset").within(self.offset, 0, COUNT_LIMIT)?;
        at.field("considered").within(self.considered, self.page.allowed.max, PAGE_LIMIT)
    }
}
