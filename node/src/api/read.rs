//! Reading objects: one, a list, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use store::Seq;

use super::answer::{self, Answer};
use super::request::{Form, Query, Target};
use super::{Api, events, table};
use crate::objects::{FieldSelector, Happened, LabelSelector, Resource, Scope, Watcher};
use crate::{Error, Result};

/// How long a watch lasts when the client does not say.
const WATCH: Duration = Duration::from_secs(1800);
/// How often an idle watch is told how far it is.
const BOOKMARK: Duration = Duration::from_secs(30);
const END_OF_LIST: &str = "k8s.io/initial-events-end";

/// What a list or a watch selects.
pub fn scope(target: &Target, query: &Query) -> Result<Scope> {
    let resource = target.resource;
    let fields = events::stored_selector(resource, query.get("fieldSelector").unwrap_or_default());
    let fields = FieldSelector::parse(resource.stored_as.unwrap_or(resource), &fields)?;
    let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default())?;
    Ok(Scope { namespace: target.namespace.clone(), labels, fields })
}

/// `GET` of one object.
pub fn get(api: &Api, target: &Target, name: &str, form: Form, query: &Query) -> Result<Answer> {
    let object = api.objects.get(target.resource, target.namespace(), name)?;
    Ok(answer::ok(&one(api, target.resource, &object, form, query)))
}

/// One object in the form that was asked for.
pub fn one(api: &Api, resource: &Resource, object: &Value, form: Form, query: &Query) -> Value {
    match form {
        Form::Table(version) => {
            let rows = std::iter::once(object);
            let rv = &object["metadata"]["resourceVersion"];
            table::render(
                resource,
                rows,
                version,
                &json!({"resourceVersion": rv}),
                include(query),
                api.objects.now(),
                true,
            )
        }
        Form::Metadata(version) => metadata_only(object, version),
        Form::Json | Form::Discovery(_) => events::shown(resource, object.clone()),
    }
}

fn include(query: &Query) -> table::Include {
    match query.get("includeObject") {
        Some("None") => table::Include::Nothing,
        Some("Object") => table::Include::Object,
        _ => table::Include::Metadata,
    }
}

pub fn metadata_only(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": object["metadata"],
    })
}

/// `GET` of a list.
pub fn list(api: &Api, target: &Target, form: Form, query: &Query) -> Result<Answer> {
    let resource = target.resource;
    let scope = scope(target, query)?;
    let limit = query.number::<usize>("limit")?.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let resumed = query.get("continue").map(Place::read).transpose()?;
    let after = resumed.as_ref().map(|place| place.after.as_str());
    let (objects, now, more) = api.objects.page(resource, &scope, after, limit);
    // Whoever reads on in pages watches on from the first.
    let version = resumed.as_ref().map_or(now, |place| place.version);
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some((last, left)) = more {
        metadata["continue"] = Place { version, after: last }.written().into();
        if scope.labels.is_everything() && scope.fields.is_everything() {
            metadata["remainingItemCount"] = left.into();
        }
    }
    let (kind, version) = match form {
        Form::Table(version) => {
            let rows = objects.iter().map(|object| &**object);
            let now = api.objects.now();
            let table = table::render(resource, rows, version, &metadata, include(query), now, true);
            return Ok(answer::ok(&table));
        }
        Form::Metadata(version) => {
            let items: Vec<Value> = objects.iter().map(|object| metadata_only(object, version)).collect();
            return Ok(answer::ok(&json!({
                "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata, "items": items,
            })));
        }
        Form::Json | Form::Discovery(_) => (format!("{}List", resource.kind), resource.api_version()),
    };
    // Written piece by piece: objects are not copied into one tree first.
    let mut body =
        format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{metadata},"items":["#).into_bytes();
    for (at, object) in objects.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        let written = if resource.stored_as.is_some() {
            serde_json::to_writer(&mut body, &events::shown(resource, Value::clone(object)))
        } else {
            serde_json::to_writer(&mut body, object)
        };
        written.map_err(|e| Error::caused("cannot write an object as JSON", e))?;
    }
    body.extend_from_slice(b"]}");
    Ok(answer::raw(StatusCode::OK, "application/json", body))
}

/// Where the next page of a list starts.
struct Place {
    version: Seq,
    after: String,
}

impl Place {
    fn written(&self) -> String {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{}/{}", self.version, self.after))
    }

    fn read(text: &str) -> Result<Self> {
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let decoded = engine.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let place = decoded.as_deref().and_then(|text| {
            let (version, after) = text.split_once('/')?;
            Some(Self { version: version.parse().ok()?, after: after.to_owned() })
        });
        place.ok_or_else(|| {
            Error::bad_request("continue key is not valid: use the value of the last list's metadata.continue")
        })
    }
}

