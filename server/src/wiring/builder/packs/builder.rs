//! What a builder has: the build image, its buildpacks and their order, its run images; from an image or from a directory.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use build::ResolvedBase;
use buildpack::{
    Place,
    descriptor::{self, Descriptor, Order, RunImage},
    detect::{Available, Catalog},
    labels,
};
use futures::FutureExt;
use sandbox::{Mount, MountKind, View};

use super::{Engine, broken, engine, runner::unique, sources::Found, tree::failed};
use crate::{
    fault::{Class, Fault, Result},
    wiring::executor::Root,
};

/// The most bytes of a descriptor in an image, and the most buildpacks of one.
const MOST_TEXT: u64 = 1 << 20;
const MOST_BUILDPACKS: usize = 4_096;

/// Where builds have their files, below a data directory.
pub const SCRATCH: &str = "buildpacks";

/// Where buildpacks lie in builders.
pub const BUILDPACKS: &str = "/cnb/buildpacks";

/// The buildpacks at hand, and what keeps them there.
pub struct Bench {
    /// Gone with the build.
    pub directory: tempfile::TempDir,
    pub catalog: Catalog,
    pub mounts: Vec<Mount>,
    /// What they are, by content.
    pub identity: Vec<String>,
    views: Vec<View>,
    next: usize,
}

/// A builder that is at hand.
pub struct Builder {
    pub name: String,
    pub image: ResolvedBase,
    /// The snapshot of the build image.
    pub top: String,
    /// Who runs buildpacks.
    pub owner: (u32, u32),
    pub env: Vec<(String, String)>,
    pub order: Order,
    pub runs: Vec<RunImage>,
    /// The operator's variables on this machine: `/cnb/build-config`.
    pub build_config: Option<PathBuf>,
}

