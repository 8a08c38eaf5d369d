//! `shipway build`: a Dockerfile and a context on this machine, to an image in the local store and wherever else it is to go.

pub mod attest;
mod bases;
pub mod cache;
mod catalog;
pub mod describe;
mod epoch;
mod ground;
mod home;
mod keys;
pub mod load;
mod make;
pub mod names;
pub mod output;
mod packed;
pub mod packs;
pub mod platforms;
pub mod recompress;
mod relaxed;
pub mod remotes;
mod secrets;
mod several;
mod trace;
mod watch;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use build::{Attempt, Plan, diagnostic::Diagnostic, dockerfile::Dockerfile};
use graph::{Cancel, Network};
use image::Reference;
use records::Digest;
use tokio::sync::OnceCell;

use super::{local, workshop::Workshop};
use crate::fault::{Class, Fault, Result};

use ground::{Ground, Root, read_bounded};
pub use home::{Home, Isolation, Place};
use make::{BUILT, USES};
pub use secrets::Store;
pub use several::{Among, Part, build, build_all};
pub use trace::Recorder;
pub use watch::{Happening, Progress};

/// How long containers have to end.
const END: Duration = Duration::from_secs(30);

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

/// An image in the local store: repository, digest of the manifest, digest of the configuration.
type Made = (String, Digest, Digest);

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
}
