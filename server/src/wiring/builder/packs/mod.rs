//! `shipway build --buildpack`: an application becomes an image by Cloud Native Buildpacks, on this machine and without a daemon.
//!
//! What is decided stands in the package `buildpack`; here it is done: builder and buildpacks are brought, their programs run in the
//! sandbox, layers go into the local store.

mod bindings;
mod builder;
mod cache;
mod engine;
mod export;
mod project;
pub mod rebase;
mod runner;
mod source;
pub mod sources;
mod tree;
mod volumes;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::FutureExt;
use image::Registry;
use store::{Blobs, Records};

use super::{Built, Home, Request, Work, attest, epoch, names, output};
use crate::{
    fault::{Class, Fault, Result},
    wiring::workshop::Workshop,
};

pub use bindings::Bindings;
pub use builder::SCRATCH;
pub use cache::kept;
pub use engine::{Engine, Wish};
pub use export::documents;
pub use tree::Tree;
pub use volumes::Volume;

/// Where images, blobs and what is remembered lie.
#[derive(Clone, Copy)]
pub struct Shelf<'a> {
    pub records: &'a Records,
    pub blobs: &'a Arc<dyn Blobs>,
    pub registry: &'a Registry,
}

impl Home {
    pub(in crate::wiring) fn shelf(&self) -> Shelf<'_> {
        Shelf { records: &self.records, blobs: &self.blobs, registry: &self.registry }
    }
}

impl Workshop {
    pub(in crate::wiring) fn shelf(&self) -> Shelf<'_> {
        Shelf { records: &self.records, blobs: &self.blobs, registry: &self.registry }
    }
}

/// What a person asks of buildpacks.
#[derive(Debug, Clone, Default)]
pub struct Packs {
    /// Also where nothing is asked for, and the context has no Dockerfile.
    pub automatic: bool,
    /// In their order; none for the builder's order.
    pub buildpacks: Vec<String>,
    pub builder: Option<String>,
    /// Where neither the command nor the project names one.
    pub default_builder: Option<String>,
    pub run_image: Option<String>,
    pub env: BTreeMap<String, String>,
    pub descriptor: Option<PathBuf>,
    /// The process that the image starts.
    pub process: Option<String>,
    /// The image to take layers of, in place of the last one of the same name.
    pub previous: Option<String>,
    /// `production` where nothing is said.
    pub exec_env: Option<String>,
    pub volumes: Vec<Volume>,
}

/// The variable that names the builder of all builds that name none.
pub const BUILDER: &str = "SHIPWAY_BUILDER";

/// The builder of builds that name none, from the environment.
pub fn default_builder() -> Option<String> {
    std::env::var(BUILDER).ok().filter(|name| !name.is_empty())
}

impl Packs {
    /// Whether buildpacks are asked for by name.
    fn asked(&self) -> bool {
        !self.buildpacks.is_empty()
            || self.builder.is_some()
            || self.run_image.is_some()
            || self.descriptor.is_some()
            || self.process.is_some()
            || self.previous.is_some()
            || !self.volumes.is_empty()
            || !self.env.is_empty()
    }
}

/// An error of the package `buildpack`.
fn broken(error: buildpack::Error) -> Fault {
    use buildpack::Error as E;
    let class = match &error {
        E::Document { .. } | E::Unsupported { .. } | E::Image(_) => Class::Usage,
        E::Undetected { .. } | E::BuildFailed { .. } | E::Output { .. } => Class::Failed,
        E::Io { .. } | E::Runner(_) => Class::Unavailable,
    };
    Fault::from_error(class, &error)
}

/// Whether buildpacks make the image of this context.
pub fn wanted(request: &Request, root: &Path) -> Result<bool> {
    let packs = &request.packs;
    if packs.asked() {
        if request.file.is_some() {
            return Err(Fault::usage("a build is by a Dockerfile (--file) or by buildpacks, not by both"));
        }
        return Ok(true);
    }
    let none = ["Dockerfile", "Containerfile"].iter().all(|name| std::fs::symlink_metadata(root.join(name)).is_err());
    Ok(packs.automatic && none && request.file.is_none() && request.context != "-" && !request.check)
}

