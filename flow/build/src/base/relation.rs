//! Relations between packages: `libc6 (>= 2.38), awk | mawk:any`.

use std::{cmp::Ordering, fmt};

use debversion::Version;

/// Alternatives in one clause, and clauses in one field.
const MAX_ALTERNATIVES: usize = 200;
const MAX_CLAUSES: usize = 5_000;

/// How a version must compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

impl Operator {
    fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }

    pub fn holds(self, found: &Version, wanted: &Version) -> bool {
        let order = found.cmp(wanted);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierOrEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::LaterOrEqual => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }
}

/// One package that would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    pub name: String,
    /// `any`, `native` or an architecture.
    pub qualifier: Option<String>,
    pub version: Option<(Operator, Version)>,
}

impl Relation {
    pub fn accepts(&self, version: &Version) -> bool {
        self.version.as_ref().is_none_or(|(operator, wanted)| operator.holds(version, wanted))
    }

    /// Whether a package of the architecture, or of all, can be meant.
    pub fn is_for(&self, architecture: &str) -> bool {
        self.qualifier.as_deref().is_none_or(|q| q == "any" || q == "native" || q == architecture)
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(qualifier) = &self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        match &self.version {
            Some((operator, version)) => write!(f, " ({} {version})", operator.as_str()),
            None => Ok(()),
        }
    }
}

/// Any of these will do.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause(pub Vec<Relation>);

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, relation) in self.0.iter().enumerate() {
            write!(f, "{}{relation}", if index > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

/// Reads a field such as `Depends`: clauses that must all hold. `Err` is what is wrong.
pub fn parse(field: &str) -> Result<Vec<Clause>, String> {
    let mut clauses = Vec::new();
    for clause in field.split(',').map(str::trim).filter(|clause| !clause.is_empty()) {
        if clauses.len() == MAX_CLAUSES {
            return Err(format!("more than {MAX_CLAUSES} relations"));
        }
        let mut alternatives = Vec::new();
        for text in clause.split('|') {
            if alternatives.len() == MAX_ALTERNATIVES {
                return Err(format!("more than {MAX_ALTERNATIVES} alternatives"));
            }
            alternatives.push(relation(text.trim())?);
        }
        clauses.push(Clause(alternatives));
    }
    Ok(clauses)
}

/// Reads `name[:qualifier] [(operator version)]`.
pub fn relation(text: &str) -> Result<Relation, String> {
    let wrong = || format!("`{}` is no relation to a package", text.chars().take(100).collect::<String>());
    let (head, version) = match text.split_once('(') {
        Some((head, rest)) => {
            let inner = rest.trim_end().strip_suffix(')').ok_or_else(wrong)?.trim();
            let end = inner.find(|c| !"<>=".contains(c)).ok_or_else(wrong)?;
            let operator = match &inner[..end] {
                "<<" => Operator::Earlier,
                // `<` and `>` are the deprecated spellings, and include equality.
                "<=" | "<" => Operator::EarlierOrEqual,
                "=" => Operator::Equal,
                ">=" | ">" => Operator::LaterOrEqual,
                ">>" => Operator::Later,
                _ => return Err(wrong()),
            };
            (head, Some((operator, version(inner[end..].trim()).ok_or_else(wrong)?)))
        }
        None => (text, None),
    };
    let head = head.trim();
    let (name, qualifier) = head.split_once(':').map_or((head, None), |(name, q)| (name, Some(q.to_owned())));
    if !is_name(name) || qualifier.as_deref().is_some_and(|q| q.is_empty() || !q.bytes().all(is_name_byte)) {
        return Err(wrong());
    }
    Ok(Relation { name: name.to_owned(), qualifier, version })
}

/// Reads a version of a package.
pub fn version(text: &str) -> Option<Version> {
    if text.len() > 256 { None } else { Version::parse_lenient(text).ok() }
}

/// Whether it is the name of a Debian package (and so never a path).
pub fn is_name(text: &str) -> bool {
    text.len() <= 200
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text.bytes().all(is_name_byte)
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_packages_say() {
        let clauses = parse("libc6 (>= 2.38), awk | mawk:any (<< 1:2-3~) , perl:any").unwrap();
        let shown: Vec<String> = clauses.iter().map(Clause::to_string).collect();
        assert_eq!(shown, ["libc6 (>= 2.38)", "awk | mawk:any (<< 1:2-3~)", "perl:any"]);
        assert!(parse("").unwrap().is_empty());
        for bad in ["a (", "a (>= )", "a (=> 1)", "A", "a/b", "../a", "a:", "a (1)"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn compares_as_dpkg_does() {
        for (text, found, holds) in [
            ("a (>= 1.0)", "1.0", true),
            ("a (>> 1.0)", "1.0", false),
            ("a (<< 1.0)", "1.0~rc1", true),
            ("a (>= 1:0.5)", "2.0", false),
            ("a (= 1.0-1)", "1.0-1+b1", false),
            ("a (>= 1.0-1)", "1.0-1+deb13u1", true),
            ("a (>= 1.9)", "1.10", true),
            ("a", "0", true),
        ] {
            assert_eq!(relation(text).unwrap().accepts(&version(found).unwrap()), holds, "{text} {found}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = parse(&text);
        }
    }
}
