//! What a container, or a program in it, is made of.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{Error, NetNs, Result};

/// Docker's default set less `MKNOD`: cgroup v2 hosts restrict no devices without an eBPF program, and hardly any image needs it.
pub const DEFAULT_CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// A container to start. [`ContainerSpec::new`] gives the defaults; set what differs.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Unique in this sandbox: 1 to 128 of `a-z A-Z 0-9 _ . -`, not starting with a dot.
    pub id: String,
    /// A directory, usually [`View::path`](crate::View::path) or [`Active::path`](crate::Active::path).
    pub rootfs: PathBuf,
    /// The program and its arguments. A program without `/` is looked up in `PATH` of `env` (or the usual directories).
    pub argv: Vec<String>,
    /// `PATH`, `HOME` and, with a terminal, `TERM` are added when missing.
    pub env: Vec<(String, String)>,
    /// An absolute path, made when missing. Empty: `/`.
    pub cwd: String,
    /// `user[:group]` as in an image's configuration, names looked up in the root file system's `/etc/passwd` and `/etc/group`.
    /// Empty: root.
    pub user: String,
    /// Further groups by number, besides those that `/etc/group` gives the user.
    pub groups: Vec<u32>,
    /// `None`: the id.
    pub hostname: Option<String>,
    /// Mounted in this order; missing targets are made, and unmade afterwards if they are still empty.
    pub mounts: Vec<Mount>,
    pub network: NetworkMode,
    /// Besides what is given with the network: names for `/etc/hosts`, `/etc/resolv.conf`.
    pub dns: Dns,
    pub limits: Limits,
    /// Without `CAP_`. Those of a user other than root are reachable only through file capabilities, as usual.
    pub capabilities: Vec<String>,
    pub readonly_rootfs: bool,
    pub no_new_privs: bool,
    pub seccomp: Seccomp,
    pub stdio: Stdio,
    /// Keeps standard input open as a pipe ([`Container::take_stdin`](crate::Container::take_stdin)); else it is `/dev/null`.
    pub stdin: bool,
    /// A pseudo-terminal in place of pipes. With [`Stdio::Piped`] it is [`Container::take_terminal`](crate::Container::take_terminal).
    pub terminal: bool,
    pub rlimits: Vec<Rlimit>,
    pub sysctls: BTreeMap<String, String>,
    /// Added to `/proc/<pid>/oom_score_adj`: −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    pub lifetime: Lifetime,
    /// Kept with the container for whoever adopts it; never secrets.
    pub labels: BTreeMap<String, String>,
}

impl ContainerSpec {
    pub fn new(
        id: impl Into<String>,
        rootfs: impl Into<PathBuf>,
        argv: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            id: id.into(),
            rootfs: rootfs.into(),
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: String::new(),
            user: String::new(),
            groups: Vec::new(),
            hostname: None,
            mounts: Vec::new(),
            network: NetworkMode::None,
            dns: Dns::default(),
            limits: Limits::default(),
            capabilities: DEFAULT_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect(),
            readonly_rootfs: false,
            no_new_privs: false,
            seccomp: Seccomp::Default,
            stdio: Stdio::Piped,
            stdin: false,
            terminal: false,
            rlimits: Vec::new(),
            sysctls: BTreeMap::new(),
            oom_score_adj: None,
            lifetime: Lifetime::Server,
            labels: BTreeMap::new(),
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        check_name("container id", &self.id)?;
        let invalid = |text: String| Err(Error::Invalid(format!("container `{}`: {text}", self.id)));
        if self.argv.first().is_none_or(|program| program.is_empty()) {
            return invalid("the command is empty; give a program to start".into());
        }
        if !self.cwd.is_empty() && !self.cwd.starts_with('/') {
            return invalid(format!("the working directory `{}` is not absolute", self.cwd));
        }
        if !self.rootfs.is_absolute() {
            return invalid(format!("the root file system `{}` is not an absolute path", self.rootfs.display()));
        }
        let confined = crate::rootless::in_user_namespace() || crate::isolation::chrooted();
        if matches!(self.network, NetworkMode::Host) && !confined {
            return invalid("the host's network is only for containers of a user namespace".into());
        }
        for mount in &self.mounts {
            if !mount.target.starts_with('/') || mount.target.split('/').any(|part| part == "..") {
                return invalid(format!("the mount target `{}` is not an absolute path without `..`", mount.target));
            }
        }
        if let Some(reason) = crate::rlimit::refused(&self.rlimits) {
            return invalid(reason);
        }
        check_strings(&self.argv, &self.env).or_else(invalid)
    }
}

/// No NUL bytes, sane variable names, and a total that `execve` can take.
pub(crate) fn check_strings(argv: &[String], env: &[(String, String)]) -> std::result::Result<(), String> {
    if argv.iter().any(|a| a.contains('\0')) || env.iter().any(|(k, v)| k.contains('\0') || v.contains('\0')) {
        return Err("an argument or environment variable holds a NUL byte".into());
    }
    if let Some((name, _)) = env.iter().find(|(k, _)| k.is_empty() || k.contains('=')) {
        return Err(format!("`{name}` is not a name of an environment variable"));
    }
    let total: usize = argv.iter().map(|a| a.len() + 9).sum::<usize>()
        + env.iter().map(|(k, v)| k.len() + v.len() + 10).sum::<usize>();
    if total > 1 << 20 {
        return Err(format!("arguments and environment take {total} bytes; at most 1 MiB is possible"));
    }
    Ok(())
}

