//! Texts of words of which few are common and most are rare: the number of a word is spread evenly by its
//! logarithm, as in natural texts.

/// How many different words there are.
const VOCABULARY: u64 = 20_000;
/// How many different capabilities.
const CAPABILITIES: u64 = 200;

/// A number that looks random and follows from two others.
pub(crate) fn mixed(number: u64, salt: u64) -> u64 {
    let mut mixed = number.wrapping_add(salt.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A number below `below` whose logarithm is spread evenly.
fn spread(number: u64, salt: u64, below: u64) -> u64 {
    let share = mixed(number, salt) as f64 / u64::MAX as f64;
    ((below as f64).powf(share) as u64).min(below) - 1
}

/// The word of a place in the order of how common they are.
pub(crate) fn word(place: u64) -> String {
    format!("word{place}")
}

pub(crate) fn text(number: u64, words: u64) -> String {
    let words = (0..words).map(|salt| word(spread(number, salt + 1, VOCABULARY)));
    words.collect::<Vec<_>>().join(" ")
}

/// One of the words that few texts have.
pub(crate) fn rare(number: u64) -> String {
    word(VOCABULARY / 2 + mixed(number, 77) % (VOCABULARY / 2))
}

/// One of the words that many texts have.
pub(crate) fn common(number: u64, salt: u64) -> String {
    word(mixed(number, salt) % 8)
}

pub(crate) fn capability(number: u64, salt: u64) -> String {
    format!("capability {}", spread(number, salt + 1000, CAPABILITIES))
}
