//! What was changed in a real tree, as overlayfs would have it in an upper directory.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use image::layer::{make_whiteout, opaque_attribute};

use super::tree::{Stamp, Tree, attributes};

/// Moves what differs from `tree` out of `root` into `upper`, and marks there what is gone. Paths in `untouched` were changed by us.
pub(super) fn take(root: &Path, upper: &Path, tree: &Tree, untouched: &HashSet<PathBuf>) -> io::Result<()> {
    let mut taking = Taking {
        root,
        upper,
        tree,
        untouched,
        known: tree.stamps.iter().map(|(path, stamp)| (stamp.inode, path.as_path())).collect(),
        linked: HashSet::new(),
        seen: HashMap::new(),
        made: Vec::new(),
    };
    taking.links(Path::new(""))?;
    taking.directory(Path::new(""))?;
    taking.finish()
}

struct Taking<'a> {
    root: &'a Path,
    upper: &'a Path,
    tree: &'a Tree,
    untouched: &'a HashSet<PathBuf>,
    /// Files of the tree by their number.
    known: HashMap<u64, &'a Path>,
    /// Files of the tree that have got a new name.
    linked: HashSet<PathBuf>,
    /// Directories as they were before anything was moved.
    seen: HashMap<PathBuf, Metadata>,
    /// Directories of the upper one that get their times at last.
    made: Vec<PathBuf>,
}

impl Taking<'_> {
    /// Finds new names of old files: overlayfs copies such a file up.
    fn links(&mut self, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join(path))? {
            let entry = entry?;
            let (inner, metadata) = (path.join(entry.file_name()), fs::symlink_metadata(entry.path())?);
            if metadata.is_dir() {
                self.links(&inner)?;
            } else if metadata.nlink() > 1
                && !self.tree.stamps.contains_key(&inner)
                && let Some(old) = self.known.get(&metadata.ino())
            {
                self.linked.insert((*old).to_owned());
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let at = self.root.join(path);
        self.seen.insert(path.to_owned(), fs::symlink_metadata(&at)?);
        let mut names: Vec<_> =
            fs::read_dir(&at)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in &names {
            self.one(path, name)?;
        }
        let there: HashSet<&OsStr> = names.iter().map(|name| name.as_os_str()).collect();
        for gone in self.tree.names.get(path).into_iter().flatten().filter(|name| !there.contains(name.as_os_str())) {
            self.ensure(path)?;
            make_whiteout(fs::File::open(self.upper.join(path))?, gone)?;
        }
        Ok(())
    }

    fn one(&mut self, path: &Path, name: &OsStr) -> io::Result<()> {
        let inner = path.join(name);
        let metadata = fs::symlink_metadata(self.root.join(&inner))?;
        let now = Stamp::of(&metadata);
        match self.tree.stamps.get(&inner) {
            Some(old) if now.directory && old.same(&now) => {
                if *old != now && !self.untouched.contains(&inner) {
                    self.seen.insert(inner.clone(), metadata);
                    self.ensure(&inner)?;
                }
                self.directory(&inner)
            }
            Some(old) if !now.directory && self.same(&inner, old, &now, &metadata)? => Ok(()),
            old => {
                self.ensure(path)?;
                let to = self.upper.join(&inner);
                fs::rename(self.root.join(&inner), &to)?;
                // A new directory shows nothing of what stood there.
                match old.is_some() && now.directory {
                    true => xattr::set(&to, opaque_attribute(), b"y"),
                    false => Ok(()),
                }
            }
        }
    }

    fn same(&self, path: &Path, old: &Stamp, now: &Stamp, metadata: &Metadata) -> io::Result<bool> {
        if !old.same(now) || self.linked.contains(path) {
            return Ok(false);
        }
        if old == now || self.untouched.contains(path) {
            return Ok(true);
        }
        match self.tree.several.get(path) {
            // Perhaps only another name of it has come or gone.
            Some(source) => same_content(source, &self.root.join(path), metadata),
            None => Ok(false),
        }
    }

    /// A directory of the upper one, with what the one in the tree has.
    fn ensure(&mut self, path: &Path) -> io::Result<()> {
        let at = self.upper.join(path);
        if path.as_os_str().is_empty() || at.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            self.ensure(above)?;
        }
        fs::create_dir(&at)?;
        self.made.push(path.to_owned());
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        for path in &self.made {
            let from = self.root.join(path);
            match self.seen.get(path) {
                Some(metadata) => attributes(&from, metadata, &self.upper.join(path))?,
                None => attributes(&from, &fs::symlink_metadata(&from)?, &self.upper.join(path))?,
            }
        }
        Ok(())
    }
}

