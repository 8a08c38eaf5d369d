//! The image: which layers in which order, its configuration and its labels.

use std::{
    collections::BTreeSet,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use serde_json::Value;

use crate::{
    Error, LAUNCHER, PLATFORM_API, Result,
    descriptor::RunImage,
    error::parse,
    files,
    labels::{self, BuildpackLayers, LayerLabel, Lifecycle, RunImageLabel, Sha, StackLabel, Store},
    launch::Metadata,
    layer::layers,
    restore::Cache,
    runner::{Ground, Place},
    slices,
};

/// The time of all files and of images, as the field has it: 1980-01-01T00:00:01Z.
pub const EPOCH: i64 = 315_532_801;
pub const CREATED: &str = "1980-01-01T00:00:01Z";

/// Which layer it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Buildpack { id: String, layer: String },
    Sbom,
    App,
    Launcher,
    Config,
    ProcessTypes,
}

/// Where its files come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory with all in it.
    Tree(Place),
    /// Some of a directory; relative paths, sorted. None: an empty layer.
    Files(Place, Vec<String>),
    Launcher,
    /// Links of processes to the launcher.
    Links(Vec<String>),
    /// The layer of the image before with this digest of its tar.
    Reuse(String),
}

/// A layer to be.
#[derive(Debug, Clone)]
pub struct Planned {
    pub what: What,
    pub created_by: String,
    pub source: Source,
}

/// The most paths of an application.
const MOST_PATHS: usize = 2_000_000;
const MOST_DEPTH: usize = 256;

/// All layers above the run image, lowest first.
pub fn plan(ground: &Ground, metadata: &Metadata, previous: Option<&Lifecycle>) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    for member in &metadata.buildpacks {
        let directory = ground.layers.join(&crate::escaped(&member.id));
        for layer in layers(&member.shown(), &directory, false)? {
            if !layer.file.launch {
                continue;
            }
            let wrong = |message: String| Error::Output { buildpack: member.shown(), message };
            let source = if layer.contents {
                Source::Tree(layer.place.clone())
            } else if layer.file.cache {
                return Err(wrong(format!("layer {} is to be cached, and it has no directory", layer.name)));
            } else {
                let known = previous.and_then(|previous| previous.of(&member.id)?.layers.get(&layer.name));
                let known = known.filter(|known| !known.sha.is_empty()).ok_or_else(|| {
                    wrong(format!("layer {} is to be reused, and the image before has none of that name", layer.name))
                })?;
                Source::Reuse(known.sha.clone())
            };
            planned.push(Planned {
                created_by: format!("Layer: '{}', Created by buildpack: {}", layer.name, member.shown()),
                what: What::Buildpack { id: member.id.clone(), layer: layer.name },
                source,
            });
        }
    }
    let simple = |what, by: &str, source| Planned { what, created_by: by.to_owned(), source };
    let sbom = ground.layers.join("sbom").join("launch");
    if files::exists(&sbom.host) {
        planned.push(simple(What::Sbom, "Software Bill-of-Materials", Source::Tree(sbom)));
    }
    let (mut paths, mut directories) = (Vec::new(), BTreeSet::new());
    walk(&ground.app.host, "", 0, &mut paths, &mut directories)?;
    let split = slices::assign(&metadata.slices, &ground.app.inside, &paths, &directories)?;
    for (at, paths) in split.into_iter().enumerate() {
        let by = if metadata.slices.is_empty() {
            "Application Layer".to_owned()
        } else {
            format!("Application Slice: {}", at + 1)
        };
        planned.push(simple(What::App, &by, Source::Files(ground.app.clone(), paths)));
    }
    planned.push(simple(What::Launcher, "Buildpacks Application Launcher", Source::Launcher));
    planned.push(simple(What::Config, "Buildpacks Launcher Config", Source::Tree(ground.layers.join("config"))));
    if !metadata.processes.is_empty() {
        let links = metadata.processes.iter().map(|process| process.kind.clone()).collect();
        planned.push(simple(What::ProcessTypes, "Buildpacks Process Types", Source::Links(links)));
    }
    Ok(planned)
}

