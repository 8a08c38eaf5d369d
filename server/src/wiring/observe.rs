//! What people's requests met while a release rolled out.

use std::{
    collections::{BTreeSet, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use observe::Window;
use records::{Name, Observation, Release, ReleaseId, Rollout, Timestamp};
use serde_json::Value;
use store::{Blobs, Expect, Mirror, Records};
use tokio::time::Instant;

use crate::fault::{Class, Fault, Result};

/// Bytes of a release's manifests.
const MANIFESTS: u64 = 64 << 20;

/// Services of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    pub namespace: Name,
    pub names: BTreeSet<String>,
}

/// What a proxy in front of services measures.
pub trait Traffic: Send + Sync {
    /// Counts requests to these services for a release from now on.
    fn begin(&self, release: &ReleaseId, services: Services, now: Timestamp);

    /// What was counted for a release; none when its counting did not begin here.
    fn end(&self, release: &ReleaseId) -> Option<Window>;

    /// The releases for which is counted.
    fn open(&self) -> Vec<ReleaseId>;
}

/// Counts what goes through Shipway's own port.
#[derive(Default)]
pub struct Counters {
    open: Mutex<HashMap<ReleaseId, (Services, Window)>>,
}

impl Counters {
    fn lock(&self) -> MutexGuard<'_, HashMap<ReleaseId, (Services, Window)>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn record(&self, namespace: &str, service: &str, took: Duration, failed: bool) {
        for (services, window) in self.lock().values_mut() {
            if services.namespace.as_str() == namespace && services.names.contains(service) {
                window.record(took, failed);
            }
        }
    }

    /// Counts a request to `<service>.<namespace>.localhost` from `began` until the end of its response.
    pub fn count(self: &Arc<Self>, host: &str, began: Instant, response: Response) -> Response {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let mut labels = name.split('.');
        let (Some(service), Some(namespace)) = (labels.next(), labels.next()) else { return response };
        let failed = response.status().is_server_error();
        let count = Count {
            counters: self.clone(),
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            began,
            failed,
        };
        response.map(|body| Body::new(Counted { body, count }))
    }
}

impl Traffic for Counters {
    fn begin(&self, release: &ReleaseId, services: Services, now: Timestamp) {
        self.lock().entry(release.clone()).or_insert_with(|| (services, Window::new(now)));
    }

    fn end(&self, release: &ReleaseId) -> Option<Window> {
        self.lock().remove(release).map(|(_, window)| window)
    }

    fn open(&self) -> Vec<ReleaseId> {
        self.lock().keys().cloned().collect()
    }
}

/// A request that is counted when this is dropped.
struct Count {
    counters: Arc<Counters>,
    namespace: String,
    service: String,
    began: Instant,
    failed: bool,
}

impl Drop for Count {
    fn drop(&mut self) {
        self.counters.record(&self.namespace, &self.service, self.began.elapsed(), self.failed);
    }
}

/// The body of a response, with which its request ends.
struct Counted {
    body: Body,
    count: Count,
}

type Frames = std::result::Result<Frame<Bytes>, axum::Error>;

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frames>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Err(_))) = &polled {
            // It was not answered to the end.
            self.count.failed = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Begins to count when a rollout begins and writes an `Observation` when it has ended.
pub struct Observations {
    records: Records,
    blobs: Arc<dyn Blobs>,
    traffic: Arc<dyn Traffic>,
    rollouts: tokio::sync::Mutex<Mirror<Rollout>>,
}

impl Observations {
    pub fn new(records: Records, blobs: Arc<dyn Blobs>, traffic: Arc<dyn Traffic>) -> Self {
        let rollouts = tokio::sync::Mutex::new(Mirror::new(records.clone()));
        Self { records, blobs, traffic, rollouts }
    }

    /// Looks at all rollouts. Of one that was under way when the server started, what came before is not known, and the observation says
    /// from when on it was seen.
    pub async fn activate(&self, now: Timestamp) -> Result<()> {
        let mut rollouts = self.rollouts.lock().await;
        rollouts.sync().await?;
        let open: BTreeSet<ReleaseId> = self.traffic.open().into_iter().collect();
        for found in rollouts.all().filter(|found| !found.record.state.ended()) {
            if !open.contains(&found.record.release) {
                let services = self.services(&found.record.release).await?;
                self.traffic.begin(&found.record.release, services, now);
            }
        }
        for id in open {
            let ended = rollouts.get(&id.key()).is_none_or(|found| found.record.state.ended());
            if !ended {
                continue;
            }
            if let Some(window) = self.traffic.end(&id) {
                let observation: Observation = window.observation(id, now);
                self.records.put(&observation, Expect::Any).await?;
            }
        }
        Ok(())
    }

    /// The services that a release has.
    async fn services(&self, id: &ReleaseId) -> Result<Services> {
        let release = self.records.get::<Release>(&id.key()).await?;
        let release = release.ok_or_else(|| Fault::new(Class::Internal, format!("there is no release {id}")))?.record;
        let text = store::blobs::get(&*self.blobs, &release.manifests, MANIFESTS).await?;
        let objects: Vec<Value> = serde_json::from_slice(&text).map_err(|e| {
            Fault::new(Class::Internal, format!("the manifests of release {id} are not a list of objects: {e}"))
        })?;
        let services = objects.iter().filter(|object| object["kind"] == "Service");
        let names = services.filter_map(|service| service["metadata"]["name"].as_str().map(str::to_owned)).collect();
        Ok(Services { namespace: release.environment.namespace, names })
    }
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
