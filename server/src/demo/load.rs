//! A steady load, and what became of each request.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::fault::{Class, Fault, Result};

/// What was counted so far.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    /// The first few reasons.
    failures: Mutex<Vec<String>>,
    /// Answers by the version that gave them.
    versions: Mutex<BTreeMap<String, u64>>,
}

/// A load that runs until it is stopped. Each request is sent once: nothing is tried again.
pub struct Load {
    counts: Arc<Counts>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Load {
    /// Sends `rate` requests a second to `url`, each third one a write, with the name of the service as host.
    pub fn start(url: &str, host: &str, rate: u32) -> Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(|e| Fault::from_error(Class::Internal, &e))?;
        let counts = Arc::new(Counts::default());
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (url, host) = (url.to_owned(), host.to_owned());
        tasks.spawn({
            let (counts, cancel, tasks) = (counts.clone(), cancel.clone(), tasks.clone());
            async move {
                let mut tick = interval(Duration::from_secs(1) / rate.max(1));
                tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
                let mut number = 0u64;
                loop {
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        _ = tick.tick() => {}
                    }
                    number += 1;
                    let request = if number.is_multiple_of(50) {
                        client
                            .post(format!("{url}/entries"))
                            .json(&serde_json::json!({ "text": format!("entry {number}") }))
                    } else {
                        client.get(format!("{url}/entries"))
                    };
                    let request = request.header(http::header::HOST, &host);
                    let counts = counts.clone();
                    tasks.spawn(async move { counts.one(number, request).await });
                }
            }
        });
        Ok(Self { counts, cancel, tasks })
    }

    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }

    /// How many answers each version gave.
    pub fn versions(&self) -> BTreeMap<String, u64> {
        lock(&self.counts.versions).clone()
    }

    /// The first failures, for people.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.counts.failures).clone()
    }

    /// Stops sending and waits for the answers that are still due.
    pub async fn stop(&self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Counts {
    async fn one(&self, number: u64, request: reqwest::RequestBuilder) {
        let started = Instant::now();
        self.sent.fetch_add(1, Ordering::Relaxed);
        let outcome = match request.send().await {
            Ok(response) if response.status().is_success() => {
                let version =
                    response.headers().get("x-journal-version").and_then(|v| v.to_str().ok()).map(str::to_owned);
                match response.bytes().await {
                    Ok(_) => Ok(version.unwrap_or_default()),
                    Err(e) => Err(crate::fault::chain(&e)),
                }
            }
            Ok(response) => Err(format!("status {}", response.status())),
            Err(e) => Err(crate::fault::chain(&e)),
        };
        match outcome {
            Ok(version) => *lock(&self.versions).entry(version).or_default() += 1,
            Err(why) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut failures = lock(&self.failures);
                if failures.len() < 20 {
                    failures.push(format!("request {number} after {} ms: {why}", started.elapsed().as_millis()));
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
