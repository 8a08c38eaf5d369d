//! Paths inside a root file system that is not to be trusted: resolved by the kernel as if it were `/`.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, SFlag, fstat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

/// `/etc/passwd` of a large installation; more is not read.
const LARGEST: u64 = 4 << 20;

pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn open_in(root: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    // The kernel asks for another try when something is renamed while it walks.
    for _ in 0..16 {
        match openat2(root.as_fd(), path, how) {
            Err(Errno::EAGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::EAGAIN)
}

/// A path of the root, whatever it is.
pub(super) fn open_path(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    open_in(root, path, OFlag::O_PATH)
}

/// The text of a file; empty when there is none.
pub(super) fn read_text(root: impl AsFd, path: &str) -> io::Result<String> {
    let file = match open_in(root, Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The directories of a path that are not there, outermost first, and the path itself if it is not there.
pub(super) fn missing(root: impl AsFd, path: &str) -> Vec<PathBuf> {
    let mut so_far = PathBuf::new();
    let mut found = Vec::new();
    for component in Path::new(path).components() {
        if let Component::Normal(name) = component {
            so_far.push(name);
            if !found.is_empty() || matches!(open_in(root.as_fd(), &so_far, OFlag::O_PATH), Err(Errno::ENOENT)) {
                found.push(so_far.clone());
            }
        }
    }
    found
}

/// Makes a directory and those above it.
pub(super) fn make_directory(root: impl AsFd, path: &str) -> io::Result<()> {
    let mut at = root.as_fd().try_clone_to_owned()?;
    let mut so_far = PathBuf::new();
    for component in Path::new(path).components() {
        let Component::Normal(name) = component else { continue };
        so_far.push(name);
        let next = match open_in(root.as_fd(), &so_far, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => {
                mkdirat(&at, name, Mode::from_bits_truncate(0o755))?;
                open_in(root.as_fd(), &so_far, OFlag::O_PATH | OFlag::O_DIRECTORY)?
            }
            result => result?,
        };
        at = next;
    }
    Ok(())
}

/// Removes what was made as a mount target, innermost first, if nothing came into it.
pub(super) fn remove_stubs(root: impl AsFd, stubs: &[PathBuf]) {
    for stub in stubs.iter().rev() {
        let (Some(parent), Some(name)) = (stub.parent(), stub.file_name()) else { continue };
        let Ok(parent) = open_in(root.as_fd(), &Path::new("/").join(parent), OFlag::O_PATH | OFlag::O_DIRECTORY) else {
            continue;
        };
        let Ok(entry) =
            nix::fcntl::openat(&parent, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        else {
            continue;
        };
        let Ok(stat) = fstat(&entry) else { continue };
        let kind = SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT);
        // Not empty, or gone: both are fine.
        let _ = match kind {
            SFlag::S_IFDIR => unlinkat(&parent, name, UnlinkatFlags::RemoveDir),
            SFlag::S_IFREG if stat.st_size == 0 => unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir),
            _ => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn links_do_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let inside = tempfile::tempdir().unwrap();
        symlink(outside.path(), inside.path().join("etc")).unwrap();
        symlink("../../../../../..", inside.path().join("up")).unwrap();
        let root = open_root(inside.path()).unwrap();
        assert_eq!(read_text(&root, "/etc/secret").unwrap(), "");
        // `up` is the root itself.
        make_directory(&root, "/up/made/here").unwrap();
        assert!(inside.path().join("made/here").is_dir());
        assert!(make_directory(&root, "/etc/new").is_err(), "a link to nowhere is not followed out");
        assert!(!outside.path().join("new").exists());
    }

    #[test]
    fn what_was_made_is_unmade_unless_used() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        let root = open_root(directory.path()).unwrap();
        let stubs = missing(&root, "/a/b/c");
        assert_eq!(stubs, [PathBuf::from("a/b"), PathBuf::from("a/b/c")]);
        assert!(missing(&root, "/a").is_empty());
        make_directory(&root, "/a/b").unwrap();
        fs::write(directory.path().join("a/b/c"), "").unwrap();
        remove_stubs(&root, &stubs);
        assert!(!directory.path().join("a/b").exists() && directory.path().join("a").exists());

        make_directory(&root, "/a/b").unwrap();
        fs::write(directory.path().join("a/b/c"), "kept").unwrap();
        remove_stubs(&root, &stubs);
        assert!(directory.path().join("a/b/c").exists());
    }
}
