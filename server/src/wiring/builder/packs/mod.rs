//! `shipway build --buildpack`: an application becomes an image by Cloud Native Buildpacks, on this machine and without a daemon.
//!
//! What is decided stands in the package `buildpack`; here it is done: builder and buildpacks are brought, their programs run in the
//! sandbox, layers go into the local store.

mod builder;
mod cache;
mod export;
mod project;
pub mod rebase;
mod runner;
mod source;
mod tree;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use buildpack::{
    Ground, Place,
    build::Built as Done,
    descriptor::{Group, Order, RunImage, choose_run},
    detect, export as plan, labels, restore,
    target::Target,
};
use futures::FutureExt;
use records::Digest;
use sandbox::{Mount, MountKind};
use store::{Change, Expect};

use super::{BUILT, Built, Happening, Made, Request, USES, Work, attest, epoch, names, output};
use crate::{
    fault::{Class, Fault, Result},
    wiring::workshop::Workshop,
};
use builder::{Bench, Builder};
use cache::Left;
use export::{Documents, Packer, Previous, documents};
use project::Selection;
use runner::Boxes;
use source::Given;

pub use cache::kept;

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
            || !self.env.is_empty()
    }
}

/// Where buildpacks see things.
const APP: &str = "/workspace";
const LAYERS: &str = "/layers";
const PLATFORM: &str = "/platform";
const PLANS: &str = "/cnb/plans";

/// The most bytes of a variable, and of them all.
const MOST_VARIABLES: usize = 1 << 20;

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
        ("--secret and --ssh", !request.secrets.ids().is_empty()),
        ("--cache-to", !request.cache_to.is_empty()),
        ("--cache-from", !request.cache_from.is_empty()),
        ("--add-host", !request.hosts.is_empty()),
        ("--ulimit", !request.ulimits.is_empty()),
        ("--shm-size", request.shm_size.is_some()),
        ("--check", request.check),
        ("a context on standard input", request.context == "-"),
    ];
    if let Some((what, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Fault::usage(format!("{what} is for builds by Dockerfiles, and this one is by buildpacks"))
            .hint("variables for buildpacks are given with --env, or in project.toml"));
    }
    let host = build::Platform::host();
    match request.platforms.iter().find(|platform| **platform != host) {
        Some(other) => Err(Fault::usage(format!("buildpacks run on this machine's platform, {host}, not on {other}"))),
        None => Ok(()),
    }
}

/// Writes variables as files.
fn write_variables(directory: &Path, all: &BTreeMap<String, String>) -> Result<()> {
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
}

