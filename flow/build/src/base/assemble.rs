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
    definition.check()?;
    let lock = archive.lock(&definition.suite, now).await?;
    let key = assembly_key(definition, archive, &lock)?;
    if let Some(image) = known(archive.cache(), registry, &key).await? {
        return Ok(image);
    }
    let snapshot = archive.snapshot(&definition.suite, now).await?;
    progress(Progress::Index { packages: snapshot.index.len(), date: snapshot.date });
    let packages = choose(definition, archive, &snapshot)?;
    progress(Progress::Resolved { packages: packages.len(), bytes: packages.iter().map(|p| p.size).sum() });
    fetch(archive, &snapshot, &packages, &progress).await?;

    let date = snapshot.date;
    let lock = snapshot.lock.clone();
    // The index is large, and no longer needed.
    drop(snapshot);
    let tree = {
        let (definition, cache, packages, progress) =
            (definition.clone(), archive.cache().clone(), packages.clone(), progress.clone());
        blocking(move || build_tree(&definition, &cache, &packages, &progress)).await?
    };
    let image = publish(definition, registry, tree, &packages, date, lock, &progress).await?;
    let text = serde_json::to_string(&image).map_err(|e| Error::malformed("the assembled image", e.to_string()))?;
    archive.cache().note(&key, &text)?;
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
fn assembly_key(definition: &Definition, archive: &Archive, lock: &Lock) -> Result<String> {
    const VERSION: u32 = 1;
    let key = serde_json::json!({ "v": VERSION, "definition": definition, "lock": lock, "for": archive.options().architecture });
    Ok(format!("assembled {key}"))
}

async fn known(cache: &Cache, registry: &Registry, key: &str) -> Result<Option<BaseImage>> {
    let Some(image) = cache.current(key).and_then(|text| serde_json::from_str::<BaseImage>(&text).ok()) else {
        return Ok(None);
    };
    let found = registry.manifest_info(&image.repository, &image.digest).await;
    let found = found.map_err(|e| Error::Registry { what: image.repository.clone(), source: Arc::new(e) })?;
    Ok(found.map(|_| image))
}

async fn fetch(archive: &Archive, snapshot: &Snapshot, packages: &[Package], progress: &OnProgress) -> Result<()> {
    let bytes = AtomicU64::new(0);
    let count = |more: u64| progress(Progress::Fetched { bytes: bytes.fetch_add(more, Ordering::Relaxed) + more });
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
fn build_tree(definition: &Definition, cache: &Cache, packages: &[Package], progress: &OnProgress) -> Result<Tree> {
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
    for at in order {
        let (index, package) = &unpacked[at];
        merge(&mut tree, package)?;
        system::register(&mut tree, &packages[*index].name, &package.control)?;
    }
    system::complete(&mut tree, definition)?;
    if !definition.shell
        && let Some(shell) = ["usr/bin/sh", "usr/bin/dash", "usr/bin/bash"].iter().find(|path| tree.leads_to_file(path))
    {
        let reason = format!("must not have a shell, and has /{shell}: say `shell: true`, or leave out what brings it");
        return Err(Error::Definition { name: definition.name.clone(), reason });
    }
    if definition.shell && !tree.leads_to_file("/bin/sh") {
        let reason = "must have a shell, and no package brings /bin/sh: add dash".to_owned();
        return Err(Error::Definition { name: definition.name.clone(), reason });
    }
    Ok(tree)
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

fn unpack(cache: &Cache, package: &Package, drop: &[Glob], spill: &mut Spill) -> Result<Unpacked> {
    let what = format!("{} {}", package.name, package.version);
    let Some(file) = cache.verified(&package.sha256, Some(package.size))? else {
        return Err(Error::malformed(format!("package {what}"), "vanished from the cache"));
    };
    let mut deb = Deb::open(&what, std::io::BufReader::with_capacity(128 << 10, file))?;
    let control = deb.control()?;
    system::check_control(&control, &package.name, &package.version.to_string())?;
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
    packages: &[Package],
    date: Timestamp,
    lock: Lock,
    progress: &OnProgress,
) -> Result<BaseImage> {
    let repository = definition.repository();
    let seconds = date.as_second();
    let layer: LayerInfo = LayerStream::write(registry, move |out| tree.write(seconds, out).map(|_| ())).await?;
    progress(Progress::Packed { bytes: layer.size });

    let platform = Platform::host();
    let mut config = ImageConfig::empty(&platform);
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

    let day = date.to_string()[..10].replace('-', "");
    let tags = [definition.suite.clone(), format!("{}-{day}", definition.suite)];
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let pushed = push(registry, &repository, &tags, &config, std::slice::from_ref(&layer), &Default::default()).await?;
    let installed = packages.iter().map(|package| InstalledPackage {
        name: package.name.clone(),
        version: package.version.to_string(),
        architecture: package.architecture.clone(),
        sha256: package.sha256.clone(),
    });
    Ok(BaseImage { repository, digest: pushed, size: layer.size, packages: installed.collect(), lock })
}