impl Bench {
    /// A place for the build's files. What a build that was killed left is swept away when the workshop is opened.
    pub fn new(data: &Path) -> Result<Self> {
        let root = data.join(SCRATCH);
        std::fs::create_dir_all(&root).map_err(failed("make", &root))?;
        let directory = tempfile::tempdir_in(&root).map_err(failed("make a directory in", &root))?;
        let (catalog, mounts, identity, views) = (Catalog::default(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { directory, catalog, mounts, identity, views, next: 0 })
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new place for a buildpack.
    pub fn place(&mut self) -> Result<PathBuf> {
        self.next += 1;
        let parent = super::tree::made(self.at("buildpacks"))?;
        Ok(parent.join(self.next.to_string()))
    }

    /// Adds a buildpack of this machine, which containers are to see; it stands before one of the same version.
    pub fn add(&mut self, descriptor: Descriptor, host: PathBuf, identity: String) -> Result<()> {
        let version = &descriptor.version;
        if version.contains(['/', '\0']) || matches!(version.as_str(), "." | "..") {
            return Err(Fault::usage(format!("buildpack {}: `{version}` is no version", descriptor.id)));
        }
        let directory = if version.is_empty() { "0.0.0" } else { version };
        let inside = format!("{BUILDPACKS}/{}/{directory}", buildpack::escaped(&descriptor.id));
        self.mounts.retain(|mount| mount.target != inside);
        self.mounts.push(Mount { target: inside.clone(), kind: MountKind::Bind(host.clone()), readonly: true });
        self.catalog.all.retain(|one| (&one.descriptor.id, &one.descriptor.version) != (&descriptor.id, version));
        self.identity.push(format!("{} {identity}", descriptor.shown()));
        self.catalog.all.push(Available { descriptor, root: Place { host, inside } });
        Ok(())
    }

    /// The buildpacks of an image that is mounted as `view`. `seen` says that containers see them without a mount.
    pub fn add_image(&mut self, name: &str, view: View, identity: &str, seen: bool) -> Result<usize> {
        let root = Root::open(view.path()).map_err(failed("open", view.path()))?;
        let said = |e: std::io::Error| Fault::usage(format!("cannot read the buildpacks of {name}: {e}"));
        let list = |path: &str| -> Result<Vec<String>> {
            let place = match root.directory(Path::new(path)) {
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                    return Ok(Vec::new());
                }
                place => place.map_err(said)?,
            };
            let mut names = Vec::new();
            for entry in std::fs::read_dir(place.path()).map_err(said)? {
                names.extend(entry.map_err(said)?.file_name().into_string());
            }
            names.sort();
            Ok(names)
        };
        let mut count = 0;
        for id in list(BUILDPACKS)? {
            for version in list(&format!("{BUILDPACKS}/{id}"))? {
                let inside = format!("{BUILDPACKS}/{id}/{version}");
                let file = format!("{name}: {inside}/buildpack.toml");
                let Some(text) = read(&root, &format!("{inside}/buildpack.toml"), &file)? else { continue };
                // One that this Shipway does not understand does no harm unless somebody wants it.
                let descriptor = match Descriptor::parse(&file, &text) {
                    Ok(descriptor) => descriptor,
                    Err(error) => {
                        tracing::warn!(%error, "a buildpack of the builder is left out");
                        continue;
                    }
                };
                count += 1;
                if count > MOST_BUILDPACKS {
                    return Err(Fault::usage(format!("{name} holds more than {MOST_BUILDPACKS} buildpacks")));
                }
                let host = root.directory(Path::new(&inside)).and_then(|place| place.real()).map_err(said)?;
                match seen {
                    true => self.catalog.all.push(Available { descriptor, root: Place { host, inside } }),
                    false => self.add(descriptor, host, identity.to_owned())?,
                }
            }
        }
        self.views.push(view);
        Ok(count)
    }
}

/// A text of an image.
fn read(root: &Root, path: &str, file: &str) -> Result<Option<String>> {
    let said = |e: std::io::Error| Fault::usage(format!("cannot read {file}: {e}"));
    let content = match root.read(Path::new(path), MOST_TEXT + 1) {
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
        other => other.map_err(said)?,
    };
    match content {
        Some(content) if content.len() as u64 > MOST_TEXT => Err(Fault::usage(format!("{file} is too large"))),
        Some(content) => {
            String::from_utf8(content).map(Some).map_err(|_| Fault::usage(format!("{file} is not UTF-8 text")))
        }
        None => Ok(None),
    }
}

impl Engine<'_> {
    /// A mounted view of an image of the local store, and the key of its snapshot.
    pub(super) async fn mounted(&self, image: &ResolvedBase) -> Result<(View, String)> {
        let unpacked = self.shop.images.unpack(&image.repository, &image.digest).await;
        let unpacked = unpacked.map_err(|text| Fault::new(Class::Unavailable, text))?;
        let top = unpacked.top.ok_or_else(|| Fault::usage(format!("{} has no files", image.name)))?;
        let view = self.shop.sandbox.snapshots().view(&unique(), &top, false);
        Ok((view.map_err(|e| Fault::from_error(Class::Unavailable, &e))?, top))
    }

