//! The few fields of an object that decide what is done with it.

use std::collections::BTreeMap;

use yaml::Value;

use crate::{Flavor, metadata::decode_error};

/// `apiVersion`, `kind`, name, namespace and annotations of an object; empty where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub annotations: BTreeMap<String, String>,
}

impl Head {
    /// Reads the head of a document, all of which must be YAML.
    pub fn read(document: &str, flavor: Flavor) -> Result<Self, String> {
        let value = yaml::fields(document, &["apiVersion", "kind", "metadata"])
            .map_err(|error| format!("error converting YAML to JSON: {error}"))?;
        let (package, space) = match flavor {
            Flavor::Helm3 => ("releaseutil.SimpleHead", "SimpleHead"),
            Flavor::Helm4 => ("util.SimpleHead", "SimpleHead"),
        };
        let mut head = Self::default();
        let fields = match &value {
            Value::Map(fields) => fields,
            Value::Null => return Ok(head),
            other => return Err(decode_error(other, "", package)),
        };
        text(fields.get("apiVersion"), &mut head.version, &format!("{space}.apiVersion"))?;
        text(fields.get("kind"), &mut head.kind, &format!("{space}.kind"))?;
        let metadata = match fields.get("metadata") {
            None | Some(Value::Null) => return Ok(head),
            Some(Value::Map(metadata)) => metadata,
            Some(other) => {
                let wanted = "struct { Name string \"json:\\\"name\\\"\"; Annotations map[string]string \"json:\\\"annotations\\\"\" }";
                return Err(decode_error(other, &format!("{space}.metadata"), wanted));
            }
        };
        text(metadata.get("name"), &mut head.name, &format!("{space}.metadata.name"))?;
        let mut ignored = String::new();
        if text(metadata.get("namespace"), &mut ignored, "").is_ok() {
            head.namespace = ignored;
        }
        match metadata.get("annotations") {
            None | Some(Value::Null) => {}
            Some(Value::Map(annotations)) => {
                for (key, value) in annotations {
                    let mut annotation = String::new();
                    text(Some(value), &mut annotation, &format!("{space}.metadata.annotations"))?;
                    head.annotations.insert(key.clone(), annotation);
                }
            }
            Some(other) => {
                return Err(decode_error(other, &format!("{space}.metadata.annotations"), "map[string]string"));
            }
        }
        Ok(head)
    }

    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }
}

fn text(value: Option<&Value>, into: &mut String, place: &str) -> Result<(), String> {
    match value {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => into.clone_from(text),
        Some(Value::Bool(b)) => *into = b.to_string(),
        Some(Value::Int(n)) => *into = n.to_string(),
        Some(Value::Uint(n)) => *into = n.to_string(),
        Some(Value::Float(f)) => *into = yaml::go_float(*f),
        Some(other) => return Err(decode_error(other, place, "string")),
    }
    Ok(())
}
