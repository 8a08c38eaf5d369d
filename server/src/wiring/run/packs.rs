//! The images of a run that buildpacks make: the same engine as `shipway build`, on the files of the commit and this server's registry.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use build::{ContextTree, Fetched, Ignore, Remote, ResolvedBase};
use buildpack::project::Project;
use futures::FutureExt;
use graph::{Network, SelectedKind};
use pipeline::{BuildpackPart, ImageBuild};
use records::{Image, ImageLayer};
use tokio::sync::OnceCell;

use super::{
    board::Board,
    carry::Attempt,
    images::{self, inside},
};
use crate::{
    fault::{Class, Fault, Result},
    wiring::{
        Happening, Packing, Packs, Progress,
        builder::{
            packs::{
                Bindings, Engine, Tree, Wish, default_builder, documents,
                sources::{About, Found, Sources},
            },
            remotes::{self, Fetcher},
        },
        workshop::Workshop,
    },
};

/// Where `project.toml` is looked for.
const PROJECT: &str = "project.toml";

/// An image that buildpacks are to make.
pub struct Packed<'a> {
    pub image: &'a ImageBuild,
    packs: Packs,
}

/// What buildpacks are to make of it, unless a Dockerfile does.
pub async fn wanted<'a>(attempt: &Attempt<'_>, image: &'a ImageBuild) -> Result<Option<Packed<'a>>> {
    if image.buildpacks.is_none() {
        let by_file = image.dockerfile.is_some() || !image.args.is_empty() || image.target.is_some();
        if by_file || images::dockerfile(attempt, image).await?.is_some() {
            return Ok(None);
        }
    }
    let said = image.buildpacks.clone().unwrap_or_default();
    let packs = Packs {
        automatic: true,
        buildpacks: said.buildpacks,
        builder: said.builder,
        default_builder: default_builder(),
        run_image: said.run_image,
        env: said.env,
        descriptor: said.descriptor.map(PathBuf::from),
        process: said.process,
        previous: None,
        exec_env: None,
        volumes: Vec::new(),
    };
    let packed = Packed { image, packs };
    // What is not there is said before anything runs.
    let sources = Hosted::new(attempt, &packed);
    let builder = match &packed.packs.builder {
        Some(builder) => Some(builder.clone()),
        None => match sources.project().await? {
            Some((_, Project { builder: Some(builder), .. })) => Some(builder),
            _ => packed.packs.default_builder.clone(),
        },
    };
    match &builder {
        Some(name) => {
            if sources.find(Path::new(""), name).await? == Found::Nothing {
                sources.image(name).await.map_err(|fault| sources.at(About::Builder, fault))?;
            }
        }
        None => {
            let place = inside(image, "");
            let message = match image.buildpacks.is_some() {
                true => "nothing says which builder the buildpacks run on".to_owned(),
                false => format!(
                    "{} has no {}, and nothing says which builder would make an image of it",
                    attempt.tree.name(),
                    inside(image, "Dockerfile")
                ),
            };
            let place = if place.is_empty() { PROJECT.to_owned() } else { format!("{place}{PROJECT}") };
            let hint = format!("write `builder: IMAGE` here, or `builder` in {place}; or add a Dockerfile");
            let wrong = attempt.parsed.buildpacks_wrong(image, BuildpackPart::Name, &message, Some(hint));
            return Err(Fault::usage(wrong.to_string()));
        }
    }
    if let Some(name) = &packed.packs.run_image {
        sources.image(name).await.map_err(|fault| sources.at(About::RunImage, fault))?;
    }
    Ok(Some(packed))
}

/// Builds, pushes the image and writes its record; building the same again changes nothing.
pub async fn export(attempt: &Attempt<'_>, packed: &Packed<'_>) -> Result<Image> {
    let (board, name) = (attempt.board, &packed.image.name);
    board.begin(name);
    let made = tokio::select! {
        biased;
        () = attempt.cancel.cancelled() => {
            Err(Fault::new(Class::Failed, format!("cancelled: {}", attempt.cancel.reason())))
        }
        made = make(attempt, packed).boxed() => made,
    };
    match made {
        Ok((image, cached)) => images::pushed(attempt, image, cached).await,
        Err(fault) => {
            board.note(name, &fault.to_string());
            board.fail(name, &fault.message, None);
            Err(fault)
        }
    }
}

