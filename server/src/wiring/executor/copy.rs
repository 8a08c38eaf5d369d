//! Copies files from one root file system into another with the rules of the Dockerfile reference.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
};

use build::{
    chmod::Modes,
    pattern::{Exclusions, Pattern},
};
use graph::Copy;
use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{self, Mode, SFlag, UtimensatFlags},
        time::TimeSpec,
    },
};

use super::{
    archive,
    rooted::{Place, Root, owner},
};

/// How deep a copied tree may be, and how many entries it may have.
const DEEPEST: usize = 200;
const MOST: usize = 1_000_000;

/// Copies what `copy` names from `source` into `target`. An error is a sentence for the person who wrote the instruction.
pub fn copy(copy: &Copy, source: &Path, target: &Path) -> Result<(), String> {
    let root = Root::open(target).map_err(|e| format!("cannot open the image's root: {e}"))?;
    let from = Root::open(source).map_err(|e| format!("cannot open the source's root: {e}"))?;
    let owner = copy.chown.as_deref().map(|text| owner(&root, text)).transpose()?;
    let mut matched = Vec::new();
    for pattern in &copy.sources {
        let found = expand(&from, pattern, copy.parents)?;
        if found.is_empty() {
            return Err(format!("`{pattern}` is not there"));
        }
        matched.extend(found);
    }
    let mut work = Work {
        owner,
        owners: copy.owners,
        chmod: copy.chmod,
        modes: copy.modes.as_deref().map(Modes::parse).transpose()?,
        exclude: Exclusions::parse(&copy.exclude).map_err(|e| e.to_string())?,
        unpack: copy.unpack,
        entries: 0,
        links: HashMap::new(),
    };
    let into_directory = copy.target.ends_with('/') || matched.len() > 1;
    for found in &matched {
        work.source(copy, &from, &root, found, into_directory)?;
    }
    Ok(())
}

/// A path of the source, and how many of its first parts are not repeated below the target (with `--parents`).
struct Found {
    path: PathBuf,
    pivot: usize,
}

