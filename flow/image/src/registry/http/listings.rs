//! `/v2/_catalog`, `/v2/<name>/tags/list` and `/v2/<name>/referrers/<digest>`

use axum::response::Response;
use http::{StatusCode, header};
use records::Digest;
use serde_json::json;

use super::{Call, Server, answer, answer::set, path};
use crate::{Error, Kind, Result, media};

/// How many names a client gets at once, however many it asks for.
const MAX_NAMES: usize = 10_000;

impl Server {
    pub(super) async fn catalog(&self, call: &Call) -> Result<Response> {
        let limit = limit(call)?;
        let page = self.registry.repositories(call.query.get("last"), limit).await?;
        let next =
            page.names.last().filter(|_| page.more).map(|last| format!("/v2/_catalog?n={limit}&last={}", encode(last)));
        let response = answer::plain(StatusCode::OK, json!({ "repositories": page.names }).to_string());
        Ok(linked(response, next))
    }

    pub(super) async fn list_tags(&self, repository: &str, call: &Call) -> Result<Response> {
        let limit = limit(call)?;
        let page = self.registry.tags(repository, call.query.get("last"), limit).await?;
        let next = page.names.last().filter(|_| page.more);
        let next = next.map(|last| format!("/v2/{repository}/tags/list?n={limit}&last={}", encode(last)));
        let body = json!({ "name": repository, "tags": page.names }).to_string();
        Ok(linked(answer::plain(StatusCode::OK, body), next))
    }

    pub(super) async fn list_referrers(&self, repository: &str, subject: &Digest, call: &Call) -> Result<Response> {
        let artifact_type = call.query.get("artifactType").filter(|wanted| !wanted.is_empty());
        let after = call.query.get("last").map(path::digest).transpose()?;
        let page = self.registry.referrers_page(repository, subject, artifact_type, after.as_ref()).await?;
        let body = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": page.descriptors });
        let mut response = answer::plain(StatusCode::OK, body.to_string());
        set(&mut response, header::CONTENT_TYPE, media::OCI_INDEX);
        if artifact_type.is_some() {
            set(&mut response, answer::FILTERS, "artifactType");
        }
        let next = page.next.map(|last| {
            let filter = artifact_type.map(|wanted| format!("&artifactType={}", encode(wanted))).unwrap_or_default();
            format!("/v2/{repository}/referrers/{subject}?last={}{filter}", encode(last.as_str()))
        });
        Ok(linked(response, next))
    }
}

fn limit(call: &Call) -> Result<usize> {
    let Some(text) = call.query.get("n") else { return Ok(MAX_NAMES) };
    match text.parse::<u64>() {
        Ok(n) => Ok(usize::try_from(n).unwrap_or(MAX_NAMES).min(MAX_NAMES)),
        Err(_) => Err(Error::new(Kind::PaginationInvalid, "parameter `n` must be a number, 0 or more")),
    }
}

fn linked(mut response: Response, next: Option<String>) -> Response {
    if let Some(next) = next {
        set(&mut response, header::LINK, &format!("<{next}>; rel=\"next\""));
    }
    response
}

/// Percent-encodes a query value.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'~' | b'/' | b':' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
