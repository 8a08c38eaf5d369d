//! Images out of archives: OCI layouts, what `docker save` writes (old and new), and plain file systems.

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
    path::{Path, PathBuf},
};

use build::{ImageConfig, Platform, config::History};
use image::{
    Reference,
    layer::{Compression, Reader},
    layout::{LoadLimits, load_archive, load_directory},
    media,
};
use records::Digest;

use super::{Home, names};
use crate::fault::{Class, Fault, Result};

/// The longest index or manifest of an archive.
const MOST_TEXT: u64 = 8 << 20;
/// Entries of a Docker archive.
const MOST_ENTRIES: usize = 100_000;

/// An image that was loaded, and its names.
pub struct Loaded {
    pub digest: Digest,
    pub names: Vec<Reference>,
}

fn broken(path: &Path) -> impl Fn(std::io::Error) -> Fault + '_ {
    move |e| Fault::usage(format!("cannot read {}: {}", path.display(), unreadable(&e)))
}

/// Why an archive cannot be read, in words: readers of archives and of compressed data speak of their own blocks and frames.
pub fn unreadable(error: &dyn std::fmt::Display) -> String {
    let said = error.to_string();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&[
        "entire block",
        "unexpected EOF",
        "premature eof",
        "incomplete",
        "fill whole buffer",
        "ends in the middle",
    ]) {
        format!("the archive ends in the middle, as if it had been cut short ({said})")
    } else if has(&["numeric field", "checksum mismatch", "invalid deflate", "corrupt"]) {
        format!("it is no archive (tar), or it is damaged ({said})")
    } else {
        said
    }
}

fn unavailable(error: image::Error) -> Fault {
    Fault::from_error(Class::Unavailable, &error)
}

/// Loads what `path` holds: a directory, or an archive, compressed or not.
pub async fn load(home: &Home, path: &Path) -> Result<Vec<Loaded>> {
    if path.is_dir() {
        let index = std::fs::read(path.join("index.json")).map_err(broken(path))?;
        let loaded = load_directory(&home.registry, names::UNTAGGED, path).await.map_err(unavailable)?;
        return named(home, loaded.into_iter().map(|one| one.digest).collect(), &names_in(&index)).await;
    }
    let texts = texts(path)?;
    if let Some(index) = texts.get("index.json") {
        let file = tokio::fs::File::open(path).await.map_err(broken(path))?;
        let loaded = load_archive(&home.registry, names::UNTAGGED, file, LoadLimits::default()).await;
        let loaded = loaded.map_err(unavailable)?;
        return named(home, loaded.into_iter().map(|one| one.digest).collect(), &names_in(index)).await;
    }
    match texts.get("manifest.json") {
        Some(manifest) => docker(home, path, manifest).await,
        None => Err(Fault::usage(format!(
            "{} is no archive of images: it has no index.json and no manifest.json",
            path.display()
        ))
        .hint("`shipway image import` takes an archive of a file system")),
    }
}

/// Loads one image of an OCI layout on this machine, `directory[:tag][@digest]`; gives the name by which a build finds it.
pub async fn layout(home: &Home, context: &str, text: &str) -> Result<String> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => {
            let wrong = |_| Fault::usage(format!("the context {context}: `{digest}` is no digest"));
            (text, Some(digest.parse::<Digest>().map_err(wrong)?))
        }
        None => (text, None),
    };
    // A colon may also be part of the path.
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !Path::new(text).exists() => (path, Some(tag)),
        _ => (text, None),
    };
    let path = Path::new(path);
    let loaded = load_directory(&home.registry, names::UNTAGGED, path)
        .await
        .map_err(|e| Fault::usage(format!("the context {context}: {} is no OCI layout: {e}", path.display())))?;
    let wanted = |one: &&image::layout::Loaded| match (&digest, tag) {
        (Some(digest), _) => one.digest == *digest,
        (None, Some(tag)) => one.tag.as_deref() == Some(tag),
        (None, None) => true,
    };
    let mut found: Vec<&Digest> = loaded.iter().filter(wanted).map(|one| &one.digest).collect();
    found.dedup();
    match found[..] {
        [one] => Ok(format!("{}@{one}", names::UNTAGGED)),
        [] => Err(Fault::usage(format!("the context {context}: {} holds no such image", path.display()))),
        _ => {
            let several = Fault::usage(format!("the context {context}: {} holds several images", path.display()));
            Err(several.hint("name one: oci-layout://DIRECTORY:TAG or oci-layout://DIRECTORY@DIGEST"))
        }
    }
}

