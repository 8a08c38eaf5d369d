//! From the model of a project to builds.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{ComposeError, Project, place};

/// What a service builds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceBuild {
    pub service: String,
    /// The name of the image; `None` when the service names none.
    pub image: Option<String>,
    /// An absolute directory or an address.
    pub context: String,
    pub dockerfile: Option<String>,
    pub dockerfile_inline: Option<String>,
    /// `None` takes the value from the environment.
    pub args: BTreeMap<String, Option<String>>,
    pub labels: BTreeMap<String, String>,
    pub target: Option<String>,
    pub network: Option<String>,
    /// By name, a directory or what `--build-context` takes.
    pub contexts: BTreeMap<String, String>,
    pub secrets: Vec<ServiceSecret>,
    /// As `--ssh` takes them.
    pub ssh: Vec<String>,
    /// Further names of the image.
    pub tags: Vec<String>,
    /// Those of the build, else that of the service.
    pub platforms: Vec<String>,
    pub no_cache: bool,
    /// Stages that are built anew.
    pub no_cache_filter: Vec<String>,
    pub pull: bool,
    /// As `--cache-from` and `--cache-to` take them.
    pub cache_from: Vec<String>,
    pub cache_to: Vec<String>,
    /// As `--provenance` takes it; empty where nothing is said.
    pub provenance: String,
    pub sbom: bool,
    /// What commands find in `/etc/hosts`, as `NAME=ADDRESS`.
    pub hosts: Vec<String>,
    /// Limits of commands, as `NAME=SOFT:HARD`.
    pub ulimits: Vec<String>,
    /// Of `/dev/shm`, in bytes.
    pub shm_size: Option<String>,
    /// What it asks for that has no effect here.
    pub without_effect: Vec<String>,
    /// Why it cannot be built here, where it cannot.
    pub refused: Option<String>,
}

/// The address that stands for the machine that builds, which a build does not reach here.
const HOST_GATEWAY: &str = "=host-gateway";

/// A secret that a build is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSecret {
    pub id: String,
    pub source: SecretSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    File(PathBuf),
    Variable(String),
}

/// Whether a context or the like is an address and no path.
fn is_address(text: &str) -> bool {
    crate::is_remote(text) || text.contains("://") || text.starts_with("service:")
}

/// Makes the paths of builds, secrets and files of variables absolute.
pub(super) fn absolute(model: &mut Value, directory: &Path, variables: &BTreeMap<String, String>) {
    let fix = |value: &mut Value| {
        if let Value::String(text) = value
            && !is_address(text)
        {
            *text = place(directory, variables, text);
        }
    };
    if let Some(Value::Object(services)) = model.get_mut("services") {
        for service in services.values_mut() {
            if let Some(build) = service.get_mut("build").and_then(Value::as_object_mut) {
                build.get_mut("context").into_iter().for_each(fix);
                match build.get_mut("ssh") {
                    Some(Value::Object(agents)) => {
                        agents.values_mut().filter(|path| **path != "").for_each(fix);
                    }
                    Some(Value::Array(agents)) => {
                        for agent in agents {
                            if let Some((id, path)) = agent.as_str().and_then(|agent| agent.split_once('='))
                                && !path.is_empty()
                            {
                                let paths: Vec<String> =
                                    path.split(',').map(|path| place(directory, variables, path)).collect();
                                *agent = format!("{id}={}", paths.join(",")).into();
                            }
                        }
                    }
                    _ => {}
                }
                build.get_mut("additional_contexts").and_then(Value::as_object_mut).into_iter().for_each(|contexts| {
                    contexts.values_mut().for_each(fix);
                });
            }
            for volume in service.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
                let bind = volume.get("type").and_then(Value::as_str) == Some("bind");
                match volume {
                    Value::String(short) if short.starts_with('.') && short.contains(':') => {
                        let (source, rest) = short.split_once(':').unwrap_or((short, ""));
                        let source = place(directory, variables, source);
                        *short = format!("{source}:{rest}");
                    }
                    Value::Object(long) if bind => long.get_mut("source").into_iter().for_each(fix),
                    _ => {}
                }
            }
            let watched = service.get_mut("develop").and_then(|develop| develop.get_mut("watch"));
            for watch in watched.and_then(Value::as_array_mut).into_iter().flatten() {
                watch.get_mut("path").into_iter().for_each(fix);
            }
            for key in ["env_file", "label_file"] {
                let Some(Value::Array(files)) = service.get_mut(key) else { continue };
                for file in files {
                    match file {
                        Value::Object(map) => map.get_mut("path").into_iter().for_each(fix),
                        file => fix(file),
                    }
                }
            }
        }
    }
    for kind in ["secrets", "configs"] {
        if let Some(Value::Object(all)) = model.get_mut(kind) {
            all.values_mut().filter_map(|one| one.get_mut("file")).for_each(fix);
        }
    }
}

