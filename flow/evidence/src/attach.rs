//! Makes all evidence for an image and attaches it.
//!
//! Each kind is a referrer of the image's digest: the SBOM as the plain CycloneDX document (what scanners look for), everything signed
//! as DSSE envelopes in Sigstore bundles (what `cosign` 3 looks for), and the same once more under cosign's older tags `.sig` and `.att`.
//! Everything can be repeated: what was attached before from the same inputs is checked and used again.

use std::{collections::BTreeMap, sync::Arc};

use image::{
    Algorithm, Registry,
    hash::digest,
    registry::{Attachment, Descriptor, Document},
};
use records::{
    Commit, CommitId, Digest, Evidence, EvidenceDetail, EvidenceKind, Image, Run, RunId, RunState, TestSummary,
    Timestamp,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    artifact::{self, CREATED, INPUTS, KIND, kind_name},
    error::{Error, Result},
    provenance,
    sbom::{
        Catalogue, LayerCache,
        cyclonedx::{self, Bom},
    },
    sign::{
        SigningKey,
        bundle::{self, Bundle},
        dsse::{self, Envelope},
        simple,
    },
    statement::{self, Statement},
    vulnerability::{Database, Vex, findings, report, scan},
};

/// Changes when the same inputs are to give other documents.
const FORMAT: &str = "evidence-1";

/// What is known of the run that made an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunFacts {
    pub run: RunId,
    pub commit: CommitId,
    pub source: Source,
    /// Who built it, as a URI.
    pub builder: String,
    pub started_at: Timestamp,
    /// When the image was there.
    pub finished_at: Timestamp,
    /// What every `FROM` resolved to, as `name@digest`.
    pub bases: Vec<String>,
    /// The images that steps ran in, as `name@digest`.
    pub step_images: Vec<String>,
    pub tests: TestSummary,
}

/// Where the commit and its pipeline are from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    /// For example `git+https://ship.example/git/journal.git`.
    pub uri: String,
    pub branch: String,
    /// The pipeline file, relative to the repository.
    pub pipeline: String,
    pub pipeline_digest: Digest,
}

impl RunFacts {
    /// The facts of an image, from the records of its run. Nothing in it changes when the run goes on.
    pub fn of(run: &Run, image: &Image, commit: &Commit, source: Source, builder: &str) -> Self {
        let started_at = match run.state {
            RunState::Running { since } | RunState::Passed { since, .. } | RunState::Failed { since, .. } => since,
            RunState::Queued | RunState::Cancelled { .. } => run.created_at,
        };
        Self {
            run: run.id.clone(),
            commit: commit.id.clone(),
            source,
            builder: builder.to_owned(),
            started_at,
            finished_at: image.built_at,
            bases: image.bases.clone(),
            step_images: run.resolved.iter().map(|(name, digest)| format!("{name}@{digest}")).collect(),
            tests: run.tests(),
        }
    }
}

/// Makes evidence. Cheap to clone.
#[derive(Clone)]
pub struct Maker {
    registry: Registry,
    layers: LayerCache,
    key: Arc<SigningKey>,
}

/// An attached statement: its envelope, and the referrer that carries it.
struct Attached {
    envelope: Envelope,
    referrer: Digest,
    made_at: Timestamp,
}

/// The image that evidence is made for.
struct Target<'a> {
    repository: &'a str,
    digest: &'a Digest,
    existing: Vec<Descriptor>,
    now: Timestamp,
}

impl Maker {
    pub fn new(registry: Registry, layers: LayerCache, key: Arc<SigningKey>) -> Self {
        Self { registry, layers, key }
    }

    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The packages of an image.
    pub async fn catalogue(&self, repository: &str, image: &Digest) -> Result<Catalogue> {
        let facts = self.layers.layers(self.registry.blobs(), &self.layer_digests(repository, image).await?).await?;
        Ok(Catalogue::of(facts.iter().map(|facts| &**facts)))
    }

    /// Reads the layers of an image before they are needed, so that what is built on it costs nothing for them.
    pub async fn warm(&self, repository: &str, image: &Digest) -> Result<()> {
        self.layers.layers(self.registry.blobs(), &self.layer_digests(repository, image).await?).await.map(drop)
    }