/// The two documents that say what an archive holds.
fn texts(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut texts = BTreeMap::new();
    let file = std::fs::File::open(path).map_err(broken(path))?;
    let mut archive = tar::Archive::new(Reader::new(file).map_err(broken(path))?);
    for entry in archive.entries().map_err(broken(path))?.take(MOST_ENTRIES) {
        let entry = entry.map_err(broken(path))?;
        let name = entry.path().map_err(broken(path))?.to_string_lossy().trim_start_matches("./").to_owned();
        if matches!(name.as_str(), "index.json" | "manifest.json") {
            let mut text = Vec::new();
            entry.take(MOST_TEXT).read_to_end(&mut text).map_err(broken(path))?;
            texts.insert(name, text);
        }
    }
    Ok(texts)
}

/// The names that an index gives to its manifests.
fn names_in(index: &[u8]) -> Vec<(Digest, Reference)> {
    let index: serde_json::Value = serde_json::from_slice(index).unwrap_or_default();
    let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    let name = |manifest: serde_json::Value| -> Option<(Digest, Reference)> {
        let digest = manifest["digest"].as_str()?.parse().ok()?;
        let annotations = &manifest["annotations"];
        let whole = annotations["io.containerd.image.name"].as_str();
        let whole = whole.or(annotations["org.opencontainers.image.ref.name"].as_str())?;
        // A tag alone is no name.
        let reference: Reference = whole.parse().ok()?;
        let given = reference.tag.is_some() || reference.host.is_some();
        given.then(|| (digest, short(reference)))
    };
    manifests.into_iter().filter_map(name).collect()
}

/// The way people write images of Docker's registry.
fn short(mut reference: Reference) -> Reference {
    if reference.host.as_deref() == Some("docker.io")
        && let Some(own) = reference.repository.strip_prefix("library/")
    {
        reference.repository = own.to_owned();
        reference.host = None;
    }
    reference
}

