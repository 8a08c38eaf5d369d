//! A file tree without `/sys`: cgroups are the machine's, and a runtime that does not see them does not ask for them.

use std::{fs, io, os::unix::fs::symlink, path::Path};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Where the new tree is put together: it is there on every machine, and not needed any more.
const AT: &str = "/sys";

/// Everything of the old root is seen in the new one, but for `/sys`, which is empty.
pub(super) fn change() -> io::Result<()> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("tmpfs"), AT, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755,size=16m"))?;
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let (from, to) = (entry.path(), Path::new(AT).join(entry.file_name()));
        if from == Path::new(AT) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&to)?;
        } else {
            fs::File::create(&to)?;
        }
        mount(Some(&from), &to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
            .map_err(|e| io::Error::other(format!("{}: {e}", from.display())))?;
    }
    fs::create_dir_all(Path::new(AT).join("sys/fs/cgroup"))?;
    nix::unistd::chdir(AT)?;
    // The old root is put where the new one is, and is gone from there at once.
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}
