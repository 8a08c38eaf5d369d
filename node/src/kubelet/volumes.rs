//! The files that a pod brings along: what each volume holds, and how it is written.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{KeyToPath, Pod, Volume, VolumeMount, VolumeProjection};

use super::sources::{self, Place, Sources};
use crate::runtime::BindMount;

/// One file of a volume, at a path below its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub content: Vec<u8>,
    pub mode: u32,
}

/// What a volume is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An empty directory that lives as long as the pod.
    Empty,
    /// Files made from objects, replaced as a whole when the objects change.
    Files(Vec<File>),
}

const DEFAULT_MODE: i32 = 0o644;
/// What a projected volume may hold: an object's own bound, a few times over.
const LARGEST: usize = 8 << 20;

/// What a volume holds; an error says why it cannot be had.
pub fn content(pod: &Pod, volume: &Volume, sources: &dyn Sources, place: &Place) -> Result<Content, String> {
    let name = &volume.name;
    if volume.empty_dir.is_some() {
        return Ok(Content::Empty);
    }
    if volume.host_path.is_some() {
        return Err(format!(
            "volume {name:?}: hostPath is refused on this node: it would give the pod files of the machine; use emptyDir, configMap or secret"
        ));
    }
    let mut files = Vec::new();
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let found = sources.config_map(&source.name);
        let optional = source.optional == Some(true);
        files.extend(pick("configmap", &source.name, found, source.items.as_deref(), optional, mode)?);
    } else if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let secret = source.secret_name.as_deref().unwrap_or_default();
        let optional = source.optional == Some(true);
        files.extend(pick("secret", secret, sources.secret(secret), source.items.as_deref(), optional, mode)?);
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for item in source.items.iter().flatten() {
            files.push(downward(pod, place, item, mode)?);
        }
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for projection in source.sources.iter().flatten() {
            files.extend(projected(pod, place, projection, sources, mode)?);
        }
    } else {
        return Err(format!(
            "volume {name:?} is of a sort that this node does not have; use emptyDir, configMap, secret, projected or downwardAPI"
        ));
    }
    for file in &files {
        if !is_below(&file.path) {
            return Err(format!("volume {name:?}: the path {:?} is not a relative path below the volume", file.path));
        }
    }
    let size: usize = files.iter().map(|file| file.content.len()).sum();
    if size > LARGEST {
        return Err(format!("volume {name:?} would hold {size} bytes; at most {LARGEST} are allowed"));
    }
    Ok(Content::Files(files))
}

fn projected(
    pod: &Pod,
    place: &Place,
    projection: &VolumeProjection,
    sources: &dyn Sources,
    mode: i32,
) -> Result<Vec<File>, String> {
    if let Some(source) = &projection.config_map {
        let optional = source.optional == Some(true);
        let found = sources.config_map(&source.name);
        return pick("configmap", &source.name, found, source.items.as_deref(), optional, mode);
    }
    if let Some(source) = &projection.secret {
        let optional = source.optional == Some(true);
        return pick("secret", &source.name, sources.secret(&source.name), source.items.as_deref(), optional, mode);
    }
    if let Some(source) = &projection.downward_api {
        return source.items.iter().flatten().map(|item| downward(pod, place, item, mode)).collect();
    }
    Err("a projected volume names a source that this node does not have; use configMap, secret or downwardAPI".into())
}

fn downward(
    pod: &Pod,
    place: &Place,
    item: &k8s_openapi::api::core::v1::DownwardAPIVolumeFile,
    mode: i32,
) -> Result<File, String> {
    let text = if let Some(field) = &item.field_ref {
        let found = sources::field(pod, place, &field.field_path);
        found.ok_or_else(|| format!("unsupported fieldPath: {}", field.field_path))?
    } else if let Some(field) = &item.resource_field_ref {
        let divisor = field.divisor.as_ref().map(|divisor| divisor.0.as_str());
        sources::resource(pod, None, field.container_name.as_deref(), &field.resource, divisor)
    } else {
        String::new()
    };
    Ok(File { path: item.path.clone(), content: text.into_bytes(), mode: bits(item.mode.unwrap_or(mode)) })
}

fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o777
}

fn pick(
    what: &str,
    name: &str,
    found: Option<BTreeMap<String, Vec<u8>>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: i32,
) -> Result<Vec<File>, String> {
    let Some(mut found) = found else {
        return if optional { Ok(Vec::new()) } else { Err(format!("{what} {name:?} not found")) };
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let all = found.into_iter().map(|(path, content)| File { path, content, mode: bits(mode) });
        return Ok(all.collect());
    };
    let mut files = Vec::new();
    for item in items {
        match found.remove(&item.key) {
            Some(content) => {
                files.push(File { path: item.path.clone(), content, mode: bits(item.mode.unwrap_or(mode)) });
            }
            None if optional => {}
            None => return Err(format!("{what} {name:?} has no key {:?}", item.key)),
        }
    }
    Ok(files)
}

