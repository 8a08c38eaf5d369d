//! `.dockerignore`: what of a directory is not part of the build context.
//!
//! Docker's rules: one pattern a line, `#` comments, `**` for any number of directories, `!` takes back, the last pattern that
//! matches decides, and what matches a directory matches everything in it.

use crate::{Error, Result, glob::Glob};

/// Bytes and patterns that the file may have.
const MAX_SIZE: usize = 1 << 20;
const MAX_RULES: usize = 10_000;

/// A compiled `.dockerignore`.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    file: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    line: usize,
    text: String,
    keep: bool,
    glob: Glob,
    /// The literal path when there is no wildcard in it: most patterns, and compared much faster.
    literal: Option<String>,
    /// Of `**/name` and `**/*.end`: the rest, compared with the last name alone.
    anywhere: Option<Anywhere>,
}

#[derive(Debug, Clone)]
enum Anywhere {
    Name(String),
    End(String),
}

impl Anywhere {
    fn of(pattern: &str) -> Option<Self> {
        let rest = pattern.strip_prefix("**/")?;
        if rest.contains('/') {
            return None;
        }
        match rest.strip_prefix('*') {
            Some(end) if !crate::glob::has_wildcard(end) => Some(Self::End(end.to_owned())),
            None if !crate::glob::has_wildcard(rest) => Some(Self::Name(rest.to_owned())),
            _ => None,
        }
    }
}

/// Which rules cover a directory: what lies in it is covered by the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Covered {
    /// One bit for each rule.
    rules: Vec<u64>,
    ignored: bool,
}

impl Covered {
    pub fn is_ignored(&self) -> bool {
        self.ignored
    }
}

/// The rule that decided about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredBy {
    pub file: String,
    pub line: usize,
    pub pattern: String,
}

impl Ignore {
    /// Reads the file's text; `file` is what errors call it.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Context { path: file.to_owned(), reason };
        if text.len() > MAX_SIZE {
            return Err(wrong(format!("has more than {MAX_SIZE} bytes")));
        }
        let mut rules = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            // A comment has its `#` in the first column, as Docker reads it.
            if line.starts_with('#') {
                continue;
            }
            let trimmed = line.trim();
            let (keep, pattern) = trimmed.strip_prefix('!').map_or((false, trimmed), |rest| (true, rest.trim()));
            if keep && pattern.is_empty() {
                return Err(wrong(format!("line {}: a `!` needs a pattern behind it", index + 1)));
            }
            let pattern = clean(pattern);
            if pattern.is_empty() {
                continue;
            }
            if rules.len() == MAX_RULES {
                return Err(wrong(format!("has more than {MAX_RULES} patterns")));
            }
            let glob = Glob::ignore(&pattern).map_err(|e| wrong(format!("line {}: {e}", index + 1)))?;
            let literal = (!crate::glob::has_wildcard(&pattern)).then(|| pattern.clone());
            let anywhere = Anywhere::of(&pattern);
            rules.push(Rule { line: index + 1, text: trimmed.to_owned(), keep, glob, literal, anywhere });
        }
        Ok(Self { file: file.to_owned(), rules })
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether something below an ignored directory may be kept: then it must be looked into.
    pub fn takes_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.keep)
    }

    /// What covers `path`, when `above` covers the directory that it lies in: each rule is asked about this path alone.
    pub(crate) fn cover(&self, above: &Covered, path: &str) -> Covered {
        let mut covered = Covered { rules: above.rules.clone(), ignored: false };
        covered.rules.resize(self.rules.len().div_ceil(64), 0);
        for (index, rule) in self.rules.iter().enumerate() {
            let bit = 1u64 << (index % 64);
            if covered.rules[index / 64] & bit != 0 || rule.matches(path) {
                covered.rules[index / 64] |= bit;
                covered.ignored = !rule.keep;
            }
        }
        covered
    }

    /// The rule that leaves the path (relative, `/`-separated) out of the context, if one does.
    pub fn decide(&self, path: &str) -> Option<IgnoredBy> {
        let rule = self.rules.iter().rev().find(|rule| rule.covers(path))?;
        (!rule.keep).then(|| IgnoredBy { file: self.file.clone(), line: rule.line, pattern: rule.text.clone() })
    }
}

impl Rule {
    /// Whether the path, or a directory that it lies in, matches.
    fn covers(&self, path: &str) -> bool {
        if let Some(literal) = &self.literal {
            let rest = path.strip_prefix(literal.as_str());
            return rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        }
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.matches(&path[..end]))
    }

    /// Whether this very path matches.
    fn matches(&self, path: &str) -> bool {
        if let Some(literal) = &self.literal {
            return literal == path;
        }
        let name = || path.rsplit('/').next().unwrap_or(path);
        match &self.anywhere {
            Some(Anywhere::Name(wanted)) => name() == wanted,
            Some(Anywhere::End(end)) => name().ends_with(end.as_str()),
            None => self.glob.matches(path),
        }
    }
}

/// Without leading and trailing `/`, `.` and `..` resolved, as `filepath.Clean` below the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_as_docker_does() {
        // (rules, path, ignored)
        for (rules, path, ignored) in [
            ("node_modules", "node_modules/a/b.js", true),
            ("node_modules", "web/node_modules", false),
            ("**/node_modules", "web/node_modules/x", true),
            ("**/node_modules", "node_modules", true),
            ("node_modules/", "node_modules", true),
            ("/node_modules", "node_modules/x", true),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/deep/README.md", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "OTHER.md", true),
            ("!README.md\n*.md", "README.md", true),
            ("docs\n!docs/api", "docs/api/x", false),
            ("docs\n!docs/api", "docs/b", true),
            ("*\n!src", "src/main.rs", false),
            ("*\n!src", "Cargo.toml", true),
            ("*\n!src\nsrc/secret*", "src/secret.key", true),
            ("# *.md", "a.md", false),
            ("", "a", false),
            (".", "a", false),
            ("temp?", "tempa", true),
            ("temp?", "tempab", false),
            ("*/temp*", "a/temporary.txt", true),
            ("*/temp*", "a/b/temporary.txt", false),
            ("*/*/temp*", "a/b/temporary.txt", true),
            ("./a/../b", "b", true),
            ("a b", "a b", true),
            ("  spaced  ", "spaced", true),
            ("\\#x", "#x", true),
            ("[ab].txt", "a.txt", true),
            ("secret", "secrets", false),
            ("**", "anything/at/all", true),
        ] {
            let ignore = Ignore::parse(".dockerignore", rules).unwrap();
            assert_eq!(ignore.decide(path).is_some(), ignored, "{rules:?} {path}");
        }
    }

    #[test]
    fn names_the_rule_and_refuses_bad_ones() {
        let ignore = Ignore::parse(".dockerignore", "# x\n\n*.key\n").unwrap();
        let by = ignore.decide("a.key").unwrap();
        assert_eq!((by.line, by.pattern.as_str()), (3, "*.key"));
        let error = Ignore::parse(".dockerignore", "a\n[").unwrap_err().to_string();
        assert_eq!(error, "build context: .dockerignore: line 2: `[` is no pattern: a `[` is not closed, or empty");
        assert!(Ignore::parse(".dockerignore", "!").is_err());
    }
}
