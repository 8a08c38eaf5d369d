//! Versions and ranges of versions as Helm reads them (the rules of Masterminds' semver 3): looser than Cargo's.

use std::cmp::Ordering;

const LONGEST_VERSION: usize = 256;
const LONGEST_RANGE: usize = 512;
const MOST_GROUPS: usize = 32;

/// A version: `1.2.3-beta.1+build`, where a leading `v` and missing minor and patch are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    /// Without the `-`; empty for a release.
    pub pre: String,
    /// Without the `+`.
    pub build: String,
    /// As it was written.
    pub original: String,
}

impl Version {
    /// Reads a version.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST_VERSION {
            return None;
        }
        let (parts, rest) = Numbers::read(text.strip_prefix('v').unwrap_or(text), |c| c.is_ascii_digit())?;
        let (pre, rest) = suffix(rest, '-')?;
        let (build, rest) = suffix(rest, '+')?;
        let zero_led = |part: &str| part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit());
        if !rest.is_empty() || pre.split('.').any(zero_led) {
            return None;
        }
        let number = |part: Option<&str>| part.map_or(Some(0), |part| part.parse().ok());
        Some(Self {
            major: number(Some(parts.0))?,
            minor: number(parts.1)?,
            patch: number(parts.2)?,
            pre: pre.to_owned(),
            build: build.to_owned(),
            original: text.to_owned(),
        })
    }

    /// Reads only what is a version by the book: three numbers, no `v`, no leading zeros.
    pub fn parse_strict(text: &str) -> Option<Self> {
        let version = Self::parse(text)?;
        let numbers: Vec<&str> = text.split(['-', '+']).next()?.split('.').collect();
        let proper = |n: &&str| !n.is_empty() && (n.len() == 1 || !n.starts_with('0'));
        (numbers.len() == 3 && !text.starts_with('v') && numbers.iter().all(proper)).then_some(version)
    }

    /// Which is newer; what was built is not compared.
    pub fn compare(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.patch).cmp(&(other.major, other.minor, other.patch)).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => prereleases(&self.pre, &other.pre),
            }
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}

/// Up to three groups of characters with dots between, and what follows.
struct Numbers;

type Three<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

impl Numbers {
    fn read(text: &str, accepts: impl Fn(char) -> bool) -> Option<(Three<'_>, &str)> {
        let take = |text: &str| text.find(|c| !accepts(c)).unwrap_or(text.len());
        let end = take(text);
        if end == 0 {
            return None;
        }
        let (first, mut rest) = text.split_at(end);
        let mut next = || {
            let after = rest.strip_prefix('.')?;
            let end = take(after);
            if end == 0 {
                return None;
            }
            let (part, tail) = after.split_at(end);
            rest = tail;
            Some(part)
        };
        let second = next();
        let third = second.and_then(|_| next());
        Some(((first, second, third), rest))
    }
}

/// Identifiers with dots between, behind the given mark; nothing where the mark is not there.
fn suffix(text: &str, mark: char) -> Option<(&str, &str)> {
    let Some(rest) = text.strip_prefix(mark) else { return Some(("", text)) };
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.')).unwrap_or(rest.len());
    let (identifiers, rest) = rest.split_at(end);
    (!identifiers.split('.').any(str::is_empty)).then_some((identifiers, rest))
}

fn prereleases(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A range: alternatives (`||`) of conditions that all hold.
#[derive(Clone, Debug)]
pub struct Range {
    groups: Vec<Vec<Condition>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    TildeOrEqual,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    Tilde,
    Caret,
}

#[derive(Clone, Debug)]
struct Condition {
    operator: Operator,
    version: Version,
    /// Which part was left out or written `x`.
    any: Any,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Any {
    Nothing,
    Patch,
    Minor,
    Major,
}

/// Longest first, where one begins another.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterEqual),
    ("=>", Operator::GreaterEqual),
    ("<=", Operator::LessEqual),
    ("=<", Operator::LessEqual),
    ("~>", Operator::Tilde),
    ("=", Operator::TildeOrEqual),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

impl Range {
    /// Reads a range; the error is Helm's.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST_RANGE {
            return Err(format!("constraint string is too long (max {LONGEST_RANGE} bytes)"));
        }
        let groups: Vec<&str> = text.split("||").collect();
        if groups.len() > MOST_GROUPS {
            return Err(format!("too many constraint groups (max {MOST_GROUPS})"));
        }
        let group = |text: &&str| group(text).ok_or_else(|| format!("improper constraint: {text:?}"));
        Ok(Self { groups: groups.iter().map(group).collect::<Result<_, _>>()? })
    }

    /// Whether the version is in the range. Prereleases are only where a condition of the group names one.
    pub fn contains(&self, version: &Version) -> bool {
        self.groups.iter().any(|group| {
            let prereleases = group.iter().any(|condition| !condition.version.pre.is_empty());
            (version.pre.is_empty() || prereleases) && group.iter().all(|condition| condition.holds(version))
        })
    }
}

