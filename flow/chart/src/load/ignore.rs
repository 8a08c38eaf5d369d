//! `.helmignore`: which files of a chart's directory are not part of the chart.

use crate::{Error, pattern::Pattern};

/// The rules of one `.helmignore`, in its order, and Helm's own (`templates/.?*`) after them.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    /// None for what is a pattern only together with the slash at its end; nothing matches it.
    pattern: Option<Pattern>,
    negated: bool,
    directory: bool,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// The whole path, from the chart's root.
    Path,
    /// The last part of the path, wherever it is.
    Name,
}

impl Ignore {
    /// Reads the text of a `.helmignore`. `**` is refused, as Helm refuses it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut ignore = Self::default();
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            ignore.add(line)?;
        }
        ignore.add("templates/.?*")?;
        Ok(ignore)
    }

    fn add(&mut self, line: &str) -> Result<(), Error> {
        let mut rule = line.trim();
        if rule.is_empty() || rule.starts_with('#') {
            return Ok(());
        }
        if rule.contains("**") {
            return Err(Error::Ignore("double-star (**) syntax is not supported".to_owned()));
        }
        Pattern::new(rule).map_err(|bad| Error::Ignore(bad.to_string()))?;
        let negated = rule.starts_with('!');
        if negated {
            rule = &rule[1..];
        }
        let directory = rule.ends_with('/');
        rule = rule.strip_suffix('/').unwrap_or(rule);
        let (place, pattern) = match rule.strip_prefix('/') {
            Some(rest) => (Place::Path, rest),
            None if rule.contains('/') => (Place::Path, rule),
            None => (Place::Name, rule),
        };
        self.rules.push(Rule { pattern: Pattern::new(pattern).ok(), negated, directory, place });
        Ok(())
    }

    /// Whether the path (relative to the chart, `/` between its parts) is left out. The first rule that decides wins; a
    /// negated rule decides by not matching, which is Helm's reading of `!` and not git's.
    pub fn ignores(&self, path: &str, is_directory: bool) -> bool {
        if path.is_empty() || path == "." || path == "./" {
            return false;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        for rule in &self.rules {
            let subject = match rule.place {
                Place::Path => path,
                Place::Name => name,
            };
            let matched = || rule.pattern.as_ref().is_some_and(|pattern| pattern.matches(subject));
            if rule.negated {
                if (rule.directory && !is_directory) || !matched() {
                    return true;
                }
            } else if (is_directory || !rule.directory) && matched() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let ignore = Ignore::parse("# comment\n\n.git/\n*.bak\n/top.txt\ndocs/*.md\n").unwrap();
        for (path, directory, expected) in [
            (".git", true, true),
            (".git", false, false),
            ("a/b/x.bak", false, true),
            ("top.txt", false, true),
            ("sub/top.txt", false, false),
            ("docs/a.md", false, true),
            ("docs/sub/a.md", false, false),
            ("templates/.hidden.yaml", false, true),
            ("templates/x.yaml", false, false),
        ] {
            assert_eq!(ignore.ignores(path, directory), expected, "{path}");
        }
    }

    #[test]
    fn negation_is_helms() {
        let ignore = Ignore::parse("!keep.txt").unwrap();
        assert!(!ignore.ignores("keep.txt", false));
        assert!(ignore.ignores("other.txt", false));
    }

    #[test]
    fn refused() {
        assert!(Ignore::parse("a/**/b").is_err());
        assert!(Ignore::parse("a[").is_err());
    }
}
