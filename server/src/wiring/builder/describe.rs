//! Images of the local store: whether they are whole, what they are, and further names for them.

use image::{
    Registry,
    registry::{Document, ManifestRef},
};
use records::Digest;

use crate::fault::{Class, Fault, Result};

fn unavailable(error: &image::Error) -> Fault {
    let class = match error.kind {
        image::Kind::ManifestUnknown | image::Kind::NameUnknown => Class::NotFound,
        _ => Class::Unavailable,
    };
    Fault::from_error(class, error)
}

/// The digest of an image's configuration.
pub async fn config_of(registry: &Registry, repository: &str, digest: &Digest) -> Result<Digest> {
    let (info, content) = registry.manifest(repository, digest).await.map_err(|e| unavailable(&e))?;
    let (document, _) = Document::parse(&info.media_type, &content).map_err(|e| unavailable(&e))?;
    document
        .config
        .map(|config| config.digest)
        .ok_or_else(|| Fault::usage(format!("{repository}@{digest} is an index of several images, not one image")))
}

/// Whether an image is there with all that it names.
pub async fn is_whole(registry: &Registry, repository: &str, digest: &Digest) -> bool {
    let Ok((info, content)) = registry.manifest(repository, digest).await else { return false };
    let Ok((document, _)) = Document::parse(&info.media_type, &content) else { return false };
    for blob in document.contents() {
        if !matches!(registry.blobs().size(&blob.digest).await, Ok(Some(_))) {
            return false;
        }
    }
    true
}

/// Puts the images of several platforms into one index and gives its digest.
pub(super) async fn index(
    home: &super::Home,
    images: &[super::Made],
    targets: &[super::Target],
    request: &super::Request,
) -> Result<Digest> {
    let mut manifests = Vec::new();
    for ((repository, digest, _), target) in images.iter().zip(targets) {
        let (info, content) = home.registry.manifest(repository, digest).await.map_err(|e| unavailable(&e))?;
        let mut platform =
            serde_json::json!({ "os": target.platform.os, "architecture": target.platform.architecture });
        if let Some(variant) = &target.platform.variant {
            platform["variant"] = variant.clone().into();
        }
        let mut entry = serde_json::json!({
            "mediaType": info.media_type,
            "digest": digest,
            "size": content.len(),
            "platform": platform,
        });
        for (of, name, value) in &request.descriptor_annotations {
            if of.as_ref().is_none_or(|of| *of == target.platform) {
                entry["annotations"][name.as_str()] = value.clone().into();
            }
        }
        manifests.push(entry);
    }
    let media_type = match request.packing.docker {
        false => image::media::OCI_INDEX,
        true => image::media::DOCKER_MANIFEST_LIST,
    };
    let mut index = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    if !request.index_annotations.is_empty() {
        index["annotations"] = serde_json::json!(request.index_annotations);
    }
    let text = index.to_string().into_bytes();
    let put = home.registry.put_image(super::names::UNTAGGED, &[], media_type, text).await;
    Ok(put.map_err(|e| unavailable(&e))?.digest)
}

/// Gives an image of one repository a tag in another, with everything that it names.
pub async fn tag(registry: &Registry, from: &str, digest: &Digest, into: &str, tag: &str) -> Result<()> {
    if registry.resolve(into, tag).await.is_ok_and(|known| known == *digest) && is_whole(registry, into, digest).await {
        return Ok(());
    }
    let mut todo = vec![digest.clone()];
    let mut order = Vec::new();
    while let Some(digest) = todo.pop() {
        let found = registry.find_manifest(from, &ManifestRef::Digest(digest)).await;
        let (digest, info, content) = found.map_err(|e| unavailable(&e))?;
        let (document, media_type) = Document::parse(&info.media_type, &content).map_err(|e| unavailable(&e))?;
        todo.extend(document.children().map(|child| child.digest.clone()));
        order.push((digest, media_type, content));
    }
    // What is named goes before what names it.
    for (number, (_, media_type, content)) in order.into_iter().enumerate().rev() {
        let tags: &[&str] = if number == 0 { &[tag] } else { &[] };
        registry.put_image(into, tags, &media_type, content).await.map_err(|e| unavailable(&e))?;
    }
    Ok(())
}
