//! The build itself, wherever it runs: on a person's machine or in a pipeline.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use buildpack::{
    Ground, Place,
    build::Built as Done,
    descriptor::{Group, Order, RunImage, choose_run},
    detect, export as plan, labels, restore,
    target::Target,
};
use futures::FutureExt;
use graph::{Cancel, Network, mask::Patterns};
use image::Reference;
use records::{Digest, Timestamp};
use sandbox::{Mount, MountKind};
use store::{Change, Expect};

use super::{
    super::{BUILT, Happening, Made, Progress, USES, describe, names, output, recompress},
    Packs,
    bindings::Bindings,
    broken,
    builder::{Bench, Builder},
    cache::Left,
    export::{self, Documents, Packer, Previous, documents},
    project::{self, Selection},
    runner::Boxes,
    source::Given,
    sources::{About, Sources},
    tree, volumes,
};
use crate::{
    fault::{Class, Fault, Result},
    wiring::{local, workshop::Workshop},
};

/// Where buildpacks see things.
const APP: &str = "/workspace";
const LAYERS: &str = "/layers";
pub const PLATFORM: &str = "/platform";
const PLANS: &str = "/cnb/plans";

/// The most bytes of a variable, and of them all.
const MOST_VARIABLES: usize = 1 << 20;

/// What is to be made.
pub struct Wish<'a> {
    pub packs: &'a Packs,
    pub tags: &'a [Reference],
    pub labels: &'a BTreeMap<String, String>,
    pub annotations: &'a BTreeMap<String, String>,
    pub packing: &'a output::Packing,
    pub secrets: &'a Bindings,
    pub network: Network,
    /// Nothing that an earlier build left is used.
    pub fresh: bool,
    /// The time of the image, in seconds since 1970.
    pub epoch: Option<i64>,
    /// What tells two builds of the same files apart.
    pub identity: String,
    /// Under which name caches are kept.
    pub cache: String,
    /// The repository that the image goes into, without a name.
    pub into: String,
}

/// What came of it.
pub struct Packed {
    pub made: Made,
    /// The buildpacks that took part; none where an earlier build had done all of it.
    pub done: usize,
    /// The buildpacks at hand, where an earlier build had done all of it.
    pub known: Option<usize>,
    /// The builder's image and the run image, as `repository@digest`.
    pub bases: Vec<String>,
    /// Builder and run image, for provenance.
    pub text: String,
}

/// Makes images by buildpacks.
pub struct Engine<'a> {
    pub shop: &'a Workshop,
    pub wish: Wish<'a>,
    pub sources: &'a dyn Sources,
    pub progress: Arc<dyn Progress>,
    pub cancel: Cancel,
}

/// Writes variables as files.
pub(super) fn write_variables(directory: &Path, all: &BTreeMap<String, String>) -> Result<()> {
    let total: usize = all.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > MOST_VARIABLES {
        return Err(Fault::usage(format!("the variables for buildpacks have more than {MOST_VARIABLES} bytes")));
    }
    for (name, value) in all {
        if name.is_empty() || name.len() > 255 || name.contains(['/', '\0', '=']) || matches!(name.as_str(), "." | "..")
        {
            return Err(Fault::usage(format!("`{name}` is no name of a variable for buildpacks")));
        }
        let path = directory.join(name);
        std::fs::write(&path, value).map_err(tree::failed("write", &path))?;
    }
    Ok(())
}

/// The run image of a build.
struct RunBase {
    repository: String,
    digest: Digest,
    documents: Documents,
    names: RunImage,
    reference: String,
}

/// All that is known before anything runs.
struct Ready {
    bench: Bench,
    builder: Builder,
    run: RunBase,
    order: Order,
    app: tree::Tree,
    env: BTreeMap<String, String>,
    project: serde_json::Value,
    exec_env: String,
    created: String,
    volumes: Vec<volumes::Ready>,
}

