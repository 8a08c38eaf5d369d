//! File synchronisation: a map of patterns to destinations became a list of rules.

use yaml::{Map, Value};

use crate::tree::text;

/// v1beta9 → v1beta10, for one artifact.
pub(super) fn rules(artifact: &mut Map) {
    let Some(Value::Map(old)) = artifact.remove("sync") else { return };
    let rules = old.keys().map(|source| rule(source, text(&old, source))).collect();
    artifact.insert("sync".to_owned(), Value::Map(Map::from([("manual".to_owned(), Value::List(rules))])));
}

fn rule(source: &str, destination: &str) -> Value {
    let (source, (destination, strip)) = match (directory(source), source.split_once("***")) {
        (Some(directory), _) => (source.to_owned(), simplify(destination, directory)),
        (None, Some((directory, _))) => (source.replace("***", "**"), simplify(destination, directory)),
        // Flattens what it matches, which no rule can say.
        (None, None) => (source.to_owned(), (destination.to_owned(), String::new())),
    };
    let fields = [("src", source), ("dest", destination), ("strip", strip)];
    let filled = fields.into_iter().filter(|(_, value)| !value.is_empty());
    Value::Map(filled.map(|(key, value)| (key.to_owned(), value.into())).collect())
}

/// The directory of a pattern that has no star in it and at most one behind it.
fn directory(pattern: &str) -> Option<&str> {
    let (directory, name) = pattern.split_at(pattern.rfind('/').map_or(0, |slash| slash + 1));
    (!directory.contains('*') && !name.is_empty() && name.matches('*').count() <= 1).then_some(directory)
}

/// What need not be stripped when the destination ends in it.
fn simplify(destination: &str, strip: &str) -> (String, String) {
    if strip.is_empty() || strip == "/" || destination.is_empty() {
        return (destination.to_owned(), strip.to_owned());
    }
    let whole = if destination.ends_with('/') { destination.to_owned() } else { format!("{destination}/") };
    if !whole.ends_with(strip) {
        return (destination.to_owned(), strip.to_owned());
    }
    let tail = strip.strip_prefix('/').unwrap_or(strip);
    let short = whole.strip_suffix(tail).unwrap_or(&whole);
    (if short.is_empty() { "." } else { short }.to_owned(), String::new())
}
