//! A layer tar as a directory.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    rc::Rc,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::{
        stat::{Mode, SFlag, UtimensatFlags, fchmod, futimens, makedev, mkdirat, mknodat, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat},
};
use records::Digest;
use xattr::FileExt;

use super::{
    OPAQUE, WHITEOUT,
    archive::Tar,
    beneath::{self, Root, kind_of},
    compress::Reader,
    entry::{Entry, EntryKind, shown},
};
use crate::{
    Error, Kind, Result,
    hash::{Algorithm, Hasher},
};

/// What becomes of deletions in the tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Whiteouts {
    /// They become overlayfs's: the target is one layer directory among several.
    #[default]
    Overlay,
    /// They delete: the target holds all layers before this one.
    Delete,
    /// They are files like any other: the tar is no layer.
    Plain,
}

/// How a layer is unpacked, and how much of it is accepted.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    pub whiteouts: Whiteouts,
    /// Entries, and bytes of the tar when decompressed.
    pub max_entries: u64,
    pub max_bytes: u64,
    /// Whether device nodes may be made. Character device 0/0 never.
    pub devices: bool,
    /// Whether an entry may lie behind an absolute symbolic link; the link then counts as in a container whose root the target is.
    /// Without, such an entry is refused. Links themselves may point anywhere.
    pub absolute_links: bool,
    /// Whether owners are set, which only root can do.
    pub owners: bool,
    /// What the tar must hash to when decompressed, `DigestInvalid` otherwise. `None` saves the hashing.
    pub diff_id: Option<Digest>,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            whiteouts: Whiteouts::Overlay,
            max_entries: 2_000_000,
            max_bytes: 64 << 30,
            devices: false,
            absolute_links: false,
            owners: true,
            diff_id: None,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub entries: u64,
    /// Bytes of the tar when decompressed.
    pub bytes: u64,
}

/// Unpacks a tar (plain, gzip or zstd) into the directory `target`, which must be there.
///
/// Nothing outside of `target` is read or changed, whatever the tar says: paths with `..`, links to such and entries behind links that
/// leave the root are `EntryRefused`, too many entries or bytes `TooLarge`, a damaged archive `Malformed`; each error names the entry.
/// After an error the target holds a part of the layer and is to be thrown away. Nothing is flushed to disk.
pub fn apply(reader: impl Read, target: &Path, options: &ApplyOptions) -> Result<Applied> {
    let reading = |e| Error::io("read the layer", e);
    let metered = Metered {
        inner: Reader::new(reader).map_err(reading)?,
        count: 0,
        limit: options.max_bytes,
        hasher: options.diff_id.as_ref().map(|diff_id| Hasher::new(Algorithm::of(diff_id))),
    };
    let root = Root::open(target, options.absolute_links)
        .map_err(|e| Error::io(format!("open the directory {}", target.display()), e))?;
    let mut tar = Tar::new(metered);
    let mut unpack =
        Unpack { root, options, times: BTreeMap::new(), brought: HashSet::new(), buffer: vec![0; 128 << 10] };
    let mut entries = 0;
    let mut last = Vec::new();
    let outcome = loop {
        let entry = match tar.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        entries += 1;
        if entries > options.max_entries {
            break Err(Error::new(
                Kind::TooLarge,
                format!("entry `{}` is one more than the {} that are taken", shown(&entry.path), options.max_entries),
            ));
        }
        last.clone_from(&entry.path);
        if let Err(error) = unpack.entry(&entry, &mut tar) {
            break Err(error);
        }
    };
    let mut metered = tar.into_inner();
    let outcome = outcome.and_then(|()| {
        // Some writers leave more zeros behind the end; they belong to what is hashed.
        io::copy(&mut metered, &mut io::sink()).map_err(reading).map(drop)
    });
    if metered.count > options.max_bytes {
        return Err(Error::new(
            Kind::TooLarge,
            format!("the layer has more than {} bytes; entry `{}` was the last", options.max_bytes, shown(&last)),
        ));
    }
    outcome?;
    unpack.set_times()?;
    if let (Some(expected), Some(hasher)) = (&options.diff_id, metered.hasher) {
        let found = hasher.finish();
        if found != *expected {
            return Err(Error::new(Kind::DigestInvalid, format!("the layer has diff id {found}, not {expected}")));
        }
    }
    Ok(Applied { entries, bytes: metered.count })
}

