//! What is attached to a manifest at another registry: by the referrers API of the OCI distribution specification 1.1, and by the tag
//! `sha256-…` at registries that do not have it.

use bytes::Bytes;
use http::{StatusCode, header};
use records::Digest;

use super::{Access, Client, Target, collect, expect};
use crate::{
    Error, Kind, Reference, Result, media,
    registry::{Descriptor, Document, MAX_MANIFEST},
};

/// The tag under which a registry without the API keeps the list.
fn tag(subject: &Digest) -> String {
    let whole = format!("{}-{}", subject.algorithm(), subject.hex());
    // As long as a tag may be: the specification cuts it there.
    whole.chars().take(128).collect()
}

impl Client {
    /// What is attached to `subject` in the repository of `reference`, of one artifact type.
    pub async fn referrers(
        &self,
        reference: &Reference,
        subject: &Digest,
        artifact_type: &str,
    ) -> Result<Vec<Descriptor>> {
        let target = self.target(reference)?;
        let what = format!("what is attached to {subject} of {reference}");
        let mut url = target.url(&format!("referrers/{subject}"))?;
        url.query_pairs_mut().append_pair("artifactType", artifact_type);
        let request = || self.http.get(url.clone()).header(header::ACCEPT, media::OCI_INDEX);
        let response = self.send(&target, Access::Pull, request).await?;
        let listed = match response.status() {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => self.listed(&target, subject).await?,
            _ => {
                let response = expect(response, &[StatusCode::OK], &what, Kind::ManifestUnknown).await?;
                read(&collect(response, MAX_MANIFEST as usize, &what).await?, &what)?
            }
        };
        // A registry need not have looked at the type.
        Ok(listed.into_iter().filter(|one| one.artifact_type.as_deref() == Some(artifact_type)).collect())
    }

    /// The list that is kept under a tag; empty where there is none.
    async fn listed(&self, target: &Target, subject: &Digest) -> Result<Vec<Descriptor>> {
        let tag = tag(subject);
        let what = format!("manifest {tag}");
        let url = target.url(&format!("manifests/{tag}"))?;
        let request = || self.http.get(url.clone()).header(header::ACCEPT, media::OCI_INDEX);
        let response = self.send(target, Access::Pull, request).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let response = expect(response, &[StatusCode::OK], &what, Kind::ManifestUnknown).await?;
        read(&collect(response, MAX_MANIFEST as usize, &what).await?, &what)
    }

    /// Sees to it that a manifest which was pushed and has a subject is found, where the registry did not say that it does so itself.
    pub(super) async fn list_referrer(
        &self,
        target: &Target,
        document: &Document,
        media_type: &str,
        content: &Bytes,
    ) -> Result<()> {
        let Some(subject) = &document.subject else { return Ok(()) };
        let digest = crate::hash::digest(crate::Algorithm::Sha256, content);
        let mut manifests = self.listed(target, &subject.digest).await?;
        if manifests.iter().any(|known| known.digest == digest) {
            return Ok(());
        }
        manifests.push(Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size: content.len() as u64,
            artifact_type: document.shown_artifact_type(),
            annotations: document.annotations.clone(),
            urls: None,
            data: None,
        });
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests,
        });
        let (tag, index) = (tag(&subject.digest), index.to_string());
        let url = target.url(&format!("manifests/{tag}"))?;
        let request = || self.http.put(url.clone()).header(header::CONTENT_TYPE, media::OCI_INDEX).body(index.clone());
        let response = self.send(target, Access::Push, request).await?;
        expect(response, &[StatusCode::CREATED, StatusCode::OK], &format!("manifest {tag}"), Kind::Remote).await?;
        Ok(())
    }
}

fn read(content: &[u8], what: &str) -> Result<Vec<Descriptor>> {
    let (document, _) = Document::parse(media::OCI_INDEX, content)
        .map_err(|e| Error::new(Kind::Remote, format!("{what} cannot be read: {e}")).caused(e))?;
    Ok(document.manifests.unwrap_or_default())
}
