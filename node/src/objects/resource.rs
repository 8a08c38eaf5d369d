//! The table of kinds that the node serves.

/// One kind of object: how it is named in URLs, in objects and in the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    pub categories: &'static [&'static str],
    /// Whether `metadata.generation` counts the versions of the spec.
    pub generations: bool,
    /// The kind under whose name the objects are stored, where that is another.
    pub stored_as: Option<&'static Resource>,
}

/// A part of an object with a URL of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Subresource {
    pub name: &'static str,
    /// The group and version of what is sent and answered there.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

impl Resource {
    /// What stands in an object's `apiVersion`: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind in the log: `k8s/<group or core>/<plural>`.
    pub fn log_kind(&self) -> String {
        let stored = self.stored_as.unwrap_or(self);
        let group = if stored.group.is_empty() { "core" } else { stored.group };
        format!("k8s/{group}/{}", stored.plural)
    }

    /// The key in the log of the object `name` in `namespace`.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const PART_VERBS: &[&str] = &["get", "patch", "update"];

const fn status(group: &'static str, version: &'static str, kind: &'static str) -> Subresource {
    Subresource { name: "status", group, version, kind, verbs: PART_VERBS }
}

const SCALE: Subresource =
    Subresource { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", verbs: PART_VERBS };

const PLAIN: Resource = Resource {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    namespaced: true,
    verbs: ALL_VERBS,
    subresources: &[],
    categories: &[],
    generations: false,
    stored_as: None,
};

pub static NAMESPACES: Resource = Resource {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[
        status("", "v1", "Namespace"),
        Subresource { name: "finalize", group: "", version: "v1", kind: "Namespace", verbs: &["update"] },
    ],
    ..PLAIN
};

const STREAM_VERBS: &[&str] = &["create", "get"];

pub static PODS: Resource = Resource {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    subresources: &[
        Subresource { name: "attach", group: "", version: "v1", kind: "PodAttachOptions", verbs: STREAM_VERBS },
        Subresource { name: "binding", group: "", version: "v1", kind: "Binding", verbs: &["create"] },
        Subresource { name: "eviction", group: "policy", version: "v1", kind: "Eviction", verbs: &["create"] },
        Subresource { name: "exec", group: "", version: "v1", kind: "PodExecOptions", verbs: STREAM_VERBS },
        Subresource { name: "log", group: "", version: "v1", kind: "Pod", verbs: &["get"] },
        Subresource {
            name: "portforward",
            group: "",
            version: "v1",
            kind: "PodPortForwardOptions",
            verbs: STREAM_VERBS,
        },
        status("", "v1", "Pod"),
    ],
    categories: &["all"],
    ..PLAIN
};

pub static SERVICES: Resource = Resource {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    subresources: &[status("", "v1", "Service")],
    categories: &["all"],
    ..PLAIN
};

pub static ENDPOINTS: Resource =
    Resource { kind: "Endpoints", plural: "endpoints", singular: "endpoints", short_names: &["ep"], ..PLAIN };

pub static ENDPOINT_SLICES: Resource = Resource {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    generations: true,
    ..PLAIN
};

pub static CONFIG_MAPS: Resource =
    Resource { kind: "ConfigMap", plural: "configmaps", singular: "configmap", short_names: &["cm"], ..PLAIN };

pub static SECRETS: Resource = Resource { kind: "Secret", plural: "secrets", singular: "secret", ..PLAIN };

pub static SERVICE_ACCOUNTS: Resource = Resource {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    ..PLAIN
};

pub static EVENTS: Resource =
    Resource { kind: "Event", plural: "events", singular: "event", short_names: &["ev"], ..PLAIN };

/// The newer shape of the same events.
pub static EVENTS_V1: Resource = Resource {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    stored_as: Some(&EVENTS),
    ..PLAIN
};

pub static NODES: Resource = Resource {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    subresources: &[status("", "v1", "Node")],
    ..PLAIN
};

pub static DEPLOYMENTS: Resource = Resource {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    subresources: &[SCALE, status("apps", "v1", "Deployment")],
    categories: &["all"],
    generations: true,
    ..PLAIN
};

pub static REPLICA_SETS: Resource = Resource {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    subresources: &[SCALE, status("apps", "v1", "ReplicaSet")],
    categories: &["all"],
    generations: true,
    ..PLAIN
};

pub static CONTROLLER_REVISIONS: Resource = Resource {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    ..PLAIN
};

pub static JOBS: Resource = Resource {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    subresources: &[status("batch", "v1", "Job")],
    categories: &["all"],
    generations: true,
    ..PLAIN
};

pub static LEASES: Resource =
    Resource { group: "coordination.k8s.io", kind: "Lease", plural: "leases", singular: "lease", ..PLAIN };

/// Every kind, in the order in which discovery shows them.
pub static ALL: &[&Resource] = &[
    &CONFIG_MAPS,
    &ENDPOINTS,
    &EVENTS,
    &NAMESPACES,
    &NODES,
    &PODS,
    &SECRETS,
    &SERVICE_ACCOUNTS,
    &SERVICES,
    &CONTROLLER_REVISIONS,
    &DEPLOYMENTS,
    &REPLICA_SETS,
    &EVENTS_V1,
    &JOBS,
    &LEASES,
    &ENDPOINT_SLICES,
];

/// The kind that is served under this group, version and plural name.
pub fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// The kind of an object with this `apiVersion` and `kind`.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ALL.iter().copied().find(|r| r.group == group && r.version == version && r.kind == kind)
}
