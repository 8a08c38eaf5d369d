//! Starts a container: writes what it needs, hands it to a helper, follows it.

use std::{
    fs,
    net::IpAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering},
};

use tokio::sync::watch;

use super::{Container, Exit, Inner, channel::Channel, clean, guard, streams};
use crate::{
    ContainerSpec, Error, Lifetime, MountKind, NetworkMode, Result, Stdio, etc,
    helper::{
        record,
        wire::{BindOrTmpfs, Failure, Reply, Request, Run, Sink},
    },
    open::Shared,
};

pub(crate) async fn start(shared: &Arc<Shared>, spec: ContainerSpec) -> Result<Container> {
    spec.validate()?;
    let hostname = spec.hostname.clone().unwrap_or_else(|| spec.id.chars().take(63).collect());
    etc::check(&hostname, &spec.dns).map_err(|text| Error::Invalid(format!("container `{}`: {text}", spec.id)))?;
    let directory = shared.container_directory(&spec.id)?;
    match fs::create_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::Exists { what: "container", name: spec.id });
        }
        made => made.map_err(Error::io("make", &directory))?,
    }
    let id = spec.id.clone();
    let cgroup = format!("{}/{}", shared.tag.cgroup(), spec.id);
    let result = begin(shared, spec, hostname, &directory, &cgroup).await;
    // The next container shall not wait for the loading of its helper either.
    let again = shared.clone();
    tokio::task::spawn(async move { again.helpers.refill() });
    if result.is_err() {
        shared.forget(&id);
        let hierarchies = shared.hierarchies.clone();
        let _ = tokio::task::spawn_blocking(move || clean(&hierarchies, &cgroup, &directory)).await;
    }
    result
}

async fn begin(
    shared: &Arc<Shared>,
    spec: ContainerSpec,
    hostname: String,
    directory: &Path,
    cgroup: &str,
) -> Result<Container> {
    let failed =
        |reason: std::io::Error| Error::Runtime { id: spec.id.clone(), what: "started", reason: reason.to_string() };
    let mut own = streams::Streams::default();
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    if spec.stdin && !spec.terminal {
        let (stdin, theirs) = streams::input().map_err(failed)?;
        own.stdin = Some(stdin);
        descriptors.push(theirs);
    }
    let (stdout, stderr) = match &spec.stdio {
        Stdio::Null => (Sink::Null, Sink::Null),
        Stdio::Log(log) => (Sink::Log(log.clone()), Sink::Log(log.clone())),
        Stdio::Piped if spec.terminal => (Sink::Null, Sink::Null),
        Stdio::Piped => {
            let (stdout, theirs) = streams::output().map_err(failed)?;
            descriptors.push(theirs);
            let (stderr, theirs) = streams::output().map_err(failed)?;
            descriptors.push(theirs);
            (own.stdout, own.stderr) = (Some(stdout), Some(stderr));
            (Sink::Descriptor, Sink::Descriptor)
        }
        Stdio::Files { .. } if spec.terminal => {
            return Err(Error::Invalid(format!(
                "container `{}`: a terminal cannot go to files; use a log or pipes",
                spec.id
            )));
        }
        Stdio::Files { stdout, stderr } => {
            for path in [stdout, stderr] {
                let file =
                    fs::OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("open", path))?;
                descriptors.push(file.into());
            }
            (Sink::Descriptor, Sink::Descriptor)
        }
    };
    let run = Run {
        directory: directory.to_path_buf(),
        mounts: mounts(&spec, &hostname, directory)?,
        netns: match &spec.network {
            NetworkMode::None | NetworkMode::Host => None,
            NetworkMode::Join(netns) => Some(netns.path().to_path_buf()),
        },
        host_network: matches!(spec.network, NetworkMode::Host),
        chroot: crate::isolation::chrooted(),
        cgroup: cgroup.to_owned(),
        stdin: spec.stdin && !spec.terminal,
        stdout,
        stderr,
        id: spec.id.clone(),
        rootfs: spec.rootfs,
        argv: spec.argv,
        env: spec.env,
        cwd: if spec.cwd.is_empty() { "/".into() } else { spec.cwd },
        user: spec.user,
        groups: spec.groups,
        hostname,
        limits: spec.limits,
        capabilities: spec.capabilities,
        readonly_rootfs: spec.readonly_rootfs,
        no_new_privs: spec.no_new_privs,
        seccomp: spec.seccomp,
        terminal: spec.terminal,
        rlimits: spec.rlimits,
        sysctls: spec.sysctls,
        oom_score_adj: spec.oom_score_adj,
        lifetime: spec.lifetime,
        labels: spec.labels.clone(),
    };
    let id = spec.id;
    let failed =
        |reason: std::io::Error| Error::Runtime { id: id.clone(), what: "started", reason: reason.to_string() };
    let mut channel = shared.helpers.take()?;
    channel.send(&Request::Run(Box::new(run)), &descriptors).await.map_err(failed)?;
    drop(descriptors);
    let (pid, at, mut given) = started(&mut channel, &id, "started").await?;
    if given.len() > 1
        && let Some(terminal) = given.pop()
    {
        own.terminal = Some(streams::Terminal::new(terminal).map_err(failed)?);
    }
    let (sender, exit) = watch::channel(None);
    let (dropped, guard) = guard();
    let removed = Arc::default();
    let container = Container(Arc::new(Inner {
        shared: shared.clone(),
        id,
        directory: directory.to_path_buf(),
        cgroup: cgroup.to_owned(),
        lifetime: spec.lifetime,
        labels: spec.labels,
        pid,
        started: at,
        process: given.pop(),
        streams: Mutex::new(own),
        exit,
        removed: Arc::clone(&removed),
        _network: spec.network,
        _dropped: Some(guard),
    }));
    let inner = &container.0;
    let (shared, id, cgroup, directory) =
        (Arc::clone(&inner.shared), inner.id.clone(), inner.cgroup.clone(), inner.directory.clone());
    let ends_with_handle = inner.lifetime == Lifetime::Server;
    tokio::spawn(async move {
        let exit = tokio::select! {
            exit = end(&mut channel, &directory) => Some(exit),
            () = dropped.cancelled() => None,
        };
        match exit {
            Some(exit) => {
                let _ = sender.send(Some(exit));
                channel.finish().await;
                dropped.cancelled().await;
            }
            // The monitor kills what ends with us; what is kept has its monitor for the rest.
            None if ends_with_handle => channel.finish().await,
            None => {
                channel.finish().await;
                return;
            }
        }
        if ends_with_handle && !removed.swap(true, Ordering::AcqRel) {
            shared.forget(&id);
            let hierarchies = shared.hierarchies.clone();
            let _ = tokio::task::spawn_blocking(move || clean(&hierarchies, &cgroup, &directory)).await;
        }
    });
    Ok(container)
}