/// Whether a version lies in a range, where neither can be read: no.
pub fn compatible(range: &str, version: &str) -> bool {
    match (Range::parse(range), Version::parse(version)) {
        (Ok(range), Some(version)) => range.contains(&version),
        _ => false,
    }
}

fn group(text: &str) -> Option<Vec<Condition>> {
    let mut conditions = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let (condition, after) = condition(rest)?;
        let trimmed = after.trim_start();
        // `1.2 - 1.5`: between two versions, with white space around the dash.
        if condition.1 && trimmed.len() < after.len() && trimmed.starts_with('-') {
            let high = trimmed[1..].trim_start();
            if high.len() < trimmed.len() - 1 {
                let (upper, after) = self::condition(high)?;
                if !upper.1 {
                    return None;
                }
                conditions.push(Condition { operator: Operator::GreaterEqual, ..condition.0 });
                conditions.push(Condition { operator: Operator::LessEqual, ..upper.0 });
                rest = after;
                match next(rest) {
                    Some("") => return Some(conditions),
                    Some(more) => rest = more,
                    None => return None,
                }
                continue;
            }
        }
        conditions.push(condition.0);
        match next(after) {
            Some("") => return Some(conditions),
            Some(more) => rest = more,
            None => return None,
        }
    }
}

/// What follows a condition: the end, or white space or a comma and the next one.
fn next(after: &str) -> Option<&str> {
    let trimmed = after.trim_start();
    match trimmed.strip_prefix(',') {
        Some(more) => Some(more.trim_start()).filter(|more| !more.is_empty()),
        None if trimmed.is_empty() => Some(""),
        None => (trimmed.len() < after.len()).then_some(trimmed),
    }
}

/// One condition, whether it had no operator, and what follows.
fn condition(text: &str) -> Option<((Condition, bool), &str)> {
    let (operator, rest) = OPERATORS
        .iter()
        .find_map(|(sign, operator)| text.strip_prefix(sign).map(|rest| (Some(*operator), rest.trim_start())))
        .unwrap_or((None, text));
    let rest = rest.strip_prefix('v').unwrap_or(rest);
    let (parts, rest) = Numbers::read(rest, |c| c.is_ascii_digit() || "xX*".contains(c))?;
    let (pre, rest) = suffix(rest, '-')?;
    let (build, rest) = suffix(rest, '+')?;
    let any = |part: Option<&str>| part.is_none_or(|part| matches!(part, "x" | "X" | "*"));
    let dash = if pre.is_empty() { String::new() } else { format!("-{pre}") };
    let (written, any) = if any(Some(parts.0)) {
        (format!("0.0.0{dash}"), Any::Major)
    } else if any(parts.1) {
        (format!("{}.0.0{dash}", parts.0), Any::Minor)
    } else if any(parts.2) {
        (format!("{}.{}.0{dash}", parts.0, parts.1?), Any::Patch)
    } else {
        let plus = if build.is_empty() { String::new() } else { format!("+{build}") };
        (format!("{}.{}.{}{dash}{plus}", parts.0, parts.1?, parts.2?), Any::Nothing)
    };
    let version = Version::parse(&written)?;
    let condition = Condition { operator: operator.unwrap_or(Operator::TildeOrEqual), version, any };
    Some(((condition, operator.is_none()), rest))
}

