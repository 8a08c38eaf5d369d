//! v2beta29 → v3alpha1: what is rendered (`manifests`) was taken out of what is deployed (`deploy`).

use yaml::{Map, Value};

use super::{Step, pipelines};
use crate::tree::{extend, map_at, map_under, maps_in, text};

/// Takes the manifests out of `deploy`, in the configuration and in its profiles, and carries the patches along.
pub(super) fn split(config: &mut Map) -> Step {
    // The patches see how images are named by each pipeline, before that is gone.
    let mut conventions = Vec::new();
    pipelines(config, |pipeline| {
        conventions.push(Convention::of(pipeline));
        Ok(())
    })?;
    pipelines(config, pipeline)?;
    for profile in maps_in(config, &["profiles"]) {
        let Some(Value::List(old)) = profile.remove("patches") else { continue };
        let new = patches(&old, &conventions)?;
        profile.insert("patches".to_owned(), Value::List(new));
    }
    Ok(())
}

fn pipeline(pipeline: &mut Map) -> Step {
    let Some(mut deploy) = pipeline.remove("deploy") else { return Ok(()) };
    let done = deploy.as_map_mut().map_or(Ok(()), |deploy| from_deploy(pipeline, deploy));
    pipeline.insert("deploy".to_owned(), deploy);
    done
}

fn from_deploy(pipeline: &mut Map, deploy: &mut Map) -> Step {
    if let Some(raw) = map_at(deploy, &["kubectl"]).and_then(|kubectl| kubectl.remove("manifests")) {
        map_under(pipeline, "manifests").insert("rawYaml".to_owned(), raw);
    }
    if let Some(Value::Map(mut old)) = deploy.remove("kustomize") {
        let mut new = Map::new();
        new.insert("paths".to_owned(), old.remove("paths").unwrap_or_else(|| Value::List(vec![".".into()])));
        if let Some(arguments) = old.remove("buildArgs") {
            new.insert("buildArgs".to_owned(), arguments);
        }
        map_under(pipeline, "manifests").insert("kustomize".to_owned(), Value::Map(new));
        kubectl(deploy, old)?;
    }
    if deploy.contains_key("kpt") {
        return Err("deploy.kpt cannot be carried on: write it anew under manifests.kpt".to_owned());
    }
    let Some(helm) = map_at(deploy, &["helm"]) else { return Ok(()) };
    maps_in(helm, &["releases"]).into_iter().for_each(release);
    let copied = ["releases", "flags"].into_iter().filter_map(|key| Some((key.to_owned(), helm.get(key)?.clone())));
    let copied: Map = copied.collect();
    map_under(pipeline, "manifests").insert("helm".to_owned(), Value::Map(copied));
    Ok(())
}

/// What kustomize made is applied by kubectl.
fn kubectl(deploy: &mut Map, kustomize: Map) -> Step {
    let Some(kubectl) = map_at(deploy, &["kubectl"]) else {
        deploy.insert("kubectl".to_owned(), Value::Map(kustomize));
        return Ok(());
    };
    let different = |problem: &str| {
        Err(format!(
            "can't merge {problem} property from kustomize into kubectl deployer, property is already set with different value"
        ))
    };
    match (kubectl.get("defaultNamespace"), kustomize.get("defaultNamespace")) {
        (Some(old), Some(new)) if old != new => return different("defaultNamespace"),
        (_, Some(new)) => {
            kubectl.insert("defaultNamespace".to_owned(), new.clone());
        }
        _ => {}
    }
    let flags = |of: &Map| of.get("flags").and_then(Value::as_map).cloned().unwrap_or_default();
    let (mut merged, more) = (flags(kubectl), flags(&kustomize));
    if merged.get("disableValidation") != more.get("disableValidation") {
        return different("disableValidation");
    }
    for key in ["global", "apply", "delete"] {
        extend(&mut merged, &more, key);
    }
    let mut hooks = kubectl.get("hooks").and_then(Value::as_map).cloned().unwrap_or_default();
    if let Some(Value::Map(more)) = kustomize.get("hooks") {
        extend(&mut hooks, more, "before");
        extend(&mut hooks, more, "after");
    }
    for (key, value) in [("flags", merged), ("hooks", hooks)] {
        if !value.is_empty() {
            kubectl.insert(key.to_owned(), Value::Map(value));
        }
    }
    Ok(())
}

/// How the releases of a pipeline are told their images.
#[derive(Default)]
struct Convention {
    /// For each release: by tag and repository, with the registry apart when the second is set.
    releases: Option<Vec<Option<bool>>>,
}

