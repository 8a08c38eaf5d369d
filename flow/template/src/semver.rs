//! Semantic versions and constraints as Masterminds' Go library has them, which Helm uses.

use std::{cmp::Ordering, fmt};

const WRONG: &str = "invalid semantic version";

/// A version; minor and patch may be left out when it is read.
#[derive(Clone, Debug)]
pub struct Version {
    /// The first number.
    pub major: u64,
    /// The second number.
    pub minor: u64,
    /// The third number.
    pub patch: u64,
    /// What is behind `-`.
    pub pre: String,
    /// What is behind `+`.
    pub metadata: String,
    /// As it was read.
    pub original: String,
}

impl Version {
    /// Reads a version such as `v1.2` or `1.2.3-rc.1+build`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > 256 {
            return Err("version string is too long (max 256 bytes)".to_owned());
        }
        Self::read(text).ok_or_else(|| WRONG.to_owned())
    }

    fn read(text: &str) -> Option<Self> {
        let body = text.strip_prefix('v').unwrap_or(text);
        let (body, metadata) = body.split_once('+').map_or((body, None), |(a, b)| (a, Some(b)));
        let (body, pre) = body.split_once('-').map_or((body, None), |(a, b)| (a, Some(b)));
        let mut numbers = [0u64; 3];
        let parts: Vec<&str> = body.split('.').collect();
        if parts.len() > 3 {
            return None;
        }
        for (number, part) in numbers.iter_mut().zip(&parts) {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if !digits || part.len() > 1 && part.starts_with('0') {
                return None;
            }
            *number = part.parse().ok()?;
        }
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let zero = |part: &str| part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit());
        if pre.is_some_and(|pre| !pre.split('.').all(|p| word(p) && !zero(p)))
            || metadata.is_some_and(|metadata| !metadata.split('.').all(word))
        {
            return None;
        }
        Some(Self {
            major: numbers[0],
            minor: numbers[1],
            patch: numbers[2],
            pre: pre.unwrap_or_default().to_owned(),
            metadata: metadata.unwrap_or_default().to_owned(),
            original: text.to_owned(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Without metadata, as the standard has it.
impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.patch)
            .cmp(&(other.major, other.minor, other.patch))
            .then_with(|| compare_pre(&self.pre, &other.pre))
    }
}

fn compare_pre(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        _ => {}
    }
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match (x.parse::<u64>(), y.parse::<u64>()) {
                (Ok(x), Ok(y)) => x.cmp(&y),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => x.cmp(y),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Constraints: groups of which one must hold; in a group all must.
#[derive(Clone, Debug)]
pub struct Constraints {
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    all: Vec<Constraint>,
    /// Prereleases are looked at only if one is named.
    pre: bool,
}

#[derive(Clone, Debug)]
struct Constraint {
    op: String,
    version: Version,
    minor_open: bool,
    open: bool,
    patch_open: bool,
}

/// A version in a constraint as far as it is one: its text, its three parts, its prerelease.
struct Loose<'t> {
    text: &'t str,
    parts: [&'t str; 3],
    pre: &'t str,
}

impl<'t> Loose<'t> {
    /// Reads as much as belongs to a version off the front.
    fn read(text: &'t str) -> Option<Self> {
        let part = |from: usize| {
            let rest = &text[from..];
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || "|xX*".contains(c)).len()
        };
        let mut at = usize::from(text.starts_with('v'));
        let first = part(at);
        if first == 0 {
            return None;
        }
        let mut parts = [&text[at..at + first], "", ""];
        at += first;
        for slot in parts.iter_mut().skip(1) {
            if !text[at..].starts_with('.') {
                break;
            }
            let length = part(at + 1);
            if length == 0 {
                break;
            }
            *slot = &text[at + 1..at + 1 + length];
            at += 1 + length;
        }
        let tail = |from: usize, mark: char| {
            let rest = text[from..].strip_prefix(mark)?;
            let mut end = 0;
            loop {
                let word = rest[end..].len()
                    - rest[end..].trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-').len();
                if word == 0 {
                    return if end == 0 { None } else { Some(end) };
                }
                end += word;
                let next = rest[end..].strip_prefix('.');
                match next.and_then(|n| n.chars().next()) {
                    Some(c) if c.is_ascii_alphanumeric() || c == '-' => end += 1,
                    _ => return Some(end + 1),
                }
            }
        };
        let mut pre = "";
        if let Some(length) = tail(at, '-') {
            pre = &text[at..at + length];
            at += length;
        }
        if let Some(length) = tail(at, '+') {
            at += length;
        }
        Some(Self { text: &text[..at], parts, pre })
    }
}

impl Constraints {
    /// Reads constraints such as `>= 1.2, < 2 || ^3.x`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > 512 {
            return Err("constraint string is too long (max 512 bytes)".to_owned());
        }
        let text = without_ranges(text);
        let parts: Vec<&str> = text.split("||").collect();
        if parts.len() > 32 {
            return Err("too many constraint groups (max 32)".to_owned());
        }
        let groups: Result<Vec<Group>, String> = parts.into_iter().map(group).collect();
        Ok(Self { groups: groups? })
    }

    /// Whether a version fits.
    pub fn check(&self, version: &Version) -> bool {
        self.groups.iter().any(|group| {
            (version.pre.is_empty() || group.pre) && group.all.iter().all(|constraint| constraint.holds(version))
        })
    }
}

