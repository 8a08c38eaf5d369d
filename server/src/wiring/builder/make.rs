//! From what is to be done to an image: vertices run, layers, a manifest, its names, and all places that it goes to.

use std::sync::Arc;

use build::Lowered;
use data_encoding::HEXLOWER;
use futures::{FutureExt, StreamExt, TryStreamExt, future::Either};
use graph::{Graph, Network};
use records::{Digest, Timestamp};
use store::{Change, Expect};

use super::{
    Built, Happening, Made, Target, Work, attest, cache, describe, epoch,
    names::{self, repository},
    output, platform_of, recompress, watch,
};
use crate::{
    fault::{Class, Fault, Result},
    wiring::{layers, local},
};

/// Layers that are written at the same time.
const LAYERS: usize = 4;

/// The kind under which whole builds are remembered.
pub(super) const BUILT: &str = "build/image";

/// The kind under which the vertices of an image's build are kept, by its digest: what `prune` leaves.
pub(super) const USES: &str = "build/uses";

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

impl Work<'_> {
    pub(super) async fn make(
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
        if !image && request.cache_to.iter().any(|to| to.place.is_none()) {
            let fault = Fault::usage("--cache-to type=inline goes with an image, and only files are written");
            return Err(fault.hint("name the image with -t, or use type=registry or type=local"));
        }
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
        self.write_caches(&graph, &lowered, built).await?;
        self.write_outputs(&graph, targets, &lowered, built).await
    }

    /// Gives the image its names.
    pub(super) async fn give_names(&self, built: &mut Built) -> Result<()> {
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

    async fn write_caches(&mut self, graph: &Graph, lowered: &[Lowered], built: &Built) -> Result<()> {
        let request = self.request;
        for to in &request.cache_to {
            let cancel = self.cancel.clone();
            let place = to.place.as_ref().map_or_else(|| "of the image".to_owned(), ToString::to_string);
            self.progress.note(&format!("writing cache {place}"));
            let _span = tracing::info_span!("export cache", place);
            let (home, shop) = (self.home, self.shop().await?.clone());
            let wanted = wanted(lowered);
            let image = built.digest.as_ref().map(|digest| (built.repository.as_str(), digest));
            let count = Self::unless_cancelled(&cancel, cache::export(home, &shop, graph, &wanted, to, image)).await?;
            self.progress.note(&format!("cache {place} has {count} results"));
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
        let cancel = self.cancel.clone();
        let repacked = recompress::base(home.shelf(), lowered, &request.packing);
        let repacked = Self::unless_cancelled(&cancel, repacked).await?;
        let lowered = repacked.as_ref().unwrap_or(lowered);
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
