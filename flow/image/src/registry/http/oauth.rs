//! The form of OAuth 2 (RFC 6749, section 4.3) in which some clients ask for a token: containerd always, others when they are told to.

use axum::{body::Body, response::Response};
use base64::Engine;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use super::{Call, answer, path};
use crate::{Error, Kind, Result};

/// A longer form has nothing to say.
const MAX_FORM: usize = 16 << 10;

/// What is asked for.
pub struct Asked {
    /// As a `Basic` header.
    pub authorization: String,
    pub scopes: Vec<String>,
}

/// Reads the form; or what to answer instead.
pub async fn read(call: &Call, body: Body) -> Result<std::result::Result<Asked, Response>> {
    let broke_off = |why: String| Error::new(Kind::SizeInvalid, format!("the form did not arrive: {why}"));
    let media_type = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if crate::media::essence(media_type) != "application/x-www-form-urlencoded" {
        let why = "send a form: application/x-www-form-urlencoded";
        return Ok(Err(refusal(StatusCode::BAD_REQUEST, "invalid_request", why)));
    }
    let read = tokio::time::timeout(call.stall, Limited::new(body, MAX_FORM).collect()).await;
    let form = read.map_err(|e| broke_off(e.to_string()))?.map_err(|e| broke_off(e.to_string()))?.to_bytes();
    let (mut grant, mut user, mut password, mut scopes) = (String::new(), String::new(), String::new(), Vec::new());
    for pair in form.split(|byte| *byte == b'&') {
        let pair = String::from_utf8_lossy(pair).replace('+', " ");
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        let value = path::decode(value);
        match name {
            "grant_type" => grant = value,
            "username" => user = value,
            "password" => password = value,
            "scope" => scopes.push(value),
            _ => {}
        }
    }
    if grant != "password" {
        // Clients that hold a password ask again with it.
        let why = "only the grant type `password` is known: send username and password";
        return Ok(Err(refusal(StatusCode::BAD_REQUEST, "unsupported_grant_type", why)));
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    Ok(Ok(Asked { authorization: format!("Basic {encoded}"), scopes }))
}

/// An error as RFC 6749, section 5.2 has it.
pub fn refusal(status: StatusCode, error: &str, description: &str) -> Response {
    let mut response = answer::plain(status, json!({ "error": error, "error_description": description }).to_string());
    answer::set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}
