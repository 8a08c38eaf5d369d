//! The shapes of the kinds that the node serves: what may stand in an object, and how its parts are merged.
//!
//! The shapes come from the published definitions of the Kubernetes API; how lists and maps merge is in [`rules`].

mod check;
mod rules;

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

pub use check::{Findings, check};

use crate::objects::{Resource, resource};

/// A definition: the type behind a name such as `io.k8s.api.core.v1.Container`.
#[derive(Debug)]
pub struct Definition {
    /// The last part of the full name, as in `Container`.
    pub name: String,
    /// The name with its group, as in `core.Container` and `meta.ObjectMeta`.
    pub key: String,
    pub shape: Shape,
    /// Written as a whole by one manager, never field by field.
    pub atomic: bool,
}

/// What a value may be.
#[derive(Debug, Clone)]
pub enum Shape {
    /// The definition at this place.
    Named(usize),
    Struct(BTreeMap<String, Field>),
    Map(Box<Shape>),
    List(Box<Shape>),
    Text,
    /// Text that holds bytes in base64.
    Bytes,
    /// Text that holds a time (RFC 3339).
    Time,
    Integer {
        bits: u8,
    },
    Number,
    Flag,
    IntOrText,
    Quantity,
    Any,
}

/// A field of a struct, with the rules by which it is merged.
#[derive(Debug, Clone)]
pub struct Field {
    pub shape: Shape,
    pub rule: rules::Rule,
}

pub use rules::{Key, List, Rule};

/// All definitions.
pub struct Schema {
    definitions: Vec<Definition>,
    kinds: HashMap<&'static str, usize>,
}

/// The definitions that `GET /openapi` shows, by full name, as JSON Schema with references to `#/definitions/…`.
pub fn documents() -> Map<String, Value> {
    use k8s_openapi::api::{apps, autoscaling, batch, coordination, core, discovery, events, policy};
    use k8s_openapi::apimachinery::pkg::apis::meta;
    let settings = SchemaSettings::draft07().with(|s| {
        s.definitions_path = "/definitions".into();
        s.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    macro_rules! roots {
        ($($kind:ty),* $(,)?) => { $( generator.subschema_for::<$kind>(); )* };
    }
    roots!(
        core::v1::Binding,
        core::v1::ConfigMap,
        core::v1::Endpoints,
        core::v1::Event,
        core::v1::Namespace,
        core::v1::Node,
        core::v1::Pod,
        core::v1::Secret,
        core::v1::Service,
        core::v1::ServiceAccount,
        apps::v1::ControllerRevision,
        apps::v1::Deployment,
        apps::v1::ReplicaSet,
        autoscaling::v1::Scale,
        batch::v1::Job,
        coordination::v1::Lease,
        discovery::v1::EndpointSlice,
        events::v1::Event,
        policy::v1::Eviction,
        meta::v1::DeleteOptions,
        meta::v1::Status,
    );
    let mut definitions = generator.take_definitions(false);
    for (name, definition) in &mut definitions {
        polish(name, definition);
    }
    definitions
}

/// The full name of a kind's definition.
pub fn definition_name(resource: &Resource) -> String {
    let group = match resource.group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("io.k8s.api.{group}.{}.{}", resource.version, resource.kind)
}

/// Makes a definition say what the published ones say.
fn polish(name: &str, definition: &mut Value) {
    let Some(map) = definition.as_object_mut() else { return };
    // The client types always have metadata; the API does not ask for it.
    if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            map.shift_remove("required");
        }
    }
    if name.ends_with(".Quantity") {
        map.insert("type".into(), "string".into());
    }
    if name.ends_with(".IntOrString") {
        map.insert("type".into(), "string".into());
        map.insert("format".into(), "int-or-string".into());
    }
    let kinds: Vec<Value> = resource::ALL
        .iter()
        .filter(|r| definition_name(r) == name)
        .map(|r| serde_json::json!({"group": r.group, "kind": r.kind, "version": r.version}))
        .collect();
    if !kinds.is_empty() {
        map.insert("x-kubernetes-group-version-kind".into(), kinds.into());
    }
    let short = name.rsplit('.').next().unwrap_or(name);
    if rules::is_atomic(short) {
        map.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, property) in properties {
            let rule = rules::rule(short, field);
            if let Some(property) = property.as_object_mut() {
                rule.describe(property);
            }
        }
    }
}

static SCHEMA: OnceLock<Schema> = OnceLock::new();

/// The schema; built at the first use.
pub fn schema() -> &'static Schema {
    SCHEMA.get_or_init(|| Schema::from_documents(&documents()))
}

