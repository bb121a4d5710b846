//! What texts may come in.

use serde::Serialize;

use crate::{error::Rejection, policy::Range};

/// The length of a reason given for cancelling, refunding or freezing, in characters.
pub(crate) const REASON: Range<u32> = Range { min: 0, max: 1000 };
/// The length of an operator's reason for putting something right by hand, in characters: the audit trail
/// has no other.
pub(crate) const WHY: Range<u32> = Range { min: 1, max: 1000 };

/// A text of one line: neither control characters nor line breaks.
pub(crate) fn line(field: &'static str, text: &str, characters: Range<u32>) -> Result<(), Rejection> {
    check(field, text, characters, |_| false)
}

/// A text of many lines: line breaks and tabs are allowed.
pub(crate) fn prose(field: &'static str, text: &str, characters: Range<u32>) -> Result<(), Rejection> {
    check(field, text, characters, |c| matches!(c, '\n' | '\r' | '\t'))
}

/// A word that the policy has.
pub(crate) fn one_of(field: &'static str, word: &str, allowed: &[String]) -> Result<(), Rejection> {
    match allowed.iter().any(|known| known == word) {
        true => Ok(()),
        false => {
            let actual = word.chars().take(64).collect();
            Err(Rejection::NotOneOf { field, actual, allowed: allowed.to_vec() })
        }
    }
}

/// An `https` address of a host, without a user. Where it leads is judged by whoever connects.
pub(crate) fn url(field: &'static str, url: &str, characters: Range<u32>) -> Result<(), Rejection> {
    line(field, url, characters)?;
    https(field, url)
}

/// The same of any length.
pub(crate) fn https(field: &'static str, url: &str) -> Result<(), Rejection> {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let visible = url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    match visible && !host.is_empty() && !host.starts_with(':') && !host.contains('@') {
        true => Ok(()),
        false => Err(Rejection::Form { field, form: "an https address of visible ASCII, without a user" }),
    }
}

/// A value of at most `bytes` bytes as JSON.
pub(crate) fn json(field: &'static str, value: &impl Serialize, bytes: u32) -> Result<(), Rejection> {
    let mut counted = Counted(0);
    let _ = serde_json::to_writer(&mut counted, value);
    match counted.0 > bytes as usize {
        true => Err(Rejection::Length { field, unit: "bytes of JSON", min: 0, max: bytes, actual: counted.0 }),
        false => Ok(()),
    }
}

/// Counts what is written to it.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A text that others wrote, as a log may keep it: hidden characters are blanks, and the end is cut off.
pub(crate) fn shown(text: &str, characters: usize) -> String {
    text.chars().map(|c| if hidden(c) { ' ' } else { c }).take(characters).collect()
}

fn check(
    field: &'static str,
    text: &str,
    characters: Range<u32>,
    also: impl Fn(char) -> bool,
) -> Result<(), Rejection> {
    let actual = text.chars().count();
    let Range { min, max } = characters;
    if actual < min as usize || actual > max as usize {
        return Err(Rejection::Length { field, unit: "characters", min, max, actual });
    }
    match text.chars().find(|c| hidden(*c) && !also(*c)) {
        Some(c) => Err(Rejection::Character { field, character: c.into() }),
        None => Ok(()),
    }
}

/// Characters that change how a text is shown without being seen: controls, bidirectional overrides,
/// line and paragraph separators, the byte order mark.
fn hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}
