//! What server and helper say to each other: JSON with its length before it, descriptors beside the first byte.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use crate::{Lifetime, Limits, LogFile, Rlimit, Seccomp, container::Exit};

/// Larger messages are a defect: arguments and environment are bounded by 1 MiB before they get here.
const LARGEST: usize = 8 << 20;
const MOST_DESCRIPTORS: usize = 8;

#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    Run(Box<Run>),
    Exec(ExecRequest),
}

/// Where a stream of the container goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Sink {
    Null,
    /// The next descriptor that came with the request.
    Descriptor,
    Log(LogFile),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Run {
    pub id: String,
    /// The container's own directory.
    pub directory: PathBuf,
    pub rootfs: PathBuf,
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub user: String,
    pub groups: Vec<u32>,
    pub hostname: String,
    pub mounts: Vec<BindOrTmpfs>,
    /// A file that is a network namespace; `None` for a new, empty one.
    pub netns: Option<PathBuf>,
    /// The host's network in place of one of its own.
    #[serde(default)]
    pub host_network: bool,
    /// A root directory in place of namespaces.
    #[serde(default)]
    pub chroot: bool,
    /// Relative to the root of each hierarchy.
    pub cgroup: String,
    pub limits: Limits,
    pub capabilities: Vec<String>,
    pub readonly_rootfs: bool,
    pub no_new_privs: bool,
    pub seccomp: Seccomp,
    /// A descriptor when true.
    pub stdin: bool,
    pub stdout: Sink,
    pub stderr: Sink,
    pub terminal: bool,
    pub rlimits: Vec<Rlimit>,
    pub sysctls: BTreeMap<String, String>,
    pub oom_score_adj: Option<i32>,
    pub lifetime: Lifetime,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BindOrTmpfs {
    pub target: String,
    /// `None`: a tmpfs.
    pub source: Option<PathBuf>,
    pub readonly: bool,
    pub size: Option<u64>,
    pub mode: Option<u32>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    /// The container's own directory.
    pub directory: PathBuf,
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub user: Option<String>,
    pub stdin: bool,
    pub terminal: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// With a descriptor of the process, and the terminal where one was asked for.
    Started {
        pid: i32,
        at: i64,
    },
    Exited(Exit),
    Failed(Failure),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The program cannot be started.
    Program {
        program: String,
        reason: String,
        code: i32,
    },
    /// What was asked for is wrong.
    Invalid(String),
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Other(error.to_string())
    }
}

/// The helper's end. The server's end speaks the same with tokio.
pub(crate) struct Socket(UnixStream);

impl Socket {
    /// Takes standard input, and leaves `/dev/null` in its place.
    pub(crate) fn from_stdin() -> io::Result<Self> {
        let socket = super::duplicate(io::stdin())?;
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        // SAFETY: both are open descriptors; 0 stays open, it only refers to something else now.
        if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(UnixStream::from(socket)))
    }

    /// `None` at the end of the stream.
    pub(crate) fn receive_request(&mut self) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
        let mut length = [0; 4];
        let (read, descriptors) = receive_some(self.0.as_fd(), &mut length)?;
        if read == 0 {
            return Ok(None);
        }
        self.0.read_exact(&mut length[read..])?;
        let length = checked(length)?;
        let mut text = vec![0; length];
        self.0.read_exact(&mut text)?;
        Ok(Some((serde_json::from_slice(&text)?, descriptors)))
    }

    pub(crate) fn send(&mut self, reply: &Reply, descriptors: &[impl AsFd]) -> io::Result<()> {
        let message = encode(reply)?;
        let sent = send_some(self.0.as_fd(), &message, descriptors)?;
        self.0.write_all(&message[sent..])
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too large"));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

pub(crate) fn checked(length: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(length) as usize;
    if length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too large"));
    }
    Ok(length)
}

/// Sends what the kernel takes at once, with descriptors beside the first byte.
pub(crate) fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[impl AsFd]) -> io::Result<usize> {
    let raw: Vec<RawFd> = descriptors.iter().map(|d| d.as_fd().as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

pub(crate) fn receive_some(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(bytes)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just put them into our table for us alone.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, descriptors))
}
