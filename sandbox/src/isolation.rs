//! How the programs of containers are kept apart from this machine: by namespaces, or only by a root directory of their own.
//!
//! The second is for containers and Pods without privileges, whose seccomp profile forbids namespaces and mounts to their root. Steps then
//! run as processes of the container that Shipway itself runs in: it is what keeps them apart from the machine, and nothing keeps them
//! apart from it.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, sync::OnceLock};

use crate::Missing;

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    #[default]
    Namespaces,
    /// A root directory of their own, and else what this process has: network, processes, no `/proc`.
    Chroot,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// Namespaces where this machine lets us have them, else a root directory where this process is root.
    #[default]
    Auto,
    Namespaces,
    Chroot,
}

static CHOSEN: OnceLock<Isolation> = OnceLock::new();

/// What this process uses.
pub fn isolation() -> Isolation {
    CHOSEN.get().copied().unwrap_or_default()
}

/// Whether there are no namespaces and no mounts.
pub fn chrooted() -> bool {
    isolation() == Isolation::Chroot
}

/// Chooses for the rest of this process; what was chosen first stays.
pub(crate) fn choose(isolation: Isolation) {
    let _ = CHOSEN.set(isolation);
}

/// One sentence each: what is less than with namespaces.
pub(crate) fn limits() -> Vec<String> {
    match isolation() {
        Isolation::Namespaces => Vec::new(),
        Isolation::Chroot => vec![
            "steps are not kept apart from this container: they get a root directory of their own, but its network and \
             processes, and no /proc (isolation: chroot)"
                .into(),
        ],
    }
}

/// Bits of `/proc/self/status`.
const NEEDED: [(u32, &str); 6] =
    [(0, "CHOWN"), (1, "DAC_OVERRIDE"), (3, "FOWNER"), (6, "SETGID"), (7, "SETUID"), (18, "SYS_CHROOT")];

/// A number of `/proc/self/status`, in base 16.
pub(crate) fn status(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix(key)?.strip_prefix(':')?.trim(), 16).ok())
}

/// What this process lacks to give programs a root directory of their own.
pub(crate) fn missing() -> Vec<Missing> {
    if !nix::unistd::geteuid().is_root() {
        return vec![Missing {
            what: "root".into(),
            why: "without namespaces only root can give steps a root directory and owners of files".into(),
            fix: "run this container as root (runAsUser: 0, docker run --user 0) with its usual capabilities".into(),
        }];
    }
    let effective = status("CapEff").unwrap_or(0);
    let lacking: Vec<&str> =
        NEEDED.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect();
    if lacking.is_empty() {
        return Vec::new();
    }
    vec![Missing {
        what: format!("the capabilities {}", lacking.join(", ")),
        why: "steps without namespaces need them of this container's root".into(),
        fix: format!("add them (capabilities: add: [{}]; docker run --cap-add)", lacking.join(", ")),
    }]
}

/// What the file system of the data directory lacks for that: names with attributes, and devices.
pub(crate) fn ground(root: &Path) -> Vec<Missing> {
    let fail = |what: &str, why: String| Missing {
        what: what.into(),
        why,
        fix: "put the data directory on a volume that has it (an emptyDir, a Docker volume; not mounted nodev)".into(),
    };
    let tried = (|| {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        tempfile::Builder::new().prefix(".check-").tempdir_in(root)
    })();
    let directory = match tried {
        Ok(directory) => directory,
        Err(error) => return vec![fail("the data directory", format!("{}: {error}", root.display()))],
    };
    let mut found = Vec::new();
    if let Err(error) = xattr::set(directory.path(), image::layer::opaque_attribute(), b"y") {
        found.push(fail("extended attributes", format!("{}: {error}", root.display())));
    }
    if let Err(error) = devices(&directory.path().join("dev")) {
        found.push(fail("device nodes", format!("/dev/null cannot be made in {}: {error}", root.display())));
    }
    found
}

/// A directory with the devices that programs expect in `/dev`.
pub(crate) fn devices(at: &Path) -> std::io::Result<()> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    fs::DirBuilder::new().mode(0o755).create(at)?;
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        let path = at.join(name);
        let mode: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))?;
        fs::set_permissions(&path, mode)?;
    }
    let shm = at.join("shm");
    fs::create_dir(&shm)?;
    fs::set_permissions(&shm, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    // Where devices cannot be used, that is seen when one is opened.
    fs::File::options().write(true).open(at.join("null")).map(drop)
}
