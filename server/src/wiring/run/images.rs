//! The images of a run: from Dockerfiles at the commit to manifests in the registry.

use std::collections::HashMap;

use build::{Lowered, Plan, ResolvedBase, export::LayerInfo};
use futures::FutureExt;
use graph::Graph;
use image::layer::{Compression, WriteOptions};
use pipeline::ImageBuild;
use records::{CommitId, Digest, Image, Record, Timestamp};
use store::{Change, Expect};

use super::carry::Attempt;
use crate::{
    fault::{Class, Fault, Result},
    wiring::workshop::Workshop,
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

/// Reads the Dockerfile and the context of an image and adds its vertices.
pub async fn lower<'a>(
    attempt: &Attempt<'_>,
    image: &'a ImageBuild,
    graph: &mut Graph,
    after: &[usize],
) -> Result<Build<'a>> {
    let Attempt { shop, tree, commit, board, .. } = *attempt;
    let inside =
        |name: &str| if image.context.is_empty() { name.to_owned() } else { format!("{}/{name}", image.context) };
    let path = inside(&image.dockerfile);
    let text = tree.text(&path).await?;
    let text = text.ok_or_else(|| Fault::usage(format!("image {}: {} has no {path}", image.name, tree.name())))?;
    let broken = |e: build::Error| Fault::usage(e.to_string());
    let dockerfile = build::dockerfile::parse(&path, &text).map_err(|e| Fault::usage(e.to_string()))?;
    let ignore = match tree.text(&inside(".dockerignore")).await? {
        Some(text) => build::Ignore::parse(&inside(".dockerignore"), &text).map_err(broken)?,
        None => build::Ignore::default(),
    };
    let context = tree.context(&image.context, ignore).await?;
    let revision = tree.changed(&image.context).await?;
    let revision = revision.unwrap_or_else(|| (commit.id.clone(), commit.committed_at));
    let options = build::Options {
        target: image.target.clone(),
        build_args: image.args.clone(),
        source_date_epoch: Some(revision.1.as_second()),
        ..build::Options::default()
    };
    let mut bases: HashMap<String, ResolvedBase> = HashMap::new();
    for name in build::base_names(&dockerfile, &options).map_err(broken)? {
        let say = |text: &str| board.note(&image.name, text);
        let (repository, digest) = match shop.bases.resolve(&name, &say).await {
            Ok(found) => found,
            // The Dockerfile's own error shows the line.
            Err(fault) if fault.class == Class::NotFound => continue,
            Err(fault) => return Err(fault),
        };
        let found = shop.images.describe(&repository, &digest).await.map_err(Fault::usage)?;
        bases.insert(
            name.clone(),
            ResolvedBase { name, repository, digest, config: found.config, layers: found.layers },
        );
    }
    let plan = build::lower(&dockerfile, &context, &options, &bases).map_err(broken)?;
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
        Ok(image) => {
            board.note(&image.repository, &format!("pushed {}:{} as {}", image.repository, image.tag, image.digest));
            let image = record(attempt.shop, image).await?;
            board.pass(&image.repository, false);
            Ok(image)
        }
        Err(fault) => {
            board.fail(&build.image.name, &fault.message, None);
            Err(fault)
        }
    }
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
    let Attempt { shop, id: run, commit, source, .. } = attempt;
    let Build { image, plan, lowered, revision: (revision, changed_at) } = build;
    let epoch = changed_at.as_second();
    let mut layers = Vec::new();
    for (vertex, _) in &lowered.layer_vertices {
        layers.push(layer(shop, graph.id(*vertex).to_string(), epoch).boxed());
    }
    let layers = futures::future::try_join_all(layers).await?;
    let tag = image.tag.render(&commit.id, run.build);
    let annotations = [
        ("org.opencontainers.image.revision", Some(revision.to_string())),
        ("org.opencontainers.image.created", Some(changed_at.to_string())),
        ("org.opencontainers.image.source", source.clone()),
    ];
    let annotations = annotations.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let options = build::export::ExportOptions { epoch, annotations };
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

/// The layer of a vertex, in the store; `None` when the vertex changed no file. It is written once: what a vertex is made of decides
/// what it is, so the layer is remembered under the vertex's address. Its times are those of the first commit that had it: a later one
/// that changes nothing of it has the very same layer, which nobody fetches and unpacks again.
async fn layer(shop: &Workshop, vertex: String, epoch: i64) -> Result<Option<LayerInfo>> {
    if let Some(entry) = shop.records.log().get(LAYER, &vertex).await? {
        let known: Kept = serde_json::from_slice(&entry.value).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        match known.0 {
            None => return Ok(None),
            Some(layer) if shop.blobs.size(&layer.digest).await?.is_some() => return Ok(Some(layer.into())),
            Some(_) => {}
        }
    }
    let directory = shop.sandbox.snapshots().diff(&vertex).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    let options = WriteOptions { compression: Compression::Gzip, epoch: Some(epoch), ..WriteOptions::default() };
    let written = image::layer::write_blob(&shop.blobs, directory, options).await;
    let written = written.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    let layer = (written.entries > 0).then(|| LayerInfo::from(&written));
    let kept = serde_json::to_vec(&Kept(layer.as_ref().map(KeptLayer::from)));
    let value = kept.map_err(|e| Fault::from_error(Class::Internal, &e))?.into();
    let change = Change { kind: LAYER.into(), key: vertex, expect: Expect::Any, value, delete: false };
    shop.records.log().append(vec![change]).await?;
    Ok(layer)
}

/// The kind under which layers of vertices are remembered.
const LAYER: &str = "layer";

#[derive(serde::Serialize, serde::Deserialize)]
struct Kept(Option<KeptLayer>);

#[derive(serde::Serialize, serde::Deserialize)]
struct KeptLayer {
    media_type: String,
    digest: Digest,
    size: u64,
    diff_id: Digest,
}

impl From<&LayerInfo> for KeptLayer {
    fn from(layer: &LayerInfo) -> Self {
        let LayerInfo { media_type, digest, size, diff_id } = layer.clone();
        Self { media_type, digest, size, diff_id }
    }
}

impl From<KeptLayer> for LayerInfo {
    fn from(kept: KeptLayer) -> Self {
        let KeptLayer { media_type, digest, size, diff_id } = kept;
        Self { media_type, digest, size, diff_id }
    }
}
