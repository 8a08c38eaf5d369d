//! How lists and maps merge: the `x-kubernetes-list-type` and `x-kubernetes-patch-*` of the published definitions.

use serde_json::{Map, Value};

/// A field by which the items of a list are told apart, with the value that a missing one stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub field: &'static str,
    pub default: Option<&'static str>,
}

/// What a list is to server-side apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Written as a whole.
    Atomic,
    /// Scalars, each its own.
    Set,
    /// Maps, told apart by keys.
    Map(&'static [Key]),
}

/// How the value of a field merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub list: List,
    /// A map that is written as a whole.
    pub atomic_map: bool,
    /// In a strategic merge patch, lists of maps merge by this field; empty merges a list of scalars; `None` replaces.
    pub merge_key: Option<&'static str>,
    /// In a strategic merge patch, only the fields that the patch names are kept, where it says so.
    pub retain_keys: bool,
}

const PLAIN: Rule = Rule { list: List::Atomic, atomic_map: false, merge_key: None, retain_keys: false };

const fn key(field: &'static str) -> Key {
    Key { field, default: None }
}

const NAME: &[Key] = &[key("name")];
const TYPE: &[Key] = &[key("type")];
const IP: &[Key] = &[key("ip")];
const PROTOCOL: Key = Key { field: "protocol", default: Some("TCP") };

const fn by(keys: &'static [Key], merge_key: &'static str) -> Rule {
    Rule { list: List::Map(keys), merge_key: Some(merge_key), ..PLAIN }
}

const BY_NAME: Rule = by(NAME, "name");
const BY_TYPE: Rule = by(TYPE, "type");
const SET: Rule = Rule { list: List::Set, merge_key: Some(""), ..PLAIN };
const ATOMIC_MAP: Rule = Rule { atomic_map: true, ..PLAIN };
const RETAINING: Rule = Rule { retain_keys: true, ..PLAIN };

/// Fields that do not follow the plain rule (lists as a whole, maps field by field): definition, field, rule.
pub(super) const FIELDS: &[(&str, &str, Rule)] = &[
    ("ObjectMeta", "finalizers", SET),
    ("ObjectMeta", "ownerReferences", by(&[key("uid")], "uid")),
    ("PodSpec", "containers", BY_NAME),
    ("PodSpec", "initContainers", BY_NAME),
    ("PodSpec", "ephemeralContainers", BY_NAME),
    ("PodSpec", "volumes", Rule { retain_keys: true, ..BY_NAME }),
    ("PodSpec", "imagePullSecrets", BY_NAME),
    ("PodSpec", "hostAliases", by(IP, "ip")),
    ("PodSpec", "topologySpreadConstraints", by(&[key("topologyKey"), key("whenUnsatisfiable")], "topologyKey")),
    ("PodSpec", "schedulingGates", BY_NAME),
    ("PodSpec", "resourceClaims", Rule { retain_keys: true, ..BY_NAME }),
    ("PodSpec", "nodeSelector", ATOMIC_MAP),
    ("Container", "env", BY_NAME),
    ("Container", "ports", by(&[key("containerPort"), PROTOCOL], "containerPort")),
    ("Container", "volumeMounts", by(&[key("mountPath")], "mountPath")),
    ("Container", "volumeDevices", by(&[key("devicePath")], "devicePath")),
    ("EphemeralContainer", "env", BY_NAME),
    ("EphemeralContainer", "ports", by(&[key("containerPort"), PROTOCOL], "containerPort")),
    ("EphemeralContainer", "volumeMounts", by(&[key("mountPath")], "mountPath")),
    ("EphemeralContainer", "volumeDevices", by(&[key("devicePath")], "devicePath")),
    ("ResourceRequirements", "claims", Rule { list: List::Map(NAME), ..PLAIN }),
    ("PodStatus", "conditions", BY_TYPE),
    ("PodStatus", "podIPs", by(IP, "ip")),
    ("PodStatus", "hostIPs", Rule { merge_key: Some("ip"), ..PLAIN }),
    ("PodStatus", "resourceClaimStatuses", Rule { retain_keys: true, ..BY_NAME }),
    ("ServiceSpec", "ports", by(&[key("port"), PROTOCOL], "port")),
    ("ServiceSpec", "selector", ATOMIC_MAP),
    ("ServiceStatus", "conditions", BY_TYPE),
    ("ServiceAccount", "secrets", BY_NAME),
    ("NamespaceStatus", "conditions", BY_TYPE),
    ("NodeSpec", "podCIDRs", SET),
    ("NodeStatus", "addresses", BY_TYPE),
    ("NodeStatus", "conditions", BY_TYPE),
    ("DeploymentSpec", "strategy", RETAINING),
    ("DeploymentStatus", "conditions", BY_TYPE),
    ("ReplicaSetStatus", "conditions", BY_TYPE),
    ("JobStatus", "conditions", Rule { merge_key: Some("type"), ..PLAIN }),
    ("Endpoint", "addresses", Rule { list: List::Set, ..PLAIN }),
    ("UncountedTerminatedPods", "failed", Rule { list: List::Set, ..PLAIN }),
    ("UncountedTerminatedPods", "succeeded", Rule { list: List::Set, ..PLAIN }),
];

/// Definitions that are written as a whole wherever they stand.
pub(super) const ATOMIC: &[&str] = &[
    "ConfigMapKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "OwnerReference",
    "ResourceFieldSelector",
    "SecretKeySelector",
    "TypedLocalObjectReference",
];

pub(super) fn rule(definition: &str, field: &str) -> Rule {
    FIELDS.iter().find(|(d, f, _)| *d == definition && *f == field).map_or(PLAIN, |(_, _, rule)| *rule)
}

pub(super) fn is_atomic(definition: &str) -> bool {
    ATOMIC.contains(&definition)
}

impl Rule {
    /// Lists as a whole, maps field by field.
    pub const fn plain() -> Self {
        PLAIN
    }

    /// Adds the extensions that say this rule to a property.
    pub(super) fn describe(&self, property: &mut Map<String, Value>) {
        if self.atomic_map {
            property.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        match self.list {
            List::Atomic if property.get("type").is_some_and(|t| t == "array") => {
                property.insert("x-kubernetes-list-type".into(), "atomic".into());
            }
            List::Atomic => {}
            List::Set => {
                property.insert("x-kubernetes-list-type".into(), "set".into());
            }
            List::Map(keys) => {
                let keys: Vec<Value> = keys.iter().map(|key| key.field.into()).collect();
                property.insert("x-kubernetes-list-map-keys".into(), keys.into());
                property.insert("x-kubernetes-list-type".into(), "map".into());
            }
        }
        let merges = self.merge_key.is_some();
        let strategy = match (merges, self.retain_keys) {
            (true, true) => "merge,retainKeys",
            (true, false) => "merge",
            (false, true) => "retainKeys",
            (false, false) => return,
        };
        if let Some(key) = self.merge_key.filter(|key| !key.is_empty()) {
            property.insert("x-kubernetes-patch-merge-key".into(), key.into());
        }
        property.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    }
}
