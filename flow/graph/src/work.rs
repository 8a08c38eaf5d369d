//! Doing one vertex: a permit, the executor, its output masked and bounded, time limit and second attempts.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    Error, ExecContext, Executor, Op, Output, Result, Scope, Snapshots, StreamKind, Vertex, VertexId,
    flight::{Speaker, Word},
    lines::{Budget, Lines, MOST_OUTPUT},
    mask::Patterns,
    scheduler::{Limits, Secrets},
};

/// How often an unfinished line is shown that waits for its end.
const IMPATIENCE: Duration = Duration::from_millis(250);

/// Everything that it takes to do one vertex, independent of the run that asked for it.
pub(crate) struct Job {
    pub id: VertexId,
    pub vertex: Vertex,
    pub inputs: Vec<Output>,
    pub executor: Arc<dyn Executor>,
    pub snapshots: Arc<dyn Snapshots>,
    pub secrets: Arc<dyn Secrets>,
    pub permits: Arc<Semaphore>,
    pub limits: Limits,
}

impl Job {
    pub async fn run(self, cancel: CancellationToken, speaker: Arc<Speaker>) -> Result<Output> {
        let span = tracing::info_span!("vertex", vertex = %self.id, title = self.vertex.name);
        self.worked(cancel, speaker).instrument(span).await
    }

    async fn worked(self, cancel: CancellationToken, speaker: Arc<Speaker>) -> Result<Output> {
        let names = self.secrets_used()?;
        let queue = tracing::info_span!("queue");
        let _permit = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::Cancelled),
            permit = self.permits.clone().acquire_owned() => permit.map_err(|_| Error::Cancelled)?,
        };
        drop(queue);
        // Somebody may have finished it between our look and our turn.
        if let Ok(Some(output)) = self.snapshots.find(&self.id).await {
            return Ok(output);
        }
        let secrets = self.secrets.values(&names).await?;
        speaker.say(Word::Started);
        let voice = Arc::new(Voice::new(Patterns::new(secrets.values()), speaker));
        let mut attempt = 1;
        loop {
            let work = self.attempt(&cancel, secrets.clone(), &voice);
            let result = work.instrument(tracing::info_span!("run", attempt)).await;
            voice.finish();
            match result {
                Err(Error::Infrastructure { message, source })
                    if attempt < self.limits.attempts && !cancel.is_cancelled() =>
                {
                    let pause =
                        (self.limits.back_off * 2u32.saturating_pow(attempt - 1)).min(self.limits.longest_back_off);
                    tracing::warn!(vertex = %self.id, name = self.vertex.name, attempt, %message, ?source, "trying again");
                    let of = self.limits.attempts;
                    voice.note(&format!("{message}; trying again in {pause:?} (attempt {} of {of})\n", attempt + 1));
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => return Err(Error::Cancelled),
                        () = tokio::time::sleep(pause) => attempt += 1,
                    }
                }
                other => return other,
            }
        }
    }

    /// The names of the secrets of the vertex. A result that was made with a secret must not reach those who do not have it.
    fn secrets_used(&self) -> Result<Vec<String>> {
        let Op::Exec(exec) = &self.vertex.op else { return Ok(Vec::new()) };
        let names = exec.secret_names();
        if !names.is_empty() && self.vertex.scope == Scope::Shared {
            let name = &self.vertex.name;
            return Err(Error::Invalid(format!(
                "`{name}` uses a secret, so its result cannot be one that may be shared"
            )));
        }
        Ok(names)
    }

    async fn attempt(
        &self,
        cancel: &CancellationToken,
        secrets: std::collections::BTreeMap<String, String>,
        voice: &Arc<Voice>,
    ) -> Result<Output> {
        let stop = cancel.child_token();
        let speak = voice.clone();
        let context = ExecContext {
            cancel: stop.clone(),
            secrets,
            output: Arc::new(move |stream, text| speak.take(stream, text)),
        };
        let limit = match &self.vertex.op {
            Op::Exec(exec) => exec.timeout,
            _ => None,
        };
        let mut work = self.executor.execute(&self.id, &self.vertex, &self.inputs, context);
        let too_late = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(too_late);
        let mut tick = tokio::time::interval(IMPATIENCE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stopped = loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = stop.cancelled() => break Error::Cancelled,
                () = &mut too_late => break Error::Timeout(limit.unwrap_or_default()),
                _ = tick.tick() => voice.flush(),
            }
        };
        // Cleaning up has a time of its own; what it says is of no interest, except that it came just in time.
        stop.cancel();
        match tokio::time::timeout(self.limits.cleanup, work).await {
            Ok(Ok(output)) if matches!(stopped, Error::Cancelled) => Ok(output),
            Ok(_) => Err(stopped),
            Err(_) => {
                tracing::error!(vertex = %self.id, name = self.vertex.name, "did not stop within {:?}", self.limits.cleanup);
                Err(stopped)
            }
        }
    }
}

/// The output of a vertex on its way to those who listen.
struct Voice {
    speaker: Arc<Speaker>,
    patterns: Patterns,
    streams: Mutex<Streams>,
}

struct Streams {
    stdout: Lines,
    stderr: Lines,
    budget: Budget,
}

impl Voice {
    fn new(patterns: Patterns, speaker: Arc<Speaker>) -> Self {
        let (stdout, stderr) = (Lines::new(patterns.clone()), Lines::new(patterns.clone()));
        Self { speaker, patterns, streams: Mutex::new(Streams { stdout, stderr, budget: Budget::new(MOST_OUTPUT) }) }
    }

    fn take(&self, stream: StreamKind, text: &str) {
        self.with(|streams, say| match stream {
            StreamKind::Stdout => say(stream, streams.stdout.push(text)),
            StreamKind::Stderr => say(stream, streams.stderr.push(text)),
            StreamKind::Note => say(stream, self.patterns.mask(text)),
        });
    }

    fn note(&self, text: &str) {
        self.take(StreamKind::Note, text);
    }

    /// Shows unfinished lines.
    fn flush(&self) {
        self.with(|streams, say| {
            say(StreamKind::Stdout, streams.stdout.flush());
            say(StreamKind::Stderr, streams.stderr.flush());
        });
    }

    fn finish(&self) {
        self.with(|streams, say| {
            say(StreamKind::Stdout, streams.stdout.finish());
            say(StreamKind::Stderr, streams.stderr.finish());
        });
    }

    /// Everything is said under the lock, so that it is said in order.
    fn with(&self, act: impl FnOnce(&mut Streams, &mut dyn FnMut(StreamKind, String))) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let mut words = Vec::new();
        act(&mut streams, &mut |stream, text| words.push((stream, text)));
        for (stream, text) in words {
            let (part, cut) = streams.budget.take(&text);
            if !part.is_empty() {
                self.speaker.say(Word::Output(stream, part.to_owned()));
            }
            if cut {
                let text = format!("\noutput cut: more than {} MiB\n", MOST_OUTPUT >> 20);
                self.speaker.say(Word::Output(StreamKind::Note, text));
            }
        }
    }
}
