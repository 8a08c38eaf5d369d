//! A program in a container, and what it leaves.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use graph::{Error, Exec, ExecContext, Output, OutputSink, StreamKind, VertexId};
use records::Artifact;
use sandbox::{ContainerSpec, Lifetime, Limits, NetworkMode, Rlimit, Sandbox, Status, View};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::{Machine, NEXT, blocking, files, machine, mounts::Mounts};

/// The most files that one vertex may leave, and the most bytes of one of them.
const MOST_FILES: usize = 10_000;
const LARGEST_FILE: u64 = 4 << 30;

/// The share of processors, in thousandths, when there is not enough for all: steps and builds give way to what serves.
const CPU_WEIGHT: u64 = 100;

/// Processes and threads of one container.
const PIDS: u64 = 4096;

/// Less free space than this on the disk of the data directory, when something failed, is taken for the reason.
const SPARE: u64 = 8 << 20;

/// Says that the disk below a path is full, if it is.
fn full(path: &Path) -> Option<String> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    let spare = found.blocks_available().saturating_mul(found.fragment_size());
    let files = found.files() > 0 && found.files_available() == 0;
    (spare < SPARE || files).then(|| {
        let what = if files { "no more files can be made there" } else { "nothing more can be written there" };
        format!("the disk of the data directory is full: {what}; `shipway image prune` frees some space")
    })
}

/// Runs the program on a snapshot of its own; when it succeeds, the snapshot stays.
pub async fn run(
    machine_: &Machine,
    id: &VertexId,
    program: &Exec,
    inputs: &[Output],
    context: &ExecContext,
) -> Result<Vec<Artifact>, Error> {
    let ended = attempt(machine_, id, program, inputs, context).await;
    let place = machine_.snapshots().root().to_owned();
    ended.map_err(|error| match (error, full(&place)) {
        // To try again would fill nothing but time.
        (Error::Infrastructure { message, .. }, Some(full)) => Error::Invalid(format!("{message}; {full}")),
        (error @ (Error::Exit { .. } | Error::Signal { .. }), Some(full)) => {
            (context.output)(StreamKind::Note, &format!("{full}\n"));
            error
        }
        (error, _) => error,
    })
}

async fn attempt(
    machine_: &Machine,
    id: &VertexId,
    program: &Exec,
    inputs: &[Output],
    context: &ExecContext,
) -> Result<Vec<Artifact>, Error> {
    let root = inputs.first().ok_or_else(|| Error::Invalid("a program has no root file system".into()))?;
    let (snapshots, key, parent) = (machine_.snapshots().clone(), id.to_string(), root.id.to_string());
    let span = tracing::info_span!("snapshot");
    let active =
        blocking(move || snapshots.prepare(&key, Some(&parent)).map_err(|e| machine("cannot begin a snapshot", e)))
            .await?;
    drop(span);
    let names = |part: &str| !part.is_empty() && part.parse::<u32>().is_err();
    if program.user.split(':').any(names) {
        // Who is not there is said before a container is made, and in the words of who wrote the step.
        let root = super::rooted::Root::open(active.path()).map_err(|e| machine("cannot open the root", e))?;
        super::rooted::owner(&root, &program.user).map_err(Error::User)?;
    }
    let more = Mounts::of(machine_, program, inputs, context).await?;
    // The address is that of the content; two attempts, or two scopes, must not meet in one container.
    let name = format!("x{}-{}", NEXT.fetch_add(1, Ordering::Relaxed), id.0.short());
    let mut spec = ContainerSpec::new(name.clone(), active.path(), program.argv.clone());
    spec.env = program.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, value) in &more.env {
        spec.env.retain(|(known, _)| known != name);
        spec.env.push((name.clone(), value.clone()));
    }
    for secret in &program.secrets {
        let value = context.secrets.get(&secret.name).cloned().unwrap_or_default();
        spec.env.retain(|(name, _)| *name != secret.env);
        spec.env.push((secret.env.clone(), value));
    }
    spec.cwd.clone_from(&program.cwd);
    spec.user.clone_from(&program.user);
    spec.mounts.clone_from(&more.mounts);
    spec.dns.hosts = program.hosts.iter().map(|(name, address)| (*address, vec![name.clone()])).collect();
    let limit = |limit: &graph::Ulimit| Rlimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard };
    spec.rlimits = program.ulimits.iter().map(limit).collect();
    spec.limits = limits(program.memory);
    spec.hostname = Some("shipway".into());
    spec.network = network(&machine_.sandbox, &name, program.network).await?;
    let container = tracing::info_span!("container", name);
    let exit = program_ended(&machine_.sandbox, spec, &context.cancel, &context.output).await?;
    drop(container);
    let artifacts = collect(machine_, program, active.path(), &more.views).await?;
    drop(more);
    match exit.status {
        Status::Code(0) => {}
        Status::Code(code) => return Err(Error::Exit { code, artifacts }),
        Status::Signal(signal) => return Err(Error::Signal { signal, out_of_memory: exit.out_of_memory }),
        Status::Lost => {
            let message = "the container's monitor was lost, so nobody saw how it ended".to_owned();
            return Err(Error::Infrastructure { message, source: None });
        }
    }
    machine_.collected(id, &artifacts).await?;
    let _span = tracing::info_span!("snapshot");
    blocking(move || active.commit().map_err(|e| machine("cannot keep a snapshot", e))).await?;
    Ok(artifacts)
}

