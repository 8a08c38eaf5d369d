//! From a definition to an image: packages resolved, fetched, unpacked without running anything, and packed into one layer.

use std::{
    collections::HashMap,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{FutureExt, StreamExt, TryStreamExt};
use image::Registry;
use records::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    archive::{Archive, Cache, Lock, Package, Snapshot, blocking},
    deb::{Control, Deb, DebEntry, DebKind},
    definition::Definition,
    lock::{BaseLock, LockedPackage},
    resolve::{Request, resolve},
    system,
    tree::{Content, Node, NodeKind, Tree},
};
use crate::{
    Error, Result,
    config::{Empty, History, ImageConfig, Platform},
    export::{LayerInfo, LayerStream, push},
    glob::Glob,
};

/// The certificates of authorities, as one file.
pub const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Packages fetched at the same time.
const DOWNLOADS: usize = 4;

/// Left out of every image: documentation and translations. Copyright files stay.
const DROPPED: [&str; 9] = [
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/zsh",
];

/// How far the assembly is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The index of packages is at hand.
    Index { packages: usize, date: Timestamp },
    /// These many packages are needed; `bytes` of them as they are stored.
    Resolved { packages: usize, bytes: u64 },
    /// Bytes that came from the network so far.
    Fetched { bytes: u64 },
    /// Packages unpacked so far.
    Unpacked { packages: usize, of: usize },
    /// The layer is written.
    Packed { bytes: u64 },
}

/// Is told the progress; may be called from any thread.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// A package that is in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledPackage {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// Of the `.deb`.
    pub sha256: String,
}

/// An assembled base image in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    /// `base/<name>`.
    pub repository: String,
    /// Of its manifest.
    pub digest: Digest,
    /// Bytes of its layer as stored.
    pub size: u64,
    /// In the order of their names.
    pub packages: Vec<InstalledPackage>,
    /// The snapshot that it was made from.
    pub lock: Lock,
}

/// Assembles a base image and pushes it as `base/<name>`, tagged with its suite and snapshot date. The same definition and snapshot
/// give the same digest on every machine; when the registry has the image already, nothing is fetched or unpacked.
pub async fn assemble(
    definition: &Definition,
    archive: &Archive,
    registry: &Registry,
    now: Timestamp,
    progress: OnProgress,
) -> Result<BaseImage> {
    newest(definition, archive, registry, now, true, progress).await
}

/// As [`assemble`], for a definition of somebody's own: without a tag, for another one may have the same name; for the architecture and
/// from the snapshot that it names.
pub async fn assemble_file(
    definition: &Definition,
    archive: &Archive,
    registry: &Registry,
    now: Timestamp,
    progress: OnProgress,
) -> Result<BaseImage> {
    let other = variant(definition, archive)?;
    newest(definition, other.as_ref().unwrap_or(archive), registry, definition.snapshot.unwrap_or(now), false, progress)
        .await
}

/// Assembles exactly the packages of a lock. With all of them cached, no network is needed.
///
/// # Errors
/// [`Error::Stale`] when the definition asks for something else than the lock was made for.
pub async fn assemble_locked(
    definition: &Definition,
    lock: &BaseLock,
    archive: &Archive,
    registry: &Registry,
    progress: OnProgress,
) -> Result<BaseImage> {
    definition.check()?;
    lock.check(definition, &archive.options().architecture)?;
    let (suite, packages, releases) = (&definition.suite, &lock.packages, &lock.releases);
    let key = key(definition, &serde_json::json!([suite, lock.date, packages, releases]), &lock.asked.architecture);
    if let Some(image) = known(archive.cache(), registry, &key).await? {
        return Ok(image);
    }
    progress(Progress::Resolved { packages: packages.len(), bytes: packages.iter().map(|p| p.size).sum() });
    let count = counter(&progress);
    let mut fetches = Vec::with_capacity(packages.len());
    for package in packages {
        let Some(release) = lock.release_of(package) else {
            return Err(Error::malformed("the lock file", format!("does not have the release of {}", package.name)));
        };
        fetches.push(archive.fetch_locked(release, package, &count).boxed());
    }
    futures::stream::iter(fetches).buffer_unordered(DOWNLOADS).try_collect::<()>().await?;
    let chosen = Chosen {
        packages: packages.clone(),
        date: lock.date,
        lock: Lock { releases: releases.clone() },
        platform: platform(&lock.asked.architecture)?,
    };
    make(definition, archive, registry, chosen, &[], &key, &progress).await
}

