//! The runtime of this machine: containers, snapshots and pod networks of the sandbox.
//!
//! Containers, their root file systems and the networks of pods outlive the server, so that pods go on while it restarts.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;
use records::Digest;
use sandbox::{
    Container, ContainerSpec, DEFAULT_CAPABILITIES, Dns, ExecSpec, Lifetime, LogFile, Mount, MountKind, NetworkMode,
    Sandbox, Stdio, Terminal,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{
    ContainerId, ExecRequest, ExecSession, Exit, ImageConfig, ImageHandle, PodNetwork, PodSandbox, Runtime,
    RuntimeError, RuntimeResult, StartContainer, SurvivingPod, Survivor,
};

/// An image that is unpacked on this machine.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// The name without tag and digest.
    pub repository: String,
    /// Of the manifest.
    pub digest: Digest,
    /// The snapshot that holds its files.
    pub snapshot: String,
    pub config: ImageConfig,
}

/// Where images come from.
#[async_trait]
pub trait ImageSource: Send + Sync + 'static {
    /// Resolves a reference once and unpacks the image. An error is a sentence.
    async fn prepare(&self, reference: &str) -> Result<PreparedImage, String>;
}

/// The label of a container that holds the digest of its image.
const IMAGE: &str = "image";
/// A container's log is begun anew at this size, one older file is kept.
const LOG_BYTES: u64 = 16 << 20;
/// Processes and threads of a container without a limit of its own.
const PIDS: u64 = 4096;
const SIGKILL: i32 = 9;
/// Bytes of a terminal on their way.
const PIPE: usize = 64 << 10;

/// Runs pods in a sandbox.
pub struct Sandboxed {
    sandbox: Sandbox,
    images: Arc<dyn ImageSource>,
    /// Which snapshot holds which image; can be found out again.
    snapshots: Mutex<HashMap<Digest, String>>,
}

impl Sandboxed {
    pub fn new(sandbox: Sandbox, images: Arc<dyn ImageSource>) -> Self {
        Self { sandbox, images, snapshots: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Digest, String>> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, id: &ContainerId) -> RuntimeResult<Option<Container>> {
        self.sandbox.adopt(&id.to_string()).await.map_err(machine)
    }

    async fn snapshot(&self, image: &ImageHandle) -> RuntimeResult<String> {
        let known = self.known().get(&image.digest).cloned();
        match known.filter(|key| self.sandbox.snapshots().has(key)) {
            Some(key) => Ok(key),
            None => {
                let prepared = self.images.prepare(&format!("{}@{}", image.repository, image.digest)).await;
                let prepared = prepared.map_err(RuntimeError::Image)?;
                self.known().insert(prepared.digest, prepared.snapshot.clone());
                Ok(prepared.snapshot)
            }
        }
    }

    /// Unmounts the root file system of a container, which its id names.
    async fn release(&self, id: &ContainerId) -> RuntimeResult<()> {
        let (snapshots, name) = (self.sandbox.snapshots().clone(), id.to_string());
        let released = tokio::task::spawn_blocking(move || drop(snapshots.adopt(&name)));
        released.await.map_err(|e| RuntimeError::Machine(format!("unmounting {id} ended: {e}")))
    }

    fn spec(&self, start: &StartContainer, rootfs: std::path::PathBuf, network: NetworkMode) -> ContainerSpec {
        let mut spec = ContainerSpec::new(start.id.to_string(), rootfs, start.argv.clone());
        let pod = start.pod.clone();
        spec.hostname = Some(pod.hostname);
        spec.dns = Dns {
            search: pod.dns.searches,
            options: pod.dns.options,
            servers: pod.dns.servers.iter().filter_map(|server| server.parse().ok()).collect(),
            hosts: pod.hosts.into_iter().filter_map(|(ip, names)| Some((ip.parse().ok()?, names))).collect(),
        };
        spec.env.clone_from(&start.env);
        spec.cwd.clone_from(&start.working_dir);
        spec.user = start.security.user.clone().unwrap_or_else(|| start.image.config.user.clone());
        spec.groups.clone_from(&start.security.groups);
        let bind = |mount: &super::BindMount| Mount {
            target: mount.target.clone(),
            kind: MountKind::Bind(mount.source.clone()),
            readonly: mount.read_only,
        };
        let tmpfs = |target: &String| {
            let kind = MountKind::Tmpfs { size: None, mode: Some(0o1777) };
            Mount { target: target.clone(), kind, readonly: false }
        };
        spec.mounts = start.mounts.iter().map(bind).chain(start.tmpfs.iter().map(tmpfs)).collect();
        spec.network = network;
        spec.limits = sandbox::Limits {
            memory: start.limits.memory,
            cpu_millis: start.limits.cpu_milli,
            cpu_request_millis: start.limits.cpu_request_milli,
            pids: Some(start.limits.pids.unwrap_or(PIDS)),
        };
        spec.capabilities = capabilities(&start.security.add_capabilities, &start.security.drop_capabilities);
        spec.readonly_rootfs = start.security.read_only_root;
        spec.no_new_privs = start.security.no_new_privileges;
        spec.stdio = Stdio::Log(LogFile { path: start.log.clone(), max_bytes: LOG_BYTES });
        spec.terminal = start.tty;
        spec.lifetime = Lifetime::Kept;
        spec.labels = BTreeMap::from([(IMAGE.to_owned(), start.image.digest.to_string())]);
        spec
    }
}

#[async_trait]
impl Runtime for Sandboxed {
    async fn pull(&self, reference: &str, cancel: &CancellationToken) -> RuntimeResult<ImageHandle> {
        let prepared = tokio::select! {
            () = cancel.cancelled() => return Err(RuntimeError::Cancelled),
            prepared = self.images.prepare(reference) => prepared.map_err(RuntimeError::Image)?,
        };
        self.known().insert(prepared.digest.clone(), prepared.snapshot);
        Ok(ImageHandle { repository: prepared.repository, digest: prepared.digest, config: prepared.config })
    }

