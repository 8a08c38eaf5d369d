//! Telling people what happened to an object, as `Event` objects.

use serde_json::{Value, json};

use super::{Objects, meta, resource};
use crate::Result;

/// Something that happened to an object.
#[derive(Debug, Clone)]
pub struct Notice<'a> {
    /// `Normal` or `Warning`.
    pub kind: &'a str,
    /// One word, such as `Scheduled`.
    pub reason: &'a str,
    /// A sentence.
    pub message: String,
    /// Who says so, such as `kubelet`.
    pub component: &'a str,
    /// The part that is meant, as in `spec.containers{web}`; may be empty.
    pub field: String,
}

/// Events with the same text within this many seconds become one with a count.
const TOGETHER: i64 = 600;

impl Objects {
    /// Records that something happened to `object`. The same notice again only counts up. Does not wait for the disk: an
    /// event that cannot be written is said in the log and dropped.
    pub fn notice(&self, object: &Value, notice: Notice<'_>) {
        let event = self.event(object, &notice);
        let objects = self.clone();
        tokio::spawn(async move {
            if let Err(error) = objects.record(event).await {
                tracing::debug!(%error, "an event was not recorded");
            }
        });
    }

    fn event(&self, object: &Value, notice: &Notice<'_>) -> Value {
        let now = meta::time(self.now());
        let namespace = match meta::namespace(object) {
            "" => "default",
            namespace => namespace,
        };
        let mut involved = json!({
            "kind": object["kind"], "namespace": meta::namespace(object), "name": meta::name(object),
            "uid": meta::uid(object), "apiVersion": object["apiVersion"],
            "resourceVersion": object["metadata"]["resourceVersion"],
        });
        if !notice.field.is_empty() {
            involved["fieldPath"] = notice.field.as_str().into();
        }
        let mut hash = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(
            &(meta::uid(object), notice.reason, &notice.message, notice.component, &notice.field),
            &mut hash,
        );
        let hash = std::hash::Hasher::finish(&hash);
        // The name is made from what is said, so that saying it again finds it.
        let stem: String = meta::name(object).chars().take(230).collect();
        json!({
            "metadata": {"name": format!("{stem}.{hash:016x}"), "namespace": namespace},
            "involvedObject": involved,
            "reason": notice.reason, "message": notice.message, "type": notice.kind,
            "source": {"component": notice.component}, "reportingComponent": notice.component, "reportingInstance": "",
            "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        })
    }

    async fn record(&self, event: Value) -> Result<()> {
        let (namespace, name) = (meta::namespace(&event).to_owned(), meta::name(&event).to_owned());
        let now = self.now();
        let recent = self.find(&resource::EVENTS, &namespace, &name).is_some_and(|old| {
            let last = old["lastTimestamp"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
            last.is_some_and(|last| now.duration_since(last).as_secs() < TOGETHER)
        });
        if !recent {
            let _ = self.delete(&resource::EVENTS, &namespace, &name, &Default::default()).await;
            match self.create(&resource::EVENTS, event).await {
                Err(error) if error.is_already_exists() => {}
                done => return done.map(drop),
            }
        }
        let count = |event: &mut Value| {
            event["count"] = (event["count"].as_i64().unwrap_or(1) + 1).into();
            event["lastTimestamp"] = meta::time(now).into();
        };
        self.modify(&resource::EVENTS, &namespace, &name, count).await.map(drop)
    }
}
