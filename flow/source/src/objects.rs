//! Commits, trees and blobs read in this process: a run asks for some of them while somebody waits, and a git of its own for each
//! question costs more than the answer. What goes over the wire and whatever is long stays with git itself.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use gix_hash::{Kind, ObjectId};
use gix_object::{CommitRef, Find as _, TreeRefIter, tree::EntryMode};
use gix_odb::Header as _;
use records::{CommitId, Person, Timestamp};

use crate::{CommitInfo, Error, Result};

/// Links that are followed until a path counts as going round in circles.
const LINKS: usize = 40;
const SUBJECT: usize = 500;
/// Bytes of a commit or of one directory.
const LARGEST: u64 = 64 << 20;

/// The objects of one repository. It lives as long as one question: what a push adds meanwhile is found by the next.
pub(crate) struct Objects {
    odb: gix_odb::Handle,
}

/// Which commit last changed a path, seen from another commit. It follows from the two alone, so it holds for ever.
#[derive(Debug, Default)]
pub(crate) struct Changes(Mutex<HashMap<(ObjectId, String), ObjectId>>);

impl Changes {
    /// So many are remembered; then it begins anew.
    const MOST: usize = 20_000;

    fn of(&self, at: &ObjectId, path: &str) -> Option<ObjectId> {
        self.known().get(&(*at, path.to_owned())).copied()
    }

    fn remember(&self, at: ObjectId, path: &str, changed: ObjectId) {
        let mut known = self.known();
        if known.len() >= Self::MOST {
            known.clear();
        }
        known.insert((at, path.to_owned()), changed);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(ObjectId, String), ObjectId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a path of a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub mode: EntryMode,
    pub id: ObjectId,
}

impl Objects {
    pub fn open(repository: &Path) -> Result<Self> {
        let odb = gix_odb::at(repository.join("objects"), Kind::Sha1);
        let odb = odb.map_err(Error::io(format!("cannot open the objects of {}", repository.display())))?;
        Ok(Self { odb })
    }

    /// The bytes of a blob; `None` when there is none of this id, `TooLarge` over `limit` bytes.
    pub fn blob(&self, id: &ObjectId, limit: u64, what: &str) -> Result<Option<Vec<u8>>> {
        self.read(id, gix_object::Kind::Blob, limit, what)
    }

    /// The size of a blob in bytes; `None` when there is none of this id.
    pub fn blob_size(&self, id: &ObjectId) -> Result<Option<u64>> {
        let header = self.odb.try_header(id).map_err(|e| broken(id, &e))?;
        Ok(header.filter(|header| header.kind() == gix_object::Kind::Blob).map(|header| header.size()))
    }

    /// What a commit says of itself; `None` when there is none of this id.
    pub fn commit(&self, id: &CommitId) -> Result<Option<CommitInfo>> {
        let Some(data) = self.commit_data(&object_id(id.as_str())?)? else { return Ok(None) };
        let commit = parsed(id, &data)?;
        let person = commit.author().map_err(|e| broken(id, &e))?;
        let clip = |text: &[u8]| String::from_utf8_lossy(text).chars().take(SUBJECT).collect::<String>();
        let seconds = commit.time().map(|time| time.seconds).unwrap_or_default();
        Ok(Some(CommitInfo {
            id: id.clone(),
            parent: commit.parents().next().and_then(|parent| parent.to_string().parse().ok()),
            author: Person { name: clip(person.name), email: clip(person.email) },
            subject: clip(&commit.message().summary()),
            // A time that cannot be is a commit's problem, not ours.
            committed_at: Timestamp::from_second(seconds).unwrap_or_default(),
        }))
    }

    /// What is at `path` (clean; empty: the root) of a commit. `None` when the commit or the path is not there.
    pub fn entry(&self, commit: &ObjectId, path: &str) -> Result<Option<Entry>> {
        let Some(data) = self.commit_data(commit)? else { return Ok(None) };
        let root = parsed(commit, &data)?.tree();
        let mut at = Entry { mode: gix_object::tree::EntryKind::Tree.into(), id: root };
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Some(next) = self.child(&at, name)? else { return Ok(None) };
            at = next;
        }
        Ok(Some(at))
    }

    /// As [`entry`](Self::entry), with links followed inside the repository; one that leads out of it, or in circles, leads to nothing.
    pub fn followed(&self, commit: &ObjectId, path: &str) -> Result<Option<Entry>> {
        let Some(root) = self.entry(commit, "")? else { return Ok(None) };
        let (mut above, mut links) = (vec![root], 0);
        let mut left: Vec<String> = names(path);
        while let Some(name) = left.pop() {
            if name == ".." {
                if above.len() == 1 {
                    return Ok(None);
                }
                above.pop();
                continue;
            }
            let Some(next) = above.last().map(|at| self.child(at, &name)).transpose()?.flatten() else {
                return Ok(None);
            };
            if !next.mode.is_link() {
                above.push(next);
                continue;
            }
            links += 1;
            let target = self.blob(&next.id, 4096, "the target of a link")?.unwrap_or_default();
            let Ok(target) = String::from_utf8(target) else { return Ok(None) };
            if links > LINKS || target.starts_with('/') {
                return Ok(None);
            }
            left.extend(names(&target));
        }
        Ok(above.pop())
    }