/// The builds of the services, all of them or those that are named, in the order of their names.
pub fn builds(project: &Project, services: &[String]) -> Result<Vec<ServiceBuild>, ComposeError> {
    let wrong = |reason: String| ComposeError { file: format!("project {}", project.name), reason };
    let all = project.model["services"].as_object();
    let all = all.ok_or_else(|| wrong("has no services".into()))?;
    if let Some(missing) = services.iter().find(|name| !all.contains_key(*name)) {
        let known: Vec<&str> = all.keys().map(String::as_str).collect();
        return Err(wrong(format!("has no service `{missing}`: there are {}", known.join(", "))));
    }
    let mut builds = Vec::new();
    for (name, service) in all {
        if !services.is_empty() && !services.contains(name) {
            continue;
        }
        let Some(build) = service.get("build").filter(|build| build.is_object()) else { continue };
        builds.push(one(project, name, service, build).map_err(|reason| wrong(format!("service `{name}`: {reason}")))?);
    }
    Ok(builds)
}

/// As [`builds`], with what they take from each other (`additional_contexts: {name: service:other}`), each behind what it needs.
pub fn builds_in_order(project: &Project, services: &[String]) -> Result<Vec<ServiceBuild>, ComposeError> {
    let wrong = |reason: String| ComposeError { file: format!("project {}", project.name), reason };
    let asked = builds(project, services)?;
    let all: BTreeMap<String, ServiceBuild> = if services.is_empty() { asked.clone() } else { builds(project, &[])? }
        .into_iter()
        .map(|one| (one.service.clone(), one))
        .collect();
    let (mut done, mut way) = (Vec::new(), Vec::new());
    for one in &asked {
        visit(&all, one, &mut done, &mut way).map_err(wrong)?;
    }
    Ok(done)
}

fn visit<'a>(
    all: &'a BTreeMap<String, ServiceBuild>,
    one: &'a ServiceBuild,
    done: &mut Vec<ServiceBuild>,
    way: &mut Vec<&'a str>,
) -> Result<(), String> {
    if done.iter().any(|known| known.service == one.service) {
        return Ok(());
    }
    if way.contains(&one.service.as_str()) {
        return Err(format!("the services {} and {} take from each other", way.join(", "), one.service));
    }
    way.push(&one.service);
    for other in one.contexts.values().filter_map(|place| place.strip_prefix("service:")) {
        let found = all
            .get(other)
            .ok_or_else(|| format!("service `{}` takes from `{other}`, which builds nothing", one.service))?;
        visit(all, found, done, way)?;
    }
    way.pop();
    done.push(one.clone());
    Ok(())
}

