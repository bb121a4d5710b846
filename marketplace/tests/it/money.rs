//! Amounts, rates and currencies: exact, typed, and never a panic.

use proptest::prelude::*;
use rust_decimal::Decimal;
use tradepost::money::{Currency, Money, MoneyError, Rate, Rounding};

const ROUNDINGS: [Rounding; 4] = [Rounding::HalfEven, Rounding::HalfUp, Rounding::Down, Rounding::Up];

fn currency(exponent: u8) -> Currency {
    Currency::new("XTS", exponent).unwrap()
}

/// Amounts with the edges of 64 bits in them.
fn minor() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => any::<i64>(),
        4 => -100_000i64..100_000,
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
        1 => Just(0),
    ]
}

/// Billionths of a whole: every rate there is.
fn billionths() -> impl Strategy<Value = u32> {
    prop_oneof![0..=1_000_000_000u32, (0..=100u32).prop_map(|percent| percent * 10_000_000)]
}

fn rate(billionths: u32) -> Rate {
    Rate::new(Decimal::new(i64::from(billionths), 9)).unwrap()
}

/// `numerator / 1e9`, rounded, in whole numbers only.
fn rounded(numerator: i128, rounding: Rounding) -> i128 {
    const WHOLE: i128 = 1_000_000_000;
    let (sign, size) = (numerator.signum(), numerator.abs());
    let (down, rest) = (size / WHOLE, size % WHOLE);
    let up = match rounding {
        Rounding::Down => false,
        Rounding::Up => rest > 0,
        Rounding::HalfUp => rest * 2 >= WHOLE,
        Rounding::HalfEven => rest * 2 > WHOLE || (rest * 2 == WHOLE && down % 2 == 1),
    };
    sign * (down + i128::from(up))
}

