//! Where the result of a build goes besides the local store: registries, OCI layouts, Docker archives, directories, tars.

use std::{
    collections::BTreeSet,
    fmt,
    io::Write,
    path::{Path, PathBuf},
};

use build::csv;
use image::{
    Reference,
    layer::{ApplyOptions, Compression, Whiteouts, WriteOptions, apply},
    oci::Platform,
    registry::{Document, ManifestRef, choose},
};
use records::Digest;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Built, Home, names};
use crate::{
    fault::{Class, Fault, Result},
    wiring::workshop::Workshop,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// The local store; it has every image anyhow.
    Store,
    /// Pushed under its names.
    Registry,
    /// An OCI layout as a tar, or as a directory.
    Oci { tar: bool },
    /// What `docker load` and `podman load` take.
    Docker,
    /// The files, as a directory.
    Local,
    /// The files, as a tar.
    Tar,
}

impl OutputKind {
    /// Whether it is made of the image; else of its files.
    pub fn needs_image(self) -> bool {
        !matches!(self, Self::Local | Self::Tar)
    }
}

/// Which layers of a base are compressed anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Below {
    /// None: they stay the same blobs as in every other image.
    #[default]
    Kept,
    /// Those in zstd, which older readers of images do not know.
    NoZstd,
    /// All that are not compressed as the new layers are.
    All,
}

/// How the layers and documents of an image are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    pub compression: Compression,
    /// The compression's own where none is named. It is for layers that are written, and no reason to write one.
    pub level: Option<i32>,
    pub below: Below,
    /// Docker's media types in place of OCI's.
    pub docker: bool,
}

impl Default for Packing {
    /// What every tool of the field reads.
    fn default() -> Self {
        Self { compression: Compression::Gzip, level: None, below: Below::Kept, docker: false }
    }
}

impl Packing {
    /// What a compression is called on the command line.
    pub fn compression(text: &str) -> Result<Compression> {
        match text {
            "gzip" => Ok(Compression::Gzip),
            "zstd" => Ok(Compression::Zstd),
            "uncompressed" | "none" => Ok(Compression::None),
            other => Err(Fault::usage(format!("there is no compression `{other}`"))
                .hint("there are gzip, zstd and uncompressed")),
        }
    }

    /// The same with what all outputs together ask for, once they are read: where Docker's formats are written there is no zstd that
    /// nobody asked for.
    pub fn settle(&mut self, outputs: &[Output]) -> Result<()> {
        let archive = outputs.iter().any(|output| output.kind == OutputKind::Docker);
        if self.docker && self.compression == Compression::Zstd {
            let fault = Fault::usage("Docker's media types have no zstd");
            return Err(fault.hint("leave oci-mediatypes=false out, or use compression=gzip"));
        }
        if (self.docker || archive) && self.compression != Compression::Zstd {
            self.below = self.below.max(Below::NoZstd);
        }
        Ok(())
    }
}

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub kind: OutputKind,
    /// `None` is standard output.
    pub dest: Option<PathBuf>,
    /// Names besides those of `--tag`.
    pub names: Vec<Reference>,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            OutputKind::Store => return f.write_str("the image"),
            OutputKind::Registry => return f.write_str("to the registry"),
            OutputKind::Oci { .. } => "OCI layout",
            OutputKind::Docker => "Docker archive",
            OutputKind::Local => "directory",
            OutputKind::Tar => "tar",
        };
        match &self.dest {
            Some(dest) => write!(f, "{what} {}", dest.display()),
            None => write!(f, "{what} to standard output"),
        }
    }
}

impl Output {
    /// The same for the files of one of several platforms: a directory for each.
    pub fn of_platform(&self, platform: &build::Platform) -> Result<Self> {
        match (&self.kind, &self.dest) {
            (OutputKind::Local, Some(dest)) => {
                Ok(Self { dest: Some(dest.join(platform.to_string().replace('/', "_"))), ..self.clone() })
            }
            _ => Err(Fault::usage("a tar holds the files of one platform")
                .hint("use type=local, which makes a directory for each")),
        }
    }

