//! Results of other machines, fetched one by one as they are asked for.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use futures::StreamExt;
use graph::{Graph, Op};
use image::{
    Registry,
    client::Client,
    layer::{ApplyOptions, Whiteouts, apply},
    registry::{Descriptor, Document},
};
use records::Digest;
use sandbox::Snapshots;
use tokio_util::io::SyncIoBridge;

use super::{ARTIFACT, Entry, INDEX, Index, Layer, MOST_INDEX, VERSION, What, Where};
use crate::wiring::{executor::Caches, images::Images};

/// The longest manifest that is read from a directory.
const MOST_MANIFEST: u64 = 4 << 20;

/// Caches that go with one image: more are not looked at.
const MOST_ATTACHED: usize = 4;

/// A cache that was opened.
struct Source {
    place: Where,
    client: Client,
    registry: Registry,
    index: Index,
    by_id: HashMap<String, usize>,
    /// Results that could not be used: they are tried once.
    refused: RwLock<HashSet<String>>,
}

/// The caches that builds of this process may take from. Cheap to clone.
#[derive(Clone, Default)]
pub struct Imports {
    sources: Arc<RwLock<Vec<Arc<Source>>>>,
    /// One at a time for each vertex: two that lie on the same wait for each other.
    fetching: Arc<tokio::sync::Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Imports {
    fn sources(&self) -> Vec<Arc<Source>> {
        // Every change is one push.
        self.sources.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a cache, or those that went with an image: reads indexes and nothing else. `Ok(0)` when there is nothing at that place; else
    /// how many results it has.
    pub async fn open(&self, place: &Where, client: &Client, registry: &Registry) -> Result<usize, String> {
        let Some(content) = manifest(place, client).await? else { return Ok(0) };
        let (document, _) = Document::parse("", &content).map_err(|e| e.to_string())?;
        if document.artifact_type.as_deref() == Some(ARTIFACT) {
            return self.add(place, document, client, registry).await;
        }
        let Where::Registry(reference) = place else { return Err("it is no build cache of shipway".into()) };
        let digest = image::hash::digest(image::Algorithm::Sha256, &content);
        let attached = client.referrers(reference, &digest, ARTIFACT).await.map_err(|e| e.to_string())?;
        let mut count = 0;
        for one in attached.into_iter().take(MOST_ATTACHED) {
            let manifest = client.manifest(&reference.pinned(one.digest)).await.map_err(|e| e.to_string())?;
            let (document, _) = Document::parse(&manifest.media_type, &manifest.content).map_err(|e| e.to_string())?;
            count += self.add(place, document, client, registry).await?;
        }
        match count {
            0 => Err("it is an image, and no build cache of shipway goes with it".into()),
            count => Ok(count),
        }
    }

    async fn add(
        &self,
        place: &Where,
        document: Document,
        client: &Client,
        registry: &Registry,
    ) -> Result<usize, String> {
        let layers = document.layers.unwrap_or_default();
        let first = layers.first().filter(|layer| layer.media_type == INDEX).ok_or("it has no index")?;
        if first.size > MOST_INDEX {
            return Err(format!("its index has {} bytes, more than {MOST_INDEX}", first.size));
        }
        let mut source = Source {
            place: place.clone(),
            client: client.clone(),
            registry: registry.clone(),
            index: Index { version: VERSION, vertices: Vec::new(), mounts: Vec::new() },
            by_id: HashMap::new(),
            refused: RwLock::default(),
        };
        source.fetch(&first.digest, first.size).await?;
        let text =
            store::blobs::get(&**registry.blobs(), &first.digest, MOST_INDEX).await.map_err(|e| e.to_string())?;
        let index: Index = serde_json::from_slice(&text).map_err(|e| format!("its index is malformed: {e}"))?;
        if index.version != VERSION {
            return Err(format!("its index has version {}, this shipway reads {VERSION}", index.version));
        }
        source.by_id = index.vertices.iter().enumerate().map(|(at, entry)| (entry.id.clone(), at)).collect();
        let count = index.vertices.len();
        source.index = index;
        self.sources.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(source));
        Ok(count)
    }

    /// Brings the result of a vertex, and what it lies on, into the snapshots; whether it is there then. What goes wrong costs the time to
    /// make it, and is said.
    pub async fn bring(&self, id: &str, snapshots: &Snapshots, images: &Images) -> bool {
        for source in self.sources() {
            let Some(chain) = source.chain(id, snapshots) else { continue };
            if source.is_refused(&chain) {
                continue;
            }
            match self.bring_chain(&source, &chain, snapshots, images).await {
                Ok(()) => return true,
                Err(reason) => {
                    let below = chain.iter().map(|entry| entry.id.clone());
                    source.refused.write().unwrap_or_else(PoisonError::into_inner).extend(below);
                    tracing::warn!(cache = %source.place, "a result of the cache cannot be used, and is made again: {reason}");
                }
            }
        }
        false
    }

    async fn bring_chain(
        &self,
        source: &Source,
        chain: &[&Entry],
        snapshots: &Snapshots,
        images: &Images,
    ) -> Result<(), String> {
        // The lowest first.
        for entry in chain.iter().rev() {
            let lock = self.fetching.lock().await.entry(entry.id.clone()).or_default().clone();
            let _held = lock.lock().await;
            if snapshots.has(&entry.id) {
                continue;
            }
            let _span = tracing::info_span!("import", id = entry.id);
            match &entry.what {
                What::Image { repository, digest } => {
                    let top = images.unpack(repository, digest).await?.top;
                    source.snapshot(snapshots, &entry.id, top, None).await?;
                }
                What::Layer(layer) => {
                    source.fetch(&layer.digest, layer.size).await?;
                    source.snapshot(snapshots, &entry.id, entry.parent.clone(), Some(layer)).await?;
                }
            }
        }
        Ok(())
    }

    /// Fills the cache directories that a graph names and this machine does not have.
    pub async fn mounts(&self, graph: &Graph, caches: &Caches) -> Result<usize, String> {
        let mut count = 0;
        for vertex in graph.vertices() {
            let Op::Exec(exec) = &vertex.op else { continue };
            for cache in &exec.caches {
                for source in self.sources() {
                    let Some(entry) = source.index.mounts.iter().find(|entry| entry.id == cache.id) else { continue };
                    let place = caches.place(&cache.id);
                    if place.exists() {
                        continue;
                    }
                    source.fetch(&entry.layer.digest, entry.layer.size).await?;
                    let new = place.with_extension("import");
                    let _ = fs::remove_dir_all(&new);
                    fs::create_dir_all(&new).map_err(|e| e.to_string())?;
                    source.unpack(&entry.layer, new.clone(), Whiteouts::Plain).await?;
                    let said = |e: std::io::Error| e.to_string();
                    chown(&new, Some(entry.uid), Some(entry.gid)).map_err(said)?;
                    fs::set_permissions(&new, fs::Permissions::from_mode(entry.mode & 0o7777)).map_err(said)?;
                    fs::rename(&new, &place).map_err(said)?;
                    count += 1;
                }
            }
        }
        Ok(count)
    }
}

impl std::fmt::Display for Where {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Directory(path) => path.display().fmt(f),
        }
    }
}

