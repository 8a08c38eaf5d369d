//! Does the work of the step graph on this machine: root file systems are snapshots, programs run in containers.
//!
//! The snapshot of a vertex has the vertex's id as its key and appears at once when the vertex has succeeded, so a result that is there
//! is whole. What a vertex collected is in the log of records under the same id.

mod archive;
mod copy;
mod exec;
mod files;
mod merge;
mod mounts;
mod put;
mod rooted;
mod sparse;

pub use archive::{is_archive, unpack_files};
pub use exec::{limits, network, program_ended};
pub use files::write as write_files;
pub use mounts::Caches;
pub use rooted::Root;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use graph::{Error, ExecContext, Executor, Op, Output, Vertex, VertexId};
use records::Artifact;
use sandbox::{Sandbox, Snapshots, View};
use source::Repositories;
use store::{Blobs, Change, Expect, Log};

use super::images::Images;

/// The kind under which collected artifacts are kept.
const COLLECTED: &str = "vertex";

/// The executor of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Machine {
    pub sandbox: Sandbox,
    pub images: Images,
    pub repositories: Repositories,
    pub blobs: Arc<dyn Blobs>,
    pub log: Arc<dyn Log>,
    /// Directories that stay from one run to the next.
    pub caches: Caches,
    /// Results of other machines.
    pub imports: super::builder::cache::Imports,
}

/// This machine failed; trying again may help.
fn machine(message: impl std::fmt::Display, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = format!("{message}: {source}");
    Error::Infrastructure { message, source: Some(Arc::new(source)) }
}

/// Runs what blocks (mounts, copies) where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| machine("the work was not done to its end", e))?
}

impl Machine {
    fn snapshots(&self) -> &Snapshots {
        self.sandbox.snapshots()
    }

    /// A throw-away mount of a vertex's result.
    fn view(&self, id: &VertexId, writable: bool) -> Result<View, Error> {
        let name = format!("v{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.snapshots().view(&name, &id.to_string(), writable).map_err(|e| machine("cannot mount an input", e))
    }

    /// Makes the snapshot of a vertex on top of `parent` by what `fill` does in its root. A snapshot that another run made meanwhile is
    /// as good.
    async fn make(
        &self,
        id: &VertexId,
        parent: Option<String>,
        fill: impl FnOnce(&Path) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let (snapshots, key, span) = (self.snapshots().clone(), id.to_string(), tracing::Span::current());
        blocking(move || {
            if snapshots.has(&key) {
                return Ok(());
            }
            let part = |name: &'static str| match name {
                "fill" => tracing::info_span!(parent: &span, "fill"),
                _ => tracing::info_span!(parent: &span, "snapshot"),
            };
            let begin = part("snapshot");
            let active =
                snapshots.prepare(&key, parent.as_deref()).map_err(|e| machine("cannot begin a snapshot", e))?;
            drop(begin);
            let filling = part("fill");
            fill(active.path())?;
            drop(filling);
            let _end = part("snapshot");
            active.commit().map_err(|e| machine("cannot keep a snapshot", e))
        })
        .await
    }

    /// Writes down what a vertex collected, before its snapshot says that it succeeded.
    async fn collected(&self, id: &VertexId, artifacts: &[Artifact]) -> Result<(), Error> {
        if artifacts.is_empty() {
            return Ok(());
        }
        let value = serde_json::to_vec(artifacts).map_err(|e| machine("cannot write artifacts", e))?;
        let value = Bytes::from(value);
        let change = Change { kind: COLLECTED.into(), key: id.to_string(), expect: Expect::Any, value, delete: false };
        self.log.append(vec![change]).await.map(drop).map_err(|e| machine("cannot write down artifacts", e))
    }
}

static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

#[async_trait]
impl graph::Snapshots for Machine {
    async fn find(&self, id: &VertexId) -> Result<Option<Output>, Error> {
        let key = id.to_string();
        if !self.snapshots().has(&key) && !self.imports.bring(&key, self.snapshots(), &self.images).await {
            return Ok(None);
        }
        let kept = self.log.get(COLLECTED, &id.to_string()).await.map_err(|e| machine("cannot read artifacts", e))?;
        let artifacts: Vec<Artifact> = match kept {
            Some(entry) => serde_json::from_slice(&entry.value).map_err(|e| machine("cannot read artifacts", e))?,
            None => Vec::new(),
        };
        for artifact in &artifacts {
            let there =
                self.blobs.size(&artifact.digest).await.map_err(|e| machine("cannot look for an artifact", e))?;
            if there.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Output { id: id.clone(), artifacts }))
    }
}

