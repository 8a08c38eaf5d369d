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

/// What `--exclude` leaves out: of the patterns that match, the last decides; one that begins with `!` takes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusions(Vec<(bool, Pattern)>);

impl Exclusions {
    /// # Errors
    /// When one of them is no pattern.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut all = Self::default();
        texts.iter().try_for_each(|text| all.push(text))?;
        Ok(all)
    }

    /// Adds one behind the others.
    ///
    /// # Errors
    /// When it is no pattern.
    pub fn push(&mut self, text: &str) -> Result<()> {
        let (out, text) = text.strip_prefix('!').map_or((true, text), |rest| (false, rest));
        self.0.push((out, Pattern::parse(text)?));
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has_exceptions(&self) -> bool {
        self.0.iter().any(|(out, _)| !out)
    }

    /// Whether this path, relative and `/`-separated, is left out.
    pub fn leave_out(&self, path: &str) -> bool {
        self.0.iter().rev().find(|(_, pattern)| pattern.covers(path)).is_some_and(|(out, _)| *out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let texts = ["sub", "!sub/deep", "**/*.md", "!keep.md"].map(str::to_owned);
        let exclusions = Exclusions::parse(&texts).unwrap();
        for (path, out) in [
            ("sub", true),
            ("sub/1", true),
            ("sub/deep/1", false),
            ("sub/deep/a.md", true),
            ("a.md", true),
            ("keep.md", false),
        ] {
            assert_eq!(exclusions.leave_out(path), out, "{path}");
        }
        assert!(exclusions.has_exceptions() && Exclusions::parse(&["[".to_owned()]).is_err());
    }
}