/// What a container of a build reaches.
pub async fn network(sandbox: &Sandbox, name: &str, wanted: graph::Network) -> Result<NetworkMode, Error> {
    match wanted {
        graph::Network::None if sandbox::chrooted() => {
            let message = "a step without a network (--network=none) needs a network namespace, and this container may make \
                           none (isolation: chroot)";
            Err(Error::Invalid(message.into()))
        }
        graph::Network::None => Ok(NetworkMode::None),
        graph::Network::Bridge if sandbox::rootless::in_user_namespace() || sandbox::chrooted() => {
            Ok(NetworkMode::Host)
        }
        graph::Network::Bridge => {
            let said = |e| machine("cannot make the container's network", e);
            let network = sandbox.network().await.map_err(said)?;
            Ok(NetworkMode::Join(network.create(name, Lifetime::Server).await.map_err(said)?))
        }
    }
}

/// The limits of a container of a build.
pub fn limits(memory: Option<u64>) -> Limits {
    Limits { memory, pids: Some(PIDS), cpu_request_millis: Some(CPU_WEIGHT), ..Limits::default() }
}

/// Starts the container, hands on what it says, and waits for its end; a cancellation kills it.
pub async fn program_ended(
    sandbox: &Sandbox,
    spec: ContainerSpec,
    cancel: &CancellationToken,
    output: &OutputSink,
) -> Result<sandbox::Exit, Error> {
    let container = match sandbox.start(spec).await {
        Ok(container) => container,
        Err(error @ (sandbox::Error::Invalid(_) | sandbox::Error::Program { .. })) => {
            return Err(Error::Invalid(error.to_string()));
        }
        Err(error) => return Err(machine("cannot start the container", error)),
    };
    let say = |stream| {
        let output = output.clone();
        move |text: &str| output(stream, text)
    };
    let stdout = forward(container.take_stdout(), say(StreamKind::Stdout));
    let stderr = forward(container.take_stderr(), say(StreamKind::Stderr));
    let ended = async {
        let exit = container.wait().await;
        // A process that the program left behind could hold the streams open for ever; with the first process all of them end.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), async { tokio::join!(stdout, stderr) }).await;
        exit
    };
    let exit = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        exit = ended => Some(exit),
    };
    let removed = container.remove().await;
    match exit {
        None => Err(Error::Cancelled),
        Some(exit) => {
            removed.map_err(|e| machine("cannot clean up the container", e))?;
            Ok(exit)
        }
    }
}

/// Hands on a stream as text; what is not UTF-8 is replaced.
fn forward(
    stream: Option<impl AsyncRead + Unpin + Send + 'static>,
    say: impl Fn(&str) + Send + 'static,
) -> tokio_util::task::AbortOnDropHandle<()> {
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let Some(mut stream) = stream else { return };
        let mut pending: Vec<u8> = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => pending.extend_from_slice(&buffer[..read]),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            // A character that is cut in two waits for its rest.
            let whole = match std::str::from_utf8(&pending) {
                Ok(_) => pending.len(),
                Err(e) if e.error_len().is_none() => e.valid_up_to(),
                Err(_) => pending.len(),
            };
            say(&String::from_utf8_lossy(&pending[..whole]));
            pending.drain(..whole);
        }
        if !pending.is_empty() {
            say(&String::from_utf8_lossy(&pending));
        }
    }))
}

/// Keeps what the program was to leave, from the mounts or from the root.
async fn collect(machine_: &Machine, program: &Exec, root: &Path, views: &[View]) -> Result<Vec<Artifact>, Error> {
    let mut artifacts: Vec<Artifact> = Vec::new();
    for wanted in &program.collect {
        let (directory, below) = place(program, root, views, &wanted.root);
        let open = super::rooted::Root::open(&directory).map_err(|e| machine("cannot look for artifacts", e))?;
        let Ok(directory) = open.directory(&below) else { continue };
        let (path, glob) = (directory.path(), wanted.glob.clone());
        let found = files::matching(&path, &glob, MOST_FILES)?;
        for file in found {
            let artifact = files::keep(&*machine_.blobs, &path, &file, LARGEST_FILE).await?;
            if !artifacts.iter().any(|known| known.path == artifact.path) {
                artifacts.push(artifact);
            }
        }
    }
    Ok(artifacts)
}

/// The directory of this machine that holds a path of the container, and the rest of the path in it.
fn place(program: &Exec, root: &Path, views: &[View], path: &str) -> (PathBuf, PathBuf) {
    let mounted = program.mounts.iter().zip(views).filter(|(mount, _)| Path::new(path).starts_with(&mount.target));
    match mounted.max_by_key(|(mount, _)| mount.target.len()) {
        Some((mount, view)) => {
            let rest = Path::new(path).strip_prefix(&mount.target).unwrap_or(Path::new(""));
            (view.path().join(mount.source.trim_start_matches('/')), Path::new("/").join(rest))
        }
        None => (root.to_owned(), PathBuf::from(path)),
    }
}