impl Condition {
    fn holds(&self, v: &Version) -> bool {
        let c = &self.version;
        let order = v.compare(c);
        match self.operator {
            Operator::TildeOrEqual if self.any == Any::Nothing => order == Ordering::Equal,
            Operator::TildeOrEqual | Operator::Tilde => {
                let anything = (c.major, c.minor, c.patch) == (0, 0, 0) && !matches!(self.any, Any::Minor | Any::Patch);
                order != Ordering::Less
                    && (anything || (v.major == c.major && (v.minor == c.minor || self.any == Any::Minor)))
            }
            Operator::NotEqual => match self.any {
                _ if self.any != Any::Nothing && c.major != v.major => true,
                Any::Minor => false,
                Any::Patch if c.minor != v.minor => true,
                Any::Patch => {
                    (!v.pre.is_empty() || !c.pre.is_empty()) && prereleases(&v.pre, &c.pre) != Ordering::Equal
                }
                Any::Major | Any::Nothing => order != Ordering::Equal,
            },
            Operator::Greater => match self.any {
                Any::Minor => v.major > c.major,
                Any::Patch => v.major > c.major || (v.major == c.major && v.minor > c.minor),
                Any::Major | Any::Nothing => order == Ordering::Greater,
            },
            Operator::Less => order == Ordering::Less,
            Operator::GreaterEqual => order != Ordering::Less,
            Operator::LessEqual if self.any == Any::Nothing => order != Ordering::Greater,
            Operator::LessEqual => {
                v.major < c.major || (v.major == c.major && (v.minor <= c.minor || self.any == Any::Minor))
            }
            Operator::Caret => {
                if order == Ordering::Less {
                    false
                } else if c.major > 0 || self.any == Any::Minor {
                    v.major == c.major
                } else if v.major > 0 {
                    false
                } else if c.minor > 0 || self.any == Any::Patch {
                    v.minor == c.minor
                } else {
                    v.minor == 0 && v.patch == c.patch
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in ["1.2.3", "v1", "1.2", "1.2.3-beta.1+b", "01.2.3", "1.2.3-0a"] {
            assert!(Version::parse(good).is_some(), "{good}");
        }
        for bad in ["", "a", "1.2.3.4", "1.2.3-", "1.2.3-01", "1.2.beta", " 1.2.3"] {
            assert!(Version::parse(bad).is_none(), "{bad}");
        }
        assert!(Version::parse_strict("1.2.3").is_some());
        assert!(Version::parse_strict("v1.2.3").is_none());
        assert!(Version::parse_strict("1.2").is_none());
        assert!(Version::parse_strict("01.2.3").is_none());
    }

    #[test]
    fn ranges() {
        for (range, version, expected) in [
            ("*", "1.2.3", true),
            ("^1.2", "1.9.0", true),
            ("^1.2", "2.0.0", false),
            ("~1.2.3", "1.2.9", true),
            ("~1.2.3", "1.3.0", false),
            ("1.x.x", "1.5.2", true),
            ("1.2.x", "1.3.0", false),
            (">= 1.2, < 2", "1.9.9", true),
            (">=1.2 <2", "2.0.0", false),
            (">=1.2<2", "1.5.0", false),
            ("1.2 - 1.5", "1.5.9", true),
            ("1.2 - 1.5", "1.6.0", false),
            ("1 || 3", "3.4.5", true),
            (">=1.0.0", "1.1.0-beta", false),
            (">=1.0.0-0", "1.1.0-beta", true),
            (">0.0.0-0", "0.1.0-alpha", true),
            ("^0.2.3", "0.2.9", true),
            ("^0.2.3", "0.3.0", false),
            ("^0.0.3", "0.0.4", false),
            ("!=1.2", "1.2.3", false),
            ("!=1.2", "1.3.0", true),
            (">1", "1.5.0", false),
            (">1", "2.0.0", true),
            ("", "1.0.0", false),
            ("nonsense", "1.0.0", false),
            ("v1.2.3", "1.2.3", true),
            ("1.2.3", "1.2.4", false),
            (">= 1.19.0-0", "v1.34.0", true),
        ] {
            assert_eq!(compatible(range, version), expected, "{range} {version}");
        }
    }

    #[test]
    fn order() {
        let sorted = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.1"];
        for pair in sorted.windows(2) {
            let (a, b) = (Version::parse(pair[0]).unwrap(), Version::parse(pair[1]).unwrap());
            assert_eq!(a.compare(&b), Ordering::Less, "{pair:?}");
        }
    }
}
