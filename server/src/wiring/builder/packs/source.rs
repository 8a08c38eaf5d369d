//! Buildpacks that are named: directories, archives, images, addresses, and those that the builder has.

use std::path::{Path, PathBuf};

use build::{Fetched, Remote};
use buildpack::{
    descriptor::{Descriptor, GroupEntry, Package},
    labels,
    project::Named,
};
use image::layer::{ApplyOptions, Whiteouts, apply, apply_blob};

use super::{
    super::{Work, load, remotes},
    broken,
    builder::Bench,
    project, tree,
};
use crate::{
    fault::{Class, Fault, Result},
    wiring::workshop::Workshop,
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

impl Work<'_> {
    /// Makes a buildpack available, and says which it is. Paths are relative to `here`.
    pub(super) async fn given(&mut self, shop: &Workshop, text: &str, here: &Path, bench: &mut Bench) -> Result<Given> {
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
            return self.given_image(shop, image.trim_start_matches('/'), here, bench).await;
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return self.given_address(text, here, bench).await;
        }
        let path = here.join(text.strip_prefix("file://").unwrap_or(text));
        if path.is_dir() {
            return Box::pin(self.given_directory(shop, &path, bench)).await;
        }
        if path.is_file() {
            return self.given_file(shop, &path, bench).await;
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
        match self.given_image(shop, text, here, bench).await {
            Err(fault) if matches!(fault.class, Class::NotFound | Class::Unavailable) => {
                Err(missing(&format!(", and as an image: {}", fault.message)))
            }
            other => other,
        }
    }

    /// A buildpack in an image: a buildpackage.
    async fn given_image(&mut self, shop: &Workshop, name: &str, root: &Path, bench: &mut Bench) -> Result<Given> {
        let image = self.base(name, &build::Platform::host(), root).await?;
        let config = serde_json::json!({ "config": { "Labels": image.config.config.labels } });
        let label = labels::read::<labels::Buildpackage>(&config, labels::BUILDPACKAGE).map_err(broken)?;
        let (view, _) = self.mounted(shop, &image).await?;
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

    async fn given_address(&mut self, url: &str, here: &Path, bench: &mut Bench) -> Result<Given> {
        self.progress.note(&format!("fetching {url}"));
        let fetcher = self.home.fetcher();
        let remote = Remote::File { url: url.to_owned(), checksum: None };
        let fetched = Self::unless_cancelled(&self.cancel, remotes::fetch(&fetcher, &remote)).await?;
        let Fetched::File { digest, .. } = fetched else {
            return Err(Fault::usage(format!("{url} is no archive of a buildpack")));
        };
        let reader = self.home.blobs.read(&digest, 0, None).await?;
        let unpacked = tree::made(bench.place()?)?;
        let applied = apply_blob(reader, unpacked.clone(), archive()).await;
        applied.map_err(|e| Fault::usage(format!("{url} is no archive of a buildpack: {e}")))?;
        self.add_directory(&unpacked, url, here, bench).await
    }

    /// An archive of a directory, or an image as a file (`.cnb`).
    async fn given_file(&mut self, shop: &Workshop, path: &Path, bench: &mut Bench) -> Result<Given> {
        let shown = path.display().to_string();
        let loaded = match load::load(self.home, path).await {
            Ok(mut loaded) => loaded.pop(),
            Err(_) => None,
        };
        if let Some(loaded) = loaded {
            let name = format!("{}@{}", super::super::names::UNTAGGED, loaded.digest);
            return self.given_image(shop, &name, path, bench).await;
        }
        let unpacked = tree::made(bench.place()?)?;
        let (from, to) = (path.to_owned(), unpacked.clone());
        let applied = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(&from).map_err(tree::failed("open", &from))?;
            let applied = apply(std::io::BufReader::new(file), &to, &archive());
            applied.map_err(|e| Fault::usage(format!("{} is no archive of a buildpack: {e}", from.display())))
        });
        applied.await.map_err(|e| Fault::from_error(Class::Internal, &e))??;
        self.add_directory(&unpacked, &shown, path, bench).await
    }

    async fn given_directory(&mut self, shop: &Workshop, path: &Path, bench: &mut Bench) -> Result<Given> {
        let package = path.join("package.toml");
        if let Ok(text) = std::fs::read_to_string(&package) {
            let package = Package::parse(&package.display().to_string(), &text).map_err(broken)?;
            for module in &package.dependencies {
                let place = if module.uri.is_empty() { &module.image } else { &module.uri };
                self.given(shop, place, path, bench).await?;
            }
            if !matches!(package.buildpack.uri.as_str(), "" | "." | "./") {
                return self.given(shop, &package.buildpack.uri, path, bench).await;
            }
        }
        self.add_directory(path, &path.display().to_string(), path, bench).await
    }

    /// Takes a buildpack's directory as it is now.
    async fn add_directory(&mut self, from: &Path, name: &str, _: &Path, bench: &mut Bench) -> Result<Given> {
        let from = std::fs::canonicalize(from).map_err(tree::failed("open", from))?;
        let taken = self.tree(&from, |_, _| true, true).await?;
        let place = bench.place()?;
        taken.write(self.home, &place).await?;
        let file = format!("{name}/buildpack.toml");
        let text = std::fs::read_to_string(place.join("buildpack.toml"))
            .map_err(|e| Fault::usage(format!("{name} is no buildpack: cannot read buildpack.toml: {e}")))?;
        let descriptor = Descriptor::parse(&file, &text).map_err(broken)?;
        let found = entry(&descriptor.id, &descriptor.version);
        bench.add(descriptor, place, taken.identity)?;
        Ok(found)
    }

    /// A buildpack that the project's file names.
    pub(super) async fn named(
        &mut self,
        shop: &Workshop,
        named: &Named,
        file: &Path,
        bench: &mut Bench,
    ) -> Result<Given> {
        let here = file.parent().map(Path::to_owned).unwrap_or_else(|| PathBuf::from("."));
        if named.script.is_some() {
            let place = tree::made(bench.place()?)?;
            project::script(named, &place)?;
            return self.add_directory(&place, &format!("{}: {}", file.display(), named.id), &here, bench).await;
        }
        match named.uri.is_empty() {
            true => Ok(entry(&named.id, &named.version)),
            false => self.given(shop, &named.uri, &here, bench).await,
        }
    }
}

/// How archives of buildpacks are unpacked: everything belongs to who builds.
fn archive() -> ApplyOptions {
    ApplyOptions { whiteouts: Whiteouts::Plain, owners: false, max_bytes: 4 << 30, ..ApplyOptions::default() }
}
