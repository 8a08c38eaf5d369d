//! Checks what is attached to an image, from the registry alone: every digest, every signature, every subject.

use std::fmt;

use image::{Registry, registry::Descriptor};
use records::{Digest, EvidenceKind};
use serde::Serialize;
use serde_json::Value;

use crate::{
    artifact::{self, KIND, kind_name},
    error::{Error, Result, clip},
    provenance,
    sbom::cyclonedx::{self, Bom},
    sign::{
        PublicKey,
        bundle::{self, Bundle},
        simple,
    },
    statement::{self, Statement},
    vulnerability::report,
};

/// Referrers that are looked at; an image has a handful.
const LIMIT: usize = 1000;

/// One attached artifact, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub kind: EvidenceKind,
    /// The digest of the manifest that carries it.
    pub referrer: Digest,
    /// What was checked, for people.
    pub checked: String,
    pub held: bool,
    /// What it says when it held, and why not when it did not.
    pub detail: String,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = if self.held { "held" } else { "DID NOT HOLD" };
        write!(f, "{} {}: {held}: {} ({})", self.kind.title(), self.referrer.short(), self.detail, self.checked)
    }
}

/// Checks the image itself and all evidence that is attached to it, in the order of [`EvidenceKind`]. An error when the image is not
/// there or is not what its digest says; evidence that does not hold is no error but says so. Artifacts of other kinds are passed over.
pub async fn verify(
    registry: &Registry,
    repository: &str,
    image: &Digest,
    keys: &[PublicKey],
) -> Result<Vec<Verified>> {
    artifact::manifest(registry, repository, image).await?;
    let referrers = registry.referrers(repository, image, None).await?;
    let check = Check { registry, repository, image, keys };
    let mut all = Vec::new();
    let mut boms = Vec::new();
    let mut documents = Vec::new();
    for referrer in referrers.iter().take(LIMIT) {
        match referrer.artifact_type.as_deref() {
            Some(bundle::MEDIA_TYPE) => {
                let Some(kind) = kind_of(referrer) else { continue };
                let found = check.bundle(referrer, kind).await;
                if let Ok(Said { bom: Some(bom), .. }) = &found {
                    boms.push(bom.clone());
                }
                let what = "digests, DSSE signature, subject";
                all.push(verified(kind, referrer, what, found.map(|said| said.summary)));
            }
            Some(simple::ARTIFACT_TYPE) => {
                let found = check.simple(referrer).await;
                all.push(verified(EvidenceKind::Signature, referrer, "digests, cosign signature, subject", found));
            }
            Some(cyclonedx::MEDIA_TYPE) => documents.push((referrer, check.document(referrer).await)),
            _ => {}
        }
    }
    // A plain document carries no signature: it holds if it is word for word what a signed statement holds.
    for (referrer, found) in documents {
        let found = found.and_then(|bom| match boms.contains(&bom) {
            true => Ok(components(&bom)),
            false => Err(Error::invalid("no signed statement holds this document")),
        });
        all.push(verified(EvidenceKind::Sbom, referrer, "digests, subject, equality with the signed SBOM", found));
    }
    all.sort_by(|a, b| a.kind.cmp(&b.kind).then_with(|| a.referrer.as_str().cmp(b.referrer.as_str())));
    Ok(all)
}

/// The kinds for which nothing attached held.
pub fn missing(verified: &[Verified]) -> Vec<EvidenceKind> {
    EvidenceKind::ALL.into_iter().filter(|kind| !verified.iter().any(|one| one.held && one.kind == *kind)).collect()
}

/// The plain SBOM that a referrer carries, its digests checked.
pub async fn sbom(registry: &Registry, repository: &str, image: &Digest, referrer: &Digest) -> Result<Bom> {
    Check { registry, repository, image, keys: &[] }.read_document(referrer).await
}

/// The statement that a referrer carries, after it was found to be signed by one of `keys` and to speak of `image`.
pub async fn attested(
    registry: &Registry,
    repository: &str,
    image: &Digest,
    referrer: &Digest,
    keys: &[PublicKey],
) -> Result<Statement<Value>> {
    Ok(Check { registry, repository, image, keys }.statement(referrer).await?.0)
}

fn verified(kind: EvidenceKind, referrer: &Descriptor, checked: &str, found: Result<String>) -> Verified {
    let held = found.is_ok();
    let detail = found.unwrap_or_else(|error| clip(&error.message, 400));
    Verified { kind, referrer: referrer.digest.clone(), checked: checked.to_owned(), held, detail }
}

/// What kind a bundle claims to be: by its predicate type, or by Shipway's own annotation.
fn kind_of(referrer: &Descriptor) -> Option<EvidenceKind> {
    let annotations = referrer.annotations.as_ref()?;
    let claimed = annotations.get(bundle::PREDICATE_TYPE).map_or("", String::as_str);
    by_predicate(claimed).or_else(|| {
        EvidenceKind::ALL.into_iter().find(|kind| annotations.get(KIND).is_some_and(|name| name == kind_name(*kind)))
    })
}

fn by_predicate(predicate_type: &str) -> Option<EvidenceKind> {
    match predicate_type {
        statement::CYCLONEDX => Some(EvidenceKind::Sbom),
        report::PREDICATE_TYPE => Some(EvidenceKind::Vulnerabilities),
        provenance::PREDICATE_TYPE => Some(EvidenceKind::Provenance),
        statement::SIGNATURE => Some(EvidenceKind::Signature),
        _ => None,
    }
}

