//! Uploads in parts: each is a file of its own until it is finished, so that it can go on after a lost connection or a restart.
//!
//! `<id>.json` says what the upload is for and `<id>.data` holds what has arrived; both are made when the first part arrives, for most
//! uploads come in one piece and need neither. The bytes of a part that broke off are kept: the client asks how far it got.

mod growing;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures::{Stream, StreamExt};
use records::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use store::Naming;
use tokio::fs;

use self::growing::Growing;
use super::{Registry, StoredBlob};
use crate::{Error, Kind, Result, hash::Algorithm, reference::check_repository};

/// How long a request waits for another one on the same upload, for example one whose client went away.
const PATIENCE: Duration = Duration::from_secs(10);
/// When there are too many, one that has lain idle for so many seconds makes room: that has received nothing, or something.
const IDLE_EMPTY: i64 = 60;
const IDLE: i64 = 120;
/// How often abandoned uploads are looked for, in seconds.
const SWEEP: i64 = 600;

pub(super) struct Uploads {
    directory: PathBuf,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    swept: AtomicI64,
}

/// What is written down about an upload.
#[derive(Serialize, Deserialize)]
struct Purpose {
    repository: String,
    algorithm: String,
    started: Timestamp,
}

struct Session {
    repository: String,
    started: Timestamp,
    touched: AtomicI64,
    /// Whether it has files.
    kept: AtomicBool,
    state: tokio::sync::Mutex<State>,
}

struct State {
    file: Growing,
    /// Set when it ended, for those who waited for it meanwhile.
    over: bool,
}

impl Uploads {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, sessions: Mutex::default(), swept: AtomicI64::new(i64::MIN) }
    }

    fn data(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.data"))
    }

    fn purpose(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        // The map is whole at every moment, so a panic elsewhere while it was held does no harm.
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn forget(&self, id: &str) {
        if self.sessions().remove(id).is_some_and(|session| !session.kept.load(Ordering::Relaxed)) {
            return;
        }
        let paths = [self.data(id), self.purpose(id)];
        let removed = tokio::task::spawn_blocking(move || {
            for path in paths {
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %path.display(), %error, "cannot remove an upload");
                }
            }
        });
        if removed.await.is_err() {
            tracing::warn!("the registry is stopping: an upload is removed when it has expired");
        }
    }
}

impl Registry {
    /// Begins an upload into `repository` and returns its id.
    pub async fn start_upload(&self, repository: &str, algorithm: Algorithm) -> Result<String> {
        check_repository(repository)?;
        let uploads = &self.inner.uploads;
        let now = self.now();
        self.sweep_uploads(now).await;
        if uploads.sessions().len() >= self.limits().uploads {
            self.expire_uploads(now).await?;
            if uploads.sessions().len() >= self.limits().uploads && !self.make_room(now).await {
                return Err(Error::new(
                    Kind::TooMany,
                    format!("{} uploads are under way, the most at one time: try again later", self.limits().uploads),
                ));
            }
        }
        let id = new_id()?;
        let state = State { file: Growing::new(uploads.data(&id), algorithm), over: false };
        let session = Session {
            repository: repository.into(),
            started: now,
            touched: AtomicI64::new(now.as_second()),
            kept: AtomicBool::new(false),
            state: tokio::sync::Mutex::new(state),
        };
        uploads.sessions().insert(id.clone(), Arc::new(session));
        Ok(id)
    }

    /// What has arrived, to be read while more does; there must be something.
    pub(super) async fn upload_file(&self, id: &str) -> Result<std::fs::File> {
        let path = self.inner.uploads.data(id);
        let opened =
            tokio::task::spawn_blocking(move || std::fs::File::open(&path).map_err(|e| cannot("open", &path, e)));
        opened.await.map_err(|e| Error::new(Kind::Io, "the registry is stopping").caused(e))?
    }

    /// How many bytes of the upload have arrived.
    pub async fn upload_size(&self, repository: &str, id: &str) -> Result<u64> {
        let session = self.session(repository, id).await?;
        let state = self.enter(id, &session).await?;
        Ok(state.file.received())
    }

