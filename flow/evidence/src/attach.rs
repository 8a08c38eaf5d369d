//! Makes all evidence for an image and attaches it.
//!
//! Each kind is a referrer of the image's digest: the SBOM as the plain CycloneDX document (what scanners look for), everything signed
//! as DSSE envelopes in Sigstore bundles (what `cosign` 3 looks for), and the same once more under cosign's older tags `.sig` and `.att`.
//! Everything can be repeated: what was attached before from the same inputs is checked and used again.

mod older;
mod statements;

use std::{collections::BTreeMap, sync::Arc};

use image::{Algorithm, Registry, hash::digest, registry::Descriptor};
use records::{Digest, Evidence, EvidenceDetail, EvidenceKind, Finding, RunId, Timestamp};

use crate::{
    artifact::{self, CREATED, INPUTS, KIND, kind_name},
    error::{Error, Kind, Result},
    facts::RunFacts,
    provenance,
    sbom::{
        Catalogue, LayerCache,
        cyclonedx::{self, Bom},
        origin,
    },
    sign::{SigningKey, bundle},
    statement,
    vulnerability::{Database, Vex, findings, report, scan},
};
use statements::{Prepared, json};

/// Makes evidence. Cheap to clone.
#[derive(Clone)]
pub struct Maker {
    registry: Registry,
    layers: LayerCache,
    key: Arc<SigningKey>,
}

/// What packages are judged against.
#[derive(Clone, Copy)]
struct Against<'a> {
    database: &'a Database,
    vex: &'a Vex,
}

/// The image that evidence is made for.
struct Target<'a> {
    repository: &'a str,
    digest: &'a Digest,
    /// What is attached already.
    existing: Vec<Descriptor>,
    now: Timestamp,
}

impl Maker {
    /// Over the registry that images and evidence are in. What `key` signs, its public part checks.
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

    /// The layer, by its place from the bottom, that brought each package of an image, by package URL.
    pub async fn origins(&self, repository: &str, image: &Digest) -> Result<BTreeMap<String, usize>> {
        let facts = self.layers.layers(self.registry.blobs(), &self.layer_digests(repository, image).await?).await?;
        Ok(origin::origins(&facts))
    }

    /// Reads the layers of an image before they are needed, so that what is built on it costs nothing for them.
    pub async fn warm(&self, repository: &str, image: &Digest) -> Result<()> {
        self.layers.layers(self.registry.blobs(), &self.layer_digests(repository, image).await?).await.map(drop)
    }

    async fn layer_digests(&self, repository: &str, image: &Digest) -> Result<Vec<Digest>> {
        let document = artifact::manifest(&self.registry, repository, image).await?;
        let Some(layers) = document.layers else {
            let message = format!(
                "{repository}@{image} is a list of images: evidence is made for each image of it by its own digest"
            );
            return Err(Error::invalid(message));
        };
        Ok(layers.into_iter().map(|layer| layer.digest).collect())
    }

    async fn target<'a>(&self, repository: &'a str, digest: &'a Digest, now: Timestamp) -> Result<Target<'a>> {
        let existing = self.registry.referrers(repository, digest, None).await?;
        Ok(Target { repository, digest, existing, now })
    }

