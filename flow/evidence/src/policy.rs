//! Whether an image may run: a pure decision from its evidence.

use records::{Digest, Evidence, EvidenceDetail, EvidenceKind, Finding, Policy, Severity};

use crate::licence;

/// Findings and licences that are named one by one; of more only the number is given.
const NAMED: usize = 10;

/// Why `policy` does not admit the image, each reason a sentence; empty when it may run. Evidence of other images is passed over; of
/// several pieces of a kind the newest counts.
pub fn decide(policy: &Policy, repository: &str, digest: &Digest, evidence: &[Evidence]) -> Vec<String> {
    let image = format!("{repository}@{digest}");
    let newest = |kind: EvidenceKind| {
        evidence.iter().filter(|one| one.subject == *digest && one.detail.kind() == kind).max_by_key(|one| one.made_at)
    };
    let mut reasons = Vec::new();
    let mut required = policy.require.clone();
    // What a rule judges must be there, even when the list does not name it: missing data fails closed.
    if policy.fail_on.is_some() {
        required.push(EvidenceKind::Vulnerabilities);
    }
    if !policy.deny_licences.is_empty() {
        required.push(EvidenceKind::Sbom);
    }
    let missing: Vec<&str> = EvidenceKind::ALL
        .into_iter()
        .filter(|kind| required.contains(kind) && newest(*kind).is_none())
        .map(EvidenceKind::title)
        .collect();
    if !missing.is_empty() {
        reasons.push(format!("image {image} has no {}", listed(&missing)));
    }
    if let (Some(fail_on), Some(scan)) = (policy.fail_on, newest(EvidenceKind::Vulnerabilities))
        && let EvidenceDetail::Vulnerabilities { findings, .. } = &scan.detail
    {
        reasons.extend(refused_findings(&image, fail_on, findings));
    }
    if let Some(EvidenceDetail::Sbom { licences, .. }) = newest(EvidenceKind::Sbom).map(|sbom| &sbom.detail) {
        let denied: Vec<&str> = licences
            .iter()
            .map(String::as_str)
            .filter(|licence| licence::is_denied(licence, &policy.deny_licences))
            .collect();
        let more = denied.len().saturating_sub(NAMED);
        let named = listed(&denied[..denied.len() - more]);
        match (denied.len(), more) {
            (0, _) => {}
            (1, _) => {
                reasons.push(format!("image {image} has a component under {named}, a licence that the policy denies"))
            }
            (_, 0) => {
                reasons.push(format!("image {image} has components under {named}, licences that the policy denies"))
            }
            _ => reasons.push(format!(
                "image {image} has components under {named} and {more} more licences that the policy denies"
            )),
        }
    }
    reasons
}

fn refused_findings(image: &str, fail_on: Severity, findings: &[Finding]) -> Vec<String> {
    let mut refused: Vec<&Finding> =
        findings.iter().filter(|finding| finding.severity >= fail_on && finding.not_affected.is_none()).collect();
    refused.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| (&a.id, &a.purl).cmp(&(&b.id, &b.purl))));
    let mut reasons: Vec<String> = refused
        .iter()
        .take(NAMED)
        .map(|finding| {
            let package = component(&finding.purl);
            let severity = severity(finding.severity);
            let way_out = match &finding.fixed_in {
                Some(version) => format!("fixed in {version}"),
                None => "not fixed yet".to_owned(),
            };
            format!("image {image} has {} ({severity}) in {package}, {way_out}", finding.id)
        })
        .collect();
    if refused.len() > NAMED {
        let more = refused.len() - NAMED;
        let from = severity(fail_on);
        reasons.push(format!("image {image} has {more} more findings of severity {from} or higher"));
    }
    reasons
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Unknown => "unknown",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// Name and version of a package URL, for people.
fn component(purl: &str) -> String {
    match purl.parse::<packageurl::PackageUrl<'_>>() {
        Ok(parsed) => {
            let scope = parsed
                .namespace()
                .filter(|_| parsed.ty() == "npm")
                .map(|scope| format!("{scope}/"))
                .unwrap_or_default();
            let version = parsed.version().map(|version| format!(" {version}")).unwrap_or_default();
            format!("{scope}{}{version}", parsed.name())
        }
        Err(_) => purl.to_owned(),
    }
}

fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        format!("sha256:{}", "ab".repeat(32)).parse().unwrap()
    }

    fn evidence(detail: EvidenceDetail, at: i64) -> Evidence {
        Evidence {
            repository: "journal/frontend".into(),
            subject: digest(),
            referrer: digest(),
            run: "journal/1".parse().unwrap(),
            detail,
            made_at: records::Timestamp::from_second(at).unwrap(),
        }
    }

    fn finding(id: &str, severity: Severity, covered: bool) -> Finding {
        Finding {
            id: id.into(),
            purl: "pkg:deb/debian/curl@8.14.1-2?arch=amd64".into(),
            severity,
            fixed_in: Some("8.14.1-3".into()),
            summary: String::new(),
            not_affected: covered.then(|| "component_not_present".into()),
        }
    }

    fn scan(findings: Vec<Finding>, at: i64) -> Evidence {
        evidence(EvidenceDetail::Vulnerabilities { database: digest(), findings }, at)
    }

    fn all(findings: Vec<Finding>, licences: &[&str]) -> Vec<Evidence> {
        vec![
            evidence(
                EvidenceDetail::Sbom { components: 1, licences: licences.iter().map(|l| (*l).to_owned()).collect() },
                1,
            ),
            scan(findings, 1),
            evidence(EvidenceDetail::Provenance { builder: "b".into() }, 1),
            evidence(EvidenceDetail::Signature { key: "k".into() }, 1),
        ]
    }

    fn reasons(policy: &Policy, evidence: &[Evidence]) -> Vec<String> {
        decide(policy, "journal/frontend", &digest(), evidence)
    }

    #[test]
    fn missing_evidence_is_named() {
        let policy = Policy::default();
        assert_eq!(reasons(&policy, &all(vec![], &[])), [""; 0]);
        let image = format!("journal/frontend@{}", digest());
        assert_eq!(
            reasons(&policy, &[]),
            [format!("image {image} has no SBOM, vulnerability scan, provenance and signature")]
        );
        assert_eq!(reasons(&policy, &all(vec![], &[])[..3]), [format!("image {image} has no signature")]);
        // Evidence of another image does not count.
        let mut other = all(vec![], &[]);
        other.iter_mut().for_each(|one| one.subject = format!("sha256:{}", "00".repeat(32)).parse().unwrap());
        assert_eq!(reasons(&policy, &other).len(), 1);
    }

    #[test]
    fn what_a_rule_judges_must_be_there() {
        let policy = Policy { require: vec![], fail_on: Some(Severity::High), deny_licences: vec!["MIT".into()] };
        assert!(reasons(&policy, &[])[0].contains("SBOM and vulnerability scan"));
        assert!(reasons(&Policy { require: vec![], fail_on: None, deny_licences: vec![] }, &[]).is_empty());
    }

    #[test]
    fn findings_refuse_from_a_severity_unless_covered() {
        let findings = vec![
            finding("CVE-1", Severity::High, false),
            finding("CVE-2", Severity::Critical, true),
            finding("CVE-3", Severity::Medium, false),
            finding("CVE-4", Severity::Critical, false),
        ];
        let refused = reasons(&Policy::default(), &all(findings, &[]));
        assert_eq!(refused.len(), 2);
        assert!(refused[0].ends_with("has CVE-4 (critical) in curl 8.14.1-2, fixed in 8.14.1-3"), "{}", refused[0]);
        assert!(refused[1].contains("CVE-1 (high)"));
        let many = (0..25).map(|n| finding(&format!("CVE-{n}"), Severity::High, false)).collect();
        let refused = reasons(&Policy::default(), &all(many, &[]));
        assert_eq!(refused.len(), 11);
        assert!(refused[10].contains("15 more findings"));
    }

    #[test]
    fn the_newest_scan_counts() {
        let mut evidence = all(vec![], &[]);
        evidence.push(scan(vec![finding("CVE-1", Severity::High, false)], 9));
        assert_eq!(reasons(&Policy::default(), &evidence).len(), 1);
        evidence.push(scan(vec![], 10));
        assert_eq!(reasons(&Policy::default(), &evidence).len(), 0);
    }

    #[test]
    fn denied_licences_are_named() {
        let policy = Policy { deny_licences: vec!["AGPL-3.0-only".into()], ..Policy::default() };
        let refused = reasons(&policy, &all(vec![], &["MIT", "AGPL-3.0-only", "MIT OR AGPL-3.0-only"]));
        assert_eq!(refused.len(), 1);
        assert!(refused[0].contains("a component under AGPL-3.0-only"), "{}", refused[0]);
    }
}
