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

/// API, kinds (their lists too), deprecated in 1.N, gone in 1.N (0: not known), what to use: an API, an API and its kind, or nothing.
type Deprecation = (&'static str, &'static [&'static str], u64, u64, &'static str);

/// As Kubernetes 1.37 says it of itself.
const DEPRECATED: &[Deprecation] = &[
    ("admission.k8s.io/v1beta1", &["AdmissionReview"], 19, 22, "admission.k8s.io/v1"),
    (
        "admissionregistration.k8s.io/v1alpha1",
        &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"],
        29,
        32,
        "",
    ),
    (
        "admissionregistration.k8s.io/v1alpha1",
        &["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"],
        35,
        38,
        "",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
        16,
        22,
        "admissionregistration.k8s.io/v1",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"],
        31,
        34,
        "",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        &["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"],
        37,
        40,
        "admissionregistration.k8s.io/v1",
    ),
    ("apidiscovery.k8s.io/v2beta1", &["APIGroupDiscovery"], 32, 35, ""),
    ("apps/v1beta1", &["ControllerRevision", "Deployment", "DeploymentRollback", "StatefulSet"], 8, 16, "apps/v1"),
    ("apps/v1beta1", &["Scale"], 8, 16, "autoscaling/v1"),
    ("apps/v1beta2", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"], 9, 16, "apps/v1"),
    ("apps/v1beta2", &["Scale"], 9, 16, "autoscaling/v1"),
    ("authentication.k8s.io/v1alpha1", &["SelfSubjectReview"], 29, 32, ""),
    ("authentication.k8s.io/v1beta1", &["TokenReview"], 19, 22, "authentication.k8s.io/v1"),
    ("authentication.k8s.io/v1beta1", &["SelfSubjectReview"], 30, 33, ""),
    (
        "authorization.k8s.io/v1beta1",
        &["LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"],
        19,
        22,
        "authorization.k8s.io/v1",
    ),
    ("batch/v1beta1", &["CronJob"], 21, 25, "batch/v1"),
    ("certificates.k8s.io/v1alpha1", &["ClusterTrustBundle"], 34, 37, ""),
    ("certificates.k8s.io/v1beta1", &["CertificateSigningRequest"], 19, 22, "certificates.k8s.io/v1"),
    ("certificates.k8s.io/v1beta1", &["ClusterTrustBundle", "PodCertificateRequest"], 37, 40, "certificates.k8s.io/v1"),
    ("coordination.k8s.io/v1alpha2", &["LeaseCandidate"], 35, 38, ""),
    ("coordination.k8s.io/v1beta1", &["Lease"], 19, 22, "coordination.k8s.io/v1"),
    ("coordination.k8s.io/v1beta1", &["LeaseCandidate"], 36, 39, ""),
    ("discovery.k8s.io/v1beta1", &["EndpointSlice"], 21, 25, "discovery.k8s.io/v1"),
    ("events.k8s.io/v1beta1", &["Event"], 22, 25, ""),
    ("extensions/v1beta1", &["Scale"], 2, 16, ""),
    ("extensions/v1beta1", &["DeploymentRollback"], 8, 16, ""),
    ("extensions/v1beta1", &["DaemonSet", "Deployment", "ReplicaSet"], 8, 16, "apps/v1"),
    ("extensions/v1beta1", &["NetworkPolicy"], 9, 16, "networking.k8s.io/v1"),
    ("extensions/v1beta1", &["Ingress"], 14, 22, "networking.k8s.io/v1"),
    (
        "flowcontrol.apiserver.k8s.io/v1beta1",
        &["FlowSchema", "PriorityLevelConfiguration"],
        23,
        26,
        "flowcontrol.apiserver.k8s.io/v1beta3",
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1beta2",
        &["FlowSchema", "PriorityLevelConfiguration"],
        26,
        29,
        "flowcontrol.apiserver.k8s.io/v1beta3",
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1beta3",
        &["FlowSchema", "PriorityLevelConfiguration"],
        29,
        32,
        "flowcontrol.apiserver.k8s.io/v1",
    ),
    ("lifecycle.k8s.io/v1alpha1", &["Eviction", "EvictionRequest"], 40, 43, ""),
    ("networking.k8s.io/v1beta1", &["Ingress"], 19, 22, "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", &["IngressClass"], 19, 22, "networking.k8s.io/v1 IngressClassList"),
    ("networking.k8s.io/v1beta1", &["IPAddress", "ServiceCIDR"], 34, 37, ""),
    ("node.k8s.io/v1beta1", &["RuntimeClass"], 22, 25, ""),
    ("policy/v1beta1", &["PodDisruptionBudget"], 21, 25, "policy/v1"),
    ("policy/v1beta1", &["Eviction"], 22, 25, ""),
    (
        "rbac.authorization.k8s.io/v1beta1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
        17,
        22,
        "rbac.authorization.k8s.io/v1",
    ),
    ("resource.k8s.io/v1alpha3", &["DeviceTaintRule"], 36, 39, ""),
    ("resource.k8s.io/v1alpha3", &["ResourcePoolStatusRequest"], 39, 42, ""),
    (
        "resource.k8s.io/v1beta1",
        &["DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"],
        35,
        38,
        "",
    ),
    (
        "resource.k8s.io/v1beta2",
        &["DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"],
        36,
        39,
        "",
    ),
    ("resource.k8s.io/v1beta2", &["DeviceTaintRule"], 39, 42, ""),
    ("scheduling.k8s.io/v1beta1", &["PriorityClass"], 14, 22, "scheduling.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", &["PodGroup", "Workload"], 40, 43, ""),
    ("storage.k8s.io/v1alpha1", &["VolumeAttachment"], 21, 24, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1alpha1", &["CSIStorageCapacity"], 21, 24, "storage.k8s.io/v1beta1"),
    ("storage.k8s.io/v1alpha1", &["VolumeAttributesClass"], 32, 35, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["CSINode"], 17, 22, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["CSIDriver", "StorageClass", "VolumeAttachment"], 19, 22, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["CSIStorageCapacity"], 24, 27, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["VolumeAttributesClass"], 34, 37, "storage.k8s.io/v1"),
    ("storagemigration.k8s.io/v1beta1", &["StorageVersionMigration"], 37, 40, "storagemigration.k8s.io/v1"),
    ("v1", &["Endpoints"], 33, 0, "discovery.k8s.io/v1 EndpointSlice"),
];

/// What Kubernetes says of an API that it is giving up, once it does.
pub(super) fn deprecated(version: &str, kind: &str, kube: &KubeVersion) -> Option<String> {
    let (major, minor): (u64, u64) = (kube.major.parse().ok()?, kube.minor.parse().ok()?);
    let base = kind.strip_suffix("List").unwrap_or(kind);
    let (.., since, gone, instead) =
        DEPRECATED.iter().find(|(api, kinds, ..)| *api == version && kinds.contains(&base))?;
    (major > 1 || minor >= *since).then(|| {
        let gone = if *gone > 0 { format!(", unavailable in v1.{gone}+") } else { String::new() };
        let list = &kind[base.len()..];
        let instead = match instead.split_once(' ') {
            _ if instead.is_empty() => String::new(),
            // Its own words for this one kind name the list already.
            Some((_, other)) if other.ends_with("List") => format!("; use {instead}"),
            Some(_) => format!("; use {instead}{list}"),
            None => format!("; use {instead} {kind}"),
        };
        format!("{version} {kind} is deprecated in v1.{since}+{gone}{instead}")
    })
}
