//! The registry: repositories of manifests, tags and blobs over a log and a blob store, independent of HTTP.
//!
//! Reads and writes records under the kinds `registry/…` and blobs; keeps unfinished uploads as files of its own. Content is stored
//! before the record that names it, and all records of one push are one batch: a reader never sees a tag without its manifest or a
//! manifest without its blobs, and what was acknowledged survives `kill -9`. Content is deleted only by [`Registry::clean_up`].

mod attach;
mod blobs;
pub mod cleanup;
mod document;
mod entries;
pub mod events;
pub mod gate;
pub mod http;
mod images;
mod manifests;
mod quota;
mod referrers;
mod repositories;
pub mod robots;
pub mod running;
pub mod settings;
mod uploads;
pub mod upstream;

use std::{path::PathBuf, sync::Arc, time::Duration};

use store::{Blobs, Log, leases::Pin};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::Clock;

pub use attach::Attachment;
pub use blobs::{BlobContent, StoredBlob};
pub use document::{Descriptor, Document};
pub use entries::ManifestInfo;
pub use images::choose;
pub use images::{Found, Layer};
pub use manifests::{MAX_MANIFEST, ManifestRef, Pushed};
pub use quota::{Room, Usage};
pub use referrers::Referrers;
pub use repositories::Listing;
pub use settings::{Quarantine, Settings, Upstream};

/// What the registry accepts from clients.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one blob.
    pub blob: u64,
    /// Uploads under way at the same time.
    pub uploads: usize,
    /// How long an upload may lie untouched.
    pub upload_expiry: Duration,
    /// How long a client may send nothing in the middle of a body.
    pub stall: Duration,
    /// Whether clients may push manifests that name content which the repository does not hold (yet).
    pub sparse: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob: 32 << 30,
            uploads: 512,
            upload_expiry: Duration::from_secs(24 * 3600),
            stall: Duration::from_secs(60),
            sparse: false,
        }
    }
}

/// A registry. Cheap to clone; every clone is the same registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    blobs: Arc<dyn Blobs>,
    log: Arc<dyn Log>,
    clock: Clock,
    limits: Limits,
    uploads: uploads::Uploads,
    /// Shared by those who add to a repository, which may happen at the same time and then reaches the disk together; held alone by those who
    /// take away. Repositories share a few locks by hash of their names.
    locks: [RwLock<()>; 32],
    /// Held by the clean-up.
    cleaning: Mutex<()>,
    opened: records::Timestamp,
    settings: settings::Cache,
    usages: quota::Usages,
    asked: quota::Asked,
    named: gate::Named,
    known: std::sync::Mutex<repositories::Known>,
}

impl Registry {
    /// A registry over `blobs` and `log`. `uploads` is a directory of its own for unfinished uploads; it is made when first needed.
    pub fn new(blobs: Arc<dyn Blobs>, log: Arc<dyn Log>, uploads: impl Into<PathBuf>, clock: Clock) -> Self {
        Self::with_limits(blobs, log, uploads, clock, Limits::default())
    }

    pub fn with_limits(
        blobs: Arc<dyn Blobs>,
        log: Arc<dyn Log>,
        uploads: impl Into<PathBuf>,
        clock: Clock,
        limits: Limits,
    ) -> Self {
        let uploads = uploads::Uploads::new(uploads.into());
        let locks = std::array::from_fn(|_| RwLock::new(()));
        let opened = clock();
        let cleaning = Mutex::new(());
        let (settings, usages, asked, named, known) = Default::default();
        Self {
            inner: Arc::new(Inner {
                blobs,
                log,
                clock,
                limits,
                uploads,
                locks,
                cleaning,
                opened,
                settings,
                usages,
                asked,
                named,
                known,
            }),
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Where the content lies.
    pub fn blobs(&self) -> &Arc<dyn Blobs> {
        &self.inner.blobs
    }

    fn log(&self) -> &dyn Log {
        &*self.inner.log
    }

    fn now(&self) -> records::Timestamp {
        (self.inner.clock)()
    }

    /// Keeps content from being cleaned up until a record that names it is written.
    async fn pin(&self, digests: impl IntoIterator<Item = &records::Digest>) -> Option<Pin> {
        match self.blobs().leases() {
            Some(leases) => Some(leases.pin(digests).await),
            None => None,
        }
    }

    /// Until it is dropped nothing is taken out of the repository. Others add to it meanwhile, so whoever goes by what an entry says has to
    /// expect that very version of it.
    async fn share(&self, repository: &str) -> RwLockReadGuard<'_, ()> {
        self.lock_of(repository).read().await
    }

    /// Until it is dropped nobody else changes the repository.
    async fn lock(&self, repository: &str) -> RwLockWriteGuard<'_, ()> {
        self.lock_of(repository).write().await
    }

    fn lock_of(&self, repository: &str) -> &RwLock<()> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        repository.hash(&mut hasher);
        let index = hasher.finish() as usize % self.inner.locks.len();
        &self.inner.locks[index]
    }
}
