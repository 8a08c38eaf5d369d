//! `/v2/<name>/blobs/uploads/…`: blobs pushed at once, in parts, or mounted from another repository.

use std::time::Duration;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, StatusCode, header};
use records::Digest;
use tokio::time::{Instant, timeout_at};

use super::{Action, Call, Decision, Scope, Server, answer, answer::set, path};
use crate::{Error, Kind, Result, hash::Algorithm, reference::check_repository};

impl Server {
    pub(super) async fn post_upload(&self, repository: &str, call: &Call, body: Body) -> Result<Response> {
        if let Some(digest) = call.query.get("mount") {
            let digest = path::digest(digest)?;
            if self.mount(repository, &digest, call).await? {
                return Ok(created(repository, &digest));
            }
        } else if let Some(digest) = call.query.get("digest") {
            let digest = path::digest(digest)?;
            let announced = length(&call.headers);
            let _room = self.registry.room_for_blob(repository, &digest, announced.unwrap_or(0)).await?;
            let chunks = chunks(body, announced, self.registry.limits().stall);
            self.registry.put_stream(repository, std::pin::pin!(chunks), &digest).await?;
            return Ok(created(repository, &digest));
        }
        let algorithm = call.query.get("digest-algorithm").map(str::parse).transpose()?.unwrap_or(Algorithm::Sha256);
        let id = self.registry.start_upload(repository, algorithm).await?;
        Ok(progress(StatusCode::ACCEPTED, repository, &id, 0))
    }

    /// Whether the blob could be taken from the repository that the client names, or from any that it may read.
    async fn mount(&self, repository: &str, digest: &Digest, call: &Call) -> Result<bool> {
        let sources = match call.query.get("from") {
            Some(from) => {
                check_repository(from)?;
                match self.registry.blob_size(from, digest).await? {
                    Some(_) => vec![from.to_owned()],
                    None => Vec::new(),
                }
            }
            None => self.registry.holders(digest).await?,
        };
        for source in sources {
            let scope = Scope { repository: Some(&source), action: Action::Pull };
            if self.authorize.authorize(call.credentials(), scope).await == Decision::Allow
                && self.admit_blob(&source, digest, call).await.is_ok()
            {
                return match self.registry.link_blob(repository, digest).await {
                    Ok(()) => Ok(true),
                    Err(error) if error.kind == Kind::BlobUnknown => Ok(false),
                    Err(error) => Err(error),
                };
            }
        }
        Ok(false)
    }

    pub(super) async fn get_upload(&self, repository: &str, id: &str) -> Result<Response> {
        let received = self.registry.upload_size(repository, id).await?;
        Ok(progress(StatusCode::NO_CONTENT, repository, id, received))
    }

    pub(super) async fn patch_upload(&self, repository: &str, id: &str, call: &Call, body: Body) -> Result<Response> {
        let range = part(&call.headers)?;
        let announced = length(&call.headers);
        let chunks = chunks(body, announced, self.registry.limits().stall);
        match self.registry.append_upload(repository, id, range, std::pin::pin!(chunks)).await {
            Ok(received) => Ok(progress(StatusCode::ACCEPTED, repository, id, received)),
            Err(error) => self.where_it_is(repository, id, error).await,
        }
    }

    pub(super) async fn put_upload(&self, repository: &str, id: &str, call: &Call, body: Body) -> Result<Response> {
        let Some(digest) = call.query.get("digest") else {
            return Err(Error::new(Kind::DigestInvalid, "the upload cannot be closed without the parameter `digest`"));
        };
        let digest = path::digest(digest)?;
        let range = part(&call.headers)?;
        let announced = length(&call.headers);
        let received = self.registry.upload_size(repository, id).await?;
        let coming = received.saturating_add(announced.unwrap_or(0));
        let _room = self.registry.room_for_blob(repository, &digest, coming).await?;
        let chunks = chunks(body, announced, self.registry.limits().stall);
        match self.registry.finish_upload(repository, id, &digest, range, std::pin::pin!(chunks)).await {
            Ok(_) => Ok(created(repository, &digest)),
            Err(error) => self.where_it_is(repository, id, error).await,
        }
    }

    pub(super) async fn delete_upload(&self, repository: &str, id: &str) -> Result<Response> {
        self.registry.cancel_upload(repository, id).await?;
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }

