//! Buildpacks that are named: directories, archives, images, addresses, and those that the builder has.

use std::path::{Path, PathBuf};

use build::{ContextTree, Fetched, Ignore, Remote, StatCache};
use buildpack::{
    descriptor::{Descriptor, GroupEntry, Package},
    labels,
    project::Named,
};
use futures::{FutureExt, future::BoxFuture};
use image::layer::{ApplyOptions, Whiteouts, apply, apply_blob};

use super::{
    Engine, broken,
    builder::Bench,
    project,
    sources::Found,
    tree::{self, Tree},
};
use crate::{
    fault::{Class, Fault, Result},
    wiring::local,
};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// The order of the builder.
    Order,
    One(GroupEntry),
}

fn entry(id: &str, version: &str) -> Given {
    Given::One(GroupEntry { id: id.to_owned(), version: version.to_owned(), ..GroupEntry::default() })
}

/// `id[@version]`
fn split(text: &str) -> (&str, &str) {
    text.rsplit_once('@').unwrap_or((text, ""))
}

impl Engine<'_> {
    /// Makes a buildpack available, and says which it is. Paths are relative to `here`.
    pub(super) async fn given(&self, text: &str, here: &Path, bench: &mut Bench) -> Result<Given> {
        if matches!(text, "from=builder" | "urn:cnb:builder") {
            return Ok(Given::Order);
        }
        if let Some(rest) = text.strip_prefix("from=builder:").or_else(|| text.strip_prefix("urn:cnb:builder:")) {
            let (id, version) = split(rest);
            return Ok(entry(id, version));
        }
        if text.starts_with("urn:cnb:") {
            return Err(Fault::usage(format!("`{text}`: Shipway asks no registry of buildpacks"))
                .hint("name the buildpack's image instead, for example docker://docker.io/team/buildpack:1.2.3"));
        }
        if let Some(image) = text.strip_prefix("docker://").or_else(|| text.strip_prefix("docker-image://")) {
            return self.given_image(image.trim_start_matches('/'), bench).await;
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return self.given_address(text, bench).await;
        }
        match self.sources.find(here, text.strip_prefix("file://").unwrap_or(text)).await? {
            Found::Directory(path) => return self.given_directory(&path, bench).await,
            Found::File(path) => return self.given_file(&path, bench).await,
            Found::Nothing => {}
        }
        let (id, version) = split(text);
        if bench.catalog.find(id, version).is_some() {
            return Ok(entry(id, version));
        }
        let known: Vec<String> = bench.catalog.all.iter().map(|one| one.descriptor.shown()).collect();
        let has = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let missing = |why: &str| {
            Fault::usage(format!(
                "`{text}` is no buildpack: there is no such file or directory, the builder has {has}{why}"
            ))
            .hint("name a directory with buildpack.toml, a buildpack of the builder, or an image with docker://")
        };
        if text.starts_with(['.', '/']) || text.parse::<image::Reference>().is_err() {
            return Err(missing(""));
        }
        match self.given_image(text, bench).await {
            Err(fault) if matches!(fault.class, Class::NotFound | Class::Unavailable) => {
                Err(missing(&format!(", and as an image: {}", fault.message)))
            }
            other => other,
        }
    }

    /// A buildpack in an image: a buildpackage.
    async fn given_image(&self, name: &str, bench: &mut Bench) -> Result<Given> {
        let image = self.sources.image(name).await?;
        let config = serde_json::json!({ "config": { "Labels": image.config.config.labels } });
        let label = labels::read::<labels::Buildpackage>(&config, labels::BUILDPACKAGE).map_err(broken)?;
        let (view, _) = self.mounted(&image).await?;
        let before = bench.catalog.all.len();
        let count = bench.add_image(name, view, image.digest.as_str(), false)?;
        match label {
            Some(label) => Ok(entry(&label.id, &label.version)),
            None if count == 1 && bench.catalog.all.len() > before => {
                let only = &bench.catalog.all[bench.catalog.all.len() - 1].descriptor;
                Ok(entry(&only.id, &only.version))
            }
            None => {
                Err(Fault::usage(format!("the image {name} is no buildpack: it has no label {}", labels::BUILDPACKAGE)))
            }
        }
    }

    async fn given_address(&self, url: &str, bench: &mut Bench) -> Result<Given> {
        self.progress.note(&format!("fetching {url}"));
        let remote = Remote::File { url: url.to_owned(), checksum: None };
        let fetched = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(local::cancelled(&self.cancel)),
            fetched = self.sources.fetch(&remote) => fetched,
        }?;
        let Fetched::File { digest, .. } = fetched else {
            return Err(Fault::usage(format!("{url} is no archive of a buildpack")));
        };
        let reader = self.shop.blobs.read(&digest, 0, None).await?;
        let unpacked = tree::made(bench.place()?)?;
        let applied = apply_blob(reader, unpacked.clone(), archive()).await;
        applied.map_err(|e| Fault::usage(format!("{url} is no archive of a buildpack: {e}")))?;
        self.add_unpacked(&unpacked, url, bench).await
    }

    /// An archive of a directory, or an image as a file (`.cnb`).
    async fn given_file(&self, path: &Path, bench: &mut Bench) -> Result<Given> {
        let shown = path.display().to_string();
        if let Some(name) = self.sources.loaded(path).await? {
            return self.given_image(&name, bench).await;
        }
        let path = self.sources.file(self.shop, path, &bench.place()?).await?;
        let unpacked = tree::made(bench.place()?)?;
        let (from, to) = (path, unpacked.clone());
        let applied = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(&from).map_err(tree::failed("open", &from))?;
            let applied = apply(std::io::BufReader::new(file), &to, &archive());
            applied.map_err(|e| Fault::usage(format!("{} is no archive of a buildpack: {e}", from.display())))
        });
        applied.await.map_err(|e| Fault::from_error(Class::Internal, &e))??;
        self.add_unpacked(&unpacked, &shown, bench).await
    }

    fn given_directory<'f>(&'f self, path: &'f Path, bench: &'f mut Bench) -> BoxFuture<'f, Result<Given>> {
        self.read_directory(path, bench).boxed()
    }

    async fn read_directory(&self, path: &Path, bench: &mut Bench) -> Result<Given> {
        let package = path.join("package.toml");
        if let Some(text) = self.sources.text(&package).await? {
            let package = Package::parse(&package.display().to_string(), &text).map_err(broken)?;
            for module in &package.dependencies {
                let place = if module.uri.is_empty() { &module.image } else { &module.uri };
                self.given(place, path, bench).await?;
            }
            if !matches!(package.buildpack.uri.as_str(), "" | "." | "./") {
                return self.given(&package.buildpack.uri, path, bench).await;
            }
        }
        let taken = Tree::of(self.sources.directory(path).await?, |_, _| true, true)?;
        let taken = taken.of_platform(&build::Platform::host());
        self.add(taken, &path.display().to_string(), bench).await
    }

    /// Takes a buildpack's directory as it is now.
    async fn add_unpacked(&self, from: &Path, name: &str, bench: &mut Bench) -> Result<Given> {
        let from = from.to_owned();
        let scanned = tokio::task::spawn_blocking(move || {
            ContextTree::scan(&from, Ignore::default(), StatCache::default()).map_err(|e| Fault::usage(e.to_string()))
        });
        let scanned = scanned.await.map_err(|e| Fault::from_error(Class::Internal, &e))??;
        let taken = Tree::of(scanned, |_, _| true, true)?.of_platform(&build::Platform::host());
        self.add(taken, name, bench).await
    }

    /// Takes a buildpack's files.
    async fn add(&self, taken: Tree, name: &str, bench: &mut Bench) -> Result<Given> {
        let place = bench.place()?;
        taken.write(self.shop, &place).await?;
        let file = format!("{name}/buildpack.toml");
        let text = std::fs::read_to_string(place.join("buildpack.toml"))
            .map_err(|e| Fault::usage(format!("{name} is no buildpack: cannot read buildpack.toml: {e}")))?;
        let descriptor = Descriptor::parse(&file, &text).map_err(broken)?;
        let found = entry(&descriptor.id, &descriptor.version);
        bench.add(descriptor, place, taken.identity)?;
        Ok(found)
    }

    /// A buildpack that the project's file names.
    pub(super) async fn named(&self, named: &Named, file: &Path, bench: &mut Bench) -> Result<Given> {
        let here = file.parent().map(Path::to_owned).unwrap_or_else(|| PathBuf::from("."));
        if named.script.is_some() {
            let place = tree::made(bench.place()?)?;
            project::script(named, &place)?;
            return self.add_unpacked(&place, &format!("{}: {}", file.display(), named.id), bench).await;
        }
        match named.uri.is_empty() {
            true => Ok(entry(&named.id, &named.version)),
            false => self.given(&named.uri, &here, bench).await,
        }
    }
}

/// How archives of buildpacks are unpacked: everything belongs to who builds.
fn archive() -> ApplyOptions {
    ApplyOptions { whiteouts: Whiteouts::Plain, owners: false, max_bytes: 4 << 30, ..ApplyOptions::default() }
}
