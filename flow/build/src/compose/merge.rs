//! Several Compose files to one: what a later file says holds over what an earlier one says, with the rules of the specification.

use serde_json::{Map, Value};

/// Keys of a service whose lists are replaced and not joined.
const REPLACED: [&str; 3] = ["command", "entrypoint", "test"];
/// Lists of `NAME=VALUE` that mean a map.
const MAPS: [&str; 6] = ["environment", "labels", "args", "annotations", "sysctls", "additional_contexts"];

/// Lists that hold each entry once: the last, in the place of the first.
const ONCE: [&str; 15] = [
    "cap_add",
    "cap_drop",
    "configs",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "expose",
    "links",
    "ports",
    "profiles",
    "secrets",
    "tags",
    "tmpfs",
    "volumes",
];

fn once(items: &mut Vec<Value>, key: &str) {
    let mut kept: Vec<(String, Value)> = Vec::with_capacity(items.len());
    for item in std::mem::take(items) {
        let own = identity(&item, key);
        match kept.iter_mut().find(|(known, _)| *known == own) {
            Some((_, place)) => *place = item,
            None => kept.push((own, item)),
        }
    }
    items.extend(kept.into_iter().map(|(_, item)| item));
}

/// Writes short forms in their long ones, so that they can be merged: lists that mean maps, a build that is a path.
pub fn normalize(value: &mut Value) {
    let Value::Object(map) = value else {
        if let Value::Array(items) = value {
            items.iter_mut().for_each(normalize);
        }
        return;
    };
    for (key, value) in map.iter_mut() {
        normalize(value);
        if MAPS.contains(&key.as_str())
            && let Value::Array(items) = value
            && items.iter().all(Value::is_string)
        {
            let pairs = items.iter().filter_map(Value::as_str).map(|item| match item.split_once('=') {
                Some((name, value)) => (name.to_owned(), Value::String(value.to_owned())),
                None => (item.to_owned(), Value::Null),
            });
            *value = Value::Object(pairs.collect());
        }
        if key == "build"
            && let Value::String(context) = value
        {
            *value = serde_json::json!({ "context": context });
        }
        if matches!(
            key.as_str(),
            "env_file" | "label_file" | "tags" | "cache_from" | "cache_to" | "platforms" | "profiles"
        ) && value.is_string()
        {
            *value = Value::Array(vec![value.take()]);
        }
        if ONCE.contains(&key.as_str())
            && let Value::Array(items) = value
        {
            once(items, key);
        }
    }
}

/// Lays `over` over `base`. Both are normalized.
pub fn merge(base: &mut Value, over: Value) {
    merge_at(base, over, "");
}

fn merge_at(base: &mut Value, over: Value, key: &str) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                match base.get_mut(&name) {
                    Some(known) if !value.is_null() => merge_at(known, value, &name),
                    // `name:` alone in a map of variables takes the value from the environment; elsewhere it says nothing.
                    Some(_) if !MAPS.contains(&key) => {}
                    _ => drop(base.insert(name, value)),
                }
            }
        }
        (Value::Array(base), Value::Array(over)) if !REPLACED.contains(&key) => {
            for value in over {
                let same = |known: &Value| identity(known, key) == identity(&value, key);
                match base.iter().position(same) {
                    Some(at) => base[at] = value,
                    None => base.push(value),
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// What tells two entries of a list apart: of a volume, a secret or a device the place in the container.
fn identity(value: &Value, key: &str) -> String {
    let field = |map: &Map<String, Value>, names: &[&str]| {
        names.iter().find_map(|name| map.get(*name)).map(ToString::to_string)
    };
    match (key, value) {
        ("volumes", Value::String(text)) => {
            text.split(':').nth(1).map_or_else(|| format!("{text:?}"), |target| format!("{target:?}"))
        }
        ("secrets" | "configs", Value::String(text)) => format!("{text:?}"),
        ("volumes" | "secrets" | "configs" | "devices", Value::Object(map)) => {
            field(map, &["target", "source"]).unwrap_or_else(|| value.to_string())
        }
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(base: &str, over: &str) -> Value {
        let parse = |text: &str| -> Value {
            let mut value = serde_saphyr::from_str(text).unwrap();
            normalize(&mut value);
            value
        };
        let mut value = parse(base);
        merge(&mut value, parse(over));
        value
    }

    #[test]
    fn later_files_hold_over_earlier_ones() {
        let base = "services:\n  a:\n    build: .\n    command: [x, y]\n    environment: [A=1, B=2]\n    ports: ['80:80', '80:80']\n    volumes: ['./a:/data', './b:/other']\n";
        let over = "services:\n  a:\n    build:\n      dockerfile: D\n      args: {V: 1}\n    command: [z]\n    environment: {B: 3, C: null}\n    ports: ['81:81', '80:80']\n    volumes: ['./c:/data']\n  b:\n    image: x\n";
        assert_eq!(
            merged(base, over),
            serde_json::json!({ "services": {
                "a": {
                    "build": { "context": ".", "dockerfile": "D", "args": { "V": 1 } },
                    "command": ["z"],
                    "environment": { "A": "1", "B": 3, "C": null },
                    "ports": ["80:80", "81:81"],
                    "volumes": ["./c:/data", "./b:/other"],
                },
                "b": { "image": "x" },
            }})
        );
    }
}
