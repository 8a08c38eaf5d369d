//! Paths inside a root file system that nobody trusts: every link is followed as the container would follow it, never out of the root.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{DirBuilderExt, chown},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};

/// Links that are followed one after the other.
const MOST_LINKS: usize = 40;

/// A root file system.
pub struct Root {
    directory: fs::File,
}

/// A directory inside a root, open, so that what happens to the path afterwards does not matter.
pub struct Place {
    file: OwnedFd,
}

impl std::os::fd::AsFd for Place {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Place {
    /// A path that leads to the open directory, for calls that want one.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Where it lies on this machine, without any link in it: what another process may open.
    pub fn real(&self) -> io::Result<PathBuf> {
        fs::read_link(self.path())
    }

    /// The path of an entry of the directory; the name is one component.
    pub fn entry(&self, name: &OsStr) -> PathBuf {
        self.path().join(name)
    }
}

impl Root {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: fs::File::open(path)? })
    }

    /// Opens what is at an absolute path, links followed inside the root.
    pub fn find(&self, path: &Path) -> io::Result<Place> {
        self.open_at(path, OFlag::O_PATH)
    }

    /// Opens a directory, links followed inside the root.
    pub fn directory(&self, path: &Path) -> io::Result<Place> {
        self.open_at(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
    }

    /// The path at which a file is written that is written to `path`: where that is a link, what it points at, whether it is there or not.
    pub fn end_of(&self, path: &Path) -> PathBuf {
        let mut path = path.to_owned();
        let Ok(root) = fs::read_link(format!("/proc/self/fd/{}", self.directory.as_raw_fd())) else { return path };
        for _ in 0..MOST_LINKS {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { break };
            let Ok(place) = self.directory(parent) else { break };
            let (Ok(link), Ok(real)) = (fs::read_link(place.entry(name)), place.real()) else { break };
            let Ok(inside) = real.strip_prefix(&root) else { break };
            let mut next = PathBuf::from("/");
            // An absolute link takes the place of the directory. Above the root there is the root.
            for component in inside.join(link).components() {
                match component {
                    Component::Normal(name) => next.push(name),
                    Component::ParentDir => drop(next.pop()),
                    _ => {}
                }
            }
            path = next;
        }
        path
    }

    /// Whether there is a directory, and no link to one.
    pub fn plain_directory(&self, path: &Path) -> bool {
        self.open_at(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).is_ok()
    }

    /// Reads a small file, or `None` when it is not there.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        use io::Read;
        let place = match self.open_at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut content = Vec::new();
        fs::File::from(place.file).take(limit).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Opens a directory and makes it, with its parents, where it is missing. What is made belongs to `owner`.
    pub fn make(&self, path: &Path, owner: (u32, u32)) -> io::Result<Place> {
        let mut walked = PathBuf::from("/");
        let mut place = self.directory(&walked)?;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            walked.push(name);
            place = match self.directory(&walked) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::DirBuilder::new().mode(0o755).create(place.entry(name))?;
                    chown(place.entry(name), Some(owner.0), Some(owner.1))?;
                    self.directory(&walked)?
                }
                other => other?,
            };
        }
        Ok(place)
    }

    fn open_at(&self, path: &Path, flags: OFlag) -> io::Result<Place> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .mode(Mode::empty())
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        Ok(Place { file: openat2(&self.directory, path, how).map_err(io::Error::from)? })
    }
}

/// The numbers of `user[:group]`, names looked up in the root's `/etc/passwd` and `/etc/group`. A user alone brings its own group
/// when it is known, else group 0, as Docker does.
pub fn owner(root: &Root, text: &str) -> Result<(u32, u32), String> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let table = |path: &str| -> Result<String, String> {
        let content =
            root.read(Path::new(path), 1 << 20).map_err(|e| format!("cannot read {path} of the image: {e}"))?;
        Ok(String::from_utf8_lossy(&content.unwrap_or_default()).into_owned())
    };
    let number = |table: &str, name: &str, column: usize| -> Option<u32> {
        let row =
            table.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|row| row.first() == Some(&name))?;
        row.get(column)?.parse().ok()
    };
    let passwd = table("/etc/passwd")?;
    let uid = user.parse().ok().or_else(|| number(&passwd, user, 2));
    let uid = if user.is_empty() { Some(0) } else { uid };
    let uid = uid.ok_or_else(|| {
        format!("there is no user `{user}` in /etc/passwd of the image: make it in a step before, or give a number")
    })?;
    let gid =
        match group {
            Some(group) => {
                let gid = group.parse().ok().or(number(&table("/etc/group")?, group, 2));
                gid.ok_or_else(|| format!(
                "there is no group `{group}` in /etc/group of the image: make it in a step before, or give a number"
            ))?
            }
            None => {
                let own = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
                let own = own.into_iter().find(|row| row.first() == Some(&user) || row.get(2) == Some(&user));
                own.and_then(|row| row.get(3)?.parse().ok()).unwrap_or(0)
            }
        };
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_written_to_a_link_is_written_to_what_it_points_at() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("r/d")).unwrap();
        for (link, to) in [
            ("r/l", "f"),
            ("r/gone", "nowhere"),
            ("r/absolute", "/r/f"),
            ("r/twice", "l"),
            ("r/up", "../../../x"),
            ("in", "r/d"),
            ("r/d/side", "../f"),
            ("r/round", "round"),
        ] {
            symlink(to, root.join(link)).unwrap();
        }
        let open = Root::open(root).unwrap();
        for (path, end) in [
            ("/r/l", "/r/f"),
            ("/r/gone", "/r/nowhere"),
            ("/r/absolute", "/r/f"),
            ("/r/twice", "/r/f"),
            ("/r/up", "/x"),
            ("/in/side", "/r/f"),
            ("/r/plain", "/r/plain"),
            ("/not/there", "/not/there"),
            ("/r/round", "/r/round"),
        ] {
            assert_eq!(open.end_of(Path::new(path)), Path::new(end), "{path}");
        }
    }

    #[test]
    fn links_never_lead_out_of_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("usr")).unwrap();
        symlink("usr", root.join("bin")).unwrap();
        symlink(outside.path(), root.join("escape")).unwrap();
        symlink("../../../../../..", root.join("up")).unwrap();
        let open = Root::open(root).unwrap();
        fs::write(open.make(Path::new("/bin/deep"), (0, 0)).unwrap().entry(OsStr::new("x")), "1").unwrap();
        assert!(root.join("usr/deep/x").exists());
        // The absolute link means a path of the root, which is missing there.
        assert!(open.directory(Path::new("/escape")).is_err());
        fs::write(open.make(Path::new("/up/etc"), (0, 0)).unwrap().entry(OsStr::new("y")), "2").unwrap();
        assert!(root.join("etc/y").exists());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn owners_are_looked_up_in_the_image() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::write(directory.path().join("etc/passwd"), "root:x:0:0::/:\nnode:x:1000:1001::/:\n").unwrap();
        fs::write(directory.path().join("etc/group"), "root:x:0:\nstaff:x:50:\n").unwrap();
        let root = Root::open(directory.path()).unwrap();
        assert_eq!(owner(&root, ""), Ok((0, 0)));
        assert_eq!(owner(&root, "node"), Ok((1000, 1001)));
        assert_eq!(owner(&root, "1000"), Ok((1000, 1001)));
        assert_eq!(owner(&root, "7:staff"), Ok((7, 50)));
        assert_eq!(owner(&root, "65532"), Ok((65532, 0)));
        assert!(owner(&root, "nobody").unwrap_err().contains("/etc/passwd"));
    }
}
