//! API versions that Kubernetes has taken away, or will.

/// What becomes of an API version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle {
    /// The minor version of Kubernetes 1 that first called it deprecated.
    pub deprecated: u32,
    /// The first one that does not serve it; `None` while nobody has said when.
    pub removed: Option<u32>,
    /// What to write instead; empty where there is nothing.
    pub instead: &'static str,
    /// The minor version of Kubernetes 1 that first served that.
    pub since: u32,
}

type Row = (&'static str, &'static [&'static str], u32, u32, &'static str);

/// API version, kinds (all where none is named), deprecated in, removed in (0: not said), what to use.
const TABLE: &[Row] = &[
    ("extensions/v1beta1", &["DaemonSet", "Deployment", "ReplicaSet"], 8, 16, "apps/v1"),
    ("extensions/v1beta1", &["NetworkPolicy"], 9, 16, "networking.k8s.io/v1"),
    ("extensions/v1beta1", &["PodSecurityPolicy"], 10, 16, ""),
    ("extensions/v1beta1", &["Ingress"], 14, 22, "networking.k8s.io/v1"),
    ("apps/v1beta1", &["Deployment", "StatefulSet", "ControllerRevision"], 8, 16, "apps/v1"),
    ("apps/v1beta2", &[], 9, 16, "apps/v1"),
    (
        "admissionregistration.k8s.io/v1beta1",
        &["MutatingWebhookConfiguration"],
        16,
        22,
        "admissionregistration.k8s.io/v1",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        &["ValidatingWebhookConfiguration"],
        16,
        22,
        "admissionregistration.k8s.io/v1",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"],
        31,
        34,
        "admissionregistration.k8s.io/v1",
    ),
    (
        "admissionregistration.k8s.io/v1alpha1",
        &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"],
        29,
        32,
        "admissionregistration.k8s.io/v1",
    ),
    ("apiextensions.k8s.io/v1beta1", &[], 16, 22, "apiextensions.k8s.io/v1"),
    ("apiregistration.k8s.io/v1beta1", &[], 19, 22, "apiregistration.k8s.io/v1"),
    ("authentication.k8s.io/v1beta1", &["TokenReview"], 19, 22, "authentication.k8s.io/v1"),
    ("authentication.k8s.io/v1beta1", &["SelfSubjectReview"], 30, 33, "authentication.k8s.io/v1"),
    ("authorization.k8s.io/v1beta1", &[], 19, 22, "authorization.k8s.io/v1"),
    ("autoscaling/v2beta1", &[], 22, 25, "autoscaling/v2"),
    ("autoscaling/v2beta2", &[], 23, 26, "autoscaling/v2"),
    ("batch/v2alpha1", &["CronJob"], 8, 21, "batch/v1"),
    ("batch/v1beta1", &["CronJob"], 21, 25, "batch/v1"),
    ("certificates.k8s.io/v1beta1", &["CertificateSigningRequest"], 19, 22, "certificates.k8s.io/v1"),
    ("certificates.k8s.io/v1alpha1", &["ClusterTrustBundle"], 34, 37, "certificates.k8s.io/v1beta1"),
    ("coordination.k8s.io/v1beta1", &["Lease"], 19, 22, "coordination.k8s.io/v1"),
    ("discovery.k8s.io/v1beta1", &["EndpointSlice"], 21, 25, "discovery.k8s.io/v1"),
    ("events.k8s.io/v1beta1", &["Event"], 22, 25, "events.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta1", &[], 23, 26, "flowcontrol.apiserver.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta2", &[], 26, 29, "flowcontrol.apiserver.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta3", &[], 29, 32, "flowcontrol.apiserver.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", &["Ingress", "IngressClass"], 19, 22, "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", &["IPAddress", "ServiceCIDR"], 34, 37, "networking.k8s.io/v1"),
    ("node.k8s.io/v1beta1", &["RuntimeClass"], 22, 25, "node.k8s.io/v1"),
    ("policy/v1beta1", &["PodDisruptionBudget", "Eviction"], 21, 25, "policy/v1"),
    ("policy/v1beta1", &["PodSecurityPolicy"], 21, 25, ""),
    ("rbac.authorization.k8s.io/v1alpha1", &[], 17, 22, "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", &[], 17, 22, "rbac.authorization.k8s.io/v1"),
    ("resource.k8s.io/v1beta1", &[], 35, 38, "resource.k8s.io/v1"),
    ("resource.k8s.io/v1beta2", &[], 36, 39, "resource.k8s.io/v1"),
    ("scheduling.k8s.io/v1alpha1", &["PriorityClass"], 14, 17, "scheduling.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", &["PriorityClass"], 14, 22, "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["CSIDriver", "StorageClass", "VolumeAttachment"], 19, 22, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["CSINode"], 17, 22, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["CSIStorageCapacity"], 24, 27, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["VolumeAttributesClass"], 34, 37, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1alpha1", &["CSIStorageCapacity", "VolumeAttachment"], 21, 24, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1alpha1", &["VolumeAttributesClass"], 32, 35, "storage.k8s.io/v1"),
    ("v1", &["ComponentStatus"], 19, 0, ""),
    ("v1", &["Endpoints"], 33, 0, "discovery.k8s.io/v1 with the kind EndpointSlice"),
];

/// API version, kinds (all others where none is named), the minor version that first served it.
const SINCE: &[(&str, &[&str], u32)] = &[
    ("admissionregistration.k8s.io/v1", &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"], 30),
    ("admissionregistration.k8s.io/v1", &[], 16),
    ("apiextensions.k8s.io/v1", &[], 16),
    ("apiregistration.k8s.io/v1", &[], 10),
    ("apps/v1", &[], 9),
    ("authentication.k8s.io/v1", &["SelfSubjectReview"], 28),
    ("authentication.k8s.io/v1", &[], 6),
    ("authorization.k8s.io/v1", &[], 6),
    ("autoscaling/v2", &[], 23),
    ("batch/v1", &["CronJob"], 21),
    ("certificates.k8s.io/v1", &[], 19),
    ("certificates.k8s.io/v1beta1", &["ClusterTrustBundle"], 33),
    ("coordination.k8s.io/v1", &[], 14),
    ("discovery.k8s.io/v1", &[], 21),
    ("discovery.k8s.io/v1 with the kind EndpointSlice", &[], 21),
    ("events.k8s.io/v1", &[], 19),
    ("flowcontrol.apiserver.k8s.io/v1", &[], 29),
    ("networking.k8s.io/v1", &["Ingress", "IngressClass"], 19),
    ("networking.k8s.io/v1", &["IPAddress", "ServiceCIDR"], 33),
    ("networking.k8s.io/v1", &[], 7),
    ("node.k8s.io/v1", &[], 20),
    ("policy/v1", &["Eviction"], 22),
    ("policy/v1", &[], 21),
    ("rbac.authorization.k8s.io/v1", &[], 8),
    ("resource.k8s.io/v1", &[], 34),
    ("scheduling.k8s.io/v1", &[], 14),
    ("storage.k8s.io/v1", &["CSIDriver"], 18),
    ("storage.k8s.io/v1", &["CSINode"], 17),
    ("storage.k8s.io/v1", &["CSIStorageCapacity"], 24),
    ("storage.k8s.io/v1", &["VolumeAttachment"], 13),
    ("storage.k8s.io/v1", &["VolumeAttributesClass"], 34),
    ("storage.k8s.io/v1", &[], 6),
];

/// Versions that came and went between others: group, version, first served, no longer served.
const BETWEEN: &[(&str, &str, u32, u32)] = &[
    ("autoscaling", "autoscaling/v2beta2", 12, 26),
    ("flowcontrol.apiserver.k8s.io", "flowcontrol.apiserver.k8s.io/v1beta3", 26, 32),
    ("flowcontrol.apiserver.k8s.io", "flowcontrol.apiserver.k8s.io/v1beta2", 23, 29),
];

/// What a version of Kubernetes has in place of an API version while what follows that is not there yet.
pub fn meanwhile(api_version: &str, minor: u32) -> Option<&'static str> {
    let group = api_version.split_once('/')?.0;
    let served =
        |row: &&(&str, &str, u32, u32)| row.0 == group && row.1 != api_version && (row.2..row.3).contains(&minor);
    BETWEEN.iter().find(served).map(|row| row.1)
}

/// What becomes of an API version of a kind, if anything does.
pub fn lifecycle(api_version: &str, kind: &str) -> Option<Lifecycle> {
    let found = TABLE.iter().find(|row| row.0 == api_version && (row.1.is_empty() || row.1.contains(&kind)))?;
    let since = SINCE.iter().find(|row| row.0 == found.4 && (row.1.is_empty() || row.1.contains(&kind)));
    let (removed, since) = ((found.3 > 0).then_some(found.3), since.map_or(0, |row| row.2));
    Some(Lifecycle { deprecated: found.2, removed, instead: found.4, since })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_replacement_is_known_since_when() {
        for (api, kinds, deprecated, _, instead) in TABLE {
            let life = lifecycle(api, kinds.first().unwrap_or(&"")).unwrap();
            assert_eq!((life.deprecated, life.instead), (*deprecated, *instead), "{api}");
            assert_eq!(life.since > 0, !instead.is_empty(), "{api} {kinds:?}");
            // No version is left with neither.
            let mut gap = life.removed.unwrap_or(u32::MAX)..life.since;
            assert!(gap.all(|minor| meanwhile(api, minor).is_some()), "{api}");
        }
    }
}