impl Work<'_> {
    /// Builds by buildpacks.
    pub(super) async fn packs(&mut self, root: &Path) -> Result<Built> {
        refuse(self.request)?;
        let started = (self.home.clock)();
        let dates = epoch::Dates::of(root, self.request.build_args.get("SOURCE_DATE_EPOCH")).await?;
        let shop = self.shop().await?.clone();
        let ready = self.ready(&shop, root, &dates).boxed_local().await?;
        let key = self.packs_key(&ready, &dates);
        let mut built = Built::default();
        let known = match self.request.fresh {
            None => self.known(&key).await?,
            Some(_) => None,
        };
        let made = match known {
            Some(made) => {
                let names = ready.bench.catalog.all.len();
                built.cached = names;
                let what = format!("buildpacks of {}", ready.builder.name);
                self.progress.happened(&Happening::AllCached { names: vec![what] });
                made
            }
            None => self.pack(&shop, &ready, root, &key, &mut built).boxed_local().await?,
        };
        let platform = build::Platform::host();
        if self.request.attest != attest::Attest::default() {
            let text = format!("builder {}\nrun image {}\n", ready.builder.name, ready.run.reference);
            let about = attest::About {
                digest: &made.1,
                platform: &platform,
                build_type: attest::BUILDPACKS,
                epoch: dates.image.unwrap_or(plan::EPOCH),
                bases: vec![
                    format!("{}@{}", ready.builder.image.repository, ready.builder.image.digest),
                    format!("{}@{}", ready.run.repository, ready.run.digest),
                ],
                remotes: Vec::new(),
                text: &text,
                started,
                finished: (self.home.clock)(),
            };
            attest::attach(self.home, self.request, &about).await?;
        }
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

    /// Brings everything that the build stands on.
    async fn ready(&mut self, shop: &Workshop, root: &Path, dates: &epoch::Dates) -> Result<Ready> {
        let packs = &self.request.packs;
        let project = project::load(packs.descriptor.as_deref(), root)?;
        let about = project.as_ref().map(|(_, project)| project);
        let named = packs.builder.clone().or_else(|| about.and_then(|project| project.builder.clone()));
        let name = named.or_else(|| packs.default_builder.clone()).ok_or_else(|| self.nobody_says(root))?;
        let mut bench = Bench::new(&self.home.data)?;
        let builder = self.builder(shop, &name, &mut bench, root).await?;
        let single = sandbox::rootless::single_user();
        if single && builder.owner != (0, 0) {
            let (user, group) = builder.owner;
            return Err(Fault::new(
                Class::Unavailable,
                format!("the buildpacks of {name} run as {user}:{group}, and this user has no ids but its own"),
            )
            .hint("give the user ranges in /etc/subuid and /etc/subgid, and install newuidmap and newgidmap"));
        }
        let order = self.order(shop, project.as_ref(), &builder, &mut bench).await?;
        let run = self.run_image(&builder, root).await?;
        let selection = Selection::of(about)?;
        let app = self.tree(root, |path, directory| selection.keeps(path, directory), false).await?;
        let mut env: BTreeMap<String, String> =
            about.map(|project| project.env.iter().cloned().collect()).unwrap_or_default();
        env.extend(packs.env.clone());
        let created = dates.image.and_then(|time| records::Timestamp::from_second(time).ok());
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
        })
    }

    /// The error when nothing says how to build.
    fn nobody_says(&self, root: &Path) -> Fault {
        let packs = &self.request.packs;
        let hint = "name a builder with --builder IMAGE, with `builder` in project.toml, or for all builds with \
                    SHIPWAY_BUILDER; or write a Dockerfile, or name one with -f";
        match packs.asked() {
            true => Fault::usage("nothing says which builder the buildpacks run on").hint(hint),
            false => Fault::usage(format!(
                "{} has no Dockerfile, and nothing says which builder would make an image of it",
                root.display()
            ))
            .hint(hint),
        }
    }

    /// The order: what the command names, else what the project names, else the builder's.
    async fn order(
        &mut self,
        shop: &Workshop,
        project: Option<&(PathBuf, buildpack::project::Project)>,
        builder: &Builder,
        bench: &mut Bench,
    ) -> Result<Order> {
        let here = std::env::current_dir().map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        let mut given = Vec::new();
        for text in &self.request.packs.buildpacks {
            given.push(self.given(shop, text, &here, bench).await?);
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        if let Some((file, project)) = project {
            if given.is_empty() {
                for named in &project.group {
                    given.push(self.named(shop, named, file, bench).await?);
                }
            }
            for named in &project.pre {
                before.push(self.named(shop, named, file, bench).await?);
            }
            for named in &project.post {
                after.push(self.named(shop, named, file, bench).await?);
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

    async fn run_image(&mut self, builder: &Builder, root: &Path) -> Result<RunBase> {
        let near = self.request.tags.first().and_then(|tag| names::outside(tag).host);
        let asked = self.request.packs.run_image.clone();
        let name =
            asked.or_else(|| choose_run(&builder.runs, near.as_deref()).map(str::to_owned)).ok_or_else(|| {
                Fault::usage(format!("the builder {} names no run image", builder.name))
                    .hint("name the image to stand on with --run-image")
            })?;
        let base = self
            .base(&name, &build::Platform::host(), root)
            .await
            .map_err(|fault| Fault { message: format!("the run image {name}: {}", fault.message), ..fault })?;
        let documents = documents(self.home, &base.repository, &base.digest).await?;
        // One of the builder's is known by all its names.
        let known = builder.runs.iter().find(|one| one.names().any(|known| known == name)).cloned();
        let names = known.unwrap_or_else(|| RunImage { image: name.clone(), mirrors: Vec::new() });
        let reference = format!("{}@{}", names::shown(&base.repository), base.digest);
        Ok(RunBase { repository: base.repository, digest: base.digest, documents, names, reference })
    }

    /// What decides about the image: the same key, the same image.
    fn packs_key(&self, ready: &Ready, dates: &epoch::Dates) -> String {
        let request = self.request;
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
            [format!("{:?}", request.packs.process), format!("{:?}", request.network)],
            request.labels,
            request.annotations_of(&build::Platform::host()),
            dates.identity(),
            format!("{:?}", request.packing),
        ]);
        tree::sum(all.to_string().as_bytes())
    }

    /// Runs the buildpacks and makes the image.
    async fn pack(
        &mut self,
        shop: &Workshop,
        ready: &Ready,
        root: &Path,
        key: &str,
        built: &mut Built,
    ) -> Result<Made> {
        let (bench, builder) = (&ready.bench, &ready.builder);
        let at = |name: &str, inside: &str| Place { host: bench.at(name), inside: inside.to_owned() };
        ready.app.write(self.home, &bench.at("app")).await?;
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
        let boxes = Boxes::new(
            shop.sandbox.clone(),
            (builder.top.clone(), format!("{}:{}", builder.owner.0, builder.owner.1), mounts),
            self.request.network,
            (self.cancel.clone(), self.progress.clone(), self.home.clock.clone()),
        );
        let name = self.cache_name(root);
        let clear = self.request.fresh.is_some();
        let left = Left::load(self.home, &name).await?;
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
        let found = restore::decide(lifecycle, &left.cache, &detected.group, &ground.exec_env, clear);
        restore::write(&found, &ground).map_err(broken)?;
        left.restore(self.home, &found, &ground, &bench.at("scratch")).await?;

        let done: Done = match buildpack::build::build(&detected, &bench.catalog, &ground, &boxes).await {
            Ok(done) => done,
            Err(error) => return Err(build_failed(error, &boxes)),
        };
        done.warnings.iter().for_each(|warning| self.progress.note(&format!("warning: {warning}")));
        built.done = detected.group.len();

        let step = boxes.step("[export] layers and image");
        let packer = Packer {
            home: self.home,
            packing: &self.request.packing,
            owner: builder.owner,
            scratch: bench.at("scratch"),
        };
        let cancel = self.cancel.clone();
        let exported = self.export_pack(&packer, ready, &ground, &done, previous.as_ref());
        let made = Self::unless_cancelled(&cancel, exported).await?;
        Left::save(&packer, &ground, &done.metadata, (&name, &made.1)).await?;
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
        self.home.records.log().append(vec![known, uses]).await?;
        Ok(made)
    }

    async fn export_pack(
        &self,
        packer: &Packer<'_>,
        ready: &Ready,
        ground: &Ground,
        done: &Done,
        previous: Option<&Previous>,
    ) -> Result<Made> {
        let request = self.request;
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
            process: request.packs.process.as_deref(),
            ground,
            created: &ready.created,
        };
        let mut config = plan::configuration(&run.documents.config, &planned, &digests, &finish).map_err(broken)?;
        for (name, value) in &request.labels {
            config["config"]["Labels"][name.as_str()] = value.clone().into();
        }
        let mut annotations = request.annotations_of(&build::Platform::host());
        annotations.entry("org.opencontainers.image.base.name".into()).or_insert_with(|| run.repository.clone());
        annotations.entry("org.opencontainers.image.base.digest".into()).or_insert_with(|| run.digest.to_string());
        let all: Vec<_> = run.documents.layers.iter().cloned().chain(layers).collect();
        export::put(self.home, &config, &all, &annotations, request.packing.docker).await
    }

    /// Under which name caches are kept: that of the image without its tag, which is another one for each build.
    fn cache_name(&self, root: &Path) -> String {
        match self.request.tags.first().or(self.request.steady.first()) {
            Some(tag) => format!("image {}", names::repository(tag)),
            None => format!("context {}", root.display()),
        }
    }

    /// The image before: one that is named, one of the same name, or the last one.
    async fn previous(&mut self, left: &Left) -> Result<Option<Previous>> {
        if let Some(named) = self.request.packs.previous.clone() {
            let base = self.base(&named, &build::Platform::host(), Path::new("/")).await?;
            let found = Previous::of(self.home, &base.repository, &base.digest).await;
            return found.map(Some).ok_or_else(|| {
                Fault::usage(format!("{named} cannot be the image before: it has no label {}", labels::LIFECYCLE))
            });
        }
        if let Some(tag) = self.request.tags.first() {
            let repository = names::repository(tag);
            if let Ok(digest) = self.home.registry.resolve(&repository, tag.tag.as_deref().unwrap_or("latest")).await
                && let Some(found) = Previous::of(self.home, &repository, &digest).await
            {
                return Ok(Some(found));
            }
        }
        // By whatever name it still goes.
        let places = std::iter::once(names::UNTAGGED.to_owned()).chain(self.request.tags.iter().map(names::repository));
        for place in places {
            if let Some(digest) = &left.image
                && let Some(found) = Previous::of(self.home, &place, digest).await
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
