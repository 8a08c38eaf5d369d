//! Signed statements: found again from the same inputs, or made.

use std::collections::BTreeMap;

use image::{Algorithm, hash::digest, registry::Descriptor};
use records::{Digest, EvidenceKind, Timestamp};
use serde::{Serialize, de::DeserializeOwned};

use super::{Maker, Target};
use crate::{
    artifact::{self, CREATED, kind_name},
    error::{Error, Result},
    sign::{
        bundle::{self, Bundle},
        dsse::Envelope,
    },
    statement::{self, Statement},
};

/// Changes when the same inputs are to give other documents.
const FORMAT: &str = "evidence-1";

/// A signed statement that is attached already, or is about to be.
pub(super) struct Prepared<P> {
    pub predicate: P,
    pub made_at: Timestamp,
    predicate_type: &'static str,
    envelope: Envelope,
    place: Place,
}

enum Place {
    /// The referrer that carries it.
    There(Digest),
    /// The annotations that its referrer is to have.
    New(BTreeMap<String, String>),
}

impl<P> Prepared<P> {
    /// With its predicate type.
    pub fn envelope(&self) -> (&'static str, &Envelope) {
        (self.predicate_type, &self.envelope)
    }
}

impl Maker {
    /// A digest over all that a piece of evidence is made from; time is no part of it.
    pub(super) fn inputs(&self, target: &Target<'_>, kind: EvidenceKind, from: &[&str]) -> String {
        let key = self.key.public().id();
        let version = env!("CARGO_PKG_VERSION");
        let common = [FORMAT, version, kind_name(kind), target.repository, target.digest.as_str(), key.as_str()];
        let all: Vec<&str> = common.into_iter().chain(from.iter().copied()).collect();
        digest(Algorithm::Sha256, all.join("\n").as_bytes()).to_string()
    }

    /// Finds the statement that was attached before from the same inputs, or makes and signs it.
    pub(super) async fn prepare<P: Serialize + DeserializeOwned>(
        &self,
        target: &Target<'_>,
        kind: EvidenceKind,
        inputs: String,
        predicate_type: &'static str,
        make: impl FnOnce(Timestamp) -> P,
    ) -> Result<Prepared<P>> {
        for candidate in target.with_inputs(bundle::MEDIA_TYPE, &inputs) {
            match self.read_again(target, candidate, predicate_type).await {
                Ok(found) => return Ok(found),
                // Whoever may push may attach anything under any annotation: it is not used and does not stand in the way.
                Err(error) => {
                    tracing::warn!(referrer = %candidate.digest, %error, "attached evidence is not used again")
                }
            }
        }
        let statement = Statement::about(target.repository, target.digest, predicate_type, make(target.now));
        let envelope = Envelope::seal(&self.key, statement::PAYLOAD_TYPE, &json(&statement)?)?;
        let place = Place::New(target.bundle_annotations(kind, &inputs, predicate_type));
        Ok(Prepared { predicate: statement.predicate, made_at: target.now, predicate_type, envelope, place })
    }

    /// Attaches it unless it is there, and returns the referrer that carries it.
    pub(super) async fn publish<P>(&self, target: &Target<'_>, prepared: &Prepared<P>) -> Result<Digest> {
        match &prepared.place {
            Place::There(referrer) => Ok(referrer.clone()),
            Place::New(annotations) => {
                let content = json(&Bundle::new(prepared.envelope.clone(), self.key.public()))?;
                let layers = vec![artifact::layer(bundle::MEDIA_TYPE, content)];
                let (repository, image) = (target.repository, target.digest);
                let attached = self.registry.attach(repository, image, bundle::MEDIA_TYPE, layers, annotations.clone());
                Ok(attached.await?)
            }
        }
    }

    pub(super) async fn publish_if_any<P>(
        &self,
        target: &Target<'_>,
        prepared: Option<&Prepared<P>>,
    ) -> Result<Option<Digest>> {
        match prepared {
            Some(prepared) => self.publish(target, prepared).await.map(Some),
            None => Ok(None),
        }
    }

    async fn read_again<P: DeserializeOwned>(
        &self,
        target: &Target<'_>,
        candidate: &Descriptor,
        predicate_type: &'static str,
    ) -> Result<Prepared<P>> {
        let document = artifact::manifest(&self.registry, target.repository, &candidate.digest).await?;
        let layer = artifact::only_layer(&document, bundle::MEDIA_TYPE)?;
        let bundle = Bundle::parse(&artifact::blob(&self.registry, target.repository, layer).await?)?;
        let envelope = bundle.dsse_envelope;
        let (payload, _) = envelope.open(std::slice::from_ref(self.key.public()), statement::PAYLOAD_TYPE)?;
        let statement: Statement<P> = Statement::parse(&payload)?;
        if !statement.is_about(target.digest) || statement.predicate_type != predicate_type {
            return Err(Error::invalid("the statement is not the one that its annotations say"));
        }
        let written = candidate.annotations.as_ref().and_then(|all| all.get(CREATED));
        let made_at = written.and_then(|at| at.parse().ok()).unwrap_or(target.now);
        let place = Place::There(candidate.digest.clone());
        Ok(Prepared { predicate: statement.predicate, made_at, predicate_type, envelope, place })
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::invalid("a document cannot be written as JSON").caused(e))
}
