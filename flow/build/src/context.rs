//! The build context: which files there are to copy from, by content, without the files themselves.

mod scan;
mod stat;

use std::{
    collections::BTreeMap,
    fs::Metadata,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use data_encoding::HEXLOWER;
use graph::{Origin, vertex::SelectedKind};

use crate::{Error, Result, ignore::Ignore};
pub use stat::StatCache;

/// Entries (files, links and directories) that a context may have: a million of them costs about half a gigabyte of memory.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Bytes of a path.
const MAX_PATH: usize = 4096;
/// Links that are followed on the way to one file.
const MAX_LINKS: usize = 40;

/// One file, link or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextEntry {
    /// Relative to the root of the context, `/`-separated.
    pub path: String,
    /// Unix permission bits.
    pub mode: u32,
    pub kind: SelectedKind,
    /// The content id: for files the git blob id or SHA-256 in hex, for links the target, empty for directories.
    pub content: String,
    /// Bytes of a file.
    pub size: u64,
}

/// What a build may copy from.
#[derive(Debug, Clone)]
pub struct ContextTree {
    origin: Origin,
    entries: BTreeMap<String, ContextEntry>,
    ignore: Ignore,
    /// Names at the root that were left out, for hints.
    left_out: usize,
    /// What lies there and cannot be copied, with the reason: it does no harm as long as nobody copies it.
    unusable: BTreeMap<String, String>,
    /// Gives the content ids of files that are not known yet.
    hasher: Option<Arc<scan::Hasher>>,
}

impl ContextTree {
    /// A context from a listing, for example of the tree of a commit. What `ignore` names is left out; directories that the listing
    /// does not name (git has none) are added.
    pub fn new(origin: Origin, entries: impl IntoIterator<Item = ContextEntry>, ignore: Ignore) -> Result<Self> {
        let mut tree = Self { origin, ignore, ..Self::empty() };
        for entry in entries {
            let valid = !entry.path.is_empty()
                && entry.path.len() <= MAX_PATH
                && !entry.path.contains('\0')
                && entry.path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !valid {
                let path = entry.path.chars().take(200).collect();
                return Err(Error::Context { path, reason: "is no path inside the context".into() });
            }
            if tree.ignore.decide(&entry.path).is_some() {
                tree.left_out += 1;
                continue;
            }
            if tree.entries.len() >= MAX_ENTRIES {
                return Err(Error::Context { path: ".".into(), reason: too_many() });
            }
            for (at, _) in entry.path.match_indices('/') {
                let parent = &entry.path[..at];
                if !tree.entries.contains_key(parent) {
                    tree.entries.insert(parent.to_owned(), directory(parent, 0o755));
                }
            }
            tree.entries.insert(entry.path.clone(), entry);
        }
        Ok(tree)
    }

    /// No files at all.
    pub fn empty() -> Self {
        Self {
            origin: Origin::Blobs,
            entries: BTreeMap::new(),
            ignore: Ignore::default(),
            left_out: 0,
            unusable: BTreeMap::new(),
            hasher: None,
        }
    }

    /// Walks a directory on this machine and hashes its files with SHA-256, on all cores. `ignore` is applied while walking, so that
    /// what it names is not even read. Blocks.
    pub fn from_directory(root: &Path, ignore: Ignore) -> Result<Self> {
        let mut entries = walk(root, &ignore)?;
        hash(root, &mut entries)?;
        Self::new(Origin::Directory(root.to_owned()), entries, ignore)
    }

    /// As [`ContextTree::from_directory`], of these files only (relative to the root) and the directories that they are in. What is not
    /// there, and what is a directory itself, is left out. Blocks.
    pub fn from_paths(root: &Path, paths: impl IntoIterator<Item = String>, ignore: Ignore) -> Result<Self> {
        let mut entries = Vec::new();
        for path in paths {
            let metadata = match std::fs::symlink_metadata(root.join(&path)) {
                Ok(metadata) if metadata.is_dir() => continue,
                Ok(metadata) => metadata,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                Err(error) => return Err(Error::Context { path, reason: error.to_string() }),
            };
            entries.push(describe(root, path, &metadata)?);
            bounded(root, entries.len())?;
        }
        hash(root, &mut entries)?;
        Self::new(Origin::Directory(root.to_owned()), entries, ignore)
    }

