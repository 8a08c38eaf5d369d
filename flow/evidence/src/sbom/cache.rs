//! Facts of layers by their digest: in memory, and in a folder, so that a base layer is read once and not once a start.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use records::Digest;
use store::Blobs;
use tokio::{sync::OnceCell, task::JoinSet};
use tokio_util::io::SyncIoBridge;

use super::{
    facts::LayerFacts,
    layer::{self, Limits},
};
use crate::error::{Error, Kind, Result};

/// Changes when facts hold something else, so that what an older version kept is read anew.
const FORMAT: &str = "layer-facts-2";

/// Layers that are kept in memory.
const KEPT: usize = 256;

/// A cache of layer facts. Cheap to clone; concurrent readers of one layer read it once.
#[derive(Clone)]
pub struct LayerCache {
    inner: Arc<Inner>,
}

type Cell = Arc<OnceCell<Arc<LayerFacts>>>;

struct Inner {
    folder: Option<PathBuf>,
    limits: Limits,
    memory: Mutex<(HashMap<Digest, Cell>, VecDeque<Digest>)>,
}

impl LayerCache {
    /// With a folder (made when it is not there) the cache survives a restart; its files may be deleted at any time.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self::with_limits(folder, Limits::default())
    }

    pub fn with_limits(folder: Option<PathBuf>, limits: Limits) -> Self {
        let folder = folder.map(|folder| folder.join(FORMAT));
        Self { inner: Arc::new(Inner { folder, limits, memory: Mutex::default() }) }
    }

    /// The facts of all `layers`, in their order; those that are not known are read at the same time.
    pub async fn layers(&self, blobs: &Arc<dyn Blobs>, layers: &[Digest]) -> Result<Vec<Arc<LayerFacts>>> {
        let mut found: Vec<Option<Arc<LayerFacts>>> = vec![None; layers.len()];
        let mut tasks = JoinSet::new();
        for (index, digest) in layers.iter().enumerate() {
            let cell = self.cell(digest);
            match cell.get() {
                Some(facts) => found[index] = Some(facts.clone()),
                None => {
                    let (cache, blobs, digest) = (self.clone(), blobs.clone(), digest.clone());
                    tasks.spawn(
                        async move { (index, cell.get_or_try_init(|| cache.load(&blobs, &digest)).await.cloned()) },
                    );
                }
            }
        }
        while let Some(done) = tasks.join_next().await {
            let (index, facts) = done.map_err(|e| Error::new(Kind::Io, "reading a layer was interrupted").caused(e))?;
            found[index] = Some(facts?);
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn cell(&self, digest: &Digest) -> Cell {
        let mut memory = self.inner.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (cells, order) = &mut *memory;
        if let Some(cell) = cells.get(digest) {
            return cell.clone();
        }
        if order.len() >= KEPT
            && let Some(oldest) = order.pop_front()
        {
            cells.remove(&oldest);
        }
        order.push_back(digest.clone());
        cells.entry(digest.clone()).or_default().clone()
    }

    async fn load(&self, blobs: &Arc<dyn Blobs>, digest: &Digest) -> Result<Arc<LayerFacts>> {
        let limits = self.inner.limits;
        let kept = self
            .inner
            .folder
            .as_ref()
            .map(|folder| folder.join(format!("{}-{}.json", digest.algorithm(), digest.hex())));
        if let Some(path) = kept.clone()
            && let Some(facts) = blocking(move || Ok(read_kept(&path))).await?
        {
            return Ok(Arc::new(facts));
        }
        let facts = match blobs.path(digest) {
            Some(path) => {
                blocking(move || {
                    let file = fs::File::open(&path).map_err(|e| match e.kind() {
                        io::ErrorKind::NotFound => {
                            Error::new(Kind::NotFound, "the layer is not in the registry").caused(e)
                        }
                        _ => Error::new(Kind::Io, format!("cannot open {}", path.display())).caused(e),
                    })?;
                    layer::read(file, limits)
                })
                .await
            }
            None => {
                let reader = blobs.read(digest, 0, None).await?;
                let bridge = SyncIoBridge::new(reader);
                blocking(move || layer::read(bridge, limits)).await
            }
        };
        let facts = facts
            .map_err(|error| Error { message: format!("cannot read layer {digest}: {}", error.message), ..error })?;
        let facts = Arc::new(facts);
        if let Some(path) = kept {
            let content = facts.clone();
            let written = blocking(move || Ok(keep(&path, &content))).await?;
            if let Err(error) = written {
                tracing::warn!(%digest, %error, "the facts of a layer could not be kept; they are read again after a restart");
            }
        }
        Ok(facts)
    }
}

/// A file that is damaged counts as not there.
fn read_kept(path: &Path) -> Option<LayerFacts> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn keep(path: &Path, facts: &LayerFacts) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let partial = path.with_extension("partial");
    fs::write(&partial, serde_json::to_vec(facts)?)?;
    fs::rename(partial, path)
}

/// Runs what blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(Kind::Io, "work on a layer or file was interrupted").caused(error)),
    }
}
