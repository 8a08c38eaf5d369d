//! Strings.

use super::{Fail, Function, Outcome, bytes, cast, fixed, int, open, out_of_range, string};
use crate::{
    render::Session,
    value::{Map, MapType, Param, Text, Value},
};

use Param::{Any, Int, Str};

pub const TABLE: &[Function] = &[
    fixed("abbrev", &[Int, Str], |_, v| Ok(abbreviate(bytes(v, 1), 0, int(v, 0), int(v, 0) < 4))),
    fixed("abbrevboth", &[Int, Int, Str], |_, v| {
        let (left, right) = (int(v, 0), int(v, 1));
        Ok(abbreviate(bytes(v, 2), left, right, right < 4 || left > 0 && right < 7))
    }),
    fixed("trunc", &[Int, Str], |_, v| {
        let (count, text) = (int(v, 0), bytes(v, 1));
        let length = text.len() as i64;
        Ok(Value::str(match count {
            c if c < 0 && length.saturating_add(c) > 0 => &text[(length + c) as usize..],
            c if c >= 0 && length > c => &text[..c as usize],
            _ => text,
        }))
    }),
    fixed("trim", &[Str], |_, v| Ok(Value::str(string(v, 0).trim()))),
    fixed("upper", &[Str], |_, v| Ok(Value::str(string(v, 0).chars().map(upper).collect::<String>()))),
    fixed("lower", &[Str], |_, v| Ok(Value::str(string(v, 0).chars().map(lower).collect::<String>()))),
    fixed("title", &[Str], |_, v| Ok(Value::str(title(&string(v, 0))))),
    fixed("untitle", &[Str], |_, v| Ok(Value::str(untitle(&string(v, 0))))),
    fixed("substr", &[Int, Int, Str], substr),
    fixed("repeat", &[Int, Str], repeat),
    fixed("trimall", &[Str, Str], trim_all),
    fixed("trimAll", &[Str, Str], trim_all),
    fixed("trimSuffix", &[Str, Str], |_, v| {
        Ok(Value::str(bytes(v, 1).strip_suffix(bytes(v, 0)).unwrap_or(bytes(v, 1))))
    }),
    fixed("trimPrefix", &[Str, Str], |_, v| {
        Ok(Value::str(bytes(v, 1).strip_prefix(bytes(v, 0)).unwrap_or(bytes(v, 1))))
    }),
    fixed("nospace", &[Str], |_, v| Ok(Value::str(nospace(bytes(v, 0))))),
    fixed("initials", &[Str], |_, v| Ok(Value::str(initials(bytes(v, 0))))),
    fixed("swapcase", &[Str], |_, v| Ok(Value::str(swapcase(&string(v, 0))))),
    fixed("snakecase", &[Str], |_, v| Ok(Value::str(super::super::words::separated(&string(v, 0), '_')))),
    fixed("kebabcase", &[Str], |_, v| Ok(Value::str(super::super::words::separated(&string(v, 0), '-')))),
    fixed("camelcase", &[Str], |_, v| Ok(Value::str(super::super::words::pascal(&string(v, 0))))),
    fixed("wrap", &[Int, Str], |s, v| wrap(s, bytes(v, 1), int(v, 0), b"\n", false)),
    fixed("wrapWith", &[Int, Str, Str], |s, v| {
        let separator = if bytes(v, 1).is_empty() { b"\n" } else { bytes(v, 1) };
        wrap(s, bytes(v, 2), int(v, 0), separator, true)
    }),
    fixed("contains", &[Str, Str], |_, v| Ok(Value::Bool(find(bytes(v, 1), bytes(v, 0)).is_some()))),
    fixed("hasPrefix", &[Str, Str], |_, v| Ok(Value::Bool(bytes(v, 1).starts_with(bytes(v, 0))))),
    fixed("hasSuffix", &[Str, Str], |_, v| Ok(Value::Bool(bytes(v, 1).ends_with(bytes(v, 0))))),
    open("quote", &[], Any, |_, v| {
        let quoted: Vec<String> = present(v).map(|v| crate::quote::quote(cast::text(v).as_bytes(), false)).collect();
        Ok(Value::str(quoted.join(" ")))
    }),
    open("squote", &[], Any, |_, v| {
        let quoted =
            present(v).map(|v| [b"'", crate::printf::sprint(std::slice::from_ref(v)).as_bytes(), b"'"].concat());
        Ok(Value::str(quoted.collect::<Vec<_>>().join(&b' ')))
    }),
    open("cat", &[], Any, |_, v| {
        let texts: Vec<Text> = present(v).map(|v| crate::printf::sprint(std::slice::from_ref(v))).collect();
        Ok(Value::str(texts.iter().map(Text::as_bytes).collect::<Vec<_>>().join(&b' ')))
    }),
    fixed("indent", &[Int, Str], |s, v| indent(s, v, false)),
    fixed("nindent", &[Int, Str], |s, v| indent(s, v, true)),
    fixed("replace", &[Str, Str, Str], replace),
    fixed("plural", &[Str, Str, Int], |_, v| Ok(v[usize::from(int(v, 2) != 1)].clone())),
    fixed("toString", &[Any], |_, v| Ok(Value::Str(cast::text(&v[0])))),
    fixed("toStrings", &[Any], |_, v| Ok(Value::strings(cast::strings(&v[0])))),
    fixed("join", &[Str, Any], |s, v| {
        let texts = cast::strings(&v[1]);
        s.room(texts.iter().map(|t| t.len() + bytes(v, 0).len()).sum())?;
        Ok(Value::str(texts.iter().map(Text::as_bytes).collect::<Vec<_>>().join(bytes(v, 0))))
    }),
    fixed("split", &[Str, Str], |s, v| Ok(numbered(&split(s, bytes(v, 1), bytes(v, 0), -1)?))),
    fixed("splitn", &[Str, Int, Str], |s, v| Ok(numbered(&split(s, bytes(v, 2), bytes(v, 0), int(v, 1))?))),
    fixed("splitList", &[Str, Str], |s, v| Ok(Value::strings(split(s, bytes(v, 1), bytes(v, 0), -1)?))),
];

