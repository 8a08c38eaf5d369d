//! Where pipelines are worked: images, containers and the step graph of one data directory. A server has one, and so has a local run.

use std::{path::Path, sync::Arc, time::Duration};

use graph::{Limits, Scheduler};
use image::Registry;
use sandbox::{NetworkConfig, Sandbox};
use source::Repositories;
use store::{Blobs, Records};

use super::{
    bases::Bases,
    builder::cache::Imports,
    executor::{Caches, Machine},
    images::Images,
};
use crate::{
    clock::Clock,
    fault::{Class, Fault, Result},
};

/// Everything that a pipeline is carried with. Cheap to clone.
#[derive(Clone)]
pub struct Workshop {
    pub records: Records,
    pub blobs: Arc<dyn Blobs>,
    pub clock: Clock,
    pub registry: Registry,
    pub sandbox: Sandbox,
    pub images: Images,
    pub bases: Arc<Bases>,
    pub scheduler: Scheduler,
    /// Directories that stay from one run to the next.
    pub caches: Caches,
    /// Where everything of it lies.
    pub data: std::path::PathBuf,
    pub repositories: Repositories,
    /// Where trees of git repositories are checked out that `ADD` names.
    pub checkouts: std::path::PathBuf,
    /// Results of other machines that vertices may be taken from.
    pub imports: Imports,
}

/// What a workshop is opened with.
pub struct Ground<'a> {
    pub data: &'a Path,
    /// Where downloaded Debian packages are kept.
    pub packages: &'a Path,
    /// The Debian mirror.
    pub mirror: &'a str,
    /// Names by which the registry is known, for example `127.0.0.1:8080`.
    pub hosts: Vec<String>,
    pub repositories: Repositories,
    pub records: Records,
    pub blobs: Arc<dyn Blobs>,
    pub clock: Clock,
}

/// Vertices that are worked on at the same time, for each processor.
const VERTICES_PER_CPU: usize = 2;

impl Workshop {
    pub async fn open(ground: Ground<'_>) -> Result<Self> {
        let Ground { data, packages, mirror, hosts, repositories, records, blobs, clock } = ground;
        let unavailable = |e: &(dyn std::error::Error + 'static)| Fault::from_error(Class::Unavailable, e);
        let registry = Registry::new(blobs.clone(), records.log().clone(), data.join("uploads"), clock.clone());
        // What builds left that were killed. Nobody else works in this directory.
        let left = data.join(super::builder::packs::SCRATCH);
        match std::fs::remove_dir_all(&left) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Fault::new(Class::Unavailable, format!("cannot remove {}: {e}", left.display())));
            }
            _ => {}
        }
        let archive = build::base::ArchiveOptions::debian(packages).map_err(|e| unavailable(&e))?;
        let archive = build::base::Archive::open(archive.with_mirror(mirror, None)).map_err(|e| unavailable(&e))?;
        // The last that may fail: it leaves nothing when it does, and what it has made is there for `close`.
        let sandbox = Sandbox::open(sandbox::Config {
            root: super::sandbox_root(data),
            helper: vec!["/proc/self/exe".into(), "sandbox-helper".into()],
            instance: super::INSTANCE.into(),
            // An ordinary user makes no bridges: containers use the host's network.
            network: NetworkConfig {
                enabled: !sandbox::rootless::in_user_namespace() && !sandbox::chrooted(),
                ..NetworkConfig::default()
            },
        });
        let sandbox = sandbox.await.map_err(|e| unavailable(&e))?;
        let images = Images::new(registry.clone(), sandbox.snapshots().clone());
        let bases = Arc::new(Bases::new(archive, registry.clone(), clock.clone(), hosts));
        let (caches, imports) = (Caches::new(data.join("caches")), Imports::default());
        let machine = Arc::new(Machine {
            sandbox: sandbox.clone(),
            images: images.clone(),
            repositories: repositories.clone(),
            blobs: blobs.clone(),
            log: records.log().clone(),
            caches: caches.clone(),
            imports: imports.clone(),
        });
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        let limits = Limits { parallelism: cpus * VERTICES_PER_CPU, ..Limits::default() };
        let scheduler = Scheduler::new(machine.clone(), machine, limits);
        Ok(Self {
            records,
            blobs,
            clock,
            registry,
            sandbox,
            images,
            bases,
            scheduler,
            caches,
            data: data.to_owned(),
            repositories,
            checkouts: data.join("checkouts"),
            imports,
        })
    }

    pub fn now(&self) -> records::Timestamp {
        (self.clock)()
    }

    /// Ends what it has started on this machine.
    pub async fn close(&self, deadline: Duration) {
        if tokio::time::timeout(deadline, self.scheduler.close()).await.is_err() {
            tracing::warn!("vertices did not end in time");
        }
        if let Err(error) = self.sandbox.shutdown().await {
            tracing::error!(%error, "something is left on this machine; the next start removes it");
        }
    }
}
