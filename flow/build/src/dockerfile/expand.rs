//! Variables, quotes and escapes in the words of instructions: `$name`, `${name:-word}`, `${name%suffix}` and their kin.

use crate::glob::Glob;

/// Nesting of `${…${…}…}`.
const MAX_DEPTH: usize = 32;
/// Bytes that a word may grow to.
const MAX_LENGTH: usize = 1 << 20;

/// Why a word cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpandError(pub String);

/// The value of a variable, if it is set.
pub type Lookup<'a> = dyn FnMut(&str) -> Option<String> + 'a;

/// Resolves a word: variables replaced, quotes and escapes taken away.
pub fn expand(word: &str, escape: char, lookup: &mut Lookup<'_>) -> Result<String, ExpandError> {
    let mut expander = Expander { chars: word.chars().collect(), at: 0, escape, lookup, depth: 0 };
    expander.until(None)
}

/// Resolves a heredoc's text: variables replaced, quotes kept as they are.
pub fn expand_text(text: &str, escape: char, lookup: &mut Lookup<'_>) -> Result<String, ExpandError> {
    let mut expander = Expander { chars: text.chars().collect(), at: 0, escape, lookup, depth: 0 };
    let mut out = String::new();
    while let Some(c) = expander.next() {
        if c == escape {
            match expander.peek() {
                Some(next) if next == '$' || next == escape => {
                    out.push(next);
                    expander.at += 1;
                }
                _ => out.push(c),
            }
        } else if c == '$' {
            out.push_str(&expander.dollar()?);
        } else {
            out.push(c);
        }
        if out.len() > MAX_LENGTH {
            return Err(too_long());
        }
    }
    Ok(out)
}

fn too_long() -> ExpandError {
    ExpandError(format!("grows beyond {MAX_LENGTH} bytes when its variables are replaced"))
}

struct Expander<'a, 'b> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    lookup: &'a mut Lookup<'b>,
    depth: usize,
}

impl Expander<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Up to `stop`, which is consumed, or to the end.
    fn until(&mut self, stop: Option<char>) -> Result<String, ExpandError> {
        if self.depth > MAX_DEPTH {
            return Err(ExpandError(format!("nests deeper than {MAX_DEPTH} levels")));
        }
        let mut out = String::new();
        while let Some(c) = self.next() {
            if Some(c) == stop {
                return Ok(out);
            }
            match c {
                '\'' => self.single_quoted(&mut out)?,
                '"' => self.double_quoted(&mut out)?,
                '$' => out.push_str(&self.dollar()?),
                c if c == self.escape => out.extend(self.next()),
                c => out.push(c),
            }
            if out.len() > MAX_LENGTH {
                return Err(too_long());
            }
        }
        match stop {
            Some(stop) => Err(ExpandError(format!("a `{stop}` is missing"))),
            None => Ok(out),
        }
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<(), ExpandError> {
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => out.push(c),
                None => return Err(ExpandError("a ' is not closed".into())),
            }
        }
    }

    fn double_quoted(&mut self, out: &mut String) -> Result<(), ExpandError> {
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.dollar()?),
                Some(c) if c == self.escape => match self.peek() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        out.push(next);
                        self.at += 1;
                    }
                    Some(_) => out.push(c),
                    None => return Err(ExpandError("a \" is not closed".into())),
                },
                Some(c) => out.push(c),
                None => return Err(ExpandError("a \" is not closed".into())),
            }
            if out.len() > MAX_LENGTH {
                return Err(too_long());
            }
        }
    }

    /// Behind a `$`.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".into() } else { (self.lookup)(&name).unwrap_or_default() });
        }
        self.at += 1;
        let name = self.name();
        if name.is_empty() {
            return Err(ExpandError("`${` is not followed by the name of a variable".into()));
        }
        let value = (self.lookup)(&name);
        self.depth += 1;
        let result = self.modifier(&name, value);
        self.depth -= 1;
        result
    }

    /// Behind `${name`.
    fn modifier(&mut self, name: &str, value: Option<String>) -> Result<String, ExpandError> {
        let Some(c) = self.next() else { return Err(ExpandError(format!("`${{{name}` is not closed with `}}`"))) };
        match c {
            '}' => Ok(value.unwrap_or_default()),
            ':' => {
                let set = value.filter(|value| !value.is_empty());
                match self.next() {
                    Some(operator @ ('-' | '+' | '?')) => self.default(name, operator, set),
                    other => {
                        let shown = other.map(String::from).unwrap_or_default();
                        Err(ExpandError(format!("`${{{name}:{shown}` is not supported: use `:-`, `:+` or `:?`")))
                    }
                }
            }
            '-' | '+' | '?' => self.default(name, c, value),
            '#' | '%' => {
                let longest = self.peek() == Some(c);
                self.at += usize::from(longest);
                let pattern = self.until(Some('}'))?;
                Ok(trim(&value.unwrap_or_default(), &pattern, c == '#', longest))
            }
            '/' => {
                let all = self.peek() == Some('/');
                self.at += usize::from(all);
                let pattern = self.until(Some('/'))?;
                let replacement = self.until(Some('}'))?;
                replace(&value.unwrap_or_default(), &pattern, &replacement, all)
            }
            c => Err(ExpandError(format!("`${{{name}{c}` is not supported: use `:-`, `:+`, `:?`, `#`, `%` or `/`"))),
        }
    }

    fn default(&mut self, name: &str, operator: char, value: Option<String>) -> Result<String, ExpandError> {
        let word = self.until(Some('}'))?;
        match (operator, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => Err(ExpandError(format!("`{name}` must be set"))),
            (_, None) => Err(ExpandError(format!("`{name}` must be set: {word}"))),
        }
    }

    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                    self.at += 1;
                }
            }
            Some(c) if c.is_ascii_digit() => {
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {}
        }
        self.chars[start..self.at].iter().collect()
    }
}