/// Cached layers with their files, to be kept for the next build: buildpack, layer, metadata, directory.
pub fn cached(ground: &Ground, metadata: &Metadata) -> Result<Vec<(String, String, crate::layer::LayerFile, Place)>> {
    let mut all = Vec::new();
    for member in &metadata.buildpacks {
        let directory = ground.layers.join(&crate::escaped(&member.id));
        let left = layers(&member.shown(), &directory, false)?;
        all.extend(
            left.into_iter()
                .filter(|layer| layer.file.cache && layer.contents)
                .map(|layer| (member.id.clone(), layer.name, layer.file, layer.place)),
        );
    }
    Ok(all)
}

/// What the next build is told about the cache.
pub fn cache_of(kept: &[(String, String, crate::layer::LayerFile, String)]) -> Cache {
    let mut cache = Cache::default();
    for (id, name, file, sha) in kept {
        let label = LayerLabel { sha: sha.clone(), file: file.clone() };
        match cache.buildpacks.iter_mut().find(|one| one.id == *id) {
            Some(one) => drop(one.layers.insert(name.clone(), label)),
            None => cache.buildpacks.push(BuildpackLayers {
                id: id.clone(),
                layers: [(name.clone(), label)].into(),
                ..BuildpackLayers::default()
            }),
        }
    }
    cache
}

fn walk(
    root: &Path,
    below: &str,
    depth: usize,
    paths: &mut Vec<String>,
    directories: &mut BTreeSet<String>,
) -> Result<()> {
    let directory = root.join(below);
    if depth > MOST_DEPTH {
        return Err(Error::Image(format!("{} is nested deeper than {MOST_DEPTH} directories", directory.display())));
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(&directory).map_err(Error::io("list", &directory))? {
        let entry = entry.map_err(Error::io("list", &directory))?;
        let kind = entry.file_type().map_err(Error::io("list", &directory))?;
        let name = entry.file_name().into_string().map_err(|name| {
            Error::Image(format!("{} has a file whose name is not UTF-8: {}", directory.display(), name.display()))
        })?;
        entries.push((name, kind.is_dir()));
    }
    entries.sort();
    for (name, is_directory) in entries {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        paths.push(path.clone());
        if paths.len() > MOST_PATHS {
            return Err(Error::Image(format!("{} has more than {MOST_PATHS} files", root.display())));
        }
        if is_directory {
            directories.insert(path.clone());
            walk(root, &path, depth + 1, paths, directories)?;
        }
    }
    Ok(())
}

/// Writes the tar of a layer that is not reused. All times are `epoch`; files belong to `owner`, and so do the directories
/// of layers that lead to them; what is Shipway's own belongs to root.
pub fn write_tar(source: &Source, owner: (u32, u32), epoch: i64, out: impl Write) -> Result<()> {
    let failed = |e: std::io::Error| Error::Image(format!("cannot write a layer: {e}"));
    let mut tar = tar::Builder::new(out);
    let mtime = u64::try_from(epoch).unwrap_or(0);
    let header = |kind: tar::EntryType, mode: u32, size: u64, (user, group): (u32, u32)| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(mtime);
        header.set_uid(u64::from(user));
        header.set_gid(u64::from(group));
        header
    };
    let root = (0, 0);
    let directory_of = |tar: &mut tar::Builder<_>, path: &str, owner: (u32, u32)| {
        tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0, owner), path, std::io::empty())
    };
    let directory = |tar: &mut tar::Builder<_>, path: &str| directory_of(tar, path, root);
    match source {
        Source::Reuse(digest) => return Err(Error::Image(format!("layer {digest} is there already"))),
        Source::Launcher => {
            directory(&mut tar, "cnb/").map_err(failed)?;
            directory(&mut tar, "cnb/lifecycle/").map_err(failed)?;
            let mut file = header(tar::EntryType::Regular, 0o755, LAUNCHER.len() as u64, root);
            tar.append_data(&mut file, "cnb/lifecycle/launcher", LAUNCHER).map_err(failed)?;
        }
        Source::Links(kinds) => {
            directory(&mut tar, "cnb/").map_err(failed)?;
            directory(&mut tar, "cnb/process/").map_err(failed)?;
            for kind in kinds {
                let mut link = header(tar::EntryType::Symlink, 0o755, 0, root);
                tar.append_link(&mut link, format!("cnb/process/{kind}"), "/cnb/lifecycle/launcher").map_err(failed)?;
            }
        }
        Source::Tree(place) | Source::Files(place, _) => {
            let inside = place.inside.trim_matches('/');
            let paths = match source {
                Source::Files(_, paths) if paths.is_empty() => Vec::new(),
                Source::Files(_, paths) => paths.clone(),
                _ => {
                    let mut paths = Vec::new();
                    walk(&place.host, "", 0, &mut paths, &mut BTreeSet::new())?;
                    paths
                }
            };
            let empty = matches!(source, Source::Files(..)) && paths.is_empty();
            if !empty {
                let mut at = String::new();
                for part in inside.split('/').collect::<Vec<_>>().split_last().map_or(&[][..], |(_, parents)| parents) {
                    at.push_str(part);
                    at.push('/');
                    directory_of(&mut tar, &at, owner).map_err(failed)?;
                }
                let all = std::iter::once("").chain(paths.iter().map(String::as_str));
                for path in all {
                    let host = if path.is_empty() { place.host.clone() } else { place.host.join(path) };
                    let name = if path.is_empty() { inside.to_owned() } else { format!("{inside}/{path}") };
                    let metadata = std::fs::symlink_metadata(&host).map_err(Error::io("read", &host))?;
                    let mode = metadata.permissions().mode() & 0o7777;
                    if metadata.is_dir() {
                        let mut entry = header(tar::EntryType::Directory, mode, 0, owner);
                        tar.append_data(&mut entry, format!("{name}/"), std::io::empty()).map_err(failed)?;
                    } else if metadata.is_symlink() {
                        let target = std::fs::read_link(&host).map_err(Error::io("read", &host))?;
                        let mut entry = header(tar::EntryType::Symlink, 0o777, 0, owner);
                        tar.append_link(&mut entry, name, target).map_err(failed)?;
                    } else if metadata.is_file() {
                        let mut entry = header(tar::EntryType::Regular, mode, metadata.size(), owner);
                        let file = std::fs::File::open(&host).map_err(Error::io("read", &host))?;
                        let content = std::io::Read::take(file, metadata.size());
                        tar.append_data(&mut entry, name, content).map_err(failed)?;
                    } else {
                        // Sockets, pipes and devices have no place in an image that is run by somebody else.
                        tracing::debug!(file = %host.display(), "left out of the layer: it is no file, directory or link");
                    }
                }
            }
        }
    }
    tar.into_inner().and_then(|mut out| out.flush()).map_err(failed)
}

