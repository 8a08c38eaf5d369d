//! What skaffold takes for granted where nothing is said.

use std::collections::BTreeSet;

use yaml::{Map, Value};

use crate::{
    Situation,
    tree::{map_at, map_under, maps_in, text, texts},
};

/// Fills the gaps of a configuration of the newest version.
pub(crate) fn set(config: &mut Map, situation: &Situation<'_>) -> Result<(), String> {
    let build = map_under(config, "build");
    if !["local", "googleCloudBuild", "cluster"].iter().any(|builder| build.contains_key(*builder)) {
        build.insert("local".to_owned(), empty());
    }
    if !build.contains_key("tagPolicy") {
        map_under(build, "tagPolicy").insert("gitCommit".to_owned(), empty());
    }
    let in_cluster = build.contains_key("cluster");
    let artifacts = maps_in(build, &["artifacts"]);
    let any = !artifacts.is_empty();
    artifacts.into_iter().for_each(|one| artifact(one, in_cluster));
    if let (true, Some(local)) = (any, map_at(build, &["local"])) {
        local.entry("concurrency".to_owned()).or_insert(Value::Int(1));
    }
    if let Some(cloud) = map_at(build, &["googleCloudBuild"]) {
        for (key, image) in [
            ("dockerImage", "gcr.io/cloud-builders/docker"),
            ("mavenImage", "gcr.io/cloud-builders/mvn"),
            ("gradleImage", "gcr.io/cloud-builders/gradle"),
            ("kanikoImage", KANIKO),
            ("packImage", "gcr.io/k8s-skaffold/pack"),
            ("koImage", "gcr.io/k8s-skaffold/skaffold"),
        ] {
            or(cloud, key, image);
        }
    }
    if let Some(found) = map_at(build, &["cluster"]) {
        cluster(found, situation);
    }
    let deploy = map_under(config, "deploy");
    or(map_under(deploy, "logs"), "prefix", "container");
    if let Some(helm) = map_at(deploy, &["helm"]) {
        helm.entry("concurrency".to_owned()).or_insert(Value::Int(1));
        let releases: Vec<Map> = maps_in(helm, &["releases"]).into_iter().map(|release| release.clone()).collect();
        depend(&releases)?;
    }
    let name =
        config.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str).unwrap_or_default();
    let ports = config.get("portForward").and_then(Value::as_list).unwrap_or_default();
    if let Some(i) = ports.iter().position(Value::is_null) {
        return Err(format!(
            "portForward[{i}] of config with name '{name}' is empty, Please check if it has valid values"
        ));
    }
    for forward in maps_in(config, &["portForward"]) {
        if let (None, Some(port @ Value::Int(_))) = (forward.get("localPort"), forward.get("port").cloned()) {
            forward.insert("localPort".to_owned(), port);
        }
        or(forward, "address", "127.0.0.1");
    }
    maps_in(config, &["test"]).into_iter().for_each(|test| or(test, "context", "."));
    Ok(())
}

const KANIKO: &str = "gcr.io/kaniko-project/executor:latest";

fn empty() -> Value {
    Value::Map(Map::new())
}

fn or(map: &mut Map, key: &str, value: &str) {
    map.entry(key.to_owned()).or_insert_with(|| value.into());
}

fn list(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| Value::from(*item)).collect())
}