/// Chooses the packages of a definition from the archive as it is now, or as the definition says that it was.
pub async fn lock_packages(
    definition: &Definition,
    archive: &Archive,
    now: Timestamp,
    progress: OnProgress,
) -> Result<BaseLock> {
    definition.check()?;
    let other = variant(definition, archive)?;
    let archive = other.as_ref().unwrap_or(archive);
    let snapshot = archive.snapshot(&definition.suite, definition.snapshot.unwrap_or(now)).await?;
    progress(Progress::Index { packages: snapshot.index.len(), date: snapshot.date });
    let packages = choose(definition, archive, &snapshot)?;
    Ok(BaseLock::new(definition, &archive.options().architecture, &snapshot, &packages))
}

/// The archive that a definition is assembled from, where it is another one.
fn variant(definition: &Definition, archive: &Archive) -> Result<Option<Archive>> {
    let architecture = definition.architecture.as_deref().filter(|wanted| *wanted != archive.options().architecture);
    let other = architecture.is_some() || definition.snapshot.is_some();
    other.then(|| archive.variant(architecture, definition.snapshot)).transpose()
}

fn platform(architecture: &str) -> Result<Platform> {
    let unknown = || Error::malformed(architecture, "is no architecture that images have a name for");
    Platform::of_debian(architecture).ok_or_else(unknown)
}

/// The packages of an image, all of them in the cache.
struct Chosen {
    packages: Vec<LockedPackage>,
    date: Timestamp,
    lock: Lock,
    platform: Platform,
}

async fn newest(
    definition: &Definition,
    archive: &Archive,
    registry: &Registry,
    now: Timestamp,
    tagged: bool,
    progress: OnProgress,
) -> Result<BaseImage> {
    definition.check()?;
    let lock = archive.lock(&definition.suite, now).await?;
    let architecture = &archive.options().architecture;
    let key = key(definition, &serde_json::json!([lock, tagged]), architecture);
    if let Some(image) = known(archive.cache(), registry, &key).await? {
        return Ok(image);
    }
    let snapshot = archive.snapshot(&definition.suite, now).await?;
    progress(Progress::Index { packages: snapshot.index.len(), date: snapshot.date });
    let packages = choose(definition, archive, &snapshot)?;
    progress(Progress::Resolved { packages: packages.len(), bytes: packages.iter().map(|p| p.size).sum() });
    fetch(archive, &snapshot, &packages, &progress).await?;
    let locked = BaseLock::new(definition, architecture, &snapshot, &packages);
    let chosen = Chosen {
        packages: locked.packages,
        date: snapshot.date,
        lock: snapshot.lock.clone(),
        platform: platform(architecture)?,
    };
    // The index is large, and no longer needed.
    drop(snapshot);
    let day = chosen.date.to_string()[..10].replace('-', "");
    let tags = [definition.suite.clone(), format!("{}-{day}", definition.suite)];
    make(definition, archive, registry, chosen, if tagged { &tags } else { &[] }, &key, &progress).await
}

