//! The kernel's mount calls: the new API where a path or an option list would not fit the old one.

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags};

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NODEV: u64 = 4;
const OPEN_TREE_CLONE: u32 = 1;

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What an overlay is mounted from. Lower directories: the topmost first.
pub(crate) struct Overlay<'a> {
    pub lower: &'a [PathBuf],
    pub upper: Option<(&'a Path, &'a Path)>,
    pub target: &'a Path,
}

impl Overlay<'_> {
    /// Mounts it. Nothing written through it is synced by the kernel (`volatile`): upper directories are either thrown away, or
    /// kept and synced by us in the background.
    pub(crate) fn mount(&self, base: BorrowedFd<'_>) -> io::Result<()> {
        match self.with_new_api() {
            // Before Linux 6.8 there is no `lowerdir+`, before 5.10 no `volatile`.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)) => {
                self.with_old_api(base, true).or_else(|_| self.with_old_api(base, false))
            }
            result => result,
        }
    }

    fn with_new_api(&self) -> io::Result<()> {
        // SAFETY: plain system calls with NUL-terminated strings that live until they return.
        let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC) })?;
        let set = |key: &CStr, value: &Path| -> io::Result<()> {
            let value = c_string(value)?;
            // SAFETY: as above.
            done(unsafe {
                libc::syscall(
                    libc::SYS_fsconfig,
                    context.as_raw_fd(),
                    FSCONFIG_SET_STRING,
                    key.as_ptr(),
                    value.as_ptr(),
                    0,
                )
            })
        };
        set(c"source", Path::new("overlay"))?;
        for lower in self.lower {
            set(c"lowerdir+", lower)?;
        }
        if let Some((upper, work)) = self.upper {
            set(c"upperdir", upper)?;
            set(c"workdir", work)?;
            // SAFETY: as above; a flag takes no value.
            done(unsafe {
                libc::syscall(
                    libc::SYS_fsconfig,
                    context.as_raw_fd(),
                    FSCONFIG_SET_FLAG,
                    c"volatile".as_ptr(),
                    std::ptr::null::<libc::c_char>(),
                    0,
                )
            })?;
        }
        if crate::rootless::in_user_namespace() {
            // What is deleted and hidden is marked where a user may.
            // SAFETY: as above; a flag takes no value.
            done(unsafe {
                libc::syscall(
                    libc::SYS_fsconfig,
                    context.as_raw_fd(),
                    FSCONFIG_SET_FLAG,
                    c"userxattr".as_ptr(),
                    std::ptr::null::<libc::c_char>(),
                    0,
                )
            })?;
        }
        // With these off an upper directory is a plain layer: whole files, whiteouts and opaque marks only. `userxattr` implies the first
        // two, and tolerates neither by name.
        let confined = crate::rootless::in_user_namespace();
        for key in [c"redirect_dir", c"metacopy", c"index"].into_iter().skip(if confined { 2 } else { 0 }) {
            set(key, Path::new("off"))?;
        }
        // SAFETY: as above.
        done(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                FSCONFIG_CMD_CREATE,
                std::ptr::null::<libc::c_char>(),
                std::ptr::null::<libc::c_char>(),
                0,
            )
        })?;
        let attributes = MOUNT_ATTR_NODEV | if self.upper.is_none() { MOUNT_ATTR_RDONLY } else { 0 };
        // SAFETY: as above.
        let mount = descriptor(unsafe {
            libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes as libc::c_uint)
        })?;
        let target = c_string(self.target)?;
        // SAFETY: as above.
        done(unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                mount.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                target.as_ptr(),
                MOVE_MOUNT_F_EMPTY_PATH,
            )
        })
    }

    /// All options must fit into one page: lower directories below `base` are named by its descriptor.
    fn with_old_api(&self, base: BorrowedFd<'_>, volatile: bool) -> io::Result<()> {
        let root = fs::read_link(format!("/proc/self/fd/{}", base.as_raw_fd()))?;
        let short = |path: &Path| match path.strip_prefix(&root) {
            Ok(rest) => format!("/proc/self/fd/{}/{}", base.as_raw_fd(), rest.display()),
            Err(_) => path.display().to_string(),
        };
        let plain = match crate::rootless::in_user_namespace() {
            true => "userxattr,index=off",
            false => "redirect_dir=off,metacopy=off,index=off",
        };
        let mut options =
            format!("{plain},lowerdir={}", self.lower.iter().map(|l| short(l)).collect::<Vec<_>>().join(":"));
        let mut flags = MsFlags::MS_NODEV;
        match self.upper {
            Some((upper, work)) => {
                options += &format!(",upperdir={},workdir={}", short(upper), short(work));
                if volatile {
                    options += ",volatile";
                }
            }
            None => flags |= MsFlags::MS_RDONLY,
        }
        if options.len() >= 4096 {
            return Err(io::Error::new(
                io::ErrorKind::ArgumentListTooLong,
                format!(
                    "{} layers are more than this kernel can mount at once; Linux 6.8 or newer can",
                    self.lower.len()
                ),
            ));
        }
        nix::mount::mount(Some("overlay"), self.target, Some("overlay"), flags, Some(options.as_str()))?;
        Ok(())
    }
}