fn fits(exact: i128) -> Option<i64> {
    i64::try_from(exact).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_back(minor in minor(), exponent in 0u8..=18) {
        let money = Money::new(minor, currency(exponent));
        let text = money.to_string();
        prop_assert_eq!(text.parse::<Money>(), Ok(money));
        let (decimal, code) = text.split_once(' ').unwrap();
        prop_assert_eq!(code, "XTS");
        prop_assert_eq!(Money::parse(decimal, currency(exponent)), Ok(money));
        // The text itself, put together another way.
        let digits = format!("{:0width$}", minor.unsigned_abs(), width = usize::from(exponent) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(exponent));
        let point = if exponent == 0 { "" } else { "." };
        let sign = if minor < 0 { "-" } else { "" };
        prop_assert_eq!(decimal, format!("{sign}{whole}{point}{fraction}"));
    }

    #[test]
    fn json_is_the_text_and_nothing_else(minor in minor(), exponent in 0u8..=18) {
        let money = Money::new(minor, currency(exponent));
        let json = serde_json::to_string(&money).unwrap();
        prop_assert_eq!(&json, &format!("\"{money}\""));
        prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        prop_assert!(serde_json::from_str::<Money>(&minor.to_string()).is_err());
    }

    #[test]
    fn fewer_decimals_than_the_currency_has_are_filled_up(minor in -1_000_000i64..1_000_000, exponent in 0u8..=12) {
        let text = minor.to_string();
        let scale = 10i64.pow(u32::from(exponent));
        prop_assert_eq!(Money::parse(&text, currency(exponent)), Ok(Money::new(minor * scale, currency(exponent))));
    }

    #[test]
    fn sums_and_differences_are_exact_or_refused(a in minor(), b in minor(), exponent in 0u8..=18) {
        let money = |minor| Money::new(minor, currency(exponent));
        let exact = |wide: i128| fits(wide).map(money).ok_or(MoneyError::Overflow);
        prop_assert_eq!(money(a).plus(money(b)), exact(i128::from(a) + i128::from(b)));
        prop_assert_eq!(money(a).minus(money(b)), exact(i128::from(a) - i128::from(b)));
    }

    #[test]
    fn two_currencies_never_mix(a in minor(), b in minor(), (e, f) in (0u8..=18, 0u8..=18)) {
        let (left, right) = (Money::new(a, currency(e)), Money::new(b, Currency::new("XTT", f).unwrap()));
        let mismatch = MoneyError::Mismatch { expected: left.currency(), found: right.currency() };
        prop_assert_eq!(left.plus(right), Err(mismatch.clone()));
        prop_assert_eq!(left.minus(right), Err(mismatch));
        if e != f {
            // The same code with another exponent is another currency.
            let other = Money::new(b, currency(f));
            prop_assert_eq!(left.plus(other), Err(MoneyError::Mismatch { expected: currency(e), found: currency(f) }));
        }
    }

    #[test]
    fn a_rate_of_an_amount_is_exact_for_every_rounding(minor in minor(), share in billionths()) {
        for rounding in ROUNDINGS {
            let exact = rounded(i128::from(minor) * i128::from(share), rounding);
            let expected = Money::new(fits(exact).unwrap(), Currency::EUR);
            prop_assert_eq!(Money::new(minor, Currency::EUR).at(rate(share), rounding), Ok(expected));
        }
    }

    #[test]
    fn legs_always_add_up(
        minor in minor(),
        weights in prop::collection::vec(prop_oneof![0..10u32, any::<u32>()], 1..9),
        at in any::<prop::sample::Index>(),
    ) {
        let remainder = at.index(weights.len());
        let total: i128 = weights.iter().map(|w| i128::from(*w)).sum();
        let divided = Money::new(minor, Currency::USDC).allocate(&weights, remainder);
        if total == 0 {
            prop_assert_eq!(divided, Err(MoneyError::BadWeights { weights, remainder }));
            return Ok(());
        }
        let legs = divided.unwrap();
        prop_assert_eq!(legs.len(), weights.len());
        prop_assert_eq!(legs.iter().map(|leg| i128::from(leg.minor())).sum::<i128>(), i128::from(minor));
        // Within one unit of the exact share; the leg that takes what is left within one for each other.
        for (i, (leg, weight)) in legs.iter().zip(&weights).enumerate() {
            let off = (i128::from(leg.minor()) * total - i128::from(minor) * i128::from(*weight)).abs();
            let allowed = if i == remainder { (weights.len() as i128 - 1).max(1) } else { 1 };
            prop_assert!(off <= allowed * total, "leg {} of {:?} is {}", i, weights, leg);
        }
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "\\PC{0,80}", exponent in 0u8..=18) {
        if let Ok(money) = text.parse::<Money>() {
            prop_assert_eq!(money.to_string().parse::<Money>(), Ok(money));
        }
        if let Ok(money) = Money::parse(&text, currency(exponent)) {
            prop_assert_eq!(money.currency(), currency(exponent));
        }
        if let Ok(rate) = text.parse::<Rate>() {
            prop_assert!(rate >= Rate::ZERO && rate <= Rate::ONE);
        }
        let _ = Currency::new(&text, exponent);
    }

    #[test]
    fn a_rate_survives_its_text(share in billionths()) {
        let rate = rate(share);
        prop_assert_eq!(rate.share().to_string().parse::<Rate>(), Ok(rate));
        let json = serde_json::to_string(&rate).unwrap();
        prop_assert_eq!(serde_json::from_str::<Rate>(&json).unwrap(), rate);
    }
}

#[test]
fn two_legs_are_within_one_unit_wherever_the_remainder_goes() {
    let third = |remainder| Money::new(100, Currency::EUR).allocate(&[1, 2], remainder).unwrap();
    assert_eq!(third(0), [Money::new(34, Currency::EUR), Money::new(66, Currency::EUR)]);
    assert_eq!(third(1), [Money::new(33, Currency::EUR), Money::new(67, Currency::EUR)]);
}

#[test]
fn hostile_amounts_are_refused_with_their_text() {
    let euros = |text: &str| Money::parse(text, Currency::EUR);
    let long = "9".repeat(1000);
    let hostile = [
        "",
        "-",
        ".",
        "-.",
        "1.",
        ".5",
        "-.5",
        "+1",
        "--1",
        "1e3",
        "0x10",
        "1,00",
        "1_000",
        "1 000",
        " 1",
        "1 ",
        "1.234",
        "1.2.3",
        "NaN",
        "inf",
        "\u{661}",
        "\u{ff11}",
        "1\0",
        "\u{202e}1",
        "92233720368547758.08",
        "-92233720368547758.09",
        &long,
    ];
    for text in hostile {
        let cut: String = text.chars().take(64).collect();
        assert_eq!(euros(text), Err(MoneyError::BadAmount { text: cut, currency: Currency::EUR }), "{text:?}");
    }
    assert_eq!(euros("92233720368547758.07"), Ok(Money::new(i64::MAX, Currency::EUR)));
    assert_eq!(euros("-92233720368547758.08"), Ok(Money::new(i64::MIN, Currency::EUR)));
    assert_eq!(euros("-0"), Ok(Money::zero(Currency::EUR)));
}

