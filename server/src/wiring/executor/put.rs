//! Puts files of a directory of this machine straight where an instruction wants them, each written once and checked while it is read.
//!
//! Nobody else changes the tree that is written to. Directories are made first, one after the other, and looked at before anything goes into
//! them; so a path below them holds no link. Then all processors write files.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use build::{chmod::Modes, pattern::unescape};
use data_encoding::HEXLOWER;
use graph::{Copy, Selected, SelectedKind};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstatat, mkdirat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat},
};

use super::{
    archive,
    rooted::{Place, Root, owner},
};

/// Files of one directory that one thread writes before it looks for more.
const SHARE: usize = 64;

/// Told between files whether to stop.
pub type Stopped<'a> = &'a (dyn Fn() -> bool + Sync);

/// Puts what `copy` names of `files`, which lie in the directory `from`, into `target`. An error is a sentence.
pub fn put(copy: &Copy, files: &[Selected], from: &Path, target: &Path, stopped: Stopped<'_>) -> Result<(), String> {
    let root = Root::open(target).map_err(|e| format!("cannot open the image's root: {e}"))?;
    let source = fs::File::open(from).map_err(|e| format!("cannot open {}: {e}", from.display()))?;
    let owner = copy.chown.as_deref().map(|text| owner(&root, text)).transpose()?.unwrap_or((0, 0));
    let modes = copy.modes.as_deref().map(Modes::parse).transpose()?;
    let work = Work { copy, source: source.into(), owner, modes, stopped };
    let files: BTreeMap<&str, &Selected> = files.iter().map(|file| (file.to.as_str(), file)).collect();
    let into_directory = copy.target.ends_with('/') || copy.sources.len() > 1;
    for pattern in &copy.sources {
        let path = unescape(pattern);
        let path = path.trim_matches('/');
        let said = |e: io::Error| match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!(
                    "cannot copy `{path}` to `{}`: the disk is full; `shipway image prune` frees some space",
                    copy.target
                )
            }
            _ => format!("cannot copy `{path}` to `{}`: {e}", copy.target),
        };
        match files.get(path) {
            Some(file) if file.kind != SelectedKind::Directory => {
                work.one(&root, file, path, into_directory).map_err(said)?;
            }
            _ => {
                let into = root.make(Path::new(&copy.target), owner).map_err(said)?;
                work.tree(&into, &files, path).map_err(said)?;
            }
        }
    }
    Ok(())
}

struct Work<'a> {
    copy: &'a Copy,
    source: OwnedFd,
    owner: (u32, u32),
    modes: Option<Modes>,
    stopped: Stopped<'a>,
}

