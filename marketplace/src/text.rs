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
    with_before(text).map(|(before, c)| if hidden(before, c) { ' ' } else { c }).take(characters).collect()
}

/// Each character, with the one before it.
fn with_before(text: &str) -> impl Iterator<Item = (Option<char>, char)> {
    let before = std::iter::once(None).chain(text.chars().map(Some));
    before.zip(text.chars())
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
    match with_before(text).find(|(before, c)| hidden(*before, *c) && !also(*c)) {
        Some((_, c)) => Err(Rejection::Character { field, character: c.into() }),
        None => Ok(()),
    }
}

/// Whether a character changes how a text is shown without being seen, or hides something in it: controls,
/// marks and overrides of direction, line and paragraph separators, whatever has no width, blank fillers,
/// and tags, which write ASCII that nobody sees. A joiner is hidden unless it can join: the scripts that use
/// one (Arabic, Persian, those of India) and emoji stand right before it.
fn hidden(before: Option<char>, c: char) -> bool {
    match c {
        '\u{200C}' | '\u{200D}' => !before.is_some_and(joins),
        c => c.is_control() || unseen(c),
    }
}

/// Whether a joiner may follow: no script before Arabic uses one.
fn joins(c: char) -> bool {
    c >= '\u{0600}' && !('\u{2000}'..='\u{206F}').contains(&c) && !unseen(c) && !c.is_whitespace()
}

fn unseen(c: char) -> bool {
    matches!(
        c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{180E}' | '\u{200B}'
            | '\u{200E}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF9}'..='\u{FFFB}'
            | '\u{E0000}'..='\u{E007F}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Range<u32> = Range { min: 0, max: 100 };

    #[test]
    fn what_is_hidden_in_a_text_is_refused_and_blank_when_shown() {
        let hidden = [
            '\u{0}',
            '\u{7F}',
            '\u{AD}',
            '\u{34F}',
            '\u{61C}',
            '\u{115F}',
            '\u{180E}',
            '\u{200B}',
            '\u{200C}',
            '\u{200D}',
            '\u{200E}',
            '\u{200F}',
            '\u{2028}',
            '\u{202E}',
            '\u{2060}',
            '\u{2063}',
            '\u{2066}',
            '\u{2069}',
            '\u{206F}',
            '\u{3164}',
            '\u{FEFF}',
            '\u{FFA0}',
            '\u{FFFB}',
            '\u{E0001}',
            '\u{E0041}',
            '\u{E007F}',
        ];
        for character in hidden {
            let said = format!("pay{character}pal");
            let refused = line("title", &said, ANY);
            assert_eq!(refused, Err(Rejection::Character { field: "title", character: character.into() }), "{said:?}");
            assert_eq!(shown(&said, 100), "pay pal", "{said:?}");
        }
    }

    #[test]
    fn joiners_stay_where_they_join() {
        let joined = [
            "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}",               // a family
            "\u{2764}\u{FE0F}\u{200D}\u{1F525}",                         // a heart on fire
            "\u{645}\u{6CC}\u{200C}\u{62E}\u{648}\u{627}\u{647}\u{645}", // Persian: I want
            "\u{0915}\u{094D}\u{200D}\u{0937}",                          // Devanagari, half a letter
            "\u{0D28}\u{0D4D}\u{200D} \u{0D15}",                         // Malayalam, at the end of a word
        ];
        for text in joined {
            assert_eq!(line("title", text, ANY), Ok(()), "{text}");
            assert_eq!(shown(text, 100), text);
        }
        for text in [
            "\u{200D}\u{1F469}",
            "a\u{200C}b",
            "\u{E9}\u{200D}",
            "\u{1F469}\u{200D}\u{200D}",
            " \u{200C}",
            "\u{1F469}\u{200E}",
        ] {
            assert!(matches!(line("title", text, ANY), Err(Rejection::Character { .. })), "{text:?}");
        }
    }
}