/// Takes the shortest or longest match of a shell pattern from the start or the end.
fn trim(value: &str, pattern: &str, from_start: bool, longest: bool) -> String {
    let glob = Glob::shell(pattern);
    let mut cuts: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
    // The longest prefix ends last; the longest suffix starts first.
    if from_start == longest {
        cuts.reverse();
    }
    let part = |cut: usize| if from_start { (&value[..cut], &value[cut..]) } else { (&value[cut..], &value[..cut]) };
    let found = cuts.into_iter().map(part).find(|(matched, _)| glob.matches(matched));
    found.map_or(value, |(_, kept)| kept).to_owned()
}

/// Replaces the first, or every, longest match of a shell pattern.
fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> Result<String, ExpandError> {
    let glob = Glob::shell(pattern);
    let mut out = String::new();
    let mut rest = value;
    while !rest.is_empty() {
        let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
        match ends.into_iter().find(|end| glob.matches(&rest[..*end])) {
            Some(end) => {
                out.push_str(replacement);
                rest = &rest[end..];
                if !all {
                    break;
                }
            }
            None => {
                let next = rest.chars().next().map_or(rest.len(), char::len_utf8);
                out.push_str(&rest[..next]);
                rest = &rest[next..];
            }
        }
        if out.len() > MAX_LENGTH {
            return Err(too_long());
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(word: &str) -> Result<String, String> {
        let mut lookup = |name: &str| match name {
            "x" => Some("value".to_owned()),
            "empty" => Some(String::new()),
            "path" => Some("a/b/c.tar.gz".to_owned()),
            _ => None,
        };
        expand(word, '\\', &mut lookup).map_err(|e| e.0)
    }

    #[test]
    fn follows_the_reference() {
        for (word, expected) in [
            ("a$x-b", "avalue-b"),
            ("${x}y", "valuey"),
            ("$none|", "|"),
            ("'$x'", "$x"),
            (r#""a $x""#, "a value"),
            (r"\$x", "$x"),
            (r#""\$x \n""#, r"$x \n"),
            ("a' 'b", "a b"),
            ("${none:-d}", "d"),
            ("${empty:-d}", "d"),
            ("${empty-d}", ""),
            ("${none-d}", "d"),
            ("${x:+d}", "d"),
            ("${empty:+d}", ""),
            ("${empty+d}", "d"),
            ("${none+d}", ""),
            ("${none:-${x}/y}", "value/y"),
            ("${none:-'a}b'}", "a}b"),
            ("${x:?no}", "value"),
            ("${path#*/}", "b/c.tar.gz"),
            ("${path##*/}", "c.tar.gz"),
            ("${path%.*}", "a/b/c.tar"),
            ("${path%%.*}", "a/b/c"),
            ("${path/b/X}", "a/X/c.tar.gz"),
            ("${path//\\//-}", "a-b-c.tar.gz"),
            ("${path%none}", "a/b/c.tar.gz"),
            ("${path//[ab]/z}", "a/b/c.tar.gz"),
            ("$", "$"),
            ("a$ b", "a$ b"),
            ("$$", ""),
            ("1${x}2", "1value2"),
        ] {
            assert_eq!(run(word).as_deref(), Ok(expected), "{word}");
        }
    }

    #[test]
    fn refuses_what_does_not_close() {
        for word in ["${x", "${", "${}", "'a", "\"a", "${x:", "${x:=a}", "${x~a}", "${none:-a", "\"\\"] {
            assert!(run(word).is_err(), "{word}");
        }
        assert_eq!(run("${none:?say it}"), Err("`none` must be set: say it".into()));
        assert_eq!(run("${none?}"), Err("`none` must be set".into()));
    }

    #[test]
    fn bounds_growth_and_depth() {
        let deep = format!("{}{}", "${a:-".repeat(100), "}".repeat(100));
        assert!(run(&deep).unwrap_err().contains("deeper"));
    }
}