#[test]
fn hostile_texts_with_a_currency_are_refused() {
    let read = |text: &str| text.parse::<Money>();
    for text in ["", "5", "5.00", "EUR", "5.00\tEUR", "5.00\u{a0}EUR"] {
        assert_eq!(read(text), Err(MoneyError::BadText { text: text.into() }), "{text:?}");
    }
    let code = |code: &str, exponent| MoneyError::BadCurrency { code: code.into(), exponent };
    assert_eq!(read("5.00 eur"), Err(code("eur", 2)));
    assert_eq!(read("5.00  EUR"), Err(code(" EUR", 2)));
    assert_eq!(read("5.00 EUR "), Err(code("EUR ", 2)));
    assert_eq!(read("5.00 E"), Err(code("E", 2)));
    assert_eq!(read("5.00 ABCDEFGHIJK"), Err(code("ABCDEFGHIJK", 2)));
    assert_eq!(read("0.1234567890123456789 XTS"), Err(code("XTS", 19)));
    assert_eq!(read("5.00 \u{415}UR"), Err(code("\u{415}UR", 2))); // a Cyrillic letter
    let fraction = "0".repeat(300);
    assert_eq!(
        read(&format!("0.{fraction} XTS")),
        Err(MoneyError::BadText { text: format!("0.{fraction}").chars().take(64).collect() })
    );
    assert_eq!(
        read("1. EUR"),
        Err(MoneyError::BadAmount { text: "1.".into(), currency: Currency::new("EUR", 0).unwrap() })
    );
}

#[test]
fn hostile_rates_are_refused() {
    let bad = |text: &str| Err(MoneyError::BadText { text: text.into() });
    for text in ["", "-", "five", "5%", "NaN", "1e-2", "0,05", "0.0_5", "1_0", "\u{661}", "+0.05", " 0.05", ".05", "1."]
    {
        assert_eq!(text.parse::<Rate>(), bad(text), "{text:?}");
    }
    for text in ["-0.01", "1.000000001", "0.0000000001", "2"] {
        let share: Decimal = text.parse().unwrap();
        assert_eq!(text.parse::<Rate>(), Err(MoneyError::BadRate { share: share.normalize() }), "{text:?}");
    }
    assert!(serde_json::from_str::<Rate>("0.05").is_err(), "a number would pass through a float");
    assert_eq!("0.0500000000000".parse::<Rate>(), "0.05".parse::<Rate>());
    assert_eq!("-0".parse::<Rate>().map(|rate| rate.to_string()), Ok("0 %".into()));
    assert_eq!("0.125".parse::<Rate>().unwrap().to_string(), "12.5 %");
}

#[test]
fn currencies_have_limits_and_a_closed_form() {
    for exponent in 0..=18 {
        let currency = currency(exponent);
        let json = serde_json::to_string(&currency).unwrap();
        assert_eq!(serde_json::from_str::<Currency>(&json).unwrap(), currency);
    }
    assert_eq!(Currency::new("XTS", 19), Err(MoneyError::BadCurrency { code: "XTS".into(), exponent: 19 }));
    assert!(serde_json::from_str::<Currency>(r#"{"code":"EUR","exponent":2,"symbol":"E"}"#).is_err());
    assert!(serde_json::from_str::<Currency>(r#"{"code":"E\u0000R","exponent":2}"#).is_err());
    assert_eq!(Currency::new("ABCDEFGHIJ", 3).unwrap().code(), "ABCDEFGHIJ");
}

#[test]
fn an_amount_past_64_bits_is_refused_and_not_wrapped() {
    let most = Money::new(i64::MAX, Currency::USDC);
    assert_eq!(most.plus(Money::new(1, Currency::USDC)), Err(MoneyError::Overflow));
    assert_eq!(Money::new(i64::MIN, Currency::USDC).minus(Money::new(1, Currency::USDC)), Err(MoneyError::Overflow));
    assert_eq!(most.at(Rate::ONE, Rounding::Up), Ok(most));
}