/// Names become directory, cgroup and mount names.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let fine = (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fine {
        Ok(())
    } else {
        Err(Error::Invalid(format!("`{name}` is no {what}: use 1 to 128 of a-z A-Z 0-9 _ . -, first not a dot")))
    }
}

/// Something that is seen at `target`.
#[derive(Debug, Clone)]
pub struct Mount {
    /// An absolute path in the container.
    pub target: String,
    pub kind: MountKind,
    pub readonly: bool,
}

#[derive(Debug, Clone)]
pub enum MountKind {
    /// A file or directory of the host, with what is mounted below it.
    Bind(PathBuf),
    /// Memory, gone with the container; `size` in bytes, `mode` as in `chmod`.
    Tmpfs { size: Option<u64>, mode: Option<u32> },
}

/// What a container reaches.
#[derive(Debug, Clone)]
pub enum NetworkMode {
    /// Its own loopback only.
    None,
    /// A network namespace that it may share with others.
    Join(NetNs),
    /// The host's own network, loopback included: only in a user namespace, where no other can be made, and refused elsewhere.
    Host,
}

/// What `/etc/resolv.conf` and `/etc/hosts` say besides the defaults (the name server of the bridge, `localhost`, the hostname).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    pub search: Vec<String>,
    /// For example `ndots:5`.
    pub options: Vec<String>,
    /// In place of the bridge's.
    pub servers: Vec<std::net::IpAddr>,
    pub hosts: Vec<(std::net::IpAddr, Vec<String>)>,
}

/// `None`: no limit.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Bytes, swap included where the kernel counts it.
    pub memory: Option<u64>,
    /// Thousandths of a CPU: 500 is half a CPU.
    pub cpu_millis: Option<u64>,
    /// Relative weight in thousandths of a CPU when CPUs are contended (Kubernetes' request).
    pub cpu_request_millis: Option<u64>,
    pub pids: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Seccomp {
    /// System calls outside Docker's default profile fail with `EPERM`, unknown ones with `ENOSYS`.
    Default,
    Unconfined,
}

/// Where standard output and standard error go.
#[derive(Debug, Clone)]
pub enum Stdio {
    Null,
    /// To the caller, live. They break when the server ends: not for [`Lifetime::Kept`].
    Piped,
    /// Appended to files, byte for byte.
    Files {
        stdout: PathBuf,
        stderr: PathBuf,
    },
    /// Appended line by line, with time and stream, in the format of the Kubernetes CRI (see [`crate::log`]).
    Log(LogFile),
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct LogFile {
    pub path: PathBuf,
    /// At this size the file is renamed to `<path>.1` (replacing it) and begun anew.
    pub max_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rlimit {
    /// For example `NOFILE`.
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

/// When a container ends by itself if nobody ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Lifetime {
    /// With the process that started it, or when the last [`Container`](crate::Container) is dropped.
    Server,
    /// Never: it is found again after a restart of the server.
    Kept,
}

/// A program to run in a running container, with its limits, namespaces and seccomp profile.
#[derive(Debug, Clone, Default)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    /// Added to the environment that the container was started with.
    pub env: Vec<(String, String)>,
    /// `None`: that of the container.
    pub cwd: Option<String>,
    /// `None`: that of the container.
    pub user: Option<String>,
    /// A pipe as standard input; else `/dev/null`.
    pub stdin: bool,
    /// A pseudo-terminal in place of pipes.
    pub terminal: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_its_name() {
        let good = ContainerSpec::new("a-1", "/r", ["sh"]);
        good.validate().unwrap();
        let bad: Vec<(&str, ContainerSpec)> = vec![
            ("container id", ContainerSpec { id: "../x".into(), ..good.clone() }),
            ("container id", ContainerSpec { id: String::new(), ..good.clone() }),
            ("empty", ContainerSpec { argv: vec![], ..good.clone() }),
            ("working directory", ContainerSpec { cwd: "x".into(), ..good.clone() }),
            ("root file system", ContainerSpec { rootfs: "r".into(), ..good.clone() }),
            ("NUL", ContainerSpec { argv: vec!["a\0b".into()], ..good.clone() }),
            ("A=B", ContainerSpec { env: vec![("A=B".into(), "x".into())], ..good.clone() }),
            ("1 MiB", ContainerSpec { env: vec![("A".into(), "x".repeat(2 << 20))], ..good.clone() }),
            (
                "mount target",
                ContainerSpec {
                    mounts: vec![Mount {
                        target: "/a/../b".into(),
                        kind: MountKind::Bind("/x".into()),
                        readonly: true,
                    }],
                    ..good.clone()
                },
            ),
        ];
        for (word, spec) in bad {
            let said = spec.validate().unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        }
    }
}
