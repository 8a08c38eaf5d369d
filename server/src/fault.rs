//! Errors as people and programs meet them: a sentence, a hint, an exit code, an HTTP status. Only this crate makes these.

use std::{fmt, process::ExitCode};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

/// What kind of trouble it is, which decides the exit code and the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The input cannot be used: exit 2, 400.
    Usage,
    /// No or a wrong token: exit 3, 401.
    Unauthorized,
    /// It is not there: exit 4, 404.
    NotFound,
    /// It is not in a state that allows it: exit 5, 409.
    Conflict,
    /// Larger than allowed: exit 2, 413.
    TooLarge,
    /// What was asked for was done and did not succeed (a failed run): exit 1, 422.
    Failed,
    /// Ended by this signal, cleanly: exit 128 + its number, as a shell says of what a signal ended.
    Signalled(u8),
    /// The machine or another service failed: exit 6, 503.
    Unavailable,
    /// A defect: exit 70, 500.
    Internal,
}

/// An error that leaves the program.
#[derive(Debug)]
pub struct Fault {
    pub class: Class,
    /// What happened, naming the thing.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Class::NotFound, message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error from below with its causes, one sentence.
    pub fn from_error(class: Class, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(class, chain(error))
    }

    pub fn status(&self) -> StatusCode {
        match self.class {
            Class::Usage => StatusCode::BAD_REQUEST,
            Class::Unauthorized => StatusCode::UNAUTHORIZED,
            Class::NotFound => StatusCode::NOT_FOUND,
            Class::Conflict => StatusCode::CONFLICT,
            Class::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Class::Failed | Class::Signalled(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Prints the error for a person and gives the exit code.
    pub fn report(&self) -> ExitCode {
        eprintln!("error: {}", self.message);
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
        ExitCode::from(match self.class {
            Class::Failed => 1,
            Class::Usage | Class::TooLarge => 2,
            Class::Unauthorized => 3,
            Class::NotFound => 4,
            Class::Conflict => 5,
            Class::Unavailable => 6,
            Class::Internal => 70,
            Class::Signalled(signal) => 128_u8.saturating_add(signal),
        })
    }
}

/// An error and its causes, each only once.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl From<store::Error> for Fault {
    fn from(error: store::Error) -> Self {
        let class = match error.kind {
            store::Kind::NotFound => Class::NotFound,
            store::Kind::Conflict => Class::Conflict,
            store::Kind::WrongDigest => Class::Usage,
            store::Kind::Full | store::Kind::Io | store::Kind::Locked | store::Kind::Newer | store::Kind::Compacted => {
                Class::Unavailable
            }
            store::Kind::Corrupt => Class::Internal,
        };
        let fault = Self::from_error(class, &error);
        match error.kind {
            store::Kind::Full => fault.hint("free space on the disk of the data directory; nothing was half-written"),
            store::Kind::Locked => fault.hint("stop the other `shipway up`, or use another --data directory"),
            store::Kind::Newer => fault.hint("use the newer shipway that wrote it, or another --data directory"),
            _ => fault,
        }
    }
}

impl From<records::InvalidName> for Fault {
    fn from(error: records::InvalidName) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<records::IllegalTransition> for Fault {
    fn from(error: records::IllegalTransition) -> Self {
        Self::new(Class::Conflict, error.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = Json(serde_json::json!({ "error": self.message, "hint": self.hint }));
        let mut response = (status, body).into_response();
        if self.class == Class::Unauthorized {
            let challenge = http::HeaderValue::from_static("Basic realm=\"shipway\"");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
