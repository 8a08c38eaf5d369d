//! The step graph: what pipelines and image builds become, and the one scheduler that runs it.
//!
//! A [`Graph`] is made of content-addressed [`Vertex`]es. The scheduler runs each as soon as its inputs are there, takes what an
//! earlier run left in [`Snapshots`] instead of running it again, and stops what depends on a failure at once. It knows nothing of
//! containers: an [`Executor`] does the work.

pub mod cancel;
pub mod error;
mod flight;
pub mod lines;
pub mod mask;
pub mod report;
pub mod scheduler;
pub mod traits;
pub mod vertex;
mod work;

pub use cancel::Cancel;
pub use error::{Error, Result};
pub use report::{Outcome, Report};
pub use scheduler::{Limits, Options, Scheduler, Secrets};
pub use traits::{Event, ExecContext, Executor, Observer, Output, OutputSink, Snapshots, StreamKind};
pub use vertex::{
    CacheMount, Collect, Copy, Exec, FileSource, Graph, Mount, Network, Op, Origin, Scope, SecretFile, SecretUse,
    Selected, SelectedKind, Sharing, SshAgent, Tmpfs, Ulimit, Vertex, VertexId,
};
