//! A directory that nothing leaves: every path is resolved by the kernel (`openat2`) beneath it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
    rc::Rc,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};
use xattr::FileExt;

/// How deep a removed tree may be nested.
const MAX_DEPTH: usize = 4096;

/// The root that paths are resolved beneath.
pub struct Root {
    directory: OwnedFd,
    resolve: ResolveFlag,
    /// The directory that the last path was in; most entries lie beside the one before them.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Root {
    /// With `absolute_links`, symbolic links on the way count as in a container whose root this is; without, an absolute link or one
    /// that climbs above the root is an error (`EXDEV`).
    pub fn open(path: &Path, absolute_links: bool) -> io::Result<Self> {
        let directory = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let inside = if absolute_links { ResolveFlag::RESOLVE_IN_ROOT } else { ResolveFlag::RESOLVE_BENEATH };
        Ok(Self { directory, resolve: inside | ResolveFlag::RESOLVE_NO_MAGICLINKS, last: None })
    }

    fn resolve(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(self.resolve);
        let path = if path.is_empty() { b"." } else { path };
        for _ in 0..100 {
            match openat2(&self.directory, path, how) {
                // Something was renamed meanwhile, perhaps elsewhere.
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// A directory for reading and changing it.
    pub fn directory(&self, path: &[u8]) -> io::Result<File> {
        Ok(self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?.into())
    }

    /// The directory `path`. What is missing of it is made, as root's with mode 0755.
    pub fn ensure(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(directory.clone());
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let directory = match self.resolve(path, flags) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => self.make(path)?,
            other => other?,
        };
        let directory = Rc::new(directory);
        self.last = Some((path.to_vec(), directory.clone()));
        Ok(directory)
    }

    fn make(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let mut parent = self.resolve(b"", flags)?;
        let mut end = 0;
        for part in path.split(|byte| *byte == b'/') {
            let start = if end == 0 { 0 } else { end + 1 };
            end = start + part.len();
            parent = match self.resolve(&path[..end], flags) {
                Ok(found) => found,
                Err(error @ (Errno::ENOENT | Errno::ENOTDIR)) => {
                    let deleted = match kind_of(&parent, part)? {
                        None => false,
                        Some(found) if found.is_whiteout() => true,
                        Some(_) => return Err(error.into()),
                    };
                    if deleted {
                        unlinkat(&parent, part, UnlinkatFlags::NoRemoveDir)?;
                    }
                    mkdirat(&parent, part, Mode::from_bits_truncate(0o755))?;
                    // The process's umask has no say in what a layer looks like.
                    let new = subdirectory(&parent, part)?;
                    fchmod(&new, Mode::from_bits_truncate(0o755))?;
                    if deleted {
                        // A new directory begins where the lower layers' one was deleted.
                        new.set_xattr(super::opaque_attribute(), b"y")?;
                    }
                    self.resolve(&path[..end], flags)?
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(parent)
    }

    /// The directory `path`, which must be there.
    pub fn existing(&self, path: &[u8]) -> io::Result<OwnedFd> {
        Ok(self.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?)
    }

    /// To be called when a directory was removed or became something else.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

/// What stands at a name.
pub struct Found {
    stat: FileStat,
    /// An empty file that stands for a deletion.
    marked: bool,
}

impl Found {
    fn format(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode & SFlag::S_IFMT.bits())
    }

    pub fn is_directory(&self) -> bool {
        self.format() == SFlag::S_IFDIR
    }

    pub fn is_whiteout(&self) -> bool {
        self.marked || (self.format() == SFlag::S_IFCHR && self.stat.st_rdev == 0)
    }
}

/// What stands at `name` in `directory`, links not followed.
pub fn kind_of(directory: impl AsFd, name: &[u8]) -> io::Result<Option<Found>> {
    match fstatat(directory.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => {
            let mut found = Found { stat, marked: false };
            if found.format() == SFlag::S_IFREG && stat.st_size == 0 {
                let at = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
                let file = Path::new(&at).join(std::ffi::OsStr::from_bytes(name));
                found.marked = matches!(xattr::get(file, super::USER_WHITEOUT_ATTRIBUTE), Ok(Some(_)));
            }
            Ok(Some(found))
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a subdirectory itself, not what a link of that name points to.
pub fn subdirectory(directory: impl AsFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory.as_fd(), name, flags, Mode::empty())?.into())
}

/// Removes whatever stands at `name` in `directory`, with all that is in it.
pub fn remove(directory: impl AsFd, name: &[u8]) -> io::Result<()> {
    remove_nested(directory.as_fd(), name, 0)
}

fn remove_nested(directory: std::os::fd::BorrowedFd<'_>, name: &[u8], depth: usize) -> io::Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    if depth > MAX_DEPTH {
        return Err(Errno::ELOOP.into());
    }
    let inner = subdirectory(directory, name)?;
    for child in names(&inner)? {
        remove_nested(inner.as_fd(), &child, depth + 1)?;
    }
    unlinkat(directory, name, UnlinkatFlags::RemoveDir)?;
    Ok(())
}

/// The names in a directory.
pub fn names(directory: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut stream = nix::dir::Dir::from_fd(directory.try_clone()?.into())?;
    let mut found = Vec::new();
    for entry in stream.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            found.push(name);
        }
    }
    Ok(found)
}
