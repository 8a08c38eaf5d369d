//! Kinds: what stands in a namespace, and what has to be there before what.

use serde_json::Value;

/// Kinds in the order in which they are applied: what others refer to comes first. Others come last.
const ORDER: [&str; 34] = [
    "CustomResourceDefinition",
    "Namespace",
    "PriorityClass",
    "StorageClass",
    "IngressClass",
    "RuntimeClass",
    "PersistentVolume",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "Secret",
    "ConfigMap",
    "PersistentVolumeClaim",
    "Service",
    "EndpointSlice",
    "Endpoints",
    "PodDisruptionBudget",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "StatefulSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Job",
    "CronJob",
    "Ingress",
    "Gateway",
    "HTTPRoute",
];

/// Kinds of Kubernetes itself that stand in no namespace.
const CLUSTER: [&str; 24] = [
    "APIService",
    "CertificateSigningRequest",
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterTrustBundle",
    "CSIDriver",
    "CSINode",
    "CustomResourceDefinition",
    "DeviceClass",
    "FlowSchema",
    "GatewayClass",
    "IngressClass",
    "IPAddress",
    "MutatingAdmissionPolicy",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "RuntimeClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
];

/// Whether objects of this kind stand in a namespace. A kind that is not known is taken for one that does.
pub fn is_namespaced(kind: &str) -> bool {
    !CLUSTER.contains(&kind) && kind != "VolumeAttachment" && kind != "ServiceCIDR"
}

/// Sorts objects into the order in which they are to be applied; those of one kind stay in their order.
pub fn apply_order(objects: &mut [Value]) {
    objects.sort_by_key(|object| {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        ORDER.iter().position(|known| *known == kind).unwrap_or(ORDER.len())
    });
}