    /// Takes the next part of an upload. With `range` (first byte and length) the part must begin where the last one ended
    /// (`RangeInvalid`) and have that length (`SizeInvalid`, and nothing of it is kept). Returns the bytes that have arrived in all.
    pub async fn append_upload(
        &self,
        repository: &str,
        id: &str,
        range: Option<(u64, u64)>,
        chunks: impl Stream<Item = Result<Bytes>> + Send + Unpin,
    ) -> Result<u64> {
        let session = self.session(repository, id).await?;
        let mut state = self.enter(id, &session).await?;
        self.receive(id, &session, &mut state, range, chunks).await?;
        session.touched.store(self.now().as_second(), Ordering::Relaxed);
        Ok(state.file.received())
    }

    /// Takes the last part, and makes what has arrived a blob of `repository` if its digest is `digest`; else the upload is over.
    pub async fn finish_upload(
        &self,
        repository: &str,
        id: &str,
        digest: &Digest,
        range: Option<(u64, u64)>,
        chunks: impl Stream<Item = Result<Bytes>> + Send + Unpin,
    ) -> Result<StoredBlob> {
        let session = self.session(repository, id).await?;
        let mut state = self.enter(id, &session).await?;
        let _pin = self.pin([digest]).await;
        if state.file.received() == 0 && range.is_none() {
            // All of it comes at once: straight into the store. When it breaks off nothing was received, and the upload goes on.
            match self.place_stream(chunks, digest).await {
                Ok((stored, naming)) => {
                    self.link_placed(repository, &stored, naming).await?;
                    state.over = true;
                    self.inner.uploads.forget(id).await;
                    return Ok(stored);
                }
                Err(error) => {
                    if error.kind == Kind::DigestInvalid {
                        state.over = true;
                        self.inner.uploads.forget(id).await;
                    }
                    return Err(error);
                }
            }
        }
        self.receive(id, &session, &mut state, range, chunks).await?;
        let (stored, naming) = match self.keep_upload(id, &mut state, digest).await {
            Err(error) if error.kind == Kind::DigestInvalid => {
                state.over = true;
                self.inner.uploads.forget(id).await;
                return Err(error);
            }
            other => other?,
        };
        self.link_placed(repository, &stored, naming).await?;
        state.over = true;
        self.inner.uploads.forget(id).await;
        Ok(stored)
    }

