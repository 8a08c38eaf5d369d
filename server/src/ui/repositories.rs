//! The registry: its repositories, what is in one of them, and what a clean-up would remove.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use image::{
    media,
    registry::{Document, Registry, cleanup::Report},
};
use records::{Digest, Timestamp};
use serde::Deserialize;

use super::{Page, Shared, filters, page};
use crate::{
    fault::{Class, Fault, Result},
    wiring::cleaning::{self, Asked},
};

/// Repositories and tags that a page shows.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "repositories.html")]
struct Repositories {
    rows: Vec<Row>,
    more: bool,
    bytes: u64,
    server: String,
}

struct Row {
    name: String,
    tags: usize,
    bytes: u64,
    newest: Option<(String, Timestamp)>,
    closed: bool,
    quarantine: bool,
    from: Option<String>,
}

fn unavailable(error: image::Error) -> Fault {
    let missing = matches!(error.kind, image::Kind::NameUnknown | image::Kind::NameInvalid);
    Fault::from_error(if missing { Class::NotFound } else { Class::Unavailable }, &error)
}

pub async fn repositories(State(app): Shared) -> Page {
    page(async {
        let registry = &app.rooms.registry;
        let settings = registry.all_settings().await.map_err(unavailable)?;
        let listing = registry.repositories(None, SHOWN).await.map_err(unavailable)?;
        let mut rows = Vec::new();
        for name in listing.names {
            let tags = registry.tagged(&name).await.map_err(unavailable)?;
            let newest = tags.iter().max_by_key(|(_, _, updated)| *updated).map(|(tag, _, at)| (tag.clone(), *at));
            let bytes = registry.usage(&name).await.map_err(unavailable)?.bytes;
            let (_, holds) = settings.of(&name);
            rows.push(Row {
                tags: tags.len(),
                bytes,
                newest,
                closed: !holds.anonymous_pull,
                quarantine: holds.quarantine.is_some(),
                from: holds.upstream.as_ref().map(|upstream| upstream.from.clone()),
                name,
            });
        }
        let bytes = registry.usage("").await.map_err(unavailable)?.bytes;
        Ok(Repositories { rows, more: listing.more, bytes, server: app.rooms.address().to_string() })
    })
    .await
}

#[derive(Template)]
#[template(path = "repository.html")]
struct Repository {
    name: String,
    server: String,
    tags: Vec<TagRow>,
    hidden: usize,
    untagged: Vec<ManifestRow>,
    /// Whether there may be more of them than are shown.
    full: bool,
}

struct TagRow {
    name: String,
    updated: Timestamp,
    manifest: ManifestRow,
}

pub(super) struct ManifestRow {
    digest: Digest,
    /// What it is, in a word or two; of an index, its platforms.
    kind: String,
    /// Whether it is an index of others.
    pub(super) index: bool,
    /// Images of an index; itself when it is an image.
    pub(super) images: Vec<ImageRow>,
    /// How many manifests refer to it, in words; empty for none.
    referrers: String,
    /// Bytes of all its images.
    pub(super) size: u64,
    /// Where it, or one of its images, runs.
    runs: Option<String>,
}

pub(super) struct ImageRow {
    pub(super) digest: Digest,
    /// The platform, or what it is instead.
    pub(super) platform: String,
    layers: Vec<LayerRow>,
    pub(super) size: u64,
    /// Whether it is said about another image of the index.
    attestation: bool,
}

struct LayerRow {
    digest: Digest,
    size: u64,
    kind: String,
}

pub async fn repository(State(app): Shared, Path(name): Path<String>) -> Page {
    page(async {
        let registry = &app.rooms.registry;
        if !registry.has_repository(&name).await.map_err(unavailable)? {
            return Err(Fault::not_found(format!("there is no repository {name}: it begins with its first push")));
        }
        let mut tagged = registry.tagged(&name).await.map_err(unavailable)?;
        tagged.sort_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(&b.0)));
        let hidden = tagged.len().saturating_sub(SHOWN);
        tagged.truncate(SHOWN);
        let running = cleaning::running(&app).await?;
        let mut tags = Vec::new();
        let mut shown = std::collections::HashSet::new();
        for (tag, digest, updated) in tagged {
            let manifest = describe(registry, &running, &name, &digest).await?;
            shown.insert(digest);
            shown.extend(manifest.images.iter().map(|image| image.digest.clone()));
            tags.push(TagRow { name: tag, updated, manifest });
        }
        let mut untagged = Vec::new();
        // There may be any number: only as many are looked at as are shown.
        let mut after: Option<Digest> = None;
        while hidden == 0 && untagged.len() < SHOWN {
            let some = registry.some_manifests(&name, after.as_ref(), SHOWN).await.map_err(unavailable)?;
            let Some(last) = some.last() else { break };
            after = Some(last.clone());
            let rest = SHOWN - untagged.len();
            for digest in some.iter().filter(|digest| !shown.contains(*digest)).take(rest) {
                untagged.push(describe(registry, &running, &name, digest).await?);
            }
        }
        let full = untagged.len() == SHOWN;
        Ok(Repository { server: app.rooms.address().to_string(), name, tags, hidden, untagged, full })
    })
    .await
}

/// What refers to a manifest, counted as far as one page of the registry goes: there may be any number.
async fn attached(registry: &Registry, name: &str, digest: &Digest) -> Result<String> {
    let page = registry.referrers_page(name, digest, None, None).await.map_err(unavailable)?;
    Ok(match (page.descriptors.len(), page.next) {
        (0, _) => String::new(),
        (count, None) => format!("{count} attached"),
        (count, Some(_)) => format!("more than {count} attached"),
    })
}

