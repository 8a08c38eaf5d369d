//! Go's quoted strings: `strconv.Quote` and `strconv.Unquote`.

use std::borrow::Cow;

/// Whether Go prints a character as it is: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // The standard library escapes just the same set inside of a text (not at its start, where marks are escaped too).
    let mut text = String::with_capacity(5);
    text.push('a');
    text.push(c);
    text.escape_debug().nth(1) == Some(c)
}

/// `%q` of a string.
pub fn quote_str(text: &str) -> String {
    quote(text.as_bytes(), false)
}

/// `%q` (or `%+q` with `ascii`) of a string of bytes.
pub fn quote(bytes: &[u8], ascii: bool) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| escape(&mut out, c, '"', ascii));
        chunk.invalid().iter().for_each(|b| out.push_str(&format!("\\x{b:02x}")));
    }
    out.push('"');
    out
}

/// `%q` of a rune.
pub fn quote_rune(c: char, ascii: bool) -> String {
    let mut out = String::from("'");
    escape(&mut out, c, '\'', ascii);
    out.push('\'');
    out
}

fn escape(out: &mut String, c: char, quote: char, ascii: bool) {
    match c {
        c if c == quote || c == '\\' => {
            out.push('\\');
            out.push(c);
        }
        c if is_print(c) && (c.is_ascii() || !ascii) => out.push(c),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if c < ' ' || c == '\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
        c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
        c => out.push_str(&format!("\\U{:08x}", c as u32)),
    }
}

/// Reads a quoted string (`"…"` or `` `…` ``); `None` stands for Go's `invalid syntax`.
pub fn unquote(quoted: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (first, rest) = quoted.split_first()?;
    let (last, inner) = rest.split_last()?;
    if first != last {
        return None;
    }
    match first {
        b'"' if memchr::memchr3(b'"', b'\\', b'\n', inner).is_none() && std::str::from_utf8(inner).is_ok() => {
            Some(inner.into())
        }
        b'`' if memchr::memchr(b'\r', inner).is_none() => Some(inner.into()),
        b'`' => Some(inner.iter().copied().filter(|b| *b != b'\r').collect::<Vec<_>>().into()),
        b'"' => {
            let mut out = Vec::with_capacity(inner.len());
            let mut rest = inner;
            while !rest.is_empty() {
                if rest[0] == b'"' || rest[0] == b'\n' {
                    return None;
                }
                let (unit, after) = unit(rest, b'"')?;
                match unit {
                    Unit::Byte(b) => out.push(b),
                    Unit::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
                rest = after;
            }
            Some(out.into())
        }
        _ => None,
    }
}

/// One character or byte of a quoted text.
pub enum Unit {
    /// Written as itself, or as `\x41` and `\101`.
    Byte(u8),
    /// Written as itself, or as `\n` and `\u0041`.
    Char(char),
}

/// Reads one character of a text that `quote` ends.
pub fn unit(text: &[u8], quote: u8) -> Option<(Unit, &[u8])> {
    let first = *text.first()?;
    if first != b'\\' {
        if first < 0x80 {
            return Some((Unit::Char(first as char), &text[1..]));
        }
        let head = &text[..text.len().min(4)];
        let valid = head.utf8_chunks().next()?.valid().chars().next();
        return Some(match valid {
            Some(c) => (Unit::Char(c), &text[c.len_utf8()..]),
            None => (Unit::Byte(first), &text[1..]),
        });
    }
    let kind = *text.get(1)?;
    let rest = &text[2..];
    let simple = |c| Some((Unit::Char(c), rest));
    match kind {
        b'a' => simple('\x07'),
        b'b' => simple('\x08'),
        b'f' => simple('\x0c'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'v' => simple('\x0b'),
        b'\\' => simple('\\'),
        b'\'' | b'"' if kind == quote => simple(kind as char),
        b'x' | b'u' | b'U' => {
            let digits = match kind {
                b'x' => 2,
                b'u' => 4,
                _ => 8,
            };
            let hex = std::str::from_utf8(rest.get(..digits)?).ok()?;
            if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let number = u32::from_str_radix(hex, 16).ok()?;
            let rest = &rest[digits..];
            Some((
                match kind {
                    b'x' => Unit::Byte(number as u8),
                    _ => Unit::Char(char::from_u32(number)?),
                },
                rest,
            ))
        }
        b'0'..=b'7' => {
            let digits = text.get(1..4)?;
            if !digits.iter().all(|b| (b'0'..=b'7').contains(b)) {
                return None;
            }
            let number = digits.iter().fold(0u32, |n, b| n * 8 + u32::from(b - b'0'));
            Some((Unit::Byte(u8::try_from(number).ok()?), &text[4..]))
        }
        _ => None,
    }
}
