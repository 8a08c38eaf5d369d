//! Credentials: Basic, and tokens as Docker's registries hand them out.

use base64::Engine;
use http::{StatusCode, header};
use serde::Deserialize;

use super::{Access, Client, MAX_ERROR, Target, collect, is_loopback, parse_url, unreachable};
use crate::{Error, Kind, Result};

/// User and password (or token) for a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    fn basic(&self) -> String {
        let plain = format!("{}:{}", self.user, self.password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Client {
    /// The `Authorization` header that answers the challenges, or `None` when there are no credentials that would.
    pub(super) async fn authenticate(
        &self,
        target: &Target,
        access: Access,
        challenges: &[String],
    ) -> Result<Option<String>> {
        let credentials = (self.options.credentials)(&target.named);
        let parsed: Vec<Challenge> = challenges.iter().filter_map(|text| Challenge::parse(text)).collect();
        if let Some(bearer) = parsed.iter().find(|challenge| challenge.scheme == "bearer") {
            return self.token(target, access, bearer, credentials.as_ref()).await.map(Some);
        }
        let basic = parsed.iter().any(|challenge| challenge.scheme == "basic");
        Ok(credentials.filter(|_| basic).map(|credentials| credentials.basic()))
    }

    async fn token(
        &self,
        target: &Target,
        access: Access,
        challenge: &Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<String> {
        let Some(realm) = challenge.get("realm") else {
            return Err(Error::new(Kind::Remote, format!("{} asks for a token but names no realm", target.base)));
        };
        let mut url = parse_url(realm)?;
        let own = target.base.starts_with("http://") && url.host_str() == parse_url(&target.base)?.host_str();
        if url.scheme() != "https" && !own && !url.host_str().is_some_and(is_loopback) {
            return Err(Error::new(
                Kind::Remote,
                format!("{} asks for a token from {realm}, which is not https: refused", target.base),
            ));
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = challenge.get("service") {
                query.append_pair("service", service);
            }
            // Whoever logs in wants nothing of a repository yet.
            if !target.repository.is_empty() {
                query.append_pair("scope", &target.scope(access));
            }
        }
        let mut request = self.http.get(url);
        if let Some(credentials) = credentials {
            request = request.header(header::AUTHORIZATION, credentials.basic());
        }
        let what = format!("the token server of {}", target.base);
        let response = request.send().await.map_err(|e| unreachable(&what, e))?;
        if response.status() != StatusCode::OK {
            return Err(Error::new(
                Kind::Unauthorized,
                format!("{what} gives no access to {}: {}", target.repository, response.status()),
            ));
        }
        let body = collect(response, MAX_ERROR, &what).await?;
        let token: Token = serde_json::from_slice(&body)
            .map_err(|e| Error::new(Kind::Remote, format!("{what} gave no token: {e}")).caused(e))?;
        let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| Error::new(Kind::Remote, format!("{what} gave no token")))?;
        Ok(format!("Bearer {token}"))
    }
}

/// One `WWW-Authenticate` header.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    /// In lower case.
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = Vec::new();
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            let Some((name, after)) = rest.split_once('=') else { break };
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => match after.split_once(',') {
                    Some((value, after)) => (value.trim().to_owned(), after),
                    None => (after.trim().to_owned(), ""),
                },
            };
            parameters.push((name.trim().to_ascii_lowercase(), value));
            rest = after;
        }
        (!scheme.is_empty()).then(|| Self { scheme: scheme.to_ascii_lowercase(), parameters })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A quoted string behind its opening quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_challenges() {
        let challenge = Challenge::parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        )
        .unwrap();
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.get("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(challenge.get("scope"), Some("repository:a/b:pull,push"));
        let basic = Challenge::parse(r#"Basic realm="a \"b\"", charset=UTF-8"#).unwrap();
        assert_eq!((basic.get("realm"), basic.get("charset")), (Some(r#"a "b""#), Some("UTF-8")));
        assert_eq!(Challenge::parse(""), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        let credentials = Credentials { user: "u".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
        assert_eq!(credentials.basic(), "Basic dTpzZWNyZXQ=");
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ = Challenge::parse(&text);
        }
    }
}