/// Whether a path is relative and stays below where it starts, with no name that the node keeps for itself.
fn is_below(path: &str) -> bool {
    let mut any = false;
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) if !name.to_string_lossy().starts_with("..") => any = true,
            Component::CurDir => {}
            _ => return false,
        }
    }
    any && !path.contains('\0')
}

/// Where a volume's files change hands at once.
const DATA: &str = "..data";

/// Writes a volume into `directory`. Files are replaced as a whole: a reader sees all old ones or all new ones. False when
/// nothing had to be written.
pub fn write(directory: &Path, content: &Content, group: Option<u32>) -> io::Result<bool> {
    std::fs::create_dir_all(directory)?;
    let files = match content {
        Content::Empty => {
            std::fs::set_permissions(
                directory,
                std::fs::Permissions::from_mode(if group.is_some() { 0o2777 } else { 0o777 }),
            )?;
            if let Some(group) = group {
                std::os::unix::fs::chown(directory, None, Some(group))?;
            }
            return Ok(false);
        }
        Content::Files(files) => files,
    };
    let current = std::fs::read_link(directory.join(DATA)).ok();
    if current.as_ref().is_some_and(|current| is_same(&directory.join(current), files)) {
        return Ok(false);
    }
    let number =
        current.as_ref().and_then(|name| name.to_str()?.strip_prefix("..v")?.parse::<u64>().ok()).unwrap_or(0) + 1;
    let next = format!("..v{number}");
    let root = directory.join(&next);
    // Left by a write that was interrupted.
    match std::fs::remove_dir_all(&root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for file in files {
        let path = root.join(&file.path);
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        io::Write::write_all(&mut open, &file.content)?;
        let mut mode = file.mode;
        if let Some(group) = group {
            std::os::unix::fs::fchown(&open, None, Some(group))?;
            mode |= (mode & 0o700) >> 3;
        }
        open.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    if files.is_empty() {
        std::fs::create_dir_all(&root)?;
    }
    let temporary = directory.join("..next");
    let _ = std::fs::remove_file(&temporary);
    std::os::unix::fs::symlink(&next, &temporary)?;
    std::fs::rename(&temporary, directory.join(DATA))?;
    link_names(directory, files)?;
    if let Some(old) = current {
        std::fs::remove_dir_all(directory.join(old))?;
    }
    Ok(true)
}

/// Links every first path component to where it lies in the current data, and drops links to what is gone.
fn link_names(directory: &Path, files: &[File]) -> io::Result<()> {
    let first = |path: &str| {
        Path::new(path).components().find_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            _ => None,
        })
    };
    let names: std::collections::BTreeSet<_> = files.iter().filter_map(|file| first(&file.path)).collect();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !name.to_string_lossy().starts_with("..") && !names.contains(&name) {
            std::fs::remove_file(directory.join(name))?;
        }
    }
    for name in names {
        let link = directory.join(&name);
        if std::fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(Path::new(DATA).join(&name), &link)?;
        }
    }
    Ok(())
}

fn is_same(root: &Path, files: &[File]) -> bool {
    fn count(directory: &Path) -> usize {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
    }
    root.is_dir()
        && count(root) == files.len()
        && files.iter().all(|file| std::fs::read(root.join(&file.path)).is_ok_and(|found| found == file.content))
}

/// A container's mounts of the pod's volumes, which lie below `volumes` by name.
pub fn mounts(
    volumes: &Path,
    mounts: &[VolumeMount],
    pod: &Pod,
    expand: impl Fn(&str) -> String,
) -> Result<Vec<BindMount>, String> {
    let all = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref()).map(Vec::as_slice).unwrap_or_default();
    let bind = |mount: &VolumeMount| {
        let volume = all.iter().find(|volume| volume.name == mount.name);
        let volume =
            volume.ok_or_else(|| format!("the volume {:?} is mounted but not declared in the pod", mount.name))?;
        let root = volumes.join(&mount.name);
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (_, Some(expression)) => expand(expression),
            (Some(path), None) => path.clone(),
            (None, None) => String::new(),
        };
        let source = match sub_path.as_str() {
            "" => root,
            path => below(&root, path, volume.empty_dir.is_some())
                .map_err(|e| format!("volume {:?}: cannot mount the subPath {path:?}: {e}", mount.name))?,
        };
        // What is made from objects is the node's to write.
        let read_only = mount.read_only == Some(true) || volume.empty_dir.is_none();
        Ok(BindMount { source, target: mount.mount_path.clone(), read_only })
    };
    mounts.iter().map(bind).collect()
}

