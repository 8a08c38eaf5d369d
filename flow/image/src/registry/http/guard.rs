//! What stands around every request besides who asks: tokens, aliases, quarantine, copies of other registries, and the record of it all.

use axum::{body::Body, response::Response};
use http::{HeaderMap, Method, StatusCode, header};
use records::Digest;
use serde_json::json;

use super::{Action, Call, Decision, Scope, Server, answer, oauth, path::Endpoint};
use crate::{
    Error, Kind, Result,
    registry::{
        ManifestRef,
        events::{self, Event},
        upstream::{Coming, Freshness},
    },
};

/// The longest name of a client that is written down.
const AGENT: usize = 200;

/// The address that the client reached us by.
pub fn base(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = if text("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    let fits = |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]_".contains(&b));
    let host = text(header::HOST.as_str()).filter(fits).unwrap_or("localhost");
    format!("{scheme}://{host}")
}

impl Server {
    /// `/v2/token`: a token for the scopes that are asked for, by GET with Basic or by POST with a form as OAuth 2 has it.
    pub(super) async fn token(&self, call: &Call, body: Body) -> Result<Response> {
        let (credentials, scopes) = match call.method {
            Method::GET => (call.credentials().map(str::to_owned), call.query.all("scope").to_vec()),
            Method::POST => match oauth::read(call, body).await? {
                Ok(asked) => (Some(asked.authorization), asked.scopes),
                Err(refusal) => return Ok(refusal),
            },
            _ => return Err(super::unsupported(&call.method)),
        };
        // Several scopes come as several parameters, or in one with spaces.
        let scopes = scopes.iter().flat_map(|scope| scope.split([' ', '+'])).map(str::to_owned);
        let scopes: Vec<String> = scopes.filter(|scope| !scope.is_empty()).collect();
        let Some(issued) = self.authorize.token(credentials.as_deref(), &scopes).await? else {
            return Ok(match call.method {
                Method::POST => oauth::refusal(StatusCode::UNAUTHORIZED, "invalid_grant", "user or token is wrong"),
                _ => answer::challenge(&[answer::BASIC.to_owned()]),
            });
        };
        let body = json!({
            "token": issued.token, "access_token": issued.token, "token_type": "Bearer", "scope": scopes.join(" "),
            "expires_in": issued.expires_in, "issued_at": issued.issued_at,
        });
        let mut response = answer::plain(StatusCode::OK, body.to_string());
        answer::set(&mut response, header::CACHE_CONTROL, "no-store");
        Ok(response)
    }

    /// What is read from a name that stands for another repository is read from that one.
    pub(super) async fn unalias(&self, endpoint: Endpoint, call: &Call) -> Result<Endpoint> {
        let reads = call.method == Method::GET || call.method == Method::HEAD;
        let Some(repository) = endpoint.repository().filter(|_| reads) else { return Ok(endpoint) };
        match &self.registry.settings(repository).await?.alias {
            Some(alias) => Ok(endpoint.in_repository(alias)),
            None => Ok(endpoint),
        }
    }

    /// `Denied` unless the manifest may be handed out to this client.
    pub(super) async fn admit_manifest(&self, repository: &str, digest: &Digest, call: &Call) -> Result<()> {
        let settings = self.registry.settings(repository).await?;
        let Some(quarantine) = &settings.quarantine else { return Ok(()) };
        if self.authorize.caller(call.credentials()).await.scanner {
            return Ok(());
        }
        let Some(gate) = &self.extras.gate else { return Err(no_gate(repository)) };
        // Who pushes asks whether it is there, and is not handed it out.
        if call.method == Method::HEAD && self.may_push(repository, call).await {
            return Ok(());
        }
        let link = link(repository, digest, call);
        self.registry.admit_manifest(&**gate, quarantine, repository, digest, &link).await
    }

    /// The same for a blob.
    pub(super) async fn admit_blob(&self, repository: &str, digest: &Digest, call: &Call) -> Result<()> {
        let settings = self.registry.settings(repository).await?;
        let Some(quarantine) = &settings.quarantine else { return Ok(()) };
        if self.authorize.caller(call.credentials()).await.scanner {
            return Ok(());
        }
        let Some(gate) = &self.extras.gate else { return Err(no_gate(repository)) };
        let link = link(repository, digest, call);
        self.registry.admit_blob(&**gate, quarantine, repository, digest, &link).await
    }

