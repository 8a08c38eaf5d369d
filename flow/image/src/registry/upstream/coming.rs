//! A blob on its way from another registry: kept as it arrives, and handed out to everybody who asks while it does.
//!
//! It arrives in an upload of our own. Readers follow the upload's file, but for the last byte, which they get when the digest has turned out
//! right and the blob is kept: what is wrong breaks off for every reader and leaves nothing behind.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use records::Digest;
use tokio::{sync::watch, task::spawn_blocking};

use crate::{
    Error, Kind, Reference, Result,
    client::{Client, RemoteBlob},
    hash::Algorithm,
    registry::{Registry, blobs::CHUNK},
};

/// How often a connection that broke off is taken up again.
const AGAIN: usize = 3;

/// How far it has come.
#[derive(Default)]
pub(super) struct Progress {
    /// Bytes of the whole, and the file they arrive in; known when enough has arrived to be worth following.
    begun: Option<(u64, Arc<File>)>,
    received: u64,
    /// Set when it is kept, or will not be.
    outcome: Option<Result<()>>,
}

/// Something that arrives.
#[derive(Clone)]
pub struct Coming {
    progress: watch::Receiver<Progress>,
    size: u64,
    file: Arc<File>,
}

impl Coming {
    /// Waits until there is something to follow; `None` when it is here as a whole by then.
    pub(super) async fn follow(progress: watch::Receiver<Progress>) -> Result<Option<Self>> {
        let mut waiting = progress.clone();
        let found = waiting.wait_for(|progress| progress.begun.is_some() || progress.outcome.is_some()).await;
        let (size, file) = match found {
            Err(_) => return Err(stopping()),
            Ok(found) => match (&found.outcome, &found.begun) {
                (Some(Ok(())), _) => return Ok(None),
                (Some(Err(error)), _) => return Err(error.clone()),
                (None, Some(begun)) => begun.clone(),
                (None, None) => return Err(stopping()),
            },
        };
        Ok(Some(Self { progress, size, file }))
    }

    /// Waits until it is here as a whole.
    pub(super) async fn whole(mut progress: watch::Receiver<Progress>) -> Result<()> {
        match progress.wait_for(|progress| progress.outcome.is_some()).await {
            Ok(found) => found.outcome.clone().unwrap_or_else(|| Err(stopping())),
            Err(_) => Err(stopping()),
        }
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// `length` bytes from `offset` on, as they arrive. It breaks off when the whole turns out wrong.
    pub fn read(self, offset: u64, length: u64) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        stream::unfold(Some((self, offset, length)), |state| async {
            let (mut coming, at, left) = state.filter(|(_, _, left)| *left > 0)?;
            match coming.piece(at, left).await {
                Ok(piece) => {
                    let read = piece.len() as u64;
                    Some((Ok(piece), Some((coming, at + read, left - read))))
                }
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn piece(&mut self, at: u64, left: u64) -> Result<Bytes> {
        let last = self.size.saturating_sub(1);
        let there = |progress: &Progress| match progress.outcome {
            Some(_) => self.size,
            None => progress.received.min(last),
        };
        let until = match self.progress.wait_for(|progress| there(progress) > at || progress.outcome.is_some()).await {
            Ok(progress) => match &progress.outcome {
                Some(Err(error)) => return Err(error.clone()),
                _ => there(&progress),
            },
            Err(_) => return Err(stopping()),
        };
        let length = until.saturating_sub(at).min(left).min(CHUNK as u64);
        let file = self.file.clone();
        let read = spawn_blocking(move || {
            let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut piece, at)?;
            Ok(Bytes::from(piece))
        });
        read.await.map_err(io::Error::other).flatten().map_err(|e| Error::io("read what is arriving", e))
    }
}

fn stopping() -> Error {
    Error::new(Kind::Io, "the fetch was cut short: shipway is stopping")
}

/// Fetches a blob into `repository`, and says how far it is.
pub(super) async fn fetch(
    registry: &Registry,
    client: &Client,
    remote: &Reference,
    repository: &str,
    digest: &Digest,
    progress: &watch::Sender<Progress>,
) -> Result<()> {
    let mut blob = client.blob_from(remote, digest, 0).await?;
    if let Some(size) = blob.size {
        registry.check_blob_size(size)?;
    }
    let _room = registry.room_for_blob(repository, digest, blob.size.unwrap_or(0)).await?;
    let id = registry.start_upload(repository, Algorithm::of(digest)).await?;
    let fetched = async {
        let (mut received, mut again) = (0, 0);
        let size = blob.size;
        loop {
            match receive(registry, repository, &id, &mut blob, &mut received, progress).await {
                Ok(()) if size.is_none_or(|size| received >= size) => break,
                Ok(()) => {}
                Err(error) if error.kind != Kind::Remote || received == 0 => return Err(error),
                Err(error) => tracing::info!(%remote, %digest, received, %error, "the fetch broke off"),
            }
            again += 1;
            if again > AGAIN {
                let message = format!("blob {digest} of {remote} broke off after {received} bytes, {again} times");
                return Err(Error::new(Kind::Remote, message));
            }
            blob = client.blob_from(remote, digest, received).await?;
        }
        registry.finish_upload(repository, &id, digest, Some((received, 0)), stream::empty()).await.map(drop)
    };
    let done = fetched.await;
    if done.is_err() {
        // It may have ended already.
        let _ = registry.cancel_upload(repository, &id).await;
    }
    done
}

async fn receive(
    registry: &Registry,
    repository: &str,
    id: &str,
    blob: &mut RemoteBlob,
    received: &mut u64,
    progress: &watch::Sender<Progress>,
) -> Result<()> {
    loop {
        let (mut waiting, mut bytes, mut end) = (Vec::new(), 0, None);
        while bytes < CHUNK {
            match blob.chunks.next().await {
                Some(Ok(chunk)) => {
                    bytes += chunk.len();
                    waiting.push(Ok(chunk));
                }
                Some(Err(error)) => end = Some(Err(error)),
                None => end = Some(Ok(())),
            }
            if end.is_some() {
                break;
            }
        }
        if !waiting.is_empty() {
            *received = registry.append_upload(repository, id, None, stream::iter(waiting)).await?;
        }
        // What is small enough to be here with the first piece is handed out when it is kept.
        let file = match (&end, blob.size) {
            (None, Some(size)) if progress.borrow().begun.is_none() => {
                Some((size, Arc::new(registry.upload_file(id).await?)))
            }
            _ => None,
        };
        progress.send_modify(|progress| {
            progress.received = *received;
            if file.is_some() {
                progress.begun = file;
            }
        });
        if let Some(end) = end {
            return end;
        }
    }
}

/// Says how it ended.
pub(super) fn end(progress: &watch::Sender<Progress>, outcome: Result<()>) {
    progress.send_modify(|progress| progress.outcome = Some(outcome));
}
