//! Putting the references of built images into objects.

use std::collections::{BTreeMap, BTreeSet};

use yaml::Value;

/// A reference, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// Everything before the tag and the digest.
    pub base: &'a str,
    pub domain: &'a str,
    pub tag: &'a str,
    pub digest: &'a str,
}

impl<'a> Reference<'a> {
    pub fn parse(text: &'a str) -> Self {
        let (rest, digest) = text.split_once('@').unwrap_or((text, ""));
        let slash = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (base, tag) = match rest[slash..].find(':') {
            Some(colon) => (&rest[..slash + colon], &rest[slash + colon + 1..]),
            None => (rest, ""),
        };
        let domain = base.split_once('/').map_or("", |(first, _)| first);
        let domain = if domain.contains(['.', ':']) || domain == "localhost" { domain } else { "" };
        Self { base, domain, tag, digest }
    }
}

/// A reference without its tag and digest.
pub fn name(reference: &str) -> &str {
    Reference::parse(reference).base
}

/// Kinds whose images are changed wherever they stand, besides those of the core group.
const KINDS: [(&str, &[&str]); 10] = [
    ("", &["Pod", "ReplicationController"]),
    ("apps", &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch", &["CronJob", "Job"]),
    ("extensions", &["DaemonSet", "Deployment", "ReplicaSet"]),
    ("serving.knative.dev", &["Service"]),
    ("agones.dev", &["Fleet", "GameServer"]),
    ("argoproj.io", &["Rollout", "Workflow", "CronWorkflow", "WorkflowTemplate", "ClusterWorkflowTemplate"]),
    ("run.googleapis.com", &["Job", "WorkerPool"]),
    ("kafka.strimzi.io", &["KafkaConnect"]),
    ("tekton.dev", &["Task"]),
];

/// Replaces the images of an object that are named without a digest, and notes in `used` those that were there.
pub(crate) fn replace(
    object: &mut Value,
    images: &BTreeMap<String, String>,
    more: &[(String, Vec<String>)],
    used: &mut BTreeSet<String>,
) {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let named = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    if let Some((_, paths)) = more.iter().find(|(known, _)| *known == named) {
        return within(object, "", images, used, &|path, key| match paths.iter().any(|known| known == ".*") {
            true => key == "image",
            false => paths.iter().any(|known| known == path),
        });
    }
    if KINDS.iter().any(|(known, kinds)| *known == group && kinds.contains(&kind)) {
        within(object, "", images, used, &|_, key| key == "image");
    }
}

fn within(
    value: &mut Value,
    path: &str,
    images: &BTreeMap<String, String>,
    used: &mut BTreeSet<String>,
    chosen: &dyn Fn(&str, &str) -> bool,
) {
    match value {
        Value::List(items) => items.iter_mut().for_each(|item| within(item, path, images, used, chosen)),
        Value::Map(map) => {
            for (key, below) in map {
                let path = format!("{path}.{key}");
                match below {
                    Value::String(text) if chosen(&path, key) => {
                        let reference = Reference::parse(text);
                        let Some(built) = images.get(reference.base) else { continue };
                        used.insert(reference.base.to_owned());
                        if reference.digest.is_empty() {
                            *text = built.clone();
                        }
                    }
                    below => within(below, &path, images, used, chosen),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        for (text, base, domain, tag, digest) in [
            ("app", "app", "", "", ""),
            ("app:1", "app", "", "1", ""),
            ("host:5000/a/b", "host:5000/a/b", "host:5000", "", ""),
            ("host:5000/a/b:2@sha256:00", "host:5000/a/b", "host:5000", "2", "sha256:00"),
            ("org/app@sha256:00", "org/app", "", "", "sha256:00"),
        ] {
            assert_eq!(Reference::parse(text), Reference { base, domain, tag, digest }, "{text}");
        }
    }

    #[test]
    fn images_of_workloads_are_replaced_and_others_are_not() {
        let images = BTreeMap::from([("app".to_owned(), "registry.example/app:1@sha256:00".to_owned())]);
        let replaced = |text: &str, more: &[(String, Vec<String>)]| {
            let mut object = yaml::from_str(text).unwrap();
            replace(&mut object, &images, more, &mut BTreeSet::new());
            yaml::to_json(&object)
        };
        let pod = |kind: &str, image: &str| {
            format!("{{apiVersion: v1, kind: {kind}, spec: {{containers: [{{image: '{image}'}}]}}}}")
        };
        assert!(replaced(&pod("Pod", "app:old"), &[]).contains("registry.example/app:1@sha256:00"));
        assert!(!replaced(&pod("Pod", "app@sha256:11"), &[]).contains("registry"));
        assert!(!replaced(&pod("Pod", "other"), &[]).contains("registry"));
        assert!(!replaced(&pod("Thing", "app"), &[]).contains("registry"));
        let more = [("Thing".to_owned(), vec![".spec.containers.image".to_owned()])];
        assert!(replaced(&pod("Thing", "app"), &more).contains("registry"));
    }
}
