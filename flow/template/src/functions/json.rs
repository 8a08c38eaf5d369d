//! JSON, YAML and TOML out of values and into them.

use super::{Fail, Family, Function, Outcome, bytes, encode, fixed, string};
use crate::{
    number::{format_float, general},
    render::Session,
    value::{List, Map, Param, Value},
};

use Param::{Any, Str};

/// Nesting of what is printed, at most.
const MOST_DEPTH: usize = 500;

pub const TABLE: &[Function] = &[
    fixed("toJson", &[Any], |s, v| lenient(json(s, &v[0], Layout::COMPACT))),
    fixed("mustToJson", &[Any], |s, v| json(s, &v[0], Layout::COMPACT)),
    fixed("toPrettyJson", &[Any], |s, v| lenient(json(s, &v[0], Layout::PRETTY))),
    fixed("mustToPrettyJson", &[Any], |s, v| json(s, &v[0], Layout::PRETTY)),
    fixed("toRawJson", &[Any], |s, v| json(s, &v[0], Layout::RAW)),
    fixed("mustToRawJson", &[Any], |s, v| json(s, &v[0], Layout::RAW)),
    fixed("fromJson", &[Str], |s, v| {
        Ok(into_map(from_json(s, bytes(v, 0)).and_then(|value| expect(value, Shape::Map, ""))))
    }),
    fixed("fromJsonArray", &[Str], |s, v| {
        Ok(into_list(from_json(s, bytes(v, 0)).and_then(|value| expect(value, Shape::List, ""))))
    }),
    fixed("mustFromJson", &[Str], |s, v| Ok(from_json(s, bytes(v, 0))?)),
    fixed("toYaml", &[Any], |s, v| lenient(yaml(s, &v[0]))),
    fixed("mustToYaml", &[Any], yaml_or_fail).of(Family::Helm4),
    fixed("toYamlPretty", &[Any], |s, v| lenient(yaml_pretty(s, &v[0]))),
    fixed("fromYaml", &[Str], |s, v| Ok(into_map(from_yaml(s, &string(v, 0), Shape::Map)))),
    fixed("fromYamlArray", &[Str], |s, v| Ok(into_list(from_yaml(s, &string(v, 0), Shape::List)))),
    fixed("toToml", &[Any], |s, v| match super::super::toml::print(s, &v[0]) {
        Ok(text) => Ok(Value::str(text)),
        Err(Fail::Message(message)) => Ok(Value::str(message)),
        Err(other) => Err(other),
    }),
    fixed("mustToToml", &[Any], |s, v| super::super::toml::print(s, &v[0]).map(Value::str)).of(Family::Helm4),
    fixed("fromToml", &[Str], |_, v| Ok(into_map(super::super::toml::read(&string(v, 0))))),
];

/// An error of the value is an empty string; one of a bound stays.
fn lenient(result: Outcome) -> Outcome {
    match result {
        Err(Fail::Message(_)) => Ok(Value::str("")),
        other => other,
    }
}

fn into_map(result: Result<Value, String>) -> Value {
    match result {
        Ok(Value::Nil) => Value::Map(Map::new()),
        Ok(value) => value,
        Err(message) => Value::map([("Error", message)]),
    }
}