    /// A part that does not fit is answered with what would fit.
    async fn where_it_is(&self, repository: &str, id: &str, error: Error) -> Result<Response> {
        if error.kind != Kind::RangeInvalid {
            return Err(error);
        }
        let received = self.registry.upload_size(repository, id).await?;
        let mut response = answer::failure(&error);
        describe(&mut response, repository, id, received);
        Ok(response)
    }
}

fn created(repository: &str, digest: &Digest) -> Response {
    let mut response = answer::empty(StatusCode::CREATED);
    set(&mut response, header::LOCATION, &format!("/v2/{repository}/blobs/{digest}"));
    set(&mut response, answer::DIGEST, digest.as_str());
    response
}

fn progress(status: StatusCode, repository: &str, id: &str, received: u64) -> Response {
    let mut response = answer::empty(status);
    if status == StatusCode::NO_CONTENT {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    describe(&mut response, repository, id, received);
    response
}

fn describe(response: &mut Response, repository: &str, id: &str, received: u64) {
    set(response, header::LOCATION, &format!("/v2/{repository}/blobs/uploads/{id}"));
    // The form has no way to say "nothing yet"; clients read 0-0 as that.
    set(response, header::RANGE, &format!("0-{}", received.saturating_sub(1)));
    set(response, answer::UPLOAD, id);
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// First byte and length from a `Content-Range` of the specification's form `<first>-<last>`; RFC 9110's form is taken, too.
fn part(headers: &HeaderMap) -> Result<Option<(u64, u64)>> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| {
        let text = text.strip_prefix("bytes ").or(text.strip_prefix("bytes=")).unwrap_or(text);
        let text = text.split('/').next()?;
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
        Some((first, last.checked_sub(first)?.checked_add(1)?))
    });
    let Some((first, announced)) = parsed else {
        return Err(Error::new(Kind::UploadInvalid, "Content-Range must be <first byte>-<last byte>"));
    };
    if length(headers).is_some_and(|length| length != announced) {
        return Err(Error::new(Kind::SizeInvalid, "Content-Length and Content-Range do not agree"));
    }
    Ok(Some((first, announced)))
}

/// Fewer bytes than this in the time for which a client may be silent count as silence.
const SLOWEST: usize = 4096;

/// The body, as long as the client keeps sending; with `announced`, as many bytes as that.
fn chunks(body: Body, announced: Option<u64>, stall: Duration) -> impl Stream<Item = Result<Bytes>> + Send {
    struct Coming {
        stream: axum::body::BodyDataStream,
        received: u64,
        /// Until when the rest of a piece of [`SLOWEST`] bytes has to be here.
        until: Instant,
        lacking: usize,
    }
    let start =
        Coming { stream: body.into_data_stream(), received: 0, until: Instant::now() + stall, lacking: SLOWEST };
    futures::stream::unfold(Some(start), move |coming| async move {
        let mut coming = coming?;
        let broke_off = |why: String| Error::new(Kind::UploadInvalid, format!("the body broke off: {why}"));
        let error = match timeout_at(coming.until, coming.stream.next()).await {
            Ok(Some(Ok(chunk))) => {
                coming.received += chunk.len() as u64;
                coming.lacking = coming.lacking.saturating_sub(chunk.len());
                if coming.lacking == 0 {
                    (coming.lacking, coming.until) = (SLOWEST, Instant::now() + stall);
                }
                return Some((Ok(chunk), Some(coming)));
            }
            Ok(None) => {
                let received = coming.received;
                let announced = announced.filter(|announced| *announced != received)?;
                broke_off(format!("{received} of {announced} bytes arrived"))
            }
            Ok(Some(Err(error))) => broke_off(error.to_string()),
            Err(_) => broke_off(format!("less than {SLOWEST} bytes arrived in {} s", stall.as_secs())),
        };
        Some((Err(error), None))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ranges_of_parts() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
            part(&headers).map_err(|error| error.kind)
        };
        assert_eq!(of("0-9"), Ok(Some((0, 10))));
        assert_eq!(of("bytes 10-10/*"), Ok(Some((10, 1))));
        for bad in ["", "5", "9-0", "a-b", "0-18446744073709551615"] {
            assert_eq!(of(bad), Err(Kind::UploadInvalid), "{bad}");
        }
        assert_eq!(part(&HeaderMap::new()).unwrap(), None);
    }
}
