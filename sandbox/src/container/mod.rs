//! A container as the server holds it.

mod channel;
mod exec;
pub(crate) mod helpers;
mod start;
mod streams;

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use exec::Exec;
pub(crate) use start::start;
pub use streams::{Input, Output, Terminal};

use crate::{
    Error, ExecSpec, Lifetime, NetworkMode, Result,
    cgroup::Hierarchies,
    helper::record::{self, Record},
    open::Shared,
};

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Code(i32),
    Signal(i32),
    /// Its monitor was killed, or the machine restarted: nobody saw how it ended.
    Lost,
}

/// The end of a container or exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub status: Status,
    /// The kernel killed something in the container because its memory limit was reached.
    pub out_of_memory: bool,
    /// When, in milliseconds since 1970. 0 when it is not known.
    pub at: i64,
}

impl Exit {
    pub(crate) const LOST: Exit = Exit { status: Status::Lost, out_of_memory: false, at: 0 };

    pub fn success(&self) -> bool {
        self.status == Status::Code(0)
    }

    /// As a shell tells it: 128 and the signal's number for a signal; 137 when it is lost.
    pub fn code(&self) -> i32 {
        match self.status {
            Status::Code(code) => code,
            Status::Signal(signal) => 128 + signal,
            Status::Lost => 137,
        }
    }

    /// `None` when it is not known.
    pub fn time(&self) -> Option<SystemTime> {
        (self.at > 0).then(|| time(self.at))
    }
}

fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.max(0).unsigned_abs())
}

/// What [`Sandbox::list`](crate::Sandbox::list) tells of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    /// `None` while it runs.
    pub exit: Option<Exit>,
}

/// What a container uses now. `None` where this host does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, less page cache that can be dropped at once.
    pub memory: Option<u64>,
    /// CPU time since its start.
    pub cpu: Option<Duration>,
    pub processes: Option<u64>,
}

/// A container that was started or adopted. Clones are the same container. When the last one is dropped, a container with
/// [`Lifetime::Server`] is killed and cleaned up in the background; one with [`Lifetime::Kept`] goes on.
#[derive(Clone)]
pub struct Container(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub shared: Arc<Shared>,
    pub id: String,
    pub directory: PathBuf,
    pub cgroup: String,
    pub lifetime: Lifetime,
    pub labels: BTreeMap<String, String>,
    pid: i32,
    started: i64,
    process: Option<OwnedFd>,
    streams: Mutex<streams::Streams>,
    exit: watch::Receiver<Option<Exit>>,
    removed: Arc<AtomicBool>,
    /// Its network stays as long as it.
    _network: NetworkMode,
    _dropped: Option<DropGuard>,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("id", &self.0.id)
            .field("pid", &self.0.pid)
            .field("exit", &self.exit())
            .finish()
    }
}

