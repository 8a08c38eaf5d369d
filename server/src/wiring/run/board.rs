//! What people see of a run while it is worked on: the states of its parts, written to its record, and what they say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use build::diagnostic::Diagnostic;
use graph::{Event, Graph, Observer, StreamKind};
use records::{Artifact, Run, RunId, RunState, StepKind, StepRun, StepState, TestSummary, Timestamp};
use store::Records;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    fault::{Fault, Result},
};

/// Takes what a part says: its name, the stream, the text, and when.
pub type Sink = Box<dyn Fn(&str, StreamKind, &str, Timestamp) + Send + Sync>;

/// The parts of one run.
pub struct Board {
    run: RunId,
    steps: Mutex<Vec<StepRun>>,
    changed: Notify,
    sink: Sink,
    clock: Clock,
}

impl Board {
    pub fn new(run: RunId, steps: Vec<StepRun>, sink: Sink, clock: Clock) -> Self {
        Self { run, steps: Mutex::new(steps), changed: Notify::new(), sink, clock }
    }

    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub fn steps(&self) -> Vec<StepRun> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<StepRun>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, step: &str, change: impl FnOnce(&mut StepRun)) {
        if let Some(step) = self.lock().iter_mut().find(|known| known.name == step) {
            change(step);
            self.changed.notify_one();
        }
    }

    /// The part runs now, unless it does already.
    pub fn begin(&self, step: &str) {
        let now = self.now();
        self.change(step, |step| {
            if matches!(step.state, StepState::Waiting) {
                step.state = StepState::Running { since: now };
            }
        });
    }

    pub fn pass(&self, step: &str, cached: bool) {
        let now = self.now();
        self.change(step, |step| {
            if let Some(since) = open_since(&step.state, now) {
                step.state = StepState::Passed { since, at: now, cached };
            }
        });
    }

    pub fn fail(&self, step: &str, reason: &str, exit_code: Option<i32>) {
        let now = self.now();
        self.change(step, |step| {
            if let Some(since) = open_since(&step.state, now) {
                step.state = StepState::Failed { since, at: now, reason: reason.to_owned(), exit_code };
            }
        });
    }

    pub fn skip(&self, step: &str, because: &str) {
        let now = self.now();
        self.change(step, |step| match step.state {
            StepState::Waiting => step.state = StepState::Skipped { because: because.to_owned() },
            StepState::Running { .. } => step.state = StepState::Cancelled { at: now },
            _ => {}
        });
    }

    pub fn left(&self, step: &str, artifacts: Vec<Artifact>, tests: Option<TestSummary>) {
        self.change(step, |step| {
            step.artifacts = artifacts;
            step.tests = tests;
        });
    }

    /// Whatever has not ended will not any more.
    pub fn close(&self, because: &str) {
        for step in self.steps() {
            self.skip(&step.name, because);
        }
    }

    /// Says something of Shipway's own about a part.
    pub fn note(&self, step: &str, text: &str) {
        self.log(step, StreamKind::Note, text);
    }

    /// What a program of a part says.
    pub fn log(&self, step: &str, stream: StreamKind, text: &str) {
        (self.sink)(step, stream, text, self.now());
    }

    /// Writes what people see to the record, as often as it changes, until dropped.
    pub async fn publish(&self, records: &Records) {
        loop {
            self.changed.notified().await;
            if let Err(fault) = self.write(records).await {
                tracing::warn!(run = %self.run, %fault, "cannot write how far a run is");
            }
        }
    }

    pub async fn write(&self, records: &Records) -> Result<Run> {
        let change = |run: Run| -> std::result::Result<Run, Fault> {
            Ok(match run.state {
                RunState::Running { .. } => Run { steps: self.steps(), ..run },
                _ => run,
            })
        };
        records.update(&self.run.key(), change).await
    }
}

/// Since when a part that has not ended runs.
fn open_since(state: &StepState, now: Timestamp) -> Option<Timestamp> {
    match state {
        StepState::Waiting => Some(now),
        StepState::Running { since } => Some(*since),
        _ => None,
    }
}

/// Tells a board what happens to the vertices of a graph.
pub struct Watch {
    pub board: Arc<Board>,
    groups: Vec<String>,
    names: Vec<String>,
    /// Whether the vertex is the last one of a step, whose end is the step's.
    ends: Vec<bool>,
    kinds: Vec<Option<StepKind>>,
    /// The lines of Dockerfiles that vertices stand for.
    places: BTreeMap<usize, Diagnostic>,
}

impl Watch {
    /// `ends` are the vertices whose end is that of their step.
    pub fn new(board: Arc<Board>, graph: &Graph, ends: &[usize], places: BTreeMap<usize, Diagnostic>) -> Self {
        let steps = board.steps();
        let kind = |group: &str| steps.iter().find(|step| step.name == group).map(|step| step.kind);
        let vertices = graph.vertices();
        Self {
            groups: vertices.iter().map(|vertex| vertex.group.clone()).collect(),
            names: vertices.iter().map(|vertex| vertex.name.clone()).collect(),
            ends: (0..vertices.len()).map(|index| ends.contains(&index)).collect(),
            kinds: vertices.iter().map(|vertex| kind(&vertex.group)).collect(),
            places,
            board,
        }
    }

    /// Why a vertex failed, with the line that a person wrote where there is one.
    pub fn reason(&self, vertex: usize, error: &graph::Error) -> String {
        let Some(place) = self.places.get(&vertex) else { return format!("{} {error}", self.names[vertex]) };
        let reason = match error {
            graph::Error::Exit { .. } | graph::Error::Signal { .. } | graph::Error::Timeout(_) => {
                format!("the command {error}")
            }
            _ => error.to_string(),
        };
        Diagnostic { reason, ..place.clone() }.to_string()
    }
}

impl Observer for Watch {
    fn event(&self, event: Event) {
        match event {
            Event::Started { vertex } => {
                self.board.begin(&self.groups[vertex]);
                if self.kinds[vertex] == Some(StepKind::Image) {
                    self.board.note(&self.groups[vertex], &self.names[vertex]);
                }
            }
            Event::Output { vertex, stream, text } => self.board.log(&self.groups[vertex], stream, &text),
            Event::Finished { vertex, cached, .. } => {
                if cached && self.kinds[vertex] == Some(StepKind::Image) {
                    self.board.note(&self.groups[vertex], &format!("{} (cached)", self.names[vertex]));
                }
                if self.ends[vertex] {
                    self.board.pass(&self.groups[vertex], cached);
                }
            }
            Event::Failed { vertex, error } => {
                let code = match &error {
                    graph::Error::Exit { code, .. } => Some(*code),
                    _ => None,
                };
                let reason = self.reason(vertex, &error);
                self.board.note(&self.groups[vertex], &reason);
                self.board.fail(&self.groups[vertex], &reason, code);
            }
            Event::Stopped { vertex, because } => self.board.skip(&self.groups[vertex], &because),
        }
    }
}