/// A path below a volume, links followed; made as a directory where `make` says so.
fn below(root: &Path, path: &str, make: bool) -> io::Result<PathBuf> {
    if !is_below(path) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a relative path below the volume"));
    }
    let root = root.canonicalize()?;
    let inside = |path: &Path| {
        if path.starts_with(&root) {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "it leads out of the volume"))
        }
    };
    let mut at = root.clone();
    for component in Path::new(path).components() {
        let Component::Normal(name) = component else { continue };
        let next = at.join(name);
        if std::fs::symlink_metadata(&next).is_err() && make {
            std::fs::create_dir(&next)?;
            std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o777))?;
        }
        at = next.canonicalize()?;
        inside(&at)?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::env::tests::Two;
    use super::*;

    fn volume(source: serde_json::Value) -> Result<Content, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"app": "x"}}})).unwrap();
        let volume: Volume = serde_json::from_value(source).unwrap();
        content(&pod, &volume, &Two, &Place::default())
    }

    fn file(path: &str, content: &str, mode: u32) -> File {
        File { path: path.into(), content: content.into(), mode }
    }

    #[test]
    fn every_sort_of_volume_is_made_of_files() {
        let map = volume(json!({"name": "v", "configMap": {"name": "conf"}})).unwrap();
        assert_eq!(map, Content::Files(vec![file("a", "1", 0o644), file("b", "2", 0o644)]));
        let items = json!([{"key": "b", "path": "x/y", "mode": 0o400}]);
        let secret = volume(json!({"name": "v", "secret": {"secretName": "hidden", "items": items}})).unwrap();
        assert_eq!(secret, Content::Files(vec![file("x/y", "s2", 0o400)]));
        let downward = json!({"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]});
        let all = volume(json!({"name": "v", "projected": {"sources": [
            {"configMap": {"name": "conf", "items": [{"key": "a", "path": "a"}]}}, {"downwardAPI": downward},
        ]}}))
        .unwrap();
        assert_eq!(all, Content::Files(vec![file("a", "1", 0o644), file("labels", "app=\"x\"", 0o644)]));
        assert_eq!(volume(json!({"name": "v", "emptyDir": {}})).unwrap(), Content::Empty);
    }

    #[test]
    fn what_is_missing_refused_or_dangerous_is_an_error() {
        for (source, word) in [
            (json!({"name": "v", "configMap": {"name": "gone"}}), "not found"),
            (json!({"name": "v", "secret": {"secretName": "hidden", "items": [{"key": "zz", "path": "p"}]}}), "zz"),
            (json!({"name": "v", "hostPath": {"path": "/"}}), "refused"),
            (json!({"name": "v", "nfs": {"server": "s", "path": "/"}}), "does not have"),
            (json!({"name": "v", "configMap": {"name": "conf", "items": [{"key": "a", "path": "../x"}]}}), "below"),
            (json!({"name": "v", "configMap": {"name": "conf", "items": [{"key": "a", "path": "/x"}]}}), "below"),
        ] {
            let error = volume(source).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(volume(json!({"name": "v", "configMap": {"name": "gone", "optional": true}})).is_ok());
    }

    #[test]
    fn files_are_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("v");
        let one = Content::Files(vec![file("a", "1", 0o644), file("d/x", "x", 0o400)]);
        assert!(write(&root, &one, None).unwrap());
        assert_eq!(std::fs::read_to_string(root.join("d/x")).unwrap(), "x");
        assert_eq!(std::fs::metadata(root.join("d/x")).unwrap().permissions().mode() & 0o777, 0o400);
        assert!(!write(&root, &one, None).unwrap(), "nothing changed");
        assert!(write(&root, &Content::Files(vec![file("b", "2", 0o644)]), None).unwrap());
        let mut names: Vec<_> =
            std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["..data", "..v2", "b"]);
    }

    #[test]
    fn a_sub_path_stays_inside_its_volume() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("v");
        write(&root, &Content::Empty, None).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        assert!(below(&root, "made/deep", true).unwrap().is_dir());
        assert!(below(&root, "out", true).is_err());
        assert!(below(&root, "out/passwd", true).is_err());
        assert!(below(&root, "../x", true).is_err());
        assert!(below(&root, "none", false).is_err());
    }
}
