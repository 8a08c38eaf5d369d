//! Server-side apply: who manages which field of an object.
//!
//! Every writer has a name. A writer that applies says which fields it wants; fields that it applied before and leaves out now go,
//! unless another writer has them too; a field that another writer has with another value is a conflict. Other writes take over
//! the fields that they change. The rules are those of `structured-merge-diff`.

mod fields;
mod managers;
mod merge;

use serde_json::{Value, json};

pub use fields::{FieldSet, Step};
pub use managers::{Manager, Operation, decode, encode};

use self::fields::{Changes, compare, set_of};
use super::schema::{Rule, Shape};
use crate::{Error, Result};

/// Who writes, and through which part of the object.
#[derive(Debug, Clone)]
pub struct Writer {
    pub manager: String,
    /// Empty for the object itself.
    pub subresource: String,
    pub api_version: String,
    /// The time as managed fields show it.
    pub now: String,
}

/// An object after a write, with its managers.
pub struct Applied {
    pub object: Value,
    pub managers: Vec<Manager>,
}

/// Applies `config` onto `live`. Both without `managedFields`.
pub fn apply(
    shape: &Shape,
    live: Option<&Value>,
    config: &Value,
    mut managers: Vec<Manager>,
    writer: &Writer,
    force: bool,
) -> Result<Applied> {
    merge::check_keys(shape, &Rule::plain(), config, &mut String::new())?;
    let empty = json!({});
    let base = live.unwrap_or(&empty);
    let mut wanted = set_of(shape, &Rule::plain(), config);
    managers::strip(&mut wanted, &writer.subresource);
    let own = |m: &Manager| {
        m.operation == Operation::Apply && m.manager == writer.manager && m.subresource == writer.subresource
    };
    let last = managers.iter().find(|m| own(m)).cloned();
    managers.retain(|m| !own(m));
    let mut object = merge::merge(shape, &Rule::plain(), base.clone(), config);
    if let Some(last) = &last {
        let mut owned = wanted.clone();
        managers.iter().for_each(|m| owned.unite(&m.fields));
        merge::prune(shape, &Rule::plain(), &mut object, &last.fields, &owned);
    }
    let changes = compare(shape, &Rule::plain(), Some(base), Some(&object));
    let taken = changes.written();
    let mut conflicts = Vec::new();
    for manager in &mut managers {
        let conflict = manager.fields.common(&taken);
        if !conflict.is_empty() {
            if !force {
                conflicts.push((manager.clone(), conflict));
                continue;
            }
            manager.fields.subtract(&conflict);
        }
        manager.fields.subtract(&changes.removed);
    }
    if !conflicts.is_empty() {
        return Err(refused(&conflicts));
    }
    managers.retain(|m| !m.fields.is_empty());
    let unchanged = last.as_ref().is_some_and(|last| last.fields == wanted) && changes.is_empty();
    if !wanted.is_empty() {
        managers.push(Manager {
            manager: writer.manager.clone(),
            operation: Operation::Apply,
            api_version: writer.api_version.clone(),
            time: last.filter(|_| unchanged).map_or_else(|| writer.now.clone(), |last| last.time),
            subresource: writer.subresource.clone(),
            fields: wanted,
        });
    }
    managers::sort(&mut managers);
    Ok(Applied { object, managers })
}

/// The managers after a write that is no apply turned `live` into `new`. Both without `managedFields`.
pub fn update(
    shape: &Shape,
    live: Option<&Value>,
    new: &Value,
    mut managers: Vec<Manager>,
    writer: &Writer,
) -> Vec<Manager> {
    let empty = json!({});
    let changes = compare(shape, &Rule::plain(), Some(live.unwrap_or(&empty)), Some(new));
    let mut taken = changes.written();
    managers::strip(&mut taken, &writer.subresource);
    let Changes { removed, .. } = changes;
    let own = |m: &Manager| {
        m.operation == Operation::Update && m.manager == writer.manager && m.subresource == writer.subresource
    };
    for manager in managers.iter_mut().filter(|m| !own(m)) {
        manager.fields.subtract(&taken);
        manager.fields.subtract(&removed);
    }
    match managers.iter_mut().find(|m| own(m)) {
        Some(manager) => {
            let before = manager.fields.clone();
            manager.fields.subtract(&removed);
            manager.fields.unite(&taken);
            if manager.fields != before || !taken.is_empty() {
                manager.time.clone_from(&writer.now);
                manager.api_version.clone_from(&writer.api_version);
            }
        }
        None => managers.push(Manager {
            manager: writer.manager.clone(),
            operation: Operation::Update,
            api_version: writer.api_version.clone(),
            time: writer.now.clone(),
            subresource: writer.subresource.clone(),
            fields: taken,
        }),
    }
    managers.retain(|m| !m.fields.is_empty());
    managers::cap(&mut managers);
    managers::sort(&mut managers);
    managers
}

/// The refusal that names every conflict.
fn refused(conflicts: &[(Manager, FieldSet)]) -> Error {
    let mut causes = Vec::new();
    let mut sentences: Vec<String> = Vec::new();
    let mut single = String::new();
    for (manager, fields) in conflicts {
        sentences.push(format!("conflicts with {}:", manager.shown()));
        for path in fields.paths() {
            single = format!("conflict with {}: {path}", manager.shown());
            sentences.push(format!("- {path}"));
            causes.push(json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {}", manager.shown()),
                "field": path,
            }));
        }
    }
    let message = match causes.len() {
        1 => format!("Apply failed with 1 conflict: {single}"),
        many => format!("Apply failed with {many} conflicts: {}", sentences.join("\n")),
    };
    Error::refused(http::StatusCode::CONFLICT, "Conflict", message).with_details(json!({"causes": causes}))
}

#[cfg(test)]
mod tests;
