//! The patches of profiles: RFC 6902 with the liberties that skaffold's library takes: `replace` is what happens without an
//! `op`, and a part `key=value` of a path stands for everything below that has such a key.

use yaml::{Map, Value};

/// Carries out one patch. False when its path leads nowhere, or it does not fit what is there.
pub(crate) fn apply(document: &mut Value, patch: &Map) -> bool {
    let text = |key: &str| patch.get(key).and_then(Value::as_str).unwrap_or_default();
    let path = text("path");
    let operation = if text("op").is_empty() { "replace" } else { text("op") };
    let paths = if path.contains('=') { expand(document, path) } else { Some(vec![path.to_owned()]) };
    let Some(paths) = paths.filter(|paths| !paths.is_empty()) else { return false };
    let value = patch.get("value").cloned().unwrap_or_default();
    paths.iter().all(|path| perform(document, operation, path, text("from"), value.clone()).is_some())
}

/// A pointer's parts: those above, and the last.
fn parts(path: &str) -> Option<(Vec<String>, String)> {
    let mut parts: Vec<String> = path.strip_prefix('/')?.split('/').map(unescape).collect();
    let last = parts.pop()?;
    Some((parts, last))
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

fn child<'v>(value: &'v mut Value, key: &str) -> Option<&'v mut Value> {
    match value {
        Value::Map(map) => map.get_mut(key),
        Value::List(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    }
}

fn container<'v>(document: &'v mut Value, path: &str) -> Option<(&'v mut Value, String)> {
    let (above, last) = parts(path)?;
    let found = above.iter().try_fold(document, |value, part| child(value, part))?;
    matches!(found, Value::Map(_) | Value::List(_)).then_some((found, last))
}

/// More items than a list may get by naming an index far behind its end.
const FARTHEST: usize = 10_000;

fn set(container: &mut Value, key: &str, value: Value) -> Option<()> {
    match container {
        Value::Map(map) => {
            map.insert(key.to_owned(), value);
        }
        Value::List(items) => {
            let at = key.parse::<usize>().ok().filter(|at| *at < FARTHEST)?;
            if at >= items.len() {
                items.resize(at + 1, Value::Null);
            }
            items[at] = value;
        }
        _ => return None,
    }
    Some(())
}

fn add(container: &mut Value, key: &str, value: Value) -> Option<()> {
    match container {
        Value::List(items) if key == "-" => items.push(value),
        Value::List(items) => {
            let at = key.parse::<usize>().ok().filter(|at| *at <= items.len())?;
            items.insert(at, value);
        }
        other => return set(other, key, value),
    }
    Some(())
}