    /// Brings what has arrived into the store: the file itself where its hash is known and the store can take it over.
    async fn keep_upload(&self, id: &str, state: &mut State, digest: &Digest) -> Result<(StoredBlob, Naming)> {
        let path = self.inner.uploads.data(id);
        let received = state.file.received();
        if Algorithm::of(digest) == state.file.algorithm() {
            let found = state.file.hash().await.map_err(|e| cannot("write", &path, e))?.finish();
            if found != *digest {
                return Err(wrong_digest(&found, digest));
            }
            // The content may be there from an earlier push, or from a request like this one whose client went away.
            let adopted = match received {
                0 => None,
                _ => self.blobs().adopt_soon(&path, digest).await?,
            };
            let there = adopted.is_none() && self.blobs().size(digest).await? == Some(received);
            if let Some(naming) = adopted.or_else(|| there.then(Naming::done)) {
                return Ok((StoredBlob { digest: found, size: received }, naming));
            }
        }
        let stored = match fs::File::open(&path).await {
            Ok(file) => self.store_reader(file, Some(digest)).await?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.store_reader(tokio::io::empty(), Some(digest)).await?
            }
            Err(e) => return Err(cannot("open", &path, e)),
        };
        Ok((stored, Naming::done()))
    }

    /// Ends an upload and throws away what has arrived.
    pub async fn cancel_upload(&self, repository: &str, id: &str) -> Result<()> {
        let session = self.session(repository, id).await?;
        let mut state = self.enter(id, &session).await?;
        state.over = true;
        self.inner.uploads.forget(id).await;
        Ok(())
    }

    /// Throws away uploads that nobody has touched for [`super::Limits::upload_expiry`], also those of an earlier process.
    pub async fn expire_uploads(&self, now: Timestamp) -> Result<()> {
        let uploads = &self.inner.uploads;
        uploads.swept.store(now.as_second(), Ordering::Relaxed);
        let oldest = now.as_second() - i64::try_from(self.limits().upload_expiry.as_secs()).unwrap_or(i64::MAX);
        let idle: Vec<_> = {
            let sessions = uploads.sessions();
            let idle = sessions.iter().filter(|(_, session)| session.touched.load(Ordering::Relaxed) <= oldest);
            idle.map(|(id, session)| (id.clone(), session.clone())).collect()
        };
        for (id, session) in idle {
            // One that is held is in use.
            if let Ok(mut state) = session.state.try_lock() {
                state.over = true;
                uploads.forget(&id).await;
            }
        }
        let mut entries = match fs::read_dir(&uploads.directory).await {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(cannot("read", &uploads.directory, e)),
        };
        while let Some(entry) = entries.next_entry().await.map_err(|e| cannot("read", &uploads.directory, e))? {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".json")).filter(|id| is_id(id)) else {
                continue;
            };
            if !uploads.sessions().contains_key(id)
                && read_purpose(&entry.path()).await.is_none_or(|purpose| purpose.started.as_second() <= oldest)
            {
                uploads.forget(id).await;
            }
        }
        Ok(())
    }

    /// Ends the upload that matters least: whoever begins uploads and leaves them keeps nobody out for long.
    async fn make_room(&self, now: Timestamp) -> bool {
        let mut idle: Vec<_> = {
            let sessions = self.inner.uploads.sessions();
            let all = sessions.iter().map(|(id, session)| {
                let (kept, touched) = (session.kept.load(Ordering::Relaxed), session.touched.load(Ordering::Relaxed));
                (kept, touched, id.clone(), session.clone())
            });
            let limit = |kept: bool| now.as_second() - if kept { IDLE } else { IDLE_EMPTY };
            all.filter(|(kept, touched, ..)| *touched <= limit(*kept)).collect()
        };
        idle.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        for (_, _, id, session) in idle {
            // One that is held is in use.
            if let Ok(mut state) = session.state.try_lock() {
                state.over = true;
                self.inner.uploads.forget(&id).await;
                return true;
            }
        }
        false
    }

    async fn sweep_uploads(&self, now: Timestamp) {
        let last = self.inner.uploads.swept.load(Ordering::Relaxed);
        if now.as_second().saturating_sub(last) >= SWEEP
            && let Err(error) = self.expire_uploads(now).await
        {
            tracing::warn!(%error, "cannot look for abandoned uploads");
        }
    }

    async fn session(&self, repository: &str, id: &str) -> Result<Arc<Session>> {
        check_repository(repository)?;
        if !is_id(id) {
            return Err(unknown(id));
        }
        let live = self.inner.uploads.sessions().get(id).cloned();
        let session = match live {
            Some(session) => session,
            None => self.resume(id).await?,
        };
        if session.repository == repository { Ok(session) } else { Err(unknown(id)) }
    }

    /// Takes up an upload of an earlier process.
    async fn resume(&self, id: &str) -> Result<Arc<Session>> {
        let uploads = &self.inner.uploads;
        let purpose = read_purpose(&uploads.purpose(id)).await.ok_or_else(|| unknown(id))?;
        let path = uploads.data(id);
        let file = Growing::resume(path.clone(), purpose.algorithm.parse()?).await;
        let file = file.map_err(|e| cannot("read", &path, e))?;
        let session = Session {
            repository: purpose.repository,
            started: purpose.started,
            touched: AtomicI64::new(self.now().as_second()),
            kept: AtomicBool::new(true),
            state: tokio::sync::Mutex::new(State { file, over: false }),
        };
        // Another request may have been quicker; then its session counts.
        Ok(uploads.sessions().entry(id.to_owned()).or_insert_with(|| Arc::new(session)).clone())
    }

    async fn enter<'a>(&self, id: &str, session: &'a Session) -> Result<tokio::sync::MutexGuard<'a, State>> {
        let Ok(mut state) = tokio::time::timeout(PATIENCE, session.state.lock()).await else {
            return Err(Error::new(Kind::UploadInvalid, format!("upload {id} is being written by another request")));
        };
        if state.over {
            return Err(unknown(id));
        }
        // A request that went away may have left a write under way.
        if let Err(error) = state.file.settle().await {
            state.over = true;
            self.inner.uploads.forget(id).await;
            return Err(Error::io(format!("write upload {id}"), error));
        }
        Ok(state)
    }

    async fn receive(
        &self,
        id: &str,
        session: &Session,
        state: &mut State,
        range: Option<(u64, u64)>,
        mut chunks: impl Stream<Item = Result<Bytes>> + Send + Unpin,
    ) -> Result<()> {
        let start = state.file.received();
        if let Some((first, _)) = range
            && first != start
        {
            return Err(Error::new(
                Kind::RangeInvalid,
                format!("upload {id} has {start} bytes: the next part must begin at {start}, not {first}"),
            ));
        }
        let failed = |e| Error::io(format!("write upload {id}"), e);
        let before = state.file.hash().await.map_err(failed)?;
        let mut failure = None;
        while let Some(chunk) = chunks.next().await {
            let taken = match chunk {
                Ok(chunk) => {
                    let received = state.file.received() + chunk.len() as u64;
                    match self.check_blob_size(received) {
                        Ok(()) if range.is_some_and(|(_, length)| received - start > length) => {
                            Err(wrong_length(range))
                        }
                        Ok(()) => self.take(id, session, state, chunk).await,
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                failure = Some(error);
                break;
            }
        }
        if failure.is_none() && range.is_some_and(|(_, length)| state.file.received() - start != length) {
            failure = Some(wrong_length(range));
        }
        // However it ended: what the client is told has arrived is in the file.
        if let Err(error) = state.file.settle().await {
            failure = Some(failed(error));
        }
        let Some(error) = failure else { return Ok(()) };
        match error.kind {
            Kind::SizeInvalid => {
                let path = self.inner.uploads.data(id);
                state.file.cut(start, before).await.map_err(|e| cannot("shorten", &path, e))?;
            }
            // What the file holds is no longer certain.
            Kind::Io | Kind::Store(_) => {
                state.over = true;
                self.inner.uploads.forget(id).await;
            }
            _ => {}
        }
        Err(error)
    }

    async fn take(&self, id: &str, session: &Session, state: &mut State, chunk: Bytes) -> Result<()> {
        let path = self.inner.uploads.data(id);
        if !session.kept.load(Ordering::Relaxed) {
            self.write_purpose(id, session, state.file.algorithm()).await?;
        }
        state.file.push(chunk).await.map_err(|e| cannot("write", &path, e))
    }

    /// Writes down what the upload is for, so that it can go on after a restart.
    async fn write_purpose(&self, id: &str, session: &Session, algorithm: Algorithm) -> Result<()> {
        let uploads = &self.inner.uploads;
        let (repository, started) = (session.repository.clone(), session.started);
        let purpose = Purpose { repository, algorithm: algorithm.to_string(), started };
        let text = serde_json::to_vec(&purpose)
            .map_err(|e| Error::new(Kind::Malformed, "cannot describe an upload").caused(e))?;
        // Before there can be any: whoever ends it from now on removes them.
        session.kept.store(true, Ordering::Relaxed);
        let (directory, path) = (uploads.directory.clone(), uploads.purpose(id));
        let written = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&directory).map_err(|e| cannot("make", &directory, e))?;
            std::fs::write(&path, text).map_err(|e| cannot("write", &path, e))
        });
        written.await.map_err(|e| Error::new(Kind::Io, "the registry is stopping").caused(e))?
    }
}

async fn read_purpose(path: &Path) -> Option<Purpose> {
    serde_json::from_slice(&fs::read(path).await.ok()?).ok()
}

/// A random UUID (version 4).
fn new_id() -> Result<String> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|e| Error::new(Kind::Io, "no random numbers are to be had").caused(e))?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = HEXLOWER.encode(&bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

fn unknown(id: &str) -> Error {
    let shown: String = id.chars().take(60).collect();
    Error::new(
        Kind::UploadUnknown,
        format!("there is no upload `{shown}`: it ended, expired or never began; begin anew"),
    )
}

fn wrong_digest(found: &Digest, expected: &Digest) -> Error {
    Error::new(Kind::DigestInvalid, format!("the content has digest {found}, not {expected}; the upload is over"))
}

fn wrong_length(range: Option<(u64, u64)>) -> Error {
    let length = range.map_or(0, |(_, length)| length);
    Error::new(Kind::SizeInvalid, format!("the part does not have the {length} bytes that its range announces"))
}

fn cannot(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("{what} {}", path.display()), error)
}