    /// Reads `type=…,dest=…`, a path (a directory), or `-` (a tar on standard output). What it says of how images are written goes into
    /// `packing`.
    pub fn parse(text: &str, latest: bool, packing: &mut Packing) -> Result<Self> {
        if text == "-" {
            return Ok(Self { kind: OutputKind::Tar, dest: None, names: Vec::new() });
        }
        if !text.contains('=') {
            return Ok(Self { kind: OutputKind::Local, dest: Some(text.into()), names: Vec::new() });
        }
        let (mut kind, mut dest, mut given, mut push, mut tar) = (None, None, Vec::new(), false, true);
        let (mut compressed, mut force) = (false, None);
        for field in csv(text) {
            let (name, value) = field.split_once('=').unwrap_or((field.as_str(), "true"));
            let yes = matches!(value, "true" | "1");
            match name.trim() {
                "type" => kind = Some(value.to_owned()),
                "dest" => dest = Some(value.to_owned()),
                "name" => {
                    for name in value.split(',') {
                        given.push(names::to_give(name, latest)?);
                    }
                }
                "push" => push = yes,
                "tar" => tar = yes,
                "compression" => {
                    packing.compression = Packing::compression(value)?;
                    compressed = true;
                }
                "force-compression" if yes || matches!(value, "false" | "0") => force = Some(yes),
                "compression-level" => {
                    let level = value.parse::<i32>().ok().filter(|level| (0..=22).contains(level));
                    let wrong = || {
                        Fault::usage(format!("--output: `{value}` is no compression level"))
                            .hint("gzip has 0 to 9, zstd 1 to 22")
                    };
                    packing.level = Some(level.ok_or_else(wrong)?);
                }
                "oci-mediatypes" => packing.docker = !yes,
                // The only way here: times are rewritten, the store holds every image.
                "rewrite-timestamp" | "store" | "unpack" if yes => {}
                other => {
                    return Err(Fault::usage(format!("--output knows no `{other}={value}`")).hint(
                        "there are type, dest, name, push, tar, compression, compression-level, force-compression and oci-mediatypes",
                    ));
                }
            }
        }
        if force.unwrap_or(compressed) {
            packing.below = Below::All;
        }
        let kind = match (kind.as_deref(), push) {
            (Some("registry"), _) | (Some("image") | None, true) => OutputKind::Registry,
            (Some("image"), false) | (Some("docker"), _) if dest.is_none() => OutputKind::Store,
            (Some("docker"), _) => OutputKind::Docker,
            (Some("oci"), _) => OutputKind::Oci { tar },
            (Some("local"), _) => OutputKind::Local,
            (Some("tar"), _) => OutputKind::Tar,
            (other, _) => {
                return Err(Fault::usage(format!("--output knows no type `{}`", other.unwrap_or_default()))
                    .hint("there are image, registry, oci, docker, local and tar"));
            }
        };
        if kind == OutputKind::Local && dest.is_none() || kind == (OutputKind::Oci { tar: false }) && dest.is_none() {
            return Err(Fault::usage("this --output needs a directory").hint("add dest=DIRECTORY"));
        }
        let dest = dest.filter(|dest| dest != "-").map(PathBuf::from);
        Ok(Self { kind, dest, names: given })
    }
}

/// Whether a file can be written there, as far as that can be known before it is.
pub fn check_file(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        return Err(Fault::usage(format!("cannot write {}: it is a directory", path.display())));
    }
    if !parent.is_dir() {
        return Err(Fault::usage(format!(
            "cannot write {}: there is no directory {}",
            path.display(),
            parent.display()
        ))
        .hint("make it first"));
    }
    Ok(())
}

impl Output {
    /// Whether it can be written, as far as that can be known before anything is built.
    pub fn check(&self) -> Result<()> {
        let Some(dest) = &self.dest else { return Ok(()) };
        match self.kind {
            OutputKind::Local | OutputKind::Oci { tar: false } => {
                // It is made with its parents; none of them may be something else.
                let there =
                    dest.ancestors().find(|path| !path.as_os_str().is_empty() && path.symlink_metadata().is_ok());
                match there {
                    Some(path) if !path.is_dir() => {
                        Err(Fault::usage(format!("cannot write {self}: {} is no directory", path.display())))
                    }
                    _ => Ok(()),
                }
            }
            OutputKind::Store | OutputKind::Registry => Ok(()),
            OutputKind::Oci { tar: true } | OutputKind::Docker | OutputKind::Tar => check_file(dest),
        }
    }
}

fn io(what: &Path) -> impl Fn(std::io::Error) -> Fault + '_ {
    move |e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", what.display()))
}