impl Engine<'_> {
    /// Builds, unless the same was built before.
    pub async fn build(&self) -> Result<Packed> {
        let ready = self.ready().boxed().await?;
        let key = self.key(&ready);
        let mut packed = Packed {
            made: (String::new(), ready.run.digest.clone(), ready.run.digest.clone()),
            done: 0,
            known: None,
            bases: vec![
                format!("{}@{}", ready.builder.image.repository, ready.builder.image.digest),
                format!("{}@{}", ready.run.repository, ready.run.digest),
            ],
            text: format!("builder {}\nrun image {}\n", ready.builder.name, ready.run.reference),
        };
        let fresh = self.wish.fresh || ready.volumes.iter().any(|volume| volume.identity().is_none());
        let known = if fresh { None } else { self.known(&key).await? };
        packed.made = match known {
            Some(made) => {
                packed.known = Some(ready.bench.catalog.all.len());
                let what = format!("buildpacks of {}", ready.builder.name);
                self.progress.happened(&Happening::AllCached { names: vec![what] });
                made
            }
            None => self.pack(&ready, &key, &mut packed.done).boxed().await?,
        };
        Ok(packed)
    }

    /// An image that an earlier build made of the very same.
    async fn known(&self, key: &str) -> Result<Option<Made>> {
        let Some(entry) = self.shop.records.log().get(BUILT, key).await? else { return Ok(None) };
        let Ok(known) = serde_json::from_slice::<Made>(&entry.value) else { return Ok(None) };
        let whole = describe::is_whole(&self.shop.registry, &known.0, &known.1).await;
        Ok(whole.then_some(known))
    }

    /// Brings everything that the build stands on.
    async fn ready(&self) -> Result<Ready> {
        let packs = self.wish.packs;
        let project = self.sources.project().await?;
        let about = project.as_ref().map(|(_, project)| project);
        let named = packs.builder.clone().or_else(|| about.and_then(|project| project.builder.clone()));
        let name = named.or_else(|| packs.default_builder.clone()).ok_or_else(|| self.nobody_says())?;
        let mut bench = Bench::new(&self.shop.data)?;
        let builder = self.builder(&name, &mut bench).await.map_err(|fault| self.sources.at(About::Builder, fault))?;
        let single = sandbox::rootless::single_user();
        if single && builder.owner != (0, 0) {
            let (user, group) = builder.owner;
            return Err(Fault::new(
                Class::Unavailable,
                format!("the buildpacks of {name} run as {user}:{group}, and this user has no ids but its own"),
            )
            .hint("give the user ranges in /etc/subuid and /etc/subgid, and install newuidmap and newgidmap"));
        }
        let order = self.order(project.as_ref(), &builder, &mut bench).await?;
        let run = self.run_image(&builder).await.map_err(|fault| self.sources.at(About::RunImage, fault))?;
        let selection = Selection::of(about)?;
        let scanned = self.sources.context().await?;
        let app = tree::Tree::of(scanned, |path, directory| selection.keeps(path, directory), false)?;
        let mut env: BTreeMap<String, String> =
            about.map(|project| project.env.iter().cloned().collect()).unwrap_or_default();
        env.extend(packs.env.clone());
        let volumes = self.volumes().await?;
        let bound = packs.volumes.iter().any(|volume| Path::new(&volume.target).starts_with(volumes::BINDINGS));
        if bound || !self.wish.secrets.is_empty() {
            env.entry(volumes::BINDING_ROOT.to_owned()).or_insert_with(|| volumes::BINDINGS.to_owned());
        }
        let created = self.wish.epoch.and_then(|time| Timestamp::from_second(time).ok());
        Ok(Ready {
            bench,
            builder,
            run,
            order,
            app,
            env,
            project: project::label(about),
            exec_env: packs.exec_env.clone().unwrap_or_else(|| "production".into()),
            created: created.map_or_else(|| plan::CREATED.to_owned(), |time| time.to_string()),
            volumes,
        })
    }

    /// The error when nothing says how to build.
    fn nobody_says(&self) -> Fault {
        let packs = self.wish.packs;
        let hint = "name a builder with --builder IMAGE, with `builder` in project.toml, or for all builds with \
                    SHIPWAY_BUILDER; or write a Dockerfile, or name one with -f";
        match packs.asked() {
            true => Fault::usage("nothing says which builder the buildpacks run on").hint(hint),
            false => Fault::usage(format!(
                "{} has no Dockerfile, and nothing says which builder would make an image of it",
                self.sources.name()
            ))
            .hint(hint),
        }
    }

    /// The order: what the command names, else what the project names, else the builder's.
    async fn order(
        &self,
        project: Option<&(PathBuf, buildpack::project::Project)>,
        builder: &Builder,
        bench: &mut Bench,
    ) -> Result<Order> {
        let here = self.sources.here()?;
        let mut given = Vec::new();
        for (at, text) in self.wish.packs.buildpacks.iter().enumerate() {
            let one = self.given(text, &here, bench).await;
            given.push(one.map_err(|fault| self.sources.at(About::Buildpack(at), fault))?);
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        if let Some((file, project)) = project {
            if given.is_empty() {
                for named in &project.group {
                    given.push(self.named(named, file, bench).await?);
                }
            }
            for named in &project.pre {
                before.push(self.named(named, file, bench).await?);
            }
            for named in &project.post {
                after.push(self.named(named, file, bench).await?);
            }
        }
        if given.is_empty() {
            given.push(Given::Order);
        }
        let order = groups(&builder.order, before.into_iter().chain(given).chain(after));
        match order.iter().all(|group| group.group.is_empty()) {
            true => Err(Fault::usage(format!("the builder {} has no order of buildpacks", builder.name))
                .hint("name buildpacks with --buildpack, or in project.toml")),
            false => Ok(order),
        }
    }

    /// The run image: the one that is asked for, else of those that the builder names the first that is to be had.
    async fn run_image(&self, builder: &Builder) -> Result<RunBase> {
        let near = self.wish.tags.first().and_then(|tag| names::outside(tag).host);
        let first = choose_run(&builder.runs, near.as_deref()).map(str::to_owned);
        let candidates: Vec<String> = match &self.wish.packs.run_image {
            Some(asked) => vec![asked.clone()],
            None => {
                let others = builder.runs.first().into_iter().flat_map(RunImage::names).map(str::to_owned);
                let others: Vec<String> = others.filter(|name| Some(name) != first.as_ref()).collect();
                first.into_iter().chain(others).collect()
            }
        };
        let mut failed = None;
        for name in &candidates {
            match self.sources.image(name).await {
                Ok(base) => return self.run_base(builder, name, base).await,
                Err(fault) if matches!(fault.class, Class::NotFound | Class::Unavailable) => {
                    failed
                        .get_or_insert(Fault { message: format!("the run image {name}: {}", fault.message), ..fault });
                }
                Err(fault) => {
                    return Err(Fault { message: format!("the run image {name}: {}", fault.message), ..fault });
                }
            }
        }
        Err(failed.unwrap_or_else(|| {
            Fault::usage(format!("the builder {} names no run image", builder.name))
                .hint("name the image to stand on with --run-image (`run-image` in a pipeline)")
        }))
    }

    async fn run_base(&self, builder: &Builder, name: &str, base: build::ResolvedBase) -> Result<RunBase> {
        let documents = documents(self.shop.shelf(), &base.repository, &base.digest).await?;
        // One of the builder's is known by all its names.
        let known = builder.runs.iter().find(|one| one.names().any(|known| known == name)).cloned();
        let names = known.unwrap_or_else(|| RunImage { image: name.to_owned(), mirrors: Vec::new() });
        let reference = format!("{}@{}", names::shown(&base.repository), base.digest);
        Ok(RunBase { repository: base.repository, digest: base.digest, documents, names, reference })
    }

    /// What decides about the image: the same key, the same image.
    fn key(&self, ready: &Ready) -> String {
        let wish = &self.wish;
        let order = format!("{:?}", ready.order);
        let all = serde_json::json!([
            "buildpacks 1",
            tree::sum(buildpack::LAUNCHER),
            ready.app.identity,
            ready.builder.image.digest,
            format!("{:?}", ready.builder.owner),
            ready.bench.identity,
            order,
            [ready.run.digest.to_string(), format!("{:?}", ready.run.names), ready.run.reference.clone()],
            ready.env,
            ready.exec_env,
            ready.project,
            [format!("{:?}", wish.packs.process), format!("{:?}", wish.network)],
            wish.labels,
            wish.annotations,
            wish.identity,
            format!("{:?}", wish.packing),
            wish.into,
            ready.volumes.iter().map(volumes::Ready::identity).collect::<Vec<_>>(),
            wish.secrets.names(),
        ]);
        tree::sum(all.to_string().as_bytes())
    }

    /// Runs the buildpacks and makes the image.
    async fn pack(&self, ready: &Ready, key: &str, count: &mut usize) -> Result<Made> {
        let (shop, wish) = (self.shop, &self.wish);
        let (bench, builder) = (&ready.bench, &ready.builder);
        let at = |name: &str, inside: &str| Place { host: bench.at(name), inside: inside.to_owned() };
        ready.app.write(shop, &bench.at("app")).await?;
        for name in ["layers", "platform", "platform/env", "plans", "scratch"] {
            tree::made(bench.at(name))?;
        }
        write_variables(&bench.at("platform/env"), &ready.env)?;
        for name in ["app", "layers", "plans"] {
            tree::hand_over(&bench.at(name), builder.owner)?;
        }
        let config = builder.build_config.clone();
        let ground = Ground {
            app: at("app", APP),
            layers: at("layers", LAYERS),
            platform: at("platform", PLATFORM),
            build_config: config.map(|host| Place { host, inside: "/cnb/build-config".into() }),
            plans: at("plans", PLANS),
            env: builder.env.clone(),
            target: Target::of_config(&ready.run.documents.config),
            exec_env: ready.exec_env.clone(),
            owner: Some(builder.owner),
        };
        let bind = |place: &Place, readonly| Mount {
            target: place.inside.clone(),
            kind: MountKind::Bind(place.host.clone()),
            readonly,
        };
        let mut mounts: Vec<Mount> = [(&ground.app, false), (&ground.layers, false), (&ground.plans, false)]
            .into_iter()
            .chain([(&ground.platform, true)])
            .chain(ground.build_config.iter().map(|place| (place, true)))
            .map(|(place, readonly)| bind(place, readonly))
            .collect();
        mounts.extend(bench.mounts.iter().cloned());
        mounts.extend(self.place_volumes(&ready.volumes, &bench.at("platform")).await?);
        wish.secrets.place(&bench.at("platform"))?;
        let boxes = Boxes::new(
            shop.sandbox.clone(),
            (builder.top.clone(), format!("{}:{}", builder.owner.0, builder.owner.1), mounts),
            wish.network,
            (self.cancel.clone(), self.progress.clone(), shop.clock.clone()),
            Patterns::new(wish.secrets.values()),
        );
        let left = Left::load(shop.shelf(), &wish.cache).await?;
        let previous = self.previous(&left).await?;

        let step = boxes.step("[detect] which buildpacks take the application");
        let detected = detect::detect(&ready.order, &bench.catalog, &ground, &boxes).await;
        let detected = match detected {
            Ok(detected) => detected,
            Err(error) => {
                step.end(Some("none".into()));
                return Err(undetected(error, &boxes));
            }
        };
        step.end(None);
        let chosen: Vec<String> = detected.group.iter().map(|member| member.shown()).collect();
        self.progress.note(&format!("buildpacks: {}", chosen.join(", ")));

        let lifecycle = previous.as_ref().map(|previous| &previous.lifecycle);
        let found = restore::decide(lifecycle, &left.cache, &detected.group, &ground.exec_env, wish.fresh);
        restore::write(&found, &ground).map_err(broken)?;
        left.restore(shop.shelf(), &found, &ground, &bench.at("scratch")).await?;

        let done: Done = match buildpack::build::build(&detected, &bench.catalog, &ground, &boxes).await {
            Ok(done) => done,
            Err(error) => return Err(build_failed(error, &boxes)),
        };
        done.warnings.iter().for_each(|warning| self.progress.note(&format!("warning: {warning}")));
        *count = detected.group.len();

        let step = boxes.step("[export] layers and image");
        let packer =
            Packer { shelf: shop.shelf(), packing: wish.packing, owner: builder.owner, scratch: bench.at("scratch") };
        let exported = self.export(&packer, ready, &ground, &done, previous.as_ref());
        let made = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(local::cancelled(&self.cancel)),
            made = exported => made,
        }?;
        Left::save(&packer, &ground, &done.metadata, (&wish.cache, &made.1)).await?;
        step.end(None);

        let json = |value: &serde_json::Value| bytes::Bytes::from(value.to_string());
        let change = |kind: &str, key: &str, value| Change {
            kind: kind.into(),
            key: key.to_owned(),
            expect: Expect::Any,
            value: json(&value),
            delete: false,
        };
        // The unpacked builder stays as long as what was built on it.
        let uses = change(USES, made.1.as_str(), serde_json::json!([builder.top]));
        let known = change(BUILT, key, serde_json::json!(made));
        shop.records.log().append(vec![known, uses]).await?;
        Ok(made)
    }

    async fn export(
        &self,
        packer: &Packer<'_>,
        ready: &Ready,
        ground: &Ground,
        done: &Done,
        previous: Option<&Previous>,
    ) -> Result<Made> {
        let wish = &self.wish;
        let metadata = &done.metadata;
        let planned = plan::plan(ground, metadata, previous.map(|previous| &previous.lifecycle)).map_err(broken)?;
        let layers = packer.layers(&planned, previous).await?;
        let digests: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let run = &ready.run;
        let of = plan::Run {
            reference: run.reference.clone(),
            names: run.names.clone(),
            config: run.documents.config.clone(),
        };
        let lifecycle = plan::lifecycle_label(ground, metadata, &planned, &digests, &of).map_err(broken)?;
        let finish = plan::Finish {
            metadata,
            lifecycle: &lifecycle,
            project: ready.project.clone(),
            process: wish.packs.process.as_deref(),
            ground,
            created: &ready.created,
        };
        let mut config = plan::configuration(&run.documents.config, &planned, &digests, &finish).map_err(broken)?;
        for (name, value) in wish.labels {
            config["config"]["Labels"][name.as_str()] = value.clone().into();
        }
        let mut annotations = wish.annotations.clone();
        annotations.entry("org.opencontainers.image.base.name".into()).or_insert_with(|| run.repository.clone());
        annotations.entry("org.opencontainers.image.base.digest".into()).or_insert_with(|| run.digest.to_string());
        let all: Vec<_> = run.documents.layers.iter().cloned().chain(layers).collect();
        let all = recompress::layers(self.shop.shelf(), all, wish.packing).await?;
        export::put(self.shop.shelf(), &wish.into, &config, &all, &annotations, wish.packing.docker).await
    }

    /// The image before: one that is named, one of the same name, or the last one.
    async fn previous(&self, left: &Left) -> Result<Option<Previous>> {
        if let Some(named) = &self.wish.packs.previous {
            let base = self.sources.image(named).await?;
            let found = Previous::of(self.shop.shelf(), &base.repository, &base.digest).await;
            return found.map(Some).ok_or_else(|| {
                Fault::usage(format!("{named} cannot be the image before: it has no label {}", labels::LIFECYCLE))
            });
        }
        if let Some(tag) = self.wish.tags.first() {
            let repository = names::repository(tag);
            if let Ok(digest) = self.shop.registry.resolve(&repository, tag.tag.as_deref().unwrap_or("latest")).await
                && let Some(found) = Previous::of(self.shop.shelf(), &repository, &digest).await
            {
                return Ok(Some(found));
            }
        }
        // By whatever name it still goes.
        let places = std::iter::once(self.wish.into.clone()).chain(self.wish.tags.iter().map(names::repository));
        for place in places {
            if let Some(digest) = &left.image
                && let Some(found) = Previous::of(self.shop.shelf(), &place, digest).await
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// One group of what is given; where the builder's order stands in it, a group for each of the order's.
fn groups(order: &Order, given: impl Iterator<Item = Given>) -> Order {
    let mut groups = vec![Group::default()];
    for one in given {
        match one {
            Given::One(entry) => groups.iter_mut().for_each(|group| group.group.push(entry.clone())),
            Given::Order => {
                let with = |group: &Group| {
                    let begun = group.group.clone();
                    order.iter().map(move |more| Group { group: begun.iter().chain(&more.group).cloned().collect() })
                };
                groups = groups.iter().flat_map(with).collect();
            }
        }
    }
    groups
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("\n  {line}")).collect()
}

/// No buildpack took the application: with what those said that said no.
fn undetected(error: buildpack::Error, boxes: &Boxes) -> Fault {
    let mut fault = broken(error);
    for (name, said) in boxes.said() {
        if said.code == 100 && !said.tail.trim().is_empty() {
            fault.message.push_str(&format!("\n{name} said:{}", indented(&said.tail)));
        }
    }
    match fault.class {
        Class::Failed => fault.hint("name buildpacks that take it with --buildpack, or write a Dockerfile"),
        _ => fault,
    }
}

/// A buildpack failed: with the end of what it said.
fn build_failed(error: buildpack::Error, boxes: &Boxes) -> Fault {
    let tail = match &error {
        buildpack::Error::BuildFailed { buildpack, .. } | buildpack::Error::Output { buildpack, .. } => {
            boxes.said().remove(buildpack).map(|said| said.tail).unwrap_or_default()
        }
        _ => String::new(),
    };
    let mut fault = broken(error);
    if fault.class == Class::Usage {
        // What a buildpack wrote is no fault of who runs it.
        fault.class = Class::Failed;
    }
    if !tail.trim().is_empty() {
        fault.message.push_str(&format!("\nit said:{}", indented(&tail)));
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_builder_can_be_anywhere() {
        let entry = |id: &str| buildpack::descriptor::GroupEntry { id: id.into(), ..Default::default() };
        let order = vec![Group { group: vec![entry("a"), entry("b")] }, Group { group: vec![entry("c")] }];
        let given = [Given::One(entry("x")), Given::Order, Given::One(entry("y"))];
        let shown: Vec<String> = groups(&order, given.into_iter())
            .iter()
            .map(|group| group.group.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(shown, ["x a b y", "x c y"]);
    }
}
