//! What flows in and out of the containers of a pod: logs, commands, ports.

mod forward;
mod session;
mod spdy;
mod upgrade;
mod websocket;

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub(super) use upgrade::upgrade;

use crate::Result;

/// Which part of a container's log is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogOptions {
    /// Stay and send what is written from now on, until the container ends.
    pub follow: bool,
    /// The container before the last restart.
    pub previous: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// Only lines written at this time or later.
    pub since: Option<Timestamp>,
    /// Put the time (RFC 3339 with nanoseconds) and a space before each line.
    pub timestamps: bool,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// What a command is to be started with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecOptions {
    /// The program and its arguments; empty to attach to the container's own process.
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 0 for success; 128 + n when signal n ended it.
    pub code: i32,
}

/// A command that runs in a container. Dropping it ends the command.
pub struct Process {
    /// Closed when the sender is dropped. Present when asked for.
    pub stdin: Option<mpsc::Sender<Bytes>>,
    /// Ends when the command has closed it. With a terminal, this is all output.
    pub stdout: Option<mpsc::Receiver<Bytes>>,
    pub stderr: Option<mpsc::Receiver<Bytes>>,
    /// Takes new sizes of the terminal.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// Completes when the command has ended.
    pub exit: BoxFuture<'static, Result<Exit>>,
}

/// A connection to a port.
pub trait Connection: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Connection for T {}

/// What the API needs from whoever runs the containers. The API has checked that the pod is there and has such a container.
#[async_trait]
pub trait PodStreams: Send + Sync + 'static {
    /// A container's log as it was written. An error when there is none yet.
    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<Bytes>>>;

    /// Starts a command in a running container, or attaches to its process when the command is empty.
    async fn exec(&self, namespace: &str, pod: &str, container: &str, options: ExecOptions) -> Result<Process>;

    /// Connects to a port of a running pod.
    async fn connect(&self, namespace: &str, pod: &str, port: u16) -> Result<Pin<Box<dyn Connection>>>;
}
