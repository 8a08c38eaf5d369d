//! `shipway build`: a Dockerfile and a context on this machine, to an image in the local store and wherever else it is to go.

pub mod attest;
mod bases;
pub mod cache;
mod catalog;
pub mod describe;
mod epoch;
mod home;
mod keys;
pub mod load;
pub mod names;
pub mod output;
mod packed;
pub mod packs;
pub mod platforms;
mod relaxed;
pub mod remotes;
mod secrets;
mod several;
mod trace;
mod watch;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use build::{
    Attempt, ContextTree, Fresh, Ignore, Lowered, Named, Plan, ResolvedBase, StatCache, diagnostic::Diagnostic,
    dockerfile::Dockerfile,
};
use data_encoding::HEXLOWER;
use futures::{FutureExt, StreamExt, TryStreamExt, future::Either};
use graph::{Cancel, Graph, Network};
use image::Reference;
use records::{Digest, Timestamp};
use store::{Change, Expect};
use tokio::sync::OnceCell;

use super::{layers, local, workshop::Workshop};
use crate::fault::{Class, Fault, Result};

pub use home::{Home, Isolation, Place};
use names::repository;
pub use secrets::Store;
pub use several::{Among, Part, build, build_all};
pub use trace::Recorder;
pub use watch::{Happening, Progress};

/// How long containers have to end.
const END: Duration = Duration::from_secs(30);

/// Layers that are written at the same time.
const LAYERS: usize = 4;

/// What is built, and how.
#[derive(Default)]
pub struct Request {
    /// A directory, `-` for an archive or a Dockerfile on standard input, or an address of a git repository or of an archive.
    pub context: String,
    /// Relative to where the command runs; inside the context where none is named.
    pub file: Option<PathBuf>,
    /// A Dockerfile that is no file, in place of `file`: what errors call it, and its text.
    pub inline: Option<(String, String)>,
    pub target: Option<String>,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Further annotations of the images for one platform: platform, name, value.
    pub platform_annotations: Vec<(build::Platform, String, String)>,
    /// Annotations of what the index says of the images, of one platform or of all.
    pub descriptor_annotations: Vec<(Option<build::Platform>, String, String)>,
    /// `name` to a directory, `docker-image://reference`, or an address of a git repository or of an archive.
    pub contexts: BTreeMap<String, String>,
    pub tags: Vec<Reference>,
    /// Those of them that stay with the image that they were given first.
    pub steady: Vec<Reference>,
    /// None for this machine's own; with several the result is an index.
    pub platforms: Vec<build::Platform>,
    pub secrets: Store,
    pub network: Network,
    /// What commands find in `/etc/hosts`, their limits, and the bytes of `/dev/shm`.
    pub hosts: Vec<(String, std::net::IpAddr)>,
    pub ulimits: Vec<graph::Ulimit>,
    pub shm_size: Option<u64>,
    /// Images are asked for again where they come from.
    pub pull: bool,
    /// Stages that are built anew: `Some` of none for all.
    pub fresh: Option<Vec<String>>,
    /// Nothing is built: what is unwise is told.
    pub check: bool,
    pub outputs: Vec<output::Output>,
    pub packing: output::Packing,
    /// Where results go to, and come from, besides the local store.
    pub cache_to: Vec<cache::To>,
    pub cache_from: Vec<cache::Where>,
    pub attest: attest::Attest,
    /// What buildpacks are asked for, where they are.
    pub packs: packs::Packs,
    /// Annotations of the index.
    pub index_annotations: BTreeMap<String, String>,
}

impl Request {
    /// The annotations of the image for a platform.
    fn annotations_of(&self, platform: &build::Platform) -> BTreeMap<String, String> {
        let own = self.platform_annotations.iter().filter(|(of, ..)| of == platform);
        let own = own.map(|(_, name, value)| (name.clone(), value.clone()));
        self.annotations.clone().into_iter().chain(own).collect()
    }
}

