//! Lengths of time, ranges and choices, as a policy writes them.

use std::fmt;

use chrono::TimeDelta;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A length of time in whole seconds, written `72h`, `5m`, `30days` or `1h 30m`; at most 100 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u32);

impl Span {
    /// The longest span: 100 years of 365 days, in seconds.
    pub const LIMIT: u32 = 100 * 365 * 24 * 60 * 60;
    /// The shortest span that is not nothing.
    pub const SECOND: Self = Self(1);
    /// The longest span.
    pub const MAX: Self = Self(Self::LIMIT);

    /// A span of whole seconds, cut at [`Span::LIMIT`].
    pub const fn seconds(seconds: u32) -> Self {
        Self(if seconds > Self::LIMIT { Self::LIMIT } else { seconds })
    }

    /// A span of whole hours, cut at [`Span::LIMIT`].
    pub const fn hours(hours: u32) -> Self {
        Self::seconds(hours.saturating_mul(3600))
    }

    /// The length in seconds.
    pub const fn as_seconds(self) -> u32 {
        self.0
    }

    /// The length as a difference of moments.
    pub fn delta(self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.0))
    }
}

impl fmt::Display for Span {
    /// Days, hours, minutes and seconds: months and years would not be whole days.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0 / 86_400, self.0 % 86_400);
        let parts = [
            (days, if days == 1 { "day" } else { "days" }),
            (rest / 3600, "h"),
            (rest % 3600 / 60, "m"),
            (rest % 60, "s"),
        ];
        let mut separator = "";
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count}{unit}")?;
            separator = " ";
        }
        match self.0 {
            0 => f.write_str("0s"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let length = humantime::parse_duration(&text)
            .map_err(|e| D::Error::custom(format_args!("{text:?} is not a length of time such as 72h: {e}")))?;
        match u32::try_from(length.as_secs()) {
            Ok(seconds) if seconds <= Self::LIMIT && length.subsec_nanos() == 0 => Ok(Self(seconds)),
            _ => Err(D::Error::custom(format_args!("{text:?}: allowed are whole seconds up to 100 years"))),
        }
    }
}

/// Both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range<T> {
    /// The least that is allowed.
    pub min: T,
    /// The most that is allowed.
    pub max: T,
}

impl<T: PartialOrd + Copy> Range<T> {
    /// Whether `value` is within.
    pub fn contains(&self, value: T) -> bool {
        self.min <= value && value <= self.max
    }
}

/// What somebody may choose, and what holds when they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice<T> {
    /// When nothing is chosen.
    pub default: T,
    /// What may be chosen.
    pub allowed: Range<T>,
}

/// What a party gets unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// It happens.
    On,
    /// It does not.
    Off,
}

/// Whether something has to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It must be.
    Required,
    /// It may be.
    Optional,
}