fn present(values: &[Value]) -> impl Iterator<Item = &Value> {
    values.iter().filter(|v| !v.is_nil())
}

pub fn upper(c: char) -> char {
    let mut all = c.to_uppercase();
    match (all.next(), all.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

pub fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// The first place of a needle.
pub fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    memchr::memmem::find(text, needle)
}

fn abbreviate(text: &[u8], offset: i64, width: i64, too_narrow: bool) -> Value {
    if too_narrow || text.len() as i64 <= width {
        return Value::str(text);
    }
    Value::str(shortened(text, offset, width))
}

fn shortened(text: &[u8], offset: i64, width: i64) -> Vec<u8> {
    let length = text.len() as i64;
    if width < 4 {
        return Vec::new();
    }
    if length <= width {
        return text.to_vec();
    }
    let mut offset = offset.min(length);
    if length - offset < width - 3 {
        offset = length - (width - 3);
    }
    if offset <= 4 {
        return [&text[..(width - 3) as usize], b"..."].concat();
    }
    if width < 7 {
        return Vec::new();
    }
    if offset + width - 3 < length {
        return [b"...".to_vec(), shortened(&text[offset as usize..], 0, width - 3)].concat();
    }
    [b"...", &text[(length - (width - 3)) as usize..]].concat()
}

fn title(text: &str) -> String {
    let mut previous = ' ';
    text.chars()
        .map(|c| {
            let separator = match previous {
                p if p.is_ascii() => !(p.is_ascii_alphanumeric() || p == '_'),
                p if p.is_alphanumeric() => false,
                p => p.is_whitespace(),
            };
            previous = c;
            if separator { upper(c) } else { c }
        })
        .collect()
}

fn untitle(text: &str) -> String {
    let mut next = true;
    text.chars()
        .map(|c| {
            if c.is_whitespace() {
                next = true;
                c
            } else if std::mem::take(&mut next) {
                lower(c)
            } else {
                c
            }
        })
        .collect()
}

fn swapcase(text: &str) -> String {
    let mut gap = true;
    text.chars()
        .map(|c| {
            if c.is_uppercase() {
                gap = false;
                lower(c)
            } else if c.is_lowercase() {
                gap = false;
                upper(c)
            } else {
                gap = c.is_whitespace();
                c
            }
        })
        .collect()
}

fn substr(_: &mut Session<'_>, v: &[Value]) -> Outcome {
    let (start, end, text) = (int(v, 0), int(v, 1), bytes(v, 2));
    let length = text.len() as i64;
    if start < 0 {
        return match usize::try_from(end) {
            Ok(end) if end <= text.len() => Ok(Value::str(&text[..end])),
            Ok(end) => Err(out_of_range(end as i64, text.len())),
            Err(_) => Err(Fail::Message(format!("runtime error: slice bounds out of range [:{end}]"))),
        };
    }
    let end = if end < 0 || end > length { length } else { end };
    if start > end {
        return Err(Fail::Message(format!("runtime error: slice bounds out of range [{start}:{end}]")));
    }
    Ok(Value::str(&text[start as usize..end as usize]))
}

fn repeat(session: &mut Session<'_>, v: &[Value]) -> Outcome {
    let count = usize::try_from(int(v, 0)).map_err(|_| Fail::from("strings: negative Repeat count"))?;
    session.room(bytes(v, 1).len().saturating_mul(count))?;
    Ok(Value::str(bytes(v, 1).repeat(count)))
}

fn trim_all(_: &mut Session<'_>, v: &[Value]) -> Outcome {
    let (cut, text) = (string(v, 0), string(v, 1));
    Ok(Value::str(text.trim_matches(|c| cut.contains(c))))
}

/// White space by byte, as these functions see it.
fn space(b: u8) -> bool {
    matches!(b, b'\t'..=b'\r' | b' ' | 0x85 | 0xa0)
}

fn nospace(text: &[u8]) -> Vec<u8> {
    if !text.iter().any(|b| space(*b)) {
        return text.to_vec();
    }
    let kept: String = text.iter().filter(|b| !space(**b)).map(|b| char::from(*b)).collect();
    kept.into_bytes()
}

fn initials(text: &[u8]) -> String {
    let mut gap = true;
    let mut out = String::new();
    for b in text {
        if space(*b) {
            gap = true;
        } else if std::mem::take(&mut gap) {
            out.push(char::from(*b));
        }
    }
    out
}

fn wrap(session: &mut Session<'_>, text: &[u8], width: i64, separator: &[u8], long_words: bool) -> Outcome {
    let width = width.max(1) as usize;
    session.room(text.len().saturating_add((text.len() / width).saturating_mul(separator.len())))?;
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while text.len() - at > width {
        if text[at] == b' ' {
            at += 1;
            continue;
        }
        let end = (width + at + 1).min(text.len());
        if let Some(n) = text[at..end].iter().rposition(|b| *b == b' ') {
            out.extend_from_slice(&text[at..at + n]);
            out.extend_from_slice(separator);
            at += n + 1;
        } else if long_words {
            out.extend_from_slice(&text[at..at + width]);
            out.extend_from_slice(separator);
            at += width;
        } else if let Some(n) = text[at + width..].iter().position(|b| *b == b' ') {
            out.extend_from_slice(&text[at..at + width + n]);
            out.extend_from_slice(separator);
            at += width + n + 1;
        } else {
            out.extend_from_slice(&text[at..]);
            at = text.len();
        }
    }
    out.extend_from_slice(&text[at..]);
    Ok(Value::str(out))
}

fn indent(session: &mut Session<'_>, v: &[Value], newline: bool) -> Outcome {
    let count = usize::try_from(int(v, 0)).map_err(|_| Fail::from("strings: negative Repeat count"))?;
    let text = bytes(v, 1);
    let lines = memchr::memchr_iter(b'\n', text).count() + 1;
    let size = text.len().saturating_add(lines.saturating_mul(count)).saturating_add(1);
    session.room(size)?;
    let pad = vec![b' '; count];
    let mut out = Vec::with_capacity(size);
    if newline {
        out.push(b'\n');
    }
    for (i, line) in text.split(|b| *b == b'\n').enumerate() {
        if i > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(&pad);
        out.extend_from_slice(line);
    }
    Ok(Value::str(out))
}

fn replace(session: &mut Session<'_>, v: &[Value]) -> Outcome {
    let (old, new, text) = (bytes(v, 0), bytes(v, 1), bytes(v, 2));
    if old.is_empty() {
        let text = string(v, 2);
        session.room(text.len().saturating_add((text.len() + 1).saturating_mul(new.len())))?;
        let mut out = new.to_vec();
        for c in text.chars() {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            out.extend_from_slice(new);
        }
        return Ok(Value::str(out));
    }
    let hits: Vec<usize> = memchr::memmem::find_iter(text, old).collect();
    if hits.is_empty() {
        return Ok(v[2].clone());
    }
    session.room(text.len().saturating_add(hits.len().saturating_mul(new.len())))?;
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for hit in hits {
        out.extend_from_slice(&text[at..hit]);
        out.extend_from_slice(new);
        at = hit + old.len();
    }
    out.extend_from_slice(&text[at..]);
    Ok(Value::str(out))
}

/// `strings.SplitN`: by characters if the separator is empty, all if `most` is negative.
fn split(session: &mut Session<'_>, text: &[u8], separator: &[u8], most: i64) -> Result<Vec<Text>, Fail> {
    session.charge(text.len() as u64 / 16)?;
    if most == 0 {
        return Ok(Vec::new());
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut parts: Vec<Text> = Vec::new();
    let mut rest = text;
    if separator.is_empty() {
        while !rest.is_empty() && parts.len() + 1 < most {
            let head = rest.utf8_chunks().next();
            let size = head.and_then(|c| c.valid().chars().next()).map_or(1, char::len_utf8);
            parts.push(rest[..size].into());
            rest = &rest[size..];
        }
        if !rest.is_empty() {
            parts.push(rest.into());
        }
        return Ok(parts);
    }
    while parts.len() + 1 < most {
        let Some(at) = find(rest, separator) else {
            break;
        };
        parts.push(rest[..at].into());
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest.into());
    Ok(parts)
}

fn numbered(parts: &[Text]) -> Value {
    let map = Map::of(MapType::Str);
    parts.iter().enumerate().for_each(|(i, part)| map.insert(format!("_{i}"), part.clone()));
    Value::Map(map)
}