impl Source {
    /// The vertex and what it lies on, down to what is here already; `None` when something is missing.
    fn chain(&self, id: &str, snapshots: &Snapshots) -> Option<Vec<&Entry>> {
        let (mut chain, mut at) = (Vec::new(), Some(id));
        while let Some(id) = at {
            if snapshots.has(id) {
                break;
            }
            let entry = &self.index.vertices[*self.by_id.get(id)?];
            chain.push(entry);
            // A circle, which no honest cache has, ends here.
            if chain.len() > self.index.vertices.len() {
                return None;
            }
            at = entry.parent.as_deref();
        }
        Some(chain)
    }

    fn is_refused(&self, chain: &[&Entry]) -> bool {
        let refused = self.refused.read().unwrap_or_else(PoisonError::into_inner);
        chain.iter().any(|entry| refused.contains(&entry.id))
    }

    /// Sees to it that a blob is in the store; it is checked against its digest there.
    async fn fetch(&self, digest: &Digest, size: u64) -> Result<(), String> {
        let said = |e: image::Error| e.to_string();
        if self.registry.blobs().size(digest).await.map_err(|e| e.to_string())?.is_some() {
            return Ok(());
        }
        match &self.place {
            Where::Directory(directory) => {
                let path = directory.join("blobs").join(digest.algorithm()).join(digest.hex());
                let file =
                    tokio::fs::File::open(&path).await.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
                self.registry
                    .store_reader(tokio::io::AsyncReadExt::take(file, size + 1), Some(digest))
                    .await
                    .map_err(said)?;
            }
            Where::Registry(reference) => {
                let chunks = self.client.blob(reference, digest).await.map_err(said)?;
                let mut rest = size;
                let chunks = chunks.map(move |chunk| {
                    let chunk = chunk?;
                    rest = rest.checked_sub(chunk.len() as u64).ok_or_else(|| {
                        image::Error::new(image::Kind::SizeInvalid, "a blob has more bytes than the index says")
                    })?;
                    Ok(chunk)
                });
                self.registry.store_stream(Box::pin(chunks), Some(digest)).await.map_err(said)?;
            }
        }
        Ok(())
    }

