//! Reading what a request carries.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::protobuf;
use super::request::Query;
use super::schema::{self, Shape};
use crate::objects::Resource;
use crate::{Error, Result};

/// The largest body.
pub const LIMIT: usize = 3 << 20;

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads a whole body, as far as the limit.
pub async fn read(body: Body) -> Result<Bytes> {
    let Ok(read) = tokio::time::timeout(PATIENCE, Limited::new(body, LIMIT).collect()).await else {
        let message = format!("the body of the request did not come within {} seconds", PATIENCE.as_secs());
        return Err(Error::refused(StatusCode::REQUEST_TIMEOUT, "Timeout", message));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {LIMIT}"),
        )),
        Err(error) => Err(Error::bad_request(format!("the request ended early: {error}"))),
    }
}

/// The media type of a body, without parameters; empty when it is not said.
pub fn media(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// A document with the paths of keys that came twice.
#[derive(Debug)]
pub struct Document {
    pub value: Value,
    pub duplicates: Vec<String>,
}

/// Reads JSON, YAML or the protobuf form of an object.
pub fn document(media: &str, bytes: &[u8]) -> Result<Document> {
    match media {
        protobuf::MEDIA => return Ok(Document { value: protobuf::object(bytes)?, duplicates: Vec::new() }),
        "" | "application/json" | "application/yaml" | "application/apply-patch+yaml" | "text/plain" | "*/*" => {}
        other => {
            let message = format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, \
                 application/yaml, application/vnd.kubernetes.protobuf (it was {other})"
            );
            return Err(Error::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message));
        }
    }
    let mut duplicates = Vec::new();
    let yaml = media.ends_with("yaml");
    // Clients send JSON as YAML, which it is.
    if !yaml || bytes.first() == Some(&b'{') {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let seed = Seed { duplicates: &mut duplicates, path: String::new() };
        let value = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        match value {
            Ok(value) => return Ok(Document { value, duplicates }),
            Err(error) if !yaml => {
                return Err(Error::bad_request(format!("the object provided is unrecognized: it is no JSON: {error}")));
            }
            Err(_) => {}
        }
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::bad_request("the YAML in the request is no UTF-8"))?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let value = serde_saphyr::from_str_with_options::<Value>(text, options)
        .map_err(|e| Error::bad_request(format!("error decoding YAML: {e}")))?;
    Ok(Document { value, duplicates: Vec::new() })
}

struct Seed<'a> {
    duplicates: &'a mut Vec<String>,
    path: String,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, list.len());
            match seq.next_element_seed(Seed { duplicates: self.duplicates, path })? {
                Some(value) => list.push(value),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            let value = access.next_value_seed(Seed { duplicates: self.duplicates, path: path.clone() })?;
            if map.insert(key, value).is_some() && self.duplicates.len() < 100 {
                self.duplicates.push(path);
            }
        }
        Ok(map.into())
    }
}

/// What to do about fields that a kind does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub fn of(query: &Query) -> Result<Self> {
        match query.get("fieldValidation") {
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => Err(Error::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// Holds an object against the shape of its kind and takes out what does not belong there. Returns warnings.
pub fn check(
    resource: &Resource,
    shape: &Shape,
    object: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>> {
    let refused = |what: String| {
        let (kind, version) = (resource.kind, resource.version);
        Error::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {what}"))
    };
    let findings = schema::check(shape, object);
    if let Some(wrong) = findings.wrong.first() {
        return Err(refused(wrong.clone()));
    }
    if validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    let mut sentences: Vec<String> =
        findings.unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect();
    sentences.extend(duplicates.iter().map(|field| format!("duplicate field \"{field}\"")));
    if validation == FieldValidation::Strict && !sentences.is_empty() {
        return Err(refused(format!("strict decoding error: {}", sentences.join(", "))));
    }
    Ok(sentences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_come_twice_are_named() {
        let document = document("application/json", br#"{"a": 1, "b": [{"c": 1, "c": 2}], "a": 2}"#).unwrap();
        assert_eq!(document.duplicates, ["b[0].c", "a"]);
        assert_eq!(document.value, serde_json::json!({"a": 2, "b": [{"c": 2}]}));
    }

    #[test]
    fn yaml_is_read_as_kubernetes_reads_it() {
        let document = document("application/yaml", b"a: yes\nmode: 0644\nlist:\n- x\n").unwrap();
        assert_eq!(document.value, serde_json::json!({"a": true, "mode": 420, "list": ["x"]}));
    }

    #[test]
    fn deep_json_is_refused() {
        let bomb = "[".repeat(100_000);
        assert!(super::document("application/json", bomb.as_bytes()).is_err());
        assert_eq!(super::document("application/cbor", b"k8s").unwrap_err().code(), 415);
    }
}