async fn named(home: &Home, digests: Vec<Digest>, given: &[(Digest, Reference)]) -> Result<Vec<Loaded>> {
    let mut all: Vec<Loaded> = Vec::new();
    for digest in digests {
        if all.iter().any(|known| known.digest == digest) {
            continue;
        }
        let names: Vec<Reference> =
            given.iter().filter(|(of, _)| *of == digest).map(|(_, name)| name.clone()).collect();
        for name in &names {
            home.give(names::UNTAGGED, &digest, name).await?;
        }
        all.push(Loaded { digest, names });
    }
    Ok(all)
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What was taken out of an archive.
#[derive(Default)]
struct Spooled {
    /// Names in the archive, and where the files lie.
    files: Vec<(String, PathBuf)>,
    /// Links, which stand for the layers that they point to.
    links: BTreeMap<String, String>,
}

/// Every file of an archive that is named, in a directory.
fn spool(path: &Path, into: &Path, wanted: &[String]) -> Result<Spooled> {
    let Spooled { mut files, mut links } = Spooled::default();
    let file = std::fs::File::open(path).map_err(broken(path))?;
    let mut archive = tar::Archive::new(Reader::new(file).map_err(broken(path))?);
    for entry in archive.entries().map_err(broken(path))?.take(MOST_ENTRIES) {
        let mut entry = entry.map_err(broken(path))?;
        let name = entry.path().map_err(broken(path))?.to_string_lossy().trim_start_matches("./").to_owned();
        if let Ok(Some(target)) = entry.link_name() {
            let parent = Path::new(&name).parent().unwrap_or(Path::new(""));
            links.insert(name.clone(), plain(&parent.join(target)));
        } else if entry.header().entry_type().is_file() && (wanted.contains(&name) || name.ends_with(".tar")) {
            let spooled = into.join(files.len().to_string());
            let mut out = std::fs::File::create(&spooled).map_err(broken(path))?;
            std::io::copy(&mut entry, &mut out).map_err(broken(path))?;
            files.push((name, spooled));
        }
    }
    Ok(Spooled { files, links })
}

/// What `docker save` wrote before it wrote OCI layouts, and other tools still do.
async fn docker(home: &Home, path: &Path, manifest: &[u8]) -> Result<Vec<Loaded>> {
    let images: Vec<DockerImage> = serde_json::from_slice(manifest)
        .map_err(|e| Fault::usage(format!("manifest.json of {} is malformed: {e}", path.display())))?;
    let wanted: Vec<String> =
        images.iter().flat_map(|image| image.layers.iter().chain([&image.config])).cloned().collect();
    let into = tempfile::tempdir_in(&home.data).map_err(broken(path))?;
    let Spooled { files, links } = tokio::task::block_in_place(|| spool(path, into.path(), &wanted))?;
    let mut blobs: BTreeMap<String, Stored> = BTreeMap::new();
    for (name, file) in files {
        blobs.insert(name, store(home, &file).await?);
        std::fs::remove_file(&file).map_err(broken(path))?;
    }
    let mut loaded = Vec::new();
    for image in images {
        let find = |name: &str| {
            let target = links.get(name).map_or(name, String::as_str);
            blobs.get(target).or_else(|| blobs.get(name)).cloned()
        };
        let missing = |name: &str| Fault::usage(format!("{} names {name} and does not hold it", path.display()));
        let config = find(&image.config).ok_or_else(|| missing(&image.config))?;
        let layers: Result<Vec<Stored>> =
            image.layers.iter().map(|name| find(name).ok_or_else(|| missing(name))).collect();
        let digest = put(home, &config, &layers?).await?;
        let mut names = Vec::new();
        for name in image.repo_tags.unwrap_or_default() {
            let name = short(name.parse().map_err(|e: image::Error| Fault::usage(e.to_string()))?);
            home.give(names::UNTAGGED, &digest, &name).await?;
            names.push(name);
        }
        loaded.push(Loaded { digest, names });
    }
    Ok(loaded)
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

#[derive(Clone)]
struct Stored {
    digest: Digest,
    size: u64,
    compression: Compression,
}

async fn store(home: &Home, file: &Path) -> Result<Stored> {
    let opened = std::fs::File::open(file).map_err(broken(file))?;
    let compression = Reader::new(opened).map_err(broken(file))?.compression();
    let reader = tokio::fs::File::open(file).await.map_err(broken(file))?;
    let stored = home.registry.store_reader(reader, None).await.map_err(unavailable)?;
    Ok(Stored { digest: stored.digest, size: stored.size, compression })
}

/// Puts an image together and gives its digest.
async fn put(home: &Home, config: &Stored, layers: &[Stored]) -> Result<Digest> {
    let layer = |layer: &Stored| serde_json::json!({ "mediaType": layer.compression.media_type(), "digest": layer.digest, "size": layer.size });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": { "mediaType": media::OCI_CONFIG, "digest": config.digest, "size": config.size },
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string().into_bytes();
    let pushed = home.registry.put_image(names::UNTAGGED, &[], media::OCI_MANIFEST, manifest).await;
    Ok(pushed.map_err(unavailable)?.digest)
}

/// An image of one layer out of an archive of a file system.
pub async fn import(home: &Home, path: &Path, message: &str) -> Result<Digest> {
    let mut file = std::fs::File::open(path).map_err(broken(path))?;
    let mut hasher = image::Hasher::new(image::Algorithm::Sha256);
    let mut reader = Reader::new(&mut file).map_err(broken(path))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer).map_err(broken(path))? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    let compression = reader.compression();
    drop(reader);
    // What is no tar is said now, and not when somebody runs it.
    file.rewind().map_err(broken(path))?;
    let mut archive = tar::Archive::new(Reader::new(file).map_err(broken(path))?);
    archive.entries().map_err(broken(path))?.take(1).try_for_each(|entry| entry.map(drop)).map_err(broken(path))?;
    let stored = home.registry.store_reader(tokio::fs::File::open(path).await.map_err(broken(path))?, None).await;
    let stored = stored.map_err(unavailable)?;
    let mut config = ImageConfig::empty(&Platform::host());
    config.rootfs.diff_ids = vec![hasher.finish().to_string()];
    config.history = vec![History { comment: Some(message.to_owned()), ..History::default() }];
    let config = config.to_json().map_err(|e| Fault::from_error(Class::Internal, &e))?;
    let config = home.registry.store(config).await.map_err(unavailable)?;
    let config = Stored { digest: config.digest, size: config.size, compression: Compression::None };
    put(home, &config, &[Stored { digest: stored.digest, size: stored.size, compression }]).await
}