impl Container {
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Of its first process, as the host sees it.
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.0.labels
    }

    pub fn started(&self) -> SystemTime {
        time(self.0.started)
    }

    /// Standard input, where [`ContainerSpec::stdin`](crate::ContainerSpec::stdin) was set; once. Dropping it closes it.
    pub fn take_stdin(&self) -> Option<Input> {
        self.streams().stdin.take()
    }

    /// Standard output, where it is piped; once.
    pub fn take_stdout(&self) -> Option<Output> {
        self.streams().stdout.take()
    }

    /// Standard error, where it is piped; once.
    pub fn take_stderr(&self) -> Option<Output> {
        self.streams().stderr.take()
    }

    /// The terminal, where there is one and it is not logged; once.
    pub fn take_terminal(&self) -> Option<Terminal> {
        self.streams().terminal.take()
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, streams::Streams> {
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.0.exit.borrow()
    }

    /// Waits for its end. Any number of tasks may wait, and stop waiting, at any time.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.0.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::LOST),
            // The task that watches it is gone: the runtime is shutting down.
            Err(_) => Exit::LOST,
        }
    }

    /// Sends a signal to its first process. Fine when it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match &self.0.process {
            Some(process) if self.exit().is_none() => send_signal(process, signal).map_err(|error| Error::Runtime {
                id: self.0.id.clone(),
                what: "signalled",
                reason: error.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Ends it with all its processes, at once.
    pub async fn kill(&self) -> Result<Exit> {
        self.signal(libc::SIGKILL)?;
        Ok(self.wait().await)
    }

    /// Asks it to end, and kills it after `grace`.
    pub async fn stop(&self, signal: i32, grace: Duration) -> Result<Exit> {
        self.signal(signal)?;
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(exit) => Ok(exit),
            Err(_) => self.kill().await,
        }
    }

    /// Runs one more program in it.
    pub async fn exec(&self, spec: ExecSpec) -> Result<Exec> {
        exec::exec(self, spec).await
    }

    pub fn usage(&self) -> Result<Usage> {
        let hierarchies = Hierarchies::find().map_err(Error::io("read", "/proc/self/mountinfo".as_ref()))?;
        Ok(Usage {
            memory: hierarchies.memory(&self.0.cgroup),
            cpu: hierarchies.cpu(&self.0.cgroup),
            processes: hierarchies.processes(&self.0.cgroup),
        })
    }

    /// Kills it if it still runs, and forgets it: its id is free again, [`Sandbox::list`](crate::Sandbox::list) does not name it.
    /// Its root file system and log stay.
    pub async fn remove(self) -> Result<()> {
        self.kill().await?;
        if !self.0.removed.swap(true, Ordering::AcqRel) {
            self.0.shared.forget(&self.0.id);
            let directory = self.0.directory.clone();
            clean(&self.0.shared.hierarchies, &self.0.cgroup, &directory).map_err(Error::io("remove", &directory))?;
        }
        Ok(())
    }

    /// Finds a container that an earlier process, or an earlier handle, left.
    pub(crate) fn adopt(shared: &Arc<Shared>, id: &str) -> Result<Option<Self>> {
        let directory = shared.container_directory(id)?;
        let damaged = |error: io::Error| Error::Damaged { path: directory.clone(), reason: error.to_string() };
        let Some(record) = Record::of(&directory).map_err(damaged)? else { return Ok(None) };
        let (sender, exit) = watch::channel(None);
        let mut process = None;
        match running(&directory, &record).map_err(damaged)? {
            Some((container, monitor)) => {
                process = Some(container);
                let monitor = streams::register(monitor).map_err(damaged)?;
                let directory = directory.clone();
                tokio::spawn(async move {
                    // A descriptor of a process is readable when it has ended.
                    let _ = monitor.readable().await;
                    let exit = record::exit_of(&directory).ok().flatten().unwrap_or(Exit::LOST);
                    let _ = sender.send(Some(exit));
                });
            }
            None => {
                let exit = record::exit_of(&directory).map_err(damaged)?.unwrap_or(Exit::LOST);
                let _ = sender.send(Some(exit));
            }
        }
        let started = record.started.as_ref();
        Ok(Some(Self(Arc::new(Inner {
            shared: shared.clone(),
            id: record.id.clone(),
            directory,
            cgroup: record.cgroup.clone(),
            lifetime: record.lifetime,
            labels: record.labels.clone(),
            pid: started.map_or(0, |s| s.pid),
            started: started.map_or(0, |s| s.at),
            process,
            streams: Mutex::default(),
            exit,
            removed: Arc::default(),
            _network: NetworkMode::None,
            _dropped: None,
        }))))
    }
}

/// Descriptors of a container's first process and of its monitor, if both run.
pub(crate) fn running(directory: &std::path::Path, record: &Record) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    let Some(started) = &record.started else { return Ok(None) };
    let (Ok(container), Ok(monitor)) = (pidfd(started.pid), pidfd(record.monitor)) else { return Ok(None) };
    // Both numbers may be others' by now. The lock tells that the monitor lives, so its number is its own; and what has started
    // at the same tick under the same number is the same process.
    let alive = record::lock(directory)?.is_none() && record::start_ticks(started.pid).ok() == Some(started.ticks);
    Ok((alive && record::exit_of(directory)?.is_none()).then_some((container, monitor)))
}

/// Removes a container's cgroup and directory.
pub(crate) fn clean(hierarchies: &Hierarchies, cgroup: &str, directory: &std::path::Path) -> io::Result<()> {
    hierarchies.remove(cgroup)?;
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: a plain system call.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just given it to us; it is closed on exec by itself.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    }
}

pub(crate) fn send_signal(process: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: a plain system call on an open descriptor.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    match sent {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// Cancelled when the last handle is dropped.
fn guard() -> (CancellationToken, DropGuard) {
    let token = CancellationToken::new();
    (token.clone(), token.drop_guard())
}
