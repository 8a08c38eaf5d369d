//! Images from a layout into the registry. Content is checked against the digests that name it; nothing in a layout is trusted as a path.

use std::path::Path;

use records::Digest;
use tokio::{fs, io::AsyncRead};
use tokio_util::io::SyncIoBridge;

use super::{Index, MAX_INDEX, REF_NAME, blob_path};
use crate::{
    Error, Kind, Reference, Result,
    layer::{
        Reader,
        archive::{EntryKind, Tar},
    },
    media::{self, Shape},
    reference::check_tag,
    registry::{Descriptor, Document, MAX_MANIFEST, Registry},
};

/// How much of an archive is accepted.
#[derive(Debug, Clone, Copy)]
pub struct LoadLimits {
    pub entries: u64,
    /// Bytes when decompressed.
    pub bytes: u64,
}

impl Default for LoadLimits {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 64 << 30 }
    }
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub digest: Digest,
    /// The tag that the layout gave it.
    pub tag: Option<String>,
}

/// Loads every image of the layout in `directory` into `repository`, with the tags that the layout names.
pub async fn load_directory(registry: &Registry, repository: &str, directory: &Path) -> Result<Vec<Loaded>> {
    let index = read_small(&directory.join("index.json"), MAX_INDEX).await?;
    let source = Source::Directory(directory);
    load(registry, repository, &parse_index(&index)?, &source).await
}

/// Loads every image of an archive, plain or compressed, as [`load_directory`] does.
pub async fn load_archive(
    registry: &Registry,
    repository: &str,
    reader: impl AsyncRead + Send + Unpin + 'static,
    limits: LoadLimits,
) -> Result<Vec<Loaded>> {
    let bridge = SyncIoBridge::new(reader);
    let runtime = tokio::runtime::Handle::current();
    let into = registry.clone();
    let task = tokio::task::spawn_blocking(move || unpack(bridge, &into, &runtime, limits));
    let index = task.await.map_err(|e| Error::new(Kind::Io, "the archive was not read to its end").caused(e))??;
    load(registry, repository, &parse_index(&index)?, &Source::Store).await
}

/// Stores all blobs of an archive and returns its `index.json`.
fn unpack(
    reader: impl std::io::Read,
    registry: &Registry,
    runtime: &tokio::runtime::Handle,
    limits: LoadLimits,
) -> Result<Vec<u8>> {
    let reader = Reader::new(reader).map_err(|e| Error::io("read the archive", e))?;
    let mut tar = Tar::new(reader);
    let mut index = None;
    let (mut entries, mut bytes) = (0u64, 0u64);
    while let Some(entry) = tar.next()? {
        entries += 1;
        bytes = bytes.saturating_add(entry.size);
        if entries > limits.entries || bytes > limits.bytes {
            return Err(Error::new(
                Kind::TooLarge,
                format!("the archive has more than {} entries or {} bytes", limits.entries, limits.bytes),
            ));
        }
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        if entry.kind != EntryKind::File {
            continue;
        }
        if path == "index.json" {
            if entry.size > MAX_INDEX {
                return Err(Error::new(Kind::TooLarge, format!("index.json has more than {MAX_INDEX} bytes")));
            }
            let mut content = Vec::new();
            read_entry(&mut tar, |piece| {
                content.extend_from_slice(piece);
                Ok(())
            })?;
            index = Some(content);
        } else if let Some(digest) =
            path.strip_prefix("blobs/").and_then(|rest| rest.replacen('/', ":", 1).parse().ok())
        {
            store_entry(&mut tar, registry, runtime, &digest)?;
        }
    }
    index.ok_or_else(|| Error::new(Kind::Malformed, "the archive has no index.json: it is no OCI image layout"))
}

fn store_entry<R: std::io::Read>(
    tar: &mut Tar<R>,
    registry: &Registry,
    runtime: &tokio::runtime::Handle,
    digest: &Digest,
) -> Result<()> {
    let mut writer = runtime.block_on(registry.blobs().writer())?;
    read_entry(tar, |piece| Ok(runtime.block_on(writer.write(bytes::Bytes::copy_from_slice(piece)))?))?;
    runtime.block_on(writer.finish(Some(digest)))?;
    Ok(())
}

