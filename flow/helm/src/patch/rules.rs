//! Which lists of the built-in kinds merge, and by what: the `patchStrategy` and `patchMergeKey` of Kubernetes' types.

/// How a field merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Maps field by field, lists as a whole.
    Plain,
    /// A map of which only the named fields stay.
    RetainKeys,
    /// A map as a whole.
    Replace,
    /// A list of scalars, each its own.
    Set,
    /// A list of maps that are told apart by a field.
    ByKey { name: &'static str, retain: bool },
}

const fn by(name: &'static str) -> Rule {
    Rule::ByKey { name, retain: false }
}

/// What a value is, as far as it matters for merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type<'a> {
    /// An object of this kind.
    Root(&'a str),
    Meta,
    /// The `spec` of an object of this kind.
    Spec(&'a str),
    PodTemplate,
    PodSpec,
    Container,
    JobTemplate,
    /// Nothing in it merges.
    Other,
}

impl Type<'_> {
    /// What a field holds and how it merges.
    pub(super) fn field(self, name: &str) -> (Type<'static>, Rule) {
        let plain = |at| (at, Rule::Plain);
        match (self, name) {
            (Self::Root(_) | Self::PodTemplate | Self::JobTemplate, "metadata") => plain(Type::Meta),
            (Self::Meta, "finalizers") => (Type::Other, Rule::Set),
            (Self::Meta, "ownerReferences") => (Type::Other, by("uid")),

            (Self::Root("Pod"), "spec") | (Self::PodTemplate, "spec") => plain(Type::PodSpec),
            (Self::Root("PodTemplate"), "template") => plain(Type::PodTemplate),
            (Self::Root(kind), "spec") => plain(Type::Spec(spec(kind))),
            (Self::Root("ServiceAccount"), "secrets") => (Type::Other, by("name")),
            (Self::Root("MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration"), "webhooks") => {
                (Type::Other, by("name"))
            }
            (Self::Root("ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy"), _) => plain(Type::Other),

            (Self::Spec("Workload"), "template") => plain(Type::PodTemplate),
            (Self::Spec("Workload"), "strategy") => (Type::Other, Rule::RetainKeys),
            (Self::Spec("CronJob"), "jobTemplate") => plain(Type::JobTemplate),
            (Self::JobTemplate, "spec") => plain(Type::Spec("Workload")),
            (Self::Spec("Service"), "ports") => (Type::Other, by("port")),
            (Self::Spec("PodDisruptionBudget"), "selector") => (Type::Other, Rule::Replace),
            (Self::Spec("Node"), "podCIDRs") => (Type::Other, Rule::Set),
            (Self::Spec("CSINode"), "drivers") => (Type::Other, by("name")),

            (Self::PodSpec, "containers" | "initContainers" | "ephemeralContainers") => (Type::Container, by("name")),
            (Self::PodSpec, "volumes" | "resourceClaims") => (Type::Other, Rule::ByKey { name: "name", retain: true }),
            (Self::PodSpec, "imagePullSecrets" | "schedulingGates") => (Type::Other, by("name")),
            (Self::PodSpec, "hostAliases") => (Type::Other, by("ip")),
            (Self::PodSpec, "topologySpreadConstraints") => (Type::Other, by("topologyKey")),
            (Self::Container, "ports") => (Type::Other, by("containerPort")),
            (Self::Container, "env") => (Type::Other, by("name")),
            (Self::Container, "volumeMounts") => (Type::Other, by("mountPath")),
            (Self::Container, "volumeDevices") => (Type::Other, by("devicePath")),
            _ => plain(Type::Other),
        }
    }
}

fn spec(kind: &str) -> &'static str {
    match kind {
        "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet" | "ReplicationController" | "Job" => "Workload",
        "CronJob" => "CronJob",
        "Service" => "Service",
        "PodDisruptionBudget" => "PodDisruptionBudget",
        "Node" => "Node",
        "CSINode" => "CSINode",
        _ => "",
    }
}

/// Whether a group is one of those whose types Kubernetes itself brings.
pub(super) fn built_in(group: &str) -> bool {
    matches!(
        group,
        "" | "admissionregistration.k8s.io"
            | "apiextensions.k8s.io"
            | "apps"
            | "authentication.k8s.io"
            | "authorization.k8s.io"
            | "autoscaling"
            | "batch"
            | "certificates.k8s.io"
            | "coordination.k8s.io"
            | "discovery.k8s.io"
            | "events.k8s.io"
            | "extensions"
            | "flowcontrol.apiserver.k8s.io"
            | "networking.k8s.io"
            | "node.k8s.io"
            | "policy"
            | "rbac.authorization.k8s.io"
            | "resource.k8s.io"
            | "scheduling.k8s.io"
            | "storage.k8s.io"
    )
}