#[async_trait]
impl Executor for Machine {
    async fn execute(
        &self,
        id: &VertexId,
        vertex: &Vertex,
        inputs: &[Output],
        context: ExecContext,
    ) -> Result<Output, Error> {
        let done = Output { id: id.clone(), artifacts: Vec::new() };
        let key = |at: usize| inputs.get(at).map(|input| input.id.to_string());
        match &vertex.op {
            Op::Image { repository, digest } => {
                let image = self.images.unpack(repository, digest).await.map_err(Error::Invalid)?;
                let (snapshots, key) = (self.snapshots().clone(), id.to_string());
                // Nothing is changed, so nothing needs to be mounted.
                blocking(move || {
                    let kept = snapshots.import(&key, image.top.as_deref(), |_| Ok::<_, sandbox::Error>(()));
                    kept.map_err(|e| machine("cannot keep a snapshot", e))
                })
                .await?;
            }
            Op::Scratch => self.make(id, None, |_| Ok(())).await?,
            Op::Files(source) => {
                let snapshots = self.snapshots().clone();
                let key = id.to_string();
                if !snapshots.has(&key) {
                    let begun = blocking(move || {
                        snapshots.prepare(&key, None).map_err(|e| machine("cannot begin a snapshot", e))
                    });
                    let active = begun.await?;
                    files::write(source, active.path(), &self.repositories, &*self.blobs).await?;
                    blocking(move || active.commit().map_err(|e| machine("cannot keep a snapshot", e))).await?;
                }
            }
            Op::Copy(copy) => {
                // With one input it is the source, and the target is empty.
                let (parent, from) = if inputs.len() > 1 { (key(0), 1) } else { (None, 0) };
                let from = inputs.get(from).ok_or_else(|| Error::Invalid("a copy names no source".into()))?;
                let view = self.view(&from.id, false)?;
                let copy = copy.clone();
                self.make(id, parent, move |root| copy::copy(&copy, view.path(), root).map_err(Error::Invalid)).await?;
            }
            Op::Put { files, copy } => {
                let graph::Origin::Directory(from) = &files.origin else {
                    return Err(Error::Invalid("only files of a directory of this machine are put straight".into()));
                };
                let (from, files, copy, cancel) =
                    (from.clone(), files.files.clone(), copy.clone(), context.cancel.clone());
                self.make(id, key(0), move |root| {
                    let put = put::put(&copy, &files, &from, root, &|| cancel.is_cancelled());
                    put.map_err(|error| if cancel.is_cancelled() { Error::Cancelled } else { Error::Invalid(error) })
                })
                .await?;
            }
            Op::Mkdir { path, user } => {
                let (path, user) = (path.clone(), user.clone());
                self.make(id, key(0), move |root| {
                    let said = |e: std::io::Error| Error::Invalid(format!("cannot make the directory {path}: {e}"));
                    let open = rooted::Root::open(root).map_err(said)?;
                    let owner = rooted::owner(&open, &user).map_err(Error::User)?;
                    open.make(Path::new(&path), owner).map(drop).map_err(said)
                })
                .await?;
            }
            Op::Merge => {
                let (Some(below), Some(above)) = (key(0), key(1)) else {
                    return Err(Error::Invalid("a merge has two inputs".into()));
                };
                let (snapshots, id) = (self.snapshots().clone(), id.to_string());
                blocking(move || {
                    let files = snapshots.diff(&above).map_err(|e| machine("cannot find an input", e))?;
                    snapshots.import(&id, Some(&below), |directory| merge::link(&files, directory)).map_err(merge::said)
                })
                .await?;
            }
            Op::Artifacts => {
                let all: Vec<Artifact> = inputs.iter().flat_map(|input| input.artifacts.iter().cloned()).collect();
                let (snapshots, key) = (self.snapshots().clone(), id.to_string());
                if !snapshots.has(&key) {
                    let begun = blocking(move || {
                        snapshots.prepare(&key, None).map_err(|e| machine("cannot begin a snapshot", e))
                    });
                    let active = begun.await?;
                    files::artifacts(all.iter(), active.path(), &*self.blobs).await?;
                    blocking(move || active.commit().map_err(|e| machine("cannot keep a snapshot", e))).await?;
                }
            }
            Op::Exec(program) => {
                let artifacts = exec::run(self, id, program, inputs, &context).await?;
                return Ok(Output { artifacts, ..done });
            }
        }
        Ok(done)
    }
}
