//! Results of this machine as an artifact.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use futures::{StreamExt, TryStreamExt};
use graph::{Graph, Op, Scope};
use image::{
    layer::{Compression, WriteOptions, write_blob},
    media,
    registry::ManifestRef,
};
use records::Digest;
use store::{Change, Expect};

use super::{ARTIFACT, Entry, INDEX, Index, Layer, MountEntry, To, VERSION, What, Where};
use crate::{
    fault::{Class, Fault, Result},
    wiring::{builder::Home, workshop::Workshop},
};

/// Where the artifact lies until it is sent.
const REPOSITORY: &str = "build-cache";
/// The kind under which layers of results are remembered.
const KEPT: &str = "build/cache-layer";
/// Layers that are written at the same time.
const TOGETHER: usize = 4;

fn broken(error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::from_error(Class::Unavailable, error)
}

/// Writes the results of a graph that has run. `wanted` are the vertices that the image is made of; `image` is where it lies, for a cache
/// that goes with it. Gives how many results it has.
pub async fn export(
    home: &Home,
    shop: &Workshop,
    graph: &Graph,
    wanted: &[usize],
    to: &To,
    image: Option<(&str, &Digest)>,
) -> Result<usize> {
    let snapshots = shop.sandbox.snapshots();
    let known: BTreeMap<String, usize> =
        (0..graph.len()).map(|vertex| (graph.id(vertex).to_string(), vertex)).collect();
    let begin: Vec<usize> = if to.all { (0..graph.len()).collect() } else { wanted.to_vec() };
    let mut parents: BTreeMap<usize, Option<String>> = BTreeMap::new();
    for vertex in begin {
        let key = graph.id(vertex).to_string();
        if !snapshots.has(&key) {
            continue;
        }
        let chain = snapshots.chain(&key).map_err(|e| broken(&e))?;
        // Down to the base image, whose own layers are no vertices.
        let chain: Vec<(usize, &String)> = chain.iter().map_while(|key| known.get(key).map(|v| (*v, key))).collect();
        // What stands on a result that is not for everybody cannot be used without it.
        if chain.iter().any(|(vertex, _)| graph.vertices()[*vertex].scope != Scope::Shared) {
            continue;
        }
        for (at, (vertex, _)) in chain.iter().enumerate() {
            let below = chain.get(at + 1).map(|(_, key)| (*key).clone());
            parents.insert(*vertex, below);
        }
    }
    let entries = parents.into_iter().map(|(vertex, parent)| async move {
        let id = graph.id(vertex).to_string();
        let what = match &graph.vertices()[vertex].op {
            Op::Image { repository, digest } => What::Image { repository: repository.clone(), digest: digest.clone() },
            _ => What::Layer(layer(home, shop, &id).await?),
        };
        Ok::<_, Fault>(Entry { id, parent, what })
    });
    let vertices: Vec<Entry> = futures::stream::iter(entries).buffered(TOGETHER).try_collect().await?;
    let mounts = if to.mounts { mounts(home, shop, graph).await? } else { Vec::new() };
    let count = vertices.len();
    let index = Index { version: VERSION, vertices, mounts };
    let Some(place) = &to.place else {
        let (repository, digest) =
            image.ok_or_else(|| Fault::usage("--cache-to type=inline goes with an image, and none is made"))?;
        attach(home, &index, repository, digest).await?;
        return Ok(count);
    };
    let digest = artifact(home, &index, REPOSITORY, None).await?;
    let reference = ManifestRef::Digest(digest.clone());
    let sent = match place {
        Where::Registry(name) => home.client()?.push(&home.registry, REPOSITORY, &reference, name).await.map(drop),
        Where::Directory(directory) => {
            image::layout::save_directory(&home.registry, REPOSITORY, &[reference], directory).await
        }
    };
    // What was sent is not kept; its blobs go with the next `prune`.
    let removed = home.registry.delete_manifest(REPOSITORY, &digest).await;
    sent.map_err(|e| Fault::new(Class::Unavailable, format!("cannot write the cache: {e}")))?;
    removed.map_err(|e| broken(&e))?;
    Ok(count)
}

