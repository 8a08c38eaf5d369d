//! The versions before the first beta.

use yaml::{Map, Value};

use super::{Step, artifacts, pipelines, releases};
use crate::tree::{map_at, map_under, maps_in, rename, text};

/// v1alpha1 → v1alpha2: tag policies by name, manifests with parameters, Dockerfiles without a builder.
pub(super) fn first(config: &mut Map) -> Step {
    if let Some(deploy) = map_at(config, &["deploy"])
        && let Some(kubectl) = map_at(deploy, &["kubectl"])
    {
        let paths: Vec<Value> = maps_in(kubectl, &["manifests"])
            .into_iter()
            .flat_map(|manifest| crate::tree::texts(manifest, "paths"))
            .map(Value::from)
            .collect();
        kubectl.insert("manifests".to_owned(), Value::List(paths));
    }
    let Some(build) = map_at(config, &["build"]) else { return Ok(()) };
    let policy = text(build, "tagPolicy").to_owned();
    build.remove("tagPolicy");
    if matches!(policy.as_str(), "sha256" | "gitCommit") {
        map_under(build, "tagPolicy").insert(policy, Value::Map(Map::new()));
    }
    for artifact in maps_in(build, &["artifacts"]) {
        let docker: Map = ["dockerfilePath", "buildArgs"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), artifact.remove(key)?)))
            .collect();
        if !docker.is_empty() {
            artifact.insert("docker".to_owned(), Value::Map(docker));
        }
    }
    Ok(())
}

/// v1alpha2 → v1alpha3: one file of values became a list, kaniko's bucket a part of its context.
pub(super) fn second(config: &mut Map) -> Step {
    releases(config, |release| {
        if let Some(path) = release.remove("valuesFilePath") {
            release.insert("valuesFiles".to_owned(), Value::List(vec![path]));
        }
    })?;
    if let Some(kaniko) = map_at(config, &["build", "kaniko"])
        && let Some(bucket) = kaniko.remove("gcsBucket")
    {
        map_under(kaniko, "buildContext").insert("gcsBucket".to_owned(), bucket);
    }
    Ok(())
}

/// v1alpha3 → v1alpha4: names of fields, and `skipPush` turned round.
pub(super) fn third(config: &mut Map) -> Step {
    artifacts(config, |artifact| {
        rename(artifact, "imageName", "image");
        rename(artifact, "workspace", "context");
        if let Some(docker) = map_at(artifact, &["docker"]) {
            rename(docker, "dockerfilePath", "dockerfile");
        }
    })?;
    pipelines(config, |pipeline| {
        if let Some(kustomize) = map_at(pipeline, &["deploy", "kustomize"]) {
            rename(kustomize, "kustomizePath", "path");
        }
        if let Some(local) = map_at(pipeline, &["build", "local"])
            && let Some(Value::Bool(skip)) = local.remove("skipPush")
        {
            local.insert("push".to_owned(), Value::Bool(!skip));
        }
        Ok(())
    })
}