    async fn layer_digests(&self, repository: &str, image: &Digest) -> Result<Vec<Digest>> {
        let document: Document = artifact::manifest(&self.registry, repository, image).await?;
        let Some(layers) = document.layers else {
            let message = format!(
                "{repository}@{image} is a list of images: evidence is made for each image of it by its own digest"
            );
            return Err(Error::invalid(message));
        };
        Ok(layers.into_iter().map(|layer| layer.digest).collect())
    }

    /// Makes all four kinds of evidence and attaches them. The records are for the caller to write.
    pub async fn make(
        &self,
        repository: &str,
        image: &Digest,
        facts: &RunFacts,
        database: &Database,
        vex: &Vex,
        now: Timestamp,
    ) -> Result<Vec<Evidence>> {
        let catalogue = self.catalogue(repository, image).await?;
        let existing = self.registry.referrers(repository, image, None).await?;
        let target = Target { repository, digest: image, existing, now };
        let (sbom, scan, provenance, signature, _) = tokio::try_join!(
            self.sbom(&target, &catalogue),
            self.scan(&target, &catalogue, database, vex, &facts.builder),
            self.provenance(&target, facts),
            self.signature(&target),
            self.simple_signature(&target),
        )?;
        let (sbom, document) = sbom;
        let (scan, findings) = scan;
        self.older_attestations(&target, [&sbom.envelope, &scan.envelope, &provenance.envelope]).await?;
        let evidence = |referrer: &Digest, made_at, detail| Evidence {
            repository: repository.to_owned(),
            subject: image.clone(),
            referrer: referrer.clone(),
            run: facts.run.clone(),
            detail,
            made_at,
        };
        let components = catalogue.packages.len() as u64;
        Ok(vec![
            evidence(&document, sbom.made_at, EvidenceDetail::Sbom { components, licences: catalogue.licences() }),
            evidence(
                &scan.referrer,
                scan.made_at,
                EvidenceDetail::Vulnerabilities { database: database.digest().clone(), findings },
            ),
            evidence(
                &provenance.referrer,
                provenance.made_at,
                EvidenceDetail::Provenance { builder: facts.builder.clone() },
            ),
            evidence(
                &signature.referrer,
                signature.made_at,
                EvidenceDetail::Signature { key: self.key.public().id().to_string() },
            ),
        ])
    }

    /// Scans an image again, for a database or VEX documents that changed since.
    pub async fn rescan(
        &self,
        repository: &str,
        image: &Digest,
        run: &RunId,
        builder: &str,
        database: &Database,
        vex: &Vex,
        now: Timestamp,
    ) -> Result<Evidence> {
        let catalogue = self.catalogue(repository, image).await?;
        let existing = self.registry.referrers(repository, image, None).await?;
        let target = Target { repository, digest: image, existing, now };
        let (attached, findings) = self.scan(&target, &catalogue, database, vex, builder).await?;
        Ok(Evidence {
            repository: repository.to_owned(),
            subject: image.clone(),
            referrer: attached.referrer,
            run: run.clone(),
            detail: EvidenceDetail::Vulnerabilities { database: database.digest().clone(), findings },
            made_at: attached.made_at,
        })
    }

    /// The signed SBOM, and the digest of the referrer that carries the plain document.
    async fn sbom(&self, target: &Target<'_>, catalogue: &Catalogue) -> Result<(Attached, Digest)> {
        let inputs = self.inputs(target, EvidenceKind::Sbom, &[]);
        let make = |now| cyclonedx::document(target.repository, target.digest, catalogue, now);
        let (attached, bom): (Attached, Bom) =
            self.attest(target, EvidenceKind::Sbom, &inputs, statement::CYCLONEDX, make).await?;
        let annotations = BTreeMap::from([
            (CREATED.to_owned(), bom.metadata.timestamp.to_string()),
            (KIND.to_owned(), kind_name(EvidenceKind::Sbom).to_owned()),
        ]);
        let layer = artifact::layer(cyclonedx::MEDIA_TYPE, json(&bom)?);
        let plain = self
            .registry
            .attach(target.repository, target.digest, cyclonedx::MEDIA_TYPE, vec![layer], annotations)
            .await?;
        Ok((attached, plain))
    }

