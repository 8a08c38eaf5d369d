//! Responses, and the specification's error bodies.

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{Error, Kind};

/// The status and the error code of a kind of error.
fn code(kind: Kind) -> (StatusCode, &'static str) {
    use store::Kind as Stored;
    match kind {
        Kind::NameInvalid => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
        Kind::NameUnknown => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        Kind::TagInvalid => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
        Kind::DigestInvalid => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        Kind::ManifestUnknown => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        Kind::ManifestInvalid | Kind::Malformed => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        Kind::ManifestBlobUnknown => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
        Kind::ManifestTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        Kind::BlobUnknown => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        Kind::UploadUnknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        Kind::UploadInvalid => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
        Kind::RangeInvalid => (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID"),
        Kind::SizeInvalid => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        Kind::PaginationInvalid => (StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID"),
        Kind::Denied => (StatusCode::FORBIDDEN, "DENIED"),
        Kind::TooMany => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
        Kind::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
        Kind::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
        Kind::EntryRefused | Kind::TooLarge => (StatusCode::BAD_REQUEST, "UNKNOWN"),
        Kind::Store(Stored::NotFound) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        Kind::Store(Stored::Conflict) => (StatusCode::CONFLICT, "UNKNOWN"),
        Kind::Store(Stored::Full) => (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN"),
        Kind::Remote => (StatusCode::BAD_GATEWAY, "UNKNOWN"),
        Kind::Store(_) | Kind::Io => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

pub fn failure(error: &Error) -> Response {
    let (status, code) = code(error.kind);
    // What fails inside is for the log, not for the client: it may name files of this machine.
    let message = match error.kind {
        Kind::Store(store::Kind::Full) => "no space is left in the registry".to_owned(),
        Kind::Store(_) | Kind::Io if status.is_server_error() => "the registry failed; see its log".to_owned(),
        _ => error.message.clone(),
    };
    let mut response = errors(status, code, &message);
    if let Some(seconds) = error.retry_after_s {
        set(&mut response, header::RETRY_AFTER, &seconds.to_string());
    }
    response
}

fn errors(status: StatusCode, code: &str, message: &str) -> Response {
    plain(status, json!({ "errors": [{ "code": code, "message": message }] }).to_string())
}

/// The challenge for user and password.
pub const BASIC: &str = "Basic realm=\"shipway\", charset=\"UTF-8\"";

pub fn challenge(challenges: &[String]) -> Response {
    let mut response =
        errors(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "credentials are needed: log in with a user and token");
    for challenge in challenges {
        if let Ok(value) = HeaderValue::from_str(challenge) {
            response.headers_mut().append(header::WWW_AUTHENTICATE, value);
        }
    }
    response
}

pub fn denied(why: &str) -> Response {
    errors(StatusCode::FORBIDDEN, "DENIED", why)
}

/// A JSON body.
pub fn plain(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "application/json");
    response
}

pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_LENGTH, "0");
    response
}

/// Sets a header. A value that cannot be one (none of ours can) is left out.
pub fn set(response: &mut Response, name: impl Into<HeaderName>, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name.into(), value);
    }
}

pub const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
pub const TAG: HeaderName = HeaderName::from_static("oci-tag");
pub const UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");
