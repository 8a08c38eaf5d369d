//! What is known about an image: each piece is an artifact in the registry that refers to the image's digest.

use serde::{Deserialize, Serialize};

use crate::{Digest, Record, RunId, Timestamp};

/// The kinds of evidence that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    Sbom,
    Vulnerabilities,
    Provenance,
    Signature,
}

impl EvidenceKind {
    pub const ALL: [Self; 4] = [Self::Sbom, Self::Vulnerabilities, Self::Provenance, Self::Signature];

    /// As people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sbom => "SBOM",
            Self::Vulnerabilities => "vulnerability scan",
            Self::Provenance => "provenance",
            Self::Signature => "signature",
        }
    }
}

/// Severity of a finding, in the bands of CVSS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Unknown,
    Low,
    Medium,
    High,
    Critical,
}

/// One known vulnerability in one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// For example `DSA-1234-1` or `CVE-2026-1234`.
    pub id: String,
    /// The package URL of the component.
    pub purl: String,
    pub severity: Severity,
    /// The first version without it, if there is one.
    pub fixed_in: Option<String>,
    pub summary: String,
    /// The justification of a VEX statement that says it does not apply.
    pub not_affected: Option<String>,
}

/// What a piece of evidence says, as far as policies and people need it at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EvidenceDetail {
    Sbom { components: u64, licences: Vec<String> },
    Vulnerabilities { database: Digest, findings: Vec<Finding> },
    Provenance { builder: String },
    Signature { key: String },
}

impl EvidenceDetail {
    pub fn kind(&self) -> EvidenceKind {
        match self {
            Self::Sbom { .. } => EvidenceKind::Sbom,
            Self::Vulnerabilities { .. } => EvidenceKind::Vulnerabilities,
            Self::Provenance { .. } => EvidenceKind::Provenance,
            Self::Signature { .. } => EvidenceKind::Signature,
        }
    }
}

/// A piece of evidence that is attached to an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub repository: String,
    /// The digest of the image that it speaks of.
    pub subject: Digest,
    /// The digest of the manifest that carries it.
    pub referrer: Digest,
    pub run: RunId,
    pub detail: EvidenceDetail,
    pub made_at: Timestamp,
}

impl Record for Evidence {
    const KIND: &'static str = "evidence";
    fn key(&self) -> String {
        // A digest can be built by several runs; what is said of it last is what holds.
        format!("{}/{:?}", self.subject, self.detail.kind())
    }
}
