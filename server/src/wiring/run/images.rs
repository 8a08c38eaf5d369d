//! The images of a run: from Dockerfiles at the commit to manifests in the registry.

use std::collections::{BTreeMap, HashMap};

use build::{Lowered, Plan, ResolvedBase};
use futures::FutureExt;
use graph::Graph;
use image::layer::Compression;
use pipeline::ImageBuild;
use records::{CommitId, Image, Record, Timestamp};
use store::Expect;

use super::carry::Attempt;
use crate::{
    fault::{Class, Fault, Result},
    wiring::{
        builder::remotes::{self, Fetcher},
        layers, recipes,
        workshop::Workshop,
    },
};

/// An image whose vertices are in the graph.
pub struct Build<'a> {
    pub image: &'a ImageBuild,
    plan: Plan,
    pub lowered: Lowered,
    /// The commit that last changed what the image is built from, and its time. They date the image, so that a commit which changes
    /// nothing of it gives the very same image, and what runs it is not restarted.
    revision: (CommitId, Timestamp),
}

/// A path of the context, from the top of the repository.
pub fn inside(image: &ImageBuild, name: &str) -> String {
    if image.context.is_empty() { name.to_owned() } else { format!("{}/{name}", image.context) }
}

/// The Dockerfile that stands in the context, where none is named.
pub async fn dockerfile(attempt: &Attempt<'_>, image: &ImageBuild) -> Result<Option<String>> {
    for name in ["Dockerfile", "Containerfile"] {
        let path = inside(image, name);
        if attempt.tree.text(&path).await?.is_some() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// An image by its name: a recipe in the context, a base of Shipway's own, or what the registry has.
pub async fn base(attempt: &Attempt<'_>, image: &ImageBuild, name: &str) -> Result<ResolvedBase> {
    let Attempt { shop, tree, board, .. } = *attempt;
    let say = |text: &str| board.note(&image.name, text);
    let (repository, digest) = match recipes::is_file(name) {
        true => {
            let beside = recipes::InTree { files: tree, directory: &image.context };
            let loaded = recipes::load(&beside, name, &inside(image, "")).await?;
            let base = shop.bases.recipe(&loaded, name, &say).await?;
            (base.repository, base.digest)
        }
        false => shop.bases.resolve(name, &say).await?,
    };
    let found = shop.images.describe(&repository, &digest).await.map_err(Fault::usage)?;
    Ok(ResolvedBase { name: name.to_owned(), repository, digest, config: found.config, layers: found.layers })
}

/// What an image says of itself: the commit that last changed what it is made from, that commit's time, and where it is from.
pub fn annotations(attempt: &Attempt<'_>, revision: &CommitId, at: Timestamp) -> BTreeMap<String, String> {
    let annotations = [
        ("org.opencontainers.image.revision", Some(revision.to_string())),
        ("org.opencontainers.image.created", Some(at.to_string())),
        ("org.opencontainers.image.source", attempt.source.clone()),
    ];
    annotations.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Reads the Dockerfile and the context of an image and adds its vertices.
pub async fn lower<'a>(
    attempt: &Attempt<'_>,
    image: &'a ImageBuild,
    graph: &mut Graph,
    after: &[usize],
) -> Result<Build<'a>> {
    let Attempt { shop, tree, commit, board, .. } = *attempt;
    let path = match &image.dockerfile {
        Some(named) => inside(image, named),
        None => dockerfile(attempt, image).await?.unwrap_or_else(|| inside(image, "Dockerfile")),
    };
    let text = tree.text(&path).await?;
    let text = text.ok_or_else(|| Fault::usage(format!("image {}: {} has no {path}", image.name, tree.name())))?;
    let broken = |e: build::Error| Fault::usage(e.to_string());
    let dockerfile = build::dockerfile::parse(&path, &text).map_err(|e| Fault::usage(e.to_string()))?;
    let mut ignore = build::Ignore::default();
    for name in [format!("{path}.dockerignore"), inside(image, ".dockerignore")] {
        if let Some(text) = tree.text(&name).await? {
            ignore = build::Ignore::parse(&name, &text).map_err(broken)?;
            break;
        }
    }
    let context = tree.context(&image.context, ignore).await?;
    let revision = tree.changed(&image.context).await?;
    let revision = revision.unwrap_or_else(|| (commit.id.clone(), commit.committed_at));
    let mut options = build::Options {
        target: image.target.clone(),
        build_args: image.args.clone(),
        source_date_epoch: Some(revision.1.as_second()),
        private: format!("project/{}", attempt.id.project),
        ..build::Options::default()
    };
    let mut bases: HashMap<String, ResolvedBase> = HashMap::new();
    for build::BaseName { name, platform, place } in build::base_names(&dockerfile, &options).map_err(broken)? {
        if platform != build::Platform::host() {
            let reason = format!(
                "image {}: {path} stands on `{name}` for {platform}; a pipeline builds for {} only",
                image.name,
                build::Platform::host()
            );
            return Err(Fault::usage(reason));
        }
        let resolved = match base(attempt, image, &name).await {
            Ok(resolved) => resolved,
            // The Dockerfile's own error shows the line.
            Err(fault) if fault.class == Class::NotFound => continue,
            Err(fault) => return Err(crate::wiring::at(place, fault)),
        };
        bases.insert(name, resolved);
    }
    let fetcher = Fetcher { registry: &shop.registry, checkouts: shop.checkouts.clone(), guarded: true };
    let plan = loop {
        match build::lower_or_needs(&dockerfile, &context, &options, &bases).map_err(broken)? {
            build::Attempt::Ready(plan) => break *plan,
            build::Attempt::Needs(needs) => {
                for (remote, place) in needs {
                    board.note(&image.name, &format!("fetching {remote}"));
                    let fetched = tokio::select! {
                        biased;
                        () = attempt.cancel.cancelled() => {
                            return Err(Fault::new(Class::Failed, format!("cancelled: {}", attempt.cancel.reason())));
                        }
                        fetched = remotes::fetch(&fetcher, &remote) => {
                            fetched.map_err(|fault| crate::wiring::at(place, fault))?
                        }
                    };
                    options.remotes.insert(remote, fetched);
                }
            }
        }
    };
    if plan.warnings_fail && !plan.warnings.is_empty() {
        let first = &plan.warnings[0];
        return Err(Fault::usage(format!("image {}: {path} says check=error=true: {first}", image.name)));
    }
    for warning in &plan.warnings {
        board.note(&image.name, &warning.to_string());
    }
    for (digest, content) in &plan.inline {
        let kept = store::blobs::put(&*shop.blobs, content.clone()).await?;
        if kept != *digest {
            return Err(Fault::new(
                Class::Internal,
                format!("a heredoc of {path} has the digest {kept}, not {digest}"),
            ));
        }
    }
    let lowered = plan.add_after(graph, &image.name, after);
    Ok(Build { image, plan, lowered, revision })
}

/// Writes the layers, pushes the image and writes its record; building the same again changes nothing.
pub async fn export(attempt: &Attempt<'_>, build: &Build<'_>, graph: &Graph) -> Result<Image> {
    let board = attempt.board;
    match push(attempt, build, graph).await {
        Ok(image) => pushed(attempt, image, false).await,
        Err(fault) => {
            board.fail(&build.image.name, &fault.message, None);
            Err(fault)
        }
    }
}

/// Writes down that an image is in the registry.
pub async fn pushed(attempt: &Attempt<'_>, image: Image, cached: bool) -> Result<Image> {
    let board = attempt.board;
    board.note(&image.repository, &format!("pushed {}:{} as {}", image.repository, image.tag, image.digest));
    let image = record(attempt.shop, image).await?;
    board.pass(&image.repository, cached);
    Ok(image)
}

/// Writes an image down. What an earlier server wrote of the same image stays as it is, with the time at which it was built.
async fn record(shop: &Workshop, image: Image) -> Result<Image> {
    let known = shop.records.get::<Image>(&image.key()).await?.map(|found| found.record);
    if let Some(known) = known
        && known.digest == image.digest
    {
        return Ok(known);
    }
    shop.records.put(&image, Expect::Any).await?;
    Ok(image)
}

async fn push(attempt: &Attempt<'_>, build: &Build<'_>, graph: &Graph) -> Result<Image> {
    let Attempt { shop, id: run, commit, .. } = attempt;
    let Build { image, plan, lowered, revision: (revision, changed_at) } = build;
    let epoch = changed_at.as_second();
    let times = epochs(attempt, build).await?;
    let from = layers::Layers {
        snapshots: shop.sandbox.snapshots(),
        blobs: &shop.blobs,
        log: &**shop.records.log(),
        compression: Compression::Gzip,
        level: None,
    };
    let ids: Vec<String> = lowered.layer_vertices.iter().map(|(vertex, _)| graph.id(*vertex).to_string()).collect();
    let made = ids.iter().zip(times).map(|(vertex, epoch)| from.layer(vertex, epoch).boxed());
    let layers = futures::future::try_join_all(made).await?;
    let tag = image.tag.render(&commit.id, run);
    let annotations = annotations(attempt, revision, *changed_at);
    let options = build::export::ExportOptions { epoch, annotations, ..Default::default() };
    let exported = build::export::export(&shop.registry, &image.name, &[&tag], lowered, &layers, &options).await;
    let exported = exported.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    Ok(Image {
        run: (*run).clone(),
        commit: commit.id.clone(),
        repository: exported.repository,
        tag,
        digest: exported.digest,
        size: exported.size,
        layers: exported.layers,
        bases: plan.base_references(),
        built_at: shop.now(),
    })
}

/// The time of each layer: that of the last commit which changed something that the layer, or one below it, is made from; of one that is
/// made of its base alone the base's. So a layer is the same for every commit that changes nothing of it, on every machine.
async fn epochs(attempt: &Attempt<'_>, build: &Build<'_>) -> Result<Vec<i64>> {
    let Build { image, lowered, revision, .. } = build;
    let mut known: HashMap<&str, i64> = HashMap::new();
    let mut epochs = Vec::with_capacity(lowered.layer_paths.len());
    for paths in &lowered.layer_paths {
        let mut epoch = lowered.base.as_ref().map_or(0, |base| layers::base_epoch(&base.config));
        for path in paths {
            let time = match known.get(path.as_str()) {
                Some(time) => *time,
                None => {
                    let whole = [image.context.as_str(), path].into_iter().filter(|part| !part.is_empty());
                    let changed = attempt.tree.changed(&whole.collect::<Vec<_>>().join("/")).await?;
                    let time = changed.map_or(revision.1, |(_, at)| at).as_second();
                    known.insert(path, time);
                    time
                }
            };
            epoch = epoch.max(time);
        }
        epochs.push(epoch);
    }
    Ok(epochs)
}
