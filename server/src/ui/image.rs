//! One image: what it is made of, what is known about it, where it runs.

use askama::Template;
use axum::extract::{Path, State};
use records::{Digest, Evidence, EvidenceDetail, Finding, Image, Release, Rollout, Timestamp};

use super::{Page, Shared, commits::Commits, filters, page};
use crate::{fault::Fault, shipment::Shipment};

#[derive(Template)]
#[template(path = "image.html")]
struct ImagePage {
    repository: String,
    digest: Digest,
    /// Host and port of the registry.
    registry: String,
    image: Option<Image>,
    subject: String,
    bases: Vec<Base>,
    evidence: Vec<EvidenceRow>,
    findings: Vec<Finding>,
    releases: Vec<Shipment>,
}

struct Base {
    name: String,
    digest: String,
}

struct EvidenceRow {
    kind: &'static str,
    says: String,
    /// The whole of what `says` names only in part.
    whole: String,
    referrer: Digest,
    made_at: Timestamp,
}

pub async fn image(State(app): Shared, Path(name): Path<String>) -> Page {
    page(async {
        let missing = || Fault::not_found(format!("{name} names no image")).hint("write REPOSITORY@sha256:…");
        let (repository, digest) = name.split_once('@').ok_or_else(missing)?;
        let digest: Digest = digest.parse().map_err(|_| missing())?;
        let images: Vec<Image> = app.newest_first("").await?;
        let image = images.into_iter().find(|image| image.digest == digest && image.repository == repository);
        if image.is_none() && !app.rooms.has_image(repository, &digest).await? {
            return Err(Fault::not_found(format!("the registry has no {name}")));
        }
        let subject = match &image {
            Some(image) => Commits::new(&app, &image.run.project).subject(&image.commit).await?,
            None => String::new(),
        };
        let bases = image.iter().flat_map(|image| &image.bases).map(|base| base.split_once('@').unwrap_or((base, "")));
        let bases = bases.map(|(name, digest)| Base { name: name.to_owned(), digest: digest.to_owned() }).collect();
        let mut all: Vec<Evidence> = app.newest_first(&format!("{digest}/")).await?;
        all.sort_by_key(|piece| piece.detail.kind());
        let mut findings = Vec::new();
        let mut evidence = Vec::new();
        for piece in all {
            let (says, whole) = says(&piece.detail);
            let kind = piece.detail.kind().title();
            evidence.push(EvidenceRow { kind, says, whole, referrer: piece.referrer, made_at: piece.made_at });
            if let EvidenceDetail::Vulnerabilities { findings: found, .. } = piece.detail {
                findings = found;
            }
        }
        // The worst first; what does not apply last.
        findings.sort_by_key(|finding| (finding.not_affected.is_some(), std::cmp::Reverse(finding.severity)));
        let mut releases = Vec::new();
        for release in app.newest_first::<Release>("").await? {
            if release.images.iter().any(|image| image.digest == digest) {
                let rollout = app.records.get::<Rollout>(&release.id.key()).await?.map(|found| found.record);
                releases.push(Shipment { release, rollout });
            }
        }
        let (repository, registry) = (repository.to_owned(), app.rooms.address().to_string());
        Ok(ImagePage { repository, digest, registry, image, subject, bases, evidence, findings, releases })
    })
    .await
}

/// What a piece of evidence says, in a few words, and in full where that is more.
fn says(detail: &EvidenceDetail) -> (String, String) {
    match detail {
        EvidenceDetail::Sbom { components, licences } => {
            (format!("{components} components under {} licences", licences.len()), licences.join("\n"))
        }
        EvidenceDetail::Vulnerabilities { findings, database } => {
            let open = findings.iter().filter(|finding| finding.not_affected.is_none()).count();
            let rest = findings.len() - open;
            let rest = if rest > 0 { format!(", {rest} that do not apply") } else { String::new() };
            let of = if open == 1 { "finding" } else { "findings" };
            (format!("{open} {of}{rest}; database {}", database.short()), database.to_string())
        }
        EvidenceDetail::Provenance { builder } => (format!("built by {builder}"), String::new()),
        EvidenceDetail::Signature { key } => {
            let short: String = key.trim_start_matches("sha256:").chars().take(12).collect();
            (format!("signed with key {short}"), key.clone())
        }
    }
}