struct Unpack<'a> {
    root: Root,
    options: &'a ApplyOptions,
    /// Modification times of directories, set when nothing changes in them any more.
    times: BTreeMap<Vec<u8>, i64>,
    /// What the layer has brought so far; filled only for [`Whiteouts::Delete`].
    brought: HashSet<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Unpack<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, tar: &mut Tar<R>) -> Result<()> {
        let path = normal(&entry.path, "its path", &entry.path)?;
        let Some(split) = split(&path) else {
            // The root itself.
            return match entry.kind {
                EntryKind::Directory => self.root_directory(entry),
                _ => Err(refused(&entry.path, "is the root, which must be a directory")),
            };
        };
        let (front, name) = split;
        let parent = self.parent(front, entry)?;
        if self.options.whiteouts != Whiteouts::Plain && name.starts_with(WHITEOUT.as_bytes()) {
            return self.whiteout(entry, front, name, &parent);
        }
        self.make(entry, &path, name, &parent, tar)?;
        self.bring(&path);
        Ok(())
    }

    fn parent(&mut self, front: &[u8], entry: &Entry) -> Result<Rc<OwnedFd>> {
        self.root.ensure(front).map_err(|e| match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EXDEV) => refused(&entry.path, "lies behind a link that leaves the layer"),
            Some(Errno::ENOTDIR | Errno::EEXIST) => refused(&entry.path, "lies below something that is no directory"),
            Some(Errno::ELOOP) => refused(&entry.path, "lies behind links that lead in a circle"),
            _ => failed("make the directory of", entry, e),
        })
    }

    fn root_directory(&mut self, entry: &Entry) -> Result<()> {
        let directory = self.root.directory(b"").map_err(|e| failed("open", entry, e))?;
        self.attributes(entry, &directory)?;
        self.times.insert(Vec::new(), entry.mtime);
        Ok(())
    }

    fn make<R: Read>(
        &mut self,
        entry: &Entry,
        path: &[u8],
        name: &[u8],
        parent: &OwnedFd,
        tar: &mut Tar<R>,
    ) -> Result<()> {
        // A link to itself must not lose the file.
        let target = match &entry.kind {
            EntryKind::Hardlink(target) => {
                let target = normal(target, "its link target", &entry.path)?;
                if target == path {
                    return Err(refused(&entry.path, "is a hard link to itself"));
                }
                Some(target)
            }
            _ => None,
        };
        let mut opaque = false;
        if let Some(found) = kind_of(parent, name).map_err(|e| failed("look at", entry, e))? {
            if found.is_directory() && entry.kind == EntryKind::Directory {
                return self.directory(entry, path, name, parent, false);
            }
            // After a deletion in the same layer nothing of the lower directory may show.
            opaque = found.is_whiteout() && self.options.whiteouts == Whiteouts::Overlay;
            if found.is_directory() {
                self.forget(path);
            }
            beneath::remove(parent, name).map_err(|e| failed("replace", entry, e))?;
        }
        match &entry.kind {
            EntryKind::Directory => {
                mkdirat(parent, name, Mode::from_bits_truncate(0o700)).map_err(|e| failed("make", entry, e.into()))?;
                self.directory(entry, path, name, parent, opaque)
            }
            EntryKind::File => self.file(entry, name, parent, tar),
            EntryKind::Symlink(to) => {
                if to.contains(&0) {
                    return Err(refused(&entry.path, "has a link target with a zero byte"));
                }
                symlinkat(&to[..], parent, name).map_err(|e| failed("make", entry, e.into()))?;
                self.unopened(entry, name, parent)
            }
            EntryKind::Hardlink(_) => self.hardlink(entry, name, parent, &target.unwrap_or_default()),
            EntryKind::Fifo => self.node(entry, name, parent, SFlag::S_IFIFO, (0, 0)),
            EntryKind::Character(major, minor) => self.device(entry, name, parent, SFlag::S_IFCHR, (*major, *minor)),
            EntryKind::Block(major, minor) => self.device(entry, name, parent, SFlag::S_IFBLK, (*major, *minor)),
        }
    }

    fn directory(&mut self, entry: &Entry, path: &[u8], name: &[u8], parent: &OwnedFd, opaque: bool) -> Result<()> {
        let directory = beneath::subdirectory(parent, name).map_err(|e| failed("open", entry, e))?;
        self.attributes(entry, &directory)?;
        if opaque {
            set_opaque(&directory).map_err(|e| failed("mark", entry, e))?;
        }
        self.times.insert(path.to_vec(), entry.mtime);
        Ok(())
    }

    fn file<R: Read>(&mut self, entry: &Entry, name: &[u8], parent: &OwnedFd, tar: &mut Tar<R>) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(parent, name, flags, Mode::from_bits_truncate(0o600));
        let mut file: File = opened.map_err(|e| failed("make", entry, e.into()))?.into();
        loop {
            match tar.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => file.write_all(&self.buffer[..read]).map_err(|e| failed("write", entry, e))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let why = format!("the layer cannot be read within `{}`: {e}", shown(&entry.path));
                    return Err(Error::new(Kind::Malformed, why).caused(e));
                }
            }
        }
        self.attributes(entry, &file)?;
        let time = TimeSpec::new(entry.mtime, 0);
        futimens(&file, &time, &time).map_err(|e| failed("date", entry, e.into()))
    }

    fn hardlink(&mut self, entry: &Entry, name: &[u8], parent: &OwnedFd, target: &[u8]) -> Result<()> {
        let missing =
            || refused(&entry.path, &format!("is a hard link to `{}`, which is not in the layer", shown(target)));
        let (front, last) = split(target).ok_or_else(missing)?;
        let directory = self.root.existing(front).map_err(|e| match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EXDEV) => refused(&entry.path, "is a hard link through a link that leaves the layer"),
            _ => missing(),
        })?;
        match kind_of(&directory, last).map_err(|e| failed("look at the target of", entry, e))? {
            None => return Err(missing()),
            Some(found) if found.is_whiteout() => return Err(missing()),
            Some(found) if found.is_directory() => {
                return Err(refused(&entry.path, "is a hard link to a directory"));
            }
            Some(_) => {}
        }
        linkat(&directory, last, parent, name, AtFlags::empty()).map_err(|e| failed("link", entry, e.into()))
    }

    fn device(&mut self, entry: &Entry, name: &[u8], parent: &OwnedFd, kind: SFlag, number: (u32, u32)) -> Result<()> {
        if !self.options.devices {
            return Err(refused(&entry.path, "is a device node, which is not allowed here"));
        }
        if number == (0, 0) {
            return Err(refused(&entry.path, "is device 0/0, which stands for a deletion on overlayfs"));
        }
        self.node(entry, name, parent, kind, number)
    }

    fn node(
        &mut self,
        entry: &Entry,
        name: &[u8],
        parent: &OwnedFd,
        kind: SFlag,
        (major, minor): (u32, u32),
    ) -> Result<()> {
        let device = makedev(u64::from(major), u64::from(minor));
        mknodat(parent, name, kind, Mode::from_bits_truncate(0o600), device)
            .map_err(|e| failed("make", entry, e.into()))?;
        self.unopened(entry, name, parent)?;
        let mode = Mode::from_bits_truncate(entry.mode);
        // What was just made is no link, so nothing is followed.
        nix::sys::stat::fchmodat(parent, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
            .map_err(|e| failed("set the mode of", entry, e.into()))
    }

    /// Owner and time of what cannot be opened.
    fn unopened(&self, entry: &Entry, name: &[u8], parent: &OwnedFd) -> Result<()> {
        if self.options.owners {
            let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|e| failed("set the owner of", entry, e.into()))?;
        }
        let time = TimeSpec::new(entry.mtime, 0);
        utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(|e| failed("date", entry, e.into()))
    }

    /// Owner, mode and extended attributes, in the order in which none undoes another.
    fn attributes(&self, entry: &Entry, file: &File) -> Result<()> {
        if self.options.owners {
            fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .map_err(|e| failed("set the owner of", entry, e.into()))?;
        }
        fchmod(file, Mode::from_bits_truncate(entry.mode)).map_err(|e| failed("set the mode of", entry, e.into()))?;
        for (name, value) in &entry.xattrs {
            if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
                return Err(refused(&entry.path, "sets an attribute that steers overlayfs"));
            }
            let user = name.starts_with(b"user.");
            if name != b"security.capability" && !user {
                continue;
            }
            match file.set_xattr(std::ffi::OsStr::from_bytes(name), value) {
                Err(e) if user && e.raw_os_error() == Some(nix::libc::ENOTSUP) => {}
                other => other.map_err(|e| failed("set the attributes of", entry, e))?,
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, entry: &Entry, front: &[u8], name: &[u8], parent: &OwnedFd) -> Result<()> {
        let overlay = self.options.whiteouts == Whiteouts::Overlay;
        if name == OPAQUE.as_bytes() {
            let directory = self.root.directory(front).map_err(|e| failed("open the directory of", entry, e))?;
            if overlay {
                return set_opaque(&directory).map_err(|e| failed("mark the directory of", entry, e));
            }
            self.root.forget();
            return self.purge(&directory, front).map_err(|e| failed("delete what is hidden by", entry, e));
        }
        // Bookkeeping of aufs.
        if name.starts_with(b".wh..wh.") {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(&entry.path, "stands for the deletion of nothing"));
        }
        let found = kind_of(parent, hidden).map_err(|e| failed("look at", entry, e))?;
        match (overlay, found) {
            // Something of this layer stands there: that hides what is below, a directory if it is made opaque.
            (true, Some(found)) if found.is_directory() => {
                let directory = beneath::subdirectory(parent, hidden).map_err(|e| failed("open", entry, e))?;
                set_opaque(&directory).map_err(|e| failed("mark", entry, e))
            }
            (true, Some(_)) => Ok(()),
            (true, None) => super::make_whiteout(parent, std::ffi::OsStr::from_bytes(hidden))
                .map_err(|e| failed("mark what is deleted by", entry, e)),
            (false, Some(_)) if !self.brought(&join(front, hidden)) => {
                self.root.forget();
                beneath::remove(parent, hidden).map_err(|e| failed("delete what is hidden by", entry, e))
            }
            (false, _) => Ok(()),
        }
    }

    /// Deletes what lower layers put into a directory; what this layer brought stays.
    fn purge(&self, directory: &File, path: &[u8]) -> io::Result<()> {
        for name in beneath::names(directory)? {
            let inner = join(path, &name);
            if !self.brought(&inner) {
                beneath::remove(directory, &name)?;
            } else if kind_of(directory, &name)?.is_some_and(|found| found.is_directory()) {
                self.purge(&beneath::subdirectory(directory, &name)?, &inner)?;
            }
        }
        Ok(())
    }

    fn brought(&self, path: &[u8]) -> bool {
        self.brought.contains(path)
    }

    /// Remembers an entry and the directories that it lies in, where deletions need to know.
    fn bring(&mut self, path: &[u8]) {
        if self.options.whiteouts != Whiteouts::Delete {
            return;
        }
        let mut front = path;
        while self.brought.insert(front.to_vec()) {
            match split(front) {
                Some((above, _)) => front = above,
                None => break,
            }
        }
    }

    /// Forgets what was known of a directory that goes away.
    fn forget(&mut self, path: &[u8]) {
        self.root.forget();
        let below = join(path, b"");
        self.times.retain(|known, _| known != path && !known.starts_with(&below));
    }

    fn set_times(&self) -> Result<()> {
        // Deepest first is not needed: setting a time in a directory does not change the directory's own.
        for (path, mtime) in &self.times {
            let time = TimeSpec::new(*mtime, 0);
            let set = self.root.directory(path).and_then(|directory| Ok(futimens(&directory, &time, &time)?));
            match set {
                Ok(()) => {}
                Err(e) if matches!(e.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENOTDIR)) => {}
                Err(e) => return Err(Error::io(format!("date directory `{}`", shown(path)), e)),
            }
        }
        Ok(())
    }
}