/// Writes one output. `result` is the snapshot of the files, `shop` where it lies.
pub async fn write(
    home: &Home,
    shop: Option<&Workshop>,
    output: &Output,
    result: &str,
    built: &Built,
    tags: &[Reference],
) -> Result<()> {
    let mut named: Vec<Reference> = tags.to_vec();
    named.extend(output.names.iter().cloned());
    let whole = || {
        let digest = built.digest.clone();
        digest.ok_or_else(|| Fault::new(Class::Internal, "there is no image to write"))
    };
    match output.kind {
        OutputKind::Store => Ok(()),
        OutputKind::Registry => push(home, &built.repository, &whole()?, &named).await,
        OutputKind::Oci { tar: false } => {
            let dest = output.dest.clone().unwrap_or_default();
            let reference = [ManifestRef::Digest(whole()?)];
            image::layout::save_directory(&home.registry, &built.repository, &reference, &dest)
                .await
                .map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
            let tag = named.first().and_then(|name| name.tag.clone());
            name_in_layout(&dest, tag.as_deref())
        }
        OutputKind::Oci { tar: true } | OutputKind::Docker => {
            let images = [Saved { repository: built.repository.clone(), digest: whole()?, names: named }];
            to_file(output.dest.as_deref(), async |out| archive(home, &images, out).await).await
        }
        OutputKind::Local | OutputKind::Tar => {
            let shop = shop.ok_or_else(|| Fault::new(Class::Internal, "the files are not at hand"))?;
            files(shop, output, result).await
        }
    }
}

/// Pushes an image of the local store under each of these names.
pub async fn push(home: &Home, repository: &str, digest: &Digest, names: &[Reference]) -> Result<()> {
    if names.is_empty() {
        return Err(Fault::usage("an image without a name cannot be pushed").hint("name it with -t registry/name:tag"));
    }
    for name in names {
        let to = names::outside(name);
        let reference = ManifestRef::Digest(digest.clone());
        let pushed = home.client()?.push(&home.registry, repository, &reference, &to).await;
        pushed.map_err(|e| Fault::new(Class::Unavailable, format!("cannot push {to}: {e}")))?;
        push_referrers(home, repository, digest, &to).await?;
    }
    Ok(())
}

