//! Images from the registry into a layout.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use records::Digest;
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
};

use super::{Index, LAYOUT, REF_NAME, blob_path};
use crate::{
    Error, Kind, Result,
    layer::archive::{Entry, EntryKind, encode},
    media,
    registry::{Descriptor, Document, ManifestRef, Registry},
};

/// How many blobs and manifests one layout may have.
const MAX_CONTENTS: usize = 100_000;

/// Saves images of `repository` as a layout in `directory`, which is made. What is there already is kept or replaced by the same.
pub async fn save_directory(
    registry: &Registry,
    repository: &str,
    references: &[ManifestRef],
    directory: &Path,
) -> Result<()> {
    let plan = plan(registry, repository, references).await?;
    let failed = |path: &Path, e| Error::io(format!("write {}", path.display()), e);
    for content in &plan.contents {
        let path = directory.join(blob_path(content));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await.map_err(|e| failed(parent, e))?;
        }
        let mut reader = registry.blobs().read(content, 0, None).await?;
        let partial = path.with_extension("partial");
        let mut file = fs::File::create(&partial).await.map_err(|e| failed(&partial, e))?;
        tokio::io::copy(&mut reader, &mut file).await.map_err(|e| failed(&partial, e))?;
        file.sync_all().await.map_err(|e| failed(&partial, e))?;
        fs::rename(&partial, &path).await.map_err(|e| failed(&path, e))?;
    }
    for (name, content) in [("oci-layout", LAYOUT.as_bytes()), ("index.json", &plan.index)] {
        let path = directory.join(name);
        fs::write(&path, content).await.map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

/// Saves images of `repository` as a tar of a layout. The same images give the same bytes.
pub async fn save_archive(
    registry: &Registry,
    repository: &str,
    references: &[ManifestRef],
    mut out: impl AsyncWrite + Send + Unpin,
) -> Result<()> {
    let plan = plan(registry, repository, references).await?;
    let failed = |e| Error::io("write the archive", e);
    let mut folders = HashSet::new();
    for content in &plan.contents {
        let path = blob_path(content);
        for folder in ["blobs/".to_owned(), format!("blobs/{}/", content.algorithm())] {
            if folders.insert(folder.clone()) {
                out.write_all(&header(&folder, EntryKind::Directory, 0, 0o755)).await.map_err(failed)?;
            }
        }
        let size = registry.blobs().size(content).await?.unwrap_or(0);
        out.write_all(&header(&path, EntryKind::File, size, 0o644)).await.map_err(failed)?;
        let reader = registry.blobs().read(content, 0, None).await?;
        let copied = tokio::io::copy(&mut reader.take(size), &mut out).await.map_err(failed)?;
        if copied != size {
            return Err(Error::new(Kind::Io, format!("blob {content} became shorter while it was saved")));
        }
        out.write_all(padding(size)).await.map_err(failed)?;
    }
    for (name, content) in [("index.json", &plan.index[..]), ("oci-layout", LAYOUT.as_bytes())] {
        let size = content.len() as u64;
        out.write_all(&header(name, EntryKind::File, size, 0o644)).await.map_err(failed)?;
        out.write_all(content).await.map_err(failed)?;
        out.write_all(padding(size)).await.map_err(failed)?;
    }
    out.write_all(&[0; 1024]).await.map_err(failed)?;
    out.flush().await.map_err(failed)
}

fn header(path: &str, kind: EntryKind, size: u64, mode: u32) -> Vec<u8> {
    encode(&Entry { path: path.into(), kind, size, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() })
}

fn padding(size: u64) -> &'static [u8] {
    &[0; 512][..((512 - size % 512) % 512) as usize]
}

/// What a layout will hold.
struct Plan {
    index: Vec<u8>,
    /// Manifests before what they name, each once.
    contents: Vec<Digest>,
}

async fn plan(registry: &Registry, repository: &str, references: &[ManifestRef]) -> Result<Plan> {
    let mut manifests = Vec::new();
    let mut contents = Vec::new();
    let mut seen = HashSet::new();
    let mut queue = Vec::new();
    for reference in references {
        let (digest, info, _) = registry.find_manifest(repository, reference).await?;
        let name = match reference {
            ManifestRef::Tag(tag) => Some(tag.clone()),
            ManifestRef::Digest(_) => None,
        };
        queue.push(digest.clone());
        manifests.push(Descriptor {
            media_type: info.media_type,
            digest,
            size: info.size,
            artifact_type: info.artifact_type.filter(|_| info.subject.is_some()),
            annotations: name.map(|name| BTreeMap::from([(REF_NAME.to_owned(), name)])),
            urls: None,
            data: None,
        });
    }
    while let Some(digest) = queue.pop() {
        if !seen.insert(digest.clone()) {
            continue;
        }
        if seen.len() > MAX_CONTENTS {
            return Err(Error::new(Kind::TooLarge, format!("the images have more than {MAX_CONTENTS} parts")));
        }
        let (info, content) = registry.manifest(repository, &digest).await?;
        let (document, _) = Document::parse(&info.media_type, &content)?;
        contents.push(digest);
        for blob in document.contents() {
            if !seen.contains(&blob.digest) {
                if registry.blob_size(repository, &blob.digest).await?.is_none() {
                    if media::nondistributable(&blob.media_type) {
                        continue;
                    }
                    return Err(Error::new(
                        Kind::BlobUnknown,
                        format!("repository {repository} holds no blob {}", blob.digest),
                    ));
                }
                seen.insert(blob.digest.clone());
                contents.push(blob.digest.clone());
            }
        }
        for child in document.children() {
            if registry.manifest_info(repository, &child.digest).await?.is_some() {
                queue.push(child.digest.clone());
            } else if seen.insert(child.digest.clone()) {
                contents.push(child.digest.clone());
            }
        }
    }
    let index = Index { schema_version: 2, media_type: Some(media::OCI_INDEX.into()), manifests };
    Ok(Plan { index: crate::oci::canonical(&index)?.to_vec(), contents })
}
