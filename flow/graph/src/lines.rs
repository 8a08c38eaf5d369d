//! From the raw output of a program to masked, bounded lines.

use crate::mask::{Masker, Patterns};

/// The longest line that is kept, in bytes; what follows up to the line break is dropped.
pub const LONGEST_LINE: usize = 1 << 20;
/// How much of a vertex's output is kept, in bytes.
pub const MOST_OUTPUT: usize = 64 << 20;

/// Decodes UTF-8 that arrives in pieces; what is not UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a character, at most three bytes.
    held: Vec<u8>,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut out = String::with_capacity(self.held.len());
        let mut rest: &[u8] = &self.held;
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(good));
                    rest = bad;
                    // Without a length, the piece ends inside a character.
                    let Some(length) = error.error_len() else { break };
                    out.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[length..];
                }
            }
        }
        self.held = rest.to_vec();
        out
    }

    /// The stream has ended.
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.held).is_empty() { "" } else { "\u{FFFD}" }
    }
}

/// One stream of a program: takes pieces, gives whole masked lines.
pub struct Lines {
    masker: Masker,
    /// Masked, not yet given: no line break in it.
    line: String,
    /// Bytes of the line that were given already.
    given: usize,
    /// The line was too long: the rest of it is dropped.
    cut: bool,
}

impl Lines {
    pub fn new(patterns: Patterns) -> Self {
        Self { masker: Masker::new(patterns), line: String::new(), given: 0, cut: false }
    }

    /// Takes a piece; returns the lines that it completed, each with its line break.
    pub fn push(&mut self, text: &str) -> String {
        let mut clear = String::new();
        self.masker.push(text, &mut clear);
        self.split(&clear)
    }

    /// What there is of an unfinished line: for a prompt or a progress bar that waits. What may be the beginning of a secret stays held.
    pub fn flush(&mut self) -> String {
        self.given += self.line.len();
        std::mem::take(&mut self.line)
    }

    pub fn is_waiting(&self) -> bool {
        !self.line.is_empty()
    }

    /// The stream has ended: everything that is left.
    pub fn finish(&mut self) -> String {
        let mut clear = String::new();
        self.masker.finish(&mut clear);
        let mut out = self.split(&clear);
        out.push_str(&self.flush());
        out
    }

    fn split(&mut self, clear: &str) -> String {
        let mut out = String::new();
        for part in clear.split_inclusive('\n') {
            let whole = part.ends_with('\n');
            let room = LONGEST_LINE.saturating_sub(self.given + self.line.len());
            let text = part.strip_suffix('\n').unwrap_or(part);
            if !self.cut && text.len() <= room {
                self.line.push_str(text);
            } else if !self.cut {
                self.cut = true;
                self.line.push_str(&text[..floor(text, room)]);
                self.line.push_str(" [line cut at 1 MiB]");
            }
            if whole {
                out.push_str(&std::mem::take(&mut self.line));
                out.push('\n');
                self.given = 0;
                self.cut = false;
            }
        }
        out
    }
}

/// The last place between characters that is not after `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// Counts what was given and says when it is enough.
#[derive(Debug)]
pub struct Budget {
    left: usize,
    spent: bool,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Self { left: bytes, spent: false }
    }

    /// The part of `text` that still fits, and whether this was the first that did not fit whole.
    pub fn take<'t>(&mut self, text: &'t str) -> (&'t str, bool) {
        if self.spent {
            return ("", false);
        }
        let part = &text[..floor(text, self.left)];
        self.left -= part.len();
        self.spent = part.len() < text.len();
        (part, self.spent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gives_whole_lines_and_the_rest_at_the_end() {
        let mut lines = Lines::new(Patterns::new(["topsecret"]));
        assert_eq!(lines.push("one\ntw"), "one\n");
        assert_eq!(lines.push("o top"), "");
        assert_eq!(lines.flush(), "two ");
        assert_eq!(lines.push("secret\nthree"), "***\n");
        assert_eq!(lines.finish(), "three");
    }

    #[test]
    fn cuts_a_line_without_end_and_goes_on_with_the_next() {
        let mut lines = Lines::new(Patterns::default());
        let mut out = String::new();
        for _ in 0..40 {
            out += &lines.push(&"é".repeat(50_000));
            out += &lines.flush();
        }
        out += &lines.push("\nnext\n");
        assert!(out.len() < LONGEST_LINE + 100, "{}", out.len());
        assert!(out.ends_with(" [line cut at 1 MiB]\nnext\n"));
    }

    #[test]
    fn a_budget_says_once_that_it_is_spent() {
        let mut budget = Budget::new(5);
        assert_eq!(budget.take("abc"), ("abc", false));
        assert_eq!(budget.take("déf"), ("d", true));
        assert_eq!(budget.take("g"), ("", false));
    }

    proptest! {
        #[test]
        fn decodes_in_pieces_as_in_one(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 0usize..60) {
            let mut decoder = Decoder::default();
            let cut = cut.min(bytes.len());
            let out = decoder.push(&bytes[..cut]) + &decoder.push(&bytes[cut..]) + decoder.finish();
            prop_assert_eq!(out, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