fn components(bom: &Bom) -> String {
    format!("{} components", bom.components.iter().filter(|component| component.kind != "operating-system").count())
}

struct Check<'a> {
    registry: &'a Registry,
    repository: &'a str,
    image: &'a Digest,
    keys: &'a [PublicKey],
}

struct Said {
    summary: String,
    bom: Option<Bom>,
}

impl Check<'_> {
    /// The manifest of a referrer, if it really refers to the image.
    async fn manifest(&self, referrer: &Digest) -> Result<image::registry::Document> {
        let document = artifact::manifest(self.registry, self.repository, referrer).await?;
        match &document.subject {
            Some(subject) if subject.digest == *self.image => Ok(document),
            _ => Err(Error::invalid(format!("manifest {referrer} does not refer to {}", self.image))),
        }
    }

    async fn statement(&self, referrer: &Digest) -> Result<(Statement<Value>, Digest)> {
        let document = self.manifest(referrer).await?;
        let layer = artifact::only_layer(&document, bundle::MEDIA_TYPE)?;
        let bundle = Bundle::parse(&artifact::blob(self.registry, self.repository, layer).await?)?;
        let (payload, key) = bundle.dsse_envelope.open(self.keys, statement::PAYLOAD_TYPE)?;
        let statement: Statement<Value> = Statement::parse(&payload)?;
        if !statement.is_about(self.image) {
            return Err(Error::invalid(format!("the signed statement does not speak of {}", self.image)));
        }
        Ok((statement, key.id()))
    }

    async fn bundle(&self, referrer: &Descriptor, claimed: EvidenceKind) -> Result<Said> {
        let (statement, key) = self.statement(&referrer.digest).await?;
        if by_predicate(&statement.predicate_type) != Some(claimed) {
            let found = clip(&statement.predicate_type, 100);
            return Err(Error::invalid(format!("it is announced as {} and holds `{found}`", claimed.title())));
        }
        let invalid = |e: serde_json::Error| {
            Error::invalid(format!("the predicate cannot be read: {}", clip(&e.to_string(), 200)))
        };
        let key = key.short();
        let mut said = Said { summary: String::new(), bom: None };
        said.summary = match claimed {
            EvidenceKind::Signature => format!("signed by key {key}"),
            EvidenceKind::Sbom => {
                let bom: Bom = serde_json::from_value(statement.predicate).map_err(invalid)?;
                self.is_of(&bom)?;
                let summary = format!("{}, signed by key {key}", components(&bom));
                said.bom = Some(bom);
                summary
            }
            EvidenceKind::Vulnerabilities => {
                let scan: report::Predicate = serde_json::from_value(statement.predicate).map_err(invalid)?;
                self.is_of(&scan.scanner.result)?;
                let findings = report::findings(&scan);
                let open = findings.iter().filter(|finding| finding.not_affected.is_none()).count();
                let database = scan.scanner.db.version.short().to_owned();
                format!(
                    "{open} findings ({} not affected) against database {database}, signed by key {key}",
                    findings.len() - open
                )
            }
            EvidenceKind::Provenance => {
                let predicate: provenance::Predicate = serde_json::from_value(statement.predicate).map_err(invalid)?;
                if predicate.tests().is_none()
                    && predicate.run_details.byproducts.iter().any(|one| one.name.as_deref() == Some(provenance::TESTS))
                {
                    return Err(Error::invalid("the test results are not what their digest says"));
                }
                format!("{}, signed by key {key}", predicate.summary())
            }
        };
        Ok(said)
    }

    async fn simple(&self, referrer: &Descriptor) -> Result<String> {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let document = self.manifest(&referrer.digest).await?;
        let layer = artifact::only_layer(&document, simple::MEDIA_TYPE)?;
        let content = artifact::blob(self.registry, self.repository, layer).await?;
        let written = layer.annotations.as_ref().and_then(|all| all.get(simple::SIGNATURE));
        let signature = written.and_then(|text| BASE64_STANDARD.decode(text).ok());
        let Some(key) = signature.and_then(|sum| self.keys.iter().find(|key| key.verify(&content, &sum))) else {
            return Err(Error::invalid("no trusted key made the signature"));
        };
        let payload: simple::Payload = serde_json::from_slice(&content)
            .map_err(|e| Error::invalid(format!("the signed payload cannot be read: {}", clip(&e.to_string(), 200))))?;
        if !payload.is_of(self.image) {
            return Err(Error::invalid(format!("the signed payload does not name {}", self.image)));
        }
        Ok(format!("signed by key {}", key.id().short()))
    }

    async fn document(&self, referrer: &Descriptor) -> Result<Bom> {
        self.read_document(&referrer.digest).await
    }

    async fn read_document(&self, referrer: &Digest) -> Result<Bom> {
        let document = self.manifest(referrer).await?;
        let layer = artifact::only_layer(&document, cyclonedx::MEDIA_TYPE)?;
        let content = artifact::blob(self.registry, self.repository, layer).await?;
        let bom: Bom = serde_json::from_slice(&content)
            .map_err(|e| Error::invalid(format!("the SBOM cannot be read: {}", clip(&e.to_string(), 200))))?;
        self.is_of(&bom)?;
        Ok(bom)
    }

    fn is_of(&self, bom: &Bom) -> Result<()> {
        let of = bom.metadata.component.version.as_deref();
        if of == Some(self.image.as_str()) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the document is of `{}`, not of {}",
            clip(of.unwrap_or("nothing"), 100),
            self.image
        )))
    }
}
