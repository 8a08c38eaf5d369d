//! A part of a plain file as a body: by stand-ins where the connection knows them, else read in large pieces.

use std::{
    cell::RefCell,
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::PathBuf,
    sync::Arc,
};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use records::Digest;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::standin;
use crate::{Error, Result};

/// How much is read at once where bytes are sent.
const PIECE: u64 = 256 << 10;

/// A file that is open to be sent.
pub struct Content {
    file: Arc<File>,
    /// Bytes of the whole.
    pub size: u64,
}

/// Opens a blob's file; `None` when it is not there.
pub async fn open(path: PathBuf, digest: &Digest) -> Result<Option<Content>> {
    let opened = spawn_blocking(move || {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Content { file: Arc::new(file), size })
    });
    match opened.await.map_err(over) {
        Ok(Ok(content)) => Ok(Some(content)),
        Ok(Err(e)) | Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(Err(e)) | Err(e) => Err(Error::io(format!("read blob {digest}"), e)),
    }
}

impl Content {
    /// The bytes from `offset` on, `length` of them. `direct` when the connection sends files itself.
    pub fn body(self, offset: u64, length: u64, direct: bool) -> Body {
        let start = Sending { file: self.file, at: offset, left: length, next: None };
        Body::from_stream(stream::unfold(Some(start), move |sending| async move {
            let mut sending = sending.filter(|sending| sending.left > 0)?;
            match sending.piece(direct).await {
                Ok(piece) => Some((Ok(piece), Some(sending))),
                Err(e) => Some((Err::<Bytes, io::Error>(e), None)),
            }
        }))
    }
}

struct Sending {
    file: Arc<File>,
    at: u64,
    left: u64,
    /// The next piece, while the last one is sent.
    next: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Sending {
    async fn piece(&mut self, direct: bool) -> io::Result<Bytes> {
        let stand_in = if direct && self.next.is_none() { self.stand_in().await? } else { None };
        let piece = match stand_in {
            Some(piece) => piece,
            None => self.read().await?,
        };
        self.at += piece.len() as u64;
        self.left -= piece.len() as u64;
        Ok(piece)
    }

    async fn stand_in(&self) -> io::Result<Option<Bytes>> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(standin::LONGEST);
        let Some(piece) = standin::stand_in(&self.file, self.at, length) else { return Ok(None) };
        if !is_in_memory(&self.file, self.at, length) {
            // Sending must not wait for the disk: that would hold up every connection of the thread.
            let (file, at) = (self.file.clone(), self.at);
            spawn_blocking(move || bring(&file, at, length)).await.map_err(over)??;
        }
        Ok(Some(piece))
    }

    async fn read(&mut self) -> io::Result<Bytes> {
        let ahead = |at: u64, left: u64| {
            let file = self.file.clone();
            spawn_blocking(move || read(&file, at, left.min(PIECE)))
        };
        let reading = self.next.take().unwrap_or_else(|| ahead(self.at, self.left));
        let piece = reading.await.map_err(over)??;
        let read = piece.len() as u64;
        self.next = (self.left > read).then(|| ahead(self.at + read, self.left - read));
        Ok(piece)
    }
}

/// Whether some bytes of the piece, and so most likely all, are in the page cache.
fn is_in_memory(file: &File, at: u64, length: usize) -> bool {
    let last = at + (length as u64).saturating_sub(1);
    [at, at + length as u64 / 2, last].into_iter().all(|at| {
        let mut byte = 0u8;
        let buffer = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let Ok(at) = libc::off_t::try_from(at) else { return false };
        // SAFETY: the descriptor is open and the one buffer is a byte of this frame.
        unsafe { libc::preadv2(file.as_raw_fd(), &raw const buffer, 1, at, libc::RWF_NOWAIT) == 1 }
    })
}

thread_local! {
    static THROWN_AWAY: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 << 10]);
}

/// Has the kernel read the piece.
fn bring(file: &File, mut at: u64, length: usize) -> io::Result<()> {
    THROWN_AWAY.with_borrow_mut(|buffer| {
        let end = at + length as u64;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            match file.read_at(&mut buffer[..most], at) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was")),
                Ok(read) => at += read as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    })
}

/// Exactly so many bytes; fewer are an error, because more were announced.
fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut piece, at)?;
    Ok(piece.into())
}

fn over(error: JoinError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::ConnectInfo, routing::get};
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::registry::http::wire::{Direct, Listener};

    fn content(length: u32) -> Vec<u8> {
        (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    #[tokio::test]
    async fn any_part_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content = content(3_000_000);
        std::fs::write(&path, &content).unwrap();
        let digest = Digest::sha256(&[0; 32]);
        for (offset, length) in [(0, 3_000_000), (1, 10), (5, PIECE), (7, PIECE + 1), (2_999_999, 1), (9, 0)] {
            let body = open(path.clone(), &digest).await.unwrap().unwrap().body(offset, length, false);
            let read = body.collect().await.unwrap().to_bytes();
            assert!(read == content[offset as usize..(offset + length) as usize], "{offset} {length}");
        }
        let short = open(path, &digest).await.unwrap().unwrap().body(0, 3_000_001, false);
        assert!(short.collect().await.is_err(), "less than was announced is an error");
        assert!(open(directory.path().join("none"), &digest).await.unwrap().is_none());
    }

    /// Every part by sendfile, several at once on one connection each, byte for byte.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_sent_by_the_kernel_is_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content = Arc::new(content(5_000_000));
        std::fs::write(&path, &*content).unwrap();
        let answer = move |ConnectInfo(_): ConnectInfo<Direct>, uri: http::Uri| {
            let path = path.clone();
            async move {
                let (offset, length) = uri.query().unwrap().split_once('-').unwrap();
                let (offset, length) = (offset.parse().unwrap(), length.parse::<u64>().unwrap());
                let file = open(path, &Digest::sha256(&[0; 32])).await.unwrap().unwrap();
                ([(http::header::CONTENT_LENGTH, length.to_string())], file.body(offset, length, true))
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(answer));
        let served = tokio::spawn(
            axum::serve(Listener::new(listener), router.into_make_service_with_connect_info::<Direct>()).into_future(),
        );
        let clients = (0..300u64).map(|n| {
            let content = content.clone();
            tokio::spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                for (offset, length) in [(n, 4_000_000 - n * 7), (4_999_999 - n, 1), (n * 11, 1 << 20)] {
                    let asked = format!("GET /?{offset}-{length} HTTP/1.1\r\nHost: x\r\n\r\n");
                    stream.write_all(asked.as_bytes()).await.unwrap();
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let mut body = vec![0; length as usize];
                    stream.read_exact(&mut body).await.unwrap();
                    assert!(body == content[offset as usize..(offset + length) as usize], "{offset} {length}");
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        served.abort();
    }
}
