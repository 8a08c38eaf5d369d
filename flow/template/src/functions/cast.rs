//! Conversions between types as Sprig makes them: never an error, zero instead.

use crate::{
    number::{parse_float, parse_int},
    printf,
    value::{IntKind, Value},
};

/// A float cut to an integer as amd64 does it.
pub fn truncate(f: f64) -> i64 {
    if (-9223372036854775808.0..9223372036854775808.0).contains(&f) { f as i64 } else { i64::MIN }
}

/// Any value as an `int64`.
pub fn int64(value: &Value) -> i64 {
    match value {
        Value::Int(IntKind::Duration, _) => 0,
        Value::Int(_, n) => *n,
        Value::Uint(_, n) => *n as i64,
        Value::Float(f) => truncate(*f),
        Value::Bool(b) => i64::from(*b),
        Value::Str(text) => parse_int(whole(&text.to_str()), 0).unwrap_or(0),
        _ => 0,
    }
}

/// A number without `.0` at its end.
fn whole(text: &str) -> &str {
    match text.trim_end_matches('0').strip_suffix('.') {
        Some(head) if text.ends_with('0') => head,
        _ => text,
    }
}

/// Any value as a `float64`.
pub fn float64(value: &Value) -> f64 {
    match value {
        Value::Int(IntKind::Duration, _) => 0.0,
        Value::Int(_, n) => *n as f64,
        Value::Uint(_, n) => *n as f64,
        Value::Float(f) => *f,
        Value::Bool(b) => f64::from(u8::from(*b)),
        Value::Str(text) => parse_float(&text.to_str()).unwrap_or(0.0),
        _ => 0.0,
    }
}

/// Any value as a string: its text, or `%v`.
pub fn text(value: &Value) -> crate::value::Text {
    match value {
        Value::Bytes(bytes) => bytes.clone(),
        other => printf::sprint(std::slice::from_ref(other)),
    }
}

/// Sprig's `empty`: like Go's truth, but nothing else is asked of objects.
pub fn empty(value: &Value) -> bool {
    !value.truth()
}

/// The strings of a list without its nils; one value is a list of itself.
pub fn strings(value: &Value) -> Vec<crate::value::Text> {
    match value.plain() {
        Value::Nil => Vec::new(),
        Value::List(list) => list.iter().filter(|v| !v.is_nil()).map(text).collect(),
        Value::Bytes(bytes) => bytes.as_bytes().iter().map(|b| b.to_string().into()).collect(),
        _ => vec![text(value)],
    }
}
