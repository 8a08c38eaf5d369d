//! One image: what it is made of, what is known about it, where it runs.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use image::registry::{Descriptor, Document};
use records::{Digest, Evidence, EvidenceDetail, Finding, Image, Release, Rollout, Severity, Timestamp};

use super::{
    Page, Shared,
    commits::Commits,
    filters, page,
    repositories::{ImageRow, describe},
};
use crate::{app::App, fault::Fault, shipment::Shipment};

#[derive(Template)]
#[template(path = "image.html")]
struct ImagePage {
    repository: String,
    digest: Digest,
    /// Host and port of the registry.
    registry: String,
    image: Option<Image>,
    /// Tags that stand for it.
    tags: Vec<String>,
    /// Bytes of its layers, or of those of all its images.
    size: u64,
    /// The images of an index.
    platforms: Vec<ImageRow>,
    subject: String,
    bases: Vec<Base>,
    evidence: Vec<EvidenceRow>,
    findings: Vec<Found>,
    layers: Vec<LayerRow>,
    releases: Vec<Shipment>,
}

struct Base {
    name: String,
    digest: String,
}

/// A finding, and the layer that brought what it is found in: its number from the bottom, from 1 on.
struct Found {
    finding: Finding,
    layer: Option<usize>,
}

struct LayerRow {
    digest: Digest,
    /// Empty when no run of this installation built the image.
    created_by: String,
    size: u64,
    packages: usize,
    /// Findings that apply, the worst first: severity and how many.
    findings: Vec<(Severity, usize)>,
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
        let origins = match app.rooms.maker.origins(repository, &digest).await {
            Ok(origins) => origins,
            // An index has no layers of its own, and a layer that cannot be read is no reason to show nothing.
            Err(error) => {
                tracing::debug!(%name, %error, "the layers cannot be told apart");
                BTreeMap::new()
            }
        };
        let findings: Vec<Found> = findings
            .into_iter()
            .map(|finding| Found { layer: origins.get(&finding.purl).map(|index| index + 1), finding })
            .collect();
        let layers = layer_rows(&app, repository, &digest, image.as_ref(), &origins, &findings).await;
        let mut releases = Vec::new();
        for release in app.newest_first::<Release>("").await? {
            if release.images.iter().any(|image| image.digest == digest) {
                let rollout = app.records.get::<Rollout>(&release.id.key()).await?.map(|found| found.record);
                releases.push(Shipment { release, rollout });
            }
        }
        // What is built in and was never pushed has no tags.
        let tags = app.rooms.registry.tags_of(repository, &digest).await.unwrap_or_default();
        let described = describe(&app.rooms.registry, &BTreeMap::new(), repository, &digest).await?;
        let size = described.size;
        let platforms = if described.index { described.images } else { Vec::new() };
        let (repository, registry) = (repository.to_owned(), app.rooms.address().to_string());
        Ok(ImagePage {
            repository,
            digest,
            registry,
            image,
            tags,
            size,
            platforms,
            subject,
            bases,
            evidence,
            findings,
            layers,
            releases,
        })
    })
    .await
}

/// The layers from the bottom up, with what each brought; none for what is no image.
async fn layer_rows(
    app: &App,
    repository: &str,
    digest: &Digest,
    image: Option<&Image>,
    origins: &BTreeMap<String, usize>,
    findings: &[Found],
) -> Vec<LayerRow> {
    let document = app.rooms.registry.manifest(repository, digest).await.ok();
    let document = document.and_then(|(info, content)| Document::parse(&info.media_type, &content).ok());
    let layers = document.and_then(|(document, _)| document.layers).unwrap_or_default();
    let row = |(index, layer): (usize, Descriptor)| {
        let made = image.and_then(|image| image.layers.iter().find(|made| made.digest == layer.digest));
        let mut counts: BTreeMap<Severity, usize> = BTreeMap::new();
        let open = findings.iter().filter(|found| found.finding.not_affected.is_none());
        for found in open.filter(|found| found.layer == Some(index + 1)) {
            *counts.entry(found.finding.severity).or_default() += 1;
        }
        LayerRow {
            digest: layer.digest,
            created_by: made.map(|made| made.created_by.clone()).unwrap_or_default(),
            size: layer.size,
            packages: origins.values().filter(|origin| **origin == index).count(),
            findings: counts.into_iter().rev().collect(),
        }
    };
    layers.into_iter().enumerate().map(row).collect()
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
