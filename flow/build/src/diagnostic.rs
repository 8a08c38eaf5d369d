//! Errors and warnings about a file that a person wrote: where, the lines themselves with a caret, why, and what to do.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A part of a source text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// The smallest span that covers both.
    pub fn to(self, other: Span) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value with the place that it was read from. Two are equal when their values are.
#[derive(Debug, Clone, Default)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A named text, to point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As a person would find it, for example `frontend/Dockerfile`.
    pub name: String,
    pub text: Arc<str>,
}

/// Lines shown at most, and characters of each.
const MAX_LINES: usize = 6;
const MAX_WIDTH: usize = 160;

impl Source {
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Line and column (both from 1; columns count characters) of a byte offset.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// An error or warning at a place of this text.
    pub fn diagnostic(&self, span: Span, reason: impl Into<String>) -> Diagnostic {
        let (line, column) = self.position(span.start);
        let (last_line, last_column) = self.position(span.end.max(span.start));
        let mut excerpt = Vec::new();
        for (index, text) in self.text.lines().enumerate().skip(line - 1).take(last_line - line + 1) {
            let number = index + 1;
            // A span that ends right behind a line break covers nothing of the line that follows.
            if number > line && number == last_line && last_column == 1 {
                break;
            }
            let length = text.trim_end().chars().count();
            let from = if number == line { column - 1 } else { text.len() - text.trim_start().len() };
            let to = if number == last_line { last_column - 1 } else { length };
            excerpt.push(Excerpt { line: number, text: text.trim_end().to_owned(), from, to });
        }
        let more = excerpt.len().saturating_sub(MAX_LINES);
        excerpt.truncate(MAX_LINES);
        Diagnostic { file: self.name.clone(), line, column, excerpt, more, reason: reason.into(), hint: None }
    }
}

/// A line of the source with the part that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    pub line: usize,
    pub text: String,
    /// In characters, from 0.
    pub from: usize,
    pub to: usize,
}

/// What is wrong at one place. `Display` prints it as a person should see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub excerpt: Vec<Excerpt>,
    /// Lines that belong to it and are not in the excerpt.
    pub more: usize,
    pub reason: String,
    pub hint: Option<String>,
}

impl Diagnostic {
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.reason)?;
        let width = self.excerpt.last().map_or(1, |last| last.line.to_string().len());
        if !self.excerpt.is_empty() {
            write!(f, "\n{:width$} |", "")?;
        }
        for part in &self.excerpt {
            // A long line is cut so that the part that is meant stays in sight.
            let skip = if part.from >= MAX_WIDTH { part.from - MAX_WIDTH / 2 } else { 0 };
            let shown: String = part.text.chars().skip(skip).take(MAX_WIDTH).map(visible).collect();
            write!(f, "\n{:width$} | {}{shown}", part.line, if skip > 0 { "…" } else { "" })?;
            let from = part.from - skip + usize::from(skip > 0);
            let to = (part.to.saturating_sub(skip) + usize::from(skip > 0)).min(MAX_WIDTH).max(from + 1);
            write!(f, "\n{:width$} | {}{}", "", " ".repeat(from), "^".repeat(to - from))?;
        }
        if self.more > 0 {
            write!(f, "\n{:width$} | … and {} more lines", "", self.more)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// Something allowed and yet unwise, with the name of the rule that says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// As in `# check=skip=<rule>`; Docker's name where Docker has the rule.
    pub rule: String,
    pub diagnostic: Diagnostic,
}

impl Warning {
    pub fn new(rule: &str, diagnostic: Diagnostic) -> Self {
        Self { rule: rule.to_owned(), diagnostic }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rule stands behind the reason, in the first line.
        let named =
            Diagnostic { reason: format!("{} ({})", self.diagnostic.reason, self.rule), ..self.diagnostic.clone() };
        named.fmt(f)
    }
}

/// Keeps columns straight and terminals safe.
fn visible(c: char) -> char {
    if c == '\t' {
        ' '
    } else if c.is_control() {
        '\u{fffd}'
    } else {
        c
    }
}

/// The known word that `word` was probably meant to be.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect::<String>().to_lowercase();
    let near =
        known.into_iter().map(|k| (strsim::damerau_levenshtein(&word, &k.to_lowercase()), k)).min_by_key(|n| n.0);
    near.filter(|(distance, k)| *distance <= 1.max(k.chars().count().max(word.chars().count()) / 3)).map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place() {
        let source = Source::new("Dockerfile", "FROM a\nRUN x \\\n  && y\nCMD z\n");
        let text = source.diagnostic(Span::new(7, 22), "no").hint("yes").to_string();
        assert_eq!(text, "Dockerfile:2:1: no\n  |\n2 | RUN x \\\n  | ^^^^^^^\n3 |   && y\n  |   ^^^^\nhint: yes");
    }

    #[test]
    fn keeps_the_place_of_a_long_line_in_sight() {
        let source = Source::new("D", format!("{}HERE", "a".repeat(1000)));
        let text = source.diagnostic(Span::new(1000, 1004), "no").to_string();
        assert!(text.contains("HERE") && text.lines().all(|l| l.chars().count() < 300), "{text}");
    }

    #[test]
    fn guesses_what_was_meant() {
        let known = ["RUN", "COPY", "HEALTHCHECK"];
        assert_eq!(did_you_mean("RUM", known), Some("RUN"));
        assert_eq!(did_you_mean("cpoy", known), Some("COPY"));
        assert_eq!(did_you_mean("HEALTCHEK", known), Some("HEALTHCHECK"));
        assert_eq!(did_you_mean("FROB", known), None);
    }
}