/// Unpacks and publishes, and remembers what came of it.
async fn make(
    definition: &Definition,
    archive: &Archive,
    registry: &Registry,
    chosen: Chosen,
    tags: &[String],
    key: &str,
    progress: &OnProgress,
) -> Result<BaseImage> {
    let chosen = Arc::new(chosen);
    let tree = {
        let (definition, cache, chosen, progress) =
            (definition.clone(), archive.cache().clone(), chosen.clone(), progress.clone());
        blocking(move || build_tree(&definition, &cache, &chosen.packages, &progress)).await?
    };
    let image = publish(definition, registry, tree, &chosen, tags, progress).await?;
    let text = serde_json::to_string(&image).map_err(|e| Error::malformed("the assembled image", e.to_string()))?;
    archive.cache().note(key, &text)?;
    Ok(image)
}

/// The packages of a definition in a snapshot.
pub fn choose(definition: &Definition, archive: &Archive, snapshot: &Snapshot) -> Result<Vec<Package>> {
    let request = Request {
        name: definition.name.clone(),
        packages: definition.packages.clone(),
        exclude: definition.exclude.clone(),
        architecture: archive.options().architecture.clone(),
    };
    resolve(&snapshot.index, &request)
}

/// What the result depends on. The version is raised when the assembly itself changes.
fn key(definition: &Definition, of: &serde_json::Value, architecture: &str) -> String {
    const VERSION: u32 = 2;
    let key = serde_json::json!({ "v": VERSION, "definition": definition, "of": of, "for": architecture });
    format!("assembled {key}")
}

async fn known(cache: &Cache, registry: &Registry, key: &str) -> Result<Option<BaseImage>> {
    let Some(image) = cache.current(key).and_then(|text| serde_json::from_str::<BaseImage>(&text).ok()) else {
        return Ok(None);
    };
    let found = registry.manifest_info(&image.repository, &image.digest).await;
    let found = found.map_err(|e| Error::Registry { what: image.repository.clone(), source: Arc::new(e) })?;
    Ok(found.map(|_| image))
}

/// Adds bytes up and tells the sum.
fn counter(progress: &OnProgress) -> impl Fn(u64) + Sync {
    let (bytes, progress) = (AtomicU64::new(0), progress.clone());
    move |more: u64| progress(Progress::Fetched { bytes: bytes.fetch_add(more, Ordering::Relaxed) + more })
}

async fn fetch(archive: &Archive, snapshot: &Snapshot, packages: &[Package], progress: &OnProgress) -> Result<()> {
    let count = counter(progress);
    let mut fetches = Vec::with_capacity(packages.len());
    for package in packages {
        fetches.push(archive.fetch(snapshot, package, &count).boxed());
    }
    futures::stream::iter(fetches).buffer_unordered(DOWNLOADS).try_collect::<()>().await
}

/// One package, unpacked.
struct Unpacked {
    entries: Vec<(DebEntry, Option<Content>)>,
    control: Control,
}

/// Unpacks all packages on all cores, and merges them in the order of their names. Blocks.
fn build_tree(
    definition: &Definition,
    cache: &Cache,
    packages: &[LockedPackage],
    progress: &OnProgress,
) -> Result<Tree> {
    let drop = definition.drop.iter().map(|pattern| Glob::ignore(pattern.trim_matches('/')));
    let drop = drop
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::Definition { name: definition.name.clone(), reason: e.to_string() })?;
    // The largest first, so that no thread is left with one at the end.
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(packages[*index].size));
    let next = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let work = || -> Result<Vec<(usize, Unpacked)>> {
        let mut unpacked = Vec::new();
        let mut spill = Spill::new(cache)?;
        while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            unpacked.push((*index, unpack(cache, &packages[*index], &drop, &mut spill)?));
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(Progress::Unpacked { packages: count as usize, of: packages.len() });
        }
        Ok(unpacked)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let results: Vec<Result<Vec<(usize, Unpacked)>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let lost = || Err(Error::malformed("a package", "was not unpacked: its thread ended"));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| lost())).chain([own]).collect()
    });
    let mut unpacked = Vec::with_capacity(packages.len());
    for result in results {
        unpacked.extend(result?);
    }
    unpacked.sort_by_key(|(index, _)| *index);

    let mut tree = Tree::default();
    // The directories of the root have the modes that base-files gives them.
    let first = unpacked.iter().position(|(index, _)| packages[*index].name == "base-files");
    let order = first.into_iter().chain((0..unpacked.len()).filter(|at| Some(*at) != first));
    let mut status = String::new();
    for at in order {
        let (index, package) = &unpacked[at];
        merge(&mut tree, package)?;
        let name = &packages[*index].name;
        if definition.package_manager {
            let paths = package.entries.iter().map(|(entry, _)| entry.path.clone());
            system::register_installed(&mut tree, &mut status, name, &package.control, paths)?;
        } else {
            system::register(&mut tree, name, &package.control)?;
        }
    }
    if definition.package_manager {
        system::package_manager(&mut tree, definition, status)?;
    }
    system::complete(&mut tree, definition)?;
    check(&tree, definition)?;
    Ok(tree)
}