impl Schema {
    fn from_documents(documents: &Map<String, Value>) -> Self {
        let places: HashMap<&str, usize> = documents.keys().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let definitions = documents.iter().map(|(full, document)| {
            let name = full.rsplit('.').next().unwrap_or(full).to_owned();
            let shape = match name.as_str() {
                "Time" | "MicroTime" => Shape::Time,
                "Quantity" => Shape::Quantity,
                "IntOrString" => Shape::IntOrText,
                "RawExtension" | "FieldsV1" => Shape::Any,
                _ => shape(&name, document, &places),
            };
            let atomic = rules::is_atomic(&name) || matches!(shape, Shape::Any);
            let key = match full.strip_prefix("io.k8s.api.") {
                Some(rest) => format!("{}.{name}", rest.split('.').next().unwrap_or(rest)),
                None => format!("meta.{name}"),
            };
            Definition { name, key, shape, atomic }
        });
        let definitions = definitions.collect();
        let kinds =
            resource::ALL.iter().filter_map(|r| places.get(definition_name(r).as_str()).map(|at| (kind_key(r), *at)));
        let scale = places.get("io.k8s.api.autoscaling.v1.Scale").map(|at| ("autoscaling", *at));
        Self { definitions, kinds: kinds.chain(scale).collect() }
    }

    /// The shape of a kind.
    pub fn of(&self, resource: &Resource) -> &Shape {
        self.kinds.get(kind_key(resource)).map_or(&Shape::Any, |at| &self.definitions[*at].shape)
    }

    /// The shape of a `Scale`.
    pub fn scale(&self) -> &Shape {
        self.kinds.get("autoscaling").map_or(&Shape::Any, |at| &self.definitions[*at].shape)
    }

    /// The definition that a shape names.
    pub fn definition(&self, shape: &Shape) -> Option<&Definition> {
        match shape {
            Shape::Named(at) => self.definitions.get(*at),
            _ => None,
        }
    }

    /// The definition with this key, as in `core.Pod`.
    pub fn by_key(&self, key: &str) -> Option<&Definition> {
        self.definitions.iter().find(|definition| definition.key == key)
    }

    /// The shape behind a name, whether it is written as a whole, and the name.
    pub fn resolve<'a>(&'a self, shape: &'a Shape) -> (&'a Shape, bool, &'a str) {
        match shape {
            Shape::Named(at) => match self.definitions.get(*at) {
                Some(definition) => (&definition.shape, definition.atomic, &definition.name),
                None => (&Shape::Any, true, ""),
            },
            other => (other, false, ""),
        }
    }
}

/// Kinds of the same name in different groups have different plural names but for events.
fn kind_key(resource: &Resource) -> &'static str {
    if resource.group == "events.k8s.io" { "events.k8s.io" } else { resource.plural }
}

fn shape(owner: &str, document: &Value, places: &HashMap<&str, usize>) -> Shape {
    if let Some(reference) = document["$ref"].as_str() {
        let name = reference.trim_start_matches("#/definitions/");
        return places.get(name).map_or(Shape::Any, |at| Shape::Named(*at));
    }
    match (document["type"].as_str(), document["format"].as_str()) {
        (Some("string"), Some("byte")) => Shape::Bytes,
        (Some("string"), Some("date-time")) => Shape::Time,
        (Some("string"), _) => Shape::Text,
        (Some("integer"), Some("int64")) => Shape::Integer { bits: 64 },
        (Some("integer"), _) => Shape::Integer { bits: 32 },
        (Some("number"), _) => Shape::Number,
        (Some("boolean"), _) => Shape::Flag,
        (Some("array"), _) => Shape::List(Box::new(shape(owner, &document["items"], places))),
        (Some("object"), _) => {
            if let Some(properties) = document["properties"].as_object() {
                let fields = properties.iter().map(|(name, property)| {
                    let field = Field { shape: shape(owner, property, places), rule: rules::rule(owner, name) };
                    (name.clone(), field)
                });
                Shape::Struct(fields.collect())
            } else if document["additionalProperties"].is_object() {
                Shape::Map(Box::new(shape(owner, &document["additionalProperties"], places)))
            } else {
                Shape::Any
            }
        }
        _ => Shape::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_shape() {
        for resource in resource::ALL {
            let Shape::Struct(fields) = schema().of(resource) else { panic!("{} has no shape", resource.plural) };
            assert!(fields.contains_key("metadata"), "{}", resource.plural);
        }
        assert!(matches!(schema().scale(), Shape::Struct(_)));
    }

    #[test]
    fn every_rule_is_about_a_field_that_exists() {
        let documents = documents();
        for (definition, field, _) in rules::FIELDS {
            let found = documents.iter().any(|(name, document)| {
                name.ends_with(&format!(".{definition}")) && document["properties"].get(field).is_some()
            });
            assert!(found, "{definition}.{field}");
        }
        for definition in rules::ATOMIC {
            assert!(documents.keys().any(|name| name.ends_with(&format!(".{definition}"))), "{definition}");
        }
    }
}