pub(crate) fn bind(source: &Path, target: &Path, readonly: bool) -> io::Result<()> {
    nix::mount::mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NODEV;
    if crate::rootless::in_user_namespace() {
        flags |= locked(target)?;
    }
    if readonly {
        flags |= MsFlags::MS_RDONLY;
    }
    nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(|error| {
        let _ = unmount(target);
        error.into()
    })
}

/// What a mount has that in a user namespace nobody may take from it.
fn locked(target: &Path) -> io::Result<MsFlags> {
    use nix::sys::statvfs::{FsFlags, statvfs};
    let has = statvfs(target)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    Ok(pairs.into_iter().filter(|(flag, _)| has.contains(*flag)).fold(MsFlags::empty(), |all, (_, flag)| all | flag))
}

/// Binds a file such as `/proc/<…>/ns/net`, which takes no remount.
pub(crate) fn bind_file(source: &Path, target: &Path) -> io::Result<()> {
    Ok(nix::mount::mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Unmounts lazily: what still holds it open keeps it until it lets go. Not mounted is fine.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    match nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A read-only clone of the mount of one file, attached nowhere. What is executed from it cannot be written through
/// `/proc/<pid>/exe`, whoever holds that link.
pub(crate) fn readonly_clone(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let name = c_string(path)?;
    // SAFETY: plain system calls with arguments that live until they return.
    let tree = descriptor(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, name.as_ptr(), OPEN_TREE_CLONE | libc::O_CLOEXEC as u32)
    })?;
    let attr = MountAttr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: as above; the size is that of the structure.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attr as *const MountAttr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(tree)
}

/// The mount points below a directory, the deepest and latest first, as `/proc/self/mountinfo` tells them.
pub(crate) fn below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = text
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(unescape)
        .filter(|point| point.starts_with(directory))
        .collect();
    found.reverse();
    Ok(found)
}

/// `\040` and its like stand for bytes that would break the line.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\' && tail.len() >= 3)
            .then(|| std::str::from_utf8(&tail[..3]).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok()))
            .flatten();
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_mountinfo_are_undone() {
        assert_eq!(unescape(br"/a\040b\134c"), PathBuf::from(r"/a b\c"));
        assert_eq!(unescape(br"/a\04"), PathBuf::from(r"/a\04"));
    }

    #[test]
    fn the_root_is_among_the_mounts() {
        assert!(below(Path::new("/")).unwrap().contains(&PathBuf::from("/")));
        assert!(below(Path::new("/nowhere-at-all")).unwrap().is_empty());
    }
}
