//! Names that Kubernetes would refuse, and APIs that it is giving up.

use crate::KubeVersion;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Why a kind may not have this name.
pub(super) fn fault(kind: &str, name: &str) -> Option<String> {
    let label = |text: &str| {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        end(text.chars().next())
            && end(text.chars().last())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    let long = |most: usize| (name.len() > most).then(|| format!("must be no more than {most} characters"));
    match kind.to_lowercase().as_str() {
        "certificatesigningrequest" => None,
        "role" | "clusterrole" | "rolebinding" | "clusterrolebinding" => match name {
            "." | ".." => Some(format!("may not be '{name}'")),
            name if name.contains('/') => Some("may not contain '/'".to_owned()),
            name if name.contains('%') => Some("may not contain '%'".to_owned()),
            _ => None,
        },
        "service" => long(63).or_else(|| {
            (!label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase())).then(|| LABEL_1035.to_owned())
        }),
        "namespace" => long(63).or_else(|| (!label(name)).then(|| LABEL.to_owned())),
        _ => long(253).or_else(|| (!name.split('.').all(label)).then(|| SUBDOMAIN.to_owned())),
    }
}

/// API, kinds, deprecated in 1.N, gone in 1.N, what to use.
type Deprecation = (&'static str, &'static [&'static str], u64, u64, &'static str);

const DEPRECATED: [Deprecation; 15] = [
    ("extensions/v1beta1", &["Deployment", "DaemonSet", "ReplicaSet"], 8, 16, "apps/v1"),
    ("extensions/v1beta1", &["Ingress"], 14, 22, "networking.k8s.io/v1"),
    ("extensions/v1beta1", &["NetworkPolicy"], 9, 16, "networking.k8s.io/v1"),
    ("apps/v1beta1", &["Deployment", "StatefulSet", "ControllerRevision"], 8, 16, "apps/v1"),
    ("apps/v1beta2", &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ControllerRevision"], 9, 16, "apps/v1"),
    ("batch/v1beta1", &["CronJob"], 21, 25, "batch/v1"),
    ("policy/v1beta1", &["PodDisruptionBudget"], 21, 25, "policy/v1"),
    ("networking.k8s.io/v1beta1", &["Ingress", "IngressClass"], 19, 22, "networking.k8s.io/v1"),
    (
        "rbac.authorization.k8s.io/v1beta1",
        &["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"],
        17,
        22,
        "rbac.authorization.k8s.io/v1",
    ),
    ("scheduling.k8s.io/v1beta1", &["PriorityClass"], 14, 22, "scheduling.k8s.io/v1"),
    (
        "admissionregistration.k8s.io/v1beta1",
        &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
        16,
        22,
        "admissionregistration.k8s.io/v1",
    ),
    (
        "storage.k8s.io/v1beta1",
        &["StorageClass", "CSIDriver", "CSINode", "VolumeAttachment"],
        19,
        22,
        "storage.k8s.io/v1",
    ),
    ("coordination.k8s.io/v1beta1", &["Lease"], 19, 22, "coordination.k8s.io/v1"),
    ("discovery.k8s.io/v1beta1", &["EndpointSlice"], 21, 25, "discovery.k8s.io/v1"),
    ("certificates.k8s.io/v1beta1", &["CertificateSigningRequest"], 19, 22, "certificates.k8s.io/v1"),
];

/// What Kubernetes says of an API that it is giving up, once it does.
pub(super) fn deprecated(version: &str, kind: &str, kube: &KubeVersion) -> Option<String> {
    let (major, minor): (u64, u64) = (kube.major.parse().ok()?, kube.minor.parse().ok()?);
    let (_, _, since, gone, instead) =
        DEPRECATED.iter().find(|(api, kinds, ..)| *api == version && kinds.contains(&kind))?;
    (major > 1 || minor >= *since).then(|| {
        format!("{version} {kind} is deprecated in v1.{since}+, unavailable in v1.{gone}+; use {instead} {kind}")
    })
}
