//! All rooms of a running server, opened on one data directory.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{body::Body, extract::Request, response::Response};
use evidence::{LayerCache, SigningKey};
use image::Registry;
use node::{Objects, node::Node, services::Router};
use prometheus_client::registry::Registry as Metrics;
use records::{Commit, Digest, Project, RunId};
use release::Releases;
use rollout::Rollouts;
use source::{Repositories, Sources};
use store::{Blobs, Records};

use super::{
    admission::ByEvidence,
    cluster::KubeCluster,
    evidence::Osv,
    images::PodImages,
    observe::{Counters, Observations},
    run::Working,
    workshop::{Ground, Workshop},
};
use crate::{
    clock::Clock,
    config::Config,
    fault::{Class, Fault, Result},
    trace::Link,
    ui::PodRow,
};

/// Everything that does something.
pub struct Rooms {
    address: SocketAddr,
    pub repositories: Repositories,
    pub sources: Sources,
    pub shop: Workshop,
    pub registry: Registry,
    pub working: Working,
    pub maker: evidence::Maker,
    pub osv: Osv,
    pub releases: Releases,
    pub rollouts: Rollouts,
    pub counters: Arc<Counters>,
    pub observations: Observations,
    pub rendered: super::manifests::Kept,
    objects: Objects,
    router: Router,
    /// Taken when the server ends.
    node: Mutex<Option<Node>>,
}

/// How long a start that failed may take to undo what it has begun.
const UNDO: Duration = Duration::from_secs(5);

impl Rooms {
    pub async fn open(
        config: &Config,
        address: SocketAddr,
        records: Records,
        blobs: Arc<dyn Blobs>,
        clock: Clock,
    ) -> Result<Self> {
        let data = &config.data;
        let unavailable = |e: &(dyn std::error::Error + 'static)| Fault::from_error(Class::Unavailable, e);
        let limits = source::Limits { pack_bytes: config.max_push_mib << 20, ..source::Limits::default() };
        let repositories = Repositories::open(data.join("git"), limits).map_err(|e| unavailable(&e))?;
        let sources = Sources::new(repositories.clone(), records.clone());
        let key = SigningKey::load_or_create(&data.join("keys/signing.pem")).map_err(|e| unavailable(&e))?;
        let osv = config.osv();
        std::fs::create_dir_all(&osv)
            .map_err(|e| Fault::new(Class::Unavailable, format!("cannot make {}: {e}", osv.display())))?;
        let osv = Osv::new(osv);
        let packages = config.package_cache();
        // From here on there is something on this machine that has to be taken away again.
        let shop = Workshop::open(Ground {
            data,
            packages: &packages,
            mirror: &config.mirror,
            hosts: vec![address.to_string(), format!("localhost:{}", address.port())],
            repositories: repositories.clone(),
            records: records.clone(),
            blobs: blobs.clone(),
            clock: clock.clone(),
        });
        let shop = shop.await?;
        let registry = shop.registry.clone();
        let maker = evidence::Maker::new(registry.clone(), LayerCache::new(Some(data.join("sbom"))), Arc::new(key));
        let working = Working::new(config.parallel_runs);
        let pod_images = PodImages { images: shop.images.clone(), bases: shop.bases.clone() };
        let admission = Arc::new(ByEvidence { records: records.clone() });
        let node =
            super::node::start(config, records.log().clone(), &shop.sandbox, pod_images, admission, clock.clone());
        let node = match node.await {
            Ok(node) => node,
            Err(fault) => {
                shop.close(UNDO).await;
                return Err(fault);
            }
        };
        let releases = Releases::new(records.clone(), blobs.clone(), address.to_string());
        let cluster = Arc::new(KubeCluster::new(data.join("kubeconfig")));
        let rollouts = Rollouts::new(records.clone(), blobs.clone(), cluster);
        let counters = Arc::new(Counters::default());
        let observations = Observations::new(records, blobs, counters.clone());
        Ok(Self {
            address,
            repositories,
            sources,
            shop,
            registry,
            working,
            maker,
            osv,
            releases,
            rollouts,
            counters,
            observations,
            rendered: Default::default(),
            objects: node.objects().clone(),
            router: node.router().clone(),
            node: Mutex::new(Some(node)),
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the repository of a project; finding one that a crash left without its record is fine.
    pub async fn create_repository(&self, project: &Project) -> Result<()> {
        match self.repositories.create(&project.name, &project.default_branch).await {
            Ok(()) | Err(source::Error::Exists(_)) => Ok(()),
            Err(error) => Err(Fault::from_error(Class::Unavailable, &error)),
        }
    }

    pub fn cancel_run(&self, id: &RunId) {
        self.working.cancel(id, "a person asked for it");
    }

    pub async fn has_image(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let info = self.registry.manifest_info(repository, digest).await;
        Ok(info.map_err(|e| Fault::from_error(Class::Unavailable, &e))?.is_some())
    }

    /// Every piece of evidence of an image, read from the registry and verified.
    pub async fn verify_evidence(&self, repository: &str, digest: &Digest) -> Result<Vec<Link>> {
        if !self.has_image(repository, digest).await? {
            return Ok(Vec::new());
        }
        let keys = [self.maker.key().public().clone()];
        let verified = evidence::verify(&self.registry, repository, digest, &keys).await;
        let verified = verified.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        let missing = evidence::verify::missing(&verified).into_iter().map(|kind| Link {
            kind: kind.title().into(),
            name: "–".into(),
            detail: format!("there is no {} of {digest} that holds", kind.title()),
            held: false,
        });
        let found = verified.iter().map(|piece| Link {
            kind: piece.kind.title().into(),
            name: piece.referrer.to_string(),
            detail: format!("{} (verified: {})", piece.detail, piece.checked),
            held: piece.held,
        });
        Ok(found.chain(missing).collect())
    }

    /// Whether the commit is in the repository and says of itself what its record says.
    pub async fn has_commit(&self, commit: &Commit) -> Result<bool> {
        match self.repositories.commit_info(&commit.project, &commit.id).await {
            Ok(info) => Ok(info.author == commit.author && info.subject == commit.subject),
            Err(source::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(Fault::from_error(Class::Unavailable, &error)),
        }
    }

    /// Repository and digest of what each container of a pod runs.
    pub async fn pod_images(&self, namespace: &str, name: &str) -> Result<Vec<(String, String, Digest)>> {
        super::node::pod_images(&self.objects, namespace, name)
    }

    pub async fn pods(&self, namespace: &str) -> Result<Vec<PodRow>> {
        Ok(super::node::pods(&self.objects, namespace))
    }

    /// Answers a request for a service of the node.
    pub async fn forward(&self, host: &str, request: Request<Body>) -> Response {
        self.router.forward(host, request).await
    }

    pub fn measure(&self, _metrics: &mut Metrics) {}

    /// Ends what the rooms have started on this machine.
    pub async fn close(&self, deadline: Duration) {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(node) = node {
            node.shutdown(false).await;
        }
        self.shop.close(deadline).await;
    }
}
