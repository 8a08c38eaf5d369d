//! What became of a graph.

use crate::{Error, Output};

/// What became of a vertex.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Nothing that was wanted needed it.
    NotNeeded,
    Finished {
        output: Output,
        /// It was found in the snapshots and did not run.
        cached: bool,
    },
    Failed(Error),
    /// It did not run, or was stopped; `because` is a clause such as "`test` failed: exited with status 1".
    Stopped {
        because: String,
    },
}

/// What became of a run of a graph: one outcome for each vertex, at the vertex's index.
#[derive(Debug, Clone)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// The result of a vertex that finished.
    pub fn output(&self, vertex: usize) -> Option<&Output> {
        match self.outcomes.get(vertex)? {
            Outcome::Finished { output, .. } => Some(output),
            _ => None,
        }
    }

    /// The vertices that failed by themselves, in their order.
    pub fn failures(&self) -> impl Iterator<Item = (usize, &Error)> {
        self.outcomes.iter().enumerate().filter_map(|(index, outcome)| match outcome {
            Outcome::Failed(error) => Some((index, error)),
            _ => None,
        })
    }

    /// Whether every one of these vertices finished.
    pub fn all_finished(&self, vertices: &[usize]) -> bool {
        vertices.iter().all(|vertex| self.output(*vertex).is_some())
    }
}