fn read_entry<R: std::io::Read>(tar: &mut Tar<R>, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match tar.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => take(&buffer[..read])?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::new(Kind::Malformed, format!("the archive cannot be read: {e}")).caused(e)),
        }
    }
}

/// Where the content that a manifest names comes from.
enum Source<'a> {
    Directory(&'a Path),
    /// It is in the blob store already.
    Store,
}

impl Source<'_> {
    async fn manifest(&self, registry: &Registry, digest: &Digest) -> Result<Vec<u8>> {
        match self {
            Self::Directory(directory) => read_small(&directory.join(blob_path(digest)), MAX_MANIFEST).await,
            Self::Store => match store::blobs::get(&**registry.blobs(), digest, MAX_MANIFEST).await {
                Err(error) if error.kind == store::Kind::NotFound => Err(missing(digest)),
                other => Ok(other?.to_vec()),
            },
        }
    }

    /// Sees to it that the content is in the blob store.
    async fn bring(&self, registry: &Registry, named: &Descriptor) -> Result<()> {
        if registry.blobs().size(&named.digest).await?.is_some() || media::nondistributable(&named.media_type) {
            return Ok(());
        }
        let Self::Directory(directory) = self else { return Err(missing(&named.digest)) };
        let path = directory.join(blob_path(&named.digest));
        let file = fs::File::open(&path).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => missing(&named.digest),
            _ => Error::io(format!("read {}", path.display()), e),
        })?;
        registry.store_reader(file, Some(&named.digest)).await?;
        Ok(())
    }
}

async fn load(registry: &Registry, repository: &str, index: &Index, source: &Source<'_>) -> Result<Vec<Loaded>> {
    let mut loaded = Vec::new();
    for named in &index.manifests {
        let name = named.annotations.as_ref().and_then(|annotations| annotations.get(REF_NAME));
        let tag = name.and_then(|name| tag_of(name));
        let tags: Vec<&str> = tag.iter().map(String::as_str).collect();
        bring_manifest(registry, repository, named, &tags, source, 0).await?;
        loaded.push(Loaded { digest: named.digest.clone(), tag });
    }
    Ok(loaded)
}

/// The tag in a name of a layout, which may be a tag alone or a whole reference.
fn tag_of(name: &str) -> Option<String> {
    if check_tag(name).is_ok() {
        return Some(name.to_owned());
    }
    name.parse::<Reference>().ok()?.tag
}

/// Pushes a manifest after all that it names.
async fn bring_manifest(
    registry: &Registry,
    repository: &str,
    named: &Descriptor,
    tags: &[&str],
    source: &Source<'_>,
    depth: usize,
) -> Result<()> {
    if depth > 4 {
        return Err(Error::new(Kind::Malformed, "the layout nests indexes too deep"));
    }
    let content = source.manifest(registry, &named.digest).await?;
    let (document, media_type) = Document::parse(&named.media_type, &content)?;
    for blob in document.contents() {
        source.bring(registry, blob).await?;
    }
    for child in document.children() {
        if media::shape(&child.media_type) == Some(Shape::Image)
            || media::shape(&child.media_type) == Some(Shape::Index)
        {
            Box::pin(bring_manifest(registry, repository, child, &[], source, depth + 1)).await?;
        } else {
            source.bring(registry, child).await?;
            registry.link_blob(repository, &child.digest).await?;
        }
    }
    registry.put_loaded(repository, tags, &named.digest, &media_type, content).await?;
    Ok(())
}

fn parse_index(content: &[u8]) -> Result<Index> {
    let index: Index = serde_json::from_slice(content)
        .map_err(|e| Error::new(Kind::Malformed, format!("index.json is malformed: {e}")).caused(e))?;
    if index.schema_version != 2 {
        return Err(Error::new(
            Kind::Malformed,
            format!("index.json has schemaVersion {}, expected 2", index.schema_version),
        ));
    }
    Ok(index)
}

async fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |e| Error::io(format!("read {}", path.display()), e);
    let size = fs::metadata(path).await.map_err(failed)?.len();
    if size > limit {
        return Err(Error::new(Kind::TooLarge, format!("{} has {size} bytes, more than {limit}", path.display())));
    }
    fs::read(path).await.map_err(failed)
}

fn missing(digest: &Digest) -> Error {
    Error::new(Kind::BlobUnknown, format!("the layout names {digest} but does not hold it"))
}
