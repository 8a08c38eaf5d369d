//! Numbers: how Go reads and prints them.

/// A number as written in a template, in every type that it fits.
#[derive(Clone, Debug, Default)]
pub struct Number {
    pub text: Box<str>,
    pub int: Option<i64>,
    pub uint: Option<u64>,
    pub float: Option<f64>,
    pub complex: Option<(f64, f64)>,
}

impl Number {
    /// A character constant, with its quotes.
    pub fn from_char(text: &str) -> Result<Self, String> {
        use crate::quote::{Unit, unit};
        let bytes = text.as_bytes();
        let invalid = || "invalid syntax".to_owned();
        if bytes.get(1) == Some(&b'\'') {
            return Err(invalid());
        }
        let (unit, rest) = unit(&bytes[1..], b'\'').ok_or_else(invalid)?;
        if rest != b"'" {
            return Err(format!("malformed character constant: {text}"));
        }
        let code = match unit {
            Unit::Byte(b) => u32::from(b),
            Unit::Char(c) => c as u32,
        };
        Ok(Self {
            text: text.into(),
            int: Some(i64::from(code)),
            uint: Some(u64::from(code)),
            float: Some(f64::from(code)),
            complex: None,
        })
    }

    /// Any other number.
    pub fn parse(text: &str, complex: bool) -> Result<Self, String> {
        let mut number = Self { text: text.into(), ..Self::default() };
        // As nearly all are written.
        if text.len() <= 9
            && !text.starts_with('0')
            && text.bytes().all(|b| b.is_ascii_digit())
            && let Ok(n) = text.parse::<u32>()
        {
            number.int = Some(i64::from(n));
            number.uint = Some(u64::from(n));
            number.float = Some(f64::from(n));
            return Ok(number);
        }
        if complex {
            let cut = text[1..text.len() - 1].rfind(['+', '-']).map(|at| at + 1);
            // The sign of an exponent is not the one between the parts.
            let cut = cut.map(|at| match text.as_bytes()[at - 1] {
                b'e' | b'E' | b'p' | b'P' => text[1..at - 1].rfind(['+', '-']).map_or(at, |b| b + 1),
                _ => at,
            });
            let parts = cut.and_then(|at| Some((parse_float(&text[..at])?, parse_float(&text[at..text.len() - 1])?)));
            let Some((re, im)) = parts else {
                return Err("syntax error scanning complex number".to_owned());
            };
            number.set_complex(re, im);
            return Ok(number);
        }
        if let Some(im) = text.strip_suffix('i').and_then(parse_float) {
            number.set_complex(0.0, im);
            return Ok(number);
        }
        number.uint = parse_uint(text, 0).ok();
        number.int = parse_int(text, 0).ok();
        if number.int == Some(0) {
            number.uint = Some(0);
        }
        if let Some(n) = number.int {
            number.float = Some(n as f64);
        } else if let Some(n) = number.uint {
            number.float = Some(n as f64);
        } else if let Some(f) = parse_float(text) {
            if !text.contains(['.', 'e', 'E', 'p', 'P']) {
                return Err(format!("integer overflow: {}", crate::quote::quote_str(text)));
            }
            number.float = Some(f);
            number.int = whole(f);
            number.uint = ((0.0..18446744073709551616.0).contains(&f) && f.trunc() == f).then_some(f as u64);
        } else {
            return Err(format!("illegal number syntax: {}", crate::quote::quote_str(text)));
        }
        Ok(number)
    }

    fn set_complex(&mut self, re: f64, im: f64) {
        self.complex = Some((re, im));
        if im == 0.0 {
            self.float = Some(re);
            self.int = whole(re);
            self.uint = (re >= 0.0 && re.trunc() == re).then_some(re as u64);
        }
    }
}

fn whole(f: f64) -> Option<i64> {
    (f.trunc() == f && (-9223372036854775808.0..9223372036854775808.0).contains(&f)).then_some(f as i64)
}

/// What is wrong with an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is not one.
    Syntax,
    /// It does not fit; this is the nearest that does.
    Range(i64),
}

