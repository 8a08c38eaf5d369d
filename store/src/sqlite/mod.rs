//! The log in one SQLite file (write-ahead log, `synchronous=FULL`): what [`Log::append`](crate::Log::append) returned survives loss of power.
//!
//! One task owns the only connection that writes; appends that arrive while it commits go into the next transaction together
//! (group commit), so that the cost of reaching the disk is shared. Watchers who are up to date are served from memory.

mod batch;
mod reader;
mod schema;
mod writer;

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Change, Entry, Error, Kind, Log, Page, Result, Seq, lock,
    tail::{Found, Tail},
};
use reader::Readers;
use writer::{Job, Writer};

/// Appends that may wait for the writer before callers are held back.
const QUEUE: usize = 1024;
/// Connections that read.
const READERS: usize = 3;

/// A [`Log`] in a SQLite file.
pub struct SqliteLog {
    jobs: mpsc::Sender<Job>,
    readers: Readers,
    shared: Arc<Shared>,
}

/// What the writer and the readers both see.
struct Shared {
    tail: RwLock<Tail>,
    head: watch::Sender<Seq>,
}

impl Shared {
    /// A panic elsewhere leaves the tail whole: every change to it is made by one call.
    fn tail(&self) -> std::sync::RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail_mut(&self) -> std::sync::RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqliteLog {
    /// Opens the log at `path`, and makes it if it is not there. Waits up to a second for another process to let go of it, then
    /// `Locked`; `Newer` when a newer version of Shipway wrote it; `Corrupt` when it is not a log of Shipway.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), SqliteSynchronous::Full).await
    }

    /// As [`SqliteLog::open`], for what can be made again: nothing waits for the disk. The log is whole after a loss of power, but its last
    /// entries may be gone.
    pub async fn open_relaxed(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), SqliteSynchronous::Normal).await
    }

    async fn open_with(path: &Path, synchronous: SqliteSynchronous) -> Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let lock = lock::exclusive(Path::new(&beside), path).await?;

        let mut connection = connect(path, Some(synchronous)).await?;
        schema::prepare(&mut connection, path).await?;
        let (head, kinds) = schema::read(&mut connection).await?;
        let readers = Readers::new(path, READERS);

        let shared = Arc::new(Shared { tail: RwLock::new(Tail::new(head, kinds)), head: watch::Sender::new(head) });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(connection, shared.clone(), head, lock);
        tokio::spawn(writer.run(queue));
        Ok(Self { jobs, readers, shared })
    }

    /// Finishes what was begun and lets go of the file; whoever appends afterwards is told that the writer has stopped. Dropping does
    /// the same, a little later.
    pub async fn close(&self) -> Result<()> {
        self.send(|reply| Job::Close { reply }).await
    }

    async fn send<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job) -> Result<T> {
        let stopped = || Error::new(Kind::Io, "the writer of the log has stopped: restart shipway");
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

/// A connection with the settings that all of them share; one that reads only is told nothing of how to write.
async fn connect(path: &Path, writes: Option<SqliteSynchronous>) -> Result<SqliteConnection> {
    let reads_only = writes.is_none();
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(!reads_only)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(writes.unwrap_or(SqliteSynchronous::Full))
        .foreign_keys(false)
        .statement_cache_capacity(32)
        .pragma("cache_size", if reads_only { "-512" } else { "-2048" })
        .pragma("journal_size_limit", "16777216")
        .pragma("query_only", if reads_only { "ON" } else { "OFF" })
        .thread_name(move |_| if reads_only { "records-read" } else { "records-write" }.to_owned())
        .disable_statement_logging();
    options.connect().await.map_err(|e| failed(e, format!("cannot open {}", path.display())))
}

#[async_trait]
impl Log for SqliteLog {
    async fn append(&self, changes: Vec<Change>) -> Result<Seq> {
        if changes.is_empty() {
            return Ok(*self.shared.head.borrow());
        }
        self.send(|reply| Job::Append { changes, reply }).await
    }

    async fn get(&self, kind: &str, key: &str) -> Result<Option<Entry>> {
        self.readers.get(kind, key).await
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        self.readers.list(kind, prefix, after, limit).await
    }

    async fn changes(&self, kind_prefix: &str, after: Seq, limit: usize) -> Result<Vec<Entry>> {
        let found = self.shared.tail().changes(kind_prefix, after, limit)?;
        match found {
            Found::Here(entries) => Ok(entries),
            Found::Older(kinds) => {
                let entries = self.readers.changes(&kinds, after, limit).await?;
                // What was forgotten while it was being read may be missing from it.
                self.shared.tail().check(kind_prefix, after)?;
                Ok(entries)
            }
        }
    }

    async fn kinds(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.shared.tail().kinds(prefix))
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.shared.head.subscribe()
    }

    async fn compact(&self, kind_prefix: &str, upto: Seq) -> Result<()> {
        let kinds = self.shared.tail().kinds(kind_prefix);
        for kind in kinds {
            let mut from = 0;
            // In pieces, so that appends are not held up.
            while let Some(next) = self.send(|reply| Job::Compact { kind: kind.clone(), from, upto, reply }).await? {
                from = next;
            }
        }
        Ok(())
    }
}

/// Says what SQLite's error means for a caller.
fn failed(error: sqlx::Error, doing: impl Into<String>) -> Error {
    let doing = doing.into();
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<i32>().ok());
    let full = matches!(&error, sqlx::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull);
    // The low byte of an extended result code is the primary one: https://sqlite.org/rescode.html
    let (kind, way_out) = match code.map(|code| code & 0xff) {
        Some(13) => (Kind::Full, ": the disk is full; free some space and try again"),
        _ if full => (Kind::Full, ": the disk is full; free some space and try again"),
        Some(11 | 26) => (Kind::Corrupt, ": the file is damaged or is no database; restore it from a backup"),
        Some(5 | 6) => (Kind::Locked, ": another process is using the file; stop it"),
        _ => (Kind::Io, ""),
    };
    Error::new(kind, format!("{doing}{way_out}")).caused(error)
}
