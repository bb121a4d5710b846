//! Where a value stands in a policy, and the few kinds of limit that values have.

use std::fmt::{Debug, Display};

use super::{Choice, PolicyError, Range, Score, Span};

/// The outcome of checking one section.
pub(super) type Checked = Result<(), PolicyError>;

/// The most minor units an amount in a policy may have: twice it still fits, so that an amount and a
/// fee of at most the amount can always be added.
pub(super) const AMOUNT_LIMIT: i64 = i64::MAX / 2;
/// The most characters or bytes of JSON that any text may be allowed.
const TEXT_LIMIT: u32 = 10_000_000;
/// The most entries of any list in a policy, and the most of anything counted per agent or job.
pub(super) const COUNT_LIMIT: u32 = 1_000_000;
/// The longest word in a list, in characters.
const WORD_LIMIT: usize = 64;
/// The most words in a list.
const WORDS_LIMIT: usize = 1000;

/// The path of a field, such as `jobs.deadline.default`.
#[derive(Clone, Debug)]
pub(super) struct At(String);

impl At {
    /// A field of the policy itself.
    pub(super) fn top(name: &str) -> Self {
        Self(name.into())
    }

    /// A field, key or index within this one.
    pub(super) fn field(&self, name: impl Display) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    /// An entry of this list.
    pub(super) fn entry(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The error for `value` here.
    pub(super) fn refuse(&self, value: impl Display, allowed: impl Display) -> PolicyError {
        PolicyError::Invalid { path: self.0.clone(), value: value.to_string(), allowed: allowed.to_string() }
    }

    /// A value between two limits, both included.
    pub(super) fn within<T: PartialOrd + Display>(&self, value: T, least: T, most: T) -> Checked {
        match least <= value && value <= most {
            true => Ok(()),
            false => Err(self.refuse(value, format_args!("allowed are {least} to {most}"))),
        }
    }

    /// A range that is the right way round and between two limits.
    pub(super) fn range<T: PartialOrd + Display + Copy>(&self, range: Range<T>, least: T, most: T) -> Checked {
        self.field("min").within(range.min, least, most)?;
        self.field("max").within(range.max, least, most)?;
        match range.min <= range.max {
            true => Ok(()),
            false => Err(self.field("min").refuse(range.min, format_args!("allowed is at most max, {}", range.max))),
        }
    }

    /// A default that is itself allowed, in a range between two limits.
    pub(super) fn choice<T: PartialOrd + Display + Copy>(&self, choice: Choice<T>, least: T, most: T) -> Checked {
        let Range { min, max } = choice.allowed;
        self.field("allowed").range(choice.allowed, least, most)?;
        self.field("default").within(choice.default, min, max)
    }

    /// A length of time that is not nothing.
    pub(super) fn span(&self, span: Span) -> Checked {
        self.within(span, Span::SECOND, Span::MAX)
    }

    /// Lengths of time to choose from, none of them nothing.
    pub(super) fn spans(&self, choice: Choice<Span>) -> Checked {
        self.choice(choice, Span::SECOND, Span::MAX)
    }

    /// An amount that is more than nothing.
    pub(super) fn amount(&self, minor: i64) -> Checked {
        self.within(minor, 1, AMOUNT_LIMIT)
    }

    /// A range of amounts that are more than nothing.
    pub(super) fn amounts(&self, range: Range<i64>) -> Checked {
        self.range(range, 1, AMOUNT_LIMIT)
    }

    /// An amount that may be nothing.
    pub(super) fn charge(&self, minor: i64) -> Checked {
        self.within(minor, 0, AMOUNT_LIMIT)
    }

    /// The length of a text that may be empty.
    pub(super) fn length(&self, range: Range<u32>) -> Checked {
        self.range(range, 0, TEXT_LIMIT)
    }

    /// A size that is not nothing.
    pub(super) fn size(&self, bytes: u32) -> Checked {
        self.within(bytes, 1, TEXT_LIMIT)
    }

    /// How many of something there may be: at least one.
    pub(super) fn count(&self, count: u32) -> Checked {
        self.within(count, 1, COUNT_LIMIT)
    }

    /// How many of something there may be: possibly none.
    pub(super) fn count_or_none(&self, count: u32) -> Checked {
        self.within(count, 0, COUNT_LIMIT)
    }

    /// A range of scores within a scale.
    pub(super) fn scores(&self, choice: Choice<Score>, scale: Range<Score>) -> Checked {
        self.choice(choice, scale.min, scale.max)
    }

    /// A word that clients send and code compares: small letters, digits, `_`, `-`.
    pub(super) fn word(&self, word: &str) -> Checked {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        match (1..=WORD_LIMIT).contains(&word.len()) && word.bytes().all(fits) {
            true => Ok(()),
            false => Err(self
                .refuse(format_args!("{word:?}"), format_args!("allowed are 1 to {WORD_LIMIT} of a-z, 0-9, _ and -"))),
        }
    }

    /// A list of different words, at least one.
    pub(super) fn words(&self, words: &[String]) -> Checked {
        self.within(words.len(), 1, WORDS_LIMIT)?;
        words.iter().enumerate().try_for_each(|(i, word)| self.entry(i).word(word))?;
        self.distinct(words)
    }

    /// A list in which nothing comes twice.
    pub(super) fn distinct<T: PartialEq + Debug>(&self, list: &[T]) -> Checked {
        let twice = (0..list.len()).find(|i| list[..*i].contains(&list[*i]));
        match twice {
            None => Ok(()),
            Some(i) => Err(self.entry(i).refuse(format_args!("{:?}", list[i]), "allowed is each value once")),
        }
    }
}
