//! What this machine lacks, said before anything is tried.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{cgroup::Hierarchies, mounts};

/// Something that containers need and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub what: String,
    pub why: String,
    /// What to do about it.
    pub fix: String,
}

fn missing(what: &str, why: impl Into<String>, fix: &str) -> Missing {
    Missing { what: what.into(), why: why.into(), fix: fix.into() }
}

/// Tries what containers below `root` need: privileges, overlayfs on this file system, cgroups, network namespaces and nftables.
/// Empty when all is there. Blocks for some milliseconds; leaves nothing behind. With `network` false the network is not tried.
pub fn check(root: &Path, network: bool) -> Vec<Missing> {
    let mut found = essentials(root);
    controllers(&mut found);
    if network {
        crate::network::check(&mut found);
    }
    found
}

/// What no container can do without.
pub(crate) fn essentials(root: &Path) -> Vec<Missing> {
    if !nix::unistd::geteuid().is_root() {
        let fix = "start it as root, or use a command that needs none, such as shipway build";
        return vec![missing("root privileges", "containers need mounts, namespaces and cgroups", fix)];
    }
    let mut found = Vec::new();
    kernel(&mut found);
    if crate::isolation::chrooted() {
        found.extend(crate::isolation::missing());
        found.extend(crate::isolation::ground(root));
        return found;
    }
    capabilities(&mut found);
    overlay(root, &mut found);
    cgroups(&mut found);
    found
}

/// `mount_setattr` came with Linux 5.12, everything else that is used here before.
fn kernel(found: &mut Vec<Missing>) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.trim().parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(u32::MAX), numbers.next().unwrap_or(u32::MAX));
    if version < (5, 12) {
        found.push(missing("Linux 5.12", format!("this is Linux {}", release.trim()), "use a newer kernel"));
    }
}

fn capabilities(found: &mut Vec<Missing>) {
    const NEEDED: [(u32, &str); 9] = [
        (0, "CAP_CHOWN"),
        (1, "CAP_DAC_OVERRIDE"),
        (5, "CAP_KILL"),
        (6, "CAP_SETGID"),
        (7, "CAP_SETUID"),
        (8, "CAP_SETPCAP"),
        (12, "CAP_NET_ADMIN"),
        (18, "CAP_SYS_CHROOT"),
        (21, "CAP_SYS_ADMIN"),
    ];
    let effective = crate::isolation::status("CapEff").unwrap_or(u64::MAX);
    for (bit, name) in NEEDED {
        if effective & (1 << bit) == 0 {
            let fix = "give the process all capabilities (in a container: run it privileged)";
            found.push(missing(name, "the process is root without this capability", fix));
        }
    }
}

fn overlay(root: &Path, found: &mut Vec<Missing>) {
    let tried = (|| {
        fs::create_dir_all(root)?;
        let directory = tempfile::Builder::new().prefix(".check-").tempdir_in(root)?;
        let at = |name: &str| directory.path().join(name);
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(at(name))?;
        }
        let base = fs::File::open(directory.path())?;
        let (upper, work, target) = (at("upper"), at("work"), at("merged"));
        let lower = [at("lower")];
        let overlay = mounts::Overlay { lower: &lower, upper: Some((&upper, &work)), target: &target };
        overlay.mount(std::os::fd::AsFd::as_fd(&base))?;
        mounts::unmount(&target)
    })();
    if let Err(error) = tried {
        let why = format!("an overlay could not be mounted in {}: {error}", root.display());
        let fix = match crate::rootless::in_user_namespace() {
            true => {
                "put the data directory on ext4, xfs, btrfs or tmpfs (in a container: on a volume), with Linux 5.11 or newer"
            }
            false => {
                "put the data directory on ext4, xfs or btrfs (not on another overlay), with a kernel that has overlayfs"
            }
        };
        found.push(missing("overlayfs", why, fix));
    }
}

fn cgroups(found: &mut Vec<Missing>) {
    let hierarchies = match Hierarchies::find() {
        Ok(hierarchies) => hierarchies,
        Err(error) => {
            found.push(missing(
                "/proc",
                format!("/proc/self/mountinfo cannot be read: {error}"),
                "mount proc on /proc",
            ));
            return;
        }
    };
    static CHECKS: AtomicU32 = AtomicU32::new(0);
    let group = format!("shipway-check-{}-{}", std::process::id(), CHECKS.fetch_add(1, Ordering::Relaxed));
    for directory in hierarchies.directories(&group) {
        directory.parent().into_iter().for_each(remove_old_checks);
        match fs::create_dir(&directory).and_then(|()| fs::remove_dir(&directory)) {
            Ok(()) => {}
            // Another check took it for one that was left behind.
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && directory.parent().is_some_and(|p| p.exists()) => {}
            Err(error) => {
                let why = format!("{} cannot be made: {error}", directory.display());
                found.push(missing("write access to cgroups", why, "mount the cgroup file system writable"));
                return;
            }
        }
    }
}

/// Removes the groups of checks that were killed in between; one that holds a process cannot be removed.
fn remove_old_checks(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix("shipway-check-"));
        let process = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Without them a container runs, but one that has limits cannot be started.
fn controllers(found: &mut Vec<Missing>) {
    let Ok(hierarchies) = Hierarchies::find() else { return };
    for controller in ["memory", "cpu", "pids"] {
        if !hierarchies.has(controller) {
            let why = "no cgroup hierarchy offers it, so limits could not be kept";
            found.push(missing(&format!("cgroup controller `{controller}`"), why, "mount cgroup2 on /sys/fs/cgroup"));
        }
    }
}
