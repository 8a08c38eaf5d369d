//! The values of a chart and its subcharts in one tree: what is given wins over a chart's defaults, a parent over its
//! subcharts, and `global` is handed down.

use template::{Map, Value};

use super::tree::copy;
use crate::{Error, Flavor, Warnings, part::Part};

const GLOBAL: &str = "global";

/// The values as templates see them: keys that are given as null take a default away.
pub(crate) fn coalesce(part: &Part<'_>, given: &Map, flavor: Flavor, warnings: &Warnings) -> Result<Map, Error> {
    let root = copy(given);
    Work { flavor, merge: false, warnings }.chart(part, &root, "")?;
    Ok(root)
}

/// The values put together with nulls kept, for steps that come before the last.
pub(crate) fn merge(part: &Part<'_>, given: &Map, flavor: Flavor, warnings: &Warnings) -> Result<Map, Error> {
    let root = copy(given);
    Work { flavor, merge: true, warnings }.chart(part, &root, "")?;
    Ok(root)
}

/// Puts `from` under `into` with nulls kept.
pub(crate) fn merge_tables(into: &Map, from: &Map, warnings: &Warnings) {
    tables(into, from, "", true, warnings);
}

struct Work<'a> {
    flavor: Flavor,
    merge: bool,
    warnings: &'a Warnings,
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

impl Work<'_> {
    fn chart(&self, part: &Part<'_>, into: &Map, prefix: &str) -> Result<(), Error> {
        self.defaults(part, into, prefix);
        for child in &part.children {
            let name = child.name();
            let inner = match into.get(name) {
                None => {
                    let inner = Map::new();
                    into.insert(name, inner.clone());
                    inner
                }
                Some(Value::Map(inner)) => inner,
                Some(Value::Bool(b)) => return Err(Error::Values(format!("type mismatch on {name}: {b}"))),
                Some(Value::Nil) => return Err(Error::Values(format!("type mismatch on {name}: %!t(<nil>)"))),
                Some(other) => {
                    let shown = format!("%!t({}={other:?})", other.type_name());
                    return Err(Error::Values(format!("type mismatch on {name}: {shown}")));
                }
            };
            let prefix = join(prefix, part.name());
            self.globals(&inner, into, &prefix);
            self.chart(child, &inner, &prefix)?;
        }
        Ok(())
    }

    fn defaults(&self, part: &Part<'_>, into: &Map, prefix: &str) {
        let prefix = join(prefix, part.name());
        let clean = self.flavor == Flavor::Helm4 && !self.merge;
        for (key, default) in part.values.cells().iter() {
            match into.get(key) {
                None => match default {
                    Value::Nil if clean => {}
                    Value::Map(default) => {
                        let default = copy(default);
                        if clean {
                            clean_nulls(&default);
                        }
                        into.insert(key.clone(), default);
                    }
                    default => into.insert(key.clone(), default.clone()),
                },
                Some(Value::Nil) if !self.merge => {
                    into.remove(key);
                }
                Some(Value::Map(present)) => match default {
                    Value::Map(default) => {
                        let child = part.children.iter().any(|child| key.as_str() == Some(child.name()));
                        let merge = self.merge || child;
                        let default = copy(default);
                        if self.flavor == Flavor::Helm4 && !merge {
                            clean_nulls(&default);
                        }
                        tables(&present, &default, &join(&prefix, &key.to_str()), merge, self.warnings);
                    }
                    Value::Nil => {}
                    _ => self.warnings.add(format!("warning: skipped value for {prefix}.{key}: Not a table.")),
                },
                Some(_) => {}
            }
        }
    }

    fn globals(&self, into: &Map, from: &Map, prefix: &str) {
        let below = match into.get(GLOBAL) {
            None => Map::new(),
            Some(Value::Map(below)) => below,
            Some(_) => {
                self.warnings.add("warning: skipping globals because destination global is not a table.");
                return;
            }
        };
        let above = match from.get(GLOBAL) {
            None => Map::new(),
            Some(Value::Map(above)) => above,
            Some(_) => {
                self.warnings.add("warning: skipping globals because source global is not a table.");
                return;
            }
        };
        for (key, value) in above.pairs() {
            match (value, below.get(&key)) {
                (Value::Map(above), None) => below.insert(key, share(&above)),
                (Value::Map(above), Some(Value::Map(present))) => {
                    let shared = share(&above);
                    tables(&shared, &present, &join(prefix, &key.to_str()), true, self.warnings);
                    below.insert(key, shared);
                }
                (Value::Map(_), Some(_)) => {
                    self.warnings.add(format!("Conflict: cannot merge map onto non-map for {key:?}. Skipping."));
                }
                (_, Some(Value::Map(_))) => self.warnings.add(format!("key {key} is table. Skipping")),
                (value, _) => below.insert(key, value),
            }
        }
        into.insert(GLOBAL, below);
    }
}

/// A new table whose inner tables are still the old ones.
fn share(map: &Map) -> Map {
    map.cells().clone().into()
}

/// Puts `from` under `into`, key by key.
fn tables(into: &Map, from: &Map, prefix: &str, merge: bool, warnings: &Warnings) {
    if into.same(from) {
        return;
    }
    for (key, value) in from.pairs() {
        match (into.get(&key), value) {
            (None, value) => into.insert(key, value),
            (Some(Value::Nil), value) if !merge && !value.is_nil() => {
                into.remove(&key);
            }
            (Some(Value::Nil), _) => {}
            (Some(Value::Map(present)), Value::Map(value)) => {
                tables(&present, &value, &join(prefix, &key.to_str()), merge, warnings);
            }
            (Some(Value::Map(_)), value) if !value.is_nil() => warnings.add(format!(
                "warning: destination for {} is a table. Ignoring non-table value ({value:?})",
                join(prefix, &key.to_str())
            )),
            (Some(present), value @ Value::Map(_)) if !matches!(present, Value::Map(_)) => warnings.add(format!(
                "warning: cannot overwrite table with non table for {} ({value:?})",
                join(prefix, &key.to_str())
            )),
            _ => {}
        }
    }
}

fn clean_nulls(map: &Map) {
    for (key, value) in map.pairs() {
        match value {
            Value::Nil => {
                map.remove(&key);
            }
            Value::Map(inner) => clean_nulls(&inner),
            _ => {}
        }
    }
}