/// Pushes what is said of an image, and of each image of an index.
async fn push_referrers(home: &Home, repository: &str, digest: &Digest, to: &Reference) -> Result<()> {
    let failed = |e: image::Error| Fault::new(Class::Unavailable, format!("cannot push what is said of {to}: {e}"));
    let found = home.registry.find_manifest(repository, &ManifestRef::Digest(digest.clone())).await;
    let (_, info, content) = found.map_err(failed)?;
    let (document, _) = Document::parse(&info.media_type, &content).map_err(failed)?;
    let subjects = document.children().map(|child| child.digest.clone()).chain([digest.clone()]);
    for subject in subjects.collect::<Vec<_>>() {
        // It was attached where builds put their images, whatever name the image has by now.
        for place in [names::UNTAGGED, repository] {
            for referrer in home.registry.referrers(place, &subject, None).await.map_err(failed)? {
                let target = Reference { tag: None, digest: Some(referrer.digest.clone()), ..to.clone() };
                let reference = ManifestRef::Digest(referrer.digest);
                home.client()?.push(&home.registry, place, &reference, &target).await.map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// The name of the one image of a layout.
fn name_in_layout(directory: &Path, tag: Option<&str>) -> Result<()> {
    let Some(tag) = tag else { return Ok(()) };
    let path = directory.join("index.json");
    let read = || -> std::io::Result<()> {
        let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        index["manifests"][0]["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": tag });
        std::fs::write(&path, serde_json::to_vec(&index)?)
    };
    read().map_err(io(&path))
}

/// Writes a file beside its place and moves it there, or writes standard output.
pub async fn to_file(
    dest: Option<&Path>,
    write: impl AsyncFnOnce(&mut (dyn AsyncWrite + Send + Unpin)) -> Result<()>,
) -> Result<()> {
    let Some(dest) = dest else {
        let mut out = tokio::io::stdout();
        write(&mut out).await?;
        return out.flush().await.map_err(io(Path::new("standard output")));
    };
    let directory = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Taken away again when it is not finished.
    let temporary = tempfile::Builder::new().prefix(".shipway-").tempfile_in(directory).map_err(io(dest))?;
    let file = temporary.reopen().map_err(io(dest))?;
    let mut out = tokio::io::BufWriter::with_capacity(1 << 20, tokio::fs::File::from_std(file));
    write(&mut out).await?;
    out.flush().await.map_err(io(dest))?;
    out.into_inner().sync_all().await.map_err(io(dest))?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o644)).map_err(io(dest))?;
    temporary.persist(dest).map_err(|e| io(dest)(e.error))?;
    Ok(())
}

/// An image that goes into an archive, under its names.
pub struct Saved {
    pub repository: String,
    pub digest: Digest,
    pub names: Vec<Reference>,
}

/// Writes images as a tar that is an OCI layout and a Docker archive at once. The same images give the same bytes.
pub async fn archive(home: &Home, images: &[Saved], out: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<()> {
    let failed = |e: image::Error| Fault::from_error(Class::Unavailable, &e);
    let (mut blobs, mut manifests, mut dockers) = (BTreeSet::new(), Vec::new(), Vec::new());
    for image in images {
        let mut todo = vec![image.digest.clone()];
        while let Some(digest) = todo.pop() {
            let (info, content) = home.registry.manifest(&image.repository, &digest).await.map_err(failed)?;
            let (document, _) = Document::parse(&info.media_type, &content).map_err(failed)?;
            todo.extend(document.children().map(|child| child.digest.clone()));
            blobs.extend(document.contents().map(|blob| blob.digest.clone()));
            if digest == image.digest {
                let shown: Vec<String> = image.names.iter().map(|name| names::outside(name).to_string()).collect();
                let descriptor = |annotations: serde_json::Value| {
                    serde_json::json!({
                        "mediaType": info.media_type, "digest": digest, "size": content.len(), "annotations": annotations,
                    })
                };
                if shown.is_empty() {
                    manifests.push(descriptor(serde_json::json!({})));
                }
                for (name, reference) in shown.iter().zip(&image.names) {
                    manifests.push(descriptor(serde_json::json!({
                        "io.containerd.image.name": name,
                        "org.opencontainers.image.ref.name": reference.tag,
                    })));
                }
                dockers.extend(docker(home, image, document.clone(), &content).await?);
            }
            blobs.insert(digest);
        }
    }
    let broken = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot write the archive: {e}"));
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": image::media::OCI_INDEX, "manifests": manifests,
    });
    for folder in ["blobs/", "blobs/sha256/"] {
        out.write_all(&header(folder, 0, true)?).await.map_err(broken)?;
    }
    for digest in &blobs {
        let size = home.blobs.size(digest).await?;
        let size = size.ok_or_else(|| Fault::not_found(format!("blob {digest} is not in the local store any more")))?;
        let path = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
        out.write_all(&header(&path, size, false)?).await.map_err(broken)?;
        let mut reader = home.blobs.read(digest, 0, None).await?.take(size);
        let copied = tokio::io::copy(&mut reader, out).await.map_err(broken)?;
        if copied != size {
            return Err(Fault::new(Class::Unavailable, format!("blob {digest} is shorter than it was")));
        }
        out.write_all(padding(size)).await.map_err(broken)?;
    }
    let layout = serde_json::json!({ "imageLayoutVersion": "1.0.0" });
    for (name, document) in
        [("index.json", &index), ("manifest.json", &serde_json::json!(dockers)), ("oci-layout", &layout)]
    {
        let text = document.to_string();
        out.write_all(&header(name, text.len() as u64, false)?).await.map_err(broken)?;
        out.write_all(text.as_bytes()).await.map_err(broken)?;
        out.write_all(padding(text.len() as u64)).await.map_err(broken)?;
    }
    out.write_all(&[0; 1024]).await.map_err(broken)
}

/// What Docker reads of an image; of an index, that is the image for this machine's platform, where there is one.
async fn docker(
    home: &Home,
    image: &Saved,
    mut document: Document,
    content: &[u8],
) -> Result<Option<serde_json::Value>> {
    let failed = |e: image::Error| Fault::from_error(Class::Unavailable, &e);
    if document.manifests.is_some() {
        let Some(own) = choose(content, &Platform::host()) else { return Ok(None) };
        let (info, content) = home.registry.manifest(&image.repository, &own).await.map_err(failed)?;
        (document, _) = Document::parse(&info.media_type, &content).map_err(failed)?;
    }
    let (Some(config), Some(layers)) = (&document.config, &document.layers) else { return Ok(None) };
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm(), digest.hex());
    Ok(Some(serde_json::json!({
        "Config": path(&config.digest),
        "RepoTags": image.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "Layers": layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
    })))
}