fn into_list(result: Result<Value, String>) -> Value {
    match result {
        Ok(Value::Nil) => Value::List(List::nil(crate::value::Element::Any)),
        Ok(value) => value,
        Err(message) => Value::list(vec![Value::str(message)]),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Map,
    List,
}

fn expect(value: Value, shape: Shape, prefix: &str) -> Result<Value, String> {
    let wanted = match (&value, shape) {
        (Value::Nil, _) | (Value::Map(_), Shape::Map) | (Value::List(_), Shape::List) => return Ok(value),
        (_, Shape::Map) => "map[string]interface {}",
        (_, Shape::List) => "[]interface {}",
    };
    let kind = match value {
        Value::Map(_) => "object",
        Value::List(_) => "array",
        Value::Bool(_) => "bool",
        Value::Float(_) => "number",
        _ => "string",
    };
    Err(format!("{prefix}json: cannot unmarshal {kind} into Go value of type {wanted}"))
}

#[derive(Clone, Copy)]
struct Layout {
    pretty: bool,
    escape: bool,
}

impl Layout {
    const COMPACT: Self = Self { pretty: false, escape: true };
    const PRETTY: Self = Self { pretty: true, escape: true };
    const RAW: Self = Self { pretty: false, escape: false };
}

fn json(s: &mut Session<'_>, value: &Value, layout: Layout) -> Outcome {
    let mut out = Vec::new();
    write(s, &mut out, value, layout, 0)?;
    s.room(out.len())?;
    Ok(Value::str(out))
}

fn write(s: &mut Session<'_>, out: &mut Vec<u8>, value: &Value, layout: Layout, depth: usize) -> Result<(), Fail> {
    s.charge(1)?;
    if depth > MOST_DEPTH {
        return Err(Fail::Limit(format!("values more than {MOST_DEPTH} deep cannot be printed")));
    }
    if out.len() > s.options.limits.text {
        s.room(out.len())?;
    }
    let line = |out: &mut Vec<u8>, depth: usize| {
        if layout.pretty {
            out.push(b'\n');
            out.extend(std::iter::repeat_n(b' ', 2 * depth));
        }
    };
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Int(_, n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::Uint(_, n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::Float(f) => out.extend_from_slice(json_float(*f)?.as_bytes()),
        Value::Complex(..) => return Err(Fail::from("json: unsupported type: complex128")),
        Value::Str(text) => write_string(out, &text.to_str(), layout.escape),
        Value::Bytes(bytes) => write_string(out, &encode::base64(bytes.as_bytes()), layout.escape),
        Value::List(list) if list.is_nil() => out.extend_from_slice(b"null"),
        Value::List(list) => {
            out.push(b'[');
            for (i, item) in list.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                line(out, depth + 1);
                write(s, out, item, layout, depth + 1)?;
            }
            if !list.is_empty() {
                line(out, depth);
            }
            out.push(b']');
        }
        Value::Map(map) => {
            out.push(b'{');
            for (i, (key, item)) in map.pairs().into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                line(out, depth + 1);
                write_string(out, &key.to_str(), layout.escape);
                out.push(b':');
                if layout.pretty {
                    out.push(b' ');
                }
                write(s, out, &item, layout, depth + 1)?;
            }
            if !map.is_empty() {
                line(out, depth);
            }
            out.push(b'}');
        }
        Value::Object(object) => write(s, out, &object.data(), layout, depth + 1)?,
    }
    Ok(())
}

/// As `encoding/json` writes a float.
fn json_float(f: f64) -> Result<String, Fail> {
    if f.is_nan() || f.is_infinite() {
        return Err(Fail::Message(format!("json: unsupported value: {}", format_float(f, 'g', None))));
    }
    let magnitude = f.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format_float(f, 'e', None);
        return Ok(match text.split_once("e-0") {
            Some((head, tail)) => format!("{head}e-{tail}"),
            None => text,
        });
    }
    Ok(format_float(f, 'f', None))
}

fn write_string(out: &mut Vec<u8>, text: &str, escape: bool) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\x08' => out.extend_from_slice(b"\\b"),
            '\x0c' => out.extend_from_slice(b"\\f"),
            '<' | '>' | '&' if escape => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            '\u{2028}' | '\u{2029}' => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            c if c < ' ' => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Reads JSON; numbers become `float64`.
fn from_json(s: &mut Session<'_>, text: &[u8]) -> Result<Value, String> {
    if s.charge(text.len() as u64 / 8).is_err() {
        return Err("the text is too long for what is left of the budget".to_owned());
    }
    super::super::jsonscan::check(text)?;
    let text = String::from_utf8_lossy(text);
    serde_json::from_str::<serde_json::Value>(&text).map(Value::from).map_err(|e| e.to_string())
}