/// The run image as the image remembers it.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// `name@sha256:…`
    pub reference: String,
    pub names: RunImage,
    pub config: Value,
}

/// `io.buildpacks.lifecycle.metadata` of the new image. `digests` are those of the tars of all planned layers.
pub fn lifecycle_label(
    ground: &Ground,
    metadata: &Metadata,
    planned: &[Planned],
    digests: &[String],
    run: &Run,
) -> Result<Lifecycle> {
    let mut label = Lifecycle {
        run_image: RunImageLabel {
            top_layer: run.config["rootfs"]["diff_ids"]
                .as_array()
                .and_then(|all| all.last()?.as_str())
                .unwrap_or_default()
                .to_owned(),
            reference: run.reference.clone(),
            image: run.names.image.clone(),
            mirrors: run.names.mirrors.clone(),
        },
        stack: Some(StackLabel { run_image: run.names.clone() }),
        exec_env: ground.exec_env.clone(),
        ..Lifecycle::default()
    };
    for member in &metadata.buildpacks {
        let directory = ground.layers.join(&crate::escaped(&member.id));
        let store = match files::text(&directory.host, &directory.host.join("store.toml"))? {
            Some(text) => Some(parse::<Store>(&format!("{}: store.toml", member.shown()), &text)?),
            None => None,
        };
        let mut of = BuildpackLayers {
            id: member.id.clone(),
            version: member.version.clone(),
            store,
            ..BuildpackLayers::default()
        };
        for layer in layers(&member.shown(), &directory, false)? {
            let what = What::Buildpack { id: member.id.clone(), layer: layer.name.clone() };
            if let Some(at) = planned.iter().position(|planned| planned.what == what) {
                of.layers.insert(
                    layer.name,
                    LayerLabel { sha: digests.get(at).cloned().unwrap_or_default(), file: layer.file },
                );
            }
        }
        label.buildpacks.push(of);
    }
    for (planned, digest) in planned.iter().zip(digests) {
        let sha = Sha { sha: digest.clone() };
        match planned.what {
            What::Buildpack { .. } => {}
            What::Sbom => label.sbom = Some(sha),
            What::App => label.app.push(sha),
            What::Launcher => label.launcher = sha,
            What::Config => label.config = sha,
            What::ProcessTypes => label.process_types = sha,
        }
    }
    Ok(label)
}

