//! The fields of a kustomization that name something, and a kustomization as kustomize writes one from its own types.

use yaml::{Map, Value};

use super::{Localized, Root};
use crate::{Error, Result};

/// Fields whose content is the user's own: nothing is left out of it.
const FREE: [&str; 8] =
    ["openapi", "commonLabels", "commonAnnotations", "pairs", "annotations", "valuesInline", "valuesLocal", "labels"];

/// The same kustomization without what is empty, with the fields that are always there.
pub(super) fn canonical(value: Value) -> Value {
    let Value::Map(fields) = value else { return Value::Map(Map::new()) };
    let mut out = table(fields);
    each(&mut out, "vars", |var| {
        var.entry("name".to_owned()).or_insert_with(|| "".into());
        for (from, to, inner) in
            [("objRef", "objref", ("apiversion", "apiVersion")), ("fieldRef", "fieldref", ("fieldpath", "fieldPath"))]
        {
            if let Some(other) = var.remove(from) {
                var.insert(to.to_owned(), other);
            }
            let Value::Map(found) = var.entry(to.to_owned()).or_insert_with(|| Value::Map(Map::new())) else {
                continue;
            };
            if let Some(other) = found.remove(inner.0) {
                found.insert(inner.1.to_owned(), other);
            }
            if to == "objref" {
                found.entry("name".to_owned()).or_insert_with(|| "".into());
            }
        }
    });
    each(&mut out, "replicas", |replica| {
        replica.entry("count".to_owned()).or_insert(Value::Int(0));
    });
    each(&mut out, "replacements", |replacement| {
        each(replacement, "targets", |target| {
            target.entry("select".to_owned()).or_default();
        });
    });
    if let Some(Value::Map(sort)) = out.get_mut("sortOptions")
        && let Some(Value::Map(legacy)) = sort.get_mut("legacySortOptions")
    {
        for name in ["orderFirst", "orderLast"] {
            legacy.entry(name.to_owned()).or_default();
        }
    }
    Value::Map(out)
}

fn each(fields: &mut Map, name: &str, mut change: impl FnMut(&mut Map)) {
    if let Some(Value::List(entries)) = fields.get_mut(name) {
        entries.iter_mut().filter_map(Value::as_map_mut).for_each(&mut change);
    }
}

fn table(fields: Map) -> Map {
    fields.into_iter().filter_map(|(name, value)| Some((name.clone(), kept(&name, value)?))).collect()
}

/// A field as it is written; nothing when it is as if it were not there.
fn kept(name: &str, value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Bool(false) => None,
        Value::Int(0) | Value::Uint(0) if name != "count" => None,
        Value::String(text) if text.is_empty() && name != "sourceValue" => None,
        Value::List(items) if items.is_empty() => None,
        Value::Map(map) if FREE.contains(&name) => (!map.is_empty()).then_some(Value::Map(map)),
        Value::Map(map) => Some(Value::Map(table(map))),
        Value::List(items) => Some(Value::List(
            items
                .into_iter()
                .map(|item| match item {
                    Value::Map(map) => Value::Map(table(map)),
                    other => other,
                })
                .collect(),
        )),
        other => Some(other),
    }
}

impl Root<'_> {
    pub(super) fn fields(&self, fields: &mut Map, copy: &mut Localized) -> Result<()> {
        let unable = |what: &str| format!("unable to localize {what}");
        if let Some(Value::Map(openapi)) = fields.get_mut("openapi") {
            let done = change(openapi, "path", |name| self.file(name, copy));
            done.map_err(|error| error.during(unable("openapi path")))?;
        }
        for name in ["bases", "components"] {
            texts(fields, name, |entry| self.directory(entry, copy))
                .map_err(|error| error.during(unable(&format!("{name} entry"))))?;
        }
        for name in ["configurations", "crds"] {
            texts(fields, name, |entry| self.file(entry, copy))
                .map_err(|error| error.during(unable(&format!("{name} entry"))))?;
        }
        texts(fields, "resources", |entry| self.resource(entry, copy))
            .map_err(|error| error.during(unable("resources entry")))?;
        for name in ["configMapGenerator", "secretGenerator"] {
            entries(fields, name, |generator| self.generator(generator, copy))
                .map_err(|error| error.during(unable(name)))?;
        }
        self.charts(fields, copy)?;
        for name in ["patches", "patchesJson6902"] {
            entries(fields, name, |patch| change(patch, "path", |name| self.file(name, copy)))
                .map_err(|error| error.during(unable(name)))?;
        }
        texts(fields, "patchesStrategicMerge", |entry| self.patch(entry, copy))
            .map_err(|error| error.during(unable("patchesStrategicMerge entry")))?;
        entries(fields, "replacements", |entry| change(entry, "path", |name| self.file(name, copy)))
            .map_err(|error| error.during(unable("replacements entry")))
    }

    fn generator(&self, generator: &mut Map, copy: &mut Localized) -> Result<()> {
        change(generator, "env", |name| self.file(name, copy))
            .map_err(|error| error.during("unable to localize generator env file"))?;
        texts(generator, "envs", |name| self.file(name, copy))
            .map_err(|error| error.during("unable to localize generator envs file"))?;
        texts(generator, "files", |name| self.source(name, copy))
    }
}

/// Changes the text of a field, if there is one.
pub(super) fn change(fields: &mut Map, name: &str, new: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    if let Some(Value::String(text)) = fields.get_mut(name) {
        *text = new(text)?;
    }
    Ok(())
}

/// Changes every text of a list.
pub(super) fn texts(fields: &mut Map, name: &str, mut new: impl FnMut(&str) -> Result<String>) -> Result<()> {
    if let Some(Value::List(items)) = fields.get_mut(name) {
        for item in items {
            if let Value::String(text) = item {
                *text = new(text)?;
            }
        }
    }
    Ok(())
}

/// Goes through the maps of a list.
pub(super) fn entries(
    fields: &mut Map,
    name: &str,
    mut each: impl FnMut(&mut Map) -> std::result::Result<(), Error>,
) -> Result<()> {
    match fields.get_mut(name) {
        Some(Value::List(items)) => items.iter_mut().filter_map(Value::as_map_mut).try_for_each(&mut each),
        _ => Ok(()),
    }
}