    /// Sees to it that a manifest of a copy is here; whether it may be older than the original.
    pub(super) async fn fetch_manifest(&self, repository: &str, reference: &ManifestRef) -> Result<bool> {
        let (part, settings) = self.registry.all_settings().await?.of(repository);
        let (Some(upstream), Some(upstreams)) = (&settings.upstream, &self.extras.upstreams) else { return Ok(false) };
        Ok(upstreams.manifest(&part, upstream, repository, reference).await? == Freshness::Stale)
    }

    /// Sees to it that a blob of a copy is here, or gives what is on its way.
    pub(super) async fn fetch_blob(&self, repository: &str, digest: &Digest) -> Result<Option<Coming>> {
        let (part, settings) = self.registry.all_settings().await?.of(repository);
        match (&settings.upstream, &self.extras.upstreams) {
            (Some(upstream), Some(upstreams)) => upstreams.coming(&part, upstream, repository, digest).await,
            _ => Ok(None),
        }
    }

    /// A client that may push and was told that something is here relies on it.
    pub(super) async fn renew(&self, repository: &str, digest: &Digest, call: &Call) -> Result<()> {
        if self.may_push(repository, call).await { self.registry.renew(repository, digest).await } else { Ok(()) }
    }

    async fn may_push(&self, repository: &str, call: &Call) -> bool {
        let scope = Scope { repository: Some(repository), action: Action::Push };
        self.authorize.authorize(call.credentials(), scope).await == Decision::Allow
    }

    /// `Denied` when a blob is part of what runs.
    pub(super) async fn check_blob_deletion(&self, repository: &str, digest: &Digest) -> Result<()> {
        match &self.extras.running {
            Some(running) => self.registry.check_blob_rests(&**running, repository, digest).await,
            None => Ok(()),
        }
    }

    /// `Denied` when a tag that stands still would go, or a manifest that runs.
    pub(super) async fn check_deletion(&self, repository: &str, reference: &ManifestRef) -> Result<()> {
        match reference {
            ManifestRef::Tag(tag) => self.registry.check_mutable(repository, tag).await,
            ManifestRef::Digest(digest) => {
                if let Some(running) = &self.extras.running {
                    self.registry.check_manifest_rests(&**running, repository, digest).await?;
                }
                if self.registry.settings(repository).await?.immutable_tags.is_empty() {
                    return Ok(());
                }
                for tag in self.registry.tags_of(repository, digest).await? {
                    self.registry.check_mutable(repository, &tag).await?;
                }
                Ok(())
            }
        }
    }

    /// Writes down what was done. What cannot be written down is not answered as done.
    pub(super) async fn note(
        &self,
        action: events::Action,
        repository: &str,
        tag: Option<&str>,
        digest: Option<&Digest>,
        about: Option<(&str, u64)>,
        call: &Call,
    ) -> Result<()> {
        let Some(events) = &self.extras.events else { return Ok(()) };
        let event = Event {
            digest: digest.cloned(),
            media_type: about.map(|(media_type, _)| media_type.to_owned()),
            size: about.map(|(_, size)| size),
            ..self.event(action, repository, tag, call).await
        };
        events.note(event).await
    }

    /// What a client does to a manifest that is not known yet.
    pub(super) async fn event(
        &self,
        action: events::Action,
        repository: &str,
        tag: Option<&str>,
        call: &Call,
    ) -> Event {
        let agent = call.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Event {
            at: self.registry.now(),
            action,
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: None,
            media_type: None,
            size: None,
            who: self.authorize.caller(call.credentials()).await.name,
            agent: agent.map(|agent| agent.chars().take(AGENT).collect()),
        }
    }
}

fn link(repository: &str, digest: &Digest, call: &Call) -> String {
    format!("{}/images/{repository}@{digest}", base(&call.headers))
}

fn no_gate(repository: &str) -> Error {
    Error::new(
        Kind::Denied,
        format!("repository {repository} is in quarantine, and nobody here judges images: it stays closed"),
    )
}
