//! What a request says, taken apart. What cannot be is answered in the form that all errors of the API have.

use axum::{
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::fault::{Class, Fault};

/// A body of JSON, of a request or of an answer.
pub struct Json<T>(pub T);

/// The variable parts of a path.
pub struct Path<T>(pub T);

/// What follows the `?`.
pub struct Query<T>(pub T);

/// The reason without the framework's own words before it.
fn refused(status: StatusCode, reason: &str) -> Fault {
    let class = if status == StatusCode::PAYLOAD_TOO_LARGE { Class::TooLarge } else { Class::Usage };
    let ours = ["Failed to deserialize the JSON body into the target type: ", "Invalid URL: "];
    let reason = ours.iter().find_map(|words| reason.strip_prefix(words)).unwrap_or(reason);
    Fault::new(class, format!("the request cannot be used: {reason}")).hint("the API is described at /openapi.json")
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let refused = |e: JsonRejection| refused(e.status(), &e.body_text());
        axum::Json::from_request(request, state).await.map(|axum::Json(value)| Self(value)).map_err(refused)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(value)| Self(value)).map_err(|e| refused(e.status(), &e.body_text()))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(value)| Self(value)).map_err(|e| refused(e.status(), &e.body_text()))
    }
}