/// What else the configuration is made of.
pub struct Finish<'a> {
    pub metadata: &'a Metadata,
    pub lifecycle: &'a Lifecycle,
    /// `io.buildpacks.project.metadata`; an empty object where nothing is known.
    pub project: Value,
    /// The process that the image starts, where the user chose one.
    pub process: Option<&'a str>,
    pub ground: &'a Ground,
    /// RFC 3339.
    pub created: &'a str,
}

/// The configuration of the new image, from that of its run image.
pub fn configuration(run: &Value, planned: &[Planned], digests: &[String], finish: &Finish<'_>) -> Result<Value> {
    let mut config = run.clone();
    let object =
        config.as_object_mut().ok_or_else(|| Error::Image("the configuration of the run image is no object".into()))?;
    object.insert("created".into(), finish.created.into());
    let rootfs = object.entry("rootfs").or_insert_with(|| serde_json::json!({"type": "layers", "diff_ids": []}));
    let base = rootfs["diff_ids"].as_array().map_or(0, Vec::len);
    if let Some(all) = rootfs["diff_ids"].as_array_mut() {
        all.extend(digests.iter().map(|digest| Value::from(digest.as_str())));
    }
    let history = object.entry("history").or_insert_with(|| Value::Array(Vec::new()));
    if let Some(all) = history.as_array_mut() {
        let said = all.iter().filter(|one| one["empty_layer"].as_bool() != Some(true)).count();
        // A base that says less about itself than it is.
        all.extend((said..base).map(|_| serde_json::json!({"created": finish.created})));
        let new =
            planned.iter().map(|one| serde_json::json!({"created": finish.created, "created_by": one.created_by}));
        all.extend(new);
    }
    let entrypoint = finish.metadata.entrypoint(finish.process)?;
    let inner = object.entry("config").or_insert_with(|| serde_json::json!({}));
    let inner =
        inner.as_object_mut().ok_or_else(|| Error::Image("the run image has a `config` that is no object".into()))?;
    let mut env: Vec<(String, String)> = inner
        .get("Env")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str()?.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone()).unwrap_or_default();
    let path = ["/cnb/process", "/cnb/lifecycle", &path]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(":");
    for (name, value) in [
        ("CNB_LAYERS_DIR", finish.ground.layers.inside.as_str()),
        ("CNB_APP_DIR", &finish.ground.app.inside),
        ("CNB_PLATFORM_API", PLATFORM_API),
        ("CNB_DEPRECATION_MODE", "quiet"),
        ("PATH", &path),
    ] {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value.to_owned(),
            None => env.push((name.to_owned(), value.to_owned())),
        }
    }
    let env: Vec<String> = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    inner.insert("Env".into(), env.into());
    inner.insert("WorkingDir".into(), finish.ground.app.inside.clone().into());
    inner.insert("Entrypoint".into(), vec![entrypoint].into());
    inner.remove("Cmd");
    let mut new = vec![
        (labels::LIFECYCLE.to_owned(), serde_json::to_string(finish.lifecycle).unwrap_or_default()),
        (labels::BUILD.to_owned(), labels::build(finish.metadata).to_string()),
        (labels::PROJECT.to_owned(), finish.project.to_string()),
    ];
    new.extend(finish.metadata.labels.iter().map(|label| (label.key.clone(), label.value.clone())));
    if !finish.ground.exec_env.is_empty() {
        new.push((labels::EXEC_ENV.to_owned(), finish.ground.exec_env.clone()));
    }
    let all = inner.entry("Labels").or_insert_with(|| serde_json::json!({}));
    if !all.is_object() {
        *all = serde_json::json!({});
    }
    for (key, value) in new {
        all[key.as_str()] = value.into();
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(source: &Source) -> Vec<(String, u64, u64)> {
        let mut tar = Vec::new();
        write_tar(source, (1000, 1001), EPOCH, &mut tar).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.path().unwrap().display().to_string(),
                    entry.header().uid().unwrap(),
                    entry.header().mtime().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn layers_are_the_same_every_time() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("b")).unwrap();
        std::fs::write(directory.path().join("b/x"), "1").unwrap();
        std::os::unix::fs::symlink("x", directory.path().join("a")).unwrap();
        let place = Place { host: directory.path().to_owned(), inside: "/layers/bp/l".into() };
        let epoch = EPOCH as u64;
        let expected = [
            ("layers/", 1000),
            ("layers/bp/", 1000),
            ("layers/bp/l/", 1000),
            ("layers/bp/l/a", 1000),
            ("layers/bp/l/b/", 1000),
            ("layers/bp/l/b/x", 1000),
        ];
        assert_eq!(entries(&Source::Tree(place.clone())), expected.map(|(name, uid)| (name.to_owned(), uid, epoch)));
        assert!(entries(&Source::Files(place, Vec::new())).is_empty());
        let links = entries(&Source::Links(vec!["web".into()]));
        assert_eq!(links.last().unwrap(), &("cnb/process/web".to_owned(), 0, epoch));
        assert_eq!(entries(&Source::Launcher).last().unwrap().0, "cnb/lifecycle/launcher");
    }

    #[test]
    fn the_configuration_keeps_what_the_run_image_says() {
        let run = serde_json::json!({
            "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["sha256:a"]},
            "config": {"User": "1002", "Env": ["PATH=/bin", "X=1"], "Cmd": ["sh"], "Labels": {"k": "v", "io.buildpacks.rebasable": "true"}},
        });
        let place = |path: &str| Place { host: path.into(), inside: path.into() };
        let ground = Ground {
            app: place("/workspace"),
            layers: place("/layers"),
            platform: place("/platform"),
            build_config: None,
            plans: place("/tmp"),
            env: Vec::new(),
            target: crate::target::Target::default(),
            exec_env: "production".into(),
            owner: None,
        };
        let metadata = Metadata::default();
        let planned = [Planned { what: What::Launcher, created_by: "x".into(), source: Source::Launcher }];
        let finish = Finish {
            metadata: &metadata,
            lifecycle: &Lifecycle::default(),
            project: serde_json::json!({}),
            process: None,
            ground: &ground,
            created: CREATED,
        };
        let config = configuration(&run, &planned, &["sha256:b".into()], &finish).unwrap();
        let inner = &config["config"];
        assert_eq!(
            inner["Env"],
            serde_json::json!([
                "PATH=/cnb/process:/cnb/lifecycle:/bin",
                "X=1",
                "CNB_LAYERS_DIR=/layers",
                "CNB_APP_DIR=/workspace",
                "CNB_PLATFORM_API=0.15",
                "CNB_DEPRECATION_MODE=quiet"
            ])
        );
        assert_eq!(
            (inner["User"].as_str(), inner.get("Cmd"), inner["Labels"]["k"].as_str()),
            (Some("1002"), None, Some("v"))
        );
        assert_eq!(inner["Entrypoint"], serde_json::json!(["/cnb/lifecycle/launcher"]));
        assert_eq!(
            (config["rootfs"]["diff_ids"].as_array().unwrap().len(), config["history"].as_array().unwrap().len()),
            (2, 2)
        );
        assert!(inner["Labels"][labels::LIFECYCLE].as_str().unwrap().contains("runImage"));
    }
}