    async fn scan(
        &self,
        target: &Target<'_>,
        catalogue: &Catalogue,
        database: &Database,
        vex: &Vex,
        builder: &str,
    ) -> Result<(Attached, Vec<records::Finding>)> {
        let matches = scan(catalogue, database);
        let image = cyclonedx::image_component(target.repository, target.digest).purl.unwrap_or_default();
        let findings = findings(&matches, vex, &image);
        let mut from = vec![database.digest().as_str(), builder];
        from.extend(vex.digests().iter().map(Digest::as_str));
        let inputs = self.inputs(target, EvidenceKind::Vulnerabilities, &from);
        let make = |now| {
            report::predicate(&report::Scan {
                repository: target.repository,
                digest: target.digest,
                catalogue,
                database,
                matches: &matches,
                findings: &findings,
                builder,
                now,
            })
        };
        let (attached, _) =
            self.attest(target, EvidenceKind::Vulnerabilities, &inputs, report::PREDICATE_TYPE, make).await?;
        Ok((attached, findings))
    }

    async fn provenance(&self, target: &Target<'_>, facts: &RunFacts) -> Result<Attached> {
        let from = digest(Algorithm::Sha256, &json(facts)?);
        let inputs = self.inputs(target, EvidenceKind::Provenance, &[from.as_str()]);
        let make = |_| provenance::predicate(facts);
        let attested = self.attest(target, EvidenceKind::Provenance, &inputs, provenance::PREDICATE_TYPE, make).await?;
        Ok(attested.0)
    }

    async fn signature(&self, target: &Target<'_>) -> Result<Attached> {
        let inputs = self.inputs(target, EvidenceKind::Signature, &[]);
        let make = |_| serde_json::Map::new();
        Ok(self.attest(target, EvidenceKind::Signature, &inputs, statement::SIGNATURE, make).await?.0)
    }

    /// A digest over all that a piece of evidence is made from; time is no part of it.
    fn inputs(&self, target: &Target<'_>, kind: EvidenceKind, from: &[&str]) -> String {
        let key = self.key.public().id();
        let common = [
            FORMAT,
            env!("CARGO_PKG_VERSION"),
            kind_name(kind),
            target.repository,
            target.digest.as_str(),
            key.as_str(),
        ];
        let all: Vec<&str> = common.into_iter().chain(from.iter().copied()).collect();
        digest(Algorithm::Sha256, all.join("\n").as_bytes()).to_string()
    }

    /// Uses the statement that was attached before from the same inputs, or makes, signs and attaches it.
    async fn attest<P: Serialize + DeserializeOwned>(
        &self,
        target: &Target<'_>,
        kind: EvidenceKind,
        inputs: &str,
        predicate_type: &str,
        make: impl FnOnce(Timestamp) -> P,
    ) -> Result<(Attached, P)> {
        for candidate in target.with_inputs(bundle::MEDIA_TYPE, inputs) {
            match self.read_again(target, candidate, predicate_type).await {
                Ok(found) => return Ok(found),
                // Whoever may push may attach anything under any annotation; it is not used and does not stand in the way.
                Err(error) => {
                    tracing::warn!(referrer = %candidate.digest, %error, "attached evidence is not used again")
                }
            }
        }
        let statement = Statement::about(target.repository, target.digest, predicate_type, make(target.now));
        let envelope = Envelope::seal(&self.key, statement::PAYLOAD_TYPE, &json(&statement)?)?;
        let content = json(&Bundle::new(envelope.clone(), self.key.public()))?;
        let mut annotations = target.annotations(kind, inputs);
        annotations.insert(bundle::CONTENT.into(), "dsse-envelope".into());
        annotations.insert(bundle::PREDICATE_TYPE.into(), predicate_type.into());
        let layers = vec![artifact::layer(bundle::MEDIA_TYPE, content)];
        let referrer =
            self.registry.attach(target.repository, target.digest, bundle::MEDIA_TYPE, layers, annotations).await?;
        Ok((Attached { envelope, referrer, made_at: target.now }, statement.predicate))
    }

