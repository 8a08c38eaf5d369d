//! What people see of a build: each vertex by itself, and why it failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use build::{Lowered, diagnostic::Diagnostic};
use graph::{Event, Graph, Observer, StreamKind};
use records::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;

/// Something that happened to a vertex. Times are of the clock of the build.
#[derive(Debug, Clone)]
pub enum Happening {
    Started {
        vertex: usize,
        name: String,
        at: Timestamp,
    },
    Output {
        vertex: usize,
        stream: StreamKind,
        text: String,
        at: Timestamp,
    },
    Finished {
        vertex: usize,
        name: String,
        cached: bool,
        started: Option<Timestamp>,
        at: Timestamp,
    },
    Failed {
        vertex: usize,
        name: String,
        error: String,
        started: Option<Timestamp>,
        at: Timestamp,
    },
    Stopped {
        vertex: usize,
        name: String,
    },
    /// An earlier build had done all of it; these are the instructions.
    AllCached {
        names: Vec<String>,
    },
}

/// Shows a build.
pub trait Progress: Send + Sync {
    fn happened(&self, happening: &Happening);
    fn note(&self, text: &str);
    fn warning(&self, warning: &build::Warning);
}

/// Hands events of a graph on.
pub struct Watch {
    names: Vec<String>,
    /// Vertices that people wrote; others are told only when they fail.
    places: BTreeMap<usize, Diagnostic>,
    /// The `USER` instructions that hold for them.
    users: BTreeMap<usize, Diagnostic>,
    progress: Arc<dyn Progress>,
    clock: Clock,
    state: Mutex<State>,
    /// Vertices whose results are there.
    ready: watch::Sender<BTreeSet<usize>>,
}

#[derive(Default)]
struct State {
    started: BTreeMap<usize, Timestamp>,
    /// The last lines of each vertex.
    tails: BTreeMap<usize, String>,
    done: usize,
    cached: usize,
}

/// Bytes of a failed vertex's output that its error repeats.
const TAIL: usize = 2_000;

impl Watch {
    pub fn new(graph: &Graph, lowered: &[Lowered], progress: Arc<dyn Progress>, clock: Clock) -> Self {
        let names = graph.vertices().iter().map(|vertex| vertex.name.clone()).collect();
        let places = lowered.iter().flat_map(|lowered| lowered.places.clone()).collect();
        let users = lowered.iter().flat_map(|lowered| lowered.users.clone()).collect();
        Self { names, places, users, progress, clock, state: Mutex::default(), ready: watch::Sender::default() }
    }

    /// The results of these vertices are there, whoever told of it.
    pub fn all_ready(&self, vertices: &[usize]) {
        self.ready.send_modify(|ready| ready.extend(vertices));
    }

    /// Waits until the result of a vertex is there.
    pub async fn ready(&self, vertex: usize) {
        // The sender lives as long as this is borrowed.
        let _ = self.ready.subscribe().wait_for(|ready| ready.contains(&vertex)).await;
    }

    /// Vertices that were done, and those that were found.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.done, state.cached)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a vertex failed, with the line that a person wrote and the end of what it said.
    pub fn reason(&self, vertex: usize, error: &graph::Error) -> String {
        let tail = self.lock().tails.get(&vertex).cloned().unwrap_or_default();
        let reason = match error {
            graph::Error::Exit { .. } | graph::Error::Signal { .. } | graph::Error::Timeout(_) => {
                format!("the command {error}")
            }
            _ => error.to_string(),
        };
        let user = self.users.get(&vertex).filter(|_| matches!(error, graph::Error::User(_)));
        // Without subordinate ids the kernel knows no owner but root, and says only that the argument is wrong.
        let owner = reason.contains("Invalid argument") && sandbox::rootless::single_user();
        let hint = sandbox::rootless::limits().into_iter().next().filter(|_| owner);
        let shown = match user.or_else(|| self.places.get(&vertex)) {
            Some(place) => Diagnostic { reason, hint, ..place.clone() }.to_string(),
            None => {
                let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                format!("{}: {reason}{hint}", self.names[vertex])
            }
        };
        match tail.trim_end() {
            "" => shown,
            tail => format!(
                "{shown}\nit said:\n{}",
                tail.lines().map(|line| format!("  {line}\n")).collect::<String>().trim_end()
            ),
        }
    }
}

impl Observer for Watch {
    fn event(&self, event: Event) {
        let at = (self.clock)();
        let mut state = self.lock();
        let happening = match event {
            Event::Started { vertex } => {
                state.started.insert(vertex, at);
                Happening::Started { vertex, name: self.names[vertex].clone(), at }
            }
            Event::Output { vertex, stream, text } => {
                let tail = state.tails.entry(vertex).or_default();
                tail.push_str(&text);
                if tail.len() > 2 * TAIL {
                    let mut cut = tail.len() - TAIL;
                    while !tail.is_char_boundary(cut) {
                        cut += 1;
                    }
                    tail.drain(..cut);
                }
                Happening::Output { vertex, stream, text, at }
            }
            Event::Finished { vertex, cached, .. } => {
                if self.places.contains_key(&vertex) {
                    *(if cached { &mut state.cached } else { &mut state.done }) += 1;
                }
                let started = state.started.get(&vertex).copied();
                Happening::Finished { vertex, name: self.names[vertex].clone(), cached, started, at }
            }
            Event::Failed { vertex, error } => {
                let started = state.started.get(&vertex).copied();
                Happening::Failed { vertex, name: self.names[vertex].clone(), error: error.to_string(), started, at }
            }
            Event::Stopped { vertex, .. } => Happening::Stopped { vertex, name: self.names[vertex].clone() },
        };
        drop(state);
        self.progress.happened(&happening);
        if let Happening::Finished { vertex, .. } = happening {
            self.ready.send_modify(|ready| {
                ready.insert(vertex);
            });
        }
    }
}
