//! Layers as one real directory, for where nothing can be mounted.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink},
    },
    path::{Path, PathBuf},
};

use image::layer::{is_whiteout, opaque_attribute};
use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat},
        time::TimeSpec,
    },
};

/// How files come into the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// They may be changed there.
    Copy,
    /// They are only read there: each is a further name of the layer's own.
    Link,
}

/// What a file was when the tree was made. The kernel changes the time with whatever is done to it, and nobody can set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub inode: u64,
    /// The number of what was removed is soon given to another; its time of birth, where the file system keeps one, is not.
    pub born: Option<std::time::SystemTime>,
    pub changed: (i64, i64),
    pub directory: bool,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { inode: metadata.ino(), born: metadata.created().ok(), changed, directory: metadata.is_dir() }
    }

    /// Whether both are of one file, whatever was done to it.
    pub(super) fn same(&self, other: &Self) -> bool {
        (self.inode, self.born, self.directory) == (other.inode, other.born, other.directory)
    }
}

/// A tree as it was made, so that what is changed in it can be told.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// By the path below the root; that of the root is empty.
    pub stamps: HashMap<PathBuf, Stamp>,
    pub names: HashMap<PathBuf, Vec<OsString>>,
    /// Files with several names, and where each came from: the time of one changes with the names of another.
    pub several: HashMap<PathBuf, PathBuf>,
}

/// What stands at a name in several layers.
enum Layered {
    Gone,
    File(PathBuf, Metadata),
    /// The topmost first; whether lower layers add to it.
    Directory(Vec<PathBuf>, Metadata, bool),
}

/// Puts layers, the topmost first, into the empty directory `root`.
pub(super) fn make(layers: &[PathBuf], root: &Path, how: How) -> io::Result<Tree> {
    let mut making = Making { how, tree: Tree::default(), known: HashMap::new() };
    making.directory(layers, root, Path::new(""))?;
    if let Some(top) = layers.first() {
        attributes(top, &fs::symlink_metadata(top)?, root)?;
    }
    if how == How::Copy {
        making.stamp(root, Path::new(""))?;
        settle(root, &making.tree)?;
    }
    Ok(making.tree)
}

struct Making {
    how: How,
    tree: Tree,
    /// Files with several names in a layer, and the first of them here.
    known: HashMap<(u64, u64), PathBuf>,
}

impl Making {
    fn directory(&mut self, layers: &[PathBuf], target: &Path, path: &Path) -> io::Result<()> {
        let mut all: BTreeMap<OsString, Layered> = BTreeMap::new();
        for layer in layers {
            for entry in fs::read_dir(layer)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(all.get(&name), Some(known) if !matches!(known, Layered::Directory(_, _, true))) {
                    continue;
                }
                let file = entry.path();
                let metadata = fs::symlink_metadata(&file)?;
                let found = if is_whiteout(&file, &metadata) {
                    Layered::Gone
                } else if metadata.is_dir() {
                    let open = !matches!(xattr::get(&file, opaque_attribute()), Ok(Some(value)) if value == b"y");
                    Layered::Directory(vec![file], metadata, open)
                } else {
                    Layered::File(file, metadata)
                };
                match (all.get_mut(&name), found) {
                    (Some(Layered::Directory(above, _, open)), Layered::Directory(below, _, more)) => {
                        above.extend(below);
                        *open = more;
                    }
                    (Some(Layered::Directory(_, _, open)), _) => *open = false,
                    (_, found) => drop(all.insert(name, found)),
                }
            }
        }
        for (name, found) in all {
            let (at, inner) = (target.join(&name), path.join(&name));
            match found {
                Layered::Gone => {}
                Layered::File(file, metadata) => self.file(&file, &metadata, &at, &inner)?,
                Layered::Directory(layers, metadata, _) => {
                    fs::create_dir(&at)?;
                    self.directory(&layers, &at, &inner)?;
                    if let Some(top) = layers.first() {
                        attributes(top, &metadata, &at)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &Path, metadata: &Metadata, at: &Path, path: &Path) -> io::Result<()> {
        if metadata.file_type().is_socket() {
            return Ok(());
        }
        if self.how == How::Link {
            match fs::hard_link(file, at) {
                // A file has so many names and no more.
                Err(error) if error.raw_os_error() == Some(libc::EMLINK) => {}
                linked => return linked,
            }
        }
        if metadata.nlink() > 1 {
            self.tree.several.insert(path.to_owned(), file.to_owned());
            if let Some(first) = self.known.get(&(metadata.dev(), metadata.ino())) {
                return fs::hard_link(first, at);
            }
            self.known.insert((metadata.dev(), metadata.ino()), at.to_owned());
        }
        copy(file, metadata, at)
    }

    fn stamp(&mut self, at: &Path, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(at)?;
        if metadata.is_dir() {
            let mut names = Vec::new();
            for entry in fs::read_dir(at)? {
                let name = entry?.file_name();
                self.stamp(&at.join(&name), &path.join(&name))?;
                names.push(name);
            }
            self.tree.names.insert(path.to_owned(), names);
        }
        self.tree.stamps.insert(path.to_owned(), Stamp::of(&metadata));
        Ok(())
    }
}

/// One file, link or device, with all that it has.
fn copy(file: &Path, metadata: &Metadata, at: &Path) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(file)?, at)?;
        lchown(at, Some(metadata.uid()), Some(metadata.gid()))?;
        return date(metadata, at);
    }
    if kind.is_file() {
        // The kernel copies, and shares the blocks where the file system can.
        fs::copy(file, at)?;
    } else {
        let node = match () {
            () if kind.is_fifo() => SFlag::S_IFIFO,
            () if kind.is_block_device() => SFlag::S_IFBLK,
            () => SFlag::S_IFCHR,
        };
        mknod(at, node, Mode::from_bits_truncate(0o600), metadata.rdev())?;
    }
    attributes(file, metadata, at)
}

/// Owner, mode, extended attributes and time, in the order in which none undoes another.
pub(super) fn attributes(from: &Path, metadata: &Metadata, at: &Path) -> io::Result<()> {
    lchown(at, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(at, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    if metadata.is_file() || metadata.is_dir() {
        for name in names(from)? {
            if let Some(value) = xattr::get(from, &name)? {
                xattr::set(at, &name, &value)?;
            }
        }
    }
    date(metadata, at)
}

/// The extended attributes that belong to a file, and not to overlayfs.
fn names(file: &Path) -> io::Result<Vec<OsString>> {
    let wanted = |name: &OsStr| {
        let name = name.as_bytes();
        name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
    };
    match xattr::list(file) {
        Ok(names) => Ok(names.filter(|name| wanted(name)).collect()),
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn date(metadata: &Metadata, at: &Path) -> io::Result<()> {
    let time = TimeSpec::new(metadata.mtime(), metadata.mtime_nsec());
    Ok(utimensat(AT_FDCWD, at, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// Waits until the clock that the kernel dates changes with has moved on, so that no change from now on can carry an old time.
fn settle(root: &Path, tree: &Tree) -> io::Result<()> {
    const TRIES: u32 = 1000;
    let newest = tree.stamps.values().map(|stamp| stamp.changed).max().unwrap_or_default();
    let probe = root.with_extension("clock");
    for _ in 0..TRIES {
        fs::write(&probe, b"")?;
        let now = Stamp::of(&fs::symlink_metadata(&probe)?).changed;
        fs::remove_file(&probe)?;
        if now > newest {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(())
}