async fn make(attempt: &Attempt<'_>, packed: &Packed<'_>) -> Result<(Image, bool)> {
    let Attempt { shop, id, commit, tree, .. } = *attempt;
    let image = packed.image;
    let revision = tree.changed(&image.context).await?;
    let (revision, at) = revision.unwrap_or_else(|| (commit.id.clone(), commit.committed_at));
    let annotations = images::annotations(attempt, &revision, at);
    let (labels, packing, secrets) = (BTreeMap::new(), Packing::default(), Bindings::default());
    let engine = Engine {
        shop,
        wish: Wish {
            packs: &packed.packs,
            tags: &[],
            labels: &labels,
            annotations: &annotations,
            packing: &packing,
            secrets: &secrets,
            network: Network::default(),
            fresh: false,
            epoch: Some(at.as_second()),
            identity: format!("{revision} {at} {}", id.project),
            cache: format!("project {} {}", id.project, image.name),
            into: image.name.clone(),
        },
        sources: &Hosted::new(attempt, packed),
        progress: Arc::new(OnBoard { board: attempt.board.clone(), image: image.name.clone() }),
        cancel: attempt.cancel.clone(),
    };
    let done = engine.build().boxed().await?;
    let (repository, digest, _) = done.made;
    let tag = image.tag.render(&commit.id, id);
    crate::wiring::tag(&shop.registry, &repository, &digest, &image.name, &tag).await?;
    let layers = layers(shop, &image.name, &digest).await?;
    let image = Image {
        run: id.clone(),
        commit: commit.id.clone(),
        repository: image.name.clone(),
        tag,
        digest,
        size: layers.iter().map(|layer| layer.size).sum(),
        layers,
        bases: done.bases,
        built_at: shop.now(),
    };
    Ok((image, done.known.is_some()))
}

/// The layers of an image with what made each.
async fn layers(shop: &Workshop, repository: &str, digest: &records::Digest) -> Result<Vec<ImageLayer>> {
    let documents = documents(shop.shelf(), repository, digest).await?;
    let history = documents.config["history"].as_array().cloned().unwrap_or_default();
    let made = history.iter().filter(|one| one["empty_layer"] != true);
    let mut made = made.map(|one| one["created_by"].as_str().unwrap_or_default().to_owned());
    let layers = documents.layers.into_iter();
    Ok(layers
        .map(|layer| ImageLayer { digest: layer.digest, size: layer.size, created_by: made.next().unwrap_or_default() })
        .collect())
}

/// The files of a commit, and images of the server's registry.
struct Hosted<'a> {
    attempt: &'a Attempt<'a>,
    packed: &'a Packed<'a>,
    files: OnceCell<ContextTree>,
}

impl<'a> Hosted<'a> {
    fn new(attempt: &'a Attempt<'a>, packed: &'a Packed<'a>) -> Self {
        Self { attempt, packed, files: OnceCell::new() }
    }

    /// All files of the commit.
    async fn files(&self) -> Result<&ContextTree> {
        self.files.get_or_try_init(|| self.attempt.tree.context("", Ignore::default())).await
    }
}

