//! What can go wrong in the node, and the `Status` object with which the Kubernetes API says so.

use std::error::Error as StdError;

use http::StatusCode;
use serde_json::{Value, json};

pub type Result<T> = std::result::Result<T, Error>;

/// An error of the node: the API's answer to a request that it refuses, or a failure underneath with its cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that the Kubernetes API answers with a `Status` of failure.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The log of records did not take or give something.
    #[error("the record log failed: {0}")]
    Store(#[from] store::Error),
    /// Something outside failed; `what` names the thing and the way out.
    #[error("{what}")]
    Failed {
        what: String,
        #[source]
        cause: Option<Box<dyn StdError + Send + Sync>>,
    },
}

/// Why the API refuses a request: what a `Status` object holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub code: u16,
    /// The machine-readable reason that clients switch on, such as `NotFound`.
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Value>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// One thing that is wrong with an object: where, which kind of wrong, and the sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// The `CauseType`, such as `FieldValueRequired`.
    pub reason: &'static str,
    /// The path of the field, as in `spec.containers[0].image`.
    pub field: String,
    pub message: String,
}

impl Cause {
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let message = format!("Invalid value: {}: {detail}", shown(value));
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {}", shown(value)),
        }
    }

    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self { reason: "FieldValueNotFound", field: field.into(), message: format!("Not found: {}", shown(value)) }
    }

    pub fn unsupported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
        let message = format!("Unsupported value: {}: supported values: {list}", shown(value));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }
}

/// A value as the API shows it in a sentence, cut at a length that a terminal bears.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(512) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

impl Error {
    pub fn refused(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self::Refused(Box::new(Refusal { code: code.as_u16(), reason, message: message.into(), details: None }))
    }

    fn detailed(code: StatusCode, reason: &'static str, message: String, details: Value) -> Self {
        Self::Refused(Box::new(Refusal { code: code.as_u16(), reason, message, details: Some(details) }))
    }

    /// Adds `details` to a refusal; nothing to other errors.
    pub fn with_details(mut self, details: Value) -> Self {
        if let Self::Refused(refusal) = &mut self {
            refusal.details = Some(details);
        }
        self
    }

    pub fn failed(what: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), cause: None }
    }

    pub fn caused(what: impl Into<String>, cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::Failed { what: what.into(), cause: Some(Box::new(cause)) }
    }

    /// `plural` is qualified by its group as in `deployments.apps`.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, plural));
        Self::detailed(StatusCode::NOT_FOUND, "NotFound", message, details(group, plural, name))
    }

    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, plural));
        Self::detailed(StatusCode::CONFLICT, "AlreadyExists", message, details(group, plural, name))
    }

    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, plural));
        Self::detailed(StatusCode::CONFLICT, "Conflict", message, details(group, plural, name))
    }

    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", qualified(group, plural));
        Self::detailed(StatusCode::FORBIDDEN, "Forbidden", message, details(group, plural, name))
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::refused(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The versions asked for are no longer kept; the client lists again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::refused(StatusCode::GONE, "Expired", message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = json!({"retryAfterSeconds": retry_after_seconds});
        Self::detailed(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message.into(), details)
    }

    /// An object that breaks the rules of its kind, with every cause.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let sentences: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let what = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let message = match &sentences[..] {
            [one] => format!("{what} {name:?} is invalid: {one}"),
            many => format!("{what} {name:?} is invalid: [{}]", many.join(", ")),
        };
        let causes: Vec<Value> =
            causes.iter().map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field})).collect();
        let mut details = json!({"name": name, "kind": kind, "causes": causes});
        if !group.is_empty() {
            details["group"] = group.into();
        }
        Self::detailed(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message, details)
    }

    fn reason(&self) -> &str {
        match self {
            Self::Refused(refusal) => refusal.reason,
            _ => "",
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    /// Another writer came between; read again and decide again.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    pub fn is_expired(&self) -> bool {
        self.reason() == "Expired"
    }

    /// The HTTP status that answers this error.
    pub fn code(&self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::Store(error) if error.kind == store::Kind::Full => 507,
            _ => 500,
        }
    }

    /// The `Status` object that answers this error.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.to_string(),
            "reason": "InternalError",
        });
        if let Self::Refused(refusal) = self {
            status["reason"] = refusal.reason.into();
            if let Some(details) = &refusal.details {
                status["details"] = details.clone();
            }
        }
        status["code"] = self.code().into();
        status
    }
}

fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

fn details(group: &str, plural: &str, name: &str) -> Value {
    let mut details = json!({"name": name});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    details["kind"] = plural.into();
    details
}
