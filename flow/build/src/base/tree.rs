//! The file system of an image while it is put together: paths in memory, contents in a file beside.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    sync::Arc,
};

use crate::{Error, Result};

/// Links that are followed on the way to one path.
const MAX_LINKS: usize = 40;

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In a scratch file.
    Spilled {
        file: Arc<File>,
        offset: u64,
        size: u64,
    },
    Bytes(Arc<[u8]>),
}

impl Content {
    pub fn size(&self) -> u64 {
        match self {
            Self::Spilled { size, .. } => *size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// All of it; for files that are known to be small.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.reader().read_to_end(&mut content)?;
        Ok(content)
    }

    pub fn reader(&self) -> Box<dyn io::Read + '_> {
        match self {
            Self::Bytes(bytes) => Box::new(&bytes[..]),
            Self::Spilled { file, offset, size } => Box::new(Spilled { file, at: *offset, end: offset + size }),
        }
    }

    /// What two names of one file share.
    fn identity(&self) -> (usize, u64) {
        match self {
            Self::Spilled { file, offset, .. } => (Arc::as_ptr(file) as usize, *offset),
            Self::Bytes(bytes) => (Arc::as_ptr(bytes) as *const u8 as usize, 0),
        }
    }
}

struct Spilled<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl io::Read for Spilled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        Ok(read)
    }
}

#[derive(Debug, Clone)]
pub enum NodeKind {
    Directory,
    File(Content),
    Symlink(String),
}

#[derive(Debug, Clone)]
pub struct Node {
    pub kind: NodeKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Node {
    pub fn directory(mode: u32) -> Self {
        Self { kind: NodeKind::Directory, mode, uid: 0, gid: 0 }
    }

    pub fn file(content: impl Into<Vec<u8>>) -> Self {
        Self { kind: NodeKind::File(Content::Bytes(content.into().into())), mode: 0o644, uid: 0, gid: 0 }
    }

    pub fn symlink(target: &str) -> Self {
        Self { kind: NodeKind::Symlink(target.to_owned()), mode: 0o777, uid: 0, gid: 0 }
    }

    pub fn owned(mut self, uid: u32) -> Self {
        (self.uid, self.gid) = (uid, uid);
        self
    }

    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }
}