    async fn unpack(&self, layer: &Layer, into: PathBuf, whiteouts: Whiteouts) -> Result<(), String> {
        let reader = self.registry.blobs().read(&layer.digest, 0, None).await.map_err(|e| e.to_string())?;
        let options = options(layer, whiteouts);
        let bridge = SyncIoBridge::new(reader);
        let work = move || apply(std::io::BufReader::with_capacity(256 << 10, bridge), &into, &options).map(drop);
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    async fn snapshot(
        &self,
        snapshots: &Snapshots,
        id: &str,
        parent: Option<String>,
        layer: Option<&Layer>,
    ) -> Result<(), String> {
        let reader = match layer {
            Some(layer) => {
                let reader = self.registry.blobs().read(&layer.digest, 0, None).await.map_err(|e| e.to_string())?;
                Some((SyncIoBridge::new(reader), options(layer, Whiteouts::Overlay)))
            }
            None => None,
        };
        let (snapshots, id) = (snapshots.clone(), id.to_owned());
        let work = move || -> Result<(), String> {
            #[derive(Debug)]
            struct Said(String);
            impl From<sandbox::Error> for Said {
                fn from(error: sandbox::Error) -> Self {
                    Self(error.to_string())
                }
            }
            let fill = |directory: &Path| match reader {
                None => Ok(()),
                Some((reader, options)) => {
                    let reader = std::io::BufReader::with_capacity(256 << 10, reader);
                    apply(reader, directory, &options).map(drop).map_err(|e| Said(e.to_string()))
                }
            };
            snapshots.import(&id, parent.as_deref(), fill).map_err(|Said(text)| text)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
    }
}

fn options(layer: &Layer, whiteouts: Whiteouts) -> ApplyOptions {
    ApplyOptions {
        diff_id: Some(layer.diff_id.clone()),
        whiteouts,
        absolute_links: true,
        devices: true,
        ..ApplyOptions::default()
    }
}

/// The manifest of a cache, checked against its digest; `None` when there is none.
async fn manifest(place: &Where, client: &Client) -> Result<Option<Vec<u8>>, String> {
    match place {
        Where::Registry(reference) => match client.manifest(reference).await {
            Ok(manifest) => Ok(Some(manifest.content.to_vec())),
            Err(error) if matches!(error.kind, image::Kind::ManifestUnknown | image::Kind::NameUnknown) => Ok(None),
            Err(error) => Err(error.to_string()),
        },
        Where::Directory(directory) => {
            let read = |path: PathBuf| -> Result<Vec<u8>, String> {
                use std::io::Read;
                let failed = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
                let mut content = Vec::new();
                fs::File::open(&path)
                    .and_then(|file| file.take(MOST_MANIFEST).read_to_end(&mut content))
                    .map_err(failed)?;
                Ok(content)
            };
            if !directory.join("index.json").exists() {
                return Ok(None);
            }
            #[derive(serde::Deserialize)]
            struct Layout {
                manifests: Vec<Descriptor>,
            }
            let index = read(directory.join("index.json"))?;
            let index: Layout =
                serde_json::from_slice(&index).map_err(|e| format!("its index.json is malformed: {e}"))?;
            let Some(first) = index.manifests.first() else { return Ok(None) };
            let digest = &first.digest;
            let content = read(directory.join("blobs").join(digest.algorithm()).join(digest.hex()))?;
            if image::hash::digest(image::Algorithm::of(digest), &content) != *digest {
                return Err(format!("its manifest is not {digest}"));
            }
            Ok(Some(content))
        }
    }
}
