//! Where the files are: on a disk, in a commit, in memory; and what was asked of them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use aws_lc_rs::digest::{Context, SHA256};
pub use chart::load::Kind as EntryKind;
use data_encoding::HEXLOWER;
pub use kustomize::path::within;
use kustomize::{FileError, Files};
use serde::{Deserialize, Serialize};

/// A tree of files that can be listed. Paths are absolute and clean (`/a/b`).
pub trait Tree: Files {
    /// The names in a directory and what they are, in any order. Empty for what is no directory.
    fn entries(&self, directory: &str) -> Vec<(String, EntryKind)>;
}

/// `name` below `directory`; an absolute name stays as it is.
pub fn join(directory: &str, name: &str) -> String {
    if name.starts_with('/') { clean(name) } else { clean(&format!("{directory}/{name}")) }
}

/// Absolute, without `.`, `..` and doubled slashes.
pub fn clean(path: &str) -> String {
    kustomize::path::clean(&format!("/{path}"))
}

/// The names of a directory as [`Files::list`] gives them.
pub fn listed(entries: Vec<(String, EntryKind)>) -> Vec<(String, Option<u64>)> {
    let entry = |(name, kind)| match kind {
        EntryKind::File(size) => Some((name, Some(size))),
        EntryKind::Directory => Some((name, None)),
        EntryKind::Irregular => None,
    };
    entries.into_iter().filter_map(entry).collect()
}

/// Files in memory.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    files: BTreeMap<String, Vec<u8>>,
}

impl Snapshot {
    /// The same with one more file.
    #[must_use]
    pub fn with(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(clean(path), content.into());
        self
    }
}

impl Files for Snapshot {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let path = clean(path);
        match self.files.get(&path) {
            Some(content) => Ok(content.clone()),
            None if self.is_dir(&path) => Err(FileError::Directory(path)),
            None => Err(FileError::NotFound(path)),
        }
    }

    fn is_dir(&self, path: &str) -> bool {
        let path = clean(path);
        path == "/" || is_directory(&self.files, &path)
    }

    fn canonical(&self, path: &str) -> Option<String> {
        let path = clean(path);
        (self.files.contains_key(&path) || self.is_dir(&path)).then_some(path)
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, Option<u64>)>, FileError> {
        Ok(listed(self.entries(directory)))
    }
}

impl Tree for Snapshot {
    fn entries(&self, directory: &str) -> Vec<(String, EntryKind)> {
        names(self.files.iter().map(|(path, content)| (path.as_str(), content.len() as u64)), &clean(directory))
    }
}

fn is_directory<T>(files: &BTreeMap<String, T>, path: &str) -> bool {
    let below = format!("{path}/");
    files.range(below.clone()..).next().is_some_and(|(file, _)| file.starts_with(&below))
}

/// The names right below a directory, of files given by their paths and sizes.
pub fn names<'a>(files: impl Iterator<Item = (&'a str, u64)>, directory: &str) -> Vec<(String, EntryKind)> {
    let prefix = if directory == "/" { "/".to_owned() } else { format!("{directory}/") };
    let mut found: BTreeMap<String, EntryKind> = BTreeMap::new();
    for (path, size) in files {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        match rest.split_once('/') {
            Some((name, _)) => found.insert(name.to_owned(), EntryKind::Directory),
            None => found.insert(rest.to_owned(), EntryKind::File(size)),
        };
    }
    found.into_iter().collect()
}

/// Something that was asked of a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Question {
    Read(String),
    IsDirectory(String),
    Canonical(String),
    List(String),
}

/// SHA-256 of an answer, as hexadecimal digits.
pub type Answer = String;

/// SHA-256, as hexadecimal digits.
pub fn digest(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // Lengths between the parts, so that no two lists of parts look the same.
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    HEXLOWER.encode(context.finish().as_ref())
}

/// What a tree answers, as a digest. What is not there has an answer too.
pub fn answer(tree: &dyn Tree, question: &Question) -> Answer {
    match question {
        Question::Read(path) => read_answer(&tree.read(path)),
        Question::IsDirectory(path) => digest(&[&[u8::from(tree.is_dir(path))]]),
        Question::Canonical(path) => canonical_answer(tree.canonical(path).as_deref()),
        Question::List(path) => list_answer(&tree.entries(path)),
    }
}

fn read_answer(read: &Result<Vec<u8>, FileError>) -> Answer {
    match read {
        Ok(content) => digest(&[b"file", content]),
        Err(_) => digest(&[b"none"]),
    }
}

fn canonical_answer(path: Option<&str>) -> Answer {
    match path {
        Some(path) => digest(&[b"path", path.as_bytes()]),
        None => digest(&[b"none"]),
    }
}

