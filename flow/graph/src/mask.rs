//! Keeps the values of secrets out of text that arrives in pieces.
//!
//! Each value is looked for as it is, line by line when it has several lines, and in the forms in which tools print it by accident:
//! base64 (also inside a longer text that was encoded as a whole), percent-encoded, escaped as in JSON. What overlaps is hidden as one.
//! A piece of text that may be the beginning of a value is held back until it is clear what it is.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// What stands in place of a value.
pub const MASK: &str = "***";

/// A line of a secret shorter than this is not looked for alone: `{` or `}` of a JSON key would hide every brace.
const SHORTEST_LINE: usize = 6;
/// Derived forms shorter than this would hide ordinary words.
const SHORTEST_FORM: usize = 6;

/// The texts to hide. Cheap to build once a step.
#[derive(Clone, Default)]
pub struct Patterns {
    /// Longest first, none empty, none twice.
    all: Vec<Vec<u8>>,
    /// Whether some pattern starts with this byte.
    first: Option<Box<[bool; 256]>>,
}

impl Patterns {
    /// From the values of secrets. Empty values hide nothing.
    pub fn new<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> Self {
        let mut all = Vec::new();
        for value in values {
            forms(value.as_ref(), &mut all);
        }
        all.retain(|pattern| !pattern.is_empty());
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        let mut first = Box::new([false; 256]);
        for pattern in &all {
            first[usize::from(pattern[0])] = true;
        }
        Self { first: (!all.is_empty()).then_some(first), all }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Hides the values in a whole text.
    pub fn mask(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut masker = Masker::new(self.clone());
        masker.push(text, &mut out);
        masker.finish(&mut out);
        out
    }

    /// What starts at `at`: the longest pattern that is there, and whether a longer one may still be coming.
    fn look(&self, text: &[u8], at: usize) -> (usize, bool) {
        let Some(first) = &self.first else { return (0, false) };
        let rest = &text[at..];
        if !first[usize::from(rest[0])] {
            return (0, false);
        }
        let mut coming = false;
        for pattern in &self.all {
            if rest.starts_with(pattern) {
                return (pattern.len(), coming);
            }
            coming |= pattern.starts_with(rest);
        }
        (0, coming)
    }
}

impl std::fmt::Debug for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Patterns({})", self.all.len())
    }
}

/// Every form of one value that is hidden.
fn forms(value: &str, out: &mut Vec<Vec<u8>>) {
    // A file that was read into a secret ends in a line break that nobody prints. White space around a value gives nothing away, and
    // hiding a line break would join lines.
    let whole = value.trim();
    out.push(whole.into());
    if whole.contains('\n') {
        // A terminal in between turns line breaks into CR LF.
        let plain = whole.replace("\r\n", "\n");
        out.push(plain.replace('\n', "\r\n").into());
        out.extend(whole.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE).map(Into::into));
        out.push(plain.into());
    }
    let mut derived = vec![percent(whole), json(whole)];
    base64_forms(whole.as_bytes(), &mut derived);
    out.extend(derived.into_iter().filter(|form| form.len() >= SHORTEST_FORM).map(Into::into));
}

/// The part of the base64 text that is the same whatever stands around the value, for each of the three positions in which it can start.
fn base64_forms(value: &[u8], out: &mut Vec<String>) {
    // Alone, or with the line break that `echo` adds: all of it, with its end. `base64` and `openssl` break lines after so many bytes.
    for end in [&b""[..], b"\n"] {
        let alone = [value, end].concat();
        for text in [STANDARD.encode(&alone), URL_SAFE.encode(&alone), STANDARD_NO_PAD.encode(&alone)] {
            out.push(text);
        }
        for width in [57, 48] {
            if alone.len() > width {
                out.extend(alone.chunks(width).map(|line| STANDARD.encode(line)));
            }
        }
    }
    for shift in 0..3 {
        let padded = [&[0; 2][..shift], value].concat();
        // Characters that mix with the bytes before the value, and those that mix with what follows, are left out.
        let skip = [0, 2, 3][shift];
        let keep = padded.len() * 8 / 6;
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            out.push(text.get(skip..keep).unwrap_or_default().to_owned());
        }
    }
}