fn artifact(artifact: &mut Map, in_cluster: bool) {
    or(artifact, "context", ".");
    let has = |artifact: &Map, key: &str| artifact.contains_key(key);
    let packs = has(artifact, "buildpacks");
    let automatic = packs || has(artifact, "jib");
    if let Some(sync) = map_at(artifact, &["sync"]) {
        if !["manual", "infer", "auto"].iter().any(|key| sync.contains_key(*key)) {
            match automatic {
                true => sync.insert("auto".to_owned(), Value::Bool(true)),
                false => sync.insert("infer".to_owned(), list(&["**/*"])),
            };
        }
    } else if packs {
        map_under(artifact, "sync").insert("auto".to_owned(), Value::Bool(true));
    }
    const BUILDERS: [&str; 7] = ["docker", "bazel", "ko", "jib", "kaniko", "buildpacks", "custom"];
    if in_cluster && !has(artifact, "custom") && !packs {
        artifact.entry("kaniko".to_owned()).or_insert_with(empty);
    } else if !BUILDERS.iter().any(|builder| has(artifact, builder)) {
        artifact.insert("docker".to_owned(), empty());
    }
    // Only the first of these that is there.
    if let Some(docker) = map_at(artifact, &["docker"]) {
        or(docker, "dockerfile", "Dockerfile");
    } else if let Some(found) = map_at(artifact, &["kaniko"]) {
        kaniko(found);
    } else if let Some(custom) = map_at(artifact, &["custom"]) {
        if !custom.contains_key("dependencies") {
            map_under(custom, "dependencies").insert("paths".to_owned(), list(&["."]));
        }
    } else if let Some(packs) = map_at(artifact, &["buildpacks"]) {
        or(packs, "projectDescriptor", "project.toml");
        if !packs.contains_key("dependencies") {
            map_under(packs, "dependencies").insert("paths".to_owned(), list(&["."]));
        }
        if !packs.contains_key("builder") && !packs.contains_key("buildpacks") {
            packs.insert("builder".to_owned(), "gcr.io/buildpacks/builder:v1".into());
            packs.insert("trustBuilder".to_owned(), Value::Bool(true));
        }
    }
    for needed in maps_in(artifact, &["requires"]) {
        let image = text(needed, "image").to_owned();
        if !image.is_empty() {
            or(needed, "alias", &image);
        }
    }
}

fn kaniko(kaniko: &mut Map) {
    or(kaniko, "image", KANIKO);
    or(kaniko, "dockerfile", "Dockerfile");
    or(kaniko, "initImage", "gcr.io/k8s-skaffold/skaffold-helpers/busybox");
    or(kaniko, "digestFile", "/dev/termination-log");
    if let Some(cache) = map_at(kaniko, &["cache"]) {
        cache.entry("cacheRunLayers".to_owned()).or_insert(Value::Bool(true));
    }
    kaniko.entry("copyMaxRetries".to_owned()).or_insert(Value::Int(3));
    or(kaniko, "copyTimeout", "5m");
    kaniko.entry("buildContextCompressionLevel".to_owned()).or_insert(Value::Int(1));
}

fn cluster(cluster: &mut Map, situation: &Situation<'_>) {
    let namespace = if situation.kube_namespace.is_empty() { "default" } else { situation.kube_namespace };
    or(cluster, "namespace", namespace);
    or(cluster, "timeout", "20m");
    or(cluster, "pullSecretMountPath", "/secret");
    let random = |map: &Map, key: &str| match map.get(key) {
        Some(Value::Bool(true)) => situation.random.to_owned(),
        _ => String::new(),
    };
    let at_home = |path: &str| match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{}{rest}", situation.home),
        _ => path.to_owned(),
    };
    let path = text(cluster, "pullSecretPath").to_owned();
    if !path.is_empty() {
        let name = format!("kaniko-secret{}", random(cluster, "randomPullSecret"));
        cluster.insert("pullSecretPath".to_owned(), at_home(&path).into());
        or(cluster, "pullSecretName", &name);
    }
    let name = format!("docker-cfg{}", random(cluster, "randomDockerConfigSecret"));
    if let Some(config) = map_at(cluster, &["dockerConfig"]) {
        or(config, "secretName", &name);
        let path = text(config, "path").to_owned();
        if !path.is_empty() {
            config.insert("path".to_owned(), at_home(&path).into());
        }
    }
}

/// Releases have their own names and depend on each other without a circle.
fn depend(releases: &[Map]) -> Result<(), String> {
    if releases.len() < 2 {
        return Ok(());
    }
    let mut names = BTreeSet::new();
    for release in releases {
        if !names.insert(text(release, "name")) {
            return Err(format!("duplicate release name {}", text(release, "name")));
        }
    }
    for release in releases {
        if let Some(missing) = texts(release, "dependsOn").iter().find(|name| !names.contains(name.as_str())) {
            return Err(format!("release {} depends on non-existent release {missing}", text(release, "name")));
        }
    }
    // Whoever depends on nothing that is left goes; what stays at the end stands in a circle.
    let mut left: Vec<&Map> = releases.iter().collect();
    loop {
        let waiting: BTreeSet<&str> = left.iter().map(|release| text(release, "name")).collect();
        let before = left.len();
        left.retain(|release| texts(release, "dependsOn").iter().any(|name| waiting.contains(name.as_str())));
        match left.first() {
            None => return Ok(()),
            Some(release) if left.len() == before => {
                return Err(format!("cycle detected involving release {:?}", text(release, "name")));
            }
            Some(_) => {}
        }
    }
}