/// `strconv.ParseInt` with 64 bits.
pub fn parse_int(text: &str, base: u32) -> Result<i64, Wrong> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    match parse_uint(digits, base) {
        Ok(n) if negative && n <= 1 << 63 => Ok((n as i64).wrapping_neg()),
        Ok(n) if !negative && n < 1 << 63 => Ok(n as i64),
        Ok(_) | Err(Wrong::Range(_)) => Err(Wrong::Range(if negative { i64::MIN } else { i64::MAX })),
        Err(Wrong::Syntax) => Err(Wrong::Syntax),
    }
}

/// `strconv.ParseUint` with 64 bits; with base 0 the prefix decides, and underscores may stand between digits.
pub fn parse_uint(text: &str, base: u32) -> Result<u64, Wrong> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match (base, lower.as_bytes()) {
        (0, [b'0', b'x', ..]) => (&lower[2..], 16),
        (0, [b'0', b'o', ..]) => (&lower[2..], 8),
        (0, [b'0', b'b', ..]) => (&lower[2..], 2),
        (0, [b'0', ..]) => (&lower[1..], 8),
        (0, _) => (lower.as_str(), 10),
        (base, _) => (lower.as_str(), base),
    };
    if base == 0 && lower.contains('_') && !underscores_ok(&lower) {
        return Err(Wrong::Syntax);
    }
    let digits = if base == 0 { digits.replace('_', "") } else { digits.to_owned() };
    if digits.is_empty() {
        // "0" alone was taken for an octal prefix.
        return if base == 0 && lower == "0" { Ok(0) } else { Err(Wrong::Syntax) };
    }
    let mut n: u64 = 0;
    let mut over = false;
    for c in digits.chars() {
        let digit = c.to_digit(radix).ok_or(Wrong::Syntax)?;
        match n.checked_mul(u64::from(radix)).and_then(|n| n.checked_add(u64::from(digit))) {
            Some(next) => n = next,
            None => over = true,
        }
    }
    if over { Err(Wrong::Range(i64::MAX)) } else { Ok(n) }
}

/// An underscore stands between digits, or between a base prefix and digits.
fn underscores_ok(lower: &str) -> bool {
    let bytes = lower.as_bytes();
    let body = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let prefixed = bytes.len() >= body + 2 && bytes[body] == b'0' && matches!(bytes[body + 1], b'x' | b'o' | b'b');
    let start = if prefixed { body + 2 } else { body };
    let hex = prefixed && bytes[body + 1] == b'x';
    let digit = |b: u8| b.is_ascii_digit() || (hex && b.is_ascii_hexdigit());
    let mut last = if prefixed { b'0' } else { b'^' };
    for &b in &bytes[start..] {
        let kind = if digit(b) {
            b'0'
        } else if b == b'_' {
            if last != b'0' {
                return false;
            }
            b'_'
        } else {
            if last == b'_' {
                return false;
            }
            b'!'
        };
        last = kind;
    }
    last != b'_'
}

/// `strconv.ParseFloat`, without a range error: too large is `None`.
pub fn parse_float(text: &str) -> Option<f64> {
    parse_float_full(text).ok()
}

