//! Answers.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::Error;

pub type Answer = Response<Body>;

/// An answer in JSON. `warnings` are shown to the user by every client.
pub fn json(code: StatusCode, value: &Value, warnings: &[String]) -> Answer {
    let mut answer = raw(code, "application/json", value.to_string());
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{}\"", escaped(warning))) {
            answer.headers_mut().append(header::WARNING, value);
        }
    }
    answer
}

pub fn ok(value: &Value) -> Answer {
    json(StatusCode::OK, value, &[])
}

pub fn raw(code: StatusCode, media: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = code;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// The answer that says what went wrong.
pub fn error(error: &Error) -> Answer {
    if !matches!(error, Error::Refused(_)) {
        tracing::error!(error = %chain(error), "a request failed");
    }
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let status = error.status();
    let mut answer = json(code, &status, &[]);
    if let Some(seconds) = status["details"]["retryAfterSeconds"].as_u64() {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Text as it may stand in a quoted string of a header.
fn escaped(text: &str) -> String {
    let cut: String = text.chars().take(900).filter(|c| !c.is_control()).collect();
    cut.replace('\\', "\\\\").replace('"', "\\\"")
}