/// Refuses what an image must not have, or must.
fn check(tree: &Tree, definition: &Definition) -> Result<()> {
    let wrong = |reason: String| Err(Error::Definition { name: definition.name.clone(), reason });
    let has = |paths: &[&'static str]| paths.iter().copied().find(|path| tree.leads_to_file(path));
    if !definition.shell
        && let Some(shell) = has(&["usr/bin/sh", "usr/bin/dash", "usr/bin/bash"])
    {
        return wrong(format!(
            "must not have a shell, and has /{shell}: say `shell: true`, or leave out what brings it"
        ));
    }
    if definition.shell && !tree.leads_to_file("/bin/sh") {
        return wrong("must have a shell, and no package brings /bin/sh: add dash".to_owned());
    }
    if !definition.package_manager
        && let Some(manager) = has(&["usr/bin/apt", "usr/bin/apt-get", "usr/bin/dpkg"])
    {
        return wrong(format!(
            "must not have a package manager, and has /{manager}: say `package-manager: true`, or leave out what brings it"
        ));
    }
    Ok(())
}

fn merge(tree: &mut Tree, package: &Unpacked) -> Result<()> {
    for (entry, content) in &package.entries {
        let kind = match (&entry.kind, content) {
            (DebKind::Directory, _) => NodeKind::Directory,
            (DebKind::Symlink(target), _) => NodeKind::Symlink(target.clone()),
            (_, Some(content)) => NodeKind::File(content.clone()),
            // The file that it is another name of was left out.
            (_, None) => continue,
        };
        tree.add(&entry.path, Node { kind, mode: entry.mode, uid: entry.uid, gid: entry.gid })?;
    }
    Ok(())
}

/// Contents of many files in one.
struct Spill {
    file: Arc<std::fs::File>,
    end: u64,
}

impl Spill {
    fn new(cache: &Cache) -> Result<Self> {
        Ok(Self { file: Arc::new(cache.scratch()?), end: 0 })
    }

    fn take(&mut self, content: &mut dyn Read, size: u64, what: &str) -> Result<Content> {
        let offset = self.end;
        let mut out = std::io::BufWriter::with_capacity(128 << 10, &*self.file);
        let failed = |e: std::io::Error| Error::malformed(what, format!("its files cannot be unpacked: {e}"));
        let copied = std::io::copy(content, &mut out).map_err(failed)?;
        out.flush().map_err(Error::io("cannot write unpacked files"))?;
        drop(out);
        if copied != size {
            return Err(Error::malformed(what, "is cut off"));
        }
        self.end += copied;
        Ok(Content::Spilled { file: self.file.clone(), offset, size })
    }
}

fn unpack(cache: &Cache, package: &LockedPackage, drop: &[Glob], spill: &mut Spill) -> Result<Unpacked> {
    let what = format!("{} {}", package.name, package.version);
    let Some(file) = cache.verified(&package.sha256, Some(package.size))? else {
        return Err(Error::malformed(format!("package {what}"), "vanished from the cache"));
    };
    let mut deb = Deb::open(&what, std::io::BufReader::with_capacity(128 << 10, file))?;
    let control = deb.control()?;
    system::check_control(&control, &package.name, &package.version)?;
    let mut entries: Vec<(DebEntry, Option<Content>)> = Vec::new();
    let mut contents: HashMap<String, (Content, u32)> = HashMap::new();
    deb.each(|mut entry, content| {
        if is_dropped(&entry, drop) {
            return Ok(());
        }
        let kept = match &entry.kind {
            DebKind::File => Some(spill.take(content, entry.size, &format!("package {what}"))?),
            DebKind::Hardlink(target) => contents.get(target).map(|(content, mode)| {
                // A file has one mode, whichever of its names stands first.
                entry.mode = *mode;
                content.clone()
            }),
            _ => None,
        };
        if let Some(content) = &kept {
            contents.insert(entry.path.clone(), (content.clone(), entry.mode));
        }
        entries.push((entry, kept));
        Ok(())
    })?;
    Ok(Unpacked { entries, control })
}

fn is_dropped(entry: &DebEntry, drop: &[Glob]) -> bool {
    let path = entry.path.as_str();
    let below =
        |directory: &str| path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if DROPPED.iter().any(|directory| below(directory)) {
        return true;
    }
    if let Some(inside) = path.strip_prefix("usr/share/doc/") {
        // Licences ask to be kept: the copyright file of each package, or the link to the directory of the package that has it.
        let kept = match inside.split_once('/') {
            None => true,
            Some((_, rest)) => rest == "copyright",
        };
        return !kept;
    }
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect::<Vec<_>>();
    drop.iter().any(|glob| ends.iter().any(|end| glob.matches(&path[..*end])))
}

async fn publish(
    definition: &Definition,
    registry: &Registry,
    tree: Tree,
    chosen: &Chosen,
    tags: &[String],
    progress: &OnProgress,
) -> Result<BaseImage> {
    let Chosen { packages, date, lock, platform } = chosen;
    let repository = definition.repository();
    let seconds = date.as_second();
    let layer: LayerInfo = LayerStream::write(registry, move |out| tree.write(seconds, out).map(|_| ())).await?;
    progress(Progress::Packed { bytes: layer.size });

    let mut config = ImageConfig::empty(platform);
    config.created = Some(date.to_string());
    config.rootfs.diff_ids = vec![layer.diff_id.to_string()];
    config.history = vec![History {
        created: config.created.clone(),
        created_by: Some(format!("shipway base {}: {}", definition.name, definition.packages.join(" "))),
        comment: Some(format!("{} packages of Debian {}, {date}", packages.len(), definition.suite)),
        ..History::default()
    }];
    let run = &mut config.config;
    for (name, value) in &definition.env {
        run.set_env(name, value);
    }
    run.user.clone_from(&definition.user);
    run.working_dir = if definition.working_dir.is_empty() { "/".into() } else { definition.working_dir.clone() };
    run.entrypoint = Some(definition.entrypoint.clone()).filter(|words| !words.is_empty());
    run.cmd = Some(definition.cmd.clone()).filter(|words| !words.is_empty());
    run.stop_signal.clone_from(&definition.stop_signal);
    run.exposed_ports = definition.expose.iter().map(|port| (port.clone(), Empty {})).collect();
    run.labels = definition.labels.clone();
    run.labels.insert("org.opencontainers.image.title".into(), repository.clone());
    if !definition.description.is_empty() {
        run.labels.insert("org.opencontainers.image.description".into(), definition.description.clone());
    }
    run.labels.insert("org.opencontainers.image.base.name".into(), "scratch".into());

    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let pushed = push(registry, &repository, &tags, &config, std::slice::from_ref(&layer), &Default::default()).await?;
    let installed = packages.iter().map(|package| InstalledPackage {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        sha256: package.sha256.clone(),
    });
    Ok(BaseImage { repository, digest: pushed, size: layer.size, packages: installed.collect(), lock: lock.clone() })
}
