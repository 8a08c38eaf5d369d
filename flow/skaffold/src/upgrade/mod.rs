//! From one version of the schema to the next, until the newest.
//!
//! Most versions only add fields. What is listed here are the others: what was renamed, moved or changed its type. Fields
//! that a newer version does not have are dropped, as skaffold drops them.

mod alpha;
mod manifests;
mod sync;

use yaml::{Map, Value};

use crate::{
    Error, Result, prune,
    schema::Version,
    tree::{map_at, map_under, maps_in, rename, text},
};

/// What is wrong with a configuration that cannot be carried on.
type Step = std::result::Result<(), String>;

/// Brings a configuration to the newest version.
pub(crate) fn upgrade(config: &mut Map, from: Version, file: &str) -> Result<()> {
    let mut version = from;
    while let Some(next) = version.next() {
        step(config, version.name()).map_err(|problem| Error::Upgrade {
            file: file.to_owned(),
            problem: format!(
                "cannot carry it on from skaffold/{} to skaffold/{}: {problem}",
                version.name(),
                next.name()
            ),
        })?;
        prune::prune(config, "SkaffoldConfig", next);
        version = next;
    }
    config.insert("apiVersion".to_owned(), format!("skaffold/{}", version.name()).into());
    Ok(())
}

/// Every pipeline: the configuration itself, then its profiles.
fn pipelines(config: &mut Map, mut change: impl FnMut(&mut Map) -> Step) -> Step {
    change(config)?;
    maps_in(config, &["profiles"]).into_iter().try_for_each(change)
}

fn artifacts(config: &mut Map, mut change: impl FnMut(&mut Map)) -> Step {
    pipelines(config, |pipeline| {
        maps_in(pipeline, &["build", "artifacts"]).into_iter().for_each(&mut change);
        Ok(())
    })
}

fn releases(config: &mut Map, mut change: impl FnMut(&mut Map)) -> Step {
    pipelines(config, |pipeline| {
        maps_in(pipeline, &["deploy", "helm", "releases"]).into_iter().for_each(&mut change);
        Ok(())
    })
}

/// One step, from the version named to the one after it.
fn step(config: &mut Map, from: &str) -> Step {
    match from {
        "v1alpha1" => alpha::first(config),
        "v1alpha2" => alpha::second(config),
        "v1alpha3" => alpha::third(config),
        "v1alpha5" => pipelines(config, |pipeline| match map_at(pipeline, &["build", "acr"]) {
            Some(_) => Err("build.acr is not supported any more: remove it by hand".to_owned()),
            None => Ok(()),
        }),
        // A boolean that could not be left out: it was false.
        "v1beta4" => pipelines(config, |pipeline| {
            if let Some(local) = map_at(pipeline, &["build", "local"]) {
                local.entry("useBuildkit".to_owned()).or_insert(Value::Bool(false));
            }
            Ok(())
        }),
        "v1beta6" => pipelines(config, kaniko),
        "v1beta8" => pipelines(config, plugins),
        "v1beta9" => artifacts(config, sync::rules),
        "v1beta13" => artifacts(config, jib),
        "v2alpha1" => artifacts(config, |artifact| {
            let Some(kaniko) = map_at(artifact, &["kaniko"]) else { return };
            let image = map_at(kaniko, &["buildContext", "localDir"]).and_then(|local| local.remove("initImage"));
            if let Some(image) = image {
                kaniko.insert("initImage".to_owned(), image);
            }
        }),
        "v2alpha2" => pipelines(config, |pipeline| {
            if let Some(kustomize) = map_at(pipeline, &["deploy", "kustomize"])
                && let Some(path) = kustomize.remove("path")
            {
                kustomize.insert("paths".to_owned(), Value::List(vec![path]));
            }
            Ok(())
        }),
        "v2beta3" => releases(config, |release| rename(release, "values", "artifactOverrides")),
        "v2beta4" => {
            artifacts(config, |artifact| rename(artifact, "buildpack", "buildpacks"))?;
            pipelines(config, |pipeline| {
                if let Some(cluster) = map_at(pipeline, &["build", "cluster"]) {
                    rename(cluster, "pullSecret", "pullSecretPath");
                }
                Ok(())
            })
        }
        // An empty map became `true`.
        "v2beta8" => artifacts(config, |artifact| {
            if let Some(sync) = map_at(artifact, &["sync"])
                && sync.contains_key("auto")
            {
                sync.insert("auto".to_owned(), Value::Bool(true));
            }
        }),
        "v2beta12" => releases(config, |release| {
            if release.get("remote") == Some(&Value::Bool(true)) {
                rename(release, "chartPath", "remoteChart");
            }
        }),
        "v2beta22" => artifacts(config, |artifact| {
            if let Some(docker) = map_at(artifact, &["docker"])
                && let Some(secret) = docker.remove("secret")
            {
                docker.insert("secrets".to_owned(), Value::List(vec![secret]));
            }
        }),
        "v2beta25" => artifacts(config, |artifact| {
            if let Some(ko) = map_at(artifact, &["ko"]) {
                rename(ko, "args", "flags");
            }
        }),
        "v2beta27" => artifacts(config, |artifact| {
            if let Some(platforms) = map_at(artifact, &["ko"]).and_then(|ko| ko.remove("platforms")) {
                artifact.insert("platforms".to_owned(), platforms);
            }
        }),
        "v2beta29" => manifests::split(config),
        "v3" => pipelines(config, remote_manifests),
        "v4beta7" => pipelines(config, |pipeline| {
            if let Some(kpt) = map_at(pipeline, &["deploy", "kpt"]) {
                rename(kpt, "false", "force");
            }
            Ok(())
        }),
        _ => Ok(()),
    }
}

