//! Walks and hashes a directory on all cores.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use data_encoding::HEXLOWER;
use graph::{Origin, Selected, SelectedKind};

use super::{
    ContextEntry, ContextTree, MAX_PATH, bounded, describe, sha256_file,
    stat::{Known, Stamp, StatCache},
};
use crate::{
    Error, Result,
    ignore::{Covered, Ignore},
};

const DEEPEST: usize = 256;

fn threads(work: usize) -> usize {
    if work < 2 {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, usize::from).min(8).min(work)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic elsewhere left is whole: every change is one push or insert.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one thread found.
#[derive(Default)]
struct Found {
    entries: Vec<ContextEntry>,
    stamps: Vec<(String, Stamp)>,
    unusable: Vec<(String, String)>,
    left_out: usize,
}

/// A directory that is still to be listed.
struct Todo {
    path: String,
    depth: usize,
    covered: Covered,
}

struct Queue {
    todo: Vec<Todo>,
    /// Threads that are listing something, which may bring more.
    busy: usize,
    entries: usize,
    failed: Option<Error>,
}

struct Walk<'a> {
    root: &'a Path,
    ignore: &'a Ignore,
    looks_inside: bool,
    queue: Mutex<Queue>,
    more: Condvar,
}

pub fn scan(root: &Path, ignore: Ignore, cache: StatCache) -> Result<ContextTree> {
    let walk = Walk {
        root,
        ignore: &ignore,
        looks_inside: ignore.takes_back(),
        queue: Mutex::new(Queue {
            todo: vec![Todo { path: String::new(), depth: 0, covered: Covered::default() }],
            busy: 0,
            entries: 0,
            failed: None,
        }),
        more: Condvar::new(),
    };
    let found: Vec<Found> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads(usize::MAX)).map(|_| scope.spawn(|| walk.work())).collect();
        let own = walk.work();
        // A worker does not panic on its own; if it did, what it had found would be missing, which is refused below.
        let mut all: Vec<Option<Found>> = workers.into_iter().map(|worker| worker.join().ok()).collect();
        all.push(Some(own));
        all.into_iter().collect::<Option<Vec<Found>>>()
    })
    .ok_or_else(|| Error::Context { path: root.display().to_string(), reason: "was not read to its end".into() })?;
    if let Some(error) = lock(&walk.queue).failed.take() {
        return Err(error);
    }
    let mut tree = ContextTree { origin: Origin::Directory(root.to_owned()), ..ContextTree::empty() };
    let mut stamps = BTreeMap::new();
    for part in found {
        tree.left_out += part.left_out;
        tree.entries.extend(part.entries.into_iter().map(|entry| (entry.path.clone(), entry)));
        tree.unusable.extend(part.unusable);
        stamps.extend(part.stamps);
    }
    tree.ignore = ignore;
    let hasher = Hasher { root: root.to_owned(), stamps, cache, state: Mutex::default() };
    tree.hasher = Some(Arc::new(hasher));
    Ok(tree)
}