    /// As [`ContextTree::from_directory`], with the ignore file that stands in the directory: `<dockerfile>.dockerignore` if there
    /// is one, else `.dockerignore`. `dockerfile` is relative to the directory.
    pub fn from_directory_with_ignore_file(root: &Path, dockerfile: &str) -> Result<Self> {
        let mut ignore = Ignore::default();
        for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
            match std::fs::read_to_string(root.join(&name)) {
                Ok(text) => {
                    ignore = Ignore::parse(&name, &text)?;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::Context { path: name, reason: error.to_string() }),
            }
        }
        Self::from_directory(root, ignore)
    }

    /// Walks a directory on this machine on all cores and reads no file: what a `COPY` chooses is hashed when it is chosen, and not even
    /// then when `cache` knows the file as it is. What cannot be copied (sockets, devices, names that are not UTF-8) is an error only for
    /// who copies it. Blocks.
    pub fn scan(root: &Path, ignore: Ignore, cache: StatCache) -> Result<Self> {
        scan::scan(root, ignore, cache)
    }

    /// Gives the files their content ids, on all cores. Blocks.
    ///
    /// # Errors
    /// [`Error::Context`] for a file that cannot be read.
    pub fn hash(&self, files: &mut [graph::Selected]) -> Result<()> {
        self.hasher.as_ref().map_or(Ok(()), |hasher| hasher.hash(files))
    }

    /// Writes down what was hashed, for the next build.
    pub fn save_cache(&self) {
        if let Some(hasher) = &self.hasher {
            hasher.save();
        }
    }

    /// Why something at or below a path cannot be copied, if there is such a thing.
    pub fn unusable(&self, path: &str) -> Option<(&str, &str)> {
        let own = self.unusable.get_key_value(path);
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut below = self.unusable.range(prefix.clone()..).take_while(|(found, _)| found.starts_with(&prefix));
        own.or_else(|| below.next()).map(|(path, reason)| (path.as_str(), reason.as_str()))
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    /// How many entries `.dockerignore` left out.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub fn get(&self, path: &str) -> Option<&ContextEntry> {
        self.entries.get(path)
    }

    /// All entries in the order of their paths.
    pub fn entries(&self) -> impl Iterator<Item = &ContextEntry> {
        self.entries.values()
    }

    /// The entries below a directory (all for the root, ``).
    pub fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = &'a ContextEntry> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let start = prefix.clone();
        self.entries.range(start..).take_while(move |(path, _)| path.starts_with(&prefix)).map(|(_, entry)| entry)
    }

    /// Follows links, also to directories, inside the context: the path that holds no link any more. `None` when a link leads out
    /// of the context, in a circle, or nowhere. The root is the empty path.
    pub fn resolve(&self, path: &str) -> Option<String> {
        let mut todo: Vec<String> = path.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "." | "" => continue,
                ".." => {
                    done.pop()?;
                    continue;
                }
                _ => done.push(part),
            }
            let here = done.join("/");
            let entry = self.entries.get(&here)?;
            if entry.kind == SelectedKind::Link {
                links += 1;
                if links > MAX_LINKS || entry.content.starts_with('/') {
                    return None;
                }
                done.pop();
                todo.extend(entry.content.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned));
            }
        }
        Some(done.join("/"))
    }
}

fn directory(path: &str, mode: u32) -> ContextEntry {
    ContextEntry { path: path.to_owned(), mode, kind: SelectedKind::Directory, content: String::new(), size: 0 }
}

