//! Printing a value as `sigs.k8s.io/yaml` does.

use std::borrow::Cow;

use crate::{Dialect, Map, Resolved, Style, Value, emit::Emitter, number, order, resolve};

/// The text that `sigs.k8s.io/yaml`'s `Marshal` makes of a value (Helm's `toYaml`, what `kustomize build` prints):
/// keys in go-yaml's natural order, lists at the indentation of their key, floats that are whole as whole numbers.
pub fn to_go(value: &Value) -> String {
    let mut emitter = Emitter::v2();
    node(&mut emitter, value, false);
    emitter.write_indent();
    emitter.out
}

fn node(to: &mut Emitter, value: &Value, in_map: bool) {
    match value {
        Value::List(items) if !items.is_empty() => list(to, items, in_map),
        Value::Map(map) if !map.is_empty() => entries(to, map),
        Value::List(_) => {
            to.indicator("[", true, true, false);
            to.indicator("]", false, false, false);
        }
        Value::Map(_) => {
            to.indicator("{", true, true, false);
            to.indicator("}", false, false, false);
        }
        Value::Null => plain(to, "null"),
        Value::Bool(b) => plain(to, if *b { "true" } else { "false" }),
        Value::Int(n) => plain(to, &n.to_string()),
        Value::Uint(n) => plain(to, &n.to_string()),
        Value::Float(f) => plain(to, &float(*f)),
        Value::String(text) => string(to, text, false),
    }
}

fn plain(to: &mut Emitter, text: &str) {
    let deeper = to.indent + 2;
    to.scalar(text, Style::Plain, false, deeper);
}

/// A float goes through JSON: a whole one below 1e21 that fits 64 bits comes out as a whole number.
fn float(f: f64) -> String {
    if !f.is_finite() {
        return "null".to_owned();
    }
    let json = number::json_float(f);
    match number::go_int(&json) {
        Some(Ok(n)) => n.to_string(),
        Some(Err(n)) => n.to_string(),
        None => number::go_float(f),
    }
}

/// The original passes through JSON, which leaves U+0085 as it is, and YAML reads that as a line break to be folded.
fn folded(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{85}') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find([' ', '\u{85}']) {
        out.push_str(&rest[..at]);
        let run = rest[at..].find(|c| c != ' ' && c != '\u{85}').map_or(rest.len(), |length| at + length);
        match rest[at..run].chars().filter(|c| *c == '\u{85}').count() {
            0 => out.push_str(&rest[at..run]),
            1 => out.push(' '),
            breaks => out.push_str(&"\n".repeat(breaks - 1)),
        }
        rest = &rest[run..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn string(to: &mut Emitter, text: &str, key: bool) {
    let text = &*folded(text);
    let style = if text.contains('\n') {
        Style::Literal
    } else if resolve(text, Dialect::V2) == Resolved::String && !base60(text) {
        Style::Plain
    } else {
        Style::DoubleQuoted
    };
    let deeper = to.indent + 2;
    to.scalar(text, style, key, deeper);
}

/// `1:20`: a number in YAML 1.1, so it is quoted.
pub(crate) fn base60(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !matches!(bytes.first(), Some(b'+' | b'-' | b'0'..=b'9')) || !text.contains(':') {
        return false;
    }
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = match rest.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (rest, ""),
    };
    let mut parts = whole.split(':');
    let head = parts.next().unwrap_or_default();
    let mut any = false;
    let tails = parts.all(|part| {
        any = true;
        matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9'])
    });
    head.starts_with(|c: char| c.is_ascii_digit())
        && head.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        && any
        && tails
        && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

fn list(to: &mut Emitter, items: &[Value], in_map: bool) {
    let outer = to.indent;
    let indentless = in_map && !to.indention;
    to.indent = if outer < 0 {
        0
    } else if indentless {
        outer
    } else {
        outer + 2
    };
    for item in items {
        to.write_indent();
        to.indicator("-", true, false, true);
        node(to, item, false);
    }
    to.indent = outer;
}

fn entries(to: &mut Emitter, map: &Map) {
    let outer = to.indent;
    to.indent = if outer < 0 { 0 } else { outer + 2 };
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    order::sort(&mut entries, Dialect::V2);
    for (key, value) in entries {
        to.write_indent();
        if Emitter::simple_key(key) {
            string(to, key, true);
            to.indicator(":", false, false, false);
        } else {
            to.indicator("?", true, false, true);
            string(to, key, false);
            to.write_indent();
            to.indicator(":", true, false, true);
        }
        node(to, value, true);
    }
    to.indent = outer;
}
