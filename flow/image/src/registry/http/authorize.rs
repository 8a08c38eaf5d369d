//! Who may do what, decided elsewhere.

use async_trait::async_trait;
use base64::Engine;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `GET /v2/`, with which clients find out whether credentials are needed and right. Clients send credentials later only if this
    /// was answered by a challenge, so answer `Challenge` when there are none and any repository needs some.
    Ping,
    /// Reads from the repository.
    Pull,
    /// Writes to it.
    Push,
    /// Deletes from it.
    Delete,
    /// Lists the names of all repositories.
    Catalog,
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    pub repository: Option<&'a str>,
    pub action: Action,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// Not without (other) credentials: 401 with `WWW-Authenticate: Basic`.
    Challenge,
    /// Known, but not allowed: 403 with the sentence.
    Denied(String),
}

/// Decides on requests.
#[async_trait]
pub trait Authorize: Send + Sync + 'static {
    /// `authorization` is the `Authorization` header, for example `Basic …`; empty credentials, which some clients send for want of
    /// any, are passed as `None`.
    async fn authorize(&self, authorization: Option<&str>, scope: Scope<'_>) -> Decision;
}

/// Lets everybody do everything.
#[derive(Debug, Clone, Copy)]
pub struct AllowAll;

#[async_trait]
impl Authorize for AllowAll {
    async fn authorize(&self, _: Option<&str>, _: Scope<'_>) -> Decision {
        Decision::Allow
    }
}

/// User and password of a `Basic` header.
pub fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

pub(super) fn is_empty_basic(authorization: &str) -> bool {
    basic(authorization).is_some_and(|(user, password)| user.is_empty() && password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_basic_credentials() {
        assert_eq!(basic("Basic YWRtaW46czpjcmV0"), Some(("admin".into(), "s:cret".into())));
        assert_eq!(basic("Bearer x"), None);
        assert_eq!(basic("Basic !"), None);
        assert!(is_empty_basic("Basic Og=="));
    }
}
