//! An executor and a cache that do nothing but what a test tells them, and an observer that writes down what it is told.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use graph::{
    Error, Event, Exec, ExecContext, Executor, Network, Observer, Op, Output, Scope, Snapshots, StreamKind, Vertex,
    VertexId,
};

pub enum Act {
    Takes(Duration),
    Says(Duration, &'static str),
    Fails(Error),
    FailsAfter(Duration, Error),
    FailsTimes(u32, Error),
    TellsSecrets,
    Panics,
    /// Works for ever and does not stop when it is told to.
    Ignores,
}

#[derive(Default)]
struct Seen {
    /// Names in the order in which they started and ended: `+a`, `-a`.
    trail: Vec<String>,
    inputs: HashMap<String, Vec<VertexId>>,
    runs: HashMap<String, u32>,
    cancelled: HashMap<String, u32>,
    at_once: usize,
    most: usize,
    cleanup: Duration,
    done: HashMap<VertexId, Output>,
}

pub struct Simulation {
    acts: HashMap<String, Act>,
    seen: Mutex<Seen>,
}

impl Simulation {
    pub fn new<const N: usize>(acts: [(&str, Act); N]) -> Arc<Self> {
        Self::of(acts.into_iter().map(|(name, act)| (name.to_owned(), act)).collect())
    }

    pub fn of(acts: HashMap<String, Act>) -> Arc<Self> {
        Arc::new(Self { acts, seen: Mutex::default() })
    }

    pub fn cleanup_takes(&self, time: Duration) {
        self.seen.lock().unwrap().cleanup = time;
    }

    pub fn runs(&self, name: &str) -> u32 {
        self.seen.lock().unwrap().runs.get(name).copied().unwrap_or(0)
    }

    pub fn cancelled(&self, name: &str) -> u32 {
        self.seen.lock().unwrap().cancelled.get(name).copied().unwrap_or(0)
    }

    pub fn inputs_of(&self, name: &str) -> Vec<VertexId> {
        self.seen.lock().unwrap().inputs[name].clone()
    }

    pub fn most_at_once(&self) -> usize {
        self.seen.lock().unwrap().most
    }

    pub fn trail(&self) -> Vec<String> {
        self.seen.lock().unwrap().trail.clone()
    }

    pub fn forget(&self, id: &VertexId) {
        self.seen.lock().unwrap().done.remove(id);
    }

    async fn act(&self, name: &str, context: &ExecContext) -> Result<(), Error> {
        match self.acts.get(name) {
            None => Ok(()),
            Some(Act::Takes(time)) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
            Some(Act::Says(time, text)) => {
                (context.output)(StreamKind::Stdout, text);
                tokio::time::sleep(*time).await;
                Ok(())
            }
            Some(Act::Fails(error)) => Err(error.clone()),
            Some(Act::FailsAfter(time, error)) => {
                tokio::time::sleep(*time).await;
                Err(error.clone())
            }
            Some(Act::FailsTimes(times, error)) if self.runs(name) <= *times => Err(error.clone()),
            Some(Act::FailsTimes(..)) => Ok(()),
            Some(Act::TellsSecrets) => {
                for (name, value) in &context.secrets {
                    let (left, right) = value.split_at(value.len() / 2);
                    (context.output)(StreamKind::Stdout, &format!("{name}={left}"));
                    (context.output)(StreamKind::Stderr, &format!("half {value}"));
                    (context.output)(StreamKind::Stdout, &format!("{right}!\n"));
                }
                Ok(())
            }
            Some(Act::Panics) => panic!("as the test asked"),
            Some(Act::Ignores) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Executor for Simulation {
    async fn execute(
        &self,
        id: &VertexId,
        vertex: &Vertex,
        inputs: &[Output],
        context: ExecContext,
    ) -> Result<Output, Error> {
        let name = vertex.name.clone();
        {
            let mut seen = self.seen.lock().unwrap();
            seen.trail.push(format!("+{name}"));
            *seen.runs.entry(name.clone()).or_default() += 1;
            seen.inputs.insert(name.clone(), inputs.iter().map(|input| input.id.clone()).collect());
            seen.at_once += 1;
            seen.most = seen.most.max(seen.at_once);
        }
        let ignores = matches!(self.acts.get(&name), Some(Act::Ignores));
        let result = tokio::select! {
            biased;
            () = context.cancel.cancelled(), if !ignores => {
                let cleanup = self.seen.lock().unwrap().cleanup;
                tokio::time::sleep(cleanup).await;
                *self.seen.lock().unwrap().cancelled.entry(name.clone()).or_default() += 1;
                Err(Error::Cancelled)
            }
            result = self.act(&name, &context) => result,
        };
        let output = Output { id: id.clone(), artifacts: vec![] };
        let mut seen = self.seen.lock().unwrap();
        seen.at_once -= 1;
        seen.trail.push(format!("{}{name}", if result.is_ok() { "-" } else { "!" }));
        result.map(|()| {
            seen.done.insert(id.clone(), output.clone());
            output
        })
    }
}

#[async_trait]
impl Snapshots for Simulation {
    async fn find(&self, id: &VertexId) -> Result<Option<Output>, Error> {
        Ok(self.seen.lock().unwrap().done.get(id).cloned())
    }
}

#[derive(Default)]
pub struct Log(Mutex<BTreeMap<usize, Vec<String>>>);

impl Log {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn of(&self, vertex: usize) -> Vec<String> {
        self.0.lock().unwrap().get(&vertex).cloned().unwrap_or_default()
    }
}

impl Observer for Log {
    fn event(&self, event: Event) {
        let (vertex, text) = match event {
            Event::Started { vertex } => (vertex, "started".into()),
            Event::Output { vertex, stream, text } => {
                (vertex, format!("{}: {text}", format!("{stream:?}").to_lowercase()))
            }
            Event::Finished { vertex, cached: true, .. } => (vertex, "cached".into()),
            Event::Finished { vertex, .. } => (vertex, "finished".into()),
            Event::Failed { vertex, error } => (vertex, format!("failed: {error}")),
            Event::Stopped { vertex, because } => (vertex, format!("stopped: {because}")),
        };
        self.0.lock().unwrap().entry(vertex).or_default().push(text);
    }
}

pub fn exec(name: &str) -> Exec {
    Exec {
        argv: vec![name.into()],
        env: BTreeMap::new(),
        cwd: "/".into(),
        user: String::new(),
        mounts: vec![],
        network: Network::None,
        secrets: vec![],
        collect: vec![],
        timeout: None,
        memory: None,
        ..Exec::default()
    }
}

pub fn vertex(name: &str, inputs: &[usize], after: &[usize]) -> Vertex {
    Vertex {
        name: name.into(),
        group: name.into(),
        op: Op::Exec(exec(name)),
        inputs: inputs.to_vec(),
        after: after.to_vec(),
        scope: Scope::Shared,
    }
}
