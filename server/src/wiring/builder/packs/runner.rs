//! Runs the programs of buildpacks as containers on the builder image.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use buildpack::{Ended, Error, Program, Runner};
use graph::{
    Cancel, Network, OutputSink, StreamKind,
    mask::{Masker, Patterns},
};
use sandbox::{ContainerSpec, Mount, Sandbox, Status, View};

use super::super::{Happening, Progress};
use crate::{clock::Clock, wiring::executor};

/// Bytes of a program's output that are kept for errors.
const TAIL: usize = 4_000;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A name that no other view or container of this process has.
pub fn unique() -> String {
    format!("bp{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The end of what a program said.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub code: i32,
    pub tail: String,
}

/// The builder image, with what buildpacks see in it.
pub struct Boxes {
    pub sandbox: Sandbox,
    /// The snapshot of the builder image.
    pub top: String,
    /// `user:group`
    pub user: String,
    pub mounts: Vec<Mount>,
    pub network: Network,
    pub cancel: Cancel,
    pub progress: Arc<dyn Progress>,
    pub clock: Clock,
    /// What nobody is to see.
    secrets: Patterns,
    /// What all `bin/build` share; each `bin/detect` has one of its own.
    shared: tokio::sync::Mutex<Option<View>>,
    said: Mutex<BTreeMap<String, Said>>,
    steps: AtomicUsize,
}

impl Boxes {
    pub fn new(
        sandbox: Sandbox,
        (top, user, mounts): (String, String, Vec<Mount>),
        network: Network,
        (cancel, progress, clock): (Cancel, Arc<dyn Progress>, Clock),
        secrets: Patterns,
    ) -> Self {
        let (shared, said, steps) = (tokio::sync::Mutex::default(), Mutex::default(), AtomicUsize::new(0));
        Self { sandbox, top, user, mounts, network, cancel, progress, clock, secrets, shared, said, steps }
    }

    /// Begins a step that people see; gives its number and what ends it.
    pub fn step(&self, name: &str) -> Step<'_> {
        let vertex = self.steps.fetch_add(1, Ordering::Relaxed);
        let at = (self.clock)();
        self.progress.happened(&Happening::Started { vertex, name: name.to_owned(), at });
        Step { of: self, vertex, name: name.to_owned(), started: at, ended: false }
    }

    /// What the programs of buildpacks said at last.
    pub fn said(&self) -> BTreeMap<String, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn view(&self) -> buildpack::Result<View> {
        let view = self.sandbox.snapshots().view(&unique(), &self.top, true);
        view.map_err(|e| Error::Runner(format!("cannot mount the builder image: {e}")))
    }

    async fn contain(&self, program: &Program, root: &View, output: OutputSink) -> buildpack::Result<i32> {
        let name = unique();
        let mut spec = ContainerSpec::new(name.clone(), root.path(), program.argv.clone());
        spec.env = program.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        spec.cwd.clone_from(&program.directory);
        spec.user.clone_from(&self.user);
        spec.mounts.clone_from(&self.mounts);
        spec.limits = executor::limits(None);
        spec.hostname = Some("shipway".into());
        let failed = |e: graph::Error| Error::Runner(format!("{}: {e}", program.buildpack));
        spec.network = executor::network(&self.sandbox, &name, self.network).await.map_err(failed)?;
        let exit = executor::program_ended(&self.sandbox, spec, self.cancel.token(), &output).await;
        match exit.map_err(failed)?.status {
            Status::Code(code) => Ok(code),
            // As a shell says it.
            Status::Signal(signal) => Ok(128 + signal),
            Status::Lost => Err(Error::Runner(format!("{}: nobody saw how its program ended", program.buildpack))),
        }
    }
}

/// A step that is shown. Dropped before its end, it was stopped.
pub struct Step<'a> {
    of: &'a Boxes,
    pub vertex: usize,
    name: String,
    started: records::Timestamp,
    ended: bool,
}

impl Step<'_> {
    pub fn end(mut self, error: Option<String>) {
        self.ended = true;
        let (vertex, name, started, at) = (self.vertex, self.name.clone(), Some(self.started), (self.of.clock)());
        self.of.progress.happened(&match error {
            None => Happening::Finished { vertex, name, cached: false, started, at },
            Some(error) => Happening::Failed { vertex, name, error, started, at },
        });
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.of.progress.happened(&Happening::Stopped { vertex: self.vertex, name: self.name.clone() });
        }
    }
}

/// Both streams of a program, without secrets.
struct Masked {
    streams: Mutex<[Masker; 2]>,
    to: OutputSink,
}

impl Masked {
    fn new(secrets: &Patterns, to: OutputSink) -> Self {
        Self { streams: Mutex::new([Masker::new(secrets.clone()), Masker::new(secrets.clone())]), to }
    }

    /// Hands on what is clear by now; without a text, the rest.
    fn say(&self, stream: StreamKind, text: Option<&str>) {
        let mut clear = String::new();
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let masker = &mut streams[usize::from(stream == StreamKind::Stderr)];
        match text {
            Some(text) => masker.push(text, &mut clear),
            None => masker.finish(&mut clear),
        }
        drop(streams);
        if !clear.is_empty() {
            (self.to)(stream, &clear);
        }
    }
}

/// Keeps the end of a text.
fn keep(tail: &mut String, text: &str) {
    tail.push_str(text);
    if tail.len() > 2 * TAIL {
        let mut cut = tail.len() - TAIL;
        while !tail.is_char_boundary(cut) {
            cut += 1;
        }
        tail.drain(..cut);
    }
}

#[async_trait]
impl Runner for Boxes {
    async fn run(&self, program: Program) -> buildpack::Result<Ended> {
        let tail = Arc::new(Mutex::new(String::new()));
        let step = program.shown.then(|| self.step(&format!("[build] {}", program.buildpack)));
        let shown = step.as_ref().map(|step| (step.vertex, self.progress.clone(), self.clock.clone()));
        let clear: OutputSink = {
            let tail = tail.clone();
            Arc::new(move |stream, text: &str| {
                keep(&mut tail.lock().unwrap_or_else(PoisonError::into_inner), text);
                if let Some((vertex, progress, clock)) = &shown {
                    let (vertex, text, at) = (*vertex, text.to_owned(), clock());
                    progress.happened(&Happening::Output { vertex, stream, text, at });
                }
            })
        };
        let masked = Arc::new(Masked::new(&self.secrets, clear));
        let sink: OutputSink = {
            let masked = masked.clone();
            Arc::new(move |stream, text: &str| masked.say(stream, Some(text)))
        };
        let code = if program.shown {
            let mut shared = self.shared.lock().await;
            if shared.is_none() {
                *shared = Some(self.view()?);
            }
            let Some(root) = shared.as_ref() else {
                return Err(Error::Runner("the builder image is not mounted".into()));
            };
            self.contain(&program, root, sink).await?
        } else {
            let root = self.view()?;
            self.contain(&program, &root, sink).await?
        };
        for stream in [StreamKind::Stdout, StreamKind::Stderr] {
            masked.say(stream, None);
        }
        let output = tail.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let said = Said { code, tail: output.clone() };
        self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(program.buildpack.clone(), said);
        if let Some(step) = step {
            step.end((code != 0).then(|| format!("exit code {code}")));
        }
        Ok(Ended { code, output })
    }
}