impl Work<'_> {
    /// A file that was named itself.
    fn one(&self, root: &Root, file: &Selected, path: &str, into_directory: bool) -> io::Result<()> {
        let target = Path::new(&self.copy.target);
        let name = OsStr::new(path.rsplit('/').next().unwrap_or(path));
        if self.copy.unpack && file.kind == SelectedKind::File {
            let open = self.open(file)?;
            if !open.metadata()?.is_file() {
                return Err(changed(file));
            }
            let real = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open)));
            if archive::is_archive(&real)? {
                let mut reader = open.try_clone()?;
                io::Seek::rewind(&mut reader)?;
                let mut hash = Hash::default();
                io::copy(&mut reader, &mut hash)?;
                self.same(file, hash)?;
                let into = root.make(target, self.owner)?;
                let owner = self.copy.chown.as_ref().map(|_| self.owner);
                return archive::unpack(&real, &into.path(), owner).map_err(io::Error::other);
            }
        }
        let end;
        let (into, name) = match root.directory(target).ok() {
            Some(directory) => (directory, name),
            None if into_directory => (root.make(target, self.owner)?, name),
            None => {
                end = root.end_of(target);
                let parent = end.parent().unwrap_or(Path::new("/"));
                (root.make(parent, self.owner)?, end.file_name().unwrap_or_default())
            }
        };
        self.entry(&into, name, file, &mut vec![0; 128 << 10])
    }

    /// All that lies below a directory of the files.
    fn tree(&self, into: &Place, files: &BTreeMap<&str, &Selected>, path: &str) -> io::Result<()> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = files.range(prefix.as_str()..).take_while(|(to, _)| to.starts_with(&prefix));
        // Directories by their paths below the target, with their modes; parents that nobody named come with the usual one.
        let mut directories: BTreeMap<&str, u32> = BTreeMap::new();
        let mut plain: BTreeMap<&str, Vec<(&str, &Selected)>> = BTreeMap::new();
        for (to, file) in below {
            let inside = &to[prefix.len()..];
            if inside.is_empty() {
                continue;
            }
            for (at, _) in inside.match_indices('/') {
                directories.entry(&inside[..at]).or_insert(0o755);
            }
            match file.kind {
                SelectedKind::Directory => drop(directories.insert(inside, file.mode)),
                _ => {
                    let (parent, name) = inside.rsplit_once('/').unwrap_or(("", inside));
                    plain.entry(parent).or_default().push((name, file));
                }
            }
        }
        for directory in directories.keys() {
            make(into, directory).map_err(|e| named(directory, e))?;
        }
        let shares: Vec<(&str, &[(&str, &Selected)])> =
            plain.iter().flat_map(|(parent, files)| files.chunks(SHARE).map(|share| (*parent, share))).collect();
        self.write(into, &shares)?;
        for (directory, mode) in &directories {
            let mode = Mode::from_bits_truncate(self.mode(*mode, true));
            let (uid, gid) = self.owner;
            fchownat(
                into,
                *directory,
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(gid)),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )?;
            fchmodat(into, *directory, mode, FchmodatFlags::FollowSymlink)?;
        }
        Ok(())
    }

    /// Writes files of directories that are there, on all processors.
    fn write(&self, into: &Place, shares: &[(&str, &[(&str, &Selected)])]) -> io::Result<()> {
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<io::Error>> = Mutex::new(None);
        let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            let mut buffer = vec![0; 128 << 10];
            while let Some((parent, share)) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut all = || -> io::Result<()> {
                    let directory = below(into, parent)?;
                    share
                        .iter()
                        .try_for_each(|(name, file)| self.entry(&directory, OsStr::new(name), file, &mut buffer))
                };
                if lock().is_some() {
                    return;
                }
                if let Err(error) = all() {
                    lock().get_or_insert(error);
                    return;
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(shares.len().max(1));
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        match lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Writes one file or link into an open directory, in place of a file or link that is there.
    fn entry(&self, directory: &impl AsFd, name: &OsStr, file: &Selected, buffer: &mut [u8]) -> io::Result<()> {
        if (self.stopped)() {
            return Err(io::Error::other("cancelled"));
        }
        let (uid, gid) = (Some(Uid::from_raw(self.owner.0)), Some(Gid::from_raw(self.owner.1)));
        if file.kind == SelectedKind::Link {
            let make = || symlinkat(file.content.as_str(), directory, name);
            again(directory, name, make())?.map_or_else(make, Ok)?;
            return Ok(fchownat(directory, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?);
        }
        let mut source = self.open(file)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let make = || openat(directory, name, flags, Mode::from_bits_truncate(0o600));
        let target = again(directory, name, make())?.map_or_else(make, Ok)?;
        let target = fs::File::from(target);
        let mut hash = Hash::default();
        let metadata = source.metadata()?;
        if !metadata.is_file() {
            return Err(changed(file));
        }
        copy_content(&mut source, &metadata, &target, &mut hash, buffer, self.stopped)?;
        self.same(file, hash)?;
        // The owner first: changing it clears set-user-id bits.
        fchown(&target, uid, gid)?;
        Ok(fchmod(&target, Mode::from_bits_truncate(self.mode(file.mode, false)))?)
    }

    fn mode(&self, mode: u32, directory: bool) -> u32 {
        match (&self.modes, self.copy.chmod) {
            (Some(modes), _) => modes.apply(mode & 0o7777, directory),
            (None, chmod) => chmod.unwrap_or(mode & 0o7777),
        }
    }

    /// Opens a file of the source; on the way there is no link, as when it was listed.
    fn open(&self, file: &Selected) -> io::Result<fs::File> {
        let how =
            OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).resolve(
                ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            );
        let open = openat2(&self.source, Path::new(&file.from), how).map_err(|e| match e {
            Errno::ELOOP | Errno::ENOENT | Errno::ENOTDIR => changed(file),
            other => named(&file.from, other.into()),
        })?;
        Ok(fs::File::from(open))
    }

    fn same(&self, file: &Selected, hash: Hash) -> io::Result<()> {
        if hash.hex() == file.content.trim_start_matches("sha256:") { Ok(()) } else { Err(changed(file)) }
    }
}

fn changed(file: &Selected) -> io::Error {
    io::Error::other(format!("{} changed while it was read; build again when it is at rest", file.from))
}

fn named(name: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// What was made, or `None` when something was in the way and has been removed.
fn again<T>(directory: &impl AsFd, name: &OsStr, made: nix::Result<T>) -> io::Result<Option<T>> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(Errno::EEXIST) => {
            unlinkat(directory, name, UnlinkatFlags::NoRemoveDir).map_err(|e| match e {
                Errno::EISDIR | Errno::EPERM => {
                    io::Error::other(format!("`{}` is a directory in the way of a file", name.to_string_lossy()))
                }
                other => other.into(),
            })?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a directory below one that is open, in place of a file; its parents are there.
fn make(into: &impl AsFd, path: &str) -> io::Result<()> {
    let make = || mkdirat(into, path, Mode::from_bits_truncate(0o755));
    match make() {
        Err(Errno::EEXIST) => {}
        other => return Ok(other?),
    }
    let old = fstatat(into, path, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    match old.st_mode & nix::libc::S_IFMT {
        nix::libc::S_IFDIR => Ok(()),
        nix::libc::S_IFLNK
            if fstatat(into, path, AtFlags::empty())
                .is_ok_and(|to| to.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR) =>
        {
            Err(io::Error::other("is a link in the way of a directory"))
        }
        _ => {
            unlinkat(into, path, UnlinkatFlags::NoRemoveDir)?;
            Ok(make()?)
        }
    }
}

/// Opens a directory that was made.
fn below(into: &Place, path: &str) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(into, if path.is_empty() { "." } else { path }, how)?)
}

/// Copies all that is in a file; holes stay holes.
fn copy_content(
    source: &mut fs::File,
    metadata: &fs::Metadata,
    mut target: &fs::File,
    hash: &mut Hash,
    buffer: &mut [u8],
    stopped: Stopped<'_>,
) -> io::Result<()> {
    use io::{Read, Write};
    if metadata.blocks() * 512 < metadata.len() {
        let hash = std::cell::RefCell::new(hash);
        return super::sparse::copy(
            source,
            target,
            |data| hash.borrow_mut().update(data),
            |hole| hash.borrow_mut().hole(hole),
        )
        .map(drop);
    }
    loop {
        match source.read(buffer)? {
            0 => return Ok(()),
            read => {
                hash.update(&buffer[..read]);
                target.write_all(&buffer[..read])?;
            }
        }
        if stopped() {
            return Err(io::Error::other("cancelled"));
        }
    }
}

/// SHA-256 of what passes.
pub struct Hash(aws_lc_rs::digest::Context);

impl Default for Hash {
    fn default() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }
}

impl Hash {
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// So many zeros.
    pub fn hole(&mut self, mut length: u64) {
        let zeros = [0; 64 << 10];
        while length > 0 {
            let part = length.min(zeros.len() as u64);
            self.0.update(&zeros[..part as usize]);
            length -= part;
        }
    }

    pub fn hex(self) -> String {
        HEXLOWER.encode(self.0.finish().as_ref())
    }
}

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory with files, and what a build would have chosen of it.
    fn source(files: &[&str]) -> (tempfile::TempDir, Vec<Selected>) {
        let directory = tempfile::tempdir().unwrap();
        let mut selected = Vec::new();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file).unwrap();
            let mut hash = Hash::default();
            hash.update(file.as_bytes());
            for (at, _) in file.match_indices('/') {
                let to = file[..at].to_owned();
                selected.push(Selected {
                    from: to.clone(),
                    to,
                    mode: 0o750,
                    content: String::new(),
                    kind: SelectedKind::Directory,
                });
            }
            let to = (*file).to_owned();
            selected.push(Selected {
                from: to.clone(),
                to,
                mode: 0o640,
                content: hash.hex(),
                kind: SelectedKind::File,
            });
        }
        selected.sort_by(|a, b| a.to.cmp(&b.to));
        selected.dedup_by(|a, b| a.to == b.to);
        (directory, selected)
    }

    fn run(
        sources: &[&str],
        target: &str,
        from: &(tempfile::TempDir, Vec<Selected>),
        to: &Path,
    ) -> Result<Vec<String>, String> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: owners are set by root");
            return Err("SKIPPED".into());
        }
        let copy = Copy {
            sources: sources.iter().map(|s| (*s).to_owned()).collect(),
            target: target.into(),
            ..Copy::default()
        };
        put(&copy, &from.1, from.0.path(), to, &|| false)?;
        let mut all: Vec<String> = walkdir::WalkDir::new(to)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| !entry.file_type().is_dir())
            .map(|entry| entry.path().strip_prefix(to).unwrap().display().to_string())
            .collect();
        all.sort();
        Ok(all)
    }

    #[test]
    fn files_go_where_the_reference_says() {
        let from = source(&["a.txt", "b[1].txt", "dir/c.txt", "dir/sub/d.txt"]);
        let expect = |sources: &[&str], target: &str, expected: &[&str]| {
            let to = tempfile::tempdir().unwrap();
            match run(sources, target, &from, to.path()) {
                Err(error) if error == "SKIPPED" => {}
                other => assert_eq!(other.unwrap(), expected),
            }
        };
        expect(&["/a.txt"], "/x/y", &["x/y"]);
        expect(&["/a.txt"], "/x/y/", &["x/y/a.txt"]);
        expect(&["/b\\[1].txt"], "/x/", &["x/b[1].txt"]);
        expect(&["/a.txt", "/b\\[1].txt"], "/x", &["x/a.txt", "x/b[1].txt"]);
        expect(&["/dir"], "/x", &["x/c.txt", "x/sub/d.txt"]);
        expect(&["/"], "/", &["a.txt", "b[1].txt", "dir/c.txt", "dir/sub/d.txt"]);
    }

    #[test]
    fn what_is_there_is_replaced_and_what_is_in_the_way_is_named() {
        let from = source(&["dir/c.txt", "dir/sub/d.txt"]);
        let to = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(to.path().join("x/sub")).unwrap();
        symlink(outside.path().join("file"), to.path().join("x/c.txt")).unwrap();
        fs::write(to.path().join("x/sub/d.txt"), "old and longer").unwrap();
        let Ok(_) = run(&["/dir"], "/x", &from, to.path()) else { return };
        assert_eq!(fs::read(to.path().join("x/c.txt")).unwrap(), b"dir/c.txt");
        assert!(fs::symlink_metadata(to.path().join("x/c.txt")).unwrap().is_file());
        assert_eq!(fs::read(to.path().join("x/sub/d.txt")).unwrap(), b"dir/sub/d.txt");
        assert_eq!(fs::metadata(to.path().join("x/sub")).unwrap().permissions().mode() & 0o7777, 0o750);
        assert_eq!(fs::metadata(to.path().join("x/sub/d.txt")).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);

        let to = tempfile::tempdir().unwrap();
        fs::create_dir_all(to.path().join("x/c.txt")).unwrap();
        assert!(run(&["/dir"], "/x", &from, to.path()).unwrap_err().contains("in the way of a file"));
        let to = tempfile::tempdir().unwrap();
        fs::create_dir(to.path().join("x")).unwrap();
        symlink(outside.path(), to.path().join("x/sub")).unwrap();
        assert!(run(&["/dir"], "/x", &from, to.path()).unwrap_err().contains("in the way of a directory"));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_changed_since_it_was_listed_is_refused() {
        let from = source(&["dir/c.txt", "dir/sub/d.txt"]);
        let to = tempfile::tempdir().unwrap();
        fs::write(from.0.path().join("dir/c.txt"), "dir/X.txt").unwrap();
        let Err(error) = run(&["/dir"], "/x", &from, to.path()) else { panic!() };
        assert!(error == "SKIPPED" || error.contains("changed while it was read"), "{error}");
        fs::remove_file(from.0.path().join("dir/c.txt")).unwrap();
        symlink("/etc/passwd", from.0.path().join("dir/c.txt")).unwrap();
        let to = tempfile::tempdir().unwrap();
        let Err(error) = run(&["/dir"], "/x", &from, to.path()) else { panic!() };
        assert!(error == "SKIPPED" || error.contains("changed while it was read"), "{error}");
    }
}