/// The files of a result, exactly: times and all.
async fn layer(home: &Home, shop: &Workshop, id: &str) -> Result<Layer> {
    let log = home.records.log();
    if let Some(entry) = log.get(KEPT, id).await?
        && let Ok(layer) = serde_json::from_slice::<Layer>(&entry.value)
        && home.blobs.size(&layer.digest).await?.is_some()
    {
        return Ok(layer);
    }
    let directory = shop.sandbox.snapshots().diff(id).map_err(|e| broken(&e))?;
    let layer = written(home, directory).await?;
    let value = serde_json::to_vec(&layer).map_err(|e| Fault::from_error(Class::Internal, &e))?.into();
    let change = Change { kind: KEPT.into(), key: id.to_owned(), expect: Expect::Any, value, delete: false };
    log.append(vec![change]).await?;
    Ok(layer)
}

async fn written(home: &Home, directory: std::path::PathBuf) -> Result<Layer> {
    let options = WriteOptions { compression: Compression::Zstd, ..WriteOptions::default() };
    let written = write_blob(&home.blobs, directory, options).await.map_err(|e| broken(&e))?;
    Ok(Layer { digest: written.digest, size: written.size, diff_id: written.diff_id })
}

/// The cache directories that the graph names and that are there.
async fn mounts(home: &Home, shop: &Workshop, graph: &Graph) -> Result<Vec<MountEntry>> {
    let mut found: Vec<MountEntry> = Vec::new();
    for vertex in graph.vertices() {
        let Op::Exec(exec) = &vertex.op else { continue };
        for cache in &exec.caches {
            let path = shop.caches.place(&cache.id);
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if found.iter().any(|known| known.id == cache.id) {
                continue;
            }
            let layer = written(home, path).await?;
            let mode = metadata.mode() & 0o7777;
            found.push(MountEntry { id: cache.id.clone(), mode, uid: metadata.uid(), gid: metadata.gid(), layer });
        }
    }
    Ok(found)
}

/// Puts a cache beside an image of the store, in place of the one that was there: it goes wherever the image is pushed.
async fn attach(home: &Home, index: &Index, repository: &str, image: &Digest) -> Result<()> {
    let (info, _) = home.registry.manifest(repository, image).await.map_err(|e| broken(&e))?;
    let subject = serde_json::json!({ "mediaType": info.media_type, "digest": image, "size": info.size });
    let digest = artifact(home, index, repository, Some(subject)).await?;
    for other in home.registry.referrers(repository, image, Some(ARTIFACT)).await.map_err(|e| broken(&e))? {
        if other.digest != digest {
            home.registry.delete_manifest(repository, &other.digest).await.map_err(|e| broken(&e))?;
        }
    }
    Ok(())
}

async fn artifact(home: &Home, index: &Index, repository: &str, subject: Option<serde_json::Value>) -> Result<Digest> {
    let text = serde_json::to_vec(index).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    let store = async |content: Vec<u8>| home.registry.store(content).await.map_err(|e| broken(&e));
    let (empty, text) = (store(b"{}".to_vec()).await?, store(text).await?);
    let of = |media_type: &str, digest: &Digest, size: u64| serde_json::json!({ "mediaType": media_type, "digest": digest, "size": size });
    let mut layers = vec![of(INDEX, &text.digest, text.size)];
    let mut seen = std::collections::BTreeSet::new();
    let files = index.vertices.iter().filter_map(|entry| match &entry.what {
        What::Layer(layer) => Some(layer),
        What::Image { .. } => None,
    });
    for layer in files.chain(index.mounts.iter().map(|mount| &mount.layer)) {
        if seen.insert(&layer.digest) {
            layers.push(of(media::OCI_LAYER_ZSTD, &layer.digest, layer.size));
        }
    }
    let mut manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": ARTIFACT,
        "config": of(media::OCI_EMPTY, &empty.digest, empty.size),
        "layers": layers,
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject;
    }
    let put = home.registry.put_image(repository, &[], media::OCI_MANIFEST, manifest.to_string().into_bytes()).await;
    Ok(put.map_err(|e| broken(&e))?.digest)
}