    /// Makes all kinds of evidence and attaches them, in the order of [`EvidenceKind::ALL`]. The records are for the caller to write.
    /// With a database without records there is no scan: it would call every image clean.
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
        let target = self.target(repository, image, now).await?;
        let (sbom, scan, provenance, signature) = tokio::try_join!(
            self.sbom(&target, &catalogue),
            self.scan_if_any(&target, &catalogue, Against { database, vex }, &facts.builder),
            self.provenance(&target, facts),
            self.signature(&target),
        )?;
        let mut attestations = vec![sbom.envelope(), provenance.envelope()];
        attestations.extend(scan.as_ref().map(|(scan, _)| scan.envelope()));
        // The signed SBOM first: from it the same plain one is made again, so that a death in between leaves none that nobody signed.
        let sboms = async {
            self.publish(&target, &sbom).await?;
            self.plain_sbom(&target, &sbom).await
        };
        let (plain, scan_at, provenance_at, signature_at, (), ()) = tokio::try_join!(
            sboms,
            self.publish_if_any(&target, scan.as_ref().map(|(scan, _)| scan)),
            self.publish(&target, &provenance),
            self.publish(&target, &signature),
            self.simple_signature(&target),
            self.older_attestations(&target, &attestations),
        )?;
        let evidence = |referrer, made_at, detail| {
            let repository = repository.to_owned();
            Evidence { repository, subject: image.clone(), referrer, run: facts.run.clone(), detail, made_at }
        };
        let components = catalogue.packages.len() as u64;
        let says = EvidenceDetail::Sbom { components, licences: catalogue.licences() };
        let mut made = vec![evidence(plain, sbom.made_at, says)];
        if let (Some(referrer), Some((scan, findings))) = (scan_at, scan) {
            let says = EvidenceDetail::Vulnerabilities { database: database.digest().clone(), findings };
            made.push(evidence(referrer, scan.made_at, says));
        }
        let says = EvidenceDetail::Provenance { builder: facts.builder.clone() };
        made.push(evidence(provenance_at, provenance.made_at, says));
        let says = EvidenceDetail::Signature { key: self.key.public().id().to_string() };
        made.push(evidence(signature_at, signature.made_at, says));
        Ok(made)
    }

    /// Scans an image again, for a database or VEX documents that changed since. An error with a database without records.
    #[expect(clippy::too_many_arguments, reason = "each is another thing, and `make` takes them in the same order")]
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
        let target = self.target(repository, image, now).await?;
        let scanned = self.scan_if_any(&target, &catalogue, Against { database, vex }, builder).await?;
        let Some((scan, findings)) = scanned else {
            let message = format!("{repository}@{image} cannot be scanned: the vulnerability database has no records");
            return Err(Error::new(Kind::Database, message));
        };
        let attestation = [scan.envelope()];
        let older = self.older_attestations(&target, &attestation);
        let (referrer, ()) = tokio::try_join!(self.publish(&target, &scan), older)?;
        Ok(Evidence {
            repository: repository.to_owned(),
            subject: image.clone(),
            referrer,
            run: run.clone(),
            detail: EvidenceDetail::Vulnerabilities { database: database.digest().clone(), findings },
            made_at: scan.made_at,
        })
    }

    async fn sbom(&self, target: &Target<'_>, catalogue: &Catalogue) -> Result<Prepared<Bom>> {
        let inputs = self.inputs(target, EvidenceKind::Sbom, &[]);
        let make = |now| cyclonedx::document(target.repository, target.digest, catalogue, now);
        self.prepare(target, EvidenceKind::Sbom, inputs, statement::CYCLONEDX, make).await
    }

    /// The document as scanners look for it: not signed, but equal to the signed one.
    async fn plain_sbom(&self, target: &Target<'_>, signed: &Prepared<Bom>) -> Result<Digest> {
        let bom = &signed.predicate;
        let annotations = BTreeMap::from([
            (CREATED.to_owned(), bom.metadata.timestamp.to_string()),
            (KIND.to_owned(), kind_name(EvidenceKind::Sbom).to_owned()),
        ]);
        let layers = vec![artifact::layer(cyclonedx::MEDIA_TYPE, json(bom)?)];
        Ok(self.registry.attach(target.repository, target.digest, cyclonedx::MEDIA_TYPE, layers, annotations).await?)
    }

    async fn scan_if_any(
        &self,
        target: &Target<'_>,
        catalogue: &Catalogue,
        against: Against<'_>,
        builder: &str,
    ) -> Result<Option<(Prepared<report::Predicate>, Vec<Finding>)>> {
        if against.database.is_empty() {
            tracing::warn!(repository = target.repository, image = %target.digest, "not scanned: the vulnerability database has no records");
            return Ok(None);
        }
        self.scan(target, catalogue, against, builder).await.map(Some)
    }

    async fn scan(
        &self,
        target: &Target<'_>,
        catalogue: &Catalogue,
        against: Against<'_>,
        builder: &str,
    ) -> Result<(Prepared<report::Predicate>, Vec<Finding>)> {
        let Against { database, vex } = against;
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
        let prepared =
            self.prepare(target, EvidenceKind::Vulnerabilities, inputs, report::PREDICATE_TYPE, make).await?;
        Ok((prepared, findings))
    }

    async fn provenance(&self, target: &Target<'_>, facts: &RunFacts) -> Result<Prepared<provenance::Predicate>> {
        let from = digest(Algorithm::Sha256, &json(facts)?);
        let inputs = self.inputs(target, EvidenceKind::Provenance, &[from.as_str()]);
        let make = |_| provenance::predicate(facts);
        self.prepare(target, EvidenceKind::Provenance, inputs, provenance::PREDICATE_TYPE, make).await
    }

    /// The predicate of a signature is empty: that there is one is what it says.
    async fn signature(&self, target: &Target<'_>) -> Result<Prepared<serde_json::Map<String, serde_json::Value>>> {
        let inputs = self.inputs(target, EvidenceKind::Signature, &[]);
        let make = |_| serde_json::Map::new();
        self.prepare(target, EvidenceKind::Signature, inputs, statement::SIGNATURE, make).await
    }
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

    /// Those of a bundle.
    fn bundle_annotations(&self, kind: EvidenceKind, inputs: &str, predicate_type: &str) -> BTreeMap<String, String> {
        let mut annotations = self.annotations(kind, inputs);
        annotations.insert(bundle::CONTENT.to_owned(), "dsse-envelope".to_owned());
        annotations.insert(bundle::PREDICATE_TYPE.to_owned(), predicate_type.to_owned());
        annotations
    }
}