    async fn read_again<P: DeserializeOwned>(
        &self,
        target: &Target<'_>,
        candidate: &Descriptor,
        predicate_type: &str,
    ) -> Result<(Attached, P)> {
        let document = artifact::manifest(&self.registry, target.repository, &candidate.digest).await?;
        let layer = artifact::only_layer(&document, bundle::MEDIA_TYPE)?;
        let bundle = Bundle::parse(&artifact::blob(&self.registry, target.repository, layer).await?)?;
        let envelope = bundle.dsse_envelope;
        let (payload, _) = envelope.open(std::slice::from_ref(self.key.public()), statement::PAYLOAD_TYPE)?;
        let statement: Statement<P> = Statement::parse(&payload)?;
        if !statement.is_about(target.digest) || statement.predicate_type != predicate_type {
            return Err(Error::invalid("the statement is not the one that its annotations say"));
        }
        let made_at = created(candidate).unwrap_or(target.now);
        Ok((Attached { envelope, referrer: candidate.digest.clone(), made_at }, statement.predicate))
    }

    /// cosign's signature under the tag `sha256-….sig`, which is a referrer as well.
    async fn simple_signature(&self, target: &Target<'_>) -> Result<()> {
        let Some(tag) = older_tag(target.digest, "sig") else { return Ok(()) };
        let inputs = self.inputs(target, EvidenceKind::Signature, &["simple"]);
        for candidate in target.with_inputs(simple::ARTIFACT_TYPE, &inputs) {
            let tagged = self.registry.find_manifest(target.repository, &tag.parse()?).await;
            if tagged.is_ok_and(|(tagged, ..)| tagged == candidate.digest) {
                return Ok(());
            }
        }
        let payload = json(&simple::Payload::new(target.repository, target.digest))?;
        use base64::{Engine, prelude::BASE64_STANDARD};
        let signature = BASE64_STANDARD.encode(self.key.sign(&payload)?);
        let layer = Attachment {
            media_type: simple::MEDIA_TYPE.into(),
            content: payload.into(),
            annotations: BTreeMap::from([(simple::SIGNATURE.to_owned(), signature)]),
        };
        let annotations = target.annotations(EvidenceKind::Signature, &inputs);
        let kind = Some(simple::ARTIFACT_TYPE);
        artifact::put_tagged(
            &self.registry,
            target.repository,
            &tag,
            kind,
            Some(target.digest),
            vec![layer],
            &annotations,
        )
        .await
        .map(drop)
    }

    /// The envelopes under the tag `sha256-….att`.
    async fn older_attestations(&self, target: &Target<'_>, envelopes: [&Envelope; 3]) -> Result<()> {
        let Some(tag) = older_tag(target.digest, "att") else { return Ok(()) };
        let types = [statement::CYCLONEDX, report::PREDICATE_TYPE, provenance::PREDICATE_TYPE];
        let mut layers = Vec::with_capacity(envelopes.len());
        for (envelope, predicate_type) in envelopes.into_iter().zip(types) {
            let annotations = BTreeMap::from([
                (simple::SIGNATURE.to_owned(), String::new()),
                ("predicateType".to_owned(), predicate_type.to_owned()),
            ]);
            let content = json(envelope)?.into();
            layers.push(Attachment { media_type: dsse::MEDIA_TYPE.into(), content, annotations });
        }
        artifact::put_tagged(&self.registry, target.repository, &tag, None, None, layers, &BTreeMap::new())
            .await
            .map(drop)
    }
}

/// A tag has at most 128 characters; a SHA-512 sum alone has as many.
fn older_tag(digest: &Digest, ending: &str) -> Option<String> {
    (digest.algorithm() == "sha256").then(|| simple::tag(digest, ending))
}

impl Target<'_> {
    fn with_inputs<'a>(&'a self, artifact_type: &'a str, inputs: &'a str) -> impl Iterator<Item = &'a Descriptor> {
        self.existing.iter().filter(move |descriptor| {
            descriptor.artifact_type.as_deref() == Some(artifact_type)
                && descriptor.annotations.as_ref().and_then(|all| all.get(INPUTS)).is_some_and(|found| found == inputs)
        })
    }

    fn annotations(&self, kind: EvidenceKind, inputs: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (CREATED.to_owned(), self.now.to_string()),
            (KIND.to_owned(), kind_name(kind).to_owned()),
            (INPUTS.to_owned(), inputs.to_owned()),
        ])
    }
}

fn created(descriptor: &Descriptor) -> Option<Timestamp> {
    descriptor.annotations.as_ref()?.get(CREATED)?.parse().ok()
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::invalid("a document cannot be written as JSON").caused(e))
}
