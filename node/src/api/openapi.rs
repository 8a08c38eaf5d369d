//! The description of the API: OpenAPI v2 as JSON and in its protobuf form, v3 by group.
//!
//! The documents are made at the first request and kept compressed: clients ask rarely, and keep what they got.

mod paths;
mod proto;

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use super::answer::{self, Answer};
use super::discovery;
use super::schema;
use crate::objects::resource;
use crate::{Error, Result};

/// The oldest clients want v2 in this form. They ask for it with `@` in the name, which they cannot read in an answer.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A document, with the digest by which clients know it again.
struct Document {
    compressed: Bytes,
    tag: String,
}

impl Document {
    fn new(text: &[u8]) -> Result<Self> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text);
        let tag: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02X}")).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let compressed = encoder.write_all(text).and_then(|()| encoder.finish());
        let compressed = compressed.map_err(|e| Error::caused("cannot compress the API's description", e))?;
        Ok(Self { compressed: compressed.into(), tag })
    }

    fn answer(&self, media: &'static str, headers: &HeaderMap) -> Result<Answer> {
        let tag = format!("\"{}\"", self.tag);
        let tag_value = HeaderValue::from_str(&tag).map_err(|e| Error::caused("a digest is no header", e))?;
        let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        if known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
            let mut answer = answer::raw(StatusCode::NOT_MODIFIED, media, "");
            answer.headers_mut().insert(header::ETAG, tag_value);
            return Ok(answer);
        }
        let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let mut answer = if accepted.is_some_and(|accepted| accepted.contains("gzip")) {
            let mut answer = answer::raw(StatusCode::OK, media, self.compressed.clone());
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer
        } else {
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&self.compressed[..]), &mut plain)
                .map_err(|e| Error::caused("cannot decompress the API's description", e))?;
            answer::raw(StatusCode::OK, media, plain)
        };
        answer.headers_mut().insert(header::ETAG, tag_value);
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
        Ok(answer)
    }
}

/// Every document of the API.
struct Documents {
    v2: Document,
    v2_proto: Document,
    /// By path, as in `apis/apps/v1`.
    v3: Vec<(String, Document)>,
}

static DOCUMENTS: OnceCell<Arc<Documents>> = OnceCell::const_new();

async fn documents() -> Result<Arc<Documents>> {
    let made = DOCUMENTS.get_or_try_init(|| async {
        let task = tokio::task::spawn_blocking(|| Documents::new().map(Arc::new));
        task.await.map_err(|e| Error::caused("describing the API was interrupted", e))?
    });
    made.await.cloned()
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": discovery::version()["gitVersion"]})
}

impl Documents {
    fn new() -> Result<Self> {
        let definitions = schema::documents();
        let mut paths = Map::new();
        for resource in resource::ALL {
            paths.extend(paths::of(resource));
        }
        let v2 = json!({"swagger": "2.0", "info": info(), "paths": paths::v2(&paths), "definitions": definitions});
        let mut v3 = Vec::new();
        let groups = std::iter::once(("", "v1")).chain(discovery::groups());
        for (group, version) in groups {
            let path = if group.is_empty() { "api/v1".to_owned() } else { format!("apis/{group}/{version}") };
            let kinds: Vec<_> = resource::ALL.iter().filter(|r| r.group == group && r.version == version).collect();
            let mut own = Map::new();
            for resource in &kinds {
                own.extend(paths::of(resource));
            }
            let mut needed = Map::new();
            for resource in &kinds {
                gather(&schema::definition_name(resource), &definitions, &mut needed);
                for subresource in resource.subresources.iter().filter(|s| s.kind == "Scale" || s.kind == "Eviction") {
                    let group = subresource.group.split('.').next().unwrap_or_default();
                    let name = format!("io.k8s.api.{group}.{}.{}", subresource.version, subresource.kind);
                    gather(&name, &definitions, &mut needed);
                }
            }
            let text = json!({"openapi": "3.0.0", "info": info(), "paths": own, "components": {"schemas": needed}});
            let text = text.to_string().replace("#/definitions/", "#/components/schemas/");
            v3.push((path, Document::new(text.as_bytes())?));
        }
        Ok(Self { v2: Document::new(v2.to_string().as_bytes())?, v2_proto: Document::new(&proto::document(&v2))?, v3 })
    }
}

/// Takes a definition and all that it refers to, in the form of v3.
fn gather(name: &str, definitions: &Map<String, Value>, into: &mut Map<String, Value>) {
    if into.contains_key(name) {
        return;
    }
    let Some(definition) = definitions.get(name) else { return };
    let mut definition = definition.clone();
    wrap(&mut definition);
    let mut references = Vec::new();
    refer(&definition, &mut references);
    into.insert(name.to_owned(), definition);
    for reference in references {
        gather(&reference, definitions, into);
    }
}

/// In v3 a reference stands alone: what says more about a field wraps it in `allOf`.
fn wrap(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.len() > 1
                && let Some(reference) = map.get("$ref").filter(|r| r.is_string()).cloned()
            {
                map.shift_remove("$ref");
                map.insert("allOf".into(), json!([{"$ref": reference}]));
                return;
            }
            map.values_mut().for_each(wrap);
        }
        Value::Array(list) => list.iter_mut().for_each(wrap),
        _ => {}
    }
}

fn refer(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                references.push(reference.trim_start_matches("#/definitions/").to_owned());
            }
            map.values().for_each(|value| refer(value, references));
        }
        Value::Array(list) => list.iter().for_each(|value| refer(value, references)),
        _ => {}
    }
}

/// `/openapi/v2`
pub async fn v2(headers: &HeaderMap) -> Result<Answer> {
    let documents = documents().await?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match accept.contains("proto-openapi.spec.v2@v1.0+protobuf") || accept.contains(PROTOBUF) {
        true => documents.v2_proto.answer(PROTOBUF, headers),
        false => documents.v2.answer("application/json", headers),
    }
}

/// `/openapi/v3` and the documents below it.
pub async fn v3(path: Option<&str>, headers: &HeaderMap) -> Result<Answer> {
    let documents = documents().await?;
    let Some(path) = path else {
        let paths: Map<String, Value> = documents
            .v3
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.tag);
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        return Ok(answer::ok(&json!({"paths": paths})));
    };
    let found = documents.v3.iter().find(|(known, _)| known == path);
    // Clients that ask for protobuf here take JSON as well.
    found.ok_or_else(discovery::unknown_path)?.1.answer("application/json", headers)
}