/// What is for Dockerfiles alone.
fn refuse(request: &Request) -> Result<()> {
    let given = [
        ("--target", request.target.is_some()),
        ("--build-arg", request.build_args.keys().any(|name| name != "SOURCE_DATE_EPOCH")),
        ("--build-context", !request.contexts.is_empty()),
        ("--ssh", !request.secrets.agents().is_empty()),
        ("--cache-to", !request.cache_to.is_empty()),
        ("--cache-from", !request.cache_from.is_empty()),
        ("--add-host", !request.hosts.is_empty()),
        ("--ulimit", !request.ulimits.is_empty()),
        ("--shm-size", request.shm_size.is_some()),
        ("--check", request.check),
        ("a context on standard input", request.context == "-"),
    ];
    if let Some((what, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Fault::usage(format!("{what} is for builds by Dockerfiles, and this one is by buildpacks")).hint(
            match *what {
                "--ssh" => {
                    "buildpacks know no agents: give a key as a service binding, --secret id=BINDING/ENTRY,src=FILE or \
                     --volume DIRECTORY:/platform/bindings/BINDING"
                }
                _ => "variables for buildpacks are given with --env, or in project.toml",
            },
        ));
    }
    let host = build::Platform::host();
    match request.platforms.iter().find(|platform| **platform != host) {
        Some(other) => Err(Fault::usage(format!("buildpacks run on this machine's platform, {host}, not on {other}"))),
        None => Ok(()),
    }
}

impl Work<'_> {
    /// Builds by buildpacks.
    pub(super) async fn packs(&mut self, root: &Path) -> Result<Built> {
        refuse(self.request)?;
        let secrets = bindings::Bindings::read(&self.request.secrets).await?;
        let started = (self.home.clock)();
        let dates = epoch::Dates::of(root.to_owned(), self.request.build_args.get("SOURCE_DATE_EPOCH")).await?;
        let shop = self.shop().await?.clone();
        let request = self.request;
        let annotations = request.annotations_of(&build::Platform::host());
        let engine = Engine {
            shop: &shop,
            wish: Wish {
                packs: &request.packs,
                tags: &request.tags,
                labels: &request.labels,
                annotations: &annotations,
                packing: &request.packing,
                secrets: &secrets,
                network: request.network,
                fresh: request.fresh.is_some(),
                epoch: dates.image,
                identity: dates.identity(),
                cache: self.cache_name(root),
                into: names::UNTAGGED.to_owned(),
            },
            sources: &sources::Person { work: self, root },
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
        };
        let packed = engine.build().boxed_local().await?;
        let mut built = Built { done: packed.done, cached: packed.known.unwrap_or_default(), ..Built::default() };
        if request.attest != attest::Attest::default() {
            let about = attest::About {
                digest: &packed.made.1,
                platform: &build::Platform::host(),
                build_type: attest::BUILDPACKS,
                epoch: dates.image.unwrap_or(buildpack::export::EPOCH),
                bases: packed.bases,
                remotes: Vec::new(),
                text: &packed.text,
                started,
                finished: (self.home.clock)(),
            };
            attest::attach(self.home, request, &about).await?;
        }
        let made = packed.made;
        let (repository, digest, config) = made;
        (built.repository, built.digest, built.config) = (repository, Some(digest), Some(config));
        self.give_names(&mut built).await?;
        self.pack_outputs(&shop, &built).await?;
        Ok(built)
    }

    async fn pack_outputs(&mut self, shop: &Workshop, built: &Built) -> Result<()> {
        let request = self.request;
        for output in &request.outputs {
            let cancel = self.cancel.clone();
            self.progress.note(&format!("writing {output}"));
            let mut top = String::new();
            if !output.kind.needs_image()
                && let Some(digest) = &built.digest
            {
                let unpacked = shop.images.unpack(&built.repository, digest).await;
                let unpacked = unpacked.map_err(|text| Fault::new(Class::Unavailable, text))?;
                top = unpacked.top.unwrap_or_default();
            }
            let written = output::write(self.home, Some(shop), output, &top, built, &request.tags);
            Self::unless_cancelled(&cancel, written).await?;
        }
        Ok(())
    }

    /// Under which name caches are kept: that of the image without its tag, which is another one for each build.
    fn cache_name(&self, root: &Path) -> String {
        match self.request.tags.first().or(self.request.steady.first()) {
            Some(tag) => format!("image {}", names::repository(tag)),
            None => format!("context {}", root.display()),
        }
    }
}