/// The platform that a configuration is for.
fn platform_of(config: &build::ImageConfig) -> build::Platform {
    let (os, architecture) = (config.os.clone(), config.architecture.clone());
    build::Platform { os, architecture, variant: config.variant.clone() }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Built {
    /// Of the manifest; `None` when only checks or files were asked for.
    pub digest: Option<Digest>,
    pub config: Option<Digest>,
    pub repository: String,
    pub names: Vec<String>,
    pub warnings: Vec<build::Warning>,
    /// Vertices that were done, and those that an earlier build had done.
    pub done: usize,
    pub cached: usize,
}

/// The kind under which whole builds are remembered.
const BUILT: &str = "build/image";
/// The kind under which the vertices of an image's build are kept, by its digest: what `prune` leaves.
const USES: &str = "build/uses";

struct Work<'a> {
    home: &'a Home,
    request: &'a Request,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
    /// Opened when it is first needed; builds that belong together have one.
    shop: Arc<OnceCell<Workshop>>,
    /// No other build has the same workshop.
    alone: bool,
    /// Contexts that were unpacked for this build.
    held: Vec<tempfile::TempDir>,
}

/// One platform that is built for.
struct Target {
    platform: build::Platform,
    plan: Plan,
    /// What was fetched for it.
    remotes: Vec<String>,
}

/// A base of which only the name is known.
fn unknown(name: &str) -> ResolvedBase {
    let mut config = build::ImageConfig::default();
    "?".clone_into(&mut config.config.user);
    let digest = Digest::sha256(&[0; 32]);
    ResolvedBase { name: name.to_owned(), repository: String::new(), digest, config, layers: Vec::new() }
}

/// An image in the local store: repository, digest of the manifest, digest of the configuration.
type Made = (String, Digest, Digest);

/// The vertices that images are made of.
fn wanted(lowered: &[Lowered]) -> Vec<usize> {
    let of = |lowered: &Lowered| {
        std::iter::once(lowered.result)
            .chain(lowered.layer_vertices.iter().map(|(vertex, _)| *vertex))
            .collect::<Vec<_>>()
    };
    lowered.iter().flat_map(of).collect()
}

/// The time of an image, in seconds since 1970.
fn image_epoch(dates: &epoch::Dates, lowered: &Lowered) -> i64 {
    dates.image.unwrap_or_else(|| lowered.base.as_ref().map_or(0, |base| layers::base_epoch(&base.config)))
}

/// What went wrong with something that the Dockerfile names, at the place where it names it.
pub fn at(place: Diagnostic, fault: Fault) -> Fault {
    let class = match fault.class {
        Class::Signalled(_) | Class::Internal => return fault,
        // A name that stands for nothing is a mistake in the file.
        Class::NotFound => Class::Usage,
        other => other,
    };
    let hint = place.hint.clone().or(fault.hint);
    Fault::new(class, Diagnostic { reason: fault.message, hint, ..place }.to_string())
}

/// Where the context is.
struct Root {
    path: PathBuf,
    /// What errors call it where it is no directory of the person's own.
    name: String,
    /// The Dockerfile, where that was all there is.
    text: Option<String>,
}

/// The files to build from.
struct Ground {
    root: PathBuf,
    text: String,
    /// What errors call the Dockerfile.
    name: String,
    tree: ContextTree,
}