fn list_answer(entries: &[(String, EntryKind)]) -> Answer {
    // Sizes do not count: who needs the content asks for it.
    let entries: BTreeSet<(&str, u8)> = entries
        .iter()
        .map(|(name, kind)| {
            let kind = match kind {
                EntryKind::File(_) => 0,
                EntryKind::Directory => 1,
                EntryKind::Irregular => 2,
            };
            (name.as_str(), kind)
        })
        .collect();
    let mut text = Vec::new();
    for (name, kind) in entries {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(&[0, kind]);
    }
    digest(&[b"list", &text])
}

/// Notes everything that is asked of a tree, so that it can be told later whether anything would be answered differently.
pub struct Watched<'a> {
    inner: &'a dyn Tree,
    asked: RefCell<BTreeMap<Question, Answer>>,
}

impl<'a> Watched<'a> {
    pub fn new(inner: &'a dyn Tree) -> Self {
        Self { inner, asked: RefCell::default() }
    }

    /// What was asked, and the digests of the answers.
    pub fn asked(self) -> BTreeMap<Question, Answer> {
        self.asked.into_inner()
    }

    fn note(&self, question: Question, answer: impl FnOnce() -> Answer) {
        self.asked.borrow_mut().entry(question).or_insert_with(answer);
    }
}

impl Files for Watched<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let read = self.inner.read(path);
        self.note(Question::Read(path.to_owned()), || read_answer(&read));
        read
    }

    fn is_dir(&self, path: &str) -> bool {
        let is = self.inner.is_dir(path);
        self.note(Question::IsDirectory(path.to_owned()), || digest(&[&[u8::from(is)]]));
        is
    }

    fn canonical(&self, path: &str) -> Option<String> {
        let found = self.inner.canonical(path);
        self.note(Question::Canonical(path.to_owned()), || canonical_answer(found.as_deref()));
        found
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, Option<u64>)>, FileError> {
        Ok(listed(self.entries(directory)))
    }
}

impl Tree for Watched<'_> {
    fn entries(&self, directory: &str) -> Vec<(String, EntryKind)> {
        let entries = self.inner.entries(directory);
        self.note(Question::List(directory.to_owned()), || list_answer(&entries));
        entries
    }
}

/// A chart's directory within a tree. Links lead nowhere outside of it.
pub(crate) struct ChartFiles<'a> {
    pub tree: &'a dyn Tree,
    pub root: String,
}

impl chart::Tree for ChartFiles<'_> {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, EntryKind)>> {
        Ok(self.tree.entries(&join(&self.root, &format!("./{directory}"))))
    }

    fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        use std::io::{Error, ErrorKind};
        let path = join(&self.root, &format!("./{file}"));
        let Some(real) = self.tree.canonical(&path) else { return Err(ErrorKind::NotFound.into()) };
        let root = self.tree.canonical(&self.root).unwrap_or_else(|| self.root.clone());
        if !within(&real, &root) {
            let text = format!("{file} is a link to {real}, which is outside of the chart");
            return Err(Error::new(ErrorKind::PermissionDenied, text));
        }
        self.tree.read(&real).map_err(|error| match error {
            FileError::NotFound(_) => ErrorKind::NotFound.into(),
            other => Error::other(other.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_what_was_asked_is_seen_and_no_other() {
        let before = Snapshot::default().with("/a/x", "1").with("/a/y", "2").with("/b/z", "3");
        let watched = Watched::new(&before);
        watched.read("/a/x").unwrap();
        watched.entries("/a");
        assert!(watched.read("/a/absent").is_err());
        assert!(watched.is_dir("/a"));
        let asked = watched.asked();
        let same = |tree: &Snapshot| asked.iter().all(|(question, known)| answer(tree, question) == *known);
        assert!(same(&before));
        assert!(same(&before.clone().with("/a/y", "other").with("/b/new", "1")), "nobody read these");
        assert!(!same(&before.clone().with("/a/x", "other")));
        assert!(!same(&before.clone().with("/a/new", "")));
        assert!(!same(&before.clone().with("/a/absent", "now there")));
    }

    #[test]
    fn paths() {
        assert_eq!(join("/a/b", "../c/./d"), "/a/c/d");
        assert_eq!(join("/a", "/x//y"), "/x/y");
        assert!(within("/a/b", "/a") && within("/a", "/a") && !within("/ab", "/a") && within("/x", "/"));
        let names = Snapshot::default().with("/a/x", "1").with("/a/d/y", "2").entries("/a");
        assert_eq!(names, [("d".to_owned(), EntryKind::Directory), ("x".to_owned(), EntryKind::File(1))]);
    }
}
