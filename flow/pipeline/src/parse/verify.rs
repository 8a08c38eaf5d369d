//! The `verify` part of the file.

use records::{EvidenceKind, Severity};

use super::keys;
use crate::{
    file::Verify,
    read::{Reader, clip},
    yaml::Node,
};

pub(super) fn verify(r: &mut Reader, node: &Node) -> Verify {
    let mut verify = Verify::default();
    let Some(fields) = r.fields(node, "`verify`", keys::VERIFY) else { return verify };
    let kinds = [
        ("sbom", EvidenceKind::Sbom),
        ("vulnerabilities", EvidenceKind::Vulnerabilities),
        ("provenance", EvidenceKind::Provenance),
        ("signature", EvidenceKind::Signature),
    ];
    if let Some((_, node)) = fields.entry("require") {
        verify.require.clear();
        for item in r.list(node) {
            verify.require.extend(r.choice(item, "a kind of evidence", &kinds));
        }
        verify.require.sort_unstable();
        verify.require.dedup();
    }
    if let Some(inner) = fields.get("vulnerabilities") {
        let severities = [
            ("low", Some(Severity::Low)),
            ("medium", Some(Severity::Medium)),
            ("high", Some(Severity::High)),
            ("critical", Some(Severity::Critical)),
            ("never", None),
        ];
        if let Some(fields) = r.fields(inner, "`vulnerabilities`", keys::VULNERABILITIES) {
            let fail = fields.get("fail").and_then(|node| r.choice(node, "a severity", &severities));
            verify.fail_on = fail.unwrap_or(verify.fail_on);
            verify.vex = fields.get("vex").map(|node| r.globs(node)).unwrap_or_default();
        }
    }
    if let Some(inner) = fields.get("licences")
        && let Some(fields) = r.fields(inner, "`licences`", keys::LICENCES)
        && let Some(node) = fields.get("deny")
    {
        verify.deny_licences = licences(r, node);
    }
    if let Some((_, node)) = fields.entry("sign") {
        verify.sign.clear();
        for item in r.list(node) {
            verify.sign.extend(r.choice(item, "a key that signs", &[("ci", "ci".to_owned())]));
        }
    }
    let silent = fields.entry("sign").is_some_and(|(_, node)| r.list(node).is_empty());
    if silent && verify.require.contains(&EvidenceKind::Signature) {
        let hint = "write `sign: [ci]`, or leave `signature` out of `require`".to_owned();
        r.error(fields.at, "a signature is required, but nothing signs", hint);
    }
    verify
}

fn licences(r: &mut Reader, node: &Node) -> Vec<String> {
    let mut licences = Vec::new();
    for text in r.texts(node) {
        let spdx = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
        if !text.value.is_empty() && text.value.chars().all(spdx) {
            licences.push(text.value);
        } else {
            let hint = "write it like `AGPL-3.0-only`".to_owned();
            r.error(text.at, format!("`{}` is not an SPDX identifier", clip(&text.value)), hint);
        }
    }
    licences
}