fn percent(value: &str) -> String {
    use std::fmt::Write;
    value.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn json(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Hides the values in a stream of text.
pub struct Masker {
    patterns: Patterns,
    held: String,
    /// Bytes at the start of `held` that belong to a value which was hidden already.
    covered: usize,
}

impl Masker {
    pub fn new(patterns: Patterns) -> Self {
        Self { patterns, held: String::new(), covered: 0 }
    }

    /// Takes a piece and appends to `out` what is clear by now.
    pub fn push(&mut self, text: &str, out: &mut String) {
        if self.patterns.is_empty() {
            out.push_str(text);
        } else {
            self.held.push_str(text);
            self.scan(false, out);
        }
    }

    /// The stream has ended: nothing more is coming.
    pub fn finish(&mut self, out: &mut String) {
        self.scan(true, out);
    }

    fn scan(&mut self, last: bool, out: &mut String) {
        let text = self.held.as_bytes();
        // Up to `covered` is hidden; from `clear` on nothing has been written.
        let (mut covered, mut clear, mut at) = (self.covered, self.covered, 0);
        while at < text.len() {
            let (length, coming) = self.patterns.look(text, at);
            if coming && !last {
                break;
            }
            if length > 0 {
                if at >= covered {
                    // Patterns are whole UTF-8 texts, so matches begin and end between characters.
                    out.push_str(&self.held[clear..at]);
                    out.push_str(MASK);
                }
                covered = covered.max(at + length);
                clear = covered;
            }
            at += 1;
        }
        if at > clear {
            out.push_str(&self.held[clear..at]);
        }
        self.covered = covered.saturating_sub(at);
        self.held.drain(..at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces(patterns: &Patterns, text: &str, cuts: &[usize]) -> String {
        let mut masker = Masker::new(patterns.clone());
        let mut out = String::new();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([text.len()]) {
            let mut to = cut.clamp(from, text.len());
            while !text.is_char_boundary(to) {
                to += 1;
            }
            masker.push(&text[from..to], &mut out);
            from = to;
        }
        masker.finish(&mut out);
        out
    }

    #[test]
    fn hides_a_value_that_arrives_byte_by_byte() {
        let patterns = Patterns::new(["hunter2-swordfish"]);
        let text = "login hunter2-swordfish ok hunter2-sword";
        let cuts: Vec<usize> = (0..text.len()).collect();
        assert_eq!(in_pieces(&patterns, text, &cuts), "login *** ok hunter2-sword");
    }

    #[test]
    fn hides_lines_of_a_value_with_several_lines() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY-----\n";
        let patterns = Patterns::new([key]);
        assert_eq!(patterns.mask(key), "***\n");
        assert_eq!(patterns.mask("  MIIEvQIBADANBg |"), "  *** |");
        assert_eq!(patterns.mask(&key.replace('\n', "\r\n")), "***\r\n");
        assert_eq!(patterns.mask("fn main() { }"), "fn main() { }");
    }

    #[test]
    fn hides_base64_wherever_the_value_stands_in_what_was_encoded() {
        let patterns = Patterns::new(["s3cr3t-p4ssw0rd"]);
        for around in ["", "u", "us", "use", "user:"] {
            for encoded in [
                STANDARD.encode(format!("{around}s3cr3t-p4ssw0rd")),
                STANDARD.encode(format!("{around}s3cr3t-p4ssw0rd tail")),
            ] {
                let masked = patterns.mask(&encoded);
                assert!(masked.contains(MASK), "{encoded} → {masked}");
                // At most the edges that mix with their neighbours are left.
                assert!(masked.len() <= MASK.len() + encoded.len() - 18, "{encoded} → {masked}");
            }
        }
    }

    #[test]
    fn hides_all_of_a_value_that_was_encoded_alone() {
        for length in [15, 16, 17, 56, 57, 58, 200] {
            let value: String = "s3cr3t-p4ssw0rd/".chars().cycle().take(length).collect();
            let patterns = Patterns::new([&value]);
            for end in ["", "\n"] {
                let encoded = STANDARD.encode(format!("{value}{end}"));
                assert_eq!(patterns.mask(&format!("it is {encoded}.")), format!("it is {MASK}."), "{encoded}");
                for width in [76, 64] {
                    let lines: Vec<String> =
                        encoded.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into()).collect();
                    let masked = patterns.mask(&lines.join("\n"));
                    // An end shorter than a word is left: it would hide ordinary ones.
                    assert!(masked.lines().all(|line| line == MASK || line.len() < 6), "{masked}");
                }
            }
        }
    }

    #[test]
    fn hides_encoded_and_escaped_forms() {
        let patterns = Patterns::new(["p&ss \"w\"/x"]);
        assert_eq!(patterns.mask("?q=p%26ss%20%22w%22%2Fx&"), "?q=***&");
        assert_eq!(patterns.mask(r#"{"a":"p&ss \"w\"/x"}"#), r#"{"a":"***"}"#);
    }

    #[test]
    fn hides_overlapping_values_as_one() {
        assert_eq!(Patterns::new(["abcabc"]).mask("xabcabcabcx"), "x***x");
        assert_eq!(Patterns::new(["abcd", "cdef"]).mask("-abcdef-"), "-***-");
        assert_eq!(in_pieces(&Patterns::new(["abcd", "cdef"]), "-abcdef-", &[4, 5, 6]), "-***-");
    }

    #[test]
    fn without_values_nothing_is_held_back() {
        let mut out = String::new();
        Masker::new(Patterns::new([""])).push("partial", &mut out);
        assert_eq!(out, "partial");
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            secrets in prop::collection::vec("[abé]{1,5}", 0..3),
            text in "[abcé\n]{0,60}",
            cuts in prop::collection::vec(0usize..80, 0..8),
        ) {
            let patterns = Patterns::new(&secrets);
            let mut cuts = cuts;
            cuts.sort_unstable();
            let whole = patterns.mask(&text);
            prop_assert_eq!(&in_pieces(&patterns, &text, &cuts), &whole);
            for secret in &secrets {
                prop_assert!(!whole.contains(secret.as_str()), "{} in {}", secret, whole);
            }
        }
    }
}