/// A value as the YAML printer takes it.
pub fn to_data(s: &mut Session<'_>, value: &Value, depth: usize) -> Result<yaml::Value, Fail> {
    s.charge(1)?;
    if depth > MOST_DEPTH {
        return Err(Fail::Limit(format!("values more than {MOST_DEPTH} deep cannot be printed")));
    }
    Ok(match value {
        Value::Nil => yaml::Value::Null,
        Value::Bool(b) => yaml::Value::Bool(*b),
        Value::Int(_, n) => yaml::Value::Int(*n),
        Value::Uint(_, n) => i64::try_from(*n).map_or(yaml::Value::Uint(*n), yaml::Value::Int),
        Value::Float(f) if f.is_nan() || f.is_infinite() => {
            return Err(Fail::Message(format!("json: unsupported value: {}", general(*f, None, 6))));
        }
        Value::Float(f) => yaml::Value::Float(*f),
        Value::Complex(..) => return Err(Fail::from("json: unsupported type: complex128")),
        Value::Str(text) => yaml::Value::String(text.to_str().into_owned()),
        Value::Bytes(bytes) => yaml::Value::String(encode::base64(bytes.as_bytes())),
        Value::List(list) if list.is_nil() => yaml::Value::Null,
        Value::List(list) => {
            let items: Result<Vec<_>, Fail> = list.iter().map(|item| to_data(s, item, depth + 1)).collect();
            yaml::Value::List(items?)
        }
        Value::Map(map) => {
            let mut data = yaml::Map::new();
            for (key, item) in map.pairs() {
                let item = to_data(s, &item, depth + 1)?;
                data.insert(key.to_str().into_owned(), item);
            }
            yaml::Value::Map(data)
        }
        Value::Object(object) => to_data(s, &object.data(), depth + 1)?,
    })
}

/// As `encoding/json` decodes it: every number is a `float64`.
impl From<yaml::Value> for Value {
    fn from(value: yaml::Value) -> Self {
        match value {
            yaml::Value::Null => Self::Nil,
            yaml::Value::Bool(b) => Self::Bool(b),
            yaml::Value::Int(n) => Self::Float(n as f64),
            yaml::Value::Uint(n) => Self::Float(n as f64),
            yaml::Value::Float(f) => Self::Float(f),
            yaml::Value::String(text) => Self::str(text),
            yaml::Value::List(items) => Self::list(items.into_iter().map(Self::from).collect()),
            yaml::Value::Map(map) => Self::map(map),
        }
    }
}

fn yaml(s: &mut Session<'_>, value: &Value) -> Outcome {
    let data = to_data(s, value, 0)?;
    let text = yaml::to_go(&data);
    s.room(text.len())?;
    Ok(Value::str(text.strip_suffix('\n').unwrap_or(&text)))
}

fn yaml_or_fail(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    match yaml(s, &v[0]) {
        Err(Fail::Message(message)) => Err(Fail::Message(format!("error marshaling into JSON: {message}"))),
        other => other,
    }
}

/// `toYamlPretty`: lists stand two spaces in.
fn yaml_pretty(s: &mut Session<'_>, value: &Value) -> Outcome {
    let data = to_data(s, value, 0)?;
    // The scalars are the same; only the layout differs, which the node printer knows.
    let text = match yaml::parse_all(&yaml::to_go(&data), &yaml::Limits::default(), false) {
        Ok(documents) => documents
            .into_iter()
            .next()
            .and_then(|document| document.into_expanded(&yaml::Limits::default()).ok().flatten())
            .map(|node| yaml::print(&node, &yaml::Layout { indent: 2, compact: false }))
            .unwrap_or_default(),
        Err(_) => String::new(),
    };
    s.room(text.len())?;
    Ok(Value::str(text.strip_suffix('\n').unwrap_or(&text)))
}

fn from_yaml(s: &mut Session<'_>, text: &str, shape: Shape) -> Result<Value, String> {
    if s.charge(text.len() as u64 / 2).is_err() {
        return Err("the text is too long for what is left of the budget".to_owned());
    }
    let value = yaml::from_str(text).map_err(|e| format!("error converting YAML to JSON: {e}"))?;
    expect(Value::from(value), shape, "error unmarshaling JSON: while decoding JSON: ")
}
