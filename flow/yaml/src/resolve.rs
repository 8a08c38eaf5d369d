//! What a plain scalar is: go-yaml's rules, which mix YAML 1.1 and 1.2.

use std::borrow::Cow;

use crate::{Dialect, number};

/// The type and value of a plain scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Resolved {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    /// A date or time; decoded as the text it is.
    Timestamp,
    /// `<<`
    Merge,
    String,
}

impl Resolved {
    /// The short tag.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Bool(_) => "!!bool",
            Self::Int(_) | Self::Uint(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Timestamp => "!!timestamp",
            Self::Merge => "!!merge",
            Self::String => "!!str",
        }
    }
}

/// What the text of a plain scalar is.
pub fn resolve(text: &str, dialect: Dialect) -> Resolved {
    let Some(&first) = text.as_bytes().first() else { return Resolved::Null };
    match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => word(text, dialect),
        b'<' if text == "<<" && dialect == Dialect::V3 => Resolved::Merge,
        b'.' => match text {
            ".nan" | ".NaN" | ".NAN" => Resolved::Float(f64::NAN),
            ".inf" | ".Inf" | ".INF" => Resolved::Float(f64::INFINITY),
            _ => number::decimal(text).map_or(Resolved::String, Resolved::Float),
        },
        b'0'..=b'9' | b'+' | b'-' => numeric(text, dialect),
        _ => Resolved::String,
    }
}

fn word(text: &str, dialect: Dialect) -> Resolved {
    match text {
        "true" | "True" | "TRUE" => Resolved::Bool(true),
        "false" | "False" | "FALSE" => Resolved::Bool(false),
        "~" | "null" | "Null" | "NULL" => Resolved::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" if dialect == Dialect::V2 => Resolved::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" if dialect == Dialect::V2 => Resolved::Bool(false),
        _ => Resolved::String,
    }
}

fn numeric(text: &str, dialect: Dialect) -> Resolved {
    match text {
        "+.inf" | "+.Inf" | "+.INF" => return Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if timestamp(text) {
        return Resolved::Timestamp;
    }
    let plain: Cow<'_, str> = if text.contains('_') { text.replace('_', "").into() } else { text.into() };
    match number::go_int(&plain) {
        Some(Ok(n)) => return Resolved::Int(n),
        Some(Err(n)) => return Resolved::Uint(n),
        None => {}
    }
    if let Some(f) = number::decimal(&plain) {
        return Resolved::Float(f);
    }
    // Signs behind a prefix, which Go reads where a base is given by hand: `0b-1`, `-0o7` is read above already.
    for (prefix, base) in [("0b", 2), ("0o", 8)] {
        if base == 8 && dialect == Dialect::V2 {
            continue;
        }
        if let Some(digits) = plain.strip_prefix(prefix)
            && let Ok(n) = i64::from_str_radix(digits, base)
        {
            return Resolved::Int(n);
        }
    }
    Resolved::String
}

/// `2001-01-01`, `2001-1-1 15:4:5.9`, `2001-1-1T15:4:5Z`: what go-yaml takes for a time.
fn timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || bytes[4] != b'-' || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let mut at = 5;
    let mut number = |least: usize, most: u32, end: &mut usize| -> Option<u32> {
        let digits = bytes[at..].iter().take(2).take_while(|b| b.is_ascii_digit()).count();
        if digits < least {
            return None;
        }
        let n = bytes[at..at + digits].iter().fold(0, |n, b| n * 10 + u32::from(b - b'0'));
        at += digits;
        *end = at;
        // Over the separator, which the caller checks.
        at = (at + 1).min(bytes.len());
        (n <= most).then_some(n)
    };
    let mut end = 5;
    let Some(month) = number(1, 12, &mut end) else { return false };
    if month == 0 || bytes.get(end) != Some(&b'-') {
        return false;
    }
    let Some(day) = number(1, 31, &mut end) else { return false };
    let year = bytes[..4].iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0'));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day == 0 || day > days {
        return false;
    }
    let zone = match bytes.get(end) {
        None => return true,
        Some(b'T' | b't') => true,
        Some(b' ') => false,
        Some(_) => return false,
    };
    for (most, separator) in [(23, Some(b':')), (59, Some(b':')), (59, None)] {
        if number(1, most, &mut end).is_none() {
            return false;
        }
        if separator.is_some() && bytes.get(end).copied() != separator {
            return false;
        }
    }
    if matches!(bytes.get(end), Some(b'.' | b',')) {
        let digits = bytes[end + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        end += 1 + digits;
    }
    match (&bytes[end..], zone) {
        ([], false) | ([b'Z'], true) => true,
        ([b'+' | b'-', a, b, b':', c, d], true) => {
            [a, b, c, d].iter().all(|b| b.is_ascii_digit()) && (*a, *b) <= (b'2', b'4') && *c < b'6'
        }
        _ => false,
    }
}