impl Work<'_> {
    async fn shop(&self) -> Result<&Workshop> {
        self.shop.get_or_try_init(|| self.home.workshop()).await
    }

    /// Lets Ctrl-C end what waits for other machines.
    async fn unless_cancelled<T>(cancel: &Cancel, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(local::cancelled(cancel)),
            done = work => done,
        }
    }

    async fn build(&mut self) -> Result<Built> {
        let request = self.request;
        let started = (self.home.clock)();
        let Root { path: root, name, text } = self.root().await?;
        if packs::wanted(request, &root)? {
            return self.packs(&root).await;
        }
        // Git is asked while the files are looked at.
        let dates = epoch::Dates::of(root.clone(), request.build_args.get("SOURCE_DATE_EPOCH"));
        let (ground, dates) = tokio::try_join!(self.ground(root, name, text), dates)?;
        let file = build::dockerfile::parse(&ground.name, &ground.text).map_err(|e| Fault::usage(e.to_string()))?;
        let mut built = Built::default();
        let mut targets = Vec::new();
        let mut platforms = request.platforms.clone();
        if platforms.is_empty() {
            platforms.push(build::Platform::host());
        }
        for platform in platforms {
            let (plan, remotes) = self.plan(&ground, &file, &dates, &platform).await?;
            for warning in &plan.warnings {
                if !built.warnings.contains(warning) {
                    self.progress.warning(warning);
                    built.warnings.push(warning.clone());
                }
            }
            targets.push(Target { platform, plan, remotes });
        }
        if request.check {
            return Ok(built);
        }
        if targets.iter().any(|target| target.plan.warnings_fail) && !built.warnings.is_empty() {
            let warnings = if built.warnings.len() == 1 { "warning" } else { "warnings" };
            let count = built.warnings.len();
            let message = format!("{} says check=error=true, and has {count} {warnings}", ground.name);
            return Err(Fault::new(Class::Failed, message)
                .hint("mend what they name, or leave them out with # check=skip=RULE"));
        }
        platforms::check(targets.iter().flat_map(|target| &target.plan.foreign))?;
        self.make(&targets, &dates, &mut built, &ground.text, started).await?;
        Ok(built)
    }

    /// What is to be done for one platform, and what was fetched for it.
    async fn plan(
        &mut self,
        ground: &Ground,
        file: &Dockerfile,
        dates: &epoch::Dates,
        platform: &build::Platform,
    ) -> Result<(Plan, Vec<String>)> {
        let mut options = self.options(dates.image, platform).await?;
        let bases = self.bases(file, &options, &ground.root).await?;
        let cancel = self.cancel.clone();
        let plan = loop {
            // What is copied is hashed now.
            let (tree, ready) = (&ground.tree, &options);
            let span = tracing::info_span!("hash");
            let attempt = tokio::task::block_in_place(|| build::lower_or_needs(file, tree, ready, &bases));
            drop(span);
            match attempt.map_err(|e| Fault::usage(e.to_string()))? {
                Attempt::Ready(plan) => break *plan,
                Attempt::Needs(remotes) => {
                    for (remote, place) in remotes {
                        if let (true, build::Remote::File { url, .. }) = (self.request.check, &remote) {
                            // Nothing is copied, so nothing of it needs to be here but its name.
                            let path = url.split(['?', '#']).next().unwrap_or_default();
                            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                            let fetched = build::Fetched::File { digest: Digest::sha256(&[0; 32]), name };
                            options.remotes.insert(remote, fetched);
                            continue;
                        }
                        self.progress.note(&format!("fetching {remote}"));
                        let _span = tracing::info_span!("fetch", from = %remote);
                        let fetcher = self.home.fetcher();
                        let fetched = Self::unless_cancelled(&cancel, remotes::fetch(&fetcher, &remote)).await;
                        let fetched = fetched.map_err(|fault| at(place, fault))?;
                        options.remotes.insert(remote, fetched);
                    }
                }
            }
        };
        ground.tree.save_cache();
        let mut remotes: Vec<String> = options.remotes.keys().map(ToString::to_string).collect();
        remotes.sort();
        Ok((plan, remotes))
    }

    /// Where the context is.
    async fn root(&mut self) -> Result<Root> {
        let (home, context) = (self.home, self.request.context.as_str());
        let git = build::is_git(context) || context.contains('#');
        Ok(if context == "-" {
            if self.request.file.as_deref() == Some(Path::new("-")) {
                let fault = Fault::usage("the context and the Dockerfile cannot both be read from standard input");
                return Err(fault.hint("put the Dockerfile into the archive, and name it there with -f"));
            }
            let name = "standard input";
            let packed = tokio::task::block_in_place(|| packed::read(home, std::io::stdin().lock(), name))?;
            self.unpacked(packed, name)?
        } else if build::is_remote(context) && !git {
            self.progress.note(&format!("fetching {context}"));
            let packed = Self::unless_cancelled(&self.cancel, packed::fetch(home, context)).await?;
            self.unpacked(packed, context.split('?').next().unwrap_or(context))?
        } else if build::is_remote(context) {
            self.progress.note(&format!("fetching {context}"));
            let checkout =
                Self::unless_cancelled(&self.cancel, remotes::git(&home.fetcher(), context, None, false)).await?;
            let path = checkout.root.join(&checkout.directory);
            let name = format!("{} at {}", context.split(['#', '?']).next().unwrap_or(context), &checkout.commit[..12]);
            Root { path, name, text: None }
        } else {
            let root = std::fs::canonicalize(context)
                .map_err(|e| Fault::usage(format!("cannot open the build context {context}: {e}")))?;
            Root { path: root, name: String::new(), text: None }
        })
    }

    /// A context that came as one file. Beside a Dockerfile alone there are no files.
    fn unpacked(&mut self, packed: packed::Packed, name: &str) -> Result<Root> {
        let name = name.to_owned();
        match packed {
            packed::Packed::Files(directory) => {
                let path = directory.path().to_owned();
                self.held.push(directory);
                Ok(Root { path, name, text: None })
            }
            packed::Packed::Text(text) => {
                let path = self.home.data.join("empty");
                std::fs::create_dir_all(&path).map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
                Ok(Root { path, name, text: Some(text) })
            }
        }
    }

    /// The Dockerfile and the files that it may copy.
    async fn ground(&self, root: PathBuf, name: String, sole: Option<String>) -> Result<Ground> {
        let request = self.request;
        let context = request.context.as_str();
        let stdin = request.file.as_deref() == Some(Path::new("-"));
        let path = match &request.file {
            Some(file) if build::is_remote(context) || context == "-" => root.join(file),
            Some(file) => file.clone(),
            None => ["Dockerfile", "Containerfile"]
                .map(|name| root.join(name))
                .into_iter()
                .find(|p| p.exists())
                .unwrap_or_else(|| root.join("Dockerfile")),
        };
        let (text, shown) = if let Some((name, text)) = &request.inline {
            (text.clone(), name.clone())
        } else if let Some(text) = sole {
            (text, name)
        } else if stdin {
            (read_bounded(std::io::stdin().lock(), "standard input")?, "standard input".to_owned())
        } else {
            let file = std::fs::File::open(&path).map_err(|e| {
                let shown = match (name.is_empty(), path.strip_prefix(&root)) {
                    (false, Ok(inside)) => format!("{} of {name}", inside.display()),
                    _ => path.display().to_string(),
                };
                Fault::usage(format!("cannot open {shown}: {e}")).hint("name the Dockerfile with -f")
            })?;
            let here = std::env::current_dir().unwrap_or_default();
            let relative = path.strip_prefix(&here).unwrap_or(&path).display().to_string();
            let relative = if name.is_empty() { relative } else { format!("{name}: Dockerfile") };
            (read_bounded(file, &relative)?, relative)
        };
        // An ignore file of the Dockerfile's own stands beside it, wherever that is.
        let mut own = path.clone().into_os_string();
        own.push(".dockerignore");
        let mut ignore = Ignore::default();
        for candidate in [PathBuf::from(own), root.join(".dockerignore")] {
            match std::fs::read_to_string(&candidate) {
                Ok(text) => {
                    let name = candidate.strip_prefix(&root).unwrap_or(&candidate).display().to_string();
                    ignore = Ignore::parse(&name, &text).map_err(|e| Fault::usage(e.to_string()))?;
                    break;
                }
                Err(error)
                    if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(Fault::usage(format!("cannot read {}: {error}", candidate.display()))),
            }
        }
        let tree = self.scan(&root, ignore).await?;
        Ok(Ground { root, text, name: shown, tree })
    }

    async fn scan(&self, root: &Path, ignore: Ignore) -> Result<ContextTree> {
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, root.as_os_str().as_encoded_bytes());
        let name: String = HEXLOWER.encode(&sum.as_ref()[..12]);
        let now = i64::try_from((self.home.clock)().as_nanosecond()).unwrap_or_default();
        let cache = match packed::holds(self.home, root) {
            true => StatCache::default(),
            false => StatCache::new(self.home.data.join("contexts").join(name), now),
        };
        let root = root.to_owned();
        let _span = tracing::info_span!("scan");
        let scanned = tokio::task::spawn_blocking(move || ContextTree::scan(&root, ignore, cache)).await;
        scanned.map_err(|e| Fault::from_error(Class::Internal, &e))?.map_err(|e| Fault::usage(e.to_string()))
    }

    async fn options(&mut self, epoch: Option<i64>, platform: &build::Platform) -> Result<build::Options> {
        let request = self.request;
        let mut options = build::Options {
            target: request.target.clone(),
            build_args: request.build_args.clone(),
            labels: request.labels.clone(),
            source_date_epoch: epoch,
            several_platforms: request.platforms.len() > 1,
            secrets: Some(request.secrets.ids()),
            agents: Some(request.secrets.agents()),
            network: request.network,
            hosts: request.hosts.clone(),
            ulimits: request.ulimits.clone(),
            shm_size: request.shm_size,
            platform: platform.clone(),
            fresh: request.fresh.clone().map(|stages| Fresh { stages, nonce: (self.home.clock)().to_string() }),
            ..build::Options::default()
        };
        for (name, place) in &request.contexts {
            let named = if let Some(image) = place.strip_prefix("docker-image://") {
                Named::Image(image.to_owned())
            } else if let Some(layout) = place.strip_prefix("oci-layout://") {
                Named::Image(load::layout(self.home, name, layout).await?)
            } else if build::is_remote(place) && !build::is_git(place) && !place.contains('#') {
                let packed = Self::unless_cancelled(&self.cancel, packed::fetch(self.home, place)).await?;
                let packed::Packed::Files(directory) = packed else {
                    return Err(Fault::usage(format!("the context {name}={place} is no archive")));
                };
                let tree = self.scan(directory.path(), Ignore::default()).await?;
                self.held.push(directory);
                Named::Tree(Box::new(tree))
            } else if build::is_remote(place) {
                let checkout =
                    Self::unless_cancelled(&self.cancel, remotes::git(&self.home.fetcher(), place, None, false))
                        .await?;
                Named::Tree(Box::new(self.scan(&checkout.root.join(&checkout.directory), Ignore::default()).await?))
            } else {
                let root = std::fs::canonicalize(place)
                    .map_err(|e| Fault::usage(format!("cannot open the context {name}={place}: {e}")))?;
                Named::Tree(Box::new(self.scan(&root, Ignore::default()).await?))
            };
            options.contexts.insert(name.clone(), named);
        }
        Ok(options)
    }

    /// Every image that the build stands on, by digest.
    async fn bases(
        &mut self,
        file: &Dockerfile,
        options: &build::Options,
        root: &Path,
    ) -> Result<HashMap<String, ResolvedBase>> {
        let mut bases = HashMap::new();
        for build::BaseName { name, platform, place } in
            build::base_names(file, options).map_err(|e| Fault::usage(e.to_string()))?
        {
            let cancel = self.cancel.clone();
            let span = tracing::info_span!("base", name);
            let found = Self::unless_cancelled(&cancel, self.base(&name, &platform, root)).await;
            drop(span);
            let found = match found {
                // What is unwise in a file can be told without its base; what runs as whom there, nobody knows.
                Err(fault) if self.request.check && fault.class == Class::Unavailable => {
                    self.progress
                        .note(&format!("{name} is not to be had, so nothing is said about it: {}", fault.message));
                    Ok(unknown(&name))
                }
                found => found,
            };
            drop(bases.insert(build::base_key(&name, &platform), found.map_err(|fault| at(place, fault))?));
        }
        Ok(bases)
    }

    async fn make(
        &mut self,
        targets: &[Target],
        dates: &epoch::Dates,
        built: &mut Built,
        text: &str,
        started: Timestamp,
    ) -> Result<()> {
        let request = self.request;
        let mut graph = Graph::new();
        let lowered: Vec<Lowered> = targets.iter().map(|target| target.plan.add_to(&mut graph, "build")).collect();
        let image = request.outputs.iter().any(|output| output.kind.needs_image()) || !request.tags.is_empty();
        let files = request.outputs.iter().any(|output| !output.kind.needs_image());
        let image = image || !files;
        let keys: Vec<String> = lowered.iter().map(|lowered| self.key(lowered, &graph, dates)).collect();
        let mut images: Vec<Option<Made>> = vec![None; targets.len()];
        if image && !files && request.cache_to.is_empty() {
            for (image, key) in images.iter_mut().zip(&keys) {
                *image = self.known(key).await?;
            }
        }
        if images.iter().all(Option::is_some) {
            built.cached = lowered.iter().map(|lowered| lowered.layer_vertices.len()).sum();
            let vertices = lowered.iter().flat_map(|lowered| &lowered.layer_vertices);
            let names = vertices.map(|(vertex, _)| graph.vertices()[*vertex].name.clone()).collect();
            self.progress.happened(&Happening::AllCached { names });
        } else {
            self.open_caches(&graph).await?;
            self.run(targets, &lowered, &graph, image.then_some(dates), built).await?;
            if self.alone {
                self.shop().await?.sandbox.end_network();
            }
            if image {
                self.progress.note("exporting layers");
                for ((made, lowered), key) in images.iter_mut().zip(&lowered).zip(&keys) {
                    if made.is_none() {
                        *made = Some(self.export(lowered, &graph, dates, key).await?);
                    }
                }
            }
        }
        let images: Vec<Made> = images.into_iter().flatten().collect();
        for ((made, target), lowered) in images.iter().zip(targets).zip(&lowered) {
            if request.attest == attest::Attest::default() {
                break;
            }
            let about = attest::About {
                digest: &made.1,
                platform: &target.platform,
                epoch: image_epoch(dates, lowered),
                build_type: attest::DOCKERFILE,
                bases: target.plan.base_references(),
                remotes: target.remotes.clone(),
                text,
                started,
                finished: (self.home.clock)(),
            };
            let _span = tracing::info_span!("attest");
            attest::attach(self.home, request, &about).await?;
        }
        match &images[..] {
            [] => {}
            [(repository, digest, config)] => {
                (built.repository, built.digest, built.config) =
                    (repository.clone(), Some(digest.clone()), Some(config.clone()));
            }
            several => {
                let index = describe::index(self.home, several, targets, request).await?;
                (built.repository, built.digest) = (names::UNTAGGED.to_owned(), Some(index));
            }
        }
        self.give_names(built).await?;
        self.write_caches(&graph, &lowered).await?;
        self.write_outputs(&graph, targets, &lowered, built).await
    }

    /// Gives the image its names.
    async fn give_names(&self, built: &mut Built) -> Result<()> {
        let request = self.request;
        if let Some(digest) = built.digest.clone() {
            for tag in &request.steady {
                let known = self.home.registry.resolve(&repository(tag), tag.tag.as_deref().unwrap_or_default()).await;
                if known.is_ok_and(|known| known != digest) {
                    return Err(names::taken(tag));
                }
            }
            for tag in &request.tags {
                let into = repository(tag);
                self.tag(&built.repository, &digest, &into, tag.tag.as_deref().unwrap_or("latest")).await?;
                built.names.push(tag.to_string());
            }
        }
        Ok(())
    }

    async fn write_caches(&mut self, graph: &Graph, lowered: &[Lowered]) -> Result<()> {
        let request = self.request;
        for to in &request.cache_to {
            let cancel = self.cancel.clone();
            self.progress.note(&format!("writing cache {}", to.place));
            let _span = tracing::info_span!("export cache", place = %to.place);
            let (home, shop) = (self.home, self.shop().await?.clone());
            let wanted = wanted(lowered);
            let count = Self::unless_cancelled(&cancel, cache::export(home, &shop, graph, &wanted, to)).await?;
            self.progress.note(&format!("cache {} has {count} results", to.place));
        }
        Ok(())
    }

    async fn write_outputs(
        &mut self,
        graph: &Graph,
        targets: &[Target],
        lowered: &[Lowered],
        built: &Built,
    ) -> Result<()> {
        let request = self.request;
        for output in &request.outputs {
            let cancel = self.cancel.clone();
            let shop = if output.kind.needs_image() { None } else { Some(self.shop().await?.clone()) };
            self.progress.note(&format!("writing {output}"));
            let _span = match output.kind {
                output::OutputKind::Registry => tracing::info_span!("push"),
                _ => tracing::info_span!("write", output = %output),
            };
            // Of files there is one for each platform; of an image one for all.
            let several = shop.is_some() && targets.len() > 1;
            for (target, lowered) in targets.iter().zip(lowered).take(if several { targets.len() } else { 1 }) {
                let result = graph.id(lowered.result).to_string();
                let of = if several { output.of_platform(&target.platform)? } else { output.clone() };
                let written = output::write(self.home, shop.as_ref(), &of, &result, built, &request.tags);
                Self::unless_cancelled(&cancel, written).await?;
            }
        }
        Ok(())
    }

    /// Opens the caches of other machines. One that cannot be read costs time and nothing else.
    async fn open_caches(&mut self, graph: &Graph) -> Result<()> {
        let (home, request, progress, cancel) = (self.home, self.request, self.progress.clone(), self.cancel.clone());
        if request.cache_from.is_empty() {
            return Ok(());
        }
        let shop = self.shop().await?;
        for place in &request.cache_from {
            let _span = tracing::info_span!("open cache", place = %place);
            let opened = shop.imports.open(place, home.client()?, &home.registry);
            match Self::unless_cancelled(&cancel, async { Ok(opened.await) }).await? {
                Ok(0) => progress.note(&format!("there is no cache at {place} yet")),
                Ok(count) => progress.note(&format!("cache {place} has {count} results")),
                Err(reason) => progress.note(&format!("cannot use the cache {place}: {reason}")),
            }
        }
        if let Err(reason) = shop.imports.mounts(graph, &shop.caches).await {
            progress.note(&format!("cannot fill the cache directories: {reason}"));
        }
        Ok(())
    }

    /// Does what is not done yet. With `dates` the layers of an image are to be made of it: each is compressed as soon as its files are
    /// there, while others are still worked on.
    async fn run(
        &mut self,
        targets: &[Target],
        lowered: &[Lowered],
        graph: &Graph,
        dates: Option<&epoch::Dates>,
        built: &mut Built,
    ) -> Result<()> {
        for (_, content) in targets.iter().flat_map(|target| &target.plan.inline) {
            store::blobs::put(&*self.home.blobs, content.clone()).await?;
        }
        let wanted = wanted(lowered);
        let watch = Arc::new(watch::Watch::new(graph, lowered, self.progress.clone(), self.home.clock.clone()));
        let (cancel, secrets) = (self.cancel.clone(), Arc::new(self.request.secrets.clone()));
        let options = graph::Options { secrets, cancel: cancel.clone(), fail_fast: true };
        let shop = self.shop().await?;
        // A command that was not run before will want the network, which takes a while to be made: files are written meanwhile. What goes
        // wrong with it comes up again where it is asked for.
        let wants_network = |vertex: usize| {
            matches!(&graph.vertices()[vertex].op, graph::Op::Exec(exec) if exec.network == Network::Bridge)
                && !shop.sandbox.snapshots().has(&graph.id(vertex).to_string())
        };
        if (0..graph.len()).any(wants_network) {
            let sandbox = shop.sandbox.clone();
            tokio::spawn(async move { drop(sandbox.network().await) });
        }
        let running = shop.scheduler.run(graph, &wanted, watch.clone(), options).boxed();
        let report = match dates {
            None => running.await,
            Some(dates) => {
                let ahead = self.layers(lowered, graph, dates, Some(&watch)).boxed_local();
                match futures::future::select(running, ahead).await {
                    Either::Left((report, ahead)) if report.failures().next().is_none() && !cancel.is_cancelled() => {
                        watch.all_ready(&wanted);
                        drop(ahead.await);
                        report
                    }
                    Either::Left((report, _)) => report,
                    // What went wrong comes up again when the image is made.
                    Either::Right((_, rest)) => rest.await,
                }
            }
        };
        (built.done, built.cached) = watch.counts();
        if cancel.is_cancelled() {
            return Err(local::cancelled(&cancel));
        }
        match report.failures().next() {
            Some((vertex, error)) => Err(Fault::new(Class::Failed, watch.reason(vertex, error))),
            None => Ok(()),
        }
    }

    /// The layers of images, one after the other. With `watch` each is begun when its files are there, else they are.
    async fn layers(
        &self,
        lowered: &[Lowered],
        graph: &Graph,
        dates: &epoch::Dates,
        watch: Option<&watch::Watch>,
    ) -> Result<Vec<Option<build::LayerInfo>>> {
        let (home, packing) = (self.home, &self.request.packing);
        let shop = self.shop().await?;
        let from = layers::Layers {
            snapshots: shop.sandbox.snapshots(),
            blobs: &home.blobs,
            log: &**home.records.log(),
            compression: packing.compression,
            level: packing.level,
        };
        let made = lowered.iter().flat_map(|lowered| {
            let base = lowered.base.as_ref().map_or(0, |base| layers::base_epoch(&base.config));
            let parts = lowered.layer_vertices.iter().zip(&lowered.layer_paths);
            parts.map(move |((vertex, _), paths)| (*vertex, paths, base))
        });
        let from = &from;
        let made = made.map(|(vertex, paths, base)| {
            async move {
                if let Some(watch) = watch {
                    watch.ready(vertex).await;
                }
                from.layer(&graph.id(vertex).to_string(), dates.layer(paths, base).await?).await
            }
            .boxed()
        });
        // Each compresses on all processors, and holds some megabytes: a few at a time.
        futures::stream::iter(made).buffered(LAYERS).try_collect().await
    }

    async fn export(&mut self, lowered: &Lowered, graph: &Graph, dates: &epoch::Dates, key: &str) -> Result<Made> {
        let (home, request) = (self.home, self.request);
        let layers = self.layers(std::slice::from_ref(lowered), graph, dates, None).await?;
        let epoch = image_epoch(dates, lowered);
        let options = build::ExportOptions {
            epoch,
            annotations: request.annotations_of(&platform_of(&lowered.config)),
            latest: false,
            docker: request.packing.docker,
        };
        let exported = build::export(&home.registry, names::UNTAGGED, &[], lowered, &layers, &options).await;
        let exported = exported.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        let config = describe::config_of(&home.registry, names::UNTAGGED, &exported.digest).await?;
        let value = serde_json::to_vec(&(names::UNTAGGED, &exported.digest, &config));
        let value = value.map_err(|e| Fault::from_error(Class::Internal, &e))?.into();
        let change = Change { kind: BUILT.into(), key: key.to_owned(), expect: Expect::Any, value, delete: false };
        let ids: Vec<String> = (0..graph.len()).map(|vertex| graph.id(vertex).to_string()).collect();
        let ids = serde_json::to_vec(&ids).map_err(|e| Fault::from_error(Class::Internal, &e))?.into();
        let key = exported.digest.to_string();
        let uses = Change { kind: USES.into(), key, expect: Expect::Any, value: ids, delete: false };
        home.records.log().append(vec![change, uses]).await?;
        Ok((names::UNTAGGED.to_owned(), exported.digest, config))
    }

    /// What decides about the whole image.
    fn key(&self, lowered: &Lowered, graph: &Graph, dates: &epoch::Dates) -> String {
        let steps: Vec<(&str, Option<String>)> = lowered
            .steps
            .iter()
            .map(|step| (step.created_by.as_str(), step.layer.map(|layer| graph.id(layer.vertex).to_string())))
            .collect();
        let base = lowered.base.as_ref().map(|base| (&base.repository, &base.digest));
        let compression = format!("{:?}", self.request.packing);
        let all = serde_json::json!([
            1,
            steps,
            graph.id(lowered.result).to_string(),
            lowered.config,
            base,
            dates.identity(),
            compression,
            self.request.annotations_of(&platform_of(&lowered.config)),
        ]);
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, all.to_string().as_bytes());
        HEXLOWER.encode(sum.as_ref())
    }

    /// An image that an earlier build made of the very same.
    async fn known(&self, key: &str) -> Result<Option<Made>> {
        let Some(entry) = self.home.records.log().get(BUILT, key).await? else { return Ok(None) };
        let Ok(known) = serde_json::from_slice::<Made>(&entry.value) else { return Ok(None) };
        let whole = describe::is_whole(&self.home.registry, &known.0, &known.1).await;
        Ok(whole.then_some(known))
    }

    async fn tag(&self, from: &str, digest: &Digest, into: &str, tag: &str) -> Result<()> {
        describe::tag(&self.home.registry, from, digest, into, tag).await
    }
}

fn read_bounded(from: impl std::io::Read, name: &str) -> Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let most = build::dockerfile::MAX_SIZE as u64;
    from.take(most + 1).read_to_end(&mut bytes).map_err(|e| Fault::usage(format!("cannot read {name}: {e}")))?;
    if bytes.len() as u64 > most {
        return Err(Fault::new(Class::TooLarge, format!("{name} has more than {most} bytes: it is no Dockerfile")));
    }
    String::from_utf8(bytes).map_err(|_| Fault::usage(format!("{name} is not UTF-8 text")))
}