    async fn create_pod(&self, pod: &PodSandbox) -> RuntimeResult<PodNetwork> {
        let network = self.sandbox.network().await.map_err(machine)?;
        let netns = match network.adopt(&pod.uid) {
            Some(netns) => netns,
            None => network.create(&pod.uid, Lifetime::Kept).await.map_err(machine)?,
        };
        Ok(PodNetwork { ip: IpAddr::V4(netns.ip()) })
    }

    async fn start_container(&self, start: &StartContainer) -> RuntimeResult<Timestamp> {
        let network = self.sandbox.network().await.map_err(machine)?;
        let netns = network
            .adopt(&start.id.pod)
            .ok_or_else(|| RuntimeError::Machine(format!("pod {} has no network", start.id.pod)))?;
        let key = self.snapshot(&start.image).await?;
        let (snapshots, name) = (self.sandbox.snapshots().clone(), start.id.to_string());
        let mounted = tokio::task::spawn_blocking(move || {
            // What an earlier attempt to start it left.
            drop(snapshots.adopt(&name));
            snapshots.view(&name, &key, true)
        });
        let mounted = mounted.await.map_err(|e| RuntimeError::Machine(format!("mounting an image ended: {e}")))?;
        let mut view = mounted.map_err(machine)?;
        let spec = self.spec(start, view.path().to_owned(), NetworkMode::Join(netns));
        let container = self.sandbox.start(spec).await.map_err(|error| match error {
            sandbox::Error::Program { .. } => RuntimeError::Start(error.to_string()),
            sandbox::Error::Invalid(reason) => RuntimeError::Invalid(reason),
            error => machine(error),
        })?;
        view.keep();
        Ok(Timestamp::try_from(container.started()).unwrap_or_default())
    }

    async fn wait(&self, id: &ContainerId) -> RuntimeResult<Exit> {
        let container = self.find(id).await?.ok_or_else(|| RuntimeError::NotFound(id.to_string()))?;
        Ok(ended(container.wait().await))
    }

    async fn signal(&self, id: &ContainerId, signal: i32) -> RuntimeResult<()> {
        match self.find(id).await? {
            Some(container) => container.signal(signal).map_err(machine),
            None => Ok(()),
        }
    }