/// `GET` with `watch`.
pub fn watch(api: &Arc<Api>, target: &Target, form: Form, query: &Query) -> Result<Answer> {
    let scope = scope(target, query)?;
    let version = match query.get("resourceVersion") {
        None | Some("0") => None,
        Some(text) => {
            let message = || Error::bad_request(format!("resourceVersion: Invalid value: {text:?}: must be a number"));
            Some(text.parse::<Seq>().map_err(|_| message())?)
        }
    };
    let initial = query.flag("sendInitialEvents");
    let from = if initial { None } else { version };
    let lasts =
        query.number::<u64>("timeoutSeconds")?.filter(|s| *s > 0).map_or(WATCH, |s| Duration::from_secs(s.min(86_400)));
    let body = match api.objects.watch(target.resource, scope, from) {
        Ok(watcher) => {
            let following = Following {
                api: api.clone(),
                resource: target.resource,
                watcher,
                form,
                include: include(query),
                bookmarks: query.flag("allowWatchBookmarks"),
                initial,
                columns: true,
                deadline: tokio::time::Instant::now() + lasts,
            };
            Body::from_stream(futures::stream::unfold(Some(following), |following| async move {
                let mut following = following?;
                let (chunk, on) = following.chunk().await?;
                Some((Ok::<_, std::convert::Infallible>(chunk), on.then_some(following)))
            }))
        }
        // Clients expect to be told in the stream.
        Err(error) => Body::from(line("ERROR", &error.status())),
    };
    Ok(answer::raw(StatusCode::OK, "application/json", body))
}

fn line(kind: &str, object: &Value) -> Vec<u8> {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into_bytes()
}

/// A watch under way.
struct Following {
    api: Arc<Api>,
    resource: &'static Resource,
    watcher: Watcher,
    form: Form,
    include: table::Include,
    bookmarks: bool,
    /// The end of what was there at first is still to be told.
    initial: bool,
    /// The columns of a table are still to be told.
    columns: bool,
    deadline: tokio::time::Instant,
}

impl Following {
    /// The next lines, and whether there is more to come; `None` at the end.
    async fn chunk(&mut self) -> Option<(Bytes, bool)> {
        if self.initial
            && let Ok(Some(version)) = self.watcher.caught_up()
        {
            self.initial = false;
            return Some((self.bookmark(version, true).into(), true));
        }
        let idle = tokio::time::Instant::now() + BOOKMARK;
        tokio::select! {
            event = self.watcher.next() => match event {
                Ok(event) => {
                    let mut lines = self.event(event.happened, &event.object);
                    // What has come meanwhile goes along.
                    while lines.len() < 256 << 10 && matches!(self.watcher.caught_up(), Ok(None)) {
                        let Ok(event) = self.watcher.next().await else { break };
                        lines.extend(self.event(event.happened, &event.object));
                    }
                    Some((lines.into(), true))
                }
                Err(error) => Some((line("ERROR", &error.status()).into(), false)),
            },
            () = self.api.stop.cancelled() => None,
            () = tokio::time::sleep_until(self.deadline) => {
                let last = self.watcher.caught_up().ok().flatten().filter(|_| self.bookmarks)?;
                Some((self.bookmark(last, false).into(), false))
            }
            () = tokio::time::sleep_until(idle), if self.bookmarks => {
                let version = self.watcher.caught_up().ok().flatten()?;
                Some((self.bookmark(version, false).into(), true))
            }
        }
    }

    fn event(&mut self, happened: Happened, object: &Value) -> Vec<u8> {
        let shown;
        let object = match self.form {
            Form::Json | Form::Discovery(_) if self.resource.stored_as.is_none() => object,
            Form::Json | Form::Discovery(_) => {
                shown = events::shown(self.resource, object.clone());
                &shown
            }
            Form::Metadata(version) => {
                shown = metadata_only(object, version);
                &shown
            }
            Form::Table(version) => {
                let now = self.api.objects.now();
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let rows = std::iter::once(object);
                shown = table::render(self.resource, rows, version, &metadata, self.include, now, self.columns);
                self.columns = false;
                &shown
            }
        };
        line(happened.as_str(), object)
    }

    fn bookmark(&self, version: Seq, end_of_list: bool) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if end_of_list {
            metadata["annotations"] = json!({END_OF_LIST: "true"});
        }
        let object = match self.form {
            Form::Table(form) => {
                let row = json!({"cells": [], "object": metadata_only(&json!({"metadata": metadata}), form)});
                json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{form}"),
                    "metadata": {"resourceVersion": version.to_string()}, "columnDefinitions": [], "rows": [row]})
            }
            Form::Metadata(form) => metadata_only(&json!({"metadata": metadata}), form),
            Form::Json | Form::Discovery(_) => {
                json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata})
            }
        };
        line("BOOKMARK", &object)
    }
}