fn walk(root: &Path, ignore: &Ignore) -> Result<Vec<ContextEntry>> {
    let looks_inside = ignore.takes_back();
    let mut entries = Vec::new();
    let relative =
        |path: &Path| -> Option<String> { path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned) };
    let mut walker = walkdir::WalkDir::new(root).min_depth(1).max_depth(256).sort_by_file_name().into_iter();
    while let Some(found) = walker.next() {
        let found = found.map_err(|error| {
            let path = error.path().and_then(relative).unwrap_or_else(|| root.display().to_string());
            Error::Context { path, reason: error.to_string() }
        })?;
        let Some(path) = relative(found.path()) else {
            let path = found.path().to_string_lossy().into_owned();
            return Err(Error::Context { path, reason: "the name is not UTF-8".into() });
        };
        if ignore.decide(&path).is_some() {
            if found.file_type().is_dir() && !looks_inside {
                walker.skip_current_dir();
            }
            continue;
        }
        let metadata = found.metadata().map_err(|e| Error::Context { path: path.clone(), reason: e.to_string() })?;
        entries.push(describe(root, path, &metadata)?);
        bounded(root, entries.len())?;
    }
    Ok(entries)
}

fn bounded(root: &Path, entries: usize) -> Result<()> {
    if entries > MAX_ENTRIES {
        return Err(Error::Context { path: root.display().to_string(), reason: too_many() });
    }
    Ok(())
}

fn too_many() -> String {
    format!("holds more than {MAX_ENTRIES} entries (files, links and directories): leave some out with .dockerignore")
}

/// An entry without the content id of a file.
fn describe(root: &Path, path: String, metadata: &Metadata) -> Result<ContextEntry> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mode = metadata.mode() & 0o7777;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Ok(directory(&path, mode));
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(root.join(&path));
        let target = target.map_err(|e| Error::Context { path: path.clone(), reason: e.to_string() })?;
        let Some(content) = target.to_str().map(str::to_owned) else {
            return Err(Error::Context { path, reason: "the link's target is not UTF-8".into() });
        };
        return Ok(ContextEntry { path, mode: 0o777, kind: SelectedKind::Link, content, size: 0 });
    }
    if kind.is_file() {
        return Ok(ContextEntry { path, mode, kind: SelectedKind::File, content: String::new(), size: metadata.len() });
    }
    let what = match kind {
        kind if kind.is_socket() => "a socket",
        kind if kind.is_fifo() => "a named pipe",
        _ => "a device",
    };
    let reason = format!("is {what}: only files, links and directories can be copied; name it in .dockerignore");
    Err(Error::Context { path, reason })
}

/// Fills in the content ids of files.
fn hash(root: &Path, entries: &mut [ContextEntry]) -> Result<()> {
    let files: Vec<(usize, PathBuf)> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.kind == SelectedKind::File)
        .map(|(index, entry)| (index, root.join(&entry.path)))
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(files.len().max(1));
    let next = AtomicUsize::new(0);
    let work = || -> std::result::Result<Vec<(usize, String)>, (usize, std::io::Error)> {
        let mut done = Vec::new();
        let mut buffer = vec![0; 128 << 10];
        while let Some((index, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((*index, HEXLOWER.encode(&sha256_file(path, &mut buffer).map_err(|e| (*index, e))?)));
        }
        Ok(done)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        // A worker cannot panic on its own; if it did, the files it had taken stay without an id, which is checked below.
        workers.into_iter().filter_map(|worker| worker.join().ok()).chain([own]).collect()
    });
    for result in results {
        match result {
            Ok(done) => done.into_iter().for_each(|(index, content)| entries[index].content = content),
            Err((index, error)) => {
                return Err(Error::Context { path: entries[index].path.clone(), reason: error.to_string() });
            }
        }
    }
    match entries.iter().find(|entry| entry.kind == SelectedKind::File && entry.content.is_empty()) {
        Some(entry) => Err(Error::Context { path: entry.path.clone(), reason: "was not hashed".into() }),
        None => Ok(()),
    }
}