/// `1.2 - 1.4` is `>= 1.2, <= 1.4`.
fn without_ranges(text: &str) -> String {
    let mut out = text.to_owned();
    let mut from = 0;
    while let Some(at) = out[from..].find(" - ").map(|at| at + from) {
        let head = out[..at].trim_end();
        let start = head.rfind(|c: char| c.is_whitespace() || c == ',' || c == '|').map_or(0, |b| b + 1);
        let after = out[at + 3..].trim_start();
        let low = head[start..].to_owned();
        let whole = Loose::read(&low).is_some_and(|l| l.text == low);
        match Loose::read(after) {
            Some(high) if whole => {
                let end = out.len() - after.len() + high.text.len();
                let new = format!(">= {low}, <= {} ", high.text);
                from = start + new.len();
                let tail = out[end..].trim_start().to_owned();
                out = format!("{}{new}{tail}", out[..start].trim_end());
                from = from.min(out.len());
            }
            _ => from = at + 3,
        }
        while !out.is_char_boundary(from) {
            from += 1;
        }
    }
    out
}

fn group(text: &str) -> Result<Group, String> {
    let improper = || format!("improper constraint: {}", crate::quote::quote_str(text));
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let op = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"]
            .into_iter()
            .find(|op| rest.starts_with(op))
            .unwrap_or_default();
        rest = rest[op.len()..].trim_start();
        let loose = Loose::read(rest).ok_or_else(improper)?;
        rest = &rest[loose.text.len()..];
        all.push(constraint(op, &loose)?);
        let next = rest.trim_start();
        if next.is_empty() {
            break;
        }
        match next.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if next.len() < rest.len() => rest = next,
            None => return Err(improper()),
        }
    }
    let pre = all.iter().any(|c| !c.version.pre.is_empty());
    Ok(Group { all, pre })
}

fn constraint(op: &str, loose: &Loose<'_>) -> Result<Constraint, String> {
    let any = |part: &str| matches!(part, "x" | "X" | "*");
    let open = |part: &str| part.is_empty() || any(part);
    let (text, minor_open, patch_open, dirty) = match loose.parts {
        [major, ..] if any(major) => (format!("0.0.0{}", loose.pre), false, false, true),
        [major, minor, _] if open(minor) => (format!("{major}.0.0{}", loose.pre), true, false, true),
        [major, minor, patch] if open(patch) => (format!("{major}.{minor}.0{}", loose.pre), false, true, true),
        _ => (loose.text.to_owned(), false, false, false),
    };
    let version = Version::parse(&text).map_err(|_| "constraint parser error".to_owned())?;
    Ok(Constraint { op: op.to_owned(), version, minor_open, open: dirty, patch_open })
}

impl Constraint {
    fn holds(&self, v: &Version) -> bool {
        let c = &self.version;
        match self.op.as_str() {
            "" | "=" if self.open => self.tilde(v),
            "" | "=" => v == c,
            "!=" if self.open => {
                if c.major != v.major || c.minor != v.minor && !self.minor_open {
                    true
                } else if self.minor_open {
                    false
                } else if c.patch != v.patch && !self.patch_open {
                    true
                } else if self.patch_open {
                    (!v.pre.is_empty() || !c.pre.is_empty()) && compare_pre(&v.pre, &c.pre) != Ordering::Equal
                } else {
                    v != c
                }
            }
            "!=" => v != c,
            ">" if !self.open => v > c,
            ">" => match v.major.cmp(&c.major) {
                Ordering::Greater => true,
                Ordering::Less => false,
                Ordering::Equal if self.minor_open => false,
                Ordering::Equal if self.patch_open => v.minor > c.minor,
                Ordering::Equal => v > c,
            },
            "<" => v < c,
            ">=" | "=>" => v >= c,
            "<=" | "=<" if !self.open => v <= c,
            "<=" | "=<" => !(v.major > c.major || v.major == c.major && v.minor > c.minor && !self.minor_open),
            "~" | "~>" => self.tilde(v),
            _ => self.caret(v),
        }
    }

    fn tilde(&self, v: &Version) -> bool {
        let c = &self.version;
        if v < c {
            return false;
        }
        if (c.major, c.minor, c.patch) == (0, 0, 0) && !self.minor_open && !self.patch_open {
            return true;
        }
        v.major == c.major && (v.minor == c.minor || self.minor_open)
    }

    fn caret(&self, v: &Version) -> bool {
        let c = &self.version;
        if v < c {
            return false;
        }
        if c.major > 0 || self.minor_open {
            return v.major == c.major;
        }
        if v.major > 0 {
            return false;
        }
        if c.minor > 0 || self.patch_open {
            return v.minor == c.minor;
        }
        v.minor == 0 && c.patch == v.patch
    }
}
