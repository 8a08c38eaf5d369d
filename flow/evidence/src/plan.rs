//! Which images lack which evidence: what the stage has to do, from records alone.

use std::collections::BTreeSet;

use crate::vulnerability::Database;
use records::{Digest, Evidence, EvidenceDetail, EvidenceKind, Image, RunId};

/// An image for which evidence is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    pub run: RunId,
    pub repository: String,
    pub digest: Digest,
    /// What is not there, or not of this run (provenance), or of another database (the scan).
    pub kinds: Vec<EvidenceKind>,
}

/// Compares images with the evidence that is there. `database` is what a scan must be against, if it matters; with one without records
/// no scan can be made and none is asked for. An image that several runs
/// built is named once for each run whose provenance is missing.
pub fn plan(images: &[Image], evidence: &[Evidence], database: Option<&Digest>) -> Vec<Lack> {
    let nothing_known = database.is_some_and(|database| *database == Database::nothing());
    let mut lacking = Vec::new();
    let mut seen = BTreeSet::new();
    for image in images {
        if !seen.insert((image.run.clone(), image.repository.clone(), image.digest.clone())) {
            continue;
        }
        let there = |kind: EvidenceKind| {
            let speaks = |one: &Evidence| one.subject == image.digest && one.detail.kind() == kind;
            let impossible = nothing_known && kind == EvidenceKind::Vulnerabilities;
            impossible || evidence.iter().any(|one| speaks(one) && holds(one, image, database))
        };
        let kinds: Vec<EvidenceKind> = EvidenceKind::ALL.into_iter().filter(|kind| !there(*kind)).collect();
        if !kinds.is_empty() {
            lacking.push(Lack {
                run: image.run.clone(),
                repository: image.repository.clone(),
                digest: image.digest.clone(),
                kinds,
            });
        }
    }
    lacking
}

fn holds(evidence: &Evidence, image: &Image, database: Option<&Digest>) -> bool {
    match &evidence.detail {
        // The record of a digest names the run that spoke last: an earlier run of the same image is not made again for ever.
        EvidenceDetail::Provenance { .. } => {
            evidence.run.project != image.run.project || evidence.run.build >= image.run.build
        }
        EvidenceDetail::Vulnerabilities { database: against, .. } => database.is_none_or(|wanted| wanted == against),
        EvidenceDetail::Sbom { .. } | EvidenceDetail::Signature { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: &str) -> Digest {
        format!("sha256:{}", byte.repeat(32)).parse().unwrap()
    }

    fn image(build: u64, of: &str) -> Image {
        Image {
            run: format!("journal/{build}").parse().unwrap(),
            commit: "a".repeat(40).parse().unwrap(),
            repository: "journal/frontend".into(),
            tag: "t".into(),
            digest: digest(of),
            size: 1,
            layers: vec![],
            bases: vec![],
            built_at: records::Timestamp::UNIX_EPOCH,
        }
    }

    fn evidence(build: u64, of: &str, detail: EvidenceDetail) -> Evidence {
        Evidence {
            repository: "journal/frontend".into(),
            subject: digest(of),
            referrer: digest("ff"),
            run: format!("journal/{build}").parse().unwrap(),
            detail,
            made_at: records::Timestamp::UNIX_EPOCH,
        }
    }

    fn all(build: u64, of: &str) -> Vec<Evidence> {
        vec![
            evidence(build, of, EvidenceDetail::Sbom { components: 0, licences: vec![] }),
            evidence(build, of, EvidenceDetail::Vulnerabilities { database: digest("db"), findings: vec![] }),
            evidence(build, of, EvidenceDetail::Provenance { builder: "b".into() }),
            evidence(build, of, EvidenceDetail::Signature { key: "k".into() }),
        ]
    }

    #[test]
    fn names_what_is_missing_of_each_image() {
        let images = [image(1, "aa"), image(1, "bb"), image(1, "aa")];
        assert_eq!(
            plan(&images, &all(1, "aa"), None),
            [Lack {
                run: "journal/1".parse().unwrap(),
                repository: "journal/frontend".into(),
                digest: digest("bb"),
                kinds: EvidenceKind::ALL.to_vec(),
            }]
        );
        let without = &all(1, "aa")[..3];
        assert_eq!(plan(&images[..1], without, None)[0].kinds, [EvidenceKind::Signature]);
    }

    #[test]
    fn a_new_run_needs_provenance_and_a_new_database_a_scan() {
        let evidence = all(1, "aa");
        assert_eq!(plan(&[image(2, "aa")], &evidence, None)[0].kinds, [EvidenceKind::Provenance]);
        assert_eq!(plan(&[image(1, "aa")], &all(2, "aa"), None), []);
        assert_eq!(plan(&[image(1, "aa")], &evidence, Some(&digest("db"))), []);
        assert_eq!(plan(&[image(1, "aa")], &evidence, Some(&Database::nothing())), []);
        assert_eq!(plan(&[image(1, "aa")], &evidence, Some(&digest("dc")))[0].kinds, [EvidenceKind::Vulnerabilities]);
    }
}
