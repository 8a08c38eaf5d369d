//! JSON patch (RFC 6902), with the words of the library that kustomize uses.

use yaml::{Map, Value};

use crate::{Error, Result, tree};

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    op: String,
    path: String,
    from: String,
    value: Option<Value>,
}

/// The operations of a patch, written as JSON or YAML; nothing when the text is no list of operations.
pub fn read(text: &str) -> Option<Vec<Operation>> {
    let Value::List(items) = yaml::from_str(text).ok()? else { return None };
    let mut operations = Vec::with_capacity(items.len());
    for item in items {
        let Value::Map(mut map) = item else { return None };
        let mut text = |key: &str| match map.remove(key) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (op, path, from) = (text("op"), text("path"), text("from"));
        operations.push(Operation { op, path, from, value: map.remove("value") });
    }
    Some(operations)
}

/// Applies the operations in order.
pub fn apply(document: &mut Value, operations: &[Operation]) -> Result<()> {
    for operation in operations {
        let Operation { op, path, from, value } = operation;
        let value = || value.clone().unwrap_or_default();
        match op.as_str() {
            "add" => add(document, path, value()),
            "remove" => remove(document, path, "remove").map(|_| ()),
            "replace" => replace(document, path, value()),
            "move" => remove(document, from, "move").and_then(|moved| add(document, path, moved)),
            "copy" => {
                let copied = find(document, from).cloned().map_err(|problem| does_not_apply("copy", from, &problem))?;
                add(document, path, copied)
            }
            "test" => {
                let found = find(document, path).map(|found| found.clone()).unwrap_or_default();
                if same(&found, &value()) {
                    Ok(())
                } else {
                    Err(Error::wrong(format!("testing value {path} failed: test failed")))
                }
            }
            other => Err(Error::wrong(format!("Unexpected kind: {other}"))),
        }?;
        if matches!(op.as_str(), "add" | "replace" | "copy" | "move") {
            tree::check_value(document)?;
        }
    }
    Ok(())
}

fn same(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Int(n) => Some(*n as f64),
        Value::Uint(n) => Some(*n as f64),
        Value::Float(f) => Some(*f),
        _ => None,
    };
    a == b || number(a).is_some_and(|n| number(b) == Some(n))
}

fn does_not_apply(op: &str, path: &str, problem: &str) -> Error {
    let problem = match problem {
        "" => format!("doc is missing key: {path}: missing value"),
        other => other.to_owned(),
    };
    Error::wrong(format!("{op} operation does not apply: {problem}"))
}

fn parts(path: &str) -> Vec<String> {
    path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

/// The place of an item; negative counts from the end.
fn index(part: &str, length: usize) -> std::result::Result<usize, String> {
    let n: i64 = part.parse().map_err(|_| format!("strconv.Atoi: parsing {part:?}: invalid syntax"))?;
    let at = if n < 0 { n + length as i64 } else { n };
    usize::try_from(at).map_err(|_| format!("Unable to access invalid index: {n}: invalid index referenced"))
}

fn step<'v>(value: &'v mut Value, part: &str) -> std::result::Result<&'v mut Value, String> {
    match value {
        Value::Map(map) => map.get_mut(part).ok_or_else(String::new),
        Value::List(items) => {
            let at = index(part, items.len())?;
            items.get_mut(at).ok_or_else(|| format!("Unable to access invalid index: {at}: invalid index referenced"))
        }
        _ => Err(String::new()),
    }
}

fn find<'v>(document: &'v mut Value, path: &str) -> std::result::Result<&'v mut Value, String> {
    parts(path).iter().try_fold(document, |value, part| step(value, part))
}

/// The list or map that holds the last part of a path.
fn holder<'v>(document: &'v mut Value, path: &str, op: &str) -> Result<(&'v mut Value, String)> {
    let mut parts = parts(path);
    let Some(last) = parts.pop() else {
        return Err(Error::wrong(format!("{op} operation does not apply: the path is empty")));
    };
    let missing =
        || Error::wrong(format!("{op} operation does not apply: doc is missing path: {path:?}: missing value"));
    let mut here = document;
    for part in &parts {
        here = step(here, part).map_err(|_| missing())?;
    }
    if !matches!(here, Value::Map(_) | Value::List(_)) {
        return Err(missing());
    }
    Ok((here, last))
}

/// A missing key of a map is made; only a missing item of a list is an error.
fn replace(document: &mut Value, path: &str, value: Value) -> Result<()> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (holder, last) = holder(document, path, "replace")?;
    match holder {
        Value::Map(map) => {
            map.insert(last, value);
        }
        other => match step(other, &last) {
            Ok(place) => *place = value,
            Err(problem) => return Err(does_not_apply("replace", path, &problem)),
        },
    }
    Ok(())
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<()> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (holder, last) = holder(document, path, "add")?;
    match holder {
        Value::Map(map) => {
            map.insert(last, value);
        }
        Value::List(items) if last == "-" => items.push(value),
        Value::List(items) => {
            let length = items.len();
            // A negative index is one of the list after the addition.
            let at = index(&last, length + 1).map_err(|problem| does_not_apply("add", path, &problem))?;
            if at > length {
                let problem = format!("Unable to access invalid index: {at}: invalid index referenced");
                return Err(does_not_apply("add", path, &problem));
            }
            items.insert(at, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str, op: &str) -> Result<Value> {
    let (holder, last) = holder(document, path, op)?;
    let removed = match holder {
        Value::Map(map) => {
            map.remove(&last).ok_or_else(|| format!("Unable to remove nonexistent key: {last}: missing value"))
        }
        Value::List(items) => index(&last, items.len()).and_then(|at| {
            if at < items.len() {
                Ok(items.remove(at))
            } else {
                Err(format!("Unable to access invalid index: {at}: invalid index referenced"))
            }
        }),
        _ => Ok(Map::new().into()),
    };
    removed.map_err(|problem| {
        Error::wrong(format!("{op} operation does not apply: error in {op} for path: '{path}': {problem}"))
    })
}