fn same_content(one: &Path, other: &Path, metadata: &Metadata) -> io::Result<bool> {
    let known = fs::symlink_metadata(one)?;
    let of = |m: &Metadata| (m.mode(), m.uid(), m.gid(), m.len(), m.mtime(), m.mtime_nsec());
    if of(&known) != of(metadata) {
        return Ok(false);
    }
    if !metadata.is_file() {
        return Ok(true);
    }
    let (mut one, mut other) = (fs::File::open(one)?, fs::File::open(other)?);
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(other.read(&mut right[..1])? == 0);
        }
        other.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::tree::{How, make};
    use super::*;

    /// What stands in an upper directory, by path; directories that hide what is below end in `!`, deletions in `?`.
    fn listing(directory: &Path) -> Vec<String> {
        let mut found: Vec<String> = walkdir::WalkDir::new(directory)
            .min_depth(1)
            .into_iter()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().strip_prefix(directory).unwrap().display().to_string();
                let metadata = entry.path().symlink_metadata().unwrap();
                let hides = matches!(xattr::get(entry.path(), opaque_attribute()), Ok(Some(_)));
                match (image::layer::is_whiteout(entry.path(), &metadata), hides) {
                    (true, _) => path + "?",
                    (_, true) => path + "!",
                    _ => path,
                }
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn changes_are_what_overlayfs_makes_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        if xattr::set(directory.path(), opaque_attribute(), b"y").is_err() {
            eprintln!("SKIPPED: the temporary directory has no extended attributes that overlayfs could use");
            return;
        }
        for name in ["low/same", "low/again", "low/gone", "low/deep/in", "low/moved", "high/deep", "root", "upper"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for name in
            ["same/file", "again/old", "gone/file", "deep/in/file", "moved/file", "mode", "one", "hidden", "file"]
        {
            fs::write(at("low").join(name), name).unwrap();
        }
        fs::hard_link(at("low/one"), at("low/two")).unwrap();
        fs::write(at("high/mode"), "above").unwrap();
        make_whiteout(fs::File::open(at("high")).unwrap(), "hidden".as_ref()).unwrap();
        let tree = make(&[at("high"), at("low")], &at("root"), How::Copy).unwrap();
        let root = |name: &str| at("root").join(name);
        assert_eq!(fs::read_to_string(root("mode")).unwrap(), "above");
        assert!(!root("hidden").exists() && root("deep/in/file").exists());

        fs::remove_dir_all(root("again")).unwrap();
        // The file system likes to give the number of the directory that has just gone.
        fs::create_dir(root("again")).unwrap();
        fs::remove_dir_all(root("gone")).unwrap();
        // Written in place, with the old time: only the kernel's own tells.
        let time = fs::metadata(root("deep/in/file")).unwrap().modified().unwrap();
        fs::write(root("deep/in/file"), "deep/in/FILE").unwrap();
        fs::File::options().write(true).open(root("deep/in/file")).unwrap().set_modified(time).unwrap();
        fs::rename(root("moved"), root("elsewhere")).unwrap();
        // Of two names one goes: the other file is what it was.
        fs::remove_file(root("two")).unwrap();
        // A new name of an old file takes the old one along.
        fs::hard_link(root("file"), root("more")).unwrap();
        symlink("nowhere", root("link")).unwrap();
        let metadata = fs::metadata(root("mode")).unwrap();
        fs::set_permissions(root("mode"), metadata.permissions()).unwrap();
        fs::write(root("same/lent"), "").unwrap();
        fs::remove_file(root("same/lent")).unwrap();
        let untouched = HashSet::from([PathBuf::from("same")]);

        take(&at("root"), &at("upper"), &tree, &untouched).unwrap();
        let expected = [
            "again!",
            "deep",
            "deep/in",
            "deep/in/file",
            "elsewhere",
            "elsewhere/file",
            "file",
            "gone?",
            "link",
            "mode",
            "more",
            "moved?",
            "two?",
        ];
        assert_eq!(listing(&at("upper")), expected);
        let links = fs::metadata(at("upper/more")).unwrap().nlink();
        assert_eq!(links, 2, "both names are of one file");
    }
}
