//! What is wrong with a file that a person wrote: where, the line itself, and what to do.

use std::{fmt, sync::Arc};

/// A place in a file. Lines and columns count from 1, columns and the length in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub line: u32,
    pub column: u32,
    pub length: u32,
}

/// A file with its name, as people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: String,
    pub at: Span,
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The line as it stands in the file.
    pub line: String,
}

/// Everything that was found wrong with a file, in the order of the file; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

/// The part of a line that is shown around the place, in characters.
const WIDTH: usize = 110;

impl Source {
    pub fn new(name: &str, text: &str) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn diagnostic(&self, at: Span, message: impl Into<String>, hint: Option<String>) -> Diagnostic {
        let line = self.text.lines().nth(at.line.saturating_sub(1) as usize).unwrap_or_default();
        Diagnostic { file: self.name.clone(), at, message: message.into(), hint, line: line.into() }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span { line, column, length } = self.at;
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "error: {}", self.message)?;
        writeln!(f, "{gutter}--> {}:{line}:{column}", self.file)?;
        writeln!(f, "{gutter} |")?;
        // A long line is shown around the place; what would move the cursor or colour the terminal is not repeated.
        let place = column.saturating_sub(1) as usize;
        let from = if place > WIDTH * 2 / 3 { place - WIDTH / 3 } else { 0 };
        let shown: String = self.line.chars().skip(from).take(WIDTH).map(printable).collect();
        writeln!(f, "{number} | {}", shown.trim_end())?;
        let carets = (length.max(1) as usize).min((WIDTH + from).saturating_sub(place).max(1));
        write!(f, "{gutter} | {}{}", " ".repeat(place - from), "^".repeat(carets))?;
        match &self.hint {
            Some(hint) => write!(f, " {hint}"),
            None => Ok(()),
        }
    }
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}
impl std::error::Error for Diagnostics {}

/// The known word that somebody may have meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase();
    let close = |known: &&str| {
        let distance = strsim::damerau_levenshtein(&word, &known.to_lowercase());
        (distance <= (known.chars().count() / 4).max(1)).then_some(distance)
    };
    known.into_iter().filter_map(|known| Some((close(&known)?, known))).min().map(|(_, known)| known)
}

/// "did you mean …?", or else all there is to choose from.
pub(crate) fn suggest<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Option<String> {
    if let Some(known) = nearest(word, known.clone()) {
        return Some(format!("did you mean `{known}`?"));
    }
    let all: Vec<String> = known.into_iter().map(|known| format!("`{known}`")).collect();
    (!all.is_empty() && all.len() <= 20).then(|| format!("use one of {}", all.join(", ")))
}
