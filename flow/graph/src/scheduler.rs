//! Runs graphs: each vertex as soon as what it needs is there, once, and only when somebody needs it.
//!
//! - A wanted vertex is looked up first. When an earlier run left its result, the vertices that it was made from are not run.
//! - `after` is a gate: a vertex counts as finished only when everything that it, and what it was made from, comes after has succeeded.
//!   That holds for results from the cache as well, so a test that fails stops an image that was built before.
//! - When a vertex fails, what needs it is stopped at once, and so is what runs for nobody else.
//! - A vertex that two runs need at the same time is done once. A run that is cancelled does not take the other's work with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    Cancel, Error, Event, Executor, Graph, Observer, Outcome, Output, Report, Result, Snapshots,
    flight::{Hangar, Listener, Word, Work},
    work::Job,
};

/// Gives the values of secrets to the step that names them.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The value of each of these; `Invalid`, naming it, when there is no such secret.
    async fn values(&self, names: &[String]) -> Result<BTreeMap<String, String>>;
}

#[async_trait]
impl Secrets for BTreeMap<String, String> {
    async fn values(&self, names: &[String]) -> Result<BTreeMap<String, String>> {
        let value = |name: &String| match self.get(name) {
            Some(value) => Ok((name.clone(), value.clone())),
            None => Err(Error::Invalid(format!("there is no secret `{name}`"))),
        };
        names.iter().map(value).collect()
    }
}

/// What a scheduler keeps to, for all graphs together.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many vertices are worked on at the same time.
    pub parallelism: usize,
    /// How often a vertex is tried when this machine fails, the first time included.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each one.
    pub back_off: Duration,
    pub longest_back_off: Duration,
    /// How long an executor may clean up when it was told to stop.
    pub cleanup: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallelism: 4,
            attempts: 3,
            back_off: Duration::from_millis(500),
            longest_back_off: Duration::from_secs(10),
            cleanup: Duration::from_secs(30),
        }
    }
}

/// What holds for one run of one graph.
#[derive(Clone)]
pub struct Options {
    pub secrets: Arc<dyn Secrets>,
    pub cancel: Cancel,
    /// When something fails, stop everything else too. Else what is wanted and does not need the failed vertex goes on.
    pub fail_fast: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { secrets: Arc::new(BTreeMap::new()), cancel: Cancel::new(), fail_fast: false }
    }
}

/// Runs graphs. Keep one for the whole process, so that runs share their work. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    executor: Arc<dyn Executor>,
    snapshots: Arc<dyn Snapshots>,
    permits: Arc<Semaphore>,
    limits: Limits,
    hangar: Arc<Hangar>,
}

impl Scheduler {
    pub fn new(executor: Arc<dyn Executor>, snapshots: Arc<dyn Snapshots>, limits: Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.parallelism.clamp(1, Semaphore::MAX_PERMITS)));
        Self { executor, snapshots, permits, limits, hangar: Arc::default() }
    }

    /// Runs what is needed for the vertices `wanted`, and returns when all of it has ended and, where it was stopped, cleaned up.
    /// Dropping the future cancels as well, but waits for nothing.
    ///
    /// The observer is told, for each vertex that is needed: at most one `Started`, then its output, then exactly one of `Finished`,
    /// `Failed` and `Stopped`. It must not call the scheduler.
    ///
    /// # Panics
    /// When `wanted` names a vertex that the graph does not have: a defect of the caller.
    pub async fn run(&self, graph: &Graph, wanted: &[usize], observer: Arc<dyn Observer>, options: Options) -> Report {
        assert!(wanted.iter().all(|index| *index < graph.len()), "a wanted vertex is not in the graph");
        let run = Run {
            scheduler: self,
            graph,
            gates: gates(graph),
            wanted: wanted.to_vec(),
            states: (0..graph.len()).map(|_| State::Untouched).collect(),
            news: FuturesUnordered::new(),
            observer,
            options,
        };
        run.drive().await
    }

    /// Cancels all work and waits until it has been cleaned up. Later runs end at once.
    pub async fn close(&self) {
        self.hangar.close().await;
    }

    /// How many vertices are being worked on or wait for their turn.
    pub fn under_way(&self) -> usize {
        self.hangar.under_way()
    }
}

/// For each vertex what must have succeeded before it counts: its own `after` and that of everything that it is made from.
fn gates(graph: &Graph) -> Vec<Vec<usize>> {
    let mut gates: Vec<Vec<usize>> = Vec::with_capacity(graph.len());
    for vertex in graph.vertices() {
        let mut own = vertex.after.clone();
        vertex.inputs.iter().for_each(|input| own.extend_from_slice(&gates[*input]));
        own.sort_unstable();
        own.dedup();
        gates.push(own);
    }
    gates
}

