//! The server's end of the socket to a helper.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    process::Child,
};

use crate::helper::wire::{self, Reply, Request};

pub(crate) struct Channel {
    socket: UnixStream,
    child: Child,
}

impl Channel {
    pub(super) fn new(socket: UnixStream, child: Child) -> Self {
        Self { socket, child }
    }

    pub(super) async fn send(&mut self, request: &Request, descriptors: &[OwnedFd]) -> io::Result<()> {
        let message = wire::encode(request)?;
        let socket = &self.socket;
        let sent =
            socket.async_io(Interest::WRITABLE, || wire::send_some(socket.as_fd(), &message, descriptors)).await?;
        self.socket.write_all(message.get(sent..).unwrap_or_default()).await
    }

    /// `None` when the helper has ended.
    pub(super) async fn receive(&mut self) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        let mut length = [0; 4];
        let socket = &self.socket;
        let received = socket.async_io(Interest::READABLE, || wire::receive_some(socket.as_fd(), &mut length)).await;
        let (read, descriptors) = match received {
            Ok((0, _)) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            received => received?,
        };
        if let Some(rest) = length.get_mut(read..) {
            self.socket.read_exact(rest).await?;
        }
        let mut text = vec![0; wire::checked(length)?];
        self.socket.read_exact(&mut text).await?;
        Ok(Some((serde_json::from_slice(&text)?, descriptors)))
    }

    /// Closes the socket, which tells the helper that nobody listens, and waits for its end.
    pub(super) async fn finish(self) {
        let Self { socket, mut child } = self;
        drop(socket);
        let _ = child.wait().await;
    }
}
