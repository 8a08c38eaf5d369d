//! What the node needs from whatever runs containers.
//!
//! Ids are made by the caller and say which pod, which container and which attempt, so that an effect can be repeated and what
//! survived a restart is recognised. Waiting, grace periods and restarts are the caller's business.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, str::FromStr};

use async_trait::async_trait;
use jiff::Timestamp;
use records::Digest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub mod sandboxed;

pub use sandboxed::{ImageSource, PreparedImage, Sandboxed};

/// Why a runtime could not do something, by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    /// There is no such image, or it cannot be read: trying again rarely helps.
    #[error("{0}")]
    Image(String),
    /// The container asks for something that is not possible: trying again does not help until the pod changes.
    #[error("{0}")]
    Invalid(String),
    /// The program could not be started in the container.
    #[error("{0}")]
    Start(String),
    #[error("there is no container {0}")]
    NotFound(String),
    #[error("cancelled")]
    Cancelled,
    /// This machine failed: trying again may help.
    #[error("{0}")]
    Machine(String),
}

pub type RuntimeResult<T> = std::result::Result<T, RuntimeError>;

/// What an image says about the program in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// In the image's order, `NAME=value` already split.
    pub env: Vec<(String, String)>,
    /// `user[:group]`, by name or number; empty for root.
    pub user: String,
    pub working_dir: String,
    /// A signal's name or number; empty for SIGTERM.
    pub stop_signal: String,
}

/// An image that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHandle {
    /// The name that was asked for, without tag and digest.
    pub repository: String,
    pub digest: Digest,
    pub config: ImageConfig,
}

/// Which container of which pod, and which start of it: 0 is the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId {
    pub pod: String,
    pub name: String,
    pub attempt: u32,
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.pod, self.name, self.attempt)
    }
}

impl FromStr for ContainerId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (rest, attempt) = text.rsplit_once('_').ok_or(())?;
        let (pod, name) = rest.rsplit_once('_').ok_or(())?;
        if pod.is_empty() || name.is_empty() {
            return Err(());
        }
        Ok(Self { pod: pod.into(), name: name.into(), attempt: attempt.parse().map_err(|_| ())? })
    }
}

/// A pod as the runtime sees it: a network, a host name, and how names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSandbox {
    pub uid: String,
    pub name: String,
    pub namespace: String,
    pub hostname: String,
    pub dns: PodDns,
    /// Lines for the hosts file beside the pod's own: address, names.
    pub hosts: Vec<(String, Vec<String>)>,
    /// The address that the pod had, to be given again where it is free.
    pub wanted_ip: Option<IpAddr>,
}

/// What goes into a pod's `resolv.conf`. No servers means the node's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodDns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// The network of a pod that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetwork {
    pub ip: IpAddr,
}

/// A directory or file of this machine that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    pub source: PathBuf,
    /// Absolute, in the container.
    pub target: String,
    pub read_only: bool,
}

/// Bounds of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_milli: Option<u64>,
    /// The share of processors under contention, in thousandths.
    pub cpu_request_milli: Option<u64>,
    pub pids: Option<u64>,
}

/// What a container's program may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// `user[:group]`; `None` for the image's.
    pub user: Option<String>,
    pub groups: Vec<u32>,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
}

/// A container to be started. Everything is resolved: names to values, an image to its digest.
#[derive(Debug, Clone)]
pub struct StartContainer {
    pub id: ContainerId,
    /// The pod that it belongs to: its host name and how it resolves names.
    pub pod: PodSandbox,
    pub image: ImageHandle,
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: String,
    pub mounts: Vec<BindMount>,
    pub tmpfs: Vec<String>,
    pub limits: Limits,
    pub security: Security,
    pub tty: bool,
    /// The file that receives what the program prints, in the format of the container runtime interface.
    pub log: PathBuf,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The status, or 128 + the signal that ended it.
    pub code: i32,
    pub out_of_memory: bool,
    pub at: Timestamp,
}

