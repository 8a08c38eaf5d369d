//! The three pattern languages of Dockerfiles: Go's `filepath.Match`, `.dockerignore` (with `**`), and the shell's.
//!
//! A match takes time in proportion to pattern times text, whatever the pattern.

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// One character, `/` only where it is no separator.
    Any,
    /// Any run of characters without `/`.
    Star,
    /// Any run of characters.
    Everything,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// Alternatives, since `**/` may also match nothing.
    tokens: Vec<Step>,
    separator: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    token: Token,
    /// For the `**` of `**/`: it matches whole path segments, or nothing.
    segments: bool,
}

/// A pattern that is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no pattern: {reason}")]
pub struct BadGlob {
    pub pattern: String,
    pub reason: &'static str,
}

/// Whether a path has characters that mean something in a pattern.
pub fn has_wildcard(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

/// The pattern that matches exactly this path.
pub fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The path that [`escape`] made a pattern of.
pub fn unescape(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        out.push(if c == '\\' { rest.next().unwrap_or(c) } else { c });
    }
    out
}

/// A pattern in which `[` means itself.
fn literal_brackets(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.extend([Some(c), rest.next()].into_iter().flatten()),
            '[' => out.push_str("\\["),
            c => out.push(c),
        }
    }
    out
}

impl Glob {
    /// Go's `filepath.Match`: `*`, `?`, `[a-z]`, `[^a]`, `\c`; none of them matches `/`.
    pub fn path(pattern: &str) -> Result<Self, BadGlob> {
        Self::compile(pattern, true, false)
    }

    /// As [`Glob::path`], and `**` matches any number of segments.
    pub fn ignore(pattern: &str) -> Result<Self, BadGlob> {
        Self::compile(pattern, true, true)
    }

    /// The patterns in `${name#pattern}`: `*`, `?` and `\`; `/` and `[` are characters like any other.
    pub fn shell(pattern: &str) -> Self {
        Self::compile(&literal_brackets(pattern), false, false).unwrap_or_else(|_| {
            let literal = |c| Step { token: Token::Literal(c), segments: false };
            Self { tokens: pattern.chars().map(literal).collect(), separator: false }
        })
    }

    fn compile(pattern: &str, separator: bool, double: bool) -> Result<Self, BadGlob> {
        let bad = |reason| BadGlob { pattern: pattern.chars().take(200).collect(), reason };
        let chars: Vec<char> = pattern.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            let mut segments = false;
            let token = match chars[at] {
                '*' if double && chars.get(at + 1) == Some(&'*') => {
                    while chars.get(at + 1) == Some(&'*') {
                        at += 1;
                    }
                    if chars.get(at + 1) == Some(&'/') {
                        at += 1;
                        segments = true;
                    }
                    Token::Everything
                }
                '*' => {
                    while chars.get(at + 1) == Some(&'*') && !double {
                        at += 1;
                    }
                    if separator { Token::Star } else { Token::Everything }
                }
                '?' => Token::Any,
                '\\' => {
                    at += 1;
                    Token::Literal(*chars.get(at).ok_or_else(|| bad("a `\\` at its end escapes nothing"))?)
                }
                '[' => {
                    let (class, end) = class(&chars, at).ok_or_else(|| bad("a `[` is not closed, or empty"))?;
                    at = end;
                    class
                }
                c => Token::Literal(c),
            };
            tokens.push(Step { token, segments });
            at += 1;
        }
        Ok(Self { tokens, separator })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // reached[i]: the tokens so far can match the first i characters.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for step in &self.tokens {
            let mut next = vec![false; text.len() + 1];
            match &step.token {
                Token::Everything | Token::Star => {
                    let mut open = false;
                    for i in 0..=text.len() {
                        open |= reached[i];
                        // What matches whole segments ends where one ends.
                        let ends = !step.segments || (i > 0 && text[i - 1] == '/');
                        next[i] = reached[i] || (open && ends);
                        if i < text.len() && text[i] == '/' && step.token == Token::Star && self.separator {
                            open = false;
                        }
                    }
                }
                token => {
                    for i in 0..text.len() {
                        next[i + 1] = reached[i] && self.one(token, text[i]);
                    }
                }
            }
            reached = next;
        }
        reached[text.len()]
    }

    fn one(&self, token: &Token, c: char) -> bool {
        match token {
            Token::Literal(literal) => *literal == c,
            Token::Any => c != '/' || !self.separator,
            Token::Class { negated, ranges } => {
                (c != '/' || !self.separator)
                    && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
            Token::Star | Token::Everything => false,
        }
    }
}

fn class(chars: &[char], open: usize) -> Option<(Token, usize)> {
    let mut at = open + 1;
    let negated = matches!(chars.get(at), Some('^' | '!'));
    at += usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        let mut c = *chars.get(at)?;
        if c == ']' && !ranges.is_empty() {
            return Some((Token::Class { negated, ranges }, at));
        }
        if c == ']' || c == '-' {
            return None;
        }
        if c == '\\' {
            at += 1;
            c = *chars.get(at)?;
        }
        let mut high = c;
        if chars.get(at + 1) == Some(&'-') && chars.get(at + 2).is_some_and(|next| *next != ']') {
            at += 2;
            high = *chars.get(at)?;
            if high == '\\' {
                at += 1;
                high = *chars.get(at)?;
            }
        }
        ranges.push((c, high));
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, text, expected) in [
            ("*.json", "package.json", true),
            ("*.json", "a/package.json", false),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/b/c", false),
            ("?.js", "a.js", true),
            ("?.js", "/.js", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("**", "a", true),
            ("**", "a/b", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(Glob::path(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
        for pattern in ["[", "[]", "[a", "a\\", "[-a]"] {
            assert!(Glob::path(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn double_stars_cross_directories() {
        for (pattern, text, expected) in [
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "ax", false),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("a/**/c", "a/bc", false),
            ("**/*.md", "docs/a.md", true),
            ("**.md", "docs/a.md", true),
            ("**", "a/b", true),
        ] {
            assert_eq!(Glob::ignore(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_stay_cheap() {
        let glob = Glob::ignore(&"*a".repeat(200)).unwrap();
        assert!(!glob.matches(&"b".repeat(5000)));
    }

    proptest::proptest! {
        #[test]
        fn an_escaped_path_matches_itself_alone(path in "[a-z*?\\[\\]\\\\/]{0,12}", other in "[a-z*?\\[\\]\\\\/]{0,12}") {
            let glob = Glob::path(&escape(&path)).unwrap();
            proptest::prop_assert!(glob.matches(&path));
            proptest::prop_assert_eq!(glob.matches(&other), path == other);
        }
    }
}
