//! Connections on which parts of files go from the page cache to the socket by sendfile(2), without passing through this process.
//!
//! The HTTP library writes bytes and knows nothing of files. So a body on such a connection is made of [stand-ins](standin): slices of a
//! region that nobody reads, each of which stands for a piece of a file. [`Wire`], asked to write such a slice, has the kernel send the
//! piece. Only HTTP/1 on [`Listener`]'s connections gets them ([`Direct`]); whatever would look into a body must not be put around those.

mod body;
mod patience;
mod serve;
mod standin;

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener as Accepts},
};
use nix::sys::socket::{Backlog, MsgFlags, sendmsg};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpStream},
};

pub use body::open;
pub use patience::Patience;
use patience::{Greeting, Progress};
pub use serve::serve;

/// Accepts connections that can send files. Use with [`serve`], or with `Router::into_make_service_with_connect_info::<Direct>()`.
pub struct Listener {
    listener: TcpListener,
    patience: Patience,
}

/// That a request came over a connection that can send files.
#[derive(Debug, Clone, Copy)]
pub struct Direct(());

impl Listener {
    pub fn new(listener: TcpListener) -> Self {
        Self::with_patience(listener, Patience::default())
    }

    pub fn with_patience(listener: TcpListener, patience: Patience) -> Self {
        // Bound with room for 128 that nobody took yet: clients that all come at once would be sent away, for a second or for good.
        if let Err(error) = nix::sys::socket::listen(&listener, Backlog::MAXCONN) {
            tracing::debug!(%error, "cannot let more connections wait");
        }
        Self { listener, patience }
    }
}

impl Accepts for Listener {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        let (stream, address) = Accepts::accept(&mut self.listener).await;
        // Answers are written whole: there is nothing to gather, and the last piece of one must not wait for the client's word.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot turn off the gathering of small packets");
        }
        (
            Wire { stream, greeting: Greeting::new(self.patience.head), progress: Progress::new(self.patience.write) },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Listener>> for Direct {
    fn connect_info(_: IncomingStream<'_, Listener>) -> Self {
        Self(())
    }
}

/// A connection. It knows what stands for pieces of files.
pub struct Wire {
    stream: TcpStream,
    greeting: Greeting,
    progress: Progress,
}

impl Wire {
    /// Writes when the socket takes something.
    fn poll(&self, cx: &mut Context<'_>, mut write: impl FnMut() -> io::Result<usize>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, &mut write) {
                // The socket is full after all.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Writes, and gives up on a client that takes nothing for too long.
    fn poll_patiently(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.as_mut().poll_bytes(cx, bufs) {
            Poll::Pending => self.progress.poll_given_up(cx).map(Err),
            done => {
                self.progress.made();
                done
            }
        }
    }

    fn poll_bytes(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let plain = bufs.iter().take_while(|buf| standin::piece(buf).is_none()).count();
        if plain == bufs.len() {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        if bufs[..plain].iter().any(|buf| !buf.is_empty()) {
            // The head of an answer goes out with what follows it.
            let more = MsgFlags::from_bits_retain(libc::MSG_MORE);
            let send = || sendmsg::<()>(self.stream.as_raw_fd(), &bufs[..plain], &[], more, None);
            return self.poll(cx, || send().map_err(io::Error::from));
        }
        let Some((file, offset)) = standin::piece(&bufs[plain]) else { return Poll::Ready(Ok(0)) };
        let length = bufs[plain].len();
        self.poll(cx, || {
            let mut from = libc::off_t::try_from(offset).map_err(io::Error::other)?;
            // SAFETY: both descriptors are open for the time of the call, and `from` outlives it.
            let sent = unsafe { libc::sendfile(self.stream.as_raw_fd(), file.as_raw_fd(), &mut from, length) };
            match usize::try_from(sent) {
                Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was")),
                Ok(sent) => Ok(sent),
                Err(_) => Err(io::Error::last_os_error()),
            }
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => self.greeting.poll_given_up(cx).map(Err),
            done => {
                self.greeting.read(&buf.filled()[before..]);
                done
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_patiently(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_patiently(cx, bufs)
    }

    /// Always: else the HTTP library would copy slices together, and copy what nobody may read.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
