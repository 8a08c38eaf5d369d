//! Images in pod templates: by name as people write them, by digest as they are run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use crate::{Error, Result};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pinned {
    /// In Shipway's registry.
    pub repository: String,
    /// `sha256:…`.
    pub digest: String,
}

/// An image that is not known by digest, and who asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpinned {
    pub image: String,
    /// For example `container web of Deployment frontend`.
    pub of: String,
}

impl fmt::Display for Unpinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} asks for image `{}`, of which no digest is known", self.of, self.image)
    }
}

/// The pod templates of an object (a Pod is its own): each has `spec` and, except where it is missing, `metadata`.
pub(crate) fn pod_templates(object: &mut Value) -> Vec<&mut Value> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let pointer = match kind {
        "Pod" => "",
        "PodTemplate" => "/template",
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return Vec::new(),
    };
    object.pointer_mut(pointer).into_iter().collect()
}

/// Calls `visit` with every image of a pod template and who it is for.
fn each_image(template: &mut Value, mut visit: impl FnMut(&mut Value, String)) {
    let Some(spec) = template.get_mut("spec") else { return };
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = container.get("name").and_then(Value::as_str).unwrap_or("without a name").to_owned();
            if let Some(image) = container.get_mut("image") {
                visit(image, format!("container {name}"));
            }
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = volume.get("name").and_then(Value::as_str).unwrap_or("without a name").to_owned();
        if let Some(image) = volume.pointer_mut("/image/reference") {
            visit(image, format!("volume {name}"));
        }
    }
}

/// The names of all images that the objects ask for, without tag and digest, sorted, each once.
pub fn references(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for object in objects {
        for template in pod_templates(&mut object.clone()) {
            each_image(template, |image, _| found.extend(image.as_str().map(|image| split(image).name.to_owned())));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Replaces every image of every pod template by `<registry>/<repository>@<digest>`. A name is looked up in `images` as it is written,
/// then without its tag; what has a digest already keeps it. Returns what is now asked for: repository (as in the registry that it comes from) and
/// digest, sorted, each once. `Unpinned` names all that have none, and then nothing should be applied.
pub fn pin(objects: &mut [Value], registry: &str, images: &BTreeMap<String, Pinned>) -> Result<Vec<Pinned>> {
    let (mut used, mut unpinned) = (Vec::new(), Vec::new());
    for object in objects {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, object_name) = (text("/kind"), text("/metadata/name"));
        for template in pod_templates(object) {
            each_image(template, |image, of| {
                let written = image.as_str().unwrap_or_default().to_owned();
                match resolve(&written, registry, images) {
                    Some((reference, pinned)) => {
                        *image = reference.into();
                        used.push(pinned);
                    }
                    None => {
                        let image = written.chars().take(300).collect();
                        unpinned.push(Unpinned { image, of: format!("{of} of {kind} {object_name}") });
                    }
                }
            });
        }
    }
    used.sort();
    used.dedup();
    if unpinned.is_empty() { Ok(used) } else { Err(Error::Unpinned(unpinned)) }
}

/// The images of pod templates that [`pin`] would not find, `known` being the names that have a digest.
pub fn unpinned(objects: &[Value], registry: &str, known: &BTreeSet<String>) -> Vec<Unpinned> {
    let any = |name: &String| (name.clone(), Pinned { repository: name.clone(), digest: String::new() });
    let known: BTreeMap<String, Pinned> = known.iter().map(any).collect();
    match pin(&mut objects.to_vec(), registry, &known) {
        Err(Error::Unpinned(unpinned)) => unpinned,
        _ => Vec::new(),
    }
}

fn resolve(written: &str, registry: &str, images: &BTreeMap<String, Pinned>) -> Option<(String, Pinned)> {
    let reference = split(written);
    // Our registry may be named or left out.
    let name = reference.name.strip_prefix(registry).and_then(|rest| rest.strip_prefix('/')).unwrap_or(reference.name);
    if let Some(digest) = reference.digest {
        let sum = digest.strip_prefix("sha256:")?;
        if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        let pinned = Pinned { repository: name.to_owned(), digest: digest.to_owned() };
        let full = if has_host(name) { format!("{name}@{digest}") } else { format!("{registry}/{name}@{digest}") };
        return Some((full, pinned));
    }
    let pinned = images.get(written).or_else(|| images.get(name))?.clone();
    Some((format!("{registry}/{}@{}", pinned.repository, pinned.digest), pinned))
}

/// The name in `[host[:port]/]name[:tag][@digest]`, with its host.
pub fn name_of(image: &str) -> &str {
    split(image).name
}

struct Reference<'a> {
    name: &'a str,
    digest: Option<&'a str>,
}

/// `[host[:port]/]name[:tag][@digest]`.
fn split(image: &str) -> Reference<'_> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let name = match name.rsplit_once(':') {
        // A colon in front of a slash belongs to a port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    Reference { name, digest }
}

/// Whether the first part of a name is a host, by the rule that all container tools share.
fn has_host(name: &str) -> bool {
    name.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost")
}
