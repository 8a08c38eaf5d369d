//! The files of a commit of the user's repository, read by git itself one after the other.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use kustomize::FileError;
use manifest::{
    Tree,
    tree::{EntryKind, join, within},
};

use super::disk::Disk;
use crate::fault::{Class, Fault, Result};

/// The largest file.
const LARGEST: u64 = 256 << 20;
/// Links that are followed.
const LINKS: usize = 40;

struct Entry {
    id: String,
    link: bool,
}

/// A commit where its working tree is: the same paths, other contents. What is outside of the repository is read from the disk.
pub struct Commit {
    root: String,
    entries: BTreeMap<String, Entry>,
    objects: RefCell<Objects>,
}

/// `git cat-file --batch`.
struct Objects {
    child: Child,
    ask: Option<ChildStdin>,
    answer: BufReader<ChildStdout>,
}

impl Drop for Objects {
    fn drop(&mut self) {
        // It ends when nobody can ask any more.
        self.ask = None;
        let _ = self.child.wait();
    }
}

fn git(directory: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("git").arg("-C").arg(directory).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        Fault::new(Class::Unavailable, format!("cannot run git: {error}")).hint("install git, or leave --diff out")
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Fault::usage(said.trim().trim_start_matches("fatal: ").to_owned()))
}

/// The files of the repository that `path` is in, as they were at `reference`.
pub fn at(path: &Path, reference: &str) -> Result<Commit> {
    // The path itself may be gone: the nearest directory that is there will do.
    let directory =
        path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let root = git(&directory, &["rev-parse", "--show-toplevel"])?;
    let root = String::from_utf8_lossy(&root).trim_end_matches('\n').to_owned();
    let wanted = format!("{reference}^{{commit}}");
    let commit = git(&root, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]).map_err(|_| {
        Fault::not_found(format!("`{reference}` is no commit of {root}")).hint("a branch, a tag, or for example HEAD~1")
    })?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let listed = git(&root, &["ls-tree", "-r", "-z", "--full-tree", &commit])?;
    let mut entries = BTreeMap::new();
    for line in listed.split(|byte| *byte == 0) {
        let line = String::from_utf8_lossy(line);
        let Some((head, name)) = line.split_once('\t') else { continue };
        let mut words = head.split(' ');
        let (Some(mode), Some("blob"), Some(id)) = (words.next(), words.next(), words.next()) else { continue };
        entries.insert(join(&root, name), Entry { id: id.to_owned(), link: mode == "120000" });
    }
    let unavailable = |error: std::io::Error| Fault::new(Class::Unavailable, format!("cannot run git: {error}"));
    let mut child = Command::new("git")
        .args(["-C", &root, "cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(unavailable)?;
    let (ask, answer) = (child.stdin.take(), child.stdout.take());
    let Some(answer) = answer else { return Err(Fault::new(Class::Internal, "git has no standard output")) };
    let objects = Objects { child, ask, answer: BufReader::new(answer) };
    Ok(Commit { root, entries, objects: RefCell::new(objects) })
}

impl Objects {
    fn read(&mut self, id: &str) -> std::io::Result<Vec<u8>> {
        let wrong = |what: &str| std::io::Error::other(format!("git cat-file: {what}"));
        let Some(ask) = &mut self.ask else { return Err(wrong("it has ended")) };
        writeln!(ask, "{id}")?;
        ask.flush()?;
        let mut head = String::new();
        self.answer.read_line(&mut head)?;
        let size = head.trim().rsplit(' ').next().and_then(|size| size.parse::<u64>().ok());
        let size = size.ok_or_else(|| wrong(head.trim()))?;
        if size > LARGEST {
            return Err(wrong("the file is too large"));
        }
        let mut content = vec![0; size as usize + 1];
        self.answer.read_exact(&mut content)?;
        content.pop();
        Ok(content)
    }
}

impl Commit {
    fn ours(&self, path: &str) -> bool {
        within(path, &self.root)
    }

    fn blob(&self, path: &str, id: &str) -> std::result::Result<Vec<u8>, FileError> {
        let read = self.objects.borrow_mut().read(id);
        read.map_err(|error| FileError::Other(format!("{path}: {error}")))
    }

    fn directory(&self, path: &str) -> bool {
        let below = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        self.entries.range(below.clone()..).next().is_some_and(|(file, _)| file.starts_with(&below))
    }

    /// The path with every link in it followed.
    fn followed(&self, path: &str) -> Option<String> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
            let link = ends.map(|end| &path[..end]).find_map(|part| {
                let entry = self.entries.get(part).filter(|entry| entry.link)?;
                Some((part.to_owned(), entry.id.clone()))
            });
            let Some((link, id)) = link else { return Some(path) };
            let target = self.blob(&link, &id).ok()?;
            let target = String::from_utf8(target).ok()?;
            let rest = path[link.len()..].to_owned();
            path = join(&join(&join(&link, ".."), &target), &format!("./{rest}"));
        }
        None
    }
}

impl manifest::Files for Commit {
    fn read(&self, path: &str) -> std::result::Result<Vec<u8>, FileError> {
        if !self.ours(path) {
            return Disk.read(path);
        }
        let real = self.followed(path).ok_or_else(|| FileError::NotFound(path.to_owned()))?;
        match self.entries.get(&real) {
            Some(entry) => self.blob(&real, &entry.id),
            None if self.directory(&real) => Err(FileError::Directory(path.to_owned())),
            None => Err(FileError::NotFound(path.to_owned())),
        }
    }

    fn is_dir(&self, path: &str) -> bool {
        if !self.ours(path) {
            return Disk.is_dir(path);
        }
        self.followed(path).is_some_and(|real| self.directory(&real) || real == self.root)
    }

    fn canonical(&self, path: &str) -> Option<String> {
        if !self.ours(path) {
            return Disk.canonical(path);
        }
        let real = self.followed(path)?;
        (self.entries.contains_key(&real) || self.directory(&real) || real == self.root).then_some(real)
    }

    fn list(&self, directory: &str) -> std::result::Result<Vec<(String, Option<u64>)>, FileError> {
        Ok(manifest::tree::listed(Tree::entries(self, directory)))
    }
}

impl Tree for Commit {
    fn entries(&self, directory: &str) -> Vec<(String, EntryKind)> {
        if !self.ours(directory) {
            return Disk.entries(directory);
        }
        let Some(real) = self.followed(directory) else { return Vec::new() };
        let below = self.entries.range(format!("{real}/")..).take_while(|(file, _)| within(file, &real));
        let found = manifest::tree::names(below.map(|(file, _)| (file.as_str(), 0)), &real);
        // What a link leads to matters.
        let kind = |name: String, kind: EntryKind| {
            let path = join(&real, &name);
            let kind = match self.entries.get(&path) {
                Some(entry) if entry.link && manifest::Files::is_dir(self, &path) => EntryKind::Directory,
                _ => kind,
            };
            (name, kind)
        };
        found.into_iter().map(|(name, was)| kind(name, was)).collect()
    }
}