impl Walk<'_> {
    fn work(&self) -> Found {
        let mut found = Found::default();
        while let Some(todo) = self.take() {
            let before = found.entries.len();
            let listed = self.list(&todo, &mut found);
            let mut queue = lock(&self.queue);
            queue.busy -= 1;
            queue.entries += found.entries.len() - before;
            match listed.and_then(|more| bounded(self.root, queue.entries).map(|()| more)) {
                Ok(more) => queue.todo.extend(more),
                Err(error) => {
                    queue.todo.clear();
                    queue.failed.get_or_insert(error);
                }
            }
            drop(queue);
            self.more.notify_all();
        }
        found
    }

    fn take(&self) -> Option<Todo> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if let Some(todo) = queue.todo.pop() {
                queue.busy += 1;
                return Some(todo);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn list(&self, todo: &Todo, found: &mut Found) -> Result<Vec<Todo>> {
        let directory = if todo.path.is_empty() { self.root.to_owned() } else { self.root.join(&todo.path) };
        let shown = if todo.path.is_empty() { self.root.display().to_string() } else { todo.path.clone() };
        let failed = |error: std::io::Error| Error::Context { path: shown.clone(), reason: error.to_string() };
        if todo.depth > DEEPEST {
            return Err(Error::Context { path: shown, reason: format!("lies deeper than {DEEPEST} directories") });
        }
        let mut more = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let join =
                |name: &str| if todo.path.is_empty() { name.to_owned() } else { format!("{}/{name}", todo.path) };
            let Some(text) = name.to_str() else {
                let path = join(&name.to_string_lossy());
                if self.ignore.decide(&path).is_none() {
                    found.unusable.push((path, "its name is not UTF-8".into()));
                }
                continue;
            };
            let path = join(text);
            if path.len() > MAX_PATH {
                found
                    .unusable
                    .push((path.chars().take(200).collect(), format!("its path has more than {MAX_PATH} bytes")));
                continue;
            }
            let covered = self.ignore.cover(&todo.covered, &path);
            let kind = entry.file_type().map_err(failed)?;
            if covered.is_ignored() {
                found.left_out += 1;
                if kind.is_dir() && self.looks_inside {
                    more.push(Todo { path, depth: todo.depth + 1, covered });
                }
                continue;
            }
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // It went away while the directory was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::Context { path, reason: error.to_string() }),
            };
            match describe(self.root, path.clone(), &metadata) {
                Ok(described) => found.entries.push(described),
                Err(Error::Context { path, reason }) => {
                    found.unusable.push((path, reason));
                    continue;
                }
                Err(error) => return Err(error),
            }
            if metadata.is_file() {
                found.stamps.push((path.clone(), Stamp::of(&metadata)));
            }
            if metadata.is_dir() {
                more.push(Todo { path, depth: todo.depth + 1, covered });
            }
        }
        Ok(more)
    }
}

/// Hashes what is asked for, once.
#[derive(Debug)]
pub struct Hasher {
    root: PathBuf,
    stamps: BTreeMap<String, Stamp>,
    cache: StatCache,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What an earlier build wrote down; read when it is first needed.
    old: Option<Known>,
    /// What this build found.
    new: Known,
    /// Files that had to be read.
    read: usize,
}

impl Hasher {
    pub fn hash(&self, files: &mut [Selected]) -> Result<()> {
        let mut state = lock(&self.state);
        let State { old, new, read } = &mut *state;
        let old = &*old.get_or_insert_with(|| self.cache.load());
        let mut todo: Vec<usize> = Vec::new();
        for (index, file) in files.iter_mut().enumerate() {
            if file.kind != SelectedKind::File || !file.content.is_empty() {
                continue;
            }
            let Some(stamp) = self.stamps.get(&file.from) else { continue };
            let known = new.get(&file.from).or_else(|| old.get(&file.from)).filter(|(known, _)| known == stamp);
            match known {
                Some(known) => {
                    file.content = HEXLOWER.encode(&known.1);
                    let known = *known;
                    new.insert(file.from.clone(), known);
                }
                None => todo.push(index),
            }
        }
        *read += todo.len();
        for (index, stamp, digest) in self.read(files, &todo)? {
            files[index].content = HEXLOWER.encode(&digest);
            if self.cache.settled(&stamp) {
                new.insert(files[index].from.clone(), (stamp, digest));
            }
        }
        Ok(())
    }

