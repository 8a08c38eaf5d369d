//! What can be wrong with a text, where, and in which words.

use std::fmt;

/// A place in a text: line and column from 1 (columns in characters), offset in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Mark {
    pub line: u32,
    pub column: u32,
    pub offset: usize,
}

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The characters make no token.
    Scan,
    /// The tokens make no document.
    Syntax,
    /// The document cannot become the value asked for.
    Type,
    /// The text costs more than the [`crate::Limits`] allow.
    Limit,
}

/// A text that cannot be read. Displayed in go-yaml's words: `yaml: line 3: mapping values are not allowed in this context`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    pub kind: Kind,
    /// What is wrong, without the place.
    pub message: String,
    /// Where it is.
    pub at: Option<Mark>,
    /// Where the thing began that is wrong (the open quote, the mapping).
    pub began: Option<Mark>,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>, at: Mark) -> Self {
        Self { kind, message: message.into(), at: Some(at), began: None }
    }

    pub(crate) fn since(mut self, began: Mark) -> Self {
        self.began = Some(began);
        self
    }

    /// The line that go-yaml prints. Its parser counts lines from 0 and its scanner from 1, and line 0 is not printed.
    fn line(&self, v3: bool) -> Option<u32> {
        match self.kind {
            Kind::Type | Kind::Limit => return self.at.map(|mark| mark.line),
            Kind::Scan | Kind::Syntax => {}
        }
        let zero = |mark: Option<Mark>| mark.map_or(0, |mark| mark.line.saturating_sub(1));
        let scan = u32::from(self.kind == Kind::Scan);
        let (at, began) = (zero(self.at), zero(self.began));
        let line = match (v3, at, began) {
            (true, _, began) if began != 0 => began + scan,
            (true, at, _) if at != 0 => at + scan,
            (false, at, _) if at != 0 => at + scan,
            (false, _, began) if began != 0 => began,
            _ => 0,
        };
        (line != 0).then_some(line)
    }

    /// The words of go-yaml v3, which names the line where the thing began.
    pub fn v3(&self) -> String {
        self.words(self.line(true))
    }

    fn words(&self, line: Option<u32>) -> String {
        match (line, self.kind) {
            // A limit and a wrong type name their line where go-yaml would name none.
            (Some(line), _) => format!("yaml: line {line}: {}", self.message),
            (None, _) => format!("yaml: {}", self.message),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(self.line(false)))
    }
}