impl Convention {
    fn of(pipeline: &mut Map) -> Self {
        let Some(helm) = map_at(pipeline, &["deploy", "helm"]) else { return Self::default() };
        Self { releases: Some(maps_in(helm, &["releases"]).into_iter().map(helm_images).collect()) }
    }
}

fn helm_images(release: &mut Map) -> Option<bool> {
    let helm = map_at(release, &["imageStrategy", "helm"])?;
    Some(helm.get("explicitRegistry") == Some(&Value::Bool(true)))
}

/// The templates that stand for an image: the end of the key, and the template.
fn templates(image: &str, convention: Option<bool>) -> Vec<(&'static str, String)> {
    let name = image.replace(['.', '-', '/', ':'], "_");
    match convention {
        None => vec![("", format!("{{{{.IMAGE_FULLY_QUALIFIED_{name}}}}}"))],
        Some(registry) => {
            let mut all = vec![(".tag", format!("{{{{.IMAGE_TAG_{name}}}}}@{{{{.IMAGE_DIGEST_{name}}}}}"))];
            if registry {
                all.push((".registry", format!("{{{{.IMAGE_DOMAIN_{name}}}}}")));
                all.push((".repository", format!("{{{{.IMAGE_REPO_NO_DOMAIN_{name}}}}}")));
            } else {
                all.push((".repository", format!("{{{{.IMAGE_REPO_{name}}}}}")));
            }
            all
        }
    }
}

/// `artifactOverrides` became templates of values.
fn release(release: &mut Map) {
    let convention = helm_images(release);
    release.remove("imageStrategy");
    let Some(Value::Map(overrides)) = release.remove("artifactOverrides") else { return };
    let values = map_under(release, "setValueTemplates");
    for key in overrides.keys() {
        for (end, template) in templates(text(&overrides, key), convention) {
            values.insert(format!("{key}{end}"), template.into());
        }
    }
}

/// Where the paths of patches lead now.
const MOVED: [(&str, &str); 4] = [
    ("/deploy/kubectl/manifests", "/manifests/rawYaml"),
    ("/deploy/kustomize/paths", "/manifests/kustomize/paths"),
    ("/deploy/kustomize/buildArgs", "/manifests/kustomize/buildArgs"),
    ("/deploy/helm", "/manifests/helm"),
];

/// The patches of a profile, with those of releases doubled: a release is both rendered and deployed.
fn patches(old: &[Value], conventions: &[Convention]) -> std::result::Result<Vec<Value>, String> {
    let mut new: Vec<Map> = old.iter().map(|patch| patch.as_map().cloned().unwrap_or_default()).collect();
    for convention in conventions {
        let Some(releases) = &convention.releases else { continue };
        for (at, patch) in old.iter().enumerate() {
            let Some(patch) = patch.as_map() else { continue };
            let path = text(patch, "path");
            let Some(index) = override_of(path) else { continue };
            let Some(convention) = releases.get(index) else {
                return Err(format!("the patch of {path} names a release that is not there"));
            };
            let Some(image) = patch.get("value").and_then(Value::as_str) else {
                return Err(format!("the patch of {path} has no text as its value"));
            };
            let moved =
                path.replace("/deploy/helm", "/manifests/helm").replace("artifactOverrides", "setValueTemplates");
            for (i, (end, template)) in templates(image, *convention).into_iter().enumerate() {
                let mut entry = new[at].clone();
                entry.insert("path".to_owned(), format!("{moved}{end}").into());
                entry.insert("value".to_owned(), template.into());
                if i == 0 { new[at] = entry } else { new.push(entry) }
            }
        }
    }
    let hooks = |path: &str| path.contains("/deploy/helm/hooks");
    let doubled: Vec<Map> = new
        .iter()
        .filter(|patch| text(patch, "path").contains("/deploy/helm") && !hooks(text(patch, "path")))
        .cloned()
        .collect();
    new.extend(doubled);
    for (old, new) in old.iter().zip(&mut new) {
        let path = old.as_map().map_or("", |old| text(old, "path"));
        if override_of(path).is_some() || hooks(path) {
            continue;
        }
        for (from, to) in MOVED {
            if path.contains(from) {
                new.insert("path".to_owned(), path.replace(from, to).into());
            }
        }
    }
    Ok(new.into_iter().map(Value::Map).collect())
}

/// The index of the release whose image a patch sets.
fn override_of(path: &str) -> Option<usize> {
    let (_, rest) = path.split_once("/deploy/helm/releases/")?;
    let (index, rest) = rest.split_once('/')?;
    rest.starts_with("artifactOverrides/image").then(|| index.parse().ok())?
}
