//! The Kubernetes API, as objects of any kind need it: plain JSON in and out.

mod kinds;
mod path;

use std::{sync::Arc, time::Duration};

use futures::AsyncReadExt;
use http::{Method, Request};
use kube::Client;
use serde_json::Value;
use tokio::sync::Mutex;

pub use kinds::{Kinds, Resource};
pub(crate) use path::segment;

use crate::{Error, MANAGER};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest answer: lists of stored releases are large.
const LONGEST: u64 = 512 << 20;

/// A connection to a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Where it is, for errors; empty if that is not known.
    address: Arc<str>,
    kinds: Arc<Mutex<Option<Arc<Kinds>>>>,
}

/// How a change is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    Strategic,
    /// Server-side apply.
    Apply {
        force: bool,
    },
}

impl Patch {
    fn media(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply { .. } => "application/apply-patch+yaml",
        }
    }
}

impl Cluster {
    pub fn new(client: Client) -> Self {
        Self::at(client, "")
    }

    /// The same, with the address that errors name.
    pub fn at(client: Client, address: &str) -> Self {
        Self { client, address: address.trim_end_matches('/').into(), kinds: Arc::default() }
    }

    /// The namespace of the kubeconfig's context.
    pub fn default_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// Asks for the version, and so whether the cluster is there.
    pub async fn version(&self) -> Result<Value, Error> {
        self.get("/version").await.map_err(|error| match error {
            Error::Unreachable(_) => error,
            other => Error::Unreachable(other.to_string()),
        })
    }

    /// The kinds that the cluster serves; asked for once.
    pub async fn kinds(&self) -> Result<Arc<Kinds>, Error> {
        let mut known = self.kinds.lock().await;
        if let Some(kinds) = known.as_ref() {
            return Ok(kinds.clone());
        }
        let kinds = Arc::new(Kinds::ask(self).await?);
        *known = Some(kinds.clone());
        Ok(kinds)
    }

    /// Kinds were added: they are asked for anew.
    pub async fn forget_kinds(&self) {
        *self.kinds.lock().await = None;
    }

    /// Reads the object or list at a path of the API.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.send(Method::GET, path, None, "application/json", "application/json").await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Result<Value, Error> {
        self.send(Method::GET, path, None, "application/json", accept).await
    }

    /// Like [`Self::get`], with nothing for what is not there.
    pub async fn find(&self, path: &str) -> Result<Option<Value>, Error> {
        match self.get(path).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn create(&self, collection: &str, object: &Value) -> Result<Value, Error> {
        let path = format!("{collection}?fieldManager={MANAGER}");
        self.send(Method::POST, &path, Some(object), "application/json", "application/json").await
    }

    pub(crate) async fn replace(&self, path: &str, object: &Value, strict: bool) -> Result<Value, Error> {
        let strict = if strict { "&fieldValidation=Strict" } else { "" };
        let path = format!("{path}?fieldManager={MANAGER}{strict}");
        self.send(Method::PUT, &path, Some(object), "application/json", "application/json").await
    }

    pub(crate) async fn patch(&self, path: &str, how: Patch, patch: &Value) -> Result<Value, Error> {
        let more = match how {
            Patch::Apply { force } => format!("&force={force}&fieldValidation=Strict"),
            _ => String::new(),
        };
        let path = format!("{path}?fieldManager={MANAGER}{more}");
        self.send(Method::PATCH, &path, Some(patch), how.media(), "application/json").await
    }

    /// `propagation`: `Background`, `Foreground` or `Orphan`.
    pub(crate) async fn delete(&self, path: &str, propagation: &str) -> Result<(), Error> {
        let options = serde_json::json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation,
        });
        self.send(Method::DELETE, path, Some(&options), "application/json", "application/json").await.map(drop)
    }

    /// Reads a text, such as a log, up to `most` bytes.
    pub async fn text(&self, path: &str, most: u64) -> Result<Vec<u8>, Error> {
        let request = Request::get(path).body(Vec::new()).map_err(|error| Error::Unreachable(error.to_string()))?;
        self.read(request, most).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        media: &str,
        accept: &str,
    ) -> Result<Value, Error> {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::ACCEPT, accept)
            .header(http::header::CONTENT_TYPE, media)
            .body(bytes)
            .map_err(|error| Error::Unreachable(format!("{path}: {error}")))?;
        let answer = self.read(request, LONGEST).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Error::Unreachable(format!("the answer to {path} is no JSON: {error}")))
    }

    async fn read(&self, request: Request<Vec<u8>>, most: u64) -> Result<Vec<u8>, Error> {
        let answer = async {
            let stream = self.client.request_stream(request).await.map_err(|error| failed(error, &self.address))?;
            let mut bytes = Vec::new();
            let mut limited = std::pin::pin!(stream.take(most));
            limited.read_to_end(&mut bytes).await.map_err(|error| Error::Unreachable(error.to_string()))?;
            Ok(bytes)
        };
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(Error::Unreachable(placed(&self.address, format!("no answer within {} s", ANSWER.as_secs()))))
            }
        }
    }
}

fn placed(address: &str, text: String) -> String {
    if address.is_empty() { text } else { format!("{address}: {text}") }
}

fn failed(error: kube::Error, address: &str) -> Error {
    match error {
        kube::Error::Api(status) => {
            let message = if status.message.is_empty() { status.to_string() } else { status.message.clone() };
            Error::Api { code: status.code, reason: status.reason.clone(), message }
        }
        other => {
            let text = other.to_string();
            // Kube's name for its own layer tells nobody anything.
            let mut text = text.strip_prefix("ServiceError: ").unwrap_or(&text).to_owned();
            let mut source = std::error::Error::source(&other);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            Error::Unreachable(placed(address, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_not_there_is_named() {
        let config = kube::Config::new(http::Uri::from_static("http://127.0.0.1:1"));
        let cluster = Cluster::at(Client::try_from(config).unwrap(), "http://127.0.0.1:1/");
        let said = cluster.version().await.unwrap_err().to_string();
        assert!(said.starts_with("kubernetes cluster unreachable: http://127.0.0.1:1: "), "{said}");
        assert!(said.contains("refused") && !said.contains("ServiceError"), "{said}");
    }
}
