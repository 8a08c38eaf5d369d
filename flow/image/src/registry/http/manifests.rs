//! `/v2/<name>/manifests/<tag or digest>`

use axum::{body::Body, response::Response};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use records::Digest;

use super::{Call, Server, answer, answer::set, blobs::unmodified};
use crate::{
    Error, Kind, Result,
    registry::{
        MAX_MANIFEST, ManifestRef, events,
        manifests::{Push, Reach},
    },
};

/// How many tags one push may set.
const MAX_TAGS: usize = 100;

impl Server {
    pub(super) async fn get_manifest(
        &self,
        repository: &str,
        reference: &ManifestRef,
        call: &Call,
    ) -> Result<Response> {
        let stale = self.fetch_manifest(repository, reference).await?;
        let digest = self.registry.find_digest(repository, reference).await?;
        self.admit_manifest(repository, &digest, call).await?;
        if unmodified(call, &digest) {
            return Ok(described(answer::empty(StatusCode::NOT_MODIFIED), &digest));
        }
        let (info, body) = if call.method == Method::HEAD {
            let info = self.registry.manifest_info(repository, &digest).await?;
            let info = info.ok_or_else(|| {
                Error::new(Kind::ManifestUnknown, format!("repository {repository} has no manifest {reference}"))
            })?;
            self.renew(repository, &digest, call).await?;
            (info, Body::empty())
        } else {
            let (info, content) = self.registry.manifest(repository, &digest).await?;
            let tag = tag_of(reference);
            self.note(events::Action::Pull, repository, tag, Some(&digest), Some((&info.media_type, info.size)), call)
                .await?;
            (info, Body::from(content))
        };
        let mut response = Response::new(body);
        if stale {
            set(&mut response, header::WARNING, "110 - \"Response is Stale\"");
        }
        set(&mut response, header::CONTENT_TYPE, &info.media_type);
        set(&mut response, header::CONTENT_LENGTH, &info.size.to_string());
        Ok(described(response, &digest))
    }

    pub(super) async fn put_manifest(
        &self,
        repository: &str,
        reference: &ManifestRef,
        call: &Call,
        body: Body,
    ) -> Result<Response> {
        let too_large = || {
            Error::new(
                Kind::ManifestTooLarge,
                format!("the manifest has more than the {MAX_MANIFEST} bytes that are taken"),
            )
        };
        let announced =
            call.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > MAX_MANIFEST) {
            return Err(too_large());
        }
        let mut tags = match reference {
            ManifestRef::Tag(tag) => vec![tag.as_str()],
            ManifestRef::Digest(_) => call.query.all("tag").iter().map(String::as_str).collect(),
        };
        if tags.len() > MAX_TAGS {
            return Err(Error::new(Kind::TagInvalid, format!("a push sets at most {MAX_TAGS} tags")));
        }
        tags.dedup();
        let expected = match reference {
            ManifestRef::Digest(digest) => Some(digest.clone()),
            ManifestRef::Tag(_) => call.query.get("digest").map(super::path::digest).transpose()?,
        };
        let content_type = header_text(call.headers.get(header::CONTENT_TYPE)).to_owned();
        let limited = Limited::new(body, MAX_MANIFEST as usize);
        let collected = tokio::time::timeout(self.registry.limits().stall, limited.collect()).await;
        let content = match collected {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => return Err(too_large()),
            Ok(Err(error)) => return Err(Error::new(Kind::SizeInvalid, format!("the manifest broke off: {error}"))),
            Err(_) => return Err(Error::new(Kind::SizeInvalid, "the manifest did not arrive in time")),
        };
        let mut push =
            Push { expected: expected.as_ref(), ..Push::new(repository, &tags, &content_type, Reach::Repository) };
        if self.extras.events.is_some() {
            for tag in tags.iter().copied().map(Some).chain(tags.is_empty().then_some(None)) {
                push.events.push(self.event(events::Action::Push, repository, tag, call).await);
            }
        }
        let pushed = self.registry.push(&push, content).await?;
        let mut response = answer::empty(StatusCode::CREATED);
        set(&mut response, header::LOCATION, &format!("/v2/{repository}/manifests/{}", pushed.digest));
        set(&mut response, answer::DIGEST, pushed.digest.as_str());
        if let Some(subject) = &pushed.subject {
            set(&mut response, answer::SUBJECT, subject.as_str());
        }
        if matches!(reference, ManifestRef::Digest(_)) && !tags.is_empty() {
            for tags in tags.chunks(20) {
                if let Ok(value) = HeaderValue::from_str(&tags.join(", ")) {
                    response.headers_mut().append(answer::TAG, value);
                }
            }
        }
        Ok(response)
    }

    pub(super) async fn delete_manifest(
        &self,
        repository: &str,
        reference: &ManifestRef,
        call: &Call,
    ) -> Result<Response> {
        self.check_deletion(repository, reference).await?;
        match reference {
            ManifestRef::Tag(tag) => self.registry.delete_tag(repository, tag).await?,
            ManifestRef::Digest(digest) => self.registry.delete_manifest(repository, digest).await?,
        }
        let digest = match reference {
            ManifestRef::Digest(digest) => Some(digest),
            ManifestRef::Tag(_) => None,
        };
        self.note(events::Action::Delete, repository, tag_of(reference), digest, None, call).await?;
        Ok(answer::empty(StatusCode::ACCEPTED))
    }
}

fn described(mut response: Response, digest: &Digest) -> Response {
    set(&mut response, answer::DIGEST, digest.as_str());
    set(&mut response, header::ETAG, &format!("\"{digest}\""));
    response
}

fn tag_of(reference: &ManifestRef) -> Option<&str> {
    match reference {
        ManifestRef::Tag(tag) => Some(tag),
        ManifestRef::Digest(_) => None,
    }
}

fn header_text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}
