//! The verdict of an environment's policy. Pure; what is missing refuses.

use std::collections::{BTreeSet, HashSet};

use records::{Decision, Evidence, EvidenceDetail, EvidenceKind, Policy, ReleasedImage, Severity, Timestamp};

use crate::licence::is_denied;

/// Reasons that are given at most; a sentence says how many more there are.
const REASONS: usize = 50;

/// The kinds of evidence that the policy needs: those it requires, and those that its own rules look into.
fn needed(policy: &Policy) -> BTreeSet<EvidenceKind> {
    let scan = policy.fail_on.map(|_| EvidenceKind::Vulnerabilities);
    let sbom = (!policy.deny_licences.is_empty()).then_some(EvidenceKind::Sbom);
    policy.require.iter().copied().chain(scan).chain(sbom).collect()
}

fn of<'a>(evidence: &'a [Evidence], image: &'a ReleasedImage) -> impl Iterator<Item = &'a Evidence> {
    evidence.iter().filter(|evidence| evidence.subject == image.digest)
}

/// What the policy needs and nobody has brought, image by image, each a sentence.
pub fn missing(policy: &Policy, images: &[ReleasedImage], evidence: &[Evidence]) -> Vec<String> {
    let needed = needed(policy);
    let mut reasons = Vec::new();
    for image in images {
        for kind in &needed {
            if !of(evidence, image).any(|evidence| evidence.detail.kind() == *kind) {
                reasons.push(format!("{} has no {}", shown(image), kind.title()));
            }
        }
    }
    reasons
}

/// Whether these images may run where `policy` holds. `evidence` may be of other images too. Without any image the verdict is to admit:
/// there is nothing that could run.
pub fn decide(policy: &Policy, images: &[ReleasedImage], evidence: &[Evidence], now: Timestamp) -> Decision {
    let mut reasons = missing(policy, images, evidence);
    let denied: HashSet<String> = policy.deny_licences.iter().map(|licence| licence.to_ascii_lowercase()).collect();
    for image in images {
        for evidence in of(evidence, image) {
            match &evidence.detail {
                EvidenceDetail::Vulnerabilities { findings, .. } => {
                    let stands = |severity: Severity| policy.fail_on.is_some_and(|fail_on| severity >= fail_on);
                    for finding in findings.iter().filter(|f| f.not_affected.is_none() && stands(f.severity)) {
                        let way_out = match &finding.fixed_in {
                            Some(version) => format!("update it to {version}"),
                            None => "no version without it is known".to_owned(),
                        };
                        let severity = format!("{:?}", finding.severity).to_lowercase();
                        let (id, purl) = (&finding.id, &finding.purl);
                        reasons.push(format!(
                            "{} has {id} ({severity}) in {purl}: {way_out}, or state in VEX why it does not apply",
                            shown(image)
                        ));
                    }
                }
                EvidenceDetail::Sbom { licences, .. } => {
                    for licence in licences.iter().filter(|licence| is_denied(licence, &denied)) {
                        reasons.push(format!(
                            "{} has a part under {licence}, which this environment denies",
                            shown(image)
                        ));
                    }
                }
                EvidenceDetail::Provenance { .. } | EvidenceDetail::Signature { .. } => {}
            }
        }
    }
    if reasons.is_empty() {
        return Decision::Admitted { at: now };
    }
    let more = reasons.len().saturating_sub(REASONS);
    reasons.truncate(REASONS);
    if more > 0 {
        reasons.push(format!("there are {more} more reasons"));
    }
    Decision::Refused { at: now, reasons }
}

fn shown(image: &ReleasedImage) -> String {
    format!("image {} ({})", image.repository, image.digest.short())
}