    /// The newest commit up to `to` that changed what is at `path`: among parents that have the same there, the first is followed, as
    /// `git log -- PATH` does. What was found is remembered, so that the next commit on top of it costs one step.
    pub fn last_change(&self, to: &CommitId, path: &str, found: &Changes) -> Result<Option<CommitId>> {
        let to = object_id(to.as_str())?;
        let changed = self.walk_back(&to, path, found)?;
        if let Some(changed) = changed {
            found.remember(to, path, changed);
        }
        Ok(changed.and_then(|id| id.to_string().parse().ok()))
    }

    fn walk_back(&self, to: &ObjectId, path: &str, found: &Changes) -> Result<Option<ObjectId>> {
        let mut at = *to;
        let here = self.entry(&at, path)?;
        loop {
            if let Some(known) = found.of(&at, path) {
                return Ok(Some(known));
            }
            let Some(data) = self.commit_data(&at)? else { return Ok(None) };
            let parents: Vec<ObjectId> = parsed(&at, &data)?.parents().collect();
            let mut same = None;
            for parent in &parents {
                if self.entry(parent, path)? == here {
                    same = Some(*parent);
                    break;
                }
            }
            match same {
                Some(parent) => at = parent,
                // Nothing there and never was: no commit changed it.
                None if parents.is_empty() && here.is_none() => return Ok(None),
                None => return Ok(Some(at)),
            }
        }
    }

    /// Calls `take` for everything below a directory, directories left out, in the order of git's trees; it ends the walk with an error.
    pub fn walk(&self, directory: &ObjectId, take: &mut dyn FnMut(&[u8], Entry) -> Result<()>) -> Result<()> {
        self.walk_below(directory, &mut Vec::new(), take)
    }

    fn walk_below(
        &self,
        directory: &ObjectId,
        prefix: &mut Vec<u8>,
        take: &mut dyn FnMut(&[u8], Entry) -> Result<()>,
    ) -> Result<()> {
        // A path has at most so many bytes where it is used; a tree that is deeper has none that can be.
        if prefix.len() > 4096 {
            return Err(crate::read::bad_path(prefix));
        }
        let data = self.read(directory, gix_object::Kind::Tree, LARGEST, "a directory")?;
        let data = data.ok_or_else(|| broken(directory, &"the directory is missing"))?;
        for entry in TreeRefIter::from_bytes(&data, Kind::Sha1) {
            let entry = entry.map_err(|e| broken(directory, &e))?;
            let before = prefix.len();
            prefix.extend_from_slice(entry.filename);
            if entry.mode.is_tree() {
                prefix.push(b'/');
                self.walk_below(&entry.oid.to_owned(), prefix, take)?;
            } else {
                take(prefix, Entry { mode: entry.mode, id: entry.oid.to_owned() })?;
            }
            prefix.truncate(before);
        }
        Ok(())
    }

    fn child(&self, directory: &Entry, name: &str) -> Result<Option<Entry>> {
        if !directory.mode.is_tree() {
            return Ok(None);
        }
        let data = self.read(&directory.id, gix_object::Kind::Tree, LARGEST, "a directory")?.unwrap_or_default();
        for entry in TreeRefIter::from_bytes(&data, Kind::Sha1) {
            let entry = entry.map_err(|e| broken(&directory.id, &e))?;
            if entry.filename == name.as_bytes() {
                return Ok(Some(Entry { mode: entry.mode, id: entry.oid.to_owned() }));
            }
        }
        Ok(None)
    }

    fn commit_data(&self, id: &ObjectId) -> Result<Option<Vec<u8>>> {
        self.read(id, gix_object::Kind::Commit, LARGEST, "a commit")
    }

    fn read(&self, id: &ObjectId, kind: gix_object::Kind, limit: u64, what: &str) -> Result<Option<Vec<u8>>> {
        let header = self.odb.try_header(id).map_err(|e| broken(id, &e))?;
        let Some(header) = header.filter(|header| header.kind() == kind) else { return Ok(None) };
        if header.size() > limit {
            return Err(Error::TooLarge { what: what.to_owned(), limit });
        }
        let mut buffer = Vec::new();
        let found = self.odb.try_find(id, &mut buffer).map_err(|e| broken(id, &e))?.is_some();
        Ok(found.then_some(buffer))
    }
}

/// An id as git writes it.
pub(crate) fn object_id(id: &str) -> Result<ObjectId> {
    ObjectId::from_hex(id.as_bytes()).map_err(|_| Error::Invalid(format!("`{}` is no object id", id.escape_debug())))
}

fn parsed<'a>(id: &impl std::fmt::Display, data: &'a [u8]) -> Result<CommitRef<'a>> {
    CommitRef::from_bytes(data, Kind::Sha1).map_err(|e| broken(id, &e))
}

/// The parts of a path, last first.
fn names(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|name| !name.is_empty() && *name != ".").map(str::to_owned).collect()
}

fn broken(id: &impl std::fmt::Display, why: &impl std::fmt::Display) -> Error {
    Error::Git { doing: format!("object {id}"), said: format!("cannot read it: {why}") }
}
