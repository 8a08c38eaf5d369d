//! An image of ours, pushed to another registry.

use bytes::Bytes;
use http::{StatusCode, header};
use records::Digest;
use reqwest::{Body, Url};
use tokio_util::io::ReaderStream;

use super::{Access, Client, Target, expect};
use crate::{
    Error, Kind, Reference, Result, media,
    registry::{Document, ManifestRef, Registry},
};

/// Pieces of a blob on their way.
const CHUNK: usize = 256 << 10;

impl Client {
    /// Pushes an image of `repository`, with all that it names, to the place that `to` names; by its tag, else by digest alone.
    pub async fn push(
        &self,
        registry: &Registry,
        repository: &str,
        reference: &ManifestRef,
        to: &Reference,
    ) -> Result<Digest> {
        let (digest, info, content) = registry.find_manifest(repository, reference).await?;
        if let Some(expected) = to.digest.as_ref().filter(|expected| **expected != digest) {
            return Err(Error::new(
                Kind::DigestInvalid,
                format!("{repository}:{reference} is {digest}, not {expected}"),
            ));
        }
        let target = self.target(to)?;
        let name = to.tag.clone().unwrap_or_else(|| digest.to_string());
        self.send_manifest(registry, repository, &target, &name, &info.media_type, content, 0).await?;
        Ok(digest)
    }

    #[allow(clippy::too_many_arguments)] // Source, destination and what is carried between them.
    async fn send_manifest(
        &self,
        registry: &Registry,
        repository: &str,
        target: &Target,
        name: &str,
        media_type: &str,
        content: Bytes,
        depth: usize,
    ) -> Result<()> {
        if depth > 4 {
            return Err(Error::new(Kind::ManifestInvalid, format!("{repository}:{name} nests indexes too deep")));
        }
        let (document, _) = Document::parse(media_type, &content)?;
        for blob in document.contents() {
            if !media::nondistributable(&blob.media_type) {
                self.send_blob(registry, repository, target, &blob.digest).await?;
            }
        }
        for child in document.children() {
            match registry.manifest(repository, &child.digest).await {
                Ok((info, inner)) => {
                    let name = child.digest.to_string();
                    let sent =
                        self.send_manifest(registry, repository, target, &name, &info.media_type, inner, depth + 1);
                    Box::pin(sent).await?;
                }
                Err(error) if error.kind == Kind::ManifestUnknown => {
                    self.send_blob(registry, repository, target, &child.digest).await?;
                }
                Err(error) => return Err(error),
            }
        }
        let url = target.url(&format!("manifests/{name}"))?;
        let request = || self.http.put(url.clone()).header(header::CONTENT_TYPE, media_type).body(content.clone());
        let response = self.send(target, Access::Push, request).await?;
        let what = format!("manifest {name}");
        let response = expect(response, &[StatusCode::CREATED, StatusCode::OK], &what, Kind::Remote).await?;
        // A registry with the referrers API says whose list it put it on.
        match response.headers().contains_key("oci-subject") {
            true => Ok(()),
            false => self.list_referrer(target, &document, media_type, &content).await,
        }
    }

    async fn send_blob(&self, registry: &Registry, repository: &str, target: &Target, digest: &Digest) -> Result<()> {
        let what = format!("blob {digest}");
        let url = target.url(&format!("blobs/{digest}"))?;
        let response = self.send(target, Access::Push, || self.http.head(url.clone())).await?;
        if response.status() == StatusCode::OK {
            return Ok(());
        }
        let start = target.url("blobs/uploads/")?;
        let response =
            self.send(target, Access::Push, || self.http.post(start.clone()).header(header::CONTENT_LENGTH, 0)).await?;
        let response = expect(response, &[StatusCode::ACCEPTED], &what, Kind::Remote).await?;
        let place = location(&response, digest)?;
        let size = registry.read_blob(repository, digest, 0, Some(0)).await?.size;
        // A body can be sent once, so it is opened for each try; the credentials are known by now, and it is one.
        let content = registry.read_blob(repository, digest, 0, None).await?;
        let body = std::sync::Mutex::new(Some(Body::wrap_stream(ReaderStream::with_capacity(content.reader, CHUNK))));
        let request = || {
            let body = body.lock().ok().and_then(|mut body| body.take()).unwrap_or_default();
            self.http
                .put(place.clone())
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_LENGTH, size)
                .body(body)
        };
        let response = self.send(target, Access::Push, request).await?;
        expect(response, &[StatusCode::CREATED], &what, Kind::Remote).await?;
        Ok(())
    }
}

/// Where the content of an upload is to be sent.
pub(super) fn location(response: &reqwest::Response, digest: &Digest) -> Result<Url> {
    let named = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let mut url = named.and_then(|named| response.url().join(named).ok()).ok_or_else(|| {
        Error::new(
            Kind::Remote,
            format!("{} names no place for an upload", response.url().host_str().unwrap_or_default()),
        )
    })?;
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    Ok(url)
}
