//! What entries are found by: words and labels.

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// The most words of one text; those after them find nothing.
const WORDS: usize = 2_000;
/// The most characters of one word; what follows is cut off, so that no index has to hold more.
const WORD: usize = 64;

/// A word of a text or a label, as stores compare it: made of letters and digits only, so that no
/// database reads anything else into it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(String);

impl Term {
    /// The different words of a text, in the order in which they first come. Words are compared without
    /// regard to case and to how their letters are encoded (NFKC); punctuation separates them, and so does
    /// whatever else is no letter or digit. An ideograph is a word by itself.
    pub fn words(text: &str) -> Vec<Self> {
        let text: String = text.nfkc().flat_map(char::to_lowercase).nfkc().collect();
        let mut words: Vec<Self> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let parts = text.unicode_words().flat_map(|word| word.split(|c: char| !c.is_alphanumeric()));
        for part in parts.filter(|part| !part.is_empty()) {
            let word: String = ['w'].into_iter().chain(part.chars().take(WORD)).collect();
            if words.len() == WORDS {
                break;
            }
            if seen.insert(word.clone()) {
                words.push(Self(word));
            }
        }
        words
    }

    /// A label of a sort, such as a capability: compared as a whole and to the letter.
    pub fn label(sort: &str, name: &str) -> Self {
        let digest = Sha256::new().chain_update(sort).chain_update([0_u8]).chain_update(name).finalize();
        Self(format!("l{}", hex::encode(&digest[..16])))
    }

    /// Its form in stores.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
