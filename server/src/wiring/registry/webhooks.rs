//! Tells others what happened in the registry: each event once or more, in order, signed, until it was taken.
//!
//! The addresses are in `DIR/webhooks.json`, a list of `{"name", "url", "secret", "repositories", "format"}`, which only its owner may read: a
//! secret signs. How far each has been told is a record.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use image::registry::{
    Registry,
    cleanup::pattern::fits,
    events::{EVENT, Event},
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Change, Expect, Kind, Seq};
use tokio::time::Instant;

use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// Key: the name of the webhook. Value: the version of the last event that was taken.
const TOLD: &str = "registry/webhook";
/// How long an address that fails is left alone: this, doubled each time, up to the last.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the file is read again.
const PERIOD: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Webhook {
    name: String,
    url: String,
    secret: String,
    /// Repositories; `*` stands for anything.
    #[serde(default = "all")]
    repositories: String,
    #[serde(default)]
    format: Format,
}

fn all() -> String {
    "*".into()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    CloudEvents,
    /// The notifications of Docker's registry.
    Docker,
}

/// Starts telling; the app's supervisor owns it.
pub fn start(app: &Arc<App>) {
    let cancel = app.supervisor.token();
    let (owner, app) = (app.clone(), app.clone());
    owner.supervisor.spawn("webhooks", async move {
        let http = match reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()
        {
            Ok(http) => http,
            Err(error) => return tracing::error!(%error, "nobody can be told of events"),
        };
        let mut head = app.records.log().head();
        let mut failing: BTreeMap<String, (u32, Instant)> = BTreeMap::new();
        let mut said = String::new();
        loop {
            head.borrow_and_update();
            let work = tell_all(&app, &http, &mut failing);
            tokio::select! {
                () = cancel.cancelled() => return,
                done = work => {
                    // A file that cannot be used is complained of once.
                    let now = done.err().map(|fault| fault.to_string()).unwrap_or_default();
                    if !now.is_empty() && now != said {
                        tracing::warn!("webhooks: {now}");
                    }
                    said = now;
                }
            }
            let next = failing.values().map(|(_, at)| *at).min();
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(|| Instant::now() + PERIOD)) => {}
                _ = head.changed() => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
}

fn read(path: &Path) -> Result<Vec<Webhook>> {
    let refused = |why: String| Fault::new(Class::Usage, format!("{} cannot be used: {why}", path.display()));
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(refused(e.to_string())),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(refused("it holds secrets and can be read by others: chmod 600".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| refused(e.to_string()))?;
    let hooks: Vec<Webhook> = serde_json::from_str(&text).map_err(|e| refused(e.to_string()))?;
    for hook in &hooks {
        let name = !hook.name.is_empty() && hook.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !name || hook.secret.is_empty() {
            return Err(refused(format!(
                "webhook `{}` needs a name of letters, digits and `-`, and a secret",
                hook.name
            )));
        }
    }
    Ok(hooks)
}

async fn tell_all(app: &App, http: &reqwest::Client, failing: &mut BTreeMap<String, (u32, Instant)>) -> Result<()> {
    for hook in read(&app.config.data.join("webhooks.json"))? {
        if failing.get(&hook.name).is_some_and(|(_, at)| *at > Instant::now()) {
            continue;
        }
        match tell(app, http, &hook).await {
            Ok(()) => drop(failing.remove(&hook.name)),
            Err(fault) => {
                let times = failing.get(&hook.name).map_or(0, |(times, _)| *times) + 1;
                let wait = WAIT.0.saturating_mul(1 << times.min(20).saturating_sub(1)).min(WAIT.1);
                tracing::warn!(webhook = hook.name, %fault, times, "it was not taken; it is told again in {} s", wait.as_secs());
                failing.insert(hook.name.clone(), (times, Instant::now() + wait));
            }
        }
    }
    Ok(())
}

/// Tells one address all that it has not taken yet.
async fn tell(app: &App, http: &reqwest::Client, hook: &Webhook) -> Result<()> {
    let log = app.records.log();
    let told = log.get(TOLD, &hook.name).await?;
    let head = *log.head().borrow();
    // A new one is told of what happens from now on.
    let mut at: Seq = match &told {
        Some(entry) => std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).unwrap_or(head),
        None => {
            keep(app, hook, head).await?;
            head
        }
    };
    loop {
        let entries = match log.changes(EVENT, at, 100).await {
            Err(error) if error.kind == Kind::Compacted => {
                tracing::warn!(webhook = hook.name, "events that it was not told of are forgotten");
                return keep(app, hook, head).await;
            }
            other => other?,
        };
        let Some(last) = entries.last().map(|entry| entry.seq) else { return Ok(()) };
        for entry in entries.iter().filter(|entry| !entry.deleted) {
            let event = Registry::read_event(entry).map_err(|e| Fault::from_error(Class::Internal, &e))?;
            if fits(&hook.repositories, &event.repository) {
                post(http, hook, &body(hook.format, &entry.key, &event, &app.rooms.address().to_string())).await?;
                keep(app, hook, entry.seq).await?;
            }
        }
        keep(app, hook, last).await?;
        at = last;
    }
}

async fn keep(app: &App, hook: &Webhook, at: Seq) -> Result<()> {
    let (kind, key, value) = (TOLD.into(), hook.name.clone(), at.to_string().into());
    app.records.log().append(vec![Change { kind, key, expect: Expect::Any, value, delete: false }]).await?;
    Ok(())
}

async fn post(http: &reqwest::Client, hook: &Webhook, body: &Value) -> Result<()> {
    let text = body.to_string();
    let kind = match hook.format {
        Format::CloudEvents => "application/cloudevents+json",
        Format::Docker => "application/vnd.docker.distribution.events.v2+json",
    };
    let request =
        http.post(&hook.url).header("content-type", kind).header("x-shipway-signature", signature(&hook.secret, &text));
    let unavailable = |why: String| Fault::new(Class::Unavailable, format!("{}: {why}", hook.url));
    let response = request.body(text).send().await.map_err(|e| unavailable(crate::fault::chain(&e)))?;
    if response.status().is_success() { Ok(()) } else { Err(unavailable(format!("answered {}", response.status()))) }
}

/// `sha256=` and the HMAC of the body in hex.
fn signature(secret: &str, body: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    let hex: String = HEXLOWER.encode(tag.as_ref());
    format!("sha256={hex}")
}

fn body(format: Format, id: &str, event: &Event, host: &str) -> Value {
    let reference = event.tag.clone().or(event.digest.as_ref().map(ToString::to_string)).unwrap_or_default();
    match format {
        Format::CloudEvents => json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("http://{host}/v2/{}", event.repository),
            "type": format!("dev.shipway.registry.{}", event.action.name()),
            "subject": reference,
            "time": event.at,
            "datacontenttype": "application/json",
            "data": event,
        }),
        Format::Docker => json!({ "events": [{
            "id": id,
            "timestamp": event.at,
            "action": event.action.name(),
            "target": {
                "mediaType": event.media_type, "size": event.size, "length": event.size, "digest": event.digest,
                "repository": event.repository, "tag": event.tag,
                "url": format!("http://{host}/v2/{}/manifests/{reference}", event.repository),
            },
            "request": { "host": host, "useragent": event.agent },
            "actor": { "name": event.who },
            "source": { "addr": host },
        }] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_as_everybody_checks_it() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", "what do ya want for nothing?"), expected);
    }

    #[test]
    fn the_file_is_private_and_checked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("webhooks.json");
        assert!(read(&path).unwrap().is_empty());
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&path)
        };
        let good = r#"[{"name":"a","url":"http://x/","secret":"s","format":"docker"}]"#;
        assert_eq!(write(good, 0o600).unwrap()[0].format, Format::Docker);
        assert!(write(good, 0o644).is_err());
        assert!(write(r#"[{"name":"a","url":"http://x/","secret":""}]"#, 0o600).is_err());
        assert!(write(r#"[{"name":"a/b","url":"http://x/","secret":"s"}]"#, 0o600).is_err());
        assert!(write("[", 0o600).is_err());
    }
}
