//! What is no image but lies in registries too: charts, signatures, anything with a manifest and blobs that fit into memory.

use bytes::Bytes;
use http::{StatusCode, header};
use records::Digest;
use serde::Deserialize;

use super::{Access, Client, Options, Target, collect, expect, push::location};
use crate::{
    Algorithm, Error, Kind, Reference, Result, hash,
    registry::{Document, MAX_MANIFEST},
};

/// Tags of one repository that are read at most.
const MOST_TAGS: usize = 100_000;

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Client {
    /// A client that speaks through `http`, which brings what it trusts, its certificates and its waits.
    pub fn with(http: reqwest::Client, options: Options) -> Self {
        Self { http, options: options.into(), known: Default::default() }
    }

    /// All tags of the reference's repository, in the registry's order.
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        let target = self.target(reference)?;
        let what = format!("the tags of {reference}");
        let mut url = target.url("tags/list?n=1000")?;
        let mut all = Vec::new();
        loop {
            let response = self.send(&target, Access::Pull, || self.http.get(url.clone())).await?;
            let response = expect(response, &[StatusCode::OK], &what, Kind::NameUnknown).await?;
            let next = response.headers().get(header::LINK).and_then(|link| {
                let (address, rest) = link.to_str().ok()?.trim().strip_prefix('<')?.split_once('>')?;
                let next = response.url().join(address).ok()?;
                // A registry may not send its credentials' holder elsewhere.
                (rest.contains("next") && next.origin() == url.origin() && next != url).then_some(next)
            });
            let body = collect(response, MAX_MANIFEST as usize, &what).await?;
            let page: Tags = serde_json::from_slice(&body)
                .map_err(|e| Error::new(Kind::Remote, format!("{what} cannot be read: {e}")).caused(e))?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) if all.len() < MOST_TAGS => url = next,
                _ => return Ok(all),
            }
        }
    }

    /// A blob as a whole, held against its digest; `TooLarge` if it has more than `limit` bytes.
    pub async fn content(&self, reference: &Reference, digest: &Digest, limit: usize) -> Result<Bytes> {
        let target = self.target(reference)?;
        let url = target.url(&format!("blobs/{digest}"))?;
        let what = format!("blob {digest} of {reference}");
        let response = self.send(&target, Access::Pull, || self.http.get(url.clone())).await?;
        let response = expect(response, &[StatusCode::OK], &what, Kind::BlobUnknown).await?;
        let content = collect(response, limit, &what).await?;
        let found = hash::digest(Algorithm::of(digest), &content);
        if found != *digest {
            return Err(Error::new(Kind::DigestInvalid, format!("{what} came with digest {found}")));
        }
        Ok(content)
    }

    /// Pushes the blobs that are not there and then the manifest, by the tag of `to`, else by its digest.
    pub async fn push_artifact(
        &self,
        to: &Reference,
        media_type: &str,
        manifest: Bytes,
        blobs: &[Bytes],
    ) -> Result<Digest> {
        let (_, media_type) = Document::parse(media_type, &manifest)?;
        let target = self.target(to)?;
        for blob in blobs {
            self.put_blob(&target, blob).await?;
        }
        let digest = hash::digest(Algorithm::Sha256, &manifest);
        let name = to.tag.clone().unwrap_or_else(|| digest.to_string());
        let url = target.url(&format!("manifests/{name}"))?;
        let request =
            || self.http.put(url.clone()).header(header::CONTENT_TYPE, media_type.as_str()).body(manifest.clone());
        let response = self.send(&target, Access::Push, request).await?;
        expect(response, &[StatusCode::CREATED, StatusCode::OK], &format!("manifest {to}"), Kind::Remote).await?;
        Ok(digest)
    }

    async fn put_blob(&self, target: &Target, blob: &Bytes) -> Result<()> {
        let digest = hash::digest(Algorithm::Sha256, blob);
        let what = format!("blob {digest}");
        let url = target.url(&format!("blobs/{digest}"))?;
        let there = self.send(target, Access::Push, || self.http.head(url.clone())).await?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let start = target.url("blobs/uploads/")?;
        let request = || self.http.post(start.clone()).header(header::CONTENT_LENGTH, 0);
        let response = self.send(target, Access::Push, request).await?;
        let response = expect(response, &[StatusCode::ACCEPTED], &what, Kind::Remote).await?;
        let place = location(&response, &digest)?;
        let request = || {
            let typed = self.http.put(place.clone()).header(header::CONTENT_TYPE, "application/octet-stream");
            typed.body(blob.clone())
        };
        let response = self.send(target, Access::Push, request).await?;
        expect(response, &[StatusCode::CREATED], &what, Kind::Remote).await?;
        Ok(())
    }

    /// `Ok` if the registry lets the credentials in that the client has for `host` (for example
    /// `registry.example.org:5000`), or asks for none.
    pub async fn log_in(&self, host: &str) -> Result<()> {
        let address = if matches!(host, "docker.io" | "index.docker.io") { "registry-1.docker.io" } else { host };
        let plain = self.options.plain(host, host);
        let base = format!("{}://{address}", if plain { "http" } else { "https" });
        let target = Target { named: host.to_owned(), base: base.clone(), repository: String::new() };
        let url = super::parse_url(&format!("{base}/v2/"))?;
        let response = self.send(&target, Access::Pull, || self.http.get(url.clone())).await?;
        expect(response, &[StatusCode::OK], "a log-in", Kind::Unauthorized).await.map(|_| ())
    }
}
