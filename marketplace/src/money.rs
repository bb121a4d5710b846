//! Money as whole minor units of one currency.
//!
//! Arithmetic is checked and typed: adding two currencies or overflowing is a [`MoneyError`], never a
//! panic or a wrap. A [`Rate`] applied to money says how it rounds, and [`Money::allocate`] divides an
//! amount into legs that always add up to it. No floating point is involved anywhere.

use std::{fmt, str::FromStr};

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The longest currency code, in bytes.
const CODE_LIMIT: usize = 10;
/// The most decimals a currency may have: an `i64` of minor units still counts nine whole units.
const EXPONENT_LIMIT: u8 = 18;

/// A currency: its code and how many decimals its minor unit stands for (EUR 2, USDC 6, CREDIT 0).
///
/// Two currencies are the same only when code and exponent both are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; CODE_LIMIT],
    exponent: u8,
}

impl Currency {
    /// The euro, counted in cents.
    pub const EUR: Self = Self::known("EUR", 2);
    /// USD Coin, counted in millionths.
    pub const USDC: Self = Self::known("USDC", 6);
    /// Internal credits, indivisible.
    pub const CREDIT: Self = Self::known("CREDIT", 0);

    const fn known(code: &str, exponent: u8) -> Self {
        let (bytes, mut padded, mut i) = (code.as_bytes(), [0; CODE_LIMIT], 0);
        while i < bytes.len() {
            padded[i] = bytes[i];
            i += 1;
        }
        Self { code: padded, exponent }
    }

    /// Makes a currency from a code of 2 to 10 capital letters or digits and 0 to 18 decimals.
    ///
    /// # Errors
    /// [`MoneyError::BadCurrency`] when either is outside those limits.
    pub fn new(code: &str, exponent: u8) -> Result<Self, MoneyError> {
        let fits = (2..=CODE_LIMIT).contains(&code.len()) && exponent <= EXPONENT_LIMIT;
        if !fits || !code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
            return Err(MoneyError::BadCurrency { code: code.into(), exponent });
        }
        Ok(Self::known(code, exponent))
    }

    /// The code, such as `EUR`.
    pub fn code(&self) -> &str {
        let len = self.code.iter().position(|b| *b == 0).unwrap_or(CODE_LIMIT);
        std::str::from_utf8(&self.code[..len]).expect("a currency code is ASCII")
    }

    /// How many decimals one minor unit stands for.
    pub const fn exponent(&self) -> u8 {
        self.exponent
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.code(), self.exponent)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CurrencyText {
    code: String,
    exponent: u8,
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        CurrencyText { code: self.code().into(), exponent: self.exponent }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = CurrencyText::deserialize(deserializer)?;
        Self::new(&text.code, text.exponent).map_err(D::Error::custom)
    }
}

/// An amount of one currency in whole minor units; negative amounts are allowed (a balance may be).
///
/// Prints and parses as `12.50 EUR`, always with all of the currency's decimals, so that the text
/// alone says code, exponent and amount. The same text is its form in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

impl Money {
    /// `minor` units of `currency`: `Money::new(500, Currency::EUR)` is five euros.
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Nothing, in `currency`.
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// Reads a decimal such as `12.5` as an amount of `currency`.
    ///
    /// # Errors
    /// [`MoneyError::BadAmount`] when the text is not a plain decimal, has more decimals than the
    /// currency, or does not fit.
    pub fn parse(decimal: &str, currency: Currency) -> Result<Self, MoneyError> {
        let bad = || MoneyError::BadAmount { text: decimal.chars().take(64).collect(), currency };
        let (sign, whole, fraction) = plain_decimal(decimal).ok_or_else(bad)?;
        let exponent = usize::from(currency.exponent);
        if fraction.len() > exponent {
            return Err(bad());
        }
        let minor = format!("{sign}{whole}{fraction:0<exponent$}").parse().map_err(|_| bad())?;
        Ok(Self { minor, currency })
    }

    /// The amount in minor units.
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Whether this is exactly nothing.
    pub const fn is_zero(self) -> bool {
        self.minor == 0
    }

    /// Whether this is more than nothing.
    pub const fn is_positive(self) -> bool {
        self.minor > 0
    }