fn header(path: &str, size: u64, directory: bool) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    header.set_size(size);
    header.set_mode(if directory { 0o755 } else { 0o644 });
    header.set_entry_type(if directory { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

fn padding(size: u64) -> &'static [u8] {
    &[0; 512][..((512 - size % 512) % 512) as usize]
}

/// The files of a result, as a tar or as a directory.
async fn files(shop: &Workshop, output: &Output, result: &str) -> Result<()> {
    let (snapshots, key) = (shop.sandbox.snapshots().clone(), result.to_owned());
    let (kind, dest) = (output.kind, output.dest.clone());
    let work = move || -> Result<()> {
        let unavailable = |e: &(dyn std::error::Error + 'static)| Fault::from_error(Class::Unavailable, e);
        let name = format!("output-{}", std::process::id());
        let view = snapshots.view(&name, &key, false).map_err(|e| unavailable(&e))?;
        let options = WriteOptions { compression: Compression::None, epoch: None, ..WriteOptions::default() };
        let pack = |out: &mut dyn Write| image::layer::write(view.path(), &options, out).map(drop);
        match (kind, dest) {
            (OutputKind::Local, Some(dest)) => {
                std::fs::create_dir_all(&dest).map_err(io(&dest))?;
                let (reader, mut writer) = std::io::pipe().map_err(io(&dest))?;
                std::thread::scope(|scope| {
                    let unpacking = scope.spawn(|| {
                        let options =
                            ApplyOptions { whiteouts: Whiteouts::Plain, devices: true, ..ApplyOptions::default() };
                        apply(std::io::BufReader::with_capacity(1 << 20, reader), &dest, &options).map(drop)
                    });
                    let packed = pack(&mut writer);
                    drop(writer);
                    let unpacked = unpacking.join().unwrap_or_else(|_| {
                        Err(image::Error::new(image::Kind::Io, "the files were not written to their end"))
                    });
                    // Why the reader stopped says more than that the writer could not go on.
                    unpacked.and(packed)
                })
                .map_err(|e| unavailable(&e))
            }
            (_, Some(dest)) => {
                let directory = dest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let mut file = tempfile::NamedTempFile::new_in(directory).map_err(io(&dest))?;
                pack(&mut file).map_err(|e| unavailable(&e))?;
                file.persist(&dest).map_err(|e| io(&dest)(e.error))?;
                Ok(())
            }
            (_, None) => pack(&mut std::io::stdout().lock()).map_err(|e| unavailable(&e)),
        }
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::from_error(Class::Internal, &e))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_docker_writes_them() {
        for (text, kind, dest) in [
            ("-", OutputKind::Tar, None),
            ("out", OutputKind::Local, Some("out")),
            ("type=local,dest=out", OutputKind::Local, Some("out")),
            ("type=tar,dest=-", OutputKind::Tar, None),
            ("type=oci,dest=a.tar", OutputKind::Oci { tar: true }, Some("a.tar")),
            ("type=oci,tar=false,dest=a", OutputKind::Oci { tar: false }, Some("a")),
            ("type=docker", OutputKind::Store, None),
            ("type=docker,dest=a.tar", OutputKind::Docker, Some("a.tar")),
            ("type=image,name=r.example.org/a:1,push=true", OutputKind::Registry, None),
            ("type=registry", OutputKind::Registry, None),
        ] {
            let output = Output::parse(text, false, &mut Packing::default()).unwrap();
            assert_eq!((output.kind, output.dest.as_deref()), (kind, dest.map(Path::new)), "{text}");
        }
        let mut packing = Packing::default();
        let text = "type=oci,dest=x,compression=zstd,compression-level=19,oci-mediatypes=false";
        Output::parse(text, false, &mut packing).unwrap();
        let zstd = Packing { compression: Compression::Zstd, level: Some(19), below: Below::All, docker: true };
        assert_eq!(packing, zstd);
        assert!(packing.settle(&[]).unwrap_err().message.contains("no zstd"));
        for (text, below) in [
            ("type=oci,dest=x", Below::Kept),
            ("type=docker", Below::Kept),
            ("type=docker,dest=x", Below::NoZstd),
            ("type=registry,oci-mediatypes=false", Below::NoZstd),
            ("type=oci,dest=x,compression=gzip", Below::All),
            ("type=oci,dest=x,compression=gzip,force-compression=false", Below::Kept),
            ("type=docker,dest=x,compression=gzip,force-compression=0", Below::NoZstd),
            ("type=oci,dest=x,force-compression", Below::All),
        ] {
            let mut packing = Packing::default();
            let output = Output::parse(text, false, &mut packing).unwrap();
            packing.settle(&[output]).unwrap();
            assert_eq!(packing.below, below, "{text}");
        }
        for wrong in [
            "type=cloud,dest=x",
            "type=local",
            "type=oci,dest=x,colour=red",
            "type=image,name=a,push=true",
            "type=oci,dest=x,compression-level=99",
        ] {
            assert!(Output::parse(wrong, false, &mut packing).is_err(), "{wrong}");
        }
    }
}