fn set_opaque(directory: &File) -> io::Result<()> {
    directory.set_xattr(super::opaque_attribute(), b"y")
}

/// Directory and last part of a normal path; `None` for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    })
}

fn join(front: &[u8], name: &[u8]) -> Vec<u8> {
    if front.is_empty() { name.to_vec() } else { [front, b"/", name].concat() }
}

/// A path without empty parts, `.` and a leading slash. What has `..` is refused, whether it would leave the root or not.
fn normal(path: &[u8], what: &str, entry: &[u8]) -> Result<Vec<u8>> {
    if path.len() > 4096 || path.contains(&0) {
        return Err(refused(entry, &format!("is longer than 4096 bytes or has a zero byte in {what}")));
    }
    if what != "its path" && path.starts_with(b"/") {
        return Err(refused(entry, &format!("has an absolute path `{}` as {what}", shown(path))));
    }
    let mut out = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b"..".as_slice() {
            return Err(refused(entry, &format!("has `..` in {what} and would leave the layer")));
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    Ok(out)
}

fn refused(path: &[u8], why: &str) -> Error {
    Error::new(Kind::EntryRefused, format!("entry `{}` of the layer is refused: it {why}", shown(path)))
}

fn failed(what: &str, entry: &Entry, error: io::Error) -> Error {
    Error::io(format!("{what} entry `{}` of the layer", shown(&entry.path)), error)
}

/// Counts, bounds and hashes what is read.
struct Metered<R> {
    inner: R,
    count: u64,
    limit: u64,
    hasher: Option<Hasher>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        if self.count > self.limit {
            return Err(io::Error::other("the layer is too large"));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}