pub(super) async fn describe(
    registry: &Registry,
    running: &BTreeMap<Digest, String>,
    name: &str,
    digest: &Digest,
) -> Result<ManifestRow> {
    let referrers = attached(registry, name, digest).await?;
    let Some((document, media_type, raw)) = read(registry, name, digest).await? else {
        let (digest, kind) = (digest.clone(), "not here".into());
        let runs = running.get(&digest).cloned();
        return Ok(ManifestRow { digest, kind, index: false, images: Vec::new(), referrers, size: 0, runs });
    };
    let mut images = Vec::new();
    let kind;
    let index = media::shape(&media_type) == Some(media::Shape::Index);
    if index {
        for (number, child) in document.children().take(SHOWN).enumerate() {
            let entry = &raw["manifests"][number];
            let attestation = entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest";
            let platform = if attestation { "attestations".to_owned() } else { platform(&entry["platform"]) };
            let layers = match read(registry, name, &child.digest).await? {
                Some((image, _, _)) => layers(&image),
                None => Vec::new(),
            };
            let size = layers.iter().map(|layer| layer.size).sum();
            images.push(ImageRow { digest: child.digest.clone(), platform, layers, size, attestation });
        }
        kind = platforms(&images);
    } else {
        let layers = layers(&document);
        let size = layers.iter().map(|layer| layer.size).sum();
        let platform = document.shown_artifact_type().unwrap_or_default();
        let image = [media::OCI_CONFIG, media::DOCKER_CONFIG].contains(&platform.as_str());
        kind = if image { "image".into() } else { platform.clone() };
        let platform = if image { String::new() } else { platform };
        images.push(ImageRow { digest: digest.clone(), platform, layers, size, attestation: false });
    }
    let size = images.iter().map(|image| image.size).sum();
    let mut digests = std::iter::once(digest).chain(images.iter().map(|image| &image.digest));
    let runs = digests.find_map(|digest| running.get(digest)).cloned();
    Ok(ManifestRow { digest: digest.clone(), kind, index, images, referrers, size, runs })
}

/// What an index is for, in a few words.
fn platforms(images: &[ImageRow]) -> String {
    let all: Vec<&str> =
        images.iter().filter(|image| !image.attestation).map(|image| image.platform.as_str()).collect();
    let known = all.len() <= 4 && all.iter().all(|platform| !platform.is_empty());
    match all.len() {
        0 => "empty index".to_owned(),
        _ if known => all.join(", "),
        1 => "index of 1 image".to_owned(),
        count => format!("index of {count} images"),
    }
}

/// A manifest, or `None` when it is not here: a copy of another registry may lack some.
async fn read(
    registry: &Registry,
    name: &str,
    digest: &Digest,
) -> Result<Option<(Document, String, serde_json::Value)>> {
    let (info, content) = match registry.manifest(name, digest).await {
        Ok(found) => found,
        Err(error) if error.kind == image::Kind::ManifestUnknown => return Ok(None),
        Err(error) => return Err(unavailable(error)),
    };
    let (document, media_type) = Document::parse(&info.media_type, &content).map_err(unavailable)?;
    Ok(Some((document, media_type, serde_json::from_slice(&content).unwrap_or_default())))
}

fn layers(document: &Document) -> Vec<LayerRow> {
    let row = |layer: &image::registry::Descriptor| LayerRow {
        digest: layer.digest.clone(),
        size: layer.size,
        kind: layer.media_type.rsplit(['.', '/']).next().unwrap_or_default().to_owned(),
    };
    document.layers.iter().flatten().map(row).collect()
}

fn platform(value: &serde_json::Value) -> String {
    let parts = ["os", "architecture", "variant"].map(|name| value[name].as_str().unwrap_or_default());
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[derive(Deserialize)]
pub struct Preview {
    #[serde(default)]
    now: bool,
}

#[derive(Template)]
#[template(path = "cleanup.html")]
struct CleanUp {
    report: Report,
    /// Whether it is shown what would go though it is still young.
    now: bool,
}

pub async fn clean_up(
    State(app): Shared,
    axum::extract::Query(Preview { now }): axum::extract::Query<Preview>,
) -> Page {
    page(async {
        let mut asked = Asked { dry_run: true, ..Asked::default() };
        if now {
            asked.grace_s = 0;
            asked.lease_s = 0;
        }
        Ok(CleanUp { report: cleaning::clean_up(&app, asked).await?, now })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_said_by_its_platforms() {
        let row = |platform: &str| ImageRow {
            digest: Digest::sha256(&[0; 32]),
            platform: platform.into(),
            layers: Vec::new(),
            size: 0,
            attestation: platform == "attestations",
        };
        let of = |all: &[&str]| platforms(&all.iter().map(|platform| row(platform)).collect::<Vec<_>>());
        assert_eq!(of(&[]), "empty index");
        assert_eq!(of(&["linux/amd64", "attestations", "linux/arm64/v8"]), "linux/amd64, linux/arm64/v8");
        assert_eq!(of(&["linux/amd64"; 5]), "index of 5 images");
        assert_eq!((of(&[""]), of(&["", ""])), ("index of 1 image".into(), "index of 2 images".into()));
        assert_eq!(of(&["attestations"]), "empty index");
    }
}