/// A container that the runtime still knows, for example from before a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    pub id: ContainerId,
    /// The digest of its image, where it is known.
    pub image: Option<Digest>,
    pub started_at: Option<Timestamp>,
    /// `None` while it runs.
    pub exit: Option<Exit>,
}

/// A pod that the runtime still knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurvivingPod {
    pub uid: String,
    pub network: Option<PodNetwork>,
    pub containers: Vec<Survivor>,
}

/// A program to be run in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub stdin: bool,
    pub tty: bool,
}

/// A program that runs in a container: its streams and its end. Dropping it kills the program.
pub struct ExecSession {
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Takes the terminal's new size: columns, rows.
    pub resize: mpsc::Sender<(u16, u16)>,
    /// The status, or 128 + the signal.
    pub exit: oneshot::Receiver<i32>,
}

/// Runs containers. Every effect may be repeated.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Brings the image onto this machine, resolving the reference to a digest.
    async fn pull(&self, reference: &str, cancel: &CancellationToken) -> RuntimeResult<ImageHandle>;

    /// Makes the pod's network, or finds it where it is there.
    async fn create_pod(&self, pod: &PodSandbox) -> RuntimeResult<PodNetwork>;

    /// Starts a container in a pod that was created; the id is new. Returns when the program runs.
    async fn start_container(&self, start: &StartContainer) -> RuntimeResult<Timestamp>;

    /// Waits for the end of a container's program. Answers at once when it has ended.
    async fn wait(&self, id: &ContainerId) -> RuntimeResult<Exit>;

    /// Sends a signal to a container's first process; nothing when it has ended.
    async fn signal(&self, id: &ContainerId, signal: i32) -> RuntimeResult<()>;

    /// Ends every process of the container at once; nothing when it has ended.
    async fn kill(&self, id: &ContainerId) -> RuntimeResult<()>;

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> RuntimeResult<ExecSession>;

    /// A connection to a port of the pod, as if from inside the pod.
    async fn connect(&self, pod: &str, ip: IpAddr, port: u16) -> RuntimeResult<tokio::net::TcpStream> {
        let _ = pod;
        let connected = tokio::net::TcpStream::connect((ip, port)).await;
        connected.map_err(|e| RuntimeError::Machine(format!("cannot connect to {ip}:{port}: {e}")))
    }

    /// Removes what an ended container left; nothing when there is none.
    async fn remove_container(&self, id: &ContainerId) -> RuntimeResult<()>;

    /// Kills and removes all containers of the pod, and its network; nothing when there is none.
    async fn remove_pod(&self, uid: &str) -> RuntimeResult<()>;

    /// What survived a restart of the server.
    async fn list(&self) -> RuntimeResult<Vec<SurvivingPod>>;
}

/// Signals by the names that images and manifests use.
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let short = name.strip_prefix("SIG").unwrap_or(name);
    let known = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
    ];
    if let Some((_, number)) = known.iter().find(|(known, _)| *known == short) {
        return Some(*number);
    }
    match short.strip_prefix("RTMIN") {
        Some("") => Some(34),
        Some(plus) => plus.strip_prefix('+')?.parse::<i32>().ok().map(|n| 34 + n).filter(|n| *n <= 64),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_read_back() {
        let id = ContainerId { pod: "b0b-1".into(), name: "web".into(), attempt: 7 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "a", "a_b", "_b_1", "a__1", "a_b_x"] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_by_name_and_number() {
        for (name, number) in [("SIGTERM", 15), ("QUIT", 3), ("9", 9), ("SIGRTMIN+3", 37), ("RTMIN", 34)] {
            assert_eq!(signal_number(name), Some(number), "{name}");
        }
        for bad in ["", "SIGNOPE", "0", "99", "SIGRTMIN+40"] {
            assert_eq!(signal_number(bad), None, "{bad}");
        }
    }
}