    /// The sum.
    ///
    /// # Errors
    /// [`MoneyError::Mismatch`] for two currencies, [`MoneyError::Overflow`] when it does not fit.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_add)
    }

    /// The difference; see [`Money::plus`] for its errors.
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_sub)
    }

    fn combine(self, other: Self, operation: fn(i64, i64) -> Option<i64>) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mismatch { expected: self.currency, found: other.currency });
        }
        let minor = operation(self.minor, other.minor).ok_or(MoneyError::Overflow)?;
        Ok(Self { minor, ..self })
    }

    /// `rate` of this amount, rounded to a whole minor unit.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] when the product does not fit.
    pub fn at(self, rate: Rate, rounding: Rounding) -> Result<Self, MoneyError> {
        let exact = Decimal::from(self.minor).checked_mul(rate.0).ok_or(MoneyError::Overflow)?;
        let minor = i64::try_from(exact.round_dp_with_strategy(0, rounding.strategy()));
        Ok(Self { minor: minor.map_err(|_| MoneyError::Overflow)?, ..self })
    }

    /// Divides this amount in proportion to `weights` so that the legs add up to it exactly: every
    /// leg is rounded towards nothing and what is left goes to the leg at `remainder`.
    ///
    /// # Errors
    /// [`MoneyError::BadWeights`] when the weights are empty or all zero, or `remainder` is not one
    /// of them.
    pub fn allocate(self, weights: &[u32], remainder: usize) -> Result<Vec<Self>, MoneyError> {
        let total: i128 = weights.iter().map(|w| i128::from(*w)).sum();
        if total == 0 || remainder >= weights.len() {
            return Err(MoneyError::BadWeights { weights: weights.into(), remainder });
        }
        let share = |w: &u32| i64::try_from(i128::from(self.minor) * i128::from(*w) / total);
        let mut legs = weights.iter().map(share).collect::<Result<Vec<_>, _>>().map_err(|_| MoneyError::Overflow)?;
        let given: i64 = legs.iter().sum();
        legs[remainder] += self.minor - given;
        Ok(legs.into_iter().map(|minor| Self { minor, ..self }).collect())
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, units) = (if self.minor < 0 { "-" } else { "" }, self.minor.unsigned_abs());
        let exponent = usize::from(self.currency.exponent);
        let scale = 10u64.pow(u32::from(self.currency.exponent));
        match exponent {
            0 => write!(f, "{sign}{units} {}", self.currency),
            _ => write!(f, "{sign}{}.{:0exponent$} {}", units / scale, units % scale, self.currency),
        }
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let bad = || MoneyError::BadText { text: text.chars().take(64).collect() };
        let (amount, code) = text.split_once(' ').ok_or_else(bad)?;
        let decimals = amount.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let currency = Currency::new(code, u8::try_from(decimals).map_err(|_| bad())?)?;
        Self::parse(amount, currency)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A share between 0 and 1, as an exact decimal: `0.05` is five per cent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Rate(Decimal);

impl Rate {
    /// Nothing of the whole.
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// The whole.
    pub const ONE: Self = Self(Decimal::ONE);

    /// Makes a rate.
    ///
    /// # Errors
    /// [`MoneyError::BadRate`] unless `share` is between 0 and 1 with at most 9 decimals.
    pub fn new(share: Decimal) -> Result<Self, MoneyError> {
        let share = share.normalize();
        if share < Decimal::ZERO || share > Decimal::ONE || share.scale() > 9 {
            return Err(MoneyError::BadRate { share });
        }
        Ok(Self(share))
    }

    /// The share as a decimal.
    pub const fn share(self) -> Decimal {
        self.0
    }
}

impl fmt::Display for Rate {
    /// Prints as a percentage: `12.5 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", (self.0 * Decimal::ONE_HUNDRED).normalize())
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Rate {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let bad = || MoneyError::BadText { text: text.chars().take(64).collect() };
        plain_decimal(text).ok_or_else(bad)?;
        Self::new(Decimal::from_str_exact(text).map_err(|_| bad())?)
    }
}

impl<'de> Deserialize<'de> for Rate {
    /// Reads a string such as `"0.05"`: numbers are refused because they would pass through a float.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Sign, whole part and fraction of a text such as `-12.5`: ASCII digits with at most one point
/// between them, nothing else.
fn plain_decimal(text: &str) -> Option<(&str, &str, &str)> {
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |unsigned| ("-", unsigned));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    match unsigned.split_once('.') {
        Some((whole, fraction)) => (digits(whole) && digits(fraction)).then_some((sign, whole, fraction)),
        None => digits(unsigned).then_some((sign, unsigned, "")),
    }
}

/// Where a fraction of a minor unit goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the nearest unit, a half to the even one.
    #[default]
    HalfEven,
    /// To the nearest unit, a half away from nothing.
    HalfUp,
    /// Towards nothing.
    Down,
    /// Away from nothing.
    Up,
}

impl Rounding {
    const fn strategy(self) -> RoundingStrategy {
        match self {
            Self::HalfEven => RoundingStrategy::MidpointNearestEven,
            Self::HalfUp => RoundingStrategy::MidpointAwayFromZero,
            Self::Down => RoundingStrategy::ToZero,
            Self::Up => RoundingStrategy::AwayFromZero,
        }
    }
}

/// Why an amount, a rate or a currency was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoneyError {
    /// Two currencies met where one was needed.
    #[error("expected {expected:?}, found {found:?}: amounts of two currencies do not mix")]
    Mismatch {
        /// What was needed.
        expected: Currency,
        /// What came.
        found: Currency,
    },
    /// A result does not fit into 64 bits of minor units.
    #[error("the amount does not fit into 64 bits of minor units")]
    Overflow,
    /// A text is not an amount of this currency.
    #[error("{text:?} is not an amount of {currency}: at most {} decimals, no exponent, no grouping", .currency.exponent())]
    BadAmount {
        /// The text, cut at 64 characters.
        text: String,
        /// The currency it was read as.
        currency: Currency,
    },
    /// A text is neither an amount with its currency (`12.50 EUR`) nor a rate (`0.05`).
    #[error("{text:?} is not an amount with its currency, such as 12.50 EUR, nor a rate, such as 0.05")]
    BadText {
        /// The text, cut at 64 characters.
        text: String,
    },
    /// A currency code or exponent is outside its limits.
    #[error("currency {code:?} with {exponent} decimals: a code has 2 to 10 of A-Z and 0-9, at most 18 decimals")]
    BadCurrency {
        /// The code given.
        code: String,
        /// The exponent given.
        exponent: u8,
    },
    /// A rate is outside 0 to 1 or too fine.
    #[error("rate {share}: allowed are 0 to 1 with at most 9 decimals")]
    BadRate {
        /// The rate given.
        share: Decimal,
    },
    /// Weights that divide nothing.
    #[error("weights {weights:?} with remainder to leg {remainder}: one must be positive and the leg must exist")]
    BadWeights {
        /// The weights given.
        weights: Vec<u32>,
        /// The leg that was to take what is left.
        remainder: usize,
    },
}
