//! The step graph: what pipelines and image builds become, and the one scheduler that runs it.
//!
//! A [`Graph`] is made of content-addressed [`Vertex`]es. The scheduler runs each as soon as its inputs are there, takes what an
//! earlier run left in [`Snapshots`] instead of running it again, and stops what depends on a failure at once. It knows nothing of
//! containers: an [`Executor`] does the work.

pub mod error;
pub mod traits;
pub mod vertex;

pub use error::{Error, Result};
pub use traits::{Event, ExecContext, Executor, Observer, Output, Snapshots, StreamKind};
pub use vertex::{
    Collect, Copy, Exec, FileSource, Graph, Mount, Network, Op, Origin, Scope, SecretUse, Selected, Vertex, VertexId,
};
