//! `metadata.managedFields`: the writers of an object with the fields that each manages.

use serde_json::{Value, json};

use super::fields::{FieldSet, Step};
use crate::{Error, Result};

/// The most writers by update that are told apart; older ones become one.
const UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Apply,
    Update,
}

/// One writer of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Manager {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    /// RFC 3339; empty when it is not known.
    pub time: String,
    /// Empty for the object itself.
    pub subresource: String,
    pub fields: FieldSet,
}

impl Manager {
    /// The writer as error messages show it.
    pub(super) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
            if !self.time.is_empty() {
                text.push_str(&format!(" at {}", self.time));
            }
        }
        text
    }
}

/// Reads `managedFields`.
pub fn decode(list: &Value) -> Result<Vec<Manager>> {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let decoded = entries.iter().map(|entry| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let operation = match entry["operation"].as_str() {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            other => {
                return Err(Error::bad_request(format!(
                    "metadata.managedFields: operation must be Apply or Update, not {other:?}"
                )));
            }
        };
        Ok(Manager {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            time: text("time"),
            subresource: text("subresource"),
            fields: FieldSet::from_json(&entry["fieldsV1"]),
        })
    });
    decoded.collect()
}

/// Writes `managedFields`; null when there are none.
pub fn encode(managers: &[Manager]) -> Value {
    if managers.is_empty() {
        return Value::Null;
    }
    let entries = managers.iter().map(|m| {
        let mut entry = json!({
            "manager": m.manager,
            "operation": match m.operation { Operation::Apply => "Apply", Operation::Update => "Update" },
            "apiVersion": m.api_version,
        });
        if !m.time.is_empty() {
            entry["time"] = m.time.as_str().into();
        }
        entry["fieldsType"] = "FieldsV1".into();
        entry["fieldsV1"] = m.fields.to_json();
        if !m.subresource.is_empty() {
            entry["subresource"] = m.subresource.as_str().into();
        }
        entry
    });
    entries.collect()
}

/// Takes out the fields that nobody manages: identity, and what is not written through this part of the object.
pub(super) fn strip(fields: &mut FieldSet, subresource: &str) {
    let field = |name: &str| Step::Field(name.to_owned());
    fields.member = false;
    for name in ["apiVersion", "kind"] {
        fields.children.remove(&field(name));
    }
    match subresource {
        "status" => fields.children.retain(|step, _| *step == field("status")),
        _ => drop(fields.children.remove(&field("status"))),
    }
    let metadata = field("metadata");
    if let Some(meta) = fields.children.get_mut(&metadata) {
        meta.member = false;
        for name in [
            "name",
            "namespace",
            "generateName",
            "creationTimestamp",
            "selfLink",
            "uid",
            "generation",
            "managedFields",
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            // `generateName` is only managed by those that create; it never changes.
            meta.children.remove(&field(name));
        }
        if meta.is_empty() {
            fields.children.remove(&metadata);
        }
    }
}

/// Makes one of the oldest updaters when there are too many.
pub(super) fn cap(managers: &mut Vec<Manager>) {
    while managers.iter().filter(|m| m.operation == Operation::Update).count() > UPDATERS {
        let mut oldest: Vec<usize> =
            (0..managers.len()).filter(|at| managers[*at].operation == Operation::Update).collect();
        // The one that already stands for many takes in the next.
        oldest.sort_by_key(|at| (managers[*at].manager != ANCIENT, managers[*at].time.clone()));
        let (first, second) = (oldest[0], oldest[1]);
        let fields = managers[second].fields.clone();
        let time = managers[second].time.clone();
        let into = &mut managers[first];
        into.fields.unite(&fields);
        into.manager = ANCIENT.into();
        into.time = time;
        managers.remove(second);
    }
}

/// In the order in which the API shows them: those that apply first, then by time and name.
pub(super) fn sort(managers: &mut [Manager]) {
    let key =
        |m: &Manager| (m.operation == Operation::Update, m.time.clone(), m.manager.clone(), m.subresource.clone());
    managers.sort_by_key(key);
}