/// Directories that are links into `/usr`.
const MERGED: [&str; 6] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// A file system tree; every parent of a path is there, and is a directory.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Files below a directory.
    pub fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let prefix = format!("{directory}/");
        let start = prefix.clone();
        let range = self.nodes.range(start..).take_while(move |(path, _)| path.starts_with(&prefix));
        range.map(|(path, node)| (path.as_str(), node))
    }

    /// Puts a node of a package where it belongs: `/bin` into `/usr/bin`, and through links that are there already. What is there first
    /// stays; returns whether it was put.
    pub fn add(&mut self, path: &str, node: Node) -> Result<bool> {
        let first = path.split('/').next().unwrap_or(path);
        if MERGED.contains(&first) {
            if path == first {
                // A directory becomes the link that it is in Debian; the link itself is as good.
                return self.add_merged(first);
            }
            self.add_merged(first)?;
        }
        let path = self.through_links(path)?;
        self.put(&path, node, false)
    }

    /// Puts a node that wins over what is there.
    pub fn set(&mut self, path: &str, node: Node) -> Result<()> {
        let path = self.through_links(path)?;
        self.put(&path, node, true).map(|_| ())
    }

    fn add_merged(&mut self, name: &str) -> Result<bool> {
        if self.nodes.contains_key(name) {
            return Ok(false);
        }
        let inside = format!("usr/{name}");
        self.put(&inside, Node::directory(0o755), false)?;
        self.put(name, Node::symlink(&inside), false)
    }

    fn put(&mut self, path: &str, node: Node, wins: bool) -> Result<bool> {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            match self.nodes.get(parent).map(|node| &node.kind) {
                Some(NodeKind::Directory) => {}
                None => {
                    self.nodes.insert(parent.to_owned(), Node::directory(0o755));
                }
                Some(_) => {
                    return Err(Error::malformed(
                        format!("/{path}"),
                        format!("lies below /{parent}, which is no directory"),
                    ));
                }
            }
        }
        match self.nodes.get_mut(path) {
            None => {
                self.nodes.insert(path.to_owned(), node);
                Ok(true)
            }
            Some(there) => {
                let directories = matches!((&there.kind, &node.kind), (NodeKind::Directory, NodeKind::Directory));
                let was_directory = matches!(there.kind, NodeKind::Directory);
                if wins && (directories || !was_directory) {
                    *there = node;
                    return Ok(true);
                }
                if wins {
                    return Err(Error::malformed(
                        format!("/{path}"),
                        "is a directory and cannot become something else",
                    ));
                }
                if !directories {
                    tracing::debug!(path, "two packages have this file; the first one is kept");
                }
                Ok(false)
            }
        }
    }

    /// The path with links among its parents replaced.
    fn through_links(&self, path: &str) -> Result<String> {
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            let last = todo.is_empty();
            let here = done.join("/");
            if let Some(Node { kind: NodeKind::Symlink(target), .. }) = self.nodes.get(&here)
                && !last
            {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::malformed(format!("/{path}"), "lies behind links that lead in a circle"));
                }
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                todo.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        Ok(done.join("/"))
    }

    /// Whether a path leads to a file, through links.
    pub fn leads_to_file(&self, path: &str) -> bool {
        let mut path = path.trim_start_matches('/').to_owned();
        for _ in 0..MAX_LINKS {
            let Ok(resolved) = self.through_links(&path) else { return false };
            match self.nodes.get(&resolved).map(|node| &node.kind) {
                Some(NodeKind::File(_)) => return true,
                Some(NodeKind::Symlink(target)) if target.starts_with('/') => {
                    path = target.trim_start_matches('/').to_owned()
                }
                Some(NodeKind::Symlink(target)) => {
                    let parent = resolved.rsplit_once('/').map_or("", |(parent, _)| parent);
                    path = format!("{parent}/{target}");
                }
                _ => return false,
            }
        }
        false
    }

    /// Writes the tree as a tar: sorted, all of one time, without user names; names of one file as hard links.
    pub fn write(&self, mtime: i64, out: impl Write) -> Result<u64> {
        let mut builder = tar::Builder::new(out);
        builder.mode(tar::HeaderMode::Deterministic);
        let mut written: HashMap<(usize, u64), &str> = HashMap::new();
        for (path, node) in &self.nodes {
            let failed = || Error::io(format!("cannot write /{path} into the layer"));
            let mut header = tar::Header::new_gnu();
            header.set_mode(node.mode);
            header.set_uid(u64::from(node.uid));
            header.set_gid(u64::from(node.gid));
            header.set_mtime(u64::try_from(mtime).unwrap_or_default());
            header.set_size(0);
            match &node.kind {
                NodeKind::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    builder.append_data(&mut header, format!("{path}/"), io::empty()).map_err(failed())?;
                }
                NodeKind::Symlink(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, path, target).map_err(failed())?;
                }
                NodeKind::File(content) => match written.get(&content.identity()).filter(|_| content.size() > 0) {
                    Some(first) => {
                        header.set_entry_type(tar::EntryType::Link);
                        builder.append_link(&mut header, path, first).map_err(failed())?;
                    }
                    None => {
                        written.insert(content.identity(), path);
                        header.set_size(content.size());
                        header.set_entry_type(tar::EntryType::Regular);
                        builder.append_data(&mut header, path, content.reader()).map_err(failed())?;
                    }
                },
            }
        }
        builder.into_inner().map_err(Error::io("cannot finish the layer"))?;
        Ok(self.nodes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_the_root_are_merged_into_usr() {
        let mut tree = Tree::default();
        tree.add("lib/x86_64-linux-gnu/libc.so.6", Node::file("c")).unwrap();
        tree.add("lib", Node::directory(0o755)).unwrap();
        tree.add("bin", Node::symlink("usr/bin")).unwrap();
        assert!(matches!(tree.get("lib").unwrap().kind, NodeKind::Symlink(_)));
        assert!(tree.get("usr/lib/x86_64-linux-gnu/libc.so.6").is_some());
        assert!(tree.leads_to_file("/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(!tree.leads_to_file("/bin/sh"));
    }

    #[test]
    fn links_are_followed_and_circles_refused() {
        let mut tree = Tree::default();
        tree.add("a", Node::symlink("/b/c")).unwrap();
        tree.add("a/file", Node::file("x")).unwrap();
        assert!(tree.get("b/c/file").is_some());
        tree.add("r", Node::symlink("r")).unwrap();
        assert!(tree.add("r/x", Node::file("x")).is_err());
        tree.add("out", Node::symlink("../../..")).unwrap();
        tree.add("out/etc/x", Node::file("x")).unwrap();
        assert!(tree.get("etc/x").is_some(), "the root has no parent");
        tree.add("f", Node::file("x")).unwrap();
        assert!(tree.add("f/x", Node::file("x")).is_err());
    }

    #[test]
    fn the_tar_is_sorted_and_always_the_same() {
        let build = |order: &[&str]| {
            let mut tree = Tree::default();
            for path in order {
                tree.add(path, Node::file(*path)).unwrap();
            }
            let mut out = Vec::new();
            tree.write(1_700_000_000, &mut out).unwrap();
            out
        };
        let long = format!("usr/{}/{}", "d".repeat(120), "f".repeat(120));
        let (a, b) = (build(&["b", "a/x", &long]), build(&[&long, "a/x", "b"]));
        assert!(a == b);
        let mut archive = tar::Archive::new(&a[..]);
        let paths: Vec<String> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        let mut sorted = paths.clone();
        sorted.sort();
        assert_eq!(paths, sorted);
        assert!(paths.contains(&long));
    }
}