enum State {
    Untouched,
    /// Being looked up.
    Looking,
    /// Found; counts as soon as its gates have succeeded.
    Found(Output),
    /// Not there; runs as soon as gates and inputs have succeeded.
    Missing,
    /// Worked on, here or for another run.
    Flying {
        stop: CancellationToken,
    },
    /// Told to stop.
    Landing {
        because: String,
    },
    Ended(Outcome),
}

enum News {
    Looked(Option<Output>),
    Landed(Result<Output>),
    Left,
}

struct Run<'a> {
    scheduler: &'a Scheduler,
    graph: &'a Graph,
    gates: Vec<Vec<usize>>,
    wanted: Vec<usize>,
    states: Vec<State>,
    news: FuturesUnordered<BoxFuture<'a, (usize, News)>>,
    observer: Arc<dyn Observer>,
    options: Options,
}

impl Run<'_> {
    async fn drive(mut self) -> Report {
        let cancel = self.options.cancel.clone();
        let mut cancelled = cancel.is_cancelled();
        loop {
            while self.advance(cancelled) {}
            if self.states.iter().all(|state| matches!(state, State::Untouched | State::Ended(_))) {
                break;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled(), if !cancelled => cancelled = true,
                Some((index, news)) = self.news.next() => self.hear(index, news),
            }
        }
        let outcomes = self.states.into_iter().map(|state| match state {
            State::Ended(outcome) => outcome,
            _ => Outcome::NotNeeded,
        });
        Report { outcomes: outcomes.collect() }
    }

    /// Takes every step that is possible now; whether there was one.
    fn advance(&mut self, cancelled: bool) -> bool {
        let halt = if cancelled {
            Some(format!("cancelled: {}", self.options.cancel.reason()))
        } else if self.options.fail_fast {
            self.first_failure()
        } else {
            None
        };
        let mut moved = false;
        for (index, needed) in self.needed().into_iter().enumerate() {
            let unneeded = || format!("not needed any more: {}", self.first_failure().unwrap_or_default());
            let stop = match (&halt, needed) {
                (Some(reason), _) => Some(reason.clone()),
                (None, false) => Some(unneeded()),
                (None, true) => self.broken(index),
            };
            moved |= match (&self.states[index], stop) {
                (State::Untouched, Some(reason)) if needed => self.stop(index, reason),
                (State::Untouched, _) if needed => self.look(index),
                (State::Looking | State::Found(_) | State::Missing | State::Flying { .. }, Some(reason)) => {
                    self.stop(index, reason)
                }
                (State::Found(_), None) if self.finished(&self.gates[index]) => self.take(index),
                (State::Missing, None)
                    if self.finished(&self.gates[index]) && self.finished(&self.graph.vertices()[index].inputs) =>
                {
                    self.fly(index)
                }
                _ => false,
            };
        }
        moved
    }

    /// What is still needed for a wanted vertex that has not ended.
    fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.states.len()];
        self.wanted.iter().for_each(|index| needed[*index] = true);
        for index in (0..self.states.len()).rev() {
            if !needed[index] {
                continue;
            }
            let (gates, inputs) = match self.states[index] {
                State::Untouched | State::Looking | State::Found(_) => (true, false),
                State::Missing => (true, true),
                State::Flying { .. } | State::Landing { .. } | State::Ended(_) => (false, false),
            };
            if gates {
                self.gates[index].iter().for_each(|gate| needed[*gate] = true);
            }
            if inputs {
                self.graph.vertices()[index].inputs.iter().for_each(|input| needed[*input] = true);
            }
        }
        needed
    }

    /// Why a vertex can no longer succeed, when something that it needs has not.
    fn broken(&self, index: usize) -> Option<String> {
        let inputs: &[usize] = match self.states[index] {
            State::Missing => &self.graph.vertices()[index].inputs,
            State::Untouched | State::Looking | State::Found(_) => &[],
            _ => return None,
        };
        self.gates[index].iter().chain(inputs).find_map(|needed| match &self.states[*needed] {
            State::Ended(Outcome::Failed(error)) => Some(self.failure(*needed, error)),
            State::Ended(Outcome::Stopped { because }) | State::Landing { because } => Some(because.clone()),
            _ => None,
        })
    }

    fn failure(&self, index: usize, error: &Error) -> String {
        format!("`{}` failed: {error}", self.graph.vertices()[index].name)
    }

    fn first_failure(&self) -> Option<String> {
        self.states.iter().enumerate().find_map(|(index, state)| match state {
            State::Ended(Outcome::Failed(error)) => Some(self.failure(index, error)),
            _ => None,
        })
    }

    fn finished(&self, vertices: &[usize]) -> bool {
        vertices.iter().all(|index| matches!(self.states[*index], State::Ended(Outcome::Finished { .. })))
    }

    fn look(&mut self, index: usize) -> bool {
        let (snapshots, id) = (self.scheduler.snapshots.clone(), self.graph.id(index).clone());
        let name = self.graph.vertices()[index].name.clone();
        self.news.push(Box::pin(async move {
            let found = snapshots.find(&id).await.unwrap_or_else(|error| {
                tracing::warn!(vertex = %id, name, %error, "cannot look up an earlier result; doing it again");
                None
            });
            (index, News::Looked(found))
        }));
        self.states[index] = State::Looking;
        true
    }

    fn take(&mut self, index: usize) -> bool {
        if let State::Found(output) = std::mem::replace(&mut self.states[index], State::Untouched) {
            self.end(index, Outcome::Finished { output, cached: true });
        }
        true
    }

    fn fly(&mut self, index: usize) -> bool {
        let vertex = &self.graph.vertices()[index];
        let output = |input: &usize| match &self.states[*input] {
            State::Ended(Outcome::Finished { output, .. }) => Some(output.clone()),
            _ => None,
        };
        let job = Job {
            id: self.graph.id(index).clone(),
            inputs: vertex.inputs.iter().filter_map(output).collect(),
            vertex: vertex.clone(),
            executor: self.scheduler.executor.clone(),
            snapshots: self.scheduler.snapshots.clone(),
            secrets: self.options.secrets.clone(),
            permits: self.scheduler.permits.clone(),
            limits: self.scheduler.limits.clone(),
        };
        let observer = self.observer.clone();
        let listener: Listener = Arc::new(move |word| {
            observer.event(match word {
                Word::Started => Event::Started { vertex: index },
                Word::Output(stream, text) => Event::Output { vertex: index, stream, text },
            });
        });
        let (hangar, id, stop) = (self.scheduler.hangar.clone(), job.id.clone(), CancellationToken::new());
        let work: Work = Box::new(move |cancel, speaker| Box::pin(job.run(cancel, speaker)));
        self.states[index] = State::Flying { stop: stop.clone() };
        self.news.push(Box::pin(async move {
            let mut seat = tokio::select! {
                biased;
                () = stop.cancelled() => return (index, News::Left),
                seat = hangar.board(&id, listener, work) => seat,
            };
            let news = tokio::select! {
                biased;
                result = seat.arrive() => Some(News::Landed(result)),
                () = stop.cancelled() => None,
            };
            // The seat goes back before the end is told: nothing is said after it.
            seat.leave().await;
            (index, news.unwrap_or(News::Left))
        }));
        true
    }

    fn stop(&mut self, index: usize, because: String) -> bool {
        if let State::Flying { stop } = &self.states[index] {
            stop.cancel();
            self.states[index] = State::Landing { because };
        } else {
            self.end(index, Outcome::Stopped { because });
        }
        true
    }

    fn hear(&mut self, index: usize, news: News) {
        let stopped = match &self.states[index] {
            // It was stopped while it was looked up.
            State::Ended(_) => return,
            State::Landing { because } => because.clone(),
            _ => "the server is stopping".into(),
        };
        match news {
            News::Looked(Some(output)) => self.states[index] = State::Found(output),
            News::Looked(None) => self.states[index] = State::Missing,
            News::Landed(Ok(output)) => self.end(index, Outcome::Finished { output, cached: false }),
            News::Landed(Err(Error::Cancelled)) | News::Left => self.end(index, Outcome::Stopped { because: stopped }),
            News::Landed(Err(error)) => self.end(index, Outcome::Failed(error)),
        }
    }

    fn end(&mut self, vertex: usize, outcome: Outcome) {
        match outcome.clone() {
            Outcome::Finished { output, cached } => self.observer.event(Event::Finished { vertex, cached, output }),
            Outcome::Failed(error) => self.observer.event(Event::Failed { vertex, error }),
            Outcome::Stopped { because } => self.observer.event(Event::Stopped { vertex, because }),
            Outcome::NotNeeded => {}
        }
        self.states[vertex] = State::Ended(outcome);
    }
}