/// The paths that a source names, wildcards included, in order.
fn expand(root: &Root, pattern: &str, parents: bool) -> Result<Vec<Found>, String> {
    let pivot = match pattern.split_once("/./").filter(|_| parents) {
        Some((front, _)) => front.split('/').filter(|part| !part.is_empty() && *part != ".").count(),
        None => 0,
    };
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let mut found = vec![PathBuf::from("/")];
    for part in &parts {
        if !part.contains(['*', '?', '[', '\\']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let matcher = Pattern::parse(part).map_err(|e| format!("`{pattern}`: {e}"))?;
        let mut next = Vec::new();
        for directory in found {
            if *part == "**" {
                below(root, &directory, &mut next, 0)?;
                continue;
            }
            let names = names(root, &directory)?;
            next.extend(names.into_iter().filter(|name| matcher.matches(name)).map(|name| directory.join(name)));
        }
        next.sort();
        next.dedup();
        found = next;
    }
    // A name without wildcards that is not there is said by the caller.
    found.retain(|path| root.find(path).is_ok());
    Ok(found.into_iter().map(|path| Found { path, pivot }).collect())
}

/// The names in a directory of the root; none when it is no directory.
fn names(root: &Root, directory: &Path) -> Result<Vec<String>, String> {
    let Ok(place) = root.directory(directory) else { return Ok(Vec::new()) };
    let entries = fs::read_dir(place.path()).map_err(|e| format!("cannot list `{}`: {e}", directory.display()))?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// The directory and all directories in it.
fn below(root: &Root, directory: &Path, found: &mut Vec<PathBuf>, depth: usize) -> Result<(), String> {
    if depth > DEEPEST || found.len() > MOST {
        return Err(format!("`**` finds more than {MOST} directories, or deeper than {DEEPEST}"));
    }
    found.push(directory.to_owned());
    for name in names(root, directory)? {
        let path = directory.join(name);
        if root.plain_directory(&path) {
            below(root, &path, found, depth + 1)?;
        }
    }
    Ok(())
}

struct Work {
    owner: Option<(u32, u32)>,
    /// Where no owner is named, what is copied keeps its own.
    owners: bool,
    chmod: Option<u32>,
    modes: Option<Modes>,
    exclude: Exclusions,
    unpack: bool,
    entries: usize,
    /// Files with several names: where the first of them went.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Work {
    fn source(
        &mut self,
        copy: &Copy,
        from: &Root,
        root: &Root,
        found: &Found,
        into_directory: bool,
    ) -> Result<(), String> {
        let path = &found.path;
        // Paths below an open directory are good as long as it is open.
        self.links.clear();
        let base = self.owner.unwrap_or((0, 0));
        let place = from.find(path).map_err(|e| format!("cannot read `{}`: {e}", path.display()))?;
        let metadata = fs::metadata(place.path()).map_err(|e| format!("cannot read `{}`: {e}", path.display()))?;
        let said = |e: io::Error| format!("cannot copy `{}` to `{}`: {e}", path.display(), copy.target);
        let mut target = PathBuf::from(&copy.target);
        if copy.parents {
            let kept: PathBuf = path.components().skip(1 + found.pivot).collect();
            let kept = if metadata.is_dir() { kept.as_path() } else { kept.parent().unwrap_or(Path::new("")) };
            self.ancestors(from, root, found, &target, kept).map_err(said)?;
            target.push(kept);
        }
        if metadata.is_dir() {
            // Of a directory its content is copied, not the directory itself.
            let into = root.make(&target, base).map_err(said)?;
            self.tree(&place.path(), &into.path(), Path::new(""), 0).map_err(said)?;
            return Ok(());
        }
        let name = path.file_name().unwrap_or_default();
        if self.left_out(Path::new(name)) {
            return Ok(());
        }
        if self.unpack && metadata.is_file() && archive::is_archive(&place.path()).map_err(said)? {
            let into = root.make(&target, base).map_err(said)?;
            return archive::unpack(&place.path(), &into.path(), self.owner)
                .map_err(|e| format!("cannot unpack `{}`: {e}", path.display()));
        }
        let end;
        let exists = root.directory(&target).ok();
        let (into, name): (Place, &OsStr) = match exists {
            Some(directory) => (directory, name),
            None if into_directory || copy.parents => (root.make(&target, base).map_err(said)?, name),
            None => {
                end = root.end_of(&target);
                let parent = end.parent().unwrap_or(Path::new("/"));
                (root.make(parent, base).map_err(said)?, end.file_name().unwrap_or_default())
            }
        };
        self.entry(&place.path(), &into.entry(name), Path::new(""), 0, true).map_err(said)
    }

    /// The directories that `--parents` keeps, with the modes that they have in the source. Those that are there stay as they are.
    fn ancestors(&self, from: &Root, root: &Root, found: &Found, target: &Path, kept: &Path) -> io::Result<()> {
        let base = self.owner.unwrap_or((0, 0));
        let mut source: PathBuf = found.path.components().take(1 + found.pivot).collect();
        let mut target = target.to_owned();
        for name in kept {
            source.push(name);
            target.push(name);
            let Ok(place) = from.directory(&source) else { break };
            if root.directory(&target).is_ok() {
                continue;
            }
            let metadata = fs::metadata(place.path())?;
            let made = root.make(&target, base)?;
            let (uid, gid) = self.owner_of(&metadata);
            std::os::unix::fs::chown(made.path(), Some(uid), Some(gid))?;
            fs::set_permissions(made.path(), fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
        }
        Ok(())
    }

    /// Whom the copy of something belongs to.
    fn owner_of(&self, metadata: &fs::Metadata) -> (u32, u32) {
        let own = if self.owners { (metadata.uid(), metadata.gid()) } else { (0, 0) };
        self.owner.unwrap_or(own)
    }

    fn left_out(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|path| self.exclude.leave_out(path))
    }

    /// Whether a directory that is left out has something in it that is taken back.
    fn taken_back(&self, from: &Path, inside: &Path, depth: usize) -> io::Result<bool> {
        if !self.exclude.has_exceptions() || depth > DEEPEST || !fs::symlink_metadata(from)?.is_dir() {
            return Ok(false);
        }
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            let below = inside.join(&name);
            if !self.left_out(&below) || self.taken_back(&from.join(&name), &below, depth + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Copies the content of a directory into another that is there. `inside` is its path below the source.
    fn tree(&mut self, from: &Path, to: &Path, inside: &Path, depth: usize) -> io::Result<()> {
        let mut names: Vec<_> = fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            let below = inside.join(&name);
            if !self.left_out(&below) || self.taken_back(&from.join(&name), &below, depth + 1)? {
                self.entry(&from.join(&name), &to.join(&name), &below, depth + 1, false)?;
            }
        }
        Ok(())
    }

    /// Copies one entry. A link is copied as a link, except when it was named itself (`follow`).
    fn entry(&mut self, from: &Path, to: &Path, inside: &Path, depth: usize, follow: bool) -> io::Result<()> {
        self.entries += 1;
        if depth > DEEPEST || self.entries > MOST {
            return Err(io::Error::other(format!("more than {MOST} entries, or deeper than {DEEPEST} directories")));
        }
        let metadata = if follow { fs::metadata(from)? } else { fs::symlink_metadata(from)? };
        let kind = metadata.file_type();
        let old = fs::symlink_metadata(to).ok();
        if kind.is_dir() {
            match &old {
                Some(old) if old.is_dir() => {}
                Some(old) if old.file_type().is_symlink() && fs::metadata(to).is_ok_and(|m| m.is_dir()) => {
                    return Err(io::Error::other(format!("`{}` is a link in the way of a directory", name(to))));
                }
                other => {
                    if other.is_some() {
                        fs::remove_file(to)?;
                    }
                    fs::DirBuilder::new().mode(0o755).create(to)?;
                }
            }
            self.tree(from, to, inside, depth)?;
            self.finish(from, to, &metadata)
        } else if kind.is_symlink() {
            clear(to, old.as_ref())?;
            symlink(fs::read_link(from)?, to)?;
            let (uid, gid) = self.owner_of(&metadata);
            lchown(to, Some(uid), Some(gid))?;
            dated(to, &metadata)
        } else if kind.is_file() {
            clear(to, old.as_ref())?;
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&identity) {
                return fs::hard_link(first, to);
            }
            copy_file(from, to)?;
            if metadata.nlink() > 1 {
                self.links.insert(identity, to.to_owned());
            }
            self.finish(from, to, &metadata)
        } else if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() {
            clear(to, old.as_ref())?;
            let kind = SFlag::from_bits_truncate(metadata.mode() & SFlag::S_IFMT.bits());
            stat::mknod(to, kind, Mode::from_bits_truncate(0o600), metadata.rdev())?;
            self.finish(from, to, &metadata)
        } else {
            // A socket: without its program it is nothing, and no layer holds one.
            Ok(())
        }
    }

    /// Owner, attributes, mode and time of what was copied. The owner first: changing it clears set-user-id bits and capabilities.
    fn finish(&self, from: &Path, to: &Path, metadata: &fs::Metadata) -> io::Result<()> {
        let (uid, gid) = self.owner_of(metadata);
        lchown(to, Some(uid), Some(gid))?;
        attributes(from, to)?;
        let mode = metadata.mode() & 0o7777;
        let mode = match (&self.modes, self.chmod) {
            (Some(modes), _) => modes.apply(mode, metadata.is_dir()),
            (None, chmod) => chmod.unwrap_or(mode),
        };
        fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
        dated(to, metadata)
    }
}

/// Gives an entry, whatever it is, the time of another.
pub fn dated(to: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let time = TimeSpec::new(metadata.mtime(), metadata.mtime_nsec());
    Ok(stat::utimensat(AT_FDCWD, to, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// Capabilities and users' own attributes.
fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let names = match xattr::list_deref(from) {
        Ok(names) => names,
        Err(e) if e.raw_os_error() == Some(nix::libc::ENOTSUP) => return Ok(()),
        Err(e) => return Err(e),
    };
    for name in names {
        let bytes = name.as_encoded_bytes();
        if (bytes == b"security.capability" || bytes.starts_with(b"user."))
            && let Some(value) = xattr::get_deref(from, &name)?
        {
            xattr::set_deref(to, &name, &value)?;
        }
    }
    Ok(())
}

fn clear(to: &Path, old: Option<&fs::Metadata>) -> io::Result<()> {
    match old {
        None => Ok(()),
        Some(old) if old.is_dir() => {
            Err(io::Error::other(format!("`{}` is a directory in the way of a file", name(to))))
        }
        Some(_) => fs::remove_file(to),
    }
}

/// Copies what is in a file; holes stay holes.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let target = fs::OpenOptions::new().write(true).create_new(true).open(to)?;
    super::sparse::copy(&mut source, &target, |_| {}, |_| {}).map(drop)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        directory
    }

    fn run(
        sources: &[&str],
        target: &str,
        from: &tempfile::TempDir,
        to: &tempfile::TempDir,
    ) -> Result<Vec<String>, String> {
        let sources = sources.iter().map(|s| (*s).to_owned()).collect();
        let instruction = Copy { sources, target: target.into(), ..Copy::default() };
        copy(&instruction, from.path(), to.path())?;
        let mut all: Vec<String> = walkdir::WalkDir::new(to.path())
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(to.path()).unwrap().display().to_string())
            .collect();
        all.sort();
        Ok(all)
    }

    /// The cases of the Dockerfile reference on where a file or directory goes.
    #[test]
    fn targets_are_what_the_reference_says() {
        let from = tree(&["a.txt", "b.txt", "dir/c.txt", "dir/sub/d.txt"]);
        let empty = || tree(&[]);
        assert_eq!(run(&["a.txt"], "/x/y", &from, &empty()).unwrap(), ["x/y"]);
        assert_eq!(run(&["a.txt"], "/x/y/", &from, &empty()).unwrap(), ["x/y/a.txt"]);
        assert_eq!(run(&["*.txt"], "/x/", &from, &empty()).unwrap(), ["x/a.txt", "x/b.txt"]);
        assert_eq!(run(&["dir"], "/x", &from, &empty()).unwrap(), ["x/c.txt", "x/sub/d.txt"]);
        assert_eq!(run(&["/"], "/", &from, &empty()).unwrap(), ["a.txt", "b.txt", "dir/c.txt", "dir/sub/d.txt"]);
        assert_eq!(run(&["d*/s*/d.txt"], "/x/", &from, &empty()).unwrap(), ["x/d.txt"]);
        let existing = tree(&["etc/old"]);
        assert_eq!(run(&["a.txt"], "/etc", &from, &existing).unwrap(), ["etc/a.txt", "etc/old"]);
    }

    #[test]
    fn parents_are_kept_from_the_pivot_on_and_patterns_left_out() {
        let from = tree(&["x/a/1.txt", "x/a/2.md", "x/b/3.txt", "y/4.txt"]);
        let with = |sources: &[&str], exclude: &[&str], parents: bool| {
            let to = tree(&[]);
            let own = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            let instruction =
                Copy { sources: own(sources), target: "/t/".into(), exclude: own(exclude), parents, ..Copy::default() };
            copy(&instruction, from.path(), to.path()).unwrap();
            let mut all: Vec<String> = walkdir::WalkDir::new(to.path())
                .into_iter()
                .map(Result::unwrap)
                .filter(|entry| entry.file_type().is_file())
                .map(|entry| entry.path().strip_prefix(to.path()).unwrap().display().to_string())
                .collect();
            all.sort();
            all
        };
        assert_eq!(with(&["/x/a/1.txt", "/y"], &[], true), ["t/x/a/1.txt", "t/y/4.txt"]);
        assert_eq!(with(&["/x/./a"], &[], true), ["t/a/1.txt", "t/a/2.md"]);
        assert_eq!(with(&["/**/*.txt"], &[], true), ["t/x/a/1.txt", "t/x/b/3.txt", "t/y/4.txt"]);
        assert_eq!(with(&["/x"], &["**/*.txt"], false), ["t/a/2.md"]);
        assert_eq!(with(&["/x"], &["a"], false), ["t/b/3.txt"]);
        assert_eq!(with(&["/x/a/*"], &["*.md"], false), ["t/1.txt"]);
    }

    #[test]
    fn two_names_of_one_file_stay_so_and_holes_stay_holes() {
        let from = tree(&["d/a"]);
        fs::hard_link(from.path().join("d/a"), from.path().join("d/b")).unwrap();
        fs::File::create(from.path().join("d/hole")).unwrap().set_len(64 << 20).unwrap();
        let to = tree(&[]);
        run(&["d"], "/x", &from, &to).unwrap();
        let meta = |name: &str| fs::metadata(to.path().join("x").join(name)).unwrap();
        assert_eq!(meta("a").ino(), meta("b").ino());
        assert_eq!(meta("hole").len(), 64 << 20);
        assert!(meta("hole").blocks() < 2048, "{} blocks", meta("hole").blocks());
    }

    #[test]
    fn what_is_missing_or_in_the_way_is_named() {
        let from = tree(&["a.txt", "dir/c.txt"]);
        assert!(run(&["nope"], "/x", &from, &tree(&[])).unwrap_err().contains("nope"));
        assert!(run(&["*.md"], "/x/", &from, &tree(&[])).unwrap_err().contains("*.md"));
        assert!(run(&["dir/"], "/x", &from, &tree(&["x"])).is_err());
    }
}