/// A path inside of the repository, `None` for one that leads out of it.
fn within(here: &Path, name: &str) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in here.join(name).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?.to_owned()),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[async_trait]
impl Sources for Hosted<'_> {
    fn name(&self) -> String {
        self.attempt.tree.name()
    }

    /// The top of the repository.
    fn here(&self) -> Result<PathBuf> {
        Ok(PathBuf::new())
    }

    async fn image(&self, name: &str) -> Result<ResolvedBase> {
        images::base(self.attempt, self.packed.image, name).await
    }

    async fn context(&self) -> Result<ContextTree> {
        self.attempt.tree.context(&self.packed.image.context, Ignore::default()).await
    }

    async fn project(&self) -> Result<Option<(PathBuf, Project)>> {
        let named = self.packed.packs.descriptor.as_deref();
        let path = inside(self.packed.image, &named.map_or(PROJECT.to_owned(), text_of));
        match (self.attempt.tree.text(&path).await?, named) {
            (Some(text), _) => {
                let project = Project::parse(&path, &text).map_err(|e| Fault::usage(e.to_string()))?;
                Ok(Some((PathBuf::from(path), project)))
            }
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Fault::usage(format!(
                "image {}: {} has no {path}, which `descriptor` names",
                self.packed.image.name,
                self.attempt.tree.name()
            ))),
        }
    }

    async fn find(&self, here: &Path, name: &str) -> Result<Found> {
        let Some(path) = within(here, name) else { return Ok(Found::Nothing) };
        let files = self.files().await?;
        let Some(path) = files.resolve(&path) else { return Ok(Found::Nothing) };
        Ok(match files.get(&path) {
            Some(entry) if entry.kind == SelectedKind::File => Found::File(path.into()),
            _ if path.is_empty() || files.below(&path).next().is_some() => Found::Directory(path.into()),
            _ => Found::Nothing,
        })
    }

    async fn text(&self, path: &Path) -> Result<Option<String>> {
        self.attempt.tree.text(&text_of(path)).await
    }

    async fn directory(&self, path: &Path) -> Result<ContextTree> {
        self.attempt.tree.context(&text_of(path), Ignore::default()).await
    }

    async fn file(&self, shop: &Workshop, path: &Path, scratch: &Path) -> Result<PathBuf> {
        let (wanted, files) = (text_of(path), self.files().await?.clone());
        Tree::of(files, |path, _| path == wanted, true)?.write(shop, scratch).await?;
        Ok(scratch.join(path))
    }

    /// Images come from the registry.
    async fn loaded(&self, _: &Path) -> Result<Option<String>> {
        Ok(None)
    }

    async fn fetch(&self, remote: &Remote) -> Result<Fetched> {
        let shop = self.attempt.shop;
        let fetcher = Fetcher { registry: &shop.registry, checkouts: shop.checkouts.clone(), guarded: true };
        remotes::fetch(&fetcher, remote).await
    }

    fn at(&self, about: About, fault: Fault) -> Fault {
        if !matches!(fault.class, Class::Usage | Class::NotFound) || fault.message.contains("-->") {
            return fault;
        }
        let part = match about {
            About::Builder => BuildpackPart::Builder,
            About::Buildpack(index) => BuildpackPart::Buildpack(index),
            About::RunImage => BuildpackPart::RunImage,
        };
        let wrong = self.attempt.parsed.buildpacks_wrong(self.packed.image, part, &fault.message, fault.hint.clone());
        Fault::usage(wrong.to_string())
    }
}

/// Shows a build as a part of a run.
struct OnBoard {
    board: Arc<Board>,
    image: String,
}

impl Progress for OnBoard {
    fn happened(&self, happening: &Happening) {
        let say = |text: &str| self.board.note(&self.image, text);
        match happening {
            Happening::Started { name, .. } => say(name),
            Happening::Output { stream, text, .. } => self.board.log(&self.image, *stream, text),
            Happening::AllCached { names } => names.iter().for_each(|name| say(&format!("{name} (cached)"))),
            // The error is said when the part fails.
            Happening::Finished { .. } | Happening::Failed { .. } | Happening::Stopped { .. } => {}
        }
    }

    fn note(&self, text: &str) {
        self.board.note(&self.image, text);
    }

    fn warning(&self, warning: &build::Warning) {
        self.board.note(&self.image, &warning.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_of_the_repository() {
        for (here, name, path) in [
            ("", "./packs/a", Some("packs/a")),
            ("app", "../packs/a/", Some("packs/a")),
            ("app", ".", Some("app")),
            ("", "..", None),
            ("app", "../../x", None),
            ("app", "/etc", None),
        ] {
            assert_eq!(within(Path::new(here), name).as_deref(), path, "{here} {name}");
        }
    }
}
