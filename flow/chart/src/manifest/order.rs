//! The order in which kinds are installed, and the reverse in which they are removed.

use std::cmp::Ordering;

use crate::Flavor;

const INSTALL: [&str; 36] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
];

/// Helm 4 orders these too; for Helm 3 they are kinds it does not know.
const WEBHOOKS: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

const UNINSTALL: [&str; 36] = [
    "APIService",
    "Ingress",
    "IngressClass",
    "Service",
    "CronJob",
    "Job",
    "StatefulSet",
    "HorizontalPodAutoscaler",
    "Deployment",
    "ReplicaSet",
    "ReplicationController",
    "Pod",
    "DaemonSet",
    "RoleBindingList",
    "RoleBinding",
    "RoleList",
    "Role",
    "ClusterRoleBindingList",
    "ClusterRoleBinding",
    "ClusterRoleList",
    "ClusterRole",
    "CustomResourceDefinition",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "StorageClass",
    "ConfigMap",
    "SecretList",
    "Secret",
    "ServiceAccount",
    "PodDisruptionBudget",
    "PodSecurityPolicy",
    "LimitRange",
    "ResourceQuota",
    "NetworkPolicy",
    "Namespace",
    "PriorityClass",
];

/// Compares two kinds for installing: the known ones first in their order, then the others by name.
pub fn install(a: &str, b: &str, flavor: Flavor) -> Ordering {
    let rank = |kind: &str| {
        position(&INSTALL, kind).or_else(|| match flavor {
            Flavor::Helm3 => None,
            Flavor::Helm4 => position(&WEBHOOKS, kind).map(|at| INSTALL.len() + at),
        })
    };
    compare(a, b, rank)
}

/// Compares two kinds for removing.
pub fn uninstall(a: &str, b: &str, flavor: Flavor) -> Ordering {
    let rank = |kind: &str| match (flavor, kind) {
        (Flavor::Helm4, "ValidatingWebhookConfiguration") => Some(0),
        (Flavor::Helm4, "MutatingWebhookConfiguration") => Some(1),
        _ => position(&UNINSTALL, kind).map(|at| at + 2),
    };
    compare(a, b, rank)
}

fn position(order: &[&str], kind: &str) -> Option<usize> {
    order.iter().position(|known| *known == kind)
}

fn compare(a: &str, b: &str, rank: impl Fn(&str) -> Option<usize>) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders() {
        assert_eq!(install("Namespace", "Deployment", Flavor::Helm4), Ordering::Less);
        assert_eq!(install("Zebra", "APIService", Flavor::Helm3), Ordering::Greater);
        assert_eq!(install("Aardvark", "Zebra", Flavor::Helm3), Ordering::Less);
        assert_eq!(install("MutatingWebhookConfiguration", "Aardvark", Flavor::Helm4), Ordering::Less);
        assert_eq!(install("MutatingWebhookConfiguration", "Aardvark", Flavor::Helm3), Ordering::Greater);
        assert_eq!(uninstall("Deployment", "Namespace", Flavor::Helm4), Ordering::Less);
        assert_eq!(uninstall("ValidatingWebhookConfiguration", "APIService", Flavor::Helm4), Ordering::Less);
    }
}