fn sha256_file(path: &Path, buffer: &mut [u8]) -> std::io::Result<[u8; 32]> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    image::holes::read(&mut file, buffer, |part| {
        part.each(|bytes| {
            hasher.update(bytes);
            Ok(())
        })
    })?;
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hasher.finish().as_ref());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: SelectedKind, content: &str) -> ContextEntry {
        ContextEntry { path: path.into(), mode: 0o644, kind, content: content.into(), size: 0 }
    }

    #[test]
    fn a_directory_is_walked_and_hashed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        std::fs::write(dir.path().join("src/a.txt"), "hello\n").unwrap();
        std::fs::write(dir.path().join("secret.key"), "x").unwrap();
        std::fs::write(dir.path().join(".dockerignore"), "*.key\n").unwrap();
        std::os::unix::fs::symlink("src/a.txt", dir.path().join("link")).unwrap();
        let tree = ContextTree::from_directory_with_ignore_file(dir.path(), "Dockerfile").unwrap();
        let paths: Vec<&str> = tree.entries().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, [".dockerignore", "link", "src", "src/a.txt", "src/deep"]);
        let hash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(tree.get("src/a.txt").unwrap().content, hash);
        assert_eq!(tree.resolve("link").as_deref(), Some("src/a.txt"));
        assert_eq!(tree.below("src").count(), 2);
    }

    #[test]
    fn of_named_paths_only_files_that_are_there_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("src/module")).unwrap();
        std::fs::write(dir.path().join("src/a.txt"), "hello\n").unwrap();
        std::fs::write(dir.path().join("other"), "x").unwrap();
        let named = ["src/a.txt", "src/module", "gone", "other/gone"].map(str::to_owned);
        let tree = ContextTree::from_paths(dir.path(), named, Ignore::default()).unwrap();
        assert_eq!(tree.entries().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["src", "src/a.txt"]);
        assert_eq!(tree.get("src/a.txt").map(|e| e.content.len()), Some(64));
    }

    #[test]
    fn a_million_entries_are_enough_and_the_error_counts_entries() {
        assert!(bounded(Path::new("/src"), 1_000_000).is_ok());
        let error = bounded(Path::new("/src"), MAX_ENTRIES + 1).unwrap_err().to_string();
        assert!(error.contains("more than 1000000 entries (files, links and directories)"), "{error}");
    }

    #[test]
    fn a_socket_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s.sock")).unwrap();
        let error = ContextTree::from_directory(dir.path(), Ignore::default()).unwrap_err().to_string();
        assert!(error.starts_with("build context: s.sock: is a socket"), "{error}");
    }

    #[test]
    fn links_are_followed_inside_only() {
        use SelectedKind::{File, Link};
        let entries = [
            entry("a/b/file", File, "1"),
            entry("to-a", Link, "a"),
            entry("a/up", Link, "../to-a/b/file"),
            entry("out", Link, "../etc/passwd"),
            entry("absolute", Link, "/etc/passwd"),
            entry("circle", Link, "circle"),
        ];
        let tree = ContextTree::new(Origin::Blobs, entries, Ignore::default()).unwrap();
        assert_eq!(tree.resolve("to-a/b/file").as_deref(), Some("a/b/file"));
        assert_eq!(tree.resolve("a/up").as_deref(), Some("a/b/file"));
        for path in ["out", "absolute", "circle", "nothing"] {
            assert_eq!(tree.resolve(path), None, "{path}");
        }
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in ["../x", "/x", "a//b", "a/./b", "", "a/..", "a\0b"] {
            let tree = ContextTree::new(Origin::Blobs, [entry(path, SelectedKind::File, "1")], Ignore::default());
            assert!(tree.is_err(), "{path:?}");
        }
    }
}
