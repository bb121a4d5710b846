//! Trust scores and weights as a policy writes them.

use std::{borrow::Cow, fmt};

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// A trust score, a step of one or a weight: an exact decimal, written as a string such as `"0.5"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Score(Decimal);

impl Score {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// The furthest a score may be from zero, on either side.
    pub const LIMIT: i64 = 1_000_000_000;
    /// The most decimals.
    pub const DECIMALS: u32 = 9;

    /// A score, unless it is further than [`Score::LIMIT`] from zero or has more than
    /// [`Score::DECIMALS`] decimals.
    pub fn new(value: Decimal) -> Option<Self> {
        let value = value.normalize();
        let fits = value.abs() <= Decimal::from(Self::LIMIT) && value.scale() <= Self::DECIMALS;
        fits.then_some(Self(value))
    }

    /// The score as a decimal.
    pub const fn value(self) -> Decimal {
        self.0
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Score {
    /// Reads a string: numbers are refused because they would pass through a float.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        Decimal::from_str_exact(&text).ok().and_then(Self::new).ok_or_else(|| {
            let text: String = text.chars().take(64).collect();
            let (limit, decimals) = (Self::LIMIT, Self::DECIMALS);
            D::Error::custom(format_args!("{text:?} is not a score: allowed are -{limit} to {limit} with at most {decimals} decimals, such as \"0.5\""))
        })
    }
}