fn one(project: &Project, name: &str, service: &Value, build: &Value) -> Result<ServiceBuild, String> {
    let text = |key: &str| build.get(key).map(scalar).transpose().map(|found| found.flatten());
    let list = |key: &str| -> Result<Vec<String>, String> {
        let items = match build.get(key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items.clone(),
            // The one list that may be a text.
            Some(text @ Value::String(_)) if key == "no_cache_filter" => vec![text.clone()],
            Some(other) => return Err(format!("`{key}` is to be a list, not {other}").chars().take(200).collect()),
        };
        items.iter().map(|item| scalar(item)?.ok_or_else(|| format!("`{key}` holds an empty entry"))).collect()
    };
    let map = |key: &str| -> Result<BTreeMap<String, Option<String>>, String> {
        let pairs = match build.get(key) {
            None | Some(Value::Null) => Default::default(),
            Some(Value::Object(pairs)) => pairs.clone(),
            Some(other) => {
                return Err(format!("`{key}` is to have names and values, not {other}").chars().take(200).collect());
            }
        };
        pairs.iter().map(|(name, value)| Ok((name.clone(), scalar(value)?))).collect()
    };
    let mut refused = None;
    if build.get("privileged").and_then(Value::as_bool) == Some(true) {
        refused = Some("a build may not run privileged".to_owned());
    } else if let Some(asked) = list("entitlements")?.into_iter().next() {
        refused = Some(format!("a build may not have the entitlement `{asked}`: it runs without privileges"));
    }
    let secrets = secrets(project, build, &mut refused)?;
    let platforms = match list("platforms")? {
        none if none.is_empty() => service.get("platform").map(scalar).transpose()?.flatten().into_iter().collect(),
        several => several,
    };
    let asked = |key: &str| -> Result<String, String> {
        Ok(build.get(key).map(scalar).transpose()?.flatten().unwrap_or_default())
    };
    let sbom = asked("sbom")?;
    let ssh = match build.get("ssh") {
        Some(Value::Object(map)) => map
            .iter()
            .map(|(id, path)| {
                path.as_str().filter(|path| !path.is_empty()).map_or_else(|| id.clone(), |path| format!("{id}={path}"))
            })
            .collect(),
        Some(Value::String(id)) => vec![id.clone()],
        _ => list("ssh")?,
    };
    let filled = |map: BTreeMap<String, Option<String>>| -> BTreeMap<String, String> {
        map.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
    };
    let (unreached, hosts): (Vec<String>, Vec<String>) =
        list("extra_hosts")?.into_iter().partition(|host| host.ends_with(HOST_GATEWAY));
    let mut without_effect: Vec<String> = unreached.iter().map(|host| format!("extra_hosts {host}")).collect();
    without_effect.extend(build.get("isolation").is_some().then(|| "isolation".to_owned()));
    Ok(ServiceBuild {
        service: name.to_owned(),
        image: service.get("image").map(scalar).transpose()?.flatten(),
        context: text("context")?.unwrap_or_else(|| project.directory.display().to_string()),
        dockerfile: text("dockerfile")?,
        dockerfile_inline: text("dockerfile_inline")?,
        args: map("args")?,
        labels: filled(map("labels")?),
        target: text("target")?.filter(|target| !target.is_empty()),
        network: text("network")?,
        contexts: filled(map("additional_contexts")?),
        secrets,
        ssh,
        tags: list("tags")?,
        platforms,
        no_cache: build.get("no_cache").and_then(Value::as_bool).unwrap_or(false),
        no_cache_filter: list("no_cache_filter")?,
        pull: build.get("pull").and_then(Value::as_bool).unwrap_or(false),
        cache_from: list("cache_from")?,
        cache_to: list("cache_to")?,
        provenance: asked("provenance")?,
        sbom: !matches!(sbom.as_str(), "" | "false"),
        hosts,
        ulimits: ulimits(build)?,
        shm_size: text("shm_size")?,
        without_effect,
        refused,
    })
}

/// Limits by name: a number for both, or `soft` and `hard`.
fn ulimits(build: &Value) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for (name, limit) in build.get("ulimits").and_then(Value::as_object).into_iter().flatten() {
        let part = |key: &str| {
            let value = limit.get(key).map(scalar).transpose()?.flatten();
            value.ok_or_else(|| format!("the limit `{name}` has no `{key}`"))
        };
        let both = match limit {
            Value::Object(_) => format!("{}:{}", part("soft")?, part("hard")?),
            limit => scalar(limit)?.ok_or_else(|| format!("the limit `{name}` has no value"))?,
        };
        found.push(format!("{name}={both}"));
    }
    Ok(found)
}

/// A text, a number or a truth value as text; nothing for nothing.
fn scalar(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            Err(format!("a text is expected, not {value}").chars().take(200).collect())
        }
    }
}

/// `refused` is told of one that is somewhere else.
fn secrets(project: &Project, build: &Value, refused: &mut Option<String>) -> Result<Vec<ServiceSecret>, String> {
    let mut found = Vec::new();
    for entry in build.get("secrets").and_then(Value::as_array).into_iter().flatten() {
        let (name, target) = match entry {
            Value::String(name) => (name.as_str(), None),
            entry => (entry["source"].as_str().unwrap_or_default(), entry["target"].as_str()),
        };
        let secret = &project.model["secrets"][name];
        let source = match (secret["file"].as_str(), secret["environment"].as_str()) {
            (Some(file), _) => SecretSource::File(file.into()),
            (None, Some(variable)) => SecretSource::Variable(variable.to_owned()),
            (None, None) if secret.is_null() => return Err(format!("there is no secret `{name}` in the project")),
            (None, None) => {
                refused.get_or_insert_with(|| format!("the secret `{name}` has neither a file nor a variable"));
                continue;
            }
        };
        let id = target.and_then(|target| target.rsplit('/').next()).filter(|id| !id.is_empty()).unwrap_or(name);
        found.push(ServiceSecret { id: id.to_owned(), source });
    }
    Ok(found)
}
