//! What names of images stand for on this installation: base images that it assembles itself, and what its registry holds.

use std::{collections::HashMap, sync::Arc};

use build::base::{
    Archive, BaseImage, BaseLock, NAMES, OnProgress, Progress, assemble, assemble_file, assemble_locked, builtin,
    lock_packages,
};
use futures::{FutureExt, future::BoxFuture};
use image::{Reference, Registry};
use records::Digest;
use tokio::sync::Mutex;

use super::recipes::{self, Loaded};
use crate::{
    clock::Clock,
    fault::{Class, Fault, Result},
};

/// Resolves names. A base image is assembled when it is first asked for.
pub struct Bases {
    archive: Archive,
    registry: Registry,
    clock: Clock,
    /// Names by which this installation's own registry is known.
    hosts: Vec<String>,
    assembling: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Bases {
    pub fn new(archive: Archive, registry: Registry, clock: Clock, hosts: Vec<String>) -> Self {
        Self { archive, registry, clock, hosts, assembling: Mutex::default() }
    }

    /// Names that are always there, for hints.
    pub fn known(&self) -> Vec<String> {
        NAMES.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The repository and the digest that a name stands for now. `NotFound` when there is no such image.
    pub async fn resolve(&self, name: &str, say: &(dyn Fn(&str) + Sync)) -> Result<(String, Digest)> {
        let short = name.strip_prefix("base/").unwrap_or(name);
        if NAMES.contains(&short) {
            return self.base(short, say).await;
        }
        self.hosted(name).await
    }

    /// An image of the registry by tag or digest. Without either there is no telling which one is meant.
    pub async fn hosted(&self, name: &str) -> Result<(String, Digest)> {
        let missing = |why: String| Fault::not_found(format!("there is no image `{name}`: {why}"));
        let reference: Reference = name.parse().map_err(|e: image::Error| missing(e.to_string()))?;
        if let Some(host) = &reference.host
            && !self.hosts.contains(host)
        {
            return Err(missing(format!("{host} is another registry, and images come from this one"))
                .hint("copy it here first, for example with `skopeo copy`"));
        }
        let repository = reference.repository.clone();
        let digest = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.clone(),
            (None, Some(tag)) => self.registry.resolve(&repository, tag).await.map_err(|e| missing(e.to_string()))?,
            (None, None) => return Err(missing("it has neither a tag nor a digest".into())),
        };
        let known = self.registry.manifest_info(&repository, &digest).await;
        match known.map_err(|e| Fault::from_error(Class::Unavailable, &e))? {
            Some(_) => Ok((repository, digest)),
            None => Err(missing(format!("the registry has no {repository}@{digest}"))),
        }
    }

    async fn base(&self, name: &str, say: &(dyn Fn(&str) + Sync)) -> Result<(String, Digest)> {
        let definition = builtin(name).ok_or_else(|| Fault::not_found(format!("there is no base image `{name}`")))?;
        let lock = self.assembling.lock().await.entry(name.to_owned()).or_default().clone();
        let _one_at_a_time = lock.lock().await;
        let assembled =
            |progress| assemble(&definition, &self.archive, &self.registry, (self.clock)(), progress).boxed();
        let base = told(name, say, assembled).await.map_err(|e| {
            Fault::new(Class::Unavailable, format!("base image {name}: {}", crate::fault::chain(&e)))
                .hint("the mirror is set with --mirror; packages that were fetched once are used again offline")
        })?;
        Ok((base.repository, base.digest))
    }

    /// A base image of somebody's own: exactly what its lock says, or the newest where it has none. `path` is what hints call the file.
    pub async fn recipe(&self, loaded: &Loaded, path: &str, say: &(dyn Fn(&str) + Sync)) -> Result<BaseImage> {
        let Loaded { recipe, definition, lock, .. } = loaded;
        let now = (self.clock)();
        let assembled = |progress: OnProgress| match lock {
            Some(lock) => assemble_locked(definition, lock, &self.archive, &self.registry, progress).boxed(),
            None => assemble_file(definition, &self.archive, &self.registry, now, progress).boxed(),
        };
        told(recipe.name(), say, assembled).await.map_err(|e| recipes::explain(recipe, path, e))
    }

    /// The packages that a base image of somebody's own would be made of now.
    pub async fn lock(&self, loaded: &Loaded, path: &str, say: &(dyn Fn(&str) + Sync)) -> Result<BaseLock> {
        let Loaded { recipe, definition, .. } = loaded;
        let chosen = |progress: OnProgress| lock_packages(definition, &self.archive, (self.clock)(), progress).boxed();
        told(recipe.name(), say, chosen).await.map_err(|e| recipes::explain(recipe, path, e))
    }
}

/// Works, and says how far it is. Progress comes from other threads; it is handed on from this one.
async fn told<'a, T>(
    name: &str,
    say: &(dyn Fn(&str) + Sync),
    work: impl FnOnce(OnProgress) -> BoxFuture<'a, build::Result<T>>,
) -> build::Result<T> {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut work = work(Arc::new(move |progress: Progress| drop(sender.send(progress))));
    let mut teller = Teller::default();
    let mut told = |progress: &Progress| {
        if let Some(text) = teller.tell(progress) {
            say(&format!("base image {name}: {text}"));
        }
    };
    let mut silent = true;
    loop {
        tokio::select! {
            done = &mut work => {
                // What was said last may have come together with the end.
                while let Ok(progress) = receiver.try_recv() {
                    told(&progress);
                }
                return done;
            }
            Some(progress) = receiver.recv() => {
                silent = false;
                told(&progress);
            }
            () = tokio::time::sleep(SILENCE), if silent => {
                silent = false;
                say(&format!("base image {name}: reading the index of the archive"));
            }
        }
    }
}

/// Whoever waits longer than this for the first line is told for what.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Turns progress into lines, not more than people read.
#[derive(Default)]
struct Teller {
    tenths: u64,
    total: u64,
}

impl Teller {
    fn tell(&mut self, progress: &Progress) -> Option<String> {
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        match progress {
            Progress::Index { packages, date } => Some(format!("{packages} packages in the archive of {date}")),
            Progress::Resolved { packages, bytes } => {
                self.total = *bytes;
                Some(format!("{packages} packages, {:.1} MiB", mib(*bytes)))
            }
            Progress::Fetched { bytes } => {
                let tenths = bytes * 10 / self.total.max(1);
                (tenths > self.tenths).then(|| {
                    self.tenths = tenths;
                    format!("fetched {:.1} of {:.1} MiB", mib(*bytes), mib(self.total))
                })
            }
            Progress::Unpacked { packages, of } => (packages == of).then(|| format!("unpacked {of} packages")),
            Progress::Packed { bytes } => Some(format!("layer of {:.1} MiB", mib(*bytes))),
        }
    }
}