    /// Reads files on all cores.
    fn read(&self, files: &[Selected], todo: &[usize]) -> Result<Vec<(usize, Stamp, [u8; 32])>> {
        if todo.is_empty() {
            return Ok(Vec::new());
        }
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Stamp, [u8; 32])>> {
            let mut done = Vec::new();
            let mut buffer = vec![0; 128 << 10];
            while let Some(index) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                let path = &files[*index].from;
                let failed = |error: std::io::Error| Error::Context { path: path.clone(), reason: error.to_string() };
                let real = self.root.join(path);
                let digest = sha256_file(&real, &mut buffer).map_err(failed)?;
                // What was written to meanwhile is not what was listed.
                let stamp = Stamp::of(&fs::symlink_metadata(&real).map_err(failed)?);
                if self.stamps.get(path) != Some(&stamp) {
                    let reason = "changed while it was read; build again when it is at rest".to_owned();
                    return Err(Error::Context { path: path.clone(), reason });
                }
                done.push((*index, stamp, digest));
            }
            Ok(done)
        };
        let parts: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads(todo.len())).map(|_| scope.spawn(work)).collect();
            let own = work();
            workers.into_iter().filter_map(|worker| worker.join().ok()).chain([own]).collect()
        });
        let mut all = Vec::with_capacity(todo.len());
        for part in parts {
            all.extend(part?);
        }
        if all.len() != todo.len() {
            return Err(Error::Context { path: self.root.display().to_string(), reason: "was not hashed".into() });
        }
        Ok(all)
    }

    /// Writes down what is known, unless an earlier build knew the same.
    pub fn save(&self) {
        let state = lock(&self.state);
        let unchanged = state.read == 0 && state.old.as_ref().is_some_and(|old| old.len() == state.new.len());
        if unchanged || state.old.is_none() {
            return;
        }
        // What this build did not look at stays known as long as it is there.
        let mut known = state.new.clone();
        for (path, value) in state.old.iter().flatten() {
            if self.stamps.get(path) == Some(&value.0) {
                known.entry(path.clone()).or_insert(*value);
            }
        }
        self.cache.save(&known);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};

    use super::*;

    fn all(tree: &ContextTree) -> Vec<Selected> {
        let select = |entry: &ContextEntry| Selected {
            from: entry.path.clone(),
            to: entry.path.clone(),
            mode: entry.mode,
            content: entry.content.clone(),
            kind: entry.kind,
        };
        let mut files: Vec<Selected> = tree.entries().map(select).collect();
        tree.hash(&mut files).unwrap();
        files
    }

    #[test]
    fn finds_what_the_plain_walk_finds() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..300 {
            let path = directory.path().join(format!("d{}/e{}/f{number}.{}", number % 7, number % 3, number % 5));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, number.to_string()).unwrap();
        }
        symlink("d1", directory.path().join("link")).unwrap();
        for rules in ["", "d1\n**/*.2\n!d1/e1", "*\n!d2", "d*/e0", "**/e1/**\n!**/*.3"] {
            let ignore = Ignore::parse(".dockerignore", rules).unwrap();
            let plain = ContextTree::from_directory(directory.path(), ignore.clone()).unwrap();
            let fast = ContextTree::scan(directory.path(), ignore, StatCache::default()).unwrap();
            let expected: Vec<(String, String)> =
                plain.entries().map(|e| (e.path.clone(), e.content.clone())).collect();
            // The plain tree adds the parents of what is taken back; the walk meets them only when they are not ignored.
            let found: Vec<(String, String)> = all(&fast).into_iter().map(|f| (f.from, f.content)).collect();
            let files = |all: &[(String, String)]| -> Vec<(String, String)> {
                all.iter().filter(|(_, content)| !content.is_empty()).cloned().collect()
            };
            assert_eq!(files(&found), files(&expected), "{rules}");
        }
    }

    #[test]
    fn what_did_not_change_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let state = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        let later = i64::MAX / 2;
        let build = || {
            let cache = StatCache::new(state.path().join("cache"), later);
            let tree = ContextTree::scan(directory.path(), Ignore::default(), cache).unwrap();
            let files = all(&tree);
            tree.save_cache();
            (tree.hasher.unwrap().state.lock().unwrap().read, files)
        };
        let (read, first) = build();
        assert_eq!(read, 3);
        let (read, second) = build();
        assert_eq!((read, second), (0, first.clone()));
        fs::write(directory.path().join("b"), "other").unwrap();
        let (read, third) = build();
        assert_eq!(read, 1);
        assert_ne!(third, first);
    }

    #[test]
    fn what_cannot_be_copied_does_no_harm_until_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("s.sock")).unwrap();
        fs::create_dir(directory.path().join("d")).unwrap();
        fs::write(directory.path().join("d").join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
        fs::write(directory.path().join("fine"), "x").unwrap();
        let tree = ContextTree::scan(directory.path(), Ignore::default(), StatCache::default()).unwrap();
        assert_eq!(tree.unusable("fine"), None);
        assert!(tree.unusable("s.sock").unwrap().1.contains("a socket"));
        assert!(tree.unusable("d").unwrap().1.contains("UTF-8"));
        assert!(tree.unusable("").is_some());
    }

    #[test]
    fn a_link_in_the_way_of_the_root_is_followed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("real")).unwrap();
        fs::write(directory.path().join("real/a"), "x").unwrap();
        symlink("/etc", directory.path().join("real/etc")).unwrap();
        let tree = ContextTree::scan(&directory.path().join("real"), Ignore::default(), StatCache::default()).unwrap();
        let paths: Vec<&str> = tree.entries().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["a", "etc"]);
    }
}
