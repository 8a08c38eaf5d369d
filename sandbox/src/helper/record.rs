//! What a container's directory holds: `lock` (held by its monitor as long as it lives), `container.json`, and `exit.json` once it
//! has ended. Neither arguments nor environment are among it: they may hold secrets.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Lifetime, Seccomp, container::Exit};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: String,
    pub rootfs: PathBuf,
    pub netns: Option<PathBuf>,
    pub cgroup: String,
    pub identity: Identity,
    pub cwd: String,
    pub lifetime: Lifetime,
    pub labels: BTreeMap<String, String>,
    /// Of the monitor.
    pub monitor: i32,
    /// Mount targets that were made for the container, relative to its root, outermost first.
    pub stubs: Vec<PathBuf>,
    /// `None` until it has started.
    pub started: Option<Started>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Started {
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: tells this process from a later one with the same number.
    pub ticks: u64,
    /// Milliseconds since 1970.
    pub at: i64,
}

/// As whom a program runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
    /// Bits as in `/proc/<pid>/status`.
    pub capabilities: u64,
    pub no_new_privs: bool,
    pub seccomp: Seccomp,
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whole or not at all, also when we are killed.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, serde_json::to_vec(value)?)?;
    fs::rename(beside, path)
}

impl Record {
    pub(crate) fn of(directory: &Path) -> io::Result<Option<Self>> {
        read(&directory.join("container.json"))
    }

    pub(crate) fn save(&self, directory: &Path) -> io::Result<()> {
        write(&directory.join("container.json"), self)
    }
}

pub(crate) fn exit_of(directory: &Path) -> io::Result<Option<Exit>> {
    read(&directory.join("exit.json"))
}

/// Held as long as the returned file is open. `None` when another process has it.
pub(crate) fn lock(directory: &Path) -> io::Result<Option<File>> {
    use nix::errno::Errno;
    let file = File::options().create(true).truncate(false).write(true).open(directory.join("lock"))?;
    // SAFETY: a plain system call on an open descriptor.
    if unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&file), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(Some(file));
    }
    match Errno::last() {
        Errno::EWOULDBLOCK => Ok(None),
        error => Err(error.into()),
    }
}

/// Field 22 of `/proc/<pid>/stat`.
pub(crate) fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses that may hold anything, parentheses included.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not as expected")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_exclusive_and_ends_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path()).unwrap().expect("free");
        assert!(lock(directory.path()).unwrap().is_none());
        drop(held);
        assert!(lock(directory.path()).unwrap().is_some());
    }

    #[test]
    fn our_own_start_is_known() {
        let pid = std::process::id() as i32;
        assert_eq!(start_ticks(pid).unwrap(), start_ticks(pid).unwrap());
        assert!(start_ticks(pid).unwrap() >= start_ticks(1).unwrap());
    }
}