    async fn kill(&self, id: &ContainerId) -> RuntimeResult<()> {
        match self.find(id).await? {
            Some(container) => container.kill().await.map(drop).map_err(machine),
            None => Ok(()),
        }
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> RuntimeResult<ExecSession> {
        let container = self.find(id).await?.ok_or_else(|| RuntimeError::NotFound(id.to_string()))?;
        let spec = ExecSpec {
            argv: request.argv.clone(),
            env: request.env.clone().into_iter().collect(),
            stdin: request.stdin,
            terminal: request.tty,
            ..ExecSpec::default()
        };
        let started = container.exec(spec).await.map_err(|error| match error {
            sandbox::Error::Program { .. } => RuntimeError::Start(error.to_string()),
            sandbox::Error::Invalid(reason) => RuntimeError::Invalid(reason),
            error => machine(error),
        });
        let mut exec = started?;
        let (resize, sizes) = mpsc::channel(4);
        let (sender, exit) = oneshot::channel();
        let lost = || RuntimeError::Machine(format!("the streams of a program in {id} are gone"));
        let mut session = match exec.take_terminal() {
            Some(terminal) => {
                let (stdin, from) = duplex(PIPE);
                let (to, stdout) = duplex(PIPE);
                tokio::spawn(pump(terminal, from, to, sizes));
                ExecSession { stdin: Some(Box::new(stdin)), stdout: Box::new(stdout), stderr: None, resize, exit }
            }
            None => {
                let stdout = exec.take_stdout().ok_or_else(lost)?;
                let stderr = exec.take_stderr().ok_or_else(lost)?;
                let stdin = exec.take_stdin().map(|stdin| Box::new(stdin) as _);
                ExecSession { stdin, stdout: Box::new(stdout), stderr: Some(Box::new(stderr)), resize, exit }
            }
        };
        if !request.stdin {
            session.stdin = None;
        }
        tokio::spawn(async move {
            let mut sender = sender;
            tokio::select! {
                ended = exec.wait() => drop(sender.send(ended.code())),
                // Nobody waits for it any more.
                () = sender.closed() => drop(exec.signal(SIGKILL)),
            }
        });
        Ok(session)
    }

    async fn remove_container(&self, id: &ContainerId) -> RuntimeResult<()> {
        if let Some(container) = self.find(id).await? {
            container.remove().await.map_err(machine)?;
        }
        self.release(id).await
    }

    async fn remove_pod(&self, uid: &str) -> RuntimeResult<()> {
        for found in self.sandbox.list().map_err(machine)? {
            if let Ok(id) = found.id.parse::<ContainerId>()
                && id.pod == uid
            {
                self.remove_container(&id).await?;
            }
        }
        self.sandbox.network().await.map_err(machine)?.remove(uid).await.map_err(machine)?;
        Ok(())
    }

    async fn list(&self) -> RuntimeResult<Vec<SurvivingPod>> {
        let network = self.sandbox.network().await.map_err(machine)?;
        let mut pods: BTreeMap<String, SurvivingPod> = BTreeMap::new();
        for found in self.sandbox.list().map_err(machine)? {
            // Steps of pipelines run in the same sandbox under names of another form.
            let Ok(id) = found.id.parse::<ContainerId>() else { continue };
            let started = self.find(&id).await?.and_then(|container| Timestamp::try_from(container.started()).ok());
            let survivor = Survivor {
                image: found.labels.get(IMAGE).and_then(|digest| digest.parse().ok()),
                started_at: started,
                exit: found.exit.map(ended),
                id,
            };
            let uid = survivor.id.pod.clone();
            pods.entry(uid).or_insert_with_key(|uid| empty(uid)).containers.push(survivor);
        }
        // Names of steps are not as long as uids.
        for name in network.list().into_iter().filter(|name| name.len() == 36) {
            let ip = network.adopt(&name).map(|netns| PodNetwork { ip: IpAddr::V4(netns.ip()) });
            pods.entry(name).or_insert_with_key(|uid| empty(uid)).network = ip;
        }
        Ok(pods.into_values().collect())
    }
}

fn empty(uid: &str) -> SurvivingPod {
    SurvivingPod { uid: uid.to_owned(), network: None, containers: Vec::new() }
}

fn machine(error: sandbox::Error) -> RuntimeError {
    RuntimeError::Machine(error.to_string())
}

fn ended(exit: sandbox::Exit) -> Exit {
    let at = exit.time().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default();
    Exit { code: exit.code(), out_of_memory: exit.out_of_memory, at }
}

/// The default set, with and without what the pod says; `ALL` means the default set.
fn capabilities(add: &[String], drop: &[String]) -> Vec<String> {
    let name = |text: &String| text.trim_start_matches("CAP_").to_owned();
    let dropped: Vec<String> = drop.iter().map(name).collect();
    let all = dropped.iter().any(|name| name == "ALL");
    let kept =
        DEFAULT_CAPABILITIES.iter().map(|name| (*name).to_owned()).filter(|name| !all && !dropped.contains(name));
    let mut set: Vec<String> = kept.collect();
    for name in add.iter().map(name).filter(|name| name != "ALL") {
        if !set.contains(&name) {
            set.push(name);
        }
    }
    set
}

/// Hands bytes on between a terminal and two pipes, and its size to it, until the program has closed it.
async fn pump(
    mut terminal: Terminal,
    mut from: DuplexStream,
    mut to: DuplexStream,
    mut sizes: mpsc::Receiver<(u16, u16)>,
) {
    let (mut out, mut input) = (vec![0; 8192], vec![0; 8192]);
    let (mut typing, mut resizing) = (true, true);
    loop {
        tokio::select! {
            read = terminal.read(&mut out) => match read {
                // A terminal whose other side is closed answers with an error.
                Ok(0) | Err(_) => return,
                Ok(read) => if to.write_all(&out[..read]).await.is_err() { return },
            },
            read = from.read(&mut input), if typing => match read {
                Ok(0) | Err(_) => typing = false,
                Ok(read) => if terminal.write_all(&input[..read]).await.is_err() { return },
            },
            size = sizes.recv(), if resizing => match size {
                Some((columns, rows)) => drop(terminal.resize(columns, rows)),
                None => resizing = false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_the_default_set_with_what_the_pod_says() {
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(capabilities(&[], &[]).contains(&"CHOWN".to_owned()));
        assert_eq!(capabilities(&text(&["CAP_NET_BIND_SERVICE"]), &text(&["ALL"])), ["NET_BIND_SERVICE"]);
        assert!(!capabilities(&[], &text(&["CAP_CHOWN"])).contains(&"CHOWN".to_owned()));
    }
}
