//! Patterns as `.dockerignore` and `--exclude` have them.

use crate::{
    Error, Result,
    glob::{self, Glob},
    ignore::clean,
};

pub use crate::glob::unescape;

/// A pattern of paths: `*`, `?` and `[…]` within a name, `**` for any number of directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    glob: Glob,
    /// The path itself when there is no wildcard in it.
    literal: Option<String>,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self> {
        let text = clean(text);
        let glob = Glob::ignore(&text)
            .map_err(|error| Error::Context { path: error.pattern.clone(), reason: error.reason.to_owned() })?;
        Ok(Self { glob, literal: (!glob::has_wildcard(&text)).then_some(text) })
    }

    /// Whether this very path (relative, `/`-separated) matches.
    pub fn matches(&self, path: &str) -> bool {
        match &self.literal {
            Some(literal) => literal == path,
            None => self.glob.matches(path),
        }
    }

    /// Whether the path, or a directory that it lies in, matches.
    pub fn covers(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.matches(&path[..end]))
    }
}