/// `build.kaniko` became the builder `cluster` and a setting of each artifact.
fn kaniko(pipeline: &mut Map) -> Step {
    let Some(build) = map_at(pipeline, &["build"]) else { return Ok(()) };
    let Some(Value::Map(kaniko)) = build.remove("kaniko") else { return Ok(()) };
    let only = |keys: &[&str]| -> Map {
        kaniko.iter().filter(|(key, _)| keys.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    for artifact in maps_in(build, &["artifacts"]) {
        map_under(artifact, "kaniko").extend(only(&["buildContext", "cache", "flags", "image"]));
    }
    let cluster = only(&["pullSecret", "pullSecretName", "namespace", "timeout", "dockerConfig"]);
    map_under(build, "cluster").extend(cluster);
    Ok(())
}

/// Builders as plugins came and went.
fn plugins(pipeline: &mut Map) -> Step {
    let Some(build) = map_at(pipeline, &["build"]) else { return Ok(()) };
    for artifact in maps_in(build, &["artifacts"]) {
        let Some(Value::Map(mut plugin)) = artifact.remove("plugin") else { continue };
        let name = text(&plugin, "name").to_owned();
        if matches!(name.as_str(), "bazel" | "docker") {
            let properties = plugin.remove("properties").unwrap_or_else(|| Value::Map(Map::new()));
            artifact.insert(name, properties);
        }
    }
    if let Some(Value::Map(mut environment)) = build.remove("executionEnvironment") {
        let name = text(&environment, "name").to_owned();
        if matches!(name.as_str(), "googleCloudBuild" | "local") {
            let properties = environment.remove("properties").unwrap_or_else(|| Value::Map(Map::new()));
            build.insert(name, properties);
        }
    }
    Ok(())
}

/// Two builders became one.
fn jib(artifact: &mut Map) {
    let (mut old, kind) = match (artifact.remove("jibMaven"), artifact.remove("jibGradle")) {
        (Some(Value::Map(maven)), _) => (maven, "maven"),
        (_, Some(Value::Map(gradle))) => (gradle, "gradle"),
        _ => return,
    };
    if kind == "maven" {
        let profile = text(&old, "profile").to_owned();
        if !profile.is_empty() {
            let more =
                Map::from([("args".to_owned(), Value::List(vec!["--activate-profiles".into(), profile.into()]))]);
            crate::tree::extend(&mut old, &more, "args");
        }
        rename(&mut old, "module", "project");
    }
    old.insert("type".to_owned(), kind.into());
    artifact.insert("jib".to_owned(), Value::Map(old));
}

/// Manifests from a cluster are rendered, not deployed.
fn remote_manifests(pipeline: &mut Map) -> Step {
    let Some(deploy) = map_at(pipeline, &["deploy"]) else { return Ok(()) };
    let context = text(deploy, "kubeContext").to_owned();
    let Some(Value::List(old)) = map_at(deploy, &["kubectl"]).and_then(|kubectl| kubectl.remove("remoteManifests"))
    else {
        return Ok(());
    };
    let entry = |manifest: Value| {
        let mut entry = Map::from([("manifest".to_owned(), manifest)]);
        if !context.is_empty() {
            entry.insert("kubeContext".to_owned(), context.clone().into());
        }
        Value::Map(entry)
    };
    let more = Map::from([("remoteManifests".to_owned(), Value::List(old.into_iter().map(entry).collect()))]);
    crate::tree::extend(map_under(pipeline, "manifests"), &more, "remoteManifests");
    Ok(())
}