/// Waits until a helper has started its program. Gives its number, the time, and descriptors: the process, maybe a terminal.
pub(super) async fn started(channel: &mut Channel, id: &str, what: &'static str) -> Result<(i32, i64, Vec<OwnedFd>)> {
    let runtime = |reason: String| Error::Runtime { id: id.to_owned(), what, reason };
    match channel.receive().await.map_err(|error| runtime(error.to_string()))? {
        Some((Reply::Started { pid, at }, descriptors)) => Ok((pid, at, descriptors)),
        Some((Reply::Failed(Failure::Program { program, reason, code }), _)) => {
            Err(Error::Program { program, reason, code })
        }
        Some((Reply::Failed(Failure::Invalid(text)), _)) => Err(Error::Invalid(format!("container `{id}`: {text}"))),
        Some((Reply::Failed(Failure::Other(reason)), _)) => Err(runtime(reason)),
        Some((Reply::Exited(_), _)) => Err(runtime("its helper spoke out of turn".into())),
        None => {
            Err(runtime("its helper ended before it was started; does the helper's command call `helper_main`?".into()))
        }
    }
}

/// Waits for the end that the monitor tells. A monitor that was killed may have written it down before.
async fn end(channel: &mut Channel, directory: &Path) -> Exit {
    loop {
        match channel.receive().await {
            Ok(Some((Reply::Exited(exit), _))) => return exit,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return record::exit_of(directory).ok().flatten().unwrap_or(Exit::LOST),
        }
    }
}

/// What the caller mounts, after the three files of `/etc`.
fn mounts(spec: &ContainerSpec, hostname: &str, directory: &Path) -> Result<Vec<BindOrTmpfs>> {
    let (ip, server) = match &spec.network {
        NetworkMode::None | NetworkMode::Host => (None, None),
        NetworkMode::Join(netns) => (Some(IpAddr::V4(netns.ip())), Some(IpAddr::V4(netns.gateway()))),
    };
    let resolv_conf = match &spec.network {
        // Who answers on the host answers in it.
        NetworkMode::Host => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        _ => etc::resolv_conf(server, &spec.dns),
    };
    let files = [
        ("hosts", etc::hosts(hostname, ip, &spec.dns.hosts)),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", resolv_conf),
    ];
    let mut mounts = Vec::new();
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        mounts.push(bind(format!("/etc/{name}"), path, false));
    }
    for mount in &spec.mounts {
        mounts.push(match &mount.kind {
            MountKind::Bind(source) => {
                fs::symlink_metadata(source).map_err(|error| {
                    let text = format!("container `{}`: {} cannot be mounted: {error}", spec.id, source.display());
                    Error::Invalid(text)
                })?;
                bind(mount.target.clone(), source.clone(), mount.readonly)
            }
            MountKind::Tmpfs { size, mode } => BindOrTmpfs {
                target: mount.target.clone(),
                source: None,
                readonly: mount.readonly,
                size: *size,
                mode: *mode,
            },
        });
    }
    Ok(mounts)
}

fn bind(target: String, source: PathBuf, readonly: bool) -> BindOrTmpfs {
    BindOrTmpfs { target, source: Some(source), readonly, size: None, mode: None }
}
