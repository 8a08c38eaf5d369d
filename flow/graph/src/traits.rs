//! What the scheduler needs from outside.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use records::Artifact;
use tokio_util::sync::CancellationToken;

use crate::{Error, Vertex, VertexId};

/// What a vertex left: a snapshot under the vertex's own id, and what it collected.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Output {
    pub id: VertexId,
    pub artifacts: Vec<Artifact>,
}

/// Results of earlier vertices: the cache, and what images are exported from.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// The result of a vertex that succeeded once, if it is still there and whole.
    async fn find(&self, id: &VertexId) -> Result<Option<Output>, Error>;
}

/// Which stream a line of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    Stdout,
    Stderr,
    /// Written by Shipway about the step.
    Note,
}

/// What happens while a graph runs. The index is the vertex's.
#[derive(Debug, Clone)]
pub enum Event {
    Started {
        vertex: usize,
    },
    /// Whole lines where possible, secrets masked.
    Output {
        vertex: usize,
        stream: StreamKind,
        text: String,
    },
    Finished {
        vertex: usize,
        cached: bool,
        output: Output,
    },
    Failed {
        vertex: usize,
        error: Error,
    },
    /// It did not run, or was stopped, because of another vertex or a cancellation.
    Stopped {
        vertex: usize,
        because: String,
    },
}

/// Is told what happens, in order for each vertex.
pub trait Observer: Send + Sync {
    fn event(&self, event: Event);
}

/// Takes output of a vertex as it comes, cut anywhere between characters.
pub type OutputSink = Arc<dyn Fn(StreamKind, &str) + Send + Sync>;

/// What an executor may use while it works on one vertex.
#[derive(Clone)]
pub struct ExecContext {
    pub cancel: CancellationToken,
    /// Values of the secrets that the vertex names; never to be written anywhere.
    pub secrets: BTreeMap<String, String>,
    /// Takes output of the vertex.
    pub output: OutputSink,
}

/// Does the work of a vertex. Doing it again gives the same; an interrupted vertex leaves no snapshot.
#[async_trait]
pub trait Executor: Send + Sync {
    async fn execute(
        &self,
        id: &VertexId,
        vertex: &Vertex,
        inputs: &[Output],
        context: ExecContext,
    ) -> Result<Output, Error>;
}
