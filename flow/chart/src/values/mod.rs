//! Values: the defaults of charts, what the user gives, and how they come together.

mod coalesce;
mod given;
mod schema;
mod set;
mod tree;

use std::borrow::Cow;

use yaml::{Map, Value};

pub(crate) use coalesce::{coalesce, merge, merge_tables};
pub use given::{Given, Reader};
pub use schema::Schemas;
pub(crate) use schema::{against, validate};
pub use set::{Form, set};
pub(crate) use tree::{copy, json, lookup, scalar, table};

use crate::Error;

/// Whole numbers made floats, as Go has them after its way over JSON.
pub(crate) fn floats(mut value: Value) -> Value {
    make_floats(&mut value);
    value
}

fn make_floats(value: &mut Value) {
    match value {
        Value::Int(n) => *value = Value::Float(*n as f64),
        Value::Uint(n) => *value = Value::Float(*n as f64),
        Value::List(items) => items.iter_mut().for_each(make_floats),
        Value::Map(map) => map.values_mut().for_each(make_floats),
        _ => {}
    }
}

/// Reads a file of values. Helm 3 reads its first document, Helm 4 puts all of them together.
pub fn read(text: &str, flavor: crate::Flavor) -> Result<Map, Error> {
    match flavor {
        crate::Flavor::Helm3 => document(text).map_err(Error::Values),
        crate::Flavor::Helm4 => {
            let mut values = Map::new();
            for text in documents(text) {
                // Its reader ends every line, also the last, which a literal block at the end of a file shows.
                let ended = if text.ends_with('\n') { Cow::Borrowed(text) } else { Cow::Owned(format!("{text}\n")) };
                let document = document(&ended)
                    .map_err(|error| Error::Values(format!("cannot unmarshal yaml document: {error}")))?;
                over(&mut values, document);
            }
            Ok(values)
        }
    }
}

/// The texts between lines that start with `---`, as Kubernetes' stream reader cuts them.
fn documents(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut from = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix("---")
            && rest.trim().is_empty()
        {
            if at > from {
                out.push(&text[from..at]);
            }
            from = at + line.len();
        }
        at += line.len();
    }
    if from < text.len() {
        out.push(&text[from..]);
    }
    out
}

fn document(text: &str) -> Result<Map, String> {
    match yaml::from_str(text) {
        Ok(Value::Map(mut map)) => {
            map.values_mut().for_each(make_floats);
            Ok(map)
        }
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_type(&other)
        )),
        Err(error) => Err(format!("error converting YAML to JSON: {error}")),
    }
}

/// What Go's JSON decoder calls a value.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Uint(_) | Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::List(_) => "array",
        Value::Map(_) => "object",
    }
}

/// Puts `b` over `a`: tables key by key, everything else whole.
pub fn over(a: &mut Map, b: Map) {
    for (key, value) in b {
        match (a.get_mut(&key), value) {
            (Some(Value::Map(inner)), Value::Map(value)) => over(inner, value),
            (_, value) => {
                a.insert(key, value);
            }
        }
    }
}