    /// The builder by its name: a directory with `builder.toml`, or an image.
    pub(super) async fn builder(&self, name: &str, bench: &mut Bench) -> Result<Builder> {
        if let Found::Directory(directory) = self.sources.find(&self.sources.here()?, name).await? {
            return self.builder_directory(name, &directory, bench).boxed().await;
        }
        let (mut builder, view) = self.build_image(name).await?;
        {
            let root = Root::open(view.path()).map_err(failed("open", view.path()))?;
            let text = |file: &str| read(&root, &format!("/cnb/{file}"), &format!("{name}: /cnb/{file}"));
            if let Some(order) = text("order.toml")? {
                builder.order = descriptor::parse_order(&format!("{name}: order.toml"), &order).map_err(broken)?;
            }
            builder.runs = match (text("run.toml")?, text("stack.toml")?) {
                (Some(run), _) => descriptor::parse_run(&format!("{name}: run.toml"), &run).map_err(broken)?,
                (None, Some(stack)) => {
                    descriptor::parse_stack(&format!("{name}: stack.toml"), &stack).map_err(broken)?
                }
                (None, None) => {
                    let config = serde_json::json!({ "config": { "Labels": builder.image.config.config.labels } });
                    let label = labels::read::<labels::Builder>(&config, labels::BUILDER).map_err(broken)?;
                    label.map(|label| label.run()).unwrap_or_default()
                }
            };
            let config = root.directory(Path::new("/cnb/build-config")).and_then(|place| place.real());
            builder.build_config = config.ok();
        }
        let identity = builder.image.digest.to_string();
        bench.add_image(name, view, &identity, true)?;
        Ok(builder)
    }

    /// The image that buildpacks run on.
    async fn build_image(&self, name: &str) -> Result<(Builder, View)> {
        let image = self
            .sources
            .image(name)
            .await
            .map_err(|fault| Fault { message: format!("the builder {name}: {}", fault.message), ..fault })?;
        let (view, top) = self.mounted(&image).await?;
        let split = |entry: &String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env: Vec<(String, String)> = image.config.config.env.iter().filter_map(split).collect();
        let number = |wanted: &str| -> Result<u32> {
            let found = env.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.parse().ok());
            found.ok_or_else(|| {
                Fault::usage(format!("{name} is no image for buildpacks: its environment has no number {wanted}"))
                    .hint("take a builder, or set CNB_USER_ID and CNB_GROUP_ID in the image: who runs buildpacks")
            })
        };
        let owner = (number("CNB_USER_ID")?, number("CNB_GROUP_ID")?);
        let (order, runs) = (Vec::new(), Vec::new());
        Ok((Builder { name: name.to_owned(), image, top, owner, env, order, runs, build_config: None }, view))
    }

    async fn builder_directory(&self, name: &str, directory: &Path, bench: &mut Bench) -> Result<Builder> {
        let file = directory.join("builder.toml");
        let text = self.sources.text(&file).await?.ok_or_else(|| {
            Fault::usage(format!("{name} is no builder: it has no builder.toml"))
                .hint("a directory for --builder has builder.toml; one buildpack is named with --buildpack")
        })?;
        let toml = descriptor::Builder::parse(&file.display().to_string(), &text).map_err(broken)?;
        if toml.build.image.is_empty() {
            return Err(Fault::usage(format!("{} names no image to build on", file.display()))
                .hint("add [build] with image = \"…\""));
        }
        let (mut builder, view) = self.build_image(&toml.build.image).await?;
        // What the build image holds itself is at hand too.
        let identity = builder.image.digest.to_string();
        bench.add_image(&toml.build.image, view, &identity, true)?;
        for module in &toml.buildpacks {
            let place = if module.uri.is_empty() { &module.image } else { &module.uri };
            if place.is_empty() {
                return Err(Fault::usage(format!("{}: a buildpack has neither uri nor image", file.display())));
            }
            self.given(place, directory, bench).await?;
        }
        builder.name = name.to_owned();
        builder.order = toml.order;
        builder.runs = toml.run.images;
        if !toml.build.env.is_empty() {
            let place = super::tree::made(bench.at("build-config").join("env"))?;
            let mut all = BTreeMap::new();
            for one in &toml.build.env {
                let suffix = if one.suffix.is_empty() { "default" } else { &one.suffix };
                all.insert(format!("{}.{suffix}", one.name), one.value.clone());
                if !one.delim.is_empty() {
                    all.insert(format!("{}.delim", one.name), one.delim.clone());
                }
            }
            engine::write_variables(&place, &all)?;
            bench.identity.push(format!("build-config {all:?}"));
            builder.build_config = Some(bench.at("build-config"));
        }
        Ok(builder)
    }
}
