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
    /// Not without (other) credentials: 401 with `WWW-Authenticate`.
    Challenge,
    /// Known, but not allowed: 403 with the sentence.
    Denied(String),
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// `admin`, a robot's user name, or nothing for somebody who has not said.
    pub name: String,
    /// Whether what is in quarantine may be pulled.
    pub scanner: bool,
}

/// A token that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub token: String,
    /// Seconds.
    pub expires_in: i64,
    pub issued_at: records::Timestamp,
}

/// Decides on requests.
#[async_trait]
pub trait Authorize: Send + Sync + 'static {
    /// `authorization` is the `Authorization` header, for example `Basic …`; empty credentials, which some clients send for want of
    /// any, are passed as `None`.
    async fn authorize(&self, authorization: Option<&str>, scope: Scope<'_>) -> Decision;

    /// Who asks, for the record and for the quarantine.
    async fn caller(&self, authorization: Option<&str>) -> Caller {
        let _ = authorization;
        Caller::default()
    }

    /// How credentials are asked for: values of `WWW-Authenticate`. `base` is the address of the registry, such as `http://host:port`.
    fn challenges(&self, base: &str, scope: Scope<'_>) -> Vec<String> {
        let _ = (base, scope);
        vec![super::answer::BASIC.to_owned()]
    }

    /// A token for the scopes (`repository:<name>:<actions>`); `None` when the credentials are wrong.
    async fn token(&self, authorization: Option<&str>, scopes: &[String]) -> crate::Result<Option<Issued>> {
        let _ = (authorization, scopes);
        Err(crate::Error::new(crate::Kind::NameUnknown, "this registry hands out no tokens: use Basic"))
    }
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
