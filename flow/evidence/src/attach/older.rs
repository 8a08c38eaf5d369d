//! The same evidence as cosign's older clients look for it: under tags that are derived from the digest.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use image::registry::Attachment;
use records::{Digest, EvidenceKind};

use super::{Maker, Target, statements::json};
use crate::{
    artifact,
    error::Result,
    sign::{
        dsse::{self, Envelope},
        simple,
    },
};

/// The annotation of a layer that says what an envelope holds.
const PREDICATE_TYPE: &str = "predicateType";

impl Maker {
    /// cosign's signature under the tag `sha256-….sig`, which is a referrer as well.
    pub(super) async fn simple_signature(&self, target: &Target<'_>) -> Result<()> {
        let Some(tag) = older_tag(target.digest, "sig") else { return Ok(()) };
        let inputs = self.inputs(target, EvidenceKind::Signature, &["simple"]);
        for candidate in target.with_inputs(simple::ARTIFACT_TYPE, &inputs) {
            let tagged = self.registry.find_manifest(target.repository, &tag.parse()?).await;
            if tagged.is_ok_and(|(tagged, ..)| tagged == candidate.digest) {
                return Ok(());
            }
        }
        let payload = json(&simple::Payload::new(target.repository, target.digest))?;
        let signature = BASE64_STANDARD.encode(self.key.sign(&payload)?);
        let layer = Attachment {
            media_type: simple::MEDIA_TYPE.into(),
            content: payload.into(),
            annotations: BTreeMap::from([(simple::SIGNATURE.to_owned(), signature)]),
        };
        let annotations = target.annotations(EvidenceKind::Signature, &inputs);
        let of = artifact::Tagged {
            tag: &tag,
            artifact_type: Some(simple::ARTIFACT_TYPE),
            subject: Some(target.digest),
            annotations: &annotations,
        };
        artifact::put_tagged(&self.registry, target.repository, of, vec![layer]).await.map(drop)
    }

    /// Envelopes, with their predicate types, under the tag `sha256-….att`. Of each type the newest is there; those of other types stay.
    pub(super) async fn older_attestations(&self, target: &Target<'_>, envelopes: &[(&str, &Envelope)]) -> Result<()> {
        let Some(tag) = older_tag(target.digest, "att") else { return Ok(()) };
        let mut layers = BTreeMap::new();
        if let Ok((_, info, content)) = self.registry.find_manifest(target.repository, &tag.parse()?).await
            && let Ok((document, _)) = image::registry::Document::parse(&info.media_type, &content)
        {
            for layer in document.layers.into_iter().flatten().filter(|layer| layer.media_type == dsse::MEDIA_TYPE) {
                let Some(of) = layer.annotations.as_ref().and_then(|all| all.get(PREDICATE_TYPE)) else { continue };
                if !envelopes.iter().any(|(predicate_type, _)| predicate_type == of)
                    && let Ok(content) = artifact::blob(&self.registry, target.repository, &layer).await
                {
                    layers.insert(of.clone(), content);
                }
            }
        }
        for (predicate_type, envelope) in envelopes {
            layers.insert((*predicate_type).to_owned(), json(envelope)?.into());
        }
        let attachment = |(predicate_type, content)| Attachment {
            media_type: dsse::MEDIA_TYPE.into(),
            content,
            annotations: BTreeMap::from([
                (simple::SIGNATURE.to_owned(), String::new()),
                (PREDICATE_TYPE.to_owned(), predicate_type),
            ]),
        };
        let of = artifact::Tagged { tag: &tag, artifact_type: None, subject: None, annotations: &BTreeMap::new() };
        let layers = layers.into_iter().map(attachment).collect();
        artifact::put_tagged(&self.registry, target.repository, of, layers).await.map(drop)
    }
}

/// A tag has at most 128 characters; a SHA-512 sum alone has as many.
fn older_tag(digest: &Digest, ending: &str) -> Option<String> {
    (digest.algorithm() == "sha256").then(|| simple::tag(digest, ending))
}