/// `strconv.ParseFloat`: the value, or what is wrong (`true`: it is out of range).
pub fn parse_float_full(text: &str) -> Result<f64, bool> {
    let lower = text.to_ascii_lowercase();
    let (sign, body) = match lower.as_bytes().first() {
        Some(b'-') => (-1.0, &lower[1..]),
        Some(b'+') => (1.0, &lower[1..]),
        _ => (1.0, lower.as_str()),
    };
    match body {
        "inf" | "infinity" => return Ok(sign * f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    if let Some(hex) = body.strip_prefix("0x") {
        if body.contains('_') && !underscores_ok(&lower) {
            return Err(false);
        }
        return hex_float(&hex.replace('_', "")).map(|f| sign * f).ok_or(false);
    }
    // Underscores are for base prefixes only, as base 10 is fixed here.
    if body.contains('_') || !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(false);
    }
    let value: f64 = body.parse().map_err(|_| false)?;
    if value.is_infinite() { Err(true) } else { Ok(sign * value) }
}

fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0f64;
    for c in whole.chars() {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let mut scale = 1.0 / 16.0;
    for c in fraction.chars() {
        value += f64::from(c.to_digit(16)?) * scale;
        scale /= 16.0;
    }
    Some(value * 2f64.powi(exponent.clamp(-2000, 2000)))
}

/// The shortest digits of a finite, positive number and the position of the point: `0.digits × 10^point`.
pub fn shortest(f: f64) -> (String, i32) {
    let text = format!("{f:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if f == 0.0 { (String::new(), 0) } else { (digits.trim_end_matches('0').to_owned(), exponent + 1) }
}

/// `strconv.FormatFloat` for `e`, `f`, `g` (and upper case); precision -1 is the shortest that reads back the same.
pub fn format_float(f: f64, verb: char, precision: Option<usize>) -> String {
    if f.is_nan() {
        return "NaN".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let sign = if f.is_sign_negative() { "-" } else { "" };
    let f = f.abs();
    let body = match verb.to_ascii_lowercase() {
        'e' => scientific(f, precision),
        'f' => match precision {
            Some(p) => format!("{f:.p$}"),
            None => format!("{f}"),
        },
        'b' => {
            let bits = f.to_bits();
            let (mantissa, exponent) = match (bits >> 52) & 0x7ff {
                0 => (bits & ((1 << 52) - 1), 1),
                e => ((bits & ((1 << 52) - 1)) | 1 << 52, e as i64),
            };
            format!("{mantissa}p{:+}", exponent - 1075)
        }
        'x' => hexadecimal(f, precision),
        _ => general(f, precision, 6),
    };
    let body = if verb.is_ascii_uppercase() { body.to_ascii_uppercase() } else { body };
    format!("{sign}{body}")
}

fn scientific(f: f64, precision: Option<usize>) -> String {
    let text = match precision {
        Some(p) => format!("{f:.p$e}"),
        None => format!("{f:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%g`; the shortest form turns to an exponent at `turn` digits.
pub fn general(f: f64, precision: Option<usize>, turn: i32) -> String {
    let precise = precision.map(|p| p.max(1));
    let text = match precise {
        Some(p) => format!("{f:.*e}", p - 1),
        None => format!("{f:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let limit = match precise {
        None => turn,
        Some(p) => {
            let p = p as i32;
            if p > digits.len() as i32 && digits.len() as i32 > exponent { digits.len() as i32 } else { p }
        }
    };
    if exponent < -4 || exponent >= limit {
        let (head, tail) = digits.split_at(1);
        let point = if tail.is_empty() { "" } else { "." };
        return format!("{head}{point}{tail}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    if exponent < 0 {
        return format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        format!("{digits}{}", "0".repeat(whole - digits.len()))
    } else {
        format!("{}.{}", &digits[..whole], &digits[whole..])
    }
}

fn hexadecimal(f: f64, precision: Option<usize>) -> String {
    if f == 0.0 {
        let zeros = precision.filter(|p| *p > 0).map_or(String::new(), |p| format!(".{}", "0".repeat(p)));
        return format!("0x0{zeros}p+00");
    }
    let bits = f.to_bits();
    let raw = ((bits >> 52) & 0x7ff) as i64;
    let mut mantissa = bits & ((1 << 52) - 1);
    let mut exponent = raw - 1023;
    if raw == 0 {
        let shift = mantissa.leading_zeros() - 11;
        mantissa <<= shift;
        exponent = -1022 - i64::from(shift);
    }
    let mut mantissa = mantissa | 1 << 52;
    if let Some(p) = precision.filter(|p| *p < 13) {
        let drop = 52 - 4 * p as u32;
        let half = 1u64 << (drop - 1);
        let odd = (mantissa >> drop) & 1;
        mantissa = (mantissa + half - 1 + odd) >> drop << drop;
        if mantissa >> 53 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let digits = format!("{:013x}", mantissa & ((1 << 52) - 1));
    let digits = match precision {
        Some(p) if p <= 13 => digits[..p].to_owned(),
        Some(p) => format!("{digits}{}", "0".repeat(p - 13)),
        None => digits.trim_end_matches('0').to_owned(),
    };
    let point = if digits.is_empty() { "" } else { "." };
    format!("0x1{point}{digits}p{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
