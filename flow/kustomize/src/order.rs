//! The order of the objects: as they came, or the legacy order of kinds.

use std::collections::HashMap;

use crate::{Error, Gvk, Id, Result, kustomization::SortOptions, resources::Resources};

const FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// Sorts as `sortOptions` says; without it as they came, or in legacy order when `legacy` is set.
pub fn sort(resources: &mut Resources, options: Option<&SortOptions>, legacy: bool) -> Result<()> {
    let default = SortOptions { order: if legacy { "legacy" } else { "fifo" }.to_owned(), legacy_sort_options: None };
    let options = options.unwrap_or(&default);
    let legacy = options.legacy_sort_options.as_ref();
    match options.order.as_str() {
        "fifo" if legacy.is_some() => {
            return Err(Error::wrong(
                "the field 'sortOptions.legacySortOptions' is set but the selected sort order is 'fifo', not 'legacy'",
            ));
        }
        "fifo" => return Ok(()),
        "legacy" => {}
        _ => return Err(Error::wrong("the field 'sortOptions.order' must be one of [fifo, legacy]")),
    }
    let mut ranks: HashMap<&str, i64> = HashMap::new();
    let (first, last): (Vec<&str>, Vec<&str>) = match legacy {
        None => (FIRST.to_vec(), LAST.to_vec()),
        Some(legacy) => (
            legacy.order_first.iter().map(String::as_str).collect(),
            legacy.order_last.iter().map(String::as_str).collect(),
        ),
    };
    for (i, kind) in first.iter().enumerate() {
        ranks.insert(kind, i as i64 - first.len() as i64);
    }
    for (i, kind) in last.iter().enumerate() {
        ranks.insert(kind, i as i64 + 1);
    }
    let rank = |gvk: &Gvk| ranks.get(gvk.kind.as_str()).copied().unwrap_or(0);
    resources.list.sort_by_cached_key(|resource| {
        let id = resource.id();
        (rank(&id.gvk), by_gvk(&id.gvk), by_name(&id))
    });
    resources.touched();
    Ok(())
}

fn or<'t>(text: &'t str, none: &'t str) -> &'t str {
    if text.is_empty() { none } else { text }
}

fn by_gvk(gvk: &Gvk) -> String {
    format!("{}_{}_{}", or(&gvk.group, "~G"), or(&gvk.version, "~V"), or(&gvk.kind, "~K"))
}

fn by_name(id: &Id) -> String {
    format!("{}|{}|{}", id.gvk, or(&id.namespace, "~X"), or(&id.name, "~N"))
}