fn remove(container: &mut Value, key: &str) -> Option<Value> {
    match container {
        Value::Map(map) => map.remove(key),
        Value::List(items) => {
            let at = key.parse::<usize>().ok().filter(|at| *at < items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

fn perform(document: &mut Value, operation: &str, path: &str, from: &str, value: Value) -> Option<()> {
    match operation {
        "add" => {
            let (found, key) = container(document, path)?;
            add(found, &key, value)
        }
        "remove" => {
            let (found, key) = container(document, path)?;
            remove(found, &key).map(|_| ())
        }
        "replace" => {
            let (found, key) = container(document, path)?;
            child(found, &key)?;
            set(found, &key, value)
        }
        "move" => {
            let (found, key) = container(document, from)?;
            let moved = remove(found, &key)?;
            let (found, key) = container(document, path)?;
            set(found, &key, moved)
        }
        "copy" => {
            let (found, key) = container(document, from)?;
            let copied = child(found, &key)?.clone();
            let (found, key) = container(document, path)?;
            set(found, &key, copied)
        }
        "test" => {
            let (found, key) = container(document, path)?;
            let there = child(found, &key).cloned();
            (there.unwrap_or_default() == value).then_some(())
        }
        _ => None,
    }
}

/// The paths that a path with `key=value` in it stands for.
fn expand(document: &Value, path: &str) -> Option<Vec<String>> {
    let mut routes: Vec<(String, &Value)> = vec![(String::new(), document)];
    for part in path.strip_prefix('/')?.split('/').map(unescape) {
        let mut next: Vec<(String, &Value)> = Vec::new();
        if part == "-" {
            next.extend(routes.iter().map(|(route, value)| (format!("{route}/-"), *value)));
        } else if let Some((key, wanted)) = part.split_once('=').filter(|(_, value)| !value.contains('=')) {
            for (route, value) in &routes {
                let mut found = Vec::new();
                matching(value, route, key, wanted, &mut found);
                // As in the original, the last place that has any is the one that counts.
                if !found.is_empty() {
                    next = found;
                }
            }
        } else {
            for (route, value) in &routes {
                let below = match value {
                    Value::Map(map) => Some(map.get(&part).unwrap_or(value)),
                    Value::List(items) => part.parse::<usize>().ok().and_then(|at| items.get(at)),
                    _ => None,
                };
                next.extend(
                    below.map(|below| (format!("{route}/{}", part.replace('~', "~0").replace('/', "~1")), below)),
                );
            }
        }
        routes = next;
    }
    Some(routes.into_iter().map(|(route, _)| route).collect())
}

fn matching<'v>(value: &'v Value, route: &str, key: &str, wanted: &str, found: &mut Vec<(String, &'v Value)>) {
    if value.get(key).and_then(Value::as_str) == Some(wanted) {
        found.push((route.to_owned(), value));
        return;
    }
    match value {
        Value::Map(map) => {
            for (name, below) in map {
                matching(below, &format!("{route}/{}", name.replace('~', "~0").replace('/', "~1")), key, wanted, found);
            }
        }
        Value::List(items) => {
            for (i, below) in items.iter().enumerate() {
                matching(below, &format!("{route}/{i}"), key, wanted, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(patch: &str) -> Option<String> {
        let mut document =
            yaml::from_str("build: {artifacts: [{image: a, docker: {target: x}}, {image: b}], count: 1}").unwrap();
        let patch = yaml::from_str(patch).unwrap();
        apply(&mut document, patch.as_map().unwrap()).then(|| yaml::to_json(&document))
    }

    #[test]
    fn operations_do_what_their_names_say() {
        for (patch, expected) in [
            (
                "{path: /build/count, value: 2}",
                Some(r#"{"build":{"artifacts":[{"docker":{"target":"x"},"image":"a"},{"image":"b"}],"count":2}}"#),
            ),
            ("{path: /build/m, value: 2}", None),
            (
                "{op: add, path: /build/m, value: 2}",
                Some(
                    r#"{"build":{"artifacts":[{"docker":{"target":"x"},"image":"a"},{"image":"b"}],"count":1,"m":2}}"#,
                ),
            ),
            ("{op: remove, path: /build/artifacts/0}", Some(r#"{"build":{"artifacts":[{"image":"b"}],"count":1}}"#)),
            ("{op: remove, path: /build/artifacts/7}", None),
            (
                "{op: add, path: /build/artifacts/-, value: {image: c}}",
                Some(
                    r#"{"build":{"artifacts":[{"docker":{"target":"x"},"image":"a"},{"image":"b"},{"image":"c"}],"count":1}}"#,
                ),
            ),
            (
                "{op: move, from: /build/count, path: /top}",
                Some(r#"{"build":{"artifacts":[{"docker":{"target":"x"},"image":"a"},{"image":"b"}]},"top":1}"#),
            ),
            (
                "{op: copy, from: /build/count, path: /build/artifacts/1/count}",
                Some(
                    r#"{"build":{"artifacts":[{"docker":{"target":"x"},"image":"a"},{"count":1,"image":"b"}],"count":1}}"#,
                ),
            ),
            (
                "{op: test, path: /build/count, value: 1}",
                Some(r#"{"build":{"artifacts":[{"docker":{"target":"x"},"image":"a"},{"image":"b"}],"count":1}}"#),
            ),
            ("{op: test, path: /build/count, value: 2}", None),
            (
                "{op: add, path: /build/artifacts/image=b/tag, value: t}",
                Some(
                    r#"{"build":{"artifacts":[{"docker":{"target":"x"},"image":"a"},{"image":"b","tag":"t"}],"count":1}}"#,
                ),
            ),
            ("{op: add, path: /build/artifacts/image=z/tag, value: t}", None),
            ("{path: build/count, value: 2}", None),
            ("{path: /build/count/deeper, value: 2}", None),
            ("{op: twist, path: /build/count}", None),
        ] {
            assert_eq!(patched(patch).as_deref(), expected, "{patch}");
        }
    }
}
